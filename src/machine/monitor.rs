//! How busy this computer is: processor and memory, asked again and again.

use crate::gpu::pool;
use crate::machine::facts;
use crate::protocol::MachineSample;
use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};

/// Asks the system.
pub struct Monitor {
    system: Option<System>,
    /// The first sample has no earlier one to compare with.
    asked: bool,
}

impl Default for Monitor {
    fn default() -> Self {
        Self::new()
    }
}

impl Monitor {
    /// Nothing is asked yet.
    pub fn new() -> Self {
        let cpu = CpuRefreshKind::nothing().with_usage();
        let kinds = RefreshKind::nothing().with_cpu(cpu).with_memory(MemoryRefreshKind::nothing().with_ram());
        Self { system: System::new_with_specifics(kinds).ok(), asked: false }
    }

    /// How busy the computer is now.
    pub fn sample(&mut self) -> MachineSample {
        let own = facts::resident_memory();
        let own_memory = (own > 0).then_some(own);
        let own_gpu_memory = pool::held_by_process();
        let Some(system) = &mut self.system else {
            return MachineSample { own_memory, own_gpu_memory, ..MachineSample::default() };
        };
        system.refresh_cpu_usage();
        system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
        let known = |bytes: u64| (bytes > 0).then_some(bytes);
        let usage = f64::from(system.global_cpu_usage()) / 100.0;
        let processor = std::mem::replace(&mut self.asked, true).then_some(usage.clamp(0.0, 1.0));
        MachineSample {
            processor: processor.filter(|share| share.is_finite()),
            memory: known(system.used_memory()),
            memory_total: known(system.total_memory()),
            own_memory,
            own_gpu_memory,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_possible_and_of_this_computer() {
        let mut monitor = Monitor::new();
        let first = monitor.sample();
        assert_eq!(first.processor, None, "there is nothing to compare it with");
        let second = monitor.sample();
        assert!(second.processor.is_none_or(|share| (0.0..=1.0).contains(&share)));
        if let (Some(own), Some(total)) = (second.own_memory, second.memory_total) {
            assert!(own > 0 && own <= total);
        }
    }
}
