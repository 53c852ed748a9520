//! Values and entries of a GGUF header, none larger than what is left of the file.

use super::cursor::Cursor;
use super::{GgufTensor, GgufValue};
use crate::error::{Error, Result};

/// More values than this in all arrays of the metadata together are taken for a forgery; large vocabularies have a
/// million.
pub(super) const MOST_VALUES: u64 = 8 << 20;
/// Longest text: a chat template has some thousand bytes.
const LONGEST_TEXT: u64 = 16 << 20;
/// Arrays inside arrays inside arrays.
const DEEPEST: u32 = 4;

/// Kinds of values by their number in the format.
mod kind {
    pub const SWITCH: u32 = 7;
    pub const TEXT: u32 = 8;
    pub const ARRAY: u32 = 9;
}

/// A value of this kind. `budget`: how many values all lists may still hold.
pub(super) fn value(cursor: &mut Cursor, kind: u32, budget: &mut u64) -> Result<GgufValue> {
    match kind {
        kind::SWITCH => match cursor.bytes()? {
            [0] => Ok(GgufValue::Switch(false)),
            [1] => Ok(GgufValue::Switch(true)),
            [other] => Err(Error::format(format!("the switch is {other}, neither 0 nor 1"))),
        },
        kind::TEXT => cursor.text(LONGEST_TEXT).map(GgufValue::Text),
        kind::ARRAY => array(cursor, budget, 0),
        6 | 12 => cursor.number(kind).map(GgufValue::Number),
        _ => cursor.whole(kind).map(GgufValue::Whole),
    }
}

fn array(cursor: &mut Cursor, budget: &mut u64, depth: u32) -> Result<GgufValue> {
    let (kind, count) = (cursor.u32()?, cursor.u64()?);
    if depth == DEEPEST {
        return Err(Error::format(format!("more than {DEEPEST} lists inside each other")));
    }
    let least = match kind {
        0 | 1 | kind::SWITCH => 1,
        2 | 3 => 2,
        4..=6 => 4,
        kind::TEXT | 10..=12 => 8,
        kind::ARRAY => 12,
        other => return Err(Error::format(format!("values of the unknown kind {other}"))),
    };
    cursor.must_hold(count, least, "values in a list")?;
    *budget = budget
        .checked_sub(count)
        .ok_or_else(|| Error::format(format!("more than {MOST_VALUES} values in the lists of the metadata")))?;
    // All of them fit into what is left of the file, so that they may be collected.
    match kind {
        kind::TEXT => (0..count).map(|_| cursor.text(LONGEST_TEXT)).collect::<Result<_>>().map(GgufValue::Texts),
        6 | 12 => {
            (0..count).map(|_| cursor.number(kind).map(|x| x as f32)).collect::<Result<_>>().map(GgufValue::Numbers)
        }
        kind::ARRAY => {
            (0..count).try_for_each(|_| array(cursor, budget, depth + 1).map(drop))?;
            Ok(GgufValue::Other)
        }
        kind::SWITCH => {
            (0..count).try_for_each(|_| cursor.bytes::<1>().map(drop))?;
            Ok(GgufValue::Other)
        }
        _ => {
            let whole = |_| {
                let number = cursor.whole(kind)?;
                i64::try_from(number).map_err(|_| Error::format(format!("{number} in a list is too large")))
            };
            (0..count).map(whole).collect::<Result<_>>().map(GgufValue::Wholes)
        }
    }
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

/// Elements and bytes of a block of a GGML type.
fn block(dtype: u32) -> Option<(u64, u64)> {
    Some(match dtype {
        0 | 26 => (1, 4),      // F32, I32
        1 | 25 | 30 => (1, 2), // F16, I16, BF16
        24 => (1, 1),          // I8
        27 | 28 => (1, 8),     // I64, F64
        2 | 20 => (32, 18),    // Q4_0, IQ4_NL
        3 => (32, 20),         // Q4_1
        6 => (32, 22),         // Q5_0
        7 => (32, 24),         // Q5_1
        8 => (32, 34),         // Q8_0
        9 => (32, 36),         // Q8_1
        10 => (256, 84),       // Q2_K
        11 | 21 => (256, 110), // Q3_K, IQ3_S
        12 => (256, 144),      // Q4_K
        13 => (256, 176),      // Q5_K
        14 => (256, 210),      // Q6_K
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
