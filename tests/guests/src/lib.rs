//! What the tests of guests share: many slow operations at once ([`together`]), and what has to be true of them if they are to
//! count as cooperative.

use greenlet_interpose::thread_locals;

pub mod tls;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The stack of a greenlet that runs a guest, in bytes: the runtime's default of 256 KiB, or `GUESTS_STACK` in KiB, to find out how
/// little does; see docs/guests.md of `greenlet-interpose` for what was found.
pub fn stack() -> usize {
    std::env::var("GUESTS_STACK").map_or(256, |kib| kib.parse().expect("GUESTS_STACK is a number of KiB"))
        * 1024
}

/// Address of a server that `tests/guests/run` has started.
///
/// # Panics
/// If it has not.
pub fn server(name: &str) -> String {
    std::env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set: run tests/guests/run, which starts the servers"))
}

/// Whether the tests are run on OS threads, to see that they are right themselves.
pub fn on_threads() -> bool {
    std::env::var("GUESTS_ON").is_ok_and(|on| on == "threads")
}

/// Runs a test's body and ends the process if it takes too long, which is what a call that blocks the thread makes it do.
pub fn in_time<T>(body: impl FnOnce() -> T) -> T {
    const PATIENCE: Duration = Duration::from_secs(60);
    let (done, over) = std::sync::mpsc::channel::<()>();
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let watchdog = std::thread::spawn(move || {
        if over.recv_timeout(PATIENCE) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            eprintln!("{test} has not ended within {PATIENCE:?}: has a call blocked the thread?");
            std::process::abort();
        }
    });
    learn();
    let result = body();
    drop(done);
    let _ = watchdog.join();
    result
}

/// What has to be known of libraries that keep things for each thread: to be called first of all in a program whose greenlets use
/// them. Tokio's note that `block_on` is at work belongs to the greenlet (`postgres`); parking_lot does without its
/// place in its queue (`r2d2`).
pub fn learn() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let block_on = |at_work: &mut dyn FnMut()| {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async { at_work() });
        };
        // SAFETY: what tokio notes for the length of `block_on` is about that call alone.
        let words = unsafe { thread_locals::learn(block_on) };
        assert!(words > 0, "tokio keeps no note of being at work");
        let wait = || {
            let (lock, condition) = (parking_lot::Mutex::new(()), parking_lot::Condvar::new());
            condition.wait_for(&mut lock.lock(), Duration::from_millis(1));
        };
        // SAFETY: parking_lot takes its place by `try_with`, and uses the stack where there is none.
        let found = unsafe { thread_locals::do_without(wait) };
        assert!(found, "parking_lot has no place for each thread");
    });
}

/// A greenlet, or an OS thread when the tests are run on those.
pub enum Worker<T> {
    Green(greenlet::Greenlet<T>),
    Thread(std::thread::JoinHandle<T>),
}

/// Starts a greenlet.
pub fn spawn<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> Worker<T> {
    if on_threads() {
        return Worker::Thread(std::thread::spawn(f));
    }
    Worker::Green(greenlet::Builder::new().stack_size(stack()).spawn(f).expect("a greenlet"))
}

impl<T: 'static> Worker<T> {
    /// Its result; panics if it did.
    pub fn join(self) -> T {
        match self {
            Worker::Green(greenlet) => greenlet.join().unwrap_or_else(|error| panic!("{error}")),
            Worker::Thread(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
        }
    }
}

/// Sleeps in the runtime's own way, for the harness must not stand on what it tests.
pub fn pause(duration: Duration) {
    if on_threads() { std::thread::sleep(duration) } else { greenlet::sleep(duration) }
}

/// Waits until `condition` holds.
///
/// # Panics
/// If it never does.
#[track_caller]
pub fn until(condition: impl Fn() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < Duration::from_secs(40), "what was waited for has not come");
        pause(Duration::from_millis(2));
    }
}

/// A greenlet that runs all the while and counts how often, if nobody holds up the hub.
struct Ticker {
    ticks: Arc<AtomicUsize>,
    ends: Arc<AtomicBool>,
    worker: Worker<()>,
}

impl Ticker {
    const EVERY: Duration = Duration::from_millis(5);

    fn new() -> Ticker {
        let (ticks, ends) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let (counts, end) = (ticks.clone(), ends.clone());
        let worker = spawn(move || {
            while !end.load(Ordering::Relaxed) {
                counts.fetch_add(1, Ordering::Relaxed);
                pause(Ticker::EVERY);
            }
        });
        Ticker { ticks, ends, worker }
    }

    fn ticks(&self) -> usize {
        self.ticks.load(Ordering::Relaxed)
    }

    fn end(self) {
        self.ends.store(true, Ordering::Relaxed);
        self.worker.join();
    }
}

/// How long operations took: one alone, and all at once.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    pub one: Duration,
    pub all: Duration,
}

/// Runs one slow operation alone, and then `n` of them at once in as many greenlets, each with a guest of its own, made by
/// `make` before the clock runs.
///
/// # Panics
/// Unless all have begun before the first has ended, another greenlet has run all the while, and they have taken less
/// than half of what one after the other would take.
pub fn together<G: 'static>(
    n: usize,
    make: impl Fn(usize) -> G + Send + Sync + 'static,
    operate: impl Fn(&mut G) + Send + Sync + 'static,
) -> Times {
    in_time(|| {
        let (make, operate) = (Arc::new(make), Arc::new(operate));
        let one = {
            let (make, operate) = (make.clone(), operate.clone());
            spawn(move || {
                let mut guest = make(n);
                operate(&mut guest); // what is done on first use only
                let begin = Instant::now();
                operate(&mut guest);
                begin.elapsed()
            })
        }
        .join();

        let (ready, go) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let order = Arc::<Mutex<Vec<bool>>>::default(); // true: one has begun, false: one has ended
        let note = |order: &Mutex<Vec<bool>>, begins| match order.try_lock() {
            Ok(mut order) => order.push(begins),
            // On OS threads only: greenlets do not switch with it in hand.
            Err(_) => order.lock().expect("nobody panics with it").push(begins),
        };
        let workers: Vec<_> = (0..n)
            .map(|number| {
                let (make, operate) = (make.clone(), operate.clone());
                let (ready, go, order) = (ready.clone(), go.clone(), order.clone());
                spawn(move || {
                    let mut guest = make(number);
                    ready.fetch_add(1, Ordering::SeqCst);
                    until(|| go.load(Ordering::SeqCst));
                    note(&order, true);
                    operate(&mut guest);
                    note(&order, false);
                })
            })
            .collect();
        let ticker = Ticker::new();
        until(|| ready.load(Ordering::SeqCst) == n);
        let ticks = ticker.ticks();
        let begin = Instant::now();
        go.store(true, Ordering::SeqCst);
        workers.into_iter().for_each(Worker::join);
        let all = begin.elapsed();
        let ticks = ticker.ticks() - ticks;
        ticker.end();

        let order = order.lock().expect("nobody panics with it");
        let begun = order.iter().take_while(|begins| **begins).count();
        assert_eq!(
            begun, n,
            "so many of {n} had begun when the first ended; one alone takes {one:?}, all {all:?}"
        );
        let times = Times { one, all };
        assert!(all < one * n as u32 / 2, "{n} took as long as one after the other: {times:?}");
        // A tenth of what an idle machine gives.
        let expected = all.as_micros() / Ticker::EVERY.as_micros() / 10;
        assert!(ticks as u128 >= expected.max(2), "others ran {ticks} times only: {times:?}");
        println!("{n} at once: {all:?}, one alone {one:?}; another greenlet ran {ticks} times meanwhile");
        times
    })
}
