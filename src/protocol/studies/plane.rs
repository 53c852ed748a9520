//! The loss on a plane through three points of the mixture's weights.

pub use crate::analysis::plane::{Barrier, OnPlane};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Places on a straight line between two points, both included.
const PLACES: usize = 11;

/// Weights of all adapted modules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum PlanePoint {
    /// This expert in every module.
    Expert(usize),
    /// All experts merged, as the run merges.
    Merged,
    /// The same merge of the weights before the first step.
    Start,
}

impl fmt::Display for PlanePoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expert(expert) => write!(f, "{expert}"),
            Self::Merged => f.write_str("merged"),
            Self::Start => f.write_str("start"),
        }
    }
}

impl From<PlanePoint> for String {
    fn from(point: PlanePoint) -> Self {
        point.to_string()
    }
}

impl TryFrom<String> for PlanePoint {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl FromStr for PlanePoint {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            "merged" => Ok(Self::Merged),
            "start" => Ok(Self::Start),
            number => number
                .parse()
                .map(Self::Expert)
                .map_err(|_| format!("{text:?} is no point; choose the number of an expert, merged or start")),
        }
    }
}

/// Parameters of the study of the plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanePlan {
    /// The three points that span it.
    pub points: [PlanePoint; 3],
    /// Places along each side of the field, 3 to [`PlanePlan::MOST`].
    pub grid: usize,
    /// Most evaluation rows that the loss is the mean of.
    pub probe_rows: usize,
}

impl PlanePlan {
    /// Places along each side unless something else is said.
    pub const GRID: usize = 15;
    /// Most places along each side.
    pub const MOST: usize = 61;
    /// Rows unless something else is said.
    pub const PROBE_ROWS: usize = 128;

    /// Two experts and the merged model; of two experts, between which the merged model lies, the start instead.
    pub fn of(experts: usize) -> Self {
        let third = if experts > 2 { PlanePoint::Merged } else { PlanePoint::Start };
        let points = [PlanePoint::Expert(0), PlanePoint::Expert(1), third];
        Self { points, grid: Self::GRID, probe_rows: Self::PROBE_ROWS }
    }

    /// The straight lines that are followed: between each two points, and from each to the merged model.
    pub fn lines(&self) -> Vec<[PlanePoint; 2]> {
        let [a, b, c] = self.points;
        let merged = PlanePoint::Merged;
        let through = self.points.into_iter().filter(|_| !self.points.contains(&merged)).map(|point| [point, merged]);
        [[a, b], [a, c], [b, c]].into_iter().chain(through).collect()
    }

    /// Passes over the rows: the field, every expert, merged and start, and the inner places of the lines.
    pub fn forwards(&self, experts: usize) -> usize {
        self.grid * self.grid + experts + 2 + self.lines().len() * (PLACES - 2)
    }

    /// Places on a straight line, both ends included.
    pub fn places() -> usize {
        PLACES
    }
}

/// A point with its place and what was measured there.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PlaneMark {
    /// Which point.
    pub point: PlanePoint,
    /// Where it lies.
    #[serde(flatten)]
    pub place: OnPlane,
    /// Its mean loss.
    pub loss: f64,
    /// Standard error of the mean over the rows.
    pub standard_error: f64,
    /// Share of right answers, where there are any.
    pub accuracy: Option<f64>,
}

/// What lies on the straight line between two points.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PlaneLine {
    /// Where it begins.
    pub from: PlanePoint,
    /// Where it ends.
    pub to: PlanePoint,
    /// Losses at evenly spread places, both ends included.
    pub losses: Vec<f64>,
    /// The highest place above the line that joins the losses of both ends.
    pub barrier: Barrier,
}

/// Where one expert was at the recorded steps.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PlanePath {
    /// The expert.
    pub expert: usize,
    /// Steps, ascending; 0 is the start.
    pub steps: Vec<u64>,
    /// Where it was, projected onto the plane.
    pub places: Vec<OnPlane>,
}

/// The loss on a plane. Coordinates are distances of weights (Frobenius norm of all adapted modules); the head stays as it is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PlaneReport {
    /// Steps done at the checkpoint, whose experts these are.
    pub step: u64,
    /// The points that span the plane.
    pub points: [PlanePoint; 3],
    /// Every expert, merged and start.
    pub marks: Vec<PlaneMark>,
    /// Places along each side.
    pub grid: usize,
    /// Ends of the field along the first axis, from the first point to the second.
    pub x: [f64; 2],
    /// Ends of the field along the second axis.
    pub y: [f64; 2],
    /// Mean losses, row by row from the lowest y, x ascending. `[grid * grid]`
    pub losses: Vec<f64>,
    /// Shares of right answers; absent for regression. `[grid * grid]`
    pub accuracy: Option<Vec<f64>>,
    /// Straight lines with their barriers.
    pub lines: Vec<PlaneLine>,
    /// Paths of the experts over the checkpoints up to this step.
    pub paths: Vec<PlanePath>,
    /// Evaluation rows that were measured.
    pub probe_rows: usize,
    /// Passes over these rows.
    pub forwards: usize,
    /// Wall-clock seconds.
    pub seconds: f64,
}

impl PlaneReport {
    /// The mark of a point.
    pub fn mark(&self, point: PlanePoint) -> Option<&PlaneMark> {
        self.marks.iter().find(|mark| mark.point == point)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_written_as_they_are_read() {
        for (text, point) in
            [("3", PlanePoint::Expert(3)), ("merged", PlanePoint::Merged), ("start", PlanePoint::Start)]
        {
            assert_eq!((text.parse(), point.to_string().as_str()), (Ok(point), text));
        }
        assert!("expert".parse::<PlanePoint>().unwrap_err().contains("merged or start"));
    }

    #[test]
    fn the_cost_is_known_beforehand() {
        let plan = PlanePlan::of(4);
        assert_eq!(plan.points, [PlanePoint::Expert(0), PlanePoint::Expert(1), PlanePoint::Merged]);
        assert_eq!((plan.lines().len(), plan.forwards(4)), (3, 225 + 6 + 27));
        let experts = PlanePlan { points: [0, 1, 2].map(PlanePoint::Expert), ..plan };
        assert_eq!((experts.lines().len(), experts.forwards(4)), (6, 225 + 6 + 54), "and through the merged model");
        assert_eq!(PlanePlan::of(2).points[2], PlanePoint::Start);
    }
}
