//! Four large buttons: ways to begin.

use crate::app::actions::Action;
use crate::app::files::Purpose;
use crate::app::panel_ctx::PanelCtx;
use crate::app::view::Page;
use egui::{Color32, FontId, Response, Role, Sense, Stroke, StrokeKind, Ui, WidgetInfo, vec2};

/// Least height, in points.
const HEIGHT: f32 = 84.0;
/// Room between the border and the words.
const MARGIN: egui::Vec2 = vec2(14.0, 11.0);
/// Between title and sentence.
const SPACE: f32 = 5.0;
/// Narrowest button before the four take two rows.
const LEAST: f32 = 150.0;
const GAP: f32 = 12.0;
/// Sizes of the letters.
const TITLE: f32 = 17.0;
const SENTENCE: f32 = 12.5;

/// Title, sentence, and what it does.
fn all() -> [(&'static str, &'static str, Action); 4] {
    [
        ("Train the lab", "A small bundled model learns film reviews. Starts at once, no settings.", Action::TrainLab),
        ("My own file", "A table with texts and labels: TSV, CSV or JSONL.", Action::OwnFile),
        ("Open a run", "An earlier training with its curves, experts and exports.", Action::Pick(Purpose::Run)),
        ("Learn", "What each view shows, and every word explained.", Action::ShowPage(Page::Help)),
    ]
}

/// `takes_focus`: the first one takes the keyboard's focus, unless something else has it.
pub fn ui(takes_focus: &mut bool, ctx: &PanelCtx<'_>, ui: &mut Ui) {
    let width = ui.available_width();
    let columns = if (width - 3.0 * GAP) / 4.0 < LEAST { 2 } else { 4 };
    let width = ((width - (columns as f32 - 1.0) * GAP) / columns as f32).floor();
    let choices = all();
    // All are as high as the longest text needs.
    let high = |(title, sentence, _): &(&str, &str, Action)| {
        let [title, sentence] = [(title, TITLE), (sentence, SENTENCE)].map(|(words, font)| {
            let room = width - 2.0 * MARGIN.x;
            ui.painter().layout((*words).to_owned(), FontId::proportional(font), Color32::WHITE, room).size().y
        });
        title + SPACE + sentence + 2.0 * MARGIN.y
    };
    let size = vec2(width, choices.iter().map(high).fold(HEIGHT, f32::max));
    for (row, chunk) in choices.chunks(columns).enumerate() {
        ui.horizontal(|ui| {
            ui.spacing_mut().item_spacing.x = GAP;
            for (i, (title, sentence, action)) in chunk.iter().enumerate() {
                let first = row == 0 && i == 0;
                let response = choice(ui, ctx, size, (title, sentence), action, first);
                if first && response.enabled() && std::mem::take(takes_focus) {
                    let other = ui.memory(|memory| memory.focused().is_some());
                    if !other {
                        response.request_focus();
                    }
                }
            }
        });
        if row == 0 {
            ui.add_space(4.0);
        }
    }
}

fn choice(
    ui: &mut Ui,
    ctx: &PanelCtx<'_>,
    size: egui::Vec2,
    (title, sentence): (&str, &str),
    action: &Action,
    primary: bool,
) -> Response {
    let enabled = action.enabled(ctx.session);
    let response = ui.add_enabled_ui(enabled.is_ok(), |ui| ui.allocate_exact_size(size, Sense::click()).1).inner;
    response.widget_info(|| WidgetInfo::labeled(Role::Button, enabled.is_ok(), title));
    draw(ui, ctx, &response, (title, sentence), primary && enabled.is_ok());
    if response.clicked() {
        ctx.push(action.clone());
    }
    match enabled {
        Ok(()) => response.on_hover_cursor(egui::CursorIcon::PointingHand).on_hover_text(action.tooltip()),
        Err(reason) => response.on_disabled_hover_text(format!("Not now: {reason}")),
    }
}

fn draw(ui: &Ui, ctx: &PanelCtx<'_>, response: &Response, (title, sentence): (&str, &str), primary: bool) {
    let theme = ctx.theme;
    let (fill, strong, soft) = match (primary, response.enabled()) {
        (true, _) => (theme.accent, theme.on_accent, theme.on_accent),
        (false, true) => (theme.card, ui.visuals().strong_text_color(), theme.muted),
        (false, false) => (theme.card, theme.muted, theme.muted),
    };
    let border = match () {
        () if response.has_focus() => Stroke::new(2.5, ui.visuals().strong_text_color()),
        () if response.hovered() => Stroke::new(2.0, theme.accent),
        () => Stroke::new(1.0, theme.card_border),
    };
    let (painter, rect) = (ui.painter(), response.rect);
    painter.rect(rect, 8.0, fill, border, StrokeKind::Inside);
    let inside = rect.shrink2(MARGIN);
    let words = painter.layout(title.to_owned(), FontId::proportional(TITLE), strong, inside.width());
    let below = inside.left_top() + vec2(0.0, words.size().y + SPACE);
    painter.galley(inside.left_top(), words, strong);
    let words = painter.layout(sentence.to_owned(), FontId::proportional(SENTENCE), soft, inside.width());
    painter.with_clip_rect(rect).galley(below, words, soft);
}
