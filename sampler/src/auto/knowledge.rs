//! What is known about configurations before they run, held against what was seen.
//!
//! An estimate of memory is corrected by a factor and dropped when it explains failures worse than chance; one of the
//! objective only says in what proportion values stand, and [`super::models`] drops it when values disagree.

use fleetune_core::{Direction, Params, Value};

use super::history::{Blame, Fate, Row};
use crate::seam::Estimate;

/// Estimated need over capacity up to which a configuration fits, and the distance over which that changes.
const FITS: f64 = 0.98;
const EDGE: f64 = 0.05;
/// What is believed at most that a configuration does not run, and that it does, on the scale of labels −1 to 1.
const BELIEF: (f64, f64) = (-0.9, 0.6);
/// A corrected estimate of memory is wrong with this probability, whatever it says.
const SURPRISE: f64 = 0.05;
/// Factors tried for the memory need: e^(−SHIFTS·STEP) to e^(SHIFTS·STEP), normal around 1.
const SHIFTS: i32 = 20;
const SHIFT_STEP: f64 = 0.05;
const SHIFT_DEVIATION: f64 = 0.25;
/// How much worse than chance (a log likelihood) an estimate may explain what was seen.
const PATIENCE: f64 = 2.0;

/// What the estimate says of one configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Facts {
    /// Need over capacity by device, corrected; empty when unknown.
    ratios: Vec<f64>,
    /// Logarithm of the estimated objective.
    pub(super) log_objective: Option<f64>,
}

impl Facts {
    /// Need over capacity of the fullest device.
    pub(super) fn ratio(&self) -> Option<f64> {
        self.ratios.iter().copied().reduce(f64::max)
    }

    pub(super) fn fits(&self) -> bool {
        self.ratio().is_none_or(|ratio| ratio <= FITS)
    }

    /// What is believed before anything was seen: 1 it runs, −1 it fails.
    pub(super) fn belief(&self) -> f64 {
        let (low, high) = BELIEF;
        self.ratio().map_or(0.0, |ratio| ((FITS - ratio) / EDGE).clamp(low, high))
    }

    /// Whether this needs at least as much of every device as `other`, and `slack` more.
    fn needs_more(&self, other: &Self, slack: f64) -> bool {
        let same = !self.ratios.is_empty() && self.ratios.len() == other.ratios.len();
        same && self.ratios.iter().zip(&other.ratios).all(|(own, other)| *own >= *other + slack)
    }

    /// Whether this needs at least as much as `other` and `slack` more of the device that `other` fills most: if memory
    /// was short, then there. What moves from one device to another needs less of the first and still does not fit.
    fn overfills(&self, other: &Self, slack: f64) -> bool {
        let fullest = (0..other.ratios.len()).reduce(|a, b| if other.ratios[b] > other.ratios[a] { b } else { a });
        let same = self.ratios.len() == other.ratios.len();
        fullest.is_some_and(|device| same && self.ratios[device] >= other.ratios[device] + slack)
    }
}

/// The estimate in the light of the rows.
pub(super) struct Knowledge<'a> {
    estimate: &'a dyn Estimate,
    direction: Direction,
    /// Factor of the memory need; `None` when the estimate is not believed.
    factor: Option<f64>,
    /// Facts of each row.
    rows: Vec<Facts>,
    /// Needs that were too much, needs that were met, and how far the two overlap.
    failed: Vec<Facts>,
    ran: Vec<Facts>,
    slack: f64,
}

impl<'a> Knowledge<'a> {
    pub(super) fn new(estimate: &'a dyn Estimate, direction: Direction, rows: &[Row]) -> Self {
        let (failed, ran) = (Vec::new(), Vec::new());
        let mut knowledge = Self { estimate, direction, factor: Some(1.0), rows: Vec::new(), failed, ran, slack: 0.0 };
        let raw = rows.iter().map(|row| knowledge.facts(&row.params)).collect::<Vec<_>>();
        let seen = rows.iter().zip(&raw).filter_map(|(row, facts)| Some((facts.ratio()?, row.fits_memory()?)));
        knowledge.factor = factor(&seen.collect::<Vec<_>>());
        knowledge.rows = rows.iter().map(|row| knowledge.facts(&row.params)).collect();
        for (row, facts) in rows.iter().zip(&knowledge.rows) {
            match row.fits_memory() {
                Some(true) => knowledge.ran.push(facts.clone()),
                Some(false) => knowledge.failed.push(facts.clone()),
                None => {}
            }
        }
        knowledge.settle();
        knowledge
    }

    /// One contradiction (what needs more ran, what needs less did not) is an accident, and both are forgotten; from
    /// two on the rule holds only beyond the widest of them.
    fn settle(&mut self) {
        let mut pairs = Vec::new();
        for (f, failed) in self.failed.iter().enumerate() {
            for (r, ran) in self.ran.iter().enumerate() {
                if ran.overfills(failed, 0.0) {
                    let gap = |facts: &Facts| facts.ratio().unwrap_or(0.0);
                    pairs.push((f, r, gap(ran) - gap(failed)));
                }
            }
        }
        match pairs[..] {
            [] => {}
            [(f, r, _)] => {
                self.failed.swap_remove(f);
                self.ran.swap_remove(r);
            }
            _ => self.slack = pairs.iter().map(|(_, _, gap)| gap).copied().fold(0.0, f64::max) + f64::EPSILON,
        }
    }

    /// What the estimate says of a configuration.
    pub(super) fn facts(&self, params: &Params) -> Facts {
        let finite = |ratios: Vec<f64>| if ratios.iter().all(|ratio| ratio.is_finite()) { ratios } else { Vec::new() };
        let ratios = self.factor.map(|factor| {
            finite(self.estimate.memory_ratios(params)).into_iter().map(|ratio| ratio * factor).collect()
        });
        let objective = self.estimate.objective(params).filter(|objective| objective.is_finite() && *objective > 0.0);
        Facts { ratios: ratios.unwrap_or_default(), log_objective: objective.map(libm::log) }
    }

    /// Which estimates of the objective are better.
    pub(super) fn direction(&self) -> Direction {
        self.direction
    }

    /// The facts of the rows it was made for.
    pub(super) fn rows(&self) -> &[Facts] {
        &self.rows
    }

    /// Whether memory needs are known and believed.
    pub(super) fn knows_memory(&self) -> bool {
        self.rows.iter().any(|facts| !facts.ratios.is_empty())
    }

    /// Whether a configuration needs at least as much as one for which memory was short, of the device that it filled.
    pub(super) fn is_hopeless(&self, facts: &Facts) -> bool {
        self.failed.iter().any(|failed| facts.overfills(failed, self.slack))
    }

    /// Whether memory suffices as far as can be told: a configuration needs no more than one that ran.
    pub(super) fn is_safe(&self, facts: &Facts) -> bool {
        self.ran.iter().any(|ran| ran.needs_more(facts, self.slack))
    }
}

/// The most probable factor of the memory need given needs and whether they were met; `None` when even that explains
/// them worse than chance does.
fn factor(seen: &[(f64, bool)]) -> Option<f64> {
    let log_likelihood = |shift: f64| {
        let factor = libm::exp(shift);
        let term = |(ratio, fits): &(f64, bool)| {
            let x = (FITS - ratio * factor) / EDGE;
            let fitting = SURPRISE + (1.0 - 2.0 * SURPRISE) / (1.0 + libm::exp(-2.0 * x));
            libm::log(if *fits { fitting } else { 1.0 - fitting })
        };
        seen.iter().map(term).sum::<f64>()
    };
    let prior = |shift: f64| 0.5 * (shift / SHIFT_DEVIATION) * (shift / SHIFT_DEVIATION);
    let mut best = (f64::NEG_INFINITY, 0.0);
    // From the middle outward: of equals the nearest to what was estimated.
    for step in 0..=SHIFTS {
        for shift in [f64::from(step) * SHIFT_STEP, -f64::from(step) * SHIFT_STEP] {
            let posterior = log_likelihood(shift) - prior(shift);
            if posterior > best.0 {
                best = (posterior, shift);
            }
        }
    }
    let met = seen.iter().filter(|(_, fits)| *fits).count() as f64;
    let share = (met + 1.0) / (seen.len() as f64 + 2.0);
    let chance = met * libm::log(share) + (seen.len() as f64 - met) * libm::log(1.0 - share);
    (log_likelihood(best.1) >= chance - PATIENCE).then(|| libm::exp(best.1))
}

/// A setting that never needs less memory when it grows: its size.
fn memory_size(name: &str, value: &Value) -> Option<f64> {
    match name {
        "n_gpu_layers" | "n_ctx" | "n_batch" | "n_ubatch" | "n_parallel" => value.as_f64(),
        "type_k" | "type_v" => match value.as_str()? {
            "f32" => Some(32.0),
            "f16" | "bf16" => Some(16.0),
            "q8_0" => Some(8.5),
            "q5_1" => Some(6.0),
            "q5_0" => Some(5.5),
            "q4_1" => Some(5.0),
            "q4_0" | "iq4_nl" => Some(4.5),
            _ => None,
        },
        _ => None,
    }
}

/// Whether `a` differs from `b` only in settings that need memory, and in none of them needs less.
fn needs_at_least(a: &Params, b: &Params) -> bool {
    let setting = |(name, own): (&String, &Value)| {
        let Some(other) = b.get(name) else { return false };
        own == other || memory_size(name, own).zip(memory_size(name, other)).is_some_and(|(own, other)| own >= other)
    };
    a.len() == b.len() && a.iter().all(setting)
}

/// Whether `params` needs at least as much memory as a row for which memory was short, by the names of settings alone.
/// A row is no evidence where something that needs as much did run.
pub(super) fn is_dominated(params: &Params, rows: &[Row]) -> bool {
    let short = |row: &&Row| matches!(row.fate, Fate::Failed(Blame::Memory));
    let refuted = |row: &Row| rows.iter().any(|ran| ran.has_run() && needs_at_least(&ran.params, &row.params));
    rows.iter().filter(short).any(|row| needs_at_least(params, &row.params) && !refuted(row))
}

/// Whether `params` needs at most as much memory as a row that ran, by the names of settings alone, and nothing that
/// needs no more was short of it.
pub(super) fn is_proven(params: &Params, rows: &[Row]) -> bool {
    let short = |row: &Row| matches!(row.fate, Fate::Failed(Blame::Memory));
    rows.iter().any(|row| row.has_run() && needs_at_least(&row.params, params))
        && !rows.iter().any(|row| short(row) && needs_at_least(params, &row.params))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(layers: i64, kv: &str, fa: &str) -> Params {
        [("n_gpu_layers", Value::Int(layers)), ("type_k", kv.into()), ("flash_attn", fa.into())]
            .map(|(name, value)| (name.to_owned(), value))
            .into()
    }

    fn row(params: Params, ran: bool) -> Row {
        let fate = if ran { Fate::Ran { measured: None, constraints: vec![] } } else { Fate::Failed(Blame::Memory) };
        Row { number: 0, params, point: vec![], losses: vec![], seconds: 0.0, fate }
    }

    /// The layers over a hundred are the need.
    struct Layers;

    impl Estimate for Layers {
        fn memory_ratios(&self, params: &Params) -> Vec<f64> {
            vec![params["n_gpu_layers"].as_f64().unwrap() / 100.0]
        }
    }

    #[test]
    fn a_factor_is_learned_and_nonsense_is_dropped() {
        assert_eq!(factor(&[]), Some(1.0));
        let seen = |border: f64| (0..20).map(|k| f64::from(k) / 10.0).map(move |ratio| (ratio, ratio < border));
        let found = |border: f64| factor(&seen(border).collect::<Vec<_>>()).unwrap();
        assert!(
            (found(1.0) - 1.0).abs() < 0.1 && (0.6..0.72).contains(&found(1.5)) && (1.3..1.7).contains(&found(0.7))
        );
        let nonsense = (0..12).map(|k| (if k % 4 < 2 { 0.5 } else { 1.5 }, k % 2 == 0)).collect::<Vec<_>>();
        assert_eq!(factor(&nonsense), None);
        let upside_down = seen(1.0).map(|(ratio, fits)| (ratio, !fits)).collect::<Vec<_>>();
        assert_eq!(factor(&upside_down), None);
    }

    #[test]
    fn what_needs_more_than_what_failed_is_hopeless() {
        let rows = [row(params(90, "f16", "on"), true), row(params(95, "f16", "on"), false)];
        let knowledge = Knowledge::new(&Layers, Direction::Minimize, &rows);
        let facts = |layers| knowledge.facts(&params(layers, "q8_0", "off"));
        assert!(knowledge.is_hopeless(&facts(95)) && !knowledge.is_hopeless(&facts(94)));
        assert!(knowledge.is_safe(&facts(90)) && !knowledge.is_safe(&facts(91)));
    }

    /// The layers over a hundred are the need of the card, the others that of the host.
    struct Split;

    impl Estimate for Split {
        fn memory_ratios(&self, params: &Params) -> Vec<f64> {
            let layers = params["n_gpu_layers"].as_f64().unwrap();
            vec![(150.0 - layers) / 300.0, layers / 100.0]
        }
    }

    #[test]
    fn what_fills_the_card_still_more_is_hopeless_though_it_spares_the_host() {
        let rows = [row(params(60, "f16", "on"), true), row(params(95, "f16", "on"), false)];
        let knowledge = Knowledge::new(&Split, Direction::Minimize, &rows);
        let facts = |layers| knowledge.facts(&params(layers, "f16", "on"));
        assert!(knowledge.is_hopeless(&facts(140)) && !knowledge.is_hopeless(&facts(94)));
        assert!(!knowledge.is_safe(&facts(50)) && knowledge.is_safe(&facts(60)));
    }

    #[test]
    fn one_contradiction_is_forgotten_and_two_loosen_the_rule() {
        let mut rows = vec![row(params(90, "f16", "on"), false), row(params(93, "f16", "on"), true)];
        let hopeless = |rows: &[Row], layers| {
            let knowledge = Knowledge::new(&Layers, Direction::Minimize, rows);
            assert!(knowledge.knows_memory());
            knowledge.is_hopeless(&knowledge.facts(&params(layers, "f16", "on")))
        };
        assert!(!hopeless(&rows, 200));
        rows.push(row(params(94, "f16", "on"), true));
        assert!(!hopeless(&rows, 93) && hopeless(&rows, 99));
    }

    #[test]
    fn settings_that_need_memory_are_known_by_name() {
        let failed = [row(params(20, "q8_0", "on"), false)];
        for (layers, kv, fa, expected) in [
            (20, "q8_0", "on", true),
            (30, "f16", "on", true),
            (19, "f16", "on", false),
            (30, "q4_0", "on", false),
            (30, "f16", "off", false),
        ] {
            assert_eq!(is_dominated(&params(layers, kv, fa), &failed), expected, "{layers} {kv} {fa}");
        }
        let mut ran = vec![row(params(20, "q8_0", "on"), true), row(params(30, "q8_0", "on"), false)];
        for (layers, kv, fa, expected) in [
            (20, "q8_0", "on", true),
            (19, "q4_0", "on", true),
            (21, "q4_0", "on", false),
            (20, "f16", "on", false),
            (4, "q4_0", "off", false),
        ] {
            assert_eq!(is_proven(&params(layers, kv, fa), &ran), expected, "{layers} {kv} {fa}");
        }
        ran.push(row(params(5, "q4_0", "on"), false));
        assert!(!is_proven(&params(19, "q4_0", "on"), &ran) && is_proven(&params(4, "q4_0", "on"), &ran));
        let refuted = [row(params(20, "q8_0", "on"), false), row(params(25, "q8_0", "on"), true)];
        assert!(!is_dominated(&params(30, "f16", "on"), &refuted));
    }
}
