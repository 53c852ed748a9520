//! What was done in this window, in order, as commands: a shell script that does it again.

use super::commands;
use crate::config::{LawChange, RunConfig, belonging};
use crate::format;
use crate::protocol::{Checkpoint, ExportPlan, ModelQuery, PlayPlan, RequestId, Subject, WeightsOf, Writer};
use std::path::{Path, PathBuf};

/// The variable of the script that names the directory of its runs.
const RUNS: &str = "\"$runs\"";
/// Commands kept.
const MOST: usize = 2000;

/// What was done: comments and commands.
#[derive(Debug, Default)]
pub struct Sitting {
    deeds: Vec<Deed>,
    /// Asked for, and not answered yet.
    pending: Vec<(RequestId, Deed)>,
    /// The directories of the runs that were trained here.
    made: Vec<PathBuf>,
    /// The run that is being resumed.
    resuming: Option<PathBuf>,
    /// Exports into directories of their own.
    exports: usize,
}

#[derive(Clone, Debug)]
struct Deed {
    comment: String,
    commands: Vec<String>,
    /// Whether it failed here, and may fail again.
    failed: bool,
}

impl Deed {
    fn new(comment: impl Into<String>, commands: Vec<String>) -> Self {
        Self { comment: comment.into(), commands, failed: false }
    }
}

impl Sitting {
    /// Whether nothing was done yet.
    pub fn is_empty(&self) -> bool {
        self.deeds.is_empty()
    }

    /// A run in the script: below its own directory of runs where it was trained here.
    fn place(&self, dir: &Path) -> String {
        match dir.file_name() {
            Some(name) if self.made.iter().any(|made| made == dir) => {
                format!("{RUNS}/{}", commands::quoted(&name.to_string_lossy()))
            }
            _ => commands::path(dir),
        }
    }

    /// This run is going to be resumed.
    pub fn resumes(&mut self, dir: PathBuf) {
        self.resuming = Some(dir);
    }

    /// A run has begun to train.
    pub fn run_started(&mut self, dir: &Path, config: &RunConfig) {
        if self.resuming.take().is_some_and(|resumed| resumed == dir) {
            let command = commands::resume(&self.place(dir));
            return self.push(Deed::new("Resumed", vec![command]));
        }
        // Runs of earlier versions may have settings that do not count, which the command refuses.
        let mut settings = belonging::without_foreign(config).unwrap_or_else(|_| config.clone());
        settings.runs_dir.clear();
        settings.name.clear();
        let name = commands::quoted(&config.name);
        let command = format!("{} --runs-dir {RUNS} --name {name}", commands::train(&settings));
        self.made.push(dir.to_owned());
        self.push(Deed::new("Trained", vec![command]));
    }

    /// The run that was trained last has ended.
    pub fn run_ended(&mut self, how: &str, failed: bool) {
        let training = |deed: &&mut Deed| deed.comment == "Trained" || deed.comment == "Resumed";
        if let Some(deed) = self.deeds.iter_mut().rev().find(training) {
            deed.comment.push_str(&format!(": {how}"));
            if how.starts_with("stopped at") {
                deed.comment.push_str("; the command goes on to the end");
            }
            deed.failed = failed;
        }
    }

    /// The law of the run in training was changed here.
    pub fn law_changed(&mut self, change: &LawChange) {
        let training = |deed: &&mut Deed| deed.comment == "Trained";
        let command = self.deeds.iter_mut().rev().find(training).and_then(|deed| deed.commands.last_mut());
        if let Some(command) = command {
            command.push_str(&format!(" --law-at {change}"));
        }
    }

    /// A query about the weights of a run was sent.
    pub fn asked(&mut self, req: RequestId, subject: &Subject, query: &ModelQuery, run: &RunNow) {
        let mut query = query.clone();
        let mut comment = match &query {
            // Looking is not doing.
            ModelQuery::Inspect { .. } | ModelQuery::Try(_) | ModelQuery::TryWords(_) | ModelQuery::Reweigh(_) => {
                return;
            }
            ModelQuery::Compare { .. } => "Compared merged and unmerged",
            ModelQuery::Merge(_) => "Scored a merge",
            ModelQuery::Export(_) => "Exported",
            ModelQuery::Write { .. } => "Wrote and scored texts",
            ModelQuery::Study(_) => "Studied the experts",
        }
        .to_owned();
        let of_step = matches!(&query, ModelQuery::Study(study) if study.of_step().is_some());
        let (which, note) = run.which(subject);
        if of_step {
            comment = "Looked into a step".to_owned();
        } else {
            comment.push_str(&note);
        }
        let mut output = None;
        if let ModelQuery::Export(ExportPlan { dir, .. }) = &mut query
            && let Some(parent) = dir.take()
        {
            self.exports += 1;
            comment.push_str(&format!(" (into {})", parent.display()));
            output = Some(format!(" --output {RUNS}/exports-{}", self.exports));
        }
        let place = self.place(&run.dir);
        let at = if of_step { place } else { commands::at(&place, which) };
        if let Some(command) = commands::query(&at, &query, &run.config) {
            let command = command + output.as_deref().unwrap_or_default();
            self.pending.push((req, Deed::new(comment, vec![command])));
        }
    }

    /// A prompt was sent.
    pub fn played(&mut self, req: RequestId, writer: &Writer, plan: &PlayPlan, run: Option<&RunNow>) {
        let mut comment = "Answered a prompt".to_owned();
        let commands = match (writer, run) {
            (Writer::Model(model), _) => commands::play_model(model, plan),
            (Writer::Run(subject), Some(run)) => {
                let (which, note) = run.which(subject);
                comment.push_str(&note);
                commands::play_run(&commands::at(&self.place(&run.dir), which), plan)
            }
            (Writer::Run(_), None) => None,
        };
        self.pending.extend(commands.map(|commands| (req, Deed::new(comment, commands))));
    }

    /// Something with one command was sent.
    pub fn sent(&mut self, req: RequestId, comment: &str, command: String) {
        self.pending.push((req, Deed::new(comment, vec![command])));
    }

    /// A request was answered.
    pub fn done(&mut self, req: RequestId) {
        if let Some(at) = self.pending.iter().position(|(pending, _)| *pending == req) {
            let (_, deed) = self.pending.remove(at);
            self.push(deed);
        }
    }

    /// A request failed or was cancelled: it is no part of what was done.
    pub fn failed(&mut self, req: RequestId) {
        self.pending.retain(|(pending, _)| *pending != req);
    }

    fn push(&mut self, deed: Deed) {
        self.deeds.push(deed);
        if self.deeds.len() > MOST {
            self.deeds.remove(0);
        }
    }

    /// The script.
    pub fn script(&self, unix: u64) -> String {
        let mut text = format!(
            "#!/bin/sh\n\
             # What was done in the AdaMix workbench until {}, as commands, in order.\n\
             # Its runs are written below the directory that is given as the first argument.\n\
             set -eu\n\
             runs=${{1:-adamix-sitting}}\n\
             if [ -e \"$runs\" ]; then echo \"$runs exists already; name another directory\" >&2; exit 1; fi\n\
             mkdir -p \"$runs\"\n",
            format::date_time(unix)
        );
        for deed in &self.deeds {
            text.push_str(&format!("\n# {}\n", deed.comment.replace(['\n', '\r'], " ")));
            for command in &deed.commands {
                let may_fail = if deed.failed { " || true" } else { "" };
                text.push_str(&format!("{command}{may_fail}\n"));
            }
        }
        text
    }
}

/// What is known of the run that a query is about.
#[derive(Clone, Debug)]
pub struct RunNow {
    /// Its directory.
    pub dir: PathBuf,
    /// Its settings.
    pub config: RunConfig,
    /// The weights that were chosen.
    pub weights: Option<WeightsOf>,
}

impl RunNow {
    /// The checkpoint that a command takes, and a remark where it is not of the same weights.
    fn which(&self, subject: &Subject) -> (Checkpoint, String) {
        match (subject, self.weights) {
            (Subject::Saved { checkpoint, .. }, _) => (*checkpoint, String::new()),
            (Subject::Live, Some(WeightsOf { step, checkpoint: None })) => {
                let words = "those weights are in no checkpoint, the command takes the best one";
                (Checkpoint::Best, format!(" while training, at step {step}: {words}"))
            }
            (Subject::Live, weights) => (weights.and_then(|w| w.checkpoint).unwrap_or(Checkpoint::Best), String::new()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_of_this_sitting_is_named_by_the_script_s_directory_and_others_by_their_path() {
        let mut sitting = Sitting::default();
        let config = RunConfig { name: "my run".to_owned(), runs_dir: "/data/runs".to_owned(), ..RunConfig::default() };
        let (mine, other) = (Path::new("/data/runs/my run"), Path::new("/data/runs/other"));
        sitting.run_started(mine, &config);
        sitting.run_ended("finished after 6 steps", false);
        let compare = ModelQuery::Compare { random_routes: 3 };
        let at = |dir: &Path| RunNow { dir: dir.to_owned(), config: config.clone(), weights: None };
        sitting.asked(RequestId(1), &Subject::Live, &compare, &at(mine));
        let saved = Subject::Saved { dir: other.to_owned(), checkpoint: Checkpoint::Best };
        sitting.asked(RequestId(2), &saved, &compare, &at(other));
        sitting.asked(RequestId(3), &Subject::Live, &compare, &at(mine));
        sitting.done(RequestId(2));
        sitting.done(RequestId(1));
        sitting.failed(RequestId(3));
        let script = sitting.script(0);
        let commands: Vec<&str> = script.lines().filter(|line| line.starts_with("adamix")).collect();
        let want =
            ["adamix eval /data/runs/other --random-routes 3", "adamix eval \"$runs\"/'my run' --random-routes 3"];
        assert_eq!(commands.len(), 3, "{script}");
        assert!(
            commands[0].starts_with("adamix train") && commands[0].ends_with("--runs-dir \"$runs\" --name 'my run'")
        );
        assert_eq!(commands[1..], want, "{script}");
        assert!(script.contains("# Trained: finished after 6 steps\n"), "{script}");
    }

    #[test]
    fn a_resumed_run_is_resumed_and_a_failed_one_may_fail_again() {
        let mut sitting = Sitting::default();
        let dir = Path::new("/runs/a");
        sitting.resumes(dir.to_owned());
        sitting.run_started(dir, &RunConfig::default());
        sitting.run_ended("the loss was not finite", true);
        let script = sitting.script(0);
        assert!(script.ends_with("# Resumed: the loss was not finite\nadamix resume /runs/a || true\n"), "{script}");
    }
}
