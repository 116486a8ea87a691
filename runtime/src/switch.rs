//! The switch: the only file that names `corosensei`.
//!
//! A [`Fiber`] is a closure on a stack of its own that can be left ([`Fiber::suspend`], called from inside) and
//! entered again ([`Fiber::resume`], called from the hub). What may not enter here: any idea of why somebody
//! waits. Unwinding never crosses a switch: the entry closure catches everything, and a fiber that is dropped
//! while suspended is abandoned, its stack with it, rather than unwound behind the runtime's back.

use std::cell::{Cell, UnsafeCell};
use std::mem;
use std::num::NonZeroUsize;
use std::panic::{self, AssertUnwindSafe};
use std::ptr;

use corosensei::stack::valgrind::ValgrindStackRegistration;
use corosensei::{Coroutine, CoroutineResult, Yielder};

use crate::stack::{self, Bounds, Stack};

/// The ground a coroutine stands on. The [`Stack`] itself is given up while its fiber lives, and comes back from
/// [`Fiber::take_stack`].
struct Ground {
    base: NonZeroUsize,
    limit: NonZeroUsize,
}

// SAFETY: made from a `Stack`, which owned its memory exclusively and was given up for this; its base and limit are
// page aligned or coloured in multiples of 16, and the pool installs a guard at the low end before it hands a stack
// out; `MIN_SIZE` is above corosensei's minimum of 4096 usable bytes.
unsafe impl corosensei::stack::Stack for Ground {
    #[inline]
    fn base(&self) -> NonZeroUsize {
        self.base
    }

    #[inline]
    fn limit(&self) -> NonZeroUsize {
        self.limit
    }
}

/// Bytes of the frames through which a blocking call returns: those of the runtime, and the caller's innermost.
const FRAMES: usize = 1024;

/// A closure on its own stack.
pub(crate) struct Fiber {
    /// `None` once the stack was taken back.
    coroutine: UnsafeCell<Option<Coroutine<Door, (), (), Ground>>>,
    /// The way out of the coroutine, which it leaves here when it is entered for the first time.
    yielder: Slot,
    bounds: Bounds,
    /// The stack pointer of the last [`suspend`](Self::suspend), or one of the marks below.
    left_at: Cell<usize>,
    /// Tells valgrind, if the program runs under it, that this memory is a stack; else a few idle instructions.
    _valgrind: ValgrindStackRegistration,
}

/// The fiber has not been entered yet.
const NOWHERE: usize = 0;
/// The fiber runs.
const RUNNING: usize = 1;

/// What is handed in: by the first resume the address of the cell for the yielder; by later ones null, or the address
/// of what a [visit](Fiber::visit) is to run.
struct Door(*const ());

/// Where the yielder is to be put.
type Slot = Cell<*const Yielder<Door, ()>>;
/// What a visit runs.
type Visit<'a> = &'a mut dyn FnMut();
/// A visit is not made where less stack than this is left: to capture a backtrace takes a few kilobytes.
const ROOM: usize = 16 * 1024;

impl Fiber {
    /// A fiber that will run `entry` on `stack` at the first [`resume`](Self::resume). `entry` must not unwind;
    /// one that does ends the process.
    #[inline]
    pub(crate) fn new(stack: Stack, entry: impl FnOnce() + 'static) -> Fiber {
        let ground = Ground { base: stack.base(), limit: stack.limit() };
        let bounds = stack.into_bounds();
        let coroutine = Coroutine::with_stack(ground, move |yielder: &Yielder<Door, ()>, door: Door| {
            // SAFETY: this closure is entered by the first `resume(&self)`, which handed in the address of its own cell:
            // the fiber is borrowed and alive now, and the cell is read and written by this thread only.
            unsafe { (*door.0.cast::<Slot>()).set(ptr::from_ref(yielder)) };
            let inside = Inside;
            entry();
            mem::forget(inside);
        });
        Fiber {
            coroutine: UnsafeCell::new(Some(coroutine)),
            yielder: Cell::new(ptr::null()),
            bounds,
            left_at: Cell::new(NOWHERE),
            _valgrind: ValgrindStackRegistration::new(
                bounds.guard().start as *mut u8,
                bounds.pages().end - bounds.guard().start,
            ),
        }
    }

    /// Runs the fiber until it suspends or ends; true when it has ended.
    ///
    /// # Panics
    /// If the fiber already runs (a switch from inside itself) or has ended.
    #[inline]
    pub(crate) fn resume(&self) -> bool {
        let first = self.left_at.get() == NOWHERE;
        self.enter(Door(if first { (&raw const self.yielder).cast() } else { ptr::null() }))
    }

    #[inline(always)]
    fn enter(&self, door: Door) -> bool {
        assert!(self.left_at.replace(RUNNING) != RUNNING, "a green thread was resumed from inside itself");
        // SAFETY: it did not run, so no other `enter` is active on this fiber and nobody else borrows the
        // coroutine: `new` has exclusive access, `take_stack` checks that too, `suspend` does not touch it. `Fiber` is
        // `!Sync`, so no other thread is involved.
        let coroutine = unsafe { &mut *self.coroutine.get() };
        match coroutine.as_mut().expect("present until take_stack").resume(door) {
            // `suspend` has noted where it stands
            CoroutineResult::Yield(()) => false,
            CoroutineResult::Return(()) => {
                self.left_at.set(NOWHERE);
                true
            }
        }
    }

    /// Runs `f` on the fiber's own stack, where it stands, and leaves it standing there. False, and `f` was not run, if the
    /// fiber runs, has not been entered, has ended, or has little stack left.
    ///
    /// # Panics
    /// With `f`'s panic, which does not touch the fiber.
    pub(crate) fn visit(&self, f: &mut dyn FnMut()) -> bool {
        let left_at = self.left_at.get();
        if matches!(left_at, NOWHERE | RUNNING) || left_at - self.bounds.pages().start < ROOM {
            return false;
        }
        let mut result = Ok(());
        let mut f = || result = panic::catch_unwind(AssertUnwindSafe(&mut *f));
        let mut visit: Visit<'_> = &mut f;
        self.enter(Door((&raw mut visit).cast_const().cast()));
        if let Err(payload) = result {
            panic::resume_unwind(payload);
        }
        true
    }

    /// Where its stack lies.
    pub(crate) fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// Leaves the fiber; returns when it is resumed.
    ///
    /// # Panics
    /// When called from anywhere but this fiber's own stack.
    #[inline(always)]
    pub(crate) fn suspend(&self) {
        loop {
            let here = stack::here();
            assert!(
                self.left_at.get() == RUNNING && self.bounds.contains(here),
                "a blocking call was made on a stack that is not the green thread's own"
            );
            // Only now: whoever catches that panic still runs.
            self.left_at.set(here);
            // SAFETY: the fiber runs and the caller is on its stack (checked above), so `entry` has been called,
            // which set `yielder` first; the yielder lives at the bottom of that very stack until `entry` returns.
            let door = unsafe { (*self.yielder.get()).suspend(()) };
            if door.0.is_null() {
                return;
            }
            receive(&door);
        }
    }

    /// Has the processor fetch the frames in which the fiber was left.
    #[inline]
    pub(crate) fn fetch(&self) {
        stack::fetch(self.left_at.get(), FRAMES);
    }

    /// Gives back the memory of the stack below where the fiber stands. Does nothing while it runs and before it has
    /// run.
    pub(crate) fn trim(&self) {
        if matches!(self.left_at.get(), NOWHERE | RUNNING) {
            return;
        }
        // SAFETY: the fiber does not run, so it stands where it was last left, in `suspend`, whose frame's lower
        // end `here` was taken for; what the switch pushed below that are a few registers, within the page that
        // is spared.
        // A failure leaves the memory where it is, which is all one can do about it.
        let _ = unsafe { self.bounds.discard_below(self.left_at.get()) };
    }

    /// The stack of a fiber that has ended; `None` if it has not, and the second time.
    pub(crate) fn take_stack(&self) -> Option<Stack> {
        if self.left_at.get() == RUNNING {
            return None;
        }
        // SAFETY: the fiber does not run, so no `resume` holds the coroutine, and nobody else refers to it.
        let coroutine = unsafe { &mut *self.coroutine.get() };
        coroutine.take_if(|coroutine| coroutine.done())?;
        // SAFETY: these bounds came from the stack that `new` was given; the coroutine on it has ended and is gone, so
        // that this, which happens once, is the only claim to it.
        Some(unsafe { Stack::from_bounds(self.bounds) })
    }
}

/// Lives while a fiber is inside its entry, out of which nothing may unwind: corosensei would hand it to the hub.
struct Inside;

impl Drop for Inside {
    fn drop(&mut self) {
        eprintln!(
            "fatal: a panic has left a green thread: in a destructor of another panic, or in a logger?"
        );
        std::process::abort();
    }
}

/// Runs what a visit has brought.
#[cold]
fn receive(door: &Door) {
    // SAFETY: after the first resume, which `suspend` does not see, a door that is not null comes from `visit` and is the
    // address of a `Visit` in its frame. That frame stands until this fiber suspends again, after the call.
    let visit = unsafe { &mut *door.0.cast_mut().cast::<Visit<'_>>() };
    visit();
}

impl Drop for Fiber {
    fn drop(&mut self) {
        if let Some(coroutine) = self.coroutine.get_mut().take()
            && coroutine.started()
            && !coroutine.done()
        {
            // Its frames may be borrowed from elsewhere; corosensei would unwind them with a payload of its own,
            // which our catches could not tell from a panic.
            mem::forget(coroutine);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stack::{MIN_SIZE, StackPool};
    use std::time::Duration;

    #[test]
    fn a_blocking_call_on_a_foreign_stack_is_refused_and_leaves_no_trace() {
        let greenlet = crate::spawn(|| {
            let stack = StackPool::new().take(MIN_SIZE).unwrap();
            let ground = Ground { base: stack.base(), limit: stack.limit() };
            let mut foreign = Coroutine::with_stack(ground, |_: &Yielder<(), ()>, ()| {
                let refused = crate::catch_panic(|| crate::sleep(Duration::from_secs(3600)));
                refused.unwrap_err().message().to_owned()
            });
            let CoroutineResult::Return(said) = foreign.resume(()) else { panic!("it has not suspended") };
            assert!(said.contains("not the green thread's own"), "{said}");
            assert_eq!(crate::stats().timers, 0);
            crate::sleep(Duration::from_millis(1));
            crate::yield_now();
            crate::inspect::greenlets(true).len()
        });
        assert_eq!(greenlet.join().unwrap(), 2);
    }
}
