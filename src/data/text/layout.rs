//! How an example becomes segments: pieces of text and single tokens, each learned or not.

use super::example::{Example, Role, Turn};
use super::template::ChatTemplate;
use super::{TextCodec, conversation};
use crate::config::{TextConfig, TextFormat, choice_name};
use crate::data::text::template::TemplateTokens;
use crate::error::{Context as _, Error, Result};
use std::path::Path;

/// How examples are laid out for the model.
#[derive(Clone, Debug)]
pub enum Layout {
    /// Plain texts: the start token where the model has one before every text, the text, the end token; all learned.
    Text,
    /// A completion after its prompt, exactly as they stand in the file, then the end token.
    Completion,
    /// A conversation without a template: each turn of system, user and tool and a line end; each answer and the end token.
    Turns,
    /// The paper's data-to-text layout: the input, the start token (GPT-2: 50256, which is also its end token), a space
    /// and the reference, the end token.
    DataToText,
    /// The chat template.
    Chat(Box<ChatTemplate>),
}

/// A piece of what the model sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    /// A text still to be tokenized.
    Text(String, bool),
    /// A token.
    Token(u32, bool),
}

impl Layout {
    /// The layout for examples of this format, as the settings and the model's files say.
    pub fn choose(format: TextFormat, text: &TextConfig, codec: &TextCodec) -> Result<Self> {
        let chat = |source: &str| -> Result<Self> {
            let named = |id: Option<u32>| id.map(|id| codec.token(id)).unwrap_or_default();
            let tokens = TemplateTokens {
                bos: named(codec.specials.bos),
                eos: named(codec.specials.eos),
                specials: codec.special_ids().map(|id| codec.token(id)).collect(),
                stops: codec.specials.stops.iter().map(|&id| codec.token(id)).collect(),
            };
            Ok(Self::Chat(Box::new(ChatTemplate::new(source, tokens, text.parsed_date())?)))
        };
        let without = match format {
            TextFormat::Plain | TextFormat::Auto => Self::Text,
            TextFormat::Completion => Self::Completion,
            TextFormat::E2e | TextFormat::Webnlg | TextFormat::Dart => Self::DataToText,
            TextFormat::Alpaca | TextFormat::Sharegpt | TextFormat::Messages => Self::Turns,
        };
        let chosen = match (text.template.trim(), codec.specials.chat_template.as_deref()) {
            ("auto", Some(source)) if conversation(format) => chat(source)?,
            ("auto" | "none", _) => without,
            ("model", Some(source)) => chat(source)?,
            ("model", None) => {
                return Err(Error::config(
                    "the model's files hold no chat template; set text.template to none, or give a Jinja file",
                ));
            }
            (file, _) => {
                let path = Path::new(file);
                let source =
                    std::fs::read_to_string(path).map_err(|err| Error::io("reading the chat template", path, err))?;
                chat(&source).with_context(|| file.to_owned())?
            }
        };
        match (&chosen, format) {
            (Self::Chat(_), TextFormat::Plain) => Err(Error::config(
                "texts without a prompt have no turns for a chat template; set text.template to auto or none",
            )),
            _ => Ok(chosen),
        }
    }

    /// A few words for people.
    pub fn describe(&self) -> &'static str {
        match self {
            Self::Text => "plain text",
            Self::Completion => "prompt and completion as they stand",
            Self::Turns => "one turn after the other, without a template",
            Self::DataToText => "input, separator, reference",
            Self::Chat(_) => "chat template",
        }
    }

    /// The segments of a whole example.
    pub(super) fn segments(&self, example: &Example, codec: &TextCodec) -> Result<Vec<Segment>> {
        if let Self::Chat(template) = self {
            let rendered = template.example(example)?;
            let (mut found, mut at) = (Vec::new(), 0);
            for range in rendered.learned {
                found.push(Segment::Text(rendered.text[at..range.start].to_owned(), false));
                found.push(Segment::Text(rendered.text[range.clone()].to_owned(), true));
                at = range.end;
            }
            found.push(Segment::Text(rendered.text[at..].to_owned(), false));
            return Ok(found);
        }
        if let Some(turn) = example.turns.iter().find(|turn| turn.fields.contains_key("tool_calls")) {
            return Err(Error::data(format!(
                "a turn of the {} calls tools, which only a chat template can write",
                choice_name(turn.role)
            )));
        }
        self.turns(&example.turns, example.ends, codec)
    }

    /// The segments of a prompt: what the model is given to go on from.
    pub(super) fn prompt(&self, example: &Example, codec: &TextCodec) -> Result<Vec<Segment>> {
        if let Self::Chat(template) = self {
            return Ok(vec![Segment::Text(template.prompt(example)?, false)]);
        }
        self.turns(example.prompt(), true, codec)
    }

    /// The segments of turns without a template; `ends`: whether each answer gets its end token.
    fn turns(&self, turns: &[Turn], ends: bool, codec: &TextCodec) -> Result<Vec<Segment>> {
        let start = codec.specials.bos.filter(|_| codec.add_bos());
        let mut found: Vec<Segment> = start.map(|bos| Segment::Token(bos, false)).into_iter().collect();
        for turn in turns {
            let text = turn.text.as_str();
            match (self, turn.role) {
                (_, Role::Assistant) => {
                    // Where every text gets a space before it, that one is enough.
                    let space = matches!(self, Self::DataToText) && !codec.prefixes_space;
                    found.push(Segment::Text(if space { format!(" {text}") } else { text.to_owned() }, turn.learned));
                    if ends {
                        found.push(Segment::Token(codec.require_eos()?, turn.learned));
                    }
                }
                (Self::Turns, _) => found.push(Segment::Text(format!("{text}\n"), false)),
                (Self::DataToText, _) => {
                    let separator = codec.specials.bos.map_or_else(|| codec.require_eos(), Ok)?;
                    found.push(Segment::Text(text.to_owned(), false));
                    found.push(Segment::Token(separator, false));
                }
                _ => found.push(Segment::Text(text.to_owned(), false)),
            }
        }
        Ok(found)
    }
}
