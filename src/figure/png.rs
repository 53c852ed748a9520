//! Figures as PNG: the same shapes as the SVG, rasterised by `vello_cpu` with the window's fonts.

use super::drawing::{Anchor, Shape};
use super::layout::layout;
use super::{Color, Figure};
use crate::error::{Error, Result};
use skrifa::MetadataProvider as _;
use std::sync::OnceLock;
use vello_cpu::color::{AlphaColor, Srgb};
use vello_cpu::kurbo::{Affine, BezPath, Cap, Circle, Join, Shape as _, Stroke};
use vello_cpu::peniko::{Blob, FontData};
use vello_cpu::{Glyph, Pixmap, RenderContext, Resources};

/// Pixels a point: enough for paper and for large screens.
pub const SCALE: f64 = 2.0;

/// Largest side in pixels.
const LARGEST: f64 = 16_000.0;

/// The file's bytes.
///
/// # Errors
///
/// The picture is larger than 16,000 pixels at one side, or cannot be encoded.
pub fn bytes(figure: &Figure) -> Result<Vec<u8>> {
    let drawing = layout(figure);
    let [width, height] = [drawing.width, drawing.height].map(|side| (SCALE * side).ceil());
    if !(width <= LARGEST && height <= LARGEST) {
        let words =
            format!("the picture has {width} by {height} pixels; save it as SVG, which has no limit of {LARGEST}");
        return Err(Error::config(words));
    }
    let [width, height] = [width, height].map(|side| side as u16);
    let mut canvas = Canvas { context: RenderContext::new(width, height), resources: Resources::new() };
    canvas.context.set_paint(paint([255; 3], 1.0));
    canvas.context.fill_rect(&vello_cpu::kurbo::Rect::new(0.0, 0.0, f64::from(width), f64::from(height)));
    drawing.shapes.iter().for_each(|shape| canvas.draw(shape));
    let mut pixels = Pixmap::new(width, height);
    canvas.context.flush();
    canvas.context.render(&mut pixels, &mut canvas.resources);
    encode(pixels.data_as_u8_slice(), width, height)
}

fn encode(rgba: &[u8], width: u16, height: u16) -> Result<Vec<u8>> {
    // The ground is opaque, so there is nothing to see through.
    let rgb: Vec<u8> = rgba.chunks_exact(4).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect();
    let failed = |err: ::png::EncodingError| Error::internal(format!("the picture cannot be written: {err}"));
    let mut out = Vec::new();
    let mut encoder = ::png::Encoder::new(&mut out, u32::from(width), u32::from(height));
    encoder.set_color(::png::ColorType::Rgb);
    encoder.set_depth(::png::BitDepth::Eight);
    // 192 dots an inch: the picture has the size of the SVG when it is printed.
    let dots = (SCALE * 96.0 / 0.0254).round() as u32;
    encoder.set_pixel_dims(Some(::png::PixelDimensions { xppu: dots, yppu: dots, unit: ::png::Unit::Meter }));
    let mut writer = encoder.write_header().map_err(failed)?;
    writer.write_image_data(&rgb).map_err(failed)?;
    writer.finish().map_err(failed)?;
    Ok(out)
}

fn paint([r, g, b]: Color, opacity: f64) -> AlphaColor<Srgb> {
    AlphaColor::from_rgba8(r, g, b, (255.0 * opacity).round() as u8)
}

/// The fonts, by preference: letters; arrows and mathematical signs.
static FONTS: OnceLock<[FontData; 2]> = OnceLock::new();

fn fonts() -> &'static [FontData; 2] {
    FONTS.get_or_init(|| {
        let font = |bytes: &'static [u8]| FontData::new(Blob::new(std::sync::Arc::new(bytes)), 0);
        [font(epaint_default_fonts::UBUNTU_LIGHT), font(epaint_default_fonts::HACK_REGULAR)]
    })
}

/// Glyphs of a text with the font of each, and its width in pixels.
fn glyphs(text: &str, size: f32) -> (Vec<(usize, Glyph)>, f32) {
    let readers: Vec<_> =
        fonts().iter().filter_map(|font| skrifa::FontRef::from_index(font.data.as_ref(), font.index).ok()).collect();
    let (mut placed, mut x) = (Vec::new(), 0.0);
    for c in text.chars() {
        let has = readers.iter().position(|font| font.charmap().map(c).is_some_and(|id| id.to_u32() != 0));
        let Some(font) = readers.get(has.unwrap_or(0)) else { continue };
        let id = font.charmap().map(c).unwrap_or_default();
        let metrics = font.glyph_metrics(skrifa::instance::Size::new(size), skrifa::instance::LocationRef::default());
        placed.push((has.unwrap_or(0), Glyph { id: id.to_u32(), x, y: 0.0 }));
        x += metrics.advance_width(id).unwrap_or(0.5 * size);
    }
    (placed, x)
}

struct Canvas {
    context: RenderContext,
    resources: Resources,
}

impl Canvas {
    fn draw(&mut self, shape: &Shape) {
        match shape {
            Shape::Line { points, color, width, dash } => {
                let mut stroke = Stroke::new(SCALE * width).with_join(Join::Round).with_caps(Cap::Butt);
                if *dash > 0.0 {
                    stroke = stroke.with_dashes(0.0, [SCALE * dash, SCALE * dash]);
                }
                self.stroke(&path(points, false), *color, stroke);
            }
            Shape::Area { points, color, opacity } => {
                self.context.set_paint(paint(*color, *opacity));
                self.context.fill_path(&path(points, true));
            }
            Shape::Disc { at: [x, y], radius, color, ring } => {
                let disc = Circle::new((SCALE * x, SCALE * y), SCALE * radius).to_path(0.1);
                if *ring {
                    self.stroke(&disc, *color, Stroke::new(SCALE));
                } else {
                    self.context.set_paint(paint(*color, 1.0));
                    self.context.fill_path(&disc);
                }
            }
            Shape::Text { at, anchor, size, color, strong, upright, text } => {
                let (glyphs, width) = glyphs(text, (SCALE * size) as f32);
                let back = match anchor {
                    Anchor::Start => 0.0,
                    Anchor::Middle => 0.5,
                    Anchor::End => 1.0,
                } * f64::from(width);
                let place = Affine::translate((SCALE * at[0], SCALE * at[1]));
                let turned = if *upright { place * Affine::rotate(-std::f64::consts::FRAC_PI_2) } else { place };
                self.text(&glyphs, (SCALE * size) as f32, *color, *strong, turned * Affine::translate((-back, 0.0)));
            }
        }
    }

    fn stroke(&mut self, path: &BezPath, color: Color, stroke: Stroke) {
        self.context.set_paint(paint(color, 1.0));
        self.context.set_stroke(stroke);
        self.context.stroke_path(path);
    }

    fn text(&mut self, glyphs: &[(usize, Glyph)], size: f32, color: Color, strong: bool, place: Affine) {
        self.context.set_paint(paint(color, 1.0));
        self.context.set_transform(place);
        // The window's fonts have no bold face: a second time, a little to the right.
        let shifts: &[f32] = if strong { &[0.0, 0.03, 0.06] } else { &[0.0, 0.02] };
        for (number, font) in fonts().iter().enumerate() {
            let own = glyphs.iter().filter(|(of, _)| *of == number).map(|(_, glyph)| *glyph);
            for shift in shifts {
                let shifted = own.clone().map(|glyph| Glyph { x: glyph.x + shift * size, ..glyph });
                let run = self.context.glyph_run(&mut self.resources, font).font_size(size).hint(false);
                run.fill_glyphs(shifted);
            }
        }
        self.context.set_transform(Affine::IDENTITY);
    }
}

fn path(points: &[[f64; 2]], closed: bool) -> BezPath {
    let mut path = BezPath::new();
    for (i, [x, y]) in points.iter().enumerate() {
        let at = (SCALE * x, SCALE * y);
        if i == 0 { path.move_to(at) } else { path.line_to(at) }
    }
    if closed {
        path.close_path();
    }
    path
}
