//! The spread slider: experts moved from their mean, and what random routes and the merge make of it, as two curves.

use crate::app::actions::Action;
use crate::app::panel_ctx::PanelCtx;
use crate::app::theme::Theme;
use crate::app::weights_line;
use crate::app::widgets::dot_plot::ticks;
use crate::app::widgets::{canvas, cards, export_menu, labeled, legend, part};
use crate::figure::{Axis, Content, Curve, Figure, Lines};
use crate::format;
use crate::protocol::{ModelQuery, SpreadPlan, SpreadPoint, SpreadReport, Study, Subject};
use egui::{Align2, FontId, Rect, Stroke, Ui, pos2, vec2};

const TITLE: &str = "Spread of the experts";
const FIELD: f32 = 150.0;
const NUMBERS: f32 = 64.0;

/// The gap at a point.
type Gap = fn(&SpreadPoint) -> f64;

/// The curves.
const CURVES: [(&str, Gap); 2] =
    [("J: routes minus ensemble", |point| point.jensen), ("G: routes minus merged", |point| point.merging)];

/// The chosen factor and the number of routes.
pub struct SpreadForm {
    alpha: f64,
    routes: usize,
}

impl Default for SpreadForm {
    fn default() -> Self {
        Self { alpha: 1.0, routes: SpreadPlan::default().routes }
    }
}

impl SpreadForm {
    pub fn ui(&mut self, ctx: &PanelCtx<'_>, subject: &Subject, ui: &mut Ui) {
        let query = &ctx.session.studies.spread;
        cards::card(ui, ctx.theme, TITLE, |ui| {
            let words = "W_j(alpha) = mean + alpha (W_j - mean): the experts move from their mean, the merged model stays. \
                         J(alpha) is what an ensemble of routes gains over a route, G(alpha) what merging gains.";
            cards::caption(ui, ctx.theme, words);
            let tip = "Whole random routes at each factor, the same at all of them";
            labeled::number(ui, "Routes", tip, &mut self.routes, 1..=64, 0.1);
            let plan = SpreadPlan { routes: self.routes, ..SpreadPlan::default() };
            cards::caption(ui, ctx.theme, format!("{} passes over the evaluation rows.", plan.forwards()));
            let ask = Action::Query(subject.clone(), ModelQuery::Study(Study::Spread(plan)));
            ctx.job_ui(ui, ask, query, "moving the experts");
            if let Some(report) = &query.value {
                weights_line::answer_ui(ctx, ui, query.weights);
                self.report_ui(ctx.theme, report, ui);
            }
        });
    }

    fn report_ui(&mut self, theme: &Theme, report: &SpreadReport, ui: &mut Ui) {
        curves_ui(theme, report, self.alpha, ui);
        let slider = egui::Slider::new(&mut self.alpha, 0.0..=SpreadPlan::MOST).fixed_decimals(2).text("alpha");
        ui.add(slider)
            .on_hover_text("How far the experts are moved from their mean: 0 makes them one, 1 is the trained run");
        let near =
            |a: &&SpreadPoint, b: &&SpreadPoint| (a.alpha - self.alpha).abs().total_cmp(&(b.alpha - self.alpha).abs());
        if let Some(point) = report.points.iter().min_by(near) {
            ui.label(point_words(point, report));
        }
        let words = "At alpha 0 both are 0. For small alpha both grow with its square, as a second-order effect does. Losses in \
                     nats (of regression squared errors) on all evaluation rows; no dropout.";
        cards::caption(ui, theme, format!("{words} {}.", format::duration(report.seconds)));
    }
}

/// What was measured at one factor.
fn point_words(point: &SpreadPoint, report: &SpreadReport) -> String {
    format!(
        "At alpha {:.2}: J = {:+.4}, G = {:+.4}; mean route {:.4} (standard error {:.4}), ensemble {:.4}, merged {:.4}.",
        point.alpha,
        point.jensen,
        point.merging,
        point.routes,
        point.routes_standard_error,
        point.ensemble,
        report.merged
    )
}

fn curves_ui(theme: &Theme, report: &SpreadReport, alpha: f64, ui: &mut Ui) {
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing.x = 14.0;
        for (i, (name, _)) in CURVES.iter().enumerate() {
            legend::key(ui, theme, theme.series(i), name, if i == 0 { ", circles" } else { ", squares" });
        }
    });
    let width = ui.available_width().max(NUMBERS + 160.0);
    let (rect, response) = canvas(ui, vec2(width, FIELD + 26.0), egui::Role::Figure, "J and G over alpha");
    let field = Rect::from_min_size(rect.min + vec2(NUMBERS, 8.0), vec2(rect.width() - NUMBERS - 12.0, FIELD));
    let values = || report.points.iter().flat_map(|point| CURVES.map(|(_, gap)| gap(point))).filter(|v| v.is_finite());
    let (low, high) = values().fold((0.0f64, 0.0f64), |(low, high), value| (low.min(value), high.max(value)));
    let high = if high - low > 0.0 { high } else { 1e-4 };
    let y_of = |value: f64| field.bottom() - field.height() * ((value - low) / (high - low)) as f32;
    let x_of = |alpha: f64| field.left() + field.width() * (alpha / SpreadPlan::MOST) as f32;
    let (painter, small) = (ui.painter().clone(), FontId::proportional(11.0));
    for tick in ticks(low, high, 4) {
        let y = y_of(tick);
        painter.hline(field.x_range(), y, Stroke::new(1.0, theme.card_border));
        painter.text(pos2(field.left() - 5.0, y), Align2::RIGHT_CENTER, format::tick(tick), small.clone(), theme.muted);
    }
    for tick in ticks(0.0, SpreadPlan::MOST, 4) {
        let at = pos2(x_of(tick), field.bottom() + 4.0);
        painter.text(at, Align2::CENTER_TOP, format::tick(tick), small.clone(), theme.muted);
    }
    painter.hline(field.x_range(), y_of(0.0), Stroke::new(1.0, theme.muted));
    painter.vline(x_of(alpha), field.y_range(), Stroke::new(1.0, theme.muted));
    for (i, (name, gap)) in CURVES.iter().enumerate() {
        let points: Vec<egui::Pos2> = report.points.iter().map(|p| pos2(x_of(p.alpha), y_of(gap(p)))).collect();
        for pair in points.windows(2) {
            painter.line_segment([pair[0], pair[1]], Stroke::new(2.0, theme.series(i)));
        }
        for (point, at) in report.points.iter().zip(points) {
            let mark = Rect::from_center_size(at, vec2(8.0, 8.0));
            match i {
                0 => drop(painter.circle_filled(at, 4.0, theme.series(i))),
                _ => drop(painter.rect_filled(mark.shrink(0.5), 0.0, theme.series(i))),
            }
            let about = || format!("{name}, alpha {:.2}: {:+.4}", point.alpha, gap(point));
            part(ui, mark.expand(3.0), response.id.with((i, point.alpha.to_bits())), about);
        }
    }
    export_menu::corner(ui, rect, TITLE, &[], || (figure(theme, report), None));
}

/// The same as a figure.
fn figure(theme: &Theme, report: &SpreadReport) -> Figure {
    let curve = |(i, (name, gap)): (usize, &(&str, Gap))| Curve {
        name: (*name).to_owned(),
        color: theme.on_paper(theme.series(i)),
        points: report.points.iter().map(|point| [point.alpha, gap(point)]).collect(),
        ..Curve::default()
    };
    let lines = Lines {
        x: Axis { name: "alpha".to_owned(), ..Axis::default() },
        y: Axis { name: "nats".to_owned(), ..Axis::default() },
        curves: CURVES.iter().enumerate().map(curve).collect(),
        ..Lines::default()
    };
    Figure::new(TITLE, Content::Lines(lines))
}
