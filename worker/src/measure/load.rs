//! How busy the machine is besides: what a reader of a doubtful result wants to know.

use serde::Serialize;

/// Processes that ran or wanted to, on average.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Load {
    /// Over one minute.
    pub one_minute: f64,
    /// Over five minutes.
    pub five_minutes: f64,
}

/// The load at this moment; `None` where the system does not tell.
pub fn load_now() -> Option<Load> {
    parse_loadavg(&std::fs::read_to_string("/proc/loadavg").ok()?)
}

/// Reads the text of `/proc/loadavg`.
pub fn parse_loadavg(text: &str) -> Option<Load> {
    let mut numbers = text.split_whitespace().map(|word| word.parse::<f64>().ok().filter(|load| load.is_finite()));
    Some(Load { one_minute: numbers.next()??, five_minutes: numbers.next()?? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loadavg_is_read() {
        let load = Load { one_minute: 0.52, five_minutes: 1.75 };
        assert_eq!(parse_loadavg("0.52 1.75 1.10 2/345 6789\n"), Some(load));
        assert_eq!(parse_loadavg(""), None);
        assert_eq!(parse_loadavg("a b"), None);
    }
}
