//! How fast each adapter multiplies matrices, and with which tile: measured once for each adapter and driver, and kept in the
//! user's cache directory, so that a run that goes on makes the same bits.

use crate::atomic;
use crate::error::{Error, Result};
use crate::gpu::kernels::product::{Cooperative, CooperativeTile, CooperativeUnit, ProductPlan, Tile};
use crate::gpu::kernels::{cooperative, tuning};
use crate::gpu::{AdapterKind, Backend, Facts, Format};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Seconds that the measurement takes, once.
const SECONDS: f64 = 1.0;

/// What was measured of one adapter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Kept {
    tile: String,
    flops: f64,
    /// Matrix units that computed rightly and faster.
    #[serde(default)]
    cooperative: Vec<KeptUnit>,
}

/// How products of one format run on matrix units.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct KeptUnit {
    operands: String,
    size: usize,
    threads: usize,
    tile: String,
}

impl KeptUnit {
    fn of(unit: &CooperativeUnit) -> Self {
        let CooperativeUnit { operands, size, threads, tile } = unit;
        Self { operands: operands.wgsl().to_owned(), size: *size, threads: *threads, tile: tile.name() }
    }

    fn unit(&self) -> Option<CooperativeUnit> {
        let operands = [Format::F16, Format::F32].into_iter().find(|format| format.wgsl() == self.operands)?;
        let tile = CooperativeTile::CANDIDATES.iter().find(|tile| tile.name() == self.tile)?;
        Some(CooperativeUnit { operands, size: self.size, threads: self.threads, tile: *tile })
    }
}

/// How to multiply on a device: as was measured before, or is now. Where that cannot be kept, what suits most adapters of the
/// kind: another measurement might choose otherwise, and a run that goes on would make other bits.
pub(super) fn plan(backend: &dyn Backend) -> ProductPlan {
    match directory(&|name| std::env::var_os(name), std::env::consts::OS) {
        Some(directory) => plan_in(&directory.join("gpu-tiles.json"), backend),
        None => ProductPlan::of(backend.facts()),
    }
}

fn plan_in(file: &Path, backend: &dyn Backend) -> ProductPlan {
    let plan = ProductPlan::of(backend.facts());
    if backend.facts().kind == AdapterKind::Software || !backend.computes() {
        return plan;
    }
    let key = key(backend.facts());
    let mut kept = read(file);
    if let Some(plan) = kept.get(&key).and_then(|kept| applied(&plan, kept)) {
        return plan;
    }
    let measured = match measure(backend) {
        Ok(measured) => measured,
        Err(err) => {
            log::warn!("the GPU's products could not be measured: {err}");
            return plan;
        }
    };
    kept.insert(key, measured.clone());
    match write(file, &kept) {
        Ok(()) => applied(&plan, &measured).unwrap_or(plan),
        Err(err) => {
            log::info!("how fast the GPU multiplies cannot be kept: {err}");
            plan
        }
    }
}

/// The fastest tile, and the matrix units that compute rightly and faster.
fn measure(backend: &dyn Backend) -> Result<Kept> {
    let (tile, flops) = tuning::measure(backend, SECONDS)?;
    let found = cooperative::find(backend)?;
    found.reasons.iter().for_each(|reason| log::info!("matrix units of {}: {reason}", backend.facts().name));
    let faster = match &found.cooperative {
        Some(tested) => tuning::measure_cooperative(backend, tested, tile, SECONDS)?,
        None => None,
    };
    let cooperative = faster.iter().flat_map(|faster| &faster.units).map(KeptUnit::of).collect();
    Ok(Kept { tile: tile.name(), flops, cooperative })
}

fn applied(plan: &ProductPlan, kept: &Kept) -> Option<ProductPlan> {
    let tile = Tile::by_name(&kept.tile)?;
    let units: Vec<CooperativeUnit> = kept.cooperative.iter().filter_map(KeptUnit::unit).collect();
    let cooperative = (!units.is_empty()).then_some(Cooperative { units });
    let usable = kept.flops.is_finite() && kept.flops > 0.0;
    usable.then(|| ProductPlan { tile, rate: kept.flops, cooperative, ..plan.clone() })
}

fn key(facts: &Facts) -> String {
    let Facts { name, driver, api, .. } = facts;
    format!("{name} | {driver} | {api} | {}", env!("CARGO_PKG_VERSION"))
}

/// What the file holds; nothing where it is not there or not ours.
fn read(file: &Path) -> BTreeMap<String, Kept> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

fn write(file: &Path, kept: &BTreeMap<String, Kept>) -> Result<()> {
    if let Some(directory) = file.parent() {
        std::fs::create_dir_all(directory).map_err(|err| Error::io("making the directory", directory, err))?;
    }
    let text = serde_json::to_string_pretty(kept).unwrap_or_default();
    atomic::write_file(file, text.as_bytes())
}

/// The program's cache directory.
fn directory(variable: &dyn Fn(&str) -> Option<OsString>, system: &str) -> Option<PathBuf> {
    let path = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = match system {
        "windows" => path("LOCALAPPDATA")?,
        "macos" => path("HOME")?.join("Library/Caches"),
        _ => path("XDG_CACHE_HOME").or_else(|| Some(path("HOME")?.join(".cache")))?,
    };
    Some(cache.join("adamix"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::Recording;

    #[test]
    fn the_cache_directory_follows_the_system() {
        let of = |system: &str, variables: &[(&str, &str)]| {
            let variables: BTreeMap<String, OsString> =
                variables.iter().map(|(name, value)| ((*name).to_owned(), OsString::from(value))).collect();
            directory(&|name| variables.get(name).cloned(), system)
        };
        assert_eq!(of("linux", &[("HOME", "/h")]).unwrap(), Path::new("/h/.cache/adamix"));
        assert_eq!(of("linux", &[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")]).unwrap(), Path::new("/x/adamix"));
        assert_eq!(of("macos", &[("HOME", "/h")]).unwrap(), Path::new("/h/Library/Caches/adamix"));
        assert_eq!(of("windows", &[("LOCALAPPDATA", "/l")]).unwrap(), Path::new("/l/adamix"));
        assert_eq!(of("linux", &[]), None);
    }

    #[test]
    fn what_was_measured_is_taken_and_nonsense_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("deep/gpu-tiles.json");
        let backend = Recording::like(AdapterKind::Discrete);
        let of = ProductPlan::of(backend.facts());
        let tile = CooperativeTile::CANDIDATES[0];
        let unit = CooperativeUnit { operands: Format::F16, size: 16, threads: 32, tile };
        let kept = Kept { tile: Tile::SMALL.name(), flops: 7e12, cooperative: vec![KeptUnit::of(&unit)] };
        write(&file, &BTreeMap::from([("a".to_owned(), kept.clone())])).unwrap();
        let read = read(&file);
        assert_eq!(read.get("a"), Some(&kept));
        let plan = applied(&of, &kept).unwrap();
        assert_eq!((plan.tile, plan.rate), (Tile::SMALL, 7e12));
        assert_eq!(plan.cooperative, Some(Cooperative { units: vec![unit] }));
        for wrong in [Kept { tile: "no tile".to_owned(), ..kept.clone() }, Kept { flops: f64::NAN, ..kept }] {
            assert_eq!(applied(&of, &wrong), None);
        }
        std::fs::write(&file, "not JSON").unwrap();
        assert!(super::read(&file).is_empty());
        // Nothing is measured where nothing is computed.
        assert_eq!(plan_in(&file, &backend), of);
        assert_eq!(backend.counters().kernels, 0);
    }
}
