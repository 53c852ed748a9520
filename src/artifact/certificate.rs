//! `certificate.json`: the proof that the files of an export compute what was seen on screen.
//!
//! The files are read afresh. Every tensor must be exactly the original rounded to the stored format, and the model
//! made from them must give the logits seen before on the probe rows, within the tolerance of the format:
//! [`tolerance`] times the largest absolute logit (at least 1). A tensor that fails is named.
//!
//! ```json
//! {
//!   "format": "adamix-certificate", "version": 1, "created": "...Z", "tool": "adamix 0.1.0",
//!   "target": "adapter", "step": 400, "checkpoint": "best", "dtype": "f32", "passed": true, "problems": [],
//!   "merge": {"method": "average-of-factors", "num_experts": 4},
//!   "worst_tensor": "layers.0.ffn.down.weight",
//!   "probe": {"rows", "outputs", "max_abs_delta", "mean_abs_delta", "flipped", "tolerance"},
//!   "tensors": [{"name", "max_abs_error", "max_rel_error", "problem"}],
//!   "files": [{"name", "bytes", "sha256"}]
//! }
//! ```

use super::checkpoint_choice::{Checkpoint, WeightsOf};
use super::export::target::certificate_name;
use super::export::{self, ExportTarget, Recipe};
use super::json::{read_json, write_json};
use super::{TOOL, utc};
use crate::atomic;
use crate::error::{Context as _, Error, Result};
use crate::tensor::hash::FileHash;
use crate::tensor::{HostTensor, NumberFormat};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Name of the certificate in an export directory.
pub const CERTIFICATE_FILE: &str = "certificate.json";
const FORMAT: &str = "adamix-certificate";
const VERSION: u32 = 1;

/// How far a logit may move, relative to the largest absolute logit (at least 1). `f32` is stored exactly, so only
/// the order of additions may differ. Half precision moves each weight by up to 2^-12 (`f16`) or 2^-9 (`bf16`) of
/// itself, a block format by up to 2^-8 of the block's largest; the tolerances leave a factor of about 40 for what the
/// layers above make of that.
pub fn tolerance(dtype: NumberFormat) -> f64 {
    match dtype {
        NumberFormat::F32 => 1e-5,
        NumberFormat::F16 => 1e-2,
        NumberFormat::Bf16 => 8e-2,
        _ => 16e-2,
    }
}

/// The logits seen before the export: of the probe rows, `outputs` each.
#[derive(Clone, Copy, Debug)]
pub struct Probe<'a> {
    /// `[rows, outputs]`, row by row.
    pub logits: &'a [f32],
    /// Classes, or 1 for regression.
    pub outputs: usize,
}

/// How the reloaded model answers the probe rows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProbeResult {
    /// Probe rows.
    pub rows: usize,
    /// Logits per row.
    pub outputs: usize,
    /// Largest |difference| of a logit; absent when the model could not be run or gave something not finite.
    pub max_abs_delta: Option<f64>,
    /// Mean |difference|; absent likewise.
    pub mean_abs_delta: Option<f64>,
    /// Rows whose most likely class changed; 0 for regression.
    pub flipped: usize,
    /// The largest difference allowed.
    pub tolerance: f64,
}

/// One tensor: as stored against as trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TensorCheck {
    /// Our name for it.
    pub name: String,
    /// Largest |stored - original|; absent when they cannot be compared.
    pub max_abs_error: Option<f64>,
    /// The same over the largest |original|.
    pub max_rel_error: Option<f64>,
    /// What is wrong with it; nothing when every value is the original, rounded.
    pub problem: Option<String>,
}

/// The proof.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Certificate {
    /// Always `adamix-certificate`.
    pub format: String,
    /// Version of this format.
    pub version: u32,
    /// When, UTC.
    pub created: String,
    /// By which program.
    pub tool: String,
    /// What was exported; absent when the files could not be read.
    #[serde(default, with = "certificate_name")]
    pub target: Option<ExportTarget>,
    /// Training steps of the weights; absent in certificates of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<u64>,
    /// Why these weights: `best`, `last` or the step that was asked for; absent where they were in training.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<Checkpoint>,
    /// How the experts became one; absent where all are exported, and in certificates of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merge: Option<Recipe>,
    /// How the tensors are stored.
    pub dtype: NumberFormat,
    /// The name of that format where it is a quantised one, which `dtype` cannot say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored_as: Option<String>,
    /// The verdict.
    pub passed: bool,
    /// Why it failed, each naming the tensor or file where there is one.
    pub problems: Vec<String>,
    /// The tensor that failed first, or else the one that rounding moved most; absent when all are exact.
    pub worst_tensor: Option<String>,
    /// The logits.
    pub probe: ProbeResult,
    /// All tensors.
    pub tensors: Vec<TensorCheck>,
    /// All files, as they were checked.
    pub files: Vec<FileHash>,
}

/// Reloads the export in `dir` from its files, checks its tensors against `originals` (the `f32` values that were
/// exported, in the stored precision `dtype`), lets `run` compute the probe's logits from the reloaded tensors,
/// and writes `certificate.json` beside the files. An export that fails is not an error here: see
/// [`Certificate::passed`].
pub fn certify(
    dir: &Path,
    originals: &[HostTensor],
    dtype: NumberFormat,
    probe: Probe<'_>,
    run: impl FnOnce(&[HostTensor]) -> Result<Vec<f32>>,
) -> Result<Certificate> {
    // Hashed before anything is loaded.
    let certificate = Certificate::begin(dir, dtype);
    let loaded = export::read(dir).map_err(|err| err.to_string());
    let names: Vec<String> = originals.iter().map(|tensor| tensor.name.clone()).collect();
    let comparison = Comparison {
        store: dtype,
        names: &names,
        original: &|name| find(originals, name),
        format: &|_| dtype,
        found: loaded.as_ref().map(|all| all.tensors.iter().map(|t| t.name.clone()).collect()).map_err(String::clone),
        found_dtype: loaded.as_ref().map_or(dtype, |loaded| loaded.dtype),
        stored: &|name| find(&loaded.as_ref().map_err(Error::format)?.tensors, name),
    };
    let run = || loaded.as_ref().map_or_else(|_| Ok(Vec::new()), |loaded| run(&loaded.tensors));
    certificate.complete(dir, &comparison, Some((probe, run)))
}

/// What was exported and what the files hold, one tensor at a time: they need not be in memory together.
pub struct Comparison<'a> {
    /// The number format that was asked for.
    pub store: NumberFormat,
    /// Names of what was exported.
    pub names: &'a [String],
    /// The `f32` tensor that was exported.
    pub original: &'a dyn Fn(&str) -> Result<HostTensor>,
    /// How it should be stored.
    pub format: &'a dyn Fn(&str) -> NumberFormat,
    /// Names in the files, or why these cannot be read.
    pub found: std::result::Result<Vec<String>, String>,
    /// The least exact number format in the files; of a block format that of its scales.
    pub found_dtype: NumberFormat,
    /// The tensor as the files hold it, widened.
    pub stored: &'a dyn Fn(&str) -> Result<HostTensor>,
}

impl Comparison<'_> {
    fn check(&self, name: &str, found: &[String]) -> TensorCheck {
        match found.iter().filter(|other| *other == name).count() {
            0 => return failed(name, "is missing from the files".to_owned()),
            1 => {}
            _ => return failed(name, "is stored twice".to_owned()),
        }
        let original =
            (self.original)(name).and_then(|original| Ok(((self.format)(name).rounded(&original.data)?, original)));
        match (original, (self.stored)(name)) {
            (Ok((wanted, original)), Ok(stored)) => compare(&original, &stored, &wanted),
            (Err(err), _) => {
                failed(name, format!("cannot be compared, for what was exported cannot be read again: {err}"))
            }
            (_, Err(err)) => failed(name, format!("cannot be read: {err}")),
        }
    }
}

/// The logits seen before, and what gives those of the reloaded files.
pub type Rerun<'a> = (Probe<'a>, &'a mut dyn FnMut() -> Result<Vec<f32>>);

/// As [`certify`], one tensor at a time; without `rerun` only the tensors are proven.
pub fn certify_streamed(dir: &Path, comparison: &Comparison<'_>, rerun: Option<Rerun<'_>>) -> Result<Certificate> {
    Certificate::begin(dir, comparison.store).complete(dir, comparison, rerun)
}

/// The tensor of this name in a list.
pub(super) fn find(list: &[HostTensor], name: &str) -> Result<HostTensor> {
    let found = list.iter().find(|tensor| tensor.name == name).cloned();
    found.ok_or_else(|| Error::internal(format!("there is no tensor {name}")))
}

/// The format of single numbers in this one: of a block format, of its scales.
pub(super) fn scalar_format(store: NumberFormat) -> NumberFormat {
    if store == NumberFormat::Q8_0 { NumberFormat::F16 } else { store }
}

impl Certificate {
    /// Which weights the export holds; absent in certificates of earlier versions.
    pub fn weights(&self) -> Option<WeightsOf> {
        Some(WeightsOf { step: self.step?, checkpoint: self.checkpoint })
    }

    /// Names the weights, and how they were merged, in the certificate of `dir`.
    pub(super) fn of_weights(mut self, dir: &Path, weights: Option<WeightsOf>, merge: Option<&Recipe>) -> Result<Self> {
        if let Some(weights) = weights {
            (self.step, self.checkpoint) = (Some(weights.step), weights.checkpoint);
        }
        self.merge = merge.cloned();
        self.write(dir)?;
        Ok(self)
    }

    fn write(&self, dir: &Path) -> Result<()> {
        write_json(&dir.join(CERTIFICATE_FILE), self).context("writing the certificate")
    }

    fn begin(dir: &Path, store: NumberFormat) -> Self {
        let (target, dtype) = (ExportTarget::of(dir), scalar_format(store));
        let mut certificate = Self {
            format: FORMAT.to_owned(),
            version: VERSION,
            created: utc::stamp(utc::now()),
            tool: TOOL.to_owned(),
            target: target.as_ref().ok().copied(),
            dtype,
            stored_as: (store != dtype).then(|| store.name().to_owned()),
            ..Self::default()
        };
        // Hashed first: what is loaded afterwards is what the hashes speak of, or the re-check at the end says otherwise.
        certificate.files = target
            .and_then(|target| target.file_names(dir))
            .and_then(|names| names.iter().map(|name| FileHash::of(dir, name)).collect())
            .unwrap_or_else(|err: Error| {
                certificate.problems.push(err.to_string());
                Vec::new()
            });
        certificate
    }

    /// Compares tensors and logits, and writes the certificate.
    fn complete(
        mut self,
        dir: &Path,
        comparison: &Comparison<'_>,
        rerun: Option<(Probe<'_>, impl FnOnce() -> Result<Vec<f32>>)>,
    ) -> Result<Self> {
        match &comparison.found {
            Err(err) => self.problems.push(err.clone()),
            Ok(found) => {
                let (stored, wanted) = (comparison.found_dtype, self.dtype);
                if stored != wanted {
                    let problem = format!("the files hold {}, but {} was asked for", stored.name(), wanted.name());
                    self.problems.push(problem);
                }
                let exported = comparison.names.iter().map(|name| comparison.check(name, found));
                let foreign = found.iter().filter(|name| !comparison.names.contains(name));
                let foreign = foreign.map(|name| failed(name, "is in the files but was not exported".to_owned()));
                self.tensors = exported.chain(foreign).collect();
                self.weigh_tensors();
                if let Some((probe, run)) = rerun {
                    self.check_probe(probe, tolerance(comparison.store), run());
                }
            }
        }
        self.problems.extend(self.files.iter().filter_map(|file| file.problem(dir)));
        self.passed = self.problems.is_empty();
        // An export is certified in a temporary directory; what is said of its files holds for its final place.
        let (temporary, place) = (dir.display().to_string(), atomic::destination(dir).display().to_string());
        self.problems.iter_mut().for_each(|problem| *problem = problem.replace(&temporary, &place));
        self.tensors.iter_mut().filter_map(|t| t.problem.as_mut()).for_each(|p| *p = p.replace(&temporary, &place));
        self.write(dir)?;
        Ok(self)
    }

    /// Names the worst tensor and lists what is wrong.
    fn weigh_tensors(&mut self) {
        let first_failed = self.tensors.iter().find(|check| check.problem.is_some());
        let size = |check: &TensorCheck| check.max_rel_error.unwrap_or(0.0);
        let most_rounded =
            self.tensors.iter().filter(|check| size(check) > 0.0).max_by(|a, b| size(a).total_cmp(&size(b)));
        self.worst_tensor = first_failed.or(most_rounded).map(|check| check.name.clone());
        let problems =
            self.tensors.iter().filter_map(|check| Some(format!("{} {}", check.name, check.problem.as_ref()?)));
        self.problems.extend(problems);
    }

    fn check_probe(&mut self, probe: Probe<'_>, tolerance: f64, logits: Result<Vec<f32>>) {
        let outputs = probe.outputs.max(1);
        let largest = probe.logits.iter().fold(1.0f64, |largest, logit| largest.max(f64::from(*logit).abs()));
        self.probe = ProbeResult {
            rows: probe.logits.len() / outputs,
            outputs,
            tolerance: tolerance * largest,
            ..ProbeResult::default()
        };
        let logits = match logits {
            Ok(logits) => logits,
            Err(err) => return self.problems.push(format!("the reloaded model cannot be run: {err}")),
        };
        if logits.len() != probe.logits.len() || logits.is_empty() {
            let (found, wanted) = (logits.len(), probe.logits.len());
            return self.problems.push(format!("the reloaded model gave {found} logits instead of {wanted}"));
        }
        if !logits.iter().chain(probe.logits).all(|logit| logit.is_finite()) {
            return self.problems.push("a logit is not a finite number".to_owned());
        }
        let deltas = logits.iter().zip(probe.logits).map(|(a, b)| (f64::from(*a) - f64::from(*b)).abs());
        let max = deltas.clone().fold(0.0, f64::max);
        self.probe.max_abs_delta = Some(max);
        self.probe.mean_abs_delta = Some(deltas.sum::<f64>() / logits.len() as f64);
        if outputs > 1 {
            let rows = logits.chunks(outputs).zip(probe.logits.chunks(outputs));
            self.probe.flipped = rows.filter(|(a, b)| largest_at(a) != largest_at(b)).count();
        }
        if max > self.probe.tolerance {
            let ProbeResult { tolerance, flipped, rows, .. } = self.probe;
            self.problems.push(format!(
                "a logit moved by {max:.3e}, more than {tolerance:.3e}; {flipped} of {rows} predictions changed"
            ));
        }
    }
}

/// Every stored value must be the original one, rounded; a single expert's dimension may be absent.
fn compare(original: &HostTensor, stored: &HostTensor, wanted: &[f32]) -> TensorCheck {
    if original.squeezed_shape() != stored.squeezed_shape() {
        let (found, wanted) = (&stored.shape, &original.shape);
        return failed(&original.name, format!("has shape {found:?} in the files instead of {wanted:?}"));
    }
    if let Some(at) = original.data.iter().position(|value| !value.is_finite()) {
        return failed(&original.name, format!("is {} at element {at}", original.data[at]));
    }
    let mut check = failed(&original.name, String::new());
    check.problem = None;
    let mut wrong = 0;
    let (mut error, mut largest) = (0.0f64, 0.0f64);
    for (at, ((&value, &found), &wanted)) in original.data.iter().zip(&stored.data).zip(wanted).enumerate() {
        if wanted.to_bits() != found.to_bits() {
            wrong += 1;
            if wrong == 1 {
                check.problem = Some(format!("is {found} at element {at} in the files instead of {wanted}"));
            }
        }
        error = error.max((f64::from(found) - f64::from(value)).abs());
        largest = largest.max(f64::from(value).abs());
    }
    if let Some(problem) = &mut check.problem {
        problem.push_str(&format!(" ({wrong} of {} values differ)", original.data.len()));
    }
    if stored.data.iter().all(|value| value.is_finite()) {
        check.max_abs_error = Some(error);
        check.max_rel_error = Some(if error == 0.0 { 0.0 } else { error / largest.max(f64::MIN_POSITIVE) });
    }
    check
}

fn failed(name: &str, problem: String) -> TensorCheck {
    TensorCheck { name: name.to_owned(), max_abs_error: None, max_rel_error: None, problem: Some(problem) }
}

fn largest_at(row: &[f32]) -> Option<usize> {
    (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b]))
}

/// Reads the certificate of an export.
pub fn read(dir: &Path) -> Result<Certificate> {
    let certificate: Certificate = read_json(&dir.join(CERTIFICATE_FILE)).context("reading a certificate")?;
    if certificate.format != FORMAT || certificate.version != VERSION {
        let Certificate { format, version, .. } = certificate;
        let text = format!("a certificate of format {format} {version} is not known: {}", dir.display());
        return Err(Error::format(text));
    }
    Ok(certificate)
}

/// Checks later that the files are still those the certificate speaks of. Returns the certificate and what is wrong
/// with the files, in words; nothing when they are untouched.
pub fn verify(dir: &Path) -> Result<(Certificate, Vec<String>)> {
    let certificate = read(dir)?;
    let mut problems: Vec<String> = certificate.files.iter().filter_map(|file| file.problem(dir)).collect();
    if certificate.files.is_empty() {
        problems.push("the certificate lists no files".to_owned());
    }
    Ok((certificate, problems))
}
