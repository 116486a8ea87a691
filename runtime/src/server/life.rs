//! What servers have in common: they start, they serve, and they stop.

use std::cell::{Cell, RefCell};
use std::io;
use std::time::Duration;

use crate::error::WaitError;
use crate::greenlet::{Builder, GreenletRef, current};
use crate::pool::{Group, Pool, Slot};
use crate::sync::Event;

/// How long `stop` waits for those it has killed, and how long [`serve_forever`](super::StreamServer::serve_forever) waits
/// for handlers when it is interrupted (gevent's `stop_timeout`).
pub(super) const LAST_MOMENT: Duration = Duration::from_secs(1);

/// A server's life.
pub(super) struct Life {
    /// Bounds the handlers.
    pool: RefCell<Option<Pool>>,
    handlers: Group,
    acceptor: RefCell<Option<GreenletRef>>,
    closed: Cell<bool>,
    /// Set once nothing is left to wait for.
    ended: Event,
    failure: RefCell<Option<io::Error>>,
}

impl Life {
    pub(super) fn new() -> Life {
        Life {
            pool: RefCell::new(None),
            handlers: Group::new(),
            acceptor: RefCell::new(None),
            closed: Cell::new(false),
            ended: Event::new(),
            failure: RefCell::new(None),
        }
    }

    pub(super) fn set_pool(&self, pool: Pool) {
        self.pool.replace(Some(pool));
    }

    /// How many handlers are at work.
    pub(super) fn handlers(&self) -> usize {
        self.handlers.len()
    }

    /// Whether it accepts.
    pub(super) fn is_started(&self) -> bool {
        self.acceptor.borrow().as_ref().is_some_and(|acceptor| !acceptor.is_dead())
    }

    /// Has `accept` run in a greenlet of this name until it fails, unless one does.
    pub(super) fn start(&self, name: String, accept: impl FnOnce() + 'static) -> io::Result<()> {
        if self.closed.get() {
            let message = "the server has been stopped: make a new one";
            return Err(io::Error::new(io::ErrorKind::NotConnected, message));
        }
        if !self.is_started() {
            let acceptor = Builder::new().name(name).spawn(accept)?;
            self.acceptor.replace(Some((*acceptor).clone()));
        }
        Ok(())
    }

    /// Waits for a place for one more handler.
    pub(super) fn reserve(&self) -> Result<Option<Slot>, WaitError> {
        // Copied out: it parks.
        let pool = self.pool.borrow().clone();
        pool.map(|pool| pool.reserve(None)).transpose()
    }

    /// Runs a handler in a greenlet of its own. Its panic is logged.
    pub(super) fn handle(&self, slot: Option<Slot>, handler: impl FnOnce() + 'static) {
        match slot {
            Some(slot) => drop(slot.spawn_in(&self.handlers, handler)),
            None => drop(self.handlers.spawn(handler)),
        }
    }

    /// Accepting has failed for good.
    pub(super) fn fail(&self, error: io::Error) {
        log::error!("{error}");
        self.failure.replace(Some(error));
        self.closed.set(true);
        self.ended.set();
    }

    pub(super) fn stop_accepting(&self) -> Result<(), WaitError> {
        // Copied out: it parks.
        let acceptor = self.acceptor.borrow().clone();
        acceptor.map_or(Ok(()), |acceptor| acceptor.kill())
    }

    pub(super) fn close(&self) {
        self.closed.set(true);
        let acceptor = self.acceptor.take();
        acceptor.iter().for_each(GreenletRef::kill_soon);
        self.ended.set();
    }

    /// Waits for the handlers, and kills those that are left at the end. The acceptor is told to go by then.
    pub(super) fn stop(&self, timeout: Option<Duration>) -> Result<(), WaitError> {
        self.closed.set(true);
        let _ended = SetOnDrop(&self.ended);
        let accepting = self.stop_accepting();
        // A handler may stop its server: it does not wait for itself.
        self.handlers.discard(&current());
        let waited = accepting.and_then(|()| self.handlers.join(timeout));
        if let Err(error) = &waited {
            log::warn!("{} handlers of a server that stops are killed: {error}", self.handlers());
            let _ = self.handlers.kill_timeout(LAST_MOMENT);
        }
        waited
    }

    /// Waits until the server has been stopped or has failed.
    pub(super) fn wait(&self) -> io::Result<()> {
        self.ended.wait()?;
        self.failure.take().map_or(Ok(()), Err)
    }
}

struct SetOnDrop<'a>(&'a Event);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.set();
    }
}
