//! An allocator that counts bytes, for benchmarks and for checking estimates.
//!
//! The program and the memory test put [`Counted`] around their allocator; it costs two or three relaxed atomic operations
//! an allocation.

use std::alloc::{GlobalAlloc, Layout};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static ALLOCATED: AtomicU64 = AtomicU64::new(0);
static FREED: AtomicU64 = AtomicU64::new(0);
static PEAK: AtomicU64 = AtomicU64::new(0);

/// An allocator that counts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counted<A>(pub A);

/// What was counted so far in this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allocated {
    /// Allocations made.
    pub allocations: u64,
    /// Bytes allocated, freed or not.
    pub bytes: u64,
    /// Bytes in use.
    pub live: u64,
    /// Most bytes in use at once since [`reset_peak`].
    pub peak: u64,
}

fn live() -> u64 {
    // Freed first: what is allocated in between makes the answer larger, never negative.
    let freed = FREED.load(Relaxed);
    ALLOCATED.load(Relaxed).saturating_sub(freed)
}

fn took(bytes: usize) {
    ALLOCATIONS.fetch_add(1, Relaxed);
    let allocated = ALLOCATED.fetch_add(bytes as u64, Relaxed) + bytes as u64;
    let live = allocated.saturating_sub(FREED.load(Relaxed));
    if live > PEAK.load(Relaxed) {
        PEAK.fetch_max(live, Relaxed);
    }
}

fn gave(bytes: usize) {
    FREED.fetch_add(bytes as u64, Relaxed);
}

/// The counts; absent where this program's allocator is not counted.
pub fn allocated() -> Option<Allocated> {
    let allocations = ALLOCATIONS.load(Relaxed);
    (allocations > 0).then(|| Allocated {
        allocations,
        bytes: ALLOCATED.load(Relaxed),
        live: live(),
        peak: PEAK.load(Relaxed),
    })
}

/// Forgets the peak: it is what is in use now.
pub fn reset_peak() {
    PEAK.store(live(), Relaxed);
}

#[expect(unsafe_code, reason = "an allocator that hands every call to another one and counts")]
// SAFETY: every call goes to the inner allocator unchanged; counting touches no memory of the caller.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Counted<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are the inner allocator's.
        let pointer = unsafe { self.0.alloc(layout) };
        if !pointer.is_null() {
            took(layout.size());
        }
        pointer
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        let pointer = unsafe { self.0.alloc_zeroed(layout) };
        if !pointer.is_null() {
            took(layout.size());
        }
        pointer
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        gave(layout.size());
        // SAFETY: as above.
        unsafe { self.0.dealloc(pointer, layout) };
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above.
        let moved = unsafe { self.0.realloc(pointer, layout, size) };
        if !moved.is_null() {
            gave(layout.size());
            took(size);
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::alloc::System;

    /// One test, for the counts are the process's; the unit tests' own allocator is not counted.
    #[test]
    #[expect(unsafe_code, reason = "calls an allocator directly")]
    fn what_goes_through_is_counted() {
        let allocator = Counted(System);
        let before = allocated().unwrap_or_default();
        let (small, zeroed) = (Layout::new::<[u8; 1000]>(), Layout::new::<[u64; 50]>());
        // SAFETY: layouts are not empty, each pointer is freed once with its layout.
        unsafe {
            let a = allocator.alloc(small);
            let b = allocator.alloc_zeroed(zeroed);
            assert!(!a.is_null() && std::slice::from_raw_parts(b, 400).iter().all(|&byte| byte == 0));
            let now = allocated().unwrap();
            assert_eq!((now.allocations - before.allocations, now.live - before.live), (2, 1400));
            let a = allocator.realloc(a, small, 3000);
            allocator.dealloc(b, zeroed);
            let now = allocated().unwrap();
            assert_eq!((now.allocations - before.allocations, now.live - before.live), (3, 3000));
            assert_eq!((now.bytes - before.bytes, now.peak), (4400, before.live + 3400));
            allocator.dealloc(a, Layout::new::<[u8; 3000]>());
        }
        assert_eq!(allocated().unwrap().live, before.live);
        reset_peak();
        assert_eq!(allocated().unwrap().peak, before.live);
    }
}
