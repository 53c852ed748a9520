//! How a chosen or dropped path changes the form. No file is opened here.

use crate::app::files::Purpose;
use crate::config::{RunConfig, Task};
use std::path::Path;

/// What a dropped path is, by its ending; `None`: a directory, and the user chooses.
pub fn purpose_of(path: &Path) -> Option<Purpose> {
    match path.extension()?.to_str()?.to_lowercase().as_str() {
        "toml" => Some(Purpose::OpenSettings),
        "capsule" => Some(Purpose::Capsule),
        "tsv" | "tab" | "csv" | "jsonl" | "ndjson" | "json" | "parquet" | "arrow" | "feather" | "xlsx" | "xls"
        | "ods" | "gz" | "zst" => Some(Purpose::TrainFile),
        _ => None,
    }
}

/// The task that a path belongs to: the form's own, unless that one has no such path.
pub fn task_for(form: &RunConfig, purpose: Purpose, path: &Path) -> Task {
    let own = form.data.task;
    match purpose {
        Purpose::DataDir => task_by_directory(path).unwrap_or(own),
        Purpose::TrainFile if !matches!(own, Task::Custom | Task::Text) => Task::Custom,
        Purpose::DevFile if own == Task::Lab => Task::Custom,
        _ => own,
    }
}

/// Puts a path into the form.
pub fn use_path(form: &mut RunConfig, purpose: Purpose, path: &Path) {
    let text = path.to_string_lossy().into_owned();
    match purpose {
        Purpose::Model => form.model.path = text,
        Purpose::RunsDir => form.runs_dir = text,
        Purpose::DevFile => form.data.dev_file = text,
        Purpose::DataDir => form.data.path = text,
        Purpose::TrainFile => form.data.train_file = text,
        Purpose::Run | Purpose::Capsule | Purpose::ExportDir | Purpose::OpenSettings => {}
        Purpose::SaveSettings | Purpose::SaveScript => {}
        Purpose::SavePng | Purpose::SaveSvg | Purpose::SaveCsv | Purpose::SaveReport => {}
    }
}

/// The known task that a directory in GLUE layout is named after.
fn task_by_directory(path: &Path) -> Option<Task> {
    let name = path.file_name()?.to_str()?.to_lowercase().replace(['-', '_'], "");
    let task = serde_json::from_value(name.into()).ok()?;
    (!matches!(task, Task::Lab | Task::Custom | Task::Text)).then_some(task)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_path_is_judged_by_its_name() {
        assert_eq!(purpose_of(Path::new("/a/run.toml")), Some(Purpose::OpenSettings));
        assert_eq!(purpose_of(Path::new("/a/Train.TSV")), Some(Purpose::TrainFile));
        assert_eq!(purpose_of(Path::new("/a/train.parquet")), Some(Purpose::TrainFile));
        assert_eq!(purpose_of(Path::new("/a/train.csv.gz")), Some(Purpose::TrainFile));
        assert_eq!(purpose_of(Path::new("/a/roberta-base")), None);
    }

    #[test]
    fn a_path_chooses_the_task_it_belongs_to() {
        let mut form = RunConfig::default();
        assert_eq!(task_for(&form, Purpose::DataDir, Path::new("/glue/SST-2")), Task::Sst2);
        assert_eq!(task_for(&form, Purpose::DataDir, Path::new("/my/texts")), Task::Lab);
        form.data.task = Task::Sst2;
        let table = Path::new("/x/train.csv");
        assert_eq!(task_for(&form, Purpose::TrainFile, table), Task::Custom, "a known task has its own training file");
        assert_eq!(task_for(&form, Purpose::DevFile, table), Task::Sst2);
        form.data.task = Task::Text;
        assert_eq!(task_for(&form, Purpose::TrainFile, table), Task::Text);
    }
}
