//! Two ways of running the model, row by row: which rows they answer differently.

use super::{calibration, confusion, slices, table};
use crate::analysis::paired::RESAMPLES;
use crate::app::actions::Action;
use crate::app::names;
use crate::app::panel_ctx::PanelCtx;
use crate::app::run_view::RunView;
use crate::app::theme::Theme;
use crate::app::weights_line;
use crate::app::widgets::listing::{self, Column};
use crate::app::widgets::verdict::{self, Verdict};
use crate::app::widgets::{cards, export_menu, labeled};
use crate::config::{Method, choice_name};
use crate::format;
use crate::protocol::{
    Checkpoint, KnownAnswer, ModelQuery, Residuals, RowEntry, RowSlice, RowsPlan, RowsReport, SliceBy, Study, Subject,
    Way, WayCost, WayRows,
};
use egui::{RichText, Ui};

/// Rows on a page.
const PAGE: usize = 12;
/// Of checkpoints, other runs and routes at most so many are offered.
const OFFERED: usize = 8;

/// Which part of a report is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Part {
    #[default]
    Rows,
    Confusion,
    Calibration,
    Slices,
}

/// Which rows are listed, by their answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Answered {
    All,
    #[default]
    Differently,
    OnlyFirst,
    OnlySecond,
}

/// What is asked and what is listed.
#[derive(Default)]
pub struct RowsForm {
    first: Way,
    /// Absent until it is chosen.
    second: Option<Way>,
    rows: usize,
    part: Part,
    answered: Answered,
    class: Option<usize>,
    /// Index of a slice by length.
    length: Option<usize>,
    page: usize,
}

impl RowsForm {
    /// Draws the card; `routes`: of the ensemble that is offered.
    pub fn ui(&mut self, ctx: &PanelCtx<'_>, run: &RunView, subject: &Subject, routes: usize, ui: &mut Ui) {
        cards::card(ui, ctx.theme, "Rows answered differently", |ui| {
            let words = "Two ways of running the model on the same evaluation rows, row by row: which rows each has right, how \
                         sure it is, where they differ, and whether that is more than chance.";
            cards::caption(ui, ctx.theme, words);
            let plan = self.ask_ui(ctx, run, routes, ui);
            let query = &ctx.session.studies.rows;
            let rows = if plan.rows == 0 { run.start.eval_rows } else { plan.rows.min(run.start.eval_rows) };
            let cost = format!(
                "It takes {} passes over {}, and {} resamples of them.",
                format::count(plan.forwards()),
                format::counted(rows, "row"),
                format::count(RESAMPLES)
            );
            cards::caption(ui, ctx.theme, cost);
            ctx.job_ui(
                ui,
                Action::Query(subject.clone(), ModelQuery::Study(Study::Rows(plan))),
                query,
                "measuring row by row",
            );
            if let Some(report) = &query.value {
                weights_line::answer_ui(ctx, ui, query.weights);
                self.report_ui(ctx.theme, report, ui);
            }
            cards::explanation(ui, ctx.theme, "How to read intervals, p and calibration", &EXPLANATION);
        });
    }

    /// The choice of the two ways. -> what is asked
    fn ask_ui(&mut self, ctx: &PanelCtx<'_>, run: &RunView, routes: usize, ui: &mut Ui) -> RowsPlan {
        let options = offered(ctx, run, routes);
        let mixture = run.config.model.method == Method::Adamix && run.config.mixture.num_experts > 1;
        let usual = || if mixture { Way::Ensemble(routes) } else { Way::Base };
        let mut second = self.second.clone().unwrap_or_else(usual);
        labeled::choice(ui, "One way", "The way that differences are counted from", &mut self.first, &options);
        let tip = "The way that is compared with it. Another run has to be measured on the same rows";
        if labeled::choice(ui, "Against", tip, &mut second, &options).changed() {
            self.second = Some(second.clone());
        }
        let tip = "Evaluation rows, evenly spread over all of them";
        labeled::number_or(ui, "Rows measured", tip, "all", &mut self.rows, 0..=10_000_000, 1.0);
        RowsPlan { first: self.first.clone(), second, rows: self.rows, dev_file: None }
    }

    fn report_ui(&mut self, theme: &Theme, report: &RowsReport, ui: &mut Ui) {
        // A difference is neither good nor bad by itself.
        verdict::line(ui, theme, Verdict::Open, &report.verdict());
        if report.difference.loss.is_shown() && !report.difference.primary.is_shown() {
            let words = "The loss shows a difference and the metric does not: how sure the answers are has changed, or as many became right as wrong.";
            cards::caption(ui, theme, words);
        }
        ui.add_space(4.0);
        ways_ui(theme, report, ui);
        let classes = report.flips.is_some();
        ui.add_space(4.0);
        ui.horizontal_wrapped(|ui| {
            let parts = [
                (Part::Rows, "Rows", "The rows themselves, the largest difference of the losses first"),
                (Part::Confusion, "Confusion", "How often each class is taken for which"),
                (Part::Calibration, "Calibration", "Whether each way knows how sure it may be"),
                (Part::Slices, "Slices", "By right answer and by length"),
            ];
            let of_classes = |part: Part| matches!(part, Part::Confusion | Part::Calibration);
            for (part, name, tip) in parts.into_iter().filter(|(part, ..)| classes || !of_classes(*part)) {
                ui.selectable_value(&mut self.part, part, name).on_hover_text(tip);
            }
        });
        ui.separator();
        match self.part {
            Part::Confusion if classes => confusion::ui(theme, report, ui),
            Part::Calibration if classes => calibration::ui(theme, report, ui),
            Part::Slices => slices::ui(theme, report, ui),
            _ => self.rows_ui(theme, report, ui),
        }
    }

    fn rows_ui(&mut self, theme: &Theme, report: &RowsReport, ui: &mut Ui) {
        if report.flips.is_some() {
            let [first, second] = [0, 1].map(|way| format!("only {} is right", report.ways[way].name.to_lowercase()));
            let options = [
                (Answered::All, "all rows".to_owned()),
                (Answered::Differently, "answered differently".to_owned()),
                (Answered::OnlyFirst, first),
                (Answered::OnlySecond, second),
            ];
            let tip = "Which rows are listed, by both answers";
            if labeled::choice(ui, "Answers", tip, &mut self.answered, &options).changed() {
                self.page = 0;
            }
            let mut options = vec![(None, "any".to_owned())];
            options.extend(report.labels.iter().enumerate().map(|(class, label)| (Some(class), label.clone())));
            if labeled::choice(ui, "Right class", "Rows of this class only", &mut self.class, &options).changed() {
                self.page = 0;
            }
        }
        let lengths: Vec<&str> = lengths(report).map(|slice| slice.name.as_str()).collect();
        let mut options = vec![(None, "any")];
        options.extend(lengths.iter().enumerate().map(|(bin, name)| (Some(bin), *name)));
        if labeled::choice(ui, "Length", "Rows of this length only", &mut self.length, &options).changed() {
            self.page = 0;
        }
        let listed: Vec<&RowEntry> = report.entries.iter().filter(|entry| self.lists(report, entry)).collect();
        let pages = listed.len().div_ceil(PAGE).max(1);
        self.page = self.page.min(pages - 1);
        let start = self.page * PAGE;
        let page = &listed[start..listed.len().min(start + PAGE)];
        ui.horizontal_wrapped(|ui| {
            let step = |ui: &mut Ui, enabled: bool, name: &str, why: &str| {
                let button = ui.add_enabled(enabled, egui::Button::new(name).small());
                button.on_hover_text("Turns the page").on_disabled_hover_text(why).clicked()
            };
            if step(ui, self.page > 0, "◀ Previous rows", "This is the first page") {
                self.page -= 1;
            }
            if step(ui, self.page + 1 < pages, "Next rows ▶", "This is the last page") {
                self.page += 1;
            }
            let words = match page.len() {
                0 => "No row is like this; choose all rows to see the others".to_owned(),
                n => format!(
                    "rows {} to {} of {}, the largest difference of the losses first",
                    format::count(start + 1),
                    format::count(start + n),
                    format::count(listed.len())
                ),
            };
            ui.label(RichText::new(words).small().color(theme.muted));
        });
        if !page.is_empty() {
            list_ui(theme, report, page, ui);
            export_menu::table(ui, "rows answered differently table", || report.table(listed.iter().copied()));
        }
    }

    /// Whether a row is listed.
    fn lists(&self, report: &RowsReport, entry: &RowEntry) -> bool {
        let right = |way: usize| entry.answers[way].class().map(KnownAnswer::Class) == entry.label;
        let by_answer = match self.answered {
            _ if report.flips.is_none() => true,
            Answered::All => true,
            Answered::Differently => entry.differs(),
            Answered::OnlyFirst => right(0) && !right(1),
            Answered::OnlySecond => right(1) && !right(0),
        };
        let by_class = self.class.is_none_or(|class| entry.label == Some(KnownAnswer::Class(class)));
        let bin = self.length.and_then(|bin| lengths(report).nth(bin));
        by_answer && by_class && bin.is_none_or(|bin| bin.holds(entry.tokens as f64))
    }
}

fn lengths(report: &RowsReport) -> impl Iterator<Item = &RowSlice> {
    report.slices.iter().filter(|slice| slice.by == SliceBy::Length)
}

/// The ways that can be chosen, with their names.
fn offered(ctx: &PanelCtx<'_>, run: &RunView, routes: usize) -> Vec<(Way, String)> {
    let mut ways = vec![Way::Merged];
    if run.config.model.method == Method::Adamix && run.config.mixture.num_experts > 1 {
        ways.push(Way::Ensemble(routes));
        ways.extend((0..run.config.mixture.num_experts).map(Way::Expert));
        ways.extend((1..=routes.min(OFFERED)).map(Way::Route));
    }
    ways.push(Way::Base);
    let steps = run.checkpoints.steps.iter().rev().take(OFFERED);
    ways.extend(steps.map(|&step| Way::Checkpoint(Checkpoint::Step(step))));
    let mut named: Vec<(Way, String)> = ways.into_iter().map(|way| (way.clone(), way.name())).collect();
    let task = choice_name(run.config.data.task);
    let runs = ctx.session.runs.value.iter().flatten();
    let same = runs.filter(|other| other.dir != run.dir && other.task == task && other.step > 0);
    named.extend(same.take(OFFERED).map(|other| {
        let name = format!("Run {}", format::ellipsis(other.title(), 28));
        (Way::Run(other.dir.clone()), name)
    }));
    named
}

/// Scores, costs and times of both ways.
fn ways_ui(theme: &Theme, report: &RowsReport, ui: &mut Ui) {
    type Row<'a> = Column<'a, WayRows>;
    let seconds = report.ways[0].seconds;
    let classes = report.flips.is_some();
    let mut columns = vec![
        Row::new("Way", "", |ui, way| ui.label(&way.name)),
        Row::number(names::metric(&report.metric), "The deciding metric", |way| format::metric(way.scores.primary)),
    ];
    if report.metric != "accuracy" && classes {
        columns.push(Row::number("Accuracy", "", |way| {
            way.scores.accuracy.map_or_else(|| "-".to_owned(), format::metric)
        }));
    }
    if report.metric != "loss" {
        columns.push(Row::number("Loss", "", |way| format::metric(way.scores.loss)));
    }
    if report.ways[0].scores.token_accuracy.is_some() {
        columns.push(Row::number("Perplexity", "", |way| {
            way.scores.perplexity.map_or_else(|| "-".to_owned(), format::metric)
        }));
        columns.push(Row::number("Next token", "", |way| {
            way.scores.token_accuracy.map_or_else(|| "-".to_owned(), format::metric)
        }));
    }
    columns
        .push(Row::number("Rows ahead", "Rows on which its loss is the smaller one", |way| format::count(way.ahead)));
    let cost = |way: &WayRows, of: fn(WayCost) -> usize| {
        way.cost.map_or_else(|| "-".to_owned(), |cost| format::short_count(of(cost) as f64))
    };
    columns.push(Row::number("Parameters", "Values kept beside base model and head", move |way| {
        cost(way, |cost| cost.parameters)
    }));
    columns.push(Row::number("Passes", "How often the model runs for one answer", move |way| {
        cost(way, |cost| cost.forwards)
    }));
    columns.push(Row::number("Multiply-adds", "For each token, with the weights of the layers", move |way| {
        cost(way, |cost| cost.multiply_adds)
    }));
    let tip = "Measured for all rows in one run, one way after the other, after a first batch that is not counted; in brackets as a \
               multiple of the first way's. A single measurement";
    columns.push(Row::number("Time", tip, move |way| {
        let ratio = if seconds > 0.0 { format!(" (×{:.2})", way.seconds / seconds) } else { String::new() };
        format!("{}{ratio}", format::duration(way.seconds))
    }));
    listing::grid(ui, "two ways", columns, &report.ways);
    let rows = if report.rows < report.of {
        format!("{} of {} rows, evenly spread", format::count(report.rows), format::count(report.of))
    } else {
        format::counted(report.rows, "row")
    };
    let words = format!(
        "{rows}; intervals by paired bootstrap, B = {}; {}.",
        format::count(report.resamples),
        format::duration(report.seconds)
    );
    cards::caption(ui, theme, words);
    if let Some(residuals) = report.ways.iter().map(|way| way.residuals.as_ref()).collect::<Option<Vec<_>>>() {
        type Row<'a, 'b> = Column<'a, (&'b str, &'b Residuals)>;
        let small = |value: f64| format::significant(value, 3);
        let columns = vec![
            Row::new("Residuals", "Predicted less right values", |ui, (name, _)| ui.label(*name)),
            Row::number("Mean", "Above 0 the values are too large", move |(_, r)| small(r.mean)),
            Row::number("Standard deviation", "", move |(_, r)| small(r.sd)),
            Row::number("Mean size", "", move |(_, r)| small(r.mean_abs)),
            Row::number("5, 25, 50, 75, 95 %", "Where so many of 100 lie below", move |(_, r)| {
                r.quantiles.map(small).join("  ")
            }),
        ];
        let rows: Vec<(&str, &Residuals)> = report.ways.iter().map(|way| way.name.as_str()).zip(residuals).collect();
        listing::grid(ui, "residuals", columns, &rows);
    }
}

/// Narrower than this, each row is written in lines instead of columns.
const COLUMNS_FROM: f32 = 600.0;

fn list_ui(theme: &Theme, report: &RowsReport, page: &[&RowEntry], ui: &mut Ui) {
    if ui.available_width() < COLUMNS_FROM {
        return lines_ui(theme, report, page, ui);
    }
    type Row<'a, 'b> = Column<'a, &'b RowEntry>;
    let answer = |way: usize| move |ui: &mut Ui, entry: &&RowEntry| answer_ui(theme, report, entry, (way, ""), ui);
    let [first, second] = [0, 1].map(|way| report.ways[way].name.as_str());
    let mut columns = vec![
        Row::number("Row", "Its number among the evaluation rows", |entry| format::count(entry.row + 1)).exact(40.0),
        Row::new("Loss apart", LOSS_APART, |ui, entry| table::plain_difference(ui, entry.difference())).exact(70.0),
    ];
    if report.entries.iter().any(|entry| entry.label.is_some()) {
        let truth = |ui: &mut Ui, entry: &&RowEntry| ui.add(egui::Label::new(report.truth(entry)).truncate());
        columns.push(Row::new("Right", "The answer of the data", truth).exact(66.0));
    }
    columns.push(Row::new(first, ANSWER, answer(0)).exact(104.0));
    columns.push(Row::new(second, ANSWER, answer(1)).exact(104.0));
    columns.push(Row::number("Tokens", "Of texts: learned ones", |entry| format::count(entry.tokens)).exact(46.0));
    let text = |ui: &mut Ui, entry: &&RowEntry| {
        let whole = whole(entry);
        let line = whole.split_whitespace().collect::<Vec<_>>().join(" ");
        ui.add(egui::Label::new(line).truncate()).on_hover_text(whole);
    };
    columns.push(Row::new("Text", "The whole text is under the pointer", text).rest(120.0));
    listing::numbers(ui, "rows apart", 24.0 * (PAGE + 1) as f32, columns, page);
}

const LOSS_APART: &str = "The loss of the second way less that of the first";
const ANSWER: &str = "What this way answers, with the probability; = is the right answer, ≠ another";

/// Each row in two lines: what is known of it, and its text.
fn lines_ui(theme: &Theme, report: &RowsReport, page: &[&RowEntry], ui: &mut Ui) {
    for entry in page {
        ui.horizontal_wrapped(|ui| {
            ui.label(RichText::new(format!("Row {}", format::count(entry.row + 1))).strong());
            table::plain_difference(ui, entry.difference()).on_hover_text(LOSS_APART);
            if entry.label.is_some() {
                ui.label(RichText::new(format!("right: {}", report.truth(entry))).color(theme.muted));
            }
            for (way, row) in report.ways.iter().enumerate() {
                answer_ui(theme, report, entry, (way, &format!("{}: ", row.name)), ui);
            }
        });
        ui.add(egui::Label::new(whole(entry)).wrap());
        ui.add_space(4.0);
    }
}

/// The text, with the second one or the answer that is learned.
fn whole(entry: &RowEntry) -> String {
    match &entry.pair {
        Some(pair) => format!("{} → {pair}", entry.text),
        None => entry.text.clone(),
    }
}

/// What a way answers, behind its `name`.
fn answer_ui(theme: &Theme, report: &RowsReport, entry: &RowEntry, (way, name): (usize, &str), ui: &mut Ui) {
    let right = match (entry.label, entry.answers[way].class()) {
        (Some(KnownAnswer::Class(label)), Some(class)) => Some(label == class),
        _ => None,
    };
    let (mark, color) = match right {
        Some(true) => ("= ", theme.ok),
        Some(false) => ("≠ ", theme.error),
        None => ("", ui.visuals().text_color()),
    };
    let text = format!("{name}{mark}{}", report.answer(entry, way));
    let tip = format!("Loss {}", format::significant(entry.losses[way], 4));
    ui.add(egui::Label::new(RichText::new(text).color(color)).truncate()).on_hover_text(tip);
}

const EXPLANATION: [&str; 6] = [
    "Both ways see the same rows, so that what counts is the difference on each row. The interval is a paired bootstrap: the rows are \
     drawn again with replacement, B times, the same ones for both ways; 95 of 100 of the differences lie inside. Where 0 is \
     inside, no difference is shown. It says what other rows of the same kind would give, not what another training would.",
    "McNemar's test looks at the rows that only one of the two has right. If neither is better, each of them is a fair coin; p is how \
     often coins are as uneven as this.",
    "Accuracy turns over only where a probability crosses the middle, the loss sees every change: they can disagree. Both are said.",
    "Of many slices one is always far off by chance. Their p is adjusted for all slices after Holm.",
    "Calibration: of the rows a model is 80 % sure of, 80 % should be right. ECE is the mean gap over ten equal bins of confidence, \
     weighted by their rows; Brier the mean squared error of all probabilities, 0 to 2.",
    "Risk and coverage: answer only the rows the model is surest of, and see how many of those answers are wrong. AURC is the mean of \
     that risk over all coverages; less is better.",
];
