//! Values as they are compared: bit for bit.

use std::collections::BTreeMap;

use fleetune_proto::v1::value::Kind;
use fleetune_proto::v1::{Trial, Value};

/// Parameters by name, a float as its bits.
pub type Params = BTreeMap<String, String>;

/// How a trial ended: its state and the bits of its values.
pub type End = (i32, Vec<u64>);

/// The bits of `params`.
pub fn params(params: &BTreeMap<String, Value>) -> Params {
    params.iter().map(|(name, value)| (name.clone(), text(value))).collect()
}

/// The end of `trial`, if it has ended.
pub fn end(trial: &Trial) -> Option<End> {
    trial.ended_at.is_some().then(|| (trial.state, floats(&trial.values)))
}

/// The bits of `values`.
pub fn floats(values: &[f64]) -> Vec<u64> {
    values.iter().map(|value| value.to_bits()).collect()
}

fn text(value: &Value) -> String {
    match &value.kind {
        Some(Kind::Null(_)) | None => "null".to_owned(),
        Some(Kind::Bool(value)) => value.to_string(),
        Some(Kind::Int(value)) => value.to_string(),
        Some(Kind::Float(value)) => format!("float {:016x}", value.to_bits()),
        Some(Kind::Text(value)) => format!("`{value}`"),
    }
}
