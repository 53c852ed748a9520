//! The spread of the experts: each is moved from their mean by a factor alpha, `W_j(alpha) = W̄ + alpha (W_j - W̄)`, which leaves
//! the uniform merge as it is.
//!
//! ```text
//! J(alpha) = mean route loss - loss of the mean of the routes' probabilities   what an ensemble gains (Jensen's gap)
//! G(alpha) = mean route loss - loss of the merged model                        what merging gains
//! ```
//! Both are 0 at alpha 0, where all routes are the merged model, and for small alpha they grow with its square.

use crate::config::RunConfig;
use crate::error::{Error, Result};
use crate::eval::Measured;
use crate::eval::compare::{self, EvalOptions};
use crate::mixture::{MergeWeights, Route};
use crate::protocol::studies::{SpreadPlan, SpreadPoint, SpreadReport};
use crate::train::ModelAndData;
use crate::workflow::progress::Progress;
use std::time::Instant;

/// Measures random routes and their ensemble at each factor, and the merged model once, on the evaluation rows. `go_on` gets the
/// share done, 0 to 1; false cancels.
pub fn spread_subject(
    subject: &ModelAndData,
    config: &RunConfig,
    plan: &SpreadPlan,
    go_on: &dyn Fn(f64) -> bool,
) -> Result<SpreadReport> {
    let opts = &subject.options(config, go_on);
    match subject {
        ModelAndData::Classifier(model, data) => measure(model, &data.dev, plan, opts),
        ModelAndData::Lm(model, data) => measure(model, &data.dev, plan, opts),
    }
}

fn measure<M: Measured>(model: &M, data: &M::Rows, plan: &SpreadPlan, opts: &EvalOptions<'_>) -> Result<SpreadReport> {
    let clock = Instant::now();
    let Some(mixture) = model.mixture() else {
        return Err(Error::config("this run has no experts to move apart; only method adamix has"));
    };
    if plan.alphas.is_empty() || plan.routes == 0 || plan.alphas.iter().any(|alpha| !alpha.is_finite() || *alpha < 0.0)
    {
        return Err(Error::config(format!(
            "the spread at factors {:?} along {} routes; give factors of at least 0 and one route or more",
            plan.alphas, plan.routes
        )));
    }
    let progress = Progress::new(plan.forwards() as f64, opts.go_on);
    let within = progress.within(1.0);
    let merged = model.merged(&MergeWeights::uniform(mixture.num_experts))?;
    let merged = compare::evaluate(&merged, data, None, &EvalOptions { go_on: &within, ..*opts })?.loss;
    progress.step(1.0)?;
    let sites = model.sites().len();
    let drawn: Vec<Route> =
        (0..plan.routes).map(|index| compare::random_route(mixture, sites, opts.seed, index)).collect();
    let drawn: Vec<Option<&Route>> = drawn.iter().map(Some).collect();
    let mut points = Vec::with_capacity(plan.alphas.len());
    for &alpha in &plan.alphas {
        let units = plan.routes as f64;
        let within = progress.within(units);
        let (each, ensemble) = model.spread(alpha)?.measure(data, &drawn, &EvalOptions { go_on: &within, ..*opts })?;
        progress.step(units)?;
        let mean = each.iter().map(|scores| scores.loss).sum::<f64>() / units;
        let squares: f64 = each.iter().map(|scores| (scores.loss - mean).powi(2)).sum();
        points.push(SpreadPoint {
            alpha,
            routes: mean,
            routes_standard_error: (squares / (units - 1.0).max(1.0) / units).sqrt(),
            ensemble: ensemble.loss,
            jensen: mean - ensemble.loss,
            merging: mean - merged,
        });
    }
    Ok(SpreadReport {
        merged,
        points,
        routes: plan.routes,
        rows: M::rows(data),
        forwards: plan.forwards(),
        seconds: clock.elapsed().as_secs_f64(),
    })
}
