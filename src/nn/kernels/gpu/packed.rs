//! Quantised matrices in a GPU's memory, decoded where they are multiplied.

use super::{of, single};
use crate::error::{Error, Result};
use crate::gpu::Operand;
use crate::gpu::kernels::product::{Epilogue, Form, Product};
use crate::gpu::kernels::quantised::{self, Blocks};
use crate::tensor::{DType, Gpu, GpuTensor, NumberFormat, Shape, Tensor};

/// A matrix `[rows, columns]` in one format or, where matrices were put one below the other, in several. Cloning shares it.
#[derive(Clone, Debug)]
pub(in crate::nn::kernels) struct Packed {
    parts: Vec<Part>,
    rows: usize,
    columns: usize,
}

/// Rows of one format.
#[derive(Clone, Debug)]
struct Part {
    format: NumberFormat,
    /// U32, or f32 where nothing is packed.
    values: GpuTensor,
    first: usize,
    rows: usize,
}

/// The kernels' name of a format; none of f32, which is not packed.
fn blocks_of(format: NumberFormat) -> Option<Blocks> {
    Some(match format {
        NumberFormat::F32 => return None,
        NumberFormat::F16 => Blocks::F16,
        NumberFormat::Bf16 => Blocks::Bf16,
        NumberFormat::Q8_0 => Blocks::Q8_0,
        NumberFormat::Q4_0 => Blocks::Q4_0,
        NumberFormat::Q4_1 => Blocks::Q4_1,
        NumberFormat::Q5_0 => Blocks::Q5_0,
        NumberFormat::Q5_1 => Blocks::Q5_1,
        NumberFormat::Q4K => Blocks::Q4K,
        NumberFormat::Q5K => Blocks::Q5K,
        NumberFormat::Q6K => Blocks::Q6K,
    })
}

impl Part {
    fn product(&self, columns: usize, form: Form, m: usize, x: Operand, out: Operand) -> Product {
        let (rows, words) = (self.rows, self.values.operand());
        let Some(blocks) = blocks_of(self.format) else {
            let shape = if form == Form::Nt { [m, rows, columns] } else { [m, columns, rows] };
            return Product::new(form, shape, x, words, out);
        };
        let matrix = quantised::Quantised { blocks, words, rows, columns };
        if form == Form::Nt { matrix.forward(m, x, out) } else { matrix.backward(m, x, out) }
    }
}

impl Packed {
    /// Rows of one format, as a file has them.
    pub(in crate::nn::kernels) fn of(
        gpu: &Gpu,
        format: NumberFormat,
        bytes: &[u8],
        [rows, columns]: [usize; 2],
    ) -> Result<Self> {
        let values = match blocks_of(format) {
            None => GpuTensor::from_bytes(gpu, bytes, Shape::from((rows, columns)), DType::F32)?,
            Some(blocks) => {
                let packed = blocks.pack(bytes);
                GpuTensor::from_bytes(gpu, &packed, (packed.len() / 4).into(), DType::U32)?
            }
        };
        Ok(Self { parts: vec![Part { format, values, first: 0, rows }], rows, columns })
    }

    /// Matrices with as many columns, one below the other.
    pub(in crate::nn::kernels) fn stack(list: &[&Self]) -> Self {
        let (mut parts, mut rows) = (Vec::new(), 0);
        for matrix in list {
            parts.extend(matrix.parts.iter().map(|part| Part { first: part.first + rows, ..part.clone() }));
            rows += matrix.rows;
        }
        Self { parts, rows, columns: list.first().map_or(0, |matrix| matrix.columns) }
    }

    /// Bytes in the GPU's memory.
    pub(in crate::nn::kernels) fn bytes(&self) -> usize {
        self.parts.iter().map(|part| part.values.operand().bytes() as usize).sum()
    }

    /// `x Wᵀ (+ b)` in a format. x `[n, columns]`, b `[rows]` -> `[n, rows]`
    pub(in crate::nn::kernels) fn linear(&self, x: &Tensor, b: Option<&Tensor>, dtype: DType) -> Result<Tensor> {
        let (n, columns) = x.dims2()?;
        self.check("linear input", columns, self.columns)?;
        let x = of(x)?;
        let out = x.gpu().empty((n, self.rows), dtype)?;
        self.forward(x, b, &out)?;
        Ok(out.into())
    }

    /// `x Wᵀ (+ b)` into memory that is there.
    pub(super) fn forward(&self, x: &GpuTensor, b: Option<&Tensor>, out: &GpuTensor) -> Result<()> {
        let (n, _) = x.dims2()?;
        let bias = b.map(|b| single("a bias", b)).transpose()?;
        for part in &self.parts {
            let window = out.operand().part(part.first, out.elem_count().saturating_sub(self.rows - part.rows));
            let mut product = part.product(self.columns, Form::Nt, n, x.operand(), window);
            product.rows[2] = self.rows;
            product.epilogue.bias = bias.map(|bias| bias.part(part.first, part.rows));
            run(x.gpu(), product)?;
        }
        Ok(())
    }

    /// `dy W`, added to `acc` where there is one. dy `[n, rows]`, acc `[n, columns]`, in place
    pub(in crate::nn::kernels) fn backward(&self, dy: &Tensor, acc: Option<Tensor>) -> Result<Tensor> {
        let (n, rows) = dy.dims2()?;
        self.check("gradient", rows, self.rows)?;
        let dy = of(dy)?;
        let (sum, add) = match acc {
            Some(acc) => (acc, true),
            None => (dy.gpu().empty((n, self.columns), dy.dtype())?.into(), false),
        };
        self.back(dy, of(&sum)?, add)?;
        Ok(sum)
    }

    /// `dy W` into memory that is there, or on top of what it holds.
    pub(super) fn back(&self, dy: &GpuTensor, out: &GpuTensor, add: bool) -> Result<()> {
        let (n, _) = dy.dims2()?;
        for (i, part) in self.parts.iter().enumerate() {
            let window = dy.operand().part(part.first, dy.elem_count().saturating_sub(self.rows - part.rows));
            let mut product = part.product(self.columns, Form::Nn, n, window, out.operand());
            product.rows[0] = self.rows;
            product.epilogue = Epilogue { add: (add || i > 0).then(|| out.operand()), ..Epilogue::default() };
            run(dy.gpu(), product)?;
        }
        Ok(())
    }

    /// Some rows, in any order, in f32. `[ids, columns]`
    pub(in crate::nn::kernels) fn gather(&self, ids: &[u32]) -> Result<Tensor> {
        let [part] = self.parts.as_slice() else {
            return Err(Error::internal("rows of a table in several formats"));
        };
        if let Some(id) = ids.iter().find(|&&id| id as usize >= self.rows) {
            return Err(Error::internal(format!("row {id} of {}", self.rows)));
        }
        let gpu = part.values.gpu();
        let numbers = gpu.words(ids)?;
        let Some(blocks) = blocks_of(part.format) else { return Ok(part.values.index_select(&numbers)?.into()) };
        let out = gpu.empty((ids.len(), self.columns), DType::F32)?;
        let (words, rows, columns) = (part.values.operand(), self.rows, self.columns);
        let matrix = quantised::Quantised { blocks, words, rows, columns };
        gpu.run(matrix.gather(numbers.operand(), out.operand(), gpu.backend().facts().max_binding))?;
        Ok(out.into())
    }

    fn check(&self, what: &str, found: usize, wanted: usize) -> Result<()> {
        if found == wanted {
            return Ok(());
        }
        Err(Error::internal(format!("{what} has {found} columns, its weight {wanted}")))
    }
}

/// Runs a product with the scratch memory that it can use.
pub(super) fn run(gpu: &Gpu, mut product: Product) -> Result<()> {
    // Held until the launches are on their way; memory that goes back is only used again behind them.
    let scratch = match product.scratch(gpu.plan()) {
        0 => None,
        values => Some(gpu.empty(values, DType::F32)?),
    };
    product.scratch = scratch.as_ref().map(GpuTensor::operand);
    gpu.run(product.launches(gpu.plan()))
}
