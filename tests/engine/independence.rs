//! Engine and window never wait for each other, and nothing that matters is lost between them.

use crate::support::place::Place;
use adamix::config::{Method, RunConfig};
use adamix::engine::EngineHandle;
use adamix::engine::protocol::*;
use parking_lot::{Condvar, Mutex};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// Longer than anything here takes on the slowest machine: a test that reaches it has failed.
const FOREVER: Duration = Duration::from_secs(120);

/// A window without a picture.
struct Window {
    engine: EngineHandle,
    bell: Arc<(Mutex<usize>, Condvar)>,
    events: Vec<Event>,
    steps: Vec<StepBucket>,
    routing: Vec<(RunId, Arc<RoutingSnapshot>)>,
    experts: Vec<(RunId, Arc<ExpertSnapshot>)>,
    profiles: Vec<(RunId, StepProfile)>,
    next: u64,
}

impl Window {
    fn open() -> Self {
        Self::open_with(|| {})
    }

    /// `ring` is called on the engine's thread whenever it wakes the window.
    fn open_with(ring: impl Fn() + Send + Sync + 'static) -> Self {
        let bell: Arc<(Mutex<usize>, Condvar)> = Arc::default();
        let rung = bell.clone();
        let waker: Waker = Arc::new(move || {
            *rung.0.lock() += 1;
            rung.1.notify_all();
            ring();
        });
        let engine = EngineHandle::spawn(waker).unwrap();
        let (events, steps, routing, experts, profiles) = Default::default();
        Self { engine, bell, events, steps, routing, experts, profiles, next: 0 }
    }

    fn req(&mut self) -> RequestId {
        self.next += 1;
        RequestId(self.next)
    }

    fn send(&mut self, command: impl FnOnce(RequestId) -> Command) -> RequestId {
        let req = self.req();
        self.engine.try_send(command(req)).unwrap();
        req
    }

    fn start(&mut self, config: &RunConfig) -> RequestId {
        let config = Box::new(config.clone());
        self.send(|req| Command::StartRun { req, run: RunId(req.0), config })
    }

    /// Takes in everything that waits.
    fn drain(&mut self) {
        let Self { engine, events, steps, routing, experts, profiles, .. } = self;
        while engine.drain(&mut |incoming| {
            match incoming {
                Incoming::Event(event) => events.push(event),
                Incoming::Steps { buckets, .. } => steps.extend(buckets),
                Incoming::Routing { run, snapshot } => routing.push((run, snapshot)),
                Incoming::Experts { run, snapshot } => experts.push((run, snapshot)),
                Incoming::Profile { run, profile } => profiles.push((run, profile)),
            }
            ControlFlow::Continue(())
        }) {}
    }

    /// Drains whenever the engine rings, until something has happened.
    #[track_caller]
    fn wait(&mut self, what: &str, mut happened: impl FnMut(&mut Self) -> bool) {
        loop {
            let before = *self.bell.0.lock();
            self.drain();
            if happened(self) {
                return;
            }
            let mut rings = self.bell.0.lock();
            if *rings == before && self.bell.1.wait_for(&mut rings, FOREVER).timed_out() {
                drop(rings);
                panic!("{what} did not happen; events: {:#?}", self.events);
            }
        }
    }

    fn answer(&self, req: RequestId) -> Option<Result<&Outcome, &Failure>> {
        let mut answers = self.events.iter().filter_map(|event| match event {
            Event::Done { req: of, outcome } if *of == req => Some(Ok(outcome)),
            Event::Failed { req: Some(of), failure } if *of == req => Some(Err(failure)),
            _ => None,
        });
        let first = answers.next();
        assert!(answers.next().is_none(), "{req:?} has more than one answer");
        first
    }

    #[track_caller]
    fn wait_for(&mut self, req: RequestId) -> Result<Outcome, Failure> {
        self.wait("an answer", |window| window.answer(req).is_some());
        self.answer(req).unwrap().cloned().map_err(Clone::clone)
    }

    fn phases(&self) -> Vec<RunPhase> {
        let phase = |event: &Event| if let Event::PhaseChanged { phase, .. } = event { Some(*phase) } else { None };
        self.events.iter().filter_map(phase).collect()
    }

    fn phase(&self) -> RunPhase {
        self.phases().last().copied().unwrap_or_default()
    }

    fn end(&self) -> Option<EndRecord> {
        let end = |event: &Event| if let Event::RunEnded { end, .. } = event { Some((**end).clone()) } else { None };
        self.events.iter().rev().find_map(end)
    }

    fn dir(&self) -> PathBuf {
        let dir = |event: &Event| if let Event::RunStarted { dir, .. } = event { Some(dir.clone()) } else { None };
        self.events.iter().rev().find_map(dir).expect("no run was started")
    }
}

fn saved(dir: PathBuf) -> Subject {
    Subject::Saved { dir, checkpoint: Checkpoint::Best }
}

#[test]
fn a_run_tells_its_whole_story_in_order() {
    let (place, mut window) = (Place::new(), Window::open());
    let start = window.start(&place.config(40));
    assert_eq!(window.wait_for(start), Ok(Outcome::RunEnded(RunId(start.0))));
    assert!(matches!(&window.events[0], Event::Ready { device, threads } if device == "CPU" && *threads >= 1));
    let kind = |event: &Event| match event {
        Event::PhaseChanged { phase, .. } => format!("{phase:?}"),
        Event::RunStarted { .. } => "started".to_owned(),
        Event::Evaluated { record, .. } => format!("eval {}", record.step),
        Event::CheckpointWritten { step, .. } => format!("checkpoint {step}"),
        Event::RunEnded { .. } => "ended".to_owned(),
        Event::Lamps { lamps, .. } => format!("lamps {}", lamps[0].step),
        Event::Distances { sample, .. } => format!("distances {}", sample.step),
        Event::Done { .. } => "done".to_owned(),
        other => format!("{other:?}"),
    };
    let story: Vec<String> = window.events[1..].iter().map(kind).collect();
    let mut wanted = vec!["Preparing", "started", "Training", "distances 0", "lamps 1", "lamps 3", "Evaluating"];
    wanted.extend(["lamps 10", "eval 10", "Training", "checkpoint 10", "Evaluating", "eval 20", "Training"]);
    wanted.extend(["checkpoint 20", "distances 25", "Evaluating", "eval 30", "Training", "checkpoint 30"]);
    wanted.extend(["Evaluating", "eval 40", "Training", "checkpoint 40", "distances 40", "Evaluating"]);
    wanted.extend(["ended", "Finished", "done"]);
    let without_lamps = |list: &[String]| list.iter().filter(|k| !k.starts_with("lamps")).cloned().collect::<Vec<_>>();
    let wanted: Vec<String> = wanted.into_iter().map(str::to_owned).collect();
    assert_eq!(without_lamps(&story), without_lamps(&wanted));
    assert_eq!(story.iter().filter(|k| k.starts_with("lamps")).count(), 3);
    assert_eq!(window.steps.iter().map(|b| u64::from(b.n)).sum::<u64>(), 40, "a step is missing on the screen");
    let end = window.end().unwrap();
    assert_eq!((end.reason, end.step), (EndReason::Finished, 40));
    let report = end.report.unwrap();
    assert_eq!((report.rows, report.random.len(), report.fixed.len()), (48, 3, 4));
}

#[test]
fn where_the_time_goes_is_told_now_and_then() {
    let (place, mut window) = (Place::new(), Window::open());
    let start = window.start(&place.config(40));
    assert_eq!(window.wait_for(start), Ok(Outcome::RunEnded(RunId(start.0))));
    let told = &window.profiles;
    assert!(!told.is_empty() && told.iter().all(|(run, _)| *run == RunId(start.0)));
    assert!(told.windows(2).all(|pair| pair[0].1.step < pair[1].1.step), "older ones come later");
    for (_, profile) in told {
        assert!(profile.steps >= 1 && profile.step <= 40 && u64::from(profile.steps) <= profile.step);
        for phase in PHASES {
            assert_eq!(profile.of(phase) > 0.0, phase != Phase::Recompute, "{phase:?} in {profile:?}");
        }
    }
    // Every moment counts once: all phases together are not more than the steps took.
    let (_, first) = told[0];
    let took: f32 = window.steps.iter().filter(|b| b.max.step <= first.step).map(|b| b.mean.seconds).sum();
    assert!(first.total() * first.steps as f32 <= took * 1.001, "{first:?} of {took} s");
}

#[test]
fn a_window_that_never_looks_costs_nothing_and_gets_everything_later() {
    let (place, mut window) = (Place::new(), Window::open());
    let mut config = place.config(5000);
    // Many more events than the lane has room for, and more steps than the mailbox.
    (config.model.method, config.train.batch_size) = (Method::HeadOnly, 1);
    (config.data.max_eval_rows, config.eval.eval_steps, config.eval.save_steps) = (1, 10, 5000);
    let start = window.start(&config);
    // Nobody drains; the engine rings once and trains on. The lock of the run directory tells when it has ended.
    let dir = place.path("runs").join("test");
    let over = || dir.join("metrics.jsonl").exists() && !adamix::artifact::run_lock::is_locked(&dir);
    let patience = std::time::Instant::now();
    while !over() {
        assert!(patience.elapsed() < FOREVER, "training waits for the window");
        std::thread::yield_now();
    }
    assert_eq!(adamix::engine::runs::summary(&dir).status, RunStatus::Finished);
    assert_eq!(*window.bell.0.lock(), 1, "a window that does not look is woken once");
    assert_eq!(window.wait_for(start), Ok(Outcome::RunEnded(RunId(start.0))));
    let evals: Vec<u64> = window
        .events
        .iter()
        .filter_map(|event| if let Event::Evaluated { record, .. } = event { Some(record.step) } else { None })
        .collect();
    assert_eq!(evals, (1..=500).map(|i| i * 10).collect::<Vec<_>>(), "events are lost or out of order");
    assert!(window.events.len() > 1024, "this test needs more events than the lane holds");
    assert!(window.steps.len() <= 4096, "{} buckets", window.steps.len());
    assert_eq!(window.steps.iter().map(|b| u64::from(b.n)).sum::<u64>(), 5000);
    assert!(window.steps.windows(2).all(|w| w[0].max.step < w[1].min.step));
}

#[test]
fn stop_is_heard_during_an_evaluation() {
    let place = Place::new();
    let mut window = Window::open();
    let mut config = place.config(4);
    // One row a batch: the evaluation after step 1 has 48 batches, the comparison at the end many times more.
    (config.eval.eval_batch_size, config.eval.random_routes) = (1, 1000);
    let start = window.start(&config);
    window.wait("the comparison at the end", |w| {
        w.phases().ends_with(&[RunPhase::Training, RunPhase::Evaluating]) && {
            w.events.iter().any(|e| matches!(e, Event::CheckpointWritten { step: 4, .. }))
        }
    });
    window.engine.control(ControlRequest::Stop("enough".to_owned()));
    assert_eq!(window.wait_for(start), Ok(Outcome::RunEnded(RunId(start.0))));
    let end = window.end().unwrap();
    assert_eq!(end.report, None, "1000 routes were measured to the end although somebody said stop");
    let summary = adamix::engine::runs::summary(&window.dir());
    assert_eq!(summary.step, 4);
}

#[test]
fn pause_step_resume_and_stop_do_what_they_say() {
    let (place, mut window) = (Place::new(), Window::open());
    let mut config = place.config(100_000);
    config.eval.eval_steps = 1000;
    let start = window.start(&config);
    // Before the run is even loaded: the level counts.
    window.engine.control(ControlRequest::Pause);
    window.wait("a pause", |w| w.phase() == RunPhase::Paused);
    let steps = |w: &Window| w.steps.iter().map(|b| u64::from(b.n)).sum::<u64>();
    let held = steps(&window);
    for more in 1..=3 {
        let pauses = |w: &Window| w.phases().iter().filter(|p| **p == RunPhase::Paused).count();
        let before = pauses(&window);
        window.engine.control(ControlRequest::Step);
        window.wait("one step", |w| steps(w) == held + more && pauses(w) == before + 1);
    }
    // Questions are answered while the run is held.
    let inspect = window.send(|req| Command::Inspect { req, subject: Subject::Live, site: 1, side: Side::Down });
    let Ok(Outcome::Experts(experts)) = window.wait_for(inspect) else { panic!("no experts") };
    assert_eq!((experts.step, experts.sites.len(), experts.heat_maps.len()), (held + 3, 2, 4));
    assert!(experts.sides[2].experts.iter().any(|e| e.from_start > 0.0));
    window.engine.control(ControlRequest::Resume);
    window.wait("training", |w| w.phase() == RunPhase::Training && steps(w) > held + 10);
    window.engine.control(ControlRequest::Stop("seen enough".to_owned()));
    window.wait_for(start).unwrap();
    let end = window.end().unwrap();
    assert_eq!(end.reason, EndReason::Stopped("seen enough".to_owned()));
    assert!(window.phases().ends_with(&[RunPhase::Stopping, RunPhase::Finished]));
    let summary = adamix::engine::runs::summary(&window.dir());
    assert_eq!((summary.status, summary.step, summary.resumable), (RunStatus::Stopped, end.step, true));
    // The levels are forgotten: another run neither stops nor pauses.
    let again = window.start(&place.config(8));
    window.wait_for(again).unwrap();
    assert_eq!(window.end().unwrap().reason, EndReason::Finished);
}

#[test]
fn questions_during_training_are_answered_and_starts_are_refused() {
    let (place, mut window) = (Place::new(), Window::open());
    let start = window.start(&place.config(100_000));
    window.wait("training", |w| w.phase() == RunPhase::Training && !w.steps.is_empty());
    let second = window.start(&place.config(4));
    let refused = window.wait_for(second).unwrap_err();
    assert!(refused.message.contains("in training"), "{}", refused.message);
    let preflight = window.send(|req| Command::Preflight { req, config: Box::new(place.config(4)) });
    assert!(window.wait_for(preflight).unwrap_err().message.contains("in training"));
    let dir = window.dir();
    let delete = window.send(|req| Command::DeleteRun { req, dir: dir.clone() });
    assert!(window.wait_for(delete).unwrap_err().message.contains("stop it first"));
    let runs_dir = place.path("runs").display().to_string();
    let list = window.send(|req| Command::ListRuns { req, runs_dir });
    let Ok(Outcome::Runs(runs)) = window.wait_for(list) else { panic!("no list") };
    assert_eq!(
        runs.iter().map(|run| (run.name.as_str(), run.status)).collect::<Vec<_>>(),
        [("test", RunStatus::Running)]
    );
    let compare = window.send(|req| Command::Compare { req, subject: Subject::Live, random_routes: 2 });
    let Ok(Outcome::Compared(report)) = window.wait_for(compare) else { panic!("no comparison") };
    assert_eq!((report.random.len(), report.fixed.len(), report.rows), (2, 4, 48));
    let merge = window.send(|req| Command::Merge { req, subject: Subject::Live, plan: MergePlan::Uniform });
    assert!(matches!(window.wait_for(merge), Ok(Outcome::Merged(_))));
    let data = window.send(|req| Command::PreviewData { req, config: Box::new(place.config(4)) });
    let Ok(Outcome::Data(preview)) = window.wait_for(data) else { panic!("no preview") };
    assert_eq!((preview.train.rows, preview.dev.rows, preview.labels.len()), (96, 48, 2));
    assert_eq!(preview.train.labels.iter().map(|(_, rows)| rows).sum::<usize>(), 96);
    let open = window.send(|req| Command::OpenRun { req, dir });
    let Ok(Outcome::Opened(detail)) = window.wait_for(open) else { panic!("the run in training cannot be opened") };
    assert_eq!(detail.summary.status, RunStatus::Running);
    assert!(!detail.history.is_empty() && detail.routing.is_some_and(|routing| routing.step > 0));
    assert!(window.end().is_none(), "the run was disturbed");
    window.engine.control(ControlRequest::Stop("done".to_owned()));
    window.wait_for(start).unwrap();
}

#[test]
fn snapshots_come_while_watched_and_only_then() {
    let (place, mut window) = (Place::new(), Window::open());
    let start = window.start(&place.config(12));
    window.wait_for(start).unwrap();
    assert!(window.routing.is_empty() && window.experts.is_empty(), "nobody was looking");
    // After training the model is still there to be looked at.
    window.engine.watch(Watch { routing: true, experts: Some((1, Side::Up)) });
    window.wait("snapshots", |w| !w.routing.is_empty() && !w.experts.is_empty());
    let (run, routing) = &window.routing[0];
    assert_eq!((*run, routing.step, routing.draws[0], routing.recent.len()), (RunId(start.0), 12, 24, 12));
    let (_, experts) = &window.experts[0];
    assert_eq!((experts.focus, experts.heat_maps.len()), ((1, Some(Side::Up)), 1));
    // While training too.
    let start = window.start(&place.config(100_000));
    window.wait("live snapshots", |w| {
        w.routing.last().is_some_and(|(run, snapshot)| *run == RunId(start.0) && snapshot.step > 0)
            && w.experts.last().is_some_and(|(run, _)| *run == RunId(start.0))
    });
    window.engine.control(ControlRequest::Stop("seen".to_owned()));
    window.wait_for(start).unwrap();
}

#[test]
fn a_stopped_run_goes_on_as_if_it_had_never_stopped() {
    let place = Place::new();
    let mut window = Window::open();
    let whole = window.start(&place.config(24));
    window.wait_for(whole).unwrap();
    let (whole, reference) = (window.end().unwrap(), window.dir());

    let start = window.start(&place.config(24));
    window.engine.control(ControlRequest::Pause);
    window.wait("a pause", |w| w.phase() == RunPhase::Paused);
    for _ in 0..9 {
        window.engine.control(ControlRequest::Step);
    }
    window.wait("nine steps", |w| w.steps.iter().map(|b| u64::from(b.n)).sum::<u64>() == 24 + 9);
    window.engine.control(ControlRequest::Stop("later".to_owned()));
    window.wait_for(start).unwrap();
    let dir = window.dir();
    // Another process of this program, so to say.
    let mut other = Window::open();
    let run = RunId(77);
    let resume = other.send(|req| Command::ResumeRun { req, run, dir: dir.clone() });
    assert_eq!(other.wait_for(resume), Ok(Outcome::RunEnded(run)));
    let started = other.events.iter().find_map(|event| match event {
        Event::RunStarted { history, evals, start, .. } => Some((history.len(), evals.len(), start.first_step)),
        _ => None,
    });
    assert_eq!(started, Some((9, 1, 9)), "the curves so far");
    assert_eq!(other.steps.len(), 15);
    let end = other.end().unwrap();
    assert_eq!((end.best, &end.report), (whole.best, &whole.report));
    let last = |dir: &PathBuf| std::fs::read(dir.join("checkpoint-24/experts.safetensors")).unwrap();
    assert_eq!(last(&dir), last(&reference), "the weights differ");
    let routes = |dir: &PathBuf| std::fs::read(dir.join("routes.bin")).unwrap();
    assert_eq!(routes(&dir), routes(&reference));
}

#[test]
fn saved_runs_are_compared_merged_inspected_exported_and_deleted() {
    let (place, mut window) = (Place::new(), Window::open());
    let start = window.start(&place.config(16));
    window.wait_for(start).unwrap();
    let (end, dir) = (window.end().unwrap(), window.dir());
    let compare = |subject| move |req| Command::Compare { req, subject, random_routes: 3 };
    let live = window.send(compare(Subject::Live));
    let disk = window.send(compare(saved(dir.clone())));
    let (live, disk) = (window.wait_for(live).unwrap(), window.wait_for(disk).unwrap());
    let wanted = Outcome::Compared(Box::new(end.report.unwrap()));
    assert_eq!((&live, &disk), (&wanted, &wanted), "memory, disk and the report at the end agree");
    assert!(window.events.iter().any(|event| matches!(event, Event::Progress { .. })));
    let inspect = |subject| move |req| Command::Inspect { req, subject, site: 0, side: Side::Down };
    let live = window.send(inspect(Subject::Live));
    let disk = window.send(inspect(saved(dir.clone())));
    assert_eq!(window.wait_for(live).unwrap(), window.wait_for(disk).unwrap());
    let wrong = window.send(|req| Command::Inspect { req, subject: Subject::Live, site: 9, side: Side::Up });
    assert!(window.wait_for(wrong).unwrap_err().message.contains("no site 9"));
    let plan = ExportPlan {
        targets: vec![ExportTarget::Merged, ExportTarget::Experts],
        dtype: ExportDtype::F32,
        merge: MergePlan::Uniform,
        dir: None,
    };
    let export = window.send(|req| Command::Export { req, subject: saved(dir.clone()), plan });
    let Ok(Outcome::Exported(reports)) = window.wait_for(export) else { panic!("no export") };
    assert_eq!(reports.len(), 2);
    assert!(reports.iter().all(|report| report.certificate.passed && report.dir.starts_with(&dir)), "{reports:?}");
    let open = window.send(|req| Command::OpenRun { req, dir: dir.clone() });
    let Ok(Outcome::Opened(detail)) = window.wait_for(open) else { panic!("not opened") };
    assert_eq!((detail.exports.len(), detail.evals.len(), detail.checkpoints.last()), (2, 4, Some(&16)));
    assert!(detail.exports.iter().all(|export| reports.contains(export)), "{:?}\n{reports:?}", detail.exports);
    assert_eq!(detail.distances.first().unwrap().from_start.iter().sum::<f32>(), 0.0);
    assert!(detail.distances.last().unwrap().from_start.iter().sum::<f32>() > 0.0);
    let delete = window.send(|req| Command::DeleteRun { req, dir: dir.clone() });
    assert_eq!(window.wait_for(delete), Ok(Outcome::Deleted(dir.clone())));
    assert!(!dir.exists());
    let gone = window.send(compare(saved(dir)));
    assert!(window.wait_for(gone).is_err());
}

#[test]
fn cancelling_gives_up_the_question_and_nothing_else() {
    let (place, mut window) = (Place::new(), Window::open());
    let mut config = place.config(4);
    config.eval.eval_batch_size = 1;
    let start = window.start(&config);
    window.wait_for(start).unwrap();
    let long = window.send(|req| Command::Compare { req, subject: Subject::Live, random_routes: 1000 });
    window.wait("the question to be taken up", |w| {
        w.events.iter().any(|e| matches!(e, Event::Progress { req, .. } if *req == long))
    });
    window.engine.control(ControlRequest::CancelJob);
    assert_eq!(window.wait_for(long).unwrap_err().kind, ErrorKind::Cancelled);
    let short = window.send(|req| Command::Compare { req, subject: Subject::Live, random_routes: 1 });
    assert!(window.wait_for(short).is_ok(), "a later question is cancelled too");
}

#[test]
fn wrong_settings_fail_with_their_reason_and_leave_nothing_behind() {
    let (place, mut window) = (Place::new(), Window::open());
    let mut config = place.config(4);
    config.model.path = place.path("nowhere").display().to_string();
    let start = window.start(&config);
    let failure = window.wait_for(start).unwrap_err();
    assert!(failure.message.contains("nowhere"), "{}", failure.message);
    assert_eq!(window.phase(), RunPhase::Failed);
    assert!(!place.path("runs").exists(), "a run directory was made");
    let live = window.send(|req| Command::Merge { req, subject: Subject::Live, plan: MergePlan::Uniform });
    assert!(window.wait_for(live).unwrap_err().message.contains("no model in memory"));
    let preflight = window.send(|req| Command::Preflight { req, config: Box::new(config) });
    let Ok(Outcome::Preflight(report)) = window.wait_for(preflight) else { panic!("no report") };
    assert!(report.problems[0].contains("nowhere"), "{:?}", report.problems);
    let model = window.send(|req| Command::PreviewModel { req, model: place.config(4).model });
    let Ok(Outcome::Model(info)) = window.wait_for(model) else { panic!("no model") };
    assert_eq!((info.family.as_str(), info.layers, info.hidden_size, info.heads), ("BERT", 2, 20, 4));
    assert!(info.parameters > 5000 && info.file_bytes > 4 * info.parameters as u64);
    let preflight = window.send(|req| Command::Preflight { req, config: Box::new(place.config(4)) });
    let Ok(Outcome::Preflight(report)) = window.wait_for(preflight) else { panic!("no report") };
    assert_eq!((report.problems.len(), report.total_steps), (0, 4), "{:?}", report.problems);
    assert!(report.seconds.is_some() && report.trained_parameters > 0);
}

#[test]
fn a_panic_in_the_engine_becomes_an_answer_and_the_engine_lives_on() {
    let place = Place::new();
    let armed = Arc::new(AtomicBool::new(false));
    let trap = armed.clone();
    // The only code of ours that runs on the training thread: a waker with a bug.
    let mut window = Window::open_with(move || assert!(!trap.swap(false, Ordering::SeqCst), "planted"));
    let start = window.start(&place.config(100_000));
    window.wait("training", |w| !w.steps.is_empty());
    armed.store(true, Ordering::SeqCst);
    let failure = window.wait_for(start).unwrap_err();
    assert_eq!(failure.kind, ErrorKind::Internal);
    assert!(failure.message.contains("planted"), "{}", failure.message);
    assert_eq!(window.phase(), RunPhase::Failed);
    let again = window.start(&place.config(4));
    assert!(window.wait_for(again).is_ok(), "the engine is dead");
}

#[test]
fn an_engine_that_cannot_start_says_so_and_refuses_what_comes_later() {
    let first = AtomicBool::new(true);
    let mut window = Window::open_with(move || assert!(!first.swap(false, Ordering::SeqCst), "planted"));
    let failed = |w: &Window| {
        w.events
            .iter()
            .any(|e| matches!(e, Event::Failed { req: None, failure } if failure.message.contains("planted")))
    };
    window.wait("the failure", |w| failed(w));
    // The thread is gone at some moment from now on; until then a command may still be taken, but not for ever.
    let patience = std::time::Instant::now();
    while window.engine.try_send(Command::ListRuns { req: RequestId(1), runs_dir: String::new() }) != Err(Busy::Gone) {
        assert!(patience.elapsed() < FOREVER, "a dead engine still takes commands");
        std::thread::yield_now();
    }
}

#[test]
fn a_full_command_lane_refuses_at_once() {
    let place = Place::new();
    let mut window = Window::open();
    let mut config = place.config(4);
    (config.eval.eval_batch_size, config.eval.random_routes) = (1, 1000);
    // The thread is inside the long comparison at the end, where it takes no command.
    let start = window.start(&config);
    window.wait("the comparison", |w| w.events.iter().any(|e| matches!(e, Event::CheckpointWritten { step: 4, .. })));
    let mut taken = Vec::new();
    let refused = loop {
        let req = window.req();
        match window.engine.try_send(Command::ListRuns { req, runs_dir: place.path("runs").display().to_string() }) {
            Ok(()) => taken.push(req),
            Err(busy) => break busy,
        }
        assert!(taken.len() < 10_000, "the lane has no end");
    };
    assert_eq!(refused, Busy::Full);
    window.engine.control(ControlRequest::Stop("go on".to_owned()));
    window.wait_for(start).unwrap();
    for req in taken {
        assert!(matches!(window.wait_for(req), Ok(Outcome::Runs(_))), "a taken command was forgotten");
    }
}

#[test]
fn closing_the_window_in_training_leaves_a_run_that_can_go_on() {
    let place = Place::new();
    let mut window = Window::open();
    let start = window.start(&place.config(100_000));
    window.wait("training", |w| w.steps.len() > 5);
    let dir = window.dir();
    drop(window);
    // Closing waits for a short while only; the thread may need longer to let go of the directory.
    let patience = std::time::Instant::now();
    while adamix::artifact::run_lock::is_locked(&dir) {
        assert!(patience.elapsed() < FOREVER, "the run goes on although the window is gone");
        std::thread::yield_now();
    }
    let summary = adamix::engine::runs::summary(&dir);
    assert_eq!((summary.status, summary.resumable), (RunStatus::Stopped, true), "run {start:?}: {summary:?}");
    assert!(dir.join(format!("checkpoint-{}", summary.step)).is_dir());
}

#[test]
fn the_window_is_woken_once_for_many_messages() {
    let place = Place::new();
    let rings = Arc::new(AtomicUsize::new(0));
    let counted = rings.clone();
    let mut window = Window::open_with(move || {
        counted.fetch_add(1, Ordering::SeqCst);
    });
    let start = window.start(&place.config(60));
    window.wait_for(start).unwrap();
    let drains = window.events.len() + window.steps.len();
    assert!(rings.load(Ordering::SeqCst) <= drains, "{} rings for {drains} messages", rings.load(Ordering::SeqCst));
    assert!(rings.load(Ordering::SeqCst) >= 2);
}

#[test]
fn a_disk_that_refuses_is_told_and_training_goes_on() {
    let (place, mut window) = (Place::new(), Window::open());
    let start = window.start(&place.config(12));
    window.engine.control(ControlRequest::Pause);
    window.wait("a pause", |w| w.phase() == RunPhase::Paused);
    let dir = window.dir();
    // Gone under the engine's feet: no checkpoint can be written any more.
    std::fs::rename(&dir, place.path("elsewhere")).unwrap();
    window.engine.control(ControlRequest::Resume);
    assert_eq!(window.wait_for(start), Ok(Outcome::RunEnded(RunId(start.0))));
    assert_eq!(window.end().unwrap().reason, EndReason::Finished);
    let told = |event: &Event| match event {
        Event::Log(line) => line.level == LogLevel::Warning && line.text.contains("checkpoint"),
        _ => false,
    };
    assert!(window.events.iter().any(told), "{:#?}", window.events);
    assert!(!window.events.iter().any(|event| matches!(event, Event::CheckpointWritten { .. })));
}
