//! The draws of a run step by step, for the route map.

pub use crate::analysis::timeline::{Layout, RouteFit, RouteTimeline, StepRows};
pub use crate::artifact::recorded_steps::StepPlace;
use std::path::PathBuf;

/// A question about recorded draws; answered one after the other, beside training and queries.
#[derive(Clone, Debug, PartialEq)]
pub enum RoutesAsk {
    /// Read the next part of a run's record: [`RoutesAnswer::Part`].
    Read(ReadRoutes),
    /// The disagreement of the passes against the layers in which they differ: [`RoutesAnswer::Fit`].
    Fit {
        /// The draws; its memory is shared, not copied.
        timeline: RouteTimeline,
        /// Steps up to this one do not count.
        after: u64,
    },
}

/// Where to go on reading.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadRoutes {
    /// The run directory.
    pub dir: PathBuf,
    /// The place; the default one is the start.
    pub from: StepPlace,
    /// What the run can draw, as the first part said it; absent: not known yet.
    pub layout: Option<Layout>,
}

/// The answer to a [`RoutesAsk`].
#[derive(Clone, Debug, PartialEq)]
pub enum RoutesAnswer {
    /// To [`RoutesAsk::Read`].
    Part(RoutesPart),
    /// To [`RoutesAsk::Fit`].
    Fit(RouteFit),
}

/// A part of a run's record.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RoutesPart {
    /// The run directory.
    pub dir: PathBuf,
    /// What the run can draw.
    pub layout: Layout,
    /// The steps, oldest first; at most some thousand.
    pub rows: StepRows,
    /// Where the next part begins.
    pub next: StepPlace,
    /// The record is another one than before, or was cut: forget the earlier parts; this one begins at the start.
    pub restarted: bool,
    /// Whether more is recorded already.
    pub more: bool,
    /// Share of the record that is read, 0 to 1.
    pub share: f64,
}
