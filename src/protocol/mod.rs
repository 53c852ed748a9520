//! The messages between window and engine: plain host data without tensors, threads or egui.
//!
//! | channel | direction | when it is full |
//! |---|---|---|
//! | [`Command`] | window to engine, [`Engine::try_send`] | refused with [`Busy`]; the window shows it |
//! | [`ControlRequest`], [`Watch`] | window to engine, current values | cannot be full |
//! | [`Event`] | engine to window, ordered | never lost: they wait in the engine |
//! | [`StepBucket`] | engine to window, every step | neighbours are merged; minima and maxima are kept |
//! | snapshots | engine to window, while watched | overwritten by newer ones |
//! | [`StepProfile`] | engine to window, a few times a second | overwritten by newer ones |
//! | [`Incoming::Writing`] | engine to window, while texts are generated | overwritten by newer ones |
//!
//! Every message carries its [`RunId`] or [`RequestId`], which the window chooses, counting up from 1. The window shows the
//! [`RunPhase`] the engine reported, never the one it asked for. The complete record is the run directory.

pub mod events;
pub mod loading;
pub mod machine_sample;
pub mod model_store;
pub mod playground;
pub mod questions;
pub mod record;
pub mod reweigh;
pub mod routes;
pub mod snapshots;
pub mod step_profile;
pub mod studies;
pub mod try_it;
pub mod written_texts;

use serde::{Deserialize, Serialize};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

pub use crate::artifact::capsule::{Capsule, Environment};
pub use crate::artifact::certificate::{Certificate, ProbeResult, TensorCheck};
pub use crate::artifact::export::{ExportTarget, Recipe};
pub use crate::artifact::named_merges::NamedMerge;
pub use crate::artifact::queue::{QueueEntry, QueueState};
pub use crate::data::SkippedRow;
pub use crate::data::columns::{ColumnFacts, Columns};
pub use crate::data::preview::{DataPreview, Lengths, SampleRow, SplitPreview};
pub use crate::data::text::preview::{SampleText, SampleToken, TextPreview, TextSplit};
pub use crate::error::ErrorKind;
pub use crate::eval::text_metrics::{TextScores, UndefinedScore};
pub use crate::eval::{Band, EvalReport, MergedWith, Scores};
pub use crate::mixture::{SIDES, Side};
pub use crate::nn::profile::{PHASES, Phase};
pub use crate::protocol::events::*;
pub use crate::protocol::machine_sample::MachineSample;
pub use crate::protocol::model_store::*;
pub use crate::protocol::playground::*;
pub use crate::protocol::questions::*;
pub use crate::protocol::record::RecordPlan;
pub use crate::protocol::reweigh::*;
pub use crate::protocol::routes::*;
pub use crate::protocol::snapshots::*;
pub use crate::protocol::step_profile::StepProfile;
pub use crate::protocol::studies::*;
pub use crate::protocol::try_it::*;
pub use crate::protocol::written_texts::*;
pub use crate::records::decimation;
pub use crate::records::{
    EndReason, EndRecord, EvalRecord, HealthState, Quantity, Sample, SampleRecord, StartRecord, StepRecord,
    TensorHealth,
};
pub use crate::tensor::NumberFormat;
pub use crate::tensor::hash::FileHash;

use crate::config::{FileFormat, LawChange, ModelConfig, RoutingLaw, RunConfig};
use crate::figure::Table;

/// Number of a command; its answer carries the same number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RequestId(pub u64);

/// Number of a training run of this process; later runs have larger numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RunId(pub u64);

/// Called by the engine when a channel is filled; wakes the window.
pub type Waker = Arc<dyn Fn() + Send + Sync>;

/// Creates the engine with the waker of the window.
pub type EngineFactory = Box<dyn FnOnce(Waker) -> crate::error::Result<Box<dyn Engine>> + Send>;

/// The engine as the window uses it.
pub trait Engine {
    /// Sends a command with its number; never blocks.
    fn try_send(&self, req: RequestId, command: Command) -> Result<(), Busy>;
    /// Sets a flag that the training thread reads between micro-batches and during long evaluations.
    fn control(&self, request: ControlRequest);
    /// Sets which snapshots are visible; the others are not made.
    fn watch(&self, watch: Watch);
    /// Passes all waiting messages to `sink` in the order events, steps, snapshots, until `sink` breaks. Returns whether some are left.
    fn drain(&mut self, sink: &mut dyn FnMut(Incoming) -> ControlFlow<()>) -> bool;
}

/// The command channel is full or the engine is gone; nothing was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Busy {
    /// Too many commands are waiting.
    Full,
    /// The engine's thread has ended.
    Gone,
}

/// Requests to the run in training. They apply to the current run and are discarded when it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControlRequest {
    /// Pause before the next optimizer step; answered by [`RunPhase::Paused`].
    Pause,
    /// Continue after a pause; answered by [`RunPhase::Training`].
    Resume,
    /// While paused: make one optimizer step, then pause again.
    Step,
    /// Write a checkpoint and end the run with this reason.
    Stop(String),
    /// Make at most this many optimizer steps a second, from the next one on; 0: as many as possible. The weights are the
    /// same bits at any pace.
    Pace(u32),
    /// Draw by this law from the next optimizer step on; answered by [`Event::LawChanged`] before that step.
    Law(RoutingLaw),
    /// Cancel the query in progress (evaluation, export, preview); answered by a `Cancelled` failure.
    CancelJob,
    /// Cancel this download; answered by a `Cancelled` failure. What was downloaded is kept for the next time.
    CancelDownload(RequestId),
}

/// The visible snapshots; replaces the previous value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watch {
    /// Send [`RoutingSnapshot`]s.
    pub routing: bool,
    /// Send [`ExpertSnapshot`]s with heat maps of this side of this adapted module (by index).
    pub experts: Option<(usize, Side)>,
    /// Send a [`MachineSample`] once a second.
    pub machine: bool,
}

/// A command of the window, answered by one [`Event::Done`] or [`Event::Failed`] with its [`RequestId`].
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Read a model's configuration: [`Outcome::Model`].
    PreviewModel(ModelConfig),
    /// Read and tokenize the data of these settings: [`Outcome::Data`], or [`Outcome::Texts`] where the task is text.
    PreviewData(Box<RunConfig>),
    /// Look at the columns of a table: [`Outcome::Columns`].
    ReadColumns {
        /// The file.
        path: PathBuf,
        /// How it is laid out.
        format: FileFormat,
        /// Whether its first line names the columns; absent: the file decides.
        header: Option<bool>,
    },
    /// Check whether a run with these settings can start, with its time and memory: [`Outcome::Preflight`].
    Preflight(Box<RunConfig>),
    /// Train. Reports [`Event::RunStarted`] and [`Event::PhaseChanged`]; done with [`Outcome::RunEnded`].
    StartRun {
        /// The run's number in all its messages.
        run: RunId,
        /// All settings.
        config: Box<RunConfig>,
    },
    /// Resume an interrupted or stopped run from its last checkpoint; otherwise as `StartRun`.
    ResumeRun {
        /// The run's number in all its messages.
        run: RunId,
        /// The run directory.
        dir: PathBuf,
    },
    /// Train a new run that goes on from a checkpoint of another one with these settings; otherwise as `StartRun`.
    BranchRun {
        /// The run's number in all its messages.
        run: RunId,
        /// The directory of the other run.
        parent: PathBuf,
        /// Its checkpoint.
        checkpoint: Checkpoint,
        /// All settings.
        config: Box<RunConfig>,
    },
    /// Train what waits first in the queue; otherwise as `StartRun`. Where nothing waits it is answered by a `Cancelled`
    /// failure.
    StartQueued {
        /// The run's number in all its messages.
        run: RunId,
    },
    /// Look at the queue or change it: [`Outcome::Queue`].
    Queue(QueueAsk),
    /// Write a run into one file: [`Outcome::CapsuleSaved`].
    SaveCapsule {
        /// The run directory.
        dir: PathBuf,
        /// The file; absent: beside the run directory, under its name.
        file: Option<PathBuf>,
    },
    /// Read a run directory, which another process may be writing, or a capsule: [`Outcome::Opened`].
    OpenRun(PathBuf),
    /// List the runs: [`Outcome::Runs`]. The directory that holds them; empty: the default one.
    ListRuns(String),
    /// Write what people call a run and wrote about it: [`Outcome::Labelled`].
    LabelRun {
        /// The run directory.
        dir: PathBuf,
        /// Replaces the old one; an empty one removes it.
        label: Box<RunLabel>,
    },
    /// Give a merge of a run a name, or remove the name: [`Outcome::NamedMerges`].
    NameMerge {
        /// The run directory.
        dir: PathBuf,
        /// The name.
        name: String,
        /// The merge; absent: the name is removed.
        merge: Option<MergePlan>,
    },
    /// Write a run's report as one HTML file: [`Outcome::Reported`].
    Report {
        /// The run directory.
        dir: PathBuf,
        /// The file.
        to: PathBuf,
    },
    /// Permanently remove a run directory: [`Outcome::Deleted`].
    DeleteRun(PathBuf),
    /// Read a part of the records of some runs, with every digit: [`Outcome::Record`].
    ReadRecord(RecordPlan),
    /// Read the draws of a run step by step, or compute from them, beside whatever else is computed: [`Outcome::Routes`].
    Routes(RoutesAsk),
    /// A query about the weights of a model.
    Query {
        /// Whose weights.
        subject: Subject,
        /// What.
        query: ModelQuery,
    },
    /// A query about models on disk, answered by the model-store thread: [`Outcome::Store`].
    Store(StoreAsk),
    /// Answer one prompt with several variants of a model: [`Outcome::Played`], and [`Incoming::Writing`] meanwhile.
    Play {
        /// The model.
        writer: Writer,
        /// A prompt with its settings.
        plan: Box<PlayPlan>,
    },
    /// Read how this model is asked, without its weights: [`Outcome::Prompts`].
    Prompts(Writer),
}

impl Command {
    /// Whether this is one of the queries of which only the newest is answered.
    pub fn is_try(&self) -> bool {
        let query = if let Self::Query { query, .. } = self { Some(query) } else { None };
        matches!(query, Some(ModelQuery::Try(_) | ModelQuery::TryWords(_) | ModelQuery::Reweigh(_)))
    }
}

/// A look at the queue of runs, or a change. All are answered by the whole queue.
#[derive(Clone, Debug, PartialEq)]
pub enum QueueAsk {
    /// Only look.
    List,
    /// Add a run with these settings at the end.
    Add(Box<RunConfig>),
    /// Remove the entry with this number.
    Remove(u64),
    /// Move the entry with this number to a place, counted from 0.
    Move(u64, usize),
    /// Let an entry that could not start wait again.
    Retry(u64),
}

/// A query about the weights of a [`Subject`].
#[derive(Clone, Debug, PartialEq)]
pub enum ModelQuery {
    /// Merged model against random routes, single experts and ensemble: [`Outcome::Compared`].
    Compare {
        /// Number of random routes.
        random_routes: usize,
    },
    /// Score the model merged with these weights of the experts: [`Outcome::Merged`].
    Merge(MergePlan),
    /// Write files, read them back and verify them: [`Outcome::Exported`].
    Export(ExportPlan),
    /// One snapshot of the experts: [`Outcome::Experts`].
    Inspect {
        /// Index of the adapted module whose heat maps are made.
        site: usize,
        /// Side whose heat maps are made.
        side: Side,
    },
    /// Generate texts for the evaluation inputs and score them: [`Outcome::Written`].
    Write {
        /// Inputs, from the first on; 0: all.
        inputs: usize,
    },
    /// A study of the experts: [`Outcome::Studied`].
    Study(Study),
    /// Read one text with every way of running a classifier: [`Outcome::Tried`]. A newer [`ModelQuery::Try`] or
    /// [`ModelQuery::TryWords`] ends it with a `Cancelled` failure.
    Try(TryPlan),
    /// Leave out each word of a text before the merged classifier: [`Outcome::TriedWords`]. Ended as above.
    TryWords(TryInput),
    /// Score a pinned probe set under dragged weights: [`Outcome::Reweighed`]. Ended as above.
    Reweigh(ReweighPlan),
}

/// An event: at most a few per second, ordered, never lost.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The engine has started; sent once, first.
    Ready {
        /// Name of the compute device.
        device: String,
        /// CPU threads used for training.
        threads: usize,
    },
    /// The phase of a run has changed.
    PhaseChanged(RunId, RunPhase),
    /// Model and data are loaded, the run directory exists, the first step follows.
    RunStarted {
        /// Which run.
        run: RunId,
        /// The run directory.
        dir: PathBuf,
        /// All settings, resolved.
        config: Box<RunConfig>,
        /// The record at the start.
        start: Box<StartRecord>,
        /// The curves so far when the run was resumed; empty otherwise.
        history: Vec<StepBucket>,
        /// The evaluations so far when the run was resumed; empty otherwise.
        evals: Vec<EvalRecord>,
    },
    /// A resumed run was resumed before too: after these steps, right after its start.
    ResumedBefore(RunId, Vec<u64>),
    /// The law of routing is another one from this step on, planned or asked for. A resumed run sends the earlier changes right
    /// after its start.
    LawChanged(RunId, LawChange),
    /// An evaluation goes on; a few times a second.
    Evaluating(RunId, EvalProgress),
    /// The merged model was evaluated.
    Evaluated(RunId, EvalRecord),
    /// A language model answered its fixed inputs. A resumed run sends the earlier answers right after its start.
    Sampled(RunId, SampleRecord),
    /// Every trained tensor was checked (after steps 1, 3 and 10): one verdict for each tensor and expert.
    GradientHealth(RunId, Vec<TensorHealth>),
    /// Distances between the experts, at step 0 and every few dozen steps.
    Distances(RunId, DistanceSample),
    /// A checkpoint was written.
    CheckpointWritten {
        /// Which run.
        run: RunId,
        /// Steps done.
        step: u64,
        /// Whether it is the best so far.
        best: bool,
    },
    /// The checkpoints that a run has now: after a resume, and after each one written.
    Checkpoints(RunId, Checkpoints),
    /// The run has ended: reason and results.
    RunEnded(RunId, Box<EndRecord>),
    /// Progress of a long query.
    Progress {
        /// Number of the command.
        req: RequestId,
        /// What is being done.
        what: String,
        /// Units done.
        done: u64,
        /// Units in all; 0: unknown.
        total: u64,
    },
    /// The weights that a query is computed from; sent before its answer.
    Weights(RequestId, WeightsOf),
    /// Progress of a download.
    Downloading(RequestId, DownloadProgress),
    /// A command is answered.
    Done(RequestId, Outcome),
    /// A command failed, or (without a number) the engine itself.
    Failed(Option<RequestId>, Failure),
    /// A log line.
    Log(LogLine),
}

/// The answer to a command.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// To `PreviewModel`.
    Model(Box<ModelInfo>),
    /// To `PreviewData`, of rows with labels.
    Data(Box<DataPreview>),
    /// To `PreviewData`, of texts for a language model.
    Texts(Box<TextPreview>),
    /// To `ReadColumns`.
    Columns(Box<Columns>),
    /// To `Preflight`.
    Preflight(Box<PreflightReport>),
    /// To `StartRun` and `ResumeRun`, after [`Event::RunEnded`].
    RunEnded(RunId),
    /// To `OpenRun`.
    Opened(Box<RunDetail>),
    /// To `ListRuns`, newest first.
    Runs(Vec<RunSummary>),
    /// To `Queue`.
    Queue(QueueState),
    /// To `SaveCapsule`: the file, and what it holds.
    CapsuleSaved(PathBuf, Box<Capsule>),
    /// To `LabelRun`: the run and its new label.
    Labelled(PathBuf, Box<RunLabel>),
    /// To `NameMerge`: the run and all its named merges.
    NamedMerges(PathBuf, Vec<NamedMerge>),
    /// To `Report`: the file.
    Reported(PathBuf),
    /// To `DeleteRun`: the removed directory.
    Deleted(PathBuf),
    /// To `ReadRecord`.
    Record(Table),
    /// To `Routes`.
    Routes(Box<RoutesAnswer>),
    /// To [`ModelQuery::Compare`].
    Compared(Box<EvalReport>),
    /// To [`ModelQuery::Merge`].
    Merged(Box<MergeReport>),
    /// To [`ModelQuery::Export`], one for each target.
    Exported(Vec<ExportReport>),
    /// To [`ModelQuery::Inspect`].
    Experts(Box<ExpertSnapshot>),
    /// To `Store`.
    Store(Box<StoreAnswer>),
    /// To [`ModelQuery::Write`].
    Written(Box<WriteReport>),
    /// To `Prompts`.
    Prompts(Box<PromptInfo>),
    /// To `Play`.
    Played(Box<PlayReport>),
    /// To [`ModelQuery::Study`].
    Studied(Box<StudyReport>),
    /// To [`ModelQuery::Try`].
    Tried(Box<TryReport>),
    /// To [`ModelQuery::Reweigh`].
    Reweighed(Box<ReweighReport>),
    /// To [`ModelQuery::TryWords`].
    TriedWords(Box<WordsReport>),
}

/// A message of [`Engine::drain`].
#[derive(Clone, Debug, PartialEq)]
pub enum Incoming {
    /// From the event channel.
    Event(Event),
    /// Training steps, oldest first: one bucket per step, or several steps in one when the window is slower than the training.
    Steps(RunId, Vec<StepBucket>),
    /// The current experts.
    Experts(RunId, Arc<ExpertSnapshot>),
    /// The current routes.
    Routing(RunId, Arc<RoutingSnapshot>),
    /// Answers as far as they are generated, one text per pane.
    Writing(RequestId, Vec<String>),
    /// Time by phase: the mean over the steps since the last one.
    Profile(RunId, StepProfile),
    /// How busy the computer is now.
    Machine(MachineSample),
}
