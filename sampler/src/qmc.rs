//! Quasi-random points: Sobol's sequence, scrambled by a seed.
//!
//! Direction numbers of Joe and Kuo 2008 (`new-joe-kuo-6.21201`). Owen's scrambling by a hash of the bits above each bit
//! (Laine and Karras 2011, with the constants of Burley 2020), so that a point needs no state but its index.

use crate::rng::fnv;

const BITS: usize = 32;

/// For each dimension from the second on: the inner coefficients of its primitive polynomial, and its first direction
/// numbers, as many as the polynomial's degree.
#[rustfmt::skip]
const DIRECTIONS: [(u32, &[u32]); 49] = [
    (0, &[1]),
    (1, &[1, 3]),
    (1, &[1, 3, 1]),
    (2, &[1, 1, 1]),
    (1, &[1, 1, 3, 3]),
    (4, &[1, 3, 5, 13]),
    (2, &[1, 1, 5, 5, 17]),
    (4, &[1, 1, 5, 5, 5]),
    (7, &[1, 1, 7, 11, 19]),
    (11, &[1, 1, 5, 1, 1]),
    (13, &[1, 1, 1, 3, 11]),
    (14, &[1, 3, 5, 5, 31]),
    (1, &[1, 3, 3, 9, 7, 49]),
    (13, &[1, 1, 1, 15, 21, 21]),
    (16, &[1, 3, 1, 13, 27, 49]),
    (19, &[1, 1, 1, 15, 7, 5]),
    (22, &[1, 3, 1, 15, 13, 25]),
    (25, &[1, 1, 5, 5, 19, 61]),
    (1, &[1, 3, 7, 11, 23, 15, 103]),
    (4, &[1, 3, 7, 13, 13, 15, 69]),
    (7, &[1, 1, 3, 13, 7, 35, 63]),
    (8, &[1, 3, 5, 9, 1, 25, 53]),
    (14, &[1, 3, 1, 13, 9, 35, 107]),
    (19, &[1, 3, 1, 5, 27, 61, 31]),
    (21, &[1, 1, 5, 11, 19, 41, 61]),
    (28, &[1, 3, 5, 3, 3, 13, 69]),
    (31, &[1, 1, 7, 13, 1, 19, 1]),
    (32, &[1, 3, 7, 5, 13, 19, 59]),
    (37, &[1, 1, 3, 9, 25, 29, 41]),
    (41, &[1, 3, 5, 13, 23, 1, 55]),
    (42, &[1, 3, 7, 3, 13, 59, 17]),
    (50, &[1, 3, 1, 3, 5, 53, 69]),
    (55, &[1, 1, 5, 5, 23, 33, 13]),
    (56, &[1, 1, 7, 7, 1, 61, 123]),
    (59, &[1, 1, 7, 9, 13, 61, 49]),
    (62, &[1, 3, 3, 5, 3, 55, 33]),
    (14, &[1, 3, 1, 15, 31, 13, 49, 245]),
    (21, &[1, 3, 5, 15, 31, 59, 63, 97]),
    (22, &[1, 3, 1, 11, 11, 11, 77, 249]),
    (38, &[1, 3, 1, 11, 27, 43, 71, 9]),
    (47, &[1, 1, 7, 15, 21, 11, 81, 45]),
    (49, &[1, 3, 7, 3, 25, 31, 65, 79]),
    (50, &[1, 3, 1, 1, 19, 11, 3, 205]),
    (52, &[1, 1, 5, 9, 19, 21, 29, 157]),
    (56, &[1, 3, 7, 11, 1, 33, 89, 185]),
    (67, &[1, 3, 3, 3, 15, 9, 79, 71]),
    (70, &[1, 3, 7, 11, 15, 39, 119, 27]),
    (84, &[1, 1, 3, 1, 11, 31, 97, 225]),
    (97, &[1, 1, 1, 3, 23, 43, 57, 177]),
];

/// Most dimensions of a point.
pub(crate) const MAX_DIMENSIONS: usize = DIRECTIONS.len() + 1;

/// A scrambled Sobol sequence.
#[derive(Clone, Debug)]
pub(crate) struct Sobol {
    directions: Vec<[u32; BITS]>,
    seed: u64,
}

impl Sobol {
    /// The sequence of points with so many coordinates; beyond [`MAX_DIMENSIONS`] there are none.
    pub(crate) fn new(dimensions: usize, seed: u64) -> Self {
        let directions = (0..dimensions.min(MAX_DIMENSIONS)).map(directions).collect();
        Self { directions, seed }
    }

    /// Point `index`, coordinates in (0, 1).
    pub(crate) fn point(&self, index: u32) -> Vec<f64> {
        let coordinate = |(dimension, directions): (usize, &[u32; BITS])| {
            let set = directions.iter().enumerate().filter(|(bit, _)| index >> bit & 1 == 1);
            let plain = set.fold(0, |sum, (_, direction)| sum ^ direction);
            let key = fnv(self.seed.to_le_bytes().into_iter().chain((dimension as u64).to_le_bytes()));
            (f64::from(scramble(plain, (key ^ (key >> 32)) as u32)) + 0.5) / 4_294_967_296.0
        };
        self.directions.iter().enumerate().map(coordinate).collect()
    }
}

/// The direction numbers of a dimension, the one of the first bit first, at the top of 32 bits.
fn directions(dimension: usize) -> [u32; BITS] {
    let mut numbers = std::array::from_fn(|bit| 1 << (BITS - 1 - bit));
    let Some((polynomial, first)) = dimension.checked_sub(1).map(|row| DIRECTIONS[row]) else { return numbers };
    let degree = first.len();
    for bit in 0..BITS {
        numbers[bit] = if bit < degree {
            first[bit] << (BITS - 1 - bit)
        } else {
            let carried = numbers[bit - degree] ^ (numbers[bit - degree] >> degree);
            (1..degree)
                .filter(|k| polynomial >> (degree - 1 - k) & 1 == 1)
                .fold(carried, |sum, k| sum ^ numbers[bit - k])
        };
    }
    numbers
}

/// Flips each bit as a hash of the bits above it says.
fn scramble(plain: u32, seed: u32) -> u32 {
    let mut x = plain.reverse_bits();
    x ^= x.wrapping_mul(0x3d20_adea);
    x = x.wrapping_add(seed);
    x = x.wrapping_mul((seed >> 16) | 1);
    x ^= x.wrapping_mul(0x0552_6c56);
    x ^= x.wrapping_mul(0x53a2_2864);
    x.reverse_bits()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without scrambling, point 2^k is direction number k: m / 2^(k + 1), by hand from the recurrence.
    #[test]
    fn directions_are_those_of_joe_and_kuo() {
        let plain = |dimension: usize| directions(dimension).map(|number| f64::from(number) / 4_294_967_296.0);
        assert_eq!(plain(0)[..4], [1.0 / 2.0, 1.0 / 4.0, 1.0 / 8.0, 1.0 / 16.0]);
        assert_eq!(plain(1)[..4], [1.0 / 2.0, 3.0 / 4.0, 5.0 / 8.0, 15.0 / 16.0]);
        assert_eq!(plain(2)[..3], [1.0 / 2.0, 3.0 / 4.0, 3.0 / 8.0]);
        assert_eq!(plain(3)[..4], [1.0 / 2.0, 3.0 / 4.0, 1.0 / 8.0, 5.0 / 16.0]);
        assert_eq!(plain(4)[..4], [1.0 / 2.0, 1.0 / 4.0, 1.0 / 8.0, 11.0 / 16.0]);
    }

    /// Of 2^k points, each interval of length 2^−k holds one, in every dimension, scrambled or not.
    #[test]
    fn points_are_spread_evenly_in_each_dimension() {
        for seed in [0, 1, 77] {
            let sobol = Sobol::new(MAX_DIMENSIONS + 5, seed);
            for count in [16_u32, 256] {
                let mut seen = vec![vec![false; count as usize]; MAX_DIMENSIONS];
                for index in 0..count {
                    let point = sobol.point(index);
                    assert_eq!(point.len(), MAX_DIMENSIONS);
                    for (seen, z) in seen.iter_mut().zip(point) {
                        let cell = &mut seen[(z * f64::from(count)) as usize];
                        assert!(!*cell);
                        *cell = true;
                    }
                }
            }
        }
        assert_ne!(Sobol::new(3, 1).point(5), Sobol::new(3, 2).point(5));
    }
}
