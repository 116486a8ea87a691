//! One connection between requests: its state, how heads and bodies come in, and how it ends.
//!
//! The state lies in a struct of its own and not on the stack of whoever serves it. While a connection only waits for its
//! next request, none of it is needed: after a short while the green thread ends, and the socket alone is kept.

use std::cell::{Cell, OnceCell, RefCell, RefMut};
use std::fmt;
use std::io;
use std::net::Shutdown;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::http::{HeaderMap, StatusCode};

use super::arrive::{Ends, LAST_CALL};
use super::input::{Input, Refused, Search, Step};
use super::output::Output;
use super::settings::Settings;
use super::stop::{IDLE_GRACE, ServerHandle};
use super::transport::{Transport, is_timeout};
use super::uwsgi::{Front, Protocol};
use crate::app::{Addr, BodyError, Came, Connection, Leaving, Origin, TlsInfo};
use crate::http::ParseError;
use crate::http::uwsgi::Vars;

/// How much of a body that nobody read is read away to keep a connection alive, and for how long.
const DRAIN_BYTES: u64 = 64 * 1024;
const DRAIN_TIME: Duration = Duration::from_secs(2);
/// How long, and for how many bytes, a connection lingers after its last response (RFC 9112, 9.6).
const LINGER_BYTES: u64 = 16 * 1024 * 1024;
const LINGER_TIME: Duration = Duration::from_secs(2);
/// So much is done in a row, if the connection never has to wait, before others get their turn.
const TURN: u32 = 64;
/// Below this size it is not worth while to read a body straight into the reader's hands.
const READ_PAST: usize = 4096;

/// One connection.
pub(crate) struct Conn<T: Transport> {
    io: T,
    /// Between whom the connection is.
    pub(crate) ends: Ends,
    /// Who sent the request, and what else the front server said of it, if it came by uwsgi.
    pub(super) front: OnceCell<Box<Front>>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) server: ServerHandle,
    input: RefCell<Input>,
    output: RefCell<Output>,
    /// The number of the request under way; bodies of other numbers are stale.
    request: Cell<u64>,
    /// The request that a handler has, for who looks in from outside.
    pub(super) current: Cell<Option<Rc<Came>>>,
    /// The status of the final response to the request under way, once that has begun: an interim one would come too late.
    pub(crate) answering: Cell<Option<StatusCode>>,
    /// The green thread that has it, for who looks in from outside.
    pub(super) served_by: Cell<u64>,
    /// What lies in the output will be sent when this green thread waits.
    flush_is_due: Cell<bool>,
    /// What was done without giving way to others: requests served, pieces of bodies read.
    busy: Cell<u32>,
}

/// Why there is no next request.
#[derive(Debug)]
pub(crate) enum NoRequest {
    /// The connection has ended as it may, or can't be used any more.
    Ended,
    /// It must be refused with this status; its head is there if one could be made out.
    Refused(StatusCode, &'static str, Option<Box<[u8]>>),
    /// Nothing has come for a while. It may be waited for so much longer, without this thread.
    Idle(Duration),
}

impl<T: Transport> Conn<T> {
    pub(crate) fn new(io: T, ends: Ends, settings: Arc<Settings>, server: ServerHandle) -> Rc<Conn<T>> {
        Rc::new(Conn {
            io,
            ends,
            front: OnceCell::new(),
            input: RefCell::new(Input::new(settings.protocol)),
            settings,
            server,
            output: RefCell::default(),
            request: Cell::new(0),
            current: Cell::new(None),
            answering: Cell::new(None),
            served_by: Cell::new(0),
            flush_is_due: Cell::new(false),
            busy: Cell::new(0),
        })
    }

    pub(crate) fn io(&self) -> &T {
        &self.io
    }

    /// Who is served: who the connection is from, or whose request a front server hands on.
    pub(crate) fn peer(&self) -> &Addr {
        self.front.get().and_then(|front| front.client.as_ref()).unwrap_or_else(|| self.ends.peer())
    }

    /// The receiving side. Another green thread may be in the midst of a read of this connection.
    pub(crate) fn input(&self) -> io::Result<RefMut<'_, Input>> {
        self.input.try_borrow_mut().map_err(|_| BodyError::Busy.into())
    }

    /// The sending side. Another green thread may be in the midst of a write to this connection.
    pub(crate) fn output(&self) -> io::Result<RefMut<'_, Output>> {
        let busy =
            |_| io::Error::new(io::ErrorKind::ResourceBusy, "another green thread is writing this response");
        self.output.try_borrow_mut().map_err(busy)
    }

    /// Sends what lies in the output.
    pub(crate) fn flush(&self) -> io::Result<()> {
        let mut output = self.output()?;
        if output.is_empty() { Ok(()) } else { output.send(&self.io) }
    }

    /// Sends what lies in the output, and gives its buffers back.
    fn rest(&self) -> io::Result<()> {
        let mut output = self.output()?;
        if !output.is_empty() {
            output.send(&self.io)?;
        }
        output.rest();
        Ok(())
    }

    /// Gives way to others after a while of work without having to wait.
    pub(crate) fn take_turn(&self) {
        self.busy.set(self.busy.get() + 1);
        if self.busy.get() == TURN {
            self.busy.set(0);
            self.io.yield_now();
        }
    }

    /// Has what lies in the output sent when this green thread next waits: an answer may stay for the next one to go out
    /// with it, but not while the next one's handler waits.
    pub(crate) fn flush_when_waiting(self: &Rc<Self>) {
        if self.flush_is_due.replace(true) {
            return;
        }
        // Weak, since the connection must be able to end or to be idle before that.
        let conn = Rc::downgrade(self);
        T::when_waiting(move || {
            let Some(conn) = conn.upgrade() else { return };
            conn.flush_is_due.set(false);
            // If it is being written to at this moment, all will be sent as it is.
            if let Ok(mut output) = conn.output() {
                output.send_earlier(&conn.io, conn.answering.get().is_some());
            }
        });
    }

    /// Waits for the next request's head. What the output holds is sent before waiting, but not if a whole request has come
    /// already: answers to pipelined requests go out together. With `leave` the wait may end in [`NoRequest::Idle`].
    #[inline(never)]
    pub(crate) fn next_head(&self, leave: bool) -> Result<Rc<Came>, NoRequest> {
        let mut input = self.input().map_err(|_| NoRequest::Ended)?;
        let mut found = input.find_head(&self.settings.limits);
        let mut deadline = None;
        loop {
            match found {
                Ok(Some(found)) => {
                    if self.settings.protocol == Protocol::Uwsgi {
                        self.take_front(&mut input);
                    }
                    return Ok(found);
                }
                Ok(None) => {}
                Err(refused) => {
                    self.take_front(&mut input);
                    return Err(refused.into());
                }
            }
            self.rest().map_err(|_| NoRequest::Ended)?;
            found = if input.is_empty() {
                self.read_idle(&mut input, leave)?
            } else {
                let deadline =
                    *deadline.get_or_insert_with(|| later(Instant::now(), self.settings.header_timeout));
                self.read_head(&mut input, deadline)?
            };
        }
    }

    /// The request that [`Conn::next_head`] has found gets its number.
    pub(crate) fn begin_request(&self) -> u64 {
        self.answering.set(None);
        self.request.get()
    }

    /// From here on the request's body is stale.
    pub(crate) fn end_request(&self) {
        self.request.set(self.request.get() + 1);
    }

    /// How many requests there were, and that this is not the connection's first [`Conn`] if `earlier` is more than 0.
    pub(super) fn served(&self) -> u64 {
        self.request.get()
    }

    pub(super) fn set_served(&self, earlier: u64) {
        self.request.set(earlier);
    }

    /// Whether the connection could live on with what the client has yet to send of this request's body.
    pub(crate) fn could_drain(&self) -> bool {
        let Ok(input) = self.input() else { return false };
        // A client that waits for `100 Continue` in vain may send its body or not: nobody can tell what comes next.
        let will_come = input.body_left() == Some(0) || !input.expects_continue;
        will_come && !input.has_failed() && input.body_left().is_none_or(|left| left <= DRAIN_BYTES)
    }

    /// Reads away what is left of the body, within bounds. False: the connection can't live on.
    pub(crate) fn drain(&self) -> bool {
        let Ok(mut input) = self.input() else { return false };
        input.body_left() == Some(0) || self.drain_body(&mut input)
    }

    // Apart, so that its buffer lies in no frame under the handler.
    #[cold]
    #[inline(never)]
    fn drain_body(&self, input: &mut Input) -> bool {
        let deadline = Instant::now() + DRAIN_TIME;
        let mut drained = 0;
        let mut waste = [0; 2048];
        while drained <= DRAIN_BYTES {
            match input.read_body(&mut waste, &self.settings.limits) {
                Ok(Step::Read(0)) => return true,
                Ok(Step::Read(count)) => drained += count as u64,
                Ok(Step::NeedInput(_)) if self.flush().is_err() => return false,
                Ok(Step::NeedInput(_)) => match self.read_until(deadline, |bytes| input.came(bytes)) {
                    Ok(1..) => {}
                    _ => return false,
                },
                Err(_) => return false,
            }
        }
        false
    }

    /// Ends the connection after its last response. If the client may still be sending, closing at once would reset the
    /// connection and could destroy that response on its way (RFC 9112, 9.6): then half of it is closed, and what comes is
    /// read away for a while.
    #[inline(never)]
    pub(crate) fn close(&self, may_send: bool) {
        if self.flush().is_err() {
            return;
        }
        let Ok(mut input) = self.input() else { return };
        let may_send = may_send || !input.is_empty() || input.body_left() != Some(0);
        if may_send && self.io.shutdown(Shutdown::Write).is_ok() {
            input.discard();
            self.linger();
        } else {
            self.io.goodbye();
        }
    }

    #[cold]
    #[inline(never)]
    fn linger(&self) {
        let deadline = Instant::now() + LINGER_TIME;
        let mut drained = 0;
        while drained < LINGER_BYTES {
            match self.read_until(deadline, |_| ()) {
                Ok(count @ 1..) => drained += count as u64,
                _ => return,
            }
        }
    }

    /// How long a connection may wait for the first byte of its next request.
    fn idle_time(&self) -> Duration {
        match (self.served() > 0, self.server.is_stopping()) {
            (true, true) => self.settings.keep_alive.min(IDLE_GRACE),
            (true, false) => self.settings.keep_alive,
            (false, true) => LAST_CALL,
            (false, false) => self.settings.header_timeout,
        }
    }

    /// Waits for the first bytes of a head. Meanwhile the server may end the connection because it stops.
    fn read_idle(&self, input: &mut Input, leave: bool) -> Result<Search, NoRequest> {
        self.io.set_idle(true);
        // Whoever stops the server sees the mark just made, or made the one looked at here.
        let wait = self.idle_time();
        let patience = T::PATIENCE.filter(|patience| leave && *patience < wait);
        let read = match patience.unwrap_or(wait) {
            Duration::ZERO => Err(io::ErrorKind::TimedOut.into()),
            first => self.io.read_with(first, |bytes| {
                (!bytes.is_empty()).then(|| input.find_head_in(bytes, &self.settings.limits))
            }),
        };
        match (read, patience) {
            // It stays marked.
            (Err(error), Some(patience)) if is_timeout(&error) => Err(NoRequest::Idle(wait - patience)),
            (Ok(Some(found)), _) => {
                self.io.set_idle(false);
                Ok(found)
            }
            (Ok(None) | Err(_), _) => Err(NoRequest::Ended),
        }
    }

    /// Waits for more of a head.
    #[cold]
    #[inline(never)]
    fn read_head(&self, input: &mut Input, deadline: Instant) -> Result<Search, NoRequest> {
        let mut found = Ok(None);
        match self.read_until(deadline, |bytes| found = input.find_head_in(bytes, &self.settings.limits)) {
            Ok(0) => Err(Refused::from(ParseError::Incomplete).into()),
            Ok(_) => Ok(found),
            Err(error) if is_timeout(&error) => {
                let reason = "the request head did not arrive within the header timeout";
                Err(NoRequest::Refused(StatusCode::REQUEST_TIMEOUT, reason, None))
            }
            Err(_) => Err(NoRequest::Ended),
        }
    }

    /// One read, of which `take` gets to see the bytes unless the input has ended. Gives their number.
    fn read_until(&self, deadline: Instant, mut take: impl FnMut(&[u8])) -> io::Result<usize> {
        self.until(deadline, |wait| {
            self.io.read_with(wait, |bytes| {
                if !bytes.is_empty() {
                    take(bytes);
                }
                bytes.len()
            })
        })
    }

    /// A socket's waits may end a little early: reads again until the time is really over.
    fn until(
        &self,
        deadline: Instant,
        mut read: impl FnMut(Duration) -> io::Result<usize>,
    ) -> io::Result<usize> {
        self.take_turn();
        loop {
            let wait = deadline.saturating_duration_since(Instant::now());
            if wait.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            match read(wait) {
                Err(error) if is_timeout(&error) => {}
                result => return result,
            }
        }
    }

    /// Tells a client that waits for it to send its body, and sends what else lies in the output: who reads a body may wait
    /// for long. What a stream has gathered stays until it is flushed.
    fn send_continue(&self, input: &mut Input) -> io::Result<()> {
        let Ok(mut output) = self.output() else { return Ok(()) };
        let answering = self.answering.get().is_some();
        let told = std::mem::take(&mut input.expects_continue) && output.put_continue(answering);
        if told || !answering { output.send(&self.io) } else { Ok(()) }
    }

    /// Reads more of a body: into `out`, if `allowed` bytes may go there and that is worth it, else into the buffer.
    fn read_more(&self, input: &mut Input, out: &mut [u8], allowed: u64) -> io::Result<Option<usize>> {
        let in_all = match &self.settings.body_rate {
            Some(rate) => rate.allows(input.received).min(self.settings.body_timeout),
            None => self.settings.body_timeout,
        };
        let wait = in_all.saturating_sub(input.waited);
        if wait.is_zero() {
            return Err(input.fail(BodyError::TimedOut).into());
        }
        self.send_continue(input)?;
        let began = Instant::now();
        let deadline = later(began, wait);
        let straight = out.len() >= READ_PAST && allowed >= READ_PAST as u64;
        let read = if straight {
            let most = usize::try_from(allowed).unwrap_or(usize::MAX).min(out.len());
            self.until(deadline, |wait| self.io.read(&mut out[..most], wait))
        } else {
            self.read_until(deadline, |bytes| input.came(bytes))
        };
        input.waited += began.elapsed();
        input.received += *read.as_ref().unwrap_or(&0) as u64;
        match read {
            Ok(0) => Err(input.fail(BodyError::Incomplete).into()),
            Ok(count) if straight => {
                input.read_past(count, &self.settings.limits)?;
                Ok(Some(count))
            }
            Ok(_) => Ok(None),
            Err(error) if is_timeout(&error) => Err(input.fail(BodyError::TimedOut).into()),
            Err(error) => {
                input.fail(BodyError::Incomplete);
                Err(error)
            }
        }
    }
}

impl<T: Transport> Connection for Conn<T> {
    fn read_body(&self, request: u64, out: &mut [u8]) -> io::Result<usize> {
        if request != self.request.get() {
            return Err(BodyError::Finished.into());
        }
        if out.is_empty() {
            return Ok(0);
        }
        let mut input = self.input()?;
        loop {
            match input.read_body(out, &self.settings.limits)? {
                Step::Read(count) => return Ok(count),
                Step::NeedInput(allowed) => {
                    if let Some(count) = self.read_more(&mut input, out, allowed)? {
                        return Ok(count);
                    }
                }
            }
        }
    }

    fn body_remaining(&self, request: u64) -> Option<u64> {
        if request != self.request.get() {
            return Some(0);
        }
        self.input.try_borrow().ok()?.body_left()
    }

    fn peer_addr(&self) -> Addr {
        self.peer().clone()
    }

    fn local_addr(&self) -> Option<Addr> {
        match &self.ends {
            Ends::Socket(_) => self.io.local_addr(),
            Ends::Proxied(proxied) => Some(proxied.local.clone()),
        }
    }

    fn origin(&self) -> Origin<'_> {
        let (secure, proxied) = match &self.ends {
            Ends::Socket(_) => (false, false),
            Ends::Proxied(proxied) => (proxied.tls, true),
        };
        let secure = secure || self.io.tls().is_some();
        Origin {
            trust: Some(&self.settings.trust),
            // What a front server says is of the client; the connection is its own.
            secure: self.vars().and_then(Vars::is_secure).unwrap_or(secure),
            proxied,
            multithread: !T::GREEN || self.settings.multithread,
            multiprocess: self.settings.multiprocess,
        }
    }

    fn vars(&self) -> Option<&Vars> {
        self.front.get().map(|front| &front.vars)
    }

    fn tls(&self) -> Option<Rc<TlsInfo>> {
        self.io.tls()
    }

    fn trailers(&self, request: u64) -> Option<HeaderMap> {
        self.input.try_borrow().ok().filter(|_| request == self.request.get())?.trailers()
    }

    fn send_interim(&self, request: u64, head: &[u8]) -> io::Result<()> {
        if request != self.request.get() {
            return Err(BodyError::Finished.into());
        }
        if self.answering.get().is_some() {
            let what = "the response has begun: an interim one would come too late";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        let mut output = self.output()?;
        output.put_interim(head);
        output.send(&self.io)
    }

    fn has_left(&self, request: u64, how: Leaving) -> bool {
        request == self.request.get() && self.io.has_left(how)
    }

    fn unless_left(&self, request: u64, how: Leaving, f: &mut dyn FnMut()) -> bool {
        if request != self.request.get() {
            f();
            return true;
        }
        self.io.unless_left(how, f)
    }

    fn is_stopping(&self) -> bool {
        self.server.is_stopping()
    }
}

impl<T: Transport> fmt::Debug for Conn<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conn")
            .field("peer", self.peer())
            .field("request", &self.request.get())
            .finish_non_exhaustive()
    }
}

/// `wait` after `now`, or at least a year.
pub(super) fn later(now: Instant, wait: Duration) -> Instant {
    now.checked_add(wait).unwrap_or(now + Duration::from_secs(365 * 24 * 3600))
}

impl From<Refused> for NoRequest {
    #[cold]
    fn from(refused: Refused) -> NoRequest {
        NoRequest::Refused(refused.why.status(), refused.why.reason(), refused.head)
    }
}
