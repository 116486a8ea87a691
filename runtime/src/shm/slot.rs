//! A small value that many read and few write.

use std::cell::UnsafeCell;
use std::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::Duration;

use super::gate::{Gate, Patience};
use super::map::{Layout, Mapping, Shareable};
use crate::greenlet::WaitsFor;

/// A small value that greenlets of all processes read without waiting, and replace as a whole: a setting that the master changes,
/// the time of the last reload, a table of limits.
///
/// A reader gets a copy of what was set last, never parts of two values, whoever is killed: the new value is written beside the old
/// one, and then one word says that it is the one. Writers wait for each other as at a [`Mutex`](super::Mutex). To read takes no
/// system call and writes nothing.
///
/// ```
/// let limits = greenlet::shm::Slot::new([100_u32, 10])?;
/// limits.set([200, 20])?;
/// limits.update(|limits| limits[1] += 1)?;
/// assert_eq!(limits.get(), [200, 21]);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Slot<T: Shareable>(Mapping<Versions<T>>);

#[repr(C)]
struct Versions<T> {
    /// Held by who writes.
    gate: Gate,
    /// How often it has been set. The last bit says which of the two is the value.
    version: AtomicU64,
    values: [Words<T>; 2],
}

/// Room for a value, in whole words.
#[repr(C, align(8))]
struct Words<T>(UnsafeCell<MaybeUninit<T>>);

// SAFETY: the values are touched only as atomic words.
unsafe impl<T: Shareable> Sync for Versions<T> {}
// SAFETY: zeroes are an open gate and, as for any `Pod`, values. Aligned to a page at most, or `Mapping` does not compile.
unsafe impl<T: Shareable> Layout for Versions<T> {}

impl<T: Shareable> Words<T> {
    fn words(&self) -> &[AtomicU64] {
        // SAFETY: the alignment makes these a whole number of words, all within `self`, which lies in mapped and so
        // initialised memory; the cell lets them be written behind a shared reference. Nothing else is made of this memory.
        unsafe { std::slice::from_raw_parts(self.0.get().cast(), size_of::<Words<T>>() / size_of::<u64>()) }
    }

    fn read(&self) -> T {
        let mut copy = Words::<T>(UnsafeCell::new(MaybeUninit::zeroed()));
        let to = copy.0.get_mut().as_mut_ptr().cast::<u8>();
        for (word, start) in self.words().iter().zip((0..).step_by(size_of::<u64>())) {
            let bytes = word.load(Ordering::Relaxed).to_ne_bytes();
            let count = bytes.len().min(size_of::<T>().saturating_sub(start));
            // SAFETY: `count` bytes from `start` on are within the `T`, which is this function's own.
            unsafe { to.add(start).copy_from_nonoverlapping(bytes.as_ptr(), count) };
        }
        // SAFETY: all of its bytes are initialised, and any bytes are a `T`.
        unsafe { copy.0.into_inner().assume_init() }
    }

    fn write(&self, value: &T) {
        for (word, bytes) in self.words().iter().zip(bytemuck::bytes_of(value).chunks(size_of::<u64>())) {
            let mut whole = [0; size_of::<u64>()];
            whole[..bytes.len()].copy_from_slice(bytes);
            word.store(u64::from_ne_bytes(whole), Ordering::Relaxed);
        }
    }
}

impl<T: Shareable> Slot<T> {
    /// A slot with this value, shared by this process and those that it forks from now on.
    ///
    /// # Errors
    /// The kernel's: no memory, no room for another mapping.
    pub fn new(value: T) -> io::Result<Slot<T>> {
        super::registry::Registry::get()?;
        let map = Mapping::<Versions<T>>::new()?;
        map.values[0].write(&value);
        Ok(Slot(map))
    }

    /// The value. Never parks; copies again while writers replace it faster than it can be copied.
    pub fn get(&self) -> T {
        loop {
            let version = self.0.version.load(Ordering::Acquire);
            let value = self.current(version).read();
            // A writer touches these words again only after it has seen another version set.
            fence(Ordering::Acquire);
            if self.0.version.load(Ordering::Relaxed) == version {
                return value;
            }
            std::hint::spin_loop();
        }
    }

    /// How often it has been set: to see whether it has changed since.
    pub fn version(&self) -> u64 {
        self.0.version.load(Ordering::Acquire)
    }

    /// Replaces the value, waiting while somebody else does. Parks the calling greenlet, or blocks a thread that has no hub.
    ///
    /// # Errors
    /// As [`Semaphore::acquire`](super::Semaphore::acquire).
    pub fn set(&self, value: T) -> io::Result<()> {
        self.update_with(Patience::new(None), |old| *old = value)
    }

    /// Changes the value, waiting while somebody else does. `f` gets a copy, which becomes the value when it returns: if it
    /// panics, or the process is killed, the old one stays. Parks as [`set`](Self::set) does.
    ///
    /// # Errors
    /// As [`set`](Self::set).
    pub fn update(&self, f: impl FnOnce(&mut T)) -> io::Result<()> {
        self.update_with(Patience::new(None), f)
    }

    /// As [`update`](Self::update), waiting for a limited time only.
    ///
    /// # Errors
    /// Of kind `TimedOut`, and those of [`set`](Self::set).
    pub fn update_timeout(&self, timeout: Duration, f: impl FnOnce(&mut T)) -> io::Result<()> {
        self.update_with(Patience::new(Some(timeout)), f)
    }

    fn update_with(&self, mut patience: Patience, f: impl FnOnce(&mut T)) -> io::Result<()> {
        let hold = self.0.gate.enter(WaitsFor::Mutex, &mut patience)?;
        let version = self.0.version.load(Ordering::Relaxed);
        let mut value = self.current(version).read();
        f(&mut value);
        // Only in a child that `f` has forked.
        if !hold.is_ours() {
            return Err(io::Error::other(
                "the process was forked while it changed a value: that is the parent's to do",
            ));
        }
        let next = version.wrapping_add(1);
        // Who reads these words sees, when it looks again, that the version is not the one before this any more.
        fence(Ordering::Release);
        self.current(next).write(&value);
        self.0.version.store(next, Ordering::Release);
        Ok(())
    }

    fn current(&self, version: u64) -> &Words<T> {
        &self.0.values[(version % 2) as usize]
    }
}

impl<T: Shareable + fmt::Debug> fmt::Debug for Slot<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Slot").field(&self.get()).finish()
    }
}
