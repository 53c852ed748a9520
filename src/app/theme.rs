//! Colours of the window, light and dark. The series colours are those of Okabe and Ito, safe for colour blindness.

use crate::protocol::LogLevel;
use egui::Color32;

/// Colours of one of the two appearances.
#[expect(missing_docs, reason = "the names say what is not explained")]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Theme {
    /// Whether the background is dark.
    pub dark: bool,
    /// The main button, selections.
    pub accent: Color32,
    /// Text on `accent`.
    pub on_accent: Color32,
    pub ok: Color32,
    pub warning: Color32,
    pub error: Color32,
    pub muted: Color32,
    pub card: Color32,
    pub card_border: Color32,
    series: [u32; 8],
}

const fn rgb(hex: u32) -> Color32 {
    Color32::from_rgb((hex >> 16) as u8, (hex >> 8) as u8, hex as u8)
}

const LIGHT: Theme = Theme {
    dark: false,
    accent: rgb(0x0060A8),
    on_accent: rgb(0xFFFFFF),
    ok: rgb(0x00734F),
    warning: rgb(0x8A5A00),
    error: rgb(0xB3261E),
    muted: rgb(0x5C6570),
    card: rgb(0xFFFFFF),
    card_border: rgb(0xD5DAE0),
    series: [0x0072B2, 0xD55E00, 0x009E73, 0xB0578B, 0xC98600, 0x3A9BD0, 0x8A7E00, 0x555555],
};

const DARK: Theme = Theme {
    dark: true,
    accent: rgb(0x3D8FD1),
    on_accent: rgb(0x06121C),
    ok: rgb(0x3CC79A),
    warning: rgb(0xF0B341),
    error: rgb(0xFF7B6B),
    muted: rgb(0x9AA4AF),
    card: rgb(0x20252B),
    card_border: rgb(0x343B43),
    series: [0x56B4E9, 0xE8743B, 0x2BBF93, 0xD98BB5, 0xE69F00, 0x4C8FD6, 0xF0E442, 0xBBBBBB],
};

impl Theme {
    /// The colours for a dark or a light background.
    pub fn new(dark: bool) -> Self {
        if dark { DARK } else { LIGHT }
    }

    /// The colour of the `i`-th curve of a plot, and of expert `i` everywhere.
    pub fn series(&self, i: usize) -> Color32 {
        rgb(self.series[i % self.series.len()])
    }

    /// The colour on a light background, for pictures.
    pub fn on_paper(&self, color: Color32) -> [u8; 3] {
        let same = |colors: &Self| {
            let named = [colors.accent, colors.ok, colors.warning, colors.error, colors.muted, colors.card_border];
            named.into_iter().chain(colors.series.map(rgb)).collect::<Vec<_>>()
        };
        let known = same(self).into_iter().zip(same(&LIGHT)).find(|(own, _)| *own == color).map(|(_, light)| light);
        let [r, g, b, alpha] = known.unwrap_or(color).to_array();
        // What is seen through it is white.
        [r, g, b].map(|channel| channel.saturating_add(255 - alpha))
    }

    /// The colour of a message.
    pub fn level(&self, level: LogLevel) -> Color32 {
        match level {
            LogLevel::Info => self.muted,
            LogLevel::Warning => self.warning,
            LogLevel::Error => self.error,
        }
    }

    /// Signed values in -1..=1: blue, background, orange.
    pub fn diverging(&self, value: f32) -> Color32 {
        let middle = if self.dark { [24.0, 28.0, 32.0] } else { [247.0, 247.0, 247.0] };
        let end = match (value < 0.0, self.dark) {
            (true, true) => [96.0, 186.0, 255.0],
            (true, false) => [0.0, 82.0, 155.0],
            (false, true) => [255.0, 158.0, 66.0],
            (false, false) => [190.0, 76.0, 0.0],
        };
        mix(middle, end, value.abs())
    }

    /// Values in 0..=1: background to the accent.
    pub fn sequential(&self, value: f32) -> Color32 {
        let (low, high) = if self.dark {
            ([28.0, 33.0, 38.0], [120.0, 200.0, 255.0])
        } else {
            ([245.0, 248.0, 251.0], [0.0, 70.0, 130.0])
        };
        mix(low, high, value)
    }

    /// Black or white, whichever reads better on `background`.
    pub fn text_on(background: Color32) -> Color32 {
        let [r, g, b, _] = background.to_array().map(f32::from);
        if 0.299 * r + 0.587 * g + 0.114 * b > 140.0 { Color32::BLACK } else { Color32::WHITE }
    }
}

fn mix(a: [f32; 3], b: [f32; 3], t: f32) -> Color32 {
    let t = if t.is_finite() { t.clamp(0.0, 1.0) } else { 0.0 };
    let channel = |i: usize| (a[i] + (b[i] - a[i]) * t).round() as u8;
    Color32::from_rgb(channel(0), channel(1), channel(2))
}

/// Sets fonts, spacing and colours of both appearances; called once.
pub fn install(ctx: &egui::Context) {
    // Arrows, dots and triangles are in the monospace font only.
    let mut fonts = egui::FontDefinitions::default();
    fonts.families.entry(egui::FontFamily::Proportional).or_default().push("Hack".to_owned());
    ctx.set_fonts(fonts);
    for (theme, colors) in [(egui::Theme::Light, LIGHT), (egui::Theme::Dark, DARK)] {
        ctx.style_mut_of(theme, |style| {
            style.spacing.item_spacing = egui::vec2(8.0, 5.0);
            style.spacing.button_padding = egui::vec2(8.0, 3.0);
            style.spacing.interact_size.y = 22.0;
            style.spacing.scroll.floating = false;
            style.spacing.scroll.foreground_color = false;
            style.spacing.scroll.bar_width = 7.0;
            style.text_styles.insert(egui::TextStyle::Small, egui::FontId::proportional(10.5));
            style.interaction.tooltip_delay = 0.3;
            style.url_in_tooltip = true;
            let visuals = &mut style.visuals;
            visuals.hyperlink_color = colors.accent;
            visuals.error_fg_color = colors.error;
            visuals.warn_fg_color = colors.warning;
            visuals.selection.bg_fill = colors.accent.gamma_multiply(if colors.dark { 0.55 } else { 0.35 });
            let either = |dark, light| rgb(if colors.dark { dark } else { light });
            visuals.panel_fill = either(0x171A1E, 0xF6F7F9);
            visuals.window_fill = either(0x1D2126, 0xFCFCFD);
            visuals.extreme_bg_color = either(0x101316, 0xEDF1F5);
            visuals.faint_bg_color = either(0x1D2227, 0xECEFF2);
            visuals.widgets.noninteractive.fg_stroke.color = either(0xD3D9DF, 0x22272D);
            visuals.widgets.inactive.fg_stroke.color = either(0xDDE3E9, 0x22272D);
            visuals.widgets.noninteractive.bg_stroke.color = colors.card_border;
            if !colors.dark {
                visuals.widgets.inactive.weak_bg_fill = rgb(0xE3E7EB);
                visuals.widgets.inactive.bg_fill = rgb(0xD9DEE3);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn luminance(color: Color32) -> f32 {
        let linear = egui::Rgba::from(color);
        0.2126 * linear.r() + 0.7152 * linear.g() + 0.0722 * linear.b()
    }

    fn contrast(a: Color32, b: Color32) -> f32 {
        let (a, b) = (luminance(a), luminance(b));
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    #[test]
    fn words_are_readable_on_their_ground() {
        for theme in [LIGHT, DARK] {
            for color in [theme.ok, theme.warning, theme.error, theme.muted] {
                assert!(contrast(color, theme.card) >= 4.5, "{color:?} on {:?}", theme.card);
            }
            assert!(contrast(theme.on_accent, theme.accent) >= 4.5);
            for i in 0..8 {
                assert!(contrast(theme.series(i), theme.card) >= 2.0, "series {i} is too faint");
            }
        }
    }

    #[test]
    fn colour_maps_are_even_and_survive_nan() {
        let theme = Theme::new(true);
        assert_eq!(theme.diverging(0.0), theme.diverging(-0.0));
        assert_ne!(theme.diverging(1.0), theme.diverging(-1.0));
        assert_eq!(theme.diverging(f32::NAN), theme.diverging(0.0));
        assert_eq!(theme.sequential(2.0), theme.sequential(1.0));
    }
}
