//! The Models view.

use crate::fake_engine::model_store;
use crate::harness::{ScriptedPicker, panel, ready_session, window};
use crate::panel_support::{World, done, failed};
use adamix::app::actions::Action;
use adamix::app::session::Session;
use adamix::app::settings::Settings;
use adamix::app::view::View;
use adamix::protocol::*;
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable as _;

fn with_cached(cached: CacheInfo) -> Session {
    let mut session = ready_session();
    let req = session.next_request();
    session.models.begin(req);
    session.apply(done(req, Outcome::Store(Box::new(StoreAnswer::Cached(cached)))));
    session
}

fn open(session: Session) -> Harness<'static, World> {
    panel(View::Models, session)
}

fn type_name(harness: &mut Harness<'_, World>, text: &str) {
    harness.get_by_label("Name of a model").focus();
    harness.run();
    harness.get_by_label("Name of a model").type_text(text);
    harness.run();
}

fn click(harness: &mut Harness<'_, World>, label: &str) {
    harness.get_by_label(label).click();
    harness.run();
}

#[test]
fn nothing_yet_says_how_to_begin() {
    let mut harness = open(with_cached(CacheInfo { models: Vec::new(), ..model_store::cached() }));
    harness.run();
    harness.get_by_label("No models on disk yet");
    click(&mut harness, "Download");
    assert!(harness.state_mut().take().is_empty(), "without a name there is nothing to fetch");
}

#[test]
fn a_typed_name_is_fetched_by_button_and_by_enter() {
    let mut harness = open(with_cached(model_store::cached()));
    type_name(&mut harness, " org/name ");
    click(&mut harness, "Download");
    assert_eq!(harness.state_mut().take(), [Action::DownloadModel("org/name".to_owned())]);
    assert!(harness.state().panel.models.name.is_empty());
    type_name(&mut harness, "org/other");
    harness.key_press(egui::Key::Enter);
    harness.run();
    assert_eq!(harness.state_mut().take(), [Action::DownloadModel("org/other".to_owned())]);
}

#[test]
fn offline_is_said_and_nothing_can_be_fetched() {
    let mut harness =
        open(with_cached(CacheInfo { offline: Some("HF_HUB_OFFLINE".to_owned()), ..model_store::cached() }));
    harness.run();
    assert!(harness.query_all_by_label_contains("HF_HUB_OFFLINE is set").next().is_some());
    type_name(&mut harness, "org/name");
    click(&mut harness, "Download");
    assert!(harness.state_mut().take().is_empty());
    let session = &harness.state().session;
    let reason = Action::DownloadModel("org/name".to_owned()).enabled(session).unwrap_err();
    assert!(reason.contains("HF_HUB_OFFLINE"), "{reason}");
}

#[test]
fn a_model_can_be_used_and_removed_and_one_of_no_use_says_why() {
    let mut harness = open(with_cached(model_store::cached()));
    click(&mut harness, "FacebookAI/roberta-base");
    click(&mut harness, "Use in Setup");
    click(&mut harness, "Remove…");
    let id = "FacebookAI/roberta-base".to_owned();
    assert_eq!(harness.state_mut().take(), [Action::UseModel(id.clone()), Action::AskRemoveModel(id)]);
    click(&mut harness, "google-t5/t5-small");
    assert!(harness.query_all_by_label_contains("\"t5\" is not supported").next().is_some());
    click(&mut harness, "Use in Setup");
    assert!(harness.state_mut().take().is_empty());
    click(&mut harness, "Qwen/Qwen3-0.6B");
    click(&mut harness, "Continue download");
    assert_eq!(harness.state_mut().take(), [Action::DownloadModel("Qwen/Qwen3-0.6B".to_owned())]);
}

#[test]
fn a_download_shows_how_far_it_is_and_can_be_given_up() {
    let mut session = with_cached(model_store::cached());
    let (first, second) = (session.next_request(), session.next_request());
    session.begin_download(first, "Qwen/Qwen3-0.6B".to_owned());
    session.begin_download(second, "org/next".to_owned());
    let progress = DownloadProgress { done: 271 << 19, total: 271 << 20, ..model_store::progress(0.5) };
    session.apply(Incoming::Event(Event::Downloading(first, progress)));
    let again = Action::DownloadModel("Qwen/Qwen3-0.6B".to_owned());
    assert!(again.enabled(&session).unwrap_err().contains("already"));
    let remove = Action::RemoveModel("Qwen/Qwen3-0.6B".to_owned());
    assert!(remove.enabled(&session).unwrap_err().contains("cancel that first"));
    let mut harness = open(session);
    harness.run();
    assert!(harness.query_all_by_label_contains("model.safetensors (5 of 5), 18.4 MB/s").next().is_some());
    harness.get_by_label("waiting");
    harness.get_by_label("fetching");
    harness.get_all_by_label("Cancel").next().unwrap().click();
    harness.run();
    assert_eq!(harness.state_mut().take(), [Action::CancelDownload(first)]);
}

#[test]
fn a_download_that_failed_keeps_its_reason_until_it_is_tried_again_or_dismissed() {
    let mut session = with_cached(model_store::cached());
    let req = session.next_request();
    session.begin_download(req, "org/name".to_owned());
    session.apply(failed(req, "the disk is full: /cache"));
    assert!(session.models_outdated && !session.is_fetching("org/name"));
    let mut harness = open(session);
    harness.run();
    harness.get_by_label("the disk is full: /cache");
    click(&mut harness, "Try again");
    click(&mut harness, "Dismiss");
    let wishes = [Action::DownloadModel("org/name".to_owned()), Action::DismissDownload(req)];
    assert_eq!(harness.state_mut().take(), wishes);

    let mut session = with_cached(model_store::cached());
    let req = session.next_request();
    session.begin_download(req, "org/name".to_owned());
    let failure = Failure { kind: ErrorKind::Cancelled, message: "cancelled".to_owned() };
    session.apply(Incoming::Event(Event::Failed(Some(req), failure)));
    assert!(session.downloads.is_empty(), "what the user gave up is no error");
}

#[test]
fn the_window_asks_the_engine_shows_the_answer_and_fills_in_the_form() {
    let (mut harness, fake) = window(Settings::default(), ScriptedPicker::default());
    fake.event(Event::Ready { device: "CPU".to_owned(), threads: 1 });
    harness.run_steps(2);
    harness.state().actions.push(Action::Show(View::Models));
    harness.run_steps(3);
    let asked = |fake: &crate::fake_engine::FakeHandle| {
        let asks = fake.requests().into_iter().filter_map(|(req, command)| match command {
            Command::Store(ask) => Some((req, ask)),
            _ => None,
        });
        asks.collect::<Vec<_>>()
    };
    let (req, ask) = asked(&fake).pop().unwrap();
    assert_eq!(ask, StoreAsk::List);
    fake.push(done(req, Outcome::Store(Box::new(StoreAnswer::Cached(model_store::cached())))));
    harness.run_steps(2);
    assert_eq!(harness.state().session.models.value, Some(model_store::cached()));

    harness.state().actions.push(Action::DownloadModel(" org/name".to_owned()));
    harness.run_steps(2);
    let (req, ask) = asked(&fake).pop().unwrap();
    assert_eq!(ask, StoreAsk::Download("org/name".to_owned()));
    harness.state().actions.push(Action::CancelDownload(req));
    harness.run_steps(2);
    assert_eq!(fake.controls().last(), Some(&ControlRequest::CancelDownload(req)));
    let lists = asked(&fake).len();
    fake.push(done(req, Outcome::Store(Box::new(StoreAnswer::Downloaded(model_store::downloaded("org/name"))))));
    harness.run_steps(3);
    assert!(harness.state().session.downloads.is_empty());
    assert_eq!(asked(&fake).len(), lists + 1, "the list is read again");

    harness.state().actions.push(Action::AskRemoveModel("google-t5/t5-small".to_owned()));
    harness.run_steps(3);
    assert!(harness.state().dialog.is_some());
    harness.get_by_label("Remove").click();
    harness.run_steps(3);
    assert_eq!(asked(&fake).pop().unwrap().1, StoreAsk::Remove("google-t5/t5-small".to_owned()));
    assert!(harness.state().dialog.is_none());

    harness.state().actions.push(Action::UseModel("FacebookAI/roberta-base".to_owned()));
    harness.run_steps(3);
    assert_eq!(harness.state().session.form.model.path, "FacebookAI/roberta-base");
    let previews = |fake: &crate::fake_engine::FakeHandle| {
        fake.commands().iter().filter(|command| matches!(command, Command::PreviewModel { .. })).count()
    };
    harness.state_mut().session.begin_download(RequestId(9001), "FacebookAI/roberta-base".to_owned());
    let came = model_store::downloaded("FacebookAI/roberta-base");
    fake.push(done(RequestId(9001), Outcome::Store(Box::new(StoreAnswer::Downloaded(came)))));
    let before = previews(&fake);
    harness.run_steps(4);
    assert!(previews(&fake) > before, "the form's model has come and is read again");
    assert!(harness.state().layout.is_visible(View::Setup));
}

#[test]
fn the_demonstration_fetches_and_cancels() {
    let (mut harness, _fake) = {
        let (engine, fake) = crate::fake_engine::FakeEngine::demo(1, None);
        (crate::harness::window_over(engine, Settings::default(), ScriptedPicker::default()), fake)
    };
    harness.run_steps(3);
    harness.state().actions.push(Action::DownloadModel("org/one".to_owned()));
    harness.state().actions.push(Action::DownloadModel("org/two".to_owned()));
    harness.run_steps(6);
    let downloads = harness.state().session.downloads.clone();
    assert!(downloads.len() == 2 && downloads[0].progress.is_some() && downloads[1].progress.is_none());
    harness.state().actions.push(Action::CancelDownload(downloads[1].req));
    harness.run_steps(3);
    assert_eq!(harness.state().session.downloads.len(), 1);
    for _ in 0..120 {
        harness.step();
    }
    assert!(harness.state().session.downloads.is_empty(), "it never ends");
}
