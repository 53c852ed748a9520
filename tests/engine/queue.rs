//! The queue of runs: order, restarts, damage, and that no entry is trained twice.

use crate::independence::Window;
use crate::support::cli::adamix;
use crate::support::place::Place;
use adamix::artifact::queue::{Queue, QueueState};
use adamix::config::RunConfig;
use adamix::engine::EngineHandle;
use adamix::model_store::Hub;
use adamix::protocol::*;
use adamix::workflow::runs;
use std::fs;

fn named(name: &str) -> RunConfig {
    RunConfig { name: name.to_owned(), ..RunConfig::default() }
}

fn titles(state: &QueueState) -> Vec<String> {
    state.entries.iter().map(|entry| entry.title()).collect()
}

#[test]
fn entries_keep_their_order_and_survive() {
    let dir = tempfile::tempdir().unwrap();
    let queue = Queue::at(dir.path().join("queue"));
    assert_eq!(queue.list().unwrap(), QueueState::default());
    assert!(!dir.path().join("queue").exists(), "looking makes nothing");
    for name in ["a", "b", "c"] {
        queue.add(&named(name)).unwrap();
    }
    let again = Queue::at(dir.path().join("queue"));
    assert_eq!(titles(&again.list().unwrap()), ["a", "b", "c"]);
    assert_eq!(titles(&again.move_to(3, 0).unwrap()), ["c", "a", "b"]);
    assert_eq!(titles(&again.move_to(3, 99).unwrap()), ["a", "b", "c"]);
    assert_eq!(titles(&again.remove(2).unwrap()), ["a", "c"]);
    assert_eq!(again.add(&named("d")).unwrap().entries[2].id, 4, "a number is never given twice");
    assert!(again.remove(2).unwrap_err().to_string().contains("no entry 2"));
    let mut bad = named("bad");
    bad.train.batch_size = 0;
    assert!(again.add(&bad).unwrap_err().to_string().contains("batch_size is 0"));
    assert_eq!(titles(&again.list().unwrap()), ["a", "c", "d"]);
}

#[test]
fn nobody_gets_what_another_one_is_starting() {
    let dir = tempfile::tempdir().unwrap();
    let queue = Queue::at(dir.path().to_owned());
    for name in ["a", "b", "c"] {
        queue.add(&named(name)).unwrap();
    }
    let first = queue.take_next().unwrap().unwrap();
    let second = Queue::at(dir.path().to_owned()).take_next().unwrap().unwrap();
    assert_eq!((first.entry.title(), second.entry.title()), ("a".to_owned(), "b".to_owned()));
    let state = queue.list().unwrap();
    assert_eq!((state.waiting(), state.entries[0].starting), (1, true));
    assert!(queue.remove(1).unwrap_err().to_string().contains("being started"));
    first.started().unwrap();
    second.failed("no such model").unwrap();
    let state = queue.list().unwrap();
    assert_eq!(titles(&state), ["b", "c"]);
    assert_eq!((state.entries[0].failed.as_deref(), state.waiting()), (Some("no such model"), 1));
    let third = queue.take_next().unwrap().unwrap();
    assert_eq!(third.entry.title(), "c", "what could not start is passed over");
    // As when its process is killed.
    drop(third);
    assert_eq!(queue.take_next().unwrap().unwrap().entry.title(), "c");
    assert_eq!(queue.retry(2).unwrap().waiting(), 2);
}

#[test]
fn a_damaged_file_is_said_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let queue = Queue::at(dir.path().to_owned());
    queue.add(&named("a")).unwrap();
    let file = dir.path().join("queue.json");
    let whole = fs::read_to_string(&file).unwrap();
    let cut = &whole[..whole.len() / 2];
    for damaged in [cut, "", "{\"format\":\"adamix-queue\",\"version\":9,\"next_id\":1,\"entries\":[]}"] {
        fs::write(&file, damaged).unwrap();
        let state = queue.list().unwrap();
        assert!(state.entries.is_empty() && state.notes[0].contains("kept as"), "{state:?}");
        let kept = state.notes[0].rsplit(' ').next().unwrap();
        assert_eq!(fs::read_to_string(kept).unwrap(), damaged);
        assert_eq!(titles(&queue.add(&named("b")).unwrap()), ["b"]);
    }
}

#[test]
fn the_command_line_works_it_off_and_goes_on_after_a_failure() {
    let home = tempfile::tempdir().unwrap();
    let run = |line: &str| adamix(home.path(), &line.split_whitespace().collect::<Vec<_>>());
    let lab = "queue add --lab --batch-size 8 --max-train-rows 16 --max-eval-rows 8 --random-routes 1 --max-steps 2 \
               --threads 1 --runs-dir runs --name";
    run(&format!("{lab} one")).done();
    run("queue add --model no-such-model --task custom --train-file no.tsv --name bad").done();
    run(&format!("{lab} two")).done();
    assert!(run("queue list").done().contains("two"));
    run("queue move 3 1").done();
    let listed = run("queue list --json").json().remove(0);
    let names: Vec<&str> = listed["entries"].as_array().unwrap().iter().map(|e| e["title"].as_str().unwrap()).collect();
    assert_eq!(names, ["two", "one", "bad"]);
    let worked = run("queue run");
    assert_eq!(worked.code, Some(1), "{}", worked.err);
    assert!(worked.err.contains("bad failed") && worked.err.contains("2 trained, 1 failed"), "{}", worked.err);
    for name in ["one", "two"] {
        let summary = runs::summary(&home.path().join("runs").join(name));
        assert_eq!((summary.status, summary.step), (RunStatus::Finished, 2), "{name}");
    }
    let left = run("queue list --json").json().remove(0);
    assert_eq!(left["entries"].as_array().unwrap().len(), 1);
    assert!(left["entries"][0]["failed"].as_str().unwrap().contains("no-such-model"), "{left}");
    assert!(run("queue remove 2").done().contains("no run is waiting"));
}

#[test]
fn the_window_s_engine_trains_what_waits() {
    let place = Place::new();
    let queue = Queue::at(place.path("queue"));
    let mut window = {
        let queue = queue.clone();
        Window::open_over(move |waker| EngineHandle::spawn_over(waker, Hub::from_env(), Ok(queue)).unwrap(), || {})
    };
    let mut broken = place.config(4);
    broken.model.path = place.path("nothing").display().to_string();
    for config in [broken, place.config(4)] {
        let asked = window.send(Command::Queue(QueueAsk::Add(Box::new(config))));
        window.wait_for(asked).unwrap();
    }
    let first = window.send(Command::StartQueued { run: RunId(1) });
    let failed = window.wait_for(first).unwrap_err();
    assert!(failed.message.contains("from the queue"), "{failed:?}");
    let second = window.send(Command::StartQueued { run: RunId(2) });
    assert_eq!(window.wait_for(second), Ok(Outcome::RunEnded(RunId(2))));
    assert_eq!(window.end().unwrap().reason, EndReason::Finished);
    let third = window.send(Command::StartQueued { run: RunId(3) });
    assert_eq!(window.wait_for(third).unwrap_err().kind, ErrorKind::Cancelled, "nothing waits any more");
    let state = queue.list().unwrap();
    assert!(state.entries.len() == 1 && state.entries[0].failed.is_some(), "{state:?}");
}
