//! Where routes part on one example: a line for each route, from the merged model's answer to its own.

use crate::app::actions::Action;
use crate::app::panel_ctx::PanelCtx;
use crate::app::run_view::RunView;
use crate::app::theme::Theme;
use crate::app::weights_line;
use crate::app::widgets::metric_plot::{self, Curve, PlotOptions};
use crate::app::widgets::{cards, labeled};
use crate::format;
use crate::protocol::{FanPlan, FanReport, ModelQuery, Split, Study, TryInput};
use egui::Ui;

/// What is asked for: kept on screen.
#[derive(Clone, Debug, Default, PartialEq)]
struct Asked {
    /// Number of the evaluation row, from 0.
    row: usize,
    /// A text of one's own; empty: the row.
    text: String,
}

/// Draws the card.
pub fn ui(ctx: &PanelCtx<'_>, run: &RunView, ui: &mut Ui) {
    let Some(subject) = ctx.session.subject() else { return };
    cards::card(ui, ctx.theme, "Where routes part", |ui| {
        let words = "One example along several random routes: the answer with the lowest layers on the route and all others \
                     merged. Each line begins at the merged model's answer and ends at its route's; what a layer adds is its \
                     slope there.";
        cards::caption(ui, ctx.theme, words);
        let input = example_ui(run, ui);
        let plan = FanPlan { input, routes: FanPlan::ROUTES, seed: run.config.train.seed };
        let query = &ctx.session.studies.fan;
        let action = Action::Query(subject, ModelQuery::Study(Study::Fan(plan)));
        ctx.job_ui(ui, action, query, "following the routes");
        if let Some(report) = &query.value {
            weights_line::answer_ui(ctx, ui, query.weights);
            report_ui(ctx.theme, report, ui);
        }
    });
}

/// The example that is read: a row, or a text of one's own. Cards below ask about the same one.
fn example_ui(run: &RunView, ui: &mut Ui) -> TryInput {
    let mut asked = kept(ui);
    let rows = run.start.eval_rows.max(1);
    let mut number = asked.row.min(rows - 1) + 1;
    labeled::number(ui, "Evaluation row", "The row that is read, from 1", &mut number, 1..=rows, 1.0);
    asked.row = number - 1;
    let tip = "A text of your own instead of the row; of a language model the beginning that the next token follows";
    labeled::text(ui, "Text instead", tip, "the evaluation row", &mut asked.text);
    let input = asked.input();
    ui.data_mut(|data| data.insert_temp(memory(), asked));
    input
}

fn memory() -> egui::Id {
    egui::Id::unique("example of the fan")
}

/// What is asked for.
fn kept(ui: &Ui) -> Asked {
    ui.data(|data| data.get_temp(memory())).unwrap_or_default()
}

/// The example that the card asks about.
pub fn example(ui: &Ui) -> TryInput {
    kept(ui).input()
}

impl Asked {
    fn input(&self) -> TryInput {
        match self.text.trim() {
            "" => TryInput::Row { split: Split::Evaluation, row: self.row },
            text => TryInput::Text { text: text.to_owned(), pair: None },
        }
    }
}

fn report_ui(theme: &Theme, report: &FanReport, ui: &mut Ui) {
    for text in [Some(&report.text), report.pair.as_ref()].into_iter().flatten() {
        cards::muted(ui, theme, format!("“{}”", format::ellipsis(text, 200)));
    }
    cards::muted(ui, theme, sentence(report));
    let line = |at: &[f64]| at.iter().enumerate().map(|(l, &value)| [l as f64, value]).collect::<Vec<_>>();
    let route = |(number, at): (usize, &Vec<f64>)| Curve {
        dots: true,
        ..Curve::line(format!("route {number}"), theme.series(0).gamma_multiply(0.7), line(at))
    };
    let mut curves: Vec<Curve> = report.lines.iter().map(|line| &line.at).enumerate().map(route).collect();
    if let Some(merged) = report.merged() {
        let ends = [[0.0, merged], [report.layers as f64, merged]].to_vec();
        curves.push(Curve { dashed: true, ..Curve::line("merged", theme.series(1), ends) });
    }
    let options = PlotOptions {
        title: "Where routes part on one example",
        height: 190.0,
        x: Some("layers on the route, from below"),
        ..PlotOptions::default()
    };
    metric_plot::ui(ui, theme, "fan of routes", &curves, &[], &options);
    let words = format!(
        "Upwards: {}. Dashed: the merged model. {} layer passes over the example in {}.",
        report.scale.words(),
        format::count(report.layer_passes),
        format::duration(report.seconds)
    );
    cards::caption(ui, theme, words);
}

/// What the picture says.
fn sentence(report: &FanReport) -> String {
    let ends: Vec<f64> = report.lines.iter().filter_map(|line| line.at.last()).copied().collect();
    let [low, high] = ends.iter().fold([f64::INFINITY, f64::NEG_INFINITY], |[a, b], &v| [a.min(v), b.max(v)]);
    let moves: Vec<String> = report
        .layer_moves
        .iter()
        .enumerate()
        .map(|(layer, moved)| format!("layer {layer} {}", format::significant(*moved, 2)))
        .collect();
    format!(
        "The merged model gives {}, the routes {} to {}. Moved by each layer (root mean square): {}.",
        report.merged().map_or_else(String::new, format::metric),
        format::metric(low),
        format::metric(high),
        moves.join(", ")
    )
}
