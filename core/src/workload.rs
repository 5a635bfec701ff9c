//! What is measured, and which number of it a study optimises.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::measurement::{Metric, Samples, median};
use crate::study::Direction;

/// One request as the benchmark makes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Workload {
    /// Tokens of the prompt, at least 1.
    pub prompt: u32,
    /// Tokens generated after it, at least 1.
    pub gen_tokens: u32,
    /// Repetitions that count, at least 1.
    pub repetitions: u32,
    /// Repetitions before them that do not.
    pub warmup: u32,
}

impl Default for Workload {
    fn default() -> Self {
        Self { prompt: 512, gen_tokens: 128, repetitions: 5, warmup: 1 }
    }
}

/// The number a study optimises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Objective {
    /// Generated tokens a second, maximised.
    #[default]
    Decode,
    /// Prompt tokens a second, maximised.
    Prefill,
    /// Time to the first token in milliseconds, minimised.
    Ttft,
    /// Seconds for the whole workload, prompt / prefill + generated / decode, minimised.
    Balanced,
}

impl Objective {
    /// Every objective.
    pub const ALL: [Self; 4] = [Self::Decode, Self::Prefill, Self::Ttft, Self::Balanced];

    /// The name on the command line, on the wire and in storage.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Decode => "decode",
            Self::Prefill => "prefill",
            Self::Ttft => "ttft",
            Self::Balanced => "balanced",
        }
    }

    /// The objective called `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|objective| objective.as_str() == name)
    }

    /// Whether larger is better.
    pub fn direction(self) -> Direction {
        match self {
            Self::Decode | Self::Prefill => Direction::Maximize,
            Self::Ttft | Self::Balanced => Direction::Minimize,
        }
    }

    /// The unit of its values, as printed.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Decode | Self::Prefill => "tok/s",
            Self::Ttft => "ms",
            Self::Balanced => "s",
        }
    }

    /// The objective of repetition `k` (from 0) alone; `None` when that repetition did not measure it.
    pub fn of_repetition(self, samples: &Samples, k: usize, workload: &Workload) -> Option<f64> {
        let sample = |metric| samples.get(metric).get(k).copied();
        match self {
            Self::Decode => sample(Metric::DecodeTokS),
            Self::Prefill => sample(Metric::PrefillTokS),
            Self::Ttft => sample(Metric::TtftMs),
            Self::Balanced => {
                let prefill = sample(Metric::PrefillTokS)?;
                let decode = sample(Metric::DecodeTokS)?;
                Some(f64::from(workload.prompt) / prefill + f64::from(workload.gen_tokens) / decode)
            }
        }
    }

    /// The objective of every repetition, in order.
    pub fn of_repetitions(self, samples: &Samples, workload: &Workload) -> Vec<f64> {
        (0..).map_while(|k| self.of_repetition(samples, k, workload)).collect()
    }
}

impl fmt::Display for Objective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The running median of `repetitions`: entry k is the median of the first k + 1. This is the series that pruners and
/// samplers read; its last entry is the trial's value.
pub fn running_median(repetitions: &[f64]) -> Vec<f64> {
    (1..=repetitions.len()).filter_map(|count| median(&repetitions[..count])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn balanced_is_the_time_of_the_workload() {
        let mut samples = Samples::default();
        samples.push(Metric::PrefillTokS, 256.0);
        samples.push(Metric::DecodeTokS, 64.0);
        let seconds = Objective::Balanced.of_repetitions(&samples, &Workload::default());
        assert_eq!(seconds, [4.0]);
    }

    #[test]
    fn series_is_the_running_median() {
        assert_eq!(running_median(&[3.0, 1.0, 2.0]), [3.0, 2.0, 2.0]);
    }
}
