//! `adamix train` and `adamix resume`.

use super::progress::Progress;
use super::results::TrainResult;
use super::{Done, Failure, args, interrupt, out, runs, usage};
use crate::config::{DeviceChoice, RunConfig, branching};
use crate::error::{Error, ErrorKind, Result};
use crate::format;
use crate::machine::facts;
use crate::protocol::{PreflightReport, RunStatus};
use crate::records::EndReason;
use crate::train::control::Control;
use crate::workflow::run::{self, Run};
use crate::workflow::{branch, preflight, runs as saved_runs};
use clap::{ArgMatches, Command};
use std::path::Path;
use std::time::Instant;

pub(super) fn command() -> Command {
    let about = "Train a mixture of adapters; without any flag the lab: the bundled encoder on the bundled sentences";
    let command = Command::new("train").about(about).arg(
        args::switch("dry-run").help("Load everything, make a few steps to measure, show the plan, and write nothing"),
    );
    args::with_settings(command)
}

pub(super) fn resume_command() -> Command {
    Command::new("resume")
        .about("Go on with an interrupted or stopped run from its last checkpoint: the same bits as never interrupted")
        .arg(runs::argument())
        .arg(runs::root_argument())
        .arg(
            args::device()
                .help("Go on there: auto, cpu, cuda, gpu, or a GPU by number as in gpu:1 [default: where it was]"),
        )
}

pub(super) fn branch_command() -> Command {
    let about = "Train a new run that goes on from a checkpoint of another one, with other settings";
    let command = Command::new("branch")
        .about(about)
        .after_help(
            "Settings that shape the model, its experts, the rows or their order stay as they are. Without a change the new \
             run makes the same bits as the other one did after that checkpoint.",
        )
        .arg(runs::argument())
        .args([runs::checkpoint_argument(), args::option("name", "NAME").help("Name of the new run")]);
    args::with_flags(command, &mut branching::free())
        .arg(runs::root_argument().help("Directory that holds the runs, where RUN is named, and the new one"))
}

pub(super) fn branch(matches: &ArgMatches) -> Done {
    let started = Instant::now();
    let parent = runs::open(matches)?;
    let mut config = parent.config().clone();
    config.name = matches.get_one::<String>("name").cloned().unwrap_or_default();
    if let Some(root) = matches.get_one::<std::path::PathBuf>("runs-dir") {
        config.runs_dir = root.display().to_string();
    }
    usage(args::apply_flags(&mut config, matches))?;
    let made = branch::branch(&parent, runs::checkpoint(matches), &config)?;
    let control = interrupt::watched_control(interrupt::CHECKPOINT)?;
    facts::pool(config.model.threads, 0)?.install(|| {
        let run = Run::resume(made.path(), None)?;
        follow(run, &control, matches.get_flag("json"), matches.get_count("quiet") > 0, started)
    })
}

pub(super) fn run(matches: &ArgMatches) -> Done {
    let config = usage(args::settings(matches))?;
    if matches.get_flag("dry-run") {
        return dry_run(&config, matches.get_flag("json"));
    }
    train(&config, matches.get_flag("json"), matches.get_count("quiet") > 0)
}

/// Trains with these settings to the end and prints the result.
pub(super) fn train(config: &RunConfig, json: bool, quiet: bool) -> Done {
    let started = Instant::now();
    let control = interrupt::watched_control(interrupt::CHECKPOINT)?;
    facts::pool(config.model.threads, 0)?.install(|| {
        let run = Run::start(run::prepare(config)?)?;
        follow(run, &control, json, quiet, started)
    })
}

pub(super) fn resume(matches: &ArgMatches) -> Done {
    let started = Instant::now();
    let dir = runs::open(matches)?;
    if ended(dir.path(), matches.get_flag("json"))? {
        return Ok(());
    }
    let device = matches.get_one::<DeviceChoice>("device").copied();
    let control = interrupt::watched_control(interrupt::CHECKPOINT)?;
    facts::pool(dir.config().model.threads, 0)?.install(|| {
        let run = Run::resume(dir.path(), device)?;
        follow(run, &control, matches.get_flag("json"), matches.get_count("quiet") > 0, started)
    })
}

/// Whether the run has come to its end: then there is nothing to train, and what came out is said once more.
fn ended(dir: &Path, json: bool) -> Result<bool> {
    if saved_runs::summary(dir).status != RunStatus::Finished {
        return Ok(false);
    }
    let detail = saved_runs::detail(dir)?;
    let Some(end) = &detail.end else { return Ok(false) };
    out::note(&format!("this run came to its end after {} steps; nothing is left to train", format::count(end.step)));
    TrainResult::new(&detail.start, end, dir, detail.summary.seconds).show(json, &detail.evals)?;
    Ok(true)
}

pub(super) fn follow(mut run: Run, control: &Control, json: bool, quiet: bool, started: Instant) -> Done {
    let dir = run.dir().path().to_owned();
    let mut progress = Progress::new(json, quiet, dir.clone());
    for warning in run.warnings() {
        progress.sink.say(&format!("warning: {warning}"));
        progress.sink.event("warning", &warning);
    }
    let ended = run.go(&mut progress, control);
    progress.sink.finish();
    let end = ended?;
    // A run that was resumed has evaluations from before; what cannot be read is left out of the verdict.
    let evals = saved_runs::evaluations(&dir).unwrap_or_default();
    TrainResult::new(&progress.start, &end, &dir, started.elapsed().as_secs_f64()).show(json, &evals)?;
    match &end.reason {
        EndReason::Finished | EndReason::EarlyStopped => Ok(()),
        EndReason::Stopped(_) => {
            out::note(&format!("interrupted; go on with: adamix resume {}", dir.display()));
            Err(Failure::Interrupted)
        }
        EndReason::Diverged { step, last_checkpoint } => {
            Err(Failure::Reported(diverged(*step, last_checkpoint.as_deref(), &dir)))
        }
    }
}

fn diverged(step: u64, last_checkpoint: Option<&str>, dir: &Path) -> Error {
    let last = match last_checkpoint {
        Some(name) => format!("the last finite weights are in {}", dir.join(name).display()),
        None => "no checkpoint was written before".to_owned(),
    };
    let message = format!("the loss was not finite at step {step}; {last}; try a lower --learning-rate");
    Error::new(ErrorKind::Numerics, message)
}

fn dry_run(config: &RunConfig, json: bool) -> Done {
    let plan = facts::pool(config.model.threads, 0)?.install(|| preflight::preflight(config, true))?;
    if json {
        out::event("plan", &plan_json(&plan, config)?)?;
    } else {
        print_plan(&plan)?;
    }
    plan.problems.first().map_or(Ok(()), |problem| Err(Failure::Reported(Error::config(problem.clone()))))
}

fn plan_json(plan: &PreflightReport, config: &RunConfig) -> Result<serde_json::Value> {
    let start = &plan.start;
    let settings = serde_json::to_value(config).map_err(|err| Error::internal(format!("settings as JSON: {err}")))?;
    Ok(serde_json::json!({
        "problems": plan.problems,
        "warnings": plan.warnings,
        "trunk_parameters": start.trunk_parameters,
        "trained_parameters": start.trained_parameters,
        "head_parameters": start.head_parameters,
        "merged_parameters": start.merged_parameters,
        "train_rows": start.train_rows,
        "eval_rows": start.eval_rows,
        "total_steps": start.total_steps,
        "tokens_per_step": plan.tokens_per_step,
        "memory_mb": (plan.memory_bytes as f64 / 1e6).round(),
        "memory_available_mb": (plan.memory_available as f64 / 1e6).round(),
        "recompute": plan.recompute,
        "seconds": plan.seconds,
        "device": start.device,
        "run_dir": plan.run_dir,
        "settings": settings,
    }))
}

fn print_plan(plan: &PreflightReport) -> Result<()> {
    let (start, count) = (&plan.start, |number: usize| format::count(number));
    let available = match plan.memory_available {
        0 => String::new(),
        bytes => format!(" of {}", format::bytes(bytes)),
    };
    let rows = [
        ("device", start.device.clone()),
        ("frozen parameters", count(start.trunk_parameters)),
        (
            "trained parameters",
            format!("{} ({} in the head)", count(start.trained_parameters), count(start.head_parameters)),
        ),
        ("adapter after merging", format!("{} parameters", count(start.merged_parameters))),
        ("rows", format!("{} to train on, {} to measure on", count(start.train_rows), count(start.eval_rows))),
        ("steps", format::count(start.total_steps)),
        ("tokens a step", format!("{:.0}, all passes counted", plan.tokens_per_step)),
        ("memory", format!("about {}{available}", format::bytes(plan.memory_bytes))),
        ("activations", if plan.recompute { "computed again in the backward pass" } else { "kept" }.to_owned()),
        (
            "time",
            plan.seconds
                .map_or_else(|| "not measured".to_owned(), |seconds| format!("about {}", format::duration(seconds))),
        ),
        ("run directory", plan.run_dir.display().to_string()),
    ];
    out::fields(22, rows)?;
    plan.warnings.iter().try_for_each(|warning| out::line(&format!("warning: {warning}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diverged_run_says_where_the_last_finite_weights_are() {
        let dir = Path::new("runs").join("mine");
        let err = diverged(7, Some("checkpoint-5"), &dir);
        let place = format!("the last finite weights are in {};", dir.join("checkpoint-5").display());
        assert_eq!(err.kind(), ErrorKind::Numerics);
        assert!(err.to_string().contains(&place) && err.to_string().contains("at step 7"), "{err}");
        let without = diverged(7, None, &dir).to_string();
        assert!(without.contains("no checkpoint was written before"), "{without}");
        assert!(!without.contains("finite weights"), "{without}");
    }
}
