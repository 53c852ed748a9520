//! Data to text: meaning representations and triples as one line, the way the paper's reference code writes them.

use super::example::Example;
use serde_json::{Map, Value};

/// Keys of E2E's restaurants and what the reference's files call them.
const E2E_KEYS: [(&str, &str); 3] =
    [("eatType", "Type"), ("priceRange", "price"), ("familyFriendly", "family friendly")];

/// `name[Blue Spice], eatType[pub]` as `name : Blue Spice | Type : pub`; a line without brackets stays as it is.
pub(super) fn meaning(mr: &str) -> Result<String, String> {
    let mr = mr.trim();
    if !mr.contains('[') {
        return Ok(mr.to_owned());
    }
    let mut parts = Vec::new();
    let mut rest = mr;
    while !rest.is_empty() {
        let pair = rest.split_once('[').and_then(|(key, after)| Some((key, after.split_once(']')?)));
        let Some((key, (value, after))) = pair else {
            return Err(format!("the meaning representation breaks off at {rest:?}; write key[value], key[value]"));
        };
        let key = key.trim();
        let key = E2E_KEYS.iter().find(|(theirs, _)| *theirs == key).map_or(key, |(_, ours)| ours);
        parts.push(format!("{key} : {}", value.trim()));
        rest = after.trim_start().strip_prefix(',').unwrap_or(after).trim_start();
    }
    Ok(parts.join(" | "))
}

/// One line `mr||ref`.
pub(super) fn piped(line: &str) -> Result<(&str, &str), String> {
    match line.trim().split_once("||") {
        Some((mr, reference)) if !mr.trim().is_empty() && !reference.trim().is_empty() => {
            Ok((mr.trim(), reference.trim()))
        }
        Some(_) => Err("one side of the two pipes is empty; write mr||ref".to_owned()),
        None => Err("no two pipes; write mr||ref".to_owned()),
    }
}

/// The references of one WebNLG entry: one example for each lexicalisation marked good.
pub(super) fn webnlg(entry: &Map<String, Value>, number: usize, line: usize) -> Result<Vec<Example>, String> {
    let inner = match entry.get("modifiedtripleset") {
        Some(_) => entry,
        // The entry is wrapped in an object with its number.
        None => entry.values().next().and_then(Value::as_object).ok_or("an entry without triples")?,
    };
    let triples = list(inner, "modifiedtripleset")?
        .iter()
        .map(|triple| Ok([text(triple, "subject")?, text(triple, "property")?, text(triple, "object")?]))
        .collect::<Result<Vec<_>, String>>()?;
    let context = linear(&triples)?;
    let mut found = Vec::new();
    for lexicalisation in list(inner, "lexicalisations")? {
        if text(lexicalisation, "comment")? == "good" {
            found.push(referenced(&context, text(lexicalisation, "lex")?, number, line)?);
        }
    }
    Ok(found)
}

/// The references of one DART entry; predicates are lower-cased.
pub(super) fn dart(entry: &Map<String, Value>, number: usize, line: usize) -> Result<Vec<Example>, String> {
    let triple = |triple: &Value| -> Result<[String; 3], String> {
        let parts: Vec<&str> = triple.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        match parts[..] {
            [subject, predicate, object] => Ok([subject.to_owned(), predicate.to_lowercase(), object.to_owned()]),
            _ => Err("a triple that is not a list of three texts".to_owned()),
        }
    };
    let triples = list(entry, "tripleset")?.iter().map(triple).collect::<Result<Vec<_>, String>>()?;
    let context = linear(&triples)?;
    let annotations = list(entry, "annotations")?.iter();
    annotations.map(|annotation| referenced(&context, text(annotation, "text")?, number, line)).collect()
}

/// `s : p : o`, joined by ` | `.
fn linear(triples: &[[impl AsRef<str>; 3]]) -> Result<String, String> {
    if triples.is_empty() {
        return Err("an entry without triples".to_owned());
    }
    let joined = triples.iter().map(|[s, p, o]| format!("{} : {} : {}", s.as_ref(), p.as_ref(), o.as_ref()));
    Ok(joined.collect::<Vec<_>>().join(" | "))
}

fn referenced(context: &str, reference: &str, entry: usize, line: usize) -> Result<Example, String> {
    if reference.trim().is_empty() {
        return Err("an empty reference".to_owned());
    }
    Ok(Example { entry: Some(entry), ..Example::pair(context, reference, line) })
}

fn list<'a>(object: &'a Map<String, Value>, key: &str) -> Result<&'a Vec<Value>, String> {
    object.get(key).and_then(Value::as_array).ok_or_else(|| format!("no list {key:?}"))
}

fn text<'a>(object: &'a Value, key: &str) -> Result<&'a str, String> {
    object.get(key).and_then(Value::as_str).ok_or_else(|| format!("no text {key:?}"))
}
