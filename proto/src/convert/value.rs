//! Values, parameters, instants, durations, tokens.

use std::collections::BTreeMap;
use std::time::Duration;

use fleetune_core::{LeaseToken, Params, Timestamp, Value};

use super::Invalid;
use crate::v1;

/// Longest text a value or a name may have, bytes.
const MAX_TEXT: usize = 4096;

/// Most parameters a message may carry.
const MAX_PARAMS: usize = 1000;

/// Checks a value: set, finite, bounded.
pub fn value(wire: v1::Value) -> Result<Value, Invalid> {
    use v1::value::Kind;
    match wire.kind {
        None => Err(Invalid::missing("value")),
        Some(Kind::Null(_)) => Ok(Value::Null),
        Some(Kind::Bool(bool)) => Ok(Value::Bool(bool)),
        Some(Kind::Int(int)) => Ok(Value::Int(int)),
        Some(Kind::Float(float)) if float.is_finite() => Ok(Value::Float(float)),
        Some(Kind::Float(float)) => Err(Invalid::new("value", format!("{float} is not a finite number"))),
        Some(Kind::Text(text)) if text.len() <= MAX_TEXT => Ok(Value::Text(text)),
        Some(Kind::Text(_)) => Err(Invalid::new("value", format!("a text is longer than {MAX_TEXT} bytes"))),
    }
}

/// Converts to the wire.
pub fn value_to_wire(value: &Value) -> v1::Value {
    use v1::value::Kind;
    let kind = match value {
        Value::Null => Kind::Null(true),
        Value::Bool(bool) => Kind::Bool(*bool),
        Value::Int(int) => Kind::Int(*int),
        Value::Float(float) => Kind::Float(*float),
        Value::Text(text) => Kind::Text(text.clone()),
    };
    v1::Value { kind: Some(kind) }
}

/// Checks parameters: bounded in number and in each value.
pub fn params(wire: BTreeMap<String, v1::Value>) -> Result<Params, Invalid> {
    if wire.len() > MAX_PARAMS {
        return Err(Invalid::new("params", format!("{} parameters; at most {MAX_PARAMS} are allowed", wire.len())));
    }
    wire.into_iter()
        .map(|(name, wire)| match value(wire) {
            Ok(value) => Ok((name, value)),
            Err(invalid) => Err(Invalid { field: format!("params.{name}"), ..invalid }),
        })
        .collect()
}

/// Converts to the wire.
pub fn params_to_wire(params: &Params) -> BTreeMap<String, v1::Value> {
    params.iter().map(|(name, value)| (name.clone(), value_to_wire(value))).collect()
}

/// The instant of a wire timestamp; saturates far outside of history.
pub fn timestamp(wire: &prost_types::Timestamp) -> Timestamp {
    Timestamp(wire.seconds.saturating_mul(1_000_000).saturating_add(i64::from(wire.nanos) / 1000))
}

/// Converts to the wire.
pub fn timestamp_to_wire(instant: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: instant.0.div_euclid(1_000_000),
        nanos: i32::try_from(instant.0.rem_euclid(1_000_000) * 1000).unwrap_or(0),
    }
}

/// Checks a duration: not negative.
pub fn duration(field: &str, wire: prost_types::Duration) -> Result<Duration, Invalid> {
    Duration::try_from(wire).map_err(|_| Invalid::new(field, "a duration must not be negative"))
}

/// Seconds as a wire duration; what is negative or not finite becomes 0.
pub fn duration_to_wire(seconds: f64) -> prost_types::Duration {
    let duration = Duration::try_from_secs_f64(seconds).unwrap_or_default();
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(0),
    }
}

/// Checks a lease token; an empty text is none.
pub fn token(wire: &str) -> Result<Option<LeaseToken>, Invalid> {
    if wire.is_empty() {
        return Ok(None);
    }
    wire.parse().map(Some).map_err(|invalid| Invalid::new("lease_token", invalid))
}
