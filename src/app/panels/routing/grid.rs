//! One adapted module on each pair of its experts, on one example; the dice of all others.

use super::fan;
use crate::app::actions::Action;
use crate::app::names;
use crate::app::panel_ctx::PanelCtx;
use crate::app::run_view::RunView;
use crate::app::theme::Theme;
use crate::app::weights_line;
use crate::app::widgets::{cards, labeled};
use crate::config::MixtureKind;
use crate::format;
use crate::protocol::{GridPlan, GridReport, ModelQuery, SIDES, Study, likeliest};
use egui::{RichText, Ui};

/// What is asked for: kept on screen.
#[derive(Clone, Debug, Default, PartialEq)]
struct Asked {
    module: usize,
    route: usize,
}

fn memory() -> egui::Id {
    egui::Id::unique("pinned module")
}

/// From now on the card is about this module.
pub fn choose(ui: &Ui, module: usize) {
    ui.data_mut(|data| data.get_temp_mut_or_default::<Asked>(memory()).module = module);
}

/// Draws the card.
pub fn ui(ctx: &PanelCtx<'_>, run: &RunView, ui: &mut Ui) {
    let Some(subject) = ctx.session.subject() else { return };
    cards::card(ui, ctx.theme, "Pin one module", |ui| {
        let words = "The example above with one module on each pair of its experts; all other modules are on one random route, \
                     which the dice roll anew.";
        cards::caption(ui, ctx.theme, words);
        let mut asked: Asked = ui.data(|data| data.get_temp(memory())).unwrap_or_default();
        let modules: Vec<(usize, String)> =
            run.start.sites.iter().enumerate().map(|(at, name)| (at, names::module(name))).collect();
        asked.module = asked.module.min(modules.len().saturating_sub(1));
        labeled::choice(
            ui,
            "Pinned module",
            "The module that is put on each of its experts",
            &mut asked.module,
            &modules,
        );
        let plan = |asked: &Asked| GridPlan {
            input: fan::example(ui),
            module: asked.module,
            route: asked.route,
            seed: run.config.train.seed,
        };
        let action = |plan: GridPlan| Action::Query(subject.clone(), ModelQuery::Study(Study::Grid(plan)));
        let query = &ctx.session.studies.grid;
        let now = action(plan(&asked));
        let rolled = Asked { route: asked.route + 1, ..asked.clone() };
        let anew = action(plan(&rolled));
        ctx.job_ui(ui, now, query, "pinning the module");
        let dice = egui::Button::new("Roll the dice");
        if ctx.button_as(ui, anew, dice).clicked() {
            asked = rolled;
        }
        ui.data_mut(|data| data.insert_temp(memory(), asked));
        if let Some(report) = &query.value {
            weights_line::answer_ui(ctx, ui, query.weights);
            report_ui(ctx.theme, run.config.mixture.kind, report, ui);
        }
    });
}

fn report_ui(theme: &Theme, kind: MixtureKind, report: &GridReport, ui: &mut Ui) {
    let [down, up] = report.experts;
    let merged = report.merged.get(if report.labels.is_empty() { 0 } else { likeliest(&report.merged) });
    let words = format!(
        "{} with {} on each pair of its experts, all others on random route {}; merged {}.",
        report.words(),
        names::module(&report.module),
        report.plan.route,
        merged.map_or_else(String::new, |value| format::metric(*value))
    );
    cards::muted(ui, theme, words);
    let name = |side: usize, expert: usize| {
        let side_name = names::side(kind, SIDES[side]);
        if report.experts[side] == 1 { format!("{side_name} (shared)") } else { format!("{side_name} {expert}") }
    };
    egui::ScrollArea::horizontal().id_salt("pinned module").show(ui, |ui| {
        egui::Grid::new("pinned module").striped(true).spacing([14.0, 4.0]).show(ui, |ui| {
            ui.label("");
            (0..up).for_each(|j| drop(ui.label(RichText::new(name(1, j)).strong())));
            ui.end_row();
            for i in 0..down {
                ui.label(RichText::new(name(0, i)).strong());
                for j in 0..up {
                    let drawn = report.drawn.map(usize::from) == [i, j];
                    let value = report.shown(i, j).map_or_else(String::new, format::metric);
                    let text = if drawn { format!("{value} ◆") } else { value };
                    ui.monospace(text).on_hover_text(cell_text(report, (i, j), drawn));
                }
                ui.end_row();
            }
        });
    });
    cards::caption(ui, theme, "◆: the pair that the route draws itself. Under the pointer: every class.");
}

/// All numbers of a cell.
fn cell_text(report: &GridReport, (i, j): (usize, usize), drawn: bool) -> String {
    let cell = report.cells.get(i * report.experts[1] + j).map_or(&[][..], Vec::as_slice);
    let values: Vec<String> = match report.labels.is_empty() {
        true => cell.iter().map(|value| format::metric(*value)).collect(),
        false => report.labels.iter().zip(cell).map(|(label, p)| format!("{label} {}", format::metric(*p))).collect(),
    };
    let own = if drawn { "; the route's own pair" } else { "" };
    format!("down {i}, up {j}: {}{own}", values.join(", "))
}
