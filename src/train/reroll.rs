//! The batch of a step under other routes: what the draw alone does to a loss.

use super::loss::LossValues;
use super::step::{passes, training_options};
use super::trainable::{BatchSize, Trainable};
use crate::config::{MixtureConfig, RoutingPolicy, RunConfig};
use crate::error::{Error, Result};
use crate::mixture::{Route, RouteShape};
use crate::model::Network;
use crate::rng::{Purpose, SeedStream};

/// Most routes that a batch is rolled under.
pub const MOST_ROLLS: usize = 1024;

/// Number of the first stream of re-rolled routes: beyond those of evaluations and null bands.
const STREAMS: u64 = 1 << 60;

/// The loss of a step's micro-batches, each with its index and under its own route, as the step would have it: with its
/// passes and its dropout masks. Nothing is changed, and no gradient is computed of anything trained.
///
/// # Errors
///
/// There is not a route for each micro-batch; the loss cannot be computed.
pub fn loss_under<M: Trainable>(
    config: &RunConfig,
    model: &M,
    batches: &[(u64, M::Batch)],
    routes: &[Route],
    overflows: u32,
) -> Result<LossValues> {
    if batches.len() != routes.len() {
        return Err(Error::internal(format!("{} routes for {} micro-batches", routes.len(), batches.len())));
    }
    let mut losses = Vec::with_capacity(batches.len());
    for ((index, batch), route) in batches.iter().zip(routes) {
        let options = training_options(config, Some(route), *index);
        let (loss, _) = model.forward(batch, options, config, overflows)?;
        losses.push((loss.value.read()?, model.size(batch).weight));
    }
    Ok(LossValues::mean(&losses))
}

/// The law that routes are rolled by: the run's, where it leaves anything to chance, else a draw for each batch.
pub fn law_of_rolls(config: &RunConfig) -> RoutingPolicy {
    match config.mixture.routing {
        law if law.is_random() => law,
        _ => RoutingPolicy::PerBatch,
    }
}

/// Route number `roll` of micro-batch number `index`, which no step draws; none without a mixture.
pub fn rolled_route(
    config: &RunConfig,
    model: &dyn Network,
    size: BatchSize,
    index: u64,
    roll: usize,
) -> Option<Route> {
    let law = MixtureConfig { routing: law_of_rolls(config), ..model.mixture()?.clone() };
    let BatchSize { sequences, tokens, .. } = size;
    let shape = RouteShape { passes: passes(config), sites: model.sites().len(), sequences, tokens };
    let number = STREAMS.wrapping_add(index.wrapping_mul(MOST_ROLLS as u64)).wrapping_add(roll as u64);
    Some(Route::draw(&law, SeedStream::new(config.train.seed), Purpose::Sampling, number, shape))
}
