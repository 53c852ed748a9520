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

/// A partial alignment: its measures so far, and its last decision.
#[derive(Clone, Copy, Debug)]
struct Path {
    exact: u32,
    chunks: u32,
    distance: u32,
    /// The output position after the last match, if the word before was matched.
    chunk_end: Option<usize>,
    decision: Option<u32>,
    /// The row of used output positions.
    used: usize,
}

/// A decision for one reference word, and the decision before it on the same path.
#[derive(Clone, Copy, Debug)]
struct Decision {
    reference: usize,
    matched: Match,
    before: Option<u32>,
}

/// For each reference word its match, if it has one.
pub(crate) fn align(output: &[u32], reference: &[u32], lexicon: &mut Lexicon) -> Vec<Option<Match>> {
    let candidates = candidates(output, reference, lexicon);
    let mut coverage = vec![0u32; output.len()];
    for candidate in candidates.iter().flatten() {
        coverage[candidate.output] += 1;
    }
    let settled: Vec<Option<Match>> = candidates
        .iter()
        .map(|list| match list[..] {
            [only] if coverage[only.output] == 1 => Some(only),
            _ => None,
        })
        .collect();
    let mut search = Search::new(output.len());
    for (position, list) in candidates.iter().enumerate() {
        search.step(position, list, settled[position]);
    }
    search.finish(settled)
}

/// All possible partners of each reference word, in the order of the modules.
fn candidates(output: &[u32], reference: &[u32], lexicon: &mut Lexicon) -> Vec<Vec<Match>> {
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

/// The beam search.
struct Search {
    paths: Vec<Path>,
    next: Vec<Path>,
    decisions: Vec<Decision>,
    /// Rows of bits, one for each path: the output positions in use.
    used: Vec<u64>,
    next_used: Vec<u64>,
    /// Words of bits in a row.
    stride: usize,
}

impl Search {
    fn new(output: usize) -> Self {
        let start = Path { exact: 0, chunks: 0, distance: 0, chunk_end: None, decision: None, used: 0 };
        let stride = output.div_ceil(64).max(1);
        Self {
            paths: vec![start],
            next: Vec::new(),
            decisions: Vec::new(),
            used: vec![0; stride],
            next_used: Vec::new(),
            stride,
        }
    }

    /// Goes on to the next reference word.
    fn step(&mut self, position: usize, candidates: &[Match], settled: Option<Match>) {
        sort(&mut self.paths);
        self.paths.truncate(BEAM);
        self.next.clear();
        self.next_used.clear();
        for at in 0..self.paths.len() {
            let mut path = self.paths[at];
            if let Some(matched) = settled {
                path.take(matched);
                path.distance += matched.output.abs_diff(position) as u32;
                self.keep(path, None);
                continue;
            }
            for &matched in candidates {
                if self.used[path.used + matched.output / 64] >> (matched.output % 64) & 1 == 1 {
                    continue;
                }
                let mut taken = path;
                taken.take(matched);
                self.decisions.push(Decision { reference: position, matched, before: path.decision });
                taken.decision = Some(self.decisions.len() as u32 - 1);
                self.keep(taken, Some(matched.output));
                path.distance += matched.output.abs_diff(position) as u32;
            }
            path.close_chunk();
            self.keep(path, None);
        }
        std::mem::swap(&mut self.paths, &mut self.next);
        std::mem::swap(&mut self.used, &mut self.next_used);
    }

    /// Keeps a path for the next word, with one more output position in use.
    fn keep(&mut self, mut path: Path, output: Option<usize>) {
        let row = self.next_used.len();
        self.next_used.extend_from_slice(&self.used[path.used..path.used + self.stride]);
        if let Some(output) = output {
            self.next_used[row + output / 64] |= 1 << (output % 64);
        }
        path.used = row;
        self.next.push(path);
    }

    /// The best alignment: the settled matches and the decisions of the best path.
    fn finish(mut self, mut matches: Vec<Option<Match>>) -> Vec<Option<Match>> {
        sort(&mut self.paths);
        self.paths.truncate(BEAM);
        self.paths.iter_mut().for_each(Path::close_chunk);
        sort(&mut self.paths);
        let mut decision = self.paths.first().and_then(|path| path.decision);
        while let Some(number) = decision {
            let Decision { reference, matched, before } = self.decisions[number as usize];
            matches[reference] = Some(matched);
            decision = before;
        }
        matches
    }
}

impl Path {
    fn take(&mut self, matched: Match) {
        if matched.module == Module::Exact {
            self.exact += 1;
        }
        if self.chunk_end.is_some_and(|end| end != matched.output) {
            self.chunks += 1;
        }
        self.chunk_end = Some(matched.output + 1);
    }

    fn close_chunk(&mut self) {
        self.chunks += u32::from(self.chunk_end.take().is_some());
    }
}

/// Best first; equal ones stay in their order.
fn sort(paths: &mut [Path]) {
    let key = |path: &Path| (std::cmp::Reverse(path.exact), path.chunks, path.distance);
    if !paths.is_sorted_by_key(key) {
        paths.sort_by_key(key);
    }
}

/// Runs of matches that are contiguous and in the same order on both sides.
pub(crate) fn chunks(matches: &[Option<Match>]) -> usize {
    let mut expected = None;
    let mut chunks = 0;
    for matched in matches {
        match matched {
            Some(matched) => {
                chunks += usize::from(expected != Some(matched.output));
                expected = Some(matched.output + 1);
            }
            None => expected = None,
        }
    }
    chunks
}
