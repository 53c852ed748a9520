//! What does not fit together is refused in words that say what to do.

use crate::support::place::Place;
use crate::support::texts::TextPlace;
use adamix::config::{Method, Metric, RunConfig};
use adamix::workflow::{preflight, run};
use serde_json::{Map, Value};

#[track_caller]
fn refused(config: &RunConfig, needles: &[&str]) {
    let text = run::prepare(config).unwrap_err().to_string();
    for needle in needles {
        assert!(text.contains(needle), "{needle:?} is not in: {text}");
    }
    // A dry run says the same and fails no other way.
    let report = preflight::preflight(config, false).unwrap();
    assert!(report.problems.iter().any(|problem| problem.contains(needles[0])), "{:?}", report.problems);
}

#[test]
fn models_that_do_not_fit_the_task() {
    let (texts, rows) = (TextPlace::new("gpt2-tiny"), Place::new());
    let mut config = texts.config(4);
    config.model.path = rows.path("model").display().to_string();
    refused(&config, &["is an encoder, which does not write", "GPT-2"]);
    config.model.path = "lab".to_owned();
    refused(&config, &["does not write"]);
    config.model.path = texts.path("nowhere").display().to_string();
    refused(&config, &["nowhere"]);
    let mut config = rows.config(4);
    config.model.path = texts.path("model").display().to_string();
    refused(&config, &["this is a language model", "task text"]);
}

#[test]
fn lengths_vocabularies_and_texts_without_anything_to_learn() {
    let place = TextPlace::new("gpt2-tiny");
    let mut config = place.config(4);
    config.data.max_length = 33;
    refused(&config, &["max_length is 33", "at most 32"]);
    let mut short = place.config(4);
    short.data.max_length = 4;
    let text = "{\"prompt\": \"red and blue and green\", \"completion\": \"the cat\"}\n";
    std::fs::write(place.path("long.jsonl"), text.repeat(4)).unwrap();
    short.data.train_file = place.path("long.jsonl").display().to_string();
    refused(&short, &["no training text has anything left to learn", "within 4 tokens; raise max_length"]);
    // Three special tokens and forty words.
    let words: Map<String, Value> = (3..43).map(|id| (format!("word{id}"), id.into())).collect();
    place.tokenizer(&words);
    refused(&place.config(4), &["token 42", "knows only 32", "do not belong together"]);
}

#[test]
fn an_added_token_without_a_row_harms_only_the_texts_that_hold_it() {
    let place = TextPlace::new("gpt2-tiny");
    let path = place.path("model").join("tokenizer.json");
    let mut tokenizer: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    let vocabulary = tokenizer["model"]["vocab"].as_object_mut().unwrap();
    for id in vocabulary.len()..32 {
        vocabulary.insert(format!("filler{id}"), id.into());
    }
    let pad = serde_json::json!({ "id": 32, "content": "<pad>", "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false, "special": true });
    tokenizer["added_tokens"].as_array_mut().unwrap().push(pad);
    std::fs::write(&path, tokenizer.to_string()).unwrap();
    let config = place.config(4);
    let prepared = run::prepare(&config).unwrap();
    assert!(prepared.subject.language_model().is_some(), "no text holds the token");
    let text = "{\"prompt\": \"red\", \"completion\": \"the <pad> cat\"}\n";
    std::fs::write(place.path("pad.jsonl"), text.repeat(4)).unwrap();
    let mut holding = config;
    holding.data.train_file = place.path("pad.jsonl").display().to_string();
    refused(&holding, &["<pad>", "token 32", "no row (it has 32)", "the <pad> cat"]);
}

#[test]
fn methods_and_metrics_that_language_models_do_not_have() {
    let place = TextPlace::new("gpt2-tiny");
    for (method, word) in [(Method::HeadOnly, "head-only"), (Method::Full, "full")] {
        let mut config = place.config(4);
        config.model.method = method;
        refused(&config, &[word, "choose adamix"]);
    }
    let mut config = place.config(4);
    config.data.metric = Metric::F1;
    refused(&config, &["metric f1 does not fit texts", "auto or loss"]);
    config.data.metric = Metric::Loss;
    assert_eq!(config.problems(), Vec::<String>::new());
    config.mixture.lora_target = vec!["q_prj".to_owned()];
    refused(&config, &["lora_target \"q_prj\" is no linear layer", "c_attn"]);
}
