//! The merged LoRA as a GGUF adapter that llama.cpp loads beside its base model.
//!
//! A and B of `blk.3.attn_q.weight` are `blk.3.attn_q.weight.lora_a` `[r, in]` and `.lora_b` `[out, r]`. The rows of B for
//! q and k of the Llama architecture stand in llama.cpp's order. GPT-2's are not transposed: LoRA's matrices are outputs
//! first already. There is one alpha for the file, from which llama.cpp makes `alpha / r` for each module; whatever else a
//! module's scale is goes into its B, and an alpha of 0, which means 1 there, is never written.

use super::ExportMeta;
use super::base::DecoderArchitecture;
use super::modules::{LoraAdapter, ModuleLora};
use super::source::{Expected, ExportSource, LoadedModel, probe};
use super::target::ExportFormat;
use crate::artifact::certificate::{self, Certificate, Comparison, Rerun};
use crate::error::{Error, Result};
use crate::tensor::gguf::{self, GgufFile, GgufValue, Metadata, layout};
use crate::tensor::{HostTensor, NumberFormat, TensorPlan};
use std::borrow::Cow;
use std::path::Path;

/// Name of the file in its directory.
pub const FILE: &str = "adapter.gguf";

/// The target.
pub(super) struct GgufAdapter;

impl ExportFormat for GgufAdapter {
    fn file(&self) -> &'static str {
        FILE
    }
    fn export(&self, dir: &Path, source: &dyn ExportSource) -> Result<Certificate> {
        let (modules, kind, meta) = (source.lora(None)?.modules, source.kind(), source.meta());
        let spec = kind.decoder()?;
        gguf_adapter(dir, &modules, spec, meta)?;
        let logits = source.expected(Expected::Merged)?;
        let mut run = || {
            let (modules, _) = read(&dir.join(FILE), spec)?;
            source.logits(LoadedModel::Loras(&[LoraAdapter { modules, head: Vec::new() }]))
        };
        certify(dir, &modules, spec, meta.dtype, Some((probe(source, &logits), &mut run)))
    }
}

/// The tensors of the file, in their order there, and the file's alpha.
pub fn tensors(modules: &[ModuleLora], spec: &dyn DecoderArchitecture) -> Result<(Vec<HostTensor>, f32)> {
    let first = modules.first().ok_or_else(|| Error::config("there is no LoRA in this model to write"))?;
    let usual = (first.scale * first.rank as f64) as f32;
    let alpha = if usual.is_finite() && usual != 0.0 { usual } else { 1.0 };
    let mut all = Vec::new();
    for module in modules {
        let part = spec
            .naming()
            .module_to_gguf(&module.path)
            .ok_or_else(|| Error::config(format!("{} has no place in a GGUF adapter", module.name())))?;
        let name = format!("blk.{}.{part}.weight", module.layer);
        let mut b = module.b.clone();
        if let Some(heads) = spec.permuted_heads(&module.path) {
            b = layout::rope_to_gguf(&b, heads, module.rank);
        }
        // What llama.cpp will multiply with, as it computes it.
        let theirs = f64::from(alpha / module.rank as f32);
        if (module.scale / theirs - 1.0).abs() > 1e-7 || module.scale == 0.0 {
            let factor = module.scale / theirs;
            b.iter_mut().for_each(|value| *value = (f64::from(*value) * factor) as f32);
        }
        all.push(HostTensor::new(format!("{name}.lora_a"), [module.rank, module.d_in()], module.a.clone())?);
        all.push(HostTensor::new(format!("{name}.lora_b"), [module.d_out(), module.rank], b)?);
    }
    Ok((all, alpha))
}

/// Writes `adapter.gguf` into `dir`.
pub fn gguf_adapter(
    dir: &Path,
    modules: &[ModuleLora],
    spec: &dyn DecoderArchitecture,
    meta: &ExportMeta,
) -> Result<()> {
    let (tensors, alpha) = tensors(modules, spec)?;
    let entries: Metadata = [
        ("general.type", "adapter".into()),
        ("general.architecture", spec.gguf_architecture().into()),
        ("general.name", format!("{} merged LoRA", base_name(&meta.base_model)).into()),
        ("general.base_model.count", GgufValue::Int(1)),
        ("general.base_model.0.name", base_name(&meta.base_model).into()),
        ("general.file_type", GgufValue::Int(meta.dtype.gguf_file_type().into())),
        ("adapter.type", "lora".into()),
        ("adapter.lora.alpha", GgufValue::Float(alpha.into())),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into();
    let plan: Vec<TensorPlan> = tensors
        .iter()
        .map(|t| TensorPlan { name: t.name.clone(), shape: t.shape.clone(), format: meta.dtype })
        .collect();
    gguf::write(&dir.join(FILE), &entries, &plan, &mut |i| Ok(Cow::Borrowed(&tensors[i])))
}

/// The modules of an adapter file, for the model of this shape, and all tensors as they are stored.
pub fn read(file: &Path, spec: &dyn DecoderArchitecture) -> Result<(Vec<ModuleLora>, Vec<HostTensor>)> {
    let open = GgufFile::open(file)?;
    let bad = |what: String| Error::format(format!("{what}: {}", file.display()));
    let (kind, architecture) = (open.str("adapter.type"), open.str("general.architecture"));
    if kind != Some("lora") || architecture != Some(spec.gguf_architecture()) {
        return Err(bad(format!("not a LoRA for this model: its type is {kind:?}, its architecture {architecture:?}")));
    }
    let alpha = open.float("adapter.lora.alpha").ok_or_else(|| bad("it has no adapter.lora.alpha".to_owned()))?;
    let (mut modules, mut tensors) = (Vec::new(), Vec::new());
    for name in open.tensors.keys() {
        let Some(base) = name.strip_suffix(".lora_a") else {
            if name.strip_suffix(".lora_b").is_none_or(|base| !open.tensors.contains_key(&format!("{base}.lora_a"))) {
                return Err(bad(format!("tensor {name} belongs to no LoRA")));
            }
            continue;
        };
        let (a, b) = (open.read(name)?, open.read(&format!("{base}.lora_b"))?);
        let place = base.strip_prefix("blk.").and_then(|rest| rest.strip_suffix(".weight")?.split_once('.'));
        let place = place.and_then(|(layer, part)| Some((layer.parse().ok()?, spec.naming().module_from_gguf(part)?)));
        let (Some((layer, path)), &[rank, _], &[_, rank_b]) = (place, a.shape.as_slice(), b.shape.as_slice()) else {
            return Err(bad(format!("tensor {name} of shape {:?} is on no matrix of this model", a.shape)));
        };
        if rank != rank_b || rank == 0 {
            return Err(bad(format!("{name} has rank {rank}, its B {rank_b}")));
        }
        // llama.cpp takes an alpha of 0 for "no scale".
        let scale = if alpha == 0.0 { 1.0 } else { alpha / rank as f64 };
        let mut values = b.data.clone();
        if let Some(heads) = spec.permuted_heads(path) {
            if !b.shape[0].is_multiple_of(2 * heads) {
                return Err(bad(format!(
                    "{base}.lora_b has {} rows, which are not those of {heads} heads",
                    b.shape[0]
                )));
            }
            values = layout::rope_from_gguf(&values, heads, rank);
        }
        modules.push(ModuleLora { layer, path: path.to_owned(), rank, a: a.data.clone(), b: values, scale });
        tensors.extend([a, b]);
    }
    Ok((modules, tensors))
}

/// The last part of a path or hub name.
pub(super) fn base_name(base: &str) -> &str {
    base.trim_end_matches(['/', '\\']).rsplit(['/', '\\']).next().filter(|name| !name.is_empty()).unwrap_or("model")
}

/// Certifies the file in a directory: it is read afresh and compared with what was exported, rounded.
pub fn certify(
    dir: &Path,
    modules: &[ModuleLora],
    spec: &dyn DecoderArchitecture,
    dtype: NumberFormat,
    rerun: Option<Rerun<'_>>,
) -> Result<Certificate> {
    let (tensors, _) = tensors(modules, spec)?;
    let names: Vec<String> = tensors.iter().map(|tensor| tensor.name.clone()).collect();
    let file = OpenGguf::new(&dir.join(FILE));
    let comparison = Comparison {
        store: dtype,
        names: &names,
        original: &|name| certificate::find(&tensors, name),
        format: &|_| dtype,
        found: file.names(),
        found_dtype: dtype,
        stored: &|name| file.read(name),
    };
    certificate::certify_streamed(dir, &comparison, rerun)
}

/// A GGUF file, or why it cannot be read.
pub(super) struct OpenGguf(std::result::Result<GgufFile, String>);

impl OpenGguf {
    pub(super) fn new(file: &Path) -> Self {
        Self(GgufFile::open(file).map_err(|err| err.to_string()))
    }
    pub(super) fn names(&self) -> std::result::Result<Vec<String>, String> {
        self.0.as_ref().map(|file| file.tensors.keys().cloned().collect()).map_err(String::clone)
    }
    pub(super) fn read(&self, name: &str) -> Result<HostTensor> {
        self.0.as_ref().map_err(Error::format)?.read(name)
    }
}
