//! Invented plausible studies of a mixture for [`super::FakeEngine`].

pub use super::averages::averages;
use super::data::{apart, noise, scores, site_names};
use adamix::config::MixtureKind;
use adamix::protocol::*;

/// The answer to a study of experts of this kind.
pub fn study(study: &Study, kind: MixtureKind) -> StudyReport {
    match study {
        Study::Causes(plan) => StudyReport::Causes(Box::new(causes(plan.probe_rows))),
        Study::Averages => StudyReport::Averages(averages(kind)),
        Study::Rounding(plan) => StudyReport::Rounding(rounding(plan)),
        Study::Replay(plan) => StudyReport::Replay(Box::new(replay(*plan))),
        Study::Reroll(plan) => StudyReport::Reroll(Box::new(reroll(*plan))),
        Study::Routes(plan) => StudyReport::Routes(Box::new(routes(*plan))),
        Study::Fan(plan) => StudyReport::Fan(Box::new(fan(plan))),
        Study::Grid(plan) => StudyReport::Grid(Box::new(grid(plan))),
        Study::Plane(plan) => StudyReport::Plane(Box::new(plane(plan))),
        Study::Worth(plan) => StudyReport::Worth(Box::new(worth(plan))),
        Study::Spread(plan) => StudyReport::Spread(spread(plan)),
        Study::Rows(plan) => StudyReport::Rows(Box::new(rows(plan))),
    }
}

/// A bowl around the middle of the field, with four experts on a square around the merged model.
pub fn plane(plan: &PlanePlan) -> PlaneReport {
    let [x, y] = [[-1.0, 3.0], [-1.0, 3.0]];
    let loss = |x: f64, y: f64| 0.5 + 0.02 * ((x - 1.0).powi(2) + 2.0 * (y - 1.0).powi(2));
    let at = |ends: [f64; 2], i: usize| ends[0] + (ends[1] - ends[0]) * i as f64 / (plan.grid - 1) as f64;
    let losses: Vec<f64> =
        (0..plan.grid * plan.grid).map(|k| loss(at(x, k % plan.grid), at(y, k / plan.grid))).collect();
    let mark = |point: PlanePoint| {
        let (x, y, off) = match point {
            PlanePoint::Expert(expert) => (2.0 * (expert % 2) as f64, 2.0 * (expert / 2) as f64, 0.1 * expert as f64),
            PlanePoint::Merged => (1.0, 1.0, 0.0),
            PlanePoint::Start => (-0.5, 0.4, 1.2),
        };
        let place = OnPlane { x, y, off };
        PlaneMark { point, place, loss: loss(x, y), standard_error: 0.01, accuracy: Some(0.7) }
    };
    let line = |[from, to]: [PlanePoint; 2]| PlaneLine {
        from,
        to,
        losses: (0..PlanePlan::places()).map(|i| 0.54 - 0.002 * i as f64).collect(),
        barrier: Barrier { height: 0.0012, standard_error: 0.0004, at: 0.5 },
    };
    let path = |expert: usize| PlanePath {
        expert,
        steps: vec![0, 120, 240],
        places: [0.1, 0.5, 1.0]
            .map(|s| OnPlane { x: s * 2.0 * (expert % 2) as f64, y: s * 2.0 * (expert / 2) as f64, off: 0.3 })
            .to_vec(),
    };
    PlaneReport {
        step: 240,
        points: plan.points,
        marks: (0..4).map(PlanePoint::Expert).chain([PlanePoint::Merged, PlanePoint::Start]).map(mark).collect(),
        grid: plan.grid,
        x,
        y,
        accuracy: Some(losses.iter().map(|loss| 1.2 - loss).collect()),
        losses,
        lines: plan.lines().into_iter().map(line).collect(),
        paths: (0..4).map(path).collect(),
        probe_rows: plan.probe_rows,
        forwards: plan.forwards(4),
        seconds: 3.1,
    }
}

/// Four experts of which two are close, and none is worth more than chance.
pub fn worth(plan: &WorthPlan) -> WorthReport {
    let effects = |scale: f64| ExpertEffects {
        values: (0..4).map(|i| scale * (0.02 + 0.001 * f64::from(noise(i)))).collect(),
        standard_errors: vec![0.002; 4],
        null_band: [scale * 0.018, scale * 0.023],
        p: 0.41,
    };
    let cost = |value: f64| Estimate { value, se: 0.0008 };
    let pairs = (0..4usize).flat_map(|j| (0..j).map(move |i| [i, j]));
    let pair = |experts: [usize; 2]| {
        let seed = (experts[0] * 8 + experts[1]) as u64;
        let by_bank: Vec<f64> = (0..4).map(|bank| 0.5 + 0.1 * f64::from(noise(seed * 16 + bank))).collect();
        ExpertPair {
            experts,
            cosine: by_bank.iter().sum::<f64>() / 4.0,
            by_bank,
            drop_first: cost(0.001),
            drop_second: cost(-0.0004),
            as_one: cost(0.0002),
        }
    };
    let bank = |module: String| BankOfPairs { module, side: Side::Down, chance: 0.022 };
    WorthReport {
        step: 240,
        experts: 4,
        loss_all: 0.512,
        loss_none: 0.597,
        shapley: Some(effects(1.0)),
        leave_one_out: effects(0.1),
        pairs: pairs.map(pair).collect(),
        banks: site_names().into_iter().map(bank).collect(),
        twin_limit: 0.59,
        twin_p: 0.3,
        probe_rows: plan.probe_rows,
        forwards: WorthPlan::forwards(4),
        seconds: 0.9,
    }
}

/// Gaps that grow with the square of the factor; merging gains less than the ensemble.
pub fn spread(plan: &SpreadPlan) -> SpreadReport {
    let merged = 0.59;
    let point = |&alpha: &f64| {
        let (jensen, merging) = (0.004 * alpha * alpha, 0.003 * alpha * alpha);
        let routes = merged + merging;
        SpreadPoint { alpha, routes, routes_standard_error: 0.0005 * alpha, ensemble: routes - jensen, jensen, merging }
    };
    SpreadReport {
        merged,
        points: plan.alphas.iter().map(point).collect(),
        routes: plan.routes,
        rows: 640,
        forwards: plan.forwards(),
        seconds: 2.0,
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

/// A step that came out again, bit for bit.
pub fn replay(plan: ReplayPlan) -> ReplayReport {
    let value = |(name, value): (&str, f64)| ReplayedValue { name: name.to_owned(), replayed: value, recorded: value };
    ReplayReport {
        replayed_step: plan.step,
        from: 400,
        steps_before: plan.step.saturating_sub(401),
        law: "per-batch".to_owned(),
        values: [("loss", 0.612_345_678_9), ("consistency_loss", 0.0123), ("grad_norm", 1.75)].map(value).to_vec(),
        modules: site_names(),
        routes_recorded: 1,
        routes: vec![adamix::mixture::Route {
            passes: 1,
            sites: 1,
            picks: vec![adamix::mixture::Pick::One(2), adamix::mixture::Pick::One(0)],
        }],
        weights: Some(ReplayedWeights { tensors: 20, differing: Vec::new() }),
        seconds: 0.4,
        ..ReplayReport::default()
    }
}

/// A batch whose loss is high under every route.
pub fn reroll(plan: RerollPlan) -> RerollReport {
    let roll = |of_step: u64, task_loss: f64, consistency_loss: f64| RolledLoss {
        of_step,
        loss: task_loss + consistency_loss,
        task_loss,
        consistency_loss,
    };
    let rolled = |i: usize| roll(plan.step, 0.80 + 0.01 * f64::from(noise(i as u64)), 0.01);
    let other = |i: usize| roll(plan.step + 1 + i as u64, 0.60 + 0.1 * f64::from(noise(1000 + i as u64)), 0.01);
    let (rolls, others): (Vec<_>, Vec<_>) = (0..plan.routes).map(|i| (rolled(i), other(i))).unzip();
    let own = roll(plan.step, 0.805, 0.01);
    let share = |of: fn(&RolledLoss) -> f64| {
        let all = |list: &[RolledLoss]| list.iter().map(of).collect::<Vec<_>>();
        RouteShare::of(of(&own), &all(&rolls), &all(&others)).unwrap_or_default()
    };
    RerollReport {
        rerolled_step: plan.step,
        from: 400,
        steps_before: plan.step.saturating_sub(401),
        law: "per-batch".to_owned(),
        consistency_weight: 1.0,
        recorded_loss: own.loss,
        loss: share(|roll| roll.loss),
        task_loss: share(|roll| roll.task_loss),
        own,
        rolls,
        others,
        seconds: 1.2,
        ..RerollReport::default()
    }
}

/// All 16 routes of two layers of four experts.
pub fn routes(plan: RoutesPlan) -> RoutesReport {
    let effects = [[-0.003, 0.001, 0.0, 0.002], [0.001, -0.001, 0.002, -0.002]];
    let factor = |layer: usize| RouteFactor {
        module: format!("layers.{layer}.ffn"),
        side: Side::Down,
        effects: effects[layer].to_vec(),
        share: Some([0.6, 0.4][layer]),
    };
    let route = |i: usize| {
        let (a, b) = (i / 4, i % 4);
        let predicted = 0.59 + effects[0][a] + effects[1][b];
        let loss = predicted + 0.0002 * f64::from(noise(i as u64));
        MeasuredRoute { experts: vec![a as u8, b as u8], loss, predicted: Some(predicted) }
    };
    let routes: Vec<MeasuredRoute> = (0..16).map(route).collect();
    let losses = || routes.iter().map(|route| route.loss);
    let merged = 0.5895;
    RoutesReport {
        possible: Some(16),
        all: true,
        factors: vec![factor(0), factor(1)],
        mean: losses().sum::<f64>() / 16.0,
        sd: 0.0024,
        range: [losses().fold(f64::INFINITY, f64::min), losses().fold(0.0, f64::max)],
        merged,
        below_merged: losses().filter(|loss| *loss < merged).count(),
        ensemble: 0.5889,
        explained: Some(0.98),
        probe_rows: plan.probe_rows,
        layer_passes: 5,
        without_sharing: 32,
        seconds: 0.8,
        routes,
        ..RoutesReport::default()
    }
}

/// Routes that part in the upper of two layers.
pub fn fan(plan: &FanPlan) -> FanReport {
    let line = |route: usize| FanLine {
        experts: vec![(route % 4) as u8, 0, (route / 4 % 4) as u8, 0],
        at: vec![1.2, 1.25, 1.25 + 0.4 * (f64::from(noise(route as u64)) - 0.5)],
    };
    FanReport {
        plan: plan.clone(),
        weights_step: 800,
        text: "a gorgeous , witty , seductive movie .".to_owned(),
        scale: FanScale::LogOdds { class: "positive".to_owned() },
        layers: 2,
        lines: (0..plan.routes).map(line).collect(),
        layer_moves: vec![0.05, 0.12],
        layer_passes: 5 * plan.routes,
        seconds: 0.1,
        ..FanReport::default()
    }
}

/// Four experts below, one above.
pub fn grid(plan: &GridPlan) -> GridReport {
    let cell = |expert: usize| {
        let p = 0.7 + 0.05 * expert as f64;
        vec![1.0 - p, p]
    };
    GridReport {
        plan: plan.clone(),
        weights_step: 800,
        text: "a gorgeous , witty , seductive movie .".to_owned(),
        module: format!("layers.{}.ffn", plan.module),
        experts: [4, 1],
        drawn: [2, 0],
        labels: vec!["negative".to_owned(), "positive".to_owned()],
        scale: FanScale::LogOdds { class: "positive".to_owned() },
        cells: (0..4).map(cell).collect(),
        merged: vec![0.22, 0.78],
        seconds: 0.1,
        ..GridReport::default()
    }
}

/// A probe set under dragged weights.
pub fn reweighed(plan: &ReweighPlan) -> ReweighReport {
    ReweighReport {
        merge: plan.merge.clone(),
        metric: "accuracy".to_owned(),
        scores: scores(0.768),
        uniform: scores(0.764),
        rows: plan.probe_rows,
        layer_passes: 8,
        all_layer_passes: 16,
        kept_bytes: 3 << 20,
        seconds: 0.021,
    }
}
