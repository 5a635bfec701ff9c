//! Identities and instants. A newtype each, so that a study's id is never passed where a trial's is wanted.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

macro_rules! integer_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub i64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

integer_id!(
    /// A study, from 1; never reused.
    StudyId
);
integer_id!(
    /// A trial, from 1 across all studies; never reused. People say the [`TrialNumber`].
    TrialId
);
integer_id!(
    /// A trial within its study, dense from 0.
    TrialNumber
);
integer_id!(
    /// Something a worker can lease, from 1; never reused.
    JobId
);
integer_id!(
    /// The order of changes within one study: every change of a trial or of the configuration takes the next one.
    Revision
);
integer_id!(
    /// The order in which trials of one study entered `Running`, dense from 0.
    Turn
);

impl Revision {
    /// The revision after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// One execution of a job, from 1: the fencing number of its lease. 0 means never leased.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Attempt(pub u32);

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The persistent name a worker gave itself on its first start: 32 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WorkerId(pub String);

/// Begins the name of a holder that is no worker: theirs are hexadecimal digits.
const CLIENT: &str = "client:";

impl WorkerId {
    /// A client that asked for a lease under `name`.
    pub fn client(name: &str) -> Self {
        Self(format!("{CLIENT}{name}"))
    }

    /// Whether it is a client that asked for a lease.
    pub fn is_client(&self) -> bool {
        self.0.starts_with(CLIENT)
    }
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An instant, in microseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The instant `duration` later; saturates at the end of time.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(micros))
    }

    /// The time from `earlier` to this instant, zero when `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

/// RFC 3339 in UTC, to the second.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.div_euclid(1_000_000);
        let (day, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        let (year, month, day) = civil(day);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

/// Year, month and day of the `day`th day since 1970-01-01.
///
/// Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
fn civil(day: i64) -> (i64, i64, i64) {
    // Years begin in March, so that the day that comes and goes is their last.
    let day = day + 719_468;
    let (era, of_era) = (day.div_euclid(146_097), day.rem_euclid(146_097));
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (year, month) = if month < 10 { (year, month + 3) } else { (year + 1, month - 9) };
    (year + era * 400, month, day)
}

/// The proof of a lease: job, attempt and 64 random bits. Written `job.attempt.hex` for people and wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LeaseToken {
    /// The leased job.
    pub job: JobId,
    /// The attempt the lease is for.
    pub attempt: Attempt,
    /// Random bits, so that a token cannot be guessed from the other two.
    pub secret: u64,
}

impl fmt::Display for LeaseToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{:016x}", self.job, self.attempt, self.secret)
    }
}

/// A text that is no lease token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a lease token, which reads `job.attempt.secret`, for example `12.1.00ff00ff00ff00ff`")]
pub struct InvalidToken(pub String);

impl std::str::FromStr for LeaseToken {
    type Err = InvalidToken;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let mut parts = text.split('.');
            let token = Self {
                job: JobId(parts.next()?.parse().ok()?),
                attempt: Attempt(parts.next()?.parse().ok()?),
                secret: u64::from_str_radix(parts.next()?, 16).ok()?,
            };
            parts.next().is_none().then_some(token)
        };
        parse().ok_or_else(|| InvalidToken(text.chars().take(80).collect()))
    }
}

impl Serialize for LeaseToken {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for LeaseToken {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_survives_its_text() {
        let token = LeaseToken { job: JobId(12), attempt: Attempt(3), secret: 0x00ab_cdef };
        assert_eq!(token.to_string().parse(), Ok(token));
        for bad in ["", "1", "1.2", "1.2.3.4", "a.b.c", "1.-1.0"] {
            assert!(bad.parse::<LeaseToken>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_instant_is_written_as_people_and_programs_read_it() {
        let cases = [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_210_096, "2024-02-29T12:34:56Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
        ];
        for (seconds, text) in cases {
            assert_eq!(Timestamp(seconds * 1_000_000).to_string(), text);
        }
        assert_eq!(Timestamp(1_999_999).to_string(), "1970-01-01T00:00:01Z");
    }

    #[test]
    fn time_between_instants_is_never_negative() {
        assert_eq!(Timestamp(5).since(Timestamp(9)), Duration::ZERO);
        assert_eq!(Timestamp(9).since(Timestamp(5)), Duration::from_micros(4));
        assert_eq!(Timestamp(i64::MAX).plus(Duration::from_secs(1)), Timestamp(i64::MAX));
    }
}
