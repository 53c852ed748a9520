//! Rounding budgets against the certificates of real exports, and against rounding by hand.

use super::{classifier, lora, near, writer};
use crate::support::fill;
use crate::support::texts::TextPlace;
use crate::transfer::write_tokenizer;
use adamix::artifact::RunDir;
use adamix::config::{MixtureKind, RunConfig};
use adamix::error::ErrorKind;
use adamix::eval::compare;
use adamix::mixture::{Lora, Side};
use adamix::protocol::studies::{FormatBudget, RoundingPlan, RoundingReport};
use adamix::protocol::{ExportPlan, ExportReport, ExportTarget, MergePlan, NumberFormat, WeightsOf};
use adamix::tensor::{Device, Tensor};
use adamix::train::ModelAndData;
use adamix::workflow::export::{ExportedRun, export_subject};
use adamix::workflow::run;
use adamix::workflow::studies::rounding::rounding_subject;
use half::{bf16, f16};
use serde_json::{Value, json};

fn plan(targets: &[ExportTarget], causes: bool) -> RoundingPlan {
    RoundingPlan { targets: targets.to_vec(), merge: MergePlan::Uniform, causes }
}

fn measure(subject: &ModelAndData, config: &RunConfig, plan: &RoundingPlan) -> RoundingReport {
    rounding_subject(subject, config, plan, &|_| true).unwrap()
}

/// The export itself, written and proven.
fn written(subject: &ModelAndData, config: &RunConfig, target: ExportTarget, dtype: NumberFormat) -> ExportReport {
    let mut config = config.clone();
    config.name = format!("{}-{}", target.as_str(), dtype.as_str());
    let (dir, _lock) = RunDir::create(&config).unwrap();
    let plan = ExportPlan { targets: vec![target], dtype, merge: MergePlan::Uniform, dir: None };
    let run = ExportedRun { config: &config, dir: &dir, weights: WeightsOf::training(1) };
    export_subject(subject, run, &plan).unwrap().remove(0)
}

/// What was predicted is what the certificate of the written files says.
#[track_caller]
fn agree(budget: &FormatBudget, report: &ExportReport, slack: f64) {
    let proof = &report.certificate;
    let moved = proof.probe.max_abs_delta.unwrap();
    println!(
        "{:?} {:?}: {:e} of {:e}, written {:e}; predicted {:?}",
        report.target, budget.dtype, budget.measured, budget.allowed, moved, budget.predicted
    );
    assert!((budget.measured - moved).abs() <= slack * (1e-3 + moved), "{budget:?}\n{proof:?}");
    near("allowed", budget.allowed, proof.probe.tolerance, 1e-6);
    assert_eq!((budget.flipped, budget.kept), (proof.probe.flipped, proof.passed), "{proof:?}");
    let bytes: u64 = proof.files.iter().map(|file| file.bytes).max().unwrap();
    assert!(budget.bytes <= bytes && budget.bytes > 0, "{} of {bytes}", budget.bytes);
}

#[test]
fn a_modules_budget_is_what_its_certificate_will_say() {
    let adapter = |config: &mut RunConfig| config.mixture.kind = MixtureKind::Adapter;
    let cases = [classifier(lora(false)), classifier(lora(true)), classifier(adapter)];
    for (_place, config, subject) in &cases {
        modules_agree(subject, config);
    }
    for family in ["gpt2-tiny", "llama-tiny"] {
        let (_place, config, subject) = writer(family, lora(false));
        modules_agree(&subject, &config);
    }
}

fn modules_agree(subject: &ModelAndData, config: &RunConfig) {
    let report = measure(subject, config, &plan(&[ExportTarget::Merged], true));
    let [files] = &report.files[..] else { panic!("{report:?}") };
    assert_eq!(files.formats.iter().map(|f| f.dtype).collect::<Vec<_>>(), ExportTarget::Merged.dtypes());
    for budget in &files.formats {
        agree(budget, &written(subject, config, ExportTarget::Merged, budget.dtype), 0.0);
        let exact = budget.dtype == NumberFormat::F32;
        assert_eq!(exact, budget.measured == 0.0 && budget.causes.is_empty() && budget.weights.largest == 0.0);
        assert_eq!(exact, *budget.scores.as_ref().unwrap() == report.exact, "scores of rounded weights are others");
        if !exact {
            let (predicted, sum) = (budget.predicted.unwrap(), budget.causes.iter().map(|c| c.change).sum::<f64>());
            near("sum of the causes", predicted, sum, 1e-12);
            assert!(budget.measured <= 1.3 * predicted, "{budget:?}");
            assert!(budget.causes.windows(2).all(|pair| pair[0].change >= pair[1].change));
            assert!(budget.causes.iter().any(|cause| cause.part == "layers.1"), "{:?}", budget.causes);
        }
    }
}

/// `[rows, columns]` of a matrix, each value rounded by hand.
fn by_hand(tensor: &Tensor, dtype: NumberFormat) -> Tensor {
    let values: Vec<f32> = tensor.flatten_all().unwrap().to_vec1().unwrap();
    Tensor::from_vec(values.into_iter().map(|v| round(v, dtype)).collect::<Vec<_>>(), tensor.dims(), &Device::Cpu)
        .unwrap()
}

fn round(value: f32, dtype: NumberFormat) -> f32 {
    match dtype {
        NumberFormat::F16 => f16::from_f32(value).to_f32(),
        NumberFormat::Bf16 => bf16::from_f32(value).to_f32(),
        _ => value,
    }
}

#[test]
fn weights_and_scores_are_those_of_rounding_by_hand() {
    let (_place, config, subject) = writer("llama-tiny", lora(false));
    let (model, data) = subject.language_model().unwrap();
    let report = measure(&subject, &config, &plan(&[ExportTarget::GgufAdapter, ExportTarget::Merged], false));
    assert_eq!(report.files.len(), 1, "both hold the same numbers");
    let opts = subject.options(&config, &|_| true);
    let weights = [1.0 / 3.0; 3];
    let exact = compare::evaluate(&model.merged_own().unwrap(), &data.dev, None, &opts).unwrap();
    assert_eq!(report.exact, exact);
    for dtype in [NumberFormat::F16, NumberFormat::Bf16] {
        let budget = report.files[0].formats.iter().find(|budget| budget.dtype == dtype).unwrap();
        assert!(budget.predicted.is_none() && budget.causes.is_empty(), "not asked for");
        let (mut most, mut sums, mut values, mut ulps) = (0.0f64, [0.0; 2], 0, 0.0f64);
        let rounded = model
            .with_loras(|_, mixture| {
                let merged = mixture.merge(&weights)?;
                let sides = [Side::Down, Side::Up].map(|side| merged.side(side).unwrap());
                for tensor in &sides {
                    for value in tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap() {
                        let off = f64::from(round(value, dtype)) - f64::from(value);
                        // The neighbour above, from the bits of the format.
                        let unit = match dtype {
                            NumberFormat::F16 => {
                                let low = f16::from_bits((value.abs().to_bits() >> 13).wrapping_sub(0x1C000) as u16);
                                f64::from(f16::from_bits(low.to_bits() + 1).to_f32()) - f64::from(low.to_f32())
                            }
                            _ => {
                                let low = bf16::from_bits((value.abs().to_bits() >> 16) as u16);
                                f64::from(bf16::from_bits(low.to_bits() + 1).to_f32()) - f64::from(low.to_f32())
                            }
                        };
                        most = most.max(off.abs());
                        // Normal numbers only: the smallest of f16 have another distance.
                        if value.abs() > 1e-4 {
                            ulps = ulps.max(off.abs() / unit);
                        }
                        (sums[0], sums[1], values) =
                            (sums[0] + off * off, sums[1] + f64::from(value).powi(2), values + 1);
                    }
                }
                let [a, b] = sides.map(|side| by_hand(&side, dtype));
                Lora::new(&a, &b, merged.columns().to_vec(), merged.scale())
            })
            .unwrap();
        let found = &budget.weights;
        assert_eq!((found.largest, found.values), (most, values));
        near("norm", found.norm, (sums[0] / sums[1]).sqrt(), 1e-9);
        near("ulps", found.ulps, ulps, 1e-6);
        assert!(found.ulps > 0.4 && found.ulps <= 0.5, "to the nearest: {}", found.ulps);
        let scores = compare::evaluate(&rounded, &data.dev, None, &opts).unwrap();
        near("loss", budget.scores.as_ref().unwrap().loss, scores.loss, 1e-6);
        assert_ne!(scores.loss, exact.loss, "the control: rounding changes something");
    }
}

#[test]
fn a_whole_models_budget_is_what_its_certificate_will_say() {
    for family in ["gpt2-tiny", "llama-tiny"] {
        let (place, config, subject) = writer(family, lora(false));
        let report = measure(&subject, &config, &plan(&[ExportTarget::Gguf, ExportTarget::Hf], true));
        // Only GGUF files need a tokenizer of this kind; it has no say in the numbers.
        write_tokenizer(&place.path("model"), &byte_level());
        assert_eq!(report.files.iter().map(|f| f.target).collect::<Vec<_>>(), [ExportTarget::Hf, ExportTarget::Gguf]);
        for files in &report.files {
            assert_eq!(files.formats.len(), if files.target == ExportTarget::Gguf { 4 } else { 3 });
            for budget in &files.formats {
                // A GGUF file is multiplied in its own format, in another order of additions.
                let slack = if files.target == ExportTarget::Gguf { 1e-3 } else { 0.0 };
                agree(budget, &written(&subject, &config, files.target, budget.dtype), slack);
                if budget.dtype == NumberFormat::F32 {
                    assert!(budget.measured < 1e-4 && budget.causes.is_empty());
                    continue;
                }
                assert_eq!(budget.causes.len(), subject.language_model().unwrap().0.base.layers.len() + 1);
                assert!(budget.measured <= 1.3 * budget.predicted.unwrap() + 1e-4, "{budget:?}");
                let most = if budget.dtype == NumberFormat::Q8_0 { 0.57 } else { 0.5 };
                assert!(budget.weights.ulps > 0.4 && budget.weights.ulps <= most, "{:?}", budget.weights);
            }
            let norms: Vec<f64> = files.formats.iter().take(3).map(|budget| budget.weights.norm).collect();
            assert!(norms.windows(2).all(|pair| pair[0] < pair[1]), "each float is coarser: {norms:?}");
        }
    }
    let (_place, config, subject) = classifier(lora(false));
    let report = measure(&subject, &config, &plan(&[ExportTarget::Hf], true));
    for budget in &report.files[0].formats {
        agree(budget, &written(&subject, &config, ExportTarget::Hf, budget.dtype), 0.0);
    }
}

#[test]
fn a_base_in_a_gguf_file_has_a_budget_too() {
    let place = TextPlace::new("qwen2-tiny");
    write_tokenizer(&place.path("model"), &byte_level());
    let mut config = place.config(4);
    config.data.max_length = 32;
    lora(false)(&mut config);
    let subject = run::prepare(&config).unwrap().subject;
    let base = written(&subject, &config, ExportTarget::Gguf, NumberFormat::Bf16);
    config.model.path = base.dir.join(&base.certificate.files[0].name).display().to_string();
    config.runs_dir = place.path("others").display().to_string();
    let subject = run::prepare(&config).unwrap().subject;
    fill(subject.model().params(), 0.3);
    let report = measure(&subject, &config, &plan(&[ExportTarget::Gguf], true));
    for budget in &report.files[0].formats {
        agree(budget, &written(&subject, &config, ExportTarget::Gguf, budget.dtype), 1e-3);
    }
}

fn byte_level() -> Value {
    json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true })
}

#[test]
fn a_value_that_does_not_fit_is_named_and_the_other_formats_are_measured() {
    let (_place, config, subject) = classifier(lora(false));
    let head = subject.model().params().find("classifier.weight").unwrap();
    head.value.slice_set(&Tensor::new(vec![vec![1e6f32; head.value.dims()[1]]], &Device::Cpu).unwrap(), 0, 0).unwrap();
    let report = measure(&subject, &config, &plan(&[ExportTarget::Merged], false));
    let [f32, f16, bf16] = &report.files[0].formats[..] else { panic!("{report:?}") };
    assert!(f32.kept && f32.problem.is_none());
    let problem = f16.problem.as_ref().unwrap();
    assert!(problem.contains("classifier.weight") && problem.contains("F16"), "{problem}");
    assert!(!f16.kept && f16.scores.is_none());
    assert!(bf16.problem.is_none() && bf16.scores.is_some());
}

#[test]
fn what_cannot_be_exported_is_not_measured() {
    let adapter = |config: &mut RunConfig| config.mixture.kind = MixtureKind::Adapter;
    let (_place, config, subject) = classifier(adapter);
    let refused = |targets: &[ExportTarget]| {
        rounding_subject(&subject, &config, &plan(targets, false), &|_| true).unwrap_err().to_string()
    };
    assert!(refused(&[ExportTarget::Hf]).contains("choose adapterhub or merged"));
    assert!(refused(&[]).contains("at least one export"));
    for stop in [0.0, 0.3, 0.8] {
        let stopped = rounding_subject(&subject, &config, &plan(&[ExportTarget::Merged], true), &|share| share <= stop);
        assert_eq!(stopped.unwrap_err().kind(), ErrorKind::Cancelled, "at {stop}");
    }
}
