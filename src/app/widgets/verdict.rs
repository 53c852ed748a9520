//! Verdicts by word, shape and colour.

use crate::analysis::verdict::Grade;
use crate::app::theme::Theme;
use egui::{Color32, Rect, Response, RichText, Sense, Shape, Stroke, Ui, pos2, vec2};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Correct: a disc with a tick.
    Passed,
    /// To be checked: a triangle with a bar.
    Unsure,
    /// Wrong: a square on its corner with a cross.
    Failed,
    /// No verdict yet: a ring.
    Open,
}

impl Verdict {
    pub fn color(self, theme: &Theme) -> Color32 {
        match self {
            Self::Passed => theme.ok,
            Self::Unsure => theme.warning,
            Self::Failed => theme.error,
            Self::Open => theme.muted,
        }
    }
}

/// The verdict of a comparison as a sign.
pub fn of_grade(grade: Grade) -> Verdict {
    match grade {
        Grade::Good => Verdict::Passed,
        Grade::Doubtful => Verdict::Unsure,
        Grade::Open => Verdict::Open,
    }
}

/// The sign alone, `size` points high.
pub fn icon(ui: &mut Ui, theme: &Theme, verdict: Verdict, size: f32) -> Response {
    let (rect, response) = ui.allocate_exact_size(vec2(size, size), Sense::hover());
    let color = verdict.color(theme);
    let ink = Stroke::new((size * 0.12).max(1.5), Theme::text_on(color));
    let at = |x: f32, y: f32| pos2(rect.left() + x * size, rect.top() + y * size);
    let painter = ui.painter();
    match verdict {
        Verdict::Passed => {
            painter.circle_filled(rect.center(), 0.5 * size, color);
            painter.line(vec![at(0.27, 0.52), at(0.44, 0.68), at(0.74, 0.34)], ink);
        }
        Verdict::Unsure => {
            let corners = vec![at(0.5, 0.02), at(0.99, 0.95), at(0.01, 0.95)];
            painter.add(Shape::convex_polygon(corners, color, Stroke::NONE));
            painter.line_segment([at(0.5, 0.36), at(0.5, 0.64)], ink);
            painter.circle_filled(at(0.5, 0.8), 0.06 * size, ink.color);
        }
        Verdict::Failed => {
            let corners = vec![at(0.5, 0.0), at(1.0, 0.5), at(0.5, 1.0), at(0.0, 0.5)];
            painter.add(Shape::convex_polygon(corners, color, Stroke::NONE));
            painter.line_segment([at(0.36, 0.36), at(0.64, 0.64)], ink);
            painter.line_segment([at(0.64, 0.36), at(0.36, 0.64)], ink);
        }
        Verdict::Open => {
            painter.circle_stroke(rect.center(), 0.42 * size, Stroke::new(1.5, color));
        }
    }
    response
}

/// The sign and a sentence; wraps.
pub fn line(ui: &mut Ui, theme: &Theme, verdict: Verdict, text: &str) -> Response {
    ui.horizontal_top(|ui| {
        icon(ui, theme, verdict, 16.0);
        let words = RichText::new(text).color(verdict.color(theme));
        ui.add(egui::Label::new(words).wrap())
    })
    .inner
}

/// A small square in an expert's colour with its number.
pub fn expert_chip(ui: &mut Ui, theme: &Theme, expert: usize) -> Response {
    let (rect, response) = ui.allocate_exact_size(vec2(18.0, 16.0), Sense::hover());
    chip_at(ui, theme, rect, expert);
    response
}

/// As [`expert_chip`] at a given place.
pub fn chip_at(ui: &Ui, theme: &Theme, rect: Rect, expert: usize) {
    let color = theme.series(expert);
    ui.painter().rect_filled(rect, 3.0, color);
    let font = egui::FontId::monospace(11.0);
    let ink = Theme::text_on(color);
    ui.painter().text(rect.center(), egui::Align2::CENTER_CENTER, expert.to_string(), font, ink);
}
