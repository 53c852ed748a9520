//! The window, and what happens without one: the lab in the terminal.

use super::{Done, OpenWindow, args, out, train};
use crate::config::{RunConfig, WindowOptions, presets};
use crate::error::Error;
use clap::{Arg, ArgMatches, Command, value_parser};
use std::path::PathBuf;

pub(super) fn command() -> Command {
    Command::new("window")
        .alias("gui")
        .about("Open the window")
        .arg(
            Arg::new("run")
                .value_name("RUN")
                .value_parser(value_parser!(PathBuf))
                .help("A run directory or a capsule to open"),
        )
        .args([
            args::option("frames", "N")
                .alias("smoke")
                .value_parser(value_parser!(u32).range(1..))
                .help("Close after N frames: checks that the window works here"),
            args::path("screenshot", "FILE")
                .requires("frames")
                .help("Write a picture of the last of these frames (PNG)"),
        ])
}

/// The function that opens the window, or why it cannot be opened here.
pub(super) fn opener(window: Option<OpenWindow>) -> Result<OpenWindow, &'static str> {
    let open = window.ok_or("this build has no window (feature gui is off)")?;
    let named = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let needs_display = cfg!(all(unix, not(target_vendor = "apple")));
    if needs_display && !named("DISPLAY") && !named("WAYLAND_DISPLAY") {
        return Err("no display was found (DISPLAY and WAYLAND_DISPLAY are not set)");
    }
    Ok(open)
}

pub(super) fn run(matches: &ArgMatches, window: Option<OpenWindow>) -> Done {
    let path = |name| matches.get_one::<PathBuf>(name).cloned();
    let frames = matches.get_one::<u32>("frames").copied();
    match opener(window) {
        Ok(open) => Ok(open(WindowOptions { run: path("run"), frames, screenshot: path("screenshot") })?),
        Err(reason) => Err(Error::config(format!("{reason}; adamix train --lab trains in the terminal")).into()),
    }
}

/// The program without a command: the window, or the lab where there is none.
pub(super) fn no_command(window: Option<OpenWindow>) -> Done {
    match opener(window) {
        Ok(open) => Ok(open(WindowOptions::default())?),
        Err(reason) => {
            out::note(&format!("{reason}, so the lab is trained here in the terminal"));
            let mut lab = RunConfig::default();
            presets::lab().apply(&mut lab);
            train::train(&lab, false, false)
        }
    }
}
