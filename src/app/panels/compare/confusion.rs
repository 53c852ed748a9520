//! How often each class is taken for which, for both ways.

use crate::app::theme::Theme;
use crate::app::widgets::cards;
use crate::app::widgets::cell_grid::{self, GridCell, GridSpec};
use crate::format;
use crate::protocol::{RowsReport, WayRows};
use egui::{Ui, vec2};

pub fn ui(theme: &Theme, report: &RowsReport, ui: &mut Ui) {
    let room = cell_grid::name_width(report.labels.iter().map(|label| named(label)));
    let width = room + report.labels.len() as f32 * 74.0;
    let side_by_side = ui.available_width() > 2.0 * width + 40.0;
    if side_by_side {
        ui.horizontal_top(|ui| {
            for way in &report.ways {
                ui.vertical(|ui| matrix(theme, report, way, room, ui));
                ui.add_space(28.0);
            }
        });
    } else {
        for way in &report.ways {
            matrix(theme, report, way, room, ui);
            ui.add_space(6.0);
        }
    }
    let words = "One line for each right class, one column for each answer. The colour is the share of the line: a model that is always \
                 right is dark on the diagonal only.";
    cards::caption(ui, theme, words);
    if let Some(flips) = report.flips {
        let n = format::count;
        let words = format!(
            "Both right: {}. Only {}: {}. Only {}: {}. Both wrong with the same answer: {}, with different answers: {}.",
            n(flips.both_right),
            report.ways[0].name.to_lowercase(),
            n(flips.only_first),
            report.ways[1].name.to_lowercase(),
            n(flips.only_second),
            n(flips.both_wrong),
            n(flips.wrong_apart)
        );
        ui.label(words);
    }
}

fn named(label: &str) -> String {
    format::ellipsis(label, 18)
}

fn matrix(theme: &Theme, report: &RowsReport, way: &WayRows, row_width: f32, ui: &mut Ui) {
    ui.horizontal(|ui| {
        ui.label(egui::RichText::new(&way.name).strong());
        // The menu of the grid stands at its right end.
        ui.add_space(30.0);
    });
    let columns: Vec<String> = report.labels.iter().map(|label| format::ellipsis(label, 10)).collect();
    let name = format!("Confusion matrix of {}", way.name);
    let spec = GridSpec {
        name: &name,
        columns: &columns,
        rows: report.labels.len(),
        row_width,
        cell: vec2(72.0, 24.0),
        clickable: false,
    };
    let cell = |row: usize, column: usize| {
        let line = &way.confusion[row];
        let (count, all) = (line[column], line.iter().sum::<u64>());
        let share = if all > 0 { count as f64 / all as f64 } else { 0.0 };
        let about = format!(
            "{}: {} of {} {} answered {} ({})",
            way.name,
            format::count(count),
            format::count(all),
            report.label(row),
            report.label(column),
            format::percent(share)
        );
        GridCell {
            text: format::count(count),
            fill: Some(theme.sequential(share as f32)),
            value: Some(count as f64),
            about,
            chosen: row == column,
        }
    };
    egui::ScrollArea::horizontal().id_salt(&name).show(ui, |ui| {
        cell_grid::ui(ui, theme, &spec, |row| named(&report.label(row)), cell);
    });
}
