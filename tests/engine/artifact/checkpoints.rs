//! Checkpoints, and what a killed process may leave of them.

use super::runs::config;
use super::tensor;
use adamix::artifact::RunDir;
use adamix::artifact::checkpoint;
use adamix::artifact::run_lock::RunLock;
use adamix::records::CheckpointData;
use adamix::tensor::HostTensor;
use serde_json::json;
use std::fs;

fn data(step: u64) -> CheckpointData {
    let mut odd = tensor("odd", &[5]);
    odd.data = vec![0.1 * step as f32, -0.0, f32::MIN_POSITIVE / 4.0, f32::MAX, 1.0 + f32::EPSILON];
    CheckpointData {
        tensors: vec![tensor("layers.0.ffn.down.weight", &[4, 2, 8]), odd],
        optimizer: vec![tensor("m.layers.0.ffn.down.weight", &[4, 2, 8])],
        state: json!({ "step": step, "best": [step, 0.1 + 0.2], "drawn": [1, 2, 3, 4] }),
    }
}

fn run(steps: &[u64]) -> (tempfile::TempDir, RunDir, RunLock) {
    let dir = tempfile::tempdir().unwrap();
    let (run, lock) = RunDir::create(&config(dir.path(), "a")).unwrap();
    for &step in steps {
        checkpoint::write(&run, step, &data(step)).unwrap();
    }
    (dir, run, lock)
}

fn bits(tensors: &[HostTensor]) -> Vec<Vec<u32>> {
    tensors.iter().map(|tensor| tensor.data.iter().map(|value| value.to_bits()).collect()).collect()
}

#[test]
fn a_checkpoint_comes_back_bit_by_bit() {
    let (_dir, run, _lock) = run(&[7]);
    let back = checkpoint::read(&run, 7).unwrap();
    assert_eq!(back, data(7));
    assert_eq!(bits(&back.tensors), bits(&data(7).tensors));
    let mut names: Vec<_> =
        fs::read_dir(run.checkpoint(7)).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["experts.safetensors", "manifest.json", "optimizer.safetensors", "state.json"]);
    // Written again, as after a resume: replaced.
    let mut other = data(7);
    other.state = json!("again");
    checkpoint::write(&run, 7, &other).unwrap();
    assert_eq!(checkpoint::read(&run, 7).unwrap(), other);
}

#[test]
fn none_is_found_where_none_is() {
    let (_dir, run, _lock) = run(&[]);
    assert!(checkpoint::latest_valid(&run).unwrap().is_none());
    assert!(checkpoint::read(&run, 3).unwrap_err().to_string().contains("checkpoint-3"));
}

#[test]
fn the_newest_whole_checkpoint_is_found_and_the_damaged_file_named() {
    for (damage, name) in [
        ("truncated", "experts.safetensors"),
        ("changed", "optimizer.safetensors"),
        ("changed", "state.json"),
        ("removed", "manifest.json"),
        ("removed", "experts.safetensors"),
        ("emptied", "manifest.json"),
    ] {
        let (_dir, run, _lock) = run(&[5, 9, 10]);
        let path = run.checkpoint(10).join(name);
        let mut bytes = fs::read(&path).unwrap();
        match damage {
            "truncated" => fs::write(&path, &bytes[..bytes.len() - 1]).unwrap(),
            "emptied" => fs::write(&path, "").unwrap(),
            "removed" => fs::remove_file(&path).unwrap(),
            _ => {
                *bytes.last_mut().unwrap() ^= 1;
                fs::write(&path, bytes).unwrap();
            }
        }
        let found = checkpoint::latest_valid(&run).unwrap().unwrap();
        assert_eq!((found.step, found.warnings.len()), (9, 1), "{damage} {name}");
        let warning = &found.warnings[0];
        assert!(warning.contains("checkpoint-10") && warning.contains(name), "{damage} {name}: {warning}");
        assert_eq!(found.data, data(9));
    }
}

#[test]
fn when_all_are_damaged_it_says_so() {
    let (_dir, run, _lock) = run(&[1, 2]);
    for step in [1, 2] {
        fs::remove_file(run.checkpoint(step).join("state.json")).unwrap();
    }
    let text = checkpoint::latest_valid(&run).unwrap_err().to_string();
    assert!(text.contains("checkpoint-1 ") && text.contains("checkpoint-2 "), "{text}");
}

#[test]
fn a_checkpoint_of_another_step_is_not_believed() {
    let (_dir, run, _lock) = run(&[1]);
    fs::rename(run.checkpoint(1), run.checkpoint(2)).unwrap();
    let text = checkpoint::read(&run, 2).unwrap_err().to_string();
    assert!(text.contains("belongs to step 1"), "{text}");
}

#[test]
fn unfinished_checkpoints_do_not_count() {
    let (_dir, run, lock) = run(&[4]);
    drop(lock);
    let unfinished = run.path().join(".tmp-checkpoint-8");
    fs::create_dir(&unfinished).unwrap();
    fs::copy(run.checkpoint(4).join("experts.safetensors"), unfinished.join("experts.safetensors")).unwrap();
    // Killed between the two renames of a replacement.
    fs::rename(run.checkpoint(4), run.path().join(".old-checkpoint-4")).unwrap();
    fs::create_dir(run.path().join("checkpoint-007")).unwrap();
    fs::write(run.path().join("checkpoint-12"), "a file").unwrap();
    assert!(checkpoint::list(&run).unwrap().is_empty());
    let (_lock, done) = run.lock().unwrap();
    assert_eq!(done.len(), 2, "{done:?}");
    assert!(!unfinished.exists());
    assert_eq!(checkpoint::latest_valid(&run).unwrap().unwrap().step, 4);
}

#[test]
fn the_best_and_the_last_ones_are_kept() {
    let (_dir, run, _lock) = run(&[2, 10, 4, 8, 6]);
    assert_eq!(checkpoint::prune(&run, 2, Some(4)).unwrap(), [2, 6]);
    assert_eq!(checkpoint::list(&run).unwrap(), [4, 8, 10]);
    assert_eq!(checkpoint::prune(&run, 0, None).unwrap(), [4, 8]);
    assert_eq!(checkpoint::list(&run).unwrap(), [10], "the newest is never deleted");
    let (_dir, run, _lock) = self::run(&[0, 5, 10]);
    assert_eq!(checkpoint::prune(&run, 1, None).unwrap(), [5], "step 0 of an imported run is its start");
}
