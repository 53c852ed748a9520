//! The first minute: the start page, help, and what each view shows.

use crate::fake_engine::{FakeEngine, FakeHandle, data};
use crate::harness::{ScriptedPicker, run_started, window};
use crate::panel_support::ready;
use adamix::app::actions::Action;
use adamix::app::settings::Settings;
use adamix::app::view::{Page, View};
use adamix::app::{WindowOptions, WorkbenchApp, first_form};
use adamix::config::Task;
use adamix::protocol::*;
use egui::{Key, Modifiers};
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable as _;
use std::path::PathBuf;
use std::time::Duration;

type Window = Harness<'static, WorkbenchApp>;

/// The four ways to begin.
const CHOICES: [&str; 4] = ["Train the lab", "My own file", "Open a run", "Learn"];

/// The window as somebody new sees it, of this size in points.
fn guided_at(size: [f32; 2], settings: Settings, picker: ScriptedPicker) -> (Window, FakeHandle) {
    let (engine, handle) = FakeEngine::manual();
    let mut window = Harness::builder().with_size(size).build_eframe(move |cc| {
        let options = WindowOptions { guided: true, ..WindowOptions::default() };
        WorkbenchApp::new(&cc.egui_ctx, Ok(Box::new(engine)), Box::new(picker), settings, options)
    });
    handle.event(ready());
    window.run_steps(4);
    (window, handle)
}

fn guided() -> (Window, FakeHandle) {
    guided_at([1280.0, 800.0], Settings::default(), ScriptedPicker::default())
}

fn click(window: &mut Window, label: &str) {
    window.get_by_label(label).click();
    window.run_steps(4);
}

fn page(window: &Window) -> Option<Page> {
    window.state().layout.page()
}

fn repaints_by_itself(window: &Window) -> bool {
    window.output().viewport_output[&egui::ViewportId::ROOT].repaint_delay < Duration::from_secs(60)
}

#[test]
fn the_first_thing_is_the_start_page_and_no_view_is_drawn_behind_it() {
    let (window, _engine) = guided();
    assert_eq!(page(&window), Some(Page::Start));
    for choice in CHOICES {
        window.get_by_label(choice);
    }
    assert!(window.query_by_label_contains("averaged into one: the merged model").is_some());
    assert!(window.query_by_label_contains("Schematic, with invented draws").is_some());
    assert!(View::ALL.into_iter().all(|view| !window.state().layout.is_visible(view)));
    assert!(window.query_by_label("Preset").is_none(), "Setup is not drawn");
    assert_eq!(window.unnamed_widgets(), Vec::<String>::new());
}

#[test]
fn train_the_lab_fills_in_the_lab_and_starts() {
    let mut other = first_form();
    other.data.task = Task::Custom;
    other.data.train_file = "/data/mine.csv".to_owned();
    other.runs_dir = "/my/runs".to_owned();
    other.model.threads = 3;
    let settings = Settings { form: Some(other), ..Settings::default() };
    let (mut window, engine) = guided_at([1280.0, 800.0], settings, ScriptedPicker::default());
    click(&mut window, "Train the lab");
    let commands = engine.commands();
    let started = commands.iter().find_map(|command| match command {
        Command::StartRun { config, run } => Some((config.clone(), *run)),
        _ => None,
    });
    let (config, run) = started.expect("a run is started");
    let mut lab = first_form();
    lab.runs_dir = "/my/runs".to_owned();
    lab.model.threads = 3;
    assert_eq!(*config, lab);
    assert_eq!(page(&window), None);
    assert!(window.state().layout.is_visible(View::Train));
    engine.event(run_started(run, 240));
    window.run_steps(3);
    window.state().actions.push(Action::ShowPage(Page::Start));
    window.run_steps(3);
    assert!(Action::TrainLab.enabled(&window.state().session).is_err(), "not two at once");
}

#[test]
fn before_the_engine_is_ready_the_lab_cannot_be_started_and_says_why() {
    let (engine, _handle) = FakeEngine::manual();
    let mut window = Harness::builder().with_size([1280.0, 800.0]).build_eframe(move |cc| {
        let options = WindowOptions { guided: true, ..WindowOptions::default() };
        let picker = Box::new(ScriptedPicker::default());
        WorkbenchApp::new(&cc.egui_ctx, Ok(Box::new(engine)), picker, Settings::default(), options)
    });
    window.run_steps(3);
    let session = &window.state().session;
    assert_eq!(Action::TrainLab.enabled(session), Err("the engine is still starting".to_owned()));
}

#[test]
fn my_own_file_goes_to_setup_and_takes_the_file() {
    let path = PathBuf::from("/data/mine.csv");
    let mut picker = ScriptedPicker::default();
    picker.texts.insert(path.clone(), "review,stars\nfine,5\n".to_owned());
    picker.picks.push_back(path.clone());
    let (mut window, _engine) = guided_at([1280.0, 800.0], Settings::default(), picker);
    click(&mut window, "My own file");
    window.run_steps(3);
    assert!(window.state().layout.is_visible(View::Setup));
    let data = &window.state().session.form.data;
    assert_eq!((data.task, data.train_file.as_str()), (Task::Custom, "/data/mine.csv"));
    assert_eq!(window.state().settings.recent_data, [path]);
}

#[test]
fn runs_are_opened_by_the_chooser_or_from_the_list_beside_it() {
    let mut picker = ScriptedPicker::default();
    picker.picks.push_back(PathBuf::from("/runs/mine"));
    let (mut window, engine) = guided_at([1280.0, 800.0], Settings::default(), picker);
    click(&mut window, "Open a run");
    window.run_steps(3);
    let opens = |engine: &FakeHandle| -> Vec<PathBuf> {
        let dir = |command: &Command| if let Command::OpenRun(dir) = command { Some(dir.clone()) } else { None };
        engine.commands().iter().filter_map(dir).collect()
    };
    assert_eq!(opens(&engine), [PathBuf::from("/runs/mine")]);
    window.state().actions.push(Action::ShowPage(Page::Start));
    let asked = engine.requests().into_iter().find(|(_, c)| matches!(c, Command::ListRuns(_))).expect("a list");
    let run = data::runs().remove(0);
    engine.event(Event::Done(asked.0, Outcome::Runs(vec![run.clone()])));
    window.run_steps(4);
    click(&mut window, &run.name);
    assert_eq!(opens(&engine).last(), Some(&run.dir));
    assert_eq!(page(&window), None);
    assert_eq!(window.state().settings.recent_runs.first(), Some(&run.dir));
}

#[test]
fn every_choice_is_reached_with_the_keyboard() {
    let (mut window, engine) = guided();
    assert!(window.get_by_label("Train the lab").is_focused(), "Enter begins");
    for choice in &CHOICES[1..] {
        window.key_press(Key::Tab);
        window.run_steps(2);
        assert!(window.get_by_label(choice).is_focused(), "{choice}");
    }
    window.key_press(Key::Enter);
    window.run_steps(3);
    assert_eq!(page(&window), Some(Page::Help));
    window.key_press(Key::Escape);
    window.run_steps(2);
    window.key_press(Key::Escape);
    window.run_steps(2);
    assert_eq!(page(&window), None, "Escape leaves the search, then the page");
    assert!(!engine.commands().iter().any(|command| matches!(command, Command::StartRun { .. })));
}

#[test]
fn every_choice_is_within_the_window_at_every_size() {
    // The last one is 1280 x 800 at a zoom of 1.4.
    for size in [[1280.0, 800.0], [2560.0, 1440.0], [760.0, 480.0], [914.0, 571.0]] {
        let (window, _engine) = guided_at(size, Settings::default(), ScriptedPicker::default());
        for choice in CHOICES {
            let rect = window.get_by_label(choice).rect();
            assert!(rect.left() >= 0.0 && rect.right() <= size[0], "{choice} at {size:?}: {rect:?}");
            assert!(rect.bottom() <= size[1], "{choice} at {size:?}: {rect:?}");
        }
    }
}

#[test]
fn it_comes_back_from_the_menu_and_stays_away_when_it_is_told_to() {
    let (mut window, _engine) = guided();
    click(&mut window, "To the views");
    assert_eq!(page(&window), None);
    window.key_press_modifiers(Modifiers::COMMAND, Key::K);
    window.run_steps(3);
    window.get_by_label("Find an action").type_text("start page");
    window.run_steps(3);
    window.key_press(Key::Enter);
    window.run_steps(4);
    assert_eq!(page(&window), Some(Page::Start));
    click(&mut window, "Show this page when the window opens");
    assert!(!window.state().settings.start_page);
    let settings = Settings::from_json(&window.state().settings.to_json().unwrap());
    let (window, _engine) = guided_at([1280.0, 800.0], settings, ScriptedPicker::default());
    assert_eq!(page(&window), None);
}

#[test]
fn an_open_run_is_shown_instead() {
    let (engine, handle) = FakeEngine::manual();
    let mut window = Harness::builder().with_size([1280.0, 800.0]).build_eframe(move |cc| {
        let open = Some(PathBuf::from("/runs/mine"));
        let options = WindowOptions { guided: true, open, ..WindowOptions::default() };
        let picker = Box::new(ScriptedPicker::default());
        WorkbenchApp::new(&cc.egui_ctx, Ok(Box::new(engine)), picker, Settings::default(), options)
    });
    handle.event(ready());
    window.run_steps(4);
    assert_eq!(page(&window), None);
    assert!(handle.commands().iter().any(|command| matches!(command, Command::OpenRun(_))));
}

#[test]
fn the_picture_moves_only_where_it_is_seen_and_may() {
    let (mut window, _engine) = guided();
    window.run_steps(40);
    assert!(repaints_by_itself(&window), "it is alive");
    window.state_mut().settings.reduced_motion = true;
    window.run_steps(40);
    assert!(!repaints_by_itself(&window), "no motion was asked for");
    click(&mut window, "Merge");
    assert!(window.query_by_label_contains("After training").is_some(), "the buttons still work");
    click(&mut window, "Draw");
    assert!(window.query_by_label_contains("Training: two random paths").is_some());
    window.state_mut().settings.reduced_motion = false;
    window.run_steps(2);
    window.state().actions.push(Action::Show(View::Export));
    window.run_steps(40);
    assert!(!repaints_by_itself(&window), "it costs no frames when hidden");
}

#[test]
fn the_help_page_lists_all_views_and_finds_words() {
    let (mut window, _engine) = window(Settings::default(), ScriptedPicker::default());
    window.state().actions.push(Action::ShowPage(Page::Help));
    window.run_steps(4);
    for view in View::ALL {
        window.get_by_label(view.title());
    }
    window.get_by_label("Find a view or a word").type_text("matth");
    window.run_steps(3);
    window.get_by_label("Matthews correlation");
    assert!(window.query_by_label("nats").is_none() && window.query_by_label("Setup").is_none());
    window.get_by_label("Find a view or a word").type_text("xyz");
    window.run_steps(3);
    assert!(window.query_by_label_contains("No word fits").is_some());
}

#[test]
fn what_a_view_shows_is_open_at_the_first_visit_and_closed_for_good_by_a_click() {
    let (mut window, _engine) = guided();
    for view in View::ALL {
        window.state().actions.push(Action::Show(view));
        window.run_steps(4);
        window.get_by_label(&format!("What {} shows", view.title()));
        click(&mut window, &format!("Close what {} shows", view.title()));
        let name = format!("Close what {} shows", view.title());
        assert!(window.query_by_label(&name).is_none(), "{view:?}");
    }
    let settings = Settings::from_json(&window.state().settings.to_json().unwrap());
    assert_eq!(settings.explained.len(), View::ALL.len(), "it is remembered");
    click(&mut window, "What Models shows");
    window.get_by_label("Close what Models shows");
}

#[test]
fn a_term_in_a_title_is_reached_with_the_keyboard_and_explains_itself() {
    let mut session = crate::panel_support::finished();
    session.phase = RunPhase::Idle;
    crate::panel_support::read_routes(&mut session);
    let mut panel = crate::panel_support::panel(View::Routing, session);
    let route = || "route: Which expert was drawn in each module";
    let explained =
        |panel: &Harness<'_, crate::panel_support::World>| panel.query_all_by_label_contains(route()).count();
    let words = explained(&panel);
    assert!(words > 0, "the word itself");
    panel.query_all_by_label_contains(route()).next().unwrap().focus();
    panel.run_steps(3);
    assert_eq!(explained(&panel), words + 1, "and its explanation");
}

#[test]
fn the_name_of_a_field_explains_its_terms() {
    let mut panel = crate::panel_support::panel(View::Setup, crate::harness::ready_session());
    let explained = |panel: &Harness<'_, crate::panel_support::World>| {
        panel.query_all_by_label_contains("expert: One of M small modules").count()
    };
    assert_eq!(explained(&panel), 0);
    panel.get_all_by_label("Experts (M)").next().unwrap().hover();
    panel.run_steps(40);
    assert!(explained(&panel) > 0);
}
