//! The draws of a run from its files, part by part.

use crate::analysis::timeline::{Layout, StepRows};
use crate::artifact::RunDir;
use crate::artifact::recorded::RecordedMetrics;
use crate::artifact::recorded_steps::{RecordedSteps, StepPlace};
use crate::config::Method;
use crate::error::{Error, Result};
use crate::protocol::{ReadRoutes, RoutesPart};

/// Most steps of a part, and most bytes.
const STEPS: usize = 4096;
const BYTES: usize = 4 << 20;

/// Reads the next part: at most 4,096 steps or 4 MB.
///
/// # Errors
/// Where the run has no mixture, or no route log that can be read.
pub fn read(ask: &ReadRoutes) -> Result<RoutesPart> {
    let run = RunDir::open(&ask.dir)?;
    let config = run.config();
    if config.model.method != Method::Adamix {
        return Err(Error::config("this run has no experts, so nothing is drawn; only method adamix has"));
    }
    let layout = match &ask.layout {
        Some(layout) => layout.clone(),
        None => {
            let recorded = RecordedMetrics::read(&run.metrics())?;
            let mut mixture = config.mixture.clone();
            // Where a later law lets examples or tokens draw for themselves, all steps are kept as shares.
            let mut laws = recorded.laws.iter().map(|change| change.law.routing);
            mixture.routing = laws.rfind(|law| !law.is_per_batch()).unwrap_or(mixture.routing);
            Layout::of(&mixture, recorded.start.sites, config.train.gradient_accumulation_steps)
        }
    };
    let mut steps = RecordedSteps::open(&run, ask.from)?;
    let mut rows = StepRows::default();
    let mut more = true;
    while rows.len() < STEPS && rows.bytes() < BYTES {
        match steps.next_step()? {
            Some(step) => drop(rows.push(&layout, &step)?),
            None => {
                more = false;
                break;
            }
        }
    }
    let (restarted, share) = (steps.restarted() && ask.from != StepPlace::default(), steps.share());
    Ok(RoutesPart { dir: ask.dir.clone(), layout, rows, next: steps.place()?, restarted, more, share })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::timeline::RouteTimeline;
    use crate::artifact::recorder::Recorder;
    use crate::config::RunConfig;
    use crate::records::{Pick, Route, StartRecord, StepRecord};
    use std::path::Path;

    fn pick(step: u64, cell: u64) -> u8 {
        (step.wrapping_mul(2_654_435_761).wrapping_add(cell * 40_503) >> 7) as u8 % 4
    }

    fn steps(recorder: &mut Recorder, from: u64, until: u64) {
        for step in from..=until {
            let picks = (0..12).map(|cell| Pick::One(if cell % 2 == 1 { 0 } else { pick(step, cell) })).collect();
            recorder.step(&StepRecord {
                step,
                epoch: 0.1,
                loss: step as f64,
                task_loss: 0.5,
                consistency_loss: 0.25,
                learning_rate: 1e-3,
                grad_norm: 1.0,
                tokens: 100,
                seconds: 0.01,
                routes: vec![Route { passes: 2, sites: 3, picks }],
            });
        }
        assert_eq!(recorder.take_problems(), Vec::<String>::new());
    }

    /// Reads on to the end. Returns how many parts that took.
    fn follow(dir: &Path, timeline: &mut RouteTimeline, from: &mut StepPlace) -> usize {
        let mut parts = 0;
        loop {
            let layout = (!timeline.is_empty()).then(|| timeline.layout().clone());
            let part = read(&ReadRoutes { dir: dir.to_owned(), from: *from, layout }).unwrap();
            if part.restarted || timeline.is_empty() {
                *timeline = RouteTimeline::new(part.layout.clone());
            }
            timeline.append(&part.rows).unwrap();
            (*from, parts) = (part.next, parts + 1);
            if !part.more {
                return parts;
            }
        }
    }

    #[test]
    fn a_record_is_read_in_parts_followed_and_read_anew_where_it_was_cut() {
        let root = tempfile::tempdir().unwrap();
        let mut config = RunConfig { name: "read".to_owned(), ..RunConfig::default() };
        config.runs_dir = root.path().display().to_string();
        config.mixture.sharing_up = true;
        let (run, _lock) = RunDir::create(&config).unwrap();
        let mut recorder = Recorder::create(&run).unwrap();
        let sites = (0..3).map(|layer| format!("layers.{layer}.ffn")).collect();
        recorder.start(&StartRecord { total_steps: 9000, sites, experts: [4, 1], ..StartRecord::default() });
        steps(&mut recorder, 1, 5000);
        let (mut timeline, mut place) = (RouteTimeline::default(), StepPlace::default());
        assert_eq!(follow(run.path(), &mut timeline, &mut place), 2);
        assert_eq!((timeline.first(), timeline.last(), timeline.steps()), (1, 5000, 5000));
        let row = timeline.row(4321).unwrap();
        for (pass, site) in [(0, 0), (0, 2), (1, 1)] {
            let cell = (pass * 3 + site) * 2;
            let found = row.pick(pass, site, crate::records::Side::Down);
            assert_eq!(found, Some(usize::from(pick(4321, cell as u64))), "{pass} {site}");
        }
        assert_eq!((row.loss(), row.consistency()), (4321.0, Some(0.25)));
        // What is appended is read on; a line that is not whole yet waits.
        steps(&mut recorder, 5001, 5007);
        follow(run.path(), &mut timeline, &mut place);
        assert_eq!((timeline.last(), timeline.steps()), (5007, 5007));
        drop(recorder);
        // A resumed run is cut back, and goes on beyond where it was.
        let mut recorder = Recorder::resume(&run, 4000).unwrap();
        steps(&mut recorder, 4001, 5100);
        let mut cut = timeline.clone();
        follow(run.path(), &mut cut, &mut place);
        assert_eq!((cut.last(), cut.steps()), (5100, 5100));
        // Routes that are lost leave a gap.
        std::fs::write(run.routes(), b"ADAMIXRT\x01\0\0\0\0\0\0\0").unwrap();
        let part = read(&ReadRoutes { dir: run.path().to_owned(), ..ReadRoutes::default() }).unwrap();
        assert!(part.rows.is_empty() && !part.restarted);
        std::fs::remove_file(run.routes()).unwrap();
        assert!(read(&ReadRoutes { dir: run.path().to_owned(), ..ReadRoutes::default() }).is_err());
    }
}
