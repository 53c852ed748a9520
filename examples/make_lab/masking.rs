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

/// Packs the sequences of `rows`; 15 % of their words are to be predicted: of these 80 % become `[MASK]`, 10 % a
/// random word, 10 % stay. The choice depends on the seed and `index` alone.
pub fn masked_batch(
    sequences: &Sequences,
    rows: &[u32],
    vocabulary: usize,
    seed: SeedStream,
    index: u64,
) -> (Batch, Targets) {
    let mut stream = seed.stream(Purpose::Sampling, (1 << 60) + index);
    let mut targets = Targets::default();
    let (mut ids, mut offsets) = (Vec::new(), vec![0]);
    for &row in rows {
        let words = sequences.get(row as usize);
        ids.push(u32::from(CLS));
        let first = ids.len();
        ids.extend(words.iter().map(|&id| u32::from(id)));
        let chosen = ((words.len() as f64 * MASKED + stream.uniform()) as usize).clamp(1, words.len());
        let mut places: Vec<usize> = (first..ids.len()).collect();
        for i in 0..chosen {
            let j = i + stream.below(places.len() - i);
            places.swap(i, j);
            let place = places[i];
            targets.0.push((place as u32, ids[place]));
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
