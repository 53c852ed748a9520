//! The list of models on disk: download, use, remove.

use crate::app::actions::Action;
use crate::app::panel_ctx::PanelCtx;
use crate::app::session::Download;
use crate::app::widgets::cards;
use crate::app::widgets::listing::{self, Heading};
use crate::format;
use crate::protocol::{CacheInfo, DownloadProgress, ModelKind, Stage, StoredModel};
use egui::{Color32, Key, RichText, Ui};
use egui_extras::TableRow;

/// Below this width of the view the list omits parameters.
const NARROW: f32 = 430.0;
/// Room for the button beside the field.
const BUTTON: f32 = 84.0;
/// Files of a model that are named.
const NAMED: usize = 8;

#[derive(Default)]
pub struct ModelsPanel {
    pub name: String,
    selected: Option<String>,
}

impl ModelsPanel {
    pub fn ui(&mut self, ctx: &PanelCtx<'_>, ui: &mut Ui) {
        self.fetch_ui(ctx, ui);
        for download in &ctx.session.downloads {
            download_ui(ctx, download, ui);
        }
        ui.horizontal_wrapped(|ui| {
            ctx.button(ui, Action::RefreshModels);
            if ctx.session.models.is_pending() {
                cards::loading(ui, "reading", None);
            } else if let Some(cached) = &ctx.session.models.value {
                cache_summary(ctx, cached, ui);
            }
        });
        ctx.error_ui(ui, &ctx.session.removing);
        let Some(cached) = ctx.list(ui, &ctx.session.models, "Models are not read yet") else { return };
        if cached.models.is_empty() {
            let hint = format!("Fetch one by its name, or put one into {}.", cached.cache.display());
            return cards::empty(ui, ctx.theme, "No models on disk yet", &hint, |_| {});
        }
        ui.add_space(4.0);
        self.table_ui(ctx, cached, ui);
        ui.add_space(4.0);
        match cached.models.iter().find(|model| self.selected.as_ref() == Some(&model.id)) {
            Some(model) => detail_ui(ctx, model, ui),
            None => drop(cards::muted(ui, ctx.theme, "Select a model to use or remove it.")),
        }
    }

    fn fetch_ui(&mut self, ctx: &PanelCtx<'_>, ui: &mut Ui) {
        cards::card(ui, ctx.theme, "Download by name", |ui| {
            ui.horizontal(|ui| {
                let width = (ui.available_width() - BUTTON).clamp(80.0, 520.0);
                let field = egui::TextEdit::singleline(&mut self.name).hint_text("org/name, as on its page");
                let field = ui.add(field.desired_width(width)).accessible_name("Name of a model");
                let tip = "org/name, org/name@revision, org/name:file.gguf, or the address of a model's page";
                let entered = field.on_hover_text(tip).lost_focus() && ui.input(|input| input.key_pressed(Key::Enter));
                let action = Action::DownloadModel(self.name.trim().to_owned());
                let entered = entered && action.enabled(ctx.session).is_ok();
                if entered {
                    ctx.push(action.clone());
                }
                if ctx.primary(ui, action, "Download").clicked() || entered {
                    self.name.clear();
                }
            });
            match ctx.session.models.value.as_ref() {
                Some(CacheInfo { offline: Some(variable), .. }) => {
                    let words = format!("{variable} is set: nothing is downloaded; models on disk can be used.");
                    cards::note(ui, ctx.theme.warning, &words);
                }
                shelf => {
                    let from = shelf.map_or("the hub", |shelf| shelf.endpoint.as_str());
                    cards::caption(ui, ctx.theme, format!("From {from}. Models are downloaded only by this button."));
                }
            }
        });
    }

    fn table_ui(&mut self, ctx: &PanelCtx<'_>, cached: &CacheInfo, ui: &mut Ui) {
        let headings = [
            Heading::rest("Model", "The name under which it can be used; a double click puts it into Setup", 100.0),
            Heading::exact("Family", "Its architecture", 62.0),
            Heading::exact("Use", "What it can be trained for here, or that it cannot", 70.0),
            Heading::exact("Size", "On disk", 64.0),
            Heading::exact("Params", "Parameters: numbers in its weights", 58.0),
        ];
        let narrow = ui.available_width() < NARROW;
        let shown = headings.len() - usize::from(narrow);
        listing::show(ui, "models", &headings[..shown], cached.models.len(), |mut row| {
            self.row_ui(ctx, &cached.models[row.index()], !narrow, &mut row);
        });
    }

    fn row_ui(&mut self, ctx: &PanelCtx<'_>, model: &StoredModel, with_params: bool, row: &mut TableRow<'_, '_>) {
        let selected = self.selected.as_ref() == Some(&model.id);
        row.set_selected(selected);
        row.col(|ui| {
            let response = ui.add(egui::Button::selectable(selected, &model.id).frame(false).truncate());
            self.take_clicks(ctx, model, &response.on_hover_text(format!("{}\n{}", model.id, model.path.display())));
        });
        let text = |ui: &mut Ui, words: RichText| ui.add(egui::Label::new(words).selectable(false).truncate());
        let family = if model.family.is_empty() { "-" } else { &model.family };
        row.col(|ui| drop(text(ui, RichText::new(family))));
        let (words, color) = use_text(ctx, model);
        row.col(|ui| {
            let response = text(ui, RichText::new(words).color(color));
            if let Some(problem) = &model.problem {
                response.on_hover_text(problem);
            }
        });
        row.col(|ui| drop(text(ui, RichText::new(format::bytes(model.bytes)).monospace())));
        if with_params {
            row.col(|ui| drop(text(ui, RichText::new(parameters(model)).monospace())));
        }
        self.take_clicks(ctx, model, &row.response());
    }

    fn take_clicks(&mut self, ctx: &PanelCtx<'_>, model: &StoredModel, response: &egui::Response) {
        if response.clicked() {
            self.selected = Some(model.id.clone());
        }
        if response.double_clicked() && model.problem.is_none() {
            ctx.push(Action::UseModel(model.id.clone()));
        }
    }
}

fn parameters(model: &StoredModel) -> String {
    if model.parameters == 0 { "-".to_owned() } else { format::short_count(model.parameters as f64) }
}

fn use_text(ctx: &PanelCtx<'_>, model: &StoredModel) -> (&'static str, Color32) {
    match (model.incomplete, &model.problem, model.kind) {
        (true, _, _) if ctx.session.is_fetching(&model.id) => ("fetching", ctx.theme.accent),
        (true, _, _) => ("incomplete", ctx.theme.warning),
        (_, Some(_), _) => ("not usable", ctx.theme.error),
        (_, None, Some(ModelKind::Encoder)) => ("labels", ctx.theme.ok),
        (_, None, _) => ("writing", ctx.theme.ok),
    }
}

fn cache_summary(ctx: &PanelCtx<'_>, cached: &CacheInfo, ui: &mut Ui) {
    let total: u64 = cached.models.iter().map(|model| model.bytes).sum();
    let words = format!("{} in {}", format::bytes(total), cached.cache.display());
    let label = egui::Label::new(RichText::new(&words).small().color(ctx.theme.muted)).truncate();
    ui.add(label)
        .on_hover_text(format!("{words}\nThe cache that other programs use too; HF_HUB_CACHE names another one"));
}

/// The selected model with its actions.
fn detail_ui(ctx: &PanelCtx<'_>, model: &StoredModel, ui: &mut Ui) {
    cards::card(ui, ctx.theme, &model.id, |ui| {
        if let Some(problem) = &model.problem {
            let color = if model.incomplete { ctx.theme.warning } else { ctx.theme.error };
            cards::note(ui, color, problem);
        }
        let kind = match model.kind {
            Some(ModelKind::Encoder) => "encoder",
            Some(ModelKind::Decoder) => "language model",
            None => "-",
        };
        let family = if model.family.is_empty() { "-" } else { &model.family };
        let commit = model.commit.get(..12).unwrap_or(&model.commit);
        let commit_tip = format!("{}\nRuns record it", model.commit);
        let mut figures = vec![
            ("Family", family.to_owned(), "Its architecture"),
            ("Kind", kind.to_owned(), "Encoders are trained for labels and scores, language models to generate text"),
            ("Parameters", parameters(model), "Number of weights"),
            ("On disk", format::bytes(model.bytes), "All of its files"),
        ];
        if !commit.is_empty() {
            figures.push(("Commit", commit.to_owned(), &commit_tip));
        }
        cards::figures(ui, ctx.theme, &figures);
        let mut names: Vec<&str> = model.files.iter().take(NAMED).map(|file| file.name.as_str()).collect();
        if model.files.len() > NAMED {
            names.push("…");
        }
        if !names.is_empty() {
            cards::caption(ui, ctx.theme, names.join(", "));
        }
        cards::caption(ui, ctx.theme, model.path.display().to_string());
        ui.add_space(4.0);
        ui.horizontal_wrapped(|ui| {
            ctx.button(ui, Action::UseModel(model.id.clone()));
            if model.incomplete {
                let words = egui::Button::new("Continue download");
                ctx.button_as(ui, Action::DownloadModel(model.id.clone()), words);
            }
            ctx.button(ui, Action::AskRemoveModel(model.id.clone()));
        });
    });
}

fn download_ui(ctx: &PanelCtx<'_>, download: &Download, ui: &mut Ui) {
    let Download { req, id, progress, error } = download;
    cards::card(ui, ctx.theme, id, |ui| {
        if let Some(error) = error {
            cards::error(ui, ctx.theme, error);
            ui.horizontal_wrapped(|ui| {
                ctx.button_as(ui, Action::DownloadModel(id.clone()), egui::Button::new("Try again"));
                ctx.button(ui, Action::DismissDownload(*req));
            });
            return;
        }
        let Some(progress) = progress else {
            ui.horizontal(|ui| {
                cards::loading(ui, "waiting", None);
                ctx.button(ui, Action::CancelDownload(*req));
            });
            return;
        };
        if let Stage::Waiting { reason, .. } = &progress.stage {
            cards::note(ui, ctx.theme.warning, reason);
        }
        ui.horizontal(|ui| {
            let width = (ui.available_width() - BUTTON).max(80.0);
            let share = progress.share() as f32;
            let amount = match progress.total {
                0 => String::new(),
                total => format!("{} of {}", format::bytes(progress.done), format::bytes(total)),
            };
            ui.add(egui::ProgressBar::new(share).desired_width(width).text(amount))
                .accessible_name(format!("Progress of {id}"));
            ctx.button(ui, Action::CancelDownload(*req));
        });
        cards::caption(ui, ctx.theme, stage_text(progress));
    });
}

fn stage_text(progress: &DownloadProgress) -> String {
    let DownloadProgress { stage, file, number, files, speed, .. } = progress;
    let which = format!("{file} ({number} of {files})");
    match stage {
        Stage::Asking => "Requesting the list of files".to_owned(),
        Stage::Verifying => format!("Checking {which}"),
        Stage::Waiting { seconds: 0, .. } => "Connecting again".to_owned(),
        Stage::Waiting { seconds, .. } => format!("Next try in {seconds} s"),
        Stage::Fetching if *speed > 0.0 => {
            let left = progress.seconds_left().map(|s| format!(", {} left", format::duration(s))).unwrap_or_default();
            format!("{which}, {}/s{left}", format::bytes(*speed as u64))
        }
        Stage::Fetching => which,
    }
}
