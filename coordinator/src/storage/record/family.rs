//! Families of studies: a parent, and a child for each class of workers.

use fleetune_core::StudyId;
use fleetune_core::schedule::Per;

use super::{StudyRecord, WorkerRecord};

/// What a study is in its family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Family {
    /// It has no trials, but a child for each class of workers.
    Parent(Per),
    /// It is for workers of one class.
    Child {
        /// Its parent.
        parent: StudyId,
        /// What tells workers apart.
        per: Per,
        /// Its workers.
        class: String,
    },
}

impl Family {
    /// What tells workers apart.
    pub fn per(&self) -> &Per {
        match self {
            Self::Parent(per) | Self::Child { per, .. } => per,
        }
    }

    /// The parent of a child.
    pub fn parent(&self) -> Option<StudyId> {
        match self {
            Self::Parent(_) => None,
            Self::Child { parent, .. } => Some(*parent),
        }
    }

    /// The workers of a child.
    pub fn class(&self) -> Option<&str> {
        match self {
            Self::Parent(_) => None,
            Self::Child { class, .. } => Some(class),
        }
    }

    /// The class of `worker`; none where it lacks what decides on that.
    pub fn class_of(&self, worker: &WorkerRecord) -> Option<String> {
        match self.per() {
            Per::Device => Some(worker.device_class()),
            Per::Label(label) => worker.labels.get(label).cloned(),
        }
    }
}

impl StudyRecord {
    /// Whether it has children, and no trials.
    pub fn is_parent(&self) -> bool {
        matches!(self.family, Some(Family::Parent(_)))
    }

    /// Its parent.
    pub fn parent(&self) -> Option<StudyId> {
        self.family.as_ref().and_then(Family::parent)
    }

    /// Whether it is a child for workers of another class than `worker` is.
    pub fn is_for_others(&self, worker: &WorkerRecord) -> bool {
        let class = |family: &Family| family.class_of(worker);
        self.family
            .as_ref()
            .is_some_and(|family| family.class().is_some_and(|own| class(family).as_deref() != Some(own)))
    }
}
