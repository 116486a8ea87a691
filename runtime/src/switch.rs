//! The switch: the only file that names `corosensei`.
//!
//! A [`Fiber`] is a closure on a stack of its own that can be left ([`Fiber::suspend`], called from inside) and
//! entered again ([`Fiber::resume`], called from the hub). What may not enter here: any idea of why somebody
//! waits. Unwinding never crosses a switch: the entry closure catches everything, and a fiber that is dropped
//! while suspended is abandoned, its stack with it, rather than unwound behind the runtime's back.

use std::cell::{Cell, UnsafeCell};
use std::mem;
use std::num::NonZeroUsize;
use std::ptr;

use corosensei::stack::valgrind::ValgrindStackRegistration;
use corosensei::{Coroutine, CoroutineResult, Yielder};

use crate::stack::{self, Bounds, Stack};

// SAFETY: `Stack` owns its memory exclusively until it is put back or dropped (a drop leaks it), its base and
// limit are page aligned or coloured in multiples of 16, and the pool installs a guard at the low end before it
// hands a stack out; `MIN_SIZE` is above corosensei's minimum of 4096 usable bytes.
unsafe impl corosensei::stack::Stack for Stack {
    #[inline]
    fn base(&self) -> NonZeroUsize {
        Stack::base(self)
    }

    #[inline]
    fn limit(&self) -> NonZeroUsize {
        Stack::limit(self)
    }
}

/// A closure on its own stack.
pub(crate) struct Fiber {
    coroutine: UnsafeCell<Option<Coroutine<Door, (), (), Stack>>>,
    /// The way out of the coroutine, which it leaves here whenever it is entered for the first time.
    yielder: Cell<*const Yielder<Door, ()>>,
    bounds: Bounds,
    /// The stack pointer of the last [`suspend`](Self::suspend).
    left_at: Cell<usize>,
    running: Cell<bool>,
    /// Tells valgrind, if the program runs under it, that this memory is a stack; else a few idle instructions.
    _valgrind: ValgrindStackRegistration,
}

/// What each resume hands in: where the yielder is to be put.
struct Door(*const Cell<*const Yielder<Door, ()>>);

impl Fiber {
    /// A fiber that will run `entry` on `stack` at the first [`resume`](Self::resume). `entry` must not unwind;
    /// one that does ends the process.
    #[inline]
    pub(crate) fn new(stack: Stack, entry: impl FnOnce() + 'static) -> Fiber {
        let bounds = stack.bounds();
        let coroutine = Coroutine::with_stack(stack, move |yielder: &Yielder<Door, ()>, door: Door| {
            // SAFETY: this closure is entered by `resume(&self)`, which handed in the address of its own cell: the fiber
            // is borrowed and alive now, and the cell is read and written by this thread only.
            unsafe { (*door.0).set(ptr::from_ref(yielder)) };
            entry();
        });
        Fiber {
            coroutine: UnsafeCell::new(Some(coroutine)),
            yielder: Cell::new(ptr::null()),
            bounds,
            left_at: Cell::new(0),
            running: Cell::new(false),
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
        assert!(!self.running.replace(true), "a green thread was resumed from inside itself");
        // SAFETY: `running` was false, so no other `resume` is active on this fiber and nobody else borrows the
        // coroutine: `new` has exclusive access, `take_stack` checks `running` too, `suspend` does not touch it. `Fiber` is
        // `!Sync`, so no other thread is involved.
        let coroutine = unsafe { &mut *self.coroutine.get() };
        let done = match coroutine.as_mut().expect("present until take_stack").resume(Door(&raw const self.yielder)) {
            CoroutineResult::Yield(()) => false,
            CoroutineResult::Return(()) => true,
        };
        self.running.set(false);
        done
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
        let here = stack::here();
        self.left_at.set(here);
        assert!(
            self.running.get() && self.bounds.contains(here),
            "a blocking call was made on a stack that is not the green thread's own"
        );
        // SAFETY: the fiber runs and the caller is on its stack (checked above), so `entry` has been called,
        // which set `yielder` first; the yielder lives at the bottom of that very stack until `entry` returns.
        unsafe { (*self.yielder.get()).suspend(()) };
    }

    /// Gives back the memory of the stack below where the fiber stands. Does nothing while it runs and before it has
    /// run.
    pub(crate) fn trim(&self) {
        if self.running.get() || self.left_at.get() == 0 {
            return;
        }
        // SAFETY: the fiber does not run, so it stands where it was last left, in `suspend`, whose frame's lower
        // end `here` was taken for; what the switch pushed below that are a few registers, within the page that
        // is spared. (An ended fiber has nothing alive at all.)
        // A failure leaves the memory where it is, which is all one can do about it.
        let _ = unsafe { self.bounds.discard_below(self.left_at.get()) };
    }

    /// The stack of a fiber that has ended; `None` if it has not, and the second time.
    pub(crate) fn take_stack(&self) -> Option<Stack> {
        if self.running.get() {
            return None;
        }
        // SAFETY: the fiber does not run, so no `resume` holds the coroutine, and nobody else refers to it.
        let coroutine = unsafe { &mut *self.coroutine.get() };
        coroutine.take_if(|coroutine| coroutine.done()).map(Coroutine::into_stack)
    }
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
