//! A tiny random model and a learnable data set, for tests of the engine.

use adamix::config::{Method, Metric, MixtureConfig, Problem, RunConfig};
use adamix::data::{Dataset, Encoded, Row, Target, TaskData};
use adamix::model::{Classifier, Encoder, EncoderSpec, Family, Setup};
use adamix::nn::Act;
use adamix::rng::{Purpose, SeedStream};
use adamix::tensor::{DType, Device};

/// 3 layers, hidden 16, 2 heads.
pub fn spec(family: Family) -> EncoderSpec {
    EncoderSpec {
        family,
        hidden_size: 16,
        num_layers: 3,
        num_heads: 2,
        intermediate_size: 32,
        vocab_size: 40,
        max_positions: 24,
        type_vocab_size: 2,
        position_offset: 0,
        act: Act::Gelu,
        layer_norm_eps: 1e-12,
        hidden_dropout: 0.1,
        attention_dropout: 0.1,
        head_dropout: 0.1,
        name: None,
    }
}

/// Settings that fit the tiny model.
pub fn config(seed: u64) -> RunConfig {
    let mixture = MixtureConfig { adapter_size: 4, init_std: 0.3, ..MixtureConfig::default() };
    let mut config = RunConfig { mixture, ..RunConfig::default() };
    config.train.seed = seed;
    config.train.batch_size = 8;
    config.train.max_steps = 12;
    config.train.learning_rate = 5e-3;
    config.eval.eval_steps = 4;
    config.eval.random_routes = 3;
    config.eval.eval_batch_size = 16;
    config
}

/// A model with random weights. `outputs`: classes, or 1 for regression.
pub fn classifier(config: &RunConfig, family: Family, outputs: usize) -> Classifier {
    let seed = SeedStream::new(config.train.seed);
    let encoder = Encoder::random(spec(family), seed, &Device::Cpu).unwrap();
    let setup = Setup { method: config.model.method, mixture: &config.mixture, outputs, seed };
    Classifier::new(encoder, None, &setup, DType::F32).unwrap()
}

/// Rows whose label is whether token 7 occurs; lengths 3 to 12.
pub fn task(rows: usize, problem: Problem) -> TaskData {
    let mut stream = SeedStream::new(99).stream(Purpose::Sampling, 7);
    let mut split = |n: usize| {
        let mut data = Dataset { rows: Vec::new(), encoded: Vec::new() };
        for _ in 0..n {
            let len = 3 + stream.below(10);
            let class = stream.below(2) as u32;
            let mut ids: Vec<u32> = (0..len).map(|_| 10 + stream.below(30) as u32).collect();
            if class == 1 {
                ids[1 + stream.below(len - 1)] = 7;
            }
            let target = match problem {
                Problem::Classification => Target::Class(class),
                Problem::Regression => Target::Value(class as f32),
            };
            data.rows.push(Row { text: format!("{ids:?}"), pair: None, target });
            data.encoded.push(Encoded { type_ids: vec![0; len], ids, truncated: false });
        }
        data
    };
    let classes = problem == Problem::Classification;
    TaskData {
        train: split(rows),
        dev: split(rows / 2),
        labels: if classes { vec!["no".to_owned(), "yes".to_owned()] } else { Vec::new() },
        problem,
        metric: if classes { Metric::Accuracy } else { Metric::Pearson },
        skipped: Vec::new(),
        notes: Vec::new(),
    }
}

/// The same settings with another method.
pub fn with_method(mut config: RunConfig, method: Method) -> RunConfig {
    config.model.method = method;
    config
}
