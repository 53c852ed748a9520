//! How the characters of a text file are stored. UTF-8 is believed where it fits; marks tell UTF-16; for what is neither the
//! encoding is guessed from the bytes, and the guess is told.

use crate::data::lines::BOM;
use crate::error::{Error, Result};
use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::Encoding;
use std::borrow::Cow;

/// What the description of a guessed encoding says.
pub(in crate::data) const GUESSED: &str = "guessed from the bytes";
/// Bytes that the guess is made from; more would make the window wait.
const LOOKED_AT: usize = 1 << 22;
/// UTF-16 without a mark is believed of no shorter file.
const SHORTEST: usize = 32;

/// The bytes as UTF-8, and how they were stored, in words. Files that are plainly no text are refused as a whole, with what
/// they seem to be. Where no encoding fits, the bytes stay as they are, and every row that is no text is a bad one.
pub(in crate::data) fn decoded<'a>(name: &str, bytes: Cow<'a, [u8]>) -> Result<(Cow<'a, [u8]>, String)> {
    let start = &bytes[..bytes.len().min(4096)];
    let le = "UTF-16 (little endian)";
    let what = match start {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => "UTF-32 text; save it as UTF-8",
        [0xff, 0xfe, ..] => return from_utf16(name, &bytes[2..], u16::from_le_bytes, le),
        [0xfe, 0xff, ..] => return from_utf16(name, &bytes[2..], u16::from_be_bytes, "UTF-16 (big endian)"),
        [b'P', b'K', 3, 4, ..] => "a zip archive or an Excel workbook; unpack it, or save the sheet as CSV",
        [b'7', b'z', 0xbc, 0xaf, ..] => "a 7-Zip archive; unpack it first",
        [b'B', b'Z', b'h', ..] if start.contains(&0) => "a bzip2 archive; unpack it first",
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => "an xz archive; unpack it first",
        [b'%', b'P', b'D', b'F', ..] => "a PDF; save its text",
        [b'S', b'Q', b'L', b'i', b't', b'e', ..] if start.contains(&0) => "an SQLite database; export the table as CSV",
        [b'O', b'b', b'j', 1, ..] => "an Avro file; convert it to Parquet or JSON lines",
        _ if start.contains(&0) => match unmarked_utf16(start) {
            Some(true) => {
                return from_utf16(name, &bytes, u16::from_le_bytes, "UTF-16 (little endian, without a mark)");
            }
            Some(false) => return from_utf16(name, &bytes, u16::from_be_bytes, "UTF-16 (big endian, without a mark)"),
            None => {
                "not UTF-8 text (it holds zero bytes: UTF-16 without a byte order mark, or a binary file); save it as UTF-8"
            }
        },
        _ if start.starts_with(BOM) => return Ok((bytes, "UTF-8 with a byte order mark".to_owned())),
        _ => {
            return Ok(match guessed(&bytes) {
                Some((text, encoding)) => (Cow::Owned(text.into_bytes()), format!("{} ({GUESSED})", encoding.name())),
                None => (bytes, "UTF-8".to_owned()),
            });
        }
    };
    Err(Error::data(format!("the file is {what}: {name}")))
}

/// Whether the bytes are little-endian UTF-16 without a mark (`Some(false)`: big-endian): mostly Latin letters, so that
/// every other byte is zero.
fn unmarked_utf16(start: &[u8]) -> Option<bool> {
    if start.len() < SHORTEST {
        return None;
    }
    let zeros = |odd: usize| start.iter().skip(odd).step_by(2).filter(|&&byte| byte == 0).count();
    let (even, odd, half) = (zeros(0), zeros(1), start.len() / 2);
    match (odd * 10 > half * 6 && even == 0, even * 10 > half * 6 && odd == 0) {
        (true, _) => Some(true),
        (_, true) => Some(false),
        _ => None,
    }
}

fn from_utf16<'a>(
    name: &str,
    bytes: &[u8],
    unit: fn([u8; 2]) -> u16,
    encoding: &str,
) -> Result<(Cow<'a, [u8]>, String)> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let text = char::decode_utf16(pairs.iter().map(|&pair| unit(pair))).collect::<std::result::Result<String, _>>();
    match text {
        Ok(text) if rest.is_empty() => Ok((Cow::Owned(text.into_bytes()), encoding.to_owned())),
        _ => Err(Error::data(format!(
            "the file begins as UTF-16 text and is broken (half a character); save it anew, as UTF-8: {name}"
        ))),
    }
}

/// The text of bytes that are not UTF-8; nothing where they are (perhaps with a few broken rows) or where no guess is good
/// enough.
fn guessed(bytes: &[u8]) -> Option<(String, &'static Encoding)> {
    let escapes = bytes.windows(2).any(|two| two == b"\x1b$");
    if !escapes && std::str::from_utf8(bytes).is_ok() {
        return None;
    }
    let (mut broken, mut whole) = (0usize, 0usize);
    for chunk in bytes.utf8_chunks() {
        whole += chunk.valid().chars().filter(|c| !c.is_ascii()).count();
        broken += usize::from(!chunk.invalid().is_empty());
    }
    // Characters of UTF-8 do not come about by chance: such a file has broken rows.
    if whole > broken {
        return None;
    }
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Allow);
    detector.feed(&bytes[..bytes.len().min(LOOKED_AT)], true);
    let encoding = detector.guess(None, Utf8Detection::Deny);
    let (text, had_errors) = encoding.decode_without_bom_handling(bytes);
    (!had_errors && plausible(&text)).then(|| (text.into_owned(), encoding))
}

/// Whether this can be what somebody wrote: Latin letters beside plain ones, or several letters of another script; no
/// control characters.
fn plausible(text: &str) -> bool {
    let (mut beside, mut others, mut odd, mut signs) = (0usize, 0usize, 0usize, 0usize);
    let mut before = ' ';
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let next = chars.peek().copied().unwrap_or(' ');
        match c {
            _ if c.is_ascii() => {}
            _ if c.is_control() || c == '\u{fffd}' => odd += 1,
            _ if c.is_alphabetic() && (c as u32) >= 0x250 => others += 1,
            _ if c.is_alphabetic() => {
                let plain = |c: char| c.is_ascii_alphabetic();
                beside += usize::from(plain(before) || plain(next));
            }
            _ => signs += 1,
        }
        before = c;
    }
    odd == 0 && (beside > 0 || others >= 4 || (signs > 0 && others == 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> (String, String) {
        let (text, encoding) = decoded("f", Cow::Borrowed(bytes)).unwrap();
        (String::from_utf8_lossy(&text).into_owned(), encoding)
    }

    #[test]
    fn encodings_of_real_sentences() {
        // The bytes are Python's "...".encode(name).
        let latin = b"sentence,label\nUn caf\xe9 tr\xe8s agr\xe9able,pos\nD\xe9j\xe0 vu,neg\n";
        let (text, encoding) = read(latin);
        assert_eq!(text, "sentence,label\nUn café très agréable,pos\nDéjà vu,neg\n");
        assert_eq!(encoding, "windows-1252 (guessed from the bytes)");
        let (quotes, _) = read(b"He said \x93well\x94 \x96 and left\x85 It\x92s 5\x80.");
        assert_eq!(quotes, "He said “well” – and left… It’s 5€.");
        let sjis = b"sentence,label\n\x82\xb1\x82\xcc\x89f\x89\xe6\x82\xcd\x82\xc6\x82\xc4\x82\xe0\x96\xca\x94\x92\x82\xa2,pos\n\x82\xc2\x82\xdc\x82\xe7\x82\xc8\x82\xa2,neg\n";
        let (text, encoding) = read(sjis);
        assert_eq!(text, "sentence,label\nこの映画はとても面白い,pos\nつまらない,neg\n");
        assert_eq!(encoding, "Shift_JIS (guessed from the bytes)");
        let cyrillic = b"\xfd\xf2\xee \xee\xf7\xe5\xed\xfc \xf5\xee\xf0\xee\xf8\xe8\xe9 \xf4\xe8\xeb\xfc\xec\n";
        assert_eq!(
            read(cyrillic),
            ("это очень хороший фильм\n".to_owned(), "windows-1251 (guessed from the bytes)".to_owned())
        );
    }

    #[test]
    fn utf8_stays_what_it_is() {
        assert_eq!(read("Déjà vu, この映画".as_bytes()).1, "UTF-8");
        // One broken row among good ones is a broken row.
        let mixed = [b"D\xc3\xa9j\xc3\xa0 vu\n".as_slice(), b"caf\xe9\n"].concat();
        let (text, encoding) = decoded("f", Cow::Borrowed(&mixed[..])).unwrap();
        assert_eq!((&text[..], encoding.as_str()), (&mixed[..], "UTF-8"));
        // Nobody writes this.
        let (text, encoding) = decoded("f", Cow::Borrowed(&b"a\t1\n\xff\xff\t1\n"[..])).unwrap();
        assert_eq!((&text[..], encoding.as_str()), (&b"a\t1\n\xff\xff\t1\n"[..], "UTF-8"));
    }

    #[test]
    fn utf16_with_and_without_a_mark() {
        let text = "sentence\tlabel\nein schöner Film\t1\n";
        let le: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let be: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
        for (mark, bytes, encoding) in [
            (&[0xff, 0xfe][..], &le, "UTF-16 (little endian)"),
            (&[0xfe, 0xff], &be, "UTF-16 (big endian)"),
            (&[], &le, "UTF-16 (little endian, without a mark)"),
            (&[], &be, "UTF-16 (big endian, without a mark)"),
        ] {
            assert_eq!(read(&[mark, bytes].concat()), (text.to_owned(), encoding.to_owned()));
        }
        let refused = |bytes: &[u8]| decoded("f", Cow::Borrowed(bytes)).unwrap_err().to_string();
        assert!(refused(b"s\0e\0n\0").contains("zero bytes"));
        assert!(refused(&[&[0xff, 0xfe], &le[..le.len() - 1]].concat()).contains("half a character"));
        assert!(refused(b"%PDF-1.7").contains("PDF"));
    }
}
