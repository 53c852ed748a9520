//! Greedy soup (Wortsman et al. 2022, "Model soups"), of whole experts: an index in all modules at once.

use super::{Learner, Mixture};
use crate::error::{Error, Result};
use crate::eval::compare::{self, EvalOptions};
use crate::mixture::MergeWeights;
use crate::workflow::progress::Progress;

/// The weights of the soup, by evaluation losses: one of each expert alone, one of each further mean.
pub(super) fn weights<M: Learner>(mixture: Mixture<'_, M>) -> Result<MergeWeights> {
    let Mixture { model, dev, opts, .. } = mixture;
    let experts = model.mixture().map_or(1, |mixture| mixture.num_experts);
    let progress = Progress::new((2 * experts - 1) as f64, opts.go_on);
    let chosen = greedy(experts, |experts| {
        let within = progress.within(1.0);
        let opts = EvalOptions { go_on: &within, ..*opts };
        let loss = compare::evaluate(&model.merged(&equal(experts)?)?, dev, None, &opts)?.loss;
        progress.step(1.0)?;
        Ok(loss)
    })?;
    equal(&chosen)
}

/// The same weight for each of those that are chosen.
fn equal(chosen: &[bool]) -> Result<MergeWeights> {
    MergeWeights::global(&chosen.iter().map(|&one| f64::from(u8::from(one))).collect::<Vec<_>>())
}

/// Which experts stay. `loss`: of the mean of those that are chosen.
fn greedy(experts: usize, loss: impl Fn(&[bool]) -> Result<f64>) -> Result<Vec<bool>> {
    let alone = |expert: usize| {
        let one: Vec<bool> = (0..experts).map(|e| e == expert).collect();
        Ok((expert, loss(&one)?))
    };
    let mut order = (0..experts).map(alone).collect::<Result<Vec<(usize, f64)>>>()?;
    order.sort_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
    let mut chosen = vec![false; experts];
    let &(first, mut lowest) = order.first().ok_or_else(|| Error::internal("a mixture without experts"))?;
    chosen[first] = true;
    for &(expert, _) in &order[1..] {
        chosen[expert] = true;
        let loss = loss(&chosen)?;
        if loss < lowest {
            lowest = loss;
        } else {
            chosen[expert] = false;
        }
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn experts_join_in_their_order_while_the_loss_falls() {
        // Alone: .5, .3, .4, .3; expert 1 is first, of equal ones the lower index.
        let asked = RefCell::new(Vec::new());
        let loss = |chosen: &[bool]| {
            let set: Vec<usize> = (0..4).filter(|&e| chosen[e]).collect();
            asked.borrow_mut().push(set.clone());
            Ok(match set.as_slice() {
                [0] => 0.5,
                [1] | [3] => 0.3,
                [2] => 0.4,
                [1, 3] => 0.3,    // no lower: 3 is left out
                [1, 2] => 0.2,    // stays
                [0, 1, 2] => 0.1, // stays, though the worst alone
                other => panic!("{other:?} is not to be tried"),
            })
        };
        assert_eq!(greedy(4, loss).unwrap(), [true, true, true, false]);
        assert_eq!(asked.borrow().len(), 7, "2 M - 1 evaluations");
        assert_eq!(asked.borrow()[4..], [vec![1, 3], vec![1, 2], vec![0, 1, 2]]);
        let weights = equal(&[true, true, false, false]).unwrap();
        assert_eq!(weights.site(0).unwrap(), [0.5, 0.5, 0.0, 0.0]);
    }
}
