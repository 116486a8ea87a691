//! Which greenlet holds a lock, where libc knows only the thread.
//!
//! A table by the lock's address, for greenlets other than main: a lock that libc says this thread holds and that isn't here is
//! held by main. So what was locked before there was a hub is right, too. An entry counts only together with libc's word that
//! the thread holds the lock; what a lock's last life has left behind is replaced when it is taken the next time.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicUsize, Ordering};

use greenlet::foreign;

use crate::lock::Lock;
use crate::raw::syscall;

/// A greenlet, of all hubs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Holder {
    hub: usize,
    greenlet: u64,
}

impl Holder {
    /// Who runs.
    pub(super) fn running() -> Holder {
        Holder { hub: foreign::hub_id().unwrap_or(0), greenlet: foreign::current_id().unwrap_or(0) }
    }

    fn is_main(self) -> bool {
        self.greenlet == 0
    }
}

/// Who runs has taken a lock that was free. False if there is no memory to note it.
pub(super) fn taken(lock: usize) -> bool {
    let holder = Holder::running();
    let shard = Shard::of(lock);
    crate::forks::prepare();
    if holder.is_main() && shard.count.load(Ordering::Relaxed) == 0 {
        return true;
    }
    shard.with(|entries| {
        match (entries.as_slice().iter().position(|entry| entry.lock == lock), holder.is_main()) {
            (Some(index), true) => entries.remove(index),
            (Some(index), false) => entries.as_slice()[index].holder = holder,
            (None, true) => {}
            (None, false) => return entries.push(Entry { lock, holder }),
        }
        true
    })
}

/// Whether, of this thread's greenlets, it is the one that runs which holds a lock. To be asked about a lock that this
/// thread holds.
pub(super) fn is_mine(lock: usize) -> bool {
    let me = Holder::running();
    let shard = Shard::of(lock);
    if shard.count.load(Ordering::Relaxed) == 0 {
        return me.is_main();
    }
    shard.with(|entries| {
        match entries.as_slice().iter().find(|entry| entry.lock == lock && entry.holder.hub == me.hub) {
            Some(entry) => entry.holder == me,
            None => me.is_main(),
        }
    })
}

/// Who runs is about to give a lock back.
pub(super) fn given_back(lock: usize) {
    let me = Holder::running();
    let shard = Shard::of(lock);
    if me.is_main() || shard.count.load(Ordering::Relaxed) == 0 {
        return;
    }
    shard.with(|entries| {
        let entry = Entry { lock, holder: me };
        if let Some(index) = entries.as_slice().iter().position(|other| *other == entry) {
            entries.remove(index);
        }
    });
}

/// Takes all locks, for a fork.
pub(crate) fn hold_all() {
    SHARDS.iter().for_each(|shard| shard.lock.hold());
}

/// Gives back what [`hold_all`] has taken.
pub(crate) fn let_go_all() {
    SHARDS.iter().for_each(|shard| shard.lock.let_go());
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Entry {
    lock: usize,
    holder: Holder,
}

const COUNT: usize = 64;
static SHARDS: [Shard; COUNT] = [const { Shard::new() }; COUNT];

#[repr(align(64))]
struct Shard {
    lock: Lock,
    count: AtomicUsize,
    entries: UnsafeCell<Memory>,
}

// SAFETY: the memory is used under the lock only.
unsafe impl Sync for Shard {}

/// Entries in memory straight from the kernel: an allocator may use locks.
struct Memory {
    first: *mut Entry,
    room: usize,
}

/// A shard whose lock is held.
struct Entries<'a>(&'a Shard);

impl Shard {
    const fn new() -> Shard {
        let memory = Memory { first: std::ptr::null_mut(), room: 0 };
        Shard { lock: Lock::new(), count: AtomicUsize::new(0), entries: UnsafeCell::new(memory) }
    }

    fn of(lock: usize) -> &'static Shard {
        &SHARDS[lock.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (usize::BITS - COUNT.ilog2())]
    }

    fn with<R>(&self, f: impl FnOnce(&mut Entries<'_>) -> R) -> R {
        self.lock.with(|| f(&mut Entries(self)))
    }
}

impl Entries<'_> {
    fn as_slice(&mut self) -> &mut [Entry] {
        // SAFETY: the lock is held.
        let memory = unsafe { &*self.0.entries.get() };
        match memory.first.is_null() {
            true => &mut [],
            // SAFETY: so many have been written, and the lock is held for as long as `self` is borrowed.
            false => unsafe {
                std::slice::from_raw_parts_mut(memory.first, self.0.count.load(Ordering::Relaxed))
            },
        }
    }

    fn remove(&mut self, index: usize) {
        let entries = self.as_slice();
        let last = entries.len() - 1;
        entries.swap(index, last);
        self.0.count.store(last, Ordering::Relaxed);
    }

    fn push(&mut self, entry: Entry) -> bool {
        let count = self.0.count.load(Ordering::Relaxed);
        // SAFETY: the lock is held.
        let memory = unsafe { &mut *self.0.entries.get() };
        if count == memory.room && !memory.grow(count) {
            return false;
        }
        // SAFETY: there is room.
        unsafe { memory.first.add(count).write(entry) };
        self.0.count.store(count + 1, Ordering::Relaxed);
        true
    }
}

impl Memory {
    /// Twice the room, and a page at first.
    fn grow(&mut self, count: usize) -> bool {
        let bytes = (self.room * 2 * size_of::<Entry>()).next_multiple_of(4096).max(4096);
        // SAFETY: new memory, for nobody else.
        let new = unsafe {
            syscall!(
                SYS_mmap,
                0,
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1isize,
                0
            )
        };
        if (-4095..0).contains(&new) {
            return false;
        }
        let new = std::ptr::with_exposed_provenance_mut::<Entry>(new as usize);
        if !self.first.is_null() {
            // SAFETY: both have room for so many; the old memory came from here, and nobody refers to it any more.
            unsafe {
                new.copy_from_nonoverlapping(self.first, count);
                let old = (self.room * size_of::<Entry>()).next_multiple_of(4096);
                syscall!(SYS_munmap, self.first, old);
            }
        }
        (self.first, self.room) = (new, bytes / size_of::<Entry>());
        true
    }
}
