//! How the experts start: a function of the settings and the adapted module, so that a checkpoint's start can be computed again.

use crate::config::{AdapterInit, LoraInit, MixtureConfig, MixtureKind};
use crate::rng::{Purpose, SeedStream, Stream};

/// Streams of matrices that all layers share begin here, far beyond any adapted module's own.
const SHARED: u64 = 1 << 48;

/// Weights of both sides of an adapted module before the first step (biases are zero). `name` is its stable name, shapes
/// are `[experts, out, in]` of the down- and the up-projection, or of A and B.
pub fn start(
    mixture: &MixtureConfig,
    seed: SeedStream,
    (site, name): (usize, &str),
    shapes: [[usize; 3]; 2],
) -> [Vec<f32>; 2] {
    let own = seed.stream(Purpose::Init, 1 + site as u64);
    match mixture.kind {
        MixtureKind::Adapter => adapter(mixture, own, shapes),
        MixtureKind::Lora => lora(mixture, seed, own, name, shapes),
    }
}

/// Reference: N(0, `init_std`) on both sides, each expert on its own.
fn adapter(mixture: &MixtureConfig, mut stream: Stream, shapes: [[usize; 3]; 2]) -> [Vec<f32>; 2] {
    let down = stream.normal_vec(shapes[0].iter().product(), mixture.init_std);
    let mut up = stream.normal_vec(shapes[1].iter().product(), mixture.init_std);
    if mixture.init == AdapterInit::Identity {
        up.fill(0.0);
    }
    [down, up]
}

/// A uniform in ± 1 / √in (Kaiming's bound with a = √5), B zero.
fn lora(mixture: &MixtureConfig, seed: SeedStream, own: Stream, name: &str, shapes: [[usize; 3]; 2]) -> [Vec<f32>; 2] {
    let [experts, rows, cols] = shapes[0];
    let bound = 1.0 / (cols.max(1) as f64).sqrt();
    let uniform = |mut stream: Stream, n: usize| -> Vec<f32> {
        (0..n).map(|_| ((2.0 * stream.uniform() - 1.0) * bound) as f32).collect()
    };
    let a = match mixture.lora_init {
        LoraInit::Independent => uniform(own, experts * rows * cols),
        LoraInit::Copied => {
            // `layers.3.self_attn.q_proj`: the matrix without its layer.
            let matrix = name.splitn(3, '.').last().unwrap_or_default();
            let hash = matrix.bytes().fold(0u64, |hash, byte| hash.wrapping_mul(31).wrapping_add(u64::from(byte)));
            uniform(seed.stream(Purpose::Init, SHARED | (hash % SHARED)), rows * cols).repeat(experts)
        }
    };
    [a, vec![0.0; shapes[1].iter().product()]]
}
