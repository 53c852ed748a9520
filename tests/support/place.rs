//! A directory with a small model, a small data set and a place for runs: what the real engine needs.

use adamix::config::{DeviceChoice, RunConfig, Task};
use adamix::rng::{Purpose, SeedStream};
use std::fs;
use std::path::{Path, PathBuf};

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/bert-tiny");
const WORDS: [&str; 16] = [
    "good", "bad", "film", "plot", "long", "short", "scene", "music", "actor", "story", "slow", "quick", "dark",
    "bright", "loud", "calm",
];

/// A directory that is gone when this is dropped.
pub struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    /// A model of 2 layers and width 20 with a vocabulary of words, 96 training and 48 evaluation rows that say "yes"
    /// when the word "good" occurs.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let model = dir.path().join("model");
        fs::create_dir(&model).unwrap();
        for file in ["config.json", "model.safetensors"] {
            fs::copy(Path::new(MODEL).join(file), model.join(file)).unwrap();
        }
        let mut vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].join("\n");
        for word in WORDS {
            vocabulary.push('\n');
            vocabulary.push_str(word);
        }
        fs::write(model.join("vocab.txt"), vocabulary + "\n").unwrap();
        let place = Self { dir };
        place.write_rows("train.csv", 96, 1);
        place.write_rows("dev.csv", 48, 2);
        place
    }

    fn write_rows(&self, name: &str, rows: usize, seed: u64) {
        let mut stream = SeedStream::new(seed).stream(Purpose::Sampling, 0);
        let mut text = "sentence,label\n".to_owned();
        for _ in 0..rows {
            let mut words: Vec<&str> = (0..4 + stream.below(5)).map(|_| WORDS[1 + stream.below(15)]).collect();
            let good = stream.below(2) == 1;
            if good {
                let at = stream.below(words.len());
                words[at] = WORDS[0];
            }
            text.push_str(&format!("{},{}\n", words.join(" "), if good { "yes" } else { "no" }));
        }
        fs::write(self.path(name), text).unwrap();
    }

    /// A path in the directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Settings of a run that takes a moment: so many steps, an evaluation every quarter.
    pub fn config(&self, steps: u64) -> RunConfig {
        let mut config = short_run(self.dir.path(), steps, Task::Custom, ["train.csv", "dev.csv"]);
        config.mixture.adapter_size = 4;
        config
    }
}

/// Settings of a short run in a directory that holds `model` and two data files.
pub fn short_run(dir: &Path, steps: u64, task: Task, [train, dev]: [&str; 2]) -> RunConfig {
    let text = |name: &str| dir.join(name).display().to_string();
    let mut config = RunConfig { runs_dir: text("runs"), name: "test".to_owned(), ..RunConfig::default() };
    config.model.path = text("model");
    config.model.device = DeviceChoice::Cpu;
    config.data.task = task;
    (config.data.train_file, config.data.dev_file) = (text(train), text(dev));
    config.data.max_length = 16;
    (config.train.max_steps, config.train.batch_size, config.train.learning_rate) = (steps, 8, 2e-2);
    (config.eval.eval_steps, config.eval.random_routes, config.eval.eval_batch_size) = ((steps / 4).max(1), 3, 16);
    config
}
