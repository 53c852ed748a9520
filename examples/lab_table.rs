//! What settings do in the lab, over seeds: the merged model beside its routes and the wide merge, what the draw adds to the
//! disagreement of the passes, and how far the experts come together.
//!
//! ```text
//! cargo run --release --no-default-features --example lab_table -- --seeds 3 --out lab.csv
//! cargo run --release --no-default-features --example lab_table -- --seeds 20 --only preset,lambda-5-both
//! ```
//! Each run takes half a minute on two cores; eleven settings and three seeds about a quarter of an hour. A run that has
//! ended in the directory for runs (`--runs DIR`) is not made again, and one that has not goes on, so that an interrupted table does.

use adamix::analysis::causes::least_squares::Estimate;
use adamix::artifact::RunDir;
use adamix::artifact::recorded::RecordedMetrics;
use adamix::config::merge_plan::{MergePlan, Pairs};
use adamix::config::{RunConfig, keys, presets};
use adamix::error::{Context as _, Error, Result};
use adamix::machine::facts;
use adamix::protocol::{CausesPlan, Checkpoint};
use adamix::train::{Control, NullObserver};
use adamix::workflow::run::{self, Run};
use adamix::workflow::saved_run::Opened;
use adamix::workflow::studies::causes;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// A name and what is set.
type Setting = (&'static str, &'static [(&'static str, &'static str)]);

const NO_DROPOUT: (&str, &str) = ("model.trunk_dropout", "false");
const BOTH: (&str, &str) = ("mixture.ce_both_passes", "true");
const ONE_PASS: (&str, &str) = ("mixture.consistency", "false");
const UNSHARED: (&str, &str) = ("mixture.sharing_up", "false");

/// The preset has M = 4, the up sides shared, lambda 1, and the label loss on pass A.
const SETTINGS: [Setting; 11] = [
    ("preset", &[]),
    ("no-dropout", &[NO_DROPOUT]),
    ("lambda-0-both", &[BOTH, ("mixture.consistency_weight", "0")]),
    ("lambda-1-both", &[BOTH]),
    ("lambda-5-both", &[BOTH, ("mixture.consistency_weight", "5")]),
    ("one-pass", &[ONE_PASS]),
    ("unshared", &[UNSHARED]),
    ("unshared-one-pass", &[UNSHARED, ONE_PASS]),
    ("m-1", &[("mixture.num_experts", "1")]),
    ("m-2", &[("mixture.num_experts", "2")]),
    ("m-8", &[("mixture.num_experts", "8")]),
];

/// What is measured of each run.
const COLUMNS: [&str; 12] = [
    "merged accuracy",
    "merged - routes, accuracy",
    "merged loss",
    "merged - routes, loss",
    "ensemble - merged, loss",
    "wide - merged, loss",
    "KL slope a layer",
    "z of the slope",
    "KL intercept",
    "z of the intercept",
    "consensus, lowest layer",
    "consensus, highest layer",
];

/// What was asked for.
struct Asked {
    seeds: u64,
    only: Vec<String>,
    runs: PathBuf,
    out: Option<PathBuf>,
}

fn main() -> Result<()> {
    let asked = asked(std::env::args().skip(1))?;
    facts::pool(0, 0)?.install(|| table(&asked))
}

fn asked(arguments: impl Iterator<Item = String>) -> Result<Asked> {
    let mut asked = Asked { seeds: 3, only: Vec::new(), runs: PathBuf::from("lab-table"), out: None };
    let mut arguments = arguments;
    while let Some(flag) = arguments.next() {
        let value = arguments.next().ok_or_else(|| Error::config(format!("{flag} needs a value")))?;
        match flag.as_str() {
            "--seeds" => asked.seeds = value.parse().map_err(|_| Error::config("--seeds needs a number"))?,
            "--only" => asked.only = value.split(',').map(str::to_owned).collect(),
            "--runs" => asked.runs = value.into(),
            "--out" => asked.out = Some(value.into()),
            _ => return Err(Error::config(format!("{flag} is unknown; there are --seeds, --only, --runs, --out"))),
        }
    }
    match asked.only.iter().find(|name| !SETTINGS.iter().any(|(known, _)| known == name)) {
        None => Ok(asked),
        Some(name) => {
            let known: Vec<&str> = SETTINGS.iter().map(|(name, _)| *name).collect();
            Err(Error::config(format!("setting {name} is unknown; there are {}", known.join(", "))))
        }
    }
}

fn table(asked: &Asked) -> Result<()> {
    let mut csv = format!("setting,seed,{}\n", COLUMNS.join(",").replace(", ", " "));
    for (name, set) in SETTINGS {
        if !asked.only.is_empty() && !asked.only.iter().any(|only| only == name) {
            continue;
        }
        let mut found: Vec<Vec<Option<f64>>> = Vec::new();
        for seed in 0..asked.seeds {
            let own = measured(&run_of(asked, name, set, seed)?).with_context(|| format!("{name}, seed {seed}"))?;
            let cells = own.iter().map(|value| value.map_or_else(String::new, |value| format!("{value:.6}")));
            csv.push_str(&format!("{name},{seed},{}\n", cells.collect::<Vec<_>>().join(",")));
            found.push(own);
        }
        say(&format!("\n{name}, {} seeds: mean ± 2 standard errors; each seed", asked.seeds));
        for (column, title) in COLUMNS.iter().enumerate() {
            let values: Vec<f64> = found.iter().filter_map(|own| own[column]).collect();
            if values.is_empty() {
                continue;
            }
            let digits = if title.starts_with('z') { 1 } else { 4 };
            let each: Vec<String> = values.iter().map(|value| format!("{value:.digits$}")).collect();
            let mean = Estimate::mean(&values)
                .map_or_else(String::new, |mean| format!("{:.digits$} ± {:.digits$}", mean.value, 2.0 * mean.se));
            say(&format!("    {title:<26} {mean:<20} {}", each.join(" ")));
        }
    }
    match &asked.out {
        Some(out) => std::fs::write(out, csv).map_err(|err| Error::io("writing the table", out, err)),
        None => Ok(()),
    }
}

/// The directory of a finished run.
fn run_of(asked: &Asked, name: &str, set: &[(&str, &str)], seed: u64) -> Result<PathBuf> {
    let mut config = RunConfig::default();
    presets::lab().apply(&mut config);
    config.name = format!("{name}-{seed}");
    config.runs_dir = asked.runs.to_string_lossy().into_owned();
    config.train.seed = seed;
    for (key, value) in set {
        keys::set(&mut config, key, value)?;
    }
    let dir = asked.runs.join(&config.name);
    let ended = |dir: &Path| Ok::<_, Error>(RecordedMetrics::read(&RunDir::open(dir)?.metrics())?.end.is_some());
    let mut run = match dir.exists() {
        true if ended(&dir)? => return Ok(dir),
        true => Run::resume(&dir, None)?,
        false => Run::start(run::prepare(&config)?)?,
    };
    run.go(&mut NullObserver, &Control::default())?;
    Ok(dir)
}

/// The numbers of [`COLUMNS`], of the last checkpoint.
fn measured(dir: &Path) -> Result<Vec<Option<f64>>> {
    let opened = Opened::open(&RunDir::open(dir)?, Checkpoint::Last)?;
    let report = opened.compare(opened.config.eval.random_routes)?;
    let wide = match opened.config.mixture.num_experts {
        1 => None,
        _ => Some(opened.merge(&MergePlan::Wide(Pairs::Same))?.scores.loss),
    };
    let plan = CausesPlan { probe_rows: 0, after: None };
    let causes = causes::of_files(&opened.dir, opened.weights.step, &plan)?;
    let routes = report.random.len() as f64;
    let mean =
        |of: &dyn Fn(usize) -> f64| (routes > 0.0).then(|| (0..report.random.len()).map(of).sum::<f64>() / routes);
    let routes_accuracy = mean(&|i| report.random[i].primary);
    let routes_loss = mean(&|i| report.random[i].loss);
    let merged = &report.merged;
    Ok(vec![
        Some(merged.primary),
        routes_accuracy.map(|routes| merged.primary - routes),
        Some(merged.loss),
        routes_loss.map(|routes| merged.loss - routes),
        Some(report.ensemble.loss - merged.loss),
        wide.map(|wide| wide - merged.loss),
        causes.kl_slope,
        causes.kl_slope_z,
        causes.kl_intercept,
        causes.kl_intercept_z,
        causes.consensus.first().copied().flatten(),
        causes.consensus.last().copied().flatten(),
    ])
}

/// Prints a line; a closed pipe is no failure.
fn say(line: &str) {
    writeln!(std::io::stdout(), "{line}").ok();
}
