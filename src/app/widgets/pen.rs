//! Many small lines, bars and dots as one mesh: as shapes of their own they cost a frame more than all of its texts.

use egui::epaint::Vertex;
use egui::{Color32, Mesh, Painter, Pos2, Rect, Shape, Stroke, Vec2, pos2, vec2};

/// Width over which an edge fades, in points.
const FEATHER: f32 = 1.0;
/// Corners of a dot.
const CORNERS: usize = 12;

/// Collects what is drawn with it.
#[derive(Default)]
pub struct Pen {
    mesh: Mesh,
}

impl Pen {
    /// With room for so many lines: a mesh that grows is copied again and again.
    pub fn with_room(lines: usize) -> Self {
        let mut mesh = Mesh::default();
        mesh.reserve_vertices(8 * lines);
        mesh.reserve_triangles(6 * lines);
        Self { mesh }
    }

    /// A filled rectangle.
    pub fn rect(&mut self, rect: Rect, color: Color32) {
        self.mesh.add_colored_rect(rect, color);
    }

    /// The edge of a rectangle, inside of it.
    pub fn frame(&mut self, rect: Rect, width: f32, color: Color32) {
        let (inner, tall) = (rect.shrink(width), rect.y_range());
        self.rect(Rect::from_x_y_ranges(rect.x_range(), tall.min..=inner.top()), color);
        self.rect(Rect::from_x_y_ranges(rect.x_range(), inner.bottom()..=tall.max), color);
        self.rect(Rect::from_x_y_ranges(rect.left()..=inner.left(), inner.y_range()), color);
        self.rect(Rect::from_x_y_ranges(inner.right()..=rect.right(), inner.y_range()), color);
    }

    /// A straight line with soft edges.
    pub fn line(&mut self, [from, to]: [Pos2; 2], stroke: Stroke) {
        let along = to - from;
        if along.length_sq() < 1e-6 {
            return;
        }
        let across = along.normalized().rot90();
        let (inner, outer) = edges(stroke.width);
        let first = self.first();
        for end in [from, to] {
            self.vertex(end + outer * across, Color32::TRANSPARENT);
            self.vertex(end + inner * across, stroke.color);
            self.vertex(end - inner * across, stroke.color);
            self.vertex(end - outer * across, Color32::TRANSPARENT);
        }
        for strip in 0..3 {
            self.quad([first + strip, first + strip + 1, first + strip + 4, first + strip + 5]);
        }
    }

    /// A line through these points.
    pub fn path(&mut self, points: &[Pos2], stroke: Stroke) {
        points.windows(2).for_each(|ends| self.line([ends[0], ends[1]], stroke));
    }

    /// A dashed line through these points; dash and gap in points. The pattern goes on around corners.
    pub fn dashed(&mut self, points: &[Pos2], stroke: Stroke, dash: f32, gap: f32) {
        // How far into a dash and the gap behind it the line is.
        let mut phase = 0.0;
        for ends in points.windows(2) {
            let (from, along) = (ends[0], ends[1] - ends[0]);
            let length = along.length();
            if length <= 0.0 {
                continue;
            }
            let mut done = 0.0;
            while done < length {
                let in_dash = phase < dash;
                let part = if in_dash { dash - phase } else { dash + gap - phase }.min(length - done);
                if in_dash {
                    self.line([from + along * (done / length), from + along * ((done + part) / length)], stroke);
                }
                done += part;
                phase += part;
                if phase >= dash + gap - 1e-4 {
                    phase = 0.0;
                }
            }
        }
    }

    /// A vertical row of square dots.
    pub fn dots_down(&mut self, x: f32, from: f32, to: f32, spacing: f32, size: f32, color: Color32) {
        let count = ((to - from) / spacing.max(1.0)).max(0.0) as usize;
        for dot in 0..=count {
            let at = pos2(x, from + dot as f32 * spacing);
            self.rect(Rect::from_center_size(at, Vec2::splat(size)), color);
        }
    }

    /// A filled dot with a soft edge.
    pub fn dot(&mut self, at: Pos2, radius: f32, color: Color32) {
        let (inner, outer) = edges(2.0 * radius);
        let first = self.first();
        self.vertex(at, color);
        for corner in 0..CORNERS {
            let angle = std::f32::consts::TAU * corner as f32 / CORNERS as f32;
            let way = vec2(angle.cos(), angle.sin());
            self.vertex(at + inner * way, color);
            self.vertex(at + outer * way, Color32::TRANSPARENT);
        }
        for corner in 0..CORNERS as u32 {
            let [own, next] = [corner, (corner + 1) % CORNERS as u32].map(|corner| first + 1 + 2 * corner);
            self.mesh.add_triangle(first, own, next);
            self.quad([own, own + 1, next, next + 1]);
        }
    }

    /// Draws all of it.
    pub fn paint(self, painter: &Painter) {
        if !self.mesh.is_empty() {
            painter.add(Shape::mesh(self.mesh));
        }
    }

    fn first(&self) -> u32 {
        self.mesh.vertices.len() as u32
    }

    fn vertex(&mut self, pos: Pos2, color: Color32) {
        self.mesh.vertices.push(Vertex { pos, uv: egui::epaint::WHITE_UV, color });
    }

    /// Two corners of one end, two of the other.
    fn quad(&mut self, [a, b, c, d]: [u32; 4]) {
        self.mesh.add_triangle(a, b, c);
        self.mesh.add_triangle(b, c, d);
    }
}

/// Distances from the middle of a line of this width at which it is still full, and at which it is gone.
fn edges(width: f32) -> (f32, f32) {
    let half = 0.5 * width;
    ((half - 0.5 * FEATHER).max(0.0), half + 0.5 * FEATHER)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long the full parts of all lines are.
    fn drawn(pen: &Pen) -> f32 {
        pen.mesh.vertices.chunks(8).map(|line| (line[5].pos - line[1].pos).length()).sum()
    }

    #[test]
    fn dashes_go_on_around_corners() {
        let stroke = Stroke::new(2.0, Color32::WHITE);
        let corner = [pos2(0.0, 0.0), pos2(8.0, 0.0), pos2(8.0, 8.0)];
        let mut pen = Pen::default();
        pen.dashed(&corner, stroke, 5.0, 5.0);
        // 5 of the first side; 3 of its gap, 2 of it behind the corner, then 5 and a gap.
        assert_eq!((pen.mesh.vertices.len(), drawn(&pen)), (2 * 8, 10.0));
        assert_eq!(pen.mesh.vertices[9].pos.y, 2.0);
        let mut whole = Pen::default();
        whole.path(&corner, stroke);
        assert_eq!(drawn(&whole), 16.0);
        whole.line([pos2(1.0, 1.0); 2], stroke);
        assert_eq!(whole.mesh.vertices.len(), 16, "a line without a length is nothing");
    }

    #[test]
    fn a_dot_and_a_frame_keep_to_their_size() {
        let mut pen = Pen::default();
        pen.dot(pos2(10.0, 10.0), 3.0, Color32::RED);
        let far = pen.mesh.vertices.iter().map(|vertex| vertex.pos.distance(pos2(10.0, 10.0))).fold(0.0, f32::max);
        assert!((far - 3.5).abs() < 1e-4 && pen.mesh.is_valid(), "{far}");
        let mut pen = Pen::default();
        let rect = Rect::from_min_size(pos2(1.0, 2.0), vec2(9.0, 7.0));
        pen.frame(rect, 1.0, Color32::RED);
        assert_eq!(pen.mesh.calc_bounds(), rect);
        let area: f32 = pen.mesh.vertices.chunks(4).map(|four| four[3].pos - four[0].pos).map(|d| d.x * d.y).sum();
        assert_eq!(area.abs(), 9.0 * 7.0 - 7.0 * 5.0);
    }
}
