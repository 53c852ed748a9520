//! The first page: what AdaMix does in three sentences and a picture, and four ways to begin.

use super::choices;
use super::head_ui;
use super::picture::Picture;
use crate::app::actions::Action;
use crate::app::panel_ctx::PanelCtx;
use crate::app::widgets::{cards, term};
use crate::format;
use egui::{Align, Layout, RichText, Ui, vec2};

/// Width of the content, in points, where there is room for it; on very large screens it is wider.
const WIDEST: f32 = 1180.0;
/// Below this width the picture stands under the sentences.
const NARROW: f32 = 620.0;
/// Height of everything but the picture, in points.
const REST: f32 = 270.0;
/// Runs listed at most.
const RECENT: usize = 4;

/// The method in three sentences.
const SENTENCES: [&str; 3] = [
    "A pre-trained model stays frozen, and in each of its layers AdaMix trains several small modules of the same shape: \
     the experts.",
    "Every step draws one expert per layer at random, twice, and a consistency term keeps the two answers close \
     together.",
    "At the end the experts of each layer are averaged into one: the merged model is as small and as fast as with a \
     single expert.",
];

#[derive(Default)]
pub struct StartPage {
    picture: Picture,
    /// The first choice takes the keyboard's focus as soon as it can be chosen.
    takes_focus: bool,
}

impl StartPage {
    pub fn ui(&mut self, appeared: bool, ctx: &PanelCtx<'_>, ui: &mut Ui) {
        egui::ScrollArea::vertical().id_salt("start page").auto_shrink(false).show(ui, |ui| {
            let screen = ui.available_size();
            let width = (screen.x - 40.0).min((0.66 * screen.x).max(WIDEST));
            ui.horizontal_top(|ui| {
                ui.spacing_mut().item_spacing.x = 0.0;
                ui.add_space((screen.x - width) / 2.0);
                ui.vertical(|ui| {
                    ui.spacing_mut().item_spacing.x = 8.0;
                    ui.set_width(width);
                    // On a large screen the page does not stick to the top.
                    ui.add_space(((screen.y - picture_height(ui) - REST) * 0.4).max(10.0));
                    self.content_ui(appeared, ctx, ui);
                });
            });
        });
    }

    fn content_ui(&mut self, appeared: bool, ctx: &PanelCtx<'_>, ui: &mut Ui) {
        head_ui(ui, ctx, "What AdaMix does");
        ui.add_space(10.0);
        let (width, gap) = (ui.available_width(), 24.0);
        let height = picture_height(ui);
        if width < NARROW {
            sentences_ui(ui, width, 14.0);
            ui.add_space(6.0);
            self.picture.ui(ctx, ui, vec2(width, height));
        } else {
            let left = (width * 0.40).max(260.0);
            let size = (width / 70.0).clamp(14.0, 22.0);
            ui.horizontal_top(|ui| {
                ui.allocate_ui_with_layout(vec2(left, height), Layout::top_down(Align::Min), |ui| {
                    sentences_ui(ui, left, size);
                });
                ui.spacing_mut().item_spacing.x = 8.0;
                ui.add_space(gap - 8.0);
                ui.vertical(|ui| self.picture.ui(ctx, ui, vec2(width - left - gap, height)));
            });
        }
        ui.add_space(14.0);
        self.takes_focus |= appeared;
        choices::ui(&mut self.takes_focus, ctx, ui);
        ui.add_space(8.0);
        recent_ui(ctx, ui);
        foot_ui(ctx, ui);
    }
}

/// Height of the picture with its captions, in points.
fn picture_height(ui: &Ui) -> f32 {
    let screen = ui.ctx().content_rect().height();
    // A small window keeps room for the choices.
    (screen * if screen < 600.0 { 0.38 } else { 0.47 }).max(170.0)
}

fn sentences_ui(ui: &mut Ui, width: f32, size: f32) {
    ui.set_max_width(width);
    for (i, sentence) in SENTENCES.iter().enumerate() {
        ui.horizontal_top(|ui| {
            ui.spacing_mut().item_spacing.x = 10.0;
            ui.label(RichText::new((i + 1).to_string()).size(size).strong());
            ui.vertical(|ui| term::running(ui, RichText::new(*sentence).size(size)));
        });
        ui.add_space(size * 0.6);
    }
}

/// The newest runs, to be opened with one click.
fn recent_ui(ctx: &PanelCtx<'_>, ui: &mut Ui) {
    let runs = ctx.session.runs.value.as_deref().unwrap_or_default();
    if runs.is_empty() {
        return;
    }
    let mut newest: Vec<_> = runs.iter().collect();
    newest.sort_by_key(|run| std::cmp::Reverse(run.created));
    ui.horizontal_wrapped(|ui| {
        cards::muted(ui, ctx.theme, "Recent runs");
        for run in newest.into_iter().take(RECENT) {
            let score = run.best.map_or_else(String::new, |best| format!(", {} {}", run.metric, format::metric(best)));
            let words = format!("{} steps{score}, {}", format::count(run.step), format::date_time(run.created));
            let open = Action::OpenRun(run.dir.clone());
            let button = egui::Button::new(format::ellipsis(&run.name, 34));
            ctx.button_as(ui, open, button).on_hover_text(format!("{words}\n{}", run.dir.display()));
        }
    });
}

fn foot_ui(ctx: &PanelCtx<'_>, ui: &mut Ui) {
    ui.add_space(4.0);
    ui.horizontal_wrapped(|ui| {
        let mut shown = ctx.settings.start_page;
        let box_ = ui.checkbox(&mut shown, "Show this page when the window opens");
        if box_.on_hover_text("It is always in the menu and in the command palette, as Start page").changed() {
            ctx.push(Action::SetStartPage(shown));
        }
        cards::caption(ui, ctx.theme, "Everything runs on this computer; nothing is sent anywhere.");
    });
}
