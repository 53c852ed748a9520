//! Attention over packed sequences: `softmax(q kᵀ / sqrt(d)) v` for each sequence and head, bidirectional or causal, with one
//! key and value head for each query head or group of them. Scores exist for one tile of queries and keys at a time; the
//! backward pass computes them again.

use super::Mask;
use super::heads_memory::{Sources, by_four, sources};
use crate::error::{Error, Result};
use crate::gpu::{Launch, Operand, Source};

/// Columns of a row-major matrix.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Part {
    /// The whole matrix.
    pub operand: Operand,
    /// The first of the columns.
    pub column: usize,
    /// All columns of the matrix.
    pub row: usize,
}

/// Keys and values in one row-major matrix.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pair {
    /// The whole matrix.
    pub operand: Operand,
    /// The first column of the keys and of the values.
    pub columns: [usize; 2],
    /// All columns of the matrix.
    pub row: usize,
}

/// Rows of one sequence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// The first row of its queries.
    pub first_query: usize,
    /// Its queries.
    pub queries: usize,
    /// The first row of its keys and values.
    pub first_key: usize,
    /// Its keys, for causal attention at least as many as queries: the last query sits at the last key.
    pub keys: usize,
}

impl Span {
    /// Keys that a query sees.
    fn seen_by(&self, query: usize, causal: bool) -> usize {
        if causal { (self.keys + query + 1).saturating_sub(self.queries).min(self.keys) } else { self.keys }
    }
    /// The first query that sees a key.
    fn first_for(&self, key: usize, causal: bool) -> usize {
        if causal { (key + self.queries).saturating_sub(self.keys) } else { 0 }
    }
}

/// Sequences divided into tiles of queries and of keys, which workgroups take: those with most to do first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tiling {
    sequences: usize,
    query_tiles: usize,
    key_tiles: usize,
    /// Rows of all queries.
    queries: usize,
    /// Pairs of a query and a key it sees: of all, of the largest tile of queries and of the largest tile of keys.
    pairs: [f64; 3],
    head_dim: usize,
    causal: bool,
}

/// Of the tiles' threads, those along the columns: 8 or 16, for 64 rows and 32 columns or 32 rows and 64 columns.
fn threads_along_columns(head_dim: usize, most_for_long: usize) -> usize {
    if head_dim <= most_for_long { 8 } else { 16 }
}
/// For tiles of queries.
fn of_queries(head_dim: usize) -> usize {
    threads_along_columns(head_dim, 128)
}
/// For tiles of keys, whose threads hold twice as many sums.
fn of_keys(head_dim: usize) -> usize {
    threads_along_columns(head_dim, 64)
}
/// Rows of a tile.
fn rows(along_columns: usize) -> usize {
    512 / along_columns
}

impl Tiling {
    /// Divides sequences; the second result is what the device gets as [`Attention::tiles`].
    ///
    /// # Errors
    /// Of kind [`Internal`](crate::error::ErrorKind::Internal): heads wider than [`Attention::MOST_HEAD_DIM`] or of no width,
    /// or causal attention with more queries than keys.
    pub fn new(spans: &[Span], head_dim: usize, causal: bool) -> Result<(Self, Vec<u32>)> {
        if !(1..=Attention::MOST_HEAD_DIM).contains(&head_dim) {
            return Err(Error::internal(format!("attention with heads of width {head_dim}")));
        }
        if let Some(span) = spans.iter().find(|span| causal && span.queries > span.keys) {
            let Span { queries, keys, .. } = span;
            return Err(Error::internal(format!("causal attention of {queries} queries to {keys} keys")));
        }
        let tiles = |count: fn(&Span) -> usize, rows: usize, work: &dyn Fn(&Span, usize) -> usize| {
            let mut tiles: Vec<(usize, [u32; 2])> = Vec::new();
            for (sequence, span) in spans.iter().enumerate() {
                let starts = (0..count(span)).step_by(rows);
                tiles.extend(starts.map(|start| (work(span, start), [sequence as u32, start as u32])));
            }
            tiles.sort_by_key(|(work, _)| std::cmp::Reverse(*work));
            tiles
        };
        let [q_rows, k_rows] = [rows(of_queries(head_dim)), rows(of_keys(head_dim))];
        let of_queries = tiles(|span| span.queries, q_rows, &|span, start| {
            span.seen_by((start + q_rows).min(span.queries).saturating_sub(1), causal)
        });
        let of_keys = tiles(|span| span.keys, k_rows, &|span, start| span.queries - span.first_for(start, causal));
        let pairs = |span: &Span| {
            let hidden = if causal { span.queries * span.queries.saturating_sub(1) / 2 } else { 0 };
            (span.queries * span.keys - hidden) as f64
        };
        let largest =
            |tiles: &[(usize, [u32; 2])], rows: usize| tiles.first().map_or(0.0, |(most, _)| (most * rows) as f64);
        let tiling = Self {
            sequences: spans.len(),
            query_tiles: of_queries.len(),
            key_tiles: of_keys.len(),
            queries: spans.iter().map(|span| span.first_query + span.queries).max().unwrap_or(0),
            pairs: [spans.iter().map(pairs).sum(), largest(&of_queries, q_rows), largest(&of_keys, k_rows)],
            head_dim,
            causal,
        };
        let mut words: Vec<u32> = Vec::new();
        for span in spans {
            words.extend([span.first_query, span.queries, span.first_key, span.keys].map(|n| n as u32));
        }
        words.extend(of_queries.iter().chain(&of_keys).flat_map(|(_, tile)| tile));
        Ok((tiling, words))
    }

    /// Rows of all queries: one further than the last.
    pub fn queries(&self) -> usize {
        self.queries
    }
}

/// What an attention works on. Rows of no sequence are neither read nor written.
#[derive(Clone, Copy, Debug)]
pub struct Attention {
    /// Queries. `[queries, heads * head_dim]`
    pub q: Part,
    /// Keys and values of the queries' format. `[keys, kv_heads * head_dim]` each
    pub kv: Pair,
    /// How the sequences are divided.
    pub tiling: Tiling,
    /// The words of the tiling, u32.
    pub tiles: Operand,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads, a divisor of `heads`: query head h reads key head `h / (heads / kv_heads)`.
    pub kv_heads: usize,
    /// Dropout of the probabilities: for sequence s and head h by the mask of part `s heads + h`, where query i and key j of
    /// the sequence are element `i keys + j`.
    pub mask: Mask,
}

/// The operands of a launch that differ between the passes, `None` where not touched.
#[derive(Clone, Copy, Default)]
struct Others {
    out: Option<Operand>,
    dout: Option<Operand>,
    grad: Option<Operand>,
    lse: Option<Operand>,
    delta: Option<Operand>,
    columns: [usize; 2],
    row: usize,
}

/// The tiles of a launch.
#[derive(Clone, Copy)]
struct Tiles {
    count: usize,
    /// The number of the first one.
    first: usize,
    /// Heads that each is computed for.
    heads: usize,
    along_columns: usize,
    /// Floating-point operations for each pair of a query and a key and each column of the queries.
    flops: f64,
    /// Pairs of the largest one.
    largest: f64,
}

impl Attention {
    /// The widest head.
    pub const MOST_HEAD_DIM: usize = 256;

    /// `out = softmax(q kᵀ / sqrt(d)) v`; the log-sum-exp of each row of scores is kept where `lse` is given. out
    /// `[queries, heads * head_dim]`, lse f32 `[heads, queries]`. One launch, or several where one would be of more than `most`
    /// floating-point operations.
    pub fn forward(&self, out: Operand, lse: Option<Operand>, most: f64) -> Vec<Launch> {
        let others = Others { out: Some(out), lse, ..Others::default() };
        let tiles = Tiles {
            count: self.tiling.query_tiles,
            first: 0,
            heads: self.heads,
            along_columns: of_queries(self.tiling.head_dim),
            flops: 4.0,
            largest: self.tiling.pairs[1],
        };
        self.launches(self.source(FORWARD, &others), "forward", tiles, others, most)
    }

    /// The gradients of queries, keys and values, in launches as of [`Attention::forward`], of which the first ones also write
    /// delta, the sum of each row's probabilities times their gradients. out, dout `[queries, heads * head_dim]`, lse (from the
    /// forward pass) and delta (scratch) f32 `[heads, queries]`
    pub fn backward(
        &self,
        [out, dout]: [Operand; 2],
        [lse, delta]: [Operand; 2],
        dq: Part,
        dkv: Pair,
        most: f64,
    ) -> Vec<Launch> {
        let (tiling, hd) = (self.tiling, self.tiling.head_dim);
        let both = Others { dout: Some(dout), lse: Some(lse), delta: Some(delta), ..Others::default() };
        let of_q = Others { out: Some(out), grad: Some(dq.operand), columns: [dq.column, 0], row: dq.row, ..both };
        let of_kv = Others { grad: Some(dkv.operand), columns: dkv.columns, row: dkv.row, ..both };
        let source = |others| self.source(BACKWARD, others);
        let queries = Tiles {
            count: tiling.query_tiles,
            first: 0,
            heads: self.heads,
            along_columns: of_queries(hd),
            flops: 6.0,
            largest: tiling.pairs[1],
        };
        let keys = Tiles {
            count: tiling.key_tiles,
            first: tiling.query_tiles,
            heads: self.kv_heads,
            along_columns: of_keys(hd),
            flops: 8.0,
            largest: tiling.pairs[2],
        };
        let mut launches = self.launches(source(&of_q), "queries", queries, of_q, most);
        launches.extend(self.launches(source(&of_kv), "keys", keys, of_kv, most));
        launches
    }

    /// Launches of as many tiles, those with most to do first, as are of at most `most` floating-point operations.
    fn launches(&self, source: Source, entry: &'static str, tiles: Tiles, others: Others, most: f64) -> Vec<Launch> {
        let of_pair = tiles.flops * (self.heads * self.tiling.head_dim) as f64;
        let at_once = ((most / (of_pair * tiles.largest).max(1.0)) as usize).max(1);
        let starts = (0..tiles.count).step_by(at_once);
        starts
            .map(|start| {
                let count = at_once.min(tiles.count - start);
                let part = Tiles { count, first: tiles.first + start, ..tiles };
                let flops = of_pair * self.tiling.pairs[0] * count as f64 / tiles.count as f64;
                self.launch(source, entry, part, others).work(flops)
            })
            .collect()
    }

    /// The kernel for these operands.
    fn source(&self, sources: Sources, others: &Others) -> Source {
        let ([k, v], [dk, dv]) = (self.kv.columns, others.columns);
        let columns = [self.tiling.head_dim, self.q.column, self.q.row, k, v, self.kv.row, dk, dv, others.row];
        let operands = [Some(self.q.operand), Some(self.kv.operand), others.out, others.dout, others.grad];
        by_four(sources, &columns, &operands)
    }

    fn launch(&self, source: Source, entry: &'static str, tiles: Tiles, others: Others) -> Launch {
        let Tiles { count, first, along_columns, .. } = tiles;
        let count = count * tiles.heads;
        let Self { q, kv, tiling, heads, kv_heads, .. } = *self;
        let hd = tiling.head_dim;
        // Rows of a weighted sum that memory holds: 288 times four values, all columns of the threads.
        let wide = hd.div_ceil(4).next_multiple_of(along_columns);
        let chunk = 1u32 << (288 / wide.max(1)).clamp(1, 4 * along_columns).ilog2();
        let Mask { key, threshold, scale } = self.mask;
        let mut launch = Launch::new(source, entry)
            .constant("X", q.operand.format)
            .constant("HEAD", hd as u32)
            .constant("CG", along_columns as u32)
            .constant("CHUNK", chunk)
            .operand(q.operand)
            .operand(kv.operand)
            .operand(others.out)
            .operand(others.dout)
            .operand(others.grad)
            .operand(others.lse)
            .operand(others.delta)
            .operand(self.tiles)
            .blocks(count)
            .ints([count, 4 * tiling.sequences + 2 * first])
            .ints([heads, heads / kv_heads.max(1), tiling.queries, usize::from(tiling.causal)])
            .ints([q.column, q.row, kv.columns[0], kv.columns[1], kv.row])
            .ints([others.columns[0], others.columns[1], others.row, usize::from(others.lse.is_some())]);
        launch.words.extend([key, threshold]);
        launch.floats([scale, 1.0 / (hd as f32).sqrt()])
    }
}

const FORWARD: Sources = sources!("attention", "attention_tile");
const BACKWARD: Sources = sources!("attention_backward", "attention_tile");
