//! The random stream of a trial, and draws from it whose bits are ours: distributions of the crate `rand` may change
//! between its minor versions.

use fleetune_core::TrialNumber;
use rand::rngs::ChaCha8Rng;
use rand::{Rng, SeedableRng};

/// The random stream of (study seed, trial number, names asked for): all names for a trial suggested as a whole are the
/// empty list. The order of `names` does not matter.
pub fn trial_rng(seed: u64, number: TrialNumber, names: &[&str]) -> ChaCha8Rng {
    let mut sorted = names.to_vec();
    sorted.sort_unstable();
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&fnv(sorted.iter().flat_map(|name| name.bytes().chain([0]))).to_le_bytes());
    key[16..24].copy_from_slice(b"fleetune");
    let mut rng = ChaCha8Rng::from_seed(key);
    rng.set_stream(number.0 as u64);
    rng
}

/// The FNV-1a hash: the same for ever.
pub(crate) fn fnv(bytes: impl IntoIterator<Item = u8>) -> u64 {
    let step = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.into_iter().fold(0xcbf2_9ce4_8422_2325, step)
}

/// Uniform on [0, 1), 53 bits.
pub(crate) fn unit(rng: &mut impl Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
}

/// Uniform on 0..count. `count` is at least 1; the bias is below count / 2^64.
pub(crate) fn below(rng: &mut impl Rng, count: u64) -> u64 {
    ((u128::from(rng.next_u64()) * u128::from(count)) >> 64) as u64
}

/// Fisher and Yates' shuffle.
pub(crate) fn shuffle<T>(items: &mut [T], rng: &mut impl Rng) {
    for last in (1..items.len()).rev() {
        items.swap(last, below(rng, last as u64 + 1) as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_the_same_for_ever() {
        let first = |seed, number, names: &[&str]| trial_rng(seed, TrialNumber(number), names).next_u64();
        let drawn = [first(7, 0, &[]), first(7, 1, &[]), first(7, 1, &["b", "a"]), first(7, 1, &["a", "b"])];
        assert_eq!(
            drawn,
            [
                16_789_246_669_671_251_369,
                5_071_108_198_335_984_075,
                7_049_448_374_476_018_213,
                7_049_448_374_476_018_213
            ]
        );
    }

    #[test]
    fn draws_are_in_range() {
        let mut rng = trial_rng(1, TrialNumber(0), &[]);
        for _ in 0..1_000 {
            assert!((0.0..1.0).contains(&unit(&mut rng)));
            assert!(below(&mut rng, 3) < 3);
        }
        let mut items = [0, 1, 2, 3, 4];
        shuffle(&mut items, &mut rng);
        items.sort_unstable();
        assert_eq!(items, [0, 1, 2, 3, 4]);
    }
}
