//! Which device and which number format a run computes with, and what to tell the user when it is not the one asked for.

use crate::config::{DeviceChoice, DtypeChoice, Method, ModelConfig};
use crate::error::{Error, Result};
use crate::gpu::{self, AdapterKind, Facts};
use crate::machine::facts::fastest;
use crate::machine::gpu_tiles;
pub use crate::nn::kernels::device::{memory, name};
use crate::tensor::{self, DType, Device, Tensor};
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
            Ok(opened) => (opened.device, None),
            Err(unusable) => (Device::Cpu, Some(on_the_cpu(&unusable.warning(asked)))),
        },
    };
    let (dtype, other) = dtype_of(config.dtype, config.method, &device);
    Chosen { dtype, device, warning: warning.or(other) }
}

/// The format that is computed in, and why it is not the one that was asked for.
fn dtype_of(choice: DtypeChoice, method: Method, device: &Device) -> (DType, Option<String>) {
    let dtype = match choice {
        DtypeChoice::F32 => DType::F32,
        DtypeChoice::Bf16 => DType::BF16,
        DtypeChoice::F16 => DType::F16,
        DtypeChoice::Auto if device.is_cuda() && method != Method::Full => DType::BF16,
        DtypeChoice::Auto if narrow(device) && method != Method::Full => DType::F16,
        DtypeChoice::Auto => DType::F32,
    };
    match device {
        Device::Gpu(gpu) => gpu_dtype(dtype, gpu.backend().facts()),
        _ => (dtype, None),
    }
}

/// Whether a GPU of any vendor is better off with a base model in f16.
fn narrow(device: &Device) -> bool {
    match device {
        Device::Gpu(gpu) => {
            let facts = gpu.backend().facts();
            facts.f16 && gpu.narrowing().overflows && facts.kind != AdapterKind::Software
        }
        _ => false,
    }
}

/// The same on a GPU of any vendor, whose kernels know f32 and, where the adapter does, f16.
fn gpu_dtype(dtype: DType, facts: &Facts) -> (DType, Option<String>) {
    let instead = |other: DType, why: &str| {
        let (asked, name, other_name) = (dtype.as_str(), &facts.name, other.as_str());
        (other, Some(format!("dtype {asked} on device gpu: {why} ({name}); computing in {other_name}")))
    };
    match dtype {
        DType::BF16 if facts.f16 => instead(DType::F16, "its kernels have no bf16"),
        DType::BF16 => instead(DType::F32, "its kernels have no bf16"),
        DType::F16 if !facts.f16 => instead(DType::F32, "it has no 16-bit floats"),
        dtype => (dtype, None),
    }
}

/// The first GPU that can be used; never a driver that computes on the processor. A computer without a GPU is no reason for a
/// word; one that cannot be used is.
fn automatic() -> (Device, Option<String>) {
    let mut warning = None;
    let is_hardware = |(_, facts): &(usize, Facts)| facts.kind != AdapterKind::Software;
    let hardware = gpu::adapters().into_iter().enumerate().filter(is_hardware);
    let cuda = cfg!(feature = "cuda").then_some(DeviceChoice::Cuda(0));
    for asked in cuda.into_iter().chain(hardware.map(|(index, _)| DeviceChoice::Gpu(index))) {
        match open(asked) {
            // Some processors multiply faster than the GPU beside them.
            Ok(opened) if opened.slower_than_cpu => {}
            Ok(opened) => return (opened.device, warning),
            Err(unusable) if unusable.absent => {}
            Err(unusable) => warning = warning.or(Some(unusable.warning(asked))),
        }
    }
    (Device::Cpu, warning.map(|warning| on_the_cpu(&warning)))
}

/// A device that is open.
#[derive(Clone, Debug)]
struct Opened {
    device: Device,
    /// Whether the CPU multiplies faster: then it is used only where it is named.
    slower_than_cpu: bool,
}

impl From<Device> for Opened {
    fn from(device: Device) -> Self {
        Self { device, slower_than_cpu: false }
    }
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
        format!("device {asked} cannot be used: {why}; {remedy}, or choose device cpu")
    }
}

/// The devices that are open.
static OPENED: Mutex<Vec<(DeviceChoice, Opened)>> = Mutex::new(Vec::new());

/// Gives the memory of GPUs back to their drivers that nothing uses: after a training, before the next one.
pub fn release_unused() {
    for (_, opened) in OPENED.lock().iter() {
        if let Device::Gpu(gpu) = &opened.device {
            gpu.backend().trim();
        }
    }
}

/// Opens a GPU once; later calls share it, with the kernels compiled for it.
fn open(asked: DeviceChoice) -> Result<Opened, Unusable> {
    let mut all = OPENED.lock();
    // A GPU that was lost is opened anew.
    all.retain(|(_, opened)| !has_failed(&opened.device));
    if let Some((_, opened)) = all.iter().find(|(choice, _)| *choice == asked) {
        return Ok(opened.clone());
    }
    let opened = match asked {
        DeviceChoice::Auto | DeviceChoice::Cpu => Device::Cpu.into(),
        DeviceChoice::Cuda(index) => cuda(index)?.into(),
        DeviceChoice::Gpu(index) => any_vendor(index)?,
    };
    all.push((asked, opened.clone()));
    Ok(opened)
}

/// The same with what is done instead.
fn on_the_cpu(warning: &str) -> String {
    format!("{warning}; computing on the CPU")
}

fn has_failed(device: &Device) -> bool {
    matches!(device, Device::Gpu(gpu) if gpu.backend().failure().is_some())
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
    Err(Unusable {
        absent: false,
        why: "this build has no cuda support".to_owned(),
        remedy: "build it with cargo build --release --features cuda".to_owned(),
    })
}

/// Opens a GPU of any vendor.
fn any_vendor(index: usize) -> Result<Opened, Unusable> {
    let count = gpu::adapters().len();
    let unusable = |why: String| Unusable {
        absent: count == 0,
        why,
        remedy: match count {
            0 => "install the graphics card's driver (with Vulkan; on Windows also DirectX 12, on a Mac Metal)"
                .to_owned(),
            count if index >= count => "choose one of those that adamix doctor lists".to_owned(),
            _ => "update the graphics card's driver".to_owned(),
        },
    };
    let open = || gpu::open(index).map_err(|err| unusable(err.to_string()));
    let cpu = || product_rate(&Chosen { device: Device::Cpu, dtype: DType::F32, warning: None }, [1024; 3], 0.2);
    let mut backend = open()?;
    let measured = gpu_tiles::plan(&*backend, &cpu);
    if backend.failure().is_some() {
        // Measuring was too much for the driver, which is known now and not tried again.
        drop(backend);
        backend = open()?;
    }
    let gpu_tiles::Measured { plan, slower_than_cpu } = measured;
    let device = Device::Gpu(tensor::Gpu::new(index, backend, plan));
    Ok(Opened { device, slower_than_cpu })
}

/// What was found of one kind of GPU.
#[derive(Clone, Debug, Serialize)]
pub struct Gpu {
    /// `cuda` or `gpu`.
    pub kind: &'static str,
    /// Whether this build supports it.
    pub built: bool,
    /// Names of the devices that can be used.
    pub devices: Vec<String>,
    /// What is known of the adapters of any vendor, in the order of their numbers.
    pub adapters: Vec<Facts>,
    /// Why one of them cannot be used, and what to do; absent where all can.
    pub problem: Option<String>,
    /// Whether that is because there is none, or no driver for one.
    pub absent: bool,
}

/// Names of the adapters of any vendor, in the order of their numbers.
pub fn adapter_names() -> Vec<String> {
    let name = |facts: Facts| match facts.kind {
        AdapterKind::Software => format!("{} (computed by the processor)", facts.name),
        _ => facts.name,
    };
    gpu::adapters().into_iter().map(name).collect()
}

/// Looks for GPUs of both kinds.
pub fn look() -> Vec<Gpu> {
    let adapters = gpu::adapters();
    let look = |kind: &'static str, built: bool, choice: fn(usize) -> DeviceChoice, adapters: Vec<Facts>| {
        let count = if kind == "cuda" { cuda_count() } else { adapters.len() };
        // The first is asked for even if there is none, which tells why.
        let (mut devices, mut problems, mut absent) = (Vec::new(), Vec::new(), false);
        for index in 0..count.max(1) {
            match open(choice(index)) {
                Ok(opened) => devices.push(name(&opened.device)),
                Err(Unusable { absent: none, why, remedy }) => {
                    absent |= none;
                    problems.push(format!("{why}; {remedy}"));
                }
            }
        }
        let problem = (!problems.is_empty()).then(|| problems.join("; "));
        // CUDA was asked for when it was built in.
        Gpu { kind, built, devices, adapters, problem, absent: absent && kind == "gpu" }
    };
    vec![
        look("cuda", cfg!(feature = "cuda"), DeviceChoice::Cuda, Vec::new()),
        look("gpu", true, DeviceChoice::Gpu, adapters),
    ]
}

/// An error where a base model of so many values does not fit into the free memory of the device. `stored`: bytes of a model
/// whose values stay as its file has them.
pub fn check_room(chosen: &Chosen, values: usize, stored: Option<u64>) -> Result<()> {
    let need = stored.unwrap_or((values * chosen.dtype.size_in_bytes()) as u64);
    match memory(&chosen.device) {
        Some((free, _)) if free < need => Err(no_room(&chosen.device, chosen.dtype, need, free)),
        _ => Ok(()),
    }
}

fn no_room(device: &Device, dtype: DType, need: u64, free: u64) -> Error {
    let mb = |bytes: u64| bytes / 1_000_000;
    let narrower = match device {
        _ if dtype != DType::F32 => "",
        Device::Gpu(gpu) if gpu.backend().facts().f16 => "dtype f16, ",
        Device::Gpu(_) => "",
        _ => "dtype bf16, ",
    };
    let device = name(device);
    Error::config(format!(
        "the model alone takes {} MB in {} and {device} has {} MB free; choose {narrower}a smaller or quantised model, or device cpu",
        mb(need),
        dtype.as_str(),
        mb(free)
    ))
}

/// FLOP/s of matrix products of 16,384 x 1,024 x 4,096 on a device: the best of several in about `seconds`.
pub fn gemm_rate(place: &Chosen, seconds: f64) -> Result<f64> {
    product_rate(place, [16_384, 1024, 4096], seconds)
}

/// The same for any rows, inner size and columns.
fn product_rate(place: &Chosen, [rows, inner, columns]: [usize; 3], seconds: f64) -> Result<f64> {
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

#[cfg(feature = "cuda")]
fn cuda_count() -> usize {
    crate::nn::kernels::cuda::driver::count()
}

#[cfg(not(feature = "cuda"))]
fn cuda_count() -> usize {
    0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::kernels::product::ProductPlan;
    use crate::gpu::{Backend as _, Recording};
    use std::sync::Arc;

    #[test]
    fn the_format_follows_device_and_method() {
        let cpu = |choice, method| dtype_of(choice, method, &Device::Cpu).0;
        assert_eq!(cpu(DtypeChoice::Auto, Method::Adamix), DType::F32);
        assert_eq!(cpu(DtypeChoice::Bf16, Method::Adamix), DType::BF16);
        assert_eq!(cpu(DtypeChoice::F16, Method::HeadOnly), DType::F16);
        assert_eq!(cpu(DtypeChoice::F32, Method::Full), DType::F32);
    }

    #[test]
    fn a_gpu_that_cannot_be_used_is_replaced_by_the_cpu_and_said() {
        // A number no computer has: unusable in every build.
        for (asked, kind) in [(DeviceChoice::Cuda(999), "cuda"), (DeviceChoice::Gpu(999), "gpu")] {
            let chosen = choose(&ModelConfig { device: asked, ..ModelConfig::default() });
            assert!(chosen.device.is_cpu() && chosen.dtype == DType::F32);
            let warning = chosen.warning.unwrap();
            assert!(warning.starts_with(&format!("device {kind}:999 cannot be used: ")), "{warning}");
            assert!(warning.ends_with("or choose device cpu; computing on the CPU"), "{warning}");
            let built = kind == "gpu" || cfg!(feature = "cuda");
            assert_eq!(warning.contains("build"), !built, "{warning}");
        }
    }

    #[test]
    fn a_model_larger_than_the_memory_is_refused_with_what_to_do() {
        let backend = Recording::like(AdapterKind::Discrete);
        let facts = Facts { memory: Some(24_000_000_000), ..backend.facts().clone() };
        let plan = ProductPlan::of(&facts);
        let device = Device::Gpu(tensor::Gpu::new(1, Arc::new(Recording::new(facts)), plan));
        let gpu = |dtype| Chosen { device: device.clone(), dtype, warning: None };
        let text = check_room(&gpu(DType::F32), 7_000_000_000, None).unwrap_err().to_string();
        let wanted =
            ["28000 MB in f32", "a GPU that counts (gpu:1) has 24000 MB", "dtype f16, a smaller", "device cpu"];
        assert!(wanted.iter().all(|words| text.contains(words)), "{text}");
        assert!(check_room(&gpu(DType::F16), 7_000_000_000, None).is_ok());
        let text = check_room(&gpu(DType::F16), 13_000_000_000, None).unwrap_err().to_string();
        assert!(!text.contains("dtype f16,"), "{text}");
        assert!(check_room(&gpu(DType::F16), 13_000_000_000, Some(8_000_000_000)).is_ok(), "it stays quantised");
        let cpu = Chosen { device: Device::Cpu, dtype: DType::F32, warning: None };
        assert!(check_room(&cpu, usize::MAX / 8, None).is_ok(), "the CPU's memory is looked after elsewhere");
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
        assert_eq!(found.iter().map(|gpu| gpu.kind).collect::<Vec<_>>(), ["cuda", "gpu"]);
        for gpu in found {
            assert_eq!(gpu.devices.is_empty(), gpu.problem.is_some(), "{gpu:?}");
            assert!(gpu.built || gpu.problem.unwrap().contains("build"));
        }
    }
}
