//! Now: what each layer drew in the step at the playhead, and how long ago every expert learned.

use super::map::{Map, Rows, grey, pass_name};
use crate::analysis::timeline::ages::expected_share;
use crate::app::names;
use crate::app::theme::Theme;
use crate::app::widgets::pen::Pen;
use crate::app::widgets::{cards, part};
use crate::format;
use crate::protocol::{SIDES, Side};
use egui::{Align2, Color32, FontId, Pos2, Rect, RichText, Sense, Stroke, Ui, Vec2, pos2, vec2};

/// Most experts that have boxes; more are ticks.
const BOXES: usize = 16;
/// Paths of earlier steps, and most lines of all of them together: more are an even mesh.
const TRAILS: usize = 12;
const TRAIL_LINES: usize = 1200;
/// Part of a row that a shared side takes.
const SHARED: f32 = 0.2;

/// The place of one side of a layer.
fn strip(map: &Map<'_>, rows: &Rows, layer: usize, side: Side) -> Rect {
    let band = rows.band(layer);
    let inner = band.shrink((0.08 * band.span()).min(3.0));
    let shares = SIDES.map(|side| if map.layout().draws(side) { 1.0 } else { SHARED });
    let up = inner.span() * shares[1] / (shares[0] + shares[1]);
    let (top, bottom) = match side {
        Side::Up => (inner.min, inner.min + up),
        Side::Down => (inner.min + up, inner.max),
    };
    let left = rows.rect.left() + names_width(map);
    Rect::from_min_max(pos2(left, top + 0.5), pos2(rows.rect.right(), bottom - 0.5))
}

/// Room for the names of layers and sides.
pub fn names_width(map: &Map<'_>) -> f32 {
    let longest = map.layers.iter().map(|layer| layer.name.len()).max().unwrap_or(0);
    (6.2 * longest as f32 + 12.0).clamp(48.0, 120.0)
}

fn boxed(strip: Rect, expert: usize, experts: usize) -> Rect {
    let pitch = strip.width() / experts.max(1) as f32;
    let place =
        Rect::from_min_size(pos2(strip.left() + expert as f32 * pitch, strip.top()), vec2(pitch, strip.height()));
    place.shrink2(vec2(if experts > BOXES { 0.3 * pitch } else { (0.05 * pitch).min(3.0) }, 0.0))
}

/// The name of each layer, left of its row.
pub fn names(map: &Map<'_>, rows: &Rows, ui: &Ui) {
    for (layer, group) in map.layers.iter().enumerate() {
        let at = pos2(rows.rect.left() + 2.0, rows.band(layer).center());
        let color = ui.visuals().text_color();
        ui.painter().text(at, Align2::LEFT_CENTER, &group.name, FontId::proportional(11.0), color);
    }
}

/// Draws the zone.
pub fn ui(map: &Map<'_>, rows: &Rows, ui: &Ui) {
    names(map, rows, ui);
    let painter = ui.painter().clone();
    let mut pen = Pen::with_room(map.layout().most_experts() * 2 * rows.layers);
    let mut texts: Vec<(Pos2, String, Color32)> = Vec::new();
    let id = egui::Id::unique("route map now");
    for layer in 0..rows.layers {
        for side in SIDES {
            let strip = strip(map, rows, layer, side);
            if !map.layout().draws(side) {
                pen.rect(strip.shrink2(vec2(2.0, 0.0)), grey(map.theme(), 0.16));
            } else {
                boxes(map, layer, side, strip, &mut pen, &mut texts);
            }
        }
    }
    pen.paint(&painter);
    for (at, text, ink) in texts {
        painter.text(at, Align2::CENTER_CENTER, text, FontId::monospace(11.0), ink);
    }
    if map.reads_single() {
        paths(map, rows, ui);
    }
    for layer in 0..rows.layers {
        for side in SIDES {
            let strip = strip(map, rows, layer, side);
            let about = || map.words(layer, side, &map.row);
            let response = part(ui, strip, id.with((layer, side as usize)), about);
            if let (Some(pointer), true) = (response.hover_pos(), map.layout().draws(side)) {
                response.on_hover_text(age_words(map, layer, side, strip, pointer));
            }
        }
    }
}

/// The boxes of all experts of a side.
fn boxes(
    map: &Map<'_>,
    layer: usize,
    side: Side,
    strip: Rect,
    pen: &mut Pen,
    texts: &mut Vec<(Pos2, String, Color32)>,
) {
    let experts = map.layout().experts[side as usize];
    let sites = map.site_of(layer).map_or_else(|| map.layers[layer].sites.clone(), |site| vec![site]);
    let single = !map.layout().is_mixed() && sites.len() == 1;
    for expert in 0..experts {
        let place = boxed(strip, expert, experts);
        let color = map.theme().series(expert);
        let age = sites.iter().filter_map(|&site| map.timeline.age(map.ages, site, side, expert)).min();
        pen.rect(place, map.age_color(age));
        let mut ink = Theme::text_on(map.age_color(age));
        if age.is_none() {
            // It has never learned: only a frame.
            let frame = grey(map.theme(), 0.35);
            for edge in [place.with_max_y(place.top() + 1.0), place.with_min_y(place.bottom() - 1.0)] {
                pen.rect(edge, frame);
            }
            ink = grey(map.theme(), 0.8);
        }
        if single {
            let ran = (0..map.layout().passes).any(|pass| map.row.pick(pass, sites[0], side) == Some(expert));
            if ran {
                pen.rect(place, color);
                ink = Theme::text_on(color);
            }
        } else {
            // The share of the modules, examples or tokens that it serves: pass A left, pass B right.
            let passes = map.layout().passes;
            let half = place.width() / passes as f32;
            for pass in 0..passes {
                let shares =
                    sites.iter().map(|&site| map.row.shares(pass, site, side).get(expert).copied().unwrap_or(0.0));
                let share = shares.sum::<f32>() / sites.len().max(1) as f32;
                let left = place.left() + pass as f32 * half;
                let bar = Rect::from_min_max(
                    pos2(left + 0.5, place.bottom() - share * place.height()),
                    pos2(left + half - 0.5, place.bottom()),
                );
                pen.rect(bar, if pass == 0 { color } else { color.gamma_multiply(0.65) });
            }
        }
        if experts <= BOXES && place.width() > 16.0 && place.height() >= 13.0 {
            texts.push((place.center(), expert.to_string(), ink));
        }
    }
}

/// The paths of both passes through the boxes, and those of the steps before.
fn paths(map: &Map<'_>, rows: &Rows, ui: &Ui) {
    let mut pen = Pen::with_room(TRAIL_LINES + 16 * rows.layers);
    let mut letters: Vec<(usize, Pos2)> = Vec::new();
    let passes = map.layout().passes;
    let points = |row: &crate::analysis::timeline::Row<'_>, pass: usize, shift: f32| {
        let mut points: Vec<Pos2> = Vec::new();
        for layer in 0..rows.layers {
            let Some(site) = map.site_of(layer) else { continue };
            for side in map.layout().drawn() {
                let Some(expert) = row.pick(pass, site, side) else { continue };
                let place = boxed(strip(map, rows, layer, side), expert, map.layout().experts[side as usize]);
                let x = place.center().x + shift * (0.28 * place.width()).min(14.0);
                points.extend([pos2(x, place.bottom()), pos2(x, place.top())]);
            }
        }
        points
    };
    if map.trails {
        let lines = 2 * rows.layers * map.layout().drawn().count();
        let back = (TRAILS.min(TRAIL_LINES / lines.max(1)) / passes).max(1) as u64;
        for step in (1..=back).rev() {
            let Some(row) = map.step.checked_sub(step).and_then(|step| map.timeline.row(step)) else { continue };
            let strength = 0.30 * (1.0 - (step as f32 - 0.5) / back as f32);
            for pass in 0..passes {
                let stroke = Stroke::new(1.0, grey(map.theme(), 0.9).gamma_multiply(strength));
                pen.path(&points(&row, pass, 0.0), stroke);
            }
        }
    }
    for pass in (0..passes).rev() {
        let shift = if passes == 1 { 0.0 } else { [-1.0, 1.0][pass.min(1)] };
        pass_line(&mut pen, map.theme(), pass, &points(&map.row, pass, shift));
        // The letters stand where there is room.
        for layer in 0..rows.layers {
            let Some(site) = map.site_of(layer) else { continue };
            for side in map.layout().drawn() {
                let experts = map.layout().experts[side as usize];
                let Some(expert) = map.row.pick(pass, site, side) else { continue };
                let place = boxed(strip(map, rows, layer, side), expert, experts);
                if place.width() >= 26.0 && place.height() >= 13.0 {
                    let x = place.center().x + shift * (0.28 * place.width()).min(14.0);
                    let at = pos2(x, place.center().y);
                    mark(&mut pen, map.theme(), pass, at, 6.5);
                    letters.push((pass, at));
                } else if place.width() >= 5.0 {
                    let at = pos2(place.center().x + shift * 0.25 * place.width(), place.center().y);
                    mark(&mut pen, map.theme(), pass, at, 2.2);
                }
            }
        }
    }
    pen.paint(ui.painter());
    letters.into_iter().for_each(|(pass, at)| letter(ui, map.theme(), pass, at));
}

fn pass_color(theme: &Theme, pass: usize) -> Color32 {
    // Neither is an expert's colour.
    grey(theme, if pass == 0 { 1.0 } else { 0.62 })
}

fn pass_line(pen: &mut Pen, theme: &Theme, pass: usize, line: &[Pos2]) {
    let stroke = Stroke::new(1.8, pass_color(theme, pass));
    if pass == 0 {
        pen.path(line, stroke);
    } else {
        pen.dashed(line, stroke, 5.0, 3.5);
    }
}

/// The mark of a pass: A has a disc, B a square.
fn mark(pen: &mut Pen, theme: &Theme, pass: usize, at: Pos2, radius: f32) {
    let color = pass_color(theme, pass);
    if pass == 0 {
        pen.dot(at, radius, color);
    } else {
        pen.rect(Rect::from_center_size(at, Vec2::splat(1.85 * radius)), color);
    }
}

/// The letter on a mark.
fn letter(ui: &Ui, theme: &Theme, pass: usize, at: Pos2) {
    let letter = if pass == 0 { "A" } else { "B" };
    let ink = Theme::text_on(pass_color(theme, pass));
    ui.painter().text(at, Align2::CENTER_CENTER, letter, FontId::proportional(9.5), ink);
}

/// How long ago the expert under the pointer learned.
fn age_words(map: &Map<'_>, layer: usize, side: Side, strip: Rect, pointer: Pos2) -> String {
    let experts = map.layout().experts[side as usize];
    let share = ((pointer.x - strip.left()) / strip.width()).clamp(0.0, 0.999);
    let expert = (share * experts as f32) as usize;
    let sites = map.site_of(layer).map_or_else(|| map.layers[layer].sites.clone(), |site| vec![site]);
    let words = |site: &usize| {
        let name = names::layer(&map.layout().sites[*site]);
        match map.timeline.age(map.ages, *site, side, expert) {
            Some(0) => format!("{name}, expert {expert}: learns in this step"),
            Some(age) => format!("{name}, expert {expert}: last learned {} before", format::counted(age, "step")),
            None => format!("{name}, expert {expert}: has not learned yet"),
        }
    };
    sites.iter().map(words).collect::<Vec<_>>().join("\n")
}

/// The legend: passes, brightness with what is expected.
pub fn legend_ui(map: &Map<'_>, ui: &mut Ui) {
    let theme = map.theme();
    ui.horizontal_wrapped(|ui| {
        if map.reads_single() {
            for pass in 0..map.layout().passes {
                let (rect, _) = ui.allocate_exact_size(vec2(34.0, 14.0), Sense::hover());
                let mut pen = Pen::default();
                pass_line(&mut pen, theme, pass, &[rect.left_center(), rect.right_center()]);
                mark(&mut pen, theme, pass, rect.center(), 6.5);
                pen.paint(ui.painter());
                letter(ui, theme, pass, rect.center());
                ui.label(RichText::new(pass_name(pass)).small());
            }
        }
        let (rect, _) = ui.allocate_exact_size(vec2(70.0, 12.0), Sense::hover());
        let oldest = map.oldest();
        let width = rect.width() / (oldest + 1) as f32;
        let mut pen = Pen::default();
        for age in 0..=oldest {
            let left = rect.left() + age as f32 * width;
            let place = Rect::from_min_size(pos2(left, rect.top()), vec2(width + 0.3, rect.height()));
            pen.rect(place, map.age_color(Some(age)));
        }
        pen.paint(ui.painter());
        let long_ago = format!("box: steps since it last learned, 0 to {oldest} or more");
        ui.label(RichText::new(long_ago).small());
        if let Some(side) = SIDES.into_iter().find(|&side| !map.layout().draws(side)) {
            let (bar, _) = ui.allocate_exact_size(vec2(28.0, 5.0), Sense::hover());
            ui.painter().rect_filled(bar, 1.0, grey(theme, 0.16));
            let words = format!("bar: the {}, one for all experts", names::side(map.kind(), side));
            ui.label(RichText::new(words).small());
        }
    });
    let tip = format!(
        "An expert learns only in steps that draw it. With uniform draws it waits k steps or longer with probability \
         (1 − 1/M)^(k × {}): M experts, {} in a step",
        map.layout().chances(),
        format::counted(map.layout().chances(), "draw")
    );
    cards::caption(ui, theme, expectation(map)).on_hover_text(tip);
}

/// How many experts have not learned for a while, and how many do not with uniform draws.
fn expectation(map: &Map<'_>) -> String {
    let layout = map.layout();
    let k = 5;
    let share = map.ages.share_at_least(k).unwrap_or(0.0);
    let here = format!("{} of the experts have waited {k} steps or longer", format::percent(share));
    if layout.is_mixed() || !layout.policy.is_random() {
        return format!("{here}.");
    }
    let expected = expected_share(k, layout.most_experts(), layout.chances());
    format!("{here}; by chance {}.", format::percent(expected))
}
