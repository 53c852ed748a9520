//! Runs, checkpoints and exports written by an earlier version: this one lists, measures, resumes, verifies and imports them.

use adamix::artifact::RunDir;
use adamix::artifact::certificate::verify;
use adamix::artifact::run_list::{RunList, RunStatus};
use adamix::protocol::Checkpoint;
use adamix::tensor::safetensors;
use adamix::workflow::runs;
use adamix::workflow::saved_run::Opened;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn old(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/old").join(name)
}

/// A copy of an old run that may be written to.
fn copied(name: &str, to: &Path) -> PathBuf {
    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let path = entry.unwrap().path();
            let target = to.join(path.file_name().unwrap());
            if path.is_dir() {
                copy(&path, &target);
            } else {
                fs::copy(&path, &target).unwrap();
            }
        }
    }
    let target = to.join(name);
    copy(&old(name), &target);
    target
}

fn lines(run: &Path) -> Vec<Value> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn step_losses(run: &Path) -> Vec<f64> {
    let steps = lines(run).into_iter().filter(|line| line["event"] == "step");
    steps.map(|line| line["loss"].as_f64().unwrap()).collect()
}

#[track_caller]
fn near(what: &str, left: f64, right: f64, within: f64) {
    assert!((left - right).abs() <= within, "{what}: {left} and {right}");
}

#[test]
fn old_runs_are_listed_with_all_they_hold() {
    let place = tempfile::tempdir().unwrap();
    for name in ["lab", "writer"] {
        copied(name, place.path());
    }
    let mut found = RunList::default().list(place.path()).unwrap();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    let told: Vec<_> = found.iter().map(|run| (run.name.as_str(), run.status, run.step, run.total_steps)).collect();
    assert_eq!(told, [("lab", RunStatus::Finished, 6, 6), ("writer", RunStatus::Finished, 4, 4)]);
    assert!(found.iter().all(|run| run.problem.is_none() && run.best.is_some()), "{found:?}");

    let lab = runs::detail(&place.path().join("lab")).unwrap();
    assert_eq!((lab.evals.len(), lab.exports.len()), (2, 2));
    assert!(!lab.gradient_health.is_empty() && lab.exports.iter().all(|export| export.certificate.passed));
    assert!(lab.exports.iter().all(|export| export.certificate.weights().is_none()), "it did not say");
    let writer = runs::detail(&place.path().join("writer")).unwrap();
    assert!(!writer.samples.is_empty(), "texts written on the way");
}

#[test]
fn an_old_checkpoint_scores_what_was_recorded() {
    let place = tempfile::tempdir().unwrap();
    let run = copied("lab", place.path());
    let recorded = lines(&run).into_iter().find(|line| line["event"] == "end").unwrap()["report"].clone();
    let opened = Opened::open(&RunDir::open(&run).unwrap(), Checkpoint::Best).unwrap();
    let report = opened.compare(2).unwrap();
    near("merged loss", report.merged.loss, recorded["merged"]["loss"].as_f64().unwrap(), 1e-5);
    for (route, old) in report.random.iter().zip(recorded["random"].as_array().unwrap()) {
        near("loss of a random route", route.loss, old["loss"].as_f64().unwrap(), 1e-5);
    }
    for (expert, old) in report.fixed.iter().zip(recorded["fixed"].as_array().unwrap()) {
        near("loss of one expert", expert.loss, old["loss"].as_f64().unwrap(), 1e-5);
    }
    assert_eq!((report.random.len(), report.fixed.len()), (2, 2));
}

#[test]
fn an_old_run_is_resumed_as_its_own_version_went_on() {
    let place = tempfile::tempdir().unwrap();
    let run = copied("lab", place.path());
    let (losses, after) = (step_losses(&run), run.join("checkpoint-6"));
    let weights = safetensors::read(&after.join("experts.safetensors")).unwrap().0;
    // As a crash after step 3 leaves it.
    fs::remove_dir_all(&after).unwrap();
    let kept: Vec<String> = fs::read_to_string(run.join("metrics.jsonl"))
        .unwrap()
        .lines()
        .take_while(|line| !line.contains(r#""event":"step","step":4"#))
        .map(|line| format!("{line}\n"))
        .collect();
    fs::write(run.join("metrics.jsonl"), kept.concat()).unwrap();
    let done = Command::new(env!("CARGO_BIN_EXE_adamix")).arg("resume").arg(&run).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));

    let now = step_losses(&run);
    assert_eq!(now.len(), 6);
    for (step, (new, old)) in now.iter().zip(&losses).enumerate() {
        near(&format!("loss of step {}", step + 1), *new, *old, 1e-4);
    }
    // Other processors sum in another order: the same to the accuracy of f32, not to the bit.
    let resumed = safetensors::read(&after.join("experts.safetensors")).unwrap().0;
    assert_eq!(resumed.len(), weights.len());
    for (new, old) in resumed.iter().zip(&weights) {
        assert_eq!((&new.name, &new.shape), (&old.name, &old.shape));
        let far = new.data.iter().zip(&old.data).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(far < 2e-3, "{}: {far}", new.name);
    }
}

#[test]
fn old_exports_are_as_their_certificates_say() {
    for dir in ["lab/exports/merged", "lab/exports/adapterhub", "writer/exports/peft", "writer/exports/gguf-adapter"] {
        let (certificate, problems) = verify(&old(dir)).unwrap();
        assert!(certificate.passed && problems.is_empty(), "{dir}: {problems:?}");
    }
    // A negative control: one byte of a file is another.
    let place = tempfile::tempdir().unwrap();
    let run = copied("writer", place.path());
    let file = run.join("exports/peft/adapter_model.safetensors");
    let mut bytes = fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&file, bytes).unwrap();
    assert!(!verify(&run.join("exports/peft")).unwrap().1.is_empty());
}
