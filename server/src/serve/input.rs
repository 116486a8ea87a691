//! The bytes that came from the client, and how far the current request's body was read. No I/O of its own.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};

use crate::app::BodyError;
use crate::http::chunked::{Decoder, Next};
use crate::http::framing::RequestBody;
use crate::http::{Extent, Limits, ParseError, Scanner};

/// What is read from the socket at once when nothing larger is asked for.
const BUFFER: usize = 8 * 1024;
/// With less room than this, a new buffer is taken (or the old one's front, if nobody holds heads in it any more).
const LEAST_ROOM: usize = 1024;

/// The receiving side of a connection.
#[derive(Debug)]
pub(crate) struct Input {
    /// `buffer[..end]` came and is not used up; what follows is initialised room.
    buffer: BytesMut,
    end: usize,
    scanner: Scanner,
    body: Body,
    /// The client waits for `100 Continue`, and has not got it.
    pub(crate) expects_continue: bool,
    /// How long reads of this body have waited in all.
    pub(crate) waited: Duration,
}

/// The current request's body.
#[derive(Debug)]
enum Body {
    Length(u64),
    Chunked(Decoder),
    Failed(BodyError),
}

/// What reading a body from the buffer came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// So many bytes were copied; 0: the body is complete.
    Read(usize),
    /// The buffer is used up. So many bytes may be read past it, straight into the reader's hands.
    NeedInput(u64),
}

impl Input {
    pub(crate) fn new() -> Input {
        Input {
            buffer: BytesMut::new(),
            end: 0,
            scanner: Scanner::default(),
            body: Body::Length(0),
            expects_continue: false,
            waited: Duration::ZERO,
        }
    }

    /// Whether bytes are there that nobody has used.
    pub(crate) fn is_empty(&self) -> bool {
        self.end == 0
    }

    /// Finds the next head. `None`: more input is needed.
    pub(crate) fn find_head(&mut self, limits: &Limits) -> Result<Option<(Bytes, Extent)>, ParseError> {
        if self.end == 0 {
            return Ok(None);
        }
        let Some(extent) = self.scanner.scan(&self.buffer[..self.end], limits)? else { return Ok(None) };
        self.use_up(extent.start);
        let length = extent.end - extent.start;
        self.end -= length;
        Ok(Some((self.buffer.split_to(length).freeze(), extent)))
    }

    /// Room for the next read; report it with [`Input::came`].
    pub(crate) fn room(&mut self) -> &mut [u8] {
        if self.buffer.len() - self.end < LEAST_ROOM {
            // Only the bytes in use are carried over, and room is initialised once per buffer, not per read.
            self.buffer.truncate(self.end);
            self.buffer.reserve(BUFFER.max(self.end));
            self.buffer.resize(self.buffer.capacity(), 0);
        }
        &mut self.buffer[self.end..]
    }

    pub(crate) fn came(&mut self, count: usize) {
        self.end += count;
    }

    /// A request begins whose body is framed so.
    pub(crate) fn begin_body(&mut self, framing: RequestBody, expects_continue: bool) {
        self.body = match framing {
            RequestBody::Length(length) => Body::Length(length),
            RequestBody::Chunked => Body::Chunked(Decoder::new()),
        };
        self.expects_continue = expects_continue;
        self.waited = Duration::ZERO;
    }

    /// Reads body from the buffer into `out`, which is not empty.
    pub(crate) fn read_body(&mut self, out: &mut [u8], limits: &Limits) -> Result<Step, BodyError> {
        match &mut self.body {
            Body::Length(0) => Ok(Step::Read(0)),
            Body::Length(left) if self.end == 0 => Ok(Step::NeedInput(*left)),
            Body::Length(left) => {
                let n = out.len().min(self.end).min(usize::try_from(*left).unwrap_or(usize::MAX));
                out[..n].copy_from_slice(&self.buffer[..n]);
                *left -= n as u64;
                self.use_up(n);
                Ok(Step::Read(n))
            }
            Body::Chunked(decoder) => {
                let (eaten, next) = match decoder.advance(&self.buffer[..self.end], limits) {
                    Ok(progress) => progress,
                    Err(error) => return Err(self.fail(BodyError::Malformed(error.reason()))),
                };
                let step = match next {
                    Next::More => Step::NeedInput(decoder.data_left()),
                    Next::End => Step::Read(0),
                    Next::Data(here) => {
                        let n = here.min(out.len());
                        out[..n].copy_from_slice(&self.buffer[eaten..eaten + n]);
                        decoder.took(n);
                        Step::Read(n)
                    }
                };
                let total = decoder.total();
                self.use_up(eaten + if let Step::Read(n) = step { n } else { 0 });
                if !limits.body_allows(total) {
                    return Err(self.fail(BodyError::TooLarge));
                }
                Ok(step)
            }
            Body::Failed(error) => Err(*error),
        }
    }

    /// `count` bytes of the body were read past the buffer, no more than [`Step::NeedInput`] allowed.
    pub(crate) fn read_past(&mut self, count: usize, limits: &Limits) -> Result<(), BodyError> {
        match &mut self.body {
            Body::Length(left) => *left = left.saturating_sub(count as u64),
            Body::Chunked(decoder) => {
                decoder.took(count);
                if !limits.body_allows(decoder.total()) {
                    return Err(self.fail(BodyError::TooLarge));
                }
            }
            Body::Failed(_) => {}
        }
        Ok(())
    }

    /// The body can't be read any further; every later read says so.
    pub(crate) fn fail(&mut self, error: BodyError) -> BodyError {
        self.body = Body::Failed(error);
        error
    }

    /// How much of the body was not read yet, if that is known.
    pub(crate) fn body_left(&self) -> Option<u64> {
        match &self.body {
            Body::Length(left) => Some(*left),
            Body::Chunked(decoder) if decoder.is_done() => Some(0),
            Body::Chunked(_) | Body::Failed(_) => None,
        }
    }

    /// Whether the body has failed, so that nothing behind it can be read.
    pub(crate) fn has_failed(&self) -> bool {
        matches!(self.body, Body::Failed(_))
    }

    fn use_up(&mut self, count: usize) {
        self.buffer.advance(count);
        self.end -= count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(input: &mut Input, bytes: &[u8]) {
        for piece in bytes.chunks(LEAST_ROOM) {
            input.room()[..piece.len()].copy_from_slice(piece);
            input.came(piece.len());
        }
    }

    #[test]
    fn heads_and_bodies_are_taken_off_in_order() {
        let limits = Limits::default();
        let mut input = Input::new();
        feed(&mut input, b"\r\nPOST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhelloGET / HTTP/1.0\r\n\r\n");
        let (head, _) = input.find_head(&limits).unwrap().unwrap();
        assert!(head.starts_with(b"POST") && head.ends_with(b"\r\n\r\n"));
        input.begin_body(RequestBody::Length(5), false);
        let mut out = [0; 3];
        assert_eq!(input.read_body(&mut out, &limits), Ok(Step::Read(3)));
        assert_eq!((&out, input.body_left()), (b"hel", Some(2)));
        assert_eq!(input.read_body(&mut out, &limits), Ok(Step::Read(2)));
        assert_eq!(input.read_body(&mut out, &limits), Ok(Step::Read(0)));
        assert!(input.find_head(&limits).unwrap().unwrap().0.starts_with(b"GET"));
        assert!(input.is_empty());
    }

    #[test]
    fn a_body_may_be_read_past_an_empty_buffer_up_to_its_end_only() {
        let limits = Limits::default();
        let mut input = Input::new();
        input.begin_body(RequestBody::Length(10), false);
        assert_eq!(input.read_body(&mut [0; 4], &limits), Ok(Step::NeedInput(10)));
        input.read_past(4, &limits).unwrap();
        assert_eq!(input.read_body(&mut [0; 4], &limits), Ok(Step::NeedInput(6)));
    }

    #[test]
    fn a_chunked_body_beyond_the_limit_fails_and_stays_failed() {
        let limits = Limits { request_body: 4, ..Limits::default() };
        let mut input = Input::new();
        input.begin_body(RequestBody::Chunked, false);
        feed(&mut input, b"3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n");
        assert_eq!(input.read_body(&mut [0; 9], &limits), Ok(Step::Read(3)));
        assert_eq!(input.read_body(&mut [0; 9], &limits), Err(BodyError::TooLarge));
        assert_eq!(input.read_body(&mut [0; 9], &limits), Err(BodyError::TooLarge));
        assert!(input.has_failed());
    }

    #[test]
    fn many_small_heads_reuse_one_buffer() {
        let limits = Limits::default();
        let mut input = Input::new();
        let mut places = std::collections::HashSet::new();
        for _ in 0..1000 {
            feed(&mut input, b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n");
            let (head, _) = input.find_head(&limits).unwrap().unwrap();
            places.insert(head.as_ptr() as usize / (4 * BUFFER));
        }
        assert!(places.len() <= 2, "{} buffers", places.len());
    }

    #[test]
    fn a_head_larger_than_the_buffer_makes_it_grow() {
        let limits = Limits { request_line: 0, ..Limits::default() };
        let mut input = Input::new();
        let long = format!("GET /{} HTTP/1.0\r\n\r\n", "x".repeat(3 * BUFFER));
        feed(&mut input, long.as_bytes());
        assert_eq!(input.find_head(&limits).unwrap().unwrap().0, long);
    }
}
