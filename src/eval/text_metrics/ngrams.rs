//! Counting n-grams: every n-gram gets a number.

use std::collections::{BTreeMap, HashMap};

/// The empty n-gram, the root of the tree.
const ROOT: u32 = 0;

/// Numbers for words.
#[derive(Clone, Debug, Default)]
pub(crate) struct Words {
    numbers: HashMap<String, u32>,
}

impl Words {
    /// The number of each word; words that were never seen get new ones.
    pub(crate) fn numbers(&mut self, words: impl IntoIterator<Item: AsRef<str>>) -> Vec<u32> {
        words.into_iter().map(|word| self.number(word.as_ref())).collect()
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
    children: HashMap<(u32, u32), u32>,
    parents: Vec<u32>,
}

impl Default for Grams {
    fn default() -> Self {
        Self { children: HashMap::new(), parents: vec![ROOT] }
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
        let mut counts = Counts { length: symbols.len(), orders: vec![GramCounts::new(); orders] };
        for start in 0..symbols.len() {
            let mut gram = ROOT;
            for (counts, &symbol) in counts.orders.iter_mut().zip(&symbols[start..]) {
                gram = self.child(gram, symbol);
                *counts.entry(gram).or_default() += 1;
            }
        }
        counts
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

/// How often n-grams occur, by their numbers.
pub(crate) type GramCounts = BTreeMap<u32, u32>;

/// How often each n-gram occurs in one text.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    /// Symbols of the text.
    pub(crate) length: usize,
    /// For n = 1, 2, ...
    pub(crate) orders: Vec<GramCounts>,
}

impl Counts {
    /// N-grams of the text with repetitions, for n = `order` + 1.
    pub(crate) fn total(&self, order: usize) -> usize {
        self.length.saturating_sub(order)
    }

    /// For each n-gram the larger of both counts; the length is the longer one.
    pub(crate) fn larger(mut self, other: &Self) -> Self {
        self.length = self.length.max(other.length);
        self.orders.resize(self.orders.len().max(other.orders.len()), GramCounts::new());
        for (own, theirs) in self.orders.iter_mut().zip(&other.orders) {
            for (&gram, &count) in theirs {
                let largest = own.entry(gram).or_default();
                *largest = count.max(*largest);
            }
        }
        self
    }
}

/// The n-grams that two texts share with both counts, in the order of their numbers.
pub(crate) fn shared<'a>(left: &'a GramCounts, right: &'a GramCounts) -> impl Iterator<Item = (u32, u32, u32)> + 'a {
    left.iter().filter_map(|(&gram, &count)| Some((gram, count, *right.get(&gram)?)))
}

/// The smaller count of each shared n-gram, summed.
pub(crate) fn matches(left: &GramCounts, right: &GramCounts) -> u64 {
    shared(left, right).map(|(_, count, other)| u64::from(count.min(other))).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_those_of_the_text() {
        let (mut words, mut grams) = (Words::default(), Grams::default());
        let text = words.numbers("a b a b c".split(' '));
        let counts = grams.count(&text, 3);
        let sizes: Vec<Vec<u32>> = counts.orders.iter().map(|counts| counts.values().copied().collect()).collect();
        // a 2, b 2, c 1; "a b" 2, "b a" 1, "b c" 1; three trigrams once each.
        assert_eq!(sizes, [vec![2, 2, 1], vec![2, 1, 1], vec![1, 1, 1]]);
        assert_eq!((counts.total(0), counts.total(2), counts.total(9)), (5, 3, 0));

        let other = grams.count(&words.numbers("a b b".split(' ')), 3);
        assert_eq!(matches(&counts.orders[0], &other.orders[0]), 3);
        assert_eq!(matches(&counts.orders[1], &other.orders[1]), 1);
        assert_eq!(matches(&counts.orders[2], &other.orders[2]), 0);
        let larger = counts.larger(&other);
        assert_eq!(larger.orders[1].values().sum::<u32>(), 5);
        assert_eq!(matches(&other.orders[1], &larger.orders[1]), 2);
    }

    #[test]
    fn the_parent_of_an_n_gram_is_its_beginning() {
        let mut grams = Grams::default();
        let counts = grams.count(&[7, 8], 2);
        let [seven, both] = [0, 1].map(|order| *counts.orders[order].keys().next().unwrap());
        assert_eq!(grams.parent(both), seven);
        assert!(Grams::is_root(grams.parent(seven)));
        assert_eq!(grams.len(), 4);
    }
}
