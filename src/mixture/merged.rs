//! What the experts of an adapted module become, whatever way of merging made it.

use super::{Adapter, Lora, Tap};

/// What the experts of one adapted module became.
#[derive(Clone, Debug)]
pub enum MergedModule {
    /// One adapter.
    Adapter(Adapter),
    /// One LoRA.
    Lora(Lora),
}

impl MergedModule {
    /// The bottleneck, or the rank.
    pub fn width(&self) -> usize {
        match self {
            Self::Adapter(adapter) => adapter.width(),
            Self::Lora(lora) => lora.rank(),
        }
    }

    /// The same module, which also keeps what it reads.
    #[must_use]
    pub fn tapped(&self, tap: &Tap) -> Self {
        match self {
            Self::Adapter(adapter) => Self::Adapter(adapter.tapped(tap)),
            Self::Lora(lora) => Self::Lora(lora.tapped(tap)),
        }
    }
}
