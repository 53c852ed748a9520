//! Running a stack of layers up, and its gradients down: the same for encoders and decoders.
//!
//! Of each layer from the lowest trained one on, the activations are saved, or, to save memory, its input alone: then the
//! layer runs once more in the backward pass. Dropout masks and routes are functions of the pass, so the bits are the same.

use super::dropout::DropKeys;
use super::loras::LoraRun;
use super::network::{BaseModel, LayerModules};
use crate::error::{Error, Result};
use crate::mixture::{Route, RowMap};
use crate::nn::profile::{Phase, timed};
use crate::nn::{Dropout, Grads};
use std::ops::Range;

/// How to run a batch.
#[derive(Clone, Copy)]
pub struct ForwardOptions<'a> {
    /// Times the batch goes through, packed as one: 2 for the consistency term.
    pub passes: usize,
    /// Which experts run; needed where there is a mixture.
    pub route: Option<&'a Route>,
    /// Dropout of the base model and the classification head; absent: none, as in evaluation.
    pub drop: Option<DropKeys>,
    /// Dropout of LoRA's inputs; absent: none, as in evaluation.
    pub lora_drop: Option<DropKeys>,
    /// Of an encoder: return every token's vector instead of the first token's of each sequence.
    pub all_tokens: bool,
    /// Save what the backward pass needs.
    pub keep: bool,
    /// Of most layers save the input only and run them again in the backward pass: less memory, more work, same bits.
    pub recompute: bool,
}

impl ForwardOptions<'_> {
    /// Evaluation of a model without a mixture (or merged).
    pub fn eval() -> Self {
        Self { passes: 1, route: None, drop: None, lora_drop: None, all_tokens: false, keep: false, recompute: false }
    }
}

/// Refuses packed sequences that a model cannot take; `max_length`: the longest in tokens, and why, where that is not its
/// table of positions.
pub(super) fn check_batch(
    ids: &[u32],
    offsets: &[usize],
    vocab_size: usize,
    (max_length, why): (usize, &str),
) -> Result<()> {
    if offsets.len() < 2 || offsets[0] != 0 || offsets.last() != Some(&ids.len()) {
        return Err(Error::internal("a batch whose offsets do not fit its tokens"));
    }
    if let Some(w) = offsets.windows(2).find(|w| w[1] <= w[0] || w[1] - w[0] > max_length) {
        return Err(Error::config(format!(
            "a sequence of {} tokens; this model takes 1 to {max_length}{why}, lower max_length",
            w[1].saturating_sub(w[0])
        )));
    }
    check_ids(ids, vocab_size)
}

/// Refuses token ids outside the vocabulary.
pub(super) fn check_ids(ids: &[u32], vocab_size: usize) -> Result<()> {
    match ids.iter().find(|&&id| id as usize >= vocab_size) {
        Some(id) => Err(Error::config(format!(
            "token id {id} is outside the model's vocabulary of {vocab_size}: the text holds a token that the model has no row for, or the tokenizer belongs to another model"
        ))),
        None => Ok(()),
    }
}

/// What all layers of one forward have in common: the packed sequences of all passes, the route, the dropout.
#[derive(Debug)]
pub(super) struct PassMode {
    /// Rows of the sequences, all passes.
    pub spans: Vec<Range<usize>>,
    /// Every token is a row.
    pub tokens: RowMap,
    pub route: Option<Route>,
    drop: Option<DropKeys>,
    lora_drop: Option<DropKeys>,
}

impl PassMode {
    /// Of a batch with these bounds of its sequences. `[sequences + 1]`
    pub fn new(offsets: &[usize], options: &ForwardOptions<'_>) -> Self {
        let total = offsets.last().copied().unwrap_or(0);
        let spans = (0..options.passes)
            .flat_map(|pass| offsets.windows(2).map(move |w| w[0] + pass * total..w[1] + pass * total));
        Self {
            spans: spans.collect(),
            tokens: RowMap::tokens(offsets, options.passes),
            route: options.route.cloned(),
            drop: options.drop,
            lora_drop: options.lora_drop,
        }
    }

    /// The dropout at one place of the base model.
    pub fn dropout(&self, place: u64, p: f64) -> Dropout {
        self.drop.map_or_else(Dropout::none, |keys| keys.at(place, p))
    }

    /// The route, and the number of layer `i`'s adapter in it.
    pub fn route(&self, i: usize) -> Option<(&Route, usize)> {
        self.route.as_ref().map(|route| (route, i))
    }

    /// How LoRA modules run.
    pub fn lora(&self) -> LoraRun<'_> {
        LoraRun { route: self.route.as_ref(), drop: self.lora_drop }
    }
}

/// What comes out of the last layer, and what is saved of each.
pub(super) type ForwardResult<X, S> = (X, Vec<SavedActivations<X, S>>);

/// What is saved of one layer.
#[derive(Debug)]
pub(super) enum SavedActivations<X, S> {
    /// Nothing: no gradient comes down to it.
    Nothing,
    /// Its input; the rest is computed again.
    Input(X),
    /// All that its backward needs.
    All(Box<S>),
}

/// A layer on the way back.
pub(super) struct At<'a, P> {
    /// Its number, from 0 at the bottom.
    pub layer: usize,
    /// What all layers have in common.
    pub pass: &'a P,
    /// Whether the gradient of its input is needed.
    pub below: bool,
}

/// Layers one above the other.
pub(super) trait Stack: BaseModel {
    /// What goes from one layer to the next.
    type Hidden;
    /// Its gradient.
    type Gradient;
    /// What one layer's backward needs.
    type Saved;
    /// What all layers of one forward have in common.
    type Pass;

    /// Layer `i`.
    fn layer_forward(&self, i: usize, x: &Self::Hidden, pass: &Self::Pass) -> Result<(Self::Hidden, Self::Saved)>;
    /// Back through one layer: adds the gradients of what is trained there, and gives that of its input if it is needed.
    fn layer_backward(
        &self,
        at: At<'_, Self::Pass>,
        saved: Self::Saved,
        dy: Self::Gradient,
        grads: &mut Grads,
    ) -> Result<Option<Self::Gradient>>;

    /// The lowest layer that a gradient must reach: 0 where the base model itself is trained.
    fn lowest_trained(&self) -> Option<usize> {
        if self.base_trained() { Some(0) } else { self.modules().position(LayerModules::has_mixture) }
    }

    /// All layers, bottom first.
    fn forward_layers(
        &self,
        x: Self::Hidden,
        pass: &Self::Pass,
        options: &ForwardOptions<'_>,
    ) -> Result<ForwardResult<Self::Hidden, Self::Saved>> {
        let (depth, lowest) = (self.modules().count(), self.lowest_trained().unwrap_or(usize::MAX));
        let (mut x, mut saved) = (x, Vec::new());
        for i in 0..depth {
            let (y, all) = self.layer_forward(i, &x, pass)?;
            if options.keep {
                saved.push(if i < lowest {
                    SavedActivations::Nothing
                } else if options.recompute && i + 1 < depth {
                    SavedActivations::Input(x)
                } else {
                    // The last layer's backward comes at once: saving all of it costs nothing at the peak.
                    SavedActivations::All(Box::new(all))
                });
            }
            x = y;
        }
        Ok((x, saved))
    }

    /// The layers from number `from` on, in evaluation. `kept`: the inputs of the layers from the lowest on, at least one; what lies
    /// above `from` is replaced. -> the output of the last layer, and how many layers ran
    fn resume_layers(
        &self,
        kept: &mut Vec<Self::Hidden>,
        from: usize,
        pass: &Self::Pass,
    ) -> Result<(Self::Hidden, usize)>
    where
        Self::Hidden: Clone,
    {
        let depth = self.modules().count();
        let from = from.min(kept.len().saturating_sub(1));
        kept.truncate(from + 1);
        let mut x = kept.last().cloned().ok_or_else(|| Error::internal("no layer's input is kept"))?;
        for i in from..depth {
            x = self.layer_forward(i, &x, pass)?.0;
            if i + 1 < depth {
                kept.push(x.clone());
            }
        }
        Ok((x, depth - from))
    }

    /// Down to the lowest trained layer; gives the gradient of the first layer's input where that is needed.
    fn backward_layers(
        &self,
        saved: Vec<SavedActivations<Self::Hidden, Self::Saved>>,
        dy: Self::Gradient,
        pass: &Self::Pass,
        grads: &mut Grads,
    ) -> Result<Option<Self::Gradient>> {
        let Some(lowest) = self.lowest_trained() else { return Ok(None) };
        let mut dy = dy;
        for (i, saved) in saved.into_iter().enumerate().skip(lowest).rev() {
            let saved = match saved {
                SavedActivations::All(saved) => *saved,
                SavedActivations::Input(x) => timed(Phase::Recompute, || self.layer_forward(i, &x, pass))?.1,
                SavedActivations::Nothing => {
                    return Err(Error::internal("nothing was saved of a layer that has a gradient"));
                }
            };
            let at = At { layer: i, pass, below: i > lowest || self.base_trained() };
            match self.layer_backward(at, saved, dy, grads)? {
                Some(dx) => dy = dx,
                None => return Ok(None),
            }
        }
        Ok(Some(dy))
    }
}
