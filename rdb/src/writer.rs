//! Writes a new `SQLite` file that Optuna 5 opens.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use fleetune_core::{Direction, Timestamp};
use sqlx::sqlite::{SqliteConnectOptions, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection, query, query_scalar, raw_sql};

use crate::error::RdbError;
use crate::model::{Study, Trial};
use crate::{reader, times};

type Result<T> = std::result::Result<T, RdbError>;

/// A file that is being written, under another name until it is whole.
pub struct Writer {
    connection: Option<SqliteConnection>,
    partial: PathBuf,
    file: PathBuf,
}

impl Writer {
    /// Begins to write `file`, which must not be there.
    pub async fn create(file: &Path) -> Result<Self> {
        let mut partial = file.as_os_str().to_owned();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        for path in [file, &partial] {
            if path.exists() {
                return Err(RdbError::Exists(path.display().to_string()));
            }
        }
        // On disk it is at the end; half a file is worth nothing.
        let options = SqliteConnectOptions::new().filename(&partial).create_if_missing(true).foreign_keys(true);
        let connection = options.synchronous(SqliteSynchronous::Off).connect().await;
        let mut writer = Self { connection: None, partial, file: file.to_owned() };
        writer.connection = Some(connection.map_err(|error| writer.cannot(error))?);
        writer.prepare().await.map_err(|error| writer.cannot(error))?;
        Ok(writer)
    }

    async fn prepare(&mut self) -> sqlx::Result<()> {
        let connection = self.open();
        raw_sql("BEGIN").execute(&mut *connection).await?;
        raw_sql(include_str!("optuna5.sql")).execute(connection).await.map(drop)
    }

    fn open(&mut self) -> &mut SqliteConnection {
        self.connection.as_mut().expect("it is open until it is finished")
    }

    fn cannot(&self, why: impl std::fmt::Display) -> RdbError {
        RdbError::CannotWrite { file: self.file.display().to_string(), why: why.to_string() }
    }

    /// Writes a study without its trials; gives its id here. Id and counts of `study` are not looked at.
    pub async fn study(&mut self, study: &Study) -> Result<i64> {
        self.write_study(study).await.map_err(|error| self.cannot(error))
    }

    async fn write_study(&mut self, study: &Study) -> sqlx::Result<i64> {
        let connection = self.open();
        let insert = query_scalar("INSERT INTO studies (study_name) VALUES (?1) RETURNING study_id").bind(&study.name);
        let id: i64 = insert.fetch_one(&mut *connection).await?;
        for (objective, direction) in (0_i64..).zip(&study.directions) {
            let insert = query("INSERT INTO study_directions (direction, study_id, objective) VALUES (?1, ?2, ?3)");
            let name = match direction {
                Direction::Minimize => "MINIMIZE",
                Direction::Maximize => "MAXIMIZE",
            };
            insert.bind(name).bind(id).bind(objective).execute(&mut *connection).await?;
        }
        for (key, value) in &study.user_attributes {
            let insert = query("INSERT INTO study_user_attributes (study_id, \"key\", value_json) VALUES (?1, ?2, ?3)");
            insert.bind(id).bind(key).bind(value).execute(&mut *connection).await?;
        }
        for (key, value) in &study.system_attributes {
            let insert =
                query("INSERT INTO study_system_attributes (study_id, \"key\", value_json) VALUES (?1, ?2, ?3)");
            insert.bind(id).bind(key).bind(value).execute(&mut *connection).await?;
        }
        Ok(id)
    }

    /// Writes a trial of the study that has `study` as its id here.
    ///
    /// # Errors
    /// [`RdbError::NoForm`] of numbers that `SQLite` would lose.
    pub async fn trial(&mut self, study: i64, trial: &Trial) -> Result<()> {
        let no_form = |why: String| RdbError::NoForm { number: trial.number, why };
        if trial.values.iter().any(|value| value.is_nan()) {
            return Err(no_form("has a value that is NaN".to_owned()));
        }
        if let Some((name, _)) = trial.params.iter().find(|(_, param)| param.internal.is_nan()) {
            return Err(no_form(format!("has a parameter `{name}` that is NaN")));
        }
        let time = |at: Option<Timestamp>| {
            let text = |at| times::text(at).ok_or_else(|| no_form("has a time that is none".to_owned()));
            at.map(text).transpose()
        };
        let (started, ended) = (time(trial.started_at)?, time(trial.ended_at)?);
        self.write_trial(study, trial, started, ended).await.map_err(|error| self.cannot(error))
    }

    async fn write_trial(
        &mut self,
        study: i64,
        trial: &Trial,
        started: Option<String>,
        ended: Option<String>,
    ) -> sqlx::Result<()> {
        let connection = self.open();
        let insert = query_scalar(
            "INSERT INTO trials (number, study_id, state, datetime_start, datetime_complete) \
             VALUES (?1, ?2, ?3, ?4, ?5) RETURNING trial_id",
        );
        let insert = insert.bind(trial.number).bind(study).bind(reader::stored(trial.state)).bind(started).bind(ended);
        let id: i64 = insert.fetch_one(&mut *connection).await?;
        for (objective, &value) in (0_i64..).zip(&trial.values) {
            let (value, kind) = in_columns(value);
            let insert =
                query("INSERT INTO trial_values (trial_id, objective, value, value_type) VALUES (?1, ?2, ?3, ?4)");
            insert.bind(id).bind(objective).bind(value).bind(kind).execute(&mut *connection).await?;
        }
        for (&step, &value) in &trial.steps {
            let (value, kind) = in_columns(value);
            let insert = query(
                "INSERT INTO trial_intermediate_values (trial_id, step, intermediate_value, intermediate_value_type) \
                 VALUES (?1, ?2, ?3, ?4)",
            );
            insert.bind(id).bind(step).bind(value).bind(kind).execute(&mut *connection).await?;
        }
        for (name, param) in &trial.params {
            let insert = query(
                "INSERT INTO trial_params (trial_id, param_name, param_value, distribution_json) \
                 VALUES (?1, ?2, ?3, ?4)",
            );
            let insert = insert.bind(id).bind(name).bind(param.internal).bind(&param.distribution);
            insert.execute(&mut *connection).await?;
        }
        for (key, value) in &trial.user_attributes {
            let insert = query("INSERT INTO trial_user_attributes (trial_id, \"key\", value_json) VALUES (?1, ?2, ?3)");
            insert.bind(id).bind(key).bind(value).execute(&mut *connection).await?;
        }
        for (key, value) in &trial.system_attributes {
            let insert =
                query("INSERT INTO trial_system_attributes (trial_id, \"key\", value_json) VALUES (?1, ?2, ?3)");
            insert.bind(id).bind(key).bind(value).execute(&mut *connection).await?;
        }
        Ok(())
    }

    /// Gives the file its name, on disk.
    pub async fn finish(mut self) -> Result<()> {
        raw_sql("COMMIT").execute(self.open()).await.map_err(|error| self.cannot(error))?;
        if let Some(connection) = self.connection.take() {
            connection.close().await.map_err(|error| self.cannot(error))?;
        }
        match self.keep() {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                Err(RdbError::Exists(self.file.display().to_string()))
            }
            kept => kept.map_err(|error| self.cannot(error)),
        }
    }

    /// A second name, unlike a new one, never replaces a file that came meanwhile.
    fn keep(&self) -> std::io::Result<()> {
        fs::File::open(&self.partial)?.sync_all()?;
        fs::hard_link(&self.partial, &self.file).or_else(|error| match error.kind() {
            // Some file systems know no second names.
            ErrorKind::Unsupported | ErrorKind::PermissionDenied => fs::rename(&self.partial, &self.file),
            _ => Err(error),
        })?;
        #[cfg(unix)]
        if let Some(folder) = self.file.parent() {
            let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            fs::File::open(folder)?.sync_all()?;
        }
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // The connection's thread may write after this; it holds a file without a name then.
        self.connection = None;
        for suffix in ["", "-journal"] {
            let mut path = self.partial.clone().into_os_string();
            path.push(suffix);
            // What cannot be removed keeps its other name.
            drop(fs::remove_file(path));
        }
    }
}

/// A number in the two columns that Optuna has for it.
fn in_columns(value: f64) -> (Option<f64>, &'static str) {
    match value {
        f64::INFINITY => (None, "INF_POS"),
        f64::NEG_INFINITY => (None, "INF_NEG"),
        value if value.is_nan() => (None, "NAN"),
        value => (Some(value), "FINITE"),
    }
}
