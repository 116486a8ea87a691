//! What the reader and the senders of a WebSocket share: the protocol's state, and the frames on their way out.
//!
//! Nobody waits while the state is borrowed. Reading takes what is there and says so if that is nothing; frames go into one
//! queue, whole, so that those of several senders never mix. What the kernel has no room for stays there, and a green thread
//! that exists only as long as that lasts writes it.

use std::cell::{Cell, RefCell};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use greenlet::sync::Event;
use tungstenite::error::Error;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{self, Role, WebSocketConfig, WebSocketContext};

use super::Message;
use crate::app::Upgraded;

/// So much is read at once.
const READ: usize = 4 * 1024;
/// After so many reads in a row others get their turn, even if no message is whole.
const READS: usize = 16;
/// At most so much is written at once, and is in nobody's count while it is.
const PIECE: usize = 64 * 1024;
/// A queue that has grown beyond this is not kept when it is empty.
const KEEP: usize = 16 * 1024;

pub(super) struct Link {
    io: Upgraded,
    context: RefCell<WebSocketContext>,
    /// Frames that the kernel has not taken.
    out: RefCell<BytesMut>,
    /// So many bytes may lie in `out` before more are put there.
    most: usize,
    /// Somebody takes from `out` and waits for the kernel.
    is_writing: Cell<bool>,
    /// Nothing can be sent any more.
    has_ended: Cell<bool>,
    /// Set when there may be room again.
    room: Event,
    /// Something has come since it was last asked.
    heard: Cell<bool>,
}

/// What taking in has come to.
pub(super) enum Taken {
    Message(protocol::Message),
    /// All was read.
    Nothing,
    /// There may be more, but it is the turn of others.
    Enough,
}

impl Link {
    pub(super) fn new(io: Upgraded, largest: usize, most: usize) -> Rc<Link> {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ)
            .write_buffer_size(0)
            .max_message_size(Some(largest))
            .max_frame_size(Some(largest));
        Rc::new(Link {
            io,
            context: RefCell::new(WebSocketContext::new(Role::Server, Some(config))),
            out: RefCell::default(),
            most,
            is_writing: Cell::new(false),
            has_ended: Cell::new(false),
            room: Event::new(),
            heard: Cell::new(false),
        })
    }

    pub(super) fn io(&self) -> &Upgraded {
        &self.io
    }

    /// Whether something has come since the last call.
    pub(super) fn has_heard(&self) -> bool {
        self.heard.take()
    }

    /// Whether nothing can be sent any more, be it a close frame.
    pub(super) fn has_ended(&self) -> bool {
        self.has_ended.get()
    }

    pub(super) fn can_send(&self) -> bool {
        !self.has_ended.get() && self.context.borrow().can_write()
    }

    pub(super) fn is_full(&self) -> bool {
        self.out.borrow().len() >= self.most
    }

    /// Takes in what has come, up to the next message.
    pub(super) fn take_in(self: &Rc<Link>) -> Result<Taken, Error> {
        let mut pipe = Pipe { link: self, reads: READS };
        let read = self.context.borrow_mut().read(&mut pipe);
        let reads = pipe.reads;
        // Pongs, and answers to a close frame.
        self.send_out();
        match read {
            Ok(message) => Ok(Taken::Message(message)),
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                Ok(if reads == 0 { Taken::Enough } else { Taken::Nothing })
            }
            Err(error) => Err(error),
        }
    }

    /// Queues a message, whole, and sends what there is room for.
    pub(super) fn put(self: &Rc<Link>, message: protocol::Message) -> io::Result<()> {
        if !self.can_send() {
            return Err(closed());
        }
        let put = self.context.borrow_mut().write(&mut Pipe { link: self, reads: 0 }, message);
        self.send_out();
        put.map_err(|error| io::Error::new(io::ErrorKind::NotConnected, error))
    }

    /// Parks until there is room in the queue, or until nothing can be sent any more.
    pub(super) fn wait_for_room(&self) -> io::Result<()> {
        self.write_here();
        while self.is_full() && !self.has_ended.get() {
            self.room.clear();
            self.room.wait()?;
        }
        Ok(())
    }

    /// As [`Sender::send`](super::Sender::send).
    pub(super) fn send(self: &Rc<Link>, message: Message) -> io::Result<()> {
        self.wait_for_room()?;
        self.put(message.into())?;
        self.write_here();
        Ok(())
    }

    /// Queues a close frame, the last frame there is. Nothing happens if one was sent.
    pub(super) fn put_close(self: &Rc<Link>, code: u16, reason: &str) {
        // RFC 6455, 5.5: 125 bytes, two of them for the code.
        let mut end = reason.len().min(123);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        let frame = protocol::CloseFrame { code: CloseCode::from(code), reason: reason[..end].into() };
        if !self.has_ended.get()
            && let Ok(mut context) = self.context.try_borrow_mut()
        {
            // It can't be written to somebody who is gone, and else is in the queue.
            let _ = context.close(&mut Pipe { link: self, reads: 0 }, Some(frame));
        }
    }

    /// Sends what there is room for. A green thread does it with the rest, an OS thread when it next has to wait anyway.
    pub(super) fn send_out(self: &Rc<Link>) {
        if self.try_send_out() && !self.is_writing.get() && self.io.wire().is_green() {
            self.is_writing.set(true);
            let link = Rc::clone(self);
            drop(greenlet::spawn(move || link.write_all()));
        }
    }

    /// Sends what there is room for, and never parks. Gives whether something is left.
    pub(super) fn try_send_out(&self) -> bool {
        let mut out = self.out.borrow_mut();
        while !out.is_empty() && !self.is_writing.get() {
            match self.io.wire().try_write(&out) {
                Ok(sent) => out.advance(sent),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    drop(out);
                    self.cut();
                    return false;
                }
            }
        }
        if out.is_empty() && out.capacity() > KEEP {
            *out = BytesMut::new();
        }
        !out.is_empty()
    }

    /// In an OS thread, which has nobody else for it: sends all there is, and waits for that.
    pub(super) fn write_here(&self) {
        if !self.io.wire().is_green() && !self.out.borrow().is_empty() {
            self.write_all();
        }
    }

    fn write_all(&self) {
        let _writing = Writing(self);
        self.is_writing.set(true);
        while !self.has_ended.get() {
            let piece = {
                let mut out = self.out.borrow_mut();
                let length = out.len().min(PIECE);
                out.split_to(length)
            };
            if piece.is_empty() {
                return;
            }
            if (&self.io).write_all(&piece).is_err() {
                self.cut();
            }
            self.room.set();
        }
    }

    /// Parks until all is sent, nothing can be sent any more, or the time is over.
    pub(super) fn wait_until_sent(&self, most: Duration) {
        self.write_here();
        let deadline = greenlet::now() + most;
        while self.is_writing.get() && !self.has_ended.get() {
            self.room.clear();
            let left = deadline.saturating_duration_since(greenlet::now());
            if left.is_zero() || self.room.wait_timeout(left).is_err() {
                return;
            }
        }
    }

    /// Has the reader look at the state again.
    pub(super) fn wake_reader(&self) {
        self.io.wire().wake();
    }

    /// Nothing can be sent any more; who reads finds the end.
    pub(super) fn end(&self) {
        if !self.has_ended.replace(true) {
            self.out.replace(BytesMut::new());
            self.room.set();
        }
    }

    /// Ends the connection at once.
    pub(super) fn cut(&self) {
        self.end();
        // Somebody who is gone needs no telling.
        let _ = self.io.shutdown(Shutdown::Both);
        self.wake_reader();
    }
}

pub(super) fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the WebSocket is closed")
}

/// Nobody writes any more, even if that was broken off.
struct Writing<'l>(&'l Link);

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.0.is_writing.set(false);
        self.0.room.set();
    }
}

/// The link as the stream that `tungstenite` reads from and writes to. Neither waits.
struct Pipe<'l> {
    link: &'l Link,
    /// How often it may still be read.
    reads: usize,
}

impl Read for Pipe<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.reads = self.reads.checked_sub(1).ok_or(io::ErrorKind::WouldBlock)?;
        let read = self.link.io.wire().try_read(buf);
        match &read {
            Ok(_) => self.link.heard.set(true),
            // Else it would look as if others had to have their turn.
            Err(_) => self.reads += 1,
        }
        read
    }
}

impl Write for Pipe<'_> {
    fn write(&mut self, frames: &[u8]) -> io::Result<usize> {
        if !self.link.has_ended.get() {
            self.link.out.borrow_mut().extend_from_slice(frames);
        }
        Ok(frames.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
