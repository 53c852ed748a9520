//! Products with quantised matrices.

use super::matrix::{Quantised, TASK};
use crate::error::Result;
use crate::nn::kernels::device::{is_fast16, takes_fast};
use crate::nn::kernels::gemm::{self, Block, Matrix, Operand, Orientation, Precision, Widen};
use crate::nn::kernels::host::{self, HostRef};
use crate::nn::kernels::simd;
use crate::tensor::{DType, Tensor};
use rayon::prelude::*;

/// Up to so many rows of x, rows of W are multiplied as they are widened.
const FEW: usize = 8;

impl Quantised {
    /// `out = x Wᵀ`, where the processor has tiles in this precision. x `[n, columns]` -> `[n, rows]`
    pub fn product_into(&self, x: &[f32], n: usize, out: &mut [f32], precision: Precision) {
        let (rows, k) = self.dims();
        if n <= FEW {
            return self.few(x, n, out);
        }
        let block = Block { start: 0, row: rows, add: false };
        let w = Operand::Widened(self, Orientation::Transposed);
        gemm::product_block([n, rows, k], Matrix::rows(x, k), w, out, block, 1.0, precision);
    }

    /// As [`Quantised::product_into`] for a few rows of x.
    fn few(&self, x: &[f32], n: usize, out: &mut [f32]) {
        let (rows, k) = self.dims();
        let task = (TASK / k).max(1);
        let mut transposed = vec![0.0f32; rows * n];
        transposed.par_chunks_mut(task * n).enumerate().for_each(|(i, block)| {
            host::scratch(k, |wide| {
                for (j, sums) in block.chunks_exact_mut(n).enumerate() {
                    self.widen_rows(i * task + j, wide);
                    simd::vectors!(|| {
                        for (sum, x) in sums.iter_mut().zip(x.chunks_exact(k)) {
                            *sum = simd::dot(x, wide);
                        }
                    });
                }
            });
        });
        if n == 1 {
            return out[..rows].copy_from_slice(&transposed);
        }
        for (i, out) in out.chunks_exact_mut(rows).enumerate() {
            out.iter_mut().zip(transposed.iter().skip(i).step_by(n)).for_each(|(v, t)| *v = *t);
        }
    }

    /// `out += dy W`, as [`Quantised::product_into`]. dy `[n, rows]` -> `[n, columns]`
    pub fn product_back(&self, dy: &[f32], n: usize, out: &mut [f32], precision: Precision) {
        let (rows, k) = self.dims();
        let block = Block { start: 0, row: k, add: true };
        let w = Operand::Widened(self, Orientation::Rows);
        gemm::product_block([n, k, rows], Matrix::rows(dy, rows), w, out, block, 1.0, precision);
    }

    /// `x Wᵀ (+ b)`. x `[n, columns]`, b `[rows]` -> `[n, rows]`
    pub fn linear(&self, x: &Tensor, b: Option<&Tensor>) -> Result<Tensor> {
        if let Some(packed) = &self.packed {
            return packed.linear(x, b, x.dtype());
        }
        if !takes_fast(x) {
            return gemm::linear(x, &self.like(x)?, b);
        }
        let n = gemm::checked_rows("linear input", x, self.columns)?;
        if n > FEW {
            return gemm::widened_linear(x, self, b);
        }
        if is_fast16(x) {
            return self.linear(&x.to_dtype(DType::F32)?, b)?.to_dtype(DType::BF16);
        }
        let (xs, bias) = (HostRef::of(x)?, b.map(HostRef::of).transpose()?);
        let mut out = vec![0.0f32; n * self.rows];
        self.product_into(&xs, n, &mut out, Precision::Single);
        if let Some(bias) = &bias {
            host::for_rows(&mut out, self.rows, |_, block| {
                simd::vectors!(|| {
                    for row in block.chunks_exact_mut(self.rows) {
                        row.iter_mut().zip(&bias[..]).for_each(|(v, b)| *v += b);
                    }
                });
            });
        }
        host::tensor(out, (n, self.rows))
    }

    /// `dy W`. dy `[n, rows]` -> `[n, columns]`
    pub fn backward(&self, dy: &Tensor) -> Result<Tensor> {
        if let Some(packed) = &self.packed {
            return packed.backward(dy, None);
        }
        if takes_fast(dy) { gemm::widened_backward(dy, self) } else { gemm::linear_backward(dy, &self.like(dy)?) }
    }

    /// `acc + dy W`, in `acc`'s memory. dy `[n, rows]`, acc `[n, columns]`
    pub fn backward_add(&self, dy: &Tensor, acc: Tensor) -> Result<Tensor> {
        if let Some(packed) = &self.packed {
            return packed.backward(dy, Some(acc));
        }
        if takes_fast(dy) {
            gemm::widened_backward_add(dy, self, acc)
        } else {
            gemm::linear_backward_add(dy, &self.like(dy)?, acc)
        }
    }

    /// All values in the place and precision of `x`.
    fn like(&self, x: &Tensor) -> Result<Tensor> {
        self.dense()?.to_device(x.device())?.to_dtype(x.dtype())
    }
}

/// On the tiles it is widened block by block, as it is packed for them.
impl Widen for Quantised {
    fn dims(&self) -> (usize, usize) {
        (self.rows, self.columns)
    }
    fn granule(&self) -> usize {
        // Blocks of one value, of 32 and of 256: the longest are whole numbers of the others.
        self.parts.iter().map(|part| part.format.block().0).max().unwrap_or(1)
    }
    fn widen(&self, row: usize, column: usize, out: &mut [f32]) {
        if let Some(part) = self.parts.iter().find(|part| (part.first..part.first + part.rows).contains(&row)) {
            let (values, size) = part.format.block();
            let start = part.start + (row - part.first) * self.row_bytes(part) + column / values * size;
            part.format.widen(&part.bytes[start..start + out.len() / values * size], out);
        }
    }
}
