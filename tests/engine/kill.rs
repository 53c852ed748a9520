//! Real processes, killed at random moments: what a resumed run leaves is bit for bit what an uninterrupted one leaves.

use adamix::rng::{Purpose, SeedStream};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

const STEPS: u64 = 30;

/// A small run of the lab: 30 steps, a checkpoint every third, two evaluations.
fn train_command(runs: &Path, name: &str) -> Command {
    let mut command = adamix();
    let settings = "--lab --json --max-steps 30 --batch-size 4 --eval-steps 15 --save-steps 3 --save-total-limit 100 \
                    --max-train-rows 50 --max-eval-rows 12 --random-routes 1 --threads 1 --max-length 32";
    command.arg("train").args(settings.split_whitespace()).args(["--name", name]).arg("--runs-dir").arg(runs);
    command
}

fn resume_command(run: &Path) -> Command {
    let mut command = adamix();
    command.arg("resume").arg(run).arg("--json");
    command
}

fn adamix() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_adamix"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Reads events until one satisfies `stop`; `false` when the process ended before.
fn read_until(out: &mut BufReader<ChildStdout>, mut stop: impl FnMut(&Value) -> bool) -> bool {
    let mut line = String::new();
    while out.read_line(&mut line).unwrap() > 0 {
        let event: Value = serde_json::from_str(&line).unwrap_or_else(|err| panic!("not JSON ({err}): {line}"));
        if stop(&event) {
            return true;
        }
        line.clear();
    }
    false
}

fn spawn(mut command: Command) -> (Child, BufReader<ChildStdout>) {
    let mut child = command.spawn().unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    (child, out)
}

/// Runs to the end and returns the last line.
fn finish(mut command: Command, code: i32) -> Value {
    let output = command.output().unwrap();
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{err}");
    serde_json::from_str(out.lines().last().unwrap_or_else(|| panic!("no output: {err}"))).unwrap()
}

/// What a run leaves, without times: hashes of the last checkpoint and of the route log, and all measurements.
fn remains(run: &Path) -> (Vec<(String, String)>, Vec<Value>) {
    let checkpoint = run.join(format!("checkpoint-{STEPS}"));
    let files =
        [checkpoint.join("experts.safetensors"), checkpoint.join("optimizer.safetensors"), run.join("routes.bin")];
    let hash = |path: &PathBuf| {
        let bytes = fs::read(path).unwrap_or_else(|err| panic!("{err}: {}", path.display()));
        let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        (path.file_name().unwrap().to_str().unwrap().to_owned(), hex)
    };
    let metrics = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let lines = metrics.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let kept = lines.filter(|line| ["step", "eval", "lamp"].contains(&line["event"].as_str().unwrap()));
    let timeless = kept.map(|mut line| {
        line.as_object_mut().unwrap().remove("seconds");
        line
    });
    (files.iter().map(hash).collect(), timeless.collect())
}

fn assert_same_run(run: &Path, straight: &Path, what: &str) {
    let ((files, lines), (want_files, want_lines)) = (remains(run), remains(straight));
    assert_eq!(files, want_files, "{what}");
    for (line, want) in lines.iter().zip(&want_lines) {
        assert_eq!(line, want, "{what}");
    }
    assert_eq!(lines.len(), want_lines.len(), "{what}");
}

#[test]
fn a_run_killed_at_random_moments_ends_with_the_same_bits() {
    let runs = tempfile::tempdir().unwrap();
    let result = finish(train_command(runs.path(), "straight"), 0);
    assert_eq!(result["steps"], STEPS);
    let straight = runs.path().join("straight");
    let other_seed = {
        let mut command = train_command(runs.path(), "other-seed");
        command.args(["--seed", "1"]);
        finish(command, 0);
        runs.path().join("other-seed")
    };
    // The comparison must be able to fail.
    assert_ne!(remains(&other_seed), remains(&straight));

    let mut moments = SeedStream::new(7).stream(Purpose::Sampling, 0);
    for attempt in 0..3 {
        let name = format!("killed-{attempt}");
        let run = runs.path().join(&name);
        let mut kills = Vec::new();
        let mut command = train_command(runs.path(), &name);
        // Killed up to three times, each time after so many more lines of output.
        for _ in 0..3 {
            let (mut child, mut out) = spawn(command);
            let mut left = 1 + moments.below(14);
            let alive = read_until(&mut out, |event| {
                left -= usize::from(["step", "eval", "checkpoint"].contains(&event["event"].as_str().unwrap()));
                left == 0
            });
            child.kill().unwrap(); // SIGKILL: nothing of the program runs after this
            child.wait().unwrap();
            kills.push(if alive { "killed" } else { "ended" });
            command = resume_command(&run);
        }
        assert!(kills.contains(&"killed"), "{kills:?}");
        let result = finish(command, 0);
        assert_eq!(result["steps"], STEPS);
        assert_same_run(&run, &straight, &format!("attempt {attempt}, {kills:?}"));
    }
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_writes_a_checkpoint_and_goes_on_with_the_same_bits() {
    let runs = tempfile::tempdir().unwrap();
    finish(train_command(runs.path(), "straight"), 0);
    let run = runs.path().join("interrupted");
    let (mut child, mut out) = spawn(train_command(runs.path(), "interrupted"));
    assert!(read_until(&mut out, |event| event["event"] == "step" && event["step"] == 4), "it ended too early");
    let signal = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(signal.success());
    let mut last = Value::Null;
    read_until(&mut out, |event| {
        last = event.clone();
        false
    });
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(last["reason"], "stopped", "{last}");
    let step = last["steps"].as_u64().unwrap();
    assert!((4..STEPS).contains(&step), "{last}");
    assert!(run.join(format!("checkpoint-{step}")).join("manifest.json").exists(), "no checkpoint of step {step}");

    finish(resume_command(&run), 0);
    assert_same_run(&run, &runs.path().join("straight"), "interrupted");
}

#[test]
fn a_damaged_last_checkpoint_is_passed_over() {
    let runs = tempfile::tempdir().unwrap();
    finish(train_command(runs.path(), "straight"), 0);
    let run = runs.path().join("damaged");
    let (mut child, mut out) = spawn(train_command(runs.path(), "damaged"));
    assert!(read_until(&mut out, |event| event["event"] == "checkpoint" && event["step"] == 9));
    child.kill().unwrap();
    child.wait().unwrap();
    let experts = run.join("checkpoint-9").join("experts.safetensors");
    let mut bytes = fs::read(&experts).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&experts, bytes).unwrap();
    finish(resume_command(&run), 0);
    assert_same_run(&run, &runs.path().join("straight"), "damaged");
}
