//! Sets of CPUs as people write them: `0-3,8`, or a hexadecimal mask `0xff`.

use std::collections::BTreeSet;
use std::fmt;
use std::fmt::Write as _;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Highest CPU number: glibc's `cpu_set_t` has 1024 bits.
pub const MAX_CPU: u32 = 1023;

/// A set of CPUs, never empty. Reads `0-3,8` and `0x10f`, prints the former.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CpuList(BTreeSet<u32>);

/// Why a text is no set of CPUs.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{0}` is no set of CPUs: write numbers from 0 to {MAX_CPU} such as `0-3,8`, or a mask such as `0x10f`")]
pub struct InvalidCpuList(String);

impl CpuList {
    /// The CPUs, ascending.
    pub fn cpus(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().copied()
    }

    /// How many CPUs, at least 1.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The set as llama.cpp's `--cpu-mask` takes it: hexadecimal, no prefix, CPU 0 last.
    pub fn hex_mask(&self) -> String {
        let highest = self.0.last().copied().unwrap_or_default();
        (0..=highest / 4)
            .rev()
            .map(|digit| {
                let bits = (0..4).filter(|bit| self.0.contains(&(digit * 4 + bit))).map(|bit| 1 << bit).sum();
                char::from_digit(bits, 16).unwrap_or('0')
            })
            .collect()
    }
}

impl FromStr for CpuList {
    type Err = InvalidCpuList;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let cpus = match text.strip_prefix("0x") {
            Some(mask) => from_mask(mask),
            None => from_ranges(text),
        };
        cpus.filter(|cpus| !cpus.is_empty()).map(Self).ok_or_else(|| InvalidCpuList(text.chars().take(100).collect()))
    }
}

fn from_mask(mask: &str) -> Option<BTreeSet<u32>> {
    if mask.len() > (MAX_CPU as usize + 1) / 4 {
        return None;
    }
    let mut cpus = BTreeSet::new();
    for (position, digit) in (0_u32..).zip(mask.chars().rev()) {
        let bits = digit.to_digit(16)?;
        cpus.extend((0..4).filter(|bit| bits & (1 << bit) != 0).map(|bit| position * 4 + bit));
    }
    Some(cpus)
}

fn from_ranges(text: &str) -> Option<BTreeSet<u32>> {
    let mut cpus = BTreeSet::new();
    for part in text.split(',') {
        let (low, high) = part.split_once('-').unwrap_or((part, part));
        let (low, high): (u32, u32) = (low.trim().parse().ok()?, high.trim().parse().ok()?);
        if low > high || high > MAX_CPU {
            return None;
        }
        cpus.extend(low..=high);
    }
    Some(cpus)
}

impl fmt::Display for CpuList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        let mut cpus = self.cpus().peekable();
        while let Some(low) = cpus.next() {
            let mut high = low;
            while let Some(next) = cpus.next_if_eq(&(high + 1)) {
                high = next;
            }
            let comma = if text.is_empty() { "" } else { "," };
            if low == high {
                write!(text, "{comma}{low}")?;
            } else {
                write!(text, "{comma}{low}-{high}")?;
            }
        }
        f.pad(&text)
    }
}

impl TryFrom<String> for CpuList {
    type Error = InvalidCpuList;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<CpuList> for String {
    fn from(list: CpuList) -> Self {
        list.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_masks_name_the_same_cpus() {
        let list: CpuList = "8,0-3".parse().unwrap();
        assert_eq!(list, "0x10f".parse().unwrap());
        assert_eq!((list.to_string().as_str(), list.hex_mask().as_str(), list.count()), ("0-3,8", "10f", 5));
    }

    #[test]
    fn empty_reversed_and_far_sets_are_refused() {
        for text in ["", "0x0", "3-1", "1024", "a", "0-", "-1", "0x", "0-4294967295"] {
            assert!(text.parse::<CpuList>().is_err(), "{text}");
        }
        assert!(format!("0x{}", "f".repeat(257)).parse::<CpuList>().is_err());
    }
}
