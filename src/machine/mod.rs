//! What this machine is and can do: devices, processor and memory, estimates of a run's memory, the self-test.

pub mod device;
pub mod estimate;
pub mod facts;
pub mod gpu_tiles;
pub mod memory;
pub mod monitor;
pub mod selftest;
