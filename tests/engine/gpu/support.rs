//! A device to test on, values on it, and comparisons.

use adamix::gpu::kernels::Mask;
use adamix::gpu::{Backend, Buffer, Format, Launch, Operand};
use half::f16;
use std::sync::{Arc, OnceLock};

/// The device of the tests: the adapter that is preferred, or the one that `ADAMIX_TEST_GPU` names by its number; `None`, said
/// aloud, where the computer has none.
pub fn device() -> Option<Arc<dyn Backend>> {
    static OPEN: OnceLock<Option<Arc<dyn Backend>>> = OnceLock::new();
    OPEN.get_or_init(|| {
        let number = std::env::var("ADAMIX_TEST_GPU").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
        match adamix::gpu::open(number) {
            Ok(device) => {
                eprintln!("GPU tests run on {} ({})", device.facts().name, device.facts().driver);
                Some(device)
            }
            Err(err) => {
                assert!(std::env::var_os("ADAMIX_TEST_GPU").is_none(), "a GPU was asked for by ADAMIX_TEST_GPU: {err}");
                eprintln!("GPU tests do NOT run: {err}");
                None
            }
        }
    })
    .clone()
}

/// Formats the device computes with.
pub fn formats(device: &dyn Backend) -> Vec<Format> {
    if device.facts().f16 { vec![Format::F32, Format::F16] } else { vec![Format::F32] }
}

/// Values on a device.
pub struct Array {
    _buffer: Buffer,
    pub operand: Operand,
}

impl Array {
    fn of_bytes(device: &dyn Backend, mut bytes: Vec<u8>, len: usize, format: Format) -> Self {
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        let buffer = device.allocate(bytes.len() as u64).unwrap();
        device.upload(buffer.address(), &bytes).unwrap();
        let operand = buffer.operand(len, format);
        Self { _buffer: buffer, operand }
    }

    /// Floats, rounded to a format.
    pub fn floats(device: &dyn Backend, values: &[f32], format: Format) -> Self {
        let bytes = match format {
            Format::F16 => values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect(),
            _ => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        };
        Self::of_bytes(device, bytes, values.len(), format)
    }

    /// Whole numbers.
    pub fn words(device: &dyn Backend, values: &[u32]) -> Self {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Self::of_bytes(device, bytes, values.len(), Format::U32)
    }

    /// Memory that is to be written, filled with a number that no kernel writes.
    pub fn unwritten(device: &dyn Backend, len: usize, format: Format) -> Self {
        Self::floats(device, &vec![-7777.0; len.max(1)], format).part(len)
    }

    fn part(mut self, len: usize) -> Self {
        self.operand.len = len as u64;
        self
    }

    /// Back on the host.
    pub fn read(&self, device: &dyn Backend) -> Vec<f32> {
        let bytes = device.download(&[(self.operand.address, self.operand.bytes())]).unwrap().remove(0);
        match self.operand.format {
            Format::F16 => bytes.as_chunks::<2>().0.iter().map(|&b| f16::from_le_bytes(b).to_f32()).collect(),
            Format::F32 => bytes.as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect(),
            Format::U32 => bytes.as_chunks::<4>().0.iter().map(|&b| u32::from_le_bytes(b) as f32).collect(),
        }
    }
}

/// Runs launches in order.
pub fn run(device: &dyn Backend, launches: impl IntoIterator<Item = Launch>) {
    launches.into_iter().for_each(|launch| device.launch(&launch).unwrap());
}

/// Values as a format holds them.
pub fn stored(values: &[f32], format: Format) -> Vec<f64> {
    let round = |v: f32| if format == Format::F16 { f16::from_f32(v).to_f32() } else { v };
    values.iter().map(|&v| f64::from(round(v))).collect()
}

/// Same length, and each value within `tolerance` of the largest wanted one, or of what f16 rounds away.
#[track_caller]
pub fn assert_close(what: &str, got: &[f32], want: &[f64], format: Format, tolerance: f64) {
    assert_eq!(got.len(), want.len(), "{what}: lengths");
    let largest = want.iter().fold(1e-3f64, |most, v| most.max(v.abs()));
    let tolerance = if format == Format::F16 { tolerance.max(2e-3) } else { tolerance };
    for (i, (&got, &want)) in got.iter().zip(want).enumerate() {
        let apart = (f64::from(got) - want).abs();
        assert!(apart <= tolerance * largest, "{what}: value {i} is {got}, not {want} (largest {largest}, {format:?})");
    }
}

/// Numbers that look random, the same for the same seed. Uniform in -scale..scale
pub fn random(seed: u64, len: usize, scale: f32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f32 / (1 << 24) as f32 - 0.5) * 2.0 * scale
    };
    (0..len).map(|_| next()).collect()
}

fn mix(mut x: u32) -> u32 {
    x ^= x >> 16;
    x = x.wrapping_mul(0x7feb_352d);
    x ^= x >> 15;
    x = x.wrapping_mul(0x846c_a68b);
    x ^ (x >> 16)
}

/// What element `i` is multiplied with by a dropout: as the processor's kernels have it.
pub fn mask_factor(mask: Mask, i: u32) -> f64 {
    if mix(i ^ mask.key).wrapping_add(mask.key) >= mask.threshold { f64::from(mask.scale) } else { 0.0 }
}

/// A mask that drops a share `p`.
pub fn mask(key: u32, p: f64) -> Mask {
    Mask { key: mix(key), threshold: (p * 4_294_967_296.0) as u32, scale: (1.0 / (1.0 - p)) as f32 }
}
