//! The heart: banks of experts, routing, consistency, merging. Symbols as in the paper.
//!
//! | paper | here |
//! |---|---|
//! | M, number of adaptation modules | `num_experts` |
//! | r, bottleneck | `adapter_size` |
//! | d, hidden size | `hidden_size` |
//! | W^D, b^D (down-projection) | `down` |
//! | W^U, b^U (up-projection) | `up` |
//! | LoRA's rank, A, B, alpha / r | `lora_rank`, `a`, `b`, `scale` |
//! | λ, weight of the consistency term | `consistency_weight` |
//! | A and B, the two stochastic passes | pass 0 and pass 1 |

pub mod adapter;
pub mod bank;
pub mod consistency;
pub mod init;
pub mod lora;
pub mod merging;
pub mod routing;

pub use adapter::{Adapter, AdapterMixture};
pub use bank::Bank;
pub use lora::{Lora, LoraMixture};
pub use merging::MergeWeights;
pub use routing::{Pick, Route, RouteShape, RowMap, SIDES, Side};
