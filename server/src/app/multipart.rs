//! `multipart/form-data` (RFC 7578), part by part. The `multer` crate takes it apart; it is made for streams that may not be
//! ready, and is fed here from a body that blocks, whenever it has used up what it got.

use std::fmt;
use std::io::{self, Read};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use ::http::{HeaderMap, StatusCode};
use bytes::{Buf, Bytes};
use futures_core::Stream;

use super::extract::MOST;
use super::{Body, BodyError, Error, Request};

/// How much is read of the body at once.
const PIECE: usize = 16 * 1024;
/// How much may stand before a part's content: its header fields, or what comes before the first part.
const MOST_HEAD: usize = 64 * 1024;

impl Request {
    /// The body, which is a form with files (`multipart/form-data`), part by part as it comes in. How large it may be in all
    /// is the affair of [`limit_body`](super::limit_body) and the server.
    ///
    /// # Errors
    /// 415 if the body says that it is something else, 400 if it does not say what stands between its parts.
    ///
    /// ```
    /// use greenserve::{Error, Request};
    ///
    /// fn upload(mut req: Request) -> Result<String, Error> {
    ///     let mut form = req.multipart()?;
    ///     let mut said = String::new();
    ///     while let Some(mut part) = form.next_part()? {
    ///         match part.file_name().map(str::to_owned) {
    ///             None => said += &part.text()?,
    ///             Some(name) => said += &format!("{name}: {} bytes", std::io::copy(&mut part, &mut std::io::sink())?),
    ///         }
    ///     }
    ///     Ok(said)
    /// }
    /// ```
    pub fn multipart(&mut self) -> Result<Multipart<'_>, Error> {
        let field =
            self.header("content-type").and_then(|field| str::from_utf8(field).ok()).unwrap_or_default();
        let boundary = multer::parse_boundary(field).map_err(|error| match error {
            multer::Error::NoBoundary => {
                Error::new(StatusCode::BAD_REQUEST, "the Content-Type names no boundary")
            }
            _ => Error::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "the body must come with the Content-Type multipart/form-data",
            ),
        })?;
        let queue = Queue::default();
        let parser = multer::Multipart::new(queue.clone(), boundary);
        Ok(Multipart { parser, queue, body: self.body_mut(), part: None, left: Bytes::new() })
    }
}

/// A form with files, of which the parts come one after the other; see [`Request::multipart`].
pub struct Multipart<'b> {
    parser: multer::Multipart<'static>,
    queue: Queue,
    body: &'b mut Body,
    /// The one that is being read.
    part: Option<multer::Field<'static>>,
    /// What was taken out of it and not read yet.
    left: Bytes,
}

impl<'b> Multipart<'b> {
    /// The next part. What was not read of the one before is read away. Parks until the head of the part has come; `None` after
    /// the last.
    ///
    /// # Errors
    /// Those of reading the body, and [`BodyError::Malformed`], which is answered with 400.
    pub fn next_part(&mut self) -> io::Result<Option<Part<'_, 'b>>> {
        while self.fill()? {
            self.left.clear();
        }
        self.part = None;
        let mut fed = 0;
        let found = loop {
            match self.parser.poll_next_field(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(found) => break found.map_err(malformed)?,
                Poll::Pending if fed > MOST_HEAD => {
                    return Err(BodyError::Malformed("the head of a form's part is too long").into());
                }
                Poll::Pending => fed += self.feed()?,
            }
        };
        self.part = found;
        Ok(self.part.is_some().then_some(Part { form: self }))
    }

    /// Sees to it that something is `left` to read. `false`: the part ends here.
    fn fill(&mut self) -> io::Result<bool> {
        while self.left.is_empty() {
            let Some(part) = &mut self.part else { return Ok(false) };
            match Pin::new(part).poll_next(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(Some(Ok(piece))) => self.left = piece,
                Poll::Ready(None) => return Ok(false),
                Poll::Ready(Some(Err(error))) => return Err(malformed(error)),
                Poll::Pending => drop(self.feed()?),
            }
        }
        Ok(true)
    }

    /// Has the parser get more of the body; says how much.
    fn feed(&mut self) -> io::Result<usize> {
        let mut piece = vec![0; PIECE];
        let count = self.body.read(&mut piece)?;
        piece.truncate(count);
        self.queue.put(if count == 0 { Next::End } else { Next::Piece(piece.into()) });
        Ok(count)
    }
}

/// Not for the client to see in its words: they tell of the parser.
fn malformed(error: multer::Error) -> io::Error {
    log::debug!("a form that can't be taken apart: {error}");
    BodyError::Malformed(match error {
        multer::Error::IncompleteStream | multer::Error::IncompleteFieldData { .. } => {
            "the form ends before its last boundary"
        }
        multer::Error::IncompleteHeaders | multer::Error::ReadHeaderFailed(_) => {
            "the head of a form's part is malformed"
        }
        _ => "the form is no multipart/form-data",
    })
    .into()
}

/// A part of a form: a field or a file. Its content is [read](Read), or taken whole by [`text`](Part::text) and
/// [`bytes`](Part::bytes).
pub struct Part<'m, 'b> {
    form: &'m mut Multipart<'b>,
}

impl Part<'_, '_> {
    /// The name of the form's field.
    pub fn name(&self) -> Option<&str> {
        self.form.part.as_ref()?.name()
    }

    /// The file's name, if it is one, as the client has chosen it: there may be a path in it, so it is no name to store the
    /// file by.
    pub fn file_name(&self) -> Option<&str> {
        self.form.part.as_ref()?.file_name()
    }

    /// What the client says that it is.
    pub fn content_type(&self) -> Option<&str> {
        Some(self.form.part.as_ref()?.content_type()?.as_ref())
    }

    /// All header fields of the part.
    pub fn headers(&self) -> Option<&HeaderMap> {
        Some(self.form.part.as_ref()?.headers())
    }

    /// The whole content: up to 2 MiB, or what the body's limit allows if one was set.
    ///
    /// # Errors
    /// [`BodyError::TooLarge`], and those of reading the body.
    pub fn bytes(mut self) -> io::Result<Vec<u8>> {
        let most = if self.form.body.is_limited() { u64::MAX } else { MOST };
        let mut all = Vec::new();
        if (&mut self).take(most).read_to_end(&mut all)? as u64 == most && self.form.fill()? {
            return Err(BodyError::TooLarge.into());
        }
        Ok(all)
    }

    /// The whole content, which is text in UTF-8; as [`Part::bytes`].
    ///
    /// # Errors
    /// [`BodyError::Malformed`] if it is not UTF-8, and those of [`Part::bytes`].
    pub fn text(self) -> io::Result<String> {
        let text = String::from_utf8(self.bytes()?);
        text.map_err(|_| BodyError::Malformed("a form's text is not UTF-8").into())
    }
}

/// Parks until some of the content is there. `Ok(0)`: the part is whole.
impl Read for Part<'_, '_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() || !self.form.fill()? {
            return Ok(0);
        }
        let count = buf.len().min(self.form.left.len());
        self.form.left.copy_to_slice(&mut buf[..count]);
        Ok(count)
    }
}

impl fmt::Debug for Multipart<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Multipart").finish_non_exhaustive()
    }
}

impl fmt::Debug for Part<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Part").field("name", &self.name()).field("file_name", &self.file_name()).finish()
    }
}

/// What the parser gets to see next.
#[derive(Default)]
enum Next {
    #[default]
    Nothing,
    Piece(Bytes),
    End,
}

/// One place between the body and the parser. The lock is there because the parser wants to be `Send`; nobody waits for it.
#[derive(Clone, Default)]
struct Queue(Arc<Mutex<Next>>);

impl Queue {
    fn put(&self, next: Next) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = next;
    }
}

impl Stream for Queue {
    type Item = Result<Bytes, io::Error>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut next = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::take(&mut *next) {
            Next::Nothing => Poll::Pending,
            Next::Piece(piece) => Poll::Ready(Some(Ok(piece))),
            Next::End => {
                *next = Next::End;
                Poll::Ready(None)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORM: &str = "preamble\r\n--X\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\none\r\n\
        --X\r\nContent-Disposition: form-data; name=\"f\"; filename=\"../x.bin\"\r\nContent-Type: image/png\r\n\r\n\
        \r\n--Y\r\n--\0\r\n--X\r\nContent-Disposition: form-data; name=\"empty\"\r\n\r\n\r\n--X--\r\nepilogue";

    /// A body that comes in pieces of at most `at_once`.
    fn request(form: &str, at_once: usize) -> Request {
        struct Slow(io::Cursor<Vec<u8>>, usize);
        impl Read for Slow {
            fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
                let most = buf.len().min(self.1);
                self.0.read(&mut buf[..most])
            }
        }
        let body = Body::reader(Slow(io::Cursor::new(form.as_bytes().to_vec()), at_once), None);
        let request = ::http::Request::post("/").header("content-type", "multipart/form-data; boundary=X");
        request.body(body).unwrap().into()
    }

    fn parts(req: &mut Request) -> Result<Vec<String>, Error> {
        let mut form = req.multipart()?;
        let mut all = Vec::new();
        while let Some(part) = form.next_part()? {
            let about = format!("{:?} {:?} {:?}", part.name(), part.file_name(), part.content_type());
            all.push(format!("{about} {:?}", part.text()?));
        }
        Ok(all)
    }

    #[test]
    fn parts_come_in_order_however_the_body_comes() {
        for at_once in [1, 2, 7, 100, 10_000] {
            assert_eq!(
                parts(&mut request(FORM, at_once)).unwrap(),
                [
                    "Some(\"a\") None None \"one\"",
                    "Some(\"f\") Some(\"../x.bin\") Some(\"image/png\") \"\\r\\n--Y\\r\\n--\\0\"",
                    "Some(\"empty\") None None \"\"",
                ],
                "{at_once} at once"
            );
        }
    }

    #[test]
    fn what_is_not_read_of_a_part_is_no_part_of_the_next() {
        for at_once in [1, 5, 10_000] {
            let mut req = request(FORM, at_once);
            let mut form = req.multipart().unwrap();
            assert_eq!(form.next_part().unwrap().unwrap().name(), Some("a"));
            let mut file = form.next_part().unwrap().unwrap();
            file.read_exact(&mut [0; 3]).unwrap();
            assert_eq!(form.next_part().unwrap().unwrap().name(), Some("empty"));
            assert!(form.next_part().unwrap().is_none());
            assert!(form.next_part().unwrap().is_none());
        }
    }

    #[test]
    fn a_form_that_is_cut_off_or_malformed_is_the_clients_error() {
        for end in (0..FORM.len() - "epilogue".len() - 4).filter(|end| FORM.is_char_boundary(*end)) {
            let error = parts(&mut request(&FORM[..end], 10)).unwrap_err();
            assert_eq!(error.status(), 400, "cut at {end}: {error}");
        }
        assert_eq!(parts(&mut request("--X\r\nno header\r\n\r\nx\r\n--X--", 9)).unwrap_err().status(), 400);
        let mut other = Request::new(Body::empty());
        assert_eq!(other.multipart().unwrap_err().status(), 415);
        other.headers_mut().insert("content-type", "multipart/form-data".parse().unwrap());
        assert_eq!(other.multipart().unwrap_err().status(), 400);
    }

    #[test]
    fn nothing_before_a_parts_content_may_grow_without_end() {
        for beginning in ["", "--X\r\nX-A: "] {
            let form = beginning.to_owned() + &"x".repeat(10 * MOST_HEAD);
            let error = parts(&mut request(&form, PIECE)).unwrap_err();
            assert!(error.to_string().contains("too long"), "{error}");
        }
    }

    #[test]
    fn a_part_taken_whole_has_the_limit_of_any_body_and_a_read_one_has_none() {
        let most = usize::try_from(MOST).unwrap();
        let form = |length| {
            format!("--X\r\nContent-Disposition: form-data; name=a\r\n\r\n{}\r\n--X--", "x".repeat(length))
        };
        assert!(parts(&mut request(&form(most), PIECE)).is_ok());
        assert_eq!(parts(&mut request(&form(most + 1), PIECE)).unwrap_err().status(), 413);
        let mut raised = request(&form(most + 1), PIECE);
        raised.body_mut().limit(2 * MOST).unwrap();
        assert!(parts(&mut raised).is_ok());
        raised = request(&form(3 * most), PIECE);
        let mut form = raised.multipart().unwrap();
        let copied = io::copy(&mut form.next_part().unwrap().unwrap(), &mut io::sink()).unwrap();
        assert_eq!(copied, 3 * MOST);
    }

    #[test]
    fn a_body_beyond_its_limit_is_too_large_in_the_midst_of_a_part() {
        let mut req = request(FORM, 10);
        req.body_mut().limit(120).unwrap();
        assert_eq!(parts(&mut req).unwrap_err().status(), 413);
    }
}
