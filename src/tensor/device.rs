//! Where a tensor's values lie and are computed with.

use super::gpu_tensor::Gpu;
use crate::error::{Error, Result};
use std::fmt;
use std::sync::Arc;

/// A device.
#[derive(Clone, Debug)]
pub enum Device {
    /// The processor and its memory.
    Cpu,
    /// An NVIDIA GPU through CUDA; only made with the feature `cuda`.
    Cuda(Arc<candle_core::Device>),
    /// A GPU of any vendor, with kernels of our own.
    Gpu(Gpu),
}

impl Device {
    /// Whether this is the processor.
    pub fn is_cpu(&self) -> bool {
        matches!(self, Self::Cpu)
    }

    /// Whether this is an NVIDIA GPU that is used through CUDA.
    pub fn is_cuda(&self) -> bool {
        matches!(self, Self::Cuda(_))
    }

    /// Whether this is a GPU with kernels of our own.
    pub fn is_gpu(&self) -> bool {
        matches!(self, Self::Gpu(_))
    }

    /// By how many powers of two numbers in f16 have to be larger than there to be kept: 10 where the device takes those for zero
    /// that are stored with fewer bits.
    pub fn f16_shift(&self) -> u32 {
        match self {
            Self::Gpu(gpu) if !gpu.narrowing().keeps_small => 10,
            _ => 0,
        }
    }

    /// Waits until everything that was given to the device is computed.
    pub fn synchronize(&self) -> Result<()> {
        match self {
            Self::Cpu => Ok(()),
            Self::Cuda(device) => Ok(device.synchronize()?),
            Self::Gpu(gpu) => gpu.synchronize(),
        }
    }

    /// Whether both are the same device.
    pub fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Cpu, Self::Cpu) => true,
            (Self::Cuda(a), Self::Cuda(b)) => a.same_device(b),
            (Self::Gpu(a), Self::Gpu(b)) => a.same(b),
            _ => false,
        }
    }

    /// candle's device; an error where it has none.
    pub(crate) fn candle(&self) -> Result<&candle_core::Device> {
        match self {
            Self::Cpu => Ok(&candle_core::Device::Cpu),
            Self::Cuda(device) => Ok(device),
            Self::Gpu(_) => Err(Error::internal(format!("candle has no device {self}"))),
        }
    }
}

impl From<&candle_core::Device> for Device {
    fn from(device: &candle_core::Device) -> Self {
        if device.is_cpu() { Self::Cpu } else { Self::Cuda(Arc::new(device.clone())) }
    }
}

/// As in the settings: `cpu`, `cuda:0`, `gpu:0`.
impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(device) => match device.location() {
                candle_core::DeviceLocation::Cuda { gpu_id } => write!(f, "cuda:{gpu_id}"),
                other => write!(f, "{other:?}"),
            },
            Self::Gpu(gpu) => write!(f, "gpu:{}", gpu.index()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_is_one_device() {
        let cpu = Device::from(&candle_core::Device::Cpu);
        assert!(cpu.is_cpu() && !cpu.is_cuda() && !cpu.is_gpu() && cpu.same(&Device::Cpu));
        assert!(cpu.candle().is_ok_and(candle_core::Device::is_cpu) && cpu.synchronize().is_ok());
        assert_eq!(cpu.to_string(), "cpu");
    }
}
