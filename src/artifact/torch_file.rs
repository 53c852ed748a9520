//! Files of `torch.save`: an archive with one pickle that names tensors, and one entry for each storage.
//!
//! Read are dictionaries of tensors, also one inside another (`{"model_state_dict": {...}}`: its names are used alone).
//! The pickle is never run ([`pickle`](super::pickle)). Tensors are read one at a time.

use super::pickle::{LARGEST, Node, Pickle};
use super::zip::Archive;
use super::{Dtype, HostTensor};
use crate::error::{Context as _, Error, Result};
use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Where the tensors of a dictionary are looked for, besides itself.
const INNER: [&str; 3] = ["model_state_dict", "state_dict", "model"];

/// How values lie in a storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Element {
    Float(Dtype),
    Double,
    /// Whole numbers or switches of this many bytes: never weights.
    Other(u64),
}

impl Element {
    fn of(class: &str) -> Option<Self> {
        Some(match class {
            "FloatStorage" => Self::Float(Dtype::F32),
            "HalfStorage" => Self::Float(Dtype::F16),
            "BFloat16Storage" => Self::Float(Dtype::Bf16),
            "DoubleStorage" => Self::Double,
            "LongStorage" => Self::Other(8),
            "IntStorage" => Self::Other(4),
            "ShortStorage" => Self::Other(2),
            "ByteStorage" | "CharStorage" | "BoolStorage" => Self::Other(1),
            _ => return None,
        })
    }
    fn size(self) -> u64 {
        match self {
            Self::Float(dtype) => dtype.size() as u64,
            Self::Double => 8,
            Self::Other(size) => size,
        }
    }
}

#[derive(Clone, Debug)]
struct Tensor {
    entry: String,
    element: Element,
    offset: u64,
    shape: Vec<u64>,
    strides: Vec<u64>,
}

/// An open file whose directory has been checked.
#[derive(Debug)]
pub struct TorchFile {
    archive: Archive,
    tensors: BTreeMap<String, Tensor>,
    path: PathBuf,
}

impl TorchFile {
    /// Opens a file and checks every tensor it names.
    pub fn open(path: &Path) -> Result<Self> {
        Self::read_names(path).with_context(|| format!("not a usable file of torch.save: {}", path.display()))
    }

    fn read_names(path: &Path) -> Result<Self> {
        let mut start = [0; 4];
        let mut file = std::fs::File::open(path).map_err(|err| Error::io("opening", path, err))?;
        if file.read_exact(&mut start).is_err() || &start != b"PK\x03\x04" {
            let old = start[0] == 0x80;
            return Err(Error::format(if old {
                "it has the layout from before torch 1.6; load it in Python and write it again with torch.save"
            } else {
                "it does not start like an archive; choose a file written by torch.save"
            }));
        }
        drop(file);
        let mut archive = Archive::open(path)?;
        let pickle = archive.entries().keys().find(|name| name.ends_with("/data.pkl")).cloned();
        let pickle = pickle.ok_or_else(|| Error::format("the archive has no data.pkl"))?;
        let root = pickle.trim_end_matches("data.pkl").to_owned();
        if archive.entries().get(&format!("{root}byteorder")).is_some()
            && archive.read(&format!("{root}byteorder"))? != b"little"
        {
            return Err(Error::format("its numbers are big-endian, which cannot be read"));
        }
        if archive.entries().get(&pickle).is_some_and(|entry| entry.size > LARGEST as u64) {
            return Err(Error::format(format!("its pickle is longer than {LARGEST} bytes")));
        }
        let bytes = archive.read(&pickle)?;
        let pickle = Pickle::read(&bytes)?;
        let mut dict = pickle.root();
        if let Some(inner) = INNER.iter().find_map(|key| pickle.entry(dict, key)).filter(|n| matches!(n, Node::Dict(_)))
        {
            dict = inner;
        }
        let Node::Dict(pairs) = dict else { return Err(Error::format("it holds no dictionary of tensors")) };
        let mut tensors = BTreeMap::new();
        for (key, value) in pairs {
            // Numbers beside the tensors (a step, a loss) mean nothing here.
            let (Node::Text(name), Node::Tensor { storage, offset, shape, strides }) =
                (pickle.get(*key), pickle.get(*value))
            else {
                continue;
            };
            let Node::Storage { class, key, elements } = pickle.get(*storage) else { continue };
            let element = Element::of(class)
                .ok_or_else(|| Error::format(format!("tensor {name} lies in a {class}, which cannot be read")))?;
            let entry = format!("{root}data/{key}");
            let size = archive.entries().get(&entry).map(|entry| entry.size);
            if size.is_none() || size != elements.checked_mul(element.size()) {
                return Err(Error::format(format!(
                    "tensor {name} needs a storage of {elements} elements, but the archive has {size:?} bytes for it"
                )));
            }
            let tensor = Tensor { entry, element, offset: *offset, shape: shape.clone(), strides: strides.clone() };
            tensor.check(name, *elements)?;
            if tensors.insert(name.clone(), tensor).is_some() {
                return Err(Error::format(format!("tensor {name} is there twice")));
            }
        }
        if tensors.is_empty() {
            return Err(Error::format("it holds no tensors"));
        }
        Ok(Self { archive, tensors, path: path.to_owned() })
    }

    /// Names of all tensors, sorted.
    pub fn names(&self) -> Vec<String> {
        self.tensors.keys().cloned().collect()
    }

    /// The shape of a tensor.
    pub fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.tensors.get(name).map(|tensor| tensor.shape.iter().map(|&size| size as usize).collect())
    }

    /// Reads one tensor, widened to `f32`, with the format it was stored in (`f64` counts as `f32`).
    pub fn read(&mut self, name: &str) -> Result<(HostTensor, Dtype)> {
        let place = || format!("reading {}", self.path.display());
        let Some(tensor) = self.tensors.get(name) else {
            return Err(Error::format(format!("there is no tensor {name}"))).with_context(place);
        };
        let tensor = tensor.clone();
        let bytes = self.archive.read(&tensor.entry)?;
        let (values, dtype) = match tensor.element {
            Element::Float(dtype) => (dtype.decode(&bytes), dtype),
            Element::Double => {
                (bytes.as_chunks::<8>().0.iter().map(|&b| f64::from_le_bytes(b) as f32).collect(), Dtype::F32)
            }
            Element::Other(_) => {
                return Err(Error::format(format!("tensor {name} holds whole numbers, not weights")));
            }
        };
        let shape: Vec<usize> = tensor.shape.iter().map(|&size| size as usize).collect();
        Ok((HostTensor::new(name, shape, tensor.gather(&values))?, dtype))
    }
}

impl Tensor {
    fn elements(&self) -> Option<u64> {
        self.shape.iter().try_fold(1u64, |n, &size| n.checked_mul(size))
    }

    /// Everything it reaches must lie inside its storage, and it may not be larger than that.
    fn check(&self, name: &str, storage: u64) -> Result<()> {
        let reach =
            self.shape.iter().zip(&self.strides).try_fold(self.offset, |at, (&size, &stride)| {
                at.checked_add(size.saturating_sub(1).checked_mul(stride)?)
            });
        let fits = match (self.elements(), reach) {
            (Some(0), _) => self.offset <= storage,
            (Some(n), Some(last)) => n <= storage && last < storage,
            _ => false,
        };
        if fits {
            return Ok(());
        }
        Err(Error::format(format!(
            "tensor {name} of shape {:?} with strides {:?} from element {} does not lie inside its storage of {storage} elements; the file is damaged or forged",
            self.shape, self.strides, self.offset
        )))
    }

    /// Its values in row-major order.
    fn gather(&self, storage: &[f32]) -> Vec<f32> {
        let n = self.elements().unwrap_or(0) as usize;
        let mut values = Vec::with_capacity(n);
        let mut index = vec![0u64; self.shape.len()];
        for _ in 0..n {
            let at = self.offset + index.iter().zip(&self.strides).map(|(i, s)| i * s).sum::<u64>();
            values.push(storage.get(at as usize).copied().unwrap_or(f32::NAN));
            for (i, &size) in index.iter_mut().zip(&self.shape).rev() {
                *i += 1;
                if *i < size {
                    break;
                }
                *i = 0;
            }
        }
        values
    }
}
