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

const VERSION: &str = "brain.Event:2";
/// The status of a session that says START.
const START: u64 = 1;

/// The record every file starts with. wall_time: seconds since 1970
pub fn first(wall_time: f64) -> Vec<u8> {
    let mut event = event(wall_time, 0);
    block(&mut event, 3, VERSION.as_bytes());
    record(&event)
}

/// Says that the run goes on with `step` in this file.
pub fn restart(wall_time: f64, step: u64) -> Vec<u8> {
    let (mut event, mut log) = (event(wall_time, step), Vec::new());
    key(&mut log, 1, VARINT);
    varint(&mut log, START);
    block(&mut event, 7, &log);
    record(&event)
}

/// Numbers of one step, by tag.
pub fn scalars(wall_time: f64, step: u64, scalars: &[(&str, f64)]) -> Vec<u8> {
    let (mut event, mut summary) = (event(wall_time, step), Vec::new());
    for (tag, number) in scalars {
        let mut value = Vec::new();
        block(&mut value, 1, tag.as_bytes());
        key(&mut value, 2, FIXED32);
        value.extend((*number as f32).to_le_bytes());
        block(&mut summary, 1, &value);
    }
    block(&mut event, 5, &summary);
    record(&event)
}

/// The fields that every event has; a step of 0 is left out.
fn event(wall_time: f64, step: u64) -> Vec<u8> {
    let mut event = Vec::new();
    key(&mut event, 1, FIXED64);
    event.extend(wall_time.to_le_bytes());
    if step != 0 {
        key(&mut event, 2, VARINT);
        varint(&mut event, step);
    }
    event
}

/// The payload between its length and the checksums.
fn record(payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u64).to_le_bytes();
    [length.as_slice(), &masked(&length).to_le_bytes(), payload, &masked(payload).to_le_bytes()].concat()
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
