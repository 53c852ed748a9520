//! Work of the frames while an engine streams: each view in front, then all side by side.

use super::stream::{EVENTS_PER_S, StreamingEngine, worked_time};
use super::{FRAME, SIZE};
use crate::app::WindowOptions;
use crate::app::actions::Action;
use crate::app::headless::Headless;
use crate::app::settings::Settings;
use crate::app::view::View;
use crate::bench::window::{Arrangement, FrameFigures, Plan};
use crate::error::{Error, Result};
use crate::machine::facts;
use crate::protocol::{ModelQuery, Subject};
use std::time::{Duration, Instant};

/// Runs drawn over one another.
const SERIES: usize = 8;
/// Most frames until everything has arrived.
const PATIENCE: usize = 6000;

/// Opens a window, fills it, and measures.
pub(super) fn measure(plan: &Plan) -> Result<FrameFigures> {
    let before = facts::resident_memory();
    let engine = StreamingEngine::new(plan.steps, SERIES);
    let mut window = Headless::open(Ok(Box::new(engine)), Settings::default(), WindowOptions::default(), SIZE);
    fill(&mut window)?;
    let mut arrangements = Vec::new();
    for view in View::ALL {
        window.app.actions.push(Action::Show(view));
        arrangements.push(arrangement(&mut window, view.title(), plan.frames));
    }
    arrangements.push(scrubbed(&mut window, plan));
    window.show_all_views()?;
    arrangements.push(arrangement(&mut window, "all together", plan.frames));
    let peak = facts::peak_memory();
    Ok(FrameFigures {
        arrangements,
        events_per_s: EVENTS_PER_S,
        series: SERIES,
        points: plan.steps,
        memory_mb: peak as f64 / 1e6,
        memory_growth_mb: peak.saturating_sub(before) as f64 / 1e6,
    })
}

/// Starts a run, overlays the others, and asks for a comparison.
fn fill(window: &mut Headless) -> Result<()> {
    until(window, |window| window.app.session.engine_problem().is_none())?;
    window.app.actions.push(Action::StartRun);
    until(window, |window| window.app.session.live.is_some() && window.app.session.runs.value.is_some())?;
    let runs = window.app.session.runs.value.iter().flatten().map(|run| run.dir.clone());
    let overlays: Vec<Action> = runs.map(Action::ToggleOverlay).collect();
    for action in overlays {
        window.app.actions.push(action);
    }
    window.app.actions.push(Action::Show(View::Routing));
    until(window, |window| {
        let routes = &window.app.session.routes;
        routes.complete && !routes.timeline.is_empty()
    })?;
    window.app.actions.push(Action::Query(Subject::Live, ModelQuery::Compare { random_routes: 8 }));
    until(window, |window| {
        let session = &window.app.session;
        let drawn = session.overlays.values().filter(|query| query.value.is_some()).count();
        drawn == SERIES && session.compare.value.is_some()
    })
}

fn until(window: &mut Headless, arrived: impl Fn(&Headless) -> bool) -> Result<()> {
    for _ in 0..PATIENCE {
        window.frame(FRAME);
        if arrived(window) {
            return Ok(());
        }
    }
    let log: Vec<&str> = window.app.session.log.iter().map(|line| line.text.as_str()).collect();
    Err(Error::internal(format!("the window did not get what it asked for: {}", log.join("; "))))
}

/// The route map with its playhead at another step in every frame.
fn scrubbed(window: &mut Headless, plan: &Plan) -> Arrangement {
    window.app.actions.push(Action::Show(View::Routing));
    let mut at = 0;
    let scrub = |window: &mut Headless| {
        at = (at + 997) % plan.steps.max(1);
        window.app.actions.push(Action::SetPlayhead(Some(at + 1)));
    };
    measured(window, "Routing, scrubbed", plan.frames, scrub)
}

/// Work of `frames` frames, the switch to this arrangement included.
fn arrangement(window: &mut Headless, views: &str, frames: usize) -> Arrangement {
    measured(window, views, frames, |_| {})
}

/// The same with something that happens before each frame.
fn measured(window: &mut Headless, views: &str, frames: usize, mut before: impl FnMut(&mut Headless)) -> Arrangement {
    let (mut own, mut wall, mut triangles) = (Vec::new(), Vec::new(), 0);
    for _ in 0..frames.max(1) {
        before(window);
        let (began, used, engine) = (Instant::now(), facts::thread_time(), worked_time());
        let drawn = window.frame(FRAME);
        let elapsed = began.elapsed();
        // The processor time of this thread, without that of the engine's stand-in: what other programs and threads do meanwhile is
        // not the frame's work.
        let work = facts::thread_time().zip(used).map_or(elapsed, |(now, before)| now.saturating_sub(before));
        let work = work.saturating_sub(worked_time().saturating_sub(engine));
        own.push(ms(work));
        wall.push(ms(elapsed));
        triangles = drawn.triangles();
    }
    own.sort_by(f64::total_cmp);
    wall.sort_by(f64::total_cmp);
    Arrangement {
        views: views.to_owned(),
        p50_ms: quantile(&own, 0.5),
        p99_ms: quantile(&own, 0.99),
        max_ms: quantile(&own, 1.0),
        wall_p99_ms: quantile(&wall, 0.99),
        triangles,
    }
}

fn ms(time: Duration) -> f64 {
    1e3 * time.as_secs_f64()
}

/// The value at or below which this share of the values lies; 0 for none.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let n = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(n.saturating_sub(1)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_is_filled_and_every_view_is_measured() {
        let plan = Plan { steps: 5000, frames: 2, rounds: 1, seconds: 0.1 };
        let figures = measure(&plan).unwrap();
        let names: Vec<&str> = figures.arrangements.iter().map(|a| a.views.as_str()).collect();
        assert_eq!(names.len(), View::ALL.len() + 2);
        assert!(names.contains(&"Routing, scrubbed"));
        assert_eq!(names.last(), Some(&"all together"));
        assert!(figures.arrangements.iter().all(|a| a.triangles > 100 && a.p50_ms > 0.0 && a.p50_ms <= a.p99_ms));
    }
}
