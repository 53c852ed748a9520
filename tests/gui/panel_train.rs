//! The Train view.

use crate::fake_engine::data;
use crate::harness::{panel, ready_session, training_session};
use adamix::app::actions::Action;
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
