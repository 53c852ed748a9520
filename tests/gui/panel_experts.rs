//! The Experts view.

use super::harness::panel;
use super::panel_support::{World, done, failed, finished, fresh, lab, opened, trained};
use crate::fake_engine::{data, studies};
use adamix::app::actions::Action;
use adamix::app::session::Session;
use adamix::app::view::View;
use adamix::config::MixtureKind;
use adamix::protocol::{
    Checkpoint, Incoming, MapOf, ModelQuery, Outcome, PlanePlan, RunId, Side, Study, StudyReport, Subject, WorthPlan,
};
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable as _;
use std::path::PathBuf;

fn show(session: Session) -> Harness<'static, World> {
    panel(View::Experts, session)
}

/// The same with this tab.
fn show_topic(session: Session, topic: &str) -> Harness<'static, World> {
    let mut h = show(session);
    h.get_by_label(topic).click();
    h.run();
    h
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
    h.get_by_label("Heat maps").click();
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
fn coming_together_is_the_headline_and_distances_are_details() {
    let (session, ..) = trained(lab(), 6, (2, Side::Down));
    let snapshot = session.experts().unwrap().clone();
    let q = snapshot.sides[4].consensus.unwrap();
    let mut h = show(session);
    h.get_by_label_contains(&format!("layer 2: q = {q:.3} after step"));
    h.get_by_label_contains("nothing in common have 1/√M = 0.50");
    // Both ends are drawn with their names, and the points of the curve are told.
    for words in ["Curve one: 1", "Curve strangers: 1/√4 = 0.50", "Curve layer 2", "consensus of the experts"] {
        h.get_by_label(words);
    }
    h.get_by_label_contains("the others were taken while it trains");
    h.get_by_label(&format!("layer 2 down: consensus {q:.2}"));
    h.get_by_label("layer 2 up: consensus shared");
    let data = &snapshot.sides[4];
    h.get_by_label(&format!("expert 0 and expert 1: cosine {:.2}", data.cosine[1]));
    h.get_by_label_contains("Mean cosine of 6 pairs");
    h.get_by_label("Distance").click();
    h.run();
    h.get_by_label_contains("expert 0 and expert 1: distance");
    assert!(h.query_by_label("distance of two experts").is_none(), "only in the details");
    h.get_by_label("Details: distances of the down-projection over time").click();
    h.run();
    h.get_by_label("distance of two experts");
    h.get_by_label("distance from the start");
    assert!(h.query_by_label_contains("apart over time").is_none());
    assert_eq!(h.state_mut().take(), []);
}

#[test]
fn a_saved_run_says_that_its_points_are_checkpoints() {
    let mut session = opened(|_| ());
    let req = session.next_request();
    session.inspect.begin(req);
    let snapshot = data::experts(&lab().mixture, 240, (0, Side::Down));
    session.apply(done(req, Outcome::Experts(Box::new(snapshot))));
    let h = show(session);
    h.get_by_label_contains(
        "7 points: steps 0, 40, 80, 120, 160, 200, 240; the start comes from the seed or checkpoint 0",
    );
}

#[test]
fn heat_maps_show_differences_and_the_values_under_the_cursor_by_keys() {
    let (session, ..) = trained(lab(), 2, (2, Side::Down));
    let map = session.experts().unwrap().heat_maps[1].clone();
    let mut h = show_topic(session, "Heat maps");
    h.get_by_label_contains("Expert 3, largest |weight|");
    h.get_by_label("Histogram of the weights of all experts");
    h.get_by_label("→ hidden size d: columns 0 to 127");
    h.get_by_label("↓ bottleneck r: rows 0 to 15");
    h.get_by_label_contains("or click it and use the arrow keys");
    h.get_by_label_contains("Expert 1, largest").click();
    h.run();
    for key in [egui::Key::ArrowRight, egui::Key::ArrowRight, egui::Key::ArrowDown] {
        h.key_press(key);
        h.run();
    }
    // The click put the cursor into the middle of the picture.
    let (row, col) = (8 + 1, 64 + 2);
    let cell = map.cells(MapOf::Weights)[row * 128 + col];
    let text = format!(
        "row {row}, column {col}: weight {:+.5}, mean {:+.5}, start {:+.5}",
        cell.weight, cell.mean, cell.start
    );
    assert!(h.query_all_by_label_contains(&text).next().is_some(), "{text}");
    assert_eq!(h.query_all_by_label(&format!("{row}, {col}")).count(), 4, "the same place of every expert");
    h.get_by_label("W − mean").click();
    h.run();
    h.get_by_label_contains("Expert 1, largest |difference|");
    assert!(h.query_all_by_label_contains("weight − mean of the experts").next().is_some());
    h.get_by_label("W − start").click();
    h.run();
    assert!(h.query_all_by_label_contains("weight − weight at the start").next().is_some());
    // Each picture can be saved.
    h.get_by_label("Save map of expert 1, W − start");
    h.get_by_label("Save histogram of weights");
    h.get_by_label("Save sizes of the experts");
    assert_eq!(h.state_mut().take(), []);
}

#[test]
fn directions_have_their_ranks_and_chance() {
    let (session, ..) = trained(lab(), 2, (2, Side::Down));
    let found = session.experts().unwrap().directions.clone().unwrap();
    let mut h = show_topic(session, "Directions");
    h.get_by_label("Singular values: down-projection of layer 2, 16 directions in 128 dimensions");
    h.get_by_label("singular values of the experts");
    let rank = found.experts[0].as_ref().unwrap().effective_rank;
    assert!(h.query_all_by_label(&format!("{rank:.2}")).next().is_some(), "the effective rank of expert 0");
    h.get_by_label("mean of the experts");
    let overlap = found.overlap[1].unwrap();
    h.get_by_label(&format!("expert 0 and expert 1: overlap {overlap:.2}"));
    // Random matrices: exactly what chance gives.
    h.get_by_label_contains("two random spans of 16 directions in 128 dimensions have 0.125 ± 0.0");
    h.get_by_label_contains("which is chance");
    h.get_by_label("Smallest angle").click();
    h.run();
    h.get_by_label(&format!("expert 0 and expert 1: smallest angle {:.0}°", found.smallest_angle[1].unwrap()));
    h.get_by_label("Save singular values table");
}

#[test]
fn large_matrices_wait_until_nothing_trains() {
    let (mut session, ..) = trained(lab(), 2, (0, Side::Down));
    let mut snapshot = session.experts().unwrap().clone();
    snapshot.directions = None;
    session.apply(Incoming::Experts(RunId(1), std::sync::Arc::new(snapshot)));
    show_topic(session, "Directions").get_by_label_contains("computed when the model does not train");
}

#[test]
fn the_plane_says_its_cost_asks_and_shows_what_was_measured() {
    let mut h = show_topic(finished(), "Plane");
    h.get_by_label("15 × 15 places, 6 points and 3 lines: 258 passes over at most 128 rows");
    h.get_by_label("Measure the plane").click();
    h.run();
    let plan = PlanePlan::of(4);
    let asked = Action::Query(Subject::Live, ModelQuery::Study(Study::Plane(plan)));
    assert_eq!(h.state_mut().take(), [asked]);
    let req = h.state_mut().session.next_request();
    h.state_mut().session.studies.begin(req, &Study::Plane(plan));
    h.run();
    h.get_by_label("measuring the plane");
    h.get_by_label("Cancel");
    let report = studies::plane(&plan);
    h.state_mut().session.apply(done(req, Outcome::Studied(Box::new(StudyReport::Plane(Box::new(report))))));
    h.run();
    h.get_by_label_contains("From expert 0 to merged the loss rises by 0.0012 ± 0.00040");
    h.get_by_label_contains("Plane through expert 0, expert 1, merged: loss in nats");
    h.get_by_label_contains("merged: loss 0.5000 ± 0.0100, accuracy 0.7000");
    h.get_by_label("loss on the straight lines");
    h.get_by_label_contains("the head stays as it is after step 240");
    for save in ["plane of the experts, loss", "points of the plane table", "barriers of the plane table"] {
        h.get_by_label(&format!("Save {save}"));
    }
    // The value of a place, by keys: from the middle one to the left and two up.
    h.get_by_label_contains("Plane through expert 0").click();
    h.run();
    for key in [egui::Key::ArrowLeft, egui::Key::ArrowUp, egui::Key::ArrowUp] {
        h.key_press(key);
        h.run();
    }
    // Places are 2/7 apart: x = 5/7, y = 11/7.
    let (x, y) = (5.0f64 / 7.0, 11.0f64 / 7.0);
    let loss = 0.5 + 0.02 * ((x - 1.0).powi(2) + 2.0 * (y - 1.0).powi(2));
    h.get_by_label(&format!("x {x:.3}, y {y:.3}: {loss:.5} loss in nats"));
    h.get_by_role_and_label(egui::Role::Button, "Accuracy").click();
    h.run();
    assert!(h.query_all_by_label_contains("share of right answers").next().is_some(), "the plane and its colours");
    h.get_by_label("Save plane of the experts, accuracy");
}

#[test]
fn a_plane_of_the_same_point_twice_is_refused() {
    let mut h = show_topic(finished(), "Plane");
    h.get_by_label("Third point").click();
    h.run();
    h.get_all_by_label("expert 1").last().unwrap().click();
    h.run();
    h.get_by_label("Measure the plane").click();
    h.run();
    assert_eq!(h.state_mut().take(), [], "the button is disabled");
}

#[test]
fn worth_and_twins_stand_beside_what_chance_gives() {
    let mut h = show_topic(finished(), "Worth and twins");
    h.get_by_label("2⁴ merges and 6 pairs: 22 passes over at most 256 rows");
    h.get_by_label("Measure the worth").click();
    h.run();
    let plan = WorthPlan::default();
    let asked = Action::Query(Subject::Live, ModelQuery::Study(Study::Worth(plan)));
    assert_eq!(h.state_mut().take(), [asked]);
    let req = h.state_mut().session.next_request();
    h.state_mut().session.studies.begin(req, &Study::Worth(plan));
    let report = studies::worth(&plan);
    let twins = report.pairs.iter().max_by(|a, b| a.cosine.total_cmp(&b.cosine)).unwrap().clone();
    h.state_mut().session.apply(done(req, Outcome::Studied(Box::new(StudyReport::Worth(Box::new(report))))));
    h.run();
    h.get_by_label("No expert is worth more or less than chance makes of equal experts.");
    let [a, b] = twins.experts;
    h.get_by_label_contains(&format!("Closest: {a} and {b} with a mean cosine of {:.3}", twins.cosine));
    h.get_by_label_contains("no twins shown");
    assert_eq!(h.query_all_by_label("Takes from the loss (Shapley value)").count(), 2, "a title and a plot");
    h.get_by_label_contains("Loss of all experts merged 0.5120, without any module 0.5970. Weights after step 240");
    h.get_by_label(&format!("layer 0 down, pair 0–1: cosine {:.3}", studies::worth(&plan).pairs[0].by_bank[0]));
    h.get_by_label("Save worth of the experts table");
    h.get_by_label("Save pairs of experts table");
}

#[test]
fn a_shared_side_is_explained() {
    let (mut session, ..) = trained(lab(), 2, (0, Side::Up));
    session.focus = (0, Some(Side::Up));
    let mut h = show(session);
    h.get_by_label_contains("The up-projection of this layer is shared");
    h.get_by_label_contains("nothing that could come together");
    assert!(h.query_by_label("Similarity").is_none());
    h.get_by_label("Heat maps").click();
    h.run();
    assert!(h.query_by_label("W − mean").is_none(), "one matrix is its own mean");
}

#[test]
fn pictures_of_another_side_are_awaited() {
    let (mut session, ..) = trained(lab(), 2, (0, Side::Down));
    session.focus = (3, Some(Side::Down));
    show_topic(session, "Heat maps").get_by_label("Waiting for the heat maps of this side");
}

#[test]
fn a_lora_has_matrices_and_modules_instead_of_projections() {
    let mut config = lab();
    config.mixture.kind = MixtureKind::Lora;
    config.mixture.sharing_up = false;
    let (session, ..) = trained(config, 2, (0, Side::Down));
    let mut h = show_topic(session, "Heat maps");
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
