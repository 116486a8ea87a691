//! Where a streamed body is written.

use std::fmt;
use std::io::{self, Write};

use ::http::{HeaderMap, HeaderName, HeaderValue};

use crate::http::may_be_trailer;

/// Where a [`Body::stream`](super::Body::stream) closure writes. It is given one; in a test one can be made over any writer.
///
/// Small writes are gathered. An empty write does nothing (in particular it does not end the body).
pub struct BodyWriter<'a> {
    out: &'a mut dyn Write,
    /// Boxed, for few bodies have any.
    trailers: Option<Box<HeaderMap>>,
}

impl<'a> BodyWriter<'a> {
    /// Writes to `out`; `flush` is passed on.
    pub fn new(out: &'a mut dyn Write) -> BodyWriter<'a> {
        BodyWriter { out, trailers: None }
    }

    /// Adds a field that is to follow the body, such as a checksum of it (a trailer; RFC 9110, 6.5).
    ///
    /// It is sent if the response has announced it in its one `Trailer` header (a list, with commas), the client has said `TE: trailers`, and the body is
    /// sent chunked (HTTP/1.1, no length stated). If not it is dropped without a word, as any proxy on the way may do: a
    /// trailer must never be all that a client relies on.
    ///
    /// ```
    /// use std::io::Write;
    /// use greenserve::{Body, IntoResponse, Request, Response};
    ///
    /// fn app(_req: Request) -> Response {
    ///     let body = Body::stream(|out| {
    ///         out.write_all(b"hello")?;
    ///         out.trailer("x-length", "5")
    ///     });
    ///     ([("trailer", "x-length")], body).into_response()
    /// }
    /// ```
    ///
    /// # Errors
    /// `InvalidInput` if it is no valid field, or one that means something only before the body (`Content-Type`, `Set-Cookie`,
    /// whatever concerns framing, routing or authentication).
    pub fn trailer(&mut self, name: &str, value: impl AsRef<[u8]>) -> io::Result<()> {
        let invalid = |what: &str| {
            let what = format!("{name:?} can't be a trailer: {what}");
            Err(io::Error::new(io::ErrorKind::InvalidInput, what))
        };
        let Ok(field) = HeaderName::try_from(name) else { return invalid("it is no field name") };
        let Ok(value) = HeaderValue::from_bytes(value.as_ref()) else {
            return invalid("there is a control character in its value");
        };
        if !may_be_trailer(field.as_str()) {
            return invalid("it means something only before the body; set it as a header");
        }
        self.trailers.get_or_insert_default().append(field, value);
        Ok(())
    }

    /// What is to follow the body.
    pub(crate) fn take_trailers(&mut self) -> Option<Box<HeaderMap>> {
        self.trailers.take()
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

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn what_cannot_be_a_trailer_is_an_error() {
        let mut sink = io::sink();
        let mut out = BodyWriter::new(&mut sink);
        for (name, value) in
            [("", "1"), ("a b", "1"), ("x-a", "1\r\nx-evil: 2"), ("Content-Length", "1"), ("set-cookie", "a")]
        {
            assert_eq!(out.trailer(name, value).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{name:?}");
        }
        assert!(out.take_trailers().is_none());
        out.trailer("x-sum", "1").unwrap();
        assert_eq!(out.take_trailers().unwrap()["x-sum"], "1");
    }
}
