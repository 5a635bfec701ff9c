//! What a finished search says: which parameters matter, which trials are best at once, what is left to gain.
//!
//! Losses are smaller the better. Nothing here proposes a trial; the samplers borrow the orders of `pareto`.

mod fanova;
mod forest;
mod hypervolume;
mod importance;
mod observation;
mod outlook;
mod pareto;
mod ped_anova;
mod surrogate;

pub use forest::Forest;
pub use hypervolume::{MAX_VOLUME_OBJECTIVES, hypervolume};
pub use importance::{Importance, ImportanceMethod, Importances, LEAST_OBSERVATIONS, TooFew, importances};
pub use observation::{Observation, Setting, losses, scalar_losses};
pub use outlook::{Change, Outlook, outlook, sensitivity};
pub(crate) use pareto::lexicographic;
pub use pareto::{crowding, dominates, front, knee, ranks};
pub use surrogate::Surrogate;
