//! Trained language models as files for other programs, and back as runs.

use super::commands::adamix;
use crate::support::exported;
use crate::support::texts::TextPlace;
use crate::transfer::{damage, damage_at, write_tokenizer};
use adamix::artifact::export::base::{BaseFiles, BaseKind};
use adamix::artifact::export::gguf_model::{self, GgufModel};
use adamix::artifact::export::hf;
use adamix::artifact::export::{ExportMeta, Recipe};
use adamix::config::{DtypeChoice, MixtureConfig, MixtureKind, RunConfig, Task};
use adamix::model::decoder::targets::lora_targets;
use adamix::model::{LmSource, Network as _};
use adamix::protocol::{Checkpoint, ExportPlan, ExportReport, ExportTarget, MergePlan};
use adamix::tensor::NumberFormat;
use adamix::tensor::gguf::GgufFile;
use adamix::train::{Control, NullObserver};
use adamix::workflow::export::modules::compose;
use adamix::workflow::run;
use adamix::workflow::run::Run;
use adamix::workflow::saved_run::Opened;
use adamix::workflow::{import, runs};
use serde_json::json;
use std::path::Path;

/// All that is made of a language model's LoRA.
const LORA: [ExportTarget; 7] = [
    ExportTarget::Merged,
    ExportTarget::Experts,
    ExportTarget::Peft,
    ExportTarget::PeftExperts,
    ExportTarget::Hf,
    ExportTarget::GgufAdapter,
    ExportTarget::Gguf,
];

/// A place whose model has a tokenizer of the kind that GGUF files hold.
pub fn letters(family: &str) -> TextPlace {
    let place = TextPlace::new(family);
    let byte_level = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true });
    write_tokenizer(&place.path("model"), &byte_level);
    place
}

fn trained(config: &RunConfig) -> Opened {
    let mut run = Run::start(run::prepare(config).unwrap()).unwrap();
    run.go(&mut NullObserver, &Control::default()).unwrap();
    let dir = run.dir().clone();
    drop(run);
    Opened::open(&dir, Checkpoint::Last).unwrap()
}

fn plan(targets: &[ExportTarget], dtype: NumberFormat, merge: MergePlan) -> ExportPlan {
    ExportPlan { targets: targets.to_vec(), dtype, merge, dir: None }
}

#[track_caller]
fn proven(family: &str, reports: &[ExportReport], most: f64) {
    for report in reports {
        let proof = &report.certificate;
        let words = format!("{family} {:?} {:?}: {:?}", report.target, report.dtype, proof.problems);
        println!("{words} {} of {}", proof.probe.max_abs_delta.unwrap(), proof.probe.tolerance);
        assert!(
            proof.passed && proof.probe.rows > 4 && proof.probe.max_abs_delta.unwrap() <= most,
            "{words}: {}",
            proof.probe.max_abs_delta.unwrap()
        );
    }
}

fn refused(opened: &Opened, target: ExportTarget, dtype: NumberFormat, part: &str) {
    let err = opened.export(&plan(&[target], dtype, MergePlan::Uniform)).unwrap_err().to_string();
    assert!(err.contains(part), "{target:?}: {err}");
}

#[test]
fn every_target_is_proven_from_its_files() {
    for family in ["gpt2-tiny", "llama-tiny"] {
        let place = letters(family);
        let mut config = place.config(8);
        config.data.max_length = 32;
        let opened = trained(&config);
        let uniform = opened.export(&plan(&LORA, NumberFormat::F32, MergePlan::Uniform)).unwrap();
        assert_eq!(uniform.iter().map(|report| report.target).collect::<Vec<_>>(), LORA);
        proven(family, &uniform, 1e-4);
        let weighted = MergePlan::Global(vec![0.7, 0.2, 0.1]);
        let other = opened.export(&plan(&LORA, NumberFormat::F32, weighted)).unwrap();
        proven(family, &other, 1e-4);
        for (a, b) in uniform.iter().zip(&other) {
            let experts = [ExportTarget::Experts, ExportTarget::PeftExperts].contains(&a.target);
            let sums = |report: &ExportReport| {
                report.certificate.files.iter().map(|file| file.sha256.clone()).collect::<Vec<_>>()
            };
            assert_eq!(sums(a) == sums(b), experts, "{family} {:?}: the weights of the merge", a.target);
        }
        for dtype in [NumberFormat::F16, NumberFormat::Bf16] {
            proven(family, &opened.export(&plan(&LORA, dtype, MergePlan::Uniform)).unwrap(), 1.0);
        }
        let small = opened.export(&plan(&[ExportTarget::Gguf], NumberFormat::Q8_0, MergePlan::Uniform)).unwrap();
        proven(family, &small, 1.0);
        for (target, dtype, part) in [
            (ExportTarget::AdapterHub, NumberFormat::F32, "is for classifiers"),
            (ExportTarget::Hf, NumberFormat::Q8_0, "q8_0 is for whole models in GGUF"),
            (ExportTarget::Peft, NumberFormat::Q8_0, "q8_0 is for whole models in GGUF"),
        ] {
            refused(&opened, target, dtype, part);
        }
        // The Runs view sees what they are.
        let seen = runs::detail(opened.dir.path()).unwrap().exports;
        for (target, dtype) in LORA.map(|target| (target, NumberFormat::F32)).into_iter().chain([
            (ExportTarget::Gguf, NumberFormat::F16),
            (ExportTarget::Gguf, NumberFormat::Q8_0),
            (ExportTarget::GgufAdapter, NumberFormat::Bf16),
        ]) {
            assert!(seen.iter().any(|report| (report.target, report.dtype) == (target, dtype)), "{target:?} {dtype:?}");
        }
        one_wrong_value_is_named(&opened, &config, uniform.iter().find(|r| r.target == ExportTarget::Hf).unwrap());
    }
}

/// The whole model is checked again after one byte of its file was changed.
fn one_wrong_value_is_named(opened: &Opened, config: &RunConfig, whole: &ExportReport) {
    let (model, _) = opened.subject.language_model().unwrap();
    let merged = model.merged_own().unwrap();
    let modules = compose(&merged.loras(), &lora_targets(&merged.base.spec), None).unwrap();
    let source = LmSource::open(Path::new(&config.model.path)).unwrap();
    let all = exported::merged(&source.weights, BaseKind::Decoder(&source.spec), &modules, &[]).unwrap();
    assert!(hf::certify(&whole.dir, &all, NumberFormat::F32, None).unwrap().passed);
    damage(&whole.dir.join("model.safetensors"));
    let proof = hf::certify(&whole.dir, &all, NumberFormat::F32, None).unwrap();
    let name = all.names().pop().unwrap();
    assert!(!proof.passed && proof.problems.iter().any(|problem| problem.starts_with(&name)), "{:?}", proof.problems);
}

#[test]
fn adapters_stay_with_us() {
    let place = TextPlace::new("qwen3-tiny");
    let mut config = place.config(4);
    (config.mixture.kind, config.mixture.adapter_size) = (MixtureKind::Adapter, 6);
    let opened = trained(&config);
    let ours = [ExportTarget::Merged, ExportTarget::Experts];
    proven("qwen3-tiny", &opened.export(&plan(&ours, NumberFormat::F32, MergePlan::Uniform)).unwrap(), 0.0);
    for target in [ExportTarget::Peft, ExportTarget::Hf, ExportTarget::GgufAdapter, ExportTarget::Gguf] {
        refused(&opened, target, NumberFormat::F32, "choose merged or experts");
    }
    for target in [ExportTarget::Gguf, ExportTarget::GgufAdapter] {
        assert!(target.refusal(Task::Lab, MixtureKind::Lora).unwrap().in_commands().contains("language models"));
    }
}

#[test]
fn a_gguf_file_as_the_base() {
    for family in ["llama-tiny", "qwen2-tiny"] {
        on_gguf(family);
    }
}

fn about(source: &LmSource, dtype: NumberFormat) -> ExportMeta {
    ExportMeta {
        base_model: "tiny".to_owned(),
        model_type: source.spec.family.model_type().to_owned(),
        hidden_size: source.spec.hidden_size,
        mixture: MixtureConfig::default(),
        labels: Vec::new(),
        weights: None,
        recipe: Recipe::uniform(1),
        chat: None,
        dtype,
    }
}

/// Settings of a run on the family's model in a GGUF file of 16 bits.
fn on_file(place: &TextPlace) -> RunConfig {
    let mut config = place.config(8);
    config.data.max_length = 32;
    let source = LmSource::open(&place.path("model")).unwrap();
    let all = exported::merged(&source.weights, BaseKind::Decoder(&source.spec), &[], &[]).unwrap();
    let base = place.path("model");
    let file = GgufModel::new(
        &all,
        &source.spec,
        BaseFiles::Dir(&base),
        &about(&source, NumberFormat::F16),
        NumberFormat::F16,
    )
    .unwrap();
    exported::gguf(&place.path("base"), &file).unwrap();
    config.model.path = place.path("base").join(gguf_model::FILE).display().to_string();
    config
}

fn on_gguf(family: &str) {
    let place = letters(family);
    let mut config = on_file(&place);
    let opened = trained(&config);
    // The tiny Llama's rotary frequencies have constants of their own, which a GGUF file does not name.
    let own = family == "llama-tiny";
    let targets: Vec<_> = LORA.into_iter().filter(|target| !own || *target != ExportTarget::Hf).collect();
    proven(family, &opened.export(&plan(&targets, NumberFormat::F32, MergePlan::Uniform)).unwrap(), 1e-4);
    if own {
        refused(&opened, ExportTarget::Hf, NumberFormat::F32, "export as GGUF instead");
    }
    // Trained in 16 bits, where the sum of weights and LoRA is never formed: the files are compared in 32.
    (config.model.dtype, config.name) = (DtypeChoice::Bf16, "narrow".to_owned());
    let opened = trained(&config);
    let targets = [ExportTarget::Gguf, ExportTarget::GgufAdapter, ExportTarget::Peft];
    let reports = opened.export(&plan(&targets, NumberFormat::F32, MergePlan::Uniform)).unwrap();
    proven(family, &reports, 1e-4);
    one_wrong_byte_is_found(&opened, &reports[0].dir.join(gguf_model::FILE));
}

/// A certificate of a file in which one byte is another than the one written.
fn one_wrong_byte_is_found(opened: &Opened, file: &Path) {
    let (model, _) = opened.subject.language_model().unwrap();
    let modules = compose(&model.merged_own().unwrap().loras(), &lora_targets(&model.base.spec), None).unwrap();
    let source = LmSource::open(Path::new(&opened.config.model.path)).unwrap();
    let all = exported::merged(&source.weights, BaseKind::Decoder(&source.spec), &modules, &[]).unwrap();
    let about = about(&source, NumberFormat::F32);
    let model = GgufModel::new(&all, &source.spec, BaseFiles::Gguf(&source.dir), &about, NumberFormat::F32).unwrap();
    let dir = file.parent().unwrap();
    assert!(gguf_model::certify(dir, &model, NumberFormat::F32, None).unwrap().passed);
    let name = "blk.1.ffn_up.weight";
    damage_at(file, GgufFile::open(file).unwrap().tensors[name].offset as usize + 3);
    let proof = gguf_model::certify(dir, &model, NumberFormat::F32, None).unwrap();
    assert!(!proof.passed && proof.problems.iter().any(|problem| problem.starts_with(name)), "{:?}", proof.problems);
}

#[test]
fn a_plan_with_one_target_that_cannot_be_leaves_nothing_behind() {
    let nothing = |opened: &Opened| {
        assert!(!opened.dir.exports().exists(), "something was written: {}", opened.dir.exports().display());
    };
    // A tokenizer of words has no place in a GGUF file, rotary constants of one's own none in config.json.
    let words = TextPlace::new("gpt2-tiny");
    let opened = trained(&words.config(4));
    let all = [ExportTarget::Merged, ExportTarget::Peft, ExportTarget::Gguf];
    let err = opened.export(&plan(&all, NumberFormat::F32, MergePlan::Uniform)).unwrap_err().to_string();
    assert!(err.contains("exporting gguf") && err.contains("cannot be put into a GGUF file"), "{err}");
    nothing(&opened);
    let file = letters("llama-tiny");
    let own = trained(&on_file(&file));
    let all = [ExportTarget::Peft, ExportTarget::Hf];
    let err = own.export(&plan(&all, NumberFormat::F32, MergePlan::Uniform)).unwrap_err().to_string();
    assert!(err.contains("exporting hf") && err.contains("export as GGUF instead"), "{err}");
    nothing(&own);
    // The second of two places is taken.
    let parent = words.path("out");
    std::fs::create_dir_all(parent.join("peft")).unwrap();
    std::fs::write(parent.join("peft").join("mine"), "mine").unwrap();
    let mut plan = plan(&[ExportTarget::Merged, ExportTarget::Peft], NumberFormat::F32, MergePlan::Uniform);
    plan.dir = Some(parent.clone());
    let err = opened.export(&plan).unwrap_err().to_string();
    assert!(err.contains("exporting peft") && err.contains("not empty"), "{err}");
    assert!(!parent.join("merged").exists());
    plan.targets = vec![ExportTarget::Merged; 2];
    assert_eq!(opened.export(&plan).unwrap().len(), 1, "named twice, written once");
    assert!(parent.join("merged").exists(), "nothing else was in the way");
}

#[test]
fn experts_come_back_as_a_run() {
    for family in ["gpt2-tiny", "llama-tiny"] {
        let place = letters(family);
        let mut config = place.config(8);
        config.data.max_length = 32;
        let opened = trained(&config);
        let reports =
            opened.export(&plan(&[ExportTarget::PeftExperts], NumberFormat::F32, MergePlan::Uniform)).unwrap();
        let experts: Vec<_> = (0..3).map(|expert| reports[0].dir.join(format!("expert_{expert}"))).collect();
        let found = import::look(&experts).unwrap();
        let mut settings = config.clone();
        settings.name = "imported".to_owned();
        let run = import::open_as_run(&settings, &found).unwrap();
        let again = Opened::open(&run, Checkpoint::Last).unwrap();
        assert_eq!((again.weights.step, again.config.mixture.num_experts), (0, 3));
        let (old, new) = (opened.compare(2).unwrap(), again.compare(2).unwrap());
        assert!((old.merged.loss - new.merged.loss).abs() < 1e-5, "{family}: {old:?} {new:?}");
        assert!((old.fixed[2].loss - new.fixed[2].loss).abs() < 1e-5, "{family}");
        let other = TextPlace::new(if family == "gpt2-tiny" { "llama-tiny" } else { "gpt2-tiny" });
        assert!(import::open_as_run(&other.config(4), &found).is_err(), "another family's matrices");
    }
}

#[test]
fn a_run_writes_and_is_scored() {
    let place = TextPlace::new("llama-tiny");
    let mut config = place.config(60);
    config.runs_dir = place.path("runs").display().to_string();
    let opened = trained(&config);
    let ask = |route: &str| {
        let more =
            ["generate", "--run", "runs/test", "--route", route, "--prompt", "red there", "--max-new-tokens", "8"];
        adamix(&place, &more)[0].clone()
    };
    let best = Opened::open(&opened.dir, Checkpoint::Best).unwrap().weights;
    for weights in [best, opened.weights] {
        let choice = weights.checkpoint.unwrap().to_string();
        let more =
            ["generate", "--run", "runs/test", "--checkpoint", &choice, "--prompt", "red", "--max-new-tokens", "1"];
        let done = adamix(&place, &more).pop().unwrap();
        assert_eq!((&done["step"], &done["checkpoint"]), (&weights.step.into(), &choice.into()), "{done}");
    }
    let merged = ask("merged");
    let text = merged["text"].as_str().unwrap();
    assert!(text.trim_start().starts_with("the") && text.trim_end().ends_with("here"), "{text}");
    let dev = opened.subject.language_model().unwrap().1;
    let example =
        dev.dev.encoded.iter().find(|text| dev.encoder.codec.decode(&text.ids).unwrap().contains("red there"));
    let prompt = merged["prompt_ids"].as_array().unwrap();
    let ids: Vec<u64> = prompt.iter().map(|id| id.as_u64().unwrap()).collect();
    let trained: Vec<u64> = example.unwrap().ids[..ids.len()].iter().map(|&id| u64::from(id)).collect();
    assert_eq!(ids, trained, "laid out as in training");
    assert_ne!(ask("base")["text"], merged["text"]);
    for route in ["expert:2", "random", "per-token", "ensemble:2"] {
        assert!(ask(route)["ids"].as_array().unwrap().len() > 1, "{route}");
    }
    let eval = adamix(&place, &["eval", "runs/test", "--generate", "4", "--max-new-tokens", "8"]).pop().unwrap();
    let written = &eval["written"];
    let chrf = |way: usize| written["ways"][way]["scores"]["chrf"].as_f64().unwrap();
    assert_eq!((&written["inputs"], &written["ways"][1]["way"]), (&4.into(), &"merged".into()));
    assert!(chrf(1) > chrf(0) && chrf(1) > 0.3, "{written}");
    assert_eq!(written["ways"].as_array().unwrap().len(), 3);
    let apart = |way: usize| &written["ways"][way]["bleu_minus_merged"];
    assert!(apart(0)["difference"].as_f64().unwrap() < 0.0 && apart(1).is_null(), "{written}");
    assert!(apart(2)["low"].as_f64().unwrap() <= apart(2)["high"].as_f64().unwrap(), "{written}");
    assert_eq!(written["samples"][0]["texts"].as_array().unwrap().len(), 3);
    assert!(eval["report"]["merged"]["perplexity"].as_f64().unwrap() > 1.0);
}
