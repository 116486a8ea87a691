//! The hub's clock: the one place from which the runtime learns the time.

use std::time::{Duration, Instant};

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
        self.0.checked_add(u64::try_from(after.as_nanos()).ok()?).map(Moment)
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

/// Reads the monotonic clock, by way of [`Instant`].
#[derive(Debug)]
pub(crate) struct Clock {
    epoch: Instant,
}

impl Clock {
    pub(crate) fn new() -> Clock {
        Clock { epoch: Instant::now() }
    }

    pub(crate) fn now(&self) -> Moment {
        let since = self.epoch.elapsed();
        // 584 years fit; `as_nanos` would compute in 128 bits.
        Moment(since.as_secs() * 1_000_000_000 + u64::from(since.subsec_nanos()))
    }

    /// The moment `after` from now; `None` when that is further off than can be told (584 years), which means
    /// never.
    pub(crate) fn deadline(&self, after: Duration) -> Option<Moment> {
        self.now().plus(after)
    }
}
