//! Where clients live: on OS threads or on green threads.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

/// What the load generator needs of its surroundings.
pub trait World: Copy + Send + 'static {
    /// A connected stream whose reads and writes block the client and nobody else.
    type Stream: Read + Write + 'static;
    /// A running client.
    type Handle;

    /// Connects within `timeout`, which then also bounds each read and write. `TCP_NODELAY` is set.
    fn connect(self, address: SocketAddr, timeout: Duration) -> io::Result<Self::Stream>;

    /// Waits.
    fn sleep(self, duration: Duration);

    /// Starts a client, with its connection if it has one already.
    fn spawn(
        self,
        stream: Option<Self::Stream>,
        client: impl FnOnce(Option<Self::Stream>) + Send + 'static,
    ) -> io::Result<Self::Handle>;

    /// Waits for all clients to end, at most `timeout` from now on. Gives the number of those that did not, which may
    /// go on running, if the world can't end them.
    fn join_all(self, clients: Vec<Self::Handle>, timeout: Duration) -> usize;
}

/// Each client is a green thread of the calling OS thread.
#[derive(Clone, Copy, Debug)]
pub struct Green;

impl World for Green {
    type Stream = greenlet::net::TcpStream;
    type Handle = greenlet::Greenlet<()>;

    fn connect(self, address: SocketAddr, timeout: Duration) -> io::Result<Self::Stream> {
        let stream = greenlet::net::TcpStream::connect_timeout(&address, timeout)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        Ok(stream)
    }

    fn sleep(self, duration: Duration) {
        greenlet::sleep(duration);
    }

    fn spawn(
        self,
        stream: Option<Self::Stream>,
        client: impl FnOnce(Option<Self::Stream>) + Send + 'static,
    ) -> io::Result<Self::Handle> {
        greenlet::Builder::new().name("client").spawn(move || client(stream))
    }

    fn join_all(self, clients: Vec<Self::Handle>, timeout: Duration) -> usize {
        // an error would say that some are left, as the count does
        let _ = greenlet::join_all(&clients, timeout);
        let unfinished = clients.iter().filter(|client| !client.is_dead()).count();
        let _ = greenlet::kill_all(&clients, None);
        unfinished
    }
}

/// Each client is an OS thread, its connection a socket of the standard library.
#[derive(Clone, Copy, Debug)]
pub struct Threads;

impl World for Threads {
    type Stream = std::net::TcpStream;
    type Handle = std::thread::JoinHandle<()>;

    fn connect(self, address: SocketAddr, timeout: Duration) -> io::Result<Self::Stream> {
        let stream = std::net::TcpStream::connect_timeout(&address, timeout)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        Ok(stream)
    }

    fn sleep(self, duration: Duration) {
        std::thread::sleep(duration);
    }

    fn spawn(
        self,
        stream: Option<Self::Stream>,
        client: impl FnOnce(Option<Self::Stream>) + Send + 'static,
    ) -> io::Result<Self::Handle> {
        std::thread::Builder::new().spawn(move || client(stream))
    }

    fn join_all(self, clients: Vec<Self::Handle>, timeout: Duration) -> usize {
        let deadline = std::time::Instant::now() + timeout;
        while clients.iter().any(|client| !client.is_finished()) && std::time::Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        clients.iter().filter(|client| !client.is_finished()).count()
    }
}
