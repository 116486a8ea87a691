//! Bodies, in both directions.

use std::error::Error;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::rc::Rc;

use ::http::StatusCode;
use bytes::{Buf, Bytes};

use super::Addr;

/// The body of a request or of a response.
///
/// A request's body is read with [`std::io::Read`]; it comes from the connection as it is read, nothing is read ahead of
/// the handler. Reading it to its end gives exactly the body that the client announced: one that stops short, or whose
/// chunks are malformed, is an error (see [`BodyError`]) and never a silent short body. Once the response is finished the
/// rest of the body is gone, and reading on is an error.
///
/// A response's body is bytes, a file, a reader, or a closure that writes. A body whose length is known is sent with
/// `Content-Length`; any other is sent chunked to an HTTP/1.1 client, and ends with the connection for HTTP/1.0.
#[derive(Default)]
pub struct Body {
    kind: Kind,
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
    File {
        file: File,
        offset: u64,
        length: u64,
    },
    Incoming(Incoming),
}

impl Kind {
    /// See [`Body::length`].
    pub(crate) fn length(&self) -> Option<u64> {
        match self {
            Kind::Empty => Some(0),
            Kind::Bytes(bytes) => Some(bytes.len() as u64),
            Kind::Reader { length, .. } | Kind::Stream { length, .. } => *length,
            Kind::File { length, .. } => Some(*length),
            Kind::Incoming(incoming) => incoming.connection.body_remaining(incoming.request),
        }
    }
}

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
    /// [`flush`](BodyWriter::flush). If it fails or panics the connection is torn down in a way that tells the client
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

    /// `length` bytes of `file` from `offset` on, sent by `sendfile(2)`. The file's own position is not moved.
    ///
    /// A file that turns out shorter than `offset + length` breaks its word as in [`Body::sized_stream`].
    pub fn file(file: File, offset: u64, length: u64) -> Body {
        Kind::File { file, offset, length }.into()
    }

    /// How many bytes are still to come, if that is known: never for a chunked request or a stream without length.
    pub fn length(&self) -> Option<u64> {
        self.kind.length()
    }

    /// Takes the whole body into memory, whatever it is made of: a request's is read to its end, a stream's closure is
    /// run. The only bound on a request's size is the server's `limit_request_body`.
    ///
    /// # Errors
    /// Those of reading (see [`Body`]'s `Read`), those of the stream's closure, and `InvalidData` for a stream that wrote
    /// more or less than the length it had stated.
    pub fn into_bytes(self) -> io::Result<Bytes> {
        match self.kind {
            Kind::Empty => Ok(Bytes::new()),
            Kind::Bytes(bytes) => Ok(bytes),
            Kind::Stream { write, length } => {
                let mut all = Vec::new();
                write(&mut BodyWriter::new(&mut all))?;
                match length {
                    Some(stated) if stated != all.len() as u64 => Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        format!("a body of stated length {stated} wrote {} bytes", all.len()),
                    )),
                    _ => Ok(all.into()),
                }
            }
            kind => {
                let mut all = Vec::new();
                Body { kind }.read_to_end(&mut all)?;
                Ok(all.into())
            }
        }
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
        match &mut self.kind {
            Kind::Empty => Ok(0),
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
        Body { kind }
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
            Kind::File { .. } => "file",
            Kind::Incoming(_) => "incoming",
        };
        f.debug_struct("Body").field("kind", &kind).field("length", &self.length()).finish()
    }
}

/// Where a [`Body::stream`] closure writes. It is given one; in a test one can be made over any writer.
///
/// Small writes are gathered. An empty write does nothing (in particular it does not end the body).
pub struct BodyWriter<'a> {
    out: &'a mut dyn Write,
}

impl<'a> BodyWriter<'a> {
    /// Writes to `out`; `flush` is passed on.
    pub fn new(out: &'a mut dyn Write) -> BodyWriter<'a> {
        BodyWriter { out }
    }
}

/// Writing parks while the client reads slowly. `BrokenPipe` or `ConnectionReset` mean that the client has left,
/// `TimedOut` that it took nothing for the server's write timeout, `InvalidData` that more was written than the stated
/// length: return such an error from the closure, there is nobody to write to.
impl Write for BodyWriter<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        self.out.write(buf)
    }

    /// Sends what was gathered, so that the client sees it now.
    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl fmt::Debug for BodyWriter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodyWriter").finish_non_exhaustive()
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
    /// The body is larger than `limit_request_body`: 413.
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
            BodyError::TooLarge => f.write_str("the request body is larger than limit_request_body allows"),
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
        let short = Body::sized_stream(3, |out| out.write_all(b"ab"));
        assert_eq!(short.into_bytes().unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn body_errors_survive_the_trip_through_io_error() {
        let error = io::Error::from(BodyError::TooLarge);
        assert_eq!(BodyError::of(&error), Some(BodyError::TooLarge));
        assert_eq!(BodyError::of(&io::Error::other("else")), None);
    }

    #[test]
    fn an_empty_write_reaches_nobody() {
        struct Fail;
        impl Write for Fail {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::Error::other("written"))
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut fail = Fail;
        let mut out = BodyWriter::new(&mut fail);
        assert_eq!(out.write(b"").unwrap(), 0);
        assert!(out.write(b"x").is_err());
    }
}
