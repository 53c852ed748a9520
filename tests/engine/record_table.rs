//! The record of runs as a table.

use adamix::artifact::RunDir;
use adamix::artifact::recorder::Recorder;
use adamix::config::RunConfig;
use adamix::eval::Scores;
use adamix::figure::Cell;
use adamix::protocol::RecordPlan;
use adamix::records::{EvalRecord, Quantity, StartRecord, StepRecord};
use adamix::workflow::record_table;

fn step(n: u64) -> StepRecord {
    StepRecord {
        step: n,
        epoch: n as f64 / 3.0,
        loss: if n == 4 { f64::NAN } else { 1.0 / n as f64 },
        task_loss: 0.1 + 0.2,
        consistency_loss: 1e-17,
        learning_rate: 1e-3 / 7.0,
        grad_norm: 2.0,
        tokens: 70,
        seconds: 0.5,
        routes: Vec::new(),
    }
}

fn run(root: &std::path::Path, name: &str) -> RunDir {
    let config = RunConfig { name: name.to_owned(), runs_dir: root.display().to_string(), ..RunConfig::default() };
    let (run, _lock) = RunDir::create(&config).unwrap();
    let mut recorder = Recorder::create(&run).unwrap();
    recorder.start(&StartRecord { total_steps: 5, metric: "accuracy".to_owned(), ..StartRecord::default() });
    for n in 1..=5 {
        recorder.step(&step(n));
    }
    let merged = Scores { loss: 1.0 / 3.0, accuracy: Some(0.9), primary: 0.9, ..Scores::default() };
    recorder.eval(&EvalRecord { step: 5, epoch: 5.0 / 3.0, merged, best: true, seconds: 0.1 });
    recorder.sync();
    run
}

#[test]
fn every_step_and_evaluation_is_there_with_every_digit() {
    let root = tempfile::tempdir().unwrap();
    let runs = ["a", "b"].map(|name| run(root.path(), name));
    let mut plan = RecordPlan::default();
    for quantity in [Quantity::Loss, Quantity::LearningRate, Quantity::TokensPerSecond, Quantity::EvalLoss] {
        runs.iter().for_each(|run| plan.add(run.path(), quantity));
    }
    let table = record_table::table(&plan).unwrap();
    let names = ["run", "step", "epoch", "tokens", "seconds", "loss", "learning_rate", "tokens_per_s", "eval_loss"];
    assert_eq!(table.columns, names);
    assert_eq!(table.rows.len(), 10);

    let row: Vec<Cell> = vec![
        "a".into(),
        3u64.into(),
        1.0.into(),
        210u64.into(),
        1.5.into(),
        (1.0 / 3.0).into(),
        (1e-3 / 7.0).into(),
        140.0.into(),
        Cell::Empty,
    ];
    assert_eq!(table.rows[2], row);
    assert_eq!(table.rows[4][8], Cell::Number(1.0 / 3.0), "the evaluation stands beside its step");
    assert!(matches!(table.rows[3][5], Cell::Number(loss) if loss.is_nan()), "a step that was not finite");
    assert_eq!(table.rows[5][0], "b".into());
    let csv = table.csv();
    let loss: f64 = csv.lines().nth(3).unwrap().split(',').nth(5).unwrap().parse().unwrap();
    assert_eq!(loss.to_bits(), (1.0f64 / 3.0).to_bits());
}

#[test]
fn evaluations_alone_have_a_row_each() {
    let root = tempfile::tempdir().unwrap();
    let run = run(root.path(), "a");
    let plan = RecordPlan { runs: vec![run.path().to_owned()], quantities: vec![Quantity::EvalMetric] };
    let table = record_table::table(&plan).unwrap();
    assert_eq!(table.rows.len(), 1);
    assert_eq!(table.rows[0][1..], [5u64.into(), (5.0 / 3.0).into(), 350u64.into(), 2.5.into(), 0.9.into()]);
    let nowhere = RecordPlan { runs: vec![root.path().join("none")], ..plan };
    assert!(record_table::table(&nowhere).unwrap_err().to_string().contains("not a run directory"));
}
