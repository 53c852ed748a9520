//! Dropout masks as a function of the seed, the micro-batch and the place in the network.

use crate::nn::Dropout;
use crate::rng::{Purpose, SeedStream};

/// Where dropout masks of one forward come from. The same value gives the same masks.
#[derive(Clone, Copy, Debug)]
pub struct DropKeys {
    base: u64,
}

impl DropKeys {
    /// Of training micro-batch number `index`.
    pub fn new(seed: SeedStream, index: u64) -> Self {
        Self { base: seed.stream(Purpose::Dropout, index).next_u64() }
    }
    /// The dropout at one place of the network.
    pub fn at(self, place: u64, p: f64) -> Dropout {
        if p > 0.0 {
            Dropout::new(self.base.wrapping_add((place + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)), p)
        } else {
            Dropout::none()
        }
    }
}
