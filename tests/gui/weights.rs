//! Which weights the views are about: one choice, named by each of them.

use crate::fake_engine::{data, studies, texts};
use crate::harness::{panel, ready_session, run_started, training_session};
use crate::panel_support::{World, done, failed, lab, opened};
use adamix::app::actions::Action;
use adamix::app::commands;
use adamix::app::session::{Session, Weights};
use adamix::app::view::View;
use adamix::config::{MixtureKind, Task};
use adamix::protocol::*;
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable as _;
use std::path::PathBuf;

const VIEWS: [View; 4] = [View::Compare, View::Experts, View::Playground, View::Export];

fn event(session: &mut Session, event: Event) {
    session.apply(Incoming::Event(event));
}

fn eval(step: u64, accuracy: f64, loss: f64) -> EvalRecord {
    let mut record = data::eval(step, 800);
    (record.merged.primary, record.merged.loss) = (accuracy, loss);
    record
}

/// Evaluations of which three are equally good, the first of them with the lowest loss.
fn equals() -> Vec<EvalRecord> {
    vec![eval(200, 0.475, 0.686), eval(400, 0.6, 0.688), eval(600, 0.6, 0.783), eval(800, 0.6, 0.877)]
}

fn checkpoints() -> Checkpoints {
    Checkpoints { steps: vec![200, 400, 600, 800], best: Some(400) }
}

/// A run from disk of a language model, which all views can show.
fn of_equals() -> Session {
    opened(|detail| {
        (detail.evals, detail.checkpoints) = (equals(), checkpoints());
        (detail.config.data.task, detail.config.mixture.kind) = (Task::Text, MixtureKind::Lora);
        let end = EndRecord { best: Some((400, 0.6)), ..data::end_record(EndReason::Finished, 800) };
        detail.end = Some(end);
    })
}

fn saved(session: &Session, checkpoint: Checkpoint) -> Subject {
    Subject::Saved { dir: session.shown().unwrap().dir.clone(), checkpoint }
}

fn says(h: &Harness<'static, World>, words: &str) -> bool {
    h.query_all_by_label_contains(words).next().is_some()
}

/// Asks something of the session's weights and gets it answered as the engine does.
fn answer(session: &mut Session, begin: fn(&mut Session, RequestId), weights: WeightsOf, outcome: Outcome) {
    let req = session.next_request();
    begin(session, req);
    event(session, Event::Weights(req, weights));
    session.apply(done(req, outcome));
}

#[test]
fn the_first_of_equals_is_the_best_in_every_view() {
    let session = of_equals();
    assert_eq!(session.shown().unwrap().best_eval().map(|eval| eval.step), Some(400));
    let h = panel(View::Train, of_equals());
    assert!(says(&h, "Best accuracy\n0.6000 at 400") && says(&h, "after step 400"), "Train");
    for view in VIEWS {
        let h = panel(view, of_equals());
        assert!(says(&h, "lab-demo, after step 400: best by accuracy"), "{view:?}");
    }
    assert!(says(&panel(View::Compare, of_equals()), "Measured at the end of training, weights after step 400"));
    // Of a loss the lowest, again the first.
    let losses = [eval(1, 0.7, 0.7), eval(2, 0.5, 0.5), eval(3, 0.5, 0.5)];
    assert_eq!(EvalRecord::best_of(&losses, false).unwrap().step, 2);
    assert_eq!(EvalRecord::best_of(&[], true), None);
}

#[test]
fn one_choice_is_meant_by_all_views() {
    let mut h = panel(View::Compare, of_equals());
    h.get_by_value("Best, step 400").click();
    h.run();
    for step in [200, 400, 600, 800] {
        h.get_by_label(&format!("Step {step}"));
    }
    h.get_by_label("Last, step 800").click();
    h.run();
    let last = Weights::Saved(Checkpoint::Last);
    assert_eq!(h.state_mut().take(), [Action::ChooseWeights(last)]);
    for (checkpoint, words) in [
        (Checkpoint::Last, "lab-demo, after step 800: the last"),
        (Checkpoint::Step(600), "lab-demo, after step 600: chosen"),
        (Checkpoint::Best, "lab-demo, after step 400: best by accuracy"),
    ] {
        for view in VIEWS {
            let mut session = of_equals();
            session.choose_weights(Weights::Saved(Checkpoint::Step(200)));
            session.choose_weights(Weights::Saved(checkpoint));
            assert_eq!(session.subject(), Some(saved(&session, checkpoint)));
            let h = panel(view, session);
            assert!(says(&h, words), "{view:?}: {words}");
        }
    }
    // The comparison at the end of training is of the best weights alone.
    let mut session = of_equals();
    session.choose_weights(last);
    let h = panel(View::Compare, session);
    assert!(says(&h, "Nothing is measured yet of these weights") && !says(&h, "Which variant is best?"));
}

#[test]
fn what_was_computed_from_other_weights_is_forgotten_or_said() {
    let mut session = of_equals();
    let best = WeightsOf::saved(400, Checkpoint::Best);
    let compared = || Outcome::Compared(Box::new(data::eval_report(5)));
    answer(&mut session, |s, req| s.compare.begin(req), best, compared());
    let merged = || Outcome::Merged(Box::new(data::merge_report(MergePlan::Global(vec![0.5, 0.5, 0.0, 0.0]))));
    answer(&mut session, |s, req| s.merge.begin(req), best, merged());
    assert_eq!((session.compare.weights, session.tried_weights, session.tried.len()), (Some(best), Some(best), 1));
    session.choose_weights(Weights::Saved(Checkpoint::Best));
    assert!(session.compare.value.is_some(), "the same choice changes nothing");
    session.choose_weights(Weights::Saved(Checkpoint::Last));
    assert!(session.compare.value.is_none() && session.tried.is_empty() && session.tried_weights.is_none());
    // Another run has its own choice.
    session.show_opened(None);
    assert_eq!(session.weights(), Weights::Saved(Checkpoint::Best));

    // In training the weights move on: what is on screen says which they were.
    let (mut session, run) = training_session();
    let at = |step| WeightsOf::training(step);
    answer(&mut session, |s, req| s.compare.begin(req), at(100), compared());
    answer(&mut session, |s, req| s.merge.begin(req), at(100), merged());
    session.apply(crate::harness::steps(run, 101, 130));
    let h = panel(View::Compare, session);
    assert!(says(&h, "Measured, weights after step 100") && says(&h, "Computed from the weights after step 100"));
    let (mut session, run) = training_session();
    answer(&mut session, |s, req| s.compare.begin(req), at(100), compared());
    session.apply(crate::harness::steps(run, 101, 130));
    answer(&mut session, |s, req| s.merge.begin(req), at(120), merged());
    answer(&mut session, |s, req| s.merge.begin(req), at(130), merged());
    assert_eq!(
        (session.tried.len(), session.tried_weights),
        (1, Some(at(130))),
        "scores of two steps are not compared"
    );
    let h = panel(View::Compare, session);
    assert!(says(&h, "The merges scored below are of other weights"));
    // A better checkpoint came after the question.
    let mut session = of_equals();
    answer(&mut session, |s, req| s.compare.begin(req), WeightsOf::saved(200, Checkpoint::Best), compared());
    let h = panel(View::Compare, session);
    assert!(says(&h, "Computed from the weights after step 200; those above are of step 400 now"));
}

#[test]
fn a_run_in_training_offers_its_own_weights_and_its_checkpoints() {
    let (mut session, run) = training_session();
    assert_eq!((session.weights(), session.subject()), (Weights::Training, Some(Subject::Live)));
    let mut h = panel(View::Experts, training_session().0);
    assert!(says(&h, "test-run, after step 100: in training"));
    assert!(h.query_by_value("In training").is_none(), "nothing to choose from yet");
    h.state_mut()
        .session
        .apply(Incoming::Event(Event::Checkpoints(run, Checkpoints { steps: vec![40, 80], best: Some(40) })));
    h.run();
    h.get_by_value("In training").click();
    h.run();
    h.get_by_label("Best, step 40").click();
    h.run();
    assert_eq!(h.state_mut().take(), [Action::ChooseWeights(Weights::Saved(Checkpoint::Best))]);
    event(&mut session, Event::Checkpoints(run, Checkpoints { steps: vec![40, 80], best: Some(40) }));
    session.choose_weights(Weights::Saved(Checkpoint::Best));
    assert_eq!(session.subject(), Some(saved(&session, Checkpoint::Best)));
    // Experts that the engine sends are those in training, and not shown as those of the checkpoint.
    let snapshot = std::sync::Arc::new(data::experts(&lab().mixture, 100, (0, Side::Down)));
    session.apply(Incoming::Experts(run, snapshot.clone()));
    assert!(session.experts().is_none());
    session.choose_weights(Weights::Training);
    assert_eq!(session.experts(), Some(&*snapshot));
    // A checkpoint that was chosen may go away.
    session.choose_weights(Weights::Saved(Checkpoint::Step(40)));
    event(&mut session, Event::Checkpoints(run, Checkpoints { steps: vec![80], best: Some(80) }));
    assert_eq!(session.weights_of_shown(), None);
    assert!(says(&panel(View::Compare, session), "the checkpoint of step 40 is gone; choose another one"));
}

#[test]
fn after_the_end_the_memory_is_used_where_it_holds_the_weights() {
    let ended = |reason: EndReason, checkpoints: Checkpoints| {
        let (mut session, run) = training_session();
        event(&mut session, Event::Checkpoints(run, checkpoints));
        let best = Some((40, 0.6));
        let end = EndRecord { best, ..data::end_record(reason, 100) };
        event(&mut session, Event::RunEnded(run, Box::new(end)));
        event(&mut session, Event::PhaseChanged(run, RunPhase::Finished));
        session
    };
    let two = || Checkpoints { steps: vec![40, 100], best: Some(40) };
    let mut finished = ended(EndReason::Finished, two());
    assert_eq!(finished.weights_of_shown(), Some(WeightsOf::saved(40, Checkpoint::Best)));
    assert_eq!(finished.subject(), Some(Subject::Live), "the best weights are in memory");
    finished.choose_weights(Weights::Saved(Checkpoint::Last));
    assert_eq!(finished.subject(), Some(saved(&finished, Checkpoint::Last)));
    let mut stopped = ended(EndReason::Stopped("enough".to_owned()), two());
    assert_eq!(stopped.subject(), Some(saved(&stopped, Checkpoint::Best)), "the last weights are in memory");
    stopped.choose_weights(Weights::Saved(Checkpoint::Last));
    assert_eq!(stopped.subject(), Some(Subject::Live));
    // Not evaluated yet: the last one takes the place of the best, and is not called so.
    let stopped = ended(EndReason::Stopped("enough".to_owned()), Checkpoints { steps: vec![100], best: None });
    assert_eq!(stopped.subject(), Some(Subject::Live));
    assert!(says(&panel(View::Export, stopped), "after step 100: the last, for none was evaluated yet"));
}

#[test]
fn choosing_reads_the_experts_on_screen_again() {
    let (mut window, handle) = crate::harness::window(Default::default(), Default::default());
    handle.event(crate::panel_support::ready());
    window.run_steps(2);
    window.state_mut().actions.push(Action::OpenRun(PathBuf::from("runs/lab-demo")));
    window.run_steps(3);
    let open = |(req, command): &(RequestId, Command)| matches!(command, Command::OpenRun(_)).then_some(*req);
    let req = handle.requests().iter().find_map(open).unwrap();
    let mut detail = data::run_detail(std::path::Path::new("runs/lab-demo"));
    detail.checkpoints = checkpoints();
    handle.event(Event::Done(req, Outcome::Opened(Box::new(detail))));
    window.run_steps(3);
    let inspects = |handle: &crate::fake_engine::FakeHandle| {
        let of = |command: Command| match command {
            Command::Query { subject: Subject::Saved { checkpoint, .. }, query: ModelQuery::Inspect { .. } } => {
                Some(checkpoint)
            }
            _ => None,
        };
        handle.commands().into_iter().filter_map(of).collect::<Vec<_>>()
    };
    window.state_mut().actions.push(Action::ChooseWeights(Weights::Saved(Checkpoint::Step(200))));
    window.run_steps(3);
    assert_eq!(inspects(&handle), [], "nobody looked at the experts");
    let subject = window.state().session.subject().unwrap();
    window.state_mut().actions.push(Action::Query(subject, ModelQuery::Inspect { site: 0, side: Side::Down }));
    window.run_steps(3);
    let asked = |(req, command): &(RequestId, Command)| matches!(command, Command::Query { .. }).then_some(*req);
    let req = handle.requests().iter().rev().find_map(asked).unwrap();
    let snapshot = data::experts(&lab().mixture, 200, (0, Side::Down));
    handle.event(Event::Done(req, Outcome::Experts(Box::new(snapshot))));
    window.run_steps(3);
    window.state_mut().actions.push(Action::ChooseWeights(Weights::Saved(Checkpoint::Last)));
    window.run_steps(3);
    assert_eq!(inspects(&handle), [Checkpoint::Step(200), Checkpoint::Last]);
}

#[test]
fn certificates_and_fingerprints_name_their_step() {
    let plan = ExportPlan {
        targets: vec![ExportTarget::Merged],
        dtype: NumberFormat::F32,
        merge: MergePlan::Uniform,
        dir: None,
    };
    let mut session = of_equals();
    let mut reports = data::exports(&plan);
    (reports[0].certificate.step, reports[0].certificate.checkpoint) = (Some(400), Some(Checkpoint::Best));
    answer(
        &mut session,
        |s, req| s.export.begin(req),
        WeightsOf::saved(400, Checkpoint::Best),
        Outcome::Exported(reports),
    );
    session.choose_weights(Weights::Saved(Checkpoint::Last));
    let mut h = panel(View::Export, session);
    assert!(says(&h, "Weights\nstep 400 (best checkpoint)"), "an export stays, and names its own weights");
    h.get_by_label("Copy certificate").click();
    h.run();
    let [Action::Copy(text)] = &h.state_mut().take()[..] else { panic!("nothing was copied") };
    assert!(text.contains("weights: step 400 (best checkpoint)"), "{text}");
    let config = h.state().session.shown().unwrap().config.clone();
    let command = commands::export(&commands::at("runs/lab-demo", Checkpoint::Step(800)), &plan, &config);
    assert_eq!(command, "adamix export runs/lab-demo --checkpoint 800 --target merged --dtype f32");
    h.get_by_label("The recipe as text and as TOML").click();
    h.run();
    assert!(says(&h, &command) && says(&h, "The experts are those after step 800 (last checkpoint)."));
    // Of earlier versions.
    let old = |mut report: ExportReport| {
        (report.certificate.step, report.certificate.checkpoint) = (None, None);
        report
    };
    let h = panel(View::Export, opened(|detail| detail.exports = data::exports(&plan).into_iter().map(old).collect()));
    assert!(says(&h, "Weights\nnot recorded"));
    // Weights that no checkpoint holds have no command.
    let mut h = panel(View::Export, training_session().0);
    h.get_by_label("The recipe as text and as TOML").click();
    h.run();
    assert!(says(&h, "No command gives the same files") && !says(&h, "adamix export"));

    let mut session = of_equals();
    let panes = [Pane::Merged, Pane::Base];
    let report = texts::answers(PlayPlan { panes: panes.to_vec(), ..PlayPlan::default() });
    let prints: Vec<String> = report.answers.iter().map(|answer| answer.fingerprint.clone()).collect();
    answer(
        &mut session,
        |s, req| s.play.begin(req),
        WeightsOf::saved(400, Checkpoint::Best),
        Outcome::Played(Box::new(report)),
    );
    let h = panel(View::Playground, session);
    h.get_by_label(&format!("{}, step 400", prints[0]));
    h.get_by_label(&prints[1]);
}

#[test]
fn other_studies_say_of_which_weights_they_are() {
    let mut session = of_equals();
    let old = WeightsOf::saved(200, Checkpoint::Best);
    let plan = RoundingPlan { targets: vec![ExportTarget::Merged], merge: MergePlan::Uniform, causes: false };
    let rounding = Outcome::Studied(Box::new(StudyReport::Rounding(studies::rounding(&plan))));
    answer(&mut session, |s, req| s.studies.rounding.begin(req), old, rounding);
    assert!(says(&panel(View::Export, session), "Computed from the weights after step 200"));
    let mut session = of_equals();
    answer(&mut session, |s, req| s.written.begin(req), old, Outcome::Written(Box::new(texts::written(3))));
    assert!(says(&panel(View::Compare, session), "Computed from the weights after step 200"));
    // A query that fails keeps the older answer with its own weights.
    let mut session = of_equals();
    answer(&mut session, |s, req| s.written.begin(req), old, Outcome::Written(Box::new(texts::written(3))));
    let req = session.next_request();
    session.written.begin(req);
    event(&mut session, Event::Weights(req, WeightsOf::saved(400, Checkpoint::Best)));
    session.apply(failed(req, "no memory"));
    assert_eq!(session.written.weights, Some(old));
}

#[test]
fn the_export_chosen_for_one_run_is_not_that_of_the_next() {
    let mut h = panel(View::Export, of_equals());
    h.get_by_label("All experts").click();
    h.run();
    h.state_mut().panel.export.set_dir(std::path::Path::new("/tmp/elsewhere"));
    let exported = |h: &mut Harness<'static, World>| {
        h.run();
        h.get_by_label("Export").click();
        h.run();
        let Some(Action::Query(_, ModelQuery::Export(plan))) = h.state_mut().take().pop() else { panic!("no export") };
        (plan.targets, plan.dir)
    };
    let both = vec![ExportTarget::Merged, ExportTarget::Experts];
    assert_eq!(exported(&mut h), (both.clone(), Some(PathBuf::from("/tmp/elsewhere"))));
    // The same run read again keeps it.
    h.state_mut().session = of_equals();
    assert_eq!(exported(&mut h).0, both);
    h.state_mut().session = opened(|detail| detail.summary.dir = PathBuf::from("runs/another"));
    assert_eq!(exported(&mut h), (vec![ExportTarget::Merged], None));
}

#[test]
fn a_target_that_does_not_fit_says_so_in_the_words_of_the_window() {
    let h = panel(View::Export, opened(|detail| detail.config.mixture.kind = MixtureKind::Adapter));
    let words = "Not for this run: it holds LoRA, and this run has adapters; choose \
                 \u{201c}AdapterHub directory\u{201d} or \u{201c}Merged adapter\u{201d}";
    assert!(h.query_all_by_label(words).count() >= 3, "PEFT, each expert, whole model");
    assert!(!says(&h, "target adapterhub") && !says(&h, "peft or hf"));
    let mut h = panel(View::Export, of_equals());
    h.get_by_value("f32: exact").click();
    h.run();
    h.get_by_label("q8_0: a quarter, GGUF only").click();
    h.run();
    assert!(says(&h, "Merged adapter cannot be stored in q8_0, which is for \u{201c}Whole model, GGUF\u{201d} alone"));
}

#[test]
fn what_a_kind_of_expert_can_be_exported_as_is_said_where_it_is_chosen() {
    let mut session = ready_session();
    let mut form = session.form.clone();
    form.mixture.kind = MixtureKind::Adapter;
    session.edit_form(form.clone(), 1.0);
    let h = panel(View::Setup, session);
    h.get_by_label(
        "Can be exported as Merged adapter, All experts, AdapterHub directory; not as a whole model, which needs LoRA.",
    );
    let mut session = ready_session();
    form.mixture.kind = MixtureKind::Lora;
    session.edit_form(form, 1.0);
    let h = panel(View::Setup, session);
    assert!(says(&h, "Whole model") && !says(&h, "not as a whole model"));
}

#[test]
fn a_run_that_starts_has_no_choice_yet() {
    let mut session = of_equals();
    session.choose_weights(Weights::Saved(Checkpoint::Last));
    let (req, run) = (session.next_request(), session.next_run());
    session.begin_run(req, run);
    event(&mut session, run_started(run, 240));
    event(&mut session, Event::PhaseChanged(run, RunPhase::Training));
    assert_eq!(session.weights(), Weights::Training);
}
