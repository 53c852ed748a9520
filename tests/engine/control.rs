//! Stop, pause and single step, as any thread asks for them.

use adamix::train::Control;

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
