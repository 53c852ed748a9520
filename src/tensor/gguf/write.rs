//! GGUF files, written tensor by tensor: all sizes are known before the first value is asked for.

use super::value_type::{ARRAY, BOOL, F32, I32, I64, STRING, U32, U64};
use super::{ALIGNMENT, GgufValue, Metadata};
use crate::error::{Error, Result};
use crate::tensor::host_tensor::write_file;
use crate::tensor::{HostTensor, TensorPlan};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::Path;

/// Writes a file. `tensor` gives the planned tensor of a number and is called once for each, in order. Atomic.
///
/// # Errors
/// A value that is not finite or does not fit into its format; a key or name given twice; a shape that its format
/// cannot store.
pub fn write<'a>(
    path: &Path,
    metadata: &Metadata,
    plan: &[TensorPlan],
    tensor: &mut dyn FnMut(usize) -> Result<Cow<'a, HostTensor>>,
) -> Result<()> {
    let finite = &mut |i| {
        let tensor = tensor(i)?;
        tensor.check_finite()?;
        Ok(tensor)
    };
    write_file(path, &header(metadata, plan)?, plan, ALIGNMENT as usize, finite)
}

/// Everything before the values.
fn header(metadata: &Metadata, plan: &[TensorPlan]) -> Result<Vec<u8>> {
    let mut seen = BTreeSet::new();
    if let Some((key, _)) = metadata.iter().find(|(key, _)| !seen.insert(key.as_str())) {
        return Err(Error::internal(format!("metadata {key} would be written twice")));
    }
    let mut out = b"GGUF\x03\0\0\0".to_vec();
    out.extend((plan.len() as u64).to_le_bytes());
    out.extend((metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata {
        put_string(&mut out, key);
        put_value(&mut out, value);
    }
    let (mut seen, mut offset) = (BTreeSet::new(), 0u64);
    for planned in plan {
        let TensorPlan { name, shape, format } = planned;
        let whole_blocks = shape.last().is_some_and(|row| row.is_multiple_of(format.block().0));
        if !whole_blocks || shape.len() > 4 || !seen.insert(name.as_str()) {
            return Err(Error::internal(format!("tensor {name} of shape {shape:?} cannot be planned")));
        }
        put_string(&mut out, name);
        out.extend((shape.len() as u32).to_le_bytes());
        shape.iter().rev().for_each(|&size| out.extend((size as u64).to_le_bytes()));
        out.extend(format.ggml().to_le_bytes());
        out.extend(offset.to_le_bytes());
        offset += planned.bytes().next_multiple_of(ALIGNMENT);
    }
    out.resize((out.len() as u64).next_multiple_of(ALIGNMENT) as usize, 0);
    Ok(out)
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

fn put_array<T>(out: &mut Vec<u8>, kind: u32, items: &[T], put: impl Fn(&mut Vec<u8>, &T)) {
    out.extend(ARRAY.to_le_bytes());
    out.extend(kind.to_le_bytes());
    out.extend((items.len() as u64).to_le_bytes());
    items.iter().for_each(|item| put(out, item));
}

fn put_value(out: &mut Vec<u8>, value: &GgufValue) {
    let mut put = |kind: u32, bytes: &[u8]| {
        out.extend(kind.to_le_bytes());
        out.extend(bytes);
    };
    match value {
        GgufValue::Int(number) => match *number {
            0..0x1_0000_0000 => put(U32, &(*number as u32).to_le_bytes()),
            -0x8000_0000..0 => put(I32, &(*number as i32).to_le_bytes()),
            0x1_0000_0000.. => put(U64, &(*number as u64).to_le_bytes()),
            _ => put(I64, &(*number as i64).to_le_bytes()),
        },
        GgufValue::Float(number) => put(F32, &(*number as f32).to_le_bytes()),
        GgufValue::Bool(value) => put(BOOL, &[u8::from(*value)]),
        GgufValue::Raw { kind, bytes } => put(*kind, bytes),
        GgufValue::String(text) => {
            put(STRING, &[]);
            put_string(out, text);
        }
        GgufValue::Strings(texts) => put_array(out, STRING, texts, |out, text| put_string(out, text)),
        GgufValue::Floats(numbers) => put_array(out, F32, numbers, |out, number| out.extend(number.to_le_bytes())),
        GgufValue::Ints(numbers) if numbers.iter().all(|&number| i32::try_from(number).is_ok()) => {
            put_array(out, I32, numbers, |out, number| out.extend((*number as i32).to_le_bytes()));
        }
        GgufValue::Ints(numbers) => put_array(out, I64, numbers, |out, number| out.extend(number.to_le_bytes())),
    }
}
