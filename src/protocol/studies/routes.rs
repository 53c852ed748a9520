//! All routes of a small mixture, or some of a large one, on the same evaluation rows.

use crate::mixture::Side;
use serde::{Deserialize, Serialize};

/// How many routes on how many rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoutesPlan {
    /// So many random routes; absent: all, where there are at most [`RoutesPlan::ALL`], else [`RoutesPlan::SAMPLED`].
    pub routes: Option<usize>,
    /// Evaluation rows.
    pub probe_rows: usize,
}

impl RoutesPlan {
    /// Most routes that are all measured.
    pub const ALL: usize = 4096;
    /// Random routes of a mixture with more, unless others are asked for.
    pub const SAMPLED: usize = 64;
    /// Rows unless others are asked for.
    pub const PROBE_ROWS: usize = 256;
}

impl Default for RoutesPlan {
    fn default() -> Self {
        Self { routes: None, probe_rows: Self::PROBE_ROWS }
    }
}

/// What is drawn: one side of one adapted module.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RouteFactor {
    /// Name of the adapted module, such as `layers.3.ffn`.
    pub module: String,
    /// Its side.
    pub side: Side,
    /// Effect of each expert on the loss, against the mean of all; they add up to 0. Empty where the routes do not determine
    /// it. `[M]`
    pub effects: Vec<f64>,
    /// Share of the variance of the loss over all routes, interactions shared equally; all shares add up to 1. Absent of a
    /// sample, or where nothing varies.
    pub share: Option<f64>,
}

/// One route.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct MeasuredRoute {
    /// The expert of each of [`RoutesReport::factors`].
    pub experts: Vec<u8>,
    /// Mean loss over the rows.
    pub loss: f64,
    /// What the sum of the effects says; absent where they are not known.
    pub predicted: Option<f64>,
}

/// Many routes.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RoutesReport {
    /// How many routes there are, that differ in effect; absent: more than can be counted.
    pub possible: Option<u64>,
    /// Whether all of them were measured.
    pub all: bool,
    /// What is drawn, with its effects.
    pub factors: Vec<RouteFactor>,
    /// The routes.
    pub routes: Vec<MeasuredRoute>,
    /// Mean of their losses.
    pub mean: f64,
    /// Standard deviation of their losses; of a sample with n - 1 degrees of freedom.
    pub sd: f64,
    /// Smallest and largest of them.
    pub range: [f64; 2],
    /// Loss of the merged model.
    pub merged: f64,
    /// Routes with a smaller loss than the merged model.
    pub below_merged: usize,
    /// Loss of the mean of all routes' probabilities (of values, for regression).
    pub ensemble: f64,
    /// Share of the variance over the routes that the sum of the effects explains; of a sample corrected for their number.
    /// Absent where nothing varies or the effects are not known.
    pub explained: Option<f64>,
    /// Whether the losses are squared errors, not nats.
    pub squared_error: bool,
    /// Evaluation rows.
    pub probe_rows: usize,
    /// Layers that each row went through for the routes,
    pub layer_passes: usize,
    /// and as many they would have been one route at a time.
    pub without_sharing: usize,
    /// Wall-clock seconds.
    pub seconds: f64,
}
