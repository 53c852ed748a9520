//! Two ways row by row, against the scores of the comparison and counts of their own.

use super::{classifier, near, writer};
use crate::support::cli::{Ran, adamix};
use crate::support::place::Place;
use adamix::artifact::RunDir;
use adamix::config::{Method, RunConfig};
use adamix::error::ErrorKind;
use adamix::eval::compare;
use adamix::protocol::*;
use adamix::train::{Control, ModelAndData, NullObserver};
use adamix::workflow::run::{self, Run};
use adamix::workflow::studies::rows::rows_subject;
use serde_json::Value;

/// An empty run directory: only checkpoints of the same run would be read from it.
fn dir(config: &RunConfig) -> RunDir {
    RunDir::create(config).unwrap().0
}

/// A study of a model that was never saved.
fn study(subject: &ModelAndData, config: &RunConfig, first: Way, second: Way) -> RowsReport {
    let plan = RowsPlan { first, second, ..RowsPlan::default() };
    rows_subject(subject, config, &dir(config), &plan, &|_| true).unwrap()
}

#[test]
fn both_ways_score_what_the_comparison_says() {
    let (_place, config, subject) = classifier(|_| {});
    let report = subject.compare(&subject.options(&config, &|_| true)).unwrap();
    let ensemble = report.random.len();
    let ways = [
        (Way::Expert(1), report.fixed[1].clone(), report.paired.as_ref().unwrap().fixed[1]),
        (Way::Ensemble(ensemble), report.ensemble.clone(), report.paired.as_ref().unwrap().ensemble.unwrap()),
    ];
    for (way, scores, paired) in ways {
        let found = study(&subject, &config, Way::Merged, way.clone());
        assert_eq!((&found.ways[0].scores, &found.ways[1].scores), (&report.merged, &scores), "{way}");
        assert_eq!(found.difference, paired, "{way}: the same intervals");
        near("loss", found.difference.loss.value, scores.loss - report.merged.loss, 1e-9);
        assert_eq!((found.rows, found.of, found.entries.len()), (report.rows, report.rows, report.rows));
        // Of every row once, the largest difference first.
        let apart: Vec<f64> = found.entries.iter().map(|entry| entry.difference().abs()).collect();
        assert!(apart.windows(2).all(|pair| pair[0] >= pair[1]));
        let mut rows: Vec<usize> = found.entries.iter().map(|entry| entry.row).collect();
        rows.sort_unstable();
        assert!(rows.iter().copied().eq(0..report.rows));
        // Counts from the list.
        let right = |way: usize| {
            let is = |entry: &&RowEntry| entry.answers[way].class().map(KnownAnswer::Class) == entry.label;
            found.entries.iter().filter(is).count()
        };
        for way in 0..2 {
            let accuracy = found.ways[way].scores.accuracy.unwrap();
            near("accuracy", right(way) as f64 / found.rows as f64, accuracy, 1e-12);
            let diagonal: u64 = (0..2).map(|class| found.ways[way].confusion[class][class]).sum();
            assert_eq!(diagonal as usize, right(way));
        }
        let flips = found.flips.unwrap();
        assert_eq!(flips.both_right + flips.only_first, right(0));
        assert_eq!(flips.both_right + flips.only_second, right(1));
        assert_eq!(flips.different(), found.entries.iter().filter(|entry| entry.differs()).count());
        let labels: usize = found.slices.iter().filter(|s| s.by == SliceBy::Label).map(|s| s.rows).sum();
        let lengths: usize = found.slices.iter().filter(|s| s.by == SliceBy::Length).map(|s| s.rows).sum();
        assert_eq!((labels, lengths), (found.rows, found.rows));
        let mean = |way: usize| found.entries.iter().map(|entry| entry.losses[way]).sum::<f64>() / found.rows as f64;
        near("loss of the rows", mean(1), scores.loss, 1e-9);
    }
    let merged = report.costs.as_ref().unwrap().merged;
    let found = study(&subject, &config, Way::Merged, Way::Ensemble(3));
    assert_eq!(found.ways[0].cost, Some(merged));
    let cost = found.ways[1].cost.unwrap();
    assert_eq!((cost.forwards, cost.multiply_adds), (3, 3 * merged.multiply_adds));
    assert!(cost.parameters > merged.parameters && found.ways.iter().all(|way| way.seconds > 0.0));
    // 2 layers of width 20: four square matrices and a feed-forward block of 36; an adapter narrows to 4.
    assert_eq!(merged.multiply_adds, 2 * (4 * 20 * 20 + 2 * 20 * 36) + 2 * (2 * 20 * 4));
}

#[test]
fn a_way_differs_from_itself_in_no_row() {
    let (_place, config, subject) = classifier(|_| {});
    let found = study(&subject, &config, Way::Route(1), Way::Route(1));
    let flips = found.flips.unwrap();
    assert_eq!(
        (flips.different(), found.difference.loss, found.difference.primary),
        (0, Interval::default(), Interval::default())
    );
    assert!(found.slices.iter().all(|slice| !slice.difference.unwrap().loss.is_shown()));
    assert!(found.verdict().contains("no difference shown"));
    let base = study(&subject, &config, Way::Base, Way::Merged);
    assert_eq!(base.ways[0].cost.unwrap().parameters, 0);
    assert!(base.entries[0].difference() != 0.0);
}

#[test]
fn what_does_not_exist_is_refused_and_a_study_is_cancelled() {
    let (_place, config, subject) = classifier(|_| {});
    let ask = |subject: &ModelAndData, config: &RunConfig, second: Way, go_on: &dyn Fn(f64) -> bool| {
        let plan = RowsPlan { second, ..RowsPlan::default() };
        rows_subject(subject, config, &dir(config), &plan, go_on).unwrap_err()
    };
    let error = ask(&subject, &config, Way::Expert(3), &|_| true);
    assert!(error.to_string().contains("there is no expert 3; choose 0 to 2"), "{error}");
    let error = ask(&subject, &config, Way::Ensemble(4), &|share| share < 0.5);
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    let (_place, config, alone) = classifier(|config| config.model.method = Method::HeadOnly);
    let error = ask(&alone, &config, Way::Expert(0), &|_| true);
    assert!(error.to_string().contains("expert:0 needs experts; this run has none"), "{error}");
    let few = RowsPlan { second: Way::Base, rows: 1, ..RowsPlan::default() };
    let error = rows_subject(&subject, &config, &dir(&config), &few, &|_| true).unwrap_err();
    assert!(error.to_string().contains("two rows or more"), "{error}");
}

#[test]
fn texts_are_compared_token_by_token_with_long_ones_counting_for_more() {
    let (_place, config, subject) = writer("llama-tiny", |_| {});
    let ModelAndData::Lm(model, data) = &subject else { panic!("not a language model") };
    let found = study(&subject, &config, Way::Merged, Way::Expert(2));
    let opts = subject.options(&config, &|_| true);
    let merged = compare::evaluate(&model.merged_own().unwrap(), &data.dev, None, &opts).unwrap();
    assert_eq!(found.ways[0].scores, merged);
    let tokens: usize = found.entries.iter().map(|entry| entry.tokens).sum();
    let nll: f64 = found.entries.iter().map(|entry| entry.losses[0] * entry.tokens as f64).sum();
    near("loss a token", nll / tokens as f64, merged.loss, 1e-9);
    let right: usize =
        found.entries.iter().map(|entry| if let RowAnswer::Tokens(right) = entry.answers[0] { right } else { 0 }).sum();
    near("next tokens", right as f64 / tokens as f64, merged.token_accuracy.unwrap(), 1e-12);
    assert!(found.flips.is_none() && found.ways[0].calibration.is_none() && found.labels.is_empty());
    assert!(found.slices.iter().all(|slice| slice.by == SliceBy::Length) && !found.slices.is_empty());
    assert!(found.entries.iter().all(|entry| !entry.text.is_empty() && entry.label.is_none()));
    assert_eq!(found.ways[0].ahead + found.ways[1].ahead, found.rows, "no two losses are equal");
}

/// A short training in a place.
fn trained(place: &Place, change: impl FnOnce(&mut RunConfig)) -> std::path::PathBuf {
    let mut config = place.config(8);
    change(&mut config);
    let mut run = Run::start(run::prepare(&config).unwrap()).unwrap();
    run.go(&mut NullObserver, &Control::default()).unwrap();
    run.dir().path().to_owned()
}

#[test]
fn the_command_compares_ways_checkpoints_and_runs() {
    let place = Place::new();
    let dir = trained(&place, |_| {});
    let other = trained(&place, |config| (config.name, config.train.seed) = ("other".to_owned(), 7));
    let (run, csv) = (dir.to_str().unwrap(), place.path("rows.csv"));
    let json = |arguments: &[&str]| -> Value {
        let all = [&["eval", run, "--json", "--rows"], arguments].concat();
        adamix(&place.path(""), &all).json().pop().unwrap()
    };
    let report = json(&["--csv", csv.to_str().unwrap()]);
    assert_eq!((&report["plan"]["first"], &report["plan"]["second"]), (&"merged".into(), &"ensemble:3".into()));
    assert_eq!((report["rows"].as_u64(), report["entries"].as_array().map(Vec::len)), (Some(48), Some(48)));
    assert!(report["difference"]["loss"]["p"].is_f64() && report["ways"][1]["calibration"]["ece"].is_f64());
    let evaluated = adamix(&place.path(""), &["eval", run, "--json"]).json().pop().unwrap();
    assert_eq!(report["difference"], evaluated["report"]["paired"]["ensemble"], "both commands say the same");
    let table = std::fs::read_to_string(&csv).unwrap();
    assert_eq!(table.lines().count(), 49);
    assert!(
        table.starts_with("row,text,second_text,label,tokens,loss_difference,loss merged,loss ensemble:3,"),
        "{table}"
    );

    let runs = json(&["--against", &format!("run:{}", other.display())]);
    assert!(runs["difference"]["loss"]["value"] != 0.0 && runs["ways"][1]["cost"].is_null());
    let checkpoint = json(&["--against", "checkpoint:last"]);
    assert_eq!(checkpoint["ways"][1]["name"], "Merged, last checkpoint");
    let some = json(&["--against", "base", "--max-rows", "10"]);
    assert_eq!((some["rows"].as_u64(), some["of"].as_u64()), (Some(10), Some(48)));

    let Ran { code, out, err } =
        adamix(&place.path(""), &["eval", run, "--rows=expert:0", "--against", "route:2", "--worst", "3"]);
    assert_eq!(code, Some(0), "{err}");
    for words in [
        "Random route 2 minus expert 0 only: accuracy ",
        "right class, answered",
        "calibration, 10 bins",
        "McNemar's exact test",
        "the 3 rows whose losses differ most",
        "adjusted for all of them (Holm)",
    ] {
        assert!(out.contains(words), "{words} is missing in: {out}");
    }
    assert!(err.contains("expert:0 against route:2: 2 passes over 48 rows, 2,000 resamples"), "{err}");
    for (arguments, code, words) in [
        (&["--against", "base"][..], 2, "--rows"),
        (&["--rows=best"], 2, "is no way of running a model"),
        (&["--rows", "--against", "expert:9"], 1, "there is no expert 9; choose 0 to 3"),
        (&["--rows", "--against", "run:nowhere"], 1, "there is no run"),
        (&["--rows", "--random-routes", "3"], 2, "--random-routes and --rows are two different measurements"),
    ] {
        let Ran { code: found, err, .. } = adamix(&place.path(""), &[&["eval", run], arguments].concat());
        assert_eq!(found, Some(code), "{arguments:?}: {err}");
        assert!(err.contains(words), "{arguments:?}: {err}");
    }
}

#[test]
fn another_run_has_to_have_the_same_rows() {
    let (place, elsewhere) = (Place::new(), Place::new());
    let dir = trained(&place, |_| {});
    let rows = std::fs::read_to_string(elsewhere.path("dev.csv")).unwrap();
    std::fs::write(elsewhere.path("dev.csv"), rows.replacen("good", "dark", 1)).unwrap();
    let other = trained(&elsewhere, |_| {});
    let against = format!("run:{}", other.display());
    let ask = |more: &[&str]| {
        let all = [&["eval", dir.to_str().unwrap(), "--rows", "--against", &against], more].concat();
        adamix(&place.path(""), &all)
    };
    let Ran { code, err, .. } = ask(&[]);
    assert_eq!(code, Some(1));
    assert!(err.contains("not measured on the same rows: row ") && err.contains("--dev-file"), "{err}");
    let same = place.path("dev.csv");
    let Ran { code, err, .. } = ask(&["--dev-file", same.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{err}");
}
