//! Which device and which number format a run computes with, and what to tell the user when it is not the one asked for.

use crate::config::{DeviceChoice, DtypeChoice, Method, ModelConfig};
use crate::error::{Error, Result};
use crate::machine::facts::fastest;
pub use crate::nn::kernels::device::{memory, name};
use candle_core::{DType, Device, Tensor};
use parking_lot::Mutex;
use serde::Serialize;

/// What a run computes with.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// Where.
    pub device: Device,
    /// The base model's number format.
    pub dtype: DType,
    /// Why it is not the device that was asked for, and what to do.
    pub warning: Option<String>,
}

/// The device and format these settings ask for; the CPU, with a warning, where that GPU cannot be used.
pub fn choose(config: &ModelConfig) -> Chosen {
    let (device, warning) = match config.device {
        DeviceChoice::Cpu => (Device::Cpu, None),
        DeviceChoice::Auto => automatic(),
        asked => match open(asked) {
            Ok(device) => (device, None),
            Err(unusable) => (Device::Cpu, Some(unusable.warning(asked))),
        },
    };
    Chosen { dtype: dtype_of(config.dtype, config.method, &device), device, warning }
}

fn dtype_of(choice: DtypeChoice, method: Method, device: &Device) -> DType {
    match choice {
        DtypeChoice::F32 => DType::F32,
        DtypeChoice::Bf16 => DType::BF16,
        DtypeChoice::F16 => DType::F16,
        DtypeChoice::Auto if device.is_cuda() && method != Method::Full => DType::BF16,
        DtypeChoice::Auto => DType::F32,
    }
}

/// The first GPU this build can use. A computer without one is no reason for a word; one that cannot be used is.
fn automatic() -> (Device, Option<String>) {
    let mut warning = None;
    for (built, asked) in
        [(cfg!(feature = "cuda"), DeviceChoice::Cuda(0)), (cfg!(feature = "metal"), DeviceChoice::Metal(0))]
    {
        if !built {
            continue;
        }
        match open(asked) {
            Ok(device) => return (device, None),
            Err(unusable) if unusable.absent => {}
            Err(unusable) => warning = Some(unusable.warning(asked)),
        }
    }
    (Device::Cpu, warning)
}

/// Why a GPU cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unusable {
    /// There is none, or no driver for one.
    pub absent: bool,
    /// Why.
    pub why: String,
    /// What to do about it.
    pub remedy: String,
}

impl Unusable {
    fn warning(&self, asked: DeviceChoice) -> String {
        let Self { why, remedy, .. } = self;
        format!("device {asked} cannot be used: {why}; {remedy}, or choose device cpu; computing on the CPU")
    }
}

/// Opens a GPU once; later calls share it, with the kernels compiled for it.
fn open(asked: DeviceChoice) -> Result<Device, Unusable> {
    static OPENED: Mutex<Vec<(DeviceChoice, Device)>> = Mutex::new(Vec::new());
    let mut opened = OPENED.lock();
    if let Some((_, device)) = opened.iter().find(|(choice, _)| *choice == asked) {
        return Ok(device.clone());
    }
    let device = open_new(asked)?;
    opened.push((asked, device.clone()));
    Ok(device)
}

fn open_new(asked: DeviceChoice) -> Result<Device, Unusable> {
    match asked {
        DeviceChoice::Auto | DeviceChoice::Cpu => Ok(Device::Cpu),
        DeviceChoice::Cuda(index) => cuda(index),
        DeviceChoice::Metal(index) => metal(index),
    }
}

#[cfg(feature = "cuda")]
fn cuda(index: usize) -> Result<Device, Unusable> {
    use crate::nn::kernels::cuda::driver::{self, Problem};
    driver::open(index).map_err(|problem| {
        let (absent, why, remedy) = match problem {
            Problem::NoDriver(why) => (true, why, "install NVIDIA's driver"),
            Problem::NoDevice(why) => (true, why, "check with nvidia-smi which GPUs the driver sees"),
            Problem::TooOld(why) => (false, why, "use a GPU of compute capability 8.0 or newer"),
            Problem::NoCompiler(why) => {
                (false, why, "install CUDA's libnvrtc beside the driver (it is part of the CUDA runtime packages)")
            }
            Problem::Other(why) => {
                (false, why, "check the driver with nvidia-smi, and that no other program fills the GPU's memory")
            }
        };
        Unusable { absent, why, remedy: remedy.to_owned() }
    })
}

#[cfg(not(feature = "cuda"))]
fn cuda(_index: usize) -> Result<Device, Unusable> {
    Err(not_built("cuda"))
}

#[cfg(feature = "metal")]
fn metal(index: usize) -> Result<Device, Unusable> {
    Device::new_metal(index).map_err(|err| {
        let why = err.to_string().lines().next().unwrap_or_default().to_owned();
        Unusable { absent: false, why, remedy: "check that this Mac has a GPU that Metal supports".to_owned() }
    })
}

#[cfg(not(feature = "metal"))]
fn metal(_index: usize) -> Result<Device, Unusable> {
    Err(not_built("metal"))
}

#[cfg(not(all(feature = "cuda", feature = "metal")))]
fn not_built(feature: &str) -> Unusable {
    Unusable {
        absent: false,
        why: format!("this build has no {feature} support"),
        remedy: format!("build it with cargo build --release --features {feature}"),
    }
}

/// What was found of one kind of GPU.
#[derive(Clone, Debug, Serialize)]
pub struct Gpu {
    /// `cuda` or `metal`.
    pub kind: &'static str,
    /// Whether this build supports it.
    pub built: bool,
    /// Names of the devices that can be used.
    pub devices: Vec<String>,
    /// Why the first one cannot be used, and what to do; absent where it can.
    pub problem: Option<String>,
}

/// Looks for GPUs of both kinds.
pub fn look() -> Vec<Gpu> {
    let look = |kind: &'static str, built: bool, choice: fn(usize) -> DeviceChoice| {
        let first = open(choice(0));
        let problem = first.as_ref().err().map(|unusable| format!("{}; {}", unusable.why, unusable.remedy));
        let mut devices = Vec::new();
        if let Ok(device) = &first {
            let more = (1..count(kind)).filter_map(|index| open(choice(index)).ok());
            devices.extend(std::iter::once(device.clone()).chain(more).map(|device| name(&device)));
        }
        Gpu { kind, built, devices, problem }
    };
    vec![
        look("cuda", cfg!(feature = "cuda"), DeviceChoice::Cuda),
        look("metal", cfg!(feature = "metal"), DeviceChoice::Metal),
    ]
}

/// An error where a base model of so many values does not fit into the free memory of the device.
pub fn check_room(chosen: &Chosen, values: usize) -> Result<()> {
    let need = (values * chosen.dtype.size_in_bytes()) as u64;
    match memory(&chosen.device) {
        Some((free, _)) if free < need => Err(no_room(&name(&chosen.device), chosen.dtype, need, free)),
        _ => Ok(()),
    }
}

fn no_room(device: &str, dtype: DType, need: u64, free: u64) -> Error {
    let mb = |bytes: u64| bytes / 1_000_000;
    let narrower = if dtype == DType::F32 { "dtype bf16, " } else { "" };
    Error::config(format!(
        "the model alone takes {} MB in {} and {device} has {} MB free; choose {narrower}a smaller model, or device cpu",
        mb(need),
        dtype.as_str(),
        mb(free)
    ))
}

/// FLOP/s of matrix products of 16,384 x 1,024 x 4,096 on a device: the best of several in about `seconds`.
pub fn gemm_rate(place: &Chosen, seconds: f64) -> Result<f64> {
    let (rows, inner, columns) = (16_384, 1024, 4096);
    let ones = |rows: usize, columns: usize| Tensor::ones((rows, columns), place.dtype, &place.device);
    let (left, right) = (ones(rows, inner)?, ones(inner, columns)?);
    let work = 2.0 * (rows * inner * columns) as f64;
    let product = || {
        let product = left.matmul(&right)?;
        place.device.synchronize()?;
        Ok(product)
    };
    Ok(work / fastest(&[&product], seconds)?)
}

fn count(kind: &str) -> usize {
    #[cfg(feature = "cuda")]
    if kind == "cuda" {
        return crate::nn::kernels::cuda::driver::count();
    }
    usize::from(!kind.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_follows_device_and_method() {
        let cpu = |choice, method| dtype_of(choice, method, &Device::Cpu);
        assert_eq!(cpu(DtypeChoice::Auto, Method::Adamix), DType::F32);
        assert_eq!(cpu(DtypeChoice::Bf16, Method::Adamix), DType::BF16);
        assert_eq!(cpu(DtypeChoice::F16, Method::HeadOnly), DType::F16);
        assert_eq!(cpu(DtypeChoice::F32, Method::Full), DType::F32);
    }

    #[test]
    fn a_gpu_that_cannot_be_used_is_replaced_by_the_cpu_and_said() {
        // A number no computer has: unusable in every build.
        for (asked, kind) in [(DeviceChoice::Cuda(999), "cuda"), (DeviceChoice::Metal(999), "metal")] {
            let chosen = choose(&ModelConfig { device: asked, ..ModelConfig::default() });
            assert!(chosen.device.is_cpu() && chosen.dtype == DType::F32);
            let warning = chosen.warning.unwrap();
            assert!(warning.starts_with(&format!("device {kind}:999 cannot be used: ")), "{warning}");
            assert!(warning.ends_with("or choose device cpu; computing on the CPU"), "{warning}");
            let built = (kind == "cuda" && cfg!(feature = "cuda")) || (kind == "metal" && cfg!(feature = "metal"));
            assert_eq!(warning.contains(&format!("--features {kind}")), !built, "{warning}");
        }
    }

    #[test]
    fn a_model_larger_than_the_memory_is_refused_with_what_to_do() {
        let text = no_room("GPU (cuda:0)", DType::F32, 28_000_000_000, 24_000_000_000).to_string();
        assert!(
            ["28000 MB in f32", "GPU (cuda:0) has 24000 MB", "bf16", "device cpu"].iter().all(|w| text.contains(w))
        );
        assert!(!no_room("GPU", DType::BF16, 2, 1).to_string().contains("dtype bf16"));
        let cpu = Chosen { device: Device::Cpu, dtype: DType::F32, warning: None };
        assert!(check_room(&cpu, usize::MAX / 8).is_ok(), "the CPU's memory is looked after elsewhere");
    }

    #[test]
    fn asking_for_the_cpu_needs_no_word() {
        let chosen = choose(&ModelConfig { device: DeviceChoice::Cpu, ..ModelConfig::default() });
        assert!(chosen.device.is_cpu() && chosen.warning.is_none());
        assert_eq!(name(&chosen.device), "CPU");
    }

    #[test]
    fn both_kinds_are_looked_for() {
        let found = look();
        assert_eq!(found.iter().map(|gpu| gpu.kind).collect::<Vec<_>>(), ["cuda", "metal"]);
        for gpu in found {
            assert_eq!(gpu.devices.is_empty(), gpu.problem.is_some(), "{gpu:?}");
            assert!(gpu.built || gpu.problem.unwrap().contains("--features"));
        }
    }
}
