//! A handler's answer, from status and headers to the last byte of its body, handed to the output.

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::rc::Rc;
use std::time::{Duration, UNIX_EPOCH};

use ::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};
use bytes::Bytes;
use rustix::time::{ClockId, clock_gettime};

use super::conn::Conn;
use super::exchange::{Answered, Asked, Broken, Noted, Rest};
use super::failures::described;
use super::output::{BodyOut, LARGE, Output};
use super::transport::Transport;
use super::upgrade::switch;
use crate::app::{Body, BodyWriter, ContentType, Headers, Kind, Response, keep_header_map};
use crate::http::framing::{ResponseBody, response_body};
use crate::http::{Connection, DateCache, Lines, Openings, ResponseHead, list};

/// A piece of a reader's or a file's content: if it is full it need not be copied again.
const PIECE: usize = LARGE;
/// At most so much of a file is sent in one go.
const FILE_PIECE: u64 = 1 << 20;
/// Up to this size a file is read and sent together with its head.
const SMALL_FILE: u64 = 8 * 1024;

/// Hands the response to the output, and its body.
#[inline(never)]
pub(super) fn respond<T: Transport>(
    conn: &Rc<Conn<T>>,
    asked: &Asked,
    response: &mut Response,
) -> Result<Answered, Broken> {
    let (status, headers, kind) = response.parts();
    if status.is_informational() || matches!(kind, Kind::Upgrade(_)) {
        return switch(conn, asked, response);
    }
    let (stated, closes, announced) = match headers {
        Headers::Only(_) => (None, false, None),
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
    let may_live = asked.keep_alive && !closes && conn.server.is_ready();
    let (framing, alive) = response_body(&asked.method, asked.version, status, length, may_live);
    // Whoever writes its body may read the request's meanwhile; for the others it is known what will be left over.
    let alive = alive
        && (matches!(
            kind,
            Kind::Stream { .. } | Kind::Chunks { .. } | Kind::Reader { .. } | Kind::Incoming(_)
        ) || conn.could_drain());
    let connection = match (alive, asked.version) {
        (false, _) => Connection::Close,
        (true, Version::HTTP_10) => Connection::KeepAlive,
        (true, _) => Connection::Implied,
    };
    let mut output = conn.output().map_err(Broken::ClientGone)?;
    put_head(conn, &mut output, status, headers, framing, connection);
    // Only a client that asks for trailers may be sent any (RFC 9110, 6.5.1).
    let announced = announced.filter(|_| framing == ResponseBody::Chunked && takes_trailers(asked));
    if let Some(announced) = announced {
        output.announce(announced);
    }
    let overlong = match (framing, kind) {
        (ResponseBody::Absent | ResponseBody::AbsentOf(_), _) => false,
        (ResponseBody::Length(length), Kind::Bytes(bytes)) if length == bytes.len() as u64 => {
            output.put_whole(conn.io(), bytes).map_err(Broken::ClientGone)?;
            false
        }
        (_, kind) => {
            drop(output);
            put_body(conn, asked, framing, std::mem::take(kind), announced)?
        }
    };
    let rest = match asked.started {
        Some(_) => Some(Box::new(Rest { noted: Noted::of(response), take_over: None })),
        None => {
            if let Some(headers) = response.take_map() {
                keep_header_map(headers);
            }
            None
        }
    };
    Ok(Answered { status, rest, alive: alive && !overlong })
}

/// What the application's own fields say of the length, whether they ask for the end of the connection, and which trailers
/// they announce. The fields themselves never reach the wire: the server makes its own.
#[inline(never)]
fn application_fields(headers: &HeaderMap) -> (Option<u64>, bool, Option<&HeaderValue>) {
    let mut stated = None;
    let mut closes = false;
    let mut announced = None;
    for (name, value) in headers {
        if name == header::CONTENT_LENGTH {
            let digits = value.to_str().ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
            stated = digits.and_then(|text| text.parse().ok());
        } else if name == header::CONNECTION {
            closes |= list(value.as_bytes()).any(|option| option.eq_ignore_ascii_case(b"close"));
        } else if name == header::TRAILER {
            announced = Some(value);
        }
    }
    (stated, closes, announced)
}

/// Whether the client has said that it takes trailers (RFC 9110, 10.1.4).
#[cold]
fn takes_trailers(asked: &Asked) -> bool {
    let te = Lines::new(asked.came.bytes()).filter(|(name, _)| name.eq_ignore_ascii_case("te"));
    te.flat_map(|(_, value)| list(value)).any(|coding| coding.eq_ignore_ascii_case(b"trailers"))
}

/// Leaves only those that were announced.
#[cold]
fn only_announced(mut trailers: Box<HeaderMap>, announced: &HeaderValue) -> Box<HeaderMap> {
    let names: Vec<_> = list(announced.as_bytes()).collect();
    let unannounced =
        |name: &HeaderName| !names.iter().any(|n| n.eq_ignore_ascii_case(name.as_str().as_bytes()));
    let gone: Vec<_> = trailers.keys().filter(|name| unannounced(name)).cloned().collect();
    gone.iter().for_each(|name| drop(trailers.remove(name)));
    trailers
}

#[inline]
pub(super) fn put_head<T: Transport>(
    conn: &Conn<T>,
    output: &mut Output,
    status: StatusCode,
    headers: Headers<'_>,
    body: ResponseBody,
    connection: Connection,
) {
    conn.answering.set(Some(status));
    encode_head(output.begin(), conn.settings.server_name.as_ref(), status, headers, body, connection);
}

// One for all transports.
#[inline(never)]
fn encode_head(
    out: &mut Vec<u8>,
    server: Option<&HeaderValue>,
    status: StatusCode,
    headers: Headers<'_>,
    body: ResponseBody,
    connection: Connection,
) {
    let (headers, line) = match headers {
        Headers::Only(content_type) => (None, content_type.map_or(&b""[..], ContentType::line)),
        Headers::Map(headers) => (Some(headers), &b""[..]),
    };
    HEADS.with_borrow_mut(|heads| {
        heads.it_is_now();
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
    announced: Option<&HeaderValue>,
) -> Result<bool, Broken> {
    let mut out = BodyOut::new(conn, framing);
    let trailers = send_body(conn, &mut out, kind)?;
    if out.missing() > 0 {
        return Err(Broken::Short(out.missing()));
    }
    let trailers = trailers.zip(announced).map(|(trailers, announced)| only_announced(trailers, announced));
    out.finish(trailers.as_deref()).map_err(Broken::ClientGone)?;
    if out.is_overlong() {
        log::error!(
            "{}: {}: the response body is longer than its stated length and was cut there",
            conn.peer(),
            described(asked.came.bytes())
        );
    }
    Ok(out.is_overlong())
}

fn send_body<T: Transport>(
    conn: &Rc<Conn<T>>,
    out: &mut BodyOut<'_, T>,
    kind: Kind,
) -> Result<Option<Box<HeaderMap>>, Broken> {
    let mut trailers = None;
    let sent = match kind {
        Kind::Empty | Kind::Upgrade(_) => Ok(()),
        Kind::Bytes(bytes) => out.whole(&bytes),
        Kind::Stream { write, .. } => {
            let mut writer = BodyWriter::new(out);
            let written = write(&mut writer);
            trailers = writer.take_trailers();
            written
        }
        Kind::Chunks { chunks, rest } => send_chunks(rest, chunks, out),
        Kind::File { file, offset, length } => send_file(conn, out, &file, offset, length),
        kind @ (Kind::Reader { .. } | Kind::Incoming(_)) => copy(&mut Body::from(kind), out),
    };
    match sent {
        // A closure may have kept the error to itself.
        Ok(()) if conn.output().is_ok_and(|output| output.has_failed()) => {
            Err(Broken::ClientGone(io::ErrorKind::BrokenPipe.into()))
        }
        Ok(()) => Ok(trailers),
        Err(error) if conn.output().is_ok_and(|output| output.has_failed()) => Err(Broken::ClientGone(error)),
        // The surplus was cut, what was promised is there.
        Err(_) if out.is_overlong() && out.missing() == 0 => Ok(trailers),
        Err(error) => Err(Broken::Application(format!("producing the response body failed: {error}"))),
    }
}

/// Sends each piece before it asks for the next one.
fn send_chunks(
    rest: Bytes,
    chunks: Box<dyn Iterator<Item = io::Result<Bytes>>>,
    to: &mut impl Write,
) -> io::Result<()> {
    for chunk in std::iter::once(Ok(rest)).chain(chunks) {
        let chunk = chunk?;
        if !chunk.is_empty() {
            to.write_all(&chunk)?;
            to.flush()?;
        }
    }
    Ok(())
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
