//! The route map for papers and other programs: the draws of the steps on screen, and what each layer causes.

use super::map::{Map, pass_name};
use crate::app::names;
use crate::app::theme::Theme;
use crate::figure::{Cell, Cells, Color, Content, Figure, Table};
use crate::format;

/// Up to so many steps each has a column with its draws; more are counted together.
const SINGLE: u64 = 120;
/// Columns of counted steps.
const SPANS: u64 = 120;

/// The draws of these steps: the expert of every pass, or the share of steps in which the passes differ.
pub fn draws(map: &Map<'_>, [first, last]: [u64; 2]) -> Figure {
    let count = last.saturating_sub(first) + 1;
    let single = count <= SINGLE && !map.layout().is_mixed();
    let (cells, note) = if single { picks(map, first..=last) } else { shares(map, first, count) };
    let title = format!("Route map, steps {} to {}", format::count(first), format::count(last));
    Figure { note, ..Figure::new(title, Content::Cells(cells)) }
}

fn picks(map: &Map<'_>, steps: std::ops::RangeInclusive<u64>) -> (Cells, String) {
    let mut cells = Cells { columns: steps.clone().map(format::count).collect(), ..Cells::default() };
    let layout = map.layout();
    for layer in (0..map.layers.len()).rev() {
        let sites = map.site_of(layer).map_or_else(|| map.layers[layer].sites.clone(), |site| vec![site]);
        for site in sites {
            for side in layout.drawn().rev() {
                for pass in 0..layout.passes {
                    let name = format!("{} {}", names::layer(&layout.sites[site]), names::side(map.kind(), side));
                    cells.rows.push(if layout.passes == 2 { format!("{name}, {}", pass_name(pass)) } else { name });
                    let cell = |step: u64| {
                        let pick = map.timeline.row(step).and_then(|row| row.pick(pass, site, side));
                        pick.map_or((f64::NAN, WHITE), |expert| (expert as f64, on_paper(map.theme(), expert)))
                    };
                    cells.cells.push(steps.clone().map(cell).collect());
                }
            }
        }
    }
    (cells, "A column a step; number and colour: the expert that was drawn.".to_owned())
}

const WHITE: Color = [255; 3];

fn on_paper(theme: &Theme, expert: usize) -> Color {
    theme.on_paper(theme.series(expert))
}

fn shares(map: &Map<'_>, first: u64, count: u64) -> (Cells, String) {
    let width = count.div_ceil(SPANS).max(1);
    let spans: Vec<u64> = (0..count.div_ceil(width)).map(|span| first + span * width).collect();
    let layers = map.layers.len();
    let mut cells = Cells { columns: spans.iter().map(|&step| format::count(step)).collect(), ..Cells::default() };
    let columns: Vec<Vec<f64>> = spans
        .iter()
        .map(|&from| {
            let until = (from + width - 1).min(first + count - 1);
            let mut sums = vec![0u32; layers];
            let steps = map.timeline.differing(from..=until, &mut sums);
            let share =
                |(layer, sum): (usize, u32)| f64::from(sum) * map.timeline.unit(layer) / f64::from(steps.max(1));
            let known = |share: f64| if steps == 0 { f64::NAN } else { share };
            sums.into_iter().enumerate().map(share).map(known).collect()
        })
        .collect();
    for layer in (0..layers).rev() {
        cells.rows.push(map.layers[layer].name.clone());
        let cell = |column: &Vec<f64>| (column[layer], shade(column[layer]));
        cells.cells.push(columns.iter().map(cell).collect());
    }
    let who = if map.layout().passes == 2 { "the two passes" } else { "a step and the one before" };
    let note = format!(
        "A column: {}. Darker: a larger share of them in which {who} drew differently.",
        format::counted(width as usize, "step")
    );
    (cells, note)
}

/// White for 0, dark for 1.
fn shade(share: f64) -> Color {
    if share.is_nan() { WHITE } else { [(250.0 - 200.0 * share.clamp(0.0, 1.0)) as u8; 3] }
}

/// What each layer causes: a row a layer, the highest first.
pub fn causes(map: &Map<'_>) -> Table {
    let experts = map.layout().most_experts();
    let mut columns = ["layer", "kl slope", "kl slope SE", "kl slope z", "consensus"].map(str::to_owned).to_vec();
    columns.extend((0..experts).map(|expert| format!("pinned to {expert}")));
    columns.extend(["band low", "band high", "p", "without modules", "without modules SE"].map(str::to_owned));
    let mut table = Table::new(columns.iter().map(String::as_str));
    for layer in (0..map.layers.len()).rev() {
        let slope = map.slope(layer).map(|(slope, _)| slope);
        let newest = map.run.distances.last().and_then(|sample| map.consensus_of(layer, sample));
        let pins = map.pins(layer);
        let mut row: Vec<Cell> = vec![
            map.layers[layer].name.as_str().into(),
            slope.map(|slope| slope.value).into(),
            slope.map(|slope| slope.se).into(),
            slope.map(|slope| slope.z()).into(),
            newest.or_else(|| map.consensus(layer)).into(),
        ];
        row.extend((0..experts).map(|expert| Cell::from(pins.and_then(|pins| pins.effects.get(expert).copied()))));
        let of = |value: fn(&crate::protocol::LayerPins) -> f64| Cell::from(pins.map(value));
        row.extend([
            of(|pins| pins.null_band[0]),
            of(|pins| pins.null_band[1]),
            of(|pins| pins.p),
            of(|pins| pins.adapter_off),
            of(|pins| pins.adapter_off_standard_error),
        ]);
        table.push(row);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::shade;

    #[test]
    fn a_larger_share_is_darker_and_nothing_is_white() {
        assert_eq!([shade(0.0), shade(1.0), shade(f64::NAN)], [[250; 3], [50; 3], [255; 3]]);
        assert!(shade(0.75)[0] < shade(0.25)[0]);
    }
}
