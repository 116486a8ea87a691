//! A steady load that counts what gets lost.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::{Client, PATIENCE, eventually};

/// How the clients of a load treat their connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connections {
    /// Each client keeps its connection until the server says that the response was the last on it.
    Kept,
    /// A new one for each request.
    New,
}

/// Where the clients of a load connect.
#[derive(Debug, Clone)]
pub enum At {
    /// Over TCP.
    Tcp(SocketAddr),
    /// To a Unix socket's path.
    Unix(PathBuf),
}

impl At {
    fn connect(&self) -> io::Result<Client> {
        match self {
            At::Tcp(addr) => Client::try_tcp(*addr),
            At::Unix(path) => Client::try_unix(path),
        }
    }
}

impl From<SocketAddr> for At {
    fn from(addr: SocketAddr) -> At {
        At::Tcp(addr)
    }
}

impl From<&Path> for At {
    fn from(path: &Path) -> At {
        At::Unix(path.to_path_buf())
    }
}

/// Clients that ask for `/plaintext` again and again, until [`Load::finish`].
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Vec<String>>>,
}

/// What came of a load.
#[derive(Debug)]
pub struct Tally {
    /// Requests that got their whole answer.
    pub answered: u64,
    /// What became of the others, each in words.
    pub lost: Vec<String>,
}

impl Load {
    /// Starts `clients` threads, each of which asks about two hundred times a second.
    pub fn start(at: impl Into<At>, connections: Connections, clients: usize) -> Load {
        let at = at.into();
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let clients = (0..clients).map(|_| {
            let (stop, answered, at) = (Arc::clone(&stop), Arc::clone(&answered), at.clone());
            thread::spawn(move || ask(&at, connections, &stop, &answered))
        });
        Load { clients: clients.collect(), stop, answered }
    }

    /// Both kinds at once.
    pub fn both(at: impl Into<At>, clients: usize) -> [Load; 2] {
        let at = at.into();
        [Connections::Kept, Connections::New].map(|connections| Load::start(at.clone(), connections, clients))
    }

    /// Waits until so many more requests were answered, which shows that the server serves.
    #[track_caller]
    pub fn wait_for(&self, more: u64) {
        let enough = self.answered.load(Ordering::SeqCst) + more;
        eventually(PATIENCE, || self.answered.load(Ordering::SeqCst) >= enough);
    }

    /// Ends it.
    pub fn finish(self) -> Tally {
        self.stop.store(true, Ordering::SeqCst);
        let lost = self.clients.into_iter().flat_map(|client| client.join().expect("a client's thread"));
        Tally { lost: lost.collect(), answered: self.answered.load(Ordering::SeqCst) }
    }
}

/// One client's life. That nobody listens any more ends it without loss: nothing was asked then.
fn ask(at: &At, connections: Connections, stop: &AtomicBool, answered: &AtomicU64) -> Vec<String> {
    let mut lost = Vec::new();
    let mut kept = None;
    while !stop.load(Ordering::SeqCst) {
        let mut client = match kept.take() {
            Some(client) => client,
            None => match at.connect() {
                Ok(client) => client,
                Err(error) if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound) => {
                    break;
                }
                Err(error) => {
                    lost.push(format!("connect: {error}"));
                    continue;
                }
            },
        };
        let close = if connections == Connections::New { "Connection: close\r\n" } else { "" };
        let request = format!("GET /plaintext HTTP/1.1\r\nHost: a\r\n{close}\r\n");
        let response = match client.try_send(request.as_bytes()) {
            Ok(()) => client.try_response(),
            Err(error) => {
                lost.push(format!("send: {error}"));
                continue;
            }
        };
        match response {
            Ok(response) if response.status == 200 && response.body == b"Hello, World!" => {
                answered.fetch_add(1, Ordering::SeqCst);
                let ends = response.header("connection").is_some_and(|value| value == "close");
                kept = (connections == Connections::Kept && !ends).then_some(client);
            }
            other => lost.push(format!("{connections:?}: {other:?}")),
        }
        thread::sleep(Duration::from_millis(5));
    }
    lost
}
