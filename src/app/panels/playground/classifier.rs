//! One text before a classifier or regressor, read again with every change: merged, experts, random routes, ensemble,
//! base model, and what each word does.

use super::{ways, words};
use crate::app::actions::Action;
use crate::app::panel_ctx::PanelCtx;
use crate::app::run_view::RunView;
use crate::app::widgets::{cards, labeled};
use crate::format;
use crate::protocol::{KnownAnswer, ModelQuery, RunPhase, Split, Subject, TryInput, TryPlan, TryReport};
use egui::Ui;
use std::path::PathBuf;
use std::time::Duration;

/// Seconds without a key until the text is read.
const PAUSE: f64 = 0.15;
/// Seconds between two readings while the run trains.
const FOLLOW: f64 = 1.0;
/// Random routes.
const ROUTES: usize = 16;

pub struct TryPanel {
    /// The text, and the second one of a pair.
    texts: [String; 2],
    /// Whether the task is about pairs.
    pairs: bool,
    /// The row that the texts are; absent: they were typed.
    row: Option<(Split, usize)>,
    /// The row chooser: rows of which split, and a number from 1.
    choice: (Split, usize),
    /// Seed of the random routes; absent: the run's.
    seed: Option<u64>,
    words: bool,
    follow: bool,
    /// The run that the rest is about.
    run: Option<PathBuf>,
    edited_at: Option<f64>,
    asked: Option<Asked>,
    asked_words: Option<(TryInput, u64)>,
    /// The routes on the screen, by whose they are and their seed, and when they began to fall.
    fall: Option<(PathBuf, u64, f64)>,
    all_classes: bool,
}

/// The newest question.
#[derive(Clone, PartialEq)]
struct Asked {
    subject: Subject,
    plan: TryPlan,
    /// Whether the run had ended: its weights are others then.
    ended: bool,
    at: f64,
}

impl Default for TryPanel {
    fn default() -> Self {
        Self {
            texts: Default::default(),
            pairs: false,
            row: Some((Split::Evaluation, 0)),
            choice: (Split::Evaluation, 1),
            seed: None,
            words: true,
            follow: false,
            run: None,
            edited_at: None,
            asked: None,
            asked_words: None,
            fall: None,
            all_classes: false,
        }
    }
}

impl TryPanel {
    pub fn ui(&mut self, ctx: &PanelCtx<'_>, ui: &mut Ui, run: &RunView) {
        let now = ui.input(|input| input.time);
        if self.run.as_ref() != Some(&run.dir) {
            // What was typed stays: it is read by another model now.
            let typed = self.row.is_none() && !self.texts[0].trim().is_empty();
            let texts = std::mem::take(&mut self.texts);
            *self = Self { run: Some(run.dir.clone()), ..Self::default() };
            if typed {
                (self.texts, self.row) = (texts, None);
            }
        }
        self.take_answer(ctx);
        cards::card(ui, ctx.theme, "Try it", |ui| {
            self.weights_ui(ctx, ui, run, now);
            self.text_ui(ui, now);
            self.rows_ui(ctx, ui);
        });
        self.ask(ctx, ui, run, now);
        ctx.error_ui(ui, &ctx.session.try_it);
        match &ctx.session.try_it.value {
            Some(report) => self.report_ui(ctx, ui, report, run, now),
            None if ctx.session.try_it.is_pending() => {
                cards::loading(ui, ctx.waiting_text("The model reads the text"), None);
            }
            None if ctx.session.try_it.error.is_none() => {
                cards::muted(ui, ctx.theme, "Type a text, or take a row of the data.");
            }
            None => {}
        }
    }

    /// The texts of a row come with its answer.
    fn take_answer(&mut self, ctx: &PanelCtx<'_>) {
        let Some(report) = &ctx.session.try_it.value else { return };
        self.pairs |= report.pair.is_some();
        if let (TryInput::Row { split, row }, Some(of)) = (&report.plan.input, self.row)
            && of == (*split, *row)
        {
            self.texts = [report.text.clone(), report.pair.clone().unwrap_or_default()];
        }
    }

    /// Whose weights these are, and of which step.
    fn weights_ui(&mut self, ctx: &PanelCtx<'_>, ui: &mut Ui, run: &RunView, now: f64) {
        let training = ctx.session.shows_live() && ctx.session.phase.is_active();
        ui.horizontal_wrapped(|ui| {
            let step = ctx.session.try_it.value.as_ref().map(|report| report.step);
            let words = match step {
                Some(step) => format!("Weights of {} after step {}", run.name(), format::count(step)),
                None => format!("Weights of {}", run.name()),
            };
            cards::caption(ui, ctx.theme, words);
            if let Some(Asked { subject, plan, .. }) = &self.asked {
                ctx.command_button(ui, &Action::Query(subject.clone(), ModelQuery::Try(plan.clone())));
            }
            if training {
                cards::caption(ui, ctx.theme, format!("it trains: now at step {}", format::count(run.step())));
            } else if ctx.session.try_it.error.is_none() {
                return;
            }
            if let Some(asked) = &self.asked {
                let again = Action::Query(asked.subject.clone(), ModelQuery::Try(asked.plan.clone()));
                let button = egui::Button::new(egui::RichText::new("Ask again").small());
                if ctx.button_as(ui, again, button).clicked() {
                    self.asked = Some(Asked { at: now, ..asked.clone() });
                }
            }
            if !training {
                return;
            }
            let tip = "Reads the text again about once a second while the run trains; each reading takes a moment from \
                       the training";
            labeled::toggle(ui, "Follow the training", tip, &mut self.follow);
        });
    }

    fn text_ui(&mut self, ui: &mut Ui, now: f64) {
        let names: &[&str] = if self.pairs { &["First text", "Second text"] } else { &["Text"] };
        for (name, text) in names.iter().zip(&mut self.texts) {
            let edit = egui::TextEdit::multiline(text).desired_rows(2).desired_width(f32::INFINITY);
            let hint = if self.pairs { *name } else { "A text for the model" };
            let response = ui.add(edit.hint_text(hint)).accessible_name(*name);
            if response.changed() {
                self.row = None;
                self.edited_at = Some(now);
            }
        }
    }

    /// A row of the data instead.
    fn rows_ui(&mut self, ctx: &PanelCtx<'_>, ui: &mut Ui) {
        let rows = ctx.session.try_it.value.as_ref().map_or([0, 0], |report| report.rows);
        ui.horizontal_wrapped(|ui| {
            cards::caption(ui, ctx.theme, "or a row of the data");
            let before = self.choice;
            let mut clicked = false;
            let tips = ["Rows that the run is measured on", "Rows that the run has learned from"];
            for (split, (name, tip)) in
                [Split::Evaluation, Split::Training].into_iter().zip(["evaluation", "training"].into_iter().zip(tips))
            {
                clicked |= ui.selectable_value(&mut self.choice.0, split, name).on_hover_text(tip).clicked();
            }
            let most = match self.choice.0 {
                Split::Training => rows[0],
                Split::Evaluation => rows[1],
            };
            let step = |ui: &mut Ui, words: &str, tip: &str| ui.small_button(words).on_hover_text(tip).clicked();
            if step(ui, "<", "The row before") {
                self.choice.1 = self.choice.1.saturating_sub(1);
                clicked = true;
            }
            let number = egui::DragValue::new(&mut self.choice.1).range(1..=most.max(1)).speed(0.1);
            let tip = format!("Number of the row, 1 to {}; it can be typed", format::count(most));
            clicked |= ui.add(number).on_hover_text(tip).accessible_name("Row").changed();
            if step(ui, ">", "The next row") {
                self.choice.1 += 1;
                clicked = true;
            }
            cards::caption(ui, ctx.theme, format!("of {}", format::count(most)));
            self.choice.1 = self.choice.1.clamp(1, most.max(1));
            if self.choice != before || clicked {
                self.row = Some((self.choice.0, self.choice.1 - 1));
                self.edited_at = None;
            }
        });
    }

    fn plan(&self, run: &RunView) -> Option<TryPlan> {
        let input = match self.row {
            Some((split, row)) => TryInput::Row { split, row },
            None if self.texts[0].trim().is_empty() => return None,
            None => TryInput::Text { text: self.texts[0].clone(), pair: self.pairs.then(|| self.texts[1].clone()) },
        };
        Some(TryPlan { input, routes: ROUTES, seed: self.seed.unwrap_or(run.config.train.seed) })
    }

    /// Asks what is not asked yet: the text some time after the last key, then its words.
    fn ask(&mut self, ctx: &PanelCtx<'_>, ui: &Ui, run: &RunView, now: f64) {
        let (Some(subject), Some(plan)) = (ctx.session.subject(), self.plan(run)) else { return };
        if ctx.session.engine_problem().is_some() {
            return;
        }
        let left = self.edited_at.map_or(0.0, |edited| edited + PAUSE - now);
        if left > 0.0 {
            return ui.ctx().request_repaint_after(Duration::try_from_secs_f64(left).unwrap_or_default());
        }
        self.edited_at = None;
        let query = &ctx.session.try_it;
        let ended = !(ctx.session.shows_live() && ctx.session.phase.is_active());
        let asked = Asked { subject, plan, ended, at: now };
        let has_come = query.value.is_some() || query.error.is_some() || query.is_pending();
        let known = self
            .asked
            .as_ref()
            .is_some_and(|old| Asked { at: now, ..old.clone() } == asked && (has_come || now < old.at + FOLLOW));
        let step = query.value.as_ref().map(|report| report.step);
        let follows = self.follows(ctx);
        let outdated = follows
            && !query.is_pending()
            && step != Some(run.step())
            && self.asked.as_ref().is_none_or(|old| now >= old.at + FOLLOW);
        if !known || outdated {
            ctx.push(Action::Query(asked.subject.clone(), ModelQuery::Try(asked.plan.clone())));
            self.asked = Some(asked);
            return;
        }
        let Some(report) = query.value.as_ref().filter(|report| !query.is_pending() && report.plan == asked.plan)
        else {
            return;
        };
        let words = Some((report.plan.input.clone(), report.step));
        if self.words && !follows && self.asked_words != words {
            ctx.push(Action::Query(asked.subject, ModelQuery::TryWords(report.plan.input.clone())));
            self.asked_words = words;
        }
    }

    /// Whether the answer is asked for again and again while a run trains.
    fn follows(&self, ctx: &PanelCtx<'_>) -> bool {
        self.follow && ctx.session.shows_live() && ctx.session.phase == RunPhase::Training
    }

    fn report_ui(&mut self, ctx: &PanelCtx<'_>, ui: &mut Ui, report: &TryReport, run: &RunView, now: f64) {
        let title = if report.labels.is_empty() { "Value" } else { "Class probabilities" };
        cards::card(ui, ctx.theme, title, |ui| {
            ui.label(verdict(report));
            cards::caption(ui, ctx.theme, notes(report));
            if !report.routes.is_empty() {
                self.routes_ui(ctx, ui, report);
            }
            let since = self.since_fall(ctx, report, run, now);
            ways::ui(ui, ctx.theme, report, since, &mut self.all_classes);
        });
        cards::card(ui, ctx.theme, "Which words matter", |ui| {
            let tip = "Each word is left out once, alone, and the merged model reads the rest";
            if labeled::toggle(ui, "Measure the words", tip, &mut self.words).changed() {
                self.asked_words = None;
            }
            if self.words && self.follows(ctx) {
                let words = "Not measured while the answer follows the training: pause it, or do not follow.";
                cards::muted(ui, ctx.theme, words);
            } else if self.words {
                words::ui(ctx, ui, report);
            }
        });
    }

    /// Which routes are drawn, and another draw.
    fn routes_ui(&mut self, ctx: &PanelCtx<'_>, ui: &mut Ui, report: &TryReport) {
        ui.horizontal_wrapped(|ui| {
            let tip = "Draws sixteen other random routes: the next seed";
            if ui.button("Re-roll the routes").on_hover_text(tip).clicked() {
                self.seed = Some(report.plan.seed.wrapping_add(1));
            }
            let mut seed = self.seed.unwrap_or(report.plan.seed);
            let tip =
                "Seed of the random routes. With the run's own seed they are the first of those in Merge & compare";
            let drag = egui::DragValue::new(&mut seed).speed(0.05);
            ui.label("Seed");
            if ui.add(drag).on_hover_text(tip).accessible_name("Seed of the routes").changed() {
                self.seed = Some(seed);
            }
            if self.seed.is_some() && ui.small_button("the run's").on_hover_text("Back to the run's own seed").clicked()
            {
                self.seed = None;
            }
            cards::caption(ui, ctx.theme, "one expert for each layer and side, drawn at random");
        });
    }

    /// Seconds since the routes on the screen began to fall; a long time where nothing is to move.
    fn since_fall(&mut self, ctx: &PanelCtx<'_>, report: &TryReport, run: &RunView, now: f64) -> f64 {
        let (dir, seed) = (&run.dir, report.plan.seed);
        if self.fall.as_ref().is_none_or(|(of, shown, _)| (of, *shown) != (dir, seed)) {
            self.fall = Some((dir.clone(), seed, now));
        }
        match &self.fall {
            Some((_, _, began)) if !ctx.settings.reduced_motion => now - began,
            _ => f64::INFINITY,
        }
    }
}

/// The answer in a sentence: what merged says, and how many random routes say the same.
fn verdict(report: &TryReport) -> String {
    let whose = if report.merged_with.is_some() { "Merged" } else { "The model" };
    let Some(class) = report.predicted() else {
        let value = format::significant(report.merged.first().copied().unwrap_or(f64::NAN), 4);
        let known = match report.known {
            Some(KnownAnswer::Value(known)) => format!("; the row's value is {}", format::significant(known, 4)),
            _ => String::new(),
        };
        return format!("{whose} gives {value}{known}");
    };
    let p = format::percent(report.merged[class]);
    let known = match report.known {
        Some(KnownAnswer::Class(known)) if known == class => ", which is the row's label".to_owned(),
        Some(KnownAnswer::Class(known)) => format!("; the row's label is {}", report.label(known)),
        _ => String::new(),
    };
    format!("{whose} says {} with {p}{known}", report.label(class))
}

/// How it was read, and how many random routes agree.
fn notes(report: &TryReport) -> String {
    let mut notes = Vec::new();
    if let Some(class) = report.predicted()
        && !report.routes.is_empty()
    {
        let same = report.routes.iter().filter(|route| crate::protocol::likeliest(route) == class).count();
        notes.push(format!("{same} of {} random routes say the same class", report.routes.len()));
    }
    notes.push(format!("{}, special ones counted", format::counted(report.tokens, "token")));
    if report.truncated {
        notes.push("cut at the run's longest input: the rest is not read".to_owned());
    }
    notes.join("; ")
}
