//! Conversations in the layouts that published sets have: what is learned, what is kept out, what is refused by name.

use super::{dir, load, load_with, says, shown};
use adamix::config::{BadRows, TextConfig, TextFormat, choice_name};
use adamix::data::text::{Example, Role, TextData, read};

/// A template that writes calls in its own way, and the tools.
const CALLS: &str = "{%- if tools %}<|im_start|>system\nTools:{% for t in tools %} {{ t | tojson }}{% endfor %}<|im_end|>\n{% endif %}{%- for m in messages %}{{- '<|im_start|>' + m.role + '\n' + m.content }}{%- for c in m.tool_calls or [] %}<call>{{ c.function | tojson }}</call>{% endfor %}{{- '<|im_end|>\n' }}{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}";

fn found(name: &str, contents: &str) -> (TextFormat, Vec<Example>) {
    let dir = dir(&[(name, contents)]);
    let found = read(&dir.path().join(name), &TextConfig::default(), BadRows::Refuse).unwrap().0;
    (found.format, found.examples)
}

/// The turns of the first example: `role: text`, those that are learned with a star.
fn turns(name: &str, contents: &str) -> Vec<String> {
    let turn = |turn: &adamix::data::text::Turn| {
        format!("{}{}: {}", choice_name(turn.role), if turn.learned { "*" } else { "" }, turn.text)
    };
    found(name, contents).1[0].turns.iter().map(turn).collect()
}

/// Loads with a template written to a file.
fn templated(template: &str, name: &str, contents: &str) -> adamix::error::Result<TextData> {
    let dir = dir(&[("t.jinja", template)]);
    let file = dir.path().join("t.jinja").display().to_string();
    load_with(name, contents, |_, text| text.template.clone_from(&file))
}

#[test]
fn a_call_in_any_layout_is_written_by_the_template() {
    let wanted = "[<call>{\"name\": \"weather\", \"arguments\": {\"town\": 1}}</call><|im_end|>]";
    let sharegpt = r#"{"conversations": [{"from": "human", "value": "Weather?"}, {"from": "function_call", "value": "{\"name\": \"weather\", \"arguments\": {\"town\": 1}}"}, {"from": "observation", "value": "3"}, {"from": "gpt", "value": "Three."}], "tools": "[{\"name\": \"weather\"}]"}"#;
    let openai = r#"{"messages": [{"role": "user", "content": "Weather?"}, {"role": "assistant", "content": "", "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{\"town\": 1}"}}]}, {"role": "tool", "content": "3", "tool_call_id": "c1"}, {"role": "assistant", "content": "Three."}], "tools": [{"name": "weather"}]}"#;
    let object =
        openai.replace(r#""{\"town\": 1}""#, r#"{"town": 1}"#).replace(r#""content": "", "#, r#""content": null, "#);
    let legacy = r#"{"messages": [{"role": "user", "content": "Weather?"}, {"role": "assistant", "content": null, "function_call": {"name": "weather", "arguments": "{\"town\": 1}"}}, {"role": "function", "name": "weather", "content": "3"}, {"role": "assistant", "content": "Three."}], "tools": [{"name": "weather"}]}"#;
    for contents in [sharegpt, openai, &object, legacy] {
        let data = templated(CALLS, "t.jsonl", contents).unwrap();
        let text = shown(&data, 0);
        assert!(text.contains("Tools: {\"name\": \"weather\"}<|im_end|>"), "{text}");
        assert!(text.contains(&format!("<|im_start|>assistant\n{wanted}\n")), "{text}");
        assert!(text.contains("<|im_start|>assistant\n[Three.<|im_end|>]"), "{text}");
    }
    // Tools in the older form.
    let functions = legacy.replace(r#""tools": [{"name": "weather"}]"#, r#""functions": [{"name": "weather"}]"#);
    let text = shown(&templated(CALLS, "t.jsonl", &functions).unwrap(), 0);
    assert!(text.contains("Tools: {\"type\": \"function\", \"function\": {\"name\": \"weather\"}}"), "{text}");
    let broken = sharegpt.replace(r#"{\"name\": \"weather\", \"arguments\": {\"town\": 1}}"#, "weather(1)");
    says(&templated(CALLS, "t.jsonl", &broken).unwrap_err(), &["message 2", "function call", "no JSON object"]);
}

#[test]
fn arguments_are_a_mapping_that_prints_as_its_text() {
    let row = |arguments: &str| {
        format!(
            r#"{{"messages": [{{"role": "user", "content": "q"}}, {{"role": "assistant", "content": "", "tool_calls": [{{"function": {{"name": "f", "arguments": {arguments}}}}}]}}]}}"#
        )
    };
    let shell = |inner: &str| {
        format!(
            "{{% for m in messages %}}<|im_start|>{{{{ m.role }}}}\n{{% if m.tool_calls %}}{{% set a = m.tool_calls[0].function.arguments %}}{inner}{{% else %}}{{{{ m.content }}}}{{% endif %}}<|im_end|>\n{{% endfor %}}{{% if add_generation_prompt %}}<|im_start|>assistant\n{{% endif %}}"
        )
    };
    let learned = |inner: &str, arguments: &str| {
        let text = shown(&templated(&shell(inner), "t.jsonl", &row(arguments)).unwrap(), 0);
        text.split_once('[').unwrap().1.split_once("<|im_end|>").unwrap().0.to_owned()
    };
    let (text, object) = (r#""{\"x\":1}""#, r#"{"x":1}"#);
    for (inner, of_text, of_object) in [
        ("{{ a | tojson }}", r#"{"x": 1}"#, r#"{"x": 1}"#),
        ("{% for k, v in a.items() %}{{ k }}={{ v }}{% endfor %}", "x=1", "x=1"),
        // DeepSeek's template adds them to a text.
        ("{{ '```' + a + '```' }}", "```{\"x\":1}```", "```{\"x\": 1}```"),
        ("{{ a }}", "{\"x\":1}", "{\"x\": 1}"),
        // Qwen3's asks.
        ("{% if a is string %}{{ a }}{% else %}{{ a | tojson }}{% endif %}", r#"{"x": 1}"#, r#"{"x": 1}"#),
    ] {
        assert_eq!(learned(inner, text), of_text, "{inner}");
        assert_eq!(learned(inner, object), of_object, "{inner}");
    }
    let asks = "{% set c = m.tool_calls[0].function %}{% if c.arguments is string %}{{ c.arguments }}{% else %}{{ c.arguments | tojson }}{% endif %}";
    assert_eq!(learned(asks, text), "{\"x\":1}");
}

#[test]
fn empty_and_absent_contents_are_empty_texts_and_never_words() {
    let trims = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | trim }}<|im_end|>{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    for content in [r#""content": "", "#, r#""content": null, "#, ""] {
        let row = format!(
            r#"{{"messages": [{{"role": "user", "content": "q"}}, {{"role": "assistant", {content}"tool_calls": [{{"name": "f"}}]}}, {{"role": "tool", "content": null}}, {{"role": "assistant", "content": "Three."}}]}}"#
        );
        let text = shown(&templated(trims, "t.jsonl", &row).unwrap(), 0);
        assert_eq!(
            text,
            "<|im_start|>user\nq<|im_end|><|im_start|>assistant\n[<|im_end|>]<|im_start|>tool\n<|im_end|><|im_start|>assistant\n[Three.<|im_end|>]"
        );
    }
    says(
        &load("t.jsonl", r#"{"messages": [{"role": "user", "content": null}, {"role": "assistant", "content": "a"}]}"#)
            .unwrap_err(),
        &["message 1", "content is null"],
    );
    says(
        &load("t.jsonl", r#"{"messages": [{"role": "user", "words": "q"}, {"role": "assistant", "content": "a"}]}"#)
            .unwrap_err(),
        &["message 1", "no \"content\""],
    );
}

#[test]
fn what_a_file_keeps_out_of_the_loss_is_not_learned() {
    for key in [
        r#""train": false"#,
        r#""training": false"#,
        r#""trainable": 0"#,
        r#""loss": false"#,
        r#""weight": 0"#,
        r#""loss_weight": 0.0"#,
        r#""masked": true"#,
        r#""ignore": true"#,
    ] {
        let row = format!(
            r#"{{"messages": [{{"role": "user", "content": "q"}}, {{"role": "assistant", "content": "wrong", {key}}}, {{"role": "user", "content": "no"}}, {{"role": "assistant", "content": "right"}}]}}"#
        );
        let data = load("t.jsonl", &row).unwrap();
        let text = shown(&data, 0);
        assert!(text.contains("assistant\nwrong<|im_end|>") && text.contains("[right<|im_end|>]"), "{key}: {text}");
        assert!(data.notes.iter().any(|note| note.contains(key)), "{key}: {:?}", data.notes);
    }
    let odd = r#"{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "training_detail": [], "weight": 0.5}]}"#;
    let notes = load("t.jsonl", odd).unwrap().notes;
    assert!(notes.iter().any(|note| note.contains("training_detail") && note.contains("not understood")), "{notes:?}");
    assert!(notes.iter().any(|note| note.contains("weight") && note.contains("learned in full")), "{notes:?}");
}

#[test]
fn rows_that_a_file_keeps_out_are_left_out() {
    let rows = "{\"prompt\": \"a\", \"completion\": \"b\", \"train\": false}\n{\"prompt\": \"c\", \"completion\": \"d\", \"train\": true}\n";
    let data = load("t.jsonl", rows).unwrap();
    assert_eq!((data.train.examples.len(), data.train.examples[0].answer()), (1, "d"));
    assert!(data.notes[0].contains("\"train\": false") && data.notes[0].contains("left out"), "{:?}", data.notes);
    // A measured loss or a weight of a thing says nothing of the kind.
    let rows = "{\"prompt\": \"a\", \"completion\": \"b\", \"loss\": 0.0, \"weight\": 71.5}\n";
    assert_eq!(load("t.jsonl", rows).unwrap().train.examples.len(), 1);
    // Nothing is left of a conversation whose every answer is kept out.
    let rows = "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", \"content\": \"b\", \"weight\": 0}]}\n";
    says(&load("t.jsonl", rows).unwrap_err(), &["keeps every answer", "out of the loss"]);
}

#[test]
fn layouts_of_published_sets() {
    // OpenOrca
    let orca = r#"{"id": "1", "system_prompt": "Be terse.", "question": "q", "response": "a"}"#;
    assert_eq!(turns("t.jsonl", orca), ["system: Be terse.", "user: q", "assistant*: a"]);
    // Capybara
    let capybara =
        r#"{"source": "s", "conversation": [{"input": "q", "output": "a"}, {"input": "more", "output": "ok"}]}"#;
    assert_eq!(turns("t.jsonl", capybara), ["user: q", "assistant*: a", "user: more", "assistant*: ok"]);
    // LIMA
    let lima = r#"{"conversations": ["q", "a", "more", "ok"], "source": "s"}"#;
    assert_eq!(turns("t.jsonl", lima), ["user: q", "assistant*: a", "user: more", "assistant*: ok"]);
    // Dolly
    let dolly = r#"{"instruction": "i", "context": "c", "response": "a", "category": "qa"}"#;
    assert_eq!(turns("t.jsonl", dolly), ["user: i\nc", "assistant*: a"]);
    // LLaMA-Factory's newer form
    let parts = r#"{"messages": [{"role": "user", "content": [{"type": "text", "value": "q"}]}, {"role": "assistant", "content": [{"type": "text", "value": "a"}], "loss_weight": 1.0}]}"#;
    assert_eq!(turns("t.jsonl", parts), ["user: q", "assistant*: a"]);
    // AutoTrain
    let cell = "messages\n\"[{\"\"role\"\": \"\"user\"\", \"\"content\"\": \"\"q\"\"}, {\"\"role\"\": \"\"assistant\"\", \"\"content\"\": \"\"a\"\"}]\"\n";
    assert_eq!(turns("t.csv", cell), ["user: q", "assistant*: a"]);
    // TRL's prompt and completion: only the completion is learned.
    let trl = r#"{"prompt": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "old"}, {"role": "user", "content": "more"}], "completion": [{"role": "assistant", "content": "a"}]}"#;
    assert_eq!(turns("t.jsonl", trl), ["user: q", "assistant: old", "user: more", "assistant*: a"]);
    // A system message beside a prompt is part of it.
    let system = r#"{"system": "Be kind.", "prompt": "q", "completion": "a"}"#;
    assert_eq!(turns("t.jsonl", system), ["system: Be kind.", "user: q", "assistant*: a"]);
}

#[test]
fn preference_data_is_refused_with_advice_that_works() {
    let chosen = [
        r#"[{"prompt": "q", "chosen": "good", "rejected": "bad"}, {"prompt": "r", "chosen": "fine", "rejected": "bad"}]"#,
        r#"[{"conversations": [{"from": "human", "value": "q"}], "chosen": {"from": "gpt", "value": "good"}, "rejected": {"from": "gpt", "value": "bad"}}]"#,
        r#"[{"chosen": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "good"}], "rejected": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "bad"}]}]"#,
        r#"[{"prompt": "q", "chosen": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "good"}], "rejected": []}]"#,
    ];
    for contents in chosen {
        let err = load("t.json", contents).unwrap_err().to_string();
        assert!(err.contains("learning from preferences"), "{err}");
        let named = |key: &str| {
            let at = err.find(&format!("{key} = \""))? + key.len() + 4;
            err[at..].split('"').next().map(str::to_owned)
        };
        let data = load_with("t.json", contents, |_, text| {
            text.prompt_column = named("prompt_column").unwrap_or_default();
            text.completion_column = named("completion_column").unwrap();
        });
        let example = &data.unwrap().train.examples[0];
        assert_eq!((example.prompt()[0].text.as_str(), example.answer()), ("q", "good"), "{err}");
        assert_eq!(example.turns.len(), 2);
    }
}

#[test]
fn unwanted_answers_and_pictures_are_refused_by_name() {
    let kto = "{\"messages\": [{\"role\": \"user\", \"content\": \"q\"}, {\"role\": \"assistant\", \"content\": \"an insult\"}], \"label\": false}\n{\"messages\": [{\"role\": \"user\", \"content\": \"q\"}, {\"role\": \"assistant\", \"content\": \"good\"}], \"label\": true}\n";
    says(&load("t.jsonl", kto).unwrap_err(), &["line 1", "marked as unwanted", "KTO", "bad_rows = \"skip\""]);
    let data = load_with("t.jsonl", kto, |data, _| data.bad_rows = BadRows::Skip).unwrap();
    assert_eq!((data.train.examples.len(), data.train.examples[0].answer()), (1, "good"));
    let table = "prompt,completion,label\nq,bad,False\nr,good,True\n";
    says(&load("t.csv", table).unwrap_err(), &["marked as unwanted"]);
    let picture = r#"{"messages": [{"role": "user", "content": "<image>What is it?"}, {"role": "assistant", "content": "A cat."}], "images": ["cat.png"]}"#;
    says(&load("t.jsonl", picture).unwrap_err(), &["\"images\"", "only texts can be learned"]);
    let none = picture.replace("[\"cat.png\"]", "[]");
    assert_eq!(load("t.jsonl", &none).unwrap().train.examples.len(), 1);
}

#[test]
fn what_a_template_leaves_out_is_said() {
    let silent = "{% for m in messages if m.role != 'system' %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    let row = r#"{"messages": [{"role": "system", "content": "Be terse."}, {"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "reasoning_content": "because"}], "tools": [{"name": "f"}]}"#;
    let notes = templated(silent, "t.jsonl", row).unwrap().notes;
    for what in ["the system message", "the tools", "the thoughts"] {
        assert!(notes.iter().any(|note| note.contains(what)), "{what}: {notes:?}");
    }
    // Mistral's system message stands before the last question only.
    let mistral = "{%- if messages[0].role == 'system' %}{%- set sys = messages[0].content %}{%- set ms = messages[1:] %}{%- else %}{%- set sys = none %}{%- set ms = messages %}{%- endif %}{%- for m in ms %}{%- if m.role == 'user' %}{%- if loop.last and sys is not none %}{{- '[INST] ' + sys + ' ' + m.content + '[/INST]' }}{%- else %}{{- '[INST] ' + m.content + '[/INST]' }}{%- endif %}{%- else %}{{- ' ' + m.content + '<|im_end|>' }}{%- endif %}{%- endfor %}";
    let row = r#"{"messages": [{"role": "system", "content": "Be terse."}, {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}"#;
    says(
        &templated(mistral, "t.jsonl", row).unwrap_err(),
        &["system message only before", "fold it into the first question"],
    );
    let r1 = "{% for m in messages %}{% if m.role == 'user' %}<|user|>{{ m.content }}{% else %}{% set c = m.content %}{% if '</think>' in c %}{% set c = c.split('</think>')[-1] %}{% endif %}<|assistant|>{{ c }}<|im_end|>{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|><think>\n{% endif %}";
    let row = r#"{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "<think>\nlet me see\n</think>\n\nFour."}]}"#;
    says(&templated(r1, "t.jsonl", row).unwrap_err(), &["leaves the thoughts (<think>"]);
}

#[test]
fn one_prompt_for_all_rows_and_none_at_all() {
    let hold = |rows: String| load_with("t.jsonl", &rows, |data, _| data.dev_file = String::new());
    let same: String =
        (0..40).map(|i| format!("{{\"instruction\": \"Write.\", \"output\": \"text {i}\"}}\n")).collect();
    let data = hold(same).unwrap();
    assert_eq!((data.train.examples.len(), data.dev.examples.len()), (36, 4));
    assert!(data.notes.iter().any(|note| note.contains("all 40 texts have the same input")), "{:?}", data.notes);
    let empty: String = (0..40).map(|i| format!("{{\"prompt\": \"\", \"completion\": \"text {i}\"}}\n")).collect();
    let data = hold(empty).unwrap();
    assert_eq!((data.train.examples.len(), data.dev.examples.len()), (36, 4));
    assert_eq!(data.notes, Vec::<String>::new());
    // One input has nearly all the rows: it is not taken away from training.
    let uneven: String = (0..40)
        .map(|i| {
            format!("{{\"prompt\": \"{}\", \"completion\": \"text {i}\"}}\n", if i == 7 { "rare" } else { "usual" })
        })
        .collect();
    let data = hold(uneven).unwrap();
    assert_eq!((data.train.examples.len(), data.dev.examples.len()), (39, 1));
}

#[test]
fn one_plain_text_is_enough() {
    let book: String =
        (0..120).map(|i| format!("Line {i} of a book, one document a line, without empty lines.\n")).collect();
    for text in [book.clone(), book.replace('\n', " ")] {
        let data = load_with("book.txt", &text, |data, _| data.dev_file = String::new()).unwrap();
        assert!(!data.dev.examples.is_empty() && data.train.examples.len() > data.dev.examples.len());
        let mut all: Vec<&Example> = data.train.examples.iter().chain(&data.dev.examples).collect();
        all.sort_by_key(|example| (example.line, text.find(example.answer())));
        let joined: String = all.iter().map(|example| example.answer()).collect();
        assert_eq!(joined, text.trim_end(), "nothing is lost");
    }
}

#[test]
fn json_as_python_and_people_write_it() {
    let nan = "{\"prompt\": \"q\", \"completion\": \"a\", \"score\": NaN}\n{\"prompt\": \"r\", \"completion\": NaN}\n";
    says(&load("t.jsonl", nan).unwrap_err(), &["line 2", "no value for \"completion\""]);
    let pretty =
        "{\n  \"prompt\": \"q\",\n  \"completion\": \"a\"\n}\n{\n  \"prompt\": \"r\",\n  \"completion\": \"b\"\n}\n";
    let (format, examples) = found("t.jsonl", pretty);
    assert_eq!((format, examples.len(), examples[1].line), (TextFormat::Completion, 2, 5));
    let chat = "{\n  \"messages\": [\n    {\"role\": \"user\", \"content\": \"q\"},\n    {\"role\": \"assistant\", \"content\": \"a\"}\n  ]\n}\n";
    let (format, examples) = found("t.jsonl", &chat.repeat(2));
    assert_eq!((format, examples.len()), (TextFormat::Messages, 2));
    assert_eq!(found("t.json", chat).1.len(), 1);
    assert_eq!(examples[0].turns.iter().filter(|turn| turn.role == Role::Assistant).count(), 1);
}

#[test]
fn conversations_in_binary_tables() {
    // Written by tests/golden/tables.py.
    for name in ["chats.parquet", "chats.arrow"] {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/chats").join(name);
        let found = read(&path, &TextConfig::default(), BadRows::Refuse).unwrap().0;
        assert_eq!((found.format, found.examples.len()), (TextFormat::Messages, 4), "{name}");
        assert_eq!((found.examples[2].prompt()[0].text.as_str(), found.examples[2].answer()), ("q2", "a2"));
        assert_eq!(found.examples[2].line, 3);
    }
}

#[test]
fn what_is_cut_off_is_said_before_training() {
    let row = format!("{{\"prompt\": \"q\", \"completion\": \"{}\"}}\n", "a good film ".repeat(60));
    let rows = format!("{row}{{\"prompt\": \"r\", \"completion\": \"short\"}}\n");
    let data = load_with("t.jsonl", &rows, |data, _| data.max_length = 32).unwrap();
    assert_eq!(data.notes.len(), 1, "{:?}", data.notes);
    for part in ["1 of 2 texts are longer than max_length = 32", "the token that ends an answer", "raise max_length"] {
        assert!(data.notes[0].contains(part), "{:?}", data.notes);
    }
    assert!(load("t.jsonl", &rows).unwrap().notes.is_empty());
}

#[test]
fn the_token_that_ends_learned_answers_ends_generation() {
    let row = r#"{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}"#;
    let ends = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_start|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    let data = templated(ends, "t.jsonl", row).unwrap();
    let id = data.encoder.codec.encode("<|im_start|>").unwrap()[0];
    assert_eq!(data.turn_end, Some(id));
    assert!(data.encoder.codec.specials.stops.contains(&id));
    assert_eq!(load("t.jsonl", row).unwrap().turn_end, None, "the model's own end token needs no word");
}
