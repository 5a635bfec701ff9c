//! Reads the header of a GGUF file: key-value pairs and the table of tensors, never the weights.
//!
//! The file is outside input. Counts, lengths and offsets are checked against bounds and against the length of the
//! file before anything is allocated or skipped; long arrays (vocabularies, merges) are passed over, not kept.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read, Seek, SeekFrom};

use thiserror::Error;

mod tensor_type;

pub use tensor_type::TensorType;
pub(crate) use tensor_type::file_type_name;

/// What every GGUF file begins with.
pub const MAGIC: [u8; 4] = *b"GGUF";

/// Alignment of tensor data where the file names none.
pub const DEFAULT_ALIGNMENT: u64 = 32;

/// Most key-value pairs that are read; real files have below a hundred.
const MAX_PAIRS: u64 = 1 << 16;
/// Most tensors that are read; the largest real files have some thousands.
const MAX_TENSORS: u64 = 1 << 18;
/// Longest header, bytes; the largest real ones have some tens of MiB. Bounds everything that is kept.
const MAX_HEADER: u64 = 256 << 20;
/// Longest key or tensor name, bytes: the format's own bound on keys.
const MAX_NAME: u64 = 65_535;
/// Longest text that is kept, bytes; a longer one (there is none in real files) is passed over.
const MAX_TEXT: u64 = 1 << 20;
/// Longest array whose numbers are kept: enough for one number per layer.
const MAX_KEPT_ARRAY: u64 = 4096;
/// Largest alignment that is believed.
const MAX_ALIGNMENT: u64 = 1 << 20;
/// The format's own bound on dimensions.
const MAX_DIMENSIONS: u32 = 4;

/// Why a file cannot be used.
#[derive(Debug, Error)]
pub enum GgufError {
    /// Another format.
    #[error("not a GGUF file: it begins with `{}`, not with `GGUF`", begin.escape_ascii())]
    NotGguf {
        /// The first bytes.
        begin: Vec<u8>,
    },
    /// A version this reader does not know.
    #[error("GGUF version {0} cannot be read; versions 2 and 3, little-endian, can")]
    Version(u32),
    /// The file ends inside its header.
    #[error("truncated GGUF file: it ends at byte {file_size}, while reading {what}; download it again")]
    TruncatedHeader {
        /// What was being read.
        what: &'static str,
        /// Length of the file.
        file_size: u64,
    },
    /// The file ends before the weights do.
    #[error(
        "truncated GGUF file: tensor `{tensor}` ends at byte {needed}, but the file has {file_size}; download it again"
    )]
    TruncatedData {
        /// The tensor that ends last.
        tensor: String,
        /// Where it ends.
        needed: u64,
        /// Length of the file.
        file_size: u64,
    },
    /// The header contradicts itself or goes beyond sane bounds.
    #[error("malformed GGUF file: {0}")]
    Malformed(String),
    /// The file could not be read.
    #[error("cannot read the GGUF file: {0}")]
    Io(#[from] io::Error),
}

/// One value of the header.
#[derive(Clone, Debug, PartialEq)]
pub enum MetaValue {
    /// Any unsigned integer.
    Unsigned(u64),
    /// Any signed integer.
    Signed(i64),
    /// Any float.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// A text of at most one MiB; invalid UTF-8 is replaced.
    Text(String),
    /// An array: its length, and its integers when they are few.
    Array {
        /// Number of elements.
        len: u64,
        /// The elements, if they are integers or truth values (0 and 1) and at most 4096; else empty.
        integers: Vec<i64>,
    },
    /// A text too long to keep.
    LongText,
}

/// One row of the table of tensors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Name, for example `blk.0.attn_q.weight`.
    pub name: String,
    /// Sizes, fastest first; one to four.
    pub dimensions: Vec<u64>,
    /// Type of the elements.
    pub tensor_type: TensorType,
    /// Where the data begins, counted from the start of the data section.
    pub offset: u64,
    /// Number of elements.
    pub elements: u64,
    /// Bytes of the data; `None` for a type that this reader does not know.
    pub bytes: Option<u64>,
}

/// The header of a GGUF file.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    /// Format version, 2 or 3.
    pub version: u32,
    /// Key-value pairs.
    pub pairs: BTreeMap<String, MetaValue>,
    /// Tensors, in the order of the file.
    pub tensors: Vec<TensorInfo>,
    /// Where the data section begins.
    pub data_start: u64,
    /// Length of the file.
    pub file_size: u64,
}

impl Header {
    /// Reads the header of `file` from its beginning, and checks that the file is long enough for its tensors.
    pub fn read<R: Read + Seek>(file: &mut R) -> Result<Self, GgufError> {
        let file_size = file.seek(SeekFrom::End(0))?;
        file.seek(SeekFrom::Start(0))?;
        let mut reader = HeaderReader { inner: BufReader::with_capacity(1 << 16, file), position: 0, file_size };
        let begin = reader.magic()?;
        if begin != MAGIC {
            return Err(GgufError::NotGguf { begin });
        }
        let version = reader.u32("the version")?;
        if !(2..=3).contains(&version) {
            return Err(GgufError::Version(version));
        }
        let tensor_count = reader.count("tensors", MAX_TENSORS)?;
        let pair_count = reader.count("key-value pairs", MAX_PAIRS)?;
        let mut pairs = BTreeMap::new();
        for _ in 0..pair_count {
            let key = reader.name("a key")?;
            let value = reader.value()?;
            if pairs.insert(key.clone(), value).is_some() {
                return Err(GgufError::Malformed(format!("key `{key}` occurs twice")));
            }
        }
        let mut tensors = Vec::new();
        for _ in 0..tensor_count {
            tensors.push(reader.tensor()?);
        }
        let alignment = alignment(&pairs)?;
        let data_start = reader.position.next_multiple_of(alignment);
        let header = Self { version, pairs, tensors, data_start, file_size };
        header.check_extent(alignment)?;
        Ok(header)
    }

    fn check_extent(&self, alignment: u64) -> Result<(), GgufError> {
        let mut last: Option<(u64, &TensorInfo)> = None;
        for tensor in &self.tensors {
            if tensor.offset % alignment != 0 {
                return Err(GgufError::Malformed(format!(
                    "tensor `{}` is at offset {}, which is no multiple of the alignment {alignment}",
                    tensor.name, tensor.offset
                )));
            }
            let end = (self.data_start.checked_add(tensor.offset))
                .and_then(|start| start.checked_add(tensor.bytes.unwrap_or(0)))
                .ok_or_else(|| GgufError::Malformed(format!("tensor `{}` ends beyond 2^64", tensor.name)))?;
            if last.is_none_or(|(furthest, _)| end > furthest) {
                last = Some((end, tensor));
            }
        }
        match last {
            Some((needed, tensor)) if needed > self.file_size => {
                Err(GgufError::TruncatedData { tensor: tensor.name.clone(), needed, file_size: self.file_size })
            }
            _ => Ok(()),
        }
    }

    /// The text under `key`.
    pub fn text(&self, key: &str) -> Option<&str> {
        match self.pairs.get(key)? {
            MetaValue::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The non-negative integer under `key`; of an array with one number per layer the largest.
    pub fn integer(&self, key: &str) -> Option<u64> {
        match self.pairs.get(key)? {
            MetaValue::Unsigned(int) => Some(*int),
            MetaValue::Signed(int) => u64::try_from(*int).ok(),
            MetaValue::Array { integers, .. } => integers.iter().max().and_then(|max| u64::try_from(*max).ok()),
            _ => None,
        }
    }

    /// The non-negative integer under `key` for one of the layers: of an array the entry at `layer`.
    pub fn integer_of_layer(&self, key: &str, layer: usize) -> Option<u64> {
        match self.pairs.get(key)? {
            MetaValue::Array { integers, .. } => integers.get(layer).and_then(|int| u64::try_from(*int).ok()),
            _ => self.integer(key),
        }
    }

    /// The length of the array under `key`.
    pub fn array_len(&self, key: &str) -> Option<u64> {
        match self.pairs.get(key)? {
            MetaValue::Array { len, .. } => Some(*len),
            _ => None,
        }
    }
}

fn alignment(pairs: &BTreeMap<String, MetaValue>) -> Result<u64, GgufError> {
    match pairs.get("general.alignment") {
        None => Ok(DEFAULT_ALIGNMENT),
        Some(MetaValue::Unsigned(value)) if value.is_power_of_two() && *value <= MAX_ALIGNMENT => Ok(*value),
        Some(other) => Err(GgufError::Malformed(format!(
            "`general.alignment` is {other:?}, not a power of two up to {MAX_ALIGNMENT}"
        ))),
    }
}

/// Reads little-endian values and knows how much of the file is left.
struct HeaderReader<'a, R> {
    inner: BufReader<&'a mut R>,
    position: u64,
    file_size: u64,
}

impl<R: Read + Seek> HeaderReader<'_, R> {
    fn magic(&mut self) -> Result<Vec<u8>, GgufError> {
        let mut begin = vec![0; self.file_size.min(4) as usize];
        self.inner.read_exact(&mut begin)?;
        self.position = begin.len() as u64;
        Ok(begin)
    }

    /// Checks that `bytes` more bytes exist, and that the header stays within its bound.
    fn demand(&self, bytes: u64, what: &'static str) -> Result<(), GgufError> {
        if self.file_size - self.position < bytes {
            return Err(GgufError::TruncatedHeader { what, file_size: self.file_size });
        }
        if self.position + bytes > MAX_HEADER {
            return Err(GgufError::Malformed(format!("its header goes beyond {MAX_HEADER} bytes, at {what}")));
        }
        Ok(())
    }

    fn bytes<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], GgufError> {
        self.demand(N as u64, what)?;
        let mut bytes = [0; N];
        self.inner.read_exact(&mut bytes)?;
        self.position += N as u64;
        Ok(bytes)
    }

    fn skip(&mut self, bytes: u64, what: &'static str) -> Result<(), GgufError> {
        self.demand(bytes, what)?;
        let distance = i64::try_from(bytes).map_err(|_| GgufError::Malformed(format!("{what} is too long")))?;
        self.inner.seek_relative(distance)?;
        self.position += bytes;
        Ok(())
    }

    fn u32(&mut self, what: &'static str) -> Result<u32, GgufError> {
        Ok(u32::from_le_bytes(self.bytes(what)?))
    }

    fn u64(&mut self, what: &'static str) -> Result<u64, GgufError> {
        Ok(u64::from_le_bytes(self.bytes(what)?))
    }

    fn count(&mut self, what: &'static str, max: u64) -> Result<u64, GgufError> {
        let count = self.u64(what)?;
        if count > max {
            return Err(GgufError::Malformed(format!("it claims {count} {what}; at most {max} are read")));
        }
        Ok(count)
    }

    fn string(&mut self, len: u64, what: &'static str) -> Result<Vec<u8>, GgufError> {
        self.demand(len, what)?;
        let mut bytes = vec![0; len as usize];
        self.inner.read_exact(&mut bytes)?;
        self.position += len;
        Ok(bytes)
    }

    fn name(&mut self, what: &'static str) -> Result<String, GgufError> {
        let len = self.u64(what)?;
        if len > MAX_NAME {
            return Err(GgufError::Malformed(format!("{what} has {len} bytes; at most {MAX_NAME} are allowed")));
        }
        String::from_utf8(self.string(len, what)?)
            .map_err(|_| GgufError::Malformed(format!("{what} is not valid UTF-8")))
    }

    fn value(&mut self) -> Result<MetaValue, GgufError> {
        const TEXT: u32 = 8;
        const ARRAY: u32 = 9;
        const WHAT: &str = "a value";
        match self.u32("the type of a value")? {
            TEXT => {
                let len = self.u64(WHAT)?;
                if len > MAX_TEXT {
                    self.skip(len, WHAT)?;
                    return Ok(MetaValue::LongText);
                }
                Ok(MetaValue::Text(String::from_utf8_lossy(&self.string(len, WHAT)?).into_owned()))
            }
            ARRAY => self.array(),
            kind => self.scalar(kind, WHAT),
        }
    }

    fn scalar(&mut self, kind: u32, what: &'static str) -> Result<MetaValue, GgufError> {
        Ok(match kind {
            0 => MetaValue::Unsigned(u64::from(u8::from_le_bytes(self.bytes(what)?))),
            1 => MetaValue::Signed(i64::from(i8::from_le_bytes(self.bytes(what)?))),
            2 => MetaValue::Unsigned(u64::from(u16::from_le_bytes(self.bytes(what)?))),
            3 => MetaValue::Signed(i64::from(i16::from_le_bytes(self.bytes(what)?))),
            4 => MetaValue::Unsigned(u64::from(self.u32(what)?)),
            5 => MetaValue::Signed(i64::from(i32::from_le_bytes(self.bytes(what)?))),
            6 => MetaValue::Float(f64::from(f32::from_le_bytes(self.bytes(what)?))),
            7 => MetaValue::Bool(u8::from_le_bytes(self.bytes(what)?) != 0),
            10 => MetaValue::Unsigned(self.u64(what)?),
            11 => MetaValue::Signed(i64::from_le_bytes(self.bytes(what)?)),
            12 => MetaValue::Float(f64::from_le_bytes(self.bytes(what)?)),
            _ => return Err(GgufError::Malformed(format!("a value has the unknown type {kind}"))),
        })
    }

    fn array(&mut self) -> Result<MetaValue, GgufError> {
        const WHAT: &str = "an array";
        let kind = self.u32(WHAT)?;
        let len = self.u64(WHAT)?;
        let width = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            // A text takes at least the eight bytes of its length.
            8 | 10..=12 => 8,
            9 => return Err(GgufError::Malformed("an array holds arrays, which llama.cpp refuses as well".to_owned())),
            _ => return Err(GgufError::Malformed(format!("an array has elements of the unknown type {kind}"))),
        };
        let bytes =
            len.checked_mul(width).ok_or_else(|| GgufError::Malformed(format!("an array claims {len} elements")))?;
        self.demand(bytes, WHAT)?;
        let mut integers = Vec::new();
        if kind == 8 {
            for _ in 0..len {
                let text = self.u64(WHAT)?;
                self.skip(text, WHAT)?;
            }
        } else if len <= MAX_KEPT_ARRAY {
            for _ in 0..len {
                match self.scalar(kind, WHAT)? {
                    MetaValue::Unsigned(int) => integers.extend(i64::try_from(int)),
                    MetaValue::Signed(int) => integers.push(int),
                    MetaValue::Bool(bool) => integers.push(i64::from(bool)),
                    _ => {}
                }
            }
        } else {
            self.skip(bytes, WHAT)?;
        }
        Ok(MetaValue::Array { len, integers })
    }

    fn tensor(&mut self) -> Result<TensorInfo, GgufError> {
        const WHAT: &str = "the table of tensors";
        let name = self.name("the name of a tensor")?;
        let malformed = |why: String| GgufError::Malformed(format!("tensor `{name}` {why}"));
        let dimension_count = self.u32(WHAT)?;
        if !(1..=MAX_DIMENSIONS).contains(&dimension_count) {
            return Err(malformed(format!("has {dimension_count} dimensions, not 1 to {MAX_DIMENSIONS}")));
        }
        let mut dimensions = Vec::with_capacity(dimension_count as usize);
        let mut elements: u64 = 1;
        for _ in 0..dimension_count {
            let size = self.u64(WHAT)?;
            elements = (elements.checked_mul(size))
                .filter(|elements| i64::try_from(*elements).is_ok())
                .ok_or_else(|| malformed("has more than 2^63 elements".to_owned()))?;
            dimensions.push(size);
        }
        let tensor_type = TensorType(self.u32(WHAT)?);
        let offset = self.u64(WHAT)?;
        let bytes = match tensor_type.block() {
            None => None,
            Some((block, _)) if dimensions[0] % block != 0 => {
                return Err(malformed(format!(
                    "has rows of {} elements, but {tensor_type} packs {block} into a block",
                    dimensions[0]
                )));
            }
            Some((block, width)) => Some(
                (elements / block)
                    .checked_mul(width)
                    .ok_or_else(|| malformed("has more than 2^64 bytes".to_owned()))?,
            ),
        };
        Ok(TensorInfo { name, dimensions, tensor_type, offset, elements, bytes })
    }
}

#[cfg(test)]
mod tests;
