//! Importances by functional analysis of variance: the share of the variance over the whole space that one parameter
//! alone explains, in each tree of a forest exactly.
//!
//! Source: Hutter, Hoos and Leyton-Brown 2014. Numbers are uniform on the scale of their distribution. A conditional
//! parameter is cut only where it is there, so that it counts by the share of the space in which it is.
//!
//! Departs from Optuna: a logarithmic parameter is uniform in the logarithm, as it is searched, and a categorical one is
//! one parameter, not a number for each choice.

use super::forest::{Cut, Feature, Forest, Node, Tree};

/// For each tree the importance of each feature, adding up to 1 where the tree has any main effect.
pub(super) fn importances(forest: &Forest) -> Vec<Vec<f64>> {
    let of = |tree: &Tree| {
        let leaves = Leaves::of(tree, &forest.features);
        let effects = (0..forest.features.len()).map(|feature| leaves.main_effect(feature, &forest.features[feature]));
        let effects = effects.collect::<Vec<_>>();
        let sum = effects.iter().sum::<f64>();
        effects.into_iter().map(|effect| if sum > 0.0 { effect / sum } else { 0.0 }).collect()
    };
    forest.trees.iter().map(of).collect()
}

/// What a leaf takes of one parameter.
#[derive(Clone, Debug)]
enum Extent {
    Range(f64, f64),
    Choices(Vec<bool>),
}

impl Extent {
    /// The share of the parameter's values.
    fn share(&self) -> f64 {
        match self {
            Self::Range(low, high) => high - low,
            Self::Choices(taken) => taken.iter().filter(|taken| **taken).count() as f64 / taken.len() as f64,
        }
    }

    fn part(&self, cut: &Cut, is_left: bool) -> Self {
        match (self, cut) {
            (Self::Range(low, high), Cut::Below(at)) => {
                if is_left {
                    Self::Range(*low, at.clamp(*low, *high))
                } else {
                    Self::Range(at.clamp(*low, *high), *high)
                }
            }
            (Self::Choices(taken), Cut::Among(left)) => {
                Self::Choices(taken.iter().zip(left).map(|(taken, left)| *taken && *left == is_left).collect())
            }
            (other, _) => other.clone(),
        }
    }
}

/// The leaves of a tree: value, share of the space, extent.
struct Leaves {
    leaves: Vec<(f64, f64, Vec<Extent>)>,
    mean: f64,
}

impl Leaves {
    fn of(tree: &Tree, features: &[Feature]) -> Self {
        let whole = |feature: &Feature| match feature.choices {
            0 => Extent::Range(0.0, 1.0),
            choices => Extent::Choices(vec![true; choices]),
        };
        let mut leaves = Vec::new();
        let mut open = vec![(0, features.iter().map(whole).collect::<Vec<_>>())];
        while let Some((place, extents)) = open.pop() {
            match &tree[place] {
                Node::Leaf(value) => {
                    let volume = extents.iter().map(Extent::share).product::<f64>();
                    if volume > 0.0 {
                        leaves.push((*value, volume, extents));
                    }
                }
                Node::Split { feature, cut, left, right } => {
                    for (child, is_left) in [(*right, false), (*left, true)] {
                        let mut extents = extents.clone();
                        extents[*feature] = extents[*feature].part(cut, is_left);
                        open.push((child, extents));
                    }
                }
            }
        }
        let mean = leaves.iter().map(|(value, volume, _)| value * volume).sum();
        Self { leaves, mean }
    }

    /// The variance of the mean over all other parameters.
    fn main_effect(&self, feature: usize, kind: &Feature) -> f64 {
        let mut edges = vec![0.0, 1.0];
        for (.., extents) in &self.leaves {
            if let Extent::Range(low, high) = &extents[feature] {
                edges.extend([*low, *high]);
            }
        }
        edges.sort_by(f64::total_cmp);
        edges.dedup();
        let cells = if kind.choices == 0 { edges.len() - 1 } else { kind.choices };
        // Of numbers the change from the cell before.
        let mut marginal = vec![0.0; cells + 1];
        for (value, volume, extents) in &self.leaves {
            let height = (value - self.mean) * volume / extents[feature].share();
            match &extents[feature] {
                Extent::Range(low, high) => {
                    marginal[edges.partition_point(|edge| edge < low)] += height;
                    marginal[edges.partition_point(|edge| edge < high)] -= height;
                }
                Extent::Choices(taken) => {
                    for (cell, _) in taken.iter().enumerate().filter(|(_, taken)| **taken) {
                        marginal[cell] += height;
                    }
                }
            }
        }
        let mut height = 0.0;
        let mut variance = 0.0;
        for cell in 0..cells {
            if kind.choices == 0 {
                height += marginal[cell];
                variance += height * height * (edges[cell + 1] - edges[cell]);
            } else {
                variance += marginal[cell] * marginal[cell] / cells as f64;
            }
        }
        variance
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fleetune_core::SearchSpace;

    #[test]
    fn main_effects_of_a_known_tree_are_exact() {
        // x <= ½: 0; else y is b: 4, anything else: 1.
        let space = "[parameters]\nx = { type = 'float', low = 0, high = 1 }\ny = ['a', 'b', 'c', 'd']";
        let space = SearchSpace::from_toml(space).unwrap();
        let feature = |name: &str| Feature::new(name, space.parameters()[name].distribution().clone().into());
        let features = [feature("x"), feature("y")];
        let tree = vec![
            Node::Split { feature: 0, cut: Cut::Below(0.5), left: 1, right: 2 },
            Node::Leaf(0.0),
            Node::Split { feature: 1, cut: Cut::Among(vec![false, true, false, false]), left: 3, right: 4 },
            Node::Leaf(4.0),
            Node::Leaf(1.0),
        ];
        let leaves = Leaves::of(&tree, &features);
        let mean = 0.5 * 1.75;
        assert!((leaves.mean - mean).abs() < 1e-15);
        let effect = |feature: usize| leaves.main_effect(feature, &features[feature]);
        assert!((effect(0) - f64::midpoint(mean * mean, (1.75 - mean) * (1.75 - mean))).abs() < 1e-14);
        assert!((effect(1) - ((2.0 - mean) * (2.0 - mean) + 3.0 * (0.5 - mean) * (0.5 - mean)) / 4.0).abs() < 1e-14);
    }
}
