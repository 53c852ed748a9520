//! Texts of transformers and of the paper's decoder, token for token.

use super::{load, write};
use crate::golden::{golden_dir, read_json};
use crate::support::assert_close;
use adamix::eval::generate::{Beams, EarlyStop, GenerateOptions, Method, Rules, Sampling, Scope, Search};
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
struct Golden {
    beams: Vec<Case>,
    greedy: Vec<Case>,
    reference: Vec<Case>,
    warpers: Warpers,
}

#[derive(Deserialize)]
struct Case {
    model: String,
    stops: Vec<u32>,
    settings: Settings,
    texts: Vec<Text>,
}

#[derive(Deserialize)]
struct Settings {
    #[serde(default)]
    num_beams: usize,
    #[serde(default)]
    length_penalty: f64,
    #[serde(default)]
    early_stopping: Value,
    #[serde(default)]
    no_repeat_ngram_size: usize,
    repetition_penalty: Option<f32>,
    max_new_tokens: usize,
}

#[derive(Deserialize)]
struct Text {
    prompt: Vec<u32>,
    ids: Vec<u32>,
    score: Option<f64>,
}

#[derive(Deserialize)]
struct Warpers {
    scores: Vec<f32>,
    cases: Vec<Warper>,
}

#[derive(Deserialize)]
struct Warper {
    temperature: f32,
    top_k: usize,
    top_p: f32,
    p: Vec<f32>,
}

fn golden() -> Golden {
    read_json(&golden_dir("generate.json"))
}

/// All prompts of a case side by side, and one by one.
fn check(case: &Case, search: Option<Search>, scope: Scope) {
    let model = load(&case.model, None);
    let settings = &case.settings;
    let method = search.map_or(Method::Greedy, |search| {
        Method::Beam(Beams { beams: settings.num_beams, length_penalty: settings.length_penalty, search })
    });
    let rules = Rules {
        repetition_penalty: settings.repetition_penalty.unwrap_or(1.0),
        no_repeat_ngram: settings.no_repeat_ngram_size,
        scope,
    };
    let prompts: Vec<Vec<u32>> = case.texts.iter().map(|text| text.prompt.clone()).collect();
    for batch_size in [1, 64] {
        let options = GenerateOptions {
            method,
            rules,
            batch_size,
            ..GenerateOptions::greedy(settings.max_new_tokens, &case.stops)
        };
        for (found, want) in write(&model, &prompts, &options).iter().zip(&case.texts) {
            let ids: Vec<u32> = found.ids.iter().copied().chain(found.end).collect();
            assert_eq!(ids, want.ids, "{} {:?} {method:?} {rules:?}", case.model, want.prompt);
            assert_eq!(found.log_probs.len(), ids.len());
            if let Some(score) = want.score {
                assert!((found.score - score).abs() < 1e-5 * score.abs().max(1.0), "{} for {score}", found.score);
            }
        }
    }
}

#[test]
fn beam_search_writes_what_transformers_writes() {
    let cases = golden().beams;
    assert!(cases.len() >= 5);
    let ended = cases.iter().flat_map(|c| &c.texts).filter(|text| text.ids.len() < 8).count();
    assert!(ended > 3, "ends of texts are among them");
    for case in cases {
        let early = match &case.settings.early_stopping {
            Value::Bool(true) => EarlyStop::FirstResults,
            Value::String(never) if never == "never" => EarlyStop::Never,
            _ => EarlyStop::Heuristic,
        };
        check(&case, Some(Search::Transformers(early)), Scope::All);
    }
}

#[test]
fn greedy_search_with_rules_writes_what_transformers_writes() {
    for case in golden().greedy {
        check(&case, None, Scope::All);
    }
}

#[test]
fn the_papers_decoder_writes_what_its_description_says() {
    for case in golden().reference {
        check(&case, Some(Search::Reference), Scope::Written);
    }
}

#[test]
fn samplers_leave_what_those_of_transformers_leave() {
    let Warpers { scores, cases } = golden().warpers;
    for case in cases {
        let sampling = Sampling { temperature: case.temperature, top_k: case.top_k, top_p: case.top_p };
        let mut found = vec![0.0f32; scores.len()];
        for (id, p) in sampling.candidates(&scores) {
            found[id as usize] = p as f32;
        }
        assert_close(&format!("{sampling:?}"), &found, &case.p, 1e-5, 1e-6);
    }
}
