//! Two ways of running a model on the same rows: which they answer differently, and whether the difference is more than chance.

pub use crate::analysis::calibration::{Calibration, ReliabilityBin};
pub use crate::analysis::residuals::Residuals;
use crate::error::{Error, Result};
use crate::eval::Scores;
use crate::figure::Table;
use crate::protocol::{Checkpoint, KnownAnswer};
pub use crate::records::{Costs, Interval, PairedDifference, PairedReport, WayCost};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A way of running a trained model; written `merged`, `expert:2`, `route:1`, `ensemble:5`, `base`, `checkpoint:400` or
/// `run:DIR`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Way {
    /// The experts merged into one.
    #[default]
    Merged,
    /// One expert in all modules, by its number from 0.
    Expert(usize),
    /// One of the random routes of the comparison, by its number from 1.
    Route(usize),
    /// The mean of the probabilities of so many of these routes.
    Ensemble(usize),
    /// The base model without modules, under the trained head.
    Base,
    /// Another checkpoint of the run, merged.
    Checkpoint(Checkpoint),
    /// Another run on the same rows, its best checkpoint, merged.
    Run(PathBuf),
}

impl Way {
    /// Display name.
    pub fn name(&self) -> String {
        match self {
            Self::Merged => "Merged".to_owned(),
            Self::Expert(expert) => format!("Expert {expert} only"),
            Self::Route(number) => format!("Random route {number}"),
            Self::Ensemble(1) => "Ensemble of 1 route".to_owned(),
            Self::Ensemble(routes) => format!("Ensemble of {routes} routes"),
            Self::Base => "Base model".to_owned(),
            Self::Checkpoint(Checkpoint::Step(step)) => format!("Merged at step {step}"),
            Self::Checkpoint(which) => format!("Merged, {which} checkpoint"),
            Self::Run(dir) => format!("Run {}", short(dir)),
        }
    }

    /// Passes over the rows.
    pub fn forwards(&self) -> usize {
        if let Self::Ensemble(routes) = self { *routes } else { 1 }
    }
}

fn short(dir: &Path) -> String {
    dir.file_name().map_or_else(|| dir.display().to_string(), |name| name.to_string_lossy().into_owned())
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Merged => f.write_str("merged"),
            Self::Expert(expert) => write!(f, "expert:{expert}"),
            Self::Route(number) => write!(f, "route:{number}"),
            Self::Ensemble(routes) => write!(f, "ensemble:{routes}"),
            Self::Base => f.write_str("base"),
            Self::Checkpoint(which) => write!(f, "checkpoint:{which}"),
            Self::Run(dir) => write!(f, "run:{}", dir.display()),
        }
    }
}

impl FromStr for Way {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            Error::config(format!(
                "{text:?} is no way of running a model; give merged, expert:J, route:N (from 1), ensemble:R, base, \
                 checkpoint:STEP or run:DIR"
            ))
        };
        let number = |text: &str, least: usize, most: usize| {
            text.parse().ok().filter(|number| (least..=most).contains(number)).ok_or_else(wrong)
        };
        Ok(match text.split_once(':') {
            None if text == "merged" => Self::Merged,
            None if text == "base" => Self::Base,
            Some(("expert", expert)) => Self::Expert(number(expert, 0, 255)?),
            Some(("route", route)) => Self::Route(number(route, 1, 1000)?),
            Some(("ensemble", routes)) => Self::Ensemble(number(routes, 1, 1000)?),
            Some(("checkpoint", which)) => Self::Checkpoint(which.parse()?),
            Some(("run", dir)) if !dir.is_empty() => Self::Run(PathBuf::from(dir)),
            _ => return Err(wrong()),
        })
    }
}

impl From<Way> for String {
    fn from(way: Way) -> Self {
        way.to_string()
    }
}

impl TryFrom<String> for Way {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

/// Which two ways are compared, and on what.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowsPlan {
    /// The one way.
    pub first: Way,
    /// The other: differences are this one less the first.
    pub second: Way,
    /// Evaluation rows, evenly spread; 0: all.
    pub rows: usize,
    /// The file of rows that the model was told to be measured on instead of the run's, for another run to read them too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dev_file: Option<PathBuf>,
}

impl RowsPlan {
    /// Passes over the rows.
    pub fn forwards(&self) -> usize {
        self.first.forwards() + self.second.forwards()
    }
}

/// What one of the two ways reaches.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct WayRows {
    /// Display name.
    pub name: String,
    /// On all measured rows.
    pub scores: Scores,
    /// Rows on which its loss is the smaller one.
    pub ahead: usize,
    /// What it costs; absent for another run.
    pub cost: Option<WayCost>,
    /// Wall-clock seconds for all rows, both ways one after the other in one process, after a first batch that is not counted.
    pub seconds: f64,
    /// Rows by right class and answer, `[class][answer]` (classification).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub confusion: Vec<Vec<u64>>,
    /// Whether it knows how sure it may be (classification).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Calibration>,
    /// What its values are off by (regression).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub residuals: Option<Residuals>,
}

/// Rows by which of the two ways answers them rightly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Flips {
    /// Both.
    pub both_right: usize,
    /// Only the first.
    pub only_first: usize,
    /// Only the second.
    pub only_second: usize,
    /// Neither, with the same answer.
    pub both_wrong: usize,
    /// Neither, with different answers.
    pub wrong_apart: usize,
}

impl Flips {
    /// Rows that the two ways answer differently.
    pub fn different(&self) -> usize {
        self.only_first + self.only_second + self.wrong_apart
    }
}

/// What a slice of the rows is cut by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SliceBy {
    /// The right class.
    #[default]
    Label,
    /// The value to be predicted.
    Value,
    /// Tokens.
    Length,
}

/// Some of the rows.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RowSlice {
    /// Cut by what.
    pub by: SliceBy,
    /// The class, or the range: `5 to 9 tokens`.
    pub name: String,
    /// Smallest and largest length or value, both inside; absent for a class.
    pub range: Option<[f64; 2]>,
    /// Rows.
    pub rows: usize,
    /// Mean loss of both ways.
    pub losses: [f64; 2],
    /// Share of right answers of both ways, each with its 95 % interval (Wilson): share, from, to; absent for values and texts.
    pub accuracies: Option<[[f64; 3]; 2]>,
    /// The second way less the first, p adjusted for all slices (Holm); absent for a single row.
    pub difference: Option<PairedDifference>,
}

impl RowSlice {
    /// Whether a length or a value lies in it.
    pub fn holds(&self, value: f64) -> bool {
        self.range.is_some_and(|[from, to]| (from..=to).contains(&value))
    }
}

/// What a way says of a row.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RowAnswer {
    /// A class.
    Class {
        /// The likeliest class.
        class: usize,
        /// Its probability.
        probability: f64,
        /// The probability of the right class.
        of_label: f64,
    },
    /// A value.
    Value(f64),
    /// Learned tokens that are the likeliest ones.
    Tokens(usize),
}

impl RowAnswer {
    /// The class, of a classifier.
    pub fn class(self) -> Option<usize> {
        if let Self::Class { class, .. } = self { Some(class) } else { None }
    }
}

/// One row and both answers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RowEntry {
    /// Its number among the evaluation rows, from 0.
    pub row: usize,
    /// The text; of a conversation what is asked.
    pub text: String,
    /// The second text of a pair; of a conversation the answer that is learned.
    pub pair: Option<String>,
    /// Tokens; of texts those that are learned.
    pub tokens: usize,
    /// The right answer; absent for texts.
    pub label: Option<KnownAnswer>,
    /// Losses of both ways: in nats, of texts for each token; the squared error for values.
    pub losses: [f64; 2],
    /// Both answers.
    pub answers: [RowAnswer; 2],
}

impl RowEntry {
    /// The second way's loss less the first's.
    pub fn difference(&self) -> f64 {
        self.losses[1] - self.losses[0]
    }

    /// Whether the two ways answer with different classes.
    pub fn differs(&self) -> bool {
        self.answers[0].class() != self.answers[1].class()
    }
}

/// Two ways of running a model, row by row.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RowsReport {
    /// What was asked.
    pub plan: RowsPlan,
    /// The deciding metric.
    pub metric: String,
    /// Whether more of it is better.
    pub higher_is_better: bool,
    /// Class names; empty for values and texts.
    pub labels: Vec<String>,
    /// Rows measured.
    pub rows: usize,
    /// Evaluation rows there are.
    pub of: usize,
    /// B: resamples of the rows for the intervals.
    pub resamples: usize,
    /// Both ways.
    pub ways: [WayRows; 2],
    /// The second less the first.
    pub difference: PairedDifference,
    /// Which rows are right (classification).
    pub flips: Option<Flips>,
    /// By right answer and by length.
    pub slices: Vec<RowSlice>,
    /// Every measured row, the largest difference of the losses first.
    pub entries: Vec<RowEntry>,
    /// Wall-clock seconds.
    pub seconds: f64,
}

impl RowsReport {
    /// Name of a class.
    pub fn label(&self, class: usize) -> String {
        self.labels.get(class).cloned().unwrap_or_else(|| class.to_string())
    }

    /// The right answer of a row in words; empty for texts.
    pub fn truth(&self, entry: &RowEntry) -> String {
        match entry.label {
            Some(KnownAnswer::Class(class)) => self.label(class),
            Some(KnownAnswer::Value(value)) => crate::format::significant(value, 4),
            None => String::new(),
        }
    }

    /// An answer in words: `negative .83`, a value, or `12 of 14 tokens`.
    pub fn answer(&self, entry: &RowEntry, way: usize) -> String {
        match entry.answers[way] {
            RowAnswer::Class { class, probability, .. } => format!("{} {probability:.2}", self.label(class)),
            RowAnswer::Value(value) => crate::format::significant(value, 4),
            RowAnswer::Tokens(right) => format!("{right} of {}", entry.tokens),
        }
    }

    /// What the study says in sentences: the difference, both in metric and loss, and the rows that are answered differently.
    pub fn verdict(&self) -> String {
        let [first, second] = [&self.ways[0].name, &self.ways[1].name];
        let words = self.difference.describe(&self.metric, self.higher_is_better);
        let mut text = format!("{second} minus {}: {words}.", first.to_lowercase());
        if let Some(flips) = self.flips {
            let p = self.difference.accuracy.map_or_else(String::new, |accuracy| {
                format!(" (McNemar's exact test: p = {})", crate::format::significant(accuracy.p, 2))
            });
            text.push_str(&format!(
                " They answer {} of {} rows differently; only {} is right {} times, only {} {} times{p}.",
                flips.different(),
                self.rows,
                first.to_lowercase(),
                flips.only_first,
                second.to_lowercase(),
                flips.only_second
            ));
        }
        text
    }

    /// These rows as a table with every digit.
    pub fn table<'a>(&self, entries: impl IntoIterator<Item = &'a RowEntry>) -> Table {
        let of = |what: &str| [&self.plan.first, &self.plan.second].map(|way| format!("{what} {way}"));
        let mut columns = vec!["row".to_owned(), "text".to_owned(), "second_text".to_owned(), "label".to_owned()];
        columns.extend(["tokens".to_owned(), "loss_difference".to_owned()]);
        for what in ["loss", "answer", "probability", "probability_of_label"] {
            columns.extend(of(what));
        }
        let mut table = Table::new(columns);
        for entry in entries {
            let class = |way: usize| match entry.answers[way] {
                RowAnswer::Class { class, probability, of_label } => {
                    (self.label(class).into(), Some(probability), Some(of_label))
                }
                RowAnswer::Value(value) => (value.into(), None, None),
                RowAnswer::Tokens(right) => (right.into(), None, None),
            };
            let (a, b) = (class(0), class(1));
            table.push([
                (entry.row + 1).into(),
                entry.text.as_str().into(),
                entry.pair.as_deref().into(),
                self.truth(entry).into(),
                entry.tokens.into(),
                entry.difference().into(),
                entry.losses[0].into(),
                entry.losses[1].into(),
                a.0,
                b.0,
                a.1.into(),
                b.1.into(),
                a.2.into(),
                b.2.into(),
            ]);
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_is_written_and_read() {
        let ways =
            ["merged", "expert:0", "route:1", "ensemble:16", "base", "checkpoint:400", "checkpoint:last", "run:a/b"];
        for text in ways {
            assert_eq!(text.parse::<Way>().unwrap().to_string(), text);
        }
        for wrong in ["", "best", "expert", "expert:x", "route:0", "ensemble:0", "run:", "checkpoint:soon"] {
            assert!(wrong.parse::<Way>().is_err(), "{wrong}");
        }
        assert_eq!("run:runs/lab 2".parse::<Way>().unwrap().name(), "Run lab 2");
        let plan = RowsPlan { second: Way::Ensemble(5), ..RowsPlan::default() };
        assert_eq!(plan.forwards(), 6);
    }

    #[test]
    fn a_table_of_rows_has_every_digit() {
        let answer = |class, probability, of_label| RowAnswer::Class { class, probability, of_label };
        let entry = RowEntry {
            row: 6,
            text: "a fine film".to_owned(),
            pair: None,
            tokens: 5,
            label: Some(KnownAnswer::Class(1)),
            losses: [0.25, 1.5],
            answers: [answer(1, 0.7788, 0.7788), answer(0, 0.7769, 0.2231)],
        };
        let report = RowsReport {
            labels: vec!["negative".to_owned(), "positive".to_owned()],
            plan: RowsPlan { second: Way::Route(2), ..RowsPlan::default() },
            ..RowsReport::default()
        };
        assert!(entry.differs() && entry.difference() == 1.25);
        assert_eq!((report.truth(&entry).as_str(), report.answer(&entry, 1).as_str()), ("positive", "negative 0.78"));
        let csv = report.table([&entry]).csv();
        let mut lines = csv.lines();
        assert!(lines.next().unwrap().ends_with("loss merged,loss route:2,answer merged,answer route:2,probability merged,probability route:2,probability_of_label merged,probability_of_label route:2"));
        assert_eq!(
            lines.next().unwrap(),
            "7,a fine film,,positive,5,1.25,0.25,1.5,positive,negative,0.7788,0.7769,0.7788,0.2231"
        );
    }
}
