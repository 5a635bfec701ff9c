//! What can be wrong with a search space or a configuration, with remedies.

use crate::distribution::DistributionError;
use crate::value::Value;

/// Why a text is no search space, or parameters are no configuration of one.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SpaceError {
    /// A limit of size or number.
    #[error("{what} exceeds the limit of {limit}")]
    TooLarge {
        /// What is too large.
        what: String,
        /// The limit, with its unit.
        limit: String,
    },
    /// Not TOML or JSON at all.
    #[error("not valid {format}: {message}")]
    Syntax {
        /// `TOML` or `JSON`.
        format: &'static str,
        /// The parser's words, with a position.
        message: String,
    },
    /// A key nobody knows.
    #[error("{place}: unknown key `{key}`")]
    UnknownKey {
        /// Where it stands.
        place: String,
        /// The key.
        key: String,
        /// The known key it is most like.
        nearest: Option<String>,
    },
    /// A key that must be there.
    #[error("{place}: `{key}` is missing")]
    MissingKey {
        /// Where it should stand.
        place: String,
        /// The key.
        key: &'static str,
        /// What could be pasted.
        example: &'static str,
    },
    /// A value of the wrong kind.
    #[error("{place}: `{key}` must be {expected}, not {got}")]
    WrongType {
        /// Where it stands.
        place: String,
        /// The key.
        key: String,
        /// What it must be.
        expected: &'static str,
        /// What it is.
        got: String,
    },
    /// No parameters at all.
    #[error("the search space has no parameters")]
    NoParameters,
    /// A name that cannot be one.
    #[error(
        "`{0}` cannot be a parameter's name: names are 1 to 128 letters, digits, `_`, `-` or `.`, first a letter or `_`"
    )]
    BadName(String),
    /// A distribution that is none.
    #[error("parameter `{name}`: {source}")]
    Distribution {
        /// The parameter.
        name: String,
        /// Why.
        source: DistributionError,
    },
    /// A default outside the distribution.
    #[error("parameter `{name}`: default {source}")]
    Default {
        /// The parameter.
        name: String,
        /// Why.
        source: DistributionError,
    },
    /// A name of no parameter.
    #[error("{place}: there is no parameter `{name}`")]
    UnknownParameter {
        /// Who mentions it.
        place: String,
        /// The name.
        name: String,
        /// The parameter it is most like.
        nearest: Option<String>,
    },
    /// Conditions that wait for each other.
    #[error("conditions form a cycle: {}", cycle_text(.0))]
    Cycle(Vec<String>),
    /// An expression that does not compile, mentions nothing, or cannot be evaluated.
    #[error("{place}: expression `{text}`: {message}")]
    Expression {
        /// Whose expression.
        place: String,
        /// The expression, shortened.
        text: String,
        /// Why.
        message: String,
        /// The remedy.
        hint: Option<String>,
    },
    /// Two constraints of one name.
    #[error("constraint `{0}` appears twice")]
    DuplicateConstraint(String),
    /// Nothing is left to sample.
    #[error("the search space forbids every configuration{}", if *.proven { "" } else { ", as far as a bounded search shows" })]
    Unsatisfiable {
        /// Whether every configuration was looked at.
        proven: bool,
    },
    /// A parameter that an active configuration must have.
    #[error("parameter `{0}` has no value")]
    Missing(String),
    /// A value for a parameter whose condition does not hold.
    #[error("parameter `{name}` has a value, but its condition `{when}` does not hold")]
    Inactive {
        /// The parameter.
        name: String,
        /// Its condition.
        when: String,
    },
    /// A value outside the distribution.
    #[error("parameter `{name}`: {source}")]
    Value {
        /// The parameter.
        name: String,
        /// Why.
        source: DistributionError,
    },
    /// A combination that a clause forbids.
    #[error("forbidden by `{clause}`{}", why_text(.why.as_deref()))]
    Forbidden {
        /// The clause's expression.
        clause: String,
        /// Its reason, when one was given.
        why: Option<String>,
    },
    /// A parameter to be held at its default has none.
    #[error("parameter `{0}` has no default to be held at")]
    NoDefault(String),
}

fn cycle_text(names: &[String]) -> String {
    names.iter().chain(names.first()).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" → ")
}

fn why_text(why: Option<&str>) -> String {
    why.map_or_else(String::new, |why| format!(": {why}"))
}

impl SpaceError {
    /// The remedy where it is known, as something that can be pasted.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownKey { nearest, .. } | Self::UnknownParameter { nearest, .. } => {
                nearest.as_ref().map(|nearest| format!("did you mean `{nearest}`?"))
            }
            Self::MissingKey { example, .. } => Some(format!("add `{example}`")),
            Self::NoParameters => Some(
                "add a table such as `[parameters.n_batch]` with `type = \"int\"`, `low = 32`, `high = 4096`"
                    .to_owned(),
            ),
            Self::Distribution { source, .. } | Self::Default { source, .. } | Self::Value { source, .. } => {
                source.hint()
            }
            Self::Cycle(_) => Some("drop one of these `when` conditions".to_owned()),
            Self::Expression { hint, .. } => hint.clone(),
            Self::Unsatisfiable { .. } => Some("drop a `[[forbid]]` clause, or widen a range it mentions".to_owned()),
            Self::Inactive { name, .. } => Some(format!("drop `{name}`")),
            Self::NoDefault(name) => Some(format!("give `{name}` a `default`")),
            Self::TooLarge { .. }
            | Self::Syntax { .. }
            | Self::WrongType { .. }
            | Self::BadName(_)
            | Self::DuplicateConstraint(_)
            | Self::Missing(_)
            | Self::Forbidden { .. } => None,
        }
    }
}

/// The name among `known` that `name` is most like, if it is like any.
pub(super) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    // Long texts are no typing errors, and the distance takes quadratic time.
    if name.len() > 256 {
        return None;
    }
    let scored = known.into_iter().map(|candidate| (strsim::jaro_winkler(name, candidate), candidate));
    let best = scored.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (best.0 > 0.7).then(|| best.1.to_owned())
}

/// `value` as a message shows it: on one line, at most 80 characters.
pub(super) fn shown(value: &Value) -> String {
    shorten(&value.to_string())
}

pub(super) fn shorten(text: &str) -> String {
    let mut line = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(81).collect::<String>();
    if line.chars().count() > 80 {
        line = line.chars().take(79).collect();
        line.push('…');
    }
    line
}
