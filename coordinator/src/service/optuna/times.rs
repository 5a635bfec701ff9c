//! Times as Python writes them.

use chrono::{DateTime, Local, MappedLocalTime, NaiveDateTime, TimeDelta, TimeZone as _, Utc};
use fleetune_core::Timestamp;

use crate::scheduler::OptunaTimes;

/// A time in the form that `times` says. Without one, nothing.
pub fn text(at: Option<Timestamp>, times: OptunaTimes) -> String {
    let Some(utc) = at.and_then(|at| DateTime::<Utc>::from_timestamp_micros(at.0)) else { return String::new() };
    match times {
        OptunaTimes::Local => utc.with_timezone(&Local).format("%Y-%m-%d %H:%M:%S%.6f").to_string(),
        OptunaTimes::Iso => utc.format("%Y-%m-%dT%H:%M:%S%.6f+00:00").to_string(),
    }
}

/// Reads either form; a time without an offset is one of this process's time zone. `None` when it is no time.
pub fn read(text: &str) -> Option<Timestamp> {
    let text = text.trim().replacen(' ', "T", 1);
    let utc = if text.ends_with('Z') || text.get(10..).is_some_and(|time| time.contains(['+', '-'])) {
        DateTime::parse_from_rfc3339(&text).ok()?.with_timezone(&Utc)
    } else {
        let naive = NaiveDateTime::parse_from_str(&text, "%Y-%m-%dT%H:%M:%S%.f").ok()?;
        match Local.from_local_datetime(&naive) {
            // Twice in the night when clocks are set back: the first, as Python has it.
            MappedLocalTime::Single(at) | MappedLocalTime::Ambiguous(at, _) => at.with_timezone(&Utc),
            // Never, in the night when they are set forward.
            MappedLocalTime::None => {
                let offset = Local.offset_from_utc_datetime(&naive).local_minus_utc();
                naive.and_utc() - TimeDelta::seconds(offset.into())
            }
        }
    };
    Some(Timestamp(utc.timestamp_micros()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_survive_to_the_microsecond() {
        let at = Some(Timestamp(1_763_702_874_752_916));
        for times in [OptunaTimes::Local, OptunaTimes::Iso] {
            assert_eq!(read(&text(at, times)), at, "{times:?}");
        }
        assert_eq!(text(at, OptunaTimes::Iso), "2025-11-21T05:27:54.752916+00:00");
        assert_eq!(text(at, OptunaTimes::Local).len(), "2025-11-21 05:27:54.752916".len());
        assert_eq!(
            text(Some(Timestamp(1_763_702_874_000_000)), OptunaTimes::Local).split_once('.').unwrap().1,
            "000000"
        );
        assert_eq!(text(None, OptunaTimes::Local), "");
    }

    #[test]
    fn what_python_reads_is_read() {
        let noon = Some(Timestamp(1_763_726_400_000_000));
        for same in ["2025-11-21T12:00:00Z", "2025-11-21 12:00:00+00:00", "2025-11-21T14:00:00.000+02:00"] {
            assert_eq!(read(same), noon, "{same}");
        }
        assert_eq!(read("2025-11-21T12:00:00"), read("2025-11-21 12:00:00.000000"));
        for bad in ["", "yesterday", "2025-13-01 00:00:00", "2025-11-21", "2025-11-21 12:00:00 oclock"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
