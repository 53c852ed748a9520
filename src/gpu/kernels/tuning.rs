//! Which tile a device multiplies fastest with, and how fast; whether its matrix units are faster.

use super::cooperative;
use super::product::{Cooperative, CooperativeTile, CooperativeUnit, Form, Product, ProductPlan, Tile};
use crate::error::Result;
use crate::gpu::{AdapterKind, Backend, Format};
use std::time::{Duration, Instant};

/// Rows, columns and k of the product that [`measure`] runs.
pub const SIZE: usize = 1024;
/// Runs of each candidate at most, of which the middle one counts.
const RUNS: f64 = 5.0;

/// The fastest tile for products in f32, and the FLOP/s reached with it, by runs that take about `seconds` together. A driver
/// that computes on the processor is not measured: its tile and rate are those of [`ProductPlan::of`].
///
/// # Errors
/// Of kind [`Device`](crate::error::ErrorKind::Device): no memory left, or the device is lost.
pub fn measure(backend: &dyn Backend, seconds: f64) -> Result<(Tile, f64)> {
    if backend.facts().kind == AdapterKind::Software {
        let plan = ProductPlan::of(backend.facts());
        return Ok((plan.tile, plan.rate));
    }
    measure_candidates(backend, Tile::CANDIDATES, SIZE, seconds)
}

/// The fastest of some tiles for products in f32 of `size` rows, columns and k, and the FLOP/s reached with it.
///
/// # Errors
/// As of [`measure`].
pub fn measure_candidates(backend: &dyn Backend, tiles: &[Tile], size: usize, seconds: f64) -> Result<(Tile, f64)> {
    let plan = ProductPlan::of(backend.facts());
    let mut best = (plan.tile, 0.0);
    for &tile in tiles.iter().filter(|tile| fits(backend, **tile)) {
        let rate = rate(backend, tile, Format::F32, size, seconds / tiles.len() as f64)?;
        if rate > best.1 {
            best = (tile, rate);
        }
    }
    Ok(best)
}

/// FLOP/s of products of `size` rows, columns and k with one tile, a and b and the result in one format, by runs that take
/// about `seconds` together.
///
/// # Errors
/// As of [`measure`]; also a format the device lacks.
pub fn rate(backend: &dyn Backend, tile: Tile, format: Format, size: usize, seconds: f64) -> Result<f64> {
    rate_by(backend, &ProductPlan { tile, fit: false, ..ProductPlan::of(backend.facts()) }, format, size, seconds)
}

/// As [`rate`], by a plan.
fn rate_by(backend: &dyn Backend, plan: &ProductPlan, format: Format, size: usize, seconds: f64) -> Result<f64> {
    let buffer = backend.allocate(3 * (size * size) as u64 * format.bytes())?;
    backend.clear(buffer.address(), buffer.bytes())?;
    let whole = buffer.operand(3 * size * size, format);
    let [a, b, out] = [0, 1, 2].map(|i| whole.part(i * size * size, size * size));
    // No piece of it is to be cut off: what is measured is one launch.
    let plan = ProductPlan { budget: f64::INFINITY, ..plan.clone() };
    let launches = Product::new(Form::Nt, [size; 3], a, b, out).launches(&plan);
    let run = |times: usize| -> Result<Duration> {
        let start = Instant::now();
        for launch in std::iter::repeat_n(&launches, times).flatten() {
            backend.launch(launch)?;
        }
        backend.wait()?;
        Ok(start.elapsed())
    };
    // The first run compiles the kernel; the second tells how many runs there is time for, and of how many launches.
    run(1)?;
    let once = run(1)?.as_secs_f64().max(1e-6);
    let count = (seconds / once).clamp(1.0, RUNS);
    let times = (seconds / once / count).clamp(1.0, 100.0) as usize;
    let mut runs = (0..count as usize).map(|_| run(times)).collect::<Result<Vec<_>>>()?;
    runs.sort();
    let middle = runs.get(runs.len() / 2).map_or(once, Duration::as_secs_f64);
    Ok(2.0 * (size as f64).powi(3) * times as f64 / middle.max(1e-9))
}

/// What of `tested` multiplies faster than the plain kernels with `tile`, each with its fastest tile of those that compute
/// rightly, by runs that take about `seconds` together. A driver that computes on the processor is not measured: nothing is
/// faster on it.
///
/// # Errors
/// As of [`measure`].
pub fn measure_cooperative(
    backend: &dyn Backend,
    tested: &Cooperative,
    tile: Tile,
    seconds: f64,
) -> Result<Option<Cooperative>> {
    if backend.facts().kind == AdapterKind::Software {
        return Ok(None);
    }
    let runs = tested.units.len() * (CooperativeTile::CANDIDATES.len() + 1);
    measure_units(backend, tested, CooperativeTile::CANDIDATES, tile, SIZE, seconds / runs.max(1) as f64)
}

/// As [`measure_cooperative`], of some tiles, by products of `size` rows, columns and k; each run takes about `seconds`.
///
/// # Errors
/// As of [`measure`].
pub fn measure_units(
    backend: &dyn Backend,
    tested: &Cooperative,
    tiles: &[CooperativeTile],
    tile: Tile,
    size: usize,
    seconds: f64,
) -> Result<Option<Cooperative>> {
    let mut units = Vec::new();
    for unit in &tested.units {
        let (mut best, mut most) = (None, rate(backend, tile, unit.operands, size, seconds)?);
        for &tile in tiles {
            let unit = CooperativeUnit { tile, ..*unit };
            if !cooperative::fits(backend, &unit) {
                continue;
            }
            let plan = cooperative::plan(backend, unit);
            let rate = match rate_by(backend, &plan, unit.operands, size, seconds) {
                // A kernel that the driver does not compile leaves the device as it was.
                Err(err) if backend.failure().is_none() => {
                    log::info!("tile {} of matrix units: {err}", unit.tile.name());
                    continue;
                }
                rate => rate?,
            };
            if rate > most && is_right(backend, unit)? {
                (best, most) = (Some(unit), rate);
            }
        }
        units.extend(best);
    }
    Ok((!units.is_empty()).then_some(Cooperative { units }))
}

/// Whether a device multiplies rightly with a unit, and with the small tile that takes its place in small products.
fn is_right(backend: &dyn Backend, unit: CooperativeUnit) -> Result<bool> {
    for tile in [unit.tile, CooperativeTile::SMALL] {
        let unit = CooperativeUnit { tile, ..unit };
        let plan = cooperative::plan(backend, unit);
        let problem = match cooperative::self_test(backend, &plan, unit)? {
            None => cooperative::repeats(backend, &plan, unit)?,
            problem => problem,
        };
        if let Some(problem) = problem {
            log::info!("tile {} of matrix units: {problem}", tile.name());
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether a device has the threads and the memory for a tile.
fn fits(backend: &dyn Backend, tile: Tile) -> bool {
    let facts = backend.facts();
    tile.threads() <= facts.workgroup_threads as usize && tile.memory() <= facts.workgroup_memory as usize
}
