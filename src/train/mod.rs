//! The training loop: step, loss, optimizer, schedule, trainer. Read [`step`] first: the whole algorithm is there.

pub mod control;
pub mod gradient_health;
pub mod loss;
pub mod observer;
pub mod optimizer;
pub mod samples;
pub mod schedule;
pub mod step;
pub mod subject;
pub mod trainable;
pub mod trainer;

pub use control::Control;
pub use observer::{NullObserver, Observer};
pub use optimizer::AdamW;
pub use subject::Subject;
pub use trainable::Trainable;
pub use trainer::Trainer;
