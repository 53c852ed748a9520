//! What LLaMA-Factory's `dataset_info.json` beside a file says of its columns: records get the usual names.

use crate::error::{Error, Result};
use serde_json::{Map, Value};
use std::path::Path;

/// The usual names of what an entry describes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct DatasetInfo {
    /// Columns: the file's name, and the usual one.
    columns: Vec<(String, &'static str)>,
    /// Keys of a message, the same way; empty where there are no messages.
    keys: Vec<(String, &'static str)>,
    /// Who speaks, the same way.
    roles: Vec<(String, &'static str)>,
}

/// The name in a description, and the usual one; without the first where it has no name of its own.
type Names = [(&'static str, Option<&'static str>, &'static str)];

const ALPACA: &Names = &[
    ("prompt", Some("instruction"), "instruction"),
    ("query", Some("input"), "input"),
    ("response", Some("output"), "output"),
    ("history", None, "history"),
    ("system", None, "system"),
    ("tools", None, "tools"),
];
const SHAREGPT: &Names =
    &[("messages", Some("conversations"), "conversations"), ("system", None, "system"), ("tools", None, "tools")];
const EITHER: &Names = &[
    ("chosen", None, "chosen"),
    ("rejected", None, "rejected"),
    ("kto_tag", None, "kto_tag"),
    ("images", None, "images"),
    ("videos", None, "videos"),
    ("audios", None, "audios"),
];
const KEYS: &Names = &[("role_tag", Some("from"), "from"), ("content_tag", Some("value"), "value")];
const ROLES: &Names = &[
    ("user_tag", Some("human"), "human"),
    ("assistant_tag", Some("gpt"), "gpt"),
    ("observation_tag", Some("observation"), "observation"),
    ("function_tag", Some("function_call"), "function_call"),
    ("system_tag", Some("system"), "system"),
];

impl DatasetInfo {
    /// What is said of `file`; nothing where nothing is.
    pub(super) fn beside(file: &Path) -> Result<Option<Self>> {
        let path = file.parent().unwrap_or(Path::new("")).join("dataset_info.json");
        if !path.is_file() {
            return Ok(None);
        }
        let text = std::fs::read_to_string(&path).map_err(|err| Error::io("reading the description", &path, err))?;
        let Ok(Value::Object(entries)) = serde_json::from_str(&text) else {
            // Hugging Face's own file of this name describes other things.
            return Ok(None);
        };
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let of_file = |entry: &&Value| entry.get("file_name").and_then(Value::as_str) == Some(&*name);
        Ok(entries.values().find(of_file).map(Self::of_entry))
    }

    fn of_entry(entry: &Value) -> Self {
        let sharegpt = entry.get("formatting").and_then(Value::as_str) == Some("sharegpt");
        let read = |part: &str, names: &Names| -> Vec<(String, &'static str)> {
            let given = |key: &str| entry.get(part).and_then(|part| part.get(key)).and_then(Value::as_str);
            let one = |&(key, default, usual): &(&str, Option<&str>, &'static str)| {
                Some((given(key).or(default)?.to_owned(), usual))
            };
            names.iter().filter_map(one).collect()
        };
        let mut columns = read("columns", if sharegpt { SHAREGPT } else { ALPACA });
        columns.extend(read("columns", EITHER));
        let (keys, roles) = if sharegpt { (read("tags", KEYS), read("tags", ROLES)) } else { Default::default() };
        Self { columns, keys, roles }
    }

    /// A record under the usual names, other columns left out.
    pub(super) fn usual(&self, mut record: Map<String, Value>) -> Map<String, Value> {
        let mut found = Map::new();
        for (own, usual) in &self.columns {
            if let Some(value) = record.remove(own) {
                found.insert((*usual).to_owned(), self.messages(value));
            }
        }
        found
    }

    /// Messages, one or a list of them, under the usual names; anything else as it is.
    fn messages(&self, value: Value) -> Value {
        match value {
            Value::Array(list) => list.into_iter().map(|item| self.messages(item)).collect(),
            Value::Object(mut message) if !self.keys.is_empty() => {
                for (own, usual) in &self.keys {
                    if let Some(value) = message.remove(own) {
                        let value = if *usual == "from" { self.role(value) } else { value };
                        message.insert((*usual).to_owned(), value);
                    }
                }
                Value::Object(message)
            }
            other => other,
        }
    }

    fn role(&self, value: Value) -> Value {
        let known = self.roles.iter().find(|(own, _)| value.as_str() == Some(own));
        known.map_or(value, |(_, usual)| (*usual).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn records_get_the_usual_names() {
        let usual = |entry: Value, record: Value| {
            let Value::Object(record) = record else { panic!("a record is an object") };
            Value::Object(DatasetInfo::of_entry(&entry).usual(record))
        };
        let alpaca = json!({"file_name": "x", "columns": {"prompt": "q", "response": "a", "system": "sys"}});
        assert_eq!(
            usual(alpaca, json!({"q": "1", "a": "2", "sys": "3", "input": "4", "other": 5})),
            json!({"instruction": "1", "input": "4", "output": "2", "system": "3"})
        );
        let chat = json!({"file_name": "x", "formatting": "sharegpt", "columns": {"messages": "talk"},
            "tags": {"role_tag": "who", "content_tag": "says", "user_tag": "me", "assistant_tag": "you"}});
        assert_eq!(
            usual(chat, json!({"talk": [{"who": "me", "says": "q"}, {"who": "you", "says": "a", "weight": 0}]})),
            json!({"conversations": [{"from": "human", "value": "q"}, {"weight": 0, "from": "gpt", "value": "a"}]})
        );
    }
}
