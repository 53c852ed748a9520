//! Exports: files for other programs, each with a certificate.

mod certificate;
pub mod recipe;
mod rounding;

use crate::app::actions::Action;
use crate::app::files::Purpose;
use crate::app::names;
use crate::app::panel_ctx::{PanelCtx, shown_run};
use crate::app::run_view::RunView;
use crate::app::weights_line;
use crate::app::widgets::{cards, labeled};
use crate::config::Method;
use crate::protocol::{ExportPlan, ExportReport, ExportTarget, MergePlan, ModelQuery, NumberFormat, Subject};
use egui::{RichText, Ui};
use std::path::{Path, PathBuf};

/// What the view remembers on screen.
pub struct ExportPanel {
    targets: Vec<ExportTarget>,
    dtype: NumberFormat,
    dir: String,
    /// The chosen merge; absent: the run's own.
    merge: Option<MergePlan>,
    all_tensors: bool,
    rounding: rounding::RoundingForm,
    /// The run that all of this was chosen for.
    run: PathBuf,
}

impl Default for ExportPanel {
    fn default() -> Self {
        Self {
            targets: vec![ExportTarget::Merged],
            dtype: NumberFormat::F32,
            dir: String::new(),
            merge: None,
            all_tensors: false,
            rounding: rounding::RoundingForm::default(),
            run: PathBuf::new(),
        }
    }
}

impl ExportPanel {
    /// A directory was chosen to export into.
    pub fn set_dir(&mut self, dir: &Path) {
        self.dir = dir.display().to_string();
    }

    /// Draws the view.
    pub fn ui(&mut self, ctx: &PanelCtx<'_>, ui: &mut Ui) {
        let hint = "The merged adapter is written to files, read back and verified. Press Start to train one, or open a run \
                    in Runs.";
        let run = shown_run(ctx, ui, "Nothing to export yet", hint);
        let (Some(run), Some(subject)) = (run, ctx.session.subject()) else { return };
        if self.run != run.dir {
            *self = Self { run: run.dir.clone(), ..Self::default() };
        }
        weights_line::ui(ctx, run, ui);
        self.plan_ui(ctx, run, &subject, ui);
        if run.config.model.method == Method::Adamix {
            let plan = self.plan(run);
            self.rounding.ui(ctx, &subject, &plan, ui);
        }
        let newest: &[ExportReport] = ctx.session.export.value.as_deref().unwrap_or_default();
        for report in newest {
            certificate::ui(ctx, report, &mut self.all_tensors, ui);
        }
        self.earlier_ui(ctx, run, newest, ui);
    }

    fn plan(&self, run: &RunView) -> ExportPlan {
        let (dir, task, kind) = (self.dir.trim(), run.config.data.task, run.config.mixture.kind);
        let chosen = |target: &ExportTarget| self.targets.contains(target) && target.refusal(task, kind).is_none();
        ExportPlan {
            targets: ExportTarget::all().filter(chosen).collect(),
            dtype: self.dtype,
            merge: self.merge.clone().unwrap_or_else(|| MergePlan::own(&run.config.mixture)),
            dir: (!dir.is_empty()).then(|| PathBuf::from(dir)),
        }
    }

    fn plan_ui(&mut self, ctx: &PanelCtx<'_>, run: &RunView, subject: &Subject, ui: &mut Ui) {
        let mixture = run.config.model.method == Method::Adamix;
        let (task, kind) = (run.config.data.task, run.config.mixture.kind);
        cards::card(ui, ctx.theme, "Targets", |ui| {
            for target in ExportTarget::all() {
                let (refusal, info) = (target.refusal(task, kind), target.info());
                let tip = info.description;
                ui.horizontal_wrapped(|ui| {
                    let mut on = refusal.is_none() && self.targets.contains(&target);
                    let toggle = |ui: &mut Ui| labeled::toggle(ui, info.title, tip, &mut on);
                    let response = ui.add_enabled_ui(refusal.is_none(), toggle).inner;
                    if response.changed() {
                        self.targets.retain(|other| *other != target);
                        self.targets.extend(on.then_some(target));
                    }
                    let why = refusal.map(|refusal| format!("Not for this run: {}", refusal.in_window()));
                    if let Some(why) = &why {
                        response.on_disabled_hover_text(why);
                    }
                    cards::caption(ui, ctx.theme, why.as_deref().unwrap_or(tip));
                });
            }
            ui.add_space(2.0);
            let tip = "Only f32 is exact; the certificate lists what the others change";
            let options = [
                (NumberFormat::F32, "f32: exact"),
                (NumberFormat::F16, "f16: half the size"),
                (NumberFormat::Bf16, "bf16: half, coarser"),
                (NumberFormat::Q8_0, "q8_0: a quarter, GGUF only"),
            ];
            labeled::choice(ui, "Number format", tip, &mut self.dtype, &options);
            self.merge_ui(ctx, run, ui);
            let default = run.dir.join("exports").display().to_string();
            let tip = "Empty: exports/ in the run directory. A path can be typed, chosen or pasted";
            ctx.path(ui, "Destination", tip, &default, &mut self.dir, Purpose::ExportDir);
            ui.add_space(6.0);
            let plan = self.plan(run);
            if run.capsule.is_some() && plan.dir.is_none() {
                let problem = "This run was opened from a capsule, which stays as it is: choose a Destination.";
                ctx.refused(ui, "Export", problem);
                ui.label(RichText::new(problem).color(ctx.theme.warning));
            } else {
                self.buttons_ui(ctx, subject, &plan, ui);
            }
            ctx.error_ui(ui, &ctx.session.export);
            if mixture && !plan.targets.is_empty() {
                recipe::ui(ctx, run, subject, &plan, ui);
            }
        });
    }

    /// Which merge: the imported experts' own, the paper's, or one that was scored in Merge & compare.
    fn merge_ui(&mut self, ctx: &PanelCtx<'_>, run: &RunView, ui: &mut Ui) {
        let own = MergePlan::own(&run.config.mixture);
        let mut plans = vec![own.clone()];
        let tried = ctx.session.tried.iter().map(|merge| &merge.plan);
        let kept = run.merges.iter().map(|kept| &kept.merge);
        for plan in std::iter::once(&MergePlan::Uniform).chain(tried).chain(kept) {
            if !plans.contains(plan) {
                plans.push(plan.clone());
            }
        }
        let words = |plan: &MergePlan| match plan {
            MergePlan::Uniform => "uniform mean (the paper)".to_owned(),
            plan if *plan == own => "scores of the imported experts".to_owned(),
            plan => match run.merges.iter().find(|kept| kept.merge == *plan) {
                Some(kept) => format!("{} ({})", kept.name, names::merge_plan(plan)),
                None => names::merge_plan(plan),
            },
        };
        let before = plans.iter().position(|plan| Some(plan) == self.merge.as_ref());
        let mut chosen = before.unwrap_or(0);
        let options: Vec<(usize, String)> = plans.iter().map(words).enumerate().collect();
        let tip = "Weights and ways that were scored in Merge & compare, or kept under a name, can be chosen here";
        labeled::choice(ui, "Merge", tip, &mut chosen, &options);
        // A plan of another run is dropped; the run's own merge is stored as absent.
        self.merge = (chosen > 0).then(|| plans.swap_remove(chosen));
    }

    fn buttons_ui(&self, ctx: &PanelCtx<'_>, subject: &Subject, plan: &ExportPlan, ui: &mut Ui) {
        ui.horizontal_wrapped(|ui| {
            let refused = plan.targets.iter().find(|target| target.refuses(plan.dtype).is_some());
            let problem = match refused {
                Some(target) => {
                    let (title, whole) = (target.info().title, ExportTarget::Gguf.info().title);
                    let dtype = plan.dtype.as_str();
                    Some(format!("{title} cannot be stored in {dtype}, which is for \u{201c}{whole}\u{201d} alone; choose another number format."))
                }
                None => plan.targets.is_empty().then(|| "Choose at least one of these.".to_owned()),
            };
            if let Some(problem) = problem {
                ctx.refused(ui, "Export", &problem);
                ui.label(RichText::new(problem).color(ctx.theme.warning));
            } else {
                let export = Action::Query(subject.clone(), ModelQuery::Export(plan.clone()));
                drop(ctx.primary(ui, export, "Export"));
            }
            ctx.pending_ui(ui, &ctx.session.export, "writing, reading back, verifying");
        });
    }

    /// Exports of this run from before.
    fn earlier_ui(&mut self, ctx: &PanelCtx<'_>, run: &RunView, newest: &[ExportReport], ui: &mut Ui) {
        let earlier: Vec<&ExportReport> = run.exports.iter().rev().filter(|old| !newest.contains(old)).collect();
        if earlier.is_empty() {
            if newest.is_empty() && !ctx.session.export.is_pending() {
                let words = "Nothing of this run was exported yet. Export writes the files, reads them back, runs the \
                             probe rows and shows the certificate here.";
                cards::muted(ui, ctx.theme, words);
            }
            return;
        }
        ui.label(RichText::new(format!("Earlier exports of this run ({})", earlier.len())).strong());
        ui.add_space(2.0);
        for report in earlier {
            certificate::ui(ctx, report, &mut self.all_tensors, ui);
        }
    }
}
