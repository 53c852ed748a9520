//! `adamix export`: write the trained modules for other programs, and prove the files.

use super::{Done, Failure, args, eval, out, runs, usage};
use crate::config::RunConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::format;
use crate::protocol::{ExportPlan, ExportReport, ExportTarget, MergePlan, NumberFormat, ProbeResult};
use clap::builder::PossibleValuesParser;
use clap::{ArgMatches, Command};
use serde_json::{Value, json};
use std::path::PathBuf;

pub(super) fn command() -> Command {
    Command::new("export")
        .about("Write the trained modules for other programs; the files are loaded afresh and proven")
        .args(runs::arguments())
        .arg(
            args::option("target", "TARGET")
                .value_delimiter(',')
                .value_parser(PossibleValuesParser::new(ExportTarget::all().map(ExportTarget::as_str).chain(["all"])))
                .default_value("merged")
                .help("What to write; all is whatever fits the run but whole models")
                .long_help(targets_help()),
        )
        .arg(args::option("dtype", "DTYPE").value_parser(NumberFormat::EXPORTS.map(NumberFormat::as_str)).help(
            "Number format of the tensors; only f32 is exact, q8_0 is for gguf [default: f32, for gguf alone f16]",
        ))
        .args(eval::merge_arguments())
        .arg(
            args::path("output", "DIR")
                .short('o')
                .help("Directory to write into [default: exports in the run directory]"),
        )
        .arg(args::threads())
}

/// Every target with what it is, out of their table.
fn targets_help() -> String {
    let rows = ExportTarget::all().map(|target| format!("  {}: {}", target.as_str(), target.info().description));
    let last = "  all: whatever fits the run but whole models".to_owned();
    let text: Vec<String> = ["What to write:".to_owned()].into_iter().chain(rows).chain([last]).collect();
    text.join("\n")
}

/// What the flags ask of a run with these settings.
fn plan(matches: &ArgMatches, config: &RunConfig) -> Result<ExportPlan> {
    let named = |name: &String| ExportTarget::all().find(|target| target.as_str() == name);
    let mut targets: Vec<ExportTarget> =
        matches.get_many::<String>("target").into_iter().flatten().filter_map(named).collect();
    if matches.get_many::<String>("target").into_iter().flatten().any(|name| name == "all") {
        let fits = |target: &ExportTarget| target.refusal(config.data.task, config.mixture.kind).is_none();
        targets.extend(ExportTarget::all().filter(|target| fits(target) && !target.is_whole()));
    }
    targets.sort_unstable();
    targets.dedup();
    let typed = matches.get_one::<String>("dtype");
    let typed = typed.and_then(|name| NumberFormat::EXPORTS.into_iter().find(|dtype| dtype.as_str() == name));
    let usual = if targets == [ExportTarget::Gguf] { NumberFormat::F16 } else { NumberFormat::F32 };
    let dtype = typed.unwrap_or(usual);
    let dir = matches.get_one::<PathBuf>("output").cloned();
    let merge = eval::merge_plan(matches)?.unwrap_or_else(|| MergePlan::own(&config.mixture));
    Ok(ExportPlan { targets, dtype, merge, dir })
}

pub(super) fn run(matches: &ArgMatches) -> Done {
    usage(eval::merge_plan(matches))?;
    eval::with_opened(matches, |opened| {
        let plan = plan(matches, &opened.config)?;
        let reports = opened.export(&plan)?;
        let all = json!({ "exports": reports.iter().map(as_json).collect::<Vec<_>>() });
        out::result(matches.get_flag("json"), &all, || {
            eval::title(opened)?;
            reports.iter().try_for_each(print)
        })?;
        match reports.iter().find(|report| !report.certificate.passed) {
            None => Ok(()),
            Some(failed) => Err(Failure::Reported(uncertified(failed))),
        }
    })
}

fn uncertified(report: &ExportReport) -> Error {
    let why = report.certificate.problems.join("; ");
    let place = report.dir.display();
    Error::new(ErrorKind::Certificate, format!("the written files do not do what was measured: {why}: {place}"))
}

fn as_json(report: &ExportReport) -> Value {
    let certificate = &report.certificate;
    let files: Vec<Value> = certificate
        .files
        .iter()
        .map(|file| json!({ "name": file.name, "bytes": file.bytes, "sha256": file.sha256 }))
        .collect();
    json!({
        "target": report.target,
        "dtype": report.dtype,
        "dir": report.dir,
        "step": certificate.step,
        "checkpoint": certificate.checkpoint,
        "passed": certificate.passed,
        "max_abs_diff": certificate.probe.max_abs_delta,
        "tolerance": certificate.probe.tolerance,
        "flipped": certificate.probe.flipped,
        "rows": certificate.probe.rows,
        "problems": certificate.problems,
        "files": files,
    })
}

fn print(report: &ExportReport) -> Result<()> {
    let certificate = &report.certificate;
    out::line(&report.dir.display().to_string())?;
    for file in &certificate.files {
        out::line(&format!("    {:<32} {:>10}  sha256 {}", file.name, format::bytes(file.bytes), file.sha256))?;
    }
    let verdict = if certificate.passed { "proven" } else { "NOT PROVEN" };
    let ProbeResult { rows, max_abs_delta, tolerance, flipped, .. } = certificate.probe;
    let difference = max_abs_delta.unwrap_or(f64::NAN);
    out::line(&format!(
        "    {verdict}: loaded afresh, {rows} rows, largest difference of a logit {difference:.1e} (allowed {tolerance:.1e}), {flipped} predictions flipped"
    ))?;
    certificate.problems.iter().try_for_each(|problem| out::line(&format!("    {problem}")))
}
