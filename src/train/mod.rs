//! The training loop: step, loss, optimizer, schedule, trainer. Read [`step`] first: the whole algorithm is there.

pub mod checkpoint;
pub mod control;
pub mod gradient_health;
pub mod law;
pub mod loss;
pub mod model_and_data;
pub mod observer;
pub mod optimizer;
pub mod reroll;
pub mod samples;
pub mod schedule;
pub mod step;
pub mod trainable;
pub mod trainer;

pub use control::Control;
pub use model_and_data::ModelAndData;
pub use observer::{NullObserver, Observer};
pub use optimizer::AdamW;
pub use trainable::Trainable;
pub use trainer::Trainer;
