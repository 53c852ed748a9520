//! `adamix inspect --averages` and `--rounding`, and the same questions to the engine of a window.

use super::lora;
use crate::independence::Window;
use crate::support::cli::{Ran, adamix};
use crate::support::place::Place;
use adamix::protocol::*;
use adamix::train::{Control, NullObserver};
use adamix::workflow::run;
use adamix::workflow::run::Run;
use serde_json::Value;
use std::path::Path;

/// A small trained run with a mixture of LoRA.
fn trained(place: &Place) -> std::path::PathBuf {
    let mut config = place.config(8);
    lora(false)(&mut config);
    let mut run = Run::start(run::prepare(&config).unwrap()).unwrap();
    run.go(&mut NullObserver, &Control::default()).unwrap();
    run.dir().path().to_owned()
}

fn json(place: &Place, dir: &Path, arguments: &[&str]) -> Value {
    let all = [&["inspect", dir.to_str().unwrap(), "--json"], arguments].concat();
    adamix(&place.path(""), &all).json().pop().unwrap()
}

#[test]
fn the_command_measures_both_and_says_what_is_wrong() {
    let place = Place::new();
    let dir = trained(&place);
    let run = dir.to_str().unwrap();
    let averages = json(&place, &dir, &["--averages"]);
    assert_eq!((&averages["kind"], &averages["shared"]), (&"lora".into(), &false.into()));
    assert!(averages["step"].as_u64().unwrap() > 0 && averages["run_dir"] == run);
    let ways: Vec<&str> = averages["ways"].as_array().unwrap().iter().map(|w| w["average"].as_str().unwrap()).collect();
    assert_eq!(ways, ["factors", "deltas", "truncated", "outputs"]);
    assert!(averages["ways"][0]["scores"]["accuracy"].is_f64() && averages["sites"][0]["off"].as_f64().unwrap() > 0.0);
    let evaluated = adamix(&place.path(""), &["eval", run, "--random-routes", "1", "--json"]).out;
    let evaluated: Value = serde_json::from_str(evaluated.lines().last().unwrap()).unwrap();
    assert_eq!(averages["ways"][0]["scores"]["primary"], evaluated["merged"], "factors are what eval calls merged");

    let rounding = json(&place, &dir, &["--rounding", "--by-layer"]);
    let formats = rounding["files"][0]["formats"].as_array().unwrap();
    assert_eq!(formats.iter().map(|f| f["dtype"].as_str().unwrap()).collect::<Vec<_>>(), ["f32", "f16", "bf16"]);
    assert_eq!(rounding["files"][0]["target"], "merged");
    assert_eq!((&formats[0]["measured"], &formats[0]["kept"]), (&0.0.into(), &true.into()));
    assert!(formats[2]["measured"].as_f64().unwrap() > 0.0 && !formats[2]["causes"].as_array().unwrap().is_empty());
    let whole = json(&place, &dir, &["--rounding=hf,merged", "--weights", "1,1,0,0"]);
    assert_eq!((&whole["files"][0]["target"], &whole["files"][1]["target"]), (&"merged".into(), &"hf".into()));
    assert_ne!(whole["exact"], rounding["exact"], "other weights of the merge");

    for (arguments, words) in [
        (
            &["--averages"][..],
            &["factors (AdaMix)", "outputs (ensemble)", "layers.0.attention.self.query", "4 -> "][..],
        ),
        (
            &["--rounding=all", "--by-layer"],
            &["merged module and head", "whole model (hf)", "kept", "alone, changes", "all, at most"],
        ),
    ] {
        let Ran { code, out, err } = adamix(&place.path(""), &[&["inspect", run], arguments].concat());
        assert_eq!(code, Some(0), "{err}");
        for word in words {
            assert!(out.contains(word), "{word} is missing in: {out}");
        }
    }
    for (arguments, code, words) in [
        (&["--rounding=gguf"][..], 1, "it is for language models; choose"),
        (&["--averages", "--rounding"], 2, "cannot be used with"),
        (&["--weights", "1,1,1,1"], 2, "--rounding"),
        (&["--by-layer"], 2, "--rounding"),
        (&["--threads", "1"], 2, "required"),
        (&["--rounding=onnx"], 2, "possible values"),
        (&["--rounding", "--weights", "1,1"], 1, "2 merge weights for 4 experts"),
    ] {
        let Ran { code: found, err, .. } = adamix(&place.path(""), &[&["inspect", run], arguments].concat());
        assert_eq!(found, Some(code), "{arguments:?}: {err}");
        assert!(err.contains(words), "{arguments:?}: {err}");
    }
}

#[test]
fn the_window_asks_about_the_live_and_the_saved_model_and_gives_up() {
    let (place, mut window) = (Place::new(), Window::open());
    let mut config = place.config(8);
    lora(false)(&mut config);
    config.eval.eval_batch_size = 1;
    let start = window.start(&config);
    window.wait_for(start).unwrap();
    let saved = || Subject::Saved { dir: place.path("runs").join("test"), checkpoint: Checkpoint::Best };
    let rounding = || {
        Study::Rounding(RoundingPlan {
            targets: vec![ExportTarget::Hf, ExportTarget::Merged],
            merge: MergePlan::Uniform,
            causes: true,
        })
    };
    let row = TryInput::Row { split: Split::Evaluation, row: 1 };
    // They may be done before they can be cancelled.
    let quick = [
        Study::Replay(ReplayPlan { step: 5 }),
        Study::Reroll(RerollPlan { step: 5, routes: 3 }),
        Study::Routes(RoutesPlan { routes: Some(30), probe_rows: 9 }),
        Study::Fan(FanPlan { input: row, routes: 2, seed: 1 }),
    ];
    let plane = Study::Plane(PlanePlan { grid: 3, ..PlanePlan::of(4) });
    let worth = Study::Worth(WorthPlan::default());
    let spread = Study::Spread(SpreadPlan::of(3, 2));
    let rows = Study::Rows(RowsPlan { second: Way::Ensemble(3), ..RowsPlan::default() });
    let slow = [Study::Causes(CausesPlan::default()), Study::Averages, rounding(), plane, worth, spread, rows];
    for study in slow.iter().chain(&quick) {
        let mut reports = Vec::new();
        for subject in [Subject::Live, saved()] {
            let asked = window.send(Command::Query { subject, query: ModelQuery::Study(study.clone()) });
            let Ok(Outcome::Studied(report)) = window.wait_for(asked) else { panic!("no {study:?}") };
            reports.push(match *report {
                StudyReport::Causes(report) => StudyReport::Causes(Box::new(CausesReport { seconds: 0.0, ..*report })),
                StudyReport::Averages(report) => StudyReport::Averages(AveragesReport { seconds: 0.0, ..report }),
                StudyReport::Rounding(report) => StudyReport::Rounding(RoundingReport { seconds: 0.0, ..report }),
                StudyReport::Replay(report) => StudyReport::Replay(Box::new(ReplayReport { seconds: 0.0, ..*report })),
                StudyReport::Reroll(report) => StudyReport::Reroll(Box::new(RerollReport { seconds: 0.0, ..*report })),
                StudyReport::Routes(report) => StudyReport::Routes(Box::new(RoutesReport { seconds: 0.0, ..*report })),
                StudyReport::Fan(report) => StudyReport::Fan(Box::new(FanReport { seconds: 0.0, ..*report })),
                StudyReport::Grid(report) => StudyReport::Grid(Box::new(GridReport { seconds: 0.0, ..*report })),
                StudyReport::Plane(report) => StudyReport::Plane(Box::new(PlaneReport { seconds: 0.0, ..*report })),
                StudyReport::Worth(report) => StudyReport::Worth(Box::new(WorthReport { seconds: 0.0, ..*report })),
                StudyReport::Spread(report) => StudyReport::Spread(SpreadReport { seconds: 0.0, ..report }),
                StudyReport::Rows(report) => {
                    let ways = report.ways.clone().map(|way| WayRows { seconds: 0.0, ..way });
                    StudyReport::Rows(Box::new(RowsReport { seconds: 0.0, ways, ..*report }))
                }
            });
        }
        assert_eq!(reports[0], reports[1], "in memory and from disk");
        if let StudyReport::Replay(report) = &reports[0] {
            assert!(report.is_equal(), "{}", report.verdict());
        }
        if quick.contains(study) {
            continue;
        }
        let asked = window.send(Command::Query { subject: Subject::Live, query: ModelQuery::Study(study.clone()) });
        window.engine.control(ControlRequest::CancelJob);
        assert_eq!(window.wait_for(asked).unwrap_err().kind, ErrorKind::Cancelled);
    }
    let wrong =
        Study::Rounding(RoundingPlan { targets: vec![ExportTarget::Gguf], merge: MergePlan::Uniform, causes: false });
    let asked = window.send(Command::Query { subject: Subject::Live, query: ModelQuery::Study(wrong) });
    assert!(window.wait_for(asked).unwrap_err().message.contains("it is for language models"));
}
