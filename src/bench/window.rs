//! What `adamix bench ui` measures of the window, and the limits it keeps. Each part is measured in a process of its own,
//! so that none finds the memory or the caches of another.

use super::figures::Spread;
use crate::error::{Context as _, Error, Result};
use serde::{Deserialize, Serialize};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Instant;

/// Work of a frame at the 99th percentile, in milliseconds.
pub(crate) const FRAME_LIMIT: f64 = 8.0;
/// From the start of the process to the first frame laid out, in milliseconds.
pub(crate) const FIRST_FRAME_LIMIT: f64 = 500.0;
/// Opening a record, in milliseconds.
pub(crate) const OPEN_LIMIT: f64 = 1000.0;
/// Memory that opening a record takes, in MB.
pub(crate) const OPEN_MEMORY_LIMIT: f64 = 150.0;
/// Speed of training beside the window over that without.
pub(crate) const THROUGHPUT_LIMIT: f64 = 0.95;
/// Processes whose first frame is timed.
const STARTS: usize = 5;

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plan {
    /// Points of each series, and steps of the record that is opened.
    pub steps: u64,
    /// Frames of each arrangement of the views.
    pub frames: usize,
    /// Rounds of training without and with the window, in turn.
    pub rounds: usize,
    /// Seconds of each of the three in a round: no frames, the window as it opens, all views.
    pub seconds: f64,
}

/// What one process measures.
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    /// Work of the frames and memory: [`FrameFigures`].
    Frames,
    /// Writes a record into this directory for runs: the run's directory as JSON text.
    Write(PathBuf),
    /// Opens this run in a new window: [`OpenFigures`].
    Open(PathBuf),
    /// Lays out one frame and says so.
    FirstFrame,
    /// Trains in this directory for runs, with frames and without: [`TrainingFigures`].
    Training(PathBuf),
}

impl Part {
    /// The names of all parts.
    pub(crate) const NAMES: [&'static str; 5] = ["frames", "write", "open", "first-frame", "training"];

    /// The part of this name; `dir`: where it reads or writes.
    pub(crate) fn by_name(name: &str, dir: Option<PathBuf>) -> Option<Self> {
        Some(match (name, dir) {
            ("frames", _) => Self::Frames,
            ("write", Some(dir)) => Self::Write(dir),
            ("open", Some(dir)) => Self::Open(dir),
            ("first-frame", _) => Self::FirstFrame,
            ("training", Some(dir)) => Self::Training(dir),
            _ => return None,
        })
    }

    fn arguments(&self) -> (&'static str, Option<&Path>) {
        match self {
            Self::Frames => ("frames", None),
            Self::Write(dir) => ("write", Some(dir)),
            Self::Open(dir) => ("open", Some(dir)),
            Self::FirstFrame => ("first-frame", None),
            Self::Training(dir) => ("training", Some(dir)),
        }
    }
}

/// Measures a part in this process.
pub type Measure = fn(&Part, &Plan) -> Result<serde_json::Value>;

/// Frames of one arrangement of the views.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Arrangement {
    /// The view in front, or `all together`.
    pub views: String,
    /// Work of a frame in milliseconds: median.
    pub p50_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
    /// Most.
    pub max_ms: f64,
    /// 99th percentile by the wall clock.
    pub wall_p99_ms: f64,
    /// Triangles of the last frame.
    pub triangles: usize,
}

/// Work of the frames, and memory.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FrameFigures {
    /// Every arrangement measured.
    pub arrangements: Vec<Arrangement>,
    /// Events that the engine sent in a second.
    pub events_per_s: f64,
    /// Series drawn in one plot.
    pub series: usize,
    /// Points behind each of them.
    pub points: u64,
    /// Most memory of the process, in MB.
    pub memory_mb: f64,
    /// Of it, above what the process held before the window was opened.
    pub memory_growth_mb: f64,
}

/// Opening a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OpenFigures {
    /// From the first frame of a window opened on the run to the frame that shows it, in milliseconds.
    pub open_ms: f64,
    /// Most memory above that before the window was opened and its first frame drawn, in MB.
    pub memory_mb: f64,
}

/// Training with the window beside it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TrainingFigures {
    /// Tokens a second beside the window as it opens, over those without frames, of each round.
    pub shares: Vec<f64>,
    /// The same beside a window with all views side by side.
    pub shares_all_views: Vec<f64>,
    /// Tokens a second without frames, of each round.
    pub tokens_per_s: Vec<f64>,
}

/// All of it.
#[derive(Clone, Debug, Serialize)]
pub struct WindowFigures {
    /// Of the program.
    pub version: &'static str,
    /// Of the arrangement with the largest 99th percentile.
    pub frame_p50_ms: f64,
    /// The largest 99th percentile of all arrangements.
    pub frame_p99_ms: f64,
    /// The same by the wall clock.
    pub frame_wall_p99_ms: f64,
    /// Median of several starts: from starting the process to the first frame laid out.
    pub first_frame_ms: f64,
    /// Opening the record when it has its index.
    pub open_ms: f64,
    /// Memory of that, in MB.
    pub open_memory_mb: f64,
    /// Opening it when it has none yet, as a run of an earlier version; after that it has.
    pub open_first_ms: f64,
    /// Memory of that, in MB.
    pub open_first_memory_mb: f64,
    /// Size of the record's files.
    pub record_mb: f64,
    /// Speed of training beside the window as it opens over that without frames, median of the rounds.
    pub throughput_share: f64,
    /// The same beside a window with all views side by side.
    pub throughput_share_all_views: f64,
    /// Most memory of the process that draws, in MB.
    pub memory_mb: f64,
    /// Whether every limit holds.
    pub holds: bool,
    /// Points of a series and steps of the record.
    pub steps: u64,
    /// Every start.
    pub first_frames_ms: Vec<f64>,
    /// Every round.
    pub training: TrainingFigures,
    /// Every arrangement of the views.
    pub frames: FrameFigures,
}

/// A figure beside its limit.
pub(crate) struct Limit {
    pub(crate) what: &'static str,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    pub(crate) limit: f64,
    /// Whether the value may not be smaller, rather than not larger.
    pub(crate) at_least: bool,
}

impl Limit {
    pub(crate) fn holds(&self) -> bool {
        if self.at_least { self.value >= self.limit } else { self.value <= self.limit }
    }
}

impl WindowFigures {
    /// The figures that have a limit.
    pub(crate) fn limits(&self) -> Vec<Limit> {
        let most = |what, value, unit, limit| Limit { what, value, unit, limit, at_least: false };
        vec![
            most("work of a frame, 99th percentile", self.frame_p99_ms, "ms", FRAME_LIMIT),
            most("first frame", self.first_frame_ms, "ms", FIRST_FRAME_LIMIT),
            most("opening a record", self.open_ms, "ms", OPEN_LIMIT),
            most("memory of opening it", self.open_memory_mb, "MB", OPEN_MEMORY_LIMIT),
            most("the same without an index", self.open_first_memory_mb, "MB", OPEN_MEMORY_LIMIT),
            Limit {
                what: "training beside the window",
                value: self.throughput_share,
                unit: "x",
                limit: THROUGHPUT_LIMIT,
                at_least: true,
            },
        ]
    }
}

/// Measures all parts. `said` hears what is being measured.
pub fn measure(plan: &Plan, said: &mut dyn FnMut(&str)) -> Result<WindowFigures> {
    let place = Scratch::new()?;
    said("frames");
    let frames: FrameFigures = of_part(plan, &Part::Frames)?;
    said("first frame");
    let first_frames_ms = (0..STARTS).map(|_| first_frame(plan)).collect::<Result<Vec<f64>>>()?;
    said("writing a record");
    let record: PathBuf = of_part(plan, &Part::Write(place.0.clone()))?;
    let record_mb = ["metrics.jsonl", "routes.bin"]
        .iter()
        .filter_map(|name| std::fs::metadata(record.join(name)).ok())
        .map(|meta| meta.len() as f64 / 1e6)
        .sum();
    said("opening it");
    let first: OpenFigures = of_part(plan, &Part::Open(record.clone()))?;
    let again: OpenFigures = of_part(plan, &Part::Open(record))?;
    said("training");
    let training: TrainingFigures = of_part(plan, &Part::Training(place.0.clone()))?;
    let worst = frames.arrangements.iter().max_by(|a, b| a.p99_ms.total_cmp(&b.p99_ms));
    let worst = worst.ok_or_else(|| Error::internal("no frame was measured"))?;
    let mut figures = WindowFigures {
        version: env!("CARGO_PKG_VERSION"),
        frame_p50_ms: worst.p50_ms,
        frame_p99_ms: worst.p99_ms,
        frame_wall_p99_ms: frames.arrangements.iter().map(|a| a.wall_p99_ms).fold(0.0, f64::max),
        first_frame_ms: Spread::of(first_frames_ms.iter().copied()).median,
        open_ms: again.open_ms,
        open_memory_mb: again.memory_mb,
        open_first_ms: first.open_ms,
        open_first_memory_mb: first.memory_mb,
        record_mb,
        throughput_share: Spread::of(training.shares.iter().copied()).median,
        throughput_share_all_views: Spread::of(training.shares_all_views.iter().copied()).median,
        memory_mb: frames.memory_mb,
        holds: false,
        steps: plan.steps,
        first_frames_ms,
        training,
        frames,
    };
    figures.holds = figures.limits().iter().all(Limit::holds);
    Ok(figures)
}

/// A directory of this process for runs, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    #[expect(clippy::disallowed_methods, reason = "not a test: what is measured here is thrown away")]
    fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("adamix-bench-ui-{}", std::process::id()));
        std::fs::create_dir_all(&path).map_err(|err| Error::io("creating a directory", &path, err))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok(); // what is left of it is in the system's directory for such files
    }
}

/// Starts this program for one part.
fn start(plan: &Plan, part: &Part) -> Result<(Child, BufReader<ChildStdout>)> {
    let program = std::env::current_exe().map_err(|err| Error::io("finding the program", Path::new("adamix"), err))?;
    let (name, dir) = part.arguments();
    let Plan { steps, frames, rounds, seconds } = plan;
    let mut command = Command::new(&program);
    command.args(["bench", "ui", "--part", name]);
    if let Some(dir) = dir {
        command.arg("--dir").arg(dir);
    }
    for (flag, value) in [("--steps", *steps), ("--frames", *frames as u64), ("--rounds", *rounds as u64)] {
        command.args([flag, &value.to_string()]);
    }
    command.args(["--seconds", &seconds.to_string()]).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().map_err(|err| Error::io("starting", &program, err))?;
    let answer = child.stdout.take().ok_or_else(|| Error::internal("a process has no output"))?;
    Ok((child, BufReader::new(answer)))
}

/// The line that a process prints, and the time when it came.
fn answer(plan: &Plan, part: &Part) -> Result<(String, Instant)> {
    let (mut child, mut output) = start(plan, part)?;
    let mut line = String::new();
    let read = output.read_line(&mut line);
    let at = Instant::now();
    let ended = child.wait().map_err(|err| Error::io("waiting for", Path::new(part.arguments().0), err))?;
    read.map_err(|err| Error::io("reading the figures of", Path::new(part.arguments().0), err))?;
    if ended.success() && !line.is_empty() {
        return Ok((line, at));
    }
    Err(Error::internal(format!("the part {:?} of the measurement ended with {ended}", part.arguments().0)))
}

fn of_part<T: serde::de::DeserializeOwned>(plan: &Plan, part: &Part) -> Result<T> {
    let (line, _) = answer(plan, part)?;
    serde_json::from_str(&line)
        .map_err(|err| Error::internal(format!("not the figures of a part: {err}")))
        .with_context(|| format!("measuring {}", part.arguments().0))
}

/// Milliseconds from starting a process to its first frame.
fn first_frame(plan: &Plan) -> Result<f64> {
    let began = Instant::now();
    let (_, at) = answer(plan, &Part::FirstFrame)?;
    Ok(1e3 * (at - began).as_secs_f64())
}
