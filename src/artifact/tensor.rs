//! A tensor on the host, and the number formats it may be stored in.

use crate::error::{Error, ErrorKind, Result};
use half::{bf16, f16};
use serde::{Deserialize, Serialize};

/// The host copy of a tensor: row-major `f32` values with a stable name.
#[derive(Clone, Debug, PartialEq)]
pub struct HostTensor {
    /// Stable name, such as `layers.3.ffn.down.weight`.
    pub name: String,
    /// Sizes of the dimensions, outermost first; empty for a single number.
    pub shape: Vec<usize>,
    /// The values; as many as the product of `shape`.
    pub data: Vec<f32>,
}

impl HostTensor {
    /// A tensor whose shape fits its data; an error naming the tensor otherwise.
    pub fn new(name: impl Into<String>, shape: impl Into<Vec<usize>>, data: Vec<f32>) -> Result<Self> {
        let tensor = Self { name: name.into(), shape: shape.into(), data };
        tensor.check()?;
        Ok(tensor)
    }

    /// Whether the shape fits the data.
    pub fn check(&self) -> Result<()> {
        let Self { name, shape, data } = self;
        let elements = shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
        if elements == Some(data.len()) {
            return Ok(());
        }
        let n = data.len();
        Err(Error::new(ErrorKind::Shape, format!("tensor {name} has {n} values, which do not fit its shape {shape:?}")))
    }

    /// The shape without leading dimensions of size 1: a bank of one expert has the shape of a plain tensor.
    /// At least one dimension is kept.
    pub fn squeezed_shape(&self) -> &[usize] {
        let mut shape = self.shape.as_slice();
        while let [1, rest @ ..] = shape {
            if rest.is_empty() {
                break;
            }
            shape = rest;
        }
        shape
    }
}

/// How the values of a tensor are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dtype {
    /// 32-bit float: exact, what is trained.
    #[default]
    F32,
    /// 16-bit float: 11 significant bits, largest value 65504.
    F16,
    /// Brain float: 8 significant bits, the range of `f32`.
    Bf16,
}

impl Dtype {
    /// All formats, the most exact first.
    pub const ALL: [Self; 3] = [Self::F32, Self::F16, Self::Bf16];

    /// The name used in safetensors headers: `F32`, `F16`, `BF16`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
        }
    }

    /// The format of this safetensors name, if it is one of ours.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dtype| dtype.name() == name)
    }

    /// Bytes per value.
    pub fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    /// The value after a round trip through this format, to nearest, ties to even.
    pub fn round(self, value: f32) -> f32 {
        match self {
            Self::F32 => value,
            Self::F16 => f16::from_f32(value).to_f32(),
            Self::Bf16 => bf16::from_f32(value).to_f32(),
        }
    }

    /// Appends the little-endian bytes of `values` in this format.
    pub fn encode(self, values: &[f32], out: &mut Vec<u8>) {
        out.reserve(values.len() * self.size());
        match self {
            Self::F32 => out.extend(values.iter().flat_map(|value| value.to_le_bytes())),
            Self::F16 => out.extend(values.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes())),
            Self::Bf16 => out.extend(values.iter().flat_map(|&value| bf16::from_f32(value).to_le_bytes())),
        }
    }

    /// The values of little-endian `bytes` in this format; an incomplete last value is ignored.
    pub fn decode(self, bytes: &[u8]) -> Vec<f32> {
        match self {
            Self::F32 => bytes.as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect(),
            Self::F16 => bytes.as_chunks::<2>().0.iter().map(|&b| f16::from_le_bytes(b).to_f32()).collect(),
            Self::Bf16 => bytes.as_chunks::<2>().0.iter().map(|&b| bf16::from_le_bytes(b).to_f32()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_must_fit_its_data() {
        assert!(HostTensor::new("a", [2, 3], vec![0.0; 6]).is_ok());
        assert!(HostTensor::new("a", [], vec![0.0; 1]).is_ok());
        let text = HostTensor::new("a.b", [2, 3], vec![0.0; 5]).unwrap_err().to_string();
        assert!(text.contains("a.b") && text.contains("[2, 3]"), "{text}");
        assert!(HostTensor::new("a", [usize::MAX, 2], vec![]).is_err(), "the product overflows");
    }

    #[test]
    fn rounding_is_to_nearest_even() {
        // f16 has 10 fraction bits: 1 + 2^-11 lies half-way between 1 and 1 + 2^-10.
        assert_eq!(Dtype::F16.round(1.0 + 2f32.powi(-11)), 1.0);
        assert_eq!(Dtype::F16.round(1.0 + 3.0 * 2f32.powi(-11)), 1.0 + 2.0 * 2f32.powi(-10));
        // bf16 has 7.
        assert_eq!(Dtype::Bf16.round(1.0 + 2f32.powi(-8)), 1.0);
        assert_eq!(Dtype::Bf16.round(1.0 + 3.0 * 2f32.powi(-8)), 1.0 + 2.0 * 2f32.powi(-7));
        assert_eq!(Dtype::F32.round(0.1), 0.1);
    }

    #[test]
    fn squeezing_drops_leading_ones_only() {
        let shape = |s: &[usize]| HostTensor { name: String::new(), shape: s.to_vec(), data: Vec::new() };
        assert_eq!(shape(&[1, 4, 1]).squeezed_shape(), &[4, 1]);
        assert_eq!(shape(&[1, 1]).squeezed_shape(), &[1]);
        assert_eq!(shape(&[2, 1]).squeezed_shape(), &[2, 1]);
    }
}
