//! Makes the bundled writing model: a small Llama, pre-trained from scratch with this engine.
//!
//! ```text
//! cargo run --release --no-default-features --example make_writer -- --corpora DIR --out DIR --minutes 15
//! cargo run --release --no-default-features --example make_writer -- --corpora DIR --out assets/writer --from DIR --minutes 10
//! ```
//!
//! The first start reads running text. The second goes on with its weights and half the time reads a sentence after some
//! of its own words: a model this small learns to copy from what is in front of it only when it is asked to.
//!
//! Read in this order: `text` (corpora as sentences, shared with `make_lab`), `bpe` (the vocabulary), `windows` (what a
//! step reads), `pretrain` (the loop), `save`.
#![expect(clippy::print_stdout, reason = "a command-line program")]

#[path = "../pretraining/arguments.rs"]
mod arguments;
mod bpe;
#[path = "../pretraining/pairs.rs"]
mod pairs;
mod pretrain;
mod records;
mod save;
#[path = "../pretraining/text.rs"]
#[expect(dead_code, reason = "the lab encoder reads the corpora in other shares")]
mod text;
mod windows;

use adamix::atomic;
use adamix::error::{Error, Result};
use adamix::model::DecoderSpec;
use adamix::rng::SeedStream;
use arguments::{Given, count, path, real};
use clap::ArgMatches;
use pretrain::{Plan, Pretraining, Settings};
use std::path::Path;
use text::{Document, SOURCES};
use tokenizers::Tokenizer;
use windows::Windows;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Share of each corpus's documents that is read: novels, Wikipedia, Wikinews, film reviews.
const SHARES: [f64; 4] = [0.2, 0.4, 0.5, 1.0];

/// Windows of running text in the second start; there are twice as many sentences after their words, which are shorter.
const TEXT_WINDOWS: usize = 60_000;

fn main() -> std::process::ExitCode {
    let command = arguments::command("make_writer")
        .about("Pre-trains the bundled writing model from scratch")
        .arg(path("from", "go on with these weights and this tokenizer, on text and on sentences after their words"))
        .arg(count("warmup-steps", "100", "the first steps, in which the rate climbs"))
        .arg(count("batch", "16", "windows of text in a batch"))
        .arg(real("rate", "0.003", "highest learning rate"))
        .arg(real("checkpoint-minutes", "3", "time between checkpoints"));
    arguments::main(command, run)
}

fn run(args: &ArgMatches) -> Result<()> {
    let given = Given(args);
    let (corpora, out, from) = (given.needed("corpora")?, given.needed("out")?, given.path("from"));
    let settings = Settings {
        seed: given.count("seed"),
        batch: given.count("batch") as usize,
        rate: given.real("rate"),
        warmup: given.count("warmup-steps"),
        plan: given.plan().map_or(Plan::Minutes(given.real("minutes")), |(steps, decay)| Plan::Steps { steps, decay }),
        report_seconds: given.real("checkpoint-minutes") * 60.0,
    };
    std::fs::create_dir_all(&out).map_err(|err| Error::io("creating the output directory", &out, err))?;
    let (train, held_out) = corpus(&corpora, &out, from.as_deref(), SeedStream::new(settings.seed))?;
    let spec = DecoderSpec::from_json(save::CONFIG)?;
    let mut model = Pretraining::new(spec, settings, from.as_deref())?;
    println!("{} parameters", model.parameters());
    model.run(&train, &held_out, |params| save::write(params, &out))
}

/// Windows of some documents of every corpus, and held-out ones. The tokenizer is that of `from`, or learned from the
/// former; with `from`, there are also as many sentences after their words as make half the windows.
fn corpus(corpora: &Path, out: &Path, from: Option<&Path>, seed: SeedStream) -> Result<(Windows, Windows)> {
    let (mut parts, mut held_out_parts) = (Vec::new(), Vec::new());
    for (i, (source, share)) in SOURCES.iter().zip(SHARES).enumerate() {
        let (train, held_out) = source.read(corpora)?;
        let chosen = windows::choose(train, share, seed, i as u64);
        println!("{} ({}): {} documents", source.name, source.licence, chosen.len());
        parts.push(chosen);
        held_out_parts.push(held_out);
    }
    let all: Vec<&Document> = parts.iter().flatten().collect();
    let json = match from.map(|dir| dir.join("tokenizer.json")) {
        Some(file) => std::fs::read_to_string(&file).map_err(|err| Error::io("reading the tokenizer", &file, err))?,
        None => bpe::tokenizer_json(&bpe::learn(&all, DecoderSpec::from_json(save::CONFIG)?.vocab_size)?)?,
    };
    atomic::write_file(&out.join("tokenizer.json"), json.as_bytes())?;
    let tokenizer = Tokenizer::from_bytes(json.as_bytes()).map_err(bpe::tokenizer_error)?;
    let mut train = Windows::default();
    for (source, part) in SOURCES.iter().zip(&parts) {
        let windows = Windows::build(part, &tokenizer)?;
        println!("{}: {} tokens", source.name, windows.tokens());
        train.append(&windows);
    }
    let mut held_out = Windows::default();
    for part in &held_out_parts {
        held_out.append(&Windows::build(part, &tokenizer)?);
    }
    if from.is_some() {
        train.shorten(TEXT_WINDOWS, seed);
        train.append(&records::build(&all, &tokenizer, 2 * TEXT_WINDOWS, seed)?);
        held_out = records::build(&held_out_parts.iter().flatten().collect::<Vec<_>>(), &tokenizer, 2000, seed)?;
    }
    println!("to train on: {} windows, {} tokens; held out: {} windows", train.len(), train.tokens(), held_out.len());
    Ok((train, held_out))
}
