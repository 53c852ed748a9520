//! Pairs of neighbours in counted words: what byte-pair encoding merges, again and again. Ties go to the smaller ids, so
//! the same words always give the same pieces.

use std::collections::{BTreeSet, BinaryHeap, HashMap};

/// Counts of neighbouring pieces, kept up to date while pairs are merged.
pub struct Pairs {
    counts: HashMap<(u32, u32), i64>,
    places: HashMap<(u32, u32), BTreeSet<u32>>,
    /// Candidates with the count they had when pushed; stale ones are dropped when they come up.
    queue: BinaryHeap<(i64, std::cmp::Reverse<(u32, u32)>)>,
}

impl Pairs {
    /// Counts the neighbours in words, each as often as it says.
    pub fn new(words: &[(Vec<u32>, u64)]) -> Self {
        let mut this = Self { counts: HashMap::new(), places: HashMap::new(), queue: BinaryHeap::new() };
        for (i, (word, count)) in words.iter().enumerate() {
            for pair in word.windows(2) {
                let pair = (pair[0], pair[1]);
                *this.counts.entry(pair).or_default() += *count as i64;
                this.places.entry(pair).or_default().insert(i as u32);
            }
        }
        this.queue = this.counts.iter().map(|(&pair, &count)| (count, std::cmp::Reverse(pair))).collect();
        this
    }

    /// The most frequent pair; of equals the one with the smaller ids.
    pub fn best(&mut self) -> Option<(u32, u32)> {
        loop {
            let (count, std::cmp::Reverse(pair)) = self.queue.pop()?;
            let now = self.counts.get(&pair).copied().unwrap_or(0);
            if now == count && count > 0 {
                return Some(pair);
            }
            if now > 0 {
                self.queue.push((now, std::cmp::Reverse(pair)));
            }
        }
    }

    /// Replaces `pair` by `id` in every word that has it.
    pub fn merge(&mut self, words: &mut [(Vec<u32>, u64)], pair: (u32, u32), id: u32) {
        let mut touched = BTreeSet::new();
        for place in self.places.remove(&pair).unwrap_or_default() {
            let (word, count) = &mut words[place as usize];
            let mut next = Vec::with_capacity(word.len());
            let mut i = 0;
            while i < word.len() {
                if i + 1 < word.len() && (word[i], word[i + 1]) == pair {
                    next.push(id);
                    i += 2;
                } else {
                    next.push(word[i]);
                    i += 1;
                }
            }
            for old in word.windows(2) {
                *self.counts.entry((old[0], old[1])).or_default() -= *count as i64;
            }
            for new in next.windows(2) {
                let new = (new[0], new[1]);
                *self.counts.entry(new).or_default() += *count as i64;
                self.places.entry(new).or_default().insert(place);
                touched.insert(new);
            }
            *word = next;
        }
        self.counts.remove(&pair);
        for new in touched {
            if let Some(&count) = self.counts.get(&new) {
                self.queue.push((count, std::cmp::Reverse(new)));
            }
        }
    }
}
