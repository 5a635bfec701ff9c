//! How workers are shared among studies: what decides who is served next, and nothing of what is measured.

/// Farthest priority from 0, either way.
pub const MAX_PRIORITY: i32 = 1_000;

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
