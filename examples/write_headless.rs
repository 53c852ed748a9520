//! A language model learns to write, without window and without run directory: the whole of the lab for writing.
//!
//! ```text
//! cargo run --release --no-default-features --example write_headless -- [key=value]...
//! ```
//! Trains the bundled language model on the bundled restaurants, lets the base model, the merged model and random routes
//! write about inputs they have never seen, and scores the texts. Settings are those of the run file, such as
//! `train.seed=1` or `mixture.lora_rank=8`; `routes=4` is how many random routes write.

use adamix::config::{RunConfig, presets};
use adamix::data::text::TextData;
use adamix::error::{Error, Result};
use adamix::eval::compare::{self, EvalOptions};
use adamix::eval::generate::{self, Hooks, Routes, ScoreOptions, Scored, score_inputs};
use adamix::machine::facts;
use adamix::model::CausalLm;
use adamix::rng::SeedStream;
use adamix::train::step::StepIndex;
use adamix::train::{AdamW, ModelAndData};
use adamix::workflow::run;
use adamix::workflow::run::Prepared;
use std::io::Write as _;
use std::time::Instant;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Inputs whose texts are shown.
const SHOWN: usize = 3;

fn main() -> Result<()> {
    facts::keep_freed_memory();
    let mut config = RunConfig::default();
    presets::writer_lab().apply(&mut config);
    let mut routes = 4;
    let mut table: toml::Table = toml::from_str(&config.to_toml()?).map_err(unreadable)?;
    for argument in std::env::args().skip(1) {
        let (key, value) = argument.split_once('=').ok_or_else(|| Error::config(format!("{argument}: key=value")))?;
        if key == "routes" {
            routes = value.parse().map_err(|_| Error::config(format!("routes={value}: a whole number")))?;
            continue;
        }
        let (section, name) = key.split_once('.').ok_or_else(|| Error::config(format!("{key}: section.name")))?;
        let parsed = toml::from_str::<toml::Table>(&format!("v = {value}")).ok().and_then(|mut t| t.remove("v"));
        let place = table.get_mut(section).and_then(toml::Value::as_table_mut);
        let place = place.ok_or_else(|| Error::config(format!("there is no section {section}")))?;
        place.insert(name.to_owned(), parsed.unwrap_or_else(|| toml::Value::from(value)));
    }
    let config = RunConfig::from_toml(&toml::to_string(&table).map_err(unreadable)?)?;
    facts::pool(config.model.threads, 0)?.install(|| learn_and_write(&config, routes))
}

fn unreadable(err: impl std::fmt::Display) -> Error {
    Error::config(err.to_string())
}

fn learn_and_write(config: &RunConfig, routes: usize) -> Result<()> {
    let Prepared { subject, .. } = run::prepare(config)?;
    let mut optimizer = AdamW::new(subject.model().params())?;
    let mut order = subject.order(config);
    let total = config.train.max_steps;
    let start = Instant::now();
    for step in 0..total {
        let made = subject.step(config, &mut optimizer, StepIndex::new(step, total), &mut order)?;
        if (step + 1) % 50 == 0 {
            let seconds = start.elapsed().as_secs_f64();
            let (task, consistency) = (made.loss.task, made.loss.consistency);
            say(&format!("step {} ({seconds:.0} s): loss {task:.3}, consistency {consistency:.4}", step + 1));
        }
    }
    say(&format!("{total} steps in {:.0} s", start.elapsed().as_secs_f64()));
    let ModelAndData::Lm(model, data) = &subject else {
        return Err(Error::config("this example trains a language model; choose task text"));
    };
    let options = EvalOptions { random_routes: routes, ..subject.options(config, &|_| true) };
    let report = compare::compare(model, &data.dev, &options)?;
    let band = report.random_band();
    let base = report.base.as_ref().map_or(f64::NAN, |base| base.loss);
    say(&format!("dev loss: base {base:.3}, merged {:.3}, random routes {:.3}", report.merged.primary, band.mean));

    let merged = model.merged_own()?;
    let mut shown = Vec::new();
    let mut tell = |name: &str, scored: Scored| {
        let bleu = scored.scores.bleu;
        say(&format!("BLEU {:.1}: {name}", 100.0 * bleu));
        shown.push((name.to_owned(), scored.outputs));
        bleu
    };
    tell("base", written(&model.bare(), data, Routes::Plain, config)?);
    tell("merged", written(&merged, data, Routes::Plain, config)?);
    let mut sum = 0.0;
    for route in 0..routes {
        sum += tell(&format!("random route {route}"), written(model, data, Routes::Whole(route), config)?);
    }
    say(&format!("BLEU {:.1}: mean of {routes} random routes", 100.0 * sum / routes as f64));
    for (number, group) in data.inputs.iter().take(SHOWN).enumerate() {
        let example = group.examples.first().map(|&example| &data.dev.examples[example]);
        let turns = example.map(adamix::data::text::Example::prompt).unwrap_or_default();
        say(&format!("\n{}", turns.iter().map(|turn| turn.text.as_str()).collect::<Vec<_>>().join(" ")));
        for (name, outputs) in shown.iter().take(4) {
            say(&format!("  {name}: {}", outputs[number]));
        }
    }
    Ok(())
}

/// Greedy texts for all inputs of the evaluation data, scored.
fn written(model: &CausalLm, data: &TextData, routes: Routes, config: &RunConfig) -> Result<Scored> {
    let stops = &data.encoder.codec.specials.stops;
    let seed = SeedStream::new(config.train.seed);
    let options =
        generate::GenerateOptions { routes, seed, batch_size: 40, ..generate::GenerateOptions::greedy(64, stops) };
    let hooks = &mut Hooks { go_on: &|_| true, tell: &mut |_| {} };
    score_inputs(model, data, &options, ScoreOptions::default(), hooks)
}

/// Prints a line; a closed pipe is no failure.
fn say(line: &str) {
    writeln!(std::io::stdout(), "{line}").ok();
}
