//! Logits and hidden states without padding, against transformers' padded batch.

use super::{FAMILIES, Input, golden_dir, load, off, pack, read_json, read_tensors, under, variant};
use adamix::config::{Method, MixtureConfig};
use adamix::data::Labels;
use adamix::model::{Classifier, ForwardOptions};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

#[derive(Deserialize)]
struct Golden {
    inputs: Vec<Input>,
    cases: Vec<Case>,
    max_length: Option<usize>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    config: Map<String, Value>,
    head: Option<String>,
    logits: Vec<Vec<f32>>,
    first_token: Option<Vec<Vec<f32>>>,
}

/// Logits of float32 arithmetic on these small models; what must hold is 1e-4.
const TOLERANCE: f64 = 3e-5;

fn model(dir: &Path, case: &Case) -> Classifier {
    let mixture = MixtureConfig::default();
    let outputs = case.logits[0].len();
    if case.config.is_empty() && case.head.is_none() {
        return load(dir, Method::HeadOnly, &mixture, outputs);
    }
    let head =
        case.head.as_ref().map(|head| under(&read_tensors(&dir.join("adamix.safetensors")), &format!("heads/{head}/")));
    let copy = variant(dir, &case.config, &head.unwrap_or_default());
    load(copy.path(), Method::HeadOnly, &mixture, outputs)
}

fn run(model: &Classifier, inputs: &[Input]) -> Vec<f32> {
    model.logits(&pack(inputs, Labels::Classes(vec![0; inputs.len()])), None).unwrap()
}

/// The families, and a directory written by `tests/golden/compare_real.py` when one is named.
fn directories() -> Vec<PathBuf> {
    let own = FAMILIES.map(golden_dir).into_iter();
    own.chain(std::env::var_os("ADAMIX_GOLDEN_DIR").map(PathBuf::from)).collect()
}

#[test]
fn logits_equal_transformers_in_every_setting() {
    for dir in directories() {
        let golden: Golden = read_json(&dir.join("golden.json"));
        for case in &golden.cases {
            let what = format!("{} {}", dir.display(), case.name);
            let (model, want) = (model(&dir, case), case.logits.concat());
            let together = off(&run(&model, &golden.inputs), &want);
            assert!(together <= 1e-4, "{what}: off by {together:.1e}");
            println!("{what}: {} rows off by at most {together:.1e}", golden.inputs.len());
        }
    }
}

#[test]
fn packing_does_not_change_a_sequence() {
    for family in FAMILIES {
        let dir = golden_dir(family);
        let golden: Golden = read_json(&dir.join("golden.json"));
        let (case, n) = (&golden.cases[0], golden.inputs.len());
        let (model, want) = (model(&dir, case), case.logits.concat());
        let classes = case.logits[0].len();
        for i in 0..n {
            let alone = off(&run(&model, &golden.inputs[i..=i]), &case.logits[i]);
            assert!(alone <= TOLERANCE, "{family}: row {i} alone is off by {alone:.1e}");
        }
        let backwards: Vec<Input> = golden.inputs.iter().rev().cloned().collect();
        let reversed: Vec<f32> = run(&model, &backwards).chunks(classes).rev().flatten().copied().collect();
        assert!(off(&reversed, &want) <= TOLERANCE, "{family}: order matters");
    }
}

#[test]
fn settings_that_change_the_result_are_told_apart() {
    for family in FAMILIES {
        let dir = golden_dir(family);
        let golden: Golden = read_json(&dir.join("golden.json"));
        let plain = run(&model(&dir, &golden.cases[0]), &golden.inputs);
        for case in golden.cases.iter().filter(|case| case.logits[0].len() == 3 && case.name != "plain") {
            let apart = off(&plain, &case.logits.concat());
            assert!(apart > 1e-4, "{family} {}: this golden file could not tell ({apart:.1e})", case.name);
        }
    }
}

#[test]
fn first_token_vectors_with_and_without_the_shortcut() {
    for family in FAMILIES {
        let dir = golden_dir(family);
        let golden: Golden = read_json(&dir.join("golden.json"));
        let model = model(&dir, &golden.cases[0]);
        let want = golden.cases[0].first_token.as_ref().unwrap().concat();
        let batch = pack(&golden.inputs, Labels::Classes(vec![0; golden.inputs.len()]));
        let vectors = |all_tokens| {
            let (x, _) = model.base.forward(&batch, ForwardOptions { all_tokens, ..ForwardOptions::eval() }).unwrap();
            x.to_vec2::<f32>().unwrap()
        };
        let pooled = vectors(false).concat();
        assert!(off(&pooled, &want) <= TOLERANCE, "{family}: off by {:.1e}", off(&pooled, &want));
        let all = vectors(true);
        assert_eq!(all.len(), batch.ids.len());
        let first: Vec<f32> = batch.offsets[..batch.rows.len()].iter().flat_map(|&at| all[at].clone()).collect();
        assert!(off(&first, &want) <= TOLERANCE, "{family}: off by {:.1e} without the shortcut", off(&first, &want));
    }
}

#[test]
fn token_ids_equal_those_of_a_real_tokenizer() {
    let Some(dir) = std::env::var_os("ADAMIX_GOLDEN_DIR").map(PathBuf::from) else { return };
    let golden: Golden = read_json(&dir.join("golden.json"));
    let tokenizer = adamix::data::TextTokenizer::from_file(&dir.join("tokenizer.json")).unwrap();
    for input in &golden.inputs {
        let text = input.text.as_deref().unwrap();
        let got = tokenizer.encode(text, input.pair.as_deref(), golden.max_length.unwrap()).unwrap();
        assert_eq!((&got.ids, &got.type_ids), (&input.ids, &input.type_ids), "{text:?}");
    }
}
