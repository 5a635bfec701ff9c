//! Hyperband: trials are dealt to brackets of successive halving whose first rungs lie at different steps.
//!
//! Source: Li et al. 2018, JMLR 18, as Optuna runs it: a bracket gets trials by a checksum of study and number.

use fleetune_core::study::HyperbandConfig;
use fleetune_core::{Direction, TrialNumber};

use super::halving::{Halving, Resource};
use super::{Candidate, Field, Pruner};

pub(super) struct Hyperband {
    pub(super) options: HyperbandConfig,
    pub(super) direction: Direction,
}

/// Shares of the brackets.
struct Brackets(Vec<u64>);

impl Brackets {
    /// B = ⌊log max/min to base eta⌋ + 1 brackets; bracket b gets ⌈B eta^s / (s + 1)⌉ shares, s = B − 1 − b.
    fn new(options: HyperbandConfig, max_resource: u32) -> Self {
        let count = rounded_log(options.reduction_factor, max_resource, options.min_resource) + 1;
        let share = |bracket: u32| {
            let s = count - 1 - bracket;
            let eta = u64::from(options.reduction_factor).saturating_pow(s);
            // Optuna divides in floating point; below 2^53 that is the same.
            u64::from(count).saturating_mul(eta).div_ceil(u64::from(s) + 1)
        };
        Self((0..count).map(share).collect())
    }

    fn of(&self, study: &str, number: TrialNumber) -> usize {
        let mut n = u64::from(crc32(format!("{study}_{}", number.0).as_bytes())) % self.0.iter().sum::<u64>();
        for (bracket, share) in self.0.iter().enumerate() {
            if n < *share {
                return bracket;
            }
            n -= share;
        }
        self.0.len() - 1
    }
}

/// The bracket of a trial, where a whole trial has `max_resource` steps.
pub fn bracket_of(options: HyperbandConfig, max_resource: u32, study: &str, number: TrialNumber) -> usize {
    Brackets::new(options, max_resource).of(study, number)
}

/// How many brackets there are, where a whole trial has `max_resource` steps.
pub fn brackets(options: HyperbandConfig, max_resource: u32) -> usize {
    Brackets::new(options, max_resource).0.len()
}

impl Pruner for Hyperband {
    fn should_stop(&self, field: &Field<'_>, own: &Candidate<'_>) -> bool {
        match self.options.max_resource {
            Some(max_resource) => self.stops_within(max_resource, field, own),
            None => field
                .since_first_complete()
                .is_some_and(|(last_step, field)| self.stops_within(last_step.saturating_add(1), &field, own)),
        }
    }
}

impl Hyperband {
    /// The verdict, where a whole trial has `max_resource` steps.
    fn stops_within(&self, max_resource: u32, field: &Field<'_>, own: &Candidate<'_>) -> bool {
        let brackets = Brackets::new(self.options, max_resource);
        let bracket = brackets.of(field.study, own.number);
        let trials = field.trials.iter().filter(|trial| brackets.of(field.study, trial.number) == bracket);
        let field = Field { trials: trials.copied().collect(), ..*field };
        let halving = Halving {
            direction: self.direction,
            resource: Resource::Fixed(self.options.min_resource.into()),
            reduction: self.options.reduction_factor.into(),
            skipped_rungs: bracket as u32,
            bootstrap: self.options.bootstrap_count as usize,
        };
        halving.should_stop(&field, own)
    }
}

/// The whole part of the logarithm of most / least to `base`, 0 where most < least, as the quotient of two rounded
/// logarithms gives it: at whole powers it may be one too small. It is for 243 to base 3, and Optuna deals to that many
/// brackets.
fn rounded_log(base: u32, most: u32, least: u32) -> u32 {
    let power = |exponent: u32| u64::from(base).checked_pow(exponent)?.checked_mul(least.into());
    let fits = |exponent: &u32| power(*exponent).is_some_and(|power| power <= most.into());
    let exponent = (1..=u32::BITS).take_while(fits).last().unwrap_or(0);
    if exponent == 0 || power(exponent) != Some(most.into()) {
        return exponent;
    }
    // n ln(base), rounded once: ln(2^k m) = k ln 2 + 2 artanh((m − 1) / (m + 1)) in fixed point of 64 bits.
    let k = base.ilog2();
    let z = (u128::from(base - (1 << k)) << 64) / (u128::from(base) + (1 << k));
    let (mut term, mut artanh, mut divisor) = (z, 0, 1);
    while term > 0 {
        artanh += term / divisor;
        term = (((term * z) >> 64) * z) >> 64;
        divisor += 2;
    }
    let log = 2 * artanh + ((u128::from(k) * LN_2_BY_2_TO_100) >> 36);
    let quotient = (u128::from(exponent) * log) as f64 / log as f64;
    if quotient < f64::from(exponent) { exponent - 1 } else { exponent }
}

/// ln 2 in fixed point of 100 bits.
const LN_2_BY_2_TO_100: u128 = 0xb_1721_7f7d_1cf7_9abc_9e3b_3980;

/// The checksum of zlib.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_zlibs() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
        assert_eq!(crc32(b""), 0);
    }

    #[test]
    fn shares_halve_towards_the_last_bracket() {
        let shares = |max| Brackets::new(HyperbandConfig::default(), max).0;
        assert_eq!(shares(1), [1]);
        assert_eq!(shares(9), [9, 5, 3]);
        assert_eq!(shares(81).len(), 5);
        assert_eq!(shares(243).len(), 5, "log 243 to base 3 is rounded down");
    }
}
