//! Times, which Optuna's tables hold without a zone: up to 4.9 as local times of whoever wrote them, from 5.0 on as UTC.

use chrono::{DateTime, Local, MappedLocalTime, NaiveDateTime, TimeDelta, TimeZone as _, Utc};
use fleetune_core::Timestamp;

const FORM: &str = "%Y-%m-%d %H:%M:%S%.f";

/// What times without a zone mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zone {
    /// The zone of this process.
    Local,
    /// UTC.
    Utc,
}

impl Zone {
    /// What a database of Optuna `version` means.
    pub fn of(version: &str) -> Self {
        let major: Option<u32> = version.split('.').next().and_then(|major| major.parse().ok());
        if major.is_some_and(|major| major < 5) { Self::Local } else { Self::Utc }
    }
}

/// Reads a time; `None` when it is none.
pub fn read(text: &str, zone: Zone) -> Option<Timestamp> {
    let naive = NaiveDateTime::parse_from_str(text, FORM).ok()?;
    let utc = match zone {
        Zone::Utc => naive.and_utc(),
        Zone::Local => match Local.from_local_datetime(&naive) {
            // Twice in the night when clocks are set back: the first, as Python has it.
            MappedLocalTime::Single(at) | MappedLocalTime::Ambiguous(at, _) => at.with_timezone(&Utc),
            // Never, in the night when they are set forward.
            MappedLocalTime::None => {
                let offset = Local.offset_from_utc_datetime(&naive).local_minus_utc();
                naive.and_utc() - TimeDelta::seconds(offset.into())
            }
        },
    };
    Some(Timestamp(utc.timestamp_micros()))
}

/// A time as Optuna 5 writes it into SQLite; `None` beyond the years that it knows.
pub fn text(at: Timestamp) -> Option<String> {
    Some(DateTime::<Utc>::from_timestamp_micros(at.0)?.format("%Y-%m-%d %H:%M:%S%.6f").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_says_what_times_mean() {
        for (version, zone) in [("3.0.6", Zone::Local), ("4.9.0", Zone::Local), ("5.0.0", Zone::Utc), ("", Zone::Utc)] {
            assert_eq!(Zone::of(version), zone, "{version}");
        }
    }

    #[test]
    fn times_survive_to_the_microsecond() {
        for micros in [0, 1, 1_763_702_874_752_916, -1] {
            let at = Timestamp(micros);
            assert_eq!(read(&text(at).unwrap(), Zone::Utc), Some(at));
        }
        assert_eq!(read("2026-01-01 00:00:00", Zone::Utc), read("2026-01-01 00:00:00.000000", Zone::Utc));
        assert_eq!(read("2026-01-01 00:00:00.5", Zone::Utc), read("2026-01-01 00:00:00.500000", Zone::Utc));
        assert_eq!((read("yesterday", Zone::Utc), text(Timestamp(i64::MAX))), (None, None));
    }
}
