//! Safetensors files larger than memory: the header first, then one tensor at a time.

use super::atomic::write_file_with;
use super::safetensors_io::Metadata;
use super::{Dtype, HostTensor};
use crate::error::{Error, ErrorKind, Result};
use serde_json::{Map, json};
use std::io::Write;
use std::path::Path;

/// Name and shape of a tensor to come.
pub type Planned = (String, Vec<usize>);

/// Writes a file. `read` gives the tensor of a name; it is asked for each once, in order. Atomic. A finite value that
/// would become infinite is an error.
pub fn write(
    path: &Path,
    plan: &[Planned],
    dtype: Dtype,
    metadata: &Metadata,
    read: &mut dyn FnMut(&str) -> Result<HostTensor>,
) -> Result<()> {
    let mut header = Map::new();
    header.insert("__metadata__".to_owned(), json!(metadata));
    let mut begin = 0;
    for (name, shape) in plan {
        let end = begin + shape.iter().product::<usize>() * dtype.size();
        header.insert(name.clone(), json!({ "dtype": dtype.name(), "shape": shape, "data_offsets": [begin, end] }));
        begin = end;
    }
    let text = serde_json::to_string(&header).map_err(|err| Error::internal(format!("header not written: {err}")))?;
    let mut head = text.into_bytes();
    head.resize(head.len().next_multiple_of(8), b' ');
    let mut own = None;
    let mut fill = |out: &mut dyn Write| -> std::io::Result<()> {
        out.write_all(&(head.len() as u64).to_le_bytes())?;
        out.write_all(&head)?;
        let mut bytes = Vec::new();
        for (name, shape) in plan {
            let tensor = read(name).and_then(|tensor| fitting(tensor, shape, dtype)).map_err(|err| {
                let text = err.to_string();
                own = Some(err);
                std::io::Error::other(text)
            })?;
            for piece in tensor.data.chunks(1 << 16) {
                bytes.clear();
                dtype.encode(piece, &mut bytes);
                out.write_all(&bytes)?;
            }
        }
        Ok(())
    };
    let written = write_file_with(path, |out| fill(out));
    // The error of a tensor says more than that of the file it stopped.
    match own {
        Some(err) => Err(err),
        None => written,
    }
}

fn fitting(tensor: HostTensor, shape: &[usize], dtype: Dtype) -> Result<HostTensor> {
    tensor.check()?;
    if tensor.shape != shape {
        let found = &tensor.shape;
        return Err(Error::internal(format!(
            "tensor {} came with shape {found:?}, planned was {shape:?}",
            tensor.name
        )));
    }
    match tensor.data.iter().find(|value| value.is_finite() && !dtype.round(**value).is_finite()) {
        Some(value) => {
            let text =
                format!("{value:e} in tensor {} is too large for {}; use f32 or bf16", tensor.name, dtype.name());
            Err(Error::new(ErrorKind::Numerics, text))
        }
        None => Ok(tensor),
    }
}
