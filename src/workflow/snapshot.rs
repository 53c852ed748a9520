//! The experts of a model or of a checkpoint as host data, now and before the first step.
//!
//! [`Banks`] are host copies of all banks; with the [`Banks`] at the start of the run they give an [`ExpertSnapshot`] and a
//! [`DistanceSample`]. The statistics themselves are in [`crate::analysis::expert_stats`].

use crate::analysis::directions::{self, Directions};
use crate::analysis::expert_stats::HostBank;
use crate::analysis::plane;
use crate::artifact::{RunDir, checkpoint};
use crate::config::{MixtureKind, RunConfig};
use crate::error::{Error, Result};
use crate::mixture::{SIDES, Side, init};
use crate::model::Network;
use crate::protocol::snapshots::{DistanceSample, ExpertSnapshot};
use crate::rng::SeedStream;
use crate::tensor::{HostTensor, to_f32};

/// All banks of a model, on the host.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Banks {
    /// Names of the adapted modules in order.
    pub sites: Vec<String>,
    /// At `site * 2 + side`.
    pub sides: Vec<HostBank>,
}

impl Banks {
    /// Copies the banks of a model; empty without a mixture.
    pub fn of(model: &dyn Network) -> Result<Self> {
        let mut sides = Vec::new();
        for site in model.sites() {
            for side in SIDES {
                let bank = site.bank(side);
                let (experts, rows, cols) = bank.weight().dims3()?;
                let bias = bank.bias().map(to_f32).transpose()?.unwrap_or_default();
                sides.push(HostBank { experts, rows, cols, weight: to_f32(bank.weight())?, bias });
            }
        }
        Ok(Self { sites: model.site_names(), sides })
    }

    /// The banks among a checkpoint's tensors, in their order; empty when it has none.
    pub fn of_tensors(tensors: &[HostTensor]) -> Result<Self> {
        let mut banks = Self::default();
        // Checkpoints hold a module's first side, its bias if it has one, and then its second side.
        for tensor in tensors {
            let side = BANK_ENDS.iter().find_map(|ends| {
                let site = tensor.name.strip_suffix(&format!("{}.weight", ends[0]))?;
                (tensor.name.starts_with("layers.")).then_some((site, ends))
            });
            let Some((site, ends)) = side else { continue };
            for end in ends {
                let find = |part: &str| tensors.iter().find(|tensor| tensor.name == format!("{site}{end}.{part}"));
                let weight = find("weight").ok_or_else(|| {
                    Error::format(format!("tensor {site}{end}.weight is missing beside its other side"))
                })?;
                banks.sides.push(bank(weight, find("bias"))?);
            }
            banks.sites.push(site.to_owned());
        }
        Ok(banks)
    }

    /// What these banks held before the first step of a run: those of its checkpoint of step 0, which imported runs
    /// have, else [`Banks::at_start`].
    pub fn at_start_of(&self, run: &RunDir) -> Result<Self> {
        if checkpoint::list(run)?.first() != Some(&0) {
            return Ok(self.at_start(run.config()));
        }
        let start = Self::of_tensors(&checkpoint::read(run, 0)?.tensors)?;
        let shape = |bank: &HostBank| [bank.experts, bank.rows, bank.cols];
        if self.sites != start.sites || !self.sides.iter().map(shape).eq(start.sides.iter().map(shape)) {
            return Err(Error::format("checkpoint-0 holds other modules than the later checkpoints"));
        }
        Ok(start)
    }

    /// What banks of these shapes are initialised with under these settings.
    pub fn at_start(&self, config: &RunConfig) -> Self {
        let seed = SeedStream::new(config.train.seed);
        let mut sides = Vec::with_capacity(self.sides.len());
        for (site, (name, pair)) in self.sites.iter().zip(self.sides.chunks_exact(SIDES.len())).enumerate() {
            let shape = |bank: &HostBank| [bank.experts, bank.rows, bank.cols];
            let start = init::start(&config.mixture, seed, (site, name), [shape(&pair[0]), shape(&pair[1])]);
            for (now, weight) in pair.iter().zip(start) {
                sides.push(HostBank { weight, bias: vec![0.0; now.bias.len()], ..now.clone() });
            }
        }
        Self { sites: self.sites.clone(), sides }
    }

    /// Name of a bank's weight in a checkpoint, such as `layers.3.ffn.down.weight`. index: into [`Banks::sides`]
    pub fn weight_name(&self, kind: MixtureKind, index: usize) -> String {
        let ends = BANK_ENDS[usize::from(kind == MixtureKind::Lora)];
        format!("{}{}.weight", self.sites[index / ends.len()], ends[index % ends.len()])
    }

    /// Every weight and bias of one module for each adapted module, one after the other: the experts weighted as `weights` says of a
    /// module; a shared side counts once. Sums are accumulated in f64, as merging does.
    pub fn single<'a>(&self, weights: &dyn Fn(usize) -> Result<&'a [f64]>) -> Result<Vec<f32>> {
        let mut all = Vec::new();
        for (cell, bank) in self.sides.iter().enumerate() {
            let weights = if bank.experts > 1 { weights(cell / SIDES.len())? } else { &[1.0] };
            let parts = |values: &[f32], each: usize| -> Vec<f32> {
                plane::mixed(&weights.iter().copied().zip(values.chunks_exact(each.max(1))).collect::<Vec<_>>())
            };
            all.extend(parts(&bank.weight, bank.rows * bank.cols));
            if !bank.bias.is_empty() {
                all.extend(parts(&bank.bias, bank.rows));
            }
        }
        Ok(all)
    }

    /// The directions of one side of one module, whatever they take; nothing where there is no such module.
    pub fn directions(&self, site: usize, side: Side) -> Option<Directions> {
        let [down, up] = self.sides.get(site * SIDES.len()..(site + 1) * SIDES.len())? else { return None };
        Some(Directions::of([down, up], side as usize))
    }

    /// Whether there is no mixture.
    pub fn is_empty(&self) -> bool {
        self.sides.is_empty()
    }
}

/// How the names of a module's two banks end: adapters, LoRA.
const BANK_ENDS: [[&str; 2]; 2] = [[".down", ".up"], [".lora_a", ".lora_b"]];

/// From a checkpoint's tensors.
fn bank(weight: &HostTensor, bias: Option<&HostTensor>) -> Result<HostBank> {
    let &[experts, rows, cols] = weight.shape.as_slice() else {
        let text = format!("tensor {} of shape {:?} is not a bank of experts", weight.name, weight.shape);
        return Err(Error::format(text));
    };
    if bias.is_some_and(|bias| bias.data.len() != experts * rows) || weight.data.len() != experts * rows * cols {
        return Err(Error::format(format!("tensor {} does not fit its shape or its bias", weight.name)));
    }
    let bias = bias.map(|bias| bias.data.clone()).unwrap_or_default();
    Ok(HostBank { experts, rows, cols, weight: weight.data.clone(), bias })
}

/// Everything about the experts at one step; heat maps of the focus, where there is one, and its directions where they take a
/// moment only.
pub fn experts(now: &Banks, start: &Banks, step: u64, focus: (usize, Option<Side>)) -> ExpertSnapshot {
    let sides = now.sides.iter().zip(&start.sides).map(|(now, start)| now.snapshot(start)).collect();
    let shown = focus.1.and_then(|side| {
        let at = focus.0 * SIDES.len() + side as usize;
        Some((now.sides.get(at)?, start.sides.get(at)?, side))
    });
    let heat_maps = shown.map(|(now, start, _)| now.heat_maps(start)).unwrap_or_default();
    let quick = shown.filter(|(now, ..)| directions::is_quick(now));
    let directions = quick.and_then(|(.., side)| now.directions(focus.0, side));
    ExpertSnapshot { step, sites: now.sites.clone(), sides, focus, heat_maps, directions }
}

/// How far the experts have become one, how far they are apart, and from where they started.
pub fn distances(now: &Banks, start: &Banks, step: u64) -> DistanceSample {
    let pairwise = |bank: &HostBank| {
        let (n, all) = (bank.experts, bank.distances());
        let pairs = n * n.saturating_sub(1);
        // Each pair is there twice, and the diagonal is zero.
        if pairs == 0 { 0.0 } else { all.iter().sum::<f32>() / pairs as f32 }
    };
    let mean = |values: Vec<f32>| values.iter().sum::<f32>() / values.len().max(1) as f32;
    DistanceSample {
        step,
        pairwise: now.sides.iter().map(pairwise).collect(),
        from_start: now.sides.iter().zip(&start.sides).map(|(now, start)| mean(now.distances_from(start))).collect(),
        consensus: now.sides.iter().map(HostBank::consensus).collect(),
    }
}
