//! The studies that clients share, and what is searched in them.

use std::collections::BTreeMap;
use std::sync::RwLock;
use std::sync::atomic::{AtomicU32, Ordering};

use fleetune_proto::v1::distribution::Kind as Distributed;
use fleetune_proto::v1::study_service_client::StudyServiceClient;
use fleetune_proto::v1::value::Kind;
use fleetune_proto::v1::{
    CategoricalDistribution, CreateStudyRequest, Direction, Distribution, FloatDistribution, IntDistribution,
    Parameter, SearchSpace, StudyConfig, Value,
};
use tonic::Status;
use tonic::transport::Channel;

use crate::options::Sampler;

/// Trials after which a study is full and the next one begins.
pub const STUDY_TRIALS: i64 = 1_000;

/// The study of the moment.
#[derive(Debug)]
pub struct Studies {
    sampler: Sampler,
    current: RwLock<String>,
    made: AtomicU32,
}

impl Studies {
    /// None yet; [`Self::next`] makes the first.
    pub fn new(sampler: Sampler) -> Self {
        Self { sampler, current: RwLock::new(String::new()), made: AtomicU32::new(0) }
    }

    /// Its name.
    pub fn current(&self) -> String {
        self.current.read().expect("nobody panics with it").clone()
    }

    /// Begins a fresh study.
    pub async fn next(&self, service: &mut StudyServiceClient<Channel>) -> Result<(), Status> {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let name = format!("load-{number}");
        let config = StudyConfig {
            directions: vec![Direction::Minimize.into()],
            space: Some(space()),
            sampler: Some(fleetune_proto::v1::Sampler { name: self.sampler.name().to_owned(), ..Default::default() }),
            seed: u64::from(number),
            ..StudyConfig::default()
        };
        let request = CreateStudyRequest {
            request_id: format!("study-{number}"),
            name: name.clone(),
            config: Some(config),
            ..CreateStudyRequest::default()
        };
        service.create_study(request).await?;
        *self.current.write().expect("nobody panics with it") = name;
        Ok(())
    }
}

/// Six parameters of every kind that there is.
fn space() -> SearchSpace {
    let parameter = |name: &str, kind| Parameter {
        name: name.to_owned(),
        distribution: Some(Distribution { kind: Some(kind) }),
        ..Parameter::default()
    };
    let int = |low, high, log| Distributed::Int(IntDistribution { low, high, step: 1, log });
    let float = |low, high, log| Distributed::Float(FloatDistribution { low, high, step: None, log });
    let choice = |choices: &[&str]| {
        let choices = choices.iter().map(|&choice| Value { kind: Some(Kind::Text(choice.to_owned())) });
        Distributed::Categorical(CategoricalDistribution { choices: choices.collect() })
    };
    let parameters = vec![
        parameter("batch", int(1, 4_096, true)),
        parameter("threads", int(1, 64, false)),
        parameter("fraction", float(0.0, 1.0, false)),
        parameter("rate", float(1e-5, 1.0, true)),
        parameter("kind", choice(&["a", "b", "c", "d"])),
        parameter("mode", choice(&["off", "on", "auto"])),
    ];
    SearchSpace { parameters, ..SearchSpace::default() }
}

/// What is minimised; a bowl, so that a sampler that learns has something to learn.
pub fn objective(params: &BTreeMap<String, Value>) -> f64 {
    let number = |name: &str| match params.get(name).and_then(|value| value.kind.as_ref()) {
        Some(&Kind::Int(value)) => value as f64,
        Some(&Kind::Float(value)) => value,
        Some(Kind::Text(text)) => f64::from(text.as_bytes()[0] - b'a'),
        Some(Kind::Null(_) | Kind::Bool(_)) | None => f64::NAN,
    };
    (number("batch").ln() - 5.0).powi(2)
        + (number("threads") / 8.0 - 3.0).powi(2)
        + (number("fraction") - 0.7).powi(2)
        + (number("rate").log10() + 3.0).powi(2)
        + number("kind")
        + number("mode") / 10.0
}
