//! What a line plot draws.

use crate::protocol::Quantity;
use egui::Color32;
use std::path::PathBuf;

/// Most marks drawn.
pub const MARKS: usize = 50;

/// Smallest and largest raw value at an x.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ValueRange {
    pub x: f64,
    pub min: f64,
    pub max: f64,
}

#[derive(Clone, Debug)]
pub struct Curve {
    /// Its name in the legend and when hovered.
    pub name: String,
    pub color: Color32,
    /// The line, `[x, y]`, x ascending.
    pub line: Vec<[f64; 2]>,
    /// The raw range under it; drawn as a thin line where smallest and largest are the same everywhere.
    pub ranges: Vec<ValueRange>,
    /// Draw a dot at every point (evaluations).
    pub dots: bool,
    pub dashed: bool,
    /// Drawn wider than the others.
    pub strong: bool,
    /// In the legend; single runs of a mean are not.
    pub listed: bool,
    /// The run directory and the quantity that are drawn, where they are recorded.
    pub source: Option<(PathBuf, Quantity)>,
}

impl Curve {
    pub fn line(name: impl Into<String>, color: Color32, line: Vec<[f64; 2]>) -> Self {
        Self {
            name: name.into(),
            color,
            line,
            ranges: Vec::new(),
            dots: false,
            dashed: false,
            strong: false,
            listed: true,
            source: None,
        }
    }
}

/// A vertical line at an event.
#[derive(Clone, Debug)]
pub struct EventLine {
    pub x: f64,
    pub name: String,
    pub color: Color32,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct PlotOptions<'a> {
    /// What is drawn, with its unit: the title of a saved picture.
    pub title: &'a str,
    /// Height in points.
    pub height: f32,
    /// Logarithmic value axis; values at or below 0 are left out.
    pub log: bool,
    /// A legend above the plot, whose entries hide and show the curves.
    pub legend: bool,
    /// Smallest and largest value that there can be; the axis ends there. Absent: any.
    pub limits: Option<[f64; 2]>,
    /// Plots with the same name zoom and point together along x.
    pub link: Option<&'static str>,
    /// What the x-axis counts, with its unit; absent: steps.
    pub x: Option<&'static str>,
    /// Logarithmic x-axis; values at or below 0 are left out.
    pub log_x: bool,
}

impl PlotOptions<'_> {
    /// What the x-axis counts, with its unit.
    pub fn x_name(&self) -> &'static str {
        self.x.unwrap_or("step")
    }
}
