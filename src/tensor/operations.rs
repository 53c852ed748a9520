//! Operations that every device has: moving, cutting and joining values, sums, products of matrices, `+ - *`.

#![expect(clippy::needless_pass_by_value, reason = "dimensions are taken as candle takes them")]

use super::DType;
use super::device::Device;
use super::gpu_tensor::GpuTensor;
use super::tensor::{Tensor, Values, downloaded, uploaded};
use crate::error::{Error, ErrorKind, Result};
use candle_core::shape::{Dim, Dims, ShapeWithOneHole};
use std::borrow::Borrow;
use std::ops;

type Host = candle_core::Tensor;
type Made = candle_core::Result<Host>;

pub(super) fn unsupported(name: &str) -> Error {
    Error::internal(format!("tensors on a GPU have no operation {name}"))
}

fn unfit(name: &str, tensors: &[&GpuTensor]) -> Error {
    let shapes: Vec<_> = tensors.iter().map(|tensor| (tensor.shape(), tensor.dtype())).collect();
    Error::new(ErrorKind::Shape, format!("{name} of shapes and formats that do not fit together: {shapes:?}"))
}

fn apart(name: &str, tensors: &[&Tensor]) -> Error {
    let places: Vec<_> = tensors.iter().map(|tensor| tensor.device().to_string()).collect();
    Error::internal(format!("{name} of tensors on different devices: {places:?}"))
}

fn only_first(name: &str, dim: usize) -> Result<()> {
    if dim == 0 { Ok(()) } else { Err(unsupported(&format!("{name} beyond dimension 0"))) }
}

/// Whether all sizes but the first, and the formats, are the same.
fn same_parts(a: &GpuTensor, b: &GpuTensor) -> bool {
    let parts = |x: &GpuTensor| x.shape().dims().get(1..).map(<[usize]>::to_vec);
    parts(a).is_some() && parts(a) == parts(b) && a.dtype() == b.dtype()
}

impl Tensor {
    fn one(&self, host: impl FnOnce(&Host) -> Made, gpu: impl FnOnce(&GpuTensor) -> Result<GpuTensor>) -> Result<Self> {
        match &self.values {
            Values::Host(x) => Ok(host(x)?.into()),
            Values::Gpu(x) => Ok(gpu(x)?.into()),
        }
    }

    fn two(
        &self,
        name: &str,
        other: &Self,
        host: impl FnOnce(&Host, &Host) -> Made,
        gpu: impl FnOnce(&GpuTensor, &GpuTensor) -> Result<GpuTensor>,
    ) -> Result<Self> {
        match (&self.values, &other.values) {
            (Values::Host(x), Values::Host(y)) => Ok(host(x, y)?.into()),
            (Values::Gpu(x), Values::Gpu(y)) => Ok(gpu(x, y)?.into()),
            _ => Err(apart(name, &[self, other])),
        }
    }

    fn alike(
        &self,
        name: &str,
        other: &Self,
        host: impl FnOnce(&Host, &Host) -> Made,
        gpu: impl FnOnce(&GpuTensor, &GpuTensor) -> Result<GpuTensor>,
    ) -> Result<Self> {
        self.two(name, other, host, |x, y| {
            let fit = x.shape() == y.shape() && x.dtype() == y.dtype();
            if fit { gpu(x, y) } else { Err(unfit(name, &[x, y])) }
        })
    }
}

/// Other places, formats and shapes of the same values.
impl Tensor {
    /// On another device.
    pub fn to_device(&self, device: &Device) -> Result<Self> {
        match (&self.values, device) {
            (Values::Gpu(x), Device::Gpu(gpu)) if x.gpu().same(gpu) => Ok(self.clone()),
            (Values::Gpu(x), _) => Self::from(downloaded(x)?).to_device(device),
            (Values::Host(x), Device::Gpu(gpu)) => uploaded(gpu, x),
            (Values::Host(x), device) => Ok(x.to_device(device.candle()?)?.into()),
        }
    }

    /// In another number format, rounded to nearest.
    pub fn to_dtype(&self, dtype: DType) -> Result<Self> {
        self.one(|x| x.to_dtype(dtype), |x| if x.dtype() == dtype { Ok(x.clone()) } else { x.cast(dtype) })
    }

    /// In row-major order without gaps; the tensor itself where it is.
    pub fn contiguous(&self) -> Result<Self> {
        self.one(Host::contiguous, |x| Ok(x.clone()))
    }

    /// A copy in memory of its own.
    pub fn copy(&self) -> Result<Self> {
        self.one(Host::copy, GpuTensor::copy)
    }

    /// In another shape of as many values; one size may be `()`.
    pub fn reshape<S: ShapeWithOneHole>(&self, shape: S) -> Result<Self> {
        match &self.values {
            Values::Host(x) => Ok(x.reshape(shape)?.into()),
            Values::Gpu(x) => Ok(x.reshape(shape.into_shape(self.elem_count())?)?.into()),
        }
    }

    /// As a vector.
    pub fn flatten_all(&self) -> Result<Self> {
        self.one(Host::flatten_all, |x| x.reshape(x.shape().elem_count().into()))
    }

    /// Without a dimension whose size is 1; the tensor itself where it is not.
    pub fn squeeze<N: Dim>(&self, dim: N) -> Result<Self> {
        let dim = dim.to_index(self.shape(), "squeeze")?;
        let gpu = |x: &GpuTensor| match x.shape().dims().split_at(dim) {
            (outer, [1, inner @ ..]) => x.reshape([outer, inner].concat().into()),
            _ => Ok(x.clone()),
        };
        self.one(|x| x.squeeze(dim), gpu)
    }

    /// With one more dimension of size 1 before this one.
    pub fn unsqueeze<N: Dim>(&self, dim: N) -> Result<Self> {
        let dim = dim.to_index_plus_one(self.shape(), "unsqueeze")?;
        let gpu = |x: &GpuTensor| {
            let (outer, inner) = x.shape().dims().split_at(dim);
            x.reshape([outer, &[1], inner].concat().into())
        };
        self.one(|x| x.unsqueeze(dim), gpu)
    }

    /// With the last two dimensions exchanged.
    pub fn t(&self) -> Result<Self> {
        self.one(Host::t, |x| match x.shape().rank() {
            0 | 1 => Err(unfit("t", &[x])),
            rank => x.transposed(rank - 2, rank - 1),
        })
    }

    /// With two dimensions exchanged.
    pub fn transpose<N: Dim, M: Dim>(&self, dim1: N, dim2: M) -> Result<Self> {
        let dims = [dim1.to_index(self.shape(), "transpose")?, dim2.to_index(self.shape(), "transpose")?];
        self.one(|x| x.transpose(dims[0], dims[1]), |x| x.transposed(dims[0], dims[1]))
    }
}

/// Parts of tensors.
impl Tensor {
    /// `len` indices of a dimension, from `start` on.
    pub fn narrow<N: Dim>(&self, dim: N, start: usize, len: usize) -> Result<Self> {
        let dim = dim.to_index(self.shape(), "narrow")?;
        let gpu = |x: &GpuTensor| match x.shape().dims()[dim] {
            size if (start, len) == (0, size) => Ok(x.clone()),
            size if start.checked_add(len).is_some_and(|end| end <= size) => x.narrow(dim, start, len),
            size => Err(Error::new(ErrorKind::Shape, format!("{len} indices from {start} on of {size}"))),
        };
        self.one(|x| x.narrow(dim, start, len), gpu)
    }

    /// One index of dimension 0, which is dropped.
    pub fn get(&self, index: usize) -> Result<Self> {
        match &self.values {
            Values::Host(x) => Ok(x.get(index)?.into()),
            Values::Gpu(_) => self.narrow(0, index, 1)?.squeeze(0),
        }
    }

    /// With so many zeros before and behind the values of a dimension.
    pub fn pad_with_zeros<N: Dim>(&self, dim: N, before: usize, behind: usize) -> Result<Self> {
        let dim = dim.to_index(self.shape(), "pad")?;
        let gpu = |x: &GpuTensor| {
            only_first("pad_with_zeros", dim)?;
            let mut dims = x.shape().dims().to_vec();
            dims[0] += before + behind;
            let padded = GpuTensor::zeros(x.gpu(), dims.into(), x.dtype())?;
            padded.slice_set(x, before)?;
            Ok(padded)
        };
        self.one(|x| x.pad_with_zeros(dim, before, behind), gpu)
    }

    /// Tensors behind one another in a dimension.
    pub fn cat<A: AsRef<Self>, N: Dim>(parts: &[A], dim: N) -> Result<Self> {
        let (mut host, mut gpu) = (Vec::new(), Vec::new());
        for part in parts {
            match &part.as_ref().values {
                Values::Host(part) => host.push(part),
                Values::Gpu(part) => gpu.push(part),
            }
        }
        let Some(one) = gpu.first() else { return Ok(Host::cat(&host, dim)?.into()) };
        let dim = dim.to_index(one.shape(), "cat")?;
        let others = |x: &GpuTensor| {
            let (outer, inner) = x.shape().dims().split_at(dim);
            (outer.to_vec(), inner.get(1..).map(<[usize]>::to_vec), x.dtype())
        };
        if !host.is_empty() {
            Err(apart("cat", &parts.iter().map(A::as_ref).collect::<Vec<_>>()))
        } else if gpu.iter().any(|part| part.shape().rank() <= dim || others(part) != others(one)) {
            Err(unfit("cat", &gpu))
        } else {
            Ok(GpuTensor::cat(&gpu, dim)?.into())
        }
    }

    /// Tensors of one shape behind one another in a new dimension.
    pub fn stack<A: AsRef<Self>, N: Dim>(parts: &[A], dim: N) -> Result<Self> {
        let Some(one) = parts.first() else { return Self::cat(parts, dim) };
        let dim = dim.to_index_plus_one(one.as_ref().shape(), "stack")?;
        let parts = parts.iter().map(|part| part.as_ref().unsqueeze(dim)).collect::<Result<Vec<_>>>()?;
        Self::cat(&parts, dim)
    }

    /// Indices of a dimension, in any order. ids `[n]`
    pub fn index_select<N: Dim>(&self, ids: &Self, dim: N) -> Result<Self> {
        let dim = dim.to_index(self.shape(), "index-select")?;
        self.two(
            "index_select",
            ids,
            |x, ids| x.index_select(ids, dim),
            |x, ids| {
                only_first("index_select", dim)?;
                if ids.shape().rank() == 1 { x.index_select(ids) } else { Err(unfit("index_select", &[x, ids])) }
            },
        )
    }

    /// A copy with the parts of `source` added at these indices of a dimension. ids `[n]`
    pub fn index_add<N: Dim>(&self, ids: &Self, source: &Self, dim: N) -> Result<Self> {
        let dim = dim.to_index(self.shape(), "index-add")?;
        match (&self.values, &ids.values, &source.values) {
            (Values::Host(x), Values::Host(ids), Values::Host(source)) => Ok(x.index_add(ids, source, dim)?.into()),
            (Values::Gpu(x), Values::Gpu(ids), Values::Gpu(source)) => {
                only_first("index_add", dim)?;
                let fit = same_parts(x, source) && ids.shape().dims() == &source.shape().dims()[..1];
                if fit { Ok(x.index_add(ids, source)?.into()) } else { Err(unfit("index_add", &[x, ids, source])) }
            }
            _ => Err(apart("index_add", &[self, ids, source])),
        }
    }

    /// As [`Tensor::index_add`] on dimension 0, for numbers of which none comes twice. ids `[n]`
    pub fn index_add_once(&self, ids: &Self, source: &Self) -> Result<Self> {
        match (&self.values, &ids.values, &source.values) {
            (Values::Gpu(x), Values::Gpu(ids), Values::Gpu(source)) => {
                let fit = ids.shape().dims() == &source.shape().dims()[..1] && same_parts(x, source);
                if fit { Ok(x.index_add_once(ids, source)?.into()) } else { Err(unfit("index_add", &[x, ids, source])) }
            }
            _ => self.index_add(ids, source, 0),
        }
    }

    /// Overwrites the indices of a dimension from `start` on, in place.
    pub fn slice_set<N: Dim>(&self, source: &Self, dim: N, start: usize) -> Result<()> {
        let dim = dim.to_index(self.shape(), "slice-set")?;
        match (&self.values, &source.values) {
            (Values::Host(x), Values::Host(source)) => Ok(x.slice_set(source, dim, start)?),
            (Values::Gpu(x), Values::Gpu(source)) => {
                only_first("slice_set", dim)?;
                let fit = same_parts(x, source) && start + source.shape().dims()[0] <= x.shape().dims()[0];
                if fit { x.slice_set(source, start) } else { Err(unfit("slice_set", &[x, source])) }
            }
            _ => Err(apart("slice_set", &[self, source])),
        }
    }
}

/// Arithmetic.
impl Tensor {
    /// Sum of two tensors of one shape.
    pub fn add(&self, other: &Self) -> Result<Self> {
        self.alike("a sum", other, Host::add, GpuTensor::add)
    }

    /// Difference of two tensors of one shape.
    pub fn sub(&self, other: &Self) -> Result<Self> {
        self.alike("a difference", other, Host::sub, GpuTensor::sub)
    }

    /// Products of the values of two tensors of one shape.
    pub fn mul(&self, other: &Self) -> Result<Self> {
        self.alike("a product", other, Host::mul, GpuTensor::mul)
    }

    /// `mul x + add` of every value.
    pub fn affine(&self, mul: f64, add: f64) -> Result<Self> {
        self.one(|x| x.affine(mul, add), |x| x.affine(mul, add))
    }

    /// Sum over dimensions, which are dropped.
    pub fn sum<N: Dims>(&self, dims: N) -> Result<Self> {
        let dims = dims.to_indexes(self.shape(), "sum")?;
        let gpu = |x: &GpuTensor| if dims == [0] { x.sum_first() } else { Err(unsupported("sum beyond dimension 0")) };
        self.one(|x| x.sum(dims.as_slice()), gpu)
    }

    /// Sum over dimensions, which keep the size 1.
    pub fn sum_keepdim<N: Dims>(&self, dims: N) -> Result<Self> {
        let dims = dims.to_indexes(self.shape(), "sum-keepdim")?;
        match &self.values {
            Values::Host(x) => Ok(x.sum_keepdim(dims)?.into()),
            Values::Gpu(_) => self.sum(dims)?.unsqueeze(0),
        }
    }

    /// Product of two matrices; on the host also of as many matrices as outer dimensions count.
    /// `[m, k]` times `[k, n]` -> `[m, n]`
    pub fn matmul(&self, other: &Self) -> Result<Self> {
        self.two("a product of matrices", other, Host::matmul, |x, y| match (x.shape().dims(), y.shape().dims()) {
            ([_, k], [rows, _]) if k == rows && x.dtype() == y.dtype() => x.matmul(y),
            _ => Err(unfit("a product of matrices", &[x, y])),
        })
    }
}

/// `a + b` and the like, by value and by reference, with tensors, results and numbers.
macro_rules! operator {
    ($trait:ident, $method:ident, |$number:ident| $mul:expr, $add:expr) => {
        impl<B: Borrow<Tensor>> ops::$trait<B> for Tensor {
            type Output = Result<Self>;
            fn $method(self, other: B) -> Result<Self> {
                Self::$method(&self, other.borrow())
            }
        }
        impl<B: Borrow<Tensor>> ops::$trait<B> for &Tensor {
            type Output = Result<Tensor>;
            fn $method(self, other: B) -> Result<Tensor> {
                Tensor::$method(self, other.borrow())
            }
        }
        impl<B: Borrow<Tensor>> ops::$trait<Result<B>> for Tensor {
            type Output = Result<Self>;
            fn $method(self, other: Result<B>) -> Result<Self> {
                Self::$method(&self, other?.borrow())
            }
        }
        impl<B: Borrow<Tensor>> ops::$trait<Result<B>> for &Tensor {
            type Output = Result<Tensor>;
            fn $method(self, other: Result<B>) -> Result<Tensor> {
                Tensor::$method(self, other?.borrow())
            }
        }
        impl ops::$trait<f64> for Tensor {
            type Output = Result<Self>;
            fn $method(self, $number: f64) -> Result<Self> {
                self.affine($mul, $add)
            }
        }
        impl ops::$trait<f64> for &Tensor {
            type Output = Result<Tensor>;
            fn $method(self, $number: f64) -> Result<Tensor> {
                self.affine($mul, $add)
            }
        }
    };
}
operator!(Add, add, |number| 1.0, number);
operator!(Sub, sub, |number| 1.0, -number);
operator!(Mul, mul, |number| number, 0.0);
operator!(Div, div, |number| 1.0 / number, 0.0);
