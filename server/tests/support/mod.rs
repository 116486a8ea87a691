//! A server on a loopback port in a thread of its own, and a client that sends exact bytes.
#![allow(dead_code, reason = "each test binary uses its part")]

mod stream;

use std::cell::Cell;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::thread::JoinHandle;
use std::time::Duration;

use greenserve::{IntoResponse, Request, Server, ServerHandle};

pub(crate) use self::stream::Stream;

/// How long a test waits for anything before it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Which of the two ways to serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Green,
    Threads,
}

/// Runs a test both ways.
pub(crate) fn both(test: impl Fn(Mode)) {
    for mode in [Mode::Green, Mode::Threads] {
        println!("{mode:?}");
        test(mode);
    }
}

thread_local! {
    /// Whether the servers that this test starts speak TLS.
    static TLS: Cell<bool> = const { Cell::new(false) };
}

/// Runs a test, and once more over TLS: [`Running`] and the clients it makes see to that.
pub(crate) fn plain_and_tls(test: impl Fn()) {
    test();
    if cfg!(feature = "tls") {
        println!("over TLS");
        TLS.set(true);
        test();
        TLS.set(false);
    }
}

/// Runs a test both ways, each without and with TLS.
pub(crate) fn all_ways(test: impl Fn(Mode)) {
    plain_and_tls(|| both(&test));
}

/// A running server; stopped when dropped.
pub(crate) struct Running {
    pub(crate) addr: SocketAddr,
    tls: bool,
    pub(crate) handle: ServerHandle,
    thread: Option<JoinHandle<std::io::Result<()>>>,
}

impl Running {
    pub(crate) fn start<R: IntoResponse>(
        mode: Mode,
        setup: impl FnOnce(Server) -> Server + Send + 'static,
        app: impl Fn(Request) -> R + Send + Sync + 'static,
    ) -> Running {
        let server = Server::bind("127.0.0.1:0").unwrap();
        let addr = server.local_addrs()[0].as_inet().unwrap();
        let handle = server.handle();
        let tls = TLS.get();
        let server = if tls { stream::speak_tls(server) } else { server };
        let thread = std::thread::spawn(move || {
            let server = setup(server);
            match mode {
                Mode::Green => server.serve(app),
                Mode::Threads => server.serve_threads(app),
            }
        });
        Running { addr, tls, handle, thread: Some(thread) }
    }

    pub(crate) fn client(&self) -> Client {
        let client = Client::connect(self.addr);
        if self.tls { Client { stream: client.stream.with_tls(), ..client } } else { client }
    }

    /// What comes back for `bytes`, to the end of the connection. The client's side stays open.
    pub(crate) fn answer(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut client = self.client();
        client.send(bytes);
        client.rest()
    }

    /// Stops, and waits until it has.
    pub(crate) fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.handle.stop();
        if let Some(thread) = self.thread.take() {
            let result = thread.join();
            if !std::thread::panicking() {
                result.expect("the server panicked").expect("the server failed");
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// A client that sends and reads exact bytes.
pub(crate) struct Client {
    pub(crate) stream: Stream,
    /// Read but not asked for yet.
    ahead: Vec<u8>,
}

impl Client {
    pub(crate) fn connect(addr: SocketAddr) -> Client {
        Client { stream: Stream::connect(addr), ahead: Vec::new() }
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// No more will be sent.
    pub(crate) fn finish(&mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Reads until `end` has come; gives all up to and with it.
    pub(crate) fn until(&mut self, end: &str) -> String {
        loop {
            if let Some(at) = find(&self.ahead, end.as_bytes()) {
                let rest = self.ahead.split_off(at + end.len());
                return String::from_utf8(std::mem::replace(&mut self.ahead, rest)).unwrap();
            }
            let mut piece = [0; 4096];
            match self.stream.read(&mut piece) {
                Ok(0) => {
                    panic!("the connection ended before {end:?}: {:?}", String::from_utf8_lossy(&self.ahead))
                }
                Ok(n) => self.ahead.extend_from_slice(&piece[..n]),
                Err(error) => panic!("{error} before {end:?}: {:?}", String::from_utf8_lossy(&self.ahead)),
            }
        }
    }

    /// Reads to the end of the connection, which must be a regular one.
    pub(crate) fn rest(&mut self) -> String {
        let mut all = std::mem::take(&mut self.ahead);
        if let Err(error) = self.stream.read_to_end(&mut all) {
            panic!("{error} after {:?}", String::from_utf8_lossy(&all));
        }
        String::from_utf8(all).unwrap()
    }

    /// Reads to the end of the connection, regular or not.
    pub(crate) fn rest_lossy(&mut self) -> String {
        let mut all = std::mem::take(&mut self.ahead);
        let mut piece = [0; 4096];
        loop {
            match self.stream.read(&mut piece) {
                Ok(0) => break,
                Ok(n) => all.extend_from_slice(&piece[..n]),
                // TLS tells an end that nobody has announced.
                Err(error)
                    if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof) =>
                {
                    break;
                }
                Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&all)),
            }
        }
        String::from_utf8_lossy(&all).into_owned()
    }
}

/// A response's head and body, with the date cut out.
pub(crate) fn split(response: &str) -> (&str, &str) {
    response.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no response: {response:?}"))
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// A handler for what never reaches one.
pub(crate) fn hello(_: Request) -> &'static str {
    "hello"
}
