//! A living picture of the method: paths are drawn at random, then the experts of each layer come together.
//!
//! It asks for frames only while something in it moves, and stands still in a window that cannot be seen, while a run
//! trains (frames would slow it down), and where the settings ask for no motion.

use crate::app::panel_ctx::PanelCtx;
use crate::app::theme::Theme;
use crate::app::widgets::{canvas, cards};
use egui::{Align2, Color32, FontId, Pos2, Rect, Role, Shape, Stroke, Ui, Vec2, lerp, pos2, vec2};
use std::time::Duration;

const LAYERS: usize = 4;
const EXPERTS: usize = 4;
/// Draws before the experts are merged.
const DRAWS: u64 = 6;
/// Time between two frames of a movement.
const FRAME: Duration = Duration::from_millis(33);
/// Seconds in which a path grows from the batch to the answer.
const GROWTH: f64 = 0.5;

/// What is happening.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// A route for each pass.
    #[default]
    Drawing,
    /// The experts come together.
    Merging,
    Merged,
    /// They move apart again.
    Parting,
}

impl Stage {
    /// How long it lasts, in seconds.
    fn seconds(self) -> f64 {
        match self {
            Self::Drawing => 1.1,
            Self::Merging => 1.6,
            Self::Merged => 3.2,
            Self::Parting => 0.9,
        }
    }
}

/// The picture and how far it is.
#[derive(Default)]
pub struct Picture {
    stage: Stage,
    /// When the stage began; absent: it begins with the next frame.
    since: Option<f64>,
    /// Number of the draw that is shown.
    draw: u64,
}

/// What is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Look {
    draw: u64,
    /// How much of the paths is there, 0 to 1.
    grown: f32,
    /// How far the experts have come together, 0 to 1.
    together: f32,
}

impl Picture {
    /// Goes on to the time `now`, in seconds; says when something will move again, and nothing where it stands still.
    fn advance(&mut self, now: f64, still: bool) -> Option<Duration> {
        let since = *self.since.get_or_insert(now);
        if still {
            // It goes on from here when it may move again.
            self.since = Some(now);
            return None;
        }
        let left = self.stage.seconds() - (now - since);
        if left <= 0.0 {
            let next = match self.stage {
                Stage::Drawing if (self.draw + 1).is_multiple_of(DRAWS) => Stage::Merging,
                Stage::Drawing | Stage::Parting => Stage::Drawing,
                Stage::Merging => Stage::Merged,
                Stage::Merged => Stage::Parting,
            };
            self.draw += u64::from(next == Stage::Drawing);
            (self.stage, self.since) = (next, Some(now));
            return Some(FRAME);
        }
        let moves = match self.stage {
            Stage::Drawing => now - since < GROWTH,
            Stage::Merged => false,
            Stage::Merging | Stage::Parting => true,
        };
        Some(if moves { FRAME } else { Duration::try_from_secs_f64(left).unwrap_or(FRAME) })
    }

    fn look(&self, now: f64, still: bool) -> Look {
        let passed = if still { f64::INFINITY } else { now - self.since.unwrap_or(now) };
        let share = |seconds: f64| smooth((passed / seconds).clamp(0.0, 1.0) as f32);
        let (grown, together) = match self.stage {
            Stage::Drawing => (share(GROWTH), 0.0),
            Stage::Merging => (0.0, share(self.stage.seconds())),
            Stage::Merged => (0.0, 1.0),
            Stage::Parting => (0.0, 1.0 - share(self.stage.seconds())),
        };
        Look { draw: self.draw, grown, together }
    }

    /// Draws the picture with its captions and buttons in so much room.
    pub fn ui(&mut self, ctx: &PanelCtx<'_>, ui: &mut Ui, room: Vec2) {
        let still = ctx.settings.reduced_motion || ctx.session.phase.is_active() || is_hidden(ui);
        let now = ui.input(|input| input.time);
        if let Some(after) = self.advance(now, still) {
            ui.ctx().request_repaint_after(after);
        }
        let look = self.look(now, still);
        ui.vertical(|ui| {
            ui.set_width(room.x);
            let about = "Schematic: a batch goes up through 4 layers with 4 experts each on two random paths, pass A and \
                         pass B; later the experts of each layer are averaged into one";
            let (rect, _) = canvas(ui, vec2(room.x, room.y - 44.0), Role::Image, about);
            draw(ui, ctx.theme, rect, look);
            self.controls_ui(ctx, ui, still);
        });
    }

    fn controls_ui(&mut self, ctx: &PanelCtx<'_>, ui: &mut Ui, still: bool) {
        let words = match self.stage {
            Stage::Drawing | Stage::Parting => "Training: two random paths, pass A and pass B.",
            Stage::Merging | Stage::Merged => "After training: one mean expert in each layer.",
        };
        ui.horizontal_wrapped(|ui| {
            if ui.button("Draw").on_hover_text("Draws two new paths").clicked() {
                self.draw += 1;
                (self.stage, self.since) = (Stage::Drawing, None);
            }
            if ui.button("Merge").on_hover_text("Averages the experts of each layer").clicked() {
                (self.stage, self.since) = (if still { Stage::Merged } else { Stage::Merging }, None);
            }
            cards::muted(ui, ctx.theme, words);
        });
        let note =
            "Schematic, with invented draws. Real models have more layers; the Routing view shows the real draws.";
        cards::caption(ui, ctx.theme, note);
    }
}

/// Whether nobody can see this window.
fn is_hidden(ui: &Ui) -> bool {
    ui.input(|input| {
        let viewport = input.viewport();
        viewport.minimized == Some(true) || viewport.occluded == Some(true)
    })
}

fn smooth(t: f32) -> f32 {
    t * t * (3.0 - 2.0 * t)
}

/// An invented draw: the expert of this layer in this pass.
fn drawn(draw: u64, pass: u64, layer: usize) -> usize {
    // The finaliser of SplitMix64.
    let mut z = (draw * 2 + pass)
        .wrapping_mul(0x9E37_79B9_7F4A_7C15)
        .wrapping_add((layer as u64).wrapping_mul(0xD1B5_4A32_D192_ED03));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) >> 32) as usize % EXPERTS
}

/// Where everything stands.
struct Places {
    rect: Rect,
    /// Size of an expert.
    size: Vec2,
    pitch: Vec2,
    center: f32,
}

impl Places {
    fn new(rect: Rect) -> Self {
        // Three rows more than layers: the batch below, the answers above.
        let pitch = vec2((rect.width() * 0.17).min(150.0), rect.height() / (LAYERS as f32 + 2.0));
        let size = vec2(pitch.x * 0.62, (pitch.y * 0.56).min(44.0));
        Self { rect, size, pitch, center: rect.center().x }
    }

    fn row(&self, row: f32) -> f32 {
        self.rect.bottom() - (row + 0.5) * self.pitch.y
    }

    fn expert(&self, layer: usize, expert: usize, together: f32) -> Rect {
        let apart = (expert as f32 - (EXPERTS as f32 - 1.0) / 2.0) * self.pitch.x;
        let center = pos2(self.center + apart * (1.0 - together), self.row(layer as f32 + 1.0));
        Rect::from_center_size(center, self.size * (1.0 + 0.25 * together))
    }

    fn batch(&self) -> Pos2 {
        pos2(self.center, self.row(0.0))
    }

    fn answer(&self, pass: usize) -> Pos2 {
        let side = if pass == 0 { -1.0 } else { 1.0 };
        pos2(self.center + side * 0.75 * self.pitch.x, self.row(LAYERS as f32 + 1.0))
    }
}

/// As in the view of the routes: neither is an expert's colour.
fn pass_color(theme: &Theme, pass: usize) -> Color32 {
    Color32::from_gray(match (pass, theme.dark) {
        (0, true) => 235,
        (0, false) => 30,
        (_, true) => 150,
        (_, false) => 120,
    })
}

fn draw(ui: &Ui, theme: &Theme, rect: Rect, look: Look) {
    let places = Places::new(rect);
    let merged = look.together;
    layers(ui, theme, &places);
    for pass in 0..2 {
        path(ui, theme, &places, look, pass);
    }
    if merged > 0.0 {
        let line = [places.batch(), pos2(places.center, places.row(LAYERS as f32 + 1.0))];
        ui.painter().line_segment(line, Stroke::new(3.0, theme.accent.gamma_multiply(merged)));
    }
    for layer in 0..LAYERS {
        experts(ui, theme, &places, look, layer);
    }
    ends(ui, theme, &places, look);
}

/// Bands and names of the layers.
fn layers(ui: &Ui, theme: &Theme, places: &Places) {
    for layer in 0..LAYERS {
        let y = places.row(layer as f32 + 1.0);
        let half = vec2(places.pitch.x * EXPERTS as f32 / 2.0 + 6.0, places.pitch.y * 0.42);
        let band = Rect::from_center_size(pos2(places.center, y), 2.0 * half);
        ui.painter().rect_filled(band, 8.0, theme.muted.gamma_multiply(0.10));
        let at = pos2(band.left() - 10.0, y);
        let font = FontId::proportional(12.0);
        ui.painter().text(at, Align2::RIGHT_CENTER, format!("layer {layer}"), font, theme.muted);
    }
}

/// The path of a pass, as far as it has grown.
fn path(ui: &Ui, theme: &Theme, places: &Places, look: Look, pass: usize) {
    if look.grown <= 0.0 {
        return;
    }
    // The two passes lie side by side where they take the same expert.
    let beside = vec2(if pass == 0 { -0.16 } else { 0.16 } * places.size.x, 0.0);
    let through =
        (0..LAYERS).map(|layer| places.expert(layer, drawn(look.draw, pass as u64, layer), 0.0).center() + beside);
    let points: Vec<Pos2> = std::iter::once(places.batch()).chain(through).chain([places.answer(pass)]).collect();
    let reach = look.grown * (points.len() - 1) as f32;
    let mut line = vec![points[0]];
    for (i, pair) in points.windows(2).enumerate() {
        let part = (reach - i as f32).clamp(0.0, 1.0);
        if part > 0.0 {
            line.push(lerp(pair[0].to_vec2()..=pair[1].to_vec2(), part).to_pos2());
        }
    }
    let stroke = Stroke::new(2.5, pass_color(theme, pass));
    if pass == 0 {
        ui.painter().line(line, stroke);
    } else {
        ui.painter().extend(Shape::dashed_line(&line, stroke, 7.0, 4.0));
    }
}

/// The experts of a layer, each in its colour; those that a path has reached are lit.
fn experts(ui: &Ui, theme: &Theme, places: &Places, look: Look, layer: usize) {
    let painter = ui.painter();
    let reached = look.grown * (LAYERS as f32 + 1.0) >= layer as f32 + 1.0;
    for expert in 0..EXPERTS {
        let rect = places.expert(layer, expert, look.together);
        let on = |pass: u64| reached && look.together == 0.0 && drawn(look.draw, pass, layer) == expert;
        let color = blend(theme.series(expert), theme.accent, look.together);
        let lit = if on(0) || on(1) { 1.0 } else { 0.22 + 0.78 * look.together };
        // Opaque, so that paths pass behind.
        let fill = blend(theme.card, color, lit);
        painter.rect(rect, 6.0, fill, Stroke::new(1.0, color), egui::StrokeKind::Inside);
        let words = match (on(0), on(1)) {
            (true, true) => "A B",
            (true, false) => "A",
            (false, true) => "B",
            (false, false) if look.together == 1.0 => "mean",
            (false, false) => "",
        };
        painter.text(rect.center(), Align2::CENTER_CENTER, words, FontId::proportional(12.0), Theme::text_on(fill));
    }
}

/// The batch below, the answers above.
fn ends(ui: &Ui, theme: &Theme, places: &Places, look: Look) {
    let painter = ui.painter();
    let pill = |center: Pos2, words: &str, fill: Color32, ink: Color32| {
        let galley = painter.layout_no_wrap(words.to_owned(), FontId::proportional(12.0), ink);
        let rect = Rect::from_center_size(center, galley.size() + vec2(16.0, 6.0));
        painter.rect_filled(rect, rect.height() / 2.0, fill);
        painter.galley(rect.center() - galley.size() / 2.0, galley, ink);
        rect
    };
    pill(places.batch(), "a batch of texts", theme.muted, Theme::text_on(theme.muted));
    if look.together > 0.0 {
        let top = pos2(places.center, places.row(LAYERS as f32 + 1.0));
        let (fill, ink) = (theme.accent.gamma_multiply(look.together), theme.on_accent.gamma_multiply(look.together));
        pill(top, "one answer, one model", fill, ink);
        return;
    }
    // Faint until the paths arrive.
    let there = if look.grown < 1.0 { 0.35 } else { 1.0 };
    let [a, b] = [0, 1].map(|pass| {
        let color = pass_color(theme, pass);
        let ink = Theme::text_on(color);
        let fill = blend(ui.visuals().panel_fill, color, there);
        pill(places.answer(pass), ["answer A", "answer B"][pass], fill, ink.gamma_multiply(there))
    });
    if look.grown < 1.0 {
        return;
    }
    // The consistency term pulls the answers towards each other.
    let (from, to) = (a.right_center() + vec2(4.0, 0.0), b.left_center() - vec2(4.0, 0.0));
    let stroke = Stroke::new(1.5, theme.muted);
    painter.line_segment([from, to], stroke);
    for (tip, side) in [(from, 1.0), (to, -1.0)] {
        painter.line_segment([tip, tip + vec2(5.0 * side, -4.0)], stroke);
        painter.line_segment([tip, tip + vec2(5.0 * side, 4.0)], stroke);
    }
    let at = b.right_center() + vec2(10.0, 0.0);
    painter.text(at, Align2::LEFT_CENTER, "kept close", FontId::proportional(12.0), theme.muted);
}

fn blend(a: Color32, b: Color32, t: f32) -> Color32 {
    a.lerp_to_gamma(b, t)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_through_draws_to_one_model_and_back() {
        let mut picture = Picture::default();
        let (mut stages, mut now) = (Vec::new(), 100.0);
        while picture.draw <= DRAWS {
            let after = picture.advance(now, false).expect("it moves");
            if stages.last() != Some(&picture.stage) {
                stages.push(picture.stage);
            }
            let look = picture.look(now, false);
            assert!((0.0..=1.0).contains(&look.grown) && (0.0..=1.0).contains(&look.together), "{look:?}");
            assert!(after >= Duration::from_millis(1) && after < Duration::from_secs(4), "{after:?}");
            now += after.as_secs_f64() + 1e-6;
            assert!(now < 130.0, "it never came back to drawing");
        }
        use Stage::*;
        assert_eq!(stages, [Drawing, Merging, Merged, Parting, Drawing]);
    }

    #[test]
    fn where_it_stands_still_it_asks_for_no_frames_and_shows_a_whole_picture() {
        let mut picture = Picture::default();
        for now in [0.0, 5.0, 50.0] {
            assert_eq!(picture.advance(now, true), None);
            assert_eq!(picture.look(now, true), Look { draw: 0, grown: 1.0, together: 0.0 });
        }
        picture.stage = Stage::Merged;
        assert_eq!(picture.look(50.0, true).together, 1.0);
        assert!(picture.advance(50.1, false).is_some(), "it goes on where it stood");
        assert_eq!(picture.stage, Stage::Merged);
    }

    #[test]
    fn invented_draws_reach_every_expert_in_every_layer() {
        for layer in 0..LAYERS {
            let hit: std::collections::BTreeSet<usize> = (0..40).map(|draw| drawn(draw, draw % 2, layer)).collect();
            assert_eq!(hit.len(), EXPERTS, "layer {layer}");
        }
        assert_ne!(
            (0..8).map(|draw| drawn(draw, 0, 0)).collect::<Vec<_>>(),
            (0..8).map(|draw| drawn(draw, 1, 0)).collect::<Vec<_>>(),
            "the passes draw independently"
        );
    }
}
