//! Exports written into new directories, as a plan writes them but without a certificate.

use adamix::artifact::export::base::{BaseFiles, BaseKind, MergedWeights};
use adamix::artifact::export::gguf_model::GgufModel;
use adamix::artifact::export::modules::{LoraAdapter, ModuleLora};
use adamix::artifact::export::{self, ExportMeta, new_dir};
use adamix::error::Result;
use adamix::model::Weights;
use adamix::model::decoder::DecoderSpec;
use adamix::tensor::HostTensor;
use std::path::Path;

pub fn merged_adapter(dir: &Path, tensors: &[HostTensor], meta: &ExportMeta) -> Result<()> {
    new_dir(dir, |dir| export::native::merged_adapter(dir, tensors, meta))
}

pub fn experts(dir: &Path, tensors: &[HostTensor], meta: &ExportMeta) -> Result<()> {
    new_dir(dir, |dir| export::native::experts(dir, tensors, meta))
}

pub fn adapterhub(dir: &Path, tensors: &[HostTensor], meta: &ExportMeta, name: &str) -> Result<()> {
    new_dir(dir, |dir| export::adapterhub::adapterhub(dir, tensors, meta, name))
}

pub fn peft(dir: &Path, modules: &[ModuleLora], head: &[HostTensor], meta: &ExportMeta) -> Result<()> {
    new_dir(dir, |dir| export::peft::peft(dir, &adapter(modules, head), meta))
}

pub fn peft_experts(dir: &Path, all: &[Vec<ModuleLora>], head: &[HostTensor], meta: &ExportMeta) -> Result<()> {
    let adapters: Vec<_> = all.iter().map(|modules| adapter(modules, head)).collect();
    new_dir(dir, |dir| export::peft::peft_experts(dir, &adapters, meta))
}

pub fn gguf_adapter(dir: &Path, modules: &[ModuleLora], spec: &DecoderSpec, meta: &ExportMeta) -> Result<()> {
    new_dir(dir, |dir| export::gguf_adapter::gguf_adapter(dir, modules, spec, meta))
}

pub fn gguf(dir: &Path, model: &GgufModel<'_>) -> Result<()> {
    new_dir(dir, |dir| model.write(dir))
}

pub fn hf(
    dir: &Path,
    merged: &MergedWeights<'_>,
    kind: BaseKind<'_>,
    files: BaseFiles<'_>,
    meta: &ExportMeta,
    shard: u64,
) -> Result<()> {
    new_dir(dir, |dir| export::hf::hf(dir, merged, kind, files, meta, shard))
}

pub fn adapter(modules: &[ModuleLora], head: &[HostTensor]) -> LoraAdapter {
    LoraAdapter { modules: modules.to_vec(), head: head.to_vec() }
}

pub fn merged<'a>(
    weights: &'a Weights,
    kind: BaseKind<'a>,
    modules: &[ModuleLora],
    head: &[HostTensor],
) -> Result<MergedWeights<'a>> {
    MergedWeights::new(weights, kind, adapter(modules, head))
}
