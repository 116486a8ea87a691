//! A client over a raw socket: it sends the bytes it is given, as slowly and as rudely as asked, and reads responses
//! strictly. Every wait ends with the client's patience.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustls::{ClientConnection, StreamOwned};
use socket2::SockRef;

use crate::PATIENCE;
use crate::response::{Framing, ReadError, Response, malformed, parse_chunk_size, parse_field, parse_head};

/// A request in HTTP/1.1 with a `Host`, these further header lines, and a body if there is one (its length is added).
///
/// ```
/// let bytes = greenserve_tests::request("POST", "/upload", &["X-A: 1"], b"hi");
/// assert_eq!(bytes, b"POST /upload HTTP/1.1\r\nHost: test\r\nX-A: 1\r\nContent-Length: 2\r\n\r\nhi");
/// ```
pub fn request(method: &str, target: &str, headers: &[&str], body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{method} {target} HTTP/1.1\r\nHost: test\r\n").into_bytes();
    for header in headers {
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    if !body.is_empty() {
        bytes.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    bytes
}

/// A request by the uwsgi protocol: the packet of these variables, and the body behind it.
///
/// ```
/// let bytes = greenserve_tests::uwsgi(&[("A", "bc")], b"hi");
/// assert_eq!(bytes, b"\0\x07\0\0\x01\0A\x02\0bchi");
/// ```
///
/// # Panics
/// When the variables have no place in a packet of 64 KiB.
pub fn uwsgi(vars: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let length = |n: usize| u16::try_from(n).expect("16 bits").to_le_bytes();
    let mut block = Vec::new();
    for text in vars.iter().flat_map(|(name, value)| [name, value]) {
        block.extend_from_slice(&length(text.len()));
        block.extend_from_slice(text.as_bytes());
    }
    let [low, high] = length(block.len());
    [&[0, low, high, 0], &block[..], body].concat()
}

/// One connection to a server.
#[derive(Debug)]
pub struct Client {
    stream: Stream,
    buffer: Vec<u8>,
    patience: Duration,
}

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Stream {
    fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Stream::Tcp(stream) => Some(stream),
            Stream::Tls(stream) => Some(&stream.sock),
            Stream::Unix(_) => None,
        }
    }

    fn set_read_timeout(&self, timeout: Duration) -> io::Result<()> {
        match self {
            Stream::Unix(stream) => stream.set_read_timeout(Some(timeout)),
            Stream::Tcp(stream) => stream.set_read_timeout(Some(timeout)),
            Stream::Tls(stream) => stream.sock.set_read_timeout(Some(timeout)),
        }
    }

    fn set_write_timeout(&self, timeout: Duration) -> io::Result<()> {
        match self {
            Stream::Unix(stream) => stream.set_write_timeout(Some(timeout)),
            Stream::Tcp(stream) => stream.set_write_timeout(Some(timeout)),
            Stream::Tls(stream) => stream.sock.set_write_timeout(Some(timeout)),
        }
    }
}

impl Client {
    /// Connects over TCP. Small writes go out at once, each as its own segment.
    ///
    /// # Panics
    /// When the server does not take the connection.
    pub fn tcp(addr: SocketAddr) -> Client {
        Client::try_tcp(addr).unwrap_or_else(|error| panic!("connect to {addr}: {error}"))
    }

    /// The same, or why not: a server may be about to go.
    pub fn try_tcp(addr: SocketAddr) -> io::Result<Client> {
        let stream = TcpStream::connect_timeout(&addr, PATIENCE)?;
        stream.set_nodelay(true)?;
        Ok(Client::new(Stream::Tcp(stream)))
    }

    /// Connects to a unix socket.
    ///
    /// # Panics
    /// When the server does not take the connection.
    pub fn unix(path: &Path) -> Client {
        Client::try_unix(path).unwrap_or_else(|error| panic!("connect to {}: {error}", path.display()))
    }

    /// The same, or why not: a server may be about to go.
    pub fn try_unix(path: &Path) -> io::Result<Client> {
        UnixStream::connect(path).map(Stream::Unix).map(Client::new)
    }

    /// Over a connection that was made elsewhere.
    pub fn over_unix(stream: UnixStream) -> Client {
        Client::new(Stream::Unix(stream))
    }

    /// Connects over TCP for TLS; the handshake comes with the first bytes sent or read, or by [`Client::handshake`].
    ///
    /// # Panics
    /// When the server does not take the connection.
    pub fn tls(addr: SocketAddr, connection: ClientConnection) -> Client {
        let Client { stream: Stream::Tcp(tcp), .. } = Client::tcp(addr) else { unreachable!("a TCP client") };
        Client::new(Stream::Tls(Box::new(StreamOwned::new(connection, tcp))))
    }

    /// Shakes hands.
    ///
    /// # Errors
    /// Why that failed, which may be the server's alert.
    pub fn handshake(&mut self) -> io::Result<()> {
        let Stream::Tls(stream) = &mut self.stream else { return Ok(()) };
        stream.sock.set_read_timeout(Some(self.patience))?;
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(())
    }

    /// What rustls knows of the connection.
    ///
    /// # Panics
    /// Without TLS.
    pub fn tls_state(&self) -> &ClientConnection {
        match &self.stream {
            Stream::Tls(stream) => &stream.conn,
            _ => panic!("this connection speaks no TLS"),
        }
    }

    /// The socket under the TLS, for bytes of one's own.
    ///
    /// # Panics
    /// On a unix socket.
    pub fn socket(&self) -> &TcpStream {
        self.stream.tcp().expect("a TCP socket")
    }

    /// Waits at most so long for each response, instead of [`PATIENCE`].
    pub fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// This end's address. Panics on a unix socket.
    pub fn local_addr(&self) -> SocketAddr {
        let tcp = self.stream.tcp().expect("a unix socket has no such address");
        tcp.local_addr().expect("a local address")
    }

    /// Sends all of `bytes`.
    ///
    /// # Panics
    /// When the connection does not take them all.
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes.as_ref()).unwrap_or_else(|error| panic!("send: {error}"));
    }

    /// Sends all of `bytes`, or says why not: a server may have closed the connection meanwhile.
    pub fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.set_write_timeout(self.patience)?;
        match &mut self.stream {
            Stream::Tcp(stream) => stream.write_all(bytes),
            Stream::Unix(stream) => stream.write_all(bytes),
            Stream::Tls(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
        }
    }

    /// Sends `bytes` in pieces of `size` with a pause after each; stops early, without complaint, once the server
    /// has closed the connection. Returns whether all were sent.
    pub fn send_slowly(&mut self, bytes: &[u8], size: usize, pause: Duration) -> bool {
        bytes.chunks(size).all(|piece| {
            let sent = self.try_send(piece).is_ok();
            thread::sleep(pause);
            sent
        })
    }

    /// Says that nothing more will be sent (FIN, over TLS after a `close_notify`); answers can still be read.
    pub fn finish_sending(&mut self) {
        let done = match &mut self.stream {
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Stream::Unix(stream) => stream.shutdown(Shutdown::Write),
            Stream::Tls(stream) => {
                stream.conn.send_close_notify();
                stream.flush().and_then(|()| stream.sock.shutdown(Shutdown::Write))
            }
        };
        done.expect("shutdown for writing");
    }

    /// Drops the connection with a reset (RST) instead of a FIN: what has been sent and not read yet is lost.
    pub fn reset(self) {
        if let Some(stream) = self.stream.tcp() {
            SockRef::from(stream).set_linger(Some(Duration::ZERO)).expect("SO_LINGER of zero");
        }
    }

    /// Makes the kernel's receive buffer as small as can be, so that a server's writes soon find no room.
    pub fn shrink_receive_buffer(&self) {
        self.shrink_receive_buffer_to(4096);
    }

    /// Makes the kernel's receive buffer this small.
    pub fn shrink_receive_buffer_to(&self, bytes: usize) {
        if let Some(stream) = self.stream.tcp() {
            SockRef::from(stream).set_recv_buffer_size(bytes).expect("SO_RCVBUF");
        }
    }

    /// Sends a GET for `target` and reads the response.
    #[track_caller]
    pub fn get(&mut self, target: &str) -> Response {
        self.send(request("GET", target, &[], b""));
        self.response()
    }

    /// Sends a POST of `body` to `target` and reads the response.
    #[track_caller]
    pub fn post(&mut self, target: &str, body: &[u8]) -> Response {
        self.send(request("POST", target, &[], body));
        self.response()
    }

    /// Reads the response to a GET, POST or any method but HEAD.
    ///
    /// # Panics
    /// When there is none, or it breaks a rule: the message says which.
    #[track_caller]
    pub fn response(&mut self) -> Response {
        self.response_to("GET")
    }

    /// Reads the response to `method`, which decides whether a body follows the head.
    #[track_caller]
    pub fn response_to(&mut self, method: &str) -> Response {
        self.try_response_to(method).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Like [`Client::response`], with the failure as a value.
    pub fn try_response(&mut self) -> Result<Response, ReadError> {
        self.try_response_to("GET")
    }

    /// Like [`Client::response_to`], with the failure as a value.
    pub fn try_response_to(&mut self, method: &str) -> Result<Response, ReadError> {
        let mut response = self.read_head(method)?;
        let ended = match response.framing {
            Framing::None => Ok(()),
            Framing::Length(length) => self.read_sized(&mut response, length),
            Framing::Chunked => self.read_chunks(&mut response),
            Framing::Close => self.read_until_close(&mut response),
        };
        match ended {
            Ok(()) => Ok(response),
            // within a body every kind of end means the same to a client: it is not all there
            Err(ReadError::Closed | ReadError::Failed(_)) => Err(ReadError::Truncated(Box::new(response))),
            Err(other) => Err(other),
        }
    }

    /// Reads a head only, leaving the body unread: for a response that streams.
    pub fn read_head(&mut self, method: &str) -> Result<Response, ReadError> {
        let deadline = Instant::now() + self.patience;
        let end = loop {
            if let Some(at) = find(&self.buffer, b"\r\n\r\n") {
                break at;
            }
            match self.fill(deadline) {
                Ok(()) => {}
                Err(ReadError::Closed) if !self.buffer.is_empty() => {
                    return Err(ReadError::TruncatedHead(std::mem::take(&mut self.buffer)));
                }
                Err(other) => return Err(other),
            }
        };
        let head: Vec<u8> = self.buffer.drain(..end + 4).take(end).collect();
        parse_head(&head, method)
    }

    /// Reads the next chunk of a chunked body whose head was read by [`Client::read_head`]; empty for the last one.
    #[track_caller]
    pub fn read_chunk(&mut self) -> Vec<u8> {
        self.next_chunk().unwrap_or_else(|error| panic!("{error}"))
    }

    /// Reads the chunks of a body whose head was read by [`Client::read_head`] to the last one: with a pause after each of so
    /// many, and then without. Gives the number of bytes.
    #[track_caller]
    pub fn read_chunks_slowly(&mut self, slow: usize, pause: Duration) -> usize {
        let mut total = 0;
        for count in 1.. {
            match self.read_chunk().len() {
                0 => break,
                length => total += length,
            }
            if count <= slow {
                thread::sleep(pause);
            }
        }
        total
    }

    /// Reads bytes of a body whose head was read by [`Client::read_head`]: what is there, but at most so many, which are all
    /// that is taken off the socket.
    #[track_caller]
    pub fn read_some(&mut self, most: usize) -> Vec<u8> {
        if self.buffer.is_empty() {
            self.fill_at_most(Instant::now() + self.patience, most).unwrap_or_else(|error| panic!("{error}"));
        }
        self.buffer.drain(..most.min(self.buffer.len())).collect()
    }

    /// Asserts that the server sends nothing more and closes in good order (FIN, not RST).
    #[track_caller]
    pub fn expect_close(&mut self) {
        match self.read_rest() {
            Ok(rest) => assert!(rest.is_empty(), "unexpected bytes: {:?}", String::from_utf8_lossy(&rest)),
            Err(error) => panic!("expected an orderly close: {error}"),
        }
    }

    /// Asserts that the server sends nothing more and closes, be it by a reset.
    #[track_caller]
    pub fn expect_gone(&mut self) {
        match self.read_rest() {
            Ok(rest) => assert!(rest.is_empty(), "unexpected bytes: {:?}", String::from_utf8_lossy(&rest)),
            Err(ReadError::Failed(_)) => {}
            Err(error) => panic!("expected the connection to end: {error}"),
        }
    }

    /// Asserts that nothing comes, neither bytes nor an end, for `pause`.
    #[track_caller]
    pub fn expect_silence(&mut self, pause: Duration) {
        match self.fill(Instant::now() + pause) {
            Err(ReadError::TimedOut) if self.buffer.is_empty() => {}
            other => panic!("expected silence: {other:?} {:?}", String::from_utf8_lossy(&self.buffer)),
        }
    }

    /// Everything until the server closes in good order.
    pub fn read_rest(&mut self) -> Result<Vec<u8>, ReadError> {
        let deadline = Instant::now() + self.patience;
        loop {
            match self.fill(deadline) {
                Ok(()) => {}
                Err(ReadError::Closed) => return Ok(std::mem::take(&mut self.buffer)),
                Err(other) => return Err(other),
            }
        }
    }

    fn new(stream: Stream) -> Client {
        Client { stream, buffer: Vec::new(), patience: PATIENCE }
    }

    fn read_sized(&mut self, response: &mut Response, length: usize) -> Result<(), ReadError> {
        let deadline = Instant::now() + self.patience;
        loop {
            let wanted = length - response.body.len();
            let part = wanted.min(self.buffer.len());
            response.body.extend(self.buffer.drain(..part));
            if part == wanted {
                return Ok(());
            }
            self.fill(deadline)?;
        }
    }

    fn read_chunks(&mut self, response: &mut Response) -> Result<(), ReadError> {
        loop {
            let chunk = self.next_chunk()?;
            if chunk.is_empty() {
                break;
            }
            response.chunks.push(chunk.len());
            response.body.extend_from_slice(&chunk);
        }
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(());
            }
            response.trailers.push(parse_field(&String::from_utf8_lossy(&line))?);
        }
    }

    /// One chunk; the empty one stands for the last, whose trailers and closing line are left to the caller.
    fn next_chunk(&mut self) -> Result<Vec<u8>, ReadError> {
        let size = parse_chunk_size(&self.line()?)?;
        if size == 0 {
            return Ok(Vec::new());
        }
        let deadline = Instant::now() + self.patience;
        while self.buffer.len() < size + 2 {
            self.fill(deadline)?;
        }
        let mut chunk: Vec<u8> = self.buffer.drain(..size + 2).collect();
        if chunk.split_off(size) != b"\r\n" {
            return Err(malformed("a chunk longer than its size"));
        }
        Ok(chunk)
    }

    fn read_until_close(&mut self, response: &mut Response) -> Result<(), ReadError> {
        response.body = self.read_rest()?;
        Ok(())
    }

    fn line(&mut self) -> Result<Vec<u8>, ReadError> {
        let deadline = Instant::now() + self.patience;
        loop {
            if let Some(at) = find(&self.buffer, b"\r\n") {
                return Ok(self.buffer.drain(..at + 2).take(at).collect());
            }
            self.fill(deadline)?;
        }
    }

    /// Reads once into the buffer; an orderly end is `Closed`.
    fn fill(&mut self, deadline: Instant) -> Result<(), ReadError> {
        self.fill_at_most(deadline, usize::MAX)
    }

    fn fill_at_most(&mut self, deadline: Instant, most: usize) -> Result<(), ReadError> {
        let mut piece = [0; 64 * 1024];
        let piece = &mut piece[..most.min(64 * 1024)];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ReadError::TimedOut);
            }
            let got = self.stream.set_read_timeout(left).and_then(|()| match &mut self.stream {
                Stream::Tcp(stream) => stream.read(piece),
                Stream::Unix(stream) => stream.read(piece),
                Stream::Tls(stream) => stream.read(piece),
            });
            match got {
                Ok(0) => return Err(ReadError::Closed),
                Ok(n) => {
                    self.buffer.extend_from_slice(&piece[..n]);
                    return Ok(());
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(ReadError::Failed(error)),
            }
        }
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// A client whose server sends exactly these bytes and closes.
    fn client_of(bytes: &'static [u8]) -> Client {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        thread::spawn(move || listener.accept().unwrap().0.write_all(bytes).unwrap());
        Client::tcp(addr)
    }

    const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\nDate: x\r\nTransfer-Encoding: chunked\r\n\r\n\
        2\r\nab\r\n1\r\nc\r\n0\r\nX-T: 1\r\n\r\n";

    #[test]
    fn a_chunked_body_is_read_with_its_boundaries_and_trailers() {
        let mut client = client_of(CHUNKED);
        let response = client.response();
        assert_eq!(response.text(), "abc");
        assert_eq!(response.chunks, [2, 1]);
        assert_eq!(response.trailers, [("X-T".to_owned(), "1".to_owned())]);
        client.expect_close();
    }

    #[test]
    fn a_body_that_ends_early_is_truncated() {
        let mut sized = client_of(b"HTTP/1.1 200 OK\r\nDate: x\r\nContent-Length: 9\r\n\r\nabc");
        assert!(matches!(sized.try_response(), Err(ReadError::Truncated(part)) if part.body == b"abc"));
        let mut chunked = client_of(&CHUNKED[..CHUNKED.len() - 2]);
        assert!(matches!(chunked.try_response(), Err(ReadError::Truncated(part)) if part.body == b"abc"));
        let mut head = client_of(b"HTTP/1.1 200 OK\r\n");
        assert!(matches!(head.try_response(), Err(ReadError::TruncatedHead(_))));
    }

    #[test]
    #[should_panic(expected = "unexpected bytes")]
    fn bytes_behind_a_response_are_noticed() {
        let mut client = client_of(b"HTTP/1.1 200 OK\r\nDate: x\r\nContent-Length: 2\r\n\r\nokgarbage");
        assert_eq!(client.response().text(), "ok");
        client.expect_close();
    }

    #[test]
    fn a_silent_server_ends_the_patience() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = Client::tcp(listener.local_addr().unwrap());
        client.set_patience(Duration::from_millis(20));
        assert!(matches!(client.try_response(), Err(ReadError::TimedOut)));
    }
}
