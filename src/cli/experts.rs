//! `adamix inspect --consensus`, `--directions` and `--differences`: what the files of a run say about its experts.

use super::{Done, Failure, args, out, runs};
use crate::analysis::causes::consensus::of_strangers;
use crate::analysis::directions::Directions;
use crate::analysis::expert_stats::HostBank;
use crate::analysis::spectrum::Spectrum;
use crate::artifact::{RunDir, checkpoint, checkpoint_choice};
use crate::config::choice_name;
use crate::error::{Error, Result};
use crate::format;
use crate::mixture::{SIDES, Side};
use crate::workflow::runs as run_files;
use crate::workflow::snapshot::Banks;
use clap::{Arg, ArgMatches};
use serde::Serialize;

/// The flags, for `inspect`.
pub fn arguments() -> Vec<Arg> {
    let mine = |name: &'static str| args::switch(name).group("experts").conflicts_with("study");
    vec![
        mine("consensus").help(
            "Whether the experts come together: the consensus of each bank, from 1/sqrt(M) (nothing in common) to 1 (they are one), \
             at step 0 and at every checkpoint",
        ),
        mine("directions").help(
            "Singular values, effective and stable rank of each expert, of the mean and of the products of both sides; the overlap \
             and the angles of what two experts span, beside those of random spans",
        ),
        args::option("differences", "TENSOR").group("experts").conflicts_with("study").num_args(0..=1).require_equals(true).default_missing_value("").help(
            "Norms of each expert, of its difference from the experts' mean and from its start; of one tensor such as \
             layers.0.ffn.down.weight, with --json all of its values too",
        ),
        args::option("cell", "ROW,COLUMN")
            .requires("differences")
            .value_parser(cell)
            .help("The values of one weight of the tensor: of each expert now, at the start, and the mean"),
    ]
}

fn cell(text: &str) -> std::result::Result<(usize, usize), String> {
    let parsed = text.split_once(',').and_then(|(row, col)| Some((row.trim().parse().ok()?, col.trim().parse().ok()?)));
    parsed.ok_or_else(|| format!("{text:?} is not a row and a column, such as 3,57"))
}

/// Whether these flags ask for it.
pub fn wanted(matches: &ArgMatches) -> bool {
    matches.get_flag("consensus") || matches.get_flag("directions") || matches.contains_id("differences")
}

pub fn run(matches: &ArgMatches) -> Done {
    let dir = runs::open(matches)?;
    if matches.get_flag("consensus") {
        return consensus(matches, &dir).map_err(Failure::from);
    }
    let weights = checkpoint_choice::resolve(&dir, runs::checkpoint(matches))?;
    let banks = Banks::of_tensors(&checkpoint::read(&dir, weights.step)?.tensors)?;
    if banks.is_empty() {
        return Err(Failure::from(without_experts()));
    }
    let json = matches.get_flag("json");
    if matches.get_flag("directions") {
        let report = DirectionsReport { banks: directions(&banks) };
        let shown = if json { out::with_run(dir.path(), weights, &report) } else { print_directions(&report) };
        return shown.map_err(Failure::from);
    }
    let tensor = matches.get_one::<String>("differences").filter(|name| !name.is_empty());
    let asked = Asked { tensor: tensor.map(String::as_str), cell: matches.get_one("cell").copied(), values: json };
    let report = differences(&dir, &banks, asked)?;
    let shown = if json { out::with_run(dir.path(), weights, &report) } else { print_differences(&report) };
    shown.map_err(Failure::from)
}

fn without_experts() -> Error {
    Error::config("this run has no experts; only method adamix has")
}

/// The consensus of every bank over the steps.
#[derive(Debug, Serialize)]
struct ConsensusReport {
    run_dir: std::path::PathBuf,
    /// M.
    experts: usize,
    /// The value of experts that have nothing in common.
    strangers: f64,
    /// The steps for which there are weights: 0 from the seed or checkpoint 0, and the checkpoints.
    steps: Vec<u64>,
    banks: Vec<BankCurve>,
}

#[derive(Debug, Serialize)]
struct BankCurve {
    module: String,
    side: Side,
    /// One for each step; absent where all weights are zero.
    consensus: Vec<Option<f64>>,
}

fn consensus(matches: &ArgMatches, dir: &RunDir) -> Result<()> {
    let samples = run_files::distances(dir, &checkpoint::list(dir)?);
    let Some(first) = samples.first() else { return Err(without_experts()) };
    let last = checkpoint::list(dir)?.last().copied().unwrap_or(0);
    let sites = Banks::of_tensors(&checkpoint::read(dir, last)?.tensors)?.sites;
    let mixture = &dir.config().mixture;
    let experts = [mixture.down_experts(), mixture.up_experts()];
    let cells = (0..first.consensus.len()).filter(|cell| experts[cell % SIDES.len()] > 1);
    let curve = |cell: usize| BankCurve {
        module: sites.get(cell / SIDES.len()).cloned().unwrap_or_default(),
        side: SIDES[cell % SIDES.len()],
        consensus: samples.iter().map(|sample| sample.consensus.get(cell).copied().flatten()).collect(),
    };
    let report = ConsensusReport {
        run_dir: dir.path().to_owned(),
        experts: mixture.num_experts,
        strangers: of_strangers(mixture.num_experts),
        steps: samples.iter().map(|sample| sample.step).collect(),
        banks: cells.map(curve).collect(),
    };
    out::result(matches.get_flag("json"), &report, || print_consensus(&report))
}

fn print_consensus(report: &ConsensusReport) -> Result<()> {
    out::line(&format!(
        "{}: consensus of {} experts (1: they are one, {:.2}: nothing in common)",
        report.run_dir.display(),
        report.experts,
        report.strangers
    ))?;
    let steps = report.steps.iter().map(|step| format!("step {}", format::count(*step)));
    let mut rows = vec![out::row("bank", steps)];
    rows.extend(report.banks.iter().map(|bank| {
        let name = format!("{}.{}", bank.module, choice_name(bank.side));
        out::row(name, bank.consensus.iter().map(|q| out::or_dash(*q, |q| format!("{q:.3}"))))
    }));
    out::table(&rows)
}

#[derive(Debug, Serialize)]
struct DirectionsReport {
    banks: Vec<BankDirections>,
}

#[derive(Debug, Serialize)]
struct BankDirections {
    module: String,
    side: Side,
    #[serde(flatten)]
    directions: Directions,
}

fn directions(banks: &Banks) -> Vec<BankDirections> {
    let cells = banks.sites.iter().enumerate().flat_map(|(site, name)| SIDES.map(|side| (site, name, side)));
    let of = |(site, name, side): (usize, &String, Side)| {
        Some(BankDirections { module: name.clone(), side, directions: banks.directions(site, side)? })
    };
    cells.filter_map(of).collect()
}

fn print_directions(report: &DirectionsReport) -> Result<()> {
    let ranks = |spectrum: &Option<Spectrum>| {
        out::or_dash(spectrum.as_ref(), |s| format!("{:.1} / {:.1}", s.effective_rank, s.stable_rank))
    };
    let most = report.banks.iter().map(|bank| bank.directions.experts.len()).max().unwrap_or(0);
    let experts = (0..most).map(|expert| format!("expert {expert}"));
    let header =
        ["size".to_owned()].into_iter().chain(experts).chain(["mean", "product of the means"].map(str::to_owned));
    out::line("effective / stable rank")?;
    let mut rows = vec![out::row("bank", header)];
    for bank in &report.banks {
        let found = &bank.directions;
        let mut row = vec![format!("{}.{}", bank.module, choice_name(bank.side))];
        row.push(format!("{} of {}", found.each, found.space));
        row.extend((0..most).map(|i| found.experts.get(i).map_or_else(String::new, &ranks)));
        row.push(ranks(&found.mean));
        row.push(ranks(&found.mean_product));
        rows.push(row);
    }
    out::table(&rows)?;
    let mut rows = vec![out::row("overlap of two experts' spans", ["mean", "chance", "smallest angle", "chance"])];
    for bank in &report.banks {
        let found = &bank.directions;
        let Some(chance) = found.chance else { continue };
        let pairs = found.of_pairs();
        let cells = [
            out::or_dash(pairs, |(overlap, _)| format!("{overlap:.3}")),
            format!("{:.3} ± {:.3}", chance.overlap, chance.spread),
            out::or_dash(pairs, |(_, angle)| format!("{angle:.0}°")),
            format!("{:.0}°", chance.smallest),
        ];
        rows.push(out::row(format!("{}.{}", bank.module, choice_name(bank.side)), cells));
    }
    if rows.len() > 1 {
        out::line(
            "\nfrom 0 (orthogonal) to 1 (the same); chance: two random spans of the same sizes, ± one standard deviation",
        )?;
        out::table(&rows)?;
    }
    Ok(())
}

#[derive(Debug, Serialize)]
struct DifferencesReport {
    tensors: Vec<TensorDifferences>,
}

#[derive(Debug, Serialize)]
struct TensorDifferences {
    tensor: String,
    /// `[outputs, inputs]` of each expert.
    shape: [usize; 2],
    /// Norm of each expert's weights.
    norms: Vec<f64>,
    /// Norm of each expert's difference from the mean of all.
    from_mean: Vec<f32>,
    /// Norm of each expert's difference from its start.
    from_start: Vec<f32>,
    /// One weight, where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    cell: Option<CellValues>,
    /// All values, where one tensor was asked for. `[experts][outputs][inputs]`, of the mean `[outputs][inputs]`
    #[serde(skip_serializing_if = "Option::is_none")]
    values: Option<Values>,
}

#[derive(Debug, Serialize)]
struct CellValues {
    row: usize,
    column: usize,
    /// Of each expert.
    weight: Vec<f32>,
    mean: f32,
    /// Of each expert before the first step.
    start: Vec<f32>,
}

#[derive(Debug, Serialize)]
struct Values {
    weight: Vec<Vec<Vec<f32>>>,
    mean: Vec<Vec<f32>>,
    start: Vec<Vec<Vec<f32>>>,
}

#[derive(Clone, Copy)]
struct Asked<'a> {
    tensor: Option<&'a str>,
    cell: Option<(usize, usize)>,
    values: bool,
}

fn differences(dir: &RunDir, banks: &Banks, asked: Asked<'_>) -> Result<DifferencesReport> {
    let (kind, start) = (dir.config().mixture.kind, banks.at_start_of(dir)?);
    let named = banks.sides.iter().zip(&start.sides).enumerate();
    let named = named.map(|(i, (bank, start))| (banks.weight_name(kind, i), bank, start));
    let wanted: Vec<_> = named.filter(|(name, ..)| asked.tensor.is_none_or(|tensor| tensor == name)).collect();
    if wanted.is_empty() {
        let first = banks.weight_name(kind, 0);
        return Err(Error::config(format!(
            "there is no tensor {:?} of experts; choose one that `adamix inspect` lists, such as {first}",
            asked.tensor.unwrap_or_default()
        )));
    }
    let of = |(tensor, bank, start): (String, &HostBank, &HostBank)| -> Result<TensorDifferences> {
        let cell = asked.cell.map(|place| cell_values(&tensor, bank, start, place)).transpose()?;
        let whole = asked.values && asked.tensor.is_some();
        let matrix = |weight: &[f32]| weight.chunks(bank.cols.max(1)).map(<[f32]>::to_vec).collect::<Vec<_>>();
        let values = whole.then(|| Values {
            weight: bank.weights().map(matrix).collect(),
            mean: matrix(&bank.mean()),
            start: start.weights().map(matrix).collect(),
        });
        Ok(TensorDifferences {
            shape: [bank.rows, bank.cols],
            norms: bank.norms(),
            from_mean: bank.distances_from_mean(),
            from_start: bank.distances_from(start),
            tensor,
            cell,
            values,
        })
    };
    Ok(DifferencesReport { tensors: wanted.into_iter().map(of).collect::<Result<_>>()? })
}

fn cell_values(tensor: &str, bank: &HostBank, start: &HostBank, (row, column): (usize, usize)) -> Result<CellValues> {
    if row >= bank.rows || column >= bank.cols {
        return Err(Error::config(format!(
            "{tensor} has {} rows and {} columns, counted from 0, so there is no {row},{column}",
            bank.rows, bank.cols
        )));
    }
    let at = row * bank.cols + column;
    let of = |bank: &HostBank| bank.weights().map(|weight| weight[at]).collect();
    Ok(CellValues { row, column, weight: of(bank), mean: bank.mean()[at], start: of(start) })
}

fn print_differences(report: &DifferencesReport) -> Result<()> {
    let mut rows = vec![out::row("tensor", ["shape", "expert", "|W|", "|W - mean|", "|W - start|"])];
    for tensor in &report.tensors {
        let [outputs, inputs] = tensor.shape;
        for (expert, norm) in tensor.norms.iter().enumerate() {
            let value = |list: &[f32]| list.get(expert).map_or_else(String::new, |v| format!("{v:.4}"));
            let cells = [
                format!("{outputs} x {inputs}"),
                expert.to_string(),
                format!("{norm:.4}"),
                value(&tensor.from_mean),
                value(&tensor.from_start),
            ];
            rows.push(out::row(tensor.tensor.clone(), cells));
        }
    }
    out::table(&rows)?;
    for tensor in &report.tensors {
        let Some(cell) = &tensor.cell else { continue };
        out::line(&format!("\n{} row {} column {}", tensor.tensor, cell.row, cell.column))?;
        let mut rows = vec![out::row("expert", ["weight", "mean", "start", "- mean", "- start"])];
        rows.extend(cell.weight.iter().zip(&cell.start).enumerate().map(|(expert, (weight, start))| {
            let values = [*weight, cell.mean, *start, weight - cell.mean, weight - start];
            out::row(expert.to_string(), values.map(|value| format!("{value:+.6}")))
        }));
        out::table(&rows)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_weight_is_read_where_it_lies() {
        let bank =
            |weight: &[f32]| HostBank { experts: 2, rows: 2, cols: 2, weight: weight.to_vec(), bias: Vec::new() };
        let now = bank(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
        let start = bank(&[0.0; 8]);
        let found = cell_values("t", &now, &start, (1, 0)).unwrap();
        assert_eq!((found.weight, found.mean, found.start), (vec![3.0, 7.0], 5.0, vec![0.0, 0.0]));
        let wrong = cell_values("t", &now, &start, (2, 0)).unwrap_err().to_string();
        assert!(wrong.contains("2 rows and 2 columns") && wrong.contains("no 2,0"), "{wrong}");
        assert_eq!(cell("3, 57"), Ok((3, 57)));
        assert!(cell("3").is_err() && cell("a,b").is_err());
    }
}
