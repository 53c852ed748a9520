//! So what: how much it matters which expert runs in a layer, beside what chance alone shows.

use super::map::{Map, Rows, grey};
use super::words;
use crate::app::actions::Action;
use crate::app::widgets::{cards, part};
use crate::format;
use crate::protocol::{CausesPlan, ModelQuery, Study};
use egui::{FontId, Mesh, Rangef, Rect, Sense, Shape, Stroke, StrokeKind, Ui, pos2, vec2};

/// Parts of the width: disagreement, pins, consensus.
const PARTS: [f32; 3] = [0.32, 0.46, 0.22];
/// Space between the parts.
const GAP: f32 = 12.0;

/// An expert of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pin {
    /// Place of the layer among those of the run.
    pub layer: usize,
    pub expert: usize,
}

/// Draws the zone; a click on a dot chooses its expert.
pub fn ui(map: &Map<'_>, head: Rect, rows: &Rows, pin: &mut Option<Pin>, ui: &Ui) {
    let [slopes, pins, consensus] = columns(rows.rect);
    slopes_ui(map, head, rows, slopes, ui);
    pins_ui(map, head, rows, pins, pin, ui);
    consensus_ui(map, head, rows, consensus, ui);
}

fn columns(rect: Rect) -> [Rangef; 3] {
    let room = rect.width() - 2.0 * GAP;
    let mut left = rect.left();
    PARTS.map(|part| {
        let own = Rangef::new(left, left + part * room);
        left = own.max + GAP;
        own
    })
}

/// Title above a column, and the ends of its scale.
fn title(map: &Map<'_>, head: Rect, column: Rangef, title: &str, marks: &[(f32, String)], ui: &Ui) {
    let painter = ui.painter();
    let galley = painter.layout(title.to_owned(), FontId::proportional(10.5), ui.visuals().text_color(), column.span());
    let top = head.bottom() - 16.0 - galley.size().y;
    painter.galley(pos2(column.min, top.max(head.top())), galley, ui.visuals().text_color());
    let mut taken = f32::NEG_INFINITY;
    for (x, text) in marks {
        let galley = painter.layout_no_wrap(text.clone(), FontId::proportional(9.5), map.theme().muted);
        let left =
            (x - 0.5 * galley.size().x).clamp(column.min - 4.0, (column.max - galley.size().x).max(column.min - 4.0));
        if left >= taken {
            taken = left + galley.size().x + 4.0;
            painter.galley(pos2(left, head.bottom() - 14.0), galley, map.theme().muted);
        }
    }
}

/// What each layer that differs adds to the disagreement, with two standard errors on each side.
fn slopes_ui(map: &Map<'_>, head: Rect, rows: &Rows, column: Rangef, ui: &Ui) {
    let slopes = map.fit.map_or(&[][..], |fit| &fit.found.layers[..]);
    let ends = slopes.iter().flatten().flat_map(|slope| [slope.value - 2.0 * slope.se, slope.value + 2.0 * slope.se]);
    let (low, high) = ends.fold((0.0f64, 1e-9f64), |(low, high), end| (low.min(end), high.max(end)));
    let x = |value: f64| column.min + ((value - low) / (high - low)) as f32 * column.span();
    let marks = if slopes.is_empty() {
        Vec::new()
    } else {
        vec![(x(0.0), "0".to_owned()), (x(high), format::significant(high, 1))]
    };
    title(map, head, column, "KL a layer adds, κ ± 2 SE", &marks, ui);
    let id = egui::Id::unique("route map slopes");
    let mut mesh = Mesh::default();
    for layer in 0..rows.layers {
        let band = rows.band(layer);
        let middle = band.center();
        let half = (0.24 * band.span()).clamp(1.5, 7.0);
        let Some(slope) = slopes.get(layer).copied().flatten() else { continue };
        let bar = Rangef::new(x(0.0).min(x(slope.value)), x(0.0).max(x(slope.value)));
        mesh.add_colored_rect(
            Rect::from_x_y_ranges(bar, Rangef::new(middle - half, middle + half)),
            map.theme().accent,
        );
        let error = Rangef::new(x(slope.value - 2.0 * slope.se), x(slope.value + 2.0 * slope.se));
        let line = Rangef::new(middle - 0.7, middle + 0.7);
        mesh.add_colored_rect(Rect::from_x_y_ranges(error, line), ui.visuals().text_color());
        let about = format!(
            "{}: adds {} to the KL where its draws differ, standard error {}, z {:.1}",
            map.layers[layer].name,
            format::significant(slope.value, 3),
            format::significant(slope.se, 2),
            slope.z()
        );
        drop(part(ui, Rect::from_x_y_ranges(column, band), id.with(layer), &about));
    }
    axis(map, rows, x(0.0), &mut mesh);
    ui.painter().add(Shape::mesh(mesh));
    if slopes.iter().flatten().next().is_none() {
        let why = match map.layout().passes {
            2 => "once there are enough steps",
            _ => "one pass: nothing to compare",
        };
        nothing(map, rows, column, why, ui);
    }
}

fn axis(map: &Map<'_>, rows: &Rows, x: f32, mesh: &mut Mesh) {
    let line = Rect::from_x_y_ranges(Rangef::new(x - 0.5, x + 0.5), rows.rect.y_range());
    mesh.add_colored_rect(line, grey(map.theme(), 0.3));
}

fn nothing(map: &Map<'_>, rows: &Rows, column: Rangef, why: &str, ui: &Ui) {
    let galley = ui.painter().layout(why.to_owned(), FontId::proportional(10.5), map.theme().muted, column.span());
    let at = pos2(column.min, rows.rect.center().y - 0.5 * galley.size().y);
    ui.painter().galley(at, galley, map.theme().muted);
}

/// The loss with a layer on each of its experts, and without its modules, against everything merged.
fn pins_ui(map: &Map<'_>, head: Rect, rows: &Rows, column: Rangef, pin: &mut Option<Pin>, ui: &Ui) {
    let all = map.causes.map_or(&[][..], |causes| &causes.pin_effects[..]);
    let ends =
        all.iter().flat_map(|pins| pins.effects.iter().chain(&pins.null_band).copied().chain([pins.adapter_off]));
    let (low, high) = ends.fold((-1e-9f64, 1e-9f64), |(low, high), end| (low.min(end), high.max(end)));
    let (low, high) = (low - 0.04 * (high - low), high + 0.04 * (high - low));
    let x = |value: f64| column.min + ((value - low) / (high - low)) as f32 * column.span();
    let marks = if all.is_empty() {
        Vec::new()
    } else {
        vec![(x(low), format::significant(low, 1)), (x(0.0), "0".to_owned()), (x(high), format::significant(high, 1))]
    };
    title(map, head, column, "Pinned expert − merged, loss; ◇ without its modules", &marks, ui);
    if all.is_empty() {
        let why = if map.ctx.session.studies.causes.is_pending() {
            "being measured"
        } else {
            "not measured: Pin every expert"
        };
        return nothing(map, rows, column, why, ui);
    }
    let id = egui::Id::unique("route map pins");
    let mut mesh = Mesh::default();
    for layer in 0..rows.layers {
        let Some(pins) = map.pins(layer) else { continue };
        let band = rows.band(layer).shrink(0.14 * rows.pitch());
        let chance = Rangef::new(x(pins.null_band[0]), x(pins.null_band[1]).max(x(pins.null_band[0]) + 1.5));
        mesh.add_colored_rect(Rect::from_x_y_ranges(chance, band), grey(map.theme(), 0.22));
    }
    axis(map, rows, x(0.0), &mut mesh);
    ui.painter().add(Shape::mesh(mesh));
    for layer in 0..rows.layers {
        let Some(pins) = map.pins(layer) else { continue };
        let y = rows.band(layer).center();
        let name = &map.layers[layer].name;
        let off = pos2(x(pins.adapter_off), y);
        let size = (0.3 * rows.pitch()).clamp(3.0, 6.0);
        let corners = vec![off - vec2(0.0, size), off + vec2(size, 0.0), off + vec2(0.0, size), off - vec2(size, 0.0)];
        ui.painter().add(Shape::closed_line(corners, Stroke::new(1.4, ui.visuals().text_color())));
        let about = format!(
            "{name} without its modules: loss {:+.4}, standard error {:.4}",
            pins.adapter_off, pins.adapter_off_standard_error
        );
        drop(part(ui, Rect::from_center_size(off, vec2(2.0 * size, 2.0 * size)), id.with((layer, "off")), &about));
        let radius = (0.2 * rows.pitch()).clamp(2.0, 4.0);
        for (expert, effect) in pins.effects.iter().enumerate() {
            let at = pos2(x(*effect), y);
            ui.painter().circle(at, radius, map.theme().series(expert), Stroke::new(0.8, map.theme().card));
            let own = Pin { layer, expert };
            if *pin == Some(own) {
                ui.painter().circle_stroke(at, radius + 2.5, Stroke::new(1.5, ui.visuals().text_color()));
            }
            let error = pins.standard_errors.get(expert).copied().unwrap_or_default();
            let outside = *effect < pins.null_band[0] || *effect > pins.null_band[1];
            let about = format!(
                "{name} on expert {expert}: loss {effect:+.4}, standard error {error:.4}; {} of equal experts (p {})",
                if outside { "outside of the band" } else { "inside of the band" },
                format::significant(pins.p, 2)
            );
            let place = Rect::from_center_size(at, vec2(2.0 * radius + 2.0, 2.0 * radius + 2.0));
            let response = ui.interact(place, id.with((layer, expert)), Sense::click());
            response.widget_info(|| egui::WidgetInfo::labeled(egui::Role::Button, true, &about));
            if response.clicked() {
                *pin = if *pin == Some(own) { None } else { Some(own) };
            }
            response.on_hover_text(about);
        }
    }
}

/// How far a layer's experts have become one.
fn consensus_ui(map: &Map<'_>, head: Rect, rows: &Rows, column: Rangef, ui: &Ui) {
    let strangers = 1.0 / (map.layout().most_experts().max(1) as f64).sqrt();
    let x = |value: f64| column.min + (value.clamp(0.0, 1.0)) as f32 * column.span();
    let marks = [(x(strangers), "1/√M".to_owned()), (x(1.0), "1".to_owned())];
    let known = map.causes.is_some();
    let step = map.causes.map_or_else(String::new, |causes| format!(", step {}", format::count(causes.step)));
    title(map, head, column, &format!("Consensus q{step}"), if known { &marks } else { &[] }, ui);
    if !known {
        return nothing(map, rows, column, "not measured", ui);
    }
    let id = egui::Id::unique("route map consensus");
    for layer in 0..rows.layers {
        let Some(value) = map.consensus(layer) else { continue };
        let band = rows.band(layer);
        let inner =
            Rangef::new(band.center() - (0.2 * band.span()).min(6.0), band.center() + (0.2 * band.span()).min(6.0));
        let all = Rect::from_x_y_ranges(Rangef::new(x(strangers), x(1.0)), inner);
        ui.painter().rect_stroke(all, 1.0, Stroke::new(1.0, grey(map.theme(), 0.3)), StrokeKind::Inside);
        let (low, high) = (x(strangers.min(value)), x(strangers.max(value)));
        ui.painter().rect_filled(
            Rect::from_x_y_ranges(Rangef::new(low, high.max(low + 1.5)), inner),
            1.0,
            map.theme().accent,
        );
        let about = format!(
            "{}: consensus {value:.3}; experts with nothing in common have {strangers:.3}, equal ones 1",
            map.layers[layer].name
        );
        drop(part(ui, Rect::from_x_y_ranges(column, band), id.with(layer), &about));
    }
    let line = [pos2(x(strangers), rows.rect.top()), pos2(x(strangers), rows.rect.bottom())];
    ui.painter().extend(Shape::dotted_line(&line, grey(map.theme(), 0.5), 4.0, 0.8));
}

/// The sentence about dropout and routing, and the button that measures pins, with what that costs.
pub fn words_ui(map: &Map<'_>, ui: &mut Ui) {
    if let Some(words) = map.fit.and_then(words::split) {
        ui.label(words).on_hover_text(
            "KL ≈ intercept + slope · h over the steps, h: layers in which the passes differ. What is left where none differs is \
             dropout, which differs between the passes too. From the run's record alone; z: standard errors from zero.",
        );
    } else if map.layout().passes < 2 {
        cards::muted(
            ui,
            map.theme(),
            "One pass: there is no disagreement that could be split into dropout and routing.",
        );
    }
    if let Some(error) = &map.ctx.session.routes.fit.error {
        cards::error(ui, map.theme(), error);
    }
    let Some(subject) = map.ctx.session.subject() else { return };
    let plan = CausesPlan::default();
    let (layers, experts) = (map.layers.len(), map.run.config.mixture.num_experts);
    let forwards = 1 + layers * (experts + 1);
    let action = Action::Query(subject, ModelQuery::Study(Study::Causes(plan)));
    map.ctx.job_ui(ui, action, &map.ctx.session.studies.causes, "pinning experts");
    cards::caption(
        ui,
        map.theme(),
        format!(
            "Pin every expert takes 1 + L (M + 1) = {} passes over {} evaluation rows (fewer where there are fewer). Grey band: where \
             all M experts lie in 95 of 100 cases when none is better than another.",
            format::count(forwards),
            plan.probe_rows
        ),
    );
}
