//! Sums of columns and of everything, in an order that depends on the shapes alone.

use super::THREADS;
use super::rows::{format_of, lanes, lanes_of, version};
use crate::gpu::{Format, Launch, Operand, Source};

const SOURCES: [Source; 2] = lanes!("reduce", ["X", "H"]);

/// Workgroups that one launch aims at: enough for a large GPU.
const GROUPS: usize = 1024;
/// Lanes of a row that a workgroup has at most.
const COLUMNS: usize = 32;
/// Rows that a thread adds at least before there are more chunks.
const ROWS: usize = 4;

/// The tensors of sums over rows.
#[derive(Clone, Copy, Debug)]
pub struct Columns {
    /// What is summed. `[n, d]`
    pub x: Operand,
    /// What it is multiplied with in `products`. `[n, d]`
    pub factor: Option<Operand>,
    /// What each row's products are also multiplied with, f32. `[n]`
    pub row_factor: Option<Operand>,
    /// Output: sums of the products, f32. `[d]`
    pub products: Option<Operand>,
    /// Output: sums of x, f32. `[d]`
    pub sums: Option<Operand>,
    /// Work space, f32: [`column_scratch`] values for each output; may be empty where that is 0.
    pub scratch: Operand,
    /// Rows.
    pub n: usize,
    /// Columns.
    pub d: usize,
}

/// Columns of a workgroup, in lanes, and chunks of rows.
fn cut(n: usize, width: usize) -> (usize, usize) {
    let columns = width.next_power_of_two().min(COLUMNS);
    let tiles = width.div_ceil(columns).max(1);
    let most = n.div_ceil(ROWS * THREADS / columns);
    (columns, GROUPS.div_ceil(tiles).min(most).max(1))
}

/// Chunks of rows, whichever number of values is taken at a time.
fn chunks(n: usize, d: usize) -> usize {
    cut(n, if d.is_multiple_of(4) { d / 4 } else { d }).1
}

/// Work space of [`column_sums`] for each output, in f32 values; 0: none is needed.
pub fn column_scratch(n: usize, d: usize) -> usize {
    let chunks = chunks(n, d);
    if chunks > 1 { chunks * d } else { 0 }
}

/// `products = Σ x factor row_factor`, `sums = Σ x`, over the rows. Without rows: zeros.
pub fn column_sums(columns: Columns) -> Vec<Launch> {
    let Columns { products, sums, scratch, n, d, .. } = columns;
    let chunks = chunks(n, d);
    if chunks == 1 {
        return vec![stage(columns, 1)];
    }
    let part = |i: usize| scratch.part(i * chunks * d, chunks * d);
    let some_products = products.map(|_| part(0));
    let some_sums = sums.map(|_| part(usize::from(products.is_some())));
    let mut launches = vec![stage(Columns { products: some_products, sums: some_sums, ..columns }, chunks)];
    for (part, output) in [(some_products, products), (some_sums, sums)] {
        if let (Some(x), Some(_)) = (part, output) {
            let whole =
                Columns { x, factor: None, row_factor: None, products: None, sums: output, n: chunks, ..columns };
            launches.push(stage(whole, 1));
        }
    }
    launches
}

fn stage(columns: Columns, chunks: usize) -> Launch {
    let Columns { x, factor, row_factor, products, sums, n, d, .. } = columns;
    let lanes = lanes_of(d, &[Some(x), factor, products, sums]);
    let width = d / lanes;
    let (columns, _) = cut(n, width);
    Launch::new(version(SOURCES, lanes), "columns")
        .constant("X", x.format)
        .constant("H", format_of(factor))
        .constant("COLUMNS", columns as u32)
        .constant("HAS_ROW_FACTOR", row_factor.is_some())
        .constant("HAS_PRODUCTS", products.is_some())
        .constant("HAS_SUMS", sums.is_some())
        .operand(x)
        .operand(factor)
        .operand(row_factor)
        .operand(products)
        .operand(sums)
        .ints([n, width, n.div_ceil(chunks)])
        .floats([1.0])
        .over([width.div_ceil(columns), chunks, 1])
        .work(3.0 * n as f64 * d as f64)
}

/// Workgroups of the first stage of [`total`].
fn parts(n: usize) -> usize {
    n.div_ceil(4 * THREADS).clamp(1, GROUPS)
}

/// Work space of [`total`], in f32 values; 0: none is needed.
pub fn total_scratch(n: usize) -> usize {
    if parts(n) > 1 { parts(n) } else { 0 }
}

/// `out = factor Σ x`: a sum, or with a factor of 1/n a mean. x `[n]` of any format, out f32 `[1]`, scratch f32
/// ([`total_scratch`] values)
pub fn total(x: Operand, out: Operand, scratch: Operand, factor: f32) -> Vec<Launch> {
    let n = x.len as usize;
    let parts = parts(n);
    // A row of one column: its sum over chunks of rows.
    let stage = |x: Operand, sums: Operand, chunks: usize, factor: f32| {
        let n = x.len as usize;
        Launch::new(version(SOURCES, 1), "columns")
            .constant("X", x.format)
            .constant("H", Format::F32)
            .constant("COLUMNS", 1)
            .constant("HAS_ROW_FACTOR", false)
            .constant("HAS_PRODUCTS", false)
            .constant("HAS_SUMS", true)
            .operand(x)
            .operand(None)
            .operand(None)
            .operand(None)
            .operand(sums)
            .ints([n, 1, n.div_ceil(chunks)])
            .floats([factor])
            .over([1, chunks, 1])
            .work(n as f64)
    };
    if parts == 1 {
        return vec![stage(x, out, 1, factor)];
    }
    let some = scratch.part(0, parts);
    vec![stage(x, some, parts, 1.0), stage(some, out, 1, factor)]
}
