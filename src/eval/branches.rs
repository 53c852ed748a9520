//! Many routes on the same rows, each layer computed once for all routes that are the same below it.

use super::compare::{EvalOptions, Measured};
use crate::data::text::{TextBatch, TextDataset};
use crate::data::{Batch, Dataset, Labels};
use crate::error::{Error, Result};
use crate::mixture::{Pick, Route};
use crate::model::{CausalLm, Classifier, Packed, Walk, layer_of};
use crate::tensor::{log_softmax, to_f32};
use std::collections::BTreeMap;

/// A model whose last layer's output says how well it predicts the answers of its rows.
pub trait Branching: Measured + Walk {
    /// These rows as batches of at most `most` rows.
    fn batches(data: &Self::Rows, rows: &[usize], most: usize) -> Vec<Self::Batch>;
    /// Of each answer ln p, or the predicted value: the numbers of which an ensemble takes the mean (of p, of values).
    /// `[answers]`
    fn outcomes(&self, x: &Self::Hidden, batch: &Self::Batch) -> Result<Vec<f64>>;
    /// The answers, row by row.
    fn answers(batch: &Self::Batch) -> Answers;
}

/// The answers of a batch.
#[derive(Clone, Debug, PartialEq)]
pub enum Answers {
    /// So many right classes or tokens in each row; outcomes are ln p of them.
    Known(Vec<usize>),
    /// A value for each row; outcomes are values.
    Values(Vec<f64>),
}

impl Answers {
    /// The loss of each row: the mean of -ln p, or the squared error. `[rows]`
    fn losses(&self, outcomes: &[f64]) -> Vec<f64> {
        match self {
            Self::Values(values) => outcomes.iter().zip(values).map(|(got, value)| (got - value).powi(2)).collect(),
            Self::Known(counts) => {
                let mut rest = outcomes;
                let row = |&n: &usize| {
                    let (own, after) = rest.split_at(n.min(rest.len()));
                    rest = after;
                    -own.iter().sum::<f64>() / n.max(1) as f64
                };
                counts.iter().map(row).collect()
            }
        }
    }

    /// What the mean of an ensemble is taken of.
    fn shared(&self, outcome: f64) -> f64 {
        if matches!(self, Self::Known(_)) { outcome.exp() } else { outcome }
    }

    /// An outcome of that mean. A probability can underflow to 0; its logarithm must stay finite.
    fn of_mean(&self, mean: f64) -> f64 {
        if matches!(self, Self::Known(_)) { mean.max(f64::MIN_POSITIVE).ln() } else { mean }
    }
}

/// What routes give on some rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BranchLosses {
    /// Mean loss over the rows along each route, in the order given.
    pub routes: Vec<f64>,
    /// The loss of the mean of all routes' probabilities or values.
    pub ensemble: f64,
}

/// Layers that these routes go through: for each place where their ways part, one for each way, or one for all where the
/// ways share what comes before a layer's module (`shares`). `layers`: the layer of each adapted module.
pub fn layer_passes(routes: &[Route], layers: &[usize], depth: usize, shares: bool) -> usize {
    let mut groups: Vec<Vec<usize>> = vec![(0..routes.len()).collect()];
    let mut passes = 0;
    for layer in 0..depth {
        let parted: Vec<Vec<usize>> =
            groups.iter().flat_map(|group| parted(routes, group, layers, layer).into_values()).collect();
        passes += if shares { groups.len() } else { parted.len() };
        groups = parted;
    }
    passes
}

/// Routes by what they pick in one layer.
fn parted(routes: &[Route], group: &[usize], layers: &[usize], layer: usize) -> BTreeMap<Vec<u8>, Vec<usize>> {
    let mut found: BTreeMap<Vec<u8>, Vec<usize>> = BTreeMap::new();
    for &number in group {
        let picks = routes[number].picks.chunks(2).zip(layers).filter(|(_, of)| **of == layer);
        let key = picks.flat_map(|(pair, _)| pair.iter().map(only)).collect();
        found.entry(key).or_default().push(number);
    }
    found
}

/// The expert of a pick for the whole batch.
fn only(pick: &Pick) -> u8 {
    match pick {
        Pick::One(expert) => *expert,
        Pick::PerExample(list) | Pick::PerToken(list) => list.first().copied().unwrap_or(0),
    }
}

/// The mean loss of these rows along each of these routes, of one pass and one expert for each side, and of their ensemble.
pub fn losses<M: Branching>(
    model: &M,
    data: &M::Rows,
    rows: &[usize],
    routes: &[Route],
    opts: &EvalOptions<'_>,
) -> Result<BranchLosses> {
    let unknown = || Error::internal("an adapted module that names no layer");
    let layers: Vec<usize> =
        model.site_names().iter().map(|name| layer_of(name).ok_or_else(unknown)).collect::<Result<_>>()?;
    if routes.is_empty() || rows.is_empty() {
        return Err(Error::config("no route or no row to measure"));
    }
    let depth = model.layer_modules().len();
    let batches = M::batches(data, rows, opts.batch_size);
    let passes = layer_passes(routes, &layers, depth, model.shares_layers()) * batches.len();
    let (mut sums, mut ensemble) = (vec![0.0; routes.len()], 0.0);
    let mut done = 0;
    for batch in &batches {
        let answers = M::answers(batch);
        let mut tree =
            Tree { model, batch, routes, layers: &layers, depth, answers, sums: &mut sums, mean: Vec::new() };
        let everything: Vec<usize> = (0..routes.len()).collect();
        let x = model.embedded(batch)?;
        tree.descend(0, &x, &everything, &mut |passed| {
            done += passed;
            opts.check(done as f64 / passes.max(1) as f64)
        })?;
        ensemble += tree.of_ensemble();
    }
    let n = rows.len() as f64;
    Ok(BranchLosses { routes: sums.into_iter().map(|sum| sum / n).collect(), ensemble: ensemble / n })
}

struct Tree<'a, M: Branching> {
    model: &'a M,
    batch: &'a M::Batch,
    routes: &'a [Route],
    layers: &'a [usize],
    depth: usize,
    answers: Answers,
    /// Sum of the losses along each route.
    sums: &'a mut Vec<f64>,
    /// Sum over the routes of what an ensemble takes the mean of. `[answers]`
    mean: Vec<f64>,
}

impl<M: Branching> Tree<'_, M> {
    /// From layer `layer` on with the routes of `group`, which are the same below. `passed` is told the layers computed.
    fn descend(
        &mut self,
        layer: usize,
        x: &M::Hidden,
        group: &[usize],
        passed: &mut dyn FnMut(usize) -> Result<()>,
    ) -> Result<()> {
        if layer == self.depth {
            let outcomes = self.model.outcomes(x, self.batch)?;
            let loss: f64 = self.answers.losses(&outcomes).iter().sum();
            if !loss.is_finite() {
                return Err(Error::new(
                    crate::error::ErrorKind::Numerics,
                    format!("the loss along a route is {loss}: these weights cannot be used; take another checkpoint"),
                ));
            }
            group.iter().for_each(|&route| self.sums[route] += loss);
            self.mean.resize(outcomes.len(), 0.0);
            for (sum, outcome) in self.mean.iter_mut().zip(outcomes) {
                *sum += group.len() as f64 * self.answers.shared(outcome);
            }
            return Ok(());
        }
        let parted: Vec<Vec<usize>> = parted(self.routes, group, self.layers, layer).into_values().collect();
        let ways: Vec<Option<&Route>> = parted.iter().map(|group| self.routes.get(group[0])).collect();
        let next = self.model.branches(layer, x, self.batch, &ways)?;
        passed(if self.model.shares_layers() { 1 } else { parted.len() })?;
        for (x, group) in next.iter().zip(&parted) {
            self.descend(layer + 1, x, group, passed)?;
        }
        Ok(())
    }

    /// Sum over the rows of the ensemble's losses.
    fn of_ensemble(&self) -> f64 {
        let n = self.routes.len() as f64;
        let outcomes: Vec<f64> = self.mean.iter().map(|sum| self.answers.of_mean(sum / n)).collect();
        self.answers.losses(&outcomes).iter().sum()
    }
}

impl Branching for Classifier {
    fn batches(data: &Dataset, rows: &[usize], most: usize) -> Vec<Batch> {
        rows.chunks(most.max(1)).map(|rows| data.batch(rows)).collect()
    }

    fn outcomes(&self, x: &Self::Hidden, batch: &Batch) -> Result<Vec<f64>> {
        let logits = to_f32(&self.head.forward(x, None)?.0)?;
        let rows = logits.chunks_exact(self.head.classes().max(1));
        Ok(match &batch.labels {
            Labels::Values(_) => logits.iter().map(|&value| f64::from(value)).collect(),
            Labels::Classes(classes) => {
                let log_p = |(row, &class): (&[f32], &u32)| {
                    let row: Vec<f64> = row.iter().map(|&z| f64::from(z)).collect();
                    log_softmax(&row).get(class as usize).copied()
                };
                let found: Option<Vec<f64>> = rows.zip(classes).map(log_p).collect();
                found.ok_or_else(|| Error::internal("a label that is no class of the model"))?
            }
        })
    }

    fn answers(batch: &Batch) -> Answers {
        match &batch.labels {
            Labels::Classes(classes) => Answers::Known(vec![1; classes.len()]),
            Labels::Values(values) => Answers::Values(values.iter().map(|&value| f64::from(value)).collect()),
        }
    }
}

impl Branching for CausalLm {
    fn batches(data: &TextDataset, rows: &[usize], most: usize) -> Vec<TextBatch> {
        super::language::batches(data, rows.iter().copied(), most).iter().map(|rows| data.batch(rows)).collect()
    }

    fn outcomes(&self, x: &Self::Hidden, batch: &TextBatch) -> Result<Vec<f64>> {
        let (before, targets) = Packed::from(batch).targets(&batch.learn);
        if targets.is_empty() {
            return Err(Error::data("texts without a learned token have no loss"));
        }
        self.target_log_probs(&self.finished(x.clone(), &before)?, &targets)
    }

    fn answers(batch: &TextBatch) -> Answers {
        let learned = |span: &[usize]| batch.learn[span[0]..span[1]].iter().filter(|learned| **learned).count();
        Answers::Known(batch.offsets.windows(2).map(learned).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(picks: &[u8]) -> Route {
        Route { passes: 1, sites: picks.len() / 2, picks: picks.iter().copied().map(Pick::One).collect() }
    }

    #[test]
    fn layers_are_counted_once_for_all_that_share_them() {
        // Two layers, three experts below, a shared up side: 9 routes.
        let all: Vec<Route> = (0..9).map(|i| route(&[i / 3, 0, i % 3, 0])).collect();
        assert_eq!(layer_passes(&all, &[0, 1], 2, true), 1 + 3);
        assert_eq!(layer_passes(&all, &[0, 1], 2, false), 3 + 9);
        // The lab: 4 layers of 4 experts.
        let lab: Vec<Route> =
            (0..256u32).map(|i| route(&[0, 2, 4, 6].map(|shift| [(i >> shift & 3) as u8, 0]).concat())).collect();
        assert_eq!(layer_passes(&lab, &[0, 1, 2, 3], 4, true), 85);
        // A layer without a module, and two modules in one layer.
        assert_eq!(layer_passes(&[route(&[0, 0]), route(&[1, 0])], &[1], 3, false), 1 + 2 + 2);
        assert_eq!(layer_passes(&[route(&[0, 0, 1, 0]), route(&[1, 0, 1, 0])], &[0, 0], 1, false), 2);
    }

    #[test]
    fn rows_and_ensembles_are_those_of_a_hand_computation() {
        let known = Answers::Known(vec![1, 2]);
        assert_eq!(known.losses(&[-1.0, -2.0, -4.0]), [1.0, 3.0]);
        assert!(
            (known.of_mean((known.shared(-1.0) + known.shared(-3.0)) / 2.0)
                - ((-1f64).exp() / 2.0 + (-3f64).exp() / 2.0).ln())
            .abs()
                < 1e-12
        );
        let values = Answers::Values(vec![1.0, -1.0]);
        assert_eq!(values.losses(&[2.0, 1.0]), [1.0, 4.0]);
        assert_eq!(values.of_mean(values.shared(3.0)), 3.0);
    }
}
