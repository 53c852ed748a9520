//! The command line: one file per command.
//!
//! Results go to stdout, progress and messages to stderr; with `--json` stdout holds one JSON object a line.
//! Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted (a checkpoint was written first).
//! `main` passes the functions that open and measure the window.

mod args;
mod bench;
mod bench_ui;
mod capsule;
mod causes;
mod compare;
mod data;
mod doctor;
mod eval;
mod experts;
mod export;
mod fan;
mod generate;
mod import;
mod inspect;
mod interrupt;
mod manuals;
mod models;
mod opened;
mod out;
mod plane;
mod preview_lines;
mod progress;
mod queue;
mod replay;
mod report;
mod reroll;
mod results;
mod routes;
mod rows;
mod runs;
mod score;
mod spread;
mod study;
mod texts;
mod train;
mod try_it;
mod window;
mod worth;

use crate::bench::window::Measure;
use crate::config::WindowOptions;
use crate::error::{Error, ErrorKind, Result};
use clap::{Arg, ArgAction, ArgMatches, Command};
use std::ffi::OsString;
use std::process::ExitCode;

/// Opens the window and returns when it is closed.
pub type OpenWindow = fn(WindowOptions) -> Result<()>;

/// The window, as `main` hands it over.
#[derive(Clone, Copy)]
pub struct WindowEntry {
    /// Opens it.
    pub open: OpenWindow,
    /// Measures a part of it.
    pub measure: Measure,
}

/// Why a command failed.
#[derive(Debug)]
enum Failure {
    /// Wrong usage: exit code 2.
    Usage(Error),
    /// It was tried and failed: exit code 1.
    Failed(Error),
    /// It failed after its results were printed, which say so: exit code 1.
    Reported(Error),
    /// The user stopped it: exit code 130.
    Interrupted,
}

impl From<Error> for Failure {
    fn from(err: Error) -> Self {
        if err.kind() == ErrorKind::Cancelled { Self::Interrupted } else { Self::Failed(err) }
    }
}

/// What a command returns.
type Done = std::result::Result<(), Failure>;

/// Settings that cannot be used are wrong usage.
fn usage<T>(result: Result<T>) -> std::result::Result<T, Failure> {
    result.map_err(Failure::Usage)
}

/// Runs the program with these arguments (the first one is its own name); `window` is absent in a build without one.
pub fn main(arguments: impl IntoIterator<Item = OsString>, window: Option<WindowEntry>) -> ExitCode {
    let matches = match command().try_get_matches_from(arguments.into_iter().map(args::dashed)) {
        Ok(matches) => matches,
        Err(err) => {
            // Help and version come this way too, with code 0. A closed pipe is no failure.
            err.print().ok();
            return ExitCode::from(err.exit_code() as u8);
        }
    };
    start_log(&matches);
    let (json, result) = match matches.subcommand() {
        Some((name, inner)) => (wants_json(inner), dispatch(name, inner, window)),
        None => (false, window::no_command(window.map(|window| window.open))),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => report(&failure, json),
    }
}

/// Whether `--json` was given, to the command or to the one inside it.
fn wants_json(matches: &ArgMatches) -> bool {
    matches.get_flag("json") || matches.subcommand().is_some_and(|(_, inner)| wants_json(inner))
}

fn report(failure: &Failure, json: bool) -> ExitCode {
    let (code, err, json) = match failure {
        Failure::Usage(err) => (2, err, json),
        Failure::Failed(err) => (1, err, json),
        Failure::Reported(err) => (1, err, false),
        Failure::Interrupted => return ExitCode::from(130),
    };
    out::note(&format!("error: {err}"));
    if json {
        let kind = format!("{:?}", err.kind()).to_lowercase();
        let fields = serde_json::json!({ "error": err.to_string(), "kind": kind });
        out::event("failed", &fields).ok(); // the exit code says it as well
    }
    ExitCode::from(code)
}

/// A command with its code.
type CommandEntry = (fn() -> Command, fn(&ArgMatches) -> Done);

/// The commands that need only their arguments, in the order of the help.
const COMMANDS: [CommandEntry; 20] = [
    (train::command, train::run),
    (train::resume_command, train::resume),
    (train::branch_command, train::branch),
    (eval::command, eval::run),
    (eval::merge_command, eval::merge),
    (try_it::command, try_it::run),
    (export::command, export::run),
    (import::command, import::run),
    (inspect::command, inspect::run),
    (replay::command, replay::run),
    (reroll::command, reroll::run),
    (compare::command, compare::run),
    (queue::command, queue::run),
    (capsule::command, capsule::run),
    (report::command, report::run),
    (data::command, data::run),
    (models::command, models::run),
    (generate::command, generate::run),
    (score::command, score::run),
    (doctor::command, doctor::run),
];

fn dispatch(name: &str, matches: &ArgMatches, window: Option<WindowEntry>) -> Done {
    match name {
        "window" => window::run(matches, window.map(|window| window.open)),
        "open" => capsule::open(matches, window.map(|window| window.open)),
        "bench" => bench::run(matches, window.map(|window| window.measure)),
        "completions" => manuals::completions(matches, command()),
        "man" => manuals::man(matches, command()),
        other => match COMMANDS.iter().find(|(command, _)| command().get_name() == other) {
            Some((_, run)) => run(matches),
            None => Err(Failure::Failed(Error::internal(format!("the command {other} has no code")))),
        },
    }
}

/// Version of the package, with the commit it was built from where the build knew it: `0.1.0 (1a2b3c4d5e)`.
fn version() -> &'static str {
    match option_env!("ADAMIX_VERSION") {
        Some(version) => version,
        None => env!("CARGO_PKG_VERSION"),
    }
}

/// The whole command line.
fn command() -> Command {
    let about = "Fine-tunes language models with AdaMix: mixtures of adapters, random routing, merging with proof";
    let after = "Without a command the window opens; without a display the lab is trained in the terminal.\n\
                 adamix COMMAND --help explains a command and all its settings.";
    let window = [bench::command(), window::command(), capsule::open_command()];
    let others = window.into_iter().chain([manuals::completions_command(), manuals::man_command()]);
    let commands = COMMANDS.iter().map(|(command, _)| command()).chain(others);
    Command::new("adamix")
        .about(about)
        .after_help(after)
        .version(version())
        .infer_long_args(false)
        .arg(verbosity("verbose", 'v', "Say more on stderr; twice for everything"))
        .arg(verbosity("quiet", 'q', "Say only errors on stderr"))
        .subcommands(commands.map(|command| command.arg(json_flag())))
}

fn verbosity(name: &'static str, short: char, help: &'static str) -> Arg {
    Arg::new(name).long(name).short(short).action(ArgAction::Count).global(true).help(help).display_order(901)
}

fn json_flag() -> Arg {
    let help = "Print results as JSON, one object a line";
    Arg::new("json").long("json").action(ArgAction::SetTrue).help(help).display_order(900)
}

fn start_log(matches: &ArgMatches) {
    let level = match (matches.get_count("quiet"), matches.get_count("verbose")) {
        (0, 0) => log::LevelFilter::Warn,
        (0, 1) => log::LevelFilter::Info,
        (0, _) => log::LevelFilter::Debug,
        _ => log::LevelFilter::Error,
    };
    let mut builder = env_logger::Builder::new();
    builder.filter_level(log::LevelFilter::Warn);
    // It warns of the locale "C", which is harmless.
    builder.filter_module("egui_system_font_provider", log::LevelFilter::Error);
    match std::env::var("RUST_LOG") {
        Ok(filters) => builder.parse_filters(&filters),
        Err(_) => builder.filter_module("adamix", level),
    };
    builder.try_init().ok(); // only a second initialisation fails, and the first one is as good
}
