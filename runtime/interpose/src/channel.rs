//! std's channels, between greenlets of one thread.
//!
//! A channel says of each waiter on which thread it is, and who sends or receives passes over waiters of its own thread: that
//! thread can't be waiting, if it is here. But another greenlet of it can. So as long as a greenlet waits for a channel (in
//! `thread::park`), the record of its wait bears the number of no thread. The record also says when the wait is over, which
//! `thread::park` alone, shared by all greenlets of the thread, can't.
//!
//! The record is private to std: an `Arc` of four words in any order, `select` and `packet` (0 while it waits), the
//! [`Thread`] and the thread's number, to which the waiting function has a pointer on the stack. What is there is looked at
//! through the kernel, which says what cannot be read, and taken for a record only if everything is right: the counts of
//! the `Arc`, the thread, and its number, which is the address of one of the thread's own variables, so that nothing
//! else looks alike. Where there is none (it is another kind of wait, or std has changed), or the kernel refuses
//! (`process_vm_readv(2)`, by a filter), nothing is changed, and channels work between threads only.
//!
//! crossbeam's channels are made the same, but their numbers are small ones ([`ThreadId`](std::thread::ThreadId)), as there are
//! many in memory: they are left alone, and work between threads only.

use std::ffi::c_void;
use std::mem;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::Thread;

use crate::block;
use crate::raw::syscall;

/// So far from the innermost frame a record is looked for: unoptimized code has large frames.
const STACK: usize = 6144;
/// So many words of it are looked at at once…
const PIECE: usize = 64;
/// …and so many places to which they may point, of so many words.
const AT_ONCE: usize = 16;
const WORDS: usize = size_of::<Record>() / size_of::<usize>();
/// The number of no thread: neither the address of anything nor one that is given out in this world's time.
const NOBODY: usize = usize::MAX - 1;

/// The record of a wait, which says that it is no thread's as long as this lives.
pub(crate) struct Anonymous {
    record: *const Record,
    /// Which of the fields is the number…
    index: usize,
    /// …and what it was.
    was: usize,
    /// Which of them are 0 until somebody sends, receives or hangs up.
    news: [usize; 2],
}

impl Anonymous {
    /// For the greenlet that runs, if it waits for a channel.
    pub(crate) fn new() -> Option<Anonymous> {
        const { assert!(size_of::<Thread>() == size_of::<usize>()) };
        let current = std::thread::current();
        // SAFETY: it is as large as the number that it is taken for, and has no padding then.
        let thread = unsafe { mem::transmute_copy::<Thread, usize>(&current) };
        let mut piece = [0_usize; PIECE];
        let here = (&raw const piece).addr();
        let mut at = here + size_of_val(&piece);
        while at < here + STACK {
            let own = libc::iovec { iov_base: at as *mut c_void, iov_len: size_of_val(&piece) };
            let count = read(&mut piece, &[own]);
            let mut likely = [libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 }; PIECE];
            let mut found = 0;
            for &word in &piece[..count] {
                let pointer = word.is_multiple_of(16)
                    && (0x1_0000..1 << 47).contains(&word)
                    && word.abs_diff(here) > STACK
                    && likely[..found].iter().all(|other| other.iov_base.addr() != word);
                if pointer {
                    likely[found] =
                        libc::iovec { iov_base: word as *mut c_void, iov_len: WORDS * size_of::<usize>() };
                    found += 1;
                }
            }
            if let Some(record) = Record::among(&likely[..found], thread) {
                return Some(record);
            }
            if count < PIECE {
                return None;
            }
            at += size_of_val(&piece);
        }
        None
    }

    /// Whether what it waits for has come.
    pub(crate) fn is_over(&self) -> bool {
        self.news.iter().any(|index| self.field(*index).load(Ordering::SeqCst) != 0)
    }

    /// Bits to be called by, few of which others have; never the first.
    pub(crate) fn bits(&self) -> u32 {
        1 << (1 + (self.record.addr() / 16) % 31)
    }

    fn field(&self, index: usize) -> &AtomicUsize {
        // SAFETY: the record is there as long as the greenlet is in its wait, and this is no longer there than that. Its
        // library uses its fields as whole words.
        unsafe { &(*self.record).fields[index] }
    }
}

impl Drop for Anonymous {
    fn drop(&mut self) {
        self.field(self.index).store(self.was, Ordering::Release);
    }
}

/// The record of a wait, in its `Arc`.
#[repr(C)]
struct Record {
    strong: AtomicUsize,
    weak: AtomicUsize,
    fields: [AtomicUsize; 4],
}

impl Record {
    /// The first of these places that is one.
    fn among(mut places: &[libc::iovec], thread: usize) -> Option<Anonymous> {
        let mut words = [0_usize; WORDS * AT_ONCE];
        while !places.is_empty() {
            let asked = places.len().min(AT_ONCE);
            let read = read(&mut words[..asked * WORDS], &places[..asked]) / WORDS;
            for (place, words) in places.iter().zip(words.chunks_exact(WORDS)).take(read) {
                if let Some(record) = Record::at(place.iov_base.addr(), words, thread) {
                    return Some(record);
                }
            }
            // Where it ended early the next place cannot be read.
            places = &places[if read < asked { read + 1 } else { read }..];
        }
        None
    }

    fn at(address: usize, words: &[usize], thread: usize) -> Option<Anonymous> {
        let &[strong, weak, ref fields @ ..] = words else { return None };
        // The wait itself has one, the channel has another.
        let right = (2..64).contains(&strong)
            && weak == 1
            && fields.iter().filter(|field| **field == thread).count() == 1;
        if !right {
            return None;
        }
        let own = block::bounds();
        let index = fields.iter().position(|field| own.contains(field))?;
        let mut others = (0..fields.len()).filter(|other| *other != index && fields[*other] != thread);
        let (first, second) = (others.next()?, others.next()?);
        // Else it is over, and an `unpark` tells so; or it is the record of a scope, in memory where one like this has been.
        if fields[first] != 0 || fields[second] != 0 {
            return None;
        }
        let found =
            Anonymous { record: address as *const Record, index, was: fields[index], news: [first, second] };
        found.field(index).store(NOBODY, Ordering::Release);
        Some(found)
    }
}

/// Copies memory that may not be there, up to the first that isn't; gives how many words.
fn read(into: &mut [usize], from: &[libc::iovec]) -> usize {
    let local = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: size_of_val(into) };
    // SAFETY: the kernel writes to `into` alone, and looks at what can be read alone.
    let count = unsafe {
        syscall!(
            SYS_process_vm_readv,
            syscall!(SYS_getpid),
            &raw const local,
            1,
            from.as_ptr(),
            from.len(),
            0
        )
    };
    usize::try_from(count).unwrap_or(0) / size_of::<usize>()
}
