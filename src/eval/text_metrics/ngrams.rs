//! Counting n-grams: every n-gram gets a number, and the counts of a text are a list sorted by it.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A map from pairs of numbers with a cheap hash, which is not safe against chosen keys.
pub(crate) type PairMap<V> = HashMap<(u32, u32), V, BuildHasherDefault<PairHasher>>;

/// Multiplies by an odd constant and folds the high bits down.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PairHasher(u64);

impl Hasher for PairHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u32(u32::from(byte)));
    }

    fn write_u32(&mut self, number: u32) {
        self.0 = (self.0.rotate_left(32) ^ u64::from(number)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }
}

/// The empty n-gram, the root of the tree.
const ROOT: u32 = 0;

/// Numbers for words.
#[derive(Clone, Debug, Default)]
pub(crate) struct Words {
    numbers: HashMap<String, u32>,
}

impl Words {
    /// The number of each word; words that were never seen get new ones.
    pub(crate) fn numbers<'a>(&mut self, words: impl IntoIterator<Item = &'a str>) -> Vec<u32> {
        words.into_iter().map(|word| self.number(word)).collect()
    }

    pub(crate) fn number(&mut self, word: &str) -> u32 {
        match self.numbers.get(word) {
            Some(&number) => number,
            None => {
                let number = self.numbers.len() as u32;
                self.numbers.insert(word.to_owned(), number);
                number
            }
        }
    }
}

/// A tree of all n-grams seen so far: the parent of an n-gram is its first n - 1 symbols.
///
/// Symbols are words (by their number) or characters (by their code).
#[derive(Clone, Debug)]
pub(crate) struct Grams {
    children: PairMap<u32>,
    parents: Vec<u32>,
}

impl Default for Grams {
    fn default() -> Self {
        Self { children: PairMap::default(), parents: vec![ROOT] }
    }
}

impl Grams {
    /// How many n-grams have a number; numbers are below this.
    pub(crate) fn len(&self) -> usize {
        self.parents.len()
    }

    /// The n-gram without its last symbol; [`Grams::is_root`] of it for single symbols.
    pub(crate) fn parent(&self, gram: u32) -> u32 {
        self.parents[gram as usize]
    }

    /// Whether this is the n-gram of no symbols.
    pub(crate) fn is_root(gram: u32) -> bool {
        gram == ROOT
    }

    /// Counts the n-grams of one text for n = 1 to `orders`.
    pub(crate) fn count(&mut self, symbols: &[u32], orders: usize) -> Counts {
        let mut found: Vec<Vec<u32>> =
            (0..orders).map(|order| Vec::with_capacity(symbols.len().saturating_sub(order))).collect();
        for start in 0..symbols.len() {
            let mut gram = ROOT;
            for (list, &symbol) in found.iter_mut().zip(&symbols[start..]) {
                gram = self.child(gram, symbol);
                list.push(gram);
            }
        }
        Counts { length: symbols.len(), orders: found.into_iter().map(run_lengths).collect() }
    }

    fn child(&mut self, gram: u32, symbol: u32) -> u32 {
        let next = self.parents.len() as u32;
        let number = *self.children.entry((gram, symbol)).or_insert(next);
        if number == next {
            self.parents.push(gram);
        }
        number
    }
}

/// How often each n-gram occurs in one text, in the order of the n-grams' numbers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    /// Symbols of the text.
    pub(crate) length: usize,
    /// For n = 1, 2, ...: the n-grams and their counts.
    pub(crate) orders: Vec<Vec<(u32, u32)>>,
}

impl Counts {
    /// N-grams of the text with repetitions, for n = `order` + 1.
    pub(crate) fn total(&self, order: usize) -> usize {
        self.length.saturating_sub(order)
    }

    /// For each n-gram the larger of both counts; the length is the longer one.
    pub(crate) fn larger(&self, other: &Self) -> Self {
        let orders = self.orders.len().max(other.orders.len());
        let list = |counts: &Self, order| counts.orders.get(order).cloned().unwrap_or_default();
        let merged = (0..orders).map(|order| {
            let mut both = list(self, order);
            both.extend(list(other, order));
            both.sort_unstable();
            // Equal n-grams lie side by side, the larger count last.
            both.dedup_by(|later, kept| {
                later.0 == kept.0 && {
                    kept.1 = later.1;
                    true
                }
            });
            both
        });
        Self { length: self.length.max(other.length), orders: merged.collect() }
    }
}

/// Calls `visit` with each n-gram that two sorted lists share, and with both counts.
pub(crate) fn shared(left: &[(u32, u32)], right: &[(u32, u32)], mut visit: impl FnMut(u32, u32, u32)) {
    let (mut i, mut j) = (0, 0);
    while i < left.len() && j < right.len() {
        let ((gram, count), (other, other_count)) = (left[i], right[j]);
        if gram == other {
            visit(gram, count, other_count);
        }
        i += usize::from(gram <= other);
        j += usize::from(other <= gram);
    }
}

/// Matches of two sorted lists: the smaller count of each shared n-gram, summed.
pub(crate) fn matches(left: &[(u32, u32)], right: &[(u32, u32)]) -> u64 {
    let mut sum = 0;
    shared(left, right, |_, count, other| sum += u64::from(count.min(other)));
    sum
}

fn run_lengths(mut grams: Vec<u32>) -> Vec<(u32, u32)> {
    grams.sort_unstable();
    grams.chunk_by(|a, b| a == b).map(|run| (run[0], run.len() as u32)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_those_of_the_text() {
        let (mut words, mut grams) = (Words::default(), Grams::default());
        let text = words.numbers("a b a b c".split(' '));
        let counts = grams.count(&text, 3);
        let sizes: Vec<Vec<u32>> =
            counts.orders.iter().map(|list| list.iter().map(|&(_, count)| count).collect()).collect();
        // a 2, b 2, c 1; "a b" 2, "b a" 1, "b c" 1; three trigrams once each.
        assert_eq!(sizes, [vec![2, 2, 1], vec![2, 1, 1], vec![1, 1, 1]]);
        assert_eq!((counts.total(0), counts.total(2), counts.total(9)), (5, 3, 0));

        let other = grams.count(&words.numbers("a b b".split(' ')), 3);
        assert_eq!(matches(&counts.orders[0], &other.orders[0]), 3);
        assert_eq!(matches(&counts.orders[1], &other.orders[1]), 1);
        assert_eq!(matches(&counts.orders[2], &other.orders[2]), 0);
        let larger = counts.larger(&other);
        assert_eq!(larger.orders[1].iter().map(|&(_, count)| count).sum::<u32>(), 5);
        assert_eq!(matches(&other.orders[1], &larger.orders[1]), 2);
    }

    #[test]
    fn the_parent_of_an_n_gram_is_its_beginning() {
        let mut grams = Grams::default();
        let counts = grams.count(&[7, 8], 2);
        let (seven, both) = (counts.orders[0][0].0, counts.orders[1][0].0);
        assert_eq!(grams.parent(both), seven);
        assert!(Grams::is_root(grams.parent(seven)));
        assert_eq!(grams.len(), 4);
    }
}
