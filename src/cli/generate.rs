//! `adamix generate`: texts from a language model.

use super::args::{given, option, path, switch, threads, whole};
use super::{Done, eval, out, runs, usage};
use crate::artifact::RunDir;
use crate::config::ModelConfig;
use crate::data::text::TextEncoder;
use crate::error::{Error, Result};
use crate::eval::generate::{
    Beams, EarlyStop, Event, GenerateOptions, Generated, Hooks, Method, Routes, Rules, Sampling, Scope, Search,
};
use crate::format;
use crate::machine::{device, facts};
use crate::model::BaseModel as _;
use crate::protocol::{Checkpoint, WeightsOf};
use crate::rng::SeedStream;
use crate::workflow::generate::TextGenerator;
use crate::workflow::saved_run::Opened;
use clap::{Arg, ArgAction, ArgGroup, ArgMatches, Command, value_parser};
use serde_json::json;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

pub(super) fn command() -> Command {
    let after = "Without --temperature, --top-k or --top-p the likeliest token is taken.\n\
                 A run is asked as its training data is laid out, unless --chat says otherwise.\n\
                 With --prompts every text becomes one line of the output, in order: a file for adamix score.";
    Command::new("generate")
        .about("Write text with a language model: a Hugging Face directory, a GGUF file, or a run")
        .after_help(after)
        .args([
            path("model", "PATH").short('m').help("The model: a directory or a GGUF file"),
            path("run", "RUN").help("A run of a language model instead: its directory or its name"),
            option("route", "ROUTE")
                .requires("run")
                .value_parser(|text: &str| RunMode::parse(text))
                .default_value("merged")
                .help(ROUTES),
            runs::checkpoint_argument().requires("run"),
            runs::root_argument().requires("run"),
            option("prompt", "TEXT")
                .short('p')
                .action(ArgAction::Append)
                .help("What is continued; more than once for several"),
            path("prompts", "FILE").help("A file with one prompt a line"),
            switch("chat").help("Put each prompt as a question, by the model's own chat template"),
            option("system", "TEXT").requires("chat").help("What the model is told before the question"),
        ])
        .group(ArgGroup::new("writer").args(["model", "run"]).required(true))
        .group(ArgGroup::new("what").args(["prompt", "prompts"]).required(true).multiple(true))
        .args([
            whole("max-new-tokens", "N", 0..=1 << 40).default_value("128").help("Longest text, in tokens"),
            number("temperature", "X")
                .help("Draw instead of taking the likeliest; below 1 bolder, above 1 more varied; 0: likeliest"),
            whole("top-k", "K", 0..=1 << 40).help("Draw from the K likeliest tokens only"),
            number("top-p", "P").help("Draw from the likeliest tokens that sum up to P only"),
            whole("num-beams", "B", 0..=1 << 40)
                .conflicts_with_all(["temperature", "top-k", "top-p"])
                .help("Beam search with B beams"),
            number("length-penalty", "X").default_value("1").help("Beam search: above 0 prefers longer texts"),
            option("search", "CHOICE")
                .value_parser(["transformers", "paper"])
                .default_value("transformers")
                .help("Beam search as transformers or as the paper's decoder"),
            whole("no-repeat-ngram-size", "N", 0..=1 << 40)
                .default_value("0")
                .help("Never say N tokens in a row twice; 0: allowed"),
            number("repetition-penalty", "X").default_value("1").help("Above 1 makes tokens said before less likely"),
            option("stop", "TEXT")
                .action(ArgAction::Append)
                .help("End a text before this string; more than once for several"),
            whole("seed", "N", 0..=1 << 40).default_value("42").help("Seed of the draws"),
            whole("batch-size", "N", 0..=1 << 40).default_value("8").help("Texts written side by side"),
            option("device", "NAME")
                .default_value("auto")
                .conflicts_with("run")
                .help("auto, cpu, gpu, cuda, or a GPU by number such as gpu:1"),
        ])
        .arg(threads())
}

fn number(name: &'static str, value: &'static str) -> Arg {
    option(name, value).value_parser(value_parser!(f32)).allow_negative_numbers(true)
}

/// What the flags say of how texts are written; the end tokens come from the model.
fn options(matches: &ArgMatches) -> GenerateOptions {
    let size = |name: &str| given(matches, name);
    let real = |name: &str| matches.get_one::<f32>(name).copied();
    let paper = matches.get_one::<String>("search").is_some_and(|search| search == "paper");
    let drawn = ["temperature", "top-k", "top-p"].iter().any(|name| matches.contains_id(name));
    let method = match size("num-beams") {
        Some(beams) => Method::Beam(Beams {
            beams,
            length_penalty: f64::from(real("length-penalty").unwrap_or(1.0)),
            search: if paper { Search::Reference } else { Search::Transformers(EarlyStop::Heuristic) },
        }),
        None if drawn && real("temperature") != Some(0.0) => Method::Sample(Sampling {
            temperature: real("temperature").unwrap_or(1.0),
            top_k: size("top-k").unwrap_or(0),
            top_p: real("top-p").unwrap_or(1.0),
        }),
        None => Method::Greedy,
    };
    let rules = Rules {
        repetition_penalty: real("repetition-penalty").unwrap_or(1.0),
        no_repeat_ngram: size("no-repeat-ngram-size").unwrap_or(0),
        scope: if paper { Scope::Written } else { Scope::All },
    };
    GenerateOptions {
        method,
        rules,
        stop_strings: matches.get_many::<String>("stop").into_iter().flatten().cloned().collect(),
        seed: SeedStream::new(size("seed").unwrap_or(42) as u64),
        batch_size: size("batch-size").unwrap_or(8),
        ..GenerateOptions::greedy(size("max-new-tokens").unwrap_or(128), &[])
    }
}

/// The prompts in order, those of the file last.
fn prompts(matches: &ArgMatches) -> Result<Vec<String>> {
    let mut prompts: Vec<String> = matches.get_many::<String>("prompt").into_iter().flatten().cloned().collect();
    if let Some(path) = matches.get_one::<PathBuf>("prompts") {
        let text = std::fs::read_to_string(path).map_err(|err| Error::io("reading the prompts", path, err))?;
        prompts.extend(text.lines().map(str::to_owned));
    }
    if prompts.is_empty() {
        return Err(Error::data("the file of prompts is empty; write one prompt a line"));
    }
    Ok(prompts)
}

/// A model and how it is used.
struct Writer {
    generator: TextGenerator,
    /// The prompt layout that a run was trained with.
    layout: Option<TextEncoder>,
    routes: Routes,
    /// The run, and which of its weights write.
    run: Option<(RunDir, WeightsOf)>,
}

/// Which of a run's experts run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RunMode {
    Merged,
    Base,
    Along(Routes),
}

/// The modes by name.
const ROUTES: &str = "How the run's model is run: merged, base (without its experts), expert:N, random (a whole random \
                      route for each text), per-token (an expert for each token) or ensemble:R (the mean over R routes)";

impl RunMode {
    fn parse(text: &str) -> std::result::Result<Self, String> {
        let number = |text: &str| text.parse::<usize>().ok();
        Ok(match text.split_once(':').map_or((text, None), |(name, rest)| (name, Some(rest))) {
            ("merged", None) => Self::Merged,
            ("base", None) => Self::Base,
            ("random", None) => Self::Along(Routes::PerText),
            ("per-token", None) => Self::Along(Routes::PerToken),
            ("expert", Some(rest)) => {
                Self::Along(Routes::Expert(number(rest).ok_or("expert:N needs a number from 0")?))
            }
            ("ensemble", Some(rest)) => {
                let routes = number(rest).filter(|routes| (1..=1000).contains(routes));
                Self::Along(Routes::Ensemble(routes.ok_or("ensemble:R needs a number from 1 to 1000")?))
            }
            _ => return Err("choose merged, base, expert:N, random, per-token or ensemble:R".to_owned()),
        })
    }
}

fn run_writer(dir: &RunDir, checkpoint: Checkpoint, mode: RunMode) -> Result<Writer> {
    let opened = Opened::open(dir, checkpoint)?;
    let Some((model, data)) = opened.subject.language_model() else {
        return Err(Error::config(format!(
            "this run's model gives classes and does not write; name a run of a language model: {}",
            dir.path().display()
        )));
    };
    let (model, routes) = match mode {
        RunMode::Merged => (model.merged_own()?, Routes::Plain),
        RunMode::Base => (model.bare(), Routes::Plain),
        RunMode::Along(routes) => (model.clone(), routes),
    };
    let device = device::name(model.base.device());
    let generator = TextGenerator::new(model, data.encoder.codec.clone(), device)?;
    let layout = Some(data.encoder.clone());
    Ok(Writer { generator, layout, routes, run: Some((dir.clone(), opened.weights)) })
}

pub(super) fn run(matches: &ArgMatches) -> Done {
    let device = matches.get_one::<String>("device").map_or("auto", String::as_str);
    let device = usage(device.parse().map_err(Error::config))?;
    let prompts = prompts(matches)?;
    let named = matches.get_one::<PathBuf>("run");
    let dir = named.map(|named| runs::open_named(named, matches)).transpose()?;
    let checkpoint = runs::checkpoint(matches);
    let of_run = dir.as_ref().map_or(0, |dir| dir.config().model.threads);
    let pool = facts::pool(given(matches, "threads").unwrap_or(of_run), 0)?;
    pool.install(|| {
        let writer = match &dir {
            Some(dir) => run_writer(dir, checkpoint, matches.get_one("route").copied().unwrap_or(RunMode::Merged))?,
            None => {
                let path = matches.get_one::<PathBuf>("model").map_or(Path::new(""), PathBuf::as_path);
                let generator = TextGenerator::open(path, &ModelConfig { device, ..ModelConfig::default() })?;
                Writer { generator, layout: None, routes: Routes::Plain, run: None }
            }
        };
        let Writer { generator, layout, routes, run } = &writer;
        if let Some((dir, weights)) = run {
            out::note(&eval::about(dir, *weights));
        }
        generator.warning.iter().for_each(|warning| out::note(&format!("warning: {warning}")));
        let system = matches.get_one::<String>("system").map(String::as_str);
        let chat = (matches.get_flag("chat"), system);
        let tokens = prompts.iter().map(|prompt| generator.prompt(layout.as_ref(), chat, prompt));
        let tokens = tokens.collect::<Result<Vec<_>>>()?;
        let options = GenerateOptions { stop_ids: generator.stops(), routes: *routes, ..options(matches) };
        Ok(write(&writer, &prompts, &tokens, &options, matches)?)
    })
}

fn write(
    writer: &Writer,
    prompts: &[String],
    tokens: &[Vec<u32>],
    options: &GenerateOptions,
    matches: &ArgMatches,
) -> Result<()> {
    let generator = &writer.generator;
    let (json, many) = (matches.get_flag("json"), matches.contains_id("prompts"));
    // One text appears while it is written, if somebody watches.
    let live = !json && prompts.len() == 1 && !many && std::io::stdout().is_terminal();
    let (mut failed, started) = (None, Instant::now());
    let mut tell = |event: Event<'_>| {
        if let (true, Event::Token { piece, .. } | Event::Rest { piece, .. }) = (live, event) {
            failed = failed.take().or(out::piece(piece).err());
        }
    };
    let texts = generator.write(tokens, options, &mut Hooks { go_on: &|_| true, tell: &mut tell })?;
    if let Some(err) = failed {
        return Err(err);
    }
    let seconds = started.elapsed().as_secs_f64();
    for ((prompt, tokens), text) in prompts.iter().zip(tokens).zip(&texts) {
        if json {
            out::event("text", &described(prompt, tokens, text))?;
        } else if many {
            out::line(&text.text.split_whitespace().collect::<Vec<_>>().join(" "))?;
        } else if live && !matches!(options.method, Method::Beam(_)) {
            out::line("")?;
        } else {
            out::line(&text.text)?;
        }
    }
    let written: usize = texts.iter().map(|text| text.log_probs.len()).sum();
    let read: usize = tokens.iter().map(Vec::len).sum();
    let rate = written as f64 / seconds.max(1e-9);
    if json {
        let peak = facts::peak_memory();
        let mut done = json!({ "read_tokens": read, "written_tokens": written, "seconds": seconds,
            "tokens_per_second": rate, "peak_memory": peak, "device": generator.device });
        if let Some((dir, weights)) = &writer.run {
            done["run_dir"] = json!(dir.path());
            done["step"] = json!(weights.step);
            done["checkpoint"] = json!(weights.checkpoint);
        }
        return out::event("done", &done);
    }
    log::info!("{read} tokens read, {written} written in {}: {rate:.1} tokens/s", format::duration(seconds));
    Ok(())
}

fn described(prompt: &str, tokens: &[u32], text: &Generated) -> serde_json::Value {
    json!({ "prompt": prompt, "text": text.text, "prompt_ids": tokens, "ids": text.ids, "end": text.end,
        "log_probs": text.log_probs, "score": text.score, "finish": text.finish })
}
