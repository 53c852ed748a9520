//! The recorder and its files.

use super::runs::config;
use crate::support::tensorboard;
use adamix::artifact::recorder::{
    Line, Recorder, RouteFile, RouteRecord, Tail, crc32c, masked, read_lines, resumed_steps, routes, truncate_after,
};
use adamix::artifact::{RunDir, recorder};
use adamix::config::{MixtureConfig, RoutingPolicy};
use adamix::eval::Scores;
use adamix::mixture::{Pick, Route, RouteShape};
use adamix::records::{EndReason, EndRecord, EvalRecord, HealthState, StartRecord, StepRecord, TensorHealth};
use adamix::rng::{Purpose, SeedStream};
use std::fs;
use std::path::{Path, PathBuf};

fn route(policy: RoutingPolicy, index: u64) -> Route {
    let mixture = MixtureConfig { routing: policy, sharing_up: false, num_experts: 5, ..MixtureConfig::default() };
    let shape = RouteShape { passes: 2, sites: 3, sequences: 5, tokens: 37 };
    Route::draw(&mixture, SeedStream::new(3), Purpose::Routing, index, shape)
}

fn start(first_step: u64) -> StartRecord {
    StartRecord { total_steps: 10, first_step, metric: "accuracy".to_owned(), ..StartRecord::default() }
}

fn step(n: u64) -> StepRecord {
    StepRecord {
        step: n,
        epoch: n as f64 / 3.0,
        loss: 1.0 / n as f64,
        task_loss: 0.1,
        consistency_loss: 0.2,
        learning_rate: 1e-3,
        grad_norm: 2.0,
        tokens: 74,
        seconds: 0.5,
        routes: (0..2).map(|micro| route(RoutingPolicy::PerBatch, n * 2 + micro)).collect(),
    }
}

fn eval(n: u64) -> EvalRecord {
    let merged = Scores { loss: 0.3, accuracy: Some(0.9), primary: 0.9, ..Scores::default() };
    EvalRecord { step: n, epoch: 1.0, merged, best: true, seconds: 0.1 }
}

fn end(n: u64, reason: EndReason) -> EndRecord {
    EndRecord { reason, step: n, seconds: 1.0, tokens_per_s: 2.0, report: None, best: Some((n, 0.9)) }
}

fn train(recorder: &mut Recorder, steps: std::ops::RangeInclusive<u64>) {
    recorder.start(&start(steps.start() - 1));
    for n in steps {
        recorder.step(&step(n));
        if n % 3 == 0 {
            recorder.eval(&eval(n));
            recorder.checkpoint(n, true);
        }
    }
}

fn event_files(run: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(run).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.file_name().unwrap().to_string_lossy().starts_with("events.out.tfevents."));
    paths.sort();
    paths
}

/// Lines without the time, which differs from run to run.
fn timeless(run: &RunDir) -> Vec<Line> {
    let lines = read_lines(&run.metrics()).unwrap().lines.into_iter().map(|line| match line {
        Line::Start { record, .. } => Line::Start { time: String::new(), record },
        Line::End { record, .. } => Line::End { time: String::new(), record },
        other => other,
    });
    lines.collect()
}

#[test]
fn what_is_recorded_is_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let (run, _lock) = RunDir::create(&config(dir.path(), "a")).unwrap();
    let mut recorder = Recorder::create(&run).unwrap();
    train(&mut recorder, 1..=4);
    let health = TensorHealth {
        tensor: "layers.0.ffn.down.weight".to_owned(),
        expert: Some(2),
        step: 3,
        max_abs_grad: 0.0,
        update_ratio: f64::NAN,
        state: HealthState::Dead,
    };
    recorder.gradient_health(std::slice::from_ref(&health));
    recorder.end(&end(4, EndReason::Diverged { step: 5, last_checkpoint: Some("checkpoint-3".to_owned()) }));
    assert!(recorder.take_problems().is_empty());

    let lines = read_lines(&run.metrics()).unwrap();
    assert_eq!((lines.lines.len(), lines.damaged), (9, 0));
    assert!(matches!(&lines.lines[0], Line::Start { time, record } if *record == start(0) && time.ends_with('Z')));
    let without_routes = StepRecord { routes: Vec::new(), ..step(3) };
    assert_eq!(lines.lines[3], Line::Step(without_routes));
    assert_eq!(lines.lines[4], Line::Eval(eval(3)));
    match &lines.lines[7] {
        Line::TensorHealth(found) => assert!(found.update_ratio.is_nan() && found.tensor == health.tensor),
        other => panic!("not a lamp: {other:?}"),
    }
    let text = fs::read_to_string(run.metrics()).unwrap();
    assert!(text.lines().all(|line| line.starts_with("{\"event\":\"")), "{text}");

    let log = fs::read_to_string(run.events()).unwrap();
    for part in ["step 3: accuracy 0.9000", "layers.0.ffn.down.weight, expert 2 does not learn", "checkpoint-3"] {
        assert!(log.contains(part), "{part:?} is not in {log}");
    }
}

#[test]
fn numbers_that_are_not_finite_come_back_as_nan() {
    let mut record = StepRecord { routes: Vec::new(), ..step(1) };
    record.loss = f64::INFINITY;
    record.grad_norm = f64::NAN;
    let json = Line::Step(record).to_json().unwrap();
    let Line::Step(back) = Line::parse(json.as_bytes()).unwrap() else { panic!("not a step: {json}") };
    assert!(back.loss.is_nan() && back.grad_norm.is_nan());
    assert_eq!((back.step, back.task_loss), (1, 0.1));
    assert!(Line::parse(b"{\"event\":\"step\"}").is_err(), "fields that are missing are not made up");
    assert!(Line::parse(b"{\"step\":1}").is_err());
    assert_eq!(Line::parse(b"{\"event\":\"of a later version\",\"step\":1}").unwrap(), Line::Unknown);
}

#[test]
fn routes_of_every_policy_survive() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("routes.bin");
    let mut records: Vec<RouteRecord> = RoutingPolicy::ALL
        .iter()
        .enumerate()
        .map(|(i, &policy)| RouteRecord { step: i as u64 + 1, micro_batch: 0, route: route(policy, i as u64) })
        .collect();
    let odd = vec![
        Pick::One(63),
        Pick::PerExample(vec![]),
        Pick::PerToken(vec![0; 9]),
        Pick::PerToken(vec![63, 1, 0, 40, 7]),
        Pick::PerExample(vec![1]),
        Pick::One(0),
    ];
    records.push(RouteRecord { step: 9, micro_batch: 0, route: Route { passes: 1, sites: 3, picks: odd.clone() } });
    records.push(RouteRecord { step: 9, micro_batch: 1, route: Route { passes: 1, sites: 3, picks: odd } });
    let mut bytes = b"ADAMIXRT\x01\0\0\0\0\0\0\0".to_vec();
    for record in &records {
        bytes.extend(routes::encode(record.step, record.micro_batch, &record.route));
    }
    fs::write(&path, &bytes).unwrap();
    let read = |path: &Path| RouteFile::open(path).unwrap().collect::<Result<Vec<_>, _>>().unwrap();
    assert_eq!(read(&path), records);

    // Cut anywhere, the whole records before the cut remain.
    for length in 16..bytes.len() {
        fs::write(&path, &bytes[..length]).unwrap();
        let found = read(&path);
        assert_eq!(found, records[..found.len()], "cut at {length}");
        assert!(found.len() < records.len());
    }
    // A flipped bit ends the file there.
    let mut flipped = bytes.clone();
    let second = 16 + routes::encode(1, 0, &records[0].route).len();
    flipped[second + 9] ^= 4;
    fs::write(&path, &flipped).unwrap();
    assert_eq!(read(&path), &records[..1]);
    fs::write(&path, b"something else entirely").unwrap();
    assert!(RouteFile::open(&path).is_err());
}

#[test]
fn a_step_of_the_paper_s_routing_is_small() {
    let mixture = MixtureConfig::default();
    let shape = RouteShape { passes: 2, sites: 12, sequences: 16, tokens: 1024 };
    let route = Route::draw(&mixture, SeedStream::new(0), Purpose::Routing, 0, shape);
    assert_eq!(routes::encode(1, 0, &route).len(), 71);
}

#[test]
fn a_resumed_record_equals_an_uninterrupted_one() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, _a) = RunDir::create(&config(dir.path(), "whole")).unwrap();
    let mut recorder = Recorder::create(&whole).unwrap();
    train(&mut recorder, 1..=10);
    recorder.end(&end(10, EndReason::Finished));

    let (cut, _b) = RunDir::create(&config(dir.path(), "cut")).unwrap();
    let mut recorder = Recorder::create(&cut).unwrap();
    train(&mut recorder, 1..=8);
    recorder.end(&end(8, EndReason::Stopped("by the test".to_owned())));
    drop(recorder);
    // Killed in the middle of two writes.
    for path in [cut.metrics(), cut.routes()] {
        let mut bytes = fs::read(&path).unwrap();
        bytes.extend_from_slice(b"{\"event\":\"st");
        fs::write(&path, bytes).unwrap();
    }
    let mut recorder = Recorder::resume(&cut, 6).unwrap();
    assert_eq!(read_lines(&cut.metrics()).unwrap().lines.len(), 1 + 6 + 4);
    train(&mut recorder, 7..=10);
    recorder.end(&end(10, EndReason::Finished));
    assert!(recorder.take_problems().is_empty());
    assert_eq!(timeless(&cut), timeless(&whole));
    assert_eq!(fs::read(cut.routes()).unwrap(), fs::read(whole.routes()).unwrap());
    assert!(fs::read_to_string(cut.events()).unwrap().contains("goes on from step 6"));

    // TensorBoard: two files, in order; the second says where it takes over.
    let files = event_files(cut.path());
    assert_eq!(files.len(), 2);
    let events = tensorboard::read(&files[1]).unwrap();
    assert_eq!((events[1].session, events[1].step), (Some(1), 7));
    assert_eq!(events[2].step, 7);

    // The record does not tell, the log does: once a step, and not where a note merely says so.
    recorder.note("the user goes on from step 9");
    drop((recorder, Recorder::resume(&cut, 6).unwrap(), Recorder::resume(&cut, 3).unwrap()));
    assert_eq!((resumed_steps(&cut), resumed_steps(&whole)), (vec![3, 6], Vec::new()));
}

#[test]
fn other_circumstances_after_resuming_are_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let (run, _lock) = RunDir::create(&config(dir.path(), "a")).unwrap();
    train(&mut Recorder::create(&run).unwrap(), 1..=3);
    let mut recorder = Recorder::resume(&run, 3).unwrap();
    recorder.start(&StartRecord { total_steps: 20, ..start(3) });
    let starts = timeless(&run).into_iter().filter(|line| matches!(line, Line::Start { .. })).count();
    assert_eq!(starts, 2, "the number of steps is another one");
}

#[test]
fn cutting_drops_what_is_damaged_and_is_idempotent() {
    let dir = tempfile::tempdir().unwrap();
    let (run, _lock) = RunDir::create(&config(dir.path(), "a")).unwrap();
    truncate_after(&run, 5).unwrap();
    train(&mut Recorder::create(&run).unwrap(), 1..=3);
    let sound = fs::read(run.metrics()).unwrap();
    fs::write(run.metrics(), [b"\xff\xfe garbage\n", sound.as_slice(), b"{\"event\":\"step\",\"st"].concat()).unwrap();
    truncate_after(&run, 100).unwrap();
    assert_eq!(fs::read(run.metrics()).unwrap(), sound);
    truncate_after(&run, 3).unwrap();
    assert_eq!(fs::read(run.metrics()).unwrap(), sound);
    truncate_after(&run, 0).unwrap();
    assert!(matches!(timeless(&run).as_slice(), [Line::Start { .. }]));
    assert_eq!(fs::metadata(run.routes()).unwrap().len(), 16);
    // A file of routes that is none does not keep anybody from going on.
    fs::write(run.routes(), b"not routes, but long enough").unwrap();
    train(&mut Recorder::resume(&run, 0).unwrap(), 1..=1);
    assert_eq!(RouteFile::open(&run.routes()).unwrap().count(), 2);
    assert!(run.path().join("routes.damaged.bin").exists());
}

#[test]
fn a_file_that_cannot_be_written_is_told_once_and_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let (run, _lock) = RunDir::create(&config(dir.path(), "a")).unwrap();
    fs::create_dir(run.metrics()).unwrap();
    let mut recorder = Recorder::create(&run).unwrap();
    train(&mut recorder, 1..=4);
    let problems = recorder.take_problems();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].contains("metrics.jsonl") && problems[0].contains("training goes on"), "{problems:?}");
    recorder.step(&step(5));
    assert!(recorder.take_problems().is_empty());
    assert_eq!(RouteFile::open(&run.routes()).unwrap().count(), 10, "the other files are written");
    fs::remove_dir(run.metrics()).unwrap();
    recorder.step(&step(6));
    let problems = recorder.take_problems();
    assert!(problems.len() == 1 && problems[0].contains("works again"), "{problems:?}");
    let lines = read_lines(&run.metrics()).unwrap();
    assert_eq!((lines.lines.len(), lines.damaged), (1 + 6 + 2, 0), "nothing is missing");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_does_not_stop_training() {
    let dir = tempfile::tempdir().unwrap();
    let (run, _lock) = RunDir::create(&config(dir.path(), "a")).unwrap();
    for path in [run.metrics(), run.routes(), run.events()] {
        std::os::unix::fs::symlink("/dev/full", path).unwrap();
    }
    let mut recorder = Recorder::create(&run).unwrap();
    train(&mut recorder, 1..=6);
    let problems = recorder.take_problems();
    assert_eq!(problems.len(), 3, "{problems:?}");
    assert!(problems.iter().all(|problem| problem.contains("free some disk space")), "{problems:?}");
}

#[test]
fn a_reader_follows_a_writer() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("metrics.jsonl");
    let mut tail = Tail::new(&path);
    assert!(tail.poll().unwrap().lines.is_empty(), "not there yet");
    let line = |n| Line::Step(StepRecord { routes: Vec::new(), ..step(n) });
    let text = |n| format!("{}\n", line(n).to_json().unwrap());
    fs::write(&path, text(1) + &text(2)[..30]).unwrap();
    assert_eq!(tail.poll().unwrap().lines, [line(1)]);
    assert!(tail.poll().unwrap().lines.is_empty());
    fs::write(&path, text(1) + &text(2) + &text(3)).unwrap();
    let news = tail.poll().unwrap();
    assert_eq!((news.lines, news.restarted), (vec![line(2), line(3)], false));
    fs::write(&path, text(1)).unwrap();
    let news = tail.poll().unwrap();
    assert_eq!((news.lines, news.restarted), (vec![line(1)], true), "cut back by a resumed run");
    // Cut in the middle of a line that was read, which is then written to its end.
    fs::write(&path, &text(1)[..40]).unwrap();
    let news = tail.poll().unwrap();
    assert_eq!((news.lines, news.restarted, news.damaged), (vec![], true, 0), "half a line");
    fs::write(&path, text(1) + &text(2)).unwrap();
    let news = tail.poll().unwrap();
    assert_eq!((news.lines, news.restarted, news.damaged), (vec![line(1), line(2)], false, 0));
}

#[test]
fn a_reader_notices_another_file_that_is_longer() {
    let dir = tempfile::tempdir().unwrap();
    let (path, other) = (dir.path().join("metrics.jsonl"), dir.path().join("other"));
    let start = |total_steps| Line::Start { time: String::new(), record: StartRecord { total_steps, ..start(0) } };
    let steps = |range: std::ops::RangeInclusive<u64>| -> Vec<Line> {
        range.map(|n| Line::Step(StepRecord { routes: Vec::new(), ..step(n) })).collect()
    };
    let write = |path: &Path, lines: &[Line]| {
        fs::write(path, lines.iter().map(|line| line.to_json().unwrap() + "\n").collect::<String>()).unwrap();
    };
    let run = |total_steps, range| [vec![start(total_steps)], steps(range)].concat();
    write(&path, &run(10, 1..=30));
    let mut tail = Tail::new(&path);
    assert_eq!(tail.poll().unwrap().lines, run(10, 1..=30));
    // Written anew in its place: the same inode.
    write(&path, &run(20, 2..=40));
    let news = tail.poll().unwrap();
    assert_eq!((news.restarted, news.damaged, news.lines), (true, 0, run(20, 2..=40)));
    // Of the same length, so that nothing seems to be appended.
    let mut lines = run(20, 2..=40);
    lines.swap(38, 39);
    write(&path, &lines);
    let news = tail.poll().unwrap();
    assert_eq!((news.restarted, news.damaged, &news.lines), (true, 0, &lines));
    let news = tail.poll().unwrap();
    assert_eq!((news.restarted, news.lines), (false, vec![]));
    // Renamed over it: another inode, and nothing of what was read differs but the first line.
    lines[0] = start(30);
    lines.extend(steps(41..=41));
    write(&other, &lines);
    fs::rename(&other, &path).unwrap();
    let news = tail.poll().unwrap();
    assert_eq!((news.restarted, news.damaged), (cfg!(unix), 0));
    assert_eq!(news.lines, if cfg!(unix) { lines } else { steps(41..=41) });
}

#[test]
fn tensorboard_reads_what_is_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let (run, _lock) = RunDir::create(&config(dir.path(), "a")).unwrap();
    train(&mut Recorder::create(&run).unwrap(), 1..=3);
    let files = event_files(run.path());
    let events = tensorboard::read(&files[0]).unwrap();
    assert_eq!(events[0].file_version.as_deref(), Some("brain.Event:2"));
    assert!(events[0].wall_time > 1.6e9);
    assert_eq!(events.len(), 5);
    let tags: Vec<&str> = events[1].scalars.iter().map(|(tag, _)| tag.as_str()).collect();
    let wanted = ["loss", "task_loss", "consistency", "learning_rate", "grad_norm", "epoch"];
    assert_eq!(tags, wanted.map(|tag| format!("train/{tag}")));
    assert_eq!((events[3].step, events[3].scalars[0].1), (3, 1.0 / 3.0));
    assert_eq!(events[4].scalars, [("eval/accuracy".to_owned(), 0.9), ("eval/loss".to_owned(), 0.3)]);

    let bytes = fs::read(&files[0]).unwrap();
    let cut = dir.path().join("cut");
    fs::write(&cut, &bytes[..bytes.len() - 3]).unwrap();
    assert_eq!(tensorboard::read(&cut).unwrap().len(), 4);
    let mut damaged = bytes;
    damaged[14] ^= 1;
    fs::write(&cut, damaged).unwrap();
    assert!(tensorboard::read(&cut).is_err());
}

/// Bytes put together by hand from the format's description (protocol buffers, TFRecord); the checksum itself is
/// tested against published values.
#[test]
fn an_event_has_the_bytes_of_its_format() {
    let payload: Vec<u8> = [
        &[0x09][..],
        &1.5f64.to_le_bytes(), // 1: wall_time, 64 bits
        &[0x10, 0xac, 0x02],   // 2: step, varint 300
        &[0x2a, 0x0c],         // 5: summary of 12 bytes
        &[0x0a, 0x0a],         //    1: value of 10 bytes
        &[0x0a, 0x03],
        b"a/b", //       1: tag of 3 bytes
        &[0x15],
        &0.25f32.to_le_bytes(), //       2: simple_value, 32 bits
    ]
    .concat();
    let mut want = (payload.len() as u64).to_le_bytes().to_vec();
    let length_check = masked(&want);
    want.extend(length_check.to_le_bytes());
    want.extend(&payload);
    want.extend(masked(&payload).to_le_bytes());
    assert_eq!(recorder::tensorboard::scalars(1.5, 300, &[("a/b", 0.25)]), want);
    assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    assert_eq!(masked(b"123456789"), 0xe306_9283u32.rotate_right(15).wrapping_add(0xa282_ead8));
}
