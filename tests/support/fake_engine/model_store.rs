//! Models and downloads of the fake engine.

use adamix::protocol::model_store::{
    CacheInfo, DownloadProgress, Downloaded, ModelKind, Stage, StoredFile, StoredModel,
};
use std::path::{Path, PathBuf};

/// Bytes of a download.
pub const TOTAL: u64 = 271_000_000;
/// Bytes per second of a download.
pub const SPEED: f64 = 18_400_000.0;

fn model(id: &str, family: &str, kind: Option<ModelKind>, parameters: u64, bytes: u64) -> StoredModel {
    let cache = Path::new("/home/user/.cache/huggingface/hub");
    let (repo, file) = id.split_once(':').map_or((id, None), |(repo, file)| (repo, Some(file)));
    let snapshot = cache.join(format!("models--{}", repo.replace('/', "--"))).join("snapshots/5e0f3a1c9b7d");
    let weights = file.unwrap_or("model.safetensors");
    let mut files = vec![StoredFile { name: weights.to_owned(), bytes }];
    if file.is_none() {
        files.push(StoredFile { name: "config.json".to_owned(), bytes: 690 });
        files.push(StoredFile { name: "tokenizer.json".to_owned(), bytes: 1_355_863 });
    }
    StoredModel {
        id: id.to_owned(),
        commit: "5e0f3a1c9b7d".to_owned(),
        path: file.map_or(snapshot.clone(), |file| snapshot.join(file)),
        bytes: files.iter().map(|file| file.bytes).sum(),
        files,
        kind,
        family: family.to_owned(),
        parameters,
        ..StoredModel::default()
    }
}

/// What is on disk.
pub fn cached() -> CacheInfo {
    let refused = "model type \"t5\" is not supported; choose a BERT or RoBERTa encoder";
    let half = "it is not wholly there; adamix models download Qwen/Qwen3-0.6B goes on where it stopped";
    CacheInfo {
        cache: PathBuf::from("/home/user/.cache/huggingface/hub"),
        endpoint: "https://huggingface.co".to_owned(),
        models: vec![
            model("FacebookAI/roberta-base", "RoBERTa", Some(ModelKind::Encoder), 124_697_433, 498_818_054),
            model("HuggingFaceTB/SmolLM2-135M-Instruct", "Llama", Some(ModelKind::Decoder), 134_515_008, 269_060_552),
            StoredModel {
                incomplete: true,
                problem: Some(half.to_owned()),
                ..model("Qwen/Qwen3-0.6B", "Qwen3", Some(ModelKind::Decoder), 0, 611_000_000)
            },
            StoredModel {
                problem: Some(refused.to_owned()),
                ..model("google-t5/t5-small", "", None, 60_506_624, 242_043_056)
            },
            model("nomic/tiny-GGUF:tiny-q4_k_m.gguf", "Llama", Some(ModelKind::Decoder), 134_515_008, 105_454_432),
        ],
        ..CacheInfo::default()
    }
}

/// A download that has come so far, from 0 to 1.
pub fn progress(share: f64) -> DownloadProgress {
    let done = (share.clamp(0.0, 1.0) * TOTAL as f64) as u64;
    DownloadProgress {
        stage: Stage::Fetching,
        file: "model.safetensors".to_owned(),
        number: 5,
        files: 5,
        done,
        total: TOTAL,
        fetched: done,
        speed: SPEED,
    }
}

/// The end of a download.
pub fn downloaded(id: &str) -> Downloaded {
    let model = model(id, "BERT", Some(ModelKind::Encoder), 22_713_216, TOTAL);
    Downloaded { id: id.to_owned(), path: model.path, bytes: TOTAL }
}
