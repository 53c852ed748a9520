//! The value axis of a line plot: it fits what is visible, and ends where values end.

use super::curve::Curve;

/// The value axis of a plot as it was drawn last.
#[derive(Clone, Copy, Debug, Default)]
pub struct ValueAxis {
    range: [f64; 2],
    /// The user has chosen the range; a double click forgets it.
    chosen: bool,
}

impl ValueAxis {
    /// Whether the user has chosen the range.
    pub fn is_chosen(self) -> bool {
        self.chosen
    }

    /// Fits the axis to the visible part of the curves, unless the user has chosen another range; never beyond `limits`.
    pub fn next(
        plot_ui: &mut egui_plot::PlotUi<'_>,
        before: Option<Self>,
        curves: &[&Curve],
        [log_x, log]: [bool; 2],
        limits: [f64; 2],
    ) -> Self {
        let bounds = plot_ui.plot_bounds();
        let now = [bounds.min()[1], bounds.max()[1]];
        let moved = |before: Self| {
            let span = before.range[1] - before.range[0];
            before.range.iter().zip(now).any(|(a, b)| (a - b).abs() > 1e-6 * span)
        };
        let chosen =
            before.is_some_and(|before| before.chosen || moved(before)) && !plot_ui.response().double_clicked();
        let visible = (!plot_ui.auto_bounds().x).then(|| [bounds.min()[0], bounds.max()[0]]);
        let visible = visible.map(|ends| if log_x { ends.map(|x| 10f64.powf(x)) } else { ends });
        let range = if chosen { clamped(now, log, limits) } else { value_range(curves, visible, log, limits) };
        plot_ui.set_plot_bounds_y(range[0]..=range[1]);
        Self { range, chosen }
    }
}

/// Space beyond the highest and the lowest value, as a share of what lies between them.
const MARGIN: f64 = 0.06;
/// What of it is left beyond a limit, so that a curve on the limit is not cut.
const BEYOND: f64 = 0.02;

/// A range cut off just beyond the limits.
fn clamped([low, high]: [f64; 2], log: bool, limits: [f64; 2]) -> [f64; 2] {
    let ends = if log { [f64::NEG_INFINITY, f64::INFINITY] } else { limits };
    let beyond = BEYOND * (high.min(ends[1]) - low.max(ends[0])).max(0.0);
    let limits =
        if log { limits.map(|limit| if limit > 0.0 { limit.log10() } else { f64::NEG_INFINITY }) } else { limits };
    let top = if limits[1].is_finite() { limits[1] + beyond } else { f64::INFINITY };
    let range = [low.max(limits[0] - beyond), high.min(top)];
    if range[0] < range[1] { range } else { [low, high] }
}

/// Lowest and highest value of the axis for the part of the curves between two ends of the x-axis; where nothing lies
/// there, for the whole curves.
fn value_range(curves: &[&Curve], visible: Option<[f64; 2]>, log: bool, limits: [f64; 2]) -> [f64; 2] {
    let inside = |x: f64| visible.is_none_or(|[from, to]| (from..=to).contains(&x));
    let ends = |all: bool| {
        let mut ends = [f64::INFINITY, f64::NEG_INFINITY];
        let mut add = |x: f64, y: f64| {
            if (all || inside(x)) && y.is_finite() && (!log || y > 0.0) {
                let y = if log { y.log10() } else { y };
                ends = [ends[0].min(y), ends[1].max(y)];
            }
        };
        for curve in curves {
            curve.line.iter().for_each(|&[x, y]| add(x, y));
            curve.ranges.iter().for_each(|range| {
                add(range.x, range.min);
                add(range.x, range.max);
            });
        }
        (ends[0] <= ends[1]).then_some(ends)
    };
    let Some([low, high]) = ends(false).or_else(|| ends(true)) else { return clamped([0.0, 1.0], log, limits) };
    let margin = if high > low { MARGIN * (high - low) } else { (MARGIN * high.abs()).max(1e-6) };
    clamped([low - margin, high + margin], log, limits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use egui::Color32;

    fn range(points: &[[f64; 2]], visible: Option<[f64; 2]>, limits: [f64; 2]) -> [f64; 2] {
        value_range(&[&Curve::line("accuracy", Color32::RED, points.to_vec())], visible, false, limits)
    }

    #[test]
    fn an_axis_ends_where_its_metric_ends() {
        let (share, loss) = ([0.0, 1.0], [0.0, f64::INFINITY]);
        // One value is in the middle of a narrow axis, and there is no axis from -50 to 50.
        let [low, high] = range(&[[200.0, 0.64]], None, share);
        assert!(low > 0.5 && low < 0.64 && high > 0.64 && high < 0.75, "{low} to {high}");
        let [low, high] = range(&[[200.0, 0.3]], None, loss);
        assert!(low > 0.2 && high < 0.4, "{low} to {high}");
        for (points, limits) in [(&[[1.0, 0.0], [2.0, 1.0]], share), (&[[1.0, -1.0], [2.0, 1.0]], [-1.0, 1.0])] {
            let [low, high] = range(points, None, limits);
            let span = limits[1] - limits[0];
            assert!(low >= limits[0] - 0.03 * span && high <= limits[1] + 0.03 * span, "{low} to {high}");
        }
        assert!(range(&[[1.0, 0.001], [2.0, 3.0]], None, loss)[0] > -0.1);
        assert!(range(&[], None, share)[1] <= 1.03, "without a value");
        // What the user chooses ends there too.
        assert_eq!(clamped([-20.0, 20.0], false, share), [-0.02, 1.02]);
    }

    #[test]
    fn an_axis_fits_what_is_visible_and_everything_where_nothing_is() {
        let points: Vec<[f64; 2]> = (0..100).map(|i| [f64::from(i), if i < 5 { 9.0 } else { 0.5 }]).collect();
        let any = [f64::NEG_INFINITY, f64::INFINITY];
        assert!(range(&points, Some([10.0, 50.0]), any)[1] < 0.6);
        assert_eq!(range(&points, Some([200.0, 300.0]), any), range(&points, None, any));
        assert!(range(&points, Some([0.0, 50.0]), any)[1] > 9.0);
    }
}
