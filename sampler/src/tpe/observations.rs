//! What was observed, in columns, one row per trial by number; kept by insertion, never sorted.

use std::sync::OnceLock;

use super::column::{Column, Kind};
use super::digits::{Digiter, Digits};
use super::kernel::{Extremes, Parts, Scale, bandwidth_floor, extend};

use super::options::ParzenOptions;
use super::order::Order;
use super::sum::mean_bells;

/// Grids of at most so many values have a table of kernels.
const MOST_CELLS: u64 = 4_096;
/// Grids of at most so many values keep the kernels of their gaps.
const MOST_GAPS: usize = 256;
/// So many steps beside a grid value are rounding.
const ROUNDING: f64 = 1e-9;
/// The cell of what is no value of the grid.
pub(super) const FOREIGN: u16 = u16::MAX;

/// Rows by trial number, ascending.
#[derive(Clone, Debug)]
pub struct Observations {
    numbers: Vec<i64>,
    tracks: Vec<Track>,
}

/// A value of a grid, and the kernel on it that is as narrow as any.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cell {
    raw: f64,
    pub(super) centre: f64,
    pub(super) scale: f64,
    pub(super) digits: Digits,
}

/// One column.
#[derive(Clone, Debug)]
pub(super) struct Track {
    pub(super) column: Column,
    /// Raw numbers by row, NaN where the parameter was off.
    pub(super) raw: Vec<f64>,
    /// The same on the scale of the kernels; for choices none.
    pub(super) centres: Vec<f64>,
    /// Place on the grid or index of the choice by row: the number of these where the parameter was off, [`FOREIGN`]
    /// for what is not on the grid. None where there is no table.
    pub(super) cells: Vec<u16>,
    /// Scales of the narrowest kernels by row; none where there is a table.
    pub(super) scales: Vec<f64>,
    /// Digits of these kernels by row; none where there is a table.
    pub(super) digits: Vec<Digits>,
    /// What makes them; `None` where there are none.
    pub(super) digiter: Option<Digiter>,
    /// The values of a grid; none where there are too many.
    pub(super) grid: Vec<Cell>,
    /// On an even grid: the narrowest kernel without its scale by distance in cells, to both sides of the middle.
    pub(super) bells: Vec<f64>,
    /// The same of kernels as wide as a gap, by half steps; computed when they are first met. None on long grids.
    gaps: Vec<OnceLock<Box<[f64]>>>,
    /// Rows where the parameter was off.
    pub(super) absent: usize,
    /// Rows off the grid or outside of the range.
    foreign: usize,
    /// Parts of the range by row, see [`Parts`]; none for choices.
    pub(super) parts: Vec<u16>,
    /// First and last observation of each part: centre and trial number. None of those outside of the range.
    extremes: Vec<Option<Extremes<i64>>>,
    /// What makes scales; none for choices.
    narrowest: Option<Scale>,
}

impl Observations {
    /// No row yet. `options` are those of the estimators that will be asked for.
    pub fn new(columns: &[Column], options: ParzenOptions) -> Self {
        let tracks = columns.iter().map(|column| Track::new(column, options)).collect();
        Self { numbers: Vec::new(), tracks }
    }

    /// Adds the row of trial `number`, a raw number per column; the order of calls leaves no trace. Returns the row, or
    /// `None` for a number that is there already.
    pub fn insert(&mut self, number: i64, raw: &[f64]) -> Option<usize> {
        // Most trials end in order.
        let row = match self.numbers.last() {
            Some(last) if *last >= number => self.numbers.binary_search(&number).err()?,
            Some(_) | None => self.numbers.len(),
        };
        self.numbers.insert(row, number);
        for (track, raw) in self.tracks.iter_mut().zip(raw) {
            track.insert(row, number, *raw);
        }
        Some(row)
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.numbers.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    pub(super) fn numbers(&self) -> &[i64] {
        &self.numbers
    }

    pub(super) fn track(&self, column: usize) -> &Track {
        &self.tracks[column]
    }
}

impl Track {
    fn new(column: &Column, options: ParzenOptions) -> Self {
        let mut track = Self {
            column: column.clone(),
            raw: Vec::new(),
            centres: Vec::new(),
            cells: Vec::new(),
            scales: Vec::new(),
            digits: Vec::new(),
            digiter: None,
            grid: Vec::new(),
            bells: Vec::new(),
            gaps: Vec::new(),
            absent: 0,
            foreign: 0,
            parts: Vec::new(),
            extremes: Vec::new(),
            narrowest: None,
        };
        if let Kind::Numeric { low, high, step, log } = *column.kind() {
            let narrowest = Scale { low, high, bandwidth: bandwidth_floor(column, usize::MAX, options) };
            track.digiter = Digiter::new(&narrowest);
            let cell = |index| {
                let raw = column.raw_at(index);
                let centre = column.transform(raw);
                let scale = narrowest.of(centre);
                let digits = track.digiter.map_or(Digits::OFF, |digiter| digiter.digits(centre, scale));
                Cell { raw, centre, scale, digits }
            };
            let count = column.cardinality().filter(|count| *count <= MOST_CELLS);
            let grid = (0..count.unwrap_or(0)).map(cell).collect::<Vec<_>>();
            if let (Some(step), false) = (step, log) {
                track.bells = bells(grid.len(), step / narrowest.bandwidth);
                if grid.len() <= MOST_GAPS {
                    track.gaps = vec![OnceLock::new(); 2 * grid.len() + 1];
                }
            }
            track.grid = grid;
            track.narrowest = Some(narrowest);
        }
        track
    }

    fn insert(&mut self, row: usize, number: i64, raw: f64) {
        self.raw.insert(row, raw);
        self.absent += usize::from(raw.is_nan());
        let Some(narrowest) = &self.narrowest else {
            let cell = self.cell(raw);
            self.cells.insert(row, cell);
            return;
        };
        let centre = self.column.transform(raw);
        self.centres.insert(row, centre);
        let parts = Parts::new((narrowest.low, narrowest.high), narrowest.bandwidth);
        let part = parts.of(centre);
        self.parts.insert(row, part);
        if (narrowest.low..=narrowest.high).contains(&centre) {
            self.extremes.resize(parts.count, None);
            extend(&mut self.extremes[usize::from(part)], (centre, number));
        }
        if self.has_table() {
            let cell = self.cell(raw);
            self.foreign += usize::from(cell == FOREIGN);
            self.cells.insert(row, cell);
        } else {
            self.foreign += usize::from(centre < narrowest.low || centre > narrowest.high);
            let (scale, digits) = if raw.is_nan() {
                (0.0, Digits::OFF)
            } else {
                let scale = narrowest.of(centre);
                let inside = (narrowest.low..=narrowest.high).contains(&centre);
                (scale, self.digiter.filter(|_| inside).map_or(Digits::OFF, |digiter| digiter.digits(centre, scale)))
            };
            self.scales.insert(row, scale);
            self.digits.insert(row, digits);
        }
    }

    /// On a short even grid: a kernel of this bandwidth, which is a gap between values or to an end of the range,
    /// without its scale by distance in cells.
    pub(super) fn bells_of(&self, bandwidth: f64) -> Option<&[f64]> {
        let Kind::Numeric { step: Some(step), .. } = *self.column.kind() else { return None };
        let half_steps = (2.0 * bandwidth / step).round_ties_even();
        let gap = self.gaps.get(half_steps as usize).filter(|_| half_steps >= 1.0)?;
        let is_gap = (2.0 * bandwidth - half_steps * step).abs() <= ROUNDING * step;
        is_gap.then(|| &**gap.get_or_init(|| bells(self.grid.len(), 2.0 / half_steps).into()))
    }

    /// Centre, rank and part of the first and the last observation of each part of the range, and of some others.
    /// `numbers`: those of the rows.
    pub(super) fn outermost(&self, numbers: &[i64], order: &Order) -> Vec<(f64, usize, u16)> {
        let mut found = Vec::with_capacity(2 * self.extremes.len());
        // Parts of which an end is not among the ranks.
        let mut open = vec![false; self.extremes.len()];
        for (part, extremes) in self.extremes.iter().enumerate() {
            for (centre, number) in extremes.iter().flat_map(|extremes| [extremes.first, extremes.last]) {
                match numbers.binary_search(&number).ok().and_then(|row| order.rank_of(row)) {
                    Some(rank) => found.push((centre, rank, part as u16)),
                    None => open[part] = true,
                }
            }
        }
        if open.contains(&true) {
            for run in &order.runs {
                let rows = self.parts[run.rows.clone()].iter().zip(run.rows.clone()).zip(run.rank..);
                let of_open = rows.filter(|((part, row), _)| open[usize::from(**part)] && !self.raw[*row].is_nan());
                found.extend(of_open.map(|((part, row), rank)| (self.centres[row], rank, *part)));
            }
        }
        found
    }

    /// How many values a table has; 0 without one.
    pub(super) fn values(&self) -> usize {
        match self.column.kind() {
            Kind::Categorical { choices } => *choices,
            Kind::Numeric { .. } => self.grid.len(),
        }
    }

    pub(super) fn has_table(&self) -> bool {
        self.values() > 0
    }

    /// Whether there are rows off the grid or outside of the range.
    pub(super) fn has_foreign(&self) -> bool {
        self.foreign > 0
    }

    /// Whether a row is off the grid or outside of the range.
    pub(super) fn is_foreign(&self, row: usize) -> bool {
        match (&self.narrowest, self.cells.get(row)) {
            (Some(_), Some(cell)) => *cell == FOREIGN,
            (Some(narrowest), None) => {
                let centre = self.centres[row];
                centre < narrowest.low || centre > narrowest.high
            }
            (None, _) => false,
        }
    }

    /// What makes the scales that are kept; `None` for choices.
    pub(super) fn narrowest(&self) -> Option<&Scale> {
        self.narrowest.as_ref()
    }

    /// The cell of a raw number.
    pub(super) fn cell(&self, raw: f64) -> u16 {
        let values = self.values();
        match *self.column.kind() {
            _ if raw.is_nan() => values as u16,
            Kind::Categorical { .. } if raw >= 0.0 && raw < values as f64 => raw as u16,
            // A choice that is not there says nothing.
            Kind::Categorical { .. } => values as u16,
            Kind::Numeric { step, .. } => {
                let step = step.unwrap_or(1.0);
                let index = ((raw - self.grid[0].raw) / step).round_ties_even().max(0.0) as usize;
                let on_it = |cell: &Cell| (cell.raw - raw).abs() <= ROUNDING * step;
                if self.grid.get(index).is_some_and(on_it) { index as u16 } else { FOREIGN }
            }
        }
    }
}

/// Kernels on a grid of `count` values whose step is `h` bandwidths, without their scales, by distance in steps from
/// −`count` + 1 to `count` − 1.
fn bells(count: usize, h: f64) -> Vec<f64> {
    let distances = (0..count).map(|distance| distance as f64 * h).collect::<Vec<_>>();
    let right = mean_bells(&distances, h);
    right.iter().skip(1).rev().chain(&right).copied().collect()
}
