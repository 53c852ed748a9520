//! Preview of labelled data: rows, tokens, labels, leaks.

use crate::app::actions::Action;
use crate::app::panel_ctx::PanelCtx;
use crate::app::tables;
use crate::app::theme::Theme;
use crate::app::widgets::cards;
use crate::app::widgets::export_menu;
use crate::app::widgets::listing::{self, Column};
use crate::config::{BadRows, Task};
use crate::format;
use crate::protocol::{DataPreview, Lengths, SampleRow, SplitPreview};
use egui::{RichText, Sense, Ui};
use egui_plot::{Bar, BarChart, Plot, VLine};

/// Skipped rows that are listed.
const SKIPPED: usize = 300;
/// Labels whose counts are drawn.
const LABELS: usize = 12;

/// The preview; that of a file which is new here is opened: it shows whether the right columns were guessed.
pub fn preview_ui(ctx: &PanelCtx<'_>, ui: &mut Ui, max_length: usize, previewed: &mut String) {
    let (loading, hint) = ("Reading and tokenizing the data", "Choose model and data to see a preview.");
    let Some(preview) = ctx.answer(ui, &ctx.session.data, loading, hint) else { return };
    figures_ui(ctx, ui, preview);
    notes_ui(ctx, ui, preview);
    let is_new = ctx.session.form.data.task == Task::Custom && *previewed != preview.train.file;
    if is_new {
        previewed.clone_from(&preview.train.file);
    }
    egui::CollapsingHeader::new("Rows, labels and lengths").open(is_new.then_some(true)).show(ui, |ui| {
        sample_table(ui, &preview.train);
        ui.add_space(4.0);
        labels_ui(ctx, ui, preview);
        ui.add_space(4.0);
        if let Some(lengths) = &preview.train.lengths {
            lengths_ui(ctx, ui, lengths, max_length);
        }
    });
}

fn figures_ui(ctx: &PanelCtx<'_>, ui: &mut Ui, preview: &DataPreview) {
    let (theme, train, dev) = (ctx.theme, &preview.train, &preview.dev);
    let lengths = train.lengths.clone().unwrap_or_default();
    let cut = format::percent(lengths.cut_share(preview.max_length));
    let truncated_tip = format!("Training rows longer than the longest input; {cut} of all tokens are cut off");
    let classes = if preview.labels.is_empty() { "a number".to_owned() } else { preview.labels.len().to_string() };
    let class_names = preview.labels.join(", ");
    let figures = [
        ("Training rows", format::count(train.rows), "Usable rows"),
        ("Evaluation rows", format::count(dev.rows), "Usable rows"),
        (
            "Tokens per row",
            format!("{:.0} / {}", lengths.mean, lengths.max),
            "Mean and longest, special tokens included, before truncation",
        ),
        ("Truncated rows", format::percent(lengths.truncated_share), &truncated_tip),
        ("Classes", classes, &class_names),
    ];
    cards::figures(ui, theme, &figures);
}

fn notes_ui(ctx: &PanelCtx<'_>, ui: &mut Ui, preview: &DataPreview) {
    leaks_ui(ctx.theme, ui, preview.leaks, &preview.leak_examples, "rows");
    preview.notes.iter().for_each(|note| cards::note(ui, ctx.theme.warning, note));
    if preview.duplicates_in_train > 0 {
        let n = preview.duplicates_in_train;
        let words = if n == 1 { "training row repeats" } else { "training rows repeat" };
        let share = format::percent(n as f64 / preview.train.rows.max(1) as f64);
        cards::caption(ui, ctx.theme, format!("{} {words} an earlier one ({share})", format::count(n)));
    }
    if !preview.skipped.is_empty() {
        let refused = ctx.session.form.data.bad_rows == BadRows::Refuse;
        let title = left_out_text(preview.skipped.len(), refused);
        egui::CollapsingHeader::new(RichText::new(title).color(ctx.theme.warning)).id_salt("skipped").show(ui, |ui| {
            egui::ScrollArea::vertical().id_salt("skipped rows").max_height(110.0).show(ui, |ui| {
                for row in preview.skipped.iter().take(SKIPPED) {
                    let text = format!("{}:{}: {}", row.file, row.line, row.reason);
                    ui.label(RichText::new(text).small().monospace());
                }
            });
        });
        let tip = "Trains without them; they are listed here and in the run's log. Unusable rows under More about the \
                   data does the same";
        if refused && ui.button("Leave these rows out").on_hover_text(tip).clicked() {
            let mut form = ctx.session.form.clone();
            form.data.bad_rows = BadRows::Skip;
            ctx.push(Action::EditForm(Box::new(form)));
        }
    }
    for (label, &n) in preview.labels.iter().zip(&preview.train.balance) {
        if n == 0 {
            cards::note(ui, ctx.theme.warning, &format!("no training row has the label {label:?}"));
        }
    }
}

/// Says how many evaluation rows or texts, `what`, are also in the training data.
pub fn leaks_ui(theme: &Theme, ui: &mut Ui, leaks: usize, examples: &[String], what: &str) {
    if leaks > 0 {
        let n = format::count(leaks);
        let example = examples.first().map_or_else(String::new, |text| format::ellipsis(text, 80));
        let text = format!(
            "{n} evaluation {what} are also training {what}: the score will look better than it is. For example: {example}"
        );
        cards::note(ui, theme.warning, &text);
    }
}

/// Says how many rows cannot be used, and whether training would stop there.
pub fn left_out_text(rows: usize, refused: bool) -> String {
    let verb = if rows == 1 { "row" } else { "rows" };
    let what = match (refused, rows) {
        (true, _) => "cannot be used; training would stop there",
        (false, 1) => "is left out",
        (false, _) => "are left out",
    };
    format!("{} {verb} {what}", format::count(rows))
}

fn sample_table(ui: &mut Ui, split: &SplitPreview) {
    type Row<'a> = Column<'a, SampleRow>;
    let text = |ui: &mut Ui, text: &str| ui.add(egui::Label::new(text).truncate());
    let mut columns = vec![
        Row::new("Text", "", |ui, row| text(ui, &row.text)).rest(120.0),
        Row::new("Second text", "", |ui, row| text(ui, row.pair.as_deref().unwrap_or(""))).rest(120.0),
        Row::new("Label", "", |ui, row| text(ui, &row.label)).exact(70.0),
        Row::number("Tokens", "", |row| row.tokens.len().to_string()).exact(48.0),
    ];
    if split.sample.iter().all(|row| row.pair.is_none()) {
        columns.remove(1);
    }
    listing::numbers(ui, "sample rows", 140.0, columns, &split.sample);
    export_menu::table(ui, "sample rows table", || tables::sample_rows(&split.sample));
}

/// Label balance of both parts as bars, or the range of the values.
fn labels_ui(ctx: &PanelCtx<'_>, ui: &mut Ui, preview: &DataPreview) {
    for (name, split) in [("Training", &preview.train), ("Evaluation", &preview.dev)] {
        if let Some([min, mean, max]) = split.targets {
            ui.label(format!("{name}: values {min:.2} to {max:.2}, mean {mean:.2}"));
            continue;
        }
        cards::caption(ui, ctx.theme, format!("{name} labels"));
        let most = split.balance.iter().copied().max().unwrap_or(1).max(1);
        for (i, (label, n)) in preview.labels.iter().zip(&split.balance).take(LABELS).enumerate() {
            ui.horizontal(|ui| {
                ui.allocate_ui(egui::vec2(90.0, 16.0), |ui| {
                    ui.set_min_width(90.0);
                    ui.add(egui::Label::new(RichText::new(label).small()).truncate());
                });
                let width = (ui.available_width() - 110.0).max(20.0);
                let (rect, _) = ui.allocate_exact_size(egui::vec2(width, 12.0), Sense::hover());
                let mut bar = rect;
                bar.set_width(width * *n as f32 / most as f32);
                ui.painter().rect_filled(bar, 2.0, ctx.theme.series(i));
                let share = *n as f64 / split.rows.max(1) as f64;
                ui.label(RichText::new(format!("{} ({})", format::count(*n), format::percent(share))).small());
            });
        }
        if preview.labels.len() > LABELS {
            ui.label(RichText::new(format!("and {} more", preview.labels.len() - LABELS)).small());
        }
    }
}

/// How long the training rows are, and where truncation cuts.
fn lengths_ui(ctx: &PanelCtx<'_>, ui: &mut Ui, lengths: &Lengths, max_length: usize) {
    if lengths.histogram.is_empty() {
        return;
    }
    cards::caption(ui, ctx.theme, "Training rows by tokens; the line is the longest input");
    let bin = lengths.bin_width.max(1) as f64;
    let bars = lengths.histogram.iter().enumerate();
    let bars: Vec<Bar> = bars.map(|(i, &n)| Bar::new((i as f64 + 0.5) * bin, n as f64).width(bin * 0.92)).collect();
    let response = Plot::new("token histogram")
        .height(100.0)
        .allow_scroll(false)
        .allow_drag(false)
        .allow_zoom(false)
        .allow_boxed_zoom(false)
        .show_background(false)
        .show(ui, |plot| {
            plot.bar_chart(BarChart::new("rows", bars).color(ctx.theme.series(0)));
            if (max_length as f64) < bin * lengths.histogram.len() as f64 * 1.5 {
                plot.vline(VLine::new("longest input", max_length as f64).color(ctx.theme.warning));
            }
        });
    response.response.widget_info(|| egui::WidgetInfo::labeled(egui::Role::Figure, true, "Training rows by tokens"));
}
