//! The elements of a JSON array, or objects written one after the other, each with its place and line, so that one broken
//! element is one broken row.

use std::ops::Range;

/// Where an element stands in its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct JsonElement {
    /// Its bytes.
    pub bytes: Range<usize>,
    /// The line it begins in, from 1.
    pub line: usize,
}

/// The elements of the array that `text` is, or (`inside`) of the first array directly in the object that it is. They need
/// not be valid JSON. Nothing when there is no such array or when it does not end.
pub(super) fn elements(text: &[u8], inside: bool) -> Option<Vec<JsonElement>> {
    let wanted = if inside { 2 } else { 1 };
    let (mut found, mut start): (Vec<JsonElement>, Option<JsonElement>) = (Vec::new(), None);
    let (mut depth, mut line, mut in_array) = (0usize, 1, false);
    let mut at = 0;
    while at < text.len() {
        let byte = text[at];
        let in_element = in_array && !byte.is_ascii_whitespace() && !(depth == wanted && matches!(byte, b',' | b']'));
        if in_element && start.is_none() {
            start = Some(JsonElement { bytes: at..at, line });
        }
        match byte {
            b'\n' => line += 1,
            b'"' => {
                let end = string_end(text, at)?;
                line += text[at..end].iter().filter(|&&byte| byte == b'\n').count();
                at = end;
                continue;
            }
            b'[' | b'{' => {
                depth += 1;
                in_array |= depth == wanted && byte == b'[';
            }
            b']' | b'}' => {
                if in_array && depth == wanted {
                    found.extend(finished(start, at));
                    return (byte == b']').then_some(found);
                }
                depth = depth.checked_sub(1)?;
            }
            b',' if in_array && depth == wanted => found.extend(finished(start.take(), at)),
            _ => {}
        }
        at += 1;
    }
    None
}

/// The objects that `text` is made of, one after the other over as many lines as they like, with nothing but white space
/// and commas between. They need not be valid JSON inside. Nothing when there is anything else, or when one does not end.
pub(super) fn objects(text: &[u8]) -> Option<Vec<JsonElement>> {
    let mut found: Vec<JsonElement> = Vec::new();
    let (mut depth, mut line, mut start) = (0usize, 1, None);
    let mut at = 0;
    while at < text.len() {
        match text[at] {
            b'\n' => line += 1,
            b'{' | b'[' if depth > 0 => depth += 1,
            b'{' => {
                depth = 1;
                start = Some(JsonElement { bytes: at..at, line });
            }
            b'}' | b']' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    found.extend(finished(start.take(), at + 1));
                }
            }
            b'"' if depth > 0 => {
                let end = string_end(text, at)?;
                line += text[at..end].iter().filter(|&&byte| byte == b'\n').count();
                at = end;
                continue;
            }
            byte if depth == 0 && !byte.is_ascii_whitespace() && byte != b',' => return None,
            _ => {}
        }
        at += 1;
    }
    (depth == 0).then_some(found)
}

fn finished(start: Option<JsonElement>, end: usize) -> Option<JsonElement> {
    start.map(|element| JsonElement { bytes: element.bytes.start..end, ..element })
}

/// The place after the closing quote of the string that begins at `at`.
fn string_end(text: &[u8], at: usize) -> Option<usize> {
    let mut end = at + 1;
    while end < text.len() {
        match text[end] {
            b'\\' => end += 2,
            b'"' => return Some(end + 1),
            _ => end += 1,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str, inside: bool) -> Option<Vec<(&str, usize)>> {
        let elements = elements(text.as_bytes(), inside)?;
        Some(elements.into_iter().map(|element| (text[element.bytes].trim_end(), element.line)).collect())
    }

    #[test]
    fn elements_of_an_array_with_their_lines() {
        assert_eq!(found("[]", false), Some(vec![]));
        assert_eq!(
            found(" [ {\"a\": [1, 2]} ,\n\n{\"b\": \"],\\\"[\"}\n]", false),
            Some(vec![("{\"a\": [1, 2]}", 1), ("{\"b\": \"],\\\"[\"}", 3)])
        );
        assert_eq!(found("[1, broken stuff, {}]", false), Some(vec![("1", 1), ("broken stuff", 1), ("{}", 1)]));
    }

    #[test]
    fn the_first_array_in_an_object() {
        let text = "{\n \"version\": {\"x\": [0]},\n \"entries\": [\n  {\"1\": {}},\n  {\"2\": {}}\n ]\n}";
        assert_eq!(found(text, true), Some(vec![("{\"1\": {}}", 4), ("{\"2\": {}}", 5)]));
        assert_eq!(found("{\"a\": 1}", true), None);
    }

    #[test]
    fn objects_one_after_the_other() {
        let split = |text: &str| {
            let found = objects(text.as_bytes())?;
            Some(found.into_iter().map(|one| (text[one.bytes].to_owned(), one.line)).collect::<Vec<_>>())
        };
        let text = "{\n \"a\": [{\"b\": \"}\"}]\n}\n\n{\"c\":\n1},\n{}";
        let wanted = [("{\n \"a\": [{\"b\": \"}\"}]\n}", 1), ("{\"c\":\n1}", 5), ("{}", 7)];
        assert_eq!(split(text), Some(wanted.map(|(text, line)| (text.to_owned(), line)).to_vec()));
        for other in ["{} 7", "{\"a\": 1", "[{}]", "{}}", "{\"a\": \"}"] {
            assert_eq!(split(other), None, "{other}");
        }
    }

    #[test]
    fn what_does_not_end_is_nothing() {
        for text in ["[1, 2", "[{\"a\": \"]", "[1}", "]"] {
            assert_eq!(found(text, false), None, "{text}");
        }
    }
}
