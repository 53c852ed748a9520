//! Metrics against scikit-learn and scipy (golden values written by `tests/golden/metrics.py`).

use adamix::config::{Metric, choice_name};
use adamix::data::Labels;
use adamix::error::ErrorKind;
use adamix::eval::metrics::{accuracy, ensemble, f1, higher_is_better, majority, matthews, pearson, scores, spearman};
use serde_json::Value;

const TOLERANCE: f64 = 1e-9;

fn golden() -> Value {
    serde_json::from_str(include_str!("../golden/metrics.json")).unwrap()
}
fn floats(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}
fn classes(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|x| x.as_u64().unwrap() as u32).collect()
}
fn close(found: f64, expected: &Value, what: &str) {
    let expected = expected.as_f64().unwrap();
    assert!((found - expected).abs() < TOLERANCE, "{what}: {found} instead of {expected}");
}

#[test]
fn class_metrics_equal_scikit_learn() {
    let golden = golden();
    let cases = golden["classes"].as_array().unwrap();
    assert!(cases.len() >= 13);
    for case in cases {
        let (truth, predicted) = (classes(&case["truth"]), classes(&case["predicted"]));
        let k = case["classes"].as_u64().unwrap() as usize;
        close(accuracy(&truth, &predicted), &case["accuracy"], &format!("accuracy, {}", case["name"]));
        close(f1(&truth, &predicted, k), &case["f1"], &format!("F1, {}", case["name"]));
        close(matthews(&truth, &predicted, k), &case["matthews"], &format!("Matthews, {}", case["name"]));
    }
}

#[test]
fn correlations_equal_scipy() {
    let golden = golden();
    for case in golden["values"].as_array().unwrap() {
        let (x, y) = (floats(&case["x"]), floats(&case["y"]));
        for (name, found) in [("pearson", pearson(&x, &y)), ("spearman", spearman(&x, &y))] {
            match found {
                Some(found) => close(found, &case[name], &format!("{name}, {}", case["name"])),
                None => assert!(case[name].is_null(), "{name}, {}: undefined instead of {}", case["name"], case[name]),
            }
        }
    }
}

#[test]
fn correlations_of_unusable_numbers_are_undefined() {
    assert_eq!(pearson(&[1.0], &[2.0]), None);
    assert_eq!(pearson(&[], &[]), None);
    assert_eq!(pearson(&[1.0, f64::NAN], &[1.0, 2.0]), None);
    assert_eq!(spearman(&[1.0, f64::INFINITY], &[1.0, 2.0]), None);
    assert_eq!(spearman(&[1.0, 2.0], &[3.0, 3.0]), None);
    assert!(pearson(&[1.0, 2.0, 4.0], &[1.0, 3.0, 3.0]).is_some());
}

#[test]
fn scores_from_logits_equal_scikit_learn() {
    let golden = golden();
    for case in golden["outputs"].as_array().unwrap() {
        let logits: Vec<f32> = floats(&case["logits"]).into_iter().map(|z| z as f32).collect();
        let labels = Labels::Classes(classes(&case["truth"]));
        let k = case["classes"].as_u64().unwrap() as usize;
        let found = scores(&logits, &labels, k, Metric::Matthews).unwrap();
        close(found.loss, &case["loss"], "loss");
        close(found.accuracy.unwrap(), &case["accuracy"], "accuracy");
        close(found.f1.unwrap(), &case["f1"], "F1");
        close(found.primary, &case["matthews"], "Matthews as the deciding metric");
        assert_eq!((found.pearson, found.spearman), (None, None));
        let loss = scores(&logits, &labels, k, Metric::Loss).unwrap();
        assert_eq!(loss.primary, loss.loss);
        // An ensemble of equal members is one of them; one of different members is not.
        let same = ensemble(&[logits.clone(), logits.clone()], &labels, k, Metric::Matthews).unwrap();
        assert!((same.loss - found.loss).abs() < 1e-6 && same.primary == found.primary);
        let negated: Vec<f32> = logits.iter().map(|z| -z).collect();
        let mixed = ensemble(&[logits, negated], &labels, k, Metric::Matthews).unwrap();
        assert!((mixed.loss - found.loss).abs() > 1e-3);
    }
}

#[test]
fn an_ensemble_averages_probabilities_not_logits() {
    // Members say (0.9, 0.1) and (0.2, 0.8): the mean is (0.55, 0.45), so class 0; the mean logit would say class 0 too,
    // but with another probability.
    let member = |p: f64| vec![p.ln() as f32, (1.0 - p).ln() as f32];
    let labels = Labels::Classes(vec![0]);
    let found = ensemble(&[member(0.9), member(0.2)], &labels, 2, Metric::Accuracy).unwrap();
    assert!((found.loss + 0.55_f64.ln()).abs() < 1e-6, "{}", found.loss);
    let values =
        ensemble(&[vec![1.0, 2.0, 4.0], vec![3.0, 4.0, 6.0]], &Labels::Values(vec![2.0, 3.0, 5.0]), 1, Metric::Pearson);
    let values = values.unwrap();
    assert!(values.loss < 1e-12 && (values.primary - 1.0).abs() < 1e-12);
}

#[test]
fn regression_scores() {
    let labels = Labels::Values(vec![0.0, 1.0, 2.0, 5.0]);
    let found = scores(&[0.5, 1.0, 2.0, 4.0], &labels, 1, Metric::Auto).unwrap();
    assert!((found.loss - 1.25 / 4.0).abs() < 1e-12);
    assert_eq!(found.primary, found.pearson.unwrap());
    assert!((found.spearman.unwrap() - 1.0).abs() < 1e-12);
    assert_eq!((found.accuracy, found.f1, found.matthews), (None, None, None));
    // The same answer for every row correlates with nothing: 0, never NaN.
    let constant = scores(&[0.3; 4], &labels, 1, Metric::Spearman).unwrap();
    assert_eq!((constant.pearson, constant.primary), (Some(0.0), 0.0));
}

#[test]
fn unusable_outputs_are_errors() {
    let labels = Labels::Classes(vec![0, 1]);
    let kind = |logits: &[f32], labels: &Labels| scores(logits, labels, 2, Metric::Accuracy).unwrap_err().kind();
    assert_eq!(kind(&[0.0, 1.0, f32::NAN, 1.0], &labels), ErrorKind::Numerics);
    assert_eq!(kind(&[0.0, 1.0, 1.0], &labels), ErrorKind::Shape);
    assert_eq!(kind(&[0.0, 1.0, 1.0, 0.0], &Labels::Classes(vec![0, 2])), ErrorKind::Shape);
    assert_eq!(kind(&[], &Labels::Classes(Vec::new())), ErrorKind::Shape);
    let message = scores(&[0.0, 1.0, f32::INFINITY, 1.0], &labels, 2, Metric::Accuracy).unwrap_err().to_string();
    assert!(message.contains("row 1"), "{message}");
    assert!(ensemble(&[], &labels, 2, Metric::Accuracy).is_err());
}

#[test]
fn majority_is_what_a_constant_answer_scores() {
    let labels = Labels::Classes(vec![1, 1, 1, 0]);
    assert_eq!(majority(&labels, 2, Metric::Accuracy), 0.75);
    assert!((majority(&labels, 2, Metric::F1) - 6.0 / 7.0).abs() < 1e-12);
    assert_eq!(majority(&labels, 2, Metric::Matthews), 0.0);
    let entropy = -(0.75 * 0.75_f64.ln() + 0.25 * 0.25_f64.ln());
    assert!((majority(&labels, 2, Metric::Loss) - entropy).abs() < 1e-12);
    let values = Labels::Values(vec![1.0, 2.0, 3.0]);
    assert_eq!(majority(&values, 1, Metric::Pearson), 0.0);
    assert!((majority(&values, 1, Metric::Loss) - 2.0 / 3.0).abs() < 1e-12);
}

#[test]
fn names_and_directions() {
    assert_eq!(choice_name(Metric::Matthews), "matthews");
    assert!(higher_is_better(Metric::Pearson) && !higher_is_better(Metric::Loss));
}
