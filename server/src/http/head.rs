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

    /// What came of a stream of bytes: each request as `METHOD target body-framing alive`, then the error, if any.
    type Outcome = (Vec<String>, Option<ParseError>);

    /// Reads the heads in `input`, shown up to each of `cuts` in turn. (Bodies are left out of these inputs.)
    fn read(input: &[u8], cuts: impl IntoIterator<Item = usize>) -> Outcome {
        let limits = Limits {
            request_line: 61,
            request_fields: 6,
            request_field_size: 60,
            request_body: 1000,
            ..Limits::default()
        };
        let (mut reader, mut known) = (HeadReader::default(), KnownFields::default());
        let (mut at, mut requests) = (0, Vec::new());
        for cut in cuts.into_iter().chain([input.len()]) {
            loop {
                let shown = &input[at..cut.max(at)];
                match reader.read(shown, &limits, &mut known) {
                    Ok(None) => break,
                    Err(error) => return (requests, Some(error)),
                    Ok(Some(found)) => {
                        let bytes = Bytes::copy_from_slice(&shown[found.extent.clone()]);
                        at += found.extent.end;
                        match found.head {
                            Ok(head) => requests.push(describe(&head, &bytes)),
                            Err(error) => return (requests, Some(error)),
                        }
                    }
                }
            }
        }
        (requests, None)
    }

    /// The same whole, byte by byte, and cut in two at every position: all must agree.
    fn every_way(name: &str, input: &[u8]) -> Outcome {
        let whole = read(input, []);
        assert_eq!(read(input, 1..input.len()), whole, "{name}, byte by byte");
        for cut in 1..input.len() {
            assert_eq!(read(input, [cut]), whole, "{name}, cut at {cut}");
        }
        whole
    }

    fn describe(head: &Head, bytes: &Bytes) -> String {
        let alive = if head.keep_alive { "alive" } else { "close" };
        let waits = if head.expect_continue { " waits" } else { "" };
        format!("{} {} {:?} {:?} {alive}{waits}", head.method, head.uri(bytes), head.version, head.body)
    }

    #[test]
    fn requests_that_are_well_formed() {
        let rows: [(&str, &str, &str); 27] = [
            ("RFC 9112 3: plain", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.1 Length(0) alive"),
            (
                "9112 2.2: one empty line first",
                "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
                "GET / HTTP/1.1 Length(0) alive",
            ),
            (
                "9110 9.1: any token is a method",
                "g!#T /x HTTP/1.1\r\nHost: a\r\n\r\n",
                "g!#T /x HTTP/1.1 Length(0) alive",
            ),
            (
                "9110 2.5: 1.x above is 1.1",
                "GET / HTTP/1.9\r\nHost: a\r\n\r\n",
                "GET / HTTP/1.1 Length(0) alive",
            ),
            ("9112 3.2: 1.0 needs no Host", "GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.0 Length(0) close"),
            (
                "9112 9.3: 1.0 may ask to live on",
                "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n",
                "GET / HTTP/1.0 Length(0) alive",
            ),
            (
                "9112 9.3: close wins in 1.0",
                "GET / HTTP/1.0\r\nConnection: close, keep-alive\r\n\r\n",
                "GET / HTTP/1.0 Length(0) close",
            ),
            (
                "9112 9.6: close",
                "GET / HTTP/1.1\r\nHost: a\r\nconnection: CLOSE\r\n\r\n",
                "GET / HTTP/1.1 Length(0) close",
            ),
            (
                "9110 7.6.1: a list",
                "GET / HTTP/1.1\r\nHost: a\r\nConnection: x ,Close\r\n\r\n",
                "GET / HTTP/1.1 Length(0) close",
            ),
            (
                "9110 7.6.1: over lines",
                "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\nConnection: close\r\n\r\n",
                "GET / HTTP/1.1 Length(0) close",
            ),
            (
                "9112 3.2.2: absolute",
                "GET http://b:8/c?d HTTP/1.1\r\nHost: a\r\n\r\n",
                "GET http://b:8/c?d HTTP/1.1 Length(0) alive",
            ),
            (
                "9112 3.2.3: authority",
                "CONNECT b:443 HTTP/1.1\r\nHost: b\r\n\r\n",
                "CONNECT b:443 HTTP/1.1 Length(0) alive",
            ),
            (
                "9112 3.2.4: asterisk",
                "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
                "OPTIONS * HTTP/1.1 Length(0) alive",
            ),
            (
                "9112 5.1: no space after the colon",
                "GET / HTTP/1.1\r\nHost:a\r\n\r\n",
                "GET / HTTP/1.1 Length(0) alive",
            ),
            (
                "9112 5.1: space around the value",
                "GET / HTTP/1.1\r\nHost:\t a \t\r\n\r\n",
                "GET / HTTP/1.1 Length(0) alive",
            ),
            (
                "9110 5.5: tab and obs-text",
                "GET / HTTP/1.1\r\nHost: a\r\nX: a\tb\u{e9}\r\n\r\n",
                "GET / HTTP/1.1 Length(0) alive",
            ),
            (
                "9110 5.5: empty value",
                "GET / HTTP/1.1\r\nHost: a\r\nX:\r\n\r\n",
                "GET / HTTP/1.1 Length(0) alive",
            ),
            (
                "9110 7.2: IPv6",
                "GET / HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n",
                "GET / HTTP/1.1 Length(0) alive",
            ),
            (
                "9112 6.2: length",
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n\r\n",
                "POST / HTTP/1.1 Length(12) alive",
            ),
            (
                "9112 6.3: equal lengths are one",
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\ncontent-length: 12\r\n\r\n",
                "POST / HTTP/1.1 Length(12) alive",
            ),
            (
                "9112 7: chunked",
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n",
                "POST / HTTP/1.1 Chunked alive",
            ),
            (
                "9110 10.1.1: expectation",
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nExpect: 100-Continue\r\n\r\n",
                "POST / HTTP/1.1 Length(1) alive waits",
            ),
            (
                "9110 10.1.1: nothing to wait for",
                "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n",
                "POST / HTTP/1.1 Length(0) alive",
            ),
            (
                "9110 10.1.1: not in 1.0",
                "POST / HTTP/1.0\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n",
                "POST / HTTP/1.0 Length(1) close",
            ),
            (
                "9112 3: a line of the allowed length",
                "GET /5678901234567890123456789012345678901234567890a HTTP/1.1\r\nHost: a\r\n\r\n",
                "GET /5678901234567890123456789012345678901234567890a HTTP/1.1 Length(0) alive",
            ),
            (
                "9110 5.4: the allowed number of fields",
                "GET / HTTP/1.1\r\nHost: a\r\nb: 2\r\nc: 3\r\nd: 4\r\ne: 5\r\nf: 6\r\n\r\n",
                "GET / HTTP/1.1 Length(0) alive",
            ),
            (
                "browsers leave these unencoded",
                "GET /a|b?{^}`\\ HTTP/1.1\r\nHost: a\r\n\r\n",
                "GET /a|b?{^}`\\ HTTP/1.1 Length(0) alive",
            ),
        ];
        for (name, input, expected) in rows {
            assert_eq!(every_way(name, input.as_bytes()), (vec![expected.into()], None), "{name}");
        }
    }

    #[test]
    fn requests_that_are_refused() {
        use ParseError::*;
        const H: &str = "GET / HTTP/1.1\r\nHost: a\r\n";
        let rows: [(&str, String, ParseError, u16); 70] = [
            (
                "RFC 9112 2.2: bare LF after the request line",
                "GET / HTTP/1.1\nHost: a\r\n\r\n".into(),
                BareLf,
                400,
            ),
            ("9112 2.2: bare LF after a field", "GET / HTTP/1.1\r\nHost: a\n\r\n".into(), BareLf, 400),
            ("9112 2.2: bare LF at the end", format!("{H}\n"), BareLf, 400),
            (
                "9112 2.2: bare CR in the request line",
                "GET /\rx HTTP/1.1\r\nHost: a\r\n\r\n".into(),
                TargetByte,
                400,
            ),
            ("9112 2.2: bare CR in a value", format!("{H}X: a\rb\r\n\r\n"), FieldValue, 400),
            ("9112 2.2: bare CR before the end", format!("{H}X: a\r\r\n\r\n"), FieldValue, 400),
            ("9112 2.2: two empty lines first", format!("\r\n\r\n{H}\r\n"), NotARequest, 400),
            ("9112 2.2: LF first", format!("\n{H}\r\n"), BareLf, 400),
            ("9112 2.2: space first", format!(" {H}\r\n"), NotARequest, 400),
            (
                "9112 2.2: space before the first field",
                "GET / HTTP/1.1\r\n Host: a\r\n\r\n".into(),
                ObsFold,
                400,
            ),
            ("TLS on a plain port", "\x16\x03\x01\x02\0\x01".into(), Tls, 400),
            ("9112 3: two spaces", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n".into(), Version, 400),
            (
                "9112 3: two spaces before the version",
                "GET /  HTTP/1.1\r\nHost: a\r\n\r\n".into(),
                Version,
                400,
            ),
            ("9112 3: trailing space", "GET / HTTP/1.1 \r\nHost: a\r\n\r\n".into(), Version, 400),
            ("9112 3: tab for space", "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n".into(), Method, 400),
            ("9112 3: HTTP/0.9", "GET /\r\n".into(), RequestLine, 400),
            ("9112 3: method alone", "GET\r\n".into(), RequestLine, 400),
            ("9112 3: space in the target", "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n".into(), Version, 400),
            ("9110 9.1: a method that is no token", "GE:T / HTTP/1.1\r\nHost: a\r\n\r\n".into(), Method, 400),
            ("9112 2.3: lower case version", "GET / http/1.1\r\nHost: a\r\n\r\n".into(), Version, 400),
            ("9112 2.3: two digits", "GET / HTTP/1.10\r\nHost: a\r\n\r\n".into(), Version, 400),
            ("9112 2.3: no minor", "GET / HTTP/1\r\nHost: a\r\n\r\n".into(), Version, 400),
            ("9110 15.6.6: HTTP/2.0", "GET / HTTP/2.0\r\nHost: a\r\n\r\n".into(), VersionNotSupported, 505),
            (
                "9110 15.6.6: HTTP/0.9 spelled out",
                "GET / HTTP/0.9\r\nHost: a\r\n\r\n".into(),
                VersionNotSupported,
                505,
            ),
            ("9113 3.4: preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), VersionNotSupported, 505),
            ("9112 3.2: no form", "GET foo HTTP/1.1\r\nHost: a\r\n\r\n".into(), TargetForm, 400),
            ("9112 3.2: fragment", "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n".into(), TargetByte, 400),
            ("9112 3.2: raw UTF-8", "GET /\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n".into(), TargetByte, 400),
            (
                "9112 3.2: a byte for the query only",
                "GET /a` HTTP/1.1\r\nHost: a\r\n\r\n".into(),
                TargetForm,
                400,
            ),
            ("9112 3.2: control character", "GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n".into(), TargetByte, 400),
            (
                "9112 3.2.4: asterisk is for OPTIONS",
                "GET * HTTP/1.1\r\nHost: a\r\n\r\n".into(),
                TargetForm,
                400,
            ),
            (
                "9112 3.2.3: authority is for CONNECT",
                "GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n".into(),
                TargetForm,
                400,
            ),
            (
                "9112 3.2.3: CONNECT takes no path",
                "CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n".into(),
                TargetForm,
                400,
            ),
            (
                "9110 4.2.4: user information",
                "GET http://u:p@a/ HTTP/1.1\r\nHost: a\r\n\r\n".into(),
                TargetForm,
                400,
            ),
            ("9112 3.2: no Host", "GET / HTTP/1.1\r\n\r\n".into(), HostMissing, 400),
            ("9112 3.2: no Host, absolute form", "GET http://a/ HTTP/1.1\r\n\r\n".into(), HostMissing, 400),
            ("9112 3.2: equal Hosts", format!("{H}Host: a\r\n\r\n"), HostRepeated, 400),
            (
                "9112 3.2: two Hosts in 1.0",
                "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n".into(),
                HostRepeated,
                400,
            ),
            ("9110 4.2.1: empty Host", "GET / HTTP/1.1\r\nHost:\r\n\r\n".into(), HostInvalid, 400),
            ("9112 3.2: Host with space", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n".into(), HostInvalid, 400),
            ("9112 3.2: Host with path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n".into(), HostInvalid, 400),
            ("9112 3.2: Host with user", "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n".into(), HostInvalid, 400),
            (
                "9112 3.2: Host with a bad port",
                "GET / HTTP/1.1\r\nHost: a:8x\r\n\r\n".into(),
                HostInvalid,
                400,
            ),
            ("9112 5.1: space before the colon", format!("{H}X : a\r\n\r\n"), FieldName, 400),
            ("9112 5.1: empty name", format!("{H}: a\r\n\r\n"), FieldName, 400),
            ("9110 5.1: name that is no token", format!("{H}X(: a\r\n\r\n"), FieldName, 400),
            ("9112 5: no colon", format!("{H}X\r\n\r\n"), FieldName, 400),
            ("9112 5.2: obs-fold", format!("{H}X: a\r\n b\r\n\r\n"), ObsFold, 400),
            ("9112 5.2: obs-fold with a tab", format!("{H}X: a\r\n\tb\r\n\r\n"), ObsFold, 400),
            ("9110 5.5: NUL in a value", format!("{H}X: a\0b\r\n\r\n"), FieldValue, 400),
            ("9110 5.5: DEL in a value", format!("{H}X: a\x7f\r\n\r\n"), FieldValue, 400),
            ("9110 5.5: VT in a value", format!("{H}X: a\x0bb\r\n\r\n"), FieldValue, 400),
            ("9112 6.3: length with a sign", format!("{H}Content-Length: +1\r\n\r\n"), ContentLength, 400),
            ("9112 6.3: empty length", format!("{H}Content-Length:\r\n\r\n"), ContentLength, 400),
            ("9112 6.3: length as a list", format!("{H}Content-Length: 1, 1\r\n\r\n"), ContentLength, 400),
            (
                "9112 6.3: length in hexadecimal",
                format!("{H}Content-Length: 0x1\r\n\r\n"),
                ContentLength,
                400,
            ),
            (
                "9112 6.3: length too large",
                format!("{H}Content-Length: 99999999999999999999\r\n\r\n"),
                ContentLength,
                400,
            ),
            (
                "9112 6.3: lengths that differ",
                format!("{H}Content-Length: 1\r\nContent-Length: 2\r\n\r\n"),
                ContentLength,
                400,
            ),
            (
                "9112 6.1: coding and length",
                format!("{H}Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"),
                TransferEncodingWithLength,
                400,
            ),
            (
                "9112 6.1: length and coding",
                format!("{H}Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n"),
                TransferEncodingWithLength,
                400,
            ),
            (
                "9112 6.1: coding in 1.0",
                "GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n".into(),
                TransferEncodingInOld,
                400,
            ),
            (
                "9112 6.3: chunked not last",
                format!("{H}Transfer-Encoding: chunked, gzip\r\n\r\n"),
                TransferEncoding,
                400,
            ),
            (
                "9112 6.1: chunked twice over lines",
                format!("{H}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"),
                TransferEncoding,
                400,
            ),
            (
                "9112 6.1: unknown coding",
                format!("{H}Transfer-Encoding: brotli, chunked\r\n\r\n"),
                TransferCodingUnknown,
                501,
            ),
            ("9110 10.1.1: unknown expectation", format!("{H}Expect: 200-ok\r\n\r\n"), Expectation, 417),
            ("9110 15.5.14: body too large", format!("{H}Content-Length: 1001\r\n\r\n"), BodyTooLarge, 413),
            (
                "9110 15.5.15: request line too long",
                format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(60)),
                RequestLineTooLong,
                414,
            ),
            ("6585 5: field too large", format!("{H}X: {}\r\n\r\n", "x".repeat(60)), FieldTooLarge, 431),
            (
                "6585 5: too many fields",
                format!("{H}b: 2\r\nc: 3\r\nd: 4\r\ne: 5\r\nf: 6\r\ng: 7\r\n\r\n"),
                TooManyFields,
                431,
            ),
            ("9112 2.2: folded Host", "GET / HTTP/1.1\r\nHost: a\r\n\tb\r\n\r\n".into(), ObsFold, 400),
        ];
        for (name, input, error, status) in rows {
            assert_eq!(every_way(name, input.as_bytes()), (vec![], Some(error)), "{name}");
            assert_eq!(error.status(), status, "{name}");
        }
    }

    #[test]
    fn good_requests_before_a_bad_one_are_seen_first() {
        let input = b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\nGET /3 HTTP/1.1\r\n\r\n";
        let (requests, error) = every_way("pipeline", input);
        assert_eq!(requests, ["GET /1 HTTP/1.1 Length(0) alive", "GET /2 HTTP/1.1 Length(0) alive"]);
        assert_eq!(error, Some(ParseError::HostMissing));
    }

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

    #[test]
    fn mutated_streams_are_read_alike_however_they_are_cut() {
        const SEED: &[u8] = b"GET /a?b HTTP/1.1\r\nHost: a:80\r\nConnection: close\r\n\r\n\r\nPOST http://c/ HTTP/1.0\r\n\
            Content-Length: 0\r\nX: y\r\n\r\nOPTIONS * HTTP/1.1\r\nHost: [::1]\r\nTransfer-Encoding: chunked\r\n\r\n";
        const BYTES: &[u8] = b"\r\n \t:/\0#%\x7f\xffAa0,;*\"";
        // A fixed row of numbers (xorshift), so that a failure comes again.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut below = |most: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % most as u64) as usize
        };
        for _ in 0..20_000 {
            let mut input = SEED.to_vec();
            for _ in 0..=below(3) {
                let at = below(input.len());
                match below(4) {
                    0 => input[at] = BYTES[below(BYTES.len())],
                    1 => input.insert(at, BYTES[below(BYTES.len())]),
                    2 => drop(input.remove(at)),
                    _ => input.truncate(at.max(8)),
                }
            }
            let whole = read(&input, []);
            let name = String::from_utf8_lossy(&input);
            assert_eq!(read(&input, 1..input.len()), whole, "byte by byte: {name:?}");
            let (a, b) = (below(input.len()), below(input.len()));
            assert_eq!(read(&input, [a.min(b), a.max(b)]), whole, "cut at {a} and {b}: {name:?}");
        }
    }
}
