//! Decoders in GGUF files: their shape, and their weights as they are stored.
//!
//! The tensors have the names and the layout of Hugging Face checkpoints: rows of q and k that llama.cpp's converter permuted
//! ([`layout`]) are put back. A tensor that no model of the family has is an error, for leaving it out would change the result.

mod spec;

use super::decoder::read::Source;
use super::decoder::{DecoderFamily, DecoderSpec};
use crate::error::{Context as _, Error, Result};
use crate::nn::Weight;
use crate::nn::kernels::quant::Quantised;
use crate::tensor::gguf::names::CheckpointTensor;
use crate::tensor::gguf::{GgufFile, GgufTensor, NamingScheme, layout};
use crate::tensor::{NumberFormat, Tensor};
use std::collections::BTreeMap;
use std::path::Path;

/// The factors that stretch rotary frequencies one by one (Llama 3).
const ROPE_FACTORS: &str = "rope_freqs.weight";

impl DecoderFamily {
    /// `general.architecture` of its GGUF files.
    pub fn gguf_architecture(self) -> &'static str {
        match self {
            Self::Gpt2 => "gpt2",
            Self::Llama | Self::Mistral => "llama",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
        }
    }

    /// How its checkpoints name tensors.
    pub fn naming(self) -> NamingScheme {
        if self == Self::Gpt2 { NamingScheme::Gpt2 } else { NamingScheme::Llama }
    }
}

impl DecoderSpec {
    /// Heads whose rows llama.cpp's converter permutes in a tensor of this name (of a checkpoint: weight, bias or a
    /// LoRA's B).
    pub fn permuted_heads(&self, name: &str) -> Option<usize> {
        let permuted = self.family.gguf_architecture() == "llama";
        if permuted && name.contains("self_attn.q_proj") {
            return Some(self.num_heads);
        }
        (permuted && name.contains("self_attn.k_proj")).then_some(self.num_kv_heads)
    }

    /// Whether a model of this shape has a tensor.
    fn has(&self, tensor: &CheckpointTensor<'_>) -> bool {
        let inside = tensor.layer.is_none_or(|layer| layer < self.num_layers);
        inside
            && match (tensor.module, tensor.bias) {
                ("attn_q_norm" | "attn_k_norm", bias) => self.qk_norm && !bias,
                ("output", bias) => !bias && !self.tied,
                (_, false) => true,
                ("attn_norm" | "ffn_norm" | "output_norm", true) => self.family == DecoderFamily::Gpt2,
                ("attn_qkv" | "attn_q" | "attn_k" | "attn_v", true) => self.biases.qkv,
                ("attn_output", true) => self.biases.out,
                ("ffn_gate" | "ffn_up" | "ffn_down", true) => self.biases.ffn,
                (_, true) => false,
            }
    }
}

/// A tensor of the file.
#[derive(Clone, Debug)]
struct StoredTensor {
    format: NumberFormat,
    /// As in Hugging Face checkpoints.
    shape: Vec<usize>,
    /// As in the file: matrices are `[out, in]` always.
    stored: Vec<usize>,
    /// Its place in the file.
    place: GgufTensor,
    /// Whether the checkpoint has this matrix `[in, out]`.
    input_major: bool,
    /// Width of the heads whose rows are put back in order.
    head_dim: Option<usize>,
}

/// The tensors of a GGUF file, by their Hugging Face names.
#[derive(Clone, Debug)]
pub struct GgufWeights {
    file: GgufFile,
    entries: BTreeMap<String, StoredTensor>,
}

impl GgufWeights {
    /// Reads the header and what it says of the model; no tensor but the rotary factors.
    pub fn open(path: &Path) -> Result<(DecoderSpec, Self)> {
        let file = GgufFile::open(path)?;
        Self::read(file).with_context(|| format!("the GGUF file cannot be used: {}", path.display()))
    }

    fn read(file: GgufFile) -> Result<(DecoderSpec, Self)> {
        let mut spec = spec::read(&file)?;
        let mut weights = Self { file, entries: BTreeMap::new() };
        for (name, tensor) in weights.file.tensors.iter().filter(|(name, _)| *name != ROPE_FACTORS) {
            let Some(found) = spec.family.naming().from_gguf(name).filter(|found| spec.has(found)) else {
                return Err(Error::config(format!(
                    "it has a tensor {name:?}, which a {} model of {} layers does not have; choose a plain model of its family",
                    spec.family.model_type(),
                    spec.num_layers
                )));
            };
            let entry = StoredTensor::new(tensor, &found.name, &spec).with_context(|| format!("tensor {name:?}"))?;
            weights.entries.insert(found.name, entry);
        }
        if let Some(tensor) = weights.file.tensors.get(ROPE_FACTORS) {
            let factors = StoredTensor::new(tensor, ROPE_FACTORS, &spec).and_then(|entry| weights.vector(&entry));
            let factors: Vec<f32> = factors.with_context(|| format!("tensor {ROPE_FACTORS:?}"))?.to_vec1()?;
            let frequencies = spec.rope.as_mut().map_or(&mut [][..], |rope| &mut rope.frequencies);
            if factors.len() != frequencies.len() || factors.iter().any(|&f| f <= 0.0) {
                return Err(Error::format(format!("tensor {ROPE_FACTORS:?} does not hold one factor for each pair")));
            }
            frequencies.iter_mut().zip(factors).for_each(|(frequency, factor)| *frequency /= factor);
        }
        Ok((spec, weights))
    }

    /// The shape of a tensor, as in Hugging Face checkpoints.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.entries.get(name).map(|entry| entry.shape.as_slice())
    }

    /// Bytes of all tensors as they are stored.
    pub fn stored_bytes(&self) -> u64 {
        let bytes = |entry: &StoredTensor| entry.format.bytes(entry.stored.iter().map(|&size| size as u64).product());
        self.entries.values().map(bytes).sum()
    }

    /// Names of all tensors, sorted, without the prefix of the base model.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// The values of one tensor of the expected shape, in the layout of Hugging Face checkpoints, in f32.
    pub fn dense(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let entry = self.entry(name)?;
        self.must_be(name, &entry.shape, shape)?;
        if entry.stored.len() == 1 {
            return self.vector(entry).with_context(|| self.place(name));
        }
        let values = self.quantised(name, entry)?.dense()?;
        Ok(if entry.input_major { values.t()?.contiguous()? } else { values })
    }

    fn entry(&self, name: &str) -> Result<&StoredTensor> {
        self.entries.get(name).ok_or_else(|| {
            let path = self.file.path.display();
            Error::format(format!("the GGUF file has no tensor for {name:?}; it does not fit its metadata: {path}"))
        })
    }

    fn place(&self, name: &str) -> String {
        format!("tensor {name:?} of {}", self.file.path.display())
    }

    fn must_be(&self, name: &str, found: &[usize], wanted: &[usize]) -> Result<()> {
        if found == wanted {
            return Ok(());
        }
        let place = self.place(name);
        Err(Error::format(format!("{place} has shape {found:?} but the file's metadata ask for {wanted:?}")))
    }

    fn vector(&self, entry: &StoredTensor) -> Result<Tensor> {
        let n = entry.stored.iter().product();
        let bytes = self.file.bytes(&entry.place)?;
        let values = Quantised::new(entry.format, bytes, 1, n)?.dense()?.flatten_all()?;
        let Some(head_dim) = entry.head_dim else { return Ok(values) };
        let order: Vec<u32> = (0..n).map(|i| layout::interleaved_row(i, head_dim) as u32).collect();
        values.index_select(&Tensor::new(order, values.device())?, 0)
    }

    fn quantised(&self, name: &str, entry: &StoredTensor) -> Result<Quantised> {
        let [rows, columns] = entry.stored[..] else {
            return Err(Error::format(format!("{} is no matrix: {:?}", self.place(name), entry.stored)));
        };
        let read = || {
            let matrix = Quantised::new(entry.format, self.file.bytes(&entry.place)?, rows, columns)?;
            match entry.head_dim {
                Some(head_dim) => matrix.reordered(|row| layout::interleaved_row(row, head_dim)),
                None => Ok(matrix),
            }
        };
        read().with_context(|| self.place(name))
    }
}

/// The name of a type that is not read here, and its number.
fn ggml_type(number: u32) -> String {
    let name = match number {
        4 => "Q4_2",
        5 => "Q4_3",
        9 => "Q8_1",
        10 => "Q2_K",
        11 => "Q3_K",
        15 => "Q8_K",
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        20 => "IQ4_NL",
        21 => "IQ3_S",
        22 => "IQ2_S",
        23 => "IQ4_XS",
        24 => "I8",
        25 => "I16",
        26 => "I32",
        27 => "I64",
        28 => "F64",
        29 => "IQ1_M",
        34 => "TQ1_0",
        35 => "TQ2_0",
        39 => "MXFP4",
        _ => return format!("with the number {number}"),
    };
    format!("{name} (number {number})")
}

impl StoredTensor {
    fn new(tensor: &GgufTensor, name: &str, spec: &DecoderSpec) -> Result<Self> {
        let Some(format) = NumberFormat::of_ggml(tensor.dtype) else {
            return Err(Error::config(format!(
                "its type {} cannot be read; choose a file in {}",
                ggml_type(tensor.dtype),
                NumberFormat::ALL.map(NumberFormat::name).join(", ")
            )));
        };
        let size = |size: &u64| usize::try_from(*size).ok().filter(|&size| size > 0);
        let stored: Option<Vec<usize>> = tensor.shape.iter().map(size).collect();
        let Some(stored) = stored else {
            return Err(Error::format(format!("its sizes {:?} are impossible", tensor.shape)));
        };
        let input_major = spec.family.naming().input_major(name) && stored.len() == 2;
        let shape = if input_major { vec![stored[1], stored[0]] } else { stored.clone() };
        // Rows move in whole heads; a shape that is not made of them is refused where it is asked for.
        let head_dim = spec.permuted_heads(name).map(|_| spec.head_dim);
        let head_dim = head_dim.filter(|head_dim| stored[0].is_multiple_of(*head_dim));
        Ok(Self { format, shape, stored, place: tensor.clone(), input_major, head_dim })
    }
}

impl Source for GgufWeights {
    fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        self.dense(name, shape)
    }
    fn matrix(&self, name: &str, d_out: usize, d_in: usize) -> Result<Weight> {
        let entry = self.entry(name)?;
        self.must_be(name, &entry.stored, &[d_out, d_in])?;
        let matrix = self.quantised(name, entry)?;
        Ok(if entry.format == NumberFormat::F32 { Weight::Dense(matrix.dense()?) } else { Weight::Quantised(matrix) })
    }
}
