//! Corners of a space that are not sampled any more: what is at least so large and otherwise equal.
//!
//! Forbid clauses are the author's; these come from what happened to machines while the search went on. They are
//! compared natively, since every candidate of a sampler meets all of them.

use std::collections::BTreeMap;

use super::model::{Condition, Forbid, SearchSpace};
use crate::value::{Params, Value};

/// What one parameter of an excluded configuration is.
#[derive(Clone, Debug, PartialEq)]
pub enum Bound {
    /// This number or more.
    AtLeast(f64),
    /// This number or more, or negative, which stands for everything there is.
    AtLeastOrAll(f64),
    /// Exactly this.
    Is(Value),
}

impl Bound {
    /// Whether `value` lies within.
    pub fn holds(&self, value: &Value) -> bool {
        match self {
            // No number: not knowing is no reason to take a machine down.
            Self::AtLeast(least) => value.as_f64().is_none_or(|number| number >= *least),
            Self::AtLeastOrAll(least) => value.as_f64().is_none_or(|number| number >= *least || number < 0.0),
            Self::Is(wanted) => wanted.equals_in_python(value),
        }
    }

    fn text(&self, name: &str) -> String {
        match self {
            Self::AtLeast(least) | Self::AtLeastOrAll(least) => format!("{name} >= {least}"),
            Self::Is(Value::Text(text)) => format!("{name} == '{text}'"),
            Self::Is(value) => format!("{name} == {value}"),
        }
    }
}

/// Configurations that have all of these parameters, each within its bound.
#[derive(Clone, Debug, PartialEq)]
pub struct Exclusion {
    /// By parameter; at least one.
    pub bounds: BTreeMap<String, Bound>,
    /// Why, for people.
    pub why: String,
}

impl Exclusion {
    /// Whether `params` lies in it. Nothing does where there is no bound.
    pub fn contains(&self, params: &Params) -> bool {
        let within = |(name, bound): (&String, &Bound)| params.get(name).is_some_and(|value| bound.holds(value));
        !self.bounds.is_empty() && self.bounds.iter().all(within)
    }
}

/// An exclusion as a clause of a space.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Excluded {
    pub(super) text: String,
    pub(super) names: Vec<String>,
    pub(super) exclusion: Exclusion,
}

impl From<Exclusion> for Forbid {
    fn from(exclusion: Exclusion) -> Self {
        let names: Vec<String> = exclusion.bounds.keys().cloned().collect();
        let text: Vec<String> = exclusion.bounds.iter().map(|(name, bound)| bound.text(name)).collect();
        let why = Some(exclusion.why.clone());
        Self { condition: Condition::Excluded(Excluded { text: text.join(" && "), names, exclusion }), why }
    }
}

impl SearchSpace {
    /// The space without these corners, which may leave nothing of it. One that mentions a parameter which is not in the
    /// space excludes nothing.
    #[must_use]
    pub fn excluding(&self, exclusions: impl IntoIterator<Item = Exclusion>) -> Self {
        let mut space = self.clone();
        let known = |exclusion: &Exclusion| exclusion.bounds.keys().all(|name| self.parameters.contains_key(name));
        let exclusions = exclusions.into_iter().filter(|exclusion| !exclusion.bounds.is_empty() && known(exclusion));
        space.forbids.extend(exclusions.map(Forbid::from));
        space.decide();
        space
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space() -> SearchSpace {
        let text = "[parameters.layers]\ntype = 'int'\nlow = -1\nhigh = 40\n[parameters.batch]\ntype = 'int'\nlow = 1\n\
                    high = 64\n[parameters.fa]\nchoices = ['on', 'off']";
        SearchSpace::from_toml(text).unwrap()
    }

    fn params(layers: i64, batch: i64, fa: &str) -> Params {
        Params::from([("layers".into(), layers.into()), ("batch".into(), batch.into()), ("fa".into(), fa.into())])
    }

    fn corner() -> Exclusion {
        let bounds =
            [("layers", Bound::AtLeastOrAll(32.0)), ("batch", Bound::AtLeast(8.0)), ("fa", Bound::Is("on".into()))];
        Exclusion {
            bounds: bounds.into_iter().map(|(name, bound)| (name.to_owned(), bound)).collect(),
            why: "it took a machine down".to_owned(),
        }
    }

    #[test]
    fn a_corner_is_what_is_at_least_so_large_and_otherwise_equal() {
        let space = space().excluding([corner()]);
        for (layers, batch, fa, excluded) in [
            (32, 8, "on", true),
            (40, 64, "on", true),
            (-1, 8, "on", true),
            (31, 64, "on", false),
            (40, 7, "on", false),
            (40, 64, "off", false),
        ] {
            let params = params(layers, batch, fa);
            assert_eq!(space.check(&params).is_err(), excluded, "{params:?}");
            assert_eq!(space.forbidden_by(&params).is_some(), excluded, "{params:?}");
        }
        let error = space.check(&params(40, 64, "on")).unwrap_err().to_string();
        assert_eq!(error, "forbidden by `batch >= 8 && fa == 'on' && layers >= 32`: it took a machine down");
    }

    #[test]
    fn a_space_that_is_restricted_keeps_its_corners_and_a_file_of_it_does_not() {
        let excluding = space().excluding([corner()]);
        let fixed = Params::from([("layers".into(), 40.into()), ("batch".into(), 8.into())]);
        let restricted = excluding.restrict(&fixed).unwrap();
        assert!(restricted.check(&params(40, 8, "on")).is_err());
        assert!(excluding.restrict(&params(40, 8, "on")).is_err());
        let file = serde_json::to_string(&excluding).unwrap();
        assert_eq!(serde_json::from_str::<SearchSpace>(&file).unwrap(), space());
    }

    #[test]
    fn what_the_space_does_not_have_excludes_nothing() {
        let mut other = corner();
        other.bounds.insert("threads".to_owned(), Bound::AtLeast(1.0));
        let nothing = Exclusion { bounds: BTreeMap::new(), why: String::new() };
        assert_eq!(space().excluding([other, nothing]), space());
    }
}
