//! Intervals of a difference of BLEU.

use super::texts;
use adamix::eval::text_metrics::{BleuDifference, Protocol, Scorer, SegmentScores};
use adamix::rng::{Purpose, SeedStream, Stream};

const WORDS: [&str; 12] =
    ["a", "place", "with", "good", "food", "near", "the", "river", "and", "cheap", "quiet", "old"];

/// Ten words of each segment, of which a share is replaced by words that are in no reference.
fn system(references: &[Vec<String>], wrong: f64, stream: &mut Stream) -> Vec<String> {
    let word = |word: &str, stream: &mut Stream| if stream.uniform() < wrong { "x" } else { word }.to_owned();
    let text = |texts: &Vec<String>| texts[0].split(' ').map(|own| word(own, stream)).collect::<Vec<_>>().join(" ");
    references.iter().map(text).collect()
}

fn references(segments: usize, stream: &mut Stream) -> Vec<Vec<String>> {
    let mut text = || (0..10).map(|_| WORDS[stream.below(WORDS.len())]).collect::<Vec<_>>().join(" ");
    (0..segments).map(|_| vec![text()]).collect()
}

fn difference(wrong: [f64; 2], set: u64) -> BleuDifference {
    let mut stream = SeedStream::new(3).stream(Purpose::Shuffle, set);
    let references = references(24, &mut stream);
    let mut scorer = Scorer::new(&references, Protocol::E2e, None).unwrap();
    let [own, other] = wrong.map(|wrong| {
        let outputs = system(&references, wrong, &mut stream);
        scorer.score_segments(&outputs).unwrap()
    });
    let apart = BleuDifference::of(&own.1, &other.1, Protocol::E2e).unwrap();
    assert!((apart.difference - (own.0.bleu - other.0.bleu)).abs() < 1e-12, "of the whole corpus");
    assert!(apart.low <= apart.high && apart.low <= apart.difference + 0.05 && apart.high >= apart.difference - 0.05);
    apart
}

#[test]
fn equal_systems_are_seldom_told_apart_and_different_ones_nearly_always() {
    let shown = |wrong| (0..100).filter(|&set| difference(wrong, set).is_shown()).count();
    let (equal, worse) = (shown([0.25, 0.25]), shown([0.4, 0.15]));
    // The nominal 5 of 100; a small sample's bootstrap errs a little more often.
    assert!((1..=14).contains(&equal), "{equal} of 100 equal pairs were told apart");
    assert!(worse >= 95, "{worse} of 100 different pairs were told apart");
}

#[test]
fn the_same_texts_differ_by_nothing_and_two_sets_not_at_all() {
    let references: Vec<Vec<String>> = references(5, &mut SeedStream::new(1).stream(Purpose::Shuffle, 0));
    let outputs = system(&references, 0.3, &mut SeedStream::new(1).stream(Purpose::Shuffle, 1));
    let mut scorer = Scorer::new(&references, Protocol::WebNlg, None).unwrap();
    let (_, own) = scorer.score_segments(&outputs).unwrap();
    let none = BleuDifference::of(&own, &own, Protocol::WebNlg).unwrap();
    assert_eq!(none, BleuDifference { difference: 0.0, low: 0.0, high: 0.0 });
    assert_eq!(none.describe(), "+0.0 (+0.0 to +0.0), no difference shown");
    assert_eq!(BleuDifference::of(&own, &SegmentScores::default(), Protocol::WebNlg), None);
    let one = Scorer::new(&[texts(&["a b"])], Protocol::E2e, None).unwrap().score_segments(&texts(&["a b"])).unwrap().1;
    assert_eq!(BleuDifference::of(&one, &one, Protocol::E2e), None, "of a single input nothing is said");
    let apart = BleuDifference { difference: -0.078, low: -0.153, high: -0.004 };
    assert_eq!((apart.describe().as_str(), apart.is_shown()), ("-7.8 (-15.3 to -0.4)", true));
}
