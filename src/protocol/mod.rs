//! What the window and the engine say to each other: plain host data, no tensors, no threads, no window.
//!
//! Seven lanes, each with its own loss rule:
//!
//! | lane | direction | when it is full |
//! |---|---|---|
//! | [`Command`] | window to engine, [`Engine::try_send`] | refused with [`Busy`]; the window says so |
//! | [`ControlRequest`], [`Watch`] | window to engine, levels | cannot be full |
//! | [`Event`] | engine to window, ordered | never lost: it waits in the engine |
//! | [`StepBucket`] | engine to window, every step | neighbours are merged; minima and maxima survive |
//! | snapshots | engine to window, while watched | overwritten by newer ones |
//! | [`StepProfile`] | engine to window, a few times a second | overwritten by newer ones |
//! | [`Incoming::Writing`] | engine to window, while texts are written | overwritten by newer ones |
//!
//! Every message carries the [`RunId`] or [`RequestId`] it belongs to, so that late ones can be told apart.
//! Both ids are chosen by the window, counting up from 1. The window shows the [`RunPhase`] the engine
//! *reported*, never the one it asked for. The record that loses nothing is the run directory.

pub mod events;
pub mod model_store;
pub mod playground;
pub mod questions;
pub mod snapshots;
pub mod step_profile;
pub mod studies;

use serde::{Deserialize, Serialize};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

pub use crate::artifact::certificate::{Certificate, ProbeResult, TensorCheck};
pub use crate::artifact::export::ExportTarget;
pub use crate::data::text::preview::{SampleText, SampleToken, TextPreview, TextSplit};
pub use crate::error::ErrorKind;
pub use crate::eval::text_metrics::TextScores;
pub use crate::eval::{Band, EvalReport, MergedWith, Scores};
pub use crate::mixture::{SIDES, Side};
pub use crate::nn::profile::{PHASES, Phase};
pub use crate::protocol::events::*;
pub use crate::protocol::model_store::*;
pub use crate::protocol::playground::*;
pub use crate::protocol::questions::*;
pub use crate::protocol::snapshots::*;
pub use crate::protocol::step_profile::StepProfile;
pub use crate::protocol::studies::*;
pub use crate::tensor::NumberFormat;
pub use crate::tensor::hash::FileHash;
pub use crate::train::observer::{
    EndReason, EndRecord, EvalRecord, Lamp, LampState, Sample, SampleRecord, StartRecord, StepRecord,
};
pub use crate::workflow::written_texts::{WriteReport, WrittenBy, WrittenSample};

use crate::config::{ModelConfig, RunConfig};

/// Names one question of the window; its answer carries the same number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RequestId(pub u64);

/// Names one training run of this process; later runs have larger numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RunId(pub u64);

/// Called by the engine when a lane goes from empty to filled; wakes the window (or counts, in tests).
pub type Waker = Arc<dyn Fn() + Send + Sync>;

/// Makes the engine once the window can be woken.
pub type EngineFactory = Box<dyn FnOnce(Waker) -> crate::error::Result<Box<dyn Engine>> + Send>;

/// What the window needs of an engine.
pub trait Engine {
    /// Hands over a command; never waits.
    fn try_send(&self, command: Command) -> Result<(), Busy>;
    /// Sets a level that the training thread looks at between micro-batches; works during long evaluations too.
    fn control(&self, request: ControlRequest);
    /// Says which snapshots somebody is looking at; the others are not made.
    fn watch(&self, watch: Watch);
    /// Hands everything waiting to `sink` in the order events, steps, snapshots, until `sink` breaks. Returns whether something is left.
    fn drain(&mut self, sink: &mut dyn FnMut(Incoming) -> ControlFlow<()>) -> bool;
}

/// The command lane is full or the engine is gone; nothing was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Busy {
    /// Too many commands are waiting.
    Full,
    /// The engine's thread has ended.
    Gone,
}

/// Levels of the running training. They apply to the current run and are forgotten when it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControlRequest {
    /// Hold before the next optimizer step; answered by [`RunPhase::Paused`].
    Pause,
    /// Go on after a pause; answered by [`RunPhase::Training`].
    Resume,
    /// While paused: make one optimizer step, then hold again.
    Step,
    /// Write a checkpoint and end the run with this reason.
    Stop(String),
    /// Give up the question in work (evaluation, export, preview); answered by a `Cancelled` failure.
    CancelJob,
    /// Give up this download; answered by a `Cancelled` failure. What was fetched is kept for the next time.
    CancelDownload(RequestId),
}

/// What is being looked at; replaces the previous one as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watch {
    /// Send [`RoutingSnapshot`]s.
    pub routing: bool,
    /// Send [`ExpertSnapshot`]s with heat maps of this side of this site.
    pub experts: Option<(usize, Side)>,
}

/// What the window asks for. Each is answered by one [`Event::Done`] or [`Event::Failed`] with its `req`.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Read a model's configuration: [`Outcome::Model`].
    PreviewModel {
        /// The question's number.
        req: RequestId,
        /// Which model.
        model: ModelConfig,
    },
    /// Read and tokenize the data: [`Outcome::Data`], or [`Outcome::Texts`] where the task is text.
    PreviewData {
        /// The question's number.
        req: RequestId,
        /// Data and model settings.
        config: Box<RunConfig>,
    },
    /// Check whether a run can start, and what it will cost: [`Outcome::Preflight`].
    Preflight {
        /// The question's number.
        req: RequestId,
        /// All settings.
        config: Box<RunConfig>,
    },
    /// Train. Reports [`Event::RunStarted`] and [`Event::PhaseChanged`]; done with [`Outcome::RunEnded`].
    StartRun {
        /// The question's number.
        req: RequestId,
        /// The run's number in all its messages.
        run: RunId,
        /// All settings.
        config: Box<RunConfig>,
    },
    /// Go on with an interrupted or stopped run from its last checkpoint; otherwise as `StartRun`.
    ResumeRun {
        /// The question's number.
        req: RequestId,
        /// The run's number in all its messages.
        run: RunId,
        /// The run directory.
        dir: PathBuf,
    },
    /// Read a run directory, which another process may be writing: [`Outcome::Opened`].
    OpenRun {
        /// The question's number.
        req: RequestId,
        /// The run directory.
        dir: PathBuf,
    },
    /// List the runs: [`Outcome::Runs`].
    ListRuns {
        /// The question's number.
        req: RequestId,
        /// Directory that holds the runs; empty: the default one.
        runs_dir: String,
    },
    /// Remove a run directory for good: [`Outcome::Deleted`].
    DeleteRun {
        /// The question's number.
        req: RequestId,
        /// The run directory.
        dir: PathBuf,
    },
    /// Merged against random routes, fixed experts and ensemble: [`Outcome::Compared`].
    Compare {
        /// The question's number.
        req: RequestId,
        /// Whose weights.
        subject: Subject,
        /// Whole random routes measured.
        random_routes: usize,
    },
    /// Score the model merged with these weights: [`Outcome::Merged`].
    Merge {
        /// The question's number.
        req: RequestId,
        /// Whose weights.
        subject: Subject,
        /// How the experts are weighed.
        plan: MergePlan,
    },
    /// Write files, load them afresh and prove them: [`Outcome::Exported`].
    Export {
        /// The question's number.
        req: RequestId,
        /// Whose weights.
        subject: Subject,
        /// What and where.
        plan: ExportPlan,
    },
    /// Look into the experts once: [`Outcome::Experts`].
    Inspect {
        /// The question's number.
        req: RequestId,
        /// Whose weights.
        subject: Subject,
        /// Site whose heat maps are wanted.
        site: usize,
        /// Side whose heat maps are wanted.
        side: Side,
    },
    /// Something about models on disk, answered by a thread that never waits for training: [`Outcome::Store`].
    Store {
        /// The question's number.
        req: RequestId,
        /// What.
        ask: StoreAsk,
    },
    /// Let a language model write for the evaluation inputs, and score it: [`Outcome::Written`].
    Write {
        /// The question's number.
        req: RequestId,
        /// Whose weights.
        subject: Subject,
        /// Inputs, from the first on; 0: all.
        inputs: usize,
    },
    /// Let several ways of running a model answer one prompt: [`Outcome::Played`], and [`Incoming::Writing`] meanwhile.
    Play {
        /// The question's number.
        req: RequestId,
        /// Whose model.
        writer: Writer,
        /// What is asked.
        plan: Box<PlayPlan>,
    },
    /// Look into the experts by a longer computation: [`Outcome::Studied`].
    Study {
        /// The question's number.
        req: RequestId,
        /// Whose weights.
        subject: Subject,
        /// What is studied.
        study: Study,
    },
}

impl Command {
    /// The question's number.
    pub fn req(&self) -> RequestId {
        match self {
            Self::PreviewModel { req, .. }
            | Self::PreviewData { req, .. }
            | Self::Preflight { req, .. }
            | Self::StartRun { req, .. }
            | Self::ResumeRun { req, .. }
            | Self::OpenRun { req, .. }
            | Self::ListRuns { req, .. }
            | Self::DeleteRun { req, .. }
            | Self::Compare { req, .. }
            | Self::Merge { req, .. }
            | Self::Export { req, .. }
            | Self::Inspect { req, .. }
            | Self::Store { req, .. }
            | Self::Write { req, .. }
            | Self::Play { req, .. }
            | Self::Study { req, .. } => *req,
        }
    }
}

/// What happened. Rare (a few a second at most), ordered, never lost.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The engine is up; sent once, first.
    Ready {
        /// Compute device in words.
        device: String,
        /// CPU threads used for training.
        threads: usize,
    },
    /// A run is doing something else now.
    PhaseChanged {
        /// Which run.
        run: RunId,
        /// What it is doing.
        phase: RunPhase,
    },
    /// Model and data are loaded, the run directory exists, the first step is next.
    RunStarted {
        /// Which run.
        run: RunId,
        /// The run directory.
        dir: PathBuf,
        /// All settings, resolved.
        config: Box<RunConfig>,
        /// What is known at the start.
        start: Box<StartRecord>,
        /// The curves so far when the run was resumed; empty otherwise.
        history: Vec<StepBucket>,
        /// The evaluations so far when the run was resumed; empty otherwise.
        evals: Vec<EvalRecord>,
    },
    /// The merged model was measured.
    Evaluated {
        /// Which run.
        run: RunId,
        /// What came out.
        record: EvalRecord,
    },
    /// A language model answered its fixed inputs. Of a resumed run the earlier answers come first, right after its start.
    Sampled {
        /// Which run.
        run: RunId,
        /// The answers.
        record: SampleRecord,
    },
    /// Every trained tensor was checked (after steps 1, 3 and 10).
    Lamps {
        /// Which run.
        run: RunId,
        /// One verdict for each tensor and expert.
        lamps: Vec<Lamp>,
    },
    /// How far the experts are apart, taken every few dozen steps and at step 0.
    Distances {
        /// Which run.
        run: RunId,
        /// The sample.
        sample: DistanceSample,
    },
    /// A checkpoint is safely on disk.
    CheckpointWritten {
        /// Which run.
        run: RunId,
        /// Steps done.
        step: u64,
        /// Whether it is the best so far.
        best: bool,
    },
    /// The run is over.
    RunEnded {
        /// Which run.
        run: RunId,
        /// Why, and what it achieved.
        end: Box<EndRecord>,
    },
    /// A long question is under way.
    Progress {
        /// Which question.
        req: RequestId,
        /// What is being done, in words.
        what: String,
        /// Units done.
        done: u64,
        /// Units in all; 0: unknown.
        total: u64,
    },
    /// A download is under way.
    Downloading {
        /// Which question.
        req: RequestId,
        /// How far it is.
        progress: DownloadProgress,
    },
    /// A question is answered.
    Done {
        /// Which question.
        req: RequestId,
        /// The answer.
        outcome: Outcome,
    },
    /// A question could not be answered, or (without a number) the engine itself failed.
    Failed {
        /// Which question.
        req: Option<RequestId>,
        /// What went wrong.
        failure: Failure,
    },
    /// A line for the log.
    Log(LogLine),
}

/// The answer to a question.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// To `PreviewModel`.
    Model(Box<ModelInfo>),
    /// To `PreviewData`, of rows with labels.
    Data(Box<DataPreview>),
    /// To `PreviewData`, of texts for a language model.
    Texts(Box<TextPreview>),
    /// To `Preflight`.
    Preflight(Box<PreflightReport>),
    /// To `StartRun` and `ResumeRun`, after [`Event::RunEnded`].
    RunEnded(RunId),
    /// To `OpenRun`.
    Opened(Box<RunDetail>),
    /// To `ListRuns`, newest first.
    Runs(Vec<RunSummary>),
    /// To `DeleteRun`: the directory that is gone.
    Deleted(PathBuf),
    /// To `Compare`.
    Compared(Box<EvalReport>),
    /// To `Merge`.
    Merged(Box<MergeReport>),
    /// To `Export`, one for each target.
    Exported(Vec<ExportReport>),
    /// To `Inspect`.
    Experts(Box<ExpertSnapshot>),
    /// To `Store`.
    Store(Box<StoreAnswer>),
    /// To `Write`.
    Written(Box<WriteReport>),
    /// To `Play`.
    Played(Box<PlayReport>),
    /// To `Study`.
    Studied(Box<StudyReport>),
}

/// Everything that comes out of [`Engine::drain`].
#[derive(Clone, Debug, PartialEq)]
pub enum Incoming {
    /// From the lane that loses nothing.
    Event(Event),
    /// Training steps, oldest first.
    Steps {
        /// Which run.
        run: RunId,
        /// One bucket a step, or several steps in one when the window fell behind.
        buckets: Vec<StepBucket>,
    },
    /// The experts as they are now.
    Experts {
        /// Which run.
        run: RunId,
        /// Shared, never changed.
        snapshot: Arc<ExpertSnapshot>,
    },
    /// The routes as they are now.
    Routing {
        /// Which run.
        run: RunId,
        /// Shared, never changed.
        snapshot: Arc<RoutingSnapshot>,
    },
    /// Answers as far as they are written.
    Writing {
        /// Which question.
        req: RequestId,
        /// One text for each pane.
        texts: Vec<String>,
    },
    /// Where the time of the last steps went.
    Profile {
        /// Which run.
        run: RunId,
        /// The mean over the steps since the last one.
        profile: StepProfile,
    },
}
