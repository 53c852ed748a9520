//! `adamix capsule` and `adamix open`: a run in one file.

use super::{Done, OpenWindow, args, out, runs, window};
use crate::artifact::RunDir;
use crate::artifact::capsule::{Capsule, LARGEST_CHECKPOINT};
use crate::config::WindowOptions;
use crate::error::{Error, Result};
use crate::format;
use crate::workflow::capsule;
use clap::{Arg, ArgMatches, Command, value_parser};
use serde_json::json;
use std::path::{Path, PathBuf};

pub(super) fn command() -> Command {
    let limit = format::bytes(LARGEST_CHECKPOINT);
    Command::new("capsule")
        .about("Write a run into one file: settings, curves, routes, log, best and last checkpoint, a hash of each")
        .after_help(format!(
            "A checkpoint larger than {limit} is left out, and the file says so. Model and data are not part of it.\n\
             Every command that takes a RUN takes the file too; adamix open FILE shows it in the window."
        ))
        .arg(runs::argument())
        .arg(runs::root_argument())
        .arg(args::path("out", "FILE").short('o').help("The file to write [default: NAME.capsule beside the run]"))
}

pub(super) fn open_command() -> Command {
    Command::new("open")
        .about("Verify a capsule and show it: in the window, or here where there is none")
        .arg(
            Arg::new("file")
                .value_name("FILE")
                .required(true)
                .value_parser(value_parser!(PathBuf))
                .help("A file that adamix capsule has written"),
        )
        .arg(args::switch("no-window").help("Only verify it and say what it holds"))
}

pub(super) fn run(matches: &ArgMatches) -> Done {
    let dir = runs::open(matches)?;
    let file = matches.get_one::<PathBuf>("out").cloned().unwrap_or_else(|| capsule::default_file(&dir));
    let saved = capsule::save(&dir, &file)?;
    Ok(out::result(matches.get_flag("json"), &as_json(&saved, "file", &file), || {
        out::line(&file.display().to_string())?;
        describe(&saved)
    })?)
}

pub(super) fn open(matches: &ArgMatches, open_window: Option<OpenWindow>) -> Done {
    let file = matches.get_one::<PathBuf>("file").map_or(Path::new(""), PathBuf::as_path);
    if !file.is_file() {
        return Err(Error::config(format!("there is no such file: {}", file.display())).into());
    }
    let dir = capsule::open(file)?;
    let holds = Capsule::of_dir(&dir).unwrap_or_default();
    let json = matches.get_flag("json");
    let shown = match window::opener(open_window) {
        Ok(opener) if !json && !matches.get_flag("no-window") => Some(opener),
        _ => None,
    };
    if let Some(opener) = shown {
        return Ok(opener(WindowOptions { run: Some(file.to_owned()), ..WindowOptions::default() })?);
    }
    Ok(out::result(json, &as_json(&holds, "run_dir", RunDir::open(&dir)?.path()), || {
        out::line(&format!("{}: every member is as it was written", file.display()))?;
        describe(&holds)?;
        out::line(&format!("unpacked, to read only, in {}", dir.display()))?;
        out::line(&format!("measure it with: adamix eval {}", file.display()))
    })?)
}

fn as_json(capsule: &Capsule, place: &str, path: &Path) -> serde_json::Value {
    let mut value = json!(capsule);
    value[place] = json!(path);
    value
}

fn describe(capsule: &Capsule) -> Result<()> {
    let environment = &capsule.environment;
    let rows = [
        ("run", capsule.run.clone()),
        ("written by", format!("{} on {}", capsule.tool, capsule.created)),
        ("computed on", format!("{}, {} threads", environment.device, environment.threads)),
        ("computer", format!("{} {}", environment.system, environment.processor)),
        ("size", format::bytes(capsule.bytes())),
    ];
    out::fields(14, rows)?;
    for file in &capsule.files {
        out::line(&format!("    {:<40} {:>10}  sha256 {}", file.name, format::bytes(file.bytes), file.sha256))?;
    }
    capsule.left_out.iter().try_for_each(|text| out::line(&format!("left out: {text}")))
}
