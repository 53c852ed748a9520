//! Run capsules: what goes in comes out, the same numbers come out of it, and nothing else is ever unpacked.

use crate::support::cli::adamix;
use adamix::artifact::RunDir;
use adamix::artifact::capsule::VerifiedCapsule;
use adamix::error::Result;
use adamix::workflow::{capsule, runs};
use serde_json::{Value, json};
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

/// A name and what it holds.
type Member = (String, Vec<u8>);
type Members = Vec<Member>;

const TRAIN: &str = "train --lab --batch-size 2 --max-train-rows 16 --max-eval-rows 8 --random-routes 2 --max-steps 6 \
                     --eval-steps 3 --threads 1 --name handed-in --runs-dir runs";

/// A home with a trained run and its capsule.
fn trained() -> (tempfile::TempDir, PathBuf) {
    let home = tempfile::tempdir().unwrap();
    adamix(home.path(), &TRAIN.split_whitespace().collect::<Vec<_>>()).done();
    adamix(home.path(), &["capsule", "runs/handed-in", "--out", "a.capsule"]).done();
    let file = home.path().join("a.capsule");
    (home, file)
}

fn members(file: &Path) -> Members {
    let mut archive = ZipArchive::new(fs::File::open(file).unwrap()).unwrap();
    let count = archive.len();
    let read = |i| {
        let mut entry = archive.by_index(i).unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        (entry.name().unwrap().to_string(), bytes)
    };
    (0..count).map(read).collect()
}

fn written(dir: &Path, members: &[Member], method: CompressionMethod) -> PathBuf {
    let path = dir.join("forged.capsule");
    let mut zip = ZipWriter::new(fs::File::create(&path).unwrap());
    for (name, bytes) in members {
        zip.start_file(name.as_str(), SimpleFileOptions::default().compression_method(method)).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap();
    path
}

/// A capsule whose list and members were changed.
fn forged(file: &Path, dir: &Path, change: impl FnOnce(&mut Value, &mut Members)) -> PathBuf {
    let mut all = members(file);
    let at = all.iter().position(|(name, _)| name == "capsule.json").unwrap();
    let mut list: Value = serde_json::from_slice(&all.remove(at).1).unwrap();
    change(&mut list, &mut all);
    all.push(("capsule.json".to_owned(), serde_json::to_vec(&list).unwrap()));
    written(dir, &all, CompressionMethod::Stored)
}

fn refusal(file: &Path, cache: &Path) -> String {
    let opened: Result<PathBuf> = capsule::open_in(file, cache);
    let err = opened.expect_err("it was opened").to_string();
    assert!(!cache.exists(), "something was written before the capsule was refused: {err}");
    err
}

#[test]
fn a_capsule_shows_and_measures_what_the_run_does() {
    let (home, file) = trained();
    let run = runs::detail(&home.path().join("runs/handed-in")).unwrap();
    let dir = capsule::open_in(&file, &home.path().join("unpacked")).unwrap();
    let opened = runs::detail(&dir).unwrap();
    assert_eq!(opened.history, run.history);
    assert_eq!((&opened.evals, &opened.end, &opened.start), (&run.evals, &run.end, &run.start));
    assert_eq!((&opened.routing, &opened.gradient_health), (&run.routing, &run.gradient_health));
    assert_eq!((opened.summary.name.as_str(), opened.summary.status), ("handed-in", run.summary.status));
    let held = opened.capsule.expect("it is marked as a capsule");
    assert!(run.capsule.is_none() && held.left_out.is_empty(), "{held:?}");
    assert_eq!((held.environment.threads, held.environment.device.as_str()), (1, run.start.device.as_str()));
    let names: Vec<&str> = held.files.iter().map(|file| file.name.as_str()).collect();
    for name in ["run.toml", "metrics.jsonl", "routes.bin", "events.log", "checkpoint-6/experts.safetensors"] {
        assert!(names.contains(&name), "{name} is missing in {names:?}");
    }

    // Without the run directory the same numbers come out.
    let measured = |run: &str| adamix(home.path(), &["eval", run, "--random-routes", "2", "--json"]).json().remove(0);
    let before = measured("runs/handed-in");
    fs::remove_dir_all(home.path().join("runs")).unwrap();
    let after = measured("a.capsule");
    for key in ["merged", "random", "fixed", "ensemble"] {
        assert!(!before[key].is_null() || key != "merged", "{before}");
        assert_eq!(before[key], after[key], "{key}");
    }
    let said = adamix(home.path(), &["open", "a.capsule"]);
    assert!(
        said.done().contains("every member is as it was written") && said.out.contains("handed-in"),
        "{}",
        said.out
    );
}

#[test]
fn nothing_is_written_into_an_opened_capsule() {
    let (home, file) = trained();
    let dir = capsule::open_in(&file, &home.path().join("unpacked")).unwrap();
    let run = RunDir::open(&dir).unwrap();
    let text = run.lock().unwrap_err().to_string();
    assert!(text.contains("capsule, which stays as it is"), "{text}");
    let export = adamix(home.path(), &["export", "a.capsule"]);
    assert!(export.code == Some(1) && export.err.contains("choose a destination"), "{}", export.err);
    let elsewhere = adamix(home.path(), &["export", "a.capsule", "--output", "out"]);
    elsewhere.done();
    assert!(home.path().join("out/merged/certificate.json").is_file());
    // Opened again it is found where it was; a file changed meanwhile is put back.
    let metrics = fs::read(dir.join("metrics.jsonl")).unwrap();
    fs::write(dir.join("metrics.jsonl"), "changed").unwrap();
    assert_eq!(capsule::open_in(&file, &home.path().join("unpacked")).unwrap(), dir);
    assert_eq!(fs::read(dir.join("metrics.jsonl")).unwrap(), metrics);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let place = dir.parent().unwrap();
        assert_eq!(fs::metadata(place).unwrap().permissions().mode() & 0o077, 0, "others can read it");
    }
}

#[test]
fn a_damaged_member_is_named() {
    let (home, file) = trained();
    let cache = home.path().join("cache");
    let bytes = fs::read(&file).unwrap();
    for (name, content) in members(&file) {
        // A bit in the middle of what the member holds.
        let start = bytes.windows(content.len().max(1)).position(|window| window == content.as_slice());
        let mut damaged = bytes.clone();
        damaged[start.unwrap() + content.len() / 2] ^= 1;
        let path = home.path().join("damaged.capsule");
        fs::write(&path, damaged).unwrap();
        let err = refusal(&path, &cache);
        assert!(err.contains(&name) && err.contains("damaged.capsule"), "{name}: {err}");
    }
    let path = home.path().join("short.capsule");
    fs::write(&path, &bytes[..bytes.len() - 100]).unwrap();
    assert!(refusal(&path, &cache).contains("cut off"));
}

#[test]
fn names_sizes_and_counts_of_strangers_are_not_believed() {
    let (home, file) = trained();
    let (dir, cache) = (home.path(), home.path().join("cache"));
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let listed = |name: &str, bytes: u64| json!({ "name": name, "bytes": bytes, "sha256": empty });
    for name in [
        "../evil",
        "/etc/evil",
        "C:\\evil",
        "a/../../evil",
        "evil.sh",
        "checkpoint-1/../evil",
        "checkpoint-01/state.json",
        "checkpoint-1/other",
        "run.toml/",
        "",
    ] {
        let path = forged(&file, dir, |list, all| {
            list["files"].as_array_mut().unwrap().push(listed(name, 0));
            all.push((name.to_owned(), Vec::new()));
        });
        let err = refusal(&path, &cache);
        assert!(err.contains("is not a member that a capsule may have"), "{name:?}: {err}");
    }
    let changed =
        |change: &dyn Fn(&mut Value, &mut Members)| refusal(&forged(&file, dir, |list, all| change(list, all)), &cache);
    let err = changed(&|_, all| all.push(("surplus".to_owned(), Vec::new())));
    assert!(err.contains("surplus"), "{err}");
    let err = changed(&|_, all| all.retain(|(name, _)| name != "routes.bin"));
    assert!(err.contains("routes.bin is missing"), "{err}");
    let err = changed(&|list, _| list["files"][0]["bytes"] = json!(1u64 << 40));
    assert!(err.contains("bytes are more than"), "{err}");
    let err = changed(&|list, _| list["files"][1]["bytes"] = json!(3));
    assert!(err.contains("should have 3"), "{err}");
    let err = changed(&|list, _| list["run"] = json!("../../evil"));
    assert!(err.contains("not a name"), "{err}");
    let err = changed(&|list, _| list["version"] = json!(2));
    assert!(err.contains("this program reads"), "{err}");
    let err = changed(&|list, _| {
        let first = list["files"][0].clone();
        list["files"].as_array_mut().unwrap().push(first);
    });
    assert!(err.contains("twice"), "{err}");
    let err = changed(&|list, all| {
        for step in 0..20 {
            for name in ["experts.safetensors", "optimizer.safetensors", "state.json", "manifest.json"] {
                let name = format!("checkpoint-{}/{name}", 100 + step);
                list["files"].as_array_mut().unwrap().push(listed(&name, 0));
                all.push((name, Vec::new()));
            }
        }
    });
    assert!(err.contains("members are more than"), "{err}");
    // No run at all.
    fs::write(dir.join("none.capsule"), "nothing").unwrap();
    assert!(refusal(&dir.join("none.capsule"), &cache).contains("no capsule"));
    // Unchanged it opens: the forger works.
    let path = forged(&file, dir, |_, _| {});
    assert!(VerifiedCapsule::open(&path).is_ok());
}
