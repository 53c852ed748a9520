//! How a chosen or dropped path changes the form. No file is opened here.

use crate::app::files::Purpose;
use crate::config::{FileFormat, RunConfig, Task};
use std::path::Path;

/// Usual names of columns, the likeliest first.
const TEXT_COLUMNS: &str = "sentence text sentence1 premise question1 question review comment body content title";
const PAIR_COLUMNS: &str = "sentence2 text_pair hypothesis question2 pair";
const LABEL_COLUMNS: &str = "label labels class category target score sentiment stars rating gold_label y";

/// What a dropped path is, by its ending; `None`: a directory, and the user chooses.
pub fn purpose_of(path: &Path) -> Option<Purpose> {
    match path.extension()?.to_str()?.to_lowercase().as_str() {
        "toml" => Some(Purpose::OpenSettings),
        "tsv" | "csv" | "jsonl" | "ndjson" => Some(Purpose::TrainFile),
        _ => None,
    }
}

/// Puts a path into the form.
pub fn use_path(form: &mut RunConfig, purpose: Purpose, path: &Path) {
    let text = path.to_string_lossy().into_owned();
    match purpose {
        Purpose::Model => form.model.path = text,
        Purpose::RunsDir => form.runs_dir = text,
        Purpose::DevFile => form.data.dev_file = text,
        Purpose::DataDir => {
            if let Some(task) = task_by_directory(path) {
                form.data.task = task;
            }
            form.data.path = text;
        }
        Purpose::TrainFile => {
            if form.data.task == Task::Lab {
                form.data.task = Task::Custom;
            }
            form.data.train_file = text;
        }
        Purpose::Run | Purpose::ExportDir | Purpose::OpenSettings | Purpose::SaveSettings => {}
    }
}

/// The known task that a directory in GLUE layout is named after.
fn task_by_directory(path: &Path) -> Option<Task> {
    let name = path.file_name()?.to_str()?.to_lowercase().replace(['-', '_'], "");
    let task = serde_json::from_value(name.into()).ok()?;
    (!matches!(task, Task::Lab | Task::Custom | Task::Text)).then_some(task)
}

/// The column names in the beginning of a table: its first line, or the keys of its first JSON object.
pub fn columns(path: &Path, format: FileFormat, head: &str) -> Vec<String> {
    let ending = path.extension().and_then(|ending| ending.to_str()).map(str::to_lowercase).unwrap_or_default();
    let first = head.trim_start_matches('\u{feff}').lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let auto = format == FileFormat::Auto;
    if format == FileFormat::Jsonl || auto && matches!(ending.as_str(), "jsonl" | "ndjson") {
        let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(first).unwrap_or_default();
        return object.keys().cloned().collect();
    }
    if format == FileFormat::Csv || auto && ending == "csv" {
        let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(first.as_bytes());
        let row = reader.records().flatten().next().unwrap_or_default();
        return row.iter().map(str::to_owned).collect();
    }
    first.split('\t').map(str::to_owned).collect()
}

/// Keeps the form's columns where they exist, and guesses them by their usual names where they do not.
pub fn guess_columns(form: &mut RunConfig, columns: &[String]) {
    let find = |names: &str| {
        let hit = |name: &str| columns.iter().find(|column| column.trim().eq_ignore_ascii_case(name));
        names.split(' ').find_map(hit).cloned()
    };
    let data = &mut form.data;
    if columns.is_empty() || !data.header {
        return;
    }
    if !columns.contains(&data.text_column) {
        data.text_column = find(TEXT_COLUMNS).unwrap_or_else(|| columns[0].clone());
    }
    if !columns.contains(&data.text_pair_column) {
        let second = find(PAIR_COLUMNS).unwrap_or_default();
        data.text_pair_column = if second == data.text_column { String::new() } else { second };
    }
    if !columns.contains(&data.label_column) {
        data.label_column = find(LABEL_COLUMNS).or_else(|| columns.last().cloned()).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_path_is_judged_by_its_name() {
        assert_eq!(purpose_of(Path::new("/a/run.toml")), Some(Purpose::OpenSettings));
        assert_eq!(purpose_of(Path::new("/a/Train.TSV")), Some(Purpose::TrainFile));
        assert_eq!(purpose_of(Path::new("/a/roberta-base")), None);
    }

    #[test]
    fn columns_are_read_from_every_format() {
        let read = |name: &str, head: &str| columns(Path::new(name), FileFormat::Auto, head);
        assert_eq!(read("a.tsv", "\u{feff}sentence\tlabel\nfine\t1\n"), ["sentence", "label"]);
        assert_eq!(read("a.csv", "\"a, b\",label\n"), ["a, b", "label"]);
        assert_eq!(read("a.jsonl", "{\"text\": \"x\", \"stars\": 3}\n{"), ["text", "stars"]);
        assert!(read("a.jsonl", "[1, 2]").is_empty());
        assert_eq!(read("a.txt", ""), [""]);
    }

    #[test]
    fn columns_are_guessed_by_their_usual_names() {
        let mut form = RunConfig::default();
        let names = |list: &[&str]| list.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        guess_columns(&mut form, &names(&["id", "Text", "Stars"]));
        assert_eq!((form.data.text_column.as_str(), form.data.label_column.as_str()), ("Text", "Stars"));
        assert_eq!(form.data.text_pair_column, "");
        guess_columns(&mut form, &names(&["premise", "hypothesis", "gold_label"]));
        assert_eq!(form.data.text_pair_column, "hypothesis");
        let before = form.clone();
        guess_columns(&mut form, &[]);
        assert_eq!(form, before, "an empty file changes nothing");
    }

    #[test]
    fn a_known_directory_name_chooses_the_task() {
        let mut form = RunConfig::default();
        use_path(&mut form, Purpose::DataDir, Path::new("/glue/SST-2"));
        assert_eq!(form.data.task, Task::Sst2);
        use_path(&mut form, Purpose::TrainFile, Path::new("/x/train.csv"));
        assert_eq!(form.data.task, Task::Sst2, "a known task keeps its name with another file");
    }
}
