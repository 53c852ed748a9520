//! A named tensor on the host, and the plan of one that is written to a file.

use crate::atomic;
use crate::error::{Error, ErrorKind, Result};
use crate::tensor::NumberFormat;
use std::borrow::Cow;
use std::path::Path;

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

    /// Whether all values are finite; an error naming the tensor otherwise.
    pub fn check_finite(&self) -> Result<()> {
        let Some(at) = self.data.iter().position(|value| !value.is_finite()) else { return Ok(()) };
        let (name, value) = (&self.name, self.data[at]);
        Err(Error::new(ErrorKind::Numerics, format!("tensor {name:?} holds {value} at element {at}")))
    }

    /// Whether every finite value stays finite in a format; an error naming the value and the tensor otherwise.
    pub fn check_range(&self, format: NumberFormat) -> Result<()> {
        let Some(value) = self.data.iter().find(|value| format.overflows(**value)) else { return Ok(()) };
        let (name, format) = (&self.name, format.name());
        let text = format!("{value:e} in tensor {name} does not fit into {format}; use f32 or bf16");
        Err(Error::new(ErrorKind::Numerics, text))
    }

    /// The values after a round trip through a format.
    ///
    /// # Errors
    /// A value that is not finite, or becomes infinite.
    pub fn rounded(&self, format: NumberFormat) -> Result<Vec<f32>> {
        self.check_finite()?;
        self.check_range(format)?;
        format.rounded(&self.data)
    }

    /// The shape without leading dimensions of size 1: a bank of one expert has the shape of a plain tensor.
    /// At least one dimension is kept.
    pub fn squeezed_shape(&self) -> &[usize] {
        let outer = self.shape.len().saturating_sub(1);
        let ones = self.shape[..outer].iter().take_while(|&&size| size == 1).count();
        &self.shape[ones..]
    }
}

/// A tensor that will be written.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorPlan {
    /// Its name in the file.
    pub name: String,
    /// Sizes of the dimensions, outermost first.
    pub shape: Vec<usize>,
    /// How it is stored.
    pub format: NumberFormat,
}

impl TensorPlan {
    /// Bytes of its values.
    pub fn bytes(&self) -> u64 {
        self.format.bytes(self.shape.iter().map(|&size| size as u64).product())
    }
}

/// Values encoded at a time, whole blocks in every format.
const PIECE: usize = 1 << 16;

/// Writes `head`, then the values of the planned tensors, each padded with zeros to a multiple of `alignment` bytes.
/// `tensor` gives the planned tensor of a number and is called once for each, in order, so that one tensor at a time
/// is in memory. Atomic.
pub(super) fn write_file<'a>(
    path: &Path,
    head: &[u8],
    plan: &[TensorPlan],
    alignment: usize,
    tensor: &mut dyn FnMut(usize) -> Result<Cow<'a, HostTensor>>,
) -> Result<()> {
    atomic::write_file_with(path, |out| {
        let mut put = |bytes: &[u8]| out.write_all(bytes).map_err(|err| Error::io("writing", path, err));
        put(head)?;
        let mut bytes = Vec::new();
        for (i, planned) in plan.iter().enumerate() {
            let given = tensor(i)?;
            given.check()?;
            given.check_range(planned.format)?;
            if given.shape != planned.shape {
                let (name, given, planned) = (&planned.name, &given.shape, &planned.shape);
                return Err(Error::internal(format!("tensor {name} has shape {given:?}, planned was {planned:?}")));
            }
            for piece in given.data.chunks(PIECE) {
                bytes.clear();
                planned.format.encode(piece, &mut bytes)?;
                put(&bytes)?;
            }
            let padding = planned.bytes().next_multiple_of(alignment as u64) - planned.bytes();
            put(&vec![0; padding as usize])?;
        }
        Ok(())
    })
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
    fn squeezing_drops_leading_ones_only() {
        let shape = |s: &[usize]| HostTensor { name: String::new(), shape: s.to_vec(), data: Vec::new() };
        assert_eq!(shape(&[1, 4, 1]).squeezed_shape(), &[4, 1]);
        assert_eq!(shape(&[1, 1]).squeezed_shape(), &[1]);
        assert_eq!(shape(&[2, 1]).squeezed_shape(), &[2, 1]);
    }
}
