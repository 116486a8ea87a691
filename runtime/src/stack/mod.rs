//! Where the stacks of green threads come from, and where they go when their green thread has ended.
//!
//! A stack is a slot of a slab: a large reservation of address space in which pages cost memory only once they
//! are touched. Each slot has a guard at its low end, so running off a stack faults instead of writing over a
//! neighbour, and the fault is reported with the name of the green thread ([`overflow`]). The pool hands the
//! stack that was used last to whoever comes next, since its pages are still in the caches, and gives the pages
//! of those that lie idle back to the kernel when the hub asks for it.
//!
//! What is particular to one operating system stands in `sys`. This room knows no hub, no green thread and no
//! coroutine library: it deals in addresses, and what runs on them is the business of whoever took the stack.

#![cfg_attr(
    not(test),
    expect(dead_code, unused_imports, reason = "the hub, which uses this room, is built on it")
)]

mod error;
mod guard;
mod pool;
mod slab;
mod sys;

use std::num::NonZeroUsize;
use std::ops::Range;

pub(crate) use guard::Guards;
pub(crate) use pool::StackPool;

/// Usable bytes of a stack nobody asked a particular size for: 256 KiB of address space, of which a green thread
/// that is parked in shallow code occupies one page.
pub(crate) const DEFAULT_SIZE: usize = 256 * 1024;

/// The least a stack can have; a request for less gets this much.
pub(crate) const MIN_SIZE: usize = 16 * 1024;

/// The most a stack can have; a request for more is refused.
pub(crate) const MAX_SIZE: usize = 64 << 30;

/// One stack, owned by whoever took it from a [`StackPool`].
///
/// It is nothing but addresses. Dropping it instead of putting it back is safe and forgets the slot: the memory
/// stays mapped for the life of the process, so that a coroutine still standing on it keeps valid ground.
#[derive(Debug)]
pub(crate) struct Stack {
    base: NonZeroUsize,
    limit: NonZeroUsize,
    guard_size: usize,
}

impl Stack {
    /// The highest address, where execution begins; a multiple of 16 and of the page size.
    #[inline]
    pub(crate) fn base(&self) -> NonZeroUsize {
        self.base
    }

    /// The lowest address, the guard included.
    #[inline]
    pub(crate) fn limit(&self) -> NonZeroUsize {
        self.limit
    }

    /// The addresses no access to which succeeds: the low end of the stack.
    #[inline]
    pub(crate) fn guard(&self) -> Range<usize> {
        self.limit.get()..self.limit.get() + self.guard_size
    }

    /// Usable bytes, the guard not included.
    #[inline]
    pub(crate) fn size(&self) -> usize {
        self.base.get() - self.limit.get() - self.guard_size
    }

    /// The usable addresses.
    fn usable(&self) -> Range<usize> {
        self.guard().end..self.base.get()
    }
}
