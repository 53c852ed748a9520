//! Held-out items for evaluation, the same for the same items in every run.

use crate::rng::{Purpose, SeedStream};
use std::collections::BTreeMap;

/// The indices of items with equal keys, one group for each key, in order of appearance.
pub(super) fn groups<K: Ord>(keys: impl Iterator<Item = K>) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut seen = BTreeMap::new();
    for (index, key) in keys.enumerate() {
        let group = *seen.entry(key).or_insert(groups.len());
        if group == groups.len() {
            groups.push(Vec::new());
        }
        groups[group].push(index);
    }
    groups
}

/// Splits `items` into those to learn from and those held out, both in their old order.
///
/// `strata` holds groups of indices for each class: about `fraction` of the items of every class are held out, whole
/// groups only, and at least one group of every class is left to learn from.
pub(super) fn hold_out<T>(items: Vec<T>, strata: BTreeMap<u32, Vec<Vec<usize>>>, fraction: f64) -> (Vec<T>, Vec<T>) {
    let mut held = vec![false; items.len()];
    for (class, mut groups) in strata {
        let count: usize = groups.iter().map(Vec::len).sum();
        let wanted = ((count as f64 * fraction).round() as usize).clamp(1, count);
        SeedStream::new(0).stream(Purpose::Sampling, u64::from(class)).shuffle(&mut groups);
        // A group that is many times too large would leave too little to learn from.
        let fits = |group: &&Vec<usize>| group.len() <= 2 * wanted.max(1);
        let mut chosen: Vec<&Vec<usize>> = groups.iter().skip(1).filter(fits).collect();
        if chosen.is_empty() && groups.len() > 1 {
            chosen.extend(groups.iter().min_by_key(|group| group.len()));
        }
        let mut taken = 0;
        for group in chosen {
            if taken < wanted {
                taken += group.len();
                group.iter().for_each(|&index| held[index] = true);
            }
        }
    }
    let (held, kept): (Vec<_>, Vec<_>) = items.into_iter().zip(held).partition(|(_, held)| *held);
    let strip = |items: Vec<(T, bool)>| items.into_iter().map(|(item, _)| item).collect();
    (strip(kept), strip(held))
}
