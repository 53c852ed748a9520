//! The menu in the corner of every plot and table: save it as a picture or as values, copy the values.
//!
//! A widget has no queue of actions: what was chosen waits in egui's memory until `logic` takes it at the end of the frame.

use crate::figure::{Content, Figure, Table};
use crate::protocol::RecordPlan;
use egui::{Id, Rect, Response, Ui, UiBuilder, vec2};

/// What a figure is saved as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaveAs {
    Png,
    Svg,
    Csv,
    /// Its values to the clipboard, separated by tabs.
    Copy,
}

impl SaveAs {
    const ALL: [Self; 4] = [Self::Png, Self::Svg, Self::Csv, Self::Copy];

    fn describe(self) -> (&'static str, &'static str) {
        match self {
            Self::Png => ("Save as PNG…", "A picture of pixels, twice as fine as the screen, with a light background"),
            Self::Svg => ("Save as SVG…", "A picture of lines for papers and slides, sharp at every size"),
            Self::Csv => ("Save as CSV…", "All values with every digit, for spreadsheets and programs"),
            Self::Copy => ("Copy values", "All values with every digit to the clipboard, for a spreadsheet"),
        }
    }

    /// Whether a file is written.
    pub fn is_file(self) -> bool {
        self != Self::Copy
    }

    /// The ending of the file; none for the clipboard.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Svg => "svg",
            Self::Csv => "csv",
            Self::Copy => "",
        }
    }
}

/// A figure that the user wants to save.
#[derive(Clone, Debug, PartialEq)]
pub struct SavedFigure {
    /// What is drawn.
    pub figure: Figure,
    /// Where its values are recorded; absent: the figure's own values are all there are.
    pub record: Option<RecordPlan>,
    pub save_as: SaveAs,
    /// Its name: that of the file, without its ending.
    pub name: String,
}

/// A figure with the place of its values.
pub type Source = (Figure, Option<RecordPlan>);

fn waiting() -> Id {
    Id::unique("figures to save")
}

/// Takes the figures that were chosen in this frame.
pub fn take(ctx: &egui::Context) -> Vec<SavedFigure> {
    ctx.data_mut(|data| data.remove_temp(waiting())).unwrap_or_default()
}

/// Width that titles above plots and tables are given, in points.
const TITLE: f32 = 440.0;

/// A switch of the menu that is kept while the window is open: its name, its tooltip, whether it can be set.
pub struct Switch<'a> {
    pub text: &'a str,
    pub tip: &'a str,
    pub enabled: bool,
    pub id: Id,
}

/// Whether a switch is on.
pub fn is_on(ui: &Ui, id: Id) -> bool {
    ui.data(|data| data.get_temp(id)).unwrap_or(false)
}

/// The menu's button right above the upper right corner of `plot`. `name`: of the plot; `figure` is called when something is chosen.
pub fn corner(
    ui: &mut Ui,
    plot: Rect,
    name: &str,
    switches: &[Switch<'_>],
    figure: impl FnOnce() -> Source,
) -> Response {
    let size = vec2(26.0, 18.0);
    // Beside the title, which may be longer than a small table is wide; never outside of the card.
    let right = plot.right().max((plot.left() + TITLE).min(ui.max_rect().right())).min(ui.clip_rect().right() - 4.0);
    let place = Rect::from_min_size(egui::pos2(right - size.x, plot.top() - size.y - 3.0), size);
    let builder = UiBuilder::new().max_rect(place).layout(egui::Layout::right_to_left(egui::Align::Center));
    // Over what is there already: the plot keeps its place.
    let mut corner = ui.new_child(builder);
    button(&mut corner, name, switches, figure)
}

/// The menu's button in a line of its own, at the right.
pub fn line(ui: &mut Ui, name: &str, figure: impl FnOnce() -> Source) {
    ui.with_layout(egui::Layout::right_to_left(egui::Align::Min), |ui| button(ui, name, &[], figure));
}

/// The menu of a table, in a line below it.
pub fn table(ui: &mut Ui, name: &str, values: impl FnOnce() -> Table) {
    line(ui, name, || {
        let mut title = name.to_owned();
        // Names of tables are written as in a sentence.
        title[..1].make_ascii_uppercase();
        (Figure::new(title, Content::Table(values())), None)
    });
}

fn button(ui: &mut Ui, name: &str, switches: &[Switch<'_>], figure: impl FnOnce() -> Source) -> Response {
    ui.spacing_mut().button_padding = vec2(4.0, 0.0);
    ui.spacing_mut().interact_size.y = 16.0;
    let menu = ui.menu_button(egui::RichText::new("⬇").size(12.0), |ui| {
        for switch in switches {
            let mut on = is_on(ui, switch.id);
            let response = ui.add_enabled(switch.enabled, egui::Checkbox::new(&mut on, switch.text));
            if response.on_hover_text(switch.tip).on_disabled_hover_text("No value is above 0").changed() {
                ui.data_mut(|data| data.insert_temp(switch.id, on));
            }
        }
        if !switches.is_empty() {
            ui.separator();
        }
        let mut chosen = None;
        for save_as in SaveAs::ALL {
            let (text, tip) = save_as.describe();
            if ui.button(text).on_hover_text(tip).clicked() {
                chosen = Some(save_as);
                ui.close();
            }
        }
        chosen
    });
    if let Some(save_as) = menu.inner.flatten() {
        let (figure, record) = figure();
        let saved = SavedFigure { figure, record, save_as, name: name.to_owned() };
        ui.data_mut(|data| data.get_temp_mut_or_default::<Vec<SavedFigure>>(waiting()).push(saved));
    }
    let response = menu.response.on_hover_text("Save or copy: PNG, SVG, CSV");
    response.accessible_name(format!("Save {name}"))
}
