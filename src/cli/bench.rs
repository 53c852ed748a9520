//! `adamix bench`: training speed and memory on random weights of a known shape, against this machine's GEMM rate.
//! `adamix bench scale`: how they grow with the work. `adamix bench --compare`: two results side by side.
//! `adamix bench ui` is in `bench_ui`.

use super::args::{self, device, option, path, switch, threads};
use super::{Done, Failure, bench_ui, out, usage};
use crate::bench::compare::{self, Comparison};
use crate::bench::figures::{ProductRate, Spread};
use crate::bench::fit::Fit;
use crate::bench::scale::{self, Scale, Settings};
use crate::bench::window::Measure;
use crate::bench::{self, Asked, Lengths, Measured, Plan, Shape, plot, shapes};
use crate::config::{DeviceChoice, DtypeChoice, RunConfig, keys};
use crate::error::{Error, Result};
use crate::format;
use crate::gpu::Counters;
use crate::machine::facts;
use crate::tensor::NumberFormat;
use clap::{ArgMatches, Command};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Steps before the first timed one.
const WARM_UP: usize = 2;

pub(super) fn command() -> Command {
    let number = |name, value, default: &'static str| args::whole(name, value, 1..=65_536).default_value(default);
    let recompute =
        || switch("recompute").help("Run layers again in the backward pass instead of keeping their activations");
    let scale = Command::new("scale")
        .about("Measure how time and memory grow with tokens, layers, experts, bottleneck and sequence length")
        .args([
            switch("quick").help("Fewer sizes and steps: half a minute instead of a few"),
            path("out", "FILE")
                .help("Where the figures go (JSON); the picture goes beside it (.svg)")
                .default_value("bench-scale.json"),
            recompute(),
            threads(),
            super::json_flag(),
        ]);
    let asked = Command::new("kernels")
        .about("Count what a training step asks of a GPU, without one: kernels, command lists, waits, bytes, memory")
        .after_help(
            "The estimates are from the rates of the makers' data sheets and 5 µs for each launch; how much slower a GPU \
             really is only a measurement tells.",
        )
        .args([
            option("shape", "SHAPE").value_parser(shapes::names()).help("One shape; else the five of the documentation"),
            option("dtype", "FORMAT").value_parser(["f16", "f32"]).default_value("f16").help("Format of the base model"),
            super::json_flag(),
        ]);
    Command::new("bench")
        .about("Measure training on random weights: time by phase, share of the GEMM rate, memory")
        .after_help("In the names of the phases, trunk means the frozen base model.")
        .subcommand(scale)
        .subcommand(asked)
        .subcommand(bench_ui::command())
        .args_conflicts_with_subcommands(true)
        .args([
            option("shape", "SHAPE")
                .value_parser(shapes::names())
                .default_value("roberta-base")
                .help("The model's sizes"),
            option("data", "KIND")
                .value_parser(["dense", "real"])
                .default_value("dense")
                .help("Sequences of one length, or of the lengths of SST-2's sentences (built in)"),
            path("sentences", "DIR").help("Lengths of these sentences instead: SST-2 in GLUE layout"),
            number("batch-size", "N", "16").help("Sequences in a batch (8 of a language model)"),
            number("length", "TOKENS", "64").help("Tokens of each dense sequence (256 of a language model)"),
            number("num-experts", "M", "4").help("Experts of each adapted module"),
            number("adapter-size", "R", "16").help("Bottleneck; of a language model the rank of LoRA (4)"),
            args::whole("passes", "N", 1..=2)
                .default_value("2")
                .help("Times each batch goes through: 2 with the consistency term"),
            number("steps", "N", "6").help("Steps to time, after two to warm up"),
            recompute(),
            device().default_value("cpu").help("Where it runs: auto, cpu, gpu, cuda, or a GPU by number such as gpu:1"),
            option("dtype", "FORMAT")
                .value_parser(keys::help("model.dtype").map_or(&[][..], |key| key.choices).to_vec())
                .default_value("auto")
                .help("Number format of the frozen base model"),
            option("weights", "FORMAT")
                .value_parser(["q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q4_k", "q5_k", "q6_k"])
                .help("Quantise a language model's matrices, as a GGUF file has them"),
            switch("no-phases").help("Do not record phases: what recording costs is the difference"),
            threads(),
            path("out", "FILE").help("Write the result there too, as JSON"),
            path("compare", "FILE")
                .help("Measure nothing; show two results (JSON) and their ratios")
                .num_args(2)
                .value_names(["A.json", "B.json"]),
        ])
}

pub(super) fn run(matches: &ArgMatches, window: Option<Measure>) -> Done {
    if let Some(("ui", inner)) = matches.subcommand() {
        return bench_ui::run(inner, window);
    }
    if let Some(files) = matches.get_many::<PathBuf>("compare") {
        let files: Vec<&PathBuf> = files.collect();
        let comparison = compare::files(files[0], files[1])?;
        return Ok(out::result(matches.get_flag("json"), &comparison, || print_comparison(&comparison))?);
    }
    if let Some(("scale", inner)) = matches.subcommand() {
        return run_scale(inner, inner.get_flag("json"));
    }
    if let Some(("kernels", inner)) = matches.subcommand() {
        return run_kernels(inner);
    }
    let plan = plan(matches)?;
    let measured = pool(matches)?.install(|| bench::bench(&plan))?;
    if let Some(path) = matches.get_one::<PathBuf>("out") {
        write_json(path, &measured)?;
    }
    out::result(matches.get_flag("json"), &measured, || print(&measured))?;
    if measured.loss.is_finite() {
        return Ok(());
    }
    Err(Failure::Reported(Error::internal(format!("the loss was {} on random weights", measured.loss))))
}

/// The shapes whose steps are counted.
const COUNTED: [&str; 5] = ["lab", "minilm", "roberta-base", "roberta-large", "smollm2-135m"];

fn run_kernels(matches: &ArgMatches) -> Done {
    let text = |name: &str| matches.get_one::<String>(name).map(String::as_str);
    let dtype = if text("dtype") == Some("f32") { DtypeChoice::F32 } else { DtypeChoice::F16 };
    let names: Vec<&str> = text("shape").map_or_else(|| COUNTED.to_vec(), |name| vec![name]);
    let count = |name: &&str| {
        let shape = Shape::by_name(name)?;
        let (batch_size, length, adapter_size) = if shape.is_decoder() { (8, 256, 4) } else { (16, 64, 16) };
        let plan = Plan {
            shape,
            lengths: Lengths::Dense(length),
            batch_size,
            num_experts: 4,
            adapter_size,
            passes: 2,
            warm_up: 1,
            steps: 1,
            recompute: false,
            device: DeviceChoice::Cpu,
            dtype,
            weights: None,
            phases: false,
        };
        bench::asked(&plan)
    };
    let all = names.iter().map(count).collect::<Result<Vec<_>>>()?;
    Ok(out::result(matches.get_flag("json"), &all, || print_asked(&all))?)
}

fn print_asked(all: &[Asked]) -> Result<()> {
    let columns =
        ["tokens", "kernels", "lists", "waits", "KB up", "KB down", "allocations", "GFLOP", "GB moved", "MB held"];
    let mut rows = vec![out::row("a step of", columns)];
    for asked in all {
        let Counters { kernels, submissions, waits, uploaded, downloaded, allocations, flops, traffic } = asked.step;
        let whole = |value: u64| value.to_string();
        rows.push(vec![
            format!("{} ({})", asked.shape, asked.dtype),
            asked.tokens.to_string(),
            whole(kernels),
            whole(submissions),
            whole(waits),
            format!("{:.1}", uploaded as f64 / 1e3),
            format!("{:.1}", downloaded as f64 / 1e3),
            whole(allocations),
            format!("{:.1}", flops / 1e9),
            format!("{:.2}", traffic / 1e9),
            format!("{:.0}", asked.memory_mb),
        ]);
    }
    out::table(&rows)?;
    out::line(
        "\nan estimate, not a measurement: the data sheets' rates in f32, without matrix units, and 5 µs for each launch",
    )?;
    let mut rows =
        vec![out::row("tokens/s at most", all.iter().flat_map(|asked| &asked.estimates).take(3).map(|e| e.rates.gpu))];
    for asked in all {
        let of = asked.estimates.iter().map(|estimate| format::count(estimate.tokens_per_s as u64));
        rows.push(std::iter::once(asked.shape.to_owned()).chain(of).collect());
    }
    out::table(&rows)?;
    if let [one] = all {
        out::line("")?;
        one.kernels.iter().try_for_each(|(name, count)| out::line(&format!("{count:>6} {name}")))?;
    }
    Ok(())
}

fn plan(matches: &ArgMatches) -> std::result::Result<Plan, Failure> {
    let number = |name: &str| args::given(matches, name).unwrap_or(1);
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
    facts::pool(args::given(matches, "threads").unwrap_or(0), 0)
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string(value).map_err(|err| Error::internal(format!("no JSON of a result: {err}")))?;
    std::fs::write(path, text + "\n").map_err(|err| Error::io("writing the result", path, err))
}

fn print(m: &Measured) -> Result<()> {
    let times = if m.passes == 1 { "pass" } else { "passes" };
    let weights = if m.weights == m.dtype { String::new() } else { format!(", weights in {}", m.weights) };
    let of_step = m.step_mb.map_or_else(String::new, |mb| format!(", {mb:.0} MB of a step's own"));
    let recomputed = if m.recompute { ", activations computed again" } else { "" };
    let [speed, slowest, fastest] =
        [m.tokens_per_s, m.tokens_per_s_min, m.tokens_per_s_max].map(|rate| format::count(rate as u64));
    let device_memory = m.device_memory_mb.map(|mb| format!("{mb:.0} MB in use after the last step"));
    let batch = format!(
        "{} sequences, {}; {:.0} tokens a step in {} {times}",
        m.batch_size, m.data, m.tokens_per_step, m.passes
    );
    let step = format!(
        "{:.3} s ({:.3} to {:.3}; median and range of {})",
        m.step_seconds, m.step_seconds_min, m.step_seconds_max, m.steps
    );
    let work = format!(
        "{:.0} GFLOP/s of the {:.0} that matrix products reach here: {:.0} % (4 FLOPs a weight and token)",
        m.gflops,
        m.gemm_gflops,
        100.0 * m.gemm_share
    );
    let made = format!(
        "{:.0} GFLOP/s of products really made: {:.0} %; {:.0} GFLOP/s while they are made",
        m.gflops_made,
        100.0 * m.gemm_share_made,
        m.gflops_in_products
    );
    let memory = format!("{:.0} MB at most, {:.0} MB steady{of_step}{recomputed}", m.peak_rss_mb, m.steady_rss_mb);
    let mut rows = vec![
        ("shape", format!("{}, {} million parameters", m.shape, m.trunk_parameters / 1_000_000)),
        ("batch", batch),
        ("mixture", format!("{} experts, bottleneck {}", m.num_experts, m.adapter_size)),
        ("computed on", format!("{}, {} threads, {}{weights}", m.device, m.threads, m.dtype)),
        ("GPU memory", device_memory.unwrap_or_else(|| "none".to_owned())),
        ("step", step),
        ("speed", format!("{speed} tokens/s ({slowest} to {fastest}), {:.1} sequences/s", m.sequences_per_s)),
        ("work", work),
        ("", made),
        ("memory", memory),
        ("", format!("{:.0} MB weights, {:.0} MB above them", m.weights_mb, m.peak_above_weights_mb)),
    ];
    for (i, product) in m.f32_products.iter().enumerate() {
        let ProductRate { rows: lines, inner, columns, gemm_crate, ours } = product;
        let ratio = ours / gemm_crate;
        let rates = format!("gemm crate {gemm_crate:.0} | ours {ours:.0} GFLOP/s ({ratio:.2}x)");
        rows.push((if i == 0 { "f32" } else { "" }, format!("{lines} x {inner} x {columns}: {rates}")));
    }
    if let (Some(allocations), Some(mb)) = (m.allocations_per_step, m.allocated_mb_per_step) {
        rows.push(("allocations", format!("{allocations:.0} a step, {mb:.0} MB in all")));
    }
    if let Some(Counters { kernels, submissions, waits, uploaded, downloaded, allocations, .. }) = m.asked {
        let moved = format!("{:.1} KB up, {:.1} KB down", uploaded as f64 / 1e3, downloaded as f64 / 1e3);
        let asked = format!(
            "{kernels} kernels in {submissions} command lists, {waits} waits, {moved}, {allocations} allocations"
        );
        rows.push(("GPU's step", asked));
    }
    out::fields(12, rows)?;
    out::line("")?;
    let mut rows = vec![out::row("phase", ["ms a step", "least", "most", "share"])];
    for phase in &m.phases {
        let [median, least, most] = [phase.ms.median, phase.ms.min, phase.ms.max].map(|ms| format!("{ms:.2}"));
        let share = format!("{:.1} %", 100.0 * phase.share);
        rows.push(vec![phase.phase.replace('_', " "), median, least, most, share]);
    }
    out::table(&rows)
}

fn print_comparison(comparison: &Comparison) -> Result<()> {
    let rounds = |n: usize| if n == 1 { String::new() } else { format!(", median of {n}") };
    out::line(&format!("A: {}{}", comparison.a, rounds(comparison.rounds[0])))?;
    out::line(&format!("B: {}{}", comparison.b, rounds(comparison.rounds[1])))?;
    for difference in &comparison.differences {
        out::line(&format!("not the same work: {difference}"))?;
    }
    let mut rows = vec![out::row("", ["A", "B", "A / B", "A is better by"])];
    for figure in &comparison.figures {
        let value = |v: f64| match v {
            v if v.abs() >= 1000.0 => format::count(v.round() as u64),
            v if v.abs() >= 10.0 => format!("{v:.1}"),
            v => format!("{v:.3}"),
        };
        let what =
            if figure.unit.is_empty() { figure.what.clone() } else { format!("{}, {}", figure.what, figure.unit) };
        let better = format!("{:.2} x", figure.times_better);
        rows.push(vec![what, value(figure.a), value(figure.b), format!("{:.3}", figure.ratio), better]);
    }
    out::table(&rows)
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
    Ok(out::result(json, &scale, || {
        print_scale(&scale)?;
        out::line(&format!("\nfigures in {}, picture in {}", path.display(), picture.display()))
    })?)
}

fn print_scale(scale: &Scale) -> Result<()> {
    out::line(&format!("{}; {} threads, {} timed steps a size", scale.base, scale.threads, scale.steps))?;
    for sweep in &scale.sweeps {
        out::line("")?;
        let mut rows = vec![out::row(sweep.axis.title(), ["ms a step", "least", "most", "MB a step"])];
        for point in &sweep.points {
            let ms = |seconds: f64| format!("{:.1}", 1e3 * seconds);
            let memory = out::or_dash(point.step_mb, |mb| format!("{mb:.1}"));
            let Spread { median, min, max } = point.seconds;
            rows.push(vec![point.size.to_string(), ms(median), ms(min), ms(max), memory]);
        }
        out::table(&rows)?;
        let words = |fit: Option<Fit>| {
            out::or_dash(fit, |fit| format!("{:.2} (within {:.0} %)", fit.exponent, 100.0 * fit.worst))
        };
        out::line(&format!("exponent of time {}, of memory {}", words(sweep.time), words(sweep.memory)))?;
        if let Some(line) = sweep.time_line.filter(|line| line.beats(sweep.time)) {
            let (each, base, worst) = (1e3 * line.each, 1e3 * line.base, 100.0 * line.worst);
            let one = sweep.axis.unit();
            out::line(&format!("rather: {each:.1} ms for each {one} and {base:.1} ms in all (within {worst:.0} %)"))?;
        }
    }
    Ok(())
}
