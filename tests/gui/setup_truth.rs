//! What the Setup view says and sends: settings that do not count stay aside, columns are guessed with their reason,
//! nothing moves, nothing is cut.

use crate::fake_engine::data;
use crate::harness::{panel, ready_session};
use crate::panel_support::{World, check_plan, done};
use adamix::app::actions::Action;
use adamix::app::session::Session;
use adamix::app::view::View;
use adamix::config::{Method, MixtureKind, Problem, RoutingPolicy, RunConfig, Task, TextFormat, keys};
use adamix::protocol::*;
use egui::accesskit::Role;
use egui_kittest::Harness;
use egui_kittest::kittest::{NodeT as _, Queryable as _};

fn with(change: impl FnOnce(&mut RunConfig)) -> Session {
    let mut session = ready_session();
    let mut form = session.form.clone();
    change(&mut form);
    session.edit_form(form, 1.0);
    check_plan(&mut session);
    session
}

fn custom() -> Session {
    with(|form| {
        form.data.task = Task::Custom;
        form.data.train_file = "/data/mini.tsv".to_owned();
    })
}

#[test]
fn a_file_of_another_task_is_kept_aside_and_never_sent() {
    let mut session = custom();
    session.choose_task(Task::Sst2, 5.0);
    let mut form = session.form.clone();
    form.data.path = "/glue/SST-2".to_owned();
    session.edit_form(form, 10.0);
    assert_eq!(session.run_config().data.train_file, "");
    session.choose_task(Task::Text, 15.0);
    assert_eq!((session.form.data.train_file.as_str(), session.form.data.path.as_str()), ("", ""));
    session.choose_task(Task::Custom, 20.0);
    assert_eq!((session.form.data.train_file.as_str(), session.form.data.path.as_str()), ("/data/mini.tsv", ""));
    session.choose_task(Task::Sst2, 25.0);
    assert_eq!(session.form.data.path, "/glue/SST-2");
    // A preset is another task too.
    session.choose_task(Task::Custom, 30.0);
    session.apply_preset("rte-bert-base", 35.0);
    assert_eq!((session.form.data.task, session.run_config().data.train_file.as_str()), (Task::Rte, ""));
}

#[test]
fn what_the_form_does_not_show_is_not_sent() {
    let mut session = with(|form| {
        form.mixture.kind = MixtureKind::Lora;
        form.mixture.lora_rank = 16;
        form.data.train_file = "left over.tsv".to_owned();
    });
    assert_eq!(session.run_config().mixture.lora_rank, 16);
    assert_eq!(session.run_config().data.train_file, "", "the lab has its own rows");
    let mut form = session.form.clone();
    form.mixture.kind = MixtureKind::Adapter;
    session.edit_form(form, 5.0);
    assert_eq!(session.run_config().mixture.lora_rank, 4);
    assert_eq!(session.form.mixture.lora_rank, 16, "it comes back with LoRA");
}

fn open_all(harness: &mut Harness<'static, World>) {
    for title in
        ["Device", "More about the data", "More about the mixture", "More about optimisation", "More about evaluation"]
    {
        let header = harness.query_all_by_label(title).next();
        if let Some(header) = header {
            header.click();
        }
        harness.run();
    }
}

#[test]
fn a_field_is_there_exactly_when_its_setting_counts() {
    type Change = fn(&mut RunConfig);
    let runs: [(&str, Change); 9] = [
        ("lab", |_| {}),
        ("head only", |run| run.model.method = Method::HeadOnly),
        ("custom", |run| run.data.task = Task::Custom),
        ("numbers", |run| (run.data.task, run.data.problem) = (Task::Custom, Problem::Regression)),
        ("own evaluation", |run| (run.data.task, run.data.dev_file) = (Task::Custom, "dev.csv".to_owned())),
        ("sst2", |run| run.data.task = Task::Sst2),
        ("texts", |run| (run.data.task, run.mixture.kind) = (Task::Text, MixtureKind::Lora)),
        ("e2e", |run| (run.data.task, run.text.format) = (Task::Text, TextFormat::E2e)),
        ("fixed", |run| (run.mixture.routing, run.mixture.consistency) = (RoutingPolicy::Fixed, false)),
    ];
    for (name, change) in runs {
        let session = with(change);
        let form = session.form.clone();
        let mut harness = panel(View::Setup, session);
        open_all(&mut harness);
        for key in keys::KEYS {
            let mut field = adamix::app::field(key.path);
            if form.mixture.kind == MixtureKind::Lora && key.path.starts_with("mixture.sharing_") {
                field = if key.path.ends_with("down") { "Share A" } else { "Share B" };
            }
            let shown = harness.query_all_by_label(field).next().is_some();
            // Two settings with one label, or a label that stands elsewhere too.
            let ambiguous = ["Format", "Model", "Initialisation"].contains(&field);
            assert!(shown == key.counts_for(&form) || ambiguous, "{name}: {} ({field:?}): shown is {shown}", key.path);
        }
    }
}

#[test]
fn guessed_columns_say_why_and_the_preview_of_a_new_file_opens() {
    let mut session = custom();
    session.memory.new_file = Some("/data/mini.tsv".to_owned());
    let req = session.next_request();
    session.columns.begin(req);
    session.apply(done(req, Outcome::Columns(Box::new(data::columns("/data/mini.tsv".as_ref())))));
    session.guess_columns();
    let data_now = &session.form.data;
    assert_eq!((data_now.text_column.as_str(), data_now.label_column.as_str()), ("review text", "sentiment"));
    let mut preview = data::data_preview(&session.form);
    preview.train.file = "/data/mini.tsv".to_owned();
    let req = session.next_request();
    session.data.begin(req);
    session.apply(done(req, Outcome::Data(Box::new(preview))));
    let mut harness = panel(View::Setup, session);
    harness.run();
    let says =
        |harness: &Harness<'static, World>, text: &str| harness.query_all_by_label_contains(text).next().is_some();
    assert!(says(&harness, "3 columns between semicolons, named by the first line; UTF-8; the first 360 rows"));
    assert!(says(&harness, "guessed, the longest texts: 9 words a row"));
    assert!(says(&harness, "guessed, few values that come again: 2 different values in 360 rows"));
    assert!(says(&harness, "the plot wears thin"), "the rows are open");
    let mut form = harness.state().session.form.clone();
    form.data.text_column = "id".to_owned();
    harness.state_mut().session.edit_form(form, 9.0);
    harness.run();
    assert!(says(&harness, "\"id\" holds numbers; choose the column with the texts"));
}

#[test]
fn columns_that_exist_stay_with_the_file_they_were_chosen_for() {
    let mut session = custom();
    let mut form = session.form.clone();
    (form.data.text_column, form.data.label_column) = ("sentiment".to_owned(), "id".to_owned());
    session.edit_form(form, 5.0);
    let answer = |session: &mut Session| {
        let req = session.next_request();
        session.columns.begin(req);
        session.apply(done(req, Outcome::Columns(Box::new(data::columns("/data/mini.tsv".as_ref())))));
        session.guess_columns();
    };
    answer(&mut session);
    assert_eq!(session.form.data.text_column, "sentiment", "a run file's own choice");
    session.memory.new_file = Some("/data/mini.tsv".to_owned());
    answer(&mut session);
    assert_eq!(session.form.data.text_column, "review text");
}

#[test]
fn a_question_that_a_newer_one_replaced_is_no_news() {
    let mut session = ready_session();
    let (old, new) = (session.next_request(), session.next_request());
    session.columns.begin(old);
    session.columns.begin(new);
    let failure = Failure { kind: ErrorKind::Cancelled, message: "cancelled".to_owned() };
    session.apply(Incoming::Event(Event::Failed(Some(old), failure)));
    assert!(session.last_notice.is_none() && session.columns.is_pending());
}

#[test]
fn nothing_is_ready_while_the_model_is_being_read() {
    let mut session = ready_session();
    assert_eq!(session.start_problems(), Vec::<String>::new());
    let req = session.next_request();
    session.model.begin(req);
    assert_eq!(session.start_problems(), ["the model is being read"]);
    let mut harness = panel(View::Setup, session);
    assert!(harness.query_by_label("Ready to start").is_none());
    harness.get_by_label("The plan is being checked");
    assert!(harness.get_by_label("Start").accesskit_node().is_disabled());
    let info = data::model_info("lab");
    harness.state_mut().session.apply(done(req, Outcome::Model(Box::new(info))));
    harness.run();
    harness.get_by_label("Ready to start");
    let mut session = ready_session();
    let req = session.next_request();
    session.model.begin(req);
    let centre = panel(View::Train, session);
    assert!(centre.query_by_label("Loading").is_some() && centre.query_by_label("Ready to train").is_none());
}

#[test]
fn the_form_does_not_move_when_the_plan_changes() {
    let top = |session: Session| {
        let harness = panel(View::Setup, session);
        harness.get_by_role_and_label(Role::SpinButton, "Experts (M)").rect().min.y
    };
    let mut checking = ready_session();
    checking.form_version += 1;
    let wrong = with(|form| {
        (form.train.learning_rate, form.train.batch_size, form.mixture.num_experts) = (0.0, 0, 0);
        form.name = "a/b".to_owned();
    });
    let mut warned = ready_session();
    let req = warned.next_request();
    warned.preflight.begin(req);
    let warnings = (0..6).map(|n| format!("warning {n}: {}", "many words ".repeat(20))).collect();
    let report = PreflightReport { warnings, ..data::preflight(&warned.form) };
    warned.apply(done(req, Outcome::Preflight(Box::new(report))));
    let at = top(ready_session());
    assert_eq!([top(checking), top(wrong), top(warned)], [at; 3]);
}

#[test]
fn the_same_error_is_said_once_and_in_the_words_of_the_form() {
    let mut session = custom();
    let message = "the data of mini cannot be used: there is no column \"text\"; set data.header = false: mini.tsv";
    let req = session.next_request();
    session.data.begin(req);
    let failure = Failure { kind: ErrorKind::Data, message: message.to_owned() };
    session.apply(Incoming::Event(Event::Failed(Some(req), failure)));
    let req = session.next_request();
    session.preflight.begin(req);
    let report = PreflightReport { problems: vec![message.to_owned()], ..PreflightReport::default() };
    session.apply(done(req, Outcome::Preflight(Box::new(report))));
    let harness = panel(View::Setup, session);
    assert_eq!(harness.query_all_by_label_contains("there is no column").count(), 1);
    let words = "set “The first line names the columns” to “off”";
    assert_eq!(harness.query_all_by_label_contains(words).count(), 1);
    harness.get_by_label("The data cannot be used; see Data below.");
    assert!(harness.query_all_by_label_contains("data.header").next().is_none());
}

#[test]
fn another_task_gets_fitting_values_in_the_fields_that_were_not_touched() {
    let mut session = ready_session();
    let mut form = session.form.clone();
    form.train.seed = 5;
    form.mixture.num_experts = 2;
    session.edit_form(form, 1.0);
    session.choose_task(Task::Custom, 5.0);
    let form = &session.form;
    assert_eq!((form.train.max_steps, form.train.num_train_epochs, form.mixture.adapter_size), (0, 3.0, 16));
    assert_eq!((form.train.seed, form.mixture.num_experts), (5, 2), "set by hand");
    session.choose_task(Task::Text, 10.0);
    let mixture = &session.form.mixture;
    assert_eq!((mixture.kind, mixture.lora_rank, mixture.lora_alpha), (MixtureKind::Lora, 8, 16.0));
    // All of a preset was chosen: nothing is filled in over it.
    session.apply_preset("rte-bert-base", 20.0);
    let before = session.form.clone();
    session.refit(&session.fitting_facts());
    assert_eq!(session.form, before);
    assert_eq!(session.form.train.num_train_epochs, 80.0);
}

/// One frame, and what it changes.
fn step(harness: &mut Harness<'static, World>) {
    harness.step();
    for action in harness.state_mut().take() {
        if let Action::EditForm(form) = action {
            harness.state_mut().session.edit_form(*form, 1.0);
        }
    }
}

#[test]
fn a_number_beyond_its_bound_says_the_bound() {
    let mut harness = panel(View::Setup, ready_session());
    harness.get_by_role_and_label(Role::SpinButton, "Learning rate").focus();
    (0..3).for_each(|_| step(&mut harness));
    for digit in ["1", "0", "0"] {
        harness.event(egui::Event::Text(digit.to_owned()));
        (0..2).for_each(|_| step(&mut harness));
    }
    harness.key_press(egui::Key::Enter);
    (0..4).for_each(|_| step(&mut harness));
    assert_eq!(harness.state().session.form.train.learning_rate, 10.0);
    assert!(harness.query_by_label("at most 10").is_some());
    // Another value takes the words away.
    harness.get_by_role_and_label(Role::SpinButton, "Learning rate").focus();
    (0..3).for_each(|_| step(&mut harness));
    harness.event(egui::Event::Text("2".to_owned()));
    (0..3).for_each(|_| step(&mut harness));
    assert_eq!(harness.state().session.form.train.learning_rate, 2.0);
    assert!(harness.query_by_label("at most 10").is_none());
}
