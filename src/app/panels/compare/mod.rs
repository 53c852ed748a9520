//! The merged model against random routes, single experts and the ensemble; merges with chosen weights.

mod averages;
mod plot;
mod table;
mod weights;
mod written;

use crate::app::actions::Action;
use crate::app::names;
use crate::app::panel_ctx::{PanelCtx, shown_run};
use crate::app::run_view::RunView;
use crate::app::widgets::{cards, verdict};
use crate::config::{Method, Task};
use crate::format;
use crate::protocol::{EvalReport, ModelQuery, Subject};
use egui::Ui;

pub struct ComparePanel {
    routes: usize,
    zoomed: bool,
    weights: weights::WeightsForm,
    inputs: usize,
    all_modules: bool,
}

impl Default for ComparePanel {
    fn default() -> Self {
        Self { routes: 5, zoomed: false, weights: weights::WeightsForm::default(), inputs: 20, all_modules: false }
    }
}

impl ComparePanel {
    pub fn ui(&mut self, ctx: &PanelCtx<'_>, ui: &mut Ui) {
        let hint = "The merged model beside random routes, single experts and the ensemble. Press Start to train one, or \
                    open a run in Runs.";
        let run = shown_run(ctx, ui, "Nothing to compare yet", hint);
        let (Some(run), Some(subject)) = (run, ctx.session.subject()) else { return };
        let measured = ctx.session.compare.value.as_ref();
        let report = measured.or(run.report());
        cards::card(ui, ctx.theme, "", |ui| self.ask_ui(ctx, run, &subject, report, measured.is_some(), ui));
        ctx.error_ui(ui, &ctx.session.compare);
        if let Some(report) = report {
            let rows = table::rows(report, &ctx.session.tried);
            cards::card(ui, ctx.theme, "Which variant is best?", |ui| {
                let (verdict, words) = table::verdict_text(report, &rows);
                verdict::line(ui, ctx.theme, verdict, &words);
                ui.add_space(4.0);
                table::ui(ctx.theme, report, &rows, ui);
            });
            let title = format!("{} of each, on one axis", names::metric(&report.metric));
            cards::card(ui, ctx.theme, &title, |ui| plot::ui(ctx.theme, report, &rows, &mut self.zoomed, ui));
        }
        if run.config.data.task == Task::Text {
            written::ui(ctx, &subject, &mut self.inputs, ui);
        }
        if run.config.model.method == Method::Adamix && run.config.mixture.num_experts > 1 {
            averages::ui(ctx, &subject, &mut self.all_modules, ui);
            self.weights.ui(ctx, run, &subject, report, ui);
        } else {
            let words = "This run has a single module, so there is nothing to merge and no weights to choose.";
            cards::muted(ui, ctx.theme, words);
        }
        cards::explanation(ui, ctx.theme, "What is averaged here, and what is not", &EXPLANATION);
    }

    /// The button, how many routes, and what is shown.
    fn ask_ui(
        &mut self,
        ctx: &PanelCtx<'_>,
        run: &RunView,
        subject: &Subject,
        report: Option<&EvalReport>,
        measured: bool,
        ui: &mut Ui,
    ) {
        ui.horizontal_wrapped(|ui| {
            let words = if report.is_some() { "Measure again" } else { "Compare" };
            let compare = Action::Query(subject.clone(), ModelQuery::Compare { random_routes: self.routes });
            // The button that matters until something is measured.
            match report {
                Some(_) => drop(ctx.button_as(ui, compare, egui::Button::new(words))),
                None => drop(ctx.primary(ui, compare, words)),
            }
            let tip = "Whole random routes: each fixes one draw per layer for the entire evaluation. More routes make a \
                       more reliable band and take longer";
            let name = ui.label("Random routes").on_hover_text(tip);
            let value = egui::DragValue::new(&mut self.routes).range(1..=50).speed(0.1);
            drop(ui.add(value).labelled_by(name.id).on_hover_text(tip));
            ctx.pending_ui(ui, &ctx.session.compare, "measuring");
        });
        let words = match (report, measured) {
            (None, _) if ctx.session.compare.is_pending() => return,
            (None, _) => "Nothing is measured yet. Compare runs the evaluation rows through the merged model, random \
                          routes, each single expert and the ensemble."
                .to_owned(),
            (Some(report), true) => format!("Measured on {} evaluation rows.", format::count(report.rows)),
            (Some(report), false) => format!(
                "Measured at the end of training ({}) on {} evaluation rows.",
                run.end.as_ref().map_or_else(String::new, |end| format!("step {}", format::count(end.step))),
                format::count(report.rows)
            ),
        };
        cards::caption(ui, ctx.theme, words);
    }
}

const EXPLANATION: [&str; 5] = [
    "Merged: in each layer, the mean of the experts' down-projections and the mean of their up-projections, weights and \
     biases (AdaMix, section 3.3); experts imported with scores are weighted by them. One adapter remains, with the cost of one.",
    "This averages the factors. The average of the products W^U W^D differs from it whenever both sides differ between \
     experts, and so does the average of the outputs: between the two projections there is a nonlinearity.",
    "Ensemble: the mean of the probabilities of several random routes. Merging approximates it; it costs as many forward \
     passes as routes.",
    "Random routes: one draw for each layer, kept for all rows. The band reaches from the worst to the best route; a gain \
     smaller than the band or than the standard error means nothing.",
    "Fixed: expert j in all layers. Consistency training makes the experts' outputs similar, so that all of these scores \
     come close to each other.",
];
