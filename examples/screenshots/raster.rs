//! Draws the meshes of a frame into memory, as egui's renderers do: triangles whose colour is that of the corners times
//! that of the texture, blended over what is there. All colours have their alpha multiplied in.

use adamix::app::headless::DrawnFrame;
use adamix::error::{Error, Result};
use eframe::icon_data::IconDataExt as _;
use egui::epaint::{ImageDelta, Primitive, Vertex};
use egui::{ImageData, Mesh, Pos2, TextureFilter, TextureId, TexturesDelta};
use std::collections::HashMap;
use std::path::Path;

type Rgba = [f32; 4];

/// The textures as they stand after the frames so far.
#[derive(Default)]
pub struct Textures(HashMap<TextureId, Texture>);

struct Texture {
    width: usize,
    pixels: Vec<Rgba>,
    filter: TextureFilter,
}

impl Textures {
    /// Takes the changes of a frame.
    pub fn update(&mut self, delta: &TexturesDelta) {
        delta.set.iter().for_each(|(id, changes)| changes.iter().for_each(|change| self.change(*id, change)));
        delta.free.iter().for_each(|id| drop(self.0.remove(id)));
    }

    fn change(&mut self, id: TextureId, change: &ImageDelta) {
        let ImageData::Color(image) = &change.image;
        let [width, height] = image.size;
        let pixels = image.pixels.iter().map(|pixel| pixel.to_array().map(|part| f32::from(part) / 255.0));
        match (change.pos, self.0.get_mut(&id)) {
            (Some([left, top]), Some(texture)) => {
                for (i, pixel) in pixels.enumerate() {
                    let at = (top + i / width) * texture.width + left + i % width;
                    texture.pixels[at] = pixel;
                }
            }
            _ => {
                let (pixels, filter) = (pixels.collect::<Vec<Rgba>>(), change.options.magnification);
                assert_eq!(pixels.len(), width * height, "a texture is whole");
                self.0.insert(id, Texture { width, pixels, filter });
            }
        }
    }
}

impl Texture {
    fn height(&self) -> usize {
        self.pixels.len() / self.width.max(1)
    }

    fn texel(&self, x: f32, y: f32) -> Rgba {
        let column = (x.max(0.0) as usize).min(self.width - 1);
        let row = (y.max(0.0) as usize).min(self.height() - 1);
        self.pixels[row * self.width + column]
    }

    fn at(&self, uv: Pos2) -> Rgba {
        let (x, y) = (uv.x * self.width as f32, uv.y * self.height() as f32);
        if self.filter == TextureFilter::Nearest {
            return self.texel(x, y);
        }
        let (x, y) = (x - 0.5, y - 0.5);
        let (left, top) = (x.floor(), y.floor());
        let upper = mix(self.texel(left, top), self.texel(left + 1.0, top), x - left);
        let lower = mix(self.texel(left, top + 1.0), self.texel(left + 1.0, top + 1.0), x - left);
        mix(upper, lower, y - top)
    }
}

fn mix(a: Rgba, b: Rgba, share: f32) -> Rgba {
    std::array::from_fn(|i| a[i] + (b[i] - a[i]) * share)
}

/// A picture.
pub struct Canvas {
    width: usize,
    height: usize,
    pixels: Vec<Rgba>,
}

impl Canvas {
    /// A black one.
    pub fn new(width: usize, height: usize) -> Self {
        Self { width, height, pixels: vec![[0.0, 0.0, 0.0, 1.0]; width * height] }
    }

    /// Draws a frame over it.
    pub fn draw(&mut self, frame: &DrawnFrame, textures: &Textures) {
        let scale = frame.pixels_per_point;
        for part in &frame.primitives {
            let Primitive::Mesh(mesh) = &part.primitive else { continue };
            let Some(texture) = textures.0.get(&mesh.texture_id) else { continue };
            let inside = |value: f32, most: usize| ((value * scale).round().max(0.0) as usize).min(most);
            let clip = part.clip_rect;
            let x = [inside(clip.min.x, self.width), inside(clip.max.x, self.width)];
            let y = [inside(clip.min.y, self.height), inside(clip.max.y, self.height)];
            self.mesh(mesh, texture, scale, x, y);
        }
    }

    fn mesh(&mut self, mesh: &Mesh, texture: &Texture, scale: f32, x: [usize; 2], y: [usize; 2]) {
        for corners in mesh.indices.chunks_exact(3) {
            let [a, b, c] = [0, 1, 2].map(|i| mesh.vertices[corners[i] as usize]);
            self.triangle([a, b, c], texture, scale, x, y);
        }
    }

    fn triangle(&mut self, corners: [Vertex; 3], texture: &Texture, scale: f32, x: [usize; 2], y: [usize; 2]) {
        let [a, b, c] = corners.map(|corner| corner.pos * scale);
        let twice = area(a, b, c);
        if twice == 0.0 {
            return;
        }
        // Corners in one direction of turning, so that inside is where all three parts are positive.
        let [va, vb, vc] = corners;
        if twice < 0.0 {
            return self.triangle([va, vc, vb], texture, scale, x, y);
        }
        let least = |f: fn(&Pos2) -> f32| [a, b, c].iter().map(f).fold(f32::INFINITY, f32::min);
        let most = |f: fn(&Pos2) -> f32| [a, b, c].iter().map(f).fold(f32::NEG_INFINITY, f32::max);
        let columns = range(least(|p| p.x), most(|p| p.x), x);
        let colours = corners.map(|corner| corner.color.to_array().map(|part| f32::from(part) / 255.0));
        let plain = (va.uv == vb.uv && vb.uv == vc.uv).then(|| texture.at(va.uv));
        let edges = [owned(b, c), owned(c, a), owned(a, b)];
        for row in range(least(|p| p.y), most(|p| p.y), y) {
            for column in columns.clone() {
                let at = Pos2::new(column as f32 + 0.5, row as f32 + 0.5);
                let parts = [area(b, c, at), area(c, a, at), area(a, b, at)];
                // A pixel on the edge of two triangles belongs to one of them.
                if parts.iter().zip(edges).any(|(&part, own)| part < 0.0 || (part == 0.0 && !own)) {
                    continue;
                }
                let weights = parts.map(|part| part / twice);
                let [wa, wb, wc] = weights;
                let texel = plain.unwrap_or_else(|| {
                    let uv = va.uv.to_vec2() * wa + vb.uv.to_vec2() * wb + vc.uv.to_vec2() * wc;
                    texture.at(uv.to_pos2())
                });
                let colour: Rgba =
                    std::array::from_fn(|i| texel[i] * (colours[0][i] * wa + colours[1][i] * wb + colours[2][i] * wc));
                let under = &mut self.pixels[row * self.width + column];
                *under = std::array::from_fn(|i| colour[i] + under[i] * (1.0 - colour[3]));
            }
        }
    }

    /// Writes it as PNG.
    pub fn save(&self, file: &Path) -> Result<()> {
        let byte = |part: &f32| (part.clamp(0.0, 1.0) * 255.0).round() as u8;
        let rgba = self.pixels.iter().flatten().map(byte).collect();
        let image = egui::IconData { rgba, width: self.width as u32, height: self.height as u32 };
        let png = image.to_png_bytes().map_err(|err| Error::internal(format!("a picture cannot be encoded: {err}")))?;
        std::fs::write(file, png).map_err(|err| Error::io("writing a picture", file, err))
    }
}

/// Twice the area of a triangle, with the sign of its direction of turning.
fn area(a: Pos2, b: Pos2, c: Pos2) -> f32 {
    (b.x - a.x) * (c.y - a.y) - (b.y - a.y) * (c.x - a.x)
}

/// Whether the pixels on this edge are the triangle's own: those on its upper and left edges.
fn owned(from: Pos2, to: Pos2) -> bool {
    (from.y == to.y && to.x > from.x) || to.y < from.y
}

/// The pixels whose middles may lie between these places, within `clip`.
fn range(from: f32, to: f32, [first, end]: [usize; 2]) -> std::ops::Range<usize> {
    let from = ((from - 0.5).ceil().max(0.0) as usize).max(first);
    let to = ((to + 0.5).floor().max(0.0) as usize).min(end);
    from..to.max(from)
}
