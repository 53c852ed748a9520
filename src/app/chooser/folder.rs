//! What is in a folder, read on a thread of its own.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::Path;
use std::time::UNIX_EPOCH;

/// Entries read of one folder.
const MOST: usize = 20_000;

/// A file or folder in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name, as the system has it.
    pub name: OsString,
    /// Whether it is a folder.
    pub folder: bool,
    /// Size of a file.
    pub bytes: u64,
    /// Last change, in seconds since 1970; 0 where it is unknown.
    pub modified: u64,
}

impl Entry {
    /// Its name for people.
    pub fn shown(&self) -> String {
        shown(Path::new(&self.name))
    }

    /// Whether its name begins with a dot.
    pub fn hidden(&self) -> bool {
        self.name.as_encoded_bytes().starts_with(b".")
    }
}

/// What is at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A folder: what is in it, folders first, by name; `cut`: there is more.
    Folder {
        /// What is in it.
        entries: Vec<Entry>,
        /// It has more entries than are read.
        cut: bool,
    },
    /// A file.
    File,
}

/// A path for people: a question mark for what is not UTF-8, because fonts have no sign for it.
pub fn shown(path: &Path) -> String {
    path.to_string_lossy().replace(char::REPLACEMENT_CHARACTER, "?")
}

/// Reads a folder; an error says in plain words why that is not possible.
pub fn read(path: &Path) -> Result<Place, String> {
    if std::fs::metadata(path).map_err(|err| words(&err))?.is_file() {
        return Ok(Place::File);
    }
    let mut entries = Vec::new();
    let mut cut = false;
    for entry in std::fs::read_dir(path).map_err(|err| words(&err))? {
        // One that vanishes while the folder is read is not there.
        let Ok(entry) = entry else { continue };
        if entries.len() == MOST {
            cut = true;
            break;
        }
        // Follows links; a link to nothing is a file of no size.
        let about = std::fs::metadata(entry.path()).ok();
        let modified = about.as_ref().and_then(|about| about.modified().ok());
        let modified = modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        entries.push(Entry {
            name: entry.file_name(),
            folder: about.as_ref().is_some_and(std::fs::Metadata::is_dir),
            bytes: about.as_ref().map_or(0, std::fs::Metadata::len),
            modified: modified.map_or(0, |time| time.as_secs()),
        });
    }
    entries.sort_by_cached_key(|entry| (!entry.folder, entry.shown().to_lowercase(), entry.name.clone()));
    Ok(Place::Folder { entries, cut })
}

fn words(err: &std::io::Error) -> String {
    match err.kind() {
        ErrorKind::PermissionDenied => "there is no permission to read it".to_owned(),
        ErrorKind::NotFound => "it does not exist (any more)".to_owned(),
        _ => err.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_come_first_by_name_and_a_file_is_no_folder() {
        let dir = tempfile::tempdir().expect("a directory");
        for name in ["b.tsv", "A.tsv", ".hidden"] {
            std::fs::write(dir.path().join(name), "12345").expect("a file");
        }
        std::fs::create_dir(dir.path().join("zoo")).expect("a folder");
        let Ok(Place::Folder { entries, cut }) = read(dir.path()) else { panic!("it is a folder") };
        let names: Vec<String> = entries.iter().map(Entry::shown).collect();
        assert_eq!((names, cut), (vec!["zoo".into(), ".hidden".into(), "A.tsv".into(), "b.tsv".into()], false));
        assert!(entries[0].folder && entries[1].hidden() && entries[2].bytes == 5 && entries[2].modified > 0);
        assert_eq!(read(&dir.path().join("b.tsv")), Ok(Place::File));
    }

    #[test]
    fn a_folder_that_is_not_there_is_said() {
        let dir = tempfile::tempdir().expect("a directory");
        let err = read(&dir.path().join("gone")).expect_err("it is not there");
        assert_eq!(err, "it does not exist (any more)");
    }

    #[cfg(unix)]
    #[test]
    fn names_that_are_not_utf8_and_links_to_nothing_are_listed() {
        use std::os::unix::ffi::OsStringExt as _;
        let dir = tempfile::tempdir().expect("a directory");
        let odd = OsString::from_vec(b"a\xff.tsv".to_vec());
        std::fs::write(dir.path().join(&odd), "").expect("a file");
        std::os::unix::fs::symlink("/no/such/file", dir.path().join("link")).expect("a link");
        let Ok(Place::Folder { entries, .. }) = read(dir.path()) else { panic!("it is a folder") };
        assert_eq!(entries[0].name, odd);
        assert_eq!((entries[1].shown(), entries[1].folder, entries[1].bytes), ("link".to_owned(), false, 0));
    }
}
