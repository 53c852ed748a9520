//! Whole runs on a GPU: changed between devices, resumed to the bit, merged, exported with proof.

use super::training::gpu;
use crate::support::cli::adamix;
use crate::support::place::Place;
use crate::support::texts::TextPlace;
use crate::support::{assert_close, fill, tiny};
use adamix::artifact::certificate::verify;
use adamix::artifact::{RunDir, checkpoint};
use adamix::config::{DeviceChoice, MixtureKind, Problem, RunConfig};
use adamix::mixture::Route;
use adamix::model::{Classifier, Encoder, Family, Network as _, Setup};
use adamix::protocol::{Checkpoint, ExportPlan, ExportTarget, MergePlan, NumberFormat};
use adamix::records::{EndReason, EndRecord, StepRecord};
use adamix::rng::SeedStream;
use adamix::tensor::{DType, Device, Tensor};
use adamix::train::checkpoint::{host_tensors, set_tensors};
use adamix::train::{Control, Observer};
use adamix::workflow::run::{Run, prepare};
use adamix::workflow::saved_run::Opened;
use std::path::Path;

/// Remembers the steps, and stops the run after some of them.
#[derive(Default)]
pub struct Watch {
    pub steps: Vec<StepRecord>,
    stop_after: Option<u64>,
    control: Control,
}

impl Observer for Watch {
    fn on_step(&mut self, step: &StepRecord) {
        self.steps.push(step.clone());
        if self.stop_after == Some(step.step) {
            self.control.stop("enough");
        }
    }
}

fn go(mut run: Run, stop_after: Option<u64>) -> (RunDir, Vec<StepRecord>, EndRecord) {
    assert!(!run.warnings().iter().any(|warning| warning.contains("computing on the CPU")), "{:?}", run.warnings());
    let mut watch = Watch { stop_after, ..Watch::default() };
    let control = watch.control.clone();
    let end = run.go(&mut watch, &control).unwrap();
    (run.dir().clone(), watch.steps, end)
}

/// A run on one device to its end, or up to a step on one and from there on another.
fn train(
    config: &RunConfig,
    name: &str,
    devices: &[DeviceChoice],
    change: u64,
) -> (RunDir, Vec<StepRecord>, EndRecord) {
    let mut config = config.clone();
    (config.name, config.model.device) = (name.to_owned(), devices[0]);
    let start = Run::start(prepare(&config).unwrap()).unwrap();
    let Some(&second) = devices.get(1) else { return go(start, None) };
    let (dir, mut steps, end) = go(start, Some(change));
    assert_eq!((end.reason, end.step), (EndReason::Stopped("enough".to_owned()), change));
    let resumed = Run::resume(dir.path(), Some(second)).unwrap();
    // Whoever goes on elsewhere is told.
    let moved = resumed.warnings().iter().filter(|warning| warning.contains("goes on on")).count();
    assert_eq!(moved, usize::from(devices[0] != second), "{:?}", resumed.warnings());
    let (dir, more, end) = go(resumed, None);
    assert_eq!(more.first().unwrap().step, change + 1, "it goes on where it stopped");
    steps.extend(more);
    (dir, steps, end)
}

#[track_caller]
pub fn goes_the_same_way(what: &str, steps: &[StepRecord], wanted: &[StepRecord]) {
    assert_eq!(steps.len(), wanted.len(), "{what}");
    for (got, want) in steps.iter().zip(wanted) {
        assert_eq!((got.step, &got.routes, got.tokens), (want.step, &want.routes, want.tokens), "{what}");
        let apart = (got.loss - want.loss).abs() / want.loss.abs().max(0.1);
        assert!(apart < 1e-4, "{what}, step {}: loss {}, uninterrupted on the CPU {}", got.step, got.loss, want.loss);
        let apart = (got.grad_norm - want.grad_norm).abs() / want.grad_norm.max(1e-3);
        assert!(apart < 1e-3, "{what}, step {}: norm {} {}", got.step, got.grad_norm, want.grad_norm);
    }
}

/// Every bit a run leaves in its last checkpoint.
fn bits(dir: &RunDir) -> Vec<(String, Vec<u32>)> {
    let data = checkpoint::latest_valid(dir).unwrap().unwrap().data;
    let all = data.tensors.iter().chain(&data.optimizer);
    all.map(|t| (t.name.clone(), t.data.iter().map(|v| v.to_bits()).collect())).collect()
}

fn check_moves(config: &RunConfig, gpu: DeviceChoice) -> RunDir {
    let cpu = DeviceChoice::Cpu;
    let (_, wanted, end) = train(config, "cpu", &[cpu], 0);
    let (to_gpu, steps, moved) = train(config, "cpu-gpu", &[cpu, gpu], 3);
    goes_the_same_way("from the CPU to the GPU", &steps, &wanted);
    let (_, steps, back) = train(config, "gpu-cpu", &[gpu, cpu], 3);
    goes_the_same_way("from the GPU to the CPU", &steps, &wanted);
    for other in [&moved, &back] {
        assert_eq!((&other.reason, other.step), (&end.reason, end.step));
        let (got, want) = (other.report.as_ref().unwrap(), end.report.as_ref().unwrap());
        assert!((got.merged.loss - want.merged.loss).abs() < 1e-3 * want.merged.loss, "{got:?} {want:?}");
    }
    // On one GPU alone: to the bit.
    let (whole, steps, end) = train(config, "gpu", &[gpu], 0);
    goes_the_same_way("on the GPU", &steps, &wanted);
    let (parts, resumed, ended) = train(config, "gpu-gpu", &[gpu, gpu], 3);
    let timeless = |steps: &[StepRecord]| -> Vec<StepRecord> {
        steps.iter().map(|step| StepRecord { seconds: 0.0, ..step.clone() }).collect()
    };
    assert_eq!(timeless(&resumed), timeless(&steps));
    assert_eq!(bits(&parts), bits(&whole));
    assert_eq!((ended.report, ended.best), (end.report, end.best));
    assert_ne!(bits(&to_gpu), bits(&whole), "the comparison can tell devices apart");
    whole
}

/// The proof of exports passes, and finds a file that is changed afterwards.
fn check_exports(dir: &RunDir, targets: &[ExportTarget]) {
    let opened = Opened::open(dir, Checkpoint::Last).unwrap();
    assert!(opened.subject.model().device().is_gpu());
    let plan = ExportPlan { targets: targets.to_vec(), dtype: NumberFormat::F32, merge: MergePlan::Uniform, dir: None };
    let reports = opened.export(&plan).unwrap();
    assert_eq!(reports.len(), targets.len());
    for report in &reports {
        let (target, proof) = (report.target, &report.certificate);
        let delta = proof.probe.max_abs_delta.unwrap();
        assert!(proof.passed && delta < 1e-4, "{target:?}: off by {delta}: {:?}", proof.problems);
        let (certificate, problems) = verify(&report.dir).unwrap();
        assert!(certificate.passed && problems.is_empty(), "{target:?}: {problems:?}");
    }
    let file = std::fs::read_dir(&reports[0].dir).unwrap().map(|entry| entry.unwrap().path());
    let file = file.into_iter().find(|path| path.extension().is_some_and(|end| end == "safetensors")).unwrap();
    let mut bytes = std::fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&file, bytes).unwrap();
    assert!(!verify(&reports[0].dir).unwrap().1.is_empty(), "a changed file is found");
}

#[test]
fn a_run_of_a_classifier_moves_between_devices() {
    let Some(Device::Gpu(gpu)) = gpu() else { return };
    let place = Place::new();
    let mut config = place.config(6);
    (config.eval.eval_steps, config.train.learning_rate) = (3, 5e-3);
    let dir = check_moves(&config, DeviceChoice::Gpu(gpu.index()));
    check_exports(&dir, &[ExportTarget::Merged, ExportTarget::Experts, ExportTarget::AdapterHub]);
}

#[test]
fn a_run_of_a_language_model_moves_between_devices() {
    let Some(Device::Gpu(gpu)) = gpu() else { return };
    let place = TextPlace::new("qwen3-tiny");
    let mut config = place.config(6);
    (config.eval.eval_steps, config.train.learning_rate) = (3, 5e-3);
    (config.eval.random_routes, config.eval.samples) = (2, 1);
    let dir = check_moves(&config, DeviceChoice::Gpu(gpu.index()));
    check_exports(&dir, &[ExportTarget::Merged, ExportTarget::Peft, ExportTarget::Hf]);
}

#[test]
fn the_command_line_goes_on_where_it_is_told() {
    let Some(Device::Gpu(gpu)) = gpu() else { return };
    let place = Place::new();
    let mut config = place.config(4);
    (config.eval.eval_steps, config.train.learning_rate) = (2, 5e-3);
    let cpu = DeviceChoice::Cpu;
    let (whole, mut wanted, _) = train(&config, "whole", &[cpu], 0);
    wanted.iter_mut().for_each(|step| step.routes.clear()); // They are in a file of their own.
    (config.name, config.model.device) = ("parts".to_owned(), cpu);
    let (dir, ..) = go(Run::start(prepare(&config).unwrap()).unwrap(), Some(2));
    let device = format!("gpu:{}", gpu.index());
    let home = tempfile::tempdir().unwrap();
    let ran = adamix(home.path(), &["resume", dir.path().to_str().unwrap(), "--device", &device, "--json"]);
    let lines = ran.json();
    let says = |line: &&serde_json::Value| line["value"].as_str().is_some_and(|text| text.contains("goes on on"));
    assert!(lines.iter().filter(|line| line["event"] == "warning").any(|line| says(&line)), "{lines:?}");
    assert_eq!(lines.last().unwrap()["steps"], 4);
    let steps = read_steps(dir.path());
    goes_the_same_way("resumed by command", &steps, &wanted);
    let [got, want] = [&dir, &whole].map(|dir| std::fs::read(dir.path().join("routes.bin")).unwrap());
    assert_eq!(got, want);
    let place = |step: u64| {
        let state = std::fs::read(dir.path().join(format!("checkpoint-{step}/state.json"))).unwrap();
        let state: serde_json::Value = serde_json::from_slice(&state).unwrap();
        state["place"]["device"].clone()
    };
    assert_eq!((place(2), place(4)), ("cpu".into(), device.into()));
}

fn read_steps(run: &Path) -> Vec<StepRecord> {
    let lines = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let lines = lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    lines.filter(|line| line["event"] == "step").map(|line| serde_json::from_value(line).unwrap()).collect()
}

/// A classifier with random experts on a device: the same values on each.
fn classifier(config: &RunConfig, device: &Device) -> Classifier {
    let seed = SeedStream::new(config.train.seed);
    let wanted = tiny::classifier(config, Family::Roberta, 3);
    fill(wanted.params(), 0.4);
    let encoder = Encoder::random(tiny::spec(Family::Roberta), seed, device).unwrap();
    let setup = Setup { method: config.model.method, mixture: &config.mixture, outputs: 3, seed };
    let model = Classifier::new(encoder, None, &setup, DType::F32).unwrap();
    set_tensors(&model, &host_tensors(&wanted).unwrap()).unwrap();
    model
}

fn settings(kind: MixtureKind) -> RunConfig {
    let mut config = tiny::config(5);
    config.mixture.kind = kind;
    (config.mixture.lora_rank, config.mixture.lora_alpha, config.mixture.sharing_up) = (2, 3.0, false);
    config.mixture.lora_target = ["query", "value", "output.dense"].map(str::to_owned).to_vec();
    config
}

/// All experts of every bank become the first one.
fn all_as_the_first(model: &Classifier) {
    let mut tensors = host_tensors(model).unwrap();
    for (param, tensor) in model.params().iter().zip(&mut tensors).filter(|(param, _)| param.bank) {
        let first = tensor.data[..tensor.data.len() / param.experts].to_vec();
        tensor.data = first.repeat(param.experts);
    }
    set_tensors(model, &tensors).unwrap();
}

#[test]
fn merging_on_the_gpu_is_merging() {
    let Some(gpu) = gpu() else { return };
    let batch = tiny::task(20, Problem::Classification).train.batch(&[0, 3, 5, 9, 11]);
    for kind in [MixtureKind::Adapter, MixtureKind::Lora] {
        let config = settings(kind);
        let [cpu, model] = [&Device::Cpu, &gpu].map(|device| classifier(&config, device));
        let merged = |model: &Classifier| model.merged_own().unwrap().logits(&batch, None).unwrap();
        let (want, got) = (merged(&cpu), merged(&model));
        assert_close(&format!("{kind:?}: merged"), &got, &want, 1e-4, 1e-5);
        let apart = |a: &[f32], b: &[f32]| a.iter().zip(b).fold(0.0f32, |most, (a, b)| most.max((a - b).abs()));
        // Another expert is another model.
        let mut tensors = host_tensors(&model).unwrap();
        for (_, tensor) in model.params().iter().zip(&mut tensors).filter(|(param, _)| param.bank) {
            let one = tensor.data.len() / config.mixture.num_experts;
            tensor.data[one..2 * one].iter_mut().for_each(|value| *value += 0.5);
        }
        set_tensors(&model, &tensors).unwrap();
        assert!(apart(&merged(&model), &want) > 1e-3, "{kind:?}: a changed expert");
        // With all experts the same, every route is the merged model; with others none is.
        let sites = model.sites().len();
        let route = |expert: usize| Route::fixed(&config.mixture, sites, expert);
        let routed = |expert: usize| model.logits(&batch, Some(&route(expert))).unwrap();
        assert!(apart(&routed(1), &merged(&model)) > 1e-3, "{kind:?}: one of several experts");
        all_as_the_first(&model);
        for expert in [0, 3] {
            assert_close(&format!("{kind:?}: the same experts"), &routed(expert), &merged(&model), 1e-5, 1e-5);
        }
        // One expert for all.
        let mut config = config;
        config.mixture.num_experts = 1;
        let model = classifier(&config, &gpu);
        let only = Route::fixed(&config.mixture, sites, 0);
        let (got, want) = (model.logits(&batch, Some(&only)).unwrap(), merged(&model));
        assert_close(&format!("{kind:?}: a single expert"), &got, &want, 1e-5, 1e-5);
    }
}

#[test]
fn tensors_of_two_devices_do_not_meet() {
    let Some(gpu) = gpu() else { return };
    let here = Tensor::new(&[1.0f32, 2.0], &Device::Cpu).unwrap();
    let there = here.to_device(&gpu).unwrap();
    assert!((&here + &there).is_err() && here.slice_set(&there, 0, 0).is_err());
}
