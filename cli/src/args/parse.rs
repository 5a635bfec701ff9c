//! How words of the command line are read.

use fleetune_core::runner::KvType;
use fleetune_core::schedule::Per;
use fleetune_core::{Direction, FailKind, Objective, Role, TrialState, Value};

/// Seconds of `90`, `30s`, `10m`, `2h`, `500ms`.
pub fn parse_duration(text: &str) -> Result<f64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &text[digits.len()..] {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        unit => return Err(format!("`{unit}` is no unit of time; use ms, s, m or h, as in `90s` or `10m`")),
    };
    let number: f64 = digits.parse().map_err(|_| format!("`{text}` is no time; write `90s` or `10m`"))?;
    let seconds = number * factor;
    if seconds.is_finite() && seconds > 0.0 && seconds <= 1.0e9 {
        Ok(seconds)
    } else {
        Err(format!("`{text}` is outside what a time may be: above 0, at most 10^9 seconds"))
    }
}

/// Seconds of `90d`, or of what [`parse_duration`] reads.
pub fn parse_days(text: &str) -> Result<f64, String> {
    match text.strip_suffix('d') {
        Some(days) => {
            let days: f64 = days.parse().map_err(|_| format!("`{text}` is no time; write `90d` or `12h`"))?;
            parse_duration(&format!("{}h", days * 24.0))
        }
        None => parse_duration(text),
    }
}

/// A role by its name.
pub fn parse_role(text: &str) -> Result<Role, String> {
    let names = || Role::ALL.map(Role::as_str).join(", ");
    Role::from_name(text).ok_or_else(|| format!("there is no role `{text}`; use one of {}", names()))
}

/// MiB of `12GiB`, `500MiB`, `12G` or `500M`; a number alone is in MiB.
pub fn parse_mib(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &text[digits.len()..] {
        "" | "M" | "MiB" => 1.0,
        "G" | "GiB" => 1024.0,
        unit => return Err(format!("`{unit}` is no unit of memory; use MiB or GiB, as in `12GiB`")),
    };
    let number: f64 = digits.parse().map_err(|_| format!("`{text}` is no size; write `12GiB` or `500MiB`"))?;
    let mib = number * factor;
    if (0.0..=1.0e9).contains(&mib) {
        Ok(mib as u64)
    } else {
        Err(format!("`{text}` is outside what a memory may be: 0 to 10^9 MiB"))
    }
}

/// A type of KV cache by its name.
pub fn parse_kv_type(text: &str) -> Result<KvType, String> {
    let names = || KvType::ALL.iter().map(|kv| kv.as_str()).collect::<Vec<_>>().join(", ");
    KvType::from_name(text).ok_or_else(|| format!("there is no type of cache `{text}`; use one of {}", names()))
}

/// A metric by its name.
pub fn parse_objective(text: &str) -> Result<Objective, String> {
    let names = || Objective::ALL.map(Objective::as_str).join(", ");
    Objective::from_name(text).ok_or_else(|| format!("there is no metric `{text}`; use one of {}", names()))
}

/// A direction by its name.
pub fn parse_direction(text: &str) -> Result<Direction, String> {
    [Direction::Minimize, Direction::Maximize]
        .into_iter()
        .find(|direction| direction.as_str() == text)
        .ok_or_else(|| format!("there is no direction `{text}`; use minimize or maximize"))
}

/// A kind of failure by its name.
pub fn parse_fail_kind(text: &str) -> Result<FailKind, String> {
    let names = || FailKind::ALL.map(FailKind::as_str).join(", ");
    FailKind::from_name(text).ok_or_else(|| format!("there is no kind of failure `{text}`; use one of {}", names()))
}

/// A state of trials by its name.
pub fn parse_state(text: &str) -> Result<TrialState, String> {
    let names = || TrialState::ALL.map(TrialState::as_str).join(", ");
    TrialState::from_name(text).ok_or_else(|| format!("there is no state `{text}`; use one of {}", names()))
}

/// What tells workers apart.
pub fn parse_per(text: &str) -> Result<Per, String> {
    Per::from_name(text).ok_or_else(|| format!("`{text}` tells no workers apart; use `device`, or `label:NAME`"))
}

/// `NAME=VALUE`.
pub fn parse_setting(text: &str) -> Result<(String, Value), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => Ok((name.to_owned(), Value::from_cli(value))),
        _ => Err(format!("`{text}` is no setting; write NAME=VALUE, as in `n_ctx=4096`")),
    }
}

/// `NAME=VALUE` of a label.
pub fn parse_label(text: &str) -> Result<(String, String), String> {
    let fits = |part: &str| (1..=100).contains(&part.chars().count()) && !part.chars().any(char::is_control);
    match text.split_once('=') {
        Some((name, value)) if fits(name) && fits(value) => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` is no label; write NAME=VALUE, as in `rack=7`, at most 100 characters each")),
    }
}

/// `NAME=NUMBER`.
pub fn parse_named_number(text: &str) -> Result<(String, f64), String> {
    let wrong = || format!("`{text}` is no named number; write NAME=NUMBER, as in `p95_ms=12.5`");
    let (name, number) = text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or_else(wrong)?;
    Ok((name.to_owned(), number.parse().map_err(|_| wrong())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_people_write_them() {
        assert_eq!(parse_duration("90"), Ok(90.0));
        assert_eq!(parse_duration("1.5m"), Ok(90.0));
        assert_eq!(parse_duration("500ms"), Ok(0.5));
        for bad in ["", "m", "-1s", "1d", "0s", "1e300h", "nan"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_are_mebibytes_unless_they_say_otherwise() {
        assert_eq!(parse_mib("12GiB"), Ok(12 * 1024));
        assert_eq!(parse_mib("1.5G"), Ok(1536));
        assert_eq!(parse_mib("500"), Ok(500));
        assert_eq!(parse_mib("500MiB"), Ok(500));
        for bad in ["", "G", "-1G", "12GB", "nan", "1e300"] {
            assert!(parse_mib(bad).is_err(), "{bad}");
        }
    }
}
