//! The Playground view: who answers, what is asked, and how answers are shown.

use crate::fake_engine::{data, texts};
use crate::harness::{panel, ready_session};
use crate::panel_support::{World, done, opened};
use adamix::app::actions::Action;
use adamix::app::session::Session;
use adamix::app::view::View;
use adamix::config::Task;
use adamix::protocol::*;
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable as _;

type Panel = Harness<'static, World>;

const PATH: &str = "/models/writer";

/// A language model is chosen in Setup; no run.
fn writer_session() -> Session {
    let mut session = ready_session();
    let mut form = session.form.clone();
    form.model.path = PATH.to_owned();
    session.edit_form(form, 1.0);
    let req = session.next_request();
    session.model.begin(req);
    let info = ModelInfo { writes: true, ..data::model_info(PATH) };
    session.apply(done(req, Outcome::Model(Box::new(info))));
    session
}

#[test]
fn without_a_language_model_it_says_what_to_do() {
    let mut harness = panel(View::Playground, ready_session());
    assert!(harness.query_all_by_label_contains("No language model").next().is_some());
    harness.get_by_label("Show Setup").click();
    harness.run();
    assert_eq!(harness.state().actions, [Action::Show(View::Setup)]);
}

#[test]
fn the_model_of_the_form_can_be_asked() {
    let mut harness = panel(View::Playground, writer_session());
    harness.get_by_label("Write").click();
    harness.run();
    let Some(Action::Play(writer, plan)) = harness.state().actions.first().cloned() else {
        panic!("nothing was asked")
    };
    assert_eq!((writer, plan.panes.as_slice()), (Writer::Model(PATH.to_owned()), &[Pane::Base][..]));
    assert!(plan.chat && !plan.prompt.is_empty() && plan.sampler == Sampler::default());
}

fn plan(panes: &[Pane]) -> PlayPlan {
    PlayPlan { prompt: "Where is Zizzi?".to_owned(), panes: panes.to_vec(), ..PlayPlan::default() }
}

#[test]
fn answers_come_as_they_are_written_and_old_ones_are_dropped() {
    let mut session = writer_session();
    let (old, req) = (session.next_request(), session.next_request());
    session.play.begin(req);
    session.apply(Incoming::Writing(old, vec!["stale words".to_owned()]));
    session.apply(Incoming::Writing(req, vec!["Zizzi is".to_owned()]));
    let mut harness = panel(View::Playground, session);
    assert!(harness.query_all_by_label_contains("Zizzi is").next().is_some());
    assert!(harness.query_all_by_label_contains("stale").next().is_none());
    harness.get_by_label("Cancel").click();
    harness.run();
    assert_eq!(harness.state().actions, [Action::CancelJob]);
}

#[test]
fn panes_show_where_they_part_and_which_are_the_same_model() {
    let mut session = writer_session();
    let req = session.next_request();
    session.play.begin(req);
    let report = texts::answers(plan(&[Pane::Merged, Pane::Base, Pane::Expert(2), Pane::Route(7)]));
    session.apply(done(req, Outcome::Played(Box::new(report))));
    let harness = panel(View::Playground, session);
    for words in ["Merged", "Base model", "Expert 2", "Random route 7"] {
        assert!(harness.query_all_by_label(words).next().is_some(), "{words}");
    }
    assert_eq!(harness.query_all_by_label_contains("differs from token 4").count(), 3);
    assert_eq!(harness.query_all_by_label_contains("same weights as Expert 2").count(), 1);
    assert!(harness.query_all_by_label_contains("river bank").next().is_some());
}

#[test]
fn a_run_is_asked_what_it_learned_to_answer() {
    let learned = texts::samples(40, 240);
    let first = learned.samples[0].prompt.clone();
    let session = opened(|detail| {
        detail.config.data.task = Task::Text;
        detail.samples = vec![learned];
    });
    let mut harness = panel(View::Playground, session);
    let asked = |harness: &mut Panel| {
        harness.get_by_label("Write").click();
        harness.run();
        let Some(Action::Play(_, plan)) = harness.state_mut().take().pop() else { panic!("nothing was asked") };
        (plan.prompt.clone(), plan.chat)
    };
    assert_eq!(asked(&mut harness), (first, false), "laid out as the run was trained");
    // What was typed stays.
    harness.get_by_label("The prompt").focus();
    harness.run();
    harness.get_by_label("The prompt").type_text("More");
    harness.run();
    let (typed, _) = asked(&mut harness);
    assert!(typed.contains("More"));
    harness.run();
    assert_eq!(asked(&mut harness).0, typed);
}
