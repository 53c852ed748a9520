//! Weights of the experts that are dragged: the score of a pinned probe set, from what the layers below keep.

use crate::eval::Scores;
use crate::protocol::MergePlan;
use serde::{Deserialize, Serialize};

/// Parameters of a dragged merge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReweighPlan {
    /// The weights; only means of factors ([`MergePlan::is_weights`]).
    pub merge: MergePlan,
    /// Evaluation rows of the probe set, evenly spread; 0: all.
    pub probe_rows: usize,
}

impl ReweighPlan {
    /// Rows that answer at once.
    pub const PROBE_ROWS: usize = 256;
}

/// The score of the probe set.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ReweighReport {
    /// The weights.
    pub merge: MergePlan,
    /// Name of the deciding metric.
    pub metric: String,
    /// The scores on the probe rows.
    pub scores: Scores,
    /// The uniform mean on the same rows.
    pub uniform: Scores,
    /// Probe rows.
    pub rows: usize,
    /// Layers that ran, batch by batch counted; an adapter alone is no layer.
    pub layer_passes: usize,
    /// Layers that a fresh evaluation runs.
    pub all_layer_passes: usize,
    /// Bytes of the layers' inputs that are kept.
    pub kept_bytes: u64,
    /// Wall-clock seconds.
    pub seconds: f64,
}
