//! `adamix data --text`, as somebody types it.

use super::{CHATML, dir, files, model};
use serde_json::Value;
use std::process::{Command, Output};

fn adamix(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_adamix")).args(arguments).output().unwrap()
}

#[test]
fn texts_are_shown_token_by_token() {
    let dir = dir(&[(
        "chat.jsonl",
        "{\"messages\": [{\"role\": \"user\", \"content\": \"a film\"}, {\"role\": \"assistant\", \"content\": \"is good\"}]}\n{\"messages\": [{\"role\": \"user\", \"content\": \"b\"}, {\"role\": \"assistant\", \"content\": \"c\"}]}\n",
    )]);
    let model = model(dir.path(), &files::chatml(CHATML)).display().to_string();
    let file = dir.path().join("chat.jsonl").display().to_string();
    let output = adamix(&["data", "--text", &file, "--model", &model, "--dev-file", &file, "--rows", "1"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for part in [
        "chat: messages texts as chat template",
        "start token <|im_start|>, end token <|im_end|>",
        "<|im_start|>assistant\\n\n    [[is good<|im_end|>]]\\n",
        "2 training examples with 2 different inputs",
        "    read as JSON lines, UTF-8",
        "2 evaluation examples are training examples too",
    ] {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
    assert!(!text.contains('\x1b'), "no colours in a pipe");
    let output = adamix(&["data", "--text", &file, "--model", &model, "--dev-file", &file, "--rows", "1", "--json"]);
    let preview: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(preview["format"], "messages");
    let tokens = preview["train"]["sample"][0]["tokens"].as_array().unwrap();
    let learned: String =
        tokens.iter().filter(|token| token["learned"] == true).map(|token| token["text"].as_str().unwrap()).collect();
    assert_eq!(learned, "is good<|im_end|>");
}

#[test]
fn wrong_usage_is_said_so() {
    let dir = dir(&[("t.jsonl", "{\"text\": \"a\"}\n{\"text\": \"b\"}\n")]);
    let file = dir.path().join("t.jsonl").display().to_string();
    let refused = |arguments: &[&str], parts: &[&str]| {
        let output = adamix(&[&["data"], arguments].concat());
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success());
        for part in parts {
            assert!(message.contains(part), "{part:?} is not in: {message}");
        }
    };
    refused(&["--text", &file], &["does not write", "--model"]);
    refused(&["--text", &file, "--max-tokens-per-batch", "8"], &["max_tokens_per_batch is 8", "max_length"]);
    refused(&["--task", "text"], &["no text file chosen", "train_file"]);
    let model = model(dir.path(), &files::byte_level("smollm", &[])).display().to_string();
    refused(&["--text", &file, "--model", &model], &["no end token"]);
}
