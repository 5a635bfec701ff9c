//! What shells do with trials: ask, report, tell, enqueue, cancel.

use std::collections::BTreeMap;

use fleetune_core::{FailKind, Params, TrialState};
use fleetune_proto::reason::Reason;
use fleetune_proto::{convert, v1};

use super::read::{checked, incomplete, trial};
use super::{Client, failed, quoted};
use crate::error::{CliError, CliResult};
use crate::view::{AskedView, LeaseView, TrialView, Verdict};

/// Longest name of a holder, bytes.
const MAX_HOLDER: usize = 100;

/// How a trial ended.
#[derive(Clone, Debug)]
pub enum End {
    /// With a value per objective, and the constraints that have no expression.
    Complete {
        /// One per objective.
        values: Vec<f64>,
        /// By name.
        constraints: BTreeMap<String, f64>,
    },
    /// Stopped early.
    Pruned,
    /// Without a value.
    Fail {
        /// Why.
        kind: FailKind,
        /// A sentence that says more; may be empty.
        message: String,
    },
}

impl Client {
    /// Starts up to `count` trials, under a lease of so many seconds where one is given.
    pub async fn ask(&mut self, name: &str, count: u32, lease: Option<f64>) -> CliResult<Vec<AskedView>> {
        let request = v1::AskRequest {
            request_id: request_id("ask"),
            study: name.to_owned(),
            count,
            lease: lease.map(convert::duration_to_wire),
            holder: lease.map(|_| holder()).unwrap_or_default(),
        };
        let answer = self.studies.ask(request).await;
        let failed = failed(format!("failed to ask study `{name}` for a trial"));
        let answer = answer.map_err(|status| woken_by_update(failed(status), name))?.into_inner();
        if lease.is_some() && answer.leases.len() != answer.trials.len() {
            return Err(incomplete().because("a lease was asked for, and none came"));
        }
        let mut leases = answer.leases.into_iter();
        let asked = |wire| {
            let trial = trial(wire)?;
            let lease = leases.next().map(read_lease).transpose()?;
            Ok(AskedView { number: trial.number, params: trial.params, lease })
        };
        answer.trials.into_iter().map(asked).collect()
    }

    /// Stores an intermediate value and says whether to stop.
    pub async fn report(
        &mut self,
        name: &str,
        number: i64,
        step: u32,
        value: f64,
        token: Option<String>,
    ) -> CliResult<Verdict> {
        let lease_token = token.unwrap_or_default();
        let request = v1::ReportRequest { study: name.to_owned(), number, step, value, lease_token };
        let answer = self.studies.report(request).await;
        let what = format!("failed to report step {step} of trial {number} of study `{name}`");
        match answer.map_err(|status| about_lease(failed(what)(status)))?.into_inner().verdict() {
            v1::Verdict::Continue => Ok(Verdict::Continue),
            v1::Verdict::Stop => Ok(Verdict::Stop),
            v1::Verdict::Unspecified => Err(incomplete()),
        }
    }

    /// Ends a trial.
    pub async fn tell(&mut self, name: &str, number: i64, end: End, token: Option<String>) -> CliResult<TrialView> {
        let (state, values, constraints, failure) = match end {
            End::Complete { values, constraints } => (TrialState::Complete, values, constraints, None),
            End::Pruned => (TrialState::Pruned, Vec::new(), BTreeMap::new(), None),
            End::Fail { kind, message } => {
                let failure = v1::Failure { kind: convert::fail_kind_to_wire(kind).into(), message };
                (TrialState::Fail, Vec::new(), BTreeMap::new(), Some(failure))
            }
        };
        let request = v1::TellRequest {
            study: name.to_owned(),
            number,
            state: convert::trial_state_to_wire(state).into(),
            values,
            constraints: constraints.into_iter().collect(),
            failure,
            lease_token: token.unwrap_or_default(),
        };
        let answer = self.studies.tell(request).await;
        let failed = failed(format!("failed to tell trial {number} of study `{name}`"));
        trial(answer.map_err(|status| about_lease(failed(status)))?.into_inner().trial.ok_or_else(incomplete)?)
    }

    /// Queues a configuration; `force` takes it out of quarantine.
    pub async fn enqueue(&mut self, name: &str, params: &Params, force: bool) -> CliResult<TrialView> {
        let request = v1::EnqueueRequest {
            request_id: request_id("enqueue"),
            study: name.to_owned(),
            trials: vec![v1::FixedParams { params: convert::params_to_wire(params) }],
            force,
        };
        let answer = self.studies.enqueue(request).await;
        let trials = answer.map_err(failed(format!("failed to queue a trial of study `{name}`")))?.into_inner().trials;
        trial(trials.into_iter().next().ok_or_else(incomplete)?)
    }

    /// Ends a trial without a result.
    pub async fn cancel_trial(&mut self, name: &str, number: i64) -> CliResult<TrialView> {
        let answer = self.studies.cancel_trial(v1::CancelTrialRequest { study: name.to_owned(), number }).await;
        let what = format!("failed to cancel trial {number} of study `{name}`");
        trial(answer.map_err(failed(what))?.into_inner().trial.ok_or_else(incomplete)?)
    }
}

/// A name for one creation, which a retry would repeat.
pub fn request_id(verb: &str) -> String {
    format!("{verb}-{:032x}", rand::random::<u128>())
}

/// The coordinator does not know by which verb a study came to be.
fn woken_by_update(error: CliError, name: &str) -> CliError {
    if error.reason != Some(Reason::StudyFinished) {
        return error;
    }
    error.hint(format!("a larger budget wakes it: `fleetune study update {} --trials N`", quoted(name)))
}

/// What a shell does about a token that is missing or no longer counts.
fn about_lease(error: CliError) -> CliError {
    match error.reason {
        Some(Reason::TrialLeased) => {
            error.hint("pass the token that `fleetune trial ask --lease` gave: `--token TOKEN`")
        }
        Some(Reason::TrialLeaseLost) => {
            error.hint("the trial is another's by now; ask for a new one, with a longer `--lease`")
        }
        _ => error,
    }
}

/// Who asks: the host, as far as it has a name that can be told.
fn holder() -> String {
    let name = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut holder: String = name.chars().filter(|c| !c.is_control()).collect();
    holder.truncate(holder.floor_char_boundary(MAX_HOLDER));
    holder
}

fn read_lease(wire: v1::Lease) -> CliResult<LeaseView> {
    let expires_at = wire.expires_at.ok_or_else(incomplete)?;
    checked(convert::token(&wire.token))?.ok_or_else(incomplete)?;
    Ok(LeaseView { token: wire.token, expires_at: expires_at.to_string(), attempt: wire.attempt })
}
