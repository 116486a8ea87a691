//! Telling answers apart without parsing them.

use std::io::{self, Read};
use std::net::{SocketAddr, TcpStream};

use super::PATIENCE;
use crate::load::Client;

/// How a server's answers to one request look, learnt from the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status line's first bytes: `HTTP/1.1 200`.
    pub(super) start: [u8; START],
    /// Bytes of head and body. `None` if the answer is chunked: then it ends with the empty chunk.
    pub(super) length: Option<usize>,
}

pub(super) const START: usize = 12;

/// How a chunked answer ends; the bodies that are measured don't contain it.
pub(super) const LAST_CHUNK: &[u8; 5] = b"0\r\n\r\n";

impl Answer {
    /// Of a server that has not been asked yet: nothing is like it.
    pub const NONE: Answer = Answer { start: [0; START], length: None };

    /// Bytes of head and body; `None` if it is chunked.
    pub fn length(&self) -> Option<usize> {
        self.length
    }

    /// Asks once, parses the whole answer and demands status 200.
    ///
    /// # Errors
    ///
    /// If there is no answer, or another than 200, or one of another length than `expected`.
    pub fn learn(address: SocketAddr, request: &[u8], expected: Option<u64>) -> io::Result<Answer> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut client = Client::new(Recording { stream, seen: Vec::new() });
        let summary = client
            .send(request)
            .and_then(|()| client.receive())
            .map_err(|failure| io::Error::other(format!("the first request failed: {failure}")))?;
        if summary.status != 200 {
            return Err(io::Error::other(format!("the first request was answered by {}", summary.status)));
        }
        if expected.is_some_and(|expected| expected != summary.body_length) {
            return Err(io::Error::other(format!(
                "the first answer's body has {} bytes",
                summary.body_length
            )));
        }
        let seen = &client.stream().seen;
        let start = seen.first_chunk().copied().ok_or(io::ErrorKind::UnexpectedEof)?;
        let head = seen.windows(4).position(|end| end == b"\r\n\r\n").ok_or(io::ErrorKind::InvalidData)?;
        let chunked = seen[..head].to_ascii_lowercase().windows(9).any(|word| word == b": chunked");
        Ok(Answer { start, length: (!chunked).then_some(seen.len()) })
    }
}

/// A stream that keeps what was read off it.
struct Recording {
    stream: TcpStream,
    seen: Vec<u8>,
}

impl Read for Recording {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.stream.read(buffer)?;
        self.seen.extend_from_slice(&buffer[..n]);
        Ok(n)
    }
}

impl io::Write for Recording {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How far the answers on one connection have come.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    /// Bytes of the answer under way.
    seen: usize,
    /// The last bytes seen, where the length isn't known.
    tail: [u8; LAST_CHUNK.len()],
}

impl Progress {
    /// Whether the next bytes can be thrown away unseen, and how many.
    pub(super) fn ignorable(&self, answer: &Answer) -> usize {
        match answer.length {
            Some(length) if self.seen >= START => length - self.seen,
            _ => 0,
        }
    }

    /// Bytes that were thrown away. Gives whether they ended an answer.
    pub(super) fn skip(&mut self, answer: &Answer, n: usize) -> bool {
        self.seen += n;
        let ended = answer.length == Some(self.seen);
        if ended {
            self.seen = 0;
        }
        ended
    }

    /// The next bytes. Gives how many answers they end, or `None` if they aren't what was expected.
    pub(super) fn take(&mut self, answer: &Answer, mut bytes: &[u8]) -> Option<usize> {
        let mut ended = 0;
        while !bytes.is_empty() {
            if self.seen < START {
                let n = bytes.len().min(START - self.seen);
                if bytes[..n] != answer.start[self.seen..self.seen + n] {
                    return None;
                }
            }
            match answer.length {
                Some(length) => {
                    let n = bytes.len().min(length - self.seen);
                    ended += usize::from(self.skip(answer, n));
                    bytes = &bytes[n..];
                }
                None => {
                    // one answer at a time: these bytes end with it or belong to it altogether
                    self.seen += bytes.len();
                    let size = self.tail.len();
                    match bytes.last_chunk() {
                        Some(tail) => self.tail = *tail,
                        None => {
                            self.tail.rotate_left(bytes.len());
                            self.tail[size - bytes.len()..].copy_from_slice(bytes);
                        }
                    }
                    if &self.tail == LAST_CHUNK {
                        *self = Progress::default();
                        ended += 1;
                    }
                    bytes = &[];
                }
            }
        }
        Some(ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(length: Option<usize>) -> Answer {
        Answer { start: *b"HTTP/1.1 200", length }
    }

    /// Feeds the bytes in pieces of every size and gives the number of ends, which must not depend on the size.
    fn ends(answer: Answer, bytes: &[u8]) -> Option<usize> {
        let mut results = (1..=bytes.len()).map(|size| {
            let mut progress = Progress::default();
            bytes.chunks(size).try_fold(0, |ends, piece| Some(ends + progress.take(&answer, piece)?))
        });
        let first = results.next().flatten();
        assert!(results.all(|result| result == first));
        first
    }

    #[test]
    fn answers_of_known_length_are_counted_however_they_are_cut() {
        let one = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        assert_eq!(ends(answer(Some(one.len())), &one.repeat(3)), Some(3));
        assert_eq!(ends(answer(Some(one.len())), &one[..one.len() - 1]), Some(0));
    }

    #[test]
    fn a_chunked_answer_ends_with_its_empty_chunk() {
        let one = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
        assert_eq!(ends(answer(None), one), Some(1));
        assert_eq!(ends(answer(None), &one[..one.len() - 1]), Some(0));
    }

    #[test]
    fn another_status_is_not_an_answer() {
        let one = b"HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\nok";
        assert_eq!(ends(answer(Some(one.len())), one), None);
        assert_eq!(ends(answer(None), one), None);
    }
}
