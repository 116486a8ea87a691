//! The stacks of one hub: those in use are counted, those free are kept warm.

use std::io;

use super::error::StackError;
use super::guard::Guards;
use super::slab::{Layout, Slab};
use super::{MAX_SIZE, MIN_SIZE, Stack, sys};

/// Slots of the first slab of a class; each further slab has as many as there are already.
const FIRST_SLOTS: usize = 16;

/// Address space of one slab at most (but one slot at least). It bounds what a class reserves and never uses;
/// a million stacks of the default size take some 70 slabs of this size.
const MAX_SLAB: usize = 4 << 30;

/// Pages of the guard beneath each stack. One is enough for code which probes its stack page by page, as Rust's does.
const GUARD_PAGES: usize = 1;

/// The stacks of one hub, used from its thread alone.
///
/// Stacks of one size (in whole pages) make up a class. The one put back last is taken first.
///
/// When the pool is dropped it unmaps every slab all of whose stacks are back. A slab with a stack out stays
/// mapped for the life of the process, since something may still stand on it.
#[derive(Debug)]
pub(crate) struct StackPool {
    guards: Guards,
    page: usize,
    classes: Vec<Class>,
}

impl StackPool {
    /// A pool which maps nothing until the first stack is taken.
    pub(crate) fn new() -> StackPool {
        StackPool::with_guards(Guards::best())
    }

    /// A pool whose guards are made in the given way, for tests of the fall-back.
    pub(crate) fn with_guards(guards: Guards) -> StackPool {
        StackPool { guards, page: sys::page_size(), classes: Vec::new() }
    }

    /// A stack with at least `size` usable bytes: rounded up to whole pages, and to [`MIN_SIZE`].
    ///
    /// Its content is arbitrary: zeroes, or what its last user left there.
    ///
    /// # Errors
    ///
    /// - `InvalidInput`: more than [`MAX_SIZE`].
    /// - `OutOfMemory`: no address space, or no mapping for the guard; the message says what to change.
    #[inline]
    pub(crate) fn take(&mut self, size: usize) -> io::Result<Stack> {
        if size > MAX_SIZE {
            return Err(StackError::TooLarge { asked: size }.into());
        }
        let size = size.max(MIN_SIZE).next_multiple_of(self.page);
        if let Some(class) = self.classes.iter_mut().find(|class| class.layout.size == size)
            && let Some(stack) = class.free.pop()
        {
            return Ok(stack);
        }
        self.take_new(size)
    }

    /// Takes a stack back; it is the next one to be taken of its size. Nothing may stand on it any more.
    ///
    /// A stack of another pool may be used here, but the slab it came from will never be unmapped.
    #[inline]
    pub(crate) fn put(&mut self, stack: Stack) {
        if let Some(class) = self.classes.iter_mut().find(|class| class.layout.size == stack.size()) {
            class.free.push(stack);
        }
    }

    /// A stack no one has used yet.
    #[cold]
    fn take_new(&mut self, size: usize) -> io::Result<Stack> {
        let layout = Layout { size, guard_size: GUARD_PAGES * self.page };
        let index = self.classes.iter().position(|class| class.layout == layout).unwrap_or_else(|| {
            self.classes.push(Class { layout, slabs: Vec::new(), free: Vec::new() });
            self.classes.len() - 1
        });
        self.classes[index].cut(self.guards)
    }
}

impl Drop for StackPool {
    fn drop(&mut self) {
        self.classes.drain(..).for_each(Class::release);
    }
}

/// The stacks of one size.
#[derive(Debug)]
struct Class {
    layout: Layout,
    /// Only the last has slots left to cut.
    slabs: Vec<Slab>,
    /// The last is the hottest.
    free: Vec<Stack>,
}

impl Class {
    /// Cuts a new stack, from a new slab if need be.
    fn cut(&mut self, guards: Guards) -> io::Result<Stack> {
        loop {
            let stacks = self.slabs.iter().map(Slab::cut_slots).sum();
            if let Some(slab) = self.slabs.last_mut()
                && let Some(stack) = slab.cut(guards).map_err(|cause| StackError::no_guard(stacks, cause))?
            {
                return Ok(stack);
            }
            self.grow()?;
        }
    }

    /// Adds a slab: as large as planned, or as large as the system allows.
    fn grow(&mut self) -> io::Result<()> {
        let have: usize = self.slabs.iter().map(Slab::slots).sum();
        let mut slots = have.max(FIRST_SLOTS).min(MAX_SLAB / self.layout.slot()).max(1);
        loop {
            match Slab::new(self.layout, slots) {
                Ok(slab) => break self.slabs.push(slab),
                // Under a limit on address space the plan may not fit while a smaller slab does.
                Err(_) if slots > 1 => slots /= 2,
                Err(cause) => return Err(StackError::NoRoom { bytes: self.layout.size, cause }.into()),
            }
        }
        Ok(())
    }

    /// Unmaps each slab whose stacks are all back.
    fn release(mut self) {
        self.free.sort_unstable_by_key(|stack| stack.limit);
        for slab in self.slabs {
            let range = slab.range();
            let first = self.free.partition_point(|stack| stack.limit.get() < range.start);
            let end = self.free.partition_point(|stack| stack.limit.get() < range.end);
            if end - first == slab.cut_slots() {
                // SAFETY: each stack exists once, and as many as were ever cut from this slab are in the free
                // list: whoever had one gave it back, and the list goes with this pool.
                unsafe { slab.release() }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ptr;

    /// Writes and reads back the highest and the lowest usable word.
    fn touch_ends(stack: &Stack) {
        for address in [stack.base().get() - 8, stack.guard().end] {
            let word = ptr::with_exposed_provenance_mut::<u64>(address);
            // SAFETY: the word lies within the usable part of a stack this test owns.
            unsafe {
                word.write(address as u64);
                assert_eq!(word.read(), address as u64);
            }
        }
    }

    #[test]
    fn stacks_do_not_overlap() {
        for guards in [Guards::best(), Guards::Mprotect] {
            let mut pool = StackPool::with_guards(guards);
            let mut stacks: Vec<Stack> =
                (0..200).map(|i| pool.take([MIN_SIZE, 64 * 1024, 100_000][i % 3]).unwrap()).collect();
            stacks.sort_by_key(|stack| stack.limit);
            for pair in stacks.windows(2) {
                assert!(pair[0].base().get() <= pair[1].limit().get());
            }
            stacks.iter().for_each(touch_ends);
        }
    }

    #[test]
    fn the_stack_put_back_last_is_taken_first() {
        let mut pool = StackPool::new();
        let stacks: Vec<Stack> = (0..3).map(|_| pool.take(MIN_SIZE).unwrap()).collect();
        let bases: Vec<_> = stacks.iter().map(Stack::base).collect();
        stacks.into_iter().for_each(|stack| pool.put(stack));
        let again: Vec<_> = (0..3).map(|_| pool.take(MIN_SIZE).unwrap().base()).collect();
        assert_eq!(again, bases.into_iter().rev().collect::<Vec<_>>());
    }
}
