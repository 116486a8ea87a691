//! A request head understood.

use std::ops::Range;

use ::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version, header};
use bytes::Bytes;
use httparse::{EMPTY_HEADER, Status};

use super::fields::{Facts, Lines, Terms, is_secret};
use super::framing::RequestBody;
use super::limits::HARD_HEAD;
use super::{KnownFields, Limits, ParseError, RequestLine, Scanner};

/// A request head, without its bytes: those stay with the caller.
#[derive(Debug, Clone)]
pub struct Head {
    /// The method, any token.
    pub method: Method,
    /// 1.0 or 1.1.
    pub version: Version,
    /// How the body is delimited.
    pub body: RequestBody,
    /// Whether the client lets the connection live on (RFC 9112, 9.3).
    pub keep_alive: bool,
    /// Whether the client waits for `100 Continue` before it sends the body (RFC 9110, 10.1.1).
    pub expect_continue: bool,
    /// Where the request line's parts are.
    pub line: RequestLine,
}

impl Head {
    /// Where the request target is in the head's bytes. It has one of the four forms (RFC 9112, 3.2) and is ASCII.
    pub fn target(&self) -> Range<usize> {
        self.line.method_end as usize + 1..self.line.target_end as usize
    }

    /// The target, as a slice of `bytes`, which are those the head was read from.
    pub fn uri(&self, bytes: &Bytes) -> Uri {
        // Reading the head has made sure that it is one.
        Uri::from_maybe_shared(bytes.slice(self.target())).unwrap_or_default()
    }

    /// Adds the fields to `map`, their values as slices of `bytes`, which are those the head was read from: fields of equal
    /// names in order of arrival, `Content-Length` once, and marked as sensitive what is secret.
    pub fn headers(&self, bytes: &Bytes, map: &mut HeaderMap) {
        for (name, value) in Lines::new(bytes) {
            // None of this fails with what was read: the names are tokens of at most 64 KiB, the values are free of control
            // characters, and there are less of them than a map can take.
            let Some(name) = field_name(name.as_bytes()) else { continue };
            let Ok(mut value) = HeaderValue::from_maybe_shared(bytes.slice_ref(value)) else { continue };
            value.set_sensitive(is_secret(name.as_str().as_bytes()));
            if name != header::CONTENT_LENGTH || !map.contains_key(&name) {
                let _ = map.try_append(name, value);
            }
        }
    }
}

/// Reads one request head after another.
///
/// A head that is there as a whole and has no fault is read in one pass. Whatever else comes is left to a `Scanner`, which
/// remembers what it has seen of it and meets faults in the order of the bytes: so neither what a head costs nor what comes
/// of it depends on how the input was cut.
#[derive(Debug, Clone, Default)]
pub struct HeadReader {
    scanner: Scanner,
}

/// A head that was found.
#[derive(Debug)]
pub struct Found {
    /// Where it is in the buffer, from the method to the empty line inclusive.
    pub extent: Range<usize>,
    /// The head, or the first rule that is broken, in the order: fields as they come, framing, `Host`, `Expect`.
    pub head: Result<Head, ParseError>,
}

impl HeadReader {
    /// Looks for a head in `buffer`, which begins after the last one that was found (and its body). `None`: more input is
    /// needed; the next call must show the same bytes and those that came since.
    ///
    /// # Errors
    /// No head can be made out; the connection can't be used for reading any more.
    pub fn read(
        &mut self,
        buffer: &[u8],
        limits: &Limits,
        known: &mut KnownFields,
    ) -> Result<Option<Found>, ParseError> {
        match self.read_whole(buffer, limits, known) {
            Some((head, end)) => Ok(Some(Found { extent: 0..end, head: Ok(head) })),
            None => self.read_slowly(buffer, limits, known),
        }
    }

    /// The first half of `read`: the head that `buffer` begins with and its length, if it is there as a whole and without a
    /// fault.
    #[inline(always)]
    pub(crate) fn read_whole(
        &self,
        buffer: &[u8],
        limits: &Limits,
        known: &mut KnownFields,
    ) -> Option<(Head, usize)> {
        if self.is_started() { None } else { read_head(buffer, limits, known).ok() }
    }

    /// Whether any byte of a head was seen that is not complete yet.
    pub fn is_started(&self) -> bool {
        self.scanner.is_started()
    }

    /// The other half of `read`: whatever is not that.
    #[cold]
    #[inline(never)]
    pub(crate) fn read_slowly(
        &mut self,
        buffer: &[u8],
        limits: &Limits,
        known: &mut KnownFields,
    ) -> Result<Option<Found>, ParseError> {
        let Some(extent) = self.scanner.scan(buffer, limits)? else { return Ok(None) };
        let head = read_head(&buffer[extent.clone()], limits, known).map(|(head, _)| head);
        Ok(Some(Found { extent, head }))
    }
}

/// Reads the head that `bytes` begin with, and which is there as a whole; gives its length, too.
///
/// # Errors
/// It has a fault or is not all there. Which fault is told right only of a head that the `Scanner` let pass.
#[inline(always)]
fn read_head(bytes: &[u8], limits: &Limits, known: &mut KnownFields) -> Result<(Head, usize), ParseError> {
    let line = RequestLine::at_start(bytes).ok_or(ParseError::RequestLine)?;
    let line_end = line.end as usize;
    if line_end > limits.line() {
        return Err(ParseError::RequestLineTooLong);
    }
    let fields = bytes[line_end..].strip_prefix(b"\r\n").ok_or(ParseError::BareLf)?;
    let (length, terms) = match known.find(fields, limits) {
        Some((length, terms)) if !line.old => (length, *terms),
        _ => read_fields(fields, line.old, limits, known)?,
    };
    let end = line_end + 2 + length;
    if end - 2 > HARD_HEAD {
        return Err(ParseError::FieldTooLarge);
    }
    let head = Head {
        method: line.method(bytes)?,
        version: if line.old { Version::HTTP_10 } else { Version::HTTP_11 },
        body: terms.body,
        keep_alive: terms.keep_alive,
        expect_continue: terms.expect_continue,
        line,
    };
    Ok((head, end))
}

/// Reads the field lines and the empty line that `bytes` begin with; gives their length and what they come to.
#[inline(never)]
fn read_fields(
    bytes: &[u8],
    old: bool,
    limits: &Limits,
    known: &mut KnownFields,
) -> Result<(usize, Terms), ParseError> {
    // No more at a time, or the stack of each connection takes a second page here.
    const FEW: usize = 8;
    let (mut at, mut facts) = (0, Facts::NONE);
    loop {
        let mut few = [EMPTY_HEADER; FEW];
        let (fields, is_end) = match httparse::parse_headers(&bytes[at..], &mut few) {
            Ok(Status::Complete((_, fields))) => (fields, true),
            // Those that there was room for have been found.
            Err(httparse::Error::TooManyHeaders) => (&few[..], false),
            Ok(Status::Partial) => return Err(ParseError::Incomplete),
            Err(httparse::Error::HeaderName) => return Err(ParseError::FieldName),
            Err(_) => return Err(ParseError::FieldValue),
        };
        for field in fields {
            facts.note(field.name.as_bytes(), field.value)?;
            // White space behind a value is the tokenizer's to skip, but not how the line ends.
            let end = place(bytes, field.value) + field.value.len();
            let next = end + value_end(&bytes[end..]).ok_or(ParseError::BareLf)?;
            facts.longest = facts.longest.max(next - at);
            at = next;
        }
        facts.count += fields.len();
        if !limits.fields_allow(facts.count, facts.longest) {
            return Err(ParseError::TooManyFields);
        }
        if is_end {
            if !bytes[at..].starts_with(b"\r\n") {
                return Err(ParseError::BareLf);
            }
            let terms = facts.terms(old, limits)?;
            if !old {
                known.remember(&bytes[..at + 2], &facts, terms);
            }
            return Ok((at + 2, terms));
        }
    }
}

/// Where `part` of `bytes` begins in them.
fn place(bytes: &[u8], part: &[u8]) -> usize {
    part.as_ptr().addr() - bytes.as_ptr().addr()
}

/// The length of what may stand behind a value, and its CRLF.
#[inline]
fn value_end(rest: &[u8]) -> Option<usize> {
    if rest.starts_with(b"\r\n") {
        return Some(2);
    }
    let spaces = rest.iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
    rest[spaces..].starts_with(b"\r\n").then_some(spaces + 2)
}

/// The name as a map has it. Those that most requests have are known as they are mostly spelled.
fn field_name(name: &[u8]) -> Option<HeaderName> {
    Some(match name {
        b"Host" | b"host" => header::HOST,
        b"Accept" | b"accept" => header::ACCEPT,
        b"Cookie" | b"cookie" => header::COOKIE,
        b"Origin" | b"origin" => header::ORIGIN,
        b"Referer" | b"referer" => header::REFERER,
        b"Connection" | b"connection" => header::CONNECTION,
        b"User-Agent" | b"user-agent" => header::USER_AGENT,
        b"Content-Type" | b"content-type" => header::CONTENT_TYPE,
        b"Cache-Control" | b"cache-control" => header::CACHE_CONTROL,
        b"Authorization" | b"authorization" => header::AUTHORIZATION,
        b"Content-Length" | b"content-length" => header::CONTENT_LENGTH,
        b"Accept-Encoding" | b"accept-encoding" => header::ACCEPT_ENCODING,
        b"Accept-Language" | b"accept-language" => header::ACCEPT_LANGUAGE,
        _ => return HeaderName::from_bytes(name).ok(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_fields_keep_their_order_and_secrets_are_masked() {
        let mut text =
            String::from("GET / HTTP/1.1\r\nHost: a\r\nCookie: secret\r\nAuthorization: secret\r\n");
        (0..90).for_each(|n| text.push_str(&format!("X-Many: {n}\r\n")));
        text.push_str("\r\n");
        let limits = Limits::default();
        let mut known = KnownFields::default();
        let found = HeadReader::default().read(text.as_bytes(), &limits, &mut known).unwrap().unwrap();
        let head = found.head.unwrap();
        let mut headers = HeaderMap::new();
        head.headers(&Bytes::from(text), &mut headers);
        let many: Vec<_> = headers.get_all("x-many").iter().map(|v| v.to_str().unwrap().to_owned()).collect();
        assert_eq!(many, (0..90).map(|n| n.to_string()).collect::<Vec<_>>());
        assert!(!format!("{headers:?}").contains("secret"));
    }

    #[test]
    fn fields_that_are_known_are_judged_as_before() {
        let text = b"GET /1 HTTP/1.1\r\nHost: a\r\nX: yz\r\n\r\n".as_slice();
        let old = b"PUT /2 HTTP/1.0\r\nHost: a\r\nX: yz\r\n\r\n".as_slice();
        let mut known = KnownFields::default();
        let mut read = |text: &[u8], limits: &Limits| {
            HeadReader::default().read(text, limits, &mut known).map(|found| found.map(|found| found.head))
        };
        let any = Limits::default();
        assert!(read(text, &any).unwrap().unwrap().unwrap().keep_alive);
        assert!(!read(old, &any).unwrap().unwrap().unwrap().keep_alive);
        for end in 1..text.len() {
            assert!(read(&text[..end], &any).unwrap().is_none(), "{end}");
        }
        // Another server of this thread may be stricter.
        let few = Limits { request_fields: 1, ..Limits::default() };
        assert_eq!(read(text, &few).unwrap_err(), ParseError::TooManyFields);
        let short = Limits { request_field_size: 8, ..Limits::default() };
        assert_eq!(read(text, &short).unwrap_err(), ParseError::FieldTooLarge);
        let post = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n";
        assert_eq!(read(post, &any).unwrap().unwrap().unwrap().body, RequestBody::Length(9));
        let small = Limits { request_body: 8, ..Limits::default() };
        assert_eq!(read(post, &small).unwrap().unwrap().unwrap_err(), ParseError::BodyTooLarge);
    }
}
