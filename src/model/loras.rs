//! LoRA modules on the linear layers of a block: which there are, which a setting names, and how they run.
//!
//! A target is one of the model's own matrices, which may be a block of rows of one of the four [`Slot`]s. Its path is the
//! Hugging Face name inside the layer, such as `self_attn.q_proj`.

use super::stack::DropKeys;
use crate::config::{MixtureConfig, lora_scaling};
use crate::error::{Error, Result};
use crate::mixture::lora::{self, Columns};
use crate::mixture::{Lora, LoraMixture, Route, RowMap};
use crate::nn::profile::{Phase, scope};
use crate::nn::{Dropout, Grads, Linear};
use candle_core::Tensor;
use std::ops::Range;

/// First place number of LoRA's dropouts: beyond any layer's and any head's.
const DROP_PLACE: u64 = 1 << 41;

/// The linear layers of a block, in the order they run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// Queries, keys and values in one.
    Qkv,
    /// Attention's output.
    Out,
    /// The first of the feed-forward block; gate and up in one.
    Inner,
    /// The last of the feed-forward block.
    Outer,
}

/// One matrix that can have a LoRA.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// Its name inside a layer.
    pub path: String,
    /// The linear layer that computes it.
    pub slot: Slot,
    /// Its rows in that layer's weight.
    pub columns: Columns,
    /// Width of its input.
    pub d_in: usize,
    /// Whether this is a matrix of the checkpoint; else it is a part of one, which `all-linear` leaves out.
    pub whole: bool,
}

/// The targets that a setting names, in the model's order. `default` are the paths of an empty list.
pub fn select(targets: Vec<Target>, wanted: &[String], default: &[&str]) -> Result<Vec<Target>> {
    let named = |target: &Target, name: &str| target.path == name || target.path.ends_with(&format!(".{name}"));
    let list: Vec<&str> = if wanted.is_empty() { default.to_vec() } else { wanted.iter().map(|n| n.trim()).collect() };
    for name in &list {
        if *name != "all-linear" && !targets.iter().any(|target| named(target, name)) {
            let known: Vec<&str> = targets.iter().map(|target| target.path.as_str()).collect();
            return Err(Error::config(format!(
                "lora_target {name:?} is no linear layer of this model; known are {} and all-linear",
                known.join(", ")
            )));
        }
    }
    let chosen = |target: &Target| {
        list.iter().any(|name| if *name == "all-linear" { target.whole } else { named(target, name) })
    };
    let found: Vec<Target> = targets.into_iter().filter(chosen).collect();
    for (i, a) in found.iter().enumerate() {
        let meets = |b: &&Target| {
            a.slot == b.slot && a.columns.iter().any(|x| b.columns.iter().any(|y| x.start < y.end && y.start < x.end))
        };
        if let Some(b) = found[i + 1..].iter().find(meets) {
            return Err(Error::config(format!(
                "lora_target names {} and {}, which share rows of one matrix; name one of them",
                a.path, b.path
            )));
        }
    }
    Ok(found)
}

/// What a linear layer has: experts, routed, or one module, merged.
#[derive(Clone, Debug)]
pub enum Module {
    /// Experts.
    Mixture(LoraMixture),
    /// One, merged.
    Merged(Lora),
}

/// A module in its place.
#[derive(Clone, Debug)]
pub struct Placed {
    /// Its number in the model, in routes and merges.
    pub site: usize,
    /// Path of the target inside its layer.
    pub path: String,
    /// The module.
    pub module: Module,
}

/// The modules on one linear layer.
#[derive(Clone, Debug, Default)]
pub struct Loras {
    list: Vec<Placed>,
}

/// The modules of one block of the model.
#[derive(Clone, Debug, Default)]
pub struct LayerLoras {
    slots: [Loras; 4],
}

/// How the modules run in one forward.
#[derive(Clone, Copy)]
pub struct LoraRun<'a> {
    /// Which experts run; needed where there is a mixture.
    pub route: Option<&'a Route>,
    /// Dropout of the modules' inputs; absent in evaluation.
    pub drop: Option<DropKeys>,
}

/// What the backward pass of one linear layer's modules needs.
#[derive(Debug, Default)]
pub struct Saved {
    list: Vec<(usize, lora::Saved)>,
}

impl LayerLoras {
    /// The modules of one linear layer.
    pub fn at(&self, slot: Slot) -> &Loras {
        &self.slots[slot as usize]
    }
    /// Puts a module on a linear layer.
    pub fn push(&mut self, slot: Slot, placed: Placed) {
        self.slots[slot as usize].list.push(placed);
    }
    /// All modules in the order they run.
    pub fn iter(&self) -> impl Iterator<Item = (Slot, &Placed)> {
        let slots = [Slot::Qkv, Slot::Out, Slot::Inner, Slot::Outer];
        slots.into_iter().zip(&self.slots).flat_map(|(slot, loras)| loras.list.iter().map(move |placed| (slot, placed)))
    }
    /// The mixtures in the order they run.
    pub fn mixtures(&self) -> impl Iterator<Item = &LoraMixture> {
        self.iter().filter_map(|(_, placed)| match &placed.module {
            Module::Mixture(mixture) => Some(mixture),
            Module::Merged(_) => None,
        })
    }
    /// The lowest linear layer with a mixture: nothing below it needs a gradient.
    pub fn lowest(&self) -> Option<Slot> {
        self.iter().find(|(_, placed)| matches!(placed.module, Module::Mixture(_))).map(|(slot, _)| slot)
    }
    /// Replaces every mixture by what `merge` makes of it.
    pub fn replace(&mut self, mut merge: impl FnMut(usize, &LoraMixture) -> Result<Lora>) -> Result<()> {
        for placed in self.slots.iter_mut().flat_map(|loras| loras.list.iter_mut()) {
            if let Module::Mixture(mixture) = &placed.module {
                placed.module = Module::Merged(merge(placed.site, mixture)?);
            }
        }
        Ok(())
    }
    /// Adds every merged module to the weight of its linear layer, frozen and in the order of the slots, and forgets it.
    pub fn fold(&mut self, linears: [&mut Linear; 4]) -> Result<()> {
        for (loras, linear) in self.slots.iter_mut().zip(linears) {
            for placed in std::mem::take(&mut loras.list) {
                let Module::Merged(lora) = placed.module else {
                    return Err(Error::internal("experts cannot be folded into a weight; merge them first"));
                };
                *linear = Linear::new(lora.folded(&linear.weight().dense()?)?, linear.bias().cloned());
            }
        }
        Ok(())
    }
}

impl Loras {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
    /// Whether any is trained.
    pub fn trained(&self) -> bool {
        self.list.iter().any(|placed| matches!(placed.module, Module::Mixture(_)))
    }

    /// Adds all modules' outputs to y, whose memory nobody else may hold. x `[n, in]`, y `[n, out]`
    pub fn forward(&self, x: &Tensor, y: Tensor, run: LoraRun<'_>, rows: &RowMap) -> Result<(Tensor, Saved)> {
        self.forward_part(x, y, run, rows, 0..usize::MAX)
    }

    /// As [`Loras::forward`] where y holds only the outputs `part` of the layer: modules elsewhere do not run.
    pub fn forward_part(
        &self,
        x: &Tensor,
        y: Tensor,
        run: LoraRun<'_>,
        rows: &RowMap,
        part: Range<usize>,
    ) -> Result<(Tensor, Saved)> {
        let _phase = (!self.is_empty()).then(|| scope(Phase::Adapters));
        let (mut y, mut saved) = (y, Saved::default());
        for (i, placed) in self.list.iter().enumerate() {
            match &placed.module {
                Module::Mixture(mixture) if inside(mixture.columns(), &part) => {
                    let route = run.route.ok_or_else(|| Error::internal("a mixture was run without a route"))?;
                    let key = |keys: DropKeys| keys.at(DROP_PLACE + placed.site as u64, mixture.dropout());
                    let drop = run.drop.map_or_else(Dropout::none, key);
                    let here = mixture.shifted(part.start);
                    let (sum, kept) = here.forward(x, y, (route, placed.site), rows, drop)?;
                    saved.list.push((i, kept));
                    y = sum;
                }
                Module::Merged(lora) if inside(lora.columns(), &part) => {
                    y = lora.shifted(part.start).forward(x, y, rows)?;
                }
                _ => {}
            }
        }
        Ok((y, saved))
    }

    /// Adds the gradients of all experts that ran, and to `dx`, if it is given, the gradient of x. The columns of `dy`
    /// are the layer's outputs from `first` on. x `[n, in]`, dy `[n, out]`, dx `[n, in]`
    pub fn backward(
        &self,
        saved: &Saved,
        x: &Tensor,
        (dy, first): (&Tensor, usize),
        dx: Option<Tensor>,
        grads: &mut Grads,
    ) -> Result<Option<Tensor>> {
        let _phase = scope(Phase::Adapters);
        let mut dx = dx;
        for (i, kept) in &saved.list {
            if let Some(Placed { module: Module::Mixture(mixture), .. }) = self.list.get(*i) {
                dx = mixture.shifted(first).backward(kept, x, dy, dx, grads)?;
            }
        }
        Ok(dx)
    }
}

fn inside(columns: &[Range<usize>], part: &Range<usize>) -> bool {
    columns.iter().all(|c| part.start <= c.start && c.end <= part.end)
}

/// The mixture of one target as the settings say: its weights by `start` (A, then B), before training.
pub fn mixture_of(
    config: &MixtureConfig,
    target: &Target,
    bank: impl Fn(Vec<f32>, [usize; 3]) -> Result<crate::mixture::Bank>,
    start: impl FnOnce([[usize; 3]; 2]) -> [Vec<f32>; 2],
) -> Result<LoraMixture> {
    let (r, width) = (config.lora_rank, target.columns.iter().map(Range::len).sum());
    let a = [config.down_experts(), target.columns.len() * r, target.d_in];
    let b = [config.up_experts(), width, r];
    let [a_values, b_values] = start([a, b]);
    let scale = lora_scaling(config.lora_alpha, r, config.use_rslora);
    LoraMixture::new(bank(a_values, a)?, bank(b_values, b)?, target.columns.clone(), scale, config.lora_dropout)
}
