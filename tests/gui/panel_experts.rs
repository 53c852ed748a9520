//! The Experts view.

use super::harness::panel;
use super::panel_support::{World, done, failed, finished, fresh, lab, opened, trained};
use crate::fake_engine::data;
use adamix::app::actions::Action;
use adamix::app::session::Session;
use adamix::app::view::View;
use adamix::config::MixtureKind;
use adamix::protocol::{Checkpoint, ModelQuery, Outcome, Side, Subject};
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable as _;
use std::path::PathBuf;

fn show(session: Session) -> Harness<'static, World> {
    panel(View::Experts, session)
}

fn saved() -> Subject {
    Subject::Saved { dir: PathBuf::from("runs/lab-demo"), checkpoint: Checkpoint::Best }
}

#[test]
fn without_a_run_it_says_what_to_do() {
    show(fresh()).get_by_label("No experts yet");
}

#[test]
fn a_run_from_disk_is_read_when_asked() {
    let mut h = show(opened(|_| ()));
    h.get_by_label("Read the weights").click();
    h.run();
    assert_eq!(h.state_mut().take(), [Action::Query(saved(), ModelQuery::Inspect { site: 0, side: Side::Down })]);
    let req = h.state_mut().session.next_request();
    h.state_mut().session.inspect.begin(req);
    h.run();
    h.get_by_label("Waiting for the weights");
    h.state_mut().session.apply(failed(req, "checkpoint-240 is gone; choose another one"));
    h.run();
    h.get_by_label("checkpoint-240 is gone; choose another one");
    h.get_by_label("Try again").click();
    h.run();
    assert_eq!(h.state_mut().take(), [Action::Query(saved(), ModelQuery::Inspect { site: 0, side: Side::Down })]);
    let req = h.state_mut().session.next_request();
    h.state_mut().session.inspect.begin(req);
    let snapshot = data::experts(&lab().mixture, 240, (0, Side::Down));
    h.state_mut().session.apply(done(req, Outcome::Experts(Box::new(snapshot))));
    h.run();
    h.get_by_label("Down-projection of layer 0: 16 × 128 (outputs × inputs)");
}

#[test]
fn while_it_trains_another_side_is_only_watched() {
    let (session, ..) = trained(lab(), 2, (0, Side::Down));
    let mut h = show(session);
    h.get_by_label("Up").click();
    h.run();
    assert_eq!(h.state_mut().take(), [Action::FocusExperts(0, Side::Up)]);
    h.get_by_label("Layer above").click();
    h.run();
    assert_eq!(h.state_mut().take(), [Action::FocusExperts(1, Side::Down)]);
}

#[test]
fn after_the_end_another_side_is_asked_for() {
    let mut h = show(finished());
    h.get_by_label("Up").click();
    h.run();
    let asked = [
        Action::FocusExperts(0, Side::Up),
        Action::Query(Subject::Live, ModelQuery::Inspect { site: 0, side: Side::Up }),
    ];
    assert_eq!(h.state_mut().take(), asked);
}

#[test]
fn keys_move_between_layers() {
    let (session, ..) = trained(lab(), 2, (1, Side::Down));
    let mut h = show(session);
    h.key_press_modifiers(egui::Modifiers::ALT, egui::Key::ArrowUp);
    h.run();
    assert_eq!(h.state_mut().take(), [Action::FocusExperts(2, Side::Down)]);
}

#[test]
fn numbers_of_the_snapshot_are_shown() {
    let (session, ..) = trained(lab(), 2, (2, Side::Down));
    let snapshot = session.experts().unwrap().clone();
    let mut h = show(session);
    let data = &snapshot.sides[4];
    let cosine = data.cosine[1];
    h.get_by_label(&format!("expert 0 and expert 1: cosine {cosine:.2}"));
    h.get_by_label_contains("Mean cosine of 6 pairs");
    h.get_by_label("Distance").click();
    h.run();
    h.get_by_label_contains("expert 0 and expert 1: distance");
    h.get_by_label_contains("Expert 3, largest |weight|");
    h.get_by_label("Histogram of the weights of all experts");
    h.get_by_label("distance of two experts");
    h.get_by_label("distance from the start");
    assert_eq!(h.state_mut().take(), []);
}

#[test]
fn a_shared_side_is_explained() {
    let (mut session, ..) = trained(lab(), 2, (0, Side::Up));
    session.focus = (0, Some(Side::Up));
    let h = show(session);
    h.get_by_label_contains("The up-projection of this layer is shared");
    assert!(h.query_by_label("Similarity").is_none());
}

#[test]
fn pictures_of_another_side_are_awaited() {
    let (mut session, ..) = trained(lab(), 2, (0, Side::Down));
    session.focus = (3, Some(Side::Down));
    show(session).get_by_label("Waiting for the heat maps of this side");
}

#[test]
fn a_lora_has_matrices_and_modules_instead_of_projections() {
    let mut config = lab();
    config.mixture.kind = MixtureKind::Lora;
    config.mixture.sharing_up = false;
    let (session, ..) = trained(config, 2, (0, Side::Down));
    let mut h = show(session);
    h.get_by_label_contains("Matrix A of layer 0 q");
    for gone in ["Down-projection", "Bias norm", "bottleneck"] {
        assert!(h.query_by_label_contains(gone).is_none(), "a LoRA has no {gone}");
    }
    h.get_by_label("gate").click();
    h.run();
    assert_eq!(h.state_mut().take(), [Action::FocusExperts(4, Side::Down)]);
    h.state_mut().session.focus = (4, Some(Side::Down));
    h.run();
    h.get_by_label("Layer above").click();
    h.run();
    assert_eq!(h.state_mut().take(), [Action::FocusExperts(11, Side::Down)], "the same matrix of the next layer");
    h.get_by_label("lora_B").click();
    h.run();
    assert_eq!(h.state_mut().take(), [Action::FocusExperts(4, Side::Up)]);
}

#[test]
fn cosines_beyond_chance_are_not_called_unrelated() {
    let (session, ..) = trained(lab(), 2, (2, Side::Down));
    let h = show(session);
    // 16 x 128 values: the cosines of the demonstration are 0.2 to 0.7.
    h.get_by_label_contains("times the spread of chance");
    h.get_by_label_contains("1 / √d = 0.022 for 2,048 values");
    assert!(h.query_by_label_contains("unrelated directions").is_none());
}
