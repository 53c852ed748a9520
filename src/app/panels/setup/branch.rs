//! Where the next run begins: anew, or at a checkpoint of the run whose settings these are.

use crate::app::actions::Action;
use crate::app::panel_ctx::PanelCtx;
use crate::app::widgets::{cards, labeled};
use crate::config::branching;
use crate::format;
use crate::protocol::Checkpoint;
use egui::Ui;

/// A card with the checkpoint and what was changed; nothing where the next run begins anew.
pub fn ui(ctx: &PanelCtx<'_>, ui: &mut Ui) {
    let session = ctx.session;
    let Some((from, checkpoint)) = session.branches_from() else { return };
    cards::card(ui, ctx.theme, "Goes on from another run", |ui| {
        let listed = session.runs.value.iter().flatten().find(|listed| listed.dir == from.dir);
        let name = listed.map_or_else(|| from.name(), |listed| listed.title().to_owned());
        ui.label(format!("The next run begins with the weights of {name}"));
        let shown = session.shown().filter(|run| run.dir == from.dir);
        let steps = shown.map_or(&[][..], |run| &run.checkpoints.steps);
        let at = |step: Option<u64>| step.map_or_else(String::new, |step| format!(" (step {})", format::count(step)));
        let best = shown.and_then(|run| run.best_eval()).map(|eval| eval.step).filter(|step| steps.contains(step));
        let mut choices = vec![
            (Checkpoint::Best, format!("The best checkpoint{}", at(best))),
            (Checkpoint::Last, format!("The last checkpoint{}", at(steps.iter().max().copied()))),
        ];
        choices.extend(steps.iter().map(|&step| (Checkpoint::Step(step), format!("Step {step}"))));
        if choices.iter().all(|(choice, _)| *choice != checkpoint) {
            choices.push((checkpoint, checkpoint.to_string()));
        }
        let mut chosen = checkpoint;
        let tip = "Weights, optimizer and place in the data are those of this checkpoint";
        labeled::choice(ui, "From", tip, &mut chosen, &choices);
        if chosen != checkpoint {
            ctx.push(Action::SetBranch(Some(chosen)));
        }
        let changes = branching::changes(&session.run_config(), &from.config).unwrap_or_default();
        let words = match changes.is_empty() {
            true => "Nothing is changed yet: the new run would make the same bits as that one did.".to_owned(),
            false => format!("Changed: {}", branching::in_words(&changes)),
        };
        cards::caption(ui, ctx.theme, words);
        ctx.button(ui, Action::SetBranch(None));
    });
}
