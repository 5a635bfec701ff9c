//! The services as clients see them: over the in-process transport, on real databases.

mod service {
    pub mod analysis;
    pub mod ask;
    pub mod desk;
    pub mod family;
    pub mod fit;
    pub mod fleet;
    pub mod harness;
    pub mod lease;
    pub mod machine;
    pub mod optuna;
    pub mod regions;
    pub mod replicas;
    pub mod share;
    pub mod silence;
    pub mod suggest;
    pub mod warm;
    pub mod word;
    pub mod worker;
}
