//! Exports and imports of language models by command and by the window's thread.

use super::commands::adamix;
use super::exports::letters;
use crate::independence::Window;
use crate::support::cli;
use crate::support::texts::TextPlace;
use adamix::protocol::*;
use serde_json::Value;

const SETTINGS: &str = "--model model --task text --train-file train.jsonl --dev-file dev.jsonl --max-length 32 \
                        --threads 1 --device cpu --runs-dir runs";
const TRAIN: &str = "--kind lora --num-experts 3 --lora-rank 4 --lora-target all-linear --batch-size 8 --max-steps 6 \
                     --learning-rate 2e-2 --random-routes 2 --samples 0";

/// `adamix COMMAND` with the settings and more.
pub fn with_settings(place: &TextPlace, words: &[&str]) -> Value {
    let settings: Vec<&str> = words.iter().copied().chain(SETTINGS.split_whitespace()).collect();
    adamix(place, &settings).pop().unwrap()
}

/// What it says when it refuses.
pub fn refusal(place: &TextPlace, words: &[&str]) -> String {
    let settings: Vec<&str> = words.iter().copied().chain(SETTINGS.split_whitespace()).collect();
    let ran = cli::adamix(&place.path(""), &settings);
    assert_ne!(ran.code, Some(0), "{words:?} was accepted");
    ran.err
}

/// The loss of the merged model, and of the last expert everywhere.
fn loss(place: &TextPlace, run: &str) -> (f64, f64) {
    let report = adamix(place, &["eval", run]).pop().unwrap()["report"].clone();
    let last = report["fixed"].as_array().unwrap().last().map_or(f64::NAN, |one| one["loss"].as_f64().unwrap());
    (report["merged"]["loss"].as_f64().unwrap(), last)
}

#[test]
fn a_run_goes_out_by_command_and_comes_back() {
    let place = letters("llama-tiny");
    let train: Vec<&str> = ["train", "--name", "texts"].into_iter().chain(TRAIN.split_whitespace()).collect();
    with_settings(&place, &train);
    let mut dirs: Vec<(String, String)> = Vec::new();
    for (target, dtype, most) in [
        ("peft,peft-experts,hf,gguf-adapter", "f32", 1e-4),
        ("gguf", "f32", 1e-4),
        ("gguf", "f16", 0.1),
        ("gguf", "bf16", 1.0),
        ("hf", "f16", 0.1),
        ("hf", "bf16", 1.0),
        ("gguf", "q8_0", 1.0),
    ] {
        let words = ["export", "runs/texts", "--target", target, "--dtype", dtype];
        let exports = adamix(&place, &words).pop().unwrap()["exports"].clone();
        let exports = exports.as_array().unwrap();
        assert_eq!(exports.len(), target.split(',').count());
        for (export, name) in exports.iter().zip(target.split(',')) {
            assert_eq!((&export["target"], &export["dtype"]), (&name.into(), &dtype.into()), "{export}");
            assert!(export["passed"] == true && export["max_abs_diff"].as_f64().unwrap() <= most, "{export}");
            dirs.push((name.to_owned(), export["dir"].as_str().unwrap().to_owned()));
            assert!(export["files"].as_array().unwrap().iter().all(|file| file["bytes"].as_u64().unwrap() > 0));
        }
    }
    let refused = refusal(&place, &["export", "runs/texts", "--target", "adapterhub"]);
    assert!(refused.contains("--model") || refused.contains("classifiers"), "{refused}");

    // Every expert comes back: the same mixture. The merged adapter comes back: the same merged model.
    let dir = |name: &str| dirs.iter().find(|(target, _)| target == name).unwrap().1.clone();
    let experts: Vec<String> = (0..3).map(|expert| format!("{}/expert_{expert}", dir("peft-experts"))).collect();
    let experts: Vec<&str> = experts.iter().map(String::as_str).collect();
    let look = adamix(&place, &[&["import", "--look"][..], &experts].concat()).pop().unwrap();
    assert_eq!((&look["mixture"]["num_experts"], &look["run"]), (&3.into(), &Value::Null));
    let back = with_settings(&place, &[&["import", "--name", "back"][..], &experts].concat());
    assert!(back["run"].as_str().unwrap().ends_with("runs/back"), "{back}");
    let one = with_settings(&place, &["import", "--name", "one", &dir("peft")]);
    assert_eq!(one["mixture"]["num_experts"], 1);
    let (merged, expert) = loss(&place, "runs/texts");
    let (merged_back, expert_back) = loss(&place, "runs/back");
    assert!((merged - merged_back).abs() < 1e-5 && (expert - expert_back).abs() < 1e-5, "{merged} {merged_back}");
    assert!((loss(&place, "runs/one").0 - merged).abs() < 1e-5);
    assert!((merged - expert).abs() > 1e-7, "experts that are one would prove nothing");

    // What came back writes the same words and goes out again.
    let written = |run: &str| {
        let words = ["generate", "--run", run, "--prompt", "abc", "--max-new-tokens", "8"];
        adamix(&place, &words).iter().map(|line| line["text"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(written("runs/texts"), written("runs/back"));
    let again = adamix(&place, &["export", "runs/back", "--target", "peft,gguf"]).pop().unwrap();
    assert!(again["exports"].as_array().unwrap().iter().all(|export| export["passed"] == true), "{again}");

    // What does not fit is refused by name, and leaves no run.
    for (words, needles) in [
        (vec!["import", "--name", "no", "nowhere"], vec!["nowhere"]),
        (vec!["import", "--name", "no", "model"], vec!["adapter_config.json"]),
    ] {
        let said = refusal(&place, &words);
        assert!(needles.iter().all(|needle| said.contains(needle)), "{words:?}: {said}");
    }
    let config = place.path(&dir("peft")).join("adapter_config.json");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("\"r\": 4", "\"r\": 3")).unwrap();
    let said = refusal(&place, &["import", "--name", "no", &dir("peft")]);
    assert!(said.contains('3') && said.contains('4'), "{said}");
    assert!(!place.path("runs/no").exists());
}

#[test]
fn the_windows_thread_exports_a_language_model() {
    let (place, mut window) = (letters("llama-tiny"), Window::open());
    let mut config = place.config(6);
    config.data.max_length = 32;
    let start = window.start(&config);
    assert!(matches!(window.wait_for(start), Ok(Outcome::RunEnded(_))));
    let targets = [
        ExportTarget::Peft,
        ExportTarget::PeftExperts,
        ExportTarget::Hf,
        ExportTarget::GgufAdapter,
        ExportTarget::Gguf,
    ];
    let plan = ExportPlan { targets: targets.to_vec(), dtype: NumberFormat::F32, merge: MergePlan::Uniform, dir: None };
    let saved = Subject::Saved { dir: window.dir(), checkpoint: Checkpoint::Last };
    let mut sums = Vec::new();
    for subject in [Subject::Live, saved] {
        let ask = window.send(Command::Query { subject, query: ModelQuery::Export(plan.clone()) });
        let Ok(Outcome::Exported(reports)) = window.wait_for(ask) else { panic!("no export") };
        assert_eq!(reports.iter().map(|report| report.target).collect::<Vec<_>>(), targets);
        assert!(reports.iter().all(|report| report.certificate.passed && report.certificate.probe.rows > 4));
        sums.push(
            reports.iter().flat_map(|r| &r.certificate.files).map(|file| file.sha256.clone()).collect::<Vec<_>>(),
        );
    }
    assert!(sums[0].len() > 8 && sums[0] == sums[1], "the run on screen and the one on disk are the same model");
    let refused = ExportPlan { targets: vec![ExportTarget::AdapterHub], ..plan };
    let ask = window.send(Command::Query { subject: Subject::Live, query: ModelQuery::Export(refused) });
    let Err(failure) = window.wait_for(ask) else { panic!("it was exported") };
    assert!(failure.message.contains("is for classifiers"), "{}", failure.message);
}
