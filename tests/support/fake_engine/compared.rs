//! Invented comparisons of merged and unmerged.

use super::data::{noise, scores};
use adamix::protocol::*;

/// A difference in accuracy whose 95 % interval is this wide to both sides, and a loss that follows it.
pub fn apart(value: f64, half: f64) -> PairedDifference {
    let p = if value.abs() > half { 0.0005 } else { 0.4 };
    let primary = Interval { value, low: value - half, high: value + half, p };
    PairedDifference { primary, loss: primary.negated(), accuracy: Some(primary) }
}

/// Merged against unmerged.
pub fn eval_report(random_routes: usize) -> EvalReport {
    let report = unpaired_report(random_routes);
    let less = |score: f64| apart(score - report.merged.primary, 0.004);
    let way = |parameters, forwards| WayCost { parameters, forwards, multiply_adds: 7_000_000 * forwards };
    let mean = report.random_band().mean;
    let paired = PairedReport {
        resamples: 2000,
        random_mean: (random_routes > 0).then(|| less(mean)),
        fixed: report.fixed.iter().map(|scores| less(scores.primary)).collect(),
        ensemble: (random_routes > 0).then(|| less(report.ensemble.primary)),
        base: None,
    };
    let costs =
        Costs { merged: way(4096, 1), route: way(16_384, 1), ensemble: way(16_384, random_routes), base: way(0, 1) };
    EvalReport {
        paired: Some(Box::new(paired)),
        costs: Some(Box::new(costs)),
        confusion: vec![vec![243, 77], vec![74, 246]],
        ..report
    }
}

/// The same as an older version recorded it, without intervals and costs.
pub fn unpaired_report(random_routes: usize) -> EvalReport {
    EvalReport {
        metric: "accuracy".to_owned(),
        higher_is_better: true,
        rows: 640,
        merged: scores(0.764),
        merged_with: Some(MergedWith::UniformWeights),
        random: (0..random_routes as u64).map(|i| scores(0.738 + 0.02 * f64::from(noise(i)))).collect(),
        fixed: (0..4).map(|i| scores(0.735 + 0.02 * f64::from(noise(77 + i)))).collect(),
        ensemble: scores(0.761),
        majority: 0.5,
        ..EvalReport::default()
    }
}

/// A merge with weights, measured.
pub fn merge_report(plan: MergePlan) -> MergeReport {
    let paired = Some(apart(-0.003, 0.006));
    MergeReport { plan, metric: "accuracy".to_owned(), scores: scores(0.761), rows: 640, seconds: 0.3, paired }
}
