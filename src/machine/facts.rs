//! This computer: cores, instructions, memory, free disk space, and its rate of matrix products.

use crate::error::Result;
use crate::nn::kernels::gemm;
use crate::tensor::{DType, Device, Tensor};
use mimalloc as _; // linked for `keep_freed_memory` also where a program keeps the system's allocator
use serde::Serialize;
use std::path::Path;
use std::time::{Duration, Instant};
use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};

/// What is known without measuring.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Operating system and architecture, such as `linux x86_64`.
    pub system: String,
    /// The processor's own name, where the system tells it.
    pub processor: String,
    /// Cores this process may use.
    pub cores: usize,
    /// Vector instructions that the kernels know and this processor has.
    pub instructions: Vec<&'static str>,
    /// Memory this process may use, in bytes; container limits counted.
    pub memory: Option<u64>,
    /// Of these, free at this moment.
    pub memory_free: Option<u64>,
    /// GPU libraries this build was made with.
    pub gpu_features: Vec<&'static str>,
}

/// Looks at this computer.
pub fn machine() -> Machine {
    let (memory, processor) = (MemoryRefreshKind::nothing().with_ram(), CpuRefreshKind::nothing());
    let known = System::new_with_specifics(RefreshKind::nothing().with_memory(memory).with_cpu(processor)).ok();
    // Memory that the control group still has free counts the page cache as taken, so only its limit is used.
    let limit = known.as_ref().and_then(System::cgroup_limits).map_or(u64::MAX, |limits| limits.total_memory);
    let bytes = |of: fn(&System) -> u64| known.as_ref().map(of).filter(|&bytes| bytes > 0).map(|own| own.min(limit));
    Machine {
        system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        processor: known
            .as_ref()
            .and_then(|known| known.cpus().first())
            .map_or_else(String::new, |cpu| cpu.brand().trim().to_owned()),
        cores: cores(),
        instructions: instructions(),
        memory: bytes(System::total_memory),
        memory_free: bytes(System::available_memory),
        gpu_features: if cfg!(feature = "cuda") { vec!["cuda"] } else { Vec::new() },
    }
}

/// Cores this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// A pool of `threads` compute threads; 0 means every core less `spare`, at least one.
pub fn pool(threads: usize, spare: usize) -> Result<rayon::ThreadPool> {
    let threads = if threads > 0 { threads } else { cores().saturating_sub(spare).max(1) };
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|index| format!("adamix-compute-{index}"))
        .build()
        .map_err(|err| crate::error::Error::internal(format!("{threads} compute threads cannot be started: {err}")))
}

/// Makes mimalloc, where it is the program's allocator, keep freed memory for a minute: without it the page faults of a
/// step's activations take a fifth of its time.
#[expect(unsafe_code, reason = "sets one number of the allocator's options")]
pub fn keep_freed_memory() {
    const PURGE_DELAY: std::ffi::c_int = 15; // mi_option_purge_delay
    const MILLISECONDS: std::ffi::c_long = 60_000;
    unsafe extern "C" {
        fn mi_option_set(option: std::ffi::c_int, value: std::ffi::c_long);
    }
    // SAFETY: mimalloc is linked, and takes any number at any time.
    unsafe { mi_option_set(PURGE_DELAY, MILLISECONDS) }
}

/// Largest memory this process has held so far, in bytes; 0 where the system does not tell.
pub fn peak_memory() -> u64 {
    #[cfg(target_os = "linux")]
    if let Ok(status) = std::fs::read_to_string("/proc/self/status")
        && let Some(bytes) = kilobytes(&status, "VmHWM:")
    {
        return bytes;
    }
    peak_memory_of_rusage()
}

/// Forgets the largest memory so far: from now on [`peak_memory`] tells what came after. False where the system cannot.
pub fn reset_peak_memory() -> bool {
    cfg!(target_os = "linux") && std::fs::write("/proc/self/clear_refs", "5").is_ok()
}

/// Memory this process holds now, in bytes; where the system does not tell, the most it has held.
pub fn resident_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    kilobytes(&status, "VmRSS:").unwrap_or_else(peak_memory)
}

/// Processor time of the calling thread so far; `None` where the system does not tell.
#[cfg(unix)]
#[expect(unsafe_code, reason = "clock_gettime fills the zeroed struct it is given and keeps no pointer")]
pub fn thread_time() -> Option<Duration> {
    // SAFETY: timespec is plain old data, valid when all zero, and clock_gettime only writes into it.
    let (status, time) = unsafe {
        let mut time: libc::timespec = std::mem::zeroed();
        (libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time), time)
    };
    (status == 0).then(|| Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0)))
}

/// Processor time of the calling thread so far; `None`: this system does not tell.
#[cfg(not(unix))]
pub fn thread_time() -> Option<Duration> {
    None
}

#[cfg(unix)]
#[expect(unsafe_code, reason = "getrusage fills the zeroed struct it is given and keeps no pointer")]
fn peak_memory_of_rusage() -> u64 {
    // SAFETY: rusage is plain old data, valid when all zero, and getrusage only writes into it.
    let (status, usage) = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        (libc::getrusage(libc::RUSAGE_SELF, &raw mut usage), usage)
    };
    let unit = if cfg!(target_vendor = "apple") { 1 } else { 1024 };
    if status == 0 { usage.ru_maxrss as u64 * unit } else { 0 }
}

#[cfg(not(unix))]
fn peak_memory_of_rusage() -> u64 {
    0
}

/// Free bytes for this user on the disk that holds `path` (or its nearest existing parent).
pub fn disk_free(path: &Path) -> Option<u64> {
    let existing = path.ancestors().find(|parent| parent.exists()).filter(|parent| !parent.as_os_str().is_empty());
    fs4::available_space(existing.unwrap_or(Path::new("."))).ok()
}

/// [`gemm_rate`] of f32, for callers that know no tensors.
pub fn f32_gemm_rate(seconds: f64) -> Result<f64> {
    gemm_rate(DType::F32, seconds)
}

/// FLOP/s of matrix products of 1,024 x 768 x 3,072 (RoBERTa-base's feed-forward layer) with weights stored as `dtype`:
/// the best of several in about `seconds`, with our own kernels or candle's.
pub fn gemm_rate(dtype: DType, seconds: f64) -> Result<f64> {
    let (rows, inner, columns) = (1024, 768, 3072);
    let ones = |shape: (usize, usize), dtype| Tensor::ones(shape, dtype, &Device::Cpu);
    // The left operand in the activations' format.
    let activation_dtype = if dtype == DType::BF16 && gemm::multiplies_bf16() { dtype } else { DType::F32 };
    let left = ones((rows, inner), activation_dtype)?;
    let (weight, right) = (ones((columns, inner), dtype)?, ones((inner, columns), DType::F32)?);
    let work = 2.0 * (rows * inner * columns) as f64;
    let ours = || gemm::linear(&left, &weight, None);
    let candle = || left.matmul(&right);
    let both: [&dyn Fn() -> Result<Tensor>; 2] = [&ours, &candle];
    Ok(work / fastest(if dtype == DType::F32 { &both } else { &both[..1] }, seconds)?)
}

/// Seconds of the fastest of these products, which are repeated for about `seconds`.
pub(super) fn fastest(products: &[&dyn Fn() -> Result<Tensor>], seconds: f64) -> Result<f64> {
    let (start, mut best) = (Instant::now(), f64::INFINITY);
    while start.elapsed().as_secs_f64() < seconds || best.is_infinite() {
        for product in products {
            let once = Instant::now();
            product()?;
            best = best.min(once.elapsed().as_secs_f64());
        }
    }
    Ok(best.max(1e-9))
}

fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

#[cfg(target_arch = "x86_64")]
fn instructions() -> Vec<&'static str> {
    let known = [
        ("avx2", std::is_x86_feature_detected!("avx2")),
        ("fma", std::is_x86_feature_detected!("fma")),
        ("avx512f", std::is_x86_feature_detected!("avx512f")),
        ("avx512bf16", std::is_x86_feature_detected!("avx512bf16")),
    ];
    known.into_iter().filter_map(|(name, present)| present.then_some(name)).collect()
}

#[cfg(not(target_arch = "x86_64"))]
fn instructions() -> Vec<&'static str> {
    if cfg!(target_arch = "aarch64") { vec!["neon"] } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_computer_has_a_core_and_some_memory_is_in_use() {
        let machine = machine();
        assert!(machine.cores >= 1);
        if cfg!(target_os = "linux") {
            assert!(machine.memory > machine.memory_free);
            let peak = peak_memory();
            assert!(peak > 1_000_000 && peak < 1 << 50, "{peak}");
            let now = resident_memory();
            assert!(now > 1_000_000 && now <= peak_memory(), "{now}");
            let rusage = peak_memory_of_rusage();
            assert!(rusage > 1_000_000 && rusage < 1 << 50, "{rusage}");
            assert!(disk_free(Path::new("/no/such/directory")).is_some());
        }
    }

    #[test]
    #[cfg(unix)]
    fn a_thread_s_time_is_its_own_and_grows_with_its_work() {
        let before = thread_time().unwrap();
        let sum: f64 = (0..2_000_000).map(|i| f64::from(i).sqrt()).sum();
        assert!(sum > 0.0 && thread_time().unwrap() > before);
    }

    #[test]
    fn a_pool_has_the_threads_asked_for() {
        assert_eq!(pool(3, 1).unwrap().current_num_threads(), 3);
        assert_eq!(pool(0, 10_000).unwrap().current_num_threads(), 1);
    }

    #[test]
    fn lines_of_proc_files_are_read() {
        let text = "MemTotal:       16 kB\nMemAvailable:    4 kB\n";
        assert_eq!(kilobytes(text, "MemAvailable:"), Some(4096));
        assert_eq!(kilobytes(text, "SwapTotal:"), None);
    }
}
