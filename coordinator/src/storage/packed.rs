//! Bytes of packed columns. Numbers are little endian, an f64 is its 64 bits, a text is its length and UTF-8.

use fleetune_core::{Params, Value};

/// First byte of packed parameters.
const VERSION: u8 = 1;

/// A packed parameter: name, id of the distribution, internal value.
pub(super) type PackedParam = (String, i64, f64);

pub(super) fn pack_floats(values: &[f64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_bits().to_le_bytes()).collect()
}

/// `None` when the bytes are no whole number of floats.
pub(super) fn unpack_floats(bytes: &[u8]) -> Option<Vec<f64>> {
    let (chunks, rest) = bytes.as_chunks::<8>();
    rest.is_empty().then(|| chunks.iter().map(|chunk| f64::from_bits(u64::from_le_bytes(*chunk))).collect())
}

pub(super) fn pack_params<'a>(params: impl ExactSizeIterator<Item = (&'a str, i64, f64)>) -> Vec<u8> {
    if params.len() == 0 {
        return Vec::new();
    }
    let mut bytes = vec![VERSION];
    for (name, distribution, internal) in params {
        put_text(&mut bytes, name);
        bytes.extend(distribution.to_le_bytes());
        bytes.extend(internal.to_bits().to_le_bytes());
    }
    bytes
}

pub(super) fn unpack_params(bytes: &[u8]) -> Option<Vec<PackedParam>> {
    let mut reader = Reader::versioned(bytes)?;
    let mut params = Vec::new();
    while !reader.0.is_empty() {
        let name = reader.text()?;
        let distribution = i64::from_le_bytes(reader.array()?);
        params.push((name, distribution, f64::from_bits(u64::from_le_bytes(reader.array()?))));
    }
    Some(params)
}

/// The ids of the distributions of packed parameters. Damaged bytes end them early.
pub(super) fn distribution_ids(bytes: &[u8]) -> impl Iterator<Item = i64> {
    let mut reader = Reader::versioned(bytes);
    std::iter::from_fn(move || {
        let reader = reader.as_mut()?;
        reader.skip_text()?;
        let id = i64::from_le_bytes(reader.array()?);
        reader.array::<8>()?;
        Some(id)
    })
}

pub(super) fn pack_values(params: &Params) -> Vec<u8> {
    if params.is_empty() {
        return Vec::new();
    }
    let mut bytes = vec![VERSION];
    for (name, value) in params {
        put_text(&mut bytes, name);
        match value {
            Value::Null => bytes.push(0),
            Value::Bool(bool) => bytes.extend([1, u8::from(*bool)]),
            Value::Int(int) => {
                bytes.push(2);
                bytes.extend(int.to_le_bytes());
            }
            Value::Float(float) => {
                bytes.push(3);
                bytes.extend(float.to_bits().to_le_bytes());
            }
            Value::Text(text) => {
                bytes.push(4);
                put_text(&mut bytes, text);
            }
        }
    }
    bytes
}

pub(super) fn unpack_values(bytes: &[u8]) -> Option<Params> {
    let mut reader = Reader::versioned(bytes)?;
    let mut params = Params::new();
    while !reader.0.is_empty() {
        let name = reader.text()?;
        let value = match reader.array::<1>()? {
            [0] => Value::Null,
            [1] => Value::Bool(reader.array::<1>()? != [0]),
            [2] => Value::Int(i64::from_le_bytes(reader.array()?)),
            [3] => Value::Float(f64::from_bits(u64::from_le_bytes(reader.array()?))),
            [4] => Value::Text(reader.text()?),
            _ => return None,
        };
        params.insert(name, value);
    }
    Some(params)
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend(u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
    bytes.extend(text.as_bytes());
}

/// Two lower-case hexadecimal digits a byte.
pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

/// The bytes of hexadecimal digits, two each.
pub(super) fn unhex(digits: &str) -> Option<Vec<u8>> {
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    rest.is_empty().then_some(())?;
    let mut bytes = Vec::with_capacity(pairs.len());
    for &[high, low] in pairs {
        bytes.push(value(high)? << 4 | value(low)?);
    }
    Some(bytes)
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Nothing stands for nothing.
    fn versioned(bytes: &'a [u8]) -> Option<Self> {
        match bytes {
            [] => Some(Self(bytes)),
            [VERSION, rest @ ..] => Some(Self(rest)),
            _ => None,
        }
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*array)
    }

    fn skip_text(&mut self) -> Option<()> {
        let length = u32::from_le_bytes(self.array()?) as usize;
        self.0 = self.0.split_at_checked(length)?.1;
        Some(())
    }

    fn text(&mut self) -> Option<String> {
        let length = u32::from_le_bytes(self.array()?) as usize;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        String::from_utf8(text.to_vec()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bit_survives() {
        let odd = [f64::NAN, f64::INFINITY, -0.0, f64::from_bits(1), f64::from_bits(0x7ff0_0000_dead_beef)];
        let back = unpack_floats(&pack_floats(&odd)).unwrap();
        assert_eq!(back.map_bits(), odd.to_vec().map_bits());
        let params = [("a", 1, -0.0), ("ü\0", 2, f64::NAN)];
        let back = unpack_params(&pack_params(params.into_iter())).unwrap();
        assert_eq!(back[1].0, "ü\0");
        assert_eq!(back[0].2.to_bits(), (-0.0_f64).to_bits());
    }

    #[test]
    fn fixed_values_keep_their_kind() {
        let params: Params = [
            ("a", Value::Null),
            ("b", Value::Bool(true)),
            ("c", Value::Int(1)),
            ("d", Value::Float(1.0)),
            ("e", Value::from("x")),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        assert_eq!(unpack_values(&pack_values(&params)), Some(params));
    }

    #[test]
    fn hexadecimal_digits_are_read_back() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(unhex(&hex(&bytes)), Some(bytes.clone()));
        assert_eq!(unhex(&hex(&bytes).to_uppercase()), Some(bytes));
        assert_eq!(unhex(""), Some(Vec::new()));
        for damaged in ["0", "0g", "ü"] {
            assert_eq!(unhex(damaged), None, "{damaged}");
        }
    }

    #[test]
    fn damaged_bytes_are_none_and_no_panic() {
        let whole = pack_params([("name", 1, 2.0)].into_iter());
        for end in 2..whole.len() {
            assert!(unpack_params(&whole[..end]).is_none(), "{end}");
        }
        assert!(unpack_params(&[9]).is_none());
        assert!(unpack_floats(&[0; 9]).is_none());
    }

    trait Bits {
        fn map_bits(&self) -> Vec<u64>;
    }

    impl Bits for Vec<f64> {
        fn map_bits(&self) -> Vec<u64> {
            self.iter().map(|value| value.to_bits()).collect()
        }
    }
}
