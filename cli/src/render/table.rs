//! Tables and numbers.

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};

/// A table without lines; columns named in `right` are aligned right.
pub fn table(header: &[&str], right: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(header.iter().copied());
    table.add_rows(rows);
    for (index, name) in header.iter().enumerate() {
        if let Some(column) = table.column_mut(index) {
            if right.contains(name) {
                column.set_cell_alignment(CellAlignment::Right);
            }
            // Outer padding off, two blanks between columns.
            column.set_padding((0, 2));
        }
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// Pairs of name and value, aligned; pairs without a value are left out.
pub fn pairs(pairs: &[(&str, String)]) -> String {
    let shown: Vec<_> = pairs.iter().filter(|(_, value)| !value.is_empty()).collect();
    let width = shown.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    shown.iter().map(|(name, value)| format!("{name:<width$}  {value}")).collect::<Vec<_>>().join("\n")
}

/// A number with about four significant digits: `7.031`, `152.3`, `12345`.
pub fn number(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return format!("{value}");
    }
    let digits = value.abs().log10().floor() as i32;
    let decimals = usize::try_from((3 - digits).clamp(0, 6)).unwrap_or(0);
    format!("{value:.decimals$}")
}

/// Seconds for people: `0.4s`, `12s`, `3m20s`, `2h05m`.
pub fn seconds(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "-".to_owned();
    }
    if seconds < 9.95 {
        return format!("{seconds:.1}s");
    }
    let whole = seconds.round() as u64;
    match whole {
        0..=59 => format!("{whole}s"),
        60..=3599 => format!("{}m{:02}s", whole / 60, whole % 60),
        _ => format!("{}h{:02}m", whole / 3600, whole % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_four_digits() {
        assert_eq!(number(7.031_23), "7.031");
        assert_eq!(number(152.34), "152.3");
        assert_eq!(number(12345.6), "12346");
        assert_eq!(number(0.012_346), "0.01235");
    }

    #[test]
    fn seconds_read_as_people_say_them() {
        assert_eq!(seconds(0.42), "0.4s");
        assert_eq!(seconds(61.0), "1m01s");
        assert_eq!(seconds(59.9), "1m00s");
        assert_eq!(seconds(7500.0), "2h05m");
    }
}
