//! Everything that speaks against a run on this machine: the rules, and what a fleet has learned by losing machines.

use std::fmt;

use fleetune_core::region::{UnsafeRegion, configuration};
use fleetune_core::study::Benchmark;
use fleetune_core::{Inventory, Params};

use super::{Rule, Rules};

/// What is asked before a run.
#[derive(Debug)]
pub struct Guard<'a> {
    /// The machine's rules.
    pub rules: &'a Rules,
    /// The machine.
    pub inventory: &'a Inventory,
    /// Layers there are to offload, the output layer counted; 0 when unknown.
    pub layers: u32,
    /// The study's word on them.
    pub benchmark: &'a Benchmark,
    /// What went down on machines like this one, whatever the model.
    pub regions: &'a [UnsafeRegion],
    /// The model's identity.
    pub model_hash: &'a str,
}

/// Why something is not run.
#[derive(Debug)]
pub enum Objection<'a> {
    /// A rule forbids it.
    Rule(&'a Rule),
    /// It lies in an unsafe region.
    Region(&'a UnsafeRegion),
}

impl<'a> Guard<'a> {
    /// What speaks against `params`, the complete settings of a run.
    pub fn objection(&self, params: &Params) -> Option<Objection<'a>> {
        let allowed = self.benchmark.allow_wsl_unsafe;
        if let Some(rule) = self.rules.violated(self.inventory, params, self.layers, allowed) {
            return Some(Objection::Rule(rule));
        }
        if self.benchmark.ignore_regions {
            return None;
        }
        let configuration = configuration(self.benchmark, params);
        let regions = self.regions.iter().filter(|region| region.model_hash == self.model_hash);
        regions.into_iter().find(|region| region.contains(&configuration)).map(Objection::Region)
    }
}

impl fmt::Display for Objection<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule(rule) => {
                let allow = if rule.wsl { "; `--allow-wsl-unsafe` runs it nevertheless" } else { "" };
                write!(f, "{} (rule `{}`){allow}", rule.why, rule.name)
            }
            Self::Region(region) => f.write_str(&region.why()),
        }
    }
}
