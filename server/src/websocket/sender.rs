//! Sending from elsewhere.

use std::fmt;
use std::io;
use std::rc::{Rc, Weak};

use super::Message;
use super::link::{Link, closed};

/// Sends messages to a WebSocket from any green thread; made by [`WebSocket::sender`](super::WebSocket::sender). Clones
/// send to the same one. It keeps nothing alive: once the WebSocket has ended, sending is an error.
///
/// Messages of one sender arrive in its order, and none is ever mixed with another. What the client takes too slowly gathers
/// in a queue of bounded size ([`Acceptor::queue`](super::Acceptor::queue)), written as it takes it. A client that takes
/// nothing for the server's `write_timeout` is cut off. So whoever sends to many chooses what a slow one gets:
///
/// * [`try_send`](Sender::try_send) never waits: drop the message for that client, or [close](Sender::close) its connection.
/// * [`send`](Sender::send) waits for room, which makes everybody as slow as the slowest.
///
/// Like all of the green threads' things it stays in its OS thread. With `-k threads` each connection is alone in one, so
/// there is nobody else to send; other OS threads reach a green thread through the channels in `greenlet::sync::shared`.
#[derive(Clone)]
pub struct Sender(Weak<Link>);

impl Sender {
    pub(super) fn new(link: &Rc<Link>) -> Sender {
        Sender(Rc::downgrade(link))
    }

    /// Queues a message; parks while the queue is full.
    ///
    /// # Errors
    /// `NotConnected` when the WebSocket is closed, or closing.
    pub fn send(&self, message: impl Into<Message>) -> io::Result<()> {
        self.link()?.send(message.into())
    }

    /// Queues a message, and never parks.
    ///
    /// # Errors
    /// `WouldBlock` when the queue is full, `NotConnected` when the WebSocket is closed or closing.
    pub fn try_send(&self, message: impl Into<Message>) -> io::Result<()> {
        let link = self.link()?;
        if link.is_full() {
            link.send_out();
        }
        match link.is_full() {
            false => link.put(message.into().into()),
            true if !link.can_send() => Err(closed()),
            true => {
                Err(io::Error::new(io::ErrorKind::WouldBlock, "the client is too slow: its queue is full"))
            }
        }
    }

    /// Closes the WebSocket behind what was sent, with one of the [codes](super::close) and a reason of up to 123 bytes. Its
    /// reader finds the end when the client has answered. Never parks; nothing happens if it is closed already.
    pub fn close(&self, code: u16, reason: &str) {
        if let Ok(link) = self.link() {
            link.put_close(code, reason);
            link.send_out();
            // Who reads shall see that the client has only so long to answer.
            link.wake_reader();
        }
    }

    /// Ends the connection at once, whatever lies in its queue: for a client that doesn't take it.
    pub fn cut(&self) {
        if let Ok(link) = self.link() {
            link.cut();
        }
    }

    /// Whether messages can still be sent.
    pub fn is_open(&self) -> bool {
        self.link().is_ok_and(|link| link.can_send())
    }

    fn link(&self) -> io::Result<Rc<Link>> {
        self.0.upgrade().ok_or_else(closed)
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("open", &self.is_open()).finish()
    }
}
