//! What is learned: the mask against the text it stands for, cutting, batches.

use super::{codec, files, load, load_with, says, shown};
use adamix::config::{DataConfig, TextConfig, TextFormat, Truncate};
use adamix::data::text::{BatchRule, Example, Role, TextCodec, TextEncoder, Turn};
use adamix::rng::{Purpose, SeedStream};

const CHAT: &str = r#"{"messages": [{"role": "user", "content": "a film"}, {"role": "assistant", "content": "is good"}, {"role": "user", "content": "why"}, {"role": "assistant", "content": "because"}]}"#;
const PAIRS: &str = "prompt,completion\nthe film ,is good\nthe plot ,is bad\n";

#[test]
fn what_is_learned_in_each_layout() {
    assert_eq!(
        shown(&load("t.jsonl", CHAT).unwrap(), 0),
        "<|im_start|>user\na film<|im_end|>\n<|im_start|>assistant\n[is good<|im_end|>]\n<|im_start|>user\nwhy<|im_end|>\n<|im_start|>assistant\n[because<|im_end|>]\n"
    );
    let turns = load_with("t.jsonl", CHAT, |_, text| text.template = "none".to_owned()).unwrap();
    assert_eq!(shown(&turns, 0), "a film\n[is good<|im_end|>]why\n[because<|im_end|>]");
    assert_eq!(shown(&load("t.csv", PAIRS).unwrap(), 0), "the film [is good<|im_end|>]");
    // The paper's layout: input, start token, a space and the reference, end token.
    let pipes = "name : A | food : B||A has B . \nname : C||C .\n";
    assert_eq!(shown(&load("t.txt", pipes).unwrap(), 0), "name : A | food : B<|im_start|>[ A has B .<|im_end|>]");
    let modelled = load_with("t.txt", pipes, |_, text| text.template = "model".to_owned()).unwrap();
    assert_eq!(shown(&modelled, 1), "<|im_start|>user\nname : C<|im_end|>\n<|im_start|>assistant\n[C .<|im_end|>]\n");
    // A plain text has nothing before its first token to learn that from.
    assert_eq!(shown(&load("t.jsonl", "{\"text\": \"a film\"}\n{\"text\": \"b\"}").unwrap(), 0), "a[ film<|im_end|>]");
}

#[test]
fn the_prompt_can_be_learned_too() {
    let data = load_with("t.csv", PAIRS, |_, text| text.learn_prompt = true).unwrap();
    let first = &data.train.encoded[0];
    assert_eq!(first.learned(), first.ids.len() - 1);
    assert!(!first.learn[0]);
}

/// Short texts of words, signs, spaces and other scripts.
fn texts(count: usize) -> Vec<String> {
    let parts = ["film", " good", "\n", "  ", "é", "日本", "🙂", ".", "\t", "12", " x_y", "'s", "<b>", "|", "\n\n "];
    let mut stream = SeedStream::new(5).stream(Purpose::Sampling, 0);
    let mut text = || -> String { (0..1 + stream.below(9)).map(|_| parts[stream.below(parts.len())]).collect() };
    (0..count).map(|_| text()).collect()
}

fn encoder(codec: &TextCodec, format: TextFormat, change: impl Fn(&mut DataConfig, &mut TextConfig)) -> TextEncoder {
    let (mut data, mut text) = (DataConfig { max_length: 4096, ..DataConfig::default() }, TextConfig::default());
    change(&mut data, &mut text);
    TextEncoder::new(codec, format, &data, &text).unwrap()
}

#[test]
fn the_learned_tokens_are_the_completion_and_the_tokens_before_are_the_prompt() {
    let codec = codec();
    let texts = texts(400);
    for (format, space) in [(TextFormat::Completion, ""), (TextFormat::E2e, " "), (TextFormat::Messages, "")] {
        let encoder = encoder(&codec, format, |_, _| {});
        for (number, pair) in texts.chunks(2).enumerate() {
            let (prompt, completion) = (format!("q{}", pair[0]), &pair[1]);
            if completion.trim().is_empty() {
                continue;
            }
            let example = Example::pair(prompt.clone(), completion.clone(), 1);
            let encoded = encoder.encode(&example, number).unwrap().remove(0);
            assert_eq!(encoded.example, number);
            let learned: Vec<u32> =
                encoded.ids.iter().zip(&encoded.learn).filter(|(_, learn)| **learn).map(|(&id, _)| id).collect();
            assert_eq!(codec.decode(&learned).unwrap(), format!("{space}{completion}<|im_end|>"), "{prompt:?}");
            // The model is asked with exactly the tokens that stood before the answer.
            let asked = encoder.prompt(&example).unwrap();
            assert_eq!(asked[..], encoded.ids[..asked.len()], "{prompt:?}");
            assert!(!encoded.learn[asked.len() - 1] && encoded.learn[asked.len()]);
            let whole = codec.decode(&encoded.ids).unwrap();
            assert!(whole.contains(&prompt) && whole.contains(completion.as_str()), "{whole:?}");
        }
    }
}

#[test]
fn an_empty_completion_after_cutting_leaves_the_sequence_out() {
    let long = format!("prompt,completion\n{},yes\nshort,no\n", "film ".repeat(60));
    let cut = |truncate, max_length| {
        load_with("t.csv", &long, |data, text| (data.max_length, text.truncate) = (max_length, truncate)).unwrap()
    };
    let whole = cut(Truncate::End, 400);
    assert_eq!((whole.train.len(), whole.train.unlearned), (2, 0));
    let length = whole.train.encoded[0].ids.len();
    let end = cut(Truncate::End, 40);
    assert_eq!((end.train.len(), end.train.unlearned, end.train.examples.len()), (1, 1, 2));
    assert_eq!(shown(&end, 0), "short[no<|im_end|>]");
    let start = cut(Truncate::Start, 40);
    assert_eq!((start.train.len(), start.train.encoded[0].ids.len(), start.train.encoded[0].cut), (2, 40, length - 40));
    assert!(shown(&start, 0).ends_with("[yes<|im_end|>]"));
    let only = format!("prompt,completion\n{},yes\n", "film ".repeat(60));
    let none = load_with("t.csv", &only, |data, _| data.max_length = 40);
    says(&none.unwrap_err(), &["left to learn", "within 40 tokens", "max_length"]);
}

#[test]
fn long_plain_texts_become_pieces_and_every_token_is_learned_once() {
    let text = "a good film and a bad plot . ".repeat(40);
    let contents = format!("{}\n{{\"text\": \"b\"}}\n", serde_json::json!({ "text": text.trim() }));
    let data = load_with("t.jsonl", &contents, |data, _| data.max_length = 33).unwrap();
    let pieces: Vec<_> = data.train.encoded.iter().filter(|piece| piece.example == 0).collect();
    assert!(pieces.len() > 5);
    assert!(pieces.iter().all(|piece| piece.ids.len() <= 33 && piece.cut == 0 && !piece.learn[0]));
    assert!(pieces.iter().all(|piece| piece.learned() == piece.ids.len() - 1));
    for pair in pieces.windows(2) {
        assert_eq!(pair[0].ids.last(), pair[1].ids.first());
    }
    let mut joined = pieces[0].ids.clone();
    pieces[1..].iter().for_each(|piece| joined.extend(&piece.ids[1..]));
    assert_eq!(data.encoder.codec.decode(&joined).unwrap(), format!("{}<|im_end|>", text.trim()));
}

#[test]
fn batches_are_packed_and_their_order_is_a_function_of_the_seed() {
    let rows: String = (0..60).map(|i| format!("question {i} {},answer {i}\n", "x".repeat(i % 13))).collect();
    let data = load("t.csv", &format!("prompt,completion\n{rows}")).unwrap();
    let train = &data.train;
    for rule in [BatchRule::Examples(7), BatchRule::Tokens(120)] {
        let mut order = train.order(SeedStream::new(3), rule);
        let per_epoch = order.batches_in(0);
        let mut seen = Vec::new();
        for index in 0..per_epoch {
            let rows = order.rows(index).to_vec();
            let batch = train.batch(&rows);
            assert_eq!((batch.offsets.len() - 1, batch.rows.clone()), (rows.len(), rows.clone()));
            assert_eq!(batch.offsets.last(), Some(&batch.ids.len()));
            assert_eq!(batch.learn.len(), batch.ids.len());
            for (at, &row) in rows.iter().enumerate() {
                let range = batch.offsets[at]..batch.offsets[at + 1];
                assert_eq!(batch.ids[range.clone()], train.encoded[row].ids);
                assert_eq!(batch.learn[range], train.encoded[row].learn);
            }
            if let BatchRule::Tokens(most) = rule {
                assert!(batch.ids.len() <= most);
            }
            assert_eq!(batch, train.batch(train.order(SeedStream::new(3), rule).rows(index)), "history matters");
            seen.extend(rows);
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..60).collect::<Vec<_>>());
        assert_ne!(train.order(SeedStream::new(4), rule).rows(0), train.order(SeedStream::new(3), rule).rows(0));
    }
    assert_eq!(train.tokens(), train.encoded.iter().map(|text| text.ids.len()).sum::<usize>());
    assert_eq!(train.learned(), train.batch(&(0..60).collect::<Vec<_>>()).learn.iter().filter(|&&learn| learn).count());
}

#[test]
fn held_out_inputs_are_never_learned_and_always_the_same() {
    let rows: String = (0..80).map(|i| format!("name[R{}],text {i}\n", i / 2)).collect();
    let hold = || {
        load_with("t.csv", &format!("mr,ref\n{rows}"), |data, _| {
            (data.dev_file, data.dev_fraction) = (String::new(), 0.25);
        })
        .unwrap()
    };
    let (data, again) = (hold(), hold());
    assert_eq!(data.dev.examples, again.dev.examples);
    assert_eq!((data.train.examples.len(), data.dev.examples.len(), data.inputs.len()), (60, 20, 10));
    let asked =
        |examples: &[Example]| examples.iter().map(|example| example.prompt()[0].text.clone()).collect::<Vec<_>>();
    let train = asked(&data.train.examples);
    assert!(asked(&data.dev.examples).iter().all(|input| !train.contains(input)));
    let one = load_with("t.csv", "mr,ref\nname[A],a\nname[A],b\n", |data, _| data.dev_file = String::new());
    says(&one.unwrap_err(), &["cannot be split", "dev_file"]);
}

#[test]
fn two_files_of_different_kinds_are_refused() {
    let dir = super::dir(&[("a.csv", PAIRS), ("b.jsonl", CHAT)]);
    let data = super::data(dir.path(), "a.csv", "b.jsonl");
    let err = adamix::data::text::load(&data, &TextConfig::default(), &codec()).unwrap_err();
    says(&err, &["Completion", "Messages", "b.jsonl"]);
}

#[test]
fn sentence_piece_texts_are_tokenized_as_a_whole() {
    let codec = super::codec_of(&super::gguf::sentence_piece(true, true)).unwrap();
    let encoder = encoder(&codec, TextFormat::Completion, |_, _| {});
    let encoded = encoder.encode(&Example::pair("the film", " is good", 1), 0).unwrap().remove(0);
    assert_eq!(encoded.ids[0], 1, "the start token goes first");
    assert_eq!(encoded.ids[1..encoded.ids.len() - 1], codec.encode("the film is good").unwrap());
    let learned: Vec<u32> = encoded.ids.iter().zip(&encoded.learn).filter(|(_, l)| **l).map(|(&id, _)| id).collect();
    let pieces: String = learned.iter().map(|&id| codec.piece(id)).collect();
    assert_eq!(pieces, " is good</s>");
    // After a separator the tokenizer itself puts the space.
    let nlg = self::encoder(&codec, TextFormat::E2e, |_, _| {});
    let encoded = nlg.encode(&Example::pair("film", "good", 1), 0).unwrap().remove(0);
    let pieces: Vec<String> = encoded.ids.iter().map(|&id| codec.piece(id)).collect();
    assert_eq!(pieces.concat(), "<s> film<s> good</s>");
}

#[test]
fn what_only_a_template_can_write_and_missing_end_tokens_are_errors() {
    let mut turn = Turn::new(Role::Assistant, "");
    turn.fields.insert("tool_calls".to_owned(), serde_json::json!([{"name": "f"}]));
    let example = Example::new(vec![Turn::new(Role::User, "q"), turn], 1);
    let codec = codec();
    let without = encoder(&codec, TextFormat::Messages, |_, text| text.template = "none".to_owned());
    says(&without.encode(&example, 0).unwrap_err(), &["calls tools", "chat template"]);
    let endless = super::codec_of(&files::byte_level("gpt-2", &[])).unwrap();
    let (data, text) = (DataConfig::default(), TextConfig::default());
    let err = TextEncoder::new(&endless, TextFormat::Completion, &data, &text).unwrap_err();
    says(&err, &["no end token", "eos_token"]);
}
