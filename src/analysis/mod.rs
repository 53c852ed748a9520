//! Statistics on host data: experts and their similarity, routes and what they cause, averages, what rounding costs, paired
//! differences and calibration, what a comparison says.

pub mod averages;
pub mod calibration;
pub mod causes;
pub mod directions;
pub mod expert_stats;
pub mod heat_map;
pub mod paired;
pub mod plane;
pub mod residuals;
pub mod rounding;
pub mod routing_stats;
pub mod run_groups;
pub mod spectrum;
pub mod verdict;
