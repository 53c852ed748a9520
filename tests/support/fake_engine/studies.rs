//! Invented plausible studies of a mixture for [`super::FakeEngine`].

use super::data::{apart, noise, scores, site_names};
use adamix::config::MixtureKind;
use adamix::protocol::*;

/// The answer to a study of experts of this kind.
pub fn study(study: &Study, kind: MixtureKind) -> StudyReport {
    match study {
        Study::Causes(_) => StudyReport::Causes(Box::default()),
        Study::Averages => StudyReport::Averages(averages(kind)),
        Study::Rounding(plan) => StudyReport::Rounding(rounding(plan)),
        Study::Rows(plan) => StudyReport::Rows(Box::new(rows(plan))),
    }
}

/// Two ways on 40 rows of two classes: the second turns every tenth row over, from right to wrong and back by turns.
pub fn rows(plan: &RowsPlan) -> RowsReport {
    let labels = ["negative", "positive"].map(str::to_owned).to_vec();
    let entry = |row: usize| {
        let class = row % 2;
        let first_right = row % 5 != 3;
        let second_right = first_right != row.is_multiple_of(10);
        let sure = |right: bool, p: f64| {
            let class = if right { class } else { 1 - class };
            RowAnswer::Class { class, probability: p, of_label: if right { p } else { 1.0 - p } }
        };
        let [a, b] = [0.6 + 0.3 * f64::from(noise(row as u64)), 0.6 + 0.3 * f64::from(noise(500 + row as u64))];
        let loss = |right: bool, p: f64| if right { -p.ln() } else { -(1.0 - p).ln() };
        RowEntry {
            row,
            text: format!("row {} of a film that was watched twice", row + 1),
            pair: None,
            tokens: 4 + row % 12,
            label: Some(KnownAnswer::Class(class)),
            losses: [loss(first_right, a), loss(second_right, b)],
            answers: [sure(first_right, a), sure(second_right, b)],
        }
    };
    let mut entries: Vec<RowEntry> = (0..40).map(entry).collect();
    entries.sort_by(|a, b| b.difference().abs().total_cmp(&a.difference().abs()));
    let ahead = entries.iter().filter(|entry| entry.difference() > 0.0).count();
    let bin = |i: usize| ReliabilityBin {
        from: 0.1 * i as f64,
        to: 0.1 * (i + 1) as f64,
        rows: if i > 4 { 8 } else { 0 },
        confidence: 0.1 * i as f64 + 0.05,
        accuracy: 0.1 * i as f64 + 0.02,
        interval: [0.1 * i as f64 - 0.1, (0.1 * i as f64 + 0.15).min(1.0)],
    };
    let calibration = |ece: f64| Calibration {
        bins: (0..10).map(bin).collect(),
        ece,
        brier: 0.31,
        overconfidence: 0.021,
        risk_coverage: (1..=20).map(|i| [0.05 * f64::from(i), 0.01 * f64::from(i)]).collect(),
        aurc: 0.105,
    };
    let way = |way: &Way, accuracy: f64, ahead: usize, forwards: usize, confusion: [[u64; 2]; 2]| WayRows {
        name: way.name(),
        scores: scores(accuracy),
        ahead,
        cost: Some(WayCost { parameters: 4096 * forwards, forwards, multiply_adds: 7_000_000 * forwards }),
        seconds: 0.4 * forwards as f64,
        confusion: confusion.map(Vec::from).to_vec(),
        calibration: Some(calibration(0.03 * forwards as f64)),
        residuals: None,
    };
    let slice = |by, name: &str, rows, range, value: f64| RowSlice {
        by,
        name: name.to_owned(),
        range,
        rows,
        losses: [0.5, 0.52],
        accuracies: Some([[0.8, 0.58, 0.92], [0.7, 0.48, 0.85]]),
        difference: Some(apart(value, 0.12)),
    };
    RowsReport {
        plan: plan.clone(),
        metric: "accuracy".to_owned(),
        higher_is_better: true,
        labels,
        rows: 40,
        of: 640,
        resamples: 2000,
        ways: [
            way(&plan.first, 0.8, ahead, plan.first.forwards(), [[16, 4], [4, 16]]),
            way(&plan.second, 0.7, 40 - ahead, plan.second.forwards(), [[12, 8], [4, 16]]),
        ],
        difference: PairedDifference { loss: apart(0.05, 0.02).primary, ..apart(-0.1, 0.12) },
        flips: Some(Flips { both_right: 28, only_first: 4, only_second: 0, both_wrong: 8, wrong_apart: 0 }),
        slices: vec![
            slice(SliceBy::Label, "negative", 20, None, -0.2),
            slice(SliceBy::Label, "positive", 20, None, 0.0),
            slice(SliceBy::Length, "4 to 7 tokens", 14, Some([4.0, 7.0]), -0.1),
            slice(SliceBy::Length, "8 to 15 tokens", 26, Some([8.0, 15.0]), -0.1),
        ],
        entries,
        seconds: 1.9,
    }
}

/// Three averages of four experts of this kind, without a shared side.
pub fn averages(kind: MixtureKind) -> AveragesReport {
    let lora = kind == MixtureKind::Lora;
    let site = |(i, name): (usize, String)| {
        let x = f64::from(noise(i as u64));
        AveragedSite {
            name: name.replace(".ffn", ".attention.self.query"),
            factors_norm: 0.9 + 0.2 * x,
            deltas_norm: 1.1 + 0.2 * x,
            off: 0.35 + 0.3 * x,
            crossed: 0.70 + 0.1 * x,
            rank: 4,
            deltas_rank: 16,
            truncated_off: 0.2 + 0.1 * x,
            parameters: 1024,
            deltas_parameters: 4096,
        }
    };
    let sites: Vec<AveragedSite> = site_names().into_iter().enumerate().filter(|_| lora).map(site).collect();
    let way = |average, accuracy, parameters, forwards, kl: f64| AverageScore {
        average,
        scores: scores(accuracy),
        parameters,
        forwards,
        from_outputs: (kl > 0.0).then_some(FromOutputs {
            largest: 8.0 * kl,
            kl: Some(kl),
            changed: (200.0 * kl) as usize,
        }),
    };
    let mut ways = vec![way(Average::Factors, 0.764, 4096, 1, 0.012)];
    if lora {
        ways.push(way(Average::Deltas, 0.767, 16_384, 1, 0.006));
        ways.push(way(Average::Truncated, 0.765, 4096, 1, 0.009));
    }
    ways.push(way(Average::Outputs, 0.769, 16_384, 4, 0.0));
    AveragesReport {
        kind,
        experts: 4,
        shared: false,
        metric: "accuracy".to_owned(),
        higher_is_better: true,
        rows: 640,
        probe_rows: 64,
        sites,
        ways,
        without_deltas: (!lora).then(|| "An adapter has a nonlinearity between its two matrices.".to_owned()),
        seconds: 1.4,
    }
}

/// Budgets of all formats of these exports; f16 keeps the certificate, bf16 does not.
pub fn rounding(plan: &RoundingPlan) -> RoundingReport {
    let mut targets: Vec<ExportTarget> = plan.targets.iter().map(|target| target.rounds_as()).collect();
    targets.sort_unstable();
    targets.dedup();
    let files = |target: ExportTarget| FilesBudget {
        target,
        formats: target.dtypes().into_iter().map(|dtype| format(dtype, plan.causes)).collect(),
    };
    RoundingReport {
        merge: plan.merge.clone(),
        metric: "accuracy".to_owned(),
        higher_is_better: true,
        rows: 640,
        probe_rows: 64,
        exact: scores(0.764),
        files: targets.into_iter().map(files).collect(),
        seconds: 2.3,
    }
}

fn format(dtype: NumberFormat, causes: bool) -> FormatBudget {
    // Change of a logit, of the weights, allowed change, flips, bytes.
    let (measured, norm, allowed, flipped, bytes) = match dtype {
        NumberFormat::F32 => (0.0, 0.0, 3.2e-5, 0, 133_120),
        NumberFormat::F16 => (1.1e-3, 1.7e-4, 3.2e-2, 0, 66_560),
        NumberFormat::Bf16 => (0.31, 1.4e-3, 0.256, 2, 66_560),
        _ => (0.12, 4.4e-3, 0.512, 1, 35_360),
    };
    let part = |(i, part): (usize, String)| RoundingCause { part, change: measured * 0.6 / (i + 1) as f64 };
    let names = (0..site_names().len()).rev().map(|layer| format!("layers.{layer}"));
    let changed = causes && measured > 0.0;
    let list: Vec<RoundingCause> =
        names.chain(["classifier.dense".to_owned()]).enumerate().filter(|_| changed).map(part).collect();
    let predicted = causes.then(|| list.iter().map(|cause| cause.change).sum());
    FormatBudget {
        dtype,
        bytes,
        weights: WeightChange {
            values: 33_280,
            largest: 0.09 * norm,
            tensor: (norm > 0.0).then(|| "layers.2.ffn.down.weight".to_owned()),
            relative: 1.3 * norm,
            ulps: if norm > 0.0 { 0.5 } else { 0.0 },
            norm,
            ..WeightChange::default()
        },
        predicted,
        measured,
        allowed,
        flipped,
        kept: measured <= allowed,
        problem: None,
        scores: Some(scores(0.764 - 0.002 * flipped as f64)),
        causes: list,
    }
}
