//! The training loop: step, loss, optimizer, schedule, trainer, checkpoints.

pub mod observer;
