//! What pre-training predicts, with hand-written gradients.
//!
//! BERT's masked-language head: dense, GELU, layer normalisation, the word table as decoder, a bias. It runs at the
//! masked positions only. No label, and nothing about whole sequences, is predicted: what the first token says to a
//! classifier is left to fine-tuning. The pooler is shipped as it starts, close to the identity.

use adamix::config::MixtureConfig;
use adamix::data::Labels;
use adamix::error::Result;
use adamix::nn::kernels::activation::{self, Act};
use adamix::nn::kernels::{HostRef, gemm, host};
use adamix::nn::{Dropout, Grads, LayerNorm, Linear, ParamId, Params};
use adamix::rng::{Purpose, SeedStream};
use adamix::tensor::{DType, Device, Tensor};
use adamix::train::loss::host_loss;

/// The layers above the encoder that only pre-training uses, and the pooler.
pub struct Heads {
    dense: Linear,
    norm: LayerNorm,
    /// The pooler: shipped with the encoder, never trained. `[d, d]`
    pub pooler: Linear,
    bias: (Tensor, ParamId),
    word: (Tensor, ParamId),
}

/// What one batch has to predict: masked positions in the packed batch, and what stood there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Targets(pub Vec<(u32, u32)>);

impl Heads {
    /// New layers on an encoder's word table, all trained but the pooler. word `[vocabulary, d]`
    pub fn new(word: &Tensor, word_id: ParamId, eps: f64, seed: SeedStream, params: &mut Params) -> Result<Self> {
        let (vocabulary, d) = word.dims2()?;
        let mut stream = seed.stream(Purpose::Init, 1 << 33);
        let mut linear = || -> Result<Linear> {
            let weight = Tensor::from_vec(stream.normal_vec(d * d, 0.02), (d, d), &Device::Cpu)?;
            Ok(Linear::new(weight, Some(Tensor::zeros(d, DType::F32, &Device::Cpu)?)))
        };
        let (mut dense, pooler) = (linear()?, linear()?);
        let ones = Tensor::ones(d, DType::F32, &Device::Cpu)?;
        let mut norm = LayerNorm::new(ones, Tensor::zeros(d, DType::F32, &Device::Cpu)?, eps);
        dense.train("cls.predictions.transform.dense", params);
        norm.train("cls.predictions.transform.LayerNorm", params);
        let bias = Tensor::zeros(vocabulary, DType::F32, &Device::Cpu)?;
        let id = params.add("cls.predictions.bias", &bias);
        Ok(Self { dense, norm, pooler, bias: (bias, id), word: (word.clone(), word_id) })
    }

    /// Starting values: the bias at the logarithm of the words' frequencies, both dense layers near the identity.
    pub fn start_at(&self, frequencies: &[f64]) -> Result<()> {
        let total = frequencies.iter().sum::<f64>().max(1.0);
        host::change_shared(&self.bias.0, |bias: &mut [f32]| {
            for (b, f) in bias.iter_mut().zip(frequencies) {
                *b = (((f + 0.1) / total).ln() + 9.0) as f32;
            }
        })?;
        for layer in [&self.dense, &self.pooler] {
            let (_, d) = layer.weight().dims2()?;
            host::change_shared(layer.weight().tensor()?, |w: &mut [f32]| (0..d).for_each(|i| w[i * d + i] += 1.0))?;
        }
        Ok(())
    }

    /// The mean loss in nats, and with `grads` also the gradients; the gradient of x is returned. x `[tokens, d]` -> `[tokens, d]`
    pub fn run(&self, x: &Tensor, targets: &Targets, grads: Option<&mut Grads>) -> Result<(f64, Option<Tensor>)> {
        let (positions, words): (Vec<u32>, Vec<u32>) = targets.0.iter().copied().unzip();
        let n = positions.len();
        let positions = Tensor::from_vec(positions, n, &Device::Cpu)?;
        let picked = x.index_select(&positions, 0)?;
        let z = self.dense.forward(&picked)?;
        let (h, saved) = self.norm.forward(&activation::forward(Act::Gelu, &z)?, None, Dropout::none())?;
        let logits = gemm::linear(&h, &self.word.0, Some(&self.bias.0))?;
        let (values, labels) = (logits.flatten_all()?.to_vec1::<f32>()?, Labels::Classes(words));
        let loss = host_loss(&values, &labels, logits.dim(1)?, 1, &MixtureConfig::default())?;
        let Some(grads) = grads else { return Ok((loss.values.total, None)) };
        let dlogits = Tensor::from_vec(loss.gradient, logits.shape(), &Device::Cpu)?;

        grads.add(self.bias.1, 0, gemm::bias_grad(&dlogits)?)?;
        grads.add(self.word.1, 0, gemm::weight_grad(&dlogits, &h)?)?;
        let dh = gemm::linear_backward(&dlogits, &self.word.0)?;
        let dact = self.norm.backward(&saved, &dh, grads)?.0;
        let dz = activation::backward(Act::Gelu, &z, dact)?;
        self.dense.add_grads(&picked, &dz, grads)?;
        let dpicked = self.dense.backward(&dz)?;
        Ok((loss.values.total, Some(x.zeros_like()?.index_add(&positions, &dpicked, 0)?)))
    }
}

/// `sum += other * factor` in place.
pub fn add_to(sum: &Tensor, other: &Tensor, factor: f32) -> Result<()> {
    let other = HostRef::of(other)?;
    host::change_shared(sum, |sum: &mut [f32]| sum.iter_mut().zip(other.iter()).for_each(|(s, &o)| *s += o * factor))
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
            host::change_shared(&param.value, |p: &mut [f32]| p.copy_from_slice(&values)).unwrap();
        }
        let targets = Targets(vec![(1, 4), (3, 17), (8, 0)]);
        (heads, params, x, targets)
    }

    fn total(heads: &Heads, x: &Tensor, targets: &Targets) -> f64 {
        heads.run(x, targets, None).unwrap().0
    }

    /// Central differences along `direction` against the gradient's projection on it.
    fn check(name: &str, value: &Tensor, grad: &Tensor, loss: impl Fn() -> f64) {
        let grad = grad.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let norm = grad.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
        assert!(norm > 1e-4, "{name}: gradient is zero");
        let step = 2e-3;
        let shift = |by: f64| {
            host::change_shared(value, |v: &mut [f32]| {
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
