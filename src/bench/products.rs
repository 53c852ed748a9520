//! f32 products of a model's shapes on the CPU: the `gemm` crate beside the tiles of [`crate::nn::kernels::gemm`].

use crate::bench::figures::{ProductRate, Spread};
use crate::bench::shapes::Shape;
use crate::error::Result;
use crate::nn::kernels::gemm;
use crate::tensor::{DType, Device, Tensor};
use std::time::Instant;

/// Rows of the left operand: tokens.
const ROWS: usize = 1024;
/// Rounds in which both are timed.
const ROUNDS: usize = 7;

/// The products of a layer: queries, keys and values; into the feed-forward block; out of it.
pub fn product_rates(shape: &Shape) -> Result<Vec<ProductRate>> {
    let kv = shape.hidden / shape.heads * shape.kv_heads;
    let products = [(shape.hidden, shape.hidden + 2 * kv), (shape.hidden, shape.inner), (shape.inner, shape.hidden)];
    products.into_iter().map(|(inner, columns)| product_rate(inner, columns)).collect()
}

fn product_rate(inner: usize, columns: usize) -> Result<ProductRate> {
    let ones = |rows: usize| Tensor::ones((rows, inner), DType::F32, &Device::Cpu);
    let (x, w) = (ones(ROWS)?, ones(columns)?);
    let work = 2e-9 * (ROWS * inner * columns) as f64;
    let rate = |product: &dyn Fn() -> Result<Tensor>| -> Result<f64> {
        let start = Instant::now();
        product()?;
        Ok(work / start.elapsed().as_secs_f64().max(1e-9))
    };
    let (mut theirs, mut ours) = (Vec::new(), Vec::new());
    // The first round warms up.
    for round in 0..=ROUNDS {
        let (crate_rate, tiles) = (rate(&|| x.matmul(&w.t()?))?, rate(&|| gemm::linear(&x, &w, None))?);
        if round > 0 {
            theirs.push(crate_rate);
            ours.push(tiles);
        }
    }
    Ok(ProductRate { rows: ROWS, inner, columns, gemm_crate: Spread::of(theirs).median, ours: Spread::of(ours).median })
}
