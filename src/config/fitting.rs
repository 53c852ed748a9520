//! Settings that fit the model, the task and the data: what the form fills in where its user chose nothing.

use super::{Method, MixtureKind, RunConfig, Task, WRITER_LAB, keys, presets};
use crate::error::Result;

/// What is known of model and data; 0 where it is not known yet.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct FittingFacts {
    /// Parameters of the base model.
    pub parameters: usize,
    /// Longest input the model reads, in tokens.
    pub longest_input: usize,
    /// Rows or texts to learn from.
    pub train_rows: usize,
    /// 95 of 100 of them have at most so many tokens.
    pub usual_length: usize,
}

/// The same run (model, data, device, names, seed) with everything else as it fits: the labs' own settings for the labs, else
/// those the paper and common practice give for this size of model and data.
pub fn fitting(run: &RunConfig, facts: &FittingFacts) -> RunConfig {
    let mut fit = RunConfig {
        name: run.name.clone(),
        runs_dir: run.runs_dir.clone(),
        model: run.model.clone(),
        data: run.data.clone(),
        text: run.text.clone(),
        ..RunConfig::default()
    };
    let lab = match run.data.task {
        Task::Lab if run.model.path == "lab" => Some(presets::lab()),
        Task::Text if run.model.path == WRITER_LAB && run.data.path == WRITER_LAB => Some(presets::writer_lab()),
        _ => None,
    };
    if let Some(lab) = lab {
        (fit.mixture, fit.train, fit.eval) = (lab.mixture, lab.train, lab.eval);
        fit.data.max_length = lab.max_length;
        fit.text.format = lab.format.unwrap_or_default();
        return fit;
    }
    let writes = run.data.task == Task::Text;
    fit.text.format = Default::default();
    if writes {
        fit.mixture.kind = MixtureKind::Lora;
        fit.mixture.lora_rank = 8;
        fit.train.weight_decay = 0.01;
        fit.train.batch_size = 8;
    }
    fit.mixture.lora_alpha = 2.0 * fit.mixture.lora_rank as f64;
    fit.train.learning_rate = usual_learning_rate(run.model.method, writes, facts.parameters);
    fit.train.num_train_epochs = usual_epochs(writes, facts.train_rows);
    let steps = fit.train.num_train_epochs * facts.train_rows as f64 / fit.train.batch_size as f64;
    // Of a short run 6 % are a handful of steps.
    fit.train.warmup_ratio = if facts.train_rows > 0 && steps < 200.0 { 0.1 } else { 0.06 };
    fit.data.max_length = usual_length(run.data.task, facts);
    fit
}

/// `run` with the values of `now` where it still has those of `before`: what its user set by hand stays.
pub fn refitted(run: &RunConfig, before: &RunConfig, now: &RunConfig) -> Result<RunConfig> {
    let fitted = |key: &keys::Key| {
        let section = key.path.split('.').next().unwrap_or_default();
        matches!(section, "mixture" | "train" | "eval") || matches!(key.path, "data.max_length" | "text.format")
    };
    keys::follow(run, before, now, fitted)
}

/// The peak learning rate usual for what is trained and the size of the base model. Paper: 4e-4 for BERT-base, 3e-4 for
/// RoBERTa-large, 2e-4 for GPT-2 medium; the labs: 3e-3 and 1e-2.
pub fn usual_learning_rate(method: Method, writes: bool, parameters: usize) -> f64 {
    let sizes: [(usize, f64); 4] = match (method, writes) {
        (Method::Full, _) => [(5_000_000, 5e-4), (50_000_000, 1e-4), (200_000_000, 3e-5), (usize::MAX, 2e-5)],
        (Method::HeadOnly, _) => [(5_000_000, 3e-3), (50_000_000, 1e-3), (200_000_000, 1e-3), (usize::MAX, 1e-3)],
        (Method::Adamix, true) => [(5_000_000, 5e-3), (50_000_000, 1e-3), (200_000_000, 5e-4), (usize::MAX, 2e-4)],
        (Method::Adamix, false) => [(5_000_000, 3e-3), (50_000_000, 1e-3), (200_000_000, 4e-4), (usize::MAX, 3e-4)],
    };
    // Unknown: as the paper's larger models.
    let parameters = if parameters == 0 { usize::MAX } else { parameters };
    sizes.into_iter().find(|(most, _)| parameters <= *most).map_or(3e-4, |(_, rate)| rate)
}

/// Passes over the data: fewer where there is more of it.
fn usual_epochs(writes: bool, rows: usize) -> f64 {
    match (writes, rows) {
        (_, 0) => 3.0,
        (true, 1..1000) => 5.0,
        (true, _) => 3.0,
        (false, 1..2000) => 10.0,
        (false, 2000..20_000) => 5.0,
        (false, _) => 3.0,
    }
}

/// The longest input: the paper's for known tasks, else the least power of two that cuts at most one row in twenty.
fn usual_length(task: Task, facts: &FittingFacts) -> usize {
    let most = if facts.longest_input == 0 { 512 } else { facts.longest_input.min(1024) };
    let usual = match task {
        Task::Custom | Task::Text if facts.usual_length > 0 => facts.usual_length.next_power_of_two().max(32),
        Task::Text => 512,
        _ => 128,
    };
    usual.min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINILM: usize = 22_700_000;
    const BERT_BASE: usize = 110_000_000;
    const ROBERTA_LARGE: usize = 355_000_000;
    const SMOLLM2: usize = 134_500_000;

    #[test]
    fn the_labs_keep_their_own_settings() {
        for preset in [presets::lab(), presets::writer_lab()] {
            let mut run = RunConfig::default();
            preset.apply(&mut run);
            let facts = FittingFacts { parameters: 1_300_000, train_rows: 4000, usual_length: 40, longest_input: 128 };
            assert_eq!(fitting(&run, &facts), run, "{}", preset.name);
        }
    }

    #[test]
    fn learning_rates_are_the_papers_at_its_sizes_and_larger_for_smaller_models() {
        let rate = |writes, parameters| usual_learning_rate(Method::Adamix, writes, parameters);
        assert_eq!((rate(false, BERT_BASE), rate(false, ROBERTA_LARGE)), (4e-4, 3e-4));
        assert_eq!((rate(false, MINILM), rate(true, SMOLLM2), rate(true, ROBERTA_LARGE)), (1e-3, 5e-4, 2e-4));
        assert_eq!(rate(false, 0), 3e-4);
        assert_eq!(usual_learning_rate(Method::Full, false, BERT_BASE), 3e-5);
    }

    #[test]
    fn own_files_get_epochs_lengths_and_warm_up_that_fit_them() {
        let mut run = RunConfig::default();
        presets::lab().apply(&mut run);
        run.model.path = "models/minilm".to_owned();
        run.data.task = Task::Custom;
        run.data.train_file = "reviews.csv".to_owned();
        run.train.seed = 7;
        let facts = FittingFacts { parameters: MINILM, longest_input: 512, train_rows: 360, usual_length: 41 };
        let fit = fitting(&run, &facts);
        assert_eq!((fit.train.max_steps, fit.train.num_train_epochs), (0, 10.0), "no 800 steps of 360 rows");
        assert_eq!((fit.train.learning_rate, fit.train.warmup_ratio, fit.data.max_length), (1e-3, 0.1, 64));
        assert_eq!((fit.eval.eval_steps, fit.mixture.adapter_size), (0, 16));
        assert_eq!((fit.model.path.as_str(), fit.data.train_file.as_str()), ("models/minilm", "reviews.csv"));
        let large = fitting(&run, &FittingFacts { train_rows: 60_000, usual_length: 900, ..facts });
        assert_eq!((large.train.num_train_epochs, large.train.warmup_ratio, large.data.max_length), (3.0, 0.06, 512));
    }

    #[test]
    fn what_was_set_by_hand_stays_and_the_rest_follows() {
        let mut run = RunConfig::default();
        presets::lab().apply(&mut run);
        let before = fitting(&run, &FittingFacts::default());
        run.train.learning_rate = 2e-3;
        run.model.path = "models/bert".to_owned();
        run.data.task = Task::Custom;
        let facts = FittingFacts { parameters: BERT_BASE, train_rows: 5000, ..FittingFacts::default() };
        let run = refitted(&run, &before, &fitting(&run, &facts)).unwrap();
        assert_eq!((run.train.learning_rate, run.train.max_steps, run.train.num_train_epochs), (2e-3, 0, 5.0));
        assert_eq!((run.data.max_length, run.mixture.adapter_size), (128, 16));
    }

    #[test]
    fn texts_get_a_lora_with_alpha_twice_its_rank_and_the_format_of_the_file() {
        let mut run = RunConfig::default();
        presets::writer_lab().apply(&mut run);
        run.data.path.clear();
        run.data.train_file = "chat.jsonl".to_owned();
        run.model.path = "models/smollm2".to_owned();
        let facts = FittingFacts { parameters: SMOLLM2, longest_input: 8192, train_rows: 500, usual_length: 300 };
        let fit = fitting(&run, &facts);
        assert_eq!((fit.mixture.kind, fit.mixture.lora_rank, fit.mixture.lora_alpha), (MixtureKind::Lora, 8, 16.0));
        assert_eq!((fit.text.format, fit.data.max_length), (super::super::TextFormat::Auto, 512));
        assert_eq!((fit.train.learning_rate, fit.train.num_train_epochs, fit.train.weight_decay), (5e-4, 5.0, 0.01));
    }
}
