//! What `llama-bench` prints: one JSON object per test, in lines or in an array. Columns come and go between versions;
//! unknown ones are passed over.

use fleetune_core::runner::Repetition;
use fleetune_core::{FailKind, Workload};
use serde::Deserialize;

use crate::executor::Failure;

/// One test.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub(super) struct Row {
    n_prompt: u32,
    n_gen: u32,
    /// Nanoseconds of each repetition.
    samples_ns: Vec<u64>,
}

/// Reads all rows. What is cut off at the end of lines is lost alone.
pub(super) fn rows(text: &str) -> Vec<Row> {
    if text.trim_start().starts_with('[') {
        return serde_json::from_str(text).unwrap_or_default();
    }
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// The repetitions of a workload: the n-th measurement of its prompt and the n-th of its generation.
pub(super) fn repetitions(rows: &[Row], workload: &Workload) -> Result<Vec<Repetition>, Failure> {
    let samples = |what: &str, prompt: u32, generated: u32| {
        let row = rows.iter().find(|row| (row.n_prompt, row.n_gen) == (prompt, generated));
        let samples = row.map_or(&[][..], |row| &row.samples_ns);
        if samples.len() == workload.repetitions as usize && !samples.contains(&0) {
            return Ok(samples);
        }
        let message = format!(
            "`llama-bench` reported {} of {} measurements of its {what} test; is its output of a version that gives \
             `samples_ns`?",
            samples.len(),
            workload.repetitions
        );
        Err(Failure::new(FailKind::Error, message))
    };
    let prompts = samples("prompt", workload.prompt, 0)?;
    let generations = samples("generation", 0, workload.gen_tokens)?;
    let of = |(index, (prompt, generation)): (usize, (&u64, &u64))| {
        let (prompt_s, generation_s) = (*prompt as f64 / 1e9, *generation as f64 / 1e9);
        Repetition {
            index: index as u32,
            warmup: false,
            prefill_tok_s: f64::from(workload.prompt) / prompt_s,
            decode_tok_s: f64::from(workload.gen_tokens) / generation_s,
            // Its prompt test ends where the first token could be taken.
            ttft_ms: prompt_s * 1e3,
            itl_ms: generation_s * 1e3 / f64::from(workload.gen_tokens),
        }
    };
    Ok(prompts.iter().zip(generations).enumerate().map(of).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &str = include_str!("../../tests/fixtures/llama-bench/rows-0.6.0.jsonl");
    const ARRAY: &str = include_str!("../../tests/fixtures/llama-bench/rows-2023-09.json");

    #[test]
    fn rows_of_either_form_are_read() {
        let workload = Workload { prompt: 64, gen_tokens: 16, repetitions: 3, warmup: 1 };
        let measured = repetitions(&rows(LINES), &workload).unwrap();
        assert_eq!(measured.len(), 3);
        let workload = Workload { prompt: 512, gen_tokens: 128, repetitions: 5, warmup: 1 };
        let measured = repetitions(&rows(ARRAY), &workload).unwrap();
        let first = measured[0];
        assert!((first.prefill_tok_s - 2394.34).abs() < 0.01 && (first.decode_tok_s - 130.019).abs() < 0.001);
        assert!((first.ttft_ms - 213.837_238).abs() < 1e-9 && (first.itl_ms - 7.691_193).abs() < 1e-6);
    }

    #[test]
    fn what_is_missing_is_said() {
        let workload = Workload { prompt: 64, gen_tokens: 16, repetitions: 3, warmup: 1 };
        let (first, _) = LINES.split_once('\n').unwrap();
        let cut = format!("{first}\n{{\"n_prompt\": 0, \"n_ge");
        let message = repetitions(&rows(&cut), &workload).unwrap_err().message;
        assert!(message.contains("0 of 3 measurements of its generation test"), "{message}");
        let more = Workload { repetitions: 4, ..workload };
        assert!(repetitions(&rows(LINES), &more).unwrap_err().message.contains("3 of 4"));
        for garbage in ["", "[", "[{}]", "{}\nnull\n", "[{\"n_prompt\": -1}]"] {
            assert_eq!(rows(garbage), []);
        }
    }
}
