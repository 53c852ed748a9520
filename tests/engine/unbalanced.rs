//! Classes with few rows: weights in the loss, resolved from the rows, kept by the run, refused where they fit nothing.

use crate::support::place::Place;
use adamix::artifact::recorder::{Line, read_lines};
use adamix::config::{Problem, RunConfig};
use adamix::train::{Control, NullObserver};
use adamix::workflow::run::{self, Run};

/// One "yes" to eleven "no".
fn unbalanced() -> (Place, RunConfig) {
    let place = Place::new();
    let row = |i: usize| if i.is_multiple_of(12) { "good film,yes\n" } else { "bad plot,no\n" }.to_owned();
    let rows: String = (0..96).map(row).collect();
    std::fs::write(place.path("train.csv"), format!("sentence,label\n{rows}")).unwrap();
    let mut config = place.config(4);
    // Both classes are in every batch: weights of one class alone cancel.
    config.train.batch_size = 96;
    (place, config)
}

/// The task loss of the first step.
fn first_loss(config: &RunConfig) -> f64 {
    let mut run = Run::start(run::prepare(config).unwrap()).unwrap();
    run.go(&mut NullObserver, &Control::default()).unwrap();
    let lines = read_lines(&run.dir().metrics()).unwrap().lines;
    lines.iter().find_map(|line| if let Line::Step(step) = line { Some(step.task_loss) } else { None }).unwrap()
}

#[test]
fn balanced_weights_are_counted_from_the_rows_and_kept_as_numbers() {
    let (_place, mut config) = unbalanced();
    config.train.class_weights = "balanced".to_owned();
    let prepared = run::prepare(&config).unwrap();
    // 96 rows, 2 classes: 96 / (2 * 88) and 96 / (2 * 8).
    let found = prepared.config.train.class_weights().unwrap();
    assert_eq!(found, [96.0 / 176.0, 6.0]);
    let again = run::prepare(&prepared.config).unwrap();
    assert_eq!(again.config.train.class_weights, prepared.config.train.class_weights);
}

#[test]
fn weights_change_what_is_minimised_and_equal_ones_do_not() {
    let (_place, mut config) = unbalanced();
    let with = |config: &mut RunConfig, weights: &str, name: &str| {
        (config.train.class_weights, config.name) = (weights.to_owned(), name.to_owned());
        first_loss(config)
    };
    let plain = with(&mut config, "", "plain");
    let equal = with(&mut config, "3, 3", "equal");
    let rare = with(&mut config, "balanced", "rare");
    assert!((plain - equal).abs() < 1e-6, "{plain} {equal}");
    assert!((plain - rare).abs() > 1e-3, "{plain} {rare}");
}

#[test]
fn weights_that_fit_nothing_are_refused() {
    let (_place, config) = unbalanced();
    let refused = |change: &dyn Fn(&mut RunConfig), parts: &[&str]| {
        let mut config = config.clone();
        change(&mut config);
        let message = run::prepare(&config).unwrap_err().to_string();
        for part in parts {
            assert!(message.contains(part), "{part:?} is not in: {message}");
        }
    };
    refused(&|c| c.train.class_weights = "1,2,3".to_owned(), &["3 numbers for 2 classes", "no, yes"]);
    refused(&|c| c.train.class_weights = "1,-2".to_owned(), &["class_weights", "above 0"]);
    refused(&|c| c.train.class_weights = "heavy".to_owned(), &["class_weights", "balanced"]);
    refused(
        &|c| {
            c.train.class_weights = "balanced".to_owned();
            c.data.problem = Problem::Regression;
            std::fs::write(&c.data.train_file, "sentence,label\ngood film,1.5\nbad plot,2\n").unwrap();
            c.data.dev_file.clone_from(&c.data.train_file);
        },
        &["class_weights are for classes"],
    );
}
