//! Grouped columns.

use super::dot_plot::ticks;
use super::export_menu::{self, Switch};
use super::{canvas, legend, part};
use crate::app::theme::Theme;
use crate::figure::ticks::logarithmic;
use crate::figure::{Axis, Columns, Content, Figure};
use crate::format;
use egui::{Align2, Color32, FontId, Rect, Stroke, Ui, pos2, vec2};

#[derive(Clone, Debug, PartialEq)]
pub struct ColumnSeries {
    pub name: String,
    pub color: Color32,
    /// One for each group, not negative.
    pub values: Vec<f64>,
}

/// Height of the plot area.
const FIELD: f32 = 104.0;
/// Width of the numbers on the axis.
const NUMBERS: f32 = 54.0;
/// Room that the name of a group takes.
const NAME: f32 = 58.0;

/// Draws the columns. `names`: the groups, short and long; `value` makes words of a value, `name` is read by screen readers.
pub fn ui(
    ui: &mut Ui,
    theme: &Theme,
    name: &str,
    names: &[(String, String)],
    series: &[ColumnSeries],
    value: impl Fn(f64) -> String,
) {
    if series.len() > 1 {
        ui.horizontal_wrapped(|ui| {
            ui.spacing_mut().item_spacing.x = 14.0;
            for series in series {
                legend::key(ui, theme, series.color, &series.name, "");
            }
        });
    }
    let width = ui.available_width().max(NUMBERS + 120.0);
    let (rect, response) = canvas(ui, vec2(width, FIELD + 26.0), egui::Role::Figure, name);
    let field = Rect::from_min_size(rect.min + vec2(NUMBERS, 6.0), vec2(rect.width() - NUMBERS, FIELD));
    let top = series.iter().flat_map(|s| &s.values).copied().filter(|v| v.is_finite()).fold(0.0, f64::max);
    let top = if top > 0.0 { 1.05 * top } else { 1.0 };
    let log_switch = egui::Id::unique(("logarithmic values", name));
    let positive = series.iter().flat_map(|s| &s.values).copied().filter(|v| *v > 0.0 && v.is_finite());
    // A logarithmic axis begins half a decade below the smallest column, so that it has a height.
    let least = positive.fold(f64::INFINITY, f64::min) / 3.0;
    let log = export_menu::is_on(ui, log_switch) && least < top;
    let share = |value: f64| if log { (value / least).log10() / (top / least).log10() } else { value / top };
    let y_of = |value: f64| field.bottom() - field.height() * share(value).clamp(0.0, 1.0) as f32;
    let (painter, small) = (ui.painter().clone(), FontId::proportional(11.0));
    let lines = match log {
        true => logarithmic(least.log10(), top.log10(), 4).into_iter().map(|tick| 10f64.powf(tick)).collect(),
        false => ticks(0.0, top, 4),
    };
    for tick in lines {
        let y = y_of(tick);
        painter.hline(field.x_range(), y, Stroke::new(1.0, theme.card_border));
        painter.text(pos2(field.left() - 5.0, y), Align2::RIGHT_CENTER, format::tick(tick), small.clone(), theme.muted);
    }
    let groups = names.len().max(1);
    let pitch = field.width() / groups as f32;
    // Names that would overlap are omitted; the tooltips have them all.
    let every = (NAME / pitch).ceil().max(1.0) as usize;
    for (i, (short, long)) in names.iter().enumerate() {
        let left = field.left() + i as f32 * pitch;
        let place = Rect::from_min_size(pos2(left, field.top()), vec2(pitch, field.height() + 20.0));
        let word = |(s, found): (&ColumnSeries, f64)| match series.len() {
            1 => value(found),
            _ => format!("{} {}", s.name, value(found)),
        };
        let about = || {
            let words = series.iter().filter_map(|s| Some((s, *s.values.get(i)?))).map(word);
            format!("{long}: {}", words.collect::<Vec<_>>().join(", "))
        };
        if part(ui, place, response.id.with(("group", i)), about).hovered() {
            painter.rect_filled(place, 2.0, theme.muted.gamma_multiply(0.15));
        }
        let column = (pitch * 0.8 / series.len().max(1) as f32).clamp(1.0, 26.0);
        let start = left + 0.5 * (pitch - column * series.len() as f32);
        for (k, series) in series.iter().enumerate() {
            let Some(&found) = series.values.get(i).filter(|value| **value > 0.0) else { continue };
            // A value that is not finite fills the height.
            let high = if found.is_finite() { y_of(found) } else { field.top() };
            let x = start + k as f32 * column;
            let bar = Rect::from_min_max(pos2(x, high.min(field.bottom() - 1.0)), pos2(x + column, field.bottom()));
            painter.rect_filled(bar.shrink2(vec2((column * 0.06).min(1.0), 0.0)), 1.0, series.color);
        }
        if i.is_multiple_of(every) {
            let at = pos2(place.center().x, field.bottom() + 4.0);
            painter.text(at, Align2::CENTER_TOP, short, small.clone(), theme.muted);
        }
    }
    painter.hline(field.x_range(), field.bottom(), Stroke::new(1.0, theme.muted));
    let tip = "Logarithmic value axis; columns of 0 are left out";
    let switch = Switch { text: "Logarithmic values", tip, enabled: least.is_finite(), id: log_switch };
    export_menu::corner(ui, rect, name, &[switch], || (figure(theme, name, names, series, log), None));
}

/// The same as a figure.
fn figure(theme: &Theme, name: &str, names: &[(String, String)], series: &[ColumnSeries], log: bool) -> Figure {
    let columns = Columns {
        y: Axis { log, ..Axis::default() },
        groups: names.iter().map(|(_, long)| long.clone()).collect(),
        series: series.iter().map(|s| (s.name.clone(), theme.on_paper(s.color), s.values.clone())).collect(),
    };
    Figure::new(name, Content::Columns(columns))
}
