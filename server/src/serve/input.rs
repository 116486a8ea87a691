//! The bytes that came from the client, and how far the current request's body was read. No I/O of its own.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use ::http::HeaderMap;

use super::uwsgi::Protocol;
use crate::app::{BodyError, Came, came};
use crate::http::chunked::{Decoder, Next};
use crate::http::framing::RequestBody;
use crate::http::uwsgi::{self, Vars};
use crate::http::{Found, HeadReader, KnownFields, Limits, ParseError};

/// An empty buffer that has grown beyond this is not kept.
const KEEP: usize = 16 * 1024;

thread_local! {
    static KNOWN: RefCell<KnownFields> = const { RefCell::new(KnownFields::new()) };
}

/// The receiving side of a connection.
#[derive(Debug)]
pub(crate) struct Input {
    /// `buffer[at..]` came and is not used up. Most requests come whole and are never in here.
    buffer: Vec<u8>,
    at: usize,
    reader: Reader,
    body: Body,
    /// The client waits for `100 Continue`, and has not got it.
    pub(crate) expects_continue: bool,
    /// How long reads of this body have waited in all.
    pub(crate) waited: Duration,
    /// How many bytes those reads have brought, framing included.
    pub(crate) received: u64,
}

/// What looks for heads.
#[derive(Debug)]
enum Reader {
    Http(HeadReader),
    /// With what has come besides the head that was found or refused.
    Uwsgi(Option<Vars>),
}

/// The current request's body.
#[derive(Debug)]
enum Body {
    Length(u64),
    Chunked(Decoder),
    Failed(BodyError),
}

/// What looking for a head has come to; `None`: more input is needed.
pub(crate) type Search = Result<Option<Rc<Came>>, Refused>;

/// A head that is refused, with its bytes if it could be made out.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) why: ParseError,
    pub(crate) head: Option<Box<[u8]>>,
}

impl From<ParseError> for Refused {
    fn from(why: ParseError) -> Refused {
        Refused { why, head: None }
    }
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
    pub(crate) fn new(protocol: Protocol) -> Input {
        let reader = match protocol {
            Protocol::Http => Reader::Http(HeadReader::default()),
            Protocol::Uwsgi => Reader::Uwsgi(None),
        };
        Input {
            buffer: Vec::new(),
            at: 0,
            reader,
            body: Body::Length(0),
            expects_continue: false,
            waited: Duration::ZERO,
            received: 0,
        }
    }

    /// Whether no bytes are there that nobody has used.
    pub(crate) fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Finds the next head in what has come before; its request begins. `None`: more input is needed.
    #[inline]
    pub(crate) fn find_head(&mut self, limits: &Limits) -> Search {
        if self.is_empty() {
            return Ok(None);
        }
        let Some((came, end)) = find(&mut self.reader, &self.buffer[self.at..], limits)? else {
            return Ok(None);
        };
        self.use_up(end);
        self.begin_body(&came);
        Ok(Some(came))
    }

    /// Takes in what has just come, and finds the next head; its request begins. `None`: more input is needed.
    #[inline]
    pub(crate) fn find_head_in(&mut self, bytes: &[u8], limits: &Limits) -> Search {
        if !self.is_empty() {
            self.came(bytes);
            return self.find_head(limits);
        }
        let (came, end) = match find(&mut self.reader, bytes, limits) {
            Ok(Some(found)) => found,
            Ok(None) => {
                self.came(bytes);
                return Ok(None);
            }
            Err(refused) => {
                self.came(bytes);
                return Err(refused);
            }
        };
        if end < bytes.len() {
            self.came(&bytes[end..]);
        }
        self.begin_body(&came);
        Ok(Some(came))
    }

    /// Keeps what has just come.
    pub(crate) fn came(&mut self, bytes: &[u8]) {
        if self.at > self.buffer.len() / 2 {
            self.buffer.drain(..self.at);
            self.at = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// Whether what has come begins with a request of the method HEAD, be it one that is refused.
    pub(crate) fn asks_for_head(&self) -> bool {
        let bytes = &self.buffer[self.at..];
        bytes.strip_prefix(b"\r\n").unwrap_or(bytes).starts_with(b"HEAD ")
    }

    /// Forgets all that has come; nothing is looked for any more.
    pub(crate) fn discard(&mut self) {
        *self = Input::new(Protocol::Http);
    }

    /// What came with the head that was found or refused last, besides it.
    pub(crate) fn take_vars(&mut self) -> Option<Vars> {
        match &mut self.reader {
            Reader::Http(_) => None,
            Reader::Uwsgi(vars) => vars.take(),
        }
    }

    /// A request begins: what comes next is its body.
    fn begin_body(&mut self, came: &Came) {
        let head = came.head();
        self.body = match head.body {
            RequestBody::Length(length) => Body::Length(length),
            RequestBody::Chunked => Body::Chunked(Decoder::new()),
        };
        self.expects_continue = head.expect_continue;
        self.waited = Duration::ZERO;
        self.received = 0;
    }

    /// Reads body from the buffer into `out`, which is not empty.
    pub(crate) fn read_body(&mut self, out: &mut [u8], limits: &Limits) -> Result<Step, BodyError> {
        match &mut self.body {
            Body::Length(0) => Ok(Step::Read(0)),
            Body::Length(left) if self.buffer.is_empty() => Ok(Step::NeedInput(*left)),
            Body::Length(left) => {
                let here = &self.buffer[self.at..];
                let n = out.len().min(here.len()).min(usize::try_from(*left).unwrap_or(usize::MAX));
                out[..n].copy_from_slice(&here[..n]);
                *left -= n as u64;
                self.use_up(n);
                Ok(Step::Read(n))
            }
            Body::Chunked(decoder) => {
                let (eaten, next) = match decoder.advance(&self.buffer[self.at..], limits) {
                    Ok(progress) => progress,
                    Err(error) => return Err(self.fail(BodyError::Malformed(error.reason()))),
                };
                let step = match next {
                    Next::More => Step::NeedInput(decoder.data_left()),
                    Next::End => Step::Read(0),
                    Next::Data(here) => {
                        let n = here.min(out.len());
                        out[..n].copy_from_slice(&self.buffer[self.at + eaten..][..n]);
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

    /// Takes what has come, whatever it is: for a connection that speaks another protocol. 0: there is nothing.
    pub(crate) fn take(&mut self, out: &mut [u8]) -> usize {
        let here = &self.buffer[self.at..];
        let count = out.len().min(here.len());
        out[..count].copy_from_slice(&here[..count]);
        if count > 0 {
            self.use_up(count);
        }
        count
    }

    /// What comes from now on is no HTTP: no body can be read, and no head found.
    pub(crate) fn leave_http(&mut self) {
        self.body = Body::Failed(BodyError::Finished);
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

    /// The body's trailers, once it was read to its end.
    pub(crate) fn trailers(&self) -> Option<HeaderMap> {
        match &self.body {
            Body::Length(0) => Some(HeaderMap::new()),
            Body::Chunked(decoder) if decoder.is_done() => {
                Some(decoder.trailers().cloned().unwrap_or_default())
            }
            _ => None,
        }
    }

    /// Whether the body has failed, so that nothing behind it can be read.
    pub(crate) fn has_failed(&self) -> bool {
        matches!(self.body, Body::Failed(_))
    }

    fn use_up(&mut self, count: usize) {
        self.at += count;
        if self.at == self.buffer.len() {
            self.at = 0;
            self.buffer.clear();
            if self.buffer.capacity() > KEEP {
                self.buffer = Vec::new();
            }
        }
    }
}

/// Finds the head that `bytes` begin with, and its length with all that stands before it.
#[inline(always)]
fn find(reader: &mut Reader, bytes: &[u8], limits: &Limits) -> Result<Option<(Rc<Came>, usize)>, Refused> {
    let reader = match reader {
        Reader::Http(reader) => reader,
        Reader::Uwsgi(vars) => return find_packet(vars, bytes, limits),
    };
    match KNOWN.with_borrow_mut(|known| reader.read_whole(bytes, limits, known)) {
        Some((head, end)) => Ok(Some((came(&bytes[..end], head), end))),
        None => find_slowly(reader, bytes, limits),
    }
}

#[cold]
#[inline(never)]
fn find_slowly(
    reader: &mut HeadReader,
    bytes: &[u8],
    limits: &Limits,
) -> Result<Option<(Rc<Came>, usize)>, Refused> {
    let found = KNOWN.with_borrow_mut(|known| reader.read_slowly(bytes, limits, known))?;
    let Some(Found { extent, head }) = found else { return Ok(None) };
    let end = extent.end;
    let bytes = &bytes[extent];
    match head {
        Ok(head) => Ok(Some((came(bytes, head), end))),
        Err(why) => Err(Refused { why, head: Some(bytes.into()) }),
    }
}

/// Finds the packet that `bytes` begin with, and the head that it comes to.
#[cold]
#[inline(never)]
fn find_packet(
    place: &mut Option<Vars>,
    bytes: &[u8],
    limits: &Limits,
) -> Result<Option<(Rc<Came>, usize)>, Refused> {
    let Some((vars, end)) = uwsgi::read(bytes)? else { return Ok(None) };
    let bytes = place.insert(vars).head()?;
    let Found { extent, head } = KNOWN
        .with_borrow_mut(|known| HeadReader::default().read(&bytes, limits, known))?
        .ok_or(ParseError::Incomplete)?;
    let bytes = &bytes[extent];
    match head {
        Ok(mut head) => {
            // What the client said of these was said to the front server, which has seen to them.
            head.keep_alive = false;
            head.expect_continue = false;
            Ok(Some((came(bytes, head), end)))
        }
        Err(why) => Err(Refused { why, head: Some(bytes.into()) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(input: &mut Input, bytes: &[u8]) {
        bytes.chunks(1000).for_each(|piece| input.came(piece));
    }

    #[test]
    fn heads_and_bodies_are_taken_off_in_order() {
        let limits = Limits::default();
        let mut input = Input::new(Protocol::Http);
        feed(&mut input, b"\r\nPOST / HTTP/1.0\r\nContent-Length: 5\r\n\r\nhelloGET / HTTP/1.0\r\n\r\n");
        let head = input.find_head(&limits).unwrap().unwrap();
        assert!(head.bytes().starts_with(b"POST") && head.bytes().ends_with(b"\r\n\r\n"));
        let mut out = [0; 3];
        assert_eq!(input.read_body(&mut out, &limits), Ok(Step::Read(3)));
        assert_eq!((&out, input.body_left()), (b"hel", Some(2)));
        assert_eq!(input.read_body(&mut out, &limits), Ok(Step::Read(2)));
        assert_eq!(input.read_body(&mut out, &limits), Ok(Step::Read(0)));
        assert!(input.find_head(&limits).unwrap().unwrap().bytes().starts_with(b"GET"));
        assert!(input.is_empty());
    }

    #[test]
    fn a_body_may_be_read_past_an_empty_buffer_up_to_its_end_only() {
        let limits = Limits::default();
        let mut input = Input::new(Protocol::Http);
        input.body = Body::Length(10);
        assert_eq!(input.read_body(&mut [0; 4], &limits), Ok(Step::NeedInput(10)));
        input.read_past(4, &limits).unwrap();
        assert_eq!(input.read_body(&mut [0; 4], &limits), Ok(Step::NeedInput(6)));
    }

    #[test]
    fn a_chunked_body_beyond_the_limit_fails_and_stays_failed() {
        let limits = Limits { request_body: 4, ..Limits::default() };
        let mut input = Input::new(Protocol::Http);
        input.body = Body::Chunked(Decoder::new());
        feed(&mut input, b"3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n");
        assert_eq!(input.read_body(&mut [0; 9], &limits), Ok(Step::Read(3)));
        assert_eq!(input.read_body(&mut [0; 9], &limits), Err(BodyError::TooLarge));
        assert_eq!(input.read_body(&mut [0; 9], &limits), Err(BodyError::TooLarge));
        assert!(input.has_failed());
    }

    #[test]
    fn a_request_that_comes_whole_leaves_nothing_in_the_buffer() {
        let limits = Limits::default();
        let mut input = Input::new(Protocol::Http);
        let head = input.find_head_in(b"\r\nGET / HTTP/1.0\r\n\r\n", &limits).unwrap().unwrap();
        assert_eq!(head.bytes(), b"GET / HTTP/1.0\r\n\r\n");
        assert!(input.is_empty());
        assert_eq!(input.buffer.capacity(), 0);
    }

    #[test]
    fn what_comes_in_pieces_or_ahead_is_kept_in_order() {
        let limits = Limits::default();
        let mut input = Input::new(Protocol::Http);
        assert!(input.find_head_in(b"GET /a HTTP/1.0\r\n", &limits).unwrap().is_none());
        let head = input.find_head_in(b"\r\nGET /b HT", &limits).unwrap().unwrap();
        assert!(head.bytes().starts_with(b"GET /a"));
        assert!(input.find_head(&limits).unwrap().is_none());
        let head = input.find_head_in(b"TP/1.0\r\n\r\nGET /c HTTP/1.0\r\n\r\n", &limits).unwrap().unwrap();
        assert!(head.bytes().starts_with(b"GET /b"));
        assert!(input.find_head(&limits).unwrap().unwrap().bytes().starts_with(b"GET /c"));
        assert!(input.is_empty());
    }

    #[test]
    fn a_large_buffer_is_not_kept_when_it_is_used_up() {
        let limits = Limits { request_line: 0, ..Limits::default() };
        let mut input = Input::new(Protocol::Http);
        let long = format!("GET /{} HTTP/1.0\r\n\r\n", "x".repeat(3 * KEEP));
        feed(&mut input, long.as_bytes());
        assert_eq!(input.find_head(&limits).unwrap().unwrap().bytes(), long.as_bytes());
        assert_eq!(input.buffer.capacity(), 0);
    }
}
