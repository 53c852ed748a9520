//! The Setup view of a language model: texts, LoRA, and what is shown of them.

use crate::fake_engine::{data, texts};
use crate::harness::{panel, ready_session};
use crate::panel_support::done;
use adamix::app::actions::Action;
use adamix::app::session::Session;
use adamix::app::view::View;
use adamix::config::{MixtureKind, Task};
use adamix::protocol::*;
use egui_kittest::kittest::Queryable as _;

fn text_session() -> Session {
    let mut session = ready_session();
    let mut form = session.form.clone();
    form.data.task = Task::Text;
    form.data.train_file = "/data/restaurants.jsonl".to_owned();
    form.mixture.kind = MixtureKind::Lora;
    session.edit_form(form, 1.0);
    session
}

#[test]
fn texts_are_shown_in_all_four_states_token_by_token() {
    let mut session = text_session();
    let harness = panel(View::Setup, text_session());
    assert!(harness.query_all_by_label_contains("token by token").next().is_some(), "empty");

    let req = session.next_request();
    session.texts.begin(req);
    let mut harness = panel(View::Setup, session);
    assert!(harness.query_all_by_label_contains("Reading and tokenizing the texts").next().is_some(), "loading");

    let failure = Failure { kind: ErrorKind::Data, message: "restaurants.jsonl line 3 is no object".to_owned() };
    harness.state_mut().session.apply(Incoming::Event(Event::Failed(Some(req), failure)));
    harness.run();
    assert!(harness.query_all_by_label_contains("line 3 is no object").next().is_some(), "error");

    let session = &mut harness.state_mut().session;
    let req = session.next_request();
    session.texts.begin(req);
    let mut preview = texts::text_preview(&session.form);
    preview.leaks = 2;
    preview.leak_examples = vec!["name[Zizzi] | Zizzi is cheap.".to_owned()];
    session.apply(done(req, Outcome::Texts(Box::new(preview))));
    harness.run();
    assert!(harness.query_all_by_label_contains("14 tokens, 6 learned").next().is_some(), "the sample's head");
    assert!(harness.query_all_by_label_contains("food[French]").next().is_some(), "the sample's tokens");
    assert!(harness.query_all_by_label_contains("2 evaluation texts are also training texts").next().is_some());
}

#[test]
fn layers_with_lora_are_switched_by_their_name() {
    let mut session = text_session();
    let req = session.next_request();
    session.model.begin(req);
    let info = data::model_info("/models/tiny");
    let first = info.lora_targets[0].clone();
    session.apply(done(req, Outcome::Model(Box::new(info))));
    let mut harness = panel(View::Setup, session);
    for (click, targets) in [("query", vec![first.as_str()]), ("all-linear", vec!["all-linear"])] {
        harness.get_by_label(click).click();
        harness.run_steps(2);
        let Some(Action::EditForm(form)) = harness.state().actions.last().cloned() else { panic!("nothing changed") };
        assert_eq!(form.mixture.lora_target, targets);
        harness.state_mut().session.edit_form(*form, 5.0);
        harness.run();
    }
    assert!(harness.query_by_label("Share A").is_some() && harness.query_by_label("Activation").is_none());
}
