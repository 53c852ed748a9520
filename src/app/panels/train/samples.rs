//! Texts that a language model generated during training.

use crate::app::panel_ctx::PanelCtx;
use crate::app::run_view::RunView;
use crate::app::theme::Theme;
use crate::app::widgets::cards;
use crate::format;
use crate::protocol::{Sample, SampleRecord};
use egui::text::{LayoutJob, TextFormat};
use egui::{Button, Label, RichText, Ui};
use std::collections::BTreeSet;

/// Width of the column with the source of a text.
const WHO: f32 = 74.0;
/// Width of the slider's line without the slider.
const AROUND_SLIDER: f32 = 290.0;
/// Least width of the slider.
const LEAST_SLIDER: f32 = 100.0;
/// Width of the word before the inputs, and of one of them.
const INPUT_WORD: f32 = 46.0;
const INPUT: f32 = 36.0;
/// Most characters of a prompt that are shown; the rest is in its tooltip.
const PROMPT: usize = 220;

#[derive(Default)]
pub struct SamplesCard {
    /// The shown step; absent: the newest.
    at: Option<u64>,
    /// The playhead that it was moved to last.
    followed: Option<u64>,
    input: usize,
}

impl SamplesCard {
    /// Draws the card; nothing for a model that does not write.
    pub fn ui(&mut self, ctx: &PanelCtx<'_>, run: &RunView, ui: &mut Ui) {
        if !run.writes() {
            return;
        }
        if self.followed != ctx.session.playhead {
            // What was written at that step or before it.
            self.followed = ctx.session.playhead;
            self.at = self.followed;
        }
        cards::card(ui, ctx.theme, "Generated texts", |ui| match run.samples.last() {
            Some(newest) => {
                let record = self.step_ui(ctx.theme, (&run.samples, newest), run.start.total_steps, ui);
                self.input = self.input.min(record.samples.len().saturating_sub(1));
                if let Some(sample) = record.samples.get(self.input) {
                    sample_ui(ctx.theme, sample, ui);
                }
            }
            None => {
                cards::muted(ui, ctx.theme, empty_text(ctx, run));
            }
        });
    }

    /// Chooses step and input; what was written at the chosen step. `planned`: steps in all.
    fn step_ui<'a>(
        &mut self,
        theme: &Theme,
        (all, newest): (&'a [SampleRecord], &'a SampleRecord),
        planned: u64,
        ui: &mut Ui,
    ) -> &'a SampleRecord {
        let last = all.len() - 1;
        let at = self.at.unwrap_or(u64::MAX);
        let shown = all.partition_point(|record| record.step <= at).saturating_sub(1);
        let mut index = shown;
        let inputs = all.get(shown).map_or(0, |record| record.samples.len());
        // The inputs are beside the slider where there is room for both.
        let room = ui.available_width() - AROUND_SLIDER;
        let besides = if inputs > 1 { INPUT_WORD + INPUT * inputs as f32 } else { 0.0 };
        let beside = room - besides >= LEAST_SLIDER;
        ui.horizontal(|ui| {
            let name = ui.label("At step");
            // A slider with one place says nothing.
            if last == 0 {
                return self.record_ui(theme, newest, &step_words(newest, planned), beside, ui);
            }
            if ui.add_enabled(shown > 0, Button::new("◀")).on_hover_text("Earlier").clicked() {
                index = shown - 1;
            }
            ui.spacing_mut().slider_width =
                (room - if beside { besides } else { 0.0 }).clamp(LEAST_SLIDER, 4.0 * LEAST_SLIDER);
            let slider = egui::Slider::new(&mut index, 0..=last).show_value(false);
            ui.add_enabled(last > 0, slider).labelled_by(name.id).on_hover_text("From the first answers to the newest");
            if ui.add_enabled(shown < last, Button::new("▶")).on_hover_text("Later").clicked() {
                index = shown + 1;
            }
            let record = all.get(index).unwrap_or(newest);
            self.record_ui(theme, record, &step_words(record, planned.max(newest.step)), beside, ui);
        });
        if !beside {
            ui.horizontal_wrapped(|ui| self.inputs_ui(theme, all.get(index).unwrap_or(newest), ui));
        }
        if index != shown {
            self.at = (index < last).then(|| all[index].step);
        }
        all.get(index).unwrap_or(newest)
    }

    /// The step, and the inputs where they are `beside` it.
    fn record_ui(&mut self, theme: &Theme, record: &SampleRecord, words: &str, beside: bool, ui: &mut Ui) {
        ui.add_sized([130.0, ui.spacing().interact_size.y], Label::new(RichText::new(words).monospace()));
        if beside {
            self.inputs_ui(theme, record, ui);
        }
    }

    /// Chooses the input, where there are several.
    fn inputs_ui(&mut self, theme: &Theme, record: &SampleRecord, ui: &mut Ui) {
        if record.samples.len() < 2 {
            return;
        }
        cards::muted(ui, theme, "Input");
        for (number, sample) in record.samples.iter().enumerate() {
            let choice = ui.selectable_value(&mut self.input, number, (number + 1).to_string());
            drop(choice.on_hover_text(&sample.prompt));
        }
    }
}

/// The step of a record, of `planned` ones.
fn step_words(record: &SampleRecord, planned: u64) -> String {
    match record.step {
        0 => "before step 1".to_owned(),
        step => format!("{} of {}", format::count(step), format::count(planned)),
    }
}

fn empty_text(ctx: &PanelCtx<'_>, run: &RunView) -> &'static str {
    let live = ctx.session.shows_live() && ctx.session.phase.is_active();
    match run.config.eval.samples {
        0 => "Samples are switched off in this run; Setup has them under Evaluation and checkpoints.",
        _ if live => "The model answers some evaluation inputs before the first step, and again while it learns.",
        _ => "No texts were generated in this run.",
    }
}

/// One input, and everything that answers it.
fn sample_ui(theme: &Theme, sample: &Sample, ui: &mut Ui) {
    let known = words(&sample.reference);
    ui.add_space(2.0);
    let plain = |ui: &Ui, color| TextFormat::simple(egui::TextStyle::Body.resolve(ui.style()), color);
    let prompt = format::ellipsis(&sample.prompt, PROMPT);
    let job = LayoutJob::single_section(prompt, plain(ui, theme.muted));
    line_ui(ui, "prompt", "An input of the evaluation texts", job).on_hover_text(&sample.prompt);
    let tip = "Greedy decoding. Words that occur in the reference are strong, the others faint";
    line_ui(ui, "merged", tip, compared(theme, ui, &sample.merged, &known));
    if let Some(random) = &sample.random {
        let tip = "The unmerged mixture along one random route, the same one at every step";
        line_ui(ui, "random route", tip, compared(theme, ui, random, &known));
    }
    let strong = ui.visuals().text_color();
    let job = LayoutJob::single_section(sample.reference.clone(), plain(ui, strong));
    line_ui(ui, "reference", "What is right; there may be more than one right answer", job);
}

/// A text with its source.
fn line_ui(ui: &mut Ui, who: &str, tip: &str, what: LayoutJob) -> egui::Response {
    ui.horizontal_top(|ui| {
        let name = Label::new(RichText::new(who).small().strong());
        ui.allocate_ui_with_layout(
            egui::vec2(WHO, ui.text_style_height(&egui::TextStyle::Body)),
            egui::Layout::left_to_right(egui::Align::Center),
            |ui| {
                ui.set_min_width(WHO);
                ui.spacing_mut().interact_size.y = 0.0;
                ui.add(name).on_hover_text(tip);
            },
        );
        ui.add(Label::new(what).wrap())
    })
    .inner
}

/// A text with the words strong that are among the known ones.
fn compared(theme: &Theme, ui: &Ui, text: &str, known: &BTreeSet<String>) -> LayoutJob {
    let font = egui::TextStyle::Body.resolve(ui.style());
    let mut job = LayoutJob::default();
    if text.is_empty() {
        job.append("(nothing: the first token ends the answer)", 0.0, TextFormat::simple(font, theme.muted));
        return job;
    }
    for word in text.split_inclusive(char::is_whitespace) {
        let color = if known.contains(&bare(word)) { ui.visuals().text_color() } else { theme.muted };
        job.append(word, 0.0, TextFormat::simple(font.clone(), color));
    }
    job
}

fn words(text: &str) -> BTreeSet<String> {
    text.split_whitespace().map(bare).filter(|word| !word.is_empty()).collect()
}

/// A word in lower case without the punctuation around it.
fn bare(word: &str) -> String {
    word.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_compared_without_case_and_punctuation() {
        let known = words("The Vaults, a pub (\"cheap\").");
        assert!(["the", "vaults", "a", "pub", "cheap"].iter().all(|word| known.contains(*word)), "{known:?}");
        assert_eq!(known.len(), 5);
        assert!(known.contains(&bare("VAULTS! ")) && !known.contains(&bare("—")));
    }
}
