//! POSIX threads' locks, conditions, semaphores and threads, and C11's, in green threads.
//!
//! libc's own objects are used as they are: a lock is taken by libc's own try form, so that threads without a hub, and
//! whoever has a lock already, see what they always see. A greenlet that cannot have it waits in `lot`, and whoever
//! gives it back calls it there, after libc's own function has done its part. Nothing else may live here: no waiting
//! but through `lot` and `greenlet::foreign`, nothing that allocates.
//!
//! libc knows owners by thread. Where the owner matters (recursive, error-checking and robust mutexes, and a writer's
//! second lock) `holders` knows which greenlet of the thread it is.
//!
//! # Limits
//! - What happens within libc does not come here: the lock of a `FILE`, of the loader, of `malloc`. A greenlet that is parked
//!   with such a lock held, in a callback of `fopencookie` for example, makes the thread wait for itself.
//! - Another process does not call us: what is shared between processes is looked at again and again while a greenlet waits
//!   for it, from 0.25 ms on up to every 8 ms. So are robust mutexes, which the kernel gives free when a thread dies.
//! - A library that was loaded with `RTLD_DEEPBIND`, or that brings its own copy of these functions, doesn't come here either.
//! - Waiting here is not interruptible, as in POSIX: a kill comes with the next call that is.
//! - pthread_cancel(3) does not end what a greenlet waits for. For plain threads nothing is different.
//! - A deadline by the clock of the day is turned into a span when the wait begins; setting the clock does not move it.

pub(crate) mod holders;

pub mod barrier;
pub mod c11;
pub mod condition;
pub mod mutex;
pub mod once;
pub mod rwlock;
pub mod semaphore;
pub mod thread;

use std::time::Duration;

use greenlet::foreign::{self, Deadline};
use libc::{c_int, clockid_t, timespec};

use crate::lot::{Wait, Waited};

/// How an attempt with waits between has ended.
enum Obtained<T> {
    Got(T),
    /// The deadline has come.
    Late,
    /// The caller cannot be parked.
    Refused,
}

/// Tries, and waits at an address between attempts for a call with one of these bits. While `unheard` says that nobody may call
/// when it is time, attempts are made without.
fn obtain<T>(
    (address, bits): (usize, u32),
    why: &'static &'static str,
    deadline: Option<Deadline>,
    mut attempt: impl FnMut() -> Option<T>,
    unheard: impl Fn() -> bool,
) -> Obtained<T> {
    let mut looks = Looks::new();
    loop {
        if let Some(got) = attempt() {
            return Obtained::Got(got);
        }
        let looks_again = unheard();
        let wait = Wait {
            address,
            bits,
            deadline: if looks_again { looks.next(deadline) } else { deadline },
            interruptible: false,
            why,
        };
        let mut got = None;
        let waited = wait.run(
            || {
                got = attempt();
                got.is_none() && (looks_again || !unheard())
            },
            || {},
        );
        match (got, waited) {
            (Some(got), _) => return Obtained::Got(got),
            (None, Waited::Refused) => return Obtained::Refused,
            (None, Waited::Deadline) if deadline.is_some_and(|deadline| deadline.left().is_zero()) => {
                return attempt().map_or(Obtained::Late, Obtained::Got);
            }
            _ => {}
        }
    }
}

/// When to look again at what nobody calls for: soon, then less often.
struct Looks(Duration);

impl Looks {
    const FIRST: Duration = Duration::from_micros(250);
    const LAST: Duration = Duration::from_millis(8);

    fn new() -> Looks {
        Looks(Looks::FIRST)
    }

    /// The next time, or the deadline if that comes first.
    fn next(&mut self, deadline: Option<Deadline>) -> Option<Deadline> {
        let after = self.0;
        self.0 = (after * 2).min(Looks::LAST);
        match deadline {
            Some(deadline) if deadline.left() <= after => Some(deadline),
            _ => foreign::deadline(after),
        }
    }
}

/// Whether libc waits by this clock.
fn is_waited_by(clock: clockid_t) -> bool {
    matches!(clock, libc::CLOCK_REALTIME | libc::CLOCK_MONOTONIC)
}

/// Whether its nanoseconds are some.
///
/// # Safety
/// It is a valid pointer.
unsafe fn is_valid(time: *const timespec) -> bool {
    // SAFETY: the caller's promise.
    (0..1_000_000_000).contains(&unsafe { (*time).tv_nsec })
}

/// The deadline that lies at `time` by a clock; `Some(None)` is never, `None` that it isn't [valid](is_valid).
///
/// # Safety
/// It is a valid pointer.
unsafe fn deadline(clock: clockid_t, time: *const timespec) -> Option<Option<Deadline>> {
    // SAFETY: the caller's promise.
    let time = unsafe { *time };
    let nanos = u32::try_from(time.tv_nsec).ok().filter(|nanos| *nanos < 1_000_000_000)?;
    let mut now = timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the place is valid, and the clock is one that every kernel has.
    unsafe { libc::clock_gettime(clock, &raw mut now) };
    let since_epoch = |seconds: i64, nanos: u32| Some(Duration::new(u64::try_from(seconds).ok()?, nanos));
    let left = since_epoch(time.tv_sec, nanos)
        .unwrap_or_default()
        .saturating_sub(since_epoch(now.tv_sec, now.tv_nsec as u32).unwrap_or_default());
    Some(foreign::deadline(left))
}

/// This thread's number, as libc keeps it in its locks.
fn thread() -> c_int {
    // SAFETY: it has no arguments.
    unsafe { crate::raw::syscall!(SYS_gettid) as c_int }
}
