//! Reads studies and trials, a page at a time, each page one state of the database.

use std::collections::BTreeMap;

use fleetune_core::{Direction, Timestamp, TrialState};

use crate::connection::{Connection, Row};
use crate::error::RdbError;
use crate::model::{Param, Study, Trial};
use crate::times::{self, Zone};

/// The schemas that are read: nothing but an index came with the second.
const KNOWN: [&str; 2] = ["v3.0.0.d", "v3.2.0.a"];

/// Those before.
const OLD: [&str; 8] = ["v0.9.0.a", "v1.2.0.a", "v1.3.0.a", "v2.4.0.a", "v2.6.0.a", "v3.0.0.a", "v3.0.0.b", "v3.0.0.c"];

/// Trials of a page, at most.
const PAGE: i64 = 500;

/// Bytes of a page, about, unless one trial has more.
const PAGE_BYTES: i64 = 8 << 20;

/// Bytes of one trial, at most: a call to a coordinator carries 128 MiB.
const TRIAL_BYTES: i64 = 120 << 20;

type Result<T> = std::result::Result<T, RdbError>;

/// A database of Optuna's, open to be read.
pub struct Reader {
    connection: Connection,
    place: String,
    zone: Zone,
}

/// How far the trials of a study are read.
pub struct Trials {
    study: i64,
    name: String,
    objectives: usize,
    total: u64,
    /// Id of the last one that was read.
    after: i64,
    /// Number of the next one.
    next: i64,
}

impl Reader {
    /// Opens `source`: a file, `sqlite:///FILE` or `postgresql://…`.
    pub async fn open(source: &str) -> Result<Self> {
        let (mut connection, place) = Connection::open(source).await?;
        for table in ["studies", "trials", "version_info", "alembic_version"] {
            if !connection.has_table(table).await? {
                // Those from before Optuna 0.9 have no `alembic_version`.
                return Err(RdbError::NotOptunas(place, table));
            }
        }
        let schema = one_text(&mut connection, "SELECT version_num FROM alembic_version").await?;
        if !KNOWN.contains(&schema.as_str()) {
            let old = OLD.contains(&schema.as_str());
            return Err(if old { RdbError::TooOld(schema) } else { RdbError::Unknown(schema) });
        }
        let version = one_text(&mut connection, "SELECT library_version FROM version_info").await?;
        Ok(Self { connection, place, zone: Zone::of(&version) })
    }

    /// How the source is called, a password left out.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Every study, by id.
    pub async fn studies(&mut self) -> Result<Vec<Study>> {
        self.connection.begin().await?;
        let studies = self.read_studies().await;
        self.connection.end().await?;
        studies
    }

    async fn read_studies(&mut self) -> Result<Vec<Study>> {
        let mut studies = Vec::new();
        for row in self.connection.rows("SELECT study_id, study_name FROM studies ORDER BY study_id", &[]).await? {
            let bad = |why| unreadable("the list of studies", why);
            let (id, name) = (need(row.integer(0)).map_err(bad)?, need(row.text(1)).map_err(bad)?);
            let no_map = BTreeMap::new;
            let (user_attributes, system_attributes) = (no_map(), no_map());
            let directions = Vec::new();
            let counts = BTreeMap::new();
            studies.push(Study { id, name, directions, user_attributes, system_attributes, counts });
        }
        for study in &mut studies {
            let what = format!("study `{}`", study.name);
            let bad = |why| unreadable(&what, why);
            let sql = "SELECT objective, CAST(direction AS TEXT) FROM study_directions WHERE study_id = $1 ORDER BY 1";
            for row in self.connection.rows(sql, &[study.id]).await? {
                let objective = need(row.integer(0)).map_err(bad)?;
                let direction = need(row.text(1)).map_err(bad)?;
                if objective != study.directions.len() as i64 {
                    return Err(bad(format!("its direction {} is missing", study.directions.len())));
                }
                study.directions.push(match direction.as_str() {
                    "MINIMIZE" => Direction::Minimize,
                    "MAXIMIZE" => Direction::Maximize,
                    other => return Err(bad(format!("its direction is `{other}`"))),
                });
            }
            if study.directions.is_empty() {
                return Err(bad("it has no direction".to_owned()));
            }
            let sql = "SELECT study_id, key, value_json FROM study_user_attributes WHERE study_id = $1";
            study.user_attributes = self.study_attributes(sql, study.id, &what).await?;
            let sql = "SELECT study_id, key, value_json FROM study_system_attributes WHERE study_id = $1";
            study.system_attributes = self.study_attributes(sql, study.id, &what).await?;
            let sql = "SELECT CAST(state AS TEXT), CAST(count(*) AS BIGINT) FROM trials WHERE study_id = $1 GROUP BY 1";
            for row in self.connection.rows(sql, &[study.id]).await? {
                let state = state(&need(row.text(0)).map_err(bad)?).map_err(bad)?;
                study.counts.insert(state, need(row.integer(1)).map_err(bad)?.unsigned_abs());
            }
        }
        Ok(studies)
    }

    async fn study_attributes(&mut self, sql: &'static str, id: i64, what: &str) -> Result<BTreeMap<String, String>> {
        let rows = self.connection.rows(sql, &[id]).await?;
        rows.iter().map(|row| attribute(row).map_err(|why| unreadable(what, why))).collect()
    }

    /// The trials of a study that are there now, to be read by [`Self::page`].
    pub fn trials(study: &Study) -> Trials {
        Trials {
            study: study.id,
            name: study.name.clone(),
            objectives: study.directions.len(),
            total: study.trials(),
            after: i64::MIN,
            next: 0,
        }
    }

    /// The next trials by number; none when all are read that were there when the study was. Each page is read in a
    /// transaction of its own, so that a live writer is not held up for longer.
    ///
    /// # Errors
    /// [`RdbError::Changed`] when trials are gone meanwhile.
    pub async fn page(&mut self, trials: &mut Trials) -> Result<Vec<Trial>> {
        if trials.next.unsigned_abs() >= trials.total {
            return Ok(Vec::new());
        }
        self.connection.begin().await?;
        let page = self.read_page(trials).await;
        self.connection.end().await?;
        page
    }

    async fn read_page(&mut self, trials: &mut Trials) -> Result<Vec<Trial>> {
        let limit = PAGE.min(i64::try_from(trials.total).unwrap_or(i64::MAX) - trials.next);
        let heads = self
            .connection
            .rows(
                "SELECT trial_id, number, CAST(state AS TEXT), CAST(datetime_start AS TEXT), \
                 CAST(datetime_complete AS TEXT) FROM trials WHERE study_id = $1 AND trial_id > $2 \
                 ORDER BY trial_id LIMIT $3",
                &[trials.study, trials.after, limit],
            )
            .await?;
        let mut page = BTreeMap::new();
        for (number, row) in (trials.next..).zip(&heads) {
            let (id, trial) = self.head(number, row).map_err(|why| trials.unreadable(number, why))?;
            page.insert(id, trial);
        }
        let Some((&first, _)) = page.first_key_value() else { return Err(RdbError::Changed(trials.name.clone())) };
        let last = self.last_of_page(trials, first, &page).await?;
        page.split_off(&(last + 1));
        self.fill(trials, first, last, &mut page).await?;
        for trial in page.values() {
            if !trial.values.is_empty() && trial.values.len() != trials.objectives {
                let why = format!("it has {} values for {} directions", trial.values.len(), trials.objectives);
                return Err(trials.unreadable(trial.number, why));
            }
        }
        trials.after = last;
        trials.next += page.len() as i64;
        Ok(page.into_values().collect())
    }

    fn head(&self, expected: i64, row: &Row) -> std::result::Result<(i64, Trial), String> {
        let id = need(row.integer(0))?;
        let number = need(row.integer(1))?;
        if number != expected {
            return Err(format!("its place is taken by trial {number}; numbers have no gaps"));
        }
        let time = |text: Option<String>| -> std::result::Result<Option<Timestamp>, String> {
            let read = |text: String| times::read(&text, self.zone).ok_or_else(|| format!("`{text}` is no time"));
            text.map(read).transpose()
        };
        let trial = Trial {
            number,
            state: state(&need(row.text(2))?)?,
            values: Vec::new(),
            started_at: time(row.text(3)?)?,
            ended_at: time(row.text(4)?)?,
            params: BTreeMap::new(),
            steps: BTreeMap::new(),
            user_attributes: BTreeMap::new(),
            system_attributes: BTreeMap::new(),
        };
        Ok((id, trial))
    }

    /// The last trial, by id, of those that are read together: they must fit into memory.
    async fn last_of_page(&mut self, trials: &Trials, first: i64, page: &BTreeMap<i64, Trial>) -> Result<i64> {
        let last = page.last_key_value().map_or(first, |(&id, _)| id);
        let sizes = self
            .connection
            .rows(
                "SELECT id, CAST(sum(size) AS BIGINT) FROM (\
                 SELECT a.trial_id AS id, octet_length(a.value_json) AS size FROM trials t \
                 JOIN trial_user_attributes a ON a.trial_id = t.trial_id \
                 WHERE t.study_id = $1 AND t.trial_id BETWEEN $2 AND $3 \
                 UNION ALL SELECT a.trial_id, octet_length(a.value_json) FROM trials t \
                 JOIN trial_system_attributes a ON a.trial_id = t.trial_id \
                 WHERE t.study_id = $1 AND t.trial_id BETWEEN $2 AND $3 \
                 UNION ALL SELECT a.trial_id, octet_length(a.distribution_json) + 100 FROM trials t \
                 JOIN trial_params a ON a.trial_id = t.trial_id \
                 WHERE t.study_id = $1 AND t.trial_id BETWEEN $2 AND $3 \
                 UNION ALL SELECT a.trial_id, 50 FROM trials t \
                 JOIN trial_intermediate_values a ON a.trial_id = t.trial_id \
                 WHERE t.study_id = $1 AND t.trial_id BETWEEN $2 AND $3) AS sizes GROUP BY id ORDER BY id",
                &[trials.study, first, last],
            )
            .await?;
        let mut sum = 0;
        for row in sizes {
            let bad = |why| unreadable("the size of a trial", why);
            let (id, size) = (need(row.integer(0)).map_err(bad)?, row.integer(1).map_err(bad)?.unwrap_or_default());
            if size > TRIAL_BYTES {
                let number = page.get(&id).map_or(trials.next, |trial| trial.number);
                let (mib, limit_mib) = (size >> 20, TRIAL_BYTES >> 20);
                return Err(RdbError::TooLarge { study: trials.name.clone(), number, mib, limit_mib });
            }
            sum += size;
            if sum > PAGE_BYTES {
                // Up to the one before it, unless it is the first.
                return Ok(page.range(..id).next_back().map_or(id, |(&before, _)| before));
            }
        }
        Ok(last)
    }

    /// Adds what other tables hold of the trials with ids from `first` to `last`.
    async fn fill(&mut self, trials: &Trials, first: i64, last: i64, page: &mut BTreeMap<i64, Trial>) -> Result<()> {
        let range = [trials.study, first, last];
        let sql = "SELECT v.trial_id, objective, value, CAST(value_type AS TEXT) FROM trials t \
                   JOIN trial_values v ON v.trial_id = t.trial_id \
                   WHERE t.study_id = $1 AND t.trial_id BETWEEN $2 AND $3 ORDER BY v.trial_id, objective";
        self.add(sql, range, trials, page, |trial, row| {
            let objective = need(row.integer(1))?;
            if objective != trial.values.len() as i64 {
                return Err(format!("its value {} is missing", trial.values.len()));
            }
            trial.values.push(number(row, 2)?);
            Ok(())
        })
        .await?;
        let sql = "SELECT v.trial_id, step, intermediate_value, CAST(intermediate_value_type AS TEXT) FROM trials t \
                   JOIN trial_intermediate_values v ON v.trial_id = t.trial_id \
                   WHERE t.study_id = $1 AND t.trial_id BETWEEN $2 AND $3";
        self.add(sql, range, trials, page, |trial, row| {
            trial.steps.insert(need(row.integer(1))?, number(row, 2)?);
            Ok(())
        })
        .await?;
        let sql = "SELECT p.trial_id, param_name, param_value, distribution_json FROM trials t \
                   JOIN trial_params p ON p.trial_id = t.trial_id \
                   WHERE t.study_id = $1 AND t.trial_id BETWEEN $2 AND $3";
        self.add(sql, range, trials, page, |trial, row| {
            let name = need(row.text(1))?;
            let internal = row.float(2)?.ok_or_else(|| format!("its parameter `{name}` has no value"))?;
            let distribution = row.text(3)?.ok_or_else(|| format!("its parameter `{name}` has no distribution"))?;
            trial.params.insert(name, Param { internal, distribution });
            Ok(())
        })
        .await?;
        let sql = "SELECT a.trial_id, key, value_json FROM trials t \
                   JOIN trial_user_attributes a ON a.trial_id = t.trial_id \
                   WHERE t.study_id = $1 AND t.trial_id BETWEEN $2 AND $3";
        self.add(sql, range, trials, page, |trial, row| {
            trial.user_attributes.extend([attribute(row)?]);
            Ok(())
        })
        .await?;
        let sql = "SELECT a.trial_id, key, value_json FROM trials t \
                   JOIN trial_system_attributes a ON a.trial_id = t.trial_id \
                   WHERE t.study_id = $1 AND t.trial_id BETWEEN $2 AND $3";
        self.add(sql, range, trials, page, |trial, row| {
            trial.system_attributes.extend([attribute(row)?]);
            Ok(())
        })
        .await
    }

    async fn add(
        &mut self,
        sql: &'static str,
        range: [i64; 3],
        trials: &Trials,
        page: &mut BTreeMap<i64, Trial>,
        put: impl Fn(&mut Trial, &Row) -> std::result::Result<(), String>,
    ) -> Result<()> {
        for row in self.connection.rows(sql, &range).await? {
            let id = need(row.integer(0)).map_err(|why| trials.unreadable(trials.next, why))?;
            let Some(trial) = page.get_mut(&id) else { continue };
            put(trial, &row).map_err(|why| trials.unreadable(trial.number, why))?;
        }
        Ok(())
    }

    /// Lets go of the database.
    pub async fn close(self) {
        self.connection.close().await;
    }
}

impl Trials {
    /// How many are read.
    pub fn read(&self) -> u64 {
        self.next.unsigned_abs()
    }

    fn unreadable(&self, number: i64, why: String) -> RdbError {
        unreadable(&format!("trial {number} of study `{}`", self.name), why)
    }
}

async fn one_text(connection: &mut Connection, sql: &'static str) -> Result<String> {
    let rows = connection.rows(sql, &[]).await?;
    let text = rows.first().map(|row| row.text(0)).transpose();
    text.map(|text| text.flatten().unwrap_or_default()).map_err(|why| unreadable("the version of the tables", why))
}

fn unreadable(what: &str, why: String) -> RdbError {
    RdbError::Unreadable { what: what.to_owned(), why }
}

fn need<T>(found: std::result::Result<Option<T>, String>) -> std::result::Result<T, String> {
    found?.ok_or_else(|| "a column is NULL that never is".to_owned())
}

fn attribute(row: &Row) -> std::result::Result<(String, String), String> {
    let key = need(row.text(1))?;
    let value = row.text(2)?.ok_or_else(|| format!("its attribute `{key}` has no value"))?;
    Ok((key, value))
}

fn state(name: &str) -> std::result::Result<TrialState, String> {
    TrialState::ALL.into_iter().find(|state| stored(*state) == name).ok_or_else(|| format!("`{name}` is no state"))
}

/// A state as Optuna stores it.
pub(crate) fn stored(state: TrialState) -> &'static str {
    match state {
        TrialState::Waiting => "WAITING",
        TrialState::Running => "RUNNING",
        TrialState::Complete => "COMPLETE",
        TrialState::Pruned => "PRUNED",
        TrialState::Fail => "FAIL",
    }
}

/// A number in column `index`, what kind of number it is in the next.
fn number(row: &Row, index: usize) -> std::result::Result<f64, String> {
    match (need(row.text(index + 1))?.as_str(), row.float(index)?) {
        ("FINITE", Some(value)) => Ok(value),
        ("INF_POS", None) => Ok(f64::INFINITY),
        ("INF_NEG", None) => Ok(f64::NEG_INFINITY),
        ("NAN", None) => Ok(f64::NAN),
        (kind, value) => Err(format!("a value of the kind `{kind}` is {value:?}")),
    }
}
