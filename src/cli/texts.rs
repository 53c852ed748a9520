//! `adamix data --text FILE`: every token the model will see, and which of them are learned.
//!
//! On a terminal what is learned is green and special tokens are dim; in a pipe what is learned stands between
//! `[[` and `]]`.

use super::preview_lines::{listed, print_lengths, print_notes, print_skipped};
use super::{Done, out};
use crate::config::{RunConfig, TextFormat, Truncate, choice_name};
use crate::data::text::preview::{SampleText, SampleToken, TextPreview, TextSplit};
use crate::error::Result;
use crate::format;
use crate::workflow::run;
use std::io::IsTerminal as _;

/// How what is learned is told from the rest.
struct Marks {
    learned: [&'static str; 2],
    special: [&'static str; 2],
}

const COLOURS: Marks = Marks { learned: ["\x1b[32m", "\x1b[39m"], special: ["\x1b[2m", "\x1b[22m"] };
const PLAIN: Marks = Marks { learned: ["[[", "]]"], special: ["", ""] };

pub(super) fn run(config: &RunConfig, rows: usize, json: bool) -> Done {
    let preview = run::text_preview(config, rows)?;
    let coloured = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    Ok(out::result(json, &preview, || print(&preview, if coloured { &COLOURS } else { &PLAIN }))?)
}

fn print(preview: &TextPreview, marks: &Marks) -> Result<()> {
    let format = choice_name(preview.format);
    out::line(&format!("{}: {format} texts as {}", preview.name, preview.layout))?;
    let named = |token: &Option<String>| token.clone().unwrap_or_else(|| "none".to_owned());
    out::line(&format!("start token {}, end token {}", named(&preview.bos), named(&preview.eos)))?;
    let learned = if preview.learn_prompt { "prompts and answers are learned" } else { "only answers are learned" };
    let [open, close] = marks.learned;
    out::line(&format!("{learned}: {open}learned{close} and not learned"))?;
    for (name, split) in [("training", &preview.train), ("evaluation", &preview.dev)] {
        print_split(name, split, preview, marks)?;
    }
    if preview.held_out {
        out::line("the evaluation texts are held out of the training file")?;
    }
    listed("training examples are duplicates of earlier ones", preview.duplicates_in_train, &[])?;
    listed(
        "evaluation examples are training examples too: the score will be too good",
        preview.leaks,
        &preview.leak_examples,
    )?;
    listed("evaluation inputs are also inputs of training examples", preview.shared_inputs, &[])?;
    print_notes(&preview.notes)?;
    print_skipped(&preview.skipped, preview.refused)
}

fn print_split(name: &str, split: &TextSplit, preview: &TextPreview, marks: &Marks) -> Result<()> {
    let inputs = match split.inputs {
        0 => String::new(),
        inputs => format!(" with {} different inputs", format::count(inputs)),
    };
    out::line(&format!("\n{} {name} examples{inputs} from {}", format::count(split.examples), split.file))?;
    out::line(&format!("    read as {}", split.stored))?;
    if split.measured < split.examples {
        out::line(&format!("    counted on {} of them, evenly spread", format::count(split.measured)))?;
    }
    out::line(&format!(
        "    {} tokens, {} learned; {} cut off at the {} ({:.1} %) in {} examples",
        format::count(split.tokens),
        format::count(split.learned_tokens),
        format::count(split.cut_tokens),
        if preview.truncate == Truncate::End { "end" } else { "start" },
        100.0 * split.cut_share,
        format::count(split.truncated),
    ))?;
    listed("examples have nothing left to learn and are left out", split.unlearned, &[])?;
    if preview.format == TextFormat::Plain {
        out::line(&format!("    longer texts become several sequences of at most {} tokens", preview.max_length))?;
    }
    print_lengths(&split.lengths, (preview.format != TextFormat::Plain).then_some(preview.max_length))?;
    for sample in &split.sample {
        let learned = sample.tokens.iter().filter(|token| token.learned).count();
        let cut = if sample.cut > 0 { format!(", {} cut off", sample.cut) } else { String::new() };
        out::line(&format!("  line {}: {} tokens, {learned} learned{cut}", sample.line, sample.tokens.len()))?;
        for line in painted(sample, marks).lines() {
            out::line(&format!("    {line}"))?;
        }
    }
    Ok(())
}

/// The text of an example with the learned parts marked. Line ends are shown as `\n`, and begin a new line.
fn painted(sample: &SampleText, marks: &Marks) -> String {
    let mut text = String::new();
    for run in sample.tokens.chunk_by(|a, b| a.learned == b.learned) {
        let [open, close] = if run.iter().all(|token| token.learned) { marks.learned } else { ["", ""] };
        text.push_str(open);
        for token in run {
            let [open, close] = if token.special { marks.special } else { ["", ""] };
            text.push_str(&format!("{open}{}{close}", shown(token)));
        }
        text.push_str(close);
    }
    text
}

fn shown(token: &SampleToken) -> String {
    let visible = |c: char| match c {
        '\n' => "\\n\n".to_owned(),
        '\t' => "\\t".to_owned(),
        c if c.is_control() => c.escape_default().to_string(),
        c => c.to_string(),
    };
    token.text.chars().map(visible).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(text: &str, learned: bool, special: bool) -> SampleToken {
        SampleToken { id: 0, text: text.to_owned(), learned, special }
    }

    #[test]
    fn what_is_learned_is_marked_and_control_characters_never_reach_the_terminal() {
        let tokens = vec![
            token("<s>", false, true),
            token("ask", false, false),
            token("\n", false, false),
            token("say\x1b", true, false),
            token(" it", true, false),
            token("</s>", true, true),
        ];
        let sample = SampleText { line: 1, tokens, cut: 0 };
        assert_eq!(painted(&sample, &PLAIN), "<s>ask\\n\n[[say\\u{1b} it</s>]]");
        let coloured = painted(&sample, &COLOURS);
        assert!(coloured.contains("\x1b[32msay\\u{1b} it\x1b[2m</s>\x1b[22m\x1b[39m"), "{coloured:?}");
        assert!(coloured.starts_with("\x1b[2m<s>\x1b[22mask"), "{coloured:?}");
    }
}
