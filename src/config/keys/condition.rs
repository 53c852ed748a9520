//! When a setting counts: what the task, the method, the mixture and other settings have to be.

use crate::config::{Method, MixtureKind, Problem, RoutingPolicy, RunConfig, Task, TextFormat, choice_name};

/// What has to hold for a setting to count.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Condition {
    /// One of these tasks.
    Task(&'static [Task]),
    /// Any task but these.
    NotTask(&'static [Task]),
    /// This is what is trained.
    Method(Method),
    /// Each expert is one of these.
    Kind(MixtureKind),
    /// This is how experts are chosen.
    Routing(RoutingPolicy),
    /// There is a second pass.
    Consistency,
    /// The texts stand in one of these formats.
    TextFormat(&'static [TextFormat]),
    /// Classes are predicted.
    Classes,
    /// There is no evaluation file.
    HeldOut,
}

/// Names joined as `a, b or c`.
fn any_of(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

fn names<T: Copy + serde::Serialize>(choices: &[T]) -> String {
    any_of(&choices.iter().map(|&choice| choice_name(choice)).collect::<Vec<_>>())
}

impl Condition {
    /// Whether it holds for these settings.
    pub fn holds(&self, run: &RunConfig) -> bool {
        match self {
            Self::Task(tasks) => tasks.contains(&run.data.task),
            Self::NotTask(tasks) => !tasks.contains(&run.data.task),
            Self::Method(method) => run.model.method == *method,
            Self::Kind(kind) => run.mixture.kind == *kind,
            Self::Routing(routing) => run.mixture.routing == *routing,
            Self::Consistency => run.mixture.consistency,
            Self::TextFormat(formats) => formats.contains(&run.text.format),
            Self::Classes => run.data.problem == Problem::Classification,
            Self::HeldOut => run.data.dev_file.is_empty(),
        }
    }

    /// What it asks for, in words.
    pub fn needs(&self) -> String {
        match self {
            Self::Task(tasks) => format!("task {}", names(tasks)),
            Self::NotTask(tasks) => format!("a task other than {}", names(tasks)),
            Self::Method(method) => format!("method {}", choice_name(method)),
            Self::Kind(kind) => format!("kind {}", choice_name(kind)),
            Self::Routing(routing) => format!("routing {}", choice_name(routing)),
            Self::Consistency => "consistency true".to_owned(),
            Self::TextFormat(formats) => format!("text_format {}", names(formats)),
            Self::Classes => "problem classification".to_owned(),
            Self::HeldOut => "no dev_file".to_owned(),
        }
    }

    /// What these settings have instead.
    pub fn instead(&self, run: &RunConfig) -> String {
        match self {
            Self::Task(_) | Self::NotTask(_) => format!("task {}", choice_name(run.data.task)),
            Self::Method(_) => format!("method {}", choice_name(run.model.method)),
            Self::Kind(_) => format!("kind {}", choice_name(run.mixture.kind)),
            Self::Routing(_) => format!("routing {}", choice_name(run.mixture.routing)),
            Self::Consistency => "consistency false".to_owned(),
            Self::TextFormat(_) => format!("text_format {}", choice_name(run.text.format)),
            Self::Classes => format!("problem {}", choice_name(run.data.problem)),
            Self::HeldOut => "a run with dev_file".to_owned(),
        }
    }
}
