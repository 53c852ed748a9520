//! One file: resumed where the last transfer ended, cancelled between two reads, verified before it gets its name.
//!
//! The bytes go to `blobs/<etag>.part`. The etag names the contents, so a part is only continued with bytes of the same
//! file; the whole file is compared with its checksum before it is renamed to `blobs/<etag>`.

use crate::config::model_id::ModelId;
use crate::error::{Error, ErrorKind, Result};
use crate::format;
use crate::model_store::client::{Client, FileMetadata};
use crate::model_store::error::{FetchError, RequestContext};
use crate::model_store::listing::RemoteFile;
use crate::model_store::progress::{DownloadProgress, Stage, Watcher};
use crate::model_store::verify::Checksum;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;
use ureq::Body;
use ureq::http::{Response, header};

/// Failures in a row, without progress in between, after which a download ends.
const MAX_FAILURES: u32 = 5;
/// Seconds to wait for another program that fetches the same file.
const LOCK_SECONDS: u32 = 5;
/// Bytes of one read.
const CHUNK: usize = 128 << 10;
/// Disk space that a download leaves free, in bytes.
const SPARE_BYTES: u64 = 64 << 20;

/// A repository at a commit, and where its files go.
pub(crate) struct RepoDownload<'a> {
    pub(crate) client: &'a Client,
    pub(crate) id: &'a ModelId,
    /// `models--org--name` in the cache.
    pub(crate) dir: PathBuf,
    pub(crate) commit: String,
}

/// Where a download stands, and who follows it.
pub(crate) struct Tracker<'a> {
    pub(crate) progress: DownloadProgress,
    pub(crate) watcher: &'a mut dyn Watcher,
}

impl Tracker<'_> {
    /// Reports the progress; an error when the download was cancelled.
    pub(crate) fn report(&mut self) -> Result<()> {
        if self.watcher.report(&self.progress) { Ok(()) } else { Err(cancelled()) }
    }

    /// Tries `work` until it succeeds, fails for good, or fails [`MAX_FAILURES`] times without getting further.
    pub(crate) fn retry<T>(&mut self, mut work: impl FnMut(&mut Self) -> Result<T, FetchError>) -> Result<T> {
        let (mut failures, mut furthest) = (0, self.progress.done);
        loop {
            let stage = self.progress.stage.clone();
            let failed = match work(self) {
                Ok(done) => return Ok(done),
                Err(failed) => failed,
            };
            failures = if self.progress.done > furthest { 1 } else { failures + 1 };
            furthest = furthest.max(self.progress.done);
            if !failed.retryable || failures >= MAX_FAILURES {
                return Err(failed.error);
            }
            let seconds = 1 << (failures - 1);
            self.progress.stage = Stage::Waiting { seconds, reason: failed.error.to_string() };
            self.report()?;
            if !self.watcher.wait(Duration::from_secs(seconds)) {
                return Err(cancelled());
            }
            self.progress.stage = stage;
        }
    }
}

/// The error of a cancelled download.
pub(crate) fn cancelled() -> Error {
    Error::new(ErrorKind::Cancelled, "cancelled; what was fetched is kept, the same download goes on from there")
}

/// The size of a file; nothing where there is none.
pub(crate) fn size(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().filter(fs::Metadata::is_file).map(|meta| meta.len())
}

impl RepoDownload<'_> {
    /// The directory of this commit's files.
    pub(crate) fn snapshot(&self) -> PathBuf {
        self.dir.join("snapshots").join(&self.commit)
    }

    /// Where the file is to be found afterwards.
    pub(crate) fn pointer(&self, name: &str) -> PathBuf {
        self.snapshot().join(name)
    }

    fn blob(&self, etag: &str) -> PathBuf {
        self.dir.join("blobs").join(etag)
    }

    /// The size of the file if it is there already; one that is there was verified when it came.
    fn present(&self, file: &RemoteFile) -> Option<u64> {
        size(&self.pointer(&file.name)).filter(|&bytes| file.bytes.is_none_or(|expected| expected == bytes))
    }

    /// Bytes of the file that are still to be fetched, as far as the list tells.
    pub(crate) fn missing(&self, file: &RemoteFile) -> u64 {
        if self.present(file).is_some() {
            return 0;
        }
        let part = file.checksum.as_ref().and_then(|checksum| size(&self.blob(checksum.hex()).with_extension("part")));
        file.bytes.unwrap_or(0).saturating_sub(part.unwrap_or(0))
    }

    /// Refuses to fetch more than the disk has room for.
    pub(crate) fn check_space(&self, needed: u64, watcher: &dyn Watcher) -> Result<()> {
        match watcher.free_space(&self.dir) {
            Some(free) if needed > 0 && free < needed.saturating_add(SPARE_BYTES) => Err(Error::new(
                ErrorKind::Io,
                format!(
                    "{} needs {} and the disk of the cache has {} left; free some space (adamix models remove NAME), or \
                     set HF_HUB_CACHE to a directory on a larger disk: {}",
                    self.id.repo,
                    format::bytes(needed),
                    format::bytes(free),
                    self.client.hub.cache.display()
                ),
            )),
            _ => Ok(()),
        }
    }

    /// Fetches one file, unless it is there.
    pub(crate) fn fetch(&self, file: &RemoteFile, tracker: &mut Tracker<'_>) -> Result<()> {
        let before = tracker.progress.done;
        tracker.progress.file.clone_from(&file.name);
        if let Some(bytes) = self.present(file) {
            tracker.progress.done += bytes;
            return Ok(());
        }
        let transfer = FileTransfer {
            repo: self,
            file,
            context: RequestContext { hub: &self.client.hub, id: self.id, file: Some(&file.name) },
            before,
        };
        let mut restarted = false;
        let bytes = tracker.retry(|tracker| {
            tracker.progress.stage = Stage::Fetching;
            transfer.run(tracker).map_err(|failed| {
                // A server whose bytes do not fit a second time will not send better ones.
                let again = failed.restart && std::mem::replace(&mut restarted, failed.restart);
                FetchError { retryable: failed.retryable && !again, ..failed }
            })
        });
        let bytes = bytes.map_err(|err| err.context(format!("fetching {} of {}", file.name, self.id.repo)))?;
        tracker.progress.done = before + bytes;
        Ok(())
    }
}

/// The transfer of one file.
struct FileTransfer<'a> {
    repo: &'a RepoDownload<'a>,
    file: &'a RemoteFile,
    context: RequestContext<'a>,
    /// Bytes of the files before this one.
    before: u64,
}

impl FileTransfer<'_> {
    /// One attempt; returns the size of the file.
    fn run(&self, tracker: &mut Tracker<'_>) -> Result<u64, FetchError> {
        let (repo, name) = (self.repo, self.file.name.as_str());
        let metadata = repo.client.file_metadata(repo.id, &repo.commit, name)?;
        let bytes = self.check_metadata(&metadata)?;
        let checksum = self.file.checksum.clone().or_else(|| Checksum::of_etag(&metadata.etag));
        let blob = repo.blob(&metadata.etag);
        let part = blob.with_extension("part");
        let _lock = self.lock(&blob.with_extension("lock"), tracker)?;

        // The complete file may be there: of another revision, or of a run that ended before the file got its name.
        for there in [&blob, &part] {
            match size(there) {
                Some(old) if old == bytes => {
                    if verified(there, checksum.as_ref(), tracker).map_err(FetchError::lasting)? {
                        return self.place(there, &blob).map(|()| bytes);
                    }
                    self.remove(there)?;
                }
                // Under the name of a blob there are complete files only.
                Some(old) if old > bytes || there == &blob => self.remove(there)?,
                _ => {}
            }
        }
        let start = size(&part).unwrap_or(0);
        repo.check_space(bytes - start, &*tracker.watcher).map_err(FetchError::lasting)?;
        tracker.progress.stage = Stage::Fetching;
        let fetched = self.receive(&metadata.url, &part, start, bytes, tracker).and_then(|resumed| {
            let intact = verified(&part, checksum.as_ref(), tracker).map_err(FetchError::lasting)?;
            if intact { Ok(()) } else { Err(self.damaged(resumed)) }
        });
        if let Err(failed) = fetched {
            if failed.restart {
                self.remove(&part)?;
            }
            return Err(failed);
        }
        self.place(&part, &blob).map(|()| bytes)
    }

    /// An etag becomes the name of a file, and a size the end of one. Returns the size.
    fn check_metadata(&self, metadata: &FileMetadata) -> Result<u64, FetchError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        let FileMetadata { etag, bytes, commit, .. } = metadata;
        let wrong = |why: &str| Err(self.context.not_a_hub(why));
        if etag.is_empty() || etag.len() > 200 || !etag.bytes().all(plain) {
            return wrong(&format!("its etag is {etag:?}"));
        }
        if commit.as_ref().is_some_and(|commit| *commit != self.repo.commit) {
            return wrong(&format!("it is asked for commit {} and sends another one", self.repo.commit));
        }
        match (self.file.bytes, *bytes) {
            (Some(listed), Some(sent)) if listed != sent => wrong(&format!("it lists {listed} bytes and sends {sent}")),
            (None, None) => wrong("it does not tell the size"),
            (listed, sent) => Ok(sent.or(listed).unwrap_or(0)),
        }
    }

    /// Keeps other programs from writing the same file until the lock is dropped.
    fn lock(&self, path: &Path, tracker: &mut Tracker<'_>) -> Result<File, FetchError> {
        let write = |err| self.context.write(path, err);
        fs::create_dir_all(path.parent().unwrap_or(&self.repo.dir)).map_err(write)?;
        let file = File::create(path).map_err(write)?;
        for second in 0..=LOCK_SECONDS {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                // Some network file systems have no locks.
                Err(TryLockError::Error(err)) if err.kind() == io::ErrorKind::Unsupported => return Ok(file),
                Err(TryLockError::Error(err)) => return Err(write(err)),
                Err(TryLockError::WouldBlock) if second < LOCK_SECONDS => {
                    if !tracker.watcher.wait(Duration::from_secs(1)) {
                        return Err(FetchError::lasting(cancelled()));
                    }
                }
                Err(TryLockError::WouldBlock) => {}
            }
        }
        Err(FetchError::lasting(Error::config(format!(
            "another program is fetching {} right now; wait until it is done, or end it: {}",
            self.file.name,
            path.display()
        ))))
    }

    /// Appends the rest of the file from byte `start` to the part on disk. Returns whether old bytes were kept.
    fn receive(
        &self,
        url: &str,
        part: &Path,
        start: u64,
        bytes: u64,
        tracker: &mut Tracker<'_>,
    ) -> Result<bool, FetchError> {
        let write = |err| self.context.write(part, err);
        let mut response = self.repo.client.contents(url, start, &self.context)?;
        let resumed = start > 0 && self.is_rest(&response, start, bytes)?;
        let file = if resumed { OpenOptions::new().append(true).open(part) } else { File::create(part) };
        let mut file = file.map_err(write)?;
        let mut received = if resumed { start } else { 0 };
        let mut reader = response.body_mut().as_reader();
        let mut buffer = vec![0; CHUNK];
        loop {
            tracker.progress.done = self.before + received;
            tracker.report().map_err(FetchError::lasting)?;
            let n = reader.read(&mut buffer).map_err(|err| self.context.transport(&err.into()))?;
            if n == 0 {
                break;
            }
            received += n as u64;
            if received > bytes {
                let failed = self.context.not_a_hub(&format!("it announces {bytes} bytes and sends more"));
                return Err(FetchError { restart: true, ..failed });
            }
            file.write_all(&buffer[..n]).map_err(write)?;
            tracker.progress.fetched += n as u64;
        }
        if received < bytes {
            return Err(self.context.transport(&io::Error::from(io::ErrorKind::UnexpectedEof).into()));
        }
        file.sync_all().map_err(write)?;
        Ok(resumed)
    }

    /// Whether the server sends the file from byte `start` on, and not all of it.
    fn is_rest(&self, response: &Response<Body>, start: u64, bytes: u64) -> Result<bool, FetchError> {
        if response.status() != 206 {
            return Ok(false);
        }
        let range = response.headers().get(header::CONTENT_RANGE).and_then(|range| range.to_str().ok());
        let range = range.unwrap_or_default();
        if range == format!("bytes {start}-{}/{bytes}", bytes - 1) {
            return Ok(true);
        }
        let (host, name) = (self.context.hub.host(), &self.file.name);
        let message = format!(
            "{host} was asked for bytes {start} to {bytes} of {name} and sends another part ({range:?}); it is fetched \
             from the beginning"
        );
        Err(FetchError::restart(Error::new(ErrorKind::Network, message)))
    }

    /// Bytes that were there before may be the damaged ones: then it is fetched once more from the beginning.
    fn damaged(&self, resumed: bool) -> FetchError {
        let (host, name, repo) = (self.context.hub.host(), &self.file.name, &self.repo.id.repo);
        let error = Error::format(format!(
            "{name} has arrived damaged from {host}: its checksum is another one than announced, so it was deleted; try \
             again, and if it happens again, tell the owner of {repo}"
        ));
        FetchError { retryable: resumed, ..FetchError::restart(error) }
    }

    /// Gives a complete file its name and its place in the snapshot.
    fn place(&self, there: &Path, blob: &Path) -> Result<(), FetchError> {
        if there != blob {
            fs::rename(there, blob).map_err(|err| self.context.write(blob, err))?;
        }
        let pointer = self.repo.pointer(&self.file.name);
        let parent = pointer.parent().unwrap_or(&self.repo.dir);
        fs::create_dir_all(parent).map_err(|err| self.context.write(parent, err))?;
        self.remove(&pointer)?;
        let up = "../".repeat(1 + Path::new(&self.file.name).components().count());
        let relative = Path::new(&up).join("blobs").join(blob.file_name().unwrap_or_default());
        link(&relative, blob, &pointer).map_err(|err| self.context.write(&pointer, err))
    }

    fn remove(&self, path: &Path) -> Result<(), FetchError> {
        match fs::remove_file(path) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => Err(self.context.write(path, err)),
            _ => Ok(()),
        }
    }
}

/// Whether a file has its checksum; true where none is known.
fn verified(path: &Path, checksum: Option<&Checksum>, tracker: &mut Tracker<'_>) -> Result<bool> {
    let Some(checksum) = checksum else { return Ok(true) };
    tracker.progress.stage = Stage::Verifying;
    checksum.matches(path, |_| tracker.report())
}

#[cfg(unix)]
fn link(relative: &Path, _blob: &Path, pointer: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(relative, pointer)
}

/// Symbolic links need a right there that few users have.
#[cfg(not(unix))]
fn link(_relative: &Path, blob: &Path, pointer: &Path) -> io::Result<()> {
    fs::hard_link(blob, pointer).or_else(|_| fs::copy(blob, pointer).map(drop))
}
