//! The step at the playhead as a table, for those who do not see the map.

use super::map::Map;
use crate::app::names;
use crate::app::widgets::listing::{self, Column};
use crate::format;
use crate::protocol::Side;
use egui::Ui;

/// One side of a layer, or of the chosen module.
struct Line {
    name: String,
    layer: usize,
    side: Side,
    site: usize,
    /// Several modules are shown together.
    many: bool,
}

/// Draws the table.
pub fn ui(map: &Map<'_>, ui: &mut Ui) {
    let mut lines: Vec<Line> = Vec::new();
    for layer in (0..map.layers.len()).rev() {
        let shown = map.site_of(layer);
        let sites = shown.map_or_else(|| map.layers[layer].sites.clone(), |site| vec![site]);
        for site in sites {
            for side in map.layout().drawn().rev() {
                let name = format!("{} {}", names::layer(&map.layout().sites[site]), names::side(map.kind(), side));
                lines.push(Line { name, layer, side, site, many: shown.is_none() });
            }
        }
    }
    let pass = |line: &Line, pass: usize| -> String {
        if map.layout().is_mixed() {
            let shares = map.row.shares(pass, line.site, line.side);
            return shares.iter().map(|share| format!("{:.0}", 100.0 * share)).collect::<Vec<_>>().join(" ");
        }
        map.row.pick(pass, line.site, line.side).map_or_else(|| "-".to_owned(), |expert| expert.to_string())
    };
    let ages = |line: &Line| -> String {
        let age = |expert| match map.timeline.age(map.ages, line.site, line.side, expert) {
            Some(age) => age.to_string(),
            None => "never".to_owned(),
        };
        (0..map.layout().experts[line.side as usize]).map(age).collect::<Vec<_>>().join(" ")
    };
    let slope = |line: &Line| -> String {
        let own = map.fit.and_then(|fit| fit.sites.get(line.site).copied().flatten());
        let slope = own.or_else(|| map.slope(line.layer).map(|(slope, _)| slope));
        slope.map_or_else(
            || "-".to_owned(),
            |slope| format!("{} ± {}", format::significant(slope.value, 2), format::significant(2.0 * slope.se, 1)),
        )
    };
    let consensus = |line: &Line| map.consensus(line.layer).map_or_else(|| "-".to_owned(), |q| format!("{q:.3}"));
    let mixed = map.layout().is_mixed();
    let tip = if mixed { "Shares of the experts in per cent" } else { "The expert" };
    let wide = if mixed { 150.0 } else { 64.0 };
    let mut columns = vec![Column::new("Layer", "", |ui: &mut Ui, line: &Line| ui.label(&line.name)).rest(110.0)];
    columns.push(
        Column::number(if map.layout().passes == 2 { "A" } else { "Expert" }, tip, |line: &Line| pass(line, 0))
            .exact(wide),
    );
    if map.layout().passes == 2 {
        columns.push(Column::number("B", tip, |line: &Line| pass(line, 1)).exact(wide));
    }
    let tip = "Steps since each expert learned, from expert 0 on";
    columns
        .push(Column::number("Age", tip, ages).exact((26.0 * map.layout().most_experts() as f32).clamp(90.0, 260.0)));
    columns.push(
        Column::number("κ", "What the layer adds to the KL where its draws differ, ± 2 standard errors", slope)
            .exact(130.0),
    );
    columns.push(Column::number("q", "Consensus of the layer's experts", consensus).exact(60.0));
    let height = 18.0 * (lines.len() as f32 + 1.5);
    let many = lines.iter().any(|line| line.many);
    listing::numbers(
        ui,
        if many { "draws of all modules" } else { "draws of a step" },
        height.min(520.0),
        columns,
        &lines,
    );
}
