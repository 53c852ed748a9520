//! The mixture, optimisation and evaluation settings.

use super::mixture::mixture_ui;
use crate::app::files::Purpose;
use crate::app::help::tip;
use crate::app::panel_ctx::PanelCtx;
use crate::app::widgets::{cards, labeled};
use crate::config::{
    EvalConfig, LONGEST_SAMPLE, MOST_SAMPLES, Method, Recompute, RunConfig, Schedule, Task, TrainConfig,
};
use egui::Ui;

/// The cards Mixture, Optimisation and Evaluation.
pub fn training_ui(ctx: &PanelCtx<'_>, ui: &mut Ui, form: &mut RunConfig) {
    if form.model.method == Method::Adamix {
        cards::card(ui, ctx.theme, "Mixture", |ui| mixture_ui(ctx, ui, &mut form.mixture));
        ui.add_space(4.0);
    }
    let writes = form.data.task == Task::Text;
    cards::card(ui, ctx.theme, "Optimisation", |ui| optimisation_ui(ui, &mut form.train, writes));
    ui.add_space(4.0);
    cards::card(ui, ctx.theme, "Evaluation and checkpoints", |ui| {
        let (eval, train) = (&mut form.eval, &mut form.train);
        let steps = 0..=100_000_000;
        let (label, key) = ("Evaluate every (steps)", tip("eval.eval_steps"));
        labeled::number_or(ui, label, &key, "once an epoch", &mut eval.eval_steps, steps.clone(), 1.0);
        let (label, key) = ("Checkpoint every (steps)", tip("eval.save_steps"));
        labeled::number_or(ui, label, &key, "with every evaluation", &mut eval.save_steps, steps, 1.0);
        labeled::number(ui, "Random routes", &tip("eval.random_routes"), &mut eval.random_routes, 1..=1000, 0.1);
        let (label, key) = ("Patience (evaluations)", tip("train.early_stopping_patience"));
        let patience = &mut train.early_stopping_patience;
        labeled::number_or(ui, label, &key, "no early stopping", patience, 0..=10_000, 0.1);
        if writes {
            samples_ui(ui, eval);
        }
        egui::CollapsingHeader::new("More about evaluation").id_salt("more evaluation").show(ui, |ui| {
            let (kept, batch) = (&mut eval.save_total_limit, &mut eval.eval_batch_size);
            labeled::number(ui, "Checkpoints kept", &tip("eval.save_total_limit"), kept, 0..=1000, 0.1);
            labeled::number(ui, "Evaluation batch", &tip("eval.eval_batch_size"), batch, 1..=65_536, 1.0);
        });
    });
    ui.add_space(4.0);
    cards::card(ui, ctx.theme, "Run", |ui| {
        labeled::text(ui, "Run name", &tip("name"), "empty: from task, model and time", &mut form.name);
        let hint = "empty: the user's data directory";
        ctx.path(ui, "Directory of runs", &tip("runs_dir"), hint, &mut form.runs_dir, Purpose::RunsDir);
    });
}

/// Settings of the samples of a language model.
fn samples_ui(ui: &mut Ui, eval: &mut EvalConfig) {
    labeled::number_or(ui, "Samples", &tip("eval.samples"), "none", &mut eval.samples, 0..=MOST_SAMPLES, 0.05);
    let (label, key) = ("Samples every (steps)", tip("eval.sample_steps"));
    ui.add_enabled_ui(eval.samples > 0, |ui| {
        let steps = &mut eval.sample_steps;
        labeled::number_or(ui, label, &key, "with every evaluation", steps, 0..=100_000_000, 1.0);
        let (label, key) = ("Longest sample (tokens)", tip("eval.sample_tokens"));
        labeled::number(ui, label, &key, &mut eval.sample_tokens, 1..=LONGEST_SAMPLE, 0.2);
    });
}

/// `writes`: for a language model.
fn optimisation_ui(ui: &mut Ui, train: &mut TrainConfig, writes: bool) {
    labeled::small_number(ui, "Learning rate", &tip("train.learning_rate"), &mut train.learning_rate, 1e-12..=10.0);
    labeled::number(ui, "Batch", &tip("train.batch_size"), &mut train.batch_size, 1..=65_536, 0.2);
    let (label, key) = ("Steps", tip("train.max_steps"));
    labeled::number_or(ui, label, &key, "by epochs", &mut train.max_steps, 0..=100_000_000, 1.0);
    ui.add_enabled_ui(train.max_steps == 0, |ui| {
        let (label, key) = ("Epochs", tip("train.num_train_epochs"));
        labeled::number(ui, label, &key, &mut train.num_train_epochs, 0.0..=1e6, 0.05)
            .on_disabled_hover_text("Not now: Steps has precedence; set Steps to 0 to train by epochs");
    });
    labeled::number(ui, "Seed", &tip("train.seed"), &mut train.seed, 0..=u64::MAX, 0.1);
    egui::CollapsingHeader::new("More about optimisation").id_salt("more optimisation").show(ui, |ui| {
        let schedules =
            [(Schedule::Linear, "Linear (paper)"), (Schedule::Cosine, "Cosine"), (Schedule::Constant, "Constant")];
        labeled::choice(ui, "Schedule", &tip("train.lr_scheduler"), &mut train.lr_scheduler, &schedules);
        labeled::number(ui, "Warm-up share", &tip("train.warmup_ratio"), &mut train.warmup_ratio, 0.0..=1.0, 0.002);
        labeled::number(ui, "Weight decay", &tip("train.weight_decay"), &mut train.weight_decay, 0.0..=1.0, 0.002);
        if writes {
            let (label, key) = ("Label smoothing", tip("train.label_smoothing"));
            labeled::number(ui, label, &key, &mut train.label_smoothing, 0.0..=0.99, 0.002);
        }
        let (label, key) = ("Largest gradient norm", tip("train.max_grad_norm"));
        labeled::number_or(ui, label, &key, "not clipped", &mut train.max_grad_norm, 0.0..=1e6, 0.01);
        let steps = &mut train.gradient_accumulation_steps;
        labeled::number(ui, "Accumulated batches", &tip("train.gradient_accumulation_steps"), steps, 1..=65_536, 0.05);
        labeled::number(ui, "AdamW β₁", &tip("train.adam_beta1"), &mut train.adam_beta1, 0.0..=0.9999, 0.001);
        labeled::number(ui, "AdamW β₂", &tip("train.adam_beta2"), &mut train.adam_beta2, 0.0..=0.999_999, 0.0001);
        labeled::small_number(ui, "AdamW epsilon", &tip("train.adam_epsilon"), &mut train.adam_epsilon, 1e-20..=1.0);
        let (label, key) = ("Move experts that were not drawn", tip("train.update_unselected"));
        labeled::toggle(ui, label, &key, &mut train.update_unselected);
        let recompute =
            [(Recompute::Auto, "When memory is short"), (Recompute::On, "Always"), (Recompute::Off, "Never")];
        labeled::choice(ui, "Recompute activations", &tip("train.recompute"), &mut train.recompute, &recompute);
    });
}
