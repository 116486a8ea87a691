//! One connection's life, and one request of it: from the head that was found to what becomes of the connection after it.

use std::io;
use std::net::Shutdown;
use std::ops::Deref;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use ::http::{HeaderMap, StatusCode};

use super::conn::{Conn, NoRequest};
use super::failures::{after_broken, after_failure, after_panic, log_access, refuse};
use super::output::GATHER;
use super::respond::respond;
use super::transport::Transport;
use crate::app::{Came, Handler, Request, keep_came};
use crate::http::Head;

/// Serves a connection until it ends, or until nothing has come for a while: then gives how much longer its next request may
/// be waited for, and nobody else holds on to the connection.
pub(crate) fn live<T: Transport>(conn: &Rc<Conn<T>>, app: &dyn Handler) -> Option<Duration> {
    let _end = End(conn);
    loop {
        match one_request(conn, app) {
            After::Alive => conn.take_turn(),
            After::Idle(left) => return Some(left),
            After::Torn => return None,
            After::Close { may_send } => {
                conn.close(may_send);
                return None;
            }
        }
    }
}

/// Ends the connection even if the application has kept a request's body, which holds on to it.
struct End<'c, T: Transport>(&'c Rc<Conn<T>>);

impl<T: Transport> Drop for End<'_, T> {
    fn drop(&mut self) {
        if Rc::strong_count(self.0) > 1 {
            // A client that has gone already needs no telling.
            let _ = self.0.io().shutdown(Shutdown::Both);
        }
    }
}

/// What becomes of the connection after a request, or without one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    Alive,
    Close {
        /// The client may be sending although all of its request was read: it knows nothing yet of the end.
        may_send: bool,
    },
    /// There is nobody left to be polite to.
    Torn,
    /// There was no request, and may be none for so much longer.
    Idle(Duration),
}

/// What the answer depends on, once the request belongs to the handler.
pub(super) struct Asked {
    pub(super) came: Rc<Came>,
    pub(super) keep_alive: bool,
    /// Noted only if somebody will look.
    pub(super) started: Option<(SystemTime, Instant)>,
}

impl Asked {
    /// The end of the connection, after which a client that did not ask for it may have sent more (RFC 9112, 9.6).
    pub(super) fn close(&self) -> After {
        After::Close { may_send: self.came.head().keep_alive }
    }
}

impl Deref for Asked {
    type Target = Head;

    fn deref(&self) -> &Head {
        self.came.head()
    }
}

/// An answer that was handed to the output whole.
pub(super) struct Answered {
    pub(super) status: StatusCode,
    /// Kept only if somebody will look.
    pub(super) headers: Option<Box<HeaderMap>>,
    pub(super) alive: bool,
}

/// Why an answer is not whole.
pub(super) enum Broken {
    /// The client can't be reached.
    ClientGone(io::Error),
    /// The body falls so many bytes short of the length stated with this status.
    Short(StatusCode, u64),
    /// The application failed: how, in words. The status is what the client may already have seen.
    Application(StatusCode, String),
}

// While a handler waits, the frames under it are most of what a connection costs. So what happens before and after lies in
// functions of its own, and request and response are each in one place.
#[inline(never)]
fn one_request<T: Transport>(conn: &Rc<Conn<T>>, app: &dyn Handler) -> After {
    // A request's body that the application has kept must find its connection here.
    let leave = Rc::strong_count(conn) == 1;
    let came = match conn.next_head(leave) {
        Ok(found) => found,
        Err(none) => return without_request(conn, none),
    };
    let keep_alive = came.head().keep_alive && !conn.settings.keep_alive.is_zero();
    let asked = Asked { came, keep_alive, started: start(conn) };
    let mut outcome = None;
    let mut run = || {
        // A request's values end with it, while the connection's green thread lives on.
        ctxlocal::scope(|| T::catch(|| outcome = Some(answer(conn, app, &asked))))
    };
    let caught = match conn.settings.request_timeout {
        None => Some(run()),
        Some(limit) => within::<T>(limit, &mut run),
    };
    conn.end_request();
    let after = match (caught, outcome) {
        (Some(Ok(())), Some(Ok(answered))) => {
            let after = settle(conn, &asked, answered.alive);
            if let Some(headers) = answered.headers {
                log_access(conn, &asked, answered.status, &headers);
            }
            after
        }
        (Some(Ok(())), Some(Err(broken))) => after_broken(conn, &asked, broken),
        (Some(Err(panic)), _) => after_panic(conn, &asked, &panic),
        (None, _) | (Some(Ok(())), None) => {
            let reason = "the request timeout was over";
            after_failure(conn, &asked, StatusCode::SERVICE_UNAVAILABLE, reason, None)
        }
    };
    keep_came(asked.came);
    after
}

/// See [`Transport::within`].
#[inline(never)]
fn within<T: Transport>(
    limit: Duration,
    run: &mut dyn FnMut() -> Result<(), String>,
) -> Option<Result<(), String>> {
    T::within(limit, run)
}

/// When a request began, if somebody will look.
#[inline(never)]
pub(super) fn start<T: Transport>(conn: &Conn<T>) -> Option<(SystemTime, Instant)> {
    conn.settings.access_log.is_some().then(|| (SystemTime::now(), Instant::now()))
}

/// Has the handler answer, and hands its answer to the output.
#[inline(never)]
fn answer<T: Transport>(conn: &Rc<Conn<T>>, app: &dyn Handler, asked: &Asked) -> Result<Answered, Broken> {
    // Nested, so that the request is made where the handler gets it.
    let mut response = app.call(Request::incoming(
        Rc::clone(&asked.came),
        Rc::clone(conn) as Rc<dyn crate::app::Connection>,
        conn.begin_request(),
    ));
    respond(conn, asked, &mut response)
}

#[cold]
#[inline(never)]
fn without_request<T: Transport>(conn: &Rc<Conn<T>>, why: NoRequest) -> After {
    match why {
        NoRequest::Idle(left) => After::Idle(left),
        NoRequest::Ended => After::Torn,
        NoRequest::Refused(status, reason, head) => {
            refuse(conn, head.as_deref(), status, reason);
            After::Close { may_send: true }
        }
    }
}

/// After a whole answer: what is left of the request is read away, and what is not to wait is sent.
#[inline(never)]
fn settle<T: Transport>(conn: &Rc<Conn<T>>, asked: &Asked, alive: bool) -> After {
    let (whole, more) =
        conn.input().map_or((false, false), |input| (input.body_left() == Some(0), !input.is_empty()));
    if !alive || !(whole || conn.could_drain()) {
        return asked.close();
    }
    // If another request has come already its answer is sent together with this one, unless it is long enough as it is.
    if whole && more && conn.output().is_ok_and(|output| output.len() <= GATHER) {
        conn.flush_when_waiting();
    } else if conn.flush().is_err() {
        return After::Torn;
    }
    if whole || conn.drain() { After::Alive } else { asked.close() }
}
