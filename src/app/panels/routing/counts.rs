//! Draws of each expert against their expectation.

use super::map::grey;
use crate::analysis::routing_stats;
use crate::analysis::routing_stats::{Balance, FEWEST_EXPECTED, Judgement};
use crate::app::names::{self, LayerGroup};
use crate::app::theme::Theme;
use crate::app::widgets::cell_grid::{self, GridCell, GridSpec};
use crate::app::widgets::verdict::{self, Verdict};
use crate::app::widgets::{cards, labeled};
use crate::config::MixtureKind;
use crate::format;
use crate::protocol::{RoutingSnapshot, SIDES};
use egui::{Ui, vec2};

/// z-scores beyond this are drawn in the darkest grey.
const STRONGEST: f64 = 4.0;

/// Least width of the names of the rows.
const ROW_NAMES: f32 = 96.0;
/// Up to so many modules all layers are open.
const FEW_SITES: usize = 8;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CellContent {
    #[default]
    CountAndZ,
    Count,
    Z,
    Share,
}

/// What is judged.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    pub theme: &'a Theme,
    pub routing: &'a RoutingSnapshot,
    pub kind: MixtureKind,
    /// The expert of the policy that always takes the same one.
    pub fixed_expert: usize,
    /// Whether more steps will come.
    pub active: bool,
    pub layers: &'a [LayerGroup],
}

/// Draws the verdict, and the table below it, folded.
pub fn ui(subject: Subject<'_>, shown: &mut CellContent, ui: &mut Ui) {
    let Subject { theme, routing, fixed_expert, .. } = subject;
    let balance = routing_stats::judge(&routing.counts, routing.policy, fixed_expert);
    let (verdict, words) = verdict_text(&subject, &balance);
    verdict::line(ui, theme, verdict, &words).on_hover_text(
        "z is the distance from the expectation n / M in standard deviations, √(n (1/M) (1 - 1/M)), for n \
         independent draws among M experts. The limit is Bonferroni's: it allows for looking at many counts at once, \
         not for looking many times during a run.",
    );
    if balance.judgement == Judgement::NothingDrawn {
        return;
    }
    // A table that is needed is open.
    let alarm = matches!(verdict, Verdict::Failed | Verdict::Unsure);
    egui::CollapsingHeader::new("Counts of each expert")
        .default_open(alarm)
        .show(ui, |ui| table_of(&subject, shown, ui));
}

fn table_of(subject: &Subject<'_>, shown: &mut CellContent, ui: &mut Ui) {
    let Subject { theme, routing, .. } = *subject;
    let options = [
        (CellContent::CountAndZ, "Count and z"),
        (CellContent::Count, "Count"),
        (CellContent::Z, "z-score"),
        (CellContent::Share, "Share of draws"),
    ];
    labeled::choice(ui, "Numbers in the table", "Content of the cells", shown, &options);
    ui.add_space(2.0);
    // Layers with several modules can be folded; the one with the largest deviation is open.
    if subject.layers.iter().any(|layer| layer.sites.len() > 1) {
        let worst = routing_stats::judge(&routing.counts, routing.policy, subject.fixed_expert).place.0 / 2;
        for layer in subject.layers.iter().rev() {
            let largest = largest_z(routing, &layer.sites);
            let title = format!("{}: largest |z| {largest:.1}", layer.name);
            let few = routing.sites.len() <= FEW_SITES;
            egui::CollapsingHeader::new(title)
                .id_salt(("counts of", &layer.name))
                .default_open(few || layer.sites.contains(&worst))
                .show(ui, |ui| scrolled_table(subject, &layer.sites, *shown, ui));
        }
    } else {
        let sites: Vec<usize> = (0..routing.sites.len()).collect();
        scrolled_table(subject, &sites, *shown, ui);
    }
    let words = "The stronger the colour, the further from the expectation n / M; z: distance in standard deviations.";
    cards::caption(ui, theme, words);
}

/// The largest deviation of the counts of these modules.
fn largest_z(routing: &RoutingSnapshot, sites: &[usize]) -> f64 {
    let z_scores = routing.z_scores();
    let cells = sites.iter().flat_map(|site| [site * 2, site * 2 + 1]).filter_map(|cell| z_scores.get(cell)?.as_ref());
    cells.flatten().fold(0.0, |largest: f64, z| largest.max(z.abs()))
}

fn scrolled_table(subject: &Subject<'_>, sites: &[usize], shown: CellContent, ui: &mut Ui) {
    let id = ("routing counts", sites.first());
    egui::ScrollArea::horizontal().id_salt(id).show(ui, |ui| table_ui(subject, sites, shown, ui));
}

fn table_ui(&Subject { theme, routing, kind, .. }: &Subject<'_>, sites: &[usize], shown: CellContent, ui: &mut Ui) {
    // Top module first, as in the diagram; a shared side has no row.
    let rows: Vec<(usize, usize)> = sites
        .iter()
        .rev()
        .flat_map(|&site| SIDES.into_iter().rev().map(move |side| (site, side as usize)))
        .filter(|&(_, side)| routing.experts[side] > 1)
        .collect();
    let most = routing.experts[0].max(routing.experts[1]);
    let wide = most <= 10;
    let title = |expert: usize| if wide { format!("expert {expert}") } else { expert.to_string() };
    let mut columns: Vec<String> = (0..most).map(title).collect();
    columns.extend(["draws", "expected"].map(str::to_owned));
    // As wide as the longest number needs, wider where there is room.
    let digits = routing.counts.iter().flatten().max().map_or(1, |most| most.to_string().len());
    let needed = (7.0 * (digits + 5) as f32 + 6.0).max(50.0);
    let row_name = |row: usize| {
        let (site, side) = rows[row];
        format!("{} {}", names::layer(&routing.sites[site]), names::side(kind, SIDES[side]))
    };
    let row_width = cell_grid::name_width((0..rows.len()).map(row_name)).max(ROW_NAMES);
    let room = (ui.available_width() - row_width) / (columns.len() as f32) - 3.0;
    let cell = vec2(if wide { room.clamp(needed, 78.0f32.max(needed)) } else { 30.0 }, 19.0);
    let name = if sites.len() == routing.sites.len() {
        "Draws of each expert".to_owned()
    } else {
        format!("Draws of each expert in {}", sites.first().map_or("", |&site| routing.sites[site].as_str()))
    };
    let spec = GridSpec { name: &name, columns: &columns, rows: rows.len(), row_width, cell, clickable: false };
    cell_grid::ui(ui, theme, &spec, row_name, |row, column| {
        let (site, side) = rows[row];
        let experts = routing.experts[side];
        let draws = routing.draws.get(site * 2 + side).copied().unwrap_or(0);
        let expected = draws as f64 / experts as f64;
        let place = row_name(row);
        if column >= most {
            let (text, what) = if column == most {
                (format::count(draws), "draws")
            } else {
                (format!("{expected:.1}"), "expected for each expert")
            };
            return GridCell { about: format!("{place}: {text} {what}"), text, ..GridCell::default() };
        }
        let Some(&count) = routing.counts.get(site * 2 + side).and_then(|counts| counts.get(column)) else {
            return GridCell::default();
        };
        let z = routing_stats::z_score(count, draws, experts);
        let share = if draws > 0 { count as f32 / draws as f32 } else { 0.0 };
        let text = match shown {
            CellContent::CountAndZ => format!("{count} {z:+.1}"),
            CellContent::Count => format::count(count),
            CellContent::Z => format!("{z:+.2}"),
            CellContent::Share => names::share(share),
        };
        let about = format!(
            "{place}, expert {column}: {} of {} draws, expected {expected:.1}, z {z:+.2}",
            format::count(count),
            format::count(draws),
        );
        // Grey: with a uniform law these numbers are known beforehand.
        let fill = Some(grey(theme, 0.5 * (z.abs() / STRONGEST).min(1.0) as f32));
        let value = Some(match shown {
            CellContent::CountAndZ | CellContent::Count => count as f64,
            CellContent::Z => z,
            CellContent::Share => count as f64 / draws.max(1) as f64,
        });
        GridCell { text, fill, value, about, chosen: false }
    });
}

pub fn verdict_text(subject: &Subject<'_>, balance: &Balance) -> (Verdict, String) {
    let &Subject { routing, kind, active, .. } = subject;
    let place = || {
        let (cell, expert) = balance.place;
        let site = routing.sites.get(cell / 2).map_or_else(String::new, |name| names::layer(name));
        format!("{site} {}, expert {expert}", names::side(kind, SIDES[cell % 2]))
    };
    let z = balance.largest;
    let (cells, typical, limit) = (balance.cells, balance.typical, balance.limit);
    let verdict = match balance.judgement {
        Judgement::NothingDrawn | Judgement::TooEarly => Verdict::Open,
        Judgement::WithinChance | Judgement::AsPlanned => Verdict::Passed,
        Judgement::Unusual => Verdict::Unsure,
        Judgement::NotChance | Judgement::NotAsPlanned => Verdict::Failed,
    };
    let words = match balance.judgement {
        Judgement::NothingDrawn => "Nothing is drawn: every layer has only one expert on each side.".to_owned(),
        Judgement::TooEarly => format!(
            "Too {} to judge: {:.1} draws expected for each expert{}, at least {FEWEST_EXPECTED:.0} are needed.",
            if active { "early" } else { "few draws" },
            balance.expected,
            if active { " so far" } else { "" }
        ),
        Judgement::WithinChance => format!(
            "The draws are uniform, as chance has it: chi-squared {} with {} degrees of freedom, p {}; the largest |z| of {cells} \
             counts is {:.1}, typically {typical:.1}.",
            format::significant(balance.chi_squared, 4),
            balance.freedom,
            format::significant(balance.p_value, 2),
            z.abs(),
        ),
        Judgement::Unusual => format!(
            "Unusual, but possible: {} has z {z:+.1}. With uniform draws the largest |z| of {cells} counts is about \
             {typical:.1}, and above {limit:.1} in 1 of 20 runs.{}",
            place(),
            // After the end there is nothing to watch.
            if active { " Watch whether it decreases." } else { "" }
        ),
        Judgement::NotChance => format!(
            "Not chance: {} has z {z:+.1}, and uniform draws give so much in fewer than 1 of 1000 runs (limit \
             {limit:.1} for {cells} counts). The draws are not uniform.",
            place()
        ),
        Judgement::AsPlanned => "Exactly as this policy prescribes; it has no random draws.".to_owned(),
        Judgement::NotAsPlanned => {
            "The counts differ from what this policy prescribes; it has no random draws.".to_owned()
        }
    };
    (verdict, words)
}
