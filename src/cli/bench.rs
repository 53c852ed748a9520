//! `adamix bench`: training speed and memory on random weights of a known shape, against this machine's GEMM rate.
//! `adamix bench scale`: how they grow with the work. `adamix bench --compare`: two results side by side.

use super::{Done, Failure, out, usage};
use crate::bench;
use crate::bench::compare;
use crate::bench::compare::Comparison;
use crate::bench::figures::ProductRate;
use crate::bench::scale;
use crate::bench::scale::{Scale, Settings};
use crate::bench::{Lengths, Measured, Plan, Shape, plot, shapes};
use crate::config::{DeviceChoice, RunConfig, keys};
use crate::error::{Error, Result};
use crate::machine::facts;
use crate::tensor::NumberFormat;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Steps before the first timed one.
const WARM_UP: usize = 2;

pub(super) fn command() -> Command {
    let number = |name: &'static str, value: &'static str, default: &'static str, help: &'static str| {
        let range = value_parser!(u32).range(1..=65_536);
        Arg::new(name).long(name).value_name(value).value_parser(range).default_value(default).help(help)
    };
    let file = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).value_parser(value_parser!(PathBuf)).help(help)
    };
    let recompute = || {
        let help = "Run layers again in the backward pass instead of keeping their activations";
        Arg::new("recompute").long("recompute").action(ArgAction::SetTrue).help(help)
    };
    let scale = Command::new("scale")
        .about("Measure how time and memory grow with tokens, layers, experts, bottleneck and sequence length")
        .arg(
            Arg::new("quick")
                .long("quick")
                .action(ArgAction::SetTrue)
                .help("Fewer sizes and steps: half a minute instead of a few"),
        )
        .arg(
            file("out", "FILE", "Where the figures go (JSON); the picture goes beside it (.svg)")
                .default_value("bench-scale.json"),
        )
        .arg(recompute())
        .arg(super::eval::threads())
        .arg(super::json_flag());
    Command::new("bench")
        .about("Measure training on random weights: time by phase, share of the GEMM rate, memory")
        .subcommand(scale)
        .args_conflicts_with_subcommands(true)
        .arg(
            Arg::new("shape")
                .long("shape")
                .value_name("SHAPE")
                .value_parser(shapes::names())
                .default_value("roberta-base")
                .help("The model's sizes"),
        )
        .arg(
            Arg::new("data")
                .long("data")
                .value_name("KIND")
                .value_parser(["dense", "real"])
                .default_value("dense")
                .help("Sequences of one length, or of the lengths of SST-2's sentences (built in)"),
        )
        .arg(file("sentences", "DIR", "Lengths of these sentences instead: SST-2 in GLUE layout"))
        .arg(number("batch-size", "N", "16", "Sequences in a batch (8 of a language model)"))
        .arg(number("length", "TOKENS", "64", "Tokens of each dense sequence (256 of a language model)"))
        .arg(number("num-experts", "M", "4", "Experts per site"))
        .arg(number("adapter-size", "R", "16", "Bottleneck; of a language model the rank of LoRA (4)"))
        .arg(
            Arg::new("passes")
                .long("passes")
                .value_name("N")
                .value_parser(value_parser!(u32).range(1..=2))
                .default_value("2")
                .help("Times each batch goes through: 2 with the consistency term"),
        )
        .arg(number("steps", "N", "6", "Steps to time, after two to warm up"))
        .arg(recompute())
        .arg(
            Arg::new("device")
                .long("device")
                .value_name("DEVICE")
                .value_parser(|text: &str| text.parse::<DeviceChoice>())
                .default_value("cpu")
                .help("Where it runs: auto, cpu, cuda, metal, or a GPU by number such as cuda:1"),
        )
        .arg(
            Arg::new("dtype")
                .long("dtype")
                .value_name("FORMAT")
                .value_parser(keys::help("model.dtype").map_or(&[][..], |key| key.choices).to_vec())
                .default_value("auto")
                .help("Number format of the frozen trunk"),
        )
        .arg(
            Arg::new("weights")
                .long("weights")
                .value_name("FORMAT")
                .value_parser(["q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q4_k", "q5_k", "q6_k"])
                .help("Quantise a language model's matrices, as a GGUF file has them"),
        )
        .arg(
            Arg::new("no-phases")
                .long("no-phases")
                .action(ArgAction::SetTrue)
                .help("Do not record phases: what recording costs is the difference"),
        )
        .arg(super::eval::threads())
        .arg(file("out", "FILE", "Write the result there too, as JSON"))
        .arg(
            file("compare", "FILE", "Measure nothing; show two results (JSON) and their ratios")
                .num_args(2)
                .value_names(["A.json", "B.json"]),
        )
}

pub(super) fn run(matches: &ArgMatches) -> Done {
    if let Some(files) = matches.get_many::<PathBuf>("compare") {
        let files: Vec<&PathBuf> = files.collect();
        return show_comparison(&compare::files(files[0], files[1])?, matches.get_flag("json"));
    }
    if let Some(("scale", inner)) = matches.subcommand() {
        return run_scale(inner, inner.get_flag("json"));
    }
    let plan = plan(matches)?;
    let measured = pool(matches)?.install(|| bench::bench(&plan))?;
    if let Some(path) = matches.get_one::<PathBuf>("out") {
        write_json(path, &measured)?;
    }
    if matches.get_flag("json") {
        out::json(&measured)?;
    } else {
        print(&measured)?;
    }
    if measured.loss.is_finite() {
        return Ok(());
    }
    Err(Failure::Reported(Error::internal(format!("the loss was {} on random weights", measured.loss))))
}

fn plan(matches: &ArgMatches) -> std::result::Result<Plan, Failure> {
    let number = |name: &str| matches.get_one::<u32>(name).map_or(1, |&number| number as usize);
    let text = |name: &str| matches.get_one::<String>(name).map_or("", String::as_str);
    let shape = usage(Shape::by_name(text("shape")))?;
    let fitting = |name: &str, of_decoder: usize| {
        let given = matches.value_source(name) != Some(clap::parser::ValueSource::DefaultValue);
        if given || !shape.is_decoder() { number(name) } else { of_decoder }
    };
    let lengths = match (matches.get_one::<PathBuf>("sentences"), text("data")) {
        (Some(directory), _) => Lengths::Sentences(directory.clone()),
        (None, "real") => Lengths::Real,
        _ => Lengths::Dense(fitting("length", 256)),
    };
    let mut config = RunConfig::default();
    usage(keys::set(&mut config, "model.dtype", text("dtype")))?;
    let plan = Plan {
        shape,
        lengths,
        batch_size: fitting("batch-size", 8),
        num_experts: number("num-experts"),
        adapter_size: fitting("adapter-size", 4),
        passes: number("passes"),
        warm_up: WARM_UP,
        steps: number("steps"),
        recompute: matches.get_flag("recompute"),
        device: matches.get_one::<DeviceChoice>("device").copied().unwrap_or(DeviceChoice::Cpu),
        dtype: config.model.dtype,
        weights: NumberFormat::by_name(text("weights")),
        phases: !matches.get_flag("no-phases"),
    };
    usage(plan.check())?;
    Ok(plan)
}

fn pool(matches: &ArgMatches) -> Result<rayon::ThreadPool> {
    facts::pool(matches.get_one::<u16>("threads").map_or(0, |&threads| usize::from(threads)), 0)
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string(value).map_err(|err| Error::internal(format!("no JSON of a result: {err}")))?;
    std::fs::write(path, text + "\n").map_err(|err| Error::io("writing the result", path, err))
}

fn print(measured: &Measured) -> Result<()> {
    let of_step = |mb: Option<f64>| mb.map_or_else(String::new, |mb| format!(", {mb:.0} MB of a step's own"));
    let rows = [
        ("shape", format!("{}, {} million parameters", measured.shape, measured.trunk_parameters / 1_000_000)),
        (
            "batch",
            format!(
                "{} sequences, {}; {:.0} tokens a step in {} pass{}",
                measured.batch_size,
                measured.data,
                measured.tokens_per_step,
                measured.passes,
                if measured.passes == 1 { "" } else { "es" }
            ),
        ),
        ("mixture", format!("{} experts, bottleneck {}", measured.num_experts, measured.adapter_size)),
        (
            "computed on",
            format!(
                "{}, {} threads, {}{}",
                measured.device,
                measured.threads,
                measured.dtype,
                if measured.weights == measured.dtype {
                    String::new()
                } else {
                    format!(", weights in {}", measured.weights)
                }
            ),
        ),
        (
            "GPU memory",
            measured
                .device_memory_mb
                .map_or_else(|| "none".to_owned(), |mb| format!("{mb:.0} MB in use after the last step")),
        ),
        (
            "step",
            format!(
                "{:.3} s ({:.3} to {:.3}; median and range of {})",
                measured.step_seconds, measured.step_seconds_min, measured.step_seconds_max, measured.steps
            ),
        ),
        (
            "speed",
            format!(
                "{} tokens/s ({} to {}), {:.1} sequences/s",
                out::count(measured.tokens_per_s as u64),
                out::count(measured.tokens_per_s_min as u64),
                out::count(measured.tokens_per_s_max as u64),
                measured.sequences_per_s
            ),
        ),
        (
            "work",
            format!(
                "{:.0} GFLOP/s of the {:.0} that matrix products reach here: {:.0} % (4 FLOPs a weight and token)",
                measured.gflops,
                measured.gemm_gflops,
                100.0 * measured.gemm_share
            ),
        ),
        (
            "",
            format!(
                "{:.0} GFLOP/s of products really made: {:.0} %; {:.0} GFLOP/s while they are made",
                measured.gflops_made,
                100.0 * measured.gemm_share_made,
                measured.gflops_in_products
            ),
        ),
        (
            "memory",
            format!(
                "{:.0} MB at most, {:.0} MB steady{}{}",
                measured.peak_rss_mb,
                measured.steady_rss_mb,
                of_step(measured.step_mb),
                if measured.recompute { ", activations computed again" } else { "" }
            ),
        ),
        ("", format!("{:.0} MB weights, {:.0} MB above them", measured.weights_mb, measured.peak_above_weights_mb)),
    ];
    for (what, value) in rows {
        out::line(&format!("{what:<12} {value}"))?;
    }
    for (i, product) in measured.f32_products.iter().enumerate() {
        let ProductRate { rows, inner, columns, gemm_crate, ours } = product;
        let what = if i == 0 { "f32" } else { "" };
        let ratio = ours / gemm_crate;
        out::line(&format!(
            "{what:<12} {rows} x {inner} x {columns}: gemm crate {gemm_crate:.0} | ours {ours:.0} GFLOP/s ({ratio:.2}x)"
        ))?;
    }
    if let (Some(allocations), Some(mb)) = (measured.allocations_per_step, measured.allocated_mb_per_step) {
        out::line(&format!("{:<12} {allocations:.0} a step, {mb:.0} MB in all", "allocations"))?;
    }
    out::line("")?;
    let cells = |cells: [String; 5]| cells.to_vec();
    let mut rows = vec![cells(["phase", "ms a step", "least", "most", "share"].map(str::to_owned))];
    for phase in &measured.phases {
        let ms = |ms: f64| format!("{ms:.2}");
        let share = format!("{:.1} %", 100.0 * phase.share);
        rows.push(cells([
            phase.phase.replace('_', " "),
            ms(phase.ms.median),
            ms(phase.ms.min),
            ms(phase.ms.max),
            share,
        ]));
    }
    out::table(&rows)
}

fn show_comparison(comparison: &Comparison, json: bool) -> Done {
    if json {
        return Ok(out::json(comparison)?);
    }
    let rounds = |n: usize| if n == 1 { String::new() } else { format!(", median of {n}") };
    out::line(&format!("A: {}{}", comparison.a, rounds(comparison.rounds[0])))?;
    out::line(&format!("B: {}{}", comparison.b, rounds(comparison.rounds[1])))?;
    for difference in &comparison.differences {
        out::line(&format!("not the same work: {difference}"))?;
    }
    let head = ["", "A", "B", "A / B", "A is better by"].map(str::to_owned);
    let mut rows = vec![head.to_vec()];
    for figure in &comparison.figures {
        let value = |v: f64| match v {
            v if v.abs() >= 1000.0 => out::count(v.round() as u64),
            v if v.abs() >= 10.0 => format!("{v:.1}"),
            v => format!("{v:.3}"),
        };
        let what =
            if figure.unit.is_empty() { figure.what.clone() } else { format!("{}, {}", figure.what, figure.unit) };
        let better = format!("{:.2} x", figure.times_better);
        rows.push(vec![what, value(figure.a), value(figure.b), format!("{:.3}", figure.ratio), better]);
    }
    Ok(out::table(&rows)?)
}

fn run_scale(matches: &ArgMatches, json: bool) -> Done {
    let settings = Settings::standard(matches.get_flag("quick"), matches.get_flag("recompute"));
    let mut said = |what: &str, at: usize, of: usize| {
        if out::is_watched() {
            out::note(&format!("{} of {of}: {what}", at + 1));
        }
    };
    let default = PathBuf::from("bench-scale.json");
    let path = matches.get_one::<PathBuf>("out").unwrap_or(&default);
    let scale = pool(matches)?.install(|| scale::scale(&settings, &mut said))?;
    write_json(path, &scale)?;
    let picture = path.with_extension("svg");
    std::fs::write(&picture, plot::svg(&scale)).map_err(|err| Error::io("writing the picture", &picture, err))?;
    if json {
        return Ok(out::json(&scale)?);
    }
    print_scale(&scale)?;
    Ok(out::line(&format!("\nfigures in {}, picture in {}", path.display(), picture.display()))?)
}

fn print_scale(scale: &Scale) -> Result<()> {
    out::line(&format!("{}; {} threads, {} timed steps a size", scale.base, scale.threads, scale.steps))?;
    for sweep in &scale.sweeps {
        out::line("")?;
        let mut rows = vec![["", "ms a step", "least", "most", "MB a step"].map(str::to_owned).to_vec()];
        rows[0][0] = sweep.axis.title().to_owned();
        for point in &sweep.points {
            let ms = |seconds: f64| format!("{:.1}", 1e3 * seconds);
            let memory = point.step_mb.map_or_else(|| "-".to_owned(), |mb| format!("{mb:.1}"));
            let seconds = point.seconds;
            rows.push(vec![point.size.to_string(), ms(seconds.median), ms(seconds.min), ms(seconds.max), memory]);
        }
        out::table(&rows)?;
        let words = |fit: Option<bench::fit::Fit>| {
            fit.map_or_else(|| "-".to_owned(), |fit| format!("{:.2} (within {:.0} %)", fit.exponent, 100.0 * fit.worst))
        };
        out::line(&format!("exponent of time {}, of memory {}", words(sweep.time), words(sweep.memory)))?;
        if let Some(line) = sweep.time_line.filter(|line| line.beats(sweep.time)) {
            let (each, base, worst) = (1e3 * line.each, 1e3 * line.base, 100.0 * line.worst);
            let one = sweep.axis.one();
            out::line(&format!("rather: {each:.1} ms for each {one} and {base:.1} ms in all (within {worst:.0} %)"))?;
        }
    }
    Ok(())
}
