//! Collects the events of one run.

use fleetune_core::runner::{EffectiveSettings, Event, Repetition};
use fleetune_core::{FailKind, Metric, Objective, Samples, Workload};

use crate::executor::Failure;

/// The objective of one counted repetition.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// From 1.
    pub number: u32,
    /// The objective of this repetition alone.
    pub value: f64,
}

/// What an event meant.
#[derive(Clone, Debug, PartialEq)]
pub enum Observation {
    /// Nothing to report.
    Nothing,
    /// A repetition that is discarded.
    Warmup(Repetition),
    /// A repetition that counts.
    Counted(Repetition, Step),
}

/// The samples of one run, in the making.
#[derive(Clone, Debug)]
pub struct Collector {
    workload: Workload,
    objective: Objective,
    samples: Samples,
    counted: u32,
    effective: Option<Box<EffectiveSettings>>,
}

impl Collector {
    /// An empty collection.
    pub fn new(workload: Workload, objective: Objective) -> Self {
        Self { workload, objective, samples: Samples::default(), counted: 0, effective: None }
    }

    /// Takes one event. A repetition whose objective is no finite number is a failure; nothing is kept of it.
    pub fn observe(&mut self, event: &Event) -> Result<Observation, Failure> {
        match event {
            Event::Loaded { load_s, effective } => {
                self.samples.push(Metric::LoadS, *load_s);
                self.samples.push(Metric::LayersOnGpu, f64::from(effective.layers_on_gpu));
                self.effective = Some(effective.clone());
                Ok(Observation::Nothing)
            }
            Event::Done { ram_peak_mib, vram_peak_mib } => {
                self.samples.push(Metric::RamPeakMib, *ram_peak_mib);
                if let Some(vram_peak_mib) = vram_peak_mib {
                    self.samples.push(Metric::VramPeakMib, *vram_peak_mib);
                }
                Ok(Observation::Nothing)
            }
            Event::Repetition(repetition) if repetition.warmup => Ok(Observation::Warmup(*repetition)),
            Event::Repetition(repetition) => self.count(*repetition),
            Event::Info { .. }
            | Event::Described(_)
            | Event::Loading { .. }
            | Event::Error { .. }
            | Event::Abort { .. } => Ok(Observation::Nothing),
        }
    }

    fn count(&mut self, repetition: Repetition) -> Result<Observation, Failure> {
        let metrics = [
            (Metric::PrefillTokS, repetition.prefill_tok_s),
            (Metric::DecodeTokS, repetition.decode_tok_s),
            (Metric::TtftMs, repetition.ttft_ms),
            (Metric::ItlMs, repetition.itl_ms),
        ];
        let number = self.counted + 1;
        let mut alone = Samples::default();
        for (metric, value) in metrics {
            alone.push(metric, value);
        }
        // A speed of 0 makes the time of a workload infinite, so the objective is checked as well as its parts.
        let value = self.objective.of_repetition(&alone, 0, &self.workload).filter(|value| value.is_finite());
        let bad = metrics.into_iter().find(|(_, value)| !value.is_finite());
        let (Some(value), None) = (value, bad) else {
            let what = bad.map_or_else(|| self.objective.to_string(), |(metric, _)| metric.to_string());
            let message = format!("repetition {number}: `{what}` is not a finite number");
            return Err(Failure::new(FailKind::NonFinite, message));
        };
        for (metric, value) in metrics {
            self.samples.push(metric, value);
        }
        self.counted = number;
        Ok(Observation::Counted(repetition, Step { number, value }))
    }

    /// Whether every repetition that counts was measured.
    pub fn is_complete(&self) -> bool {
        self.counted >= self.workload.repetitions
    }

    /// Repetitions that will count.
    pub fn repetitions(&self) -> u32 {
        self.workload.repetitions
    }

    /// Repetitions that count, so far.
    pub fn counted(&self) -> u32 {
        self.counted
    }

    /// The settings as the engine took them, as JSON; null when it never came so far.
    pub fn effective(&self) -> serde_json::Value {
        self.effective.as_ref().and_then(|effective| serde_json::to_value(effective).ok()).unwrap_or_default()
    }

    /// The samples.
    pub fn into_samples(self) -> Samples {
        self.samples
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repetition(warmup: bool, decode_tok_s: f64) -> Event {
        Event::Repetition(Repetition {
            index: 0,
            warmup,
            prefill_tok_s: 100.0,
            decode_tok_s,
            ttft_ms: 10.0,
            itl_ms: 5.0,
        })
    }

    #[test]
    fn warmup_leaves_no_sample() {
        let mut collector = Collector::new(Workload { repetitions: 2, ..Workload::default() }, Objective::Decode);
        assert!(matches!(collector.observe(&repetition(true, 1.0)), Ok(Observation::Warmup(_))));
        let Ok(Observation::Counted(_, step)) = collector.observe(&repetition(false, 7.0)) else { panic!() };
        assert_eq!(step, Step { number: 1, value: 7.0 });
        assert!(!collector.is_complete());
        collector.observe(&repetition(false, 9.0)).unwrap();
        assert!(collector.is_complete());
        assert_eq!((collector.counted(), collector.repetitions()), (2, 2));
        collector.observe(&Event::Done { ram_peak_mib: 5.0, vram_peak_mib: None }).unwrap();
        let samples = collector.into_samples();
        assert_eq!(samples.get(Metric::DecodeTokS), [7.0, 9.0]);
        assert_eq!(samples.get(Metric::RamPeakMib), [5.0]);
        assert!(samples.get(Metric::VramPeakMib).is_empty());
    }

    #[test]
    fn objective_that_is_not_finite_is_a_failure() {
        let mut collector = Collector::new(Workload::default(), Objective::Decode);
        assert_eq!(collector.observe(&repetition(false, f64::NAN)).unwrap_err().kind, FailKind::NonFinite);
        let mut collector = Collector::new(Workload::default(), Objective::Balanced);
        let failure = collector.observe(&repetition(false, 0.0)).unwrap_err();
        assert_eq!(failure.message, "repetition 1: `balanced` is not a finite number");
        assert_eq!(collector.counted(), 0);
    }
}
