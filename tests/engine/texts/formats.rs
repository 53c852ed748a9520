//! Every format people have on disk, recognised by looking, and every way a row can be wrong.

use super::{dir, load, load_with, says};
use adamix::config::{BadRows, FileFormat, TextConfig, TextFormat, choice_name};
use adamix::data::text::{Example, Role, read};

/// Format and turns (`role: text`) of a file's examples.
fn turns(name: &str, contents: &str) -> (TextFormat, Vec<Vec<String>>) {
    let found = examples(name, contents);
    let turn = |example: &Example| {
        example.turns.iter().map(|turn| format!("{}: {}", choice_name(turn.role), turn.text)).collect()
    };
    (found.format, found.examples.iter().map(turn).collect())
}

fn examples(name: &str, contents: &str) -> adamix::data::text::Examples {
    let dir = dir(&[(name, contents)]);
    read(&dir.path().join(name), &TextConfig::default(), BadRows::Refuse).unwrap().0
}

fn expect(contents: &str, format: TextFormat, expected: &[&[&str]]) {
    // The ending never decides.
    for name in ["data.json", "data", "data.txt"] {
        let (found, turns) = turns(name, contents);
        assert_eq!(found, format, "{name}: {contents}");
        assert_eq!(turns, expected, "{name}: {contents}");
    }
}

#[test]
fn alpaca() {
    let all: &[&[&str]] = &[
        &["user: Add.\n1 and 2", "assistant: 3"],
        &["system: Be kind.", "user: q1", "assistant: a1", "user: Go on.", "assistant: yes"],
    ];
    expect(
        r#"[{"instruction": "Add.", "input": "1 and 2", "output": "3"},
            {"instruction": "Go on.", "input": "", "output": "yes", "system": "Be kind.", "history": [["q1", "a1"]]}]"#,
        TextFormat::Alpaca,
        all,
    );
    expect(
        "{\"instruction\": \"Add.\", \"context\": \"1 and 2\", \"response\": \"3\"}\n\n{\"instruction\": \"Go on.\", \"output\": \"yes\", \"system\": \"Be kind.\", \"history\": [[\"q1\", \"a1\"]]}\n",
        TextFormat::Alpaca,
        all,
    );
}

#[test]
fn sharegpt_and_messages() {
    expect(
        r#"[{"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}, {"from": "human", "value": "and?"}], "system": "S"}]"#,
        TextFormat::Sharegpt,
        &[&["system: S", "user: hi", "assistant: hello"]],
    );
    expect(
        r#"{"messages": [{"role": "developer", "content": "S"}, {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, {"role": "assistant", "content": "c"}]}"#,
        TextFormat::Messages,
        &[&["system: S", "user: ab", "assistant: c"]],
    );
    expect(
        r#"{"conversations": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}"#,
        TextFormat::Messages,
        &[&["user: a", "assistant: b"]],
    );
    expect(
        r#"{"prompt": [{"role": "user", "content": "a"}], "completion": [{"role": "assistant", "content": "b"}]}"#,
        TextFormat::Messages,
        &[&["user: a", "assistant: b"]],
    );
}

#[test]
fn tools_and_single_turns_that_are_not_learned() {
    let found = examples(
        "t.jsonl",
        r#"{"tools": "[{\"name\": \"look\"}]", "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": null, "tool_calls": [{"name": "look"}], "train": false}, {"role": "tool", "content": "r", "name": "look"}, {"role": "assistant", "content": "b"}]}"#,
    );
    let example = &found.examples[0];
    assert_eq!(example.tools, Some(serde_json::json!([{"name": "look"}])));
    let learned: Vec<bool> = example.turns.iter().map(|turn| turn.learned).collect();
    assert_eq!(learned, [false, false, false, true]);
    assert_eq!(example.turns[2].role, Role::Tool);
    assert_eq!(example.turns[2].fields["name"], "look");
    let again: Example = serde_json::from_str(&serde_json::to_string(example).unwrap()).unwrap();
    assert_eq!(&again, example);
}

#[test]
fn completions_and_plain_rows() {
    let both: &[&[&str]] = &[&["user: 1+1=", "assistant: 2"], &["user: a, \"b\"", "assistant: c"]];
    expect(
        "{\"prompt\": \"1+1=\", \"completion\": 2}\n{\"prompt\": \"a, \\\"b\\\"\", \"completion\": \"c\"}",
        TextFormat::Completion,
        both,
    );
    expect("prompt,completion\n1+1=,2\n\"a, \"\"b\"\"\",c\n", TextFormat::Completion, both);
    expect("id\tprompt\tcompletion\n7\t1+1=\t2\n8\ta, \"b\"\tc\n", TextFormat::Completion, both);
    expect("{\"question\": \"q\", \"answer\": \"a\"}", TextFormat::Completion, &[&["user: q", "assistant: a"]]);
    expect(
        "[{\"text\": \"one\"}, {\"text\": \"two\"}]",
        TextFormat::Plain,
        &[&["assistant: one"], &["assistant: two"]],
    );
}

#[test]
fn meaning_representations() {
    let one = "name : Blue Spice | Type : pub | price : £20-25 | family friendly : no";
    let expected: &[&[&str]] = &[
        &[&format!("user: {one}"), "assistant: A pub, \"Blue Spice\"."],
        &["user: name : A | customer rating : 5 out of 5", "assistant: A is good."],
    ];
    expect(
        "mr,ref\r\n\"name[Blue Spice], eatType[pub], priceRange[£20-25], familyFriendly[no]\",\"A pub, \"\"Blue Spice\"\".\"\r\n\"name[A], customer rating[5 out of 5]\",A is good.\r\n",
        TextFormat::E2e,
        expected,
    );
    expect(
        &format!("{one}||A pub, \"Blue Spice\". \nname : A | customer rating : 5 out of 5||A is good. \n"),
        TextFormat::E2e,
        expected,
    );
    expect(
        "{\"context\": \"name : A\", \"completion\": \"A.\", \"cate\": true}",
        TextFormat::E2e,
        &[&["user: name : A", "assistant: A."]],
    );
}

const WEBNLG: &str = r#"{
  "entries": [
    {"1": {"category": "Airport",
      "lexicalisations": [{"comment": "good", "lex": "A leads B."}, {"comment": "toFix", "lex": "wrong"}, {"comment": "good", "lex": "B is led by A."}],
      "modifiedtripleset": [{"subject": "B", "property": "leaderName", "object": "A"}, {"subject": "B", "property": "size", "object": "9"}]}},
    {"2": {"lexicalisations": [{"comment": "good", "lex": "C."}],
      "modifiedtripleset": [{"subject": "B", "property": "leaderName", "object": "A"}, {"subject": "B", "property": "size", "object": "9"}]}}
  ]
}"#;

#[test]
fn webnlg_keeps_good_references_and_groups_by_entry() {
    let context = "user: B : leaderName : A | B : size : 9";
    expect(
        WEBNLG,
        TextFormat::Webnlg,
        &[&[context, "assistant: A leads B."], &[context, "assistant: B is led by A."], &[context, "assistant: C."]],
    );
    assert_eq!(examples("w.json", WEBNLG).examples[2].line, 6);
    let data = load("w.json", WEBNLG).unwrap();
    let references: Vec<Vec<&str>> =
        data.inputs.iter().map(|group| group.references.iter().map(String::as_str).collect()).collect();
    assert_eq!(
        references,
        [vec!["A leads B.", "B is led by A."], vec!["C."]],
        "entries with the same triples stay apart"
    );
}

#[test]
fn dart_predicates_are_lower_cased() {
    expect(
        r#"[ {"tripleset": [["Mars Hill College", "JOINED", "1973"], ["Mars Hill College", "LOCATION", "X"]], "subtree_was_extended": true,
             "annotations": [{"source": "s", "text": "It joined in 1973."}, {"source": "s", "text": "Joined."}]} ]"#,
        TextFormat::Dart,
        &[
            &[
                "user: Mars Hill College : joined : 1973 | Mars Hill College : location : X",
                "assistant: It joined in 1973.",
            ],
            &["user: Mars Hill College : joined : 1973 | Mars Hill College : location : X", "assistant: Joined."],
        ],
    );
}

#[test]
fn references_are_grouped_by_their_input() {
    let data = load("e.csv", "mr,ref\nname[A],one\nname[B],two\nname[A],three\n").unwrap();
    let groups: Vec<(Vec<usize>, Vec<&str>)> = data
        .inputs
        .iter()
        .map(|group| (group.examples.clone(), group.references.iter().map(String::as_str).collect()))
        .collect();
    assert_eq!(groups, [(vec![0, 2], vec!["one", "three"]), (vec![1], vec!["two"])]);
}

#[test]
fn a_text_file_is_read_in_pieces_and_nothing_is_lost() {
    let paragraphs: Vec<String> =
        (0..40).map(|i| format!("Paragraph {i} {}\nsecond line\n", "words ".repeat(30))).collect();
    let text = format!("[not JSON] {}\n\n", paragraphs.join("\n"));
    let found = examples("novel.txt", &text);
    assert_eq!(found.format, TextFormat::Plain);
    assert!(found.examples.len() > 2, "{}", found.examples.len());
    let joined: String = found.examples.iter().map(|example| example.answer()).collect();
    assert_eq!(joined, text.trim_end());
    let ends: Vec<bool> = found.examples.iter().map(|example| example.ends).collect();
    assert_eq!(ends.iter().filter(|&&ends| ends).count(), 1, "only the last piece ends");
    assert_eq!(ends.last(), Some(&true));
    let second = &found.examples[1];
    let line = text.lines().nth(second.line - 1).unwrap();
    assert_eq!(second.answer().lines().next(), Some(line));
}

#[test]
fn named_columns_and_formats_that_are_given() {
    let named = |text: &mut TextConfig| {
        (text.prompt_column, text.completion_column) = ("q".to_owned(), "a".to_owned());
    };
    let data = load_with("t.csv", "q,a\nask,say\nasks,says\n", |_, text| named(text)).unwrap();
    assert_eq!((data.train.format, data.train.examples[0].answer()), (TextFormat::Completion, "say"));
    let data =
        load_with("t.csv", "q,a\nask,say\nasks,says\n", |_, text| text.completion_column = "q".to_owned()).unwrap();
    assert_eq!((data.train.format, data.train.examples[0].answer()), (TextFormat::Plain, "ask"));
    // A file that looks like pipes but is said to be text, and one whose layout is given.
    let data = load_with("t.txt", "a || b\nc || d\n", |_, text| text.format = TextFormat::Plain).unwrap();
    assert_eq!(data.train.examples.len(), 1);
    let data = load_with("t.txt", "text\nsingle\n", |data, _| data.format = FileFormat::Csv).unwrap();
    assert_eq!(data.train.examples[0].answer(), "single");
    let err = load_with("t.txt", "just text", |_, text| text.format = TextFormat::Dart).unwrap_err();
    says(&err, &["dart", "plain text", "t.txt"]);
}

#[test]
fn files_that_cannot_be_recognised() {
    says(
        &load("t.csv", "sentence,label\na,1\n").unwrap_err(),
        &["\"sentence\", \"label\"", "completion_column", "t.csv"],
    );
    says(&load("t.jsonl", "{\"a\": 1}\n").unwrap_err(), &["\"a\"", "prompt_column"]);
    says(&load("t.json", "[{\"text\": \"a\"}, ").unwrap_err(), &["neither a JSON array", "cut off"]);
    says(&load("t.json", "plain").unwrap_err(), &["neither a JSON array"]);
    says(&load("t.json", "[]").unwrap_err(), &["no row of the file is a JSON object"]);
    says(&load("t.txt", " \n").unwrap_err(), &["empty"]);
    says(&load("t.txt", "PK\u{3}\u{4}").unwrap_err(), &["zip"]);
    says(
        &load("t.json", r#"[{"prompt": "a", "chosen": "b", "rejected": "c"}]"#).unwrap_err(),
        &["preferences", "chosen"],
    );
    let gone = load_with("t.txt", "x", |data, _| data.train_file = "gone.txt".to_owned());
    says(&gone.unwrap_err(), &["gone.txt"]);
}

/// Files with a good first row and a bad second one: what the message must say besides the line.
const BAD: &[(&str, &str, usize, &str)] = &[
    (
        "a.json",
        "[{\"instruction\": \"a\", \"output\": \"b\"},\n {\"instruction\": \"\", \"output\": \"b\"}]",
        2,
        "the instruction is empty",
    ),
    (
        "a.json",
        "[{\"instruction\": \"a\", \"output\": \"b\"},\n {\"instruction\": \"a\", \"output\": \" \"}]",
        2,
        "\"output\" is empty",
    ),
    (
        "a.json",
        "[{\"instruction\": \"a\", \"output\": \"b\"},\n {\"instruction\": \"a\", \"output\": [1]}]",
        2,
        "\"output\" is not a text",
    ),
    (
        "a.json",
        "[{\"instruction\": \"a\", \"output\": \"b\"},\n {\"instruction\": \"a\", \"output\": \"b\", \"history\": [\"x\"]}]",
        2,
        "history",
    ),
    ("a.json", "[{\"instruction\": \"a\", \"output\": \"b\"},\n\n {\"instruction\": oops}]", 3, "broken JSON"),
    ("a.json", "[{\"instruction\": \"a\", \"output\": \"b\"},\n 7]", 2, "not a JSON object"),
    ("a.jsonl", "{\"prompt\": \"a\", \"completion\": \"b\"}\n{\"prompt\": \"a\"", 2, "broken JSON"),
    ("a.jsonl", "{\"prompt\": \"a\", \"completion\": \"b\"}\n{\"prompt\": \"a\"}", 2, "no value for \"completion\""),
    (
        "a.jsonl",
        "{\"messages\": [{\"role\": \"user\"}], oops\n{\"prompt\": \"a\", \"completion\": \"b\"}",
        1,
        "broken JSON",
    ),
    ("a.csv", "prompt,completion\na,b\nc\n", 3, "1 column where 2"),
    (
        "a.jsonl",
        "{\"messages\": [{\"role\": \"assistant\", \"content\": \"b\"}]}\n{\"messages\": [{\"role\": \"user\", \"content\": \"b\"}]}",
        2,
        "no answer",
    ),
    (
        "a.jsonl",
        "{\"messages\": [{\"role\": \"assistant\", \"content\": \"b\"}]}\n{\"messages\": [{\"role\": \"narrator\", \"content\": \"b\"}]}",
        2,
        "message 1: the role \"narrator\"",
    ),
    (
        "a.jsonl",
        "{\"messages\": [{\"role\": \"assistant\", \"content\": \"b\"}]}\n{\"messages\": [{\"role\": \"assistant\", \"content\": \"\"}]}",
        2,
        "the answer is empty",
    ),
    (
        "a.jsonl",
        "{\"messages\": [{\"role\": \"assistant\", \"content\": \"b\"}]}\n{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"image\"}]}]}",
        2,
        "image",
    ),
    (
        "a.jsonl",
        "{\"conversations\": [{\"from\": \"gpt\", \"value\": \"b\"}]}\n{\"conversations\": [{\"value\": \"b\"}]}",
        2,
        "no text \"role\"",
    ),
    ("a.csv", "mr,ref\nname[A],b\nname[A,b\n", 3, "breaks off"),
    ("a.txt", "name : A||b\nname : A||\n", 2, "empty"),
    (
        "a.json",
        "[{\"tripleset\": [[\"a\", \"b\", \"c\"]], \"annotations\": [{\"text\": \"d\"}]},\n {\"tripleset\": [[\"a\", \"b\"]], \"annotations\": []}]",
        2,
        "list of three",
    ),
    (
        "a.json",
        "[{\"tripleset\": [[\"a\", \"b\", \"c\"]], \"annotations\": [{\"text\": \"d\"}]},\n {\"tripleset\": [], \"annotations\": []}]",
        2,
        "without triples",
    ),
];

#[test]
fn bad_rows_are_refused_with_their_line_or_skipped_and_listed() {
    for (name, contents, line, reason) in BAD {
        let err = load_with(name, contents, |_, text| text.template = "none".to_owned()).unwrap_err();
        says(&err, &[&format!("line {line}: "), reason, "bad_rows = \"skip\"", name]);
        let data = load_with(name, contents, |data, text| {
            (data.bad_rows, text.template) = (BadRows::Skip, "none".to_owned());
        });
        let data = data.unwrap();
        assert_eq!((data.train.examples.len(), data.skipped.len()), (1, 2), "{contents}");
        assert_eq!(data.skipped[0].line, *line, "{contents}");
        assert!(data.skipped[0].reason.contains(reason), "{}", data.skipped[0].reason);
    }
    let err = load_with("a.csv", "prompt,completion\nc\n", |data, _| data.bad_rows = BadRows::Skip).unwrap_err();
    says(&err, &["every row was skipped", "line 2"]);
    // Bytes that are UTF-8 elsewhere in the file and cannot be another encoding.
    let broken = dir(&[("x", "")]);
    std::fs::write(broken.path().join("t.jsonl"), b"{\"text\": \"\xc3\xa9\xc3\xa9\"}\n{\"text\": \"caf\xe9\"}\n")
        .unwrap();
    let err = read(&broken.path().join("t.jsonl"), &TextConfig::default(), BadRows::Refuse).unwrap_err();
    says(&err, &["line 2", "0xe9"]);
    std::fs::write(broken.path().join("t.txt"), b"\xc3\xa9\xc3\xa9\ncaf\xe9\n").unwrap();
    let err = read(&broken.path().join("t.txt"), &TextConfig::default(), BadRows::Skip).unwrap_err();
    says(&err, &["line 2", "0xe9", "t.txt"]);
}

#[test]
fn a_directory_with_train_and_valid_files() {
    let row = |text: &str| format!("{{\"prompt\": \"{text}\", \"completion\": \"b\"}}\n");
    let dir = dir(&[("train.jsonl", &row("one")), ("valid.jsonl", &row("two")), ("test.jsonl", &row("three"))]);
    let data = super::data(dir.path(), "", "");
    let found = adamix::data::text::load(&data, &TextConfig::default(), &super::codec()).unwrap();
    assert_eq!(found.train.examples[0].prompt()[0].text, "one");
    assert_eq!(found.dev.examples[0].prompt()[0].text, "two");
    assert_eq!(adamix::data::tasks::name(&data), dir.path().file_name().unwrap().to_string_lossy());
    let empty = tempfile::tempdir().unwrap();
    let data = super::data(empty.path(), "", "");
    let err = adamix::data::text::load(&data, &TextConfig::default(), &super::codec()).unwrap_err();
    says(
        &err,
        &[
            "no training file found",
            "train, trainset.jsonl, .json, .csv, .tsv, .txt, .ndjson, .parquet, .arrow, .feather, .xlsx, .xls, .ods and .tab",
            "train_file",
        ],
    );
}
