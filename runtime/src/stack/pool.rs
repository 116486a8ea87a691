//! The stacks of one hub: the free ones are kept in order of warmth, those in use are in the hands of others.

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

/// Pages of the guard beneath each stack. One is enough for code which probes its stack page by page, as
/// Rust's does.
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

    /// A stack of `size` bytes, rounded up to [`MIN_SIZE`] and to whole pages; the guard comes on top, and
    /// the colour takes up to 448 bytes of it. Its content is zeroes, or what its last user left there.
    ///
    /// A stack that was used before costs 8 ns. A new one costs 0.4 us for its guard, which is
    /// made together with those of others, and the page fault when it is first touched.
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
        let size = (size.max(MIN_SIZE) + self.page - 1) & !(self.page - 1);
        if let Some(class) = self.classes.iter_mut().find(|class| class.layout.size == size)
            && let Some(stack) = class.free.pop()
        {
            class.trimmed = class.trimmed.min(class.free.len());
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

    /// Gives the memory of free stacks back to the system, but for the `keep_hot` of each size that would be
    /// taken next, whose pages stay warm. Sees to no more than `at_most` stacks, the coldest first, so that a
    /// hub with much to give back can do it in portions, and not again to one that has not been used since.
    /// Returns how many it saw to: fewer than `at_most` means that all is done.
    ///
    /// It costs 0.4 us for each stack when they are neighbours, 1.4 us and more when not, and a page fault
    /// when that stack is taken again: something for a hub that has nothing else to do.
    pub(crate) fn trim(&mut self, keep_hot: usize, at_most: usize) -> usize {
        self.classes.iter_mut().fold(0, |done, class| done + class.trim(keep_hot, at_most - done))
    }

    /// How many stacks have been taken and not put back.
    pub(crate) fn in_use(&self) -> usize {
        let of_class =
            |class: &Class| class.slabs.iter().map(Slab::cut_slots).sum::<usize>() - class.free.len();
        self.classes.iter().map(of_class).sum()
    }

    /// A stack no one has used yet.
    #[cold]
    fn take_new(&mut self, size: usize) -> io::Result<Stack> {
        let layout = Layout { size, guard_size: GUARD_PAGES * self.page };
        let index = self.classes.iter().position(|class| class.layout == layout).unwrap_or_else(|| {
            self.classes.push(Class { layout, slabs: Vec::new(), free: Vec::new(), trimmed: 0 });
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
    /// How many of them, counted from the coldest, have not been used since they were trimmed.
    trimmed: usize,
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

    /// Gives back the memory of cold stacks and returns how many these were.
    fn trim(&mut self, keep_hot: usize, at_most: usize) -> usize {
        let cold = self.free.len().saturating_sub(keep_hot);
        let end = cold.min(self.trimmed.saturating_add(at_most));
        let Some(stacks) = self.free.get_mut(self.trimmed..end) else { return 0 };
        // One cold stack is as good as another, so their order is free; that of addresses makes neighbours of
        // those which are, and one call gives back a whole row of them, whose guards stay in place.
        stacks.sort_unstable_by_key(Stack::limit);
        for row in stacks.chunk_by(|low, high| low.bounds().pages().end == high.limit().get()) {
            let (Some(first), Some(last)) = (row.first(), row.last()) else { continue };
            let memory = first.bounds().pages().start..last.bounds().pages().end;
            // SAFETY: a stack in the free list was put there by its owner, and nothing stands on it any more.
            // A failure (the process has locked its memory) leaves things as they are, which is all one can
            // do.
            let _ = unsafe { sys::discard(memory) };
        }
        let count = stacks.len();
        self.trimmed = end;
        count
    }

    /// Unmaps each slab whose stacks are all back.
    fn release(mut self) {
        self.free.sort_unstable_by_key(|stack| stack.limit());
        for slab in self.slabs {
            let range = slab.range();
            let first = self.free.partition_point(|stack| stack.limit().get() < range.start);
            let end = self.free.partition_point(|stack| stack.limit().get() < range.end);
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
    use super::super::DEFAULT_SIZE;
    use super::super::child::{in_child, stderr};
    use super::*;
    use std::ops::Range;
    use std::os::fd::AsRawFd;
    use std::ptr;

    /// Writes and reads back the highest and the lowest usable word.
    fn touch_ends(stack: &Stack) {
        for address in [stack.base().get() - 8, stack.bounds().guard().end] {
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
            stacks.sort_by_key(|stack| stack.limit());
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

    #[test]
    fn neighbours_differ_in_colour() {
        let mut pool = StackPool::new();
        let places: Vec<usize> =
            (0..8).map(|_| pool.take(MIN_SIZE).unwrap().base().get() % sys::page_size()).collect();
        assert!((1..8).all(|index| !places[..index].contains(&places[index])), "{places:?}");
    }

    #[test]
    fn sizes_are_rounded_up_and_each_has_its_own_stacks() {
        let page = sys::page_size();
        let mut pool = StackPool::new();
        for (asked, size) in [
            (0, MIN_SIZE),
            (1, MIN_SIZE),
            (MIN_SIZE + 1, MIN_SIZE + page),
            (100 * page, 100 * page),
            (100 * page - 1, 100 * page),
            (64 << 20, 64 << 20),
        ] {
            let stack = pool.take(asked).unwrap();
            assert_eq!(stack.size(), size, "asked for {asked}");
            touch_ends(&stack);
            pool.put(stack);
        }
        let sizes: Vec<usize> = pool.classes.iter().map(|class| class.layout.size).collect();
        assert_eq!(sizes, [MIN_SIZE, MIN_SIZE + page, 100 * page, 64 << 20]);
    }

    #[test]
    fn an_absurd_size_is_refused_with_the_largest_there_is() {
        for asked in [MAX_SIZE + 1, usize::MAX] {
            let error = StackPool::new().take(asked).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            let text = error.to_string();
            assert!(text.contains(&asked.to_string()) && text.contains("64 GiB"), "{text}");
        }
    }

    #[test]
    fn a_guard_refuses_system_calls_too_and_survives_trimming() {
        for guards in [Guards::best(), Guards::Mprotect] {
            let mut pool = StackPool::with_guards(guards);
            let stacks: Vec<Stack> = (0..4).map(|_| pool.take(MIN_SIZE).unwrap()).collect();
            let guarded: Vec<_> = stacks.iter().map(|stack| stack.bounds().guard()).collect();
            for round in 0..3 {
                for guard in &guarded {
                    assert!(refused(guard.start) && refused(guard.end - 1), "round {round}, {guards:?}");
                    assert!(!refused(guard.end), "round {round}, {guards:?}");
                }
                if round == 0 {
                    stacks.iter().for_each(touch_ends);
                    // SAFETY: nothing is alive on the four stacks, which are neighbours.
                    unsafe { sys::discard(guarded[0].start..stacks[3].bounds().pages().end) }.unwrap();
                }
            }
        }
    }

    #[test]
    fn each_of_many_stacks_has_its_guard() {
        let mut pool = StackPool::new();
        let stacks: Vec<Stack> = (0..1000).map(|_| pool.take(MIN_SIZE).unwrap()).collect();
        for (index, stack) in stacks.iter().enumerate() {
            let guard = stack.bounds().guard();
            assert!(refused(guard.start) && refused(guard.end - 1) && !refused(guard.end), "stack {index}");
        }
    }

    #[test]
    fn light_guards_do_not_split_the_mapping_and_the_others_take_two_for_each_stack() {
        for guards in [Guards::best(), Guards::Mprotect] {
            let mut pool = StackPool::with_guards(guards);
            let stacks: Vec<Stack> = (0..1000).map(|_| pool.take(MIN_SIZE).unwrap()).collect();
            let slabs: Vec<_> = pool.classes[0].slabs.iter().map(Slab::range).collect();
            let mappings = mappings_in(&slabs);
            match guards {
                Guards::Light => assert!(mappings <= slabs.len(), "{mappings} in {} slabs", slabs.len()),
                Guards::Mprotect => assert!((1990..=2010).contains(&mappings), "{mappings}"),
            }
            assert!(slabs.len() <= 8);
            drop(stacks);
        }
    }

    #[test]
    fn trimming_gives_back_cold_stacks_and_keeps_hot_ones() {
        let mut pool = StackPool::new();
        let depth = 20 * sys::page_size();
        let mut stacks: Vec<Stack> = (0..10).map(|_| pool.take(DEFAULT_SIZE).unwrap()).collect();
        for (mark, stack) in stacks.iter().enumerate() {
            mark_pages(stack, depth, mark as u64 + 1);
        }
        // The first is put back last, and so is the hottest.
        stacks.reverse();
        let bounds: Vec<_> = stacks.iter().map(Stack::bounds).collect();
        stacks.into_iter().for_each(|stack| pool.put(stack));

        assert_eq!(pool.trim(3, 4), 4);
        assert_eq!(bounds.iter().filter(|bounds| bounds.high_water().unwrap() == 0).count(), 4);
        assert_eq!(pool.trim(3, 4), 3);
        assert_eq!(pool.trim(3, 4), 0);
        for (index, bounds) in bounds.iter().enumerate() {
            let hot = index >= 7;
            assert_eq!(bounds.high_water().unwrap(), if hot { depth } else { 0 }, "stack {index}");
        }
        for mark in 1..=3 {
            assert_marked(&pool.take(DEFAULT_SIZE).unwrap(), depth, mark);
        }
    }

    #[test]
    fn a_trimmed_stack_is_looked_at_again_once_it_has_been_used() {
        let mut pool = StackPool::new();
        let depth = 4 * sys::page_size();
        for _ in 0..3 {
            let (one, other) = (pool.take(DEFAULT_SIZE).unwrap(), pool.take(DEFAULT_SIZE).unwrap());
            mark_pages(&one, depth, 1);
            mark_pages(&other, depth, 2);
            let bounds = [one.bounds(), other.bounds()];
            pool.put(one);
            pool.put(other);
            assert_eq!(pool.trim(0, usize::MAX), 2);
            assert_eq!(bounds.map(|bounds| bounds.high_water().unwrap()), [0, 0]);
            assert_eq!(pool.trim(0, usize::MAX), 0);
        }
    }

    #[test]
    fn a_pool_unmaps_its_slabs_but_for_those_with_a_stack_out() {
        let out = in_child(a_pool_unmaps_its_slabs_but_for_those_with_a_stack_out, || {
            for guards in [Guards::best(), Guards::Mprotect] {
                let mut pool = StackPool::with_guards(guards);
                let mut stacks: Vec<Stack> = (0..40).map(|_| pool.take(DEFAULT_SIZE).unwrap()).collect();
                let slabs: Vec<_> = pool.classes[0].slabs.iter().map(Slab::range).collect();
                assert_eq!(slabs.len(), 3);
                let kept = stacks.remove(20);
                mark_pages(&kept, DEFAULT_SIZE, 7);
                stacks.into_iter().for_each(|stack| pool.put(stack));
                drop(pool);
                let mapped: Vec<bool> =
                    slabs.iter().map(|slab| mappings_in(std::slice::from_ref(slab)) > 0).collect();
                assert_eq!(mapped, [false, true, false]);
                assert_marked(&kept, DEFAULT_SIZE, 7);
            }
        });
        assert!(out.status.success(), "{}", stderr(&out));
    }

    #[test]
    fn under_a_limit_on_address_space_slabs_shrink_and_the_error_names_the_limit() {
        let out = in_child(under_a_limit_on_address_space_slabs_shrink_and_the_error_names_the_limit, || {
            let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
            let in_use: u64 = statm.split(' ').next().unwrap().parse().unwrap();
            let room = in_use * sys::page_size() as u64 + (50 << 20);
            let limit = libc::rlimit { rlim_cur: room, rlim_max: room };
            // SAFETY: the call changes a limit of this process and no memory.
            assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) }, 0);
            let mut pool = StackPool::new();
            let (stacks, error) = take_all(&mut pool, DEFAULT_SIZE);
            // Slabs of 16, 16, 32, 64 leave 70 stacks' worth of the 50 MiB, which no slab of 128 fits in.
            assert!(stacks.len() > 150, "{}", stacks.len());
            assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
            assert!(error.to_string().contains("ulimit -v"), "{error}");
        });
        assert!(out.status.success(), "{}", stderr(&out));
    }

    #[test]
    fn without_light_guards_the_error_names_the_limit_on_mappings() {
        let out = in_child(without_light_guards_the_error_names_the_limit_on_mappings, || {
            let limit = sys::mapping_limit().unwrap();
            let mut pool = StackPool::with_guards(Guards::Mprotect);
            let (stacks, error) = take_all(&mut pool, MIN_SIZE);
            let had = stacks.len();
            assert!((limit / 2 - 100..=limit / 2).contains(&had), "{had} of {limit}");
            assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
            let text = error.to_string();
            for part in [&format!("after {had} of them"), &limit.to_string(), "vm.max_map_count"] {
                assert!(text.contains(part), "{text}");
            }
            // What was had before is still good, and a stack put back can be had again.
            stacks.iter().for_each(touch_ends);
            let last = stacks.into_iter().next_back().unwrap();
            pool.put(last);
            assert!(pool.take(MIN_SIZE).is_ok());
        });
        assert!(out.status.success(), "{}", stderr(&out));
    }

    /// Whether the kernel refuses to read one byte from the address.
    fn refused(address: usize) -> bool {
        let (_reader, writer) = io::pipe().unwrap();
        // SAFETY: the kernel checks the address, and reads one byte if it may.
        let written = unsafe { libc::write(writer.as_raw_fd(), ptr::with_exposed_provenance(address), 1) };
        let error = io::Error::last_os_error();
        assert!(written == 1 || error.raw_os_error() == Some(libc::EFAULT), "{error}");
        written != 1
    }

    /// Writes `mark` to each page down to `depth`.
    fn mark_pages(stack: &Stack, depth: usize, mark: u64) {
        for word in words(stack, depth) {
            // SAFETY: the word lies in the usable part of a stack which the caller owns.
            unsafe { word.write(mark) };
        }
    }

    fn assert_marked(stack: &Stack, depth: usize, mark: u64) {
        for word in words(stack, depth) {
            // SAFETY: the word lies in the usable part of a stack which the caller owns.
            assert_eq!(unsafe { word.read() }, mark);
        }
    }

    /// A word of each page down to `depth`.
    fn words(stack: &Stack, depth: usize) -> impl Iterator<Item = *mut u64> {
        let end = stack.bounds().pages().end;
        (1..=depth / sys::page_size())
            .map(move |page| ptr::with_exposed_provenance_mut(end - page * sys::page_size()))
    }

    /// How many mappings of this process lie in the ranges.
    fn mappings_in(ranges: &[Range<usize>]) -> usize {
        let overlaps = |line: &str| {
            let (start, end) = line.split_once(' ').and_then(|(range, _)| range.split_once('-')).unwrap();
            let [start, end] = [start, end].map(|hex| usize::from_str_radix(hex, 16).unwrap());
            ranges.iter().any(|range| start < range.end && range.start < end)
        };
        std::fs::read_to_string("/proc/self/maps").unwrap().lines().filter(|line| overlaps(line)).count()
    }

    /// As many stacks as there are to be had, and why there are no more.
    fn take_all(pool: &mut StackPool, size: usize) -> (Vec<Stack>, io::Error) {
        // No room to grow may be left for the list at the end.
        let mut stacks = Vec::with_capacity(100_000);
        loop {
            match pool.take(size) {
                Ok(stack) => stacks.push(stack),
                Err(error) => return (stacks, error),
            }
        }
    }
}
