//! What a run measured: samples per metric, one per repetition. Statistics are computed when read.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::value::Params;

/// A quantity the executors measure. The unit is in the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Generated tokens over the wall time of generation alone.
    DecodeTokS,
    /// Prompt tokens over the wall time of prompt processing alone.
    PrefillTokS,
    /// First prefill call to first sampled token.
    TtftMs,
    /// Mean time between generated tokens.
    ItlMs,
    /// Whole request.
    LatencyMs,
    /// Finished requests a second.
    RequestsPerS,
    /// Reading the model until the first token could be computed.
    LoadS,
    /// Highest memory of the GPUs, all together.
    VramPeakMib,
    /// Highest resident memory of the engine's process.
    RamPeakMib,
    /// Mean power of the GPUs during the run.
    PowerW,
    /// Generated tokens per joule.
    TokensPerJoule,
    /// Layers that really are on a GPU.
    LayersOnGpu,
    /// Share of drafted tokens the target model took.
    DraftAcceptance,
}

impl Metric {
    /// Every metric.
    pub const ALL: [Self; 13] = [
        Self::DecodeTokS,
        Self::PrefillTokS,
        Self::TtftMs,
        Self::ItlMs,
        Self::LatencyMs,
        Self::RequestsPerS,
        Self::LoadS,
        Self::VramPeakMib,
        Self::RamPeakMib,
        Self::PowerW,
        Self::TokensPerJoule,
        Self::LayersOnGpu,
        Self::DraftAcceptance,
    ];

    /// The name on the wire, in storage and in constraint expressions (`metrics.ttft_ms.p95`).
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DecodeTokS => "decode_tok_s",
            Self::PrefillTokS => "prefill_tok_s",
            Self::TtftMs => "ttft_ms",
            Self::ItlMs => "itl_ms",
            Self::LatencyMs => "latency_ms",
            Self::RequestsPerS => "requests_per_s",
            Self::LoadS => "load_s",
            Self::VramPeakMib => "vram_peak_mib",
            Self::RamPeakMib => "ram_peak_mib",
            Self::PowerW => "power_w",
            Self::TokensPerJoule => "tokens_per_joule",
            Self::LayersOnGpu => "layers_on_gpu",
            Self::DraftAcceptance => "draft_acceptance",
        }
    }

    /// The metric called `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|metric| metric.as_str() == name)
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// All samples of one attempt: per metric, in the order of the repetitions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Samples(pub BTreeMap<Metric, Vec<f64>>);

impl Samples {
    /// Adds one sample.
    pub fn push(&mut self, metric: Metric, value: f64) {
        self.0.entry(metric).or_default().push(value);
    }

    /// The samples of `metric`; empty when it was not measured.
    pub fn get(&self, metric: Metric) -> &[f64] {
        self.0.get(&metric).map_or(&[], Vec::as_slice)
    }

    /// The median of `metric`, if it was measured.
    pub fn median(&self, metric: Metric) -> Option<f64> {
        median(self.get(metric))
    }
}

/// What one execution of a configuration observed, besides its outcome. Stored with the attempt.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AttemptDetail {
    /// Everything measured.
    pub samples: Samples,
    /// What was asked of the engine.
    pub requested: Params,
    /// What the engine says it did: an object of its own shape; `null` when it never came so far.
    pub effective: serde_json::Value,
    /// The engine's fingerprint.
    pub engine: String,
    /// [`crate::Inventory::device_class`].
    pub device_class: String,
    /// The end of the child's stderr, at most [`MAX_STDERR_TAIL`] bytes.
    pub stderr_tail: String,
    /// Which rung of the time-out ladder ended the child: `none`, `SIGTERM` or `SIGKILL`.
    pub stopped_by: String,
    /// Seconds it waited for the device.
    pub waited_s: f64,
    /// Load average and the like: an object.
    pub telemetry: serde_json::Value,
}

/// Longest stderr tail that is kept, bytes.
pub const MAX_STDERR_TAIL: usize = 64 * 1024;

/// The median of `values`: the middle one, or the mean of the two middle ones; `None` without values.
pub fn median(values: &[f64]) -> Option<f64> {
    quantile(values, 0.5)
}

/// The `q`-quantile of `values` (0 <= q <= 1) with linear interpolation between order statistics, as NumPy does by
/// default; `None` without values. NaN sorts last.
pub fn quantile(values: &[f64], q: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    let position = q.clamp(0.0, 1.0) * last as f64;
    let below = position.floor() as usize;
    let above = position.ceil() as usize;
    if below == above {
        return Some(sorted[below]);
    }
    // The mean of the two middle ones in the form that is exact for equal neighbours.
    Some(sorted[below] + (sorted[above] - sorted[below]) * (position - below as f64))
}

/// Mean, spread and extremes of a set of samples.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// How many samples.
    pub count: usize,
    /// Arithmetic mean.
    pub mean: f64,
    /// Median.
    pub median: f64,
    /// Sample standard deviation (n − 1); 0 for a single sample.
    pub sd: f64,
    /// Smallest.
    pub min: f64,
    /// Largest.
    pub max: f64,
}

impl Summary {
    /// Summarises `values`; `None` when there are none.
    pub fn of(values: &[f64]) -> Option<Self> {
        let median = median(values)?;
        let count = values.len();
        let mean = values.iter().sum::<f64>() / count as f64;
        let squares = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>();
        Some(Self {
            count,
            mean,
            median,
            sd: if count > 1 { (squares / (count - 1) as f64).sqrt() } else { 0.0 },
            min: values.iter().copied().fold(f64::INFINITY, f64::min),
            max: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_of_an_even_count_is_the_mean_of_the_middle() {
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), Some(2.5));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn quantile_interpolates_like_numpy() {
        assert_eq!(quantile(&[1.0, 2.0, 3.0, 4.0, 5.0], 0.95), Some(4.8));
    }

    #[test]
    fn names_agree_with_serde() {
        for metric in Metric::ALL {
            assert_eq!(serde_json::to_value(metric).unwrap(), metric.as_str());
            assert_eq!(Metric::from_name(metric.as_str()), Some(metric));
        }
    }

    #[test]
    fn a_single_sample_has_no_spread() {
        let summary = Summary::of(&[3.0]).unwrap();
        assert_eq!((summary.mean, summary.sd, summary.min, summary.max), (3.0, 0.0, 3.0, 3.0));
    }
}
