//! Tiny GGUF files, right and wrong ones.

use serde_json::Value as Json;
use std::path::Path;

/// A value of the metadata.
#[derive(Clone)]
pub enum Value {
    U32(u32),
    U64(u64),
    Bool(bool),
    Text(String),
    Texts(Vec<String>),
    F32s(Vec<f32>),
    I32s(Vec<i32>),
    /// Kind and bytes as they are to stand in the file.
    Raw(u32, Vec<u8>),
}

/// Metadata in order.
pub type Entries = Vec<(String, Value)>;

pub fn text(value: &str) -> Value {
    Value::Text(value.to_owned())
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

fn put_array<T>(out: &mut Vec<u8>, kind: u32, items: &[T], put: impl Fn(&mut Vec<u8>, &T)) {
    out.extend(kind.to_le_bytes());
    out.extend((items.len() as u64).to_le_bytes());
    items.iter().for_each(|item| put(out, item));
}

fn put_entry(out: &mut Vec<u8>, key: &str, value: &Value) {
    put_text(out, key);
    let kind: u32 = match value {
        Value::U32(_) => 4,
        Value::U64(_) => 10,
        Value::Bool(_) => 7,
        Value::Text(_) => 8,
        Value::Texts(_) | Value::F32s(_) | Value::I32s(_) => 9,
        Value::Raw(kind, _) => *kind,
    };
    out.extend(kind.to_le_bytes());
    match value {
        Value::U32(number) => out.extend(number.to_le_bytes()),
        Value::U64(number) => out.extend(number.to_le_bytes()),
        Value::Bool(value) => out.push(u8::from(*value)),
        Value::Text(text) => put_text(out, text),
        Value::Texts(texts) => put_array(out, 8, texts, |out, text| put_text(out, text)),
        Value::F32s(numbers) => put_array(out, 6, numbers, |out, number| out.extend(number.to_le_bytes())),
        Value::I32s(numbers) => put_array(out, 5, numbers, |out, number| out.extend(number.to_le_bytes())),
        Value::Raw(_, bytes) => out.extend(bytes),
    }
}

/// A tensor of f32 for the list: name, sizes in the order of the file, offset into the data.
pub struct Tensor {
    pub name: &'static str,
    pub sizes: Vec<u64>,
    pub dtype: u32,
    pub offset: u64,
}

/// A whole file of version 3 with `data` bytes of tensors after its header.
pub fn file(entries: &Entries, tensors: &[Tensor], data: usize) -> Vec<u8> {
    let mut out = b"GGUF\x03\0\0\0".to_vec();
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend((entries.len() as u64).to_le_bytes());
    entries.iter().for_each(|(key, value)| put_entry(&mut out, key, value));
    for tensor in tensors {
        put_text(&mut out, tensor.name);
        out.extend((tensor.sizes.len() as u32).to_le_bytes());
        tensor.sizes.iter().for_each(|size| out.extend(size.to_le_bytes()));
        out.extend(tensor.dtype.to_le_bytes());
        out.extend(tensor.offset.to_le_bytes());
    }
    if data > 0 {
        out.resize(out.len().next_multiple_of(32) + data, 0);
    }
    out
}

/// A number of four bytes.
pub fn number(value: f32) -> Value {
    Value::Raw(6, value.to_le_bytes().to_vec())
}

/// A tensor with its bytes: name, sizes in the order of PyTorch, number of its type.
pub struct Stored {
    pub name: String,
    pub shape: Vec<u64>,
    pub dtype: u32,
    pub bytes: Vec<u8>,
}

/// A whole file with tensors.
pub fn file_of(entries: &Entries, stored: &[Stored]) -> Vec<u8> {
    let mut out = b"GGUF\x03\0\0\0".to_vec();
    out.extend((stored.len() as u64).to_le_bytes());
    out.extend((entries.len() as u64).to_le_bytes());
    entries.iter().for_each(|(key, value)| put_entry(&mut out, key, value));
    let mut offset = 0u64;
    for tensor in stored {
        put_text(&mut out, &tensor.name);
        out.extend((tensor.shape.len() as u32).to_le_bytes());
        tensor.shape.iter().rev().for_each(|size| out.extend(size.to_le_bytes()));
        out.extend(tensor.dtype.to_le_bytes());
        out.extend(offset.to_le_bytes());
        offset = (offset + tensor.bytes.len() as u64).next_multiple_of(32);
    }
    for tensor in stored {
        out.resize(out.len().next_multiple_of(32), 0);
        out.extend(&tensor.bytes);
    }
    out
}

const ROBERTA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/tokenizer/roberta");

/// The metadata of a byte-level tokenizer with the tiny vocabulary of RoBERTa's golden files. `more`: control tokens at
/// the end.
pub fn byte_level(pre: &str, more: &[&str]) -> Entries {
    let vocab: Json = serde_json::from_slice(&std::fs::read(Path::new(ROBERTA).join("vocab.json")).unwrap()).unwrap();
    let mut tokens: Vec<(u64, String)> =
        vocab.as_object().unwrap().iter().map(|(token, id)| (id.as_u64().unwrap(), token.clone())).collect();
    tokens.sort();
    let mut tokens: Vec<String> = tokens.into_iter().map(|(_, token)| token).collect();
    let special = |token: &str| ["<s>", "<pad>", "</s>", "<unk>", "<mask>"].contains(&token);
    let mut types: Vec<i32> = tokens.iter().map(|token| if special(token) { 3 } else { 1 }).collect();
    tokens.extend(more.iter().map(|&token| token.to_owned()));
    types.extend(more.iter().map(|_| 3));
    let merges = std::fs::read_to_string(Path::new(ROBERTA).join("merges.txt")).unwrap();
    let merges = merges.lines().skip(1).filter(|line| !line.is_empty()).map(str::to_owned).collect();
    let entry = |key: &str, value: Value| (format!("tokenizer.ggml.{key}"), value);
    vec![
        ("general.architecture".to_owned(), text("llama")),
        entry("model", text("gpt2")),
        entry("pre", text(pre)),
        entry("tokens", Value::Texts(tokens)),
        entry("token_type", Value::I32s(types)),
        entry("merges", Value::Texts(merges)),
    ]
}

/// [`byte_level`] with ChatML's tokens, start and end token and a chat template.
pub fn chatml(template: &str) -> Entries {
    let mut entries = byte_level("smollm", &["<|im_start|>", "<|im_end|>"]);
    let Some((_, Value::Texts(tokens))) = entries.iter().find(|(key, _)| key == "tokenizer.ggml.tokens") else {
        panic!("no tokens")
    };
    let id = |token: &str| tokens.iter().position(|known| known == token).unwrap() as u32;
    let (bos, eos) = (id("<|im_start|>"), id("<|im_end|>"));
    entries.extend([
        ("tokenizer.ggml.bos_token_id".to_owned(), Value::U32(bos)),
        ("tokenizer.ggml.eos_token_id".to_owned(), Value::U32(eos)),
        ("tokenizer.chat_template".to_owned(), text(template)),
    ]);
    entries
}
