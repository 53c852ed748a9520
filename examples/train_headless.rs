//! The whole AdaMix training on one screen, without window and without run directory.
//!
//! ```text
//! cargo run --release --no-default-features --example train_headless
//! ```
//! Trains the bundled encoder on the bundled sentences and compares the merged model with the mixture.

use adamix::config::{RunConfig, presets};
use adamix::data::order::Order;
use adamix::error::{Error, Result};
use adamix::eval::compare::{self, EvalOptions};
use adamix::machine::facts;
use adamix::model::Network as _;
use adamix::rng::SeedStream;
use adamix::train::step::{self, StepIndex};
use adamix::train::{AdamW, ModelAndData};
use adamix::workflow::run;
use adamix::workflow::run::Prepared;
use std::io::Write as _;

fn main() -> Result<()> {
    // All settings have the lab's values; every one can be changed here, or in a run file (TOML).
    let mut config = RunConfig::default();
    presets::lab().apply(&mut config);

    facts::pool(config.model.threads, 0)?.install(|| train(&config))
}

fn train(config: &RunConfig) -> Result<()> {
    // Trunk (frozen), mixture of adapters and head (trained), and the rows as token ids.
    let Prepared { subject, .. } = run::prepare(config)?;
    let ModelAndData::Classifier(model, task) = subject else {
        return Err(Error::config("this example trains a classifier; choose a task with labels"));
    };
    let counts = model.counts();
    say(&format!("{} frozen and {} trained parameters", counts.base, counts.trained));

    // One optimizer step: draw a route for each pass, run both passes as one batch, task loss plus consistency,
    // gradients of what was drawn, clip, AdamW. `step::step` is all of it.
    let seed = SeedStream::new(config.train.seed);
    let mut order = Order::new(seed, task.train.len(), config.train.batch_size);
    let mut optimizer = AdamW::new(model.params())?;
    for number in 0..config.train.max_steps {
        let at = StepIndex::new(number, config.train.max_steps);
        let batch_of = |index| Ok(task.train.batch(order.rows(index)));
        let made = step::step(config, &model, &mut optimizer, at, batch_of)?;
        if (number + 1) % 50 == 0 {
            let (task, consistency) = (made.loss.task, made.loss.consistency);
            say(&format!("step {}: task loss {task:.4}, consistency {consistency:.4}", number + 1));
        }
    }

    // Merging: the mean of the experts' weights, site by site. The result costs what a single adapter costs.
    let options = EvalOptions {
        metric: task.metric,
        batch_size: config.eval.eval_batch_size,
        random_routes: config.eval.random_routes,
        seed,
        go_on: &|_| true,
    };
    let report = compare::compare(&model, &task.dev, &options)?;
    let band = report.random_band();
    say(&format!("{} of the merged model      {:.4}", report.metric, report.merged.primary));
    say(&format!("{} of random routes        {:.4} ({:.4} to {:.4})", report.metric, band.mean, band.min, band.max));
    say(&format!("{} of their ensemble       {:.4}", report.metric, report.ensemble.primary));
    say(&format!("{} of the majority answer  {:.4}", report.metric, report.majority));
    Ok(())
}

/// Prints a line; a closed pipe is no failure.
fn say(line: &str) {
    writeln!(std::io::stdout(), "{line}").ok();
}
