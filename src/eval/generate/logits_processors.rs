//! Repetition penalty and forbidden n-grams.

use crate::error::{Error, Result};

/// Which tokens count as said before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// The prompt and what was written: as transformers counts.
    #[default]
    All,
    /// What was written: as the paper's decoder counts.
    Written,
}

/// Against repetitions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rules {
    /// Scores of tokens said before are divided by it where they are above 0 and multiplied where they are below;
    /// 1: nothing is done.
    pub repetition_penalty: f32,
    /// No run of so many tokens is said twice; 0: nothing is forbidden.
    pub no_repeat_ngram: usize,
    /// Which tokens count as said before.
    pub scope: Scope,
}

impl Default for Rules {
    fn default() -> Self {
        Self { repetition_penalty: 1.0, no_repeat_ngram: 0, scope: Scope::All }
    }
}

impl Rules {
    pub(crate) fn check(&self) -> Result<()> {
        let penalty = self.repetition_penalty;
        if penalty.is_finite() && penalty > 0.0 {
            return Ok(());
        }
        Err(Error::config(format!("repetition_penalty is {penalty}; choose a number above 0, or 1 for none")))
    }

    /// Changes the scores of the token that follows. scores `[vocab]`
    pub fn apply(&self, scores: &mut [f32], prompt: &[u32], written: &[u32]) {
        if self.repetition_penalty == 1.0 && self.no_repeat_ngram == 0 {
            return;
        }
        let said = match self.scope {
            Scope::All => [prompt, written].concat(),
            Scope::Written => written.to_vec(),
        };
        if self.repetition_penalty != 1.0 {
            let mut once = said.clone();
            once.sort_unstable();
            once.dedup();
            for id in once {
                if let Some(score) = scores.get_mut(id as usize) {
                    let penalty = self.repetition_penalty;
                    *score = if *score < 0.0 { *score * penalty } else { *score / penalty };
                }
            }
        }
        let n = self.no_repeat_ngram;
        if n == 0 || said.len() < n {
            return;
        }
        let end = &said[said.len() + 1 - n..];
        for run in said.windows(n).filter(|run| &run[..n - 1] == end) {
            if let Some(score) = scores.get_mut(run[n - 1] as usize) {
                *score = f32::NEG_INFINITY;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_not_said_twice() {
        let banned = |n: usize, scope: Scope, prompt: &[u32], written: &[u32]| {
            let mut scores = vec![0.5f32; 8];
            Rules { no_repeat_ngram: n, scope, ..Rules::default() }.apply(&mut scores, prompt, written);
            (0..8u32).filter(|&id| scores[id as usize] == f32::NEG_INFINITY).collect::<Vec<_>>()
        };
        assert_eq!(banned(2, Scope::All, &[1, 2, 3], &[1]), [2]);
        assert_eq!(banned(2, Scope::Written, &[1, 2, 3], &[1]), [0u32; 0]);
        assert_eq!(banned(2, Scope::Written, &[], &[1, 2, 1, 3, 1]), [2, 3]);
        assert_eq!(banned(3, Scope::All, &[1, 2, 3, 1], &[2]), [3]);
        assert_eq!(banned(1, Scope::All, &[4], &[6]), [4, 6]);
        assert_eq!(banned(3, Scope::All, &[1], &[2]), [0u32; 0]);
        assert_eq!(banned(0, Scope::All, &[1, 1, 1], &[1]), [0u32; 0]);
    }

    #[test]
    fn what_was_said_becomes_less_likely_once() {
        let mut scores = [2.0, -2.0, 2.0, -2.0f32];
        Rules { repetition_penalty: 2.0, ..Rules::default() }.apply(&mut scores, &[0, 0], &[1, 9]);
        assert_eq!(scores, [1.0, -4.0, 2.0, -2.0]);
    }
}
