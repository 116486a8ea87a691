//! What a master and its workers say to each other: lines of JSON over a socket pair.
//!
//! Orders go this way and not by signal, since a line is not lost while a worker is still being born; signals are the
//! operator's way to a worker, and the master's to one that does not listen any more. Either end sees the other's death as the
//! end of the input.

use std::io::{self, Read, Write};
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::fleet::Leave;

/// To a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Order {
    /// Take no more connections and end. `alone`: no other worker takes what waits in the kernel's queues.
    Leave { how: Leave, alone: bool },
    /// Serve on, but have clients go elsewhere.
    Drain,
    /// Open the log files again.
    Reopen,
}

/// From a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Report {
    /// It accepts connections.
    Ready,
    /// It could not come up.
    Failed(String),
    /// It wants to be replaced, for this reason, and serves on until then.
    Outdated(String),
}

/// One end of the socket pair: sends `S` and hears `H`.
pub(super) struct Link<S, H> {
    stream: UnixStream,
    /// Of a line that is not whole yet.
    begun: Vec<u8>,
    _says: PhantomData<fn(S) -> H>,
}

/// What was heard.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Heard<H> {
    pub(super) lines: Vec<H>,
    /// There is nobody at the other end any more.
    pub(super) ended: bool,
}

/// The master's end, and the worker's.
pub(super) fn pair() -> io::Result<(Link<Order, Report>, Link<Report, Order>)> {
    let (ours, theirs) = UnixStream::pair()?;
    Ok((Link::new(ours)?, Link::new(theirs)?))
}

impl<S: Serialize, H: DeserializeOwned> Link<S, H> {
    fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Link { stream, begun: Vec::new(), _says: PhantomData })
    }

    /// Says it. Never waits: whoever lets so much lie in the socket that a line finds no room does not listen.
    pub(super) fn say(&self, what: &S) -> io::Result<()> {
        let mut line = serde_json::to_vec(what)?;
        line.push(b'\n');
        match (&self.stream).write(&line)? {
            sent if sent == line.len() => Ok(()),
            _ => Err(io::Error::new(io::ErrorKind::WouldBlock, "the other end does not listen")),
        }
    }

    /// Takes in what has come. Does not wait; the descriptor becomes readable when there is something.
    pub(super) fn hear(&mut self) -> Heard<H> {
        let mut heard = Heard { lines: Vec::new(), ended: false };
        let mut some = [0; 1024];
        loop {
            match self.stream.read(&mut some) {
                Ok(0) => heard.ended = true,
                Ok(count) => {
                    self.begun.extend_from_slice(&some[..count]);
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => heard.ended = error.kind() != io::ErrorKind::WouldBlock,
            }
            break;
        }
        while let Some(end) = memchr::memchr(b'\n', &self.begun) {
            // A line that can't be read is from another version, and says nothing that this one knows.
            heard.lines.extend(serde_json::from_slice(&self.begun[..end]).ok());
            self.begun.drain(..=end);
        }
        heard
    }
}

impl<S, H> AsFd for Link<S, H> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_arrive_whole_and_the_end_is_seen_after_them() {
        let (mut master, worker) = pair().unwrap();
        assert_eq!(master.hear(), Heard { lines: vec![], ended: false });
        let (report, end) = (serde_json::to_vec(&Report::Failed("no\nway".into())).unwrap(), b"\n");
        (&worker.stream).write_all(&report[..5]).unwrap();
        assert_eq!(master.hear().lines, []);
        (&worker.stream).write_all(&report[5..]).unwrap();
        (&worker.stream).write_all(end).unwrap();
        worker.say(&Report::Ready).unwrap();
        drop(worker);
        let lines = vec![Report::Failed("no\nway".into()), Report::Ready];
        assert_eq!(master.hear(), Heard { lines, ended: true });
        assert!(master.say(&Order::Reopen).is_err());
    }

    #[test]
    fn who_does_not_listen_holds_nobody_up() {
        let (master, _worker) = pair().unwrap();
        let all_said = (0..100_000).all(|_| master.say(&Order::Reopen).is_ok());
        assert!(!all_said);
    }
}
