//! [`Poll`] by the portable interface of `polling`.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use polling::{Event, Events, PollMode, Poller};
use rustix::event::PollFlags;

use super::{BATCH, Notifier, Readiness};

pub(crate) struct Poll {
    poller: Arc<Poller>,
    events: Events,
}

impl Poll {
    pub(crate) fn new() -> io::Result<Poll> {
        let batch = std::num::NonZeroUsize::new(BATCH).unwrap_or(std::num::NonZeroUsize::MIN);
        Ok(Poll { poller: Arc::new(Poller::new()?), events: Events::with_capacity(batch) })
    }

    /// Becomes a poller of its own, with nothing registered, in the child of a fork.
    pub(crate) fn renew(&mut self) -> io::Result<()> {
        self.poller = Arc::new(super::renew(&self.poller)?);
        Ok(())
    }

    pub(crate) fn notifier(&self) -> Notifier {
        Notifier(self.poller.clone())
    }

    /// Watches both directions of `fd`, edge-triggered. `key` may be any value but `usize::MAX`.
    pub(crate) fn add(&self, fd: BorrowedFd<'_>, key: usize) -> io::Result<()> {
        // SAFETY: `polling` asks that the descriptor be deleted before it is closed. Our registrations do so or
        // are the only owner of the open file, whose close takes the registration with it; events of either kind
        // that arrive late carry an outdated generation in their key and are dropped.
        unsafe { self.poller.add_with_mode(fd.as_raw_fd(), Event::all(key), PollMode::Edge) }
    }

    /// Stops watching `fd`.
    pub(crate) fn delete(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.poller.delete(fd)
    }

    /// Waits for events, a notification or the end of `timeout` (`None`: no end), and hands the events to `each`.
    pub(crate) fn wait(
        &mut self,
        timeout: Option<Duration>,
        mut each: impl FnMut(Readiness),
    ) -> io::Result<()> {
        self.events.clear();
        self.poller.wait(&mut self.events, timeout)?;
        for event in self.events.iter() {
            // A half-close cannot be told from data here, so a short read never counts as drained.
            each(Readiness {
                key: event.key,
                readable: event.readable,
                writable: event.writable,
                hangup: true,
            });
        }
        Ok(())
    }
}

/// Nanoseconds on the monotonic clock since the first call, never fewer than before.
pub(crate) fn nanos() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    let since = START.get_or_init(Instant::now).elapsed();
    // 64 bits hold 584 years; `as_nanos` would compute in 128.
    since.as_secs() * 1_000_000_000 + u64::from(since.subsec_nanos())
}

/// A set of descriptors that is a descriptor itself: readable while one of them is ready.
pub(crate) struct PollSet(Poller);

impl PollSet {
    pub(crate) fn new() -> io::Result<PollSet> {
        Poller::new().map(PollSet)
    }

    /// Adds a descriptor, once. `PermissionDenied` for one that cannot be waited for: a regular file.
    /// A half-close is noticed only together with something else, for which `polling` has words.
    pub(crate) fn add(&self, fd: BorrowedFd<'_>, asked: PollFlags) -> io::Result<()> {
        let event = Event::new(0, asked.contains(PollFlags::IN), asked.contains(PollFlags::OUT));
        let event = if asked.contains(PollFlags::PRI) { event.with_priority() } else { event };
        // SAFETY: `polling` asks that the descriptor be deleted before it is closed. The descriptor is borrowed for the
        // wait for which the set was made, and the set goes with that wait. Nobody asks the set for its events, so an
        // entry that a greenlet abandoned at the thread's exit leaves behind misleads nobody.
        unsafe { self.0.add_with_mode(fd.as_raw_fd(), event, PollMode::Level) }
    }
}

impl AsFd for PollSet {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
