//! The chat template that a run was trained with, and the token that ends its answers: in every export, in what the run
//! writes and in the playground.

use super::exports::letters;
use crate::support::texts::TextPlace;
use adamix::artifact::export::ExportTarget;
use adamix::data::text::TextCodec;
use adamix::protocol::*;
use adamix::tensor::NumberFormat;
use adamix::train::{Control, NullObserver};
use adamix::workflow::generate::TextGenerator;
use adamix::workflow::run::{self, Run};
use adamix::workflow::saved_run::Opened;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// Answers end with the start token, which the model's own files do not stop at.
const TEMPLATE: &str =
    "{% for m in messages %}{{ m.role[0] }}{{ m.content }}<s>{% endfor %}{% if add_generation_prompt %}a{% endif %}";

/// A run with its own template, over one whose model has another (or none).
fn trained(place: &TextPlace) -> Opened {
    fs::write(place.path("t.jinja"), TEMPLATE).unwrap();
    let row = |i: usize| {
        let question = char::from(b'c' + (i % 20) as u8).to_string();
        let messages = json!([{"role": "user", "content": question}, {"role": "assistant", "content": "ab"}]);
        format!("{}\n", json!({ "messages": messages }))
    };
    fs::write(place.path("train.jsonl"), (0..24).map(row).collect::<String>()).unwrap();
    fs::write(place.path("dev.jsonl"), (0..8).map(row).collect::<String>()).unwrap();
    let mut config = place.config(2);
    config.text.template = place.path("t.jinja").display().to_string();
    (config.data.max_length, config.eval.samples) = (32, 0);
    let mut run = Run::start(run::prepare(&config).unwrap()).unwrap();
    run.go(&mut NullObserver, &Control::default()).unwrap();
    let dir = run.dir().clone();
    drop(run);
    Opened::open(&dir, Checkpoint::Last).unwrap()
}

fn json_of(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn every_export_has_the_template_and_the_token_that_ends_answers() {
    let place = letters("llama-tiny");
    let settings = place.path("model").join("tokenizer_config.json");
    let mut own = json_of(&settings);
    own["chat_template"] = json!("{{ messages[0].content }} another");
    fs::write(&settings, own.to_string()).unwrap();
    let opened = trained(&place);
    let (_, data) = opened.subject.language_model().unwrap();
    let end = data.encoder.codec.encode("<s>").unwrap()[0];
    assert_eq!(data.turn_end, Some(end));
    assert!(!TextCodec::open(&place.path("model")).unwrap().specials.stops.contains(&end), "proves nothing otherwise");
    let targets = [ExportTarget::Hf, ExportTarget::Gguf, ExportTarget::Peft, ExportTarget::PeftExperts].to_vec();
    let plan = ExportPlan { targets, dtype: NumberFormat::F32, merge: MergePlan::Uniform, dir: None };
    for report in opened.export(&plan).unwrap() {
        assert!(report.certificate.passed);
        let dir = &report.dir;
        let hashed = json_of(&dir.join("certificate.json")).to_string();
        match report.target {
            ExportTarget::Hf => {
                assert_eq!(fs::read_to_string(dir.join("chat_template.jinja")).unwrap(), TEMPLATE);
                assert_eq!(json_of(&dir.join("tokenizer_config.json"))["chat_template"], TEMPLATE);
                let ends = json_of(&dir.join("generation_config.json"))["eos_token_id"].clone();
                assert!(ends.as_array().unwrap().contains(&json!(end)), "{ends}");
                assert!(hashed.contains("chat_template.jinja"), "{hashed}");
            }
            ExportTarget::Gguf => {}
            ExportTarget::Peft => {
                assert_eq!(fs::read_to_string(dir.join("chat_template.jinja")).unwrap(), TEMPLATE);
                assert!(hashed.contains("chat_template.jinja"), "{hashed}");
                continue;
            }
            _ => {
                assert_eq!(fs::read_to_string(dir.join("expert_0/chat_template.jinja")).unwrap(), TEMPLATE);
                continue;
            }
        }
        // Read as any other model: the same template, the same end.
        let path = if report.target == ExportTarget::Gguf { dir.join("model.gguf") } else { dir.clone() };
        let codec = TextCodec::open(&path).unwrap();
        assert_eq!(codec.specials.chat_template.as_deref(), Some(TEMPLATE), "{:?}", report.target);
        assert!(codec.specials.stops.contains(&end), "{:?}: {:?}", report.target, codec.specials.stops);
    }
}

#[test]
fn a_run_is_asked_by_its_own_template_and_stops_at_its_own_end() {
    let place = letters("llama-tiny");
    let opened = trained(&place);
    let (model, data) = opened.subject.language_model().unwrap();
    let generator = TextGenerator::new(model.merged_own().unwrap(), data.encoder.codec.clone(), String::new()).unwrap();
    let end = data.encoder.codec.encode("<s>").unwrap()[0];
    assert!(generator.stops().contains(&end));
    let asked = |ids: &[u32]| data.encoder.codec.decode(ids).unwrap();
    // With and without --chat, and in the playground: never by another template than the one that was learned.
    let plain = generator.prompt(Some(&data.encoder), (false, None), "g").unwrap();
    assert_eq!(asked(&plain), "ug<s>a");
    let chat = generator.prompt(Some(&data.encoder), (true, Some("x")), "g").unwrap();
    assert_eq!(asked(&chat), "sx<s>ug<s>a");
}
