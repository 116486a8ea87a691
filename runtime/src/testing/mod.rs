//! Tests in virtual time and in an order that follows from a seed (Go's `testing/synctest`, Eio's mock clock).
//!
//! A program of greenlets is run on a hub of its own, where an hour's sleep takes no time and where the seed, not
//! chance, decides whose turn it is. Run it with many seeds, and it is seen in many orders; run it with the one that
//! failed, and it fails the same way again. What is left over at the end fails the run, too.
//!
//! ```
//! use std::rc::Rc;
//! use std::time::Duration;
//! use greenlet::sync::Queue;
//! use greenlet::testing;
//!
//! /// What is to be tested: gives up after an hour.
//! fn first_of(jobs: &Queue<u32>) -> Option<u32> {
//!     jobs.get_timeout(Duration::from_secs(3600)).ok()
//! }
//!
//! testing::each_seed(0..100, || {
//!     let jobs = Rc::new(Queue::unbounded());
//!     let worker = greenlet::spawn({ let jobs = jobs.clone(); move || first_of(&jobs) });
//!     greenlet::sleep(Duration::from_secs(3599));
//!     jobs.put(7).unwrap();
//!     assert_eq!(worker.join().unwrap(), Some(7));
//!     assert_eq!(first_of(&jobs), None);
//!     assert_eq!(testing::elapsed(), Duration::from_secs(2 * 3600 - 1));
//! });
//! ```
//!
//! # The order
//!
//! One after the other, a greenlet is picked from all that are ready; main is one of them. Unlike in production, one
//! that has become ready later may run first, and after a [`yield_now`](crate::yield_now) not everybody need have run.
//! What is first come, first served stays so: waiters of a queue or a semaphore get their turn in the order in which
//! they came, and timers fire in the order of their deadlines. The same seed gives the same run, as [`trace`] can show,
//! if all that happens comes from within: from greenlets, sleeps, timeouts, `sync`, and sockets with both ends in the run.
//! Two jobs in the thread pool at once, other threads, and maps with a random state bring chance back in.
//!
//! # The time
//!
//! It is read by [`greenlet::now`](crate::now), or as [`elapsed`]. It stands while somebody is ready. Once nobody is, it
//! jumps to the next timer, unless something real may come first:
//!
//! - While a greenlet waits for the thread pool ([`unblock`](crate::unblock), a name being resolved), it stands until the
//!   work is done.
//! - While somebody waits for a descriptor, or another thread holds a [`HubHandle`](crate::HubHandle) or another way in,
//!   these are given 1 ms of real time ([`Sim::settle`]) to speak up. What one end of a socket has sent is at the other at
//!   once, so for those with both ends in the run this is plenty. Give more where the peer is a thread or a process.
//! - If then there is no timer either, they are given 10 s ([`Sim::patience`]) before the wait is called hopeless.
//!
//! Somebody who yields in a loop until the time has come waits, too: after a million turns in which somebody was
//! always ready, the time jumps nevertheless.
//!
//! # What fails a run
//!
//! - A panic of the closure.
//! - A wait of main's that can never end: it is given [`LoopExit`](crate::LoopExit) as an error, which tells who is parked
//!   and where, at once or, if a descriptor is waited for, when patience is over. The closure fails by unwrapping it.
//! - A greenlet that has not ended. When the closure has returned, all who are ready are let go on, but the time stands:
//!   who still waits or sleeps then is named, with what it waits for, where it was spawned and where it stands.
//! - A timer or a descriptor that is left.
//!
//! The panic of a greenlet does not by itself: it reaches whoever joins that one.
//!
//! Each of these panics with the seed in the message. With `GREENLET_SEED=7` in the environment every run takes the
//! seed 7, and [`each_seed`] takes no other.
//!
//! This room decides what a run is and when it has failed. How a hub picks and how its time moves is the hub's.

use std::any::Any;
use std::env;
use std::fmt;
use std::panic;
use std::thread;
use std::time::Duration;

use crate::hub::{Hub, Run};

/// Runs `f` in virtual time and in an order that follows from `seed`; gives what it returns. The same as
/// `Sim::new().seed(seed).run(f)`.
///
/// # Panics
/// When the run fails; see the [module](self).
///
/// ```
/// let slept = greenlet::testing::run(7, || {
///     let began = greenlet::now();
///     greenlet::sleep(std::time::Duration::from_secs(3600));
///     greenlet::now() - began
/// });
/// assert_eq!(slept.as_secs(), 3600);
/// ```
pub fn run<T: Send>(seed: u64, f: impl FnOnce() -> T + Send) -> T {
    Sim::new().seed(seed).run(f)
}

/// Runs `f` once with each seed.
///
/// # Panics
/// When a run fails. Those after it are not begun.
pub fn each_seed(seeds: impl IntoIterator<Item = u64>, f: impl Fn() + Sync) {
    Sim::new().each_seed(seeds, f);
}

/// How to run a test; see the [module](self).
#[derive(Clone, Debug)]
#[must_use = "nothing runs until `run` is called"]
pub struct Sim {
    seed: u64,
    settle: Duration,
    patience: Duration,
}

impl Sim {
    /// The seed 0, 1 ms for descriptors and other threads, 10 s before a run is called stuck.
    pub fn new() -> Sim {
        Sim { seed: 0, settle: Duration::from_millis(1), patience: Duration::from_secs(10) }
    }

    /// The seed. `GREENLET_SEED` in the environment has the last word.
    pub fn seed(mut self, seed: u64) -> Sim {
        self.seed = seed;
        self
    }

    /// How long, in real time, descriptors that are waited for and other threads must be silent before the time moves
    /// on. Default 1 ms. [`Duration::ZERO`]: they are looked at once, which makes many runs with unix sockets fast;
    /// [`Duration::MAX`]: the time never moves on while they could speak up.
    pub fn settle(mut self, silence: Duration) -> Sim {
        self.settle = silence;
        self
    }

    /// How long, in real time, to wait for the thread pool, and for descriptors and other threads when there is no timer
    /// that the time could move to, before the wait is called hopeless. Default 10 s.
    pub fn patience(mut self, patience: Duration) -> Sim {
        self.patience = patience;
        self
    }

    /// Runs `f`, as the main greenlet of a new thread with a hub of its own, and gives what it returns. The caller's
    /// thread, with all its greenlets, blocks meanwhile.
    ///
    /// # Panics
    /// When the run fails, when `GREENLET_SEED` is no number, and when there is no thread or no poller to be had.
    pub fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        let seed = seed_from_environment().unwrap_or(self.seed);
        let result = thread::scope(|threads| {
            let name = thread::current().name().unwrap_or("main").to_owned();
            let body = || self.body(seed, f);
            match thread::Builder::new().name(name).spawn_scoped(threads, body) {
                Ok(thread) => thread.join(),
                Err(error) => panic!("cannot start a thread for a run of greenlet::testing: {error}"),
            }
        });
        result.unwrap_or_else(|payload| fail(seed, payload))
    }

    /// Runs `f` once with each seed, as [`run`](Self::run) does.
    ///
    /// # Panics
    /// When a run fails. Those after it are not begun.
    pub fn each_seed(&self, seeds: impl IntoIterator<Item = u64>, f: impl Fn() + Sync) {
        match seed_from_environment() {
            Some(_) => self.run(&f),
            None => seeds.into_iter().for_each(|seed| self.clone().seed(seed).run(&f)),
        }
    }

    fn body<T>(&self, seed: u64, f: impl FnOnce() -> T) -> T {
        let hub = Hub::get();
        hub.begin_run(seed, self.settle, self.patience);
        let value = ctxlocal::scope(f);
        let left = hub.end_run();
        assert!(left.is_empty(), "the run has ended, but there is left:\n  {}", left.join("\n  "));
        value
    }
}

impl Default for Sim {
    fn default() -> Sim {
        Sim::new()
    }
}

/// How much virtual time has gone by since this run began.
///
/// # Panics
/// Outside a run.
pub fn elapsed() -> Duration {
    Run::elapsed(here().0)
}

/// The seed of this run.
///
/// # Panics
/// Outside a run.
pub fn seed() -> u64 {
    here().1.seed
}

/// A number that follows from the seed, another one each time: for a test that makes up its input. The order of the
/// run does not depend on how many are taken.
///
/// # Panics
/// Outside a run.
pub fn random() -> u64 {
    here().1.random()
}

/// What has happened so far in this run. Two runs that have done the same have equal traces.
///
/// ```
/// use std::time::Duration;
/// use greenlet::{sleep, spawn, testing};
///
/// fn program() -> testing::Trace {
///     let jobs: Vec<_> = (0..10).map(|n| spawn(move || sleep(Duration::from_secs(n % 3)))).collect();
///     greenlet::join_all(&jobs, None).unwrap();
///     testing::trace()
/// }
///
/// assert_eq!(testing::run(1, program), testing::run(1, program));
/// # if std::env::var_os("GREENLET_SEED").is_none() {
/// assert_ne!(testing::run(1, program), testing::run(2, program));
/// # }
/// ```
///
/// # Panics
/// Outside a run.
pub fn trace() -> Trace {
    let (hub, _) = here();
    let crate::hub::Trace { turns, hash } = Run::trace(hub);
    Trace { turns, hash, elapsed: Run::elapsed(hub) }
}

/// Who has run, in which order, and how the time has moved, boiled down; see [`trace`].
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Trace {
    turns: u64,
    hash: u64,
    elapsed: Duration,
}

impl Trace {
    /// How often a greenlet was picked.
    pub fn turns(&self) -> u64 {
        self.turns
    }

    /// A hash of which greenlets were picked and of when the time moved to where.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// How much virtual time had gone by.
    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trace({} turns, {:?}, {:016x})", self.turns, self.elapsed, self.hash)
    }
}

fn here() -> (&'static Hub, &'static Run) {
    match Hub::run_here() {
        Some(here) => here,
        None => panic!("this thread is in no run of greenlet::testing: call it within testing::run"),
    }
}

const SEED: &str = "GREENLET_SEED";

fn seed_from_environment() -> Option<u64> {
    let text = env::var_os(SEED)?;
    match text.to_str().and_then(|text| text.parse().ok()) {
        Some(seed) => Some(seed),
        None => panic!("{SEED} is {text:?}, but must be a number from 0 to {}", u64::MAX),
    }
}

/// Goes on with the panic of a run, and says how to have it again.
fn fail(seed: u64, payload: Box<dyn Any + Send>) -> ! {
    let how = format!("in a run of greenlet::testing with the seed {seed}; {SEED}={seed} runs it again");
    eprintln!("{how}");
    let said = match payload.downcast::<String>() {
        Ok(text) => Ok(*text),
        Err(payload) => payload.downcast::<&'static str>().map(|text| (*text).to_owned()),
    };
    match said {
        Ok(text) => panic::resume_unwind(Box::new(format!("{text} ({how})"))),
        Err(payload) => panic::resume_unwind(payload),
    }
}
