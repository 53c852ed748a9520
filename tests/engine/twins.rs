//! The GPU's kernels without a GPU: the same sources, compiled by the host's C compiler, run thread by thread
//! (`twins/host.h`) with the launches the GPU would get, and compared with the plain versions.

mod attention;
mod cached_attention;
mod elementwise;
mod host;
mod lm;
mod nvrtc;
mod routed;
mod update;

use adamix::nn::kernels::cuda::launch::{Args, Launch, Source};
use adamix::rng::{Purpose, SeedStream};
use adamix::tensor::{DType, Device, Shape, Tensor};

/// The formats the kernels know, with the relative error of storing a number in each.
pub const FORMATS: [(u32, DType, f64); 3] = [(0, DType::F32, 6e-8), (1, DType::BF16, 4e-3), (2, DType::F16, 5e-4)];

/// Standard normal values, always the same for the same `index`.
pub fn random(shape: impl Into<Shape>, index: u64, dtype: DType) -> Tensor {
    let shape = shape.into();
    let values = SeedStream::new(57).stream(Purpose::Sampling, index).normal_vec(shape.elem_count(), 1.0);
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
}

pub fn wide(x: &Tensor) -> Tensor {
    x.to_dtype(DType::F64).unwrap()
}

pub fn values(x: &Tensor) -> Vec<f64> {
    wide(x).flatten_all().unwrap().to_vec1().unwrap()
}

/// No element off by more than `relative` of itself plus `absolute` of the largest one wanted.
#[track_caller]
pub fn close(what: &str, got: &Tensor, want: &Tensor, relative: f64, absolute: f64) {
    assert_eq!(got.dims(), want.dims(), "{what}: shapes differ");
    let (got, want) = (values(got), values(want));
    let largest = want.iter().fold(0.1f64, |m, w| m.max(w.abs()));
    for (i, (g, w)) in got.iter().zip(&want).enumerate() {
        let allowed = relative * w.abs() + absolute * largest;
        assert!((g - w).abs() <= allowed, "{what}: element {i} is {g} but should be {w} (allowed: {allowed:.2e})");
    }
}

fn custom(text: &str, kernel: &'static str) -> Result<(), String> {
    let launch = Launch {
        source: Source::Elementwise,
        macros: Vec::new(),
        kernel,
        grid: [2, 1, 1],
        threads: 64,
        shared: 0,
        args: Args::default().longs([0]),
    };
    host::run_text(text, &launch)
}

#[test]
fn the_host_finds_threads_that_do_not_come() {
    let missing = "struct none { u64 n; };\nKERNEL(missing, none) { if (THREAD == 3) return; SYNC(); }";
    assert!(custom(missing, "missing").unwrap_err().contains("left"));
    let crossed = "struct none { u64 n; };\nKERNEL(crossed, none) { if (THREAD < 32) SYNC(); else lane_xor(0.0f, THREAD == 40 ? 1 : 2); if (THREAD >= 32) SYNC(); if (THREAD == 5) lane_xor(0.0f, 1); }";
    assert!(custom(crossed, "crossed").is_err());
    let fine = "struct none { u64 n; };\nKERNEL(fine, none) { SYNC(); lane_xor(1.0f, 4); SYNC(); }";
    custom(fine, "fine").unwrap();
}
