//! OpenAssistant's trees of messages: one message a row with the one it answers, or a whole tree a row. Every way from a
//! question down to an answer is a conversation; an answer that several of them share is learned once.

use super::example::{Example, Role, Turn};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Depth of a tree that is followed; a deeper one is no conversation.
const DEEPEST: usize = 500;

/// Whether a record is a message of a tree.
pub(super) fn is_message(record: &Map<String, Value>) -> bool {
    ["message_id", "parent_id", "text", "role"].iter().all(|key| record.contains_key(*key))
}

/// Whether a record is a tree.
pub(super) fn is_tree(record: &Map<String, Value>) -> bool {
    let prompt = record.get("prompt").and_then(Value::as_object);
    prompt.is_some_and(|prompt| prompt.contains_key("text") && prompt.contains_key("role"))
}

/// A field of a record as a text.
type FieldOf = dyn Fn(&Map<String, Value>, &str) -> Option<String>;

/// A message with the line it stands in.
#[derive(Debug)]
struct Message {
    line: usize,
    text: String,
    role: Role,
    rank: f64,
    answers: Vec<Self>,
}

/// The message that a record is; nothing where it was deleted or refused by its reviewers, or says nothing.
fn message(record: &Map<String, Value>, line: usize) -> Option<Message> {
    let is = |key: &str, wanted: bool| record.get(key).and_then(Value::as_bool) == Some(wanted);
    let text = record.get("text").and_then(Value::as_str).filter(|text| !text.trim().is_empty())?;
    if is("deleted", true) || is("review_result", false) {
        return None;
    }
    let role = match record.get("role").and_then(Value::as_str)? {
        "prompter" | "user" => Role::User,
        "assistant" => Role::Assistant,
        _ => return None,
    };
    let rank = record.get("rank").and_then(Value::as_f64).unwrap_or(f64::INFINITY);
    let replies = record.get("replies").and_then(Value::as_array).into_iter().flatten();
    let answers = replies.filter_map(|reply| message(reply.as_object()?, line)).collect();
    Some(Message { line, text: text.to_owned(), role, rank, answers })
}

/// The conversations of a tree.
pub(super) fn of_tree(record: &Map<String, Value>, line: usize) -> Vec<Example> {
    let root = record.get("prompt").and_then(Value::as_object).and_then(|prompt| message(prompt, line));
    root.map(|root| conversations(&root)).unwrap_or_default()
}

/// The conversations of messages that stand in any order, each with its line.
pub(super) fn of_messages(records: &[(usize, Map<String, Value>)]) -> Vec<Example> {
    let id = |record: &Map<String, Value>, key: &str| match record.get(key) {
        Some(Value::String(id)) if !id.is_empty() => Some(id.clone()),
        Some(Value::Number(id)) => Some(id.to_string()),
        _ => None,
    };
    let mut answers: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    let mut roots = Vec::new();
    for (index, (_, record)) in records.iter().enumerate() {
        match id(record, "parent_id") {
            Some(parent) => answers.entry(parent).or_default().push(index),
            None => roots.push(index),
        }
    }
    // Children are taken out of the map, so that a circle comes to an end.
    fn grown(
        index: usize,
        records: &[(usize, Map<String, Value>)],
        answers: &mut BTreeMap<String, Vec<usize>>,
        id: &FieldOf,
        depth: usize,
    ) -> Option<Message> {
        let (line, record) = &records[index];
        let mut found = message(record, *line)?;
        let children = id(record, "message_id").and_then(|own| answers.remove(&own)).unwrap_or_default();
        if depth < DEEPEST {
            found.answers =
                children.into_iter().filter_map(|child| grown(child, records, answers, id, depth + 1)).collect();
        }
        Some(found)
    }
    let trees = roots.into_iter().filter_map(|root| grown(root, records, &mut answers, &id, 0)).collect::<Vec<_>>();
    trees.iter().flat_map(conversations).collect()
}

/// Every way down to the last answer on it, the best ranked first.
fn conversations(root: &Message) -> Vec<Example> {
    let mut found = Vec::new();
    follow(root, &mut Vec::new(), &mut found);
    found
}

/// `above`: the messages before this one, and whether they were learned in an earlier conversation.
fn follow<'a>(here: &'a Message, above: &mut Vec<(&'a Message, bool)>, found: &mut Vec<Example>) {
    above.push((here, false));
    let mut answers: Vec<&Message> = here.answers.iter().collect();
    answers.sort_by(|a, b| a.rank.total_cmp(&b.rank));
    // Where the way ends at a question, it was an answer's last one.
    let before = found.len();
    for answer in answers {
        follow(answer, above, found);
    }
    if found.len() == before && here.role == Role::Assistant {
        let turns = above.iter().map(|(message, learned)| {
            let turn = Turn::new(message.role, &message.text);
            Turn { learned: turn.learned && !learned, ..turn }
        });
        found.push(Example::new(turns.collect(), here.line));
        above.iter_mut().for_each(|(_, learned)| *learned = true);
    }
    above.pop();
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn shown(examples: &[Example]) -> Vec<String> {
        let turn = |turn: &Turn| format!("{}{}", turn.text, if turn.learned { "*" } else { "" });
        examples.iter().map(|example| example.turns.iter().map(turn).collect::<Vec<_>>().join(" ")).collect()
    }

    fn row(id: &str, parent: Option<&str>, role: &str, rank: Option<u32>) -> Map<String, Value> {
        let value = json!({"message_id": id, "parent_id": parent, "role": role, "text": id, "rank": rank});
        value.as_object().unwrap().clone()
    }

    #[test]
    fn shared_answers_are_learned_once() {
        let rows = [
            row("q", None, "prompter", None),
            row("worse", Some("q"), "assistant", Some(1)),
            row("better", Some("q"), "assistant", Some(0)),
            row("more", Some("better"), "prompter", None),
            row("open", Some("better"), "prompter", None),
            row("a", Some("more"), "assistant", Some(0)),
            row("b", Some("more"), "assistant", Some(1)),
        ];
        let rows: Vec<_> = rows.into_iter().enumerate().map(|(line, row)| (line + 1, row)).collect();
        assert!(is_message(&rows[0].1) && !is_tree(&rows[0].1));
        let found = of_messages(&rows);
        assert_eq!(shown(&found), ["q better* more a*", "q better more b*", "q worse*"]);
        assert_eq!(found[0].line, 6);
        // What was deleted takes its answers with it.
        let mut rows = rows;
        rows[2].1.insert("deleted".to_owned(), json!(true));
        assert_eq!(shown(&of_messages(&rows)), ["q worse*"]);
    }

    #[test]
    fn a_tree_a_row_is_the_same() {
        let tree = json!({"message_tree_id": "1", "prompt": {"text": "q", "role": "prompter", "replies": [
            {"text": "worse", "role": "assistant", "rank": 1, "replies": []},
            {"text": "better", "role": "assistant", "rank": 0, "replies": [{"text": "open", "role": "prompter", "replies": []}]}
        ]}});
        let tree = tree.as_object().unwrap();
        assert!(is_tree(tree));
        assert_eq!(shown(&of_tree(tree, 3)), ["q better*", "q worse*"]);
    }
}
