//! Builds the header of a GGUF file, version 3.

use crate::gguf::{DEFAULT_ALIGNMENT, MAGIC, TensorType};

/// Collects key-value pairs and the table of tensors.
#[derive(Default)]
pub(super) struct HeaderWriter {
    pairs: Vec<u8>,
    pair_count: u64,
    tensors: Vec<u8>,
    tensor_count: u64,
}

const U32: u32 = 4;
const I32: u32 = 5;
const F32: u32 = 6;
const TEXT: u32 = 8;
const ARRAY: u32 = 9;

impl HeaderWriter {
    pub(super) fn u32(&mut self, key: &str, value: u32) {
        self.key(key, U32);
        self.pairs.extend(value.to_le_bytes());
    }

    pub(super) fn f32(&mut self, key: &str, value: f32) {
        self.key(key, F32);
        self.pairs.extend(value.to_le_bytes());
    }

    pub(super) fn text(&mut self, key: &str, value: &str) {
        self.key(key, TEXT);
        put_text(&mut self.pairs, value);
    }

    pub(super) fn texts<'a>(&mut self, key: &str, values: impl ExactSizeIterator<Item = &'a str>) {
        self.array(key, TEXT, values.len());
        values.for_each(|value| put_text(&mut self.pairs, value));
    }

    pub(super) fn f32s(&mut self, key: &str, values: impl ExactSizeIterator<Item = f32>) {
        self.array(key, F32, values.len());
        values.for_each(|value| self.pairs.extend(value.to_le_bytes()));
    }

    pub(super) fn i32s(&mut self, key: &str, values: impl ExactSizeIterator<Item = i32>) {
        self.array(key, I32, values.len());
        values.for_each(|value| self.pairs.extend(value.to_le_bytes()));
    }

    pub(super) fn tensor(&mut self, name: &str, dimensions: &[u64], tensor_type: TensorType, offset: u64) {
        self.tensor_count += 1;
        put_text(&mut self.tensors, name);
        self.tensors.extend((dimensions.len() as u32).to_le_bytes());
        self.tensors.extend(dimensions.iter().flat_map(|size| size.to_le_bytes()));
        self.tensors.extend(tensor_type.0.to_le_bytes());
        self.tensors.extend(offset.to_le_bytes());
    }

    /// The header's bytes, padded to where the data begins.
    pub(super) fn finish(self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(3_u32.to_le_bytes());
        bytes.extend(self.tensor_count.to_le_bytes());
        bytes.extend(self.pair_count.to_le_bytes());
        bytes.extend(self.pairs);
        bytes.extend(self.tensors);
        bytes.resize(bytes.len().next_multiple_of(DEFAULT_ALIGNMENT as usize), 0);
        bytes
    }

    fn key(&mut self, key: &str, kind: u32) {
        self.pair_count += 1;
        put_text(&mut self.pairs, key);
        self.pairs.extend(kind.to_le_bytes());
    }

    fn array(&mut self, key: &str, kind: u32, len: usize) {
        self.key(key, ARRAY);
        self.pairs.extend(kind.to_le_bytes());
        self.pairs.extend((len as u64).to_le_bytes());
    }
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}
