//! What the client and the log are told when there is no regular answer, or only a part of one.

use std::fmt::Display;
use std::net::Shutdown;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use ::http::{HeaderMap, Method, StatusCode, Version};

use super::access::Exchange;
use super::conn::Conn;
use super::exchange::{After, Asked, Broken, Noted, start};
use super::respond::put_head;
use super::transport::Transport;
use crate::app::{Connection as _, ContentType, Headers};
use crate::http::Connection;
use crate::http::framing::ResponseBody;
use crate::metrics::Meter;

#[cold]
#[inline(never)]
pub(super) fn after_panic<T: Transport>(conn: &Rc<Conn<T>>, asked: &Asked, panic: &str) -> After {
    conn.settings.meter.iter().for_each(Meter::exception);
    // Where all panics are logged, with more than is known here, this says only whose it was.
    let reason = match crate::log::panics_are_logged() {
        true => "the handler panicked".to_owned(),
        false => format!("the handler panicked: {panic}"),
    };
    after_failure(conn, asked, StatusCode::INTERNAL_SERVER_ERROR, &reason)
}

#[cold]
#[inline(never)]
pub(super) fn after_broken<T: Transport>(conn: &Rc<Conn<T>>, asked: &Asked, broken: Broken) -> After {
    match broken {
        Broken::ClientGone(error) => after_leaving(conn, asked, &error),
        Broken::Short(missing) => {
            let what = described(asked.came.bytes());
            log::error!(
                "{}: {what}: the response body is {missing} bytes shorter than its stated length",
                conn.peer()
            );
            log_begun(conn, asked, StatusCode::OK);
            // The missing end tells the client.
            asked.close()
        }
        Broken::Application(reason) => {
            conn.settings.meter.iter().for_each(Meter::exception);
            after_failure(conn, asked, StatusCode::INTERNAL_SERVER_ERROR, &reason)
        }
    }
}

/// What nginx has in its access log for a client that was gone before it was answered.
const CLIENT_CLOSED_REQUEST: u16 = 499;

#[cold]
#[inline(never)]
pub(super) fn after_leaving<T: Transport>(conn: &Conn<T>, asked: &Asked, how: &dyn Display) -> After {
    let what = described(asked.came.bytes());
    log::debug!("{}: the client left during the answer to {what}: {how}", conn.peer());
    let closed = StatusCode::from_u16(CLIENT_CLOSED_REQUEST).unwrap_or(StatusCode::BAD_REQUEST);
    log_begun(conn, asked, closed);
    After::Torn
}

/// The green thread of the request is being killed: tells the client and the log. Nothing in here may wait.
#[cold]
#[inline(never)]
pub(super) fn cut_off<T: Transport>(conn: &Conn<T>, asked: &Asked) {
    let status = StatusCode::SERVICE_UNAVAILABLE;
    if retract(conn) {
        answer_plainly(conn, status, "", asked.method == Method::HEAD);
        send_last(conn);
    } else {
        if let Ok(mut output) = conn.output() {
            output.send_last(conn.io());
        }
        // A body of which only the end of the connection tells that it is whole is not.
        if asked.version == Version::HTTP_10 {
            conn.io().reset_on_close();
        }
    }
    log_begun(conn, asked, status);
}

/// The green thread is being killed, perhaps between requests: if a part of a head has come its client is told.
#[cold]
#[inline(never)]
pub(super) fn cut_off_between<T: Transport>(conn: &Conn<T>) {
    let begun = conn.input().is_ok_and(|input| !input.is_empty());
    if begun && conn.output().is_ok_and(|output| !output.has_failed()) {
        answer_plainly(conn, StatusCode::SERVICE_UNAVAILABLE, "", false);
        send_last(conn);
    }
}

/// Sends the last answer, and reads away what has come: it would make the closing a reset, by which the answer could be lost.
fn send_last<T: Transport>(conn: &Conn<T>) {
    if let Ok(mut output) = conn.output() {
        output.send_last(conn.io());
    }
    let _ = conn.io().shutdown(Shutdown::Write);
    // Where there is nothing to read this fails, since a green thread that unwinds can't wait.
    let mut left = LAST_BYTES;
    while left > 0 {
        match conn.io().read_with(Duration::from_millis(1), <[u8]>::len) {
            Ok(count @ 1..) => left = left.saturating_sub(count),
            _ => return,
        }
    }
}

/// How much of what a client has sent is read away when its green thread is killed.
const LAST_BYTES: usize = 1024 * 1024;

/// Takes the answer back, as far as there is one. False: something of it was sent.
fn retract<T: Transport>(conn: &Conn<T>) -> bool {
    conn.answering.get().is_none() || conn.output().is_ok_and(|mut output| output.retract())
}

/// A line in the access log with the status that the client has seen, or else this one.
fn log_begun<T: Transport>(conn: &Conn<T>, asked: &Asked, otherwise: StatusCode) {
    log_access(conn, asked, conn.answering.get().unwrap_or(otherwise), &Noted::default());
}

/// Tells the client and the log that there is no answer, or only a part of one.
#[cold]
#[inline(never)]
pub(super) fn after_failure<T: Transport>(
    conn: &Rc<Conn<T>>,
    asked: &Asked,
    status: StatusCode,
    reason: &str,
) -> After {
    log::error!("{}: {}: {reason}", conn.peer(), described(asked.came.bytes()));
    if retract(conn) {
        answer_plainly(conn, status, "", asked.method == Method::HEAD);
        log_access(conn, asked, status, &Noted::default());
        return asked.close();
    }
    log_begun(conn, asked, status);
    // What was produced before is still the client's, but nothing that would end the body regularly: in HTTP/1.1 the missing
    // end tells that it is not whole, in 1.0 and by uwsgi only a reset does.
    if asked.version == Version::HTTP_10 {
        let _ = conn.flush();
        conn.io().reset_on_close();
        return After::Torn;
    }
    asked.close()
}

/// Refuses what is no request, or none that may be served: small, plain, final.
pub(super) fn refuse<T: Transport>(
    conn: &Rc<Conn<T>>,
    head: Option<&[u8]>,
    status: StatusCode,
    reason: &'static str,
) {
    log::info!("{}: refused with {}: {reason}", conn.peer(), status.as_u16());
    let started = start(conn);
    // RFC 9110, 9.3.2: no content in answer to HEAD, not even to a bad one.
    let head_only = conn.input().is_ok_and(|input| input.asks_for_head());
    answer_plainly(conn, status, reason, head_only);
    if let Some(meter) = &conn.settings.meter {
        meter.refused(status, conn.output().map_or(0, |output| output.body_sent));
    }
    if let Some(access_log) = &conn.settings.access_log {
        let (started, since) = started.unwrap_or_else(|| (SystemTime::now(), Instant::now()));
        access_log.log(&Exchange {
            peer: conn.peer(),
            head,
            status,
            response_headers: &HeaderMap::new(),
            route: None,
            tls: conn.tls().as_deref(),
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

/// Counts a request whose answer has ended, if it is to be and has not been.
#[inline(never)]
pub(super) fn count<T: Transport>(conn: &Conn<T>, asked: &Asked, status: StatusCode) {
    if let (Some(meter), Some(begun)) = (&conn.settings.meter, asked.begun.take()) {
        meter.end(begun, status, conn.output().map_or(0, |output| output.body_sent));
    }
}

/// Counts the request, and tells the access log of it.
#[inline(never)]
pub(super) fn log_access<T: Transport>(conn: &Conn<T>, asked: &Asked, status: StatusCode, noted: &Noted) {
    count(conn, asked, status);
    let (Some(access_log), Some((started, since))) = (&conn.settings.access_log, asked.started) else {
        return;
    };
    access_log.log(&Exchange {
        peer: conn.peer(),
        head: Some(asked.came.bytes()),
        status,
        response_headers: &noted.headers,
        route: noted.route.as_deref(),
        tls: conn.tls().as_deref(),
        body_sent: conn.output().map_or(0, |output| output.body_sent),
        started,
        duration: since.elapsed(),
    });
}

/// The request line, for a log line; it is printable since the parser let it pass.
pub(super) fn described(head: &[u8]) -> impl Display + '_ {
    let end = memchr::memchr(b'\r', head).unwrap_or(head.len());
    String::from_utf8_lossy(&head[..end])
}
