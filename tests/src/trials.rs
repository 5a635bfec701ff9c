//! Trials as the program shows them, and what must hold for them at any time.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::place::Place;

impl Place {
    /// `study show`.
    pub fn study(&self, storage: &str) -> Value {
        self.run(&["study", "show", "s", place_of(storage), storage, "--format", "json"]).ok().json()
    }

    /// `trial list`; no trials while there is no study.
    pub fn trials(&self, storage: &str) -> Vec<Value> {
        let done = self.run(&["trial", "list", "s", place_of(storage), storage, "--format", "json"]);
        if done.code == Some(3) {
            return Vec::new();
        }
        rows(&done.ok().json())
    }

    /// `study export`: trials with their attempts, their state and their best.
    pub fn export(&self, storage: &str) -> Value {
        self.run(&["study", "export", "s", place_of(storage), storage]).ok().json()
    }

    /// How many trials have ended.
    pub fn ended(&self, storage: &str) -> usize {
        self.trials(storage).iter().filter(|trial| has_ended(trial)).count()
    }

    /// Asserts that the study recomputes.
    pub fn assert_verifies(&self, storage: &str) {
        let found = self.run(&["study", "verify", "s", place_of(storage), storage, "--format", "json"]).ok().json();
        assert_eq!(found["mismatches"], Value::Array(Vec::new()), "{found}");
    }

    /// Asserts that exactly the trials 0 to `count` are there, that each ended once, and that the study recomputes.
    /// Returns them with their attempts.
    pub fn assert_whole(&self, storage: &str, count: usize) -> Vec<Value> {
        let trials = rows(&self.export(storage)["trials"]);
        let numbers: Vec<_> = trials.iter().map(|trial| trial["number"].as_u64().expect("a number")).collect();
        assert_eq!(numbers, (0..count as u64).collect::<Vec<_>>(), "trials lost or twice");
        for trial in &trials {
            assert!(has_ended(trial) && trial["ended_at_us"].is_i64(), "not ended: {trial}");
            let finished = rows(&trial["attempts"]).iter().filter(|attempt| attempt["state"] == "finished").count();
            assert_eq!(finished, 1, "ended by {finished} attempts: {trial}");
        }
        let mut turns: Vec<_> = trials.iter().map(|trial| trial["turn"].as_i64().expect("a turn")).collect();
        turns.sort_unstable();
        turns.dedup();
        assert_eq!(turns.len(), count, "a turn was given twice");
        self.assert_verifies(storage);
        trials
    }

    /// Asserts that every bench of the scripted runner ended before the next began.
    pub fn assert_one_at_a_time(&self) {
        let journal = self.journal();
        for (index, pair) in journal.chunks(2).enumerate() {
            let began =
                pair[0].strip_prefix("begin ").unwrap_or_else(|| panic!("two at once at line {index}: {journal:?}"));
            assert_eq!(pair.get(1), Some(&format!("end {began}")), "another one began before the end: {journal:?}");
        }
    }
}

/// The option that names where studies are: `--server` for a URL of one, else `--storage`.
pub fn place_of(storage: &str) -> &'static str {
    if storage.starts_with("http://") { "--server" } else { "--storage" }
}

/// The workers that executed `trials`, which have their attempts.
pub fn workers(trials: &[Value]) -> BTreeSet<String> {
    let attempts = trials.iter().flat_map(|trial| rows(&trial["attempts"]));
    attempts.map(|attempt| attempt["worker"].as_str().expect("a worker").to_owned()).collect()
}

/// How many executions of `trials`, which have their attempts, were lost with their worker.
pub fn lost_attempts(trials: &[Value]) -> usize {
    let attempts = trials.iter().flat_map(|trial| rows(&trial["attempts"]));
    attempts.filter(|attempt| attempt["state"] == "lost").count()
}

/// The elements of an array.
pub fn rows(value: &Value) -> Vec<Value> {
    value.as_array().unwrap_or_else(|| panic!("no array: {value}")).clone()
}

/// Whether a trial is complete, pruned or failed.
pub fn has_ended(trial: &Value) -> bool {
    ["complete", "pruned", "fail"].contains(&trial["state"].as_str().unwrap_or_default())
}

/// What a search decided and measured, without times and attempts: equal for equal searches.
pub fn essence(trials: &[Value]) -> Vec<Value> {
    let keys = ["number", "state", "params", "values", "steps", "fail_kind", "origin"];
    let pick = |trial: &Value| keys.iter().map(|&key| (key.to_owned(), trial[key].clone())).collect();
    trials.iter().map(pick).map(Value::Object).collect()
}
