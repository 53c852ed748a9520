//! Dragged weights: the answer is that of a fresh evaluation, and only what changes runs.

use crate::independence::Window;
use crate::support::cli::adamix;
use crate::support::place::Place;
use crate::support::texts::TextPlace;
use crate::ways::read_back;
use adamix::config::{MixtureKind, RunConfig};
use adamix::error::ErrorKind;
use adamix::mixture::MergeWeights;
use adamix::model::layer_of;
use adamix::protocol::*;
use adamix::train::{Control, NullObserver};
use adamix::workflow::reweigh::{ReweighCache, ReweighedRun};
use adamix::workflow::run::{self, Run};
use adamix::workflow::saved_run::Opened;

fn trained(config: &RunConfig) -> Opened {
    let mut run = Run::start(run::prepare(config).unwrap()).unwrap();
    run.go(&mut NullObserver, &Control::default()).unwrap();
    let dir = run.dir().clone();
    drop(run);
    Opened::open(&dir, Checkpoint::Last).unwrap()
}

fn score(cache: &mut ReweighCache, opened: &Opened, merge: MergePlan, probe_rows: usize) -> ReweighReport {
    let run = ReweighedRun { dir: opened.dir.path(), step: opened.weights.step, config: &opened.config };
    cache.score(&opened.subject, run, &ReweighPlan { merge, probe_rows }, &|_| true).unwrap()
}

/// The same weights everywhere but in the modules of one layer.
fn with_layer(opened: &Opened, layer: usize, list: [f32; 4]) -> MergePlan {
    let names = opened.subject.model().site_names();
    let of = |name: &String| if layer_of(name) == Some(layer) { list.to_vec() } else { vec![0.25; 4] };
    MergePlan::PerSite(names.iter().map(of).collect())
}

#[test]
fn a_dragged_score_is_that_of_a_fresh_evaluation_and_runs_from_the_lowest_change() {
    let (place, texts) = (Place::new(), TextPlace::new("llama-tiny"));
    let mut lora = place.config(8);
    (lora.mixture.kind, lora.mixture.lora_rank, lora.name) = (MixtureKind::Lora, 2, "lora".to_owned());
    let mut language = texts.config(4);
    (language.data.max_length, language.mixture.num_experts) = (32, 4);
    for config in [place.config(8), lora, language] {
        let opened = trained(&config);
        let depth = opened.subject.model().layer_modules().len();
        let mut cache = ReweighCache::default();
        let first = score(&mut cache, &opened, MergePlan::Uniform, 0);
        assert_eq!(first.rows, opened.subject.dev().rows);
        assert_eq!(first.scores, opened.merge(&MergePlan::Uniform).unwrap().scores);
        assert_eq!(first.uniform, first.scores);
        let batches = first.all_layer_passes / depth;
        assert_eq!(first.all_layer_passes, batches * depth);
        assert!(batches > 1 && first.kept_bytes > 0);
        // An adapter that changes leaves attention and feed-forward block of its layer as they were.
        let language = opened.subject.language_model().is_some();
        let own = usize::from(language || opened.config.mixture.kind == MixtureKind::Lora);
        let mut steps = vec![
            (MergePlan::Global(vec![1.0, 0.0, 0.0, 0.0]), depth - 1 + own),
            (MergePlan::Global(vec![1.0, 0.0, 0.0, 0.0]), own),
            (MergePlan::Uniform, depth - 1 + own),
        ];
        // From the top down, then up again: each leaves the others as they were.
        for layer in [depth - 1, 0] {
            let layers = depth - layer - 1 + own;
            steps.push((with_layer(&opened, layer, [0.7, 0.3, 0.0, 0.0]), layers));
            steps.push((with_layer(&opened, layer, [0.1, 0.2, 0.3, 0.4]), layers));
            steps.push((MergePlan::Uniform, layers));
        }
        let mut seen = std::collections::BTreeSet::new();
        for (merge, layers) in steps {
            let dragged = score(&mut cache, &opened, merge.clone(), 0);
            let fresh = opened.merge(&merge).unwrap();
            assert_eq!(dragged.scores, fresh.scores, "{merge:?}");
            assert_eq!(dragged.layer_passes, batches * layers, "{merge:?}");
            assert_eq!(dragged.uniform, first.scores);
            seen.insert(dragged.scores.loss.to_bits());
        }
        assert!(seen.len() >= 5, "the control: weights change the score");
        // A smaller probe set is another one; its rows are spread over all.
        let few = score(&mut cache, &opened, MergePlan::Uniform, 7);
        assert_eq!((few.rows, few.layer_passes), (7, own * few.all_layer_passes / depth));
        assert_ne!(few.scores.loss, first.scores.loss);
    }
}

#[test]
fn what_was_dragged_is_what_the_export_holds() {
    let place = Place::new();
    let opened = trained(&place.config(8));
    let merge = with_layer(&opened, 1, [0.5, 0.3, 0.2, 0.0]);
    let dragged = score(&mut ReweighCache::default(), &opened, merge.clone(), 0);
    let plan = ExportPlan { targets: vec![ExportTarget::Merged], dtype: NumberFormat::F32, merge, dir: None };
    let report = opened.export(&plan).unwrap().remove(0);
    let subject = read_back(&opened, &report, opened.config.mixture.rank());
    let fresh = subject.evaluate(&MergeWeights::uniform(1), &subject.options(&opened.config, &|_| true)).unwrap();
    assert_eq!(dragged.scores, fresh);
}

#[test]
fn a_drag_that_is_cut_short_leaves_nothing_wrong_behind() {
    let place = Place::new();
    let opened = trained(&place.config(8));
    let mut cache = ReweighCache::default();
    let run = ReweighedRun { dir: opened.dir.path(), step: opened.weights.step, config: &opened.config };
    let plan = |merge| ReweighPlan { merge, probe_rows: 0 };
    for stop in [0.3, 0.7] {
        for merge in [MergePlan::Uniform, MergePlan::Global(vec![0.0, 0.0, 1.0, 0.0])] {
            let cut = cache.score(&opened.subject, run, &plan(merge), &|share| share < stop).unwrap_err();
            assert_eq!(cut.kind(), ErrorKind::Cancelled);
        }
        // Some batches hold the one, some the other.
        let merge = MergePlan::Global(vec![0.1, 0.0, 0.9, 0.0]);
        let whole = cache.score(&opened.subject, run, &plan(merge.clone()), &|_| true).unwrap();
        assert_eq!(whole.scores, opened.merge(&merge).unwrap().scores);
    }
    let err = cache.score(&opened.subject, run, &plan(MergePlan::Soup), &|_| true).unwrap_err().to_string();
    assert!(err.contains("only weights are dragged"), "{err}");
    let err = cache.score(&opened.subject, run, &plan(MergePlan::Global(vec![1.0])), &|_| true).unwrap_err();
    assert!(err.to_string().contains("1 merge weights for 4 experts"), "{err}");
}

#[test]
fn the_engine_answers_the_newest_drag() {
    let place = Place::new();
    let opened = trained(&place.config(8));
    let mut window = Window::open();
    let subject = Subject::Saved { dir: opened.dir.path().to_owned(), checkpoint: Checkpoint::Last };
    let mut last = RequestId(0);
    for i in 0..5 {
        let merge = MergePlan::Global(vec![1.0, 0.0, 0.0, 0.25 * i as f32]);
        let query = ModelQuery::Reweigh(ReweighPlan { merge, probe_rows: 0 });
        last = window.send(Command::Query { subject: subject.clone(), query });
    }
    let Ok(Outcome::Reweighed(report)) = window.wait_for(last) else { panic!("no score of the probe set") };
    assert_eq!(report.merge, MergePlan::Global(vec![1.0, 0.0, 0.0, 1.0]));
    assert_eq!(report.scores, opened.merge(&report.merge).unwrap().scores);
}

#[test]
fn merges_are_kept_by_name_with_the_run() {
    let place = Place::new();
    let opened = trained(&place.config(8));
    let run = opened.dir.path().to_str().unwrap().to_owned();
    let home = place.path("");
    let saved =
        adamix(&home, &["merge", &run, "--weights", "1,0,0,1", "--save", "outer two", "--json"]).json().pop().unwrap();
    adamix(&home, &["merge", &run, "--method", "ties:0.5", "--save", "signs"]).done();
    let named = adamix(&home, &["merge", &run, "--method", "named:outer two", "--json"]).json().pop().unwrap();
    assert_eq!((&named["scores"], &named["weights"]), (&saved["scores"], &saved["weights"]));
    let out = place.path("out");
    adamix(&home, &["export", &run, "--method", "named:signs", "--output", out.to_str().unwrap()]).done();
    let certificate: Certificate =
        serde_json::from_slice(&std::fs::read(out.join("merged/certificate.json")).unwrap()).unwrap();
    assert_eq!(certificate.merge.unwrap().method, "ties");
    let wrong = adamix(&home, &["merge", &run, "--method", "named:inner"]);
    assert!(wrong.code != Some(0) && wrong.err.contains("known are outer two, signs"), "{}", wrong.err);
    // The window reads the same list, and its engine changes it.
    let mut window = Window::open();
    let dir = opened.dir.path().to_owned();
    let ask = window.send(Command::OpenRun(dir.clone()));
    let Ok(Outcome::Opened(detail)) = window.wait_for(ask) else { panic!("not opened") };
    let names = |list: &[NamedMerge]| list.iter().map(|one| one.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&detail.merges), ["outer two", "signs"]);
    let ask = window.send(Command::NameMerge { dir: dir.clone(), name: "signs".to_owned(), merge: None });
    let Ok(Outcome::NamedMerges(of, left)) = window.wait_for(ask) else { panic!("no list") };
    assert_eq!((of, names(&left)), (dir, vec!["outer two".to_owned()]));
}
