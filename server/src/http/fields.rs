//! The header fields that the server itself obeys.

use super::framing::{RequestBody, TransferEncoding, request_body};
use super::target::is_host;
use ::http::Version;

use super::{Limits, ParseError};

/// Beyond the longest name that the `http` crate takes.
const LONGEST_NAME: usize = 1 << 16;

/// What the server must know of the fields, gathered while they pass by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts {
    /// How many fields there are, and the length of the longest with its CRLF.
    pub(super) count: usize,
    pub(super) longest: usize,
    /// Whether there is a value that is not for a log.
    pub(super) secret: bool,
    pub(super) host: bool,
    pub(super) content_length: Option<u64>,
    pub(super) transfer_encoding: Option<TransferEncoding>,
    pub(super) close: bool,
    pub(super) keep_alive: bool,
    pub(super) expect_continue: bool,
    /// Kept until all else was judged: a request that is malformed as well is malformed first.
    pub(super) expect_other: bool,
}

/// What a request's fields come to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    pub(super) body: RequestBody,
    pub(super) keep_alive: bool,
    pub(super) expect_continue: bool,
}

impl Terms {
    /// Those of most requests.
    pub(super) const PLAIN: Terms =
        Terms { body: RequestBody::Length(0), keep_alive: true, expect_continue: false };

    /// Whether the body may be as long as it will be, so far as that is known.
    #[inline]
    pub(super) fn within(&self, limits: &Limits) -> bool {
        match self.body {
            RequestBody::Length(length) => limits.body_allows(length),
            RequestBody::Chunked => true,
        }
    }
}

impl Facts {
    /// Of no fields at all.
    pub(super) const NONE: Facts = Facts {
        count: 0,
        longest: 0,
        secret: false,
        host: false,
        content_length: None,
        transfer_encoding: None,
        close: false,
        keep_alive: false,
        expect_continue: false,
        expect_other: false,
    };

    /// What they come to in a request of HTTP/1.0, if it is `old`, or 1.1.
    ///
    /// # Errors
    /// The first rule that is broken, in the order: framing, `Host`, `Expect`.
    pub(super) fn terms(&self, old: bool, limits: &Limits) -> Result<Terms, ParseError> {
        let version = if old { Version::HTTP_10 } else { Version::HTTP_11 };
        let body = request_body(version, self.content_length, self.transfer_encoding, limits)?;
        if !self.host && !old {
            return Err(ParseError::HostMissing);
        }
        if self.expect_other {
            return Err(ParseError::Expectation);
        }
        Ok(Terms {
            body,
            keep_alive: !self.close && (!old || self.keep_alive),
            // An HTTP/1.0 client does not know what 100 means (RFC 9110, 10.1.1), and without a body there is nothing to wait
            // for.
            expect_continue: self.expect_continue && !old && body != RequestBody::Length(0),
        })
    }

    /// Takes note of one field. Its name and value were found by the tokenizer and are free of control characters.
    pub(super) fn note(&mut self, name: &[u8], value: &[u8]) -> Result<(), ParseError> {
        let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
        // The length alone tells most fields apart.
        match name.len() {
            4 if is("host") => {
                if self.host {
                    return Err(ParseError::HostRepeated);
                }
                if !is_host(value) {
                    return Err(ParseError::HostInvalid);
                }
                self.host = true;
            }
            6 if is("cookie") => self.secret = true,
            6 if is("expect") => {
                for expectation in list(value) {
                    match expectation.eq_ignore_ascii_case(b"100-continue") {
                        true => self.expect_continue = true,
                        false => self.expect_other = true,
                    }
                }
            }
            10 if is("connection") => {
                for option in list(value) {
                    self.close |= option.eq_ignore_ascii_case(b"close");
                    self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                }
            }
            13 if is("authorization") => self.secret = true,
            14 if is("content-length") => {
                let length = parse_length(value).ok_or(ParseError::ContentLength)?;
                // One that repeats what an earlier one said is none too many (RFC 9112, 6.3).
                if self.content_length.replace(length).is_some_and(|earlier| earlier != length) {
                    return Err(ParseError::ContentLength);
                }
            }
            17 if is("transfer-encoding") => {
                self.transfer_encoding.get_or_insert_default().add_line(value)?;
            }
            19 if is("proxy-authorization") => self.secret = true,
            LONGEST_NAME.. => return Err(ParseError::FieldName),
            _ => {}
        }
        Ok(())
    }
}

/// Whether the value of the field of this name, in lower case, is not for a log.
pub(super) fn is_secret(name: &[u8]) -> bool {
    matches!(name, b"cookie" | b"authorization" | b"proxy-authorization")
}

/// Walks the field lines of a head that was already parsed, and so is known to be well-formed.
#[derive(Debug, Clone)]
pub(crate) struct Lines<'a> {
    rest: &'a [u8],
}

impl<'a> Lines<'a> {
    /// `head` reaches from the request line to the empty line.
    pub(crate) fn new(head: &'a [u8]) -> Lines<'a> {
        let mut lines = Lines { rest: head };
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

impl<'a> Iterator for Lines<'a> {
    type Item = (&'a str, &'a [u8]);

    fn next(&mut self) -> Option<(&'a str, &'a [u8])> {
        let line = self.line()?;
        let colon = memchr::memchr(b':', line)?;
        let name = std::str::from_utf8(&line[..colon]).ok()?;
        Some((name, trim(&line[colon + 1..])))
    }
}

/// One or more digits, no sign, no list, no overflow (RFC 9110, 8.6).
pub(super) fn parse_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0u64, |length, byte| match byte {
        b'0'..=b'9' => length.checked_mul(10)?.checked_add(u64::from(byte - b'0')),
        _ => None,
    })
}

/// The elements of a comma-separated list without the white space around them; empty ones are skipped (RFC 9110, 5.6.1).
pub(crate) fn list(value: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    value.split(|b| *b == b',').map(trim).filter(|element| !element.is_empty())
}

/// Takes off optional white space: spaces and tabs, nothing else (RFC 9110, 5.6.3).
pub(super) fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_keep_order_case_and_repeats_and_have_trimmed_values() {
        let head = b"GET / HTTP/1.1\r\nHost: a\r\nX-A:  1 \t\r\nx-a:\r\nX-A: 2:3\r\n\r\n";
        let lines: Vec<_> = Lines::new(head).collect();
        assert_eq!(lines, [("Host", &b"a"[..]), ("X-A", b"1"), ("x-a", b""), ("X-A", b"2:3")]);
    }

    #[test]
    fn lengths() {
        assert_eq!(parse_length(b"0"), Some(0));
        assert_eq!(parse_length(b"007"), Some(7));
        assert_eq!(parse_length(b"18446744073709551615"), Some(u64::MAX));
        for bad in ["", "+1", "-1", "1 ", " 1", "1,1", "0x1", "1.0", "18446744073709551616", "１"] {
            assert_eq!(parse_length(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn lists_skip_empty_elements_and_trim_spaces_and_tabs_only() {
        let all: Vec<_> = list(b" a ,,\tb\t, \x0bc").collect();
        assert_eq!(all, [&b"a"[..], b"b", b"\x0bc"]);
    }
}
