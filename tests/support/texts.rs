//! A directory with a small language model, texts to learn and a place for runs.

use super::place::short_run;
use adamix::config::{MixtureKind, RunConfig, Task};
use serde_json::{Map, Value, json};
use std::fs;
use std::path::{Path, PathBuf};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
const COLOURS: [&str; 6] = ["red", "blue", "green", "black", "white", "grey"];
const ANIMALS: [&str; 6] = ["cat", "dog", "bird", "fish", "horse", "mouse"];
const REST: [&str; 8] = ["the", "is", "here", "and", "there", "not", "now", "then"];

/// A directory that is gone when this is dropped.
pub struct TextPlace {
    dir: tempfile::TempDir,
}

impl TextPlace {
    /// The golden model of this family, with a vocabulary of words, and texts in which the colour of a prompt decides the
    /// animal of its answer.
    pub fn new(family: &str) -> Self {
        let place = Self { dir: tempfile::tempdir().unwrap() };
        let model = place.path("model");
        fs::create_dir(&model).unwrap();
        for file in ["config.json", "model.safetensors"] {
            fs::copy(Path::new(GOLDEN).join(family).join(file), model.join(file)).unwrap();
        }
        let words = ["<unk>", "<s>", "</s>"].into_iter().chain(COLOURS).chain(ANIMALS).chain(REST);
        let vocabulary: Map<String, Value> = words.enumerate().map(|(id, word)| (word.to_owned(), id.into())).collect();
        place.tokenizer(&vocabulary);
        place.write_texts("train.jsonl", 96);
        place.write_texts("dev.jsonl", 30);
        place
    }

    /// Gives the model a tokenizer of these words.
    pub fn tokenizer(&self, vocabulary: &Map<String, Value>) {
        let special = |id: usize, text: &str| {
            json!({"id": id, "content": text, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true})
        };
        let tokenizer = json!({
            "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "post_processor": null,
            "decoder": null, "pre_tokenizer": {"type": "WhitespaceSplit"},
            "added_tokens": [special(0, "<unk>"), special(1, "<s>"), special(2, "</s>")],
            "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>"},
        });
        fs::write(self.path("model").join("tokenizer.json"), tokenizer.to_string()).unwrap();
    }

    fn write_texts(&self, name: &str, rows: usize) {
        let line = |i: usize| {
            let (colour, more) = (COLOURS[i % 6], REST[3 + (i / 6) % 5]);
            let answer = format!("the {} is here", ANIMALS[i % 6]);
            format!("{}\n", json!({"prompt": format!("{colour} {more}"), "completion": answer}))
        };
        fs::write(self.path(name), (0..rows).map(line).collect::<String>()).unwrap();
    }

    /// A path in the directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Settings of a run that takes a moment: so many steps, an evaluation every quarter.
    pub fn config(&self, steps: u64) -> RunConfig {
        let mut config = short_run(self.dir.path(), steps, Task::Text, ["train.jsonl", "dev.jsonl"]);
        config.mixture.kind = MixtureKind::Lora;
        (config.mixture.num_experts, config.mixture.lora_rank) = (3, 4);
        config.mixture.lora_target = vec!["all-linear".to_owned()];
        config.eval.sample_tokens = 6;
        config
    }
}
