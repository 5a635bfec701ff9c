//! Configurations as points: one coordinate for each parameter with more than one value.

use std::collections::BTreeMap;

use fleetune_core::distribution::Distribution;
use fleetune_core::{Params, SearchSpace, Value};

use super::kernel::Dimension;

/// A parameter as a coordinate: a number between 0 and 1, or the index of a choice; NaN where the parameter is off.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    distribution: Distribution,
    scale: Scale,
}

#[derive(Clone, Debug)]
enum Scale {
    /// Equal cells in a row, one for each value: integers, grids, choices in order.
    Grid { cells: u64 },
    /// A range without grid, or on a logarithmic scale.
    Range { low: f64, high: f64, log: bool, cells: Option<u64> },
    /// Choices without order.
    Choice { choices: u64 },
}

impl Axis {
    fn new(distribution: &Distribution) -> Self {
        let cells = distribution.cardinality();
        let scale = match distribution {
            Distribution::Float(range) if range.log() => {
                Scale::Range { low: libm::log(range.low()), high: libm::log(range.high()), log: true, cells }
            }
            Distribution::Int(range) if range.log() => {
                let (low, high) = (libm::log(range.low() as f64 - 0.5), libm::log(range.high() as f64 + 0.5));
                Scale::Range { low, high, log: true, cells }
            }
            Distribution::Float(range) => match cells {
                Some(cells) => Scale::Grid { cells },
                None => Scale::Range { low: range.low(), high: range.high(), log: false, cells },
            },
            Distribution::Int(_) => Scale::Grid { cells: cells.unwrap_or(1) },
            Distribution::Categorical(choices) if distribution.ordered_ranks().is_some() => {
                Scale::Grid { cells: choices.as_slice().len() as u64 }
            }
            Distribution::Categorical(choices) => Scale::Choice { choices: choices.as_slice().len() as u64 },
        };
        Self { distribution: distribution.clone(), scale }
    }

    pub(super) fn dimension(&self) -> Dimension {
        match self.scale {
            Scale::Grid { .. } | Scale::Range { .. } => Dimension::Number,
            Scale::Choice { .. } => Dimension::Category,
        }
    }

    /// The number of choices without order.
    pub(super) fn choices(&self) -> Option<u64> {
        match self.scale {
            Scale::Choice { choices } => Some(choices),
            Scale::Grid { .. } | Scale::Range { .. } => None,
        }
    }

    /// The number of values; `None` when continuous.
    pub(super) fn cells(&self) -> Option<u64> {
        match self.scale {
            Scale::Grid { cells } | Scale::Choice { choices: cells } => Some(cells),
            Scale::Range { cells, .. } => cells,
        }
    }

    /// The coordinate of a value; NaN for what is none of the distribution.
    pub(super) fn encode(&self, value: &Value) -> f64 {
        let Ok(internal) = self.distribution.to_internal(value) else { return f64::NAN };
        if !internal.is_finite() {
            return f64::NAN;
        }
        match self.scale {
            Scale::Choice { .. } => internal,
            Scale::Range { low, high, log, .. } => {
                let t = if log { libm::log(internal) } else { internal };
                // The logarithm of a foreign value below 0 is NaN and stays so.
                ((t - low) / (high - low)).clamp(0.0, 1.0)
            }
            Scale::Grid { cells } => {
                let index = match (&self.distribution, value) {
                    // Exact where a float is not.
                    (Distribution::Int(range), Value::Int(int)) => {
                        int.clamp(&range.low(), &range.high()).abs_diff(range.low()) as f64 / range.step() as f64
                    }
                    (Distribution::Int(range), _) => (internal - range.low() as f64) / range.step() as f64,
                    (Distribution::Float(range), _) => {
                        ((internal - range.low()) / range.step().unwrap_or(1.0)).round_ties_even()
                    }
                    (Distribution::Categorical(_), _) => internal,
                };
                ((index + 0.5) / cells as f64).clamp(0.0, 1.0)
            }
        }
    }

    /// The value nearest to a coordinate.
    pub(super) fn decode(&self, z: f64) -> Value {
        match self.scale {
            Scale::Choice { .. } => self.distribution.value_at(z.max(0.0) as u64),
            Scale::Grid { cells } => self.distribution.value_at(((z.max(0.0) * cells as f64) as u64).min(cells - 1)),
            Scale::Range { low, high, log, .. } => {
                let t = low + z.clamp(0.0, 1.0) * (high - low);
                let number = if log { libm::exp(t) } else { t };
                match &self.distribution {
                    // The logarithm of an end may not lead back to it.
                    Distribution::Float(range) if z <= 0.0 => Value::Float(range.low()),
                    Distribution::Float(range) if z >= 1.0 => Value::Float(range.high()),
                    Distribution::Float(range) => Value::Float(range.nearest(number)),
                    Distribution::Int(range) => Value::Int(range.nearest(number)),
                    Distribution::Categorical(_) => self.distribution.value_at(0),
                }
            }
        }
    }

    /// The coordinate that a number uniform on [0, 1) stands for.
    pub(super) fn spread(&self, u: f64) -> f64 {
        match self.scale {
            Scale::Choice { choices } => ((u * choices as f64) as u64).min(choices - 1) as f64,
            Scale::Grid { .. } | Scale::Range { .. } => u,
        }
    }
}

/// A configuration and its point.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) params: Params,
    pub(super) point: Vec<f64>,
}

/// The axes of a space, by name.
#[derive(Clone, Debug)]
pub(super) struct Encoding {
    space: SearchSpace,
    axes: Vec<Axis>,
    /// In the order of the space: the parameter and its axis, where it has more than one value.
    order: Vec<(String, Option<usize>)>,
    index: BTreeMap<String, usize>,
}

impl Encoding {
    pub(super) fn new(space: &SearchSpace) -> Self {
        let varied = |name: &&String| !space.parameters()[*name].distribution().is_single();
        let index = space.parameters().keys().filter(varied).enumerate().map(|(axis, name)| (name.clone(), axis));
        let index = index.collect::<BTreeMap<_, _>>();
        let axes = index.keys().map(|name| Axis::new(space.parameters()[name].distribution())).collect();
        let order = space.order().iter().map(|name| (name.clone(), index.get(name).copied())).collect();
        Self { space: space.clone(), axes, order, index }
    }

    pub(super) fn axes(&self) -> &[Axis] {
        &self.axes
    }

    pub(super) fn dimensions(&self) -> Vec<Dimension> {
        self.axes.iter().map(Axis::dimension).collect()
    }

    /// The axis of parameter `name`.
    pub(super) fn axis(&self, name: &str) -> Option<usize> {
        self.index.get(name).copied()
    }

    /// The point of a configuration; what is foreign counts as off.
    pub(super) fn encode(&self, params: &Params) -> Vec<f64> {
        let coordinate =
            |(name, axis): (&String, &usize)| params.get(name).map_or(f64::NAN, |value| self.axes[*axis].encode(value));
        self.index.iter().map(coordinate).collect()
    }

    /// Puts a configuration together: for each active parameter what is fixed, its only value, or the value at the
    /// coordinate that `choose` gives for its axis. `None` when it is forbidden or a fixed parameter is inactive.
    pub(super) fn assemble(&self, fixed: &Params, choose: &mut dyn FnMut(usize) -> f64) -> Option<Candidate> {
        let mut params = Params::new();
        let mut point = vec![f64::NAN; self.axes.len()];
        let mut kept = 0;
        for (name, axis) in &self.order {
            if !self.space.is_active(name, &params) {
                continue;
            }
            let value = match (fixed.get(name), axis) {
                (Some(value), _) => {
                    kept += 1;
                    value.clone()
                }
                (None, Some(axis)) => self.axes[*axis].decode(choose(*axis)),
                (None, None) => self.space.parameters()[name].distribution().value_at(0),
            };
            if let Some(axis) = axis {
                point[*axis] = self.axes[*axis].encode(&value);
            }
            params.insert(name.clone(), value);
        }
        let allowed = kept == fixed.len() && self.space.forbidden_by(&params).is_none();
        allowed.then_some(Candidate { params, point })
    }

    /// A candidate with the very values that its coordinates were made of, which they round.
    pub(super) fn exactly(&self, mut candidate: Candidate, fixed: &Params, values: &Params) -> Candidate {
        let mut params = candidate.params.clone();
        for (name, value) in params.iter_mut().filter(|(name, _)| !fixed.contains_key(*name)) {
            let distribution = self.space.parameters()[name].distribution();
            if let Some(exact) = values.get(name).filter(|exact| distribution.contains(exact)) {
                value.clone_from(exact);
            }
        }
        if self.space.check(&params).is_ok() {
            candidate.params = params;
        }
        candidate
    }

    /// The point of an allowed configuration with it.
    pub(super) fn candidate(&self, params: Params) -> Candidate {
        Candidate { point: self.encode(&params), params }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(text: &str) -> Encoding {
        Encoding::new(&SearchSpace::from_toml(&format!("[parameters]\n{text}")).unwrap())
    }

    #[test]
    fn every_value_comes_back() {
        let text = "a = { type = 'int', low = 9007199254740900, high = 9007199254740992 }\n\
                    b = { type = 'int', low = -7, high = 93, step = 4 }\nc = { type = 'float', low = 0, high = 3, step = 0.1 }\n\
                    d = { type = 'int', low = 1, high = 4096, log = true }\ne = [1, 2, 4, 8]\nf = [8, 4, 2]\ng = ['x', 'y', 'z']\n\
                    h = { type = 'int', low = -9007199254740992, high = 9007199254740992, step = 2097152 }";
        for axis in space(text).axes() {
            let count = axis.cells().unwrap();
            for index in (0..count).step_by((count / 5_000).max(1) as usize).chain([count - 1]) {
                let value = axis.distribution.value_at(index);
                assert_eq!(axis.decode(axis.encode(&value)), value);
            }
        }
    }

    #[test]
    fn a_range_over_decades_is_even_in_logarithms() {
        let encoding = space("x = { type = 'float', low = 1e-9, high = 1e3, log = true }");
        let axis = &encoding.axes()[0];
        assert!((axis.encode(&Value::Float(1e-3)) - 0.5).abs() < 1e-12);
        let Value::Float(back) = axis.decode(0.25) else { panic!() };
        assert!((back / 1e-6 - 1.0).abs() < 1e-12);
        for (z, end) in [(0.0, 1e-9), (1.0, 1e3)] {
            assert_eq!(axis.decode(z), Value::Float(end));
        }
    }

    #[test]
    fn equal_configurations_are_equal_points() {
        let encoding =
            space("k = ['a', 'b']\nx = { type = 'float', low = 0, high = 1, when = \"k == 'a'\" }\none = [3]");
        assert_eq!(encoding.axes().len(), 2);
        let made = encoding.assemble(&Params::new(), &mut |axis| [1.0, 0.3][axis]).unwrap();
        assert_eq!(fleetune_core::value::params_line(&made.params), "k=b one=3");
        assert!(made.point[0] > 0.5 && made.point[1].is_nan());
        let foreign = Params::from([("k".to_owned(), Value::Int(3)), ("zz".to_owned(), Value::Int(3))]);
        assert!(encoding.encode(&foreign).iter().all(|z| z.is_nan()));
    }

    #[test]
    fn an_inactive_fixed_parameter_makes_no_configuration() {
        let encoding = space("k = ['a', 'b']\nx = { type = 'float', low = 0, high = 1, when = \"k == 'a'\" }");
        let fixed = Params::from([("x".to_owned(), Value::Float(0.5))]);
        assert!(encoding.assemble(&fixed, &mut |_| 1.0).is_none());
        assert!(encoding.assemble(&fixed, &mut |_| 0.0).is_some());
    }
}
