//! TensorBoard event files, so that a run directory can be dropped into TensorBoard.
//!
//! A file is a row of records: `u64` length, masked CRC-32C of the length, payload, masked CRC-32C of the payload
//! (little-endian). A payload is the protocol buffer `tensorflow.Event`; of it we use `wall_time` (1, double),
//! `step` (2, varint), `file_version` (3, string), `summary` (5) with values of `tag` (1, string) and
//! `simple_value` (2, float), and `session_log` (7) with `status` (1): a resumed run starts a new file whose first
//! event says START at its first step, upon which TensorBoard forgets what earlier files had from there on.
//!
//! Tags: `train/loss`, `train/task_loss`, `train/consistency`, `train/learning_rate`, `train/grad_norm`,
//! `train/epoch`, `eval/loss`, `eval/<metric>`.

use super::crc32c::masked;
use crate::error::{Error, Result};
use std::path::Path;

const VERSION: &str = "brain.Event:2";

/// A record of an event file, as far as we use them.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Seconds since 1970.
    pub wall_time: f64,
    /// Step; 0 where the event belongs to none.
    pub step: i64,
    /// The first record's `brain.Event:2`.
    pub file_version: Option<String>,
    /// Scalars by tag.
    pub scalars: Vec<(String, f32)>,
    /// The status of a session; 1 is START.
    pub session: Option<u64>,
}

impl Event {
    /// The record every file starts with.
    pub fn first(wall_time: f64) -> Self {
        Self { wall_time, step: 0, file_version: Some(VERSION.to_owned()), scalars: Vec::new(), session: None }
    }

    /// Says that the run goes on with `step` in this file.
    pub fn restart(wall_time: f64, step: u64) -> Self {
        Self { wall_time, step: step as i64, file_version: None, scalars: Vec::new(), session: Some(1) }
    }

    /// Numbers of one step.
    pub fn scalars(wall_time: f64, step: u64, scalars: &[(&str, f64)]) -> Self {
        let scalars = scalars.iter().map(|&(tag, value)| (tag.to_owned(), value as f32)).collect();
        Self { wall_time, step: step as i64, file_version: None, scalars, session: None }
    }

    /// The whole record, with lengths and checksums.
    pub fn encode(&self) -> Vec<u8> {
        let payload = self.payload();
        let length = (payload.len() as u64).to_le_bytes();
        let mut record = length.to_vec();
        record.extend(masked(&length).to_le_bytes());
        record.extend(&payload);
        record.extend(masked(&payload).to_le_bytes());
        record
    }

    fn payload(&self) -> Vec<u8> {
        let mut out = Vec::new();
        key(&mut out, 1, FIXED64);
        out.extend(self.wall_time.to_le_bytes());
        if self.step != 0 {
            key(&mut out, 2, VARINT);
            varint(&mut out, self.step as u64);
        }
        if let Some(version) = &self.file_version {
            block(&mut out, 3, version.as_bytes());
        }
        if !self.scalars.is_empty() {
            let mut summary = Vec::new();
            for (tag, number) in &self.scalars {
                let mut value = Vec::new();
                block(&mut value, 1, tag.as_bytes());
                key(&mut value, 2, FIXED32);
                value.extend(number.to_le_bytes());
                block(&mut summary, 1, &value);
            }
            block(&mut out, 5, &summary);
        }
        if let Some(status) = self.session {
            let mut log = Vec::new();
            key(&mut log, 1, VARINT);
            varint(&mut log, status);
            block(&mut out, 7, &log);
        }
        out
    }

    fn decode(payload: &[u8]) -> Option<Self> {
        let mut event = Self { wall_time: 0.0, step: 0, file_version: None, scalars: Vec::new(), session: None };
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
pub fn read(path: &Path) -> Result<Vec<Event>> {
    let bytes = std::fs::read(path).map_err(|err| Error::io("reading", path, err))?;
    let mut rest = bytes.as_slice();
    let mut events = Vec::new();
    while let Some((head, after)) = rest.split_first_chunk::<8>() {
        let at = bytes.len() - rest.len();
        let bad = || Error::format(format!("damaged record at byte {at} of an event file: {}", path.display()));
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

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn key(out: &mut Vec<u8>, number: u64, kind: u64) {
    varint(out, number << 3 | kind);
}

fn block(out: &mut Vec<u8>, number: u64, bytes: &[u8]) {
    key(out, number, BLOCK);
    varint(out, bytes.len() as u64);
    out.extend(bytes);
}

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
