//! What the preview tells.

use super::{codec, data, dir};
use adamix::config::{BadRows, DataConfig, TextConfig, TextFormat};
use adamix::data::text::{TextPreview, preview};

const TRAIN: &str = "prompt,completion\nthe film,is good\nthe film,is good\nthe plot,is bad\nbroken\n";
const DEV: &str = "prompt,completion\nthe film,is good\nthe film,is long\nthe music,is loud\n";

fn look(train: &str, dev: &str, change: impl Fn(&mut DataConfig)) -> TextPreview {
    let dir = dir(&[("train.csv", train), ("dev.csv", dev)]);
    let mut data = data(dir.path(), "train.csv", "dev.csv");
    change(&mut data);
    preview(&data, &TextConfig::default(), &codec(), 9).unwrap()
}

#[test]
fn every_token_with_its_id_and_whether_it_is_learned() {
    let found = look(TRAIN, DEV, |_| {});
    assert_eq!((found.format, found.layout.as_str()), (TextFormat::Completion, "prompt and completion as they stand"));
    assert_eq!((found.bos.as_deref(), found.eos.as_deref()), (Some("<|im_start|>"), Some("<|im_end|>")));
    assert_eq!(found.train.sample.len(), 3);
    let sample = &found.train.sample[0];
    assert_eq!(sample.line, 2);
    let text = |learned: bool| -> String {
        sample.tokens.iter().filter(|token| token.learned == learned).map(|token| token.text.as_str()).collect()
    };
    assert_eq!((text(false), text(true)), ("the film".to_owned(), "is good<|im_end|>".to_owned()));
    let codec = codec();
    let ids: Vec<u32> = sample.tokens.iter().map(|token| token.id).collect();
    assert_eq!(codec.decode(&ids).unwrap(), "the filmis good<|im_end|>");
    assert_eq!(sample.tokens.last().map(|token| token.special), Some(true));
    let json = serde_json::to_string(&found).unwrap();
    assert_eq!(serde_json::from_str::<TextPreview>(&json).unwrap(), found);
}

#[test]
fn duplicates_leaks_and_bad_rows_are_counted() {
    let found = look(TRAIN, DEV, |_| {});
    assert_eq!((found.duplicates_in_train, found.leaks, found.shared_inputs), (1, 1, 1));
    assert_eq!(found.leak_examples, ["the film | is good"]);
    assert_eq!((found.skipped.len(), found.skipped[0].line, found.refused), (1, 5, true));
    assert!(!look(TRAIN, DEV, |data| data.bad_rows = BadRows::Skip).refused);
    assert_eq!((found.train.examples, found.train.inputs, found.dev.inputs), (3, 2, 2));
}

#[test]
fn tokens_are_counted_before_and_after_cutting() {
    let whole = look(TRAIN, DEV, |_| {});
    let split = &whole.train;
    assert_eq!((split.measured, split.cut_tokens, split.truncated, split.unlearned), (3, 0, 0, 0));
    assert_eq!(split.tokens, split.sample.iter().map(|sample| sample.tokens.len()).sum::<usize>());
    let most = split.lengths.min;
    let cut = look(TRAIN, DEV, |data| data.max_length = most - 1);
    assert_eq!(cut.train.tokens, split.tokens);
    assert_eq!(cut.train.truncated, 3);
    assert_eq!(cut.train.cut_tokens, split.tokens - 3 * (most - 1));
    assert!((cut.train.cut_share - cut.train.cut_tokens as f64 / split.tokens as f64).abs() < 1e-12);
    assert_eq!(cut.train.learned_tokens, split.learned_tokens - cut.train.cut_tokens);
    let none = look(TRAIN, DEV, |data| data.max_length = 2);
    assert_eq!(none.train.unlearned, 3, "two tokens do not reach the answers");
    assert!(none.train.sample.is_empty());
}

#[test]
fn a_held_out_part_is_said_to_be_one() {
    let found = look(TRAIN, DEV, |data| (data.dev_file, data.dev_fraction) = (String::new(), 0.4));
    assert!(found.held_out);
    assert_eq!((found.leaks, found.shared_inputs), (0, 0));
    assert_eq!(found.train.examples + found.dev.examples, 3);
}
