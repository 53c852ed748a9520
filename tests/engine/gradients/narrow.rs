//! Kernels whose operands flow in bf16, and products with weights that are widened as they are packed.

use super::{PRODUCTS, close, random, values, wide};
use adamix::nn::kernels::activation::{self, Act};
use adamix::nn::kernels::attention::{self, Layout, Qkv};
use adamix::nn::kernels::gemm::{self, Widen};
use adamix::nn::kernels::layer_norm::{self, Affine};
use adamix::nn::kernels::{Dropout, device, residual};
use adamix::tensor::{DType, Device, Tensor};
use candle_core::quantized::{GgmlDType, QTensor};
use std::ops::Range;

/// Half a unit in the last place of bf16, and a little for the sums.
const ROUNDED: f64 = 4.2e-3;

/// Those of [`PRODUCTS`], and inner widths that are odd, fall into one set of the cache, and exceed what is packed at
/// once.
fn product_shapes() -> impl Iterator<Item = (usize, usize, usize)> {
    PRODUCTS.into_iter().chain([(150, 401, 227), (300, 130, 777), (19, 2048, 40), (9, 8200, 35)])
}

fn narrow(x: &Tensor) -> Tensor {
    x.to_dtype(DType::BF16).unwrap()
}

fn of(shape: (usize, usize), index: u64) -> Tensor {
    narrow(&random(shape, index))
}

#[test]
fn products_of_bf16_with_bf16() {
    for (i, (n, k, m)) in product_shapes().enumerate() {
        let i = 300 + i as u64;
        let what = format!("{n} x {k} x {m}");
        let (x, w, b, dy) = (of((n, k), i), of((m, k), 20 + i), random(m, 40 + i), of((n, m), 60 + i));
        let y = wide(&x).matmul(&wide(&w).t().unwrap()).unwrap().broadcast_add(&wide(&b)).unwrap();
        let got = gemm::linear(&x, &w, Some(&b)).unwrap();
        assert_eq!(got.dtype(), DType::BF16);
        close(&what, &got, &y, ROUNDED);
        let (z, a) = gemm::linear_act(&x, &w, Some(&b), Act::Gelu).unwrap();
        close(&format!("{what} z"), &z, &y, ROUNDED);
        close(&format!("{what} act"), &a, &activation::plain_forward(Act::Gelu, &y).unwrap(), 2.0 * ROUNDED);
        let dx = wide(&dy).matmul(&wide(&w)).unwrap();
        close(&format!("{what} dx"), &gemm::linear_backward(&dy, &w).unwrap(), &dx, ROUNDED);
        let through = activation::plain_backward(Act::Gelu, &wide(&x), &dx).unwrap();
        let got = gemm::linear_backward_act(&dy, &w, Act::Gelu, &x).unwrap();
        // Elsewhere than on the tiles the product is rounded before the slope is multiplied: 4.3e-3 is the most that was
        // seen there (AVX-512 turned off), 3.2e-3 on the tiles.
        let tolerance = if gemm::multiplies_bf16() { ROUNDED } else { 1.25 * ROUNDED };
        close(&format!("{what} through act"), &got, &through, tolerance);
        let sum = (wide(&x) + &dx).unwrap();
        close(&format!("{what} added"), &gemm::linear_backward_add(&dy, &w, x.copy().unwrap()).unwrap(), &sum, ROUNDED);
        // Gradients of weights are f32, whichever operand is narrow.
        let dw = wide(&dy).t().unwrap().matmul(&wide(&x)).unwrap();
        for (dy, x) in [
            (dy.clone(), x.clone()),
            (dy.to_dtype(DType::F32).unwrap(), x.clone()),
            (dy.clone(), x.to_dtype(DType::F32).unwrap()),
        ] {
            let got = gemm::weight_grad(&dy, &x).unwrap();
            assert_eq!(got.dtype(), DType::F32);
            close(&format!("{what} dW of {:?} and {:?}", dy.dtype(), x.dtype()), &got, &dw, 1e-5);
        }
        close(&format!("{what} db"), &gemm::bias_grad(&dy).unwrap(), &wide(&dy).sum(0).unwrap(), 1e-5);
    }
}

#[test]
fn rows_in_bf16_do_not_depend_on_the_rows_beside_them() {
    for k in [401, 2048] {
        let (x, w) = (of((151, k), 1), of((227, k), 2));
        let whole = gemm::linear(&x, &w, None).unwrap();
        for rows in [0..1, 3..20, 100..151] {
            let part = x.narrow(0, rows.start, rows.len()).unwrap().contiguous().unwrap();
            let there = whole.narrow(0, rows.start, rows.len()).unwrap();
            if gemm::multiplies_bf16() {
                assert_eq!(values(&gemm::linear(&part, &w, None).unwrap()), values(&there), "rows {rows:?}");
            }
        }
    }
}

#[test]
fn norms_and_sums_in_bf16() {
    for (n, d) in [(1, 1), (3, 67), (40, 64), (300, 130)] {
        let (x, r, dy) = (of((n, d), 1), of((n, d), 2), of((n, d), 3));
        let (g, b, drop) = (random(d, 4), random(d, 5), Dropout::new(9, 0.2));
        let sum = residual::add(&x, Some(&r), drop).unwrap();
        close("sum", &sum, &residual::plain_add(&wide(&x), Some(&wide(&r)), drop).unwrap(), ROUNDED);
        close("dropped", &drop.apply(&x).unwrap(), &drop.apply(&wide(&x)).unwrap(), ROUNDED);
        let (y, saved) = layer_norm::forward(&x, Some(&r), drop, Affine { gamma: &g, beta: &b, eps: 1e-5 }).unwrap();
        let (g64, b64) = (wide(&g), wide(&b));
        let affine = Affine { gamma: &g64, beta: &b64, eps: 1e-5 };
        let (y64, saved64) = layer_norm::plain_forward(&wide(&x), Some(&wide(&r)), drop, affine).unwrap();
        close(&format!("norm {n} x {d}"), &y, &y64, ROUNDED);
        let got = layer_norm::backward(&dy, &saved, &g, drop).unwrap();
        let want = layer_norm::plain_backward(&wide(&dy), &saved64, &g64, drop).unwrap();
        let gamma = |dy: &Tensor, saved: &layer_norm::Saved| layer_norm::affine_grads(dy, saved).unwrap().0;
        close(&format!("norm {n} x {d} dsum"), &got.sum, &want.sum, 3.0 * ROUNDED);
        close(&format!("norm {n} x {d} dx"), &got.x, &want.x, 3.0 * ROUNDED);
        close(&format!("norm {n} x {d} dγ"), &gamma(&dy, &saved), &gamma(&wide(&dy), &saved64), 3.0 * ROUNDED);
    }
}

/// Sequences longer than a block of queries, seen both ways, whole and with the last queries only.
#[test]
fn long_attention_in_blocks_of_queries() {
    let spans = |lengths: &[usize]| -> Vec<Range<usize>> {
        let ends = lengths.iter().scan(0, |end, n| {
            *end += n;
            Some(*end - n..*end)
        });
        ends.collect()
    };
    let keys = [1, 300, 128, 129];
    for (causal, queries) in [(false, [1, 300, 128, 129]), (true, [1, 300, 128, 129]), (true, [1, 140, 2, 129])] {
        let layout = Layout {
            queries: spans(&queries),
            keys: spans(&keys),
            heads: 4,
            kv_heads: 2,
            head_dim: 8,
            causal,
            drop: Dropout::new(3, 0.2),
        };
        let (n_q, n_k) = (queries.iter().sum::<usize>(), keys.iter().sum::<usize>());
        let (q, kv, dy) = (random((n_q, 32), 1), random((n_k, 32), 2), random((n_q, 32), 3));
        for (dtype, tolerance) in [(DType::F32, 1e-5), (DType::BF16, 3e-2)] {
            let cast = |t: &Tensor| t.to_dtype(dtype).unwrap();
            let qkv = Qkv::Split(cast(&q), cast(&kv));
            let Qkv::Split(q64, kv64) = &qkv else { unreachable!() };
            let qkv64 = Qkv::Split(wide(q64), wide(kv64));
            let what = format!("causal {causal}, {dtype:?}");
            let want = attention::plain_forward(&qkv64, &layout).unwrap();
            close(&what, &attention::forward(&qkv, &layout).unwrap(), &want, tolerance);
            let got = attention::backward(&qkv, &layout, &cast(&dy)).unwrap();
            let want = attention::plain_backward(&qkv64, &layout, &wide(&cast(&dy))).unwrap();
            let (Qkv::Split(dq, dkv), Qkv::Split(dq64, dkv64)) = (got, want) else { unreachable!() };
            close(&format!("{what} dq"), &dq, &dq64, tolerance);
            close(&format!("{what} dkv"), &dkv, &dkv64, tolerance);
        }
    }
}

/// Quantised by candle; widened whole when made, handed out in whole blocks only, each value of which is counted.
struct Blocks {
    values: Vec<f32>,
    dims: (usize, usize),
    block: usize,
}

impl Blocks {
    fn new(w: &Tensor, format: GgmlDType) -> Self {
        let quantised = QTensor::quantize(w.candle().unwrap(), format).unwrap();
        let dense = Tensor::from(quantised.dequantize(&candle_core::Device::Cpu).unwrap());
        let values = dense.flatten_all().unwrap().to_vec1().unwrap();
        Self { values, dims: w.dims2().unwrap(), block: format.block_size() }
    }
    fn dense(&self) -> Tensor {
        Tensor::from_vec(self.values.clone(), self.dims, &Device::Cpu).unwrap()
    }
}

impl Widen for Blocks {
    fn dims(&self) -> (usize, usize) {
        self.dims
    }
    fn granule(&self) -> usize {
        self.block
    }
    fn widen(&self, row: usize, column: usize, out: &mut [f32]) {
        assert!(column.is_multiple_of(self.block) && out.len().is_multiple_of(self.block), "parts of a block");
        assert!(row < self.dims.0 && column + out.len() <= self.dims.1, "beyond the matrix");
        let at = row * self.dims.1 + column;
        out.copy_from_slice(&self.values[at..at + out.len()]);
    }
}

#[test]
fn quantised_weights_are_multiplied_as_if_they_were_widened_before() {
    let small = [(0, 32, 3), (1, 32, 1), (5, 64, 33), (150, 416, 227), (14, 1056, 192), (33, 2048, 20)];
    let large = [(1, 256, 1), (5, 512, 33), (70, 768, 65), (31, 2304, 300), (9, 8448, 35)];
    let formats = [
        (GgmlDType::Q8_0, &small[..]),
        (GgmlDType::Q4_0, &small[..]),
        (GgmlDType::Q4_1, &small[..]),
        (GgmlDType::Q4K, &large[..]),
        (GgmlDType::Q6K, &large[..]),
    ];
    for (format, shapes) in formats {
        for (i, &(n, k, m)) in shapes.iter().enumerate() {
            let i = 400 + i as u64;
            let what = format!("{n} x {k} x {m} in {format:?}");
            let w = Blocks::new(&random((m, k), i), format);
            let (x, b, dy, w64) = (random((n, k), 20 + i), random(m, 40 + i), random((n, m), 60 + i), wide(&w.dense()));
            for dtype in [DType::F32, DType::BF16] {
                let (x, dy) = (x.to_dtype(dtype).unwrap(), dy.to_dtype(dtype).unwrap());
                if !device::takes_fast(&x) {
                    assert!(gemm::widened_linear(&x, &w, None).is_err());
                    continue;
                }
                // With activations in bf16 the weights are rounded to it as well.
                let (w64, tolerance) =
                    if dtype == DType::F32 { (w64.clone(), 1e-5) } else { (wide(&narrow(&w.dense())), ROUNDED) };
                let y = wide(&x).matmul(&w64.t().unwrap()).unwrap().broadcast_add(&wide(&b)).unwrap();
                close(&what, &gemm::widened_linear(&x, &w, Some(&b)).unwrap(), &y, tolerance);
                let dx = wide(&dy).matmul(&w64).unwrap();
                close(&format!("{what} dx"), &gemm::widened_backward(&dy, &w).unwrap(), &dx, tolerance);
                let sum = (wide(&x) + &dx).unwrap();
                let added = gemm::widened_backward_add(&dy, &w, x.copy().unwrap()).unwrap();
                close(&format!("{what} added"), &added, &sum, tolerance);
            }
        }
    }
    let w = Blocks::new(&random((3, 32), 1), GgmlDType::Q8_0);
    assert!(gemm::widened_linear(&random((2, 31), 2), &w, None).is_err());
    assert!(gemm::widened_backward(&random((2, 4), 2), &w).is_err());
}
