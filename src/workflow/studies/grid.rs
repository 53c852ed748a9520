//! One adapted module on each pair of its experts, for one example; all other modules on one random route.

use crate::config::RunConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::eval::compare::random_route;
use crate::mixture::{Pick, Route, SIDES};
use crate::model::{CausalLm, Classifier, ForwardOptions, Packed};
use crate::protocol::studies::{FanScale, GridPlan, GridReport};
use crate::protocol::{TryInput, likeliest};
use crate::rng::SeedStream;
use crate::train::ModelAndData;
use crate::workflow::studies::fan::GivenText;
use crate::workflow::try_it::{BATCH_TOKENS, Subject, TokenizerCache, side_by_side};
use std::time::Instant;

/// The grid of the plan's module. `go_on` gets the share done, 0 to 1; false cancels.
pub fn grid_subject(
    subject: &ModelAndData,
    config: &RunConfig,
    (plan, step): (&GridPlan, u64),
    go_on: &dyn Fn(f64) -> bool,
) -> Result<GridReport> {
    let clock = Instant::now();
    let model = subject.model();
    let Some(mixture) = model.mixture() else {
        return Err(Error::config("this run has no experts to pin; only method adamix has"));
    };
    let names = model.site_names();
    let module = names.get(plan.module).cloned().ok_or_else(|| {
        Error::config(format!("there is no adapted module {}; choose 0 to {}", plan.module, names.len().max(1) - 1))
    })?;
    let base = random_route(mixture, names.len(), SeedStream::new(plan.seed), plan.route);
    let experts = [mixture.down_experts(), mixture.up_experts()];
    let only = |pick: &Pick| if let Pick::One(expert) = pick { *expert } else { 0 };
    let drawn = SIDES.map(|side| only(base.pick(0, plan.module, side)));
    let pinned = |cell: usize| {
        let mut route = base.clone();
        for (side, expert) in SIDES.into_iter().zip([cell / experts[1], cell % experts[1]]) {
            route.picks[plan.module * SIDES.len() + side as usize] = Pick::One(expert as u8);
        }
        route
    };
    let routes: Vec<Route> = (0..experts[0] * experts[1]).map(pinned).collect();
    let mut report = match subject {
        ModelAndData::Classifier(model, _) => {
            let mut tokenizers = TokenizerCache::default();
            let asked = Subject::new(subject, config, tokenizers.of(config)?, step)?;
            classifier(model, &asked, &plan.input, &routes, go_on)?
        }
        ModelAndData::Lm(model, _) => writer(model, subject, &plan.input, &routes, go_on)?,
    };
    if let Some(value) = report.cells.iter().flatten().find(|value| !value.is_finite()) {
        let text = format!("an answer of the model is {value}: these weights cannot be used; take another checkpoint");
        return Err(Error::new(ErrorKind::Numerics, text));
    }
    (report.plan, report.weights_step, report.module) = (plan.clone(), step, module);
    (report.experts, report.drawn, report.seconds) = (experts, drawn, clock.elapsed().as_secs_f64());
    Ok(report)
}

fn classifier(
    model: &Classifier,
    asked: &Subject<'_>,
    input: &TryInput,
    routes: &[Route],
    go_on: &dyn Fn(f64) -> bool,
) -> Result<GridReport> {
    let question = asked.question(input)?;
    let merged = asked.outputs(&model.merged_own()?, &[&question.encoded], None, &|share| go_on(0.1 * share))?;
    let merged = merged.into_iter().next().unwrap_or_default();
    let same = vec![&question.encoded; routes.len()];
    let cells = asked.outputs(model, &same, Some(routes), &|share| go_on(0.1 + 0.9 * share))?;
    let labels = asked.labels().to_vec();
    let scale = match labels.get(likeliest(&merged)) {
        Some(class) => FanScale::LogOdds { class: class.clone() },
        None => FanScale::Value,
    };
    let (text, pair) = (question.row.text, question.row.pair);
    Ok(GridReport { text, pair, labels, scale, cells, merged, ..GridReport::default() })
}

fn writer(
    model: &CausalLm,
    subject: &ModelAndData,
    input: &TryInput,
    routes: &[Route],
    go_on: &dyn Fn(f64) -> bool,
) -> Result<GridReport> {
    let merged = model.merged_own()?;
    let given = GivenText::new(&merged, subject, input)?;
    let answers = |model: &CausalLm, route: Option<&Route>, n: usize| -> Result<Vec<f64>> {
        let copies = given.copies(n);
        let packed = Packed::from(&copies);
        let (before, targets) = packed.targets(&copies.learn);
        let options = ForwardOptions { route, ..ForwardOptions::eval() };
        let (hidden, _) = model.forward(packed, Some(&before), options)?;
        Ok(given.means(&model.target_log_probs(&hidden, &targets)?))
    };
    let mut cells = Vec::with_capacity(routes.len());
    for routes in routes.chunks((BATCH_TOKENS / given.ids.len().max(1)).max(1)) {
        if !go_on(cells.len() as f64 / (routes.len() + cells.len()) as f64) {
            return Err(Error::cancelled());
        }
        let found = answers(model, Some(&side_by_side(routes)), routes.len())?;
        cells.extend(found.into_iter().map(|value| vec![value]));
    }
    let merged = answers(&merged, None, 1)?;
    Ok(GridReport { text: given.text, scale: given.scale, cells, merged, ..GridReport::default() })
}
