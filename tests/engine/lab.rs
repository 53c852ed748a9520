//! The bundled models: their files, and the programs that make them.

use adamix::data::lab;
use adamix::model::ModelSource;
use adamix::tensor::{DType, Device};
use std::path::Path;

#[path = "../../examples/make_lab/head.rs"]
#[expect(dead_code, reason = "the loop that uses the rest is not part of this binary")]
mod head;
#[path = "../../examples/pretraining/text.rs"]
#[expect(dead_code, reason = "only the sentence splitter is tested here")]
mod text;
mod writer;

fn asset(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/lab").join(name)).unwrap()
}

#[test]
fn the_encoder_loads_and_is_as_small_as_stated() {
    assert!(asset("model.safetensors").len() <= 5_000_000, "weights of at most 5 MB");
    let source = ModelSource::open("lab").unwrap();
    let spec = &source.spec;
    assert_eq!((spec.num_layers, spec.hidden_size, spec.num_heads, spec.intermediate_size), (4, 128, 4, 512));
    assert_eq!((spec.vocab_size, spec.max_positions, spec.type_vocab_size), (8192, 128, 2));
    let word = source.weights.get("embeddings.word_embeddings.weight", &[8192, 128], DType::F32, &Device::Cpu).unwrap();
    // trained weights, not the N(0, 0.02) they started from
    let square = word
        .sqr()
        .unwrap()
        .mean_keepdim((0, 1))
        .unwrap()
        .flatten_all()
        .unwrap()
        .get(0)
        .unwrap()
        .to_scalar::<f32>()
        .unwrap();
    assert!(square.sqrt() > 0.03, "root mean square of the word table {}", square.sqrt());
    assert!(source.weights.has("pooler.dense.weight"), "the head needs a pooler to start from");
}

#[test]
fn the_tokenizer_frames_splits_and_joins() {
    let tokenizer = tokenizers::Tokenizer::from_bytes(lab::TOKENIZER_JSON).unwrap();
    assert_eq!(tokenizer.get_vocab_size(true), 8192);
    for (id, token) in ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].into_iter().enumerate() {
        assert_eq!(tokenizer.token_to_id(token), Some(id as u32), "{token}");
    }
    let text = "A Charming, if predictable, comedy; it doesn't overstay its welcome.";
    let encoded = tokenizer.encode(text, true).unwrap();
    let ids = encoded.get_ids();
    assert_eq!((ids.first(), ids.last()), (Some(&2), Some(&3)), "[CLS] ... [SEP]");
    assert!(ids.len() < 30 && !ids.contains(&1), "no unknown piece in {:?}", encoded.get_tokens());
    let joined = tokenizer.decode(ids, true).unwrap();
    let letters = |text: &str| text.to_lowercase().split_whitespace().collect::<String>();
    assert_eq!(letters(&joined), letters(text));
    let pair = tokenizer.encode(("a film", "another"), true).unwrap();
    assert_eq!(pair.get_type_ids().last(), Some(&1), "the second text is segment 1");
    let unknown = tokenizer.encode("\u{1f600}", true).unwrap();
    assert_eq!(unknown.get_ids(), [2, 1, 3], "negative control: what it cannot spell is [UNK]");
}

#[test]
fn the_provenance_names_the_weights_beside_it() {
    use sha2::{Digest as _, Sha256};
    let note = String::from_utf8(asset("PROVENANCE.md")).unwrap();
    for name in ["model.safetensors", "tokenizer.json"] {
        let hash: String = Sha256::digest(asset(name)).iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(note.contains(&hash), "{name} has SHA-256 {hash}");
    }
}
