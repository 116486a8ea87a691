//! A number of permits, among processes.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::gate::{Gate, Patience};
use super::inside::{Inside, Stay};
use super::map::{Layout, Mapping};
use crate::greenlet::WaitsFor;

/// A number of permits for greenlets of all processes, first come, first served as by [`Mutex`](super::Mutex)
/// (`multiprocessing.BoundedSemaphore`): to have at most so many requests of the whole server at a backend, say.
///
/// A [`Permit`] gives itself back when it is dropped, and when its process ends, however it ends. To take one costs three atomic
/// instructions and a look at a word of each process, and no system call, as long as nobody waits.
///
/// ```
/// let backend = greenlet::shm::Semaphore::new(2)?;
/// let first = backend.acquire()?; // parks while there is none
/// let second = backend.acquire()?;
/// assert!(backend.try_acquire()?.is_none());
/// drop(first);
/// assert_eq!(backend.available()?, 1);
/// # drop(second);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Semaphore(Mapping<Permits>);

#[repr(C)]
struct Permits {
    /// Held by who is next to get a permit.
    gate: Gate,
    taken: Inside,
    all: AtomicU32,
}

// SAFETY: atomics only, all of which may be zero.
unsafe impl Layout for Permits {}

impl Semaphore {
    /// A semaphore with this many permits, shared by this process and those that it forks from now on.
    ///
    /// # Errors
    /// The kernel's: no memory, no room for another mapping.
    pub fn new(permits: u32) -> io::Result<Semaphore> {
        super::registry::Registry::get()?;
        let map = Mapping::<Permits>::new()?;
        map.all.store(permits, Ordering::SeqCst);
        Ok(Semaphore(map))
    }

    /// How many permits are to be had at once. Those of the dead are, even if nobody has noticed: the kernel is asked who
    /// lives.
    ///
    /// # Errors
    /// None once the semaphore is made.
    pub fn available(&self) -> io::Result<u32> {
        let taken = u32::try_from(self.0.taken.living()?).unwrap_or(u32::MAX);
        Ok(self.0.all.load(Ordering::SeqCst).saturating_sub(taken))
    }

    /// Takes a permit, waiting for one if need be. Parks the calling greenlet, or blocks a thread that has no hub.
    ///
    /// # Errors
    /// Why the wait failed, as a [`WaitError`](crate::WaitError) inside; the kernel's, as told at
    /// [`LockError::Failed`](super::LockError::Failed).
    pub fn acquire(&self) -> io::Result<Permit<'_>> {
        self.acquire_with(Patience::new(None))
    }

    /// As [`acquire`](Self::acquire), for a limited time.
    ///
    /// # Errors
    /// Of kind `TimedOut`, and those of [`acquire`](Self::acquire).
    pub fn acquire_timeout(&self, timeout: Duration) -> io::Result<Permit<'_>> {
        self.acquire_with(Patience::new(Some(timeout)))
    }

    /// Takes a permit if there is one at once and nobody waits. Never parks.
    ///
    /// # Errors
    /// The kernel's, as those of [`acquire`](Self::acquire).
    pub fn try_acquire(&self) -> io::Result<Option<Permit<'_>>> {
        let Permits { gate, taken, all } = &*self.0;
        let Some(hold) = gate.try_enter()? else { return Ok(None) };
        let all = u64::from(all.load(Ordering::Relaxed));
        let free = taken.number()? < all || taken.living()? < all;
        Ok(free.then(|| Permit { _stay: taken.enter(&hold) }))
    }

    fn acquire_with(&self, mut patience: Patience) -> io::Result<Permit<'_>> {
        let Permits { gate, taken, all } = &*self.0;
        let all = u64::from(all.load(Ordering::Relaxed));
        loop {
            let hold = gate.enter(WaitsFor::Semaphore, &mut patience)?;
            if taken.wait(&hold, WaitsFor::Semaphore, &mut patience, |taken| taken < all)? {
                return Ok(Permit { _stay: taken.enter(&hold) });
            }
        }
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semaphore").field("permits", &self.0.all.load(Ordering::Relaxed)).finish()
    }
}

/// A permit of a [`Semaphore`]; dropping it gives it back.
#[must_use = "a permit that is not held is given back at once"]
pub struct Permit<'a> {
    _stay: Stay<'a>,
}

impl fmt::Debug for Permit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Permit")
    }
}
