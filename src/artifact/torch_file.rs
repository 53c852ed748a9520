//! Files of `torch.save`: a ZIP archive with one pickle that names tensors, and one entry for each storage.
//!
//! Read are dictionaries of tensors, also one inside another (`{"model_state_dict": {...}}`: its names are used alone).
//! The pickle is not executed ([`pickle`]). Tensors are read one at a time.
//!
//! `torch.save` stores its entries without compression, so no entry can be larger than the file; an archive with
//! compressed entries is refused.

use super::pickle::{self, MAX_BYTES, StridedTensor};
use crate::error::{Context as _, Error, Result};
use crate::tensor::{HostTensor, NumberFormat};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read as _};
use std::path::{Path, PathBuf};
use zip::read::{ArchiveOffset, Config};
use zip::{CompressionMethod, ZipArchive};

/// How values are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Element {
    Float(NumberFormat),
    Double,
    /// Integers or booleans of this many bytes: never weights.
    Other(u64),
}

impl Element {
    fn of_storage(class: &str) -> Option<Self> {
        Some(match class {
            "FloatStorage" => Self::Float(NumberFormat::F32),
            "HalfStorage" => Self::Float(NumberFormat::F16),
            "BFloat16Storage" => Self::Float(NumberFormat::Bf16),
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
            Self::Float(format) => format.block().1 as u64,
            Self::Double => 8,
            Self::Other(size) => size,
        }
    }
}

/// An open file whose directory has been checked.
#[derive(Debug)]
pub struct TorchFile {
    archive: Archive,
    /// What the names of the entries begin with.
    root: String,
    tensors: BTreeMap<String, (Element, StridedTensor)>,
    path: PathBuf,
}

impl TorchFile {
    /// Opens a file and checks every tensor it names.
    pub fn open(path: &Path) -> Result<Self> {
        Self::read_names(path).with_context(|| format!("not a usable file of torch.save: {}", path.display()))
    }

    fn read_names(path: &Path) -> Result<Self> {
        let mut archive = Archive::open(path)?;
        let pickle = archive.sizes.keys().find(|name| name.ends_with("/data.pkl")).cloned();
        let pickle = pickle.ok_or_else(|| Error::format("the archive has no data.pkl"))?;
        let root = pickle.trim_end_matches("data.pkl").to_owned();
        let byte_order = format!("{root}byteorder");
        if archive.sizes.contains_key(&byte_order) && archive.read(&byte_order)? != b"little" {
            return Err(Error::format("its numbers are big-endian, which cannot be read"));
        }
        if archive.sizes[&pickle] > MAX_BYTES as u64 {
            return Err(Error::format(format!("its pickle is longer than {MAX_BYTES} bytes")));
        }
        let mut tensors = BTreeMap::new();
        for (name, tensor) in pickle::tensors(&archive.read(&pickle)?)? {
            let pickle::Storage { class, key, elements } = &tensor.storage;
            let element = Element::of_storage(class)
                .ok_or_else(|| Error::format(format!("tensor {name} lies in a {class}, which cannot be read")))?;
            let size = archive.sizes.get(&format!("{root}data/{key}")).copied();
            if size.is_none() || size != elements.checked_mul(element.size()) {
                return Err(Error::format(format!(
                    "tensor {name} needs a storage of {elements} elements, but the archive has {size:?} bytes for it"
                )));
            }
            tensor.check(&name)?;
            tensors.insert(name, (element, tensor));
        }
        if tensors.is_empty() {
            return Err(Error::format("it holds no tensors"));
        }
        Ok(Self { archive, root, tensors, path: path.to_owned() })
    }

    /// Names of all tensors, sorted.
    pub fn names(&self) -> Vec<String> {
        self.tensors.keys().cloned().collect()
    }

    /// Reads one tensor, converted to `f32`, with the format it was stored in (`f64` counts as `f32`).
    pub fn read(&mut self, name: &str) -> Result<(HostTensor, NumberFormat)> {
        let tensor = self.tensors.get(name).ok_or_else(|| Error::format(format!("there is no tensor {name}")));
        let (element, tensor) = tensor.with_context(|| format!("reading {}", self.path.display()))?;
        let bytes = self.archive.read(&format!("{}data/{}", self.root, tensor.storage.key))?;
        let (values, format) = match *element {
            Element::Float(format) => (format.decode(&bytes)?, format),
            Element::Double => {
                let values = bytes.as_chunks::<8>().0.iter().map(|&b| f64::from_le_bytes(b) as f32);
                (values.collect(), NumberFormat::F32)
            }
            Element::Other(_) => {
                return Err(Error::format(format!("tensor {name} holds whole numbers, not weights")));
            }
        };
        let shape: Vec<usize> = tensor.shape.iter().map(|&size| size as usize).collect();
        Ok((HostTensor::new(name, shape, tensor.gather(&values))?, format))
    }
}

/// A ZIP archive of stored entries, each of which is known to fit into the file.
#[derive(Debug)]
struct Archive {
    zip: ZipArchive<BufReader<File>>,
    /// Bytes of each entry by name.
    sizes: BTreeMap<String, u64>,
}

impl Archive {
    fn open(path: &Path) -> Result<Self> {
        let failed = |err| Error::io("opening", path, err);
        let mut file = File::open(path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        let mut start = [0; 4];
        if file.read_exact(&mut start).is_err() || &start != b"PK\x03\x04" {
            return Err(Error::format(if start[0] == 0x80 {
                "it has the layout from before torch 1.6; load it in Python and write it again with torch.save"
            } else {
                "it does not start like an archive; choose a file written by torch.save"
            }));
        }
        let config = Config { archive_offset: ArchiveOffset::Known(0) };
        let zip = ZipArchive::with_config(config, BufReader::new(file)).map_err(|err| damaged(&err))?;
        if zip.has_duplicate_names() {
            return Err(Error::format("two entries of the archive have the same name"));
        }
        let mut sizes = BTreeMap::new();
        for i in 0..zip.len() {
            let entry = zip.by_index_data(i).map_err(|err| damaged(&err))?;
            let name = entry.name().map_err(|err| damaged(&err))?.into_owned();
            let (size, start) = (entry.size(), entry.header_start());
            if entry.compression() != CompressionMethod::Stored || entry.compressed_size() != size || entry.encrypted()
            {
                return Err(Error::format(format!(
                    "entry {name:?} of the archive is compressed or encrypted; torch.save stores entries as they are"
                )));
            }
            if start.checked_add(size).is_none_or(|end| end > length) {
                return Err(Error::format(format!(
                    "entry {name:?} of {size} bytes at {start} lies outside the file of {length} bytes; it is cut off or forged"
                )));
            }
            sizes.insert(name, size);
        }
        Ok(Self { zip, sizes })
    }

    /// The bytes of an entry, checked against its checksum.
    fn read(&mut self, name: &str) -> Result<Vec<u8>> {
        let size = self.sizes.get(name).copied().unwrap_or(0);
        let mut entry = self.zip.by_name(name).map_err(|err| damaged(&err))?;
        let mut bytes = Vec::with_capacity(size as usize);
        match entry.read_to_end(&mut bytes) {
            Ok(read) if read as u64 == size => Ok(bytes),
            Ok(_) => Err(Error::format(format!("entry {name:?} of the archive is cut off: fetch the file again"))),
            Err(err) => Err(Error::format(format!(
                "entry {name:?} of the archive does not fit its checksum ({err}); it is damaged: fetch it again"
            ))),
        }
    }
}

fn damaged(err: &zip::result::ZipError) -> Error {
    Error::format(format!("the archive cannot be read ({err}); it is cut off or damaged: fetch it again"))
}

impl StridedTensor {
    fn elements(&self) -> Option<u64> {
        self.shape.iter().try_fold(1u64, |n, &size| n.checked_mul(size))
    }

    /// Everything it reaches must lie inside its storage, and it may not be larger than that.
    fn check(&self, name: &str) -> Result<()> {
        let storage = self.storage.elements;
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
