//! `adamix data`: what is in the data, before anybody trains on it.

use super::{Done, args, out, texts, usage};
use crate::config::Task;
use crate::data::SkippedRow;
use crate::data::preview::{Lengths, Preview, Split};
use crate::error::Result;
use crate::workflow::run;
use clap::{Arg, ArgMatches, Command, value_parser};
use std::path::Path;

pub(super) fn command() -> Command {
    let command = Command::new("data")
        .about("Show rows, labels, token counts, duplicates and leaks, before training on them")
        .arg(
            Arg::new("rows")
                .long("rows")
                .value_name("N")
                .value_parser(value_parser!(usize))
                .default_value("5")
                .help("Rows to show of each part; of texts, every token of them"),
        )
        .arg(Arg::new("text").long("text").value_name("FILE").help(
            "Texts for a language model (--model), a file or a directory: every token, and which of them are learned",
        ));
    args::with_settings(command)
}

pub(super) fn run(matches: &ArgMatches) -> Done {
    let mut config = usage(args::settings(matches))?;
    let rows = matches.get_one("rows").copied().unwrap_or(5);
    if let Some(file) = matches.get_one::<String>("text") {
        config.data.task = Task::Text;
        let place = if Path::new(file).is_dir() { &mut config.data.path } else { &mut config.data.train_file };
        place.clone_from(file);
        usage(config.validate())?;
    }
    if config.data.task == Task::Text {
        return texts::run(&config, rows, matches.get_flag("json"));
    }
    let preview = run::preview(&config)?;
    if matches.get_flag("json") {
        return Ok(out::json(&preview)?);
    }
    print(&preview, rows)?;
    Ok(())
}

fn print(preview: &Preview, rows: usize) -> Result<()> {
    out::line(&format!("{}: {:?}, decided by {:?}", preview.name, preview.problem, preview.metric).to_lowercase())?;
    if !preview.columns.names.is_empty() {
        out::line(&format!("columns: {}", preview.columns.names.join(", ")))?;
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
    print_skipped(&preview.skipped, preview.refused)
}

/// Rows that cannot be used, and whether training stops at them.
pub(super) fn print_skipped(rows: &[SkippedRow], refused: bool) -> Result<()> {
    let first: Vec<String> =
        rows.iter().take(10).map(|row| format!("{}:{}: {}", row.file, row.line, row.reason)).collect();
    let what = if refused {
        "rows cannot be used, and training stops at the first; mend them, or allow it with --bad-rows skip"
    } else {
        "rows cannot be used and are left out"
    };
    listed(what, rows.len(), &first)
}

pub(super) fn listed(what: &str, count: usize, examples: &[String]) -> Result<()> {
    if count == 0 {
        return Ok(());
    }
    out::line(&format!("{} {what}", out::count(count as u64)))?;
    examples.iter().try_for_each(|example| out::line(&format!("    {}", shortened(example, 100))))
}

fn print_split(name: &str, split: &Split, labels: &[String], max_length: usize, rows: usize) -> Result<()> {
    out::line(&format!("\n{} {name} rows from {}", out::count(split.rows as u64), split.file))?;
    for (label, count) in labels.iter().zip(&split.balance) {
        let share = *count as f64 / split.rows.max(1) as f64;
        out::line(&format!("    {label:<20} {:>9}  {:5.1} %", out::count(*count as u64), 100.0 * share))?;
    }
    if let Some([low, mean, high]) = split.targets {
        out::line(&format!("    targets from {low} to {high}, mean {mean:.3}"))?;
    }
    if let Some(lengths) = &split.lengths {
        print_lengths(lengths, Some(max_length))?;
    }
    for row in split.sample.iter().take(rows) {
        let pair = row.pair.as_ref().map(|pair| format!(" | {pair}")).unwrap_or_default();
        out::line(&format!("    [{}] {}", row.label, shortened(&format!("{}{pair}", row.text), 100)))?;
    }
    Ok(())
}

pub(super) fn print_lengths(lengths: &Lengths, max_length: Option<usize>) -> Result<()> {
    let Lengths { min, mean, median, p95, max, truncated_share, .. } = lengths;
    let cut = 100.0 * truncated_share;
    out::line(&format!("    tokens: {min} to {max}, mean {mean:.1}, median {median}, 95 % up to {p95}"))?;
    if let Some(max_length) = max_length {
        out::line(&format!("    {cut:.1} % of the rows are longer than {max_length} tokens and are cut"))?;
    }
    let highest = lengths.histogram.iter().copied().max().unwrap_or(0).max(1);
    for (bin, &count) in lengths.histogram.iter().enumerate() {
        let bar = "#".repeat((40 * count).div_ceil(highest));
        let from = bin * lengths.bin_width;
        let to = from + lengths.bin_width - 1;
        let line = format!("    {from:>5} to {to:>5} {:>9} {bar}", out::count(count as u64));
        out::line(line.trim_end())?;
    }
    Ok(())
}

/// The text on one line, cut with dots when it is long.
fn shortened(text: &str, most: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(most) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
}
