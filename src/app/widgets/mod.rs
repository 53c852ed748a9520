//! Widgets that depend on the theme only.

pub mod cards;
pub mod cell_grid;
pub mod column_plot;
pub mod confirm;
pub mod dot_plot;
pub mod heatmap;
pub mod labeled;
pub mod legend;
pub mod listing;
pub mod metric_plot;
pub mod stacked_bar;
pub mod verdict;
