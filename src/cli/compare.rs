//! `adamix compare`: two or more runs, or evaluations saved with `adamix eval --json`, side by side.

use super::results::fixed_width;
use super::{Done, args, out, runs};
use crate::artifact::{RunDir, checkpoint_choice};
use crate::config::keys;
use crate::error::{Error, Result};
use crate::eval::EvalReport;
use crate::format;
use crate::machine::facts;
use crate::protocol::{Checkpoint, RunSummary, WeightsOf};
use crate::records::EndRecord;
use crate::workflow::runs::RecordedMetrics;
use crate::workflow::saved_run::Opened;
use clap::parser::ValueSource;
use clap::{ArgMatches, Command};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// One column of the comparison; also what is read of a saved evaluation.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct ComparedRun {
    name: String,
    path: PathBuf,
    metric: String,
    higher_is_better: bool,
    /// Training steps of the weights in the report.
    step: Option<u64>,
    /// Why these.
    checkpoint: Option<Checkpoint>,
    /// Absent while the run has not ended.
    report: Option<EvalReport>,
    steps: Option<u64>,
    seconds: Option<f64>,
    tokens_per_s: Option<f64>,
    trained_parameters: Option<usize>,
    merged_parameters: Option<usize>,
    /// Settings that are not the same in all of these runs.
    #[serde(skip_deserializing)]
    differs: BTreeMap<&'static str, String>,
    #[serde(skip)]
    run: Option<RunDir>,
}

pub(super) fn command() -> Command {
    Command::new("compare")
        .about("Show two or more runs, or evaluations saved with eval --json, side by side")
        .arg(args::paths("runs", "RUN").help("Run directories, names of runs, or files of eval --json"))
        .arg(runs::root_argument())
        .arg(runs::checkpoint_argument().help(
            "The checkpoint of each run: the one with the best metric (the first of equals), the newest, or the one of step N. \
             Its scores are measured now where the run's record has those of other weights",
        ))
        .arg(args::threads())
}

pub(super) fn run(matches: &ArgMatches) -> Done {
    let named = matches.get_many::<PathBuf>("runs").into_iter().flatten();
    let mut entries = named.map(|path| entry(path, matches)).collect::<Result<Vec<_>>>()?;
    note_differences(&mut entries)?;
    Ok(out::result(matches.get_flag("json"), &serde_json::json!({ "runs": entries }), || print(&entries))?)
}

fn entry(path: &Path, matches: &ArgMatches) -> Result<ComparedRun> {
    if path.is_file() {
        return of_file(path);
    }
    let run = runs::open_named(path, matches)?;
    let mut entry = of_run(&run)?;
    if matches.value_source("checkpoint") == Some(ValueSource::CommandLine) {
        of_checkpoint(&mut entry, &run, runs::checkpoint(matches), matches)?;
    }
    Ok(entry)
}

/// Puts the scores of this checkpoint into the entry, measured where they are not recorded.
fn of_checkpoint(entry: &mut ComparedRun, run: &RunDir, which: Checkpoint, matches: &ArgMatches) -> Result<()> {
    let WeightsOf { step, checkpoint } = checkpoint_choice::resolve(run, which)?;
    entry.checkpoint = checkpoint;
    if entry.step != Some(step) {
        let pool = facts::pool(args::given(matches, "threads").unwrap_or(run.config().model.threads), 0)?;
        let report =
            pool.install(|| Opened::open(run, Checkpoint::Step(step))?.compare(run.config().eval.random_routes))?;
        (entry.step, entry.report) = (Some(step), Some(report));
    }
    Ok(())
}

/// As the run's record has it: the comparison at its end is one of the best weights.
fn of_run(run: &RunDir) -> Result<ComparedRun> {
    let RecordedMetrics { progress, start, end, .. } = RecordedMetrics::read(&run.metrics())?;
    let summary = RunSummary::new(run, &progress, false);
    let compared = end.as_ref().filter(|end| end.report.is_some());
    Ok(ComparedRun {
        name: run.name(),
        path: run.path().to_owned(),
        metric: start.metric,
        higher_is_better: start.higher_is_better,
        tokens_per_s: end.as_ref().map(|end| end.tokens_per_s),
        step: compared.map(EndRecord::weights_step),
        checkpoint: compared.map(|end| if end.best.is_some() { Checkpoint::Best } else { Checkpoint::Last }),
        report: end.and_then(|end| end.report),
        steps: Some(summary.step),
        seconds: Some(summary.seconds),
        trained_parameters: Some(start.trained_parameters),
        merged_parameters: Some(start.merged_parameters),
        differs: BTreeMap::new(),
        run: Some(run.clone()),
    })
}

fn of_file(path: &Path) -> Result<ComparedRun> {
    let text = std::fs::read_to_string(path).map_err(|err| Error::io("reading an evaluation", path, err))?;
    let last = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
    let wrong =
        |why: &str| Error::format(format!("not a result of eval --json or train --json ({why}): {}", path.display()));
    let saved: ComparedRun = serde_json::from_str(last).map_err(|err| wrong(&err.to_string()))?;
    let report = saved.report.as_ref().ok_or_else(|| wrong("it has no report"))?;
    Ok(ComparedRun {
        name: path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
        path: path.to_owned(),
        metric: report.metric.clone(),
        higher_is_better: report.higher_is_better,
        ..saved
    })
}

/// Fills in the settings that are not the same everywhere; names and places are told anyway.
fn note_differences(entries: &mut [ComparedRun]) -> Result<()> {
    for key in keys::KEYS.iter().filter(|key| !["name", "runs_dir"].contains(&key.path)) {
        let value = |entry: &ComparedRun| entry.run.as_ref().map(|run| keys::get(run.config(), key.path)).transpose();
        let values = entries.iter().map(value).collect::<Result<Vec<_>>>()?;
        let mut known = values.iter().flatten();
        let first = known.next();
        if known.all(|value| Some(value) == first) {
            continue;
        }
        for (entry, value) in entries.iter_mut().zip(values) {
            entry.differs.extend(value.map(|value| (key.path, value)));
        }
    }
    Ok(())
}

fn print(entries: &[ComparedRun]) -> Result<()> {
    let score = |pick: &dyn Fn(&EvalReport) -> Option<f64>| {
        let cell = |entry: &ComparedRun| out::or_dash(entry.report.as_ref().and_then(pick), fixed_width);
        entries.iter().map(cell).collect::<Vec<_>>()
    };
    let count = |pick: &dyn Fn(&ComparedRun) -> Option<u64>| {
        entries.iter().map(|entry| out::or_dash(pick(entry), format::count)).collect::<Vec<_>>()
    };
    let band = |report: &EvalReport| (!report.random.is_empty()).then(|| report.random_band());
    let mut rows = vec![
        ("", entries.iter().map(|entry| entry.name.clone()).collect::<Vec<_>>()),
        ("metric", entries.iter().map(|entry| entry.metric.clone()).collect()),
        ("merged", score(&|report| Some(report.merged.primary))),
        ("random routes, mean", score(&|report| band(report).map(|band| band.mean))),
        ("random routes, lowest", score(&|report| band(report).map(|band| band.min))),
        ("random routes, highest", score(&|report| band(report).map(|band| band.max))),
        ("ensemble", score(&|report| Some(report.ensemble.primary))),
        ("learned nothing", score(&|report| Some(report.majority))),
        ("merged loss", score(&|report| Some(report.merged.loss))),
        ("scores of step", count(&|entry| entry.step)),
        ("rows", count(&|entry| entry.report.as_ref().map(|report| report.rows as u64))),
        ("steps", count(&|entry| entry.steps)),
        ("seconds", count(&|entry| entry.seconds.map(|seconds| seconds.round() as u64))),
        ("tokens/s", count(&|entry| entry.tokens_per_s.map(|speed| speed.round() as u64))),
        ("trained parameters", count(&|entry| entry.trained_parameters.map(|size| size as u64))),
        ("after merging", count(&|entry| entry.merged_parameters.map(|size| size as u64))),
    ];
    for key in keys::KEYS {
        if entries.iter().any(|entry| entry.differs.contains_key(key.path)) {
            let value = |entry: &ComparedRun| out::or_dash(entry.differs.get(key.path), Clone::clone);
            rows.push((key.path, entries.iter().map(value).collect()));
        }
    }
    let rows = rows.into_iter().map(|(label, cells)| out::row(label, cells));
    out::table(&rows.collect::<Vec<_>>())
}
