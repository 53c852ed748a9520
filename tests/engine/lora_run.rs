//! A whole run with a mixture of LoRA in an encoder: training, resuming, what is shown, merging, exports with proof.

use crate::golden::off;
use crate::support::place::Place;
use adamix::artifact::{RunDir, checkpoint};
use adamix::config::{DtypeChoice, LoraInit, Method, MixtureKind, RunConfig, Task};
use adamix::model::ModelSource;
use adamix::protocol::{Checkpoint, ExportPlan, ExportReport, ExportTarget, MergePlan, NumberFormat};
use adamix::train::{Control, ModelAndData, NullObserver};
use adamix::workflow::import;
use adamix::workflow::run;
use adamix::workflow::run::Run;
use adamix::workflow::saved_run::Opened;
use adamix::workflow::snapshot::Banks;

/// The run, trained, and its whole model as a Hugging Face directory.
fn whole_model(config: &RunConfig) -> (Opened, ExportReport) {
    let mut run = Run::start(run::prepare(config).unwrap()).unwrap();
    run.go(&mut NullObserver, &Control::default()).unwrap();
    let dir = run.dir().clone();
    drop(run);
    let opened = Opened::open(&dir, Checkpoint::Last).unwrap();
    let plan =
        ExportPlan { targets: vec![ExportTarget::Hf], dtype: NumberFormat::F32, merge: MergePlan::Uniform, dir: None };
    let report = opened.export(&plan).unwrap().remove(0);
    (opened, report)
}

#[test]
fn the_rounding_of_a_trunk_of_16_bits_is_not_blamed_on_the_whole_model() {
    let place = Place::new();
    let mut config = place.config(8);
    config.model.dtype = DtypeChoice::Bf16;
    (config.mixture.kind, config.mixture.lora_rank) = (MixtureKind::Lora, 2);
    let (_, report) = whole_model(&config);
    let proof = report.certificate;
    assert!(
        proof.passed && proof.probe.max_abs_delta.unwrap() < 1e-5,
        "{}: {:?}",
        proof.probe.max_abs_delta.unwrap(),
        proof.problems
    );
}

#[test]
fn a_whole_model_of_the_bundled_encoder_is_opened_again_and_says_the_same() {
    let place = Place::new();
    let mut config = place.config(4);
    (config.data.task, config.model.path) = (Task::Lab, "lab".to_owned());
    (config.data.train_file, config.data.dev_file) = (String::new(), String::new());
    (config.data.max_eval_rows, config.data.max_length) = (12, 32);
    (config.mixture.kind, config.mixture.lora_rank) = (MixtureKind::Lora, 2);
    config.mixture.lora_target = ["query", "value"].map(str::to_owned).to_vec();
    let (opened, report) = whole_model(&config);
    assert!(report.certificate.passed && report.certificate.probe.rows == 12, "{:?}", report.certificate.problems);
    assert_eq!(std::fs::read_dir(opened.dir.exports()).unwrap().count(), 1, "the model's own files are tidied up");
    // As a stranger opens it: by its path, with nothing of the bundled model at hand.
    let ModelAndData::Classifier(model, task) = &opened.subject else { panic!("no classifier") };
    let rows: Vec<usize> = (0..12).collect();
    let batch = task.dev.batch(&rows);
    let mut bare = config.clone();
    (bare.model.path, bare.model.method) = (report.dir.display().to_string(), Method::HeadOnly);
    let whole = run::model(&bare, &ModelSource::open(&bare.model.path).unwrap(), task).unwrap();
    let want = model.merged_own().unwrap().logits(&batch, None).unwrap();
    let got = whole.logits(&batch, None).unwrap();
    assert!(off(&got, &want) < 1e-5, "off by {}", off(&got, &want));
    let untrained = run::model(&config, &ModelSource::open("lab").unwrap(), task).unwrap().merged_own().unwrap();
    assert!(off(&untrained.logits(&batch, None).unwrap(), &want) > 1e-3, "four steps changed what it says");
    let words = |dir: &std::path::Path| tokenizers::Tokenizer::from_file(dir.join("tokenizer.json")).unwrap();
    let text = "a charming comedy";
    let ids = tokenizers::Tokenizer::from_bytes(adamix::data::lab::TOKENIZER_JSON).unwrap();
    let ids = ids.encode(text, true).unwrap().get_ids().to_vec();
    assert_eq!(words(&report.dir).encode(text, true).unwrap().get_ids(), ids);
}

#[test]
fn a_mixture_of_lora_goes_through_a_whole_run() {
    let place = Place::new();
    let mut config = place.config(24);
    config.mixture.kind = MixtureKind::Lora;
    (config.mixture.lora_rank, config.mixture.lora_init) = (2, LoraInit::Copied);
    config.mixture.lora_target = ["query", "value", "output.dense"].map(str::to_owned).to_vec();
    let prepared = run::prepare(&config).unwrap();
    let start = Banks::of(prepared.subject.model()).unwrap();
    assert_eq!(start, start.at_start(&config), "the start is a function of the settings");
    let names = prepared.subject.model().site_names();
    assert_eq!(names.len(), 8, "{names:?}");
    assert_eq!(names[1], "layers.0.attention.self.value");
    let mut run = Run::start(prepared).unwrap();
    run.go(&mut NullObserver, &Control::default()).unwrap();
    drop(run);

    let dir = RunDir::open(&place.path("runs").join("test")).unwrap();
    let tensors = checkpoint::read(&dir, 24).unwrap().tensors;
    let banks = Banks::of_tensors(&tensors).unwrap();
    assert_eq!((banks.sites.clone(), banks.sides.len()), (names, 16));
    assert_eq!(banks.at_start(&config), start);
    assert_ne!(banks, start, "training moved the experts");

    let opened = Opened::open(&dir, Checkpoint::Last).unwrap();
    let report = opened.compare(2).unwrap();
    println!("{report:?}");
    let plan = |targets: &[ExportTarget], merge: MergePlan| ExportPlan {
        targets: targets.to_vec(),
        dtype: NumberFormat::F32,
        merge,
        dir: None,
    };
    let weighted = MergePlan::Global(vec![0.4, 0.3, 0.2, 0.1]);
    for merge in [MergePlan::Uniform, weighted] {
        let reports = opened.export(&plan(&[ExportTarget::Merged, ExportTarget::Experts], merge)).unwrap();
        for report in reports {
            let proof = &report.certificate;
            assert!(
                proof.passed && proof.probe.max_abs_delta.unwrap() == 0.0,
                "{:?}: {:?}",
                report.target,
                proof.problems
            );
            assert!(proof.tensors.iter().any(|tensor| tensor.name.ends_with("query.lora_a.weight")));
        }
    }
    let targets = [ExportTarget::Peft, ExportTarget::PeftExperts, ExportTarget::Hf];
    for report in opened.export(&plan(&targets, MergePlan::Uniform)).unwrap() {
        let proof = &report.certificate;
        assert!(proof.passed && proof.probe.max_abs_delta.unwrap() < 1e-5, "{:?}: {:?}", report.target, proof.problems);
        let end = if report.target == ExportTarget::Hf { "query.weight" } else { "query.lora_a.weight" };
        assert!(proof.tensors.iter().any(|tensor| tensor.name.ends_with(end)));
        assert!(proof.tensors.iter().any(|tensor| tensor.name.contains("classifier.")), "the head too");
    }
    let err = opened.export(&plan(&[ExportTarget::AdapterHub], MergePlan::Uniform)).unwrap_err().to_string();
    assert!(err.contains("adapterhub: it has no place for LoRA; choose peft"), "{err}");

    // The experts' own directories, as another program might have made them, are a run again.
    let experts: Vec<_> = (0..4).map(|e| dir.exports().join(format!("peft-experts/expert_{e}"))).collect();
    let mut settings = config.clone();
    settings.name = "imported".to_owned();
    let found = import::look(&experts).unwrap();
    let run = import::open_as_run(&settings, &found).unwrap();
    let again = Opened::open(&run, Checkpoint::Last).unwrap();
    assert_eq!((again.weights.step, again.config.mixture.num_experts, again.config.mixture.sharing_up), (0, 4, true));
    let (old, new) = (opened.compare(1).unwrap(), again.compare(1).unwrap());
    assert!((old.merged.loss - new.merged.loss).abs() < 1e-6, "{old:?} {new:?}");
    settings.name.clear();
    settings.mixture.kind = MixtureKind::Adapter;
    let soup = import::look(&[crate::golden::golden_dir("torch/roberta_soup.bin")]).unwrap();
    let err = import::open_as_run(&settings, &soup).unwrap_err().to_string();
    assert!(err.contains("roberta"), "{err}");
}
