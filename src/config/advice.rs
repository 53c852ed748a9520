//! What a run that can start should be warned about: settings and data that seldom give what is hoped for.

use super::fitting::usual_learning_rate;
use super::{Method, RunConfig, Task, presets};

/// What is known of a run that was prepared.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RunFacts {
    /// Parameters of the base model.
    pub parameters: usize,
    /// Passes over the training rows.
    pub epochs: f64,
    /// Rows to learn from.
    pub train_rows: usize,
    /// Rows to measure on.
    pub eval_rows: usize,
    /// Training rows that repeat an earlier one.
    pub repeats: usize,
    /// Training rows that lose tokens.
    pub cut: usize,
    /// Mean tokens of a training row, without special tokens; 0: not known.
    pub tokens: f64,
    /// Share of the training texts that are numbers, 0 to 1.
    pub numbers: f64,
}

/// More passes than this over the same rows are warned about.
const MANY_EPOCHS: f64 = 20.0;
/// Fewer rows than this measure too coarsely.
const FEW_EVAL_ROWS: usize = 100;
/// Factor between the usual learning rate and one that is warned about.
const FAR: f64 = 8.0;
/// Share of repeated or cut rows that is warned about.
const MANY_ROWS: f64 = 0.05;
/// Mean tokens below which a text is hardly one.
const SHORT: f64 = 5.0;

/// Every warning, each with its numbers and what to do.
pub fn warnings(run: &RunConfig, facts: &RunFacts) -> Vec<String> {
    let of_the_paper = is_of_a_preset(run);
    let share = |rows: usize| rows as f64 / facts.train_rows.max(1) as f64;
    let percent = |rows: usize| format!("{:.0} %", 100.0 * share(rows));
    let mut found = Vec::new();
    if facts.numbers > 0.5 {
        found.push("most of the texts are numbers; check that the text column holds texts".to_owned());
    } else if facts.tokens > 0.0 && facts.tokens < SHORT {
        found.push(format!(
            "the texts have {:.1} tokens on average; check that the text column is the right one",
            facts.tokens
        ));
    }
    if facts.epochs > MANY_EPOCHS && !of_the_paper {
        let key = if run.train.max_steps > 0 { "max_steps" } else { "num_train_epochs" };
        found.push(format!(
            "training goes {:.0} times over the {} rows, so that they are learned by heart; lower {key} to 3 to 20 passes",
            facts.epochs, facts.train_rows
        ));
    }
    if facts.eval_rows < FEW_EVAL_ROWS {
        let error = 50.0 / (facts.eval_rows.max(1) as f64).sqrt();
        found.push(match run.data.task {
            Task::Text => format!(
                "only {} evaluation texts: small differences of the loss mean little; hold out more",
                facts.eval_rows
            ),
            _ => format!(
                "only {} evaluation rows: an accuracy is uncertain by about {error:.0} points (one standard error); hold \
                 out more",
                facts.eval_rows
            ),
        });
    }
    if share(facts.repeats) >= MANY_ROWS {
        found.push(format!(
            "{} of the {} training rows ({}) repeat an earlier one and count twice",
            facts.repeats,
            facts.train_rows,
            percent(facts.repeats)
        ));
    }
    found.extend(far_learning_rate(run, facts).filter(|_| !of_the_paper));
    if share(facts.cut) >= MANY_ROWS {
        found.push(format!(
            "{} of the training rows are longer than {} tokens and are cut; raise max_length if the rest matters",
            percent(facts.cut),
            run.data.max_length
        ));
    }
    found
}

fn far_learning_rate(run: &RunConfig, facts: &RunFacts) -> Option<String> {
    let usual = usual_learning_rate(run.model.method, run.data.task == Task::Text, facts.parameters);
    let rate = run.train.learning_rate;
    let what = match run.model.method {
        Method::Adamix => "experts on",
        Method::HeadOnly => "a head on",
        Method::Full => "all weights of",
    };
    let (word, advice) = match rate / usual {
        ratio if ratio > FAR => ("high", "the loss may diverge"),
        ratio if ratio < 1.0 / FAR => ("low", "little may be learned"),
        _ => return None,
    };
    let millions = facts.parameters as f64 / 1e6;
    Some(format!(
        "learning_rate {rate:e} is {word} for {what} a model of {millions:.0} million parameters (usual: about {usual:e}); \
         {advice}"
    ))
}

/// Whether passes and learning rate are those of a run of the paper, or of a lab, for this task.
fn is_of_a_preset(run: &RunConfig) -> bool {
    let key = |train: &super::TrainConfig| (train.max_steps, train.num_train_epochs, train.learning_rate);
    let fits = |preset: &presets::Preset| preset.bundled.is_none_or(|model| model == run.model.path);
    presets::all().iter().any(|preset| {
        preset.task == run.data.task
            && fits(preset)
            && preset.format.is_none_or(|format| format == run.text.format)
            && key(&preset.train) == key(&run.train)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(change: impl FnOnce(&mut RunConfig, &mut RunFacts)) -> Vec<String> {
        let mut run = RunConfig::default();
        run.data.task = Task::Custom;
        run.train.learning_rate = 4e-4;
        let mut facts = RunFacts {
            parameters: 110_000_000,
            epochs: 3.0,
            train_rows: 3600,
            eval_rows: 400,
            tokens: 40.0,
            ..RunFacts::default()
        };
        change(&mut run, &mut facts);
        warnings(&run, &facts)
    }

    #[test]
    fn a_fitting_run_is_not_warned_about() {
        assert_eq!(said(|_, _| {}), Vec::<String>::new());
    }

    #[test]
    fn each_warning_says_its_numbers() {
        let only = |change: fn(&mut RunConfig, &mut RunFacts), words: &[&str]| {
            let found = said(change);
            assert_eq!(found.len(), 1, "{found:?}");
            words.iter().for_each(|word| assert!(found[0].contains(word), "{word:?}: {}", found[0]));
        };
        only(|_, facts| facts.epochs = 67.0, &["67 times", "3600 rows", "num_train_epochs"]);
        only(|run, facts| (facts.epochs, run.train.max_steps) = (67.0, 800), &["67 times", "max_steps"]);
        only(|_, facts| facts.eval_rows = 40, &["40 evaluation rows", "8 points"]);
        only(|_, facts| facts.repeats = 1116, &["1116 of the 3600", "31 %"]);
        only(|run, _| run.train.learning_rate = 1e-2, &["learning_rate 1e-2 is high", "110 million", "4e-4"]);
        only(|run, _| run.train.learning_rate = 1e-5, &["1e-5 is low", "4e-4"]);
        only(|_, facts| facts.cut = 720, &["20 %", "128 tokens", "max_length"]);
        only(|_, facts| facts.tokens = 2.0, &["2.0 tokens", "text column"]);
        only(|_, facts| (facts.tokens, facts.numbers) = (1.0, 1.0), &["numbers"]);
    }

    #[test]
    fn the_papers_own_runs_and_the_labs_are_not_warned_about_their_passes() {
        for preset in presets::all() {
            let mut run = RunConfig::default();
            preset.apply(&mut run);
            let facts =
                RunFacts { epochs: 80.0, train_rows: 9000, eval_rows: 1000, tokens: 30.0, ..RunFacts::default() };
            assert_eq!(warnings(&run, &facts), Vec::<String>::new(), "{}", preset.name);
        }
    }
}
