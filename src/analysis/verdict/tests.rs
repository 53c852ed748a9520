use super::*;
use crate::records::{PairedReport, Scores};

fn scores(primary: f64) -> Scores {
    Scores { primary, accuracy: Some(primary), loss: 1.0 - primary, ..Scores::default() }
}

/// A difference with an interval of this half width.
fn interval(value: f64, half: f64) -> Interval {
    Interval { value, low: value - half, high: value + half, p: if value.abs() > half { 0.0005 } else { 0.4 } }
}

/// In accuracy, and in a loss that moves the other way.
fn paired(accuracy: f64, half: f64) -> PairedDifference {
    let primary = interval(accuracy, half);
    PairedDifference { primary, loss: primary.negated(), accuracy: Some(primary) }
}

/// Merged, the ensemble, three routes and two experts; intervals of half width 0.02.
fn report(merged: f64, ensemble: f64) -> EvalReport {
    let apart = |score: f64| paired(score - merged, 0.02);
    EvalReport {
        metric: "accuracy".to_owned(),
        higher_is_better: true,
        rows: 1000,
        merged: scores(merged),
        random: [0.75, 0.76, 0.74].map(scores).to_vec(),
        fixed: [0.75, 0.755].map(scores).to_vec(),
        ensemble: scores(ensemble),
        majority: 0.5,
        paired: Some(Box::new(PairedReport {
            resamples: 2000,
            random_mean: Some(apart(0.75)),
            fixed: [0.75, 0.755].map(apart).to_vec(),
            ensemble: Some(apart(ensemble)),
            base: None,
        })),
        ..EvalReport::default()
    }
}

fn evals(losses: &[f64]) -> Vec<EvalRecord> {
    let eval = |(i, &loss): (usize, &f64)| EvalRecord {
        step: 200 * (i as u64 + 1),
        epoch: 0.0,
        merged: Scores { loss, ..Scores::default() },
        best: false,
        seconds: 0.0,
    };
    losses.iter().enumerate().map(eval).collect()
}

fn of(report: &EvalReport) -> (Grade, String) {
    let Verdict { grade, text } = verdict(report, &[], &[]);
    (grade, text)
}

#[test]
fn differences_are_weighed_against_the_choice_of_the_rows() {
    let (grade, text) = of(&report(0.80, 0.77));
    assert!(
        grade == Grade::Good && text.starts_with("Merged is better than 4 of 4 others in accuracy (p adj"),
        "{text}"
    );
    let (grade, text) = of(&report(0.774, 0.775));
    assert!(
        grade == Grade::Good && text.starts_with("Merged is better than 2 of 4 others in accuracy; to the rest"),
        "{text}"
    );
    let (grade, text) = of(&report(0.76, 0.77));
    assert!(grade == Grade::Good && text.starts_with("No difference shown in accuracy"), "{text}");
    let said = "Merged minus ensemble of 3 routes: accuracy -0.0100 (-0.0300 to +0.0100), no difference shown; loss \
                +0.0100 (-0.0100 to +0.0300), no difference shown.";
    assert!(text.contains(said), "both are said: {text}");
    let (grade, text) = of(&report(0.70, 0.77));
    assert!(
        grade == Grade::Doubtful && text.contains("Ensemble of 3 routes is better than merged: accuracy +0.07"),
        "{text}"
    );
    assert!(text.ends_with("Merging makes the accuracy worse here."), "{text}");
    let (grade, text) = of(&report(0.51, 0.50));
    assert!(grade == Grade::Doubtful && text.contains("hardly better than a constant answer"), "{text}");
}

#[test]
fn a_loss_that_says_something_else_is_said_too() {
    let mut report = report(0.76, 0.76);
    let paired = report.paired.as_mut().unwrap();
    paired.ensemble.as_mut().unwrap().loss = interval(-0.007, 0.002);
    let (grade, text) = of(&report);
    assert!(grade == Grade::Good && text.starts_with("No difference shown in accuracy"), "{text}");
    assert!(text.contains("loss +0.0070 (+0.0050 to +0.0090) (only one of them shows a difference)"), "{text}");
    assert!(text.ends_with("In the loss ensemble of 3 routes is better than merged."), "{text}");
}

/// 0.600 of 40 rows beside 0.525: one standard error is 0.077.
#[test]
fn a_lead_within_the_standard_error_is_not_learning() {
    let small = EvalReport { rows: 40, majority: 0.525, ..report(0.6, 0.6) };
    let Verdict { grade, text } = verdict(&small, &[], &[]);
    assert!(grade == Grade::Doubtful && text.contains("0.6000 against 0.5250; one standard error is 0.0775"), "{text}");
    let many = EvalReport { rows: 4000, ..small };
    assert!(!verdict(&many, &[], &[]).text.contains("hardly better"));
    // A correlation of 0.1 on 40 rows is chance, on 4,000 it is not.
    for (rows, unlearned) in [(40, true), (4000, false)] {
        let report = EvalReport { metric: "matthews".to_owned(), rows, majority: 0.0, ..report(0.1, 0.1) };
        assert_eq!(verdict(&report, &[], &[]).text.contains("hardly better"), unlearned, "{rows} rows");
    }
}

#[test]
fn a_language_model_has_learned_where_its_base_is_shown_to_be_worse() {
    let mut report = EvalReport { metric: "loss".to_owned(), higher_is_better: false, ..report(0.8, 0.8) };
    (report.base, report.majority) = (Some(Box::new(scores(0.7))), 0.83);
    for (base, unlearned) in [(0.03, false), (0.01, true)] {
        report.paired.as_mut().unwrap().base = Some(paired(base, 0.02));
        let text = verdict(&report, &[], &[]).text;
        assert_eq!(text.contains("hardly better than the base model"), unlearned, "{text}");
    }
}

#[test]
fn a_rising_evaluation_loss_is_never_good() {
    let losses = [0.700, 0.688, 0.783, 0.877];
    let Verdict { grade, text } = verdict(&report(0.78, 0.77), &[], &evals(&losses));
    assert_eq!(grade, Grade::Doubtful);
    assert!(text.contains("rises since step 400 (from 0.6880 to 0.8770)"), "{text}");
    for falling in [&[0.7, 0.6, 0.5][..], &[0.500, 0.498, 0.499], &[0.5], &[]] {
        assert_eq!(Rise::of(&evals(falling)), None, "{falling:?}");
    }
    assert_eq!(verdict(&report(0.78, 0.77), &[], &evals(&[0.7, 0.6])).grade, Grade::Good);
}

#[test]
fn the_luckiest_of_several_is_not_the_best() {
    let report = report(0.76, 0.77);
    let merge = |i: usize, lead: f64| CustomMerge {
        name: format!("Weights {i}"),
        score: 0.76 + lead,
        paired: Some(paired(lead, 0.02)),
    };
    let lucky: Vec<CustomMerge> = (1..=5).map(|i| merge(i, 0.003 * i as f64)).collect();
    assert_eq!(best_exportable(&report, &lucky), None);
    assert_eq!(verdict(&report, &lucky, &[]).grade, Grade::Good, "verdict and mark agree");
    let good = [merge(1, 0.0), merge(2, 0.09)];
    assert_eq!(best_exportable(&report, &good), Some(Exportable::Custom(1)));
    let words = verdict(&report, &good, &[]).text;
    assert!(words.starts_with("Weights 2 are better than merged: accuracy +0.0900"), "{words}");
    // The same lead, but with a p that twenty merges make chance.
    let mut chance = merge(2, 0.03);
    chance.paired.as_mut().unwrap().primary.p = 0.01;
    assert_eq!(best_exportable(&report, &[chance.clone()]), None, "p 0.01 times five comparisons");
    chance.paired.as_mut().unwrap().primary.p = 0.009;
    assert_eq!(best_exportable(&report, &[chance]), Some(Exportable::Custom(0)));
}

#[test]
fn an_expert_never_gets_the_mark_and_merged_only_beyond_chance() {
    let mut with_expert = report(0.76, 0.77);
    with_expert.paired.as_mut().unwrap().fixed[1] = paired(0.1, 0.02);
    assert_eq!(best_exportable(&with_expert, &[]), None);
    let text = verdict(&with_expert, &[], &[]).text;
    assert!(text.starts_with("Expert 1 only is better than merged") && text.contains("one of 2 experts"), "{text}");
    assert_eq!(best_exportable(&report(0.76, 0.77), &[]), None, "no difference shown");
    assert_eq!(best_exportable(&report(0.78, 0.90), &[]), Some(Exportable::Merged), "an ensemble cannot be exported");
    let none = EvalReport { paired: None, ..report(0.90, 0.77) };
    assert_eq!(best_exportable(&none, &[]), None);
    assert!(verdict(&none, &[], &[]).text.contains("measure again"));
}

#[test]
fn of_a_loss_less_is_better() {
    let mut report = EvalReport { metric: "loss".to_owned(), higher_is_better: false, ..report(0.755, 0.70) };
    report.majority = 2.0;
    // The ensemble's loss is less by 0.055.
    report.paired.as_mut().unwrap().ensemble = Some(paired(-0.055, 0.02));
    let Verdict { grade, text } = verdict(&report, &[], &[]);
    assert!(
        grade == Grade::Doubtful && text.starts_with("Ensemble of 3 routes is better than merged: loss -0.0550"),
        "{text}"
    );
}
