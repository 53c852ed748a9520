//! A line plot as a figure for files.

use super::curve::{Curve, EventLine, MARKS, PlotOptions};
use crate::app::theme::Theme;
use crate::app::widgets::export_menu;
use crate::figure::{self, Axis, Content, Figure, Lines, Mark};
use crate::protocol::RecordPlan;

/// What is drawn as a figure, and where its values are recorded if all of them are.
pub fn figure(theme: &Theme, curves: &[&Curve], marks: &[EventLine], options: &PlotOptions<'_>) -> export_menu::Source {
    let mut plan = RecordPlan::default();
    curves.iter().filter_map(|curve| curve.source.as_ref()).for_each(|(run, quantity)| plan.add(run, *quantity));
    let recorded = !curves.is_empty() && curves.iter().all(|curve| curve.source.is_some());
    let run = match &plan.runs[..] {
        [run] => run.file_name().map(|name| name.to_string_lossy().into_owned()),
        _ => None,
    };
    let title = run.map_or_else(|| options.title.to_owned(), |run| format!("{run}: {}", options.title));
    let mark = |mark: &EventLine| Mark { x: mark.x, name: mark.name.clone(), color: theme.on_paper(mark.color) };
    let lines = Lines {
        x: Axis { name: options.x_name().to_owned(), log: options.log_x, ..Axis::default() },
        y: Axis { name: options.title.to_owned(), log: options.log, limits: options.limits, ..Axis::default() },
        curves: curves.iter().flat_map(|curve| paper_curves(theme, curve)).collect(),
        marks: marks.iter().take(MARKS).map(mark).collect(),
    };
    (Figure::new(title, Content::Lines(lines)), recorded.then_some(plan))
}

/// A curve, and before it its raw values where each is one step.
fn paper_curves(theme: &Theme, curve: &Curve) -> Vec<figure::Curve> {
    let color = theme.on_paper(curve.color);
    let mut own = figure::Curve {
        name: curve.name.clone(),
        color,
        points: curve.line.clone(),
        dots: curve.dots,
        dashed: curve.dashed,
        strong: curve.strong,
        ..figure::Curve::default()
    };
    let single = curve.ranges.iter().all(|range| range.min == range.max);
    let raw: Vec<[f64; 2]> = curve.ranges.iter().map(|range| [range.x, range.min]).collect();
    if !single {
        own.band = curve.ranges.iter().map(|range| [range.x, range.min, range.max]).collect();
    } else if !raw.is_empty() && raw != curve.line {
        let light = color.map(|channel| channel + (255 - channel) / 5 * 3);
        let name = format!("{}, every step", curve.name);
        return vec![figure::Curve { name, color: light, points: raw, ..figure::Curve::default() }, own];
    }
    vec![own]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::widgets::metric_plot::curve::ValueRange;
    use crate::protocol::Quantity;
    use egui::Color32;

    #[test]
    fn a_figure_has_the_curves_their_ranges_and_where_their_values_are_recorded() {
        let mut curve = Curve::line("loss", Color32::from_rgb(0, 0x72, 0xB2), vec![[1.0, 2.0], [2.0, 1.5]]);
        curve.ranges = vec![ValueRange { x: 1.0, min: 1.0, max: 3.0 }, ValueRange { x: 2.0, min: 1.0, max: 2.0 }];
        curve.source = Some(("runs/a".into(), Quantity::Loss));
        let marks = [EventLine { x: 2.0, name: "best".to_owned(), color: Color32::RED }];
        let options = PlotOptions { title: "Loss (nats)", log: true, ..PlotOptions::default() };
        let (figure, record) = figure(&Theme::new(false), &[&curve], &marks, &options);
        let figure::Content::Lines(lines) = &figure.content else { panic!("no lines") };
        assert_eq!(lines.curves[0].band, [[1.0, 1.0, 3.0], [2.0, 1.0, 2.0]]);
        assert_eq!((lines.x.name.as_str(), lines.y.name.as_str(), lines.y.log), ("step", "Loss (nats)", true));
        assert_eq!((figure.title.as_str(), lines.marks[0].name.as_str()), ("a: Loss (nats)", "best"));
        let plan = RecordPlan { runs: vec!["runs/a".into()], quantities: vec![Quantity::Loss] };
        assert_eq!(record, Some(plan));
        let mut raw = curve.clone();
        raw.ranges.iter_mut().for_each(|range| range.max = range.min);
        let (figure, record) =
            self::figure(&Theme::new(true), &[&raw, &Curve::line("other", Color32::RED, Vec::new())], &[], &options);
        let figure::Content::Lines(lines) = &figure.content else { panic!("no lines") };
        assert_eq!(lines.curves[0].name, "loss, every step");
        assert_eq!(record, None, "not all curves are recorded");
    }
}
