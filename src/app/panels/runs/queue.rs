//! The runs that wait.

use crate::app::actions::Action;
use crate::app::commands;
use crate::app::panel_ctx::PanelCtx;
use crate::app::widgets::{cards, labeled};
use crate::format;
use crate::protocol::{QueueAsk, QueueEntry, QueueState};
use egui::{Button, RichText, Ui};

/// Draws the queue; nothing where nothing waits.
pub fn ui(ctx: &PanelCtx<'_>, ui: &mut Ui) {
    let query = &ctx.session.queue;
    ctx.error_ui(ui, query);
    let Some(queue) = query.value.as_ref().filter(|queue| !queue.entries.is_empty() || !queue.notes.is_empty()) else {
        return;
    };
    ui.add_space(4.0);
    let title = format!("Queue: {} waiting", format::count(queue.waiting()));
    cards::card(ui, ctx.theme, &title, |ui| {
        for note in &queue.notes {
            cards::note(ui, ctx.theme.warning, note);
        }
        for place in 0..queue.entries.len() {
            entry_ui(ctx, queue, place, ui);
        }
        if queue.entries.is_empty() {
            return;
        }
        ui.add_space(2.0);
        ui.horizontal_wrapped(|ui| {
            ctx.button(ui, Action::RunQueue);
            let mut on = ctx.session.queue_on;
            let tip = "However a run ends, also by Stop or a failure, the next one that waits is started";
            if labeled::toggle(ui, "Start the next one when a run ends", tip, &mut on).changed() {
                ctx.push(Action::SetQueueOn(on));
            }
        });
    });
}

fn entry_ui(ctx: &PanelCtx<'_>, queue: &QueueState, place: usize, ui: &mut Ui) {
    let entry: &QueueEntry = &queue.entries[place];
    let title = entry.title();
    ui.horizontal_wrapped(|ui| {
        let name = format!("{}. {}", place + 1, format::ellipsis(&title, 36));
        let tip = format!("Added {}\n{}", format::date_time(entry.added), commands::train(&entry.config));
        ui.label(RichText::new(name).strong()).on_hover_text(tip);
        if entry.starting {
            cards::badge(ui, "being started", ctx.theme.accent);
            return;
        }
        let small = |ui: &mut Ui, words: &str, ask: QueueAsk, on: bool| {
            let button = Button::new(words).small();
            let response = ui.add_enabled_ui(on, |ui| ctx.button_as(ui, Action::ChangeQueue(ask), button)).inner;
            response.accessible_name(format!("{words} {title}"));
        };
        small(ui, "Up", QueueAsk::Move(entry.id, place.saturating_sub(1)), place > 0);
        small(ui, "Down", QueueAsk::Move(entry.id, place + 1), place + 1 < queue.entries.len());
        small(ui, "Remove", QueueAsk::Remove(entry.id), true);
        if entry.failed.is_some() {
            small(ui, "Try again", QueueAsk::Retry(entry.id), true);
        }
    });
    if let Some(why) = &entry.failed {
        cards::note(ui, ctx.theme.error, &format!("Could not start: {why}"));
    }
}
