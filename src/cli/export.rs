//! `adamix export`: write the trained modules for other programs, and prove the files.

use super::{Done, Failure, eval, out, runs, usage};
use crate::engine::protocol::{ExportDtype, ExportPlan, ExportReport, ExportTarget};
use crate::error::{Error, ErrorKind, Result};
use clap::{Arg, ArgMatches, Command, value_parser};
use serde_json::{Value, json};
use std::path::PathBuf;

pub(super) fn command() -> Command {
    Command::new("export")
        .about("Write the trained modules for other programs; the files are loaded afresh and proven")
        .arg(runs::argument())
        .arg(runs::root_argument())
        .arg(runs::checkpoint_argument())
        .arg(
            Arg::new("target")
                .long("target")
                .value_name("TARGET")
                .value_delimiter(',')
                .value_parser(["merged", "experts", "adapterhub", "peft", "peft-experts", "hf", "all"])
                .default_value("merged")
                .help(
                    "What to write: the merged adapter, all experts, a directory for AdapterHub's library, or all three; \
                     of a LoRA also a PEFT directory, one for each expert, or the whole model for transformers",
                ),
        )
        .arg(
            Arg::new("dtype")
                .long("dtype")
                .value_name("DTYPE")
                .value_parser(["f32", "f16", "bf16"])
                .default_value("f32")
                .help("Number format of the tensors; only f32 is exact"),
        )
        .arg(eval::weights_argument())
        .arg(
            Arg::new("output")
                .long("output")
                .short('o')
                .value_name("DIR")
                .value_parser(value_parser!(PathBuf))
                .help("Directory to write into [default: exports in the run directory]"),
        )
        .arg(eval::threads())
}

fn plan(matches: &ArgMatches) -> Result<ExportPlan> {
    let mut targets = Vec::new();
    for name in matches.get_many::<String>("target").into_iter().flatten() {
        targets.extend(match name.as_str() {
            "merged" => vec![ExportTarget::Merged],
            "experts" => vec![ExportTarget::Experts],
            "adapterhub" => vec![ExportTarget::AdapterHub],
            "peft" => vec![ExportTarget::Peft],
            "peft-experts" => vec![ExportTarget::PeftExperts],
            "hf" => vec![ExportTarget::Hf],
            _ => vec![ExportTarget::Merged, ExportTarget::Experts, ExportTarget::AdapterHub],
        });
    }
    targets.sort_unstable();
    targets.dedup();
    let dtype = match matches.get_one::<String>("dtype").map(String::as_str) {
        Some("f16") => ExportDtype::F16,
        Some("bf16") => ExportDtype::Bf16,
        _ => ExportDtype::F32,
    };
    let dir = matches.get_one::<PathBuf>("output").cloned();
    Ok(ExportPlan { targets, dtype, merge: eval::merge_plan(matches)?, dir })
}

pub(super) fn run(matches: &ArgMatches) -> Done {
    let plan = usage(plan(matches))?;
    eval::with_opened(matches, |opened| {
        let reports = opened.export(&plan)?;
        if matches.get_flag("json") {
            out::json(&json!({ "exports": reports.iter().map(as_json).collect::<Vec<_>>() }))?;
        } else {
            reports.iter().try_for_each(print)?;
        }
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
    let files: Vec<Value> = report
        .files
        .iter()
        .map(|file| json!({ "name": file.name, "bytes": file.bytes, "sha256": file.sha256 }))
        .collect();
    json!({
        "target": report.target,
        "dtype": report.dtype,
        "dir": report.dir,
        "passed": certificate.passed,
        "max_abs_diff": certificate.max_abs_diff,
        "tolerance": certificate.tolerance,
        "flipped": certificate.flipped,
        "rows": certificate.rows,
        "problems": certificate.problems,
        "files": files,
    })
}

fn print(report: &ExportReport) -> Result<()> {
    let certificate = &report.certificate;
    out::line(&report.dir.display().to_string())?;
    for file in &report.files {
        out::line(&format!("    {:<32} {:>10}  sha256 {}", file.name, out::bytes(file.bytes), file.sha256))?;
    }
    let verdict = if certificate.passed { "proven" } else { "NOT PROVEN" };
    out::line(&format!(
        "    {verdict}: loaded afresh, {} rows, largest difference of a logit {:.1e} (allowed {:.1e}), {} predictions flipped",
        certificate.rows, certificate.max_abs_diff, certificate.tolerance, certificate.flipped
    ))?;
    certificate.problems.iter().try_for_each(|problem| out::line(&format!("    {problem}")))
}
