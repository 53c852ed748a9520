//! Tokenizers against transformers (golden values written by `tests/golden/tokenizer_pairs.py`).

use super::{assert_says, files};
use adamix::data::TextTokenizer;
use std::path::{Path, PathBuf};

fn golden_dir(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tokenizer").join(name)
}

#[test]
fn encodings_equal_those_of_transformers() {
    let golden: serde_json::Value = serde_json::from_str(include_str!("../../golden/tokenizer/pairs.json")).unwrap();
    // The cased variant is the same vocabulary under another tokenizer_config.json.
    let cased = tempfile::tempdir().unwrap();
    std::fs::copy(golden_dir("bert").join("vocab.txt"), cased.path().join("vocab.txt")).unwrap();
    std::fs::write(cased.path().join("tokenizer_config.json"), "{\"do_lower_case\": false}").unwrap();
    let tokenizers = [
        ("bert", TextTokenizer::from_file(&golden_dir("bert")).unwrap()),
        ("bert_cased", TextTokenizer::from_file(cased.path()).unwrap()),
        ("roberta", TextTokenizer::from_file(&golden_dir("roberta")).unwrap()),
    ];
    let cases = golden["cases"].as_array().unwrap();
    let mut truncated = 0;
    for (name, tokenizer) in &tokenizers {
        for case in cases {
            let length = case["max_length"].as_u64().unwrap() as usize;
            let found = tokenizer.encode(case["text"].as_str().unwrap(), case["pair"].as_str(), length).unwrap();
            let expected = &case[*name];
            assert_eq!(serde_json::json!(found.ids), expected["ids"], "{name}: {} | {}", case["text"], case["pair"]);
            assert_eq!(serde_json::json!(found.type_ids), expected["type_ids"], "{name}: {}", case["text"]);
            let whole = tokenizer.encode(case["text"].as_str().unwrap(), case["pair"].as_str(), usize::MAX).unwrap();
            assert_eq!(found.truncated, whole.ids.len() > length);
            truncated += usize::from(found.truncated);
        }
    }
    assert!(truncated > 40, "the golden cases must exercise truncation ({truncated})");
    // Negative control: the two BERT variants differ on upper case.
    let upper = |index: usize| tokenizers[index].1.encode("UPPER", None, 9).unwrap().ids;
    assert_ne!(upper(0), upper(1));
}

#[test]
fn spaces_before_a_mask_belong_to_it_only_where_the_files_say_so() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["vocab.json", "merges.txt"] {
        std::fs::copy(golden_dir("roberta").join(name), dir.path().join(name)).unwrap();
    }
    let tokens = |tokenizer: TextTokenizer| tokenizer.tokens(&tokenizer.encode("a <mask>", None, 9).unwrap().ids);
    let plain = tokens(TextTokenizer::from_file(dir.path()).unwrap());
    assert_eq!(plain, ["<s>", "a", "\u{120}", "<mask>", "</s>"]);
    let config = r#"{"mask_token": {"content": "<mask>", "lstrip": true}}"#;
    std::fs::write(dir.path().join("tokenizer_config.json"), config).unwrap();
    assert_eq!(tokens(TextTokenizer::from_file(dir.path()).unwrap()), ["<s>", "a", "<mask>", "</s>"]);
}

#[test]
fn truncation_and_padding_inside_a_tokenizer_file_are_ignored() {
    let plain = TextTokenizer::lab().unwrap();
    let mut json: serde_json::Value = serde_json::from_slice(adamix::data::lab::TOKENIZER_JSON).unwrap();
    json["truncation"] =
        serde_json::json!({ "direction": "Right", "max_length": 6, "strategy": "LongestFirst", "stride": 0 });
    json["padding"] = serde_json::json!({
        "strategy": { "Fixed": 128 }, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]",
    });
    let dressed = TextTokenizer::from_bytes(json.to_string().as_bytes()).unwrap();
    let text = "a sentence of more than six tokens , surely";
    let (found, expected) = (dressed.encode(text, None, 128).unwrap(), plain.encode(text, None, 128).unwrap());
    assert!(expected.ids.len() > 6 && expected.ids.len() < 128);
    assert_eq!(found, expected);
}

#[test]
fn tokenizer_files_that_cannot_be_used() {
    let says = |contents: &[(&str, &[u8])], parts: &[&str]| {
        let dir = files(contents);
        let message = TextTokenizer::from_file(dir.path()).unwrap_err().to_string();
        assert_says(&message, parts);
    };
    says(&[], &["no tokenizer found", "tokenizer.json"]);
    says(&[("tokenizer.json", b"{}")], &["not a tokenizer", "tokenizer.json"]);
    says(&[("vocab.txt", b"a\nb\n")], &["no token \"[PAD]\"", "vocab.txt"]);
    says(&[("vocab.json", b"{\"a\": 0}"), ("merges.txt", b"")], &["no token \"<s>\"", "vocab.json"]);
    says(&[("vocab.txt", b"\xff\xfe")], &["not UTF-8"]);
    assert!(TextTokenizer::from_bytes(b"not json").is_err());
}

#[test]
fn vocabulary_files_of_another_tokenizer_are_refused_by_name() {
    let refusal = |config: &str, from: &str| {
        let dir = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(golden_dir(from)).unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
        }
        std::fs::write(dir.path().join("tokenizer_config.json"), config).unwrap();
        std::fs::remove_file(dir.path().join("tokenizer.json")).ok();
        TextTokenizer::from_file(dir.path()).map(drop).map_err(|err| err.to_string())
    };
    // It cuts sentences with MeCab before the word pieces.
    let japanese = r#"{"tokenizer_class": "BertJapaneseTokenizer", "word_tokenizer_type": "mecab"}"#;
    assert_says(&refusal(japanese, "bert").unwrap_err(), &["BertJapaneseTokenizer", "tokenizer.json"]);
    assert_says(&refusal(r#"{"word_tokenizer_type": "mecab"}"#, "bert").unwrap_err(), &["\"mecab\"", "tokenizer.json"]);
    assert_says(&refusal(r#"{"tokenizer_class": "Qwen2Tokenizer"}"#, "roberta").unwrap_err(), &["Qwen2Tokenizer"]);
    for (class, from) in
        [("BertTokenizerFast", "bert"), ("DistilBertTokenizer", "bert"), ("RobertaTokenizer", "roberta")]
    {
        assert_eq!(refusal(&format!("{{\"tokenizer_class\": \"{class}\"}}"), from), Ok(()));
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("tokenizer.model"), "x").unwrap();
    let message = TextTokenizer::from_file(dir.path()).unwrap_err().to_string();
    assert_says(&message, &["only tokenizer.model", "SentencePiece", "save_pretrained"]);
}
