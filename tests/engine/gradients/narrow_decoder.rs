//! Decoders whose products flow in bf16 around a residual stream in f32: the kernels against plain ones in f64, whole
//! models against their twins in f32.

use super::{close, norm, random, values, wide};
use crate::golden::golden_dir;
use crate::support::{assert_recompute_changes_no_bit, fill};
use adamix::config::{MixtureConfig, MixtureKind, RoutingPolicy, RunConfig};
use adamix::data::text::TextBatch;
use adamix::mixture::{Route, RouteShape};
use adamix::model::decoder::Decoder;
use adamix::model::decoder::cache::Extension;
use adamix::model::{
    BaseModel as _, CausalLm, DecoderSpec, DropKeys, ForwardOptions, KvCache, LmSetup, Network as _, Packed, Weights,
};
use adamix::nn::kernels::activation::Act;
use adamix::nn::kernels::gemm;
use adamix::nn::kernels::head_norm::{self, HeadNorm};
use adamix::nn::kernels::layer_norm::{self, Affine};
use adamix::nn::kernels::rms_norm::{self, Scale};
use adamix::nn::kernels::rope::{self, Angles, Heads, Pairing, Rope};
use adamix::nn::kernels::vocab_loss::Objective;
use adamix::nn::kernels::{Dropout, gated, residual};
use adamix::nn::{Grads, LayerNorm, PreNorm};
use adamix::rng::{Purpose, SeedStream};
use adamix::tensor::{DType, Device, NumberFormat, Tensor};

/// Half a unit in the last place of bf16, and a little for the sums.
const ROUNDED: f64 = 4.2e-3;
const FAMILIES: [&str; 5] = ["gpt2-tiny", "llama-tiny", "mistral-tiny", "qwen2-tiny", "qwen3-tiny"];
/// The formats that may flow, and the share of the norm of all gradients that rounding explains: at most 5.4e-2 and
/// 5.5e-3 are seen of these models, whose random weights make probabilities near 0 and 1. f16, whose values are rounded
/// eight times as finely, has no fast version: what is wrong in the layers and not rounding shows in both.
const FLOWS: [(DType, f64); 2] = [(DType::BF16, 7e-2), (DType::F16, 8e-3)];
/// A single expert sees a few rows, whose shares partly cancel.
const SINGLE: f64 = 4.0;

/// Without a fast version on this processor every operation is rounded, not only the result.
fn several() -> f64 {
    if gemm::multiplies_bf16() { ROUNDED } else { 4.0 * ROUNDED }
}

fn narrow(x: &Tensor) -> Tensor {
    x.to_dtype(DType::BF16).unwrap()
}

#[test]
fn norms_between_a_wide_stream_and_narrow_products() {
    for (n, d) in [(1, 1), (3, 67), (40, 64), (300, 130)] {
        let (delta, stream) = (narrow(&random((n, d), 1)), (random((n, d), 2) * 5.0).unwrap());
        let (g, b, dsum) = (random(d, 4), random(d, 5), random((n, d), 6));
        let (g64, b64) = (wide(&g), wide(&b));
        for (drop, flow) in [Dropout::none(), Dropout::new(9, 0.2)].into_iter().flat_map(|drop| {
            // What goes into the products, and the final hidden states.
            [(drop, DType::BF16), (drop, DType::F32), (drop, DType::F16)]
        }) {
            let what = format!("{n} x {d}, dropout {}, {flow:?}", drop.active());
            let exact = if flow == DType::F32 { 1e-5 } else { ROUNDED };
            let dy = random((n, d), 3).to_dtype(flow).unwrap();
            let rms = PreNorm::Rms { gamma: g.clone(), eps: 1e-3, trained: None };
            let rms64 = PreNorm::Rms { gamma: g64.clone(), eps: 1e-3, trained: None };
            let layer = PreNorm::Layer(LayerNorm::new(g.clone(), b.clone(), 1e-3));
            let layer64 = PreNorm::Layer(LayerNorm::new(g64.clone(), b64.clone(), 1e-3));
            for (norm, plain) in [(&rms, &rms64), (&layer, &layer64)] {
                let (y, sum, saved) = norm.forward(&delta, Some(&stream), drop, flow).unwrap();
                assert_eq!((y.dtype(), sum.dtype()), (flow, DType::F32));
                let (y64, sum64, saved64) =
                    plain.forward(&wide(&delta), Some(&wide(&stream)), drop, DType::F64).unwrap();
                close(&format!("{what} y"), &y, &y64, exact);
                close(&format!("{what} sum"), &sum, &sum64, 1e-6);
                close(&format!("{what} y again"), &norm.output(&saved).unwrap(), &y64, 2.0 * exact);
                let (back, through) = norm.backward(&saved, &dy, Some(dsum.copy().unwrap())).unwrap();
                let (back64, _) = plain.backward(&saved64, &wide(&dy), Some(wide(&dsum))).unwrap();
                assert_eq!(back.dtype(), DType::F32);
                close(&format!("{what} dsum"), &back, &back64, 3.0 * exact);
                assert_eq!(through.dtype(), DType::BF16, "the gradient of what was added has its format");
                close(&format!("{what} ddelta"), &through, &drop.apply(&wide(&back)).unwrap(), ROUNDED);
                let (alone, _) = norm.backward(&saved, &dy, None).unwrap();
                close(&format!("{what} alone"), &(alone + &dsum).unwrap(), &back64, 3.0 * exact);
            }
            // Below the first layer there is only the stream.
            let (y, sum, saved) = rms.forward(&stream, None, Dropout::none(), flow).unwrap();
            let (y64, ..) = rms64.forward(&wide(&stream), None, Dropout::none(), DType::F64).unwrap();
            close(&format!("{what} first"), &y, &y64, exact);
            assert_eq!(values(&sum), values(&stream));
            let dy = random((n, d), 4).to_dtype(flow).unwrap();
            assert_eq!(rms.backward(&saved, &dy, Some(dsum.copy().unwrap())).unwrap().1.dtype(), DType::F32);
        }
        let x = narrow(&random((n, d), 7));
        let (y, saved) = rms_norm::forward(&x, None, Dropout::none(), Scale { gamma: &g, eps: 1e-3 }).unwrap();
        let (y64, _) = rms_norm::forward(&wide(&x), None, Dropout::none(), Scale { gamma: &g64, eps: 1e-3 }).unwrap();
        close("all in bf16", &y, &y64, ROUNDED);
        assert_eq!(saved.sum.dtype(), DType::BF16);
        let affine = Affine { gamma: &g, beta: &b, eps: 1e-3 };
        let (y, saved) = layer_norm::forward(&x, None, Dropout::none(), affine).unwrap();
        close("layer norm again", &layer_norm::output(&saved, affine).unwrap(), &wide(&y), 2.0 * ROUNDED);
    }
}

#[test]
fn sums_of_both_formats_have_the_streams() {
    let (x, r) = (narrow(&random((40, 66), 1)), random((40, 66), 2));
    for drop in [Dropout::none(), Dropout::new(9, 0.4)] {
        let sum = residual::add(&x, Some(&r), drop).unwrap();
        assert_eq!(sum.dtype(), DType::F32);
        close("sum", &sum, &residual::plain_add(&wide(&x), Some(&wide(&r)), drop).unwrap(), 1e-6);
        for dtype in [DType::F32, DType::BF16, DType::F16] {
            let (a, b) = (drop.apply_as(&x, dtype).unwrap(), drop.apply_as(&r, dtype).unwrap());
            assert_eq!((a.dtype(), b.dtype()), (dtype, dtype));
            close("dropped", &a, &drop.apply(&wide(&x)).unwrap(), ROUNDED);
            close("dropped", &b, &drop.apply(&wide(&r)).unwrap(), ROUNDED);
        }
    }
    let sum = residual::accumulate(r.copy().unwrap(), &x).unwrap();
    close("accumulated", &sum, &(wide(&r) + wide(&x)).unwrap(), 1e-6);
}

#[test]
fn rotation_heads_and_gates_in_bf16() {
    for pairing in [Pairing::Halves, Pairing::Interleaved] {
        let heads = Heads { heads: 3, head_dim: 34, pairing };
        let angles = Angles::new(&(0..17).map(|i| 0.5f32.powi(i)).collect::<Vec<_>>(), 40, 1.0);
        let positions: Vec<u32> = (0..300).map(|i| i * 7 % 40).collect();
        let x = narrow(&random((300, 107), 3));
        for turn in [Rope::Forward, Rope::Backward] {
            let want = rope::rotate(wide(&x), heads, &angles, &positions, turn).unwrap();
            let got = rope::rotate(x.copy().unwrap(), heads, &angles, &positions, turn).unwrap();
            assert_eq!(got.dtype(), DType::BF16);
            close(&format!("{pairing:?}"), &got, &want, several());
        }
    }
    let (x, dy, gq, gk) =
        (narrow(&random((200, 160), 1)), narrow(&random((200, 160), 2)), random(32, 3), random(32, 4));
    let (gq64, gk64) = (wide(&gq), wide(&gk));
    let norm = HeadNorm { gamma: [&gq, &gk], heads: [3, 1], eps: 1e-3 };
    let norm64 = HeadNorm { gamma: [&gq64, &gk64], heads: [3, 1], eps: 1e-3 };
    close("heads", &head_norm::forward(&x, norm).unwrap(), &head_norm::forward(&wide(&x), norm64).unwrap(), ROUNDED);
    let want = head_norm::backward(&wide(&x), norm64, wide(&dy)).unwrap();
    close("heads back", &head_norm::backward(&x, norm, dy.copy().unwrap()).unwrap(), &want, ROUNDED);
    let half = x.to_dtype(DType::F16).unwrap();
    let want = head_norm::forward(&wide(&half), norm64).unwrap();
    close("heads in f16", &head_norm::forward(&half, norm).unwrap(), &want, ROUNDED);
    for act in [Act::Gelu, Act::GeluTanh, Act::Relu, Act::Swish, Act::Tanh] {
        let (x, dy) = (narrow(&random((60, 66), 5)), narrow(&random((60, 33), 6)));
        let want = gated::forward(act, &wide(&x)).unwrap();
        close(&format!("{act:?}"), &gated::forward(act, &x).unwrap(), &want, several());
        let want = gated::backward(act, wide(&x), &wide(&dy)).unwrap();
        let got = gated::backward(act, x.copy().unwrap(), &dy).unwrap();
        // Without a fast version every operation is rounded.
        let tolerance = if gemm::multiplies_bf16() { ROUNDED } else { 4.0 * ROUNDED };
        close(&format!("{act:?} back"), &got, &want, tolerance);
    }
}

fn mixture(kind: MixtureKind, routing: RoutingPolicy) -> MixtureConfig {
    MixtureConfig {
        kind,
        lora_rank: 2,
        lora_alpha: 3.0,
        lora_dropout: 0.1,
        lora_target: vec!["all-linear".to_owned()],
        ..super::mixture(routing)
    }
}

fn decoder(family: &str, dtype: DType) -> Decoder {
    let dir = golden_dir(family);
    let spec = DecoderSpec::from_json(&std::fs::read_to_string(dir.join("config.json")).unwrap()).unwrap();
    let weights = Weights::open(&dir).unwrap().with_prefix(spec.family.prefix());
    Decoder::load(spec, &weights, dtype, &Device::Cpu).unwrap()
}

/// Around this trunk, every trained tensor filled.
fn model(decoder: Decoder, mixture: Option<&MixtureConfig>) -> CausalLm {
    let model = CausalLm::new(decoder, LmSetup { mixture, seed: SeedStream::new(1) }).unwrap();
    fill(model.params(), 0.2);
    model
}

fn lessons() -> (Vec<u32>, Vec<usize>, Vec<bool>) {
    let mut stream = SeedStream::new(12).stream(Purpose::Sampling, 3);
    let ids: Vec<u32> = (0..23).map(|_| 3 + stream.below(29) as u32).collect();
    let wanted = (0..23).map(|i| i % 3 != 1).collect();
    (ids, vec![0, 9, 10, 23], wanted)
}

/// The loss and all gradients of two passes.
fn run(model: &CausalLm, mixture: &MixtureConfig) -> (f64, Grads) {
    let (ids, offsets, wanted) = lessons();
    let batch = Packed { ids: &ids, offsets: &offsets };
    let (rows, targets) = batch.targets(&wanted);
    let shape = RouteShape { passes: 2, sites: model.sites().len(), sequences: 3, tokens: 23 };
    let route = Route::draw(mixture, SeedStream::new(2), Purpose::Routing, 7, shape);
    let drop = Some(DropKeys::new(SeedStream::new(4), 3));
    let run =
        ForwardOptions { passes: 2, route: Some(&route), drop, lora_drop: drop, keep: true, ..ForwardOptions::eval() };
    let (hidden, trace) = model.forward(batch, Some(&rows), run).unwrap();
    assert_eq!(hidden.dtype(), DType::F32, "final hidden states are wide");
    let objective = Objective { passes: 2, weight: 1.0, gradient: true, ..crate::plain_loss() };
    let loss = model.loss(&hidden, &targets, objective).unwrap();
    (loss.rows.read().unwrap().total, model.backward(trace.unwrap(), loss.grad.as_ref().unwrap()).unwrap())
}

/// How far apart the gradients are: the worst of single tensors, and all together, as shares of their norms.
fn apart(got: &Grads, want: &Grads) -> (f64, f64, usize) {
    let (mut worst, mut off, mut all, mut count) = (0.0f64, Vec::new(), Vec::new(), 0);
    let total = norm(&want.iter().flat_map(|(_, _, g)| values(g)).collect::<Vec<_>>());
    for (id, expert, want) in want.iter() {
        let got = got.get(id, expert).expect("the same experts ran");
        assert_eq!(got.dtype(), DType::F32);
        let want = values(want);
        let differences: Vec<f64> = values(got).iter().zip(&want).map(|(g, w)| g - w).collect();
        // A gradient that is next to nothing beside the others is rounding itself.
        worst = worst.max(norm(&differences) / norm(&want).max(0.02 * total));
        off.extend(differences);
        all.extend(want);
        count += 1;
    }
    (worst, norm(&off) / norm(&all), count)
}

#[test]
fn a_narrow_decoder_gives_the_same_gradients_up_to_rounding() {
    for family in FAMILIES {
        for (kind, routing) in [
            (MixtureKind::Lora, RoutingPolicy::PerBatch),
            (MixtureKind::Lora, RoutingPolicy::PerToken),
            (MixtureKind::Adapter, RoutingPolicy::PerExample),
        ] {
            let mixture = mixture(kind, routing);
            let (want, want_grads) = run(&model(decoder(family, DType::F32), Some(&mixture)), &mixture);
            for (flow, tolerance) in FLOWS {
                let narrow = model(decoder(family, DType::F32).with_activation_dtype(flow), Some(&mixture));
                assert_eq!((narrow.base.activation_dtype(), narrow.base.dtype()), (flow, DType::F32));
                assert!(narrow.params().iter().all(|param| param.value.dtype() == DType::F32));
                let (got, got_grads) = run(&narrow, &mixture);
                let (worst, all, count) = apart(&got_grads, &want_grads);
                let what = format!("{family} {kind:?} {routing:?} {flow:?}");
                println!("{what}: loss {got:.4} for {want:.4}, gradients {all:.4}, worst {worst:.4} of {count}");
                assert!(got != want, "{what}: nothing was rounded");
                assert!((got - want).abs() < tolerance * want, "{what}: loss {got}, in f32 {want}");
                assert!(all < tolerance && worst < SINGLE * tolerance && count > 8, "{what}: {all} {worst} {count}");
            }
        }
    }
}

#[test]
fn a_decoder_flows_in_bf16_where_the_processor_multiplies_it() {
    let flow = if gemm::multiplies_bf16() { DType::BF16 } else { DType::F32 };
    for family in FAMILIES {
        let (half, whole) = (decoder(family, DType::BF16), decoder(family, DType::F32));
        assert_eq!(
            (half.activation_dtype(), half.dtype(), half.matrix_dtype()),
            (flow, DType::F32, DType::BF16),
            "{family}"
        );
        assert_eq!(
            (whole.activation_dtype(), whole.dtype(), whole.matrix_dtype()),
            (DType::F32, DType::F32, DType::F32),
            "{family}"
        );
        assert_eq!(whole.stored_as(DType::BF16).unwrap().activation_dtype(), flow);
        assert_eq!(
            decoder(family, DType::F16).activation_dtype(),
            DType::F32,
            "{family}: f16 is stored, not computed with"
        );
        let mut model = model(whole.with_activation_dtype(DType::BF16), None);
        assert!(model.train_base().unwrap_err().to_string().contains("single precision"));
    }
}

#[test]
fn layers_run_again_give_the_same_bits_in_bf16() {
    for (family, kind) in
        [("gpt2-tiny", MixtureKind::Adapter), ("qwen3-tiny", MixtureKind::Lora), ("llama-tiny", MixtureKind::Lora)]
    {
        let mixture = mixture(kind, RoutingPolicy::PerBatch);
        let config = RunConfig { mixture, ..RunConfig::default() };
        let model = model(decoder(family, DType::BF16), Some(&config.mixture));
        let (ids, offsets, wanted) = lessons();
        let batch = TextBatch { ids, rows: (1..offsets.len()).collect(), offsets, learn: wanted };
        assert_recompute_changes_no_bit(family, &config, &model, &batch);
    }
}

#[test]
fn quantised_matrices_take_what_flows_in_bf16() {
    let mixture = mixture(MixtureKind::Lora, RoutingPolicy::PerBatch);
    for family in ["llama-tiny", "gpt2-tiny"] {
        let quantised = decoder(family, DType::F32).quantised(NumberFormat::Q8_0).unwrap();
        let (want, want_grads) = run(&model(quantised.clone(), Some(&mixture)), &mixture);
        let narrow = quantised.computing_in(DType::BF16);
        let flow = narrow.activation_dtype();
        let (got, got_grads) = run(&model(narrow, Some(&mixture)), &mixture);
        let (worst, all, _) = apart(&got_grads, &want_grads);
        println!("{family}: loss {got:.4} for {want:.4}, gradients {all:.4}, worst {worst:.4}");
        assert!(
            (got - want).abs() < 0.02 * want && all < 4e-2 && worst < SINGLE * 4e-2,
            "{family}: {got} {all} {worst}"
        );
        assert!((got == want) == (flow == DType::F32), "{family}: only what flows in bf16 is rounded");
    }
}

#[test]
fn text_is_read_token_by_token_in_bf16_as_at_once() {
    for family in FAMILIES {
        for trunk in [decoder(family, DType::BF16), decoder(family, DType::F32).with_activation_dtype(DType::BF16)] {
            let model = model(trunk, None);
            let ids = lessons().0[..16].to_vec();
            let whole = model.logits(Packed { ids: &ids, offsets: &[0, ids.len()] }, None, None).unwrap();
            let mut cache = KvCache::new(&model.base);
            let sequence = cache.start();
            for (at, parts) in [&ids[..7], &ids[7..8], &ids[8..10], &ids[10..15], &ids[15..]].into_iter().enumerate() {
                let got = model.extend(&mut cache, &[Extension { sequence, ids: parts }], None).unwrap();
                let end = cache.tokens(sequence).unwrap();
                let want = whole.narrow(0, end - 1, 1).unwrap();
                close(&format!("{family}, part {at}"), &got, &want, 3e-2);
            }
        }
    }
}
