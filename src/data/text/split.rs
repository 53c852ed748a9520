//! Examples held out for evaluation.

use super::Example;
use crate::error::{Error, Result};
use crate::rng::{Purpose, SeedStream};
use std::collections::BTreeMap;

/// Splits `examples` into those to learn from and those held out, both in their old order.
///
/// The choice is always the same for the same examples. Those that ask for the same stay on the same side, so that no
/// input is both learned and measured.
pub(super) fn hold_out(examples: Vec<Example>, fraction: f64) -> Result<(Vec<Example>, Vec<Example>)> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut seen = BTreeMap::new();
    for (index, example) in examples.iter().enumerate() {
        // A plain text has no prompt: it belongs together with its own copies.
        let key = if example.prompt().is_empty() { example.key() } else { example.prompt_key() };
        let group = *seen.entry(key).or_insert(groups.len());
        if group == groups.len() {
            groups.push(Vec::new());
        }
        groups[group].push(index);
    }
    if groups.len() < 2 {
        return Err(Error::data(
            "one text cannot be split into training and evaluation; give more texts or a dev_file",
        ));
    }
    SeedStream::new(0).stream(Purpose::Sampling, 0).shuffle(&mut groups);
    let wanted = ((examples.len() as f64 * fraction).round() as usize).clamp(1, examples.len());
    let mut dev = vec![false; examples.len()];
    let mut taken = 0;
    // At least one group is left to learn from.
    for group in groups.iter().skip(1) {
        if taken < wanted {
            taken += group.len();
            group.iter().for_each(|&index| dev[index] = true);
        }
    }
    let (held, kept): (Vec<_>, Vec<_>) = examples.into_iter().zip(dev).partition(|(_, dev)| *dev);
    let strip = |examples: Vec<(Example, bool)>| examples.into_iter().map(|(example, _)| example).collect();
    Ok((strip(kept), strip(held)))
}
