//! Rows answered differently, in the Merge & compare view.

use super::harness::panel;
use super::panel_support::{World, done, failed, finished, opened};
use crate::fake_engine::studies;
use adamix::app::actions::Action;
use adamix::app::view::View;
use adamix::config::Method;
use adamix::protocol::{
    Checkpoint, ModelQuery, Outcome, Residuals, RowAnswer, RowsPlan, RowsReport, SliceBy, Study, StudyReport, Subject,
    Way,
};
use egui_kittest::Harness;
use egui_kittest::kittest::{NodeT as _, Queryable as _};

fn plan() -> RowsPlan {
    RowsPlan { second: Way::Ensemble(5), ..RowsPlan::default() }
}

/// The view with an answer.
fn answered(change: impl FnOnce(&mut RowsReport)) -> Harness<'static, World> {
    let mut session = finished();
    let req = session.next_request();
    session.studies.rows.begin(req);
    let mut report = studies::rows(&plan());
    change(&mut report);
    session.apply(done(req, Outcome::Studied(Box::new(StudyReport::Rows(Box::new(report))))));
    panel(View::Compare, session)
}

fn choose(h: &mut Harness<'static, World>, label: &str, value: &str) {
    h.get_by_role_and_label(egui::accesskit::Role::ComboBox, label).click();
    h.run();
    h.get_by_role_and_label(egui::accesskit::Role::Button, value).click();
    h.run();
}

#[test]
fn two_ways_are_chosen_asked_for_and_waited_for() {
    let mut h = panel(View::Compare, finished());
    h.get_by_label("It takes 6 passes over 640 rows, and 2,000 resamples of them.");
    h.get_by_label("Compare row by row").click();
    h.run();
    let ask = |plan: RowsPlan| Action::Query(Subject::Live, ModelQuery::Study(Study::Rows(plan)));
    assert_eq!(h.state_mut().take(), [ask(plan())]);
    choose(&mut h, "Against", "Expert 2 only");
    h.get_by_label("It takes 2 passes over 640 rows, and 2,000 resamples of them.");
    h.get_by_label("Compare row by row").click();
    h.run();
    assert_eq!(h.state_mut().take(), [ask(RowsPlan { second: Way::Expert(2), ..plan() })]);
    h.get_by_label("Copy the command of Compare row by row").click();
    h.run();
    let [Action::Copy(command)] = &h.state_mut().take()[..] else { panic!("no command") };
    assert!(command.starts_with("adamix eval ") && command.ends_with(" --rows --against expert:2"), "{command}");
    choose(&mut h, "Against", "Merged");
    h.get_by_label("Compare row by row").click();
    h.run();
    assert_eq!(h.state_mut().take(), [], "two ways that are one are not asked for");
    let req = h.state_mut().session.next_request();
    h.state_mut().session.studies.rows.begin(req);
    h.run();
    h.get_by_label("measuring row by row");
    h.state_mut().session.apply(failed(req, "the other run has other rows"));
    h.run();
    h.get_by_label("the other run has other rows");
}

#[test]
fn a_run_without_experts_is_compared_with_its_base_and_its_checkpoints() {
    let mut h = panel(
        View::Compare,
        opened(|detail| {
            detail.config.model.method = Method::HeadOnly;
            detail.checkpoints.steps = vec![120, 240];
        }),
    );
    choose(&mut h, "Against", "Merged at step 120");
    h.get_by_label("Compare row by row").click();
    h.run();
    let [Action::Query(_, ModelQuery::Study(Study::Rows(asked)))] = &h.state_mut().take()[..] else {
        panic!("not asked")
    };
    assert_eq!(asked.second, Way::Checkpoint(Checkpoint::Step(120)));
    h.get_by_role_and_label(egui::accesskit::Role::ComboBox, "Against").click();
    h.run();
    let offered = |name: &str| h.query_by_role_and_label(egui::accesskit::Role::Button, name).is_some();
    assert!(offered("Base model") && !offered("Ensemble of 5 routes") && !offered("Expert 0 only"));
}

#[test]
fn the_difference_is_said_in_accuracy_and_in_loss() {
    let h = answered(|_| {});
    let words = "Ensemble of 5 routes minus merged: accuracy -0.1000 (-0.2200 to +0.0200), no difference shown; loss +0.0500 \
                 (+0.0300 to +0.0700) (only one of them shows a difference). They answer 4 of 40 rows differently; only merged is \
                 right 4 times, only ensemble of 5 routes 0 times (McNemar's exact test: p = 0.40).";
    h.get_by_label(words);
    h.get_by_label_contains("The loss shows a difference and the metric does not");
    h.get_by_label_contains("40 of 640 rows, evenly spread; intervals by paired bootstrap, B = 2,000");
    h.get_by_label("2.0 s (×5.00)");
}

#[test]
fn rows_are_listed_worst_first_filtered_and_paged() {
    let mut h = answered(|_| {});
    let report = studies::rows(&plan());
    // What the card is named after is listed first.
    h.get_by_label("rows 1 to 4 of 4, the largest difference of the losses first");
    assert_eq!(
        h.query_all_by_label_contains("≠ positive 0.").count(),
        4,
        "all four are negative, and the ensemble is wrong"
    );
    choose(&mut h, "Answers", "all rows");
    h.get_by_label("rows 1 to 12 of 40, the largest difference of the losses first");
    let first = &report.entries[0];
    h.get_by_label(&first.text);
    assert!(h.query_by_label(&report.entries[12].text).is_none());
    h.get_by_label("Next rows ▶").click();
    h.run();
    h.get_by_label("rows 13 to 24 of 40, the largest difference of the losses first");
    h.get_by_label(&report.entries[12].text);
    choose(&mut h, "Answers", "only ensemble of 5 routes is right");
    h.get_by_label("No row is like this; choose all rows to see the others");
    choose(&mut h, "Answers", "only merged is right");
    choose(&mut h, "Right class", "positive");
    h.get_by_label("No row is like this; choose all rows to see the others");
    choose(&mut h, "Answers", "all rows");
    choose(&mut h, "Length", "4 to 7 tokens");
    let short = report.entries.iter().filter(|entry| entry.tokens <= 7 && entry.row % 2 == 1).count();
    h.get_by_label(&format!("rows 1 to {short} of {short}, the largest difference of the losses first"));
    h.get_by_label("Save rows answered differently table");
}

#[test]
fn confusion_calibration_and_slices_have_a_place_each() {
    let mut h = answered(|_| {});
    h.get_by_label("Confusion").click();
    h.run();
    h.get_by_label("Merged: 4 of 20 negative answered positive (20.0 %)");
    h.get_by_label("Ensemble of 5 routes: 8 of 20 negative answered positive (40.0 %)");
    h.get_by_label_contains("Both right: 28. Only merged: 4.");
    h.get_by_label("Calibration").click();
    h.run();
    h.get_by_label("Reliability");
    h.get_by_label("Risk and coverage");
    assert_eq!(h.query_all_by_label("0.1500").count(), 1, "the ECE of the ensemble");
    h.get_by_label("ECE, 10 bins");
    h.get_by_label("Slices").click();
    h.run();
    h.get_by_label("-0.2000 (-0.3200 to -0.0800)");
    h.get_by_label_contains("A difference is shown in 1 of 4 slices");
    assert_eq!(h.query_all_by_label("0.800 (0.580 to 0.920)").count(), 4);
}

#[test]
fn values_and_texts_have_rows_without_classes() {
    let values = |report: &mut RowsReport| {
        report.labels.clear();
        (report.flips, report.metric) = (None, "pearson".to_owned());
        for way in &mut report.ways {
            (way.calibration, way.confusion) = (None, Vec::new());
            way.residuals =
                Some(Residuals { mean: 0.125, sd: 0.5, mean_abs: 0.4, quantiles: [-0.8, -0.2, 0.1, 0.4, 0.9] });
        }
        report.slices.retain(|slice| slice.by == SliceBy::Length);
        report.slices.iter_mut().for_each(|slice| slice.accuracies = None);
        for entry in &mut report.entries {
            entry.answers = [RowAnswer::Value(2.5), RowAnswer::Value(3.25)];
            entry.label = None;
        }
    };
    let mut h = answered(values);
    assert!(h.query_by_label("Confusion").is_none() && h.query_by_label("Answers").is_none());
    assert_eq!(h.query_all_by_label("3.250").count(), 12);
    assert_eq!(h.query_all_by_label("-0.800  -0.200  0.100  0.400  0.900").count(), 2);
    h.get_by_label("Slices").click();
    h.run();
    assert_eq!(h.query_all_by_label("Merged, loss").count(), 1);
    let h = answered(|report| {
        values(report);
        report.metric = "loss".to_owned();
        for entry in &mut report.entries {
            entry.answers = [RowAnswer::Tokens(3), RowAnswer::Tokens(2)];
            entry.tokens = 14;
        }
    });
    assert_eq!(h.query_all_by_label("3 of 14").count(), 12);
}

#[test]
fn nothing_is_cut_off_in_a_narrow_window() {
    let h = answered(|_| {});
    let width = 760.0;
    for label in ["Compare row by row", "Against", "Next rows ▶", "Slices"] {
        let rect = h.get_by_label(label).rect();
        assert!(rect.left() >= 0.0 && rect.right() <= width, "{label}: {rect:?}");
    }
    assert!(h.get_by_label("Slices").accesskit_node().label().is_some());
}
