//! What can be seen of the connections from outside, and how another thread gets to see it.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use greenlet::HubHandle;
use greenlet::inspect::{Info, Report, greenlets};

use super::Green;
use super::socket::{GreenSocket, Stream};
use crate::app::{Addr, Came};
use crate::serve::conn::Conn;
use crate::serve::failures::described;
use crate::serve::insight::{Blind, Insight, Seen, State};
use crate::serve::transport::Transport;

thread_local! {
    /// The server of this thread, while it serves.
    static SERVER: RefCell<Weak<Green>> = const { RefCell::new(Weak::new()) };
}

/// A way to this thread's server, for other threads.
pub(super) fn insight(server: &Rc<Green>) -> impl Insight {
    SERVER.set(Rc::downgrade(server));
    Look(HubHandle::current())
}

struct Look(HubHandle);

impl Look {
    fn ask<T: Send + 'static>(
        &self,
        patience: Duration,
        f: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Blind> {
        // Long lists take their time, of which nobody needs to be warned.
        let asked = self.0.call_timeout(patience, || greenlet::may_block(f));
        asked.map_err(|error| Blind::of(error, patience))
    }
}

impl Insight for Look {
    fn answers(&self, patience: Duration) -> Result<(), Blind> {
        self.ask(patience, || ())
    }

    fn connections(&self, patience: Duration) -> Result<Vec<Seen>, Blind> {
        self.ask(patience, seen)?.ok_or(Blind::Gone)
    }

    fn greenlets(&self, patience: Duration) -> Result<Vec<Info>, Blind> {
        self.ask(patience, || greenlets(false))
    }

    fn stacks(&self, most: usize, patience: Duration) -> Result<String, Blind> {
        self.ask(patience, move || Report::new().limit(most).to_string())
    }
}

fn seen() -> Option<Vec<Seen>> {
    let server = SERVER.with_borrow(Weak::upgrade)?;
    let threads: HashMap<u64, Info> = greenlets(false).into_iter().map(|info| (info.id, info)).collect();
    Some(server.live.map(|socket| socket.seen(&threads)))
}

/// What of a connection's life is noted at its socket, for whoever looks. Little, for each idle connection has one, and seldom:
/// when a green thread begins to serve it and when it leaves it alone.
#[derive(Default)]
pub(super) struct Notes(Cell<Life>);

#[derive(Clone, Default)]
enum Life {
    /// Nobody has read HTTP on it yet.
    #[default]
    New,
    Served(Weak<dyn Progress>),
    /// Left alone since then, after so many requests.
    Idle {
        requests: u64,
        since: Instant,
    },
}

/// How far a connection is.
trait Progress {
    /// Who serves it.
    fn served_by(&self) -> u64;
    fn requests(&self) -> u64;
    fn request(&self) -> Option<Rc<Came>>;
    fn is_answering(&self) -> bool;
}

impl<T: Transport> Progress for Conn<T> {
    fn served_by(&self) -> u64 {
        self.served_by.get()
    }

    fn requests(&self) -> u64 {
        self.served()
    }

    fn request(&self) -> Option<Rc<Came>> {
        let came = self.current.take();
        self.current.set(came.clone());
        came
    }

    fn is_answering(&self) -> bool {
        self.answering.get().is_some()
    }
}

impl Notes {
    /// This green thread serves it from now on. Tells the connection how far it is.
    pub(super) fn enter<T: Transport>(&self, conn: &Rc<Conn<T>>) {
        if let Life::Idle { requests, .. } = self.0.take() {
            conn.set_served(requests);
        }
        conn.served_by.set(greenlet::current().id());
        let conn: Rc<dyn Progress> = Rc::<Conn<T>>::clone(conn);
        self.0.set(Life::Served(Rc::downgrade(&conn)));
    }

    /// No green thread serves it until something comes.
    pub(super) fn leave(&self, requests: u64) {
        self.0.set(Life::Idle { requests, since: Instant::now() });
    }

    fn look(&self) -> Life {
        let life = self.0.take();
        self.0.set(life.clone());
        life
    }
}

impl GreenSocket {
    fn seen(&self, threads: &HashMap<u64, Info>) -> Seen {
        let (conn, left) = match self.0.notes.look() {
            Life::New => (None, None),
            Life::Served(conn) => (conn.upgrade(), None),
            Life::Idle { requests, since } => (None, Some((requests, since))),
        };
        let request = conn.as_ref().and_then(|conn| conn.request());
        let state = match (&conn, &request) {
            _ if self.0.upgraded.get() => State::Upgraded,
            _ if self.is_idle() => State::Idle,
            (None, _) => State::Opening,
            (Some(_), None) => State::Reading,
            (Some(conn), Some(_)) if conn.is_answering() => State::Writing,
            (Some(_), Some(_)) => State::Handler,
        };
        let thread = conn.as_ref().and_then(|conn| threads.get(&conn.served_by()));
        let since = match thread {
            Some(thread) => thread.since,
            None => left.map(|(_, since)| since.elapsed()),
        };
        Seen {
            peer: self.peer().map(|peer| peer.to_string()),
            state,
            since: since.map(|since| since.as_secs_f64()),
            waits: thread.map(|thread| thread.what.clone()),
            requests: Some(conn.map_or(left.map_or(0, |(requests, _)| requests), |conn| conn.requests())),
            request: request.map(|came| described(came.bytes()).to_string().escape_debug().to_string()),
        }
    }

    fn peer(&self) -> Option<Addr> {
        match &self.0.stream {
            Stream::Tcp(stream) => stream.peer_addr().ok().map(Addr::from),
            Stream::Unix(stream) => stream.peer_addr().ok().map(Addr::from),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_of_a_connection_takes_no_more_than_three_words() {
        assert!(size_of::<Notes>() <= 24);
    }
}
