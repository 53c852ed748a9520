//! TER: edits that turn the output into a reference (Snover et al. 2006). 0 is a perfect output; less is better.
//!
//! ```text
//! TER = sum over segments of min over references of edits / sum over segments of mean words of the references
//! ```
//!
//! An edit is a word inserted, deleted or replaced, or a run of up to ten words moved elsewhere by at most 50 places.
//! Finding the fewest edits is too hard, so moves are chosen greedily, as the TERCOM program does: the run must also
//! occur in the reference, it and its place there must not be right yet, and of all such moves the one that lowers
//! the edit distance most is made, longer runs and earlier ones first; this goes on while a move saves as much as it
//! costs. The edit distance is searched with TERCOM's beam. After [`MOST_TRIES`] moves a pair of texts is left as it is.
//!
//! The value can be above 1. With references but no output it is the mean of shortest over mean length, about 1.

/// Longest run of words that is moved.
const LONGEST_MOVE: usize = 10;
/// Farthest that a run is moved, in words.
const FARTHEST_MOVE: isize = 50;
/// Edits that a path may be behind the best one.
const BEAM: usize = 20;
/// Moves that are tried for one pair of texts; ordinary sentences need some hundreds, long ones up to 3,000.
const MOST_TRIES: usize = 10_000;
/// The distance of a cell that cannot be reached.
const NEVER: usize = usize::MAX / 2;

/// TER of a corpus with what it was computed from.
#[derive(Clone, Copy)]
pub(crate) struct Ter {
    pub(crate) score: f64,
    /// Of all segments, each against its best reference.
    pub(crate) edits: usize,
    /// Averaged in each segment.
    pub(crate) reference_words: f64,
}

/// TER of outputs against their references, words given by their numbers, and the edits of each segment.
pub(crate) fn corpus(outputs: &[Vec<u32>], references: &[Vec<Vec<u32>>]) -> (Ter, Vec<usize>) {
    let mut reference_words = 0.0;
    let mut segments = Vec::with_capacity(outputs.len());
    for (output, references) in outputs.iter().zip(references) {
        segments.push(references.iter().map(|reference| edits(output, reference)).min().unwrap_or(0));
        let words: usize = references.iter().map(Vec::len).sum();
        reference_words += words as f64 / references.len().max(1) as f64;
    }
    let edits = segments.iter().sum();
    let score = match edits {
        0 => 0.0,
        _ if reference_words == 0.0 => 1.0,
        edits => edits as f64 / reference_words,
    };
    (Ter { score, edits, reference_words }, segments)
}

/// Edits between an output and one reference.
fn edits(output: &[u32], reference: &[u32]) -> usize {
    let mut words = output.to_vec();
    let (mut moves, mut tries) = (0, 0);
    loop {
        let alignment = Alignment::of(&words, reference);
        match best_move(&words, reference, &alignment, &mut tries) {
            Some(moved) => words = moved,
            None => return moves + alignment.edits,
        }
        moves += 1;
    }
}

/// Words matched by the edit distance without moves.
struct Alignment {
    edits: usize,
    /// Distances: row j, column i is that of the first j output words to the first i reference words.
    table: Vec<usize>,
    /// Whether each output word is inserted or replaced.
    wrong_output: Vec<bool>,
    /// Whether each reference word is missing or replaced.
    wrong_reference: Vec<bool>,
    /// For each reference word the output word across from it; for a missing one, the one before the gap, from -1.
    across: Vec<isize>,
}

impl Alignment {
    fn of(output: &[u32], reference: &[u32]) -> Self {
        let width = reference.len() + 1;
        let mut table: Vec<usize> = (0..width).collect();
        for (j, &word) in output.iter().enumerate() {
            table.resize(table.len() + width, 0);
            let (above, row) = table[j * width..].split_at_mut(width);
            next_row(above, row, word, reference, j + 1 == output.len());
        }
        let (mut i, mut j) = (reference.len(), output.len());
        let mut alignment = Self {
            edits: table[j * width + i],
            table: Vec::new(),
            wrong_output: vec![true; j],
            wrong_reference: vec![true; i],
            across: vec![-1; i],
        };
        while i > 0 || j > 0 {
            let here = table[j * width + i];
            // Of equal ways: match or replace, then a superfluous word, then a missing one.
            if i > 0 && j > 0 {
                let same = output[j - 1] == reference[i - 1];
                if here == table[(j - 1) * width + i - 1] + usize::from(!same) {
                    (i, j) = (i - 1, j - 1);
                    (alignment.wrong_output[j], alignment.wrong_reference[i]) = (!same, !same);
                    alignment.across[i] = j as isize;
                    continue;
                }
            }
            if j > 0 && here == table[(j - 1) * width + i] + 1 {
                j -= 1;
            } else {
                i -= 1;
                alignment.across[i] = j as isize - 1;
            }
        }
        alignment.table = table;
        alignment
    }
}

/// The distances of one more output word; paths that are too far behind are dropped, but not at the last word.
fn next_row(above: &[usize], row: &mut [usize], word: u32, reference: &[u32], last: bool) {
    let replaced = |i: usize| above[i] + usize::from(word != reference[i]);
    let best = (0..reference.len()).map(replaced).min().unwrap_or(NEVER);
    let limit = if last { NEVER } else { best.saturating_add(BEAM) };
    let mut left = NEVER;
    for (i, cell) in row.iter_mut().enumerate() {
        let diagonal = if i == 0 { NEVER } else { replaced(i - 1) };
        let distance = diagonal.min(above[i] + 1).min(left + 1);
        left = if distance > limit { NEVER } else { distance };
        *cell = left;
    }
}

/// A run of output words and where it goes: behind the word at `after`, or to the front for -1.
#[derive(Clone, Copy)]
struct Move {
    start: usize,
    length: usize,
    after: isize,
}

/// The words after the best move, if any move is worth its cost of one edit.
fn best_move(output: &[u32], reference: &[u32], alignment: &Alignment, tries: &mut usize) -> Option<Vec<u32>> {
    let candidates = moves(output, reference, alignment);
    // Distance after the best move so far, and the words.
    let mut best: Option<(usize, Vec<u32>)> = None;
    for (index, moves) in candidates.iter().enumerate().rev() {
        // Moving n words cannot remove more than 2 n errors.
        let most = 2 * (index + 1);
        for one in moves {
            if let Some((edits, _)) = &best
                && alignment.edits - (edits + 1) >= most
            {
                break;
            }
            if *tries == MOST_TRIES {
                break;
            }
            *tries += 1;
            let words = moved(output, *one);
            let untouched = one.start.min((one.after + 1) as usize);
            let edits = distance(&words, reference, alignment, untouched);
            let better = match &best {
                Some((best, _)) => edits < *best,
                None => edits < alignment.edits,
            };
            if better {
                best = Some((edits, words));
            }
        }
    }
    best.map(|(_, words)| words)
}

/// All moves worth trying, by the length of the run.
fn moves(output: &[u32], reference: &[u32], alignment: &Alignment) -> Vec<Vec<Move>> {
    let across = &alignment.across;
    let common = common_runs(output, reference);
    let mut found = vec![Vec::new(); LONGEST_MOVE];
    // Places that the run at hand was to be moved to already.
    let mut seen = vec![false; output.len() + 1];
    for start in 0..output.len() {
        let at = start as isize;
        let runs = &common[start * reference.len()..(start + 1) * reference.len()];
        let reachable = |place: usize| {
            across[place] != at && across[place] - at <= FARTHEST_MOVE && at - across[place] - 1 <= FARTHEST_MOVE
        };
        if !(0..reference.len()).any(|place| runs[place] > 0 && reachable(place)) {
            continue;
        }
        for length in 1..=LONGEST_MOVE.min(output.len() - start) {
            let places: Vec<usize> = (0..reference.len()).filter(|&place| runs[place] >= length).collect();
            if places.is_empty() {
                break;
            }
            if !alignment.wrong_output[start..start + length].contains(&true) {
                continue;
            }
            let mut any = false;
            seen.fill(false);
            for place in places {
                let target = across[place];
                let inside = target >= at && target < at + length as isize;
                if inside || (target - at).abs() > FARTHEST_MOVE {
                    continue;
                }
                any = true;
                if !alignment.wrong_reference[place..place + length].contains(&true) {
                    continue;
                }
                // A move that changes nothing, or one that was seen before, cannot be the best one.
                let mut push = |after: isize| {
                    if after + 1 != at && !std::mem::replace(&mut seen[(after + 1) as usize], true) {
                        found[length - 1].push(Move { start, length, after });
                    }
                };
                if place == 0 {
                    push(-1);
                }
                for offset in usize::from(place == 0)..=length {
                    // Behind the word across from the place before the run, then from each word of the run.
                    let after = across[place + offset - 1];
                    if after != at && (offset == 1 || after != target) {
                        push(after);
                    }
                }
            }
            if !any {
                break;
            }
        }
    }
    found
}

/// For each output place and reference place: how many words from there on are the same, up to the longest move.
fn common_runs(output: &[u32], reference: &[u32]) -> Vec<usize> {
    let width = reference.len();
    let mut runs = vec![0; output.len() * width];
    for (j, &word) in output.iter().enumerate().rev() {
        for (i, &other) in reference.iter().enumerate() {
            if word == other {
                let next = if j + 1 < output.len() && i + 1 < width { runs[(j + 1) * width + i + 1] } else { 0 };
                runs[j * width + i] = (next + 1).min(LONGEST_MOVE);
            }
        }
    }
    runs
}

fn moved(words: &[u32], Move { start, length, after }: Move) -> Vec<u32> {
    let end = start + length;
    let run = &words[start..end];
    let target = (after + 1) as usize;
    let pieces = if target <= start {
        [&words[..target], run, &words[target..start], &words[end..]]
    } else if target > end {
        [&words[..start], &words[end..target], run, &words[target..]]
    } else {
        // Behind one of its own words: as many places to the right as that word lies behind the first.
        let target = (end + target - 1 - start).min(words.len());
        [&words[..start], &words[end..target], run, &words[target..]]
    };
    pieces.concat()
}

/// The edit distance; the first `untouched` words are those of the alignment, and so are their rows.
fn distance(output: &[u32], reference: &[u32], alignment: &Alignment, untouched: usize) -> usize {
    let width = reference.len() + 1;
    let mut row = alignment.table[untouched * width..(untouched + 1) * width].to_vec();
    let mut next = vec![0; width];
    for (at, &word) in output.iter().enumerate().skip(untouched) {
        next_row(&row, &mut next, word, reference, at + 1 == output.len());
        std::mem::swap(&mut row, &mut next);
    }
    row[width - 1]
}

#[cfg(test)]
mod tests {
    use super::edits;

    #[test]
    fn words_are_inserted_deleted_replaced_and_moved() {
        assert_eq!(edits(&[1, 2, 3], &[1, 2, 3]), 0);
        assert_eq!(edits(&[1, 2, 3], &[1, 3]), 1);
        assert_eq!(edits(&[1, 9, 3], &[1, 2, 3]), 1);
        assert_eq!(edits(&[], &[1, 2]), 2);
        assert_eq!(edits(&[1, 2], &[]), 2);
        // One move of three words, where the distance without moves is six.
        assert_eq!(edits(&[4, 5, 6, 1, 2, 3, 7], &[1, 2, 3, 4, 5, 6, 7]), 1);
    }

    #[test]
    fn endless_repetition_is_bounded() {
        let output: Vec<u32> = (0..300).map(|place| place % 5).collect();
        let reference: Vec<u32> = (0..40).map(|place| place * place * 3 % 7).collect();
        let edits = edits(&output, &reference);
        // At least the superfluous words; at most everything replaced.
        assert!((260..=300).contains(&edits), "{edits}");
    }
}
