//! Tokenizers of models that write, from Hugging Face directories.

use super::{files, model, says};
use adamix::data::gguf;
use adamix::data::text::TextCodec;
use adamix::tensor::gguf::GgufFile;
use std::path::Path;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/tokenizer/roberta");

/// A directory in GPT-2's layout: the golden vocabulary with `<|endoftext|>` in the place of `<s>`.
fn gpt2(dir: &Path) {
    let vocab = std::fs::read_to_string(Path::new(GOLDEN).join("vocab.json")).unwrap();
    std::fs::write(dir.join("vocab.json"), vocab.replacen("\"<s>\"", "\"<|endoftext|>\"", 1)).unwrap();
    std::fs::copy(Path::new(GOLDEN).join("merges.txt"), dir.join("merges.txt")).unwrap();
    std::fs::write(dir.join("config.json"), r#"{"bos_token_id": 0, "eos_token_id": 0}"#).unwrap();
}

#[test]
fn gpt2_from_its_older_files() {
    let dir = tempfile::tempdir().unwrap();
    gpt2(dir.path());
    let codec = TextCodec::open(dir.path()).unwrap();
    assert_eq!(
        (codec.specials.bos, codec.specials.eos, &codec.specials.stops[..], codec.add_bos()),
        (Some(0), Some(0), &[0][..], false)
    );
    assert_eq!(codec.specials.chat_template.as_deref(), None);
    let text = "A good film<|endoftext|> isn't";
    let ids = codec.encode(text).unwrap();
    assert!(ids.contains(&0));
    assert_eq!(codec.decode(&ids).unwrap(), text);
    assert_eq!(codec.decode_plain(&ids).unwrap(), "A good film isn't");
    let pieces: String = ids.iter().map(|&id| codec.piece(id)).collect();
    assert_eq!(pieces, text);
    assert!(codec.is_special(0) && !codec.is_special(30));
    // Bytes of a character that is no token of its own.
    let bytes: Vec<String> = codec.encode("日").unwrap().iter().map(|&id| codec.piece(id)).collect();
    assert_eq!(bytes, ["<0xE6>", "<0x97>", "<0xA5>"]);
    assert_eq!(codec.piece(1_000_000), "<1000000>");
    assert_eq!(codec.max_id(), 459);
}

#[test]
fn what_the_other_files_say() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    gpt2(dir.path());
    write("special_tokens_map.json", r#"{"bos_token": {"content": "<pad>"}, "eos_token": "<unk>"}"#);
    write(
        "tokenizer_config.json",
        r#"{"eos_token": {"content": "</s>"}, "add_bos_token": true, "chat_template": [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}]}"#,
    );
    write("generation_config.json", r#"{"eos_token_id": [3, 0]}"#);
    let codec = TextCodec::open(dir.path()).unwrap();
    assert_eq!((codec.specials.bos, codec.specials.eos), (Some(1), Some(2)));
    assert_eq!(codec.specials.stops, [3, 0, 2]);
    assert!(codec.add_bos());
    assert_eq!(codec.specials.chat_template.as_deref(), Some("D"));
    write("tokenizer_config.json", r#"{"eos_token": "</s>", "chat_template": "S"}"#);
    assert_eq!(TextCodec::open(dir.path()).unwrap().specials.chat_template.as_deref(), Some("S"));
    write("chat_template.jinja", "J");
    assert_eq!(TextCodec::open(dir.path()).unwrap().specials.chat_template.as_deref(), Some("J"));
    write("tokenizer_config.json", r#"{"eos_token": "<|no such|>"}"#);
    says(&TextCodec::open(dir.path()).unwrap_err(), &["eos_token is \"<|no such|>\"", "not in the vocabulary"]);
    write("tokenizer_config.json", "{");
    says(&TextCodec::open(dir.path()).unwrap_err(), &["not JSON", "tokenizer_config.json"]);
}

#[test]
fn a_start_token_that_the_tokenizer_adds_is_noticed_and_taken_off() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["vocab.json", "merges.txt"] {
        std::fs::copy(Path::new(GOLDEN).join(name), dir.path().join(name)).unwrap();
    }
    std::fs::write(dir.path().join("special_tokens_map.json"), r#"{"bos_token": "<s>", "eos_token": "</s>"}"#).unwrap();
    let codec = TextCodec::open(dir.path()).unwrap();
    assert!(codec.add_bos());
    assert!(!codec.encode("film").unwrap().contains(&0), "layouts put the start token, the tokenizer does not");
}

#[test]
fn models_that_are_not_there() {
    says(&TextCodec::open(Path::new("/no/such/model")).unwrap_err(), &["no such model", "GGUF", "/no/such/model"]);
    let dir = tempfile::tempdir().unwrap();
    says(&TextCodec::open(dir.path()).unwrap_err(), &["no tokenizer found"]);
    let path = model(dir.path(), &files::chatml("T"));
    let codec = TextCodec::open(&path).unwrap();
    assert_eq!(codec.specials.chat_template.as_deref(), Some("T"), "a GGUF file is known by its contents");
    let (tokenizer, _) = gguf::tokenizer(&GgufFile::open(&path).unwrap()).unwrap();
    std::fs::write(dir.path().join("tokenizer.json"), tokenizer.to_string(false).unwrap()).unwrap();
    std::fs::remove_file(path).unwrap();
    let again = TextCodec::open(dir.path()).unwrap();
    assert_eq!(again.encode("A film <|im_end|> 日").unwrap(), codec.encode("A film <|im_end|> 日").unwrap());
}
