//! How the values of a tensor are stored.

use crate::error::Result;
use candle_core::quantized::{GgmlDType, QStorage, QTensor};
use candle_core::{Device, Tensor};
use half::{bf16, f16};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// How values are stored. In GGML's block formats a block of 32 or 256 neighbouring values of a row shares scales.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NumberFormat {
    /// 32-bit float: exact, what is trained.
    #[default]
    F32,
    /// 16-bit float: 11 significant bits, largest value 65504.
    F16,
    /// Brain float: 8 significant bits, the range of `f32`.
    Bf16,
    /// `d q`, q of 8 bits.
    Q8_0,
    /// `d (q - 8)`, q of 4 bits.
    Q4_0,
    /// `d q + m`, q of 4 bits.
    Q4_1,
    /// `d (q - 16)`, q of 5 bits.
    Q5_0,
    /// `d q + m`, q of 5 bits.
    Q5_1,
    /// `d s q - e m` with s and m for each 32 of 256, q of 4 bits.
    Q4K,
    /// The same, q of 5 bits.
    Q5K,
    /// `d s (q - 32)` with s for each 16 of 256, q of 6 bits.
    Q6K,
}

/// What is known of a format.
struct Facts {
    /// GGML's number of the type.
    ggml: u32,
    /// GGML's name; safetensors' too, where it has the format.
    name: &'static str,
    /// The name in settings and on the command line.
    lower: &'static str,
    /// Values in a block.
    values: usize,
    /// Bytes of a block.
    bytes: usize,
    /// GGUF's `general.file_type` of a file whose matrices have the format.
    file_type: u32,
    /// candle's name of the type.
    candle: GgmlDType,
}

impl NumberFormat {
    /// All formats.
    pub const ALL: [Self; 11] = [
        Self::F32,
        Self::F16,
        Self::Bf16,
        Self::Q8_0,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
    ];
    /// Those that exports are written in, the exact one first.
    pub const EXPORTS: [Self; 4] = [Self::F32, Self::F16, Self::Bf16, Self::Q8_0];

    #[inline]
    const fn facts(self) -> Facts {
        let (ggml, name, lower, values, bytes, file_type, candle) = match self {
            Self::F32 => (0, "F32", "f32", 1, 4, 0, GgmlDType::F32),
            Self::F16 => (1, "F16", "f16", 1, 2, 1, GgmlDType::F16),
            Self::Bf16 => (30, "BF16", "bf16", 1, 2, 32, GgmlDType::BF16),
            Self::Q8_0 => (8, "Q8_0", "q8_0", 32, 34, 7, GgmlDType::Q8_0),
            Self::Q4_0 => (2, "Q4_0", "q4_0", 32, 18, 2, GgmlDType::Q4_0),
            Self::Q4_1 => (3, "Q4_1", "q4_1", 32, 20, 3, GgmlDType::Q4_1),
            Self::Q5_0 => (6, "Q5_0", "q5_0", 32, 22, 8, GgmlDType::Q5_0),
            Self::Q5_1 => (7, "Q5_1", "q5_1", 32, 24, 9, GgmlDType::Q5_1),
            Self::Q4K => (12, "Q4_K", "q4_k", 256, 144, 15, GgmlDType::Q4K),
            Self::Q5K => (13, "Q5_K", "q5_k", 256, 176, 17, GgmlDType::Q5K),
            Self::Q6K => (14, "Q6_K", "q6_k", 256, 210, 18, GgmlDType::Q6K),
        };
        Facts { ggml, name, lower, values, bytes, file_type, candle }
    }

    /// GGML's name, which is also safetensors' for floats: `F32`, `F16`, `BF16`, `Q8_0`.
    pub fn name(self) -> &'static str {
        self.facts().name
    }

    /// The name in settings and on the command line: `f32`, `f16`, `bf16`, `q8_0`.
    pub fn as_str(self) -> &'static str {
        self.facts().lower
    }

    /// The format of this name, in upper or lower case.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name().eq_ignore_ascii_case(name))
    }

    /// GGML's number of the type.
    pub fn ggml(self) -> u32 {
        self.facts().ggml
    }

    /// The format of GGML's type with this number, where it is one of [`Self::ALL`].
    pub fn of_ggml(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.ggml() == number)
    }

    /// Values and bytes of a block; a float is a block of one value.
    #[inline]
    pub fn block(self) -> (usize, usize) {
        let Facts { values, bytes, .. } = self.facts();
        (values, bytes)
    }

    /// Bytes of so many values in whole blocks.
    pub fn bytes(self, values: u64) -> u64 {
        let (block, bytes) = self.block();
        values / block as u64 * bytes as u64
    }

    /// candle's name of the type.
    pub fn candle(self) -> GgmlDType {
        self.facts().candle
    }

    /// GGUF's `general.file_type` of a file whose matrices have this format.
    pub fn gguf_file_type(self) -> u32 {
        self.facts().file_type
    }

    /// This format where its blocks divide rows of so many values; else the one that converters to GGUF take in its
    /// place, and half precision where no block fits.
    #[must_use]
    pub fn for_columns(self, columns: usize) -> Self {
        if columns.is_multiple_of(self.block().0) {
            return self;
        }
        match self {
            Self::Q4K => Self::Q5_0.for_columns(columns),
            Self::Q5K => Self::Q5_1.for_columns(columns),
            Self::Q6K => Self::Q8_0.for_columns(columns),
            _ => Self::F16,
        }
    }

    /// The format of a tensor of this shape in a GGUF file of this format, as llama.cpp's tools choose it: vectors
    /// stay in 32 bits, and rows that are not whole blocks are stored in another format ([`Self::for_columns`]).
    #[must_use]
    pub fn for_shape(self, shape: &[usize]) -> Self {
        match shape {
            [] | [_] => Self::F32,
            [.., columns] => self.for_columns(*columns),
        }
    }

    /// A value after a round trip through this format, to nearest, ties to even. Block formats: through the format of
    /// their scales, which is F16.
    pub fn round(self, value: f32) -> f32 {
        match self {
            Self::F32 => value,
            Self::Bf16 => bf16::from_f32(value).to_f32(),
            _ => f16::from_f32(value).to_f32(),
        }
    }

    /// Whether a finite value becomes infinite in this format.
    pub fn overflows(self, value: f32) -> bool {
        // The scale of a block of Q8_0 is its largest value over 127.
        let largest = if self == Self::Q8_0 { value / 127.0 } else { value };
        value.is_finite() && !self.round(largest).is_finite()
    }

    /// Appends the little-endian bytes of `values`, whole blocks.
    ///
    /// # Errors
    /// Values that are not whole blocks.
    pub fn encode(self, values: &[f32], out: &mut Vec<u8>) -> Result<()> {
        match self {
            Self::F32 => out.extend(values.iter().flat_map(|value| value.to_le_bytes())),
            Self::F16 => out.extend(values.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes())),
            Self::Bf16 => out.extend(values.iter().flat_map(|&value| bf16::from_f32(value).to_le_bytes())),
            _ => {
                let values = Tensor::from_slice(values, values.len(), &Device::Cpu)?;
                out.extend_from_slice(&QTensor::quantize(&values, self.candle())?.data()?);
            }
        }
        Ok(())
    }

    /// The values of little-endian `bytes`; an incomplete last block is ignored.
    pub fn decode(self, bytes: &[u8]) -> Result<Vec<f32>> {
        Ok(match self {
            Self::F32 => floats(bytes),
            Self::F16 => bytes.as_chunks::<2>().0.iter().map(|&b| f16::from_le_bytes(b).to_f32()).collect(),
            Self::Bf16 => bytes.as_chunks::<2>().0.iter().map(|&b| bf16::from_le_bytes(b).to_f32()).collect(),
            _ => {
                let (values, size) = self.block();
                let blocks = bytes.len() / size;
                let bytes = Cow::Borrowed(&bytes[..blocks * size]);
                let storage = QStorage::from_data(bytes, &Device::Cpu, self.candle())?;
                QTensor::new(storage, blocks * values)?.dequantize(&Device::Cpu)?.to_vec1()?
            }
        })
    }

    /// The values after a round trip through this format.
    pub fn rounded(self, values: &[f32]) -> Result<Vec<f32>> {
        let mut bytes = Vec::new();
        self.encode(values, &mut bytes)?;
        self.decode(&bytes)
    }
}

/// Little-endian floats.
pub(super) fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_to_nearest_even() {
        // f16 has 10 fraction bits: 1 + 2^-11 lies half-way between 1 and 1 + 2^-10.
        assert_eq!(NumberFormat::F16.round(1.0 + 2f32.powi(-11)), 1.0);
        assert_eq!(NumberFormat::F16.round(1.0 + 3.0 * 2f32.powi(-11)), 1.0 + 2.0 * 2f32.powi(-10));
        // bf16 has 7.
        assert_eq!(NumberFormat::Bf16.round(1.0 + 2f32.powi(-8)), 1.0);
        assert_eq!(NumberFormat::Bf16.round(1.0 + 3.0 * 2f32.powi(-8)), 1.0 + 2.0 * 2f32.powi(-7));
        assert_eq!(NumberFormat::F32.round(0.1), 0.1);
    }

    #[test]
    fn names_numbers_and_block_sizes_agree_with_candle() {
        for format in NumberFormat::ALL {
            assert_eq!(NumberFormat::by_name(format.as_str()), Some(format));
            assert_eq!(NumberFormat::of_ggml(format.ggml()), Some(format));
            assert_eq!(format.block(), (format.candle().block_size(), format.candle().type_size()));
            assert_eq!(serde_json::to_string(&format).unwrap(), format!("\"{}\"", format.as_str()));
        }
    }

    #[test]
    fn what_does_not_fit_is_seen() {
        assert!(NumberFormat::F16.overflows(70_000.0) && !NumberFormat::Bf16.overflows(70_000.0));
        assert!(!NumberFormat::Q8_0.overflows(70_000.0) && NumberFormat::Q8_0.overflows(1e9));
        assert!(!NumberFormat::F16.overflows(f32::INFINITY), "it was infinite before");
    }
}
