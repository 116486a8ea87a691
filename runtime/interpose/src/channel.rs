//! std's and crossbeam's channels, between greenlets of one thread.
//!
//! Both say of each waiter on which thread it is, and who sends or receives passes over waiters of its own thread: that thread
//! can't be waiting, if it is here. But another greenlet of it can. So as long as a greenlet waits for a channel (in
//! `thread::park`), the record of its wait bears the number of no thread. The record also says when the wait is over, which
//! `thread::park` alone, shared by all greenlets of the thread, can't.
//!
//! The record is private to those libraries: an `Arc` of four words in any order, `select` and `packet` (0 while it waits), the
//! [`Thread`] and the thread's number, to which the waiting function has a pointer on the stack. What is there is looked at
//! through the kernel, which says what cannot be read, and taken for a record only if everything is right: the count of
//! the `Arc`, the thread, and its number, which is its [`ThreadId`] for crossbeam and the address of a thread-local for std.
//! Where there is none (it is another kind of wait, or a library of another make), or the kernel refuses
//! (`process_vm_readv(2)`, by a filter), nothing is changed, and such a channel works between threads only.

use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{Thread, ThreadId};

use crate::parking;
use crate::raw::syscall;

/// So far from the innermost frame a record is looked for: unoptimized code has large frames.
const STACK: usize = 6144;
/// As much is looked at at once.
const PIECE: usize = 64;
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
        const { assert!(size_of::<Thread>() == size_of::<usize>() && size_of::<ThreadId>() == 8) };
        let current = std::thread::current();
        // SAFETY: both are as large as the number that they are taken for, and have no padding then.
        let (thread, id) = unsafe {
            (
                mem::transmute_copy::<Thread, usize>(&current),
                mem::transmute_copy::<ThreadId, u64>(&current.id()) as usize,
            )
        };
        let mut stack = [0_usize; PIECE];
        let here = (&raw const stack).addr();
        let mut at = here + size_of_val(&stack);
        let mut last = 0;
        while at < here + STACK {
            let count = read(at, &mut stack);
            for &word in &stack[..count] {
                let likely =
                    word.is_multiple_of(16) && word > 0xFFFF && word.abs_diff(here) > STACK && word != last;
                if likely && let Some(found) = Record::at(word, thread, id) {
                    return Some(found);
                }
                last = word;
            }
            if count < PIECE {
                return None;
            }
            at += size_of_val(&stack);
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
    fn at(address: usize, thread: usize, id: usize) -> Option<Anonymous> {
        let mut words = [0_usize; size_of::<Record>() / size_of::<usize>()];
        if read(address, &mut words) < words.len() {
            return None;
        }
        let [strong, weak, fields @ ..] = words;
        // The wait itself has one, the channel has another.
        let right = (2..64).contains(&strong)
            && weak == 1
            && fields.iter().filter(|field| **field == thread).count() == 1;
        if !right {
            return None;
        }
        let index = fields.iter().position(|field| *field == id || parking::is_this_threads(*field))?;
        let mut others = (0..fields.len()).filter(|other| *other != index && fields[*other] != thread);
        let (first, second) = (others.next()?, others.next()?);
        let found =
            Anonymous { record: address as *const Record, index, was: fields[index], news: [first, second] };
        found.field(index).store(NOBODY, Ordering::Release);
        Some(found)
    }
}

/// Copies words of memory that may not be there; gives how many were.
fn read(from: usize, into: &mut [usize]) -> usize {
    let length = size_of_val(into);
    let local = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: length };
    let remote = libc::iovec { iov_base: from as *mut libc::c_void, iov_len: length };
    // SAFETY: the kernel writes to `into` alone, and looks at what can be read alone.
    let count = unsafe {
        syscall!(SYS_process_vm_readv, syscall!(SYS_getpid), &raw const local, 1, &raw const remote, 1, 0)
    };
    usize::try_from(count).unwrap_or(0) / size_of::<usize>()
}
