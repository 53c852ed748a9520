//! Certificates: a good export passes, and nothing else does.

use crate::artifact::merged;
use crate::support::exported;
use adamix::artifact::certificate::{Certificate, Probe, certify, read, tolerance, verify};
use adamix::artifact::export::base::BaseKind;
use adamix::artifact::export::modules::LoraAdapter;
use adamix::artifact::export::{Expected, ExportMeta, ExportSource, ExportTarget, LoadedModel, Recipe, WholeModel};
use adamix::config::MixtureConfig;
use adamix::error::{Error, Result};
use adamix::tensor::safetensors::{self, Metadata};
use adamix::tensor::{HostTensor, NumberFormat};
use std::fs;
use std::path::{Path, PathBuf};

const HIDDEN: usize = 6;
const BOTTLENECK: usize = 6; // as wide as the layer, so that swapped projections have the right shape
const LABELS: usize = 3;
const ROWS: usize = 16;

/// A small model made of the exported tensors: two adapters with a residual and a linear head on fixed inputs.
fn logits(tensors: &[HostTensor]) -> Result<Vec<f32>> {
    let get = |name: &str| -> Result<&[f32]> {
        let found = tensors.iter().find(|tensor| tensor.name == name);
        found.map(|tensor| tensor.data.as_slice()).ok_or_else(|| Error::format(format!("no tensor {name}")))
    };
    let linear = |weight: &[f32], bias: &[f32], x: &[f32]| -> Vec<f32> {
        let rows = weight.chunks(x.len()).zip(bias);
        rows.map(|(row, b)| b + row.iter().zip(x).map(|(w, x)| w * x).sum::<f32>()).collect()
    };
    let mut all = Vec::new();
    for row in 0..ROWS {
        let mut h: Vec<f32> = (0..HIDDEN).map(|i| ((row * HIDDEN + i) as f32 * 0.7).sin()).collect();
        for layer in 0..2 {
            let get = |part: &str| get(&format!("layers.{layer}.ffn.{part}"));
            let down = linear(get("down.weight")?, get("down.bias")?, &h);
            let active: Vec<f32> = down.iter().map(|x| 40.0 * x.tanh()).collect();
            let up = linear(get("up.weight")?, get("up.bias")?, &active);
            h.iter_mut().zip(up).for_each(|(h, up)| *h += up);
        }
        all.extend(linear(get("classifier.weight")?, get("classifier.bias")?, &h));
    }
    Ok(all)
}

fn meta(dtype: NumberFormat) -> ExportMeta {
    ExportMeta {
        base_model: "tiny".to_owned(),
        model_type: "bert".to_owned(),
        hidden_size: HIDDEN,
        mixture: MixtureConfig { adapter_size: BOTTLENECK, ..MixtureConfig::default() },
        labels: vec!["a".to_owned(), "b".to_owned(), "c".to_owned()],
        weights: None,
        recipe: Recipe::uniform(4),
        chat: None,
        dtype,
    }
}

fn originals() -> Vec<HostTensor> {
    merged("bert", 2, HIDDEN, BOTTLENECK, LABELS)
}

/// A good export of [`originals`] in a directory of its own.
fn exported(dtype: NumberFormat) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("adapter");
    exported::merged_adapter(&out, &originals(), &meta(dtype)).unwrap();
    (dir, out)
}

fn certified(out: &Path, dtype: NumberFormat) -> Certificate {
    let originals = originals();
    let expected = logits(&originals).unwrap();
    let certificate = certify(out, &originals, dtype, Probe { logits: &expected, outputs: LABELS }, logits).unwrap();
    assert_eq!(read(out).unwrap(), certificate, "what is returned is what is written");
    certificate
}

/// Rewrites the tensor file of an export after `change`.
fn tampered(change: impl FnOnce(&mut Vec<HostTensor>)) -> Certificate {
    let (_dir, out) = exported(NumberFormat::F32);
    let file = out.join("adapter.safetensors");
    let (mut tensors, metadata) = safetensors::read(&file).unwrap();
    change(&mut tensors);
    safetensors::write(&file, &tensors, NumberFormat::F32, &metadata).unwrap();
    certified(&out, NumberFormat::F32)
}

fn find<'a>(tensors: &'a mut [HostTensor], name: &str) -> &'a mut HostTensor {
    tensors.iter_mut().find(|tensor| tensor.name == name).unwrap()
}

#[track_caller]
fn fails_naming(certificate: &Certificate, name: &str) {
    assert!(!certificate.passed);
    assert_eq!(certificate.worst_tensor.as_deref(), Some(name), "{:?}", certificate.problems);
    assert!(certificate.problems.iter().any(|problem| problem.contains(name)), "{:?}", certificate.problems);
}

#[test]
fn a_good_export_passes_in_every_precision() {
    for dtype in [NumberFormat::F32, NumberFormat::F16, NumberFormat::Bf16] {
        let (_dir, out) = exported(dtype);
        let certificate = certified(&out, dtype);
        assert!(certificate.passed, "{dtype:?}: {:?}", certificate.problems);
        assert_eq!((certificate.target, certificate.dtype), (Some(ExportTarget::Merged), dtype));
        assert_eq!((certificate.probe.rows, certificate.probe.outputs), (ROWS, LABELS));
        assert_eq!(certificate.tensors.len(), originals().len());
        let moved = certificate.probe.max_abs_delta.unwrap();
        if dtype == NumberFormat::F32 {
            assert_eq!((moved, certificate.probe.flipped), (0.0, 0));
            assert_eq!(certificate.worst_tensor, None, "nothing is rounded");
        } else {
            assert!(moved > 0.0 && moved <= certificate.probe.tolerance);
            let unit = if dtype == NumberFormat::F16 { 2f64.powi(-11) } else { 2f64.powi(-8) };
            for check in &certificate.tensors {
                let error = check.max_rel_error.unwrap();
                assert!(error > 0.0 && error <= unit, "{dtype:?} {}: {error}", check.name);
            }
            assert!(certificate.worst_tensor.is_some());
        }
        assert!(tolerance(dtype) > 0.0);
    }
}

#[test]
fn every_target_can_be_certified() {
    let dir = tempfile::tempdir().unwrap();
    let (hub, experts) = (dir.path().join("hub"), dir.path().join("experts"));
    exported::adapterhub(&hub, &originals(), &meta(NumberFormat::F32), "reviews").unwrap();
    let certificate = certified(&hub, NumberFormat::F32);
    assert!(certificate.passed, "{:?}", certificate.problems);
    assert_eq!((certificate.target, certificate.files.len()), (Some(ExportTarget::AdapterHub), 4));
    exported::experts(&experts, &originals(), &meta(NumberFormat::F32)).unwrap();
    let certificate = certified(&experts, NumberFormat::F32);
    assert!(certificate.passed, "{:?}", certificate.problems);
}

#[test]
fn one_changed_value_is_found_and_its_tensor_named() {
    let certificate = tampered(|tensors| {
        let data = &mut find(tensors, "layers.1.ffn.up.weight").data;
        data[7] = f32::from_bits(data[7].to_bits() ^ 1); // the smallest change there is
    });
    fails_naming(&certificate, "layers.1.ffn.up.weight");
    assert_eq!(certificate.problems.len(), 1, "no logit notices: {:?}", certificate.problems);
    assert!(certificate.problems[0].contains("element 7"));

    let certificate = tampered(|tensors| find(tensors, "layers.0.ffn.down.bias").data[2] += 3.0);
    fails_naming(&certificate, "layers.0.ffn.down.bias");
    assert!(certificate.problems.iter().any(|problem| problem.contains("a logit moved")));
    assert!(certificate.probe.max_abs_delta.unwrap() > certificate.probe.tolerance);
}

#[test]
fn swapped_projections_are_found() {
    let certificate = tampered(|tensors| {
        let down = find(tensors, "layers.0.ffn.down.weight").data.clone();
        let up = std::mem::replace(&mut find(tensors, "layers.0.ffn.up.weight").data, down);
        find(tensors, "layers.0.ffn.down.weight").data = up;
    });
    fails_naming(&certificate, "layers.0.ffn.down.weight");
    assert!(certificate.problems.iter().any(|problem| problem.starts_with("layers.0.ffn.up.weight ")));
}

#[test]
fn a_flat_shape_is_found() {
    let certificate = tampered(|tensors| find(tensors, "classifier.weight").shape = vec![LABELS * HIDDEN]);
    fails_naming(&certificate, "classifier.weight");
}

#[test]
fn nan_is_found() {
    let certificate = tampered(|tensors| find(tensors, "layers.0.ffn.up.bias").data[0] = f32::NAN);
    fails_naming(&certificate, "layers.0.ffn.up.bias");
    assert_eq!(certificate.probe.max_abs_delta, None);

    // NaN already in memory, faithfully stored.
    let mut originals = originals();
    find(&mut originals, "classifier.bias").data[1] = f32::NAN;
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("a");
    exported::merged_adapter(&out, &originals, &meta(NumberFormat::F32)).unwrap();
    let expected = logits(&originals).unwrap();
    let certificate =
        certify(&out, &originals, NumberFormat::F32, Probe { logits: &expected, outputs: LABELS }, logits).unwrap();
    fails_naming(&certificate, "classifier.bias");
}

#[test]
fn missing_and_foreign_tensors_are_found() {
    let certificate = tampered(|tensors| tensors.retain(|tensor| tensor.name != "layers.1.ffn.down.weight"));
    fails_naming(&certificate, "layers.1.ffn.down.weight");
    assert!(certificate.problems.iter().any(|problem| problem.contains("cannot be run")));
    let certificate = tampered(|tensors| tensors.push(HostTensor::new("layers.9.x", [1], vec![0.0]).unwrap()));
    fails_naming(&certificate, "layers.9.x");
}

#[test]
fn another_precision_than_asked_for_is_found() {
    let (_dir, out) = exported(NumberFormat::Bf16);
    let certificate = certified(&out, NumberFormat::F32);
    assert!(!certificate.passed);
    assert!(certificate.problems[0].contains("BF16"), "{:?}", certificate.problems);
    assert!(certificate.worst_tensor.is_some());
}

#[test]
fn a_model_that_answers_differently_fails_though_its_tensors_are_right() {
    let (_dir, out) = exported(NumberFormat::F32);
    let originals = originals();
    let expected = logits(&originals).unwrap();
    let probe = Probe { logits: &expected, outputs: LABELS };
    let shifted = |tensors: &[HostTensor]| Ok(logits(tensors)?.iter().map(|x| -x).collect());
    let certificate = certify(&out, &originals, NumberFormat::F32, probe, shifted).unwrap();
    assert!(!certificate.passed && certificate.probe.flipped > 0);
    assert_eq!(certificate.worst_tensor, None);
    let fewer = |tensors: &[HostTensor]| Ok(logits(tensors)?[1..].to_vec());
    assert!(!certify(&out, &originals, NumberFormat::F32, probe, fewer).unwrap().passed);
    let broken = |_: &[HostTensor]| Err(Error::internal("no such layer"));
    let certificate = certify(&out, &originals, NumberFormat::F32, probe, broken).unwrap();
    assert!(certificate.problems[0].contains("no such layer"));
    let nothing = Probe { logits: &[], outputs: LABELS };
    let certificate = certify(&out, &originals, NumberFormat::F32, nothing, |_| Ok(Vec::new())).unwrap();
    assert!(!certificate.passed, "no probe proves nothing");
}

#[test]
fn files_that_cannot_be_read_fail_by_name() {
    let (_dir, out) = exported(NumberFormat::F32);
    let file = out.join("adapter.safetensors");
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() - 4]).unwrap();
    let certificate = certified(&out, NumberFormat::F32);
    assert!(!certificate.passed);
    assert!(certificate.problems[0].contains("classifier.bias"), "the truncated one: {:?}", certificate.problems);

    // The converse: a file of the AdapterHub directory is gone.
    let dir = tempfile::tempdir().unwrap();
    let hub = dir.path().join("hub");
    exported::adapterhub(&hub, &originals(), &meta(NumberFormat::F32), "reviews").unwrap();
    fs::remove_file(hub.join("model_head.safetensors")).unwrap();
    let certificate = certified(&hub, NumberFormat::F32);
    assert!(!certificate.passed);
    assert!(certificate.problems[0].contains("model_head.safetensors"), "{:?}", certificate.problems);
}

#[test]
fn later_changes_to_the_files_are_found() {
    let (_dir, out) = exported(NumberFormat::F32);
    let certificate = certified(&out, NumberFormat::F32);
    assert_eq!(verify(&out).unwrap(), (certificate, Vec::new()));
    let file = out.join("adapter.safetensors");
    let mut bytes = fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&file, &bytes).unwrap();
    let (_, problems) = verify(&out).unwrap();
    assert!(problems.len() == 1 && problems[0].contains("adapter.safetensors was changed"), "{problems:?}");
    fs::remove_file(&file).unwrap();
    assert_eq!(verify(&out).unwrap().1.len(), 1);
    fs::write(out.join("certificate.json"), "{}").unwrap();
    assert!(verify(&out).is_err());
    // A list that points out of its directory is not followed.
    let (_dir, out) = exported(NumberFormat::F32);
    let mut certificate = certified(&out, NumberFormat::F32);
    certificate.files[0].name = "../adapter/adapter.safetensors".to_owned();
    fs::write(out.join("certificate.json"), serde_json::to_vec(&certificate).unwrap()).unwrap();
    assert_eq!(verify(&out).unwrap().1.len(), 1);
}

#[test]
fn metadata_is_not_part_of_the_proof_but_its_file_is() {
    let (_dir, out) = exported(NumberFormat::F32);
    let before = certified(&out, NumberFormat::F32);
    let file = out.join("adapter.safetensors");
    let (tensors, _) = safetensors::read(&file).unwrap();
    safetensors::write(&file, &tensors, NumberFormat::F32, &Metadata::new()).unwrap();
    assert!(certified(&out, NumberFormat::F32).passed);
    assert_ne!(certified(&out, NumberFormat::F32).files, before.files);
}

/// A source whose model in memory cannot be run, or whose answers are given.
struct Source {
    meta: ExportMeta,
    expected: Option<Vec<f32>>,
    shift: f32,
}

impl ExportSource for Source {
    fn meta(&self) -> &ExportMeta {
        &self.meta
    }
    fn store(&self) -> NumberFormat {
        NumberFormat::F32
    }
    fn kind(&self) -> BaseKind<'_> {
        BaseKind::Encoder("bert")
    }
    fn tensors(&self, _: bool) -> Result<Vec<HostTensor>> {
        Ok(originals())
    }
    fn lora(&self, _: Option<usize>) -> Result<LoraAdapter> {
        Ok(LoraAdapter::default())
    }
    fn whole(&self) -> Result<WholeModel<'_>> {
        Err(Error::internal("there is no base model"))
    }
    fn outputs(&self) -> usize {
        LABELS
    }
    fn expected(&self, _: Expected) -> Result<Vec<f32>> {
        self.expected.clone().ok_or_else(|| Error::internal("the probe cannot be read"))
    }
    fn logits(&self, loaded: LoadedModel<'_>) -> Result<Vec<f32>> {
        let LoadedModel::Merged(tensors) = loaded else { return Err(Error::internal("not a merged adapter")) };
        Ok(logits(tensors)?.iter().map(|logit| logit + self.shift).collect())
    }
}

#[test]
fn a_directory_appears_with_its_certificate_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("exports/merged");
    let mut source = Source { meta: meta(NumberFormat::F32), expected: None, shift: 0.0 };
    let err = ExportTarget::Merged.export(&out, &source).unwrap_err().to_string();
    assert!(err.contains("the probe cannot be read"), "{err}");
    assert_eq!(fs::read_dir(dir.path().join("exports")).unwrap().count(), 0, "no directory without a certificate");

    source.expected = Some(logits(&originals()).unwrap());
    let passed = ExportTarget::Merged.export(&out, &source).unwrap();
    assert!(passed.passed && read(&out).unwrap() == passed, "{:?}", passed.problems);
    assert_eq!(fs::read_dir(dir.path().join("exports")).unwrap().count(), 1);

    // One that fails is kept, and says so.
    source.shift = 1.0;
    let out = dir.path().join("exports/wrong");
    let failed = ExportTarget::Merged.export(&out, &source).unwrap();
    assert!(!failed.passed && failed.problems[0].contains("a logit moved"), "{:?}", failed.problems);
    assert_eq!(read(&out).unwrap(), failed);
}
