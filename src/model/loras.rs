//! The linear layers of a block with the LoRA modules on them: which there are, which a setting names, and how they run.
//!
//! A target is one of the model's own matrices, which may be a block of rows of one of the four [`Slot`]s. Its path is the
//! Hugging Face name inside the layer, such as `self_attn.q_proj`.

use super::dropout::DropKeys;
use crate::error::{Error, Result};
use crate::mixture::lora::{self, Columns, Onto};
use crate::mixture::{Lora, LoraMixture, Route, RowMap};
use crate::nn::kernels::activation;
use crate::nn::profile::{Phase, scope, timed};
use crate::nn::{Act, Dropout, Grads, Linear};
use crate::tensor::Tensor;
use std::ops::Range;

/// First place number of LoRA's dropouts: beyond any layer's and any head's.
const DROP_PLACE: u64 = 1 << 41;

/// The linear layers of a block, in the order they run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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

impl Slot {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Qkv, Self::Out, Self::Inner, Self::Outer];
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

impl Target {
    /// A matrix of the checkpoint: rows of one linear layer's weight.
    pub fn whole(path: &str, slot: Slot, rows: Range<usize>, d_in: usize) -> Self {
        Self { path: path.to_owned(), slot, columns: vec![rows], d_in, whole: true }
    }
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

/// How the modules run in one forward.
#[derive(Clone, Copy)]
pub struct LoraRun<'a> {
    /// Which experts run; needed where there is a mixture.
    pub route: Option<&'a Route>,
    /// Dropout of the modules' inputs; absent in evaluation.
    pub drop: Option<DropKeys>,
}

/// What the backward pass of one linear layer's modules needs: the number of each module that ran, and what it saved.
pub type Saved = Vec<(usize, lora::Saved)>;

/// A linear layer of the base model with the LoRA modules on it.
#[derive(Clone, Debug)]
pub struct AdaptedLinear {
    /// The base model's own, frozen or trained.
    pub linear: Linear,
    /// What is added to its output.
    pub loras: Vec<Placed>,
}

impl AdaptedLinear {
    /// The mixtures among the modules.
    pub fn mixtures(&self) -> impl Iterator<Item = &LoraMixture> {
        self.loras.iter().filter_map(|placed| match &placed.module {
            Module::Mixture(mixture) => Some(mixture),
            Module::Merged(_) => None,
        })
    }

    /// Whether any module is trained.
    pub fn has_mixture(&self) -> bool {
        self.mixtures().next().is_some()
    }

    /// Whether a gradient is computed from its input.
    pub fn needs_input(&self) -> bool {
        self.linear.is_trained() || self.has_mixture()
    }

    /// x `[n, in]` -> `[n, out]`, and what backward needs
    pub fn forward(&self, x: &Tensor, run: LoraRun<'_>, rows: &RowMap) -> Result<(Tensor, Saved)> {
        self.run_part(x, &self.linear, run, rows, 0..usize::MAX)
    }

    /// The output z and `act(z)`; in one product where no module lies between. x `[n, in]` -> two of `[n, out]`, and what
    /// backward needs
    pub fn forward_act(
        &self,
        x: &Tensor,
        act: Act,
        run: LoraRun<'_>,
        rows: &RowMap,
    ) -> Result<(Tensor, Tensor, Saved)> {
        if self.loras.is_empty() {
            let (z, a) = timed(Phase::TrunkForward, || self.linear.forward_act(x, act))?;
            return Ok((z, a, Saved::new()));
        }
        let (z, saved) = self.forward(x, run, rows)?;
        let a = timed(Phase::Elementwise, || activation::forward(act, &z))?;
        Ok((z, a, saved))
    }

    /// The outputs `part` alone; modules elsewhere do not run. x `[n, in]` -> `[n, part]`, and what backward needs
    pub fn forward_part(
        &self,
        x: &Tensor,
        run: LoraRun<'_>,
        rows: &RowMap,
        part: Range<usize>,
    ) -> Result<(Tensor, Saved)> {
        self.run_part(x, &self.linear.rows(part.start, part.len())?, run, rows, part)
    }

    /// `linear`, the outputs `part` of the layer, with the modules that write there.
    fn run_part(
        &self,
        x: &Tensor,
        linear: &Linear,
        run: LoraRun<'_>,
        rows: &RowMap,
        part: Range<usize>,
    ) -> Result<(Tensor, Saved)> {
        let _phase = (!self.loras.is_empty()).then(|| scope(Phase::Adapters));
        let (mut onto, mut saved) = (Onto::Layer(linear), Saved::new());
        for (i, placed) in self.loras.iter().enumerate() {
            match &placed.module {
                Module::Mixture(mixture) if inside(mixture.columns(), &part) => {
                    let route = run.route.ok_or_else(|| Error::internal("a mixture was run without a route"))?;
                    let key = |keys: DropKeys| keys.at(DROP_PLACE + placed.site as u64, mixture.dropout());
                    let drop = run.drop.map_or_else(Dropout::none, key);
                    let here = mixture.shifted(part.start);
                    let (sum, kept) = here.forward(x, onto, (route, placed.site), rows, drop)?;
                    saved.push((i, kept));
                    onto = Onto::Output(sum);
                }
                Module::Merged(lora) if inside(lora.columns(), &part) => {
                    onto = Onto::Output(lora.shifted(part.start).forward(x, onto, rows)?);
                }
                _ => {}
            }
        }
        Ok((timed(Phase::TrunkForward, || onto.alone(x))?, saved))
    }

    /// Adds the gradients of what is trained here, and to `dx`, if it is given, the gradient of x through the modules. `x`
    /// gives the input again, where it is needed. The columns of `dy` are the outputs from `first` on.
    /// x `[n, in]`, dy `[n, out]`, dx `[n, in]`
    pub fn add_grads(
        &self,
        saved: &Saved,
        x: impl FnOnce() -> Result<Tensor>,
        (dy, first): (&Tensor, usize),
        mut dx: Option<Tensor>,
        grads: &mut Grads,
    ) -> Result<Option<Tensor>> {
        if !self.needs_input() {
            return Ok(dx);
        }
        let x = x()?;
        Linear::add_block_grads(&self.linear, first, &x, dy, grads)?;
        let _phase = scope(Phase::Adapters);
        for (i, kept) in saved {
            if let Some(Placed { module: Module::Mixture(mixture), .. }) = self.loras.get(*i) {
                dx = mixture.shifted(first).backward(kept, &x, dy, dx, grads)?;
            }
        }
        Ok(dx)
    }
}

fn inside(columns: &[Range<usize>], part: &Range<usize>) -> bool {
    columns.iter().all(|c| part.start <= c.start && c.end <= part.end)
}
