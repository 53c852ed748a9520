//! `adamix models`: what is on disk, fetching by name, removing.

use super::progress::Sink;
use super::{Done, Failure, args, interrupt, out, usage};
use crate::engine::transfer::{Transfer, TransferEvent};
use crate::error::{Error, ErrorKind};
use crate::format;
use crate::model::HeaderReader;
use crate::model_store::{DownloadProgress, Downloaded, Hub, ModelId, ModelKind, Stage, StoredModel};
use clap::{Arg, ArgMatches, Command};
use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

/// How often an interruption is looked for while nothing arrives.
const POLL: Duration = Duration::from_millis(100);

pub(super) fn command() -> Command {
    let after = "A model is named as on its page: org/name, org/name@revision, org/name:file.gguf. Such a name can stand \
                 wherever a model's directory can; it is looked for on disk only.\n\
                 HF_HUB_CACHE or HF_HOME say where the cache is, HF_ENDPOINT names another server, HF_TOKEN opens what is \
                 private, HF_HUB_OFFLINE=1 forbids downloads.";
    let id =
        || Arg::new("id").value_name("ID").required(true).help("org/name, org/name@revision or org/name:file.gguf");
    let yes = args::switch("yes").short('y').help("Do not ask");
    let commands = [
        Command::new("download").about("Fetch a model, or what is missing of it").arg(id()),
        Command::new("remove").about("Remove a model from the cache, for good").arg(id()).arg(yes),
        Command::new("path").about("Print where a model lies").arg(id()),
    ];
    Command::new("models")
        .about("Models on disk: list, download by name, remove")
        .after_help(after)
        .subcommands(commands.map(|command| command.arg(super::json_flag())))
}

pub(super) fn run(matches: &ArgMatches) -> Done {
    let (inner, json) = match matches.subcommand() {
        Some((_, inner)) => (inner, inner.get_flag("json") || matches.get_flag("json")),
        None => return list(matches.get_flag("json")),
    };
    let id = usage(ModelId::parse(inner.get_one::<String>("id").map_or("", String::as_str)))?;
    match matches.subcommand_name() {
        Some("download") => download(&id, json),
        Some("remove") => remove(&id, inner.get_flag("yes"), json),
        _ => path(&id, json),
    }
}

fn list(json: bool) -> Done {
    let cached = Hub::from_env()?.scan(&HeaderReader);
    if json {
        return Ok(out::json(&cached)?);
    }
    let cache = cached.cache.display();
    if cached.models.is_empty() {
        return Ok(out::line(&format!("no models in {cache}; adamix models download org/name fetches one"))?);
    }
    let mut rows = vec![out::row("model", ["family", "parameters", "size", "for"])];
    rows.extend(cached.models.iter().map(|model| {
        let family = if model.family.is_empty() { "?" } else { &model.family };
        let parameters = if model.parameters > 0 { format::count(model.parameters) } else { "?".to_owned() };
        out::row(&model.id, [family, &parameters, &format::bytes(model.bytes), purpose(model)])
    }));
    out::table(&rows)?;
    for model in &cached.models {
        if let Some(problem) = &model.problem {
            out::line(&format!("{}: {problem}", model.id))?;
        }
    }
    let total = cached.models.iter().map(|model| model.bytes).sum();
    out::line(&format!("{} in {cache}", format::bytes(total)))?;
    if let Some(variable) = &cached.offline {
        out::line(&format!("{variable} is set: nothing is downloaded"))?;
    }
    Ok(())
}

fn purpose(model: &StoredModel) -> &'static str {
    match (model.incomplete, &model.problem, model.kind) {
        (true, _, _) => "incomplete",
        (_, Some(_), _) => "not usable",
        (_, None, Some(ModelKind::Encoder)) => "labels",
        (_, None, _) => "writing",
    }
}

fn path(id: &ModelId, json: bool) -> Done {
    let path = Hub::from_env()?.locate(id)?;
    let fields = serde_json::json!({ "id": id.to_string(), "path": path });
    Ok(out::result(json, &fields, || out::line(&path.display().to_string()))?)
}

fn remove(id: &ModelId, yes: bool, json: bool) -> Done {
    let hub = Hub::from_env()?;
    let dir = hub.cache.join(id.folder());
    if !yes {
        if !io::stdin().is_terminal() {
            return Err(Failure::Usage(Error::config(format!(
                "nobody can be asked here; add --yes to remove {id} for good"
            ))));
        }
        let place = dir.display();
        write!(io::stderr().lock(), "Remove {id} from {place} for good? [y/N] ").ok(); // the answer counts
        let mut answer = String::new();
        io::stdin().read_line(&mut answer).map_err(|err| Error::io("reading the answer", &dir, err))?;
        if !matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") {
            out::note("kept");
            return Ok(());
        }
    }
    let bytes = hub.remove(id)?;
    if json {
        return Ok(out::event("removed", &serde_json::json!({ "id": id.to_string(), "bytes": bytes }))?);
    }
    Ok(out::line(&format!("removed {id}, {} are free now", format::bytes(bytes)))?)
}

fn download(id: &ModelId, json: bool) -> Done {
    let words = "interrupted: what was fetched is kept (once more to end at once)";
    let control = interrupt::watched_control(words)?;
    let mut transfer = Transfer::start(&Hub::from_env()?, id.clone())?;
    let sink = Sink::new(json, false, "{bar:24} {wide_msg}");
    let mut reporter = DownloadReporter { sink, said: None, stage: Stage::Asking };
    let ended = loop {
        if control.stopped() {
            transfer.stop();
        }
        match transfer.next(POLL) {
            Some(TransferEvent::Progress(progress)) => reporter.show(&progress),
            Some(TransferEvent::Ended(ended)) => break ended,
            None => {}
        }
    };
    reporter.sink.finish();
    match ended {
        Ok(done) => Ok(report(&done, json)?),
        Err(err) if err.kind() == ErrorKind::Cancelled => {
            out::note(&format!("stopped; adamix models download {id} goes on from there"));
            Err(Failure::Interrupted)
        }
        Err(err) => Err(Failure::Failed(err)),
    }
}

fn report(done: &Downloaded, json: bool) -> crate::error::Result<()> {
    if json {
        return out::event("downloaded", done);
    }
    out::line(&format!("{}, {}: {}", done.id, format::bytes(done.bytes), done.path.display()))?;
    out::line(&format!("use it by its name: --model {}", done.id))
}

/// Shows how far a download is: a bar on a terminal, a line for every file and every tenth in a pipe, events with `--json`.
struct DownloadReporter {
    sink: Sink,
    /// What the last line said: the file and the tenths.
    said: Option<(usize, u64)>,
    stage: Stage,
}

impl DownloadReporter {
    fn show(&mut self, progress: &DownloadProgress) {
        self.sink.event("progress", progress);
        let changed = self.stage != progress.stage;
        self.stage.clone_from(&progress.stage);
        if let Stage::Waiting { seconds, reason } = &progress.stage {
            if changed {
                self.sink.say(&format!("{reason}; next try in {seconds} s"));
            }
            return;
        }
        let text = describe(progress);
        if let Sink::Bar(bar) = &self.sink {
            bar.set_length(progress.total);
            bar.set_position(progress.done);
            bar.set_message(text);
            return;
        }
        let now = (progress.number, (progress.share() * 10.0) as u64);
        if progress.number > 0 && self.said.replace(now) != Some(now) {
            self.sink.say(&text);
        }
    }
}

fn describe(progress: &DownloadProgress) -> String {
    let DownloadProgress { stage, file, number, files, done, total, speed, .. } = progress;
    let amount = format!("{} of {}", format::bytes(*done), format::bytes(*total));
    let left =
        progress.seconds_left().map(|seconds| format!("  {} left", format::duration(seconds))).unwrap_or_default();
    match stage {
        Stage::Asking => "asking for the list of files".to_owned(),
        Stage::Verifying => format!("{amount}  checking {file} ({number}/{files})"),
        _ if *speed > 0.0 => format!("{amount}  {}/s{left}  {file} ({number}/{files})", format::bytes(*speed as u64)),
        _ => format!("{amount}  {file} ({number}/{files})"),
    }
}
