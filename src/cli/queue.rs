//! `adamix queue`: runs that wait, and working them off.

use super::{Done, Failure, args, interrupt, out, train, usage};
use crate::artifact::queue::{Queue, QueueEntry, QueueState, TakenEntry};
use crate::error::{Error, ErrorKind, Result};
use crate::format;
use crate::machine::facts;
use crate::train::control::Control;
use crate::workflow::run::{self, Run};
use clap::{Arg, ArgMatches, Command, value_parser};
use serde_json::{Value, json};
use std::time::Instant;

pub(super) fn command() -> Command {
    let id = || {
        let help = "The number of an entry, as adamix queue list shows it";
        Arg::new("id").value_name("ID").required(true).value_parser(value_parser!(u64)).help(help)
    };
    let place = Arg::new("place")
        .value_name("PLACE")
        .required(true)
        .value_parser(value_parser!(u64).range(1..))
        .help("Its new place; 1 is the next one");
    let add = Command::new("add").about("Add a run at the end; without any flag the lab");
    let commands = [
        args::with_settings(add),
        Command::new("list").about("Show what waits"),
        Command::new("remove").about("Remove an entry").arg(id()),
        Command::new("move").about("Move an entry to another place").arg(id()).arg(place),
        Command::new("retry").about("Let an entry that could not start wait again").arg(id()),
        Command::new("run").about("Train one entry after the other until none waits"),
    ];
    Command::new("queue")
        .about("Runs that wait for the machine: add, list, move, remove, run")
        .after_help("The window shows the same queue. However many programs work it off, no entry is trained twice.")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands(commands.map(|command| command.arg(super::json_flag())))
}

pub(super) fn run(matches: &ArgMatches) -> Done {
    let Some((name, inner)) = matches.subcommand() else { return Ok(()) };
    let json = inner.get_flag("json") || matches.get_flag("json");
    let queue = Queue::of_user()?;
    let id = || inner.get_one::<u64>("id").copied().unwrap_or(0);
    let state = match name {
        "add" => queue.add(&usage(args::settings(inner))?)?,
        "remove" => queue.remove(id())?,
        "move" => queue.move_to(id(), inner.get_one::<u64>("place").map_or(0, |place| *place as usize - 1))?,
        "retry" => queue.retry(id())?,
        "run" => return work_off(&queue, json, inner.get_count("quiet") > 0),
        _ => queue.list()?,
    };
    Ok(show(&state, json)?)
}

fn show(state: &QueueState, json: bool) -> Result<()> {
    state.notes.iter().for_each(|note| out::note(&format!("warning: {note}")));
    if json {
        let entries: Vec<Value> = state.entries.iter().map(as_json).collect();
        return out::json(&json!({ "entries": entries, "notes": state.notes }));
    }
    if state.entries.is_empty() {
        return out::line("no run is waiting; adamix queue add takes the flags of adamix train");
    }
    for entry in &state.entries {
        let added = format::date_time(entry.added);
        out::line(&format!("{:>4}  {}  (added {added})", entry.id, entry.title()))?;
        let problem = entry.failed.as_ref().map(|why| format!("could not start: {why}"));
        let word = problem.or_else(|| entry.starting.then(|| "is being started".to_owned()));
        word.map_or(Ok(()), |word| out::line(&format!("      {word}")))?;
    }
    Ok(())
}

fn as_json(entry: &QueueEntry) -> Value {
    json!({
        "id": entry.id,
        "title": entry.title(),
        "added": entry.added,
        "starting": entry.starting,
        "failed": entry.failed,
        "settings": entry.config,
    })
}

/// Trains what waits. A run that fails is said, and the next one follows; an interruption ends it all.
fn work_off(queue: &Queue, json: bool, quiet: bool) -> Done {
    let control = interrupt::watched_control(interrupt::CHECKPOINT)?;
    let mut failed = 0;
    let mut done = 0;
    while let Some(taken) = queue.take_next()? {
        if control.stopped() {
            return Err(Failure::Interrupted);
        }
        let title = taken.entry.title();
        out::note(&format!("from the queue: {title}"));
        match train_taken(taken, &control, json, quiet) {
            Ok(()) => done += 1,
            Err(Failure::Interrupted) => return Err(Failure::Interrupted),
            Err(Failure::Usage(err) | Failure::Failed(err) | Failure::Reported(err)) => {
                failed += 1;
                out::note(&format!("{title} failed: {err}; the next one follows"));
            }
        }
    }
    out::note(&format!("the queue is worked off: {done} trained, {failed} failed"));
    match failed {
        0 => Ok(()),
        n => Err(Failure::Failed(Error::new(ErrorKind::Config, format!("{n} of {} runs failed", n + done)))),
    }
}

fn train_taken(taken: TakenEntry, control: &Control, json: bool, quiet: bool) -> Done {
    let started = Instant::now();
    facts::pool(taken.entry.config.model.threads, 0)?.install(|| {
        let run = match run::prepare(&taken.entry.config).and_then(Run::start) {
            Ok(run) => {
                taken.started()?;
                run
            }
            Err(err) => {
                taken.failed(&err.to_string())?;
                return Err(err.into());
            }
        };
        train::follow(run, control, json, quiet, started)
    })
}
