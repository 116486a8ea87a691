//! Who runs: the hub's most often asked question, answered without touching a reference count.

use std::rc::Rc;

use super::pulse::Pulse;
use crate::greenlet::Core;

/// The greenlet that runs on this thread; none while the hub itself does.
pub(super) struct Current {
    /// Null, or made by `Rc::as_ptr` from an `Rc` that outlives the pointer's stay here.
    pulse: Pulse,
    /// Runs at first, and whenever nothing else is said.
    _main: Rc<Core>,
}

impl Current {
    pub(super) fn new(main: Rc<Core>) -> Current {
        Current { pulse: Pulse::new(Rc::as_ptr(&main)), _main: main }
    }

    /// What other threads may see of it.
    pub(super) fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    /// Says that `core` runs (`None`: the hub) while `f` does.
    #[inline]
    pub(super) fn during<R>(&self, core: Option<&Rc<Core>>, f: impl FnOnce() -> R) -> R {
        let before = self.pulse.runs(core.map_or(std::ptr::null(), Rc::as_ptr));
        let _restore = Restore(&self.pulse, before);
        f()
    }

    /// Who runs.
    #[inline(always)]
    pub(super) fn get(&self) -> Option<Rc<Core>> {
        let running = self.pulse.running();
        if running.is_null() {
            return None;
        }
        // SAFETY: a pointer that is not null came from an `Rc` which lives: either `_main`, or the one that
        // `during` borrows for as long as its closure runs, after which the pointer before it is back. So the
        // count is at least one, and what is made here adds one of its own. `Current` is `!Sync`, so this is the
        // thread on which they were made.
        unsafe {
            Rc::increment_strong_count(running);
            Some(Rc::from_raw(running))
        }
    }

    /// Runs `f` on who runs. Touches no reference count, so that a signal handler may call it.
    #[inline]
    pub(super) fn with<R>(&self, f: impl FnOnce(&Core) -> R) -> Option<R> {
        // SAFETY: as in `get`; the reference ends with `f`, which cannot make the greenlet that runs stop running
        // other than by switching away and back, during which its `Rc` stays borrowed.
        unsafe { self.pulse.running().as_ref() }.map(f)
    }
}

struct Restore<'a>(&'a Pulse, *const Core);

impl Drop for Restore<'_> {
    fn drop(&mut self) {
        self.0.runs(self.1);
    }
}
