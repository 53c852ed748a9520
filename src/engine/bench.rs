//! The speed of training on random weights of a known shape: what a machine and this program can do together.

use super::machine;
use crate::config::{DataConfig, MixtureConfig, RunConfig, Task};
use crate::data::{self, Batch, Labels, lab};
use crate::error::{Error, Result};
use crate::model::{Classifier, Encoder, EncoderSpec, Setup};
use crate::rng::{Purpose, SeedStream};
use crate::train::optimizer::AdamW;
use crate::train::step;
use candle_core::{DType, Device};
use serde::Serialize;
use std::path::PathBuf;
use std::time::Instant;

/// Known shapes by name: layers, hidden size, heads, feed-forward width, vocabulary.
pub const SHAPES: [(&str, [usize; 5]); 5] = [
    ("roberta-base", [12, 768, 12, 3072, 50_265]),
    ("roberta-large", [24, 1024, 16, 4096, 50_265]),
    ("distilroberta", [6, 768, 12, 3072, 50_265]),
    ("minilm", [6, 384, 12, 1536, 30_522]),
    ("lab", [4, 128, 4, 512, 8_192]),
];

const WARM_UP: usize = 2;

/// What is measured.
#[derive(Clone, Debug)]
pub struct Plan {
    /// One of [`SHAPES`].
    pub shape: String,
    /// Sequences in a batch; each goes through twice.
    pub batch_size: usize,
    /// Tokens of each sequence.
    pub length: usize,
    /// Take the lengths of real sentences instead: a directory of SST-2 in GLUE layout.
    pub sentences: Option<PathBuf>,
    /// M.
    pub num_experts: usize,
    /// r.
    pub adapter_size: usize,
    /// Steps that are timed.
    pub steps: usize,
}

/// What came out.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// The shape's name.
    pub shape: String,
    /// Tokens a second through a whole training step, both passes counted.
    pub tokens_per_s: f64,
    /// Sequences a second, each counted once although it goes through twice.
    pub sequences_per_s: f64,
    /// Median seconds of a step.
    pub step_seconds: f64,
    /// Mean tokens of a step, both passes counted.
    pub tokens_per_step: f64,
    /// Multiplications and additions the frozen trunk needs (4 per weight and token), in GFLOP/s.
    pub gflops: f64,
    /// What matrix products alone reach here, in GFLOP/s.
    pub gemm_gflops: f64,
    /// The first over the second.
    pub gemm_share: f64,
    /// Largest memory of this process, in MB (10^6 bytes).
    pub peak_rss_mb: f64,
    /// Parameters of the trunk.
    pub trunk_parameters: usize,
    /// Sequences in a batch.
    pub batch_size: usize,
    /// M.
    pub num_experts: usize,
    /// r.
    pub adapter_size: usize,
    /// Timed steps.
    pub steps: usize,
    /// CPU threads.
    pub threads: usize,
    /// The last loss: a number, or something is broken.
    pub loss: f64,
}

impl Plan {
    /// Whether it can be measured.
    pub fn check(&self) -> Result<()> {
        let spec = self.spec()?;
        if self.length < 2 || self.length > spec.max_length() {
            return Err(Error::config(format!("length is {}; choose 2 to {}", self.length, spec.max_length())));
        }
        self.config().validate()
    }

    fn spec(&self) -> Result<EncoderSpec> {
        let known = SHAPES.iter().find(|(name, _)| *name == self.shape);
        let Some((_, [layers, hidden, heads, inner, vocabulary])) = known else {
            return Err(Error::config(format!("there is no shape {:?}; choose one of {}", self.shape, names())));
        };
        let json = serde_json::json!({
            "model_type": "roberta", "hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads,
            "intermediate_size": inner, "vocab_size": vocabulary, "max_position_embeddings": 514, "layer_norm_eps": 1e-5,
        });
        EncoderSpec::from_json(&json.to_string())
    }

    fn config(&self) -> RunConfig {
        let mixture = MixtureConfig {
            num_experts: self.num_experts,
            adapter_size: self.adapter_size,
            ..MixtureConfig::default()
        };
        let mut config = RunConfig { mixture, ..RunConfig::default() };
        config.train.batch_size = self.batch_size;
        config
    }

    /// All batches: warm-up first.
    fn batches(&self, vocabulary: usize) -> Result<Vec<Batch>> {
        let mut stream = SeedStream::new(0).stream(Purpose::Sampling, 0);
        let lengths = self.lengths()?;
        let mut at = 0;
        let mut batch = || {
            let mut batch = Batch {
                ids: Vec::new(),
                type_ids: Vec::new(),
                offsets: vec![0],
                labels: Labels::Classes(Vec::new()),
                rows: Vec::new(),
            };
            let mut classes = Vec::new();
            for row in 0..self.batch_size {
                let length = lengths[at % lengths.len()];
                at += 1;
                batch.ids.extend((0..length).map(|_| stream.below(vocabulary) as u32));
                batch.offsets.push(batch.ids.len());
                batch.rows.push(row);
                classes.push(stream.below(2) as u32);
            }
            batch.type_ids = vec![0; batch.ids.len()];
            batch.labels = Labels::Classes(classes);
            batch
        };
        Ok((0..WARM_UP + self.steps).map(|_| batch()).collect())
    }

    /// Lengths of the sequences to come, repeated when they run out.
    fn lengths(&self) -> Result<Vec<usize>> {
        let Some(directory) = &self.sentences else { return Ok(vec![self.length]) };
        let config = DataConfig {
            task: Task::Sst2,
            path: directory.display().to_string(),
            max_length: 128,
            max_train_rows: 4096,
            ..DataConfig::default()
        };
        let task = data::load(&config, &lab::tokenizer()?)?;
        Ok(task.train.encoded.iter().map(crate::data::Encoded::len).collect())
    }
}

fn names() -> String {
    SHAPES.map(|(name, _)| name).join(", ")
}

/// Makes training steps on random weights and times them.
pub fn bench(plan: &Plan) -> Result<Measured> {
    let gemm = machine::gemm_rate(0.5)?;
    let (spec, config) = (plan.spec()?, plan.config());
    let batches = plan.batches(spec.vocab_size)?;
    let parameters = spec.matmul_parameters() as f64;
    let seed = SeedStream::new(0);
    let encoder = Encoder::random(spec, seed, &Device::Cpu)?;
    let setup = Setup { method: config.model.method, mixture: &config.mixture, outputs: 2, seed };
    let model = Classifier::new(encoder, None, &setup, DType::F32)?;
    let mut optimizer = AdamW::new(model.params())?;

    let (mut times, mut tokens, mut loss) = (Vec::new(), 0, 0.0);
    let total = batches.len() as u64;
    for (index, batch) in batches.iter().enumerate() {
        let clock = Instant::now();
        let made = step::step(&config, &model, &mut optimizer, (index as u64, total), |_| Ok(batch.clone()))?;
        if index >= WARM_UP {
            times.push(clock.elapsed().as_secs_f64());
            tokens += made.tokens;
        }
        loss = made.loss.total;
    }
    // Before and after: other programs come and go, and the share is meant for a machine of one's own.
    let gemm = gemm.max(machine::gemm_rate(0.5)?);
    let seconds: f64 = times.iter().sum();
    times.sort_by(f64::total_cmp);
    let tokens_per_s = tokens as f64 / seconds;
    let gflops = 4.0 * parameters * tokens_per_s / 1e9;
    Ok(Measured {
        shape: plan.shape.clone(),
        tokens_per_s,
        sequences_per_s: (plan.steps * plan.batch_size) as f64 / seconds,
        step_seconds: times[times.len() / 2],
        tokens_per_step: tokens as f64 / plan.steps as f64,
        gflops,
        gemm_gflops: gemm / 1e9,
        gemm_share: gflops * 1e9 / gemm,
        peak_rss_mb: (machine::peak_memory() as f64 / 1e5).round() / 10.0,
        trunk_parameters: model.counts().trunk,
        batch_size: plan.batch_size,
        num_experts: plan.num_experts,
        adapter_size: plan.adapter_size,
        steps: plan.steps,
        threads: rayon::current_num_threads(),
        loss,
    })
}
