//! The window's own file chooser: in real folders, with mouse and keyboard.

use crate::fake_engine::FakeHandle;
use crate::harness::{ScriptedPicker, window};
use crate::panel_support::ready;
use adamix::app::WorkbenchApp;
use adamix::app::actions::Action;
use adamix::app::files::Purpose;
use adamix::app::settings::Settings;
use adamix::config::Task;
use adamix::protocol::Command;
use egui::{Key, Modifiers};
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable as _;
use std::path::Path;

type Window = Harness<'static, WorkbenchApp>;

/// A window without desktop dialogs, and a folder with `sub/train.tsv`, `notes.pdf` and `.hidden.csv`, which was used
/// before.
fn without_dialogs() -> (Window, FakeHandle, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("sub")).unwrap();
    for name in ["sub/train.tsv", "notes.pdf", ".hidden.csv"] {
        std::fs::write(dir.path().join(name), "text\tlabel\nfine\t1\n").unwrap();
    }
    let mut picker = ScriptedPicker::default();
    picker.no_dialogs = true;
    let mut settings = Settings::default();
    for purpose in [Purpose::TrainFile, Purpose::SaveSettings] {
        settings.remember(purpose, dir.path().to_owned());
    }
    let (mut window, engine) = window(settings, picker);
    engine.event(ready());
    window.run_steps(3);
    (window, engine, dir)
}

fn pick(window: &mut Window, purpose: Purpose) {
    window.state().actions.push(Action::Pick(purpose));
    window.run_steps(6);
}

fn press(window: &mut Window, key: Key) {
    window.key_press(key);
    window.run_steps(4);
}

fn train_file(window: &Window) -> &str {
    &window.state().session.form.data.train_file
}

#[test]
fn where_no_dialog_can_open_the_windows_own_opens_and_the_keyboard_is_enough() {
    let (mut window, engine, dir) = without_dialogs();
    pick(&mut window, Purpose::TrainFile);
    window.get_by_label("Choose the training file");
    window.get_by_label("sub/");
    assert!(window.query_by_label("notes.pdf").is_none() && window.query_by_label(".hidden.csv").is_none());
    assert_eq!(window.unnamed_widgets(), Vec::<String>::new());
    assert!(window.get_by_label("Files and folders").is_focused());
    window.input_mut().events.push(egui::Event::Text("su".to_owned()));
    window.run_steps(3);
    press(&mut window, Key::Enter);
    window.get_by_label("train.tsv");
    press(&mut window, Key::Backspace);
    window.get_by_label("sub/");
    press(&mut window, Key::Enter);
    press(&mut window, Key::ArrowDown);
    press(&mut window, Key::Enter);
    assert!(window.state().dialog.is_none());
    assert_eq!(Path::new(train_file(&window)), dir.path().join("sub/train.tsv"));
    assert_eq!(window.state().session.form.data.task, Task::Custom);
    window.run_steps(20);
    let asked = engine.requests().into_iter().rev().find(|(_, command)| matches!(command, Command::ReadColumns { .. }));
    assert!(asked.is_some(), "its columns are asked for");
    engine.answer_form();
    window.run_steps(4);
    assert_eq!(window.state().session.form.data.text_column, "review text", "and read");
}

#[test]
fn hidden_files_and_other_kinds_are_shown_when_asked_for_and_escape_chooses_nothing() {
    let (mut window, _engine, _dir) = without_dialogs();
    pick(&mut window, Purpose::TrainFile);
    window.key_press_modifiers(Modifiers::COMMAND, Key::H);
    window.run_steps(3);
    window.get_by_label(".hidden.csv").click();
    window.run_steps(3);
    assert!(window.query_by_label("notes.pdf").is_none());
    press(&mut window, Key::Escape);
    assert!(window.state().dialog.is_none());
    assert_eq!(train_file(&window), "");
}

#[test]
fn a_path_can_be_typed_and_a_wrong_one_is_said() {
    let (mut window, _engine, dir) = without_dialogs();
    pick(&mut window, Purpose::TrainFile);
    let type_path = |window: &mut Window, path: &Path| {
        window.get_by_label("Path").focus();
        window.run_steps(2);
        window.key_press_modifiers(Modifiers::COMMAND, Key::A);
        window.get_by_label("Path").type_text(&path.to_string_lossy());
        window.run_steps(2);
        window.key_press(Key::Enter);
        window.run_steps(5);
    };
    type_path(&mut window, &dir.path().join("gone"));
    let said = window.query_by_label_contains("cannot be opened: it does not exist");
    assert!(said.is_some());
    type_path(&mut window, &dir.path().join("sub/train.tsv"));
    assert!(window.state().dialog.is_none());
    assert_eq!(Path::new(train_file(&window)), dir.path().join("sub/train.tsv"));
}

#[test]
fn settings_are_saved_after_a_question_where_a_file_is_there() {
    let (mut window, _engine, dir) = without_dialogs();
    std::fs::write(dir.path().join("run.toml"), "").unwrap();
    pick(&mut window, Purpose::SaveSettings);
    window.get_by_label("Save").click();
    window.run_steps(4);
    assert!(window.state().dialog.is_some());
    assert!(window.query_by_label_contains("run.toml is there already").is_some());
    window.get_by_label("Replace").click();
    window.run_steps(5);
    assert!(window.state().dialog.is_none());
    let notice = window.state().session.last_notice.clone().unwrap();
    assert!(notice.text.contains("saved") && notice.text.contains("run.toml"), "{notice:?}");
}

#[test]
fn once_it_was_needed_it_opens_at_once_and_a_folder_is_chosen_with_its_button() {
    let (mut window, _engine, dir) = without_dialogs();
    pick(&mut window, Purpose::TrainFile);
    press(&mut window, Key::Escape);
    pick(&mut window, Purpose::DataDir);
    window.get_by_label("sub/").click();
    window.run_steps(4);
    window.get_by_label("Choose sub").click();
    window.run_steps(4);
    assert_eq!(Path::new(&window.state().session.form.data.path), dir.path().join("sub"));
    assert_eq!(window.state().settings.recent(Purpose::DataDir)[0], dir.path().join("sub"));
}

#[test]
fn recent_paths_are_offered_beside_every_path_field() {
    let (mut window, engine, dir) = without_dialogs();
    engine.event(ready());
    window.state_mut().settings.remember(Purpose::Model, dir.path().join("sub"));
    window.run_steps(3);
    window.get_by_label("Recent paths for model").click();
    window.run_steps(4);
    let path = dir.path().join("sub").display().to_string();
    window.get_by_label(&path).click();
    window.run_steps(4);
    assert_eq!(window.state().session.form.model.path, path);
}

#[cfg(unix)]
#[test]
fn a_path_that_is_not_utf8_is_refused_with_the_reason() {
    use std::os::unix::ffi::OsStringExt as _;
    let (mut window, _engine, _dir) = without_dialogs();
    let before = window.state().session.form.clone();
    let path = std::ffi::OsString::from_vec(b"/data/\xff".to_vec());
    window.state().actions.push(Action::UsePath(Purpose::DataDir, path.into()));
    window.run_steps(3);
    assert_eq!(window.state().session.form, before);
    let notice = window.state().session.last_notice.clone().expect("it is said");
    assert!(notice.text.contains("not UTF-8"), "{notice:?}");
}
