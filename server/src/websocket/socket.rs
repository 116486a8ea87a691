//! A WebSocket as its handler has it.

use std::fmt;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tungstenite::error::{Error, ProtocolError};
use tungstenite::protocol;

use super::link::{Link, Taken, closed};
use super::{Acceptor, CloseFrame, Message, Sender, close};
use crate::app::{Addr, Stopping, Upgraded};

/// How long the client may take to answer a close frame, and to take what was sent before it.
const CLOSING: Duration = Duration::from_secs(5);

/// A WebSocket, in the hands of its connection's green thread.
///
/// While somebody is in [`recv`](WebSocket::recv) pings are answered, sent, and their answers awaited. A handler that only
/// sends should have another green thread do that with a [`Sender`], and stay in `recv`: nobody else notices that the client
/// has left or wants to close.
pub struct WebSocket {
    link: Rc<Link>,
    protocol: Option<String>,
    /// After so much silence the client is pinged, and after as much again given up.
    keep_alive: Option<Duration>,
    /// Since when nothing was heard, and when it was pinged since.
    quiet_since: Instant,
    pinged: Option<Instant>,
    /// When the client must have answered the close frame that was sent.
    closing: Option<Instant>,
    peer_close: Option<CloseFrame>,
    /// There is nothing more to read.
    has_ended: bool,
}

impl WebSocket {
    pub(super) fn new(io: Upgraded, settings: &Acceptor, protocol: Option<String>) -> WebSocket {
        WebSocket {
            link: Link::new(io, settings.largest, settings.queue),
            protocol,
            keep_alive: settings.keep_alive,
            quiet_since: Instant::now(),
            pinged: None,
            closing: None,
            peer_close: None,
            has_ended: false,
        }
    }

    /// Parks until the next message has come. `None`: the WebSocket was closed, by the client, or because the server
    /// stops ([1001](close::GOING_AWAY) is sent then, and messages that the client sent before it knew are dropped).
    ///
    /// # Errors
    /// `UnexpectedEof` and `ConnectionReset` when the client has gone without a word, `TimedOut` when it is silent even to
    /// pings, `NotConnected` when it took nothing for the server's `write_timeout` or was [cut](Sender::cut) off,
    /// `InvalidData` when it breaks the protocol or sends too large a message (it is told the [code](close) that
    /// stands for that). After an error there is nothing more to read or to send.
    pub fn recv(&mut self) -> io::Result<Option<Message>> {
        self.receive(None)
    }

    /// As [`recv`](WebSocket::recv), for at most so long.
    ///
    /// # Errors
    /// As `recv`; and `TimedOut` when the time is over, after which the WebSocket is as it was: [`is_open`](Self::is_open)
    /// tells that from a client that was given up.
    pub fn recv_timeout(&mut self, timeout: Duration) -> io::Result<Option<Message>> {
        self.receive(Instant::now().checked_add(timeout))
    }

    /// Queues a message, and parks while the queue is full (see [`Sender`]). With `-k threads` it waits until the message is sent.
    ///
    /// # Errors
    /// `NotConnected` when the WebSocket is closed, or closing.
    pub fn send(&self, message: impl Into<Message>) -> io::Result<()> {
        self.link.send(message.into())
    }

    /// What sends to this WebSocket from other green threads.
    pub fn sender(&self) -> Sender {
        Sender::new(&self.link)
    }

    /// Sends a ping; its answer is not reported.
    ///
    /// # Errors
    /// As [`send`](WebSocket::send).
    pub fn ping(&self) -> io::Result<()> {
        self.link.put(protocol::Message::Ping(Default::default()))
    }

    /// Closes with one of the [codes](close) and a reason of up to 123 bytes, and parks until the client has answered, for 5
    /// seconds at most. Messages that it sent before are dropped. A handler that returns `Ok` closes with
    /// [1000](close::NORMAL), one that fails with [1011](close::ERROR).
    pub fn close(&mut self, code: u16, reason: &str) {
        self.begin_close(code, reason);
        while matches!(self.receive(None), Ok(Some(_))) {}
        self.link.wait_until_sent(CLOSING);
    }

    /// Whether messages can still be sent.
    pub fn is_open(&self) -> bool {
        !self.has_ended && self.link.can_send()
    }

    /// Why the client has closed, if it has said so.
    pub fn peer_close(&self) -> Option<&CloseFrame> {
        self.peer_close.as_ref()
    }

    /// The subprotocol that was chosen; see [`Acceptor::protocols`].
    pub fn protocol(&self) -> Option<&str> {
        self.protocol.as_deref()
    }

    /// The client's address.
    pub fn peer_addr(&self) -> Addr {
        self.link.io().peer_addr()
    }

    /// Whether the server is to stop.
    pub fn is_stopping(&self) -> bool {
        self.link.io().is_stopping()
    }

    fn begin_close(&mut self, code: u16, reason: &str) {
        self.link.put_close(code, reason);
        self.link.send_out();
    }

    fn receive(&mut self, deadline: Option<Instant>) -> io::Result<Option<Message>> {
        while !self.has_ended {
            // Else a client that pings and never reads would fill the queue.
            self.link.wait_for_room()?;
            if self.link.has_ended() {
                self.has_ended = true;
                return Err(closed());
            }
            if self.is_stopping() && self.link.can_send() {
                self.begin_close(close::GOING_AWAY, &Stopping.to_string());
            }
            if !self.link.can_send() && self.closing.is_none() {
                self.closing = Some(Instant::now() + CLOSING);
            }
            if self.closing.is_some_and(|closing| closing <= Instant::now()) {
                self.has_ended = true;
                self.link.end();
                break;
            }
            match self.link.take_in() {
                Ok(Taken::Message(message)) => {
                    self.link.io().wire().give_way();
                    match self.take(message) {
                        Some(message) if self.closing.is_none() => return Ok(Some(message)),
                        _ => {}
                    }
                }
                Ok(Taken::Enough) => self.link.io().wire().give_way(),
                Ok(Taken::Nothing) => self.wait(deadline)?,
                Err(error) => return self.ended(error),
            }
        }
        Ok(None)
    }

    fn take(&mut self, message: protocol::Message) -> Option<Message> {
        match message {
            protocol::Message::Text(text) => Some(Message::Text(text)),
            protocol::Message::Binary(bytes) => Some(Message::Binary(bytes)),
            protocol::Message::Close(frame) => {
                self.peer_close = frame.map(|frame| CloseFrame {
                    code: frame.code.into(),
                    reason: frame.reason.as_str().to_owned(),
                });
                None
            }
            _ => None,
        }
    }

    /// Waits for more, until the next moment at which something is to be done about silence.
    fn wait(&mut self, deadline: Option<Instant>) -> io::Result<()> {
        self.link.write_here();
        let now = Instant::now();
        if self.link.has_heard() {
            self.quiet_since = now;
            self.pinged = None;
        }
        let attend =
            self.keep_alive.and_then(|time| self.pinged.unwrap_or(self.quiet_since).checked_add(time));
        let until = [deadline, self.closing.or(attend)].into_iter().flatten().min();
        let wait = until.map(|until| until.saturating_duration_since(now));
        let waited = match wait {
            Some(Duration::ZERO) => Err(io::ErrorKind::TimedOut.into()),
            wait => self.link.io().wire().wait_readable(wait),
        };
        match waited {
            Err(error) if error.kind() == io::ErrorKind::TimedOut => self.silent(deadline),
            waited => waited,
        }
    }

    /// Nothing has come for a while.
    fn silent(&mut self, deadline: Option<Instant>) -> io::Result<()> {
        let now = Instant::now();
        if deadline.is_some_and(|deadline| deadline <= now) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let Some(time) = self.keep_alive.filter(|_| self.closing.is_none()) else { return Ok(()) };
        match self.pinged {
            None if self.quiet_since + time <= now => {
                self.pinged = Some(now);
                self.ping()
            }
            Some(pinged) if pinged + time <= now => {
                self.has_ended = true;
                self.link.cut();
                Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not answer pings"))
            }
            _ => Ok(()),
        }
    }

    /// What an error of reading comes to. The client is told of its fault.
    fn ended(&mut self, error: Error) -> io::Result<Option<Message>> {
        self.has_ended = true;
        let code = match error {
            Error::ConnectionClosed | Error::AlreadyClosed => return Ok(None),
            Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
                self.link.end();
                if self.closing.is_some() {
                    return Ok(None);
                }
                let text = "the client left without closing the WebSocket";
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
            }
            Error::Io(error) => {
                self.link.end();
                return Err(error);
            }
            Error::Capacity(_) => close::TOO_BIG,
            Error::Utf8(_) => close::INVALID,
            _ => close::PROTOCOL,
        };
        let text = error.to_string();
        self.begin_close(code, &text);
        self.link.wait_until_sent(CLOSING);
        self.link.end();
        Err(io::Error::new(io::ErrorKind::InvalidData, text))
    }
}

/// When the handler is unwound, the client is told: [1001](close::GOING_AWAY) if the server stops, else
/// [1011](close::ERROR).
impl Drop for WebSocket {
    fn drop(&mut self) {
        if self.is_open() {
            let code = if self.is_stopping() { close::GOING_AWAY } else { close::ERROR };
            self.link.put_close(code, "");
            // Nobody may wait here.
            self.link.try_send_out();
        }
        self.link.end();
    }
}

impl fmt::Debug for WebSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocket")
            .field("peer", &self.peer_addr())
            .field("protocol", &self.protocol)
            .field("open", &self.is_open())
            .finish_non_exhaustive()
    }
}
