//! Drawing of the file chooser.

use super::folder::{Entry, shown};
use super::{Chooser, home_dir, working_dir};
use crate::app::actions::Action;
use crate::app::files::Wants;
use crate::app::panel_ctx::PanelCtx;
use crate::app::widgets::cards;
use crate::format;
use egui::{Align2, Button, EventFilter, Id, Key, Modifiers, Role, Sense, TextStyle, Ui, WidgetInfo, pos2, vec2};
use std::path::{Path, PathBuf};

/// Height of an entry, in points.
const ROW: f32 = 22.0;
/// Entries that Page Up and Page Down move by.
const PAGE: isize = 10;

/// Draws the chooser into its dialog.
pub fn ui(chooser: &mut Chooser, ctx: &PanelCtx<'_>, ui: &mut Ui) {
    places_ui(chooser, ctx, ui);
    let edit = egui::TextEdit::singleline(&mut chooser.typed).desired_width(f32::INFINITY);
    let edit = ui.add(edit).on_hover_text("A path; Enter goes there. ~ is the home directory").accessible_name("Path");
    if edit.lost_focus() && ui.input(|input| input.key_pressed(Key::Enter)) {
        chooser.go_typed(ctx.actions);
    }
    list_ui(chooser, ctx, ui);
    kinds_ui(chooser, ui);
    if chooser.purpose.wants() == Wants::NewFile {
        let name = ui.label("File name");
        let edit = egui::TextEdit::singleline(&mut chooser.name).desired_width(f32::INFINITY);
        let edit = ui.add(edit).labelled_by(name.id);
        if edit.changed() {
            chooser.replaces = None;
        }
        if edit.lost_focus() && ui.input(|input| input.key_pressed(Key::Enter)) {
            chooser.confirm(ctx.actions);
        }
    }
    if let Some(message) = &chooser.message {
        cards::note(ui, ctx.theme.warning, message);
    }
    ui.add_space(6.0);
    buttons_ui(chooser, ctx, ui);
    chooser.drawn = true;
}

/// Up, home, the working directory, recent paths.
fn places_ui(chooser: &mut Chooser, ctx: &PanelCtx<'_>, ui: &mut Ui) {
    ui.horizontal_wrapped(|ui| {
        let up = ui.add_enabled(chooser.dir.parent().is_some(), Button::new("Up"));
        if up.on_hover_text("The folder above (Backspace)").clicked() {
            chooser.up(ctx.actions);
        }
        let mut place = |ui: &mut Ui, words: &str, tip: &str, path: Option<PathBuf>| {
            let Some(path) = path else { return };
            let tip = format!("{tip}: {}", shown(&path));
            if ui.button(words).on_hover_text(tip).clicked() {
                chooser.go(&path, ctx.actions);
            }
        };
        place(ui, "Home", "The home directory", home_dir());
        place(ui, "Working directory", "Where the program was started", Some(working_dir()));
        let recent = ctx.settings.recent(chooser.purpose);
        ui.add_enabled_ui(!recent.is_empty(), |ui| {
            ui.menu_button("Recent", |ui| {
                for path in recent {
                    if ui.button(path.display().to_string()).clicked() {
                        chooser.go(path, ctx.actions);
                    }
                }
            })
            .response
            .on_hover_text("Paths that were used before")
            .on_disabled_hover_text("Nothing was chosen here before");
        });
        ui.checkbox(&mut chooser.hidden, "Hidden files").on_hover_text("Shows names that begin with a dot (Ctrl+H)");
        if ui.input_mut(|input| input.consume_key(Modifiers::COMMAND, Key::H)) {
            chooser.hidden = !chooser.hidden;
        }
    });
}

fn list_ui(chooser: &mut Chooser, ctx: &PanelCtx<'_>, ui: &mut Ui) {
    let height = (ui.ctx().content_rect().height() - 330.0).clamp(110.0, 380.0);
    let frame = egui::Frame::new().fill(ui.visuals().extreme_bg_color).corner_radius(4).inner_margin(2);
    let inner = frame.show(ui, |ui| {
        ui.set_min_size(vec2(ui.available_width(), height));
        let rect = ui.max_rect().intersect(egui::Rect::from_min_size(ui.min_rect().min, vec2(f32::INFINITY, height)));
        let list = ui.interact(rect, Id::unique("chooser entries"), Sense::focusable_noninteractive());
        list.widget_info(|| WidgetInfo::labeled(Role::ListBox, true, "Files and folders"));
        if !chooser.drawn {
            list.request_focus();
        }
        if list.has_focus() {
            keys(chooser, ctx, ui, list.id);
        }
        let shown = chooser.shown();
        if shown.is_empty() {
            let words = match &chooser.reading {
                Some(_) => "Reading the folder",
                None if chooser.entries.is_empty() => "This folder is empty",
                None => "Nothing here is of this kind; choose another kind below, or show hidden files",
            };
            cards::muted(ui, ctx.theme, words);
        }
        let at = chooser.selected.and_then(|selected| shown.iter().position(|i| *i == selected));
        let mut area = egui::ScrollArea::vertical().id_salt("chooser").auto_shrink(false).max_height(height);
        if let (true, Some(at)) = (std::mem::take(&mut chooser.scroll), at) {
            area = area.vertical_scroll_offset((at as f32 * ROW - height / 2.0).max(0.0));
        }
        ui.spacing_mut().item_spacing.y = 0.0;
        area.show_rows(ui, ROW, shown.len(), |ui, rows| {
            for &i in &shown[rows] {
                row_ui(chooser, ctx, ui, i);
            }
        });
        list.has_focus()
    });
    if inner.inner {
        let stroke = ui.visuals().selection.stroke;
        ui.painter().rect_stroke(inner.response.rect, 4.0, stroke, egui::StrokeKind::Inside);
    }
    if chooser.cut {
        cards::caption(ui, ctx.theme, "The folder has more entries than are listed; type the path of what is missing");
    }
}

/// The keys of the list.
fn keys(chooser: &mut Chooser, ctx: &PanelCtx<'_>, ui: &Ui, list: Id) {
    let filter = EventFilter { vertical_arrows: true, ..EventFilter::default() };
    ui.memory_mut(|memory| memory.set_focus_lock_filter(list, filter));
    let pressed = |key: Key| ui.input_mut(|input| input.count_and_consume_key(Modifiers::NONE, key)) as isize;
    let [down, up, page_down, page_up, home, end] =
        [Key::ArrowDown, Key::ArrowUp, Key::PageDown, Key::PageUp, Key::Home, Key::End].map(pressed);
    let by = down - up + PAGE * (page_down - page_up);
    if by != 0 {
        chooser.step(by);
    }
    if home > 0 {
        chooser.step(isize::MIN);
    }
    if end > 0 {
        chooser.step(isize::MAX);
    }
    let above = ui.input_mut(|input| input.consume_key(Modifiers::ALT, Key::ArrowUp));
    if pressed(Key::Backspace) > 0 || above {
        chooser.up(ctx.actions);
    }
    if pressed(Key::Enter) > 0
        && let Some(selected) = chooser.selected
    {
        chooser.open(selected, ctx.actions);
    }
    let typed: String = ui.input(|input| {
        let text = |event: &egui::Event| if let egui::Event::Text(text) = event { Some(text.clone()) } else { None };
        input.events.iter().filter_map(text).collect()
    });
    if !typed.is_empty() {
        chooser.type_ahead(&typed, ui.input(|input| input.time));
    }
}

/// One entry: name, size, last change.
fn row_ui(chooser: &mut Chooser, ctx: &PanelCtx<'_>, ui: &mut Ui, i: usize) {
    let entry: &Entry = &chooser.entries[i];
    let (selected, takes, name) = (chooser.selected == Some(i), chooser.takes(entry), entry.shown());
    // Not focusable: the list is reached as a whole, and arrows move in it.
    let (rect, response) = ui.allocate_exact_size(vec2(ui.available_width(), ROW), Sense::CLICK);
    let title = if entry.folder { format!("{name}/") } else { name };
    response.widget_info(|| WidgetInfo::selected(Role::ListItem, takes, selected, &title));
    let painter = ui.painter().with_clip_rect(rect.intersect(ui.clip_rect()));
    if selected {
        painter.rect_filled(rect, 3.0, ui.visuals().selection.bg_fill);
    } else if response.hovered() {
        painter.rect_filled(rect, 3.0, ui.visuals().widgets.hovered.weak_bg_fill);
    }
    let ink = if takes { ui.visuals().text_color() } else { ctx.theme.muted };
    let [body, small] = [TextStyle::Body, TextStyle::Small].map(|style| style.resolve(ui.style()));
    let right = if entry.folder {
        String::new()
    } else {
        format!("{}   {}", format::bytes(entry.bytes), format::date_time(entry.modified))
    };
    let left = pos2(rect.left() + 26.0, rect.center().y);
    symbol(&painter, pos2(rect.left() + 13.0, rect.center().y), entry.folder, ctx);
    let end = painter.text(rect.right_center() - vec2(8.0, 0.0), Align2::RIGHT_CENTER, right, small, ctx.theme.muted);
    let room = egui::Rect::from_min_max(pos2(rect.left(), rect.top()), pos2(end.left() - 8.0, rect.bottom()));
    painter.with_clip_rect(room.intersect(ui.clip_rect())).text(left, Align2::LEFT_CENTER, title, body, ink);
    if response.clicked() {
        chooser.select(i);
    }
    if response.double_clicked() {
        chooser.open(i, ctx.actions);
    }
}

/// A folder or a sheet, drawn.
fn symbol(painter: &egui::Painter, at: egui::Pos2, folder: bool, ctx: &PanelCtx<'_>) {
    if folder {
        let body = egui::Rect::from_center_size(at + vec2(0.0, 1.0), vec2(14.0, 9.0));
        let tab = egui::Rect::from_min_size(body.left_top() - vec2(0.0, 2.5), vec2(6.0, 4.0));
        painter.rect_filled(tab, 1.0, ctx.theme.accent);
        painter.rect_filled(body, 1.5, ctx.theme.accent);
    } else {
        let sheet = egui::Rect::from_center_size(at, vec2(9.0, 12.0));
        painter.rect_stroke(sheet, 1.0, egui::Stroke::new(1.0, ctx.theme.muted), egui::StrokeKind::Inside);
    }
}

/// Which kind of files is listed.
fn kinds_ui(chooser: &mut Chooser, ui: &mut Ui) {
    let kinds = chooser.kinds();
    let Some(current) = kinds.get(chooser.kind) else { return };
    ui.horizontal(|ui| {
        let label = ui.label("Kind");
        egui::ComboBox::from_id_salt("chooser kind")
            .selected_text(current.words())
            .width(280.0)
            .show_ui(ui, |ui| {
                for (i, kind) in kinds.iter().enumerate() {
                    ui.selectable_value(&mut chooser.kind, i, kind.words());
                }
            })
            .response
            .labelled_by(label.id)
            .on_hover_text("Which files are listed; folders always are");
    });
}

fn buttons_ui(chooser: &mut Chooser, ctx: &PanelCtx<'_>, ui: &mut Ui) {
    let target = chooser.target();
    let words = match (&target, chooser.purpose.wants()) {
        (_, Wants::NewFile) if chooser.replaces.is_some() => "Replace".to_owned(),
        (_, Wants::NewFile) => "Save".to_owned(),
        (_, Wants::File) => "Open".to_owned(),
        (Ok(path), _) => {
            let name = path.file_name().map_or_else(|| shown(path), |name| shown(Path::new(name)));
            format!("Choose {}", format::ellipsis(&name, 40))
        }
        (Err(_), _) => "Choose".to_owned(),
    };
    ui.horizontal(|ui| {
        let button = match &target {
            Ok(_) => Button::new(egui::RichText::new(words).color(ctx.theme.on_accent)).fill(ctx.theme.accent),
            Err(_) => Button::new(words),
        };
        let reason = target.as_ref().err().copied().unwrap_or_default();
        let tip = target.as_ref().map(|path| shown(path)).unwrap_or_default();
        let main = ui.add_enabled(target.is_ok(), button);
        if main.on_hover_text(tip).on_disabled_hover_text(format!("Not now: {reason}")).clicked() {
            chooser.confirm(ctx.actions);
        }
        if ui.button("Cancel").on_hover_text("Chooses nothing (Escape)").clicked() {
            ctx.push(Action::CloseDialog);
        }
    });
}
