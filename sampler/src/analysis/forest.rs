//! A random forest over configurations: numbers are cut at thresholds, categories into two sets.
//!
//! Source: Breiman 2001, with all parameters looked at in each node, as Optuna's importances are computed.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use fleetune_core::{Distribution, Params, TrialNumber};
use rand::rngs::ChaCha8Rng;

use super::observation::{Observation, unit};
use super::surrogate::Surrogate;
use crate::rng::{below, trial_rng};

/// Trees of a forest. Origin: Optuna's fANOVA.
const TREES: usize = 64;
/// Most draws for one tree: more would cost time and change little.
const MAX_DRAWS: usize = 2_000;

/// One parameter as the trees see it: a number in [0, 1], or the index of a choice; NaN where it is not there.
#[derive(Clone, Debug)]
pub(super) struct Feature {
    pub(super) name: String,
    distribution: Arc<Distribution>,
    /// 0 for a number.
    pub(super) choices: usize,
}

impl Feature {
    pub(super) fn new(name: &str, distribution: Arc<Distribution>) -> Self {
        let choices = match distribution.as_ref() {
            Distribution::Categorical(choices) => choices.as_slice().len(),
            Distribution::Float(_) | Distribution::Int(_) => 0,
        };
        Self { name: name.to_owned(), distribution, choices }
    }

    fn encode(&self, internal: f64) -> f64 {
        unit(&self.distribution, internal).unwrap_or(internal)
    }
}

/// Which side of a split goes left.
#[derive(Clone, Debug)]
pub(super) enum Cut {
    /// Numbers at most this.
    Below(f64),
    /// Choices marked here.
    Among(Vec<bool>),
}

impl Cut {
    fn goes_left(&self, x: f64) -> bool {
        match self {
            Self::Below(threshold) => x <= *threshold,
            Self::Among(left) => left.get(x as usize).copied().unwrap_or(false),
        }
    }
}

#[derive(Clone, Debug)]
pub(super) enum Node {
    Leaf(f64),
    Split { feature: usize, cut: Cut, left: usize, right: usize },
}

/// Nodes; the root is the first.
pub(super) type Tree = Vec<Node>;

/// A fitted forest.
#[derive(Clone, Debug)]
pub struct Forest {
    pub(super) features: Vec<Feature>,
    pub(super) trees: Vec<Tree>,
}

impl Forest {
    /// Fits `losses`, one per observation, finite. Each tree learns from a bootstrap sample of its own; the same seed
    /// gives the same forest.
    pub fn fit(observations: &[&Observation], losses: &[f64], seed: u64) -> Self {
        let mut distributions = BTreeMap::new();
        for observation in observations {
            for (name, setting) in &observation.params {
                // Where a client changed a range, the newest counts.
                distributions.insert(name.clone(), setting.distribution.clone());
            }
        }
        let features = distributions.into_iter().map(|(name, distribution)| Feature::new(&name, distribution));
        let features = features.collect::<Vec<_>>();
        let encode = |observation: &&Observation| {
            let value = |feature: &Feature| {
                let internal = observation.params.get(&feature.name).map(|setting| setting.internal);
                internal.map_or(f64::NAN, |internal| feature.encode(internal))
            };
            features.iter().map(value).collect()
        };
        let data = Data { features: &features, rows: observations.iter().map(encode).collect(), losses };
        let trees = (0..TREES).map(|tree| data.tree(&mut trial_rng(seed, TrialNumber(tree as i64), &["forest"])));
        let trees = trees.collect();
        Self { features, trees }
    }

    fn predict(tree: &Tree, row: &[f64]) -> f64 {
        let mut place = 0;
        loop {
            match &tree[place] {
                Node::Leaf(value) => return *value,
                Node::Split { feature, cut, left, right } => {
                    place = if cut.goes_left(row[*feature]) { *left } else { *right };
                }
            }
        }
    }
}

impl Surrogate for Forest {
    /// The mean of the trees and their standard deviation.
    fn mean_sd(&self, params: &Params) -> (f64, f64) {
        let value = |feature: &Feature| {
            let internal = params.get(&feature.name).and_then(|value| feature.distribution.to_internal(value).ok());
            internal.map_or(f64::NAN, |internal| feature.encode(internal))
        };
        let row = self.features.iter().map(value).collect::<Vec<_>>();
        let predictions = self.trees.iter().map(|tree| Self::predict(tree, &row)).collect::<Vec<_>>();
        let count = predictions.len() as f64;
        let mean = predictions.iter().sum::<f64>() / count;
        let variance = predictions.iter().map(|p| (p - mean) * (p - mean)).sum::<f64>() / (count - 1.0);
        (mean, variance.sqrt())
    }
}

struct Data<'a> {
    features: &'a [Feature],
    rows: Vec<Vec<f64>>,
    losses: &'a [f64],
}

/// The best split found: the fall of the sum of squares, and where.
struct Found {
    gain: f64,
    feature: usize,
    cut: Cut,
}

impl Data<'_> {
    fn tree(&self, rng: &mut ChaCha8Rng) -> Tree {
        let count = self.rows.len();
        let mut rows = (0..count.min(MAX_DRAWS)).map(|_| below(rng, count as u64) as usize).collect::<Vec<_>>();
        // Sums then do not depend on the order of draws.
        rows.sort_unstable();
        let mut tree = Vec::new();
        self.grow(&mut tree, rows);
        tree
    }

    fn grow(&self, tree: &mut Tree, rows: Vec<usize>) -> usize {
        let place = tree.len();
        tree.push(Node::Leaf(self.mean(&rows)));
        if let Some(Found { feature, cut, .. }) = self.split(&rows) {
            let (left, right) = rows.into_iter().partition(|&row| cut.goes_left(self.rows[row][feature]));
            let left = self.grow(tree, left);
            let right = self.grow(tree, right);
            tree[place] = Node::Split { feature, cut, left, right };
        }
        place
    }

    fn mean(&self, rows: &[usize]) -> f64 {
        rows.iter().map(|&row| self.losses[row]).sum::<f64>() / rows.len().max(1) as f64
    }

    fn split(&self, rows: &[usize]) -> Option<Found> {
        if rows.windows(2).all(|pair| self.losses[pair[0]].to_bits() == self.losses[pair[1]].to_bits()) {
            return None;
        }
        let mean = self.mean(rows);
        let mut best = None::<Found>;
        for (feature, kind) in self.features.iter().enumerate() {
            // A cut of a parameter that is not everywhere would tell more about where it is than about its value.
            if rows.iter().any(|&row| self.rows[row][feature].is_nan()) {
                continue;
            }
            let found = if kind.choices == 0 {
                self.threshold(feature, rows, mean)
            } else {
                self.subset(feature, kind.choices, rows, mean)
            };
            // The first of equals, by name.
            if let Some(found) = found
                && best.as_ref().is_none_or(|best| found.gain > best.gain)
            {
                best = Some(found);
            }
        }
        best.filter(|best| best.gain > 0.0)
    }

    fn threshold(&self, feature: usize, rows: &[usize], mean: f64) -> Option<Found> {
        let mut pairs = rows.iter().map(|&row| (self.rows[row][feature], self.losses[row])).collect::<Vec<_>>();
        pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut best = None::<(f64, usize)>;
        let mut sum = 0.0;
        for place in 1..pairs.len() {
            sum += pairs[place - 1].1 - mean;
            if pairs[place - 1].0 < pairs[place].0 {
                let gain = gain(sum, place, pairs.len());
                if best.is_none_or(|(highest, _)| gain > highest) {
                    best = Some((gain, place));
                }
            }
        }
        let (gain, place) = best?;
        let cut = Cut::Below(f64::midpoint(pairs[place - 1].0, pairs[place].0).min(pairs[place].0.next_down()));
        Some(Found { gain, feature, cut })
    }

    /// With the choices in the order of their mean loss, one of the cuts between two is the best of all (Fisher 1958).
    /// Choices that are not there go with the larger side.
    fn subset(&self, feature: usize, choices: usize, rows: &[usize], mean: f64) -> Option<Found> {
        let mut sums = vec![(0.0, 0_usize); choices];
        for &row in rows {
            let (sum, count) = &mut sums[(self.rows[row][feature] as usize).min(choices - 1)];
            *sum += self.losses[row] - mean;
            *count += 1;
        }
        let mut present = (0..choices).filter(|&choice| sums[choice].1 > 0).collect::<Vec<_>>();
        let average = |choice: usize| sums[choice].0 / sums[choice].1 as f64;
        present.sort_by(|&a, &b| average(a).partial_cmp(&average(b)).unwrap_or(Ordering::Equal));
        let mut best = None::<(f64, usize, usize)>;
        let (mut sum, mut count) = (0.0, 0);
        for place in 1..present.len() {
            sum += sums[present[place - 1]].0;
            count += sums[present[place - 1]].1;
            let gain = gain(sum, count, rows.len());
            if best.is_none_or(|(highest, ..)| gain > highest) {
                best = Some((gain, place, count));
            }
        }
        let (gain, place, count) = best?;
        let mut left = (0..choices).map(|choice| sums[choice].1 == 0 && 2 * count > rows.len()).collect::<Vec<_>>();
        for &choice in &present[..place] {
            left[choice] = true;
        }
        Some(Found { gain, feature, cut: Cut::Among(left) })
    }
}

/// The fall of the sum of squares when `count` of `all` rows, whose deviations from the mean add up to `sum`, are split
/// off.
fn gain(sum: f64, count: usize, all: usize) -> f64 {
    sum * sum * all as f64 / (count as f64 * (all - count) as f64)
}
