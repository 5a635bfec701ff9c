//! What the numbers hold for, and what a process used.

use std::fs::{self, File};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::time::Instant;

use serde::{Deserialize, Serialize};

/// Writes whose time is measured.
const SYNCS: usize = 200;
/// What one write adds, as a commit of a small transaction does.
const BLOCK: [u8; 4096] = [7; 4096];
/// The unit of processor times in /proc is the same on every Linux.
const TICKS_PER_S: f64 = 100.0;

/// The machine and its disk.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Machine {
    /// Its processor.
    pub cpu: String,
    /// Logical cores.
    pub cores: usize,
    /// Milliseconds until 4 KiB are on the disk, median: what every commit waits for.
    pub disk_sync_ms: f64,
}

impl Machine {
    /// Looks at this machine, and waits for the disk of the temporary folder a few times.
    pub fn measure() -> Result<Self, String> {
        let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        Ok(Self {
            cpu: model.map_or_else(|| "unknown".to_owned(), |(_, model)| model.to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            disk_sync_ms: disk_sync_ms().map_err(|error| format!("the temporary folder cannot be used: {error}"))?,
        })
    }
}

fn disk_sync_ms() -> std::io::Result<f64> {
    let mut file = tempfile::tempfile()?;
    // Written once before, so that what is timed changes blocks and no sizes, as in a write-ahead log.
    file.write_all(&BLOCK.repeat(SYNCS))?;
    file.sync_all()?;
    file.seek(SeekFrom::Start(0))?;
    let mut times: Vec<f64> = (0..SYNCS).map(|_| one_sync_ms(&mut file)).collect::<Result<_, _>>()?;
    times.sort_by(f64::total_cmp);
    Ok(times[SYNCS / 2])
}

fn one_sync_ms(file: &mut File) -> std::io::Result<f64> {
    let start = Instant::now();
    file.write_all(&BLOCK)?;
    file.sync_data()?;
    Ok(start.elapsed().as_secs_f64() * 1000.0)
}

/// Seconds of processor time that process `id` has used so far, all its threads together.
pub fn cpu_s(id: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    // The name before may hold anything; fields are counted from the bracket that ends it.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok()).unwrap_or(f64::NAN);
    (ticks(11) + ticks(12)) / TICKS_PER_S
}

/// The most memory that process `id` ever had in use, in MiB.
pub fn peak_rss_mib(id: u32) -> f64 {
    status_mib(id, "VmHWM:")
}

/// The memory that process `id` has in use, in MiB.
pub fn rss_mib(id: u32) -> f64 {
    status_mib(id, "VmRSS:")
}

fn status_mib(id: u32, field: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kib.map_or(f64::NAN, |kib| kib / 1024.0)
}
