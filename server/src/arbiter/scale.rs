//! How many workers there should be, by how busy they are. It decides; the fleet has them come and go.

use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

/// Above this share of their time the workers are too busy: whoever comes next waits for long.
const BUSY: f64 = 0.8;
/// For how long they have to be, which a short burst is not.
const BUSY_FOR: Duration = Duration::from_secs(2);
/// Below this share there are too many of them. One less are still far from busy.
const IDLE: f64 = 0.3;
/// For how long they have to be: who comes back after a while finds them.
const IDLE_FOR: Duration = Duration::from_secs(60);

/// What was seen of how busy the workers are.
#[derive(Debug, Default)]
pub(super) struct Scale {
    busy_since: Option<Instant>,
    idle_since: Option<Instant>,
}

impl Scale {
    /// How many there should be from now on, of `limits`. There are `seats`, which have been busy for the share `busy` of the last
    /// time, on average; `None` while they are changed or begin. Numbers outside of the limits are somebody's wish, and left alone.
    pub(super) fn look(
        &mut self,
        now: Instant,
        seats: usize,
        limits: &RangeInclusive<usize>,
        busy: Option<f64>,
    ) -> usize {
        let lasts = |since: &mut Option<Instant>, is_so: bool, long: Duration| {
            *since = is_so.then(|| since.unwrap_or(now));
            since.is_some_and(|since| now.saturating_duration_since(since) >= long)
        };
        let too_busy = lasts(&mut self.busy_since, busy.is_some_and(|busy| busy > BUSY), BUSY_FOR);
        let too_idle = lasts(&mut self.idle_since, busy.is_some_and(|busy| busy < IDLE), IDLE_FOR);
        let wanted = match (too_busy, too_idle) {
            (true, _) if seats >= *limits.start() && seats < *limits.end() => seats + 1,
            (_, true) if seats > *limits.start() => seats - 1,
            _ => return seats,
        };
        *self = Scale::default();
        wanted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many there are after so many looks, one in a second.
    fn after(
        looks: u64,
        mut seats: usize,
        limits: RangeInclusive<usize>,
        busy: impl Fn(u64) -> f64,
    ) -> usize {
        let (mut scale, begin) = (Scale::default(), Instant::now());
        for second in 0..looks {
            seats = scale.look(begin + Duration::from_secs(second), seats, &limits, Some(busy(second)));
        }
        seats
    }

    #[test]
    fn those_who_are_busy_for_some_looks_get_another() {
        assert_eq!(after(2, 1, 1..=4, |_| 0.9), 1);
        assert_eq!(after(3, 1, 1..=4, |_| 0.9), 2);
        assert_eq!(after(100, 1, 1..=4, |_| 1.0), 4, "and not more than were asked for");
    }

    #[test]
    fn a_burst_is_no_reason() {
        assert_eq!(after(100, 1, 1..=4, |second| if second % 2 == 0 { 1.0 } else { 0.5 }), 1);
    }

    #[test]
    fn one_leaves_when_they_have_been_idle_for_a_minute() {
        assert_eq!(after(60, 3, 1..=4, |_| 0.1), 3);
        assert_eq!(after(61, 3, 1..=4, |_| 0.1), 2);
        assert_eq!(after(1000, 3, 2..=4, |_| 0.0), 2, "and not more than may");
        assert_eq!(after(1000, 3, 1..=4, |second| if second % 50 == 0 { 0.5 } else { 0.0 }), 3);
    }

    #[test]
    fn what_one_less_makes_of_idle_ones_is_not_busy() {
        let worst = (2..=100).map(|seats| IDLE * f64::from(seats) / f64::from(seats - 1));
        assert!(worst.fold(0.0, f64::max) < BUSY);
    }

    #[test]
    fn while_they_change_the_time_begins_anew() {
        let (mut scale, now) = (Scale::default(), Instant::now());
        let mut look = |second, busy| scale.look(now + Duration::from_secs(second), 1, &(1..=2), busy);
        assert_eq!(look(0, Some(1.0)), 1);
        assert_eq!(look(1, None), 1);
        assert_eq!(look(2, Some(1.0)), 1);
        assert_eq!(look(3, Some(1.0)), 1);
        assert_eq!(look(4, Some(1.0)), 2);
    }

    #[test]
    fn a_number_that_somebody_wished_for_stays() {
        assert_eq!(after(1000, 0, 1..=4, |_| 1.0), 0);
        assert_eq!(after(1000, 6, 1..=4, |_| 1.0), 6);
    }
}
