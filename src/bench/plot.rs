//! The picture of a [`Scale`]: time above, memory below, one column for each axis, both scales logarithmic.

use crate::bench::fit::{Fit, Line};
use crate::bench::scale::{Axis, Scale};

const PANEL: [f64; 2] = [200.0, 150.0];
/// From one panel to the next: room for the sizes and the axis's title.
const STEP: [f64; 2] = [226.0, 212.0];
/// The first panel.
const CORNER: [f64; 2] = [24.0, 76.0];

/// What a row of panels shows.
struct Quantity {
    title: &'static str,
    unit: &'static str,
    /// Of the unit in the unit of the figures.
    factor: f64,
    color: &'static str,
}

const TIME: Quantity = Quantity { title: "milliseconds a step", unit: "ms", factor: 1e3, color: "#0072B2" };
const MEMORY: Quantity = Quantity { title: "MB a step", unit: "MB", factor: 1.0, color: "#D55E00" };

/// Places on a logarithmic axis from 0 to `length`, with room for all values: at least from half to twice, so that constant
/// values look flat.
fn log_axis(values: impl Iterator<Item = f64> + Clone, length: f64) -> impl Fn(f64) -> f64 {
    let low = values.clone().fold(f64::INFINITY, f64::min);
    let high = values.fold(0.0, f64::max);
    let (middle, half) = ((low * high).sqrt(), f64::max((high / low).sqrt() * 1.15, 2.0));
    move |value| length * (0.5 + 0.5 * (value / middle).ln() / half.ln())
}

/// Up to three significant digits.
fn number(value: f64) -> String {
    match value {
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}").trim_end_matches(".0").to_owned(),
        v => format!("{v:.2}").trim_end_matches('0').trim_end_matches('.').to_owned(),
    }
}

/// The whole picture as SVG.
pub fn svg(scale: &Scale) -> String {
    let width = CORNER[0] + STEP[0] * scale.sweeps.len() as f64;
    let height = CORNER[1] + 2.0 * STEP[1];
    let mut out = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" font-family="sans-serif" font-size="11" fill="#222222">
<title>Cost of a training step as work grows</title>
<rect width="{width}" height="{height}" fill="#ffffff"/>
<text x="24" y="24" font-size="16" font-weight="bold">Cost of a training step as work grows</text>
<text x="24" y="42" fill="#555555">Base: {}; {} threads; {} timed steps a point: fastest (dot) to slowest (bar); dashed: the fit, cost = size^exponent, or a fixed part and so much for each</text>
"##,
        scale.base, scale.threads, scale.steps
    );
    for (column, sweep) in scale.sweeps.iter().enumerate() {
        let times: Vec<_> = sweep.points.iter().map(|p| (p.size, [p.seconds.min, p.seconds.max])).collect();
        let memory: Vec<_> = sweep.points.iter().filter_map(|p| Some((p.size, [p.step_mb?; 2]))).collect();
        let above = panel(&TIME, sweep.axis, &times, (sweep.time, sweep.time_line));
        let below = panel(&MEMORY, sweep.axis, &memory, (sweep.memory, sweep.memory_line));
        for (row, panel) in [above, below].into_iter().enumerate() {
            let (x, y) = (CORNER[0] + column as f64 * STEP[0], CORNER[1] + row as f64 * STEP[1]);
            out += &format!("<g transform=\"translate({x} {y})\">\n{panel}</g>\n");
        }
    }
    out + "</svg>\n"
}

/// One panel; points are size, lowest and highest value.
fn panel(of: &Quantity, axis: Axis, points: &[(usize, [f64; 2])], fits: (Option<Fit>, Option<Line>)) -> String {
    let ([width, height], Quantity { title, unit, factor, color }) = (PANEL, of);
    let (middle, below) = (width / 2.0, height + 31.0);
    let mut out = format!(
        r##"<rect width="{width}" height="{height}" fill="none" stroke="#999999"/>
<text y="-7" font-weight="bold">{title}</text>
<text x="{middle}" y="{below}" text-anchor="middle">{}</text>
"##,
        axis.title()
    );
    if points.is_empty() {
        return out + &format!("<text x=\"{middle}\" y=\"75\" text-anchor=\"middle\">not counted</text>\n");
    }
    let x = log_axis(points.iter().map(|(size, _)| *size as f64), width);
    let up = log_axis(points.iter().flat_map(|(_, ends)| *ends), height);
    let y = |value: f64| height - up(value).max(0.0);
    let mut curve = |name: String, cost: &dyn Fn(f64) -> f64| {
        let place = |size: f64| format!("{:.1},{:.1}", x(size), y(cost(size)));
        let line: Vec<String> = points.iter().map(|(size, _)| place(*size as f64)).collect();
        out += &format!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-dasharray=\"4 3\"/>\n",
            line.join(" ")
        );
        out += &format!("<text x=\"8\" y=\"16\" fill=\"{color}\" font-weight=\"bold\">{name}</text>\n");
    };
    match fits {
        (fit, Some(line)) if line.beats(fit) => {
            curve(format!("{} {unit} for each {}", number(factor * line.each), axis.unit()), &|size| line.at(size));
        }
        (Some(fit), _) => curve(format!("exponent {:.2}", fit.exponent), &|size| fit.at(size)),
        _ => {}
    }
    for &(size, [low, high]) in points {
        let (x, bottom, top, value) = (x(size as f64), y(low), y(high), number(factor * low));
        let (label, below) = (bottom + 14.0, height + 16.0);
        out += &format!(
            r##"<path d="M{x:.1} {bottom:.1}V{top:.1}" stroke="{color}"/>
<circle cx="{x:.1}" cy="{bottom:.1}" r="3.5" fill="{color}"/>
<text x="{x:.1}" y="{label:.1}" text-anchor="middle">{value}</text>
<text x="{x:.1}" y="{below}" text-anchor="middle">{size}</text>
"##
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::figures::Spread;
    use crate::bench::scale::{AXES, Point, Sweep};

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
            assert_eq!(text.matches(words).count(), 5);
        }
        for axis in AXES {
            assert_eq!(text.matches(&format!(">{}<", axis.title())).count(), 2);
        }
        for tag in ["svg", "text", "title", "g"] {
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
    fn axes_are_logarithmic() {
        let axis = log_axis([1.0, 100.0].into_iter(), 300.0);
        assert!((axis(10.0) - 150.0).abs() < 1e-9 && axis(1.0) > 0.0 && axis(100.0) < 300.0);
        let flat = log_axis([10.0, 10.1].into_iter(), 1.0);
        assert!(flat(10.1) - flat(10.0) < 0.01, "a percent is not blown up");
        assert_eq!([0.05, 1.5, 20.0, 1000.0].map(number), ["0.05", "1.5", "20", "1000"]);
    }
}
