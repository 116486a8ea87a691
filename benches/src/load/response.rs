//! Reads HTTP/1.1 responses off a connection, one after the other, and keeps of each only what a check needs.
//!
//! Framing by RFC 9112 section 6.3: no body with 1xx, 204, 304; chunked; `Content-Length`; until the end of the
//! connection. Strict: what a browser would forgive is an error here, since it is the server that is under test.

use std::fmt;
use std::io::{self, Read};

/// What was read of one response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The status code.
    pub status: u16,
    /// Length of the body in bytes, chunk framing not counted.
    pub body_length: u64,
    /// Whether the connection may carry another request.
    pub keep_alive: bool,
}

/// A response that breaks the rules of HTTP/1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Malformed {
    /// The status line or a header line can't be parsed.
    Head,
    /// The head is longer than 64 KiB or has more than 64 fields.
    HeadTooLarge,
    /// `Content-Length` isn't a number, or there are several that differ.
    ContentLength,
    /// `Transfer-Encoding` beside `Content-Length`, or one that is not `chunked`.
    TransferEncoding,
    /// A chunk's size line, its end, or the trailer section.
    Chunk,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Malformed::Head => "malformed response head",
            Malformed::HeadTooLarge => "response head too large",
            Malformed::ContentLength => "bad Content-Length",
            Malformed::TransferEncoding => "bad Transfer-Encoding",
            Malformed::Chunk => "malformed chunk",
        })
    }
}

/// Why no response could be read.
#[derive(Debug)]
pub(crate) enum ReadError {
    /// Reading failed.
    Io(io::Error),
    /// The connection ended before the first byte of the response.
    ClosedBefore,
    /// The connection ended within the response.
    ClosedWithin,
    /// What came is not a response.
    Malformed(Malformed),
}

/// The bytes received on one connection and not consumed yet.
#[derive(Debug, Default)]
pub struct Responses {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

const CAPACITY: usize = 16 * 1024;
const HEAD_LIMIT: usize = 64 * 1024;
const HEADERS_LIMIT: usize = 64;
const LINE_LIMIT: usize = 8 * 1024;

impl Responses {
    /// Nothing received yet; the buffer is allocated at the first read.
    pub const fn new() -> Responses {
        Responses { buffer: Vec::new(), start: 0, end: 0 }
    }

    /// Reads the next final response and its whole body; interim ones (100, 103) are passed over.
    pub(crate) fn read(&mut self, stream: &mut impl Read) -> Result<Summary, ReadError> {
        loop {
            let head = self.read_head(stream)?;
            if (100..200).contains(&head.status) {
                continue;
            }
            let (body_length, delimited) = match head.framing {
                Framing::Length(length) => {
                    self.skip(stream, length)?;
                    (length, true)
                }
                Framing::Chunked => (self.skip_chunks(stream)?, true),
                Framing::UntilEnd => (self.skip_to_end(stream)?, false),
            };
            return Ok(Summary {
                status: head.status,
                body_length,
                keep_alive: head.keep_alive && delimited,
            });
        }
    }

    fn read_head(&mut self, stream: &mut impl Read) -> Result<Head, ReadError> {
        if self.start == self.end && self.fill(stream)? == 0 {
            return Err(ReadError::ClosedBefore);
        }
        loop {
            if let Some((head, length)) =
                Head::parse(&self.buffer[self.start..self.end]).map_err(ReadError::Malformed)?
            {
                self.start += length;
                return Ok(head);
            }
            if self.end - self.start > HEAD_LIMIT {
                return Err(ReadError::Malformed(Malformed::HeadTooLarge));
            }
            self.fill_more(stream)?;
        }
    }

    fn skip(&mut self, stream: &mut impl Read, mut length: u64) -> Result<(), ReadError> {
        loop {
            let here = (self.end - self.start).min(usize::try_from(length).unwrap_or(usize::MAX));
            self.start += here;
            length -= here as u64;
            if length == 0 {
                return Ok(());
            }
            self.fill_more(stream)?;
        }
    }

    /// RFC 9112 section 7.1.
    fn skip_chunks(&mut self, stream: &mut impl Read) -> Result<u64, ReadError> {
        const BAD: ReadError = ReadError::Malformed(Malformed::Chunk);
        let mut total = 0_u64;
        loop {
            let size = self.line(stream, |line| {
                let digits = line.split(|&b| b == b';').next().unwrap_or(line).trim_ascii_end();
                let digits = std::str::from_utf8(digits).ok()?;
                // from_str_radix takes a sign
                let hex = digits.len() <= 15 && digits.bytes().all(|b| b.is_ascii_hexdigit());
                u64::from_str_radix(digits, 16).ok().filter(|_| hex)
            })?;
            let size = size.ok_or(BAD)?;
            if size == 0 {
                while !self.line(stream, <[u8]>::is_empty)? {} // trailers
                return Ok(total);
            }
            self.skip(stream, size)?;
            total += size;
            if !self.line(stream, <[u8]>::is_empty)? {
                return Err(BAD);
            }
        }
    }

    fn skip_to_end(&mut self, stream: &mut impl Read) -> Result<u64, ReadError> {
        let mut total = 0;
        loop {
            total += (self.end - self.start) as u64;
            self.start = self.end;
            if self.fill(stream)? == 0 {
                return Ok(total);
            }
        }
    }

    /// Gives `f` the next line, without its CRLF.
    fn line<T>(&mut self, stream: &mut impl Read, f: impl FnOnce(&[u8]) -> T) -> Result<T, ReadError> {
        let mut searched = 0;
        loop {
            let here = &self.buffer[self.start..self.end];
            if let Some(at) = here[searched..].iter().position(|&b| b == b'\n') {
                let (line, length) = (&here[..searched + at], searched + at + 1);
                let Some(line) = line.strip_suffix(b"\r") else {
                    return Err(ReadError::Malformed(Malformed::Chunk));
                };
                let result = f(line);
                self.start += length;
                return Ok(result);
            }
            searched = here.len();
            if searched > LINE_LIMIT {
                return Err(ReadError::Malformed(Malformed::Chunk));
            }
            self.fill_more(stream)?;
        }
    }

    fn fill_more(&mut self, stream: &mut impl Read) -> Result<(), ReadError> {
        match self.fill(stream)? {
            0 => Err(ReadError::ClosedWithin),
            _ => Ok(()),
        }
    }

    /// One read behind what is there already.
    fn fill(&mut self, stream: &mut impl Read) -> Result<usize, ReadError> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.end == self.buffer.len() && self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.end == self.buffer.len() {
            self.buffer.resize(self.buffer.len() + CAPACITY, 0);
        }
        loop {
            match stream.read(&mut self.buffer[self.end..]) {
                Ok(n) => {
                    self.end += n;
                    return Ok(n);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(ReadError::Io(error)),
            }
        }
    }
}

#[derive(Debug)]
struct Head {
    status: u16,
    framing: Framing,
    keep_alive: bool,
}

#[derive(Clone, Copy, Debug)]
enum Framing {
    Length(u64),
    Chunked,
    UntilEnd,
}

impl Head {
    /// The head at the start of `bytes` and its length; `None` if it is not complete.
    fn parse(bytes: &[u8]) -> Result<Option<(Head, usize)>, Malformed> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_LIMIT];
        let mut parsed = httparse::Response::new(&mut headers);
        let length = match parsed.parse(bytes) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(httparse::Error::TooManyHeaders) => return Err(Malformed::HeadTooLarge),
            Err(_) => return Err(Malformed::Head),
        };
        let (Some(status), Some(version)) = (parsed.code, parsed.version) else {
            return Err(Malformed::Head);
        };

        let mut keep_alive = version == 1;
        let mut content_length = None;
        let mut chunked = false;
        for header in &*parsed.headers {
            if header.name.eq_ignore_ascii_case("content-length") {
                let digits =
                    std::str::from_utf8(header.value).ok().filter(|v| v.bytes().all(|b| b.is_ascii_digit()));
                let value = digits.and_then(|v| v.parse::<u64>().ok()).ok_or(Malformed::ContentLength)?;
                if content_length.is_some_and(|before| before != value) {
                    return Err(Malformed::ContentLength);
                }
                content_length = Some(value);
            } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
                if chunked || !header.value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Malformed::TransferEncoding);
                }
                chunked = true;
            } else if header.name.eq_ignore_ascii_case("connection") {
                for option in header.value.split(|&b| b == b',') {
                    let option = option.trim_ascii();
                    if option.eq_ignore_ascii_case(b"close") {
                        keep_alive = false;
                    } else if option.eq_ignore_ascii_case(b"keep-alive") && version == 0 {
                        keep_alive = true;
                    }
                }
            }
        }
        let framing = match (status, chunked, content_length) {
            (100..200 | 204 | 304, _, _) => Framing::Length(0),
            (_, true, Some(_)) => return Err(Malformed::TransferEncoding),
            (_, true, None) => Framing::Chunked,
            (_, false, Some(length)) => Framing::Length(length),
            (_, false, None) => Framing::UntilEnd,
        };
        Ok(Some((Head { status, framing, keep_alive }, length)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives its bytes in pieces of a fixed size.
    struct Pieces<'a>(&'a [u8], usize);

    impl Read for Pieces<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let n = self.1.min(self.0.len()).min(buffer.len());
            buffer[..n].copy_from_slice(&self.0[..n]);
            self.0 = &self.0[n..];
            Ok(n)
        }
    }

    /// Reads all responses in `bytes`, as text; the last line is the error that ended it.
    fn read_all(bytes: &[u8], piece: usize) -> Vec<String> {
        let (mut responses, mut stream, mut lines) = (Responses::new(), Pieces(bytes, piece), Vec::new());
        loop {
            match responses.read(&mut stream) {
                Ok(s) => lines.push(format!(
                    "{} {}{}",
                    s.status,
                    s.body_length,
                    if s.keep_alive { "" } else { " close" }
                )),
                Err(ReadError::ClosedBefore) => return lines,
                Err(ReadError::ClosedWithin) => lines.push("cut".into()),
                Err(ReadError::Malformed(m)) => lines.push(format!("{m:?}")),
                Err(ReadError::Io(error)) => lines.push(error.to_string()),
            }
            if lines.last().is_some_and(|l| !l.starts_with(char::is_numeric)) {
                return lines;
            }
        }
    }

    #[test]
    fn framing_follows_rfc_9112_whole_and_in_pieces() {
        let long = format!("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n{}", "x".repeat(100_000));
        let table: &[(&str, &str, &[&str])] = &[
            ("length", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", &["200 5"]),
            (
                "two pipelined",
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabHTTP/1.1 404 NF\r\ncontent-length: 1\r\n\r\nc",
                &["200 2", "404 1"],
            ),
            ("longer than the buffer", &long, &["200 100000"]),
            (
                "chunked, with extension and trailer",
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\nA\r\n0123456789\r\n0\r\nX: y\r\n\r\n",
                &["200 15"],
            ),
            (
                "6.3 (1): no body with 204 and 304",
                "HTTP/1.1 204 No\r\n\r\nHTTP/1.1 304 NM\r\nContent-Length: 9\r\n\r\n",
                &["204 0", "304 0"],
            ),
            (
                "interim responses are passed over",
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
                &["200 0"],
            ),
            ("6.3 (8): until the end", "HTTP/1.1 200 OK\r\n\r\nabc", &["200 3 close"]),
            (
                "9.6: close",
                "HTTP/1.1 200 OK\r\nConnection: foo, Close\r\nContent-Length: 0\r\n\r\n",
                &["200 0 close"],
            ),
            ("1.0 closes", "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", &["200 0 close"]),
            (
                "1.0 keep-alive",
                "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n",
                &["200 0"],
            ),
            ("cut in the head", "HTTP/1.1 200 OK\r\nConte", &["cut"]),
            ("cut in the body", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell", &["cut"]),
            ("cut in a chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhe", &["cut"]),
            (
                "cut before the last chunk",
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nh\r\n",
                &["cut"],
            ),
            ("not HTTP", "SSH-2.0-OpenSSH_9.6\r\n", &["Head"]),
            (
                "lengths that differ",
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
                &["ContentLength"],
            ),
            ("signed length", "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n", &["ContentLength"]),
            (
                "both framings",
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
                &["TransferEncoding"],
            ),
            ("unknown coding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", &["TransferEncoding"]),
            (
                "chunk longer than its size",
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhello\r\n0\r\n\r\n",
                &["Chunk"],
            ),
            (
                "signed chunk size",
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n+2\r\nhe\r\n0\r\n\r\n",
                &["Chunk"],
            ),
            (
                "empty chunk size",
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\nhe\r\n0\r\n\r\n",
                &["Chunk"],
            ),
        ];
        for (name, bytes, expected) in table {
            for piece in [usize::MAX, 1, 7] {
                assert_eq!(read_all(bytes.as_bytes(), piece), *expected, "{name}, in pieces of {piece}");
            }
        }
    }

    #[test]
    fn a_head_without_end_is_refused() {
        let mut bytes = b"HTTP/1.1 200 OK\r\nX: ".to_vec();
        bytes.resize(HEAD_LIMIT + 2 * CAPACITY, b'a');
        assert_eq!(read_all(&bytes, usize::MAX), ["HeadTooLarge"]);
    }
}
