//! Memory that a process here can really have.

/// Texts of the files that tell.
#[derive(Clone, Debug, Default)]
pub struct MemoryTexts {
    /// `/proc/meminfo`.
    pub meminfo: String,
    /// Limits of the control group in bytes: `memory.max` (v2), `memory.limit_in_bytes` (v1). `max`, empty or a
    /// number near 2^63 is no limit.
    pub limits: Vec<String>,
}

/// MiB of the machine, or of the container when that is less; 0 when nothing tells.
pub fn usable_ram_mib(texts: &MemoryTexts) -> u64 {
    let total_kib = texts.meminfo.lines().find_map(|line| {
        let rest = line.strip_prefix("MemTotal:")?;
        rest.split_whitespace().next()?.parse::<u64>().ok()
    });
    let total = total_kib.map_or(0, |kib| kib >> 10);
    let limit = texts.limits.iter().filter_map(|text| text.trim().parse::<u64>().ok()).map(|bytes| bytes >> 20).min();
    match limit {
        Some(limit) if limit > 0 && (total == 0 || limit < total) => limit,
        Some(_) | None => total,
    }
}

/// Memory that programs can still get, by the text of `/proc/meminfo`.
pub fn available_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn available_memory_is_read() {
        let text = "MemTotal:       16384000 kB\nMemAvailable:   12000000 kB\n";
        assert_eq!(available_bytes(text), Some(12_288_000_000));
        assert_eq!(available_bytes("MemTotal: 1 kB\n"), None);
    }

    #[test]
    fn container_limit_counts_when_it_is_less() {
        let ram = |limits: &[&str]| {
            usable_ram_mib(&MemoryTexts {
                meminfo: "MemTotal:       24689712 kB\nMemFree:  1 kB\n".to_owned(),
                limits: limits.iter().map(|limit| (*limit).to_owned()).collect(),
            })
        };
        assert_eq!(ram(&["max\n", ""]), 24111);
        assert_eq!(ram(&["8589934592\n", ""]), 8192);
        assert_eq!(ram(&["", "9223372036854771712"]), 24111);
        assert_eq!(usable_ram_mib(&MemoryTexts::default()), 0);
    }
}
