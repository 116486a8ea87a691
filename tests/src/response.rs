//! One HTTP response, read strictly: what a careful client or proxy would refuse is an error here too.

use std::fmt;
use std::io;

/// How the response said where its body ends (RFC 9112 section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// No body by the rules: the answer to HEAD, 1xx, 204, 304.
    None,
    /// `Content-Length` with this value.
    Length(usize),
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// Neither: the body ends with the connection.
    Close,
}

/// A response whose form is beyond reproach, though its body may have been cut short ([`ReadError::Truncated`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The reason phrase, possibly empty.
    pub reason: String,
    /// Names as sent, values without the white space around them, in order of arrival.
    pub headers: Vec<(String, String)>,
    /// How the end of the body was marked.
    pub framing: Framing,
    /// The body, with any chunked coding taken off.
    pub body: Vec<u8>,
    /// The sizes of the chunks, without the last one of size 0.
    pub chunks: Vec<usize>,
    /// Fields behind the last chunk.
    pub trailers: Vec<(String, String)>,
}

impl Response {
    /// The only value of this field, `None` if there is none; names compare without regard to case.
    ///
    /// # Panics
    /// When the field is there more than once.
    #[track_caller]
    pub fn header(&self, name: &str) -> Option<&str> {
        let all = self.header_all(name);
        assert!(all.len() <= 1, "{name} more than once: {all:?}");
        all.first().copied()
    }

    /// All values of this field.
    pub fn header_all(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str()).collect()
    }

    /// Whether the server said that it closes the connection after this response.
    pub fn says_close(&self) -> bool {
        self.connection_options().any(|option| option.eq_ignore_ascii_case("close"))
    }

    /// Whether the server said to an HTTP/1.0 client that the connection stays open.
    pub fn says_keep_alive(&self) -> bool {
        self.connection_options().any(|option| option.eq_ignore_ascii_case("keep-alive"))
    }

    /// Whether the application made this response: only its responses carry `X-App: 1`.
    #[track_caller]
    pub fn from_app(&self) -> bool {
        match self.header("x-app") {
            None => false,
            Some("1") => true,
            Some(other) => panic!("X-App: {other}"),
        }
    }

    /// The body as text.
    ///
    /// # Panics
    /// When it is not UTF-8.
    #[track_caller]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a body of UTF-8 text")
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is not JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {:?}", String::from_utf8_lossy(&self.body)))
    }

    fn connection_options(&self) -> impl Iterator<Item = &str> {
        self.header_all("connection").into_iter().flat_map(|value| value.split(',')).map(str::trim)
    }
}

/// Why no complete response could be read.
#[derive(Debug)]
pub enum ReadError {
    /// The connection ended in good order before the first byte of a response.
    Closed,
    /// The connection was reset, or failed otherwise, before the response was complete.
    Failed(io::Error),
    /// The connection ended inside the head; these bytes had come.
    TruncatedHead(Vec<u8>),
    /// The connection ended, in good order or not, inside the body: head and the part of the body that came.
    Truncated(Box<Response>),
    /// The response breaks a rule of RFC 9110 or 9112.
    Malformed(String),
    /// Nothing came for the client's patience.
    TimedOut,
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Closed => write!(f, "connection closed before a response"),
            ReadError::Failed(error) => write!(f, "connection failed: {error}"),
            ReadError::TruncatedHead(got) => write!(f, "head cut short: {:?}", String::from_utf8_lossy(got)),
            ReadError::Truncated(part) => {
                write!(
                    f,
                    "body of a {} cut short after {} bytes ({:?})",
                    part.status,
                    part.body.len(),
                    part.framing
                )
            }
            ReadError::Malformed(why) => write!(f, "malformed response: {why}"),
            ReadError::TimedOut => write!(f, "no response in time"),
        }
    }
}

/// Parses a head without its closing empty line and decides the framing of what follows, for an answer to `method`.
pub(crate) fn parse_head(head: &[u8], method: &str) -> Result<Response, ReadError> {
    let text = String::from_utf8_lossy(head);
    let mut lines = text.split("\r\n");
    let (status, reason) = parse_status_line(lines.next().unwrap_or_default())?;
    let headers = lines.map(parse_field).collect::<Result<Vec<_>, _>>()?;
    let mut response = Response {
        status,
        reason,
        headers,
        framing: Framing::None,
        body: Vec::new(),
        chunks: Vec::new(),
        trailers: Vec::new(),
    };
    response.framing = framing(&response, method)?;
    check_head(&response)?;
    Ok(response)
}

/// Parses one field line. Stricter than RFC 9112 section 5: what our server writes has exactly `Name: value`.
pub(crate) fn parse_field(line: &str) -> Result<(String, String), ReadError> {
    let (name, value) = line.split_once(':').ok_or_else(|| malformed(format!("field line {line:?}")))?;
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if name.is_empty() || !name.bytes().all(is_token) {
        return Err(malformed(format!("field name {name:?}")));
    }
    if value.bytes().any(|b| (b < b' ' && b != b'\t') || b == 0x7f) {
        return Err(malformed(format!("control character in the value of {name}: {value:?}")));
    }
    Ok((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()))
}

/// A chunk-size line (RFC 9112 section 7.1): hexadecimal digits and nothing else; our server sends no extensions.
pub(crate) fn parse_chunk_size(line: &[u8]) -> Result<usize, ReadError> {
    let digits = std::str::from_utf8(line).ok().filter(|s| s.bytes().all(|b| b.is_ascii_hexdigit()));
    digits
        .and_then(|digits| usize::from_str_radix(digits, 16).ok())
        .ok_or_else(|| malformed(format!("chunk size {:?}", String::from_utf8_lossy(line))))
}

pub(crate) fn malformed(why: impl Into<String>) -> ReadError {
    ReadError::Malformed(why.into())
}

fn parse_status_line(line: &str) -> Result<(u16, String), ReadError> {
    let wrong = || malformed(format!("status line {line:?}"));
    let rest = line.strip_prefix("HTTP/1.1 ").ok_or_else(wrong)?;
    let (code, reason) = rest.split_once(' ').ok_or_else(wrong)?;
    let status: u16 = code.parse().map_err(|_| wrong())?;
    let printable = reason.bytes().all(|b| (b' '..0x7f).contains(&b));
    if code.len() != 3 || !(100..600).contains(&status) || !printable {
        return Err(wrong());
    }
    Ok((status, reason.to_owned()))
}

fn framing(response: &Response, method: &str) -> Result<Framing, ReadError> {
    let codings = response.header_all("transfer-encoding");
    let lengths = response.header_all("content-length");
    if !codings.is_empty() && !lengths.is_empty() {
        return Err(malformed("Transfer-Encoding and Content-Length at once"));
    }
    if codings.len() > 1 || lengths.len() > 1 {
        return Err(malformed("a framing field twice"));
    }
    let length = match lengths.first() {
        Some(text) if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) => {
            Some(text.parse::<usize>().map_err(|_| malformed(format!("Content-Length {text:?}")))?)
        }
        Some(text) => return Err(malformed(format!("Content-Length {text:?}"))),
        None => None,
    };
    if let Some(coding) = codings.first().filter(|coding| **coding != "chunked") {
        return Err(malformed(format!("Transfer-Encoding {coding:?}")));
    }
    // RFC 9110 section 8.6 and RFC 9112 section 6.1
    let bodiless = response.status < 200 || response.status == 204;
    if bodiless && (length.is_some() || !codings.is_empty()) {
        return Err(malformed(format!("a {} with a framing field", response.status)));
    }
    Ok(match length {
        _ if bodiless || response.status == 304 || method == "HEAD" => Framing::None,
        Some(length) => Framing::Length(length),
        None if !codings.is_empty() => Framing::Chunked,
        None => Framing::Close,
    })
}

/// What every final response of ours must have: one valid `Date` (RFC 9110 section 6.6.1), no field twice that may
/// be there but once, and a close-delimited body only on a connection that is said to close.
fn check_head(response: &Response) -> Result<(), ReadError> {
    for name in ["date", "server", "content-type", "etag", "last-modified", "location", "x-app"] {
        if response.header_all(name).len() > 1 {
            return Err(malformed(format!("{name} twice")));
        }
    }
    if response.status >= 200 && response.header_all("date").is_empty() {
        return Err(malformed(format!("a {} without Date", response.status)));
    }
    if response.framing == Framing::Close && response.says_keep_alive() {
        return Err(malformed("a body without an end on a connection that is to stay open"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATE: &str = "Date: Sat, 21 Nov 2026 07:00:00 GMT";

    fn head(lines: &[&str], method: &str) -> Result<Response, ReadError> {
        parse_head(lines.join("\r\n").as_bytes(), method)
    }

    #[test]
    fn framing_follows_rfc_9112_section_6_3() {
        let rows: &[(&[&str], &str, Framing)] = &[
            (&["HTTP/1.1 200 OK", DATE, "Content-Length: 5"], "GET", Framing::Length(5)),
            (&["HTTP/1.1 200 OK", DATE, "Content-Length: 5"], "HEAD", Framing::None),
            (&["HTTP/1.1 200 OK", DATE, "Transfer-Encoding: chunked"], "GET", Framing::Chunked),
            (&["HTTP/1.1 200 OK", DATE], "GET", Framing::Close),
            (&["HTTP/1.1 304 Not Modified", DATE], "GET", Framing::None),
            (&["HTTP/1.1 100 Continue"], "POST", Framing::None),
        ];
        for (lines, method, expected) in rows {
            assert_eq!(head(lines, method).unwrap().framing, *expected, "{lines:?}");
        }
    }

    #[test]
    fn responses_that_break_a_rule_are_refused() {
        let rows: &[&[&str]] = &[
            &["HTTP/1.0 200 OK", DATE],
            &["HTTP/1.1 200", DATE],
            &["HTTP/1.1 0200 OK", DATE],
            &["HTTP/1.1 200 OK"],
            &["HTTP/1.1 200 OK", DATE, DATE],
            &["HTTP/1.1 200 OK", DATE, "no colon"],
            &["HTTP/1.1 200 OK", DATE, " folded: x"],
            &["HTTP/1.1 200 OK", DATE, "X: a\nb"],
            &["HTTP/1.1 200 OK", DATE, "Content-Length: +5"],
            &["HTTP/1.1 200 OK", DATE, "Content-Length: 5", "Transfer-Encoding: chunked"],
            &["HTTP/1.1 204 No Content", DATE, "Content-Length: 0"],
            &["HTTP/1.1 200 OK", DATE, "Connection: keep-alive"],
        ];
        for lines in rows {
            assert!(matches!(head(lines, "GET"), Err(ReadError::Malformed(_))), "{lines:?}");
        }
    }

    #[test]
    fn chunk_sizes_are_hexadecimal_digits_only() {
        assert_eq!(parse_chunk_size(b"1aF").unwrap(), 0x1af);
        for bad in [&b""[..], b"+1", b"0x1", b" 1", b"1 ", b"1;a", b"fffffffffffffffff"] {
            assert!(parse_chunk_size(bad).is_err(), "{bad:?}");
        }
    }
}
