//! The picture of a [`Scale`]: time above, memory below, one column for each axis, both scales logarithmic.

use crate::bench::fit::{Fit, Line};
use crate::bench::scale::{Axis, Point, Scale, Sweep};
use std::fmt::Display;

const PANEL: [f64; 2] = [200.0, 150.0];
/// Between panels: room for an axis's numbers and its title.
const GAP: [f64; 2] = [58.0, 62.0];
const LEFT: f64 = 66.0;
const TOP: f64 = 76.0;

/// A logarithmic axis: `low..high` onto `from..to` pixels.
struct LogAxis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl LogAxis {
    /// Room for all values, at least from half to twice, so that constant values look flat.
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

/// Up to three significant digits.
fn number(value: f64) -> String {
    match value {
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}").trim_end_matches(".0").to_owned(),
        v => format!("{v:.2}").trim_end_matches('0').trim_end_matches('.').to_owned(),
    }
}

/// One curve: its points (size, smallest, middle, largest) and what goes through them.
struct Curve {
    points: Vec<(f64, [f64; 3])>,
    fit: Option<Fit>,
    /// Instead of the power, where it fits clearly better.
    line: Option<Line>,
    color: &'static str,
    unit: &'static str,
    axis: Axis,
}

impl Curve {
    fn time(sweep: &Sweep) -> Self {
        let ms = |seconds: f64| 1e3 * seconds;
        let point = |p: &Point| (p.size as f64, [p.seconds.min, p.seconds.median, p.seconds.max].map(ms));
        let fit = sweep.time.map(|fit| Fit { factor: ms(fit.factor), ..fit });
        let line = sweep.time_line.filter(|line| line.beats(sweep.time));
        let line = line.map(|line| Line { base: ms(line.base), each: ms(line.each), ..line });
        let points = sweep.points.iter().map(point).collect();
        Self { points, fit, line, color: "#0072B2", unit: "ms", axis: sweep.axis }
    }

    fn memory(sweep: &Sweep) -> Self {
        let points = sweep.points.iter().filter_map(|p| Some((p.size as f64, [p.step_mb?; 3]))).collect();
        let line = sweep.memory_line.filter(|line| line.beats(sweep.memory));
        Self { points, fit: sweep.memory, line, color: "#D55E00", unit: "MB", axis: sweep.axis }
    }

    fn at(&self, size: f64) -> Option<f64> {
        self.line.map(|line| line.at(size)).or(self.fit.map(|fit| fit.at(size)))
    }

    fn describe(&self) -> Option<String> {
        let each = |line: Line| format!("{} {} for each {}", number(line.each), self.unit, self.axis.unit());
        self.line.map(each).or(self.fit.map(|fit| format!("exponent {:.2}", fit.exponent)))
    }
}

/// The whole picture as SVG.
pub fn svg(scale: &Scale) -> String {
    let columns = scale.sweeps.len().max(1) as f64;
    let width = LEFT + columns * PANEL[0] + (columns - 1.0) * GAP[0] + 24.0;
    let height = TOP + 2.0 * PANEL[1] + GAP[1] + 56.0;
    let mut out = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0} {height:.0}" width="{width:.0}" height="{height:.0}" font-family="sans-serif" font-size="11" fill="#222222">
<title>Cost of a training step as work grows</title>
<rect width="{width:.0}" height="{height:.0}" fill="#ffffff"/>
<text x="{LEFT}" y="24" font-size="16" font-weight="bold">Cost of a training step as work grows</text>
<text x="{LEFT}" y="42" fill="#555555">Base: {}; {} threads; {} timed steps a point: fastest (dot) to slowest (bar); dashed: the fit, cost = size^exponent, or a fixed part and so much for each</text>
"##,
        scale.base, scale.threads, scale.steps
    );
    for (column, sweep) in scale.sweeps.iter().enumerate() {
        let x = LEFT + column as f64 * (PANEL[0] + GAP[0]);
        let units = if column == 0 { ["milliseconds a step", "MB a step"] } else { [""; 2] };
        out += &panel([x, TOP], &Curve::time(sweep), units[0]);
        out += &panel([x, TOP + PANEL[1] + GAP[1]], &Curve::memory(sweep), units[1]);
    }
    out + "</svg>\n"
}

fn text(x: f64, y: f64, style: &str, words: impl Display) -> String {
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" {style}>{words}</text>\n")
}

fn path(points: &str, style: &str) -> String {
    format!("<path d=\"{points}\" {style}/>\n")
}

fn panel([left, top]: [f64; 2], curve: &Curve, unit: &str) -> String {
    const MIDDLE: &str = r##"text-anchor="middle" fill="#555555""##;
    let [width, height] = PANEL;
    let (right, bottom, middle) = (left + width, top + height, left + width / 2.0);
    let mut out = format!(
        r##"<rect x="{left:.1}" y="{top:.1}" width="{width}" height="{height}" fill="none" stroke="#999999"/>"##
    );
    out += "\n";
    out += &text(middle, bottom + 31.0, r#"text-anchor="middle""#, curve.axis.title());
    out += &text(left, top - 7.0, r#"font-weight="bold""#, unit);
    let (Some((first, _)), Some((last, _))) = (curve.points.first(), curve.points.last()) else {
        return out + &text(middle, top + height / 2.0, MIDDLE, "not counted");
    };
    let xs = LogAxis::around(curve.points.iter().map(|(size, _)| *size), left, right);
    let ys = LogAxis::around(curve.points.iter().flat_map(|(_, values)| *values), bottom, top);
    for (size, _) in &curve.points {
        let x = xs.at(*size);
        out += &path(&format!("M{x:.1} {bottom:.1}v4"), r##"stroke="#555555""##);
        out += &text(x, bottom + 16.0, MIDDLE, size);
    }
    for tick in ys.ticks() {
        let y = ys.at(tick);
        out += &path(&format!("M{left:.1} {y:.1}h{width}"), r##"stroke="#e4e4e4""##);
        out += &text(left - 5.0, y + 4.0, r##"text-anchor="end" fill="#555555""##, number(tick));
    }
    let color = curve.color;
    if let (Some(words), true) = (curve.describe(), curve.points.len() > 1) {
        // Straight in logarithms for a power, bent for a fixed part.
        const PIECES: u32 = 24;
        let size = |i: u32| first * (last / first).powf(f64::from(i) / f64::from(PIECES));
        let at = |size: f64| curve.at(size).map(|cost| format!("{:.1} {:.1}", xs.at(size), ys.at(cost.max(ys.low))));
        let line: Vec<String> = (0..=PIECES).filter_map(|i| at(size(i))).collect();
        let style = format!(r#"fill="none" stroke="{color}" stroke-dasharray="4 3""#);
        out += &path(&format!("M{}", line.join("L")), &style);
        out += &text(left + 8.0, top + 16.0, &format!(r#"fill="{color}" font-weight="bold""#), words);
    }
    for (size, [low, _, high]) in &curve.points {
        let (x, low, high) = (xs.at(*size), ys.at(*low), ys.at(*high));
        out += &path(&format!("M{x:.1} {low:.1}V{high:.1}"), &format!(r#"stroke="{color}" stroke-width="1.5""#));
        out += &format!("<circle cx=\"{x:.1}\" cy=\"{low:.1}\" r=\"3.5\" fill=\"{color}\"/>\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::figures::Spread;
    use crate::bench::scale::AXES;

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
        let sweep = |axis| Sweep { axis, points: points.clone(), time, time_line: None, memory, memory_line: None };
        let sweeps = AXES.map(sweep).into();
        Scale { base: "a base".to_owned(), threads: 2, steps: 3, sweeps }
    }

    #[test]
    fn every_panel_has_its_points_its_axes_and_its_exponent() {
        let text = svg(&scale(Some(5.0)));
        assert_eq!(text.matches("<circle").count(), 5 * 2 * 3);
        assert_eq!(text.matches("exponent 1.00").count(), 5, "linear time");
        assert_eq!(text.matches("exponent 0.00").count() + text.matches("exponent -0.00").count(), 5, "flat memory");
        for words in ["milliseconds a step", "MB a step"] {
            assert_eq!(text.matches(words).count(), 1);
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
    fn a_fixed_part_is_said_where_a_power_would_mislead() {
        let mut scale = scale(None);
        let points = [1.0, 2.0, 4.0, 8.0].map(|x: f64| (x, 0.027 * x - 0.02));
        let sweep = &mut scale.sweeps[Axis::Layers as usize];
        (sweep.time, sweep.time_line) = (Fit::through(&points), Line::through(&points));
        let text = svg(&scale);
        assert_eq!(text.matches("27 ms for each layer").count(), 1);
        assert_eq!(text.matches("exponent").count(), 4 + 1, "four axes and the legend");
        assert!(!text.contains("NaN"));
    }

    #[test]
    fn axes_are_logarithmic_and_their_ticks_round() {
        let axis = LogAxis::around([1.0, 100.0].into_iter(), 0.0, 300.0);
        assert!((axis.at(10.0) - 150.0).abs() < 1e-9 && axis.at(1.0) > 0.0 && axis.at(100.0) < 300.0);
        assert_eq!(axis.ticks(), [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0]);
        let flat = LogAxis::around([10.0, 10.1].into_iter(), 0.0, 1.0);
        assert!(flat.high / flat.low > 3.9, "a percent is not blown up");
        assert_eq!([0.05, 1.5, 20.0, 1000.0].map(number), ["0.05", "1.5", "20", "1000"]);
    }
}
