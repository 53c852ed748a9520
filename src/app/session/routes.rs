//! The draws of the shown run step by step: read part by part while the route map is visible, and what follows from them.

use super::Session;
use crate::app::query::{AnyQuery as _, Query};
use crate::protocol::*;
use std::path::PathBuf;

/// Fewest new steps after which the fit is computed anew, and their share of those that it was computed from.
const REFIT: u64 = 20;
const REFIT_SHARE: f64 = 0.05;

/// The draws of the shown run.
#[derive(Default)]
pub struct Routes {
    /// The next part of the record.
    pub reading: Query<()>,
    /// What the draws do to the disagreement of the passes.
    pub fit: Query<RouteFit>,
    /// The run whose record is read.
    pub dir: PathBuf,
    /// The draws so far.
    pub timeline: RouteTimeline,
    /// Whether everything was read that was recorded when the last part came.
    pub complete: bool,
    /// Share of the record that is read, 0 to 1.
    pub share: f64,
    next: StepPlace,
    /// The newest step that the fit was asked about.
    fitted: u64,
}

impl Routes {
    /// From now on it is about the run in this directory.
    pub fn turn_to(&mut self, dir: &std::path::Path) {
        if self.dir != dir {
            *self = Self { dir: dir.to_owned(), ..Self::default() };
        }
    }

    /// The question for the next part.
    pub fn ask(&self) -> RoutesAsk {
        let known = !self.timeline.layout().sites.is_empty();
        let layout = known.then(|| self.timeline.layout().clone());
        RoutesAsk::Read(ReadRoutes { dir: self.dir.clone(), from: self.next, layout })
    }

    /// The question for the fit, where enough has come since the last one. Steps of the first quarter do not count.
    pub fn ask_fit(&mut self) -> Option<RoutesAsk> {
        let (last, passes) = (self.timeline.last(), self.timeline.layout().passes);
        let new = last.saturating_sub(self.fitted);
        let due = new >= REFIT.max((REFIT_SHARE * self.fitted as f64) as u64);
        if !self.complete || passes < 2 || self.fit.is_pending() || !due {
            return None;
        }
        self.fitted = last;
        Some(RoutesAsk::Fit { timeline: self.timeline.clone(), after: last / 4 })
    }

    /// The step that the map shows: the playhead's, or the newest.
    pub fn shown(&self, playhead: Option<u64>) -> Option<u64> {
        self.timeline.nearest(playhead.unwrap_or(u64::MAX))
    }
}

impl Session {
    pub(super) fn apply_routes(&mut self, req: RequestId, answer: RoutesAnswer) {
        let routes = &mut self.routes;
        match answer {
            RoutesAnswer::Fit(fit) => drop(routes.fit.answer(req, fit)),
            RoutesAnswer::Part(part) => {
                if !routes.reading.answer(req, ()) || part.dir != routes.dir {
                    return;
                }
                if part.restarted || routes.timeline.is_empty() {
                    routes.timeline = RouteTimeline::new(part.layout);
                    (routes.fitted, routes.fit) = (0, Query::default());
                }
                (routes.next, routes.complete, routes.share) = (part.next, !part.more, part.share);
                if let Err(err) = routes.timeline.append(&part.rows) {
                    routes.complete = true;
                    routes.reading.begin(req);
                    routes.reading.fail(req, &err.to_string());
                }
            }
        }
    }
}
