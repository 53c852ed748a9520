//! Norms of all experts, cosines and distances between them.

use super::Focus;
use crate::analysis::routing_stats::upper_quantile;
use crate::app::panel_ctx::PanelCtx;
use crate::app::widgets::cell_grid::{self, GridCell, GridSpec};
use crate::app::widgets::heatmap::{Scale, color};
use crate::app::widgets::listing::{self, Column};
use crate::app::widgets::{cards, export_menu, legend, verdict};
use crate::config::MixtureKind;
use crate::figure::{Cell, Table};
use crate::format;
use crate::protocol::ExpertStats;
use egui::{Ui, vec2};

/// Draws the table of norms.
pub fn norms_ui(ctx: &PanelCtx<'_>, focus: &Focus<'_>, expert: &mut usize, ui: &mut Ui) {
    type Row<'a, 'b> = Column<'a, (usize, &'b ExpertStats)>;
    let experts = &focus.data.experts;
    let rows: Vec<(usize, &ExpertStats)> = experts.iter().enumerate().collect();
    let number = |title, tip, value: fn(&ExpertStats) -> f32| {
        Row::number(title, tip, move |(_, stats)| format::significant(f64::from(value(stats)), 3))
    };
    let mut columns = vec![
        Row::new("Expert", "A click chooses it", |ui, (i, _)| {
            if experts.len() == 1 {
                return drop(ui.label("shared"));
            }
            ui.horizontal(|ui| {
                verdict::expert_chip(ui, ctx.theme, *i);
                if ui.add(egui::Button::selectable(i == expert, format!("expert {i}"))).clicked() {
                    *expert = *i;
                }
            });
        }),
        number("Norm", "Frobenius norm of the weight matrix", |stats| stats.norm),
        number("− start", "Frobenius norm of the weights now minus the weights at the start", |stats| {
            stats.from_start
        }),
        number("− mean", "Frobenius norm of the weights minus the mean of the experts", |stats| stats.from_mean),
        number("Std", "Standard deviation of the weights", |stats| stats.std),
        number("Mean", "Mean of the weights", |stats| stats.mean),
        number("Largest", "Largest absolute weight", |stats| stats.max_abs),
    ];
    if focus.kind == MixtureKind::Adapter {
        columns.push(number("Bias norm", "Euclidean norm of the bias", |stats| stats.bias_norm));
    }
    listing::grid(ui, "norms of the experts", columns, &rows);
    export_menu::table(ui, "sizes of the experts", || sizes(experts));
}

/// Draws the matrix of cosines or distances.
pub fn pairs_ui(ctx: &PanelCtx<'_>, focus: &Focus<'_>, expert: &mut usize, distance: &mut bool, ui: &mut Ui) {
    let (theme, data) = (ctx.theme, focus.data);
    let experts = data.experts.len();
    ui.horizontal_wrapped(|ui| {
        ui.selectable_value(distance, false, "Cosine").on_hover_text(
            "Cosine between the changes since the start (at step 0: of the weights): 1 moved alike, 0 unrelated, \
             -1 opposite",
        );
        ui.selectable_value(distance, true, "Distance").on_hover_text("Norm of the difference of two experts");
    });
    ui.add_space(2.0);
    let values = if *distance { &data.distance } else { &data.cosine };
    if values.len() != experts * experts {
        cards::error(ui, theme, "The engine sent a matrix of another size than the number of experts.");
        return;
    }
    let largest = values.iter().copied().filter(|v| v.is_finite()).fold(0.0f32, f32::max);
    let cosine_unit = format!("cosine of {}", data.cosine_of.describe());
    let (scale, what, name, unit) = if *distance {
        (Scale::Sequential(0.0, largest), "distance", "Distances of the experts", "norm of the difference")
    } else {
        (Scale::Diverging(1.0), "cosine", "Cosines of the experts", cosine_unit.as_str())
    };
    let columns: Vec<String> = (0..experts).map(|i| i.to_string()).collect();
    let cell = if experts <= 10 { vec2(58.0, 26.0) } else { vec2(26.0, 20.0) };
    let spec = GridSpec { name, columns: &columns, rows: experts, row_width: 74.0, cell, clickable: true };
    let row_name = |row| format!("expert {row}");
    let clicked = cell_grid::ui(ui, theme, &spec, row_name, |row, column| {
        let value = values[row * experts + column];
        let text = if *distance { format::significant(f64::from(value), 3) } else { format!("{value:.2}") };
        let about = format!("expert {row} and expert {column}: {what} {text}");
        let chosen = row == *expert && column == *expert;
        GridCell { text, fill: Some(color(theme, scale, value)), value: Some(f64::from(value)), about, chosen }
    });
    if let Some((row, column)) = clicked {
        *expert = if row == *expert { column } else { row };
    }
    ui.add_space(2.0);
    legend::bar(ui, theme, scale, unit, 220.0);
    cards::caption(ui, theme, pairs_text(data.cosine.as_slice(), experts, data.rows * data.cols));
}

/// The same with every digit.
fn sizes(experts: &[ExpertStats]) -> Table {
    let mut table = Table::new(["expert", "norm", "from_start", "from_mean", "std", "mean", "largest", "bias_norm"]);
    for (i, stats) in experts.iter().enumerate() {
        let values = [stats.norm, stats.from_start, stats.from_mean, stats.std, stats.mean, stats.max_abs];
        let cells = values.into_iter().chain([stats.bias_norm]).map(Cell::from);
        table.push(std::iter::once(Cell::from(i)).chain(cells));
    }
    table
}

/// The cosines of all pairs with an interpretation; `values`: d, the number of values of an expert. Two unrelated
/// directions of d values have a cosine around 0 with a spread of 1 / √d, so that only what lies within it is unrelated.
pub fn pairs_text(cosine: &[f32], experts: usize, values: usize) -> String {
    let pairs: Vec<f64> = (0..experts)
        .flat_map(|i| (0..i).map(move |j| (i, j)))
        .filter_map(|(i, j)| cosine.get(i * experts + j).map(|&v| f64::from(v)))
        .filter(|v| v.is_finite())
        .collect();
    if pairs.is_empty() || values == 0 {
        return "There are no pairs.".to_owned();
    }
    let n = pairs.len() as f64;
    let mean = pairs.iter().sum::<f64>() / n;
    let (low, high) = pairs.iter().fold((1.0f64, -1.0f64), |(low, high), &v| (low.min(v), high.max(v)));
    let spread = 1.0 / (values as f64).sqrt();
    // The largest of so many pairs is beyond this in 1 of 20 cases by chance.
    let limit = spread * upper_quantile(0.025 / n);
    let times = |cosine: f64| format!("{:.0} times the spread of chance", cosine.abs() / spread);
    let words = if low >= -limit && high <= limit {
        "none is farther from 0 than chance: the experts move in unrelated directions".to_owned()
    } else if mean > 0.8 {
        "the experts move almost alike; averaging them changes little".to_owned()
    } else if low > limit {
        format!("{}: the experts share a part of their direction", times(mean))
    } else if high < -limit {
        format!("{}: the experts move in opposite directions; averaging may cost accuracy", times(mean))
    } else {
        format!("from {low:.2} to {high:.2}: some pairs are related, up to {}, others not", times(high.max(-low)))
    };
    let pairs = format::counted(pairs.len(), "pair");
    let values = format::count(values);
    let spread = format::significant(spread, 2);
    format!(
        "Mean cosine of {pairs}: {mean:.2}; {words}. Chance alone spreads by 1 / √d = {spread} for {values} values."
    )
}

#[cfg(test)]
mod tests {
    use super::pairs_text;

    /// A matrix of three experts with these cosines of its pairs.
    fn three(a: f32, b: f32, c: f32) -> Vec<f32> {
        vec![1.0, a, b, a, 1.0, c, b, c, 1.0]
    }

    #[test]
    fn only_what_chance_gives_is_unrelated() {
        // 4,096 values: chance has a spread of 0.0156.
        let text = |a, b, c| pairs_text(&three(a, b, c), 3, 4096);
        assert!(text(0.01, -0.02, 0.03).contains("unrelated"), "{}", text(0.01, -0.02, 0.03));
        let related = text(0.10, 0.40, 0.22);
        assert!(!related.contains("unrelated") && related.contains("share a part of their direction"), "{related}");
        assert!(related.contains("15 times the spread of chance"), "{related}");
        assert!(text(0.9, 0.9, 0.9).contains("almost alike"));
        assert!(text(-0.5, -0.4, -0.5).contains("opposite directions"));
        assert!(text(0.5, 0.0, -0.3).contains("some pairs are related"));
        // The same cosines of few values are chance.
        assert!(pairs_text(&three(0.10, 0.40, 0.22), 3, 16).contains("unrelated"));
    }

    #[test]
    fn without_pairs_nothing_is_said() {
        assert!(pairs_text(&[1.0], 1, 9).contains("no pairs"));
        assert!(pairs_text(&[1.0, f32::NAN, f32::NAN, 1.0], 2, 9).contains("no pairs"));
    }
}
