//! A reader of TensorBoard event files.

use adamix::artifact::recorder::masked;
use std::path::Path;

/// A record of an event file, as far as the recorder writes it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Event {
    pub wall_time: f64,
    pub step: i64,
    pub file_version: Option<String>,
    pub scalars: Vec<(String, f32)>,
    pub session: Option<u64>,
}

impl Event {
    fn decode(payload: &[u8]) -> Option<Self> {
        let mut event = Self::default();
        let mut rest = payload;
        while let Some((number, field)) = next_field(&mut rest)? {
            match (number, field) {
                (1, Field::Fixed64(bits)) => event.wall_time = f64::from_bits(bits),
                (2, Field::Varint(step)) => event.step = step as i64,
                (3, Field::Block(text)) => event.file_version = Some(String::from_utf8(text.to_vec()).ok()?),
                (5, Field::Block(mut summary)) => {
                    while let Some((number, field)) = next_field(&mut summary)? {
                        if let (1, Field::Block(value)) = (number, field) {
                            event.scalars.extend(decode_scalar(value)?);
                        }
                    }
                }
                (7, Field::Block(mut log)) => {
                    while let Some((number, field)) = next_field(&mut log)? {
                        if let (1, Field::Varint(status)) = (number, field) {
                            event.session = Some(status);
                        }
                    }
                }
                _ => {}
            }
        }
        Some(event)
    }
}

/// A value of a summary: its tag and number; none where it is something else than a number.
fn decode_scalar(mut value: &[u8]) -> Option<Option<(String, f32)>> {
    let (mut tag, mut scalar) = (String::new(), None);
    while let Some((number, field)) = next_field(&mut value)? {
        match (number, field) {
            (1, Field::Block(text)) => tag = String::from_utf8(text.to_vec()).ok()?,
            (2, Field::Fixed32(bits)) => scalar = Some(f32::from_bits(bits)),
            _ => {}
        }
    }
    Some(scalar.map(|scalar| (tag, scalar)))
}

/// All whole records of an event file; an incomplete last one is left out, a damaged one is an error.
pub fn read(path: &Path) -> Result<Vec<Event>, String> {
    let bytes = std::fs::read(path).unwrap();
    let mut rest = bytes.as_slice();
    let mut events = Vec::new();
    while let Some((head, after)) = rest.split_first_chunk::<8>() {
        let at = bytes.len() - rest.len();
        let bad = || format!("damaged record at byte {at}");
        let Some((check, after)) = after.split_first_chunk::<4>() else { break };
        if u32::from_le_bytes(*check) != masked(head) {
            return Err(bad());
        }
        let length = usize::try_from(u64::from_le_bytes(*head)).map_err(|_| bad())?;
        let Some((payload, after)) = after.split_at_checked(length) else { break };
        let Some((check, after)) = after.split_first_chunk::<4>() else { break };
        if u32::from_le_bytes(*check) != masked(payload) {
            return Err(bad());
        }
        events.push(Event::decode(payload).ok_or_else(bad)?);
        rest = after;
    }
    Ok(events)
}

const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const BLOCK: u64 = 2;
const FIXED32: u64 = 5;

enum Field<'a> {
    Varint(u64),
    Fixed64(u64),
    Block(&'a [u8]),
    Fixed32(u32),
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// The next field: none at the end; the outer `None` is damage.
fn next_field<'a>(bytes: &mut &'a [u8]) -> Option<Option<(u64, Field<'a>)>> {
    if bytes.is_empty() {
        return Some(None);
    }
    let key = take_varint(bytes)?;
    let field = match key & 7 {
        VARINT => Field::Varint(take_varint(bytes)?),
        FIXED64 => {
            let (head, rest) = bytes.split_first_chunk::<8>()?;
            *bytes = rest;
            Field::Fixed64(u64::from_le_bytes(*head))
        }
        FIXED32 => {
            let (head, rest) = bytes.split_first_chunk::<4>()?;
            *bytes = rest;
            Field::Fixed32(u32::from_le_bytes(*head))
        }
        BLOCK => {
            let length = usize::try_from(take_varint(bytes)?).ok()?;
            let (head, rest) = bytes.split_at_checked(length)?;
            *bytes = rest;
            Field::Block(head)
        }
        _ => return None,
    };
    Some(Some((key >> 3, field)))
}
