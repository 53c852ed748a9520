//! The Merge & compare view.

use super::harness::panel;
use super::panel_support::{World, done, failed, finished, fresh, opened};
use crate::fake_engine::{data, studies, texts};
use adamix::app::actions::Action;
use adamix::app::session::Session;
use adamix::app::view::View;
use adamix::config::{Method, MixtureKind, Task};
use adamix::protocol::{
    Average, AveragedSite, AveragesReport, MergePlan, ModelQuery, Outcome, Study, StudyReport, Subject, UndefinedScore,
    WriteReport,
};
use adamix::records::Interval;
use egui_kittest::Harness;
use egui_kittest::kittest::{NodeT as _, Queryable as _};

fn show(session: Session) -> Harness<'static, World> {
    panel(View::Compare, session)
}

#[test]
fn without_a_run_it_says_what_to_do() {
    show(fresh()).get_by_label("Nothing to compare yet");
}

#[test]
fn unmeasured_it_offers_to_measure_waits_and_tells_errors() {
    let mut h = show(opened(|detail| detail.end = None));
    h.get_by_label_contains("Nothing is measured yet");
    h.get_by_label("Compare").click();
    h.run();
    let subject = h.state().session.subject().unwrap();
    assert_eq!(h.state_mut().take(), [Action::Query(subject, ModelQuery::Compare { random_routes: 5 })]);
    let req = h.state_mut().session.next_request();
    h.state_mut().session.compare.begin(req);
    h.run();
    h.get_by_label("measuring");
    h.get_by_label("Cancel").click();
    h.run();
    assert_eq!(h.state_mut().take(), [Action::CancelJob]);
    h.state_mut().session.apply(failed(req, "the evaluation file is gone; choose another one"));
    h.run();
    h.get_by_label("the evaluation file is gone; choose another one");
    assert!(h.query_by_label("Compare").is_some(), "it can be tried again");
}

#[test]
fn all_ways_stand_in_one_table_with_differences_and_noise() {
    let session = finished();
    let report = session.shown().unwrap().report().unwrap().clone();
    let h = show(session);
    for name in [
        "Merged, uniform",
        "Random routes, mean of 5",
        "Expert 3 only",
        "Ensemble of 5 routes",
        "Always the same answer",
    ] {
        assert!(h.query_all_by_label(name).count() >= 1, "{name} is missing");
    }
    let apart = report.paired.as_ref().unwrap().fixed[2].primary;
    assert!(h.query_all_by_label(&apart.numbers()).count() >= 1, "{}", apart.numbers());
    h.get_by_label_contains("95 % intervals of the differences (paired bootstrap, B = 2,000)");
    h.get_by_label("▲ best of what can be exported");
    h.get_by_label("Scores of all variants on one axis");
    let ends = [apart.low, apart.high].map(|end| format!("{:.4}", report.merged.primary + end));
    h.get_by_label(&format!("Expert 2 only: {:.4}, interval {} to {}", report.fixed[2].primary, ends[0], ends[1]));
    assert_eq!(h.query_all_by_label("Passes").count(), 1);
    h.get_by_label_contains("Measured at the end of training");
}

#[test]
fn weights_are_tried_kept_and_taken_back() {
    let mut h = show(finished());
    h.get_by_label("W = mean of all experts: the paper's merge.");
    h.get_by_label("Score this merge").click();
    h.run();
    assert_eq!(h.state_mut().take(), [Action::Query(Subject::Live, ModelQuery::Merge(MergePlan::Uniform))]);
    let slider = |h: &Harness<'static, World>, expert: usize, value: f64| {
        let name = format!("Expert {expert}");
        let slider = h.get_by_role_and_label(egui::accesskit::Role::Slider, &name);
        slider.set_value_accesskit(value);
    };
    for (expert, value) in [(0, 0.5), (1, 0.5), (2, 0.0), (3, 0.0)] {
        slider(&h, expert, value);
        h.run();
    }
    h.get_by_label("W = 0.500 W0 + 0.500 W1, for down and up alike.");
    h.get_by_label("Score this merge").click();
    h.run();
    let plan = MergePlan::Global(vec![0.5, 0.5, 0.0, 0.0]);
    assert_eq!(h.state_mut().take(), [Action::Query(Subject::Live, ModelQuery::Merge(plan.clone()))]);
    let req = h.state_mut().session.next_request();
    h.state_mut().session.merge.begin(req);
    h.state_mut().session.apply(done(req, Outcome::Merged(Box::new(data::merge_report(plan)))));
    h.run();
    h.get_by_label("Uniform").click();
    h.run();
    h.get_by_label("W = mean of all experts: the paper's merge.");
    h.get_by_label("Undo weights").click();
    h.run();
    h.get_by_label("W = 0.500 W0 + 0.500 W1, for down and up alike.");
    h.get_by_label("Uniform").click();
    h.run();
    assert!(h.query_all_by_label("50 : 50 : 0 : 0 %").count() >= 1, "the history tells the shares");
    h.get_by_label("Use weights 1").click();
    h.run();
    h.get_by_label("W = 0.500 W0 + 0.500 W1, for down and up alike.");
    assert_eq!(h.state_mut().take(), []);
}

#[test]
fn weights_that_are_all_zero_cannot_be_scored() {
    let mut h = show(finished());
    for expert in 0..4 {
        let name = format!("Expert {expert}");
        h.get_by_role_and_label(egui::accesskit::Role::Slider, &name).set_value_accesskit(0.0);
        h.run();
    }
    h.get_by_label("all weights are 0; raise at least one");
    h.get_by_label("Score this merge").click();
    h.run();
    assert_eq!(h.state_mut().take(), []);
}

#[test]
fn each_layer_can_have_weights_of_its_own() {
    let mut h = show(finished());
    h.get_by_label("in each module its own").click();
    h.run();
    h.get_by_label("layer 3, expert 0: 25 %").click();
    h.run();
    h.get_by_role_and_label(egui::accesskit::Role::Slider, "Expert 1").set_value_accesskit(0.0);
    h.run();
    h.get_by_label("layer 3, expert 1: 0 %");
    h.get_by_label("Score this merge").click();
    h.run();
    let mut lists = vec![vec![0.25; 4]; 4];
    lists[3] = vec![1.0 / 3.0, 0.0, 1.0 / 3.0, 1.0 / 3.0];
    let [Action::Query(_, ModelQuery::Merge(MergePlan::PerSite(asked)))] = &h.state_mut().take()[..] else {
        panic!("no merge")
    };
    for (asked, wanted) in asked.iter().flatten().zip(lists.iter().flatten()) {
        assert!((asked - wanted).abs() < 1e-6, "{asked} is not {wanted}");
    }
}

#[test]
fn a_run_of_a_language_model_writes_and_is_scored() {
    assert!(show(opened(|_| {})).query_by_label("Write and score").is_none(), "classes are not written");
    let mut h = show(opened(|detail| detail.config.data.task = Task::Text));
    h.get_by_label("Write and score").click();
    h.run();
    let subject = h.state().session.subject().unwrap();
    assert_eq!(h.state_mut().take(), [Action::Query(subject, ModelQuery::Write { inputs: 20 })]);
    let req = h.state_mut().session.next_request();
    h.state_mut().session.written.begin(req);
    h.run();
    h.get_by_label("writing");
    h.state_mut().session.apply(done(req, Outcome::Written(Box::new(texts::written(20)))));
    h.run();
    h.get_by_label("BLEU of base minus BLEU of merged: -59.0 (-67.0 to -51.0)");
    h.get_by_label("BLEU of random minus BLEU of merged: -3.0 (-11.0 to +5.0), no difference shown");
    for words in ["BLEU", "61.0", "58.0", "Zizzi is a French place."] {
        assert!(h.query_all_by_label(words).next().is_some(), "{words}");
    }
    assert!(h.query_by_label("TER").is_none(), "a score that this protocol does not have");
    h.get_by_label("20 inputs");
    // One input, fifteen times: fewer than asked for, and no CIDEr.
    let mut one =
        WriteReport { inputs: 1, asked: 20, available: 1, texts: 15, different_texts: 1, ..texts::written(1) };
    for way in &mut one.ways {
        way.scores.cider = None;
        way.scores.undefined =
            vec![UndefinedScore { name: "CIDEr".to_owned(), reason: "there is only one input".to_owned() }];
    }
    let req = h.state_mut().session.next_request();
    h.state_mut().session.written.begin(req);
    h.state_mut().session.apply(done(req, Outcome::Written(Box::new(one))));
    h.run();
    let few = "1 input (20 were asked for; the 15 evaluation texts have 1 different input). The evaluation texts are one \
               text 15 times, so the scores say nothing about others";
    h.get_by_label(few);
    h.get_by_label("CIDEr –: not defined here, as there is only one input");
    assert_eq!(h.query_all_by_label("–").count(), 3);
}

/// The view with an answer to the question about averages.
fn averaged(change: impl FnOnce(&mut AveragesReport)) -> Harness<'static, World> {
    let mut session = finished();
    let req = session.next_request();
    session.studies.averages.begin(req);
    let mut report = studies::averages(MixtureKind::Lora);
    change(&mut report);
    session.apply(done(req, Outcome::Studied(Box::new(StudyReport::Averages(report)))));
    show(session)
}

#[test]
fn three_averages_are_asked_for_waited_for_and_given_up() {
    let mut h = show(finished());
    h.get_by_label_contains("AdaMix averages the experts' factors");
    h.get_by_label("Average three ways").click();
    h.run();
    assert_eq!(h.state_mut().take(), [Action::Query(Subject::Live, ModelQuery::Study(Study::Averages))]);
    let req = h.state_mut().session.next_request();
    h.state_mut().session.studies.averages.begin(req);
    h.run();
    h.get_by_label("averaging");
    h.get_by_label("Average three ways").click();
    h.get_by_label("Cancel").click();
    h.run();
    assert_eq!(h.state_mut().take(), [Action::CancelJob], "asking twice is not possible");
    h.state_mut().session.apply(failed(req, "the model does not fit into memory; close other programs"));
    h.run();
    h.get_by_label("the model does not fit into memory; close other programs");
    h.get_by_label("What averaging factors averages").click();
    h.run();
    h.get_by_label_contains("the mean of B A_j is B mean(A) exactly");
    let h = show(opened(|detail| detail.config.model.method = Method::HeadOnly));
    assert!(h.query_by_label("Average three ways").is_none(), "a run without experts has nothing to average");
}

#[test]
fn three_averages_stand_side_by_side_with_the_distance_at_each_site() {
    let h = averaged(|_| {});
    let report = studies::averages(MixtureKind::Lora);
    for average in [Average::Factors, Average::Deltas, Average::Truncated, Average::Outputs] {
        h.get_by_label(average.words());
        let scores = &report.way(average).unwrap().scores;
        assert!(h.query_all_by_label(&format!("{:.4}", scores.primary)).count() >= 1);
    }
    h.get_by_label("+0.0030");
    h.get_by_label("2 of 64");
    let mean = |value: fn(&AveragedSite) -> f64| 100.0 * report.sites.iter().map(value).sum::<f64>() / 4.0;
    h.get_by_label_contains("Averaging factors is exactly the mean over all 16 products that were trained");
    let (own, low, high) = (mean(|s| s.parts[0]), mean(|s| s.parts[2]), mean(|s| s.parts[1]));
    let words =
        format!("an arbitrary part, {own:.1} % of its norm away, as other parts are ({low:.1} % to {high:.1} %");
    h.get_by_label_contains(&words);
    h.get_by_label_contains("this part is 0.0030 better in accuracy (no difference shown)");
    h.get_by_label("Distance from the mean over all pairs, module by module");
    let h = averaged(|report| report.tied = true);
    let off = mean(|site| site.off);
    h.get_by_label_contains(&format!("Averaging factors misses their mean by {off:.1} % of its norm"));
    h.get_by_label_contains("the mean delta itself is 0.0030 better in accuracy (no difference shown)");
    // Whether it is shown is decided on the rows, pair by pair.
    let h = averaged(|report| {
        report.tied = true;
        let paired = report.ways[1].paired.as_mut().unwrap();
        paired.primary = Interval { value: 0.003, low: 0.001, high: 0.005, p: 0.01 };
    });
    h.get_by_label_contains("the mean delta itself is 0.0030 better in accuracy, the ensemble");
    h.get_by_label("Distance from the mean delta, module by module");
    let first = 100.0 * report.sites[0].off;
    h.get_by_label_contains(&format!("layer 0 attention.self.query: factors {first:.1} %"));
    let mut h = averaged(|_| {});
    assert!(h.query_by_label("4 → 16").is_none());
    h.get_by_label("Numbers of each module").click();
    h.run();
    assert_eq!(h.query_all_by_label("4 → 16").count(), 4);
}

#[test]
fn a_shared_side_and_adapters_are_explained_instead() {
    let h = averaged(|report| {
        report.shared = true;
        report.sites.iter_mut().for_each(|site| (site.off, site.truncated_off) = (0.0, 0.0));
    });
    h.get_by_label_contains("factors and deltas are exactly the same module");
    assert!(h.query_by_label_contains("module by module").is_none(), "a plot of zeros");
    let h = averaged(|report| *report = studies::averages(MixtureKind::Adapter));
    h.get_by_label_contains("Adapters have factors and outputs only");
    h.get_by_label_contains("An adapter has a nonlinearity between its two matrices");
    assert!(h.query_by_label(Average::Deltas.words()).is_none());
    assert!(h.query_by_label("Numbers of each module").is_none());
}

#[test]
fn the_luckiest_of_several_merges_is_not_marked_as_best() {
    let mut h = show(finished());
    h.get_by_label("▲ best of what can be exported");
    for (i, score) in [0.7645, 0.7660, 0.7690].into_iter().enumerate() {
        let req = h.state_mut().session.next_request();
        h.state_mut().session.merge.begin(req);
        let mut report = data::merge_report(MergePlan::Global(vec![0.4, 0.3, 0.2, 0.1 * i as f32]));
        report.scores = data::scores(score);
        report.paired = Some(data::apart(score - 0.764, 0.01));
        h.state_mut().session.apply(done(req, Outcome::Merged(Box::new(report))));
    }
    h.run();
    assert!(
        h.query_by_label("▲ best of what can be exported").is_none(),
        "merged is not shown to be better than the merges"
    );
    h.get_by_label("no best one shown");
    h.get_by_label_contains("to the rest no difference is shown (p adjusted for 9 comparisons, Holm)");
    let req = h.state_mut().session.next_request();
    h.state_mut().session.merge.begin(req);
    let mut report = data::merge_report(MergePlan::Global(vec![1.0, 0.0, 0.0, 1.0]));
    (report.scores, report.paired) = (data::scores(0.8), Some(data::apart(0.036, 0.01)));
    h.state_mut().session.apply(done(req, Outcome::Merged(Box::new(report))));
    h.run();
    let mark = h.get_by_label("▲ best of what can be exported").rect();
    let weights = h.query_all_by_label("Weights 4").next().unwrap().rect();
    assert!(
        (mark.center().y - weights.center().y).abs() < 4.0,
        "the mark is beside the merge that is shown to be better"
    );
    h.get_by_label_contains("Weights 4 are better than merged: accuracy +0.0360");
}

#[test]
fn a_record_without_intervals_names_no_best_one() {
    let mut session = finished();
    let report = session.live.as_mut().and_then(|run| run.end.as_mut()).and_then(|end| end.report.as_mut()).unwrap();
    *report = data::unpaired_report(5);
    let h = show(session);
    h.get_by_label_contains("This record has no paired differences");
    assert!(h.query_by_label("▲ best of what can be exported").is_none());
    let error = (0.764f64 * 0.236 / 640.0).sqrt();
    h.get_by_label(&format!("Merged, uniform: 0.7640, standard error {error:.4}"));
}

#[test]
fn close_scores_are_drawn_apart_and_the_axis_says_so() {
    let mut h = show(finished());
    assert!(h.get_by_label("Zoom to the values").accesskit_node().toggled() == Some(egui::accesskit::Toggled::True));
    h.get_by_label_contains("The baseline, 0.5000, lies left of this axis.");
    h.get_by_label("Zoom to the values").click();
    h.run();
    assert!(h.query_by_label_contains("lies left of this axis").is_none());
    h.get_by_label("Loss instead").click();
    h.run();
    h.get_by_label("Merged, uniform: 0.3360");
    h.get_by_label("Loss of each, on one axis");
}

#[test]
fn a_lora_is_explained_as_one() {
    let mut h = show(opened(|detail| {
        detail.config.mixture.kind = MixtureKind::Lora;
        detail.start = data::start_record(&detail.config, 0);
    }));
    h.get_by_label("What is averaged here, and what is not").click();
    h.run();
    h.run_steps(20);
    h.get_by_label_contains("the mean of the experts' A and the mean of their B");
    h.get_by_label_contains("There is no bias and no nonlinearity between A and B.");
    for wrong in ["between the two projections there is a nonlinearity", "weights and biases"] {
        assert!(h.query_by_label_contains(wrong).is_none(), "{wrong}");
    }
}

#[test]
fn one_input_is_one_input() {
    let mut h = show(opened(|detail| detail.config.data.task = Task::Text));
    let req = h.state_mut().session.next_request();
    h.state_mut().session.written.begin(req);
    let report = texts::written(1);
    assert_eq!(report.inputs, 1);
    h.state_mut().session.apply(done(req, Outcome::Written(Box::new(report))));
    h.run();
    h.get_by_label_contains("1 input");
    assert!(h.query_by_label_contains("1 inputs").is_none());
}
