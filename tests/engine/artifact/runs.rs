//! Run directories: names, locks, the list, deleting.

use adamix::artifact::RunDir;
use adamix::artifact::run_dir::delete;
use adamix::artifact::run_label::RunLabel;
use adamix::artifact::run_list::{RunList, RunStatus, RunSummary};
use adamix::artifact::run_lock::{RunLock, is_locked};
use adamix::config::RunConfig;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

pub(super) fn config(root: &Path, name: &str) -> RunConfig {
    RunConfig { name: name.to_owned(), runs_dir: root.display().to_string(), ..RunConfig::default() }
}

fn list(root: &Path) -> adamix::error::Result<Vec<RunSummary>> {
    RunList::default().list(root)
}

const START: &str = r#"{"event":"start","time":"2026-01-02T03:04:05Z","total_steps":10,"first_step":0,"steps_per_epoch":5.0,"train_rows":10,"eval_rows":2,"labels":["a","b"],"trained_parameters":9,"head_parameters":3,"merged_parameters":2,"trunk_parameters":100,"sites":["layers.0.ffn"],"experts":[4,1],"metric":"accuracy","higher_is_better":true,"device":"cpu","threads":1}"#;
const EVAL: &str = r#"{"event":"eval","step":5,"epoch":1.0,"merged":{"loss":0.5,"accuracy":0.75,"primary":0.75},"best":true,"seconds":0.1}"#;

fn step(n: u64) -> String {
    format!(
        r#"{{"event":"step","step":{n},"epoch":0.1,"loss":1.0,"task_loss":0.9,"consistency_loss":0.1,"learning_rate":0.001,"grad_norm":1.5,"tokens":64,"seconds":0.01}}"#
    )
}

fn end(reason: &str) -> String {
    format!(
        r#"{{"event":"end","time":"2026-01-02T03:05:00Z","reason":{reason},"step":7,"seconds":1.0,"tokens_per_s":9.0,"report":null,"best":[5,0.75]}}"#
    )
}

/// A run whose `metrics.jsonl` has this text, and which nobody writes.
fn run_with(root: &Path, name: &str, metrics: &str) -> RunDir {
    let (run, _lock) = RunDir::create(&config(root, name)).unwrap();
    fs::write(run.metrics(), metrics).unwrap();
    run
}

#[test]
fn names_are_unique_and_settings_resolved() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("deep/runs");
    let (first, _a) = RunDir::create(&config(&root, "mine")).unwrap();
    let (second, _b) = RunDir::create(&config(&root, "mine")).unwrap();
    let (automatic, _c) = RunDir::create(&config(&root, "")).unwrap();
    assert_eq!((first.name().as_str(), second.name().as_str()), ("mine", "mine-2"));
    assert!(automatic.name().starts_with("lab-"), "{}", automatic.name());
    let again = RunDir::open(second.path()).unwrap();
    assert_eq!(again.config().name, "mine-2");
    assert_eq!(again, second);
    assert!(RunDir::create(&config(&root, "../escape")).is_err());
    let mut bad = config(&root, "bad");
    bad.train.batch_size = 0;
    assert!(RunDir::create(&bad).is_err());
    assert!(!root.join("bad").exists(), "settings that cannot run leave no directory");
}

#[test]
fn only_a_directory_with_settings_is_a_run() {
    let dir = tempfile::tempdir().unwrap();
    let text = RunDir::open(dir.path()).unwrap_err().to_string();
    assert!(text.contains("run.toml"), "{text}");
    fs::write(dir.path().join("run.toml"), "no_such_key = 1").unwrap();
    let text = RunDir::open(dir.path()).unwrap_err().to_string();
    assert!(text.contains("no_such_key"), "{text}");
}

#[test]
fn one_writer_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let (run, lock) = RunDir::create(&config(dir.path(), "a")).unwrap();
    assert!(is_locked(run.path()));
    let text = run.lock().unwrap_err().to_string();
    assert!(text.contains("is writing into this run"), "{text}");
    drop(lock);
    assert!(!is_locked(run.path()));
    fs::create_dir(run.path().join(".tmp-checkpoint-3")).unwrap();
    let (_lock, done) = run.lock().unwrap();
    assert_eq!(done, ["removed the unfinished checkpoint-3"]);
}

#[test]
fn the_number_of_a_dead_process_blocks_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let (run, lock) = RunDir::create(&config(dir.path(), "a")).unwrap();
    drop(lock);
    fs::write(run.path().join("lock"), "4194304999\n").unwrap();
    assert!(!is_locked(run.path()));
    assert!(RunLock::acquire(run.path()).is_ok());
}

/// Not a test of its own: the other process of [`a_killed_process_lets_go`].
#[test]
fn other_process() {
    let Some(path) = std::env::var_os("ADAMIX_TEST_LOCK") else { return };
    let _lock = RunLock::acquire(Path::new(&path)).unwrap();
    writeln!(std::io::stdout(), "\nlocked").unwrap();
    std::io::stdout().flush().unwrap();
    std::io::stdin().lines().next();
}

#[test]
fn a_killed_process_lets_go() {
    let dir = tempfile::tempdir().unwrap();
    let (run, lock) = RunDir::create(&config(dir.path(), "a")).unwrap();
    drop(lock);
    let mut other = Command::new(std::env::current_exe().unwrap())
        .args(["artifact::runs::other_process", "--exact", "--nocapture"])
        .env("ADAMIX_TEST_LOCK", run.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(other.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "locked"), "the other process never took the lock");
    let text = run.lock().unwrap_err().to_string();
    assert!(text.contains(&format!("process {}", other.id())), "{text}");
    assert_eq!(list(dir.path()).unwrap()[0].status, RunStatus::Running);
    let text = delete(dir.path(), "a").unwrap_err().to_string();
    assert!(text.contains("being written"), "{text}");
    other.kill().unwrap();
    other.wait().unwrap();
    assert_eq!(list(dir.path()).unwrap()[0].status, RunStatus::Interrupted);
    assert!(run.lock().is_ok());
}

#[test]
fn the_list_tells_how_each_run_stands() {
    let dir = tempfile::tempdir().unwrap();
    let text = |parts: &[&str]| parts.iter().map(|part| format!("{part}\n")).collect::<String>();
    run_with(dir.path(), "finished", &text(&[START, &step(5), EVAL, &step(7), &end(r#""finished""#)]));
    run_with(dir.path(), "stopped", &text(&[START, &step(7), &end(r#"{"stopped":"by the user"}"#)]));
    run_with(
        dir.path(),
        "diverged",
        &text(&[START, &step(7), &end(r#"{"diverged":{"step":7,"last_checkpoint":null}}"#)]),
    );
    run_with(dir.path(), "crashed", &text(&[START, &step(3)]));
    run_with(dir.path(), "resumed", &text(&[START, &end(r#"{"stopped":"x"}"#), START, &step(1)]));
    run_with(dir.path(), "partial", &format!("{}{}", text(&[START, &step(3)]), &step(4)[..40]));
    run_with(dir.path(), "noise", &text(&[START, "{garbage", "{\"event\":\"later version\"}", &step(2)]));
    run_with(dir.path(), "empty", "");
    let broken = run_with(dir.path(), "broken", "");
    fs::write(broken.path().join("run.toml"), "= nonsense").unwrap();
    fs::create_dir(dir.path().join("not a run")).unwrap();
    fs::write(dir.path().join("a file"), "").unwrap();

    let runs = list(dir.path()).unwrap();
    assert_eq!(runs.len(), 9, "{:?}", runs.iter().map(|run| &run.name).collect::<Vec<_>>());
    let run = |name: &str| runs.iter().find(|run| run.name == name).unwrap();
    let finished = run("finished");
    assert_eq!(finished.status, RunStatus::Finished);
    assert_eq!((finished.step, finished.total_steps, finished.best), (7, 10, Some(0.75)));
    assert_eq!((finished.metric.as_str(), finished.created), ("accuracy", 1_767_323_045));
    assert_eq!((finished.model.as_str(), finished.task.as_str()), ("lab", "lab"));
    assert!(finished.bytes > 500);
    assert_eq!(finished.problem, None);
    assert_eq!(run("stopped").status, RunStatus::Stopped);
    assert_eq!(run("diverged").status, RunStatus::Diverged);
    assert_eq!(run("crashed").status, RunStatus::Interrupted);
    assert_eq!(run("resumed").status, RunStatus::Interrupted, "what ended before is not the end of what went on");
    assert_eq!((run("partial").status, run("partial").step), (RunStatus::Interrupted, 3));
    assert_eq!(run("partial").problem, None, "an incomplete last line is being written");
    assert_eq!(run("noise").step, 2);
    assert!(run("noise").problem.as_ref().unwrap().contains("1 lines"), "{:?}", run("noise").problem);
    assert_eq!(run("empty").status, RunStatus::Interrupted);
    assert_eq!(run("broken").status, RunStatus::Damaged);
    assert!(run("broken").problem.is_some());
    assert!(list(&dir.path().join("nothing here")).unwrap().is_empty());
}

#[test]
fn a_run_being_written_is_listed_as_running() {
    let dir = tempfile::tempdir().unwrap();
    let (run, lock) = RunDir::create(&config(dir.path(), "a")).unwrap();
    fs::write(run.metrics(), format!("{START}\n{}\n{}", step(1), &step(2)[..10])).unwrap();
    let status = |name: &str| list(dir.path()).unwrap().into_iter().find(|run| run.name == name).unwrap();
    assert_eq!((status("a").status, status("a").step), (RunStatus::Running, 1));
    drop(lock);
    assert_eq!(status("a").status, RunStatus::Interrupted);
}

#[test]
fn deleting_touches_runs_only() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("runs");
    let (run, lock) = RunDir::create(&config(&root, "a")).unwrap();
    assert!(delete(&root, "a").is_err(), "it is being written");
    drop(lock);
    fs::create_dir(root.join("no run")).unwrap();
    fs::create_dir(dir.path().join("outside")).unwrap();
    fs::write(dir.path().join("outside/run.toml"), "").unwrap();
    for name in ["no run", "../outside", "..", ".", "", "a/", "a/..", "absent", "/", "./a"] {
        assert!(delete(&root, name).is_err(), "{name:?}");
    }
    assert!(dir.path().join("outside/run.toml").exists() && root.join("no run").exists());
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(dir.path().join("outside"), root.join("link")).unwrap();
        assert!(delete(&root, "link").is_err(), "a link is not a run");
        std::os::unix::fs::symlink(dir.path().join("outside"), run.path().join("inner link")).unwrap();
    }
    delete(&root, "a").unwrap();
    assert!(!run.path().exists());
    assert!(dir.path().join("outside/run.toml").exists(), "what a link points to stays");
    let left: Vec<_> = fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with(".tmp")), "{left:?}");
}

#[test]
fn exports_get_names_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let (run, _lock) = RunDir::create(&config(dir.path(), "a")).unwrap();
    let first = run.new_export("adapter").unwrap();
    assert!(!run.exports().exists(), "a name is no directory yet");
    fs::create_dir_all(&first).unwrap();
    assert_eq!(run.new_export("adapter").unwrap(), run.exports().join("adapter-2"));
}

#[test]
fn the_order_of_the_fields_of_a_line_does_not_matter() {
    let dir = tempfile::tempdir().unwrap();
    let reversed = |line: &str| {
        let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(line).unwrap();
        serde_json::Value::Object(object.into_iter().rev().collect()).to_string()
    };
    let lines = [START.to_owned(), step(5), EVAL.to_owned(), step(7), end(r#""finished""#)];
    run_with(dir.path(), "a", &(lines.join("\n") + "\n"));
    run_with(dir.path(), "b", &(lines.map(|line| reversed(&line)).join("\n") + "\n"));
    let runs = list(dir.path()).unwrap();
    assert!((runs[0].seconds - 0.12).abs() < 1e-12, "{}", runs[0].seconds);
    let known = |run: &RunSummary| (run.status, run.step, run.best, run.seconds, run.created, run.problem.clone());
    assert_eq!(known(&runs[0]), known(&runs[1]));
    assert_eq!((runs[0].status, runs[0].step), (RunStatus::Finished, 7));
}

#[test]
fn a_second_listing_reads_only_what_was_appended() {
    let dir = tempfile::tempdir().unwrap();
    let first = format!("{START}\n{}\n", step(1));
    let run = run_with(dir.path(), "a", &first);
    run_with(dir.path(), "b", &first);
    let mut runs = RunList::default();
    let find = |runs: &mut RunList, name: &str| {
        runs.list(dir.path()).unwrap().into_iter().find(|run| run.name == name).unwrap()
    };
    assert_eq!(find(&mut runs, "a").step, 1);
    assert_eq!(runs.bytes_read(), 2 * first.len() as u64);
    assert_eq!(find(&mut runs, "a").step, 1);
    assert_eq!(runs.bytes_read(), 2 * first.len() as u64, "nothing was appended");
    let more = format!("{EVAL}\n{}\n", step(2));
    fs::write(run.metrics(), format!("{first}{more}")).unwrap();
    let seen = find(&mut runs, "a");
    assert_eq!((seen.step, seen.best, seen.total_steps), (2, Some(0.75), 10));
    assert_eq!(runs.bytes_read(), (2 * first.len() + more.len()) as u64);
    // A resumed run begins its record again.
    fs::write(run.metrics(), format!("{START}\n")).unwrap();
    assert_eq!((find(&mut runs, "a").step, find(&mut runs, "a").best), (0, None));
    fs::write(run.path().join("run.toml"), "= nonsense").unwrap();
    assert_eq!(find(&mut runs, "a").status, RunStatus::Damaged);
    delete(dir.path(), "a").unwrap();
    assert_eq!(runs.list(dir.path()).unwrap().len(), 1);
}

#[test]
fn a_listing_never_mixes_two_records() {
    let dir = tempfile::tempdir().unwrap();
    let text = |first: u64, last: u64| {
        let lines = (first..=last).map(|n| step(n) + "\n");
        std::iter::once(format!("{START}\n")).chain(lines).collect::<String>()
    };
    let run = run_with(dir.path(), "a", &text(1, 40));
    let mut runs = RunList::default();
    let mut look = || {
        let found = runs.list(dir.path()).unwrap().remove(0);
        (found.step, (found.seconds * 100.0).round() as u64, found.problem)
    };
    assert_eq!(look(), (40, 40, None));
    // A line is listed when it is whole.
    let more = text(1, 41);
    fs::write(run.metrics(), &more[..more.len() - 30]).unwrap();
    assert_eq!(look(), (40, 40, None));
    fs::write(run.metrics(), &more).unwrap();
    assert_eq!(look(), (41, 41, None));
    // A resumed run cuts its record and has grown beyond the old length when it is listed again: in place, and by renaming.
    fs::write(run.metrics(), text(100, 150)).unwrap();
    assert_eq!(look(), (150, 51, None));
    fs::write(dir.path().join("other"), text(200, 270)).unwrap();
    fs::rename(dir.path().join("other"), run.metrics()).unwrap();
    assert_eq!(look(), (270, 71, None));
    // Another run of the same name, with a longer record: its inode may be that of the deleted one.
    delete(dir.path(), "a").unwrap();
    run_with(dir.path(), "a", &text(300, 390));
    assert_eq!(look(), (390, 91, None));
    fs::write(run.metrics(), &text(300, 390)[..50]).unwrap();
    assert_eq!(look(), (0, 0, None));
}

#[test]
fn a_label_stays_with_its_run_and_a_broken_one_hides_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let run = run_with(dir.path(), "named", START);
    let label = RunLabel {
        title: "The \"final\" run\n<script>".to_owned(),
        notes: "two\nlines".to_owned(),
        tags: vec!["a".to_owned(), "b".to_owned()],
        parent: "other".to_owned(),
        edge: "from step 4".to_owned(),
    };
    label.write(run.path()).unwrap();
    let listed = list(dir.path()).unwrap().remove(0);
    assert_eq!((listed.title(), listed.name.as_str()), (label.title.as_str(), "named"));
    assert_eq!(listed.label, label);
    fs::write(run.path().join("label.toml"), [0xff, 0xfe, b'=']).unwrap();
    let listed = list(dir.path()).unwrap().remove(0);
    assert_eq!((listed.title(), listed.problem.as_deref()), ("named", None));
    RunLabel::default().write(run.path()).unwrap();
    assert!(!run.path().join("label.toml").exists(), "an empty label leaves no file");
    assert!(label.write(dir.path()).unwrap_err().to_string().contains("not a run directory"));
    assert!(!dir.path().join("label.toml").exists());
}
