//! What can go wrong behind the storage trait, in the domain's words.

use fleetune_core::{Attempt, JobId, StudyId, StudyState, TrialId, TrialNumber, TrialState, Turn};

/// Why storage refused or failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// No study of that name or id.
    #[error("there is no study `{0}`")]
    StudyNotFound(String),
    /// No trial of that number.
    #[error("study {study} has no trial {number}")]
    TrialNotFound {
        /// The study.
        study: StudyId,
        /// The number asked for.
        number: TrialNumber,
    },
    /// No trial of that id.
    #[error("there is no trial of id {0}")]
    NoTrialOfId(TrialId),
    /// A parameter that the study knows as something else.
    #[error("parameter `{name}` is {known} in this study, which does not go with {given}")]
    Incompatible {
        /// The parameter.
        name: String,
        /// What the study knows.
        known: String,
        /// What it should have become.
        given: String,
    },
    /// No such job.
    #[error("there is no job {0}")]
    JobNotFound(JobId),
    /// No such worker.
    #[error("there is no worker `{0}`")]
    WorkerNotFound(String),
    /// Another token speaks for the worker.
    #[error("worker `{0}` has registered with another token")]
    AnotherToken(String),
    /// No such token.
    #[error("there is no token `{0}`")]
    TokenNotFound(String),
    /// No unsafe region of that id.
    #[error("there is no unsafe region {0}")]
    RegionNotFound(i64),
    /// Another token in force has the name.
    #[error("another token named `{0}` is in force")]
    TokenNameTaken(String),
    /// Another study has the name.
    #[error("a study named `{0}` exists already")]
    NameTaken(String),
    /// The study is in a state in which this cannot be done.
    #[error("study `{name}` is {state}, so it cannot {what}")]
    WrongStudyState {
        /// The study.
        name: String,
        /// Where it stands.
        state: StudyState,
        /// What was wanted, as an infinitive: `become paused`, `start a trial`.
        what: String,
    },
    /// The study has none but its children's trials.
    #[error("study `{0}` has a study of its own for each kind of workers, and no trials itself")]
    IsParent(String),
    /// Workers lease as many trials of the study as they may at once.
    #[error("workers lease {max_parallel} trials of study `{name}`, as many as they may at once")]
    AtCapacity {
        /// The study.
        name: String,
        /// Its limit.
        max_parallel: u32,
    },
    /// The trial is in a state in which this cannot be done.
    #[error("trial {number} is {state}, so it cannot {what}")]
    WrongTrialState {
        /// The trial.
        number: TrialNumber,
        /// Where it stands.
        state: TrialState,
        /// What was wanted, as an infinitive.
        what: String,
    },
    /// The trial has ended otherwise than this call says.
    #[error("trial {number} has ended as {state} already, with other values")]
    TrialEnded {
        /// The trial.
        number: TrialNumber,
        /// How it ended.
        state: TrialState,
    },
    /// The trial is leased and the call did not prove that it holds the lease.
    #[error("trial {number} is leased to a worker; only the holder of the lease writes to it")]
    TrialLeased {
        /// The trial.
        number: TrialNumber,
    },
    /// A newer attempt owns the job, or the lease was ended.
    #[error("attempt {held} of job {job} lost its lease (the current attempt is {current})")]
    LeaseLost {
        /// The job.
        job: JobId,
        /// The attempt of the caller.
        held: Attempt,
        /// The attempt that counts.
        current: Attempt,
    },
    /// The job has ended with another result.
    #[error("job {0} has ended already, with another result")]
    JobEnded(JobId),
    /// The round was measured already, with other cells.
    #[error("round {round} of job {job} is stored already, with other cells")]
    RoundTaken {
        /// The comparison job.
        job: JobId,
        /// The round.
        round: u32,
    },
    /// More than storage takes of one thing.
    #[error("{what} is larger than the limit of {limit}")]
    TooLarge {
        /// What is too large: `the detail of an attempt in bytes`.
        what: String,
        /// The largest that is taken.
        limit: u64,
    },
    /// Another trial was started first: catch up and suggest again.
    #[error("turn {turn} was taken meanwhile; the next one is {next}")]
    TurnTaken {
        /// The turn asked for.
        turn: Turn,
        /// The study's next turn.
        next: Turn,
    },
    /// The database was written by a newer program.
    #[error("the database has schema version {found}, but this program knows only up to {known}")]
    SchemaTooNew {
        /// Newest migration in the database.
        found: i64,
        /// Newest migration of this program.
        known: i64,
    },
    /// The storage URL is none that is known, or the database cannot be opened.
    #[error("cannot open storage `{url}`: {why}")]
    CannotOpen {
        /// As given, a password replaced.
        url: String,
        /// The database's words.
        why: String,
    },
    /// No room for the write. Nothing of it was stored.
    #[error("the database cannot grow: {0}")]
    Full(String),
    /// A stored row that this program cannot read.
    #[error("stored {what} is not readable: {why}")]
    Corrupt {
        /// Which row.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// The database had other things to do for too long; trying again helps.
    #[error("the database is busy: {0}")]
    Busy(String),
    /// The database failed; trying again may help.
    #[error("the database failed: {0}")]
    Database(String),
}
