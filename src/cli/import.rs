//! `adamix import`: adapters of other programs become a run.

use super::{Done, args, out, usage};
use crate::error::Result;
use crate::format;
use crate::machine::facts;
use crate::workflow::import;
use clap::{ArgAction, ArgMatches, Command};
use serde_json::json;
use std::path::Path;

pub(super) fn command() -> Command {
    let about = "Open published experts: a checkpoint of the AdaMix reference code, or PEFT LoRA directories, as a run";
    let command = Command::new("import")
        .about(about)
        .long_about(format!(
            "{about}.\n\nThe settings name the base model (--model) and the data (--task and its files) that the experts were \
             trained for; the mixture is read off the files. Several PEFT directories become the experts of one mixture. \
             Pickles are read without running them."
        ))
        .args([
            args::paths("path", "PATH")
                .action(ArgAction::Append)
                .help("A file of torch.save, or PEFT directories"),
            args::switch("look").help("Only say what is in the files; needs no model and no data"),
        ]);
    args::with_settings(command)
}

pub(super) fn run(matches: &ArgMatches) -> Done {
    let found = import::look(&args::given_paths(matches, "path"))?;
    if matches.get_flag("look") {
        return Ok(print(&found, None, matches.get_flag("json"))?);
    }
    let config = usage(args::settings_and(matches, |config| config.mixture.kind = found.mixture.kind))?;
    let dir = facts::pool(config.model.threads, 0)?.install(|| import::open_as_run(&config, &found))?;
    Ok(print(&found, Some(dir.path()), matches.get_flag("json"))?)
}

fn print(found: &import::Imported, run: Option<&Path>, as_json: bool) -> Result<()> {
    let values: usize = found.tensors.iter().map(|tensor| tensor.data.len()).sum();
    if as_json {
        return out::json(&json!({
            "source": found.source,
            "model_type": found.model_type,
            "base_model": found.base_model,
            "mixture": found.mixture,
            "tensors": found.tensors.iter().map(|t| json!({ "name": t.name, "shape": t.shape })).collect::<Vec<_>>(),
            "notes": found.notes,
            "run": run,
        }));
    }
    let mixture = &found.mixture;
    let shared = match (mixture.sharing_down, mixture.sharing_up) {
        (true, _) => ", one down-projection for all",
        (_, true) => ", one up-projection for all",
        _ => "",
    };
    let of = found.model_type.as_deref().or(found.base_model.as_deref()).unwrap_or("a model it does not name");
    out::line(&format!(
        "{}: {} experts of rank {}{shared}, {} tensors with {} values, for {of}",
        found.source,
        mixture.num_experts,
        mixture.rank(),
        found.tensors.len(),
        format::count(values),
    ))?;
    found.notes.iter().try_for_each(|note| out::line(&format!("    {note}")))?;
    run.map_or(Ok(()), |run| out::line(&run.display().to_string()))
}
