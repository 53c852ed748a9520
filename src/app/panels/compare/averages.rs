//! Comparison of three averages of the experts.

use crate::app::actions::Action;
use crate::app::names;
use crate::app::panel_ctx::PanelCtx;
use crate::app::theme::Theme;
use crate::app::widgets::column_plot::{self, ColumnSeries};
use crate::app::widgets::listing::{self, Heading};
use crate::app::widgets::verdict::{self, Verdict};
use crate::app::widgets::{cards, labeled};
use crate::config::MixtureKind;
use crate::format;
use crate::protocol::{Average, AverageScore, AveragedSite, AveragesReport, Study, Subject};
use egui::{RichText, Ui};

/// What the card remembers on screen.
#[derive(Default)]
pub struct AveragesForm {
    all_sites: bool,
}

impl AveragesForm {
    /// Draws the card.
    pub fn ui(&mut self, ctx: &PanelCtx<'_>, subject: &Subject, ui: &mut Ui) {
        cards::card(ui, ctx.theme, "Three averages", |ui| {
            let query = &ctx.session.averages;
            let words = "AdaMix averages the experts' factors; here beside the average of their products (deltas) \
                         and of their answers (outputs), which are not the same.";
            cards::caption(ui, ctx.theme, words);
            ui.horizontal_wrapped(|ui| {
                ctx.button(ui, Action::Study(subject.clone(), Study::Averages));
                ctx.pending_ui(ui, query, "averaging");
            });
            ctx.error_ui(ui, query);
            if let Some(report) = &query.value {
                self.report_ui(ctx.theme, report, ui);
            }
            let title = "Why averaging factors is not averaging deltas";
            cards::explanation(ui, ctx.theme, "averages explanation", title, &EXPLANATION);
        });
    }

    fn report_ui(&mut self, theme: &Theme, report: &AveragesReport, ui: &mut Ui) {
        let (verdict, words) = verdict_words(report);
        verdict::line(ui, theme, verdict, &words);
        ui.add_space(2.0);
        ways_ui(theme, report, ui);
        if let Some(words) = &report.without_deltas {
            ui.add_space(2.0);
            ui.add(egui::Label::new(RichText::new(words).color(theme.muted)).wrap());
        }
        if !report.sites.is_empty() && !report.shared {
            ui.add_space(4.0);
            plot_ui(theme, &report.sites, ui);
        }
        if !report.sites.is_empty() {
            let tip = "Norms, difference and rank of each averaged module";
            labeled::toggle(ui, "Numbers of each module", tip, &mut self.all_sites);
            if self.all_sites {
                sites_ui(&report.sites, ui);
            }
        }
    }
}

/// Two standard errors of the merged model's score; known only for a share of right answers.
fn noise(report: &AveragesReport) -> Option<f64> {
    let p = report.way(Average::Factors)?.scores.primary;
    let share = report.metric == "accuracy" && (0.0..=1.0).contains(&p) && report.rows > 0;
    share.then(|| 2.0 * (p * (1.0 - p) / report.rows as f64).sqrt())
}

/// The finding as a sentence.
pub fn verdict_words(report: &AveragesReport) -> (Verdict, String) {
    let sign = if report.higher_is_better { 1.0 } else { -1.0 };
    let metric = names::metric(&report.metric).to_lowercase();
    let against = |average| {
        let (other, factors) = (report.way(average)?, report.way(Average::Factors)?);
        Some(sign * (other.scores.primary - factors.scores.primary))
    };
    let chance = |difference: f64| noise(report).is_some_and(|noise| difference.abs() < noise);
    let words = |difference: f64| match difference {
        0.0 => format!("just as good in {metric}"),
        d => {
            let side = if d > 0.0 { "better" } else { "worse" };
            let tail = if chance(d) { " (may be chance)" } else { "" };
            format!("{} {side} in {metric}{tail}", format::metric(d.abs()))
        }
    };
    let outputs = against(Average::Outputs).unwrap_or(0.0);
    let ensemble = format!("the ensemble of {} passes is {}", report.experts, words(outputs));
    if report.kind == MixtureKind::Adapter {
        return (Verdict::Open, format!("Adapters have factors and outputs only; {ensemble}."));
    }
    if report.shared {
        let words = format!("One side is shared, so that factors and deltas are exactly the same module; {ensemble}.");
        return (Verdict::Passed, words);
    }
    let gain = against(Average::Deltas).unwrap_or(0.0);
    let words = format!(
        "Averaging factors misses the mean delta by {} of its norm (mean over the modules); the mean delta itself is {}, {ensemble}.",
        format::percent(mean(&report.sites, |site| site.off)),
        words(gain)
    );
    (if gain > 0.0 && !chance(gain) { Verdict::Unsure } else { Verdict::Passed }, words)
}

fn mean(sites: &[AveragedSite], value: impl Fn(&AveragedSite) -> f64) -> f64 {
    sites.iter().map(value).sum::<f64>() / sites.len().max(1) as f64
}

fn way_tip(average: Average) -> &'static str {
    match average {
        Average::Factors => "The mean of A and the mean of B, one module of rank r: what AdaMix merges",
        Average::Deltas => "The mean of the products B A, which keeps up to M times the rank",
        Average::Truncated => "The nearest module of rank r to the mean of the products",
        Average::Outputs => {
            "The mean of the probabilities of M models, each with one expert in all modules: no single model"
        }
    }
}

/// One way in each row.
fn ways_ui(theme: &Theme, report: &AveragesReport, ui: &mut Ui) {
    let factors = report.way(Average::Factors).map_or(f64::NAN, |way| way.scores.primary);
    let loss_decides = report.metric == "loss";
    let mut titles = vec![
        ("Averaged", "What is averaged over the experts"),
        (names::metric(&report.metric), "The deciding metric on all evaluation rows"),
        ("vs factors", "Difference to AdaMix's merge in the deciding metric"),
        ("Loss", "On all evaluation rows"),
        ("Parameters", "Adapter parameters that have to be kept; of deltas at their rank"),
        ("Passes", "How often the model runs for one answer"),
        ("KL to ensemble", "Mean over the probe rows of KL(ensemble, this), in nats"),
        ("Changed", "Probe rows whose likeliest answer is another one than the ensemble's"),
    ];
    if loss_decides {
        titles.remove(3);
    }
    listing::grid(ui, "averages", 14.0, &titles, |ui| {
        for way in &report.ways {
            ui.label(way.average.words()).on_hover_text(way_tip(way.average));
            ui.monospace(format::metric(way.scores.primary));
            if way.average == Average::Factors {
                ui.label("");
            } else {
                ui.monospace(format!("{:+.4}", way.scores.primary - factors));
            }
            if !loss_decides {
                ui.monospace(format::metric(way.scores.loss));
            }
            ui.monospace(format::count(way.parameters as u64));
            ui.monospace(way.forwards.to_string());
            from_outputs_ui(report, way, ui);
            ui.end_row();
        }
    });
    let words = format!(
        "{} evaluation rows, {} probe rows, {}.",
        format::count(report.rows as u64),
        format::count(report.probe_rows as u64),
        format::duration(report.seconds)
    );
    cards::caption(ui, theme, &words);
}

fn from_outputs_ui(report: &AveragesReport, way: &AverageScore, ui: &mut Ui) {
    let Some(from) = way.from_outputs else {
        ui.label("");
        ui.label("");
        return;
    };
    let (kl, what, changed) = match from.kl {
        Some(kl) => (format::significant(kl, 3), "probability", format!("{} of {}", from.changed, report.probe_rows)),
        None => ("-".to_owned(), "value", "-".to_owned()),
    };
    let tip = format!("Largest difference of a {what}: {}", format::significant(from.largest, 3));
    ui.monospace(kl).on_hover_text(tip);
    ui.monospace(changed);
}

/// Distance of factors, and of rank r, from the mean delta, module by module.
fn plot_ui(theme: &Theme, sites: &[AveragedSite], ui: &mut Ui) {
    ui.label(RichText::new("How far each module is from the mean delta").strong());
    let names: Vec<(String, String)> =
        sites.iter().enumerate().map(|(i, site)| (i.to_string(), names::whole_site(&site.name))).collect();
    let percent = |value: fn(&AveragedSite) -> f64| sites.iter().map(|site| 100.0 * value(site)).collect();
    let series = [
        ColumnSeries { name: "factors".to_owned(), color: theme.series(0), values: percent(|site| site.off) },
        ColumnSeries {
            name: "the best of rank r".to_owned(),
            color: theme.series(1),
            values: percent(|site| site.truncated_off),
        },
    ];
    let value = |percent: f64| format!("{} %", format::significant(percent, 3));
    column_plot::ui(ui, theme, "Distance from the mean delta, module by module", &names, &series, value);
    let words = format!(
        "Per cent of the mean delta's norm; modules in the order of the model. Of the average of the factors, {} is due to \
         pairs of different experts, which do not occur in the mean delta.",
        format::percent(mean(sites, |site| site.crossed))
    );
    cards::caption(ui, theme, &words);
}

fn sites_ui(sites: &[AveragedSite], ui: &mut Ui) {
    let headings = [
        Heading::rest("Module", "", 150.0),
        Heading::exact("|factors|", "", 78.0),
        Heading::exact("|deltas|", "", 78.0),
        Heading::exact("Off", "", 78.0),
        Heading::exact("Crossed", "", 78.0),
        Heading::exact("Rank", "", 64.0),
        Heading::exact("Parameters", "", 128.0),
    ];
    listing::numbers(ui, "averaged sites", &headings, 220.0, sites.len(), |mut row| {
        let site = &sites[row.index()];
        let [kept, all] = [site.parameters, site.deltas_parameters].map(|n| format::short_count(n as f64));
        let cells = [
            format::significant(site.factors_norm, 3),
            format::significant(site.deltas_norm, 3),
            format::percent(site.off),
            format::percent(site.crossed),
            format!("{} → {}", site.rank, site.deltas_rank),
            format!("{kept} → {all}"),
        ];
        row.col(|ui| drop(ui.label(names::whole_site(&site.name)).on_hover_text(&site.name)));
        for cell in cells {
            row.col(|ui| drop(ui.monospace(cell)));
        }
    });
}

/// Why averaging factors is not averaging deltas.
const EXPLANATION: [&str; 5] = [
    "What expert j adds to a weight is its product B_j A_j. Averaging factors multiplies two means: mean(B) mean(A) = \
     (1/M²) times the sum of all M² products B_k A_j, also those of different experts. The mean delta contains only the M \
     products of each expert with itself.",
    "In training AdaMix draws A and B independently, so that pairs of different experts are trained too: mean(B) mean(A) \
     is exactly the mean over all pairs that can be drawn. This is why it works although it is not the mean delta.",
    "Both are the same where one side is shared: with one B for all, the mean of B A_j is B mean(A) exactly, and the rank \
     stays r. They are also the same where all experts are equal.",
    "The mean delta has a rank up to M r: as a module it needs M times the parameters; added to the weights it costs \
     nothing. Truncated to rank r it is the nearest module of AdaMix's size, but not the one AdaMix makes.",
    "Averaging outputs runs M models. For a module without a nonlinearity it would be the mean delta; above the first \
     module the models differ in everything that follows, so that no single set of weights gives it.",
];
