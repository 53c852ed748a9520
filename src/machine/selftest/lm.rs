//! The kernels of language models.

use crate::config::{MixtureKind, RunConfig};
use crate::data::text::TextBatch;
use crate::error::Result;
use crate::machine::selftest::Input::{Base, Wide};
use crate::machine::selftest::{Bench, all_grads, attention_both_ways, host, losses, routes};
use crate::mixture::{Bank, LoraMixture, RowMap};
use crate::model::decoder::cache::Extension;
use crate::model::decoder::{Decoder, DecoderSpec};
use crate::model::{CausalLm, KvCache, LmSetup};
use crate::nn::kernels::attention::Layout;
use crate::nn::kernels::head_norm::{self, HeadNorm};
use crate::nn::kernels::layer_norm::{self, Affine};
use crate::nn::kernels::rms_norm::{self, Scale};
use crate::nn::kernels::rope::{self, Angles, Heads, Pairing, Rope};
use crate::nn::kernels::vocab_loss::{Objective, vocab_loss};
use crate::nn::kernels::vocab_scores::{TokenScores, vocab_scores};
use crate::nn::kernels::{Act, Dropout, gated, gemm, residual};
use crate::nn::{Grads, Params};
use crate::rng::{Purpose, SeedStream};
use crate::tensor::{DType, Device, Tensor};

pub(crate) fn checks(bench: &mut Bench) -> Result<()> {
    norms(bench)?;
    positions(bench)?;
    causal(bench)?;
    lora(bench)?;
    vocabulary(bench)?;
    bench.against_cpu("language model, losses of 6 steps", training)?;
    bench.against_cpu("writing, scores of 80 steps", writing)
}

fn norms(bench: &mut Bench) -> Result<()> {
    let (n, d, drop) = (37, 130, Dropout::new(5, 0.2));
    // The residual stream (the fifth) stays in f32.
    let inputs = [Base(&[n, d]), Base(&[n, d]), Wide(&[d]), Base(&[n, d]), Wide(&[n, d]), Wide(&[d])];
    bench.check("RMS norm", &inputs, |x| {
        let (y, saved) = rms_norm::forward(&x[0], Some(&x[1]), drop, Scale { gamma: &x[2], eps: 1e-5 })?;
        let again = rms_norm::output(&saved, &x[2])?;
        let alone = rms_norm::backward(&x[3], None, &saved, &x[2])?;
        let dsum = rms_norm::backward(&x[3], Some(x[4].copy()?), &saved, &x[2])?;
        Ok(vec![y, saved.sum, again, alone, dsum])
    })?;
    bench.check("residual add, layer norm again", &inputs, |x| {
        let sum = residual::add(&x[0], Some(&x[1]), drop)?;
        let affine = Affine { gamma: &x[2], beta: &x[5], eps: 1e-5 };
        let (_, saved) = layer_norm::forward(&x[0], None, Dropout::none(), affine)?;
        let same = (Dropout::none(), x[3].dtype());
        let (dsum, _) = layer_norm::backward_both(&x[3], Some(x[4].copy()?), &saved, &x[2], same)?;
        Ok(vec![sum, dsum, layer_norm::output(&saved, affine)?])
    })?;
    let (heads, kv_heads, hd) = (3, 1, 40);
    let columns = (heads + 2 * kv_heads) * hd;
    let inputs = [Base(&[n, columns]), Wide(&[hd]), Wide(&[hd]), Base(&[n, columns])];
    bench.check("norm of queries and keys", &inputs, |x| {
        let norm = HeadNorm { gamma: [&x[1], &x[2]], heads: [heads, kv_heads], eps: 1e-6 };
        Ok(vec![head_norm::forward(&x[0], norm)?, head_norm::backward(&x[0], norm, x[3].copy()?)?])
    })
}

fn positions(bench: &mut Bench) -> Result<()> {
    let (n, f) = (33, 96);
    for (kernel, act) in [("SwiGLU", Act::Swish), ("gated gelu (tanh)", Act::GeluTanh)] {
        bench.check(kernel, &[Base(&[n, 2 * f]), Base(&[n, f])], |x| {
            Ok(vec![gated::forward(act, &x[0])?, gated::backward(act, x[0].copy()?, &x[1])?])
        })?;
    }
    let (heads, hd) = (5, 16);
    let frequencies: Vec<f32> = (0..hd / 2).map(|i| 10_000f32.powf(-2.0 * i as f32 / hd as f32)).collect();
    let (angles, of) = (Angles::new(&frequencies, n, 1.0), (0..n as u32).rev().collect::<Vec<_>>());
    let inputs = [Base(&[n, heads * hd + 24])];
    for (kernel, pairing) in
        [("rotary positions", Pairing::Halves), ("rotary positions, interleaved", Pairing::Interleaved)]
    {
        let heads = Heads { heads, head_dim: hd, pairing };
        bench.check(kernel, &inputs, |x| {
            let rotated = rope::rotate(x[0].copy()?, heads, &angles, &of, Rope::Forward)?;
            Ok(vec![rotated, rope::rotate(x[0].copy()?, heads, &angles, &of, Rope::Backward)?])
        })?;
    }
    Ok(())
}

fn causal(bench: &mut Bench) -> Result<()> {
    for (kernel, heads, kv_heads, head_dim) in
        [("causal attention, 9 heads on 3", 9, 3, 64), ("causal attention, heads of 128", 2, 2, 128)]
    {
        let spans = vec![0..1, 1..130, 130..147, 147..211];
        let (n, columns) = (211, (heads + 2 * kv_heads) * head_dim);
        let both = Layout::bidirectional(spans, heads, head_dim, Dropout::none());
        let layout = Layout { kv_heads, causal: true, ..both };
        let inputs = [Base(&[n, columns]), Base(&[n, heads * head_dim])];
        bench.check(kernel, &inputs, |x| attention_both_ways(x, &layout))?;
    }
    Ok(())
}

fn lora(bench: &mut Bench) -> Result<()> {
    let (experts, d, r, all) = (3, 96, 4, 160);
    // One draw for two blocks of the layer's outputs.
    let columns = vec![0..64, 120..160];
    let width: usize = columns.iter().map(ExactSizeIterator::len).sum();
    let rows = RowMap::tokens(&[0, 5, 45, 300], 2);
    let n = rows.rows();
    let (down, up) = ([experts, 2 * r, d], [experts, width, r]);
    let inputs = [Base(&[n, d]), Base(&[n, all]), Wide(&down), Wide(&up), Base(&[n, all]), Base(&[n, d])];
    let kernels = [("LoRA, one expert a pass", Dropout::new(8, 0.1)), ("LoRA, one expert a token", Dropout::none())];
    for ((kernel, drop), route) in kernels.into_iter().zip(routes()) {
        bench.check(kernel, &inputs, |x| {
            let bank = |weight: &Tensor| Bank::new(weight.clone(), None);
            let mut mixture = LoraMixture::new(bank(&x[2])?, bank(&x[3])?, columns.clone(), 2.0, 0.1)?;
            let mut params = Params::default();
            mixture.train("lora", &mut params)?;
            let (y, saved) = mixture.forward(&x[0], x[1].copy()?, (&route, 0), &rows, drop)?;
            let mut grads = Grads::new(&params);
            let dx = mixture.backward(&saved, &x[0], &x[4], Some(x[5].copy()?), &mut grads)?;
            Ok(std::iter::once(y).chain(dx).chain(all_grads(&params, &grads)).collect())
        })?;
    }
    Ok(())
}

fn vocabulary(bench: &mut Bench) -> Result<()> {
    let (n, d, vocab) = (21, 48, 700);
    let targets: Vec<u32> = (0..n as u32).map(|i| i * 31 % vocab as u32).collect();
    let inputs = [Base(&[2 * n, d]), Base(&[vocab, d])];
    for (kernel, detach, both) in
        [("loss over a vocabulary", true, false), ("loss over a vocabulary, not detached", false, true)]
    {
        let (smoothing, weight, max_logits) = (0.1, 3.0, 2 * vocab * 8);
        let objective =
            Objective { passes: 2, smoothing, weight, detach, both, gradient: true, max_logits, overflows: 0 };
        bench.check(kernel, &inputs, |x| {
            let loss = vocab_loss(&x[0], &x[1], &targets, objective)?;
            let parts = loss.rows.read()?;
            let nll = Tensor::new(parts.nll.as_slice(), &Device::Cpu)?;
            let parts = Tensor::new(&[parts.total, parts.task, parts.consistency], &Device::Cpu)?;
            let grad = loss.grad.map(|grad| grad.to_dtype(DType::F32)? / loss.scale).transpose()?;
            Ok([Some(parts), Some(nll), grad].into_iter().flatten().collect())
        })?;
    }
    bench.check("scores over a vocabulary", &inputs, |x| {
        let hidden = [x[0].narrow(0, 0, n)?, x[0].narrow(0, n, n)?];
        // In double precision there is no kernel that takes the logits: f32 says the same.
        let logits = |hidden: &Tensor| gemm::logits(hidden, &x[1]);
        let (each, mean) = vocab_scores(&hidden, &targets, vocab, 8 * vocab, &logits)?;
        let nll: Vec<f64> = each.iter().chain([&mean]).map(|targets| TokenScores::sum(targets).nll).collect();
        Ok(vec![Tensor::new(nll, &Device::Cpu)?])
    })
}

fn model(device: &Device, dtype: DType) -> Result<(RunConfig, CausalLm)> {
    let json = serde_json::json!({
        "model_type": "qwen3", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 16,
        "num_key_value_heads": 2, "intermediate_size": 96, "vocab_size": 120, "max_position_embeddings": 128,
        "rms_norm_eps": 1e-6, "tie_word_embeddings": true,
    });
    let mut config = RunConfig::default();
    config.train.learning_rate = 5e-3;
    config.mixture.kind = MixtureKind::Lora;
    let seed = SeedStream::new(1);
    let decoder = Decoder::random(DecoderSpec::from_json(&json.to_string())?, seed, device)?.stored_as(dtype)?;
    let model = CausalLm::new(decoder, LmSetup { mixture: Some(&config.mixture), seed })?;
    Ok((config, model))
}

fn training(device: &Device, dtype: DType) -> Result<Vec<f64>> {
    let (config, model) = model(device, dtype)?;
    let mut stream = SeedStream::new(1).stream(Purpose::Sampling, 0);
    losses(&config, &model, || {
        let ids = (0..63).map(|_| stream.below(120) as u32).collect();
        TextBatch { ids, offsets: vec![0, 3, 23, 63], learn: vec![true; 63], rows: vec![0, 1, 2] }
    })
}

/// Scores of what may follow, token by token with cached keys and values.
fn writing(device: &Device, dtype: DType) -> Result<Vec<f64>> {
    let (_, model) = model(device, dtype)?;
    let (model, mut cache) = (model.bare(), KvCache::new(&model.base));
    let (first, mut all) = (cache.start(), Vec::new());
    let ids: Vec<u32> = (0..90).map(|i| i * 37 % 120).collect();
    // A text, a second one that goes on from it, and both token by token: the pool grows on the way.
    let mut read = |cache: &mut KvCache, new: &[Extension<'_>]| -> Result<()> {
        all.extend(host(&model.extend(cache, new, None)?)?);
        Ok(())
    };
    read(&mut cache, &[Extension { sequence: first, ids: &ids[..9] }])?;
    let second = cache.fork(first)?;
    read(&mut cache, &[Extension { sequence: second, ids: &ids[9..12] }])?;
    for at in 12..90 {
        let one = Extension { sequence: first, ids: &ids[at..=at] };
        let other = Extension { sequence: second, ids: &ids[89 - at..90 - at] };
        read(&mut cache, &[one, other])?;
    }
    Ok(all)
}
