//! The request line (RFC 9112, 3).

use ::http::Method;

use super::{ParseError, target};

/// The parts of a request line, counted from its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestLine {
    /// The method ends here; the target starts one further.
    pub method_end: u32,
    /// The target's first `?` is here, or its end if there is none.
    pub path_end: u32,
    /// The target ends here.
    pub target_end: u32,
    /// The line ends here, before CRLF.
    pub end: u32,
    /// Whether the version is 1.0; otherwise it is 1.1 or a later 1.x, which is treated as 1.1.
    pub old: bool,
}

const GET: &[u8] = b"GET ";
const LONGEST: usize = 1 << 17;
const VERSION: &[u8; 8] = b"HTTP/1.1";

impl RequestLine {
    /// The line at the beginning of `bytes`, if all of it is as it must be. What follows it is not looked at.
    #[inline(always)]
    pub(super) fn at_start(bytes: &[u8]) -> Option<RequestLine> {
        // No line may be as long, and what follows needs no counting.
        let bytes = bytes.get(..LONGEST).unwrap_or(bytes);
        let is_get = bytes.starts_with(GET);
        let method_end = if is_get { GET.len() - 1 } else { method_end(bytes)? };
        let (path_end, target_end) = target::extent(bytes, method_end + 1);
        let (space, version) = bytes[target_end..].split_first()?;
        let old = match version.first_chunk()? {
            VERSION => false,
            [b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor] if minor.is_ascii_digit() => *minor == b'0',
            _ => return None,
        };
        // The usual form, before all others are gone through.
        let fits = match &bytes[method_end + 1..target_end] {
            [b'/', ..] if is_get || &bytes[..method_end] != b"CONNECT" => true,
            target => target::check(&bytes[..method_end], target).is_ok(),
        };
        (*space == b' ' && fits).then_some(RequestLine {
            method_end: method_end as u32,
            path_end: path_end as u32,
            target_end: target_end as u32,
            end: (target_end + 1 + VERSION.len()) as u32,
            old,
        })
    }

    /// The method of the request in `bytes`, which begin with this line.
    #[inline]
    pub(super) fn method(&self, bytes: &[u8]) -> Result<Method, ParseError> {
        match bytes.starts_with(GET) {
            true => Ok(Method::GET),
            false => Method::from_bytes(&bytes[..self.method_end as usize]).map_err(|_| ParseError::Method),
        }
    }

    /// Reads a whole line, without its CRLF.
    #[inline(never)]
    pub(super) fn read(line: &[u8]) -> Result<RequestLine, ParseError> {
        match Self::at_start(line) {
            Some(found) if found.end as usize == line.len() => Ok(found),
            _ => Err(fault(line)),
        }
    }
}

fn method_end(bytes: &[u8]) -> Option<usize> {
    let end = bytes.iter().position(|b| !target::is_token_byte(*b))?;
    (end > 0 && bytes[end] == b' ').then_some(end)
}

/// What is wrong with a line that is not as it must be: the first fault from the left, but bytes of the target last.
#[cold]
fn fault(line: &[u8]) -> ParseError {
    if !line.iter().any(|b| !target::is_token_byte(*b)) {
        return ParseError::RequestLine;
    }
    let Some(method_end) = method_end(line) else { return ParseError::Method };
    let rest = &line[method_end + 1..];
    let Some(target_len) = rest.iter().position(|b| *b == b' ') else { return ParseError::RequestLine };
    match &rest[target_len + 1..] {
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            if *major != b'1' {
                return ParseError::VersionNotSupported;
            }
        }
        _ => return ParseError::Version,
    }
    target::check(&line[..method_end], &rest[..target_len]).err().unwrap_or(ParseError::RequestLine)
}
