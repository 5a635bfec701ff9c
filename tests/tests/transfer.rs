//! Studies out of Optuna's databases and into them. The databases are those that several versions of Optuna made
//! (`tests/fixtures/optuna`, by `python/optuna/make_rdb_fixtures.py`), each with what that Optuna says is in it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;

use fleetune_coordinator::storage::testing::PrivatePostgres;
use fleetune_core::TrialState;
use fleetune_proto::optuna as wire;
use fleetune_proto::optuna::storage_service_client::StorageServiceClient;
use fleetune_proto::v1::ExportTrialsRequest;
use fleetune_proto::v1::transfer_service_client::TransferServiceClient;
use fleetune_rdb::{Reader, Trial};
use fleetune_tests::{Done, Place, place};
use nix::sys::signal::Signal;
use prost::Message as _;
use serde_json::{Map, Value, json};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};

const VERSIONS: [&str; 4] = ["3.0.6", "3.6.2", "4.9.0", "5.0.0"];

fn fixture(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/optuna").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn wait<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

async fn execute(url: &str, sql: &str) {
    let sql = AssertSqlSafe(sql.to_owned());
    if url.starts_with("sqlite") {
        // Rows of a dump come before those that they refer to.
        let options = SqliteConnectOptions::from_str(url).unwrap().create_if_missing(true).foreign_keys(false);
        let mut connection = options.connect().await.unwrap();
        sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    } else {
        let mut connection = sqlx::PgConnection::connect(url).await.unwrap();
        sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }
}

/// The database of Optuna `version` in `place`, changed by `sql`.
fn database(place: &Place, version: &str, sql: &str) -> PathBuf {
    let file = place.path(&format!("optuna-{version}.db"));
    drop(std::fs::remove_file(&file));
    let url = format!("sqlite://{}", file.display());
    wait(async {
        execute(&url, &fixture(&format!("optuna-{version}.sql"))).await;
        execute(&url, sql).await;
    });
    file
}

/// The statements of a fixture as Postgres has them: what Optuna makes there differs in types alone.
fn for_postgres(sql: &str) -> String {
    let types = [
        ("trialstate", "'RUNNING', 'COMPLETE', 'PRUNED', 'FAIL', 'WAITING'"),
        ("studydirection", "'NOT_SET', 'MINIMIZE', 'MAXIMIZE'"),
        ("trialvaluetype", "'FINITE', 'INF_POS', 'INF_NEG'"),
        ("trialintermediatevaluetype", "'FINITE', 'INF_POS', 'INF_NEG', 'NAN'"),
    ];
    let types = types.map(|(name, values)| format!("CREATE TYPE {name} AS ENUM ({values});\n")).concat();
    let lines = sql.lines().filter(|line| !line.contains("FOREIGN KEY")).map(|line| {
        line.replace("state VARCHAR(8)", "state trialstate")
            .replace("direction VARCHAR(8)", "direction studydirection")
            .replace("\tvalue_type VARCHAR(7)", "\tvalue_type trialvaluetype")
            .replace("intermediate_value_type VARCHAR(7)", "intermediate_value_type trialintermediatevaluetype")
            .replace(" FLOAT,", " DOUBLE PRECISION,")
            .replace(" DATETIME", " TIMESTAMP")
    });
    let body = lines.collect::<Vec<_>>().join("\n");
    // The line before a foreign key ends with a comma.
    types + &body.replace(", \n);", "\n);").replace("),\n);", ")\n);")
}

/// Runs `fleetune` in the time zone in which the fixtures were made.
fn run(place: &Place, words: &[&str]) -> Done {
    let mut command = place.command();
    command.args(words).env("TZ", "JST-9");
    place.start_command(command).wait()
}

fn import(place: &Place, source: &Path, storage: &str) -> Done {
    run(place, &["study", "import", &source.display().to_string(), "--storage", storage])
}

fn bits(value: f64) -> Value {
    // `SQLite` has one zero.
    let value = if value == 0.0 { 0.0 } else { value };
    // NaN is NULL with a word beside it, there.
    let value = if value.is_nan() { f64::NAN } else { value };
    format!("{:016x}", value.to_bits()).into()
}

/// A trial in the words of the fixtures.
fn facts(trial: &wire::Trial) -> Value {
    let names = [(0, "RUNNING"), (1, "COMPLETE"), (2, "PRUNED"), (3, "FAIL"), (4, "WAITING")];
    let param = |(name, &internal): (&String, &f64)| {
        let distribution: Value = serde_json::from_str(&trial.distributions[name]).unwrap();
        (name.clone(), json!([bits(internal), distribution]))
    };
    let params: Map<String, Value> = trial.params.iter().map(param).collect();
    let steps = trial.intermediate_values.iter().map(|(step, &value)| (step.to_string(), bits(value)));
    let values: Vec<Value> = trial.values.iter().map(|&value| bits(value)).collect();
    let time = |text: &str| (!text.is_empty()).then(|| text.replace("+00:00", "Z"));
    json!({
        "number": trial.number,
        "state": names.iter().find(|(number, _)| *number == trial.state).unwrap().1,
        "values": if values.is_empty() { Value::Null } else { values.into() },
        "params": params,
        "steps": steps.collect::<Map<_, _>>(),
        "user": trial.user_attributes,
        "system": trial.system_attributes,
        "times": [time(&trial.datetime_start), time(&trial.datetime_complete)],
    })
}

/// What should be in a copy of what a fixture says: a trial that ran has failed.
fn copied(version: &str) -> Vec<Value> {
    let mut said: Value = serde_json::from_str(&fixture(&format!("optuna-{version}.json"))).unwrap();
    let mut studies = said["studies"].as_array_mut().unwrap().clone();
    for trial in studies.iter_mut().flat_map(|study| study["trials"].as_array_mut().unwrap()) {
        if trial["state"] == "RUNNING" {
            trial["state"] = "FAIL".into();
            trial["times"][1] = trial["times"][0].clone();
            trial["system"]["fleetune:fail_reason"] = "\"it was RUNNING when it was copied\"".into();
        }
    }
    studies.sort_by_key(|study| study["name"].to_string());
    studies
}

/// Everything that the server at `url` has, in the words of the fixtures.
fn stored(url: &str) -> Vec<Value> {
    let url = url.to_owned();
    wait(async {
        let channel = tonic::transport::Channel::from_shared(url).unwrap().connect().await.unwrap();
        let mut optuna = StorageServiceClient::new(channel.clone());
        let mut transfer = TransferServiceClient::new(channel);
        let mut studies = Vec::new();
        for study in optuna.get_all_studies(wire::GetAllStudiesRequest {}).await.unwrap().into_inner().studies {
            let request = ExportTrialsRequest { study_id: study.study_id };
            let mut stream = transfer.export_trials(request).await.unwrap().into_inner();
            let mut trials = Vec::new();
            while let Some(page) = stream.message().await.unwrap() {
                trials.extend(page.trials.iter().map(|bytes| facts(&wire::Trial::decode(&**bytes).unwrap())));
            }
            let directions = study.directions.iter().map(|&number| if number == 0 { "MINIMIZE" } else { "MAXIMIZE" });
            studies.push(json!({
                "name": study.study_name,
                "directions": directions.collect::<Vec<_>>(),
                "user": study.user_attributes,
                "system": study.system_attributes,
                "trials": trials,
            }));
        }
        studies.sort_by_key(|study| study["name"].to_string());
        studies
    })
}

/// Everything in `storage`.
fn stored_in(place: &Place, storage: &str) -> Vec<Value> {
    let server = place.serve(storage);
    let studies = stored(&server.url());
    server.running.signal(Signal::SIGTERM);
    server.running.wait().ok();
    studies
}

#[test]
fn every_fact_of_every_version_is_imported() {
    let place = place!();
    for version in VERSIONS {
        let source = database(&place, version, "");
        let before = std::fs::read(&source).unwrap();
        let storage = place.sqlite(&format!("{version}.db"));
        let shown = import(&place, &source, &storage).ok().prints("two/objectives").prints("RUNNING are FAIL here");
        assert!(!shown.stdout.contains("not whole yet"), "{}", shown.stdout);
        assert_eq!(stored_in(&place, &storage), copied(version), "{version}");
        assert_eq!(std::fs::read(&source).unwrap(), before, "{version}: the source was changed");
        assert!(!place.path(&format!("optuna-{version}.db-journal")).exists());
    }
}

#[test]
fn every_fact_is_imported_from_postgres_to_a_server_on_postgres() {
    let cluster = PrivatePostgres::start();
    let source = cluster.empty_database();
    wait(execute(&source, &for_postgres(&fixture("optuna-5.0.0.sql"))));
    let (place, storage) = (place!(), cluster.empty_database());
    let server = place.serve(&storage);
    // As SQLAlchemy names it.
    let named = source.replace("postgres:", "postgresql+psycopg2:");
    run(&place, &["study", "import", &named, "--server", &server.url()]).ok();
    assert_eq!(stored(&server.url()), copied("5.0.0"));
    wait(execute(&source, "UPDATE alembic_version SET version_num = 'v9'"));
    run(&place, &["study", "import", &named, "--dry-run"]).exits(4).says("does not know");
}

/// What a file of Optuna's holds, by study.
fn read(file: &Path) -> BTreeMap<String, Vec<Trial>> {
    wait(async {
        let mut reader = Reader::open(&file.display().to_string()).await.unwrap();
        let mut all = BTreeMap::new();
        for study in reader.studies().await.unwrap() {
            let (mut trials, mut cursor) = (Vec::new(), Reader::trials(&study));
            loop {
                let page = reader.page(&mut cursor).await.unwrap();
                if page.is_empty() {
                    break;
                }
                trials.extend(page);
            }
            all.insert(study.name, trials);
        }
        all
    })
}

#[test]
fn what_is_exported_is_what_was_imported() {
    let place = place!();
    let (source, storage) = (database(&place, "5.0.0", ""), place.sqlite("a.db"));
    import(&place, &source, &storage).ok();
    let again = place.sqlite("b.db");
    for (index, name) in ["every state", "two/objectives", "empty"].into_iter().enumerate() {
        let file = place.path(&format!("out-{index}.db"));
        let to = file.display().to_string();
        run(&place, &["study", "export", name, "--to", &to, "--storage", &storage]).ok().prints("trials of study");
        run(&place, &["study", "export", name, "--to", &to, "--storage", &storage]).exits(3).says("already");
        assert!(!place.path(&format!("out-{index}.db.partial")).exists());
        let exported = read(&file).remove(name).unwrap();
        let states: Vec<_> = exported.iter().map(|trial| trial.state).collect();
        assert!(!states.contains(&TrialState::Running), "{states:?}");
        import(&place, &file, &again).ok();
    }
    assert_eq!(stored_in(&place, &again), copied("5.0.0"));
    let missing = place.path("x.db").display().to_string();
    run(&place, &["study", "export", "none", "--to", &missing, "--storage", &storage]).exits(3);
    assert!(!place.path("x.db").exists());
}

#[test]
fn a_study_is_chosen_and_named() {
    let place = place!();
    let (source, storage) = (database(&place, "4.9.0", ""), place.sqlite("a.db"));
    let source = source.display().to_string();
    let with = |words: &[&str]| run(&place, &[&["study", "import", &source, "--storage", &storage], words].concat());
    let shown = with(&["--dry-run", "--format", "json"]).ok().json();
    assert_eq!(
        (&shown[0]["study"], &shown[0]["running"], &shown[0]["fail"]),
        (&json!("every state"), &json!(1), &json!(1))
    );
    assert!(!place.path("a.db").exists(), "a look made a storage");
    with(&["--as", "one"]).exits(2).says("--study");
    with(&["--study", "none"]).exits(3).says("no study `none`");
    assert!(!place.path("a.db").exists(), "what was refused made a storage");
    with(&["--study", "empty", "--as", "one"]).ok();
    with(&["--study", "empty", "--as", "one"]).exits(3).says("a study `one` already");
    // The name is looked for before anything is written.
    with(&["--study", "every state"]).ok();
    with(&[]).exits(3).says("`every state` already").says("--as");
    let listed = run(&place, &["study", "list", "--storage", &storage, "--format", "json"]).ok().json();
    let names: Vec<_> = listed.as_array().unwrap().iter().map(|study| study["name"].clone()).collect();
    assert_eq!(names, ["one", "every state"]);
}

#[test]
fn what_cannot_be_read_leaves_nothing() {
    let place = place!();
    let storage = place.sqlite("a.db");
    run(&place, &["db", "migrate", "--storage", &storage]).ok();
    let text = place.path("text.db");
    std::fs::write(&text, "no database, but longer than the head of one; ".repeat(100)).unwrap();
    import(&place, &text, &storage).exits(4).says("no SQLite database");
    import(&place, &place.path("a.db"), &storage).exits(4).says("none of Optuna's");
    import(&place, &place.path("none.db"), &storage).exits(3).says("no file");
    import(&place, Path::new("mysql://me:secret@host/db"), &storage).exits(2).says("mysql://me:[redacted]@host/db");
    for (sql, code, why) in [
        ("UPDATE alembic_version SET version_num = 'v3.0.0.c'", 4, "optuna storage upgrade"),
        ("UPDATE alembic_version SET version_num = 'v7.0.0.a'", 4, "does not know"),
        ("DROP TABLE version_info", 4, "version_info"),
        ("UPDATE trials SET number = NULL WHERE trial_id = 3", 2, "trial 2 of study `every state`"),
        ("DELETE FROM trials WHERE trial_id = 3", 2, "its place is taken by trial 3"),
        ("UPDATE trials SET state = 'DONE' WHERE trial_id = 3", 2, "`DONE` is no state"),
        ("UPDATE trials SET datetime_start = 'noon' WHERE trial_id = 3", 2, "`noon` is no time"),
        ("DELETE FROM trial_values WHERE trial_value_id = 7", 2, "its value 0 is missing"),
        ("DELETE FROM trial_values WHERE trial_value_id = 8", 2, "1 values for 2 directions"),
        ("UPDATE trial_values SET value = NULL WHERE trial_value_id = 1", 2, "a value of the kind `FINITE`"),
        ("UPDATE trial_params SET distribution_json = NULL WHERE param_id = 1", 2, "`x` has no distribution"),
        ("UPDATE trial_params SET param_value = 9 WHERE param_id = 6", 2, "no index of one of 6 choices"),
        (
            "UPDATE trial_params SET distribution_json = '{\"name\": \"Odd\", \"attributes\": {}}' WHERE param_id = 1",
            2,
            "Odd",
        ),
        ("UPDATE trial_user_attributes SET value_json = '{' WHERE trial_user_attribute_id = 1", 2, "attribute `why`"),
        ("UPDATE trial_system_attributes SET value_json = NULL", 2, "`fail_reason` has no value"),
        ("UPDATE trial_intermediate_values SET step = -1 WHERE step = 0", 2, "step"),
        ("DELETE FROM study_directions WHERE study_id = 3", 2, "study `empty`"),
        ("UPDATE study_directions SET direction = 'NOT_SET'", 2, "`NOT_SET`"),
    ] {
        let source = database(&place, "5.0.0", sql);
        import(&place, &source, &storage).exits(code).says(why);
        assert_eq!(stored_in(&place, &storage), Vec::<Value>::new(), "{sql}");
    }
}

#[test]
fn a_trial_that_no_call_carries_is_refused_unread() {
    let place = place!();
    let huge = "UPDATE trial_user_attributes SET value_json = '\"' || hex(zeroblob(63 * 1024 * 1024)) || '\"'";
    let (source, storage) = (database(&place, "5.0.0", huge), place.sqlite("a.db"));
    import(&place, &source, &storage).exits(2).says("trial 5 of study `every state` has 126 MiB");
}

#[test]
fn a_locked_source_is_said_to_be_locked() {
    let place = place!();
    let source = database(&place, "5.0.0", "");
    let url = format!("sqlite://{}", source.display());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mut writer = runtime.block_on(sqlx::SqliteConnection::connect(&url)).unwrap();
    runtime.block_on(sqlx::raw_sql("BEGIN EXCLUSIVE").execute(&mut writer)).unwrap();
    import(&place, &source, &place.sqlite("a.db")).exits(4).says("locked").says("a copy of the file");
    assert!(!place.path("a.db").exists());
}

#[test]
fn a_stopped_import_leaves_nothing() {
    let place = place!();
    // Enough for a signal to come in the middle.
    let many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200000) \
                INSERT INTO trials (number, study_id, state) SELECT i - 1, 3, 'WAITING' FROM n";
    let (source, storage) = (database(&place, "5.0.0", many), place.sqlite("a.db"));
    let server = place.serve(&storage);
    let url = server.url();
    let importing = place.start(&["study", "import", &source.display().to_string(), "--server", &url]);
    let listed = || run(&place, &["study", "list", "--server", &url, "--format", "json"]).ok().json();
    fleetune_tests::until("trials of the last study are there", || {
        let studies = listed();
        let names: Vec<_> = studies.as_array().unwrap().iter().map(|study| study["name"].to_string()).collect();
        assert!(names.iter().all(|name| name.contains("not whole yet")), "{names:?}");
        (studies[2]["trials"]["waiting"].as_u64() > Some(0)).then_some(())
    });
    importing.signal(Signal::SIGINT);
    importing.wait().exits(130).says("the import was stopped");
    assert_eq!(listed(), json!([]));
}

#[test]
fn a_token_of_the_role_client_is_enough() {
    let place = place!();
    let (source, storage) = (database(&place, "5.0.0", ""), place.sqlite("a.db"));
    for (name, role) in [("boss", "admin"), ("ann", "client"), ("gpu", "worker")] {
        let file = place.path(name).display().to_string();
        run(&place, &["token", "create", name, "--role", role, "--storage", &storage, "--output", &file]).ok();
    }
    let server = place.serve(&storage);
    let (url, source) = (server.url(), source.display().to_string());
    let with = |name: &str, words: &[&str]| {
        run(&place, &[words, &["--server", &url, "--token-file", &place.path(name).display().to_string()]].concat())
    };
    with("gpu", &["study", "import", &source]).exits(4).says("role worker");
    with("ann", &["study", "import", &source, "--study", "two/objectives"]).ok();
    let to = place.path("out.db").display().to_string();
    with("ann", &["study", "export", "two/objectives", "--to", &to]).ok();
    let audit = with("boss", &["audit", "--study", "two/objectives", "--format", "json"]).ok().json();
    assert_eq!((&audit[0]["actor"], &audit[0]["action"]), (&json!("ann"), &json!("FinishImport")), "{audit}");
}
