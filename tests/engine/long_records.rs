//! Runs whose records are long enough for an index, and `adamix bench ui`, which opens one.

use crate::support::cli::adamix;
use adamix::artifact::RunDir;
use adamix::artifact::recorder::Recorder;
use adamix::artifact::run_list::RunList;
use adamix::config::RunConfig;
use adamix::protocol::RunDetail;
use adamix::records::{Pick, Route, StartRecord, StepRecord};
use adamix::workflow::runs::detail;
use std::fs;
use std::path::Path;

/// Steps after which both files of a record are longer than a megabyte.
const STEPS: u64 = 20_000;
const SITES: usize = 12;

fn steps(recorder: &mut Recorder, from: u64, until: u64) {
    for step in from..=until {
        let cells = 0..2 * SITES * 2;
        let picks = cells.map(|cell| Pick::One((step.wrapping_mul(2_654_435_761) >> (cell % 24)) as u8 % 4)).collect();
        recorder.step(&StepRecord {
            step,
            epoch: 0.1,
            loss: (step as f64 * 0.37).sin(),
            task_loss: 0.5,
            consistency_loss: 0.01,
            learning_rate: 1e-3,
            grad_norm: 1.0,
            tokens: 100,
            seconds: 0.01,
            routes: vec![Route { passes: 2, sites: SITES, picks }],
        });
    }
    assert_eq!(recorder.take_problems(), Vec::<String>::new());
}

fn long_run(root: &Path) -> RunDir {
    let mut config = RunConfig { name: "long".to_owned(), ..RunConfig::default() };
    config.runs_dir = root.display().to_string();
    config.mixture.sharing_up = false;
    let (run, _lock) = RunDir::create(&config).unwrap();
    let mut recorder = Recorder::create(&run).unwrap();
    let sites = (0..SITES).map(|layer| format!("layers.{layer}.ffn")).collect();
    recorder.start(&StartRecord { total_steps: 2 * STEPS, sites, experts: [4, 4], ..StartRecord::default() });
    steps(&mut recorder, 1, STEPS);
    run
}

/// What is read where no index is there; sizes on disk aside, which count it.
fn afresh(run: &RunDir) -> RunDetail {
    for path in [run.metrics(), run.routes()] {
        fs::remove_file(path.with_extension("index")).ok();
    }
    opened(run)
}

fn opened(run: &RunDir) -> RunDetail {
    let mut detail = detail(run.path()).unwrap();
    detail.summary.bytes = 0;
    detail
}

#[test]
fn a_long_run_opens_the_same_with_its_indexes_as_without() {
    let dir = tempfile::tempdir().unwrap();
    let run = long_run(dir.path());
    let first = opened(&run);
    let routing = first.routing.clone().unwrap();
    assert_eq!((routing.step, routing.draws[0]), (STEPS, 2 * STEPS));
    assert_eq!(first.history.iter().map(|bucket| u64::from(bucket.n)).sum::<u64>(), STEPS);
    let indexes = [run.metrics(), run.routes()].map(|path| path.with_extension("index"));
    assert!(indexes.iter().all(|index| index.is_file()));
    assert_eq!(opened(&run), first);
    // More steps: read on from where the indexes end.
    steps(&mut Recorder::resume(&run, STEPS).unwrap(), STEPS + 1, STEPS + 100);
    let more = opened(&run);
    assert_eq!(more.routing.as_ref().unwrap().step, STEPS + 100);
    assert_eq!(more, afresh(&run));
    // A run that goes on from an earlier checkpoint: the indexes are of what was cut away.
    steps(&mut Recorder::resume(&run, STEPS / 2).unwrap(), STEPS / 2 + 1, STEPS / 2 + 15_000);
    let resumed = opened(&run);
    assert_eq!(resumed.summary.step, STEPS / 2 + 15_000);
    assert_eq!(resumed, afresh(&run));
    // Damage, and counts of another model.
    for index in &indexes {
        let mut bytes = fs::read(index).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 4;
        fs::write(index, &bytes).unwrap();
    }
    assert_eq!(opened(&run), resumed);
}

#[test]
fn the_list_of_runs_reads_the_index_of_a_long_record() {
    let dir = tempfile::tempdir().unwrap();
    let run = long_run(dir.path());
    let length = fs::metadata(run.metrics()).unwrap().len();
    let mut first = RunList::default();
    let steps = |runs: &mut RunList| runs.list(dir.path()).unwrap()[0].step;
    assert_eq!((steps(&mut first), first.bytes_read()), (STEPS, length));
    let mut second = RunList::default();
    assert_eq!((steps(&mut second), second.bytes_read()), (STEPS, 0));
}

#[test]
fn the_end_of_a_long_log_is_shown() {
    let dir = tempfile::tempdir().unwrap();
    let run = long_run(dir.path());
    let lines: Vec<String> = (0..20_000).map(|n| format!("2026-01-01T00:00:00Z number {n}")).collect();
    fs::write(run.events(), lines.join("\n") + "\n").unwrap();
    let shown = detail(run.path()).unwrap().log;
    assert_eq!(shown, lines[lines.len() - shown.len()..]);
    assert!(shown.len() >= 100);
    fs::write(run.events(), "one\ntwo\n").unwrap();
    assert_eq!(detail(run.path()).unwrap().log, ["one", "two"]);
}

#[test]
#[cfg(not(feature = "gui"))]
fn a_build_without_a_window_says_that_there_is_none_to_measure() {
    let ran = adamix(tempfile::tempdir().unwrap().path(), &["bench", "ui"]);
    assert!(ran.code == Some(1) && ran.err.contains("no window"), "{}", ran.err);
}

#[test]
#[cfg(feature = "gui")]
fn the_window_is_measured_and_each_figure_stands_beside_its_limit() {
    let home = tempfile::tempdir().unwrap();
    let tiny = ["bench", "ui", "--steps", "4000", "--frames", "2", "--rounds", "1", "--seconds", "6"];
    let ran = adamix(home.path(), &[&tiny[..], &["--json"]].concat());
    let figures = ran.json().pop().unwrap();
    for field in ["frame_p50_ms", "frame_p99_ms", "throughput_share", "first_frame_ms", "memory_mb", "open_ms"] {
        assert!(figures[field].as_f64().is_some_and(|value| value > 0.0), "{field}: {figures}");
    }
    for field in ["open_memory_mb", "open_first_ms", "open_first_memory_mb", "frame_wall_p99_ms"] {
        assert!(figures[field].is_number(), "{field}: {figures}");
    }
    let arrangements = figures["frames"]["arrangements"].as_array().unwrap();
    assert!(arrangements.len() > 5 && arrangements.iter().any(|one| one["views"] == "all together"), "{figures}");
    let worst = arrangements.iter().map(|one| one["p99_ms"].as_f64().unwrap()).fold(0.0, f64::max);
    assert_eq!(figures["frame_p99_ms"].as_f64(), Some(worst));
    let wrong = adamix(home.path(), &["bench", "ui", "--seconds", "0"]);
    assert_eq!(wrong.code, Some(2), "{}", wrong.err);
    let part = adamix(home.path(), &["bench", "ui", "--part", "open"]);
    assert!(part.code == Some(2) && part.err.contains("--dir"), "{}", part.err);
}
