//! The line that names the weights of a view: run, step, why these. They are chosen here for all views at once.

use super::actions::Action;
use super::panel_ctx::PanelCtx;
use super::run_view::RunView;
use super::session::{Session, Weights};
use super::widgets::cards;
use crate::format;
use crate::protocol::{Checkpoint, WeightsOf};
use egui::{ComboBox, RichText, Ui};

const TIP: &str = "Which weights of the run Compare, Experts, Playground and Export are about: those of one of its \
                   checkpoints on disk, or during training those of the moment. Best is the first of equals";

/// Draws the line, with a choice where there is more than one.
pub fn ui(ctx: &PanelCtx<'_>, run: &RunView, ui: &mut Ui) {
    let (chosen, options) = (ctx.session.weights(), options(ctx.session, run));
    ui.horizontal_wrapped(|ui| {
        let name = ui.label("Weights").on_hover_text(TIP);
        if options.len() > 1 {
            let shown = options.iter().find(|(option, _)| *option == chosen);
            let shown = shown.map_or_else(|| title(run, chosen), |(_, title)| title.clone());
            let list = ComboBox::from_id_salt("weights of the run").selected_text(shown).width(190.0).height(320.0);
            let list = list.show_ui(ui, |ui| {
                for (option, title) in &options {
                    if ui.selectable_label(*option == chosen, title).clicked() {
                        ctx.push(Action::ChooseWeights(*option));
                    }
                }
            });
            drop(list.response.labelled_by(name.id).on_hover_text(TIP));
        }
        match ctx.session.weights_of_shown() {
            Some(weights) => cards::caption(ui, ctx.theme, sentence(run, chosen, weights)),
            None => ui.label(RichText::new(missing(run, chosen)).small().color(ctx.theme.warning)),
        };
    });
    ui.add_space(2.0);
}

/// The checkpoint nearest to the playhead, with a button that chooses it; nothing without a playhead.
pub fn nearest_ui(ctx: &PanelCtx<'_>, run: &RunView, ui: &mut Ui) {
    let Some(step) = ctx.session.playhead else { return };
    let Some(&nearest) = run.checkpoints.steps.iter().min_by_key(|known| known.abs_diff(step)) else { return };
    let (at, saved) = (format::count(step), format::count(nearest));
    ui.horizontal_wrapped(|ui| {
        if ctx.session.weights_of_shown().is_some_and(|weights| weights.step == nearest && weights.checkpoint.is_some())
        {
            cards::caption(
                ui,
                ctx.theme,
                format!("Step {at} is at the playhead; these are the weights saved nearest to it."),
            );
            return;
        }
        cards::caption(
            ui,
            ctx.theme,
            format!("Step {at} is at the playhead; the nearest saved weights are of step {saved}."),
        );
        let action = Action::ChooseWeights(Weights::Saved(Checkpoint::Step(nearest)));
        let button = egui::Button::new(format!("Take step {saved}")).small();
        ctx.button_as(ui, action, button);
    });
}

/// Says which weights an answer was computed from, where the line above does not say it.
pub fn answer_ui(ctx: &PanelCtx<'_>, ui: &mut Ui, answer: Option<WeightsOf>) {
    let Some(answer) = answer else { return };
    let now = ctx.session.weights_of_shown();
    if now.is_some_and(|now| now.step == answer.step) {
        return;
    }
    let step = format::count(answer.step);
    match now.and_then(|now| now.checkpoint.map(|_| format::count(now.step))) {
        None => drop(cards::caption(ui, ctx.theme, format!("Computed from the weights after step {step}."))),
        Some(now) => {
            let words =
                format!("Computed from the weights after step {step}; those above are of step {now} now. Ask again.");
            ui.label(RichText::new(words).small().color(ctx.theme.warning));
        }
    }
}

/// The weights there are: those in training, best, last, then all steps from the newest down.
fn options(session: &Session, run: &RunView) -> Vec<(Weights, String)> {
    let mut all = Vec::new();
    if session.shows_live() && session.phase.is_active() {
        all.push(Weights::Training);
    }
    if !run.checkpoints.steps.is_empty() {
        all.extend(run.checkpoints.best.map(|_| Weights::Saved(Checkpoint::Best)));
        all.push(Weights::Saved(Checkpoint::Last));
        all.extend(run.checkpoints.steps.iter().rev().map(|&step| Weights::Saved(Checkpoint::Step(step))));
    }
    all.into_iter().map(|option| (option, title(run, option))).collect()
}

fn title(run: &RunView, weights: Weights) -> String {
    let Weights::Saved(checkpoint) = weights else { return "In training".to_owned() };
    match (run.checkpoints.resolve(checkpoint), checkpoint) {
        (Ok(WeightsOf { step, checkpoint: Some(Checkpoint::Best) }), _) => {
            format!("Best, step {}", format::count(step))
        }
        (Ok(WeightsOf { step, checkpoint: Some(Checkpoint::Last) }), _) => {
            format!("Last, step {}", format::count(step))
        }
        (Ok(WeightsOf { step, .. }), _) | (Err(_), Checkpoint::Step(step)) => format!("Step {}", format::count(step)),
        (Err(_), Checkpoint::Best | Checkpoint::Last) => checkpoint.to_string(),
    }
}

/// `lab-demo, after step 400: best by accuracy`
fn sentence(run: &RunView, chosen: Weights, weights: WeightsOf) -> String {
    let why = match weights.checkpoint {
        None => "in training".to_owned(),
        Some(Checkpoint::Last) if chosen == Weights::Saved(Checkpoint::Best) => {
            "the last, for none was evaluated yet".to_owned()
        }
        Some(Checkpoint::Best) => format!("best by {}", run.metric()),
        Some(Checkpoint::Last) => "the last".to_owned(),
        Some(Checkpoint::Step(_)) => "chosen".to_owned(),
    };
    format!("{}, after step {}: {why}", run.name(), format::count(weights.step))
}

/// Why there are no such weights.
fn missing(run: &RunView, weights: Weights) -> String {
    match weights {
        Weights::Saved(Checkpoint::Step(step)) if !run.checkpoints.steps.is_empty() => {
            format!("{}: the checkpoint of step {} is gone; choose another one", run.name(), format::count(step))
        }
        _ => format!("{} has no checkpoint yet", run.name()),
    }
}
