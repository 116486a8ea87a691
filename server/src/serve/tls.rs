//! TLS between a connection and its socket: the handshake, and a [`Transport`] over another one.
//!
//! What has come and was decrypted, and what was encrypted and waits to be sent, lies in rustls's connection, which is never
//! borrowed while a green thread waits. So one may read while another writes, and whoever is unwound while it waits has lost
//! nothing: the records that are left go out before those of the next one.

use std::cell::{Cell, OnceCell, RefCell};
use std::fs::File;
use std::io::{self, BufRead, IoSlice, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::FileExt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::http::StatusCode;
use rustls::{ProtocolVersion, ServerConnection};

use super::ServerHandle;
use super::arrive::{Ends, LAST_CALL};
use super::conn::{Conn, later};
use super::failures::refuse;
use super::settings::Settings;
use super::transport::{Transport, is_timeout, with_read_buffer};
use crate::app::{Addr, Leaving, TlsInfo, TlsVersion};
use crate::tls::TlsConfig;

/// So much of a file is encrypted before it is sent: what rustls keeps of what was not sent.
const FILE_PIECE: usize = 64 * 1024;
/// So many writes are made in a row, if none has to wait, before others get their turn.
const TURN: u32 = 16;

/// A socket that TLS can be spoken over.
pub(crate) trait Wire: Transport {
    /// Writes what there is room for, and never waits.
    fn try_write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Waits for room to write, after [`Wire::try_write_vectored`] has found none, at most as long as a write may.
    fn wait_writable(&self) -> io::Result<()>;
}

/// Takes a client's connection, in the thread that will serve it. `None`: it has come to nothing, and the log and the client
/// have been told.
#[inline(never)]
pub(super) fn accept<T: Wire>(
    socket: &T,
    ends: &Ends,
    config: &TlsConfig,
    settings: &Arc<Settings>,
    server: &ServerHandle,
) -> Option<Tls<T>> {
    let connection = match ServerConnection::new(config.current()) {
        Ok(connection) => connection,
        Err(error) => {
            log::error!("{ends}: there can be no TLS connection: {error}");
            return None;
        }
    };
    let limit = settings.handshake_timeout;
    // The flight of a handshake finds room in any socket's buffer; a client that takes nothing must not hold it up either.
    let _ = socket.set_write_timeout(Some(limit));
    let tls = Tls::new(socket.clone(), connection);
    let done = tls.handshake(limit, server.is_stopping());
    let _ = socket.set_write_timeout(Some(settings.write_timeout));
    match done {
        Ok(()) => return Some(tls),
        Err(NoTls::Nothing) => log::debug!("{ends}: left before the TLS handshake"),
        Err(NoTls::Plain) => {
            drop(tls);
            let conn = Conn::new(socket.clone(), ends.clone(), Arc::clone(settings), server.clone());
            refuse(&conn, None, StatusCode::BAD_REQUEST, "plain HTTP came to a port that speaks HTTPS");
            conn.close(true);
        }
        Err(NoTls::Late) => log::info!("{ends}: the TLS handshake was not done within {limit:?}"),
        Err(NoTls::Failed(error)) => {
            log::info!("{ends}: the TLS handshake failed: {error}");
            // A close that is a reset could destroy the alert on its way.
            Conn::new(socket.clone(), ends.clone(), Arc::clone(settings), server.clone()).close(true);
        }
    }
    None
}

/// Why there is no TLS connection.
enum NoTls {
    /// Nothing came at all.
    Nothing,
    /// What came looks like a request.
    Plain,
    Late,
    Failed(io::Error),
}

/// A socket with TLS over it.
pub(crate) struct Tls<T>(Rc<Shared<T>>);

struct Shared<T> {
    socket: T,
    connection: RefCell<ServerConnection>,
    /// What came and rustls has no room for until what it has is read.
    more: RefCell<Vec<u8>>,
    /// Somebody waits for room to send all there is.
    sending: Cell<bool>,
    /// Writes since others had their turn.
    busy: Cell<u32>,
    info: OnceCell<Rc<TlsInfo>>,
}

impl<T> Clone for Tls<T> {
    fn clone(&self) -> Tls<T> {
        Tls(Rc::clone(&self.0))
    }
}

impl<T: Wire> Tls<T> {
    fn new(socket: T, connection: ServerConnection) -> Tls<T> {
        Tls(Rc::new(Shared {
            socket,
            connection: RefCell::new(connection),
            more: RefCell::default(),
            sending: Cell::new(false),
            busy: Cell::new(0),
            info: OnceCell::new(),
        }))
    }

    /// The socket itself.
    pub(super) fn socket(&self) -> &T {
        &self.0.socket
    }

    /// Waits for the client's first bytes, during which the server may end the connection because it stops, and shakes hands.
    fn handshake(&self, limit: Duration, stopping: bool) -> Result<(), NoTls> {
        let began = Instant::now();
        let deadline = later(began, limit);
        let first = if stopping { deadline.min(later(began, LAST_CALL)) } else { deadline };
        self.0.socket.set_idle(true);
        self.step(first, true)?;
        while self.0.connection.borrow().is_handshaking() {
            self.step(deadline, false)?;
        }
        Ok(())
    }

    /// Takes in what comes next, and answers.
    fn step(&self, deadline: Instant, first: bool) -> Result<(), NoTls> {
        let Shared { socket, .. } = &*self.0;
        let fed = loop {
            let wait = deadline.saturating_duration_since(Instant::now());
            if wait.is_zero() {
                return Err(NoTls::Late);
            }
            let read = socket.read_with(wait, |bytes| match bytes.first() {
                None if first => Err(NoTls::Nothing),
                None => {
                    Err(NoTls::Failed(io::Error::new(io::ErrorKind::UnexpectedEof, "the client hung up")))
                }
                // The first letter of a method. A handshake begins with 0x16, the type of its records.
                Some(byte) if first && byte.is_ascii_alphabetic() => Err(NoTls::Plain),
                Some(_) => Ok(self.feed(bytes)),
            });
            match read {
                Ok(fed) => break fed?,
                Err(error) if is_timeout(&error) => {}
                Err(_) if first => return Err(NoTls::Nothing),
                Err(error) => return Err(NoTls::Failed(error)),
            }
        };
        socket.set_idle(false);
        // An alert goes out, too.
        let sent = self.send();
        fed.and(sent).map_err(|error| if is_timeout(&error) { NoTls::Late } else { NoTls::Failed(error) })
    }

    /// Has rustls take in what came; nothing is the end.
    fn feed(&self, bytes: &[u8]) -> io::Result<()> {
        let mut connection = self.0.connection.borrow_mut();
        let mut left = bytes;
        loop {
            match connection.read_tls(&mut left) {
                // The end, or something behind a close_notify, which is of no interest.
                Ok(0) => return connection.process_new_packets().map_err(broken).map(drop),
                Ok(_) => {}
                // There will be room when what is there has been read.
                Err(_) if has_plaintext(&mut connection) => break,
                Err(error) => return Err(error),
            }
            connection.process_new_packets().map_err(broken)?;
            if left.is_empty() {
                return Ok(());
            }
        }
        self.0.more.borrow_mut().extend_from_slice(left);
        Ok(())
    }

    /// Takes in more of what the client sends. Waits for it until `deadline`.
    fn take_in(&self, deadline: Instant) -> io::Result<()> {
        let more = self.0.more.take();
        let fed = if more.is_empty() {
            self.send_before_waiting()?;
            let wait = deadline.saturating_duration_since(Instant::now());
            if wait.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.0.socket.read_with(wait, |bytes| self.feed(bytes))?
        } else {
            self.feed(&more)
        };
        if fed.is_err() {
            // The alert that tells the client why, if there is room for it.
            let _ = self.try_send();
        }
        fed
    }

    /// Sends all there is to send, as far as there is room. Whether that was all.
    fn try_send(&self) -> io::Result<bool> {
        let mut connection = self.0.connection.borrow_mut();
        while connection.wants_write() {
            match connection.write_tls(&mut Room(&self.0.socket)) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Sends all there is to send.
    fn send(&self) -> io::Result<()> {
        if self.try_send()? { Ok(()) } else { self.send_slowly() }
    }

    #[cold]
    #[inline(never)]
    fn send_slowly(&self) -> io::Result<()> {
        if self.0.sending.replace(true) {
            let what = "another green thread is writing to this TLS connection";
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, what));
        }
        let _turn = Turn(&self.0.sending);
        loop {
            self.0.socket.wait_writable()?;
            if self.try_send()? {
                return Ok(());
            }
        }
    }

    /// The client may be waiting for it, before it says anything. Who sends at the moment sends this, too.
    fn send_before_waiting(&self) -> io::Result<()> {
        if self.try_send()? || self.0.sending.get() {
            return Ok(());
        }
        self.send_slowly().map_err(|error| match is_timeout(&error) {
            // Not to be taken for a client that says nothing.
            true => io::Error::new(io::ErrorKind::ConnectionAborted, "the client takes nothing"),
            false => error,
        })
    }

    /// Encrypts and sends what `put` writes.
    fn encrypt(&self, put: impl FnOnce(&mut rustls::Writer<'_>) -> io::Result<usize>) -> io::Result<usize> {
        self.take_turn();
        // What is left of the last one, so that there is room.
        self.send()?;
        let count = put(&mut self.0.connection.borrow_mut().writer())?;
        self.send()?;
        Ok(count)
    }

    /// Gives way to others after a while of writing without having to wait.
    fn take_turn(&self) {
        self.0.busy.set(self.0.busy.get() + 1);
        if self.0.busy.get() == TURN {
            self.0.busy.set(0);
            self.0.socket.yield_now();
        }
    }
}

impl<T: Wire> Transport for Tls<T> {
    const PATIENCE: Option<Duration> = T::PATIENCE;
    const GREEN: bool = T::GREEN;

    fn receive(&self, buf: &mut [u8], peek: bool, wait: Duration) -> io::Result<usize> {
        self.0.socket.receive(buf, peek, wait)
    }

    fn read(&self, buf: &mut [u8], wait: Duration) -> io::Result<usize> {
        let mut deadline = None;
        loop {
            let read = self.0.connection.borrow_mut().reader().read(buf);
            match read {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // An end that is not announced: a request tells by itself whether it is whole (RFC 9112, 9.8).
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                read => return read,
            }
            self.take_in(*deadline.get_or_insert_with(|| later(Instant::now(), wait)))?;
        }
    }

    fn read_with<R>(&self, wait: Duration, take: impl FnOnce(&[u8]) -> R) -> io::Result<R> {
        // Many small records, of which none holds anything to read, must not make it longer.
        let mut deadline = None;
        loop {
            {
                let mut connection = self.0.connection.borrow_mut();
                let mut reader = connection.reader();
                match reader.fill_buf() {
                    Ok(bytes) => {
                        let count = bytes.len();
                        let result = take(bytes);
                        reader.consume(count);
                        return Ok(result);
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(take(&[])),
                    Err(error) => return Err(error),
                }
            }
            self.take_in(*deadline.get_or_insert_with(|| later(Instant::now(), wait)))?;
        }
    }

    fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.0.connection.borrow_mut().reader().read(buf);
            match read {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                read => return read,
            }
            let more = self.0.more.take();
            let fed = if more.is_empty() {
                let mut raw = [0; 4096];
                let count = self.0.socket.try_read(&mut raw)?;
                self.feed(&raw[..count])
            } else {
                self.feed(&more)
            };
            // What rustls has to say to what has come: an alert, say.
            let sent = self.try_send();
            fed.and(sent.map(drop))?;
        }
    }

    fn wait_readable(&self, wait: Option<Duration>) -> io::Result<()> {
        let is_there = !self.0.more.borrow().is_empty() || {
            let mut connection = self.0.connection.borrow_mut();
            let mut reader = connection.reader();
            !matches!(reader.fill_buf(), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
        };
        if is_there {
            return Ok(());
        }
        self.send_before_waiting()?;
        self.0.socket.wait_readable(wait)
    }

    fn set_upgraded(&self) -> io::Result<()> {
        self.0.socket.set_upgraded()
    }

    fn wake(&self) {
        self.0.socket.wake();
    }

    fn has_left(&self, how: Leaving) -> bool {
        self.0.socket.has_left(how)
    }

    fn unless_left(&self, how: Leaving, f: &mut dyn FnMut()) -> bool {
        self.0.socket.unless_left(how, f)
    }

    fn answered(&self) {
        self.0.socket.answered();
    }

    fn set_idle(&self, idle: bool) {
        self.0.socket.set_idle(idle);
    }

    fn is_idle(&self) -> bool {
        self.0.socket.is_idle()
    }

    fn write(&self, buf: &[u8]) -> io::Result<usize> {
        self.encrypt(|writer| writer.write(buf))
    }

    fn try_write(&self, buf: &[u8]) -> io::Result<usize> {
        let mut left = buf;
        // What there is no room for goes before the next write, or before something is waited for.
        while self.try_send()? && !left.is_empty() {
            let count = self.0.connection.borrow_mut().writer().write(left)?;
            left = &left[count..];
        }
        match buf.len() - left.len() {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            count => Ok(count),
        }
    }

    fn when_waiting(f: impl FnOnce() + 'static) {
        T::when_waiting(f);
    }

    fn write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.encrypt(|writer| writer.write_vectored(bufs))
    }

    /// Reads a piece of the file and encrypts it. Unlike sendfile(2) this copies, and if the disk has to be waited for it
    /// blocks all green threads of this OS thread meanwhile.
    fn send_file(&self, file: &File, offset: u64, length: usize) -> io::Result<usize> {
        self.encrypt(|writer| {
            let length = length.min(FILE_PIECE);
            let mut done = 0;
            while done < length {
                let count = with_read_buffer(|buffer| {
                    let room = buffer.len().min(length - done);
                    let count = file.read_at(&mut buffer[..room], offset + done as u64)?;
                    writer.write(&buffer[..count])
                })?;
                if count == 0 {
                    break;
                }
                done += count;
            }
            Ok(done)
        })
    }

    fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.0.socket.set_write_timeout(timeout)
    }

    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        if how == Shutdown::Write {
            self.0.connection.borrow_mut().send_close_notify();
            self.send()?;
        }
        self.0.socket.shutdown(how)
    }

    fn goodbye(&self) {
        self.0.connection.borrow_mut().send_close_notify();
        // A client that has gone already needs no telling.
        let _ = self.send();
    }

    fn reset_on_close(&self) {
        self.0.socket.reset_on_close();
    }

    fn local_addr(&self) -> Option<Addr> {
        self.0.socket.local_addr()
    }

    fn tls(&self) -> Option<Rc<TlsInfo>> {
        Some(Rc::clone(self.0.info.get_or_init(|| Rc::new(info(&self.0.connection.borrow())))))
    }

    fn yield_now(&self) {
        self.0.socket.yield_now();
    }

    fn catch<R>(f: impl FnOnce() -> R) -> Result<R, String> {
        T::catch(f)
    }

    fn within<R>(limit: Duration, f: impl FnOnce() -> R) -> Option<R> {
        T::within(limit, f)
    }
}

/// A socket that is written as far as there is room.
struct Room<'a, T>(&'a T);

impl<T: Wire> Write for Room<'_, T> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.try_write(buf)
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(bufs)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Is given back even if its owner is unwound.
struct Turn<'a>(&'a Cell<bool>);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

fn has_plaintext(connection: &mut ServerConnection) -> bool {
    connection.reader().fill_buf().is_ok_and(|bytes| !bytes.is_empty())
}

#[cold]
fn broken(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

fn info(connection: &ServerConnection) -> TlsInfo {
    let suite = connection.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str());
    TlsInfo {
        version: match connection.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => TlsVersion::V1_2,
            _ => TlsVersion::V1_3,
        },
        // rustls has its own prefix for the suites of TLS 1.3.
        cipher_suite: suite.unwrap_or_default().replacen("TLS13_", "TLS_", 1),
        server_name: connection.server_name().map(str::to_owned),
        alpn_protocol: connection.alpn_protocol().map(<[u8]>::to_vec),
        client_certificates: connection
            .peer_certificates()
            .map(|chain| chain.iter().map(|certificate| certificate.to_vec()).collect())
            .unwrap_or_default(),
    }
}
