//! What an attempt observed.

use fleetune_core::measurement::{AttemptDetail, MAX_STDERR_TAIL};
use fleetune_core::{Metric, Samples};

use super::{Invalid, params, params_to_wire};
use crate::v1;

/// Most samples of one metric in a message.
const MAX_SAMPLES: usize = 100_000;

/// Longest JSON text inside a detail, bytes.
const MAX_JSON: usize = 256 * 1024;

/// Checks what a worker sends: known metrics once each, bounded texts, JSON that parses.
pub fn detail(wire: v1::AttemptDetail) -> Result<AttemptDetail, Invalid> {
    let mut samples = Samples::default();
    for metric_samples in wire.samples {
        let metric = Metric::from_name(&metric_samples.metric)
            .ok_or_else(|| Invalid::new("samples.metric", format!("`{}` is no metric", metric_samples.metric)))?;
        if metric_samples.values.len() > MAX_SAMPLES {
            return Err(Invalid::new("samples.values", format!("more than {MAX_SAMPLES} samples of {metric}")));
        }
        if samples.0.insert(metric, metric_samples.values).is_some() {
            return Err(Invalid::new("samples", format!("{metric} is given twice")));
        }
    }
    if wire.stderr_tail.len() > MAX_STDERR_TAIL {
        return Err(Invalid::new("stderr_tail", format!("longer than {MAX_STDERR_TAIL} bytes")));
    }
    Ok(AttemptDetail {
        samples,
        requested: params(wire.requested)?,
        effective: json("effective_json", &wire.effective_json)?,
        engine: wire.engine,
        device_class: wire.device_class,
        stderr_tail: wire.stderr_tail,
        stopped_by: wire.stopped_by,
        waited_s: wire.waited_s,
        telemetry: json("telemetry_json", &wire.telemetry_json)?,
    })
}

/// Converts to the wire.
pub fn detail_to_wire(detail: &AttemptDetail) -> v1::AttemptDetail {
    v1::AttemptDetail {
        samples: detail
            .samples
            .0
            .iter()
            .map(|(metric, values)| v1::MetricSamples { metric: metric.as_str().to_owned(), values: values.clone() })
            .collect(),
        requested: params_to_wire(&detail.requested),
        effective_json: json_to_wire(&detail.effective),
        engine: detail.engine.clone(),
        device_class: detail.device_class.clone(),
        stderr_tail: detail.stderr_tail.clone(),
        stopped_by: detail.stopped_by.clone(),
        waited_s: detail.waited_s,
        telemetry_json: json_to_wire(&detail.telemetry),
    }
}

fn json(field: &str, text: &str) -> Result<serde_json::Value, Invalid> {
    if text.is_empty() {
        return Ok(serde_json::Value::Null);
    }
    if text.len() > MAX_JSON {
        return Err(Invalid::new(field, format!("longer than {MAX_JSON} bytes")));
    }
    serde_json::from_str(text).map_err(|error| Invalid::new(field, error))
}

fn json_to_wire(json: &serde_json::Value) -> String {
    if json.is_null() { String::new() } else { json.to_string() }
}
