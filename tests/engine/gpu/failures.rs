//! A GPU that fails: what a run says, what it leaves, and how it goes on.

use super::runs::{Watch, goes_the_same_way};
use super::step::recording;
use super::support::device;
use crate::support::place::Place;
use crate::support::tiny;
use adamix::artifact::checkpoint;
use adamix::config::{DeviceChoice, ModelConfig, Problem, RunConfig};
use adamix::error::{Error, ErrorKind, Result};
use adamix::gpu::kernels::product::ProductPlan;
use adamix::gpu::{self, Address, Backend, Buffer, Counters, Facts, Launch, Memory};
use adamix::machine::device::{self as devices, Chosen, check_room};
use adamix::model::{Classifier, Encoder, Family, ModelSource, Network as _, Setup};
use adamix::records::{EndReason, StepRecord};
use adamix::rng::SeedStream;
use adamix::tensor::{DType, Device, Gpu, HostTensor};
use adamix::train::checkpoint::{host_tensors, set_tensors};
use adamix::train::step::{StepIndex, step};
use adamix::train::{AdamW, Control, ModelAndData, Observer};
use adamix::workflow::run::{Prepared, Run, prepare};
use parking_lot::Mutex;
use std::sync::Arc;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Failure {
    /// The driver gives no more memory.
    Memory,
    /// The device is gone, and all that it held.
    Lost,
}

#[derive(Debug, Default)]
struct State {
    launches: u64,
    allocations: u64,
    /// After so many more launches, or pieces of memory.
    next: Option<(Failure, u64)>,
    lost: bool,
}

/// A device that fails when it is told to.
#[derive(Debug)]
struct Failing {
    inner: Arc<dyn Backend>,
    state: Mutex<State>,
}

impl Failing {
    fn new(inner: Arc<dyn Backend>) -> (Arc<Self>, Device) {
        let plan = ProductPlan::of(inner.facts());
        let failing = Arc::new(Self { inner, state: Mutex::default() });
        (failing.clone(), Device::Gpu(Gpu::new(77, failing, plan)))
    }

    fn fail_after(&self, failure: Failure, count: u64) {
        self.state.lock().next = Some((failure, count));
    }

    /// Works again, with what it held, which a real one would not.
    fn heal(&self) {
        *self.state.lock() = State::default();
    }

    /// Launches and pieces of memory since it was healed.
    fn counts(&self) -> (u64, u64) {
        let state = self.state.lock();
        (state.launches, state.allocations)
    }

    fn check(&self) -> Result<()> {
        let lost = || Error::new(ErrorKind::Device, format!("{}: the device was lost: a test", self.facts().name));
        if self.state.lock().lost { Err(lost()) } else { Ok(()) }
    }

    /// Whether this call is the one that fails.
    fn due(&self, failure: Failure) -> bool {
        let mut state = self.state.lock();
        match failure {
            Failure::Memory => state.allocations += 1,
            Failure::Lost => state.launches += 1,
        }
        match &mut state.next {
            Some((next, left)) if *next == failure && *left > 0 => {
                *left -= 1;
                false
            }
            Some((next, _)) if *next == failure => {
                state.next = None;
                state.lost = failure == Failure::Lost;
                true
            }
            _ => false,
        }
    }
}

impl Backend for Failing {
    fn facts(&self) -> &Facts {
        self.inner.facts()
    }
    fn allocate(&self, bytes: u64) -> Result<Buffer> {
        self.check()?;
        if self.due(Failure::Memory) {
            let text = format!("{} has no 64 MB of memory left beside the 1024 MB held", self.facts().name);
            return Err(Error::new(ErrorKind::Device, text));
        }
        self.inner.allocate(bytes)
    }
    fn upload(&self, to: Address, bytes: &[u8]) -> Result<()> {
        self.check()?;
        self.inner.upload(to, bytes)
    }
    fn clear(&self, at: Address, bytes: u64) -> Result<()> {
        self.check()?;
        self.inner.clear(at, bytes)
    }
    fn download(&self, parts: &[(Address, u64)]) -> Result<Vec<Vec<u8>>> {
        self.check()?;
        self.inner.download(parts)
    }
    fn launch(&self, launch: &Launch) -> Result<()> {
        self.check()?;
        if self.due(Failure::Lost) {
            return self.check();
        }
        self.inner.launch(launch)
    }
    fn wait(&self) -> Result<()> {
        self.check()?;
        self.inner.wait()
    }
    fn memory(&self) -> Memory {
        self.inner.memory()
    }
    fn counters(&self) -> Counters {
        self.inner.counters()
    }
    fn failure(&self) -> Option<String> {
        self.check().err().map(|err| err.to_string())
    }
}

/// What training may change.
fn everything(model: &Classifier, optimizer: &AdamW) -> (Vec<HostTensor>, Vec<HostTensor>, Vec<Vec<u64>>) {
    let moments = optimizer.moments(model.params()).unwrap();
    (host_tensors(model).unwrap(), moments, optimizer.steps().map(<[u64]>::to_vec).collect())
}

#[test]
fn a_step_that_fails_changes_nothing() {
    let Some(inner) = device() else { return };
    let (failing, device) = Failing::new(inner);
    let config = tiny::config(5);
    let seed = SeedStream::new(5);
    let encoder = Encoder::random(tiny::spec(Family::Roberta), seed, &device).unwrap();
    let setup = Setup { method: config.model.method, mixture: &config.mixture, outputs: 2, seed };
    let model = Classifier::new(encoder, None, &setup, DType::F32).unwrap();
    let task = tiny::task(40, Problem::Classification).train;
    let mut optimizer = AdamW::new(model.params()).unwrap();
    let make = |optimizer: &mut AdamW, index: u64| {
        let rows: Vec<usize> = (0..8).map(|i| (index as usize * 8 + i) % task.len()).collect();
        let at = StepIndex::new(index, 6);
        step(&config, &model, optimizer, at, |_| Ok(task.batch(&rows)))
    };
    (0..2).for_each(|index| drop(make(&mut optimizer, index).unwrap()));
    let before = everything(&model, &optimizer);
    let back = |optimizer: &mut AdamW| {
        set_tensors(&model, &before.0).unwrap();
        optimizer.restore(model.params(), &before.1, &before.2).unwrap();
        failing.heal();
    };
    // The step twice: its tables lie on the device by then.
    let mut counts = (0, 0);
    let mut loss = 0.0;
    for _ in 0..2 {
        back(&mut optimizer);
        loss = make(&mut optimizer, 2).unwrap().loss.total;
        counts = failing.counts();
    }
    let after = everything(&model, &optimizer);
    assert_ne!(after, before);
    let (launches, pieces) = counts;
    println!("a step of {launches} kernels and {pieces} pieces of memory");
    for (failure, all, word) in [(Failure::Lost, launches, "lost"), (Failure::Memory, pieces, "no 64 MB of memory")] {
        for at in [0, 1, all / 4, all / 2, 3 * all / 4, all - 3, all - 2, all - 1] {
            back(&mut optimizer);
            failing.fail_after(failure, at);
            let err = make(&mut optimizer, 2).err().unwrap_or_else(|| panic!("{failure:?} at {at} of {all}"));
            assert_eq!(err.kind(), ErrorKind::Device, "{failure:?} at {at} of {all}: {err}");
            assert!(err.to_string().contains(word), "{err}");
            assert_eq!(device.synchronize().is_err(), failure == Failure::Lost);
            failing.heal();
            assert_eq!(everything(&model, &optimizer), before, "{failure:?} at {at} of {all}");
        }
        // Memory that is there again is all it takes.
        back(&mut optimizer);
        assert_eq!(make(&mut optimizer, 2).unwrap().loss.total, loss);
        assert_eq!(everything(&model, &optimizer), after);
    }
}

/// Fails after a step.
struct Trip {
    watch: Watch,
    failing: Arc<Failing>,
    failure: Failure,
    at: u64,
}

impl Observer for Trip {
    fn on_step(&mut self, step: &StepRecord) {
        self.watch.on_step(step);
        if step.step == self.at {
            self.failing.fail_after(self.failure, 20);
        }
    }
}

fn uninterrupted(config: &RunConfig) -> Vec<StepRecord> {
    let mut watch = Watch::default();
    Run::start(prepare(config).unwrap()).unwrap().go(&mut watch, &Control::default()).unwrap();
    watch.steps
}

#[test]
fn a_run_whose_gpu_fails_goes_on_on_the_cpu() {
    let Some(inner) = device() else { return };
    let place = Place::new();
    let mut config = place.config(8);
    config.train.learning_rate = 5e-3;
    let wanted = uninterrupted(&RunConfig { name: "whole".to_owned(), ..config.clone() });
    for (failure, words) in [
        (Failure::Lost, ["the device was lost", "device cpu"]),
        (Failure::Memory, ["no 64 MB of memory left", "recompute"]),
    ] {
        config.name = format!("{failure:?}");
        let (failing, device) = Failing::new(inner.clone());
        let Prepared { config, subject, warnings } = prepare(&config).unwrap();
        let ModelAndData::Classifier(_, task) = subject else { panic!("no classifier") };
        let source = ModelSource::open(&config.model.path).unwrap();
        let seed = SeedStream::new(config.train.seed);
        let setup = Setup { method: config.model.method, mixture: &config.mixture, outputs: 2, seed };
        let model = Classifier::load(source.spec, &source.weights, &setup, DType::F32, &device).unwrap();
        let subject = ModelAndData::Classifier(model, task);
        let mut run = Run::start(Prepared { config, subject, warnings }).unwrap();
        let mut trip = Trip { watch: Watch::default(), failing, failure, at: 5 };
        let err = run.go(&mut trip, &Control::default()).unwrap_err();
        let (text, dir) = (err.to_string(), run.dir().clone());
        println!("{text}");
        assert_eq!(err.kind(), ErrorKind::Device);
        assert!(words.iter().all(|word| text.contains(word)) && text.contains("checkpoint-4"), "{text}");
        assert_eq!((trip.watch.steps.len(), run.trainer().steps_done()), (5, 5));
        drop(run);
        assert_eq!(checkpoint::list(&dir).unwrap().last(), Some(&4));
        let events = std::fs::read_to_string(dir.events()).unwrap();
        assert!(events.contains("failed: ") && events.contains(words[0]), "{events}");
        // Its settings say cpu.
        let mut resumed = Run::resume(dir.path(), None).unwrap();
        let mut watch = Watch::default();
        let end = resumed.go(&mut watch, &Control::default()).unwrap();
        assert_eq!((end.reason, end.step), (EndReason::Finished, 8));
        let steps: Vec<StepRecord> = trip.watch.steps[..4].iter().chain(&watch.steps).cloned().collect();
        goes_the_same_way(&format!("{failure:?}"), &steps, &wanted);
    }
}

#[test]
fn a_gpu_that_is_not_there_is_refused_with_the_count() {
    let count = gpu::adapters().len();
    let err = gpu::open(999).unwrap_err();
    let said = match count {
        0 => "no GPU and no driver".to_owned(),
        1 => "the computer has one GPU, number 0".to_owned(),
        _ => format!("the computer has {count} GPUs, numbers 0 to {}", count - 1),
    };
    assert_eq!(err.kind(), ErrorKind::Device);
    assert!(err.to_string().contains(&said), "{err}");
    let chosen = devices::choose(&ModelConfig { device: DeviceChoice::Gpu(999), ..ModelConfig::default() });
    let warning = chosen.warning.unwrap();
    assert!(chosen.device.is_cpu() && warning.contains(&said), "{warning}");
}

#[test]
fn a_model_larger_than_the_memory_is_refused_before_it_is_loaded() {
    let place = |memory: Option<u64>, dtype: DType| Chosen { device: recording(memory).1, dtype, warning: None };
    let values = 30_000_000;
    let small = Some(100_000_000);
    let err = check_room(&place(small, DType::F32), values, None).unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Config);
    let text = err.to_string();
    for word in ["120 MB in f32", "has 100 MB free", "a GPU that counts", "dtype f16", "device cpu"] {
        assert!(text.contains(word), "{word:?} is not in: {text}");
    }
    assert!(check_room(&place(small, DType::F16), values, None).is_ok(), "half of it fits");
    assert!(check_room(&place(None, DType::F32), values, None).is_ok(), "a driver that does not tell");
    // What is in use already is not free.
    let chosen = place(small, DType::F16);
    let Device::Gpu(gpu) = &chosen.device else { panic!("no GPU") };
    let held = gpu.empty(20_000_000, DType::F32).unwrap();
    let text = check_room(&chosen, values, None).unwrap_err().to_string();
    assert!(text.contains("60 MB in f16") && text.contains("has 20 MB free") && !text.contains("dtype"), "{text}");
    drop(held);
    assert!(check_room(&chosen, values, None).is_ok());
}
