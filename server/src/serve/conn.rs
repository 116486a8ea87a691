//! One connection between requests: its state, how heads and bodies come in, and how it ends.
//!
//! The state lies in a struct of its own and not on the stack of whoever serves it, so that a connection which only waits
//! for its next request could be parked without one.

use std::cell::{Cell, RefCell, RefMut};
use std::fmt;
use std::io;
use std::net::Shutdown;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ::http::StatusCode;
use bytes::Bytes;

use super::input::{Input, Step};
use super::output::Output;
use super::settings::Settings;
use super::stop::ServerHandle;
use super::transport::{Transport, is_timeout};
use crate::app::{Addr, BodyError, Connection};
use crate::http::{Extent, ParseError};

/// How much of a body that nobody read is read away to keep a connection alive, and for how long.
const DRAIN_BYTES: u64 = 64 * 1024;
const DRAIN_TIME: Duration = Duration::from_secs(2);
/// How long, and for how many bytes, a connection lingers after its last response (RFC 9112, 9.6).
const LINGER_BYTES: u64 = 16 * 1024 * 1024;
const LINGER_TIME: Duration = Duration::from_secs(2);
/// How long a connection that was accepted while the server stops may keep silent.
const LAST_CALL: Duration = Duration::from_millis(500);
/// Below this size it is not worth while to read a body straight into the reader's hands.
const READ_PAST: usize = 4096;

/// One connection.
pub(crate) struct Conn<T: Transport> {
    io: T,
    pub(crate) peer: Addr,
    pub(crate) settings: Arc<Settings>,
    pub(crate) server: ServerHandle,
    /// Whether it waits for a request of which nothing has come: the server ends it when it stops.
    idle: Arc<AtomicBool>,
    input: RefCell<Input>,
    output: RefCell<Output>,
    /// The number of the request under way; bodies of other numbers are stale.
    request: Cell<u64>,
    /// A final response to the request under way has begun, so that `100 Continue` would come too late.
    pub(crate) answering: Cell<bool>,
    /// What the socket was told last, so that it is told changes only.
    read_timeout: Cell<Option<Duration>>,
    served_any: Cell<bool>,
}

/// Why there is no next request.
#[derive(Debug)]
pub(crate) enum NoRequest {
    /// The connection has ended as it may, or can't be used any more.
    Ended,
    /// It must be refused with this status.
    Refused(StatusCode, &'static str),
}

impl<T: Transport> Conn<T> {
    pub(crate) fn new(
        io: T,
        peer: Addr,
        settings: Arc<Settings>,
        server: ServerHandle,
        idle: Arc<AtomicBool>,
    ) -> Rc<Conn<T>> {
        Rc::new(Conn {
            io,
            peer,
            settings,
            server,
            idle,
            input: RefCell::new(Input::new()),
            output: RefCell::default(),
            request: Cell::new(0),
            answering: Cell::new(false),
            read_timeout: Cell::new(None),
            served_any: Cell::new(false),
        })
    }

    pub(crate) fn io(&self) -> &T {
        &self.io
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
        self.output()?.send(&self.io, [&[], &[]])
    }

    /// Waits for the next request's head. What the output holds is sent before waiting, but not if a whole request has come
    /// already: answers to pipelined requests go out together.
    pub(crate) fn next_head(&self) -> Result<(Bytes, Extent), NoRequest> {
        let mut input = self.input().map_err(|_| NoRequest::Ended)?;
        let mut deadline = None;
        loop {
            match input.find_head(&self.settings.limits) {
                Ok(Some(found)) => {
                    self.served_any.set(true);
                    return Ok(found);
                }
                Ok(None) => {}
                Err(error) => return Err(refusal(error)),
            }
            self.flush().map_err(|_| NoRequest::Ended)?;
            let fresh = input.is_empty();
            let wait = if fresh {
                self.idle_time()
            } else {
                let deadline = *deadline.get_or_insert_with(|| Instant::now() + self.settings.header_timeout);
                deadline.saturating_duration_since(Instant::now())
            };
            let read = if wait.is_zero() {
                Err(io::ErrorKind::TimedOut.into())
            } else if fresh {
                self.read_idle(&mut input, wait)
            } else {
                self.read(input.room(), wait)
            };
            match read {
                Ok(0) if fresh => return Err(NoRequest::Ended),
                Ok(0) => return Err(refusal(ParseError::Incomplete)),
                Ok(count) => input.came(count),
                Err(error) if is_timeout(&error) && !fresh => {
                    let reason = "the request head did not arrive within the header timeout";
                    return Err(NoRequest::Refused(StatusCode::REQUEST_TIMEOUT, reason));
                }
                Err(_) => return Err(NoRequest::Ended),
            }
        }
    }

    /// The request that [`Conn::next_head`] has found gets its number.
    pub(crate) fn begin_request(&self) -> u64 {
        self.answering.set(false);
        self.request.get()
    }

    /// From here on the request's body is stale.
    pub(crate) fn end_request(&self) {
        self.request.set(self.request.get() + 1);
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
        if input.body_left() == Some(0) {
            return true;
        }
        let Some(deadline) = Instant::now().checked_add(DRAIN_TIME) else { return false };
        let mut drained = 0;
        let mut waste = [0; 2048];
        while drained <= DRAIN_BYTES {
            let wait = deadline.saturating_duration_since(Instant::now());
            match input.read_body(&mut waste, &self.settings.limits) {
                Ok(Step::Read(0)) => return true,
                Ok(Step::Read(count)) => drained += count as u64,
                Ok(Step::NeedInput(_)) if wait.is_zero() || self.flush().is_err() => return false,
                Ok(Step::NeedInput(_)) => match self.read(input.room(), wait) {
                    Ok(count @ 1..) => input.came(count),
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
    pub(crate) fn close(&self, refused: bool) {
        if self.flush().is_err() {
            return;
        }
        let Ok(mut input) = self.input() else { return };
        let still_sending = refused || !input.is_empty() || input.body_left() != Some(0);
        if !still_sending || self.io.shutdown(Shutdown::Write).is_err() {
            return;
        }
        let Some(deadline) = Instant::now().checked_add(LINGER_TIME) else { return };
        let mut drained = 0;
        *input = Input::new();
        while drained < LINGER_BYTES {
            let wait = deadline.saturating_duration_since(Instant::now());
            match self.read(input.room(), wait) {
                Ok(count @ 1..) if !wait.is_zero() => drained += count as u64,
                _ => return,
            }
        }
    }

    /// How long a connection may wait for the first byte of its next request.
    fn idle_time(&self) -> Duration {
        match (self.served_any.get(), self.server.is_stopping()) {
            (true, true) => Duration::from_millis(1),
            (true, false) => self.settings.keep_alive,
            (false, true) => LAST_CALL,
            (false, false) => self.settings.header_timeout,
        }
    }

    /// A read during which the server may end the connection because it stops.
    fn read_idle(&self, input: &mut Input, wait: Duration) -> io::Result<usize> {
        self.idle.store(true, Ordering::SeqCst);
        // Whoever stops the server sees the mark just made, or made the one looked at here before.
        let wait = if self.server.is_stopping() { self.idle_time().min(wait) } else { wait };
        let read = self.read(input.room(), wait);
        self.idle.store(false, Ordering::SeqCst);
        read
    }

    /// One read that waits no longer than `wait`, which must not be zero.
    fn read(&self, buf: &mut [u8], wait: Duration) -> io::Result<usize> {
        if self.read_timeout.get() != Some(wait) {
            self.io.set_read_timeout(Some(wait))?;
            self.read_timeout.set(Some(wait));
        }
        loop {
            match self.io.read(buf) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    /// Tells a client that waits for it to send its body, and sends what else lies in the output: who reads a body may wait
    /// for long. What a stream has gathered stays until it is flushed.
    fn send_continue(&self, input: &mut Input) -> io::Result<()> {
        let Ok(mut output) = self.output() else { return Ok(()) };
        let answering = self.answering.get();
        let told = std::mem::take(&mut input.expects_continue) && output.put_continue(answering);
        if told || !answering { output.send(&self.io, [&[], &[]]) } else { Ok(()) }
    }

    /// Reads more of a body: into `out`, if `allowed` bytes may go there and that is worth it, else into the buffer.
    fn read_more(&self, input: &mut Input, out: &mut [u8], allowed: u64) -> io::Result<Option<usize>> {
        let wait = self.settings.body_timeout.saturating_sub(input.waited);
        if wait.is_zero() {
            return Err(input.fail(BodyError::TimedOut).into());
        }
        self.send_continue(input)?;
        let began = Instant::now();
        let straight = out.len() >= READ_PAST && allowed >= READ_PAST as u64;
        let read = if straight {
            let most = usize::try_from(allowed).unwrap_or(usize::MAX).min(out.len());
            self.read(&mut out[..most], wait)
        } else {
            self.read(input.room(), wait)
        };
        input.waited += began.elapsed();
        match read {
            Ok(0) => Err(input.fail(BodyError::Incomplete).into()),
            Ok(count) if straight => {
                input.read_past(count, &self.settings.limits)?;
                Ok(Some(count))
            }
            Ok(count) => {
                input.came(count);
                Ok(None)
            }
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
        self.peer.clone()
    }

    fn local_addr(&self) -> Option<Addr> {
        self.io.local_addr()
    }
}

impl<T: Transport> fmt::Debug for Conn<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conn")
            .field("peer", &self.peer)
            .field("request", &self.request.get())
            .finish_non_exhaustive()
    }
}

fn refusal(error: ParseError) -> NoRequest {
    NoRequest::Refused(error.status(), error.reason())
}
