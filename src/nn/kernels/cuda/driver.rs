//! NVIDIA GPUs: opening one, compiling kernels for it when they are first used, launching them.
//!
//! All work of a device goes through one stream, in the order it is given; the host waits only where it reads.

use super::launch::{Args, Launch, Macros, Product, Source, Transpose, format_of};
use crate::error::{Error, ErrorKind, Result};
use crate::tensor::{DType, Device, Tensor};
use candle_core::Storage;
use candle_core::cuda_backend::{CudaDevice, CudaStorageSlice, cudarc};
use cudarc::cublas::{result as blas, sys as blas_sys};
use cudarc::driver::{
    CudaContext, CudaFunction, CudaModule, DevicePtr as _, DeviceRepr, LaunchConfig, PushKernelArg as _,
};
use cudarc::driver::{result, sys};
use cudarc::nvrtc::{CompileOptions, compile_ptx_with_opts};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The oldest architecture with bf16 on its tensor cores, which the kernels are written for.
const OLDEST: (i32, i32) = (8, 0);

/// Why a GPU cannot be used.
#[derive(Debug)]
pub enum Problem {
    /// The driver's library is not there.
    NoDriver(String),
    /// The driver knows no such GPU.
    NoDevice(String),
    /// The GPU is older than the kernels need.
    TooOld(String),
    /// Kernels cannot be compiled.
    NoCompiler(String),
    /// Anything else.
    Other(String),
}

fn first_line(err: &impl std::fmt::Display) -> String {
    err.to_string().lines().next().unwrap_or_default().to_owned()
}

/// Opens the GPU of this number and compiles a first kernel for it.
pub fn open(index: usize) -> Result<Device, Problem> {
    driver()?;
    let other = |err: &dyn std::fmt::Display| Problem::Other(first_line(&err));
    let found = CudaContext::device_count().map_err(|err| Problem::NoDevice(first_line(&err)))?;
    if index as i64 >= i64::from(found) {
        return Err(Problem::NoDevice(format!("the driver sees {found} GPUs, numbered from 0")));
    }
    let device = candle_core::Device::new_cuda_with_stream(index).map_err(|err| other(&err))?;
    let candle_core::Device::Cuda(gpu) = &device else { return Err(Problem::Other("not a CUDA device".to_owned())) };
    let context = gpu.cuda_stream().context().clone();
    let capability = context.compute_capability().map_err(|err| other(&err))?;
    if capability < OLDEST {
        let (major, minor) = capability;
        return Err(Problem::TooOld(format!("{} has compute capability {major}.{minor}", name(gpu))));
    }
    settle(gpu, &context);
    module(gpu, Source::Elementwise, &vec![("X", 0)]).map_err(|err| Problem::NoCompiler(first_line(&err)))?;
    Ok(Device::from(&device))
}

#[expect(
    unsafe_code,
    reason = "switches off tracking that one stream does not need, and sets a number of the memory pool"
)]
fn settle(gpu: &CudaDevice, context: &CudaContext) {
    // SAFETY: every tensor of this device is made, used and freed on the device's one stream, which keeps the order.
    unsafe { gpu.disable_event_tracking() };
    // Freed memory stays with the process: otherwise each wait for the GPU would give it back and the next step ask again.
    let mut keep = u64::MAX;
    // SAFETY: the pool belongs to the open device; the value is a u64, as this attribute takes.
    let set = unsafe {
        result::device::get_default_mem_pool(context.cu_device()).and_then(|pool| {
            let threshold = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
            sys::cuMemPoolSetAttribute(pool, threshold, (&raw mut keep).cast()).result()
        })
    };
    if let Err(err) = set {
        log::debug!("the GPU's memory pool keeps its defaults: {err}");
    }
}

#[cfg(unix)]
#[expect(unsafe_code, reason = "asks the loader for a library by name")]
fn driver() -> Result<(), Problem> {
    // SAFETY: the name is a C string; the handle is closed again and nothing is called through it.
    let found = unsafe {
        let handle = libc::dlopen(c"libcuda.so.1".as_ptr(), libc::RTLD_LAZY | libc::RTLD_LOCAL);
        !handle.is_null() && libc::dlclose(handle) == 0
    };
    if found { Ok(()) } else { Err(Problem::NoDriver("no NVIDIA driver was found (libcuda.so.1)".to_owned())) }
}

#[cfg(not(unix))]
fn driver() -> Result<(), Problem> {
    Ok(())
}

/// GPUs the driver sees.
pub fn count() -> usize {
    driver().ok().and_then(|()| CudaContext::device_count().ok()).map_or(0, |count| count.max(0) as usize)
}

/// The GPU's name and number.
pub fn name(gpu: &CudaDevice) -> String {
    let stream = gpu.cuda_stream();
    let context = stream.context();
    let name = context.name().unwrap_or_else(|_| "NVIDIA GPU".to_owned());
    format!("{name} (cuda:{})", context.ordinal())
}

/// Memory of the GPU in bytes: (free, all).
pub fn memory(gpu: &CudaDevice) -> Option<(usize, usize)> {
    gpu.cuda_stream().context().mem_get_info().ok()
}

/// Whether the device of this tensor has kernels of its own for values of its format.
pub fn has_kernels(x: &Tensor) -> bool {
    x.device().is_cuda() && format_of(x.dtype()).is_some()
}

fn gpu(device: &Device) -> Result<&CudaDevice> {
    match device.candle()? {
        candle_core::Device::Cuda(gpu) => Ok(gpu),
        _ => Err(Error::internal("a GPU kernel was given a tensor of another device")),
    }
}

fn failed(what: &str, err: &impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Device, format!("{what}: {}", first_line(err)))
}

/// The address of a contiguous tensor's first value.
pub(super) fn address(x: &Tensor) -> Result<u64> {
    let (storage, layout) = x.candle()?.storage_and_layout();
    let Some((start, _)) = layout.contiguous_offsets() else {
        return Err(Error::internal(format!("kernel needs a contiguous tensor, got strides {:?}", layout.stride())));
    };
    let Storage::Cuda(storage) = &*storage else {
        return Err(Error::internal("a GPU kernel was given a tensor of another device"));
    };
    let stream = storage.device.cuda_stream();
    let base = match &storage.slice {
        CudaStorageSlice::F32(slice) => slice.device_ptr(&stream).0,
        CudaStorageSlice::F64(slice) => slice.device_ptr(&stream).0,
        CudaStorageSlice::BF16(slice) => slice.device_ptr(&stream).0,
        CudaStorageSlice::F16(slice) => slice.device_ptr(&stream).0,
        CudaStorageSlice::I64(slice) => slice.device_ptr(&stream).0,
        CudaStorageSlice::U32(slice) => slice.device_ptr(&stream).0,
        _ => return Err(Error::internal(format!("no kernel takes {:?}", x.dtype()))),
    };
    Ok(base + (start * x.dtype().size_in_bytes()) as u64)
}

type ModuleKey = (usize, Source, Macros);

fn module(gpu: &CudaDevice, source: Source, macros: &Macros) -> Result<Arc<CudaModule>> {
    static MODULES: Mutex<BTreeMap<ModuleKey, Arc<CudaModule>>> = Mutex::new(BTreeMap::new());
    let context = gpu.cuda_stream().context().clone();
    let key = (context.ordinal(), source, macros.clone());
    let mut modules = MODULES.lock();
    if let Some(module) = modules.get(&key) {
        return Ok(module.clone());
    }
    let mut options = vec!["--gpu-architecture=compute_80".to_owned(), "--std=c++17".to_owned()];
    options.extend(macros.iter().map(|(name, value)| format!("-D{name}={value}")));
    let options = CompileOptions { options, name: Some(format!("{}.cu", source.name())), ..CompileOptions::default() };
    let what = format!("compiling the GPU's kernels ({})", source.name());
    let ptx = compile_ptx_with_opts(source.text(), options).map_err(|err| failed(&what, &err))?;
    let module = context.load_module(ptx).map_err(|err| failed(&what, &err))?;
    modules.insert(key, module.clone());
    Ok(module)
}

fn function(gpu: &CudaDevice, launch: &Launch) -> Result<CudaFunction> {
    static FUNCTIONS: Mutex<BTreeMap<(ModuleKey, &'static str), CudaFunction>> = Mutex::new(BTreeMap::new());
    let ordinal = gpu.cuda_stream().context().ordinal();
    let key = ((ordinal, launch.source, launch.macros.clone()), launch.kernel);
    if let Some(function) = FUNCTIONS.lock().get(&key) {
        return Ok(function.clone());
    }
    let module = module(gpu, launch.source, &launch.macros)?;
    let function = module.load_function(launch.kernel).map_err(|err| failed(launch.kernel, &err))?;
    FUNCTIONS.lock().insert(key, function.clone());
    Ok(function)
}

/// The one parameter of a kernel.
#[repr(transparent)]
struct Parameter(Args);
#[expect(unsafe_code, reason = "a struct of plain words")]
// SAFETY: the words come first and are laid out as the kernel's struct; the driver copies as many bytes as that has.
unsafe impl DeviceRepr for Parameter {}

/// Gives a kernel to the device.
#[expect(unsafe_code, reason = "kernels get the addresses of live tensors")]
pub(super) fn launch(device: &Device, launch: &Launch) -> Result<()> {
    if launch.is_empty() {
        return Ok(());
    }
    let gpu = gpu(device)?;
    let function = function(gpu, launch)?;
    let stream = gpu.cuda_stream();
    let [x, y, z] = launch.grid;
    let config =
        LaunchConfig { grid_dim: (x, y, z), block_dim: (launch.threads, 1, 1), shared_mem_bytes: launch.shared };
    let parameter = Parameter(launch.args);
    // SAFETY: arguments were made for this kernel by `plan`, from tensors that live until after this call; memory freed
    // afterwards is reused only behind this kernel, on the same stream.
    unsafe { stream.launch_builder(&function).arg(&parameter).launch(config) }
        .map_err(|err| failed(launch.kernel, &err))?;
    Ok(())
}

fn number(x: &Tensor) -> Result<blas_sys::cudaDataType_t> {
    match x.dtype() {
        DType::F32 => Ok(blas_sys::cudaDataType_t::CUDA_R_32F),
        DType::BF16 => Ok(blas_sys::cudaDataType_t::CUDA_R_16BF),
        DType::F16 => Ok(blas_sys::cudaDataType_t::CUDA_R_16F),
        other => Err(Error::internal(format!("no matrix product in {other:?} on the GPU"))),
    }
}

/// `c = a b (+ c)`: a and b of one format, c of that or in f32; sums in f32.
#[expect(unsafe_code, reason = "hands the addresses of live tensors to cuBLAS")]
pub(super) fn gemm(product: Product<'_>) -> Result<()> {
    let Product { m, n, k, a, b, transpose, c, add } = product;
    if m * n == 0 {
        return Ok(());
    }
    let gpu = gpu(c.device())?;
    let (kind, out_kind) = (number(a)?, number(c)?);
    if b.dtype() != a.dtype() || !(c.dtype() == a.dtype() || c.dtype() == DType::F32) {
        let formats = [a, b, c].map(Tensor::dtype);
        return Err(Error::internal(format!("matrix product of {formats:?}")));
    }
    let fits = a.elem_count() >= m * k && b.elem_count() >= k * n && c.elem_count() >= m * n;
    if !fits {
        return Err(Error::internal(format!("matrix operand too small for {m} x {n} x {k}")));
    }
    let (straight, transposed) = (blas_sys::cublasOperation_t::CUBLAS_OP_N, blas_sys::cublasOperation_t::CUBLAS_OP_T);
    // cuBLAS counts columns first: it sees the transposes of row-major matrices, and makes cᵀ = bᵀ aᵀ.
    let (op, ld) = if transpose == Transpose::Yes { (transposed, k) } else { (straight, n) };
    let (alpha, beta) = (1.0f32, if add { 1.0f32 } else { 0.0 });
    let (pa, pb, pc) = (address(a)?, address(b)?, address(c)?);
    gpu.cuda_stream().context().bind_to_thread().map_err(|err| failed("matrix product", &err))?;
    // SAFETY: the operands were checked to hold their elements, are contiguous and live until after this call.
    unsafe {
        blas::gemm_ex(
            *gpu.cublas_handle().handle(),
            op,
            straight,
            n as i32,
            m as i32,
            k as i32,
            (&raw const alpha).cast(),
            pb as *const _,
            kind,
            ld as i32,
            pa as *const _,
            kind,
            k as i32,
            (&raw const beta).cast(),
            pc as *mut _,
            out_kind,
            n as i32,
            blas_sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
            blas_sys::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT_TENSOR_OP,
        )
    }
    .map_err(|err| failed("matrix product", &err))
}
