//! The mixture card: kind and number of experts, routing, sharing, consistency.

use super::data::split_names;
use crate::app::help::tip;
use crate::app::panel_ctx::PanelCtx;
use crate::app::widgets::labeled;
use crate::config::{Activation, AdapterInit, LoraInit, MixtureConfig, MixtureKind, RoutingPolicy};
use egui::{RichText, Ui};

/// Draws the card.
pub fn mixture_ui(ctx: &PanelCtx<'_>, ui: &mut Ui, mixture: &mut MixtureConfig) {
    let kinds = [(MixtureKind::Adapter, "Bottleneck adapters"), (MixtureKind::Lora, "LoRA")];
    labeled::choice(ui, "Each expert is", &tip("mixture.kind"), &mut mixture.kind, &kinds);
    labeled::number(ui, "Experts (M)", &tip("mixture.num_experts"), &mut mixture.num_experts, 1..=64, 0.05);
    let lora = mixture.kind == MixtureKind::Lora;
    if lora {
        labeled::number(ui, "Rank (r)", &tip("mixture.lora_rank"), &mut mixture.lora_rank, 1..=4096, 0.1);
        labeled::number(ui, "Alpha", &tip("mixture.lora_alpha"), &mut mixture.lora_alpha, 1e-3..=1e6, 0.2);
        targets_ui(ctx, ui, &mut mixture.lora_target);
    } else {
        labeled::number(ui, "Bottleneck (r)", &tip("mixture.adapter_size"), &mut mixture.adapter_size, 1..=4096, 0.2);
    }
    let policies = [
        (RoutingPolicy::PerBatch, "Random per batch (paper)"),
        (RoutingPolicy::PerExample, "Random per example"),
        (RoutingPolicy::PerToken, "Random per token"),
        (RoutingPolicy::Fixed, "Always one expert"),
        (RoutingPolicy::RoundRobin, "Round-robin"),
    ];
    labeled::choice(ui, "Routing", &tip("mixture.routing"), &mut mixture.routing, &policies);
    if mixture.routing == RoutingPolicy::Fixed {
        labeled::number(ui, "The expert", &tip("mixture.fixed_expert"), &mut mixture.fixed_expert, 0..=63, 0.05);
    }
    let [down, up] =
        if lora { ["Share A", "Share B"] } else { ["Share the down-projection", "Share the up-projection"] };
    labeled::toggle(ui, down, &tip("mixture.sharing_down"), &mut mixture.sharing_down);
    labeled::toggle(ui, up, &tip("mixture.sharing_up"), &mut mixture.sharing_up);
    labeled::toggle(ui, "Consistency between two passes", &tip("mixture.consistency"), &mut mixture.consistency);
    if mixture.consistency {
        let (label, key) = ("Consistency weight (λ)", tip("mixture.consistency_weight"));
        labeled::number(ui, label, &key, &mut mixture.consistency_weight, 0.0..=1000.0, 0.01);
    }
    egui::CollapsingHeader::new("More about the mixture").id_salt("more mixture").show(ui, |ui| more_ui(ui, mixture));
}

/// Which linear layers get a LoRA: typed, or switched on by name where the model is known.
fn targets_ui(ctx: &PanelCtx<'_>, ui: &mut Ui, targets: &mut Vec<String>) {
    let mut text = targets.join(", ");
    let hint = "empty: queries and values (paper)";
    if labeled::text(ui, "Layers with LoRA", &tip("mixture.lora_target"), hint, &mut text).changed() {
        *targets = split_names(&text);
    }
    let known = ctx.session.model.value.as_ref().map(|info| info.lora_targets.as_slice()).unwrap_or_default();
    if known.is_empty() {
        return;
    }
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing.x = 4.0;
        ui.label(RichText::new("In this model").small().color(ctx.theme.muted));
        let all = "all-linear";
        for name in known.iter().map(String::as_str).chain([all]) {
            let chosen = targets.iter().any(|target| target == name);
            let words = name.rsplit('.').next().unwrap_or(name);
            let tooltip = if name == all { "Every linear layer of every block" } else { name };
            if ui.selectable_label(chosen, RichText::new(words).small()).on_hover_text(tooltip).clicked() {
                match (chosen, name == all) {
                    (true, _) => targets.retain(|target| target != name),
                    (false, true) => *targets = vec![all.to_owned()],
                    (false, false) => {
                        targets.retain(|target| target != all);
                        targets.push(name.to_owned());
                    }
                }
            }
        }
    });
}

fn more_ui(ui: &mut Ui, mixture: &mut MixtureConfig) {
    if mixture.kind == MixtureKind::Lora {
        labeled::number(ui, "LoRA dropout", &tip("mixture.lora_dropout"), &mut mixture.lora_dropout, 0.0..=0.99, 0.002);
        labeled::toggle(ui, "Scale by alpha / √r (rsLoRA)", &tip("mixture.use_rslora"), &mut mixture.use_rslora);
        let starts = [(LoraInit::Independent, "Each on its own"), (LoraInit::Copied, "Copies of one draw (reference)")];
        labeled::choice(ui, "Start of A", &tip("mixture.lora_init"), &mut mixture.lora_init, &starts);
    } else {
        let activations = [
            (Activation::Gelu, "GELU (exact)"),
            (Activation::GeluTanh, "GELU (tanh)"),
            (Activation::Relu, "ReLU"),
            (Activation::Swish, "Swish"),
        ];
        labeled::choice(ui, "Activation", &tip("mixture.activation"), &mut mixture.activation, &activations);
        let inits = [(AdapterInit::Normal, "Normal (reference)"), (AdapterInit::Identity, "Identity")];
        labeled::choice(ui, "Start of the experts", &tip("mixture.init"), &mut mixture.init, &inits);
        labeled::small_number(ui, "Spread of the start", &tip("mixture.init_std"), &mut mixture.init_std, 1e-9..=1.0);
    }
    let (label, key) = ("Each pass takes the other as given", tip("mixture.consistency_detach"));
    labeled::toggle(ui, label, &key, &mut mixture.consistency_detach);
    labeled::toggle(ui, "Task loss on both passes", &tip("mixture.ce_both_passes"), &mut mixture.ce_both_passes);
}
