//! The run whose settings are in the form, and whether the next run goes on from one of its checkpoints.

use super::Session;
use crate::app::fields::in_fields;
use crate::config::{RunConfig, branching};
use crate::protocol::{Checkpoint, Command, RunId, RunLabel};
use std::path::PathBuf;

/// The run whose settings the form began with.
#[derive(Clone, Debug, PartialEq)]
pub struct MadeFrom {
    /// Its directory.
    pub dir: PathBuf,
    /// Its settings, as they were read.
    pub config: RunConfig,
    /// The checkpoint that the next run goes on from; absent: it begins anew.
    pub branch: Option<Checkpoint>,
}

impl MadeFrom {
    /// Name of its directory.
    pub fn name(&self) -> String {
        self.dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }
}

impl Session {
    /// The run and the checkpoint that the next run goes on from.
    pub fn branches_from(&self) -> Option<(&MadeFrom, Checkpoint)> {
        let from = self.form_from.as_ref()?;
        Some((from, from.branch?))
    }

    /// Why the form's settings cannot go on from there, in the words of the form; nothing where they can, or begin anew.
    pub(super) fn branch_problem(&self) -> Option<String> {
        let (from, _) = self.branches_from()?;
        let checked = branching::changes(&self.run_config(), &from.config)
            .and_then(|changes| branching::check(&changes, &self.form, &from.config, 0));
        checked.err().map(|err| in_fields(&err.to_string()))
    }

    /// The command of Start; what the new run's label says is noted until it has a directory.
    pub fn start_command(&mut self, run: RunId) -> Command {
        let config = Box::new(self.run_config());
        match self.branches_from() {
            Some((from, checkpoint)) => {
                let parent = from.dir.clone();
                // The new directory gets its label from the engine; the next start begins anew unless it is said again.
                self.form_from.iter_mut().for_each(|from| from.branch = None);
                self.label_of_live = None;
                Command::BranchRun { run, parent, checkpoint, config }
            }
            None => {
                self.label_of_live = self.form_from.as_ref().map(|from| {
                    let changes = branching::changes(&config, &from.config).unwrap_or_default();
                    RunLabel { parent: from.name(), edge: branching::in_words(&changes), ..RunLabel::default() }
                });
                Command::StartRun { run, config }
            }
        }
    }
}
