//! The blocked-hub monitor: who holds a hub for too long is named, with the stack that it stands in (gevent's
//! `monitor_thread`, whose `max_blocking_time` is 0.1 s).
//!
//! One thread of the process, made at first need, looks at the pulse of each watched hub a few times within its threshold. A hub pays nothing
//! for it: what the thread looks at, who runs and how many have run, it keeps anyway. What may not enter here: any influence
//! on who runs. `unsafe` stands in `probe` alone, which interrupts the thread in question to have its stack.

mod freeze;
mod probe;
mod report;
mod watcher;

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

use crate::hub::{Hub, Pulse};
pub use freeze::{Freezer, FrozenHub, freezer};
pub(crate) use watcher::BeforeFork;
use watcher::{Sink, WatchId};

/// Watches this thread's hub until the returned guard is dropped: when one greenlet, main among them, holds it for longer than
/// `threshold` without a switch, a warning is logged with its name, its id, where it was spawned and the native stack that it
/// stands in, once; and a second one with the total when it is over. ([`log`] facade, target `greenlet::monitor`; gevent's
/// `GEVENT_MONITOR_THREAD_ENABLE` and `max_blocking_time`.)
///
/// Off until it is called; 100 ms is a good threshold, and at least 1 ms is taken. What is longer by a quarter is seen for
/// sure. Time in which the machine did not run this process does not count. Several guards at a time watch each for
/// themselves. A run of [`testing`](crate::testing) is not watched. Mark what is known to block with [`may_block`].
///
/// # The signal
/// To have the stack, the monitor's thread sends the blocked one a `SIGURG`, which nobody minds by default and which
/// programs must expect at any time, once for each blockage. A handler that was there before is still called for those that
/// are not ours. If the program puts its own handler in place later, or has the signal blocked, then its handler is called,
/// and the warning comes without name and stack. System calls that the signal interrupts are restarted (`SA_RESTART`), but
/// for those which signal(7) lists as never restarted: `nanosleep`, `poll` and `epoll_wait` of foreign code, which must expect
/// `EINTR` anyway. On Linux before glibc 2.35, the stack is walked under the dynamic loader's lock.
///
/// # Errors
/// There is no thread to be had for the monitor, or the system does not take the signal's handler.
///
/// # Panics
/// When the kernel gives no poller for this thread's hub.
///
/// ```
/// use std::time::Duration;
///
/// let _monitor = greenlet::inspect::watch(Duration::from_millis(100))?;
/// // "greenlet 'slow' (#1), spawned at src/main.rs:6:1, holds the hub for 0.104 s now; it stands in …"
/// let slow = greenlet::Builder::new().name("slow").spawn(|| std::thread::sleep(Duration::from_millis(150)))?;
/// slow.join().unwrap();
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn watch(threshold: Duration) -> io::Result<Monitor> {
    let hub = Hub::get();
    let id = match hub.is_virtual() {
        true => None,
        false => Some(watcher::watch(hub.pulse(), threshold, Sink::Log)?),
    };
    Ok(Monitor { id, _this_thread: PhantomData })
}

/// Watches this thread's hub as long as it lives; made by [`watch`].
#[must_use = "the hub is watched until this is dropped"]
pub struct Monitor {
    id: Option<WatchId>,
    _this_thread: PhantomData<*const ()>,
}

impl fmt::Debug for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Monitor").finish_non_exhaustive()
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            watcher::unwatch(id);
        }
    }
}

/// Runs `f`, which is known to hold the hub for long: the [monitor](crate::inspect::watch) says nothing of it. For the
/// greenlet that calls it; who runs while `f` waits is watched as ever. Nests. Does not make `f` cooperative:
/// [`unblock`](crate::unblock) does.
///
/// ```
/// let sum: u64 = greenlet::may_block(|| (1..=1_000_000).sum());
/// assert_eq!(sum, 500_000_500_000);
/// ```
pub fn may_block<T>(f: impl FnOnce() -> T) -> T {
    let Some(hub) = Hub::existing() else { return f() };
    let Ok(core) = hub.current() else { return f() };
    core.enter_may_block();
    hub.pulse().next_turn_silent();
    let _leave = defer(move || {
        core.leave_may_block();
        // What comes after it is measured on its own.
        if core.may_block() { hub.pulse().next_turn_silent() } else { hub.pulse().next_turn() }
    });
    f()
}

/// Runs `f` and returns what it returns, if meanwhile no greenlet of this thread has held the hub for longer than `most` without
/// a switch: for tests of code that is meant to be cooperative. Regions that [`may_block`] do not count.
///
/// Real time is measured, in a run of [`testing`](crate::testing) too. On a busy machine any code may be held up: be generous.
/// Held once for a quarter longer than `most` is seen for sure. No less than 1 ms is taken.
///
/// # Panics
/// When it was held for longer, at the end of `f`, with the names and the stacks of those who did; and with `f`'s panic.
/// When there is no thread to be had for the monitor.
///
/// ```should_panic
/// use std::time::Duration;
///
/// greenlet::assert_yields(Duration::from_millis(20), || std::thread::sleep(Duration::from_millis(200)));
/// ```
#[track_caller]
pub fn assert_yields<T>(most: Duration, f: impl FnOnce() -> T) -> T {
    let hub = Hub::get();
    let pulse = hub.pulse();
    pulse.next_turn();
    let (turn, began) = (pulse.turn(), Instant::now());
    let id = watcher::watch(pulse, most, Sink::Keep)
        .unwrap_or_else(|error| panic!("assert_yields: the hub cannot be watched: {error}"));
    let mut kept = Vec::new();
    let value = {
        let _unwatch = defer(|| kept = watcher::unwatch(id));
        f()
    };
    // One stretch, the monitor's thread may have been late for it.
    let (took, in_one) = (began.elapsed(), pulse.turn() == turn);
    if !kept.is_empty() {
        let told: Vec<_> = kept.iter().map(|blocked| blocked.to_string()).collect();
        panic!("the hub was held for more than {most:?}: {}", told.join("\n"));
    }
    assert!(!in_one || took <= most.max(watcher::LEAST), "the hub was held for {took:?}, more than {most:?}");
    value
}

/// A hub is no more.
pub(crate) fn forget(pulse: &Pulse) {
    watcher::forget(pulse);
}

/// Runs `f` at the end of the scope, also of one that is left by unwinding.
fn defer<F: FnOnce()>(f: F) -> impl Drop {
    struct Defer<F: FnOnce()>(Option<F>);
    impl<F: FnOnce()> Drop for Defer<F> {
        fn drop(&mut self) {
            if let Some(f) = self.0.take() {
                f();
            }
        }
    }
    Defer(Some(f))
}
