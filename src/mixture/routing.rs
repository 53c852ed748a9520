//! Which expert runs where. The two *sides* of an adapted module (`site`), the down- and the up-projection, are drawn
//! independently, again in each *pass* (paper section 3.1); a shared side has one expert and no draw.

use crate::config::{MixtureConfig, RoutingPolicy};
use crate::error::{Error, Result};
use crate::nn::kernels::routed::{Group, RowSet};
pub use crate::records::{Pick, Route, SIDES, Side};
use crate::rng::{Purpose, SeedStream};
use std::ops::Range;

/// What a route needs to know of the batch and the step it is drawn for.
#[derive(Clone, Copy, Debug)]
pub struct RouteShape {
    /// Passes.
    pub passes: usize,
    /// Adapted modules.
    pub sites: usize,
    /// Sequences in the batch.
    pub sequences: usize,
    /// Tokens in the batch (one pass).
    pub tokens: usize,
}

impl Route {
    /// Every side of every adapted module on the same expert (a shared side on its only one).
    pub fn fixed(mixture: &MixtureConfig, sites: usize, expert: usize) -> Self {
        let pick = |experts: usize| Pick::One(expert.min(experts - 1) as u8);
        let picks = (0..sites).flat_map(|_| [pick(mixture.down_experts()), pick(mixture.up_experts())]).collect();
        Self { passes: 1, sites, picks }
    }

    /// The draws of training micro-batch number `index` (step x accumulation + position): a pure function of the seed, so any step can be replayed.
    pub fn draw(mixture: &MixtureConfig, seed: SeedStream, purpose: Purpose, index: u64, shape: RouteShape) -> Self {
        let mut stream = seed.stream(purpose, index);
        let mut picks = Vec::with_capacity(shape.passes * shape.sites * 2);
        for pass in 0..shape.passes {
            for site in 0..shape.sites {
                for experts in [mixture.down_experts(), mixture.up_experts()] {
                    let mut many = |n: usize| (0..n).map(|_| stream.below(experts) as u8).collect();
                    picks.push(match mixture.routing {
                        _ if experts == 1 => Pick::One(0),
                        RoutingPolicy::PerBatch => Pick::One(stream.below(experts) as u8),
                        RoutingPolicy::PerExample => Pick::PerExample(many(shape.sequences)),
                        RoutingPolicy::PerToken => Pick::PerToken(many(shape.tokens)),
                        RoutingPolicy::Fixed => Pick::One(mixture.fixed_expert.min(experts - 1) as u8),
                        RoutingPolicy::RoundRobin => {
                            Pick::One(((index + site as u64 + pass as u64) % experts as u64) as u8)
                        }
                    });
                }
            }
        }
        Self { passes: shape.passes, sites: shape.sites, picks }
    }
}

/// How rows of a layer's input relate to sequences and tokens (rows of one pass; the next pass follows).
#[derive(Clone, Debug)]
pub struct RowMap {
    /// Passes packed one after the other.
    pub passes: usize,
    /// Sequence of each row. `[rows of one pass]`
    pub sequence: Vec<u32>,
    /// Token of each row. `[rows of one pass]`
    pub token: Vec<u32>,
}

impl RowMap {
    /// Every token of every sequence is a row.
    pub fn tokens(offsets: &[usize], passes: usize) -> Self {
        let spans = offsets.windows(2).enumerate();
        let sequence: Vec<u32> = spans.flat_map(|(s, w)| std::iter::repeat_n(s as u32, w[1] - w[0])).collect();
        let token = (0..sequence.len() as u32).collect();
        Self { passes, sequence, token }
    }
    /// Only the first token of each sequence is a row.
    pub fn first_tokens(offsets: &[usize], passes: usize) -> Self {
        let n = offsets.len().saturating_sub(1);
        Self { passes, sequence: (0..n as u32).collect(), token: offsets[..n].iter().map(|&o| o as u32).collect() }
    }
    /// Rows of all passes.
    pub fn rows(&self) -> usize {
        self.sequence.len() * self.passes
    }

    /// The groups of one side under a route: each row exactly once.
    pub fn groups(&self, route: &Route, site: usize, side: Side, experts: usize) -> Result<Vec<Group>> {
        let n = self.sequence.len();
        if route.passes != self.passes {
            return Err(Error::internal(format!("route of {} passes for a batch of {}", route.passes, self.passes)));
        }
        let mut groups: Vec<Group> = Vec::new();
        let mut lists: Vec<Vec<u32>> = vec![Vec::new(); experts];
        for pass in 0..self.passes {
            let (start, index) = match route.pick(pass, site, side) {
                Pick::One(expert) => {
                    push_range(&mut groups, usize::from(*expert), pass * n..(pass + 1) * n);
                    continue;
                }
                Pick::PerExample(picks) => (picks, &self.sequence),
                Pick::PerToken(picks) => (picks, &self.token),
            };
            for (row, &i) in index.iter().enumerate() {
                let expert = start.get(i as usize).map_or(usize::MAX, |&e| usize::from(e));
                let list = lists.get_mut(expert).ok_or_else(|| Error::internal("route does not fit the batch"))?;
                list.push((pass * n + row) as u32);
            }
        }
        let listed = lists.into_iter().enumerate().filter(|(_, rows)| !rows.is_empty());
        groups.extend(listed.map(|(expert, rows)| Group { expert, rows: RowSet::List(rows) }));
        match groups.iter().find(|group| group.expert >= experts) {
            Some(group) => Err(Error::internal(format!("route names expert {} of {experts}", group.expert))),
            None => Ok(groups),
        }
    }

    /// One group with all rows: what a single adapter uses.
    pub fn single(&self) -> Vec<Group> {
        vec![Group { expert: 0, rows: RowSet::Range(0..self.rows()) }]
    }
}

fn push_range(groups: &mut Vec<Group>, expert: usize, rows: Range<usize>) {
    if let Some(Group { expert: last, rows: RowSet::Range(range) }) = groups.last_mut()
        && *last == expert
        && range.end == rows.start
    {
        range.end = rows.end;
        return;
    }
    groups.push(Group { expert, rows: RowSet::Range(rows) });
}
