//! The chunked coding, incoming (RFC 9112, 7.1).

use ::http::{HeaderMap, HeaderName, HeaderValue};

use super::fields::trim;
use super::target::is_token_byte;
use super::{Limits, may_be_trailer};

/// Takes the framing off a chunked body that comes in pieces.
///
/// Show it the input with [`Decoder::advance`]; it eats framing and says what follows. Strict: no sign, `0x` or white space
/// in a size, every line ends in CRLF, extensions and trailers are bounded and checked, and a trailer that would change the
/// framing or routing of the request is refused. Those that pass are kept apart from the headers, but for those which only
/// mean something in the head (RFC 9110, 6.5.1): these are dropped.
#[derive(Debug, Clone)]
pub struct Decoder {
    state: State,
    /// Bytes of data seen so far.
    total: u64,
    /// Bytes of extensions in this chunk, and in all.
    extension: usize,
    extensions: u64,
    trailers: usize,
    /// The trailer line under way.
    line: Vec<u8>,
    /// Those that came. Boxed, for few bodies have any.
    kept: Option<Box<HeaderMap>>,
}

/// What follows the framing that was eaten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Nothing yet: all input was eaten, show more.
    More,
    /// So many bytes of data (at least one), all of them in the input shown.
    Data(usize),
    /// The body is complete; what follows belongs to the next request.
    End,
}

/// Which rule a chunked body breaks; its text is for the client and the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChunkError {
    /// A size that is not hexadecimal digits alone, or none at all.
    Size,
    /// A size beyond 64 bits.
    SizeOverflow,
    /// A line that does not end in CRLF.
    LineEnd,
    /// A chunk's data is not followed by CRLF.
    DataEnd,
    /// A control character in an extension.
    Extension,
    /// Extensions that outweigh the data.
    ExtensionsTooLarge,
    /// A trailer line that is no field.
    Trailer,
    /// Trailers beyond `limit_trailers` in all.
    TrailersTooLarge,
    /// A trailer that may only be a header.
    TrailerForbidden,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the first digit of a size.
    SizeStart,
    /// Behind `digits` digits of it.
    Size {
        size: u64,
        digits: u8,
    },
    /// White space behind the size, allowed only before an extension.
    SpaceAfterSize {
        size: u64,
    },
    Extension {
        size: u64,
    },
    SizeLf {
        size: u64,
    },
    Data {
        left: u64,
    },
    DataCr,
    DataLf,
    TrailerLine,
    TrailerLf,
    End,
}

/// So many times what one chunk's extensions may take is there for all, beyond the number of data bytes (a signature per
/// chunk is fine, chunks of one byte with a kilobyte of extension are an attack).
const FREE_EXTENSIONS: u64 = 4;

impl Decoder {
    /// A decoder at the start of a body.
    pub fn new() -> Decoder {
        Decoder {
            state: State::SizeStart,
            total: 0,
            extension: 0,
            extensions: 0,
            trailers: 0,
            line: Vec::new(),
            kept: None,
        }
    }

    /// Eats framing at the start of `input`; gives how many bytes and what follows them. Data must be reported as taken with
    /// [`Decoder::took`] before the next call.
    ///
    /// # Errors
    /// The rule that the body breaks; nothing behind it can be read.
    pub fn advance(&mut self, input: &[u8], limits: &Limits) -> Result<(usize, Next), ChunkError> {
        let mut at = 0;
        loop {
            match self.state {
                State::Data { left } if at < input.len() => {
                    let here = usize::try_from(left).unwrap_or(usize::MAX).min(input.len() - at);
                    return Ok((at, Next::Data(here)));
                }
                State::End => return Ok((at, Next::End)),
                _ => {}
            }
            let Some(&byte) = input.get(at) else { return Ok((at, Next::More)) };
            self.state = self.step(byte, limits)?;
            at += 1;
        }
    }

    /// `count` bytes of the data that [`Decoder::advance`] has announced were taken off the input.
    pub fn took(&mut self, count: usize) {
        if let State::Data { left } = self.state {
            let left = left.saturating_sub(count as u64);
            self.total = self.total.saturating_add(count as u64);
            self.state = if left == 0 { State::DataCr } else { State::Data { left } };
        }
    }

    /// How many bytes the current chunk still holds: a reader may take that many without asking in between.
    pub fn data_left(&self) -> u64 {
        match self.state {
            State::Data { left } => left,
            _ => 0,
        }
    }

    /// How many bytes of data were taken in all.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Whether the body was read to its end.
    pub fn is_done(&self) -> bool {
        self.state == State::End
    }

    /// The trailers, if the body was read to its end and had any.
    pub fn trailers(&self) -> Option<&HeaderMap> {
        self.kept.as_deref().filter(|_| self.is_done())
    }

    fn step(&mut self, byte: u8, limits: &Limits) -> Result<State, ChunkError> {
        match self.state {
            State::SizeStart => match hex(byte) {
                Some(size) => Ok(State::Size { size, digits: 1 }),
                None => Err(ChunkError::Size),
            },
            State::Size { size, digits } => match byte {
                b'\r' => Ok(State::SizeLf { size }),
                b';' => self.extension_byte(State::Extension { size }, limits),
                b' ' | b'\t' => self.extension_byte(State::SpaceAfterSize { size }, limits),
                _ => match hex(byte) {
                    // Sixteen digits are 64 bits; leading zeros count, for an endless row of them is no number.
                    Some(_) if digits == 16 => Err(ChunkError::SizeOverflow),
                    Some(digit) => Ok(State::Size { size: size << 4 | digit, digits: digits + 1 }),
                    None => Err(ChunkError::Size),
                },
            },
            State::SpaceAfterSize { size } => match byte {
                b' ' | b'\t' => self.extension_byte(self.state, limits),
                b';' => self.extension_byte(State::Extension { size }, limits),
                _ => Err(ChunkError::Size),
            },
            State::Extension { size } => match byte {
                b'\r' => Ok(State::SizeLf { size }),
                b'\n' => Err(ChunkError::LineEnd),
                b'\t' | b' '..=b'~' | 0x80.. => self.extension_byte(self.state, limits),
                _ => Err(ChunkError::Extension),
            },
            State::SizeLf { size } => match (byte, size) {
                (b'\n', 0) => Ok(State::TrailerLine),
                (b'\n', _) => {
                    self.extension = 0;
                    Ok(State::Data { left: size })
                }
                _ => Err(ChunkError::LineEnd),
            },
            State::DataCr if byte == b'\r' => Ok(State::DataLf),
            State::DataLf if byte == b'\n' => Ok(State::SizeStart),
            State::DataCr | State::DataLf => Err(ChunkError::DataEnd),
            State::TrailerLine => match byte {
                b'\r' => Ok(State::TrailerLf),
                b'\n' => Err(ChunkError::LineEnd),
                _ => {
                    self.trailers += 1;
                    if self.trailers > limits.trailers() {
                        return Err(ChunkError::TrailersTooLarge);
                    }
                    self.line.push(byte);
                    Ok(State::TrailerLine)
                }
            },
            State::TrailerLf if byte != b'\n' => Err(ChunkError::LineEnd),
            State::TrailerLf if self.line.is_empty() => Ok(State::End),
            State::TrailerLf => {
                let (name, value) = trailer(&self.line)?;
                if let (true, Ok(name), Ok(value)) =
                    (may_be_trailer(name), HeaderName::try_from(name), HeaderValue::from_bytes(value))
                {
                    let kept = self.kept.get_or_insert_default();
                    if kept.len() >= limits.fields() {
                        return Err(ChunkError::TrailersTooLarge);
                    }
                    kept.append(name, value);
                }
                self.line.clear();
                Ok(State::TrailerLine)
            }
            // `advance` stops at these.
            State::Data { .. } | State::End => Ok(self.state),
        }
    }

    fn extension_byte(&mut self, next: State, limits: &Limits) -> Result<State, ChunkError> {
        self.extension += 1;
        self.extensions += 1;
        let most = limits.chunk_extensions();
        if self.extension > most || self.extensions > self.total.saturating_add(FREE_EXTENSIONS * most as u64)
        {
            return Err(ChunkError::ExtensionsTooLarge);
        }
        Ok(next)
    }
}

impl Default for Decoder {
    fn default() -> Decoder {
        Decoder::new()
    }
}

impl ChunkError {
    /// What is wrong, in words.
    pub fn reason(self) -> &'static str {
        match self {
            ChunkError::Size => "a chunk size is not hexadecimal digits alone",
            ChunkError::SizeOverflow => "a chunk size is too large",
            ChunkError::LineEnd => "a line of the chunked coding does not end in CRLF",
            ChunkError::DataEnd => "a chunk's data is not followed by CRLF",
            ChunkError::Extension => "a chunk extension holds a control character",
            ChunkError::ExtensionsTooLarge => "the chunk extensions are too large",
            ChunkError::Trailer => "a trailer is not a valid field",
            ChunkError::TrailersTooLarge => "the trailers are too large",
            ChunkError::TrailerForbidden => "a trailer holds a field that is only valid in the head",
        }
    }
}

impl std::fmt::Display for ChunkError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for ChunkError {}

fn hex(byte: u8) -> Option<u64> {
    (byte as char).to_digit(16).map(u64::from)
}

/// Name and value of a field line whose name is not one that decides framing, routing or the connection (RFC 9110, 6.5.1).
fn trailer(line: &[u8]) -> Result<(&str, &[u8]), ChunkError> {
    let colon = memchr::memchr(b':', line).ok_or(ChunkError::Trailer)?;
    let (name, value) = (&line[..colon], trim(&line[colon + 1..]));
    let value_ok = value.iter().all(|b| matches!(b, b'\t' | b' '..=b'~' | 0x80..));
    if name.is_empty() || !name.iter().all(|b| is_token_byte(*b)) || !value_ok {
        return Err(ChunkError::Trailer);
    }
    const FORBIDDEN: [&str; 10] = [
        "content-length",
        "transfer-encoding",
        "host",
        "connection",
        "keep-alive",
        "te",
        "trailer",
        "upgrade",
        "expect",
        "content-encoding",
    ];
    if FORBIDDEN.iter().any(|forbidden| name.eq_ignore_ascii_case(forbidden.as_bytes())) {
        return Err(ChunkError::TrailerForbidden);
    }
    Ok((std::str::from_utf8(name).map_err(|_| ChunkError::Trailer)?, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes `input` shown in pieces of `step` bytes; gives the data and what is left behind the end.
    fn decode(input: &[u8], step: usize) -> Result<Option<(Vec<u8>, usize)>, ChunkError> {
        let limits = Limits { trailers: 64, ..Limits::default() };
        let mut decoder = Decoder::new();
        let mut data = Vec::new();
        let mut at = 0;
        let mut shown = 0;
        loop {
            let (eaten, next) = decoder.advance(&input[at..shown], &limits)?;
            at += eaten;
            match next {
                Next::Data(n) => {
                    data.extend_from_slice(&input[at..at + n]);
                    decoder.took(n);
                    at += n;
                }
                Next::End => return Ok(Some((data, input.len() - at))),
                Next::More if shown == input.len() => return Ok(None),
                Next::More => shown = (shown + step).min(input.len()),
            }
        }
    }

    fn every_step(input: &[u8]) -> Result<Option<(Vec<u8>, usize)>, ChunkError> {
        let whole = decode(input, input.len().max(1));
        for step in 1..input.len() {
            assert_eq!(
                decode(input, step),
                whole,
                "in steps of {step}: {:?}",
                String::from_utf8_lossy(input)
            );
        }
        whole
    }

    #[test]
    fn well_formed_bodies_decode_however_they_are_cut() {
        let rows: [(&str, &[u8], &str, usize); 9] = [
            ("RFC 9112 7.1: one chunk", b"3\r\nabc\r\n0\r\n\r\n", "abc", 0),
            (
                "7.1: two chunks, sizes of either case",
                b"a\r\n0123456789\r\nA\r\nabcdefghij\r\n0\r\n\r\n",
                "0123456789abcdefghij",
                0,
            ),
            ("7.1: empty body", b"0\r\n\r\n", "", 0),
            ("7.1: leading and many zeros", b"003\r\nabc\r\n000\r\n\r\n", "abc", 0),
            ("7.1.1: extensions are skipped", b"3;a=b;c=\"d\"\r\nabc\r\n0;x\r\n\r\n", "abc", 0),
            ("7.1.1: bad white space before an extension", b"3 \t;a\r\nabc\r\n0\r\n\r\n", "abc", 0),
            ("7.1.2: trailers are no data", b"0\r\nX-Sum: 1\r\nx-b:\r\n\r\n", "", 0),
            ("9.3.2: what follows is the next request's", b"1\r\na\r\n0\r\n\r\nGET", "a", 3),
            ("7.1: CRLF in data is data", b"4\r\n\r\n\r\n\r\n0\r\n\r\n", "\r\n\r\n", 0),
        ];
        for (name, input, data, left) in rows {
            assert_eq!(every_step(input), Ok(Some((data.into(), left))), "{name}");
        }
    }

    #[test]
    fn malformed_bodies_are_refused_however_they_are_cut() {
        use ChunkError::*;
        let rows: [(&str, &[u8], ChunkError); 23] = [
            ("RFC 9112 7.1: empty size", b"\r\n", Size),
            ("7.1: sign", b"+3\r\nabc\r\n", Size),
            ("7.1: minus", b"-3\r\n", Size),
            ("7.1: prefix", b"0x3\r\nabc\r\n", Size),
            ("7.1: leading space", b" 3\r\nabc\r\n", Size),
            ("7.1: trailing space", b"3 \r\nabc\r\n", Size),
            ("7.1: underscore", b"1_0\r\n", Size),
            ("7.1: no digit", b"g\r\n", Size),
            ("7.1: 17 digits", b"00000000000000003\r\n", SizeOverflow),
            ("7.1: beyond 64 bits", b"10000000000000000\r\n", SizeOverflow),
            ("7.1: bare LF after size", b"3\nabc\r\n", Size),
            ("7.1: bare CR after size", b"3\rabc\r\n", LineEnd),
            ("7.1: data too long", b"3\r\nabcd\r\n0\r\n\r\n", DataEnd),
            ("7.1: bare LF after data", b"3\r\nabc\n0\r\n\r\n", DataEnd),
            ("7.1: bare CR after data", b"3\r\nabc\rX", DataEnd),
            ("7.1.1: LF in extension", b"3;a\nabc\r\n", LineEnd),
            ("7.1.1: NUL in extension", b"3;a\0\r\nabc\r\n", Extension),
            ("7.1.2: bare LF in trailers", b"0\r\nX: y\n\r\n", LineEnd),
            ("7.1.2: folded trailer", b"0\r\nX: y\r\n z\r\n\r\n", Trailer),
            ("7.1.2: trailer without colon", b"0\r\nX\r\n\r\n", Trailer),
            ("7.1.2: NUL in trailer", b"0\r\nX: \0\r\n\r\n", Trailer),
            ("9110 6.5.1: framing in trailers", b"0\r\nContent-Length: 3\r\n\r\n", TrailerForbidden),
            ("9110 6.5.1: framing in trailers", b"0\r\ntransfer-encoding: chunked\r\n\r\n", TrailerForbidden),
        ];
        for (name, input, error) in rows {
            assert_eq!(every_step(input), Err(error), "{name}");
        }
    }

    #[test]
    fn rfc9110_6_5_trailers_are_kept_but_for_those_that_belong_into_the_head() {
        let input = b"0\r\nX-Sum: 1\r\nAuthorization: secret\r\nx-sum:  2 \r\n\r\n";
        for step in 1..=input.len() {
            let (mut decoder, limits) = (Decoder::new(), Limits::default());
            for piece in input.chunks(step) {
                assert_eq!(decoder.trailers(), None);
                decoder.advance(piece, &limits).unwrap();
            }
            let trailers = decoder.trailers().unwrap();
            assert_eq!(trailers.get_all("x-sum").iter().collect::<Vec<_>>(), ["1", "2"]);
            assert_eq!(trailers.len(), 2);
        }
        let limits = Limits { request_fields: 2, ..Limits::default() };
        let many = b"0\r\na: 1\r\nb: 2\r\nc: 3\r\n\r\n";
        assert_eq!(Decoder::new().advance(many, &limits), Err(ChunkError::TrailersTooLarge));
    }

    #[test]
    fn a_body_that_stops_is_not_complete() {
        let whole = b"3;x=y\r\nabc\r\n0\r\nA: b\r\n\r\n";
        for end in 0..whole.len() {
            assert_eq!(decode(&whole[..end], 1), Ok(None), "cut at {end}");
        }
    }

    #[test]
    fn extensions_and_trailers_are_bounded() {
        let long = [b"1;", &[b'x'; 5000][..], b"\r\na"].concat();
        assert_eq!(decode(&long, 100), Err(ChunkError::ExtensionsTooLarge));
        let many = [&b"1;"[..], &[b'x'; 1000], b"\r\na\r\n"].concat().repeat(20);
        assert_eq!(decode(&many, 1000), Err(ChunkError::ExtensionsTooLarge));
        let signed = [&b"1000;"[..], &[b'x'; 100], b"\r\n", &[b'd'; 0x1000], b"\r\n"].concat().repeat(400);
        assert_eq!(decode(&signed, 100_000), Ok(None));
        let trailers = [&b"0\r\n"[..], b"X-Name: value\r\n".repeat(10).as_slice(), b"\r\n"].concat();
        assert_eq!(decode(&trailers, 7), Err(ChunkError::TrailersTooLarge));
    }
}
