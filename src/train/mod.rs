//! The training loop: step, loss, optimizer, schedule, trainer, checkpoints.

pub mod control;
pub mod loss;
pub mod observer;
pub mod optimizer;
pub mod schedule;
