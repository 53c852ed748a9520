//! Settings that do not count for the chosen task, method or mixture: found by name, and taken out before a run starts.

use super::RunConfig;
use super::keys::{self, Condition, Key};
use crate::error::Result;

/// A setting that says something and does not count.
#[derive(Clone, Copy, Debug)]
pub struct Foreign {
    /// Which.
    pub key: &'static Key,
    /// The condition that does not hold.
    pub because: &'static Condition,
}

impl Foreign {
    /// Why the setting cannot be given here; `name` is the setting as its user wrote it.
    pub fn refusal(&self, name: &str, run: &RunConfig) -> String {
        let (instead, needs) = (self.because.instead(run), self.because.needs());
        format!("{name} does not belong to {instead}; it counts with {needs} only: leave it out, or choose that")
    }
}

/// The settings that are not at their default and do not count.
pub fn foreign(run: &RunConfig) -> Result<Vec<Foreign>> {
    let said = keys::differences(run, &RunConfig::default())?;
    let broken = |key: &'static Key| key.counts.iter().find(|condition| !condition.holds(run));
    Ok(said.into_iter().filter_map(|(key, _)| Some(Foreign { key, because: broken(key)? })).collect())
}

/// The same run with every setting that does not count at its default.
pub fn without_foreign(run: &RunConfig) -> Result<RunConfig> {
    keys::follow(run, run, &RunConfig::default(), |key| !key.counts_for(run))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Method, MixtureKind, RoutingPolicy, Task, TextFormat, presets};

    fn names(run: &RunConfig) -> Vec<&'static str> {
        foreign(run).unwrap().into_iter().map(|found| found.key.path).collect()
    }

    #[test]
    fn a_file_chosen_for_one_task_does_not_count_for_another() {
        let mut run = RunConfig::default();
        run.data.task = Task::Sst2;
        run.data.path = "GLUE/SST-2".to_owned();
        run.data.train_file = "mini.tsv".to_owned();
        run.data.text_column = "review".to_owned();
        assert_eq!(names(&run), ["data.train_file", "data.text_column"]);
        let found = foreign(&run).unwrap();
        assert_eq!(
            found[0].refusal("--train-file", &run),
            "--train-file does not belong to task sst2; it counts with task custom or text only: leave it out, or \
             choose that"
        );
        let own = without_foreign(&run).unwrap();
        assert_eq!((own.data.train_file.as_str(), own.data.text_column.as_str()), ("", "sentence"));
        assert_eq!(own.data.path, "GLUE/SST-2");
        run.data.task = Task::Custom;
        assert_eq!(names(&run), ["data.path"]);
    }

    #[test]
    fn what_counts_follows_method_kind_routing_and_the_second_pass() {
        let mut run = RunConfig::default();
        run.mixture.lora_rank = 16;
        run.mixture.adapter_size = 8;
        run.mixture.fixed_expert = 1;
        assert_eq!(names(&run), ["mixture.lora_rank", "mixture.fixed_expert"]);
        run.mixture.kind = MixtureKind::Lora;
        run.mixture.routing = RoutingPolicy::Fixed;
        assert_eq!(names(&run), ["mixture.adapter_size"]);
        run.mixture.consistency = false;
        run.mixture.consistency_weight = 100.0;
        assert_eq!(names(&run), ["mixture.adapter_size", "mixture.consistency_weight"]);
        run.model.method = Method::HeadOnly;
        let own = without_foreign(&run).unwrap();
        assert_eq!(own.mixture, RunConfig::default().mixture);
        let mut texts = RunConfig::default();
        texts.data.task = Task::Text;
        texts.text.format = TextFormat::E2e;
        texts.text.prompt_column = "question".to_owned();
        texts.data.dev_file = "dev.csv".to_owned();
        texts.data.dev_fraction = 0.2;
        assert_eq!(names(&texts), ["data.dev_fraction", "text.prompt_column"]);
    }

    #[test]
    fn presets_and_labs_say_nothing_that_does_not_count() {
        for preset in presets::all() {
            let mut run = RunConfig::default();
            preset.apply(&mut run);
            assert_eq!(names(&run), Vec::<&str>::new(), "{}", preset.name);
        }
    }

    #[test]
    fn every_condition_is_met_by_some_run_and_every_setting_that_counts_stays() {
        for key in keys::KEYS {
            for condition in key.counts {
                let met = [Task::Lab, Task::Custom, Task::Text, Task::Sst2].into_iter().any(|task| {
                    [MixtureKind::Adapter, MixtureKind::Lora].into_iter().any(|kind| {
                        let mut run = RunConfig::default();
                        (run.data.task, run.mixture.kind, run.mixture.routing) = (task, kind, RoutingPolicy::Fixed);
                        condition.holds(&run)
                    })
                });
                assert!(met, "{}: {condition:?}", key.path);
                assert!(key.flag_help().contains(&condition.needs()), "{}", key.flag_help());
            }
        }
    }
}
