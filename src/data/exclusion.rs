//! What a file itself keeps out of the loss: keys of a message or of a whole row that mean "do not learn this", in the
//! spellings that data sets and trainers use; and keys that look as if they meant it and are not understood.

use serde_json::{Map, Value};

/// Keys that say yes or no, or give a weight: false, 0 and their spellings keep out.
const LEARN: [&str; 9] =
    ["train", "training", "trainable", "is_trainable", "learn", "loss", "weight", "loss_weight", "sample_weight"];
/// Keys that say what is kept out: true, 1 and their spellings keep out.
const LEAVE: [&str; 8] =
    ["masked", "mask", "ignore", "ignore_loss", "no_loss", "exclude", "excluded", "exclude_from_loss"];

/// What the keys of a message or row say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Exclusion {
    /// The key and value that keep it out of the loss.
    pub excluded: Option<String>,
    /// What is there and has no effect here.
    pub not_understood: Vec<String>,
}

/// Of a message.
pub(super) fn of_message(message: &Map<String, Value>) -> Exclusion {
    let mut found = Exclusion::default();
    for (key, value) in message.iter().filter(|(_, value)| !value.is_null()) {
        let known = LEARN.contains(&key.as_str()) || LEAVE.contains(&key.as_str());
        match says(key, value) {
            Some(true) => {}
            Some(false) => found.excluded = found.excluded.or_else(|| Some(named(key, value))),
            None if known && value.is_number() => found.not_understood.push(format!(
                "{key:?} of a message is neither 0 nor 1, and a turn is learned or it is not: it is learned in full"
            )),
            None if known || looks_like_one(key) => {
                found.not_understood.push(format!(
                    "{key:?} of a message is not understood here, and nothing was kept out of the loss for it"
                ));
            }
            None => {}
        }
    }
    found
}

/// Of a row. Columns of these names also hold other things (a loss that somebody measured, a weight in kilograms): only
/// what can mean nothing else counts.
pub(super) fn of_row(row: &Map<String, Value>) -> Option<String> {
    let plain = |key: &str, value: &Value| match key {
        "loss" | "mask" | "exclude" | "ignore" => value.is_boolean(),
        _ => !value.is_object() && !value.is_array(),
    };
    let mut keys = row.iter().filter(|(key, value)| plain(key, value));
    keys.find(|(key, value)| says(key, value) == Some(false)).map(|(key, value)| named(key, value))
}

/// The keys that are read here and are not for chat templates.
pub(super) fn is_known(key: &str) -> bool {
    LEARN.contains(&key) || LEAVE.contains(&key)
}

/// Whether what has this key is learned; nothing where the key or its value says neither.
fn says(key: &str, value: &Value) -> Option<bool> {
    let leave = LEAVE.contains(&key);
    if !leave && !LEARN.contains(&key) {
        return None;
    }
    let yes = match value {
        Value::Bool(yes) => *yes,
        Value::Number(number) => match number.as_f64()? {
            0.0 => false,
            1.0 => true,
            _ => return None,
        },
        Value::String(text) => match text.trim().to_lowercase().as_str() {
            "false" | "no" | "0" | "0.0" => false,
            "true" | "yes" | "1" | "1.0" => true,
            _ => return None,
        },
        _ => return None,
    };
    Some(yes != leave)
}

fn named(key: &str, value: &Value) -> String {
    format!("{key:?}: {value}")
}

/// Whether a key's name speaks of the loss.
fn looks_like_one(key: &str) -> bool {
    let key = key.to_lowercase();
    ["loss", "train", "mask", "weight"].iter().any(|word| {
        key.split(|c: char| !c.is_ascii_alphanumeric()).any(|part| part == *word || part == format!("{word}s"))
    }) || key.starts_with("train_")
        || key.starts_with("training_")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn message(value: &Value) -> Exclusion {
        of_message(value.as_object().unwrap())
    }

    #[test]
    fn the_usual_keys_keep_a_message_out() {
        for out in [
            json!({"train": false}),
            json!({"training": 0}),
            json!({"trainable": "False"}),
            json!({"weight": 0}),
            json!({"weight": 0.0}),
            json!({"loss_weight": 0.0}),
            json!({"loss": false}),
            json!({"loss": "no"}),
            json!({"masked": true}),
            json!({"mask": 1}),
            json!({"exclude_from_loss": true}),
        ] {
            assert!(message(&out).excluded.is_some(), "{out}");
        }
        for learned in [json!({"train": true}), json!({"weight": 1}), json!({"loss": null}), json!({"masked": false})] {
            assert_eq!(message(&learned), Exclusion::default(), "{learned}");
        }
        assert_eq!(message(&json!({"loss": false})).excluded.unwrap(), "\"loss\": false");
    }

    #[test]
    fn what_looks_like_such_a_key_is_named() {
        for odd in [json!({"training_detail": []}), json!({"loss_mask": [0, 1]}), json!({"token_weights": [1]})] {
            let found = message(&odd);
            assert_eq!((found.excluded, found.not_understood.len()), (None, 1), "{odd}");
        }
        assert!(message(&json!({"weight": 0.5})).not_understood[0].contains("learned in full"));
        assert_eq!(message(&json!({"name": "x", "constraint": 1, "lossless": 1})), Exclusion::default());
    }

    #[test]
    fn rows_are_kept_out_by_what_can_mean_nothing_else() {
        let row = |value: Value| of_row(value.as_object().unwrap());
        assert_eq!(row(json!({"prompt": "a", "weight": 0})).unwrap(), "\"weight\": 0");
        assert!(row(json!({"train": "false"})).is_some());
        assert_eq!(row(json!({"loss": 0.0, "weight": 71.5, "train": "split-1", "mask": [0]})), None);
    }
}
