//! Invented draws of a run for [`super::FakeEngine`], step by step.

use super::data::{noise, sites_of};
use adamix::config::{MixtureConfig, RoutingPolicy};
use adamix::protocol::{Layout, RouteTimeline, RoutesAnswer, RoutesPart, StepPlace, StepRows};
use adamix::records::{Pick, Route, StepRecord};
use std::ops::RangeInclusive;
use std::path::Path;

/// Examples or tokens that draw for themselves.
const MANY: u64 = 64;

/// The steps of a run with this mixture.
pub fn part(dir: &Path, mixture: &MixtureConfig, steps: RangeInclusive<u64>) -> RoutesPart {
    let layout = Layout::of(mixture, sites_of(mixture), 1);
    let rows = rows(&layout, steps);
    let next = StepPlace::default();
    RoutesPart { dir: dir.to_owned(), layout, rows, next, restarted: false, more: false, share: 1.0 }
}

/// The answer to the question for the fit.
pub fn fit(timeline: &RouteTimeline, after: u64) -> RoutesAnswer {
    RoutesAnswer::Fit(timeline.fit(after, &|| true).unwrap_or_default())
}

/// Steps of what can be drawn; each layer that differs adds 0.003 to the disagreement.
pub fn rows(layout: &Layout, steps: RangeInclusive<u64>) -> StepRows {
    let mut rows = StepRows::default();
    for step in steps {
        let cells = layout.passes * layout.sites.len() * 2;
        let route = Route {
            passes: layout.passes,
            sites: layout.sites.len(),
            picks: (0..cells).map(|cell| pick(layout, step, cell)).collect(),
        };
        let apart = |site: usize| {
            let cell = |pass: usize| &route.picks[(pass * layout.sites.len() + site) * 2];
            layout.passes == 2 && cell(0) != cell(1)
        };
        let h = (0..layout.sites.len()).filter(|&site| apart(site)).count();
        let consistency_loss = (0.007 + 0.003 * h as f64) * (0.8 + 0.4 * f64::from(noise(step ^ 0xAB)));
        let loss = 0.3 + 0.4 * (-(step as f64) / 80.0).exp() + 0.05 * f64::from(noise(step));
        rows.push(layout, &record(step, loss, consistency_loss, route)).unwrap_or_default();
    }
    rows
}

fn pick(layout: &Layout, step: u64, cell: usize) -> Pick {
    let experts = layout.experts[cell % 2];
    let drawn = |seed: u64| ((noise(seed) * experts as f32) as usize).min(experts - 1) as u8;
    let one = drawn(step * 131 + cell as u64);
    match layout.policy {
        RoutingPolicy::PerToken => {
            Pick::PerToken((0..MANY).map(|n| drawn((step * 131 + cell as u64) * 977 + n)).collect())
        }
        RoutingPolicy::PerExample => {
            Pick::PerExample((0..MANY).map(|n| drawn((step * 131 + cell as u64) * 977 + n)).collect())
        }
        _ => Pick::One(one),
    }
}

fn record(step: u64, loss: f64, consistency_loss: f64, route: Route) -> StepRecord {
    StepRecord {
        step,
        epoch: 0.0,
        loss,
        task_loss: loss,
        consistency_loss,
        learning_rate: 1e-3,
        grad_norm: 1.0,
        tokens: 1000,
        seconds: 0.1,
        routes: vec![route],
    }
}
