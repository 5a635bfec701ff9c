//! Writes small models with random weights.
//!
//! Speed and memory depend on shapes and types, not on what the weights say, so such a file serves to measure and to
//! test where no real model is at hand. It says nothing about quality, acceptance of drafts or which experts are hot.
//! The bytes are a function of the specification alone, on every machine.

use std::fmt;
use std::io::{self, Write};

use rand::rngs::ChaCha8Rng;
use rand::{Rng, SeedableRng};

use crate::gguf::{DEFAULT_ALIGNMENT, TensorType};

mod writer;

use writer::HeaderWriter;

/// Shape of a synthetic model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SynthSize {
    /// 4 layers of 256, 512 tokens: some MB, for tests.
    Tiny,
    /// About 15 million parameters, as in llama2.c's `stories15M`.
    M15,
    /// About 110 million parameters, as in llama2.c's `stories110M`.
    M110,
}

/// Type of a synthetic model's weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SynthQuant {
    /// 4 bits.
    Q4_0,
    /// 8 bits.
    Q8_0,
    /// 16-bit floats.
    F16,
}

/// A synthetic model of the architecture `llama`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SynthSpec {
    /// Its shape.
    pub size: SynthSize,
    /// Type of its weights.
    pub quant: SynthQuant,
    /// Chooses the weights.
    pub seed: u64,
}

struct Shape {
    layers: u64,
    embedding: u64,
    heads: u64,
    heads_kv: u64,
    feed_forward: u64,
    vocabulary: u64,
    context: u32,
}

/// `<unk>`, `<s>`, `</s>` and one token for each byte, with which any text can be written.
const FIRST_FILLER: u64 = 3 + 256;

impl SynthSize {
    /// Every size.
    pub const ALL: [Self; 3] = [Self::Tiny, Self::M15, Self::M110];

    /// The name on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tiny => "tiny",
            Self::M15 => "15m",
            Self::M110 => "110m",
        }
    }

    /// The size called `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|size| size.as_str() == name)
    }

    fn shape(self) -> Shape {
        match self {
            Self::Tiny => Shape {
                layers: 4,
                embedding: 256,
                heads: 8,
                heads_kv: 4,
                feed_forward: 768,
                vocabulary: 512,
                context: 4096,
            },
            // Nine heads of 32, not six of 48 as in the original: a quantised KV cache needs multiples of 32.
            Self::M15 => Shape {
                layers: 6,
                embedding: 288,
                heads: 9,
                heads_kv: 9,
                feed_forward: 768,
                vocabulary: 32_000,
                context: 4096,
            },
            Self::M110 => Shape {
                layers: 12,
                embedding: 768,
                heads: 12,
                heads_kv: 12,
                feed_forward: 2048,
                vocabulary: 32_000,
                context: 4096,
            },
        }
    }
}

impl SynthQuant {
    /// Every type.
    pub const ALL: [Self; 3] = [Self::Q4_0, Self::Q8_0, Self::F16];

    /// The name on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Q4_0 => "q4_0",
            Self::Q8_0 => "q8_0",
            Self::F16 => "f16",
        }
    }

    /// The type called `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|quant| quant.as_str() == name)
    }

    fn tensor_type(self) -> TensorType {
        match self {
            Self::Q4_0 => TensorType::Q4_0,
            Self::Q8_0 => TensorType::Q8_0,
            Self::F16 => TensorType::F16,
        }
    }

    /// `general.file_type`, llama.cpp's `llama_ftype`.
    fn file_type(self) -> u32 {
        match self {
            Self::Q4_0 => 2,
            Self::Q8_0 => 7,
            Self::F16 => 1,
        }
    }
}

impl fmt::Display for SynthSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Display for SynthQuant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

struct Tensor {
    name: String,
    dimensions: Vec<u64>,
    /// Norms are ones in 32-bit floats; everything else is random.
    norm: bool,
}

impl SynthSpec {
    /// Writes the file and returns its length in bytes.
    pub fn write<W: Write>(&self, out: &mut W) -> io::Result<u64> {
        let shape = self.size.shape();
        let tensors = tensors(&shape);
        let header = self.header(&shape, &tensors);
        out.write_all(&header)?;
        let mut written = header.len() as u64;
        for (number, tensor) in tensors.iter().enumerate() {
            // A stream for each tensor: none depends on the sizes of those before it.
            let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
            rng.set_stream(number as u64);
            written += pad(out, written)?;
            written += self.write_tensor(tensor, &mut rng, out)?;
        }
        written += pad(out, written)?;
        Ok(written)
    }

    fn header(&self, shape: &Shape, tensors: &[Tensor]) -> Vec<u8> {
        let mut header = HeaderWriter::default();
        header.text("general.architecture", "llama");
        header.text("general.name", &format!("synthetic {} {} seed {}", self.size, self.quant, self.seed));
        header.u32("general.file_type", self.quant.file_type());
        header.u32("general.quantization_version", 2);
        header.u32("llama.block_count", shape.layers as u32);
        header.u32("llama.context_length", shape.context);
        header.u32("llama.embedding_length", shape.embedding as u32);
        header.u32("llama.feed_forward_length", shape.feed_forward as u32);
        header.u32("llama.attention.head_count", shape.heads as u32);
        header.u32("llama.attention.head_count_kv", shape.heads_kv as u32);
        header.f32("llama.attention.layer_norm_rms_epsilon", 1e-5);
        header.u32("llama.rope.dimension_count", (shape.embedding / shape.heads) as u32);
        header.u32("llama.vocab_size", shape.vocabulary as u32);
        vocabulary(&mut header, shape.vocabulary);
        let mut offset = 0_u64;
        for tensor in tensors {
            let (tensor_type, bytes) = self.extent(tensor);
            header.tensor(&tensor.name, &tensor.dimensions, tensor_type, offset);
            offset = (offset + bytes).next_multiple_of(DEFAULT_ALIGNMENT);
        }
        header.finish()
    }

    fn extent(&self, tensor: &Tensor) -> (TensorType, u64) {
        let tensor_type = if tensor.norm { TensorType::F32 } else { self.quant.tensor_type() };
        let (block, width) = tensor_type.block().expect("types written here are in the table");
        (tensor_type, tensor.dimensions.iter().product::<u64>() / block * width)
    }

    fn write_tensor<W: Write>(&self, tensor: &Tensor, rng: &mut ChaCha8Rng, out: &mut W) -> io::Result<u64> {
        /// A multiple of every block's width (2, 18 and 34 bytes).
        const CHUNK: u64 = 18 * 34 * 256;
        let (_, bytes) = self.extent(tensor);
        if tensor.norm {
            for _ in 0..bytes / 4 {
                out.write_all(&1.0_f32.to_le_bytes())?;
            }
            return Ok(bytes);
        }
        let mut buffer = vec![0; bytes.min(CHUNK) as usize];
        let mut left = bytes;
        while left > 0 {
            let chunk = &mut buffer[..left.min(CHUNK) as usize];
            rng.fill_bytes(chunk);
            self.shape_blocks(chunk);
            out.write_all(chunk)?;
            left -= chunk.len() as u64;
        }
        Ok(bytes)
    }

    /// Makes random bytes into finite weights with a root mean square near 0.02, as trained ones have.
    fn shape_blocks(&self, chunk: &mut [u8]) {
        /// 0.00434 as a 16-bit float: a random 4-bit weight has root mean square 4.6.
        const Q4_0_SCALE: u16 = 0x1c72;
        /// 0.00027 as a 16-bit float: a random 8-bit weight has root mean square 73.9.
        const Q8_0_SCALE: u16 = 0x0c6d;
        match self.quant {
            SynthQuant::Q4_0 => chunk.chunks_mut(18).for_each(|b| b[..2].copy_from_slice(&Q4_0_SCALE.to_le_bytes())),
            SynthQuant::Q8_0 => chunk.chunks_mut(34).for_each(|b| b[..2].copy_from_slice(&Q8_0_SCALE.to_le_bytes())),
            // Sign and mantissa stay random, the exponent is 2^-6: magnitudes from 0.0156 to 0.0312.
            SynthQuant::F16 => chunk.chunks_mut(2).for_each(|b| b[1] = (b[1] & 0b1000_0011) | (9 << 2)),
        }
    }
}

fn pad<W: Write>(out: &mut W, written: u64) -> io::Result<u64> {
    let missing = written.next_multiple_of(DEFAULT_ALIGNMENT) - written;
    out.write_all(&[0; DEFAULT_ALIGNMENT as usize][..missing as usize])?;
    Ok(missing)
}

/// A `SentencePiece` vocabulary in which every byte is a token, and the rest is filler.
fn vocabulary(header: &mut HeaderWriter, size: u64) {
    /// Token types of llama.cpp: 1 normal, 2 unknown, 3 control, 6 byte.
    const NORMAL: i32 = 1;
    let specials = [("<unk>", 2), ("<s>", 3), ("</s>", 3)];
    let mut tokens: Vec<(String, i32)> = specials.iter().map(|(text, kind)| ((*text).to_owned(), *kind)).collect();
    tokens.extend((0..=u8::MAX).map(|byte| (format!("<0x{byte:02X}>"), 6)));
    tokens.extend((FIRST_FILLER..size).map(|number| (format!("\u{2581}w{number}"), NORMAL)));
    header.text("tokenizer.ggml.model", "llama");
    header.texts("tokenizer.ggml.tokens", tokens.iter().map(|(text, _)| text.as_str()));
    header.f32s("tokenizer.ggml.scores", (0..tokens.len()).map(|rank| if rank < 259 { 0.0 } else { -(rank as f32) }));
    header.i32s("tokenizer.ggml.token_type", tokens.iter().map(|(_, kind)| *kind));
    header.u32("tokenizer.ggml.unknown_token_id", 0);
    header.u32("tokenizer.ggml.bos_token_id", 1);
    header.u32("tokenizer.ggml.eos_token_id", 2);
}

fn tensors(shape: &Shape) -> Vec<Tensor> {
    let &Shape { layers, embedding, heads, heads_kv, feed_forward, vocabulary, .. } = shape;
    let kv = embedding / heads * heads_kv;
    let weight = |name: String, dimensions: &[u64]| Tensor { name, dimensions: dimensions.to_vec(), norm: false };
    let norm = |name: String| Tensor { name, dimensions: vec![embedding], norm: true };
    let mut all = vec![weight("token_embd.weight".to_owned(), &[embedding, vocabulary])];
    for layer in 0..layers {
        let name = |part: &str| format!("blk.{layer}.{part}.weight");
        all.extend([
            norm(name("attn_norm")),
            weight(name("attn_q"), &[embedding, embedding]),
            weight(name("attn_k"), &[embedding, kv]),
            weight(name("attn_v"), &[embedding, kv]),
            weight(name("attn_output"), &[embedding, embedding]),
            norm(name("ffn_norm")),
            weight(name("ffn_gate"), &[embedding, feed_forward]),
            weight(name("ffn_up"), &[embedding, feed_forward]),
            weight(name("ffn_down"), &[feed_forward, embedding]),
        ]);
    }
    // The output layer is the embedding's transpose, as in llama2.c: there is no `output.weight`.
    all.push(norm("output_norm.weight".to_owned()));
    all
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::gguf::Header;
    use crate::metadata::ModelMetadata;

    fn file(size: SynthSize, quant: SynthQuant) -> Vec<u8> {
        let mut file = Vec::new();
        let written = SynthSpec { size, quant, seed: 7 }.write(&mut file).unwrap();
        assert_eq!(written, file.len() as u64);
        file
    }

    #[test]
    fn file_is_read_back_with_its_shape() {
        for quant in SynthQuant::ALL {
            let header = Header::read(&mut Cursor::new(file(SynthSize::Tiny, quant))).unwrap();
            let model = ModelMetadata::from_header(&header);
            assert_eq!(model.architecture, "llama");
            assert_eq!(model.quantization.to_lowercase(), quant.as_str());
            assert_eq!((model.block_count, model.embedding_length, model.context_length), (4, 256, 4096));
            assert_eq!((model.head_count, model.head_count_kv, model.vocab_size), (8, 4, 512));
            assert_eq!((model.key_length, model.kv_bytes_per_token()), (32, 4 * 4 * 64 * 2));
            assert_eq!(header.tensors.len(), 4 * 9 + 2);
        }
    }

    #[test]
    fn sizes_have_the_parameters_they_are_named_for() {
        for (size, low, high) in [(SynthSize::M15, 14_500_000, 15_500_000), (SynthSize::M110, 105_000_000, 115_000_000)]
        {
            let elements: u64 = tensors(&size.shape()).iter().map(|t| t.dimensions.iter().product::<u64>()).sum();
            assert!((low..high).contains(&elements), "{size}: {elements}");
        }
    }

    #[test]
    fn same_seed_gives_the_same_bytes() {
        let hash = blake3::hash(&file(SynthSize::Tiny, SynthQuant::Q4_0)).to_hex();
        assert_eq!(hash, blake3::hash(&file(SynthSize::Tiny, SynthQuant::Q4_0)).to_hex());
    }

    #[test]
    fn sixteen_bit_weights_are_finite_and_small() {
        let mut chunk: Vec<u8> = (0..=u8::MAX).collect();
        SynthSpec { size: SynthSize::Tiny, quant: SynthQuant::F16, seed: 0 }.shape_blocks(&mut chunk);
        assert!(chunk.chunks(2).all(|bits| (bits[1] >> 2) & 0b1_1111 == 9), "exponent is 2^-6");
    }
}
