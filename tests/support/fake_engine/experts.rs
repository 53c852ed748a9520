//! Invented plausible experts for [`super::FakeEngine`].

use super::data::{SITES, noise, sites_of};
use adamix::analysis::expert_stats::HostBank;
use adamix::config::MixtureConfig;
use adamix::protocol::*;

/// How far the experts of a bank have become one: from strangers on.
fn consensus(cell: usize, step: u64) -> f64 {
    let together = 1.0 - (-(step as f64) / 80.0).exp();
    0.5 + (0.2 + 0.2 * f64::from(noise(cell as u64))) * together
}

/// How far apart the experts are.
pub fn distances(step: u64) -> DistanceSample {
    let grow = (step as f32 / 60.0).sqrt();
    let value = |i: usize, base: f32| base * grow * (0.7 + 0.6 * noise(i as u64));
    DistanceSample {
        step,
        pairwise: (0..SITES * 2).map(|i| if i % 2 == 1 { 0.0 } else { 2.0 + value(i, 0.4) }).collect(),
        from_start: (0..SITES * 2).map(|i| value(i, 0.5)).collect(),
        consensus: (0..SITES * 2).map(|i| i.is_multiple_of(2).then(|| consensus(i, step))).collect(),
    }
}

/// The experts after so many steps.
pub fn experts(mixture: &MixtureConfig, step: u64, focus: (usize, Side)) -> ExpertSnapshot {
    let grow = (step as f32 / 60.0).sqrt();
    let side_snapshot = |cell: usize| {
        let n = if cell.is_multiple_of(2) { mixture.down_experts() } else { mixture.up_experts() };
        let (rows, cols) = if cell.is_multiple_of(2) { (16, 128) } else { (128, 16) };
        let stats = |e: usize| ExpertStats {
            norm: 0.9 + 0.2 * grow * noise((cell * 8 + e) as u64),
            bias_norm: 0.05 * grow,
            mean: 0.001 * (noise(e as u64) - 0.5),
            std: 0.02 + 0.002 * grow,
            max_abs: 0.09,
            from_start: 0.5 * grow * (0.7 + 0.6 * noise((cell * 8 + e) as u64)),
            from_mean: 0.6 + 0.1 * noise((cell * 8 + e) as u64),
            histogram: (0..HISTOGRAM_BINS)
                .map(|bin| {
                    let x = (bin as f32 - 31.5 + noise(e as u64)) / 12.0;
                    (160.0 * (-0.5 * x * x).exp()) as u32
                })
                .collect(),
        };
        let pair = |f: &dyn Fn(u64) -> f32, same: f32| {
            (0..n * n)
                .map(|k| {
                    let (i, j) = (k / n, k % n);
                    if i == j { same } else { f((cell * 64 + i.min(j) * 8 + i.max(j)) as u64) }
                })
                .collect()
        };
        SideSnapshot {
            rows,
            cols,
            range: [-0.09, 0.09],
            experts: (0..n).map(stats).collect(),
            cosine_of: CosineOf::Change,
            cosine: pair(&|seed| 0.2 + 0.5 * noise(seed), 1.0),
            distance: pair(&|seed| 1.0 + noise(seed), 0.0),
            consensus: (n > 1).then(|| consensus(cell, step)),
        }
    };
    let sites = sites_of(mixture);
    let sides: Vec<SideSnapshot> = (0..sites.len() * 2).map(side_snapshot).collect();
    let (site, side) = (focus.0.min(sites.len() - 1), focus.1);
    let shown = &sides[site * 2 + side as usize];
    let weights = |e: usize| -> Vec<f32> {
        (0..shown.rows * shown.cols)
            .map(|i| 0.18 * (noise((i * 4 + e) as u64) + noise((i * 31 + e * 7) as u64) - 1.0))
            .collect()
    };
    let bank = |cell: usize| {
        let side: &SideSnapshot = &sides[cell];
        let experts = side.experts.len();
        let weight = (0..experts * side.rows * side.cols).map(|i| 0.2 * (noise((i + cell) as u64) - 0.5)).collect();
        HostBank { experts, rows: side.rows, cols: side.cols, weight, bias: Vec::new() }
    };
    let (mean, start) = (weights(40), weights(41));
    let maps = (0..shown.experts.len()).map(|e| HeatMap::of(&weights(e), &mean, &start, shown.rows, shown.cols));
    let heat_maps = maps.collect();
    let directions = Some(Directions::of([&bank(2 * site), &bank(2 * site + 1)], side as usize));
    ExpertSnapshot { step, sites, sides, focus: (site, Some(side)), heat_maps, directions }
}
