use std::io::Cursor;

use super::*;
use crate::synth::{SynthQuant, SynthSize, SynthSpec};

fn model() -> Vec<u8> {
    let mut file = Vec::new();
    SynthSpec { size: SynthSize::Tiny, quant: SynthQuant::Q4_0, seed: 1 }.write(&mut file).unwrap();
    file
}

fn read(file: &[u8]) -> Result<Header, GgufError> {
    Header::read(&mut Cursor::new(file))
}

/// Magic, version, counts, then `rest`.
fn header(version: u32, tensors: u64, pairs: u64, rest: &[u8]) -> Vec<u8> {
    let mut file = MAGIC.to_vec();
    file.extend(version.to_le_bytes());
    file.extend(tensors.to_le_bytes());
    file.extend(pairs.to_le_bytes());
    file.extend(rest);
    file
}

fn pair(key: &str, kind: u32, value: &[u8]) -> Vec<u8> {
    let mut bytes = (key.len() as u64).to_le_bytes().to_vec();
    bytes.extend(key.as_bytes());
    bytes.extend(kind.to_le_bytes());
    bytes.extend(value);
    bytes
}

fn tensor(name: &str, dimensions: &[u64], kind: u32, offset: u64) -> Vec<u8> {
    let mut bytes = (name.len() as u64).to_le_bytes().to_vec();
    bytes.extend(name.as_bytes());
    bytes.extend((dimensions.len() as u32).to_le_bytes());
    bytes.extend(dimensions.iter().flat_map(|size| size.to_le_bytes()));
    bytes.extend(kind.to_le_bytes());
    bytes.extend(offset.to_le_bytes());
    bytes
}

fn refusal(file: &[u8]) -> String {
    read(file).unwrap_err().to_string()
}

#[test]
fn other_formats_are_named_not_gguf() {
    assert_eq!(refusal(b"PK\x03\x04rest"), r"not a GGUF file: it begins with `PK\x03\x04`, not with `GGUF`");
    assert_eq!(refusal(b""), "not a GGUF file: it begins with ``, not with `GGUF`");
    assert!(refusal(&header(1, 0, 0, &[])).contains("version 1"));
    assert!(refusal(&header(3_u32.swap_bytes(), 0, 0, &[])).contains("little-endian"));
}

#[test]
fn every_cut_of_a_file_is_called_truncated() {
    let file = model();
    let data_start = read(&file).unwrap().data_start as usize;
    for cut in (5..data_start).step_by(97).chain([data_start - 40, file.len() - 1]) {
        let message = refusal(&file[..cut]);
        assert!(message.starts_with("truncated GGUF file"), "cut at {cut}: {message}");
    }
    assert!(refusal(&file[..file.len() - 1]).contains("`output_norm.weight`"));
}

#[test]
fn hostile_counts_are_refused_before_memory_is_taken() {
    assert!(refusal(&header(3, u64::MAX, 0, &[])).contains("tensors"));
    assert!(refusal(&header(3, 0, u64::MAX, &[])).contains("key-value pairs"));
    let long_key = header(3, 0, 1, &u64::MAX.to_le_bytes());
    assert!(refusal(&long_key).contains("at most 65535"));
    let mut long_text = pair("a", 8, &(u64::MAX >> 1).to_le_bytes());
    assert!(refusal(&header(3, 0, 1, &long_text)).starts_with("truncated"));
    long_text = pair("a", 8, &(1_u64 << 19).to_le_bytes());
    assert!(refusal(&header(3, 0, 1, &long_text)).starts_with("truncated"));
    let array = |kind: u32, len: u64| {
        let mut value = kind.to_le_bytes().to_vec();
        value.extend(len.to_le_bytes());
        header(3, 0, 1, &pair("a", 9, &value))
    };
    assert!(refusal(&array(4, u64::MAX)).contains("claims"));
    assert!(refusal(&array(8, 1 << 40)).starts_with("truncated"));
    assert!(refusal(&array(9, 1)).contains("array holds arrays"));
    assert!(refusal(&array(77, 1)).contains("unknown type 77"));
}

#[test]
fn contradictions_are_refused_with_the_reason() {
    let twice = [pair("a", 7, &[1]), pair("a", 7, &[0])].concat();
    assert_eq!(refusal(&header(3, 0, 2, &twice)), "malformed GGUF file: key `a` occurs twice");
    assert!(refusal(&header(3, 0, 1, &pair("a", 99, &[]))).contains("unknown type 99"));
    let alignment = pair("general.alignment", 4, &3_u32.to_le_bytes());
    assert!(refusal(&header(3, 0, 1, &alignment)).contains("power of two"));
    let refused = |info: Vec<u8>| refusal(&header(3, 1, 0, &info));
    assert!(refused(tensor("t", &[33], 2, 0)).contains("packs 32 into a block"));
    assert!(refused(tensor("t", &[u64::MAX, 2], 0, 0)).contains("more than 2^63"));
    assert!(refused(tensor("t", &[1; 5], 0, 0)).contains("5 dimensions"));
    assert!(refused(tensor("t", &[32], 0, 7)).contains("alignment"));
    assert!(refused(tensor("t", &[32], 0, u64::MAX - 31)).contains("beyond 2^64"));
}

#[test]
fn unknown_tensor_type_does_not_hide_the_rest_of_the_file() {
    let file = header(3, 1, 0, &[tensor("t", &[32], 4000, 0), vec![0; 64]].concat());
    let header = read(&file).unwrap();
    assert_eq!((header.tensors[0].bytes, header.tensors[0].tensor_type.to_string().as_str()), (None, "type 4000"));
}

#[test]
fn number_per_layer_reads_as_the_largest() {
    let mut value = 5_u32.to_le_bytes().to_vec();
    value.extend(3_u64.to_le_bytes());
    value.extend([2_i32, 8, 4].iter().flat_map(|heads| heads.to_le_bytes()));
    let header = read(&header(3, 0, 1, &pair("heads", 9, &value))).unwrap();
    assert_eq!((header.integer("heads"), header.array_len("heads")), (Some(8), Some(3)));
}

#[test]
fn damaged_headers_are_read_or_refused_and_never_panic() {
    use rand::{RngExt, SeedableRng};

    let mut rng = rand::rngs::ChaCha8Rng::seed_from_u64(1);
    let good = model();
    let header_end = read(&good).unwrap().data_start as usize;
    for _ in 0..2000 {
        let mut file = good[..header_end + 64].to_vec();
        for _ in 0..rng.random_range(1..4) {
            let place = rng.random_range(4..header_end);
            file[place] = rng.random();
        }
        let _ = read(&file).map(|header| crate::metadata::ModelMetadata::from_header(&header));
    }
}

#[test]
fn header_beyond_its_bound_is_refused() {
    /// A file of the given length whose bytes after `begin` are zero, without holding them.
    struct Sparse(Cursor<Vec<u8>>, u64);
    impl Read for Sparse {
        fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
            let position = self.0.position();
            let count = usize::try_from(self.1.saturating_sub(position)).unwrap().min(out.len());
            out[..count].fill(0);
            let begin = self.0.get_ref().get(position as usize..).unwrap_or_default();
            let known = begin.len().min(count);
            out[..known].copy_from_slice(&begin[..known]);
            self.0.set_position(position + count as u64);
            Ok(count)
        }
    }
    impl Seek for Sparse {
        fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
            match to {
                SeekFrom::End(from) => Ok(self.1.strict_add_signed(from)),
                SeekFrom::Start(_) | SeekFrom::Current(_) => self.0.seek(to),
            }
        }
    }
    let mut value = 0_u32.to_le_bytes().to_vec();
    value.extend((1_u64 << 30).to_le_bytes());
    let file = header(3, 0, 1, &pair("bytes", 9, &value));
    let message = Header::read(&mut Sparse(Cursor::new(file), 1 << 40)).unwrap_err().to_string();
    assert!(message.contains("beyond 268435456 bytes"), "{message}");
}
