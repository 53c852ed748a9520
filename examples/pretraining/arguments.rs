//! The command line that both pre-training programs share.

use adamix::error::{Error, Result};
use clap::{Arg, ArgMatches, Command, value_parser};
use std::path::PathBuf;
use std::process::ExitCode;

/// Runs a program, says what went wrong, if anything.
pub fn main(command: Command, run: impl FnOnce(&ArgMatches) -> Result<()>) -> ExitCode {
    adamix::machine::facts::keep_freed_memory();
    let name = command.get_name().to_owned();
    match run(&command.get_matches()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            println!("{name}: {err}");
            ExitCode::FAILURE
        }
    }
}

/// A directory.
pub fn path(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name("DIR").value_parser(value_parser!(PathBuf)).help(help)
}

/// A whole number.
pub fn count(name: &'static str, default: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name("N").default_value(default).value_parser(value_parser!(u64)).help(help)
}

/// A real number.
pub fn real(name: &'static str, default: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name("X").default_value(default).value_parser(value_parser!(f64)).help(help)
}

/// A program with the options that both have: where from, where to, how long, how fast.
pub fn command(name: &'static str) -> Command {
    Command::new(name)
        .arg(path("corpora", "directory of the corpora (holds text/novels/train.txt.zst and so on)").required(true))
        .arg(path("out", "where tokenizer.json, config.json and model.safetensors go").required(true))
        .arg(count("steps", "0", "optimizer steps; 0: decided by --minutes"))
        .arg(count("decay-steps", "0", "the last steps, in which the rate falls to zero"))
        .arg(count("seed", "0", "seed of everything random"))
        .arg(real("minutes", "60", "time to take when --steps is 0"))
}

/// What was given.
pub struct Given<'a>(pub &'a ArgMatches);

impl Given<'_> {
    /// A directory, if given.
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        self.0.get_one::<PathBuf>(name).cloned()
    }
    /// A directory.
    pub fn needed(&self, name: &str) -> Result<PathBuf> {
        self.path(name).ok_or_else(|| Error::config(format!("--{name} is needed")))
    }
    /// A whole number.
    pub fn count(&self, name: &str) -> u64 {
        self.0.get_one::<u64>(name).copied().unwrap_or_default()
    }
    /// A real number.
    pub fn real(&self, name: &str) -> f64 {
        self.0.get_one::<f64>(name).copied().unwrap_or_default()
    }
    /// Steps, and the last of them, in which the rate falls; none if the clock decides.
    pub fn plan(&self) -> Option<(u64, u64)> {
        Some((self.count("steps"), self.count("decay-steps"))).filter(|plan| plan.0 > 0)
    }
}
