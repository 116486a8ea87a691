//! Where a head begins and ends, found without looking at any byte twice.

use std::ops::Range;

use memchr::memchr;

use super::limits::HARD_HEAD;
use super::{Limits, ParseError, RequestLine, target};

/// Finds one request head in a growing buffer.
///
/// It remembers how far it has looked, so a head that comes byte by byte costs no more than one that comes whole, and it
/// meets errors in the order of the bytes, so the outcome never depends on how the input was cut. The request line is
/// judged as soon as it is there (an HTTP/0.9 client sends nothing after it).
#[derive(Debug, Clone, Default)]
pub(super) struct Scanner {
    /// Bytes looked at.
    pos: usize,
    /// Where the line under way starts.
    line: usize,
    /// Where the request line starts: behind an empty line, if one came first.
    start: usize,
    /// Whether the request line was read.
    request: bool,
    fields: usize,
}

impl Scanner {
    /// Looks at the new bytes of `buffer`, which must begin with all those shown before. `None`: more input is needed; else
    /// where the head is, from the method to the empty line inclusive.
    ///
    /// # Errors
    /// Whatever can be said of a head without its fields' meaning; the connection can't be used for reading any more.
    pub(super) fn scan(
        &mut self,
        buffer: &[u8],
        limits: &Limits,
    ) -> Result<Option<Range<usize>>, ParseError> {
        if self.line == 0 && !self.find_start(buffer)? {
            return Ok(None);
        }
        while let Some(at) = memchr(b'\n', &buffer[self.pos..]) {
            let lf = self.pos + at;
            // A line is at least one byte before its LF, or the LF stands alone.
            if lf == self.line || buffer[lf - 1] != b'\r' {
                self.limit(lf - self.line, limits)?;
                return Err(ParseError::BareLf);
            }
            let line = &buffer[self.line..lf - 1];
            self.limit(line.len(), limits)?;
            if !self.request {
                RequestLine::read(line)?;
                self.request = true;
            } else if line.is_empty() {
                let extent = self.start..lf + 1;
                *self = Scanner::default();
                return Ok(Some(extent));
            } else if matches!(line[0], b' ' | b'\t') {
                return Err(ParseError::ObsFold);
            } else {
                self.fields += 1;
                if self.fields > limits.fields() {
                    return Err(ParseError::TooManyFields);
                }
            }
            self.line = lf + 1;
            self.pos = lf + 1;
        }
        self.pos = buffer.len();
        // The last byte may be the CR of the line's end, which does not count.
        self.limit((self.pos - self.line).saturating_sub(1), limits)?;
        Ok(None)
    }

    /// Whether any byte of a head was seen.
    pub(super) fn is_started(&self) -> bool {
        self.pos > 0
    }

    /// Skips one empty line and judges the first byte, so that what is no HTTP at all is refused at once.
    fn find_start(&mut self, buffer: &[u8]) -> Result<bool, ParseError> {
        let start = match buffer {
            [] => return Ok(false),
            [b'\r'] => {
                self.pos = 1;
                return Ok(false);
            }
            [b'\r', b'\n'] => {
                self.pos = 2;
                return Ok(false);
            }
            [b'\r', b'\n', ..] => 2,
            [b'\n', ..] => return Err(ParseError::BareLf),
            _ => 0,
        };
        match buffer[start] {
            0x16 => Err(ParseError::Tls),
            byte if target::is_token_byte(byte) => {
                self.start = start;
                self.line = start;
                self.pos = self.pos.max(start);
                Ok(true)
            }
            _ => Err(ParseError::NotARequest),
        }
    }

    /// `length` bytes of the line under way are there, not counting its CRLF.
    fn limit(&self, length: usize, limits: &Limits) -> Result<(), ParseError> {
        if !self.request {
            if length > limits.line() {
                return Err(ParseError::RequestLineTooLong);
            }
        } else if length + 2 > limits.field_size() || self.line - self.start + length > HARD_HEAD {
            return Err(ParseError::FieldTooLarge);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_found_and_the_rest_left_alone() {
        let bytes = b"\r\nGET /a HTTP/1.0\r\nA: b\r\n\r\nGET";
        let extent = Scanner::default().scan(bytes, &Limits::default()).unwrap().unwrap();
        assert_eq!(extent, 2..27);
    }

    #[test]
    fn what_is_no_http_is_refused_at_its_first_byte() {
        let scan = |bytes: &[u8]| Scanner::default().scan(bytes, &Limits::default());
        assert_eq!(scan(b"\x16"), Err(ParseError::Tls));
        assert_eq!(scan(b"\x00"), Err(ParseError::NotARequest));
        assert_eq!(scan(b"\n"), Err(ParseError::BareLf));
        assert_eq!(scan(b"\r\n\r"), Err(ParseError::NotARequest));
        assert_eq!(scan(b"\r\n"), Ok(None));
    }

    #[test]
    fn limits_hold_before_the_line_is_complete() {
        let limits = Limits { request_line: 20, request_field_size: 12, ..Limits::default() };
        let line = b"GET /12345 HTTP/1.1\r\n";
        assert!(Scanner::default().scan(line, &limits).unwrap().is_none());
        assert_eq!(Scanner::default().scan(&[b'A'; 22], &limits), Err(ParseError::RequestLineTooLong));
        let mut scanner = Scanner::default();
        let long = [&line[..], b"ab: 4567890\r"].concat();
        assert_eq!(scanner.scan(&long[..long.len() - 1], &limits), Ok(None));
        assert_eq!(scanner.scan(&long, &limits), Err(ParseError::FieldTooLarge));
    }
}
