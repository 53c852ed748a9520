//! Makes the bundled lab encoder: a small BERT, pre-trained from scratch with this engine.
//!
//! ```text
//! cargo run --release --no-default-features --example make_lab -- \
//!     --corpora DIR --out assets/lab --steps 10000 --decay-steps 3000 --seed 0
//! ```
//!
//! Read in this order: `text` (corpora as sentences), `wordpiece` (the vocabulary), `sequences` (what a step
//! reads), `spectral` (where the word vectors start), `masking`, `head` (what is predicted, with gradients), `pretrain` (the loop), `save`, `probe`.
#![expect(clippy::print_stdout, reason = "a command-line program")]

#[path = "../pretraining/arguments.rs"]
mod arguments;
mod head;
mod masking;
#[path = "../pretraining/pairs.rs"]
mod pairs;
mod pretrain;
mod probe;
mod save;
mod sequences;
mod spectral;
#[path = "../pretraining/text.rs"]
mod text;
mod wordpiece;

use adamix::error::{Error, Result};
use adamix::model::EncoderSpec;
use adamix::rng::SeedStream;
use arguments::{Given, count, path, real};
use clap::{Arg, ArgAction, ArgMatches};
use pretrain::{Pretraining, Progress, Settings};
use sequences::Sequences;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use tokenizers::Tokenizer;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    let flag = |name: &'static str, help: &'static str| Arg::new(name).long(name).action(ArgAction::SetTrue).help(help);
    let command = arguments::command("make_lab")
        .about("Pre-trains the bundled lab encoder from scratch")
        .arg(path("cache", "where the tokenized corpora are kept between starts [default: none]"))
        .arg(path("probe", "film-review sentences (train.tsv, test.tsv) for a logistic regression at each checkpoint"))
        .arg(count("warmup-steps", "300", "the first steps, in which the rate climbs"))
        .arg(count("batch", "32", "sequences in a batch"))
        .arg(real("rate", "0.001", "highest learning rate"))
        .arg(real("checkpoint-minutes", "5", "time between checkpoints"))
        .arg(flag("probe-only", "probe the weights in --out and stop"))
        .arg(flag(
            "vocabulary-only",
            "learn the vocabulary, write tokenizer.json and stop; otherwise the one in --out is used",
        ));
    arguments::main(command, run)
}

fn run(args: &ArgMatches) -> Result<()> {
    let given = Given(args);
    let (corpora, out) = (given.needed("corpora")?, given.needed("out")?);
    std::fs::create_dir_all(&out).map_err(|err| Error::io("creating the output directory", &out, err))?;
    if args.get_flag("vocabulary-only") {
        return learn_vocabulary(&corpora, &out);
    }
    let settings = Settings {
        seed: given.count("seed"),
        batch: given.count("batch") as usize,
        rate: given.real("rate"),
        warmup: given.count("warmup-steps"),
        plan: given.plan(),
        minutes: given.real("minutes"),
    };
    let json = out.join("tokenizer.json");
    let text = std::fs::read_to_string(&json).map_err(|err| Error::io("reading the tokenizer", &json, err))?;
    let tokenizer = Tokenizer::from_bytes(text.as_bytes()).map_err(wordpiece::tokenizer_error)?;
    let probe = given.path("probe").map(|dir| probe::Probe::read(&dir, &tokenizer)).transpose()?;
    if let (true, Some(probe)) = (args.get_flag("probe-only"), &probe) {
        let (encoder, pooler) = probe::saved(&out)?;
        println!("probe: {}", probe.run(&encoder, &pooler)?);
        return Ok(());
    }
    let data = corpus(&corpora, given.path("cache").as_deref(), &tokenizer, &text, settings.seed)?;
    let every = Duration::try_from_secs_f64(given.real("checkpoint-minutes") * 60.0).unwrap_or_default();
    pretrain(settings, &data, probe.as_ref(), every, &out)
}

/// Learns the vocabulary from the training parts of all corpora and writes `tokenizer.json`.
fn learn_vocabulary(corpora: &Path, out: &Path) -> Result<()> {
    let vocabulary = EncoderSpec::from_json(save::CONFIG)?.vocab_size;
    let mut counts = BTreeMap::new();
    for source in &text::SOURCES {
        let (documents, _) = source.read(corpora)?;
        let texts: Vec<&str> = documents.iter().flat_map(|d| d.sentences.iter().map(String::as_str)).collect();
        println!("{}: {} documents, {} sentences", source.name, documents.len(), texts.len());
        wordpiece::count_words(&mut counts, &texts, source.vocabulary_weight)?;
    }
    let pieces = wordpiece::learn(&counts, vocabulary);
    save::put(&out.join("tokenizer.json"), wordpiece::tokenizer_json(&pieces)?.as_bytes())?;
    println!("{} pieces from {} different words", pieces.len(), counts.len());
    Ok(())
}

/// Sequences to train on and held-out ones.
struct Corpus {
    train: Sequences,
    held_out: Sequences,
}

/// Tokenizes the corpora, or reads what an earlier start kept.
fn corpus(corpora: &Path, cache: Option<&Path>, tokenizer: &Tokenizer, json: &str, seed: u64) -> Result<Corpus> {
    let key = sequences::cache_key(json, seed);
    let files = cache.map(|dir| [dir.join("train.bin"), dir.join("held_out.bin")]);
    if let Some([train, held_out]) = &files
        && let (Some(train), Some(held_out)) = (Sequences::read(train, &key), Sequences::read(held_out, &key))
    {
        return Ok(Corpus { train, held_out });
    }
    let mut all = Corpus { train: Sequences::default(), held_out: Sequences::default() };
    for (i, source) in text::SOURCES.iter().enumerate() {
        let (train, held_out) = source.read(corpora)?;
        let seed = SeedStream::new(seed);
        let train = Sequences::build(&train, i, tokenizer, seed)?;
        println!("{} ({}): {} sequences, {} tokens", source.name, source.licence, train.len(), train.tokens());
        all.train.append(&train);
        all.held_out.append(&Sequences::build(&held_out, i + text::SOURCES.len(), tokenizer, seed)?);
    }
    if let (Some(dir), Some([train, held_out])) = (cache, &files) {
        std::fs::create_dir_all(dir).map_err(|err| Error::io("creating the cache", dir, err))?;
        all.train.write(train, &key)?;
        all.held_out.write(held_out, &key)?;
    }
    Ok(all)
}

fn pretrain(
    settings: Settings,
    data: &Corpus,
    probe: Option<&probe::Probe>,
    every: Duration,
    out: &Path,
) -> Result<()> {
    let spec = EncoderSpec::from_json(save::CONFIG)?;
    let epoch = sequences::epoch(&data.train, SeedStream::new(settings.seed), 0);
    let tokens: usize = epoch.iter().map(|&row| data.train.get(row as usize).len() + 2).sum();
    println!("an epoch: {} sequences, {tokens} tokens; held out: {} sequences", epoch.len(), data.held_out.len());
    let mut model = Pretraining::new(spec, settings)?;
    println!("{} parameters", model.params.count());
    model.warm_start(&data.train)?;
    if let Some(probe) = probe {
        println!("  probe at the start: {}", probe.run(&model.encoder, &model.heads.pooler)?);
    }
    model.run(&data.train, every, |model, progress| {
        report(model, progress, data)?;
        if progress.save {
            let bytes = save::write(&model.params, &model.heads.pooler, out)?;
            println!("  saved {} bytes, sha256 {}", bytes.len(), hex(&Sha256::digest(&bytes)));
            if let Some(probe) = probe {
                println!("  probe: {}", probe.run(&model.encoder, &model.heads.pooler)?);
            }
        }
        Ok(())
    })
}

fn report(model: &Pretraining, progress: &Progress, data: &Corpus) -> Result<()> {
    let (train, held_out) = (progress.loss(), model.held_out(&data.held_out)?);
    let seconds = progress.elapsed.as_secs_f64();
    println!(
        "step {} (plan {:?}), {} tokens, {seconds:.0} s, {:.0} tokens/s, rate {:.2e}: loss {train:.4}, held out {held_out:.4}",
        model.step,
        model.settings().plan,
        model.tokens,
        model.tokens as f64 / seconds,
        progress.rate
    );
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
