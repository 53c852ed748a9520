//! Bytes of a text file: its lines, its characters, what separates its cells.

use std::borrow::Cow;

pub(super) const BOM: &[u8] = b"\xef\xbb\xbf";

/// Lines looked at for what separates cells.
const LOOKED_AT: usize = 20;

/// Lines with their numbers from 1, without line ends; empty ones are left out.
pub(super) fn lines(bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    bytes
        .split(|&byte| byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .enumerate()
        .map(|(index, line)| (index + 1, line))
        .filter(|(_, line)| !line.trim_ascii().is_empty())
}

/// The text of these bytes, or the first one that is none.
pub(super) fn utf8(bytes: &[u8]) -> Result<Cow<'_, str>, String> {
    std::str::from_utf8(bytes).map(Cow::Borrowed).map_err(|err| {
        let byte = bytes.get(err.valid_up_to()).copied().unwrap_or_default();
        format!("not UTF-8 text (byte 0x{byte:02x}; probably Latin-1 or Windows-1252): save the file as UTF-8")
    })
}

/// What separates the cells of a quoted file: of the usual separators (comma, semicolon, tab, bar, caret, tilde, ASCII's own
/// unit separator) the one that the first line has most often, outside quotes, among those that the next lines have too.
pub(super) fn sniff_delimiter(bytes: &[u8]) -> u8 {
    const USUAL: [u8; 7] = [b',', b';', b'\t', b'|', b'^', b'~', 0x1f];
    let counted: Vec<[usize; 7]> = lines(bytes).take(LOOKED_AT).map(|(_, line)| counts(line, &USUAL)).collect();
    let Some(first) = counted.first() else { return b',' };
    // A separator that no other line has stands in a name by chance; quoted cells may go over lines, so not each line counts.
    let elsewhere = |at: usize| counted.len() == 1 || counted[1..].iter().any(|line| line[at] > 0);
    let best = (0..USUAL.len()).rev().filter(|&at| first[at] > 0 && elsewhere(at)).max_by_key(|&at| first[at]);
    best.map_or(b',', |at| USUAL[at])
}

fn counts<const N: usize>(line: &[u8], wanted: &[u8; N]) -> [usize; N] {
    let (mut quoted, mut found) = (false, [0; N]);
    for byte in line {
        quoted ^= *byte == b'"';
        if let Some(at) = wanted.iter().position(|wanted| !quoted && wanted == byte) {
            found[at] += 1;
        }
    }
    found
}

/// A few names for a message, shortened.
pub(super) fn list(names: &[String], most: usize) -> String {
    let mut text = names.iter().take(most).map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
    if names.len() > most {
        text.push_str(&format!(" and {} more", names.len() - most));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separators() {
        for (text, separator) in [
            ("a,b\n1,2\n", b','),
            ("a;b;c,d\n1;2;3\n", b';'),
            ("\"a,b,c\"|d\n", b'|'),
            ("a\tb\n", b'\t'),
            ("a^b\n1^2\n", b'^'),
            ("a~b\n1~2\n", b'~'),
            ("name, first;age\nx;1\ny;2\n", b';'),
            ("alone\nx\n", b','),
        ] {
            assert_eq!(sniff_delimiter(text.as_bytes()), separator, "{text:?}");
        }
    }
}
