//! One TLS connection.
//!
//! The state of the protocol lies in one cell, which is never borrowed while a greenlet waits. What is on its way lies
//! outside of it: bytes that came in and were not yet taken, bytes to be sent. Reading needs no turn, for the socket
//! allows one reader; who sends takes turns, so that no record lands inside another.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, Connection, ProtocolVersion, ServerConfig, ServerConnection,
    SupportedCipherSuite,
};

use super::transport::Transport;
use crate::sync::{Permit, Semaphore};

/// How much is read from the socket at once.
const CHUNK: usize = 16 << 10;

/// A TLS connection over a socket, of a client or a server (`gevent.ssl.SSLSocket`).
///
/// `Read` and `Write` are there for `&TlsStream` too: one greenlet may read while others write. What waits is the
/// socket, so its timeouts hold ([`get_ref`](Self::get_ref)), and closing it wakes everybody. A stream takes some 16 KiB
/// while it is read and up to 64 KiB while it is written.
///
/// A read returns 0 only when the peer has said that it ends (`close_notify`); a connection that just breaks off is
/// the error `UnexpectedEof`, for somebody may have cut it. Say the end yourself with [`shutdown`](Self::shutdown):
/// dropping the stream does not.
///
/// The socket is any [`Transport`]: those of [`net`](crate::net) are, and an `Rc` of one.
pub struct TlsStream<S> {
    socket: S,
    connection: RefCell<Connection>,
    incoming: Cell<Incoming>,
    outgoing: Cell<Outgoing>,
    /// Who sends.
    sending: Semaphore,
    /// What went wrong after a write had taken its bytes.
    failed: Cell<Option<io::Error>>,
    shut: Cell<bool>,
}

/// Bytes from the socket that the protocol has not taken yet.
#[derive(Default)]
struct Incoming {
    bytes: Vec<u8>,
    left: Range<usize>,
}

/// Bytes for the socket that have not been sent yet.
#[derive(Default)]
struct Outgoing {
    bytes: Vec<u8>,
    sent: usize,
}

impl<S: Transport> TlsStream<S> {
    /// Connects as a client to the server of this name (or address), which its certificate must prove. Parks the
    /// caller until the handshake is done, for at most `timeout` (`None`: as long as the socket's own timeouts let each
    /// of its steps take).
    ///
    /// # Errors
    /// `InvalidInput` for a name that is none; `TimedOut`; `InvalidData` when the peer breaks the rules or its
    /// certificate is not to be trusted, with rustls's error as the source's source; `UnexpectedEof` when it hangs
    /// up; what the socket says.
    pub fn connect(
        socket: S,
        config: impl Into<Arc<ClientConfig>>,
        server_name: &str,
        timeout: impl Into<Option<Duration>>,
    ) -> io::Result<TlsStream<S>> {
        let name = ServerName::try_from(server_name.to_owned()).map_err(|_| {
            let what =
                format!("'{server_name}' is no name of a TLS server: give its DNS name or its address");
            io::Error::new(io::ErrorKind::InvalidInput, what)
        })?;
        let peer = format!("'{server_name}'");
        match ClientConnection::new(config.into(), name) {
            Ok(connection) => handshake(socket, connection.into(), peer, timeout.into()),
            Err(error) => Err(io::Error::new(io::ErrorKind::InvalidInput, error)),
        }
    }

    /// Takes a client's connection as a server. Parks the caller until the handshake is done, for at most `timeout`
    /// (`None`: as long as the socket's own timeouts let each of its steps take): give one, for a client need not ever
    /// say anything.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub fn accept(
        socket: S,
        config: impl Into<Arc<ServerConfig>>,
        timeout: impl Into<Option<Duration>>,
    ) -> io::Result<TlsStream<S>> {
        match ServerConnection::new(config.into()) {
            Ok(connection) => handshake(socket, connection.into(), "a client".to_owned(), timeout.into()),
            Err(error) => Err(io::Error::new(io::ErrorKind::InvalidInput, error)),
        }
    }

    /// Tells the peer that nothing more will be written (`close_notify`; the first half of `SSLSocket.unwrap`). Reading
    /// goes on: read until it returns 0, to be sure that the peer has read everything. One who drops the stream before,
    /// with something unread (a server of TLS 1.3 sends tickets on its own), has the kernel reset the connection, which may
    /// destroy what was written last. Parks the caller while there is no room. A second time it does nothing.
    ///
    /// # Errors
    /// `TimedOut`; what the socket says.
    pub fn shutdown(&self) -> io::Result<()> {
        let _turn = self.turn()?;
        if !self.shut.replace(true) {
            self.connection.borrow_mut().send_close_notify();
        }
        self.send()
    }

    /// The turn to send. A failure that no write has reported yet is reported here.
    fn turn(&self) -> io::Result<Permit<'_>> {
        let turn = self.sending.acquire()?;
        self.failed.take().map_or(Ok(turn), Err)
    }

    /// Sends what there is to send. Called by the one whose turn it is.
    fn send(&self) -> io::Result<()> {
        loop {
            let mut unsent = Unsent { home: &self.outgoing, outgoing: self.outgoing.take() };
            let Outgoing { bytes, sent } = &mut unsent.outgoing;
            if *sent == bytes.len() {
                bytes.clear();
                *sent = 0;
                let mut connection = self.connection.borrow_mut();
                while connection.wants_write() {
                    connection.write_tls(bytes)?;
                }
                if bytes.is_empty() {
                    break;
                }
            }
            while *sent < bytes.len() {
                match self.socket.write_shared(&bytes[*sent..]) {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Ok(count) => *sent += count,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
        }
        self.socket.flush_shared()
    }

    /// Has the protocol take in some bytes, read from the socket if need be.
    fn receive(&self) -> io::Result<()> {
        let mut incoming = self.incoming.take();
        if incoming.left.is_empty() {
            incoming.bytes.resize(CHUNK, 0);
            let count = loop {
                match self.socket.read_shared(&mut incoming.bytes) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    other => break other?,
                }
            };
            incoming.left = 0..count;
        }
        let (processed, answers) = {
            let mut connection = self.connection.borrow_mut();
            // Nothing at all is how it is told of the peer's end.
            let taken = connection.read_tls(&mut &incoming.bytes[incoming.left.clone()])?;
            // What follows a close_notify is of no interest.
            incoming.left.start = if taken == 0 { incoming.left.end } else { incoming.left.start + taken };
            let processed = connection.process_new_packets();
            (processed, connection.wants_write())
        };
        self.incoming.set(incoming);
        // An alert, or new keys. If others are sending, they send this too.
        let sent = match self.sending.try_acquire() {
            Some(_turn) if answers => self.send(),
            _ => Ok(()),
        };
        processed.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        sent
    }
}

impl<S> TlsStream<S> {
    /// The socket: for its addresses, timeouts and `close`. Whoever reads or writes it directly breaks the connection.
    pub fn get_ref(&self) -> &S {
        &self.socket
    }

    /// The protocol that was agreed on by ALPN (`selected_alpn_protocol`): of those in the configuration's
    /// `alpn_protocols`.
    pub fn alpn_protocol(&self) -> Option<Vec<u8>> {
        self.connection.borrow().alpn_protocol().map(<[u8]>::to_vec)
    }

    /// On a server, the name that the client has asked for (SNI).
    pub fn server_name(&self) -> Option<String> {
        match &*self.connection.borrow() {
            Connection::Server(connection) => connection.server_name().map(str::to_owned),
            Connection::Client(_) => None,
        }
    }

    /// The peer's certificates, its own first (`getpeercert`). A server sees some only if its configuration asks for
    /// them.
    pub fn peer_certificates(&self) -> Option<Vec<CertificateDer<'static>>> {
        self.connection.borrow().peer_certificates().map(<[CertificateDer<'static>]>::to_vec)
    }

    /// The version of TLS that is spoken (`version`).
    pub fn protocol_version(&self) -> Option<ProtocolVersion> {
        self.connection.borrow().protocol_version()
    }

    /// The cipher suite that is used (`cipher`).
    pub fn cipher_suite(&self) -> Option<SupportedCipherSuite> {
        self.connection.borrow().negotiated_cipher_suite()
    }
}

impl<S: Transport> Read for &TlsStream<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let read = self.connection.borrow_mut().reader().read(buffer);
            match read {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.receive()?,
                read => return read,
            }
        }
    }
}

impl<S: Transport> Write for &TlsStream<S> {
    /// Takes at most 64 KiB, and returns when they have been handed to the socket. When that fails the bytes are taken
    /// all the same, and the next write, flush or shutdown returns the error.
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let _turn = self.turn()?;
        if self.shut.get() {
            let what = "the TLS stream has been shut down for writing by this program";
            return Err(io::Error::new(io::ErrorKind::BrokenPipe, what));
        }
        self.send()?;
        let count = self.connection.borrow_mut().writer().write(buffer)?;
        match self.send() {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => self.failed.set(Some(error)),
            _ => {}
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        let _turn = self.turn()?;
        self.send()
    }
}

impl<S: Transport> Read for TlsStream<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buffer)
    }
}

impl<S: Transport> Write for TlsStream<S> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        (&*self).write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        (&*self).flush()
    }
}

impl<S: fmt::Debug> fmt::Debug for TlsStream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream").field("socket", &self.socket).finish_non_exhaustive()
    }
}

/// Keeps what has not been sent when the sender fails or unwinds: the next one goes on from there.
struct Unsent<'a> {
    home: &'a Cell<Outgoing>,
    outgoing: Outgoing,
}

impl Drop for Unsent<'_> {
    fn drop(&mut self) {
        self.home.set(std::mem::take(&mut self.outgoing));
    }
}

/// Nobody else has the connection yet, so rustls's own loop does.
fn handshake<S: Transport>(
    socket: S,
    mut connection: Connection,
    peer: String,
    timeout: Option<Duration>,
) -> io::Result<TlsStream<S>> {
    let mut shake = || -> io::Result<()> {
        let mut socket = Both(&socket);
        while connection.is_handshaking() || connection.wants_write() {
            match connection.complete_io(&mut socket) {
                Ok((0, 0)) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) => {
                    if error.kind() == io::ErrorKind::InvalidData {
                        // The alert that tells the peer why; whether it arrives changes nothing for us.
                        let _ = send_all(&mut connection, &mut socket);
                    }
                    return Err(error);
                }
            }
        }
        Ok(())
    };
    let done = match timeout {
        Some(timeout) => crate::timeout(timeout, shake).unwrap_or_else(|_| {
            let what = format!("it was not done within {timeout:?}");
            Err(io::Error::new(io::ErrorKind::TimedOut, what))
        }),
        None => shake(),
    };
    match done {
        Ok(()) => Ok(TlsStream {
            socket,
            connection: RefCell::new(connection),
            incoming: Cell::default(),
            outgoing: Cell::default(),
            sending: Semaphore::new(1),
            failed: Cell::new(None),
            shut: Cell::new(false),
        }),
        Err(cause) => Err(io::Error::new(cause.kind(), HandshakeError { peer, cause })),
    }
}

/// Sends what there is to send.
fn send_all(connection: &mut Connection, socket: &mut impl Write) -> io::Result<()> {
    while connection.wants_write() {
        if connection.write_tls(socket)? == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
    }
    Ok(())
}

/// A shared socket as one that reads and writes.
struct Both<'a, S>(&'a S);

impl<S: Transport> Read for Both<'_, S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read_shared(buffer)
    }
}

impl<S: Transport> Write for Both<'_, S> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.0.write_shared(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush_shared()
    }
}

/// Why there is no connection.
#[derive(Debug)]
struct HandshakeError {
    peer: String,
    cause: io::Error,
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the TLS handshake with {} failed: {}", self.peer, self.cause)
    }
}

impl std::error::Error for HandshakeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.cause)
    }
}
