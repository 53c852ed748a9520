//! Invented answers of a classifier to one text.

use super::data::noise;
use adamix::eval::MergedWith;
use adamix::protocol::*;

const ROW: &str = "a gripping story, well told and beautifully shot";

fn text_of(input: &TryInput) -> (String, Option<String>, Option<KnownAnswer>) {
    match input {
        TryInput::Text { text, pair } => (text.clone(), pair.clone(), None),
        TryInput::Row { row, .. } => (format!("{ROW} {row}"), None, Some(KnownAnswer::Class(1))),
    }
}

/// An answer of a classifier of two classes with four experts.
pub fn answer(plan: TryPlan) -> TryReport {
    answer_of(plan, &["negative", "positive"])
}

/// The same with other classes; of none a value between 0 and 5.
pub fn answer_of(plan: TryPlan, labels: &[&str]) -> TryReport {
    let (text, pair, known) = text_of(&plan.input);
    let way = |number: u64| -> Vec<f64> {
        let noise = |at: u64| noise(number * 31 + at + plan.seed * 7 + text.len() as u64) as f64;
        if labels.is_empty() {
            return vec![2.9 + 0.8 * (noise(0) - 0.5)];
        }
        let logits: Vec<f64> =
            (0..labels.len() as u64).map(|at| if at == 1 { 2.0 } else { 0.3 * (at % 3) as f64 } + noise(at)).collect();
        let sum: f64 = logits.iter().map(|z| z.exp()).sum();
        logits.iter().map(|z| z.exp() / sum).collect()
    };
    let routes: Vec<Vec<f64>> = (0..plan.routes as u64).map(|route| way(10 + route)).collect();
    let mean = |at: usize| routes.iter().map(|route| route[at]).sum::<f64>() / routes.len() as f64;
    let (merged, experts, base) = (way(0), (1..=4).map(&way).collect(), way(99));
    TryReport {
        step: 240,
        tokens: 2 + text.split_whitespace().count(),
        text,
        pair,
        known: if labels.is_empty() { known.map(|_| KnownAnswer::Value(3.2)) } else { known },
        labels: labels.iter().map(|&label| label.to_owned()).collect(),
        range: labels.is_empty().then_some([0.0, 5.0]),
        rows: [800, 200],
        merged_with: Some(MergedWith::UniformWeights),
        experts,
        ensemble: (!routes.is_empty()).then(|| (0..merged.len()).map(mean).collect()),
        base: Some(base),
        merged,
        routes,
        plan,
        ..TryReport::default()
    }
}

/// What the words of that text do.
pub fn words(input: TryInput) -> WordsReport {
    words_of(input, Some(1))
}

/// The same of this class, or of a value.
pub fn words_of(input: TryInput, class: Option<usize>) -> WordsReport {
    let (text, pair, _) = text_of(&input);
    let mut words = Vec::new();
    for (in_pair, text) in [(false, Some(text.clone())), (true, pair)] {
        for word in text.as_deref().unwrap_or_default().split_whitespace() {
            let at = word.as_ptr() as usize - text.as_deref().unwrap_or_default().as_ptr() as usize;
            let effect = 3.0 * (noise(word.len() as u64 * 13 + at as u64) as f64 - 0.45);
            words.push(WordEffect { word: word.to_owned(), at, in_pair, without: 0.8 - 0.1 * effect, effect });
        }
    }
    WordsReport { input, step: 240, class, whole: 0.83, words, left: 0 }
}
