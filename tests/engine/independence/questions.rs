//! Questions to the engine during and after a run.

use super::Window;
use crate::support::place::Place;
use adamix::protocol::*;
use std::path::PathBuf;

fn saved(dir: PathBuf) -> Subject {
    Subject::Saved { dir, checkpoint: Checkpoint::Best }
}

#[test]
fn questions_during_training_are_answered_and_starts_are_refused() {
    let (place, mut window) = (Place::new(), Window::open());
    let start = window.start(&place.config(100_000));
    window.wait("training", |w| w.phase() == RunPhase::Training && !w.steps.is_empty());
    let second = window.start(&place.config(4));
    let refused = window.wait_for(second).unwrap_err();
    assert!(refused.message.contains("in training"), "{}", refused.message);
    let preflight = window.send(Command::Preflight(Box::new(place.config(4))));
    assert!(window.wait_for(preflight).unwrap_err().message.contains("in training"));
    let dir = window.dir();
    let delete = window.send(Command::DeleteRun(dir.clone()));
    assert!(window.wait_for(delete).unwrap_err().message.contains("stop it first"));
    let runs_dir = place.path("runs").display().to_string();
    let list = window.send(Command::ListRuns(runs_dir));
    let Ok(Outcome::Runs(runs)) = window.wait_for(list) else { panic!("no list") };
    assert_eq!(
        runs.iter().map(|run| (run.name.as_str(), run.status)).collect::<Vec<_>>(),
        [("test", RunStatus::Running)]
    );
    let compare =
        window.send(Command::Query { subject: Subject::Live, query: ModelQuery::Compare { random_routes: 2 } });
    let Ok(Outcome::Compared(report)) = window.wait_for(compare) else { panic!("no comparison") };
    assert_eq!((report.random.len(), report.fixed.len(), report.rows), (2, 4, 48));
    let merge = window.send(Command::Query { subject: Subject::Live, query: ModelQuery::Merge(MergePlan::Uniform) });
    assert!(matches!(window.wait_for(merge), Ok(Outcome::Merged(_))));
    let data = window.send(Command::PreviewData(Box::new(place.config(4))));
    let Ok(Outcome::Data(preview)) = window.wait_for(data) else { panic!("no preview") };
    assert_eq!((preview.train.rows, preview.dev.rows, preview.labels.len()), (96, 48, 2));
    assert_eq!(preview.train.balance.iter().sum::<usize>(), 96);
    let open = window.send(Command::OpenRun(dir));
    let Ok(Outcome::Opened(detail)) = window.wait_for(open) else { panic!("the run in training cannot be opened") };
    assert_eq!(detail.summary.status, RunStatus::Running);
    assert!(!detail.history.is_empty() && detail.routing.is_some_and(|routing| routing.step > 0));
    assert!(window.end().is_none(), "the run was disturbed");
    window.engine.control(ControlRequest::Stop("done".to_owned()));
    window.wait_for(start).unwrap();
}

#[test]
fn saved_runs_are_compared_merged_inspected_exported_and_deleted() {
    let (place, mut window) = (Place::new(), Window::open());
    let start = window.start(&place.config(16));
    window.wait_for(start).unwrap();
    let (end, dir) = (window.end().unwrap(), window.dir());
    let compare = |subject| Command::Query { subject, query: ModelQuery::Compare { random_routes: 3 } };
    let live = window.send(compare(Subject::Live));
    let disk = window.send(compare(saved(dir.clone())));
    let (live, disk) = (window.wait_for(live).unwrap(), window.wait_for(disk).unwrap());
    let wanted = Outcome::Compared(Box::new(end.report.unwrap()));
    assert_eq!((&live, &disk), (&wanted, &wanted), "memory, disk and the report at the end agree");
    assert!(window.events.iter().any(|event| matches!(event, Event::Progress { .. })));
    let inspect = |subject| Command::Query { subject, query: ModelQuery::Inspect { site: 0, side: Side::Down } };
    let live = window.send(inspect(Subject::Live));
    let disk = window.send(inspect(saved(dir.clone())));
    assert_eq!(window.wait_for(live).unwrap(), window.wait_for(disk).unwrap());
    let wrong =
        window.send(Command::Query { subject: Subject::Live, query: ModelQuery::Inspect { site: 9, side: Side::Up } });
    assert!(window.wait_for(wrong).unwrap_err().message.contains("no adapted module 9"));
    let plan = ExportPlan {
        targets: vec![ExportTarget::Merged, ExportTarget::Experts],
        dtype: NumberFormat::F32,
        merge: MergePlan::Uniform,
        dir: None,
    };
    let export = window.send(Command::Query { subject: saved(dir.clone()), query: ModelQuery::Export(plan) });
    let Ok(Outcome::Exported(reports)) = window.wait_for(export) else { panic!("no export") };
    assert_eq!(reports.len(), 2);
    assert!(reports.iter().all(|report| report.certificate.passed && report.dir.starts_with(&dir)), "{reports:?}");
    let open = window.send(Command::OpenRun(dir.clone()));
    let Ok(Outcome::Opened(detail)) = window.wait_for(open) else { panic!("not opened") };
    assert_eq!((detail.exports.len(), detail.evals.len(), detail.checkpoints.steps.last()), (2, 4, Some(&16)));
    assert!(detail.exports.iter().all(|export| reports.contains(export)), "{:?}\n{reports:?}", detail.exports);
    assert_eq!(detail.distances.first().unwrap().from_start.iter().sum::<f32>(), 0.0);
    assert!(detail.distances.last().unwrap().from_start.iter().sum::<f32>() > 0.0);
    let delete = window.send(Command::DeleteRun(dir.clone()));
    assert_eq!(window.wait_for(delete), Ok(Outcome::Deleted(dir.clone())));
    assert!(!dir.exists());
    let gone = window.send(compare(saved(dir)));
    assert!(window.wait_for(gone).is_err());
}
