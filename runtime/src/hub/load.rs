//! How busy the hub is: kept from the times that it reads anyway.

use std::cell::Cell;
use std::time::Duration;

use super::Hub;
use super::clock::Moment;

#[derive(Default)]
pub(super) struct Load {
    /// Nanoseconds spent waiting for descriptors and timers.
    slept: Cell<u64>,
    /// The longest time between two looks at the descriptors since somebody asked, in nanoseconds.
    longest: Cell<u64>,
}

impl Load {
    /// The hub has looked at the descriptors at `last`, and now again; in between it went to sleep, if it did.
    #[inline(always)]
    pub(super) fn note(&self, last: Moment, asleep: Option<Moment>, now: Moment) {
        if let Some(asleep) = asleep {
            self.slept.set(self.slept.get() + now.as_nanos().saturating_sub(asleep.as_nanos()));
        }
        let stretch = asleep.unwrap_or(now).as_nanos().saturating_sub(last.as_nanos());
        if stretch > self.longest.get() {
            self.longest.set(stretch);
        }
    }
}

impl Hub {
    /// How long the hub has slept since it began, and the longest time between two looks at the descriptors since this was last
    /// called.
    pub(crate) fn take_load(&self) -> (Duration, Duration) {
        let stretch = self.clock.now().as_nanos().saturating_sub(self.polled_at.get().as_nanos());
        let longest = self.load.longest.take().max(stretch);
        (Duration::from_nanos(self.load.slept.get()), Duration::from_nanos(longest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_slept_is_worked_and_the_longest_stretch_of_it_is_kept() {
        let load = Load::default();
        let at = |nanos| Moment::from_nanos(nanos);
        load.note(at(10), Some(at(15)), at(100));
        load.note(at(100), None, at(130));
        load.note(at(130), Some(at(131)), at(200));
        assert_eq!((load.slept.get(), load.longest.get()), (85 + 69, 30));
    }
}
