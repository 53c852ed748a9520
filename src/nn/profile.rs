//! Where the time of a training step goes.
//!
//! While a [`Recording`] lives, its thread's time counts to the innermost open [`scope`], and to [`Phase::Other`] outside
//! of all, so the phases sum to the elapsed time. Parallel kernels count where they were called from; on an asynchronous
//! device the phases tell when work was submitted. Without a recording a scope costs one relaxed atomic load.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// What a step spends its time on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Matrix products of the base model, forward, with what is fused into them.
    TrunkForward,
    /// The same, backward (with the weights' gradients where the base is trained).
    TrunkBackward,
    /// Scores, softmax and weighted values of all heads, forward.
    AttentionForward,
    /// The same, backward.
    AttentionBackward,
    /// Embeddings, norms with their residuals and dropouts, nonlinearities that are not fused into a product: both directions.
    Elementwise,
    /// The mixture: both directions.
    Adapters,
    /// Head, losses and their gradients.
    Head,
    /// Clipping and AdamW.
    Optimizer,
    /// Drawing rows and routes and packing the batch.
    Data,
    /// Running layers again because their activations were not kept; whatever is inside counts here.
    Recompute,
    /// Everything else.
    Other,
}

/// All phases, in the order they are shown.
pub const PHASES: [Phase; 11] = [
    Phase::TrunkForward,
    Phase::TrunkBackward,
    Phase::AttentionForward,
    Phase::AttentionBackward,
    Phase::Elementwise,
    Phase::Adapters,
    Phase::Head,
    Phase::Optimizer,
    Phase::Data,
    Phase::Recompute,
    Phase::Other,
];

impl Phase {
    /// Stable name, as in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::TrunkForward => "trunk_forward",
            Self::TrunkBackward => "trunk_backward",
            Self::AttentionForward => "attention_forward",
            Self::AttentionBackward => "attention_backward",
            Self::Elementwise => "elementwise",
            Self::Adapters => "adapters",
            Self::Head => "head",
            Self::Optimizer => "optimizer",
            Self::Data => "data",
            Self::Recompute => "recompute",
            Self::Other => "other",
        }
    }
}

/// Time by phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    nanos: [u64; PHASES.len()],
}

impl Profile {
    /// Time of one phase.
    pub fn time(&self, phase: Phase) -> Duration {
        Duration::from_nanos(self.nanos[phase as usize])
    }
    /// Time of all phases: all that passed.
    pub fn total(&self) -> Duration {
        Duration::from_nanos(self.nanos.iter().sum())
    }
    /// Adds another profile's times.
    pub fn add(&mut self, other: &Self) {
        self.nanos.iter_mut().zip(other.nanos).for_each(|(a, b)| *a += b);
    }
}

/// Recordings alive, over all threads: the one thing a scope looks at when nothing is recorded.
static RECORDINGS: AtomicUsize = AtomicUsize::new(0);

/// The clock of one thread.
struct Clock {
    profile: Profile,
    phase: Phase,
    since: Instant,
}

impl Clock {
    /// Counts the time up to now to the current phase and switches to `phase`.
    fn switch(&mut self, phase: Phase) {
        let now = Instant::now();
        self.profile.nanos[self.phase as usize] += now.duration_since(self.since).as_nanos() as u64;
        (self.since, self.phase) = (now, phase);
    }
}

thread_local! {
    static CLOCK: RefCell<Option<Clock>> = const { RefCell::new(None) };
}

/// Switches this thread's clock, if it runs; returns the phase before.
fn switch(phase: impl FnOnce(Phase) -> Phase) -> Option<Phase> {
    CLOCK.with_borrow_mut(|clock| {
        let clock = clock.as_mut()?;
        let before = clock.phase;
        clock.switch(phase(before));
        Some(before)
    })
}

/// Records this thread's phases as long as it lives. A second one on the same thread records nothing.
#[derive(Debug)]
pub struct Recording {
    own: bool,
    /// Bound to its thread.
    _thread: PhantomData<*const ()>,
}

impl Recording {
    /// Starts this thread's clock.
    pub fn start() -> Self {
        let own = CLOCK.with_borrow_mut(|clock| {
            let free = clock.is_none();
            clock.get_or_insert_with(|| Clock {
                profile: Profile::default(),
                phase: Phase::Other,
                since: Instant::now(),
            });
            free
        });
        if own {
            RECORDINGS.fetch_add(1, Ordering::Relaxed);
        }
        Self { own, _thread: PhantomData }
    }

    /// What was booked since the start or the last time this was asked.
    pub fn take(&self) -> Profile {
        if !self.own {
            return Profile::default();
        }
        CLOCK.with_borrow_mut(|clock| {
            clock.as_mut().map_or_else(Profile::default, |clock| {
                clock.switch(clock.phase);
                std::mem::take(&mut clock.profile)
            })
        })
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        if self.own {
            CLOCK.with_borrow_mut(|clock| *clock = None);
            RECORDINGS.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Ends its phase when dropped.
#[must_use = "the phase lasts as long as the scope is held"]
#[derive(Debug)]
pub struct Scope {
    before: Option<Phase>,
}

/// Counts this thread's time to `phase` until the scope is dropped or an inner one opens; not inside [`Phase::Recompute`].
pub fn scope(phase: Phase) -> Scope {
    if RECORDINGS.load(Ordering::Relaxed) == 0 {
        return Scope { before: None };
    }
    Scope { before: switch(|before| if before == Phase::Recompute { before } else { phase }) }
}

impl Drop for Scope {
    fn drop(&mut self) {
        if let Some(before) = self.before {
            switch(|_| before);
        }
    }
}

/// Runs `work` in a scope.
pub fn timed<T>(phase: Phase, work: impl FnOnce() -> T) -> T {
    let _scope = scope(phase);
    work()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Burns time that is surely longer than the clock's resolution.
    fn work() {
        let start = Instant::now();
        while start.elapsed() < Duration::from_micros(200) {
            std::hint::spin_loop();
        }
    }

    #[test]
    fn phases_add_up_to_the_time_that_passed() {
        let before = Instant::now();
        let recording = Recording::start();
        let inside = Instant::now();
        for phase in PHASES {
            timed(phase, work);
            work();
        }
        let (least, profile) = (inside.elapsed(), recording.take());
        assert!(profile.total() >= least && profile.total() <= before.elapsed());
        for phase in PHASES {
            assert!(profile.time(phase) >= Duration::from_micros(200), "{phase:?}");
        }
        assert!(profile.time(Phase::Other) >= Duration::from_micros(200 * 12));
        let sum: Duration = PHASES.iter().map(|&phase| profile.time(phase)).sum();
        assert_eq!(sum, profile.total());
        // Taken is taken.
        assert!(recording.take().time(Phase::Head).is_zero());
    }

    #[test]
    fn an_inner_scope_takes_its_time_from_the_outer_one() {
        let recording = Recording::start();
        let clock = Instant::now();
        timed(Phase::Adapters, || {
            work();
            timed(Phase::Elementwise, || (0..10).for_each(|_| work()));
            work();
        });
        let (all, profile) = (clock.elapsed(), recording.take());
        let (outer, inner) = (profile.time(Phase::Adapters), profile.time(Phase::Elementwise));
        assert!(inner >= Duration::from_micros(2000) && outer >= Duration::from_micros(400));
        assert!(outer + inner <= all, "{outer:?} + {inner:?} of {all:?}");
        let inside = timed(Phase::Recompute, || {
            timed(Phase::TrunkForward, work);
            recording.take()
        });
        assert!(inside.time(Phase::TrunkForward).is_zero());
        assert!(inside.time(Phase::Recompute) >= Duration::from_micros(200));
    }

    #[test]
    fn without_a_recording_nothing_is_booked() {
        timed(Phase::Head, work);
        let recording = Recording::start();
        assert!(recording.take().time(Phase::Head).is_zero());
        // Another thread's scopes are not this one's, and its clock does not run.
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        pool.install(|| {
            timed(Phase::Head, work);
            assert!(CLOCK.with_borrow(Option::is_none));
        });
        let second = Recording::start();
        timed(Phase::Data, work);
        assert_eq!(second.take(), Profile::default());
        drop(second);
        let profile = recording.take();
        assert!(profile.time(Phase::Head).is_zero() && !profile.time(Phase::Data).is_zero());
        drop(recording);
        timed(Phase::Head, work);
        assert!(Recording::start().take().time(Phase::Head).is_zero());
    }

    #[test]
    fn names_are_unique_and_the_list_is_complete() {
        for (i, phase) in PHASES.iter().enumerate() {
            assert_eq!(*phase as usize, i);
            assert!(PHASES[..i].iter().all(|other| other.name() != phase.name()));
        }
    }
}
