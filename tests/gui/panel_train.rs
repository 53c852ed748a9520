//! The Train view.

use crate::harness::{panel, ready_session, training_session};
use adamix::app::actions::Action;
use adamix::app::layout::View;
use adamix::engine::fake_data;
use adamix::engine::protocol::*;
use egui_kittest::kittest::Queryable as _;

#[test]
fn without_a_run_it_says_what_to_do() {
    let mut harness = panel(View::Train, ready_session());
    harness.run();
    harness.get_by_label("Ready to train");
    harness.get_by_label("Start").click();
    harness.run();
    assert_eq!(harness.state().wishes, [Action::StartRun]);
}

#[test]
fn a_failed_start_is_shown_with_its_reason() {
    let mut session = ready_session();
    let (req, run) = (session.next_request(), session.next_run());
    session.begin_run(req, run);
    let failure = Failure { kind: ErrorKind::Io, message: "no space left in /runs".to_owned() };
    session.apply(Incoming::Event(Event::Failed { req: Some(req), failure }));
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
    for plot in ["loss plot", "metric plot", "consistency plot", "learning rate plot", "gradient norm plot"] {
        harness.get_by_label(plot);
    }
    assert!(harness.query_all_by_label_contains("learning").next().is_some());
    // A dead tensor is listed without being asked for.
    let mut lamps = fake_data::lamps(10);
    lamps[2].state = LampState::Dead;
    let name = lamps[2].tensor.clone();
    assert!(harness.query_by_label(&name).is_none(), "healthy tensors are not listed");
    harness.state_mut().session.apply(Incoming::Event(Event::Lamps { run, lamps }));
    harness.run();
    harness.get_by_label(&name);
}

#[test]
fn a_hole_in_the_loss_does_not_break_the_plot() {
    let (mut session, run) = training_session();
    let mut sample = fake_data::step(101, 240);
    sample.loss = f32::NAN;
    session.apply(Incoming::Steps { run, buckets: vec![StepBucket::of(sample)] });
    let mut harness = panel(View::Train, session);
    harness.state_mut().settings.log_loss = true;
    harness.run();
    harness.get_by_label("loss plot");
    assert!(harness.query_all_by_label_contains("NaN").next().is_some());
}
