//! So what: how much it matters which expert runs in a layer, beside what chance alone shows.

use super::map::{Map, Rows, grey};
use super::words;
use crate::analysis::causes::consensus::of_strangers;
use crate::analysis::causes::least_squares::Estimate;
use crate::app::actions::Action;
use crate::app::names;
use crate::app::widgets::dot_plot::spread;
use crate::app::widgets::pen::Pen;
use crate::app::widgets::{cards, described, part};
use crate::format;
use crate::protocol::{CausesPlan, DistanceSample, LayerPins, ModelQuery, Study};
use egui::{FontId, Rangef, Rect, Sense, Stroke, Ui, Vec2, pos2, vec2};

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
    let slopes: Vec<_> = (0..rows.layers).map(|layer| map.slope(layer)).collect();
    let ends = slopes.iter().flatten().flat_map(|(slope, _)| [-2.0, 2.0].map(|errors| slope.value + errors * slope.se));
    let (low, high) = ends.fold((0.0f64, 1e-9f64), |(low, high), end| (low.min(end), high.max(end)));
    let x = |value: f64| column.min + ((value - low) / (high - low)) as f32 * column.span();
    let known = slopes.iter().any(Option::is_some);
    let marks = [(x(0.0), "0".to_owned()), (x(high), format::significant(high, 1))];
    let largest = slopes.iter().flatten().any(|(_, site)| site.is_some()) && map.module.is_none();
    let name = if largest {
        "Does its draw matter? KL a module adds: largest κ ± 2 SE"
    } else {
        "Does its draw matter? KL a layer adds: κ ± 2 SE"
    };
    title(map, head, column, name, if known { &marks } else { &[] }, ui);
    let id = egui::Id::unique("route map slopes");
    let mut pen = Pen::default();
    for (layer, slope) in slopes.iter().enumerate() {
        let Some((slope, _)) = *slope else { continue };
        let band = rows.band(layer);
        let middle = band.center();
        let half = (0.24 * band.span()).clamp(1.5, 7.0);
        let bar = Rangef::new(x(0.0).min(x(slope.value)), x(0.0).max(x(slope.value)));
        pen.rect(Rect::from_x_y_ranges(bar, Rangef::new(middle - half, middle + half)), map.theme().accent);
        let error = Rangef::new(x(slope.value - 2.0 * slope.se), x(slope.value + 2.0 * slope.se));
        let line = Rangef::new(middle - 0.7, middle + 0.7);
        pen.rect(Rect::from_x_y_ranges(error, line), ui.visuals().text_color());
        part(ui, Rect::from_x_y_ranges(column, band), id.with(layer), || slope_text(map, layer));
    }
    axis(map, rows, x(0.0), &mut pen);
    pen.paint(ui.painter());
    if !known {
        let why = match map.layout().passes {
            2 => "once there are enough steps",
            _ => "one pass: nothing to compare",
        };
        nothing(map, rows, column, why, ui);
    }
}

/// What a layer adds to the disagreement; of several modules each.
fn slope_text(map: &Map<'_>, layer: usize) -> String {
    let words = |slope: Estimate| {
        let (value, se) = (format::significant(slope.value, 3), format::significant(slope.se, 2));
        format!("adds {value} to the KL where its draws differ, standard error {se}, z {:.1}", slope.z())
    };
    let group = &map.layers[layer];
    let Some((shown, site)) = map.slope(layer) else { return format!("{}: not known yet", group.name) };
    let all = match (site, map.site_of(layer), map.fit) {
        (Some(_), None, Some(fit)) => {
            let own = |site: &usize| Some((names::part(&map.layout().sites[*site]), fit.sites[*site]?));
            let lines = group.sites.iter().filter_map(own).map(|(part, slope)| format!("\n{part}: {}", words(slope)));
            format!(
                "; the largest of {} is shown{}",
                format::counted(group.sites.len(), "module"),
                lines.collect::<String>()
            )
        }
        _ => String::new(),
    };
    let name = site.map_or_else(|| group.name.clone(), |site| names::layer(&map.layout().sites[site]));
    format!("{name}: {}{all}", words(shown))
}

fn axis(map: &Map<'_>, rows: &Rows, x: f32, pen: &mut Pen) {
    let line = Rect::from_x_y_ranges(Rangef::new(x - 0.5, x + 0.5), rows.rect.y_range());
    pen.rect(line, grey(map.theme(), 0.3));
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
    title(map, head, column, "Is an expert special? Loss pinned to it − merged; ◇ no expert at all", &marks, ui);
    if all.is_empty() {
        let why = if map.ctx.session.studies.causes.is_pending() {
            "being measured"
        } else {
            "not measured: Pin every expert"
        };
        return nothing(map, rows, column, why, ui);
    }
    let id = egui::Id::unique("route map pins");
    let (bands, mut dots) = (&mut Pen::default(), Pen::default());
    let radius = (0.2 * rows.pitch()).clamp(2.0, 4.0);
    for layer in 0..rows.layers {
        let Some(pins) = map.pins(layer) else { continue };
        let band = rows.band(layer);
        let inner = Rangef::new(band.min + 0.12 * band.span(), band.max - 0.12 * band.span());
        let chance = Rangef::new(x(pins.null_band[0]), x(pins.null_band[1]).max(x(pins.null_band[0]) + 1.5));
        bands.rect(Rect::from_x_y_ranges(chance, inner), grey(map.theme(), 0.22));
        let (y, name) = (band.center(), &map.layers[layer].name);
        let (off, size) = (pos2(x(pins.adapter_off), y), (0.3 * rows.pitch()).clamp(3.0, 6.0));
        let corners = [vec2(0.0, -size), vec2(size, 0.0), vec2(0.0, size), vec2(-size, 0.0), vec2(0.0, -size)];
        dots.path(&corners.map(|corner| off + corner), Stroke::new(1.4, ui.visuals().text_color()));
        let about = || {
            format!(
                "{name} without its modules: loss {:+.4}, standard error {:.4}",
                pins.adapter_off, pins.adapter_off_standard_error
            )
        };
        part(ui, Rect::from_center_size(off, Vec2::splat(2.0 * size)), id.with((layer, "off")), about);
        for (expert, effect) in pins.effects.iter().enumerate() {
            // A little apart, so that equal effects are all seen.
            let high = (0.6 * rows.pitch()).min(4.0 * radius * pins.effects.len() as f32) - 2.0 * radius;
            let own = Pin { layer, expert };
            let at = pos2(x(*effect), y - spread(expert, pins.effects.len(), high.max(0.0)));
            if *pin == Some(own) {
                dots.dot(at, radius + 3.2, ui.visuals().text_color());
            }
            dots.dot(at, radius + 0.8, map.theme().card);
            dots.dot(at, radius, map.theme().series(expert));
            let about = || pin_text(name, pins, expert);
            let place = Rect::from_center_size(at, Vec2::splat(2.0 * radius + 2.0));
            let response = ui.interact(place, id.with((layer, expert)), Sense::click());
            if described(response, egui::Role::Button, about).clicked() {
                *pin = if *pin == Some(own) { None } else { Some(own) };
            }
        }
    }
    axis(map, rows, x(0.0), bands);
    std::mem::take(bands).paint(ui.painter());
    dots.paint(ui.painter());
}

/// What pinning an expert does, beside chance.
fn pin_text(name: &str, pins: &LayerPins, expert: usize) -> String {
    let (effect, band) = (pins.effects[expert], pins.null_band);
    let error = pins.standard_errors.get(expert).copied().unwrap_or_default();
    let side = if effect < band[0] || effect > band[1] { "outside" } else { "inside" };
    let p = format::significant(pins.p, 2);
    format!(
        "{name} on expert {expert}: loss {effect:+.4}, standard error {error:.4}; {side} of the band of equal experts (p {p})"
    )
}

/// How far a layer's experts have become one, over the steps where they are known.
fn consensus_ui(map: &Map<'_>, head: Rect, rows: &Rows, column: Rangef, ui: &Ui) {
    let strangers = of_strangers(map.layout().most_experts());
    let samples = map.run.distances.as_slice();
    let [first, last] = [samples.first(), samples.last()].map(|sample| sample.map_or(0, |sample| sample.step));
    if first < last {
        let marks = [(column.min, format::count(first)), (column.max, format::count(last))];
        title(map, head, column, "One yet? Consensus q by step", &marks, ui);
        return history_ui(map, rows, column, strangers, ui);
    }
    let known = map.causes.is_some();
    let step = map.causes.map_or_else(String::new, |causes| format!(", step {}", format::count(causes.step)));
    let x = |value: f64| column.min + (value.clamp(0.0, 1.0)) as f32 * column.span();
    let marks = [(x(strangers), "1/√M".to_owned()), (x(1.0), "1".to_owned())];
    title(map, head, column, &format!("One yet? Consensus q{step}"), if known { &marks } else { &[] }, ui);
    if !known {
        return nothing(map, rows, column, "not measured", ui);
    }
    let mut pen = Pen::default();
    for layer in 0..rows.layers {
        let Some(value) = map.consensus(layer) else { continue };
        let band = rows.band(layer);
        let half = (0.2 * band.span()).min(6.0);
        let inner = Rangef::new(band.center() - half, band.center() + half);
        pen.frame(Rect::from_x_y_ranges(Rangef::new(x(strangers), x(1.0)), inner), 1.0, grey(map.theme(), 0.3));
        let (low, high) = (x(strangers.min(value)), x(strangers.max(value)));
        pen.rect(Rect::from_x_y_ranges(Rangef::new(low, high.max(low + 1.5)), inner), map.theme().accent);
        let name = &map.layers[layer].name;
        let about = || {
            format!("{name}: consensus {value:.3}; experts with nothing in common have {strangers:.3}, equal ones 1")
        };
        part(ui, Rect::from_x_y_ranges(column, band), egui::Id::unique("route map consensus").with(layer), about);
    }
    pen.dots_down(x(strangers), rows.rect.top(), rows.rect.bottom(), 4.0, 1.6, grey(map.theme(), 0.5));
    pen.paint(ui.painter());
}

/// A column for each point in time, from strangers at the bottom of a row to equal experts at its top; paler behind the playhead.
fn history_ui(map: &Map<'_>, rows: &Rows, column: Rangef, strangers: f64, ui: &Ui) {
    let samples = thinned(&map.run.distances, (column.span() / 3.0) as usize);
    let steps = (samples.last().map_or(1, |last| last.step) - samples.first().map_or(0, |first| first.step)).max(1);
    let wide = column.span() / samples.len().max(1) as f32;
    let left = |step: u64| {
        let share = (step - samples.first().map_or(step, |first| first.step)) as f32 / steps as f32;
        column.min + share * (column.span() - wide)
    };
    let mut pen = Pen::default();
    for layer in 0..rows.layers {
        let band = rows.band(layer);
        let inner = Rangef::new(band.min + 0.14 * band.span(), band.max - 0.14 * band.span());
        pen.rect(Rect::from_x_y_ranges(column, Rangef::new(inner.max, inner.max + 1.0)), grey(map.theme(), 0.3));
        for sample in &samples {
            let Some(q) = map.consensus_of(layer, sample) else { continue };
            let share = ((q - strangers) / (1.0 - strangers)).clamp(0.0, 1.0) as f32;
            let (x, top) = (left(sample.step), inner.max - share * inner.span());
            let color = map.theme().accent;
            let color = if sample.step > map.step { color.gamma_multiply(0.4) } else { color };
            pen.rect(
                Rect::from_min_max(pos2(x, top.min(inner.max - 0.8)), pos2(x + (wide - 0.6).max(0.8), inner.max)),
                color,
            );
        }
        let name = &map.layers[layer].name;
        let about = || {
            let known = samples.iter().filter_map(|sample| Some((sample.step, map.consensus_of(layer, sample)?)));
            let known: Vec<(u64, f64)> = known.collect();
            let at = |(step, q): &(u64, f64)| format!("{q:.3} after step {}", format::count(*step));
            match known.as_slice() {
                [first, .., last] => format!(
                    "{name}: consensus {}, {}; experts with nothing in common have 1/√M = {strangers:.3}, equal ones 1",
                    at(first),
                    at(last)
                ),
                _ => format!("{name}: nothing that could come together, or not known yet"),
            }
        };
        part(ui, Rect::from_x_y_ranges(column, band), egui::Id::unique("route map consensus").with(layer), about);
    }
    pen.paint(ui.painter());
}

/// At most `most` of them, evenly, first and last among them.
fn thinned(samples: &[DistanceSample], most: usize) -> Vec<&DistanceSample> {
    let (n, most) = (samples.len(), most.max(2));
    if n <= most {
        return samples.iter().collect();
    }
    (0..most).map(|i| &samples[i * (n - 1) / (most - 1)]).collect()
}

/// The sentence about dropout and routing, and the button that measures pins, with what that costs.
pub fn words_ui(map: &Map<'_>, pin: Option<Pin>, ui: &mut Ui) {
    let chosen = pin.and_then(|pin| Some((pin, map.pins(pin.layer)?, map.layers.get(pin.layer)?)));
    if let Some((pin, pins, group)) = chosen.filter(|(pin, pins, _)| pin.expert < pins.effects.len()) {
        let words = format!(
            "Chosen: {}. The card Pin one module below puts it on each of its experts for one example.",
            pin_text(&group.name, pins, pin.expert)
        );
        ui.label(words);
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_points_the_first_and_the_last_stay() {
        let samples: Vec<DistanceSample> =
            (0..100).map(|i| DistanceSample { step: 25 * i, ..DistanceSample::default() }).collect();
        let steps = |most| thinned(&samples, most).iter().map(|sample| sample.step).collect::<Vec<_>>();
        assert_eq!(steps(4), [0, 825, 1650, 2475]);
        assert_eq!(steps(100).len(), 100);
        assert_eq!(steps(0), [0, 2475]);
    }
}
