//! Verdicts of the rules that stop trials.

#[path = "../common/machine.rs"]
mod machine;
mod optuna;
mod racing;
mod trial;
