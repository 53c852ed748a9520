//! `adamix score` as its users see it: layouts, encodings, messages.

use crate::support::cli::{Ran, adamix};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/text_metrics");

/// A directory with files, in which the program is run.
struct Desk(tempfile::TempDir);

impl Desk {
    fn with(files: &[(&str, &[u8])]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        files.iter().for_each(|(name, bytes)| fs::write(dir.path().join(name), bytes).unwrap());
        Self(dir)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// `adamix score ARGUMENTS`.
    fn score(&self, arguments: &[&str]) -> Ran {
        adamix(self.path(), &[&["score"], arguments].concat())
    }

    #[track_caller]
    fn json(&self, arguments: &[&str]) -> Vec<Value> {
        self.score(&[arguments, &["--json"]].concat()).json()
    }

    #[track_caller]
    fn refused(&self, arguments: &[&str], needles: &[&str]) {
        let Ran { code, out, err } = self.score(arguments);
        assert_eq!(code, Some(1), "{out}{err}");
        for needle in needles {
            assert!(err.contains(needle), "{needle:?} is missing in: {err}");
        }
        assert!(!err.contains("panicked"), "{err}");
    }
}

fn golden(name: &str) -> String {
    PathBuf::from(GOLDEN).join(name).display().to_string()
}

#[test]
fn the_e2e_layout_gives_the_official_scores_side_by_side() {
    let desk = Desk::with(&[]);
    let (outputs, references) = (golden("e2e/outputs.txt"), golden("e2e/references.txt"));
    let meteor = golden("meteor");
    let found = desk.json(&[&outputs, &outputs, "--ref", &references, "--meteor-data", &meteor]);
    assert_eq!(found.len(), 2);
    let close = |key: &str, expected: f64| {
        let value = found[0][key].as_f64().unwrap();
        assert!((value - expected).abs() < 0.5e-4 + 1e-9, "{key}: {value}");
    };
    close("bleu", 0.7203);
    close("nist", 7.8212);
    close("meteor_exact_stem_synonym", 0.4792);
    close("rouge_l", 0.7910);
    close("cider", 2.3039);
    assert_eq!(found[0], found[1]);
    assert_eq!(found[0]["protocol"], "e2e");
    assert_eq!(found[0]["meteor_name"], "METEOR (exact, stem, synonym; no paraphrase table)");

    let Ran { code, out, .. } = desk.score(&[&outputs, "--ref", &references, "--meteor-data", &meteor]);
    assert_eq!(code, Some(0));
    assert!(out.starts_with("10 segments, "), "{out}");
    let row = out.lines().find(|line| line.contains("METEOR")).unwrap();
    assert!(row.starts_with("METEOR (exact, stem, synonym; no paraphrase table)") && row.ends_with("0.4792"), "{row}");
}

#[test]
fn without_word_lists_meteor_is_left_out_and_the_reason_given() {
    let desk = Desk::with(&[]);
    let (outputs, references) = (golden("e2e/outputs.txt"), golden("e2e/references.txt"));
    let Ran { code, out, .. } = desk.score(&[&outputs, "--ref", &references]);
    assert_eq!(code, Some(0));
    assert!(out.contains("METEOR is left out") && out.contains("--meteor-data"), "{out}");
    let found = desk.json(&[&outputs, "--ref", &references]);
    assert!(found[0]["meteor_exact_stem_synonym"].is_null() && found[0]["meteor_name"].is_null());
    desk.refused(
        &[&outputs, "--ref", &references, "--meteor-data", "nowhere"],
        &["no english.synsets (nor synonym/english.synsets)", "METEOR 1.5", "nowhere"],
    );
}

#[test]
fn several_reference_files_are_lines_with_gaps() {
    let desk = Desk::with(&[]);
    let outputs = golden("lines/outputs.txt");
    let files = [0, 1, 2].map(|file| golden(&format!("lines/reference{file}.txt")));
    let found = desk.json(&[&outputs, "--ref", &files[0], "--ref", &files[1], "--ref", &files[2]]);
    let expected: Value = serde_json::from_str(&fs::read_to_string(golden("lines/scores.json")).unwrap()).unwrap();
    for (key, golden) in [("bleu", "BLEU"), ("ter", "TER")] {
        let (value, expected) = (found[0][key].as_f64().unwrap(), expected[golden].as_f64().unwrap());
        assert!((value - expected).abs() < 1e-12, "{key}: {value} instead of {expected}");
    }
    assert_eq!(found[0]["protocol"], "webnlg");
    assert!(found[0]["nist"].is_null());
}

#[test]
fn texts_are_prepared_as_those_of_webnlg_on_demand() {
    let desk = Desk::with(&[
        ("raw", "The Café–Bar's open.\n".as_bytes()),
        ("prepared", b"the cafe - bar ' s open .\n"),
        ("ref0", "The Café–Bar is open.\n".as_bytes()),
        ("ref1", b"the cafe - bar is open .\n"),
    ]);
    let scores = |arguments: &[&str]| {
        let mut found = desk.json(arguments).remove(0);
        found.as_object_mut().unwrap().remove("file");
        found
    };
    let expected = scores(&["prepared", "-r", "ref1", "-r", "ref1"]);
    assert_eq!(expected["ter_edits"], 2);
    assert_eq!(scores(&["raw", "-r", "ref0", "-r", "ref0", "--prepare"]), expected);
    assert_ne!(scores(&["raw", "-r", "ref0", "-r", "ref0"]), expected);
    let Ran { code, err, .. } = desk.score(&["raw", "-r", "ref0", "--prepare"]);
    assert_eq!(code, Some(2));
    assert!(err.contains("--prepare goes with --protocol webnlg"), "{err}");
}

#[test]
fn line_ends_marks_and_gaps_do_not_change_scores() {
    let desk = Desk::with(&[
        ("out", b"a red house\nCaf\xc3\xa9 Z\n"),
        ("out.crlf", b"\xef\xbb\xbfa red house\r\nCaf\xc3\xa9 Z\r\n"),
        ("out.open", b"a red house\nCaf\xc3\xa9 Z"),
        ("ref", b"a red house\nthe red house\n\ncaf\xc3\xa9 z\n"),
        ("ref.crlf", b"\xef\xbb\xbf\r\na red house\r\nthe red house\r\n\r\n \r\ncaf\xc3\xa9 z\r\n\r\n"),
    ]);
    let scores = |out: &str, reference: &str| {
        let mut found = desk.json(&[out, "--ref", reference]).remove(0);
        found.as_object_mut().unwrap().remove("file");
        found
    };
    let expected = scores("out", "ref");
    assert_eq!(expected["references"], 3);
    assert!(expected["bleu"].as_f64().unwrap() > 0.0);
    assert_eq!(scores("out.crlf", "ref.crlf"), expected);
    assert_eq!(scores("out.open", "ref.crlf"), expected);
}

#[test]
fn empty_outputs_are_scored_and_counted() {
    let desk = Desk::with(&[("out", b"a house\n\n"), ("ref", b"a house\nthe house\n")]);
    let found = desk.json(&["out", "--ref", "ref"]);
    assert_eq!((&found[0]["segments"], &found[0]["empty_outputs"]), (&2.into(), &1.into()));
    let Ran { out, .. } = desk.score(&["out", "--ref", "ref"]);
    assert!(out.contains("1 of the generated texts are empty: out"), "{out}");
}

#[test]
fn unequal_counts_are_refused_with_both() {
    let desk = Desk::with(&[
        ("out", b"a\nb\nc\n"),
        ("blocks", b"a\nb\n\nc\n"),
        ("lines", b"a\nb\n"),
        ("longer", b"a\nb\nc\nd\n"),
        ("gap", b"a\n\nc\n"),
    ]);
    desk.refused(&["out", "-r", "blocks"], &["out has 3 lines", "blocks has 2 blocks of references", "--layout lines"]);
    desk.refused(&["out", "-r", "lines"], &["out has 3 lines", "lines has 2 lines", "--layout blocks"]);
    desk.refused(&["out", "-r", "lines", "-r", "longer"], &["lines has 2, longer has 4"]);
    desk.refused(&["out", "-r", "gap", "-r", "gap"], &["line 2 is empty in every reference file", "gap"]);
    desk.refused(&["out", "-r", "gap", "--layout", "lines"], &["line 2 is empty", "--layout blocks"]);
    desk.refused(
        &["out", "-r", "lines", "-r", "longer", "--layout", "blocks"],
        &["blocks come in one file", "2 files"],
    );
    assert_eq!(desk.json(&["out", "-r", "gap", "-r", "out"])[0]["references"], 5);
}

#[test]
fn unreadable_files_are_named_with_the_line() {
    let desk = Desk::with(&[
        ("out", b"a\nb\n"),
        ("latin", b"a\ncaf\xe9\n"),
        ("wide", b"\xff\xfea\0\n\0b\0\n\0"),
        ("odd", b"\xff\xfea\0\n"),
        ("empty", b"\n \n"),
        ("none", b""),
    ]);
    desk.refused(&["latin", "-r", "out"], &["line 2: not UTF-8 text (byte 0xe9", "latin"]);
    desk.refused(&["out", "-r", "latin"], &["line 2: not UTF-8 text", "latin"]);
    assert_eq!(desk.json(&["out", "-r", "wide"])[0]["segments"], 2, "UTF-16 with its byte order mark is read");
    desk.refused(&["out", "-r", "odd"], &["UTF-16", "odd"]);
    desk.refused(&["empty", "-r", "out"], &["the file is empty; one generated text a line", "empty"]);
    desk.refused(&["out", "-r", "none"], &["the file is empty; references", "none"]);
    desk.refused(&["missing", "-r", "out"], &["reading the generated texts failed", "missing"]);
    desk.refused(&["out", "-r", "missing"], &["reading the references failed", "missing"]);
    let lists = desk.path().join("lists");
    fs::create_dir(&lists).unwrap();
    fs::write(lists.join("english.synsets"), "big\nx\n").unwrap();
    fs::write(lists.join("english.exceptions"), "").unwrap();
    fs::write(lists.join("function.english.words"), "the\n").unwrap();
    desk.refused(&["out", "-r", "out", "--meteor-data", "lists"], &["line 2", "\"big\"", "english.synsets"]);
    let Ran { code, err, .. } = desk.score(&["out"]);
    assert_eq!(code, Some(2));
    assert!(err.contains("--ref"), "{err}");
}
