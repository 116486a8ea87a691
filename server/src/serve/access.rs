//! What an access log gets to see.

use std::fmt;
use std::time::{Duration, SystemTime};

use ::http::{HeaderMap, StatusCode};

use crate::app::{Addr, TlsInfo};
use crate::http::Lines;

/// Is told of every answered request, after the last byte of the answer was handed to the kernel or the connection failed.
///
/// Called in the connection's own green thread (or thread): what it does delays that connection, and if it blocks without
/// parking, all of them. It is still part of the request: [`log::fields`](crate::log::fields) gives what is known of it.
pub trait AccessLog: Send + Sync + 'static {
    /// One request was answered.
    fn log(&self, exchange: &Exchange<'_>);
}

/// One request and its answer. Its `Debug` form has the request line and none of the headers, which hold secrets.
pub struct Exchange<'a> {
    /// The peer's address, as [`Request::peer_addr`](crate::Request::peer_addr) has it.
    pub peer: &'a Addr,
    /// The request's head as it came, from the method to the empty line; `None` if none could be made out (a malformed
    /// or oversized head, say). By the uwsgi protocol the one that was made of the packet.
    pub head: Option<&'a [u8]>,
    /// The status sent. If nothing was: 503 for a request that was cut off at the end of the graceful timeout, 499 (nginx's "client
    /// closed request") for one that was cancelled since its client had left.
    pub status: StatusCode,
    /// The headers of the response, as the handler set them.
    pub response_headers: &'a HeaderMap,
    /// The pattern of the route that gave the response, see [`Response::route`](crate::Response::route). `None` without a router,
    /// and if the answer is the server's own: to a handler that panicked or was cancelled, say.
    pub route: Option<&'a str>,
    /// What is known of the TLS connection, if it is one.
    pub tls: Option<&'a TlsInfo>,
    /// How many bytes of body were sent, without chunk framing.
    pub body_sent: u64,
    /// When the first byte of the head had arrived.
    pub started: SystemTime,
    /// From the first byte of the head to the end of the answer.
    pub duration: Duration,
}

impl<'a> Exchange<'a> {
    /// The request line as it came, `GET / HTTP/1.1`.
    pub fn request_line(&self) -> Option<&'a str> {
        let head = self.head?;
        let end = memchr::memchr(b'\r', head)?;
        std::str::from_utf8(&head[..end]).ok()
    }

    /// The method as it came.
    pub fn method(&self) -> Option<&'a str> {
        self.request_line()?.split(' ').next()
    }

    /// The request target as it came.
    pub fn target(&self) -> Option<&'a str> {
        self.request_line()?.split(' ').nth(1)
    }

    /// The version as it came, `HTTP/1.1`.
    pub fn version(&self) -> Option<&'a str> {
        self.request_line()?.split(' ').nth(2)
    }

    /// The value of the first request header of that name, compared without regard to case.
    pub fn request_header(&self, name: &str) -> Option<&'a [u8]> {
        Lines::new(self.head?).find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

impl fmt::Debug for Exchange<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange")
            .field("peer", &self.peer)
            .field("request_line", &self.request_line())
            .field("status", &self.status)
            .field("route", &self.route)
            .field("body_sent", &self.body_sent)
            .field("started", &self.started)
            .field("duration", &self.duration)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_the_head_are_found() {
        let exchange = Exchange {
            peer: &Addr::Unix(None),
            head: Some(b"GET /a?b HTTP/1.1\r\nHost: h\r\nUser-Agent: curl/8\r\n\r\n"),
            status: StatusCode::OK,
            response_headers: &HeaderMap::new(),
            route: None,
            tls: None,
            body_sent: 0,
            started: SystemTime::UNIX_EPOCH,
            duration: Duration::ZERO,
        };
        assert_eq!(exchange.request_line(), Some("GET /a?b HTTP/1.1"));
        assert_eq!((exchange.method(), exchange.target()), (Some("GET"), Some("/a?b")));
        assert_eq!(exchange.version(), Some("HTTP/1.1"));
        assert_eq!(exchange.request_header("user-agent"), Some(&b"curl/8"[..]));
        assert_eq!(exchange.request_header("referer"), None);
    }
}
