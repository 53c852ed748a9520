//! Files and directories that appear whole or not at all.
//!
//! Everything is written as `.tmp-NAME` beside its final place, flushed and renamed. A directory that is replaced is
//! `.old-NAME` between the two renames. [`clean_leftovers`] removes or restores what a killed process left behind.

use crate::error::{Error, Result};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

pub(crate) const TEMPORARY: &str = ".tmp-";
const OLD: &str = ".old-";

/// Writes `bytes` as the file at `path`, replacing an older one.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    write_file_with(path, |out| out.write_all(bytes).map_err(|err| Error::io("writing", path, err)))
}

/// Writes the file at `path` with what `fill` writes, replacing an older one. The file keeps its old contents
/// when anything fails.
pub fn write_file_with(path: &Path, fill: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let failed = |err| Error::io("writing", path, err);
    let temporary = sibling(path, TEMPORARY)?;
    let written = (|| {
        let mut out = BufWriter::with_capacity(1 << 16, File::create(&temporary).map_err(failed)?);
        fill(&mut out)?;
        let file = out.into_inner().map_err(|err| failed(err.into_error()))?;
        file.sync_all().map_err(failed)?;
        drop(file);
        fs::rename(&temporary, path).map_err(failed)
    })();
    if written.is_err() {
        fs::remove_file(&temporary).ok(); // the write's own error is the one to report
    }
    written?;
    sync_dir(parent(path))
}

/// Makes the directory at `path` with the files that `fill` puts into the temporary directory it is given,
/// replacing an older one. The older one stays when anything fails.
pub fn write_dir<T>(path: &Path, fill: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    let temporary = sibling(path, TEMPORARY)?;
    remove(&temporary)?;
    fs::create_dir(&temporary).map_err(|err| Error::io("creating a directory", &temporary, err))?;
    let written = fill(&temporary).and_then(|value| {
        sync_tree(&temporary)?;
        replace_dir(&temporary, path)?;
        Ok(value)
    });
    if written.is_err() {
        fs::remove_dir_all(&temporary).ok(); // the write's own error is the one to report
    }
    let value = written?;
    sync_dir(parent(path))?;
    Ok(value)
}

/// Deletes a directory with all it holds. It is renamed first: a process killed half-way leaves a leftover, not a part of it.
pub fn delete_dir(path: &Path) -> Result<()> {
    let hidden = sibling(path, TEMPORARY)?;
    remove(&hidden)?; // of an earlier attempt
    let deleted = fs::rename(path, &hidden).and_then(|()| fs::remove_dir_all(&hidden));
    deleted.map_err(|err| Error::io("deleting", path, err))?;
    sync_dir(parent(path))
}

/// The final place of a temporary directory that [`write_dir`] has filled; any other directory itself.
pub(super) fn destination(dir: &Path) -> PathBuf {
    let name = dir.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_prefix(TEMPORARY));
    name.map_or_else(|| dir.to_owned(), |name| dir.with_file_name(name))
}

/// Removes what an earlier process left unfinished in `dir`, and brings back a directory whose replacement
/// never arrived. Returns a sentence for each thing done. Call it only while nobody else writes there.
pub fn clean_leftovers(dir: &Path) -> Result<Vec<String>> {
    let mut done = Vec::new();
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(done),
        Err(err) => return Err(Error::io("reading a directory", dir, err)),
    };
    let mut names: Vec<String> = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    for name in names {
        let path = dir.join(&name);
        if let Some(successor) = name.strip_prefix(OLD) {
            let target = dir.join(successor);
            if target.exists() {
                remove(&path)?;
                done.push(format!("removed the replaced {successor}"));
            } else {
                fs::rename(&path, &target).map_err(|err| Error::io("renaming", &path, err))?;
                done.push(format!("restored {successor}, whose replacement was not finished"));
            }
        } else if let Some(unfinished) = name.strip_prefix(TEMPORARY) {
            remove(&path)?;
            done.push(format!("removed the unfinished {unfinished}"));
        }
    }
    Ok(done)
}

/// Flushes the names in a directory to the disk, where the system can do that.
fn sync_dir(dir: &Path) -> Result<()> {
    if cfg!(unix) {
        File::open(dir).and_then(|file| file.sync_all()).map_err(|err| Error::io("flushing a directory", dir, err))?;
    }
    Ok(())
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn sibling(path: &Path, prefix: &str) -> Result<PathBuf> {
    let Some(name) = path.file_name() else {
        return Err(Error::config(format!("not the name of a file or directory: {}", path.display())));
    };
    let mut hidden = std::ffi::OsString::from(prefix);
    hidden.push(name);
    Ok(parent(path).join(hidden))
}

/// Removes a file or a whole directory; a symbolic link itself, never what it points to.
pub(crate) fn remove(path: &Path) -> Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(err) => Err(err),
    };
    match removed {
        Err(err) if err.kind() != io::ErrorKind::NotFound => Err(Error::io("removing", path, err)),
        _ => Ok(()),
    }
}

fn replace_dir(temporary: &Path, path: &Path) -> Result<()> {
    let old = sibling(path, OLD)?;
    let replacing = path.exists();
    if replacing {
        remove(&old)?;
        fs::rename(path, &old).map_err(|err| Error::io("replacing a directory", path, err))?;
    }
    if let Err(err) = fs::rename(temporary, path) {
        if replacing {
            fs::rename(&old, path).ok(); // back to where we were; the first error is the one to report
        }
        return Err(Error::io("renaming a directory", path, err));
    }
    if replacing { remove(&old) } else { Ok(()) }
}

fn sync_tree(dir: &Path) -> Result<()> {
    let entries = fs::read_dir(dir).map_err(|err| Error::io("reading a directory", dir, err))?;
    for entry in entries {
        let path = entry.map_err(|err| Error::io("reading a directory", dir, err))?.path();
        if path.is_dir() {
            sync_tree(&path)?;
        } else {
            // Windows flushes only through a handle that may write.
            let file = if cfg!(unix) { File::open(&path) } else { File::options().write(true).open(&path) };
            file.and_then(|file| file.sync_all()).map_err(|err| Error::io("flushing", &path, err))?;
        }
    }
    sync_dir(dir)
}
