//! Staleness: how many steps ago each expert learned.

/// The step in which each expert learned last; 0: never.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ages {
    /// Steps done.
    pub step: u64,
    /// By place of the side in a pass. `[width][experts]`
    pub(super) last: Vec<Vec<u64>>,
}

impl Ages {
    /// Steps since an expert learned: 0 if in this step; absent where it never did.
    pub(super) fn age(&self, place: usize, expert: usize) -> Option<u64> {
        let last = self.last.get(place)?.get(expert).copied().filter(|last| *last > 0)?;
        Some(self.step.saturating_sub(last))
    }

    /// All known ages.
    pub fn known(&self) -> impl Iterator<Item = u64> {
        self.last.iter().flatten().filter(|last| **last > 0).map(|last| self.step.saturating_sub(*last))
    }

    /// Share of the experts that learned in none of the last `k` steps, those that never did among them; absent without experts.
    pub fn share_at_least(&self, k: u64) -> Option<f64> {
        let all = self.last.iter().map(Vec::len).sum::<usize>();
        let old = self.last.iter().flatten().filter(|last| **last == 0 || self.step.saturating_sub(**last) >= k);
        (all > 0).then(|| old.count() as f64 / all as f64)
    }
}

/// Probability that one of M equal experts was in none of the last `k` steps: `(1 - 1/M)^(k chances)`; `chances`: draws of a
/// step in which it has its chance, two with two passes.
pub fn expected_share(k: u64, experts: usize, chances: usize) -> f64 {
    (1.0 - 1.0 / experts.max(1) as f64).powf(k as f64 * chances as f64)
}

/// The age that one of `all` experts has reached on average: the largest k for which `all` times [`expected_share`] is at least
/// 1. At least 1.
pub fn oldest_expected(all: usize, experts: usize, chances: usize) -> u64 {
    let stays = expected_share(1, experts, chances);
    if stays <= 0.0 || stays >= 1.0 {
        return 1;
    }
    ((-(all.max(1) as f64).ln() / stays.ln()).floor() as u64).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expected_ages_are_those_of_the_definition() {
        // M = 4, two passes: 9/16 a step. (9/16)^5 = 0.0563, (9/16)^10 = 0.00317.
        assert!((expected_share(5, 4, 2) - 0.0563).abs() < 1e-4 && (expected_share(10, 4, 2) - 0.00317).abs() < 1e-5);
        assert!((expected_share(0, 4, 2) - 1.0).abs() < 1e-12 && expected_share(1, 1, 2).abs() < 1e-12);
        // 16 (9/16)^4 = 1.6, 16 (9/16)^5 = 0.9; 96 (9/16)^7 = 1.7, (9/16)^8 = 0.96.
        assert_eq!((oldest_expected(16, 4, 2), oldest_expected(96, 4, 2), oldest_expected(5, 1, 2)), (4, 7, 1));
    }

    #[test]
    fn ages_count_from_the_step_in_which_an_expert_ran() {
        let ages = Ages { step: 10, last: vec![vec![10, 7, 0, 9]] };
        let of = |expert| ages.age(0, expert);
        assert_eq!([of(0), of(1), of(2), of(3), of(4)], [Some(0), Some(3), None, Some(1), None]);
        assert_eq!(ages.share_at_least(1), Some(0.75));
        assert_eq!(ages.share_at_least(4), Some(0.25));
        assert_eq!(Ages::default().share_at_least(1), None);
    }
}
