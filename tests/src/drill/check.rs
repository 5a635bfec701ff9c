//! Reads everything that is stored, and holds it to what was acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fleetune_proto::v1::study_service_client::StudyServiceClient;
use fleetune_proto::v1::{AttemptRecord, GetTrialRequest, ListTrialsRequest, Trial, TrialState, VerifyStudyRequest};
use tonic::Status;
use tonic::transport::Channel;

use super::bits;
use super::close::list;
use super::ledger::{Book, Ledger};
use super::postings::Postings;

/// By how much an instant may lie outside of the drill; far less than the clocks that are wrong in it.
const TOLERANCE: Duration = Duration::from_mins(5);

/// What does not fit; a sentence each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Acknowledged writes that are not there as they were acknowledged.
    pub lost: Vec<String>,
    /// What was done more than once.
    pub duplicated: Vec<String>,
    /// Everything else.
    pub wrong: Vec<String>,
}

impl Findings {
    /// Whether everything fits.
    pub fn is_clean(&self) -> bool {
        self.all().next().is_none()
    }

    /// Every sentence.
    pub fn all(&self) -> impl Iterator<Item = String> {
        let kinds = [("lost", &self.lost), ("duplicated", &self.duplicated), ("wrong", &self.wrong)];
        kinds.into_iter().flat_map(|(kind, found)| found.iter().map(move |found| format!("{kind}: {found}")))
    }

    /// What was found elsewhere, too.
    pub fn add(&mut self, other: Self) {
        self.lost.extend(other.lost);
        self.duplicated.extend(other.duplicated);
        self.wrong.extend(other.wrong);
    }
}

/// Reads every study of `ledger` at the coordinator behind `service`. `since` is when the drill began.
pub async fn check(
    mut service: StudyServiceClient<Channel>,
    ledger: &Ledger,
    model_study: Option<(&str, &Postings)>,
    since: SystemTime,
) -> Result<Findings, Status> {
    let mut findings = Findings { wrong: ledger.wrong.clone(), ..Findings::default() };
    let models = model_study.iter().map(|(name, _)| *name);
    let names: BTreeSet<&str> = ledger.studies.keys().map(String::as_str).chain(models).collect();
    for name in names {
        let request = ListTrialsRequest { study: name.to_owned(), ..ListTrialsRequest::default() };
        let mut trials = match list(service.clone(), request).await {
            Ok(trials) => trials,
            Err(status) => {
                findings.lost.push(format!("study {name} cannot be read: {status}"));
                continue;
            }
        };
        // Attempts come one trial at a time. Held trials have none.
        for trial in trials.iter_mut().filter(|trial| trial.attempt > 0) {
            let request = GetTrialRequest { study: name.to_owned(), number: trial.number };
            *trial = service.get_trial(request).await?.into_inner().trial.unwrap_or_default();
        }
        let mut study = Study { name, trials: &trials, findings: &mut findings };
        study.numbers_are_dense();
        study.each_ended_once(since);
        if let Some(book) = ledger.studies.get(name) {
            study.acknowledged_is_there(book);
        }
        match model_study {
            Some((model, postings)) if model == name => study.results_are_there(postings),
            _ => {
                if let Some(book) = ledger.studies.get(name) {
                    study.nothing_came_of_itself(book);
                }
            }
        }
        let verified = service.verify_study(VerifyStudyRequest { study: name.to_owned() }).await?.into_inner();
        for mismatch in verified.mismatches {
            findings.wrong.push(format!("{name} {}: verify suggests other parameters", mismatch.number));
        }
    }
    Ok(findings)
}

struct Study<'a> {
    name: &'a str,
    trials: &'a [Trial],
    findings: &'a mut Findings,
}

impl Study<'_> {
    fn lost(&mut self, number: i64, what: &str) {
        self.findings.lost.push(format!("{} {number}: {what}", self.name));
    }

    fn duplicated(&mut self, number: i64, what: &str) {
        self.findings.duplicated.push(format!("{} {number}: {what}", self.name));
    }

    fn wrong(&mut self, number: i64, what: &str) {
        self.findings.wrong.push(format!("{} {number}: {what}", self.name));
    }

    fn numbers_are_dense(&mut self) {
        for (expected, trial) in (0..).zip(self.trials) {
            if trial.number != expected {
                return self.wrong(trial.number, &format!("stands where {expected} should"));
            }
        }
    }

    fn each_ended_once(&mut self, since: SystemTime) {
        let mut turns = BTreeMap::new();
        let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs().cast_signed();
        let span = seconds(since - TOLERANCE)..=seconds(SystemTime::now() + TOLERANCE);
        for trial in self.trials {
            let number = trial.number;
            if bits::end(trial).is_none() {
                self.wrong(number, &format!("has not ended: {:?}", trial.state()));
            }
            if let Some(other) = trial.turn.and_then(|turn| turns.insert(turn, number)) {
                self.duplicated(number, &format!("has the turn of {other}"));
            }
            let finished = trial.attempts.iter().filter(|attempt| attempt.state == "finished").count();
            if finished > 1 {
                self.duplicated(number, &format!("was ended by {finished} attempts"));
            }
            if !trial.attempts.iter().zip(1..).all(|(attempt, number)| attempt.attempt == number)
                || trial.attempts.len() != trial.attempt as usize
            {
                self.wrong(number, &format!("{} attempts of {} can be read", trial.attempts.len(), trial.attempt));
            }
            let attempts = trial.attempts.iter().flat_map(|attempt| [attempt.started_at, attempt.ended_at]);
            let instants = [trial.created_at, trial.started_at, trial.ended_at].into_iter().chain(attempts);
            if instants.flatten().any(|instant| !span.contains(&instant.seconds)) {
                self.wrong(number, "has an instant of a clock that is wrong");
            }
        }
    }

    fn acknowledged_is_there(&mut self, book: &Book) {
        let trials: BTreeMap<i64, &Trial> = self.trials.iter().map(|trial| (trial.number, trial)).collect();
        let holds = |trial: &Trial, wanted: &bits::Params| {
            let params = bits::params(&trial.params);
            wanted.iter().all(|(name, value)| params.get(name) == Some(value))
        };
        for (&number, (request, fixed)) in &book.queued {
            if !trials.get(&number).is_some_and(|trial| holds(trial, fixed)) {
                self.lost(number, &format!("the queue entry of `{request}`"));
            }
        }
        for (&(number, attempt), given) in &book.given {
            for (request, params) in given {
                if !trials.get(&number).is_some_and(|trial| trial.attempt >= attempt && holds(trial, params)) {
                    self.lost(number, &format!("attempt {attempt}, which `{request}` asked for"));
                }
            }
            if given.len() > 1 {
                self.duplicated(number, &format!("was given to {given:?}"));
            }
        }
        for (&(number, attempt, step), &value) in &book.steps {
            let there = trials.get(&number).is_some_and(|trial| {
                // The steps of an older attempt are kept, but not shown.
                trial.attempt > attempt
                    || trial.steps.iter().any(|stored| stored.step == step && stored.value.to_bits() == value)
            });
            if !there {
                self.lost(number, &format!("step {step} of attempt {attempt}"));
            }
        }
        for (&number, end) in &book.ends {
            if trials.get(&number).and_then(|trial| bits::end(trial)).as_ref() != Some(end) {
                self.lost(number, &format!("its end {end:?}"));
            }
        }
        for (&number, end) in &book.seen {
            let unacked = !book.ends.contains_key(&number);
            if unacked && trials.get(&number).and_then(|trial| bits::end(trial)).as_ref() != Some(end) {
                self.lost(number, &format!("its end {end:?}, which was seen"));
            }
        }
    }

    /// Every trial was asked for by somebody.
    fn nothing_came_of_itself(&mut self, book: &Book) {
        let unknown: Vec<_> = self.trials.iter().filter(|trial| !book.knows(trial.number)).collect();
        // A trial that its client never heard of had a lease.
        let (leased, held): (Vec<_>, Vec<_>) = unknown.into_iter().partition(|trial| trial.attempt > 0);
        let unheard = held.into_iter().chain(leased.into_iter().skip(book.unheard));
        for number in unheard.map(|trial| trial.number).collect::<Vec<_>>() {
            self.duplicated(number, "nobody was given it");
        }
    }

    /// Results of workers: each is the end of a trial, and no trial has two.
    fn results_are_there(&mut self, postings: &Postings) {
        let mut stored: BTreeMap<(u32, u64), usize> = BTreeMap::new();
        for trial in self.trials {
            let finished = trial.attempts.iter().find(|attempt| attempt.state == "finished");
            match (trial.state(), finished) {
                (TrialState::Complete, Some(attempt)) => {
                    let value = trial.values.first().copied().unwrap_or(f64::NAN);
                    let brings = |attempt: &AttemptRecord| {
                        median(attempt.detail.as_ref()).map(f64::to_bits) == Some(value.to_bits())
                    };
                    if !brings(attempt) {
                        self.wrong(trial.number, "its value is not that of the attempt that ended it");
                    }
                    // A late result that says the same is acknowledged, too, and kept with its own attempt.
                    for attempt in trial.attempts.iter().filter(|attempt| brings(attempt)) {
                        *stored.entry((attempt.attempt, value.to_bits())).or_default() += 1;
                    }
                }
                (TrialState::Complete, None) => self.wrong(trial.number, "is complete by no attempt"),
                (_, Some(_)) => self.wrong(trial.number, "has a result, and is not complete"),
                (_, None) => {}
            }
        }
        for posted in &postings.acked {
            match stored.get_mut(&(posted.attempt, posted.value.to_bits())) {
                Some(left) if *left > 0 => *left -= 1,
                _ => self.findings.lost.push(format!("{}: the result of {posted:?}", self.name)),
            }
        }
        let kept = self.trials.iter().flat_map(|trial| &trial.attempts);
        let kept = kept.filter(|attempt| attempt.state == "lost" && median(attempt.detail.as_ref()).is_some()).count();
        if kept < postings.late {
            self.findings.lost.push(format!("{}: {kept} of {} late results are kept", self.name, postings.late));
        }
    }
}

/// Of the objective's samples.
fn median(detail: Option<&fleetune_proto::v1::AttemptDetail>) -> Option<f64> {
    let samples = detail?.samples.iter().find(|samples| samples.metric == "decode_tok_s")?;
    let mut values = samples.values.clone();
    values.sort_by(f64::total_cmp);
    // Their number is odd.
    values.get(values.len() / 2).copied()
}
