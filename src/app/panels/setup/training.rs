//! The mixture, optimisation and evaluation settings.

use super::data::split_names;
use crate::app::fields::label;
use crate::app::files::Purpose;
use crate::app::help::tip;
use crate::app::names;
use crate::app::panel_ctx::PanelCtx;
use crate::app::widgets::labeled::{choice, number, number_or, small_number, toggle};
use crate::app::widgets::{cards, labeled};
use crate::config::keys;
use crate::config::{
    Activation, AdapterInit, EvalConfig, LONGEST_SAMPLE, LoraInit, MOST_SAMPLES, Method, MixtureConfig, MixtureKind,
    Recompute, RoutingPolicy, RunConfig, Schedule, Task,
};
use crate::protocol::ExportTarget;
use egui::{RichText, Ui};

/// The cards Mixture, Optimisation and Evaluation.
pub fn training_ui(ctx: &PanelCtx<'_>, ui: &mut Ui, form: &mut RunConfig) {
    if form.model.method == Method::Adamix {
        cards::card(ui, ctx.theme, "Mixture", |ui| mixture_ui(ctx, ui, &mut form.mixture));
    }
    let writes = form.data.task == Task::Text;
    cards::card(ui, ctx.theme, "Optimisation", |ui| optimisation_ui(ui, form));
    cards::card(ui, ctx.theme, "Evaluation and checkpoints", |ui| {
        let (eval, train) = (&mut form.eval, &mut form.train);
        let steps = 0..=100_000_000;
        let (name, key) = (label("eval.eval_steps"), tip("eval.eval_steps"));
        number_or(ui, name, key, "once an epoch", &mut eval.eval_steps, steps.clone(), 1.0);
        let (name, key) = (label("eval.save_steps"), tip("eval.save_steps"));
        number_or(ui, name, key, "with every evaluation", &mut eval.save_steps, steps, 1.0);
        number(ui, label("eval.random_routes"), tip("eval.random_routes"), &mut eval.random_routes, 1..=1000, 0.1);
        let (name, key) = (label("train.early_stopping_patience"), tip("train.early_stopping_patience"));
        let patience = &mut train.early_stopping_patience;
        number_or(ui, name, key, "no early stopping", patience, 0..=10_000, 0.1);
        if writes {
            samples_ui(ui, eval);
        }
        egui::CollapsingHeader::new("More about evaluation").show(ui, |ui| {
            let (kept, batch) = (&mut eval.save_total_limit, &mut eval.eval_batch_size);
            number(ui, label("eval.save_total_limit"), tip("eval.save_total_limit"), kept, 0..=1000, 0.1);
            number(ui, label("eval.eval_batch_size"), tip("eval.eval_batch_size"), batch, 1..=65_536, 1.0);
        });
    });
    cards::card(ui, ctx.theme, "Run", |ui| {
        labeled::text(ui, label("name"), tip("name"), "empty: from task, model and time", &mut form.name);
        let hint = "empty: the user's data directory";
        ctx.path(ui, label("runs_dir"), tip("runs_dir"), hint, &mut form.runs_dir, Purpose::RunsDir);
    });
}

fn samples_ui(ui: &mut Ui, eval: &mut EvalConfig) {
    number_or(ui, label("eval.samples"), tip("eval.samples"), "none", &mut eval.samples, 0..=MOST_SAMPLES, 0.05);
    let (name, key) = (label("eval.sample_steps"), tip("eval.sample_steps"));
    ui.add_enabled_ui(eval.samples > 0, |ui| {
        let steps = &mut eval.sample_steps;
        number_or(ui, name, key, "with every evaluation", steps, 0..=100_000_000, 1.0);
        let (name, key) = (label("eval.sample_tokens"), tip("eval.sample_tokens"));
        number(ui, name, key, &mut eval.sample_tokens, 1..=LONGEST_SAMPLE, 0.2);
    });
}

fn optimisation_ui(ui: &mut Ui, form: &mut RunConfig) {
    let (writes, mixes) = (form.data.task == Task::Text, form.model.method == Method::Adamix);
    let by_tokens = writes && form.text.max_tokens_per_batch > 0;
    let weighs = keys::help("train.class_weights").is_some_and(|key| key.counts_for(form));
    let train = &mut form.train;
    small_number(ui, label("train.learning_rate"), tip("train.learning_rate"), &mut train.learning_rate, 1e-12..=10.0);
    ui.add_enabled_ui(!by_tokens, |ui| {
        number(ui, label("train.batch_size"), tip("train.batch_size"), &mut train.batch_size, 1..=65_536, 0.2)
            .on_disabled_hover_text("Not now: Tokens a batch has precedence; set it to 0 to count examples");
    });
    number_or(
        ui,
        label("train.max_steps"),
        tip("train.max_steps"),
        "by epochs",
        &mut train.max_steps,
        0..=100_000_000,
        1.0,
    );
    ui.add_enabled_ui(train.max_steps == 0, |ui| {
        number(
            ui,
            label("train.num_train_epochs"),
            tip("train.num_train_epochs"),
            &mut train.num_train_epochs,
            0.0..=1e6,
            0.05,
        )
        .on_disabled_hover_text("Not now: Steps has precedence; set Steps to 0 to train by epochs");
    });
    number(ui, label("train.seed"), tip("train.seed"), &mut train.seed, 0..=u64::MAX, 0.1);
    egui::CollapsingHeader::new("More about optimisation").show(ui, |ui| {
        let schedules =
            [(Schedule::Linear, "Linear (paper)"), (Schedule::Cosine, "Cosine"), (Schedule::Constant, "Constant")];
        choice(ui, label("train.lr_scheduler"), tip("train.lr_scheduler"), &mut train.lr_scheduler, &schedules);
        number(ui, label("train.warmup_ratio"), tip("train.warmup_ratio"), &mut train.warmup_ratio, 0.0..=1.0, 0.002);
        number(ui, label("train.weight_decay"), tip("train.weight_decay"), &mut train.weight_decay, 0.0..=1.0, 0.002);
        if weighs {
            let weights = &mut train.class_weights;
            let hint = "empty: the same; balanced; or 1, 2.5";
            labeled::text(ui, label("train.class_weights"), tip("train.class_weights"), hint, weights);
        }
        if writes {
            number(
                ui,
                label("train.label_smoothing"),
                tip("train.label_smoothing"),
                &mut train.label_smoothing,
                0.0..=0.99,
                0.002,
            );
        }
        let (name, key) = (label("train.max_grad_norm"), tip("train.max_grad_norm"));
        number_or(ui, name, key, "not clipped", &mut train.max_grad_norm, 0.0..=1e6, 0.01);
        let steps = &mut train.gradient_accumulation_steps;
        number(
            ui,
            label("train.gradient_accumulation_steps"),
            tip("train.gradient_accumulation_steps"),
            steps,
            1..=65_536,
            0.05,
        );
        number(ui, label("train.adam_beta1"), tip("train.adam_beta1"), &mut train.adam_beta1, 0.0..=0.9999, 0.001);
        number(ui, label("train.adam_beta2"), tip("train.adam_beta2"), &mut train.adam_beta2, 0.0..=0.999_999, 0.0001);
        small_number(ui, label("train.adam_epsilon"), tip("train.adam_epsilon"), &mut train.adam_epsilon, 1e-20..=1.0);
        if mixes {
            let moved = &mut train.update_unselected;
            toggle(ui, label("train.update_unselected"), tip("train.update_unselected"), moved);
        }
        let recompute =
            [(Recompute::Auto, "When memory is short"), (Recompute::On, "Always"), (Recompute::Off, "Never")];
        choice(ui, label("train.recompute"), tip("train.recompute"), &mut train.recompute, &recompute);
    });
}

/// What a run of this task with experts of this kind can be exported as.
fn exports_text(task: Task, kind: MixtureKind) -> String {
    let fits: Vec<ExportTarget> = ExportTarget::all().filter(|target| target.refusal(task, kind).is_none()).collect();
    let titles: Vec<&str> = fits.iter().map(|target| target.info().title).collect();
    let whole =
        if fits.iter().any(|target| target.is_whole()) { "" } else { "; not as a whole model, which needs LoRA" };
    format!("Can be exported as {}{whole}.", titles.join(", "))
}

fn mixture_ui(ctx: &PanelCtx<'_>, ui: &mut Ui, mixture: &mut MixtureConfig) {
    let kinds = [(MixtureKind::Adapter, "Bottleneck adapters"), (MixtureKind::Lora, "LoRA")];
    choice(ui, label("mixture.kind"), tip("mixture.kind"), &mut mixture.kind, &kinds);
    cards::caption(ui, ctx.theme, exports_text(ctx.session.form.data.task, mixture.kind));
    number(ui, label("mixture.num_experts"), tip("mixture.num_experts"), &mut mixture.num_experts, 1..=64, 0.05);
    let lora = mixture.kind == MixtureKind::Lora;
    if lora {
        number(ui, label("mixture.lora_rank"), tip("mixture.lora_rank"), &mut mixture.lora_rank, 1..=4096, 0.1);
        number(ui, label("mixture.lora_alpha"), tip("mixture.lora_alpha"), &mut mixture.lora_alpha, 1e-3..=1e6, 0.2);
        targets_ui(ctx, ui, &mut mixture.lora_target);
    } else {
        number(
            ui,
            label("mixture.adapter_size"),
            tip("mixture.adapter_size"),
            &mut mixture.adapter_size,
            1..=4096,
            0.2,
        );
    }
    let policies = RoutingPolicy::ALL.map(|policy| (policy, names::policy_title(policy)));
    choice(ui, label("mixture.routing"), tip("mixture.routing"), &mut mixture.routing, &policies);
    if mixture.routing == RoutingPolicy::Fixed {
        number(ui, label("mixture.fixed_expert"), tip("mixture.fixed_expert"), &mut mixture.fixed_expert, 0..=63, 0.05);
    }
    let [down, up] =
        if lora { ["Share A", "Share B"] } else { ["Share the down-projection", "Share the up-projection"] };
    toggle(ui, down, tip("mixture.sharing_down"), &mut mixture.sharing_down);
    toggle(ui, up, tip("mixture.sharing_up"), &mut mixture.sharing_up);
    toggle(ui, label("mixture.consistency"), tip("mixture.consistency"), &mut mixture.consistency);
    if mixture.consistency {
        let (name, key) = (label("mixture.consistency_weight"), tip("mixture.consistency_weight"));
        number(ui, name, key, &mut mixture.consistency_weight, 0.0..=1000.0, 0.01);
    }
    egui::CollapsingHeader::new("More about the mixture").show(ui, |ui| more_mixture_ui(ui, mixture));
}

/// Which linear layers get a LoRA: typed, or switched on by name where the model is known.
fn targets_ui(ctx: &PanelCtx<'_>, ui: &mut Ui, targets: &mut Vec<String>) {
    let mut text = targets.join(", ");
    let hint = "empty: queries and values (paper)";
    if labeled::text(ui, label("mixture.lora_target"), tip("mixture.lora_target"), hint, &mut text).changed() {
        *targets = split_names(&text);
    }
    let known = ctx.session.model.value.as_ref().map(|info| info.lora_targets.as_slice()).unwrap_or_default();
    if known.is_empty() {
        return;
    }
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing.x = 4.0;
        cards::caption(ui, ctx.theme, "In this model");
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

fn more_mixture_ui(ui: &mut Ui, mixture: &mut MixtureConfig) {
    let (mut text, hint) = (mixture.law_at.join(", "), "empty: one law for the whole run");
    if labeled::text(ui, label("mixture.law_at"), tip("mixture.law_at"), hint, &mut text).changed() {
        mixture.law_at = split_names(&text);
    }
    if mixture.kind == MixtureKind::Lora {
        number(
            ui,
            label("mixture.lora_dropout"),
            tip("mixture.lora_dropout"),
            &mut mixture.lora_dropout,
            0.0..=0.99,
            0.002,
        );
        toggle(ui, label("mixture.use_rslora"), tip("mixture.use_rslora"), &mut mixture.use_rslora);
        let starts =
            [(LoraInit::Independent, "Independent draws"), (LoraInit::Copied, "Copies of one draw (reference)")];
        choice(ui, label("mixture.lora_init"), tip("mixture.lora_init"), &mut mixture.lora_init, &starts);
    } else {
        let activations = [
            (Activation::Gelu, "GELU (exact)"),
            (Activation::GeluTanh, "GELU (tanh)"),
            (Activation::Relu, "ReLU"),
            (Activation::Swish, "Swish"),
        ];
        choice(ui, label("mixture.activation"), tip("mixture.activation"), &mut mixture.activation, &activations);
        let inits = [(AdapterInit::Normal, "Normal (reference)"), (AdapterInit::Identity, "Identity")];
        choice(ui, label("mixture.init"), tip("mixture.init"), &mut mixture.init, &inits);
        small_number(ui, label("mixture.init_std"), tip("mixture.init_std"), &mut mixture.init_std, 1e-9..=1.0);
    }
    if mixture.consistency {
        let (name, key) = (label("mixture.consistency_detach"), tip("mixture.consistency_detach"));
        toggle(ui, name, key, &mut mixture.consistency_detach);
        toggle(ui, label("mixture.ce_both_passes"), tip("mixture.ce_both_passes"), &mut mixture.ce_both_passes);
    }
}
