//! How a message's body is delimited: the only place where that is decided, for requests ([`request_body`]) and for
//! responses ([`response_body`]).

use ::http::{Method, StatusCode, Version};

use super::fields::trim;
use super::target::is_token_byte;
use super::{Limits, ParseError};

/// How a request's body is delimited (RFC 9112, 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestBody {
    /// Exactly so many bytes; 0 if nothing was said.
    Length(u64),
    /// The chunked coding.
    Chunked,
}

/// How a response's body is delimited (RFC 9112, 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResponseBody {
    /// There is none, and no length is stated (1xx, 204, 205; 304 and HEAD of unknown length).
    Absent,
    /// There is none, but the length that it would have is stated (HEAD, 304).
    AbsentOf(u64),
    /// Exactly so many bytes.
    Length(u64),
    /// The chunked coding.
    Chunked,
    /// Up to the end of the connection: what HTTP/1.0 has for a body of unknown length.
    UntilClose,
}

/// Decides how a request's body is delimited, from all its `Content-Length` and `Transfer-Encoding` lines.
///
/// # Errors
/// Whatever could be read in two ways is refused.
pub fn request_body(
    version: Version,
    content_length: Option<u64>,
    transfer_encoding: Option<TransferEncoding>,
    limits: &Limits,
) -> Result<RequestBody, ParseError> {
    match (transfer_encoding, content_length) {
        (Some(_), _) if version == Version::HTTP_10 => Err(ParseError::TransferEncodingInOld),
        (Some(_), Some(_)) => Err(ParseError::TransferEncodingWithLength),
        (Some(encoding), None) => encoding.finish().map(|()| RequestBody::Chunked),
        (None, Some(length)) if !limits.body_allows(length) => Err(ParseError::BodyTooLarge),
        (None, length) => Ok(RequestBody::Length(length.unwrap_or(0))),
    }
}

/// Decides how a response's body is delimited and whether the connection can live on after it.
///
/// `length` is the body's, if known; for HEAD and 304, that of the body which GET would have got.
pub fn response_body(
    method: &Method,
    version: Version,
    status: StatusCode,
    length: Option<u64>,
    keep_alive: bool,
) -> (ResponseBody, bool) {
    if status == StatusCode::RESET_CONTENT {
        // No content is allowed (RFC 9110, 15.3.6), yet unlike 204 nothing but a length or the end of the connection tells
        // a client so; the end is the one that every client understands.
        return (ResponseBody::Absent, false);
    }
    if method == Method::CONNECT && status.is_success() {
        // To the client this connection is a tunnel now (RFC 9110, 9.3.6), and there is nothing at its other end.
        return (ResponseBody::Absent, false);
    }
    if status.is_informational() || status == StatusCode::NO_CONTENT {
        return (ResponseBody::Absent, keep_alive);
    }
    if method == Method::HEAD || status == StatusCode::NOT_MODIFIED {
        return (length.map_or(ResponseBody::Absent, ResponseBody::AbsentOf), keep_alive);
    }
    match length {
        Some(length) => (ResponseBody::Length(length), keep_alive),
        None if version == Version::HTTP_10 => (ResponseBody::UntilClose, false),
        None => (ResponseBody::Chunked, keep_alive),
    }
}

/// `Transfer-Encoding`, which is one list over all its lines (RFC 9112, 6.1; RFC 9110, 5.3).
#[derive(Debug, Clone, Copy, Default)]
pub struct TransferEncoding {
    chunked: bool,
    /// Something came after `chunked`: another coding or `chunked` again.
    after_chunked: bool,
    /// A coding that is registered, but not implemented here.
    other: bool,
    /// A coding that is not even registered.
    unknown: bool,
}

impl TransferEncoding {
    /// Takes in one field line.
    ///
    /// # Errors
    /// An empty element, or one that is not a plain token (parameters, quotes, odd white space).
    pub fn add_line(&mut self, value: &[u8]) -> Result<(), ParseError> {
        for coding in value.split(|b| *b == b',').map(trim) {
            if coding.is_empty() || !coding.iter().all(|b| is_token_byte(*b)) {
                return Err(ParseError::TransferEncoding);
            }
            let is = |name: &str| coding.eq_ignore_ascii_case(name.as_bytes());
            self.after_chunked |= self.chunked;
            if is("chunked") {
                self.chunked = true;
            } else if ["gzip", "x-gzip", "deflate", "compress", "x-compress", "identity"].into_iter().any(is)
            {
                self.other = true;
            } else {
                self.unknown = true;
            }
        }
        Ok(())
    }

    /// The verdict when all lines were taken in.
    fn finish(self) -> Result<(), ParseError> {
        if self.after_chunked {
            Err(ParseError::TransferEncoding)
        } else if self.unknown || (self.other && self.chunked) {
            Err(ParseError::TransferCodingUnknown)
        } else if !self.chunked {
            Err(ParseError::TransferEncoding)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transfer(lines: &[&str]) -> Result<RequestBody, ParseError> {
        let mut encoding = TransferEncoding::default();
        for line in lines {
            encoding.add_line(line.as_bytes())?;
        }
        request_body(Version::HTTP_11, None, Some(encoding), &Limits::default())
    }

    #[test]
    fn transfer_encoding_is_one_list_with_chunked_once_and_last() {
        for good in [&["chunked"][..], &["Chunked"], &[" chunked\t"]] {
            assert_eq!(transfer(good), Ok(RequestBody::Chunked), "{good:?}");
        }
        for bad in [
            &[""][..],
            &["chunked, chunked"],
            &["chunked", "chunked"],
            &["chunked, gzip"],
            &["chunked", "x-new"],
            &["gzip"],
            &["identity"],
            &[",chunked"],
            &["chunked,"],
            &["chunked;q=1"],
            &["\"chunked\""],
            &["\u{b}chunked"],
            &["\u{a0}chunked"],
            &["chun ked"],
        ] {
            assert_eq!(transfer(bad), Err(ParseError::TransferEncoding), "{bad:?}");
        }
        for unknown in [&["x-new"][..], &["x-new, chunked"], &["gzip", "chunked"], &["xchunked"]] {
            assert_eq!(transfer(unknown), Err(ParseError::TransferCodingUnknown), "{unknown:?}");
        }
    }

    #[test]
    fn two_ways_to_read_a_length_are_none() {
        let chunked = {
            let mut encoding = TransferEncoding::default();
            encoding.add_line(b"chunked").unwrap();
            Some(encoding)
        };
        let limits = Limits { request_body: 10, ..Limits::default() };
        let of = |version, length, encoding| request_body(version, length, encoding, &limits);
        assert_eq!(of(Version::HTTP_11, Some(3), chunked), Err(ParseError::TransferEncodingWithLength));
        assert_eq!(of(Version::HTTP_10, None, chunked), Err(ParseError::TransferEncodingInOld));
        assert_eq!(of(Version::HTTP_11, None, None), Ok(RequestBody::Length(0)));
        assert_eq!(of(Version::HTTP_11, Some(10), None), Ok(RequestBody::Length(10)));
        assert_eq!(of(Version::HTTP_11, Some(11), None), Err(ParseError::BodyTooLarge));
    }

    #[test]
    fn responses() {
        use ResponseBody::*;
        let rows = [
            // method, 1.0, status, length -> body, lives on
            ("GET", false, 200, Some(5), Length(5), true),
            ("GET", false, 200, None, Chunked, true),
            ("GET", true, 200, Some(5), Length(5), true),
            ("GET", true, 200, None, UntilClose, false),
            ("HEAD", false, 200, Some(5), AbsentOf(5), true),
            ("HEAD", false, 200, None, Absent, true),
            ("HEAD", true, 200, None, Absent, true),
            ("GET", false, 204, Some(5), Absent, true),
            ("HEAD", false, 204, Some(5), Absent, true),
            ("GET", false, 304, Some(5), AbsentOf(5), true),
            ("GET", false, 304, None, Absent, true),
            ("GET", false, 205, Some(0), Absent, false),
            ("GET", false, 404, Some(0), Length(0), true),
            ("CONNECT", false, 200, Some(2), Absent, false),
            ("CONNECT", false, 405, Some(2), Length(2), true),
        ];
        for (method, old, status, length, body, alive) in rows {
            let version = if old { Version::HTTP_10 } else { Version::HTTP_11 };
            let method = method.parse().unwrap();
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(
                response_body(&method, version, status, length, true),
                (body, alive),
                "{method} {status} {length:?}"
            );
            assert!(!response_body(&method, version, status, length, false).1);
        }
    }
}
