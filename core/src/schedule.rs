//! How workers are shared among studies: what decides who is served next, and nothing of what is measured.

/// Farthest priority from 0, either way.
pub const MAX_PRIORITY: i32 = 1_000;

/// By what the workers of a study are told apart, each kind with a study of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Per {
    /// The device class.
    Device,
    /// The value of this label.
    Label(String),
}

impl Per {
    /// What [`Self::from_name`] reads: `device`, `label:rack`.
    pub fn name(&self) -> String {
        match self {
            Self::Device => "device".to_owned(),
            Self::Label(label) => format!("label:{label}"),
        }
    }

    /// The kind called `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        match name.strip_prefix("label:") {
            None => (name == "device").then_some(Self::Device),
            Some(label) => {
                let fits = (1..=100).contains(&label.chars().count()) && !label.chars().any(char::is_control);
                fits.then(|| Self::Label(label.to_owned()))
            }
        }
    }
}

/// A study's claim to workers. No suggestion depends on it, and it may change at any time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    /// Studies of a higher one are served first; those of the same one in turn. Within [`MAX_PRIORITY`] of 0.
    pub priority: i32,
    /// Trials that workers may lease at once, at least 1; none: as many as there are workers.
    pub max_parallel: Option<u32>,
    /// Which workers may serve it: the text of a [`Selector`](crate::selector::Selector); none: all.
    pub selector: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_read_as_they_are_written() {
        for name in ["device", "label:rack", "label:a:b"] {
            assert_eq!(Per::from_name(name).unwrap().name(), name);
        }
        for wrong in ["", "Device", "label:", "rack", "label:\n"] {
            assert_eq!(Per::from_name(wrong), None, "{wrong:?}");
        }
    }
}
