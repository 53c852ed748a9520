//! Weights out of GGUF files, as they are stored.
//!
//! The file is seen under the names and in the layout of Hugging Face checkpoints: rows of q and k that llama.cpp's
//! converter reordered for interleaved rotary positions are put back (whole rows change places, so quantised values
//! stay as they are), and everything that works on a directory's model works on this one: LoRA, merging, exports.
//!
//! The header is checked before anything is read (see [`crate::data::gguf`]); a tensor that no model of the family has is
//! refused by name, for leaving it out would change the result.

mod names;
mod spec;

use super::decoder::read::Source;
use super::decoder::{DecoderFamily, DecoderSpec};
use crate::data::gguf::{GgufHeader, GgufTensor};
use crate::error::{Context as _, Error, Result};
use crate::nn::Weight;
use crate::nn::kernels::quant::{Format, Quantised};
use candle_core::Tensor;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

/// The factors that stretch rotary frequencies one by one (Llama 3).
const ROPE_FACTORS: &str = "rope_freqs.weight";

/// A tensor of the file.
#[derive(Clone, Debug)]
struct Entry {
    format: Format,
    /// As in Hugging Face checkpoints.
    shape: Vec<usize>,
    /// As in the file: matrices are `[out, in]` always.
    stored: Vec<usize>,
    offset: u64,
    bytes: usize,
    /// Whether the checkpoint has this matrix input-major.
    turned: bool,
    /// Width of the heads whose rows are put back in order.
    heads: Option<usize>,
}

/// The tensors of a GGUF file, by their Hugging Face names.
#[derive(Clone, Debug)]
pub struct GgufWeights {
    path: PathBuf,
    entries: BTreeMap<String, Entry>,
}

impl GgufWeights {
    /// Reads the header and what it says of the model; no tensor but the rotary factors.
    pub fn open(path: &Path) -> Result<(DecoderSpec, Self)> {
        let header = GgufHeader::open(path)?;
        Self::read(&header, path).with_context(|| format!("the GGUF file cannot be used: {}", path.display()))
    }

    fn read(header: &GgufHeader, path: &Path) -> Result<(DecoderSpec, Self)> {
        let mut spec = spec::read(header)?;
        let mut weights = Self { path: path.to_owned(), entries: BTreeMap::new() };
        for (name, tensor) in header.tensors.iter().filter(|(name, _)| *name != ROPE_FACTORS) {
            let Some(found) = names::hugging_face(name, &spec) else {
                return Err(Error::config(format!(
                    "it has a tensor {name:?}, which a {} model of {} layers does not have; choose a plain model of its family",
                    spec.family.model_type(),
                    spec.num_layers
                )));
            };
            let entry = Entry::new(tensor, &found, &spec).with_context(|| format!("tensor {name:?}"))?;
            weights.entries.insert(found, entry);
        }
        if let Some(tensor) = header.tensors.get(ROPE_FACTORS) {
            let factors = Entry::new(tensor, ROPE_FACTORS, &spec).and_then(|entry| weights.values(&entry));
            let factors: Vec<f32> = factors.with_context(|| format!("tensor {ROPE_FACTORS:?}"))?.to_vec1()?;
            let frequencies = spec.rope.as_mut().map_or(&mut [][..], |rope| &mut rope.frequencies);
            if factors.len() != frequencies.len() || factors.iter().any(|&f| f <= 0.0) {
                return Err(Error::format(format!("tensor {ROPE_FACTORS:?} does not hold one factor for each pair")));
            }
            frequencies.iter_mut().zip(factors).for_each(|(frequency, factor)| *frequency /= factor);
        }
        Ok((spec, weights))
    }

    /// Whether there is such a tensor.
    pub fn has(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// The shape of a tensor, as in Hugging Face checkpoints.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.entries.get(name).map(|entry| entry.shape.as_slice())
    }

    /// Names of all tensors, sorted, without the trunk's prefix.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// The values of one tensor of the expected shape, in the layout of Hugging Face checkpoints, in f32.
    pub fn dense(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let entry = self.entry(name)?;
        self.must_be(name, &entry.shape, shape)?;
        if entry.stored.len() == 1 {
            return self.values(entry).with_context(|| self.place(name));
        }
        let values = self.quantised(name, entry)?.dense()?;
        Ok(if entry.turned { values.t()?.contiguous()? } else { values })
    }

    fn entry(&self, name: &str) -> Result<&Entry> {
        self.entries.get(name).ok_or_else(|| {
            let path = self.path.display();
            Error::format(format!("the GGUF file has no tensor for {name:?}; it does not fit its metadata: {path}"))
        })
    }

    fn place(&self, name: &str) -> String {
        format!("tensor {name:?} of {}", self.path.display())
    }

    fn must_be(&self, name: &str, found: &[usize], wanted: &[usize]) -> Result<()> {
        if found == wanted {
            return Ok(());
        }
        let place = self.place(name);
        Err(Error::format(format!("{place} has shape {found:?} but the file's metadata ask for {wanted:?}")))
    }

    fn bytes(&self, entry: &Entry) -> Result<Vec<u8>> {
        let mut bytes = vec![0; entry.bytes];
        let read = |mut file: File| file.seek(SeekFrom::Start(entry.offset)).and_then(|_| file.read_exact(&mut bytes));
        File::open(&self.path).and_then(read).map_err(|err| Error::io("reading the weights", &self.path, err))?;
        Ok(bytes)
    }

    /// A vector.
    fn values(&self, entry: &Entry) -> Result<Tensor> {
        let n = entry.stored.iter().product();
        let values = Quantised::new(entry.format, self.bytes(entry)?, 1, n)?.dense()?.flatten_all()?;
        let Some(width) = entry.heads else { return Ok(values) };
        let order: Vec<u32> = (0..n).map(|i| interleaved(i, width) as u32).collect();
        Ok(values.index_select(&Tensor::new(order, values.device())?, 0)?)
    }

    fn quantised(&self, name: &str, entry: &Entry) -> Result<Quantised> {
        let [rows, columns] = entry.stored[..] else {
            return Err(Error::format(format!("{} is no matrix: {:?}", self.place(name), entry.stored)));
        };
        let read = || {
            let matrix = Quantised::new(entry.format, self.bytes(entry)?, rows, columns)?;
            match entry.heads {
                Some(width) => matrix.reordered(|row| interleaved(row, width)),
                None => Ok(matrix),
            }
        };
        read().with_context(|| self.place(name))
    }

    fn weight(&self, name: &str, rows: usize, columns: usize) -> Result<Weight> {
        let entry = self.entry(name)?;
        self.must_be(name, &entry.stored, &[rows, columns])?;
        let matrix = self.quantised(name, entry)?;
        Ok(if entry.format == Format::F32 { Weight::Dense(matrix.dense()?) } else { Weight::Quantised(matrix) })
    }
}

/// Where row `row` of a checkpoint lies among the rows of heads that were reordered for interleaved pairs.
fn interleaved(row: usize, width: usize) -> usize {
    let (head, at, half) = (row / width, row % width, width / 2);
    head * width + 2 * (at % half) + at / half
}

impl Entry {
    fn new(tensor: &GgufTensor, name: &str, spec: &DecoderSpec) -> Result<Self> {
        let Some(format) = Format::of_ggml(tensor.dtype) else {
            let known: Vec<&str> = Format::ALL.iter().map(|format| format.name()).collect();
            return Err(Error::config(format!(
                "its type has the number {} and cannot be read; choose a file in {}",
                tensor.dtype,
                known.join(", ")
            )));
        };
        let size = |size: &u64| usize::try_from(*size).ok().filter(|&size| size > 0);
        let stored: Option<Vec<usize>> = tensor.shape.iter().map(size).collect();
        let (Some(stored), Ok(bytes)) = (stored, usize::try_from(tensor.bytes)) else {
            return Err(Error::format(format!("its sizes {:?} are impossible", tensor.shape)));
        };
        let turned = spec.family == DecoderFamily::Gpt2 && name.contains(".c_") && stored.len() == 2;
        let shape = if turned { vec![stored[1], stored[0]] } else { stored.clone() };
        let part = name.rsplit('.').nth(1).unwrap_or_default();
        let reordered = spec.family == DecoderFamily::Llama && ["q_proj", "k_proj"].contains(&part);
        let heads = reordered.then_some(spec.head_dim);
        // Rows move in whole heads; a shape that is not made of them is refused where it is asked for.
        let heads = heads.filter(|width| stored[0].is_multiple_of(*width));
        Ok(Self { format, shape, stored, offset: tensor.offset, bytes, turned, heads })
    }
}

impl Source for GgufWeights {
    fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        self.dense(name, shape)
    }
    fn matrix(&self, name: &str, d_out: usize, d_in: usize) -> Result<Weight> {
        self.weight(name, d_out, d_in)
    }
    fn table(&self, name: &str, rows: usize, d: usize) -> Result<Weight> {
        self.weight(name, rows, d)
    }
}
