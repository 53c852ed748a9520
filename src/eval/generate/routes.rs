//! Which experts run while text is generated.

use crate::config::MixtureConfig;
use crate::error::{Error, Result};
use crate::eval::compare::random_route;
use crate::mixture::{Pick, Route, SIDES, Side};
use crate::model::{CausalLm, Network as _};
use crate::rng::{Purpose, SeedStream};

/// First index of the random streams that choose an expert for each token.
const TOKENS: u64 = 1 << 62;
/// First index of the whole routes of single texts: apart from those of comparisons, which start at 0.
const TEXTS: u64 = 1 << 40;

/// Which experts run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Routes {
    /// The model as it is: a base model or a merged one.
    Plain,
    /// The same expert everywhere.
    Expert(usize),
    /// The whole random route of this number, the same for all texts: as in a comparison.
    Whole(usize),
    /// A whole random route for each text.
    PerText,
    /// An expert for each adapted module and token.
    PerToken,
    /// The mean of the probabilities along the first R whole random routes.
    Ensemble(usize),
}

impl Routes {
    /// Routes that one text is read along.
    pub fn lanes(self) -> usize {
        if let Self::Ensemble(routes) = self { routes } else { 1 }
    }
}

/// New tokens of one text along one route.
#[derive(Clone, Copy, Debug)]
pub struct TokenSpan {
    /// Number of the text.
    pub text: usize,
    /// Number of the route among the text's routes.
    pub lane: usize,
    /// Position of the first new token.
    pub first: usize,
    /// New tokens.
    pub new: usize,
}

/// Makes the route of each step.
#[derive(Debug)]
pub struct Router {
    pub(super) routes: Routes,
    mixture: Option<MixtureConfig>,
    sites: usize,
    seed: SeedStream,
}

impl Router {
    /// An error where the model does not have these routes.
    pub fn new(model: &CausalLm, routes: Routes, seed: SeedStream) -> Result<Self> {
        let (mixture, sites) = (model.mixture().cloned(), model.sites().len());
        match (&mixture, routes) {
            (None, Routes::Plain) => {}
            (None, _) => return Err(Error::config("a model without a mixture has no routes; write with it as it is")),
            (Some(_), Routes::Plain) => {
                return Err(Error::config("experts are not merged; merge them, or choose which of them run"));
            }
            (Some(mixture), Routes::Expert(expert)) if expert >= mixture.num_experts => {
                return Err(Error::config(format!("expert {expert} of {}; they count from 0", mixture.num_experts)));
            }
            (Some(_), Routes::Ensemble(0)) => return Err(Error::config("an ensemble needs at least one route")),
            _ => {}
        }
        Ok(Self { routes, mixture, sites, seed })
    }

    /// The route of a step, whose sequences are these.
    pub fn route(&self, spans: &[TokenSpan]) -> Option<Route> {
        let mixture = self.mixture.as_ref()?;
        let whole = |index: u64| random_route(mixture, self.sites, self.seed, index as usize);
        match self.routes {
            Routes::Plain => None,
            Routes::Expert(expert) => Some(Route::fixed(mixture, self.sites, expert)),
            Routes::Whole(index) => Some(whole(index as u64)),
            Routes::PerText => Some(self.per_sequence(spans, |span| whole(TEXTS + span.text as u64))),
            Routes::Ensemble(_) => Some(self.per_sequence(spans, |span| whole(span.lane as u64))),
            Routes::PerToken => Some(self.per_token(mixture, spans)),
        }
    }

    /// A whole route for each sequence.
    fn per_sequence(&self, spans: &[TokenSpan], whole: impl Fn(&TokenSpan) -> Route) -> Route {
        let routes: Vec<Route> = spans.iter().map(whole).collect();
        let one = |site: usize, side: Side| {
            let expert = |route: &Route| match route.pick(0, site, side) {
                Pick::One(expert) => *expert,
                Pick::PerExample(list) | Pick::PerToken(list) => list.first().copied().unwrap_or(0),
            };
            Pick::PerExample(routes.iter().map(expert).collect())
        };
        let picks = (0..self.sites).flat_map(|site| SIDES.map(|side| one(site, side))).collect();
        Route { passes: 1, sites: self.sites, picks }
    }

    /// Experts of each token, by text and position: the same whatever else is in the batch.
    fn per_token(&self, mixture: &MixtureConfig, spans: &[TokenSpan]) -> Route {
        let mut picks = vec![Vec::new(); self.sites * SIDES.len()];
        for span in spans {
            for position in span.first..span.first + span.new {
                let index = TOKENS + ((span.text as u64) << 24) + position as u64;
                let mut stream = self.seed.stream(Purpose::Sampling, index);
                for (i, list) in picks.iter_mut().enumerate() {
                    let experts = if i % 2 == 0 { mixture.down_experts() } else { mixture.up_experts() };
                    list.push(stream.below(experts) as u8);
                }
            }
        }
        Route { passes: 1, sites: self.sites, picks: picks.into_iter().map(Pick::PerToken).collect() }
    }
}
