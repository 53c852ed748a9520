//! Does this device compute right? Every kernel on the device against plain operations in double precision on the CPU,
//! from the same inputs, and a short training against the same training on the CPU.

mod lm;

use self::Input::{Base, Wide};
use crate::config::{MixtureConfig, RunConfig};
use crate::data::{Batch, Labels};
use crate::error::Result;
use crate::machine::device;
use crate::mixture::{AdapterMixture, Bank, Pick, Route, RowMap};
use crate::model::{Classifier, Encoder, EncoderSpec, Setup};
use crate::nn::kernels::adamw::{self, Item, Update};
use crate::nn::kernels::attention::{self, Layout, Qkv};
use crate::nn::kernels::device::{PendingNorm, scale_all, wide};
use crate::nn::kernels::layer_norm::{self, Affine};
use crate::nn::kernels::{Act, Dropout, activation, gemm};
use crate::nn::{Grads, ParamId, Params};
use crate::rng::{Purpose, SeedStream};
use crate::tensor::{DType, Device, Tensor, to_f32};
use crate::train::Trainable;
use crate::train::loss::{ClassifierObjective, LossValues, classifier_loss};
use crate::train::optimizer::AdamW;
use crate::train::step::{StepIndex, step};
use serde::Serialize;

/// One comparison.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// What was computed.
    pub kernel: &'static str,
    /// Number format of the base model's tensors.
    pub format: &'static str,
    /// Largest difference, as a share of the largest value wanted.
    pub difference: f64,
    /// What rounding explains.
    pub allowed: f64,
    /// Whether it is explained.
    pub passed: bool,
}

/// What came out.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The device in words.
    pub device: String,
    /// Why it is not the device that was asked for.
    pub warning: Option<String>,
    /// All comparisons.
    pub checks: Vec<Check>,
    /// How many differ by more than rounding.
    pub failed: usize,
}

/// The formats, and what rounding explains in each.
const FORMATS: [(DType, f64); 3] = [(DType::F32, 2e-5), (DType::BF16, 3e-2), (DType::F16, 4e-3)];
/// The same for a few steps of training.
const TRAINING: [(DType, f64); 3] = [(DType::F32, 1e-3), (DType::BF16, 5e-2), (DType::F16, 2e-2)];

/// Checks the device these settings choose.
pub fn selftest(config: &RunConfig) -> Result<Report> {
    let chosen = device::choose(&config.model);
    let mut bench = Bench { device: chosen.device.clone(), checks: Vec::new() };
    bench.elementwise()?;
    bench.products()?;
    bench.attention()?;
    bench.mixtures()?;
    bench.updates()?;
    bench.against_cpu("training, losses of 6 steps", classifier_losses)?;
    lm::checks(&mut bench)?;
    let failed = bench.checks.iter().filter(|check| !check.passed).count();
    Ok(Report { device: device::name(&chosen.device), warning: chosen.warning, checks: bench.checks, failed })
}

struct Bench {
    device: Device,
    checks: Vec<Check>,
}

/// An input of random values with this shape: in the base model's format, or never narrower than f32.
#[derive(Clone, Copy)]
enum Input<'a> {
    Base(&'a [usize]),
    Wide(&'a [usize]),
}

impl Bench {
    /// Runs `work` on the device in every format and in double precision on the CPU; it gets the inputs in order.
    fn check(
        &mut self,
        kernel: &'static str,
        inputs: &[Input<'_>],
        work: impl Fn(&[Tensor]) -> Result<Vec<Tensor>>,
    ) -> Result<()> {
        let stream = |at: usize| SeedStream::new(11).stream(Purpose::Sampling, at as u64);
        for (dtype, allowed) in self.formats(FORMATS) {
            let (mut here, mut reference) = (Vec::new(), Vec::new());
            for (at, input) in inputs.iter().enumerate() {
                let (shape, dtype) = match *input {
                    Base(shape) => (shape, dtype),
                    Wide(shape) => (shape, wide(dtype)),
                };
                let values = stream(at).normal_vec(shape.iter().product(), 1.0);
                let rounded = Tensor::from_vec(values, shape, &Device::Cpu)?.to_dtype(dtype)?;
                reference.push(rounded.to_dtype(DType::F64)?);
                here.push(rounded.to_device(&self.device)?);
            }
            let (got, want) = (work(&here)?, work(&reference)?);
            // Not a number is more than any number.
            let mut difference = if got.len() == want.len() { 0.0 } else { f64::INFINITY };
            for (got, want) in got.iter().zip(&want) {
                let other = largest_difference(&host(got)?, &host(want)?);
                difference = std::cmp::max_by(difference, other, f64::total_cmp);
            }
            self.push(kernel, dtype, difference, allowed);
        }
        Ok(())
    }

    /// Those the device computes in.
    fn formats(&self, all: [(DType, f64); 3]) -> Vec<(DType, f64)> {
        let takes = |dtype: DType| match &self.device {
            Device::Gpu(gpu) => dtype == DType::F32 || dtype == DType::F16 && gpu.backend().facts().f16,
            _ => true,
        };
        all.into_iter().filter(|(dtype, _)| takes(*dtype)).collect()
    }

    fn push(&mut self, kernel: &'static str, dtype: DType, difference: f64, allowed: f64) {
        // Not a number is no pass.
        let passed = difference <= allowed;
        self.checks.push(Check { kernel, format: dtype.as_str(), difference, allowed, passed });
    }

    fn elementwise(&mut self) -> Result<()> {
        let (n, d) = (37, 130);
        let inputs = [Base(&[n, d]), Base(&[n, d])];
        for (kernel, act) in [
            ("gelu", Act::Gelu),
            ("gelu (tanh)", Act::GeluTanh),
            ("relu", Act::Relu),
            ("swish", Act::Swish),
            ("tanh", Act::Tanh),
        ] {
            self.check(kernel, &inputs, |x| {
                Ok(vec![activation::forward(act, &x[0])?, activation::backward(act, &x[0], x[1].copy()?)?])
            })?;
        }
        let drop = Dropout::new(5, 0.2);
        self.check("dropout", &inputs[..1], |x| Ok(vec![drop.apply(&x[0])?]))?;
        let inputs = [Base(&[n, d]), Base(&[n, d]), Wide(&[d]), Wide(&[d]), Base(&[n, d])];
        self.check("layer norm", &inputs, |x| {
            let affine = Affine { gamma: &x[2], beta: &x[3], eps: 1e-5 };
            let (y, saved) = layer_norm::forward(&x[0], Some(&x[1]), drop, affine)?;
            let grads = layer_norm::backward(&x[4], &saved, &x[2], drop)?;
            let (dgamma, dbeta) = layer_norm::affine_grads(&x[4], &saved)?;
            Ok(vec![y, grads.sum, grads.x, dgamma, dbeta])
        })?;
        self.losses()
    }

    /// A classifier's loss and a regressor's as a training step has them queued, both passes and both terms.
    fn losses(&mut self) -> Result<()> {
        let (n, classes) = (19, 3);
        let mixture = MixtureConfig { consistency_weight: 2.5, consistency_detach: false, ..MixtureConfig::default() };
        let labels = [
            ("loss of classes", Labels::Classes((0..n).map(|i| i * 7 % classes).collect()), classes),
            ("loss of values", Labels::Values((0..n).map(|i| i as f32 / 5.0 - 2.0).collect()), 1),
        ];
        for (kernel, labels, outputs) in labels {
            self.check(kernel, &[Wide(&[2 * n as usize, outputs as usize])], |x| {
                let how = ClassifierObjective { passes: 2, mixture: &mixture, weights: None, overflows: 0 };
                let loss = classifier_loss(&x[0], &labels, DType::F32, how)?;
                let LossValues { total, task, consistency } = loss.value.read()?;
                let values = Tensor::new(&[total, task, consistency], &Device::Cpu)?;
                Ok(vec![values, (loss.gradient.outputs / loss.scale)?])
            })?;
        }
        Ok(())
    }

    fn products(&mut self) -> Result<()> {
        let (n, d_in, d_out) = (70, 96, 200);
        let inputs = [Base(&[n, d_in]), Base(&[d_out, d_in]), Wide(&[d_out]), Base(&[n, d_out]), Base(&[n, d_in])];
        self.check("linear", &inputs, |x| {
            let y = gemm::linear(&x[0], &x[1], Some(&x[2]))?;
            Ok(vec![
                y,
                gemm::linear_backward(&x[3], &x[1])?,
                gemm::linear_backward_add(&x[3], &x[1], x[4].copy()?)?,
                gemm::weight_grad(&x[3], &x[0])?,
                gemm::bias_grad(&x[3])?,
            ])
        })?;
        self.check("linear with gelu", &inputs, |x| {
            let (z, y) = gemm::linear_act(&x[0], &x[1], Some(&x[2]), Act::Gelu)?;
            Ok(vec![z, y, gemm::linear_backward_act(&x[3], &x[1], Act::Gelu, &x[0])?])
        })
    }

    fn attention(&mut self) -> Result<()> {
        for (kernel, heads, head_dim, drop) in [
            ("attention, heads of 64", 2, 64, Dropout::none()),
            ("attention, heads of 32 with dropout", 3, 32, Dropout::new(3, 0.1)),
            ("attention, heads of 20", 2, 20, Dropout::none()),
        ] {
            let spans = vec![0..1, 1..130, 130..147, 147..211];
            let (n, width) = (211, heads * head_dim);
            let layout = Layout::bidirectional(spans, heads, head_dim, drop);
            self.check(kernel, &[Base(&[n, 3 * width]), Base(&[n, width])], |x| attention_both_ways(x, &layout))?;
        }
        let (heads, head_dim) = (2, 32);
        let width = heads * head_dim;
        let keys = vec![0..7, 7..80, 80..81];
        let layout =
            Layout { queries: vec![0..1, 1..2, 2..3], ..Layout::bidirectional(keys, heads, head_dim, Dropout::none()) };
        let inputs = [Base(&[3, width]), Base(&[81, 2 * width]), Base(&[3, width])];
        self.check("attention of first tokens", &inputs, |x| {
            let qkv = Qkv::Split(x[0].clone(), x[1].clone());
            let out = attention::forward(&qkv, &layout)?;
            Ok(match attention::backward(&qkv, &layout, &x[2])? {
                Qkv::Joint(grad) => vec![out, grad],
                Qkv::Split(dq, dkv) => vec![out, dq, dkv],
            })
        })
    }

    fn mixtures(&mut self) -> Result<()> {
        let (experts, d, r) = (3, 96, 16);
        let rows = RowMap::tokens(&[0, 5, 45, 300], 2);
        let n = rows.rows();
        let (w, b) = ([&[experts, r, d], &[experts, d, r]], [&[experts, r], &[experts, d]]);
        let inputs = [Base(&[n, d]), Base(&[n, d]), Wide(w[0]), Wide(b[0]), Wide(w[1]), Wide(b[1])];
        for (kernel, route) in ["mixture, one expert a pass", "mixture, one expert a token"].into_iter().zip(routes()) {
            self.check(kernel, &inputs, |x| {
                let (mut params, banks) = (Params::default(), [(2, 3), (4, 5)]);
                let [down, up] = banks.map(|(w, b)| Bank::new(x[w].clone(), Some(x[b].clone())));
                let mut mixture = AdapterMixture::new(down?, up?, Act::Gelu);
                mixture.train("mixture", &mut params)?;
                let (out, saved) = mixture.forward(&x[0], &route, 0, &rows)?;
                let mut grads = Grads::new(&params);
                let dh = mixture.backward(&saved, &x[1], true, &mut grads)?;
                Ok(std::iter::once(out).chain(dh).chain(all_grads(&params, &grads)).collect())
            })?;
        }
        Ok(())
    }

    fn updates(&mut self) -> Result<()> {
        let inputs = [Wide(&[5]), Wide(&[40_000]), Wide(&[1])].repeat(4);
        self.check("AdamW, gradient norm", &inputs, |x| {
            let copies = x.iter().map(Tensor::copy).collect::<Result<Vec<_>>>()?;
            let (p, m, v, g) = (&copies[..3], &copies[3..6], &copies[6..9], &copies[9..]);
            let v = v.iter().map(|v| v * v).collect::<Result<Vec<_>>>()?;
            let norm = PendingNorm::of(&g.iter().collect::<Vec<_>>())?;
            let norm = norm.value(norm.tensor().map(to_f32).transpose()?);
            let mut scaled = g.iter().map(Tensor::copy).collect::<Result<Vec<_>>>()?;
            scale_all(&mut scaled.iter_mut().collect::<Vec<_>>(), 0.5)?;
            let update = Update { lr: 1e-2, betas: (0.9, 0.999), eps: 1e-8, weight_decay: 0.1, t: 3 };
            let item = |i: usize| Item { p: &p[i], m: &m[i], v: &v[i], g: Some(&scaled[i]), update };
            adamw::update_all(&[item(0), item(1), item(2)])?;
            let mut out = vec![Tensor::new(&[norm], &Device::Cpu)?];
            out.extend(p.iter().chain(m).cloned().chain(v));
            Ok(out)
        })
    }

    /// `work` on the device in every format against the same on the CPU in single precision.
    fn against_cpu(&mut self, name: &'static str, work: impl Fn(&Device, DType) -> Result<Vec<f64>>) -> Result<()> {
        let wanted = work(&Device::Cpu, DType::F32)?;
        for (dtype, allowed) in self.formats(TRAINING) {
            let difference = largest_difference(&work(&self.device, dtype)?, &wanted);
            self.push(name, dtype, difference, allowed);
        }
        Ok(())
    }
}

/// Attention and its gradient. x: q, k and v; the gradient of the output
fn attention_both_ways(x: &[Tensor], layout: &Layout) -> Result<Vec<Tensor>> {
    let qkv = Qkv::Joint(x[0].clone());
    let (Qkv::Joint(grad) | Qkv::Split(grad, _)) = attention::backward(&qkv, layout, &x[1])?;
    Ok(vec![attention::forward(&qkv, layout)?, grad])
}

/// One expert a pass, and one a token, of three experts on 300 tokens.
fn routes() -> [Route; 2] {
    let one = |down, up| [Pick::One(down), Pick::One(up)];
    let each = |shift: u8| Pick::PerToken((0..300).map(|t| ((t * 7) as u8).wrapping_add(shift) % 3).collect());
    let picks = [[one(0, 2), one(1, 2)].concat(), vec![each(0), each(1), each(2), each(0)]];
    picks.map(|picks| Route { passes: 2, sites: 1, picks })
}

/// The gradients of everything that has one.
fn all_grads(params: &Params, grads: &Grads) -> Vec<Tensor> {
    let ids = params.iter().enumerate().flat_map(|(id, p)| (0..p.experts).map(move |expert| (ParamId(id), expert)));
    ids.filter_map(|(id, expert)| grads.get(id, expert).cloned()).collect()
}

/// Losses of six training steps.
fn losses<M: Trainable>(config: &RunConfig, model: &M, mut batch: impl FnMut() -> M::Batch) -> Result<Vec<f64>> {
    let mut optimizer = AdamW::new(model.params())?;
    let one = |index| -> Result<f64> {
        let at = StepIndex::new(index, 6);
        Ok(step(config, model, &mut optimizer, at, |_| Ok(batch()))?.loss.total)
    };
    (0..6).map(one).collect()
}

fn classifier_losses(device: &Device, dtype: DType) -> Result<Vec<f64>> {
    let json = serde_json::json!({
        "model_type": "roberta", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 128, "vocab_size": 100, "max_position_embeddings": 66, "layer_norm_eps": 1e-5,
    });
    let mut config = RunConfig::default();
    config.train.learning_rate = 1e-3;
    let seed = SeedStream::new(1);
    let encoder = Encoder::random(EncoderSpec::from_json(&json.to_string())?, seed, device)?.cast(dtype)?;
    let setup = Setup { method: config.model.method, mixture: &config.mixture, outputs: 2, seed };
    let model = Classifier::new(encoder, None, &setup, dtype)?;
    let mut stream = seed.stream(Purpose::Sampling, 0);
    losses(&config, &model, || Batch {
        ids: (0..64).map(|_| stream.below(100) as u32).collect(),
        type_ids: vec![0; 64],
        offsets: vec![0, 3, 23, 24, 64],
        labels: Labels::Classes(vec![0, 1, 1, 0]),
        rows: (0..4).collect(),
    })
}

fn host(x: &Tensor) -> Result<Vec<f64>> {
    x.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1()
}

/// Largest difference as a share of the largest value wanted; not a number where one of them is none.
fn largest_difference(got: &[f64], want: &[f64]) -> f64 {
    if got.len() != want.len() {
        return f64::INFINITY;
    }
    let scale = want.iter().fold(0.1f64, |m, w| m.max(w.abs()));
    let worse = |m: f64, (g, w): (&f64, &f64)| {
        let off = (g - w).abs() / scale;
        if off.is_nan() || off > m { off } else { m }
    };
    got.iter().zip(want).fold(0.0, |m, pair| if m.is_nan() { m } else { worse(m, pair) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DeviceChoice;

    #[test]
    fn the_cpu_computes_right_in_every_format() {
        let mut config = RunConfig::default();
        config.model.device = DeviceChoice::Cpu;
        let report = selftest(&config).unwrap();
        assert_eq!(report.failed, 0, "{:#?}", report.checks.iter().filter(|c| !c.passed).collect::<Vec<_>>());
        assert!(report.checks.len() > 40 && report.device == "CPU");
        // Every format really is another one, and f32 is nearer than the narrow ones.
        let of = |format: &str| {
            let all = report.checks.iter().filter(|c| c.format == format && c.kernel == "linear");
            all.map(|c| c.difference).fold(0.0, f64::max)
        };
        assert!(of("f32") < of("f16") && of("f16") < of("bf16"));
    }

    #[test]
    fn differences_are_shares_of_the_largest_value_and_nan_is_none() {
        assert_eq!(largest_difference(&[1.0, 4.5], &[1.0, 5.0]), 0.1);
        assert!(largest_difference(&[f64::NAN, 1.0], &[0.0, 1.0]).is_nan());
        assert_eq!(largest_difference(&[1.0], &[1.0, 2.0]), f64::INFINITY);
    }

    #[test]
    fn a_kernel_that_gives_nan_or_too_little_does_not_pass() {
        let mut bench = Bench { device: Device::Cpu, checks: Vec::new() };
        let inputs = [Base(&[5])];
        let right = |x: &[Tensor]| Ok(vec![x[0].copy()?, (&x[0] * 1.0)?]);
        let nan = |x: &[Tensor]| {
            let factor = if x[0].dtype() == DType::F64 { 1.0 } else { f64::NAN };
            Ok(vec![x[0].copy()?, (&x[0] * factor)?, x[0].copy()?])
        };
        let less = |x: &[Tensor]| Ok(vec![x[0].copy()?; if x[0].dtype() == DType::F64 { 2 } else { 1 }]);
        bench.check("right", &inputs, right).unwrap();
        bench.check("not a number", &inputs, nan).unwrap();
        bench.check("less", &inputs, less).unwrap();
        let passed: Vec<bool> = bench.checks.iter().map(|check| check.passed).collect();
        assert_eq!(passed, [true, true, true, false, false, false, false, false, false]);
    }
}
