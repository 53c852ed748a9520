//! The GPU back end: adapters of any vendor, memory from a pool, kernels in WGSL. A leaf that knows neither tensors nor
//! models: a kernel launch is a value of addresses and sizes.
//!
//! [`Backend`] is what a device offers. [`open`] gives one that runs launches through Vulkan, Metal or DX12; [`Recording`] counts them
//! and computes nothing, which tells what a step costs without a GPU that could run it. All work of a device is done in the
//! order it is given, so memory that is given back can be taken again at once; the host waits only where it reads.

mod adapter;
mod device;
pub mod kernels;
pub mod launch;
pub mod pool;
mod recording;
mod shaders;

pub use adapter::{adapters, open};
pub use launch::{Address, Constant, Format, Launch, MatrixRole, Operand, Source};
pub use pool::{Buffer, Pool};
pub use recording::Recording;

use crate::error::Result;
use serde::Serialize;
use std::fmt;

/// What kind of processor an adapter is, the one to prefer first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AdapterKind {
    /// A graphics card with memory of its own.
    Discrete,
    /// Part of the processor's chip; shares the computer's memory.
    Integrated,
    /// A GPU of a virtual machine, or of a kind the driver does not tell.
    Virtual,
    /// A driver that computes on the processor, for tests: only used where it is named.
    Software,
}

/// What is known of an adapter.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Facts {
    /// The adapter's name.
    pub name: String,
    /// What kind of processor it is.
    pub kind: AdapterKind,
    /// Vulkan, Metal or Dx12.
    pub api: String,
    /// Name and version of the driver.
    pub driver: String,
    /// Bytes of its memory, where the driver tells.
    pub memory: Option<u64>,
    /// Largest buffer, in bytes.
    pub max_buffer: u64,
    /// Largest part of a buffer that a kernel can be given, in bytes.
    pub max_binding: u64,
    /// Memory that the threads of a workgroup share, in bytes.
    pub workgroup_memory: u32,
    /// Most threads of a workgroup.
    pub workgroup_threads: u32,
    /// Whether kernels can compute with and store 16-bit floats.
    pub f16: bool,
    /// Threads that run in step: the least and the most.
    pub subgroup: [u32; 2],
    /// What its matrix units multiply, as far as kernels use them: at most one for each format of the operands.
    pub cooperative_matrices: Vec<CooperativeMatrix>,
}

/// Square matrices that the threads of a subgroup hold together and multiply; their sums are in f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct CooperativeMatrix {
    /// Rows and columns: 8 or 16.
    pub size: u32,
    /// The format of what is multiplied.
    pub operands: Format,
}

/// What a device did since it was opened, or between two moments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Counters {
    /// Kernels launched.
    pub kernels: u64,
    /// Command lists handed to the driver.
    pub submissions: u64,
    /// Times the host waited for the device.
    pub waits: u64,
    /// Bytes brought to the device.
    pub uploaded: u64,
    /// Bytes brought back.
    pub downloaded: u64,
    /// Pieces of memory asked of the driver.
    pub allocations: u64,
    /// Floating-point operations of the kernels, as their plans count them.
    pub flops: f64,
    /// Bytes the kernels read and write at least, as their plans count them.
    pub traffic: f64,
}

/// When recorded launches are handed to the driver: early enough that the device starts at once, and in pieces short enough
/// that the desktop, which it draws too, gets its turn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ListBudget {
    launches: usize,
    flops: f64,
}

impl ListBudget {
    /// Launches of one command list.
    const LAUNCHES: usize = 256;

    /// For a device of this kind: about 30 ms of a graphics card, 8 ms of what is slower.
    pub(crate) fn of(facts: &Facts) -> Self {
        let flops = match facts.kind {
            AdapterKind::Discrete => 1.5e11,
            AdapterKind::Virtual => 2e10,
            AdapterKind::Integrated => 3e9,
            AdapterKind::Software => 1e9,
        };
        Self { launches: Self::LAUNCHES, flops }
    }

    /// Whether a list of so many launches and floating-point operations is full.
    pub(crate) fn is_full(self, launches: usize, flops: f64) -> bool {
        launches >= self.launches || flops >= self.flops
    }
}

impl Counters {
    /// What was done since `before`.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            kernels: self.kernels - before.kernels,
            submissions: self.submissions - before.submissions,
            waits: self.waits - before.waits,
            uploaded: self.uploaded - before.uploaded,
            downloaded: self.downloaded - before.downloaded,
            allocations: self.allocations - before.allocations,
            flops: self.flops - before.flops,
            traffic: self.traffic - before.traffic,
        }
    }
}

/// Memory of a device, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// In use by tensors now.
    pub used: u64,
    /// Most that was ever in use.
    pub peak: u64,
    /// Held from the driver, used or not.
    pub held: u64,
}

/// A GPU that is open. Everything given to it is done in order; an error of an earlier launch may come out of a later call.
pub trait Backend: Send + Sync + fmt::Debug {
    /// Whether kernels are run; else everything that is read is zero.
    fn computes(&self) -> bool {
        true
    }

    /// What is known of the adapter.
    fn facts(&self) -> &Facts;

    /// Memory of at least so many bytes, from the pool; its contents are whatever was there.
    ///
    /// # Errors
    /// Of kind [`Device`](crate::error::ErrorKind::Device): no memory left, or the device is lost.
    fn allocate(&self, bytes: u64) -> Result<Buffer>;

    /// Writes bytes to the device, behind everything given to it before. The address and the number of bytes are multiples
    /// of 4.
    fn upload(&self, to: Address, bytes: &[u8]) -> Result<()>;

    /// Sets bytes to zero. The address and the number of bytes are multiples of 4.
    fn clear(&self, at: Address, bytes: u64) -> Result<()>;

    /// Reads parts of memory back, each so many bytes from an address on; waits, once, until everything given to the device
    /// is done.
    fn download(&self, parts: &[(Address, u64)]) -> Result<Vec<Vec<u8>>>;

    /// Gives a kernel to the device.
    fn launch(&self, launch: &Launch) -> Result<()>;

    /// Waits until everything given to the device is done.
    fn wait(&self) -> Result<()>;

    /// Gives memory back to the driver that nothing uses.
    fn trim(&self) {}

    /// Memory in use.
    fn memory(&self) -> Memory;

    /// What was done so far.
    fn counters(&self) -> Counters;

    /// What went wrong, after which nothing the device holds can be trusted.
    fn failure(&self) -> Option<String>;
}
