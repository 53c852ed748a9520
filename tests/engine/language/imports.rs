//! `adamix import` on language models: checkpoints of the reference code, scores of its experts, and what is refused.

use super::commands::adamix;
use super::exports::letters;
use super::shipping::{refusal, with_settings};
use crate::golden::golden_dir;
use crate::support::cli;
use crate::support::texts::TextPlace;
use adamix::artifact::export::Recipe;
use adamix::artifact::import::peft::MODEL_FILE;
use adamix::artifact::import::reference;
use adamix::artifact::{RunDir, checkpoint};
use adamix::tensor::safetensors::{self, SafetensorsFile};
use adamix::tensor::{HostTensor, NumberFormat};
use adamix::workflow::runs;
use adamix::workflow::snapshot::Banks;
use serde_json::Value;
use std::path::Path;

/// Scores in `gpt2_scored.pt`, as the script that made it says them.
const SCORES: [[f64; 3]; 2] = [[2.0, 0.0, -1.0], [-0.5, 0.25, 1.5]];

fn file(name: &str) -> String {
    golden_dir("torch").join(name).display().to_string()
}

fn tensors(file: &Path) -> Vec<HostTensor> {
    let open = SafetensorsFile::open(file).unwrap();
    open.entries().iter().map(|entry| open.read_entry(entry).unwrap()).collect()
}

/// Writes the merged modules of a run; its tensors.
fn merged(place: &TextPlace, run: &str, out: &str, more: &[&str]) -> Vec<HostTensor> {
    let words = [&["export", run, "--target", "merged", "--output", out], more].concat();
    let export = adamix(place, &words).pop().unwrap()["exports"][0].clone();
    assert!(export["passed"] == true && export["max_abs_diff"] == 0.0, "{export}");
    tensors(&place.path(out).join("merged").join("adapter.safetensors"))
}

/// The weighted mean of the rows of each bank whose name has this part, in double precision.
fn mean(bank: &HostTensor, weights: &[f64]) -> Vec<f64> {
    let size = bank.data.len() / weights.len();
    (0..size).map(|i| weights.iter().enumerate().map(|(e, w)| w * f64::from(bank.data[e * size + i])).sum()).collect()
}

fn apart(got: &[f32], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    got.iter().zip(want).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max)
}

#[test]
fn checkpoints_of_the_reference_code_become_runs() {
    let place = letters("gpt2-tiny");
    for (name, kind, targets) in [
        ("gpt2_lora.pt", "lora", "merged,experts,peft,peft-experts,hf,gguf-adapter,gguf"),
        ("gpt2_adapter.pt", "adapter", "merged,experts"),
    ] {
        let look = adamix(&place, &["import", "--look", &file(name)]).pop().unwrap();
        assert_eq!((&look["mixture"]["kind"], &look["mixture"]["num_experts"]), (&kind.into(), &3.into()), "{look}");
        assert!(look["run"] == Value::Null && !place.path(&format!("runs/{kind}")).exists(), "looking makes nothing");
        let run = format!("runs/{kind}");
        let found = with_settings(&place, &["import", "--name", kind, &file(name)]);
        assert!(found["run"].as_str().unwrap().ends_with(&run), "{found}");
        let report = adamix(&place, &["eval", &run]).pop().unwrap()["report"].clone();
        let loss = |value: &Value| value["loss"].as_f64().unwrap();
        assert_eq!(report["fixed"].as_array().unwrap().len(), 3);
        assert!(
            loss(&report["merged"]).is_finite() && loss(&report["merged"]) != loss(&report["fixed"][0]),
            "{report}"
        );
        let written = |route: &str| {
            let words = ["generate", "--run", &run, "--route", route, "--prompt", "abc", "--max-new-tokens", "6"];
            adamix(&place, &words)[0]["ids"].clone()
        };
        assert!(!written("merged").as_array().unwrap().is_empty());
        assert_ne!(written("merged"), written("base"), "{kind}: the imported experts change what it writes");
        let exports = adamix(&place, &["export", &run, "--target", targets, "--dtype", "f32"]).pop().unwrap();
        let exports = exports["exports"].as_array().unwrap();
        assert_eq!(exports.len(), targets.split(',').count());
        assert!(exports.iter().all(|export| export["passed"] == true), "{exports:?}");
    }
}

#[test]
fn scores_of_experts_weigh_the_merge() {
    let place = letters("gpt2-tiny");
    let found = with_settings(&place, &["import", "--name", "scored", &file("gpt2_scored.pt")]);
    let notes = found["notes"].to_string();
    assert!(notes.contains("2 modules have scores") && notes.contains("softmax"), "{notes}");

    // Softmax and weighted mean by themselves, of the file's own tensors.
    let banks = reference::read(Path::new(&file("gpt2_scored.pt"))).unwrap().tensors;
    let scored = merged(&place, "runs/scored", "scored", &[]);
    let uniform = merged(&place, "runs/scored", "uniform", &["--weights", "1,1,1"]);
    for (layer, scores) in SCORES.iter().enumerate() {
        let sum: f64 = scores.iter().map(|score| score.exp()).sum();
        let weights: Vec<f64> = scores.iter().map(|score| score.exp() / sum).collect();
        let name = format!("layers.{layer}.attn.c_attn.qv.lora_a.weight");
        let find = |list: &[HostTensor]| list.iter().find(|tensor| tensor.name == name).unwrap().clone();
        let (bank, third) = (find(&banks), [1.0 / 3.0; 3]);
        assert!(apart(&find(&scored).data, &mean(&bank, &weights)) < 1e-6, "{name}: not the scores' mean");
        assert!(apart(&find(&scored).data, &mean(&bank, &third)) > 0.1, "{name}: the plain mean");
        assert!(apart(&find(&uniform).data, &mean(&bank, &third)) < 1e-6, "{name}: equal weights are the plain mean");
        // The other layer's scores are others.
        let other: Vec<f64> = SCORES[1 - layer].iter().map(|score| score.exp()).collect();
        let sum: f64 = other.iter().sum();
        let other: Vec<f64> = other.iter().map(|power| power / sum).collect();
        assert!(apart(&find(&scored).data, &mean(&bank, &other)) > 0.1, "{name}: another site's scores");
    }

    // What is measured, written and exported is this model, and says so.
    let compared = adamix(&place, &["merge", "runs/scored"]).pop().unwrap();
    let number = |value: &Value| value.as_f64().unwrap();
    let merged_loss = number(&adamix(&place, &["eval", "runs/scored"]).pop().unwrap()["report"]["merged"]["loss"]);
    // A plan holds its weights in 32 bits.
    let off = (number(&compared["scores"]["loss"]) - merged_loss).abs();
    assert!(off < 1e-5, "off by {off}: {compared}");
    assert!((number(&compared["uniform_scores"]["loss"]) - merged_loss).abs() > 1e-4, "{compared}");
    assert!(compared["weights"]["per-site"].is_array(), "{compared}");
    let plain = adamix(&place, &["merge", "runs/scored", "--weights", "1,1,1"]).pop().unwrap();
    assert_eq!(plain["scores"]["loss"], plain["uniform_scores"]["loss"], "equal weights are the plain mean");
    let whole = adamix(&place, &["export", "runs/scored", "--target", "peft,hf,gguf", "--dtype", "f32"]).pop().unwrap();
    assert!(whole["exports"].as_array().unwrap().iter().all(|export| export["passed"] == true), "{whole}");

    // Experts without scores of their own keep the mean, and their settings say nothing of it.
    with_settings(&place, &["import", "--name", "plain", &file("gpt2_lora.pt")]);
    let settings = |run: &str| std::fs::read_to_string(place.path(run).join("run.toml")).unwrap();
    assert!(settings("runs/scored").contains("merge_weights") && !settings("runs/plain").contains("merge_weights"));

    // Only a uniform merge is called uniform.
    let recipe = |out: &str| {
        let (_, metadata) = safetensors::read(&place.path(out).join("merged/adapter.safetensors")).unwrap();
        toml::from_str::<Recipe>(&metadata["recipe_toml"]).unwrap()
    };
    assert_eq!(recipe("uniform"), Recipe::uniform(3));
    assert!(recipe("scored") != Recipe::uniform(3) && recipe("scored").sites.len() == 2, "{:?}", recipe("scored"));
    for (run, with, name) in [
        ("runs/scored", "imported-scores", "merged, imported scores"),
        ("runs/plain", "uniform-weights", "merged, uniform"),
    ] {
        assert_eq!(adamix(&place, &["eval", run]).pop().unwrap()["report"]["merged_with"], with);
        let ran = cli::adamix(&place.path(""), &["eval", run]);
        let table = ran.done();
        assert!(table.contains(name) && table.contains("uniform") == (run == "runs/plain"), "{table}");
    }
}

#[test]
fn what_cannot_be_imported_is_refused_by_name() {
    let place = letters("llama-tiny");
    let train = "train --name texts --kind lora --num-experts 2 --lora-rank 2 --lora-target all-linear --batch-size 8 --max-steps 1 \
                 --random-routes 1 --samples 0";
    with_settings(&place, &train.split_whitespace().collect::<Vec<_>>());
    let export = adamix(&place, &["export", "runs/texts", "--target", "peft"]).pop().unwrap();
    let dir = place.path(export["exports"][0]["dir"].as_str().unwrap());
    let path = dir.display().to_string();
    with_settings(&place, &["import", "--name", "good", &path]);

    let weights = dir.join(MODEL_FILE);
    let whole = tensors(&weights);
    let say = |list: &[HostTensor]| {
        safetensors::write(&weights, list, NumberFormat::F32, &Default::default()).unwrap();
        refusal(&place, &["import", "--name", "no", &path])
    };
    let without = |part: &str| whole.iter().filter(|tensor| !tensor.name.contains(part)).cloned().collect::<Vec<_>>();
    let renamed = |from: &str, to: &str| {
        let all = whole.iter().cloned();
        all.map(|tensor| HostTensor { name: tensor.name.replace(from, to), ..tensor }).collect::<Vec<_>>()
    };
    for (list, words) in [
        (without("layers.1.self_attn.q_proj.lora_B"), ["layer 1: self_attn.q_proj", "only one of lora_A and lora_B"]),
        (without("layers.1.self_attn.q_proj"), ["layers.1.self_attn.q_proj", "lora_a"]),
        (renamed("layers.0.mlp.up_proj", "layers.0.mlp.router"), ["mlp.router", "no"]),
        (renamed("model.layers.0.self_attn.q_proj", "lm_head"), ["lm_head", "cannot be imported"]),
    ] {
        let said = say(&list);
        assert!(words.iter().all(|word| said.contains(word)), "{words:?}: {said}");
    }
    say_nothing_is_left(&place);
    // A LoRA on some layers only: the others stay the base model.
    safetensors::write(&weights, &without("layers.1."), NumberFormat::F32, &Default::default()).unwrap();
    with_settings(&place, &["import", "--name", "part", &path]);
    let part = checkpoint::read(&RunDir::open(&place.path("runs/part")).unwrap(), 0).unwrap().tensors;
    let all_zero = |layer: &str| {
        let of_layer = part.iter().filter(|tensor| tensor.name.starts_with(layer) && tensor.name.contains("lora_b"));
        of_layer.map(|tensor| tensor.data.iter().all(|&value| value == 0.0)).collect::<Vec<_>>()
    };
    assert!(all_zero("layers.1.").len() == 7 && all_zero("layers.1.").into_iter().all(|zero| zero));
    assert!(all_zero("layers.0.").into_iter().all(|zero| !zero));
    let other = letters("gpt2-tiny");
    let said = refusal(&place, &["import", "--name", "no", &file("gpt2_lora.pt")]);
    assert!(said.contains("gpt2") && said.contains("llama"), "{said}");
    let said = refusal(&other, &["import", "--name", "no", &file("roberta_soup.bin")]);
    assert!(said.contains("roberta") && said.contains("gpt2"), "{said}");
    let said = refusal(&other, &["import", "--name", "no", &file("evil.bin")]);
    assert!(said.contains("refused"), "{said}");
    say_nothing_is_left(&place);
    say_nothing_is_left(&other);
}

fn say_nothing_is_left(place: &TextPlace) {
    assert!(!place.path("runs/no").exists(), "a refused import leaves no run");
}

#[test]
fn imported_experts_start_from_the_imported_weights() {
    let place = letters("gpt2-tiny");
    with_settings(&place, &["import", "--name", "start", &file("gpt2_lora.pt")]);
    let dir = RunDir::open(&place.path("runs/start")).unwrap();
    let banks = Banks::of_tensors(&checkpoint::read(&dir, 0).unwrap().tensors).unwrap();
    assert_ne!(banks.at_start(dir.config()), banks, "the seed gives other experts");
    assert_eq!(banks.at_start_of(&dir).unwrap(), banks);
    let distances = runs::detail(dir.path()).unwrap().distances;
    assert!(!distances.is_empty() && distances.iter().flat_map(|sample| &sample.from_start).all(|&far| far == 0.0));
    let experts = adamix(&place, &["inspect", "runs/start"]).pop().unwrap()["experts"].clone();
    let experts = experts.as_array().unwrap();
    assert!(!experts.is_empty() && experts.iter().all(|bank| bank["cosine_of"] == "weights"), "{experts:?}");
}
