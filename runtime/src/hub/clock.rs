//! The hub's clock: the one place from which the runtime learns the time.

use std::cell::Cell;
use std::time::{Duration, Instant};

use crate::sys;

/// A point in time, in nanoseconds since the hub began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(u64);

impl Moment {
    /// Before any other.
    pub(crate) const PAST: Moment = Moment(0);
    /// After any other.
    pub(crate) const NEVER: Moment = Moment(u64::MAX);
    /// The first moment of virtual time.
    pub(super) const FIRST: Moment = Moment(1);

    /// So much later; `None` when that is further off than can be told.
    pub(crate) fn plus(self, after: Duration) -> Option<Moment> {
        // In 64 bits, which hold 584 years; `as_nanos` would compute in 128.
        let after = after.as_secs().checked_mul(1_000_000_000)?.checked_add(after.subsec_nanos().into())?;
        self.0.checked_add(after).map(Moment)
    }

    /// Whole milliseconds since the hub began.
    pub(crate) fn millis(self) -> u64 {
        self.0 / 1_000_000
    }

    #[cfg(test)]
    pub(crate) fn from_nanos(nanos: u64) -> Moment {
        Moment(nanos)
    }

    pub(super) fn as_nanos(self) -> u64 {
        self.0
    }

    /// How long from `earlier` to here; zero if this is not later.
    pub(crate) fn since(self, earlier: Moment) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// Reads the monotonic clock; or, once it has been [set](Clock::set), stands until it is set again.
#[derive(Debug)]
pub(crate) struct Clock {
    epoch: u64,
    /// Where virtual time begins, for users.
    began: Instant,
    /// `PAST` while the time is the machine's.
    set: Cell<Moment>,
}

impl Clock {
    pub(crate) fn new() -> Clock {
        Clock { epoch: sys::nanos(), began: Instant::now(), set: Cell::new(Moment::PAST) }
    }

    #[inline]
    pub(crate) fn now(&self) -> Moment {
        if self.set.get() != Moment::PAST {
            return self.set.get();
        }
        Moment(sys::nanos().saturating_sub(self.epoch))
    }

    /// Now, for users.
    pub(crate) fn instant(&self) -> Instant {
        match self.set.get() {
            Moment::PAST => Instant::now(),
            set => self.began + set.since(Moment::PAST),
        }
    }

    /// The moment `after` from now; `None` when that is further off than can be told (584 years), which means
    /// never.
    pub(crate) fn deadline(&self, after: Duration) -> Option<Moment> {
        self.now().plus(after)
    }

    /// From here on the time is virtual, and it is `now`.
    pub(super) fn set(&self, now: Moment) {
        self.set.set(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_has_been_set_stands() {
        let clock = Clock::new();
        clock.set(Moment::FIRST);
        assert_eq!((clock.now(), clock.now()), (Moment::FIRST, Moment::FIRST));
        let before = clock.instant();
        clock.set(Moment::FIRST.plus(Duration::from_secs(3600)).unwrap());
        assert_eq!(clock.instant() - before, Duration::from_secs(3600));
    }

    #[test]
    fn a_clock_that_has_not_been_set_tells_the_time_of_the_machine() {
        let clock = Clock::new();
        let (before, told, after) = (Instant::now(), clock.instant(), Instant::now());
        assert!(before <= told && told <= after);
    }
}
