//! The disagreement of the passes against the layers in which they differ, over a part of a timeline.

use super::RouteTimeline;
use crate::analysis::causes::disagreement::{Disagreement, slopes};
use crate::analysis::causes::least_squares::Estimate;
use crate::error::{Error, Result};
use crate::records::Side;

/// What the draws do to the disagreement of the two passes, from a run's record alone.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RouteFit {
    /// The steps that count come after this one,
    pub after: u64,
    /// and this is the last of them.
    pub until: u64,
    /// The line and the slopes by layer.
    pub found: Disagreement,
    /// The slope of each module on its own, where a layer has several and a step is a single draw: of one regression over
    /// all modules. Else empty. `[modules]`
    pub sites: Vec<Option<Estimate>>,
    /// Mean number of layers in which the passes differ.
    pub mean_distance: f64,
    /// Mean disagreement.
    pub mean_term: f64,
}

/// What a mean disagreement consists of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Split {
    /// Where no layer differs: dropout.
    pub dropout: Estimate,
    /// What the layers that differ add on average: routing.
    pub routing: Estimate,
    /// Share of the dropout in both, 0 to 1; absent where a part is below zero.
    pub dropout_share: Option<f64>,
}

impl RouteFit {
    /// How much of the mean disagreement is dropout and how much routing; absent without a line.
    pub fn split(&self) -> Option<Split> {
        let (dropout, slope) = (self.found.intercept?, self.found.slope?);
        let routing = Estimate { value: slope.value * self.mean_distance, se: slope.se * self.mean_distance };
        let share = dropout.value / (dropout.value + routing.value);
        let whole = dropout.value >= 0.0 && routing.value >= 0.0 && share.is_finite();
        Some(Split { dropout, routing, dropout_share: whole.then_some(share) })
    }
}

impl RouteTimeline {
    /// The disagreement over the steps after `after`; `go_on` is asked now and then.
    ///
    /// # Errors
    /// Of kind [`Cancelled`](crate::error::ErrorKind::Cancelled) when `go_on` said no.
    pub fn fit(&self, after: u64, go_on: &dyn Fn() -> bool) -> Result<RouteFit> {
        let layers = self.layout.layers.len();
        let usable = |step: &u64| {
            let row = self.row(*step)?;
            Some((row.consistency()?, row.distance()?))
        };
        let from = (after + 1).max(self.first.max(1));
        let steps: Vec<u64> = match self.layout.passes {
            2 => (from..=self.last).filter(|step| usable(step).is_some()).collect(),
            _ => Vec::new(),
        };
        let (mut distance, mut term) = (0.0, 0.0);
        for (t, d) in steps.iter().filter_map(usable) {
            distance += d / steps.len() as f64;
            term += f64::from(t) / steps.len() as f64;
        }
        let row = |i: usize, differs: &mut [f64]| match self.row(steps[i]) {
            Some(row) => {
                differs.iter_mut().enumerate().for_each(|(layer, d)| *d = row.differs(layer).unwrap_or_default());
                row.consistency().map_or(f64::NAN, f64::from)
            }
            None => f64::NAN,
        };
        let found = Disagreement::of_rows(layers, steps.len(), &row, go_on).ok_or_else(Error::cancelled)?;
        let until = steps.last().copied().unwrap_or(after);
        let sites = self.slopes_of_modules(&steps, go_on);
        if !go_on() {
            return Err(Error::cancelled());
        }
        Ok(RouteFit { after, until, found, sites, mean_distance: distance, mean_term: term })
    }

    fn slopes_of_modules(&self, steps: &[u64], go_on: &dyn Fn() -> bool) -> Vec<Option<Estimate>> {
        let layout = &self.layout;
        if !layout.is_whole() || layout.layers.iter().all(|layer| layer.sites.len() < 2) {
            return Vec::new();
        }
        let sides: Vec<Side> = layout.drawn().collect();
        let of = |i: usize| {
            let Some(row) = self.row(steps[i]) else { return (vec![0.0; layout.sites.len()], f64::NAN) };
            let apart = |site: usize| {
                let differ = sides.iter().filter(|&&side| row.pick(0, site, side) != row.pick(1, site, side));
                differ.count() as f64 / sides.len().max(1) as f64
            };
            ((0..layout.sites.len()).map(apart).collect(), row.consistency().map_or(f64::NAN, f64::from))
        };
        slopes(layout.sites.len(), steps.len(), &of, go_on)
    }
}
