//! Statistics on host data: experts and their similarity, routes, averages, what rounding costs.

pub mod averages;
pub mod expert_stats;
pub mod rounding;
pub mod routing_stats;
