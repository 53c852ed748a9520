//! Merges kept under a name in the run's directory.

use crate::app::actions::Action;
use crate::app::names;
use crate::app::panel_ctx::PanelCtx;
use crate::app::run_view::RunView;
use crate::app::widgets::{cards, labeled};
use crate::protocol::MergePlan;
use egui::Ui;

/// The name that is typed.
#[derive(Default)]
pub struct KeptForm {
    name: String,
}

impl KeptForm {
    /// Draws the name and the list; gives the plan whose *Use* was clicked.
    pub fn ui(
        &mut self,
        ctx: &PanelCtx<'_>,
        run: &RunView,
        merge: Option<MergePlan>,
        ui: &mut Ui,
    ) -> Option<MergePlan> {
        ui.add_space(4.0);
        let tip = "A name under which these weights are kept in the run's directory (merges.json); on the command line \
                   --method named:NAME";
        labeled::text(ui, "Name of the merge", tip, "such as: more of expert 2", &mut self.name);
        ui.horizontal_wrapped(|ui| {
            let name = self.name.trim().to_owned();
            let why = match &merge {
                _ if run.capsule.is_some() => Some("this run was opened from a capsule, which stays as it is"),
                _ if name.is_empty() => Some("give the merge a name first"),
                None => Some("these weights cannot be merged"),
                Some(_) => None,
            };
            let keep = Action::NameMerge(run.dir.clone(), name, merge);
            match why {
                Some(why) => ctx.refused(ui, "Keep merge", why),
                None => drop(ctx.button_as(ui, keep, egui::Button::new("Keep merge"))),
            }
        });
        ctx.error_ui(ui, &ctx.session.naming);
        let mut chosen = None;
        for kept in &run.merges {
            ui.horizontal_wrapped(|ui| {
                ui.strong(&kept.name);
                ui.label(names::merge_plan(&kept.merge));
                if kept.merge.is_weights() {
                    let button = ui.small_button("Use").on_hover_text("Puts the sliders to these weights");
                    if button.accessible_name(format!("Use the merge {}", kept.name)).clicked() {
                        chosen = Some(kept.merge.clone());
                    }
                }
                let remove = Action::NameMerge(run.dir.clone(), kept.name.clone(), None);
                let button = ctx.button_as(ui, remove, egui::Button::new("Remove").small());
                drop(button.accessible_name(format!("Remove the merge {}", kept.name)));
            });
        }
        if !run.merges.is_empty() {
            cards::caption(ui, ctx.theme, "They can also be chosen in Export, and by name on the command line.");
        }
        chosen
    }
}
