//! Whether the experts of a module become one: the consensus by layer, side and step; pairs and distances in the details.

use super::{Focus, numbers};
use crate::analysis::causes::consensus::of_strangers;
use crate::app::curves as run_curves;
use crate::app::names;
use crate::app::panel_ctx::PanelCtx;
use crate::app::run_view::RunView;
use crate::app::widgets::cell_grid::{self, GridCell, GridSpec};
use crate::app::widgets::heatmap::{Scale, color};
use crate::app::widgets::metric_plot::{self, Curve, PlotOptions};
use crate::app::widgets::{cards, legend};
use crate::format;
use crate::protocol::{DistanceSample, SIDES};
use egui::{RichText, Ui, vec2};

/// Steps that are named one by one.
const NAMED: usize = 8;

/// One quantity of all modules and sides.
type Field = fn(&DistanceSample, usize) -> Option<f64>;

/// Draws the consensus over the steps and of every layer, and what belongs to it.
pub fn ui(ctx: &PanelCtx<'_>, run: &RunView, focus: &Focus<'_>, expert: &mut usize, distance: &mut bool, ui: &mut Ui) {
    let experts = run.config.mixture.num_experts;
    cards::card(ui, ctx.theme, "Coming together: the consensus of the experts", |ui| {
        let shared = focus.data.experts.len() <= 1;
        let muted = "This side is shared: there is one matrix, and nothing that could come together.";
        let words = if shared { muted.to_owned() } else { sentence(run, focus, experts) };
        ui.label(words);
        if !shared {
            time_ui(ctx, run, focus, experts, ui);
        }
        ui.add_space(4.0);
        layers_ui(ctx, focus, experts, ui);
        cards::explanation(ui, ctx.theme, "What the consensus says, and what it does not", &EXPLANATION);
    });
    if focus.data.experts.len() > 1 {
        cards::card(ui, ctx.theme, "Similarity", |ui| numbers::pairs_ui(ctx, focus, expert, distance, ui));
    }
    let title = format!("Details: distances of the {} over time", focus.side_in_words());
    egui::CollapsingHeader::new(title).id_salt("distances over time").show(ui, |ui| distances_ui(ctx, run, focus, ui));
}

/// Where the chosen module stands between its two ends.
fn sentence(run: &RunView, focus: &Focus<'_>, experts: usize) -> String {
    let strangers = of_strangers(experts);
    let Some(now) = focus.data.consensus else {
        return "All weights of this side are zero: LoRA's B before the first step has no direction yet.".to_owned();
    };
    let first = run.distances.first().filter(|first| first.step < focus.snapshot.step);
    let before = first.and_then(|first| Some((first.step, (*first.consensus.get(focus.cell())?)?)));
    let before =
        before.map_or_else(String::new, |(step, q)| format!("; at step {} it was {q:.3}", format::count(step)));
    let share = ((now - strangers) / (1.0 - strangers)).clamp(0.0, 1.0);
    format!(
        "{}: q = {now:.3} after step {}{before}. Experts with nothing in common have 1/√M = {strangers:.2}, experts that are one \
         have 1: {} of the way.",
        focus.name(),
        format::count(focus.snapshot.step),
        format::percent(share),
    )
}

/// The consensus over the steps: the chosen module, all others thin, and both ends with their names.
fn time_ui(ctx: &PanelCtx<'_>, run: &RunView, focus: &Focus<'_>, experts: usize, ui: &mut Ui) {
    let field: Field = |sample, cell| sample.consensus.get(cell).copied().flatten();
    if run.distances.len() < 2 {
        let words = "The consensus is taken at step 0 and every few dozen steps; two points are needed for a curve.";
        cards::muted(ui, ctx.theme, words);
        return;
    }
    let mut curves = curves(ctx, run, focus, field);
    if let (Some(first), Some(last)) = (run.distances.first(), run.distances.last()) {
        let level = |name: String, color, y: f64| {
            let line = [first.step, last.step].map(|step| [step as f64, y]).to_vec();
            Curve { dashed: true, ..Curve::line(name, color, line) }
        };
        let strangers = of_strangers(experts);
        curves.push(level("one: 1".to_owned(), ctx.theme.ok, 1.0));
        curves.push(level(format!("strangers: 1/√{experts} = {strangers:.2}"), ctx.theme.warning, strangers));
    }
    let title = "Consensus q (0 to 1)";
    let options =
        PlotOptions { title, height: 210.0, legend: true, limits: Some([0.0, 1.0]), ..PlotOptions::default() };
    let marks = run_curves::marks(run, ctx.theme);
    metric_plot::ui(ui, ctx.theme, "consensus of the experts", &curves, &marks, &options);
    cards::caption(ui, ctx.theme, points_text(run, ctx.session.shows_live()));
}

/// Which points there are, and where they come from.
fn points_text(run: &RunView, live: bool) -> String {
    let steps: Vec<u64> = run.distances.iter().map(|sample| sample.step).collect();
    let count = format::counted(steps.len(), "point");
    let list = match steps.as_slice() {
        steps if steps.len() <= NAMED => {
            let named = steps.iter().map(|&step| format::count(step)).collect::<Vec<_>>();
            format!("steps {}", named.join(", "))
        }
        [first, .., last] => format!("steps {} to {}", format::count(*first), format::count(*last)),
        _ => String::new(),
    };
    let from = match live {
        true => "the start comes from the seed, the others were taken while it trains",
        false => "the start comes from the seed or checkpoint 0, the others are the checkpoints on disk",
    };
    format!("{count}: {list}; {from}.")
}

fn curves(ctx: &PanelCtx<'_>, run: &RunView, focus: &Focus<'_>, field: Field) -> Vec<Curve> {
    let line = |site: usize| -> Vec<[f64; 2]> {
        let cell = site * SIDES.len() + focus.side as usize;
        let value = |sample: &DistanceSample| field(sample, cell).map(|v| [sample.step as f64, v]);
        run.distances.iter().filter_map(value).collect()
    };
    let sites = &focus.snapshot.sites;
    let others = (0..sites.len()).filter(|&site| site != focus.site);
    let faint = ctx.theme.muted.gamma_multiply(0.55);
    let thin = |site: usize| Curve { listed: false, ..Curve::line(names::layer(&sites[site]), faint, line(site)) };
    let mut curves: Vec<Curve> = others.map(thin).collect();
    curves.push(Curve { dots: true, strong: true, ..Curve::line(focus.name(), ctx.theme.accent, line(focus.site)) });
    curves
}

/// The consensus of every layer, module and side at the step of the snapshot.
fn layers_ui(ctx: &PanelCtx<'_>, focus: &Focus<'_>, experts: usize, ui: &mut Ui) {
    let sites = &focus.snapshot.sites;
    let layers = names::by_layer(sites);
    let most = layers.iter().map(|layer| layer.sites.len()).max().unwrap_or(0);
    let parts: Vec<String> = layers
        .iter()
        .find(|layer| layer.sites.len() == most)
        .map(|layer| layer.sites.iter().map(|&site| names::part(&sites[site])).collect())
        .unwrap_or_default();
    let column = |part: &String| {
        SIDES.map(|side| match most {
            1 => names::side(focus.kind, side).to_owned(),
            _ => format!("{part} {}", names::side(focus.kind, side).trim_start_matches("lora_")),
        })
    };
    let columns: Vec<String> = parts.iter().flat_map(column).collect();
    let strangers = of_strangers(experts);
    let scale = Scale::Sequential(strangers as f32, 1.0);
    let name = format!("Consensus by layer and side after step {}", format::count(focus.snapshot.step));
    ui.label(RichText::new(&name).strong().small());
    let row_width = cell_grid::name_width(layers.iter().map(|layer| layer.name.clone()));
    let wide = if columns.len() > 10 { 44.0 } else { 62.0 };
    let spec = GridSpec {
        name: &name,
        columns: &columns,
        rows: layers.len(),
        row_width,
        cell: vec2(wide, 20.0),
        clickable: false,
    };
    egui::ScrollArea::horizontal().id_salt("consensus by layer").show(ui, |ui| {
        cell_grid::ui(
            ui,
            ctx.theme,
            &spec,
            |row| layers[row].name.clone(),
            |row, column| {
                let Some(&site) = layers[row].sites.get(column / SIDES.len()) else { return GridCell::default() };
                let side = SIDES[column % SIDES.len()];
                let data = focus.snapshot.sides.get(site * SIDES.len() + side as usize);
                let (value, shared) = (data.and_then(|d| d.consensus), data.is_some_and(|d| d.experts.len() <= 1));
                let text = match value {
                    Some(q) => format!("{q:.2}"),
                    None if shared => "shared".to_owned(),
                    None => "zero".to_owned(),
                };
                GridCell {
                    about: format!(
                        "{} {}: consensus {text}",
                        names::layer(&sites[site]),
                        names::side(focus.kind, side)
                    ),
                    fill: value.map(|q| color(ctx.theme, scale, q as f32)),
                    value: Some(value.unwrap_or(f64::NAN)),
                    chosen: site == focus.site && side == focus.side,
                    text,
                }
            },
        );
    });
    legend::bar(ui, ctx.theme, scale, "consensus q, from strangers to one", 220.0);
}

fn distances_ui(ctx: &PanelCtx<'_>, run: &RunView, focus: &Focus<'_>, ui: &mut Ui) {
    if run.distances.len() < 2 {
        let words = "Distances are taken at step 0 and every few dozen steps; two are needed for a curve.";
        cards::muted(ui, ctx.theme, words);
        return;
    }
    let shared = focus.data.experts.len() == 1;
    let [pairwise, from_start]: [Field; 2] = [
        |sample, cell| sample.pairwise.get(cell).map(|&v| f64::from(v)),
        |sample, cell| sample.from_start.get(cell).map(|&v| f64::from(v)),
    ];
    let plots = [
        ("distance of two experts", "Mean distance of two experts", shared, pairwise),
        ("distance from the start", "Mean distance from the start", false, from_start),
    ];
    ui.columns(2, |columns| {
        for (ui, (id, title, nothing, part)) in columns.iter_mut().zip(plots) {
            ui.label(RichText::new(title).strong().small());
            if nothing {
                cards::muted(ui, ctx.theme, "shared: there is only one");
                continue;
            }
            let mut curves = curves(ctx, run, focus, part);
            // The axis starts at 0, so that a small change does not look large.
            if let (Some(first), Some(last)) = (run.distances.first(), run.distances.last()) {
                let ends = [first.step, last.step].map(|step| [step as f64, 0.0]).to_vec();
                curves.push(Curve::line("0", ctx.theme.card_border, ends));
            }
            let limits = Some([0.0, f64::INFINITY]);
            let options = PlotOptions { title, height: 170.0, limits, ..PlotOptions::default() };
            let marks = run_curves::marks(run, ctx.theme);
            metric_plot::ui(ui, ctx.theme, id, &curves, &marks, &options);
        }
    });
    let words = format!(
        "Thick: {}; thin: the other modules (hover for names). Norms of differences of whole matrices, x: step. They grow \
         with the weights themselves, so that they do not say whether experts agree: the consensus does.",
        focus.name()
    );
    cards::caption(ui, ctx.theme, words);
}

const EXPLANATION: [&str; 4] = [
    "q = ‖mean of the experts‖ / root mean square of their norms: the share of the experts' norm that their mean keeps. \
     Independent experts have q = 1/√M, for the squares of M unrelated parts add up while their mean shrinks; equal experts \
     have 1.",
    "Adapters start as strangers, each with random numbers of its own, and come together: every expert of a layer is trained \
     on the same data through the same other side. LoRA's A may start as copies (q = 1), its B starts at zero.",
    "Merging takes the mean. What it keeps of the weights is q; the rest is what the experts do not have in common. A high q \
     means that merging changes little, not that the model is good.",
    "The distance of two experts is no measure of this: it grows with the size of the weights, also while the experts agree \
     more and more.",
];

#[cfg(test)]
mod tests {
    use super::points_text;
    use crate::app::run_view::RunView;
    use crate::protocol::DistanceSample;

    #[test]
    fn the_points_of_a_curve_are_named() {
        let sample = |step| DistanceSample { step, ..DistanceSample::default() };
        let mut run = RunView { distances: [0, 120, 1240].map(sample).to_vec(), ..RunView::default() };
        let text = points_text(&run, false);
        assert!(text.starts_with("3 points: steps 0, 120, 1") && text.contains("checkpoints on disk"), "{text}");
        run.distances = (0..20).map(|i| sample(25 * i)).collect();
        let text = points_text(&run, true);
        assert!(text.starts_with("20 points: steps 0 to 475") && text.contains("while it trains"), "{text}");
    }
}
