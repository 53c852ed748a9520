//! Time of the last training steps by phase.

use crate::nn::profile::{PHASES, Phase};

/// The mean over consecutive training steps; the phases do not overlap.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StepProfile {
    /// The last of these steps.
    pub step: u64,
    /// Number of steps.
    pub steps: u32,
    /// Seconds per step, in the order of [`PHASES`].
    pub seconds: [f32; PHASES.len()],
}

impl StepProfile {
    /// Seconds per step of one phase.
    pub fn of(&self, phase: Phase) -> f32 {
        self.seconds[phase as usize]
    }
    /// Seconds per step.
    pub fn total(&self) -> f32 {
        self.seconds.iter().sum()
    }
}
