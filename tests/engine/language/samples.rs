//! What a language model writes while it learns: what is asked and answered, that it disturbs nothing, that it survives
//! every interruption, and that nobody has to wait for it.

use super::commands::adamix;
use crate::independence::Window;
use crate::support::cli;
use crate::support::place::Place;
use crate::support::texts::TextPlace;
use adamix::artifact::recorder::{Line, read_lines, read_samples};
use adamix::artifact::{RunDir, checkpoint};
use adamix::config::{RunConfig, TextFormat, presets};
use adamix::protocol::*;
use adamix::records::{EndReason, EndRecord, SampleRecord, StepRecord};
use adamix::train::{Control, NullObserver, Observer, Trainer};
use adamix::workflow::run;
use adamix::workflow::run::Run;

fn train(config: &RunConfig) -> (RunDir, EndRecord) {
    let mut run = Run::start(run::prepare(config).unwrap()).unwrap();
    let end = run.go(&mut NullObserver, &Control::default()).unwrap();
    (run.dir().clone(), end)
}

/// The samples of a run, without the clock.
fn samples(dir: &RunDir) -> Vec<SampleRecord> {
    let timeless = |record: SampleRecord| SampleRecord { seconds: 0.0, ..record };
    read_samples(&dir.samples(), usize::MAX).unwrap().into_iter().map(timeless).collect()
}

fn steps_of(records: &[SampleRecord]) -> Vec<u64> {
    records.iter().map(|record| record.step).collect()
}

#[test]
fn the_answers_begin_as_the_base_model_s_and_become_the_references() {
    let place = TextPlace::new("llama-tiny");
    let mut config = place.config(160);
    (config.eval.samples, config.eval.sample_tokens) = (4, 6);
    let (dir, _) = train(&config);
    let found = samples(&dir);
    assert_eq!(steps_of(&found), [0, 40, 80, 120, 160], "before the first step, and with every evaluation");
    assert_eq!(found[2].epoch, 80.0 / 12.0);
    let asked = |record: &SampleRecord| {
        record.samples.iter().map(|s| (s.prompt.clone(), s.reference.clone())).collect::<Vec<_>>()
    };
    // 30 texts with 30 different prompts; every seventh or eighth is asked.
    assert_eq!(asked(&found[0])[0], ("red and".to_owned(), "the cat is here".to_owned()));
    assert_eq!(asked(&found[0]).len(), 4);
    assert!(asked(&found[0])[0] != asked(&found[0])[1]);
    assert!(found.iter().all(|record| asked(record) == asked(&found[0])), "the same inputs at every step");
    // LoRA's B starts at zero: both ways are the base model.
    assert!(found[0].samples.iter().all(|s| s.random.as_ref() == Some(&s.merged)));
    assert!(found[0].samples.iter().all(|s| s.merged != s.reference));
    let last = &found[4].samples;
    assert!(last.iter().all(|s| s.merged.starts_with("the ") && s.merged.ends_with("is here")), "{last:?}");
    assert!(last.iter().all(|s| s.random.is_some()));
    assert_ne!(found[0].samples, found[1].samples);
    // Written again from the checkpoint's weights: the merged model of that step, and the comparison's first route.
    let step = checkpoint::list(&dir).unwrap().pop().unwrap();
    let opened = adamix::workflow::saved_run::Opened::open(&dir, Checkpoint::Step(step)).unwrap();
    let again = adamix::train::samples::write(&opened.subject, &opened.config, (step, 0.0), &|| true).unwrap().unwrap();
    assert_eq!(again.samples, *last);
}

#[test]
fn how_often_how_many_and_when_not() {
    let place = TextPlace::new("gpt2-tiny");
    let named = |name: &str, change: fn(&mut RunConfig)| {
        let mut config = place.config(12);
        (config.name, config.eval.sample_tokens) = (name.to_owned(), 3);
        change(&mut config);
        config
    };
    let (dir, _) = train(&named("often", |c| (c.eval.samples, c.eval.sample_steps) = (16, 5)));
    let found = samples(&dir);
    assert_eq!(steps_of(&found), [0, 5, 10, 12], "the last step too");
    assert!(found.iter().all(|record| record.samples.len() == 16));
    let (dir, _) = train(&named("one expert", |c| {
        (c.mixture.num_experts, c.mixture.sharing_up, c.mixture.consistency) = (1, false, false);
    }));
    assert!(samples(&dir).iter().all(|record| record.samples.len() == 3));
    assert!(samples(&dir).iter().flat_map(|record| &record.samples).all(|sample| sample.random.is_none()));
    let (dir, _) = train(&named("none", |c| c.eval.samples = 0));
    assert!(samples(&dir).is_empty() && !dir.samples().exists());
    let classes = Place::new();
    let (dir, _) = train(&classes.config(4));
    assert!(!dir.samples().exists(), "a classifier does not write");
    for (samples, tokens, word) in [(17, 8, "samples is 17"), (1, 0, "sample_tokens is 0"), (1, 257, "257")] {
        let mut config = place.config(12);
        (config.eval.samples, config.eval.sample_tokens) = (samples, tokens);
        assert!(config.validate().unwrap_err().to_string().contains(word));
    }
}

#[test]
fn plain_texts_are_continued() {
    let place = TextPlace::new("llama-tiny");
    let lines = "{\"text\": \"red cat is here and there\"}\n{\"text\": \"blue dog is not there now\"}\n";
    std::fs::write(place.path("plain.jsonl"), lines.repeat(20)).unwrap();
    let mut config = place.config(4);
    config.data.train_file = place.path("plain.jsonl").display().to_string();
    (config.data.dev_file, config.data.dev_fraction) = (String::new(), 0.5);
    config.text.format = TextFormat::Plain;
    let (dir, _) = train(&config);
    let found = samples(&dir);
    assert!(!found[0].samples.is_empty(), "{found:?}");
    for sample in &found[0].samples {
        let whole = format!("{} {}", sample.prompt, sample.reference);
        assert!(lines.contains(&format!("\"{whole}\"")), "a text, given in part: {sample:?}");
        assert!(!sample.prompt.is_empty() && !sample.reference.is_empty());
    }
}

#[test]
fn a_run_makes_the_same_bits_with_samples_and_without() {
    for family in ["llama-tiny", "gpt2-tiny"] {
        let place = TextPlace::new(family);
        let run = |name: &str, samples: usize| {
            let mut config = place.config(12);
            (config.name, config.eval.samples, config.eval.sample_steps) = (name.to_owned(), samples, 1);
            (config.mixture.lora_dropout, config.eval.save_total_limit) = (0.1, 100);
            train(&config)
        };
        let ((with, end_with), (without, end_without)) = (run("with", 5), run("without", 0));
        assert_eq!(samples(&with).len(), 13);
        assert_eq!((&end_with.report, end_with.best), (&end_without.report, end_without.best), "{family}");
        for step in [3, 6, 9, 12] {
            let read = |dir: &RunDir| checkpoint::read(dir, step).unwrap();
            assert!(read(&with) == read(&without), "{family} at {step}: another checkpoint");
        }
        assert_eq!(std::fs::read(with.routes()).unwrap(), std::fs::read(without.routes()).unwrap(), "{family}");
        let told = |dir: &RunDir| -> Vec<String> {
            let timeless = |line: Line| match line {
                Line::Step(step) => Some(format!("{:?}", StepRecord { seconds: 0.0, ..step })),
                Line::Eval(eval) => Some(format!("{} {:?}", eval.step, eval.merged)),
                Line::TensorHealth(health) => Some(format!("{health:?}")),
                _ => None,
            };
            read_lines(&dir.metrics()).unwrap().lines.into_iter().filter_map(timeless).collect()
        };
        assert_eq!(told(&with), told(&without), "{family}");
    }
}

/// Stops a run at the `token`-th token of the samples of a step, or after the step where `token` is absent.
struct StopAt {
    step: u64,
    token: Option<usize>,
    written: usize,
    control: Control,
}

impl StopAt {
    fn new(step: u64, token: Option<usize>) -> (Self, Control) {
        let control = Control::default();
        (Self { step, token, written: 0, control: control.clone() }, control)
    }
}

impl Observer for StopAt {
    fn on_step(&mut self, record: &StepRecord) {
        if record.step == self.step && self.token.is_none() {
            self.control.stop("enough");
        }
    }
    fn on_writing(&mut self, trainer: &Trainer, _paused: bool) {
        if trainer.steps_done() == self.step {
            self.written += 1;
            if Some(self.written) == self.token {
                self.control.stop("enough");
            }
        }
    }
}

#[test]
fn a_stop_is_heard_between_two_tokens_and_an_interruption_leaves_no_trace() {
    let place = TextPlace::new("llama-tiny");
    let named = |name: &str| {
        let mut config = place.config(12);
        (config.eval.eval_steps, config.eval.save_steps, config.eval.sample_steps) = (5, 2, 3);
        (config.name, config.eval.sample_tokens) = (name.to_owned(), 5);
        config
    };
    let (whole, end) = train(&named("whole"));
    assert_eq!(steps_of(&samples(&whole)), [0, 3, 6, 9, 12]);
    // In the middle of the samples, where some are written already, and before any is.
    for (step, token) in [(0, Some(2)), (6, Some(3)), (6, Some(1)), (6, None), (7, None), (12, Some(4))] {
        let config = named(&format!("cut-{step}-{token:?}"));
        let mut first = Run::start(run::prepare(&config).unwrap()).unwrap();
        let (mut watching, control) = StopAt::new(step, token);
        let stopped = first.go(&mut watching, &control).unwrap();
        assert_eq!((&stopped.reason, stopped.step), (&EndReason::Stopped("enough".to_owned()), step));
        assert_eq!(watching.written, token.unwrap_or(0), "it went on writing after it was stopped");
        let dir = first.dir().clone();
        drop(first);
        assert!(steps_of(&samples(&dir)).iter().all(|&at| at < step || (token.is_none() && at <= step)));
        let mut second = Run::resume(dir.path(), None).unwrap();
        let resumed = second.go(&mut NullObserver, &Control::default()).unwrap();
        assert_eq!((&resumed.report, resumed.best), (&end.report, end.best), "{step} {token:?}");
        assert_eq!(samples(&dir), samples(&whole), "{step} {token:?}");
        let last = |dir: &RunDir| checkpoint::read(dir, 12).unwrap();
        assert!(last(&dir) == last(&whole), "{step} {token:?}: another last checkpoint");
    }
}

#[test]
fn samples_that_the_file_has_already_are_not_added_again() {
    let place = TextPlace::new("llama-tiny");
    let mut config = place.config(8);
    (config.eval.save_steps, config.eval.sample_steps) = (4, 1);
    let mut run = Run::start(run::prepare(&config).unwrap()).unwrap();
    let (mut watching, control) = StopAt::new(4, Some(1));
    run.go(&mut watching, &control).unwrap();
    let dir = run.dir().clone();
    drop(run);
    // Killed after the samples of step 4 and more were written, before there was another checkpoint.
    let mut run = Run::resume(dir.path(), None).unwrap();
    let (mut watching, control) = StopAt::new(6, None);
    run.go(&mut watching, &control).unwrap();
    drop(run);
    std::fs::remove_dir_all(dir.checkpoint(6)).unwrap();
    let whole_lines = std::fs::read_to_string(dir.samples()).unwrap();
    assert_eq!(whole_lines.lines().count(), 6, "{whole_lines}");
    std::fs::write(dir.samples(), format!("{whole_lines}{{\"step\": 6, \"epo")).unwrap();
    let mut run = Run::resume(dir.path(), None).unwrap();
    assert_eq!(steps_of(&samples(&dir)), [0, 1, 2, 3, 4], "cut back to the checkpoint");
    run.go(&mut NullObserver, &Control::default()).unwrap();
    assert_eq!(steps_of(&samples(&dir)), [0, 1, 2, 3, 4, 5, 6, 7, 8]);
    // Damaged lines are left out, and few are read where few are wanted.
    let lines = std::fs::read_to_string(dir.samples()).unwrap();
    std::fs::write(dir.samples(), lines.replacen("\"step\":3", "\"step\":no", 1)).unwrap();
    assert_eq!(steps_of(&samples(&dir)), [0, 1, 2, 4, 5, 6, 7, 8]);
    assert_eq!(steps_of(&read_samples(&dir.samples(), 3).unwrap()), [0, 4, 8]);
}

/// Makes one weight NaN while the first samples are written, and puts it right afterwards.
#[derive(Default)]
struct Poison {
    kept: Option<Vec<f32>>,
    problems: Vec<String>,
}

impl Poison {
    fn set(trainer: &Trainer, values: &[f32]) {
        let param = trainer.model().params().find("layers.0.self_attn.q_proj.lora_b.weight").unwrap();
        let new = adamix::tensor::Tensor::from_slice(values, param.value.shape(), param.value.device()).unwrap();
        param.value.slice_set(&new, 0, 0).unwrap();
    }
}

impl Observer for Poison {
    fn on_writing(&mut self, trainer: &Trainer, _paused: bool) {
        if trainer.steps_done() == 0 && self.kept.is_none() {
            let param = trainer.model().params().find("layers.0.self_attn.q_proj.lora_b.weight").unwrap();
            let values: Vec<f32> = param.value.flatten_all().unwrap().to_vec1().unwrap();
            Self::set(trainer, &vec![f32::NAN; values.len()]);
            self.kept = Some(values);
        }
    }
    fn on_boundary(&mut self, trainer: &Trainer, _paused: bool) {
        if let Some(values) = self.kept.as_ref().filter(|_| trainer.steps_done() == 0) {
            Self::set(trainer, values);
        }
    }
    fn on_problem(&mut self, text: &str) {
        self.problems.push(text.to_owned());
    }
}

#[test]
fn a_model_that_cannot_write_still_learns() {
    let place = TextPlace::new("llama-tiny");
    let mut run = Run::start(run::prepare(&place.config(4)).unwrap()).unwrap();
    let mut poison = Poison::default();
    let end = run.go(&mut poison, &Control::default()).unwrap();
    assert_eq!((end.reason, end.step), (EndReason::Finished, 4));
    assert_eq!(poison.problems.len(), 1, "{:?}", poison.problems);
    assert!(poison.problems[0].contains("step 0: no samples") && poison.problems[0].contains("training goes on"));
    assert_eq!(steps_of(&samples(run.dir())), [1, 2, 3, 4]);
    let log = std::fs::read_to_string(run.dir().events()).unwrap();
    assert!(log.contains("no samples"), "{log}");
}

fn sampled(window: &Window) -> Vec<SampleRecord> {
    let record = |event: &Event| if let Event::Sampled(_, record) = event { Some(record.clone()) } else { None };
    window.events().iter().filter_map(record).collect()
}

#[test]
fn a_pause_holds_the_writing_and_a_step_comes_after_it() {
    let (place, mut window) = (TextPlace::new("llama-tiny"), Window::open());
    let mut config = place.config(100_000);
    config.eval.sample_steps = 2;
    let start = window.start(&config);
    window.engine.control(ControlRequest::Pause);
    window.wait("a pause before the first step", |w| w.phase() == RunPhase::Paused);
    assert!(sampled(&window).is_empty(), "it is held before the first token");
    let inspect = window
        .send(Command::Query { subject: Subject::Live, query: ModelQuery::Inspect { site: 1, side: Side::Down } });
    assert!(matches!(window.wait_for(inspect), Ok(Outcome::Experts(_))), "questions are answered meanwhile");
    let pauses = |w: &Window| w.phases().iter().filter(|phase| **phase == RunPhase::Paused).count();
    let steps = |w: &Window| w.steps.iter().map(|bucket| u64::from(bucket.n)).sum::<u64>();
    for (step, written) in [(1, vec![0]), (2, vec![0, 2]), (3, vec![0, 2])] {
        let before = pauses(&window);
        window.engine.control(ControlRequest::Step);
        window.wait("one step", |w| steps(w) == step && pauses(w) > before && w.phase() == RunPhase::Paused);
        assert_eq!(steps_of(&sampled(&window)), written, "after step {step}");
    }
    window.engine.control(ControlRequest::Resume);
    window.wait("more samples", |w| sampled(w).len() > 4);
    window.engine.control(ControlRequest::Stop("enough".to_owned()));
    window.wait_for(start).unwrap();
    let (end, dir, told) = (window.end().unwrap(), window.dir(), sampled(&window));
    assert_eq!(read_samples(&dir.join("samples.jsonl"), usize::MAX).unwrap(), told, "the file and the screen");
    assert_eq!(told.last().unwrap().samples.len(), 3);

    // Stopped while it is held in the middle of nothing but words.
    let mut config = place.config(8);
    config.name = "stopped".to_owned();
    let start = window.start(&config);
    window.engine.control(ControlRequest::Pause);
    window.wait("a pause", |w| w.phase() == RunPhase::Paused);
    window.engine.control(ControlRequest::Stop("at once".to_owned()));
    window.wait_for(start).unwrap();
    let stopped = window.end().unwrap();
    assert_eq!((&stopped.reason, stopped.step), (&EndReason::Stopped("at once".to_owned()), 0));
    assert_eq!(sampled(&window).len(), told.len());

    // Another window goes on with the first run: what was written comes first.
    let mut other = Window::open();
    let run = RunId(7);
    let resume = other.send(Command::ResumeRun { run, dir: dir.clone() });
    other.wait("the start", |w| sampled(w).len() > told.len());
    other.engine.control(ControlRequest::Stop("enough".to_owned()));
    other.wait_for(resume).unwrap();
    assert_eq!(sampled(&other)[..told.len()], told);
    assert!(sampled(&other)[told.len()].step > end.step);
    let open = other.send(Command::OpenRun(dir));
    let Ok(Outcome::Opened(detail)) = other.wait_for(open) else { panic!("no run") };
    assert_eq!(detail.samples, sampled(&other));
}

const TRAIN: &str = "train --model model --task text --train-file train.jsonl --dev-file dev.jsonl --kind lora \
                     --max-length 16 --num-experts 3 --lora-target all-linear --batch-size 8 --max-steps 8 \
                     --eval-steps 4 --learning-rate 2e-2 --random-routes 1 --threads 1 --device cpu --runs-dir runs \
                     --samples 2 --sample-steps 3 --sample-tokens 5";

#[test]
fn programs_and_people_read_them_as_they_come() {
    let place = TextPlace::new("llama-tiny");
    let train: Vec<&str> = TRAIN.split_whitespace().collect();
    let events = adamix(&place, &[&train[..], &["--name", "json"]].concat());
    let told: Vec<_> = events.iter().filter(|event| event["event"] == "samples").collect();
    assert_eq!(told.iter().map(|event| event["step"].as_u64().unwrap()).collect::<Vec<_>>(), [0, 3, 6, 8]);
    for sample in told.iter().flat_map(|event| event["samples"].as_array().unwrap()) {
        for name in ["prompt", "reference", "merged", "random"] {
            assert!(sample[name].is_string(), "{name}: {sample}");
        }
    }
    let people = cli::adamix(&place.path(""), &[&train[..], &["--name", "people"]].concat());
    people.done();
    let text = people.err;
    assert_eq!(text.matches(": asked red and").count(), 4, "{text}");
    for who in ["    merged     ", "    one route  ", "    reference  the cat is here"] {
        assert_eq!(text.matches(who).count(), 4, "{who}: {text}");
    }
}

#[test]
fn the_paper_s_adapters_for_gpt2_learn_and_write() {
    let place = TextPlace::new("gpt2-tiny");
    let mut config = place.config(30);
    let mut paper = config.clone();
    presets::by_name("e2e-gpt2-medium-adapter").unwrap().apply(&mut paper);
    assert_eq!(paper.problems(), Vec::<String>::new());
    config.mixture = paper.mixture;
    let (dir, end) = train(&config);
    let report = end.report.unwrap();
    assert_eq!(report.fixed.len(), 8);
    assert!(report.merged.loss < report.base.unwrap().loss);
    let start = read_lines(&dir.metrics()).unwrap().lines.into_iter().find_map(|line| match line {
        Line::Start { record: start, .. } => Some(start),
        _ => None,
    });
    let start = start.unwrap();
    assert_eq!((start.experts, &start.sites), ([8, 1], &["layers.0.ffn", "layers.1.ffn"].map(str::to_owned).to_vec()));
    let found = samples(&dir);
    assert!(found[0].samples.iter().all(|sample| sample.random.is_some()));
    assert_ne!(found[0].samples, found.last().unwrap().samples);
}
