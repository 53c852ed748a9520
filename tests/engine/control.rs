//! Stop, pause and single step, as any thread asks for them.

use crate::support::place::Place;
use adamix::records::StepRecord;
use adamix::train::{Control, NullObserver, Observer, Trainer};
use adamix::workflow::run::{self, Run};

#[test]
fn a_pause_begins_without_the_steps_of_the_one_before() {
    let control = Control::default();
    control.pause();
    control.step();
    control.step();
    assert!(control.take_step() && control.step_asked());
    control.resume();
    control.pause();
    assert!(control.paused() && !control.step_asked() && !control.take_step(), "a step that nobody asked for");
    control.step();
    assert!(control.take_step() && !control.take_step());
}

#[test]
fn the_first_reason_to_stop_counts() {
    let control = Control::default();
    let other = control.clone();
    assert!(!control.stopped());
    other.stop("the user asked");
    control.stop("the window was closed");
    assert!(control.stopped() && other.stopped());
    assert_eq!(control.reason(), "the user asked");
}

/// Counts how often a run looks around between two steps, and notes its losses.
#[derive(Default)]
struct Looks {
    at: Vec<u64>,
    losses: Vec<u64>,
    /// Asks for full speed after this many looks.
    enough: Option<(usize, Control)>,
}

impl Observer for Looks {
    fn on_step(&mut self, record: &StepRecord) {
        self.losses.push(record.loss.to_bits());
    }

    fn on_boundary(&mut self, trainer: &Trainer, paused: bool) {
        assert!(!paused, "a pace is no pause");
        self.at.push(trainer.steps_done());
        if let Some((enough, control)) = &self.enough
            && self.at.len() >= *enough
        {
            control.set_pace(0);
        }
    }
}

#[test]
fn a_slow_run_makes_the_same_bits_and_hears_what_is_said_meanwhile() {
    let place = Place::new();
    let config = place.config(6);
    let mut fast = Looks::default();
    Run::start(run::prepare(&config).unwrap()).unwrap().go(&mut fast, &Control::default()).unwrap();
    assert_eq!(fast.at[..6], [0, 1, 2, 3, 4, 5], "at full speed nobody waits");

    let control = Control::default();
    control.set_pace(1);
    let mut slow = Looks { enough: Some((8, control.clone())), ..Looks::default() };
    Run::start(run::prepare(&config).unwrap()).unwrap().go(&mut slow, &control).unwrap();
    assert_eq!(slow.losses, fast.losses);
    // It waited after the first step, looked around meanwhile, and took the new pace at once.
    assert_eq!(slow.at[..2], [0, 1]);
    assert!(slow.at.iter().filter(|&&step| step == 1).count() > 1, "{:?}", slow.at);

    let control = Control::default();
    control.set_pace(1);
    control.stop("seen enough");
    let end = Run::start(run::prepare(&config).unwrap()).unwrap().go(&mut NullObserver, &control).unwrap();
    assert_eq!(end.step, 0);
}
