//! A look at a table before its columns are chosen: every layout that training reads, and what is guessed.

use super::{custom, files, load, texts};
use adamix::config::{FileFormat, Problem};
use adamix::data::columns::{Columns, columns};

fn look(name: &str, contents: &[u8], header: Option<bool>) -> Columns {
    let dir = files(&[(name, contents)]);
    columns(&dir.path().join(name), FileFormat::Auto, header).unwrap()
}

/// Rows `id;review text;sentiment;stars`, with this between the cells.
fn reviews(between: &str) -> String {
    let row = |i: usize| {
        let text = ["the food was very good and cheap", "we waited an hour for a cold soup"][i % 2];
        [i.to_string(), format!("{text} {i}"), ["good", "bad"][i % 2].to_owned(), (i % 5 + 1).to_string()].join(between)
    };
    let head = ["id", "review text", "sentiment", "stars"].join(between);
    std::iter::once(head).chain((0..40).map(row)).map(|line| line + "\n").collect()
}

#[test]
fn the_delimiter_of_a_csv_file_is_found_and_training_reads_the_same() {
    for (between, delimiter) in [(";", ';'), (",", ','), ("|", '|'), ("\t", '\t')] {
        let text = reviews(between);
        let found = look("reviews.csv", text.as_bytes(), None);
        assert_eq!(found.names, ["id", "review text", "sentiment", "stars"]);
        assert_eq!((found.delimiter, found.header, found.looked_at), (Some(delimiter), true, 40));
        assert_eq!((found.text.as_deref(), found.label.as_deref()), (Some("review text"), Some("sentiment")));
        let dir = files(&[("reviews.csv", text.as_bytes())]);
        let mut config = custom(&dir, "reviews.csv", "reviews.csv");
        (config.text_column, config.label_column) = ("review text".to_owned(), "sentiment".to_owned());
        assert_eq!(texts(&load(&config).unwrap().train)[0], "the food was very good and cheap 0");
    }
}

#[test]
fn facts_and_reasons_are_those_of_the_rows() {
    let found = look("reviews.csv", reviews(";").as_bytes(), None);
    let text = found.facts_of("review text").unwrap();
    assert_eq!((text.words, text.numeric, text.distinct, text.filled), (8.5, 0.0, 40, 40));
    assert_eq!(text.samples[0], "the food was very good and cheap 0");
    assert_eq!((found.facts[0].numeric, found.facts[0].whole, found.facts[3].distinct), (1.0, 1.0, 5));
    assert_eq!(found.label_reason, "2 different values in 40 rows");
    assert_eq!(found.text_reason, "8 words a row, 40 different values in 40 rows");
}

#[test]
fn utf_16_is_read_as_utf_8_is() {
    let text = "review;label\nschön und gut 🙂;1\nmäßig, eher nicht;0\n";
    let units = |big: bool| -> Vec<u8> {
        let pair = |unit: u16| if big { unit.to_be_bytes() } else { unit.to_le_bytes() };
        std::iter::once(0xfeff).chain(text.encode_utf16()).flat_map(pair).collect()
    };
    for (bytes, encoding) in [
        (units(false), "UTF-16 (little endian)"),
        (units(true), "UTF-16 (big endian)"),
        (text.as_bytes().to_vec(), "UTF-8"),
        ([b"\xef\xbb\xbf", text.as_bytes()].concat(), "UTF-8 with a byte order mark"),
    ] {
        let found = look("u.csv", &bytes, None);
        assert_eq!((found.names.join(","), found.encoding.as_str()), ("review,label".to_owned(), encoding));
        let dir = files(&[("u.csv", &bytes)]);
        let mut config = custom(&dir, "u.csv", "u.csv");
        config.text_column = "review".to_owned();
        assert_eq!(texts(&load(&config).unwrap().train), ["schön und gut 🙂", "mäßig, eher nicht"]);
    }
    let broken = [&units(false)[..], b"x"].concat();
    let dir = files(&[("u.csv", &broken)]);
    let err = load(&custom(&dir, "u.csv", "")).unwrap_err().to_string();
    assert!(err.contains("UTF-16") && err.contains("half a character") && err.contains("u.csv"), "{err}");
}

#[test]
fn quoted_line_ends_and_lists_hide_no_column() {
    let found = look("q.csv", b"text,label\n\"two\nlines of text, quoted\",1\nanother text here,0\n", None);
    assert_eq!((found.names.join(","), found.looked_at), ("text,label".to_owned(), 2));
    assert_eq!(found.rows[0][0], "two\nlines of text, quoted");
    let json = b"{\"tags\": [1], \"body\": \"a text of some words\", \"mood\": \"glad\"}\n{\"tags\": [], \"body\": \"and one more text\", \"mood\": \"sad\"}\n";
    let found = look("q.jsonl", json, None);
    assert_eq!((found.text.as_deref(), found.label.as_deref(), found.delimiter), (Some("body"), Some("mood"), None));
    assert_eq!((found.facts_of("tags").unwrap().filled, found.facts_of("body").unwrap().filled), (0, 2));
}

#[test]
fn a_first_line_that_is_a_row_is_no_header_unless_it_is_said_to_be_one() {
    let rows = b"1\tthe first text of the file\n0\tthe second text of the file\n";
    let found = look("h.tsv", rows, None);
    assert_eq!((found.header, found.names.join(","), found.looked_at), (false, "0,1".to_owned(), 2));
    assert_eq!((found.text.as_deref(), found.label.as_deref()), (Some("1"), Some("0")));
    assert!(look("h.tsv", rows, Some(true)).header);
    assert!(look("h.tsv", b"text\t2019\na b c\t1\n", None).header, "a usual name makes it a header");
}

#[test]
fn an_id_is_neither_text_nor_label_and_many_numbers_are_an_amount() {
    let rows: String = (0..60).map(|i| format!("r{i:03},{i}.5,some words about number {i}\n")).collect();
    let found = look("n.csv", format!("key,score,remark\n{rows}").as_bytes(), None);
    assert_eq!((found.text.as_deref(), found.label.as_deref()), (Some("remark"), Some("score")));
    assert_eq!(found.problem, Problem::Regression);
    assert_eq!(look("r.csv", reviews(",").as_bytes(), None).problem, Problem::Classification);
}
