//! Reads a run directory without loading the model: the curve, the parameters, the routes.
//!
//! ```text
//! cargo run --release --no-default-features -- train --lab --name demo
//! cargo run --release --no-default-features --example inspect_run -- ~/.local/share/adamix/runs/demo
//! ```

use adamix::artifact::recorder::routes::RouteFile;
use adamix::artifact::recorder::{Line, read_lines};
use adamix::artifact::{RunDir, checkpoint};
use adamix::error::{Error, Result};
use adamix::mixture::{Pick, SIDES};
use std::io::Write as _;
use std::path::PathBuf;

fn main() -> Result<()> {
    let run = std::env::args_os().nth(1).map(PathBuf::from);
    let run = run.ok_or_else(|| Error::config("give a run directory, such as one made by adamix train --lab"))?;
    let dir = RunDir::open(&run)?;

    // metrics.jsonl: one event a line.
    for line in read_lines(&dir.metrics())?.lines {
        match line {
            Line::Start { time, record: start } => say(&format!("started {time}, {} steps planned", start.total_steps)),
            Line::Eval(eval) => say(&format!("step {}: merged {:.4}", eval.step, eval.merged.primary)),
            Line::End { time, record: end } => say(&format!("ended {time} after {} steps: {:?}", end.step, end.reason)),
            _ => {}
        }
    }

    // A checkpoint: every trained tensor under its stable name.
    if let Some(found) = checkpoint::latest_valid(&dir)? {
        say(&format!("checkpoint of step {}", found.step));
        for tensor in &found.data.tensors {
            let norm = tensor.data.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
            say(&format!("    {:<28} {:?} norm {norm:.3}", tensor.name, tensor.shape));
        }
    }

    // routes.bin: which expert ran where, in every step and pass.
    let mixture = &dir.config().mixture;
    let mut counts = [vec![0u64; mixture.down_experts()], vec![0u64; mixture.up_experts()]];
    for record in RouteFile::open(&dir.routes())? {
        let route = record?.route;
        for (index, pick) in route.picks.iter().enumerate() {
            if let Pick::One(expert) = pick {
                counts[index % 2][usize::from(*expert)] += 1;
            }
        }
    }
    for (side, counts) in SIDES.into_iter().zip(counts) {
        let expected = counts.iter().sum::<u64>() as f64 / counts.len() as f64;
        say(&format!("{side:?}: drawn {counts:?}, expected {expected:.1} each"));
    }
    Ok(())
}

/// Prints a line; a closed pipe is no failure.
fn say(line: &str) {
    writeln!(std::io::stdout(), "{line}").ok();
}
