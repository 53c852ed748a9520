//! What the Routing view says about one step, and about the routes of the chosen weights.

use super::harness::panel;
use super::panel_support::{World, done, failed, finished, lab, opened, trained};
use crate::fake_engine::studies;
use adamix::app::actions::Action;
use adamix::app::session::Session;
use adamix::app::view::View;
use adamix::config::LawChange;
use adamix::protocol::*;
use egui_kittest::Harness;
use egui_kittest::kittest::{NodeT as _, Queryable as _};

fn show(session: Session) -> Harness<'static, World> {
    panel(View::Routing, session)
}

/// The demonstration engine's answer to a study.
fn answer(h: &mut Harness<'static, World>, study: &Study) {
    let req = h.state_mut().session.next_request();
    h.state_mut().session.studies.begin(req, study);
    let report = studies::study(study, lab().mixture.kind);
    h.state_mut().session.apply(done(req, Outcome::Studied(Box::new(report))));
    h.run();
}

/// Clicks the button of a study that is asked of the shown run.
fn click(h: &mut Harness<'static, World>, button: &str) -> Study {
    h.get_by_label(button).click();
    h.run();
    let actions = h.state_mut().take();
    let [Action::Query(_, ModelQuery::Study(study))] = actions.as_slice() else { panic!("{actions:?}") };
    study.clone()
}

#[test]
fn the_newest_step_is_looked_at_unless_another_is_chosen() {
    let mut session = finished();
    let newest = session.shown().unwrap().step();
    let mut h = show(session);
    assert_eq!(click(&mut h, "Replay"), Study::Replay(ReplayPlan { step: newest }));
    h.get_by_label(&format!("At step {newest}"));
    assert!(h.query_by_label("Newest step").is_none());
    session = finished();
    session.playhead = Some(7);
    let mut h = show(session);
    h.get_by_label("At step 7");
    assert_eq!(click(&mut h, "Replay"), Study::Replay(ReplayPlan { step: 7 }));
    assert_eq!(click(&mut h, "Re-roll this batch"), Study::Reroll(RerollPlan { step: 7, routes: 64 }));
    h.get_by_label("Newest step").click();
    h.run();
    assert_eq!(h.state_mut().take(), [Action::SetPlayhead(None)]);
}

#[test]
fn a_replay_says_whether_it_is_equal_and_what_differs() {
    let mut session = finished();
    session.playhead = Some(7);
    let mut h = show(session);
    h.get_by_label_contains("computed in memory from the weights before this step (6 steps from the start)");
    let study = click(&mut h, "Replay");
    answer(&mut h, &study);
    h.get_by_label_contains("equal bit for bit: 3 numbers, the routes, the 20 tensors of checkpoint-7");
    h.get_by_label_contains("All 2 picks of its routes are those of the record.");
    h.get_by_label("grad_norm");
    let mut report = studies::replay(ReplayPlan { step: 7 });
    report.values[0].replayed = f64::from_bits(report.values[0].recorded.to_bits() + 1);
    (report.differs, report.weights) = (vec!["loss".to_owned()], None);
    let req = h.state_mut().session.next_request();
    h.state_mut().session.studies.begin(req, &study);
    h.state_mut().session.apply(done(req, Outcome::Studied(Box::new(StudyReport::Replay(Box::new(report))))));
    h.run();
    h.get_by_label_contains("not equal: loss");
    h.get_by_label("not equal");
    h.get_by_label_contains("no checkpoint of this step to compare");
    // Another step's answer is not this one's.
    h.state_mut().session.playhead = Some(8);
    h.run();
    assert!(h.query_by_label_contains("not equal: loss").is_none());
    let req = h.state_mut().session.next_request();
    h.state_mut().session.studies.begin(req, &study);
    h.run();
    h.get_by_label("Cancel").click();
    h.run();
    assert_eq!(h.state_mut().take(), [Action::CancelJob]);
    h.state_mut().session.apply(failed(req, "the training file is gone"));
    h.run();
    h.get_by_label("the training file is gone");
}

#[test]
fn a_re_roll_takes_the_loss_apart() {
    let mut session = finished();
    session.playhead = Some(7);
    let mut h = show(session);
    let study = click(&mut h, "Re-roll this batch");
    answer(&mut h, &study);
    let report = studies::reroll(RerollPlan { step: 7, routes: 64 });
    let (excess, of_route) = (report.loss.excess, report.loss.of_route);
    h.get_by_label_contains(&format!("This step's loss is {excess:+.4} off the mean of the other batches"));
    h.get_by_label_contains(&format!("{of_route:+.4} by its route; {} of 64 other routes", report.below()));
    h.get_by_label("Loss under other routes and of other batches");
    h.get_by_label("Task loss under other routes and of other batches");
    h.get_by_label_contains("the filled mark of both strips is step 7 as it was");
}

#[test]
fn every_route_is_drawn_with_its_effects() {
    let mut h = show(finished());
    let study = click(&mut h, "Measure the routes");
    assert_eq!(study, Study::Routes(RoutesPlan { routes: None, probe_rows: 256 }));
    answer(&mut h, &study);
    h.get_by_label_contains("All 16 routes have losses from");
    h.get_by_label("Losses of the routes on one axis");
    h.get_by_label("Effects of the experts on the loss");
    h.get_by_label_contains("layer 0 down 60.0 %, layer 1 down 40.0 %");
    h.get_by_label_contains("One number for each expert explains 98.0 % of the variance.");
    h.get_by_label_contains("16 routes on 256 rows: 5 layer passes a row instead of 32");
}

#[test]
fn routes_part_on_a_row_or_on_a_text() {
    let mut h = show(finished());
    let seed = h.state().session.shown().unwrap().config.train.seed;
    let study = click(&mut h, "Follow the routes");
    let input = TryInput::Row { split: Split::Evaluation, row: 0 };
    assert_eq!(study, Study::Fan(FanPlan { input, routes: 16, seed }));
    answer(&mut h, &study);
    h.get_by_label("fan of routes");
    h.get_by_label_contains("The merged model gives 1.2000, the routes");
    h.get_by_label_contains("layer 0 0.050, layer 1 0.12");
    h.get_by_label_contains("Upwards: log-odds of positive in nats.");
    h.get_by_role_and_label(egui::accesskit::Role::TextInput, "Text instead").focus();
    h.run();
    h.get_by_role_and_label(egui::accesskit::Role::TextInput, "Text instead").type_text("a fine film");
    h.run();
    let Study::Fan(plan) = click(&mut h, "Follow the routes") else { panic!("no fan") };
    assert_eq!(plan.input, TryInput::Text { text: "a fine film".to_owned(), pair: None });
}

#[test]
fn a_module_is_pinned_and_the_dice_roll_the_others() {
    let mut h = show(finished());
    let Study::Grid(first) = click(&mut h, "Pin this module") else { panic!("no grid") };
    assert_eq!((first.module, first.route), (0, 0));
    let Study::Grid(second) = click(&mut h, "Roll the dice") else { panic!("no grid") };
    assert_eq!((second.route, &second.input), (1, &first.input));
    let Study::Grid(third) = click(&mut h, "Roll the dice") else { panic!("no grid") };
    assert_eq!(third.route, 2);
    answer(&mut h, &Study::Grid(third));
    h.get_by_label_contains(
        "probability of positive with layer 0 ffn on each pair of its experts, all others on random route 2",
    );
    h.get_by_label("0.8000 ◆");
    h.get_by_label("down 3");
    h.get_by_label("up (shared)");
}

#[test]
fn commands_name_the_run_and_for_weights_the_checkpoint() {
    let mut session = opened(|_| {});
    session.playhead = Some(7);
    let mut h = show(session);
    let copied = |h: &mut Harness<'static, World>, name: &str| {
        h.get_by_label(&format!("Copy the command of {name}")).click();
        h.run();
        let actions = h.state_mut().take();
        let [Action::Copy(command)] = actions.as_slice() else { panic!("{actions:?}") };
        command.clone()
    };
    assert_eq!(copied(&mut h, "Replay"), "adamix replay runs/lab-demo --step 7");
    assert_eq!(copied(&mut h, "Re-roll this batch"), "adamix reroll runs/lab-demo --step 7 --routes 64");
    let routes = copied(&mut h, "Measure the routes");
    assert!(
        routes.starts_with("adamix inspect runs/lab-demo") && routes.ends_with("--routes --probe-rows 256"),
        "{routes}"
    );
    let fan = copied(&mut h, "Follow the routes");
    assert!(fan.contains(" --row 1 --fan --random-routes 16 --seed "), "{fan}");
}

#[test]
fn the_law_is_changed_by_hand_while_a_run_trains_and_marked() {
    let (session, ..) = trained(lab(), 2, (0, Side::Down));
    let step = session.shown().unwrap().step() + 1;
    let mut h = show(session);
    h.get_by_label("Drawn per-batch in every step.");
    // It is the law already.
    assert!(h.get_by_label("Change the law").accesskit_node().is_disabled());
    h.get_by_role_and_label(egui::accesskit::Role::ComboBox, "Law from the next step on").click();
    h.run();
    h.get_by_label("Random per token").click();
    h.run();
    h.get_by_label("Change the law").click();
    h.run();
    let law = "per-token".parse().unwrap();
    assert_eq!(h.state_mut().take(), [Action::ChangeLaw(law)]);
    let change = Event::LawChanged(RunId(1), LawChange { step, law });
    h.state_mut().session.apply(Incoming::Event(change));
    h.run();
    h.get_by_label(&format!("Drawn per-batch; from step {step} on per-token."));
    let marks = adamix::app::run_view::marks(h.state().session.shown().unwrap());
    assert!(marks.contains(&("law per-token".into(), step)), "{marks:?}");
    // A finished run has nothing to change.
    let h = show(finished());
    h.get_by_label_contains("While a run trains here its law can be changed.");
    assert!(h.query_by_label("Change the law").is_none());
}
