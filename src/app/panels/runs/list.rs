//! The list itself: search, order, columns, and which runs are ticked.

use super::status::newest;
use crate::app::actions::Action;
use crate::app::names;
use crate::app::panel_ctx::PanelCtx;
use crate::app::run_columns::{self, RunColumn};
use crate::app::run_state;
use crate::app::widgets::listing::{self, Heading};
use crate::app::widgets::{export_menu, labeled};
use crate::figure::{Cell, Table};
use crate::format;
use crate::protocol::{RunStatus, RunSummary};
use egui::{RichText, Ui};
use egui_extras::TableRow;
use std::path::PathBuf;

/// Below this width of the view the list omits when runs were started, which most names say too.
const NARROW: f32 = 600.0;
/// Width of the best values where each has the name of its metric.
const NAMED_BEST: f32 = 140.0;

pub struct RunTable {
    search: String,
    /// Sorted by this column, and whether downwards.
    sorted: (RunColumn, bool),
    tree: bool,
    pub selected: Option<PathBuf>,
}

impl Default for RunTable {
    fn default() -> Self {
        Self { search: String::new(), sorted: (RunColumn::Started, true), tree: false, selected: None }
    }
}

impl RunTable {
    pub fn ui(&mut self, ctx: &PanelCtx<'_>, runs: &[RunSummary], ui: &mut Ui) {
        self.options_ui(ctx, runs, ui);
        let order = run_columns::order(runs, &self.search, self.sorted, self.tree);
        // In a narrow view the name is more important than the day.
        let narrow = ui.available_width() < NARROW;
        let columns: Vec<RunColumn> =
            ctx.settings.run_columns.iter().copied().filter(|c| !narrow || *c != RunColumn::Started).collect();
        // Runs with different metrics say which in every row.
        let one = runs.iter().all(|run| run.metric == runs[0].metric);
        let shown = Shown { named: !one && !columns.contains(&RunColumn::Metric), columns: &columns };
        let mut headings = vec![Heading::exact("", "Ticked runs are drawn below, one over the other", 24.0)];
        headings.extend(columns.iter().map(|column| {
            let (title, tip) = column.describe();
            let best = *column == RunColumn::Best;
            let title = if best && one && !runs[0].metric.is_empty() { names::metric(&runs[0].metric) } else { title };
            match column.width() {
                Some(_) if best && shown.named => Heading::exact(title, tip, NAMED_BEST),
                Some(width) => Heading::exact(title, tip, width),
                None => Heading::rest(title, tip, 120.0),
            }
        }));
        let sorted = columns.iter().position(|column| *column == self.sorted.0).map(|i| (i + 1, self.sorted.1));
        let clicked = listing::sortable(ui, "runs", &headings, sorted, order.len(), |mut row| {
            let (i, depth) = order[row.index()];
            self.row_ui(ctx, &runs[i], depth, shown, &mut row);
        });
        if let Some(column) = clicked.and_then(|i| columns.get(i.checked_sub(1)?)) {
            let (by, downwards) = self.sorted;
            self.sorted = (*column, if by == *column { !downwards } else { *column != RunColumn::Name });
        }
        if order.is_empty() {
            ui.label(RichText::new("No run has all of these words.").color(ctx.theme.muted));
        }
        export_menu::table(ui, "runs table", || table(runs, &order));
    }

    fn options_ui(&mut self, ctx: &PanelCtx<'_>, runs: &[RunSummary], ui: &mut Ui) {
        ui.horizontal_wrapped(|ui| {
            let tip = "Runs that have all of these words in name, tags, notes, model, task, method or status";
            let label = ui.label("Search").on_hover_text(tip);
            let edit = egui::TextEdit::singleline(&mut self.search).hint_text("words").desired_width(130.0);
            drop(ui.add(edit).labelled_by(label.id).on_hover_text(tip));
            let menu = ui.menu_button("Columns", |ui| {
                for column in RunColumn::ALL {
                    let mut shown = ctx.settings.run_columns.contains(&column);
                    let (title, tip) = column.describe();
                    // Without a name no run could be chosen.
                    let name = column != RunColumn::Name;
                    let response = ui.add_enabled(name, egui::Checkbox::new(&mut shown, title)).on_hover_text(tip);
                    if response.changed() {
                        let chosen = ctx.settings.run_columns.iter().copied();
                        let wanted = |c: &RunColumn| if *c == column { shown } else { chosen.clone().any(|k| k == *c) };
                        ctx.push(Action::SetRunColumns(RunColumn::ALL.into_iter().filter(wanted).collect()));
                    }
                }
            });
            drop(menu.response.on_hover_text("Which columns the list has"));
            if runs.iter().any(|run| !run.label.parent.is_empty()) {
                let tip = "A run stands below the one that it was made from, with what was changed";
                labeled::toggle(ui, "As a tree", tip, &mut self.tree);
            }
        });
    }

    fn row_ui(
        &mut self,
        ctx: &PanelCtx<'_>,
        run: &RunSummary,
        depth: usize,
        shown: Shown<'_>,
        row: &mut TableRow<'_, '_>,
    ) {
        let selected = self.selected.as_ref() == Some(&run.dir);
        row.set_selected(selected);
        row.col(|ui| {
            let mut drawn = ctx.session.overlays.contains_key(&run.dir);
            let response = ui.checkbox(&mut drawn, "").accessible_name(format!("Overlay {}", run.title()));
            if response.on_hover_text(Action::ToggleOverlay(run.dir.clone()).tooltip()).changed() {
                ctx.push(Action::ToggleOverlay(run.dir.clone()));
            }
        });
        let now = newest(ctx, run);
        for column in shown.columns {
            row.col(|ui| {
                let text = column.text(&now);
                match column {
                    RunColumn::Name => self.name_ui(ctx, run, depth, selected, ui),
                    RunColumn::Status => status_ui(ctx, now.status, ui),
                    RunColumn::Best | RunColumn::Steps => {
                        let named = *column == RunColumn::Best && shown.named && now.best.is_some();
                        let text = if named { format!("{text} {}", run.metric.replace('_', " ")) } else { text };
                        drop(ui.add(egui::Label::new(RichText::new(text).monospace()).selectable(false)));
                    }
                    _ => drop(ui.add(egui::Label::new(text).selectable(false).truncate())),
                }
            });
        }
        // Clicks anywhere in the row count.
        self.take_clicks(ctx, run, &row.response());
    }

    fn name_ui(&mut self, ctx: &PanelCtx<'_>, run: &RunSummary, depth: usize, selected: bool, ui: &mut Ui) {
        ui.add_space(14.0 * depth.min(6) as f32);
        let response = ui.add(egui::Button::selectable(selected, run.title()).frame(false).truncate());
        let started = format::date_time(run.created);
        let notes = if run.label.notes.is_empty() { String::new() } else { format!("\n\n{}", run.label.notes) };
        let from = if run.label.parent.is_empty() {
            String::new()
        } else {
            format!("\nMade from {} {}", run.label.parent, run.label.edge)
        };
        let tip =
            format!("{}\n{}\nStarted {started}. Double-click to open{from}{notes}", run.title(), run.dir.display());
        self.take_clicks(ctx, run, &response.on_hover_text(tip));
        if depth > 0 && !run.label.edge.is_empty() {
            ui.add(egui::Label::new(RichText::new(&run.label.edge).small().color(ctx.theme.muted)).truncate());
        }
    }

    fn take_clicks(&mut self, ctx: &PanelCtx<'_>, run: &RunSummary, response: &egui::Response) {
        if response.clicked() {
            self.selected = Some(run.dir.clone());
        }
        if response.double_clicked() {
            ctx.push(Action::OpenRun(run.dir.clone()));
        }
    }
}

/// What a row shows.
#[derive(Clone, Copy)]
struct Shown<'a> {
    columns: &'a [RunColumn],
    /// The best value has the name of its metric beside it.
    named: bool,
}

/// The colour is in a dot with a rim, so that the word is readable on a selected row too.
fn status_ui(ctx: &PanelCtx<'_>, status: RunStatus, ui: &mut Ui) {
    ui.spacing_mut().item_spacing.x = 4.0;
    let (words, color) = run_state::status_label(status, ctx.theme);
    let (rect, _) = ui.allocate_exact_size(egui::vec2(9.0, 9.0), egui::Sense::hover());
    let rim = egui::Stroke::new(1.0, ui.visuals().extreme_bg_color);
    ui.painter().circle(rect.center(), 4.0, color, rim);
    drop(ui.add(egui::Label::new(words).selectable(false)));
}

/// The shown runs with everything known of them.
fn table(runs: &[RunSummary], order: &[(usize, usize)]) -> Table {
    let names = RunColumn::ALL.map(|column| column.describe().0);
    let mut table = Table::new(names.into_iter().chain(["Steps planned", "Notes", "Directory"]));
    for run in order.iter().filter_map(|(i, _)| runs.get(*i)) {
        let cell = |column: RunColumn| match column {
            RunColumn::Best => run.best.into(),
            RunColumn::Steps => run.step.into(),
            RunColumn::Started => format::date_time(run.created).into(),
            RunColumn::Time => run.seconds.into(),
            RunColumn::Bytes => run.bytes.into(),
            text => Cell::Text(text.text(run)),
        };
        let rest = [run.total_steps.into(), run.label.notes.as_str().into(), run.dir.display().to_string().into()];
        table.push(RunColumn::ALL.into_iter().map(cell).chain(rest));
    }
    table
}
