//! JSON as people's tools write it: with Python's `NaN` and `Infinity`, in lines, arrays, or objects over several lines.

use super::lines::{lines, utf8};
use super::split_json::{self, JsonElement};
use serde_json::{Map, Value};

/// Where the records of a JSON file stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum JsonLayout {
    /// One object a line.
    Lines,
    /// The elements of an array, or objects over several lines.
    Elements(Vec<JsonElement>),
}

/// Lines looked at before the layout is decided.
const LOOKED_AT: usize = 50;

/// How the records of a JSON file are laid out, or nothing where it is none. `is_record` knows a record by its keys: a
/// file that is one object holds either one record, or a list of them under some name.
pub(super) fn layout(body: &[u8], is_record: impl Fn(&Map<String, Value>) -> bool) -> Option<JsonLayout> {
    match body.trim_ascii_start().first() {
        Some(b'[') => array(body, false),
        Some(b'{') => object(body, is_record),
        _ => None,
    }
}

/// An array of objects; `inside`: the first array in the object that the file is.
fn array(body: &[u8], inside: bool) -> Option<JsonLayout> {
    let elements = split_json::elements(body, inside)?;
    let objects = elements.first().is_none_or(|first| body[first.bytes.clone()].trim_ascii().starts_with(b"{"));
    objects.then_some(JsonLayout::Elements(elements))
}

/// One object a line, objects over several lines, or one object around an array.
fn object(body: &[u8], is_record: impl Fn(&Map<String, Value>) -> bool) -> Option<JsonLayout> {
    let parsed = |bytes: &[u8]| utf8(bytes).ok().and_then(|text| object_of(&text).ok());
    // The first line may be broken, and is then one bad row.
    if lines(body).take(LOOKED_AT).any(|(_, line)| !line.trim_ascii_start().starts_with(b"{")) {
        let objects = split_json::objects(body).filter(|objects| match objects.as_slice() {
            [one] => parsed(&body[one.bytes.clone()]).is_some_and(|object| is_record(&object)),
            several => !several.is_empty(),
        });
        return objects.map(JsonLayout::Elements).or_else(|| array(body, true)).or(Some(JsonLayout::Lines));
    }
    let mut lines = lines(body);
    let Some(first) = lines.next().and_then(|(_, line)| parsed(line)) else { return Some(JsonLayout::Lines) };
    let around =
        |value: &Value| value.as_array().is_some_and(|list| list.len() > 1 && list.iter().all(Value::is_object));
    let alone = lines.next().is_none() && first.len() == 1 && first.values().any(around);
    // A single conversation in its file is a list of objects too, but its keys are known.
    if alone && !is_record(&first) { array(body, true) } else { Some(JsonLayout::Lines) }
}

/// A value; `NaN` and the infinities, which Python writes for missing numbers, are null.
pub(super) fn value(text: &str) -> serde_json::Result<Value> {
    serde_json::from_str(text).or_else(|err| match without_nan(text) {
        Some(text) => serde_json::from_str(&text),
        None => Err(err),
    })
}

/// An object, or why the text is none.
pub(super) fn object_of(text: &str) -> Result<Map<String, Value>, NoObject> {
    match value(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(NoObject::Other),
        Err(err) => Err(NoObject::Broken(err)),
    }
}

/// Why a record is no object.
#[derive(Debug)]
pub(super) enum NoObject {
    Other,
    Broken(serde_json::Error),
}

/// The text with `null` for the numbers that JSON does not have; nothing where there is none.
fn without_nan(text: &str) -> Option<String> {
    let (mut out, mut copied, mut at) = (String::new(), 0, 0);
    let bytes = text.as_bytes();
    let mut in_text = false;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if in_text => at += 1,
            b'"' => in_text = !in_text,
            b'N' | b'I' | b'-' if !in_text => {
                let found = ["NaN", "Infinity", "-Infinity"].into_iter().find(|name| text[at..].starts_with(name));
                if let Some(name) = found {
                    out.push_str(&text[copied..at]);
                    out.push_str("null");
                    at += name.len();
                    copied = at;
                    continue;
                }
            }
            _ => {}
        }
        at += 1;
    }
    (copied > 0).then(|| out + &text[copied..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn python_s_missing_numbers_are_null() {
        let text = r#"{"a": NaN, "b": [-Infinity, Infinity, -1], "c": "NaN \" NaN", "é": "I"}"#;
        assert_eq!(value(text).unwrap(), json!({"a": null, "b": [null, null, -1], "c": "NaN \" NaN", "é": "I"}));
        assert!(value("{\"a\": Nan}").is_err());
        assert!(value("{\"a\": \"NaN}").is_err());
    }

    #[test]
    fn one_object_is_a_record_or_holds_them() {
        let layout = |text: &str| layout(text.as_bytes(), |object| object.contains_key("messages"));
        assert_eq!(layout("{\"a\": 1}\n{\"a\": 2}"), Some(JsonLayout::Lines));
        let Some(JsonLayout::Elements(two)) = layout("{\n\"a\": [{}]\n}\n{\n\"a\": 2}") else { panic!("two objects") };
        assert_eq!(two.len(), 2);
        let Some(JsonLayout::Elements(held)) = layout("{\n\"rows\": [{\"a\": 1},\n {\"a\": 2}, {}]}") else {
            panic!("a list in an object")
        };
        assert_eq!(held.len(), 3);
        let Some(JsonLayout::Elements(one)) = layout("{\n\"messages\": [{\"a\": 1}, {\"a\": 2}]}") else {
            panic!("one record")
        };
        assert_eq!((one.len(), one[0].line), (1, 1));
        assert_eq!(layout("7"), None);
    }
}
