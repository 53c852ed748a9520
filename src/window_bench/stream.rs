//! An engine that streams a run of invented numbers to the window, at the largest rates that the protocol means, and
//! answers what the measurement asks.

use super::FRAME;
use crate::analysis::expert_stats::{CosineOf, ExpertStats, HISTOGRAM_BINS, SideSnapshot};
use crate::analysis::heat_map::HeatMap;
use crate::analysis::routing_stats::RouteCounts;
use crate::config::{MixtureConfig, RunConfig};
use crate::machine::facts;
use crate::protocol::decimation::Decimated;
use crate::protocol::*;
use parking_lot::Mutex;
use std::cell::Cell;
use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Events in a second.
pub(super) const EVENTS_PER_S: f64 = 200.0;
/// Training steps in a second.
const STEPS_PER_S: f64 = 200.0;
/// Frames between two snapshots of routes and experts: half a second.
const SNAPSHOT_EVERY: u64 = 30;
/// Frames between two profiles.
const PROFILE_EVERY: u64 = 15;
/// Most buckets of a curve, as a run read from disk has.
const CURVE: usize = 4096;
/// Adapted modules, as many as RoBERTa-large has layers.
const SITES: usize = 24;
/// Layers and experts of the recorded draws, and steps of a part of them.
const DRAWN: (usize, usize) = (48, 8);
const PART: u64 = 4096;

struct State {
    /// Points behind every curve.
    points: u64,
    /// Runs in the list.
    runs: usize,
    live: Option<(RunId, RunConfig, RouteCounts)>,
    step: u64,
    frame: u64,
    /// Events and steps that are due but not whole yet.
    due: [f64; 2],
    sent: u64,
    /// Steps whose draws were read.
    read: u64,
    watch: Watch,
    queue: VecDeque<Incoming>,
}

/// The engine. Every call of [`Engine::drain`] is taken for a frame.
pub(super) struct StreamingEngine(Mutex<State>);

impl StreamingEngine {
    pub(super) fn new(points: u64, runs: usize) -> Self {
        let ready = Event::Ready { device: "CPU".to_owned(), threads: 1 };
        Self(Mutex::new(State {
            points,
            runs,
            live: None,
            step: points,
            frame: 0,
            due: [0.0; 2],
            sent: 0,
            read: 0,
            watch: Watch::default(),
            queue: VecDeque::from([Incoming::Event(ready)]),
        }))
    }
}

thread_local! {
    static WORKED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// Processor time that stand-ins for the engine have taken on this thread: what has threads of its own in a real engine.
pub(super) fn worked_time() -> Duration {
    WORKED.get()
}

fn worked(work: impl FnOnce()) {
    let before = facts::thread_time();
    work();
    let spent = facts::thread_time().zip(before).map_or(Duration::ZERO, |(now, before)| now.saturating_sub(before));
    WORKED.set(WORKED.get() + spent);
}

impl Engine for StreamingEngine {
    fn try_send(&self, req: RequestId, command: Command) -> Result<(), Busy> {
        worked(|| self.0.lock().answer(req, command));
        Ok(())
    }

    fn control(&self, _request: ControlRequest) {}

    fn watch(&self, watch: Watch) {
        self.0.lock().watch = watch;
    }

    fn drain(&mut self, sink: &mut dyn FnMut(Incoming) -> ControlFlow<()>) -> bool {
        let state = self.0.get_mut();
        worked(|| state.advance());
        while let Some(message) = state.queue.pop_front() {
            if sink(message).is_break() {
                break;
            }
        }
        !state.queue.is_empty()
    }
}

impl State {
    fn event(&mut self, event: Event) {
        self.queue.push_back(Incoming::Event(event));
    }

    fn answer(&mut self, req: RequestId, command: Command) {
        let outcome = match command {
            Command::StartRun { run, config } => return self.start(run, *config),
            Command::ListRuns(_) => Outcome::Runs((0..self.runs).map(|n| self.summary(&run_dir(n))).collect()),
            Command::OpenRun(dir) => Outcome::Opened(Box::new(self.detail(&dir))),
            Command::PreviewModel(_) => Outcome::Model(Box::default()),
            Command::PreviewData(_) => Outcome::Data(Box::default()),
            Command::Preflight(_) => Outcome::Preflight(Box::default()),
            Command::Query { query: ModelQuery::Compare { random_routes }, .. } => {
                Outcome::Compared(Box::new(report(random_routes)))
            }
            Command::Routes(ask) => Outcome::Routes(Box::new(self.routes(ask))),
            Command::Store(StoreAsk::List) => Outcome::Store(Box::new(StoreAnswer::Cached(CacheInfo::default()))),
            _ => {
                let failure = Failure { kind: ErrorKind::Cancelled, message: "not answered".to_owned() };
                return self.event(Event::Failed(Some(req), failure));
            }
        };
        self.event(Event::Done(req, outcome));
    }

    fn start(&mut self, run: RunId, config: RunConfig) {
        self.event(Event::PhaseChanged(run, RunPhase::Preparing));
        self.event(Event::RunStarted {
            run,
            dir: PathBuf::from("runs/live"),
            config: Box::new(config.clone()),
            start: Box::new(start_record(self.points)),
            history: history(self.points, 0),
            evals: (1..=100).map(|n| evaluation(n * self.points / 100, self.points)).collect(),
        });
        self.event(Event::PhaseChanged(run, RunPhase::Training));
        let counts = RouteCounts::new(&config.mixture, sites());
        self.live = Some((run, config, counts));
    }

    /// The next part of the draws of a large model.
    fn routes(&mut self, ask: RoutesAsk) -> RoutesAnswer {
        let plan = match ask {
            RoutesAsk::Read(plan) => plan,
            RoutesAsk::Fit { timeline, after } => {
                return RoutesAnswer::Fit(RouteFit { after, until: timeline.last(), ..RouteFit::default() });
            }
        };
        let mixture = MixtureConfig { num_experts: DRAWN.1, sharing_up: false, ..MixtureConfig::default() };
        let sites = (0..DRAWN.0).map(|layer| format!("layers.{layer}.ffn")).collect();
        let layout = plan.layout.unwrap_or_else(|| {
            self.read = 0;
            Layout::of(&mixture, sites, 1)
        });
        let mut rows = StepRows::default();
        let until = (self.read + PART).min(self.step);
        for step in self.read + 1..=until {
            let cells = layout.passes * DRAWN.0 * 2;
            let pick = |cell: usize| {
                crate::records::Pick::One((unit(step * 257 + cell as u64) * DRAWN.1 as f32) as u8 % DRAWN.1 as u8)
            };
            let route =
                crate::records::Route { passes: layout.passes, sites: DRAWN.0, picks: (0..cells).map(pick).collect() };
            let StepSample { loss, task_loss, consistency_loss, .. } = sample(step, 2 * self.points, 0);
            let record = StepRecord {
                step,
                epoch: 0.0,
                loss: loss.into(),
                task_loss: task_loss.into(),
                consistency_loss: consistency_loss.into(),
                learning_rate: 0.0,
                grad_norm: 0.0,
                tokens: 0,
                seconds: 0.0,
                routes: vec![route],
            };
            // A route of this layout is never refused.
            rows.push(&layout, &record).ok();
        }
        self.read = until;
        let more = until < self.step;
        RoutesAnswer::Part(RoutesPart { dir: plan.dir, layout, rows, more, share: 1.0, ..RoutesPart::default() })
    }

    fn summary(&self, dir: &Path) -> RunSummary {
        RunSummary {
            dir: dir.to_owned(),
            name: dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
            status: RunStatus::Finished,
            model: "roberta-large".to_owned(),
            task: "sst2".to_owned(),
            method: "adamix".to_owned(),
            created: 1_790_000_000,
            step: self.points,
            total_steps: self.points,
            metric: "accuracy".to_owned(),
            best: Some(0.9),
            ..RunSummary::default()
        }
    }

    fn detail(&self, dir: &Path) -> RunDetail {
        let summary = self.summary(dir);
        let seed = summary.name.bytes().map(u64::from).sum();
        RunDetail {
            summary,
            start: start_record(self.points),
            history: history(self.points, seed),
            evals: (1..=100).map(|n| evaluation(n * self.points / 100, self.points)).collect(),
            ..RunDetail::default()
        }
    }

    /// What happens in a frame.
    fn advance(&mut self) {
        let Some((run, config, mut counts)) = self.live.take() else { return };
        self.frame += 1;
        self.due = [self.due[0] + EVENTS_PER_S * FRAME, self.due[1] + STEPS_PER_S * FRAME];
        let [events, steps] = self.due.map(|due| due as u64);
        self.due = [self.due[0].fract(), self.due[1].fract()];
        let first = self.step + 1;
        self.step += steps;
        let samples: Vec<StepBucket> =
            (first..=self.step).map(|step| StepBucket::of(sample(step, 2 * self.points, 0))).collect();
        for step in first..=self.step {
            counts.add(step, &route(step, &config));
        }
        for _ in 0..events {
            self.sent += 1;
            let event = self.streamed(run);
            self.event(event);
        }
        self.queue.push_back(Incoming::Steps(run, samples));
        if self.frame.is_multiple_of(SNAPSHOT_EVERY) {
            if let Some(focus) = self.watch.experts {
                let snapshot = Arc::new(experts(self.step, focus, &config));
                self.queue.push_back(Incoming::Experts(run, snapshot));
            }
            if self.watch.routing {
                self.queue.push_back(Incoming::Routing(run, Arc::new(counts.snapshot())));
            }
        }
        if self.frame.is_multiple_of(PROFILE_EVERY) {
            let mut profile = StepProfile { step: self.step, steps: 50, ..StepProfile::default() };
            profile.seconds.iter_mut().enumerate().for_each(|(i, s)| *s = 1e-3 * (1.0 + unit(self.frame + i as u64)));
            self.queue.push_back(Incoming::Profile(run, profile));
        }
        self.live = Some((run, config, counts));
    }

    /// The next event of the stream: mostly lines of the log, and all others now and then.
    fn streamed(&self, run: RunId) -> Event {
        match self.sent % 20 {
            0 => Event::Evaluated(run, evaluation(self.step, 2 * self.points)),
            5 => Event::Distances(run, distances(self.step)),
            10 => Event::CheckpointWritten { run, step: self.step, best: false },
            15 => Event::GradientHealth(run, health(self.step)),
            _ => Event::Log(LogLine { level: LogLevel::Info, text: format!("step {}: all is well", self.step) }),
        }
    }
}

fn run_dir(n: usize) -> PathBuf {
    PathBuf::from(format!("runs/run-{n}"))
}

fn sites() -> Vec<String> {
    (0..SITES).map(|layer| format!("layers.{layer}.ffn")).collect()
}

/// A number in [0, 1) that looks random and is the same every time.
fn unit(seed: u64) -> f32 {
    let mut x = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    ((x ^ (x >> 31)) >> 40) as f32 / (1u64 << 24) as f32
}

fn sample(step: u64, total: u64, seed: u64) -> StepSample {
    let progress = step as f32 / total.max(1) as f32;
    let task_loss = 0.25 + 0.45 * (-4.0 * progress).exp() + 0.2 * (unit(step ^ seed << 40) - 0.5);
    let consistency_loss = 0.04 * (0.5 + unit(step ^ 0xC0));
    StepSample {
        step,
        epoch: step as f32 / 1000.0,
        loss: task_loss + consistency_loss,
        task_loss,
        consistency_loss,
        learning_rate: 1e-3 * (1.0 - progress),
        grad_norm: 0.6 + 0.8 * unit(step ^ 0xFF),
        tokens: 1400 + (400.0 * unit(step ^ 0x70)) as u32,
        seconds: 0.005,
    }
}

/// The curve of a run as it is read from disk.
fn history(points: u64, seed: u64) -> Vec<StepBucket> {
    let mut curve = Decimated::new(CURVE);
    (1..=points).for_each(|step| curve.push(StepBucket::of(sample(step, points, seed))));
    curve.take()
}

fn start_record(points: u64) -> StartRecord {
    StartRecord {
        total_steps: 2 * points,
        steps_per_epoch: 1000.0,
        sites: sites(),
        experts: [4, 4],
        labels: vec!["negative".to_owned(), "positive".to_owned()],
        metric: "accuracy".to_owned(),
        higher_is_better: true,
        ..StartRecord::default()
    }
}

fn scores(accuracy: f64) -> Scores {
    Scores { loss: 1.1 - accuracy, accuracy: Some(accuracy), primary: accuracy, ..Scores::default() }
}

fn evaluation(step: u64, total: u64) -> EvalRecord {
    let progress = step as f64 / total.max(1) as f64;
    let merged = scores(0.5 + 0.4 * progress + 0.02 * f64::from(unit(step)));
    EvalRecord { step, epoch: step as f64 / 1000.0, merged, best: false, seconds: 1.0 }
}

fn report(random_routes: usize) -> EvalReport {
    let some = |n: usize, seed: u64| (0..n as u64).map(|i| scores(0.8 + 0.02 * f64::from(unit(seed + i)))).collect();
    EvalReport {
        metric: "accuracy".to_owned(),
        higher_is_better: true,
        rows: 872,
        merged: scores(0.83),
        merged_with: Some(MergedWith::UniformWeights),
        random: some(random_routes, 1),
        fixed: some(4, 100),
        ensemble: scores(0.82),
        majority: 0.51,
        ..EvalReport::default()
    }
}

fn health(step: u64) -> Vec<TensorHealth> {
    let tensors = sites().into_iter().flat_map(|site| (0..4).map(move |expert| (site.clone(), expert)));
    let check = |(site, expert): (String, usize)| TensorHealth {
        tensor: format!("{site}.down.weight"),
        expert: Some(expert),
        step,
        max_abs_grad: 0.01,
        update_ratio: 0.002,
        state: HealthState::Learning,
    };
    tensors.map(check).collect()
}

fn distances(step: u64) -> DistanceSample {
    let grow = (step as f32).sqrt() * 1e-2;
    let values = |base: f32| (0..2 * SITES).map(|i| base + grow * (0.7 + 0.6 * unit(i as u64))).collect();
    let consensus = (0..2 * SITES).map(|i| (i % 2 == 0).then(|| 0.5 + 0.3 * f64::from(unit(i as u64)))).collect();
    DistanceSample { step, pairwise: values(1.0), from_start: values(0.0), consensus }
}

fn route(step: u64, config: &RunConfig) -> crate::records::Route {
    let experts = [config.mixture.down_experts(), config.mixture.up_experts()];
    let passes = if config.mixture.consistency { 2 } else { 1 };
    let pick = |cell: usize| {
        let drawn = (unit(step * 257 + cell as u64) * experts[cell % 2] as f32) as usize;
        crate::records::Pick::One(drawn.min(experts[cell % 2].saturating_sub(1)) as u8)
    };
    crate::records::Route { passes, sites: SITES, picks: (0..passes * SITES * 2).map(pick).collect() }
}

fn experts(step: u64, focus: (usize, Side), config: &RunConfig) -> ExpertSnapshot {
    let counts = [config.mixture.down_experts(), config.mixture.up_experts()];
    let stats = |seed: u64| ExpertStats {
        norm: 1.0 + unit(seed ^ step),
        bias_norm: 0.1,
        mean: 0.0,
        std: 0.02,
        max_abs: 0.09,
        from_start: 0.5 + unit(seed),
        from_mean: 0.3 + unit(seed + 1),
        histogram: (0..HISTOGRAM_BINS).map(|bin| (160.0 * unit(seed + bin as u64)) as u32).collect(),
    };
    let side = |cell: usize| {
        let n = counts[cell % 2];
        SideSnapshot {
            rows: 16,
            cols: 1024,
            range: [-0.09, 0.09],
            experts: (0..n).map(|e| stats((cell * 8 + e) as u64)).collect(),
            cosine_of: CosineOf::Change,
            cosine: (0..n * n).map(|k| if k / n == k % n { 1.0 } else { 0.2 + 0.1 * unit(k as u64) }).collect(),
            distance: (0..n * n).map(|k| if k / n == k % n { 0.0 } else { 1.0 + unit(k as u64) }).collect(),
            consensus: (n > 1).then(|| 0.5 + 0.3 * f64::from(unit(cell as u64))),
        }
    };
    let sides: Vec<SideSnapshot> = (0..2 * SITES).map(side).collect();
    let shown = counts[focus.1 as usize];
    let cells = |e: usize| -> Vec<f32> {
        (0..16 * 128).map(|i| 0.18 * (unit((i * 8 + e) as u64 ^ step << 20) - 0.5)).collect()
    };
    let (mean, start) = (cells(100), cells(101));
    let heat_maps = (0..shown).map(|e| HeatMap::of(&cells(e), &mean, &start, 16, 128)).collect();
    let focus = (focus.0.min(SITES - 1), Some(focus.1));
    ExpertSnapshot { step, sites: sites(), sides, focus, heat_maps, directions: None }
}
