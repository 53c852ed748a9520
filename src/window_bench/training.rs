//! The speed of training with the window's frames beside it, over that without, in turn within one run.

use super::{FRAME, FRAME_TIME, SIZE, boxed};
use crate::app::actions::Action;
use crate::app::headless::Headless;
use crate::app::settings::Settings;
use crate::app::{WindowOptions, first_form};
use crate::bench::window::{Plan, TrainingFigures};
use crate::engine::EngineHandle;
use crate::error::{Error, Result};
use crate::protocol::*;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Longer than the start of a run takes.
const PATIENCE: Duration = Duration::from_secs(120);

/// The real engine; counts the tokens of the steps that it reports.
struct Counting {
    engine: Box<dyn Engine>,
    tokens: Arc<AtomicU64>,
}

impl Engine for Counting {
    fn try_send(&self, req: RequestId, command: Command) -> Result<(), Busy> {
        self.engine.try_send(req, command)
    }

    fn control(&self, request: ControlRequest) {
        self.engine.control(request);
    }

    fn watch(&self, watch: Watch) {
        self.engine.watch(watch);
    }

    fn drain(&mut self, sink: &mut dyn FnMut(Incoming) -> ControlFlow<()>) -> bool {
        let tokens = self.tokens.clone();
        self.engine.drain(&mut |message| {
            if let Incoming::Steps(_, buckets) = &message {
                let sum = buckets.iter().map(|bucket| u64::from(bucket.mean.tokens)).sum();
                tokens.fetch_add(sum, Ordering::Relaxed);
            }
            sink(message)
        })
    }
}

/// What runs beside the training.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Beside {
    /// No frame is drawn.
    Nothing,
    /// The window as it opens.
    Window,
    /// The window with all views side by side.
    AllViews,
}

/// Trains the lab and measures it in rounds.
pub(super) fn measure(root: &Path, plan: &Plan) -> Result<TrainingFigures> {
    let mut form = first_form();
    form.runs_dir = root.display().to_string();
    form.train.max_steps = 1_000_000;
    // Evaluations and checkpoints would stand in some rounds and not in others.
    (form.eval.eval_steps, form.eval.save_steps) = (form.train.max_steps, form.train.max_steps);
    let tokens = Arc::new(AtomicU64::new(0));
    let counted = tokens.clone();
    let engine = EngineHandle::spawn(Arc::new(|| {}))
        .map(|engine| -> Box<dyn Engine> { Box::new(Counting { engine: boxed(engine), tokens: counted }) });
    let options = WindowOptions { form: Some(form), ..WindowOptions::default() };
    let mut window = Headless::open(engine, Settings::default(), options, SIZE);
    until(&mut window, |window| window.app.session.start_problems().is_empty())?;
    window.app.actions.push(Action::StartRun);
    until(&mut window, |window| window.app.session.live.as_ref().is_some_and(|run| run.history.last.is_some()))?;
    let opened = window.app.layout.to_json().unwrap_or_default();
    let mut figures = TrainingFigures::default();
    for round in 0..plan.rounds.max(1) {
        let mut rates = [0.0; 3];
        // In another order in every round, so that what drifts counts for none.
        for turn in 0..3 {
            let beside = [Beside::Nothing, Beside::Window, Beside::AllViews][(round + turn) % 3];
            if beside == Beside::AllViews {
                window.show_all_views()?;
            } else {
                window.arrange(&opened)?;
            }
            rates[beside as usize] = rate(&mut window, &tokens, plan.seconds, beside != Beside::Nothing);
        }
        let [without, with_window, with_all_views] = rates;
        if without > 0.0 {
            figures.shares.push(with_window / without);
            figures.shares_all_views.push(with_all_views / without);
        }
        figures.tokens_per_s.push(without);
    }
    window.app.actions.push(Action::Stop);
    window.frame(FRAME);
    if window.app.session.live.as_ref().is_some_and(|run| run.failure.is_some()) || figures.shares.is_empty() {
        return Err(Error::internal("the training ended before it was measured"));
    }
    Ok(figures)
}

/// Tokens a second over some seconds, with frames at 60 Hz or with none at all.
///
/// On a machine that is busy with other work a step can take longer than that: at least one is waited for.
fn rate(window: &mut Headless, tokens: &AtomicU64, seconds: f64, with_frames: bool) -> f64 {
    // The change of the arrangement reaches the engine; what came before is taken.
    window.frame(FRAME);
    window.frame(FRAME);
    let (began, before) = (Instant::now(), tokens.load(Ordering::Relaxed));
    let part = Duration::try_from_secs_f64(seconds).unwrap_or_default();
    let mut end = began + part;
    loop {
        let mut next = Instant::now();
        while with_frames && Instant::now() < end {
            window.frame(FRAME);
            next = (next + FRAME_TIME).max(Instant::now());
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        std::thread::sleep(end.saturating_duration_since(Instant::now()));
        // What the engine has told is counted when a frame takes it.
        window.frame(FRAME);
        let made = tokens.load(Ordering::Relaxed) - before;
        if made > 0 || began.elapsed() > PATIENCE {
            return made as f64 / began.elapsed().as_secs_f64();
        }
        end = Instant::now() + part;
    }
}

fn until(window: &mut Headless, arrived: impl Fn(&Headless) -> bool) -> Result<()> {
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        window.frame(FRAME);
        if arrived(window) {
            return Ok(());
        }
        std::thread::sleep(FRAME_TIME);
    }
    let session = &window.app.session;
    let said = session.log.iter().map(|line| line.text.clone()).chain(session.start_problems());
    Err(Error::internal(format!("the training did not start: {}", said.collect::<Vec<_>>().join("; "))))
}
