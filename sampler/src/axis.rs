//! Numbers as coordinates.

use fleetune_core::{Distribution, Value};

use crate::draw;

/// Grids of more cells than this count as continuous: their cells are far narrower than any step.
const MAX_CELLS: u64 = 1_000;

/// A parameter as a coordinate: [0, 1] is its range, logarithms taken, half a step added at each end of a grid.
#[derive(Clone, Debug)]
pub(crate) struct Axis {
    pub(crate) name: String,
    distribution: Distribution,
    low: f64,
    high: f64,
    log: bool,
}

impl Axis {
    /// The axis of a parameter; `None` for one value only and for choices without an order.
    pub(crate) fn new(name: &str, distribution: &Distribution) -> Option<Self> {
        let (low, high, half, log) = match distribution {
            _ if distribution.is_single() => return None,
            Distribution::Float(range) => (range.low(), range.high(), range.step().unwrap_or(0.0) / 2.0, range.log()),
            Distribution::Int(range) => {
                (range.low() as f64, range.high() as f64, range.step() as f64 / 2.0, range.log())
            }
            Distribution::Categorical(choices) => {
                distribution.ordered_ranks()?;
                (0.0, (choices.as_slice().len() - 1) as f64, 0.5, false)
            }
        };
        let scale = |x: f64| if log { libm::log(x) } else { x };
        let (low, high) = (scale(low - half), scale(high + half));
        Some(Self { name: name.to_owned(), distribution: distribution.clone(), low, high, log })
    }

    fn position(&self, raw: f64) -> f64 {
        let scaled = if self.log { libm::log(raw) } else { raw };
        (scaled - self.low) / (self.high - self.low)
    }

    /// The borders between its cells, ascending, if it is a grid of not too many.
    pub(crate) fn borders(&self) -> Option<Vec<f64>> {
        let count = self.distribution.cardinality().filter(|count| *count <= MAX_CELLS)?;
        // In logarithms the border lies between two numbers, not between their logarithms.
        let border = |index: u64| {
            let internal =
                |index| self.distribution.to_internal(&self.distribution.value_at(index)).unwrap_or(f64::NAN);
            self.position(f64::midpoint(internal(index), internal(index + 1)))
        };
        Some((0..count - 1).map(border).collect())
    }

    /// The coordinate of a value; `None` for what is none of its values.
    pub(crate) fn encode(&self, value: &Value) -> Option<f64> {
        let position = self.position(self.distribution.to_internal(value).ok()?);
        position.is_finite().then_some(position)
    }

    /// The value at a coordinate, the nearest one for what lies outside.
    pub(crate) fn decode(&self, x: f64) -> Value {
        draw::at(&self.distribution, x.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fleetune_core::distribution::{Choices, FloatRange, IntRange};

    #[test]
    fn every_value_of_a_grid_comes_back_from_its_coordinate() {
        let int = |low, high, step, log| Distribution::Int(IntRange::new(low, high, step, log).unwrap());
        let list = [64, 32, 8].map(Value::Int).to_vec();
        for distribution in [
            int(-3, 12, 1, false),
            int(0, 4096, 64, false),
            int(1, 900, 1, true),
            Distribution::Float(FloatRange::new(0.0, 2.0, Some(0.1), false).unwrap()),
            Distribution::Categorical(Choices::new(list).unwrap()),
        ] {
            let axis = Axis::new("x", &distribution).unwrap();
            let borders = axis.borders().unwrap();
            for index in 0..distribution.cardinality().unwrap() {
                let value = distribution.value_at(index);
                let x = axis.encode(&value).unwrap();
                assert_eq!(axis.decode(x), value);
                assert_eq!(borders.partition_point(|border| *border < x) as u64, index, "{value}");
            }
        }
    }

    #[test]
    fn large_integers_come_back_as_far_as_a_coordinate_can_tell() {
        let (low, high) = ((1 << 53) - 100, 1 << 53);
        let axis = Axis::new("x", &Distribution::Int(IntRange::new(low, high, 1, false).unwrap())).unwrap();
        for x in [0.0, 0.5, 1.0, -7.0, 9.0] {
            let value = axis.decode(x).as_i64().unwrap();
            assert!((low..=high).contains(&value), "{value}");
        }
        assert!(Axis::new("x", &Distribution::Int(IntRange::new(7, 7, 1, false).unwrap())).is_none());
    }
}
