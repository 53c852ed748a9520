//! Products of matrices.

use super::{of, operand, packed, single};
use crate::error::{Error, Result};
use crate::gpu::Operand;
use crate::gpu::kernels::product::{Epilogue, Form, Product};
use crate::nn::kernels::types::Act;
use crate::tensor::{DType, GpuTensor, Tensor};

/// Rows, columns and inner size of a product with its operands; `x` `[m, k]` and `w` `[n, k]`, or `[k, n]` in the other form.
fn dims(form: Form, x: &GpuTensor, w: &GpuTensor) -> Result<[usize; 3]> {
    let ((rows, columns), (first, second)) = (x.dims2()?, w.dims2()?);
    let ([m, k], [n, inner]) = match form {
        Form::Nt => ([rows, columns], [first, second]),
        Form::Nn => ([rows, columns], [second, first]),
        Form::Tn => ([columns, rows], [second, first]),
    };
    if k == inner {
        Ok([m, n, k])
    } else {
        Err(Error::internal(format!("a product of {:?} and {:?}", x.dims(), w.dims())))
    }
}

/// A product into new memory.
fn product(form: Form, x: &Tensor, w: &Tensor, dtype: DType, epilogue: Epilogue) -> Result<Tensor> {
    let (x, w) = (of(x)?, of(w)?);
    let [m, n, _] = dims(form, x, w)?;
    let out = x.gpu().empty((m, n), dtype)?;
    Into { form, out: &out }.product(x, w, epilogue)?;
    Ok(out.into())
}

/// Where a product goes.
pub(super) struct Into<'a> {
    /// How its operands lie.
    pub form: Form,
    /// `[m, n]`
    pub out: &'a GpuTensor,
}

impl Into<'_> {
    /// Overwrites the output.
    pub(super) fn product(self, x: &GpuTensor, w: &GpuTensor, epilogue: Epilogue) -> Result<()> {
        let Self { form, out } = self;
        let dims = dims(form, x, w)?;
        if out.dims() != [dims[0], dims[1]] {
            return Err(Error::internal(format!("a product of {dims:?} into {:?}", out.dims())));
        }
        let mut product = Product::new(form, dims, x.operand(), w.operand(), out.operand());
        product.epilogue = epilogue;
        packed::run(x.gpu(), product)
    }
}

fn bias(b: Option<&Tensor>) -> Result<Option<Operand>> {
    b.map(|b| single("a bias", b)).transpose()
}

/// `x Wᵀ (+ b)`, in x's format
pub(in crate::nn::kernels) fn linear(x: &Tensor, w: &Tensor, b: Option<&Tensor>) -> Result<Tensor> {
    with(x, w, b, Epilogue::default())
}

/// The same with more behind it.
pub(super) fn with(x: &Tensor, w: &Tensor, b: Option<&Tensor>, epilogue: Epilogue) -> Result<Tensor> {
    product(Form::Nt, x, w, x.dtype(), Epilogue { bias: bias(b)?, ..epilogue })
}

/// `x Wᵀ` in f32
pub(in crate::nn::kernels) fn logits(x: &Tensor, w: &Tensor) -> Result<Tensor> {
    product(Form::Nt, x, w, DType::F32, Epilogue::default())
}

/// `z = x Wᵀ (+ b)` and `act(z)`
pub(in crate::nn::kernels) fn linear_act(
    x: &Tensor,
    w: &Tensor,
    b: Option<&Tensor>,
    act: Act,
) -> Result<(Tensor, Tensor)> {
    let (rows, (outputs, _)) = (x.dims2()?.0, w.dims2()?);
    let activated = of(x)?.gpu().empty((rows, outputs), x.dtype())?;
    let epilogue = Epilogue { bias: bias(b)?, act: Some((act as u32, activated.operand())), ..Epilogue::default() };
    Ok((product(Form::Nt, x, w, x.dtype(), epilogue)?, activated.into()))
}

/// `dy W`
pub(in crate::nn::kernels) fn backward(dy: &Tensor, w: &Tensor) -> Result<Tensor> {
    product(Form::Nn, dy, w, dy.dtype(), Epilogue::default())
}

/// `(dy W) act'(z)`
pub(in crate::nn::kernels) fn backward_act(dy: &Tensor, w: &Tensor, act: Act, z: &Tensor) -> Result<Tensor> {
    let epilogue = Epilogue { slope: Some((act as u32, operand(z)?)), ..Epilogue::default() };
    product(Form::Nn, dy, w, dy.dtype(), epilogue)
}

/// `acc + dy W` in acc's memory
pub(in crate::nn::kernels) fn backward_add(dy: &Tensor, w: &Tensor, acc: Tensor) -> Result<Tensor> {
    let sum = of(&acc)?;
    let epilogue = Epilogue { add: Some(sum.operand()), ..Epilogue::default() };
    Into { form: Form::Nn, out: sum }.product(of(dy)?, of(w)?, epilogue)?;
    Ok(acc)
}

/// `dyᵀ x` in f32
pub(in crate::nn::kernels) fn weight_grad(dy: &Tensor, x: &Tensor) -> Result<Tensor> {
    product(Form::Tn, dy, x, DType::F32, Epilogue::default())
}
