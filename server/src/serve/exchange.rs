//! One connection's life, and one request of it: from the head that was found to what becomes of the connection after it.

use std::cell::Cell;
use std::io;
use std::net::Shutdown;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use ::http::{HeaderMap, HeaderName, StatusCode, Version};

use super::conn::{Conn, NoRequest};
use super::failures::{after_broken, after_failure, after_leaving, after_panic, cut_off, cut_off_between};
use super::failures::{count, described, log_access, refuse};
use super::output::GATHER;
use super::respond::respond;
use super::transport::Transport;
use super::upgrade::hand_over;
use super::uwsgi::Protocol;
use crate::app::{
    Came, Handler, HeaderMapping, Request, Response, TakeOver, has_work_after, keep_came, next_work_after,
};
use crate::http::{Head, Lines};
use crate::log::adopt_request_id;
use crate::metrics::{Begun, Meter};

/// Serves a connection until it ends, or until nothing has come for a while: then gives how much longer its next request may
/// be waited for, and nobody else holds on to the connection.
pub(crate) fn live<T: Transport>(conn: &Rc<Conn<T>>, app: &dyn Handler) -> Option<Duration> {
    let _end = End(conn);
    if conn.settings.protocol == Protocol::Uwsgi && !conn.is_allowed() {
        refuse(
            conn,
            None,
            StatusCode::FORBIDDEN,
            "this address may not speak uwsgi here: see --uwsgi-allow-from",
        );
        conn.close(true);
        return None;
    }
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
        if std::thread::panicking() {
            cut_off_between(self.0);
        }
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
    /// For which version the answer is framed, whatever that of the head is.
    pub(super) version: Version,
    pub(super) keep_alive: bool,
    /// Noted only if somebody will look.
    pub(super) started: Option<(SystemTime, Instant)>,
    /// It is being counted, and has not been yet.
    pub(super) begun: Cell<Option<Begun>>,
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

/// A request under way: if the green thread is killed, its client and the log hear of it. To be forgotten when its answer is
/// settled.
struct UnderWay<'c, T: Transport>(&'c Conn<T>, &'c Asked);

impl<T: Transport> Drop for UnderWay<'_, T> {
    #[cold]
    fn drop(&mut self) {
        cut_off(self.0, self.1);
    }
}

/// An answer that was handed to the output whole.
pub(super) struct Answered {
    pub(super) status: StatusCode,
    pub(super) alive: bool,
    pub(super) rest: Option<Box<Rest>>,
}

/// What else becomes of an answer, if somebody will look or the connection leaves HTTP.
pub(super) struct Rest {
    pub(super) noted: Noted,
    /// What takes the connection over now.
    pub(super) take_over: Option<Box<TakeOver>>,
}

/// What an access log is told of a response.
#[derive(Default)]
pub(super) struct Noted {
    pub(super) headers: HeaderMap,
    pub(super) route: Option<Arc<str>>,
}

impl Noted {
    #[cold]
    #[inline(never)]
    pub(super) fn of(response: &mut Response) -> Noted {
        let route = response.take_route();
        Noted { headers: std::mem::take(response.headers_mut()), route }
    }
}

/// Why an answer is not whole.
pub(super) enum Broken {
    /// The client can't be reached.
    ClientGone(io::Error),
    /// The body falls so many bytes short of its stated length.
    Short(u64),
    /// The application failed: how, in words.
    Application(String),
}

/// Why a handler was left before its end.
enum Left {
    TimeOver,
    ClientGone,
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
    if conn.settings.trust.header_map == HeaderMapping::Refuse && refuse_name(conn, &came) {
        return After::Close { may_send: true };
    }
    // A request's values end with it, while the connection's green thread lives on.
    ctxlocal::scope(|| exchange(conn, app, came))
}

#[inline(always)]
fn exchange<T: Transport>(conn: &Rc<Conn<T>>, app: &dyn Handler, came: Rc<Came>) -> After {
    let keep_alive = came.head().keep_alive && !conn.settings.keep_alive.is_zero();
    let version = conn.settings.protocol.framing(came.head().version);
    let begun = Cell::new(conn.settings.meter.as_ref().map(begin));
    let asked = Asked { came, version, keep_alive, started: start(conn), begun };
    if let Some(header) = &conn.settings.request_id_header {
        name_request(&asked, header);
    }
    conn.current.set(Some(Rc::clone(&asked.came)));
    let under_way = UnderWay(conn, &asked);
    let mut outcome = None;
    let mut run = || T::catch(|| outcome = Some(answer(conn, app, &asked)));
    let caught = match (conn.settings.request_timeout, conn.settings.cancel_on_disconnect) {
        (None, None) => Ok(run()),
        _ => bounded(conn, &mut run),
    };
    if let Some(Ok(Answered { rest: Some(rest), .. })) = &mut outcome
        && let Some(take_over) = rest.take_over.take()
    {
        hand_over(conn, &asked, take_over);
    }
    conn.end_request();
    conn.current.set(None);
    let after = match (caught, outcome) {
        (Ok(Ok(())), Some(Ok(answered))) => {
            let after = settle(conn, &asked, answered.alive);
            if asked.begun.get().is_some() {
                count(conn, &asked, answered.status);
            }
            if let Some(rest) = answered.rest {
                log_access(conn, &asked, answered.status, &rest.noted);
            }
            after
        }
        (Ok(Ok(())), Some(Err(broken))) => after_broken(conn, &asked, broken),
        (Ok(Err(panic)), _) => after_panic(conn, &asked, &panic),
        (Err(Left::ClientGone), _) => after_leaving(conn, &asked, &"its handler was cancelled"),
        (Err(Left::TimeOver), _) | (Ok(Ok(())), None) => {
            let reason = "the request timeout was over";
            after_failure(conn, &asked, StatusCode::SERVICE_UNAVAILABLE, reason)
        }
    };
    std::mem::forget(under_way);
    let after = if has_work_after() { work_after(conn, &asked, after) } else { after };
    conn.io().answered();
    keep_came(asked.came);
    after
}

/// Refuses a request that has a header with an underscore in its name. False: it has none.
#[cold]
#[inline(never)]
fn refuse_name<T: Transport>(conn: &Rc<Conn<T>>, came: &Came) -> bool {
    let refused = conn.settings.trust.refuses(conn.peer(), came.bytes());
    if refused {
        let reason = "a header field's name holds an underscore, and header_map refuses it";
        refuse(conn, Some(came.bytes()), StatusCode::BAD_REQUEST, reason);
    }
    refused
}

/// Gives the request the id that it has brought.
#[cold]
#[inline(never)]
fn name_request(asked: &Asked, header: &HeaderName) {
    let mut lines = Lines::new(asked.came.bytes());
    if let Some((_, id)) = lines.find(|(name, _)| name.eq_ignore_ascii_case(header.as_str())) {
        adopt_request_id(id);
    }
}

/// Runs `run` within the bounds that the settings have for it.
#[inline(never)]
fn bounded<T: Transport>(
    conn: &Conn<T>,
    run: &mut dyn FnMut() -> Result<(), String>,
) -> Result<Result<(), String>, Left> {
    let mut limited = || match conn.settings.request_timeout {
        None => Ok(run()),
        Some(limit) => T::within(limit, &mut *run).ok_or(Left::TimeOver),
    };
    let Some(how) = conn.settings.cancel_on_disconnect else { return limited() };
    let mut result = Err(Left::ClientGone);
    conn.io().unless_left(how, &mut || result = limited());
    result
}

/// Does what the handler wants done once its client has the answer, as far as it gets one.
#[cold]
#[inline(never)]
fn work_after<T: Transport>(conn: &Rc<Conn<T>>, asked: &Asked, after: After) -> After {
    let after = match after {
        After::Torn => After::Torn,
        _ if conn.flush().is_err() => After::Torn,
        after => after,
    };
    if let After::Close { .. } = after {
        // Nobody shall wait for the end of the answer that can only tell by that.
        let _ = conn.io().shutdown(Shutdown::Write);
    }
    while let Some(work) = next_work_after() {
        if let Err(panic) = T::catch(work) {
            let what = described(asked.came.bytes());
            log::error!("{}: {what}: the work after the response panicked: {panic}", conn.peer());
        }
    }
    after
}

/// When a request began, if somebody will look.
#[inline]
pub(super) fn start<T: Transport>(conn: &Conn<T>) -> Option<(SystemTime, Instant)> {
    conn.settings.access_log.is_some().then(now)
}

/// Apart for the same reason as [`begin`].
#[inline(never)]
fn now() -> (SystemTime, Instant) {
    (SystemTime::now(), Instant::now())
}

/// Apart, so that the clock's reading has no place in the frames under the handler.
#[inline(never)]
fn begin(meter: &Meter) -> Begun {
    meter.begin()
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
        NoRequest::Ended => {
            conn.io().goodbye();
            After::Torn
        }
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
