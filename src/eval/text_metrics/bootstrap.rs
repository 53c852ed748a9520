//! Significance of a difference in BLEU by the paired bootstrap (Koehn 2004): segments are drawn with replacement, the same
//! ones for both systems. The variation between training seeds is not part of it.

use crate::eval::text_metrics::bleu::BleuCounts;
use crate::eval::text_metrics::{Protocol, SegmentScores};
use crate::rng::{Purpose, SeedStream};
use serde::{Deserialize, Serialize};

/// Corpora that are drawn.
const DRAWN: usize = 1000;
/// The interval's ends among them: 2.5 % lie below and above.
const ENDS: [usize; 2] = [DRAWN / 40, DRAWN - 1 - DRAWN / 40];

/// One system's BLEU less another's, -1 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct BleuDifference {
    /// On all segments.
    pub difference: f64,
    /// Lower end of the 95 % interval.
    pub low: f64,
    /// Upper end of the 95 % interval.
    pub high: f64,
}

impl BleuDifference {
    /// BLEU of `own` less that of `other` on the same segments; nothing for fewer than two, or for texts of different
    /// sets.
    pub fn of(own: &SegmentScores, other: &SegmentScores, protocol: Protocol) -> Option<Self> {
        let segments = own.bleu.len();
        if segments < 2 || other.bleu.len() != segments {
            return None;
        }
        let bleu = |scores: &SegmentScores, chosen: &[usize]| {
            let counts: BleuCounts = chosen.iter().filter_map(|&segment| scores.bleu.get(segment)).sum();
            counts.score(protocol)
        };
        let apart = |chosen: &[usize]| bleu(own, chosen) - bleu(other, chosen);
        let mut stream = SeedStream::new(0).stream(Purpose::Sampling, 0);
        let mut drawn: Vec<f64> =
            (0..DRAWN).map(|_| apart(&(0..segments).map(|_| stream.below(segments)).collect::<Vec<_>>())).collect();
        drawn.sort_by(f64::total_cmp);
        let all: Vec<usize> = (0..segments).collect();
        let [low, high] = ENDS.map(|end| drawn[end]);
        Some(Self { difference: apart(&all), low, high })
    }

    /// Whether the interval leaves out 0.
    pub fn is_shown(&self) -> bool {
        self.low > 0.0 || self.high < 0.0
    }

    /// In BLEU's usual points: `-7.8 (-15.3 to -0.4)`, or `+2.1 (-3.0 to +7.2), no difference shown`.
    pub fn describe(&self) -> String {
        let [difference, low, high] = [self.difference, self.low, self.high].map(|value| 100.0 * value);
        let verdict = if self.is_shown() { "" } else { ", no difference shown" };
        format!("{difference:+.1} ({low:+.1} to {high:+.1}){verdict}")
    }
}
