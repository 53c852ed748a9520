//! How a run stands and how far it came, from its record.

use super::recorder::Line;
use super::utc;
use crate::records::EndReason;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// How a run stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunStatus {
    /// Some process is writing into it.
    Running,
    /// All steps done, or stopped early because the metric no longer improved.
    Finished,
    /// The user stopped it; it can be resumed.
    Stopped,
    /// The loss was no longer finite.
    Diverged,
    /// Its record has no end: killed, or the machine went down. It can be resumed from its last checkpoint.
    #[default]
    Interrupted,
    /// Its files cannot be read; see [`super::run_list::RunSummary::problem`].
    Damaged,
}

/// How far a run came, taken from its record line by line.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunProgress {
    pub(super) created: u64,
    pub(super) step: u64,
    pub(super) total_steps: u64,
    pub(super) metric: String,
    pub(super) best: Option<f64>,
    #[serde(deserialize_with = "crate::records::nan_of_null")]
    pub(super) seconds: f64,
    pub(super) ended: Option<RunStatus>,
    pub(super) damaged: usize,
}

/// The fields of a step that the list needs; the others are skipped without being read.
#[derive(Deserialize)]
struct StepOutline<'a> {
    #[serde(borrow)]
    event: Cow<'a, str>,
    step: u64,
    seconds: f64,
}

impl RunProgress {
    /// Takes the next line of the record.
    pub fn add(&mut self, line: &Line) {
        match line {
            Line::Start { time, record } => {
                if self.created == 0 {
                    self.created = utc::parse(time).unwrap_or(0);
                }
                self.total_steps = record.total_steps;
                self.metric.clone_from(&record.metric);
                // A resumed run has not ended yet.
                self.ended = None;
            }
            Line::Step(record) => self.add_step(record.step, record.seconds),
            Line::Eval(record) => {
                self.seconds += record.seconds;
                if record.best {
                    self.best = Some(record.merged.primary);
                }
            }
            Line::End { record, .. } => {
                self.step = self.step.max(record.step);
                self.ended = Some(match record.reason {
                    EndReason::Finished | EndReason::EarlyStopped => RunStatus::Finished,
                    EndReason::Stopped(_) => RunStatus::Stopped,
                    EndReason::Diverged { .. } => RunStatus::Diverged,
                });
            }
            Line::Law(_) | Line::TensorHealth(_) | Line::Checkpoint { .. } | Line::Unknown => {}
        }
    }

    /// Counts complete lines that cannot be read.
    pub fn add_damaged(&mut self, lines: usize) {
        self.damaged += lines;
    }

    /// Takes the next step.
    pub fn add_step(&mut self, step: u64, seconds: f64) {
        self.step = self.step.max(step);
        self.seconds += seconds;
    }

    /// Takes the next line of the record as it stands there.
    pub fn add_text(&mut self, line: &[u8]) {
        match serde_json::from_slice::<StepOutline<'_>>(line) {
            Ok(outline) if outline.event == "step" => self.add_step(outline.step, outline.seconds),
            _ => match Line::parse(line) {
                Ok(line) => self.add(&line),
                Err(_) => self.damaged += 1,
            },
        }
    }
}
