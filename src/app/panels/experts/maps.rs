//! Heat maps of the weights, of their distance from the experts' mean and of what they have moved; the values under the cursor.

use super::{Focus, histogram};
use crate::app::names;
use crate::app::panel_ctx::PanelCtx;
use crate::app::theme::Theme;
use crate::app::widgets::heatmap::{HeatMapSpec, HeatMapView, Matrix, Place, Scale, color};
use crate::app::widgets::listing::{self, Column};
use crate::app::widgets::{cards, export_menu, labeled, legend, verdict};
use crate::config::MixtureKind;
use crate::figure::{self, Axis, ColorBar, Content, Figure};
use crate::format;
use crate::protocol::{HeatMap, MapCell, MapOf, Side};
use egui::{Sense, Stroke, Ui, vec2};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

/// Largest number of heat maps below each other.
const STACK: usize = 8;
/// Colours of a bar on paper.
const BAR: usize = 48;

/// The heat maps, kept between frames.
#[derive(Default)]
pub struct HeatMaps {
    of: MapOf,
    own_scale: bool,
    only_chosen: bool,
    /// The cell that is looked at, the same in each map.
    cursor: Option<Place>,
    /// One for each expert.
    views: Vec<HeatMapView>,
}

/// What a picture shows: its name in the choice, its tooltip, the unit of its colours.
fn words(of: MapOf) -> [&'static str; 3] {
    match of {
        MapOf::Weights => ["W", "The weights of each expert", "weight (no unit)"],
        MapOf::FromMean => [
            "W − mean",
            "W minus the mean of all experts: what an expert has for itself, and merging takes away",
            "weight − mean of the experts",
        ],
        MapOf::FromStart => [
            "W − start",
            "W minus what it was before the first step, computed again from the seed: what training changed",
            "weight − weight at the start",
        ],
    }
}

/// Rows and columns as drawn: the longer side to the right.
fn shape(map: &HeatMap) -> (usize, usize) {
    (map.rows.min(map.cols), map.rows.max(map.cols))
}

/// The cell drawn at a place.
fn cell_at(map: &HeatMap, of: MapOf, (row, col): Place) -> Option<MapCell> {
    // Drawn with rows and columns swapped where the longer side is the number of rows.
    let index = if map.rows > map.cols { col * map.cols + row } else { row * map.cols + col };
    map.cells(of).get(index).copied()
}

impl HeatMaps {
    /// Draws heat maps and histogram; a click on a heat map chooses its expert.
    pub fn ui(&mut self, ctx: &PanelCtx<'_>, focus: &Focus<'_>, expert: &mut usize, ui: &mut Ui) {
        let fits = focus.snapshot.focus == (focus.site, Some(focus.side)) && !focus.snapshot.heat_maps.is_empty();
        cards::card(ui, ctx.theme, &title(focus), |ui| {
            if fits {
                self.heat_maps_ui(ctx, focus, expert, ui);
            } else {
                cards::loading(ui, "Waiting for the heat maps of this side", None);
            }
        });
        cards::card(ui, ctx.theme, "Distribution of the weights", |ui| histogram::ui(ctx.theme, focus, *expert, ui));
    }

    fn heat_maps_ui(&mut self, ctx: &PanelCtx<'_>, focus: &Focus<'_>, expert: &mut usize, ui: &mut Ui) {
        let Self { of, own_scale, only_chosen, cursor, views } = self;
        let (theme, maps) = (ctx.theme, &focus.snapshot.heat_maps);
        let experts = maps.len();
        views.resize_with(experts, HeatMapView::default);
        ui.horizontal_wrapped(|ui| {
            ui.label("Shown");
            for other in MapOf::ALL.into_iter().filter(|other| experts > 1 || *other != MapOf::FromMean) {
                let [name, tip, _] = words(other);
                ui.selectable_value(of, other, name).on_hover_text(tip);
            }
            if experts > 1 {
                ui.add_space(8.0);
                labeled::toggle(ui, "Only the chosen expert", "Draws one heat map, larger", only_chosen);
                let tip = "Off: one scale for all experts, so that colours can be compared between them";
                labeled::toggle(ui, "Own colour scale for each", tip, own_scale);
            }
        });
        if experts == 1 && *of == MapOf::FromMean {
            *of = MapOf::Weights;
        }
        let of = *of;
        let largest: Vec<f32> = maps.iter().map(|map| map.largest(of)).collect();
        let common = largest.iter().copied().fold(0.0, f32::max);
        let one = *only_chosen || experts > STACK;
        let mut shown_scale = common;
        cards::caption(ui, theme, format!("→ {}", axes(focus)[0]));
        for (i, (map, view)) in maps.iter().zip(views).enumerate() {
            if one && i != *expert {
                continue;
            }
            let limit = if *own_scale { largest[i] } else { common };
            shown_scale = limit;
            let room = ui.available_width() - 66.0;
            let (rows, cols) = shape(map);
            let height = (room * rows as f32 / cols.max(1) as f32).clamp(36.0, if one { 320.0 } else { 90.0 });
            ui.horizontal(|ui| {
                choose_ui(theme, i, height, expert, ui);
                let at = |row, col| cell_at(map, of, (row, col)).map_or(f32::NAN, |cell| cell.value(of));
                let mut version = DefaultHasher::new();
                (focus.snapshot.step, focus.site, focus.side as usize, limit.to_bits(), of).hash(&mut version);
                ctx.session.shown().map(|run| &run.dir).hash(&mut version);
                let what = if of == MapOf::Weights { "|weight|" } else { "|difference|" };
                let name = format!("Expert {i}, largest {what} {}", format::significant(f64::from(largest[i]), 3));
                let spec = HeatMapSpec {
                    matrix: Matrix { rows, cols, at: &at },
                    scale: Scale::Diverging(limit),
                    version: version.finish(),
                    size: vec2(room, height),
                    name: &name,
                };
                let about = |place| cell_at(map, of, place).map_or_else(String::new, |cell| about_cell(focus, &cell));
                let drawn = view.ui(ui, theme, spec, cursor, about);
                if drawn.clicked() {
                    *expert = i;
                }
                let place = egui::Rect::from_min_size(drawn.rect.right_top() + vec2(8.0, 21.0), vec2(26.0, 18.0));
                let save = format!("map of expert {i}, {}", words(of)[0]);
                export_menu::corner(ui, place, &save, &[], || (figure(focus, map, of, i, limit), None));
            });
        }
        cards::caption(ui, theme, format!("↓ {}", axes(focus)[1]));
        if *own_scale && !one {
            let unit = format!("share of the expert's largest |{}|", words(of)[2]);
            legend::bar(ui, theme, Scale::Diverging(1.0), &unit, 220.0);
        } else {
            legend::bar(ui, theme, Scale::Diverging(shown_scale), words(of)[2], 220.0);
        }
        cards::caption(ui, theme, reduced_text(focus));
        ui.add_space(4.0);
        cursor_ui(theme, focus, of, *cursor, ui);
    }
}

/// The chip of an expert beside its map.
fn choose_ui(theme: &Theme, i: usize, height: f32, expert: &mut usize, ui: &mut Ui) {
    let (area, choose) = ui.allocate_exact_size(vec2(22.0, height), Sense::click());
    let name = format!("Choose expert {i}");
    choose.widget_info(|| egui::WidgetInfo::selected(egui::Role::Button, true, i == *expert, &name));
    if i == *expert {
        let color = ui.visuals().text_color();
        ui.painter().vline(area.left() + 1.0, area.y_range(), Stroke::new(3.0, color));
    }
    if choose.clicked() {
        *expert = i;
    }
    let chip = egui::Rect::from_center_size(area.center() + vec2(2.0, 0.0), vec2(16.0, 16.0));
    verdict::chip_at(ui, theme, chip, i);
}

fn title(focus: &Focus<'_>) -> String {
    let side = focus.side_in_words();
    format!(
        "{}{} of {}: {} × {} (outputs × inputs)",
        side[..1].to_uppercase(),
        &side[1..],
        names::layer(&focus.snapshot.sites[focus.site]),
        focus.data.rows,
        focus.data.cols,
    )
}

/// What lies to the right and what downwards, with their sizes.
fn axes(focus: &Focus<'_>) -> [String; 2] {
    let (long, short) = (focus.data.rows.max(focus.data.cols), focus.data.rows.min(focus.data.cols));
    let turned = focus.data.rows > focus.data.cols;
    let [to_right, down] = match focus.kind {
        MixtureKind::Adapter => ["hidden size d", "bottleneck r"],
        MixtureKind::Lora if focus.side == Side::Down => ["inputs", "rank r"],
        MixtureKind::Lora => ["outputs", "rank r"],
    };
    let [right, below] = if turned { ["rows", "columns"] } else { ["columns", "rows"] };
    let ends = |n: usize| format!("0 to {}", format::count(n.saturating_sub(1)));
    [format!("{to_right}: {right} {}", ends(long)), format!("{down}: {below} {}", ends(short))]
}

fn place(focus: &Focus<'_>, cell: &MapCell) -> (usize, usize) {
    let cols = focus.data.cols.max(1);
    (cell.at as usize / cols, cell.at as usize % cols)
}

fn number(value: f32) -> String {
    format!("{value:+.5}")
}

fn about_cell(focus: &Focus<'_>, cell: &MapCell) -> String {
    let (row, col) = place(focus, cell);
    format!(
        "row {row}, column {col}: weight {}, mean {}, start {}",
        number(cell.weight),
        number(cell.mean),
        number(cell.start)
    )
}

/// The values of every expert at the place that the cursor is on.
fn cursor_ui(theme: &Theme, focus: &Focus<'_>, of: MapOf, cursor: Option<Place>, ui: &mut Ui) {
    let Some(at) = cursor else {
        let words =
            "Point at a map, or click it and use the arrow keys (with Shift ten at a time), for the values there.";
        cards::muted(ui, theme, words);
        return;
    };
    let maps = focus.snapshot.heat_maps.iter().enumerate();
    let rows: Vec<(usize, MapCell)> = maps.filter_map(|(i, map)| Some((i, cell_at(map, of, at)?))).collect();
    type Row<'a> = Column<'a, (usize, MapCell)>;
    let value = |title, tip, of: fn(&MapCell) -> f32| Row::number(title, tip, move |(_, cell)| number(of(cell)));
    let alone = rows.len() == 1;
    let columns = vec![
        Row::new(
            "Expert",
            "",
            |ui, (i, _)| {
                if alone { ui.label("shared") } else { verdict::expert_chip(ui, theme, *i) }
            },
        ),
        Row::number("Row, column", "Of the whole matrix: outputs, inputs", |(_, cell)| {
            let (row, col) = place(focus, cell);
            format!("{row}, {col}")
        }),
        value("Weight", "The weight W there", |cell| cell.weight),
        value("Mean", "The mean of all experts there", |cell| cell.mean),
        value("Start", "The weight there before the first step", |cell| cell.start),
        value("− mean", "Weight minus mean", |cell| cell.value(MapOf::FromMean)),
        value("− start", "Weight minus start", |cell| cell.value(MapOf::FromStart)),
    ];
    listing::grid(ui, "values under the cursor", columns, &rows);
}

/// What was left out to fit.
fn reduced_text(focus: &Focus<'_>) -> String {
    let (long, short) = (focus.data.rows.max(focus.data.cols), focus.data.rows.min(focus.data.cols));
    match focus.snapshot.heat_maps.first().map(shape) {
        Some((rows, cols)) if cols < long || rows < short => format!(
            "{short} × {long} weights in {rows} × {cols} cells: each shows its weight with the largest absolute value."
        ),
        _ => "Every weight has a cell of its own.".to_owned(),
    }
}

/// One map for files.
fn figure(focus: &Focus<'_>, map: &HeatMap, of: MapOf, expert: usize, limit: f32) -> Figure {
    let paper = Theme::new(false);
    let rgb = |value: f32| {
        let [r, g, b, _] = color(&paper, Scale::Diverging(limit), value).to_array();
        [r, g, b]
    };
    let (rows, cols) = shape(map);
    let cell = |row, col| cell_at(map, of, (row, col)).unwrap_or_default();
    let line = |row| (0..cols).map(|col| cell(row, col).value(of)).map(|v| (f64::from(v), rgb(v))).collect();
    let (long, short) = (focus.data.rows.max(focus.data.cols), focus.data.rows.min(focus.data.cols));
    let [to_right, down] = axes(focus);
    let axis = |name: String, n: usize| Axis { name, range: Some([0.0, n as f64]), ..Axis::default() };
    let places = |n: usize, all: usize| (0..n).map(|i| (i * all).div_ceil(n.max(1)) as f64).collect();
    let low = -f64::from(limit);
    let content = figure::Map {
        x: axis(to_right, long),
        y: axis(down, short),
        downwards: true,
        columns: places(cols, long),
        rows: places(rows, short),
        cells: (0..rows).map(line).collect(),
        bar: ColorBar {
            name: words(of)[2].to_owned(),
            range: [low, -low],
            colors: (0..BAR).map(|i| rgb(limit * (2.0 * i as f32 / (BAR - 1) as f32 - 1.0))).collect(),
        },
        ..figure::Map::default()
    };
    let who = if focus.data.experts.len() == 1 { "shared".to_owned() } else { format!("expert {expert}") };
    let title = format!("{}, {who}, step {}", title(focus), format::count(focus.snapshot.step));
    Figure { note: reduced_text(focus), ..Figure::new(title, Content::Map(content)) }
}
