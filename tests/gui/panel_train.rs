//! The Train view.

use crate::fake_engine::data;
use crate::harness::{panel, ready_session, training_session};
use adamix::app::actions::Action;
use adamix::app::run_view::RunView;
use adamix::app::session::Session;
use adamix::app::theme::Theme;
use adamix::app::view::View;
use adamix::protocol::*;
use egui_kittest::kittest::Queryable as _;

#[test]
fn without_a_run_it_says_what_to_do() {
    let mut harness = panel(View::Train, ready_session());
    harness.run();
    harness.get_by_label("Ready to train");
    harness.get_by_label("Start").click();
    harness.run();
    assert_eq!(harness.state().actions, [Action::StartRun]);
    // While a run is prepared nothing says that one could be started.
    let mut session = ready_session();
    let (req, run) = (session.next_request(), session.next_run());
    session.begin_run(req, run);
    let harness = panel(View::Train, session);
    harness.get_by_label("A run begins");
    assert!(harness.query_by_label("Ready to train").is_none());
}

#[test]
fn a_failed_start_is_shown_with_its_reason() {
    let mut session = ready_session();
    let (req, run) = (session.next_request(), session.next_run());
    session.begin_run(req, run);
    let failure = Failure { kind: ErrorKind::Io, message: "no space left in /runs".to_owned() };
    session.apply(Incoming::Event(Event::Failed(Some(req), failure)));
    let mut harness = panel(View::Train, session);
    harness.run();
    assert!(harness.query_all_by_label_contains("no space left").next().is_some());
}

#[test]
fn figures_plots_and_lamps_of_a_run() {
    let (session, run) = training_session();
    let mut harness = panel(View::Train, session);
    harness.run();
    assert!(harness.query_all_by_label_contains("100 / 240").next().is_some());
    for plot in
        ["loss plot", "metric plot", "consistency plot", "learning rate plot", "gradient norm plot", "speed plot"]
    {
        harness.get_by_label(plot);
    }
    assert!(harness.query_all_by_label_contains("learning").next().is_some());
    // A dead tensor is listed without being asked for.
    let mut gradient_health = data::gradient_health(10);
    gradient_health[2].state = HealthState::Dead;
    let name = gradient_health[2].tensor.clone();
    assert!(harness.query_by_label(&name).is_none(), "healthy tensors are not listed");
    harness.state_mut().session.apply(Incoming::Event(Event::GradientHealth(run, gradient_health)));
    harness.run();
    harness.get_by_label(&name);
}

#[test]
fn a_hole_in_the_loss_does_not_break_the_plot() {
    let (mut session, run) = training_session();
    let mut sample = data::step(101, 240);
    sample.loss = f32::NAN;
    session.apply(Incoming::Steps(run, vec![StepBucket::of(sample)]));
    let mut harness = panel(View::Train, session);
    harness.state_mut().settings.log_loss = true;
    harness.run();
    harness.get_by_label("loss plot");
    assert!(harness.query_all_by_label_contains("NaN").next().is_some());
}

#[test]
fn the_time_of_a_step_is_shown_by_phase() {
    let (session, run) = training_session();
    let mut harness = panel(View::Train, session);
    harness.run();
    assert!(harness.query_by_label("step profile").is_none(), "nothing was measured yet");
    let mut profile = data::profile(100, 12);
    profile.seconds = PHASES.map(|_| 0.0);
    profile.seconds[Phase::TrunkForward as usize] = 0.030;
    profile.seconds[Phase::Adapters as usize] = 0.010;
    harness.state_mut().session.apply(Incoming::Profile(run, profile));
    harness.run();
    harness.get_by_label("step profile");
    harness.get_by_label("Where the time of a step goes: 40.0 ms");
    harness.get_by_label_contains("base forward: 30.0 ms a step, 75.0 % of it");
    harness.get_by_label_contains("adapters: 10.00 ms a step, 25.0 % of it");
    harness.get_by_label_contains("Mean of 12 steps up to step 100");
    assert!(harness.query_by_label_contains("optimizer:").is_none(), "a phase without time is not shown");
    // A late profile of another run changes nothing.
    profile.seconds[Phase::Adapters as usize] = 9.0;
    harness.state_mut().session.apply(Incoming::Profile(RunId(run.0 + 1), profile));
    harness.run();
    harness.get_by_label("Where the time of a step goes: 40.0 ms");
    // Both appearances, and the demonstration's own numbers.
    for dark in [true, false] {
        harness.ctx.set_theme(if dark { egui::Theme::Dark } else { egui::Theme::Light });
        harness.state_mut().session.apply(Incoming::Profile(run, data::profile(101, 1)));
        harness.run();
        harness.get_by_label_contains("attention backward: ");
        harness.get_by_label_contains("Step 101; each moment");
    }
}

#[test]
fn the_end_says_what_came_out_and_where_to_go() {
    let (mut session, run) = training_session();
    let harness = panel(View::Train, training_session().0);
    assert!(harness.query_by_label("Export with proof").is_none(), "a run in training has no outcome");
    let end = data::end_record(EndReason::Finished, 240);
    let merged = end.report.as_ref().map(|report| format!("Merged {} {:.4}", report.metric, report.merged.primary));
    let merged = merged.expect("a finished run is compared");
    session.apply(Incoming::Event(Event::RunEnded(run, Box::new(end))));
    session.apply(Incoming::Event(Event::PhaseChanged(run, RunPhase::Finished)));
    let mut harness = panel(View::Train, session);
    assert!(harness.query_all_by_label_contains(&merged).next().is_some(), "{merged}");
    for button in ["Merged against unmerged", "Export with proof"] {
        harness.get_by_label(button).click();
        harness.run();
    }
    assert_eq!(harness.state().actions, [Action::Show(View::Compare), Action::Show(View::Export)]);
}

/// The session after a run of these evaluation losses, with this report.
fn ended(losses: &[f64], change: impl FnOnce(&mut EvalReport)) -> Session {
    let (mut session, run) = training_session();
    session.live.as_mut().unwrap().evals.clear();
    for (i, &loss) in losses.iter().enumerate() {
        let mut record = data::eval(200 * (i as u64 + 1), 800);
        record.merged.loss = loss;
        session.apply(Incoming::Event(Event::Evaluated(run, record)));
    }
    let mut end = data::end_record(EndReason::Finished, 800);
    change(end.report.as_mut().unwrap());
    session.apply(Incoming::Event(Event::RunEnded(run, Box::new(end))));
    session.apply(Incoming::Event(Event::PhaseChanged(run, RunPhase::Finished)));
    session
}

#[test]
fn a_run_that_learned_nothing_is_not_praised() {
    let bad = |report: &mut EvalReport| {
        (report.rows, report.majority) = (40, 0.525);
        report.merged.primary = 0.6;
    };
    let falling = [0.70, 0.65, 0.60];
    let harness = panel(View::Train, ended(&falling, bad));
    harness.get_by_label_contains("hardly better than a constant answer: 0.6000 against 0.5250");
    // The comparison says the same.
    let harness = panel(View::Compare, ended(&falling, bad));
    harness.get_by_label_contains("hardly better than a constant answer: 0.6000 against 0.5250");
    let harness = panel(View::Train, ended(&falling, |_| {}));
    assert!(harness.query_by_label_contains("hardly better").is_none());
    harness.get_by_label_contains("Merged is better than");
    harness.get_by_label_contains("Merged minus ensemble of 5 routes: accuracy +0.0030");
}

#[test]
fn a_rising_evaluation_loss_is_said_where_the_run_is_judged() {
    let rising = [0.690, 0.688, 0.783, 0.877];
    for view in [View::Train, View::Compare] {
        let harness = panel(view, ended(&rising, |_| {}));
        harness.get_by_label_contains("The evaluation loss rises since step 400 (from 0.6880 to 0.8770)");
    }
    // Already while it trains.
    let mut session = ended(&rising, |_| {});
    session.live.as_mut().unwrap().end = None;
    session.phase = RunPhase::Training;
    panel(View::Train, session).get_by_label_contains("The evaluation loss rises since step 400");
}

#[test]
fn a_stopped_run_is_resumed_where_it_is_shown() {
    let (mut session, run) = training_session();
    let end = Box::new(data::end_record(EndReason::Stopped("the user asked".to_owned()), 120));
    session.apply(Incoming::Event(Event::RunEnded(run, end)));
    session.apply(Incoming::Event(Event::PhaseChanged(run, RunPhase::Finished)));
    let dir = session.live.as_ref().unwrap().dir.clone();
    let mut harness = panel(View::Train, session);
    harness.get_by_label("Status\nstopped at step 120");
    assert!(harness.query_by_label_contains("finished").is_none(), "it has not finished");
    harness.get_by_label("Resume").click();
    harness.run();
    assert_eq!(harness.state().actions, [Action::ResumeRun(dir)]);
}

#[test]
fn an_interrupted_run_is_offered_when_the_window_opens() {
    let mut session = ready_session();
    let mut runs = data::runs();
    runs.remove(0);
    let req = session.next_request();
    session.runs.begin(req);
    session.apply(Incoming::Event(Event::Done(req, Outcome::Runs(runs.clone()))));
    let mut harness = panel(View::Train, session);
    harness.get_by_label_contains("The run lab-round-robin was stopped at step 120 of 240");
    harness.get_by_label("Resume").click();
    harness.run();
    assert_eq!(harness.state().actions, [Action::ResumeRun(runs[0].dir.clone())]);
    // A newest run that came to its end leaves nothing to offer.
    let mut session = ready_session();
    let req = session.next_request();
    session.runs.begin(req);
    session.apply(Incoming::Event(Event::Done(req, Outcome::Runs(data::runs()))));
    assert!(panel(View::Train, session).query_by_label("Resume").is_none());
}

#[test]
fn a_legend_entry_hides_the_whole_curve() {
    let (session, _) = training_session();
    let mut harness = panel(View::Train, session);
    let colour = Theme::new(harness.ctx.style_of(harness.ctx.theme()).visuals.dark_mode).series(0);
    let lines = |harness: &egui_kittest::Harness<'_, _>| painted(harness, colour);
    let before = lines(&harness);
    harness.get_by_label("Curve loss").click();
    harness.run();
    let after = lines(&harness);
    assert!(before > after, "{before} shapes of the curve, then {after}");
    assert_eq!(after, 0, "neither the raw nor the smoothed curve is left");
    harness.get_by_label("Curve loss").click();
    harness.run();
    assert_eq!(lines(&harness), before);
}

/// Lines painted in this colour or a fainter one of the same hue.
fn painted<S>(harness: &egui_kittest::Harness<'_, S>, colour: egui::Color32) -> usize {
    fn count(shape: &egui::Shape, colour: egui::Color32) -> usize {
        let same = |other: egui::Color32| other == colour || other == colour.gamma_multiply(0.4);
        match shape {
            egui::Shape::Vec(shapes) => shapes.iter().map(|shape| count(shape, colour)).sum(),
            egui::Shape::Path(path) => match &path.stroke.color {
                egui::epaint::ColorMode::Solid(other) => usize::from(same(*other)),
                egui::epaint::ColorMode::UV(_) => 0,
            },
            _ => 0,
        }
    }
    harness.output().shapes.iter().map(|clipped| count(&clipped.shape, colour)).sum()
}

#[test]
fn every_resume_has_its_mark() {
    let mut view = RunView::opened(data::run_detail(std::path::Path::new("runs/lab-round-robin")));
    assert!(view.resumed.is_empty());
    let mut session = ready_session();
    let (req, run) = (session.next_request(), session.next_run());
    session.begin_run(req, run);
    let mut start = data::start_record(&session.form, 200);
    start.total_steps = 800;
    session.apply(Incoming::Event(Event::RunStarted {
        run,
        dir: "runs/twice".into(),
        config: Box::new(session.form.clone()),
        start: Box::new(start),
        history: Vec::new(),
        evals: Vec::new(),
    }));
    session.apply(Incoming::Event(Event::ResumedBefore(run, vec![120])));
    assert_eq!(session.live.as_ref().unwrap().resumed, [120, 200]);
    view.resumed = vec![40, 80];
    assert_eq!(
        marks(&view),
        [("best evaluation".to_owned(), 120), ("resumed".to_owned(), 40), ("resumed".to_owned(), 80)]
    );
}

/// Names and steps of the marks in the plots.
fn marks(run: &RunView) -> Vec<(String, u64)> {
    let marks = adamix::app::run_view::marks(run);
    marks.into_iter().map(|(name, step)| (name.into_owned(), step)).collect()
}

#[test]
fn an_evaluation_tells_how_far_it_is_and_other_views_keep_what_they_showed() {
    let (mut session, run) = training_session();
    session.apply(Incoming::Routing(run, std::sync::Arc::new(data::routing(&session.form.mixture, 100))));
    session.apply(Incoming::Event(Event::PhaseChanged(run, RunPhase::Evaluating)));
    let progress = EvalProgress { step: 120, comparison: false, done: 312, rows: 640, seconds_left: Some(12.0) };
    session.apply(Incoming::Event(Event::Evaluating(run, progress)));
    let harness = panel(View::Train, session);
    harness.get_by_label_contains("Left\n12 s");
    let mut session = harness.into_state().session;
    crate::panel_support::read_routes(&mut session);
    let harness = panel(View::Routing, std::mem::take(&mut session));
    assert!(
        harness.query_all_by_label_contains("layer 3 down: pass A expert").next().is_some(),
        "the routes are still there"
    );
    let mut session = harness.into_state().session;
    session.apply(Incoming::Event(Event::Evaluated(run, data::eval(120, 240))));
    assert!(session.live.as_ref().unwrap().evaluating.is_none(), "it is over");
}
