//! A run capsule: what a run is and did, in one file, to be handed in, attached to a report, or kept.
//!
//! A ZIP archive whose members are stored as they are:
//!
//! | member | what |
//! |---|---|
//! | `run.toml`, `metrics.jsonl`, `routes.bin`, `samples.jsonl`, `events.log` | as in the run directory |
//! | `checkpoint-N/...` | whole checkpoints, none larger than [`LARGEST_CHECKPOINT`] |
//! | `capsule.json` | format, version, tool, time, environment, what was left out; size and SHA-256 of every member |
//!
//! A capsule may come from anybody. Before anything is written, every name is compared with the list above, every size
//! with its limit, and every member with its hash. It is unpacked into a directory that is read like a run directory, and
//! that `capsule.json` marks as one that stays as it is.

use super::json::read_config;
use super::run_dir::{CAPSULE_FILE as MANIFEST, METRICS_FILE, RUN_FILE, RunDir};
use super::{TOOL, checkpoint, utc};
use crate::atomic::{write_dir, write_file_with};
use crate::error::{Context as _, Error, Result};
use crate::tensor::hash::{FileHash, hex};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, Write};
use std::path::{Component, Path, PathBuf};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

/// How the name of a capsule ends.
pub const EXTENSION: &str = "capsule";
/// Bytes of the largest checkpoint that goes into a capsule.
pub const LARGEST_CHECKPOINT: u64 = 64_000_000;

/// Bytes of the largest capsule that is written or opened.
const LARGEST_CAPSULE: u64 = 1_000_000_000;
const LARGEST_MANIFEST: u64 = 1 << 20;
const MOST_MEMBERS: usize = 64;
const FORMAT: &str = "adamix-capsule";
/// The records of a run; a run need not have all of them.
const RECORDS: [&str; 5] = [RUN_FILE, METRICS_FILE, "routes.bin", "samples.jsonl", "events.log"];

/// Where a run was computed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// Operating system and architecture of the computer that wrote the capsule.
    pub system: String,
    /// Its processor.
    pub processor: String,
    /// The device that the run was computed on.
    pub device: String,
    /// CPU threads of the run.
    pub threads: usize,
}

/// `capsule.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capsule {
    /// Always `adamix-capsule`.
    pub format: String,
    /// Of the format; 1.
    pub version: u32,
    /// The program that wrote it.
    pub tool: String,
    /// When it was written, UTC.
    pub created: String,
    /// Name of the run.
    pub run: String,
    /// Where the run was computed.
    pub environment: Environment,
    /// A sentence for everything that was left out.
    pub left_out: Vec<String>,
    /// Every other member.
    pub files: Vec<FileHash>,
}

impl Capsule {
    /// The capsule that this directory was unpacked from.
    pub fn of_dir(dir: &Path) -> Option<Self> {
        serde_json::from_value(read_config(&dir.join(MANIFEST)).ok()?).ok()
    }

    /// Bytes of all members.
    pub fn bytes(&self) -> u64 {
        self.files.iter().fold(0, |sum, file| sum.saturating_add(file.bytes))
    }

    /// What is wrong with the list itself.
    fn check(&self) -> Result<()> {
        let Self { format, version, tool, run, files, .. } = self;
        if format != FORMAT || *version != 1 {
            return Err(Error::format(format!(
                "{MANIFEST} has format {format:?} {version}, written by {tool}; this program reads {FORMAT} 1"
            )));
        }
        let mut parts = Path::new(run).components();
        let plain =
            matches!((parts.next(), parts.next()), (Some(Component::Normal(part)), None) if part == run.as_str());
        if !plain || run.starts_with('.') || run.contains(['/', '\\', ':']) {
            return Err(Error::format(format!("{MANIFEST} calls the run {run:?}, which is not a name")));
        }
        if files.len() > MOST_MEMBERS {
            return Err(Error::format(format!("{} members are more than {MOST_MEMBERS}", files.len())));
        }
        let mut seen = BTreeSet::new();
        for file in files {
            if !is_member(&file.name) {
                return Err(Error::format(format!("{:?} is not a member that a capsule may have", file.name)));
            }
            if !seen.insert(file.name.as_str()) {
                return Err(Error::format(format!("{MANIFEST} lists {} twice", file.name)));
            }
        }
        if self.bytes() > LARGEST_CAPSULE {
            return Err(Error::format(format!("{} bytes are more than {LARGEST_CAPSULE}", self.bytes())));
        }
        match seen.contains(RUN_FILE) {
            true => Ok(()),
            false => Err(Error::format(format!("it has no {RUN_FILE}"))),
        }
    }
}

/// Whether a capsule may have a member of this name.
fn is_member(name: &str) -> bool {
    let checkpoint_file = |(dir, file): (&str, &str)| {
        let step = dir.strip_prefix("checkpoint-").and_then(|step| step.parse::<u64>().ok());
        step.is_some_and(|step| dir == format!("checkpoint-{step}")) && checkpoint::FILES.contains(&file)
    };
    RECORDS.contains(&name) || name.split_once('/').is_some_and(checkpoint_file)
}

/// Writes the capsule of a run with these checkpoints, replacing an older one; `left_out` is what the caller leaves out. A
/// run that is being written is taken as far as it has come.
pub fn write(
    run: &RunDir,
    checkpoints: &[u64],
    environment: Environment,
    left_out: Vec<String>,
    to: &Path,
) -> Result<Capsule> {
    let mut capsule = Capsule {
        format: FORMAT.to_owned(),
        version: 1,
        tool: TOOL.to_owned(),
        created: utc::stamp(utc::now()),
        run: run.name(),
        environment,
        left_out,
        files: Vec::new(),
    };
    let mut members: Vec<(String, u64)> = Vec::new();
    let length = |name: &str| fs::metadata(run.path().join(name)).ok().filter(fs::Metadata::is_file).map(|m| m.len());
    members.extend(RECORDS.iter().filter_map(|name| Some(((*name).to_owned(), length(name)?))));
    for &step in checkpoints {
        let names = checkpoint::FILES.map(|file| format!("checkpoint-{step}/{file}"));
        let files: Vec<(String, u64)> =
            names.into_iter().filter_map(|name| Some((name.clone(), length(&name)?))).collect();
        let bytes: u64 = files.iter().map(|(_, bytes)| bytes).sum();
        if bytes > LARGEST_CHECKPOINT {
            capsule.left_out.push(format!(
                "checkpoint-{step} has {bytes} bytes and was left out; the limit is {LARGEST_CHECKPOINT}"
            ));
        } else {
            members.extend(files);
        }
    }
    let total: u64 = members.iter().map(|(_, bytes)| bytes).sum();
    if total > LARGEST_CAPSULE {
        return Err(Error::config(format!(
            "the records of this run have {total} bytes; a capsule holds at most {LARGEST_CAPSULE}: {}",
            run.path().display()
        )));
    }
    write_file_with(to, |out| fill(out, run.path(), &members, &mut capsule))
        .with_context(|| format!("writing the capsule {}", to.display()))?;
    Ok(capsule)
}

fn fill(out: &mut dyn Write, dir: &Path, members: &[(String, u64)], capsule: &mut Capsule) -> Result<()> {
    let mut zip = ZipWriter::new_stream(out);
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let failed = |err: zip::result::ZipError| Error::format(format!("the archive cannot be written: {err}"));
    for (name, bytes) in members {
        let path = dir.join(name);
        let mut file = File::open(&path).map_err(|err| Error::io("opening", &path, err))?.take(*bytes);
        zip.start_file(name.as_str(), options).map_err(failed)?;
        let mut hash = Hashing { out: &mut zip, hash: Sha256::new() };
        let copied = io::copy(&mut file, &mut hash).map_err(|err| Error::io("copying", &path, err))?;
        let sha256 = hex(&hash.hash.finalize());
        capsule.files.push(FileHash { name: name.clone(), bytes: copied, sha256 });
    }
    let text = serde_json::to_vec_pretty(&capsule).map_err(|err| Error::internal(format!("{MANIFEST}: {err}")))?;
    zip.start_file(MANIFEST, options).map_err(failed)?;
    zip.write_all(&text).map_err(|err| Error::io("writing", Path::new(MANIFEST), err))?;
    zip.finish().map_err(failed)?;
    Ok(())
}

/// Hashes what is written through it.
struct Hashing<W> {
    out: W,
    hash: Sha256,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A capsule whose every member was compared with its size and hash.
pub struct VerifiedCapsule {
    /// What it lists.
    pub capsule: Capsule,
    archive: ZipArchive<File>,
    manifest: Vec<u8>,
}

impl VerifiedCapsule {
    /// Opens and verifies a capsule; writes nothing. The error names the member that is wrong.
    pub fn open(path: &Path) -> Result<Self> {
        let open = || -> Result<Self> {
            let mut file = File::open(path).map_err(|err| Error::io("opening", path, err))?;
            let bytes = file.seek(io::SeekFrom::End(0)).map_err(|err| Error::io("reading", path, err))?;
            if bytes > LARGEST_CAPSULE + LARGEST_MANIFEST {
                return Err(Error::format(format!("{bytes} bytes are more than {LARGEST_CAPSULE}")));
            }
            let mut archive = ZipArchive::new(file)
                .map_err(|err| Error::format(format!("it is no capsule, or cut off ({err}); fetch it again")))?;
            let manifest = read_manifest(&mut archive)?;
            let capsule: Capsule = serde_json::from_slice(&manifest)
                .map_err(|err| Error::format(format!("{MANIFEST} is damaged: {err}")))?;
            capsule.check()?;
            same_members(&archive, &capsule)?;
            let mut verified = Self { capsule, archive, manifest };
            for file in &verified.capsule.files {
                copy_member(&mut verified.archive, file, &mut io::sink())?;
            }
            Ok(verified)
        };
        open().with_context(|| format!("the capsule {} cannot be opened", path.display()))
    }

    /// Unpacks it below `cache`, in a directory named after its contents; where it lies there whole already, nothing is
    /// written. Returns the run directory.
    pub fn unpack(mut self, cache: &Path) -> Result<PathBuf> {
        let key: String = hex(&Sha256::digest(&self.manifest)).chars().take(24).collect();
        let place = cache.join(key);
        let dir = place.join(&self.capsule.run);
        let unpacked = fs::read(dir.join(MANIFEST)).is_ok_and(|bytes| bytes == self.manifest)
            && self.capsule.files.iter().all(|file| file.problem(&dir).is_none());
        if unpacked {
            return Ok(dir);
        }
        private_dir(&place)?;
        write_dir(&dir, |dir| {
            for file in &self.capsule.files {
                let path = dir.join(&file.name);
                if let Some(parent) = path.parent() {
                    private_dir(parent)?;
                }
                let mut out = File::create(&path).map_err(|err| Error::io("writing", &path, err))?;
                copy_member(&mut self.archive, file, &mut out)?;
            }
            let path = dir.join(MANIFEST);
            fs::write(&path, &self.manifest).map_err(|err| Error::io("writing", &path, err))
        })?;
        Ok(dir)
    }
}

/// Makes a directory, and those above it, that other users cannot read.
fn private_dir(path: &Path) -> Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(|err| Error::io("creating a directory", path, err))
}

fn read_manifest(archive: &mut ZipArchive<File>) -> Result<Vec<u8>> {
    let entry = archive.by_name(MANIFEST).map_err(|err| Error::format(format!("{MANIFEST} is missing: {err}")))?;
    let mut bytes = Vec::new();
    entry
        .take(LARGEST_MANIFEST + 1)
        .read_to_end(&mut bytes)
        .map_err(|err| Error::format(format!("{MANIFEST} is damaged: {err}")))?;
    match bytes.len() as u64 > LARGEST_MANIFEST {
        true => Err(Error::format(format!("{MANIFEST} has more than {LARGEST_MANIFEST} bytes"))),
        false => Ok(bytes),
    }
}

/// The archive holds what its list names, and nothing else.
fn same_members(archive: &ZipArchive<File>, capsule: &Capsule) -> Result<()> {
    let listed: BTreeSet<&str> = capsule.files.iter().map(|file| file.name.as_str()).chain([MANIFEST]).collect();
    let unreadable = |err| Error::format(format!("the name of a member cannot be read: {err}"));
    let held = archive.file_names().collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
    let held: BTreeSet<&str> = held.iter().map(AsRef::as_ref).collect();
    match (listed.difference(&held).next(), held.difference(&listed).next()) {
        (Some(name), _) => Err(Error::format(format!("{name} is missing"))),
        (None, Some(name)) => Err(Error::format(format!("it holds {name:?}, which {MANIFEST} does not list"))),
        (None, None) => Ok(()),
    }
}

/// Copies a member and compares it with its size and hash. No more is read than the list says.
fn copy_member(archive: &mut ZipArchive<File>, file: &FileHash, out: &mut dyn Write) -> Result<()> {
    let FileHash { name, bytes, sha256 } = file;
    let damaged = |what: String| Error::format(format!("{name} is damaged: {what}"));
    let entry = archive.by_name(name).map_err(|err| damaged(err.to_string()))?;
    if entry.compression() != CompressionMethod::Stored || entry.size() != *bytes {
        let (size, how) = (entry.size(), entry.compression());
        return Err(damaged(format!("it has {size} bytes ({how}) but should have {bytes}, stored as they are")));
    }
    let mut hash = Hashing { out, hash: Sha256::new() };
    let copied =
        io::copy(&mut entry.take(bytes.saturating_add(1)), &mut hash).map_err(|err| damaged(err.to_string()))?;
    let found = hex(&hash.hash.finalize());
    if copied != *bytes || found != *sha256 {
        return Err(damaged(format!("its SHA-256 is {found} but should be {sha256}")));
    }
    Ok(())
}
