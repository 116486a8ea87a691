//! A connection for each request.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};

use super::answer::Progress;
use super::{Blast, Edge, Outcome};

/// Longer than an answer may take; not the ten seconds of a kept connection, for each that is late holds up all others.
const PATIENCE: Duration = Duration::from_secs(2);

/// `blast.connections` are under way at any time; the oldest is waited for, so no poller is needed. The server must end
/// them: the side that does keeps the port for a minute, and the client has fewer ports.
pub(super) fn run(blast: &Blast, look: &mut dyn FnMut(Edge)) -> io::Result<Outcome> {
    let mut outcome = Outcome::new();
    let mut under_way = VecDeque::with_capacity(blast.connections);
    for _ in 0..blast.connections.max(1) {
        under_way.push_back(ask(blast.address, &blast.request)?);
    }
    let mut buffer = vec![0; 16 * 1024];
    let mut begin = Instant::now();
    let mut counting = false;
    loop {
        let elapsed = begin.elapsed();
        if !counting && elapsed >= blast.warmup {
            counting = true;
            outcome = Outcome::new();
            begin = Instant::now();
            look(Edge::Begin);
        } else if counting && elapsed >= blast.duration {
            look(Edge::End);
            outcome.elapsed = begin.elapsed();
            return Ok(outcome);
        }
        if let Some(socket) = under_way.pop_front() {
            match finish(blast, &socket, &mut buffer) {
                Ok(()) => outcome.answers += 1,
                Err(error) => outcome.error(|| error.to_string()),
            }
        }
        if outcome.errors > 1000 {
            let why = outcome.first_error.unwrap_or_default();
            return Err(io::Error::other(format!("too many errors: {why}")));
        }
        match ask(blast.address, &blast.request) {
            Ok(socket) => under_way.push_back(socket),
            Err(error) if under_way.is_empty() => return Err(error),
            Err(error) => outcome.error(|| error.to_string()),
        }
    }
}

fn ask(address: SocketAddr, request: &[u8]) -> io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    rustix::net::connect(&socket, &address)?;
    send(&socket, request, SendFlags::NOSIGNAL)?;
    Ok(socket)
}

/// Reads the answer and then the end of the connection.
fn finish(blast: &Blast, socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<()> {
    let mut progress = Progress::default();
    let mut ended = 0;
    loop {
        let received = match recv(socket, &mut *buffer, RecvFlags::DONTWAIT) {
            Ok((_, n)) => n,
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => {
                let patience = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
                if poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&patience))? == 0 {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        if received == 0 {
            return match ended {
                1 => Ok(()),
                _ => Err(io::Error::other("the server ended a connection before it had answered")),
            };
        }
        ended += progress
            .take(&blast.answer, &buffer[..received])
            .ok_or_else(|| io::Error::other("not the expected answer"))?;
    }
}
