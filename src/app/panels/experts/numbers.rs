//! Norms of all experts, cosines and distances between them.

use super::Focus;
use crate::app::panel_ctx::PanelCtx;
use crate::app::widgets::cell_grid::{self, GridCell, GridSpec};
use crate::app::widgets::heatmap::{Scale, color};
use crate::app::widgets::listing::{self, Column};
use crate::app::widgets::{cards, legend, verdict};
use crate::format;
use crate::protocol::ExpertStats;
use egui::{Ui, vec2};

/// Draws the table of norms and the matrix of cosines or distances.
pub fn ui(ctx: &PanelCtx<'_>, focus: &Focus<'_>, expert: &mut usize, distance: &mut bool, ui: &mut Ui) {
    cards::card(ui, ctx.theme, "Sizes", |ui| norms_ui(ctx, focus, expert, ui));
    if focus.data.experts.len() > 1 {
        cards::card(ui, ctx.theme, "Similarity", |ui| pairs_ui(ctx, focus, expert, distance, ui));
    }
}

fn norms_ui(ctx: &PanelCtx<'_>, focus: &Focus<'_>, expert: &mut usize, ui: &mut Ui) {
    type Row<'a, 'b> = Column<'a, (usize, &'b ExpertStats)>;
    let experts = &focus.data.experts;
    let rows: Vec<(usize, &ExpertStats)> = experts.iter().enumerate().collect();
    let number = |title, tip, value: fn(&ExpertStats) -> f32| {
        Row::number(title, tip, move |(_, stats)| format::significant(f64::from(value(stats)), 3))
    };
    let columns = vec![
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
        number("Change", "Frobenius norm of the weights now minus the weights at the start", |stats| stats.from_start),
        number("Std", "Standard deviation of the weights", |stats| stats.std),
        number("Mean", "Mean of the weights", |stats| stats.mean),
        number("Largest", "Largest absolute weight", |stats| stats.max_abs),
        number("Bias norm", "Euclidean norm of the bias", |stats| stats.bias_norm),
    ];
    listing::grid(ui, "norms of the experts", columns, &rows);
}

fn pairs_ui(ctx: &PanelCtx<'_>, focus: &Focus<'_>, expert: &mut usize, distance: &mut bool, ui: &mut Ui) {
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
    let (scale, what, name, unit) = if *distance {
        (Scale::Sequential(0.0, largest), "distance", "Distances of the experts", "norm of the difference")
    } else {
        (Scale::Diverging(1.0), "cosine", "Cosines of the experts", "cosine of the changes since the start")
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
        GridCell { text, fill: Some(color(theme, scale, value)), about, chosen }
    });
    if let Some((row, column)) = clicked {
        *expert = if row == *expert { column } else { row };
    }
    ui.add_space(2.0);
    legend::bar(ui, theme, scale, unit, 220.0);
    cards::caption(ui, theme, pairs_text(data.cosine.as_slice(), experts));
}

/// Mean off-diagonal cosine with an interpretation.
pub fn pairs_text(cosine: &[f32], experts: usize) -> String {
    let pairs: Vec<f32> = (0..experts)
        .flat_map(|i| (0..i).map(move |j| (i, j)))
        .filter_map(|(i, j)| cosine.get(i * experts + j).copied())
        .filter(|v| v.is_finite())
        .collect();
    if pairs.is_empty() {
        return "There are no pairs.".to_owned();
    }
    let mean = pairs.iter().sum::<f32>() / pairs.len() as f32;
    let words = match mean {
        m if m > 0.8 => "the experts move almost alike; averaging them changes little",
        m if m > 0.3 => "the experts share a direction and differ in part",
        m if m > -0.1 => "the experts move in unrelated directions",
        _ => "the experts move in opposite directions; averaging may cost accuracy",
    };
    format!("Mean cosine of all {} pairs: {mean:.2}: {words}.", pairs.len())
}

#[cfg(test)]
mod tests {
    use super::pairs_text;

    #[test]
    fn the_words_follow_the_mean_of_the_pairs() {
        assert!(pairs_text(&[1.0, 0.9, 0.9, 1.0], 2).contains("almost alike"));
        assert!(pairs_text(&[1.0, 0.0, 0.0, 1.0], 2).contains("unrelated"));
        assert!(pairs_text(&[1.0, -0.5, -0.5, 1.0], 2).contains("opposite directions"));
        assert!(pairs_text(&[1.0], 1).contains("no pairs"));
        assert!(pairs_text(&[1.0, f32::NAN, f32::NAN, 1.0], 2).contains("no pairs"));
    }
}
