//! One connection's life, and one request of it with its answer.

use std::cell::RefCell;
use std::fmt::Display;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::ops::Deref;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ::http::{HeaderMap, Method, StatusCode, Version, header};
use rustix::time::{ClockId, clock_gettime};

use super::access::Exchange;
use super::conn::{Conn, NoRequest};
use super::output::{BodyOut, GATHER, LARGE, Output};
use super::transport::Transport;
use crate::app::{
    Body, Came, ContentType, Handler, Headers, Kind, Request, Response, keep_came, keep_header_map,
};
use crate::http::framing::{ResponseBody, response_body};
use crate::http::{Connection, DateCache, Head, Openings, ResponseHead};

/// A piece of a reader's or a file's content: if it is full it need not be copied again.
const PIECE: usize = LARGE;
/// At most so much of a file is sent in one go.
const FILE_PIECE: u64 = 1 << 20;
/// Up to this size a file is read and sent together with its head.
const SMALL_FILE: u64 = 8 * 1024;

/// Serves a connection until it ends, or until nothing has come for a while: then gives how much longer its next request may
/// be waited for, and nobody else holds on to the connection.
pub(crate) fn live<T: Transport>(conn: &Rc<Conn<T>>, app: &dyn Handler) -> Option<Duration> {
    let _end = End(conn);
    loop {
        match one_request(conn, app) {
            After::Alive => conn.take_turn(),
            After::Idle(left) => return Some(left),
            After::Torn => return None,
            After::Close { refused } => {
                conn.close(refused);
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
enum After {
    Alive,
    Close {
        refused: bool,
    },
    /// There is nobody left to be polite to.
    Torn,
    /// There was no request, and may be none for so much longer.
    Idle(Duration),
}

/// What the answer depends on, once the request belongs to the handler.
struct Asked {
    came: Rc<Came>,
    keep_alive: bool,
    /// Noted only if somebody will look.
    started: Option<(SystemTime, Instant)>,
}

impl Deref for Asked {
    type Target = Head;

    fn deref(&self) -> &Head {
        self.came.head()
    }
}

/// An answer that was handed to the output whole.
struct Answered {
    status: StatusCode,
    /// Kept only if somebody will look.
    headers: Option<Box<HeaderMap>>,
    alive: bool,
}

/// Why an answer is not whole.
enum Broken {
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
            let after = settle(conn, answered.alive);
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
fn start<T: Transport>(conn: &Conn<T>) -> Option<(SystemTime, Instant)> {
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
            After::Close { refused: true }
        }
    }
}

#[cold]
#[inline(never)]
fn after_panic<T: Transport>(conn: &Rc<Conn<T>>, asked: &Asked, panic: &str) -> After {
    let reason = format!("the handler panicked: {panic}");
    after_failure(conn, asked, StatusCode::INTERNAL_SERVER_ERROR, &reason, None)
}

#[cold]
#[inline(never)]
fn after_broken<T: Transport>(conn: &Rc<Conn<T>>, asked: &Asked, broken: Broken) -> After {
    match broken {
        Broken::ClientGone(error) => {
            let what = described(asked.came.bytes());
            log::debug!("{}: the client left during the answer to {what}: {error}", conn.peer);
            After::Torn
        }
        Broken::Short(status, missing) => {
            let what = described(asked.came.bytes());
            log::error!(
                "{}: {what}: the response body is {missing} bytes shorter than its stated length",
                conn.peer
            );
            log_access(conn, asked, status, &HeaderMap::new());
            // The missing end tells the client.
            After::Close { refused: false }
        }
        Broken::Application(status, reason) => {
            after_failure(conn, asked, StatusCode::INTERNAL_SERVER_ERROR, &reason, Some(status))
        }
    }
}

/// Tells the client and the log that there is no answer, or only a part of one; `sent` is the status of that, if known.
#[cold]
#[inline(never)]
fn after_failure<T: Transport>(
    conn: &Rc<Conn<T>>,
    asked: &Asked,
    status: StatusCode,
    reason: &str,
    sent: Option<StatusCode>,
) -> After {
    log::error!("{}: {}: {reason}", conn.peer, described(asked.came.bytes()));
    let retracted = match conn.answering.get() {
        true => conn.output().is_ok_and(|mut output| output.retract()),
        false => true,
    };
    if retracted {
        answer_plainly(conn, status, "", asked.method == Method::HEAD);
        log_access(conn, asked, status, &HeaderMap::new());
        return After::Close { refused: false };
    }
    log_access(conn, asked, sent.unwrap_or(status), &HeaderMap::new());
    // What was produced before is still the client's, but nothing that would end the body regularly: in HTTP/1.1 the missing
    // end tells that it is not whole, in 1.0 only a reset does.
    if asked.version == Version::HTTP_10 {
        let _ = conn.flush();
        conn.io().reset_on_close();
        return After::Torn;
    }
    After::Close { refused: false }
}

/// After a whole answer: what is left of the request is read away, and what is not to wait is sent.
#[inline(never)]
fn settle<T: Transport>(conn: &Rc<Conn<T>>, alive: bool) -> After {
    let (whole, more) =
        conn.input().map_or((false, false), |input| (input.body_left() == Some(0), !input.is_empty()));
    if !alive || !(whole || conn.could_drain()) {
        return After::Close { refused: false };
    }
    // If another request has come already its answer is sent together with this one, unless it is long enough as it is.
    if whole && more && conn.output().is_ok_and(|output| output.len() <= GATHER) {
        conn.flush_when_waiting();
    } else if conn.flush().is_err() {
        return After::Torn;
    }
    if whole || conn.drain() { After::Alive } else { After::Close { refused: false } }
}

/// Hands the response to the output, and its body.
#[inline(never)]
fn respond<T: Transport>(
    conn: &Rc<Conn<T>>,
    asked: &Asked,
    response: &mut Response,
) -> Result<Answered, Broken> {
    let (status, headers, kind) = response.parts();
    if status.is_informational() {
        return Err(interim(status));
    }
    let (stated, closes) = match headers {
        Headers::Only(_) => (None, false),
        Headers::Map(headers) => application_fields(headers),
    };
    let bodiless = asked.method == Method::HEAD || status == StatusCode::NOT_MODIFIED;
    let length = match kind.length() {
        _ if stated.is_some() => stated,
        // Made for an answer without body, these say nothing of what GET would have got.
        Some(0) if bodiless => None,
        _ if status == StatusCode::NOT_MODIFIED => None,
        length => length,
    };
    let may_live = asked.keep_alive && !closes && !conn.server.is_stopping();
    let (framing, alive) = response_body(&asked.method, asked.version, status, length, may_live);
    // Whoever writes its body may read the request's meanwhile; for the others it is known what will be left over.
    let alive = alive
        && (matches!(kind, Kind::Stream { .. } | Kind::Reader { .. } | Kind::Incoming(_))
            || conn.could_drain());
    let connection = match (alive, asked.version) {
        (false, _) => Connection::Close,
        (true, Version::HTTP_10) => Connection::KeepAlive,
        (true, _) => Connection::Implied,
    };
    let mut output = conn.output().map_err(Broken::ClientGone)?;
    put_head(conn, &mut output, status, headers, framing, connection);
    let overlong = match (framing, kind) {
        (ResponseBody::Absent | ResponseBody::AbsentOf(_), _) => false,
        (ResponseBody::Length(length), Kind::Bytes(bytes)) if length == bytes.len() as u64 => {
            output.put_whole(conn.io(), bytes).map_err(Broken::ClientGone)?;
            false
        }
        (_, kind) => {
            drop(output);
            put_body(conn, asked, framing, std::mem::take(kind), status)?
        }
    };
    let headers = match asked.started {
        Some(_) => Some(Box::new(std::mem::take(response.headers_mut()))),
        None => {
            if let Some(headers) = response.take_map() {
                keep_header_map(headers);
            }
            None
        }
    };
    Ok(Answered { status, headers, alive: alive && !overlong })
}

#[cold]
#[inline(never)]
fn interim(status: StatusCode) -> Broken {
    let reason = format!("the handler returned the interim status {}", status.as_u16());
    Broken::Application(StatusCode::INTERNAL_SERVER_ERROR, reason)
}

/// What the application's own fields say of the length, and whether they ask for the end of the connection. The fields
/// themselves never reach the wire: the server makes its own.
#[inline(never)]
fn application_fields(headers: &HeaderMap) -> (Option<u64>, bool) {
    let mut stated = None;
    let mut closes = false;
    for (name, value) in headers {
        if name == header::CONTENT_LENGTH {
            let digits = value.to_str().ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
            stated = digits.and_then(|text| text.parse().ok());
        } else if name == header::CONNECTION {
            let mut options = value.as_bytes().split(|b| *b == b',').map(<[u8]>::trim_ascii);
            closes |= options.any(|option| option.eq_ignore_ascii_case(b"close"));
        }
    }
    (stated, closes)
}

fn put_head<T: Transport>(
    conn: &Conn<T>,
    output: &mut Output,
    status: StatusCode,
    headers: Headers<'_>,
    body: ResponseBody,
    connection: Connection,
) {
    let (headers, line) = match headers {
        Headers::Only(content_type) => (None, content_type.map_or(&b""[..], ContentType::line)),
        Headers::Map(headers) => (Some(headers), &b""[..]),
    };
    conn.answering.set(true);
    let out = output.begin();
    HEADS.with_borrow_mut(|heads| {
        heads.it_is_now();
        let server = conn.settings.server_name.as_ref();
        let head = ResponseHead { status, headers, line, body, connection, date: &heads.date, server };
        heads.openings.encode_head(out, &head);
    });
}

thread_local! {
    static HEADS: RefCell<Heads> = const {
        RefCell::new(Heads { second: i64::MIN, date: [b' '; 29], openings: Openings::new() })
    };
}

/// What the heads of a second have in common.
struct Heads {
    second: i64,
    date: [u8; 29],
    openings: Openings,
}

impl Heads {
    /// Looks at the time of the kernel's last tick, which is behind by a few milliseconds, and had without asking the
    /// hardware.
    #[inline]
    fn it_is_now(&mut self) {
        let second = clock_gettime(ClockId::RealtimeCoarse).tv_sec;
        if second != self.second {
            self.renew(second);
        }
    }

    #[cold]
    fn renew(&mut self, second: i64) {
        let since = Duration::from_secs(second.try_into().unwrap_or(0));
        self.date = *DateCache::new().at(UNIX_EPOCH + since);
        self.second = second;
        self.openings.clear();
    }
}

/// Hands over a body that has to be made or measured. Gives whether it was longer than stated, and cut.
#[inline(never)]
fn put_body<T: Transport>(
    conn: &Rc<Conn<T>>,
    asked: &Asked,
    framing: ResponseBody,
    kind: Kind,
    status: StatusCode,
) -> Result<bool, Broken> {
    let mut out = BodyOut::new(conn, framing);
    send_body(conn, &mut out, kind, status)?;
    if out.missing() > 0 {
        return Err(Broken::Short(status, out.missing()));
    }
    out.finish().map_err(Broken::ClientGone)?;
    if out.is_overlong() {
        log::error!(
            "{}: {}: the response body is longer than its stated length and was cut there",
            conn.peer,
            described(asked.came.bytes())
        );
    }
    Ok(out.is_overlong())
}

fn send_body<T: Transport>(
    conn: &Rc<Conn<T>>,
    out: &mut BodyOut<'_, T>,
    kind: Kind,
    status: StatusCode,
) -> Result<(), Broken> {
    let sent = match kind {
        Kind::Empty => Ok(()),
        Kind::Bytes(bytes) => out.whole(&bytes),
        Kind::Stream { write, .. } => write(&mut crate::app::BodyWriter::new(out)),
        Kind::File { file, offset, length } => send_file(conn, out, &file, offset, length),
        kind @ (Kind::Reader { .. } | Kind::Incoming(_)) => copy(&mut Body::from(kind), out),
    };
    match sent {
        // A closure may have kept the error to itself.
        Ok(()) if conn.output().is_ok_and(|output| output.has_failed()) => {
            Err(Broken::ClientGone(io::ErrorKind::BrokenPipe.into()))
        }
        Ok(()) => Ok(()),
        Err(error) if conn.output().is_ok_and(|output| output.has_failed()) => Err(Broken::ClientGone(error)),
        // The surplus was cut, what was promised is there.
        Err(_) if out.is_overlong() && out.missing() == 0 => Ok(()),
        Err(error) => {
            Err(Broken::Application(status, format!("producing the response body failed: {error}")))
        }
    }
}

/// Copies until the reader ends.
fn copy(from: &mut Body, to: &mut impl Write) -> io::Result<()> {
    let length = from.length().and_then(|length| usize::try_from(length).ok());
    let mut piece = vec![0; length.map_or(PIECE, |length| length.clamp(1, PIECE))];
    loop {
        match from.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(count) => to.write_all(&piece[..count])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn send_file<T: Transport>(
    conn: &Conn<T>,
    out: &mut BodyOut<'_, T>,
    file: &std::fs::File,
    mut offset: u64,
    length: u64,
) -> io::Result<()> {
    if length <= SMALL_FILE {
        let mut body = Body::from(Kind::File { file: file.try_clone()?, offset, length });
        return copy(&mut body, out);
    }
    out.flush()?;
    // A stated length other than the file's part wins.
    let mut left = out.at_most(length);
    while left > 0 {
        let count = conn.io().send_file(file, offset, left.min(FILE_PIECE) as usize)? as u64;
        if count == 0 {
            return Ok(());
        }
        out.passed(count)?;
        offset += count;
        left -= count;
    }
    Ok(())
}

/// Refuses what is no request, or none that may be served: small, plain, final.
fn refuse<T: Transport>(conn: &Rc<Conn<T>>, head: Option<&[u8]>, status: StatusCode, reason: &'static str) {
    log::info!("{}: refused with {}: {reason}", conn.peer, status.as_u16());
    let started = start(conn);
    // RFC 9110, 9.3.2: no content in answer to HEAD, not even to a bad one.
    let head_only = head.is_some_and(|head| head.starts_with(b"HEAD "));
    answer_plainly(conn, status, reason, head_only);
    if let Some(access_log) = &conn.settings.access_log {
        let (started, since) = started.unwrap_or_else(|| (SystemTime::now(), Instant::now()));
        access_log.log(&Exchange {
            peer: &conn.peer,
            head,
            status,
            response_headers: &HeaderMap::new(),
            body_sent: conn.output().map_or(0, |output| output.body_sent),
            started,
            duration: since.elapsed(),
        });
    }
}

/// Puts an answer of the server's own into the output. The connection ends after it.
fn answer_plainly<T: Transport>(conn: &Conn<T>, status: StatusCode, reason: &str, head_only: bool) {
    let name = status.canonical_reason().unwrap_or("Error");
    let text = if reason.is_empty() { format!("{name}\n") } else { format!("{name}: {reason}\n") };
    let headers = Headers::Only(Some(ContentType::Text));
    let framing = ResponseBody::Length(text.len() as u64);
    let Ok(mut output) = conn.output() else { return };
    put_head(conn, &mut output, status, headers, framing, Connection::Close);
    if !head_only {
        // A failure shows when the output is flushed.
        let _ = output.put_whole(conn.io(), text.as_bytes());
    }
}

#[inline(never)]
fn log_access<T: Transport>(conn: &Conn<T>, asked: &Asked, status: StatusCode, headers: &HeaderMap) {
    let (Some(access_log), Some((started, since))) = (&conn.settings.access_log, asked.started) else {
        return;
    };
    access_log.log(&Exchange {
        peer: &conn.peer,
        head: Some(asked.came.bytes()),
        status,
        response_headers: headers,
        body_sent: conn.output().map_or(0, |output| output.body_sent),
        started,
        duration: since.elapsed(),
    });
}

/// The request line, for a log line; it is printable since the parser let it pass.
fn described(head: &[u8]) -> impl Display + '_ {
    let end = memchr::memchr(b'\r', head).unwrap_or(head.len());
    String::from_utf8_lossy(&head[..end])
}
