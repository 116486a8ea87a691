//! What a master and its workers say to each other: lines of JSON over a socket pair.
//!
//! Orders go this way and not by signal, since a line is not lost while a worker is still being born; signals are the
//! operator's way to a worker, and the master's to one that does not listen any more. Either end sees the other's death as the
//! end of the input.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut, Write as _};
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::fleet::Leave;

/// To a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Order {
    /// Take no more connections and end. `alone`: no other worker takes what waits in the kernel's queues.
    Leave { how: Leave, alone: bool },
    /// Serve on, but have clients go elsewhere: the time to leave is near.
    Drain,
    /// Whether more clients are welcome, as an operator has it.
    Ready(bool),
    /// Open the log files again. Of these the descriptors come along, for a worker that may not open them.
    Reopen { files: Vec<String> },
    /// Log so much from now on.
    LogLevel(String),
    /// Answer an operator's question, under this number.
    Tell { question: u64, what: What },
}

/// What an operator may want to know of a worker, about so many things at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum What {
    Greenlets(usize),
    Connections(usize),
    Stacks(usize),
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

/// What a worker says to an operator's question. It may be long, so it has a way of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Told {
    pub(super) question: u64,
    /// `None`: it is found out, and will follow.
    pub(super) answer: Option<Result<Map<String, Value>, String>>,
}

/// The worker's end of that way.
#[derive(Clone)]
pub(super) struct Teller(Arc<Mutex<UnixStream>>);

impl Teller {
    /// The master's end, and the worker's.
    pub(super) fn pair() -> io::Result<(Link<(), Told>, Teller)> {
        let (ours, theirs) = UnixStream::pair()?;
        Ok((Link::new(ours)?, Teller(Arc::new(Mutex::new(theirs)))))
    }

    /// Says it. Waits until the master has taken so much of it that the rest finds room, which it always does as long as it
    /// lives.
    ///
    /// # Errors
    /// There is no master any more.
    pub(super) fn tell(&self, what: &Told) -> io::Result<()> {
        let mut line = serde_json::to_vec(what)?;
        line.push(b'\n');
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write_all(&line)
    }
}

/// One end of the socket pair: sends `S` and hears `H`.
pub(super) struct Link<S, H> {
    stream: UnixStream,
    /// Of a line that is not whole yet.
    begun: Vec<u8>,
    /// That came along and nobody has taken.
    files: VecDeque<OwnedFd>,
    _says: PhantomData<fn(S) -> H>,
}

/// How many files may come along with a line.
pub(super) const MOST_FILES: usize = 4;

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
        Ok(Link { stream, begun: Vec::new(), files: VecDeque::new(), _says: PhantomData })
    }

    /// Says it. Never waits: whoever lets so much lie in the socket that a line finds no room does not listen.
    pub(super) fn say(&self, what: &S) -> io::Result<()> {
        self.say_with(what, &[])
    }

    /// Says it, and hands over some few files, [`MOST_FILES`] at most.
    pub(super) fn say_with(&self, what: &S, files: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut line = serde_json::to_vec(what)?;
        line.push(b'\n');
        let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FILES))];
        let mut control = SendAncillaryBuffer::new(&mut room);
        if !files.is_empty() && !control.push(SendAncillaryMessage::ScmRights(files)) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many files to hand over"));
        }
        match sendmsg(&self.stream, &[IoSlice::new(&line)], &mut control, SendFlags::NOSIGNAL)? {
            sent if sent == line.len() => Ok(()),
            _ => Err(io::Error::new(io::ErrorKind::WouldBlock, "the other end does not listen")),
        }
    }

    /// Takes files that came along with what was heard, in that order; fewer if fewer have come.
    pub(super) fn take_files(&mut self, count: usize) -> Vec<OwnedFd> {
        self.files.drain(..count.min(self.files.len())).collect()
    }

    fn receive(&mut self, some: &mut [u8]) -> io::Result<usize> {
        let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FILES))];
        let mut control = RecvAncillaryBuffer::new(&mut room);
        let message =
            recvmsg(&self.stream, &mut [IoSliceMut::new(some)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
        for part in control.drain() {
            if let RecvAncillaryMessage::ScmRights(files) = part {
                self.files.extend(files);
            }
        }
        Ok(message.bytes)
    }

    /// Takes in what has come. Does not wait; the descriptor becomes readable when there is something.
    pub(super) fn hear(&mut self) -> Heard<H> {
        let mut heard = Heard { lines: Vec::new(), ended: false };
        let mut some = [0; 1024];
        loop {
            match self.receive(&mut some) {
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
    use std::io::Write;

    use super::*;

    #[test]
    fn files_come_along_with_their_line() {
        let (master, mut worker) = pair().unwrap();
        let (reader, writer) = io::pipe().unwrap();
        for files in [&[writer.as_fd()][..], &[], &[reader.as_fd(), writer.as_fd()]] {
            let order = Order::Reopen { files: vec!["x".to_owned(); files.len()] };
            master.say_with(&order, files).unwrap();
        }
        let heard = worker.hear();
        let counts = heard.lines.iter().map(|order| match order {
            Order::Reopen { files } => files.len(),
            _ => 0,
        });
        assert!(counts.eq([1, 0, 2]), "{heard:?}");
        let mut first = std::fs::File::from(worker.take_files(1).pop().unwrap());
        assert_eq!(worker.take_files(2).len(), 2);
        assert_eq!(worker.take_files(2).len(), 0);
        drop(writer);
        first.write_all(b"through the file").unwrap();
        drop(first);
        assert_eq!(io::read_to_string(reader).unwrap(), "through the file");
        let many = [worker.as_fd(); 2 * MOST_FILES];
        assert!(master.say_with(&Order::Reopen { files: Vec::new() }, &many).is_err());
    }

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
        assert!(master.say(&Order::Reopen { files: Vec::new() }).is_err());
    }

    #[test]
    fn who_does_not_listen_holds_nobody_up() {
        let (master, _worker) = pair().unwrap();
        let order = Order::Reopen { files: Vec::new() };
        let all_said = (0..100_000).all(|_| master.say(&order).is_ok());
        assert!(!all_said);
    }
}
