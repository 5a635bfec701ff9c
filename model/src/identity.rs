//! Says whether two model files are the same, without reading all of a large one.

use std::fmt;
use std::io::{Read, Seek, SeekFrom};

use serde::{Deserialize, Serialize};

use crate::gguf::{GgufError, Header};
use crate::metadata::ModelMetadata;

/// Blocks of the data section that are hashed.
const SAMPLES: u64 = 64;
/// Bytes of one of them.
const SAMPLE_BYTES: u64 = 64 << 10;
/// Distinguishes this way of hashing from any later one.
const DOMAIN: &[u8] = b"fleetune model 1\n";

/// The identity of a model file: 64 hexadecimal digits.
///
/// BLAKE3 over the length of the file, its whole header (metadata, vocabulary, table of tensors) and 64 blocks of
/// 64 KiB at even distances in the data section, the first and the last bytes among them. A file of 40 GB would take
/// minutes to read; this takes milliseconds. Two files that differ in a few weights only can share it, two models,
/// quantisations or fine-tunes do not. Up to 4 MiB of data are hashed whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ModelHash(pub String);

impl ModelHash {
    /// The first eight digits: enough for names that people read.
    pub fn short(&self) -> &str {
        self.0.get(..8).unwrap_or(&self.0)
    }
}

impl fmt::Display for ModelHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// What a model file tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelFile {
    /// Its identity.
    pub hash: ModelHash,
    /// Its header's facts.
    pub metadata: ModelMetadata,
}

/// Reads metadata and identity of a model file.
pub fn inspect<R: Read + Seek>(file: &mut R) -> Result<ModelFile, GgufError> {
    let header = Header::read(file)?;
    let hash = fingerprint(file, &header)?;
    Ok(ModelFile { hash, metadata: ModelMetadata::from_header(&header) })
}

/// The identity of `file`, whose header is `header`.
pub fn fingerprint<R: Read + Seek>(file: &mut R, header: &Header) -> Result<ModelHash, GgufError> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(DOMAIN);
    hasher.update(&header.file_size.to_le_bytes());
    let data_start = header.data_start.min(header.file_size);
    let mut buffer = vec![0; SAMPLE_BYTES as usize];
    hash_range(file, 0, data_start, &mut buffer, &mut hasher)?;
    for (start, length) in sample_ranges(data_start, header.file_size) {
        hash_range(file, start, length, &mut buffer, &mut hasher)?;
    }
    Ok(ModelHash(hasher.finalize().to_hex().to_string()))
}

/// Start and length of the parts of `[start, end)` that are hashed.
fn sample_ranges(start: u64, end: u64) -> Vec<(u64, u64)> {
    let length = end - start;
    if length <= SAMPLES * SAMPLE_BYTES {
        return vec![(start, length)];
    }
    // The quotient first: the product with the number of a sample stays below 2^64 for every file.
    let free = length - SAMPLE_BYTES;
    let (step, rest) = (free / (SAMPLES - 1), free % (SAMPLES - 1));
    (0..SAMPLES).map(|i| (start + i * step + i * rest / (SAMPLES - 1), SAMPLE_BYTES)).collect()
}

fn hash_range<R: Read + Seek>(
    file: &mut R,
    start: u64,
    length: u64,
    buffer: &mut [u8],
    hasher: &mut blake3::Hasher,
) -> Result<(), GgufError> {
    file.seek(SeekFrom::Start(start))?;
    let mut left = length;
    while left > 0 {
        let part = &mut buffer[..left.min(SAMPLE_BYTES) as usize];
        file.read_exact(part)?;
        hasher.update(part);
        left -= part.len() as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::synth::{SynthQuant, SynthSize, SynthSpec};

    fn model(seed: u64) -> Vec<u8> {
        let mut file = Vec::new();
        SynthSpec { size: SynthSize::Tiny, quant: SynthQuant::Q8_0, seed }.write(&mut file).unwrap();
        file
    }

    #[test]
    fn same_file_has_the_same_identity_and_another_one_not() {
        let hash = |file: &[u8]| inspect(&mut Cursor::new(file)).unwrap().hash;
        let file = model(1);
        assert_eq!(hash(&file), hash(&file));
        assert_eq!((hash(&file).0.len(), hash(&file).short().len()), (64, 8));
        assert_ne!(hash(&file), hash(&model(2)));
        let mut longer = file.clone();
        longer.push(0);
        assert_ne!(hash(&file), hash(&longer));
        let mut end = file.clone();
        *end.last_mut().unwrap() ^= 1;
        assert_ne!(hash(&file), hash(&end));
    }

    #[test]
    fn samples_span_the_data_and_never_leave_it() {
        for length in [SAMPLES * SAMPLE_BYTES + 1, 40 << 30, u64::MAX - 1000] {
            let ranges = sample_ranges(1000, 1000 + length);
            assert_eq!(ranges.len(), 64);
            assert_eq!(ranges[0].0, 1000);
            assert_eq!(ranges[63].0 + SAMPLE_BYTES, 1000 + length);
            assert!(ranges.windows(2).all(|pair| pair[0].0 < pair[1].0));
        }
        assert_eq!(sample_ranges(100, 300), [(100, 200)]);
    }
}
