//! The choice of what the x-axes of curves over time count.

use super::actions::Action;
use super::clock::XAxis;
use super::panel_ctx::PanelCtx;
use super::widgets::labeled;
use egui::Ui;

/// What the x-axis counts, and whether it is logarithmic.
pub fn ui(ctx: &PanelCtx<'_>, ui: &mut Ui) {
    let (mut axis, mut log) = (ctx.settings.x_axis, ctx.settings.log_x);
    let tip = "What the x-axes of the curves count: optimizer steps, passes over the training rows, tokens (both passes), \
               or the time of the steps without evaluations";
    let label = ui.label("x-axis").on_hover_text(tip);
    let shown = XAxis::ALL.iter().find(|(known, _)| *known == axis).map_or("", |(_, name)| name);
    let list = egui::ComboBox::from_id_salt("x axis").selected_text(shown).width(110.0).show_ui(ui, |ui| {
        for (value, name) in XAxis::ALL {
            ui.selectable_value(&mut axis, value, name);
        }
    });
    drop(list.response.labelled_by(label.id).on_hover_text(tip));
    drop(labeled::toggle(ui, "Logarithmic x", "Logarithmic x-axis; the beginning is stretched", &mut log));
    if (axis, log) != (ctx.settings.x_axis, ctx.settings.log_x) {
        ctx.push(Action::SetXAxis(axis, log));
    }
}
