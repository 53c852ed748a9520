//! Memory of a device, cut from slabs: tensors take places in few large buffers of the driver and give them back, so that a
//! training step allocates nothing once it has run.

use super::launch::Address;
use super::{Format, Memory, Operand};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What places start at a multiple of: every adapter can bind a buffer there.
pub const ALIGNMENT: u64 = 256;

/// Places of at most so many bytes lie in slabs of their own: the trained tensors and their gradients, which the optimizer takes
/// slab by slab, are small, and stay together.
pub const SMALL: u64 = 2 << 20;

/// Bytes that all pools of this process hold, and whether there ever was one.
static HELD: AtomicU64 = AtomicU64::new(0);
static EVER: AtomicBool = AtomicBool::new(false);

/// Bytes of GPU memory that this process holds; absent where it never held any.
pub fn held_by_process() -> Option<u64> {
    EVER.load(Ordering::Relaxed).then(|| HELD.load(Ordering::Relaxed))
}

/// A device's slabs and which parts of them are free.
#[derive(Debug, Default)]
pub struct Pool {
    state: Mutex<State>,
}

impl Drop for Pool {
    fn drop(&mut self) {
        HELD.fetch_sub(self.state.get_mut().memory.held, Ordering::Relaxed);
    }
}

#[derive(Debug, Default)]
struct State {
    slabs: Vec<Option<Slab>>,
    memory: Memory,
}

#[derive(Debug)]
struct Slab {
    bytes: u64,
    /// Whether it is for places of at most [`SMALL`] bytes.
    small: bool,
    /// Start and length of each free part; no two of them touch.
    free: BTreeMap<u64, u64>,
}

impl Slab {
    fn is_unused(&self) -> bool {
        self.free.get(&0) == Some(&self.bytes)
    }
}

/// Memory of a device, given back when the last copy of this goes.
#[derive(Clone)]
pub struct Buffer(Arc<Block>);

struct Block {
    pool: Arc<Pool>,
    slab: u32,
    start: u64,
    bytes: u64,
}

impl Drop for Block {
    fn drop(&mut self) {
        self.pool.give_back(self.slab, self.start, self.bytes);
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} bytes of slab {} from {})", self.0.bytes, self.0.slab, self.0.start)
    }
}

impl Buffer {
    /// Where it starts.
    pub fn address(&self) -> Address {
        Address::new(self.0.slab, self.0.start)
    }
    /// Bytes it holds, a multiple of [`ALIGNMENT`].
    pub fn bytes(&self) -> u64 {
        self.0.bytes
    }
    /// Its values, as a kernel is given them.
    pub fn operand(&self, len: usize, format: Format) -> Operand {
        debug_assert!(len as u64 * format.bytes() <= self.0.bytes, "{len} values of {format:?} in {self:?}");
        Operand::new(self.address(), len, format)
    }
    /// Whether nobody else holds this memory.
    pub fn is_unshared(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

impl Pool {
    /// A place of at least so many bytes in the slabs there are: the smallest free part that holds them.
    pub fn take(self: &Arc<Self>, bytes: u64) -> Option<Buffer> {
        let (bytes, small) = (rounded(bytes), bytes <= SMALL);
        let mut state = self.state.lock();
        let fits = |(number, slab): (usize, &Option<Slab>)| {
            let parts = slab.iter().filter(|slab| slab.small == small).flat_map(|slab| &slab.free);
            let best = parts.filter(|(_, len)| **len >= bytes).map(|(start, len)| (*len, *start)).min()?;
            Some((best, number))
        };
        let ((len, start), number) = state.slabs.iter().enumerate().filter_map(fits).min()?;
        let slab = state.slabs.get_mut(number)?.as_mut()?;
        slab.free.remove(&start);
        if len > bytes {
            slab.free.insert(start + bytes, len - bytes);
        }
        state.memory.used += bytes;
        state.memory.peak = state.memory.peak.max(state.memory.used);
        Some(Buffer(Arc::new(Block { pool: self.clone(), slab: number as u32, start, bytes })))
    }

    /// Adds a slab of so many bytes, for small places or for large ones. -> its number
    pub fn add_slab(&self, bytes: u64, small: bool) -> u32 {
        let mut state = self.state.lock();
        let slab = Slab { bytes, small, free: BTreeMap::from([(0, bytes)]) };
        state.memory.held += bytes;
        EVER.store(true, Ordering::Relaxed);
        HELD.fetch_add(bytes, Ordering::Relaxed);
        let empty = state.slabs.iter().position(Option::is_none);
        match empty {
            Some(number) => state.slabs[number] = Some(slab),
            None => state.slabs.push(Some(slab)),
        }
        empty.unwrap_or(state.slabs.len() - 1) as u32
    }

    /// Takes the slabs out that nothing uses. -> their numbers
    pub fn remove_unused(&self) -> Vec<u32> {
        let mut state = self.state.lock();
        let State { slabs, memory } = &mut *state;
        let mut removed = Vec::new();
        for (number, place) in slabs.iter_mut().enumerate() {
            if let Some(slab) = place.take_if(|slab| slab.is_unused()) {
                memory.held -= slab.bytes;
                HELD.fetch_sub(slab.bytes, Ordering::Relaxed);
                removed.push(number as u32);
            }
        }
        removed
    }

    /// Bytes in use and held.
    pub fn memory(&self) -> Memory {
        self.state.lock().memory
    }

    fn give_back(&self, slab: u32, start: u64, bytes: u64) {
        let mut state = self.state.lock();
        state.memory.used -= bytes;
        let Some(Some(slab)) = state.slabs.get_mut(slab as usize) else { return };
        let (mut start, mut len) = (start, bytes);
        if let Some((&before, &length)) = slab.free.range(..start).next_back()
            && before + length == start
        {
            slab.free.remove(&before);
            (start, len) = (before, len + length);
        }
        if let Some(length) = slab.free.remove(&(start + len)) {
            len += length;
        }
        slab.free.insert(start, len);
    }
}

/// Bytes of a place that holds so many.
pub fn rounded(bytes: u64) -> u64 {
    bytes.max(1).next_multiple_of(ALIGNMENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_is_taken_again_and_grows_together() {
        let pool = Arc::new(Pool::default());
        assert!(pool.take(1).is_none(), "there is no slab yet");
        let slab = pool.add_slab(1024, true);
        let parts: Vec<Buffer> = (0..4).filter_map(|_| pool.take(200)).collect();
        assert_eq!(
            parts.iter().map(|b| b.address()).collect::<Vec<_>>(),
            [0, 256, 512, 768].map(|b| Address::new(slab, b))
        );
        assert!(pool.take(1).is_none(), "the slab is full");
        let [a, b, c, d] = parts.try_into().unwrap();
        let copy = b.clone();
        drop((a, c));
        drop(b);
        assert!(pool.take(300).is_none(), "a copy still holds the second place");
        drop(copy);
        let large = pool.take(700).expect("three places that touch");
        assert_eq!((large.address().byte(), large.bytes()), (0, 768));
        assert_eq!(pool.memory(), Memory { used: 1024, peak: 1024, held: 1024 });
        drop((large, d));
        assert_eq!(pool.remove_unused(), [slab]);
        assert_eq!(pool.memory(), Memory { used: 0, peak: 1024, held: 0 });
    }

    #[test]
    fn the_smallest_free_part_that_fits_is_taken() {
        let pool = Arc::new(Pool::default());
        let (large, small) = (pool.add_slab(4096, true), pool.add_slab(512, true));
        assert_eq!(pool.take(400).unwrap().address().slab(), small);
        assert_eq!(pool.take(600).unwrap().address().slab(), large);
        let held = pool.take(10).unwrap();
        assert_eq!(pool.remove_unused(), [large]);
        assert_eq!(pool.add_slab(256, true), large, "numbers are used again");
        drop(held);
    }

    #[test]
    fn small_places_have_slabs_of_their_own() {
        let pool = Arc::new(Pool::default());
        let (small, large) = (pool.add_slab(4096, true), pool.add_slab(4 * SMALL, false));
        assert_eq!(pool.take(100).unwrap().address().slab(), small);
        assert_eq!(pool.take(SMALL + 1).unwrap().address().slab(), large);
        assert!(pool.take(5000).is_none(), "small, and the slab for that is too small");
    }
}
