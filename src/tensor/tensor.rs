//! The tensor of this crate: candle's on the host and through CUDA, our own on GPUs of any vendor.
//!
//! Names and meanings are candle's. What is computed stands in [`super::operations`], what only candle computes, for the
//! plain versions of kernels, in [`super::plain`].

use super::device::Device;
use super::gpu_tensor::{Gpu, GpuTensor};
use super::{DType, Shape};
use crate::error::{Error, Result};
use candle_core::shape::{Dim, ShapeWithOneHole};
use candle_core::{CpuStorage, NdArray, Storage, WithDType};
use half::slice::HalfFloatSliceExt as _;
use pulp::bytemuck;
use std::borrow::Cow;
use std::fmt;

/// Values of one number format in a shape, on a device. Cloning shares the memory.
#[derive(Clone)]
pub struct Tensor {
    device: Device,
    pub(super) values: Values,
}

#[derive(Clone)]
pub(super) enum Values {
    /// candle's tensor, in the host's memory or, through CUDA, in an NVIDIA GPU's.
    Host(candle_core::Tensor),
    /// Ours.
    Gpu(GpuTensor),
}

impl From<candle_core::Tensor> for Tensor {
    fn from(tensor: candle_core::Tensor) -> Self {
        Self { device: tensor.device().into(), values: Values::Host(tensor) }
    }
}

impl From<GpuTensor> for Tensor {
    fn from(tensor: GpuTensor) -> Self {
        Self { device: Device::Gpu(tensor.gpu().clone()), values: Values::Gpu(tensor) }
    }
}

impl AsRef<Self> for Tensor {
    fn as_ref(&self) -> &Self {
        self
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.values {
            Values::Host(tensor) => tensor.fmt(f),
            Values::Gpu(tensor) => write!(f, "Tensor[{:?}, {:?}, {}]", tensor.shape(), tensor.dtype(), self.device),
        }
    }
}

/// Makes a tensor with candle, and moves it where candle has no device.
fn made(
    device: &Device,
    make: impl FnOnce(&candle_core::Device) -> candle_core::Result<candle_core::Tensor>,
) -> Result<Tensor> {
    match device {
        Device::Gpu(gpu) => uploaded(gpu, &make(&candle_core::Device::Cpu)?),
        other => Ok(make(other.candle()?)?.into()),
    }
}

pub(super) fn uploaded(gpu: &Gpu, tensor: &candle_core::Tensor) -> Result<Tensor> {
    let tensor = tensor.to_device(&candle_core::Device::Cpu)?.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    let (start, end) = layout.contiguous_offsets().unwrap_or_default();
    let Storage::Cpu(storage) = &*storage else { return Err(Error::internal("a copy on the host is not there")) };
    let bytes: &[u8] = match storage {
        CpuStorage::U8(values) => &values[start..end],
        CpuStorage::U32(values) => bytemuck::cast_slice(&values[start..end]),
        CpuStorage::I64(values) => bytemuck::cast_slice(&values[start..end]),
        CpuStorage::BF16(values) => bytemuck::cast_slice(values[start..end].reinterpret_cast()),
        CpuStorage::F16(values) => bytemuck::cast_slice(values[start..end].reinterpret_cast()),
        CpuStorage::F32(values) => bytemuck::cast_slice(&values[start..end]),
        CpuStorage::F64(values) => bytemuck::cast_slice(&values[start..end]),
        _ => return Err(Error::internal(format!("no GPU takes values in {:?}", tensor.dtype()))),
    };
    Ok(GpuTensor::from_bytes(gpu, bytes, tensor.shape().clone(), tensor.dtype())?.into())
}

pub(super) fn downloaded(tensor: &GpuTensor) -> Result<candle_core::Tensor> {
    let (bytes, dims) = (tensor.to_bytes()?, tensor.shape().dims());
    Ok(candle_core::Tensor::from_raw_buffer(&bytes, tensor.dtype(), dims, &candle_core::Device::Cpu)?)
}

/// Making tensors.
impl Tensor {
    /// From an array, as `&[1.0f32, 2.0]` or a single number.
    pub fn new<A: NdArray>(array: A, device: &Device) -> Result<Self> {
        made(device, |device| candle_core::Tensor::new(array, device))
    }

    /// From values in row-major order, which are moved on the host.
    pub fn from_vec<S: ShapeWithOneHole, T: WithDType>(values: Vec<T>, shape: S, device: &Device) -> Result<Self> {
        made(device, |device| candle_core::Tensor::from_vec(values, shape, device))
    }

    /// From a copy of values in row-major order.
    pub fn from_slice<S: ShapeWithOneHole, T: WithDType>(values: &[T], shape: S, device: &Device) -> Result<Self> {
        made(device, |device| candle_core::Tensor::from_slice(values, shape, device))
    }

    /// A vector of the values of an iterator.
    pub fn from_iter<T: WithDType>(values: impl IntoIterator<Item = T>, device: &Device) -> Result<Self> {
        made(device, |device| candle_core::Tensor::from_iter(values, device))
    }

    /// Zeros.
    pub fn zeros<S: Into<Shape>>(shape: S, dtype: DType, device: &Device) -> Result<Self> {
        match device {
            Device::Gpu(gpu) => Ok(GpuTensor::zeros(gpu, shape.into(), dtype)?.into()),
            other => Ok(candle_core::Tensor::zeros(shape, dtype, other.candle()?)?.into()),
        }
    }

    /// Zeros in the shape, format and place of this one.
    pub fn zeros_like(&self) -> Result<Self> {
        Self::zeros(self.shape(), self.dtype(), self.device())
    }

    /// Ones.
    pub fn ones<S: Into<Shape>>(shape: S, dtype: DType, device: &Device) -> Result<Self> {
        made(device, |device| candle_core::Tensor::ones(shape, dtype, device))
    }

    /// `start`, `start + 1` and so on, below `end`.
    pub fn arange<T: WithDType>(start: T, end: T, device: &Device) -> Result<Self> {
        made(device, |device| candle_core::Tensor::arange(start, end, device))
    }
}

/// What a tensor is.
impl Tensor {
    /// candle's tensor, for what only candle does; an error where the values lie on a GPU of our own.
    pub fn candle(&self) -> Result<&candle_core::Tensor> {
        match &self.values {
            Values::Host(tensor) => Ok(tensor),
            Values::Gpu(_) => Err(Error::internal(format!("a tensor on {} where candle's is needed", self.device))),
        }
    }

    /// The tensor in the memory of a GPU of our own, where it lies there.
    pub fn gpu(&self) -> Option<&GpuTensor> {
        match &self.values {
            Values::Host(_) => None,
            Values::Gpu(tensor) => Some(tensor),
        }
    }

    /// Where it lies.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The number format.
    pub fn dtype(&self) -> DType {
        match &self.values {
            Values::Host(tensor) => tensor.dtype(),
            Values::Gpu(tensor) => tensor.dtype(),
        }
    }

    /// Sizes of the dimensions.
    pub fn shape(&self) -> &Shape {
        match &self.values {
            Values::Host(tensor) => tensor.shape(),
            Values::Gpu(tensor) => tensor.shape(),
        }
    }

    /// Sizes of the dimensions, outermost first.
    pub fn dims(&self) -> &[usize] {
        self.shape().dims()
    }

    /// Size of one dimension.
    #[expect(clippy::needless_pass_by_value, reason = "dimensions are taken as candle takes them")]
    pub fn dim<N: Dim>(&self, dim: N) -> Result<usize> {
        Ok(self.dims()[dim.to_index(self.shape(), "dim")?])
    }

    /// Sizes of the two dimensions.
    pub fn dims2(&self) -> Result<(usize, usize)> {
        Ok(self.shape().dims2()?)
    }

    /// Sizes of the three dimensions.
    pub fn dims3(&self) -> Result<(usize, usize, usize)> {
        Ok(self.shape().dims3()?)
    }

    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        self.dims().len()
    }

    /// Number of values.
    pub fn elem_count(&self) -> usize {
        self.shape().elem_count()
    }

    /// Whether the values lie in row-major order without gaps.
    pub fn is_contiguous(&self) -> bool {
        match &self.values {
            Values::Host(tensor) => tensor.is_contiguous(),
            Values::Gpu(_) => true,
        }
    }
}

/// Reading values on the host, which waits for them.
impl Tensor {
    fn on_host(&self) -> Result<Cow<'_, candle_core::Tensor>> {
        match &self.values {
            Values::Host(tensor) => Ok(Cow::Borrowed(tensor)),
            Values::Gpu(tensor) => downloaded(tensor).map(Cow::Owned),
        }
    }

    /// The values of a vector.
    pub fn to_vec1<T: WithDType>(&self) -> Result<Vec<T>> {
        Ok(self.on_host()?.to_vec1()?)
    }

    /// The values of a matrix, row by row.
    pub fn to_vec2<T: WithDType>(&self) -> Result<Vec<Vec<T>>> {
        Ok(self.on_host()?.to_vec2()?)
    }

    /// The value of a tensor without dimensions.
    pub fn to_scalar<T: WithDType>(&self) -> Result<T> {
        Ok(self.on_host()?.to_scalar()?)
    }
}
