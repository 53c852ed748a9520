//! Invented plausible studies of a mixture for [`super::FakeEngine`].

use super::data::{noise, scores, site_names};
use adamix::config::MixtureKind;
use adamix::protocol::*;

/// The answer to a study of experts of this kind.
pub fn study(study: &Study, kind: MixtureKind) -> StudyReport {
    match study {
        Study::Causes(plan) => StudyReport::Causes(Box::new(causes(plan.probe_rows))),
        Study::Averages => StudyReport::Averages(averages(kind)),
        Study::Rounding(plan) => StudyReport::Rounding(rounding(plan)),
    }
}

/// What the draw causes in four layers of four experts: no expert is special, and the lower layers matter.
pub fn causes(probe_rows: usize) -> CausesReport {
    let effect = |layer: usize, expert: usize| 0.002 * (f64::from(noise((layer * 8 + expert) as u64)) - 0.5);
    let pins = |layer: usize| LayerPins {
        layer,
        effects: (0..4).map(|expert| effect(layer, expert)).collect(),
        standard_errors: vec![0.0008; 4],
        null_band: [-0.0016, 0.0016],
        p: 0.4,
        adapter_off: 0.02 - 0.005 * layer as f64,
        adapter_off_standard_error: 0.004,
    };
    CausesReport {
        step: 240,
        consensus: vec![Some(0.79), Some(0.69), Some(0.74), Some(0.61)],
        pin_effects: (0..4).map(pins).collect(),
        probe_rows,
        forwards: 21,
        seconds: 1.2,
        ..CausesReport::default()
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
