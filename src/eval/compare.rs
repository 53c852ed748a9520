//! Merged against unmerged on a data set: merged weights, whole random routes, each fixed expert, and the
//! ensemble of the random routes.
//!
//! A *whole random route* draws one expert for each side of each site once and keeps it for the entire data
//! set: one of the M^L networks that live in the mixture.

use super::metrics;
use super::report::{EvalReport, Scores};
use crate::config::{Metric, MixtureConfig, RoutingPolicy};
use crate::data::Dataset;
use crate::error::{Error, ErrorKind, Result};
use crate::mixture::{MergeWeights, Route, RouteShape};
use crate::model::Classifier;
use crate::rng::{Purpose, SeedStream};

/// How to evaluate.
pub struct Options<'a> {
    /// The deciding metric, never [`Metric::Auto`].
    pub metric: Metric,
    /// Sequences in a batch.
    pub batch_size: usize,
    /// R: whole random routes.
    pub random_routes: usize,
    /// Seed of the random routes.
    pub seed: SeedStream,
    /// Called after each batch with the share done, 0 to 1; false cancels.
    pub go_on: &'a dyn Fn(f64) -> bool,
}

/// Logits of all rows, in order. Row-major `[rows * outputs]`
pub fn logits(model: &Classifier, data: &Dataset, route: Option<&Route>, opts: &Options<'_>) -> Result<Vec<f32>> {
    let mut out = Vec::new();
    let rows: Vec<usize> = (0..data.len()).collect();
    for chunk in rows.chunks(opts.batch_size.max(1)) {
        out.extend(model.logits(&data.batch(chunk), route)?);
        if !(opts.go_on)(out.len() as f64 / (data.len() * model.head().classes()).max(1) as f64) {
            return Err(Error::new(ErrorKind::Cancelled, "evaluation cancelled"));
        }
    }
    Ok(out)
}

/// Scores of one way of running the model.
pub fn evaluate(model: &Classifier, data: &Dataset, route: Option<&Route>, opts: &Options<'_>) -> Result<Scores> {
    let logits = logits(model, data, route, opts)?;
    metrics::scores(&logits, &data.all_labels(), model.head().classes(), opts.metric)
}

/// The route number `index` of the R random ones: fixed by the seed, so that a table can be made again.
pub fn random_route(mixture: &MixtureConfig, sites: usize, seed: SeedStream, index: usize) -> Route {
    let law = MixtureConfig { routing: RoutingPolicy::PerBatch, ..mixture.clone() };
    let shape = RouteShape { passes: 1, sites, sequences: 0, tokens: 0 };
    Route::draw(&law, seed, Purpose::Sampling, index as u64, shape)
}

/// The whole comparison. `weights` absent: the uniform merge.
pub fn compare(
    model: &Classifier,
    data: &Dataset,
    weights: Option<&MergeWeights>,
    opts: &Options<'_>,
) -> Result<EvalReport> {
    let (labels, outputs) = (data.all_labels(), model.head().classes());
    let sites = model.sites().len();
    let experts = model.mixture().map_or(0, |m| m.num_experts);
    let runs = (1 + model.mixture().map_or(0, |_| opts.random_routes + experts)) as f64;
    let done = std::cell::Cell::new(0.0);
    let within = |share: f64| (opts.go_on)((done.get() + share) / runs);
    let opts = &Options { go_on: &within, ..*opts };
    let scores = |logits: &[f32]| metrics::scores(logits, &labels, outputs, opts.metric);
    let next = || done.set(done.get() + 1.0);

    let merged = match weights {
        Some(weights) => model.merged(weights)?,
        None => model.merged_uniform()?,
    };
    let merged = scores(&logits(&merged, data, None, opts)?)?;
    next();
    let mut report = EvalReport {
        metric: metrics::metric_name(opts.metric).to_owned(),
        higher_is_better: metrics::higher_is_better(opts.metric),
        rows: data.len(),
        majority: metrics::majority(&labels, outputs, opts.metric),
        ..EvalReport::default()
    };
    let Some(mixture) = model.mixture() else {
        // Without a mixture there is one way to run the model: every row of the table is that one.
        return Ok(EvalReport { random: vec![merged.clone()], ensemble: merged.clone(), merged, ..report });
    };
    let mut outcomes = Vec::new();
    for index in 0..opts.random_routes {
        let route = random_route(mixture, sites, opts.seed, index);
        let out = logits(model, data, Some(&route), opts)?;
        report.random.push(scores(&out)?);
        outcomes.push(out);
        next();
    }
    for expert in 0..experts {
        let route = Route::fixed(mixture, sites, expert);
        report.fixed.push(scores(&logits(model, data, Some(&route), opts)?)?);
        next();
    }
    report.ensemble = metrics::ensemble(&outcomes, &labels, outputs, opts.metric)?;
    Ok(EvalReport { merged, ..report })
}
