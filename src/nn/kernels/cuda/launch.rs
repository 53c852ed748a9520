//! What a kernel launch is: a source file with its macros, a kernel in it, a grid, and one struct of arguments; and a
//! matrix product by cuBLAS.
//!
//! Nothing here needs a GPU. The tests launch the same values on the host.

use crate::tensor::{DType, Tensor};

/// A source file of kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// Activation, bias, dropout.
    Elementwise,
    /// Layer normalisation.
    LayerNorm,
    /// Gradient norm, scaling, AdamW.
    Update,
    /// Products by expert.
    Routed,
    /// Attention.
    Attention,
    /// Root-mean-square normalisation of rows and of heads.
    Norms,
    /// Gated nonlinearities and rotary positions.
    Gated,
    /// Losses and scores over a vocabulary.
    Vocab,
    /// Attention to cached keys and values.
    CachedAttention,
}

impl Source {
    /// Name without its ending, and contents.
    fn file(self) -> (&'static str, &'static str) {
        match self {
            Self::Elementwise => ("elementwise", include_str!("elementwise.cu")),
            Self::LayerNorm => ("layer_norm", include_str!("layer_norm.cu")),
            Self::Update => ("update", include_str!("update.cu")),
            Self::Routed => ("routed", include_str!("routed.cu")),
            Self::Attention => ("attention", include_str!("attention.cu")),
            Self::Norms => ("norms", include_str!("norms.cu")),
            Self::Gated => ("gated", include_str!("gated.cu")),
            Self::Vocab => ("vocab", include_str!("vocab.cu")),
            Self::CachedAttention => ("cached_attention", include_str!("cached_attention.cu")),
        }
    }

    /// The name of the file, without its ending.
    pub fn name(self) -> &'static str {
        self.file().0
    }

    /// What the compiler gets: `common.h` and the file.
    pub fn text(self) -> String {
        let (name, own) = self.file();
        format!("{}\n#line 1 \"{name}.cu\"\n{own}", include_str!("common.h"))
    }
}

/// A tensor's number format as the kernels count them; none where they do not know it.
pub fn format_of(dtype: DType) -> Option<u32> {
    match dtype {
        DType::F32 => Some(0),
        DType::BF16 => Some(1),
        DType::F16 => Some(2),
        _ => None,
    }
}

/// The macros a source file is compiled with, in a fixed order.
pub type Macros = Vec<(&'static str, u32)>;

/// Threads of a block where nothing else decides.
pub(super) const THREADS: u32 = 256;

/// One kernel on one grid.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The file.
    pub source: Source,
    /// Its macros.
    pub macros: Macros,
    /// The kernel.
    pub kernel: &'static str,
    /// Blocks in each direction; with a zero among them there is nothing to do.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub threads: u32,
    /// Shared memory beyond what the kernel declares, in bytes.
    pub shared: u32,
    /// The struct it takes.
    pub args: Args,
}

impl Launch {
    /// One block of [`THREADS`] threads without macros.
    pub(super) fn new(source: Source, kernel: &'static str, args: Args) -> Self {
        Self { source, macros: Vec::new(), kernel, grid: [1; 3], threads: THREADS, shared: 0, args }
    }

    /// Whether the grid holds no block.
    pub fn is_empty(&self) -> bool {
        self.grid.contains(&0)
    }
}

const ARG_WORDS: usize = 64;

/// A struct of plain words as C lays it out: all addresses first, then 32-bit values.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(8))]
pub struct Args {
    words: [u64; ARG_WORDS],
    /// 32-bit places taken.
    len: usize,
}

impl Default for Args {
    fn default() -> Self {
        Self { words: [0; ARG_WORDS], len: 0 }
    }
}

impl Args {
    /// Appends addresses (or other 64-bit values).
    #[must_use]
    pub fn longs<const N: usize>(mut self, values: [u64; N]) -> Self {
        debug_assert!(self.len.is_multiple_of(2), "64-bit values come first");
        for value in values {
            if let Some(word) = self.words.get_mut(self.len / 2) {
                *word = value;
            }
            self.len += 2;
        }
        self
    }

    /// Appends whole numbers.
    #[must_use]
    pub fn ints<const N: usize>(mut self, values: [u32; N]) -> Self {
        for value in values {
            if let Some(word) = self.words.get_mut(self.len / 2) {
                *word |= u64::from(value) << (32 * (self.len % 2));
            }
            self.len += 1;
        }
        debug_assert!(self.len <= 2 * ARG_WORDS, "too many arguments");
        self
    }

    /// Appends numbers.
    #[must_use]
    pub fn floats<const N: usize>(self, values: [f32; N]) -> Self {
        self.ints(values.map(f32::to_bits))
    }

    /// As 64-bit words in memory.
    pub fn words(&self) -> &[u64; ARG_WORDS] {
        &self.words
    }
}

/// Whether a product's right operand is transposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transpose {
    /// b is `[k, n]`.
    No,
    /// b is `[n, k]`.
    Yes,
}

/// A matrix product of row-major matrices: a `[m, k]`, b `[k, n]` (or, transposed, `[n, k]`), c `[m, n]`.
#[derive(Clone, Copy, Debug)]
pub struct Product<'a> {
    /// Rows of a and c.
    pub m: usize,
    /// Columns of c.
    pub n: usize,
    /// Columns of a.
    pub k: usize,
    /// Left operand.
    pub a: &'a Tensor,
    /// Right operand, in a's format.
    pub b: &'a Tensor,
    /// Whether b is transposed.
    pub transpose: Transpose,
    /// Output, in a's format or f32.
    pub c: &'a Tensor,
    /// Add to c instead of overwriting it.
    pub add: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_lie_as_in_c() {
        let args = Args::default().longs([7, 8]).ints([1]).floats([1.0]).ints([3]);
        assert_eq!(args.words()[..4], [7, 8, 1 | 0x3f80_0000 << 32, 3]);
    }
}
