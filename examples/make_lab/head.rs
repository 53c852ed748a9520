//! What pre-training predicts, with hand-written gradients.
//!
//! * BERT's masked-language head: dense, GELU, layer normalisation, the word table as decoder, a bias. It runs at
//!   the masked positions only.
//! * A bag-of-words task for the first token: `tanh(pooler(x_cls))` through the same word table and a bias of its
//!   own predicts the words of its sequence. Without it the first token's vector, which is all that a classifier
//!   on a frozen trunk sees, would be left untrained.

use adamix::error::{Error, Result};
use adamix::nn::kernels::activation::{self, Act};
use adamix::nn::kernels::{HostRef, gemm, host, loss};
use adamix::nn::{Dropout, Grads, LayerNorm, Linear, ParamId, Params};
use adamix::rng::{Purpose, SeedStream};
use candle_core::{DType, Device, Tensor};

/// Weight of the bag-of-words loss next to the masked-language loss.
pub const BAG_WEIGHT: f64 = 0.5;

/// The layers above the encoder that only pre-training uses, and the pooler.
pub struct Heads {
    dense: Linear,
    norm: LayerNorm,
    /// The pooler: shipped with the encoder. `[d, d]`
    pub pooler: Linear,
    biases: [(Tensor, ParamId); 2],
    word: (Tensor, ParamId),
}

/// What one batch has to predict.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Targets {
    /// Masked positions in the packed batch, and what stood there.
    pub masked: Vec<(u32, u32)>,
    /// First token of each sequence.
    pub starts: Vec<u32>,
    /// Words of each sequence with weights that sum to 1.
    pub bags: Vec<Vec<(u32, f32)>>,
}

/// Mean losses of a batch, in nats.
#[derive(Clone, Copy, Debug, Default)]
pub struct Losses {
    /// Masked-language loss.
    pub masked: f64,
    /// Bag-of-words loss.
    pub bag: f64,
}

impl Heads {
    /// New layers on an encoder's word table, all trained. word `[vocabulary, d]`
    pub fn new(word: &Tensor, word_id: ParamId, eps: f64, seed: SeedStream, params: &mut Params) -> Result<Self> {
        let (vocabulary, d) = word.dims2()?;
        let mut stream = seed.stream(Purpose::Init, 1 << 33);
        let mut linear = || -> Result<Linear> {
            let weight = Tensor::from_vec(stream.normal_vec(d * d, 0.02), (d, d), &Device::Cpu)?;
            Ok(Linear::new(weight, Some(Tensor::zeros(d, DType::F32, &Device::Cpu)?)))
        };
        let (mut dense, mut pooler) = (linear()?, linear()?);
        let ones = Tensor::ones(d, DType::F32, &Device::Cpu)?;
        let mut norm = LayerNorm::new(ones, Tensor::zeros(d, DType::F32, &Device::Cpu)?, eps);
        pooler.train("pooler.dense", params);
        dense.train("cls.predictions.transform.dense", params);
        norm.train("cls.predictions.transform.LayerNorm", params);
        let mut bias = |name: &str| -> Result<(Tensor, ParamId)> {
            let bias = Tensor::zeros(vocabulary, DType::F32, &Device::Cpu)?;
            let id = params.add(name, &bias);
            Ok((bias, id))
        };
        let biases = [bias("cls.predictions.bias")?, bias("cls.bag.bias")?];
        Ok(Self { dense, norm, pooler, biases, word: (word.clone(), word_id) })
    }

    /// Starting values: biases at the logarithm of the words' frequencies, both dense layers near the identity.
    pub fn start_at(&self, frequencies: &[f64]) -> Result<()> {
        let total = frequencies.iter().sum::<f64>().max(1.0);
        for (bias, _) in &self.biases {
            host::mutate(bias, |bias| {
                for (b, f) in bias.iter_mut().zip(frequencies) {
                    *b = (((f + 0.1) / total).ln() + 9.0) as f32;
                }
            })?;
        }
        for layer in [&self.dense, &self.pooler] {
            let (_, d) = layer.weight().dims2()?;
            host::mutate(layer.weight().tensor()?, |w| (0..d).for_each(|i| w[i * d + i] += 1.0))?;
        }
        Ok(())
    }

    /// Losses, and with `grads` also the gradients; the gradient of x is returned. x `[tokens, d]` -> `[tokens, d]`
    pub fn run(&self, x: &Tensor, targets: &Targets, grads: Option<&mut Grads>) -> Result<(Losses, Option<Tensor>)> {
        let positions: Vec<u32> = targets.masked.iter().map(|&(position, _)| position).collect();
        let words: Vec<u32> = targets.masked.iter().map(|&(_, word)| word).collect();
        let positions = index(positions)?;
        let starts = index(targets.starts.clone())?;
        // masked positions
        let picked = x.index_select(&positions, 0)?;
        let z = self.dense.forward(&picked)?;
        let (h, saved) = self.norm.forward(&activation::forward(Act::Gelu, &z)?, None, Dropout::none())?;
        let (masked, dlogits) = loss::cross_entropy(&self.decode(&h, 0)?, &words)?;
        // first tokens
        let first = x.index_select(&starts, 0)?;
        let zp = self.pooler.forward(&first)?;
        let pooled = activation::forward(Act::Tanh, &zp)?;
        let (bag, dbag) = bag_loss(&self.decode(&pooled, 1)?, &targets.bags)?;
        let losses = Losses { masked, bag };
        let Some(grads) = grads else { return Ok((losses, None)) };

        let (dh, dword) = self.decode_backward(&h, &dlogits, 0, grads)?;
        let dact = self.norm.backward_single(&saved, &dh, grads)?;
        let dz = activation::backward(Act::Gelu, &z, dact)?;
        self.dense.add_grads(&picked, &dz, grads)?;
        let dpicked = self.dense.backward(&dz)?;

        let (dpooled, dword_bag) = self.decode_backward(&pooled, &(dbag * BAG_WEIGHT)?, 1, grads)?;
        let dzp = activation::backward(Act::Tanh, &zp, dpooled)?;
        self.pooler.add_grads(&first, &dzp, grads)?;
        let dfirst = self.pooler.backward(&dzp)?;

        add_to(&dword, &dword_bag, 1.0)?;
        grads.add(self.word.1, 0, dword)?;
        let dx = x.zeros_like()?.index_add(&positions, &dpicked, 0)?.index_add(&starts, &dfirst, 0)?;
        Ok((losses, Some(dx)))
    }

    /// `h Eᵀ + bias`. h `[n, d]` -> `[n, vocabulary]`
    fn decode(&self, h: &Tensor, bias: usize) -> Result<Tensor> {
        gemm::linear(h, &self.word.0, Some(&self.biases[bias].0))
    }

    /// Adds the gradient of the bias; returns those of h and of the word table. dlogits `[n, vocabulary]` -> `[n, d]`, `[vocabulary, d]`
    fn decode_backward(
        &self,
        h: &Tensor,
        dlogits: &Tensor,
        bias: usize,
        grads: &mut Grads,
    ) -> Result<(Tensor, Tensor)> {
        grads.add(self.biases[bias].1, 0, gemm::bias_grad(dlogits)?)?;
        Ok((gemm::linear_backward(dlogits, &self.word.0)?, gemm::weight_grad(dlogits, h)?))
    }
}

/// `sum += other * factor` in place.
pub fn add_to(sum: &Tensor, other: &Tensor, factor: f32) -> Result<()> {
    let other = HostRef::of(other)?;
    host::mutate(sum, |sum| sum.iter_mut().zip(other.iter()).for_each(|(s, &o)| *s += o * factor))
}

fn index(rows: Vec<u32>) -> Result<Tensor> {
    let n = rows.len();
    Ok(Tensor::from_vec(rows, n, &Device::Cpu)?)
}

/// Cross-entropy against a distribution over words in each row, mean over rows, and its gradient. logits `[n, vocabulary]`
fn bag_loss(logits: &Tensor, bags: &[Vec<(u32, f32)>]) -> Result<(f64, Tensor)> {
    let (n, classes) = logits.dims2()?;
    let firsts: Vec<u32> = bags.iter().filter_map(|bag| bag.first().map(|&(word, _)| word)).collect();
    if firsts.len() != n {
        return Err(Error::internal(format!("{} bags of words for {n} rows", firsts.len())));
    }
    // The kernel's gradient against one word is (p - onehot) / n: p can be read back from it, and the other words
    // of the bag put in.
    let (_, grad) = loss::cross_entropy(logits, &firsts)?;
    let mut total = 0.0;
    host::mutate(&grad, |grad| {
        for ((row, bag), &first) in grad.chunks_exact_mut(classes).zip(bags).zip(&firsts) {
            row[first as usize] += 1.0 / n as f32;
            for &(word, weight) in bag {
                let p = (row[word as usize] * n as f32).max(1e-30);
                total -= f64::from(weight) * f64::from(p).ln();
            }
            for &(word, weight) in bag {
                row[word as usize] -= weight / n as f32;
            }
        }
    })?;
    Ok((total / n as f64, grad))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Heads on random inputs: 12 tokens of width 8, 20 words.
    fn fixture() -> (Heads, Params, Tensor, Targets) {
        let mut stream = SeedStream::new(3).stream(Purpose::Init, 0);
        let word = Tensor::from_vec(stream.normal_vec(160, 0.5), (20, 8), &Device::Cpu).unwrap();
        let x = Tensor::from_vec(stream.normal_vec(96, 1.0), (12, 8), &Device::Cpu).unwrap();
        let mut params = Params::default();
        let id = params.add("word", &word);
        let heads = Heads::new(&word, id, 1e-5, SeedStream::new(4), &mut params).unwrap();
        for param in params.iter() {
            let values = stream.normal_vec(param.value.elem_count(), 0.4);
            host::mutate(&param.value, |p| p.copy_from_slice(&values)).unwrap();
        }
        let targets = Targets {
            masked: vec![(1, 4), (3, 17), (8, 0)],
            starts: vec![0, 7],
            bags: vec![vec![(3, 0.25), (9, 0.75)], vec![(4, 1.0)]],
        };
        (heads, params, x, targets)
    }

    fn total(heads: &Heads, x: &Tensor, targets: &Targets) -> f64 {
        let (losses, _) = heads.run(x, targets, None).unwrap();
        losses.masked + BAG_WEIGHT * losses.bag
    }

    /// Central differences along `direction` against the gradient's projection on it.
    fn check(name: &str, value: &Tensor, grad: &Tensor, loss: impl Fn() -> f64) {
        let grad = grad.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let norm = grad.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
        assert!(norm > 1e-4, "{name}: gradient is zero");
        let step = 2e-3;
        let shift = |by: f64| {
            host::mutate(value, |v| {
                for (v, g) in v.iter_mut().zip(&grad) {
                    *v += (f64::from(*g) / norm * by) as f32;
                }
            })
            .unwrap();
        };
        shift(step);
        let up = loss();
        shift(-2.0 * step);
        let down = loss();
        shift(step);
        let slope = (up - down) / (2.0 * step);
        assert!((slope / norm - 1.0).abs() < 5e-3, "{name}: slope {slope}, gradient {norm}");
    }

    #[test]
    fn gradients_are_slopes() {
        let (heads, params, x, targets) = fixture();
        let mut grads = Grads::new(&params);
        let (_, dx) = heads.run(&x, &targets, Some(&mut grads)).unwrap();
        check("x", &x, &dx.unwrap(), || total(&heads, &x, &targets));
        for (i, param) in params.iter().enumerate() {
            let grad = grads.get(ParamId(i), 0).unwrap();
            check(&param.name, &param.value, grad, || total(&heads, &x, &targets));
        }
    }
}
