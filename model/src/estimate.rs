//! Predicts for a llama.cpp configuration what memory it needs, how fast it is, and what the engine makes of its settings.
//!
//! Arithmetic on the model's header and the machine's inventory: nothing is loaded, read or measured. Memory follows
//! the engine's own rules and is checked against its buffers; speed is a roofline of which only ratios are meant. Both
//! advise a search, they decide nothing. Formulas, sources and errors: `docs/estimate.md`.
//!
//! The results reach samplers, so they must be the same on every machine: sums, products and comparisons only.

use fleetune_core::inventory::Inventory;
use fleetune_core::runner::Settings;
use fleetune_core::value::Params;
use fleetune_core::workload::Workload;

use crate::metadata::ModelMetadata;

mod effective;
mod facts;
mod hardware;
mod memory;
mod placement;
mod speed;

pub(crate) use effective::can_repack;
pub use effective::effective;
pub(crate) use memory::bytes_per_element;

use facts::Facts;
use hardware::Machine;
use placement::Placement;

/// Where memory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// The machine's own.
    Host,
    /// That of a GPU, by its place in the inventory.
    Gpu(usize),
}

/// What a configuration needs of one memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DeviceMemory {
    /// Which memory.
    pub place: Place,
    /// What is needed, MiB.
    pub need_mib: f64,
    /// What there is for it, MiB; 0 where the inventory does not tell.
    pub capacity_mib: f64,
}

impl DeviceMemory {
    /// Need over capacity; `None` where the capacity is unknown.
    pub fn ratio(&self) -> Option<f64> {
        (self.capacity_mib > 0.0).then(|| self.need_mib / self.capacity_mib)
    }
}

/// What is predicted for one configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Estimation {
    /// Need over capacity of the fullest memory: above 1 it is not expected to fit.
    pub memory_ratio: Option<f64>,
    /// The host's memory, then that of each GPU; empty where the model's layout is unknown.
    pub memory: Vec<DeviceMemory>,
    /// Generated tokens a second. Meant for ratios between configurations.
    pub decode_tok_s: Option<f64>,
    /// Prompt tokens a second. Meant for ratios between configurations.
    pub prefill_tok_s: Option<f64>,
    /// The settings as the engine takes them; the given parameters where they are no settings. Configurations for which
    /// these are equal are one.
    pub effective: Params,
}

/// Predicts configurations of one model on one machine for one workload. Cheap to ask: some microseconds.
#[derive(Clone, Debug)]
pub struct Estimator {
    model: ModelMetadata,
    inventory: Inventory,
    workload: Workload,
    facts: Option<Facts>,
    machine: Machine,
}

impl Estimator {
    /// Prepares what all configurations share.
    pub fn new(model: &ModelMetadata, inventory: &Inventory, workload: &Workload) -> Self {
        Self {
            facts: model.layout.as_ref().and_then(|layout| Facts::new(model, layout)),
            machine: Machine::new(inventory),
            model: model.clone(),
            inventory: inventory.clone(),
            workload: *workload,
        }
    }

    /// Predicts the configuration of `params`: all of a trial's parameters, fixed and searched.
    pub fn estimate(&self, params: &Params) -> Estimation {
        match Settings::from_params(params) {
            Ok(settings) => self.estimate_settings(&settings),
            // The engine will refuse them; until then nothing can be said.
            Err(_) => Estimation {
                memory_ratio: None,
                memory: Vec::new(),
                decode_tok_s: None,
                prefill_tok_s: None,
                effective: params.clone(),
            },
        }
    }

    /// Predicts the configuration of `settings`; what is absent is the engine's default.
    pub fn estimate_settings(&self, settings: &Settings) -> Estimation {
        let effective = effective(settings, &self.model, &self.inventory, &self.workload);
        let mut estimation = Estimation {
            memory_ratio: None,
            memory: Vec::new(),
            decode_tok_s: None,
            prefill_tok_s: None,
            effective: effective.to_params(),
        };
        let Some(facts) = &self.facts else { return estimation };
        let Some(placement) = Placement::new(&effective, facts, &self.machine) else { return estimation };
        estimation.memory = memory::needs(&effective, &placement, facts, &self.machine);
        estimation.memory_ratio = estimation.memory.iter().filter_map(DeviceMemory::ratio).max_by(f64::total_cmp);
        let speeds = speed::Speeds::new(&effective, &placement, facts, &self.machine, &self.workload);
        estimation.decode_tok_s = speeds.decode_tok_s();
        estimation.prefill_tok_s = speeds.prefill_tok_s();
        estimation
    }

    /// Whether all devices are in the tables, so that speeds are roughly what will be measured and not only ratios.
    pub fn knows_the_hardware(&self) -> bool {
        self.machine.is_known()
    }
}

#[cfg(test)]
mod tests;
