//! Response heads and chunk frames as bytes.

use ::http::{HeaderMap, HeaderValue, StatusCode, header};

use super::framing::ResponseBody;

/// The interim response which tells a client to send its body (RFC 9110, 15.2.1).
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// What goes into a response head.
#[derive(Debug)]
pub struct ResponseHead<'a> {
    /// The status.
    pub status: StatusCode,
    /// The application's fields. Those that concern the connection or the framing are left out: the server alone speaks of
    /// these (`Connection`, `Keep-Alive`, `Proxy-Connection`, `TE`, `Trailer`, `Transfer-Encoding`, `Content-Length`).
    pub headers: Option<&'a HeaderMap>,
    /// A header line with its end that is there instead of `headers`: of what the server knows to be well-formed.
    pub line: &'static [u8],
    /// How the body is delimited.
    pub body: ResponseBody,
    /// What to say of the connection's future.
    pub connection: Connection,
    /// The value of `Date`, unless the application has set one.
    pub date: &'a [u8; 29],
    /// The value of `Server`, unless the application has set one.
    pub server: Option<&'a HeaderValue>,
}

/// What a response head says of the connection's future (RFC 9112, 9.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connection {
    /// Nothing: HTTP/1.1 lives on by itself.
    Implied,
    /// `Connection: keep-alive`, for a client of HTTP/1.0 that asked for it.
    KeepAlive,
    /// `Connection: close`.
    Close,
}

/// How answers begin whose fields are the server's alone, up to the one that differs: the length. They are the same until
/// the date changes.
#[derive(Debug, Clone, Default)]
pub struct Openings {
    kept: Vec<Opening>,
}

#[derive(Debug, Clone)]
struct Opening {
    line: &'static [u8],
    server: Option<HeaderValue>,
    bytes: Vec<u8>,
}

/// So many are kept: one for each content type that the server gives by itself, and one for none.
const OPENINGS: usize = 3;

impl Openings {
    /// None at first.
    pub const fn new() -> Openings {
        Openings { kept: Vec::new() }
    }

    /// Forgets them: to be called when the date changes.
    pub fn clear(&mut self) {
        self.kept.clear();
    }

    /// As [`encode_head`]: the same fields, if in another order. The date must be that of all calls since the last `clear`.
    #[inline]
    pub fn encode_head(&mut self, out: &mut Vec<u8>, head: &ResponseHead<'_>) {
        let (None, StatusCode::OK, ResponseBody::Length(length)) = (head.headers, head.status, head.body)
        else {
            return encode_head(out, head);
        };
        let kept = self
            .kept
            .iter()
            .find(|opening| std::ptr::eq(opening.line, head.line) && opening.server.as_ref() == head.server);
        match kept {
            Some(opening) => out.extend_from_slice(&opening.bytes),
            None => out.extend_from_slice(self.make(head)),
        }
        out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
        match head.connection {
            Connection::Implied => out.extend_from_slice(b"\r\n\r\n"),
            other => {
                out.extend_from_slice(b"\r\n");
                put_connection(out, other);
                out.extend_from_slice(b"\r\n");
            }
        }
    }

    #[cold]
    #[inline(never)]
    fn make(&mut self, head: &ResponseHead<'_>) -> &[u8] {
        let mut bytes = OK.to_vec();
        put_date(&mut bytes, head.date);
        if let Some(server) = head.server {
            field(&mut bytes, b"server", server.as_bytes());
        }
        bytes.extend_from_slice(head.line);
        bytes.extend_from_slice(LENGTH);
        self.kept.truncate(OPENINGS - 1);
        self.kept.insert(0, Opening { line: head.line, server: head.server.cloned(), bytes });
        &self.kept[0].bytes
    }
}

const LENGTH: &[u8] = b"content-length: ";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\n";

/// Appends the head with its empty line to `out`. The status line always says HTTP/1.1 (RFC 9110, 2.5).
pub fn encode_head(out: &mut Vec<u8>, head: &ResponseHead<'_>) {
    if head.status == StatusCode::OK {
        out.extend_from_slice(OK);
    } else {
        out.extend_from_slice(b"HTTP/1.1 ");
        out.extend_from_slice(head.status.as_str().as_bytes());
        out.push(b' ');
        out.extend_from_slice(head.status.canonical_reason().unwrap_or("").as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    let mut has_date = false;
    let mut has_server = false;
    match head.headers {
        Some(headers) => (has_date, has_server) = fields(out, headers),
        None => out.extend_from_slice(head.line),
    }
    match head.body {
        ResponseBody::Absent | ResponseBody::UntilClose => {}
        ResponseBody::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        ResponseBody::Length(length) | ResponseBody::AbsentOf(length) => put_length(out, length),
    }
    put_connection(out, head.connection);
    if head.status != StatusCode::OK {
        put_upgrade(out, head);
    }
    if let (false, Some(server)) = (has_server, head.server) {
        field(out, b"server", server.as_bytes());
    }
    if !has_date {
        put_date(out, head.date);
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends an interim response, 103 say, with those of the fields that do not concern the connection or the framing.
pub fn encode_interim(out: &mut Vec<u8>, status: StatusCode, headers: &HeaderMap) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or("").as_bytes());
    out.extend_from_slice(b"\r\n");
    fields(out, headers);
    out.extend_from_slice(b"\r\n");
}

#[inline]
fn put_length(out: &mut Vec<u8>, length: u64) {
    out.extend_from_slice(LENGTH);
    out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
    out.extend_from_slice(b"\r\n");
}

#[inline]
fn put_connection(out: &mut Vec<u8>, connection: Connection) {
    match connection {
        Connection::Implied => {}
        Connection::KeepAlive => out.extend_from_slice(b"connection: keep-alive\r\n"),
        Connection::Close => out.extend_from_slice(b"connection: close\r\n"),
    }
}

/// A sender of `Upgrade` names it in `Connection` (RFC 9110, 7.8). It is sent with two statuses only.
fn put_upgrade(out: &mut Vec<u8>, head: &ResponseHead<'_>) {
    let may_name = matches!(head.status, StatusCode::SWITCHING_PROTOCOLS | StatusCode::UPGRADE_REQUIRED);
    if may_name && head.headers.is_some_and(|headers| headers.contains_key(header::UPGRADE)) {
        out.extend_from_slice(b"connection: upgrade\r\n");
    }
}

fn put_date(out: &mut Vec<u8>, date: &[u8; 29]) {
    out.extend_from_slice(b"date: ");
    out.extend_from_slice(date);
    out.extend_from_slice(b"\r\n");
}

/// Appends a chunk's size line (RFC 9112, 7.1). `size` must not be 0: that would end the body.
pub fn encode_chunk_size(out: &mut Vec<u8>, size: usize) {
    debug_assert_ne!(size, 0);
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let digits = (usize::BITS - size.leading_zeros()).div_ceil(4).max(1);
    out.extend((0..digits).rev().map(|digit| HEX[(size >> (4 * digit)) & 15]));
    out.extend_from_slice(b"\r\n");
}

/// Appends the application's fields. Gives whether there are `Date` and `Server` among them.
#[inline(never)]
fn fields(out: &mut Vec<u8>, headers: &HeaderMap) -> (bool, bool) {
    let (mut has_date, mut has_server) = (false, false);
    for (name, value) in headers {
        if is_ours(name) {
            continue;
        }
        has_date |= name == header::DATE;
        has_server |= name == header::SERVER;
        field(out, name.as_str().as_bytes(), value.as_bytes());
    }
    (has_date, has_server)
}

fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn is_ours(name: &header::HeaderName) -> bool {
    match name.as_str() {
        // The length of the name alone settles it for most.
        "connection" | "content-length" | "transfer-encoding" | "keep-alive" | "proxy-connection" | "te"
        | "trailer" => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATE: &[u8; 29] = b"Sun, 06 Nov 1994 08:49:37 GMT";

    fn encode(
        status: u16,
        headers: &[(&'static str, &'static str)],
        body: ResponseBody,
        connection: Connection,
    ) -> String {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_static(value));
        }
        let head = ResponseHead {
            status: StatusCode::from_u16(status).unwrap(),
            headers: Some(&map),
            line: b"unseen: beside headers\r\n",
            body,
            connection,
            date: DATE,
            server: Some(&HeaderValue::from_static("s")),
        };
        let mut out = Vec::new();
        encode_head(&mut out, &head);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_server_adds_framing_date_and_name() {
        assert_eq!(
            encode(200, &[("x-a", "1"), ("x-a", "2")], ResponseBody::Length(12), Connection::Implied),
            "HTTP/1.1 200 OK\r\nx-a: 1\r\nx-a: 2\r\ncontent-length: 12\r\nserver: s\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n"
        );
        assert_eq!(
            encode(404, &[], ResponseBody::Chunked, Connection::Close),
            "HTTP/1.1 404 Not Found\r\ntransfer-encoding: chunked\r\nconnection: close\r\nserver: s\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n"
        );
        assert_eq!(
            encode(599, &[], ResponseBody::Absent, Connection::KeepAlive),
            "HTTP/1.1 599 \r\nconnection: keep-alive\r\nserver: s\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n"
        );
    }

    #[test]
    fn without_headers_there_is_the_line_alone() {
        let head = ResponseHead {
            status: StatusCode::OK,
            headers: None,
            line: b"content-type: text/plain\r\n",
            body: ResponseBody::Length(0),
            connection: Connection::Implied,
            date: DATE,
            server: None,
        };
        let mut out = Vec::new();
        encode_head(&mut out, &head);
        let expected = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 0\r\n\
                        date: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn openings_say_what_was_asked_for_whatever_was_asked_before() {
        let (named, other) = (HeaderValue::from_static("s"), HeaderValue::from_static("t"));
        let later = b"Sun, 06 Nov 1994 08:49:38 GMT";
        let mut openings = Openings::new();
        for _ in 0..2 {
            for line in [&b""[..], b"content-type: a/b\r\n", b"content-type: c/d\r\n"] {
                openings.clear();
                for (server, date) in
                    [(None, DATE), (Some(&named), DATE), (Some(&other), DATE), (None, later)]
                {
                    if date == later {
                        openings.clear();
                    }
                    for (body, connection) in [
                        (ResponseBody::Length(7), Connection::Implied),
                        (ResponseBody::Length(12_345), Connection::Close),
                        (ResponseBody::Chunked, Connection::Implied),
                    ] {
                        let head = ResponseHead {
                            status: StatusCode::OK,
                            headers: None,
                            line,
                            body,
                            connection,
                            date,
                            server,
                        };
                        let (mut made, mut expected) = (Vec::new(), Vec::new());
                        openings.encode_head(&mut made, &head);
                        encode_head(&mut expected, &head);
                        let sorted = |head: Vec<u8>| {
                            let text = String::from_utf8(head).unwrap();
                            let mut lines: Vec<String> = text.split("\r\n").map(str::to_owned).collect();
                            assert_eq!(lines.remove(0), "HTTP/1.1 200 OK");
                            assert_eq!(lines[lines.len() - 2..], ["", ""]);
                            lines.sort_unstable();
                            lines
                        };
                        assert_eq!(sorted(made), sorted(expected));
                    }
                }
            }
        }
        assert!(openings.kept.len() <= OPENINGS);
    }

    #[test]
    fn an_application_sets_date_and_server_but_never_framing() {
        let ours = [
            ("content-length", "7"),
            ("content-length", "8"),
            ("transfer-encoding", "gzip"),
            ("connection", "upgrade"),
            ("keep-alive", "timeout=5"),
            ("date", "then"),
            ("server", "mine"),
        ];
        assert_eq!(
            encode(200, &ours, ResponseBody::UntilClose, Connection::Close),
            "HTTP/1.1 200 OK\r\ndate: then\r\nserver: mine\r\nconnection: close\r\n\r\n"
        );
    }

    #[test]
    fn rfc8297_2_an_interim_response_has_the_applications_fields_and_no_framing() {
        let mut headers = HeaderMap::new();
        headers.append("link", HeaderValue::from_static("</a>; rel=preload"));
        headers.append("content-length", HeaderValue::from_static("7"));
        headers.append("link", HeaderValue::from_static("</b>; rel=preload"));
        let mut out = Vec::new();
        encode_interim(&mut out, StatusCode::from_u16(103).unwrap(), &headers);
        let expected =
            "HTTP/1.1 103 Early Hints\r\nlink: </a>; rel=preload\r\nlink: </b>; rel=preload\r\n\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn whoever_names_another_protocol_says_so_in_connection() {
        for (status, connection, lines) in [
            (101, Connection::Implied, "connection: upgrade\r\n"),
            (426, Connection::Close, "connection: close\r\nconnection: upgrade\r\n"),
            (404, Connection::Implied, ""),
        ] {
            let head = encode(status, &[("upgrade", "a/1")], ResponseBody::Absent, connection);
            assert!(head.contains(&format!("\r\nupgrade: a/1\r\n{lines}server: s\r\n")), "{head}");
        }
        let without = encode(426, &[], ResponseBody::Absent, Connection::Implied);
        assert!(!without.contains("upgrade:") && !without.contains("connection"), "{without}");
    }

    #[test]
    fn chunk_sizes_are_hexadecimal_without_leading_zeros() {
        for size in [1, 9, 15, 16, 255, 256, 4096, 0xfffff, usize::MAX] {
            let mut out = Vec::new();
            encode_chunk_size(&mut out, size);
            assert_eq!(String::from_utf8(out).unwrap(), format!("{size:x}\r\n"));
        }
    }
}
