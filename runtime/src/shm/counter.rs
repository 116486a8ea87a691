//! A number that all processes add to.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicI64, Ordering};

use super::map::{Layout, Mapping};
use super::me::Me;
use super::registry::MAX_PROCESSES;

/// A number that greenlets of all processes add to, without waiting for each other: requests served, bytes sent, jobs under way.
///
/// Each process adds in a cache line of its own, and to read the number is to sum them up. What a process has added stays when it
/// ends: what counts things that are under way should be a [`Semaphore`](super::Semaphore), whose permits come back.
///
/// ```
/// let served = greenlet::shm::Counter::new()?;
/// served.add(1);
/// assert_eq!(served.get(), 1);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Counter(Mapping<Parts>);

#[repr(C)]
struct Parts([Part; MAX_PROCESSES]);

#[repr(C, align(64))]
struct Part(AtomicI64);

// SAFETY: atomics only, all of which may be zero.
unsafe impl Layout for Parts {}

impl Counter {
    /// A counter at zero, shared by this process and those that it forks from now on.
    ///
    /// # Errors
    /// The kernel's: no memory, no room for another mapping.
    pub fn new() -> io::Result<Counter> {
        super::registry::Registry::get()?;
        Mapping::new().map(Counter)
    }

    /// Adds `number`, which may be negative; wraps around. Never parks; one atomic instruction.
    #[inline]
    pub fn add(&self, number: i64) {
        // A process without a place of its own adds where another does, which is slower and no less right.
        let part = Me::get().map_or(0, |me| me.token.place());
        self.0.0[part].0.fetch_add(number, Ordering::Relaxed);
    }

    /// The sum of what all have added. What is added meanwhile may be in it or not.
    pub fn get(&self) -> i64 {
        self.0.0.iter().fold(0, |sum, part| sum.wrapping_add(part.0.load(Ordering::Relaxed)))
    }
}

impl fmt::Debug for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Counter").field(&self.get()).finish()
    }
}
