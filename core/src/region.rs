//! Unsafe regions: configurations at or beyond one under which machines or engines went down.
//!
//! What happened is an [`Incident`]; [`learn`] makes regions of incidents. A pure function, so that every process sees
//! the same ones, and a region that is deleted is gone with its incidents.

use serde::{Deserialize, Serialize};

use crate::ids::{Attempt, Timestamp, TrialNumber, WorkerId};
use crate::space::{Bound, Exclusion};
use crate::study::Benchmark;
use crate::trial::FailKind;
use crate::value::{Params, Value};

/// Settings of which more is never less dangerous. All others count only where they are equal.
pub const ORDERED: [&str; 6] = ["n_gpu_layers", "n_ctx", "n_batch", "n_ubatch", "n_threads", "n_threads_batch"];

/// Most regions of one device class and model.
pub const MAX_REGIONS: usize = 64;

/// What the engine does where nothing is asked of it, as far as that is the same on every machine.
fn engine_defaults() -> [(&'static str, Value); 12] {
    [
        ("n_gpu_layers", Value::Int(-1)),
        ("n_batch", Value::Int(2048)),
        ("n_ubatch", Value::Int(512)),
        ("flash_attn", "auto".into()),
        ("type_k", "f16".into()),
        ("type_v", "f16".into()),
        ("offload_kqv", true.into()),
        ("op_offload", true.into()),
        ("split_mode", "layer".into()),
        ("main_gpu", Value::Int(0)),
        ("load_mode", "auto".into()),
        ("repack", true.into()),
    ]
}

/// Everything that a run with `params` asks of the engine, its defaults filled in.
pub fn configuration(benchmark: &Benchmark, params: &Params) -> Params {
    let mut all = benchmark.fixed.clone();
    all.extend(params.clone());
    all.retain(|_, value| *value != Value::Null);
    for (name, value) in engine_defaults() {
        all.entry(name.to_owned()).or_insert(value);
    }
    let needed = i64::from(benchmark.workload.prompt) + i64::from(benchmark.workload.gen_tokens);
    all.entry("n_ctx".to_owned()).or_insert(Value::Int(needed));
    all
}

/// `configuration` with what the engine makes of it: no more layers than there are, no batch above the context.
/// `layers`: how many there are to offload, the output layer counted; 0 when unknown.
pub fn point(mut configuration: Params, layers: u32) -> Params {
    let whole = |configuration: &Params, name: &str| configuration.get(name).and_then(Value::as_i64);
    if let Some(asked) = whole(&configuration, "n_gpu_layers").filter(|_| layers > 0) {
        let all = i64::from(layers);
        let real = if asked < 0 { all } else { asked.min(all) };
        configuration.insert("n_gpu_layers".to_owned(), Value::Int(real));
    }
    for (name, limit) in [("n_batch", "n_ctx"), ("n_ubatch", "n_batch")] {
        if let (Some(asked), Some(most)) = (whole(&configuration, name), whole(&configuration, limit)) {
            configuration.insert(name.to_owned(), Value::Int(asked.min(most)));
        }
    }
    configuration
}

/// What a setting must be for a configuration to lie at or beyond a point that has it so.
fn bound(name: &str, value: &Value) -> Bound {
    match value.as_f64().filter(|_| ORDERED.contains(&name)) {
        Some(number) if name == "n_gpu_layers" && number < 0.0 => Bound::Is(value.clone()),
        Some(number) if name == "n_gpu_layers" => Bound::AtLeastOrAll(number),
        Some(number) => Bound::AtLeast(number),
        None => Bound::Is(value.clone()),
    }
}

/// Whether `configuration` lies at or beyond `point`. Where it does not say how much of an ordered setting it asks for,
/// it may be any amount; of any other setting, none.
pub fn is_beyond(configuration: &Params, point: &Params) -> bool {
    point.iter().all(|(name, value)| match configuration.get(name) {
        Some(own) => bound(name, value).holds(own),
        None => ORDERED.contains(&name.as_str()),
    })
}

/// Something that went down under a configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    /// From 1, in order.
    pub id: i64,
    /// Of the machines for which it counts.
    pub device_class: String,
    /// The model that was run.
    pub model_hash: String,
    /// `WorkerLost`, `HostCrash` or `Crash`.
    pub kind: FailKind,
    /// Whose.
    pub worker: WorkerId,
    /// Name of the study.
    pub study: String,
    /// The trial.
    pub trial: TrialNumber,
    /// Its execution.
    pub attempt: Attempt,
    /// When it was found out.
    pub at: Timestamp,
    /// The configuration: see [`point`].
    pub settings: Params,
    /// What was said of it.
    pub message: String,
    /// A configuration at or beyond this one was measured, so that it says nothing about others.
    pub refuted: bool,
}

impl Incident {
    /// Whether both together say more than each alone.
    fn agrees(&self, other: &Self) -> bool {
        match self.kind {
            FailKind::WorkerLost => {
                matches!(other.kind, FailKind::WorkerLost | FailKind::HostCrash) && self.worker != other.worker
            }
            FailKind::Crash => {
                other.kind == FailKind::Crash
                    && self.id != other.id
                    && signature(&self.message) == signature(&other.message)
            }
            _ => false,
        }
    }
}

/// How it died, without what differs between two deaths of one cause: numbers, addresses.
fn signature(message: &str) -> String {
    let words = message.split_whitespace().filter(|word| !word.contains("0x"));
    words.map(|word| word.chars().filter(|c| !c.is_ascii_digit()).collect()).collect::<Vec<String>>().join(" ")
}

/// A region: everything at or beyond one configuration, on one device class and model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UnsafeRegion {
    /// That of the incident at its corner.
    pub id: i64,
    /// Of the machines for which it holds.
    pub device_class: String,
    /// The model for which it holds.
    pub model_hash: String,
    /// The corner.
    pub settings: Params,
    /// What happened at or beyond it, oldest first; not empty.
    pub evidence: Vec<Incident>,
}

impl UnsafeRegion {
    /// Whether a run that asks for `configuration` lies in it. See [`configuration`].
    pub fn contains(&self, configuration: &Params) -> bool {
        is_beyond(configuration, &self.settings)
    }

    /// Why it is one, for people.
    pub fn why(&self) -> String {
        let count = |kind| self.evidence.iter().filter(|incident| incident.kind == kind).count();
        let (hosts, workers, crashes) =
            (count(FailKind::HostCrash), count(FailKind::WorkerLost), count(FailKind::Crash));
        let mut parts = Vec::new();
        for (number, one, many) in [
            (hosts, "a machine went down", "machines went down"),
            (workers, "a worker was lost", "workers were lost"),
            (crashes, "the engine crashed", "crashes of the engine"),
        ] {
            match number {
                0 => {}
                1 => parts.push(one.to_owned()),
                _ => parts.push(format!("{number} {many}")),
            }
        }
        let what = parts.join(", ");
        format!(
            "at or beyond a configuration under which machines of this class failed: {what} (unsafe region {})",
            self.id
        )
    }

    /// What it means for a search of `parameters` in which everything else is as `benchmark` fixes it; none when it does
    /// not concern that search, no bound when it leaves nothing of it.
    pub fn exclusion(&self, benchmark: &Benchmark, is_searched: impl Fn(&str) -> bool) -> Option<Exclusion> {
        exclusion(&self.settings, &self.why(), benchmark, is_searched)
    }
}

/// What a region with this corner means for a search: see [`UnsafeRegion::exclusion`].
pub fn exclusion(
    corner: &Params,
    why: &str,
    benchmark: &Benchmark,
    is_searched: impl Fn(&str) -> bool,
) -> Option<Exclusion> {
    let fixed = configuration(benchmark, &Params::new());
    let (searched, held): (Params, Params) = corner.clone().into_iter().partition(|(name, _)| is_searched(name));
    let bounds = searched.iter().map(|(name, value)| (name.clone(), bound(name, value))).collect();
    is_beyond(&fixed, &held).then(|| Exclusion { bounds, why: why.to_owned() })
}

/// The regions that these incidents of one device class and model show, by id.
///
/// A corner is a configuration under which a machine went down, or a worker was lost while another was lost at or beyond
/// it, or the engine crashed as it crashed another time at or beyond it. A region inside another one is left out; of
/// more than [`MAX_REGIONS`] the newest remain.
pub fn learn(incidents: &[Incident]) -> Vec<UnsafeRegion> {
    let valid: Vec<&Incident> = incidents.iter().filter(|incident| !incident.refuted).collect();
    let beyond = |corner: &Incident| -> Vec<Incident> {
        valid.iter().filter(|other| is_beyond(&other.settings, &corner.settings)).map(|&other| other.clone()).collect()
    };
    let mut regions: Vec<UnsafeRegion> = Vec::new();
    for corner in &valid {
        let evidence = beyond(corner);
        if corner.kind == FailKind::HostCrash || evidence.iter().any(|other| corner.agrees(other)) {
            regions.push(UnsafeRegion {
                id: corner.id,
                device_class: corner.device_class.clone(),
                model_hash: corner.model_hash.clone(),
                settings: corner.settings.clone(),
                evidence,
            });
        }
    }
    let is_inside = |region: &UnsafeRegion| {
        regions.iter().any(|other| {
            let wider = other.contains(&region.settings);
            wider && (!region.contains(&other.settings) || other.id < region.id)
        })
    };
    let mut widest: Vec<UnsafeRegion> = regions.iter().filter(|region| !is_inside(region)).cloned().collect();
    widest.sort_by_key(|region| region.id);
    let surplus = widest.len().saturating_sub(MAX_REGIONS);
    widest.split_off(surplus)
}

#[cfg(test)]
mod tests;
