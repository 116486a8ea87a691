//! The bytes on their way to the client: heads and small pieces are gathered, large pieces go out beside them uncopied.

use std::io::{self, IoSlice, Write};

use ::http::{HeaderMap, HeaderValue};

use super::conn::Conn;
use super::spare;
use super::transport::Transport;
use crate::http::framing::ResponseBody;
use crate::http::{CONTINUE, encode_chunk_size, encode_last_chunk};

/// How many bytes are gathered before they are sent unasked.
pub(crate) const GATHER: usize = 128 * 1024;

/// A piece of a stream of this size is not gathered but goes out from where it lies.
pub(crate) const LARGE: usize = 64 * 1024;

/// A whole body goes out so from this size on: it needs no system call of its own for that.
const LARGE_WHOLE: usize = 16 * 1024;

/// Stands before a chunk's data as long as its size is not known; most sizes need as much room.
const CHUNK_SIZE: &[u8] = b"0000\r\n";

/// The sending side of a connection.
#[derive(Debug, Default)]
pub(crate) struct Output {
    /// What is to be sent next.
    buffer: Vec<u8>,
    /// Where in `buffer` a chunk begins that is not complete.
    chunk: Option<usize>,
    /// Where the current response starts in `buffer`, as long as nothing of it was sent.
    start: Option<usize>,
    /// Bytes of body of the current response that were handed over.
    pub(crate) body_sent: u64,
    /// A write has failed or was broken off, so nothing can be sent any more.
    failed: bool,
}

impl Output {
    /// A response begins: gives where its head goes.
    #[inline]
    pub(crate) fn begin(&mut self) -> &mut Vec<u8> {
        if self.buffer.capacity() == 0 {
            self.buffer = spare::output();
        }
        self.start = Some(self.buffer.len());
        self.chunk = None;
        self.body_sent = 0;
        &mut self.buffer
    }

    /// Gives the buffer back while nothing is to be sent.
    #[inline]
    pub(crate) fn rest(&mut self) {
        if self.buffer.is_empty() && self.buffer.capacity() > 0 {
            spare::keep_output(std::mem::take(&mut self.buffer));
        }
    }

    /// Takes the current response back, if nothing of it was sent.
    pub(crate) fn retract(&mut self) -> bool {
        match self.start.take() {
            Some(start) if !self.failed => {
                self.buffer.truncate(start);
                self.chunk = None;
                self.body_sent = 0;
                true
            }
            _ => false,
        }
    }

    /// Puts an interim response behind the earlier answers. None to the current request has begun.
    pub(crate) fn put_interim(&mut self, head: &[u8]) {
        self.buffer.extend_from_slice(head);
    }

    /// Puts `100 Continue` before the current response, if one has begun and nothing of it was sent. False: too late.
    pub(crate) fn put_continue(&mut self, answering: bool) -> bool {
        let at = match (answering, self.start) {
            (false, _) => self.buffer.len(),
            (true, Some(start)) => start,
            (true, None) => return false,
        };
        self.buffer.splice(at..at, CONTINUE.iter().copied());
        self.chunk = self.chunk.map(|chunk| chunk + CONTINUE.len());
        true
    }

    /// How many bytes were gathered.
    pub(crate) fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Whether nothing is to be sent; not so after a failure, of which the next one to send shall hear.
    pub(crate) fn is_empty(&self) -> bool {
        self.buffer.is_empty() && !self.failed
    }

    /// Whether the client can't be reached any more.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed
    }

    /// Sends what was gathered. Suspends while the client takes nothing.
    pub(crate) fn send<T: Transport>(&mut self, io: &T) -> io::Result<()> {
        self.sending(|buffer| {
            let mut left = buffer;
            while !left.is_empty() {
                match io.write(left) {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Ok(n) => left = &left[n..],
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        })
    }

    /// Sends what was gathered and then `data` and `end`, both from where they lie.
    fn send_with<T: Transport>(&mut self, io: &T, data: &[u8], end: &[u8]) -> io::Result<()> {
        self.sending(|buffer| {
            let mut slices = [IoSlice::new(buffer), IoSlice::new(data), IoSlice::new(end)];
            let used = if end.is_empty() { 2 } else { 3 };
            let mut left = &mut slices[..used];
            // Drops empty slices in front.
            IoSlice::advance_slices(&mut left, 0);
            while !left.is_empty() {
                match io.write_vectored(left) {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Ok(n) => IoSlice::advance_slices(&mut left, n),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        })
    }

    #[inline]
    fn sending(&mut self, send: impl FnOnce(&[u8]) -> io::Result<()>) -> io::Result<()> {
        if self.failed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.start = None;
        // Until all is sent: an unwinding in between leaves bytes half sent, which must not be sent again.
        self.failed = true;
        send(&self.buffer)?;
        self.failed = false;
        self.buffer.clear();
        Ok(())
    }

    /// Sends what there is room for of the answers before the current one, or of all if none has begun. Never suspends.
    pub(crate) fn send_earlier<T: Transport>(&mut self, io: &T, answering: bool) {
        let earlier = match self.start {
            Some(start) if answering => start,
            // Not what of a chunk there is.
            Some(_) | None => self.chunk.unwrap_or(self.buffer.len()),
        };
        if self.failed || earlier == 0 {
            return;
        }
        // A failure shows when the rest is sent.
        let Ok(sent) = io.try_write(&self.buffer[..earlier]) else { return };
        self.buffer.drain(..sent);
        self.chunk = self.chunk.and_then(|chunk| chunk.checked_sub(sent));
        self.start = self.start.and_then(|start| start.checked_sub(sent)).filter(|_| answering);
    }

    /// Adds a `Trailer` field to the head that was just put.
    #[cold]
    pub(crate) fn announce(&mut self, trailers: &HeaderValue) {
        self.buffer.truncate(self.buffer.len() - b"\r\n".len());
        self.buffer.extend_from_slice(b"trailer: ");
        self.buffer.extend_from_slice(trailers.as_bytes());
        self.buffer.extend_from_slice(b"\r\n\r\n");
    }

    /// Sends what there is room for, and nothing ever after. Never suspends.
    pub(crate) fn send_last<T: Transport>(&mut self, io: &T) {
        let mut left = &self.buffer[if self.failed { self.buffer.len() } else { 0 }..];
        while !left.is_empty() {
            match io.try_write(left) {
                Ok(sent @ 1..) => left = &left[sent..],
                _ => break,
            }
        }
        self.failed = true;
    }

    /// Takes a whole body, right after its head.
    #[inline]
    pub(crate) fn put_whole<T: Transport>(&mut self, io: &T, data: &[u8]) -> io::Result<()> {
        if data.len() < LARGE_WHOLE {
            self.buffer.extend_from_slice(data);
        } else {
            self.send_with(io, data, &[])?;
        }
        self.body_sent += data.len() as u64;
        Ok(())
    }

    /// Takes a piece of the body as it is: gathers it, or sends it with what was gathered.
    fn put<T: Transport>(&mut self, io: &T, data: &[u8]) -> io::Result<()> {
        if data.len() < LARGE {
            if self.buffer.len() + data.len() > GATHER {
                self.send(io)?;
            }
            self.buffer.extend_from_slice(data);
        } else {
            self.send_with(io, data, &[])?;
        }
        self.body_sent += data.len() as u64;
        Ok(())
    }

    /// Takes a piece of a chunked body, which is not empty. Pieces make up a chunk until something is sent.
    fn put_chunked<T: Transport>(&mut self, io: &T, data: &[u8]) -> io::Result<()> {
        let large = data.len() >= LARGE;
        if !large && self.buffer.len() + data.len() > GATHER {
            self.end_chunk(&[]);
            self.send(io)?;
        }
        if self.chunk.is_none() {
            self.chunk = Some(self.buffer.len());
            self.buffer.extend_from_slice(CHUNK_SIZE);
        }
        if large {
            self.end_chunk(data);
            self.send_with(io, data, b"\r\n")?;
        } else {
            self.buffer.extend_from_slice(data);
        }
        self.body_sent += data.len() as u64;
        Ok(())
    }

    /// Makes what was gathered of a chunk a whole one. If there is `more` of it, that and the line end are yet to be sent.
    fn end_chunk(&mut self, more: &[u8]) {
        let Some(chunk) = self.chunk.take() else { return };
        let end = self.buffer.len();
        encode_chunk_size(&mut self.buffer, end - chunk - CHUNK_SIZE.len() + more.len());
        // To where it belongs.
        let mut line = [0; 2 * size_of::<usize>() + 2];
        let line = &mut line[..self.buffer.len() - end];
        line.copy_from_slice(&self.buffer[end..]);
        self.buffer.truncate(end);
        self.buffer.splice(chunk..chunk + CHUNK_SIZE.len(), line.iter().copied());
        if more.is_empty() {
            self.buffer.extend_from_slice(b"\r\n");
        }
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

    /// Ends a complete body, with what is to follow it. It may still lie in the output.
    pub(crate) fn finish(&mut self, trailers: Option<&HeaderMap>) -> io::Result<()> {
        if self.framing == ResponseBody::Chunked {
            let mut output = self.conn.output()?;
            output.end_chunk(&[]);
            encode_last_chunk(&mut output.buffer, trailers);
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
            ResponseBody::Chunked => output.put_chunked(io, data)?,
            ResponseBody::UntilClose => output.put(io, data)?,
            ResponseBody::Length(_) => {
                if self.left == 0 {
                    self.overlong = true;
                    return Err(Self::too_long());
                }
                data = &data[..usize::try_from(self.left).unwrap_or(usize::MAX).min(data.len())];
                self.left -= data.len() as u64;
                output.put(io, data)?;
            }
        }
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let io = self.conn.io();
        let mut output = self.conn.output()?;
        output.end_chunk(&[]);
        output.send(io)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunks_size_takes_the_room_it_needs_wherever_the_chunk_begins() {
        for (gathered, more) in
            [(1, 0), (15, 0), (16, 0), (0xfff, 0), (0x1000, 0), (0x1_0000, 0), (3, 0x10_0000)]
        {
            let mut output = Output::default();
            output.begin().extend_from_slice(b"HEAD");
            output.chunk = Some(4);
            output.buffer.extend_from_slice(CHUNK_SIZE);
            output.buffer.resize(4 + CHUNK_SIZE.len() + gathered, b'x');
            output.end_chunk(&vec![b'y'; more]);
            let end = if more == 0 { "\r\n" } else { "" };
            let expected = format!("HEAD{:x}\r\n{}{end}", gathered + more, "x".repeat(gathered));
            assert_eq!(String::from_utf8(output.buffer).unwrap(), expected);
            assert_eq!(output.chunk, None);
        }
    }
}
