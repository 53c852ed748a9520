//! What a causal language model learns from a text file, and how the text becomes tokens. Files and limits are in
//! [`DataConfig`](super::DataConfig).

use super::{Task, require};
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

/// How the examples stand in a text file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TextFormat {
    /// Found out by looking into the file.
    #[default]
    Auto,
    /// Objects with `instruction`, perhaps `input`, `system` and `history`, and `output`.
    Alpaca,
    /// Objects with `conversations`, a list of `from` and `value`.
    Sharegpt,
    /// Objects with `messages`, a list of `role` and `content`.
    Messages,
    /// Rows with a prompt and its completion.
    Completion,
    /// Text without a prompt: rows with `text`, or a plain text file.
    Plain,
    /// Meaning representations: columns `mr` and `ref`, or lines `mr||ref`.
    E2e,
    /// WebNLG 2017: entries with triples and lexicalisations.
    Webnlg,
    /// DART: triple sets with annotations.
    Dart,
}

/// Which end of a text is cut off when it is too long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Truncate {
    /// The end: the first tokens are kept.
    #[default]
    End,
    /// The start: the last tokens are kept.
    Start,
}

/// What a causal language model learns from a text file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TextConfig {
    /// How the examples stand in the file.
    pub format: TextFormat,
    /// The chat template: `auto` (the model's own for conversations), `none`, `model` (the model's own for everything),
    /// or a Jinja file.
    pub template: String,
    /// Column of the prompt, by name; empty: the usual names.
    pub prompt_column: String,
    /// Column of the completion, by name; empty: the usual names. Without a prompt column the whole text is learned.
    pub completion_column: String,
    /// Whether the prompts are learned too, and not only the completions. Paper: no.
    pub learn_prompt: bool,
    /// Which end of a text is cut off when it is too long. Paper: the end.
    pub truncate: Truncate,
    /// Fill micro-batches up to so many tokens instead of counting examples; 0: `train.batch_size` examples.
    pub max_tokens_per_batch: usize,
    /// The date that chat templates see, as `2026-01-31`; empty: today, so that the tokens may differ from day to day.
    pub date: String,
}

/// Name of the bundled encoder: stands in [`ModelConfig::path`](super::ModelConfig::path).
pub const LAB: &str = "lab";

/// Name of the bundled language model and its texts: stands in [`ModelConfig::path`](super::ModelConfig::path) for the
/// model, in [`DataConfig::path`](super::DataConfig::path) for the texts.
pub const WRITER_LAB: &str = "writer-lab";

impl Default for TextConfig {
    fn default() -> Self {
        Self {
            format: TextFormat::Auto,
            template: "auto".to_owned(),
            prompt_column: String::new(),
            completion_column: String::new(),
            learn_prompt: false,
            truncate: Truncate::End,
            max_tokens_per_batch: 0,
            date: String::new(),
        }
    }
}

impl TextConfig {
    /// Year, month and day of [`TextConfig::date`]; nothing for an empty one.
    pub fn parsed_date(&self) -> Option<Date> {
        let text = self.date.trim();
        // Other spellings of ISO 8601 are refused: the text goes into settings files as it is.
        text.parse::<Date>().ok().filter(|date| date.to_string() == text)
    }

    pub(super) fn problems(&self, task: Task, max_length: usize, found: &mut Vec<String>) {
        if task != Task::Text {
            return;
        }
        require(found, !self.template.trim().is_empty(), || {
            "text.template is empty; choose auto, none, model, or give a Jinja file".to_owned()
        });
        require(found, self.prompt_column.is_empty() || !self.completion_column.is_empty(), || {
            format!("prompt_column is {:?} without a completion_column; give both", self.prompt_column)
        });
        require(found, self.prompt_column.is_empty() || self.prompt_column != self.completion_column, || {
            format!(
                "prompt_column and completion_column are both {:?}; choose two different columns",
                self.prompt_column
            )
        });
        require(found, self.max_tokens_per_batch == 0 || self.max_tokens_per_batch >= max_length, || {
            format!(
                "max_tokens_per_batch is {}, less than max_length {max_length}; choose at least that, or 0 to count examples",
                self.max_tokens_per_batch
            )
        });
        require(found, self.date.trim().is_empty() || self.parsed_date().is_some(), || {
            format!("text.date {:?} is not a date; write it as 2026-01-31, or leave it empty for today", self.date)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read_and_checked() {
        let parsed = |date: &str| TextConfig { date: date.to_owned(), ..TextConfig::default() }.parsed_date();
        assert_eq!(parsed("2024-02-29"), Some(jiff::civil::date(2024, 2, 29)));
        assert_eq!(parsed("1999-12-31"), Some(jiff::civil::date(1999, 12, 31)));
        for wrong in ["", "2023-02-29", "2026-13-01", "2026-1-1", "26-01-01", "2026-01-01-01", "today"] {
            assert_eq!(parsed(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn settings_of_texts_are_checked_only_for_texts() {
        let wrong = TextConfig {
            template: " ".to_owned(),
            prompt_column: "a".to_owned(),
            max_tokens_per_batch: 10,
            date: "now".to_owned(),
            ..TextConfig::default()
        };
        let problems = |text: &TextConfig, task| {
            let mut found = Vec::new();
            text.problems(task, 64, &mut found);
            found
        };
        assert_eq!(problems(&wrong, Task::Custom), Vec::<String>::new());
        let found = problems(&wrong, Task::Text);
        for (part, problem) in ["template", "prompt_column", "max_tokens_per_batch", "date"].iter().zip(&found) {
            assert!(problem.contains(part), "{problem}");
        }
        assert_eq!(found.len(), 4);
        assert_eq!(problems(&TextConfig::default(), Task::Text), Vec::<String>::new());
    }
}
