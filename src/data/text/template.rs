//! Chat templates: Jinja from the model's own files, rendered as transformers does, with limits on work and memory and
//! without access to files or other templates.
//!
//! # Which part of a conversation is learned
//!
//! Answers inside `{% generation %}` where the template has such blocks. For all others the conversation is rendered up to
//! each answer with `add_generation_prompt`: the answer begins after this prefix. It ends where the conversation up to and
//! with the answer ends; or, where a template writes older answers differently, after its text and the token that ends the
//! turn; or, where it leaves out a part of the text (thoughts), at the token at which generation stops. Prefixes that do
//! not fit are an error.

use super::example::{Example, Role, Turn};
use super::template_values::{self, Arguments, python_methods, python_text};
use super::{python, template_source};
use crate::error::{Error, Result};
use jiff::civil::{Date, DateTime};
use minijinja::value::{Kwargs, Serde, ValueKind};
use minijinja::{Environment, ErrorKind, State, Value, context};
use serde_json::Value as Json;
use std::ops::Range;

/// Work a template may do however short the conversation is: some thousand times what real ones need.
const FUEL: u64 = 2_000_000;
/// Further work for every byte of the conversation.
const FUEL_PER_BYTE: u64 = 64;
/// What brackets an answer that the template marks; these code points are never assigned to a character.
const MARKS: [char; 2] = ['\u{FDD0}', '\u{FDD1}'];
const NAME: &str = "chat_template";

/// Tokens that a template may name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TemplateTokens {
    /// The text of the start token; empty without one.
    pub bos: String,
    /// The text of the end token; empty without one.
    pub eos: String,
    /// The texts of all special tokens.
    pub specials: Vec<String>,
    /// The texts of those at which generation stops.
    pub stops: Vec<String>,
}

/// A compiled chat template.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    /// The Jinja text, as it was given.
    pub source: String,
    env: Environment<'static>,
    tokens: TemplateTokens,
    /// Whether the template marks the answers itself.
    marks: bool,
    /// Whether it asks for the arguments of calls as text.
    texts: bool,
}

/// A rendered conversation and the answers in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// The text the model sees.
    pub text: String,
    /// Where the answers that are learned stand, in bytes, in order; the tokens that end their turns are theirs.
    pub learned: Vec<Range<usize>>,
}

impl ChatTemplate {
    /// Compiles a template. `date` is what templates see as today; the current time (UTC) when absent.
    pub fn new(source: &str, mut tokens: TemplateTokens, date: Option<Date>) -> Result<Self> {
        let mut env = Environment::new();
        let syntax = minijinja::syntax::SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        env.set_syntax(syntax.map_err(|err| failed(&err))?);
        env.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        env.set_unknown_method_callback(python_methods);
        env.set_formatter(|out, state, value| match value.kind() {
            ValueKind::Undefined | ValueKind::String => minijinja::escape_formatter(out, state, value),
            _ => Ok(out.write_str(&python_text(value))?),
        });
        env.add_filter("string", |value: &Value| python_text(value));
        // Only sequences, mappings and texts: Jinja's test says no of none and of numbers.
        env.add_test("iterable", |value: &Value| {
            value.is_undefined() || (!value.is_none() && value.try_iter().is_ok())
        });
        let moment = date.map_or_else(python::now, DateTime::from);
        env.add_function("strftime_now", move |format: String| {
            python::strftime(moment, &format)
                .map_err(|err| minijinja::Error::new(ErrorKind::InvalidOperation, err.to_string()))
        });
        env.add_function("raise_exception", |message: String| -> std::result::Result<Value, minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        });
        env.add_filter("tojson", to_json);
        env.add_filter("mark_answer", |text: String| format!("{}{text}{}", MARKS[0], MARKS[1]));
        let given = source.to_owned();
        let (source, marks) = template_source::prepared(source);
        let texts = source.contains("arguments is string");
        env.add_template_owned(NAME, source).map_err(|err| failed(&err))?;
        tokens.specials.retain(|text| !text.is_empty());
        tokens.stops.retain(|text| !text.is_empty());
        Ok(Self { source: given, env, tokens, marks, texts })
    }

    /// The text of these turns; `answering`: with the words that make the model answer.
    ///
    /// Arguments of calls are given as a mapping, which prints as its text; where a template adds them to a text, they are
    /// given as text.
    pub fn render(&self, turns: &[Turn], tools: Option<&Json>, answering: bool) -> Result<String> {
        let given = if self.texts { Arguments::Text } else { Arguments::Mapping };
        let rendered = self.render_with(turns, tools, answering, given);
        if rendered.is_err() && !self.texts && turns.iter().any(|turn| turn.fields.contains_key("tool_calls")) {
            return self.render_with(turns, tools, answering, Arguments::Text).or(rendered);
        }
        rendered
    }

    fn render_with(&self, turns: &[Turn], tools: Option<&Json>, answering: bool, given: Arguments) -> Result<String> {
        let messages: Value = turns.iter().map(|turn| template_values::message(turn, given)).collect();
        let bytes: usize = turns.iter().map(|turn| turn.text.len()).sum();
        let mut env = self.env.clone();
        env.set_fuel(Some(FUEL + FUEL_PER_BYTE * bytes as u64));
        let values = context! {
            messages => messages,
            tools => tools.map(|tools| Value::from(Serde(tools))),
            documents => Value::from(()),
            add_generation_prompt => answering,
            bos_token => &self.tokens.bos,
            eos_token => &self.tokens.eos,
        };
        let template = env.get_template(NAME).map_err(|err| failed(&err))?;
        let text = template.render(values).map_err(|err| failed(&err))?;
        Ok(if self.marks { text.replace(MARKS, "") } else { text })
    }

    /// What of an example the template does not write although the file has it: it is not read and not learned.
    pub fn left_out(&self, example: &Example) -> Result<Vec<&'static str>> {
        let tools = example.tools.as_ref();
        let text = self.render(&example.turns, tools, false)?;
        let mut found = Vec::new();
        let lacks = |wanted: &str| !wanted.trim().is_empty() && !text.contains(wanted.trim());
        if example.turns.iter().any(|turn| turn.role == Role::System && lacks(&turn.text)) {
            found.push("the system message");
        }
        if tools.is_some() && self.render(&example.turns, None, false)? == text {
            found.push("the tools");
        }
        let thought = |turn: &Turn| {
            let thoughts = ["reasoning_content", "reasoning", "thinking"];
            turn.learned && thoughts.iter().any(|key| turn.fields.get(*key).and_then(Json::as_str).is_some_and(lacks))
        };
        if example.turns.last().is_some_and(thought) {
            found.push("the thoughts beside the answer");
        }
        Ok(found)
    }

    /// The text of an example, and where the learned answers stand in it.
    pub fn example(&self, example: &Example) -> Result<Rendered> {
        if self.marks { self.marked_example(example) } else { self.prefixes(example) }
    }

    /// The prompt of an example as the model is asked it: everything before the last answer.
    pub fn prompt(&self, example: &Example) -> Result<String> {
        self.render(example.prompt(), example.tools.as_ref(), true)
    }

    /// Answers between the marks of `{% generation %}`.
    fn marked_example(&self, example: &Example) -> Result<Rendered> {
        if example.turns.iter().any(|turn| turn.text.contains(MARKS)) {
            return Err(Error::data("a turn holds one of the code points U+FDD0 and U+FDD1, which mark answers here"));
        }
        let unmarked = Self { marks: false, ..self.clone() };
        let text = unmarked.render(&example.turns, example.tools.as_ref(), false)?;
        let mut marks = text.chars().filter(|c| MARKS.contains(c)).enumerate();
        if marks.any(|(number, mark)| mark != MARKS[number % 2]) {
            return Err(Error::format("the chat template has a generation block inside another one"));
        }
        let (mut found, mut plain) = (Vec::new(), String::with_capacity(text.len()));
        for (number, piece) in text.split(MARKS).enumerate() {
            if number % 2 == 1 {
                found.push(plain.len()..plain.len() + piece.len());
            }
            plain.push_str(piece);
        }
        let answers: Vec<&Turn> = example.turns.iter().filter(|turn| turn.role == Role::Assistant).collect();
        // Some templates mark the parts of an answer one by one.
        if found.len() > answers.len() && answers.iter().all(|turn| turn.learned) {
            return Ok(Rendered { text: plain, learned: found });
        }
        if answers.len() != found.len() {
            return Err(Error::format(format!(
                "the chat template marks {} answers of {}; use another template, or none",
                found.len(),
                answers.len()
            )));
        }
        let learned = answers.iter().zip(found).filter(|(turn, _)| turn.learned).map(|(_, range)| range).collect();
        Ok(Rendered { text: plain, learned })
    }

    /// Answers between prefixes.
    fn prefixes(&self, example: &Example) -> Result<Rendered> {
        let tools = example.tools.as_ref();
        let text = self.render(&example.turns, tools, false)?;
        let mut learned: Vec<Range<usize>> = Vec::new();
        for (index, turn) in example.turns.iter().enumerate() {
            if turn.role != Role::Assistant || !turn.learned {
                continue;
            }
            let number = index + 1;
            let start = self.start(&text, &example.turns[..index], turn, tools)?;
            let start = start.ok_or_else(|| misfit(number, missing(&text, &example.turns[..=index])))?;
            let end = self
                .end(&text, &example.turns[..=index], start, tools)?
                .ok_or_else(|| misfit(number, "its text is not found in what the template writes"))?;
            if start >= end || learned.last().is_some_and(|last| last.end > start) {
                return Err(misfit(number, "nothing of it is in what the template writes"));
            }
            learned.push(start..end);
        }
        Ok(Rendered { text, learned })
    }

    /// Where an answer begins: after `before`, rendered with the words that make the model answer.
    fn start(&self, text: &str, before: &[Turn], turn: &Turn, tools: Option<&Json>) -> Result<Option<usize>> {
        if before.is_empty() {
            // Templates may refuse an empty conversation.
            return Ok(text.find(turn.text.trim()));
        }
        let asked = self.render(before, tools, true)?;
        if text.starts_with(&asked) {
            return Ok(Some(asked.len()));
        }
        // Some templates make the model answer with more than they write before a finished answer (an opened thought).
        let quiet = self.render(before, tools, false)?;
        if !text.starts_with(&quiet) {
            return Ok(None);
        }
        let shared: usize =
            text.chars().zip(asked.chars()).take_while(|(a, b)| a == b).map(|(c, _)| c.len_utf8()).sum();
        let said = text[quiet.len()..].find(turn.text.trim()).map(|at| at + quiet.len());
        Ok(said.map(|said| shared.min(said)).filter(|start| *start >= quiet.len()))
    }

    /// Where the last answer of `turns` ends, the token that ends the turn included.
    fn end(&self, text: &str, turns: &[Turn], start: usize, tools: Option<&Json>) -> Result<Option<usize>> {
        let until = self.render(turns, tools, false)?;
        if text.starts_with(&until) && until.len() > start {
            return Ok(Some(self.trimmed(text, start, until.len())));
        }
        let said = turns.last().map_or("", |turn| turn.text.trim());
        let Some(at) = text[start..].find(said).filter(|_| !said.is_empty()) else {
            // The template writes only a part of older answers, such as no thoughts: up to where generation stops.
            let stop = |stop: &String| text[start..].find(stop.as_str()).map(|at| start + at + stop.len());
            return Ok(self.tokens.stops.iter().filter_map(stop).min());
        };
        let end = start + at + said.len();
        let after = text[end..].trim_start();
        let skipped = text.len() - after.len();
        let specials = self.tokens.specials.iter().filter(|token| after.starts_with(token.as_str()));
        Ok(Some(specials.map(|token| skipped + token.len()).max().unwrap_or(end)))
    }

    /// Leaves the white space after the token that ends the turn out: the model stops before it.
    fn trimmed(&self, text: &str, start: usize, end: usize) -> usize {
        let tight = start + text[start..end].trim_end().len();
        let ended = self.tokens.specials.iter().any(|token| text[start..tight].ends_with(token.as_str()));
        if ended { tight } else { end }
    }
}

/// What a template leaves out of a finished conversation, so that it begins differently from the question.
fn missing(text: &str, turns: &[Turn]) -> &'static str {
    let lacks = |wanted: &str| !wanted.trim().is_empty() && !text.contains(wanted.trim());
    if turns.iter().any(|turn| turn.role == Role::System && lacks(&turn.text)) {
        return "the template writes the system message only before the question that is being asked and leaves it out of a finished conversation; fold it into the first question";
    }
    let thought = |turn: &Turn| turn.text.split_once("</think>").is_some_and(|(thought, _)| lacks(thought));
    if turns.last().is_some_and(thought) {
        return "the template leaves the thoughts (<think> ... </think>) of answers out, so that they cannot be learned with it";
    }
    "what comes before it is rendered differently when the answer is there"
}

fn misfit(number: usize, why: &str) -> Error {
    Error::data(format!(
        "the chat template does not let the answer in turn {number} be found: {why}; use another template with --chat-template, or none"
    ))
}

/// The `tojson` of transformers: Python's JSON, nothing escaped for HTML.
#[expect(clippy::needless_pass_by_value, reason = "filters are given their options")]
fn to_json(state: &State<'_, '_>, value: &Value, options: Kwargs) -> std::result::Result<Value, minijinja::Error> {
    let indent: Option<usize> = options.get("indent")?;
    options.get::<Option<Value>>("ensure_ascii")?;
    let sorted = options.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    let separators: Option<Vec<String>> = options.get("separators")?;
    options.assert_all_used()?;
    let separators = match (separators.as_deref(), indent) {
        (Some([item, key]), None) => [item.as_str(), key.as_str()],
        _ => [", ", ": "],
    };
    let sort = |mut json: Json| {
        if sorted {
            json.sort_all_objects();
        }
        json
    };
    let text = serde_json::to_value(value)
        .and_then(|json| python::dumps_with(&sort(json), indent, separators))
        .map_err(|err| minijinja::Error::new(ErrorKind::InvalidOperation, format!("no JSON of the value: {err}")))?;
    state.consume_fuel(text.len() as u64 / 64)?;
    Ok(Value::from(text))
}

/// A template's error in our words.
fn failed(err: &minijinja::Error) -> Error {
    let line = err.line().map(|line| format!(" in line {line}")).unwrap_or_default();
    // The innermost message: a template that raises says there what it wants.
    let mut inner: &dyn std::error::Error = err;
    while let Some(source) = inner.source() {
        inner = source;
    }
    let message = match inner.downcast_ref::<minijinja::Error>() {
        Some(inner) => inner.detail().map_or_else(|| inner.kind().to_string(), str::to_owned),
        None => inner.to_string(),
    };
    match err.kind() {
        ErrorKind::OutOfFuel => Error::format(format!(
            "the chat template{line} does not come to an end and was stopped; use another template with --chat-template, or none"
        )),
        ErrorKind::SyntaxError => Error::format(format!(
            "the chat template has an error{line}: {message}; use another template with --chat-template, or none"
        )),
        _ => Error::data(format!("the chat template{line} refuses the conversation: {message}")),
    }
}
