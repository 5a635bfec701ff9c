//! The margin: on a grid the neighbours of the mean keep a chance, so that no coordinate freezes.
//!
//! Source: Hamano et al. 2022, arXiv:2205.13482, section 4; the same numbers as `CMAwM` of the package `cmaes` gives.

use super::evolution::Evolution;
use crate::numeric::{log_ndtr, normal_quantile};

/// Where the cells of a grid coordinate end.
#[derive(Clone, Debug, PartialEq)]
pub struct Grid {
    /// The borders between neighbours, ascending, at least one.
    pub borders: Vec<f64>,
}

impl Grid {
    /// The cell in which `x` lies, from 0; a border belongs to the cell below.
    pub fn cell(&self, x: f64) -> usize {
        self.borders.partition_point(|border| *border < x)
    }

    /// The borders around the cell of `x`; in a cell at an end the one border it has, twice.
    fn around(&self, x: f64) -> (f64, f64) {
        let cell = self.cell(x);
        let last = self.borders.len() - 1;
        (self.borders[cell.saturating_sub(1).min(last)], self.borders[cell.min(last)])
    }
}

/// Φ(x).
fn ndtr(x: f64) -> f64 {
    libm::exp(log_ndtr(x))
}

/// The x above which lies `p` of the standard normal.
fn upper(p: f64) -> f64 {
    -normal_quantile(p)
}

/// Moves the mean and changes `stretch` along the coordinates that have a grid, such that at least a `margin` of the draws
/// leave the mean's cell, half of it on each side. A draw x then means `mean + stretch (x − mean)`.
pub fn correct(evolution: &mut Evolution, stretch: &mut [f64], grids: &[Option<Grid>], margin: f64) {
    for (coordinate, grid) in grids.iter().enumerate() {
        let Some(grid) = grid else { continue };
        let mean = evolution.mean()[coordinate];
        let (low, high) = grid.around(mean);
        let deviation = evolution.deviation(coordinate);
        let scale = deviation * stretch[coordinate];
        let (below, above) = (ndtr((low - mean) / scale), ndtr((mean - high) / scale));
        if below.max(above) > 0.5 {
            // Beyond the outermost border: as near to it as the margin wants.
            if below.min(above) < margin {
                evolution.mean_mut()[coordinate] = high + (mean - high).signum() * scale * upper(margin);
            }
            continue;
        }
        let half = margin / 2.0;
        if below >= half && above >= half {
            continue;
        }
        let between = 1.0 - below - above;
        let (below, above) = (below.max(half), above.max(half));
        let excess = (1.0 - below - above - between) / (below + between + above - 3.0 * half);
        let share = |p: f64| (p + excess * (p - half)).clamp(1e-10, 0.5 - 1e-10);
        let (below, above) = (upper(share(below)), upper(share(above)));
        stretch[coordinate] = (high - low) / ((below + above) * deviation);
        evolution.mean_mut()[coordinate] = (low * above + high * below) / (below + above);
    }
}
