//! Where the time of a real step goes: every phase is seen, they add up, and looking changes nothing.

use crate::support::tiny;
use adamix::config::{Problem, RunConfig};
use adamix::data::Batch;
use adamix::model::{Classifier, Family, Network as _};
use adamix::nn::profile::{PHASES, Phase, Profile, Recording};
use adamix::train::optimizer::AdamW;
use adamix::train::step::{self, StepIndex};
use std::time::{Duration, Instant};

fn steps(config: &RunConfig, model: &Classifier, batch: &Batch) -> Vec<u64> {
    let mut optimizer = AdamW::new(model.params()).unwrap();
    let mut losses = Vec::new();
    for at in 0..3 {
        let made = step::step(config, model, &mut optimizer, StepIndex::new(at, 3), |_| Ok(batch.clone())).unwrap();
        losses.push(made.loss.total.to_bits());
    }
    losses
}

fn recorded(family: Family) -> (Profile, Duration, Vec<u64>) {
    let config = tiny::config(5);
    let model = tiny::classifier(&config, family, 2);
    let data = tiny::task(8, Problem::Classification).train;
    let batch = data.batch(&[0, 1, 2, 3, 4, 5, 6, 7]);
    let clock = Instant::now();
    let recording = Recording::start();
    let losses = steps(&config, &model, &batch);
    let profile = recording.take();
    (profile, clock.elapsed(), losses)
}

#[test]
fn the_phases_of_a_step_are_all_seen_and_add_up() {
    for family in [Family::Bert, Family::Roberta] {
        let (profile, elapsed, _) = recorded(family);
        for phase in PHASES {
            let seen = !profile.time(phase).is_zero();
            assert_eq!(seen, phase != Phase::Recompute, "{family:?}: {phase:?} took {:?}", profile.time(phase));
        }
        assert!(profile.total() <= elapsed, "{:?} of {elapsed:?}", profile.total());
        assert_eq!(PHASES.iter().map(|&phase| profile.time(phase)).sum::<Duration>(), profile.total());
    }
}

#[test]
fn recording_changes_no_bit() {
    let config = tiny::config(5);
    let model = tiny::classifier(&config, Family::Roberta, 2);
    let batch = tiny::task(8, Problem::Classification).train.batch(&[0, 1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(steps(&config, &model, &batch), recorded(Family::Roberta).2);
}
