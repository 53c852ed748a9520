//! `adamix doctor`: what this computer offers, and what would keep a run from working.

use super::{Done, Failure, args, out, runs};
use crate::config::{DeviceChoice, RunConfig};
use crate::error::{Error, ErrorKind, Result};
use crate::format;
use crate::gpu::{AdapterKind, Facts};
use crate::machine::device::{self, Gpu};
use crate::machine::facts::{self, Machine};
use crate::machine::selftest::{self, Report};
use clap::{ArgMatches, Command};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Everything the doctor found, for `--json`.
#[derive(Debug, Serialize)]
struct Findings {
    version: &'static str,
    #[serde(flatten)]
    machine: Machine,
    /// GFLOP/s of f32 matrix products, measured on all cores.
    gemm_gflops: f64,
    /// GPUs that were looked for.
    gpus: Vec<Gpu>,
    window: bool,
    display: Option<String>,
    runs_dir: PathBuf,
    runs_dir_writable: bool,
    disk_free: Option<u64>,
    problems: Vec<String>,
}

pub(super) fn command() -> Command {
    Command::new("doctor")
        .about("Look at this computer and say what would keep a run from working")
        .arg(runs::root_argument())
        .args([
            args::switch("selftest").help("Compute with every kernel and compare: does the device compute right?"),
            args::device()
                .default_value("auto")
                .requires("selftest")
                .help("What --selftest checks: auto, cpu, gpu, cuda, or a GPU by number such as gpu:1"),
        ])
}

pub(super) fn run(matches: &ArgMatches) -> Done {
    if matches.get_flag("selftest") {
        return test(matches);
    }
    let findings = examine(&runs::root(matches)?)?;
    Ok(out::result(matches.get_flag("json"), &findings, || print(&findings))?)
}

fn examine(runs_dir: &Path) -> Result<Findings> {
    let machine = facts::machine();
    let gemm = facts::pool(0, 0)?.install(|| facts::f32_gemm_rate(0.5))?;
    let display = ["WAYLAND_DISPLAY", "DISPLAY"].into_iter().find_map(|name| {
        std::env::var(name).ok().filter(|value| !value.is_empty()).map(|value| format!("{name}={value}"))
    });
    let writable = is_writable(runs_dir);
    let disk_free = facts::disk_free(runs_dir);
    let gpus = device::look();
    let mut problems = Vec::new();
    for gpu in gpus.iter().filter(|gpu| gpu.built && !gpu.absent) {
        // Neither a build without support nor a computer without a GPU is a problem: everything works.
        if let Some(problem) = &gpu.problem {
            problems.push(format!("{} GPUs cannot be used: {problem}; runs use the CPU", gpu.kind));
        }
    }
    if let Err(why) = &writable {
        problems.push(format!("runs cannot be written: {why}; choose another directory with --runs-dir"));
    }
    if disk_free.is_some_and(|free| free < 1_000_000_000) {
        problems.push("less than 1 GB of disk space is free for runs; free some, or choose --runs-dir".to_owned());
    }
    if machine.memory_free.is_some_and(|free| free < 1_000_000_000) {
        problems.push("less than 1 GB of memory is free; close other programs before training".to_owned());
    }
    if cfg!(target_arch = "x86_64") && !machine.instructions.contains(&"avx2") {
        problems.push("this processor has no AVX2; training works, but slowly".to_owned());
    }
    Ok(Findings {
        version: env!("CARGO_PKG_VERSION"),
        machine,
        gemm_gflops: gemm / 1e9,
        gpus,
        window: cfg!(feature = "gui"),
        display,
        runs_dir: runs_dir.to_owned(),
        runs_dir_writable: writable.is_ok(),
        disk_free,
        problems,
    })
}

/// Tries it: permissions, read-only mounts and full disks all show this way.
fn is_writable(runs_dir: &Path) -> std::io::Result<()> {
    let existed = runs_dir.exists();
    std::fs::create_dir_all(runs_dir)?;
    let probe = runs_dir.join(format!(".probe-{}", std::process::id()));
    let written = std::fs::write(&probe, b"probe");
    std::fs::remove_file(&probe).or(written)?;
    if !existed {
        std::fs::remove_dir(runs_dir).ok(); // leaves no trace; a directory in use stays
    }
    Ok(())
}

fn print(findings: &Findings) -> Result<()> {
    let machine = &findings.machine;
    let known = |size: Option<u64>| size.map_or_else(|| "unknown".to_owned(), format::bytes);
    let listed = |names: &[&str], none: &str| if names.is_empty() { none.to_owned() } else { names.join(" ") };
    let writable = if findings.runs_dir_writable { "writable" } else { "NOT writable" };
    let rows = [
        ("version", findings.version.to_owned()),
        ("system", machine.system.clone()),
        ("processor", if machine.processor.is_empty() { "unknown".to_owned() } else { machine.processor.clone() }),
        ("cores", machine.cores.to_string()),
        ("instructions", listed(&machine.instructions, "none of those the kernels know")),
        ("memory", format!("{}, {} free", known(machine.memory), known(machine.memory_free))),
        ("matrix products", format!("{:.0} GFLOP/s in f32 on all cores (measured)", findings.gemm_gflops)),
        (
            "CUDA",
            listed(&machine.gpu_features, "not in this build (feature cuda); NVIDIA GPUs are reached by device gpu"),
        ),
        ("GPUs", gpus_in_words(&findings.gpus)),
        ("window", if findings.window { "in this build" } else { "not in this build (feature gui)" }.to_owned()),
        ("display", findings.display.clone().unwrap_or_else(|| "none".to_owned())),
        ("runs", format!("{} ({writable}, {} free)", findings.runs_dir.display(), known(findings.disk_free))),
    ];
    out::fields(16, rows)?;
    let adapters = findings.gpus.iter().flat_map(|gpu| &gpu.adapters).enumerate();
    adapters.into_iter().try_for_each(|(number, facts)| print_adapter(number, facts))?;
    match findings.problems.as_slice() {
        [] => out::line("no problems found"),
        problems => problems.iter().try_for_each(|problem| out::line(&format!("problem: {problem}"))),
    }
}

/// What is known of one GPU.
fn print_adapter(number: usize, facts: &Facts) -> Result<()> {
    let kind = match facts.kind {
        AdapterKind::Discrete => "graphics card",
        AdapterKind::Integrated => "part of the processor's chip",
        AdapterKind::Virtual => "GPU of a virtual machine, or of an unknown kind",
        AdapterKind::Software => "computed by the processor, for tests; only used where it is named",
    };
    let [least, most] = facts.subgroup;
    let features = [("16-bit floats", facts.f16), ("cooperative matrices", !facts.cooperative_matrices.is_empty())];
    let has: Vec<&str> = features.iter().filter_map(|(name, has)| has.then_some(*name)).collect();
    let memory = facts.memory.map_or_else(|| "unknown".to_owned(), format::bytes);
    out::line(&format!("device gpu:{number}: {}", facts.name))?;
    let rows = [
        ("kind", kind.to_owned()),
        ("driver", format!("{} ({})", facts.driver, facts.api)),
        ("memory", memory),
        (
            "largest buffer",
            format!("{}, {} at a time", format::bytes(facts.max_buffer), format::bytes(facts.max_binding)),
        ),
        (
            "workgroups",
            format!("{} threads, {} shared", facts.workgroup_threads, format::bytes(u64::from(facts.workgroup_memory))),
        ),
        ("subgroups", if least == most { least.to_string() } else { format!("{least} to {most}") }),
        ("features", if has.is_empty() { "none of those the kernels know".to_owned() } else { has.join(", ") }),
    ];
    out::fields(16, rows.map(|(name, value)| (name, value)))
}

fn gpus_in_words(gpus: &[Gpu]) -> String {
    let names: Vec<&str> = gpus.iter().flat_map(|gpu| &gpu.devices).map(String::as_str).collect();
    if names.is_empty() { "none that this build can use".to_owned() } else { names.join(", ") }
}

/// Runs every kernel and compares.
fn test(matches: &ArgMatches) -> Done {
    let mut config = RunConfig::default();
    config.model.device = matches.get_one::<DeviceChoice>("device").copied().unwrap_or_default();
    let report = facts::pool(0, 0)?.install(|| selftest::selftest(&config))?;
    out::result(matches.get_flag("json"), &report, || print_report(&report))?;
    if report.failed == 0 {
        return Ok(());
    }
    let Report { failed, checks, device, .. } = &report;
    let what = format!("{failed} of {} checks on {device} differ by more than rounding", checks.len());
    Err(Failure::Reported(Error::new(ErrorKind::Numerics, what)))
}

fn print_report(report: &Report) -> Result<()> {
    if let Some(warning) = &report.warning {
        out::line(&format!("warning: {warning}"))?;
    }
    out::line(&format!("device: {}", report.device))?;
    out::line(&format!("{:<38} {:<5} {:>12} {:>10}", "kernel", "", "difference", "allowed"))?;
    for check in &report.checks {
        let verdict = if check.passed { "" } else { "  WRONG" };
        let (kernel, format) = (check.kernel, check.format);
        out::line(&format!("{kernel:<38} {format:<5} {:>12.2e} {:>10.0e}{verdict}", check.difference, check.allowed))?;
    }
    match report.failed {
        0 => out::line(&format!("all {} checks agree up to rounding", report.checks.len())),
        n => out::line(&format!(
            "{n} of {} checks differ by more than rounding: do not train on it",
            report.checks.len()
        )),
    }
}
