//! Ends of texts, pieces, progress and cancelling, seeds, routes, scores of a data set.

use super::{load, mixture, values, write};
use crate::support::assert_close;
use crate::support::gguf as files;
use adamix::config::{DataConfig, MixtureKind, Task, TextConfig};
use adamix::data::text::{self, TextCodec};
use adamix::error::ErrorKind;
use adamix::eval::compare::random_route;
use adamix::eval::generate::cached_decoder::log_softmax;
use adamix::eval::generate::{
    Beams, Event, GenerateOptions, Hooks, Method, Routes, Rules, Sampling, ScoreOptions, Search, generate, score_inputs,
};
use adamix::model::decoder::Decoder;
use adamix::model::{CausalLm, DecoderSpec, LmSetup, Network as _, Packed};
use adamix::rng::SeedStream;
use adamix::tensor::{Device, NumberFormat};
use std::cell::RefCell;
use std::path::Path;

fn prompts() -> Vec<Vec<u32>> {
    vec![vec![1, 9, 4], vec![5], vec![20, 11, 11, 7, 30], vec![3, 17], vec![9, 9]]
}

fn sampled(seed: u64) -> GenerateOptions {
    let method = Method::Sample(Sampling { temperature: 0.9, top_k: 12, top_p: 0.95 });
    GenerateOptions { method, seed: SeedStream::new(seed), ..GenerateOptions::greedy(9, &[2]) }
}

#[test]
fn draws_depend_on_the_seed_and_the_text_not_on_the_batch() {
    let model = load("llama", None);
    let base = write(&model, &prompts(), &sampled(5));
    for batch_size in [1, 2, 100] {
        let found = write(&model, &prompts(), &GenerateOptions { batch_size, ..sampled(5) });
        for (a, b) in found.iter().zip(&base) {
            assert_eq!(a.ids, b.ids);
            assert_close("log-probabilities", &a.log_probs, &b.log_probs, 1e-4, 1e-4);
        }
    }
    let other = write(&model, &prompts(), &sampled(6));
    assert!(other.iter().zip(&base).any(|(a, b)| a.ids != b.ids));
    // The same prompt twice is drawn twice.
    let twice = write(&model, &[vec![5, 6], vec![5, 6]], &sampled(5));
    assert_ne!(twice[0].ids, twice[1].ids);
}

#[test]
fn told_log_probabilities_are_the_models() {
    let model = load("qwen2", None);
    let told = RefCell::new(Vec::new());
    let mut tell = |event: Event<'_>| {
        if let Event::Token { id, log_probs, .. } = event {
            told.borrow_mut().push((id, log_probs.to_vec()));
        }
    };
    let prompt = vec![4, 8, 15];
    let rules = Rules { no_repeat_ngram: 1, ..Rules::default() };
    let options = GenerateOptions { rules, ..GenerateOptions::greedy(6, &[]) };
    let found = generate(
        &model,
        std::slice::from_ref(&prompt),
        None,
        &options,
        &mut Hooks { go_on: &|_| true, tell: &mut tell },
    );
    let text = found.unwrap().remove(0);
    let ids = [prompt.clone(), text.ids.clone()].concat();
    let logits = values(&model.logits(Packed { ids: &ids, offsets: &[0, ids.len()] }, None, None).unwrap());
    let vocab = model.base.spec.vocab_size;
    for (i, (id, log_probs)) in told.borrow().iter().enumerate() {
        assert_eq!(*id, text.ids[i]);
        let mut want = logits[(prompt.len() - 1 + i) * vocab..(prompt.len() + i) * vocab].to_vec();
        log_softmax(&mut want);
        assert_close("log-probabilities", log_probs, &want, 1e-5, 1e-5);
        assert_eq!(text.log_probs[i], log_probs[*id as usize]);
    }
    assert_eq!(told.borrow().len(), 6);
    let mut once = text.ids.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), 6, "no token twice");
}

#[test]
fn routes_while_writing() {
    let (mixture, seed) = (mixture(MixtureKind::Lora), SeedStream::new(0));
    let model = load("llama", Some(&mixture));
    let with =
        |routes: Routes| write(&model, &prompts(), &GenerateOptions { routes, ..GenerateOptions::greedy(6, &[]) });
    // One expert everywhere is the model with that expert alone.
    let alone = model.with_loras(|_, mixture| mixture.expert(2)).unwrap();
    let single = write(&alone, &prompts(), &GenerateOptions::greedy(6, &[]));
    for (a, b) in with(Routes::Expert(2)).iter().zip(&single) {
        assert_eq!(a.ids, b.ids);
        assert_close("expert", &a.log_probs, &b.log_probs, 1e-4, 1e-4);
    }
    // Beams along a route, too.
    let beams = Method::Beam(Beams { beams: 3, length_penalty: 1.0, search: Search::Reference });
    let routed = GenerateOptions { method: beams, routes: Routes::Expert(2), ..GenerateOptions::greedy(6, &[]) };
    let plain = GenerateOptions { routes: Routes::Plain, ..routed.clone() };
    let ids = |model: &CausalLm, options: &GenerateOptions| {
        write(model, &prompts(), options).into_iter().map(|text| text.ids).collect::<Vec<_>>()
    };
    assert_eq!(ids(&model, &routed), ids(&alone, &plain));
    // The ensemble's first probabilities are the mean of those along its routes.
    let ensemble = with(Routes::Ensemble(3));
    let sites = model.sites().len();
    for (prompt, text) in prompts().iter().zip(&ensemble) {
        let mut mean = 0.0f64;
        for index in 0..3 {
            let route = random_route(&mixture, sites, seed, index);
            let packed = Packed { ids: prompt, offsets: &[0, prompt.len()] };
            let last = [prompt.len() as u32 - 1];
            let mut log_probs = values(&model.logits(packed, Some(&last), Some(&route)).unwrap());
            log_softmax(&mut log_probs);
            mean += f64::from(log_probs[text.ids[0] as usize]).exp() / 3.0;
        }
        assert!((f64::from(text.log_probs[0]).exp() - mean).abs() < 1e-5);
    }
    let texts = [Routes::Whole(0), Routes::PerText, Routes::PerToken, Routes::Ensemble(3)].map(|routes| {
        let texts = with(routes);
        assert_eq!(texts, with(routes), "the same again");
        texts.into_iter().map(|text| text.log_probs).collect::<Vec<_>>()
    });
    assert!(texts.iter().enumerate().all(|(i, a)| texts[..i].iter().all(|b| a != b)), "routes make a difference");
    let refused = |model: &CausalLm, routes: Routes, part: &str| {
        let options = GenerateOptions { routes, ..GenerateOptions::greedy(1, &[]) };
        let mut hooks = Hooks { go_on: &|_| true, tell: &mut |_| {} };
        let err = generate(model, &prompts(), None, &options, &mut hooks).unwrap_err().to_string();
        assert!(err.contains(part), "{err}");
    };
    refused(&model, Routes::Plain, "merge them, or choose");
    refused(&model, Routes::Expert(3), "expert 3 of 3");
    refused(&model, Routes::Ensemble(0), "at least one route");
    refused(&alone, Routes::PerText, "has no routes");
}

#[test]
fn cancelling_ends_it_at_once_and_progress_grows() {
    let model = load("gpt2", None);
    for method in [Method::Greedy, Method::Beam(Beams { beams: 2, length_penalty: 1.0, search: Search::Reference })] {
        let shares = RefCell::new(Vec::new());
        let options = GenerateOptions { method, batch_size: 2, ..GenerateOptions::greedy(8, &[]) };
        let go_on = |share: f64| {
            shares.borrow_mut().push(share);
            true
        };
        generate(&model, &prompts(), None, &options, &mut Hooks { go_on: &go_on, tell: &mut |_| {} }).unwrap();
        let list = shares.take();
        assert!(list.windows(2).all(|w| w[0] <= w[1]) && list.last() == Some(&1.0), "{list:?}");
        let calls = RefCell::new(0);
        let stop = |_: f64| {
            *calls.borrow_mut() += 1;
            *calls.borrow() < 3
        };
        let err = generate(&model, &prompts(), None, &options, &mut Hooks { go_on: &stop, tell: &mut |_| {} });
        assert_eq!((err.unwrap_err().kind(), calls.take()), (ErrorKind::Cancelled, 3));
    }
}

#[test]
fn the_models_own_limit_ends_a_text() {
    let model = load("mistral", None);
    let text = &write(&model, &[vec![5; 10]], &GenerateOptions::greedy(50, &[]))[0];
    // 16 tokens can be read; the one after them is the last.
    assert_eq!((text.ids.len(), serde_json::to_value(text.finish).unwrap()), (7, "context".into()));
    let beams = Method::Beam(Beams { beams: 2, length_penalty: 1.0, search: Search::Reference });
    let text =
        &write(&model, &[vec![5; 16]], &GenerateOptions { method: beams, ..GenerateOptions::greedy(50, &[]) })[0];
    assert_eq!((text.ids.len(), serde_json::to_value(text.finish).unwrap()), (1, "context".into()));
    let options = GenerateOptions::greedy(5, &[]);
    let mut hooks = Hooks { go_on: &|_| true, tell: &mut |_| {} };
    for (prompt, part) in [(vec![5; 17], "prompt 1 has 17 tokens; this model takes 16"), (vec![], "has no token")] {
        let err = generate(&model, &[prompt], None, &options, &mut hooks).unwrap_err().to_string();
        assert!(err.contains(part), "{err}");
    }
    for (options, part) in [
        (GenerateOptions::greedy(0, &[]), "max_new_tokens"),
        (GenerateOptions { batch_size: 0, ..options.clone() }, "batch_size"),
        (
            GenerateOptions { rules: Rules { repetition_penalty: 0.0, ..Rules::default() }, ..options.clone() },
            "repetition",
        ),
        (
            GenerateOptions {
                method: Method::Sample(Sampling { temperature: 0.0, ..Sampling::default() }),
                ..options.clone()
            },
            "temperature",
        ),
        (
            GenerateOptions {
                method: Method::Sample(Sampling { top_p: 1.5, ..Sampling::default() }),
                ..options.clone()
            },
            "top_p",
        ),
        (
            GenerateOptions {
                method: Method::Beam(Beams { beams: 0, length_penalty: 1.0, search: Search::Reference }),
                ..options.clone()
            },
            "num_beams",
        ),
        (GenerateOptions { stop_strings: vec![String::new()], ..options }, "stop string is empty"),
    ] {
        let err = generate(&model, &[vec![5]], None, &options, &mut hooks).unwrap_err().to_string();
        assert!(err.contains(part), "{err}");
    }
}

/// A GGUF file with a tokenizer and random weights in Q8_0, 32 wide, 1 layer.
pub fn speaker_file() -> Vec<u8> {
    let template =
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>{% endfor %}<|im_start|>assistant\n";
    let mut entries = files::chatml(template);
    let tokens = entries.iter().find_map(|(key, value)| match value {
        files::Value::Texts(tokens) if key == "tokenizer.ggml.tokens" => Some(tokens.len()),
        _ => None,
    });
    let sizes = [("context_length", 64), ("embedding_length", 32), ("block_count", 1), ("feed_forward_length", 32)];
    let heads = [("attention.head_count", 2), ("attention.head_count_kv", 1)];
    entries.extend(
        [&sizes[..], &heads].concat().into_iter().map(|(key, n)| (format!("llama.{key}"), files::Value::U32(n))),
    );
    entries.push(("llama.attention.layer_norm_rms_epsilon".to_owned(), files::number(1e-5)));
    let mut stored: Vec<files::Stored> = Vec::new();
    let mut add = |name: &str, shape: &[usize], format: NumberFormat| {
        let dense = super::super::gguf::noise(shape, 1.0, stored.len() as u64);
        let bytes = super::super::gguf::quantised(&dense, format).0;
        let shape = shape.iter().map(|&size| size as u64).collect();
        stored.push(files::Stored { name: format!("{name}.weight"), shape, dtype: format.ggml(), bytes });
    };
    add("token_embd", &[tokens.unwrap(), 32], NumberFormat::Q8_0);
    for norm in ["output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"] {
        add(norm, &[32], NumberFormat::F32);
    }
    for (part, rows) in [
        ("attn_q", 32),
        ("attn_k", 16),
        ("attn_v", 16),
        ("attn_output", 32),
        ("ffn_gate", 32),
        ("ffn_up", 32),
        ("ffn_down", 32),
    ] {
        add(&format!("blk.0.{part}"), &[rows, 32], NumberFormat::Q8_0);
    }
    files::file_of(&entries, &stored)
}

/// A tokenizer, and a random model with as many tokens.
fn generator() -> (TextCodec, CausalLm, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    std::fs::write(&path, files::file(&files::chatml(""), &[], 0)).unwrap();
    let codec = TextCodec::open(&path).unwrap();
    let spec = std::fs::read_to_string(crate::golden::golden_dir("llama-tiny").join("config.json")).unwrap();
    let spec = DecoderSpec { vocab_size: codec.max_id() as usize + 1, ..DecoderSpec::from_json(&spec).unwrap() };
    let decoder = Decoder::random(spec, SeedStream::new(2), &Device::Cpu).unwrap();
    (codec, CausalLm::new(decoder, LmSetup { mixture: None, seed: SeedStream::new(1) }).unwrap(), dir)
}

#[test]
fn stop_strings_end_texts_and_pieces_add_up() {
    let (codec, model, _dir) = generator();
    let prompts: Vec<Vec<u32>> = ["The food", "a", "Größe"].iter().map(|text| codec.encode(text).unwrap()).collect();
    let method = Method::Sample(Sampling::default());
    let base =
        GenerateOptions { method, seed: SeedStream::new(3), ..GenerateOptions::greedy(24, &codec.specials.stops) };
    let run = |options: &GenerateOptions| {
        let pieces = RefCell::new(vec![String::new(); prompts.len()]);
        let mut tell = |event: Event<'_>| match event {
            Event::Token { text, piece, .. } | Event::Rest { text, piece } => pieces.borrow_mut()[text] += piece,
        };
        let mut hooks = Hooks { go_on: &|_| true, tell: &mut tell };
        let texts = generate(&model, &prompts, Some(&codec), options, &mut hooks).unwrap();
        for (text, piece) in texts.iter().zip(pieces.take()) {
            assert_eq!(text.text, piece, "pieces add up to the text");
        }
        texts
    };
    let free = run(&base);
    for text in &free {
        assert_eq!(text.text, codec.decode_plain(&text.ids).unwrap());
        assert!(text.text.chars().count() > 10, "{text:?}");
    }
    // A string over the border of two tokens, from the middle of the first text.
    let chars: Vec<char> = free[0].text.chars().collect();
    let stop: String = chars[5..9].iter().collect();
    let first = free[0].text.find(&stop).unwrap();
    let stopped = run(&GenerateOptions { stop_strings: vec![stop.clone(), "never said".to_owned()], ..base.clone() });
    assert_eq!(stopped[0].text, free[0].text[..first]);
    assert_eq!(serde_json::to_value(stopped[0].finish).unwrap(), "stop-string");
    assert!(stopped[0].ids.len() < free[0].ids.len());
    let beams = Method::Beam(Beams { beams: 2, length_penalty: 1.0, search: Search::Transformers(Default::default()) });
    let all = run_beams(&model, &codec, &prompts, &GenerateOptions { method: beams, ..base.clone() });
    let stop: String = all[0].chars().skip(3).take(2).collect();
    let cut = run_beams(
        &model,
        &codec,
        &prompts,
        &GenerateOptions { method: beams, stop_strings: vec![stop.clone()], ..base },
    );
    assert!(!cut[0].contains(&stop), "{:?} {:?}", cut[0], stop);
}

fn run_beams(model: &CausalLm, codec: &TextCodec, prompts: &[Vec<u32>], options: &GenerateOptions) -> Vec<String> {
    let mut hooks = Hooks { go_on: &|_| true, tell: &mut |_| {} };
    generate(model, prompts, Some(codec), options, &mut hooks).unwrap().into_iter().map(|text| text.text).collect()
}

fn data(dir: &Path, file: &str) -> DataConfig {
    DataConfig {
        task: Task::Text,
        path: dir.display().to_string(),
        train_file: file.to_owned(),
        dev_file: file.to_owned(),
        max_length: 64,
        ..DataConfig::default()
    }
}

#[test]
fn every_input_is_answered_once_and_scored_against_all_its_references() {
    let (codec, model, dir) = generator();
    let rows = "mr,ref\nname[A],A is a place.\nname[A],There is A.\nname[B],B is cheap.\n";
    std::fs::write(dir.path().join("e2e.csv"), rows).unwrap();
    let data = text::load(&data(dir.path(), "e2e.csv"), &TextConfig::default(), &codec).unwrap();
    let options = GenerateOptions::greedy(12, &codec.specials.stops);
    let mut hooks = Hooks { go_on: &|_| true, tell: &mut |_| {} };
    let scored = score_inputs(&model, &data, &options, ScoreOptions::default(), &mut hooks).unwrap();
    assert_eq!((scored.texts.len(), scored.outputs.len(), scored.scores.references), (2, 2, 3));
    assert_eq!((scored.scores.segments, scored.scores.ter.is_none()), (2, true));
    let prompt = data.encoder.prompt(&data.dev.examples[2]).unwrap();
    let alone = generate(&model, &[prompt], Some(&codec), &options, &mut hooks).unwrap();
    assert_eq!(scored.texts[1].ids, alone[0].ids);
    let few = ScoreOptions { most_inputs: 1, ..ScoreOptions::default() };
    assert_eq!(score_inputs(&model, &data, &options, few, &mut hooks).unwrap().scores.segments, 1);
}
