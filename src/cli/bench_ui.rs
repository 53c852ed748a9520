//! `adamix bench ui`: the window's own work, its memory, and what it costs the training.

use super::args::{path, switch, whole};
use super::{Done, Failure, out};
use crate::bench::figures::Spread;
use crate::bench::window::{self, Limit, Measure, Part, Plan, WindowFigures};
use crate::error::{Error, Result};
use clap::{Arg, ArgMatches, Command, value_parser};
use std::path::PathBuf;

pub(super) fn command() -> Command {
    let number = |name, default: &'static str| whole(name, "N", 1..=10_000_000).default_value(default);
    Command::new("ui")
        .about("Measure the window: work of a frame, memory, opening a long record, training beside it")
        .after_help(
            "The window's own code runs without a display, each part in a process of its own. A frame is messages, layout \
             and tessellation, counted in processor time of the thread that draws (the wall clock is in --json); drawing \
             the triangles is not in it. Frames are those of the worst arrangement of the views, while an engine sends \
             200 events and 200 steps a second. The first frame is the time from starting the process to that frame laid \
             out, without the system's window. A record is opened from a window's first frame to the frame that shows it. \
             The speed of training is that of the lab in the window's engine, with 60 frames a second of the window as it \
             opens over no frames, in turn; training in the terminal has one thread more. Other programs that keep the \
             processor busy make this share smaller.",
        )
        .args([
            number("steps", "1000000").help("Points of each of 8 series, and steps of the record"),
            number("frames", "600").help("Frames of each arrangement of the views"),
            number("rounds", "7").help("Rounds of training without frames, with the window as it opens, with all views"),
            Arg::new("seconds")
                .long("seconds")
                .value_name("S")
                .value_parser(value_parser!(f64))
                .default_value("2.5")
                .help("Seconds of each of the three in a round"),
            switch("strict").help("End with code 1 where a limit does not hold"),
            // One part in this process; `bench ui` starts itself so.
            Arg::new("part").long("part").value_parser(Part::NAMES).hide(true),
            path("dir", "DIR").hide(true),
            super::json_flag(),
        ])
}

pub(super) fn run(matches: &ArgMatches, measure: Option<Measure>) -> Done {
    let Some(measure) = measure else {
        let reason = "this build has no window (feature gui is off), so there is nothing to measure";
        return Err(Error::config(reason).into());
    };
    let number = |name: &str| super::args::given(matches, name).unwrap_or(1);
    let seconds = matches.get_one::<f64>("seconds").copied().filter(|s| s.is_finite() && *s > 0.0 && *s <= 3600.0);
    let seconds = super::usage(seconds.ok_or_else(|| Error::config("--seconds: choose more than 0, at most 3600")))?;
    let plan = Plan { steps: number("steps") as u64, frames: number("frames"), rounds: number("rounds"), seconds };
    if let Some(name) = matches.get_one::<String>("part") {
        let part = Part::by_name(name, matches.get_one::<PathBuf>("dir").cloned());
        let part = super::usage(part.ok_or_else(|| Error::config(format!("--part {name} needs --dir"))))?;
        return Ok(out::json(&measure(&part, &plan)?)?);
    }
    let figures = window::measure(&plan, &mut |what| {
        if out::is_watched() {
            out::note(what);
        }
    })?;
    out::result(matches.get_flag("json"), &figures, || print(&figures))?;
    if figures.holds || !matches.get_flag("strict") {
        return Ok(());
    }
    Err(Failure::Reported(Error::internal("the window does not keep its limits")))
}

fn print(figures: &WindowFigures) -> Result<()> {
    let mut rows = vec![out::row("", ["measured", "limit", "holds"])];
    for limit in figures.limits() {
        let Limit { what, value, unit, limit: bound, at_least } = limit;
        let digits = if unit == "x" { 3 } else { 1 };
        let sign = if at_least { "at least" } else { "at most" };
        let holds = if limit.holds() { "yes" } else { "NO" };
        let cells = [format!("{value:.digits$} {unit}"), format!("{sign} {bound} {unit}"), holds.to_owned()];
        rows.push(out::row(what, cells));
    }
    out::table(&rows)?;
    let WindowFigures { memory_mb, record_mb, steps, frames, training, .. } = figures;
    let (rate, growth) = (Spread::of(training.tokens_per_s.iter().copied()).median, frames.memory_growth_mb);
    let all_views = figures.throughput_share_all_views;
    out::line(&format!(
        "\nmemory: {memory_mb:.0} MB at most, {growth:.0} MB of the window; {} series of {steps} points",
        frames.series
    ))?;
    let afresh = figures.open_first_ms;
    out::line(&format!("record: {steps} steps, {record_mb:.0} MB; without an index it opens in {afresh:.0} ms"))?;
    out::line(&format!(
        "training without frames: {rate:.0} tokens/s; with all views side by side {all_views:.3} of it\n"
    ))?;
    let mut rows = vec![out::row("work of a frame, ms", ["median", "99th", "most", "99th by the clock", "triangles"])];
    for arrangement in &frames.arrangements {
        let ms = |value: f64| format!("{value:.2}");
        let of = [arrangement.p50_ms, arrangement.p99_ms, arrangement.max_ms, arrangement.wall_p99_ms].map(ms);
        rows.push(out::row(arrangement.views.as_str(), of.into_iter().chain([arrangement.triangles.to_string()])));
    }
    out::table(&rows)
}
