//! Which expert runs where in one forward pass, as plain data.

use serde::{Deserialize, Serialize};

/// The two projections of a module: a bottleneck adapter's, or LoRA's A and B.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// W^D or A: hidden to bottleneck.
    Down,
    /// W^U or B: bottleneck to hidden.
    Up,
}

/// Both sides, in storage order.
pub const SIDES: [Side; 2] = [Side::Down, Side::Up];

/// The experts of one side of one adapted module in one pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pick {
    /// One expert for the whole batch.
    One(u8),
    /// One expert for each sequence. `[sequences]`
    PerExample(Vec<u8>),
    /// One expert for each token. `[tokens]`
    PerToken(Vec<u8>),
}

/// All picks of one forward of a batch: `passes` x modules x 2 sides, in that order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Forward passes that go through the network as one batch (2 with consistency).
    pub passes: usize,
    /// Adapted modules.
    pub sites: usize,
    /// `picks[(pass * sites + site) * 2 + side]`.
    pub picks: Vec<Pick>,
}

impl Route {
    /// The pick of one side.
    pub fn pick(&self, pass: usize, site: usize, side: Side) -> &Pick {
        &self.picks[(pass * self.sites + site) * 2 + side as usize]
    }
}
