//! `adamix generate` as its users see it.

use super::texts::speaker_file;
use crate::support::cli::{Ran, adamix};
use serde_json::Value;
use std::path::Path;

/// `adamix generate ARGUMENTS` in a directory.
fn generate(dir: &Path, arguments: &[&str]) -> Ran {
    adamix(dir, &[&["generate"], arguments].concat())
}

fn events(dir: &Path, arguments: &[&str]) -> Vec<Value> {
    generate(dir, &[arguments, &["--json", "--model", "m.gguf"]].concat()).json()
}

#[test]
fn texts_of_a_gguf_file() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("m.gguf"), speaker_file()).unwrap();
    let options = ["--max-new-tokens", "7", "--prompt", "The food", "--prompt", "a film"];
    let found = events(dir.path(), &options);
    assert_eq!(found.len(), 3);
    let (text, done) = (&found[0], &found[2]);
    assert_eq!((text["event"].as_str(), done["event"].as_str()), (Some("text"), Some("done")));
    let length = text["log_probs"].as_array().unwrap().len();
    assert!((1..=7).contains(&length), "{text}");
    assert_eq!(done["written_tokens"].as_u64().unwrap() as usize, {
        found[..2].iter().map(|text| text["log_probs"].as_array().unwrap().len()).sum::<usize>()
    });
    // The same as plain lines, and from a file of prompts.
    let Ran { code, out, err } = generate(dir.path(), &[&options[..], &["-m", "m.gguf"]].concat());
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(out, format!("{}\n{}\n", found[0]["text"].as_str().unwrap(), found[1]["text"].as_str().unwrap()));
    std::fs::write(dir.path().join("prompts.txt"), "The food\na film\n").unwrap();
    let Ran { out, .. } = generate(dir.path(), &["-m", "m.gguf", "--prompts", "prompts.txt", "--max-new-tokens", "7"]);
    assert_eq!(out.lines().count(), 2);
    // Drawn: another seed, another text; the same seed, the same text.
    let drawn = |seed: &str| {
        let more = ["--temperature", "1.5", "--top-k", "50", "--top-p", "0.95", "--seed", seed];
        events(dir.path(), &[&options[..], &more].concat())[0]["ids"].clone()
    };
    assert_eq!(drawn("1"), drawn("1"));
    assert_ne!(drawn("1"), drawn("2"));
    // Beams, both kinds; a question by the template.
    for search in ["transformers", "paper"] {
        let more = ["--num-beams", "3", "--length-penalty", "0.8", "--no-repeat-ngram-size", "2", "--search", search];
        assert!(events(dir.path(), &[&options[..], &more].concat())[0]["score"].as_f64().unwrap() < 0.0);
    }
    let chat = events(dir.path(), &["--prompt", "a film", "--chat", "--system", "Short.", "--max-new-tokens", "2"]);
    assert!(chat[0]["prompt_ids"].as_array().unwrap().len() > 8, "{}", chat[0]);
}

#[test]
fn wrong_usage_is_explained() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("m.gguf"), speaker_file()).unwrap();
    std::fs::write(dir.path().join("empty.txt"), "").unwrap();
    let refused = |code: i32, arguments: &[&str], part: &str| {
        let Ran { code: found, err, .. } = generate(dir.path(), arguments);
        assert_eq!(found, Some(code), "{arguments:?}: {err}");
        assert!(err.contains(part) && !err.contains("panicked"), "{part:?} is not in: {err}");
    };
    refused(2, &["--model", "m.gguf"], "--prompt");
    refused(1, &["--model", "absent", "--prompt", "a"], "no such directory or file");
    refused(1, &["--model", "empty.txt", "--prompt", "a"], "does not start with GGUF");
    refused(1, &["--model", "m.gguf", "--prompts", "empty.txt"], "is empty");
    refused(1, &["--model", "m.gguf", "--prompt", "a", "--top-p", "2"], "top_p is 2");
    refused(1, &["--model", "m.gguf", "--prompt", "a", "--max-new-tokens", "0"], "max_new_tokens");
    refused(2, &["--model", "m.gguf", "--prompt", "a", "--num-beams", "2", "--top-k", "3"], "cannot be used with");
    refused(2, &["--model", "m.gguf", "--prompt", "a", "--device", "abacus"], "device");
}
