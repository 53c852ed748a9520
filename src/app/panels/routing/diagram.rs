//! The experts of the newest step, module above module, and the routes of the steps before.
//!
//! Adapters follow each other, so that their experts make one path through the network. The matrices of a layer that have
//! a LoRA stand side by side (q, k and v read the same input), so that only A and B of one matrix are connected.

use super::history;
use crate::app::names;
use crate::app::theme::Theme;
use crate::app::widgets::{canvas, cards, part};
use crate::config::MixtureKind;
use crate::protocol::{RoutingSnapshot, SIDES, Side};
use egui::{Align2, Color32, FontId, Pos2, Rangef, Rect, RichText, Sense, Shape, Stroke, StrokeKind, Ui, pos2, vec2};

/// Width of the names left of the boxes.
const NAMES: f32 = 96.0;
/// Widest box, in a narrow and in a wide view.
const BOX: [f32; 2] = [72.0, 112.0];
/// Widest history, in a narrow and in a wide view.
const HISTORY: [f32; 2] = [340.0, 640.0];
/// Space around the history.
const GUTTER: f32 = 18.0;

/// What is drawn.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    pub theme: &'a Theme,
    pub routing: &'a RoutingSnapshot,
    pub kind: MixtureKind,
    /// The modules by index, the lowest first.
    pub sites: &'a [usize],
    /// Whether they follow each other.
    pub in_series: bool,
    /// The history is that of pass B.
    pub second_pass: bool,
}

/// The diagram: what it shows, and its layout.
struct Diagram<'a> {
    subject: Subject<'a>,
    rect: Rect,
    row: f32,
    inner_gap: f32,
    outer_gap: f32,
    boxes: f32,
    /// Left and right end of the history.
    history: Option<Rangef>,
}

impl Diagram<'_> {
    fn layer_height(&self) -> f32 {
        2.0 * self.row + self.inner_gap + self.outer_gap
    }

    /// The strip of one side of the `place`-th module: the first at the bottom, its down side below its up side.
    fn strip(&self, place: usize, side: Side) -> Rect {
        let from_top = (self.subject.sites.len() - 1 - place) as f32 * self.layer_height() + 0.5 * self.outer_gap;
        let down = if side == Side::Down { self.row + self.inner_gap } else { 0.0 };
        let top = self.rect.top() + 16.0 + from_top + down;
        Rect::from_min_size(pos2(self.rect.left() + NAMES, top), vec2(self.boxes, self.row))
    }

    fn boxed(&self, place: usize, side: Side, expert: usize, experts: usize) -> Rect {
        let strip = self.strip(place, side);
        let pitch = strip.width() / experts as f32;
        let min = pos2(strip.left() + expert as f32 * pitch, strip.top());
        Rect::from_min_size(min, vec2(pitch, strip.height())).shrink2(vec2((0.06 * pitch).min(5.0), 0.0))
    }

    /// The expert that runs (most) on a side.
    fn pick(&self, pass: usize, site: usize, side: Side) -> Option<usize> {
        let shares = self.subject.routing.current.get(cell(self.subject.routing, pass, site, side))?;
        let best = (0..shares.len()).max_by(|&a, &b| shares[a].total_cmp(&shares[b]))?;
        (shares[best] > 0.0).then_some(best)
    }

    /// Background and name of each module, names of the sides, input and output, steps of the history.
    fn frames_ui(&self, ui: &Ui) {
        let Subject { theme, routing, kind, sites, in_series, .. } = self.subject;
        let painter = ui.painter();
        let small = FontId::proportional(11.0);
        for (place, &site) in sites.iter().enumerate() {
            let (up, down) = (self.strip(place, Side::Up), self.strip(place, Side::Down));
            let left = self.rect.left();
            let ground = Rect::from_min_max(pos2(left, up.top() - 4.0), pos2(up.right() + 5.0, down.bottom() + 4.0));
            painter.rect_filled(ground, 5.0, ui.visuals().faint_bg_color);
            let at = pos2(left + 6.0, ground.center().y);
            // Below the heading of a layer the module's own name is enough.
            let name = &routing.sites[site];
            let name = if in_series { names::layer(name) } else { names::part(name) };
            painter.text(at, Align2::LEFT_CENTER, name, small.clone(), ui.visuals().text_color());
            for (strip, side) in [(up, Side::Up), (down, Side::Down)] {
                let at = pos2(left + NAMES - 7.0, strip.center().y);
                painter.text(at, Align2::RIGHT_CENTER, names::side(kind, side), small.clone(), theme.muted);
            }
        }
        let middle = self.rect.left() + NAMES + 0.5 * self.boxes;
        let (top, bottom) = (self.rect.top(), self.rect.bottom());
        if in_series {
            let ends = [
                (top, Align2::CENTER_TOP, "▲ to the prediction head"),
                (bottom, Align2::CENTER_BOTTOM, "▲ from the embeddings"),
            ];
            for (y, anchor, words) in ends {
                painter.text(pos2(middle, y), anchor, words, small.clone(), theme.muted);
            }
        }
        if let Some(area) = self.history {
            history::frame_ui(theme, routing, area, self.rect.y_range(), ui);
        }
    }

    /// The lines from side to side, drawn before the boxes so that they only show between them.
    fn paths_ui(&self, ui: &Ui) {
        let Subject { theme, routing, sites, in_series, .. } = self.subject;
        let places: Vec<usize> = (0..sites.len()).collect();
        let runs = if in_series { vec![&places[..]] } else { places.chunks(1).collect() };
        for pass in (0..routing.passes.min(2)).rev() {
            for run in &runs {
                let mut points = Vec::new();
                for &place in *run {
                    for side in SIDES {
                        let Some(expert) = self.pick(pass, sites[place], side) else { continue };
                        let boxed = self.boxed(place, side, expert, routing.experts[side as usize]);
                        // The lines of the two passes run beside each other where both take the same box.
                        let x = boxed.center().x + if pass == 0 { -1.0 } else { 1.0 } * (0.2 * boxed.width()).min(12.0);
                        points.extend([pos2(x, boxed.bottom()), pos2(x, boxed.top())]);
                    }
                }
                if let (true, Some(first), Some(last)) = (in_series, points.first().copied(), points.last().copied()) {
                    points.insert(0, first + vec2(0.0, 9.0));
                    points.push(last - vec2(0.0, 9.0));
                }
                pass_line(ui, theme, pass, &points);
            }
        }
    }

    fn side_ui(&self, place: usize, side: Side, ui: &Ui, id: egui::Id) {
        let Subject { theme, routing, kind, sites, .. } = self.subject;
        let (site, experts) = (sites[place], routing.experts[side as usize]);
        let shares = |pass: usize, expert: usize| {
            let shares = routing.current.get(cell(routing, pass, site, side));
            shares.and_then(|shares| shares.get(expert)).copied().unwrap_or(0.0)
        };
        let name = format!("{} {}", names::layer(&routing.sites[site]), names::side(kind, side));
        for expert in 0..experts {
            let boxed = self.boxed(place, side, expert, experts);
            let used = [shares(0, expert), if routing.passes > 1 { shares(1, expert) } else { 0.0 }];
            let about = if experts == 1 {
                format!("{name}: one matrix shared by all experts; nothing is drawn")
            } else {
                format!("{name}, expert {expert}: {}", use_text(used, routing.passes))
            };
            let color = if experts == 1 { theme.muted } else { theme.series(expert) };
            box_ui(theme, boxed, color, used, routing.passes, (experts > 1).then_some(expert), ui);
            let response = part(ui, boxed, id.with((site, side as usize, expert)), &about);
            let counts = routing.counts.get(site * 2 + side as usize);
            if let (Some(&count), true) = (counts.and_then(|counts| counts.get(expert)), experts > 1) {
                response.on_hover_text(format!("drawn {} so far", crate::format::counted(count, "time")));
            }
        }
    }
}

/// Place of a side in the routes of a step, pass by pass.
pub fn cell(routing: &RoutingSnapshot, pass: usize, site: usize, side: Side) -> usize {
    (pass * routing.sites.len() + site) * 2 + side as usize
}

/// Draws the modules of `subject` and their history.
pub fn ui(subject: Subject<'_>, ui: &mut Ui) {
    let Subject { theme, routing, sites, kind, second_pass, .. } = subject;
    let most = routing.experts[0].max(routing.experts[1]).max(1);
    let width = ui.available_width().max(NAMES + 160.0);
    let (row, inner_gap, outer_gap) = if sites.len() > 8 { (17.0, 7.0, 9.0) } else { (22.0, 12.0, 14.0) };
    let height = 32.0 + sites.len() as f32 * (2.0 * row + inner_gap + outer_gap);
    let (rect, response) = canvas(ui, vec2(width, height), egui::Role::Figure, "Experts of the newest step");
    let with_history = width > NAMES + 420.0 && !routing.recent.is_empty();
    let room = if with_history { 0.56 * (width - NAMES) } else { width - NAMES };
    let boxes = room.min(most as f32 * (0.08 * width).clamp(BOX[0], BOX[1]));
    let history = with_history.then(|| {
        let left = rect.left() + NAMES + boxes + GUTTER;
        Rangef::new(left, (left + (0.4 * width).clamp(HISTORY[0], HISTORY[1])).min(rect.right()))
    });
    let diagram = Diagram { subject, rect, row, inner_gap, outer_gap, boxes, history };
    diagram.frames_ui(ui);
    if routing.policy.is_per_batch() {
        diagram.paths_ui(ui);
    }
    for (place, &site) in sites.iter().enumerate() {
        for side in SIDES {
            let strip = diagram.strip(place, side);
            let rows = strip.y_range();
            if !ui.is_rect_visible(strip.expand2(vec2(width, 30.0))) {
                continue;
            }
            diagram.side_ui(place, side, ui, response.id);
            if let Some(area) = history.filter(|_| routing.experts[side as usize] > 1) {
                let pass = usize::from(second_pass).min(routing.passes.max(1) - 1);
                let name = format!("{} {}", names::layer(&routing.sites[site]), names::side(kind, side));
                let strip = history::Strip { pass, cell: cell(routing, pass, site, side), name: &name };
                history::ui(theme, routing, &strip, Rect::from_x_y_ranges(area, rows), ui);
            }
        }
    }
}

/// The legend of the boxes and lines.
pub fn legend_ui(theme: &Theme, routing: &RoutingSnapshot, in_series: bool, ui: &mut Ui) {
    let single = routing.policy.is_per_batch();
    ui.horizontal_wrapped(|ui| {
        let sample = |ui: &mut Ui, pass: usize, words: &str| {
            let (rect, _) = ui.allocate_exact_size(vec2(34.0, 14.0), Sense::hover());
            let line = [rect.left_center(), rect.right_center()];
            pass_line(ui, theme, pass, &line);
            tag(ui, theme, pass, rect.center());
            ui.label(RichText::new(words).small());
        };
        if single {
            sample(ui, 0, "pass A");
            if routing.passes > 1 {
                sample(ui, 1, "pass B (same batch, own draw)");
            }
            let lines = if in_series { "" } else { " Lines connect the A and the B of one matrix." };
            cards::caption(ui, theme, format!("Filled: runs in this step. Number: the expert.{lines}"));
        } else {
            let words = "Each box is filled to the share of this step's examples or tokens that it served: left half \
                         pass A, right half pass B. There is no single path.";
            cards::caption(ui, theme, words);
        }
    });
}

fn pass_color(theme: &Theme, pass: usize) -> Color32 {
    // Neither is an expert's colour.
    match (pass, theme.dark) {
        (0, true) => Color32::from_gray(235),
        (0, false) => Color32::from_gray(30),
        (_, true) => Color32::from_gray(150),
        (_, false) => Color32::from_gray(120),
    }
}

fn pass_line(ui: &Ui, theme: &Theme, pass: usize, line: &[Pos2]) {
    let stroke = Stroke::new(2.0, pass_color(theme, pass));
    if pass == 0 {
        ui.painter().line(line.to_vec(), stroke);
    } else {
        ui.painter().extend(Shape::dashed_line(line, stroke, 5.0, 3.5));
    }
}

/// The letter of a pass: A on a disc, B on a square.
fn tag(ui: &Ui, theme: &Theme, pass: usize, at: Pos2) {
    let color = pass_color(theme, pass);
    if pass == 0 {
        ui.painter().circle_filled(at, 6.5, color);
    } else {
        ui.painter().rect_filled(Rect::from_center_size(at, vec2(12.0, 12.0)), 1.0, color);
    }
    let letter = if pass == 0 { "A" } else { "B" };
    ui.painter().text(at, Align2::CENTER_CENTER, letter, FontId::proportional(9.5), Theme::text_on(color));
}

fn use_text(used: [f32; 2], passes: usize) -> String {
    let whole = |share: f32| share > 0.999;
    match (used, passes) {
        ([a, b], _) if a <= 0.0 && b <= 0.0 => "not used in this step".to_owned(),
        ([a, b], 2) if whole(a) && whole(b) => "runs in pass A and pass B".to_owned(),
        ([a, b], _) if whole(a) && b <= 0.0 => "runs in pass A".to_owned(),
        ([a, b], _) if whole(b) && a <= 0.0 => "runs in pass B".to_owned(),
        ([a, _], 1) => format!("serves {}", names::share(a)),
        ([a, b], _) => format!("serves {} in pass A, {} in pass B", names::share(a), names::share(b)),
    }
}

/// One expert's box; `expert` is absent for a shared side.
fn box_ui(theme: &Theme, boxed: Rect, color: Color32, used: [f32; 2], passes: usize, expert: Option<usize>, ui: &Ui) {
    let painter = ui.painter();
    let solid = used.iter().take(passes).any(|&share| share > 0.999);
    let rounding = 3.0;
    painter.rect_filled(boxed, rounding, theme.card);
    if solid {
        let fill = if expert.is_none() { color.gamma_multiply(0.35) } else { color };
        painter.rect_filled(boxed, rounding, fill);
    } else {
        painter.rect_filled(boxed, rounding, color.gamma_multiply(0.08));
        let half = boxed.width() / passes.clamp(1, 2) as f32;
        for (pass, &share) in used.iter().enumerate().take(passes) {
            let left = boxed.left() + pass as f32 * half;
            let top = boxed.bottom() - share * boxed.height();
            let bar = Rect::from_min_max(pos2(left, top), pos2(left + half, boxed.bottom()));
            painter.rect_filled(bar, 0.0, color.gamma_multiply(if pass == 0 { 0.75 } else { 0.5 }));
        }
    }
    painter.rect_stroke(boxed, rounding, Stroke::new(1.0, color), StrokeKind::Inside);
    let ink = match (solid, expert) {
        (true, Some(_)) => Theme::text_on(color),
        _ => ui.visuals().text_color(),
    };
    let text = expert.map_or_else(|| "shared by all experts".to_owned(), |expert| expert.to_string());
    let galley = painter.layout_no_wrap(text, FontId::monospace(12.0), ink);
    // In narrow boxes all numbers are in the tooltips, not only those with two digits.
    if galley.size().x <= boxed.width() - 2.0 && (boxed.width() > 16.0 || expert.is_none()) {
        painter.galley(boxed.center() - 0.5 * galley.size(), galley, ink);
    }
    if solid && expert.is_some() && boxed.width() > 30.0 {
        // Beside the number.
        let inset = if boxed.width() > 44.0 { 10.0 } else { 7.0 };
        for (pass, x) in [(0, boxed.left() + inset), (1, boxed.right() - inset)] {
            if pass < passes && used[pass] > 0.999 {
                tag(ui, theme, pass, pos2(x, boxed.center().y));
            }
        }
    }
}
