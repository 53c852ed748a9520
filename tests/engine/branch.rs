//! A run that goes on from a checkpoint of another one.

use crate::support::place::Place;
use adamix::artifact::recorder::{Line, RouteFile, read_lines};
use adamix::artifact::run_label::RunLabel;
use adamix::artifact::{RunDir, checkpoint};
use adamix::config::RunConfig;
use adamix::protocol::Checkpoint;
use adamix::records::StepRecord;
use adamix::train::{Control, NullObserver};
use adamix::workflow::branch::branch;
use adamix::workflow::run::{Run, prepare};
use std::fs;

fn config(place: &Place) -> RunConfig {
    let mut config = place.config(16);
    (config.eval.eval_steps, config.eval.save_steps, config.eval.save_total_limit) = (4, 4, 100);
    config
}

fn trained(config: &RunConfig) -> RunDir {
    let mut run = Run::start(prepare(config).unwrap()).unwrap();
    run.go(&mut NullObserver, &Control::default()).unwrap();
    run.dir().clone()
}

fn resumed(dir: &RunDir) {
    Run::resume(dir.path(), None).unwrap().go(&mut NullObserver, &Control::default()).unwrap();
}

fn steps(dir: &RunDir) -> Vec<StepRecord> {
    let step = |line| match line {
        Line::Step(step) => Some(StepRecord { seconds: 0.0, ..step }),
        _ => None,
    };
    read_lines(&dir.metrics()).unwrap().lines.into_iter().filter_map(step).collect()
}

fn routes(dir: &RunDir) -> Vec<(u64, String)> {
    RouteFile::open(&dir.routes()).unwrap().map(Result::unwrap).map(|r| (r.step, format!("{:?}", r.route))).collect()
}

#[test]
fn without_a_change_a_branch_makes_the_bits_of_its_parent_and_with_one_it_differs_from_there_on() {
    let place = Place::new();
    let parent = trained(&config(&place));
    let same = RunConfig { name: String::new(), ..parent.config().clone() };
    let dir = branch(&parent, Checkpoint::Step(8), &same).unwrap();
    assert_eq!(dir.name(), format!("{}-from-8", parent.name()));
    assert_eq!(steps(&dir).last().unwrap().step, 8, "what the parent recorded up to there");
    resumed(&dir);
    assert_eq!(steps(&dir), steps(&parent));
    assert_eq!(routes(&dir), routes(&parent));
    assert_eq!(checkpoint::read(&dir, 16).unwrap(), checkpoint::read(&parent, 16).unwrap());
    let label = RunLabel::read(dir.path());
    assert_eq!((label.parent, label.edge), (parent.name(), "from step 8".to_owned()));

    let mut other = same;
    (other.train.learning_rate, other.train.max_steps) = (other.train.learning_rate / 4.0, 20);
    let dir = branch(&parent, Checkpoint::Step(8), &other).unwrap();
    resumed(&dir);
    let (own, theirs) = (steps(&dir), steps(&parent));
    assert_eq!((own.len(), theirs.len()), (20, 16));
    assert_eq!(own[..8], theirs[..8]);
    assert_ne!(own[9].loss.to_bits(), theirs[9].loss.to_bits(), "another rate since step 8");
    assert_eq!(routes(&dir)[..16], routes(&parent)[..16], "the draws depend on the seed alone");
    let edge = RunLabel::read(dir.path()).edge;
    assert!(edge.starts_with("from step 8: max_steps 16 -> 20, learning_rate "), "{edge}");
    // The branch is a run of its own.
    fs::remove_dir_all(parent.path()).unwrap();
    assert_eq!(Run::resume(dir.path(), None).unwrap().trainer().steps_done(), 20);
}

#[test]
fn a_branch_that_cannot_be_leaves_nothing_behind() {
    let place = Place::new();
    let parent = trained(&config(&place));
    let root = parent.path().parent().unwrap();
    let before = fs::read_dir(root).unwrap().count();
    let refused = |which, config: &RunConfig| branch(&parent, which, config).unwrap_err().to_string();
    let mut wrong = RunConfig { name: String::new(), ..parent.config().clone() };
    wrong.mixture.num_experts += 1;
    let err = refused(Checkpoint::Last, &wrong);
    assert!(err.contains("mixture.num_experts (there 4, here 5)"), "{err}");
    let same = RunConfig { name: String::new(), ..parent.config().clone() };
    let err = refused(Checkpoint::Step(7), &same);
    assert!(err.contains("no checkpoint of step 7") && err.contains("4, 8, 12, 16"), "{err}");
    let err = refused(Checkpoint::Step(16), &same);
    assert!(err.contains("max_steps is 16") && err.contains("16 steps are done"), "{err}");
    fs::write(parent.checkpoint(8).join("experts.safetensors"), b"damaged").unwrap();
    let err = refused(Checkpoint::Step(8), &same);
    assert!(err.contains("checkpoint-8 cannot be used"), "{err}");
    assert_eq!(fs::read_dir(root).unwrap().count(), before);
}
