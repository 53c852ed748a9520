//! The picture of a [`Scale`]: time above, memory below, one column for each axis, both scales logarithmic.

use super::fit::Fit;
use super::scale::{Scale, Sweep};
use std::fmt::Write as _;

const PANEL: [f64; 2] = [200.0, 150.0];
/// Between panels: room for an axis's numbers and its title.
const GAP: [f64; 2] = [58.0, 62.0];
const LEFT: f64 = 66.0;
const TOP: f64 = 66.0;
const TIME: &str = "#0072B2";
const MEMORY: &str = "#D55E00";

/// A logarithmic axis: `low..high` onto `from..to` pixels.
struct Axis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Axis {
    /// Room for all values, at least from half to twice, so that flat things look flat.
    fn around(values: impl Iterator<Item = f64> + Clone, from: f64, to: f64) -> Self {
        let low = values.clone().fold(f64::INFINITY, f64::min);
        let high = values.fold(0.0, f64::max);
        let (middle, half) = ((low * high).sqrt(), f64::max((high / low).sqrt() * 1.15, 2.0));
        Self { low: middle / half, high: middle * half, from, to }
    }

    fn at(&self, value: f64) -> f64 {
        self.from + (self.to - self.from) * (value / self.low).ln() / (self.high / self.low).ln()
    }

    /// Round numbers in the range: 1, 2 and 5 of each power of ten, or only the 1 when there are many.
    fn ticks(&self) -> Vec<f64> {
        let powers = self.low.log10().floor() as i32..=self.high.log10().ceil() as i32;
        let steps: &[f64] = if self.high / self.low > 500.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let all = powers.flat_map(|power| steps.iter().map(move |step| step * 10f64.powi(power)));
        all.filter(|tick| (self.low..=self.high).contains(tick)).collect()
    }
}

/// Up to three digits that matter.
fn number(value: f64) -> String {
    match value {
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}").trim_end_matches(".0").to_owned(),
        v => format!("{v:.2}").trim_end_matches('0').trim_end_matches('.').to_owned(),
    }
}

/// One curve: its points (size, smallest, middle, largest) and the line through them.
struct Curve {
    points: Vec<(f64, [f64; 3])>,
    fit: Option<Fit>,
    color: &'static str,
}

fn time(sweep: &Sweep) -> Curve {
    let ms = |s: f64| 1e3 * s;
    let point = |p: &super::scale::Point| (p.size as f64, [p.seconds.min, p.seconds.median, p.seconds.max].map(ms));
    let fit = sweep.time.map(|fit| Fit { factor: ms(fit.factor), ..fit });
    Curve { points: sweep.points.iter().map(point).collect(), fit, color: TIME }
}

fn memory(sweep: &Sweep) -> Curve {
    let point = |p: &super::scale::Point| p.step_mb.map(|mb| (p.size as f64, [mb; 3]));
    Curve { points: sweep.points.iter().filter_map(point).collect(), fit: sweep.memory, color: MEMORY }
}

/// The whole picture as SVG.
pub fn svg(scale: &Scale) -> String {
    let columns = scale.sweeps.len().max(1) as f64;
    let width = LEFT + columns * PANEL[0] + (columns - 1.0) * GAP[0] + 24.0;
    let height = TOP + 2.0 * PANEL[1] + GAP[1] + 56.0;
    let mut out = String::new();
    // Writing to a string cannot fail.
    writeln!(
        out,
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0} {height:.0}" width="{width:.0}" height="{height:.0}" font-family="sans-serif" font-size="11" fill="#222222">
<title>Cost of a training step as work grows</title>
<rect width="{width:.0}" height="{height:.0}" fill="#ffffff"/>
<text x="{LEFT}" y="24" font-size="16" font-weight="bold">Cost of a training step as work grows</text>
<text x="{LEFT}" y="42" fill="#555555">Base: {}; {} threads; {} timed steps a point: fastest (dot) to slowest (bar); dashed: the fit, cost = size^exponent</text>"##,
        scale.base, scale.threads, scale.steps
    )
    .ok();
    for (column, sweep) in scale.sweeps.iter().enumerate() {
        let x = LEFT + column as f64 * (PANEL[0] + GAP[0]);
        panel(&mut out, [x, TOP], &time(sweep), "milliseconds a step", sweep.axis.title());
        panel(&mut out, [x, TOP + PANEL[1] + GAP[1]], &memory(sweep), "MB a step", sweep.axis.title());
    }
    out.push_str("</svg>\n");
    out
}

fn panel(out: &mut String, [left, top]: [f64; 2], curve: &Curve, unit: &str, title: &str) {
    let (right, bottom) = (left + PANEL[0], top + PANEL[1]);
    let (middle, half) = (left + PANEL[0] / 2.0, top + PANEL[1] / 2.0);
    let ink = "#555555";
    let mut line = |text: String| out.push_str(&(text + "\n"));
    line(format!(
        r##"<rect x="{left:.1}" y="{top:.1}" width="{}" height="{}" fill="none" stroke="#999999"/>"##,
        PANEL[0], PANEL[1]
    ));
    line(format!(r#"<text x="{middle:.1}" y="{:.1}" text-anchor="middle">{title}</text>"#, bottom + 31.0));
    let (ux, uy) = (left - 40.0, half);
    line(format!(
        r#"<text x="{ux:.1}" y="{uy:.1}" text-anchor="middle" transform="rotate(-90 {ux:.1} {uy:.1})">{unit}</text>"#
    ));
    if curve.points.is_empty() {
        return line(format!(
            r#"<text x="{middle:.1}" y="{half:.1}" text-anchor="middle" fill="{ink}">not counted</text>"#
        ));
    }
    let xs = Axis::around(curve.points.iter().map(|(size, _)| *size), left, right);
    let ys = Axis::around(curve.points.iter().flat_map(|(_, values)| *values), bottom, top);
    for (size, _) in &curve.points {
        let x = xs.at(*size);
        line(format!(r##"<path d="M{x:.1} {bottom:.1}v4" stroke="{ink}"/>"##));
        line(format!(r#"<text x="{x:.1}" y="{:.1}" text-anchor="middle" fill="{ink}">{size}</text>"#, bottom + 16.0));
    }
    for tick in ys.ticks() {
        let y = ys.at(tick);
        line(format!(r##"<path d="M{left:.1} {y:.1}h{}" stroke="#e4e4e4"/>"##, PANEL[0]));
        let (x, y, words) = (left - 5.0, y + 4.0, number(tick));
        line(format!(r#"<text x="{x:.1}" y="{y:.1}" text-anchor="end" fill="{ink}">{words}</text>"#));
    }
    let color = curve.color;
    if let (Some(fit), [(first, _), .., (last, _)]) = (curve.fit, curve.points.as_slice()) {
        let ends = [*first, *last].map(|size| format!("{:.1} {:.1}", xs.at(size), ys.at(fit.at(size))));
        line(format!(r#"<path d="M{}L{}" stroke="{color}" stroke-dasharray="4 3"/>"#, ends[0], ends[1]));
        let (x, y, exponent) = (left + 8.0, top + 16.0, fit.exponent);
        line(format!(r#"<text x="{x:.1}" y="{y:.1}" fill="{color}" font-weight="bold">exponent {exponent:.2}</text>"#));
    }
    for (size, [low, _, high]) in &curve.points {
        let (x, low, high) = (xs.at(*size), ys.at(*low), ys.at(*high));
        line(format!(r#"<path d="M{x:.1} {low:.1}V{high:.1}" stroke="{color}" stroke-width="1.5"/>"#));
        line(format!(r#"<circle cx="{x:.1}" cy="{low:.1}" r="3.5" fill="{color}"/>"#));
    }
}

#[cfg(test)]
mod tests {
    use super::super::figures::Spread;
    use super::super::scale::{AXES, Point};
    use super::*;

    fn scale(step_mb: Option<f64>) -> Scale {
        let points: Vec<Point> = [1usize, 2, 4]
            .map(|size| Point {
                size,
                seconds: Spread { min: size as f64, median: size as f64, max: 2.0 * size as f64 },
                step_mb,
            })
            .into();
        let fit = |cost: fn(&Point) -> f64| {
            Fit::through(&points.iter().map(|p| (p.size as f64, cost(p))).collect::<Vec<_>>())
        };
        let time = fit(|p| p.seconds.min);
        let memory = step_mb.and_then(|_| fit(|p| p.step_mb.unwrap_or_default()));
        let sweeps = AXES.map(|axis| Sweep { axis, points: points.clone(), time, memory }).into();
        Scale { base: "a base".to_owned(), threads: 2, steps: 3, sweeps }
    }

    #[test]
    fn every_panel_has_its_points_its_axes_and_its_exponent() {
        let text = svg(&scale(Some(5.0)));
        assert_eq!(text.matches("<circle").count(), 5 * 2 * 3);
        assert_eq!(text.matches("exponent 1.00").count(), 5, "linear time");
        assert_eq!(text.matches("exponent 0.00").count() + text.matches("exponent -0.00").count(), 5, "flat memory");
        for words in ["milliseconds a step", "MB a step"] {
            assert_eq!(text.matches(words).count(), 5);
        }
        for axis in AXES {
            assert_eq!(text.matches(&format!(">{}<", axis.title())).count(), 2);
        }
        for tag in ["svg", "text", "title"] {
            assert_eq!(text.matches(&format!("<{tag}")).count(), text.matches(&format!("</{tag}>")).count());
        }
        assert!(!text.contains("NaN") && !text.contains("inf"));
        let uncounted = svg(&scale(None));
        assert_eq!((uncounted.matches("<circle").count(), uncounted.matches("not counted").count()), (15, 5));
    }

    #[test]
    fn axes_are_logarithmic_and_their_ticks_round() {
        let axis = Axis::around([1.0, 100.0].into_iter(), 0.0, 300.0);
        assert!((axis.at(10.0) - 150.0).abs() < 1e-9 && axis.at(1.0) > 0.0 && axis.at(100.0) < 300.0);
        assert_eq!(axis.ticks(), [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0]);
        let flat = Axis::around([10.0, 10.1].into_iter(), 0.0, 1.0);
        assert!(flat.high / flat.low > 3.9, "a percent is not blown up");
        assert_eq!([0.05, 1.5, 20.0, 1000.0].map(number), ["0.05", "1.5", "20", "1000"]);
    }
}
