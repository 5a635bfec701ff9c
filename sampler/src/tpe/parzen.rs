//! A Parzen estimator: a mixture of products of one-dimensional kernels, one for each observation plus a wide prior.
//!
//! A kernel whose observation lacks a parameter is uniform in it: the space of all parameters, on or off, is modelled
//! jointly, without Optuna's decomposition into groups. Densities are in units of the uniform one, so that the prior
//! keeps every sum within the range of a double; see `sum` for how sums are made.

use rand::rngs::ChaCha8Rng;
use std::ops::Range;

use super::column::Kind;
use super::kernel::{Kernel, Parts, Scale, bandwidth_floor, wide};
use super::observations::{FOREIGN, Observations, Track};
use super::options::ParzenOptions;
use super::order::{Order, Ramp, Source, Weights};
use crate::numeric::{LN_SQRT_2PI, log_cell_mass, log_sum_exp, truncated_quantile};
use crate::rng::unit;

/// Rows from which on it is quicker to know the outermost ones than to look at all.
const MANY_ROWS: usize = 256;

/// A trial that runs: its number and its raw numbers, one per column of the observations.
pub type RunningRow = (i64, Vec<f64>);

/// A density over some columns of observations, ready to be drawn from and evaluated.
#[derive(Debug)]
pub struct Parzen<'a> {
    pub(super) dimensions: Vec<Dimension<'a>>,
    pub(super) order: Order,
    pub(super) ramp: Ramp,
    pub(super) prior_weight: f64,
    /// Ranks, ascending, of observations with a kernel of their own in some dimension.
    pub(super) odd: Vec<usize>,
    /// Their kernels, a row for each.
    pub(super) odd_parts: Vec<Part>,
}

#[derive(Debug)]
pub(super) struct Dimension<'a> {
    pub(super) track: &'a Track,
    pub(super) shape: Shape,
}

#[derive(Debug)]
pub(super) enum Shape {
    Number {
        /// Makes the narrowest kernels.
        least: Scale,
        step: Option<f64>,
        prior: Kernel,
        /// Kernels are looked up by cell.
        tabled: bool,
        /// The scales of the track are those of these kernels.
        scaled: bool,
    },
    /// Probability in units of the uniform one of a kernel's own choice and of any other.
    Choice { choices: usize, hit: f64, miss: f64 },
}

/// The kernel of one observation in one dimension.
#[derive(Clone, Copy, Debug)]
pub(super) enum Part {
    /// Uniform.
    Off,
    /// Of a grid or of choices, as narrow as any.
    Cell(u16),
    Number(Kernel),
}

impl<'a> Parzen<'a> {
    /// The estimator over `columns` of the `rows` (ascending ranges) of `observations` and of the running trials.
    /// Without any it is the prior alone.
    pub fn new(
        observations: &'a Observations,
        columns: &[usize],
        rows: &[Range<usize>],
        running: &[RunningRow],
        weights: Weights,
        options: ParzenOptions,
    ) -> Self {
        let order = Order::new(rows, observations.numbers(), running.iter().map(|(number, _)| *number));
        let ramp = Ramp::new(weights, order.len);
        let mut odd = order.running.iter().map(|(rank, _)| *rank).collect::<Vec<_>>();
        let mut widths = Vec::with_capacity(columns.len());
        let mut dimensions = Vec::with_capacity(columns.len());
        for column in columns {
            let track = observations.track(*column);
            let (shape, wide) = shape(track, (observations.numbers(), &order), running, *column, options);
            odd.extend(wide.iter().map(|(rank, _)| *rank));
            widths.push(wide);
            if track.has_foreign() {
                let foreign = |run: &super::order::Run| {
                    let (rank, start) = (run.rank, run.rows.start);
                    let rows = run.rows.clone().filter(|row| track.is_foreign(*row));
                    rows.map(move |row| rank + row - start).collect::<Vec<_>>()
                };
                odd.extend(order.runs.iter().flat_map(foreign));
            }
            dimensions.push(Dimension { track, shape });
        }
        odd.sort_unstable();
        odd.dedup();
        let prior_weight = if order.len == 0 { 1.0 } else { options.prior_weight };
        let mut parzen = Self { dimensions, order, ramp, prior_weight, odd, odd_parts: Vec::new() };
        parzen.odd_parts = parzen.odd_kernels(columns, running, &widths);
        parzen
    }

    fn odd_kernels(&self, columns: &[usize], running: &[RunningRow], widths: &[Vec<(usize, f64)>]) -> Vec<Part> {
        let mut next = vec![0; columns.len()];
        let mut parts = Vec::with_capacity(self.odd.len() * columns.len());
        for rank in &self.odd {
            let source = self.order.source(*rank);
            for (place, dimension) in self.dimensions.iter().enumerate() {
                let wide = widths[place].get(next[place]).filter(|(wide, _)| wide == rank);
                next[place] += usize::from(wide.is_some());
                let width = wide.map(|(_, width)| *width);
                parts.push(match source {
                    Source::Row(row) => dimension.row(row, width),
                    Source::Running(index) => dimension.raw(running[index].1[columns[place]], width),
                });
            }
        }
        parts
    }

    /// The share of each kernel, the prior last.
    pub fn weights(&self) -> Vec<f64> {
        let total = self.ramp.sum() + self.prior_weight;
        (0..=self.order.len).map(|rank| self.weight(rank) / total).collect()
    }

    fn weight(&self, rank: usize) -> f64 {
        if rank < self.order.len { self.ramp.weight(rank) } else { self.prior_weight }
    }

    /// Bandwidths of the kernels of a column of numbers, the prior last; none where a kernel is uniform in it. Empty for
    /// a column of choices.
    pub fn bandwidths(&self, place: usize) -> Vec<Option<f64>> {
        let Shape::Number { least, .. } = &self.dimensions[place].shape else { return Vec::new() };
        let bandwidth = |rank| match self.part(place, rank) {
            Part::Off => None,
            Part::Cell(_) => Some(least.bandwidth),
            Part::Number(kernel) => Some(kernel.bandwidth),
        };
        (0..=self.order.len).map(bandwidth).collect()
    }

    /// The kernel of a rank, that of the prior behind the last one.
    pub(super) fn part(&self, place: usize, rank: usize) -> Part {
        if rank >= self.order.len {
            return self.dimensions[place].prior();
        }
        match self.odd.binary_search(&rank) {
            Ok(found) => self.odd_parts[found * self.dimensions.len() + place],
            Err(_) => match self.order.source(rank) {
                Source::Row(row) => self.dimensions[place].row(row, None),
                Source::Running(_) => unreachable!("running trials have kernels of their own"),
            },
        }
    }

    /// Sums of the shares, for [`Self::draw_kernel`].
    pub(super) fn cumulative(&self) -> Vec<f64> {
        let mut sum = 0.0;
        let add = |share| {
            sum += share;
            sum
        };
        self.weights().into_iter().map(add).collect()
    }

    /// Draws a kernel of the mixture: its rank.
    pub(super) fn draw_kernel(cumulative: &[f64], rng: &mut ChaCha8Rng) -> usize {
        let u = unit(rng);
        cumulative.partition_point(|bound| *bound <= u).min(cumulative.len() - 1)
    }

    /// Draws a raw number of a dimension from a kernel. Grids: snapped by the caller.
    pub(super) fn draw(&self, place: usize, rank: usize, rng: &mut ChaCha8Rng) -> f64 {
        let u = unit(rng);
        let part = self.part(place, rank);
        let dimension = &self.dimensions[place];
        match &dimension.shape {
            Shape::Choice { choices, hit, miss } => {
                let count = *choices as f64;
                let uniform = |u: f64| ((u * count) as usize).min(choices - 1) as f64;
                match part {
                    Part::Cell(own) if usize::from(own) < *choices => {
                        // The kernel is uniform with total weight C·miss, plus hit − miss at its own choice.
                        let extra = (hit - miss) / count;
                        if u < extra { f64::from(own) } else { uniform((u - extra) / (1.0 - extra)) }
                    }
                    Part::Cell(_) | Part::Off | Part::Number(_) => uniform(u),
                }
            }
            Shape::Number { least: Scale { low, high, .. }, .. } => {
                let transformed = match dimension.kernel(part) {
                    None => low + u * (high - low),
                    Some(Kernel { centre, bandwidth, .. }) => {
                        let (a, b) = ((low - centre) / bandwidth, (high - centre) / bandwidth);
                        (centre + bandwidth * truncated_quantile(u, a, b)).clamp(*low, *high)
                    }
                };
                dimension.track.column.invert(transformed)
            }
        }
    }

    /// The log density at each point, a raw number per dimension; NaN where a parameter is off, which integrates it
    /// out.
    pub fn log_density(&self, points: &[Vec<f64>]) -> Vec<f64> {
        let log_total = libm::log(self.ramp.sum() + self.prior_weight);
        let sums = self.sums(points);
        let log_density = |(point, sum): (&Vec<f64>, f64)| {
            // Out of range: very narrow kernels, a hundred parameters, or no prior.
            let sum = if sum > 0.0 && sum.is_finite() { libm::log(sum) } else { self.log_sum(point) };
            let uniform = self.dimensions.iter().zip(point).map(|(dimension, raw)| dimension.log_uniform(*raw));
            sum - log_total + uniform.sum::<f64>()
        };
        points.iter().zip(sums).map(log_density).collect()
    }

    /// The logarithm of the sum over kernels of weight times density in units of the uniform one, term by term.
    fn log_sum(&self, point: &[f64]) -> f64 {
        let term = |rank| {
            let factor = |(place, raw): (usize, &f64)| {
                let dimension = &self.dimensions[place];
                if raw.is_nan() { 0.0 } else { dimension.log_factor(self.part(place, rank), *raw) }
            };
            libm::log(self.weight(rank)) + point.iter().enumerate().map(factor).sum::<f64>()
        };
        log_sum_exp(&(0..=self.order.len).map(term).collect::<Vec<_>>())
    }
}

/// The form of the kernels of a track, and the ranks and bandwidths of those that are wider than the narrowest.
fn shape(
    track: &Track,
    (numbers, order): (&[i64], &Order),
    running: &[RunningRow],
    column: usize,
    options: ParzenOptions,
) -> (Shape, Vec<(usize, f64)>) {
    let Kind::Numeric { low, high, step, .. } = *track.column.kind() else {
        let choices = track.values();
        let pseudo = options.prior_weight / (order.len + 1) as f64;
        let (count, row) = (choices as f64, 1.0 + choices as f64 * pseudo);
        return (Shape::Choice { choices, hit: count * (1.0 + pseudo) / row, miss: count * pseudo / row }, Vec::new());
    };
    let centres = order.running.iter().map(|(rank, index)| (track.column.transform(running[*index].1[column]), *rank));
    let centres = centres.filter(|(centre, _)| !centre.is_nan()).collect::<Vec<_>>();
    let lacks =
        |run: &super::order::Run| track.centres[run.rows.clone()].iter().filter(|centre| centre.is_nan()).count();
    let absent = if track.absent > 0 { order.runs.iter().map(lacks).sum() } else { 0 };
    let n = order.len - order.running.len() - absent + centres.len();
    let least = Scale { low, high, bandwidth: bandwidth_floor(&track.column, n, options) };
    let scaled = track.narrowest().is_some_and(|narrowest| narrowest.bandwidth.to_bits() == least.bandwidth.to_bits());
    // A table of an even grid is looked up, another one computed.
    let least_rows = if track.bells.is_empty() { track.values() } else { track.values() / 2 };
    let tabled = scaled && track.has_table() && n >= least_rows;
    let inside = !track.has_foreign() && centres.iter().all(|(centre, _)| (low..=high).contains(centre));
    let parts = Parts::new((low, high), least.bandwidth);
    let of_run = |run: &super::order::Run| {
        let centres = track.centres[run.rows.clone()].iter().zip(&track.parts[run.rows.clone()]);
        let part = move |centre: f64, known: u16| if scaled { known } else { parts.of(centre) };
        centres.zip(run.rank..).map(move |((centre, known), rank)| (*centre, rank, part(*centre, *known)))
    };
    let running = centres.iter().map(|(centre, rank)| (*centre, *rank, parts.of(*centre)));
    let n_rows = order.len - order.running.len();
    let (range, width) = ((low, high), least.bandwidth);
    // Of nearly all rows the outermost are known.
    let wide = if scaled && inside && n_rows >= MANY_ROWS && 2 * n_rows >= numbers.len() {
        let observed = track.outermost(numbers, order).into_iter().chain(running);
        wide(observed, range, width, inside, options.endpoints)
    } else {
        let rows = order.runs.iter().flat_map(of_run).filter(|(centre, ..)| !centre.is_nan());
        wide(rows.chain(running), range, width, inside, options.endpoints)
    };
    let prior = Scale { bandwidth: high - low, ..least }.kernel(0.5 * (low + high));
    (Shape::Number { least, step, prior, tabled, scaled }, wide)
}

impl Dimension<'_> {
    pub(super) fn prior(&self) -> Part {
        match &self.shape {
            Shape::Number { prior, .. } => Part::Number(*prior),
            Shape::Choice { .. } => Part::Off,
        }
    }

    /// The kernel of a row, of this bandwidth or else as narrow as any.
    pub(super) fn row(&self, row: usize, bandwidth: Option<f64>) -> Part {
        match &self.shape {
            Shape::Choice { .. } => Part::Cell(self.track.cells[row]),
            Shape::Number { .. } if self.track.raw[row].is_nan() => Part::Off,
            Shape::Number { least, tabled, scaled, .. } => {
                let centre = self.track.centres[row];
                let cell = self.track.cells.get(row).copied().filter(|cell| *cell != FOREIGN);
                match (bandwidth, cell) {
                    (Some(bandwidth), _) => Part::Number(Scale { bandwidth, ..*least }.kernel(centre)),
                    (None, Some(cell)) if *tabled => Part::Cell(cell),
                    (None, Some(cell)) if *scaled => {
                        let scale = self.track.grid[usize::from(cell)].scale;
                        Part::Number(Kernel { centre, bandwidth: least.bandwidth, scale })
                    }
                    (None, None) if *scaled && !self.track.has_table() => {
                        let scale = self.track.scales[row];
                        Part::Number(Kernel { centre, bandwidth: least.bandwidth, scale })
                    }
                    (None, Some(_) | None) => Part::Number(least.kernel(centre)),
                }
            }
        }
    }

    /// The kernel around a raw number, of this bandwidth or else as narrow as any.
    fn raw(&self, raw: f64, bandwidth: Option<f64>) -> Part {
        match &self.shape {
            Shape::Choice { .. } => Part::Cell(self.track.cell(raw)),
            Shape::Number { .. } if raw.is_nan() => Part::Off,
            Shape::Number { least, .. } => {
                let bandwidth = bandwidth.unwrap_or(least.bandwidth);
                Part::Number(Scale { bandwidth, ..*least }.kernel(self.track.column.transform(raw)))
            }
        }
    }

    /// The kernel of a part of a dimension of numbers; `None` for the uniform one.
    fn kernel(&self, part: Part) -> Option<Kernel> {
        match (part, &self.shape) {
            (Part::Number(kernel), _) => Some(kernel),
            (Part::Cell(cell), Shape::Number { least, .. }) => {
                let cell = self.track.grid.get(usize::from(cell))?;
                Some(Kernel { centre: cell.centre, bandwidth: least.bandwidth, scale: cell.scale })
            }
            (Part::Off | Part::Cell(_), _) => None,
        }
    }

    /// The place on an even grid of a kernel's centre, where it is on it.
    pub(super) fn cell(&self, kernel: &Kernel) -> Option<usize> {
        // There the scale of the kernels is that of the raw numbers.
        let cell = usize::from(self.track.cell(kernel.centre));
        (cell < self.track.grid.len()).then_some(cell)
    }

    /// The uniform log density at a raw number.
    fn log_uniform(&self, raw: f64) -> f64 {
        match &self.shape {
            _ if raw.is_nan() => 0.0,
            Shape::Choice { choices, .. } => -libm::log(*choices as f64),
            Shape::Number { least, step, .. } => {
                let width = step.map_or(1.0, |step| {
                    let (left, right) = self.track.column.cell(raw, step);
                    right - left
                });
                libm::log(width / (least.high - least.low))
            }
        }
    }

    /// The logarithm of a kernel at a raw number, in units of the uniform one.
    fn log_factor(&self, part: Part, raw: f64) -> f64 {
        match &self.shape {
            Shape::Choice { choices, hit, miss } => match part {
                Part::Cell(own) if usize::from(own) == raw as usize => libm::log(*hit),
                Part::Cell(own) if usize::from(own) < *choices => libm::log(*miss),
                Part::Cell(_) | Part::Off | Part::Number(_) => 0.0,
            },
            Shape::Number { step, least, .. } => {
                let Some(Kernel { centre, bandwidth, .. }) = self.kernel(part) else { return 0.0 };
                let log_scale = Scale { bandwidth, ..*least }.log_of(centre);
                match step {
                    None => {
                        let z = (self.track.column.transform(raw) - centre) / bandwidth;
                        -0.5 * z * z + log_scale
                    }
                    Some(step) => {
                        let (left, right) = self.track.column.cell(raw, *step);
                        let (z, h) = ((0.5 * (left + right) - centre) / bandwidth, (right - left) / bandwidth);
                        let log_h = libm::log(h);
                        log_cell_mass(z, h, log_h) - log_h + LN_SQRT_2PI + log_scale
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
