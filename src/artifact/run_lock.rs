//! One writer per run: the `lock` file.
//!
//! The file is locked through the operating system, which lets go of it when the process ends in whatever way;
//! a killed process therefore blocks nobody. Its text, the process number, is there for messages only. Where
//! the file system knows no locks, the process number decides.

use crate::error::{Error, Result};
use std::fs::{File, TryLockError};
use std::io::{self, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

/// Name of the file in the run directory.
pub const LOCK_FILE: &str = "lock";

/// The right to write into a run directory, until dropped.
#[derive(Debug)]
pub struct RunLock {
    file: File,
}

impl RunLock {
    /// Takes the lock of the run in `dir`; an error naming the other process when there is one.
    pub fn acquire(dir: &Path) -> Result<Self> {
        let path = dir.join(LOCK_FILE);
        let file = File::options().create(true).read(true).write(true).truncate(false).open(&path);
        let mut file = file.map_err(|err| Error::io("opening", &path, err))?;
        // Somebody who lists the runs holds the lock for microseconds to see whether it is free: try again.
        let patience = Instant::now() + Duration::from_millis(50);
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if Instant::now() < patience => std::hint::spin_loop(),
                Err(TryLockError::WouldBlock) => return Err(in_use(dir)),
                Err(TryLockError::Error(err)) if err.kind() == io::ErrorKind::Unsupported => {
                    if recorded_process(dir).is_some_and(lives) {
                        return Err(in_use(dir));
                    }
                    break;
                }
                Err(TryLockError::Error(err)) => return Err(Error::io("locking", &path, err)),
            }
        }
        file.set_len(0)
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(|err| Error::io("writing", &path, err))?;
        Ok(Self { file })
    }
}

impl Drop for RunLock {
    fn drop(&mut self) {
        // Emptied, not removed: removing it would let two later writers lock two different files.
        self.file.set_len(0).ok();
    }
}

/// Whether some process (this one included) is writing into the run in `dir`.
pub fn is_locked(dir: &Path) -> bool {
    let Ok(file) = File::open(dir.join(LOCK_FILE)) else { return false };
    match file.try_lock_shared() {
        Ok(()) => false,
        Err(TryLockError::WouldBlock) => true,
        Err(TryLockError::Error(_)) => recorded_process(dir).is_some_and(lives),
    }
}

fn in_use(dir: &Path) -> Error {
    let who = recorded_process(dir).map_or_else(|| "another process".to_owned(), |id| format!("process {id}"));
    Error::config(format!("{who} is writing into this run; wait for it or stop it: {}", dir.display()))
}

fn recorded_process(dir: &Path) -> Option<u32> {
    std::fs::read_to_string(dir.join(LOCK_FILE)).ok()?.trim().parse().ok()
}

fn lives(process: u32) -> bool {
    let table = Path::new("/proc");
    // Without a process table to look into, the careful answer is yes.
    !table.join("self").exists() || table.join(process.to_string()).exists()
}
