//! Studies of a trained mixture: averages of its experts, and what each number format of an export costs.

pub mod averages;
pub mod causes;
pub mod lora_averages;
pub mod rounding;
