//! The columns of the list of runs, their order and the search in it.

use crate::format;
use crate::protocol::{RunStatus, RunSummary};
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;

/// A column of the list of runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunColumn {
    /// Its name.
    Name,
    /// How it stands.
    Status,
    /// Best value of the deciding metric.
    Best,
    /// Name of the deciding metric.
    Metric,
    /// Steps done and planned.
    Steps,
    /// When it was started.
    Started,
    /// Training time.
    Time,
    /// Size on disk.
    Bytes,
    /// The model.
    Model,
    /// The task.
    Task,
    /// What was trained.
    Method,
    /// Words to find it by.
    Tags,
    /// The run that it was made from.
    Parent,
    /// What was changed from that run.
    Edge,
}

impl RunColumn {
    /// All, in the order of the list.
    pub const ALL: [Self; 14] = [
        Self::Name,
        Self::Status,
        Self::Best,
        Self::Metric,
        Self::Steps,
        Self::Started,
        Self::Time,
        Self::Bytes,
        Self::Model,
        Self::Task,
        Self::Method,
        Self::Tags,
        Self::Parent,
        Self::Edge,
    ];

    /// Those that are shown unless something else is chosen.
    pub fn usual() -> Vec<Self> {
        vec![Self::Name, Self::Status, Self::Best, Self::Steps, Self::Started]
    }

    /// Title and tooltip.
    pub fn describe(self) -> (&'static str, &'static str) {
        match self {
            Self::Name => ("Run", "Its name; a click chooses it, a double click opens it"),
            Self::Status => ("Status", "What its directory says"),
            Self::Best => ("Best", "Best value of the deciding metric, of the merged model on the evaluation rows"),
            Self::Metric => ("Metric", "The deciding metric"),
            Self::Steps => ("Steps", "Done and planned"),
            Self::Started => ("Started", "Month, day and local time"),
            Self::Time => ("Time", "Training time"),
            Self::Bytes => ("On disk", "Checkpoints and exports included"),
            Self::Model => ("Model", "The base model"),
            Self::Task => ("Task", "The data set"),
            Self::Method => ("Method", "What was trained"),
            Self::Tags => ("Tags", "Words to find it by"),
            Self::Parent => ("Made from", "The run whose settings it was started with, or from which it goes on"),
            Self::Edge => ("Changed", "What is other than in the run that it was made from"),
        }
    }

    /// Width in points; absent: what is left.
    pub fn width(self) -> Option<f32> {
        match self {
            Self::Name => None,
            Self::Status => Some(86.0),
            Self::Best | Self::Steps | Self::Time | Self::Bytes => Some(68.0),
            Self::Started => Some(80.0),
            Self::Metric | Self::Task | Self::Method => Some(76.0),
            Self::Model | Self::Tags | Self::Parent => Some(100.0),
            Self::Edge => Some(160.0),
        }
    }

    /// The words of a cell.
    pub fn text(self, run: &RunSummary) -> String {
        match self {
            Self::Name => run.title().to_owned(),
            Self::Status => status(run.status).to_owned(),
            Self::Best => run.best.map_or_else(|| "-".to_owned(), format::metric),
            Self::Metric => run.metric.clone(),
            Self::Steps => format!("{}/{}", run.step, run.total_steps),
            // The year is the same for nearly all.
            Self::Started => format::date_time(run.created).get(5..16).unwrap_or("-").to_owned(),
            Self::Time => format::duration(run.seconds),
            Self::Bytes => format::bytes(run.bytes),
            Self::Model => run.model.clone(),
            Self::Task => run.task.clone(),
            Self::Method => run.method.clone(),
            Self::Tags => run.label.tags.join(", "),
            Self::Parent => run.label.parent.clone(),
            Self::Edge => run.label.edge.clone(),
        }
    }

    /// Which of two runs stands first when the list is sorted by this column upwards.
    pub fn compare(self, a: &RunSummary, b: &RunSummary) -> Ordering {
        match self {
            Self::Best => a.best.unwrap_or(f64::NEG_INFINITY).total_cmp(&b.best.unwrap_or(f64::NEG_INFINITY)),
            Self::Steps => a.step.cmp(&b.step),
            Self::Started => a.created.cmp(&b.created),
            Self::Time => a.seconds.total_cmp(&b.seconds),
            Self::Bytes => a.bytes.cmp(&b.bytes),
            text => text.text(a).to_lowercase().cmp(&text.text(b).to_lowercase()),
        }
    }
}

/// A status in a word.
pub fn status(status: RunStatus) -> &'static str {
    match status {
        RunStatus::Running => "running",
        RunStatus::Finished => "finished",
        RunStatus::Stopped => "stopped",
        RunStatus::Interrupted => "interrupted",
        RunStatus::Diverged => "diverged",
        RunStatus::Damaged => "damaged",
    }
}

/// Whether every word of the search occurs in what is known of a run.
pub fn finds(search: &str, run: &RunSummary) -> bool {
    let known = [
        &run.name,
        &run.label.title,
        &run.label.notes,
        &run.label.parent,
        &run.label.edge,
        &run.model,
        &run.task,
        &run.method,
        &run.metric,
    ];
    let all = known.into_iter().chain(&run.label.tags).map(|text| text.to_lowercase());
    let all = all.chain([status(run.status).to_owned()]).collect::<Vec<_>>().join("\n");
    search.to_lowercase().split_whitespace().all(|word| all.contains(word))
}

/// The order of the list: indices into `runs` with how deep each stands. As a tree, a run stands below the one that it
/// was made from, where that is shown.
pub fn order(runs: &[RunSummary], search: &str, (by, downwards): (RunColumn, bool), tree: bool) -> Vec<(usize, usize)> {
    let mut found: Vec<usize> = (0..runs.len()).filter(|&i| finds(search, &runs[i])).collect();
    found.sort_by(|&a, &b| {
        let order = by.compare(&runs[a], &runs[b]);
        if downwards { order.reverse() } else { order }
    });
    if !tree {
        return found.into_iter().map(|i| (i, 0)).collect();
    }
    let parent = |i: usize| {
        let name = &runs[i].label.parent;
        found.iter().copied().find(|&other| other != i && !name.is_empty() && runs[other].name == *name)
    };
    let mut placed = vec![false; runs.len()];
    let mut list = Vec::new();
    // From the top downwards without recursion; a circle of parents has no top, so its runs follow at the end.
    let roots: Vec<usize> = found.iter().copied().filter(|&i| parent(i).is_none()).collect();
    let mut waiting: Vec<(usize, usize)> = roots.into_iter().rev().map(|i| (i, 0)).collect();
    while let Some((i, depth)) = waiting.pop() {
        if std::mem::replace(&mut placed[i], true) {
            continue;
        }
        list.push((i, depth));
        let children = found.iter().copied().filter(|&child| parent(child) == Some(i));
        waiting.extend(children.rev().map(|child| (child, depth + 1)));
    }
    list.extend(found.iter().copied().filter(|&i| !placed[i]).map(|i| (i, 0)));
    list
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::RunLabel;

    fn run(name: &str, parent: &str, best: f64) -> RunSummary {
        let label = RunLabel { parent: parent.to_owned(), ..RunLabel::default() };
        RunSummary { name: name.to_owned(), best: Some(best), label, ..RunSummary::default() }
    }

    #[test]
    fn sorted_searched_and_as_a_tree() {
        let mut runs = vec![run("a", "", 0.5), run("b", "a", 0.9), run("c", "b", 0.7), run("d", "", 0.6)];
        runs[3].label.tags = vec!["Final paper".to_owned()];
        let names = |list: Vec<(usize, usize)>| -> Vec<(String, usize)> {
            list.into_iter().map(|(i, depth)| (runs[i].name.clone(), depth)).collect()
        };
        let pairs = |list: &[(&str, usize)]| -> Vec<(String, usize)> {
            list.iter().map(|(name, depth)| ((*name).to_owned(), *depth)).collect()
        };
        let best = (RunColumn::Best, true);
        assert_eq!(names(order(&runs, "", best, false)), pairs(&[("b", 0), ("c", 0), ("d", 0), ("a", 0)]));
        assert_eq!(names(order(&runs, "", best, true)), pairs(&[("d", 0), ("a", 0), ("b", 1), ("c", 2)]));
        assert_eq!(names(order(&runs, "paper FINAL", best, true)), pairs(&[("d", 0)]));
        assert!(order(&runs, "nothing", best, true).is_empty());
    }

    #[test]
    fn a_circle_of_parents_loses_no_run() {
        let runs = [run("a", "b", 0.1), run("b", "a", 0.2), run("c", "c", 0.3)];
        let mut shown: Vec<usize> = order(&runs, "", (RunColumn::Name, false), true).into_iter().map(|p| p.0).collect();
        shown.sort_unstable();
        assert_eq!(shown, [0, 1, 2]);
    }
}
