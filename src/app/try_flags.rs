//! The example that a model reads, as flags of `adamix try`.

use crate::config::command_line::quoted;
use crate::protocol::{Split, TryInput};

/// What a classifier reads. A text may begin with a dash.
pub fn input(input: &TryInput) -> String {
    match input {
        TryInput::Row { split: Split::Evaluation, row } => format!(" --row {}", row + 1),
        TryInput::Row { split: Split::Training, row } => format!(" --row {} --split training", row + 1),
        TryInput::Text { text, pair } => {
            let pair = pair.as_ref().map(|pair| format!(" --text-pair={}", quoted(pair))).unwrap_or_default();
            format!(" --text={}{pair}", quoted(text))
        }
    }
}
