//! The launches of each kernel: grids, macros and arguments, from shapes and addresses.

use super::launch::{Args, Launch, Macros, Source, THREADS};
use crate::nn::kernels::types::{Act, Dropout};

/// Address of a tensor's first element in the memory of the device; 0: no tensor.
pub type Address = u64;

/// Shared memory a block may take without asking, in bytes.
const SHARED: u32 = 48 * 1024;

/// Whether four values can be read at once: of 4 bytes they need addresses divisible by 16.
pub(super) fn at_once<const N: usize>(addresses: [Address; N]) -> bool {
    addresses.iter().all(|address| address.is_multiple_of(16))
}

pub(super) fn blocks(n: usize, per_block: usize) -> u32 {
    n.div_ceil(per_block) as u32
}

/// Threads of a block that has one row.
pub(super) const ROW_THREADS: u32 = 128;

/// One block for each of `n` rows.
pub(super) fn rows(source: Source, format: u32, kernel: &'static str, n: usize, threads: u32, args: Args) -> Launch {
    Launch { macros: vec![("X", format)], grid: [n as u32, 1, 1], threads, ..Launch::new(source, kernel, args) }
}

/// The kernels' number of a nonlinearity; the last one is none at all.
pub(super) fn act_number(act: Option<Act>) -> u32 {
    act.map_or(Act::Tanh as u32 + 1, |act| act as u32)
}

/// One elementwise kernel over `n` values of one format.
#[derive(Clone, Copy, Debug)]
pub struct Elementwise {
    /// Format of the tensors.
    pub format: u32,
    /// Input.
    pub x: Address,
    /// Output (`bias_act`: 0 to add the bias only).
    pub y: Address,
    /// Number of values.
    pub n: usize,
}

impl Elementwise {
    fn launch(self, kernel: &'static str, bias: Address, width: usize, act: Option<Act>, drop: Dropout) -> Launch {
        let vector = u32::from(at_once([self.x, self.y]));
        let (key, threshold, scale) = drop.parts();
        let args = Args::default()
            .longs([self.x, self.y, bias, self.n as u64])
            .ints([width as u32, act_number(act), vector, key, threshold])
            .floats([scale]);
        let grid = [blocks(self.n, 4 * THREADS as usize), 1, 1];
        Launch { macros: vec![("X", self.format)], grid, ..Launch::new(Source::Elementwise, kernel, args) }
    }

    /// `y = act(x)`
    pub fn act_forward(self, act: Act) -> Launch {
        self.launch("act_forward", 0, 1, Some(act), Dropout::none())
    }
    /// `x += bias`, and `y = act(x)` where there is a y. bias: f32 `[width]`
    pub fn bias_act(self, bias: Address, width: usize, act: Option<Act>) -> Launch {
        self.launch("bias_act", bias, width.max(1), act, Dropout::none())
    }
    /// `y *= act'(x)`
    pub fn act_backward(self, act: Act) -> Launch {
        self.launch("act_backward", 0, 1, Some(act), Dropout::none())
    }
    /// `y = dropout(x)`
    pub fn dropout(self, drop: Dropout) -> Launch {
        self.launch("dropout", 0, 1, None, drop)
    }
    /// `y = dropout(x) + residual`; residual 0: none. y may be x.
    pub fn add(self, residual: Address, drop: Dropout) -> Launch {
        self.launch("add", residual, 1, None, drop)
    }
}

/// Tensors of a normalisation of `n` rows of `d`: layer normalisation, or that by the root of the mean square (RMS).
#[derive(Clone, Copy, Debug, Default)]
pub struct Norm {
    /// Format of all but gamma, beta and rstd.
    pub format: u32,
    /// Input.
    pub x: Address,
    /// Residual, or 0.
    pub residual: Address,
    /// γ.
    pub gamma: Address,
    /// β, of a layer normalisation.
    pub beta: Address,
    /// Output, or its gradient.
    pub y: Address,
    /// What the backward pass reads: the normalised values, or (RMS) the sum `dropout(x) + residual`; 0 where that is x itself.
    pub kept: Address,
    /// 1/σ or 1/rms of each row; 0 in [`Norm::output`]: 1.
    pub rstd: Address,
    /// Gradient of the sum.
    pub dsum: Address,
    /// Gradient of x, of a layer normalisation.
    pub dx: Address,
    /// Rows.
    pub n: usize,
    /// Columns.
    pub d: usize,
    /// ε.
    pub eps: f32,
}

impl Norm {
    /// Values of a row that fit into shared memory, where layer normalisation holds it.
    pub const MOST: usize = SHARED as usize / 4;

    /// Whether a row fits into shared memory.
    pub fn fits(d: usize) -> bool {
        d <= Self::MOST
    }

    fn layer(self, kernel: &'static str, addresses: [Address; 7], drop: Dropout) -> Launch {
        let warps = (SHARED as usize / (4 * self.d.max(1))).clamp(1, 4) as u32;
        let (key, threshold, scale) = drop.parts();
        let args = Args::default()
            .longs(addresses)
            .ints([self.n as u32, self.d as u32, key, threshold])
            .floats([scale, self.eps]);
        Launch {
            macros: vec![("X", self.format)],
            grid: [blocks(self.n, warps as usize), 1, 1],
            threads: 32 * warps,
            shared: warps * 4 * self.d as u32,
            ..Launch::new(Source::LayerNorm, kernel, args)
        }
    }

    /// `y = LayerNorm(dropout(x) + residual)`
    pub fn layer_forward(self, drop: Dropout) -> Launch {
        let addresses = [self.x, self.residual, self.gamma, self.beta, self.y, self.kept, self.rstd];
        self.layer("layer_norm_forward", addresses, drop)
    }
    /// The gradients of the normalised sum and of what came before the dropout, from that of the output at `y`.
    pub fn layer_backward(self, drop: Dropout) -> Launch {
        let addresses = [self.y, self.dx, self.gamma, self.beta, self.dsum, self.kept, self.rstd];
        self.layer("layer_norm_backward", addresses, drop)
    }

    fn rms(self, kernel: &'static str, drop: Dropout, add: bool) -> Launch {
        let (key, threshold, scale) = drop.parts();
        let args = Args::default()
            .longs([self.x, self.residual, self.gamma, self.beta, self.y, self.kept, self.rstd, self.dsum])
            .ints([self.d as u32, key, threshold, u32::from(add)])
            .floats([scale, self.eps]);
        rows(Source::Norms, self.format, kernel, self.n, ROW_THREADS, args)
    }

    /// `y = RMSNorm(dropout(x) + residual)`
    pub fn rms_forward(self, drop: Dropout) -> Launch {
        self.rms("rms_forward", drop, false)
    }
    /// The gradient of the sum, from that of the output at `y`; added to what `dsum` holds, if asked.
    pub fn rms_backward(self, add: bool) -> Launch {
        self.rms("rms_backward", Dropout::none(), add)
    }
    /// `y = x rstd γ + β`: a normalisation's output once more.
    pub fn output(self) -> Launch {
        self.rms("norm_output", Dropout::none(), false)
    }
}

/// Rows of one expert: consecutive from `start`, or entries of the list from there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Segment {
    /// Expert index in the bank.
    pub expert: usize,
    /// First row, or first entry of the list.
    pub start: usize,
    /// Number of rows.
    pub len: usize,
    /// Whether the rows are listed.
    pub listed: bool,
}

/// Segments in one launch.
pub const SEGMENTS: usize = 16;
/// Rows whose products with a gradient go into one partial sum.
const CHUNK: usize = 256;

/// Where x and the output are columns of wider matrices, and the weight rows of a taller one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window {
    /// Values from one row of x to the next.
    pub x_row: usize,
    /// Values from one row of base and out (or of dy) to the next.
    pub out_row: usize,
    /// Values from one expert's weight to the next one's.
    pub expert: usize,
    /// What the product is multiplied with.
    pub scale: f32,
}

/// Tensors of a routed product.
#[derive(Clone, Copy, Debug, Default)]
pub struct Routed {
    /// Formats of x and of base and out (or of dy).
    pub formats: [u32; 2],
    /// Input. `[n, width]`
    pub x: Address,
    /// All experts' weights, f32. `[experts, rows, columns]`
    pub weight: Address,
    /// All experts' biases, f32, or 0. `[experts, out_width]`
    pub bias: Address,
    /// What is added to, or 0; for a weight's gradient: dy. `[n, out_width]`
    pub base: Address,
    /// Output. `[n, out_width]`, or partial sums `[chunks, out_width, width]`
    pub out: Address,
    /// Listed rows, or 0.
    pub list: Address,
    /// Partial sums of a bias's gradient, or 0. `[chunks, out_width]`
    pub out_bias: Address,
    /// Columns of x.
    pub width: usize,
    /// Columns of the output.
    pub out_width: usize,
    /// Whether the weights are `[out_width, width]` (forward) or `[width, out_width]` (backward).
    pub transposed: bool,
    /// Absent: everything is packed, and the factor is 1.
    pub window: Option<Window>,
}

impl Routed {
    /// Narrow outputs get narrow tiles. (ROWS, COLS, TM, TN)
    fn tile(rows: usize, cols: usize) -> [u32; 4] {
        match (rows <= 16, cols <= 16) {
            (_, true) => [32, 16, 2, 2],
            (true, false) => [16, 64, 2, 4],
            (false, false) => [64, 64, 8, 4],
        }
    }

    fn macros(&self, [rows, cols, tm, tn]: [u32; 4]) -> Macros {
        vec![("X", self.formats[0]), ("Y", self.formats[1]), ("ROWS", rows), ("COLS", cols), ("TM", tm), ("TN", tn)]
    }

    fn args(&self, segments: &[Segment], rows_per_tile: usize) -> (Args, u32) {
        let stride = if self.transposed { [1, self.out_width] } else { [self.width, 1] };
        let (x_row, out_row) = (self.width, self.out_width);
        let packed = Window { x_row, out_row, expert: x_row * out_row, scale: 1.0 };
        let window = self.window.unwrap_or(packed);
        let mut args = Args::default()
            .longs([self.x, self.weight, self.bias, self.base, self.out, self.list, self.out_bias])
            .ints([self.width as u32, self.out_width as u32, stride[0] as u32, stride[1] as u32])
            .ints([window.expert as u32, segments.len() as u32, CHUNK as u32])
            .ints([window.x_row as u32, window.out_row as u32])
            .floats([window.scale]);
        let mut tile = 0;
        for s in segments {
            args = args.ints([s.expert as u32, s.start as u32, s.len as u32, tile, u32::from(s.listed)]);
            tile += blocks(s.len, rows_per_tile);
        }
        (args, tile)
    }

    /// `out = base + x Wᵀ + b` with each row's own expert, for at most [`SEGMENTS`] segments.
    pub fn product(self, segments: &[Segment]) -> Launch {
        debug_assert!(segments.len() <= SEGMENTS);
        let tile = Self::tile(64, self.out_width);
        let (args, tiles) = self.args(segments, tile[0] as usize);
        let grid = [tiles, blocks(self.out_width, tile[1] as usize), 1];
        Launch { macros: self.macros(tile), grid, threads: 128, ..Launch::new(Source::Routed, "routed_product", args) }
    }

    /// Partial sums a weight's gradient needs for a segment of `len` rows.
    pub fn chunks(len: usize) -> usize {
        len.div_ceil(CHUNK).max(1)
    }

    /// `dyᵀ x` and the column sums of dy over one segment, as partial sums.
    pub fn weight_grad(self, segment: Segment) -> Launch {
        let tile = Self::tile(self.out_width, self.width);
        let (args, _) = self.args(&[segment], 1);
        let grid = [
            blocks(self.out_width, tile[0] as usize),
            blocks(self.width, tile[1] as usize),
            Self::chunks(segment.len) as u32,
        ];
        Launch { macros: self.macros(tile), grid, threads: 128, ..Launch::new(Source::Routed, "routed_weight", args) }
    }

    /// `out[j] = Σ parts[c][j]`; all f32. parts `[count, len]` -> `[len]`
    pub fn sum_parts(self, parts: Address, out: Address, count: usize, len: usize) -> Launch {
        let args = Args::default().longs([parts, out, len as u64]).ints([count as u32]);
        let macros = self.macros(Self::tile(self.out_width, self.width));
        let grid = [blocks(len, THREADS as usize), 1, 1];
        Launch { macros, grid, ..Launch::new(Source::Routed, "sum_parts", args) }
    }
}

/// A piece of a trained tensor with its moments and gradient.
#[derive(Clone, Copy, Debug, Default)]
pub struct Piece {
    /// Values, first and second moment, gradient (0: zeros). f32
    pub tensors: [Address; 4],
    /// Number of values.
    pub len: usize,
    /// `1 - lr * decay`.
    pub keep: f32,
    /// `lr / (1 - β₁^t)`.
    pub step: f32,
    /// `1 / sqrt(1 - β₂^t)`.
    pub inv_c2: f32,
}

/// Values one block takes.
const PIECE: usize = 16 * 1024;

impl Piece {
    /// The table the kernels read, cut into what one block takes: six 64-bit words for each.
    pub fn table(pieces: &[Self]) -> Vec<u64> {
        let mut words = Vec::new();
        for piece in pieces {
            for start in (0..piece.len).step_by(PIECE) {
                let len = PIECE.min(piece.len - start) as u32;
                words.extend(piece.tensors.map(|t| if t == 0 { 0 } else { t + 4 * start as u64 }));
                words.push(u64::from(len) | u64::from(piece.keep.to_bits()) << 32);
                words.push(u64::from(piece.step.to_bits()) | u64::from(piece.inv_c2.to_bits()) << 32);
            }
        }
        words
    }

    /// Entries of a table.
    pub fn entries(table: &[u64]) -> usize {
        table.len() / 6
    }
}

/// A kernel of the optimizer over a table of `count` entries.
#[derive(Clone, Copy, Debug)]
pub struct Update {
    /// The table.
    pub pieces: Address,
    /// Sums of squares, f64: the total, then one for each entry.
    pub out: Address,
    /// Entries.
    pub count: usize,
}

impl Update {
    fn launch(self, kernel: &'static str, grid: u32, floats: [f32; 6]) -> Launch {
        let args = Args::default().longs([self.pieces, self.out]).ints([self.count as u32]).floats(floats);
        Launch { grid: [grid, 1, 1], ..Launch::new(Source::Update, kernel, args) }
    }

    /// The sum of all squares of the gradients: two launches, one after the other.
    pub fn squares(self) -> [Launch; 2] {
        [self.launch("squares", self.count as u32, [0.0; 6]), self.launch("squares_total", 1, [0.0; 6])]
    }
    /// Gradients times a factor.
    pub fn scale(self, factor: f32) -> Launch {
        self.launch("scale", self.count as u32, [0.0, 0.0, 0.0, 0.0, 0.0, factor])
    }
    /// One AdamW update.
    pub fn adamw(self, (b1, b2): (f64, f64), eps: f64) -> Launch {
        let floats = [b1, b2, 1.0 - b1, 1.0 - b2, eps, 0.0].map(|v| v as f32);
        self.launch("adamw", self.count as u32, floats)
    }
}

/// Tensors of an attention: addresses include the first column of each part, strides count values between rows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Attention {
    /// Format of all tensors but lse and delta.
    pub format: u32,
    /// Queries, keys, values.
    pub qkv: [Address; 3],
    /// Values from one row of the queries (of the keys and values) to the next.
    pub strides: [usize; 2],
    /// The output, or its gradient; rows of `heads * head_dim`.
    pub out: Address,
    /// Gradients of queries, keys, values.
    pub dqkv: [Address; 3],
    /// As `strides`, of the gradients.
    pub dstrides: [usize; 2],
    /// Work space of the backward pass, f32. `[heads, queries]` each
    pub work: [Address; 2],
    /// First query, queries, first key, keys of each sequence, u32. `[sequences, 4]`
    pub spans: Address,
    /// Number of sequences.
    pub sequences: usize,
    /// Rows of all queries.
    pub queries: usize,
    /// Longest sequence of queries and of keys.
    pub longest: [usize; 2],
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Whether a query sees only keys up to its own.
    pub causal: bool,
}

impl Attention {
    /// Queries or keys of a block.
    const ROWS: usize = 64;

    /// Widest head that the kernels take.
    pub const MOST_HEAD: usize = 128;

    /// Whether the kernels take heads of this width.
    pub fn fits(head_dim: usize) -> bool {
        (1..=Self::MOST_HEAD).contains(&head_dim)
    }

    fn launch(self, kernel: &'static str, longest: usize, heads: usize, drop: Dropout) -> Launch {
        let (key, threshold, scale) = drop.parts();
        let ([q, k, v], [dq, dk, dv], [lse, delta]) = (self.qkv, self.dqkv, self.work);
        let width = self.heads * self.head_dim;
        let args = Args::default()
            .longs([q, k, v, self.out, self.out, dq, dk, dv, lse, delta, self.spans])
            .ints([self.strides[0] as u32, self.strides[1] as u32, width as u32])
            .ints([self.dstrides[0] as u32, self.dstrides[1] as u32])
            .ints([self.heads as u32, self.kv_heads as u32, u32::from(self.causal), self.queries as u32])
            .ints([key, threshold])
            .floats([scale, 1.0 / (self.head_dim as f32).sqrt()]);
        let macros = vec![("X", self.format), ("HEAD", self.head_dim as u32)];
        let grid = [blocks(longest, Self::ROWS), heads as u32, self.sequences as u32];
        Launch { macros, grid, threads: 128, ..Launch::new(Source::Attention, kernel, args) }
    }

    /// The output, to `out`.
    pub fn forward(self, drop: Dropout) -> Launch {
        self.launch("attention_forward", self.longest[0], self.heads, drop)
    }
    /// The gradients, to `dqkv`: two launches, one after the other.
    pub fn backward(self, drop: Dropout) -> [Launch; 2] {
        [
            self.launch("attention_queries", self.longest[0], self.heads, drop),
            self.launch("attention_keys", self.longest[1], self.kv_heads, drop),
        ]
    }
}
