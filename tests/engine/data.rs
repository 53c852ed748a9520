//! Readers, tasks, tokenizers and previews, on good and on bad input.

mod columns;
mod files;
mod tokenizers;

use adamix::config::{BadRows, DataConfig, FileFormat, Metric, Problem, Task};
use adamix::data::{self, DataPreview, Dataset, Labels, Target, TaskData, TextTokenizer};
use adamix::error::Result;
use std::collections::BTreeSet;
use tempfile::TempDir;

fn tokenizer() -> TextTokenizer {
    data::TextTokenizer::lab().unwrap()
}

/// A directory with these files.
fn files(contents: &[(&str, &[u8])]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in contents {
        std::fs::write(dir.path().join(name), bytes).unwrap();
    }
    dir
}

/// Settings for the user's own `train` (and `dev`) files in `dir`.
fn custom(dir: &TempDir, train: &str, dev: &str) -> DataConfig {
    DataConfig {
        task: Task::Custom,
        path: dir.path().display().to_string(),
        train_file: train.to_owned(),
        dev_file: dev.to_owned(),
        ..DataConfig::default()
    }
}

const TRAIN: &[u8] = b"sentence\tlabel\nA fine film .\t1\nA \"dull one.\t0\nNot bad at all\t1\nPoor\t0\n";
const DEV: &[u8] = b"sentence\tlabel\nVery good\t1\nVery bad\t0\n";

fn load(config: &DataConfig) -> Result<TaskData> {
    data::load(config, &tokenizer())
}

/// The message of the error that these two files cause.
fn error(train: &[u8], dev: &[u8]) -> String {
    let dir = files(&[("train.tsv", train), ("dev.tsv", dev)]);
    let err = load(&custom(&dir, "train.tsv", "dev.tsv")).unwrap_err();
    assert_eq!(err.kind(), adamix::error::ErrorKind::Data, "{err}");
    err.to_string()
}

fn assert_says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
}

fn texts(data: &Dataset) -> Vec<&str> {
    data.rows.iter().map(|row| row.text.as_str()).collect()
}

fn classes(data: &Dataset) -> Vec<u32> {
    match data.all_labels() {
        Labels::Classes(classes) => classes,
        Labels::Values(_) => panic!("values where classes were expected"),
    }
}

#[test]
fn tsv_is_never_quoted() {
    let dir = files(&[("train.tsv", TRAIN), ("dev.tsv", DEV)]);
    let task = load(&custom(&dir, "train.tsv", "dev.tsv")).unwrap();
    assert_eq!(texts(&task.train), ["A fine film .", "A \"dull one.", "Not bad at all", "Poor"]);
    assert_eq!(classes(&task.train), [1, 0, 1, 0]);
    assert_eq!((task.labels, task.metric), (vec!["0".to_owned(), "1".to_owned()], Metric::Accuracy));
    assert_eq!(data::tasks::name(&custom(&dir, "train.tsv", "dev.tsv")), "train");
}

#[test]
fn all_layouts_give_the_same_rows() {
    let csv = b"\xef\xbb\xbflabel,sentence,other\r\nno,\"comma, and \"\"quote\"\"\",1\r\nyes,\"two\nlines\",2\r\nno,plain,3\r\n";
    let semicolon = b"sentence;label\n\"comma, and \"\"quote\"\"\";no\n\"two\nlines\";yes\nplain;no\n";
    let jsonl = b"{\"label\": \"no\", \"sentence\": \"comma, and \\\"quote\\\"\"}\n\n{\"sentence\": \"two\\nlines\", \"label\": \"yes\", \"x\": [1]}\n{\"sentence\": \"plain\", \"label\": \"no\"}\n";
    let dir = files(&[("a.csv", csv), ("b.csv", semicolon), ("c.jsonl", jsonl)]);
    for name in ["a.csv", "b.csv", "c.jsonl"] {
        let task = load(&custom(&dir, name, name)).unwrap();
        assert_eq!(texts(&task.train), ["comma, and \"quote\"", "two\nlines", "plain"], "{name}");
        assert_eq!(task.labels, ["no", "yes"], "{name}");
        assert_eq!(classes(&task.train), [0, 1, 0], "{name}");
    }
}

#[test]
fn bom_crlf_and_blank_lines_do_not_matter() {
    let plain = files(&[("t.tsv", TRAIN)]);
    let text = String::from_utf8(TRAIN.to_vec()).unwrap();
    let dressed = format!("\u{feff}{}\r\n", text.replace('\n', "\r\n"));
    let dressed = files(&[("t.tsv", dressed.as_bytes())]);
    let rows = |dir: &TempDir| load(&custom(dir, "t.tsv", "t.tsv")).unwrap().train.rows;
    assert_eq!(rows(&plain), rows(&dressed));
}

#[test]
fn columns_by_number_without_a_header() {
    let dir = files(&[("t.tsv", b"x\t1\ta\tgood one\ny\t0\tb\tbad one\n")]);
    let config = DataConfig {
        header: false,
        text_column: "3".to_owned(),
        text_pair_column: "2".to_owned(),
        label_column: "1".to_owned(),
        ..custom(&dir, "t.tsv", "t.tsv")
    };
    let task = load(&config).unwrap();
    assert_eq!(task.train.rows[1].text, "bad one");
    assert_eq!(task.train.rows[1].pair.as_deref(), Some("b"));
    assert_eq!(classes(&task.train), [1, 0]);
}

#[test]
fn number_labels_sort_by_value_and_given_labels_keep_their_order() {
    let rows: String =
        (0..4).flat_map(|_| [10, 9, 2]).enumerate().map(|(i, label)| format!("t{i}\t{label}\n")).collect();
    let dir = files(&[("t.tsv", format!("sentence\tlabel\n{rows}").as_bytes())]);
    let config = custom(&dir, "t.tsv", "t.tsv");
    assert_eq!(load(&config).unwrap().labels, ["2", "9", "10"]);
    let named = files(&[("t.tsv", b"sentence\tlabel\na\tgood\nb\tbad\nc\t1\n")]);
    let config = DataConfig { labels: vec!["good".to_owned(), "bad".to_owned()], ..custom(&named, "t.tsv", "t.tsv") };
    assert_eq!(classes(&load(&config).unwrap().train), [0, 1, 1], "a class may also be given by its number");
    // Where the names are numbers, a number is a name and nothing else.
    let config = DataConfig { labels: vec!["1".to_owned(), "2".to_owned()], ..config };
    assert_says(&load(&config).unwrap_err().to_string(), &["line 2", "unknown label \"good\"", "\"1\", \"2\""]);
}

#[test]
fn regression_targets() {
    let text = b"sentence\tlabel\na\t1.5\nb\t-2e-1\nc\t3\n";
    let dir = files(&[("t.tsv", text)]);
    let config = DataConfig { problem: Problem::Regression, ..custom(&dir, "t.tsv", "t.tsv") };
    let task = load(&config).unwrap();
    assert_eq!(task.train.all_labels(), Labels::Values(vec![1.5, -0.2, 3.0]));
    assert_eq!((task.metric, task.labels.len()), (Metric::Pearson, 0));
    for (bad, says) in
        [("high", "is not a number"), ("NaN", "is not a finite number"), ("inf", "is not a finite number")]
    {
        let dir = files(&[("t.tsv", format!("sentence\tlabel\na\t1\nb\t{bad}\n").as_bytes())]);
        let config = DataConfig { problem: Problem::Regression, ..custom(&dir, "t.tsv", "t.tsv") };
        assert_says(&load(&config).unwrap_err().to_string(), &["line 3", bad, says, "t.tsv"]);
    }
}

#[test]
fn bad_rows_are_refused_with_file_and_line() {
    assert_says(
        &error(b"sentence\tlabel\ngood\t1\nno label\n", DEV),
        &["line 3", "1 column where 2 were expected", "bad_rows = \"skip\"", "train.tsv"],
    );
    assert_says(&error(b"sentence\tlabel\ngood\t1\nbad\t0\textra\n", DEV), &["line 3", "3 columns where 2"]);
    assert_says(&error(b"sentence\tlabel\n \t1\nbad\t0\n", DEV), &["line 2", "the text is empty"]);
    assert_says(&error(b"sentence\tlabel\nx\t1\nbad\t\n", DEV), &["line 3", "the label is empty"]);
    assert_says(
        &error(b"sentence\tlabel\nd\xc3\xa9j\xc3\xa0\t1\ncaf\xe9 noir\t0\n", DEV),
        &["line 3", "not UTF-8", "0xe9", "Latin-1", "train.tsv"],
    );
    assert_says(
        &error(TRAIN, b"sentence\tlabel\nx\t1\ny\tmaybe\n"),
        &["line 3", "unknown label \"maybe\"", "\"0\", \"1\"", "dev.tsv"],
    );
}

#[test]
fn unusable_files_are_refused() {
    assert_says(&error(b"", DEV), &["empty", "train.tsv"]);
    assert_says(&error(b"\xef\xbb\xbf\r\n\n", DEV), &["empty"]);
    assert_says(&error(b"sentence\tlabel\n", DEV), &["no rows after the header", "train.tsv"]);
    assert_says(&error(TRAIN, b"sentence\tlabel\n"), &["no rows after the header", "dev.tsv"]);
    assert_says(&error(b"text\tlabel\na\t1\n", DEV), &["no column \"sentence\"", "\"text\", \"label\"", "header"]);
    assert_says(&error(b"sentence\tlabel\na\t1\nb\t1\n", DEV), &["all 2 training rows", "\"1\"", "two classes"]);
    assert_says(&error(b"\xff\xfes\0e\0", DEV), &["no column \"sentence\"", "\"se\"", "train.tsv"]);
    assert_says(&error(b"s\0e\0n\0", DEV), &["zero bytes"]);
    assert_says(&error(b"PK\x03\x04rest", DEV), &["Excel", "CSV"]);
    assert_says(&error(b"sentence\tsentence\tlabel\na\tb\t1\n", DEV), &["more than one column", "by number"]);
}

#[test]
fn a_wrong_label_column_is_noticed() {
    let rows: String = (0..30).map(|i| format!("text {i}\tlabel {i}\n")).collect();
    assert_says(
        &error(format!("sentence\tlabel\n{rows}").as_bytes(), DEV),
        &["30 different labels in 30 rows", "regression"],
    );
}

#[test]
fn missing_files_and_unknown_endings() {
    let dir = files(&[("data.bin", b"x")]);
    assert_says(
        &load(&custom(&dir, "nothing.tsv", "")).unwrap_err().to_string(),
        &["reading the data failed", "nothing.tsv"],
    );
    assert_says(&load(&custom(&dir, "data.bin", "")).unwrap_err().to_string(), &["ending \"bin\"", "set data.format"]);
    let config = DataConfig { task: Task::Sst2, path: dir.path().display().to_string(), ..DataConfig::default() };
    assert_says(
        &load(&config).unwrap_err().to_string(),
        &["SST-2", "no training file", "train, train_subset", "train_file"],
    );
}

#[test]
fn broken_json_lines() {
    let broken: [(&[u8], &str); 5] = [
        (b"{\"sentence\": \"a\", \"label\": 1}\n{\"sentence\": \"b\"\n", "broken JSON"),
        (b"{\"sentence\": \"a\", \"label\": 1}\n{\"sentence\": \"b\"}\n", "no value for \"label\""),
        (b"{\"sentence\": \"a\", \"label\": 1}\n{\"sentence\": [\"b\"], \"label\": 0}\n", "list or an object"),
        (b"{\"sentence\": \"a\", \"label\": 1}\n7\n", "not a JSON object"),
        (b"[\n{\"sentence\": \"a\", \"label\": 1},\n{\"sentence\": oops}]\n", "broken JSON"),
    ];
    for (bytes, says) in broken {
        let dir = files(&[("t.jsonl", bytes)]);
        let message = load(&custom(&dir, "t.jsonl", "t.jsonl")).unwrap_err().to_string();
        assert_says(&message, &["line ", says, "t.jsonl"]);
    }
}

#[test]
fn an_open_quote_is_pointed_out() {
    let dir = files(&[("t.csv", b"sentence,label\nfine,1\n\"open,0\nnext,1\n")]);
    let message = load(&custom(&dir, "t.csv", "t.csv")).unwrap_err().to_string();
    assert_says(&message, &["line 3", "quote is not closed"]);
}

#[test]
fn bad_rows_can_be_skipped_and_are_listed() {
    let train = b"sentence\tlabel\na\t1\nonly one\nb\t0\n\xff\xff\t1\n\t1\nc\t1\n";
    let dev = b"sentence\tlabel\na\t1\nb\tperhaps\n";
    let dir = files(&[("train.tsv", train), ("dev.tsv", dev)]);
    let config = DataConfig {
        bad_rows: BadRows::Skip,
        labels: vec!["0".to_owned(), "1".to_owned()],
        ..custom(&dir, "train.tsv", "dev.tsv")
    };
    let task = load(&config).unwrap();
    assert_eq!(texts(&task.train), ["a", "b", "c"]);
    assert_eq!(texts(&task.dev), ["a"]);
    let skipped: Vec<(bool, usize)> =
        task.skipped.iter().map(|row| (row.file.ends_with("dev.tsv"), row.line)).collect();
    assert_eq!(skipped, [(false, 3), (false, 5), (false, 6), (true, 3)]);
    assert!(task.skipped.iter().all(|row| !row.reason.is_empty()));
    // Nothing left is still an error.
    let dir = files(&[("train.tsv", b"sentence\tlabel\nx\ny\n")]);
    let config = DataConfig { bad_rows: BadRows::Skip, ..custom(&dir, "train.tsv", "") };
    assert_says(&load(&config).unwrap_err().to_string(), &["every row was skipped", "line 2"]);
}

#[test]
fn held_out_rows_keep_shares_and_never_leak() {
    let mut text = "sentence\tlabel\n".to_owned();
    for i in 0..100 {
        text += &format!("text {}\t{}\n", i / 2, u8::from(i >= 80));
    }
    let dir = files(&[("t.tsv", text.as_bytes())]);
    let config = DataConfig { dev_fraction: 0.2, ..custom(&dir, "t.tsv", "") };
    let (task, again) = (load(&config).unwrap(), load(&config).unwrap());
    assert_eq!(task.dev, again.dev, "the choice must not change");
    assert_eq!((task.train.len(), task.dev.len()), (80, 20));
    assert_eq!(classes(&task.dev).iter().filter(|&&class| class == 1).count(), 4, "shares of the classes");
    let train: BTreeSet<&str> = texts(&task.train).into_iter().collect();
    assert!(texts(&task.dev).iter().all(|text| !train.contains(text)), "duplicates must stay on one side");
    let preview = data::preview(&config, None).unwrap();
    assert!(preview.held_out);
    assert_eq!((preview.leaks, preview.duplicates_in_train), (0, 40));
}

#[test]
fn limits_cut_after_the_split() {
    let rows: String = (0..40).map(|i| format!("text {i}\t{}\n", i % 2)).collect();
    let dir = files(&[("t.tsv", format!("sentence\tlabel\n{rows}").as_bytes())]);
    let config = DataConfig { max_train_rows: 6, max_eval_rows: 3, ..custom(&dir, "t.tsv", "t.tsv") };
    let task = load(&config).unwrap();
    assert_eq!(texts(&task.train), ["text 0", "text 1", "text 2", "text 3", "text 4", "text 5"]);
    assert_eq!(task.dev.len(), 3);
    let config = DataConfig { max_train_rows: 1, ..config };
    assert_says(&load(&config).unwrap_err().to_string(), &["raise max_train_rows"]);
}

#[test]
fn glue_layouts() {
    type Case<'a> = (Task, &'a [(&'a str, &'a [u8])], &'a [u32], Metric);
    let cases: &[Case<'_>] = &[
        (Task::Cola, &[("train.tsv", b"gj04\t1\t\tGood one .\ngj04\t0\t*\tOne good .\n"), ("dev.tsv", b"gj04\t1\t\tOk .\n")], &[1, 0], Metric::Matthews),
        (Task::Sst2, &[("train.tsv", b"sentence\tlabel\nnice \t1\nbad \t0\n"), ("dev.tsv", b"sentence\tlabel\nok\t1\n")], &[1, 0], Metric::Accuracy),
        (
            Task::Mrpc,
            &[
                ("train.tsv", b"Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t1\t2\tA \"b\tB\n0\t1\t2\tA\tC\n"),
                ("dev.tsv", b"Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t1\t2\tA\tB\n"),
            ],
            &[1, 0],
            Metric::Accuracy,
        ),
        (
            Task::Qqp,
            &[
                ("train_subset.tsv", b"id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n1\t1\t2\tA\tB\t1\n1\t1\t2\tA\tC\t0\n"),
                ("dev_subset.tsv", b"id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n1\t1\t2\tA\tB\t1\n"),
            ],
            &[1, 0],
            Metric::Accuracy,
        ),
        (
            Task::Mnli,
            &[
                ("train_subset.tsv", b"index\tsentence1\tsentence2\tgold_label\n0\tA\tB\tcontradiction\n1\tA\tC\tentailment\n2\tA\tD\tneutral\n"),
                ("dev_matched.tsv", b"index\tsentence1\tsentence2\tgold_label\n0\tA\tB\tneutral\n"),
            ],
            &[2, 0, 1],
            Metric::Accuracy,
        ),
        (
            Task::Qnli,
            &[("train.tsv", b"index\tquestion\tsentence\tlabel\n0\tA\tB\tnot_entailment\n1\tA\tC\tentailment\n"), ("dev.tsv", b"index\tquestion\tsentence\tlabel\n0\tA\tB\tentailment\n")],
            &[1, 0],
            Metric::Accuracy,
        ),
        (
            Task::Rte,
            &[("train.tsv", b"index\tsentence1\tsentence2\tlabel\n0\tA\tB\tentailment\n1\tA\tC\tnot_entailment\n"), ("dev.tsv", b"index\tsentence1\tsentence2\tlabel\n0\tA\tB\t1\n")],
            &[0, 1],
            Metric::Accuracy,
        ),
    ];
    for (task, contents, expected, metric) in cases {
        let dir = files(contents);
        let config = DataConfig { task: *task, path: dir.path().display().to_string(), ..DataConfig::default() };
        let found = load(&config).unwrap();
        assert_eq!(classes(&found.train), *expected, "{task:?}");
        assert_eq!((found.metric, found.dev.len()), (*metric, 1), "{task:?}");
        assert_eq!(found.train.rows[0].pair.is_some(), !matches!(task, Task::Cola | Task::Sst2), "{task:?}");
    }
    let stsb = b"index\tgenre\tsentence1\tsentence2\tscore\n0\tx\tA\tB\t4.500\n";
    let dir = files(&[("train.tsv", stsb), ("dev.tsv", stsb)]);
    let config = DataConfig { task: Task::Stsb, path: dir.path().display().to_string(), ..DataConfig::default() };
    let found = load(&config).unwrap();
    assert_eq!(found.train.rows[0].target, Target::Value(4.5));
    assert_eq!((found.metric, found.problem), (Metric::Pearson, Problem::Regression));
}

#[test]
fn known_tasks_also_come_as_csv_or_json_lines_with_their_usual_names() {
    let dir = files(&[
        ("train.csv", b"sentence,label,idx\n\"good, one\",acceptable,0\nbad,0,1\n"),
        ("validation.jsonl", b"{\"sentence\": \"ok\", \"label\": 1, \"idx\": 0}\n"),
    ]);
    let config = DataConfig { task: Task::Cola, path: dir.path().display().to_string(), ..DataConfig::default() };
    let found = load(&config).unwrap();
    assert_eq!((classes(&found.train), classes(&found.dev)), (vec![1, 0], vec![1]));
}

#[test]
fn batches_are_packed_in_the_order_asked_for() {
    let dir = files(&[("train.tsv", TRAIN), ("dev.tsv", DEV)]);
    let task = load(&custom(&dir, "train.tsv", "dev.tsv")).unwrap();
    let batch = task.train.batch(&[2, 0]);
    assert_eq!((batch.offsets.len(), &batch.rows[..]), (3, &[2, 0][..]));
    assert_eq!(batch.labels, Labels::Classes(vec![1, 1]));
    assert_eq!(batch.ids[batch.offsets[0]..batch.offsets[1]], task.train.encoded[2].ids);
    assert_eq!(batch.ids[batch.offsets[1]..batch.offsets[2]], task.train.encoded[0].ids);
    assert_eq!((batch.ids.len(), batch.type_ids.len()), (batch.offsets[2], batch.offsets[2]));
}

#[test]
fn the_lab_has_balanced_rows_without_overlap() {
    let task = load(&DataConfig::default()).unwrap();
    assert_eq!((task.train.len(), task.dev.len()), (4000, 1000));
    assert_eq!(data::tasks::name(&DataConfig::default()), "lab");
    assert_eq!(task.labels, ["negative", "positive"]);
    for (split, half) in [(&task.train, 2000), (&task.dev, 500)] {
        assert_eq!(classes(split).iter().filter(|&&class| class == 1).count(), half);
    }
    let preview = data::preview(&DataConfig::default(), Some(&tokenizer())).unwrap();
    assert_eq!((preview.leaks, preview.duplicates_in_train, preview.conflicts, preview.skipped.len()), (0, 0, 0, 0));
    assert_eq!(preview.train.balance, [2000, 2000]);
}

#[test]
fn preview_counts_everything() {
    let train = b"sentence\tlabel\nsame\t1\nsame\t0\nother text which is longer\t1\nsame\t1\nbad row\nlast\t0\n";
    let dev = b"sentence\tlabel\n last \t0\nnew\t1\n";
    let dir = files(&[("train.tsv", train), ("dev.tsv", dev)]);
    let config = DataConfig { max_length: 4, ..custom(&dir, "train.tsv", "dev.tsv") };
    assert!(load(&config).is_err(), "training refuses the bad row");
    let tokenizer = tokenizer();
    let preview = data::preview(&config, Some(&tokenizer)).unwrap();
    assert_eq!((preview.duplicates_in_train, preview.conflicts, preview.leaks), (2, 1, 1));
    assert_eq!(
        (&preview.leak_examples[..], &preview.conflict_examples[..]),
        (&["last".to_owned()][..], &["same".to_owned()][..])
    );
    assert_eq!((preview.skipped.len(), preview.refused, preview.held_out), (1, true, false));
    assert_eq!(preview.train.balance, [2, 3]);
    assert_eq!(preview.columns.names, ["sentence", "label"]);
    assert_eq!((preview.columns.text.as_deref(), preview.columns.label.as_deref()), (Some("sentence"), Some("label")));
    let lengths = preview.train.lengths.as_ref().unwrap();
    let expected: Vec<usize> = ["same", "same", "other text which is longer", "same", "last"]
        .map(|text| tokenizer.encode(text, None, usize::MAX).unwrap().ids.len())
        .to_vec();
    assert_eq!((lengths.measured, lengths.max), (5, *expected.iter().max().unwrap()));
    assert_eq!(lengths.mean, expected.iter().sum::<usize>() as f64 / 5.0);
    assert_eq!(lengths.histogram.iter().sum::<usize>(), 5);
    assert_eq!(lengths.truncated_share, expected.iter().filter(|&&length| length > 4).count() as f64 / 5.0);
    assert!(preview.train.sample[2].truncated && preview.train.sample[2].tokens.len() == 4);
    assert_eq!(preview.train.sample[2].tokens[0], "[CLS]");
    // It is plain data: what the window draws, the command line prints.
    let text = serde_json::to_string(&preview).unwrap();
    assert_eq!(serde_json::from_str::<DataPreview>(&text).unwrap(), preview);
    assert!(data::preview(&config, None).unwrap().train.lengths.is_none());
}

#[test]
fn columns_are_guessed_before_they_are_chosen() {
    let dir = files(&[
        ("a.csv", b"id,premise,hypothesis,gold_label\n1,a,b,neutral\n"),
        (
            "b.csv",
            b"when,body,mood\n2020,a rather long text about something,glad\n2021,and one more such text here,glad\n",
        ),
        ("c.tsv", b"1\tfirst text here\n0\tsecond text there\n"),
    ]);
    let look = |name: &str, header: bool| {
        let found = data::preview::columns(&dir.path().join(name), FileFormat::Auto, Some(header)).unwrap();
        (found.text.unwrap(), found.pair, found.label.unwrap())
    };
    assert_eq!(look("a.csv", true), ("premise".to_owned(), Some("hypothesis".to_owned()), "gold_label".to_owned()));
    assert_eq!(look("b.csv", true), ("body".to_owned(), None, "mood".to_owned()));
    assert_eq!(look("c.tsv", false), ("1".to_owned(), None, "0".to_owned()));
}
