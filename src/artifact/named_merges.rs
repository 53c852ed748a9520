//! `merges.json` in a run directory: merges that were given a name, to be scored and exported later by it. The file may be missing.

use super::json::write_json;
use super::run_dir::RUN_FILE;
use crate::config::MergePlan;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;

/// Name of the file.
pub const MERGES_FILE: &str = "merges.json";
/// A larger file is not ours.
const MOST_BYTES: u64 = 8_000_000;
/// Characters of a name at most.
const MOST_CHARS: usize = 80;

/// A merge with its name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NamedMerge {
    /// Unique in its run.
    pub name: String,
    /// How the experts are merged.
    pub merge: MergePlan,
}

/// Of a run directory, in the order in which they were named.
///
/// # Errors
///
/// The file is there and cannot be read.
pub fn read(dir: &Path) -> Result<Vec<NamedMerge>> {
    let path = dir.join(MERGES_FILE);
    let text = match fs::metadata(&path) {
        Ok(meta) if meta.len() <= MOST_BYTES => {
            fs::read_to_string(&path).map_err(|err| Error::io("reading", &path, err))?
        }
        Ok(_) => return Err(Error::format(format!("more than 8 MB of named merges: {}", path.display()))),
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(err) => return Err(Error::io("reading", &path, err)),
    };
    serde_json::from_str(&text)
        .map_err(|err| Error::format(format!("the named merges cannot be read: {err}: {}", path.display())))
}

/// Gives a merge a name, in the place of one that has it; without a merge the name is removed. -> all
///
/// # Errors
///
/// The name cannot be used, the directory holds no run or cannot be written.
pub fn change(dir: &Path, name: &str, merge: Option<MergePlan>) -> Result<Vec<NamedMerge>> {
    let name = name.trim();
    if name.is_empty() || name.chars().count() > MOST_CHARS || name.chars().any(char::is_control) {
        return Err(Error::config(format!(
            "a merge is named by 1 to {MOST_CHARS} characters in one line, not {name:?}"
        )));
    }
    if !dir.join(RUN_FILE).is_file() {
        return Err(Error::config(format!("not a run directory, it holds no {RUN_FILE}: {}", dir.display())));
    }
    let mut all = read(dir)?;
    match (merge, all.iter_mut().find(|one| one.name == name)) {
        (Some(merge), Some(known)) => known.merge = merge,
        (Some(merge), None) => all.push(NamedMerge { name: name.to_owned(), merge }),
        (None, _) => all.retain(|one| one.name != name),
    }
    write_json(&dir.join(MERGES_FILE), &all)?;
    Ok(all)
}

/// The merge of this name.
///
/// # Errors
///
/// There is none; the message says which there are.
pub fn find(dir: &Path, name: &str) -> Result<MergePlan> {
    let all = read(dir)?;
    if let Some(found) = all.iter().find(|one| one.name == name) {
        return Ok(found.merge.clone());
    }
    let names: Vec<&str> = all.iter().map(|one| one.name.as_str()).collect();
    let known = if names.is_empty() { "none has a name".to_owned() } else { format!("known are {}", names.join(", ")) };
    Err(Error::config(format!("no merge of this run is named {name:?}; {known}: {}", dir.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merges_keep_their_names_and_order() {
        let place = tempfile::tempdir().unwrap();
        let dir = place.path();
        assert!(change(dir, "a", Some(MergePlan::Soup)).unwrap_err().to_string().contains("not a run directory"));
        fs::write(dir.join(RUN_FILE), "").unwrap();
        assert_eq!(read(dir).unwrap(), []);
        change(dir, " first ", Some(MergePlan::Global(vec![0.5, 0.25]))).unwrap();
        change(dir, "second", Some(MergePlan::Dare { drop: 0.9, seed: 3 })).unwrap();
        let all = change(dir, "first", Some(MergePlan::PerSite(vec![vec![1.0, 0.0]]))).unwrap();
        assert_eq!(all, read(dir).unwrap());
        assert_eq!(all.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["first", "second"]);
        assert_eq!(find(dir, "first").unwrap(), MergePlan::PerSite(vec![vec![1.0, 0.0]]));
        let err = find(dir, "third").unwrap_err().to_string();
        assert!(err.contains("known are first, second"), "{err}");
        assert_eq!(change(dir, "first", None).unwrap().len(), 1);
        for wrong in ["", "  ", "a\nb", &"x".repeat(81)] {
            assert!(change(dir, wrong, None).is_err(), "{wrong:?}");
        }
        fs::write(dir.join(MERGES_FILE), "{").unwrap();
        assert!(read(dir).unwrap_err().to_string().contains("cannot be read"));
    }
}
