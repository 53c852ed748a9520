//! Rewrites template sources to the syntax of the library that renders them.

/// Turns `{% generation %}` blocks into filter blocks that mark what is inside, and joins text literals that are
/// continued on the next line by a backslash, as Python does. Line ends of Windows become plain ones, as in Jinja. Says
/// whether there were generation blocks.
pub(super) fn prepared(source: &str) -> (String, bool) {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let source = source.as_str();
    let (mut out, mut rest, mut marks) = (String::with_capacity(source.len()), source, false);
    while let Some(at) = next_tag(rest) {
        let (before, tag) = rest.split_at(at);
        out.push_str(before);
        let end = if tag.starts_with("{#") { tag.find("#}").map(|at| at + 2) } else { tag_end(tag) };
        // A tag without an end is for the compiler to complain about.
        let Some(end) = end else {
            rest = tag;
            break;
        };
        let (tag, after) = tag.split_at(end);
        rest = after;
        if tag.starts_with("{#") {
            out.push_str(tag);
            continue;
        }
        let word = tag[2..tag.len() - 2].trim_matches(['-', '+']).trim();
        match (tag.starts_with("{%"), word) {
            (true, "generation") => out.push_str(&tag.replacen("generation", "filter mark_answer", 1)),
            (true, "endgeneration") => out.push_str(&tag.replacen("endgeneration", "endfilter", 1)),
            _ => out.push_str(&joined(tag)),
        }
        marks |= word == "generation";
    }
    out.push_str(rest);
    (out, marks)
}

fn next_tag(text: &str) -> Option<usize> {
    ["{%", "{{", "{#"].into_iter().filter_map(|tag| text.find(tag)).min()
}

/// Where the tag that `text` begins with ends; what looks like an end inside a text literal is none.
fn tag_end(text: &str) -> Option<usize> {
    let close = if text.starts_with("{%") { "%}" } else { "}}" };
    let (mut quote, mut skip) = (None, false);
    // Braces of maps: `{{ {'a': {}} }}`.
    let mut depth = 0usize;
    for (at, c) in text.char_indices().skip(2) {
        match (quote, c) {
            _ if skip => skip = false,
            (Some(_), '\\') => skip = true,
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, _) if depth == 0 && text[at..].starts_with(close) => return Some(at + 2),
            (None, '{') => depth += 1,
            (None, '}') => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    None
}

/// Without a backslash and the line end after it.
fn joined(tag: &str) -> String {
    let (mut out, mut rest) = (String::with_capacity(tag.len()), tag.chars().peekable());
    while let Some(c) = rest.next() {
        match (c, rest.peek()) {
            ('\\', Some('\n')) => drop(rest.next()),
            ('\\', Some(&next)) => {
                out.extend([c, next]);
                rest.next();
            }
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generation_blocks_become_filters() {
        let source = "a {%- generation -%} b {% endgeneration %}{# {% generation %} #}{{ '{% generation %}' }}";
        let wanted = "a {%- filter mark_answer -%} b {% endfilter %}{# {% generation %} #}{{ '{% generation %}' }}";
        assert_eq!(prepared(source), (wanted.to_owned(), true));
        assert!(!prepared("{% if generation %}{% endif %}").1);
    }

    #[test]
    fn line_ends_are_plain() {
        assert_eq!(prepared("a\r\n{{ b }}\rc\n").0, "a\n{{ b }}\nc\n");
    }

    #[test]
    fn only_text_literals_are_joined() {
        assert_eq!(prepared("x\\\ny{{ 'a\\\nb\\\\\nc\\n' }}").0, "x\\\ny{{ 'ab\\\\\nc\\n' }}");
        assert_eq!(prepared("{{ \"}}\\\n\" }}\\\n").0, "{{ \"}}\" }}\\\n");
        assert_eq!(prepared("{{ {'a': {'b\\\n': 1}} }}\\\n").0, "{{ {'a': {'b': 1}} }}\\\n");
        assert_eq!(prepared("{% if 'it\\'s %}' %}x{% endif %}{{ open").0, "{% if 'it\\'s %}' %}x{% endif %}{{ open");
    }
}
