//! The harness of the end-to-end tests: real processes in an environment of their own.
//!
//! A [`Place`] is a temporary folder with a model and everything the program would keep in the user's folders. Programs
//! run in it are ended with it. Waiting is always for a condition, with a deadline that only a hang reaches.

pub mod drill;
pub mod place;
pub mod running;
pub mod served;
pub mod trials;
pub mod wait;

pub use place::Place;
pub use running::{Done, Running};
pub use served::Served;
pub use wait::until;

/// A new [`Place`] with the programs of this package, which only a test's own crate knows.
#[macro_export]
macro_rules! place {
    () => {
        $crate::Place::new(env!("CARGO_BIN_EXE_fleetune-e2e"), env!("CARGO_BIN_EXE_scripted-runner"))
    };
}

/// A search space whose settings the scripted runner's formula reads; the same on every machine.
pub const SPACE: &str = r#"
[parameters.n_batch]
type = "int"
low = 64
high = 4096
log = true
default = 2048
[parameters.n_ubatch]
type = "int"
low = 64
high = 2048
log = true
default = 512
[parameters.n_threads]
type = "int"
low = 1
high = 16
default = 4
[parameters.flash_attn]
choices = ["auto", "on", "off"]
default = "auto"
"#;
