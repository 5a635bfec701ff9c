//! The sum over the kernels of a mixture, for sixteen candidates at a time.
//!
//! In linear numbers, so that a kernel costs a multiplication for each dimension and candidate and no exponential:
//! those are in tables by distinct kernel, sixteen numbers each. Only where the observations of a dimension are all
//! different, on a continuous range, does each kernel take its exponentials.

#![allow(
    clippy::inline_always,
    reason = "what is out of line is compiled without the vector instructions of its caller"
)]

use super::digits::{Digits, Tables};
use super::kernel::{Kernel, SQRT_2PI};
use super::lanes::{CellShape, CellShapes, FAINT, LANES, Lanes, WIDEST_CELL, cell_shapes, exp};
use super::observations::{FOREIGN, Track};
use super::parzen::{Dimension, Part, Parzen, Shape};

/// Kernels from which on their digits are cheaper than their exponentials.
const MANY_KERNELS: usize = 48;

/// The coordinates of candidates in one dimension, and what kernels are there.
struct Place<'a> {
    /// On the scale of the kernels; for choices the index.
    at: Lanes,
    /// Widths of the cells on a grid.
    widths: Option<Widths>,
    /// Which candidates lack the parameter, if any.
    off: Option<[bool; LANES]>,
    /// On an even grid: cells of the candidates, which lie on it.
    own: Option<[usize; LANES]>,
    kind: By<'a>,
}

enum Widths {
    Even(f64),
    Each(Lanes),
}

enum By<'a> {
    /// By cell, the last one being that of rows that lack the parameter.
    Table { cells: &'a [u16], table: Vec<Lanes> },
    /// By digits.
    Digits { tables: Box<Tables>, shapes: Option<CellShapes>, is_wide: bool },
    /// By row.
    Row,
}

impl Parzen<'_> {
    /// For each point the sum over kernels of weight times density in units of the uniform one.
    pub(super) fn sums(&self, points: &[Vec<f64>]) -> Vec<f64> {
        let mut sums = Vec::with_capacity(points.len());
        for block in points.chunks(LANES) {
            sums.extend_from_slice(&self.block(block).0[..block.len()]);
        }
        sums
    }

    #[cfg(target_arch = "x86_64")]
    fn block(&self, points: &[Vec<f64>]) -> Lanes {
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has these instructions. They give the same bits as others: none is fused.
            return unsafe { self.block_avx2(points) };
        }
        self.block_of(points)
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn block(&self, points: &[Vec<f64>]) -> Lanes {
        self.block_of(points)
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn block_avx2(&self, points: &[Vec<f64>]) -> Lanes {
        self.block_of(points)
    }

    #[inline(always)]
    pub(super) fn block_of(&self, points: &[Vec<f64>]) -> Lanes {
        // Loops, here and below: what iterators do out of line is compiled without the instructions of this function.
        let mut places = Vec::with_capacity(self.dimensions.len());
        for (place, dimension) in self.dimensions.iter().enumerate() {
            let raw = |lane: usize| points[lane.min(points.len() - 1)][place];
            places.push(Place::new(dimension, &std::array::from_fn(raw), self.order.len));
        }
        let (mut tables, mut others) = (Vec::new(), Vec::new());
        for (index, place) in places.iter().enumerate() {
            match &place.kind {
                By::Table { cells, table } => tables.push((*cells, &table[..])),
                By::Digits { .. } | By::Row => others.push((index, place)),
            }
        }

        let mut sum = Lanes::splat(self.prior_weight);
        for (place, dimension) in places.iter().zip(&self.dimensions) {
            sum = sum.times(&place.factor(dimension, dimension.prior()));
        }
        let mut odd = self.odd.iter().enumerate().peekable();
        let mut rank = 0;
        let mut run = 0;
        while rank < self.order.len {
            // Up to the next kernel of its own, within a run of rows.
            let next = odd.peek().map_or(self.order.len, |(_, rank)| **rank);
            if next == rank {
                let (index, _) = odd.next().expect("it was peeked at");
                let mut product = Lanes::splat(self.ramp.weight(rank));
                let parts = &self.odd_parts[index * places.len()..][..places.len()];
                for ((place, dimension), part) in places.iter().zip(&self.dimensions).zip(parts) {
                    product = product.times(&place.factor(dimension, *part));
                }
                sum = sum.plus(&product);
                rank += 1;
                continue;
            }
            let runs = &self.order.runs;
            while runs[run].rank + runs[run].rows.len() <= rank {
                run += 1;
            }
            let end = next.min(runs[run].rank + runs[run].rows.len());
            let first = runs[run].rows.start + rank - runs[run].rank;
            for (row, rank) in (first..).zip(rank..end) {
                let mut product = Lanes::splat(self.ramp.weight(rank));
                // By fours, of which the products stay in registers.
                for group in tables.chunks(4) {
                    product = match group {
                        [a, b, c, d] => {
                            let ab = cell(a, row).times(cell(b, row));
                            product.times(&ab.times(&cell(c, row).times(cell(d, row))))
                        }
                        [a, b, c] => product.times(&cell(a, row).times(cell(b, row))).times(cell(c, row)),
                        [a, b] => product.times(&cell(a, row).times(cell(b, row))),
                        [a] => product.times(cell(a, row)),
                        _ => product,
                    };
                }
                for (index, place) in &others {
                    product = product.times(&place.row(&self.dimensions[*index], row));
                }
                sum = sum.plus(&product);
            }
            rank = end;
        }
        sum
    }
}

#[inline(always)]
fn cell<'a>((cells, table): &(&[u16], &'a [Lanes]), row: usize) -> &'a Lanes {
    &table[usize::from(cells[row])]
}

impl<'a> Place<'a> {
    #[inline(always)]
    fn new(dimension: &Dimension<'a>, raw: &[f64; LANES], n: usize) -> Self {
        let off = raw.iter().any(|raw| raw.is_nan()).then(|| raw.map(f64::is_nan));
        let track = dimension.track;
        match &dimension.shape {
            Shape::Choice { choices, hit, miss } => {
                let at = Lanes(*raw).map(f64::trunc);
                let factors = |choice: usize| {
                    let own = choice as f64;
                    // Both are small integers.
                    present(at.map(|at| if (at - own).abs() < 0.5 { *hit } else { *miss }), off.as_ref())
                };
                let table = (0..*choices).map(factors).chain([Lanes::ONE]).collect();
                Self { at, widths: None, off, own: None, kind: By::Table { cells: &track.cells, table } }
            }
            Shape::Number { least, step, tabled, scaled, .. } => {
                let column = &track.column;
                let cells = step.map(|step| raw.map(|raw| column.cell(raw, step)));
                let at = match &cells {
                    Some(cells) => Lanes(cells.map(|(left, right)| 0.5 * (left + right))),
                    None => Lanes(raw.map(|raw| column.transform(raw))),
                };
                let widths = cells.map(|cells| match step {
                    Some(step) if !column.is_log() => Widths::Even(*step),
                    Some(_) | None => Widths::Each(Lanes(cells.map(|(left, right)| right - left))),
                });
                let last = track.grid.len().saturating_sub(1);
                let own = (!track.bells.is_empty()).then(|| raw.map(|raw| track.cell(raw)));
                // Where the parameter is off any cell will do.
                let own = own.filter(|own| !own.contains(&FOREIGN)).map(|own| own.map(|own| last.min(own.into())));
                let mut place = Self { at, widths, off, own, kind: By::Row };
                if *tabled && place.own.is_some() {
                    place.kind = By::Table { cells: &track.cells, table: place.even_table(track) };
                } else if let Some(digiter) = track.digiter.filter(|_| *scaled && n >= MANY_KERNELS) {
                    let h = place.widths.as_ref().map(|widths| widths.lanes(1.0 / least.bandwidth));
                    place.kind = By::Digits {
                        tables: Box::new(digiter.tables(&place.at)),
                        shapes: h.as_ref().map(CellShapes::new),
                        is_wide: h.is_some_and(|h| h.0.iter().any(|h| *h > WIDEST_CELL)),
                    };
                }
                if *tabled && place.own.is_none() {
                    let table = place.table(dimension, least.bandwidth);
                    place.kind = By::Table { cells: &track.cells, table };
                }
                place
            }
        }
    }

    /// The narrowest kernel of each cell of an even grid, and 1 for where the parameter is off.
    #[inline(always)]
    fn even_table(&self, track: &Track) -> Vec<Lanes> {
        let mut table = vec![Lanes::ONE; track.grid.len() + 1];
        if let Some(own) = &self.own {
            for (lane, own) in own.iter().enumerate() {
                if self.off.is_some_and(|off| off[lane]) {
                    continue;
                }
                let bells = &track.bells[track.grid.len() - 1 - own..];
                for ((kernel, bell), cell) in table.iter_mut().zip(bells).zip(&track.grid) {
                    kernel.0[lane] = bell * cell.scale;
                }
            }
        }
        table
    }

    /// The narrowest kernel of each cell of a grid, and 1 for where the parameter is off.
    #[inline(always)]
    fn table(&self, dimension: &Dimension<'_>, bandwidth: f64) -> Vec<Lanes> {
        let grid = &dimension.track.grid;
        let mut table = Vec::with_capacity(grid.len() + 1);
        if let By::Digits { tables, shapes, is_wide: false } = &self.kind {
            for cell in grid {
                table.push(self.by_digits(tables, shapes.as_ref(), &cell.digits));
            }
        } else {
            for cell in grid {
                table.push(self.number(Kernel { centre: cell.centre, bandwidth, scale: cell.scale }));
            }
        }
        table.push(Lanes::ONE);
        table
    }

    #[inline(always)]
    fn by_digits(&self, tables: &Tables, shapes: Option<&CellShapes>, digits: &Digits) -> Lanes {
        let mut kernel = tables.at(digits);
        if let Some(shapes) = shapes {
            kernel = kernel.times(&shapes.at(&tables.squares(digits)));
        }
        present(kernel, self.off.as_ref())
    }

    /// A kernel around a cell, from a table by distance.
    #[inline(always)]
    fn looked_up(&self, bells: &[f64], own: &[usize; LANES], cell: usize, scale: f64) -> Lanes {
        let mut kernel = Lanes::ZERO;
        for (lane, own) in kernel.0.iter_mut().zip(own) {
            *lane = bells[bells.len() / 2 + cell - own] * scale;
        }
        present(kernel, self.off.as_ref())
    }

    /// What the kernel of a row, as narrow as any, has at each candidate.
    #[inline(always)]
    fn row(&self, dimension: &Dimension<'_>, row: usize) -> Lanes {
        let By::Digits { tables, shapes, is_wide: false } = &self.kind else {
            return self.factor(dimension, dimension.row(row, None));
        };
        let track = dimension.track;
        let digits = match track.cells.get(row) {
            None => &track.digits[row],
            Some(cell) => match track.grid.get(usize::from(*cell)) {
                None => return Lanes::ONE,
                Some(cell) => &cell.digits,
            },
        };
        if digits.is_off() {
            return Lanes::ONE;
        }
        self.by_digits(tables, shapes.as_ref(), digits)
    }

    /// What a kernel has at each candidate.
    #[inline(always)]
    fn factor(&self, dimension: &Dimension<'_>, part: Part) -> Lanes {
        match (part, &self.kind) {
            (Part::Number(kernel), _) => {
                let on_grid = self.own.as_ref().and_then(|own| {
                    let cell = dimension.cell(&kernel)?;
                    Some((own, cell, dimension.track.bells_of(kernel.bandwidth)?))
                });
                match on_grid {
                    Some((own, cell, bells)) => self.looked_up(bells, own, cell, kernel.scale),
                    None => self.number(kernel),
                }
            }
            (Part::Cell(cell), By::Table { table, .. }) => table[usize::from(cell)],
            (Part::Off, _) | (Part::Cell(_), By::Digits { .. } | By::Row) => Lanes::ONE,
        }
    }

    #[inline(always)]
    fn number(&self, kernel: Kernel) -> Lanes {
        let per_bandwidth = 1.0 / kernel.bandwidth;
        let z = self.at.map(|at| (at - kernel.centre) * per_bandwidth);
        let t = z.map(|z| z * z);
        let bell = exp(t.map(|t| -0.5 * t)).map(|bell| bell * kernel.scale);
        let factors = match &self.widths {
            None => bell,
            Some(Widths::Even(width)) if width * per_bandwidth <= WIDEST_CELL => {
                bell.times(&CellShape::new(width * per_bandwidth).at(&t))
            }
            Some(widths) => {
                let h = widths.lanes(per_bandwidth);
                let values = bell.times(&cell_shapes(&t, &h));
                wide(values, &z, &h, kernel.scale)
            }
        };
        present(factors, self.off.as_ref())
    }
}

impl Widths {
    #[inline(always)]
    fn lanes(&self, per_bandwidth: f64) -> Lanes {
        match self {
            Self::Even(width) => Lanes::splat(width * per_bandwidth),
            Self::Each(widths) => widths.map(|width| width * per_bandwidth),
        }
    }
}

/// `factors`, 1 for candidates that are off.
#[inline(always)]
fn present(mut factors: Lanes, off: Option<&[bool; LANES]>) -> Lanes {
    if let Some(off) = off {
        for (factor, off) in factors.0.iter_mut().zip(off) {
            if *off {
                *factor = 1.0;
            }
        }
    }
    factors
}

/// A kernel whose value in cells that are too wide for a [`CellShape`] is taken from the error function.
#[inline(always)]
fn wide(mut kernel: Lanes, z: &Lanes, h: &Lanes, scale: f64) -> Lanes {
    for lane in 0..LANES {
        // NaN where the parameter is off.
        if h.0[lane] > WIDEST_CELL {
            let same = |other: &usize| z.0[*other].to_bits() == z.0[lane].to_bits();
            kernel.0[lane] = match (0..lane).find(same) {
                Some(other) => kernel.0[other],
                None => scale * wide_bell(z.0[lane], h.0[lane]),
            };
        }
    }
    kernel
}

/// The means of exp(−x² / 2) over the cells of width `h` around each `z`; 0 where it is faint.
pub(super) fn mean_bells(z: &[f64], h: f64) -> Vec<f64> {
    let shape = CellShape::new(h.min(WIDEST_CELL));
    let means = |block: &[f64]| {
        let z = Lanes(std::array::from_fn(|lane| block[lane.min(block.len() - 1)]));
        let t = z.map(|z| z * z);
        let narrow = exp(t.map(|t| -0.5 * t)).times(&shape.at(&t));
        let means = if h <= WIDEST_CELL { narrow } else { z.map(|z| wide_bell(z, h)) };
        means.map(|mean| if mean < FAINT { 0.0 } else { mean }).0.into_iter().take(block.len()).collect::<Vec<_>>()
    };
    z.chunks(LANES).flat_map(means).collect()
}

/// The mean of exp(−x² / 2) over a wide cell.
fn wide_bell(z: f64, h: f64) -> f64 {
    let tail = |x: f64| 0.5 * libm::erfc(x * std::f64::consts::FRAC_1_SQRT_2);
    let z = z.abs();
    let (near, far) = (z - 0.5 * h, z + 0.5 * h);
    let mass = if near > 0.0 { tail(near) - tail(far) } else { 1.0 - tail(-near) - tail(far) };
    SQRT_2PI / h * mass
}
