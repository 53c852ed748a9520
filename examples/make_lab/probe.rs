//! How much the encoder knows about sentiment: a logistic regression on its frozen features.

use crate::save;
use adamix::data::{Batch, Labels};
use adamix::error::{Error, Result};
use adamix::model::{BaseModel as _, Encoder, EncoderSpec, ForwardOptions, Weights};
use adamix::nn::Linear;
use adamix::nn::kernels::activation::{self, Act};
use adamix::tensor::{DType, Device};
use std::path::Path;
use tokenizers::Tokenizer;

/// Sentences with their class, 0 or 1.
pub struct Probe {
    train: Vec<(Vec<u32>, f64)>,
    test: Vec<(Vec<u32>, f64)>,
}

/// Test accuracy of a logistic regression on each kind of feature.
#[derive(Clone, Copy)]
pub struct Accuracies {
    /// On the pooled first token.
    pub pooled: f64,
    /// On the first token's vector.
    pub first: f64,
    /// On the mean over all tokens.
    pub mean: f64,
}

impl std::fmt::Display for Accuracies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "pooled {:.4}, first token {:.4}, mean {:.4}", self.pooled, self.first, self.mean)
    }
}

impl Probe {
    /// Reads `train.tsv` (about 4000 of its rows) and `test.tsv`: a header, then sentence, tab, label.
    pub fn read(dir: &Path, tokenizer: &Tokenizer) -> Result<Self> {
        Ok(Self {
            train: rows(&dir.join("train.tsv"), tokenizer, 4000)?,
            test: rows(&dir.join("test.tsv"), tokenizer, 2000)?,
        })
    }

    /// Fits on the training rows and counts right answers on the test rows.
    pub fn run(&self, encoder: &Encoder, pooler: &Linear) -> Result<Accuracies> {
        let train = features(encoder, pooler, &self.train)?;
        let test = features(encoder, pooler, &self.test)?;
        let d = encoder.spec.hidden_size;
        let accuracy = |kind: usize| {
            let column = |x: &[f64]| x[kind * d..(kind + 1) * d].to_vec();
            let (x, xt): (Vec<_>, Vec<_>) =
                (train.iter().map(|x| column(x)).collect(), test.iter().map(|x| column(x)).collect());
            fit(&x, &self.train, &xt, &self.test)
        };
        Ok(Accuracies { pooled: accuracy(0), first: accuracy(1), mean: accuracy(2) })
    }
}

/// The encoder and the pooler that an earlier run wrote to `dir`.
pub fn saved(dir: &Path) -> Result<(Encoder, Linear)> {
    let spec = EncoderSpec::from_json(save::CONFIG)?;
    let d = spec.hidden_size;
    let weights = Weights::open(dir)?.with_prefix("bert");
    let pooler = Linear::new(
        weights.get("pooler.dense.weight", &[d, d], DType::F32, &Device::Cpu)?,
        Some(weights.get("pooler.dense.bias", &[d], DType::F32, &Device::Cpu)?),
    );
    Ok((Encoder::load(spec, &weights, DType::F32, &Device::Cpu)?, pooler))
}

fn rows(path: &Path, tokenizer: &Tokenizer, limit: usize) -> Result<Vec<(Vec<u32>, f64)>> {
    let text = std::fs::read_to_string(path).map_err(|err| Error::io("reading the probe", path, err))?;
    let mut rows = Vec::new();
    // the rows are sorted by class: take them evenly from the whole file
    let step = (text.lines().count() / limit).max(1);
    for line in text.lines().skip(1).step_by(step) {
        let Some((sentence, label)) = line.rsplit_once('\t') else { continue };
        let encoded = tokenizer.encode_fast(sentence, true).map_err(crate::wordpiece::tokenizer_error)?;
        let mut ids = encoded.get_ids().to_vec();
        ids.truncate(128);
        rows.push((ids, if label.trim() == "1" { 1.0 } else { 0.0 }));
    }
    Ok(rows)
}

/// Pooled first token, first token and mean, side by side, of each row.
fn features(encoder: &Encoder, pooler: &Linear, rows: &[(Vec<u32>, f64)]) -> Result<Vec<Vec<f64>>> {
    let d = encoder.spec.hidden_size;
    let mut all = Vec::new();
    for chunk in rows.chunks(64) {
        let mut offsets = vec![0];
        let mut ids = Vec::new();
        for (row, _) in chunk {
            ids.extend(row);
            offsets.push(ids.len());
        }
        let n = chunk.len();
        let starts: Vec<u32> = offsets[..n].iter().map(|&o| o as u32).collect();
        let batch = Batch {
            type_ids: vec![0; ids.len()],
            ids,
            offsets: offsets.clone(),
            labels: Labels::Classes(vec![0; n]),
            rows: (0..n).collect(),
        };
        let (x, _) = encoder.forward(&batch, ForwardOptions { all_tokens: true, ..ForwardOptions::eval() })?;
        let first = x.index_select(&adamix::tensor::Tensor::from_vec(starts, n, encoder.device())?, 0)?;
        let pooled = activation::forward(Act::Tanh, &pooler.forward(&first)?)?.to_vec2::<f32>()?;
        let x = x.to_vec2::<f32>()?;
        for (i, pooled) in pooled.iter().enumerate() {
            let tokens = &x[offsets[i]..offsets[i + 1]];
            let mean = (0..d).map(|j| tokens.iter().map(|t| f64::from(t[j])).sum::<f64>() / tokens.len() as f64);
            let wide = |row: &[f32]| row.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
            all.push([wide(pooled), wide(&tokens[0]), mean.collect()].concat());
        }
    }
    Ok(all)
}

/// Logistic regression on standardised features by accelerated gradient descent with a little weight decay.
fn fit(x: &[Vec<f64>], y: &[(Vec<u32>, f64)], xt: &[Vec<f64>], yt: &[(Vec<u32>, f64)]) -> f64 {
    let d = x.first().map_or(0, Vec::len);
    let n = x.len() as f64;
    let mean: Vec<f64> = (0..d).map(|j| x.iter().map(|r| r[j]).sum::<f64>() / n).collect();
    let std: Vec<f64> =
        (0..d).map(|j| (x.iter().map(|r| (r[j] - mean[j]).powi(2)).sum::<f64>() / n).sqrt().max(1e-6)).collect();
    let scaled = |rows: &[Vec<f64>]| -> Vec<Vec<f64>> {
        rows.iter().map(|r| (0..d).map(|j| (r[j] - mean[j]) / std[j]).collect()).collect()
    };
    let (x, xt) = (scaled(x), scaled(xt));
    let (mut w, mut b) = (vec![0.0; d], 0.0);
    let (mut velocity, mut velocity_b) = (vec![0.0; d], 0.0);
    let score = |w: &[f64], b: f64, r: &[f64]| w.iter().zip(r).map(|(w, v)| w * v).sum::<f64>() + b;
    for _ in 0..300 {
        let (mut grad, mut grad_b) = (vec![0.0; d], 0.0);
        for (r, (_, label)) in x.iter().zip(y) {
            let error = (1.0 / (1.0 + (-score(&w, b, r)).exp()) - label) / n;
            grad.iter_mut().zip(r).for_each(|(g, v)| *g += error * v);
            grad_b += error;
        }
        for j in 0..d {
            velocity[j] = 0.9 * velocity[j] - 0.05 * (grad[j] + 3e-3 * w[j]);
            w[j] += velocity[j];
        }
        velocity_b = 0.9 * velocity_b - 0.05 * grad_b;
        b += velocity_b;
    }
    let right = xt.iter().zip(yt).filter(|(r, (_, label))| (score(&w, b, r) > 0.0) == (*label > 0.5)).count();
    right as f64 / xt.len().max(1) as f64
}
