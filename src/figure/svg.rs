//! Figures as SVG 1.1: shapes and texts, nothing that is loaded from elsewhere, no script.

use super::drawing::{Anchor, Drawing, Shape};
use super::layout::layout;
use super::{Color, Figure};
use std::fmt::Write as _;

/// The figure as a file of its own.
pub fn document(figure: &Figure) -> String {
    format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{}\n", element(figure))
}

/// The figure as an element of a page.
pub fn element(figure: &Figure) -> String {
    write(&layout(figure), &figure.title)
}

/// Text as it stands in XML and HTML: between tags and in attributes with quotes. Characters that XML 1.0 does not
/// allow become the replacement character.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\t' | '\n' | '\r' => out.push(c),
            c if c < ' ' || matches!(c, '\u{7f}'..='\u{9f}' | '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

fn hex([r, g, b]: Color) -> String {
    format!("#{r:02x}{g:02x}{b:02x}")
}

/// A coordinate with two decimals at most.
fn number(value: f64) -> String {
    let text = format!("{value:.2}");
    let short = text.trim_end_matches('0').trim_end_matches('.');
    if short == "-0" { "0".to_owned() } else { short.to_owned() }
}

fn points(points: &[[f64; 2]]) -> String {
    points.iter().map(|[x, y]| format!("{},{}", number(*x), number(*y))).collect::<Vec<_>>().join(" ")
}

fn write(drawing: &Drawing, title: &str) -> String {
    let [width, height] = [drawing.width, drawing.height].map(number);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         role=\"img\" font-family=\"Helvetica, Arial, sans-serif\"><title>{}</title>\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>",
        escaped(title)
    );
    for shape in &drawing.shapes {
        out.push('\n');
        let written = match shape {
            Shape::Line { points: at, color, width, dash } => {
                let dash =
                    if *dash > 0.0 { format!(" stroke-dasharray=\"{0} {0}\"", number(*dash)) } else { String::new() };
                write!(
                    out,
                    "<polyline fill=\"none\" stroke=\"{}\" stroke-width=\"{}\" stroke-linejoin=\"round\"{dash} points=\"{}\"/>",
                    hex(*color),
                    number(*width),
                    points(at)
                )
            }
            Shape::Area { points: at, color, opacity } => {
                let opacity =
                    if *opacity < 1.0 { format!(" fill-opacity=\"{}\"", number(*opacity)) } else { String::new() };
                write!(out, "<polygon fill=\"{}\"{opacity} points=\"{}\"/>", hex(*color), points(at))
            }
            Shape::Disc { at: [x, y], radius, color, ring } => {
                let color = hex(*color);
                let look =
                    if *ring { format!("fill=\"none\" stroke=\"{color}\"") } else { format!("fill=\"{color}\"") };
                write!(out, "<circle cx=\"{}\" cy=\"{}\" r=\"{}\" {look}/>", number(*x), number(*y), number(*radius))
            }
            Shape::Text { at: [x, y], anchor, size, color, strong, upright, text } => {
                let (x, y) = (number(*x), number(*y));
                let anchor = match anchor {
                    Anchor::Start => "start",
                    Anchor::Middle => "middle",
                    Anchor::End => "end",
                };
                let strong = if *strong { " font-weight=\"bold\"" } else { "" };
                let turned = if *upright { format!(" transform=\"rotate(-90 {x} {y})\"") } else { String::new() };
                write!(
                    out,
                    "<text x=\"{x}\" y=\"{y}\" font-size=\"{}\" fill=\"{}\" text-anchor=\"{anchor}\"{strong}{turned}>{}</text>",
                    number(*size),
                    hex(*color),
                    escaped(text)
                )
            }
        };
        debug_assert!(written.is_ok(), "a String takes everything");
    }
    out.push_str("\n</svg>");
    out
}
