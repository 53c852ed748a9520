//! Where routes part on one example: the answer with the lowest layers on a route and all others merged, layer by layer.
//!
//! `f_0` is the merged model's answer, `f_L` the route's own; what a layer adds is the difference of two neighbours, so that the
//! increments of a route add up to the whole difference.

use crate::config::RunConfig;
use crate::data::text::TextBatch;
use crate::error::{Error, ErrorKind, Result};
use crate::eval::branches::Branching as _;
use crate::eval::compare::random_route;
use crate::mixture::{Pick, Route};
use crate::model::{CausalLm, Classifier, Packed, Walk};
use crate::protocol::studies::{FanLine, FanPlan, FanReport, FanScale};
use crate::protocol::{MOST_ROUTES, Split, TryInput, likeliest};
use crate::rng::SeedStream;
use crate::tensor::to_f32;
use crate::train::ModelAndData;
use crate::workflow::progress::Progress;
use crate::workflow::try_it::{BATCH_TOKENS, Subject, TokenizerCache, batch, score, side_by_side};
use std::time::Instant;

/// Longest text that a report repeats, in characters.
const KEPT: usize = 400;

/// An example before it is read, and what the numbers are.
struct Example {
    text: String,
    pair: Option<String>,
    scale: FanScale,
}

/// Answers at each number of layers on the route. `[layers + 1][routes]`
type Fan = Vec<Vec<f64>>;

/// The fan of the plan's example. `go_on` gets the share done, 0 to 1; false cancels.
pub fn fan_subject(
    subject: &ModelAndData,
    config: &RunConfig,
    (plan, step): (&FanPlan, u64),
    go_on: &dyn Fn(f64) -> bool,
) -> Result<FanReport> {
    let clock = Instant::now();
    let model = subject.model();
    let Some(mixture) = model.mixture() else {
        return Err(Error::config("this run has no experts, so there are no routes; only method adamix has"));
    };
    if !(1..=MOST_ROUTES).contains(&plan.routes) {
        return Err(Error::config(format!("{} routes; choose 1 to {MOST_ROUTES}", plan.routes)));
    }
    let (sites, layers, seed) = (model.sites().len(), model.layer_modules().len(), SeedStream::new(plan.seed));
    let routes: Vec<Route> = (0..plan.routes).map(|index| random_route(mixture, sites, seed, index)).collect();
    let each = layers + layers * (layers + 1) / 2;
    let progress = Progress::new((each * routes.len()) as f64, go_on);
    let (example, fan) = match subject {
        ModelAndData::Classifier(model, _) => {
            let mut tokenizers = TokenizerCache::default();
            let asked = Subject::new(subject, config, tokenizers.of(config)?, step)?;
            classifier(model, &asked, &plan.input, &routes, &progress)?
        }
        ModelAndData::Lm(model, _) => writer(model, subject, &plan.input, &routes, &progress)?,
    };
    let at = |route: usize| fan.iter().map(|values| values[route]).collect::<Vec<f64>>();
    let experts = |route: &Route| {
        let only = |pick: &Pick| if let Pick::One(expert) = pick { *expert } else { 0 };
        route.picks.iter().map(only).collect()
    };
    let lines: Vec<FanLine> =
        routes.iter().enumerate().map(|(n, route)| FanLine { experts: experts(route), at: at(n) }).collect();
    if let Some(value) = lines.iter().flat_map(|line| &line.at).find(|value| !value.is_finite()) {
        let text = format!("an answer of the model is {value}: these weights cannot be used; take another checkpoint");
        return Err(Error::new(ErrorKind::Numerics, text));
    }
    let moved = |layer: usize| {
        let squares = lines.iter().map(|line| (line.at[layer + 1] - line.at[layer]).powi(2)).sum::<f64>();
        (squares / lines.len() as f64).sqrt()
    };
    Ok(FanReport {
        plan: plan.clone(),
        weights_step: step,
        text: example.text,
        pair: example.pair,
        scale: example.scale,
        layers,
        layer_moves: (0..layers).map(moved).collect(),
        lines,
        layer_passes: each * routes.len(),
        seconds: clock.elapsed().as_secs_f64(),
    })
}

/// Layer by layer for a batch of copies of one example, of which copy i takes route i. `answer` gives one number for each.
fn walk<M: Walk>(
    (mixture, merged): (&M, &M),
    (batch, routes): (&M::Batch, &[Route]),
    answer: &dyn Fn(&M::Hidden) -> Result<Vec<f64>>,
    progress: &Progress<'_>,
) -> Result<Fan> {
    let (depth, route, n) = (mixture.layer_modules().len(), side_by_side(routes), routes.len() as f64);
    let missing = || Error::internal("a layer gave nothing");
    let mut x = mixture.embedded(batch)?;
    let mut fan = Vec::with_capacity(depth + 1);
    for on_route in 0..=depth {
        let mut rest = x.clone();
        for layer in on_route..depth {
            rest = merged.branches(layer, &rest, batch, &[None])?.pop().ok_or_else(missing)?;
            progress.step(n)?;
        }
        fan.push(answer(&rest)?);
        if on_route < depth {
            x = mixture.branches(on_route, &x, batch, &[Some(&route)])?.pop().ok_or_else(missing)?;
            progress.step(n)?;
        }
    }
    Ok(fan)
}

/// Routes as many at a time as fit into a batch, their answers side by side.
fn in_parts(routes: &[Route], tokens: usize, part: &mut dyn FnMut(&[Route]) -> Result<Fan>) -> Result<Fan> {
    let most = (BATCH_TOKENS / tokens.max(1)).max(1);
    let mut all: Fan = Vec::new();
    for routes in routes.chunks(most) {
        let found = part(routes)?;
        all.resize(found.len(), Vec::new());
        all.iter_mut().zip(found).for_each(|(all, more)| all.extend(more));
    }
    Ok(all)
}

fn classifier(
    model: &Classifier,
    asked: &Subject<'_>,
    input: &TryInput,
    routes: &[Route],
    progress: &Progress<'_>,
) -> Result<(Example, Fan)> {
    let question = asked.question(input)?;
    let merged = model.merged_own()?;
    let outputs = model.head.classes().max(1);
    let labels = asked.labels();
    let logits = merged.logits(&batch(&[&question.encoded]), None)?;
    let class = (!labels.is_empty()).then(|| likeliest(&logits.iter().map(|&z| f64::from(z)).collect::<Vec<_>>()));
    let scale = match class {
        Some(class) => FanScale::LogOdds { class: labels.get(class).cloned().unwrap_or_else(|| class.to_string()) },
        None => FanScale::Value,
    };
    let tokens = question.encoded.ids.len();
    let fan = in_parts(routes, tokens, &mut |routes| {
        let copies = batch(&vec![&question.encoded; routes.len()]);
        let answer = |x: &<Classifier as Walk>::Hidden| {
            let logits = to_f32(&model.head.forward(x, None)?.0)?;
            let row = |row: &[f32]| score(&row.iter().map(|&z| f64::from(z)).collect::<Vec<_>>(), class).1;
            Ok(logits.chunks_exact(outputs).map(row).collect())
        };
        walk((model, &merged), (&copies, routes), &answer, progress)
    })?;
    Ok((Example { text: question.row.text, pair: question.row.pair, scale }, fan))
}

fn writer(
    model: &CausalLm,
    subject: &ModelAndData,
    input: &TryInput,
    routes: &[Route],
    progress: &Progress<'_>,
) -> Result<(Example, Fan)> {
    let merged = model.merged_own()?;
    let given = GivenText::new(&merged, subject, input)?;
    let fan = in_parts(routes, given.ids.len(), &mut |routes| {
        let copies = given.copies(routes.len());
        let answer = |x: &<CausalLm as Walk>::Hidden| Ok(given.means(&model.outcomes(x, &copies)?));
        walk((model, &merged), (&copies, routes), &answer, progress)
    })?;
    Ok((Example { text: given.text, pair: None, scale: given.scale }, fan))
}

/// A text before a language model, and what is asked about it.
pub(super) struct GivenText {
    pub(super) ids: Vec<u32>,
    /// Which tokens are predicted.
    learn: Vec<bool>,
    pub(super) text: String,
    pub(super) scale: FanScale,
}

impl GivenText {
    /// A row with its learned tokens, or the beginning of a text with the token that the merged model finds likeliest then.
    pub(super) fn new(merged: &CausalLm, subject: &ModelAndData, input: &TryInput) -> Result<Self> {
        let Some((_, data)) = subject.language_model() else { return Err(Error::internal("no language model")) };
        let codec = &data.encoder.codec;
        let (ids, learn, text, scale) = match input {
            TryInput::Text { pair: Some(_), .. } => {
                return Err(Error::config("a language model reads one text; leave the second one out"));
            }
            TryInput::Text { text, pair: None } => {
                let mut ids = codec.encode(text)?;
                if ids.is_empty() {
                    return Err(Error::config("the text is empty; give the beginning that the next token follows"));
                }
                let packed = Packed { ids: &ids, offsets: &[0, ids.len()] };
                let logits = to_f32(&merged.logits(packed, Some(&[ids.len() as u32 - 1]), None)?)?;
                let next = likeliest(&logits.iter().map(|&z| f64::from(z)).collect::<Vec<_>>()) as u32;
                let learn = (0..=ids.len()).map(|at| at == ids.len()).collect();
                ids.push(next);
                (ids, learn, text.clone(), FanScale::NextToken { token: codec.piece(next) })
            }
            TryInput::Row { split, row } => {
                let (rows, name) = match split {
                    Split::Training => (&data.train, "training"),
                    Split::Evaluation => (&data.dev, "evaluation"),
                };
                let found = rows.encoded.get(*row).ok_or_else(|| {
                    Error::config(format!("there is no {name} row {}; choose 1 to {}", row + 1, rows.len()))
                })?;
                let scale = FanScale::LearnedTokens { tokens: found.learned() };
                (found.ids.clone(), found.learn.clone(), codec.decode(&found.ids)?, scale)
            }
        };
        let text = match text.char_indices().nth(KEPT) {
            Some((end, _)) => format!("{}…", &text[..end]),
            None => text,
        };
        Ok(Self { ids, learn, text, scale })
    }

    /// So many copies of it as one batch.
    pub(super) fn copies(&self, n: usize) -> TextBatch {
        TextBatch {
            ids: self.ids.repeat(n),
            offsets: (0..=n).map(|copy| copy * self.ids.len()).collect(),
            learn: self.learn.repeat(n),
            rows: vec![0; n],
        }
    }

    /// The mean ln p of each copy, of that of every predicted token.
    pub(super) fn means(&self, log_probs: &[f64]) -> Vec<f64> {
        let learned = self.learn.iter().filter(|learned| **learned).count();
        log_probs.chunks(learned.max(1)).map(|copy| copy.iter().sum::<f64>() / copy.len() as f64).collect()
    }
}
