//! What a request knows beyond the `http` crate's type.

use std::borrow::Cow;

use ::http::header;

use super::{Addr, Request};

/// What a request knows beyond the `http` crate's type: its connection's addresses and its head as it came.
///
/// All of it is reached through the request's body. For a request made by hand, or one whose body was replaced, there are
/// no addresses, and target and headers are those of the `http` type.
pub trait RequestExt {
    /// The client's address.
    fn peer_addr(&self) -> Option<Addr>;

    /// The address at which the client reached this server.
    fn local_addr(&self) -> Option<Addr>;

    /// The request target, byte for byte as it came: `/a%20b?c`, `http://host/a`, `host:443` or `*` (RFC 9112, 3.2).
    fn raw_target(&self) -> Cow<'_, str>;

    /// The path with its percent-encoding taken off, as bytes since nothing says that they are UTF-8. A `%` that no two
    /// hexadecimal digits follow stands for itself. Empty for `CONNECT`.
    fn path_decoded(&self) -> Cow<'_, [u8]>;

    /// The headers in order of arrival with names spelled as they came, repeated ones each time.
    fn headers_in_order(&self) -> HeadersInOrder<'_>;
}

impl RequestExt for Request {
    fn peer_addr(&self) -> Option<Addr> {
        self.body().as_incoming().map(|incoming| incoming.connection.peer_addr())
    }

    fn local_addr(&self) -> Option<Addr> {
        self.body().as_incoming()?.connection.local_addr()
    }

    fn raw_target(&self) -> Cow<'_, str> {
        match self.body().as_incoming() {
            Some(incoming) => {
                let (start, end) = incoming.target;
                String::from_utf8_lossy(&incoming.head[start as usize..end as usize])
            }
            None => Cow::Owned(self.uri().to_string()),
        }
    }

    fn path_decoded(&self) -> Cow<'_, [u8]> {
        percent_encoding::percent_decode_str(self.uri().path()).into()
    }

    fn headers_in_order(&self) -> HeadersInOrder<'_> {
        HeadersInOrder(match self.body().as_incoming() {
            Some(incoming) => Source::Head(HeadLines::new(&incoming.head)),
            None => Source::Map(self.headers().iter()),
        })
    }
}

/// The iterator of [`RequestExt::headers_in_order`]: names and values.
#[derive(Debug)]
pub struct HeadersInOrder<'a>(Source<'a>);

#[derive(Debug)]
enum Source<'a> {
    Head(HeadLines<'a>),
    Map(header::Iter<'a, header::HeaderValue>),
}

impl<'a> Iterator for HeadersInOrder<'a> {
    type Item = (&'a str, &'a [u8]);

    fn next(&mut self) -> Option<(&'a str, &'a [u8])> {
        match &mut self.0 {
            Source::Head(lines) => lines.next(),
            Source::Map(map) => map.next().map(|(name, value)| (name.as_str(), value.as_bytes())),
        }
    }
}

/// Walks the field lines of a head that was already parsed, and so is known to be well-formed.
#[derive(Debug, Clone)]
pub(crate) struct HeadLines<'a> {
    rest: &'a [u8],
}

impl<'a> HeadLines<'a> {
    /// `head` reaches from the request line to the empty line.
    pub(crate) fn new(head: &'a [u8]) -> HeadLines<'a> {
        let mut lines = HeadLines { rest: head };
        lines.line();
        lines
    }

    fn line(&mut self) -> Option<&'a [u8]> {
        let end = memchr::memchr(b'\n', self.rest)?;
        let line = &self.rest[..end];
        self.rest = &self.rest[end + 1..];
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    }
}

impl<'a> Iterator for HeadLines<'a> {
    type Item = (&'a str, &'a [u8]);

    fn next(&mut self) -> Option<(&'a str, &'a [u8])> {
        let line = self.line()?;
        let colon = memchr::memchr(b':', line)?;
        let name = std::str::from_utf8(&line[..colon]).ok()?;
        let is_space = |b: &&u8| matches!(**b, b' ' | b'\t');
        let value = &line[colon + 1..];
        let start = value.iter().take_while(is_space).count();
        let end = value.len() - value[start..].iter().rev().take_while(is_space).count();
        Some((name, &value[start..end]))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Body;
    use super::*;

    #[test]
    fn head_lines_keep_order_case_and_repeats_and_trim_values() {
        let head = b"GET / HTTP/1.1\r\nHost: a\r\nX-A:  1 \t\r\nx-a:\r\nX-A: 2:3\r\n\r\n";
        let lines: Vec<_> = HeadLines::new(head).collect();
        assert_eq!(lines, [("Host", &b"a"[..]), ("X-A", b"1"), ("x-a", b""), ("X-A", b"2:3")]);
    }

    #[test]
    fn a_request_made_by_hand_answers_from_its_own_parts() {
        let req = ::http::Request::get("/a%20b%zz?q=1").header("x-a", "1").body(Body::empty()).unwrap();
        assert_eq!(req.raw_target(), "/a%20b%zz?q=1");
        assert_eq!(&*req.path_decoded(), b"/a b%zz");
        assert_eq!(req.headers_in_order().collect::<Vec<_>>(), [("x-a", &b"1"[..])]);
        assert!(req.peer_addr().is_none());
    }
}
