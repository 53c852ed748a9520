//! How fast each adapter multiplies matrices, and with which tile: measured once for each adapter and driver, and kept in the
//! user's cache directory, so that a run that goes on makes the same bits. A measurement that brings the driver down is not
//! tried again.

use crate::atomic;
use crate::error::{Error, Result};
use crate::gpu::kernels::product::{Cooperative, CooperativeTile, CooperativeUnit, ProductPlan, Tile};
use crate::gpu::kernels::{cooperative, tuning};
use crate::gpu::{AdapterKind, Backend, CooperativeMatrix, Facts};
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
    /// FLOP/s of the CPU at that time.
    #[serde(default)]
    cpu_flops: f64,
    /// Matrix units that computed rightly and faster.
    #[serde(default)]
    cooperative: Vec<KeptUnit>,
    /// Whether the measurement began and has not ended: it is going on, or the driver failed.
    #[serde(default)]
    unfinished: bool,
}

impl Kept {
    fn unfinished() -> Self {
        Self { tile: String::new(), flops: 0.0, cpu_flops: 0.0, cooperative: Vec::new(), unfinished: true }
    }
}

/// How to multiply on a device.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Measured {
    /// Tile, rate and matrix units.
    pub(super) plan: ProductPlan,
    /// Whether the CPU multiplies faster.
    pub(super) slower_than_cpu: bool,
}

impl Measured {
    fn not(plan: ProductPlan) -> Self {
        Self { plan, slower_than_cpu: false }
    }
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

    /// Only one that the device still offers.
    fn unit(&self, backend: &dyn Backend) -> Option<CooperativeUnit> {
        let offered = |matrix: &&CooperativeMatrix| {
            matrix.operands.wgsl() == self.operands && matrix.size as usize == self.size && self.threads > 0
        };
        let operands = backend.facts().cooperative_matrices.iter().find(offered)?.operands;
        let tile = CooperativeTile::CANDIDATES.iter().find(|tile| tile.name() == self.tile)?;
        let unit = CooperativeUnit { operands, size: self.size, threads: self.threads, tile: *tile };
        cooperative::fits(backend, &unit).then_some(unit)
    }
}

/// How to multiply on a device: as was measured before, or is now; `cpu` tells the FLOP/s of the CPU. Where that cannot be
/// kept, what suits most adapters of the kind: another measurement might choose otherwise, and a run that goes on would make
/// other bits.
pub(super) fn plan(backend: &dyn Backend, cpu: &dyn Fn() -> Result<f64>) -> Measured {
    match directory(&|name| std::env::var_os(name), std::env::consts::OS) {
        Some(directory) => plan_in(&directory.join("gpu-tiles.json"), backend, cpu),
        None => Measured::not(ProductPlan::of(backend.facts())),
    }
}

fn plan_in(file: &Path, backend: &dyn Backend, cpu: &dyn Fn() -> Result<f64>) -> Measured {
    let plan = ProductPlan::of(backend.facts());
    if backend.facts().kind == AdapterKind::Software || !backend.computes() {
        return Measured::not(plan);
    }
    let key = key(backend.facts());
    if let Some(kept) = read(file).get(&key) {
        return applied(&plan, kept, backend).unwrap_or_else(|| {
            log::warn!(
                "how {} multiplies was once begun to be measured and not finished, so it is not measured again; \
                 to try it once more, delete {}",
                backend.facts().name,
                file.display()
            );
            Measured::not(plan)
        });
    }
    if let Err(err) = keep(file, &key, &Kept::unfinished()) {
        log::info!("how fast the GPU multiplies cannot be kept: {err}");
        return Measured::not(plan);
    }
    let measured = measure(backend, cpu).and_then(|measured| keep(file, &key, &measured));
    match measured {
        Ok(kept) => applied(&plan, &kept, backend).unwrap_or_else(|| Measured::not(plan)),
        Err(err) => {
            log::warn!("the GPU's products could not be measured: {err}");
            Measured::not(plan)
        }
    }
}

/// The fastest tile, and the matrix units that compute rightly and faster.
fn measure(backend: &dyn Backend, cpu: &dyn Fn() -> Result<f64>) -> Result<Kept> {
    let (tile, flops) = tuning::measure(backend, SECONDS)?;
    let found = cooperative::find(backend)?;
    found.reasons.iter().for_each(|reason| log::info!("matrix units of {}: {reason}", backend.facts().name));
    let faster = match &found.cooperative {
        Some(tested) => tuning::measure_cooperative(backend, tested, tile, SECONDS)?,
        None => None,
    };
    let cooperative = faster.iter().flat_map(|faster| &faster.units).map(KeptUnit::of).collect();
    Ok(Kept { tile: tile.name(), flops, cpu_flops: cpu()?, cooperative, unfinished: false })
}

fn applied(plan: &ProductPlan, kept: &Kept, backend: &dyn Backend) -> Option<Measured> {
    let tile = Tile::by_name(&kept.tile)?;
    let units: Vec<CooperativeUnit> = kept.cooperative.iter().filter_map(|unit| unit.unit(backend)).collect();
    let cooperative = (!units.is_empty()).then_some(Cooperative { units });
    let usable = !kept.unfinished && kept.flops.is_finite() && kept.flops > 0.0;
    let plan = ProductPlan { tile, rate: kept.flops, cooperative, ..plan.clone() };
    usable.then_some(Measured { plan, slower_than_cpu: kept.flops < kept.cpu_flops })
}

fn key(facts: &Facts) -> String {
    let Facts { name, driver, api, subgroup: [least, most], .. } = facts;
    format!("{name} | {driver} | {api} | {least} to {most} | {}", env!("CARGO_PKG_VERSION"))
}

/// Writes what was measured, unless another process has measured it meanwhile: then that counts. -> what the file holds
fn keep(file: &Path, key: &str, measured: &Kept) -> Result<Kept> {
    let mut all = read(file);
    if let Some(other) = all.get(key).filter(|other| !other.unfinished) {
        return Ok(other.clone());
    }
    all.insert(key.to_owned(), measured.clone());
    write(file, &all)?;
    Ok(measured.clone())
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

/// The program's cache directory; nothing where no home directory is known.
pub fn cache_dir() -> Option<PathBuf> {
    directory(&|name| std::env::var_os(name), std::env::consts::OS)
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
    use crate::gpu::{Format, Recording};

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
        let facts = Recording::like(AdapterKind::Discrete).facts().clone();
        let matrix = CooperativeMatrix { size: 16, operands: Format::F16 };
        let backend = Recording::new(Facts { cooperative_matrices: vec![matrix], ..facts });
        let of = ProductPlan::of(backend.facts());
        let tile = CooperativeTile::SMALL;
        let unit = CooperativeUnit { operands: Format::F16, size: 16, threads: 32, tile };
        let cooperative = vec![KeptUnit::of(&unit)];
        let tile = Tile::SMALL.name();
        let kept = Kept { tile, flops: 7e12, cpu_flops: 1e12, cooperative, unfinished: false };
        assert_eq!(keep(&file, "a", &Kept::unfinished()).unwrap(), Kept::unfinished());
        assert_eq!(keep(&file, "a", &kept).unwrap(), kept);
        // What another process measured first counts.
        assert_eq!(keep(&file, "a", &Kept { flops: 8e12, ..kept.clone() }).unwrap(), kept);
        assert_eq!(read(&file).get("a"), Some(&kept));
        let Measured { plan, slower_than_cpu } = applied(&of, &kept, &backend).unwrap();
        assert_eq!((plan.tile, plan.rate, slower_than_cpu), (Tile::SMALL, 7e12, false));
        assert_eq!(plan.cooperative, Some(Cooperative { units: vec![unit] }));
        assert!(applied(&of, &Kept { cpu_flops: 8e12, ..kept.clone() }, &backend).unwrap().slower_than_cpu);
        // Matrix units that the device does not offer, or that no kernel could use.
        let other = Recording::like(AdapterKind::Discrete);
        assert_eq!(applied(&of, &kept, &other).unwrap().plan.cooperative, None);
        let broken = Kept { cooperative: vec![KeptUnit { threads: 0, ..KeptUnit::of(&unit) }], ..kept.clone() };
        assert_eq!(applied(&of, &broken, &backend).unwrap().plan.cooperative, None);
        let unknown = Kept { tile: "no tile".to_owned(), ..kept.clone() };
        for wrong in [unknown, Kept { flops: f64::NAN, ..kept }, Kept::unfinished()] {
            assert_eq!(applied(&of, &wrong, &backend), None);
        }
        std::fs::write(&file, "not JSON").unwrap();
        assert!(super::read(&file).is_empty());
        // Nothing is measured where nothing is computed.
        assert_eq!(plan_in(&file, &backend, &|| Ok(1.0)), Measured::not(of));
        assert_eq!(backend.counters().kernels, 0);
    }
}
