//! The hub's pulse: what other threads may see of it, at the cost of plain loads and stores.

use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering, compiler_fence};

use crate::greenlet::Core;

/// Written by the hub's own thread and by no other; any thread may read it.
///
/// A greenlet holds the hub for as long as somebody runs and the turn stays the same: the hub counts a turn for each
/// greenlet that it lets run.
pub(crate) struct Pulse {
    turns: AtomicU32,
    /// Who runs, null while the hub itself does. To other threads this is only null or not null.
    running: AtomicPtr<Core>,
    /// The last turn in which a greenlet said that it may block.
    silent: AtomicU32,
}

/// What a look at a [`Pulse`] saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Beat {
    pub(crate) turn: u32,
    /// Whether a greenlet runs, and not the hub.
    pub(crate) held: bool,
    /// Whether it has said that it may block.
    pub(crate) silent: bool,
}

impl Pulse {
    pub(super) fn new(running: *const Core) -> Pulse {
        Pulse {
            turns: AtomicU32::new(1),
            running: AtomicPtr::new(running.cast_mut()),
            silent: AtomicU32::new(0),
        }
    }

    /// Says who runs from now on; returns who did.
    #[inline(always)]
    pub(super) fn runs(&self, core: *const Core) -> *const Core {
        let before = self.running();
        // A signal handler of this thread that finds the pointer shall find what was written through it before.
        compiler_fence(Ordering::Release);
        self.running.store(core.cast_mut(), Ordering::Relaxed);
        before
    }

    #[inline(always)]
    pub(super) fn running(&self) -> *const Core {
        let running = self.running.load(Ordering::Relaxed);
        compiler_fence(Ordering::Acquire);
        running
    }

    /// Begins a turn. Wraps.
    #[inline(always)]
    pub(crate) fn next_turn(&self) {
        // One thread writes, so this need not be one step.
        self.turns.store(self.turn().wrapping_add(1), Ordering::Relaxed);
    }

    #[inline(always)]
    pub(crate) fn turn(&self) -> u32 {
        self.turns.load(Ordering::Relaxed)
    }

    /// Begins a turn in which whoever runs may block.
    pub(crate) fn next_turn_silent(&self) {
        self.silent.store(self.turn().wrapping_add(1), Ordering::Relaxed);
        self.next_turn();
    }

    /// What there is to see at this moment.
    pub(crate) fn look(&self) -> Beat {
        let turn = self.turn();
        Beat {
            turn,
            held: !self.running.load(Ordering::Relaxed).is_null(),
            silent: self.silent.load(Ordering::Relaxed) == turn,
        }
    }
}
