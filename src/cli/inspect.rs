//! `adamix inspect`: parameters, routing counts against their expectation, and how far the experts are apart.
//!
//! Everything comes from the files of the run; the model is not loaded, unless `--averages` or `--rounding` ask for a study
//! of the model at work.

use super::{Done, out, runs, study};
use crate::artifact::recorder::routes::RouteFile;
use crate::artifact::{RunDir, checkpoint};
use crate::config::RoutingPolicy;
use crate::error::Result;
use crate::mixture::{Pick, SIDES, Side};
use crate::protocol::Checkpoint;
use crate::tensor::HostTensor;
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

/// How often the experts of one side of one site were drawn.
#[derive(Debug, Serialize)]
struct RoutingRow {
    site: usize,
    /// Name of the site, such as `layers.3.ffn`.
    name: String,
    side: Side,
    /// Draws of each expert.
    counts: Vec<u64>,
    /// What a fair draw gives on average.
    expected: f64,
    /// (count - expected) / standard deviation; absent where nothing is drawn by chance.
    z: Option<Vec<f64>>,
}

/// How the experts of one tensor compare.
#[derive(Debug, Serialize)]
struct ExpertRow {
    tensor: String,
    /// Norm of each expert.
    norms: Vec<f64>,
    /// Cosine between every two experts, row by row.
    cosine: Vec<Vec<f64>>,
}

#[derive(Debug, Serialize)]
struct Inspection {
    run_dir: std::path::PathBuf,
    step: u64,
    parameters: Vec<Parameter>,
    routing: Vec<RoutingRow>,
    experts: Vec<ExpertRow>,
}

pub(super) fn command() -> Command {
    Command::new("inspect")
        .about(
            "Look into a run: parameters, routing counts with z-scores, norms and cosines of the experts; three averages of \
             the experts; what number formats cost",
        )
        .arg(runs::argument())
        .arg(runs::root_argument())
        .arg(runs::checkpoint_argument())
        .args(study::arguments())
}

pub(super) fn run(matches: &ArgMatches) -> Done {
    if study::wanted(matches) {
        return study::run(matches);
    }
    let dir = runs::open(matches)?;
    let inspection = inspect(&dir, super::usage(runs::checkpoint(matches))?)?;
    if matches.get_flag("json") {
        return Ok(out::json(&inspection)?);
    }
    print(&inspection)?;
    Ok(())
}

fn inspect(dir: &RunDir, which: Checkpoint) -> Result<Inspection> {
    let step = crate::workflow::saved_run::checkpoint_step(dir, which)?;
    let data = checkpoint::read(dir, step)?;
    let parameters = data.tensors.iter().map(|tensor| Parameter {
        name: tensor.name.clone(),
        shape: tensor.shape.clone(),
        values: tensor.data.len(),
        norm: norm(&tensor.data),
    });
    Ok(Inspection {
        run_dir: dir.path().to_owned(),
        step,
        parameters: parameters.collect(),
        routing: routing(dir, step, &Banks::of_tensors(&data.tensors)?.sites)?,
        experts: data.tensors.iter().filter_map(experts).collect(),
    })
}

/// Counts of all draws up to `step`, site by site.
fn routing(dir: &RunDir, step: u64, names: &[String]) -> Result<Vec<RoutingRow>> {
    let mixture = &dir.config().mixture;
    let experts = [mixture.down_experts(), mixture.up_experts()];
    let mut counts: Vec<[Vec<u64>; 2]> = Vec::new();
    if !dir.routes().is_file() {
        return Ok(Vec::new());
    }
    for record in RouteFile::open(&dir.routes())? {
        let record = record?;
        if record.step > step {
            break;
        }
        counts.resize_with(record.route.sites.max(counts.len()), || experts.map(|experts| vec![0; experts]));
        for pass in 0..record.route.passes {
            for (site, sides) in counts.iter_mut().enumerate().take(record.route.sites) {
                for side in SIDES {
                    let mut count = |expert: u8| {
                        if let Some(slot) = sides[side as usize].get_mut(expert as usize) {
                            *slot += 1;
                        }
                    };
                    match record.route.pick(pass, site, side) {
                        Pick::One(expert) => count(*expert),
                        Pick::PerExample(many) | Pick::PerToken(many) => many.iter().copied().for_each(&mut count),
                    }
                }
            }
        }
    }
    let by_chance = !matches!(mixture.routing, RoutingPolicy::Fixed | RoutingPolicy::RoundRobin);
    let rows = counts.into_iter().enumerate().flat_map(|(site, sides)| {
        let name = names.get(site).cloned().unwrap_or_else(|| format!("site {site}"));
        let row = move |(side, counts)| routing_row((site, name.clone()), side, counts, by_chance);
        SIDES.into_iter().zip(sides).map(row)
    });
    Ok(rows.filter(|row| row.counts.len() > 1).collect())
}

/// Each draw is uniform over M experts, so a count is binomial with mean n/M and variance n/M (1 - 1/M).
fn routing_row((site, name): (usize, String), side: Side, counts: Vec<u64>, by_chance: bool) -> RoutingRow {
    let draws = counts.iter().sum::<u64>() as f64;
    let share = 1.0 / counts.len() as f64;
    let expected = draws * share;
    let deviation = (draws * share * (1.0 - share)).sqrt();
    let z = (by_chance && deviation > 0.0)
        .then(|| counts.iter().map(|&count| (count as f64 - expected) / deviation).collect());
    RoutingRow { site, name, side, counts, expected, z }
}

/// Norms and cosines of a bank; nothing for a tensor of one expert, or of the head.
fn experts(tensor: &HostTensor) -> Option<ExpertRow> {
    let [count, rows, columns] = tensor.shape[..] else { return None };
    if count < 2 || !tensor.name.ends_with("weight") {
        return None;
    }
    let parts: Vec<&[f32]> = tensor.data.chunks_exact(rows * columns).collect();
    let norms: Vec<f64> = parts.iter().map(|part| norm(part)).collect();
    let cosine = |a: usize, b: usize| dot(parts[a], parts[b]) / (norms[a] * norms[b]);
    let row = |a| (0..count).map(|b| cosine(a, b)).collect();
    Some(ExpertRow { tensor: tensor.name.clone(), cosine: (0..count).map(row).collect(), norms })
}

fn norm(values: &[f32]) -> f64 {
    dot(values, values).sqrt()
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

fn print(inspection: &Inspection) -> Result<()> {
    out::line(&format!("{} after {} steps", inspection.run_dir.display(), inspection.step))?;
    let header = ["trained tensor", "shape", "values", "norm"].map(str::to_owned).to_vec();
    let rows = inspection.parameters.iter().map(|parameter| {
        let shape = parameter.shape.iter().map(usize::to_string).collect::<Vec<_>>().join(" x ");
        let values = out::count(parameter.values as u64);
        vec![parameter.name.clone(), shape, values, format!("{:.3}", parameter.norm)]
    });
    out::table(&std::iter::once(header).chain(rows).collect::<Vec<_>>())?;
    let total: usize = inspection.parameters.iter().map(|parameter| parameter.values).sum();
    out::line(&format!("{} values in all\n", out::count(total as u64)))?;
    print_routing(&inspection.routing)?;
    print_experts(&inspection.experts)
}

fn print_routing(rows: &[RoutingRow]) -> Result<()> {
    if rows.is_empty() {
        return out::line("no routing: no side has more than one expert");
    }
    let most = rows.iter().map(|row| row.counts.len()).max().unwrap_or(0);
    let mut header = vec!["draws of expert".to_owned()];
    header.extend((0..most).map(|expert| expert.to_string()));
    header.push("expected".to_owned());
    header.push("largest |z|".to_owned());
    let mut table = vec![header];
    for row in rows {
        let mut cells = vec![format!("{}.{}", row.name, side_name(row.side))];
        cells.extend(
            (0..most).map(|expert| row.counts.get(expert).map_or_else(String::new, |&count| out::count(count))),
        );
        cells.push(format!("{:.1}", row.expected));
        let largest = row.z.as_ref().map(|z| z.iter().fold(0.0, |most: f64, z| most.max(z.abs())));
        cells.push(largest.map_or_else(|| "-".to_owned(), |z| format!("{z:.2}")));
        table.push(cells);
    }
    out::table(&table)?;
    let beyond = rows.iter().filter_map(|row| row.z.as_ref()).flatten().filter(|z| z.abs() > 3.0).count();
    out::line(&format!("{beyond} counts are more than 3 standard deviations off (fair draws: about 3 in 1000)\n"))
}

fn side_name(side: Side) -> &'static str {
    match side {
        Side::Down => "down",
        Side::Up => "up",
    }
}

fn print_experts(rows: &[ExpertRow]) -> Result<()> {
    for row in rows {
        let norms: Vec<String> = row.norms.iter().map(|norm| format!("{norm:.3}")).collect();
        out::line(&format!("{}: norms {}", row.tensor, norms.join(" ")))?;
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

    #[test]
    fn counts_are_held_against_a_fair_draw() {
        let row = routing_row((0, String::new()), Side::Down, vec![30, 20, 25, 25], true);
        assert_eq!(row.expected, 25.0);
        let z = row.z.unwrap();
        // 5 / sqrt(100 * 1/4 * 3/4)
        assert!((z[0] - 1.154_700_5).abs() < 1e-6 && (z[1] + z[0]).abs() < 1e-12 && z[2] == 0.0, "{z:?}");
        assert!(routing_row((0, String::new()), Side::Down, vec![30, 20], false).z.is_none());
        assert!(routing_row((0, String::new()), Side::Up, vec![0, 0], true).z.is_none());
    }

    #[test]
    fn norms_and_cosines_of_a_bank() {
        let tensor = |name: &str, shape: Vec<usize>, data: Vec<f32>| HostTensor { name: name.to_owned(), shape, data };
        let bank = tensor("layers.0.ffn.down.weight", vec![3, 1, 2], vec![3.0, 4.0, 4.0, -3.0, -6.0, -8.0]);
        let row = experts(&bank).unwrap();
        assert_eq!(row.norms, [5.0, 5.0, 10.0]);
        assert_eq!(row.cosine[0], [1.0, 0.0, -1.0]);
        assert!(experts(&tensor("layers.0.ffn.up.weight", vec![1, 1, 2], vec![3.0, 4.0])).is_none());
        assert!(experts(&tensor("classifier.weight", vec![2, 2], vec![0.0; 4])).is_none());
    }
}
