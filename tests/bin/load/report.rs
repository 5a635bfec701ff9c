//! What is printed at the end.

use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{CellAlignment, Table};
use serde::{Deserialize, Serialize};

use crate::cell::Cell;
use crate::growth::Grown;
use crate::latency::Quantiles;
use crate::machine::Machine;

/// Everything that was measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// On what.
    pub machine: Machine,
    /// Length of a repetition.
    pub seconds: f64,
    /// A row of the table each.
    pub cells: Vec<Cell>,
    /// Or of that of studies that grew.
    #[serde(default)]
    pub grown: Vec<Grown>,
}

impl Report {
    /// Tables in Markdown.
    pub fn to_tables(&self) -> String {
        let Machine { cpu, cores, disk_sync_ms } = &self.machine;
        let mut tables =
            vec![format!("{cpu}, {cores} cores; 4 KiB are on the disk after {disk_sync_ms:.2} ms (median)")];
        if !self.cells.is_empty() {
            tables.extend([self.rates().to_string(), self.sizes().to_string()]);
        }
        if self.cells.iter().any(|cell| cell.heartbeat_ms.is_some()) {
            tables.push(self.heartbeats().to_string());
        }
        if !self.grown.is_empty() {
            tables.push(self.growth().to_string());
        }
        tables.join("\n\n")
    }

    fn heartbeats(&self) -> Table {
        let mut table = new_table(&[
            "system",
            "storage",
            "sampler",
            "clients",
            "workers",
            "heartbeats",
            "ms p50",
            "p95",
            "p99",
            "max",
        ]);
        for cell in &self.cells {
            let Some(Quantiles { count, p50, p95, p99, max }) = cell.heartbeat_ms else { continue };
            let mut row = identity(cell);
            row.extend([cell.workers.to_string(), count.to_string()]);
            row.extend([p50, p95, p99, max].map(|ms| format!("{ms:.2}")));
            table.add_row(row);
        }
        align(table)
    }

    fn growth(&self) -> Table {
        let mut table = new_table(&[
            "storage",
            "sampler",
            "trials",
            "opens s",
            "ask ms p50",
            "p99",
            "max",
            "tell ms p50",
            "p99",
            "first page ms",
            "last page ms",
            "MiB",
            "peak MiB",
            "grown/s",
        ]);
        for grown in &self.grown {
            let Grown { ask_ms, tell_ms, .. } = grown;
            let mut row = vec![grown.storage.clone(), grown.sampler.clone(), grown.trials.to_string()];
            row.push(format!("{:.2}", grown.open_s));
            let times = [ask_ms.p50, ask_ms.p99, ask_ms.max, tell_ms.p50, tell_ms.p99];
            row.extend(times.map(|ms| format!("{ms:.2}")));
            row.extend([grown.first_page_ms, grown.last_page_ms].map(|ms| format!("{ms:.2}")));
            row.extend([grown.rss_mib, grown.peak_rss_mib, grown.trials_per_s].map(|number| format!("{number:.0}")));
            table.add_row(row);
        }
        align(table)
    }

    fn rates(&self) -> Table {
        let mut table = new_table(&[
            "system",
            "storage",
            "sampler",
            "clients",
            "pairs/s",
            "min–max",
            "ask ms p50",
            "p95",
            "p99",
            "max",
            "tell ms p50",
            "p95",
            "p99",
            "max",
            "errors",
            "server ms/pair",
            "MiB",
        ]);
        for cell in &self.cells {
            let mut row = identity(cell);
            row.extend(rate(&cell.pairs_per_s));
            for Quantiles { p50, p95, p99, max, .. } in [cell.ask_ms, cell.tell_ms] {
                row.extend([p50, p95, p99, max].map(|ms| format!("{ms:.2}")));
            }
            row.push(cell.errors.to_string());
            row.push(format!("{:.2}", cell.server_cpu_s * 1000.0 / cell.ask_ms.count as f64));
            row.push(format!("{:.0}", cell.server_peak_rss_mib));
            table.add_row(row);
        }
        align(table)
    }

    fn sizes(&self) -> Table {
        let mut table = new_table(&[
            "system",
            "storage",
            "sampler",
            "clients",
            "trials",
            "asks",
            "ask ms p50",
            "p95",
            "p99",
            "max",
        ]);
        for cell in &self.cells {
            for band in cell.ask_ms_by_size.iter().filter(|band| band.ask_ms.count > 0) {
                let Quantiles { count, p50, p95, p99, max } = band.ask_ms;
                let mut row = identity(cell);
                row.push(format!("{}–{}", band.from, band.to));
                row.push(count.to_string());
                row.extend([p50, p95, p99, max].map(|ms| format!("{ms:.2}")));
                table.add_row(row);
            }
        }
        align(table)
    }
}

/// The columns that say what was measured.
fn identity(cell: &Cell) -> Vec<String> {
    vec![cell.system.clone(), cell.storage.clone(), cell.sampler.clone(), cell.clients.to_string()]
}

/// The median, and the smallest and the largest.
fn rate(pairs_per_s: &[f64]) -> [String; 2] {
    let mut sorted = pairs_per_s.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (Some(first), Some(last)) = (sorted.first(), sorted.last()) else {
        return ["–".to_owned(), "–".to_owned()];
    };
    let middle = sorted.len() / 2;
    let median = if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) };
    [format!("{median:.0}"), format!("{first:.0}–{last:.0}")]
}

fn new_table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN).set_header(header);
    table
}

/// Words to the left, numbers to the right.
fn align(mut table: Table) -> Table {
    for column in table.column_iter_mut().skip(3) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
