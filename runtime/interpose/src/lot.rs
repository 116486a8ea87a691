//! Greenlets that wait for a word of memory, by its address: what futexes, pthread's locks and semaphores have in common.
//!
//! One list for the whole process, since who ends a wait may be on any thread. It allocates nothing, neither to wait nor to
//! call, so that an allocator may use locks that are interposed: places lie on the stacks of those who wait.

use std::cell::{Cell, UnsafeCell};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, compiler_fence, fence};

use greenlet::foreign::{Deadline, Parker, Woken};

use crate::forks;
use crate::lock::Lock;

/// How a wait has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    /// Somebody has [called](call).
    Called,
    /// There was nothing to wait for.
    Changed,
    Deadline,
    /// A kill or the end of a timeout, told once.
    Interrupted,
    /// The caller cannot be parked, and nobody has waited.
    Refused,
}

/// How a wait is done.
pub(crate) struct Wait {
    pub(crate) address: usize,
    /// Who calls names the bits of those whom it means.
    pub(crate) bits: u32,
    pub(crate) deadline: Option<Deadline>,
    /// Whether it is told of kills and timeouts.
    pub(crate) interruptible: bool,
    /// The name of the call, for reports.
    pub(crate) why: &'static &'static str,
}

impl Wait {
    /// Waits until it is called. When it has its place in the list, `still` tells whether it is to wait at all: who makes
    /// that untrue and calls afterwards is not missed. Then `settled` is run, before it parks.
    pub(crate) fn run(&self, still: impl FnOnce() -> bool, settled: impl FnOnce()) -> Waited {
        if HOLDING.get() {
            // A signal's handler, which has interrupted this very thing.
            return Waited::Refused;
        }
        forks::prepare();
        let Some(parker) = Parker::new() else { return Waited::Refused };
        let place = Place {
            parker,
            address: self.address,
            bits: self.bits,
            links: UnsafeCell::new(Links { previous: ptr::null(), next: ptr::null(), listed: false }),
        };
        let shard = Shard::of(self.address);
        let stays = shard.with(|list| {
            list.push(&place);
            // So that who changes the word sees this place, or this sees the change: see `call`.
            fence(Ordering::SeqCst);
            let stays = still();
            if !stays {
                list.remove(&place);
            }
            stays
        });
        if !stays {
            return Waited::Changed;
        }
        settled();
        UNDER_WAY.set(UNDER_WAY.get() + 1);
        let waited = loop {
            let woken = place.parker.park(self.why, self.deadline, self.interruptible);
            if place.parker.is_called() {
                break Waited::Called;
            }
            let waited = match woken {
                Woken::Event => continue,
                Woken::Deadline => Waited::Deadline,
                Woken::Interrupted => Waited::Interrupted,
                Woken::Refused => Waited::Refused,
            };
            // Somebody may have called meanwhile.
            break if shard.with(|list| list.remove(&place)) { waited } else { Waited::Called };
        };
        UNDER_WAY.set(UNDER_WAY.get() - 1);
        waited
    }
}

/// Calls at most `count` of those who wait at an address for one of these bits, those first who came first. Gives how many. A few
/// nanoseconds if nobody waits.
///
/// May be used in a signal handler. If that has interrupted this thread in the midst of a list, it does not wait for it: all who
/// wait there are called a little later, and find that it was for nothing, or not.
pub(crate) fn call(address: usize, bits: u32, count: usize) -> usize {
    // The word was changed before: either this sees who has a place, or who takes one sees the change.
    fence(Ordering::SeqCst);
    call_fenced(address, bits, count)
}

/// As [`call`], where an atomic exchange or the like has changed the word, as libc's locks do: on x86-64 that is as good as a fence.
#[inline]
pub(crate) fn call_after_exchange(address: usize, bits: u32, count: usize) -> usize {
    fence_after_exchange();
    call_fenced(address, bits, count)
}

#[inline]
fn fence_after_exchange() {
    match cfg!(target_arch = "x86_64") {
        true => compiler_fence(Ordering::SeqCst),
        false => fence(Ordering::SeqCst),
    }
}

#[inline]
fn call_fenced(address: usize, bits: u32, count: usize) -> usize {
    let shard = Shard::of(address);
    if shard.waiting.load(Ordering::Relaxed) == 0 {
        return 0;
    }
    shard.call_some(address, bits, count)
}

/// How many wait at an address.
pub(crate) fn waiting(address: usize) -> usize {
    let shard = Shard::of(address);
    if shard.waiting.load(Ordering::Relaxed) == 0 {
        return 0;
    }
    shard.with(|list| {
        let (mut count, mut place) = (0, list.ends().first);
        // SAFETY: as in `call`.
        while let Some(this) = unsafe { place.as_ref() } {
            count += usize::from(this.address == address);
            place = list.next(this);
        }
        count
    })
}

/// The stacks of this thread's hub go: so do the places on them. If one of them has been called and does not hear it any
/// more, all others look again at what they wait for.
pub(crate) fn forget_hub(hub: usize) {
    let mut left = UNDER_WAY.replace(0);
    let occupied = |shard: &&Shard| shard.waiting.load(Ordering::SeqCst) != 0;
    for shard in SHARDS.iter().filter(occupied) {
        left -= shard.with(|list| list.retain(|place| place.parker.hub_id() != hub));
    }
    if left != 0 {
        SHARDS.iter().filter(occupied).for_each(|shard| {
            shard.with(|list| list.call(usize::MAX, |_| true));
        });
    }
}

/// Takes all locks, for a fork.
pub(crate) fn hold_all() {
    // Until they are given back a signal's handler may come, which must not wait for one.
    HOLDING.set(true);
    compiler_fence(Ordering::SeqCst);
    SHARDS.iter().for_each(|shard| shard.lock.hold());
}

/// Gives back what [`hold_all`] has taken.
pub(crate) fn let_go_all() {
    SHARDS.iter().for_each(|shard| shard.lock.let_go());
    compiler_fence(Ordering::SeqCst);
    HOLDING.set(false);
    SHARDS.iter().for_each(Shard::make_up);
}

/// Forgets who waits on all hubs but this one; while all locks are held.
pub(crate) fn keep_hub(hub: Option<usize>) {
    for shard in &SHARDS {
        List(shard).retain(|place| Some(place.parker.hub_id()) == hub);
    }
}

/// The place of one who waits; lies on its stack.
struct Place {
    parker: Parker,
    address: usize,
    bits: u32,
    /// Read and changed under the shard's lock only.
    links: UnsafeCell<Links>,
}

struct Links {
    previous: *const Place,
    next: *const Place,
    listed: bool,
}

thread_local! {
    /// Whether this thread holds the lock of a shard, or is about to take it.
    static HOLDING: Cell<bool> = const { Cell::new(false) };
    /// How many of this thread's greenlets are parked here, or have been called and have not gone on.
    static UNDER_WAY: Cell<usize> = const { Cell::new(0) };
}

/// Says so for as long as it lives.
struct Holding {
    before: bool,
}

impl Holding {
    #[inline]
    fn begin() -> Holding {
        let before = HOLDING.replace(true);
        // A handler that comes after the lock was taken finds it said.
        compiler_fence(Ordering::SeqCst);
        Holding { before }
    }
}

impl Drop for Holding {
    #[inline]
    fn drop(&mut self) {
        compiler_fence(Ordering::SeqCst);
        HOLDING.set(self.before);
    }
}

const COUNT: usize = 256;
static SHARDS: [Shard; COUNT] = [const { Shard::new() }; COUNT];

/// The lists of some addresses, as one.
#[repr(align(64))]
struct Shard {
    lock: Lock,
    /// Somebody was to be called while the lock was taken.
    missed: AtomicBool,
    waiting: AtomicUsize,
    ends: UnsafeCell<Ends>,
}

struct Ends {
    first: *const Place,
    last: *const Place,
}

// SAFETY: what it points to is used under its lock only, and of a parker only what is for any thread.
unsafe impl Sync for Shard {}

/// A shard whose lock is held.
struct List<'a>(&'a Shard);

impl Shard {
    const fn new() -> Shard {
        let ends = Ends { first: ptr::null(), last: ptr::null() };
        Shard {
            lock: Lock::new(),
            missed: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
            ends: UnsafeCell::new(ends),
        }
    }

    fn of(address: usize) -> &'static Shard {
        // Words lie at multiples of four, often of sixteen; the product's upper bits depend on all of them.
        &SHARDS[address.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (usize::BITS - COUNT.ilog2())]
    }

    #[cold]
    fn call_some(&self, address: usize, bits: u32, count: usize) -> usize {
        let is_meant = |place: &Place| place.address == address && place.bits & bits != 0;
        if !HOLDING.get() {
            return self.with(|list| list.call(count, is_meant));
        }
        let called = self.try_with(|list| list.call(count, is_meant));
        if called.is_none() {
            // Who has the lock makes up for it: either it sees this when it gives the lock back, or the lock is free now.
            self.missed.store(true, Ordering::SeqCst);
            self.make_up();
        }
        called.unwrap_or(0)
    }

    /// Runs `f` with the lock held: for moments, and without a call of anybody else's code.
    fn with<R>(&self, f: impl FnOnce(&List<'_>) -> R) -> R {
        let result = {
            let _holding = Holding::begin();
            self.lock.with(|| f(&List(self)))
        };
        self.make_up();
        result
    }

    /// As [`with`](Self::with), if the lock is free.
    fn try_with<R>(&self, f: impl FnOnce(&List<'_>) -> R) -> Option<R> {
        let result = {
            let _holding = Holding::begin();
            self.lock.try_with(|| f(&List(self)))
        };
        if result.is_some() {
            self.make_up();
        }
        result
    }

    /// Calls those whom a signal handler could not: all who wait here, since it isn't known who was meant.
    #[inline]
    fn make_up(&self) {
        while self.missed.load(Ordering::SeqCst) {
            let _holding = Holding::begin();
            let made_up = self.lock.try_with(|| {
                self.missed.store(false, Ordering::SeqCst);
                List(self).call(usize::MAX, |_| true);
            });
            if made_up.is_none() {
                return;
            }
        }
    }
}

impl List<'_> {
    #[allow(
        clippy::mut_from_ref,
        reason = "one list is made for each time that the lock is held, and no two results are used at once"
    )]
    fn ends(&self) -> &mut Ends {
        // SAFETY: the lock is held, and what this gives is used up before it is asked for again.
        unsafe { &mut *self.0.ends.get() }
    }

    /// # Safety
    /// The place is alive.
    unsafe fn links<'a>(&self, place: *const Place) -> &'a mut Links {
        // SAFETY: alive, as the caller says; the lock is held, under which alone links are looked at; what this gives is used
        // up before it is asked for again.
        unsafe { &mut *(*place).links.get() }
    }

    fn next(&self, place: &Place) -> *const Place {
        // SAFETY: borrowed, so it is alive.
        unsafe { self.links(place).next }
    }

    /// Calls at most `count` of those who are `meant`, those first who came first. Gives how many.
    fn call(&self, count: usize, meant: impl Fn(&Place) -> bool) -> usize {
        let mut called = 0;
        let mut place = self.ends().first;
        while called < count && !place.is_null() {
            // SAFETY: what is in the list is alive: its owner takes it out, under the lock that is held, before it goes.
            let this = unsafe { &*place };
            place = self.next(this);
            if meant(this) {
                self.remove(this);
                // SAFETY: it was in the list, so nobody has called it, and its owner cannot leave before it has been.
                unsafe { Parker::unpark(&raw const this.parker) };
                called += 1;
            }
        }
        called
    }

    /// Takes out all others; gives how many.
    fn retain(&self, stays: impl Fn(&Place) -> bool) -> usize {
        let (mut place, mut others) = (self.ends().first, 0);
        // SAFETY: as in `call`; the stacks are still there.
        while let Some(this) = unsafe { place.as_ref() } {
            place = self.next(this);
            if !stays(this) {
                self.remove(this);
                others += 1;
            }
        }
        others
    }

    fn push(&self, place: &Place) {
        let this = ptr::from_ref(place);
        let last = std::mem::replace(&mut self.ends().last, this);
        // SAFETY: `place` is borrowed; what is in the list is alive.
        unsafe {
            *self.links(this) = Links { previous: last, next: ptr::null(), listed: true };
            match last.is_null() {
                true => self.ends().first = this,
                false => self.links(last).next = this,
            }
        }
        self.0.waiting.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes a place out; false if it was not in.
    fn remove(&self, place: &Place) -> bool {
        // SAFETY: `place` is borrowed; what is in the list is alive.
        unsafe {
            let links = self.links(place);
            if !std::mem::replace(&mut links.listed, false) {
                return false;
            }
            let (previous, next) = (links.previous, links.next);
            match previous.is_null() {
                true => self.ends().first = next,
                false => self.links(previous).next = next,
            }
            match next.is_null() {
                true => self.ends().last = previous,
                false => self.links(next).previous = previous,
            }
        }
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
        true
    }
}
