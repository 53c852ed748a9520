//! How busy the computer is at one moment.

/// How busy the computer is at one moment. Absent: not known on this system.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MachineSample {
    /// Share of all processor cores in use since the sample before, 0 to 1.
    pub processor: Option<f64>,
    /// Bytes of memory in use by all programs.
    pub memory: Option<u64>,
    /// Bytes of memory there are.
    pub memory_total: Option<u64>,
    /// Bytes of memory in use by this program.
    pub own_memory: Option<u64>,
    /// Bytes of GPU memory that this program holds; absent where it uses no GPU.
    pub own_gpu_memory: Option<u64>,
}
