//! Pieces that know nothing of this program but its colours.

pub mod cards;
pub mod confirm;
pub mod heatmap;
pub mod labeled;
pub mod metric_plot;
