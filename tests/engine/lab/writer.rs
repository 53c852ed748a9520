//! The bundled writing model: its files, its preset, and that it learns.

use adamix::artifact::export::gguf_model;
use adamix::config::{RunConfig, Task, WRITER_LAB, presets};
use adamix::eval::compare;
use adamix::eval::generate::{GenerateOptions, Hooks};
use adamix::model::{LmSource, Network as _};
use adamix::protocol::{Checkpoint, ExportPlan, ExportTarget, MergePlan, NumberFormat};
use adamix::tensor::{DType, Device};
use adamix::train::step::StepIndex;
use adamix::train::{AdamW, Control, ModelAndData, NullObserver};
use adamix::workflow::generate::TextGenerator;
use adamix::workflow::run;
use adamix::workflow::run::{Prepared, Run};
use adamix::workflow::saved_run::Opened;
use sha2::{Digest as _, Sha256};
use std::path::Path;

#[path = "../../../examples/make_writer/bpe.rs"]
mod bpe;
#[path = "../../../examples/pretraining/pairs.rs"]
mod pairs;

use super::text;

fn asset(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/writer").join(name)).unwrap()
}

fn settings() -> RunConfig {
    let mut config = RunConfig::default();
    presets::writer_lab().apply(&mut config);
    config
}

#[test]
fn the_model_loads_and_is_as_small_as_stated() {
    assert!(asset("model.safetensors").len() <= 4_000_000, "weights of at most 4 MB");
    let source = LmSource::open(Path::new(WRITER_LAB)).unwrap();
    let spec = &source.spec;
    assert_eq!((spec.num_layers, spec.hidden_size, spec.num_heads, spec.num_kv_heads), (4, 160, 4, 2));
    assert_eq!((spec.vocab_size, spec.max_length(), spec.tied), (4096, 256, true));
    let table = source.weights.get("embed_tokens.weight", &[4096, 160], DType::F32, &Device::Cpu).unwrap();
    let square = table
        .sqr()
        .unwrap()
        .mean_keepdim((0, 1))
        .unwrap()
        .flatten_all()
        .unwrap()
        .get(0)
        .unwrap()
        .to_scalar::<f32>()
        .unwrap();
    assert!(square.sqrt() > 0.03, "trained, not the N(0, 0.02) it started from: {}", square.sqrt());
    let note = String::from_utf8(asset("PROVENANCE.md")).unwrap();
    for (name, note) in [
        ("model.safetensors", &note),
        ("tokenizer.json", &note),
        ("train.csv", &String::from_utf8(asset("DATA.md")).unwrap()),
        ("dev.csv", &String::from_utf8(asset("DATA.md")).unwrap()),
    ] {
        let hash: String = Sha256::digest(asset(name)).iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(note.contains(&hash), "{name} has SHA-256 {hash}");
    }
}

#[test]
fn its_tokenizer_spells_everything() {
    let codec = adamix::data::text::TextCodec::writer_lab().unwrap();
    assert_eq!((codec.specials.bos, codec.specials.eos, codec.max_id()), (Some(0), Some(0), 4095));
    for text in ["The Vaults is a £20-25 pub near Café Adriatic.", "\u{1f600}  tabs\tand\nlines"] {
        let ids = codec.encode(text).unwrap();
        assert_eq!(codec.decode(&ids).unwrap(), text);
    }
    assert!(codec.encode(" the restaurant is cheap").unwrap().len() <= 8, "frequent words are few pieces");
}

#[test]
fn a_vocabulary_is_learned_from_the_most_frequent_pairs() {
    let words = ["low", "low", "low", "lower", "newest", "newest", "newest", "newest"].join(" ");
    let sentences = vec![words; 4];
    let documents = [text::Document { sentences, culture: false }];
    let vocabulary = bpe::learn(&documents.iter().collect::<Vec<_>>(), 262).unwrap();
    let json: serde_json::Value = serde_json::from_str(&bpe::tokenizer_json(&vocabulary).unwrap()).unwrap();
    let merges = json["model"]["merges"].as_array().unwrap();
    assert_eq!(merges.len(), 262 - 257, "one for each piece beyond the bytes and the end");
    let tokenizer = tokenizers::Tokenizer::from_bytes(json.to_string()).unwrap();
    let tokens = tokenizer.encode("newest low", false).unwrap().get_tokens().len();
    assert!(tokens < "newest low".len() - 3, "{tokens} tokens");
}

#[test]
fn its_preset_learns_to_write_about_restaurants() {
    let mut config = settings();
    assert_eq!((config.data.task, config.model.path.as_str()), (Task::Text, WRITER_LAB));
    // A debug build: few steps on short batches.
    config.train.max_steps = 6;
    config.train.batch_size = 2;
    config.train.learning_rate = 1e-2;
    config.train.warmup_ratio = 0.0;
    config.data.max_eval_rows = 4;
    let Prepared { subject, warnings, .. } = run::prepare(&config).unwrap();
    let ModelAndData::Lm(model, data) = &subject else { panic!("not a language model") };
    assert_eq!((data.train.len(), warnings.len()), (1400, 0));
    assert!(data.train.encoded.iter().all(|text| text.cut == 0), "every text fits whole");
    let options = subject.options(&config, &|_| true);
    let before = compare::evaluate(&model.bare(), &data.dev, None, &options).unwrap().loss;
    let mut optimizer = AdamW::new(model.params()).unwrap();
    let mut order = subject.order(&config);
    for step in 0..config.train.max_steps {
        subject.step(&config, &mut optimizer, StepIndex::new(step, config.train.max_steps), &mut order).unwrap();
    }
    let after = compare::evaluate(&model.merged_own().unwrap(), &data.dev, None, &options).unwrap().loss;
    assert!(after < before - 0.1, "the dev loss went from {before} to {after}");
}

#[test]
fn all_its_inputs_have_their_references() {
    let Prepared { subject, .. } = run::prepare(&settings()).unwrap();
    let (_, data) = subject.language_model().unwrap();
    assert_eq!((data.inputs.len(), data.dev.len()), (80, 698));
    assert_eq!(data.inputs.iter().map(|group| group.references.len()).sum::<usize>(), 698);
}

#[test]
fn its_whole_models_are_opened_again_and_write_the_same() {
    let place = tempfile::tempdir().unwrap();
    let mut config = settings();
    config.runs_dir = place.path().display().to_string();
    (config.train.max_steps, config.train.batch_size, config.data.max_eval_rows) = (3, 2, 4);
    (config.train.learning_rate, config.train.warmup_ratio) = (1e-2, 0.0);
    (config.eval.samples, config.eval.random_routes) = (0, 1);
    let mut run = Run::start(run::prepare(&config).unwrap()).unwrap();
    run.go(&mut NullObserver, &Control::default()).unwrap();
    let dir = run.dir().clone();
    drop(run);
    let opened = Opened::open(&dir, Checkpoint::Last).unwrap();
    let plan = |targets: &[ExportTarget], dtype| ExportPlan {
        targets: targets.to_vec(),
        dtype,
        merge: MergePlan::Uniform,
        dir: None,
    };
    let mut reports = opened.export(&plan(&[ExportTarget::Hf, ExportTarget::Gguf], NumberFormat::F32)).unwrap();
    reports.extend(opened.export(&plan(&[ExportTarget::Gguf], NumberFormat::Q8_0)).unwrap());
    assert!(reports.iter().all(|report| report.certificate.passed));

    let (model, data) = opened.subject.language_model().unwrap();
    let merged = TextGenerator::new(model.merged_own().unwrap(), data.encoder.codec.clone(), String::new()).unwrap();
    let question = "name[The Mill], food[French], area[riverside]";
    let prompt = merged.prompt(Some(&data.encoder), (false, None), question).unwrap();
    let text = |generator: &TextGenerator| {
        let hooks = &mut Hooks { go_on: &|_| true, tell: &mut |_| {} };
        let options = GenerateOptions::greedy(12, &generator.stops());
        generator.write(std::slice::from_ref(&prompt), &options, hooks).unwrap().remove(0).text
    };
    let want = text(&merged);
    assert!(!want.trim().is_empty());
    let base = TextGenerator::new(model.bare(), data.encoder.codec.clone(), String::new()).unwrap();
    assert_ne!(text(&base), want, "three steps changed what it writes");
    for report in &reports {
        let path = match report.target {
            ExportTarget::Gguf => report.dir.join(gguf_model::FILE),
            _ => report.dir.clone(),
        };
        let other = TextGenerator::open(&path, &config.model).unwrap();
        let sentence = "The Mill is a French restaurant at the riverside.";
        assert_eq!(
            other.codec.encode(sentence).unwrap(),
            merged.codec.encode(sentence).unwrap(),
            "{:?}",
            report.target
        );
        if report.dtype == NumberFormat::F32 {
            assert_eq!(text(&other), want, "{:?}", report.target);
        } else {
            assert!(!text(&other).trim().is_empty());
        }
    }
}
