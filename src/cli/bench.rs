//! `adamix bench`: training speed and memory on random weights of a known shape, against this machine's GEMM rate.

use super::{Done, Failure, out, usage};
use crate::engine::bench::{self, Measured, Plan};
use crate::engine::machine;
use crate::error::{Error, Result};
use clap::{Arg, ArgMatches, Command, value_parser};
use std::path::PathBuf;

pub(super) fn command() -> Command {
    let number = |name: &'static str, value: &'static str, default: &'static str, help: &'static str| {
        let range = value_parser!(u32).range(1..=65_536);
        Arg::new(name).long(name).value_name(value).value_parser(range).default_value(default).help(help)
    };
    Command::new("bench")
        .about("Measure training on random weights: tokens a second, share of the GEMM rate, memory")
        .arg(
            Arg::new("shape")
                .long("shape")
                .value_name("SHAPE")
                .value_parser(bench::SHAPES.map(|(name, _)| name))
                .default_value("roberta-base")
                .help("The encoder's sizes"),
        )
        .arg(number("batch-size", "N", "16", "Sequences in a batch; each goes through twice"))
        .arg(number("length", "TOKENS", "64", "Tokens of each sequence"))
        .arg(
            Arg::new("sentences")
                .long("sentences")
                .value_name("DIR")
                .value_parser(value_parser!(PathBuf))
                .help("Lengths of real sentences instead: SST-2 in GLUE layout"),
        )
        .arg(number("num-experts", "M", "4", "Experts per site"))
        .arg(number("adapter-size", "R", "16", "Bottleneck"))
        .arg(number("steps", "N", "6", "Steps to time, after two to warm up"))
        .arg(super::eval::threads())
}

pub(super) fn run(matches: &ArgMatches) -> Done {
    let number = |name: &str| matches.get_one::<u32>(name).map_or(1, |&number| number as usize);
    let plan = Plan {
        shape: matches.get_one::<String>("shape").cloned().unwrap_or_default(),
        batch_size: number("batch-size"),
        length: number("length"),
        sentences: matches.get_one::<PathBuf>("sentences").cloned(),
        num_experts: number("num-experts"),
        adapter_size: number("adapter-size"),
        steps: number("steps"),
    };
    usage(plan.check())?;
    let threads = matches.get_one::<u16>("threads").map_or(0, |&threads| usize::from(threads));
    let measured = machine::pool(threads, 0)?.install(|| bench::bench(&plan))?;
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

fn print(measured: &Measured) -> Result<()> {
    let rows = [
        ("shape", format!("{}, {} million parameters", measured.shape, measured.trunk_parameters / 1_000_000)),
        (
            "batch",
            format!(
                "{} sequences, {:.0} tokens a step, both passes counted",
                measured.batch_size, measured.tokens_per_step
            ),
        ),
        ("mixture", format!("{} experts, bottleneck {}", measured.num_experts, measured.adapter_size)),
        ("threads", measured.threads.to_string()),
        ("step", format!("{:.3} s (median of {})", measured.step_seconds, measured.steps)),
        (
            "speed",
            format!(
                "{} tokens/s, {:.1} sequences/s",
                out::count(measured.tokens_per_s as u64),
                measured.sequences_per_s
            ),
        ),
        (
            "work",
            format!(
                "{:.0} GFLOP/s of the {:.0} that matrix products reach here: {:.0} %",
                measured.gflops,
                measured.gemm_gflops,
                100.0 * measured.gemm_share
            ),
        ),
        ("peak memory", format!("{:.0} MB", measured.peak_rss_mb)),
    ];
    rows.iter().try_for_each(|(what, value)| out::line(&format!("{what:<12} {value}")))
}
