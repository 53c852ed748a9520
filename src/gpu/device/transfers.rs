//! Values on their way to the device and back.

use super::{ARENA, Device, State, failed, last_cause, whole_words};
use crate::error::{Error, Result};
use crate::gpu::Address;
use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;

/// Bytes of a large upload that are on their way at one time.
const PIECE: usize = 32 << 20;
/// Bytes that are read back at one time.
const LANDING: u64 = 64 << 20;

/// What is read back in one round of a part that was asked for.
struct Piece {
    part: usize,
    from: Address,
    bytes: u64,
}

/// A part of a slab that is read back.
struct Copied {
    /// Where it starts in the slab, and its length, in bytes.
    start: u64,
    len: u64,
    /// Where it lands.
    at: u64,
    /// Bytes before what was asked for.
    skip: u64,
}

impl Device {
    /// Writes bytes behind everything that was given before.
    pub(super) fn write(&self, to: Address, bytes: &[u8]) -> Result<()> {
        whole_words("an upload", to, bytes.len() as u64)?;
        let mut state = self.state.lock();
        state.counters.uploaded += bytes.len() as u64;
        if bytes.len() <= ARENA / 4 {
            if state.staged.len() + bytes.len() > ARENA {
                self.submit(&mut state);
            }
            let (at, slab) = (state.staged.len() as u64, state.slab(to.slab())?.clone());
            state.staged.extend_from_slice(bytes);
            self.list(&mut state).copy_buffer_to_buffer(&self.arena, at, &slab, to.byte(), bytes.len() as u64);
            return Ok(());
        }
        // What was given before comes first; each piece is handed over at once, so that its copy does not pile up.
        self.submit(&mut state);
        let slab = state.slab(to.slab())?;
        let mut at = to.byte();
        for piece in bytes.chunks(PIECE) {
            self.queue.write_buffer(slab, at, piece);
            self.queue.submit([]);
            at += piece.len() as u64;
        }
        self.check()
    }

    /// Reads parts of memory, each so many bytes from an address on; waits for everything that was given before, once if they
    /// are not too much.
    pub(super) fn read(&self, parts: &[(Address, u64)]) -> Result<Vec<Vec<u8>>> {
        let mut state = self.state.lock();
        state.counters.downloaded += parts.iter().map(|(_, bytes)| bytes).sum::<u64>();
        let mut values: Vec<Vec<u8>> = parts.iter().map(|&(_, bytes)| Vec::with_capacity(bytes as usize)).collect();
        // All at once, if it is not too much.
        let (mut round, mut size) = (Vec::new(), 0);
        for (number, &(from, bytes)) in parts.iter().enumerate() {
            let mut done = 0;
            while done < bytes {
                if size == LANDING {
                    self.read_back(&mut state, &round, &mut values)?;
                    (round, size) = (Vec::new(), 0);
                }
                let len = (bytes - done).min(LANDING - size);
                round.push(Piece { part: number, from: Address::new(from.slab(), from.byte() + done), bytes: len });
                (done, size) = (done + len, size + len);
            }
        }
        self.read_back(&mut state, &round, &mut values)?;
        Ok(values)
    }

    /// Appends pieces to the parts they belong to; waits, once.
    fn read_back(&self, state: &mut State, pieces: &[Piece], values: &mut [Vec<u8>]) -> Result<()> {
        let mut copies = Vec::with_capacity(pieces.len());
        let mut all = 0;
        for piece in pieces {
            // Copies are of whole words.
            let start = piece.from.byte() / 4 * 4;
            let len = (piece.from.byte() + piece.bytes).next_multiple_of(4) - start;
            copies.push(Copied { start, len, at: all, skip: piece.from.byte() - start });
            all += len;
        }
        let landing = self.landing(state, all.max(4))?;
        for (piece, Copied { start, len, at, .. }) in pieces.iter().zip(&copies) {
            let slab = state.slab(piece.from.slab())?.clone();
            self.list(state).copy_buffer_to_buffer(&slab, *start, &landing, *at, *len);
        }
        self.submit(state);
        state.counters.waits += 1;
        let mapped = Arc::new(Mutex::new(Ok(())));
        let result = mapped.clone();
        landing.map_async(wgpu::MapMode::Read, ..all.max(4), move |outcome| *result.lock() = outcome);
        self.poll()?;
        let wrong =
            |err: &dyn fmt::Display| failed(format!("{}: reading back failed: {}", self.facts.name, last_cause(&err)));
        if let Err(err) = &*mapped.lock() {
            return Err(wrong(err));
        }
        {
            let view = landing.get_mapped_range(..all.max(4)).map_err(|err| wrong(&err))?;
            for (copied, piece) in copies.iter().zip(pieces) {
                let start = (copied.at + copied.skip) as usize;
                let bytes = view.get(start..start + piece.bytes as usize);
                let bytes = bytes.ok_or_else(|| Error::internal("fewer bytes came back than were asked for"))?;
                values[piece.part].extend_from_slice(bytes);
            }
        }
        landing.unmap();
        state.landing = Some(landing);
        Ok(())
    }

    /// Memory of at least so many bytes that the host can read.
    fn landing(&self, state: &mut State, bytes: u64) -> Result<wgpu::Buffer> {
        if let Some(landing) = state.landing.take().filter(|landing| landing.size() >= bytes) {
            return Ok(landing);
        }
        state.counters.allocations += 1;
        let size = bytes.next_power_of_two().max(1 << 16);
        let usage = wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ;
        self.buffer("downloads", size, usage).ok_or_else(|| {
            failed(format!("{} has no {} KB of memory left to read back what it computed", self.facts.name, size >> 10))
        })
    }
}
