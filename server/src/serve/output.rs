//! The bytes on their way to the client: heads and small pieces are gathered, large pieces go out beside them uncopied.

use std::io::{self, IoSlice, Write};

use super::conn::Conn;
use super::spare;
use super::transport::Transport;
use crate::http::framing::ResponseBody;
use crate::http::{CONTINUE, encode_chunk_size};

/// How many bytes are gathered before they are sent unasked.
pub(crate) const GATHER: usize = 32 * 1024;

/// The sending side of a connection.
#[derive(Debug, Default)]
pub(crate) struct Output {
    /// What is to be sent next.
    pub(crate) buffer: Vec<u8>,
    /// A chunk's data under way; its size line is written when it is complete.
    chunk: Vec<u8>,
    /// Where the current response starts in `buffer`, as long as nothing of it was sent.
    start: Option<usize>,
    /// Bytes of body of the current response that were handed over.
    pub(crate) body_sent: u64,
    /// A write has failed or was broken off, so nothing can be sent any more.
    failed: bool,
}

impl Output {
    /// A response begins.
    pub(crate) fn begin(&mut self) {
        if self.buffer.capacity() == 0 {
            self.buffer = spare::output();
        }
        self.start = Some(self.buffer.len());
        self.chunk.clear();
        self.body_sent = 0;
    }

    /// Gives the buffers back while nothing is to be sent.
    pub(crate) fn rest(&mut self) {
        if self.buffer.is_empty() {
            spare::keep_output(std::mem::take(&mut self.buffer));
        }
        self.chunk.clear();
        spare::keep_output(std::mem::take(&mut self.chunk));
    }

    /// Takes the current response back, if nothing of it was sent.
    pub(crate) fn retract(&mut self) -> bool {
        match self.start.take() {
            Some(start) if !self.failed => {
                self.buffer.truncate(start);
                self.chunk.clear();
                self.body_sent = 0;
                true
            }
            _ => false,
        }
    }

    /// Puts `100 Continue` before the current response, if one has begun and nothing of it was sent. False: too late.
    pub(crate) fn put_continue(&mut self, answering: bool) -> bool {
        let at = match (answering, self.start) {
            (false, _) => self.buffer.len(),
            (true, Some(start)) => start,
            (true, None) => return false,
        };
        self.buffer.splice(at..at, CONTINUE.iter().copied());
        true
    }

    /// Whether nothing is to be sent; not so after a failure, of which the next one to send shall hear.
    pub(crate) fn is_empty(&self) -> bool {
        self.buffer.is_empty() && !self.failed
    }

    /// Whether the client can't be reached any more.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed
    }

    /// Sends the buffer and then `tail`. Suspends while the client takes nothing.
    pub(crate) fn send<T: Transport>(&mut self, io: &T, tail: [&[u8]; 3]) -> io::Result<()> {
        let Output { buffer, start, failed, .. } = self;
        if *failed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        *start = None;
        // Until all is sent: an unwinding in between leaves bytes half sent, which must not be sent again.
        *failed = true;
        let [first, second, third] = tail.map(IoSlice::new);
        let mut slices = [IoSlice::new(buffer), first, second, third];
        // Empty ones at the end are not worth a vectored write.
        let used = tail.iter().rposition(|piece| !piece.is_empty()).map_or(1, |last| last + 2);
        let mut left = &mut slices[..used];
        // Drops empty slices in front.
        IoSlice::advance_slices(&mut left, 0);
        while !left.is_empty() {
            let written = match &*left {
                [only] => io.write(only),
                several => io.write_vectored(several),
            };
            match written {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => IoSlice::advance_slices(&mut left, n),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        *failed = false;
        buffer.clear();
        Ok(())
    }

    /// Sends what there is room for of the answers before the current one, or of all if none has begun. Never suspends.
    pub(crate) fn send_earlier<T: Transport>(&mut self, io: &T, answering: bool) {
        let earlier = match self.start {
            Some(start) if answering => start,
            Some(_) | None => self.buffer.len(),
        };
        if self.failed || earlier == 0 {
            return;
        }
        // A failure shows when the rest is sent.
        let Ok(sent) = io.try_write(&self.buffer[..earlier]) else { return };
        self.buffer.drain(..sent);
        self.start = self.start.and_then(|start| start.checked_sub(sent)).filter(|_| answering);
    }

    /// Makes the gathered data a chunk, of which `more` is the end, and sends it if it is large.
    fn end_chunk<T: Transport>(&mut self, io: &T, more: &[u8]) -> io::Result<()> {
        let size = self.chunk.len() + more.len();
        if size == 0 {
            return Ok(());
        }
        encode_chunk_size(&mut self.buffer, size);
        if self.buffer.len() + size > GATHER {
            // It goes out now, from where it lies.
            let mut chunk = std::mem::take(&mut self.chunk);
            let sent = self.send(io, [&chunk, more, b"\r\n"]);
            chunk.clear();
            self.chunk = chunk;
            return sent;
        }
        self.buffer.append(&mut self.chunk);
        self.buffer.extend_from_slice(more);
        self.buffer.extend_from_slice(b"\r\n");
        Ok(())
    }
}

/// A response body being written: puts the framing around what the application writes, and holds it to its length.
pub(crate) struct BodyOut<'c, T: Transport> {
    conn: &'c Conn<T>,
    framing: ResponseBody,
    /// What is missing to the stated length.
    left: u64,
    overlong: bool,
}

impl<'c, T: Transport> BodyOut<'c, T> {
    /// The head lies in the output already.
    pub(crate) fn new(conn: &'c Conn<T>, framing: ResponseBody) -> BodyOut<'c, T> {
        let left = match framing {
            ResponseBody::Length(length) => length,
            _ => 0,
        };
        BodyOut { conn, framing, left, overlong: false }
    }

    /// Whether more was written than stated; the surplus was cut off.
    pub(crate) fn is_overlong(&self) -> bool {
        self.overlong
    }

    /// How many bytes the body falls short of its stated length.
    pub(crate) fn missing(&self) -> u64 {
        self.left
    }

    /// Takes a body that lies in memory whole. A large one is sent at once without being copied.
    pub(crate) fn whole(&mut self, data: &[u8]) -> io::Result<()> {
        match self.write_all(data) {
            // The surplus was noted; what could be sent was.
            Err(_) if self.overlong => Ok(()),
            result => result,
        }
    }

    /// How much of `length` bytes may still be sent; a surplus is noted.
    pub(crate) fn at_most(&mut self, length: u64) -> u64 {
        self.overlong |= length > self.left;
        length.min(self.left)
    }

    /// Notes `count` bytes that went past this writer, from a file; before that, everything gathered must be flushed.
    pub(crate) fn passed(&mut self, count: u64) -> io::Result<()> {
        self.left = self.left.saturating_sub(count);
        self.conn.output()?.body_sent += count;
        Ok(())
    }

    /// Ends a complete body. It may still lie in the output.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        if self.framing == ResponseBody::Chunked {
            let mut output = self.conn.output()?;
            output.end_chunk(self.conn.io(), &[])?;
            output.buffer.extend_from_slice(b"0\r\n\r\n");
        }
        Ok(())
    }

    fn too_long() -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, "the response body is longer than its stated length")
    }
}

impl<T: Transport> Write for BodyOut<'_, T> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if data.is_empty() {
            return Ok(0);
        }
        let io = self.conn.io();
        let mut output = self.conn.output()?;
        let mut data = data;
        match self.framing {
            ResponseBody::Absent | ResponseBody::AbsentOf(_) => return Ok(data.len()),
            ResponseBody::Chunked => {
                if output.chunk.capacity() == 0 {
                    output.chunk = spare::output();
                }
                if output.chunk.len() + data.len() <= GATHER {
                    output.chunk.extend_from_slice(data);
                } else {
                    output.end_chunk(io, data)?;
                }
                output.body_sent += data.len() as u64;
                return Ok(data.len());
            }
            ResponseBody::UntilClose => {}
            ResponseBody::Length(_) => {
                if self.left == 0 {
                    self.overlong = true;
                    return Err(Self::too_long());
                }
                data = &data[..usize::try_from(self.left).unwrap_or(usize::MAX).min(data.len())];
                self.left -= data.len() as u64;
            }
        }
        if output.buffer.len() + data.len() <= GATHER {
            output.buffer.extend_from_slice(data);
        } else {
            output.send(io, [data, &[], &[]])?;
        }
        output.body_sent += data.len() as u64;
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let io = self.conn.io();
        let mut output = self.conn.output()?;
        output.end_chunk(io, &[])?;
        output.send(io, [&[], &[], &[]])
    }
}
