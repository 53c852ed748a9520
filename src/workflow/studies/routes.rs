//! The loss along every route of a small mixture, or along some of a large one, on the same evaluation rows; layers are
//! computed once for all routes that are the same below them.

use crate::analysis::causes::additive::Additive;
use crate::config::{MixtureConfig, Problem, RunConfig};
use crate::error::{Error, Result};
use crate::eval::branches::{self, Branching};
use crate::eval::compare::{EvalOptions, random_route};
use crate::mixture::{MergeWeights, Pick, Route, SIDES, Side};
use crate::model::layer_of;
use crate::protocol::studies::{MeasuredRoute, RouteFactor, RoutesPlan, RoutesReport};
use crate::rng::SeedStream;
use crate::train::ModelAndData;
use crate::workflow::progress::Progress;
use std::time::Instant;

/// What a study of routes will do.
#[derive(Clone, Debug, PartialEq)]
pub struct RoutesWork {
    /// The routes.
    pub routes: Vec<Route>,
    /// Whether they are all there are.
    pub all: bool,
    /// How many there are; absent: more than can be counted.
    pub possible: Option<u64>,
    /// What is drawn: number of the module and side, in the order of a route.
    pub factors: Vec<(usize, Side)>,
    /// Layers that each row goes through for them.
    pub layer_passes: usize,
    /// As many it would be one route at a time.
    pub without_sharing: usize,
}

impl RoutesWork {
    /// Of the model in `subject`.
    pub fn of(subject: &ModelAndData, config: &RunConfig, plan: &RoutesPlan) -> Result<Self> {
        let model = subject.model();
        let Some(mixture) = model.mixture() else {
            return Err(Error::config("this run has no experts, so there are no routes; only method adamix has"));
        };
        let names = model.site_names();
        let factors: Vec<(usize, Side)> = (0..names.len())
            .flat_map(|site| SIDES.map(|side| (site, side)))
            .filter(|(_, side)| experts(mixture, *side) > 1)
            .collect();
        let times = |all: Option<u64>, (_, side): &(usize, Side)| all?.checked_mul(experts(mixture, *side) as u64);
        let possible = factors.iter().fold(Some(1), times);
        let all = plan.routes.is_none() && possible.is_some_and(|all| all <= RoutesPlan::ALL as u64);
        let seed = SeedStream::new(config.train.seed);
        let routes: Vec<Route> = match plan.routes {
            None if all => every_route(mixture, names.len()),
            routes => {
                let n = routes.unwrap_or(RoutesPlan::SAMPLED).clamp(1, RoutesPlan::ALL);
                (0..n).map(|index| random_route(mixture, names.len(), seed, index)).collect()
            }
        };
        let layers: Vec<usize> = names.iter().map(|name| layer_of(name).unwrap_or(0)).collect();
        let (depth, shares) = (model.layer_modules().len(), shares(subject));
        Ok(Self {
            layer_passes: branches::layer_passes(&routes, &layers, depth, shares),
            without_sharing: routes.len() * depth,
            routes,
            all,
            possible,
            factors,
        })
    }
}

fn shares(subject: &ModelAndData) -> bool {
    subject.model().layer_modules().into_iter().all(|modules| modules.lowest_lora().is_none())
}

fn experts(mixture: &MixtureConfig, side: Side) -> usize {
    match side {
        Side::Down => mixture.down_experts(),
        Side::Up => mixture.up_experts(),
    }
}

/// Every combination once, the first module slowest.
fn every_route(mixture: &MixtureConfig, sites: usize) -> Vec<Route> {
    let counts: Vec<usize> = (0..sites).flat_map(|_| SIDES.map(|side| experts(mixture, side))).collect();
    let mut all = vec![Vec::with_capacity(counts.len())];
    for count in counts {
        all = all
            .into_iter()
            .flat_map(|picks: Vec<Pick>| {
                (0..count).map(move |expert| [picks.as_slice(), &[Pick::One(expert as u8)]].concat())
            })
            .collect();
    }
    all.into_iter().map(|picks| Route { passes: 1, sites, picks }).collect()
}

/// Measures the routes on the evaluation rows. `go_on` gets the share done, 0 to 1; false cancels.
pub fn routes_subject(
    subject: &ModelAndData,
    config: &RunConfig,
    plan: &RoutesPlan,
    go_on: &dyn Fn(f64) -> bool,
) -> Result<RoutesReport> {
    let clock = Instant::now();
    let (work, options) = (RoutesWork::of(subject, config, plan)?, subject.options(config, go_on));
    let mut report = match subject {
        ModelAndData::Classifier(model, task) => measured(model, &task.dev, plan, &work, &options)?,
        ModelAndData::Lm(model, data) => measured(model, &data.dev, plan, &work, &options)?,
    };
    report.squared_error = matches!(subject, ModelAndData::Classifier(_, task) if task.problem == Problem::Regression);
    report.seconds = clock.elapsed().as_secs_f64();
    Ok(report)
}

fn measured<M: Branching>(
    model: &M,
    data: &M::Rows,
    plan: &RoutesPlan,
    work: &RoutesWork,
    options: &EvalOptions<'_>,
) -> Result<RoutesReport> {
    let rows = super::causes::spread(M::rows(data), plan.probe_rows);
    if rows.is_empty() {
        return Err(Error::config("no evaluation row to measure on; choose 1 or more"));
    }
    let depth = model.layer_modules().len();
    let progress = Progress::new((work.layer_passes + depth) as f64, options.go_on);
    let merged = {
        let within = progress.within(depth as f64);
        let merged = model.merged(&MergeWeights::own(model.mixture())?)?;
        let losses = merged.row_losses(data, &rows, None, &EvalOptions { go_on: &within, ..*options })?;
        progress.step(depth as f64)?;
        losses.iter().sum::<f64>() / losses.len() as f64
    };
    let within = progress.within(work.layer_passes as f64);
    let found = branches::losses(model, data, &rows, &work.routes, &EvalOptions { go_on: &within, ..*options })?;
    Ok(report(&model.site_names(), model.mixture(), work, &found.routes, (merged, found.ensemble), rows.len()))
}

fn report(
    names: &[String],
    mixture: Option<&MixtureConfig>,
    work: &RoutesWork,
    losses: &[f64],
    (merged, ensemble): (f64, f64),
    probe_rows: usize,
) -> RoutesReport {
    let levels: Vec<usize> =
        work.factors.iter().map(|(_, side)| mixture.map_or(1, |mixture| experts(mixture, *side))).collect();
    let level = |route: &Route| -> Vec<u8> {
        let of = |(site, side): &(usize, Side)| match route.pick(0, *site, *side) {
            Pick::One(expert) => *expert,
            Pick::PerExample(list) | Pick::PerToken(list) => list.first().copied().unwrap_or(0),
        };
        work.factors.iter().map(of).collect()
    };
    let drawn: Vec<Vec<u8>> = work.routes.iter().map(level).collect();
    let additive = match work.all {
        true => Additive::of_all(&levels, &drawn, losses),
        false => Additive::of_sample(&levels, &drawn, losses),
    };
    let n = losses.len() as f64;
    let mean = losses.iter().sum::<f64>() / n;
    let squares: f64 = losses.iter().map(|loss| (loss - mean).powi(2)).sum();
    let freedom = if work.all { n } else { n - 1.0 };
    let factor = |(at, (site, side)): (usize, &(usize, Side))| RouteFactor {
        module: names[*site].clone(),
        side: *side,
        effects: additive.as_ref().map(|found| found.effects[at].clone()).unwrap_or_default(),
        share: additive.as_ref().and_then(|found| found.shares.as_ref()).map(|shares| shares[at]),
    };
    let route = |(at, experts): (usize, Vec<u8>)| MeasuredRoute {
        experts,
        loss: losses[at],
        predicted: additive.as_ref().map(|found| found.predicted[at]),
    };
    RoutesReport {
        possible: work.possible,
        all: work.all,
        factors: work.factors.iter().enumerate().map(factor).collect(),
        routes: drawn.into_iter().enumerate().map(route).collect(),
        mean,
        sd: if freedom > 0.0 { (squares / freedom).sqrt() } else { 0.0 },
        range: losses.iter().fold([f64::INFINITY, f64::NEG_INFINITY], |[a, b], &v| [a.min(v), b.max(v)]),
        merged,
        below_merged: losses.iter().filter(|loss| **loss < merged).count(),
        ensemble,
        explained: additive.as_ref().and_then(|found| found.explained),
        probe_rows,
        layer_passes: work.layer_passes,
        without_sharing: work.without_sharing,
        ..RoutesReport::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_there_once() {
        let mixture = MixtureConfig { num_experts: 3, sharing_up: false, ..MixtureConfig::default() };
        let all = every_route(&mixture, 2);
        assert_eq!(all.len(), 81);
        let mut picks: Vec<String> = all.iter().map(|route| format!("{:?}", route.picks)).collect();
        picks.sort_unstable();
        picks.dedup();
        assert_eq!(picks.len(), 81);
        let shared = every_route(&MixtureConfig { sharing_up: true, ..mixture }, 2);
        assert_eq!(shared.len(), 9);
        assert!(shared.iter().all(|route| route.picks[1] == Pick::One(0) && route.picks[3] == Pick::One(0)));
    }
}
