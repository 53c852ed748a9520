//! What may be other in a run that goes on from a checkpoint of another run.
//!
//! Settings that shape the model, its experts, the rows or their order stay as they are: the checkpoint holds tensors, the
//! optimizer's state and a place in the data that belong to them.

use super::{RunConfig, keys};
use crate::error::{Error, Result};

/// Settings that a branch may change.
const FREE: [&str; 28] = [
    "model.device",
    "model.threads",
    "mixture.law_at",
    "mixture.lora_dropout",
    "mixture.consistency_weight",
    "mixture.consistency_detach",
    "mixture.ce_both_passes",
    "train.max_steps",
    "train.num_train_epochs",
    "train.learning_rate",
    "train.lr_scheduler",
    "train.warmup_ratio",
    "train.weight_decay",
    "train.class_weights",
    "train.label_smoothing",
    "train.adam_beta1",
    "train.adam_beta2",
    "train.adam_epsilon",
    "train.max_grad_norm",
    "train.update_unselected",
    "train.recompute",
    "train.early_stopping_patience",
    "eval.eval_steps",
    "eval.save_steps",
    "eval.save_total_limit",
    "eval.samples",
    "eval.sample_steps",
    "eval.sample_tokens",
];

/// Not settings of the training: where the run is kept and under which name.
const PLACE: [&str; 2] = ["name", "runs_dir"];

/// The paths of the settings that a branch may change.
pub fn free() -> impl Iterator<Item = &'static str> {
    FREE.into_iter()
}

/// A setting that is other than in the run that a branch goes on from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its path, such as `train.learning_rate`.
    pub path: &'static str,
    /// Its value there, as text.
    pub before: String,
    /// Its value here.
    pub now: String,
}

impl Change {
    /// Whether a branch may have it.
    pub fn is_free(&self) -> bool {
        FREE.contains(&self.path)
    }
}

/// What is other in `config` than in `parent`, in the order of the settings.
///
/// # Errors
///
/// Settings that cannot be written as text.
pub fn changes(config: &RunConfig, parent: &RunConfig) -> Result<Vec<Change>> {
    let counts = |(key, _): &(&keys::Key, String)| !PLACE.contains(&key.path);
    let change =
        |(key, now): (&keys::Key, String)| Ok(Change { path: key.path, before: keys::get(parent, key.path)?, now });
    keys::differences(config, parent)?.into_iter().filter(counts).map(change).collect()
}

/// The changes in a few words: `learning_rate 0.003 -> 0.001`.
pub fn in_words(changes: &[Change]) -> String {
    let empty = |text: &str| if text.is_empty() { "nothing" } else { text }.to_owned();
    let one = |change: &Change| {
        let name = change.path.rsplit('.').next().unwrap_or(change.path);
        format!("{name} {} -> {}", empty(&change.before), empty(&change.now))
    };
    changes.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Refuses what a run that goes on after `step` steps of another one cannot have.
///
/// # Errors
///
/// A setting that is no longer free, by name; a training that would be over already.
pub fn check(changes: &[Change], config: &RunConfig, parent: &RunConfig, step: u64) -> Result<()> {
    let fixed: Vec<String> = changes
        .iter()
        .filter(|change| !change.is_free())
        .map(|change| format!("{} (there {}, here {})", change.path, change.before, change.now))
        .collect();
    if !fixed.is_empty() {
        return Err(Error::config(format!(
            "these settings shape what was trained so far, so a run that goes on from it keeps them: {}",
            fixed.join(", ")
        )));
    }
    let past = |run: &RunConfig| -> Result<Vec<_>> {
        Ok(run.mixture.law_changes()?.into_iter().filter(|change| change.step <= step).collect())
    };
    if past(config)? != past(parent)? {
        return Err(Error::config(format!(
            "law_at changes what happened in the first {step} steps; there it keeps what the other run has"
        )));
    }
    let most = config.train.max_steps;
    if most > 0 && most <= step {
        return Err(Error::config(format!(
            "max_steps is {most}, but {step} steps are done at that checkpoint; give more, or an earlier checkpoint"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_free_setting_exists_and_none_is_named_twice() {
        for path in FREE.iter().chain(&PLACE) {
            assert!(keys::help(path).is_some(), "{path}");
        }
        let mut sorted = FREE.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), FREE.len());
    }

    #[test]
    fn changes_are_named_and_what_shapes_the_experts_is_refused() {
        let parent = RunConfig::default();
        let mut config = RunConfig { name: "other".to_owned(), ..parent.clone() };
        config.train.learning_rate *= 2.0;
        (config.train.max_steps, config.mixture.consistency_weight) = (900, 0.5);
        let found = changes(&config, &parent).unwrap();
        let paths: Vec<&str> = found.iter().map(|change| change.path).collect();
        assert_eq!(paths, ["mixture.consistency_weight", "train.max_steps", "train.learning_rate"]);
        assert!(in_words(&found).starts_with("consistency_weight 1 -> 0.5, max_steps "), "{}", in_words(&found));
        check(&found, &config, &parent, 899).unwrap();
        let over = check(&found, &config, &parent, 900).unwrap_err().to_string();
        assert!(over.contains("max_steps is 900") && over.contains("900 steps are done"), "{over}");
        (config.mixture.num_experts, config.train.seed) = (7, 5);
        let refused = check(&changes(&config, &parent).unwrap(), &config, &parent, 10).unwrap_err().to_string();
        assert!(refused.contains("mixture.num_experts (there 4, here 7)"), "{refused}");
        assert!(refused.contains("train.seed"), "{refused}");
        assert!(!refused.contains("learning_rate"), "{refused}");
        let mut law = parent.clone();
        law.mixture.law_at = vec!["50=per-token".to_owned()];
        let found = changes(&law, &parent).unwrap();
        check(&found, &law, &parent, 49).unwrap();
        let late = check(&found, &law, &parent, 50).unwrap_err().to_string();
        assert!(late.contains("law_at") && late.contains("first 50 steps"), "{late}");
    }
}
