//! What a model file tells: its metadata, its identity, which settings are worth a search on a machine, and what each of
//! them is likely to need and to bring; and synthetic models where there is no file.
//!
//! Nothing here is async, reads a clock or the environment, or opens a file: readers and writers are given.

pub mod estimate;
pub mod fit;
pub mod gguf;
pub mod identity;
pub mod layout;
pub mod metadata;
pub mod synth;
pub mod tunables;

pub use estimate::{Estimation, Estimator};
pub use fit::{Fit, FitOptions, fits};
pub use gguf::GgufError;
pub use identity::{ModelFile, ModelHash, inspect};
pub use layout::Layout;
pub use metadata::ModelMetadata;
pub use synth::{SynthQuant, SynthSize, SynthSpec};
pub use tunables::{DefaultSpace, SpaceOptions, default_space, default_space_with};
