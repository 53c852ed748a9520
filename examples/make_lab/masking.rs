//! A batch of sequences with words masked, and what was there.

use crate::head::Targets;
use crate::sequences::{CLS, SEP, Sequences};
use adamix::data::{Batch, Labels};
use adamix::rng::{Purpose, SeedStream};

/// Share of the words that are predicted.
const MASKED: f64 = 0.15;
/// `[MASK]` as the tokenizer numbers it.
const MASK: u32 = 4;
/// Special tokens come first.
const SPECIAL: u32 = 5;

/// Random streams of training steps; held-out batches use the ones above.
pub const HELD_OUT: u64 = 1 << 50;

/// Weights of words in a bag: rare words count fully, frequent ones by the root of their rarity.
pub struct BagWeights(Vec<f32>);

impl BagWeights {
    /// From how often each word occurs in the sequences.
    pub fn new(sequences: &Sequences, vocabulary: usize) -> Self {
        let mut counts = vec![0u64; vocabulary];
        for i in 0..sequences.len() {
            for &id in sequences.get(i) {
                if let Some(count) = counts.get_mut(usize::from(id)) {
                    *count += 1;
                }
            }
        }
        let total = sequences.tokens() as f64;
        let weight = |count: u64| (1e-4 * total / count.max(1) as f64).sqrt().min(1.0) as f32;
        let mut weights: Vec<f32> = counts.into_iter().map(weight).collect();
        weights.iter_mut().take(SPECIAL as usize).for_each(|weight| *weight = 0.0);
        Self(weights)
    }

    /// The words of a sequence with weights that sum to 1.
    fn bag(&self, ids: &[u16]) -> Vec<(u32, f32)> {
        let weight = |id: u16| self.0.get(usize::from(id)).copied().unwrap_or(0.0);
        let total = ids.iter().map(|&id| weight(id)).sum::<f32>().max(1e-9);
        let mut bag: Vec<(u32, f32)> = ids.iter().map(|&id| (u32::from(id), weight(id) / total)).collect();
        bag.sort_unstable_by_key(|&(id, _)| id);
        bag.dedup_by(|later, first| {
            let same = later.0 == first.0;
            if same {
                first.1 += later.1;
            }
            same
        });
        bag
    }
}

/// Packs the sequences of `rows`; 15 % of their words are to be predicted: of these 80 % become `[MASK]`, 10 % a
/// random word, 10 % stay. The choice depends on the seed and `index` alone.
pub fn masked_batch(
    sequences: &Sequences,
    rows: &[u32],
    bags: &BagWeights,
    vocabulary: usize,
    seed: SeedStream,
    index: u64,
) -> (Batch, Targets) {
    let mut stream = seed.stream(Purpose::Sampling, (1 << 60) + index);
    let mut targets = Targets::default();
    let (mut ids, mut offsets) = (Vec::new(), vec![0]);
    for &row in rows {
        let words = sequences.get(row as usize);
        targets.starts.push(ids.len() as u32);
        targets.bags.push(bags.bag(words));
        ids.push(u32::from(CLS));
        let first = ids.len();
        ids.extend(words.iter().map(|&id| u32::from(id)));
        let chosen = ((words.len() as f64 * MASKED + stream.uniform()) as usize).clamp(1, words.len());
        let mut places: Vec<usize> = (first..ids.len()).collect();
        for i in 0..chosen {
            let j = i + stream.below(places.len() - i);
            places.swap(i, j);
            let place = places[i];
            targets.masked.push((place as u32, ids[place]));
            let draw = stream.uniform();
            if draw < 0.8 {
                ids[place] = MASK;
            } else if draw < 0.9 {
                ids[place] = SPECIAL + stream.below(vocabulary - SPECIAL as usize) as u32;
            }
        }
        ids.push(u32::from(SEP));
        offsets.push(ids.len());
    }
    let n = rows.len();
    let batch = Batch {
        type_ids: vec![0; ids.len()],
        ids,
        offsets,
        labels: Labels::Classes(vec![0; n]),
        rows: rows.iter().map(|&row| row as usize).collect(),
    };
    (batch, targets)
}
