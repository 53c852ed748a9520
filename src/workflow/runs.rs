//! Runs on disk as the window shows them: the list, everything about one, and deleting.
//!
//! A run that another process is writing is read up to its last complete line. Nothing here changes a run but [`delete`];
//! beside a long record its index is written.

use crate::analysis::routing_stats::RouteCounts;
use crate::artifact::capsule::Capsule;
use crate::artifact::certificate::{self, Certificate};
use crate::artifact::growing_cache::GrowingCache;
pub(crate) use crate::artifact::recorded::RecordedMetrics;
use crate::artifact::recorder::{RouteFile, read_samples, resumed_steps};
use crate::artifact::run_list::RunList;
pub use crate::artifact::run_list::summary;
use crate::artifact::run_lock::is_locked;
use crate::artifact::{RunDir, checkpoint, named_merges, run_dir};
use crate::config::{LawChange, RunConfig};
use crate::error::{Error, Result};
use crate::protocol::snapshots::{DistanceSample, RoutingSnapshot, RunDetail, RunSummary};
use crate::protocol::{Checkpoints, ExportReport, ExportTarget};
use crate::records::{EvalRecord, SampleRecord};
use crate::tensor::NumberFormat;
use crate::workflow::snapshot::{self, Banks};
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

/// Changes with [`RouteCounts`], which the index of the routes holds.
const ROUTES_VERSION: u32 = 2;
/// Bytes of routes behind their index from which on it is written anew.
const INDEX_EVERY: u64 = 1 << 20;
/// Most steps whose samples are read from disk.
const SAMPLES: usize = 512;
/// Last lines of the log that are shown.
const LOG_LINES: usize = 400;
/// Bytes of the log that are read for them.
const LOG_BYTES: u64 = 1 << 18;

/// All runs in a directory, the newest first; an empty name means the default directory. No directory, no runs.
pub fn list(known: &mut RunList, runs_dir: &str) -> Result<Vec<RunSummary>> {
    known.list(&RunDir::root(&RunConfig { runs_dir: runs_dir.to_owned(), ..RunConfig::default() })?)
}

/// Everything a run directory tells.
pub fn detail(dir: &Path) -> Result<RunDetail> {
    let running = is_locked(dir);
    let run = RunDir::open(dir)?;
    let mut recorded = RecordedMetrics::read(&run.metrics())?;
    let mut summary = RunSummary::new(&run, &recorded.progress, running);
    let sites = recorded.start.sites.clone();
    let routing = routing(&run, sites, &recorded.laws).unwrap_or_else(|err| {
        summary.problem.get_or_insert_with(|| err.to_string());
        None
    });
    // Where every one is damaged, none is best.
    let checkpoints = Checkpoints::of(&run)
        .or_else(|_| Ok::<_, Error>(Checkpoints { steps: checkpoint::list(&run)?, best: None }))?;
    let capsule = Capsule::of_dir(dir).map(Box::new);
    // No run goes on in a capsule.
    summary.resumable &= capsule.is_none();
    Ok(RunDetail {
        summary,
        capsule,
        config: run.config().clone(),
        distances: distances(&run, &checkpoints.steps),
        checkpoints,
        resumed: resumed_steps(&run),
        laws: recorded.laws,
        log: log_lines(&run.events()),
        exports: exports(&run),
        merges: named_merges::read(run.path()).unwrap_or_else(|err| {
            log::warn!("{err}");
            Vec::new()
        }),
        routing,
        start: recorded.start,
        history: recorded.curve.take(),
        evals: recorded.evals,
        samples: samples(&run)?,
        gradient_health: recorded.gradient_health,
        end: recorded.end,
    })
}

/// The evaluations of a run, oldest first.
pub fn evaluations(dir: &Path) -> Result<Vec<EvalRecord>> {
    Ok(RecordedMetrics::read(&RunDir::open(dir)?.metrics())?.evals)
}

/// What a run's language model wrote on the way; thinned where it wrote very often.
pub(crate) fn samples(run: &RunDir) -> Result<Vec<SampleRecord>> {
    read_samples(&run.samples(), SAMPLES)
}

/// All routes of the run's log; nothing without a mixture, or before the first step.
pub(crate) fn route_counts(run: &RunDir, sites: Vec<String>, until: u64) -> Result<RouteCounts> {
    let laws = RecordedMetrics::read(&run.metrics())?.laws;
    let mut counts = RouteCounts::new(&run.config().mixture, sites).with_laws(&laws);
    if run.routes().is_file() {
        for record in RouteFile::open(&run.routes())? {
            let record = record?;
            if record.step > until {
                break;
            }
            counts.add(record.step, &record.route);
        }
    }
    Ok(counts)
}

fn routing(run: &RunDir, sites: Vec<String>, laws: &[LawChange]) -> Result<Option<RoutingSnapshot>> {
    let routing = all_routes(run, sites, laws)?.snapshot();
    Ok((routing.step > 0).then_some(routing))
}

/// As [`route_counts`] to the end; of a long log only what was appended since it was last counted is read.
fn all_routes(run: &RunDir, sites: Vec<String>, laws: &[LawChange]) -> Result<RouteCounts> {
    let path = run.routes();
    let mixture = &run.config().mixture;
    let mut counts = RouteCounts::new(mixture, sites).with_laws(laws);
    if !path.is_file() {
        return Ok(counts);
    }
    let mut file = File::open(&path).map_err(|err| Error::io("opening", &path, err))?;
    let index = GrowingCache::of(&path, ROUTES_VERSION);
    let known = index.load(&mut file).and_then(|(bytes, length)| {
        let known: RouteCounts = serde_json::from_slice(&bytes).ok()?;
        known.is_of(mixture, &counts.snapshot().sites, laws).then(|| (known.with_laws(laws), length))
    });
    let (mut routes, from) = match known {
        Some((known, length)) => {
            counts = known;
            (RouteFile::open_at(&path, length)?, length)
        }
        None => (RouteFile::open(&path)?, 0),
    };
    while let Some(record) = routes.next().transpose()? {
        counts.add(record.step, &record.route);
    }
    let until = routes.position();
    if until.saturating_sub(from) >= INDEX_EVERY {
        let text = serde_json::to_vec(&counts).map_err(|err| Error::internal(format!("no JSON of counts: {err}")))?;
        index.store(&mut file, until, &text);
    }
    Ok(counts)
}

/// Brings the indexes of a run's record up to date, so that nobody who opens it waits for a long record. Where they
/// cannot be made there are none.
pub(crate) fn index(run: &RunDir) {
    let metrics = RecordedMetrics::read(&run.metrics());
    let made = metrics.and_then(|metrics| all_routes(run, metrics.start.sites, &metrics.laws));
    if let Err(err) = made {
        log::debug!("no index is kept: {err}");
    }
}

/// How far apart the experts were at each checkpoint. One that cannot be read (it may be going away right now) is left out.
pub(crate) fn distances(run: &RunDir, checkpoints: &[u64]) -> Vec<DistanceSample> {
    let banks = |&step: &u64| {
        let data = checkpoint::read(run, step).ok()?;
        Some((step, Banks::of_tensors(&data.tensors).ok().filter(|banks| !banks.is_empty())?))
    };
    let mut found = checkpoints.iter().filter_map(banks).peekable();
    let Some(start) = found.peek().and_then(|(_, banks)| banks.at_start_of(run).ok()) else { return Vec::new() };
    let later = found.filter(|(step, _)| *step > 0).map(|(step, now)| snapshot::distances(&now, &start, step));
    std::iter::once(snapshot::distances(&start, &start, 0)).chain(later).collect()
}

/// The last lines of the log, of its last [`LOG_BYTES`].
fn log_lines(path: &Path) -> Vec<String> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|mut file| {
        let from = file.metadata()?.len().saturating_sub(LOG_BYTES);
        file.seek(SeekFrom::Start(from))?;
        file.read_to_end(&mut bytes)?;
        Ok(from)
    });
    let text = String::from_utf8_lossy(&bytes);
    // A part begins in the middle of a line.
    let text = match read {
        Ok(from) if from > 0 => text.split_once('\n').map_or("", |(_, rest)| rest),
        _ => &text,
    };
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].iter().map(|&line| line.to_owned()).collect()
}

/// The exports in the run directory that have a certificate, by name.
fn exports(run: &RunDir) -> Vec<ExportReport> {
    let entries = fs::read_dir(run.exports()).into_iter().flatten().flatten();
    let mut dirs: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    dirs.sort();
    dirs.into_iter().filter_map(|dir| Some(export_report(certificate::read(&dir).ok()?, dir))).collect()
}

/// An export as its certificate in `dir` tells it.
fn export_report(certificate: Certificate, dir: PathBuf) -> ExportReport {
    let stored_as = certificate.stored_as.as_deref().and_then(NumberFormat::by_name);
    let dtype = stored_as.unwrap_or(certificate.dtype);
    ExportReport { target: certificate.target.unwrap_or(ExportTarget::Merged), dtype, dir, certificate }
}

/// Deletes a run with all its files, for good.
pub fn delete(dir: &Path) -> Result<()> {
    let (Some(root), Some(name)) = (dir.parent(), dir.file_name()) else {
        return Err(Error::config(format!("not a run directory, so nothing was deleted: {}", dir.display())));
    };
    run_dir::delete(root, &name.to_string_lossy())
}
