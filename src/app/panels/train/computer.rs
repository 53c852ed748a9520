//! Processor and memory over the last minutes, while the card is open.

use crate::app::actions::Action;
use crate::app::clock::XScale;
use crate::app::panel_ctx::PanelCtx;
use crate::app::widgets::metric_plot::{self, Curve, PlotOptions};
use crate::app::widgets::{cards, labeled};
use crate::format;
use crate::protocol::MachineSample;
use egui::Ui;

const HEIGHT: f32 = 120.0;

pub fn ui(ctx: &PanelCtx<'_>, ui: &mut Ui) {
    cards::card(ui, ctx.theme, "This computer", |ui| {
        let mut on = ctx.settings.monitor;
        let tip = "Samples processor and memory once a second while this view is seen";
        if labeled::toggle(ui, "Watch processor and memory", tip, &mut on).changed() {
            ctx.push(Action::SetMonitor(on));
        }
        if !ctx.settings.monitor {
            return;
        }
        let Some(last) = ctx.session.machine.back() else {
            return drop(cards::muted(ui, ctx.theme, "Waiting for the first sample"));
        };
        figures_ui(ctx, last, ui);
        let theme = ctx.theme;
        let curve = |name: &str, color: usize, value: fn(&MachineSample) -> Option<f64>| {
            let samples = ctx.session.machine.iter().enumerate();
            let points = samples.filter_map(|(second, sample)| Some([second as f64, value(sample)?]));
            Curve::line(name, theme.series(color), points.collect())
        };
        let options = PlotOptions { height: HEIGHT, x: Some(XScale::SECONDS.name), ..PlotOptions::default() };
        // Both ends of a share are on the axis: a dip of a thousandth is none.
        let last = ctx.session.machine.len().saturating_sub(1) as f64;
        let end = |y: f64| Curve { listed: false, ..Curve::line("end", theme.card_border, vec![[0.0, y], [last, y]]) };
        let share = curve("processor", 0, |sample| sample.processor.map(|share| 100.0 * share));
        let processor = if share.line.is_empty() { vec![share] } else { vec![share, end(0.0), end(100.0)] };
        let memory = [
            curve("all programs", 1, |sample| sample.memory.map(|bytes| bytes as f64 / 1e9)),
            curve("this program", 2, |sample| sample.own_memory.map(|bytes| bytes as f64 / 1e9)),
            curve("this program, GPU", 3, |sample| sample.own_gpu_memory.map(|bytes| bytes as f64 / 1e9)),
        ];
        let plots: [(&str, &'static str, &[Curve], bool); 2] = [
            ("Processor, all cores (%)", "processor plot", &processor, false),
            ("Memory (GB)", "memory plot", &memory, true),
        ];
        ui.columns(2, |columns| {
            for (ui, (title, name, curves, legend)) in columns.iter_mut().zip(plots) {
                ui.label(egui::RichText::new(title).strong().small());
                if curves.iter().all(|curve| curve.line.is_empty()) {
                    cards::muted(ui, theme, "Not known here");
                    continue;
                }
                metric_plot::ui(ui, theme, name, curves, &[], &PlotOptions { title, legend, ..options });
            }
        });
    });
}

fn figures_ui(ctx: &PanelCtx<'_>, last: &MachineSample, ui: &mut Ui) {
    let unknown = || "not known here".to_owned();
    let bytes = |bytes: Option<u64>| bytes.map_or_else(unknown, format::bytes);
    let used = match (last.memory, last.memory_total) {
        (Some(used), Some(total)) => format!("{} of {}", format::bytes(used), format::bytes(total)),
        _ => unknown(),
    };
    let figures = [
        ("Processor", last.processor.map_or_else(unknown, format::percent), "All cores together"),
        ("Memory in use", used, "By all programs"),
        ("This program", bytes(last.own_memory), "Memory of this process"),
        (
            "GPU memory",
            last.own_gpu_memory.map_or_else(|| "no GPU in use".to_owned(), format::bytes),
            "Held by this program on the GPU that it computes on; drivers give no common answer about other programs",
        ),
    ];
    cards::figures(ui, ctx.theme, &figures);
}
