//! When a worker has served enough: so many requests, for so long, or with so much memory. The master has another take its
//! seat then, and nobody notices.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::process;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::config::Config;

/// What a worker has done, and what it may.
pub(super) struct Wear {
    /// 0: any number.
    max_requests: u64,
    served: AtomicU64,
    /// How old it may become.
    lifetime: Option<Duration>,
    born: Instant,
    /// How much memory it may take, in bytes.
    max_memory: Option<u64>,
    /// It took more than that from the beginning, as every other would.
    memory_is_hopeless: AtomicBool,
    looked: AtomicBool,
}

impl Wear {
    /// Of the worker that begins now: its share of the jitter is its own.
    pub(super) fn new(config: &Config, age: u64) -> Wear {
        // The keys are the master's, and the same in all of its workers.
        let mut chance = RandomState::new().hash_one((process::id(), age));
        let mut spread = |most: u64| {
            let part = within(chance, most);
            chance = chance.rotate_left(32);
            part
        };
        let max_requests = match config.max_requests as u64 {
            0 => 0,
            most => most + spread(config.max_requests_jitter as u64),
        };
        let jitter = config.max_worker_lifetime_jitter.as_millis();
        let jitter = Duration::from_millis(spread(u64::try_from(jitter).unwrap_or(u64::MAX)));
        Wear {
            max_requests,
            served: AtomicU64::new(0),
            lifetime: config.max_worker_lifetime.map(|lifetime| lifetime + jitter),
            born: Instant::now(),
            max_memory: config.max_worker_memory,
            memory_is_hopeless: AtomicBool::new(false),
            looked: AtomicBool::new(false),
        }
    }

    /// One more request. Gives the reason if it was the last one before another worker is wanted.
    pub(super) fn request(&self) -> Option<String> {
        let is_last =
            self.max_requests > 0 && self.served.fetch_add(1, Ordering::Relaxed) + 1 == self.max_requests;
        is_last.then(|| self.of_requests())
    }

    #[cold]
    fn of_requests(&self) -> String {
        format!("it has served {} requests (max_requests)", self.max_requests)
    }

    /// Why another worker is wanted, if it is. Called from time to time.
    pub(super) fn look(&self) -> Option<String> {
        self.look_at(self.born.elapsed(), resident)
    }

    fn look_at(&self, age: Duration, resident: impl FnOnce() -> Option<u64>) -> Option<String> {
        if self.max_requests > 0 && self.served.load(Ordering::Relaxed) >= self.max_requests {
            return Some(self.of_requests());
        }
        if self.lifetime.is_some_and(|lifetime| age >= lifetime) {
            return Some(format!("it has served for {:.0} s (max_worker_lifetime)", age.as_secs_f64()));
        }
        let most = self.max_memory?;
        let is_first = !self.looked.swap(true, Ordering::Relaxed);
        if self.memory_is_hopeless.load(Ordering::Relaxed) {
            return None;
        }
        let taken = resident()?;
        if taken <= most {
            return None;
        }
        if is_first {
            self.memory_is_hopeless.store(true, Ordering::Relaxed);
            log::warn!(
                "max_worker_memory is not kept: a worker takes {} from its beginning, which is more than {}; raise it",
                Mebibytes(taken),
                Mebibytes(most)
            );
            return None;
        }
        Some(format!("it takes {} of memory (max_worker_memory)", Mebibytes(taken)))
    }
}

/// A number from 0 to `most`, as evenly spread as `chance` is over all numbers.
fn within(chance: u64, most: u64) -> u64 {
    // Less than 2^64 after the shift.
    ((u128::from(chance) * (u128::from(most) + 1)) >> 64) as u64
}

/// How much of this process lies in memory, in bytes: what it shares with its master is counted, too.
fn resident() -> Option<u64> {
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

struct Mebibytes(u64);

impl std::fmt::Display for Mebibytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.1} MiB", self.0 as f64 / f64::from(1 << 20))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn wear(age: u64, change: impl FnOnce(&mut Config)) -> Wear {
        let mut config = Config::default();
        change(&mut config);
        Wear::new(&config, age)
    }

    #[test]
    fn nothing_wears_unless_it_was_asked_for() {
        let wear = wear(1, |config| config.max_requests_jitter = 5);
        assert!((0..1000).all(|_| wear.request().is_none()));
        assert_eq!(wear.look_at(Duration::MAX, || Some(u64::MAX)), None);
    }

    #[test]
    fn the_last_request_tells_of_it_once() {
        let wear = wear(1, |config| config.max_requests = 3);
        let told: Vec<_> = (0..9).map(|_| wear.request().is_some()).collect();
        assert_eq!(told, [false, false, true, false, false, false, false, false, false]);
        assert!(wear.look_at(Duration::ZERO, || None).is_some(), "and to whoever looks");
    }

    #[test]
    fn each_worker_has_its_own_jitter_within_what_was_asked() {
        let most = |age| {
            wear(age, |config| {
                (config.max_requests, config.max_requests_jitter) = (100, 1000);
            })
            .max_requests
        };
        let all: std::collections::BTreeSet<_> = (0..20).map(most).collect();
        assert!(all.len() > 10 && all.iter().all(|most| (100..=1100).contains(most)), "{all:?}");
    }

    #[test]
    fn a_share_of_chance_reaches_both_ends() {
        assert_eq!((within(0, 9), within(u64::MAX, 9)), (0, 9));
        assert_eq!((within(u64::MAX, 0), within(u64::MAX, u64::MAX)), (0, u64::MAX));
    }

    #[test]
    fn a_lifetime_ends_after_it_and_its_jitter() {
        let wear = wear(1, |config| {
            config.max_worker_lifetime = Some(Duration::from_secs(60));
            config.max_worker_lifetime_jitter = Duration::from_secs(10);
        });
        let look = |seconds| wear.look_at(Duration::from_secs(seconds), || None);
        assert_eq!(look(59), None);
        assert!(look(71).unwrap().contains("max_worker_lifetime"));
    }

    #[test]
    fn memory_counts_when_it_grows_over_the_limit() {
        let wear = wear(1, |config| config.max_worker_memory = Some(64 * MIB));
        let look = |mib| wear.look_at(Duration::ZERO, || Some(mib * MIB));
        assert_eq!(look(64), None);
        assert_eq!(look(65).unwrap(), "it takes 65.0 MiB of memory (max_worker_memory)");
    }

    #[test]
    fn a_limit_that_every_worker_is_above_replaces_nobody() {
        let wear = wear(1, |config| config.max_worker_memory = Some(MIB));
        let look = |mib| wear.look_at(Duration::ZERO, || Some(mib * MIB));
        assert_eq!(look(2), None);
        assert_eq!(look(200), None);
    }

    #[test]
    fn what_lies_in_memory_is_known() {
        assert!(resident().unwrap() > MIB / 4);
    }
}
