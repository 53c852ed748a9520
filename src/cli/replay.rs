//! `adamix replay`: one step of a run, made again beside what the record says.

use super::{Done, Failure, args, out, runs};
use crate::artifact::{RunDir, checkpoint};
use crate::error::{Error, Result};
use crate::machine::facts;
use crate::protocol::{RebuildCost, ReplayPlan, ReplayReport};
use crate::records::{Pick, Route, SIDES};
use crate::workflow::studies::replay::{recorded, replay};
use clap::{Arg, ArgMatches, Command};

pub(super) fn command() -> Command {
    Command::new("replay")
        .about(
            "Make one step of a run again, in memory, and compare it with the record bit for bit: loss, consistency term, gradient \
             norm, routes, and the weights where there is a checkpoint of it",
        )
        .after_help(
            "Training goes on from the nearest checkpoint before the step; nothing is written. Exit code 1: not equal. The same bits \
             need the same machine and the same number of threads.",
        )
        .args([runs::argument(), runs::root_argument(), step_argument(), args::threads()])
}

/// `--step`, shared with `reroll`.
pub(super) fn step_argument() -> Arg {
    args::whole("step", "N", 1..=1 << 40).required(true).help("The step, from 1")
}

/// Opens the run, says what the weights before the step cost, and hands both to `job` inside a compute pool.
pub(super) fn with_step(matches: &ArgMatches, job: impl FnOnce(&RunDir, u64) -> Done + Send) -> Done {
    let dir = runs::open(matches)?;
    let step = args::given(matches, "step").map_or(1, |step| step as u64);
    recorded(&dir, step)?;
    let cost = RebuildCost::of(&checkpoint::list(&dir)?, step.saturating_sub(1));
    out::note(&format!("the weights before step {step}: {}", cost.words()));
    let pool = facts::pool(args::given(matches, "threads").unwrap_or(dir.config().model.threads), 0)?;
    pool.install(|| job(&dir, step))
}

pub(super) fn run(matches: &ArgMatches) -> Done {
    with_step(matches, |dir, step| {
        let report = replay(dir, ReplayPlan { step }, &|_| true)?;
        for warning in &report.warnings {
            out::note(&format!("warning: {warning}"));
        }
        if matches.get_flag("json") {
            let equal = report.is_equal();
            out::json(&serde_json::json!({ "run_dir": dir.path(), "equal": equal, "replay": report }))?;
        } else {
            print(dir, &report)?;
        }
        match report.is_equal() {
            true => Ok(()),
            false => Err(Failure::Reported(Error::config(report.verdict()))),
        }
    })
}

fn print(dir: &RunDir, report: &ReplayReport) -> Result<()> {
    out::line(&format!("{}, step {}, law {}", dir.path().display(), report.replayed_step, report.law))?;
    let mut rows = vec![out::row("", ["made again", "recorded", ""])];
    rows.extend(report.values.iter().map(|value| {
        let verdict = if value.is_equal() { "equal" } else { "not equal" };
        out::row(&value.name, [value.replayed.to_string(), value.recorded.to_string(), verdict.to_owned()])
    }));
    out::table(&rows)?;
    for (micro_batch, route) in report.routes.iter().enumerate() {
        let title = if report.routes.len() > 1 { format!("micro-batch {micro_batch}") } else { "route".to_owned() };
        let passes = (0..route.passes).map(|pass| ["pass A", "pass B"].get(pass).copied().unwrap_or("pass"));
        let mut rows = vec![out::row(title, passes)];
        rows.extend(
            report
                .modules
                .iter()
                .enumerate()
                .map(|(site, module)| out::row(module, (0..route.passes).map(|pass| picks(route, pass, site)))),
        );
        out::line("")?;
        out::table(&rows)?;
    }
    out::line(match report.routes_recorded {
        0 => "\nthe routes of this step are not recorded",
        _ if report.picks_differing == 0 => "\nthe routes are those of the record",
        _ => "\nthe routes are not those of the record",
    })?;
    report.different_picks.iter().try_for_each(|words| out::line(&format!("    {words}")))?;
    out::line(&report.verdict())
}

/// The experts of a module in one pass, down and up.
fn picks(route: &Route, pass: usize, site: usize) -> String {
    let words = SIDES.map(|side| match route.pick(pass, site, side) {
        Pick::One(expert) => expert.to_string(),
        Pick::PerExample(list) => format!("{} examples", list.len()),
        Pick::PerToken(list) => format!("{} tokens", list.len()),
    });
    words.join(" / ")
}
