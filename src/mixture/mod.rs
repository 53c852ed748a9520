//! Banks of experts, routing, consistency, merging. Symbols of the paper: M (experts) is `num_experts`, r (bottleneck)
//! `adapter_size`, d `hidden_size`; W^D, b^D and W^U, b^U are `down` and `up`; LoRA's rank, A, B and alpha / r are
//! `lora_rank`, `a`, `b` and `scale`; λ is `consistency_weight`; the two stochastic passes A and B are pass 0 and 1.
//!
//! An *adapted module* (PEFT's word) is one place of the network with a mixture: the adapter of a layer, or the LoRA on one
//! target matrix of a layer. Names and shapes call it `site`: its number, counted from the lowest layer up.

pub mod adapter;
pub mod bank;
pub mod consistency;
pub mod elementwise;
pub mod init;
pub mod lora;
pub mod merged;
pub mod merging;
pub mod routing;
mod tap;

pub use adapter::{Adapter, AdapterMixture};
pub use bank::Bank;
pub use lora::{Lora, LoraMixture};
pub use merged::MergedModule;
pub use merging::MergeWeights;
pub use routing::{Pick, Route, RouteShape, RowMap, SIDES, Side};
pub use tap::Tap;
