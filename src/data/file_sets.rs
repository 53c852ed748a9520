//! Which files a split is read from: one, several, a directory, or the shards that a data set comes in.

use super::files::unpack::unpacked_name;
use crate::config::{DataConfig, Task};
use crate::error::{Error, Result};
use std::path::{Path, PathBuf};

/// Endings of files that hold rows or texts, without the ending of a packing.
const ENDINGS: [&str; 13] =
    ["jsonl", "json", "csv", "tsv", "txt", "ndjson", "parquet", "arrow", "feather", "xlsx", "xls", "ods", "tab"];
/// The usual order of a table's endings.
const TABLES: [&str; 3] = ["tsv", "csv", "jsonl"];
/// What stands between the names of several files.
const BETWEEN: char = ';';

/// The files of the training split, and those of the evaluation split where there is one; neither is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileSets {
    pub train: Vec<PathBuf>,
    pub dev: Option<Vec<PathBuf>>,
}

impl FileSets {
    /// What the settings name.
    pub(super) fn of(config: &DataConfig, dev_stems: Option<&[&str]>) -> Result<Self> {
        let dir = Path::new(&config.path);
        let (train, dev) = (named(dir, &config.train_file)?, named(dir, &config.dev_file)?);
        // A known task has both splits in its directory, and texts may.
        let Some(dev_stems) = dev_stems.or((config.task == Task::Text).then_some(&TEXT_DEV)) else {
            let train = train.ok_or_else(|| Error::config("no training file chosen; give train_file"))?;
            return Ok(Self { train, dev });
        };
        if config.task == Task::Text {
            if let Some(train) = train {
                return Ok(Self { train, dev });
            }
            let dev = dev.or_else(|| search(dir, dev_stems, &ENDINGS));
            let train = match search(dir, &["train", "trainset"], &ENDINGS) {
                Some(train) => train,
                None => without_splits(dir, dev.as_deref().unwrap_or_default())?
                    .ok_or_else(|| missing(dir, &["train", "trainset"], "training", "train_file"))?,
            };
            return Ok(Self { train, dev });
        }
        let stems = ["train", "train_subset"];
        let train = match train {
            Some(train) => train,
            None => search(dir, &stems, &TABLES).ok_or_else(|| missing(dir, &stems, "training", "train_file"))?,
        };
        let beside = match train.first().and_then(|file| file.parent()) {
            Some(parent) if config.path.is_empty() => parent,
            _ => dir,
        };
        let dev = match dev {
            Some(dev) => dev,
            None => search(beside, dev_stems, &TABLES)
                .ok_or_else(|| missing(beside, dev_stems, "evaluation", "dev_file"))?,
        };
        Ok(Self { train, dev: Some(dev) })
    }
}

/// The names that directories of texts have in other tools.
const TEXT_DEV: [&str; 5] = ["valid", "validation", "dev", "devset", "val"];

/// The files that a setting names: one or several, each a file, a directory or a pattern with `*` for any characters in a
/// file's name; in `dir` where they are there. Nothing for an empty setting.
fn named(dir: &Path, setting: &str) -> Result<Option<Vec<PathBuf>>> {
    if setting.is_empty() {
        return Ok(None);
    }
    let place = |name: &str| {
        let inside = dir.join(name);
        let there = !dir.as_os_str().is_empty() && inside.exists();
        if there { inside } else { PathBuf::from(name) }
    };
    // A file may have a semicolon in its name.
    let whole = place(setting);
    let names: Vec<&str> = if whole.exists() { vec![setting] } else { setting.split(BETWEEN).map(str::trim).collect() };
    let mut found = Vec::new();
    for name in names.into_iter().filter(|name| !name.is_empty()) {
        let path = place(name);
        let pattern = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            let files = data_files(&path)?;
            if files.is_empty() {
                return Err(Error::data(format!(
                    "the directory holds no data file (.{}); choose another: {}",
                    ENDINGS.join(", ."),
                    path.display()
                )));
            }
            found.extend(files);
        } else if pattern.contains('*') && !path.exists() {
            let parents = [dir.join(name), PathBuf::from(name)];
            let files = parents.iter().filter_map(|path| path.parent()).map(|parent| matching(parent, &pattern));
            let files = files.into_iter().find(|files| !files.is_empty());
            found.extend(files.ok_or_else(|| {
                Error::data(format!("no file fits {pattern:?}; choose another name: {}", path.display()))
            })?);
        } else {
            found.push(path);
        }
    }
    Ok(Some(found))
}

/// The first file that a path names: itself, or the first of a directory, of a pattern, of several.
pub(super) fn first(path: &Path) -> Result<PathBuf> {
    let found = named(Path::new(""), &path.to_string_lossy())?;
    Ok(found.and_then(|files| files.into_iter().next()).unwrap_or_else(|| path.to_path_buf()))
}

/// The files with the first of `stems`, alone (the endings in the order `first`) or in shards
/// (`train-00000-of-00003.parquet`), in `dir` or its `data`.
fn search(dir: &Path, stems: &[&str], first: &[&str]) -> Option<Vec<PathBuf>> {
    let alone = stems.iter().find_map(|stem| {
        let all = matching(dir, &format!("{stem}.*"));
        let ending = |ending: &&str| all.iter().find(|file| ending_of(file) == *ending);
        first.iter().chain(&ENDINGS).find_map(ending).cloned()
    });
    let shards = || {
        let places = [dir.to_path_buf(), dir.join("data")];
        let find = |stem: &&str| {
            let patterns = [format!("{stem}-*"), format!("{stem}.*")];
            places
                .iter()
                .flat_map(|place| patterns.iter().map(|pattern| matching(place, pattern)))
                .find(|f| !f.is_empty())
        };
        stems.iter().find_map(find)
    };
    alone.map(|file| vec![file]).or_else(shards)
}

/// All data files of a directory without names for its splits.
fn without_splits(dir: &Path, others: &[PathBuf]) -> Result<Option<Vec<PathBuf>>> {
    if dir.as_os_str().is_empty() || !dir.is_dir() {
        return Ok(None);
    }
    let mut files = data_files(dir)?;
    let about = |file: &PathBuf| {
        let name = file.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        ["dataset_info.json", "dataset_infos.json", "state.json", "readme.txt"].contains(&name.as_str())
            || name.starts_with("test.")
            || name.starts_with("test-")
    };
    files.retain(|file| !others.contains(file) && !about(file));
    Ok((!files.is_empty()).then_some(files))
}

/// The data files of a directory, in the order of their names.
fn data_files(dir: &Path) -> Result<Vec<PathBuf>> {
    std::fs::read_dir(dir).map_err(|err| Error::io("reading the directory", dir, err))?;
    Ok(matching(dir, "*"))
}

/// The data files in `dir` whose names fit a pattern, in their order.
fn matching(dir: &Path, pattern: &str) -> Vec<PathBuf> {
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let fits = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        fits_pattern(&name, pattern)
            && !name.starts_with('.')
            && ENDINGS.contains(&ending_of(path).as_str())
            && path.is_file()
    };
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(fits).collect();
    found.sort();
    found
}

fn ending_of(path: &Path) -> String {
    unpacked_name(path).extension().unwrap_or_default().to_string_lossy().to_lowercase()
}

/// Whether a name fits a pattern in which `*` is any characters.
fn fits_pattern(name: &str, pattern: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

fn missing(dir: &Path, stems: &[&str], what: &str, key: &str) -> Error {
    let there = if dir.is_dir() { "" } else { " (there is no such directory)" };
    let (last, others) = ENDINGS.split_last().unwrap_or((&"", &[]));
    Error::data(format!(
        "no {what} file found{there}; looked for {}.{} and .{last}, or give {key}: {}",
        stems.join(", "),
        others.join(", ."),
        dir.display()
    ))
}

/// Several files in a few words: the first, and how many more.
pub(super) fn words(files: &[String]) -> String {
    match files {
        [] => String::new(),
        [one] => one.clone(),
        [first, more @ ..] => format!("{first} and {} more", more.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (name, pattern, fits) in [
            ("train-00000-of-00002.parquet", "train-*", true),
            ("a.csv", "*.csv", true),
            ("a.csv.gz", "*.csv", false),
            ("part-1-of-2.jsonl", "part-*-of-*.jsonl", true),
            ("part-1.jsonl", "part-*-of-*.jsonl", false),
            ("a.csv", "a.csv", true),
            ("ab.csv", "a.csv", false),
        ] {
            assert_eq!(fits_pattern(name, pattern), fits, "{name} {pattern}");
        }
    }

    #[test]
    fn names_directories_patterns_and_shards() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, "x").unwrap();
        };
        ["a.csv", "b.csv.gz", "b.txt", "more/x.jsonl", "more/y.jsonl", "more/.hidden.csv", "more/notes.md"]
            .into_iter()
            .for_each(put);
        let named = |setting: &str| {
            let files = named(dir.path(), setting).unwrap().unwrap();
            let name = |file: &PathBuf| file.strip_prefix(dir.path()).unwrap_or(file).display().to_string();
            files.iter().map(name).collect::<Vec<_>>()
        };
        assert_eq!(named("a.csv"), ["a.csv"]);
        assert_eq!(named("a.csv; more"), ["a.csv", "more/x.jsonl", "more/y.jsonl"]);
        assert_eq!(named("*.csv*"), ["a.csv", "b.csv.gz"]);
        assert_eq!(named("more/*.jsonl"), ["more/x.jsonl", "more/y.jsonl"]);
        assert_eq!(named("gone.csv"), ["gone.csv"]);
        assert!(super::named(dir.path(), "*.ods").unwrap_err().to_string().contains("no file fits"));
        [
            "hub/data/train-00000-of-00002.parquet",
            "hub/data/train-00001-of-00002.parquet",
            "hub/data/test-00000-of-00001.parquet",
        ]
        .into_iter()
        .for_each(put);
        let found = search(&dir.path().join("hub"), &["train"], &TABLES).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(search(&dir.path().join("hub"), &["valid"], &TABLES), None);
        assert_eq!(words(&["a".to_owned(), "b".to_owned(), "c".to_owned()]), "a and 2 more");
    }
}
