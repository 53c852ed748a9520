//! The studies of a mixture as the window knows them: the newest report of each, its button, and its command.
//!
//! A new kind of study takes a variant of [`Study`] and [`StudyReport`] in the protocol, its answer in `workflow::studies`, and
//! a line in each function here.

use crate::app::query::{AnyQuery, Query};
use crate::protocol::{
    AveragesReport, CausesPlan, CausesReport, MergePlan, RequestId, RoundingReport, SpreadReport, Study, StudyReport,
};

/// The newest report of each study of the shown weights.
#[derive(Default)]
pub struct Studies {
    /// What the draw causes.
    pub causes: Query<CausesReport>,
    /// Three averages of the experts.
    pub averages: Query<AveragesReport>,
    /// Rounding of the number formats.
    pub rounding: Query<RoundingReport>,
    /// Experts moved from their mean.
    pub spread: Query<SpreadReport>,
}

/// What the status bar shows while a study is pending, and where its query is.
type StudyRow = (&'static str, fn(&Studies) -> &dyn AnyQuery, fn(&mut Studies) -> &mut dyn AnyQuery);

/// All of them.
static ROWS: [StudyRow; 4] = [
    ("Pinning the experts", |s| &s.causes, |s| &mut s.causes),
    ("Averaging the experts", |s| &s.averages, |s| &mut s.averages),
    ("Rounding weights", |s| &s.rounding, |s| &mut s.rounding),
    ("Moving the experts apart", |s| &s.spread, |s| &mut s.spread),
];

impl Studies {
    /// All queries, each with what the status bar shows while it is pending.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, &dyn AnyQuery)> {
        ROWS.iter().map(|(title, get, _)| (*title, get(self)))
    }

    /// Calls this with every query until it returns true; returns whether it did.
    pub fn any_mut(&mut self, mut f: impl FnMut(&mut dyn AnyQuery) -> bool) -> bool {
        ROWS.iter().any(|(.., get_mut)| f(get_mut(self)))
    }

    /// A study was sent to the engine.
    pub fn begin(&mut self, req: RequestId, study: &Study) {
        match study {
            Study::Causes(_) => self.causes.begin(req),
            Study::Averages => self.averages.begin(req),
            Study::Rounding(_) => self.rounding.begin(req),
            Study::Spread(_) => self.spread.begin(req),
        }
    }

    /// Takes a report if it belongs to a pending query.
    pub fn answer(&mut self, req: RequestId, report: StudyReport) {
        match report {
            StudyReport::Causes(report) => drop(self.causes.answer(req, *report)),
            StudyReport::Averages(report) => drop(self.averages.answer(req, report)),
            StudyReport::Rounding(report) => drop(self.rounding.answer(req, report)),
            StudyReport::Spread(report) => drop(self.spread.answer(req, report)),
        }
    }

    /// Why it cannot be asked for now.
    pub fn refusal(&self, study: &Study) -> Option<&'static str> {
        match study {
            Study::Causes(_) if self.causes.is_pending() => Some("experts are being pinned"),
            Study::Averages if self.averages.is_pending() => Some("the averages are being measured"),
            Study::Rounding(_) if self.rounding.is_pending() => Some("the rounding is being measured"),
            Study::Spread(_) if self.spread.is_pending() => Some("experts are being moved"),
            Study::Rounding(plan) if plan.targets.is_empty() => Some("no export is chosen"),
            _ => None,
        }
    }
}

/// The words on its button, and the tooltip.
pub fn button(study: &Study) -> (&'static str, &'static str) {
    match study {
        Study::Causes(_) => (
            "Pin every expert",
            "Measures each layer on each of its experts and without its modules, all other layers merged",
        ),
        Study::Averages => (
            "Average three ways",
            "Measures the averages of the experts' factors, of their products and of their outputs",
        ),
        Study::Spread(_) => (
            "Move the experts apart",
            "Moves the experts from their mean by factors from 0 to 2 and measures random routes at each; the merged model stays",
        ),
        Study::Rounding(_) => (
            "Measure the rounding",
            "Rounds the weights in memory as the chosen exports would store them, and measures what that changes",
        ),
    }
}

/// The command that asks the same of the weights that the words `at` name; nothing for what only the window shows. `weights`
/// gives the flags of a merge.
pub fn command(at: &str, study: &Study, weights: &dyn Fn(&MergePlan) -> String) -> Option<String> {
    Some(match study {
        Study::Causes(CausesPlan { after, probe_rows }) => {
            let after = after.map(|step| format!(" --after {step}")).unwrap_or_default();
            format!("adamix inspect {at} --causes{after} --probe-rows {probe_rows}")
        }
        Study::Averages => format!("adamix inspect {at} --averages"),
        Study::Spread(plan) => {
            format!("adamix inspect {at} --spread={} --routes {}", plan.alphas.len(), plan.routes)
        }
        Study::Rounding(plan) => {
            let targets: Vec<&str> = plan.targets.iter().map(|target| target.as_str()).collect();
            let causes = if plan.causes { " --by-layer" } else { "" };
            format!("adamix inspect {at} --rounding={}{causes}{}", targets.join(","), weights(&plan.merge))
        }
    })
}
