//! What a training step asks of a GPU, counted without one: launches, bytes and memory, and from them how fast a GPU of known
//! rates could be at most.

use super::measure::{Plan, series_on};
use crate::config::DtypeChoice;
use crate::error::Result;
use crate::gpu::kernels::product::ProductPlan;
use crate::gpu::{AdapterKind, Backend as _, Counters, Launch, Recording};
use crate::tensor::{DType, Device, Gpu};
use serde::Serialize;
use std::sync::Arc;

/// What a step asks.
#[derive(Clone, Debug, Serialize)]
pub struct Asked {
    /// The shape's name.
    pub shape: &'static str,
    /// Sequences in a batch.
    pub batch_size: usize,
    /// Tokens of a step, all passes counted.
    pub tokens: usize,
    /// Number format of the base model.
    pub dtype: &'static str,
    /// Of one step.
    pub step: Counters,
    /// Most memory in use, in MB (10^6 bytes).
    pub memory_mb: f64,
    /// Kernels by name, the most frequent first.
    pub kernels: Vec<(String, usize)>,
    /// For known GPUs.
    pub estimates: Vec<Estimate>,
}

/// A GPU by its data sheet.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Rates {
    /// Its name.
    pub gpu: &'static str,
    /// FLOP/s in f32 without matrix units.
    pub flops: f64,
    /// Bytes a second to its memory.
    pub bytes: f64,
}

/// FLOP/s in single precision and memory bandwidth as the makers' data sheets give them.
pub const GPUS: [Rates; 3] = [
    Rates { gpu: "GeForce RTX 4070", flops: 29.1e12, bytes: 504e9 },
    Rates { gpu: "Radeon RX 7800 XT", flops: 37.3e12, bytes: 624e9 },
    Rates { gpu: "Apple M3, 10 GPU cores", flops: 3.5e12, bytes: 100e9 },
];

/// Seconds that the driver takes for each kernel that is launched.
const LAUNCH: f64 = 5e-6;

/// The least a step can take on a GPU: each kernel at the rate or the bandwidth of its data sheet, whichever is slower.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Estimate {
    /// The GPU.
    #[serde(flatten)]
    pub rates: Rates,
    /// Seconds of a step.
    pub seconds: f64,
    /// Of these, seconds that the kernels' launches take.
    pub launching: f64,
    /// Tokens a second, all passes counted.
    pub tokens_per_s: f64,
}

fn estimate(rates: Rates, launches: &[Launch], tokens: usize) -> Estimate {
    let one = |launch: &Launch| (launch.flops / rates.flops).max(launch.traffic() as f64 / rates.bytes);
    let launching = LAUNCH * launches.len() as f64;
    let seconds = launches.iter().map(one).sum::<f64>() + launching;
    Estimate { rates, seconds, launching, tokens_per_s: tokens as f64 / seconds }
}

/// Counts one step of the plan, after its warm-up.
pub fn asked(plan: &Plan) -> Result<Asked> {
    let dtype = if plan.dtype == DtypeChoice::F32 { DType::F32 } else { DType::F16 };
    let backend = Arc::new(Recording::like(AdapterKind::Discrete));
    backend.keep_launches();
    let device = Device::Gpu(Gpu::new(0, backend.clone(), ProductPlan::of(backend.facts())));
    let series = series_on(plan, dtype, &device)?;
    let last = series.steps.last();
    let step = last.and_then(|step| step.asked).unwrap_or_default();
    let tokens = last.map_or(0, |step| step.tokens);
    let all = backend.launches();
    let launches = all.get(all.len().saturating_sub(step.kernels as usize)..).unwrap_or_default();
    let mut kernels: Vec<(String, usize)> = Vec::new();
    for launch in launches {
        let name = format!("{}:{}", launch.source.name.trim_end_matches('4'), launch.entry);
        match kernels.iter_mut().find(|(other, _)| *other == name) {
            Some((_, count)) => *count += 1,
            None => kernels.push((name, 1)),
        }
    }
    kernels.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    Ok(Asked {
        shape: plan.shape.name,
        batch_size: plan.batch_size,
        tokens,
        dtype: dtype.as_str(),
        step,
        memory_mb: (backend.memory().peak as f64 / 1e5).round() / 10.0,
        kernels,
        estimates: GPUS.map(|rates| estimate(rates, launches, tokens)).to_vec(),
    })
}
