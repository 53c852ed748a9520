//! Scores of generated text against the official scorers, sacrebleu, NLTK and plain definitions
//! (golden values written by `tests/golden/text_metrics/make.py`).

mod bootstrap;

use adamix::eval::text_metrics::meteor;
use adamix::eval::text_metrics::meteor::NamedText;
use adamix::eval::text_metrics::{Protocol, Scorer, SegmentScores, TextScores, WordLists};
use serde_json::Value;

macro_rules! golden {
    ($name:literal) => {
        include_str!(concat!("../golden/text_metrics/", $name))
    };
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}
fn strings(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}
fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}
fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}
fn word_lists() -> WordLists {
    let named = |name, text| NamedText { name, text };
    WordLists::parse(
        named("english.synsets", golden!("meteor/english.synsets")),
        named("english.exceptions", golden!("meteor/english.exceptions")),
        named("function.english.words", golden!("meteor/function.english.words")),
    )
    .unwrap()
}
fn e2e() -> (Vec<String>, Vec<Vec<String>>) {
    (lines(golden!("e2e/outputs.txt")), golden!("e2e/references.txt").trim().split("\n\n").map(lines).collect())
}
fn web() -> (Vec<String>, Vec<Vec<String>>) {
    let files =
        [golden!("lines/reference0.txt"), golden!("lines/reference1.txt"), golden!("lines/reference2.txt")].map(lines);
    let outputs = lines(golden!("lines/outputs.txt"));
    let references = (0..outputs.len()).map(|line| files.iter().map(|file| file[line].clone()).collect()).collect();
    (outputs, references)
}
fn score(outputs: &[String], references: &[Vec<String>], protocol: Protocol) -> (TextScores, SegmentScores) {
    Scorer::new(references, protocol, Some(word_lists())).unwrap().score_segments(outputs).unwrap()
}
#[track_caller]
fn close(found: f64, expected: &Value, tolerance: f64, what: &str) {
    let expected = expected.as_f64().unwrap_or_else(|| panic!("{what}: no number: {expected}"));
    assert!((found - expected).abs() <= tolerance, "{what}: {found} instead of {expected}");
}

/// Official scores have four digits.
const ROUNDED: f64 = 0.5e-4 + 1e-9;

#[test]
fn the_e2e_example_scores_as_the_official_scorer_says() {
    let (outputs, references) = e2e();
    let golden = json(golden!("e2e/scores.json"));
    let (scores, segments) = score(&outputs, &references, Protocol::E2e);
    let corpus = &golden["corpus"];
    close(scores.bleu, &corpus["BLEU"], ROUNDED, "BLEU");
    close(scores.nist.unwrap(), &corpus["NIST"], ROUNDED, "NIST");
    close(scores.rouge_l.unwrap(), &corpus["ROUGE_L"], ROUNDED, "ROUGE-L");
    close(scores.cider.unwrap(), &corpus["CIDEr"], ROUNDED, "CIDEr");
    let meteor = scores.meteor_exact_stem_synonym.unwrap();
    close(meteor, &corpus["METEOR_exact_stem_synonym"], ROUNDED, "METEOR");
    assert_eq!(serde_json::json!([scores.hypothesis_words, scores.reference_words]), golden["words"]);
    assert_eq!((scores.segments, scores.references, scores.empty_outputs), (10, references.concat().len(), 0));
    let official = &golden["segments"];
    for at in 0..outputs.len() {
        let what = |name: &str| format!("{name} of segment {at}");
        close(segments.rouge_l[at], &official["ROUGE_L"][at], ROUNDED, &what("ROUGE-L"));
        close(segments.cider[at], &official["CIDEr"][at], ROUNDED, &what("CIDEr"));
        close(segments.meteor[at], &official["METEOR_exact_stem_synonym"][at], ROUNDED, &what("METEOR"));
        // The scorer gives BLEU and NIST of a segment as if it were a corpus.
        let (alone, _) = score(&outputs[at..=at], &references[at..=at], Protocol::E2e);
        close(alone.bleu, &official["BLEU"][at], ROUNDED, &what("BLEU"));
        close(alone.nist.unwrap(), &official["NIST"][at], ROUNDED, &what("NIST"));
    }
}

#[test]
fn bleu_and_ter_by_line_equal_multi_bleu_and_sacrebleu() {
    let (outputs, references) = web();
    let golden = json(golden!("lines/scores.json"));
    let (scores, segments) = score(&outputs, &references, Protocol::WebNlg);
    assert_eq!(serde_json::to_value(&segments.ter_edits).unwrap(), golden["edits"]);
    close(scores.ter.unwrap(), &golden["TER"], 1e-12, "TER");
    close(scores.ter_reference_words.unwrap(), &golden["reference_words"], 1e-12, "reference words");
    close(scores.bleu, &golden["BLEU"], 1e-12, "BLEU");
    assert!(scores.nist.is_none() && scores.cider.is_none() && scores.rouge_l.is_none());
    // An empty reference counts as one of length 0 for BLEU: leaving it out makes another score.
    let present: Vec<Vec<String>> =
        references.iter().map(|texts| texts.iter().filter(|text| !text.is_empty()).cloned().collect()).collect();
    let (other, _) = score(&outputs, &present, Protocol::WebNlg);
    assert_eq!(other.ter, scores.ter);
    assert_eq!(other.meteor_exact_stem_synonym, scores.meteor_exact_stem_synonym);
}

#[test]
fn edge_cases_equal_the_definitions() {
    let golden = json(golden!("definitions.json"));
    let cases = golden.as_array().unwrap();
    assert!(cases.len() >= 8);
    let mut compared = 0;
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let outputs = strings(&case["outputs"]);
        let references: Vec<Vec<String>> = case["references"].as_array().unwrap().iter().map(strings).collect();
        let (scores, _) = score(&outputs, &references, Protocol::E2e);
        close(scores.bleu, &case["BLEU"], 1e-12, name);
        close(scores.nist.unwrap(), &case["NIST"], 1e-12, name);
        for (found, key) in [(scores.rouge_l, "ROUGE_L"), (scores.cider, "CIDEr")] {
            if key == "CIDEr" && found.is_none() {
                // The reference program prints 0 where no n-gram is rarer than another.
                assert_eq!((case[key].as_f64().unwrap_or(0.0), scores.undefined.len()), (0.0, 1), "{name}");
                compared += usize::from(!case[key].is_null());
            } else if !case[key].is_null() {
                close(found.unwrap(), &case[key], 1e-12, &format!("{key}, {name}"));
                compared += 1;
            }
        }
        let (scores, _) = score(&outputs, &references, Protocol::WebNlg);
        close(scores.bleu, &case["BLEU_spaces"], 1e-12, &format!("BLEU of words at spaces, {name}"));
    }
    assert!(compared >= 12, "{compared}");
}

#[test]
fn chrf_equals_sacrebleu() {
    let golden = json(golden!("chrf.json"));
    let cases = golden["cases"].as_array().unwrap();
    assert!(cases.len() >= 12);
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let (outputs, references) = match name {
            "E2E" => e2e(),
            "lines" => web(),
            _ => {
                let references = case["references"].as_array().unwrap().iter().map(strings).collect();
                (strings(&case["outputs"]), references)
            }
        };
        let (scores, _) = score(&outputs, &references, Protocol::E2e);
        close(scores.chrf, &case["chrf"], 1e-12, &format!("chrF, {name}"));
        close(scores.chrf_plus_plus, &case["chrf_plus_plus"], 1e-12, &format!("chrF++, {name}"));
    }
}

#[test]
fn stems_equal_nltk() {
    let golden = json(golden!("stems.json"));
    let stems = golden["stems"].as_object().unwrap();
    assert!(stems.len() > 200, "{}", stems.len());
    for (word, stem) in stems {
        assert_eq!(meteor::stem(word), stem.as_str().unwrap(), "{word}");
    }
}

#[test]
fn a_perfect_output_scores_best_and_an_empty_one_zero() {
    let references =
        vec![texts(&["The red house stands by the river."]), texts(&["It was sold in May 2020, they say."])];
    let perfect: Vec<String> = references.iter().map(|texts| texts[0].clone()).collect();
    for protocol in [Protocol::E2e, Protocol::WebNlg] {
        let (best, segments) = score(&perfect, &references, protocol);
        let one = |value: f64| (value - 1.0).abs() < 1e-12;
        assert!(one(best.bleu) && one(best.chrf) && one(best.chrf_plus_plus), "{best:?}");
        assert!(one(best.meteor_exact_stem_synonym.unwrap()) && segments.meteor.iter().all(|&score| one(score)));
        assert!(best.rouge_l.is_none_or(one) && best.cider.is_none_or(|score| (score - 10.0).abs() < 1e-9));
        assert_eq!(best.ter.unwrap_or(0.0), 0.0);

        let (worst, _) = score(&texts(&["", " "]), &references, protocol);
        assert_eq!(worst.empty_outputs, 2);
        for (name, value) in worst.named() {
            // All words are missing.
            let expected = if name == "TER" { 1.0 } else { 0.0 };
            assert_eq!(value, expected, "{name}");
        }
    }
}

#[test]
fn one_word_segments_have_defined_scores() {
    let references = vec![texts(&["house"]), texts(&["tree"])];
    let (right, _) = score(&texts(&["house", "tree"]), &references, Protocol::WebNlg);
    // There are no bigrams, so multi-bleu says 0.
    assert_eq!((right.bleu, right.ter), (0.0, Some(0.0)));
    assert_eq!(right.meteor_exact_stem_synonym, Some(1.0));
    let (wrong, _) = score(&texts(&["tree", "house"]), &references, Protocol::WebNlg);
    assert_eq!((wrong.ter, wrong.meteor_exact_stem_synonym), (Some(1.0), Some(0.0)));
    let (right, _) = score(&texts(&["house", "tree"]), &references, Protocol::E2e);
    assert!(right.named().iter().all(|(_, value)| value.is_finite()), "{right:?}");
    assert_eq!(right.rouge_l, Some(1.0));
    // With one segment nothing is rare.
    let (alone, _) = score(&texts(&["house"]), &references[..1], Protocol::E2e);
    assert_eq!(alone.cider, None);
    assert!(
        alone.undefined.len() == 1 && alone.undefined[0].reason.contains("only one input"),
        "{:?}",
        alone.undefined
    );
    let same = vec![vec!["Zizzi serves food.".to_owned()]; 3];
    let repeated = Scorer::new(&same, Protocol::E2e, None).unwrap().score(&same.concat()).unwrap();
    assert!(repeated.cider.is_none() && repeated.undefined[0].reason.contains("the same references"));
}

#[test]
fn only_signs_and_foreign_scripts_are_no_trouble() {
    let references = vec![texts(&["…", "日本の家"]), texts(&["Ёлка зелёная"]), texts(&["(!)"])];
    for protocol in [Protocol::E2e, Protocol::WebNlg] {
        for outputs in [["日本の家", "ёлка зелёная", "(?)"], ["...", "x", "\u{301}"]] {
            let (scores, _) = score(&texts(&outputs), &references, protocol);
            assert!(scores.named().iter().all(|(_, value)| value.is_finite()), "{scores:?}");
        }
    }
}

#[test]
fn scores_do_not_depend_on_what_was_scored_before() {
    let (outputs, references) = e2e();
    let mut scorer = Scorer::new(&references, Protocol::E2e, Some(word_lists())).unwrap();
    let first = scorer.score(&outputs).unwrap();
    let noise: Vec<String> = outputs.iter().map(|text| format!("unheard-of words, {text}")).collect();
    assert_ne!(scorer.score(&noise).unwrap(), first);
    assert_eq!(scorer.score(&outputs).unwrap(), first);
}

#[test]
fn what_cannot_be_scored_is_refused_with_the_reason() {
    let references = vec![texts(&["a"]), texts(&["b", ""])];
    let mut scorer = Scorer::new(&references, Protocol::E2e, None).unwrap();
    let refusal = scorer.score(&texts(&["a"])).unwrap_err().to_string();
    assert!(refusal.contains("1 outputs for 2 segments"), "{refusal}");
    assert_eq!(scorer.score(&texts(&["a", "b"])).unwrap().meteor_exact_stem_synonym, None);
    let refusal = Scorer::new(&[texts(&["a"]), texts(&["", " "])], Protocol::WebNlg, None).unwrap_err().to_string();
    assert!(refusal.contains("segment 2 has no reference text"), "{refusal}");
    assert!(Scorer::new(&[], Protocol::E2e, None).unwrap_err().to_string().contains("no references"));
}
