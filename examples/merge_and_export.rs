//! Opens a finished run, merges its experts, exports the result and reads it back.
//!
//! ```text
//! cargo run --release --no-default-features -- train --lab --name demo
//! cargo run --release --no-default-features --example merge_and_export -- ~/.local/share/adamix/runs/demo
//! ```

use adamix::artifact::{RunDir, certificate};
use adamix::error::{Error, Result};
use adamix::machine::facts;
use adamix::protocol::{Checkpoint, ExportPlan, ExportTarget, MergePlan, NumberFormat};
use adamix::workflow::saved_run::Opened;
use std::io::Write as _;
use std::path::PathBuf;

fn main() -> Result<()> {
    let run = std::env::args_os().nth(1).map(PathBuf::from);
    let run = run.ok_or_else(|| Error::config("give a run directory, such as one made by adamix train --lab"))?;
    let dir = RunDir::open(&run)?;
    facts::pool(dir.config().model.threads, 0)?.install(|| merge_and_export(&dir))
}

fn merge_and_export(dir: &RunDir) -> Result<()> {
    let opened = Opened::open(dir, Checkpoint::Best)?;

    // The uniform mean is the paper's merge; any other weights make another model.
    let uniform = opened.merge(&MergePlan::Uniform)?;
    say(&format!("uniform mean: {} {:.4} on {} rows", uniform.metric, uniform.scores.primary, uniform.rows));
    let experts = opened.subject.model().mixture().map_or(1, |mixture| mixture.num_experts);
    for expert in 0..experts {
        let mut weights = vec![0.0; experts];
        weights[expert] = 1.0;
        let alone = opened.merge(&MergePlan::Global(weights))?;
        say(&format!("expert {expert} alone: {} {:.4}", alone.metric, alone.scores.primary));
    }

    // The files are written, loaded afresh and run; the certificate says what came out.
    let plan = ExportPlan {
        targets: vec![ExportTarget::Merged, ExportTarget::Experts],
        dtype: NumberFormat::F32,
        merge: MergePlan::Uniform,
        dir: None,
    };
    for export in opened.export(&plan)? {
        let (certificate, problems) = certificate::verify(&export.dir)?;
        let verdict = if certificate.passed && problems.is_empty() { "proven" } else { "NOT proven" };
        say(&format!("{verdict}: {}", export.dir.display()));
        for tensor in certificate.tensors.iter().take(4) {
            say(&format!("    {} differs by at most {:e}", tensor.name, tensor.max_abs_error.unwrap_or(f64::NAN)));
        }
    }
    Ok(())
}

/// Prints a line; a closed pipe is no failure.
fn say(line: &str) {
    writeln!(std::io::stdout(), "{line}").ok();
}
