//! Where the stacks of green threads come from, and where they go when their green thread has ended.
//!
//! A stack is a slot of a slab: a large reservation of address space in which pages cost memory only once
//! they are touched. Each slot has a guard at its low end, so running off a stack faults instead of writing
//! over a neighbour, and the fault is reported with the name of the green thread ([`overflow`]). The pool
//! hands the stack that was used last to whoever comes next, since its pages are still in the caches, and
//! gives the pages of those that lie idle back to the kernel when the hub asks for it.
//!
//! What is particular to one operating system stands in `sys`. This room knows no hub, no green thread and no
//! coroutine library: it deals in addresses, and what runs on them is the business of whoever took the stack.

#[cfg(test)]
mod child;
mod error;
mod guard;
mod overflow;
mod pool;
mod slab;
mod sys;

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use std::arch::asm;
use std::io;
use std::num::NonZeroUsize;
use std::ops::Range;

pub(crate) use overflow::{Running, ThreadAltStack, install};
pub(crate) use pool::StackPool;
pub(crate) use sys::errno;

/// The size of a stack nobody asked a particular size for: 256 KiB of address space, of which a green thread
/// that is parked in shallow code occupies one page of memory.
pub(crate) const DEFAULT_SIZE: usize = 256 * 1024;

/// The least a stack can have; a request for less gets this much. A panic which prints a backtrace takes 24
/// KiB.
pub(crate) const MIN_SIZE: usize = 32 * 1024;

/// The most a stack can have; a request for more is refused.
pub(crate) const MAX_SIZE: usize = 64 << 30;

/// Bytes that [`fetch`] gets at once.
#[cfg(target_arch = "x86_64")]
const CACHE_LINE: usize = 64;

/// One stack, owned by whoever took it from a [`StackPool`].
///
/// It is nothing but addresses. Dropping it instead of putting it back is safe and forgets the slot: the
/// memory stays mapped for the life of the process, so that a coroutine still standing on it keeps valid
/// ground.
#[derive(Debug)]
pub(crate) struct Stack {
    bounds: Bounds,
}

impl Stack {
    /// The highest address, where execution begins; a multiple of 16.
    #[inline]
    pub(crate) fn base(&self) -> NonZeroUsize {
        self.bounds.base
    }

    /// The lowest address, the guard included.
    #[inline]
    pub(crate) fn limit(&self) -> NonZeroUsize {
        self.bounds.limit
    }

    /// Bytes of its pages, the guard not included: what was asked for, rounded up.
    #[inline]
    pub(crate) fn size(&self) -> usize {
        self.bounds.size()
    }

    /// Where it lies.
    #[inline]
    pub(crate) fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// Gives the stack up to whoever keeps the bounds.
    #[inline]
    pub(crate) fn into_bounds(self) -> Bounds {
        self.bounds
    }

    /// Owns a stack again.
    ///
    /// # Safety
    ///
    /// The bounds came from [`into_bounds`](Self::into_bounds), this is done once for each such call, and nothing that stood
    /// on the stack meanwhile is there any more.
    #[inline]
    pub(crate) unsafe fn from_bounds(bounds: Bounds) -> Stack {
        Stack { bounds }
    }
}

/// Where a stack lies, without owning it.
///
/// From low to high addresses: the guard, the pages in use, and in the uppermost of these a few bytes of
/// colour above the base, by which the stacks of a slab differ (see `slab`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    base: NonZeroUsize,
    limit: NonZeroUsize,
    guard_size: u32,
    colour: u32,
}

impl Bounds {
    /// The addresses no access to which succeeds: the low end of the stack.
    #[inline]
    pub(crate) fn guard(&self) -> Range<usize> {
        self.limit.get()..self.limit.get() + self.guard_size as usize
    }

    /// Whether an address lies in this stack.
    #[inline]
    pub(crate) fn contains(&self, address: usize) -> bool {
        self.limit.get() <= address && address < self.base.get()
    }

    /// The pages in use, above the guard.
    #[inline]
    pub(crate) fn pages(&self) -> Range<usize> {
        self.limit.get() + self.guard_size as usize..self.base.get() + self.colour as usize
    }

    /// Bytes of its pages.
    #[inline]
    pub(crate) fn size(&self) -> usize {
        self.pages().len()
    }

    /// Bytes from the deepest page that occupies memory up to the highest: how deep this stack has been used
    /// since its memory was last given back. One system call of 1.5 us, for inspection. A page that has been
    /// swapped out does not count.
    ///
    /// # Errors
    ///
    /// What the system says when it does not tell which pages are resident.
    pub(crate) fn high_water(&self) -> io::Result<usize> {
        let lowest = sys::lowest_resident(self.pages())?;
        Ok(lowest.map_or(0, |page| self.pages().end - page))
    }

    /// Gives back the memory below `sp` of a stack whose coroutine is parked there, but for one page which is
    /// left as a margin for what the switch itself has pushed. [`here`], called by the function that
    /// switches, says what `sp` is; the address of one of its locals is not it, since others may lie far
    /// below. With an address outside the stack nothing happens.
    ///
    /// One system call, of 0.6 us and more with the pages there are: for a green thread that has long been
    /// parked.
    ///
    /// # Errors
    ///
    /// What the system says when it does not take memory back, since the process has locked it.
    ///
    /// # Safety
    ///
    /// Nothing runs on this stack, and all that is alive on it lies at `sp - 4096` or above.
    pub(crate) unsafe fn discard_below(&self, sp: usize) -> io::Result<()> {
        let pages = self.pages();
        let page = sys::page_size();
        let end = (sp / page).saturating_sub(1) * page;
        if !pages.contains(&sp) || end <= pages.start {
            return Ok(());
        }
        // SAFETY: all below `end` is more than one page, of at least 4096 bytes, away from `sp`, so nothing
        // there is alive by the caller's word.
        unsafe { sys::discard(pages.start..end) }
    }
}

/// An address on the current stack below everything that is alive in the caller's frame, but for what the ABI lets lie
/// beneath the stack pointer.
#[inline(always)]
pub(crate) fn here() -> usize {
    let address: usize;
    // SAFETY: copies the stack pointer into a register; touches no memory, no flags.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        asm!("mov {}, rsp", out(reg) address, options(nomem, nostack, preserves_flags))
    };
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        asm!("mov {}, sp", out(reg) address, options(nomem, nostack, preserves_flags))
    };
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        address = frame();
    }
    address
}

/// The same by the address of a local, in a frame below the caller's.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
#[inline(never)]
fn frame() -> usize {
    let local = 0_u8;
    std::hint::black_box(&raw const local).addr()
}

/// Has the processor fetch memory into its caches, for somebody who is about to read there. The address may be any;
/// nothing is read in the sense of the language, and nothing faults. Does nothing where we know no such instruction.
#[inline]
pub(crate) fn fetch(address: usize, bytes: usize) {
    #[cfg(target_arch = "x86_64")]
    for line in (0..bytes).step_by(CACHE_LINE) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let at = std::ptr::without_provenance::<i8>(address.wrapping_add(line));
        // SAFETY: a prefetch is a hint, which is ignored for an address that is not mapped; all of this architecture's
        // processors have it.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (address, bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hint::black_box;

    use corosensei::{Coroutine, CoroutineResult};

    /// A stack as corosensei wants it.
    pub(super) struct Ground(pub(super) Stack);

    // SAFETY: the stack is owned, guarded at its low end, and larger than corosensei's least.
    unsafe impl corosensei::stack::Stack for Ground {
        fn base(&self) -> NonZeroUsize {
            self.0.base()
        }

        fn limit(&self) -> NonZeroUsize {
            self.0.limit()
        }
    }

    /// Uses about `bytes` of the stack it is called on, in frames of a kilobyte.
    #[inline(never)]
    pub(super) fn dig(bytes: usize) -> u64 {
        let frame = black_box([bytes as u8; 1024]);
        let below = if bytes > 1024 { dig(bytes - 1024) } else { 0 };
        below + u64::from(frame[bytes % 1024])
    }

    #[test]
    fn bounds_add_up() {
        let stack = StackPool::new().take(100_000).unwrap();
        let page = sys::page_size();
        let (limit, guard, pages) = (stack.limit().get(), stack.bounds().guard(), stack.bounds().pages());
        assert_eq!((guard.start, guard.end), (limit, limit + page));
        assert_eq!((pages.start, pages.len()), (guard.end, stack.size()));
        assert_eq!(stack.base().get() % 16, 0);
        assert!(pages.end - page < stack.base().get() && stack.base().get() <= pages.end);
    }

    #[test]
    fn high_water_counts_from_the_deepest_touched_page() {
        let page = sys::page_size();
        let stack = StackPool::new().take(DEFAULT_SIZE).unwrap();
        assert_eq!(stack.bounds().high_water().unwrap(), 0);
        for (depth, expected) in [(1, page), (10 * page, 10 * page), (2 * page, 10 * page)] {
            let byte = std::ptr::with_exposed_provenance_mut::<u8>(stack.bounds().pages().end - depth);
            // SAFETY: the byte lies in the stack, which this test owns.
            unsafe { byte.write(1) };
            assert_eq!(stack.bounds().high_water().unwrap(), expected);
        }
    }

    #[test]
    fn a_large_stack_is_looked_at_as_a_whole() {
        let stack = StackPool::new().take(16 << 20).unwrap();
        for (address, expected) in
            [(stack.base().get() - 1, sys::page_size()), (stack.bounds().guard().end, stack.size())]
        {
            // SAFETY: the byte lies in the stack, which this test owns.
            unsafe { std::ptr::with_exposed_provenance_mut::<u8>(address).write(1) };
            assert_eq!(stack.bounds().high_water().unwrap(), expected);
        }
    }

    #[test]
    fn what_lies_below_a_parked_coroutine_is_given_back_and_the_rest_kept() {
        let stack = StackPool::new().take(DEFAULT_SIZE).unwrap();
        let bounds = stack.bounds();
        let mut coroutine = Coroutine::with_stack(Ground(stack), |yielder, ()| {
            let kept = black_box([7_u8; 3000]);
            dig(100 * 1024);
            yielder.suspend(here());
            assert_eq!(black_box(kept), [7; 3000]);
            dig(50 * 1024);
        });
        let CoroutineResult::Yield(sp) = coroutine.resume(()) else { panic!("it does not end yet") };
        assert!(bounds.high_water().unwrap() > 100 * 1024);
        // SAFETY: the coroutine is parked, and but for a few words of the switch all its frames are above
        // `sp`.
        unsafe { bounds.discard_below(sp) }.unwrap();
        assert!(bounds.high_water().unwrap() < 30 * 1024);
        assert!(matches!(coroutine.resume(()), CoroutineResult::Return(())));
    }

    #[test]
    fn nothing_is_given_back_for_an_address_elsewhere() {
        let stack = StackPool::new().take(DEFAULT_SIZE).unwrap();
        let bounds = stack.bounds();
        // SAFETY: the word lies in the stack, which this test owns.
        unsafe { std::ptr::with_exposed_provenance_mut::<u64>(bounds.pages().start).write(1) };
        for sp in [0, stack.limit().get(), bounds.pages().start + 1, bounds.pages().end, usize::MAX] {
            // SAFETY: nothing is alive on this stack at all.
            unsafe { bounds.discard_below(sp) }.unwrap();
            assert_eq!(bounds.high_water().unwrap(), stack.size());
        }
    }
}
