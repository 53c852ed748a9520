//! `adamix data`: what is in the data, before anybody trains on it.

use super::preview_lines::{listed, print_lengths, print_notes, print_skipped};
use super::{Done, args, out, texts, usage};
use crate::config::Task;
use crate::data::preview::{DataPreview, SplitPreview};
use crate::error::Result;
use crate::format;
use crate::workflow::run;
use clap::{ArgMatches, Command};
use std::path::Path;

pub(super) fn command() -> Command {
    let command = Command::new("data")
        .about("Show rows, labels, token counts, duplicates and leaks, before training on them")
        .args([
            args::whole("rows", "N", 0..=u64::MAX)
                .default_value("5")
                .help("Rows to show of each part; of texts, every token of them"),
            args::option("text", "FILE").help(
                "Texts for a language model (--model), a file or a directory: every token, and which of them are learned",
            ),
        ]);
    args::with_settings(command)
}

pub(super) fn run(matches: &ArgMatches) -> Done {
    let rows = args::given(matches, "rows").unwrap_or(5);
    let config = usage(args::settings_and(matches, |config| {
        if let Some(file) = matches.get_one::<String>("text") {
            config.data.task = Task::Text;
            let place = if Path::new(file).is_dir() { &mut config.data.path } else { &mut config.data.train_file };
            place.clone_from(file);
        }
    }))?;
    if config.data.task == Task::Text {
        return texts::run(&config, rows, matches.get_flag("json"));
    }
    let preview = run::preview(&config)?;
    Ok(out::result(matches.get_flag("json"), &preview, || print(&preview, rows))?)
}

fn print(preview: &DataPreview, rows: usize) -> Result<()> {
    out::line(&format!("{}: {:?}, decided by {:?}", preview.name, preview.problem, preview.metric).to_lowercase())?;
    if !preview.columns.names.is_empty() {
        out::line(&format!("columns: {}", preview.columns.names.join(", ")))?;
        out::line(&format!("read as {}", preview.columns.layout))?;
    }
    for (name, split) in [("training", &preview.train), ("evaluation", &preview.dev)] {
        print_split(name, split, &preview.labels, preview.max_length, rows)?;
    }
    if preview.held_out {
        out::line("the evaluation rows are held out of the training file")?;
    }
    listed("training rows are duplicates of earlier ones", preview.duplicates_in_train, &[])?;
    listed(
        "evaluation rows are in the training rows too: the score will be too good",
        preview.leaks,
        &preview.leak_examples,
    )?;
    listed("texts have more than one label", preview.conflicts, &preview.conflict_examples)?;
    print_notes(&preview.notes)?;
    print_skipped(&preview.skipped, preview.refused)
}

fn print_split(name: &str, split: &SplitPreview, labels: &[String], max_length: usize, rows: usize) -> Result<()> {
    out::line(&format!("\n{} {name} rows from {}", format::count(split.rows), split.file))?;
    for (label, count) in labels.iter().zip(&split.balance) {
        let share = *count as f64 / split.rows.max(1) as f64;
        out::line(&format!("    {label:<20} {:>9}  {:5.1} %", format::count(*count), 100.0 * share))?;
    }
    if let Some([low, mean, high]) = split.targets {
        out::line(&format!("    targets from {low} to {high}, mean {mean:.3}"))?;
    }
    if let Some(lengths) = &split.lengths {
        print_lengths(lengths, Some(max_length))?;
    }
    for row in split.sample.iter().take(rows) {
        let pair = row.pair.as_ref().map(|pair| format!(" | {pair}")).unwrap_or_default();
        out::line(&format!("    [{}] {}", row.label, out::one_line(&format!("{}{pair}", row.text), 100)))?;
    }
    Ok(())
}
