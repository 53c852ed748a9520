//! Operations that only candle computes: the plain versions of kernels are made of them. For tensors on a GPU of our own
//! they are errors.

use super::operations::unsupported;
use super::tensor::{Tensor, Values};
use crate::error::Result;
use candle_core::Shape;
use candle_core::shape::{Dim, Dims};

impl Tensor {
    fn plain(&self, name: &str) -> Result<&candle_core::Tensor> {
        match &self.values {
            Values::Host(tensor) => Ok(tensor),
            Values::Gpu(_) => Err(unsupported(name)),
        }
    }
}

/// Operations on one tensor.
macro_rules! unary {
    ($($(#[$doc:meta])* $name:ident($($arg:ident: $type:ty),*);)*) => {
        impl Tensor {
            $($(#[$doc])* pub fn $name(&self, $($arg: $type),*) -> Result<Self> {
                Ok(self.plain(stringify!($name))?.$name($($arg),*)?.into())
            })*
        }
    };
}
unary! {
    /// `|x|`.
    abs();
    /// The error function.
    erf();
    /// Exponentials.
    exp();
    /// GELU with tanh.
    gelu();
    /// GELU with the error function.
    gelu_erf();
    /// Natural logarithms.
    log();
    /// `-x`.
    neg();
    /// `1 / x`.
    recip();
    /// `max(x, 0)`.
    relu();
    /// `x σ(x)`.
    silu();
    /// Squares.
    sqr();
    /// Square roots.
    sqrt();
    /// Hyperbolic tangents.
    tanh();
    /// Sum of all values, without dimensions.
    sum_all();
    /// Means over dimensions, which keep the size 1.
    mean_keepdim(dims: impl Dims);
    /// Largest values over a dimension, which keeps the size 1.
    max_keepdim(dim: impl Dim);
    /// Repeated to a shape, without a copy.
    expand(shape: impl Into<Shape>);
    /// A copy in row-major order, aligned as new memory is.
    force_contiguous();
}

/// Operations on two tensors.
macro_rules! binary {
    ($($(#[$doc:meta])* $name:ident;)*) => {
        impl Tensor {
            $($(#[$doc])* pub fn $name(&self, other: &Self) -> Result<Self> {
                let name = stringify!($name);
                Ok(self.plain(name)?.$name(other.plain(name)?)?.into())
            })*
        }
    };
}
binary! {
    /// Quotients of the values of two tensors of one shape.
    div;
    /// `x + y`, where sizes of 1 are repeated.
    broadcast_add;
    /// `x - y`, where sizes of 1 are repeated.
    broadcast_sub;
    /// `x y`, where sizes of 1 are repeated.
    broadcast_mul;
    /// `x / y`, where sizes of 1 are repeated.
    broadcast_div;
    /// 1 where `x > y`, else 0, in u8.
    gt;
}
