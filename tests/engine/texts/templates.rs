//! Chat templates: transformers' renderings, answers found, and templates that must be refused.

use super::{CHATML, codec_of, files, load_with, says};
use adamix::config::{DataConfig, TextConfig, TextFormat};
use adamix::data::text::template::{ChatTemplate, TemplateTokens};
use adamix::data::text::{Example, Role, TextEncoder, Turn};
use adamix::error::Result;
use serde_json::Value;
use std::time::{Duration, Instant};

fn tokens() -> TemplateTokens {
    let specials: Vec<String> =
        ["<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|eot|>"].into_iter().map(str::to_owned).collect();
    TemplateTokens { bos: "<s>".to_owned(), eos: "</s>".to_owned(), stops: specials[1..].to_vec(), specials }
}

fn template(source: &str) -> Result<ChatTemplate> {
    ChatTemplate::new(source, tokens(), Some(jiff::civil::date(2024, 7, 4)))
}

fn conversation(messages: &Value, tools: Option<&Value>) -> Example {
    let turn = |message: &Value| {
        let role = match message["role"].as_str().unwrap() {
            "system" => Role::System,
            "user" => Role::User,
            "tool" => Role::Tool,
            _ => Role::Assistant,
        };
        let mut turn = Turn::new(role, message["content"].as_str().unwrap_or_default());
        turn.fields.extend(message.get("tool_calls").map(|calls| ("tool_calls".to_owned(), calls.clone())));
        turn
    };
    let turns = messages.as_array().unwrap().iter().map(turn).collect();
    Example { tools: tools.cloned(), ..Example::new(turns, 1) }
}

fn simple(texts: &[&str]) -> Example {
    let roles = [Role::User, Role::Assistant];
    Example::new(texts.iter().enumerate().map(|(i, &text)| Turn::new(roles[i % 2], text)).collect(), 1)
}

fn learned(template: &ChatTemplate, example: &Example) -> Vec<String> {
    let rendered = template.example(example).unwrap();
    rendered.learned.iter().map(|range| rendered.text[range.clone()].to_owned()).collect()
}

#[test]
fn templates_render_as_in_transformers() {
    let golden: Value = serde_json::from_str(include_str!("../../golden/chat_templates.json")).unwrap();
    let cases = golden["cases"].as_array().unwrap();
    assert!(cases.len() > 20);
    for case in cases {
        let (name, which) = (case["template"].as_str().unwrap(), case["conversation"].as_str().unwrap());
        let template = template(golden["templates"][name].as_str().unwrap()).unwrap();
        let tools = (which == "calls").then(|| &golden["tools"]);
        let example = conversation(&golden["conversations"][which], tools);
        if let Some(error) = case["error"].as_str() {
            says(&template.render(&example.turns, tools, false).unwrap_err(), &[error, "refuses the conversation"]);
            continue;
        }
        let whole = template.render(&example.turns, tools, false).unwrap();
        assert_eq!(whole, case["whole"].as_str().unwrap(), "{name} {which}");
        assert_eq!(template.prompt(&example).unwrap(), case["prompt"].as_str().unwrap(), "{name} {which}");
        if let Some(spans) = case["learned"].as_array() {
            let chars: Vec<char> = whole.chars().collect();
            let at = |span: &Value, end: usize| span[end].as_u64().unwrap() as usize;
            let expected: Vec<String> =
                spans.iter().map(|span| chars[at(span, 0)..at(span, 1)].iter().collect()).collect();
            assert_eq!(learned(&template, &example), expected, "{name} {which}");
        }
    }
}

#[test]
fn answers_are_found_between_prefixes() {
    let golden: Value = serde_json::from_str(include_str!("../../golden/chat_templates.json")).unwrap();
    let found = |name: &str, which: &str| {
        let template = template(golden["templates"][name].as_str().unwrap()).unwrap();
        let tools = (which == "calls").then(|| &golden["tools"]);
        learned(&template, &conversation(&golden["conversations"][which], tools))
    };
    assert_eq!(found("chatml", "two"), ["one<|im_end|>", "two 'quoted' <b><|im_end|>"]);
    assert_eq!(found("headers", "system"), ["Because\nof rhyme.<|eot|>"]);
    assert_eq!(
        found("headers", "calls"),
        ["{\"name\": \"look\", \"arguments\": {\"place\": \"Zoë's <b>\", \"n\": 3}}<|eot|>", "Two birds.<|eot|>"]
    );
    assert_eq!(found("brackets", "two"), [" one</s>", " two 'quoted' <b></s>"]);
    // Older answers are written without their thoughts, and the last one with an empty thought when it has none.
    assert_eq!(found("thoughts", "two"), ["one<|im_end|>", "<think>\n\n</think>\n\ntwo 'quoted' <b><|im_end|>"]);
    assert_eq!(found("thoughts", "thinking"), ["4<|im_end|>", "<think>\nadd more\n</think>\n\n6<|im_end|>"]);
}

#[test]
fn a_prompt_that_opens_a_thought_does_not_swallow_the_answer() {
    // The prompt goes on with "<think>", a finished answer does not.
    let source = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</s>{% endfor %}{% if add_generation_prompt %}<assistant><think>\n{% endif %}";
    let template = template(source).unwrap();
    assert_eq!(learned(&template, &simple(&["q", "<tea> is good"])), ["<tea> is good</s>"]);
}

#[test]
fn turns_that_are_not_learned_stay_out() {
    let template = template(CHATML).unwrap();
    let mut example = simple(&["a", "b", "c", "d"]);
    example.turns[1].learned = false;
    assert_eq!(learned(&template, &example), ["d<|im_end|>"]);
    // A conversation that begins with an answer.
    let example = Example::new(
        vec![Turn::new(Role::Assistant, "Hello."), Turn::new(Role::User, "Hi."), Turn::new(Role::Assistant, "So?")],
        1,
    );
    assert_eq!(learned(&template, &example), ["Hello.<|im_end|>", "So?<|im_end|>"]);
}

#[test]
fn prefixes_that_do_not_fit_are_an_error() {
    // The first line counts the messages.
    let template =
        template("{{ messages | length }} messages:{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}")
            .unwrap();
    says(&template.example(&simple(&["q", "a"])).unwrap_err(), &["turn 2", "rendered differently", "--chat-template"]);
    let golden: Value = serde_json::from_str(include_str!("../../golden/chat_templates.json")).unwrap();
    let listing = self::template(golden["templates"]["macros"].as_str().unwrap()).unwrap();
    says(&listing.example(&simple(&["q", "a"])).unwrap_err(), &["turn 2", "rendered differently"]);
    let shouting = self::template(
        "{% for m in messages %}<{{ m.role }}>{{ m.content | upper if not loop.last else m.content }}{% endfor %}",
    )
    .unwrap();
    says(&shouting.example(&simple(&["q", "a", "q", "b"])).unwrap_err(), &["turn 2"]);
}

#[test]
fn templates_that_loop_or_grow_are_stopped() {
    let loops = [
        "{% for a in range(90000) %}{% for b in range(90000) %}{% for c in range(90000) %}{% endfor %}{% endfor %}{% endfor %}",
        "{% set ns = namespace(s='xxxxxxxxxxxxxxxx') %}{% for a in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ ns.s }}",
        "{% macro again(n) %}{% for i in range(99) %}{{ again(n + 1) }}{% endfor %}{% endmacro %}{{ again(0) }}",
        "{{ 'x' * 100000000000 }}",
    ];
    for source in loops {
        let started = Instant::now();
        let err = template(source).unwrap().render(&simple(&["q", "a"]).turns, None, false).unwrap_err();
        assert!(started.elapsed() < Duration::from_secs(20), "{source}: {:?}", started.elapsed());
        let message = err.to_string();
        assert!(message.contains("chat template"), "{message}");
    }
    let err = template(loops[0]).unwrap().render(&simple(&["q", "a"]).turns, None, false).unwrap_err();
    says(&err, &["does not come to an end", "in line 1", "--chat-template"]);
}

#[test]
fn broken_templates_are_refused_when_they_are_read() {
    says(&template("line one\n{% for m in %}").unwrap_err(), &["the chat template has an error in line 2"]);
    let err = template("{{ messages | no_such_filter }}").unwrap().render(&[], None, false).unwrap_err();
    says(&err, &["no_such_filter"]);
    let nested =
        template("{% generation %}{% generation %}{{ messages[1].content }}{% endgeneration %}{% endgeneration %}")
            .unwrap();
    says(&nested.example(&simple(&["q", "a"])).unwrap_err(), &["inside another"]);
    let missing = template("{% generation %}x{% endgeneration %}").unwrap();
    says(&missing.example(&simple(&["q", "a", "b", "c"])).unwrap_err(), &["marks 1 answers of 2"]);
    says(&missing.example(&simple(&["q", "\u{FDD0}"])).unwrap_err(), &["U+FDD0"]);
}

#[test]
fn a_template_that_raises_refuses_the_row_and_not_the_run() {
    let contents = "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", \"content\": \"b\"}]}\n{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", \"content\": \"b\"}]}\n";
    let strict = "{% for m in messages %}{% if loop.index0 % 2 != (m.role == 'assistant') | int %}{{ raise_exception('turns must alternate') }}{% endif %}<{{ m.role }}>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}";
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("strict.jinja");
    std::fs::write(&file, strict).unwrap();
    let with = |skip: bool| {
        load_with("t.jsonl", contents, |data, text| {
            text.template = file.display().to_string();
            if skip {
                data.bad_rows = adamix::config::BadRows::Skip;
            }
        })
    };
    says(&with(false).unwrap_err(), &["line 2", "turns must alternate", "t.jsonl"]);
    let data = with(true).unwrap();
    assert_eq!((data.train.len(), data.skipped.len()), (1, 2));
    assert_eq!(data.train.encoded[0].example, 0);
}

#[test]
fn the_setting_chooses_the_template() {
    let none = codec_of(&files::chatml("")).unwrap();
    let encoder = |codec, format, template: &str| {
        let text = TextConfig { template: template.to_owned(), ..TextConfig::default() };
        TextEncoder::new(codec, format, &DataConfig::default(), &text).map(|encoder| encoder.layout.describe())
    };
    let chat = super::codec();
    assert_eq!(encoder(&chat, TextFormat::Alpaca, "auto").unwrap(), "chat template");
    assert_eq!(encoder(&chat, TextFormat::E2e, "model").unwrap(), "chat template");
    assert_eq!(encoder(&chat, TextFormat::E2e, "auto").unwrap(), "input, separator, reference");
    assert_eq!(encoder(&chat, TextFormat::Completion, "auto").unwrap(), "prompt and completion as they stand");
    assert_eq!(encoder(&chat, TextFormat::Messages, "none").unwrap(), "one turn after the other, without a template");
    assert_eq!(encoder(&none, TextFormat::Messages, "auto").unwrap(), "one turn after the other, without a template");
    assert_eq!(encoder(&none, TextFormat::Plain, "auto").unwrap(), "plain text");
    says(&encoder(&none, TextFormat::Messages, "model").unwrap_err(), &["no chat template", "none"]);
    says(&encoder(&chat, TextFormat::Plain, "model").unwrap_err(), &["without a prompt"]);
    says(&encoder(&chat, TextFormat::Messages, "/no/such.jinja").unwrap_err(), &["chat template", "/no/such.jinja"]);
}

#[test]
fn constructs_give_what_jinja_gives() {
    let golden: Value = serde_json::from_str(include_str!("../../golden/jinja.json")).unwrap();
    let mut turns = conversation(&golden["messages"], None).turns;
    turns[3].fields.insert("name".to_owned(), "f".into());
    let mut wrong = Vec::new();
    for case in golden["cases"].as_array().unwrap() {
        let (source, tools) = (case["source"].as_str().unwrap(), case["tools"] == true);
        let tools = tools.then(|| &golden["tools"]);
        let found = template(source).and_then(|template| template.render(&turns, tools, true));
        match (case["text"].as_str(), found) {
            (Some(wanted), Ok(found)) if wanted == found => {}
            (None, Err(_)) => {}
            (wanted, found) => wrong.push(format!("{source}\n  {wanted:?}\n  {found:?}")),
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}
