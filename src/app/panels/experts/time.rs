//! Distances of the experts over time.

use super::Focus;
use crate::app::names;
use crate::app::panel_ctx::PanelCtx;
use crate::app::run_view::RunView;
use crate::app::widgets::cards;
use crate::app::widgets::metric_plot::{self, Curve, PlotOptions};
use crate::protocol::DistanceSample;
use egui::{RichText, Ui};

/// One kind of distance of all modules and sides.
type DistanceField = fn(&DistanceSample) -> &[f32];

/// Draws the distance of the experts from each other and from the start, for all layers of the chosen side.
pub fn ui(ctx: &PanelCtx<'_>, run: &RunView, focus: &Focus<'_>, ui: &mut Ui) {
    let title = format!("Distances over time: {} of all modules", focus.side_in_words());
    cards::card(ui, ctx.theme, &title, |ui| {
        if run.distances.len() < 2 {
            let words = "Distances are taken at step 0 and every few dozen steps; two are needed for a curve.";
            cards::muted(ui, ctx.theme, words);
            return;
        }
        let shared = focus.data.experts.len() == 1;
        let [pairwise, from_start]: [DistanceField; 2] = [|sample| &sample.pairwise, |sample| &sample.from_start];
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
                let limits = Some([0.0, f64::INFINITY]);
                let options = PlotOptions { title, height: 170.0, limits, ..PlotOptions::default() };
                metric_plot::ui(ui, ctx.theme, id, &curves(ctx, run, focus, part), &[], &options);
            }
        });
        let name = focus.snapshot.sites.get(focus.site).map_or_else(String::new, |name| names::layer(name));
        let words = format!(
            "Thick: {name}; thin: the other modules (hover for names). Norms of differences of whole matrices, x: step."
        );
        cards::caption(ui, ctx.theme, words);
    });
}

fn curves(ctx: &PanelCtx<'_>, run: &RunView, focus: &Focus<'_>, part: DistanceField) -> Vec<Curve> {
    let line = |site: usize| -> Vec<[f64; 2]> {
        let cell = site * 2 + focus.side as usize;
        let value = |sample: &DistanceSample| part(sample).get(cell).map(|&v| [sample.step as f64, f64::from(v)]);
        run.distances.iter().filter_map(value).collect()
    };
    let sites = &focus.snapshot.sites;
    let others = (0..sites.len()).filter(|&site| site != focus.site);
    let faint = ctx.theme.muted.gamma_multiply(0.55);
    let mut curves: Vec<Curve> =
        others.map(|site| Curve::line(names::layer(&sites[site]), faint, line(site))).collect();
    // The axis starts at 0, so that a small change does not look large.
    if let (Some(first), Some(last)) = (run.distances.first(), run.distances.last()) {
        let ends = [first.step, last.step].map(|step| [step as f64, 0.0]).to_vec();
        curves.push(Curve::line("0", ctx.theme.card_border, ends));
    }
    let name = sites.get(focus.site).map_or_else(String::new, |name| names::layer(name));
    curves.push(Curve { dots: true, ..Curve::line(name, ctx.theme.accent, line(focus.site)) });
    curves
}
