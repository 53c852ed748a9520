//! ROUGE-L: the longest common subsequence of output and reference (Lin 2004). Range 0 to 1, more is better.
//!
//! ```text
//! P = max over references of LCS / words of the output
//! R = max over references of LCS / words of the reference
//! F = (1 + b^2) P R / (R + b^2 P),  b = 1.2
//! ```
//!
//! The two maxima may come from different references, as in the E2E scorer (ROUGE's own script differs). The corpus score
//! is the mean over the segments. An empty output scores 0.

/// Weight of recall against precision.
const BETA: f64 = 1.2;

/// The score of one output, words given by their numbers.
pub(crate) fn segment(output: &[u32], references: &[Vec<u32>]) -> f64 {
    let (mut precision, mut recall) = (0f64, 0f64);
    let share = |part: usize, whole: usize| if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
    for reference in references {
        let common = common_subsequence(output, reference);
        precision = precision.max(share(common, output.len()));
        recall = recall.max(share(common, reference.len()));
    }
    if precision == 0.0 || recall == 0.0 {
        return 0.0;
    }
    let square = BETA * BETA;
    (1.0 + square) * precision * recall / (recall + square * precision)
}

/// Length of the longest common subsequence.
fn common_subsequence(left: &[u32], right: &[u32]) -> usize {
    // `row[j]` is the answer for the part of `left` read so far and the first j words of `right`.
    let mut row = vec![0usize; right.len() + 1];
    for &word in left {
        let mut diagonal = 0;
        for (j, &other) in right.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = if word == other { diagonal + 1 } else { above.max(row[j]) };
            diagonal = above;
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_subsequences() {
        assert_eq!(common_subsequence(&[1, 2, 3, 4], &[2, 9, 4]), 2);
        assert_eq!(common_subsequence(&[1, 2], &[3]), 0);
        assert_eq!(common_subsequence(&[], &[3]), 0);
        assert_eq!(common_subsequence(&[1, 2, 1], &[1, 2, 1]), 3);
    }

    #[test]
    fn precision_and_recall_may_come_from_different_references() {
        // P = 1 from the long reference, R = 1 from the short one.
        assert!((segment(&[1, 2], &[vec![1, 2, 3, 4], vec![1]]) - 1.0).abs() < 1e-12);
        let (p, r) = (0.5, 0.5);
        let expected = (1.0 + 1.44) * p * r / (r + 1.44 * p);
        assert!((segment(&[1, 9], &[vec![1, 3]]) - expected).abs() < 1e-12);
        assert_eq!(segment(&[], &[vec![1]]), 0.0);
        assert_eq!(segment(&[5], &[vec![1]]), 0.0);
    }
}
