//! `adamix report`: a run as one HTML file.

use super::{Done, args, out, runs};
use crate::workflow::report;
use clap::{ArgMatches, Command};
use std::path::PathBuf;

pub(super) fn command() -> Command {
    Command::new("report")
        .about("Write a run as one HTML file: settings, curves, tables, samples, certificates. It loads nothing and runs no script")
        .arg(runs::argument())
        .arg(runs::root_argument())
        .arg(args::path("out", "FILE").short('o').help("The file [default: report.html in the run directory]"))
}

pub(super) fn run(matches: &ArgMatches) -> Done {
    let run = runs::open(matches)?;
    let to = matches.get_one::<PathBuf>("out").cloned().unwrap_or_else(|| run.path().join("report.html"));
    report::write(run.path(), &to)?;
    let bytes = std::fs::metadata(&to).map_or(0, |meta| meta.len());
    if matches.get_flag("json") {
        out::event("report", &serde_json::json!({ "file": to, "bytes": bytes }))?;
    } else {
        out::line(&format!("{} ({})", to.display(), crate::format::bytes(bytes)))?;
    }
    Ok(())
}
