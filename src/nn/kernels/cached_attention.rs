//! Attention of new tokens to a cache of keys and values.
//!
//! Keys and values of all sequences are rows of one pool; a sequence is a list of rows. Two sequences with a common
//! beginning share rows, and a fork copies nothing.

use super::attention::softmax_row;
use super::simd;
pub use super::types::HeadCounts;
use crate::error::{Error, Result};
use rayon::prelude::*;

/// Multiplications a parallel task should at least have.
const TASK: usize = 1 << 15;

/// Keys and values of one layer. Row-major `[rows, width]` each, width = kv_heads * head_dim
#[derive(Clone, Copy)]
pub struct Pool<'a> {
    /// Keys, with their rotary positions.
    pub keys: &'a [f32],
    /// Values.
    pub values: &'a [f32],
}

/// A new token: the rows of its sequence, and how many of them it sees (itself last).
#[derive(Clone, Copy)]
pub struct Query<'a> {
    /// Rows of the sequence in the pool, in order of position.
    pub rows: &'a [u32],
    /// How many of them this token sees.
    pub seen: usize,
}

/// `softmax(q kᵀ / sqrt(d)) v` for each new token and head. qkv: joint rows `[n, (heads + 2 kv_heads) * head_dim]`, of which
/// the queries are read -> `[n, heads * head_dim]`
pub fn attend(qkv: &[f32], queries: &[Query<'_>], pool: Pool<'_>, counts: HeadCounts) -> Result<Vec<f32>> {
    let HeadCounts { heads, kv_heads, head_dim: hd } = counts;
    let (width, kv) = (heads * hd, kv_heads * hd);
    let columns = width + 2 * kv;
    let rows = pool.keys.len() / kv.max(1);
    let fits = |query: &Query<'_>| {
        (1..=query.rows.len()).contains(&query.seen) && query.rows.iter().all(|&row| (row as usize) < rows)
    };
    if kv == 0 || !heads.is_multiple_of(kv_heads) || qkv.len() != queries.len() * columns || !queries.iter().all(fits) {
        return Err(Error::internal(format!("{counts:?} for {} new tokens of a pool of {rows} rows", queries.len())));
    }
    let (group, scale) = (heads / kv_heads, 1.0 / (hd as f32).sqrt());
    let mut out = vec![0.0f32; queries.len() * width];
    let one = |scores: &mut Vec<f32>, index: usize, out: &mut [f32]| {
        let (token, head) = (index / heads, index % heads);
        let (query, at) = (&queries[token], head / group * hd);
        let q = &qkv[token * columns + head * hd..][..hd];
        let seen = &query.rows[..query.seen];
        scores.clear();
        simd::vectors!(|| {
            scores.extend(seen.iter().map(|&row| simd::dot(q, &pool.keys[row as usize * kv + at..][..hd]) * scale));
            softmax_row(scores);
            for (&p, &row) in scores.iter().zip(seen) {
                let value = &pool.values[row as usize * kv + at..][..hd];
                out.iter_mut().zip(value).for_each(|(o, v)| *o += p * v);
            }
        });
    };
    let longest = queries.iter().map(|query| query.seen).max().unwrap_or(1);
    let together = (TASK / (longest * hd)).max(1);
    if queries.len() * heads <= together || rayon::current_num_threads() == 1 {
        let mut scores = Vec::new();
        out.chunks_exact_mut(hd).enumerate().for_each(|(i, out)| one(&mut scores, i, out));
    } else {
        let tasks = out.par_chunks_exact_mut(hd).enumerate().with_min_len(together);
        tasks.for_each_init(Vec::new, |scores, (i, out)| one(scores, i, out));
    }
    Ok(out)
}
