//! One file: resumed where it broke off, given up when asked, verified before it gets its name.
//!
//! The crate that transfers writes to `blobs/<etag>.part` and renames at the end; it cannot be told to stop, and it
//! believes what arrives. Both are mended through the one thing it calls while it works, its progress: unwinding out
//! of that leaves the `.part` for the next time, after a piece as well as after the last one.

use crate::error::{Error, ErrorKind, Result};
use crate::model_store::download::{DownloadProgress, Stage, Watcher};
use crate::model_store::error;
use crate::model_store::error::Trouble;
use crate::model_store::hub::Hub;
use crate::model_store::id::ModelId;
use crate::model_store::listing::RemoteFile;
use crate::model_store::verify::Checksum;
use hf_hub::api::sync::{Api, ApiError, ApiRepo};
use std::any::Any;
use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Failures in a row, without a byte in between, after which it is given up.
const TRIES: u32 = 5;

/// A repository at a commit, and where its files go.
pub(crate) struct Job<'a> {
    pub(crate) hub: &'a Hub,
    pub(crate) id: &'a ModelId,
    pub(crate) api: &'a Api,
    /// At the commit, so that all files belong together.
    pub(crate) repo: ApiRepo,
    /// `models--org--name` in the cache.
    pub(crate) dir: PathBuf,
    pub(crate) commit: String,
}

/// Why a transfer was left in its middle.
enum Left {
    /// The user gave it up.
    Cancelled,
    /// What arrived is not what was announced.
    Damaged,
    /// It could not be checked.
    Failed(Error),
}

/// The crate's progress, handed on; the way out of a transfer.
struct Tap<'a> {
    watcher: &'a mut dyn Watcher,
    progress: &'a mut DownloadProgress,
    /// Bytes of all files before this one.
    before: u64,
    part: &'a Path,
    checksum: Option<&'a Checksum>,
    bytes: u64,
    /// The crate's next number is where it goes on, not what has come.
    begins: bool,
}

impl Tap<'_> {
    fn tell(&mut self) {
        if !self.watcher.told(self.progress) {
            resume_unwind(Box::new(Left::Cancelled));
        }
    }
}

impl hf_hub::api::Progress for Tap<'_> {
    fn init(&mut self, _size: usize, _file: &str) {
        self.progress.done = self.before;
        self.begins = true;
        self.tell();
    }

    fn update(&mut self, bytes: usize) {
        self.progress.done += bytes as u64;
        if !std::mem::take(&mut self.begins) {
            self.progress.fetched += bytes as u64;
        }
        self.tell();
    }

    /// Everything has arrived and still has its provisional name.
    fn finish(&mut self) {
        match verified(self.part, self.bytes, self.checksum, self.progress, self.watcher) {
            Ok(true) => {}
            Ok(false) => resume_unwind(Box::new(Left::Damaged)),
            Err(err) if err.kind() == ErrorKind::Cancelled => resume_unwind(Box::new(Left::Cancelled)),
            Err(err) => resume_unwind(Box::new(Left::Failed(err))),
        }
    }
}

fn cancelled() -> Error {
    Error::new(ErrorKind::Cancelled, "cancelled; what was fetched is kept, the same download goes on from there")
}

/// Whether a whole file is as announced.
fn verified(
    path: &Path,
    bytes: u64,
    checksum: Option<&Checksum>,
    progress: &mut DownloadProgress,
    watcher: &mut dyn Watcher,
) -> Result<bool> {
    if size(path) != Some(bytes) {
        return Ok(false);
    }
    let Some(checksum) = checksum else { return Ok(true) };
    progress.stage = Stage::Verifying;
    checksum.fits(path, |_| watcher.told(progress))
}

/// The size of a file; nothing where there is none.
pub(crate) fn size(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().filter(fs::Metadata::is_file).map(|meta| meta.len())
}

/// Tries until it works, the user gives up, or it does not pass. `work` says what went wrong and whether bytes arrived.
pub(crate) fn patiently<T>(
    progress: &mut DownloadProgress,
    watcher: &mut dyn Watcher,
    mut work: impl FnMut(&mut DownloadProgress, &mut dyn Watcher) -> Result<T, (Trouble, bool)>,
) -> Result<T> {
    let mut failures = 0;
    loop {
        let stage = progress.stage.clone();
        let (trouble, moved) = match work(progress, watcher) {
            Ok(done) => return Ok(done),
            Err(failed) => failed,
        };
        failures = if moved { 1 } else { failures + 1 };
        if !trouble.passing || failures >= TRIES {
            return Err(trouble.error);
        }
        let seconds = 1 << (failures - 1);
        progress.stage = Stage::Waiting { seconds, reason: trouble.error.to_string() };
        if !watcher.told(progress) || !watcher.wait(Duration::from_secs(seconds)) {
            return Err(cancelled());
        }
        progress.stage = stage;
    }
}

impl Job<'_> {
    /// The directory of this commit's files.
    pub(crate) fn snapshot(&self) -> PathBuf {
        self.dir.join("snapshots").join(&self.commit)
    }

    /// Where the file is to be found afterwards.
    pub(crate) fn pointer(&self, name: &str) -> PathBuf {
        self.snapshot().join(name)
    }

    /// Whether the file is there already; one that is there was verified when it came.
    pub(crate) fn is_there(&self, file: &RemoteFile) -> Option<u64> {
        size(&self.pointer(&file.name)).filter(|&bytes| file.bytes.is_none_or(|expected| expected == bytes))
    }

    /// Bytes of the file that a broken-off transfer left.
    pub(crate) fn part_bytes(&self, file: &RemoteFile) -> u64 {
        let Some(Checksum::Sha256(etag) | Checksum::Git(etag)) = &file.checksum else { return 0 };
        size(&self.dir.join("blobs").join(etag).with_extension("part")).unwrap_or(0)
    }

    /// Fetches one file, unless it is there.
    pub(crate) fn fetch(
        &self,
        file: &RemoteFile,
        progress: &mut DownloadProgress,
        watcher: &mut dyn Watcher,
    ) -> Result<()> {
        let before = progress.done;
        progress.file.clone_from(&file.name);
        if let Some(bytes) = self.is_there(file) {
            progress.done += bytes;
            return Ok(());
        }
        let name = &file.name;
        let mut started_over = false;
        let bytes = patiently(progress, watcher, |progress, watcher| {
            progress.stage = Stage::Fetching;
            let done = self.once(file, before, progress, watcher);
            done.map_err(|(trouble, moved)| {
                // Once is enough: a server that is wrong twice stays wrong.
                let hopeless = trouble.start_over && std::mem::replace(&mut started_over, trouble.start_over);
                (Trouble { passing: trouble.passing && !hopeless, ..trouble }, moved)
            })
        });
        let bytes = bytes.map_err(|err| err.context(format!("fetching {name} of {}", self.id.repo)))?;
        progress.done = before + bytes;
        Ok(())
    }

    fn once(
        &self,
        file: &RemoteFile,
        before: u64,
        progress: &mut DownloadProgress,
        watcher: &mut dyn Watcher,
    ) -> Result<u64, (Trouble, bool)> {
        let still = |trouble: Trouble| (trouble, false);
        let name = file.name.as_str();
        let of_api = |err: &ApiError| error::of_api(self.hub, self.id, name, err);
        let url = self.repo.url(name);
        let meta = catch_unwind(AssertUnwindSafe(|| self.api.metadata(&url)));
        let meta = meta.map_err(|panic| still(self.of_panic(&*panic)))?.map_err(|err| still(of_api(&err)))?;
        let (etag, bytes) = (meta.etag().to_owned(), meta.size() as u64);
        self.check_meta(file, &etag, bytes).map_err(still)?;
        let checksum = file.checksum.clone().or_else(|| Checksum::of_etag(&etag));
        let blob = self.dir.join("blobs").join(&etag);
        let (part, lock) = (blob.with_extension("part"), blob.with_extension("lock"));

        // Something whole may be there: of another revision, or of a run that ended between the last byte and the name.
        for there in [&blob, &part] {
            match size(there) {
                Some(old) if old == bytes => {
                    let fine = verified(there, bytes, checksum.as_ref(), progress, watcher);
                    if fine.map_err(|err| still(Trouble::lasting(err)))? {
                        return self.adopt(there, &blob, name, bytes).map_err(still);
                    }
                    remove(there).map_err(still)?;
                }
                // The name of a blob promises that it is whole.
                Some(old) if old > bytes || there == &blob => remove(there).map_err(still)?,
                _ => {}
            }
        }
        progress.stage = Stage::Fetching;
        let resumed = size(&part).unwrap_or(0);
        watcher.locked(&lock);
        // A name whose blob is gone would be in the way.
        remove(&self.pointer(name)).map_err(still)?;
        let tap = Tap { watcher, progress, before, part: &part, checksum: checksum.as_ref(), bytes, begins: false };
        let done = catch_unwind(AssertUnwindSafe(|| self.repo.download_with_progress(name, tap)));
        let arrived = size(&part).unwrap_or(0);
        let trouble = match done {
            Ok(Ok(_)) => return Ok(bytes),
            Ok(Err(err)) => of_api(&err),
            Err(panic) => match panic.downcast::<Left>() {
                Ok(left) => self.of_left(*left, name, resumed > 0),
                Err(other) => self.of_panic(&*other),
            },
        };
        if trouble.start_over {
            remove(&part).map_err(still)?;
        }
        Err((trouble, arrived > resumed))
    }

    /// An etag becomes the name of a file, and a size the end of one.
    fn check_meta(&self, file: &RemoteFile, etag: &str, bytes: u64) -> Result<(), Trouble> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        let wrong = if etag.is_empty() || etag.len() > 200 || !etag.bytes().all(plain) {
            format!("its etag is {etag:?}")
        } else if file.bytes.is_some_and(|listed| listed != bytes) {
            format!("it lists {} bytes and sends {bytes}", file.bytes.unwrap_or(0))
        } else {
            return Ok(());
        };
        let (host, name) = (self.hub.host(), &file.name);
        let message = format!("{host} does not answer as a hub does for {name}: {wrong}; check HF_ENDPOINT");
        Err(Trouble::lasting(Error::new(ErrorKind::Network, message)))
    }

    fn of_left(&self, left: Left, name: &str, resumed: bool) -> Trouble {
        match left {
            Left::Cancelled => Trouble::lasting(cancelled()),
            Left::Failed(err) => Trouble::lasting(err),
            // What was there before may have been the damage, and so may the server's way of going on.
            Left::Damaged => Trouble {
                passing: resumed,
                start_over: true,
                error: Error::format(format!(
                    "{name} has arrived damaged from {}: its checksum is another one than announced, so it was deleted; try \
                     again, and if it happens again, tell the owner of {}",
                    self.hub.host(),
                    self.id.repo
                )),
            },
        }
    }

    fn of_panic(&self, panic: &(dyn Any + Send)) -> Trouble {
        let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        let (host, endpoint) = (self.hub.host(), &self.hub.endpoint);
        let why = text.unwrap_or("no reason was given");
        let message = format!("the answer of {host} cannot be understood: {why}; check HF_ENDPOINT ({endpoint})");
        Trouble::lasting(Error::new(ErrorKind::Network, message))
    }

    /// Gives a whole file its name and its place in the snapshot.
    fn adopt(&self, there: &Path, blob: &Path, name: &str, bytes: u64) -> Result<u64, Trouble> {
        let io = |path: &Path, err| Trouble::lasting(Error::io("writing into the cache", path, err));
        if there != blob {
            fs::rename(there, blob).map_err(|err| io(blob, err))?;
        }
        let pointer = self.pointer(name);
        let parent = pointer.parent().unwrap_or(&self.dir);
        fs::create_dir_all(parent).map_err(|err| io(parent, err))?;
        remove(&pointer)?;
        let up = "../".repeat(2 + Path::new(name).components().count() - 1);
        let relative = Path::new(&up).join("blobs").join(blob.file_name().unwrap_or_default());
        link(&relative, blob, &pointer).map_err(|err| io(&pointer, err))?;
        Ok(bytes)
    }
}

#[cfg(unix)]
fn link(relative: &Path, _blob: &Path, pointer: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(relative, pointer)
}

/// Links need a right there that few users have.
#[cfg(not(unix))]
fn link(_relative: &Path, blob: &Path, pointer: &Path) -> io::Result<()> {
    fs::hard_link(blob, pointer).or_else(|_| fs::copy(blob, pointer).map(drop))
}

fn remove(path: &Path) -> Result<(), Trouble> {
    match fs::remove_file(path) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => {
            Err(Trouble::lasting(Error::io("removing a damaged file", path, err)))
        }
        _ => Ok(()),
    }
}
