//! Kernels as launches: each file makes launches of one file of WGSL from addresses and sizes, and states what it computes.

pub mod attention;
pub mod cached_attention;
pub mod cooperative;
pub mod copy;
pub mod elementwise;
pub mod experts;
pub mod gated;
pub mod heads;
mod heads_memory;
pub mod norm;
pub mod product;
pub mod quantised;
pub mod reduce;
mod rows;
pub mod tables;
pub mod tuning;
pub mod update;
pub mod vocab;

/// The shader of a name, whose text lies in `wgsl/`.
macro_rules! source {
    ($name:literal) => {
        $crate::gpu::Source { name: $name, text: include_str!(concat!("../wgsl/", $name, ".wgsl")) }
    };
}
pub(crate) use source;

/// Threads of a workgroup where nothing else decides.
pub const THREADS: usize = 256;

/// A dropout mask in numbers: element i is kept where `mix(i ^ key) + key >= threshold`, and is then multiplied with `scale`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mask {
    /// Chooses the mask.
    pub key: u32,
    /// 2^32 times the probability of being dropped; 0: nothing is.
    pub threshold: u32,
    /// 1 / (1 - p).
    pub scale: f32,
}

impl Mask {
    /// Nothing is dropped.
    pub const NONE: Self = Self { key: 0, threshold: 0, scale: 1.0 };

    /// Key, threshold and scale as a kernel's words.
    pub fn words(self) -> [u32; 3] {
        [self.key, self.threshold, self.scale.to_bits()]
    }
}
