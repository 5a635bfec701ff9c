//! What clients were told: every write that was acknowledged, and what it must have left behind.

use std::collections::BTreeMap;

use super::bits::{End, Params};

/// All studies of an arena.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// By name.
    pub studies: BTreeMap<String, Book>,
    /// Answers that contradict an earlier one.
    pub wrong: Vec<String>,
}

/// One study.
#[derive(Clone, Debug, Default)]
pub struct Book {
    /// Whether its creation was acknowledged to a client.
    pub created: bool,
    /// Queue entries by number: who asked for it, and the parameters it fixes.
    pub queued: BTreeMap<i64, (String, Params)>,
    /// Trials handed out by number and attempt: by which requests, and with which parameters.
    pub given: BTreeMap<(i64, u32), BTreeMap<String, Params>>,
    /// Reported values by number, attempt and step.
    pub steps: BTreeMap<(i64, u32, u32), u64>,
    /// Trials that a client ended.
    pub ends: BTreeMap<i64, End>,
    /// Trials that somebody saw ended. Not acknowledged to the reader, yet they must stay as they were.
    pub seen: BTreeMap<i64, End>,
    /// Trials that were given with a lease to a client that never heard of them.
    pub unheard: usize,
}

impl Ledger {
    /// The study called `name`.
    pub fn book(&mut self, name: &str) -> &mut Book {
        self.studies.entry(name.to_owned()).or_default()
    }

    /// Writes that were acknowledged.
    pub fn acked(&self) -> usize {
        self.studies.values().map(Book::acked).sum()
    }
}

impl Book {
    fn acked(&self) -> usize {
        let given: usize = self.given.values().map(BTreeMap::len).sum();
        usize::from(self.created) + self.queued.len() + given + self.steps.len() + self.ends.len()
    }

    /// Writes on trial `number`.
    pub fn writes(&self, number: i64) -> usize {
        let given: usize = self.given.range((number, 0)..=(number, u32::MAX)).map(|(_, by)| by.len()).sum();
        let steps = self.steps.range((number, 0, 0)..=(number, u32::MAX, u32::MAX)).count();
        usize::from(self.queued.contains_key(&number)) + given + steps + usize::from(self.ends.contains_key(&number))
    }

    /// Whether a client was told of trial `number`.
    pub fn knows(&self, number: i64) -> bool {
        self.queued.contains_key(&number) || self.given.range((number, 0)..=(number, u32::MAX)).next().is_some()
    }
}
