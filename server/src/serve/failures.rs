//! What the client and the log are told when there is no regular answer, or only a part of one.

use std::fmt::Display;
use std::rc::Rc;
use std::time::{Instant, SystemTime};

use ::http::{HeaderMap, Method, StatusCode, Version};

use super::access::Exchange;
use super::conn::Conn;
use super::exchange::{After, Asked, Broken, start};
use super::respond::put_head;
use super::transport::Transport;
use crate::app::{ContentType, Headers};
use crate::http::Connection;
use crate::http::framing::ResponseBody;

#[cold]
#[inline(never)]
pub(super) fn after_panic<T: Transport>(conn: &Rc<Conn<T>>, asked: &Asked, panic: &str) -> After {
    let reason = format!("the handler panicked: {panic}");
    after_failure(conn, asked, StatusCode::INTERNAL_SERVER_ERROR, &reason, None)
}

#[cold]
#[inline(never)]
pub(super) fn after_broken<T: Transport>(conn: &Rc<Conn<T>>, asked: &Asked, broken: Broken) -> After {
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
            asked.close()
        }
        Broken::Application(status, reason) => {
            after_failure(conn, asked, StatusCode::INTERNAL_SERVER_ERROR, &reason, Some(status))
        }
    }
}

/// Tells the client and the log that there is no answer, or only a part of one; `sent` is the status of that, if known.
#[cold]
#[inline(never)]
pub(super) fn after_failure<T: Transport>(
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
        return asked.close();
    }
    log_access(conn, asked, sent.unwrap_or(status), &HeaderMap::new());
    // What was produced before is still the client's, but nothing that would end the body regularly: in HTTP/1.1 the missing
    // end tells that it is not whole, in 1.0 only a reset does.
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
    log::info!("{}: refused with {}: {reason}", conn.peer, status.as_u16());
    let started = start(conn);
    // RFC 9110, 9.3.2: no content in answer to HEAD, not even to a bad one.
    let head_only = conn.input().is_ok_and(|input| input.asks_for_head());
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
pub(super) fn log_access<T: Transport>(
    conn: &Conn<T>,
    asked: &Asked,
    status: StatusCode,
    headers: &HeaderMap,
) {
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
pub(super) fn described(head: &[u8]) -> impl Display + '_ {
    let end = memchr::memchr(b'\r', head).unwrap_or(head.len());
    String::from_utf8_lossy(&head[..end])
}
