//! Both ways on parts of the rows: by right answer and by length.

use super::table::interval_ui;
use crate::app::theme::Theme;
use crate::app::widgets::listing::{self, Column};
use crate::app::widgets::{cards, export_menu};
use crate::figure::Table;
use crate::format;
use crate::protocol::{RowSlice, RowsReport, SliceBy};
use egui::Ui;

fn by(by: SliceBy) -> &'static str {
    match by {
        SliceBy::Label => "class",
        SliceBy::Value => "value",
        SliceBy::Length => "length",
    }
}

pub fn ui(theme: &Theme, report: &RowsReport, ui: &mut Ui) {
    let classes = report.flips.is_some();
    let (of, tip) = if classes {
        ("accuracy", "Share of right answers with its 95 % interval (Wilson)")
    } else {
        ("loss", "Mean loss")
    };
    let titles = [0, 1].map(|way| format!("{}, {of}", report.ways[way].name));
    type Row<'a> = Column<'a, RowSlice>;
    let mut columns = vec![
        Row::new("By", "", |ui, slice| ui.label(by(slice.by))),
        Row::new("Rows with", "", |ui, slice| ui.label(&slice.name)),
        Row::number("Rows", "", |slice| format::count(slice.rows)),
    ];
    let share = |way: usize| {
        move |slice: &RowSlice| match slice.accuracies {
            Some(shares) => {
                let [share, low, high] = shares[way];
                format!("{share:.3} ({low:.3} to {high:.3})")
            }
            None => format::metric(slice.losses[way]),
        }
    };
    columns.push(Row::number(&titles[0], tip, share(0)));
    columns.push(Row::number(&titles[1], tip, share(1)));
    let tip = "The second way less the first, with its 95 % interval (paired bootstrap). Grey: no difference shown, with p adjusted for \
               all slices (Holm)";
    if classes {
        columns.push(Row::new("accuracy apart", tip, |ui, slice| {
            interval_ui(ui, theme, slice.difference.and_then(|difference| difference.accuracy))
        }));
    }
    columns.push(Row::new("loss apart", tip, |ui, slice| {
        interval_ui(ui, theme, slice.difference.map(|difference| difference.loss))
    }));
    listing::grid(ui, "slices", columns, &report.slices);
    export_menu::table(ui, "slices table", || table(report));
    let shown = report.slices.iter().filter(|slice| {
        let difference = slice.difference.unwrap_or_default();
        difference.loss.is_shown() || difference.accuracy.is_some_and(|accuracy| accuracy.is_shown())
    });
    let words = match shown.count() {
        0 => format!(
            "No difference shown in any of {}: p is adjusted for all of them (Holm).",
            format::counted(report.slices.len(), "slice")
        ),
        n => format!(
            "A difference is shown in {n} of {}: p is adjusted for all of them (Holm), and grey ones are not shown.",
            format::counted(report.slices.len(), "slice")
        ),
    };
    cards::caption(ui, theme, words);
}

fn table(report: &RowsReport) -> Table {
    let mut table = Table::new([
        "by",
        "slice",
        "rows",
        "first_accuracy",
        "first_low",
        "first_high",
        "second_accuracy",
        "second_low",
        "second_high",
        "first_loss",
        "second_loss",
        "loss_difference",
        "loss_low",
        "loss_high",
        "loss_p_adjusted",
        "accuracy_difference",
        "accuracy_low",
        "accuracy_high",
        "accuracy_p_adjusted",
    ]);
    for slice in &report.slices {
        let share = |way: usize, part: usize| slice.accuracies.map(|shares| shares[way][part]).into();
        let loss = slice.difference.map(|difference| difference.loss);
        let accuracy = slice.difference.and_then(|difference| difference.accuracy);
        let mut cells: Vec<crate::figure::Cell> =
            vec![by(slice.by).into(), slice.name.as_str().into(), slice.rows.into()];
        for way in 0..2 {
            cells.extend((0..3).map(|part| share(way, part)));
        }
        cells.extend(slice.losses.map(Into::into));
        for interval in [loss, accuracy] {
            cells.extend([
                interval.map(|i| i.value).into(),
                interval.map(|i| i.low).into(),
                interval.map(|i| i.high).into(),
                interval.map(|i| i.p).into(),
            ]);
        }
        table.push(cells);
    }
    table
}
