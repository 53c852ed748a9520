//! The picture of the draws over time, as textures of 512 columns, and the envelopes of the curves above it.
//!
//! A column is a step, or a power of two of steps where a step is narrower than a pixel. Tiles are built when they are first
//! seen, some in a frame, and only the columns of new steps are drawn again, so that a frame draws a handful of rectangles
//! whatever the length of the run.

use super::map::{Map, grey};
use crate::analysis::timeline::band::Bands;
use crate::app::theme::Theme;
use egui::{Color32, ColorImage, Rect, TextureHandle, TextureOptions, Ui, pos2};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Columns of a tile.
pub const COLUMNS: u64 = 512;
/// Share of uniform cells that are outside of their band.
pub const OUTSIDE: f64 = 0.001;
/// Bytes of draws that are read in a frame, about.
const BUDGET: usize = 3 << 20;
/// Most tiles that are kept.
const KEPT: usize = 48;

/// What a column shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// A cell for each layer, side and pass; this many texels high, one for each expert, or one for all.
    Cells { height: usize },
    /// Whether the passes differ.
    Agree,
    /// In which share of several steps they do.
    Share,
}

/// Everything that a tile depends on but for its place and the steps.
#[derive(Clone, Debug, PartialEq)]
pub struct Look {
    pub run: PathBuf,
    pub dark: bool,
    pub detail: Detail,
    /// A column is `2^level` steps.
    pub level: u32,
    pub module: Option<String>,
    /// The fit that the expectation comes from.
    pub fitted: u64,
}

/// Smallest and largest value of a column; NaN where there is none.
#[derive(Clone, Copy, Debug)]
pub struct Envelope {
    pub low: f32,
    pub high: f32,
}

impl Default for Envelope {
    fn default() -> Self {
        Self { low: f32::NAN, high: f32::NAN }
    }
}

impl Envelope {
    fn add(&mut self, value: f32) {
        if value.is_finite() {
            (self.low, self.high) = (self.low.min(value), self.high.max(value));
        }
    }
}

/// 512 columns.
#[derive(Default)]
struct Tile {
    /// Bands of layers, the lowest first.
    textures: Vec<TextureHandle>,
    /// Loss, disagreement, and the disagreement beyond what is expected.
    curves: Vec<[Envelope; 3]>,
    /// The last step that it shows.
    until: u64,
    /// By column: cells that were compared with their band, and those outside of it.
    judged: BTreeMap<usize, [u32; 2]>,
    /// The frame in which it was drawn last.
    seen: u64,
}

/// The tiles of one look.
#[derive(Default)]
pub struct Tiles {
    look: Option<Look>,
    tiles: BTreeMap<u64, Tile>,
    bands: Option<(usize, Bands)>,
    frame: u64,
    /// Layers of a texture.
    per_band: usize,
}

impl Tiles {
    /// Brings the tiles `first` to `last` up to date, as far as a frame has time; asks for another frame where it had not.
    pub fn update(&mut self, map: &Map<'_>, look: &Look, [first, last]: [u64; 2], ui: &Ui) {
        if self.look.as_ref() != Some(look) {
            self.tiles.clear();
            self.look = Some(look.clone());
        }
        self.frame += 1;
        self.per_band = (ui.input(|input| input.max_texture_side) / texels(map, look.detail)).max(1);
        let mut left = BUDGET as i64;
        for index in first..=last {
            let start = ((index * COLUMNS) << look.level) + 1;
            let end = (((index + 1) * COLUMNS) << look.level).min(map.timeline.last());
            let tile = self.tiles.entry(index).or_default();
            tile.seen = self.frame;
            if tile.until >= end || start > map.timeline.last() {
                continue;
            }
            if left <= 0 {
                ui.ctx().request_repaint();
                break;
            }
            // The column in which the last step was may be only partly there.
            let from = tile.until.max(start - 1).saturating_sub(start - 1) >> look.level;
            let to = (end - start) >> look.level;
            left -= ((to - from + 1) << look.level) as i64 * cost(map, look.detail) as i64;
            self.fill(map, look, index, [from, to], ui);
        }
        if self.tiles.len() > KEPT {
            let frame = self.frame;
            self.tiles.retain(|_, tile| tile.seen == frame);
        }
    }

    /// Builds the columns `from` to `to` of a tile.
    fn fill(&mut self, map: &Map<'_>, look: &Look, index: u64, [from, to]: [u64; 2], ui: &Ui) {
        let columns = (to - from + 1) as usize;
        let steps = |column: u64| {
            let first = ((index * COLUMNS + column) << look.level) + 1;
            first..=(first + (1 << look.level) - 1).min(map.timeline.last())
        };
        let mut pixels = vec![Color32::TRANSPARENT; columns * map.layers.len() * texels(map, look.detail)];
        let mut judged = Vec::new();
        match look.detail {
            Detail::Cells { height } => {
                for column in 0..columns {
                    cells(map, height, *steps(from + column as u64).start(), (columns, column), &mut pixels);
                }
            }
            Detail::Agree | Detail::Share => {
                let experts = map.layout().most_experts();
                let (_, bands) = match self.bands.take() {
                    Some(known) if known.0 == experts => self.bands.insert(known),
                    _ => self.bands.insert((experts, Bands::new(1.0 - 1.0 / experts.max(1) as f64, OUTSIDE))),
                };
                for column in 0..columns {
                    let counts = shares(map, look, steps(from + column as u64), bands, (columns, column), &mut pixels);
                    judged.push((from as usize + column, counts));
                }
            }
        }
        let rows = texels(map, look.detail);
        let tile = self.tiles.entry(index).or_default();
        tile.judged.extend(judged);
        tile.curves.resize((to + 1) as usize, Default::default());
        for column in from..=to {
            tile.curves[column as usize] = envelopes(map, steps(column));
        }
        tile.until = *steps(to).end();
        for (band, first) in (0..map.layers.len()).step_by(self.per_band).enumerate() {
            let layers = self.per_band.min(map.layers.len() - first);
            // The rows of the whole picture run downwards, the layers upwards.
            let top = (map.layers.len() - first - layers) * rows;
            let part = &pixels[top * columns..(top + layers * rows) * columns];
            let size = [COLUMNS as usize, layers * rows];
            if tile.textures.len() <= band {
                let empty = ColorImage::filled(size, Color32::TRANSPARENT);
                let name = format!("route map {index} {band}");
                tile.textures.push(ui.ctx().load_texture(name, empty, TextureOptions::NEAREST));
            }
            let image = ColorImage::new([columns, layers * rows], part.to_vec());
            tile.textures[band].set_partial([from as usize, 0], image, TextureOptions::NEAREST);
        }
    }

    /// Draws a tile into `place`, the place of all its columns; nothing where it is not built yet.
    pub fn draw(&self, index: u64, place: Rect, layers: usize, painter: &egui::Painter) {
        let Some(tile) = self.tiles.get(&index) else { return };
        let whole = Rect::from_min_max(pos2(0.0, 0.0), pos2(1.0, 1.0));
        let pitch = place.height() / layers.max(1) as f32;
        for (band, texture) in tile.textures.iter().enumerate() {
            let first = band * self.per_band;
            let until = (first + self.per_band).min(layers);
            let (top, bottom) = (place.bottom() - until as f32 * pitch, place.bottom() - first as f32 * pitch);
            let part = Rect::from_min_max(pos2(place.left(), top), pos2(place.right(), bottom));
            painter.image(texture.id(), part, whole, Color32::WHITE);
        }
    }

    /// The curves of a tile as far as they are there: loss, disagreement, disagreement beyond what is expected.
    pub fn curves(&self, index: u64) -> &[[Envelope; 3]] {
        self.tiles.get(&index).map_or(&[], |tile| &tile.curves)
    }

    /// Cells of these tiles that were compared with their band, and those outside of it.
    pub fn judged(&self, [first, last]: [u64; 2]) -> [u32; 2] {
        let counts = self.tiles.range(first..=last).flat_map(|(_, tile)| tile.judged.values());
        counts.fold([0; 2], |sum, own| [sum[0] + own[0], sum[1] + own[1]])
    }
}

/// Texels of a layer, one above the other.
fn texels(map: &Map<'_>, detail: Detail) -> usize {
    match detail {
        Detail::Cells { height } => map.layout().drawn().count() * map.layout().passes * height,
        Detail::Agree | Detail::Share => 1,
    }
}

/// About how many bytes a step takes to draw.
fn cost(map: &Map<'_>, detail: Detail) -> usize {
    map.layers.len() * (texels(map, detail) + 1) + 16
}

/// Draws a step's picks: up above down, in each side pass A above pass B.
fn cells(map: &Map<'_>, height: usize, step: u64, (columns, column): (usize, usize), pixels: &mut [Color32]) {
    let Some(row) = map.timeline.row(step) else { return };
    let mut top = 0;
    for layer in (0..map.layers.len()).rev() {
        let site = map.site_of(layer);
        for side in map.layout().drawn().rev() {
            for pass in 0..map.layout().passes {
                let pick = site.and_then(|site| row.pick(pass, site, side));
                if let Some(expert) = pick {
                    let at = if height > 1 { height - 1 - expert.min(height - 1) } else { 0 };
                    let color = map.theme().series(expert);
                    pixels[(top + at) * columns + column] = if pass == 0 { color } else { color.gamma_multiply(0.8) };
                }
                top += height;
            }
        }
    }
}

/// Draws how much the passes differ in some steps. Returns how many cells were compared with their band, and how many are outside.
fn shares(
    map: &Map<'_>,
    look: &Look,
    steps: std::ops::RangeInclusive<u64>,
    bands: &mut Bands,
    (columns, column): (usize, usize),
    pixels: &mut [Color32],
) -> [u32; 2] {
    let layers = map.layers.len();
    let mut sums = vec![0u32; layers];
    let compared = map.timeline.differing(steps, &mut sums);
    if compared == 0 {
        return [0; 2];
    }
    let layout = map.layout();
    let judges = look.detail == Detail::Share && layout.is_whole() && layout.policy.is_random();
    let mut outside = 0;
    for (layer, &sum) in sums.iter().enumerate() {
        let share = f64::from(sum) * map.timeline.unit(layer) / f64::from(compared);
        let mut color = share_color(map.theme(), share);
        if judges {
            let band = bands.of(u64::from(compared) * layout.draws_of(layer) as u64);
            if !band.holds(sum.into()) {
                outside += 1;
                color = map.theme().diverging(if u64::from(sum) > band.high { 1.0 } else { -1.0 });
            }
        }
        pixels[(layers - 1 - layer) * columns + column] = color;
    }
    [if judges { layers as u32 } else { 0 }, outside]
}

/// Agree: light; differ: dark.
pub fn share_color(theme: &Theme, share: f64) -> Color32 {
    grey(theme, 0.06 + 0.66 * share as f32)
}

fn envelopes(map: &Map<'_>, steps: std::ops::RangeInclusive<u64>) -> [Envelope; 3] {
    let mut all = [Envelope::default(); 3];
    for row in steps.filter_map(|step| map.timeline.row(step)) {
        all[0].add(row.loss());
        let Some(term) = row.consistency() else { continue };
        all[1].add(term);
        if let Some(expected) = map.fit.and_then(|fit| fit.found.expected(row.distance()?)) {
            all[2].add(term - expected as f32);
        }
    }
    all
}
