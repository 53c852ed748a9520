//! FLOPs of the matrix products of the frozen base model.

use crate::model::{DecoderSpec, EncoderSpec};

/// FLOPs of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Work {
    /// 4 for each weight and token: forward and backward of everything, as usually counted.
    pub nominal: f64,
    /// Those that are made: in the last layer only first tokens go on after attention, and below the lowest
    /// mixture nothing is computed backward.
    pub made: f64,
}

impl Work {
    /// Of a classifier's training step: tokens and sequences with all passes counted.
    pub fn of(spec: &EncoderSpec, tokens: usize, sequences: usize) -> Self {
        let (d, f) = (spec.hidden_size as f64, spec.intermediate_size as f64);
        let (tokens, sequences) = (tokens as f64, sequences as f64);
        let after = d * d + 2.0 * d * f;
        let whole = 2.0 * tokens * (3.0 * d * d + after);
        let last = 2.0 * (tokens * 2.0 * d * d + sequences * (d * d + after));
        let forward = |layer: usize| if layer + 1 == spec.num_layers { last } else { whole };
        let made = (0..spec.num_layers).map(|layer| forward(layer) * if layer == 0 { 1.0 } else { 2.0 }).sum();
        Self { nominal: 4.0 * spec.matmul_parameters() as f64 * tokens, made }
    }

    /// Of a language model's training step with LoRA on queries and values: tokens, and tokens that are learned, with all
    /// passes counted. The head's products are in both numbers.
    pub fn of_decoder(spec: &DecoderSpec, tokens: usize, targets: usize) -> Self {
        let (tokens, targets) = (tokens as f64, targets as f64);
        let (layers, head) = (spec.matmul_parameters() as f64, (spec.vocab_size * spec.hidden_size) as f64);
        // The lowest layer's queries, keys and values pass no gradient on.
        let lowest = (spec.hidden_size * spec.qkv_width()) as f64;
        Self {
            nominal: 4.0 * (layers + head) * tokens,
            made: 2.0 * tokens * (2.0 * layers - lowest) + 4.0 * targets * head,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Shape;

    #[test]
    fn a_decoder_saves_little() {
        let spec = Shape::by_name("smollm2-135m").unwrap().decoder_spec().unwrap();
        let work = Work::of_decoder(&spec, 2048, 2040);
        // 135 million parameters less the norms.
        assert!((work.nominal / 4.0 / 2048.0 - 134.5e6).abs() < 0.1e6, "{}", work.nominal / 4.0 / 2048.0);
        assert!(work.made < work.nominal && work.made > 0.99 * work.nominal);
    }

    #[test]
    fn nothing_is_saved_in_the_middle() {
        let spec = Shape::by_name("roberta-base").unwrap().spec().unwrap();
        let (tokens, sequences) = (2048, 32);
        let work = Work::of(&spec, tokens, sequences);
        assert_eq!(work.nominal, 4.0 * 84_934_656.0 * 2048.0);
        // One more layer adds 4 FLOPs a weight and token, whatever happens at both ends.
        let taller = EncoderSpec { num_layers: 13, ..spec.clone() };
        let more = Work::of(&taller, tokens, sequences);
        assert_eq!(more.made - work.made, more.nominal - work.nominal);
        assert!(work.made < 0.9 * work.nominal && work.made > 0.85 * work.nominal);
        // A sequence of one token saves nothing in the last layer: only the first layer's backward.
        let short = Work::of(&spec, 32, 32);
        assert_eq!(short.nominal - short.made, short.nominal / 24.0);
    }
}
