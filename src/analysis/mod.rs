//! Numbers for the inspector: similarity, distances, averages, what rounding costs.

pub mod averages;
pub mod rounding;
pub mod routing_stats;
