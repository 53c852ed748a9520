//! The plots of a report.

use super::page::Page;
use crate::analysis::routing_stats::z_score;
use crate::figure::{self, Axis, Cells, Content, Curve, Figure, Lines, Mark, Score, Scores, Table};
use crate::format;
use crate::mixture::SIDES;
use crate::protocol::{EvalRecord, EvalReport, PairedDifference, Quantity, RunDetail, StepBucket, StepSample};

/// Half-life of the smoothing in steps, as in the window at first.
const HALF_LIFE: f64 = 10.0;
const BEST: figure::Color = [0x3A, 0x9B, 0xD0];
const BAD: figure::Color = [0xB3, 0x26, 0x1E];
const INK: figure::Color = [0x22, 0x26, 0x2B];
const GREY: figure::Color = [0x8A, 0x93, 0x9D];

type Field = fn(&StepSample) -> f32;

/// A smoothed curve over the range of its steps.
fn curve(run: &RunDetail, name: &str, color: figure::Color, half_life: f64, field: Field) -> Curve {
    let (mut sum, mut weight) = (0.0, 0.0);
    let (mut points, mut band) = (Vec::new(), Vec::new());
    for bucket in &run.history {
        let x = 0.5 * (bucket.min.step as f64 + bucket.max.step as f64);
        let [low, mean, high] = [&bucket.min, &bucket.mean, &bucket.max].map(|sample| f64::from(field(sample)));
        if ![low, mean, high].iter().all(|value| value.is_finite()) {
            continue;
        }
        let keep = if half_life > 0.0 { (-f64::from(bucket.n) / half_life).exp2() } else { 0.0 };
        (sum, weight) = (sum * keep + mean * (1.0 - keep), weight * keep + (1.0 - keep));
        points.push([x, sum / weight]);
        band.push([x, low, high]);
    }
    // Single steps have no range: then the band is the distance from the smoothed curve.
    if band.iter().all(|[_, low, high]| low == high) {
        for (band, point) in band.iter_mut().zip(&points) {
            *band = [band[0], band[1].min(point[1]), band[2].max(point[1])];
        }
    }
    Curve {
        name: name.to_owned(),
        color,
        points,
        band: if half_life > 0.0 { band } else { Vec::new() },
        ..Curve::default()
    }
}

fn marks(run: &RunDetail) -> Vec<Mark> {
    let best = EvalRecord::best_of(&run.evals, run.start.higher_is_better);
    let mut marks: Vec<Mark> = best
        .map(|eval| Mark { x: eval.step as f64, name: "best evaluation".to_owned(), color: BEST })
        .into_iter()
        .collect();
    let resumed = run.resumed.iter().map(|step| Mark { x: *step as f64, name: "resumed".to_owned(), color: GREY });
    marks.extend(resumed);
    let laws = run.laws.iter();
    marks.extend(laws.map(|change| Mark { x: change.step as f64, name: format!("law {}", change.law), color: BEST }));
    let bad = run.history.iter().filter(|bucket| !bucket.mean.loss.is_finite());
    marks.extend(bad.take(5).map(|bucket| Mark {
        x: bucket.max.step as f64,
        name: "not a finite number".to_owned(),
        color: BAD,
    }));
    marks
}

fn lines(title: &str, curves: Vec<Curve>, marks: Vec<Mark>, limits: [f64; 2]) -> Figure {
    let x = Axis { name: "step".to_owned(), ..Axis::default() };
    let y = Axis { limits: Some(limits), ..Axis::default() };
    Figure::new(title, Content::Lines(Lines { x, y, curves, marks }))
}

/// Losses, the metric, and what belongs to the optimiser.
pub fn curves(page: &mut Page, run: &RunDetail) {
    page.section("Curves");
    if run.history.is_empty() && run.evals.is_empty() {
        return page.note("No step was made.");
    }
    page.note("Lines are smoothed (a step's weight halves every 10 steps); the bands reach from the smallest to the largest value.");
    let series = figure::SERIES;
    let limits = |quantity: Quantity| quantity.limits(&run.start.metric);
    let evals = |name: &str, color, dashed, value: fn(&crate::protocol::Scores) -> f64| {
        let points = run.evals.iter().map(|eval| [eval.step as f64, value(&eval.merged)]).collect();
        Curve { name: name.to_owned(), color, points, dots: true, dashed, ..Curve::default() }
    };
    let unit = if run.start.labels.is_empty() && run.config.data.task != crate::config::Task::Text {
        "squared error"
    } else {
        "nats"
    };
    let loss = vec![
        curve(run, "loss", series[0], HALF_LIFE, |s| s.loss),
        curve(run, "task loss", series[1], HALF_LIFE, |s| s.task_loss),
        evals("evaluation loss, merged", series[2], true, |scores| scores.loss),
    ];
    page.figure(&lines(&format!("Loss ({unit})"), loss, marks(run), limits(Quantity::Loss)));
    if run.start.metric != "loss" && !run.evals.is_empty() {
        let title = format!("{} of the merged model", run.start.metric);
        let curve = evals(&run.start.metric, series[2], false, |scores| scores.primary);
        page.figure(&lines(&title, vec![curve], marks(run), limits(Quantity::EvalMetric)));
    }
    if run.config.mixture.consistency {
        let title = format!("Consistency term ({unit}), before λ");
        page.figure(&lines(
            &title,
            vec![curve(run, "consistency", series[3], HALF_LIFE, |s| s.consistency_loss)],
            Vec::new(),
            limits(Quantity::Consistency),
        ));
    }
    page.folded("Learning rate, gradient norm, speed", |page| {
        page.figure(&lines(
            "Learning rate",
            vec![curve(run, "learning rate", series[5], 0.0, |s| s.learning_rate)],
            Vec::new(),
            limits(Quantity::LearningRate),
        ));
        page.figure(&lines(
            "Gradient norm before clipping",
            vec![curve(run, "gradient norm", series[4], HALF_LIFE, |s| s.grad_norm)],
            Vec::new(),
            limits(Quantity::GradNorm),
        ));
        let speed = |bucket: &StepBucket| {
            let seconds = f64::from(bucket.mean.seconds);
            (seconds > 0.0).then(|| [bucket.max.step as f64, f64::from(bucket.mean.tokens) / seconds])
        };
        let points = run.history.iter().filter_map(speed).collect();
        let speed = Curve { name: "tokens a second".to_owned(), color: series[7], points, ..Curve::default() };
        page.figure(&lines(
            "Tokens a second, both passes counted",
            vec![speed],
            Vec::new(),
            limits(Quantity::TokensPerSecond),
        ));
    });
}

/// Merged against unmerged: the plot and the table.
pub fn scores(page: &mut Page, run: &RunDetail) {
    let Some(report) = run.end.as_ref().and_then(|end| end.report.as_ref()) else { return };
    page.section("Merged against unmerged");
    let step = run.end.as_ref().map_or_else(String::new, |end| format!(", weights of step {}", end.weights_step()));
    page.note(&format!(
        "Measured at the end of training{step}, on {}. Random routes: each fixes one draw per layer for all rows.",
        format::counted(report.rows, "evaluation row")
    ));
    let better = if report.higher_is_better { "more is better" } else { "less is better" };
    let name = format!("{}, {better}", report.metric);
    let entries = entries(report);
    let reference = report.majority.is_finite().then(|| (report.majority, "baseline".to_owned()));
    let content = Scores { axis: Axis { name, ..Axis::default() }, entries, reference };
    page.figure(&Figure::new("Scores of all variants", Content::Scores(content)));
    if let Some(paired) = &report.paired {
        page.note(&format!(
            "Whiskers: 95 % intervals of the difference from the merged model on the same rows (paired bootstrap, B = {}), around each variant.",
            format::count(paired.resamples)
        ));
    }
    page.table(&comparison(report));
    confusion(page, &report.confusion, &run.start.labels);
}

/// How often the merged model takes each class for which.
fn confusion(page: &mut Page, counts: &[Vec<u64>], labels: &[String]) {
    if counts.is_empty() || counts.len() != labels.len() {
        return;
    }
    page.note("Confusion matrix of the merged model: a line for each right class, a column for each answer; the colour is the share of the line.");
    let line = |line: &Vec<u64>| {
        let all = line.iter().sum::<u64>().max(1) as f64;
        line.iter().map(|&count| (count as f64, shade(4.0 * count as f64 / all))).collect()
    };
    let cells = Cells {
        rows: labels.to_vec(),
        columns: labels.to_vec(),
        cells: counts.iter().map(line).collect(),
        ..Cells::default()
    };
    page.figure(&Figure::new("Confusion matrix of the merged model", Content::Cells(cells)));
}

fn entries(report: &EvalReport) -> Vec<Score> {
    let p = report.merged.primary;
    let share = report.metric == "accuracy" && report.rows > 0 && (0.0..=1.0).contains(&p);
    let paired = report.paired.as_deref();
    let interval = |of: Option<PairedDifference>| of.map(|of| [p + of.primary.low, p + of.primary.high]);
    let error = (share && paired.is_none()).then(|| (p * (1.0 - p) / report.rows as f64).sqrt());
    let entry = |name: &str, value: f64, color| Score { name: name.to_owned(), value, color, ..Score::default() };
    let mut entries = vec![Score { error, ..entry(report.merged_name(), p, INK) }];
    if !report.random.is_empty() {
        let band = report.random_band();
        entries.push(Score {
            band: Some([band.min, band.max]),
            singles: report.random.iter().map(|scores| scores.primary).collect(),
            interval: interval(paired.and_then(|paired| paired.random_mean)),
            ..entry("Random routes, mean", band.mean, GREY)
        });
    }
    for (i, scores) in report.fixed.iter().enumerate() {
        let interval = interval(paired.and_then(|paired| paired.fixed.get(i).copied()));
        entries.push(Score { interval, ..entry(&format!("Expert {i} only"), scores.primary, figure::SERIES[i % 8]) });
    }
    if !report.random.is_empty() {
        let interval = interval(paired.and_then(|paired| paired.ensemble));
        entries.push(Score { interval, ..entry("Ensemble", report.ensemble.primary, INK) });
    }
    entries
}

fn comparison(report: &EvalReport) -> Table {
    let names: Vec<&str> =
        report.merged.named().into_iter().filter(|(_, value)| value.is_some()).map(|(name, _)| name).collect();
    let mut table = Table::new(["variant"].into_iter().chain(names.iter().copied()));
    let mut push = |name: String, scores: &crate::protocol::Scores| {
        let values: Vec<_> = scores
            .named()
            .into_iter()
            .filter(|(known, _)| names.contains(known))
            .map(|(_, value)| value.into())
            .collect();
        table.push(std::iter::once(name.into()).chain(values));
    };
    push(report.merged_name().to_owned(), &report.merged);
    report.random.iter().enumerate().for_each(|(i, scores)| push(format!("Random route {}", i + 1), scores));
    report.fixed.iter().enumerate().for_each(|(i, scores)| push(format!("Expert {i} only"), scores));
    if !report.random.is_empty() {
        push("Ensemble of the random routes".to_owned(), &report.ensemble);
    }
    match &report.base {
        Some(base) => push("Base model, untrained".to_owned(), base),
        None if report.majority.is_finite() => {
            let row = names
                .iter()
                .map(|name| if *name == report.metric { report.majority.into() } else { crate::figure::Cell::Empty });
            table.push(std::iter::once("Always the same answer".into()).chain(row));
        }
        None => {}
    }
    table
}

/// How often each expert was drawn.
pub fn routing(page: &mut Page, run: &RunDetail) {
    let Some(routing) = &run.routing else { return };
    let most = routing.experts[0].max(routing.experts[1]);
    let places = (0..routing.sites.len()).flat_map(|site| SIDES.map(|side| (site, side)));
    let drawn: Vec<_> = places.filter(|(_, side)| routing.experts[*side as usize] > 1).collect();
    if drawn.is_empty() {
        return;
    }
    page.section("Routing");
    page.note("How often each expert was drawn. Colours: z-scores, the distance from an equal share in standard deviations (blue: fewer, orange: more; strongest at 4).");
    let cell = |site: usize, side: usize, expert: usize| {
        let count = routing.counts.get(site * 2 + side).and_then(|counts| counts.get(expert)).copied();
        let draws = routing.draws.get(site * 2 + side).copied().unwrap_or(0);
        count.map_or((f64::NAN, [255; 3]), |count| (count as f64, shade(z_score(count, draws, routing.experts[side]))))
    };
    let cells = Cells {
        rows: drawn
            .iter()
            .map(|(site, side)| format!("{} {}", routing.sites[*site], if *side as usize == 0 { "down" } else { "up" }))
            .collect(),
        columns: (0..most).map(|expert| format!("expert {expert}")).collect(),
        cells: drawn
            .iter()
            .map(|&(site, side)| (0..most).map(|expert| cell(site, side as usize, expert)).collect())
            .collect(),
        ..Cells::default()
    };
    page.figure(&Figure::new(
        format!("Draws of each expert after {}", format::counted(routing.step, "step")),
        Content::Cells(cells),
    ));
}

/// Blue for fewer than expected, orange for more.
fn shade(z: f64) -> figure::Color {
    let end: [f64; 3] = if z < 0.0 { [0.0, 82.0, 155.0] } else { [190.0, 76.0, 0.0] };
    let share = (z.abs() / 4.0).clamp(0.0, 1.0);
    end.map(|channel| (247.0 + (channel - 247.0) * share).round() as u8)
}
