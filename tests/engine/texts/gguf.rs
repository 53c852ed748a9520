//! Tokenizers out of GGUF files against golden encodings, and files that lie.

use super::{codec_of, files, says};
use crate::support::gguf::{Entries, Tensor, Value, text};
use adamix::error::Error;
use adamix::tensor::gguf::{GgufFile, GgufValue, is_gguf};
use candle_core::quantized::gguf_file::Content;
use serde_json::Value as Json;
use std::path::PathBuf;
use tempfile::TempDir;

fn golden() -> Json {
    serde_json::from_str(include_str!("../../golden/gguf_tokenizers.json")).unwrap()
}

fn ids(list: &Json) -> Vec<u32> {
    list.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

fn texts(golden: &Json) -> Vec<String> {
    golden["texts"].as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

/// The metadata of the golden SentencePiece vocabulary.
pub fn sentence_piece(prefix: bool, types: bool) -> Entries {
    let golden = &golden()["sentence_piece"];
    let list = |key: &str| golden[key].as_array().unwrap().clone();
    let entry = |key: &str, value: Value| (format!("tokenizer.ggml.{key}"), value);
    let mut entries = vec![
        entry("model", text("llama")),
        entry("tokens", Value::Texts(list("tokens").iter().map(|token| token.as_str().unwrap().to_owned()).collect())),
        entry("scores", Value::F32s(list("scores").iter().map(|score| score.as_f64().unwrap() as f32).collect())),
        entry("bos_token_id", Value::U32(1)),
        entry("eos_token_id", Value::U32(2)),
        entry("unknown_token_id", Value::U32(0)),
    ];
    if types {
        entries.push(entry("token_type", Value::I32s(ids(&golden["types"]).iter().map(|&id| id as i32).collect())));
    }
    if !prefix {
        entries.push(entry("add_space_prefix", Value::Bool(false)));
    }
    entries
}

#[test]
fn byte_level_tokenizers_encode_as_their_kind_does() {
    let golden = golden();
    for kind in ["gpt-2", "smollm", "llama-bpe", "qwen2", "default"] {
        let codec = codec_of(&files::byte_level(kind, &[])).unwrap();
        for (text, expected) in texts(&golden).iter().zip(golden["byte_level"][kind].as_array().unwrap()) {
            let found = codec.encode(text).unwrap();
            assert_eq!(found, ids(expected), "{kind} {text:?}");
            if kind != "qwen2" {
                assert_eq!(&codec.decode(&found).unwrap(), text, "{kind}");
            }
        }
        assert_eq!(codec.specials.eos, None);
    }
    // A file from before the kinds had names.
    let mut old = files::byte_level("", &[]);
    old.retain(|(key, _)| key != "tokenizer.ggml.pre");
    let codec = codec_of(&old).unwrap();
    assert_eq!(codec.encode(&texts(&golden)[3]).unwrap(), ids(&golden["byte_level"]["default"][3]));
}

#[test]
fn sentence_piece_tokenizers_join_the_best_scored_pair() {
    let golden = golden();
    for (prefix, key) in [(true, "prefix"), (false, "no_prefix")] {
        let codec = codec_of(&sentence_piece(prefix, true)).unwrap();
        assert!(codec.add_bos());
        for (text, expected) in texts(&golden).iter().zip(golden["sentence_piece"][key].as_array().unwrap()) {
            let found = codec.encode(text).unwrap();
            assert_eq!(found, ids(expected), "{key} {text:?}");
        }
        let plain = "Größe, 日本語 isn't\nit?";
        assert_eq!(codec.decode(&codec.encode(plain).unwrap()).unwrap(), plain);
    }
    // Without types only the tokens with a purpose are special.
    let untyped = codec_of(&sentence_piece(true, false)).unwrap();
    let text = "a film</s> and 日";
    let typed = codec_of(&sentence_piece(true, true)).unwrap();
    assert_eq!(untyped.encode(text).unwrap(), typed.encode(text).unwrap());
}

#[test]
fn start_and_end_tokens_and_the_template() {
    let codec = codec_of(&files::chatml("T {{ x }}")).unwrap();
    assert_eq!(codec.token(codec.specials.bos.unwrap()), "<|im_start|>");
    assert_eq!(codec.token(codec.specials.eos.unwrap()), "<|im_end|>");
    assert_eq!(codec.specials.chat_template.as_deref(), Some("T {{ x }}"));
    assert!(!codec.add_bos());
    let mut entries = files::chatml("");
    entries.push(("tokenizer.ggml.add_bos_token".to_owned(), Value::Bool(true)));
    entries.push(("tokenizer.ggml.eot_token_id".to_owned(), Value::U32(2)));
    let codec = codec_of(&entries).unwrap();
    assert!(codec.add_bos());
    assert_eq!(codec.specials.stops, [codec.specials.eos.unwrap(), 2]);
    // Llama 3's kind has a start token unless the file says otherwise.
    let mut llama = files::byte_level("llama-bpe", &[]);
    llama.push(("tokenizer.ggml.bos_token_id".to_owned(), Value::U32(0)));
    assert!(codec_of(&llama).unwrap().add_bos());
}

fn written(bytes: &[u8]) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    std::fs::write(&path, bytes).unwrap();
    (dir, path)
}

fn refusal(bytes: &[u8]) -> Error {
    let (_dir, path) = written(bytes);
    let err = GgufFile::open(&path).unwrap_err();
    says(&err, &["the GGUF file cannot be used", "m.gguf"]);
    err
}

#[test]
fn the_header_is_what_candle_reads() {
    let entries = files::chatml("T");
    let tensors = [
        Tensor { name: "a", sizes: vec![4, 2], dtype: 0, offset: 0 },
        Tensor { name: "b", sizes: vec![32], dtype: 8, offset: 32 },
    ];
    let bytes = files::file(&entries, &tensors, 66);
    let (_dir, path) = written(&bytes);
    assert!(is_gguf(&path).unwrap());
    let header = GgufFile::open(&path).unwrap();
    let content = Content::read(&mut std::io::Cursor::new(&bytes)).unwrap();
    assert_eq!(header.metadata.len(), content.metadata.len());
    assert_eq!(header.str("general.architecture"), Some("llama"));
    let tokens = header.strings("tokenizer.ggml.tokens").unwrap();
    let theirs = content.metadata["tokenizer.ggml.tokens"].to_vec().unwrap();
    assert!(tokens.iter().zip(theirs).all(|(ours, theirs)| ours == theirs.to_string().unwrap()));
    assert_eq!(tokens.len(), theirs.len());
    let eos = u64::from(content.metadata["tokenizer.ggml.eos_token_id"].to_u32().unwrap());
    assert_eq!(header.uint("tokenizer.ggml.eos_token_id"), Some(eos));
    for (name, bytes) in [("a", 32), ("b", 34)] {
        let (ours, theirs) = (&header.tensors[name], &content.tensor_infos[name]);
        assert_eq!(ours.shape.iter().map(|&size| size as usize).collect::<Vec<_>>(), theirs.shape.dims());
        assert_eq!((ours.offset, ours.bytes), (content.tensor_data_offset + theirs.offset, bytes));
    }
}

#[test]
fn a_file_cut_off_anywhere_is_an_error() {
    let tensors = [Tensor { name: "a", sizes: vec![4, 2], dtype: 0, offset: 0 }];
    let entries: Entries =
        vec![("k".to_owned(), text("v")), ("l".to_owned(), Value::Texts(vec!["x".to_owned(), "y".to_owned()]))];
    let bytes = files::file(&entries, &tensors, 32);
    let (_dir, path) = written(&bytes);
    GgufFile::open(&path).unwrap();
    for length in 0..bytes.len() {
        refusal(&bytes[..length]);
    }
    says(&refusal(&bytes[..bytes.len() - 1]), &["does not lie inside the file", "cut off"]);
}

/// The bytes of a list: kind of its values, announced count, what follows.
fn list(kind: u32, count: u64, bytes: &[u8]) -> Value {
    Value::Raw(9, [&kind.to_le_bytes()[..], &count.to_le_bytes(), bytes].concat())
}

#[test]
fn sizes_that_lie_are_refused_before_anything_is_allocated() {
    let header = |tensors: u64, entries: u64| {
        [&b"GGUF\x03\0\0\0"[..], &tensors.to_le_bytes(), &entries.to_le_bytes(), &[0; 64]].concat()
    };
    says(&refusal(&header(u64::MAX, 0)), &["announces 18446744073709551615 tensors", "64 bytes are left"]);
    says(&refusal(&header(0, 1 << 40)), &["entries of metadata"]);
    let with = |value: Value| refusal(&files::file(&vec![("key".to_owned(), value)], &[], 0));
    says(&with(list(8, u64::MAX / 8, &[0; 16])), &["metadata \"key\"", "values in a list"]);
    says(&with(list(4, 1 << 33, &[0; 16])), &["8589934592 values", "16 bytes are left"]);
    says(&with(Value::Raw(8, [&(1u64 << 60).to_le_bytes()[..], b"abc"].concat())), &["bytes of a text"]);
    says(&with(Value::Raw(99, vec![0; 8])), &["unknown kind 99"]);
    says(&with(list(99, 1, &[0; 8])), &["unknown kind 99"]);
    says(&with(Value::Raw(7, vec![3])), &["neither 0 nor 1"]);
    // Lists in lists in lists, and a list of many one-byte numbers: each would become many bytes in memory.
    let nested = (0..40).fold(list(0, 1, &[7]), |inner, _| {
        let Value::Raw(_, inner) = inner else { panic!("a raw value") };
        list(9, 1, &inner)
    });
    says(&with(nested), &["inside each other"]);
    says(&with(list(0, 9 << 20, &vec![0; 9 << 20])), &["more than 8388608 values"]);
    let tensor = |sizes: &[u64], dtype: u32, offset: u64| {
        refusal(&files::file(&Vec::new(), &[Tensor { name: "t", sizes: sizes.to_vec(), dtype, offset }], 64))
    };
    says(&tensor(&[1 << 40, 1 << 40], 0, 0), &["tensor \"t\"", "impossible"]);
    says(&tensor(&[1 << 40], 0, 0), &["does not lie inside the file"]);
    says(&tensor(&[4], 0, u64::MAX - 31), &["does not lie inside the file"]);
    says(&tensor(&[4], 0, 8), &["does not lie inside the file"]);
    says(&tensor(&[33], 8, 0), &["impossible"]);
    says(&tensor(&[4], 77, 0), &["type 77 is unknown"]);
    says(&tensor(&[], 0, 0), &["0 dimensions"]);
    says(&tensor(&[1; 9], 0, 0), &["9 dimensions"]);
    for alignment in [0, 3, 1 << 30] {
        let entries = vec![("general.alignment".to_owned(), Value::U32(alignment))];
        says(&refusal(&files::file(&entries, &[], 0)), &["general.alignment", "power of two"]);
    }
}

#[test]
fn other_files_are_told_apart() {
    says(&refusal(b"PK\x03\x04 something else entirely"), &["does not start with GGUF"]);
    for (version, part) in [(1u32, "version 1"), (9, "version 9"), (3 << 24, "big-endian")] {
        says(&refusal(&[&b"GGUF"[..], &version.to_le_bytes(), &[0; 32]].concat()), &[part]);
    }
    let twice = vec![("k".to_owned(), Value::U64(1)), ("k".to_owned(), Value::U64(2))];
    says(&refusal(&files::file(&twice, &[], 0)), &["\"k\" is there twice"]);
    let (_dir, path) = written(b"GG");
    assert!(!is_gguf(&path).unwrap());
    let (_dir, path) = written(&files::file(&vec![("k".to_owned(), Value::U64(u64::MAX))], &[], 0));
    let header = GgufFile::open(&path).unwrap();
    assert_eq!(header.metadata["k"], GgufValue::Int(i128::from(u64::MAX)));
}

#[test]
fn tokenizers_that_cannot_be_rebuilt() {
    let refused = |change: &dyn Fn(&mut Entries)| {
        let mut entries = files::chatml("");
        change(&mut entries);
        let err = codec_of(&entries).unwrap_err();
        says(&err, &["the tokenizer of the GGUF file cannot be used", "model.bin"]);
        err
    };
    let set = |entries: &mut Entries, key: &str, value: Value| {
        let key = format!("tokenizer.ggml.{key}");
        entries.retain(|(known, _)| *known != key);
        entries.push((key, value));
    };
    let words = |words: &[&str]| Value::Texts(words.iter().map(|&word| word.to_owned()).collect());
    says(&refused(&|entries| entries.retain(|(key, _)| key != "tokenizer.ggml.model")), &["brings none"]);
    says(&refused(&|entries| set(entries, "model", text("rwkv"))), &["\"rwkv\"", "gpt2 and llama", "Hugging Face"]);
    says(&refused(&|entries| set(entries, "pre", text("tekken"))), &["\"tekken\"", "qwen2"]);
    says(&refused(&|entries| set(entries, "tokens", words(&[]))), &["no tokens"]);
    says(&refused(&|entries| set(entries, "tokens", words(&["a", &"b".repeat(5000)]))), &["token 1 has 5000 bytes"]);
    says(&refused(&|entries| set(entries, "token_type", Value::I32s(vec![1, 2]))), &["2 token types"]);
    says(&refused(&|entries| set(entries, "eos_token_id", Value::U32(99_999))), &["eos_token_id is 99999"]);
    says(&refused(&|entries| entries.retain(|(key, _)| key != "tokenizer.ggml.merges")), &["no merges"]);
    says(&refused(&|entries| set(entries, "merges", words(&["a b", "alone"]))), &["merge 1 is \"alone\""]);
    says(&refused(&|entries| set(entries, "merges", words(&["nowhere b"]))), &["do not fit together"]);
    let mut entries = sentence_piece(true, true);
    set(&mut entries, "scores", Value::F32s(vec![0.0]));
    says(&codec_of(&entries).unwrap_err(), &["no score for each token"]);
}
