//! An example: turns with a role.

use crate::data::hold_out::groups;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Who says a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The instructions that hold for the whole conversation.
    System,
    /// The user: the prompt of a completion, the meaning representation of a sentence.
    User,
    /// The assistant, whose answers are learned: a completion, a reference, a plain text.
    Assistant,
    /// What a tool answered.
    Tool,
}

/// One turn of an example.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Turn {
    /// Who says it.
    pub role: Role,
    /// What is said.
    pub text: String,
    /// Whether it is learned. A file can say no for single turns (`"train": false`, or a weight of 0).
    pub learned: bool,
    /// What else a message holds, such as `name` and `tool_calls`: handed on to the chat template.
    #[serde(skip_serializing_if = "Map::is_empty", default)]
    pub fields: Map<String, Value>,
}

impl Turn {
    /// A turn without further fields; answers are learned, everything else is not.
    pub fn new(role: Role, text: impl Into<String>) -> Self {
        Self { role, text: text.into(), learned: role == Role::Assistant, fields: Map::new() }
    }
}

/// One example: what the model reads, and what it learns to write.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Example {
    /// The turns in order; the last one is an answer.
    pub turns: Vec<Turn>,
    /// The number of its file among those that were read.
    #[serde(default)]
    pub file: usize,
    /// Its line in the file, from 1.
    pub line: usize,
    /// Number of the entry it is a reference of, in files that group references (WebNLG, DART).
    pub entry: Option<usize>,
    /// Whether the text ends here. A piece out of the middle of a longer text does not, and gets no end token.
    pub ends: bool,
    /// Tools the conversation may call, as the file lists them: handed on to the chat template.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tools: Option<Value>,
}

impl Example {
    /// An example that ends.
    pub fn new(turns: Vec<Turn>, line: usize) -> Self {
        Self { turns, file: 0, line, entry: None, ends: true, tools: None }
    }

    /// A prompt and its answer.
    pub fn pair(prompt: impl Into<String>, answer: impl Into<String>, line: usize) -> Self {
        Self::new(vec![Turn::new(Role::User, prompt), Turn::new(Role::Assistant, answer)], line)
    }

    /// Everything before the last answer.
    pub fn prompt(&self) -> &[Turn] {
        self.turns.split_last().map_or(&[], |(_, before)| before)
    }

    /// The last answer.
    pub fn answer(&self) -> &str {
        self.turns.last().map_or("", |turn| turn.text.as_str())
    }

    /// What two examples share when they are duplicates.
    pub(crate) fn key(&self) -> TurnsKey<'_> {
        key(&self.turns)
    }

    /// What two examples share when they ask for the same; empty for a plain text.
    pub(super) fn prompt_key(&self) -> TurnsKey<'_> {
        key(self.prompt())
    }
}

/// Roles and texts of turns, without spaces around.
pub(crate) type TurnsKey<'a> = Vec<(Role, &'a str)>;

fn key(turns: &[Turn]) -> TurnsKey<'_> {
    turns.iter().map(|turn| (turn.role, turn.text.trim())).collect()
}

/// An input and all its references: one question to a model that writes, and the answers that count as right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputGroup {
    /// The examples with this input, in order; the first one's prompt is what the model is asked.
    pub examples: Vec<usize>,
    /// Their answers, in the same order.
    pub references: Vec<String>,
}

/// The inputs of these examples in order of appearance, each with its references: one for each entry (WebNLG, DART),
/// otherwise one for each different prompt. Plain texts have none.
pub fn inputs(examples: &[Example]) -> Vec<InputGroup> {
    let asked: Vec<usize> = (0..examples.len()).filter(|&index| !examples[index].prompt().is_empty()).collect();
    let key = |&index: &usize| match examples[index].entry {
        Some(entry) => (Some(entry), Vec::new()),
        None => (None, examples[index].prompt_key()),
    };
    let group = |members: Vec<usize>| {
        let examples: Vec<&Example> = members.iter().map(|&member| &examples[asked[member]]).collect();
        InputGroup {
            references: examples.iter().map(|example| example.answer().to_owned()).collect(),
            examples: members.into_iter().map(|member| asked[member]).collect(),
        }
    };
    groups(asked.iter().map(key)).into_iter().map(group).collect()
}
