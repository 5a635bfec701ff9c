//! Workers.

use std::time::SystemTime;

use super::table::{pairs, seconds, table};
use crate::view::WorkerView;

/// A line per worker.
pub fn workers(workers: &[WorkerView]) -> String {
    if workers.is_empty() {
        return "no workers yet; `fleetune worker run --server URL --models DIR` starts one".to_owned();
    }
    let rows = workers
        .iter()
        .map(|worker| {
            let id = worker.id.get(..8).unwrap_or(&worker.id).to_owned();
            vec![
                worker.name.clone(),
                id,
                state(worker),
                worker.models.len().to_string(),
                worker.device_class.clone(),
                now(worker),
                labels(worker),
            ]
        })
        .collect();
    table(&["WORKER", "ID", "STATE", "MODELS", "DEVICE CLASS", "NOW", "LABELS"], &["MODELS"], rows)
}

/// Everything about one worker.
pub fn worker(worker: &WorkerView) -> String {
    let machine = &worker.inventory;
    let mib = |mib: u64| format!("{:.1} GiB", mib as f64 / 1024.0);
    let gpus: Vec<_> = machine.gpus.iter().map(|gpu| format!("{}, {}", gpu.name, mib(gpu.vram_mib))).collect();
    let cpu =
        format!("{}, {} cores, {} threads", machine.cpu.model, machine.cpu.physical_cores, machine.cpu.logical_cpus);
    let engines: Vec<_> = worker.executors.iter().map(|(name, engine)| format!("{name}: {engine}")).collect();
    let mut text = pairs(&[
        ("worker", worker.name.clone()),
        ("id", worker.id.clone()),
        ("state", state(worker)),
        ("labels", labels(worker)),
        ("class", worker.device_class.clone()),
        (
            "host",
            format!(
                "{} ({} {}{})",
                machine.host,
                machine.os,
                machine.kernel,
                if machine.wsl.detected { ", WSL" } else { "" }
            ),
        ),
        ("cpu", cpu),
        ("memory", mib(machine.ram_mib)),
        ("gpus", gpus.join("; ")),
        ("now", now(worker)),
        ("engines", engines.join("; ")),
        ("version", worker.version.clone()),
    ]);
    for job in &worker.jobs {
        let what = job.trial.map_or_else(|| job.kind.clone(), |trial| format!("trial {trial}"));
        text.push_str(&format!("\nholds {what} of study `{}` (attempt {})", job.study, job.attempt));
    }
    if worker.models.is_empty() {
        text.push_str("\n\nit sees no models");
        return text;
    }
    let rows = worker.models.iter().map(|model| {
        let mib = format!("{:.1} MiB", model.bytes as f64 / f64::from(1 << 20));
        vec![model.name.clone(), mib, model.hash.get(..8).unwrap_or(&model.hash).to_owned(), model.path.clone()]
    });
    text.push_str("\n\n");
    text.push_str(&table(&["MODEL", "SIZE", "HASH", "PATH"], &["SIZE"], rows.collect()));
    text
}

/// What its machine does; nothing where that is not known.
fn now(worker: &WorkerView) -> String {
    let Some(gauges) = &worker.gauges else { return String::new() };
    let gib = |bytes: u64| format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30));
    let mut words = Vec::new();
    words.extend(gauges.load.map(|load| format!("load {load:.2}")));
    words.extend(gauges.memory_available_bytes.map(|bytes| format!("{} free", gib(bytes))));
    for device in &gauges.devices {
        let facts = [
            device.memory_used_bytes.map(gib),
            device.utilization.map(|part| format!("{:.0} %", part * 100.0)),
            device.temperature_celsius.map(|degrees| format!("{degrees:.0} °C")),
            device.power_watts.map(|watts| format!("{watts:.0} W")),
        ];
        let facts: Vec<_> = facts.into_iter().flatten().collect();
        words.push(format!("GPU {}: {}", device.device, facts.join(" ")));
    }
    words.join(", ")
}

fn state(worker: &WorkerView) -> String {
    let seen = worker.last_seen_us.and_then(|seen| u64::try_from(seen).ok());
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let silent = seen.map(|seen| now.as_secs_f64() - seen as f64 / 1.0e6);
    match (worker.alive, worker.draining, silent) {
        (true, false, _) => "alive".to_owned(),
        (true, true, _) => "draining".to_owned(),
        (false, draining, silent) => {
            let since = silent.map(|silent| format!(" for {}", seconds(silent.max(0.0)))).unwrap_or_default();
            format!("silent{since}{}", if draining { ", drained" } else { "" })
        }
    }
}

fn labels(worker: &WorkerView) -> String {
    worker.labels.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
}
