//! Signals, delivered to greenlets.
//!
//! [`on`] has a function run in a greenlet of its own whenever a signal arrives; [`Signals`] is a stream of them for a
//! greenlet that waits. Both belong to the thread's hub, which a signal wakes if it sleeps; if it is busy, the greenlets
//! start in one of its next turns. Any thread of the process may register, several handlers for one signal all run.
//!
//! The kernel's own handler only sets a bit and writes to a descriptor of each hub that has asked, so everything is allowed
//! in these functions: they may block, take locks, allocate and panic.
//!
//! # Rules
//!
//! - **Coalescing.** Signals of one kind that arrive before the hub has looked at them are one. A handler that still runs
//!   does not keep the next from starting: two runs may overlap where the first has parked.
//! - **Order.** Handlers of one signal start in the order in which they were registered. Different signals that are found
//!   together come in the order of their numbers.
//! - **What was there before.** The signal's earlier disposition is put back when its last handler goes. Until then an
//!   earlier handler *function* is still called, before ours; "ignore" and "default" are not in force: a program that
//!   handles SIGTERM does not end by it.
//! - **No `LoopExit`.** As long as there is a handler, somebody outside may still wake this hub: a wait in main is not called
//!   hopeless.
//! - **Children.** A program that is started begins with the defaults. SIGCHLD may be handled like any other; the waits of
//!   [`process`](crate::process) do without it.
//! - SIGKILL and SIGSTOP cannot be handled, and the signals of a fault (SIGSEGV, SIGBUS, SIGILL, SIGFPE) must not be: the
//!   faulty instruction would be tried again for ever.
//!
//! What may not enter here: what a signal means to a program.
//!
//! # From gevent
//!
//! | gevent | here | difference |
//! |---|---|---|
//! | `gevent.signal_handler(signum, f, *args)` | [`on`] | an object that ends it when dropped; keeps the hub from a `LoopExit` |
//! | `signal_handler.cancel()` | dropping the [`Handler`] | the earlier disposition is put back |
//! | `signal_handler.ref` | none | a handler always counts as somebody who may wake the hub |
//! | `signal.signal(SIGCHLD, f)` after `patch_signal` | [`on`] with [`Signal::CHLD`] | |
//! | `signal.getsignal` | none | handlers are known by those who registered them |
//! | none | [`Signals`], [`wait`] | |

mod mailbox;
mod number;
mod room;

pub use number::Signal;
pub(crate) use room::BeforeFork;

use std::cell::Cell;
use std::fmt;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use crate::error::WaitError;
use crate::hub::Hub;
use crate::sync::Event;
use room::{Subscription, Taker};

/// Has `f` run in a new greenlet of this thread whenever `signal` arrives (`gevent.signal_handler`), until the handler that
/// is returned is dropped.
///
/// ```
/// use std::rc::Rc;
/// use greenlet::signal::{self, Signal};
/// use greenlet::sync::Event;
///
/// let stop = Rc::new(Event::new());
/// let _handler = signal::on(Signal::TERM, { let stop = stop.clone(); move || stop.set() })?;
/// # greenlet::spawn(|| unsafe { libc::kill(libc::getpid(), libc::SIGTERM) });
/// stop.wait().unwrap(); // until somebody says `kill`
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// `InvalidInput` for a signal that cannot be handled; the kernel's: no descriptor to be had.
pub fn on(signal: Signal, f: impl Fn() + 'static) -> io::Result<Handler> {
    room::subscribe(signal, Taker::Start(Rc::new(f))).map(|subscription| Handler(Some(subscription)))
}

/// Keeps a handler registered with [`on`]. Dropped, it takes the handler away; a run that has begun goes on, one that was
/// about to start still does. It may be dropped by the handler itself.
#[must_use = "the handler is taken away when this is dropped; `forget` keeps it"]
pub struct Handler(Option<Subscription>);

impl Handler {
    /// The handler stays for as long as this thread's hub.
    pub fn forget(mut self) {
        if let Some(subscription) = self.0.take() {
            std::mem::forget(subscription);
        }
    }

    /// The signal it handles.
    pub fn signal(&self) -> Signal {
        match &self.0 {
            Some(subscription) => subscription.signal(),
            None => unreachable!("taken only by `forget`, which consumes the handler"),
        }
    }
}

impl fmt::Debug for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Handler").field(&self.signal()).finish()
    }
}

/// The signals of a set as they arrive, for greenlets that wait for them. From the time it is made none is missed; those of
/// one kind that nobody has taken yet are one.
///
/// ```
/// use greenlet::signal::{Signal, Signals};
///
/// let signals = Signals::new(&[Signal::HUP, Signal::USR1])?;
/// # greenlet::spawn(|| unsafe { libc::kill(libc::getpid(), libc::SIGUSR1) });
/// match signals.wait()? {
///     Signal::HUP => println!("read the settings again"),
///     signal => println!("{signal}: reopen the logs"),
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Signals {
    arrived: Rc<Arrived>,
    subscriptions: Vec<Subscription>,
}

/// What has arrived and has not been taken.
pub(crate) struct Arrived {
    set: Cell<u64>,
    any: Event,
}

impl Signals {
    /// Begins to collect these signals.
    ///
    /// # Errors
    /// As [`on`].
    pub fn new(signals: &[Signal]) -> io::Result<Signals> {
        let arrived = Rc::new(Arrived { set: Cell::new(0), any: Event::new() });
        let subscribe = |signal: &Signal| room::subscribe(*signal, Taker::Note(arrived.clone()));
        let subscriptions = signals.iter().map(subscribe).collect::<io::Result<_>>()?;
        Ok(Signals { arrived, subscriptions })
    }

    /// Waits for the next. Parks the greenlet. Each is given to one who waits.
    ///
    /// # Errors
    /// Why the wait failed.
    pub fn wait(&self) -> Result<Signal, WaitError> {
        self.wait_until(|event| event.wait())
    }

    /// As [`wait`](Self::wait), but gives up after a while.
    ///
    /// # Errors
    /// `TimedOut`; why the wait failed.
    pub fn wait_timeout(&self, timeout: Duration) -> Result<Signal, WaitError> {
        let hub = Hub::get();
        let deadline = hub.deadline(timeout);
        self.wait_until(|event| match deadline {
            Some(deadline) => event.wait_timeout(deadline.since(hub.now())),
            None => event.wait(),
        })
    }

    /// One that has arrived. Never waits.
    pub fn try_wait(&self) -> Option<Signal> {
        self.arrived.take()
    }

    fn wait_until(&self, wait: impl Fn(&Event) -> Result<(), WaitError>) -> Result<Signal, WaitError> {
        loop {
            if let Some(signal) = self.arrived.take() {
                return Ok(signal);
            }
            wait(&self.arrived.any)?;
        }
    }
}

impl fmt::Debug for Signals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.subscriptions.iter().map(Subscription::signal)).finish()
    }
}

impl Arrived {
    fn add(&self, signal: Signal) {
        self.set.set(self.set.get() | signal.bit());
        self.any.set();
    }

    fn take(&self) -> Option<Signal> {
        let set = self.set.get();
        let first = Signal::in_set(set).next()?;
        self.set.set(set & !first.bit());
        if self.set.get() == 0 {
            self.any.clear();
        }
        Some(first)
    }
}

/// Waits until one of these signals arrives, or `timeout` is over (`None`: never). Parks the greenlet. What arrives between
/// two calls has the effect that it would have without: see [`Signals`].
///
/// # Errors
/// `TimedOut`; as [`on`]; why the wait failed.
pub fn wait(signals: &[Signal], timeout: impl Into<Option<Duration>>) -> io::Result<Signal> {
    let signals = Signals::new(signals)?;
    Ok(match timeout.into() {
        Some(timeout) => signals.wait_timeout(timeout),
        None => signals.wait(),
    }?)
}
