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
    assert!(harness.query_all_by_label_contains("Nothing to try yet").next().is_some());
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

/// A language model's run from disk, with what is known of its prompts.
fn writer_run(info: PromptInfo) -> Session {
    let mut session = opened(|detail| detail.config.data.task = Task::Text);
    session.prompts_of = session.writer();
    let req = session.next_request();
    session.prompts.begin(req);
    session.apply(done(req, Outcome::Prompts(Box::new(info))));
    session
}

/// The plan that Write asks with.
#[track_caller]
fn asked(harness: &mut Panel) -> PlayPlan {
    harness.state_mut().take();
    harness.get_by_label("Write").click();
    harness.run();
    let Some(Action::Play(_, plan)) = harness.state_mut().take().pop() else { panic!("nothing was asked") };
    *plan
}

#[test]
fn a_run_is_asked_what_it_learned_to_answer() {
    let mut harness = panel(View::Playground, writer_run(texts::prompts()));
    let first = asked(&mut harness);
    assert_eq!((first.prompt.as_str(), first.chat), (texts::prompts().texts[0].prompt.as_str(), true));
    assert_eq!(first.system, "You describe restaurants.", "the trained system message");
    assert!(harness.query_all_by_label("as the run was trained").next().is_some());
    // What was typed stays.
    harness.get_by_label("The prompt").focus();
    harness.run();
    harness.get_by_label("The prompt").type_text("More");
    harness.run();
    let typed = asked(&mut harness);
    assert!(typed.prompt.contains("More"));
    harness.run();
    assert_eq!(asked(&mut harness), typed);
    // Another evaluation text brings its own system message back.
    harness.get_by_label("evaluation text 2").click();
    harness.run();
    let second = asked(&mut harness);
    assert_eq!(
        (second.prompt.as_str(), second.system.as_str()),
        ("name[The Vaults], eatType[pub]", first.system.as_str())
    );
}

#[test]
fn the_template_box_says_what_is_done() {
    let mut harness = panel(View::Playground, writer_run(texts::prompts()));
    harness.get_by_label("Chat template").click();
    harness.run();
    let plan = asked(&mut harness);
    assert!(!plan.chat, "it can be turned off");
    assert!(harness.query_all_by_label_contains("not as the run was trained").next().is_some());
    assert!(harness.query_by_label("System prompt").is_none());

    let plain = PromptInfo { template: TemplateUse::Present, system: None, ..texts::prompts() };
    let mut harness = panel(View::Playground, writer_run(plain));
    assert!(!asked(&mut harness).chat, "the run has learned without a template");

    let none = PromptInfo { template: TemplateUse::Absent, system: None, ..texts::prompts() };
    let mut harness = panel(View::Playground, writer_run(none));
    harness.get_by_label("Chat template").click();
    harness.run();
    assert!(!asked(&mut harness).chat, "there is none to be turned on");
    assert!(harness.query_all_by_label_contains("the model has none").next().is_some());
}

/// A run whose panes have answered.
fn answered() -> Panel {
    let mut session = writer_run(texts::prompts());
    let req = session.next_request();
    session.play.begin(req);
    session.play_writer = session.writer();
    let plan =
        PlayPlan { chat: true, system: "You describe restaurants.".to_owned(), ..plan(&[Pane::Merged, Pane::Base]) };
    session.apply(done(req, Outcome::Played(Box::new(texts::answers(plan)))));
    panel(View::Playground, session)
}

#[test]
fn a_conversation_goes_on_and_can_be_taken_back() {
    let mut harness = answered();
    harness.get_all_by_label("Reply").next().unwrap().click();
    harness.run();
    let plan = asked(&mut harness);
    let turn = PlayTurn {
        question: "Where is Zizzi?".to_owned(),
        answer: "Zizzi is a cheap French place by the river.".to_owned(),
    };
    assert_eq!((plan.earlier, plan.prompt.as_str(), plan.chat), (vec![turn], "", true));
    assert_eq!(plan.system, "You describe restaurants.");
    harness.get_by_label("Edit the last question").click();
    harness.run();
    let plan = asked(&mut harness);
    assert_eq!((plan.earlier.len(), plan.prompt.as_str()), (0, "Where is Zizzi?"));
}

#[test]
fn an_answer_branches_at_any_token() {
    let mut harness = answered();
    harness.get_all_by_label("What if…").nth(1).unwrap().click();
    harness.run();
    harness.state_mut().take();
    // The second pane, at the token where it parts from the first.
    harness.get_by_label("Continue from here").click();
    harness.run();
    let Some(Action::Branch(plan)) = harness.state_mut().take().pop() else { panic!("nothing was asked") };
    assert_eq!((plan.panes.as_slice(), plan.prefix.as_slice()), (&[Pane::Base][..], &[0, 1, 2, 3][..]));
    harness.get_by_label_contains("\"the \" 10").click();
    harness.run();
    let Some(Action::Branch(other)) = harness.state_mut().take().pop() else { panic!("nothing was asked") };
    assert_eq!(other.prefix, [0, 1, 2, 99]);
    // The answers stand side by side, after what was given.
    for plan in [plan, other] {
        let session = &mut harness.state_mut().session;
        let req = session.next_request();
        session.branch.begin(req);
        session.apply(Incoming::Writing(req, vec!["by the".to_owned()]));
        session.apply(done(req, Outcome::Played(Box::new(texts::answers(*plan)))));
    }
    harness.run();
    assert_eq!(harness.query_all_by_label_contains("Base model, from token 4").count(), 2);
    assert!(harness.query_all_by_label_contains("w0 w1 w2 w99 Zizzi").next().is_some());
    assert_eq!(harness.state().session.play.value.as_ref().map(|report| report.answers.len()), Some(2));
    harness.get_all_by_label("Remove").next().unwrap().click();
    harness.run();
    assert_eq!(harness.state_mut().take().pop(), Some(Action::RemoveBranch(0)));
}
