//! METEOR's alignment of the words of an output and a reference.
//!
//! A word with one possible partner whose only partner it is, is matched first. The rest is decided by a beam search over
//! the reference from left to right (40 partial alignments), ordered by: more words matched exactly, then fewer chunks
//! (contiguous runs in the same order on both sides), then smaller sum of distances between the matched positions. Ties keep
//! the order exact matches, stems, synonyms, each from left to right in the output, no match.
//!
//! As in METEOR 1.5, the distance of an alternative is added not to itself but to the alternatives that come after it at the
//! same word.

use crate::eval::text_metrics::meteor::words::Lexicon;

/// Partial alignments that are kept.
const BEAM: usize = 40;

/// How a pair of words was matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Module {
    Exact,
    Stem,
    Synonym,
}

/// A match of a reference word with the output word at `output`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Match {
    pub(crate) output: usize,
    pub(crate) module: Module,
}

/// An alignment of the reference words so far, with its measures.
#[derive(Clone, Debug, Default)]
pub(crate) struct Alignment {
    exact: u32,
    /// Runs of matches that are contiguous and in the same order on both sides.
    pub(crate) chunks: usize,
    distance: u32,
    /// The output position after the last match, if the word before was matched.
    chunk_end: Option<usize>,
    /// For each reference word its match, if it has one.
    pub(crate) matches: Vec<Option<Match>>,
}

/// The best alignment.
pub(crate) fn align(output: &[u32], reference: &[u32], lexicon: &Lexicon) -> Alignment {
    let candidates = candidates(output, reference, lexicon);
    let mut coverage = vec![0u32; output.len()];
    for candidate in candidates.iter().flatten() {
        coverage[candidate.output] += 1;
    }
    let mut paths = vec![Alignment::default()];
    for (position, list) in candidates.iter().enumerate() {
        keep_best(&mut paths);
        match list[..] {
            [only] if coverage[only.output] == 1 => paths.iter_mut().for_each(|path| {
                path.take(only);
                path.distance += only.output.abs_diff(position) as u32;
            }),
            _ => paths = paths.into_iter().flat_map(|path| path.continued(position, list)).collect(),
        }
    }
    keep_best(&mut paths);
    paths.iter_mut().for_each(Alignment::close_chunk);
    keep_best(&mut paths);
    paths.into_iter().next().unwrap_or_default()
}

/// All possible partners of each reference word, in the order of the modules.
fn candidates(output: &[u32], reference: &[u32], lexicon: &Lexicon) -> Vec<Vec<Match>> {
    let same = output == reference;
    let of_word = |&word: &u32| {
        let mut found = Vec::new();
        let (mut stems, mut synonyms) = (Vec::new(), Vec::new());
        for (position, &other) in output.iter().enumerate() {
            if other == word {
                found.push(Match { output: position, module: Module::Exact });
            } else if !same {
                // Equal sentences are matched exactly and no further.
                let relation = lexicon.relation(other, word);
                if relation.stem {
                    stems.push(Match { output: position, module: Module::Stem });
                }
                if relation.synonym {
                    synonyms.push(Match { output: position, module: Module::Synonym });
                }
            }
        }
        found.append(&mut stems);
        found.append(&mut synonyms);
        found
    };
    reference.iter().map(of_word).collect()
}

impl Alignment {
    /// The paths on which the next reference word, at `position`, has one of its partners that is still free, or none.
    fn continued(mut self, position: usize, candidates: &[Match]) -> Vec<Self> {
        let mut found = Vec::with_capacity(candidates.len() + 1);
        for &candidate in candidates {
            if self.matches.iter().flatten().any(|matched| matched.output == candidate.output) {
                continue;
            }
            let mut path = self.clone();
            path.take(candidate);
            found.push(path);
            self.distance += candidate.output.abs_diff(position) as u32;
        }
        self.close_chunk();
        self.matches.push(None);
        found.push(self);
        found
    }

    fn take(&mut self, matched: Match) {
        if matched.module == Module::Exact {
            self.exact += 1;
        }
        if self.chunk_end.is_some_and(|end| end != matched.output) {
            self.chunks += 1;
        }
        self.chunk_end = Some(matched.output + 1);
        self.matches.push(Some(matched));
    }

    fn close_chunk(&mut self) {
        self.chunks += usize::from(self.chunk_end.take().is_some());
    }
}

/// Sorts paths, best first, and drops those beyond the beam; equal ones stay in their order.
fn keep_best(paths: &mut Vec<Alignment>) {
    paths.sort_by_key(|path| (std::cmp::Reverse(path.exact), path.chunks, path.distance));
    paths.truncate(BEAM);
}
