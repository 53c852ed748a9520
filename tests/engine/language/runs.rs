//! Whole runs: they learn, they leave everything in their directory, and an interruption leaves no trace.

use crate::support::texts::TextPlace;
use adamix::artifact::recorder::{Line, RouteFile, read_lines};
use adamix::artifact::{RunDir, checkpoint};
use adamix::config::{LoraInit, MixtureKind, RoutingPolicy, RunConfig, Task};
use adamix::protocol::{Checkpoint, ExportPlan, ExportTarget, MergePlan, NumberFormat};
use adamix::records::{EndReason, EndRecord, HealthState, StepRecord, TensorHealth};
use adamix::train::{Control, NullObserver, Observer};
use adamix::workflow::run;
use adamix::workflow::run::Run;
use adamix::workflow::saved_run::Opened;
use adamix::workflow::snapshot::Banks;

fn train(config: &RunConfig) -> (Run, EndRecord) {
    let mut run = Run::start(run::prepare(config).unwrap()).unwrap();
    let end = run.go(&mut NullObserver, &Control::default()).unwrap();
    (run, end)
}

/// A model, and how its settings differ from the others'.
type Variation = (&'static str, fn(&mut RunConfig));

/// Every family and kind of mixture that is tested.
fn variations() -> Vec<Variation> {
    vec![
        ("gpt2-tiny", |c| c.mixture.lora_init = LoraInit::Copied),
        ("llama-tiny", |c| (c.text.max_tokens_per_batch, c.train.gradient_accumulation_steps) = (60, 2)),
        ("qwen3-tiny", |c| (c.mixture.kind, c.mixture.adapter_size) = (MixtureKind::Adapter, 6)),
        ("qwen2-tiny", |c| (c.mixture.routing, c.train.label_smoothing) = (RoutingPolicy::PerExample, 0.1)),
        ("gpt2-tiny", |c| (c.mixture.kind, c.mixture.routing) = (MixtureKind::Adapter, RoutingPolicy::PerToken)),
    ]
}

#[test]
fn texts_are_learned_and_the_merged_model_knows_them() {
    for (family, change) in variations() {
        let place = TextPlace::new(family);
        let mut config = place.config(60);
        change(&mut config);
        let (run, end) = train(&config);
        let report = end.report.unwrap();
        let base = report.base.clone().unwrap();
        println!("{family}: {:.3} untrained, {:.3} merged", base.loss, report.merged.loss);
        assert!(report.merged.loss < 0.6 * base.loss, "{family}: {} of {}", report.merged.loss, base.loss);
        if config.mixture.kind == MixtureKind::Lora {
            assert!(report.merged.token_accuracy.unwrap() > 0.5, "{family}: {report:?}");
        }
        assert!((report.merged.perplexity.unwrap() - report.merged.loss.exp()).abs() < 1e-9);
        assert_eq!((report.metric.as_str(), report.higher_is_better, report.majority), ("loss", false, base.loss));
        assert_eq!((report.rows, report.random.len(), report.fixed.len()), (30, 3, 3));
        let (best, value) = end.best.unwrap();
        assert!(best > 0 && value == report.merged.loss, "the report is of the best weights");
        let start = run.trainer().start_record();
        assert_eq!((start.train_rows, start.eval_rows, start.head_parameters), (96, 30, 0));
        assert!(start.merged_parameters > 0 && start.labels.is_empty() && start.metric == "loss");
    }
}

#[test]
fn the_run_directory_holds_everything() {
    let place = TextPlace::new("llama-tiny");
    let config = place.config(12);
    let names = run::prepare(&config).unwrap().subject.model().site_names();
    assert_eq!((names.len(), names[0].as_str()), (14, "layers.0.self_attn.q_proj"));
    train(&config);
    let dir = RunDir::open(&place.path("runs").join("test")).unwrap();
    assert_eq!(dir.config().data.task, Task::Text);
    assert_eq!(dir.config().text.date, "", "only chat templates see the date");
    let lines = read_lines(&dir.metrics()).unwrap().lines;
    let count = |of: fn(&Line) -> bool| lines.iter().filter(|line| of(line)).count();
    assert_eq!(count(|line| matches!(line, Line::Step(_))), 12);
    assert_eq!(count(|line| matches!(line, Line::Eval(eval) if eval.merged.perplexity.is_some())), 4);
    assert_eq!(
        count(|line| matches!(line, Line::End { record: end, .. } if end.report.as_ref().unwrap().base.is_some())),
        1
    );
    assert!(count(|line| matches!(line, Line::TensorHealth(_))) > 0);
    let routes: Vec<_> = RouteFile::open(&dir.routes()).unwrap().map(Result::unwrap).collect();
    assert_eq!((routes.len(), routes[0].route.sites, routes[0].route.passes), (12, 14, 2));
    let board = std::fs::read_dir(dir.path()).unwrap().flatten().map(|entry| entry.path());
    let board = board.filter(|path| path.to_string_lossy().contains("tfevents")).map(std::fs::read);
    let board = String::from_utf8_lossy(&board.last().unwrap().unwrap()).into_owned();
    assert!(board.contains("eval/perplexity") && board.contains("eval/token_accuracy"));

    let data = checkpoint::read(&dir, 12).unwrap();
    let banks = Banks::of_tensors(&data.tensors).unwrap();
    assert_eq!(banks.sites, names);
    let opened = Opened::open(&dir, Checkpoint::Step(12)).unwrap();
    assert_eq!(Banks::of(opened.subject.model()).unwrap(), banks, "a checkpoint is the model");
    assert_ne!(banks.at_start(dir.config()), banks);
}

#[test]
fn merging_measuring_and_other_texts() {
    let place = TextPlace::new("gpt2-tiny");
    let (run, end) = train(&place.config(40));
    let (dir, report) = (run.dir().clone(), end.report.unwrap());
    drop(run);
    let mut opened = Opened::open(&dir, Checkpoint::Best).unwrap();
    assert_eq!(opened.compare(3).unwrap(), report, "measured again from the files");
    assert_eq!(opened.merge(&MergePlan::Uniform).unwrap().scores, report.merged);
    for expert in 0..3 {
        let mut weights = vec![0.0; 3];
        weights[expert] = 1.0;
        let alone = opened.merge(&MergePlan::Global(weights)).unwrap().scores;
        assert!((alone.loss - report.fixed[expert].loss).abs() < 1e-5, "{alone:?} {:?}", report.fixed[expert]);
    }
    let wrong = opened.merge(&MergePlan::Global(vec![1.0, 1.0])).unwrap_err().to_string();
    assert!(wrong.contains("2 merge weights for 3 experts"), "{wrong}");
    let plan = ExportPlan {
        targets: vec![ExportTarget::AdapterHub],
        dtype: NumberFormat::F32,
        merge: MergePlan::Uniform,
        dir: None,
    };
    assert!(opened.export(&plan).is_err(), "AdapterHub has no place for a language model's LoRA");
    std::fs::write(place.path("other.jsonl"), "{\"prompt\": \"red now\", \"completion\": \"the mouse is not here\"}\n")
        .unwrap();
    opened.measure_on(&place.path("other.jsonl")).unwrap();
    let other = opened.compare(2).unwrap();
    assert_eq!((other.rows, other.random.len()), (1, 2));
    assert!(other.merged.loss > report.merged.loss, "texts that say something else");
}

/// Stops a run after a step.
struct StopAt(u64, Control);

impl Observer for StopAt {
    fn on_step(&mut self, record: &StepRecord) {
        if record.step == self.0 {
            self.1.stop("enough");
        }
    }
}

#[test]
fn a_resumed_run_makes_the_same_bits_as_one_that_was_never_interrupted() {
    for (family, change) in variations() {
        let place = TextPlace::new(family);
        let named = |name: &str| {
            let mut config = place.config(12);
            change(&mut config);
            // Less than a step between evaluations, and between checkpoints.
            (config.eval.eval_steps, config.eval.save_steps, config.name) = (5, 2, name.to_owned());
            config.train.warmup_ratio = 0.2;
            config
        };
        let (whole, end) = train(&named("whole"));
        for at in [4, 11] {
            let config = named(&format!("cut-{at}"));
            let mut first = Run::start(run::prepare(&config).unwrap()).unwrap();
            let control = Control::default();
            let stopped = first.go(&mut StopAt(at, control.clone()), &control).unwrap();
            assert_eq!((&stopped.reason, stopped.step), (&EndReason::Stopped("enough".to_owned()), at));
            let dir = first.dir().clone();
            drop(first);
            let mut second = Run::resume(dir.path(), None).unwrap();
            assert_eq!(second.trainer().steps_done(), at);
            let resumed = second.go(&mut NullObserver, &Control::default()).unwrap();
            assert_eq!((&resumed.report, resumed.best), (&end.report, end.best), "{family} at {at}");
            let last = |dir: &RunDir| checkpoint::read(dir, 12).unwrap();
            assert_eq!(last(&dir), last(whole.dir()), "{family} at {at}: the last checkpoint");
            assert_eq!(
                std::fs::read(dir.routes()).unwrap(),
                std::fs::read(whole.dir().routes()).unwrap(),
                "{family} at {at}: routes"
            );
            let steps = |dir: &RunDir| -> Vec<StepRecord> {
                let lines = read_lines(&dir.metrics()).unwrap().lines.into_iter();
                lines
                    .filter_map(|line| {
                        if let Line::Step(step) = line { Some(StepRecord { seconds: 0.0, ..step }) } else { None }
                    })
                    .collect()
            };
            assert_eq!(steps(&dir), steps(whole.dir()), "{family} at {at}: steps");
        }
    }
}

#[test]
fn the_day_a_chat_template_sees_stays_that_of_the_start() {
    let place = TextPlace::new("llama-tiny");
    let template = "{{ strftime_now('%Y') }} {% for m in messages %}{{ m['content'] }} </s>{% endfor %}";
    std::fs::write(place.path("model").join("chat_template.jinja"), template).unwrap();
    let mut config = place.config(2);
    config.text.template = "model".to_owned();
    let prepared = run::prepare(&config).unwrap();
    let date = prepared.config.text.date.clone();
    assert_eq!(prepared.config.text.parsed_date().map(|date| date.year() > 2000), Some(true), "{date}");
    let run = Run::start(prepared).unwrap();
    assert_eq!(run.dir().config().text.date, date);
    config.text.date = "2020-02-29".to_owned();
    assert_eq!(run::prepare(&config).unwrap().config.text.date, "2020-02-29", "as asked for");
}

/// Keeps the gradient-health verdicts.
#[derive(Default)]
struct GradientHealth(Vec<TensorHealth>);

impl Observer for GradientHealth {
    fn on_gradient_health(&mut self, gradient_health: &[TensorHealth]) {
        self.0.extend_from_slice(gradient_health);
    }
}

#[test]
fn no_lamp_calls_a_lora_dead_that_learns() {
    let place = TextPlace::new("llama-tiny");
    let mut run = Run::start(run::prepare(&place.config(12)).unwrap()).unwrap();
    let mut gradient_health = GradientHealth::default();
    run.go(&mut gradient_health, &Control::default()).unwrap();
    let at = |step: u64, side: &'static str| {
        gradient_health.0.iter().filter(move |health| health.step == step && health.tensor.contains(side))
    };
    // B starts at zero, so that A gets no gradient in the first step; this is how LoRA begins, and not a fault.
    assert!(at(1, "lora_a").count() > 0 && at(1, "lora_a").all(|health| health.state == HealthState::NotDrawn));
    assert!(at(1, "lora_b").all(|health| health.state == HealthState::Learning));
    assert!(at(10, "lora").all(|health| health.state != HealthState::Dead), "{:?}", gradient_health.0);
    assert!(at(10, "lora_a").any(|health| health.state == HealthState::Learning));
}
