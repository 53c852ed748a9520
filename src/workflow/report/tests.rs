use super::html;
use crate::protocol::*;

const EVIL: &str = "</pre></title><script>alert(1)</script><img src=x onerror=\"a\"> & 'x'\u{0}";

fn run() -> RunDetail {
    let mut run = RunDetail::default();
    run.summary.name = "plain".to_owned();
    run.summary.status = RunStatus::Finished;
    run.start.metric = "accuracy".to_owned();
    run.start.higher_is_better = true;
    run.start.labels = vec!["no".to_owned(), "yes".to_owned()];
    run.config.train.learning_rate = 0.0123;
    for step in 1..=30u64 {
        let sample = StepSample { step, loss: 1.0 / step as f32, tokens: 10, seconds: 0.1, ..StepSample::default() };
        run.history.push(StepBucket::of(sample));
    }
    let merged = Scores { loss: 0.5, accuracy: Some(0.75), primary: 0.75, ..Scores::default() };
    for step in [10, 20, 30] {
        run.evals.push(EvalRecord { step, epoch: 1.0, merged: merged.clone(), best: step == 10, seconds: 0.1 });
    }
    let report = EvalReport {
        metric: "accuracy".to_owned(),
        higher_is_better: true,
        rows: 40,
        merged: merged.clone(),
        random: vec![merged.clone(); 3],
        fixed: vec![merged.clone(); 2],
        ensemble: merged,
        majority: 0.5,
        paired: Some(Box::new(PairedReport {
            resamples: 2000,
            ensemble: Some(PairedDifference { accuracy: Some(Interval::default()), ..PairedDifference::default() }),
            ..PairedReport::default()
        })),
        confusion: vec![vec![17, 3], vec![7, 13]],
        ..EvalReport::default()
    };
    run.end = Some(EndRecord {
        reason: EndReason::Finished,
        step: 30,
        seconds: 3.0,
        tokens_per_s: 100.0,
        report: Some(report),
        best: Some((10, 0.75)),
    });
    run
}

#[test]
fn it_tells_settings_scores_and_commands_and_loads_nothing() {
    let page = html(&run());
    for words in [
        "<h1>plain</h1>",
        "train.learning_rate",
        "0.0123",
        "Merged model, weights after step 10: accuracy 0.7500",
        "weights of step 10",
        "Loss (nats)",
        "best evaluation",
        "adamix train",
        "--learning-rate 0.0123",
        "Expert 1 only",
        "No difference shown in accuracy between merged and 1 other",
        "Confusion matrix of the merged model",
        "B = 2,000",
    ] {
        assert!(page.contains(words), "{words}");
    }
    assert_eq!(page.matches("<svg ").count(), page.matches("</svg>").count());
    assert!(page.matches("<svg ").count() >= 6);
    for loading in ["<script", "src=", "href=", "url(", "@import", "<link", "<iframe", "<img"] {
        assert!(!page.contains(loading), "{loading}");
    }
    // The name space of SVG is a name; nothing is fetched from it.
    assert!(!page.replace("http://www.w3.org/2000/svg", "").contains("://"));
}

#[test]
fn hostile_names_and_texts_stay_texts() {
    let mut run = run();
    run.summary.label = RunLabel {
        title: EVIL.to_owned(),
        notes: EVIL.to_owned(),
        tags: vec![EVIL.to_owned()],
        parent: EVIL.to_owned(),
        edge: EVIL.to_owned(),
    };
    (run.start.metric, run.start.device, run.summary.model) = (EVIL.to_owned(), EVIL.to_owned(), EVIL.to_owned());
    run.start.labels = vec![EVIL.to_owned()];
    run.config.data.train_file = EVIL.to_owned();
    let sample = Sample {
        prompt: EVIL.to_owned(),
        reference: EVIL.to_owned(),
        merged: EVIL.to_owned(),
        random: Some(EVIL.to_owned()),
    };
    run.samples.push(SampleRecord { step: 1, samples: vec![sample], ..SampleRecord::default() });
    run.log = vec![EVIL.to_owned()];
    let page = html(&run);
    assert!(!page.contains("<script") && !page.contains("<img") && !page.contains('\0'));
    assert!(page.matches("&lt;script&gt;").count() >= 10, "all of them are shown");
    assert_eq!(page.matches("<pre>").count(), page.matches("</pre>").count());
    assert_eq!(page.matches("<title>").count(), page.matches("</title>").count());
}

#[test]
fn a_run_without_a_step_has_a_report_too() {
    let page = html(&RunDetail::default());
    assert!(page.contains("No step was made.") && page.ends_with("</html>\n"));
}
