//! The same as a command: what each action of the window is on the command line.
//!
//! A run is named by a word that is quoted already, so that a script can put a variable in its place.

use crate::app::{studies, try_flags};
pub use crate::config::command_line::quoted;
use crate::config::command_line::{command_line, with_settings};
use crate::config::{RunConfig, branching, keys};
use crate::protocol::{Checkpoint, ExportPlan, MergePlan, ModelQuery, Pane, PlayPlan, TryPlan};
use std::path::Path;

/// A path quoted for a shell.
pub fn path(path: &Path) -> String {
    quoted(&path.display().to_string())
}

/// The words that name a run and one of its checkpoints; the best one is what every command takes by itself.
pub fn at(run: &str, which: Checkpoint) -> String {
    match which {
        Checkpoint::Best => run.to_owned(),
        other => format!("{run} --checkpoint {other}"),
    }
}

/// The command that does the same as Start with these settings.
pub fn train(form: &RunConfig) -> String {
    command_line(form)
}

/// The command that puts these settings into the queue.
pub fn add_to_queue(form: &RunConfig) -> String {
    with_settings("adamix queue add", form)
}

/// The command that goes on with a run.
pub fn resume(run: &str) -> String {
    format!("adamix resume {run}")
}

/// The command that trains a new run from a checkpoint of another one, whose settings are `parent`, with those of `form`.
pub fn branch(run: &str, checkpoint: Checkpoint, parent: &RunConfig, form: &RunConfig) -> String {
    let mut command = format!("adamix branch {run}");
    if checkpoint != Checkpoint::Best {
        command.push_str(&format!(" --checkpoint {checkpoint}"));
    }
    if !form.name.is_empty() {
        command.push_str(&format!(" --name {}", quoted(&form.name)));
    }
    for change in branching::changes(form, parent).unwrap_or_default() {
        let flag = keys::help(change.path).map_or(change.path, |key| key.flag);
        command.push_str(&format!(" --{flag} {}", quoted(&change.now)));
    }
    command
}

/// The command that writes a run into one file.
pub fn capsule(run: &str) -> String {
    format!("adamix capsule {run}")
}

/// The command that asks the same of the weights that [`at`] names; nothing for what only the window shows.
pub fn query(at: &str, query: &ModelQuery, config: &RunConfig) -> Option<String> {
    Some(match query {
        ModelQuery::Compare { random_routes } => format!("adamix eval {at} --random-routes {random_routes}"),
        ModelQuery::Merge(plan) => format!("adamix merge {at}{}", weights(plan, config)),
        ModelQuery::Export(plan) => export(at, plan, config),
        ModelQuery::Write { inputs } => format!("adamix eval {at} --generate {inputs}"),
        ModelQuery::Study(study) => return studies::command(at, study, &|plan| weights(plan, config)),
        ModelQuery::Inspect { .. } => format!("adamix inspect {at}"),
        ModelQuery::Try(TryPlan { input: of, routes, seed }) => {
            format!("adamix try {at}{} --random-routes {routes} --seed {seed}", try_flags::input(of))
        }
        ModelQuery::TryWords(of) => format!("adamix try {at}{} --random-routes 0 --words", try_flags::input(of)),
        // On all rows: commands keep nothing between two answers.
        ModelQuery::Reweigh(plan) => format!("adamix merge {at}{}", weights(&plan.merge, config)),
    })
}

/// The command that writes the same files.
pub fn export(at: &str, plan: &ExportPlan, config: &RunConfig) -> String {
    let targets: Vec<&str> = plan.targets.iter().map(|target| target.as_str()).collect();
    let mut text = format!("adamix export {at} --target {} --dtype {}", targets.join(","), plan.dtype.as_str());
    text.push_str(&weights(&plan.merge, config));
    if let Some(dir) = &plan.dir {
        text.push_str(&format!(" --output {}", path(dir)));
    }
    text
}

/// The run's own merge is the default of the commands; the uniform mean is written out where it is not.
fn weights(plan: &MergePlan, config: &RunConfig) -> String {
    let lists = match plan {
        own if *own == MergePlan::own(&config.mixture) => return String::new(),
        MergePlan::Uniform => vec![vec![1.0; config.mixture.num_experts]],
        MergePlan::Global(weights) => vec![weights.clone()],
        MergePlan::PerSite(lists) => lists.clone(),
        other => return format!(" --method {other}"),
    };
    let list = |weights: &Vec<f32>| weights.iter().map(f32::to_string).collect::<Vec<_>>().join(",");
    format!(" --weights {}", lists.iter().map(list).collect::<Vec<_>>().join("/"))
}

/// The command that lets a model without a mixture write the same answer; nothing where no command can.
pub fn play_model(model: &str, plan: &PlayPlan) -> Option<Vec<String>> {
    Some(vec![format!("adamix generate --model {}{}", quoted(model), prompt(plan)?)])
}

/// The commands that write the same answers with the weights that [`at`] names, one for each pane; nothing where none can.
pub fn play_run(at: &str, plan: &PlayPlan) -> Option<Vec<String>> {
    let rest = prompt(plan)?;
    let route = |pane: &Pane| match pane {
        Pane::Base => "base".to_owned(),
        Pane::Merged => "merged".to_owned(),
        Pane::Expert(expert) => format!("expert:{expert}"),
        Pane::Route(_) => "random".to_owned(),
        Pane::Ensemble(routes) => format!("ensemble:{routes}"),
    };
    Some(plan.panes.iter().map(|pane| format!("adamix generate --run {at} --route {}{rest}", route(pane))).collect())
}

/// The flags of a prompt and of the sampler. A command has one turn, and begins the answer itself.
fn prompt(plan: &PlayPlan) -> Option<String> {
    if !plan.earlier.is_empty() || !plan.prefix.is_empty() {
        return None;
    }
    let sampler = &plan.sampler;
    let mut rest = format!(" --prompt {}", quoted(&plan.prompt));
    if plan.chat {
        rest.push_str(" --chat");
        if !plan.system.is_empty() {
            rest.push_str(&format!(" --system {}", quoted(&plan.system)));
        }
    }
    rest.push_str(&format!(" --max-new-tokens {}", sampler.max_new_tokens));
    if sampler.temperature > 0.0 {
        rest.push_str(&format!(" --temperature {} --seed {}", sampler.temperature, sampler.seed));
        if sampler.top_k > 0 {
            rest.push_str(&format!(" --top-k {}", sampler.top_k));
        }
        if sampler.top_p < 1.0 {
            rest.push_str(&format!(" --top-p {}", sampler.top_p));
        }
    }
    if sampler.repetition_penalty != 1.0 {
        rest.push_str(&format!(" --repetition-penalty {}", sampler.repetition_penalty));
    }
    Some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{CausesPlan, ExportTarget, NumberFormat, PlanePlan, Split, Study, TryInput, WorthPlan};

    #[test]
    fn the_queue_takes_what_training_takes() {
        let mut form = RunConfig::default();
        crate::config::presets::lab().apply(&mut form);
        form.train.seed = 7;
        assert_eq!(train(&form), "adamix train --lab --seed 7");
        assert_eq!(add_to_queue(&form), "adamix queue add --lab --seed 7");
    }

    #[test]
    fn an_export_names_everything() {
        let mut config = RunConfig::default();
        let plan = ExportPlan {
            targets: vec![ExportTarget::Merged, ExportTarget::AdapterHub],
            dtype: NumberFormat::Bf16,
            merge: MergePlan::PerSite(vec![vec![0.5, 0.5], vec![1.0, 0.0]]),
            dir: Some("/tmp/out".into()),
        };
        assert_eq!(
            export(&path(Path::new("runs/my run")), &plan, &config),
            "adamix export 'runs/my run' --target merged,adapterhub --dtype bf16 --weights 0.5,0.5/1,0 --output /tmp/out"
        );
        // The run's own weights are left out of the command; the mean is spelled out.
        (config.mixture.num_experts, config.mixture.merge_weights) = (2, vec![vec![0.5, 0.5], vec![1.0, 0.0]]);
        let text = |merge: MergePlan| export("r", &ExportPlan { merge, ..plan.clone() }, &config);
        assert!(text(plan.merge.clone()).ends_with("--dtype bf16 --output /tmp/out"));
        assert!(text(MergePlan::Uniform).ends_with("--dtype bf16 --weights 1,1 --output /tmp/out"));
    }

    #[test]
    fn every_pane_has_its_command() {
        let mut plan = PlayPlan { prompt: "a b".to_owned(), ..PlayPlan::default() };
        plan.panes = vec![Pane::Merged, Pane::Expert(2)];
        plan.sampler.temperature = 0.5;
        let commands = play_run(&at("r", Checkpoint::Step(400)), &plan).unwrap();
        let rest = "--prompt 'a b' --max-new-tokens 64 --temperature 0.5 --seed 0";
        let want = ["merged", "expert:2"]
            .map(|route| format!("adamix generate --run r --checkpoint 400 --route {route} {rest}"));
        assert_eq!(commands, want);
        plan.prefix = vec![1];
        assert_eq!(play_run("r", &plan), None, "no command begins with a given answer");
    }

    #[test]
    fn a_query_names_its_weights_and_what_is_asked() {
        let of = at("r", Checkpoint::Last);
        let ask = |asked: ModelQuery| query(&of, &asked, &RunConfig::default()).unwrap();
        assert_eq!(ask(ModelQuery::Compare { random_routes: 3 }), "adamix eval r --checkpoint last --random-routes 3");
        let pair = TryInput::Text { text: "-so it's".to_owned(), pair: Some("b".to_owned()) };
        assert_eq!(
            ask(ModelQuery::Try(TryPlan { input: pair, routes: 4, seed: 7 })),
            "adamix try r --checkpoint last --text='-so it'\\''s' --text-pair=b --random-routes 4 --seed 7"
        );
        let row = TryInput::Row { split: Split::Training, row: 4 };
        assert_eq!(
            ask(ModelQuery::TryWords(row)),
            "adamix try r --checkpoint last --row 5 --split training --random-routes 0 --words"
        );
        let causes = CausesPlan { after: Some(20), probe_rows: 64 };
        assert_eq!(
            ask(ModelQuery::Study(Study::Causes(causes))),
            "adamix inspect r --checkpoint last --causes --after 20 --probe-rows 64"
        );
        assert_eq!(
            ask(ModelQuery::Study(Study::Plane(PlanePlan::of(4)))),
            "adamix inspect r --checkpoint last --plane=0,1,merged --grid 15 --probe-rows 128"
        );
        assert_eq!(
            ask(ModelQuery::Study(Study::Worth(WorthPlan { probe_rows: 64 }))),
            "adamix inspect r --checkpoint last --worth --probe-rows 64"
        );
    }
}
