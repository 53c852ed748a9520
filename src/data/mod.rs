//! From files to packed batches: readers, tasks, tokenizing, seeded restartable batches.

pub mod batch;

pub use batch::{Batch, Labels};
