//! One text before a trained classifier: the same numbers as an evaluation gives, and as separate forwards give.

use crate::support::cli::adamix;
use crate::support::place::Place;
use adamix::config::{MixtureKind, Problem, RunConfig};
use adamix::data::{Dataset, TextTokenizer};
use adamix::eval::compare::random_route;
use adamix::mixture::Route;
use adamix::model::{Classifier, Network as _};
use adamix::protocol::{Checkpoint, KnownAnswer, Split, TryInput, TryPlan, TryReport};
use adamix::rng::SeedStream;
use adamix::tensor::log_softmax;
use adamix::train::{Control, ModelAndData, NullObserver};
use adamix::workflow::run::{self, Run};
use adamix::workflow::saved_run::Opened;
use adamix::workflow::try_it::{Subject, TokenizerCache};

/// A trained run with its tokenizer.
struct Trained {
    place: Place,
    opened: Opened,
    tokenizer: TextTokenizer,
}

fn trained(change: impl FnOnce(&Place, &mut RunConfig)) -> Trained {
    let place = Place::new();
    let mut config = place.config(40);
    change(&place, &mut config);
    let mut run = Run::start(run::prepare(&config).unwrap()).unwrap();
    run.go(&mut NullObserver, &Control::default()).unwrap();
    let dir = run.dir().clone();
    drop(run);
    let opened = Opened::open(&dir, Checkpoint::Best).unwrap();
    let tokenizer = TokenizerCache::default().of(&opened.config).unwrap().clone();
    Trained { place, opened, tokenizer }
}

impl Trained {
    fn subject(&self) -> Subject<'_> {
        let Opened { subject, config, weights, .. } = &self.opened;
        let step = &weights.step;
        Subject::new(subject, config, &self.tokenizer, *step).unwrap()
    }

    fn answer(&self, input: TryInput, routes: usize) -> TryReport {
        self.subject().answer(&TryPlan { input, routes, seed: self.opened.config.train.seed }, &|_| true).unwrap()
    }

    fn model(&self) -> (&Classifier, &Dataset) {
        let ModelAndData::Classifier(model, data) = &self.opened.subject else { panic!("no classifier") };
        (model, &data.dev)
    }

    /// What the model gives for an evaluation row, all by itself.
    fn alone(&self, model: &Classifier, row: usize, route: Option<&Route>) -> Vec<f64> {
        let logits = model.logits(&self.model().1.batch(&[row]), route).unwrap();
        outputs(&logits, self.opened.subject.labels().is_empty())
    }
}

fn outputs(logits: &[f32], values: bool) -> Vec<f64> {
    let wide: Vec<f64> = logits.iter().map(|&z| f64::from(z)).collect();
    if values { wide } else { log_softmax(&wide).into_iter().map(f64::exp).collect() }
}

#[track_caller]
fn assert_same(what: &str, got: &[f64], want: &[f64]) {
    let apart = got.iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(got.len() == want.len() && apart < 1e-5, "{what}: {got:?} instead of {want:?}");
}

fn dev(row: usize) -> TryInput {
    TryInput::Row { split: Split::Evaluation, row }
}

#[track_caller]
fn assert_answers_are_those_of_separate_forwards(trained: &Trained) {
    let (model, _) = trained.model();
    let (mixture, sites) = (model.mixture().unwrap(), model.sites().len());
    let seed = SeedStream::new(trained.opened.config.train.seed);
    let merged = model.merged_own().unwrap();
    let mut spread = 0.0f64;
    for row in [0, 7, 47] {
        let report = trained.answer(dev(row), 5);
        assert_same("merged", &report.merged, &trained.alone(&merged, row, None));
        assert_same("base", report.base.as_ref().unwrap(), &trained.alone(&model.bare(), row, None));
        assert_eq!((report.experts.len(), report.routes.len()), (mixture.num_experts, 5));
        for (expert, got) in report.experts.iter().enumerate() {
            let route = Route::fixed(mixture, sites, expert);
            assert_same("an expert", got, &trained.alone(model, row, Some(&route)));
        }
        for (index, got) in report.routes.iter().enumerate() {
            let route = random_route(mixture, sites, seed, index);
            assert_same("a random route", got, &trained.alone(model, row, Some(&route)));
            spread = spread.max((got[0] - report.routes[0][0]).abs());
        }
        let mean = |at: usize| report.routes.iter().map(|route| route[at]).sum::<f64>() / 5.0;
        let means: Vec<f64> = (0..report.merged.len()).map(mean).collect();
        assert_same("ensemble", report.ensemble.as_ref().unwrap(), &means);
        assert_eq!(report.step, trained.opened.weights.step);
    }
    assert!(spread > 1e-4, "all routes give the same, so the comparison could not fail");
}

#[test]
fn every_way_gives_what_an_evaluation_of_that_row_gives() {
    let adapters = trained(|_, _| {});
    assert_answers_are_those_of_separate_forwards(&adapters);
    let loras = trained(|_, config| {
        (config.mixture.kind, config.mixture.lora_rank) = (MixtureKind::Lora, 3);
        config.mixture.sharing_up = false;
    });
    assert_answers_are_those_of_separate_forwards(&loras);
    // The mean over all rows is the loss that the comparison reports.
    let report = adapters.opened.compare(3).unwrap();
    let answers: Vec<TryReport> = (0..48).map(|row| adapters.answer(dev(row), 3)).collect();
    let nll = |answer: &TryReport, p: &[f64]| {
        let Some(KnownAnswer::Class(class)) = answer.known else { panic!("no label: {answer:?}") };
        -p[class].ln()
    };
    let merged: f64 = answers.iter().map(|answer| nll(answer, &answer.merged)).sum::<f64>() / 48.0;
    assert!((merged - report.merged.loss).abs() < 1e-5, "{merged} {}", report.merged.loss);
    for (index, scores) in report.random.iter().enumerate() {
        let loss: f64 = answers.iter().map(|answer| nll(answer, &answer.routes[index])).sum::<f64>() / 48.0;
        assert!((loss - scores.loss).abs() < 1e-5, "route {index}: {loss} {}", scores.loss);
    }
}

#[test]
fn a_typed_text_is_read_as_the_row_with_the_same_words() {
    let trained = trained(|_, _| {});
    let row = trained.answer(dev(3), 4);
    let typed = trained.answer(TryInput::Text { text: row.text.clone(), pair: None }, 4);
    assert_eq!((&typed.merged, &typed.routes, typed.tokens), (&row.merged, &row.routes, row.tokens));
    assert_eq!((typed.known, typed.rows), (None, [96, 48]));
    let long = trained.answer(TryInput::Text { text: "film ".repeat(40), pair: None }, 1);
    assert!(long.truncated && long.tokens == 16);
    let beyond = trained.subject().answer(&TryPlan { input: dev(48), routes: 1, seed: 0 }, &|_| true);
    assert!(beyond.unwrap_err().to_string().contains("no evaluation row 49; choose 1 to 48"));
    // Another seed draws other routes of the same model.
    let other = trained.subject().answer(&TryPlan { input: dev(3), routes: 4, seed: 9 }, &|_| true).unwrap();
    assert_eq!(other.merged, row.merged);
    assert_ne!(other.routes, row.routes);
}

#[test]
fn with_one_expert_every_way_but_the_base_is_the_same() {
    let trained = trained(|_, config| {
        config.mixture.num_experts = 1;
        (config.mixture.sharing_up, config.mixture.consistency) = (false, false);
    });
    let report = trained.answer(dev(5), 3);
    let ways = report.experts.iter().chain(&report.routes).chain(report.ensemble.iter());
    ways.for_each(|way| assert_same("a way", way, &report.merged));
    assert!((report.base.unwrap()[0] - report.merged[0]).abs() > 1e-3, "the adapters do nothing");
}

#[test]
fn a_word_counts_what_the_text_without_it_gives() {
    let trained = trained(|_, _| {});
    let text = "slow film but  good plot";
    let input = TryInput::Text { text: text.to_owned(), pair: None };
    let words = trained.subject().words(&input, &|_| true).unwrap();
    let whole = trained.answer(input, 0);
    let class = whole.predicted().unwrap();
    assert_eq!((words.class, words.left, words.words.len()), (Some(class), 0, 5));
    let odds = |p: f64| (p / (1.0 - p)).ln();
    let without = [
        "film but  good plot",
        "slow but  good plot",
        "slow film good plot",
        "slow film but  plot",
        "slow film but  good",
    ];
    for (word, rest) in words.words.iter().zip(without) {
        let answer = trained.answer(TryInput::Text { text: rest.to_owned(), pair: None }, 0);
        let expected = odds(whole.merged[class]) - odds(answer.merged[class]);
        assert!((word.effect - expected).abs() < 1e-3, "{}: {} {expected}", word.word, word.effect);
        assert_same(&word.word, &[word.without], &[answer.merged[class]]);
        assert_eq!(&text[word.at..word.at + word.word.len()], word.word);
    }
    assert!(words.words.iter().any(|word| word.effect.abs() > 1e-2), "no word does anything: {words:?}");
    let many = TryInput::Text { text: "film ".repeat(500), pair: None };
    let many = trained.subject().words(&many, &|_| true).unwrap();
    assert_eq!((many.words.len(), many.left), (400, 100));
    let cancelled = trained.subject().words(&dev(0), &|_| false).unwrap_err();
    assert_eq!(cancelled.kind(), adamix::error::ErrorKind::Cancelled);
}

#[test]
fn pairs_and_values_are_tried_too() {
    let trained = trained(|place, config| {
        for (name, rows) in [("train.csv", 48), ("dev.csv", 24)] {
            let line = |i: usize| {
                let (first, second) =
                    if i.is_multiple_of(2) { ("good film", "good plot") } else { ("bad film", "dark plot") };
                format!("{first},{second},{}\n", (i % 2) as f64 * -1.5 + (i % 3) as f64 * 0.1)
            };
            let text: String = (0..rows).map(line).collect();
            std::fs::write(place.path(name), format!("a,b,score\n{text}")).unwrap();
        }
        config.data.problem = Problem::Regression;
        config.data.text_column = "a".to_owned();
        config.data.text_pair_column = "b".to_owned();
        config.data.label_column = "score".to_owned();
    });
    assert_answers_are_those_of_separate_forwards_of_values(&trained);
    let row = trained.answer(dev(1), 2);
    assert_eq!((row.text.as_str(), row.pair.as_deref()), ("bad film", Some("dark plot")));
    assert!(row.labels.is_empty() && row.predicted().is_none() && row.merged.len() == 1);
    let Some([low, high]) = row.range else { panic!("no range") };
    assert!((low + 1.5).abs() < 1e-6 && (high - 0.2).abs() < 1e-6, "{low} {high}");
    let words = trained.subject().words(&row.plan.input, &|_| true).unwrap();
    let places: Vec<(&str, bool)> = words.words.iter().map(|word| (word.word.as_str(), word.in_pair)).collect();
    assert_eq!(places, [("bad", false), ("film", false), ("dark", true), ("plot", true)]);
    let without = TryInput::Text { text: "bad film".to_owned(), pair: Some("plot".to_owned()) };
    let without = trained.answer(without, 0).merged[0];
    assert!((words.words[2].effect - (row.merged[0] - without)).abs() < 1e-5);
}

fn assert_answers_are_those_of_separate_forwards_of_values(trained: &Trained) {
    let (model, _) = trained.model();
    let report = trained.answer(dev(2), 2);
    assert_same("merged", &report.merged, &trained.alone(&model.merged_own().unwrap(), 2, None));
    let route = random_route(model.mixture().unwrap(), model.sites().len(), SeedStream::new(report.plan.seed), 1);
    assert_same("a route", &report.routes[1], &trained.alone(model, 2, Some(&route)));
}

#[test]
fn the_command_line_says_the_same() {
    let trained = trained(|_, _| {});
    let run = trained.opened.dir.path().display().to_string();
    let home = trained.place.path("home");
    std::fs::create_dir(&home).unwrap();
    let ran = adamix(&home, &["try", &run, "--row", "8", "--random-routes", "3", "--words", "--json"]);
    let got = ran.json().remove(0);
    let report = trained.answer(dev(7), 3);
    assert_eq!(got["answer"], serde_json::to_value(&report).unwrap());
    let words = trained.subject().words(&dev(7), &|_| true).unwrap();
    assert_eq!(got["words"], serde_json::to_value(&words).unwrap());
    let ran = adamix(&home, &["try", &run, "--text", "good film", "--seed", "5", "--words"]);
    for needle in
        ["merged", "expert 3 alone", "random route 15", "ensemble of 16 routes", "base model", "seed 5", "good"]
    {
        assert!(ran.done().contains(needle), "{needle}: {}", ran.out);
    }
    let ran = adamix(&home, &["try", &run, "--row", "49"]);
    assert!(ran.code == Some(1) && ran.err.contains("choose 1 to 48"), "{}", ran.err);
    let ran = adamix(&home, &["try", &run]);
    assert_eq!(ran.code, Some(2), "{}", ran.err);
}
