//! The process as the system sees it. Nothing where there is no `/proc`.

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

/// Adds what can be told.
pub(super) fn register(registry: &mut Registry) {
    let mut tell = |name: &str, help: &str, unit: Option<Unit>, value: Option<i64>| {
        let Some(value) = value else { return };
        let gauge = Gauge::<i64>::default();
        gauge.set(value);
        match unit {
            Some(unit) => registry.register_with_unit(name, help, unit, gauge),
            None => registry.register(name, help, gauge),
        }
    };
    tell("process_resident_memory", "Memory of the coordinator", Some(Unit::Bytes), resident_bytes());
    let files = std::fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count() as i64);
    tell("process_open_fds", "Open files and sockets of the coordinator", None, files);
}

fn resident_bytes() -> Option<i64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: i64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
