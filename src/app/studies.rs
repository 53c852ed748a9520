//! The studies of a mixture as the window knows them: the newest report of each, its button, and its command.
//!
//! A new kind of study takes a variant of [`Study`] and [`StudyReport`] in the protocol, its answer in `workflow::studies`, and
//! a line in each function here.

use crate::app::query::{AnyQuery, Query};
use crate::app::try_flags;
use crate::config::command_line::quoted;
use crate::protocol::{
    AveragesReport, CausesPlan, CausesReport, FanPlan, FanReport, GridPlan, GridReport, MergePlan, PlanePlan,
    PlaneReport, ReplayReport, RequestId, RerollReport, RoundingReport, RoutesReport, RowsReport, SpreadReport, Study,
    StudyReport, Way, WorthPlan, WorthReport,
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
    /// A step, made again.
    pub replay: Query<ReplayReport>,
    /// The batch of a step under other routes.
    pub reroll: Query<RerollReport>,
    /// Every route, or many.
    pub routes: Query<RoutesReport>,
    /// Where routes part on one example.
    pub fan: Query<FanReport>,
    /// One module on each of its experts.
    pub grid: Query<GridReport>,
    /// The loss on a plane.
    pub plane: Query<PlaneReport>,
    /// What each expert is worth.
    pub worth: Query<WorthReport>,
    /// Experts moved from their mean.
    pub spread: Query<SpreadReport>,
    /// Two ways row by row.
    pub rows: Query<RowsReport>,
}

/// What the status bar shows while a study is pending, and where its query is.
type StudyRow = (&'static str, fn(&Studies) -> &dyn AnyQuery, fn(&mut Studies) -> &mut dyn AnyQuery);

/// All of them.
static ROWS: &[StudyRow] = &[
    ("Pinning the experts", |s| &s.causes, |s| &mut s.causes),
    ("Averaging the experts", |s| &s.averages, |s| &mut s.averages),
    ("Rounding weights", |s| &s.rounding, |s| &mut s.rounding),
    ("Making a step again", |s| &s.replay, |s| &mut s.replay),
    ("Re-rolling a batch", |s| &s.reroll, |s| &mut s.reroll),
    ("Measuring routes", |s| &s.routes, |s| &mut s.routes),
    ("Following routes", |s| &s.fan, |s| &mut s.fan),
    ("Pinning a module", |s| &s.grid, |s| &mut s.grid),
    ("Measuring the plane", |s| &s.plane, |s| &mut s.plane),
    ("Merging subsets", |s| &s.worth, |s| &mut s.worth),
    ("Moving the experts apart", |s| &s.spread, |s| &mut s.spread),
    ("Comparing row by row", |s| &s.rows, |s| &mut s.rows),
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
            Study::Replay(_) => self.replay.begin(req),
            Study::Reroll(_) => self.reroll.begin(req),
            Study::Routes(_) => self.routes.begin(req),
            Study::Fan(_) => self.fan.begin(req),
            Study::Grid(_) => self.grid.begin(req),
            Study::Plane(_) => self.plane.begin(req),
            Study::Worth(_) => self.worth.begin(req),
            Study::Spread(_) => self.spread.begin(req),
            Study::Rows(_) => self.rows.begin(req),
        }
    }

    /// Takes a report if it belongs to a pending query.
    pub fn answer(&mut self, req: RequestId, report: StudyReport) {
        match report {
            StudyReport::Causes(report) => drop(self.causes.answer(req, *report)),
            StudyReport::Averages(report) => drop(self.averages.answer(req, report)),
            StudyReport::Rounding(report) => drop(self.rounding.answer(req, report)),
            StudyReport::Replay(report) => drop(self.replay.answer(req, *report)),
            StudyReport::Reroll(report) => drop(self.reroll.answer(req, *report)),
            StudyReport::Routes(report) => drop(self.routes.answer(req, *report)),
            StudyReport::Fan(report) => drop(self.fan.answer(req, *report)),
            StudyReport::Grid(report) => drop(self.grid.answer(req, *report)),
            StudyReport::Plane(report) => drop(self.plane.answer(req, *report)),
            StudyReport::Worth(report) => drop(self.worth.answer(req, *report)),
            StudyReport::Spread(report) => drop(self.spread.answer(req, report)),
            StudyReport::Rows(report) => drop(self.rows.answer(req, *report)),
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
            Study::Replay(_) if self.replay.is_pending() => Some("a step is being made again"),
            Study::Reroll(_) if self.reroll.is_pending() => Some("a batch is being re-rolled"),
            Study::Routes(_) if self.routes.is_pending() => Some("routes are being measured"),
            Study::Fan(_) if self.fan.is_pending() => Some("routes are being followed"),
            Study::Grid(_) if self.grid.is_pending() => Some("a module is being pinned"),
            Study::Plane(_) if self.plane.is_pending() => Some("the plane is being measured"),
            Study::Plane(PlanePlan { points: [a, b, c], .. }) if a == b || b == c || a == c => {
                Some("the plane needs three different points")
            }
            Study::Worth(_) if self.worth.is_pending() => Some("subsets of the experts are being merged"),
            Study::Rows(_) if self.rows.is_pending() => Some("two ways are being compared"),
            Study::Rows(plan) if plan.first == plan.second => Some("both ways are the same; choose two"),
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
        Study::Replay(_) => (
            "Replay",
            "Makes this step again in memory, from the nearest checkpoint before it, and compares it with the record bit for bit",
        ),
        Study::Reroll(_) => (
            "Re-roll this batch",
            "Measures the batch of this step under other routes, and as many other batches under routes of their own",
        ),
        Study::Routes(_) => (
            "Measure the routes",
            "Measures the loss along every route of a small mixture, or along random ones of a large one, on the same rows",
        ),
        Study::Grid(_) => (
            "Pin this module",
            "Reads one example with this module on each pair of its experts, all other modules on one random route",
        ),
        Study::Fan(_) => (
            "Follow the routes",
            "Reads one example with the lowest layers on a route and all others merged, layer by layer, along several routes",
        ),
        Study::Plane(_) => (
            "Measure the plane",
            "Measures the loss of the models whose weights lie on the plane through the three points, and on the straight lines",
        ),
        Study::Worth(_) => {
            ("Measure the worth", "Merges subsets of the experts and measures each on the same evaluation rows")
        }
        Study::Rows(_) => (
            "Compare row by row",
            "Measures both ways on the same evaluation rows, with paired intervals, and lists the rows they answer differently",
        ),
    }
}

/// The command that asks the same of the weights that the words `at` name (of a study of a step: the run that they name);
/// nothing for what only the window shows. `weights` gives the flags of a merge.
pub fn command(at: &str, study: &Study, weights: &dyn Fn(&MergePlan) -> String) -> Option<String> {
    Some(match study {
        Study::Causes(CausesPlan { after, probe_rows }) => {
            let after = after.map(|step| format!(" --after {step}")).unwrap_or_default();
            format!("adamix inspect {at} --causes{after} --probe-rows {probe_rows}")
        }
        Study::Averages => format!("adamix inspect {at} --averages"),
        Study::Replay(plan) => format!("adamix replay {at} --step {}", plan.step),
        Study::Reroll(plan) => format!("adamix reroll {at} --step {} --routes {}", plan.step, plan.routes),
        Study::Grid(GridPlan { input, module, route, seed }) => {
            format!("adamix try {at}{} --pin {module} --route {route} --seed {seed}", try_flags::input(input))
        }
        Study::Fan(FanPlan { input, routes, seed }) => {
            format!("adamix try {at}{} --fan --random-routes {routes} --seed {seed}", try_flags::input(input))
        }
        Study::Routes(plan) => {
            let routes = plan.routes.map(|routes| format!("={routes}")).unwrap_or_default();
            format!("adamix inspect {at} --routes{routes} --probe-rows {}", plan.probe_rows)
        }
        Study::Spread(plan) => {
            format!("adamix inspect {at} --spread={} --random-routes {}", plan.alphas.len(), plan.routes)
        }
        Study::Rounding(plan) => {
            let targets: Vec<&str> = plan.targets.iter().map(|target| target.as_str()).collect();
            let causes = if plan.causes { " --by-layer" } else { "" };
            format!("adamix inspect {at} --rounding={}{causes}{}", targets.join(","), weights(&plan.merge))
        }
        Study::Plane(PlanePlan { points, grid, probe_rows }) => {
            let points = points.map(|point| point.to_string()).join(",");
            format!("adamix inspect {at} --plane={points} --grid {grid} --probe-rows {probe_rows}")
        }
        Study::Worth(WorthPlan { probe_rows }) => format!("adamix inspect {at} --worth --probe-rows {probe_rows}"),
        Study::Rows(plan) => {
            let way = |way: &Way| quoted(&way.to_string());
            let first = if plan.first == Way::Merged { String::new() } else { format!("={}", way(&plan.first)) };
            let most = if plan.rows > 0 { format!(" --max-rows {}", plan.rows) } else { String::new() };
            format!("adamix eval {at} --rows{first} --against {}{most}", way(&plan.second))
        }
    })
}
