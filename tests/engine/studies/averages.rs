//! The three averages.

use super::{add, classifier, lora, mixtures, near, norm, product, writer};
use crate::merge::{folded_classifier, folded_language_model};
use adamix::config::{Method, MixtureKind, RunConfig};
use adamix::data::Labels;
use adamix::error::ErrorKind;
use adamix::eval::compare;
use adamix::protocol::studies::{Average, AveragesReport};
use adamix::train::ModelAndData;
use adamix::workflow::studies::averages::averages_subject;

fn measure(subject: &ModelAndData, config: &RunConfig) -> AveragesReport {
    averages_subject(subject, config, &|_| true).unwrap()
}

fn loss(report: &AveragesReport, average: Average) -> f64 {
    report.way(average).unwrap_or_else(|| panic!("no {average:?}")).scores.loss
}

/// Norms and distances of one site as they must be, from products made by three loops.
fn check_sites(subject: &ModelAndData, report: &AveragesReport) {
    let (mixtures, m) = (mixtures(subject), report.experts);
    assert_eq!(report.sites.len(), mixtures.len());
    for (site, mixture) in report.sites.iter().zip(&mixtures) {
        assert!((mixture.expert(0).unwrap().scale() - 1.5).abs() < 1e-12, "a scale other than 1");
        let size = product(mixture, 0, 0).len();
        let (mut factors, mut deltas, mut own) = (vec![0.0; size], vec![0.0; size], vec![0.0; size]);
        for k in 0..m {
            for j in 0..m {
                let p = product(mixture, k, j);
                add(&mut factors, 1.0 / (m * m) as f64, &p);
                if k == j {
                    add(&mut deltas, 1.0 / m as f64, &p);
                    add(&mut own, 1.0 / (m * m) as f64, &p);
                }
            }
        }
        let mut difference = factors.clone();
        add(&mut difference, -1.0, &deltas);
        near("factors", site.factors_norm, norm(&factors), 1e-5);
        near("deltas", site.deltas_norm, norm(&deltas), 1e-5);
        if report.shared {
            assert!(norm(&difference) < 1e-12 * norm(&deltas), "the loops agree: both are one matrix");
            assert_eq!((site.off, site.crossed, site.truncated_off), (0.0, 0.0, 0.0));
            assert!(site.parts.is_empty() && site.all_pairs == 0.0);
            assert_eq!((site.rank, site.deltas_rank, site.deltas_parameters), (2, 2, site.parameters));
            continue;
        }
        near("off", site.off, norm(&difference) / norm(&deltas), 1e-5);
        assert!(site.off > 0.1, "averages of independent experts are different: {site:?}");
        // All parts of M pairs, the first of which is the mean delta; their mean is the product of the means.
        let (mut parts, mut all) = (Vec::new(), vec![0.0; size]);
        for shift in 0..m {
            let mut part = vec![0.0; size];
            for j in 0..m {
                add(&mut part, 1.0 / m as f64, &product(mixture, (j + shift) % m, j));
            }
            add(&mut all, 1.0 / m as f64, &part);
            add(&mut part, -1.0, &factors);
            parts.push(norm(&part) / norm(&factors));
        }
        assert_eq!(site.parts.len(), m);
        for (got, want) in site.parts.iter().zip(&parts) {
            near("part", *got, *want, 1e-5);
        }
        add(&mut all, -1.0, &factors);
        assert!(norm(&all) < 1e-12 * norm(&factors), "the loops agree: all pairs are the product of the means");
        assert!(site.all_pairs < 1e-5, "{}", site.all_pairs);
        let mut crossed = factors;
        add(&mut crossed, -1.0, &own);
        let (own, crossed) = (norm(&own).powi(2), norm(&crossed).powi(2));
        near("crossed", site.crossed, crossed / (own + crossed), 1e-5);
        assert_eq!((site.rank, site.deltas_rank), (2, 2 * m));
        assert_eq!(site.deltas_parameters, m * site.parameters);
        assert!(site.truncated_off > 0.0 && site.truncated_off < site.off, "{site:?}");
    }
}

#[test]
fn with_a_shared_side_factors_and_deltas_are_one() {
    for (down, up) in [(false, true), (true, false)] {
        let share = |config: &mut RunConfig| {
            lora(up)(config);
            config.mixture.sharing_down = down;
        };
        for (config, subject) in [
            {
                let (_place, config, subject) = writer("llama-tiny", share);
                (config, subject)
            },
            {
                let (_place, config, subject) = writer("gpt2-tiny", share);
                (config, subject)
            },
            {
                let (_place, config, subject) = classifier(share);
                (config, subject)
            },
        ] {
            let report = measure(&subject, &config);
            assert!(report.shared && report.without_deltas.is_none());
            check_sites(&subject, &report);
            let [factors, deltas, outputs] = [Average::Factors, Average::Deltas, Average::Outputs]
                .map(|average| report.way(average).unwrap().clone());
            assert_eq!((&factors.scores, factors.from_outputs), (&deltas.scores, deltas.from_outputs));
            assert_eq!((factors.parameters, report.way(Average::Truncated)), (deltas.parameters, None));
            assert_ne!(factors.scores.loss, outputs.scores.loss, "answers are averaged above nonlinearities");
        }
    }
}

#[test]
fn independent_experts_have_averages_that_differ_as_calculated() {
    let (_place, config, subject) = classifier(lora(false));
    let report = measure(&subject, &config);
    check_sites(&subject, &report);
    let ModelAndData::Classifier(model, task) = &subject else { panic!("no classifier") };
    let opts = subject.options(&config, &|_| true);
    // The mean delta added to the weights themselves: no rank, no module.
    let folded = model.with_loras(|_, mixture| mixture.merge_deltas(&[1.0 / 3.0; 3])).unwrap();
    let folded = compare::evaluate(&folded_classifier(&folded), &task.dev, None, &opts).unwrap();
    near("deltas", loss(&report, Average::Deltas), folded.loss, 1e-5);
    let factors = compare::evaluate(&model.merged_own().unwrap(), &task.dev, None, &opts).unwrap();
    assert_eq!(report.way(Average::Factors).unwrap().scores, factors, "what Merge & compare calls merged");
    assert!((folded.loss - factors.loss).abs() > 1e-3, "the control: the averages do not give the same");
    // The mean of three models' probabilities, row by row.
    let rows: Vec<usize> = (0..task.dev.len()).collect();
    let Labels::Classes(labels) = task.dev.all_labels() else { panic!("classes") };
    let mut mean = vec![0.0; 2 * rows.len()];
    for expert in 0..3 {
        let one = model.with_loras(|_, mixture| mixture.expert(expert)).unwrap();
        let logits = one.logits(&task.dev.batch(&rows), None).unwrap();
        for (mean, z) in mean.chunks_exact_mut(2).zip(logits.chunks_exact(2)) {
            let p = 1.0 / (1.0 + f64::from(z[0] - z[1]).exp());
            add(mean, 1.0 / 3.0, &[1.0 - p, p]);
        }
    }
    let nll: f64 = mean.chunks_exact(2).zip(&labels).map(|(p, &label)| -p[label as usize].ln()).sum();
    near("outputs", loss(&report, Average::Outputs), nll / rows.len() as f64, 1e-5);
    let probe = report.probe_rows;
    assert_eq!(probe, rows.len());
    let merged = model.merged_own().unwrap().logits(&task.dev.batch(&rows), None).unwrap();
    let (mut kl, mut most, mut changed) = (0.0, 0.0f64, 0);
    for (p, z) in mean.chunks_exact(2).zip(merged.chunks_exact(2)) {
        let q = 1.0 / (1.0 + f64::from(z[0] - z[1]).exp());
        kl += p[0] * (p[0] / (1.0 - q)).ln() + p[1] * (p[1] / q).ln();
        most = most.max((p[1] - q).abs());
        changed += usize::from((p[1] > 0.5) != (q > 0.5));
    }
    let from = report.way(Average::Factors).unwrap().from_outputs.unwrap();
    near("KL", from.kl.unwrap(), kl / probe as f64, 1e-5);
    near("largest", from.largest, most, 1e-5);
    assert_eq!(from.changed, changed);
    let [f, d, o] = [Average::Factors, Average::Deltas, Average::Outputs].map(|a| report.way(a).unwrap());
    assert_eq!((d.parameters, o.parameters), (3 * f.parameters, 3 * f.parameters));
    assert_eq!((f.forwards, d.forwards, o.forwards), (1, 1, 3));
}

#[test]
fn language_models_have_the_same_three() {
    for family in ["gpt2-tiny", "llama-tiny"] {
        let (_place, config, subject) = writer(family, lora(false));
        let report = measure(&subject, &config);
        check_sites(&subject, &report);
        assert_eq!((report.metric.as_str(), report.higher_is_better), ("loss", false));
        let (model, data) = subject.language_model().unwrap();
        let opts = subject.options(&config, &|_| true);
        let deltas = model.with_loras(|_, mixture| mixture.merge_deltas(&[1.0 / 3.0; 3])).unwrap();
        let deltas = compare::evaluate(&folded_language_model(&deltas), &data.dev, None, &opts).unwrap();
        near(family, loss(&report, Average::Deltas), deltas.loss, 1e-4);
        assert!((deltas.loss - loss(&report, Average::Factors)).abs() > 1e-4);
        // By the chain of the logarithm's concavity the ensemble is at least as good as the mean of its members.
        let members: Vec<f64> = (0..3)
            .map(|e| {
                let one = model.with_loras(|_, mixture| mixture.expert(e)).unwrap();
                compare::evaluate(&one, &data.dev, None, &opts).unwrap().loss
            })
            .collect();
        assert!(loss(&report, Average::Outputs) < members.iter().sum::<f64>() / 3.0, "{members:?}");
        assert!(report.way(Average::Outputs).unwrap().from_outputs.is_none());
        for average in [Average::Factors, Average::Deltas, Average::Truncated] {
            assert!(report.way(average).unwrap().from_outputs.unwrap().kl.unwrap() > 0.0);
        }
    }
}

#[test]
fn adapters_have_factors_and_outputs_and_the_reason_is_said() {
    let (_place, config, subject) = classifier(|config| config.mixture.kind = MixtureKind::Adapter);
    let report = measure(&subject, &config);
    assert!(report.sites.is_empty());
    assert!(report.without_deltas.as_ref().unwrap().contains("nonlinearity"));
    let ways: Vec<Average> = report.ways.iter().map(|way| way.average).collect();
    assert_eq!(ways, [Average::Factors, Average::Outputs]);
    assert_ne!(loss(&report, Average::Factors), loss(&report, Average::Outputs));
    assert!(report.ways[1].parameters > report.ways[0].parameters);
}

#[test]
fn without_experts_it_is_refused_and_it_can_be_given_up() {
    let (_place, config, subject) = classifier(|config| config.model.method = Method::HeadOnly);
    let err = averages_subject(&subject, &config, &|_| true).unwrap_err().to_string();
    assert!(err.contains("no experts to average"), "{err}");
    let (_place, config, subject) = classifier(lora(false));
    for stop in [0.0, 0.5, 0.9] {
        let err = averages_subject(&subject, &config, &|share| share <= stop).unwrap_err();
        assert_eq!(err.kind(), ErrorKind::Cancelled, "at {stop}");
    }
}

#[test]
fn one_draw_for_both_sides_is_told_from_two() {
    use adamix::config::{MixtureConfig, RoutingPolicy};
    let tied = |routing, sharing_up, law_at: &[&str]| {
        let law_at = law_at.iter().map(|law| (*law).to_owned()).collect();
        MixtureConfig { routing, sharing_up, law_at, ..MixtureConfig::default() }.tied_draws()
    };
    for routing in RoutingPolicy::ALL {
        assert_eq!(tied(routing, false, &[]), !routing.is_random(), "{routing:?}");
        assert!(!tied(routing, true, &[]), "a shared side has no draw of its own");
    }
    assert!(!tied(RoutingPolicy::RoundRobin, false, &["40=per-token"]), "a part of the run drew both sides apart");
    assert!(tied(RoutingPolicy::RoundRobin, false, &["40=fixed:2"]));
    let (_place, config, subject) = classifier(|config| {
        lora(false)(config);
        config.mixture.routing = RoutingPolicy::RoundRobin;
    });
    assert!(measure(&subject, &config).tied);
}
