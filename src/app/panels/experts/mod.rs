//! The experts: whether they come together, their weights and directions, the loss around them, what each is worth.

mod directions;
mod histogram;
mod maps;
mod numbers;
mod plane;
mod together;
mod worth;

use crate::app::actions::Action;
use crate::app::names;
use crate::app::panel_ctx::{PanelCtx, mixture_run};
use crate::app::run_view::RunView;
use crate::app::session::Weights;
use crate::app::weights_line;
use crate::app::widgets::{cards, labeled, verdict};
use crate::config::MixtureKind;
use crate::protocol::{ExpertSnapshot, ModelQuery, SIDES, Side, SideSnapshot};
use egui::{Key, Modifiers, RichText, Ui};

/// Most experts with a button each; more are chosen from a list.
const BUTTONS: usize = 16;

/// What the view is about: its tabs.
#[expect(missing_docs, reason = "the tabs' words say what they are")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Topic {
    #[default]
    Together,
    Weights,
    Directions,
    Plane,
    Worth,
}

impl Topic {
    /// All, in the order of the tabs.
    pub const ALL: [Self; 5] = [Self::Together, Self::Weights, Self::Directions, Self::Plane, Self::Worth];

    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Together => ("Coming together", "Whether the experts of each layer become one, over the steps"),
            Self::Weights => ("Heat maps", "The weights as pictures, of what differs and of what was learned"),
            Self::Directions => ("Directions", "Singular values, ranks, and the angles between what two experts span"),
            Self::Plane => ("Plane", "The loss between the experts, the merged model and the start"),
            Self::Worth => {
                ("Worth and twins", "What each expert adds to the merged model, and which two are nearly one")
            }
        }
    }
}

/// What the view remembers on screen.
#[derive(Default)]
pub struct ExpertsPanel {
    /// The tab that is shown.
    pub topic: Topic,
    expert: usize,
    distance: bool,
    pair: directions::PairValue,
    maps: maps::HeatMaps,
    plane: plane::PlaneView,
    worth: worth::WorthView,
}

/// One side of one adapted module of a snapshot.
struct Focus<'a> {
    kind: MixtureKind,
    snapshot: &'a ExpertSnapshot,
    site: usize,
    side: Side,
    data: &'a SideSnapshot,
}

impl Focus<'_> {
    /// The side in a sentence.
    fn side_in_words(&self) -> &'static str {
        names::side_in_words(self.kind, self.side)
    }

    /// Where its numbers are in lists of all modules and sides.
    fn cell(&self) -> usize {
        self.site * SIDES.len() + self.side as usize
    }

    /// The module's name.
    fn name(&self) -> String {
        self.snapshot.sites.get(self.site).map_or_else(String::new, |name| names::layer(name))
    }
}

impl ExpertsPanel {
    /// Draws the view.
    pub fn ui(&mut self, ctx: &PanelCtx<'_>, ui: &mut Ui) {
        let hint = "The experts of a layer start as strangers and are trained on the same data. Press Start to see them come \
                    together.";
        let Some(run) = mixture_run(ctx, ui, "No experts yet", hint) else { return };
        weights_line::ui(ctx, run, ui);
        weights_line::nearest_ui(ctx, run, ui);
        self.topics_ui(ui);
        match self.topic {
            Topic::Plane => return self.plane.ui(ctx, run, ui),
            Topic::Worth => return self.worth.ui(ctx, run, ui),
            Topic::Together | Topic::Weights | Topic::Directions => {}
        }
        if let Some(error) = &ctx.session.inspect.error {
            cards::error(ui, ctx.theme, error);
            ui.add_space(4.0);
            ask_button(ctx, "Try again", ui);
        }
        let Some(snapshot) = ctx.session.experts() else { return missing_ui(ctx, run, ui) };
        let kind = run.config.mixture.kind;
        self.choose_ui(ctx, snapshot, kind, ui);
        let (site, side) = wanted(ctx);
        let Some(data) = snapshot.sides.get(site * 2 + side as usize) else {
            return cards::loading(ui, "Waiting for the weights of this layer", None);
        };
        let focus = Focus { kind, snapshot, site, side, data };
        self.expert = self.expert.min(data.experts.len().saturating_sub(1));
        shared_ui(ctx, run, &focus, ui);
        match self.topic {
            Topic::Together => together::ui(ctx, run, &focus, &mut self.expert, &mut self.distance, ui),
            Topic::Weights => {
                self.maps.ui(ctx, &focus, &mut self.expert, ui);
                cards::card(ui, ctx.theme, "Sizes", |ui| numbers::norms_ui(ctx, &focus, &mut self.expert, ui));
            }
            Topic::Directions => directions::ui(ctx, &focus, &mut self.expert, &mut self.pair, ui),
            Topic::Plane | Topic::Worth => {}
        }
    }

    /// The tabs.
    fn topics_ui(&mut self, ui: &mut Ui) {
        ui.horizontal_wrapped(|ui| {
            for topic in Topic::ALL {
                let (words, tip) = topic.words();
                let text = RichText::new(words).strong();
                ui.selectable_value(&mut self.topic, topic, text).on_hover_text(tip);
            }
        });
        ui.add_space(2.0);
    }

    /// Layer, side and expert, by mouse and by keys.
    fn choose_ui(&mut self, ctx: &PanelCtx<'_>, snapshot: &ExpertSnapshot, kind: MixtureKind, ui: &mut Ui) {
        let (mut site, mut side) = wanted(ctx);
        let before = (site, side);
        // A run with fewer layers may have been opened since the choice was made.
        let last = snapshot.sites.len().saturating_sub(1);
        site = site.min(last);
        let keys = |key: Key| ui.input_mut(|input| input.consume_key(Modifiers::ALT, key));
        let [up, down, left, right] = [Key::ArrowUp, Key::ArrowDown, Key::ArrowLeft, Key::ArrowRight].map(keys);
        cards::card(ui, ctx.theme, "", |ui| {
            ui.horizontal_wrapped(|ui| {
                site = site_ui(&snapshot.sites, site, i32::from(up) - i32::from(down), ui);
                ui.add_space(8.0);
                let (tip, titles) = match kind {
                    MixtureKind::Adapter => {
                        ("Down leads from the hidden size to the bottleneck, up leads back", ["Down", "Up"])
                    }
                    MixtureKind::Lora => {
                        ("A leads from the inputs to the rank r, B to the outputs", ["lora_A", "lora_B"])
                    }
                };
                ui.label("Side").on_hover_text(tip);
                for (value, title) in SIDES.into_iter().zip(titles) {
                    ui.selectable_value(&mut side, value, title).on_hover_text(tip);
                }
            });
            // A line of its own, as there may be many modules and many experts.
            ui.horizontal_wrapped(|ui| {
                let experts = snapshot.sides.get(site * 2 + side as usize).map_or(0, |data| data.experts.len());
                self.expert_ui(ctx, experts, ui);
                let last = experts.saturating_sub(1);
                self.expert = (self.expert + usize::from(right)).min(last).saturating_sub(usize::from(left));
            });
            let as_of = format!("Weights after step {}", crate::format::count(snapshot.step));
            ui.horizontal_wrapped(|ui| {
                cards::caption(ui, ctx.theme, as_of);
                if ctx.session.inspect.is_pending() {
                    cards::loading(ui, "reading the weights", None);
                } else if !receives(ctx) {
                    ask_button(ctx, "Read again", ui);
                }
            });
        });
        if (site, side) != before {
            // During training the engine sends the watched snapshots; otherwise a query is needed.
            ctx.push(Action::FocusExperts(site, side));
            if !receives(ctx)
                && let Some(subject) = ctx.session.subject()
            {
                ctx.push(Action::Query(subject, ModelQuery::Inspect { site, side }));
            }
        }
    }

    fn expert_ui(&mut self, ctx: &PanelCtx<'_>, experts: usize, ui: &mut Ui) {
        if experts <= 1 {
            cards::muted(ui, ctx.theme, "shared by all experts");
            return;
        }
        let name = ui.label("Expert").on_hover_text("Alt and arrow left or right");
        if experts <= BUTTONS {
            for expert in 0..experts {
                let chosen = self.expert == expert;
                let color = ctx.theme.series(expert);
                let words = RichText::new(format!(" {expert} ")).monospace();
                let button = egui::Button::selectable(chosen, words).stroke(egui::Stroke::new(1.5, color));
                if ui.add(button).accessible_name(format!("Expert {expert}")).clicked() {
                    self.expert = expert;
                }
            }
        } else {
            egui::ComboBox::from_id_salt("experts expert")
                .selected_text(self.expert.to_string())
                .width(60.0)
                .show_ui(ui, |ui| {
                    for expert in 0..experts {
                        ui.selectable_value(&mut self.expert, expert, expert.to_string());
                    }
                })
                .response
                .labelled_by(name.id);
        }
    }
}

/// Chooses the layer and, where a layer has several modules, the module; `by`: layers up, from the keyboard.
fn site_ui(sites: &[String], mut site: usize, by: i32, ui: &mut Ui) -> usize {
    let layers = names::by_layer(sites);
    let Some(mut layer) = layers.iter().position(|layer| layer.sites.contains(&site)) else { return site };
    let place = layers[layer].sites.iter().position(|other| *other == site).unwrap_or(0);
    let (before, last) = (layer, layers.len() - 1);
    let name = ui.label("Layer");
    let lower = ui.add_enabled(layer > 0, egui::Button::new("◀")).accessible_name("Layer below");
    let lower = lower.on_hover_text("The layer below (Alt and arrow down)").clicked();
    let titles: Vec<String> = layers.iter().map(|layer| layer.name.clone()).collect();
    labeled::layer_list(ui, "experts layer", &name, &titles, &mut layer);
    let upper = ui.add_enabled(layer < last, egui::Button::new("▶")).accessible_name("Layer above");
    let upper = upper.on_hover_text("The layer above (Alt and arrow up)").clicked();
    layer = (layer + usize::from(upper || by > 0)).min(last).saturating_sub(usize::from(lower || by < 0));
    let modules = &layers[layer].sites;
    if layer != before {
        // The same module of the other layer.
        site = modules.get(place).or(modules.last()).copied().unwrap_or(site);
    }
    if modules.len() > 1 {
        ui.add_space(8.0);
        ui.label("Module");
        for &other in modules {
            ui.selectable_value(&mut site, other, names::part(&sites[other])).on_hover_text(&sites[other]);
        }
    }
    site
}

/// The chosen module and side.
fn wanted(ctx: &PanelCtx<'_>) -> (usize, Side) {
    (ctx.session.focus.0, ctx.session.focus.1.unwrap_or(Side::Down))
}

/// Whether the engine sends snapshots by itself.
fn receives(ctx: &PanelCtx<'_>) -> bool {
    ctx.session.weights() == Weights::Training
}

fn ask_button(ctx: &PanelCtx<'_>, words: &str, ui: &mut Ui) {
    let Some(subject) = ctx.session.subject() else { return };
    let (site, side) = wanted(ctx);
    drop(ctx.button_as(ui, Action::Query(subject, ModelQuery::Inspect { site, side }), egui::Button::new(words)));
}

/// There are no weights: not yet, not requested, or refused.
fn missing_ui(ctx: &PanelCtx<'_>, run: &RunView, ui: &mut Ui) {
    if ctx.session.inspect.error.is_some() {
        return;
    }
    if ctx.session.inspect.is_pending() || receives(ctx) {
        return cards::loading(ui, ctx.waiting_text("Waiting for the weights"), None);
    }
    let hint = format!("Reads the weights of all experts of {}: consensus, heat maps, singular values.", run.name());
    cards::empty(ui, ctx.theme, "Weights of the experts", &hint, |ui| ask_button(ctx, "Read the weights", ui));
}

fn shared_ui(ctx: &PanelCtx<'_>, run: &RunView, focus: &Focus<'_>, ui: &mut Ui) {
    if focus.data.experts.len() != 1 || run.config.mixture.num_experts <= 1 {
        return;
    }
    let shared = focus.side_in_words();
    let default = names::side_in_words(focus.kind, Side::Up);
    let words = format!(
        "The {shared} of this layer is shared: one matrix serves all {} experts, so there is nothing to draw, to \
         compare or to merge here. Sharing the {default} is the paper's default (section 3.4): fewer parameters, and \
         more data for each.",
        run.config.mixture.num_experts
    );
    verdict::line(ui, ctx.theme, verdict::Verdict::Open, &words);
}
