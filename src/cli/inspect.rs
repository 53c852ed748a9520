//! `adamix inspect`: parameters, routing counts against their expectation, and how far the experts have become one.
//!
//! Everything comes from the files of the run; the model is not loaded, unless `--averages` or `--rounding` ask for a study
//! of the model at work.

use super::{Done, experts, out, runs, study};
use crate::analysis::expert_stats::{CosineOf, norm};
use crate::analysis::routing_stats::RoutingSnapshot;
use crate::artifact::{RunDir, checkpoint, checkpoint_choice};
use crate::config::{MixtureKind, choice_name};
use crate::error::Result;
use crate::format;
use crate::mixture::{SIDES, Side};
use crate::protocol::{Checkpoint, WeightsOf};
use crate::workflow::runs as run_files;
use crate::workflow::snapshot::Banks;
use clap::{ArgMatches, Command};
use serde::Serialize;

/// One trained tensor.
#[derive(Debug, Serialize)]
struct Parameter {
    name: String,
    shape: Vec<usize>,
    values: usize,
    norm: f64,
}

/// How often the experts of one side of one adapted module were drawn.
#[derive(Debug, Serialize)]
struct RoutingRow {
    site: usize,
    /// Name of the module, such as `layers.3.ffn`.
    name: String,
    side: Side,
    /// Draws of each expert.
    counts: Vec<u64>,
    /// What a fair draw gives on average.
    expected: f64,
    /// (count - expected) / standard deviation; absent where nothing is drawn by chance.
    z: Option<Vec<f64>>,
}

/// How the experts of one bank compare.
#[derive(Debug, Serialize)]
struct ExpertRow {
    tensor: String,
    /// Norm of each expert's weight.
    norms: Vec<f64>,
    /// How far they have become one: from 1/sqrt(M) to 1; absent where all weights are zero.
    consensus: Option<f64>,
    /// What the cosines compare: the change since the start, as in the window.
    cosine_of: CosineOf,
    /// Cosine between every two experts, row by row.
    cosine: Vec<Vec<f64>>,
}

#[derive(Debug, Serialize)]
struct Inspection {
    run_dir: std::path::PathBuf,
    #[serde(flatten)]
    weights: WeightsOf,
    parameters: Vec<Parameter>,
    routing: Vec<RoutingRow>,
    experts: Vec<ExpertRow>,
}

pub(super) fn command() -> Command {
    Command::new("inspect")
        .about(
            "Look into a run: parameters, routing counts with z-scores, norms of the experts and cosines of their changes; what the draw causes; \
             the loss along every route; three averages of the experts; what number formats cost",
        )
        .args(runs::arguments())
        .args(study::arguments())
        .args(experts::arguments())
}

pub(super) fn run(matches: &ArgMatches) -> Done {
    if study::wanted(matches) {
        return study::run(matches);
    }
    if experts::wanted(matches) {
        return experts::run(matches);
    }
    let dir = runs::open(matches)?;
    let inspection = inspect(&dir, runs::checkpoint(matches))?;
    Ok(out::result(matches.get_flag("json"), &inspection, || print(&inspection))?)
}

fn inspect(dir: &RunDir, which: Checkpoint) -> Result<Inspection> {
    let weights = checkpoint_choice::resolve(dir, which)?;
    let data = checkpoint::read(dir, weights.step)?;
    let parameters = data.tensors.iter().map(|tensor| Parameter {
        name: tensor.name.clone(),
        shape: tensor.shape.clone(),
        values: tensor.data.len(),
        norm: norm(tensor.data.iter().map(|&value| f64::from(value))),
    });
    let banks = Banks::of_tensors(&data.tensors)?;
    Ok(Inspection {
        run_dir: dir.path().to_owned(),
        weights,
        parameters: parameters.collect(),
        routing: routing_rows(&run_files::route_counts(dir, banks.sites.clone(), weights.step)?.snapshot()),
        experts: expert_rows(dir.config().mixture.kind, &banks, &banks.at_start_of(dir)?),
    })
}

/// The counts of all draws, module by module; nothing before the first draw.
fn routing_rows(routing: &RoutingSnapshot) -> Vec<RoutingRow> {
    let cells = routing.counts.iter().zip(routing.z_scores()).enumerate();
    let rows = cells.filter(|(_, (counts, _))| routing.step > 0 && counts.len() > 1).map(|(cell, (counts, z))| {
        let (site, side) = (cell / SIDES.len(), SIDES[cell % SIDES.len()]);
        let expected = routing.draws[cell] as f64 / counts.len() as f64;
        RoutingRow { site, name: routing.sites[site].clone(), side, counts: counts.clone(), expected, z }
    });
    rows.collect()
}

/// Norms and cosines of every bank of more than one expert.
fn expert_rows(kind: MixtureKind, now: &Banks, start: &Banks) -> Vec<ExpertRow> {
    let banks = now.sides.iter().zip(&start.sides).enumerate();
    let rows = banks.filter(|(_, (bank, _))| bank.experts > 1).map(|(index, (bank, start))| {
        let cosines = bank.cosines(start);
        ExpertRow {
            tensor: now.weight_name(kind, index),
            norms: bank.norms(),
            consensus: bank.consensus(),
            cosine_of: cosines.of,
            cosine: cosines.values.chunks(bank.experts).map(<[f64]>::to_vec).collect(),
        }
    });
    rows.collect()
}

fn print(inspection: &Inspection) -> Result<()> {
    out::line(&format!("{}, {}", inspection.run_dir.display(), inspection.weights))?;
    let header = out::row("trained tensor", ["shape", "values", "norm"]);
    let rows = inspection.parameters.iter().map(|parameter| {
        let shape = parameter.shape.iter().map(usize::to_string).collect::<Vec<_>>().join(" x ");
        let values = format::count(parameter.values);
        vec![parameter.name.clone(), shape, values, format!("{:.3}", parameter.norm)]
    });
    out::table(&std::iter::once(header).chain(rows).collect::<Vec<_>>())?;
    let total: usize = inspection.parameters.iter().map(|parameter| parameter.values).sum();
    out::line(&format!("{} values in all\n", format::count(total)))?;
    print_routing(&inspection.routing)?;
    print_experts(&inspection.experts)
}

fn print_routing(rows: &[RoutingRow]) -> Result<()> {
    if rows.is_empty() {
        return out::line("no routing: no side has more than one expert");
    }
    let most = rows.iter().map(|row| row.counts.len()).max().unwrap_or(0);
    let experts = (0..most).map(|expert| expert.to_string());
    let mut table = vec![out::row("draws of expert", experts.chain(["expected", "largest |z|"].map(str::to_owned)))];
    for row in rows {
        let mut cells = vec![format!("{}.{}", row.name, choice_name(row.side))];
        cells.extend(
            (0..most).map(|expert| row.counts.get(expert).map_or_else(String::new, |&count| format::count(count))),
        );
        cells.push(format!("{:.1}", row.expected));
        let largest = row.z.as_ref().map(|z| z.iter().fold(0.0, |most: f64, z| most.max(z.abs())));
        cells.push(out::or_dash(largest, |z| format!("{z:.2}")));
        table.push(cells);
    }
    out::table(&table)?;
    let beyond = rows.iter().filter_map(|row| row.z.as_ref()).flatten().filter(|z| z.abs() > 3.0).count();
    out::line(&format!("{beyond} counts are more than 3 standard deviations off (fair draws: about 3 in 1000)\n"))
}

fn print_experts(rows: &[ExpertRow]) -> Result<()> {
    for row in rows {
        let norms: Vec<String> = row.norms.iter().map(|norm| format!("{norm:.3}")).collect();
        let consensus = out::or_dash(row.consensus, |q| format!("{q:.3}"));
        out::line(&format!("{}: norms {}; consensus {consensus}", row.tensor, norms.join(" ")))?;
        out::line(&format!("    cosine of {}", row.cosine_of.describe()))?;
        for line in &row.cosine {
            let cells: Vec<String> = line.iter().map(|cosine| format!("{cosine:7.3}")).collect();
            out::line(&format!("    {}", cells.join(" ")))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::expert_stats::HostBank;
    use crate::config::RoutingPolicy;

    #[test]
    fn counts_are_compared_with_uniform_draws() {
        let routing = RoutingSnapshot {
            step: 1,
            sites: vec!["layers.0.ffn".to_owned()],
            counts: vec![vec![30, 20, 25, 25], vec![100]],
            draws: vec![100, 100],
            ..RoutingSnapshot::default()
        };
        let rows = routing_rows(&routing);
        assert_eq!((rows.len(), rows[0].expected), (1, 25.0), "a shared side is not drawn");
        let z = rows[0].z.as_ref().unwrap();
        // 5 / sqrt(100 * 1/4 * 3/4)
        assert!((z[0] - 1.154_700_5).abs() < 1e-6 && (z[1] + z[0]).abs() < 1e-12 && z[2] == 0.0, "{z:?}");
        assert!(routing_rows(&RoutingSnapshot { step: 0, ..routing.clone() }).is_empty());
        let fixed = RoutingSnapshot { policy: RoutingPolicy::Fixed, ..routing };
        assert!(routing_rows(&fixed)[0].z.is_none(), "nothing is left to chance");
    }

    #[test]
    fn cosines_are_those_of_the_window() {
        let bank =
            |weight: &[f32]| HostBank { experts: 2, rows: 1, cols: 2, weight: weight.to_vec(), bias: Vec::new() };
        let banks = |weight: &[f32]| Banks {
            sites: vec!["layers.0.ffn".to_owned()],
            sides: vec![bank(weight), bank(&[1.0; 4])],
        };
        // The weights [3, 4] and [0, 2] are not orthogonal, their changes from [0, 4] and [0, 0] are.
        let (now, start) = (banks(&[3.0, 4.0, 0.0, 2.0]), banks(&[0.0, 4.0, 0.0, 0.0]));
        let rows = expert_rows(MixtureKind::Adapter, &now, &start);
        assert_eq!((rows[0].tensor.as_str(), &rows[0].norms[..]), ("layers.0.ffn.down.weight", &[5.0, 2.0][..]));
        assert_eq!((rows[0].cosine_of, &rows[0].cosine[..]), (CosineOf::Change, &[vec![1.0, 0.0], vec![0.0, 1.0]][..]));
        let window = crate::workflow::snapshot::experts(&now, &start, 1, (0, None));
        for (row, side) in rows.iter().zip(&window.sides) {
            let cells: Vec<f32> = row.cosine.iter().flatten().map(|&cosine| cosine as f32).collect();
            assert_eq!((row.cosine_of, &cells), (side.cosine_of, &side.cosine));
        }
        assert_eq!(rows[1].cosine_of, CosineOf::Weights, "an unchanged bank has no changes to compare");
    }
}
