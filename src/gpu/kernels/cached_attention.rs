//! Attention of new tokens to a cache of keys and values: rows of one pool, of which a sequence is a list.

use super::THREADS;
use super::heads_memory::{Sources, by_four, sources};
use crate::gpu::{Launch, Operand};

const CACHED: Sources = sources!("cached_attention");

/// Query heads of a workgroup at most.
const TOGETHER: usize = 8;
/// Rows of the pool that a workgroup takes at a time.
const ROWS: usize = 128;
/// Rows below which a further division of a token's work does not pay.
const LEAST: usize = 2 * ROWS;
/// Workgroups that keep a large device busy.
const ENOUGH: usize = 512;

/// What an attention to cached rows works on. All floats but scratch are of one format.
#[derive(Clone, Copy, Debug)]
pub struct CachedAttention {
    /// Queries, keys and values of the new tokens side by side. `[tokens, (heads + 2 kv_heads) * head_dim]`
    pub qkv: Operand,
    /// Keys of all heads, then values. `[rows, 2 kv_heads * head_dim]`
    pub pool: Operand,
    /// For each new token the place of its sequence in the list, how many rows of it the token sees (at least one), and the
    /// token's own row; then the list, rows of the pool. u32
    pub words: Operand,
    /// New tokens.
    pub tokens: usize,
    /// Most rows that a token sees.
    pub longest: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads, a divisor of `heads`.
    pub kv_heads: usize,
    /// Width of a head, at most 256.
    pub head_dim: usize,
}

impl CachedAttention {
    /// Query heads that a workgroup takes, and workgroups of each token and part.
    fn blocks(&self) -> [usize; 2] {
        let sharing = (self.heads / self.kv_heads.max(1)).max(1);
        let together = sharing.min(TOGETHER);
        [together, self.kv_heads * sharing.div_ceil(together)]
    }

    /// Parts that the rows of a token are divided into, and rows of a part.
    fn splits(&self) -> [usize; 2] {
        let [_, per_token] = self.blocks();
        let wanted = ENOUGH.div_ceil((self.tokens * per_token).max(1)).min(self.longest.div_ceil(LEAST)).max(1);
        let rows = self.longest.div_ceil(wanted).next_multiple_of(ROWS).max(ROWS);
        [self.longest.div_ceil(rows).max(1), rows]
    }

    /// How many f32 values of scratch [`CachedAttention::attend`] needs, 0 for none.
    pub fn scratch(&self) -> usize {
        let [splits, _] = self.splits();
        if splits == 1 { 0 } else { self.tokens * self.heads * splits * self.part() }
    }

    /// Values of one token's, head's and part's result.
    fn part(&self) -> usize {
        self.head_dim.next_multiple_of(4) + 2
    }

    fn launch(
        &self,
        entry: &'static str,
        out: Option<Operand>,
        parts: Option<Operand>,
        [splits, rows]: [usize; 2],
    ) -> Launch {
        let Self { qkv, pool, words, tokens, heads, kv_heads, head_dim, .. } = *self;
        let [together, _] = self.blocks();
        Launch::new(by_four(CACHED, &[head_dim], &[Some(qkv), Some(pool), out]), entry)
            .constant("X", qkv.format)
            .constant("HEAD", head_dim as u32)
            .constant("TOGETHER", together as u32)
            .constant("ALONG", head_dim.div_ceil(4).next_power_of_two().min(ROWS) as u32)
            .operand(qkv)
            .operand(pool)
            .operand(out)
            .operand(None)
            .operand(None)
            .operand(parts)
            .operand(words)
            .ints([tokens, heads, kv_heads, splits, rows])
            .floats([1.0 / (head_dim.max(1) as f32).sqrt()])
    }

    /// Puts the new tokens' keys and values into their rows.
    pub fn store(&self) -> Launch {
        let fours = (2 * self.kv_heads * self.head_dim).div_ceil(4);
        self.launch("store_rows", None, None, [1, 0]).blocks((self.tokens * fours).div_ceil(THREADS))
    }

    /// `softmax(q kᵀ / sqrt(d)) v` of each token and query head, after [`CachedAttention::store`]: a second launch where the
    /// rows of a token are divided among workgroups, which needs scratch. out `[tokens, heads * head_dim]`, scratch f32
    /// `[CachedAttention::scratch]`
    pub fn attend(&self, out: Operand, scratch: Option<Operand>) -> Vec<Launch> {
        let splits = if scratch.is_some() { self.splits() } else { [1, self.longest] };
        let [_, per_token] = self.blocks();
        let values = self.tokens * self.heads * self.head_dim;
        let attend = self
            .launch("attend", Some(out), scratch, splits)
            .blocks(self.tokens * per_token * splits[0])
            .work((4 * values * self.longest) as f64);
        if splits[0] == 1 {
            return vec![attend];
        }
        let fours = self.tokens * self.heads * self.head_dim.div_ceil(4);
        let combine = self.launch("combine", Some(out), scratch, splits).blocks(fours.div_ceil(THREADS));
        vec![attend, combine.work((2 * values * splits[0]) as f64)]
    }
}
