//! The merged model against random routes, single experts and the ensemble; merges with chosen weights.

mod averages;
mod calibration;
mod confusion;
mod drag;
mod kept;
mod methods;
mod plot;
mod rows;
mod slices;
mod slider_weights;
mod spread;
mod table;
mod weights;
mod written;

use crate::analysis::verdict as judgement;
use crate::app::actions::Action;
use crate::app::names;
use crate::app::panel_ctx::{PanelCtx, shown_run};
use crate::app::run_view::RunView;
use crate::app::weights_line;
use crate::app::widgets::{cards, verdict};
use crate::config::{Method, MixtureKind, Task};
use crate::format;
use crate::protocol::{EvalReport, MergeReport, ModelQuery, Subject};
use egui::{RichText, Ui};

pub struct ComparePanel {
    routes: usize,
    plot: plot::PlotView,
    rows: rows::RowsForm,
    weights: weights::WeightsForm,
    methods: methods::MethodsForm,
    spread: spread::SpreadForm,
    inputs: usize,
    all_modules: bool,
}

/// What the view shows, all of the same weights.
struct Shown<'a> {
    report: Option<&'a EvalReport>,
    /// Training steps of the weights in the report, where they are known.
    step: Option<u64>,
    /// Asked for, and not the comparison at the end of training.
    measured: bool,
    /// The scored merges of the report's weights.
    tried: &'a [MergeReport],
}

impl<'a> Shown<'a> {
    fn of(ctx: &PanelCtx<'a>, run: &'a RunView) -> Self {
        let measured = ctx.session.compare.value.as_ref();
        let (report, step) = match (measured, &run.end) {
            (Some(report), _) => (Some(report), ctx.session.compare.weights.map(|weights| weights.step)),
            (None, Some(end)) => {
                // The comparison at the end is of the best weights, which need not be the chosen ones.
                let chosen = ctx.session.weights_of_shown().is_none_or(|weights| weights.step == end.weights_step());
                (end.report.as_ref().filter(|_| chosen), Some(end.weights_step()))
            }
            (None, None) => (None, None),
        };
        let shown = Self { report, step, measured: measured.is_some(), tried: &ctx.session.tried };
        if tried_apart(ctx, &shown) { Self { tried: &[], ..shown } } else { shown }
    }
}

/// Whether merges were scored with other weights than the report is about.
fn tried_apart(ctx: &PanelCtx<'_>, shown: &Shown<'_>) -> bool {
    let tried = ctx.session.tried_weights.map(|weights| weights.step);
    shown.report.is_some() && tried.zip(shown.step).is_some_and(|(tried, step)| tried != step)
}

impl Default for ComparePanel {
    fn default() -> Self {
        let (plot, rows, weights) = Default::default();
        let (methods, spread) = Default::default();
        Self { routes: 5, plot, rows, weights, methods, spread, inputs: 20, all_modules: false }
    }
}

impl ComparePanel {
    pub fn ui(&mut self, ctx: &PanelCtx<'_>, ui: &mut Ui) {
        let hint = "The merged model beside random routes, single experts and the ensemble. Press Start to train one, or \
                    open a run in Runs.";
        let run = shown_run(ctx, ui, "Nothing to compare yet", hint);
        let (Some(run), Some(subject)) = (run, ctx.session.subject()) else { return };
        weights_line::ui(ctx, run, ui);
        let shown = Shown::of(ctx, run);
        let (report, tried) = (shown.report, shown.tried);
        cards::card(ui, ctx.theme, "", |ui| self.ask_ui(ctx, &subject, &shown, ui));
        ctx.error_ui(ui, &ctx.session.compare);
        if let Some(report) = report {
            let rows = table::rows(report, tried);
            cards::card(ui, ctx.theme, "Which variant is best?", |ui| {
                let custom = table::custom_merges(tried);
                let judged = judgement::verdict(report, &custom, &run.evals);
                verdict::line(ui, ctx.theme, verdict::of_grade(judged.grade), &judged.text);
                ui.add_space(4.0);
                table::ui(ctx.theme, report, &rows, ui);
            });
            let shown = if self.plot.loss { "loss" } else { report.metric.as_str() };
            let title = format!("{} of each, on one axis", names::metric(shown));
            cards::card(ui, ctx.theme, &title, |ui| plot::ui(ctx.theme, report, &rows, &mut self.plot, ui));
        }
        self.rows.ui(ctx, run, &subject, self.routes, ui);
        if run.config.data.task == Task::Text {
            written::ui(ctx, &subject, &mut self.inputs, ui);
        }
        if run.config.model.method == Method::Adamix && run.config.mixture.num_experts > 1 {
            averages::ui(ctx, &subject, &mut self.all_modules, ui);
            self.weights.ui(ctx, run, &subject, report.filter(|_| !tried_apart(ctx, &shown)), ui);
            self.methods.ui(ctx, run, &subject, ui);
            self.spread.ui(ctx, &subject, ui);
        } else {
            let words = "This run has a single module, so there is nothing to merge and no weights to choose.";
            cards::muted(ui, ctx.theme, words);
        }
        let paragraphs = explanation(run.config.mixture.kind);
        cards::explanation(ui, ctx.theme, "What is averaged here, and what is not", &paragraphs);
    }

    /// The button, how many routes, and what is shown.
    fn ask_ui(&mut self, ctx: &PanelCtx<'_>, subject: &Subject, shown: &Shown<'_>, ui: &mut Ui) {
        let report = shown.report;
        ui.horizontal_wrapped(|ui| {
            let words = if report.is_some() { "Measure again" } else { "Compare" };
            let compare = Action::Query(subject.clone(), ModelQuery::Compare { random_routes: self.routes });
            // The button that matters until something is measured.
            match report {
                Some(_) => drop(ctx.button_as(ui, compare.clone(), egui::Button::new(words))),
                None => drop(ctx.primary(ui, compare.clone(), words)),
            }
            ctx.command_button(ui, &compare);
            let tip = "Whole random routes: each fixes one draw per layer for the entire evaluation. More routes make a \
                       more reliable band and take longer";
            let name = ui.label("Random routes").on_hover_text(tip);
            let value = egui::DragValue::new(&mut self.routes).range(1..=50).speed(0.1);
            drop(ui.add(value).labelled_by(name.id).on_hover_text(tip));
            ctx.pending_ui(ui, &ctx.session.compare, "measuring");
        });
        let words = match report {
            None if ctx.session.compare.is_pending() => return,
            None => {
                "Nothing is measured yet of these weights. Compare runs the evaluation rows through the merged model, \
                     random routes, each single expert and the ensemble."
                    .to_owned()
            }
            Some(report) => {
                let when = if shown.measured { "Measured" } else { "Measured at the end of training" };
                let step =
                    shown.step.map_or_else(String::new, |step| format!(", weights after step {}", format::count(step)));
                format!("{when}{step}, on {}.", format::counted(report.rows, "evaluation row"))
            }
        };
        cards::caption(ui, ctx.theme, words);
        if shown.measured {
            weights_line::answer_ui(ctx, ui, ctx.session.compare.weights);
        }
        if tried_apart(ctx, shown) {
            let words = "The merges scored below are of other weights and not in this table; measure again.";
            ui.label(RichText::new(words).small().color(ctx.theme.warning));
        }
    }
}

/// What is averaged, for experts of this kind.
fn explanation(kind: MixtureKind) -> [&'static str; 5] {
    let [merged, factors] = match kind {
        MixtureKind::Adapter => [
            "Merged: in each layer, the mean of the experts' down-projections and the mean of their up-projections, weights \
             and biases (AdaMix, section 3.3); experts imported with scores are weighted by them. One adapter remains, with \
             the cost of one.",
            "This averages the factors. The average of the products of up- and down-projection differs from it whenever both \
             sides differ between experts, and so does the average of the outputs: between the two projections there is a \
             nonlinearity.",
        ],
        MixtureKind::Lora => [
            "Merged: in each adapted matrix, the mean of the experts' A and the mean of their B (AdaMix, section 3.3); \
             experts imported with scores are weighted by them. One LoRA of rank r remains, with the cost of one.",
            "This averages the factors. The average of the products B A, which a LoRA adds to the matrix, differs from it \
             whenever both A and B differ between experts; where one of them is shared, both are the same. There is no bias \
             and no nonlinearity between A and B.",
        ],
    };
    [merged, factors, ENSEMBLE, ROUTES, FIXED]
}

const ENSEMBLE: &str = "Ensemble: the mean of the probabilities of several random routes. Merging approximates it; it costs as \
                        many forward passes as routes.";
const ROUTES: &str = "Random routes: one draw for each module, kept for all rows. The band reaches from the worst to the best \
                      route. The best of several draws is lucky and cannot be exported; the interval of the difference from merged \
                      is of their mean.";
const FIXED: &str = "Fixed: expert j in all modules. Consistency training makes the experts' outputs similar, so that all of \
                     these scores come close to each other.";
