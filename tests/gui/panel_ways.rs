//! *Merge & compare*: ways of merging, dragged weights, kept merges, the spread slider.

use super::panel_support::{World, done, finished, opened, panel};
use crate::fake_engine::{data, studies};
use adamix::app::actions::Action;
use adamix::app::session::Session;
use adamix::app::view::View;
use adamix::config::{Method, MixtureKind};
use adamix::protocol::*;
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable as _;

fn show(session: Session) -> Harness<'static, World> {
    panel(View::Compare, session)
}

#[track_caller]
fn only(h: &mut Harness<'static, World>) -> Action {
    let mut actions = h.state_mut().take();
    assert_eq!(actions.len(), 1, "{actions:?}");
    actions.remove(0)
}

fn choose(h: &mut Harness<'static, World>, from: &str, to: &str) {
    h.get_by_value(from).click();
    h.run();
    h.get_by_label(to).click();
    h.run();
}

#[test]
fn a_way_shows_its_formula_and_cost_and_is_scored() {
    let mut h = show(finished());
    h.get_by_label_contains("the paper's mean of factors");
    h.get_by_label("Width 16, as one expert. Nothing runs before the score.");
    choose(&mut h, "Uniform mean (the paper)", "Wide: experts side by side");
    h.get_by_label_contains("down = [D_1; ...; D_M], up = [U ... U] / M: bottleneck M r");
    h.get_by_label_contains("Width 64 instead of 16");
    h.get_by_label("Score wide: all experts side by side").click();
    h.run();
    let wide = MergePlan::Wide(Pairs::Same);
    assert_eq!(only(&mut h), Action::Query(Subject::Live, ModelQuery::Merge(wide.clone())));
    // Its score stands among the others, with width and parameters; the sliders cannot be put to it.
    let req = h.state_mut().session.next_request();
    h.state_mut().session.merge.begin(req);
    let report = MergeReport { width: 64, parameters: 12_345, ..data::merge_report(wide) };
    h.state_mut().session.apply(done(req, Outcome::Merged(Box::new(report))));
    h.run();
    h.get_by_label("wide: all experts side by side");
    h.get_by_label("64");
    assert!(h.query_by_label("Use weights 1").is_none());
    choose(&mut h, "Wide: experts side by side", "Greedy soup");
    h.get_by_label_contains("7 passes over the evaluation rows");
    h.get_by_label_contains("confirm it on other rows");
    choose(&mut h, "Greedy soup", "TIES");
    h.get_by_label("Score TIES, 20 % kept").click();
    h.run();
    assert_eq!(only(&mut h), Action::Query(Subject::Live, ModelQuery::Merge(MergePlan::Ties { density: 0.2 })));
}

#[test]
fn only_ways_that_the_mixture_has_are_offered() {
    let mut h = show(opened(|detail| {
        (detail.config.mixture.kind, detail.config.mixture.sharing_up) = (MixtureKind::Lora, true);
        detail.start = data::start_record(&detail.config, 0);
    }));
    h.get_by_value("Uniform mean (the paper)").click();
    h.run();
    h.get_by_label("Wide: experts side by side");
    for absent in ["Wide: all pairs", "Wide, pruned to a budget", "One module fitted to the wide one"] {
        assert!(
            h.query_by_label(absent).is_none(),
            "{absent}: with a shared side the wide LoRA is the mean of factors"
        );
    }
    let h = show(opened(|detail| detail.config.model.method = Method::HeadOnly));
    assert!(h.query_by_label("Ways of merging").is_none() && h.query_by_label("Spread of the experts").is_none());
}

#[test]
fn dragged_weights_ask_for_the_probe_set_and_show_its_score() {
    let mut h = show(finished());
    assert_eq!(h.state_mut().take(), [], "nothing is asked for before it is switched on");
    h.get_by_label("Score while dragging").click();
    h.run();
    let asked = |merge: MergePlan| {
        Action::Query(Subject::Live, ModelQuery::Reweigh(ReweighPlan { merge, probe_rows: ReweighPlan::PROBE_ROWS }))
    };
    // Until it is sent, it is asked for again.
    assert!(h.state_mut().take().iter().all(|action| *action == asked(MergePlan::Uniform)));
    let answer = |h: &mut Harness<'static, World>, merge: MergePlan| {
        let req = h.state_mut().session.next_request();
        h.state_mut().session.reweigh.begin(req);
        let report = studies::reweighed(&ReweighPlan { merge, probe_rows: 256 });
        h.state_mut().session.apply(done(req, Outcome::Reweighed(Box::new(report))));
        h.run();
        h.state_mut().take();
    };
    answer(&mut h, MergePlan::Uniform);
    h.get_by_label_contains("Accuracy 0.7680 (+0.0040 against uniform)");
    h.get_by_label_contains("256 probe rows, 8 of 16 layer passes");
    let slider = h.get_by_role_and_label(egui::accesskit::Role::Slider, "Expert 0");
    slider.set_value_accesskit(0.0);
    h.run();
    let third = 1.0 / 3.0;
    let list = vec![0.0, third, third, third];
    let Action::Query(_, ModelQuery::Reweigh(ReweighPlan { merge: MergePlan::Global(found), .. })) = only(&mut h)
    else {
        panic!("no probe set")
    };
    assert!(found.iter().zip(&list).all(|(a, b)| (a - b).abs() < 1e-6), "{found:?}");
    h.get_by_label("by layer group").click();
    h.run();
    answer(&mut h, MergePlan::Uniform);
    h.get_by_value("lower layers");
    let slider = h.get_by_role_and_label(egui::accesskit::Role::Slider, "Expert 0");
    slider.set_value_accesskit(0.0);
    h.run();
    let Action::Query(_, ModelQuery::Reweigh(ReweighPlan { merge: MergePlan::PerSite(lists), .. })) = only(&mut h)
    else {
        panic!("no probe set")
    };
    let changed: Vec<bool> = lists.iter().map(|list| list[0] == 0.0).collect();
    assert_eq!(changed, [true, true, false, false], "two of four layers are the lower third");
    h.get_by_label("Undo weights").click();
    h.run();
    h.get_by_label("W = mean of all experts: the paper's merge.");
    h.get_by_label("Redo weights").click();
    h.run();
    h.get_by_label_contains("W of these layers = 0.333 W1");
}

#[test]
fn three_experts_have_a_triangle() {
    let h = show(opened(|detail| {
        detail.config.mixture.num_experts = 3;
        detail.start = data::start_record(&detail.config, 0);
    }));
    h.get_by_label("Shares of three experts");
    assert!(show(finished()).query_by_label("Shares of three experts").is_none());
}

#[test]
fn merges_are_kept_under_names() {
    let mut h = show(finished());
    h.get_by_label("Keep merge").click();
    h.run();
    assert_eq!(h.state_mut().take(), [], "a merge without a name is not kept");
    let slider = h.get_by_role_and_label(egui::accesskit::Role::Slider, "Expert 3");
    slider.set_value_accesskit(0.0);
    h.run();
    let field = h.get_by_role_and_label(egui::accesskit::Role::TextInput, "Name of the merge");
    field.focus();
    h.run();
    h.get_by_role_and_label(egui::accesskit::Role::TextInput, "Name of the merge").type_text("without 3");
    h.run();
    h.get_by_label("Keep merge").click();
    h.run();
    let Action::NameMerge(dir, name, Some(merge)) = only(&mut h) else { panic!("nothing is kept") };
    assert_eq!(name, "without 3");
    let req = h.state_mut().session.next_request();
    h.state_mut().session.naming.begin(req);
    let merges = vec![NamedMerge { name, merge: merge.clone() }];
    h.state_mut().session.apply(done(req, Outcome::NamedMerges(dir.clone(), merges)));
    h.run();
    h.get_by_label("Uniform").click();
    h.run();
    h.get_by_label("Use the merge without 3").click();
    h.run();
    h.get_by_label_contains("W = 0.333 W0 + 0.333 W1 + 0.333 W2");
    h.get_by_label("Remove the merge without 3").click();
    h.run();
    assert_eq!(only(&mut h), Action::NameMerge(dir, "without 3".to_owned(), None));
}

#[test]
fn the_spread_is_asked_for_and_drawn() {
    let mut h = show(finished());
    h.get_by_label("Move the experts apart").click();
    h.run();
    let plan = SpreadPlan::default();
    assert_eq!(only(&mut h), Action::Query(Subject::Live, ModelQuery::Study(Study::Spread(plan.clone()))));
    let req = h.state_mut().session.next_request();
    h.state_mut().session.studies.spread.begin(req);
    let report = StudyReport::Spread(studies::spread(&plan));
    h.state_mut().session.apply(done(req, Outcome::Studied(Box::new(report))));
    h.run();
    h.get_by_label("J and G over alpha");
    h.get_by_label("J: routes minus ensemble, alpha 2.00: +0.0160");
    h.get_by_label_contains("At alpha 1.00: J = +0.0040, G = +0.0030");
    h.get_by_role_and_label(egui::accesskit::Role::Slider, "alpha").set_value_accesskit(2.0);
    h.run();
    h.get_by_label_contains("At alpha 2.00: J = +0.0160, G = +0.0120");
}
