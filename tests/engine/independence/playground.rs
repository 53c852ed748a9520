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
    assert!(best[0].p > 0.5 && best.windows(2).all(|pair| pair[0].p >= pair[1].p), "{best:?}");
    assert!((f64::from(best[0].p).ln() - f64::from(merged.tokens[0].log_prob)).abs() < 1e-5, "greedy takes the best");
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

/// The fingerprint of the base model alone.
fn base_fingerprint(window: &mut Window, writer: Writer) -> String {
    play(window, writer, &plan(&[Pane::Base])).unwrap().answers.remove(0).fingerprint
}

#[test]
fn a_fingerprint_is_of_all_weights_that_write() {
    let (llama, gpt2, mut window) = (TextPlace::new("llama-tiny"), TextPlace::new("gpt2-tiny"), Window::open());
    let model = |place: &TextPlace| Writer::Model(place.path("model").display().to_string());
    let of_llama = base_fingerprint(&mut window, model(&llama));
    let of_gpt2 = base_fingerprint(&mut window, model(&gpt2));
    assert_ne!(of_llama, of_gpt2, "two models");
    // SHA-256 of nothing.
    assert!([&of_llama, &of_gpt2].iter().all(|print| *print != "e3b0c442"), "{of_llama} {of_gpt2}");
    assert_eq!(
        base_fingerprint(&mut window, model(&TextPlace::new("llama-tiny"))),
        of_llama,
        "the same files elsewhere"
    );
    // One number of one tensor differs.
    let other = TextPlace::new("llama-tiny");
    let path = other.path("model").join("model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, bytes).unwrap();
    assert_ne!(base_fingerprint(&mut window, model(&other)), of_llama);
    // A run's base model is the model itself, and its modules make another one of it.
    let run = trained(&llama, &mut window, 3);
    let req = window.send(Command::Play { writer: run.clone(), plan: plan(&[Pane::Base, Pane::Merged]) });
    let Ok(Outcome::Played(report)) = window.wait_for(req) else { panic!("no answers") };
    assert_eq!(report.answers[0].fingerprint, of_llama);
    assert_ne!(report.answers[1].fingerprint, of_llama);
    let best = window.end().unwrap().weights_step();
    assert!(window.events().contains(&Event::Weights(req, WeightsOf::saved(best, Checkpoint::Best))));
    // Each checkpoint is its own model; the best one is what memory holds.
    let (dir, merged) = (window.dir(), report.answers[1].fingerprint.clone());
    let saved = |checkpoint| Writer::Run(Subject::Saved { dir: dir.clone(), checkpoint });
    let detail = adamix::workflow::runs::detail(&dir).unwrap();
    let mut prints = Vec::new();
    for step in detail.checkpoints.steps {
        let report = play(&mut window, saved(Checkpoint::Step(step)), &plan(&[Pane::Merged, Pane::Base])).unwrap();
        assert_eq!(report.answers[1].fingerprint, of_llama);
        assert_eq!(report.answers[0].fingerprint == merged, step == best, "step {step}");
        prints.push(report.answers[0].fingerprint.clone());
    }
    prints.dedup();
    assert!(prints.len() > 1, "one checkpoint shows nothing: {prints:?}");
}

/// Conversations with one system message, and a template of the vocabulary's words.
fn chats(place: &TextPlace) {
    let template = "{% for m in messages %}{% if m.role == 'assistant' %}and {{ m.content }} </s> {% else %}\
                    {{ m.content }} {% endif %}{% endfor %}{% if add_generation_prompt %}and {% endif %}";
    let config = serde_json::json!({
        "eos_token": "</s>", "bos_token": "<s>", "add_bos_token": true, "chat_template": template
    });
    std::fs::write(place.path("model").join("tokenizer_config.json"), config.to_string()).unwrap();
    let colours = ["red", "blue", "green"];
    let line = |i: usize| {
        let turn = |role: &str, text: &str| serde_json::json!({"role": role, "content": text});
        let asked = format!("{} {}", colours[i % 3], ["is", "not"][(i / 3) % 2]);
        let turns = [turn("system", "now then"), turn("user", &asked), turn("assistant", "the cat is here")];
        format!("{}\n", serde_json::json!({ "messages": turns }))
    };
    for (name, rows) in [("train.jsonl", 48), ("dev.jsonl", 12)] {
        std::fs::write(place.path(name), (0..rows).map(line).collect::<String>()).unwrap();
    }
}

fn prompts(window: &mut Window, writer: Writer) -> PromptInfo {
    let req = window.send(Command::Prompts(writer));
    match window.wait_for(req).unwrap() {
        Outcome::Prompts(info) => *info,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_run_trained_on_chats_is_asked_as_it_was_trained_unless_told_otherwise() {
    let (place, mut window) = (TextPlace::new("llama-tiny"), Window::open());
    chats(&place);
    let start = window.start(&place.config(8));
    window.wait_for(start).unwrap();
    let info = prompts(&mut window, Writer::Run(Subject::Live));
    assert_eq!((info.template, info.system.as_deref()), (TemplateUse::Trained, Some("now then")));
    let first = info.texts[0].clone();
    assert_eq!((info.texts.len(), first.prompt.as_str(), first.system.as_str()), (3, "red is", "now then"));
    let saved = Subject::Saved { dir: window.dir(), checkpoint: Checkpoint::Best };
    assert_eq!(prompts(&mut window, Writer::Run(saved)), info, "the same without the model");
    let model = prompts(&mut window, Writer::Model(place.path("model").display().to_string()));
    assert_eq!((model.template, model.texts.len()), (TemplateUse::Present, 0));

    let run = Writer::Run(Subject::Live);
    let chat = PlayPlan { chat: true, prompt: first.prompt, system: first.system, ..*plan(&[Pane::Merged]) };
    let read = |window: &mut Window, plan: &PlayPlan| play(window, run.clone(), plan).unwrap().prompt;
    assert_eq!(read(&mut window, &chat), "now then red is and");
    let off = PlayPlan { chat: false, ..chat.clone() };
    assert_eq!(read(&mut window, &off), "<s> red is", "the template is really off");
    let without = PlayPlan { system: String::new(), ..chat.clone() };
    assert_eq!(read(&mut window, &without), "red is and");
    let turn = PlayTurn { question: "blue not".to_owned(), answer: "the dog is here".to_owned() };
    let second = PlayPlan { earlier: vec![turn], ..chat };
    assert_eq!(read(&mut window, &second), "now then blue not and the dog is here </s> red is and");
    let refused = play(&mut window, run.clone(), &PlayPlan { chat: false, ..second }).unwrap_err();
    assert!(refused.message.contains("several turns need a chat template"), "{}", refused.message);
}

#[test]
fn an_answer_goes_on_from_any_of_its_tokens() {
    let (place, mut window) = (TextPlace::new("llama-tiny"), Window::open());
    let run = trained(&place, &mut window, 3);
    let whole = play(&mut window, run.clone(), &plan(&[Pane::Merged])).unwrap().answers.remove(0);
    let ids: Vec<u32> = whole.tokens.iter().map(|token| token.id).collect();
    assert!(ids.len() >= 3, "{whole:?}");
    // Greedy, with the same tokens before: the same tokens after.
    let kept = PlayPlan { prefix: ids[..2].to_vec(), ..*plan(&[Pane::Merged]) };
    let report = play(&mut window, run.clone(), &kept).unwrap();
    let rest = &report.answers[0];
    let again: Vec<u32> = rest.tokens.iter().map(|token| token.id).take(ids.len() - 2).collect();
    assert_eq!(again, ids[2..]);
    assert!(format!("{}{}", report.prefix, rest.text).starts_with(&whole.text), "{report:?}");
    for (now, before) in rest.tokens.iter().zip(&whole.tokens[2..]) {
        assert!((now.log_prob - before.log_prob).abs() < 1e-4, "the same places, the same probabilities");
    }
    // With another word there.
    let other = whole.tokens[1].likeliest.iter().find(|other| other.id != ids[1]).unwrap();
    let branch = PlayPlan { prefix: vec![ids[0], other.id], ..*plan(&[Pane::Expert(1)]) };
    let report = play(&mut window, run.clone(), &branch).unwrap();
    assert!(report.prefix.ends_with(other.text.trim()), "{:?} {:?}", report.prefix, other.text);
    let nonsense = PlayPlan { prefix: vec![1_000_000], ..branch };
    assert!(play(&mut window, run, &nonsense).unwrap_err().message.contains("the model knows"));
}
