//! What unix sockets carry besides bytes: descriptors, and who the peer is.

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use super::source::Source;
use super::unix::{UnixDatagram, UnixStream};
use crate::hub::Direction;
use crate::sys;

/// The kernel's limit for one message (`SCM_MAX_FD`).
const MAX_FDS: usize = 253;

/// The process at the other end of a unix socket, as it was when the two were connected (unix(7), `SO_PEERCRED`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UCred {
    /// Its effective user.
    pub uid: u32,
    /// Its effective group.
    pub gid: u32,
    /// Its process id; `None` when it lies outside our pid namespace.
    pub pid: Option<i32>,
}

macro_rules! passes_descriptors {
    ($type:ident, $pair:literal) => {
        impl $type {
            /// Sends bytes and, with the first of them, descriptors (`SCM_RIGHTS`; Python's `socket.send_fds`). The
            /// receiver gets duplicates. Returns how many of the bytes were sent; the descriptors have gone
            /// whenever this succeeds. Parks the caller while there is no room.
            ///
            /// ```
            /// use std::io::{Read, Write};
            /// use std::os::fd::AsFd;
            ///
            #[doc = $pair]
            /// let (mut reader, writer) = std::io::pipe()?;
            /// ours.send_fds(b"a pipe", &[writer.as_fd()])?;
            ///
            /// let mut buffer = [0; 16];
            /// let (count, fds) = theirs.recv_fds(&mut buffer, 1)?;
            /// assert_eq!((&buffer[..count], fds.len()), (&b"a pipe"[..], 1));
            /// let mut passed = std::fs::File::from(fds.into_iter().next().unwrap());
            /// passed.write_all(b"x")?;
            /// assert_eq!(reader.read(&mut buffer)?, 1);
            /// # Ok::<(), std::io::Error>(())
            /// ```
            ///
            /// # Errors
            /// `InvalidInput` for more than 253 descriptors, or no bytes to go with them; `TimedOut`; what
            /// sendmsg(2) says.
            pub fn send_fds(&self, buffer: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
                send_fds(&self.0, buffer, fds)
            }

            /// Receives bytes and at most `max_fds` descriptors (Python's `socket.recv_fds`). The descriptors are
            /// closed on exec. Parks the caller.
            ///
            /// # Errors
            /// `InvalidData` when more descriptors came than `max_fds`, or than this process may open: those that
            /// arrived are closed, the bytes are lost. `InvalidInput` for a `max_fds` above 253, or an empty buffer;
            /// `TimedOut`; what recvmsg(2) says.
            pub fn recv_fds(&self, buffer: &mut [u8], max_fds: usize) -> io::Result<(usize, Vec<OwnedFd>)> {
                recv_fds(&self.0, buffer, max_fds)
            }

            /// Who the peer is: the process that connected or listened, or made the pair (`SO_PEERCRED`).
            ///
            /// # Errors
            /// `NotConnected` when there is none; what getsockopt(2) says.
            pub fn peer_cred(&self) -> io::Result<UCred> {
                peer_cred(&self.0)
            }
        }
    };
}

passes_descriptors!(UnixStream, "let (ours, theirs) = greenlet::net::UnixStream::pair()?;");
passes_descriptors!(UnixDatagram, "let (ours, theirs) = greenlet::net::UnixDatagram::pair()?;");

/// Room for the control data of so many descriptors.
fn room(fds: usize) -> Vec<MaybeUninit<u8>> {
    vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(fds))]
}

fn send_fds(source: &Source, buffer: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    check(fds.len(), buffer.is_empty())?;
    let mut room = room(fds.len());
    source.io(Direction::Write, |socket| {
        let mut control = SendAncillaryBuffer::new(&mut room);
        if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(invalid(format_args!("{} descriptors do not fit in a message", fds.len())));
        }
        Ok(sendmsg(socket, &[IoSlice::new(buffer)], &mut control, SendFlags::NOSIGNAL)?)
    })
}

fn recv_fds(source: &Source, buffer: &mut [u8], max_fds: usize) -> io::Result<(usize, Vec<OwnedFd>)> {
    check(max_fds, buffer.is_empty())?;
    let mut room = room(max_fds);
    source.io(Direction::Read, |socket| {
        // What is left in it when it is dropped, it closes.
        let mut control = RecvAncillaryBuffer::new(&mut room);
        let message =
            recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
        let mut fds = Vec::new();
        for part in control.drain() {
            if let RecvAncillaryMessage::ScmRights(some) = part {
                fds.extend(some);
            }
        }
        // Room is counted in words, so one more may have come in than was asked for.
        if message.flags.contains(ReturnFlags::CTRUNC) || fds.len() > max_fds {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!(
                    "more descriptors came than the {max_fds} that recv_fds was ready for, or than this process may \
                     open; all were closed"
                ),
            ));
        }
        Ok((message.bytes, fds))
    })
}

fn check(fds: usize, empty: bool) -> io::Result<()> {
    if fds > MAX_FDS {
        return Err(invalid(format_args!(
            "{fds} descriptors in one message: the kernel takes {MAX_FDS} at most"
        )));
    }
    if empty {
        return Err(invalid(format_args!("descriptors travel with bytes, so there has to be at least one")));
    }
    Ok(())
}

fn invalid(what: fmt::Arguments<'_>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what.to_string())
}

fn peer_cred(source: &Source) -> io::Result<UCred> {
    let (pid, uid, gid) = sys::peer_cred(source.open()?)?;
    // A unix socket that has no peer has one of no user.
    if uid == u32::MAX {
        return Err(io::ErrorKind::NotConnected.into());
    }
    Ok(UCred { uid, gid, pid: (pid != 0).then_some(pid) })
}
