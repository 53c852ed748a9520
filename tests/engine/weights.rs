//! Which weights of a run are meant: library, engine and command line give the same answer, and every file names it.

use crate::independence::Window;
use crate::support::cli::adamix;
use crate::support::place::Place;
use adamix::artifact::checkpoint_choice::{self, Checkpoints};
use adamix::artifact::{RunDir, certificate, checkpoint};
use adamix::protocol::*;
use adamix::tensor::safetensors::SafetensorsFile;
use adamix::train::checkpoint::host_tensors;
use adamix::train::{Control, NullObserver, Observer, Trainer};
use adamix::workflow::run::{Run, prepare};
use adamix::workflow::runs;
use adamix::workflow::saved_run::Opened;
use std::collections::BTreeMap;
use std::fs;

/// A run of 16 steps with evaluations after 4, 8, 12 and 16, so slow that all of them are equally good: the first is best.
fn equals(place: &Place) -> RunDir {
    let mut run = Run::start(prepare(&config(place)).unwrap()).unwrap();
    run.go(&mut NullObserver, &Control::default()).unwrap();
    run.dir().clone()
}

fn config(place: &Place) -> adamix::config::RunConfig {
    let mut config = place.config(16);
    (config.train.learning_rate, config.eval.save_total_limit) = (1e-9, 10);
    config
}

fn exported(dir: &RunDir, which: Checkpoint) -> ExportReport {
    let plan = ExportPlan {
        targets: vec![ExportTarget::Merged],
        dtype: NumberFormat::F32,
        merge: MergePlan::Uniform,
        dir: None,
    };
    Opened::open(dir, which).unwrap().export(&plan).unwrap().remove(0)
}

fn hash(report: &ExportReport) -> &str {
    &report.certificate.files[0].sha256
}

#[test]
fn the_first_of_equals_is_best_for_library_engine_and_window() {
    let (place, mut window) = (Place::new(), Window::open());
    let start = window.start(&config(&place));
    window.wait_for(start).unwrap();
    let end = window.end().unwrap();
    assert_eq!((end.best.map(|(step, _)| step), end.weights_step()), (Some(4), 4));
    let run = RunDir::open(&window.dir()).unwrap();
    let detail = runs::detail(run.path()).unwrap();
    let values: Vec<f64> = detail.evals.iter().map(|eval| eval.merged.primary).collect();
    assert_eq!(values, [values[0]; 4], "they are not equal, so this test says nothing");
    assert_eq!(EvalRecord::best_of(&detail.evals, true).unwrap().step, 4);
    let wanted = Checkpoints { steps: vec![4, 8, 12, 16], best: Some(4) };
    assert_eq!((&Checkpoints::of(&run).unwrap(), &detail.checkpoints), (&wanted, &wanted));
    let told = window.events().iter().rev().find_map(|event| match event {
        Event::Checkpoints(_, found) => Some(found.clone()),
        _ => None,
    });
    assert_eq!(told, Some(wanted), "what the window is told");
    for (which, step) in [(Checkpoint::Best, 4), (Checkpoint::Last, 16), (Checkpoint::Step(8), 8)] {
        assert_eq!(checkpoint_choice::resolve(&run, which).unwrap(), WeightsOf::saved(step, which));
        let subject = Subject::Saved { dir: window.dir(), checkpoint: which };
        let inspect =
            Command::Query { subject: subject.clone(), query: ModelQuery::Inspect { site: 0, side: Side::Down } };
        let merge = Command::Query { subject, query: ModelQuery::Merge(MergePlan::Uniform) };
        for command in [inspect, merge] {
            let req = window.send(command);
            let outcome = window.wait_for(req).unwrap();
            assert!(window.events().contains(&Event::Weights(req, WeightsOf::saved(step, which))), "{which}");
            if let Outcome::Experts(snapshot) = outcome {
                assert_eq!(snapshot.step, step);
            }
        }
    }
    // What is in memory after the end are the best weights.
    let merge = Command::Query { subject: Subject::Live, query: ModelQuery::Merge(MergePlan::Uniform) };
    let req = window.send(merge);
    window.wait_for(req).unwrap();
    assert!(window.events().contains(&Event::Weights(req, WeightsOf::saved(4, Checkpoint::Best))));
}

#[test]
fn an_export_names_its_weights_and_the_step_alone_decides_its_bytes() {
    let place = Place::new();
    let run = equals(&place);
    let [best, four, last] =
        [Checkpoint::Best, Checkpoint::Step(4), Checkpoint::Last].map(|which| exported(&run, which));
    assert_eq!(hash(&best), hash(&four), "the same weights, however they were chosen");
    assert_ne!(hash(&best), hash(&last));
    for (report, weights) in [
        (&best, WeightsOf::saved(4, Checkpoint::Best)),
        (&four, WeightsOf::saved(4, Checkpoint::Step(4))),
        (&last, WeightsOf::saved(16, Checkpoint::Last)),
    ] {
        assert_eq!(report.certificate.weights(), Some(weights));
        assert_eq!(certificate::read(&report.dir).unwrap(), report.certificate, "as it lies on disk");
        let file = SafetensorsFile::open(&report.dir.join("adapter.safetensors")).unwrap();
        assert_eq!(file.metadata().get("step"), Some(&weights.step.to_string()));
    }
    // An export of the weights in training says so.
    let mut window = Window::open();
    let start = window.start(&adamix::config::RunConfig { name: "live".to_owned(), ..place.config(100_000) });
    window.wait("training", |w| w.phase() == RunPhase::Training && !w.steps.is_empty());
    let plan = ExportPlan {
        targets: vec![ExportTarget::Experts],
        dtype: NumberFormat::F32,
        merge: MergePlan::Uniform,
        dir: None,
    };
    let req = window.send(Command::Query { subject: Subject::Live, query: ModelQuery::Export(plan) });
    let Ok(Outcome::Exported(reports)) = window.wait_for(req) else { panic!("no export") };
    let weights = reports[0].certificate.weights().unwrap();
    assert!(weights.step > 0 && weights.checkpoint.is_none(), "{weights}");
    assert!(window.events().contains(&Event::Weights(req, weights)));
    window.engine.control(ControlRequest::Stop("done".to_owned()));
    window.wait_for(start).unwrap();
}

#[test]
fn every_command_takes_the_choice_and_says_it() {
    let place = Place::new();
    let run = equals(&place);
    let home = place.path(".");
    let path = run.path().to_str().unwrap();
    let said = |arguments: &[&str]| adamix(&home, arguments).done().to_owned();
    let json = |arguments: &[&str]| adamix(&home, &[arguments, &["--json"]].concat()).json().pop().unwrap();
    for command in [&["eval"][..], &["merge"], &["inspect"], &["inspect", "--averages"]] {
        for (words, choice, step) in
            [(&[][..], "best", 4), (&["--checkpoint", "last"], "last", 16), (&["--checkpoint", "8"], "8", 8)]
        {
            let arguments = [command, &[path], words].concat();
            let found = json(&arguments);
            assert_eq!((&found["step"], &found["checkpoint"]), (&step.into(), &choice.into()), "{arguments:?}");
        }
        let arguments = [command, &[path, "--checkpoint", "last"]].concat();
        assert!(said(&arguments).contains("step 16 (last checkpoint)"), "{arguments:?}");
    }
    // The same files as the library's.
    for (choice, which) in [("best", Checkpoint::Best), ("12", Checkpoint::Step(12)), ("last", Checkpoint::Last)] {
        let out = place.path(&format!("out-{choice}"));
        let found = json(&["export", path, "--checkpoint", choice, "--output", out.to_str().unwrap()]);
        let export = &found["exports"][0];
        let wanted = exported(&run, which);
        assert_eq!(export["files"][0]["sha256"], hash(&wanted), "{choice}");
        assert_eq!((&export["step"], &export["checkpoint"]), (&wanted.certificate.step.into(), &choice.into()));
    }
    // Compared are the recorded scores of the best weights, or measured ones of others.
    let compared = |words: &[&str]| json(&[&["compare", path][..], words].concat())["runs"][0].clone();
    let (recorded, best, last) =
        (compared(&[]), compared(&["--checkpoint", "best"]), compared(&["--checkpoint", "last"]));
    assert_eq!(recorded, best);
    assert_eq!((&best["step"], &best["checkpoint"]), (&4.into(), &"best".into()));
    assert_eq!((&last["step"], &last["checkpoint"]), (&16.into(), &"last".into()));
    let eval = json(&["eval", path, "--checkpoint", "last"]);
    assert_eq!(last["report"]["merged"], eval["report"]["merged"]);
    assert_ne!(last["report"]["merged"]["loss"], best["report"]["merged"]["loss"]);
    assert!(said(&["compare", path]).lines().any(|line| line.starts_with("scores of step") && line.ends_with(" 4")));
    // What cannot be is refused with what there is.
    for command in ["eval", "merge", "export", "inspect", "compare"] {
        let ran = adamix(&home, &[command, path, "--checkpoint", "5"]);
        assert_eq!(ran.code, Some(1), "{command}: {}", ran.err);
        assert!(ran.err.contains("no checkpoint of step 5") && ran.err.contains("4, 8, 12, 16"), "{}", ran.err);
        let ran = adamix(&home, &[command, path, "--checkpoint", "soon"]);
        assert_eq!(ran.code, Some(2), "{command}: {}", ran.err);
        assert!(ran.err.contains("best, last or the number of a step"), "{}", ran.err);
    }
}

#[test]
fn a_best_checkpoint_that_is_lost_is_not_called_best() {
    struct StopAt<'a>(&'a Control, u64);
    impl Observer for StopAt<'_> {
        fn on_eval(&mut self, record: &EvalRecord) {
            if record.step == self.1 {
                self.0.stop("seen enough");
            }
        }
    }
    let place = Place::new();
    let control = Control::default();
    let mut run = Run::start(prepare(&config(&place)).unwrap()).unwrap();
    let end = run.go(&mut StopAt(&control, 8), &control).unwrap();
    assert_eq!((end.step, end.best.map(|(step, _)| step), end.weights_step()), (8, Some(4), 8));
    let dir = run.dir().clone();
    drop(run);
    assert_eq!(Checkpoints::of(&dir).unwrap(), Checkpoints { steps: vec![4, 8], best: Some(4) });
    fs::remove_dir_all(dir.checkpoint(4)).unwrap();
    assert_eq!(Checkpoints::of(&dir).unwrap(), Checkpoints { steps: vec![8], best: None });
    let instead = checkpoint_choice::resolve(&dir, Checkpoint::Best).unwrap();
    assert_eq!(instead, WeightsOf::saved(8, Checkpoint::Last), "the last takes its place, and is not called the best");
    let mut run = Run::resume(dir.path(), None).unwrap();
    assert!(run.warnings().iter().any(|warning| warning.contains("the best weights so far are lost")));
    let end = run.go(&mut NullObserver, &Control::default()).unwrap();
    assert_eq!((end.best.map(|(step, _)| step), end.weights_step()), (Some(12), 12), "the first evaluation since then");
    assert_eq!(Checkpoints::of(&dir).unwrap().best, Some(12));
    // Where no checkpoint can be read, the run can still be opened.
    for step in Checkpoints::of(&dir).unwrap().steps {
        fs::remove_file(dir.checkpoint(step).join("state.json")).unwrap();
    }
    assert_eq!(runs::detail(dir.path()).unwrap().checkpoints.best, None);
}

#[test]
fn the_trainer_knows_which_weights_its_model_holds() {
    struct Seen(Vec<(u64, Vec<adamix::tensor::HostTensor>)>);
    impl Observer for Seen {
        fn on_boundary(&mut self, trainer: &Trainer, _paused: bool) {
            self.0.push((trainer.weights_step(), host_tensors(trainer.model()).unwrap()));
        }
    }
    let place = Place::new();
    let mut run = Run::start(prepare(&config(&place)).unwrap()).unwrap();
    let mut seen = Seen(Vec::new());
    let end = run.go(&mut seen, &Control::default()).unwrap();
    assert_eq!(end.weights_step(), 4);
    let steps: Vec<u64> = seen.0.iter().map(|(step, _)| *step).collect();
    assert_eq!(steps, (0..=16).chain([4]).collect::<Vec<_>>(), "the best ones before the comparison at the end");
    for (step, tensors) in seen.0.iter().filter(|(step, _)| *step > 0 && step % 4 == 0) {
        assert!(checkpoint::read(run.dir(), *step).unwrap().tensors == *tensors, "step {step}");
    }
}

#[test]
fn all_targets_of_a_run_carry_the_weights_in_their_certificates() {
    let place = Place::new();
    let run = equals(&place);
    let plan = ExportPlan {
        targets: ExportTarget::all()
            .filter(|target| target.refusal(run.config().data.task, run.config().mixture.kind).is_none())
            .collect(),
        dtype: NumberFormat::F32,
        merge: MergePlan::Uniform,
        dir: None,
    };
    let reports = Opened::open(&run, Checkpoint::Last).unwrap().export(&plan).unwrap();
    let found: BTreeMap<_, _> =
        reports.iter().map(|report| (report.target, certificate::read(&report.dir).unwrap().weights())).collect();
    assert_eq!(found.len(), 3);
    assert!(found.values().all(|weights| *weights == Some(WeightsOf::saved(16, Checkpoint::Last))), "{found:?}");
}
