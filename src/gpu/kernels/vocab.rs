//! Cross-entropy over a vocabulary with the consistency term between two passes, and scores of targets.

use super::rows::{format_of, lanes, lanes_of, over_rows, threads_of, version};
use crate::gpu::{Format, Launch, Operand, Source};

const SOURCES: [Source; 2] = lanes!("vocab", ["G"], "rows");

/// What each row's parts of a loss's gradient are multiplied with.
#[derive(Clone, Copy, Debug, Default)]
pub struct LossWeights {
    /// Cross-entropy of each pass. With a second one above 0 the loss of a row is the mean of both.
    pub task: [f32; 2],
    /// Consistency term.
    pub consistency: f32,
    /// Share of a target's weight spread over the vocabulary.
    pub smoothing: f32,
    /// Take the other pass as a constant in each direction of the consistency term.
    pub detach: bool,
}

/// A loss over a vocabulary, of one pass or two.
#[derive(Clone, Copy, Debug)]
pub struct VocabLoss {
    /// Logits of the first pass, f32. `[n, vocab]`
    pub a: Operand,
    /// Logits of the second pass, f32. `[n, vocab]`
    pub b: Option<Operand>,
    /// Target of each row, below `vocab`. U32 `[n]`
    pub targets: Operand,
    /// Output: smoothed cross-entropy, half the symmetric divergence, plain cross-entropy of the first pass, f32. `[n, 3]`
    pub parts: Operand,
    /// Output: gradients of the logits of both passes, of one format. In f32 they may be the logits themselves, then both
    /// are. `[n, vocab]` each
    pub grads: Option<(Operand, Option<Operand>)>,
    /// Rows.
    pub n: usize,
    /// Tokens in the vocabulary, at least 1.
    pub vocab: usize,
    /// Factors of the gradient.
    pub weights: LossWeights,
}

fn launch(entry: &'static str, operands: [Option<Operand>; 6], [n, vocab]: [usize; 2]) -> Launch {
    let [a, b, _, _, da, db] = operands;
    let lanes = lanes_of(vocab, &[a, b, da, db]);
    let width = vocab / lanes;
    let launch = Launch::new(version(SOURCES, lanes), entry).constant("G", format_of(da));
    let launch = operands.into_iter().fold(launch, Launch::operand);
    over_rows(launch, n, threads_of(width)).ints([n, width]).floats([1.0 / vocab.max(1) as f32])
}

impl VocabLoss {
    /// All rows.
    pub fn launch(self) -> Launch {
        let Self { a, b, targets, parts, grads, n, vocab, weights } = self;
        let LossWeights { task: [weight_a, weight_b], consistency, smoothing, detach } = weights;
        let in_place = grads.is_some_and(|(da, _)| da == a);
        // Written through the operands that are read, which the compiler must not take for others.
        let (da, db) = grads.filter(|_| !in_place).map_or((None, None), |(da, db)| (Some(da), db));
        let half = 0.5 * consistency;
        let passes = if b.is_some() { 2.0 } else { 1.0 };
        launch("vocab_loss", [Some(a), b, Some(targets), Some(parts), da, db], [n, vocab])
            .constant("TWO", b.is_some())
            .constant("GRADIENT", grads.is_some())
            .constant("IN_PLACE", in_place)
            .constant("TARGETS", true)
            .constant("MIXED", false)
            .floats([smoothing, weight_a, weight_b])
            .ints([usize::from(b.is_some() && weight_b > 0.0)])
            .floats([half, if detach { 0.0 } else { half }])
            .work(12.0 * passes * n as f64 * vocab as f64)
    }
}

/// Scores of targets, or the place of the largest value alone.
#[derive(Clone, Copy, Debug)]
pub struct VocabScore {
    /// Logits; without targets any numbers. f32 `[n, vocab]`
    pub logits: Operand,
    /// Target of each row, below `vocab`; absent: only the largest value's place is looked for. U32 `[n]`
    pub targets: Option<Operand>,
    /// Output: log p of the target (without targets 0), and the first of the likeliest tokens, a whole number; f32. `[n, 2]`
    pub parts: Operand,
    /// Where the probabilities are added, f32; only with targets. `[n, vocab]`
    pub mixed: Option<Operand>,
    /// Rows.
    pub n: usize,
    /// Tokens in the vocabulary: 1 to 2^24.
    pub vocab: usize,
}

impl VocabScore {
    /// All rows.
    pub fn launch(self) -> Launch {
        let Self { logits, targets, parts, mixed, n, vocab } = self;
        let mixed = mixed.filter(|_| targets.is_some());
        debug_assert!(mixed.is_none_or(|mixed| mixed.format == Format::F32), "probabilities in {mixed:?}");
        launch("vocab_score", [Some(logits), None, targets, Some(parts), mixed, None], [n, vocab])
            .constant("TWO", false)
            .constant("GRADIENT", false)
            .constant("IN_PLACE", false)
            .constant("TARGETS", targets.is_some())
            .constant("MIXED", mixed.is_some())
            .floats([0.0; 3])
            .ints([0])
            .floats([0.0; 2])
            .work(4.0 * n as f64 * vocab as f64)
    }
}
