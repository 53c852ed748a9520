//! The Playground of a classifier: a text, its classes in every way of running the model, and what its words do.

use crate::fake_engine::trying;
use crate::harness::panel;
use crate::panel_support::{World, done, failed, finished, opened};
use adamix::app::actions::Action;
use adamix::app::session::Session;
use adamix::app::view::View;
use adamix::protocol::*;
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable as _;

type Panel = Harness<'static, World>;

/// The newest question of the view; it is noted as asked.
#[track_caller]
fn asked(harness: &mut Panel) -> (RequestId, ModelQuery) {
    let action = harness.state_mut().take().pop();
    let Some(Action::Query(_, query)) = action else { panic!("nothing was asked: {action:?}") };
    let session = &mut harness.state_mut().session;
    let req = session.next_request();
    match &query {
        ModelQuery::Try(_) => session.try_it.begin(req),
        ModelQuery::TryWords(_) => session.try_words.begin(req),
        other => panic!("{other:?}"),
    }
    (req, query)
}

/// Answers everything that is asked, with these classes.
#[track_caller]
fn answer_all(harness: &mut Panel, labels: &[&str]) {
    for _ in 0..4 {
        harness.run();
        if harness.state().actions.is_empty() {
            return;
        }
        let (req, query) = asked(harness);
        let outcome = match query {
            ModelQuery::Try(plan) => Outcome::Tried(Box::new(trying::answer_of(plan, labels))),
            ModelQuery::TryWords(input) => {
                let class = (!labels.is_empty()).then_some(1);
                Outcome::TriedWords(Box::new(trying::words_of(input, class)))
            }
            other => panic!("{other:?}"),
        };
        harness.state_mut().session.apply(done(req, outcome));
    }
    panic!("it asks again and again: {:?}", harness.state().actions);
}

#[track_caller]
fn answered(session: Session, labels: &[&str]) -> Panel {
    let mut harness = panel(View::Playground, session);
    answer_all(&mut harness, labels);
    harness
}

const CLASSES: [&str; 2] = ["negative", "positive"];

#[test]
fn a_row_is_read_at_once_and_every_way_is_named_with_its_value() {
    let mut harness = panel(View::Playground, finished());
    let Some(Action::Query(subject, ModelQuery::Try(plan))) = harness.state().actions.first().cloned() else {
        panic!("nothing was asked")
    };
    assert_eq!((subject, plan.routes), (Subject::Live, 16));
    assert_eq!(plan.input, TryInput::Row { split: Split::Evaluation, row: 0 });
    answer_all(&mut harness, &CLASSES);
    let described = harness.get_by_label_contains("positive: Merged");
    let words = format!("{described:?}");
    for way in ["Expert 0", "Expert 3", "Random route 0", "Random route 15", "Ensemble of 16 routes", "Base model"] {
        assert!(words.contains(way), "{way} is missing: {words}");
    }
    for text in ["which is the row's label", "of 16 random routes say the same class", "after step 240"] {
        assert!(harness.query_all_by_label_contains(text).next().is_some(), "{text}");
    }
    // The text of the row can be read and changed.
    assert!(harness.get_by_label("Text").value().is_some_and(|text| text.starts_with("a gripping story")));
    assert!(harness.query_all_by_label_contains("Words: a ").next().is_some());
    assert!(harness.query_all_by_label_contains("left out once, alone").next().is_some());
    assert!(harness.state().actions.is_empty(), "it asks again without a reason");
}

#[test]
fn a_typed_text_is_read_after_a_pause_and_the_newest_wins() {
    let mut harness = answered(finished(), &CLASSES);
    harness.get_by_label("Text").focus();
    harness.run();
    harness.get_by_label("Text").type_text("Dull. ");
    // The frame that takes the keys asks nothing.
    harness.step();
    assert!(harness.state().actions.is_empty());
    harness.run();
    let (old, query) = asked(&mut harness);
    let ModelQuery::Try(plan) = query else { panic!("{query:?}") };
    let TryInput::Text { text, pair: None } = &plan.input else { panic!("{plan:?}") };
    assert!(text.contains("Dull. "));
    harness.get_by_label("Text").type_text("Slow. ");
    harness.run();
    let (req, query) = asked(&mut harness);
    let ModelQuery::Try(newer) = query else { panic!("{query:?}") };
    let answer = |plan| Outcome::Tried(Box::new(trying::answer_of(plan, &CLASSES)));
    harness.state_mut().session.apply(done(req, answer(newer.clone())));
    harness.state_mut().session.apply(done(old, answer(plan)));
    assert_eq!(harness.state().session.try_it.value.as_ref().map(|report| &report.plan), Some(&newer));
    harness.run();
    assert!(harness.query_all_by_label_contains("row's label").next().is_none(), "a typed text has no label");
    assert!(harness.get_by_label("Text").value().is_some_and(|text| text.contains("Slow.")));
}

#[test]
fn other_routes_and_other_rows_are_a_click_away() {
    let mut harness = answered(finished(), &CLASSES);
    let seed = harness.state().session.try_it.value.as_ref().unwrap().plan.seed;
    harness.get_by_label("Re-roll the routes").click();
    harness.run();
    let Some(Action::Query(_, ModelQuery::Try(plan))) = harness.state_mut().take().pop() else { panic!("not asked") };
    assert_eq!(plan.seed, seed + 1);
    harness.get_by_label("training").click();
    harness.run();
    harness.state_mut().take();
    harness.get_by_label(">").click();
    harness.run();
    let Some(Action::Query(_, ModelQuery::Try(plan))) = harness.state_mut().take().pop() else { panic!("not asked") };
    assert_eq!(plan.input, TryInput::Row { split: Split::Training, row: 1 });
}

#[test]
fn dots_fall_one_by_one_unless_motion_is_reduced() {
    let frames = |reduce: bool| {
        let mut harness = panel(View::Playground, finished());
        harness.state_mut().settings.reduced_motion = reduce;
        let (req, query) = asked(&mut harness);
        let ModelQuery::Try(plan) = query else { panic!("{query:?}") };
        let report = Outcome::Tried(Box::new(trying::answer_of(plan, &CLASSES)));
        harness.state_mut().session.apply(done(req, report));
        harness.run()
    };
    let (moving, still) = (frames(false), frames(true));
    assert!(moving > still + 2, "{moving} frames with motion, {still} without");
}

#[test]
fn many_classes_a_value_and_no_mixture_are_shown() {
    let names: Vec<String> = (0..20).map(|class| format!("class {class}")).collect();
    let labels: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut harness = answered(finished(), &labels);
    assert!(harness.query_all_by_label_contains("class 1: Merged").next().is_some(), "the likeliest is shown");
    harness.get_by_label("14 more classes").click();
    harness.run();
    assert_eq!(harness.query_all_by_label_contains(": Merged").count(), 20);

    let harness = answered(finished(), &[]);
    assert!(harness.query_all_by_label_contains("Merged gives").next().is_some());
    assert!(harness.query_all_by_label_contains("the row's value is 3.2").next().is_some());
    assert!(harness.query_all_by_label_contains("value with the word minus without it").next().is_some());

    let mut harness = panel(View::Playground, opened(|_| {}));
    let (req, query) = asked(&mut harness);
    let ModelQuery::Try(plan) = query else { panic!("{query:?}") };
    let report =
        TryReport { labels: CLASSES.map(str::to_owned).to_vec(), merged: vec![0.2, 0.8], plan, ..TryReport::default() };
    harness.state_mut().session.apply(done(req, Outcome::Tried(Box::new(report))));
    harness.run();
    assert!(harness.query_all_by_label_contains("The model says positive").next().is_some());
    assert!(harness.query_by_label("Re-roll the routes").is_none(), "there are no routes");
}

#[test]
fn a_failure_is_shown_and_not_asked_again_by_itself() {
    let mut harness = panel(View::Playground, finished());
    let (req, _) = asked(&mut harness);
    harness.state_mut().session.apply(failed(req, "the tokenizer cannot be loaded"));
    harness.run();
    assert!(harness.query_all_by_label_contains("the tokenizer cannot be loaded").next().is_some());
    assert!(harness.state().actions.is_empty());
}
