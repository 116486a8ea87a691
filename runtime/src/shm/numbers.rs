//! A row of numbers that all processes read and change.

use std::fmt;
use std::io;
use std::ops::Deref;
use std::ptr::NonNull;
use std::slice;
use std::sync::atomic::AtomicU64;

use super::map::map;

/// A row of atomic numbers, zeroes at first, for what is too much for a [`Counter`](super::Counter) each: a table with a row for
/// every worker, say (uWSGI's metrics, Apache's scoreboard).
///
/// It is a slice of [`AtomicU64`]. Nobody is told of a change, and nothing is undone when a process ends. The first number begins a
/// page, so that each eight numbers are one cache line of 64 bytes. Memory is taken page by page, as numbers are first written.
///
/// ```
/// use std::sync::atomic::Ordering::Relaxed;
///
/// let numbers = greenlet::shm::Numbers::new(1000)?;
/// numbers[3].fetch_add(2, Relaxed);
/// assert_eq!((numbers[3].load(Relaxed), numbers.len()), (2, 1000));
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Numbers(NonNull<[AtomicU64]>);

// SAFETY: it is a reference to atomics; unmapping may be done by any thread.
unsafe impl Send for Numbers {}
// SAFETY: as above.
unsafe impl Sync for Numbers {}

impl Numbers {
    /// So many zeroes, shared by this process and those that it forks from now on.
    ///
    /// # Errors
    /// Of kind `InvalidInput` for none or more than there are addresses; the kernel's: no memory, no room for another mapping.
    pub fn new(count: usize) -> io::Result<Numbers> {
        let bytes = count.checked_mul(size_of::<AtomicU64>()).filter(|bytes| isize::try_from(*bytes).is_ok());
        let start = map(bytes.filter(|bytes| *bytes > 0).ok_or(io::ErrorKind::InvalidInput)?)?;
        Ok(Numbers(NonNull::slice_from_raw_parts(start.cast(), count)))
    }
}

impl Deref for Numbers {
    type Target = [AtomicU64];

    #[inline]
    fn deref(&self) -> &[AtomicU64] {
        // SAFETY: mapped for as long as `self` lives, aligned to a page, zeroed, which is valid for atomics; of `count` numbers, whose
        // bytes an isize can count, as `new` has checked. Others change them as atomics only.
        unsafe { slice::from_raw_parts(self.0.as_ptr().cast(), self.0.len()) }
    }
}

impl Drop for Numbers {
    fn drop(&mut self) {
        let bytes = self.0.len() * size_of::<AtomicU64>();
        // SAFETY: it is our own mapping, and nobody refers to it any more, since all such references borrow `self`. Fails only
        // for ranges that are none.
        unsafe { libc::munmap(self.0.as_ptr().cast(), bytes) };
    }
}

impl fmt::Debug for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Numbers").field("len", &self.len()).finish()
    }
}
