//! How many connections each worker has, so that one that has more than others lets them accept first. Whoever happens to be awake
//! would take all that wait: the kernel does not spread what comes to one socket.

use std::io;
use std::sync::Arc;

use greenlet::shm::Counter;

use crate::serve::is_above_average;

/// The numbers of all workers of a master, by place; 0 if nobody accepts there, else one more than there are connections.
#[derive(Clone)]
pub(super) struct Loads(Arc<[Counter]>);

impl Loads {
    /// For so many places. Workers of higher ones neither give way nor count.
    pub(super) fn new(places: usize) -> io::Result<Loads> {
        (0..places).map(|_| Counter::new()).collect::<Result<_, _>>().map(Loads)
    }

    /// Nobody accepts at this place.
    pub(super) fn forget(&self, place: usize) {
        self.set(place, 0);
    }

    /// The worker of this place has so many connections. Says whether that is clearly more than the average.
    pub(super) fn is_above_average(&self, place: usize, connections: usize) -> bool {
        let own = i64::try_from(connections).unwrap_or(i64::MAX - 1) + 1;
        self.set(place, own);
        let (sum, workers) = self
            .0
            .iter()
            .map(Counter::get)
            .filter(|load| *load > 0)
            .fold((0_i64, 0), |(sum, workers), load| (sum.saturating_add(load), workers + 1));
        place < self.0.len() && is_above_average(own as usize, sum as usize, workers)
    }

    /// Nobody else writes there: the master only before there is a worker and when there is none any more.
    fn set(&self, place: usize, load: i64) {
        if let Some(counter) = self.0.get(place) {
            counter.add(load - counter.get());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_clearly_more_than_the_others_gives_way() {
        let loads = Loads::new(3).unwrap();
        assert!(!loads.is_above_average(0, 100), "alone");
        assert!(!loads.is_above_average(1, 0));
        assert!(loads.is_above_average(0, 100));
        assert!(!loads.is_above_average(1, 99));
        assert!(!loads.is_above_average(0, 100), "a small difference");
        loads.is_above_average(1, 0);
        loads.forget(1);
        assert!(!loads.is_above_average(0, 100), "nobody else is there any more");
        assert!(!loads.is_above_average(7, 1000), "a place beyond all others");
    }

    #[test]
    fn few_connections_are_nobodys_burden() {
        let loads = Loads::new(4).unwrap();
        (0..4).for_each(|place| assert!(!loads.is_above_average(place, 0)));
        assert!(!loads.is_above_average(0, 1));
        assert!(loads.is_above_average(0, 3));
    }
}
