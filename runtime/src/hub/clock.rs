//! The hub's clock: the one place from which the runtime learns the time.

use std::time::Duration;

use crate::sys;

/// A point in time, in nanoseconds since the hub began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(u64);

impl Moment {
    /// Before any other.
    pub(crate) const PAST: Moment = Moment(0);
    /// After any other.
    pub(crate) const NEVER: Moment = Moment(u64::MAX);

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

    /// How long from `earlier` to here; zero if this is not later.
    pub(crate) fn since(self, earlier: Moment) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// Reads the monotonic clock.
#[derive(Debug)]
pub(crate) struct Clock {
    epoch: u64,
}

impl Clock {
    pub(crate) fn new() -> Clock {
        Clock { epoch: sys::nanos() }
    }

    #[inline]
    pub(crate) fn now(&self) -> Moment {
        Moment(sys::nanos().saturating_sub(self.epoch))
    }

    /// The moment `after` from now; `None` when that is further off than can be told (584 years), which means
    /// never.
    pub(crate) fn deadline(&self, after: Duration) -> Option<Moment> {
        self.now().plus(after)
    }
}
