//! Comparison of three averages of the experts.

use crate::app::actions::Action;
use crate::app::names;
use crate::app::panel_ctx::PanelCtx;
use crate::app::tables;
use crate::app::theme::Theme;
use crate::app::weights_line;
use crate::app::widgets::column_plot::{self, ColumnSeries};
use crate::app::widgets::export_menu;
use crate::app::widgets::listing::{self, Column};
use crate::app::widgets::verdict::{self, Verdict};
use crate::app::widgets::{cards, labeled, with_tip};
use crate::config::MixtureKind;
use crate::format;
use crate::protocol::{Average, AverageScore, AveragedSite, AveragesReport, ModelQuery, Study, Subject};
use egui::{RichText, Ui};

/// Draws the card; `all_modules`: the numbers of each module are shown.
pub fn ui(ctx: &PanelCtx<'_>, subject: &Subject, all_modules: &mut bool, ui: &mut Ui) {
    cards::card(ui, ctx.theme, "Three averages", |ui| {
        let query = &ctx.session.studies.averages;
        let words = "AdaMix averages the experts' factors: exactly the mean over all M² pairs that independent draws make. Here \
                     beside the average of the M products of equal index (deltas) and of their answers (outputs).";
        cards::caption(ui, ctx.theme, words);
        ctx.job_ui(ui, Action::Query(subject.clone(), ModelQuery::Study(Study::Averages)), query, "averaging");
        if let Some(report) = &query.value {
            weights_line::answer_ui(ctx, ui, query.weights);
            report_ui(ctx.theme, report, all_modules, ui);
        }
        cards::explanation(ui, ctx.theme, "What averaging factors averages", &EXPLANATION);
    });
}

fn report_ui(theme: &Theme, report: &AveragesReport, all_modules: &mut bool, ui: &mut Ui) {
    let (verdict, words) = verdict_text(report);
    verdict::line(ui, theme, verdict, &words);
    ui.add_space(2.0);
    ways_ui(theme, report, ui);
    if let Some(why) = &report.without_deltas {
        ui.add_space(2.0);
        cards::muted(ui, theme, why);
    }
    if report.sites.is_empty() {
        return;
    }
    if !report.shared {
        ui.add_space(4.0);
        plot_ui(theme, report, ui);
    }
    labeled::toggle(ui, "Numbers of each module", "Norms, difference and rank of each averaged module", all_modules);
    if *all_modules {
        modules_ui(&report.sites, ui);
    }
}

pub fn verdict_text(report: &AveragesReport) -> (Verdict, String) {
    let sign = if report.higher_is_better { 1.0 } else { -1.0 };
    let metric = names::metric(&report.metric).to_lowercase();
    let merged = report.way(Average::Factors).map_or(f64::NAN, |way| way.scores.primary);
    let against = |average| report.way(average).map_or(0.0, |other| sign * (other.scores.primary - merged));
    // Of the same rows: whether it is shown, not whether two standard errors of one score are apart.
    let shown = |average| {
        let paired = report.way(average).and_then(|way| way.paired);
        paired.is_some_and(|paired| paired.primary.is_shown())
    };
    let words = |average| match against(average) {
        0.0 => format!("just as good in {metric}"),
        d => {
            let side = if d > 0.0 { "better" } else { "worse" };
            let tail = if shown(average) { "" } else { " (no difference shown)" };
            format!("{} {side} in {metric}{tail}", format::metric(d.abs()))
        }
    };
    let ensemble = format!("the ensemble of {} passes is {}", report.experts, words(Average::Outputs));
    if report.kind == MixtureKind::Adapter {
        return (Verdict::Open, format!("Adapters have factors and outputs only; {ensemble}."));
    }
    if report.shared {
        let words = format!("One side is shared, so that factors and deltas are exactly the same module; {ensemble}.");
        return (Verdict::Passed, words);
    }
    let gain = against(Average::Deltas);
    let words = if report.tied {
        format!(
            "One draw decided both sides, so that the {} products of equal index (deltas) were trained. Averaging factors misses \
             their mean by {} of its norm (mean over the modules); the mean delta itself is {}, {ensemble}.",
            report.experts,
            format::percent(mean(&report.sites, |site| site.off)),
            words(Average::Deltas)
        )
    } else {
        let others = |end: usize| mean(&report.sites, |site| site.other_parts().map_or(f64::NAN, |ends| ends[end]));
        format!(
            "Averaging factors is exactly the mean over all {} products that were trained. The {} of equal index (deltas) are an \
             arbitrary part, {} of its norm away, as other parts are ({} to {}, means over the modules); this part is {}, {ensemble}.",
            report.experts * report.experts,
            report.experts,
            format::percent(mean(&report.sites, |site| site.parts.first().copied().unwrap_or(f64::NAN))),
            format::percent(others(0)),
            format::percent(others(1)),
            words(Average::Deltas)
        )
    };
    (if gain > 0.0 && shown(Average::Deltas) { Verdict::Unsure } else { Verdict::Passed }, words)
}

fn mean(sites: &[AveragedSite], value: impl Fn(&AveragedSite) -> f64) -> f64 {
    sites.iter().map(value).sum::<f64>() / sites.len().max(1) as f64
}

fn way_tip(average: Average) -> &'static str {
    match average {
        Average::Factors => {
            "The mean of A and the mean of B, one module of rank r: what AdaMix merges, and exactly the mean over all M² products"
        }
        Average::Deltas => "The mean of the M products B_j A_j of equal index, which keeps up to M times the rank",
        Average::Truncated => "The nearest module of rank r to the mean of the products of equal index",
        Average::Outputs => {
            "The mean of the probabilities of M models, each with one expert in all modules: no single model"
        }
    }
}

fn ways_ui(theme: &Theme, report: &AveragesReport, ui: &mut Ui) {
    let factors = report.way(Average::Factors).map_or(f64::NAN, |way| way.scores.primary);
    type Way<'a> = Column<'a, AverageScore>;
    let mut columns = vec![
        Way::new("Averaged", "What is averaged over the experts", |ui, way| {
            ui.label(way.average.words()).on_hover_text(way_tip(way.average))
        }),
        Way::number(names::metric(&report.metric), "The deciding metric on all evaluation rows", |way| {
            format::metric(way.scores.primary)
        }),
        Way::new("vs factors", "Difference to AdaMix's merge in the deciding metric, on the same rows", |ui, way| {
            let text = match way.average {
                Average::Factors => String::new(),
                _ => format!("{:+.4}", way.scores.primary - factors),
            };
            let paired = way.paired.map_or_else(String::new, |paired| {
                format!("95 % interval on the same rows (paired bootstrap): {}", paired.primary.describe())
            });
            with_tip(ui.monospace(text), &paired)
        }),
        Way::number("Loss", "On all evaluation rows", |way| format::metric(way.scores.loss)),
        Way::number("Parameters", "Adapter parameters that have to be kept; of deltas at their rank", |way| {
            format::count(way.parameters)
        }),
        Way::number("Passes", "How often the model runs for one answer", |way| way.forwards.to_string()),
        Way::new("KL to ensemble", "Mean over the probe rows of KL(ensemble, this), in nats", |ui, way| {
            let Some(from) = way.from_outputs else { return ui.label("") };
            let what = if from.kl.is_some() { "probability" } else { "value" };
            let tip = format!("Largest difference of a {what}: {}", format::significant(from.largest, 3));
            ui.monospace(from.kl.map_or_else(|| "-".to_owned(), |kl| format::significant(kl, 3))).on_hover_text(tip)
        }),
        Way::number("Changed", "Probe rows whose likeliest answer is another one than the ensemble's", |way| match way
            .from_outputs
        {
            None => String::new(),
            Some(from) if from.kl.is_none() => "-".to_owned(),
            Some(from) => format!("{} of {}", from.changed, report.probe_rows),
        }),
    ];
    if report.metric == "loss" {
        columns.remove(3);
    }
    listing::grid(ui, "averages", columns, &report.ways);
    export_menu::table(ui, "averages table", || tables::averages(&report.ways, &report.metric));
    cards::caption(ui, theme, names::study(report.rows, report.probe_rows, report.seconds));
}

/// Distance of factors, and of rank r, from the mean delta, module by module.
fn plot_ui(theme: &Theme, report: &AveragesReport, ui: &mut Ui) {
    let sites = &report.sites;
    if !report.tied {
        return parts_ui(theme, sites, ui);
    }
    ui.label(RichText::new("How far each module is from the mean delta").strong());
    let names: Vec<(String, String)> =
        sites.iter().enumerate().map(|(i, site)| (i.to_string(), names::module(&site.name))).collect();
    let series = |name: &str, color: usize, value: fn(&AveragedSite) -> f64| {
        let values = sites.iter().map(|site| 100.0 * value(site)).collect();
        ColumnSeries { name: name.to_owned(), color: theme.series(color), values }
    };
    let series = [series("factors", 0, |site| site.off), series("the best of rank r", 1, |site| site.truncated_off)];
    let value = |percent: f64| format!("{} %", format::significant(percent, 3));
    column_plot::ui(ui, theme, "Distance from the mean delta, module by module", &names, &series, value);
    let words = format!(
        "Per cent of the mean delta's norm; modules in the order of the model. Of the average of the factors, {} is due to \
         pairs of different experts, which do not occur in the mean delta.",
        format::percent(mean(sites, |site| site.crossed))
    );
    cards::caption(ui, theme, words);
}

/// Distance of parts of M pairs from the mean over all pairs, module by module.
fn parts_ui(theme: &Theme, sites: &[AveragedSite], ui: &mut Ui) {
    ui.label(RichText::new("How far parts of M products are from the mean over all").strong());
    let names: Vec<(String, String)> =
        sites.iter().enumerate().map(|(i, site)| (i.to_string(), names::module(&site.name))).collect();
    let series = |name: &str, color: usize, value: fn(&AveragedSite) -> f64| {
        let values = sites.iter().map(|site| 100.0 * value(site)).collect();
        ColumnSeries { name: name.to_owned(), color: theme.series(color), values }
    };
    let series = [
        series("equal index", 0, |site| site.parts.first().copied().unwrap_or(0.0)),
        series("nearest other part", 1, |site| site.other_parts().map_or(0.0, |ends| ends[0])),
        series("farthest other part", 2, |site| site.other_parts().map_or(0.0, |ends| ends[1])),
    ];
    let value = |percent: f64| format!("{} %", format::significant(percent, 3));
    column_plot::ui(ui, theme, "Distance from the mean over all pairs, module by module", &names, &series, value);
    let words = format!(
        "Per cent of the norm of the mean over all pairs; modules in the order of the model. Part s has B_(j + s) A_j for all j. The \
         mean of all parts is the product of the means: computed, it is {} of its norm away, which is rounding.",
        format::scientific(mean(sites, |site| site.all_pairs))
    );
    cards::caption(ui, theme, words);
}

fn modules_ui(sites: &[AveragedSite], ui: &mut Ui) {
    type Module<'a> = Column<'a, AveragedSite>;
    let change = |from: usize, to: usize| [from, to].map(|n| format::short_count(n as f64)).join(" → ");
    let columns = vec![
        Module::new("Module", "", |ui, site| ui.label(names::module(&site.name)).on_hover_text(&site.name)).rest(150.0),
        Module::number("|factors|", "", |site| format::significant(site.factors_norm, 3)).exact(78.0),
        Module::number("|deltas|", "", |site| format::significant(site.deltas_norm, 3)).exact(78.0),
        Module::number("Distance", "", |site| format::percent(site.off)).exact(78.0),
        Module::number("Cross terms", "", |site| format::percent(site.crossed)).exact(84.0),
        Module::number("Rank", "", |site| format!("{} → {}", site.rank, site.deltas_rank)).exact(64.0),
        Module::number("Parameters", "", |site| change(site.parameters, site.deltas_parameters)).exact(128.0),
    ];
    listing::numbers(ui, "averaged modules", 220.0, columns, sites);
    export_menu::table(ui, "averaged modules table", || tables::averaged_sites(sites));
}

const EXPLANATION: [&str; 5] = [
    "What expert j of A and expert k of B add to a weight is the product B_k A_j. Averaging factors multiplies two means: \
     mean(B) mean(A) = (1/M²) times the sum of all M² products. That is an identity, no approximation.",
    "In training AdaMix draws A and B independently, so that all M² pairs are trained: the product of the means is exactly the \
     mean over all that can be drawn. The mean delta has only the M pairs of equal index, an arbitrary part: B_(j+1) with A_j \
     would be another one, as good, and the mean over all M such parts is the product of the means again.",
    "It is the other way round where the two sides of an expert always run together: routing round-robin or fixed, or experts \
     that were trained one by one and imported. Then the M pairs of equal index are what was trained, and the product of the \
     means brings in M² - M pairs that never ran.",
    "Both are the same where one side is shared: with one B for all, the mean of B A_j is B mean(A) exactly, and the rank \
     stays r. The mean delta has a rank up to M r: as a module it needs M times the parameters; truncated to rank r it is the \
     nearest module of AdaMix's size, but not the one AdaMix makes.",
    "Averaging outputs runs M models; above the first module they differ in everything that follows, so that no single set of \
     weights gives it. For adapters only the nonlinearity stands between the mean of factors and the mean over all pairs: \
     mean(U) times the mean of the experts' hidden values.",
];
