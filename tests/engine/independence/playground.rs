//! The playground: several ways of running one model answer the same prompt.

use super::Window;
use crate::support::texts::TextPlace;
use adamix::protocol::*;

fn plan(panes: &[Pane]) -> Box<PlayPlan> {
    let sampler = Sampler { max_new_tokens: 6, ..Sampler::default() };
    Box::new(PlayPlan { prompt: "red and".to_owned(), panes: panes.to_vec(), sampler, ..PlayPlan::default() })
}

fn play(window: &mut Window, writer: Writer, plan: &PlayPlan) -> Result<PlayReport, Failure> {
    let plan = Box::new(plan.clone());
    let req = window.send(Command::Play { writer, plan });
    match window.wait_for(req)? {
        Outcome::Played(report) => Ok(*report),
        other => panic!("{other:?}"),
    }
}

/// A run that has learned what the texts say.
fn trained(place: &TextPlace, window: &mut Window, experts: usize) -> Writer {
    let mut config = place.config(160);
    config.name = format!("experts{experts}");
    config.mixture.num_experts = experts;
    (config.mixture.sharing_up, config.mixture.consistency) = (experts > 1, experts > 1);
    let start = window.start(&config);
    window.wait_for(start).unwrap();
    Writer::Run(Subject::Live)
}

#[test]
fn panes_answer_side_by_side_and_are_compared_with_the_first() {
    let (place, mut window) = (TextPlace::new("llama-tiny"), Window::open());
    let run = trained(&place, &mut window, 3);
    let panes = [Pane::Merged, Pane::Base, Pane::Expert(1), Pane::Route(0), Pane::Ensemble(2), Pane::Merged];
    let report = play(&mut window, run.clone(), &plan(&panes)).unwrap();
    assert_eq!(report.prompt, "red and");
    assert_eq!(report.answers.iter().map(|answer| answer.pane).collect::<Vec<_>>(), panes);
    let [merged, base, expert, route, ensemble, again] = report.answers.as_slice() else { panic!("{report:?}") };
    let learned = merged.text.starts_with("the ") && merged.text.ends_with(" is here");
    assert!(learned, "the form of all answers: {:?}", merged.text);
    assert_eq!((merged.end, merged.diverges_at), (PlayEnd::Stop, None));
    assert!(merged.tokens.iter().all(|token| token.divergence == 0.0 && token.likeliest.len() == 5));
    let best = &merged.tokens[0].likeliest;
    assert!(best[0].1 > 0.5 && best.windows(2).all(|pair| pair[0].1 >= pair[1].1), "{best:?}");
    assert!((f64::from(best[0].1).ln() - f64::from(merged.tokens[0].log_prob)).abs() < 1e-5, "greedy takes the best");
    // The base model has learned nothing, and its opinion is another one.
    assert!(base.diverges_at.is_some() && base.tokens[0].divergence > 0.1, "{base:?}");
    assert!(expert.tokens.iter().any(|token| token.divergence > 0.0));
    // The same model again: no divergence at all, and the same fingerprint.
    assert_eq!((again.diverges_at, &again.text), (None, &merged.text));
    assert!(again.tokens.iter().all(|token| token.divergence < 1e-9));
    let prints = [merged, base, expert, route, ensemble].map(|answer| answer.fingerprint.as_str());
    for (i, a) in prints.iter().enumerate() {
        assert!(prints[i + 1..].iter().all(|b| a != b), "different models, one fingerprint: {prints:?}");
    }
    assert_eq!(again.fingerprint, merged.fingerprint);
    assert!(window.writing.iter().any(|(_, texts)| texts.len() == panes.len()), "nothing was shown meanwhile");
    let write = window.send(Command::Query { subject: Subject::Live, query: ModelQuery::Write { inputs: 4 } });
    let Ok(Outcome::Written(written)) = window.wait_for(write) else { panic!("nothing written") };
    assert_eq!((written.inputs, written.ways.len(), written.samples.len()), (4, 3, 3));
    assert_eq!(written.ways[1].way, "merged");
    assert!(written.ways[1].scores.bleu > written.ways[0].scores.bleu, "{:?}", written.ways);
}

#[test]
fn one_expert_is_the_merged_model_and_says_so() {
    let (place, mut window) = (TextPlace::new("gpt2-tiny"), Window::open());
    let run = trained(&place, &mut window, 1);
    let report = play(&mut window, run, &plan(&[Pane::Merged, Pane::Expert(0), Pane::Route(3)])).unwrap();
    let first = &report.answers[0];
    for answer in &report.answers[1..] {
        assert_eq!((&answer.fingerprint, &answer.text), (&first.fingerprint, &first.text));
        assert!(answer.tokens.iter().all(|token| token.divergence < 1e-6), "{answer:?}");
    }
}

#[test]
fn a_base_model_answers_alone_and_nonsense_is_refused() {
    let (place, mut window) = (TextPlace::new("llama-tiny"), Window::open());
    let writer = Writer::Model(place.path("model").display().to_string());
    let report = play(&mut window, writer.clone(), &plan(&[Pane::Base])).unwrap();
    assert_eq!(report.answers.len(), 1);
    assert!(!report.answers[0].tokens.is_empty());
    for (writer, panes, words) in [
        (writer.clone(), vec![Pane::Merged], "needs a mixture"),
        (writer.clone(), vec![], "no pane"),
        (Writer::Run(Subject::Live), vec![Pane::Base], "no model in memory"),
        (Writer::Model("/nowhere".to_owned()), vec![Pane::Base], "no such directory or file"),
    ] {
        let failure = play(&mut window, writer, &plan(&panes)).unwrap_err();
        assert!(failure.message.contains(words), "{words}: {}", failure.message);
    }
    let chat = PlayPlan { chat: true, ..*plan(&[Pane::Base]) };
    let failure = play(&mut window, writer, &chat).unwrap_err();
    assert!(failure.message.contains("template"), "a model without a chat template: {}", failure.message);
}
