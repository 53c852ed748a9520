//! The form: what is sent of it, what is kept aside, what is filled in.

use super::Session;
use crate::app::fields::in_fields;
use crate::config::fitting::{self, FittingFacts};
use crate::config::{RunConfig, Task, belonging, presets};

/// What is kept of the form beside its present values.
#[derive(Default)]
pub struct FormMemory {
    /// Data and text settings of the tasks that are not chosen, by task.
    aside: Vec<RunConfig>,
    /// What was filled in last; a field with another value was set by hand. Absent: nothing is filled in, since all of it was
    /// chosen at once (a preset, a run file).
    pub suggested: Option<RunConfig>,
    /// A training file that was just chosen: its columns are to be guessed.
    pub new_file: Option<String>,
    /// What is sent, and for which form.
    sent: std::cell::RefCell<Option<(RunConfig, RunConfig)>>,
}

impl FormMemory {
    /// A form into which this was filled.
    pub fn new(suggested: Option<RunConfig>) -> Self {
        Self { suggested, ..Self::default() }
    }
}

impl Session {
    /// The settings that a run gets: those of the form that count for its task, method and mixture.
    pub fn run_config(&self) -> RunConfig {
        let mut sent = self.memory.sent.borrow_mut();
        match &*sent {
            Some((form, config)) if *form == self.form => config.clone(),
            _ => {
                // Settings that cannot be written cannot be sent either; the check says so.
                let config = belonging::without_foreign(&self.form).unwrap_or_else(|_| self.form.clone());
                *sent = Some((self.form.clone(), config.clone()));
                config
            }
        }
    }

    /// Chooses a task in `form`. Files, columns and texts of the old one are kept aside and come back with it.
    pub fn switch_task(&mut self, form: &mut RunConfig, task: Task) {
        let old = form.data.task;
        if old == task {
            return;
        }
        let aside = &mut self.memory.aside;
        aside.retain(|kept| kept.data.task != old);
        aside.push(RunConfig { data: form.data.clone(), text: form.text.clone(), ..RunConfig::default() });
        let kept = aside.iter().find(|kept| kept.data.task == task).cloned().unwrap_or_default();
        let max_length = form.data.max_length;
        (form.data, form.text) = (kept.data, kept.text);
        (form.data.task, form.data.max_length) = (task, max_length);
    }

    /// Another task by hand: what does not fit it is filled in anew.
    pub fn choose_task(&mut self, task: Task, now: f64) {
        let mut form = self.form.clone();
        self.switch_task(&mut form, task);
        if self.memory.suggested.is_none() {
            self.memory.suggested = Some(self.form.clone());
        }
        self.edit_form(form, now);
        // Data of the old task say nothing.
        self.refit(&FittingFacts { train_rows: 0, usual_length: 0, ..self.fitting_facts() });
    }

    /// All settings of a known run; model and data of its task stay.
    pub fn apply_preset(&mut self, name: &str, now: f64) {
        let Some(preset) = presets::by_name(name) else { return };
        let mut form = self.form.clone();
        self.switch_task(&mut form, preset.task);
        preset.apply(&mut form);
        // A lab goes on to fit whatever model and data come after it.
        self.memory.suggested = preset.bundled.map(|_| form.clone());
        self.edit_form(form, now);
    }

    /// All settings at once, from a run or a file: nothing is filled in any more.
    pub fn replace_form(&mut self, form: RunConfig, now: f64) {
        self.memory.suggested = None;
        self.edit_form(form, now);
    }

    /// Fills in everything that fits model and data, whatever was there.
    pub fn fit_form(&mut self, now: f64) {
        let form = fitting::fitting(&self.form, &self.fitting_facts());
        self.memory.suggested = Some(form.clone());
        self.edit_form(RunConfig { train: with_seed(&form, &self.form), ..form }, now);
    }

    /// Fills in what fits, in the fields that were not set by hand.
    pub fn refit(&mut self, facts: &FittingFacts) {
        let Some(before) = &self.memory.suggested else { return };
        let now = fitting::fitting(&self.form, facts);
        if let Ok(form) = fitting::refitted(&self.form, before, &now)
            && form != self.form
        {
            // Undone together with the change that caused it.
            self.form = form;
            self.form_version += 1;
        }
        self.memory.suggested = Some(now);
    }

    /// What is known of the form's model and data, as far as they were read.
    pub fn fitting_facts(&self) -> FittingFacts {
        let mut facts = FittingFacts::default();
        if let (Some(info), None) = (&self.model.value, &self.model.error)
            && info.path == self.form.model.path
        {
            (facts.parameters, facts.longest_input) = (info.parameters, info.max_length);
        }
        let writes = self.form.data.task == Task::Text;
        match (&self.data.value, &self.texts.value) {
            (Some(data), _) if !writes && self.data.error.is_none() && !self.data.is_pending() => {
                facts.train_rows = data.train.rows;
                facts.usual_length = data.train.lengths.as_ref().map_or(0, |lengths| lengths.p95);
            }
            (_, Some(texts)) if writes && self.texts.error.is_none() && !self.texts.is_pending() => {
                (facts.train_rows, facts.usual_length) = (texts.train.examples, texts.train.lengths.p95);
            }
            _ => {}
        }
        facts
    }

    /// Fills in the columns of the training file from what is in them. Those of the form stay where they exist, unless the file
    /// was just chosen.
    pub fn guess_columns(&mut self) {
        let Some(found) = &self.columns.value else { return };
        let (mut form, data) = (self.form.clone(), &self.form.data);
        let is_new = self.memory.new_file.take_if(|file| *file == data.train_file).is_some();
        let kept = |name: &String| !is_new && (found.names.contains(name) || name.parse::<usize>().is_ok());
        if !kept(&data.text_column) {
            form.data.text_column = found.text.clone().unwrap_or_default();
        }
        if !kept(&data.label_column) {
            form.data.label_column = found.label.clone().unwrap_or_default();
        }
        if !kept(&data.text_pair_column) && (is_new || !data.text_pair_column.is_empty()) {
            form.data.text_pair_column = found.pair.clone().unwrap_or_default();
        }
        if is_new {
            (form.data.header, form.data.problem) = (found.header, found.problem);
            form.data.labels.clear();
        }
        if form != self.form {
            self.form = form;
            self.form_version += 1;
        }
    }

    /// Every reason why a run cannot start now; empty: it can. A plan that is not that of the form is one.
    pub fn start_problems(&self) -> Vec<String> {
        let mut found = self.form_problems();
        if found.is_empty() {
            found.extend(self.unchecked().map(str::to_owned));
        }
        found
    }

    /// The same without what is still being read or checked.
    pub fn form_problems(&self) -> Vec<String> {
        let mut found = self.settings_problems();
        if self.phase.is_active() || self.is_starting() {
            let place = usize::from(self.engine_problem().is_some());
            found.insert(place, "a run is in training; stop it first".to_owned());
        }
        found
    }

    /// Every reason why the settings of the form cannot wait in the queue; empty: they can.
    pub fn queue_problems(&self) -> Vec<String> {
        let mut found = self.settings_problems();
        if self.branches_from().is_some() {
            found.push("a run that goes on from another one cannot wait; start it".to_owned());
        }
        if found.is_empty() {
            found.extend(self.unread().map(str::to_owned));
        }
        found
    }

    /// Every reason why the settings of the form cannot be trained with.
    fn settings_problems(&self) -> Vec<String> {
        let mut found: Vec<String> = self.engine_problem().into_iter().collect();
        found.extend(self.run_config().problems().iter().map(|problem| in_fields(problem)));
        found.extend(self.branch_problem());
        if self.preflight_version == self.form_version
            && let Some(report) = &self.preflight.value
            && !self.preflight.is_pending()
        {
            for problem in &report.problems {
                if !found.contains(problem) {
                    found.push(problem.clone());
                }
            }
        }
        found
    }

    /// What of the form is still being read, and may be filled in.
    pub fn unread(&self) -> Option<&'static str> {
        if self.model.is_pending() {
            Some("the model is being read")
        } else if self.columns.is_pending() || self.data.is_pending() || self.texts.is_pending() {
            Some("the data are being read")
        } else {
            None
        }
    }

    /// What of the form is still being read or checked; absent: the plan is that of this form.
    pub fn unchecked(&self) -> Option<&'static str> {
        let checked = !self.preflight.is_pending() && self.preflight_version == self.form_version;
        self.unread().or((!checked).then_some("the plan is being checked"))
    }
}

/// Training settings with the seed that was there.
fn with_seed(fit: &RunConfig, old: &RunConfig) -> crate::config::TrainConfig {
    crate::config::TrainConfig { seed: old.train.seed, ..fit.train.clone() }
}
