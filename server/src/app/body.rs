//! Bodies, in both directions.

use std::error::Error;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::rc::Rc;

use ::http::{HeaderMap, StatusCode};
use bytes::{Buf, Bytes};

use super::upgrade::TakeOver;
use super::{Addr, BodyWriter, Leaving, Origin, TlsInfo};
use crate::http::uwsgi::Vars;

/// The body of a request or of a response.
///
/// A request's body is read with [`std::io::Read`]; it comes from the connection as it is read, nothing is read ahead of
/// the handler. Reading it to its end gives exactly the body that the client announced: one that stops short, or whose
/// chunks are malformed, is an error (see [`BodyError`]) and never a silent short body. Once the response is finished the
/// rest of the body is gone, and reading on is an error.
///
/// A response's body is bytes, a file, a reader, an iterator of pieces, or a closure that writes. A body whose length is known is sent with
/// `Content-Length`; any other is sent chunked to an HTTP/1.1 client, and ends with the connection for HTTP/1.0.
pub struct Body {
    kind: Kind,
    /// How many bytes more are too many: one more than may still be read, 0 once they were, `UNBOUNDED` if nobody has said.
    too_many: u64,
}

const UNBOUNDED: u64 = u64::MAX;

impl Default for Body {
    fn default() -> Body {
        Kind::Empty.into()
    }
}

/// What a body is made of.
#[derive(Default)]
pub(crate) enum Kind {
    #[default]
    Empty,
    Bytes(Bytes),
    Reader {
        reader: Box<dyn Read>,
        length: Option<u64>,
    },
    Stream {
        write: Box<StreamFn>,
        length: Option<u64>,
    },
    Chunks {
        chunks: Box<Chunks>,
        /// What reading has left of the last one.
        rest: Bytes,
    },
    File {
        file: File,
        offset: u64,
        length: u64,
    },
    Incoming(Incoming),
    /// No body: what takes the connection over.
    Upgrade(Box<TakeOver>),
}

impl Kind {
    /// See [`Body::length`].
    pub(crate) fn length(&self) -> Option<u64> {
        match self {
            Kind::Empty | Kind::Upgrade(_) => Some(0),
            Kind::Bytes(bytes) => Some(bytes.len() as u64),
            Kind::Reader { length, .. } | Kind::Stream { length, .. } => *length,
            Kind::Chunks { .. } => None,
            Kind::File { length, .. } => Some(*length),
            Kind::Incoming(incoming) => incoming.connection.body_remaining(incoming.request),
        }
    }
}

type Chunks = dyn Iterator<Item = io::Result<Bytes>>;
type StreamFn = dyn FnOnce(&mut BodyWriter<'_>) -> io::Result<()>;

impl Body {
    /// No bytes at all. As a response it is sent with `Content-Length: 0` where the status allows a body.
    pub fn empty() -> Body {
        Body::default()
    }

    /// A body that `write` produces piece by piece, of a length not known beforehand.
    ///
    /// `write` runs in the connection's green thread after the handler has returned; it parks while the client reads
    /// slowly. What it writes is gathered until 128 KiB are there or until it calls
    /// [`flush`](std::io::Write::flush). If it fails or panics the connection is torn down in a way that tells the client
    /// that the body is not whole (or, if nothing was sent yet, the answer is an error status).
    ///
    /// ```
    /// # use greenserve::Body;
    /// use std::io::Write;
    /// let body = Body::stream(|out| {
    ///     for n in 0..3 {
    ///         writeln!(out, "line {n}")?;
    ///         out.flush()?; // the client sees this line now
    ///     }
    ///     Ok(())
    /// });
    /// assert_eq!(&body.into_bytes().unwrap()[..], b"line 0\nline 1\nline 2\n");
    /// ```
    pub fn stream(write: impl FnOnce(&mut BodyWriter<'_>) -> io::Result<()> + 'static) -> Body {
        Kind::Stream { write: Box::new(write), length: None }.into()
    }

    /// Like [`Body::stream`] for a body of which the length in bytes is known: it is sent with `Content-Length`.
    ///
    /// A closure that writes less or more than `length` breaks its word: the connection is closed and the fault logged;
    /// never is the body padded, or more than `length` bytes sent.
    pub fn sized_stream(
        length: u64,
        write: impl FnOnce(&mut BodyWriter<'_>) -> io::Result<()> + 'static,
    ) -> Body {
        Kind::Stream { write: Box::new(write), length: Some(length) }.into()
    }

    /// A body that is what `reader` gives, up to its end or, if `length` is stated, exactly that many bytes.
    ///
    /// The reader is read in the connection's green thread, as fast as the client takes the bytes.
    pub fn reader(reader: impl Read + 'static, length: Option<u64>) -> Body {
        Kind::Reader { reader: Box::new(reader), length }.into()
    }

    /// A body that comes in the pieces that `chunks` gives (WSGI's iterable): byte strings, texts, [`Bytes`].
    ///
    /// The next piece is asked for, in the connection's green thread, when the last one has been handed to the kernel. So the
    /// client sees each as soon as it is there (PEP 3333, "Buffering and Streaming"), and a slow client holds the iterator
    /// back. Large pieces are not copied; empty ones send nothing. The iterator is dropped (WSGI's `close()`) when it has
    /// ended, the client has left or the green thread is killed, and without having been asked for anything if the
    /// answer has no body (to `HEAD`, say). If it panics it is as with [`Body::stream`].
    ///
    /// ```
    /// # use greenserve::Body;
    /// let body = Body::chunks((0..3).map(|n| format!("line {n}\n")));
    /// assert_eq!(&body.into_bytes().unwrap()[..], b"line 0\nline 1\nline 2\n");
    /// ```
    pub fn chunks<I>(chunks: I) -> Body
    where
        I: IntoIterator<Item: Into<Bytes>>,
        I::IntoIter: 'static,
    {
        let chunks = chunks.into_iter().map(|chunk| Ok(chunk.into()));
        Kind::Chunks { chunks: Box::new(chunks), rest: Bytes::new() }.into()
    }

    /// Like [`Body::chunks`] for an iterator that may fail: nothing is asked of it after an error. The client is told as with
    /// [`Body::stream`].
    ///
    /// ```
    /// # use greenserve::Body;
    /// use std::io::BufRead;
    ///
    /// let lines = std::io::Cursor::new("a\nb\n").split(b'\n');
    /// assert_eq!(&Body::try_chunks(lines).into_bytes().unwrap()[..], b"ab");
    /// ```
    pub fn try_chunks<I, C, E>(chunks: I) -> Body
    where
        I: IntoIterator<Item = Result<C, E>>,
        I::IntoIter: 'static,
        C: Into<Bytes>,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        let failed = |error: Box<dyn Error + Send + Sync>| match error.downcast::<io::Error>() {
            Ok(error) => *error,
            Err(error) => io::Error::other(error),
        };
        let chunks =
            chunks.into_iter().map(move |chunk| chunk.map(Into::into).map_err(|error| failed(error.into())));
        Kind::Chunks { chunks: Box::new(chunks), rest: Bytes::new() }.into()
    }

    /// `length` bytes of `file` from `offset` on, sent by `sendfile(2)`, or over TLS by reading and encrypting it. The file's
    /// own position is not moved. Both hold up the other green threads while the disk has to be waited for.
    ///
    /// A file that turns out shorter than `offset + length` breaks its word as in [`Body::sized_stream`].
    pub fn file(file: File, offset: u64, length: u64) -> Body {
        Kind::File { file, offset, length }.into()
    }

    /// How many bytes are still to come, if that is known: never for a chunked request or a stream without length.
    pub fn length(&self) -> Option<u64> {
        self.kind.length()
    }

    /// The trailers (RFC 9110, 6.5) of a request whose body was read to its end; `None` before that, and once the response is
    /// finished. Most bodies have none: then the map is empty.
    ///
    /// They are kept apart from the headers, for they come from who sent the body. Those that mean something only in the head
    /// (framing, routing, authentication) are never among them; all together they may be as long as
    /// `limit_request_field_size`, and as many as `limit_request_fields`.
    pub fn trailers(&self) -> Option<HeaderMap> {
        match &self.kind {
            Kind::Incoming(incoming) => incoming.connection.trailers(incoming.request),
            _ => Some(HeaderMap::new()),
        }
    }

    /// Takes the whole body into memory, whatever it is made of: a request's is read to its end, a stream's closure is
    /// run. The only bounds on a request's size are the server's `limit_request_body` and [`Body::limit`].
    ///
    /// # Errors
    /// Those of reading (see [`Body`]'s `Read`), those of the stream's closure, and `InvalidData` for a stream that wrote
    /// more or less than the length it had stated.
    pub fn into_bytes(mut self) -> io::Result<Bytes> {
        if self.too_many == 0 {
            return Err(self.is_too_large());
        }
        match self.kind {
            Kind::Empty | Kind::Upgrade(_) => Ok(Bytes::new()),
            Kind::Bytes(bytes) => Ok(bytes),
            Kind::Stream { write, length } => {
                let mut all = Vec::new();
                write(&mut BodyWriter::new(&mut all))?;
                match length {
                    Some(stated) if stated != all.len() as u64 => Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        format!("a body of stated length {stated} wrote {} bytes", all.len()),
                    )),
                    _ if all.len() as u64 >= self.too_many => Err(BodyError::TooLarge.into()),
                    _ => Ok(all.into()),
                }
            }
            kind => {
                let mut all = Vec::new();
                Body { kind, too_many: self.too_many }.read_to_end(&mut all)?;
                Ok(all.into())
            }
        }
    }

    /// From here on no more than `most` bytes may be read of it: reading beyond fails with [`BodyError::TooLarge`], which is
    /// answered with 413. Of several limits the smallest holds. A response's body is sent whole, whatever its limit.
    ///
    /// # Errors
    /// [`BodyError::TooLarge`] at once if the body is known to be longer. It can't be read then.
    pub fn limit(&mut self, most: u64) -> io::Result<()> {
        self.too_many = self.too_many.min(most.saturating_add(1));
        match self.length() {
            Some(length) if length >= self.too_many => Err(self.is_too_large()),
            _ => Ok(()),
        }
    }

    /// Whether somebody has called [`Body::limit`].
    pub(crate) fn is_limited(&self) -> bool {
        self.too_many != UNBOUNDED
    }

    #[cold]
    fn is_too_large(&mut self) -> io::Error {
        self.too_many = 0;
        BodyError::TooLarge.into()
    }

    pub(crate) fn kind_mut(&mut self) -> &mut Kind {
        &mut self.kind
    }

    pub(crate) fn as_incoming(&self) -> Option<&Incoming> {
        match &self.kind {
            Kind::Incoming(incoming) => Some(incoming),
            _ => None,
        }
    }
}

/// Parks until some of the body is there. `Ok(0)` means that the body is whole.
///
/// A request's body: `UnexpectedEof` if the client left before its end, `InvalidData` if its chunks are malformed or it is
/// larger than allowed, `TimedOut` if it did not come in time, `NotConnected` once the response is finished; all of them
/// carry a [`BodyError`]. A body made by [`Body::stream`] is written, not read: `Unsupported`, see [`Body::into_bytes`].
impl Read for Body {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.too_many == 0 {
            return Err(self.is_too_large());
        }
        let count = self.kind.read(buf)?;
        if self.is_limited() {
            if count as u64 >= self.too_many {
                return Err(self.is_too_large());
            }
            self.too_many -= count as u64;
        }
        Ok(count)
    }
}

impl Kind {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Kind::Empty | Kind::Upgrade(_) => Ok(0),
            Kind::Bytes(bytes) => {
                let n = buf.len().min(bytes.len());
                bytes.copy_to_slice(&mut buf[..n]);
                Ok(n)
            }
            Kind::Reader { reader, length: None } => reader.read(buf),
            Kind::Reader { reader, length: Some(left) } => read_counted(buf, left, |part| reader.read(part)),
            Kind::File { file, offset, length } => {
                let n = read_counted(buf, length, |part| file.read_at(part, *offset))?;
                *offset += n as u64;
                Ok(n)
            }
            Kind::Stream { .. } => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "a body made by Body::stream is written and can't be read: use Body::into_bytes",
            )),
            Kind::Chunks { chunks, rest } => {
                // An empty piece is not the end.
                while rest.is_empty() && !buf.is_empty() {
                    match chunks.next() {
                        Some(chunk) => *rest = chunk?,
                        None => return Ok(0),
                    }
                }
                let n = buf.len().min(rest.len());
                rest.copy_to_slice(&mut buf[..n]);
                Ok(n)
            }
            Kind::Incoming(incoming) => incoming.connection.read_body(incoming.request, buf),
        }
    }
}

/// Reads at most `left` bytes, counts them off, and makes an end before that an error.
fn read_counted(
    buf: &mut [u8],
    left: &mut u64,
    read: impl FnOnce(&mut [u8]) -> io::Result<usize>,
) -> io::Result<usize> {
    let want = usize::try_from(*left).unwrap_or(usize::MAX).min(buf.len());
    if want == 0 {
        return Ok(0);
    }
    let n = read(&mut buf[..want])?;
    if n == 0 {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            format!("the body's source ended {left} bytes before its stated length"),
        ));
    }
    *left -= n as u64;
    Ok(n)
}

impl From<Kind> for Body {
    fn from(kind: Kind) -> Body {
        Body { kind, too_many: UNBOUNDED }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Body {
        Kind::Bytes(bytes).into()
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Body {
        Bytes::from(bytes).into()
    }
}

impl From<String> for Body {
    fn from(text: String) -> Body {
        Bytes::from(text).into()
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Body {
        Bytes::from_static(text.as_bytes()).into()
    }
}

impl From<&'static [u8]> for Body {
    fn from(bytes: &'static [u8]) -> Body {
        Bytes::from_static(bytes).into()
    }
}

/// Says what the body is made of and its length; never its content.
impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.kind {
            Kind::Empty => "empty",
            Kind::Bytes(_) => "bytes",
            Kind::Reader { .. } => "reader",
            Kind::Stream { .. } => "stream",
            Kind::Chunks { .. } => "chunks",
            Kind::File { .. } => "file",
            Kind::Incoming(_) => "incoming",
            Kind::Upgrade(_) => "upgrade",
        };
        f.debug_struct("Body").field("kind", &kind).field("length", &self.length()).finish()
    }
}

/// Why a request's body can't be read; the inner error of the [`io::Error`] that the read gave.
///
/// A handler that lets such an error through (it returns `io::Result`, say) is answered with [`BodyError::status`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BodyError {
    /// The client closed its side before the end of the body it had announced (RFC 9112, 8): 400.
    Incomplete,
    /// The chunked coding is malformed (RFC 9112, 7.1): 400. The text names the rule.
    Malformed(&'static str),
    /// The body is larger than `limit_request_body`, or than [`Body::limit`] allows: 413.
    TooLarge,
    /// The body was not there when the server's body timeout was over, or came too slowly: 408.
    TimedOut,
    /// The response to this request is finished, so the rest of its body is gone.
    Finished,
    /// Another green thread is reading this connection at this moment.
    Busy,
}

impl BodyError {
    /// The status which tells the client of it.
    pub fn status(self) -> StatusCode {
        match self {
            BodyError::Incomplete | BodyError::Malformed(_) => StatusCode::BAD_REQUEST,
            BodyError::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            BodyError::TimedOut => StatusCode::REQUEST_TIMEOUT,
            BodyError::Finished | BodyError::Busy => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The `BodyError` inside an error that reading a body gave, if it is one.
    pub fn of(error: &io::Error) -> Option<BodyError> {
        error.get_ref()?.downcast_ref().copied()
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BodyError::Incomplete => f.write_str("the client left before the end of the request body"),
            BodyError::Malformed(rule) => write!(f, "malformed request body: {rule}"),
            BodyError::TooLarge => f.write_str("the request body is larger than allowed here"),
            BodyError::TimedOut => f.write_str("the request body did not arrive in time"),
            BodyError::Finished => f.write_str(
                "the response is finished and the rest of the request body is gone: read it before",
            ),
            BodyError::Busy => f.write_str("another green thread is reading this request body"),
        }
    }
}

impl Error for BodyError {}

impl From<BodyError> for io::Error {
    fn from(error: BodyError) -> io::Error {
        let kind = match error {
            BodyError::Incomplete => io::ErrorKind::UnexpectedEof,
            BodyError::Malformed(_) | BodyError::TooLarge => io::ErrorKind::InvalidData,
            BodyError::TimedOut => io::ErrorKind::TimedOut,
            BodyError::Finished => io::ErrorKind::NotConnected,
            BodyError::Busy => io::ErrorKind::ResourceBusy,
        };
        io::Error::new(kind, error)
    }
}

/// What an incoming body asks of its connection. `request` is the connection's number for the request, by which it
/// knows a body that has outlived its response.
pub(crate) trait Connection {
    fn read_body(&self, request: u64, buf: &mut [u8]) -> io::Result<usize>;
    fn body_remaining(&self, request: u64) -> Option<u64>;
    fn peer_addr(&self) -> Addr;
    fn local_addr(&self) -> Option<Addr>;

    /// What a front server said of the request besides its head.
    fn vars(&self) -> Option<&Vars> {
        None
    }

    /// What else is known of where the requests come from.
    fn origin(&self) -> Origin<'_> {
        Origin::default()
    }

    /// What is known of the TLS connection, if it is one.
    fn tls(&self) -> Option<Rc<TlsInfo>> {
        None
    }

    /// The trailers of a body that was read to its end.
    fn trailers(&self, _request: u64) -> Option<HeaderMap> {
        None
    }

    /// Sends an interim response, encoded, before the final one.
    fn send_interim(&self, _request: u64, _head: &[u8]) -> io::Result<()> {
        Ok(())
    }

    /// Whether the client has left.
    fn has_left(&self, _request: u64, _how: Leaving) -> bool {
        false
    }

    /// Runs `f`, unwinding it when the client leaves: false then.
    fn unless_left(&self, _request: u64, _how: Leaving, f: &mut dyn FnMut()) -> bool {
        f();
        true
    }

    /// Whether the server is to stop.
    fn is_stopping(&self) -> bool {
        false
    }
}

/// A request's body: its connection and its number there.
pub(crate) struct Incoming {
    pub(crate) connection: Rc<dyn Connection>,
    pub(crate) request: u64,
}

impl From<Incoming> for Body {
    fn from(incoming: Incoming) -> Body {
        Kind::Incoming(incoming).into()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn bodies_of_known_length_say_so() {
        assert_eq!(Body::empty().length(), Some(0));
        assert_eq!(Body::from("abc").length(), Some(3));
        assert_eq!(Body::reader(io::empty(), Some(7)).length(), Some(7));
        assert_eq!(Body::reader(io::empty(), None).length(), None);
        assert_eq!(Body::stream(|_| Ok(())).length(), None);
        assert_eq!(Body::sized_stream(4, |_| Ok(())).length(), Some(4));
    }

    #[test]
    fn reading_counts_the_length_down() {
        let mut body = Body::from("hello");
        let mut two = [0; 2];
        body.read_exact(&mut two).unwrap();
        assert_eq!((&two, body.length()), (b"he", Some(3)));
    }

    #[test]
    fn a_reader_that_ends_early_is_an_error_not_a_short_body() {
        let mut body = Body::reader(&b"abc"[..], Some(5));
        let mut all = Vec::new();
        assert_eq!(body.read_to_end(&mut all).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_reader_is_read_no_further_than_its_length() {
        assert_eq!(&Body::reader(&b"abcdef"[..], Some(4)).into_bytes().unwrap()[..], b"abcd");
    }

    #[test]
    fn a_stream_that_breaks_its_word_is_an_error() {
        use std::io::Write;
        let short = Body::sized_stream(3, |out| out.write_all(b"ab"));
        assert_eq!(short.into_bytes().unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn chunks_are_read_in_order_and_only_when_there_is_room() {
        let asked = Rc::new(std::cell::Cell::new(0));
        let count = Rc::clone(&asked);
        let chunks = ["ab", "", "cde"].into_iter().inspect(move |_| count.set(count.get() + 1));
        let mut body = Body::chunks(chunks);
        assert_eq!((body.length(), asked.get()), (None, 0));
        let mut one = [0; 1];
        for (expected, by_then) in [(b"a", 1), (b"b", 1), (b"c", 3)] {
            body.read_exact(&mut one).unwrap();
            assert_eq!((&one, asked.get()), (expected, by_then));
        }
        assert_eq!(&body.into_bytes().unwrap()[..], b"de");
        let mut failing = Body::try_chunks([Ok("ab"), Err(BodyError::TooLarge)]);
        let error = failing.read_to_end(&mut Vec::new()).unwrap_err();
        assert_eq!(BodyError::of(&error), Some(BodyError::TooLarge));
    }

    #[test]
    fn body_errors_survive_the_trip_through_io_error() {
        let error = io::Error::from(BodyError::TooLarge);
        assert_eq!(BodyError::of(&error), Some(BodyError::TooLarge));
        assert_eq!(BodyError::of(&io::Error::other("else")), None);
    }

    #[test]
    fn a_limit_is_inclusive_and_what_crosses_it_stays_unreadable() {
        for length in [None, Some(5)] {
            let mut fits = Body::reader(&b"hello"[..], length);
            fits.limit(5).unwrap();
            fits.limit(9).unwrap();
            assert_eq!(&fits.into_bytes().unwrap()[..], b"hello");
        }
        let mut crossing = Body::reader(&b"hello"[..], None);
        crossing.limit(4).unwrap();
        for _ in 0..3 {
            let error = crossing.read(&mut [0; 16]).unwrap_err();
            assert_eq!(BodyError::of(&error), Some(BodyError::TooLarge));
        }
        let mut known = Body::from("hello");
        assert!(known.limit(4).is_err() && known.read(&mut [0; 1]).is_err() && known.into_bytes().is_err());
        let mut stream = Body::stream(|out| out.write_all(b"hello"));
        stream.limit(4).unwrap();
        assert!(stream.into_bytes().is_err());
    }
}
