//! Two results side by side: ours and ours, or ours and that of `tests/golden/bench_pytorch.py`.
//!
//! A file holds one result, or several rounds of the same measurement, one JSON object a line: then the medians
//! are compared.

use crate::bench::figures::Spread;
use crate::error::{Error, Result};
use serde::Serialize;
use serde_json::Value;
use std::path::Path;

/// What is compared: field, what it is called, its unit, whether more is better.
const FIGURES: [(&str, &str, &str, bool); 10] = [
    ("tokens_per_s", "speed", "tokens/s", true),
    ("sequences_per_s", "speed", "sequences/s", true),
    ("step_seconds", "step", "s", false),
    ("gemm_share", "share of the GEMM rate", "", true),
    ("gemm_gflops", "GEMM rate of the machine", "GFLOP/s", true),
    ("peak_rss_mb", "peak memory", "MB", false),
    ("steady_rss_mb", "steady memory", "MB", false),
    ("peak_above_weights_mb", "peak above the weights", "MB", false),
    ("step_mb", "memory of a step", "MB", false),
    ("allocations_per_step", "allocations a step", "", false),
];

/// What should be the same in both for the figures to mean the same work.
const WORK: [&str; 9] =
    ["shape", "data", "dtype", "weights", "device", "threads", "batch_size", "num_experts", "adapter_size"];

/// One figure of both sides.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    pub what: String,
    /// Empty for a pure number.
    pub unit: &'static str,
    pub a: f64,
    pub b: f64,
    /// a / b.
    pub ratio: f64,
    /// How many times better a is than b: the ratio where more is better, otherwise its inverse.
    pub times_better: f64,
}

/// Two results side by side.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// Tool, shape and format.
    pub a: String,
    pub b: String,
    /// Rounds in each file.
    pub rounds: [usize; 2],
    /// Where the two did not do the same work.
    pub differences: Vec<String>,
    pub figures: Vec<Figure>,
}

/// Reads one file of results.
fn read(path: &Path) -> Result<Vec<Value>> {
    let text = std::fs::read_to_string(path).map_err(|err| Error::io("reading a result of bench", path, err))?;
    let wrong = |why: &str| Error::format(format!("not a result of bench --json ({why}): {}", path.display()));
    let parse = |text: &str| serde_json::from_str::<Value>(text).map_err(|err| wrong(&err.to_string()));
    // One object over several lines, or one object a line.
    let found = match parse(&text) {
        Ok(value) => vec![value],
        Err(_) => text.lines().filter(|line| !line.trim().is_empty()).map(parse).collect::<Result<_>>()?,
    };
    if found.is_empty() || !found.iter().all(|value| value["step_seconds"].is_number()) {
        return Err(wrong("step_seconds is missing"));
    }
    Ok(found)
}

/// Compares two files.
pub fn files(a: &Path, b: &Path) -> Result<Comparison> {
    Ok(compare(&read(a)?, &read(b)?))
}

fn median(results: &[Value], get: impl Fn(&Value) -> Option<f64>) -> Option<f64> {
    let values: Vec<f64> = results.iter().filter_map(get).collect();
    (!values.is_empty()).then(|| Spread::of(values).median)
}

fn title(results: &[Value]) -> String {
    let Some(first) = results.first() else { return String::new() };
    let words = ["tool", "version", "shape", "dtype"].map(|key| first[key].as_str().unwrap_or_default());
    words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

fn phase_ms(result: &Value, name: &str) -> Option<f64> {
    let phases = result["phases"].as_array()?;
    phases.iter().find(|phase| phase["phase"] == name)?["ms"]["median"].as_f64()
}

fn compare(a: &[Value], b: &[Value]) -> Comparison {
    let mut figures = Vec::new();
    let mut add = |what: String, unit, more_is_better, values: (Option<f64>, Option<f64>)| {
        if let (Some(a), Some(b)) = values {
            let ratio = a / b;
            let times_better = if more_is_better { ratio } else { b / a };
            figures.push(Figure { what, unit, a, b, ratio, times_better });
        }
    };
    for (key, what, unit, more_is_better) in FIGURES {
        let of = |results: &[Value]| median(results, |value| value[key].as_f64());
        add(what.to_owned(), unit, more_is_better, (of(a), of(b)));
    }
    let names = a.first().and_then(|value| value["phases"].as_array()).into_iter().flatten();
    for name in names.filter_map(|phase| phase["phase"].as_str()) {
        let of = |results: &[Value]| median(results, |value| phase_ms(value, name));
        add(format!("phase {}", name.replace('_', " ")), "ms", false, (of(a), of(b)));
    }
    let pair = a.first().zip(b.first());
    let differs =
        |key: &&&str| pair.is_some_and(|(a, b)| !a[**key].is_null() && !b[**key].is_null() && a[**key] != b[**key]);
    let words = |key: &str| pair.map(|(a, b)| format!("{key}: {} and {}", a[key], b[key])).unwrap_or_default();
    Comparison {
        a: title(a),
        b: title(b),
        rounds: [a.len(), b.len()],
        differences: WORK.iter().filter(differs).map(|key| words(key)).collect(),
        figures,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn medians_are_compared_and_differences_named() {
        let ours = |speed: f64| {
            json!({"tool": "adamix", "shape": "lab", "dtype": "f32", "tokens_per_s": speed, "step_seconds": 2.0,
                   "phases": [{"phase": "head", "ms": {"median": 4.0}}]})
        };
        let theirs = json!({"tool": "pytorch", "shape": "lab", "dtype": "bf16", "tokens_per_s": 50.0, "step_seconds": 8.0,
                            "peak_rss_mb": 100});
        let got = compare(&[ours(100.0), ours(300.0), ours(200.0)], &[theirs]);
        assert_eq!((got.a.as_str(), got.b.as_str(), got.rounds), ("adamix lab f32", "pytorch lab bf16", [3, 1]));
        assert_eq!(got.differences, [r#"dtype: "f32" and "bf16""#]);
        let rows: Vec<_> = got.figures.iter().map(|f| (f.unit, f.a, f.b, f.ratio, f.times_better)).collect();
        assert_eq!(rows, [("tokens/s", 200.0, 50.0, 4.0, 4.0), ("s", 2.0, 8.0, 0.25, 4.0)]);
        let phases = compare(&[ours(1.0)], &[ours(1.0)]).figures;
        assert_eq!(phases.last().map(|f| (f.what.as_str(), f.ratio)), Some(("phase head", 1.0)));
    }

    #[test]
    fn files_of_one_result_or_many_are_read_and_others_refused() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let one = write("one.json", "{\n \"step_seconds\": 1.0\n}\n");
        let two = write("two.json", "{\"step_seconds\": 1.0}\n{\"step_seconds\": 3.0}\n");
        let got = files(&one, &two).unwrap();
        assert_eq!((got.rounds, got.figures[0].b), ([1, 2], 2.0));
        for (name, text) in [("bad", "{"), ("other", "{\"loss\": 1}"), ("empty", "")] {
            let err = files(&one, &write(name, text)).unwrap_err().to_string();
            assert!(err.contains("not a result of bench"), "{err}");
        }
    }
}
