//! Short hashes of the weights that write: equal ones are the same weights.

use crate::error::Result;
use crate::eval::compare::random_route;
use crate::eval::generate::routes::Routes;
use crate::mixture::{Pick, Route, SIDES};
use crate::model::Network as _;
use crate::model::decoder::CausalLm;
use crate::model::loras::Module;
use crate::model::network::Site;
use crate::rng::SeedStream;
use crate::tensor::hash::{FloatHash, hex};
use crate::tensor::{Tensor, to_f32};
use sha2::{Digest as _, Sha256};

/// Characters of a fingerprint.
const LENGTH: usize = 8;

/// Fingerprints of the ways to run one model.
pub(crate) struct Fingerprints {
    /// Of the base model, which all ways share.
    base: [u8; 32],
    /// Of the random routes.
    seed: SeedStream,
}

impl Fingerprints {
    /// Hashes the base model.
    pub fn of(model: &CausalLm, seed: SeedStream) -> Result<Self> {
        Ok(Self { base: model.base.content_hash()?, seed })
    }

    /// The fingerprint of this model, or of its base model or merge, along these routes: of the base model's weights and of
    /// all modules that run. Modules that add nothing (LoRA before its first step) count as not being there.
    pub fn along(&self, model: &CausalLm, routes: Routes) -> Result<String> {
        let mut hash = Sha256::new();
        hash.update(self.base);
        let sites = model.sites().len();
        let random = |mixture, index| random_route(mixture, sites, self.seed, index);
        let routes = match (routes, model.mixture()) {
            (Routes::Expert(expert), Some(mixture)) => vec![Route::fixed(mixture, sites, expert)],
            (Routes::Whole(index), Some(mixture)) => vec![random(mixture, index)],
            (Routes::Ensemble(routes), Some(mixture)) => (0..routes).map(|index| random(mixture, index)).collect(),
            _ => {
                add_merged(model, &mut hash)?;
                Vec::new()
            }
        };
        routes.iter().try_for_each(|route| add_route(model, route, &mut hash))?;
        Ok(hex(&hash.finalize()).chars().take(LENGTH).collect())
    }
}

fn add_merged(model: &CausalLm, hash: &mut Sha256) -> Result<()> {
    for (site, adapter) in model.adapters().iter().enumerate() {
        let mut parts = Vec::new();
        for side in SIDES {
            let (weight, bias) = adapter.side(side)?;
            parts.extend([weight, bias]);
        }
        add(hash, site, 1.0, &parts)?;
    }
    for (site, (_, placed)) in model.loras().into_iter().enumerate() {
        if let Module::Merged(lora) = &placed.module {
            add(hash, site, lora.scale(), &[lora.side(SIDES[0])?, lora.side(SIDES[1])?])?;
        }
    }
    Ok(())
}

fn add_route(model: &CausalLm, route: &Route, hash: &mut Sha256) -> Result<()> {
    for (number, site) in model.sites().iter().enumerate() {
        let mut parts = Vec::new();
        for side in SIDES {
            let bank = site.bank(side);
            let drawn = match route.pick(0, number, side) {
                Pick::One(expert) => usize::from(*expert),
                Pick::PerExample(list) | Pick::PerToken(list) => usize::from(list.first().copied().unwrap_or(0)),
            };
            let expert = drawn.min(bank.experts().saturating_sub(1));
            parts.push(bank.weight().get(expert)?);
            if let Some(bias) = bank.bias() {
                parts.push(bias.get(expert)?);
            }
        }
        let scale = if let Site::Lora(mixture) = site { mixture.scale() } else { 1.0 };
        add(hash, number, scale, &parts)?;
    }
    Ok(())
}

/// Adds a module's values and what its output is multiplied with, unless its last matrix is zero: then it adds nothing to
/// the base model.
fn add(hash: &mut Sha256, site: usize, scale: f64, parts: &[Tensor]) -> Result<()> {
    let values = parts.iter().map(to_f32).collect::<Result<Vec<_>>>()?;
    // Down and up, each perhaps with a bias: the second half is what comes out.
    let out = &values[values.len() / 2..];
    if out.iter().flatten().all(|&value| value == 0.0) {
        return Ok(());
    }
    hash.update((site as u64).to_le_bytes());
    hash.update(scale.to_le_bytes());
    let mut module = FloatHash::default();
    values.iter().for_each(|part| module.add(part));
    hash.update(module.finish());
    Ok(())
}
