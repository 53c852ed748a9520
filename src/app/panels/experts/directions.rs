//! Singular values and ranks of the experts, of their mean and of their products; how far two experts span the same.

use super::Focus;
use crate::analysis::spectrum::Spectrum;
use crate::app::names;
use crate::app::panel_ctx::PanelCtx;
use crate::app::widgets::cell_grid::{self, GridCell, GridSpec};
use crate::app::widgets::heatmap::{Scale, color};
use crate::app::widgets::listing::{self, Column};
use crate::app::widgets::metric_plot::{self, Curve, PlotOptions};
use crate::app::widgets::{cards, export_menu, legend, verdict};
use crate::config::MixtureKind;
use crate::figure::{Cell, Table};
use crate::format;
use crate::protocol::Directions;
use egui::{Ui, vec2};

/// What the matrix of pairs shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PairValue {
    #[default]
    Overlap,
    Smallest,
    Largest,
}

/// Draws both cards.
pub fn ui(ctx: &PanelCtx<'_>, focus: &Focus<'_>, expert: &mut usize, shown: &mut PairValue, ui: &mut Ui) {
    let fits = focus.snapshot.focus == (focus.site, Some(focus.side));
    let Some(found) = focus.snapshot.directions.as_ref().filter(|_| fits) else {
        let words = match fits && !focus.snapshot.heat_maps.is_empty() {
            true => {
                "These matrices are large: their singular values are computed when the model does not train. Pause the \
                     run and press Read again, or open it from Runs."
            }
            false => "Waiting for the directions of this side.",
        };
        cards::card(ui, ctx.theme, "Singular values", |ui| drop(cards::muted(ui, ctx.theme, words)));
        return;
    };
    let title = format!(
        "Singular values: {} of {}, {} directions in {} dimensions",
        focus.side_in_words(),
        names::layer(&focus.snapshot.sites[focus.site]),
        found.each,
        format::count(found.space),
    );
    cards::card(ui, ctx.theme, &title, |ui| {
        values_ui(ctx, focus, found, ui);
        ranks_ui(ctx, focus, found, *expert, ui);
    });
    if focus.data.experts.len() > 1 {
        cards::card(ui, ctx.theme, "What two experts span", |ui| pairs_ui(ctx, focus, found, expert, shown, ui));
    }
}

/// The rows of the tables: each expert, then the mean.
fn rows(found: &Directions) -> Vec<(Option<usize>, Option<&Spectrum>, Option<&Spectrum>)> {
    let count = found.experts.len().max(found.products.len());
    let one = |i: usize| {
        let own = found.experts.get(i.min(found.experts.len().saturating_sub(1)));
        (Some(i), own.and_then(Option::as_ref), found.products.get(i).and_then(Option::as_ref))
    };
    let mean = (None, found.mean.as_ref(), found.mean_product.as_ref());
    (0..count).map(one).chain([mean]).collect()
}

fn values_ui(ctx: &PanelCtx<'_>, focus: &Focus<'_>, found: &Directions, ui: &mut Ui) {
    let line = |spectrum: &Spectrum| -> Vec<[f64; 2]> {
        spectrum.singular_values.iter().enumerate().map(|(i, &s)| [(i + 1) as f64, s]).collect()
    };
    let alone = focus.data.experts.len() <= 1;
    let experts = found.experts.iter().enumerate().filter_map(|(i, spectrum)| {
        let name = if alone { "shared".to_owned() } else { format!("expert {i}") };
        Some(Curve { dots: true, ..Curve::line(name, ctx.theme.series(i), line(spectrum.as_ref()?)) })
    });
    let mut curves: Vec<Curve> = experts.collect();
    if let Some(mean) = found.mean.as_ref().filter(|_| !alone) {
        let color = ui.visuals().text_color();
        curves.push(Curve { dashed: true, strong: true, ..Curve::line("mean of the experts", color, line(mean)) });
    }
    let options = PlotOptions {
        title: "Singular value",
        height: 180.0,
        legend: true,
        limits: Some([0.0, f64::INFINITY]),
        x: Some("number of the singular value"),
        ..PlotOptions::default()
    };
    metric_plot::ui(ui, ctx.theme, "singular values of the experts", &curves, &[], &options);
}

fn ranks_ui(ctx: &PanelCtx<'_>, focus: &Focus<'_>, found: &Directions, expert: usize, ui: &mut Ui) {
    type Row<'a, 'b> = Column<'a, (Option<usize>, Option<&'b Spectrum>, Option<&'b Spectrum>)>;
    let number = |spectrum: Option<&Spectrum>, of: fn(&Spectrum) -> f64| {
        spectrum.map_or_else(|| "-".to_owned(), |spectrum| format!("{:.2}", of(spectrum)))
    };
    let largest = |spectrum: Option<&Spectrum>| {
        let value = spectrum.and_then(|spectrum| spectrum.singular_values.first());
        value.map_or_else(|| "-".to_owned(), |&value| format::significant(value, 3))
    };
    let effective = "exp of the entropy of the singular values divided by their sum: how many directions are used about \
                     equally";
    let stable = "Sum of the squared singular values divided by the largest squared one: small values hardly count";
    let product = match focus.kind {
        MixtureKind::Adapter => "up · down: what the module would add to a layer without the nonlinearity between",
        MixtureKind::Lora => "B · A: what the module adds to the layer's matrix, without its scale",
    };
    let mut columns = vec![
        Row::new("Of", "", |ui, (who, ..)| match who {
            Some(i) => {
                ui.horizontal(|ui| {
                    verdict::expert_chip(ui, ctx.theme, *i);
                    let words = egui::RichText::new(format!("expert {i}"));
                    ui.label(if *i == expert { words.strong() } else { words });
                });
            }
            None => drop(ui.label("mean of the experts")),
        }),
        Row::number("Effective rank", effective, move |(_, own, _)| number(*own, |s| s.effective_rank)),
        Row::number("Stable rank", stable, move |(_, own, _)| number(*own, |s| s.stable_rank)),
        Row::number("Largest", "The largest singular value", move |(_, own, _)| largest(*own)),
    ];
    if !found.products.is_empty() {
        columns.extend([
            Row::number("Product: effective rank", product, move |(.., of)| number(*of, |s| s.effective_rank)),
            Row::number("Product: stable rank", product, move |(.., of)| number(*of, |s| s.stable_rank)),
            Row::number("Product: largest", product, move |(.., of)| largest(*of)),
        ]);
    }
    let rows = rows(found);
    ui.add_space(4.0);
    listing::grid(ui, "ranks of the experts", columns, &rows);
    export_menu::table(ui, "singular values table", || table(found));
    let words = format!(
        "Ranks from 1 (one direction) to {} (all used alike). The mean of experts with nothing in common has smaller singular \
         values than each of them.",
        found.each
    );
    cards::caption(ui, ctx.theme, words);
}

/// All singular values with every digit.
fn table(found: &Directions) -> Table {
    let head = ["of", "matrix", "effective_rank", "stable_rank"].map(str::to_owned);
    let mut table = Table::new(head.into_iter().chain((1..=found.each).map(|i| format!("sigma_{i}"))));
    for (who, own, product) in rows(found) {
        for (matrix, spectrum) in [("own", own), ("product", product)] {
            let Some(spectrum) = spectrum else { continue };
            let who: Cell = who.map_or_else(|| "mean".into(), |i| format!("expert {i}").into());
            let front = [who, matrix.into(), spectrum.effective_rank.into(), spectrum.stable_rank.into()];
            table.push(front.into_iter().chain(spectrum.singular_values.iter().map(|&s| s.into())));
        }
    }
    table
}

fn pairs_ui(
    ctx: &PanelCtx<'_>,
    focus: &Focus<'_>,
    found: &Directions,
    expert: &mut usize,
    shown: &mut PairValue,
    ui: &mut Ui,
) {
    let m = focus.data.experts.len();
    ui.horizontal_wrapped(|ui| {
        let choices = [
            (
                PairValue::Overlap,
                "Overlap",
                "Mean squared cosine of the principal angles: 0 orthogonal, 1 the same span",
            ),
            (PairValue::Smallest, "Smallest angle", "The principal angle of the closest two directions, in degrees"),
            (PairValue::Largest, "Largest angle", "The principal angle of the farthest directions, in degrees"),
        ];
        for (value, name, tip) in choices {
            ui.selectable_value(shown, value, name).on_hover_text(tip);
        }
    });
    let (values, what, scale, unit) = match *shown {
        PairValue::Overlap => (&found.overlap, "overlap", Scale::Sequential(0.0, 1.0), "overlap, 0 to 1"),
        PairValue::Smallest => (&found.smallest_angle, "smallest angle", Scale::Sequential(0.0, 90.0), "degrees"),
        PairValue::Largest => (&found.largest_angle, "largest angle", Scale::Sequential(0.0, 90.0), "degrees"),
    };
    let columns: Vec<String> = (0..m).map(|i| i.to_string()).collect();
    let cell = if m <= 10 { vec2(58.0, 26.0) } else { vec2(26.0, 20.0) };
    let name = format!("{} of the experts' spans", &what);
    let spec = GridSpec { name: &name, columns: &columns, rows: m, row_width: 74.0, cell, clickable: true };
    let clicked = cell_grid::ui(
        ui,
        ctx.theme,
        &spec,
        |row| format!("expert {row}"),
        |row, column| {
            let value = values.get(row * m + column).copied().flatten();
            let text = match (value, *shown) {
                (None, _) => "-".to_owned(),
                (Some(value), PairValue::Overlap) => format!("{value:.2}"),
                (Some(value), _) => format!("{value:.0}°"),
            };
            let about = format!("expert {row} and expert {column}: {what} {text}");
            let fill = value.map(|value| color(ctx.theme, scale, value as f32));
            GridCell {
                text,
                fill,
                value: Some(value.unwrap_or(f64::NAN)),
                about,
                chosen: row == *expert && column == *expert,
            }
        },
    );
    if let Some((row, column)) = clicked {
        *expert = if row == *expert { column } else { row };
    }
    ui.add_space(2.0);
    legend::bar(ui, ctx.theme, scale, unit, 220.0);
    cards::caption(ui, ctx.theme, overlap_text(found, m));
}

/// The overlap of all pairs beside that of random spans of the same sizes.
fn overlap_text(found: &Directions, experts: usize) -> String {
    let (Some((overlap, angle)), Some(chance)) = (found.of_pairs(), found.chance) else {
        return "These matrices are zero and span nothing yet.".to_owned();
    };
    let far = if chance.spread > 0.0 { (overlap - chance.overlap) / chance.spread } else { 0.0 };
    let verdict = match far {
        far if far.abs() < 3.0 => "which is chance: the experts span unrelated directions".to_owned(),
        far if far > 0.0 => format!("{far:.0} of its standard deviations above: the experts use directions together"),
        far => format!("{:.0} of its standard deviations below: the experts avoid each other's directions", -far),
    };
    format!(
        "Mean overlap of {}: {overlap:.3}; two random spans of {} directions in {} dimensions have {:.3} ± {:.3}, {verdict}. \
         Smallest angle {angle:.0}°, of random spans about {:.0}°.",
        format::counted(experts * (experts - 1) / 2, "pair"),
        found.each,
        format::count(found.space),
        chance.overlap,
        chance.spread,
        chance.smallest,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::spectrum::OverlapChance;

    #[test]
    fn an_overlap_is_told_against_chance() {
        let of = |overlap: f64| {
            let found = Directions {
                space: 128,
                each: 16,
                experts: vec![None, None],
                overlap: vec![Some(1.0), Some(overlap), Some(overlap), Some(1.0)],
                smallest_angle: vec![Some(0.0), Some(40.0), Some(40.0), Some(0.0)],
                chance: Some(OverlapChance::new(16, 16, 128)),
                ..Directions::default()
            };
            overlap_text(&found, 2)
        };
        assert!(of(0.125).contains("which is chance"), "{}", of(0.125));
        assert!(of(0.5).contains("use directions together") && of(0.5).contains("0.125 ± 0.0"), "{}", of(0.5));
        assert!(of(0.01).contains("avoid each other's"), "{}", of(0.01));
        assert!(overlap_text(&Directions::default(), 2).contains("span nothing"));
    }

    #[test]
    fn the_table_has_every_singular_value() {
        let spectrum = |values: &[f64]| Some(Spectrum::new(values.to_vec()));
        let found = Directions {
            each: 2,
            experts: vec![spectrum(&[3.0, 1.0])],
            mean: spectrum(&[2.0, 0.0]),
            products: vec![spectrum(&[5.0, 4.0]), None],
            ..Directions::default()
        };
        let csv = table(&found).csv();
        let lines: Vec<&str> = csv.lines().collect();
        assert_eq!(lines[0], "of,matrix,effective_rank,stable_rank,sigma_1,sigma_2");
        assert!(lines[1].starts_with("expert 0,own,") && lines[1].ends_with(",3,1"), "{csv}");
        assert!(lines[2].starts_with("expert 0,product,") && lines[3].starts_with("expert 1,own,"), "{csv}");
        assert!(lines[4].starts_with("mean,own,1,1,2,0"), "{csv}");
    }
}
