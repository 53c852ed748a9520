//! Values and entries of a GGUF header, none larger than what is left of the file.

use super::cursor::Cursor;
use super::value_type::{ARRAY, BOOL, F32, F64, STRING};
use super::{GgufTensor, GgufValue};
use crate::error::{Error, Result};
use crate::tensor::NumberFormat;

/// Most values in all arrays of the metadata together; large vocabularies have a million.
pub(super) const MAX_ARRAY_VALUES: u64 = 8 << 20;
/// Longest string: a chat template has some thousand bytes.
const MAX_STRING: u64 = 16 << 20;
/// Deepest nesting of arrays.
const MAX_DEPTH: u32 = 4;

/// A value of this type. `budget`: how many values all arrays may still hold.
pub(super) fn value(cursor: &mut Cursor, kind: u32, budget: &mut u64) -> Result<GgufValue> {
    match kind {
        BOOL => match cursor.bytes()? {
            [0] => Ok(GgufValue::Bool(false)),
            [1] => Ok(GgufValue::Bool(true)),
            [other] => Err(Error::format(format!("the boolean is {other}, neither 0 nor 1"))),
        },
        STRING => cursor.string(MAX_STRING).map(GgufValue::String),
        ARRAY => {
            let start = cursor.at();
            match array(cursor, budget, 0)? {
                Some(array) => Ok(array),
                None => Ok(GgufValue::Raw { kind, bytes: cursor.since(start)? }),
            }
        }
        F32 | F64 => cursor.float(kind).map(GgufValue::Float),
        _ => cursor.int(kind).map(GgufValue::Int),
    }
}

/// An array; nothing for arrays of arrays or booleans, whose contents are checked and passed over.
fn array(cursor: &mut Cursor, budget: &mut u64, depth: u32) -> Result<Option<GgufValue>> {
    let (kind, count) = (cursor.u32()?, cursor.u64()?);
    if depth == MAX_DEPTH {
        return Err(Error::format(format!("more than {MAX_DEPTH} lists inside each other")));
    }
    let least = match kind {
        0 | 1 | BOOL => 1,
        2 | 3 => 2,
        4..=6 => 4,
        STRING | 10..=12 => 8,
        ARRAY => 12,
        other => return Err(Error::format(format!("values of the unknown kind {other}"))),
    };
    cursor.must_hold(count, least, "values in a list")?;
    *budget = budget
        .checked_sub(count)
        .ok_or_else(|| Error::format(format!("more than {MAX_ARRAY_VALUES} values in the lists of the metadata")))?;
    // All of them fit into what is left of the file, so that they may be collected.
    let int = |cursor: &mut Cursor| {
        let number = cursor.int(kind)?;
        i64::try_from(number).map_err(|_| Error::format(format!("{number} in a list is too large")))
    };
    let items = 0..count;
    Ok(Some(match kind {
        STRING => GgufValue::Strings(items.map(|_| cursor.string(MAX_STRING)).collect::<Result<_>>()?),
        F32 | F64 => GgufValue::Floats(items.map(|_| cursor.float(kind).map(|x| x as f32)).collect::<Result<_>>()?),
        ARRAY => {
            items.into_iter().try_for_each(|_| array(cursor, budget, depth + 1).map(drop))?;
            return Ok(None);
        }
        BOOL => {
            items.into_iter().try_for_each(|_| cursor.bytes::<1>().map(drop))?;
            return Ok(None);
        }
        _ => GgufValue::Ints(items.map(|_| int(cursor)).collect::<Result<_>>()?),
    }))
}

/// An entry of the list of tensors; its offset still counts from the start of the data.
pub(super) fn tensor(cursor: &mut Cursor) -> Result<GgufTensor> {
    let dimensions = cursor.u32()?;
    if !(1..=4).contains(&dimensions) {
        return Err(Error::format(format!("it has {dimensions} dimensions, and 1 to 4 are possible")));
    }
    let mut shape = (0..dimensions).map(|_| cursor.u64()).collect::<Result<Vec<u64>>>()?;
    let (dtype, offset) = (cursor.u32()?, cursor.u64()?);
    let Some((block, bytes_per_block)) = block(dtype) else {
        return Err(Error::format(format!(
            "its type {dtype} is unknown; use F32, F16, BF16, Q8_0, Q4_0, Q4_K or Q6_K"
        )));
    };
    let row = shape[0];
    let elements = shape.iter().try_fold(1u64, |product, &size| product.checked_mul(size));
    let bytes = elements.and_then(|elements| (elements / block).checked_mul(bytes_per_block));
    shape.reverse();
    match bytes {
        Some(bytes) if row.is_multiple_of(block) => Ok(GgufTensor { shape, dtype, offset, bytes }),
        _ => Err(Error::format(format!("its sizes {shape:?} are impossible for type {dtype}"))),
    }
}

/// Values and bytes of a block of a GGML type.
fn block(dtype: u32) -> Option<(u64, u64)> {
    if let Some(format) = NumberFormat::of_ggml(dtype) {
        let (values, bytes) = format.block();
        return Some((values as u64, bytes as u64));
    }
    // Types that are recognised so that a file can be described, but whose values are not read.
    Some(match dtype {
        24 => (1, 1),          // I8
        25 => (1, 2),          // I16
        26 => (1, 4),          // I32
        27 | 28 => (1, 8),     // I64, F64
        20 => (32, 18),        // IQ4_NL
        9 => (32, 36),         // Q8_1
        10 => (256, 84),       // Q2_K
        11 | 21 => (256, 110), // Q3_K, IQ3_S
        15 => (256, 292),      // Q8_K
        16 => (256, 66),       // IQ2_XXS
        17 => (256, 74),       // IQ2_XS
        18 => (256, 98),       // IQ3_XXS
        19 => (256, 50),       // IQ1_S
        22 => (256, 82),       // IQ2_S
        23 => (256, 136),      // IQ4_XS
        29 => (256, 56),       // IQ1_M
        34 => (256, 54),       // TQ1_0
        35 => (256, 66),       // TQ2_0
        39 => (32, 17),        // MXFP4
        _ => return None,
    })
}
