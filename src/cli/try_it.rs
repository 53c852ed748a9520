//! `adamix try`: one text before a trained classifier, with every way of running it.

use super::eval::{title, with_opened};
use super::{Done, args, fan, out, runs, usage};
use crate::error::{Error, Result};
use crate::format;
use crate::protocol::{FanPlan, GridPlan, KnownAnswer, Split, TryInput, TryPlan, TryReport, WordsReport};
use crate::workflow::saved_run::Opened;
use crate::workflow::studies::fan::fan_subject;
use crate::workflow::studies::grid::grid_subject;
use crate::workflow::try_it::{Subject, TokenizerCache};
use clap::{Arg, ArgAction, ArgGroup, ArgMatches, Command};
use serde_json::json;

/// Random routes unless others are asked for.
const ROUTES: usize = 16;

pub(super) fn command() -> Command {
    let after = "With the run's own seed the random routes are those of adamix eval.\n\
                 --words leaves out each word once, alone, before the merged model: a positive number says how much the \
                 word speaks for the predicted class. Words act together, so the numbers need not add up.";
    Command::new("try")
        .about("Give a trained classifier a text: merged, each expert, random routes, ensemble, base model; with --fan also a language model")
        .after_help(after)
        .args(runs::arguments())
        .args([
            args::option("text", "TEXT").short('t').help("The text, or the first one of a pair"),
            args::option("text-pair", "TEXT").requires("text").help("The second text of a pair"),
            args::whole("row", "N", 1..=1 << 40).help("Row N of the run's data instead, from 1"),
            args::option("split", "SPLIT")
                .requires("row")
                .value_parser(["evaluation", "training"])
                .default_value("evaluation")
                .help("Of which rows"),
            args::whole("random-routes", "R", 0..=crate::protocol::MOST_ROUTES as u64)
                .help("Random routes [default: 16]"),
            args::whole("seed", "N", 0..=u64::MAX).help("Seed of the random routes [default: the run's]"),
            args::switch("fan").conflicts_with("words").help(
                "Instead, where the random routes part: the answer with the lowest layers on a route and all others merged, layer by \
                 layer; of a language model ln p of the next token, or of a row's learned tokens",
            ),
            args::whole("pin", "MODULE", 0..=1 << 20).conflicts_with_all(["words", "fan"]).help(
                "Instead, this adapted module (its number, from 0) on each pair of its experts, all others on one random route",
            ),
            args::whole("route", "K", 0..=1 << 40)
                .requires("pin")
                .help("Number of the random route of the others: another one rolls them anew [default: 0]"),
            Arg::new("words").long("words").action(ArgAction::SetTrue).help("Also leave out each word once"),
            args::threads(),
        ])
        .group(ArgGroup::new("input").args(["text", "row"]).required(true))
}

fn input(matches: &ArgMatches) -> Result<TryInput> {
    let text = |name: &str| matches.get_one::<String>(name).cloned();
    match (args::given(matches, "row"), text("text")) {
        (Some(row), _) => {
            let training = text("split").is_some_and(|split| split == "training");
            let split = if training { Split::Training } else { Split::Evaluation };
            Ok(TryInput::Row { split, row: row - 1 })
        }
        (None, Some(first)) => Ok(TryInput::Text { text: first, pair: text("text-pair") }),
        (None, None) => Err(Error::config("give --text or --row")),
    }
}

pub(super) fn run(matches: &ArgMatches) -> Done {
    let input = usage(input(matches))?;
    with_opened(matches, |opened| {
        let Opened { config, subject, weights, .. } = opened;
        let step = &weights.step;
        if matches.get_flag("fan") {
            let plan = FanPlan {
                input: input.clone(),
                routes: args::given(matches, "random-routes").unwrap_or(FanPlan::ROUTES),
                seed: args::given(matches, "seed").map_or(config.train.seed, |seed| seed as u64),
            };
            let report = fan_subject(subject, config, (&plan, *step), &|_| true)?;
            if matches.get_flag("json") {
                return Ok(out::json(&json!({ "run_dir": opened.dir.path(), "fan": report }))?);
            }
            title(opened)?;
            return Ok(fan::print(&report)?);
        }
        if let Some(module) = args::given(matches, "pin") {
            let plan = GridPlan {
                input: input.clone(),
                module,
                route: args::given(matches, "route").unwrap_or(0),
                seed: args::given(matches, "seed").map_or(config.train.seed, |seed| seed as u64),
            };
            let report = grid_subject(subject, config, (&plan, *step), &|_| true)?;
            if matches.get_flag("json") {
                return Ok(out::json(&json!({ "run_dir": opened.dir.path(), "grid": report }))?);
            }
            title(opened)?;
            return Ok(fan::print_grid(&report)?);
        }
        let mut tokenizers = TokenizerCache::default();
        let asked = Subject::new(subject, config, tokenizers.of(config)?, *step)?;
        let plan = TryPlan {
            input: input.clone(),
            routes: args::given(matches, "random-routes").unwrap_or(ROUTES),
            seed: args::given(matches, "seed").map_or(config.train.seed, |seed| seed as u64),
        };
        let report = asked.answer(&plan, &|_| true)?;
        let words = matches.get_flag("words").then(|| asked.words(&input, &|_| true)).transpose()?;
        if matches.get_flag("json") {
            return Ok(out::json(&json!({ "run_dir": opened.dir.path(), "answer": report, "words": words }))?);
        }
        title(opened)?;
        print(&report)?;
        words.map_or(Ok(()), |words| print_words(&report, &words))?;
        Ok(())
    })
}

fn print(report: &TryReport) -> Result<()> {
    for text in [Some(&report.text), report.pair.as_ref()].into_iter().flatten() {
        out::line(&out::one_line(text, 200))?;
    }
    let cut = if report.truncated { ", cut at the run's longest input" } else { "" };
    let known = match report.known {
        Some(KnownAnswer::Class(class)) => format!("; its label is {}", report.label(class)),
        Some(KnownAnswer::Value(value)) => format!("; its value is {}", format::significant(value, 4)),
        None => String::new(),
    };
    let (routes, seed) = (report.routes.len(), report.plan.seed);
    let drawn = if routes > 0 { format!("; random routes of seed {seed}") } else { String::new() };
    out::line(&format!("{} tokens{cut}{known}{drawn}\n", report.tokens))?;
    let titles = if report.labels.is_empty() { vec!["value".to_owned()] } else { report.labels.clone() };
    let cells = |values: &[f64]| values.iter().map(|value| format!("{value:.4}")).collect::<Vec<_>>();
    let mut rows = vec![out::row("", titles.iter().map(|title| out::one_line(title, 24)))];
    rows.push(out::row(if report.merged_with.is_some() { "merged" } else { "model" }, cells(&report.merged)));
    rows.extend(
        report.experts.iter().enumerate().map(|(j, values)| out::row(format!("expert {j} alone"), cells(values))),
    );
    rows.extend(
        report.routes.iter().enumerate().map(|(r, values)| out::row(format!("random route {r}"), cells(values))),
    );
    rows.extend(report.ensemble.iter().map(|values| out::row(format!("ensemble of {routes} routes"), cells(values))));
    rows.extend(report.base.iter().map(|values| out::row("base model, no adapters", cells(values))));
    out::table(&rows)
}

fn print_words(report: &TryReport, words: &WordsReport) -> Result<()> {
    let what = match words.class {
        Some(class) => {
            format!("log-odds of {} (p = {:.4}) with minus without each word", report.label(class), words.whole)
        }
        None => format!("value ({:.4}) with minus without each word", words.whole),
    };
    out::line(&format!("\n{what}"))?;
    let row = |word: &crate::protocol::WordEffect| {
        out::row(out::one_line(&word.word, 40), [format!("{:+.4}", word.effect), format!("{:.4}", word.without)])
    };
    let header = out::row("word", ["effect", if words.class.is_some() { "p without" } else { "without" }]);
    out::table(&std::iter::once(header).chain(words.words.iter().map(row)).collect::<Vec<_>>())?;
    if words.left > 0 {
        out::line(&format!("{} more words were not measured", words.left))?;
    }
    Ok(())
}
