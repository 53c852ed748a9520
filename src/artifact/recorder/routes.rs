//! `routes.bin`: which expert ran where, in every step; enough to replay any of them.
//!
//! The file starts with 8 bytes `ADAMIXRT`, the version (`u16`, 1) and 6 zero bytes. Then one record per
//! micro-batch, all numbers little-endian:
//!
//! | bytes | what |
//! |---|---|
//! | 4 | `u32` length n of the body |
//! | n | body: `u64` step (from 1), `u32` micro-batch of the step (from 0), `u8` passes, `u16` adapted modules, picks |
//! | 4 | `u32` CRC-32C of the body |
//!
//! There are passes x modules x 2 picks, ordered by pass, module, side (down, up). A pick of one expert for the whole
//! batch is one byte, the expert (0 to 63). Other picks start with a byte 0x80 (per example) or 0xc0 (per token)
//! plus the bits per expert b (0 to 8), then `u32` count, then the experts in b bits each, lowest bits first,
//! padded to a byte. A step of a 12-layer model is 71 bytes with routing per batch.
//!
//! A record that is cut off or whose checksum is wrong ends the file for its readers.

use super::crc32c::crc32c;
use crate::error::{Error, Result};
use crate::records::{Pick, Route};
use std::fs::File;
use std::io::{self, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

/// The bytes every file starts with.
pub(super) const MAGIC: [u8; 16] = *b"ADAMIXRT\x01\0\0\0\0\0\0\0";
const PER_EXAMPLE: u8 = 0x80;
const PER_TOKEN: u8 = 0xc0;
/// No record of a real run comes near this; a larger length is damage.
const MAX_BODY: u32 = 1 << 28;

/// The route of one micro-batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteRecord {
    /// Steps done after this one, from 1.
    pub step: u64,
    /// Micro-batch of the step, from 0.
    pub micro_batch: u32,
    /// Its picks.
    pub route: Route,
}

/// Encodes one record, length and checksum included.
pub fn encode(step: u64, micro_batch: u32, route: &Route) -> Vec<u8> {
    let mut body = Vec::with_capacity(16 + route.picks.len());
    body.extend(step.to_le_bytes());
    body.extend(micro_batch.to_le_bytes());
    body.push(route.passes as u8);
    body.extend((route.sites as u16).to_le_bytes());
    for pick in &route.picks {
        match pick {
            Pick::One(expert) => body.push(expert & 0x3f),
            Pick::PerExample(experts) => pack(&mut body, PER_EXAMPLE, experts),
            Pick::PerToken(experts) => pack(&mut body, PER_TOKEN, experts),
        }
    }
    let mut record = (body.len() as u32).to_le_bytes().to_vec();
    record.extend(&body);
    record.extend(crc32c(&body).to_le_bytes());
    record
}

fn pack(body: &mut Vec<u8>, kind: u8, experts: &[u8]) {
    let bits = 8 - experts.iter().fold(0, |all, expert| all | expert).leading_zeros();
    body.push(kind | bits as u8);
    body.extend((experts.len() as u32).to_le_bytes());
    let (mut buffer, mut filled) = (0u32, 0);
    for &expert in experts {
        buffer |= u32::from(expert) << filled;
        filled += bits;
        while filled >= 8 {
            body.push(buffer as u8);
            buffer >>= 8;
            filled -= 8;
        }
    }
    if filled > 0 {
        body.push(buffer as u8);
    }
}

/// Takes `N` bytes off the front.
fn head<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*head)
}

fn decode(mut body: &[u8]) -> Option<RouteRecord> {
    let step = u64::from_le_bytes(head(&mut body)?);
    let micro_batch = u32::from_le_bytes(head(&mut body)?);
    let [passes] = head(&mut body)?;
    let sites = u16::from_le_bytes(head(&mut body)?);
    let (passes, sites) = (usize::from(passes), usize::from(sites));
    // A pick has at least one byte, so no more are made room for than there can be.
    let mut picks = Vec::with_capacity((passes * sites * 2).min(body.len()));
    for _ in 0..passes * sites * 2 {
        picks.push(unpack(&mut body)?);
    }
    body.is_empty().then_some(RouteRecord { step, micro_batch, route: Route { passes, sites, picks } })
}

fn unpack(body: &mut &[u8]) -> Option<Pick> {
    let [kind] = head(body)?;
    if kind & 0x80 == 0 {
        return Some(Pick::One(kind));
    }
    let bits = u32::from(kind & 0x0f);
    let count = u32::from_le_bytes(head(body)?) as usize;
    let bytes = (count.checked_mul(bits as usize)?).div_ceil(8);
    let (packed, rest) = body.split_at_checked(bytes)?;
    *body = rest;
    // Nothing says how many zero-bit experts there may be but the record's own size limit.
    if bits > 8 || count > MAX_BODY as usize {
        return None;
    }
    let mut packed = packed.iter();
    let (mut buffer, mut filled) = (0u32, 0);
    let mut experts = Vec::with_capacity(count);
    for _ in 0..count {
        while filled < bits {
            buffer |= u32::from(*packed.next()?) << filled;
            filled += 8;
        }
        experts.push((buffer & ((1 << bits) - 1)) as u8);
        buffer >>= bits;
        filled -= bits;
    }
    Some(if kind & PER_TOKEN == PER_TOKEN { Pick::PerToken(experts) } else { Pick::PerExample(experts) })
}

/// The records of a `routes.bin` in order. Ends at the first one that is not whole.
#[derive(Debug)]
pub struct RouteFile {
    path: PathBuf,
    reader: BufReader<File>,
    /// Where the next record begins.
    position: u64,
}

impl RouteFile {
    /// Opens a file and checks its first bytes.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|err| Error::io("opening", path, err))?;
        let mut reader = BufReader::new(file);
        let mut magic = [0u8; MAGIC.len()];
        match reader.read_exact(&mut magic) {
            Ok(()) if magic == MAGIC => {}
            Ok(()) => {
                return Err(Error::format(format!("not a file of routes, or of a later version: {}", path.display())));
            }
            Err(err) if err.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(Error::format(format!("too short for a file of routes: {}", path.display())));
            }
            Err(err) => return Err(Error::io("reading", path, err)),
        }
        Ok(Self { path: path.to_owned(), reader, position: MAGIC.len() as u64 })
    }

    /// As [`RouteFile::open`], from the record on that begins at `position`, as [`RouteFile::position`] said it.
    pub fn open_at(path: &Path, position: u64) -> Result<Self> {
        let mut file = Self::open(path)?;
        file.reader.seek(SeekFrom::Start(position)).map_err(|err| Error::io("reading", path, err))?;
        Ok(Self { position, ..file })
    }

    /// Where the next record begins: behind the last whole one that was read.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The length of the file up to and including the last whole record of a step of at most `step`.
    pub(super) fn length_until(mut self, step: u64) -> Result<u64> {
        let mut length = self.position;
        while self.read()?.is_some_and(|record| record.step <= step) {
            length = self.position;
        }
        Ok(length)
    }

    /// The next record; nothing when it is not whole.
    fn read(&mut self) -> Result<Option<RouteRecord>> {
        let Some(head) = self.take(4)? else { return Ok(None) };
        let length = head.first_chunk().map_or(u32::MAX, |bytes| u32::from_le_bytes(*bytes));
        if length > MAX_BODY {
            return Ok(None);
        }
        let Some(bytes) = self.take(u64::from(length) + 4)? else { return Ok(None) };
        let Some((body, check)) = bytes.split_last_chunk::<4>() else { return Ok(None) };
        let record = if crc32c(body) == u32::from_le_bytes(*check) { decode(body) } else { None };
        if record.is_some() {
            self.position += u64::from(length) + 8;
        }
        Ok(record)
    }

    /// The next `n` bytes, or nothing. A damaged length takes no more memory than the file has bytes.
    fn take(&mut self, n: u64) -> Result<Option<Vec<u8>>> {
        let mut bytes = Vec::new();
        let read = (&mut self.reader).take(n).read_to_end(&mut bytes);
        read.map_err(|err| Error::io("reading", &self.path, err))?;
        Ok((bytes.len() as u64 == n).then_some(bytes))
    }
}

impl Iterator for RouteFile {
    type Item = Result<RouteRecord>;

    fn next(&mut self) -> Option<Result<RouteRecord>> {
        self.read().transpose()
    }
}
