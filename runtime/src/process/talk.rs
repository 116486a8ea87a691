//! Writing to a child and reading from it at once.

use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::process::Output;
use std::time::Duration;

use rustix::io::Errno;

use super::child::Child;
use crate::error::WaitError;
use crate::hub::Hub;
use crate::net::{PollFd, poll};

/// As much as is read from one pipe before the other gets its turn: what a pipe holds by default.
const PORTION: usize = 64 * 1024;

/// How far a conversation has come.
#[derive(Default)]
pub(super) struct Talk {
    input: Vec<u8>,
    sent: usize,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl fmt::Debug for Talk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Talk { input, sent, stdout, stderr } = self;
        f.debug_struct("Talk")
            .field("to_send", &(input.len() - sent))
            .field("stdout", &stdout.len())
            .field("stderr", &stderr.len())
            .finish()
    }
}

impl Child {
    /// Writes `input` to the process, closes its standard input, reads its standard output and error to their ends, all at
    /// once, and waits for its end, within `timeout` (`None`: without one): `Popen.communicate`. Parks the greenlet.
    ///
    /// All output is collected in memory; a stream that is not piped gives none. That the process does not read its input
    /// is no error. A timeout leaves the process running, and a second call, whose input is not looked at, goes on where
    /// the first has stopped.
    ///
    /// ```
    /// use greenlet::process::{Command, Stdio};
    ///
    /// let mut child = Command::new("tr").args(["a-z", "A-Z"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    /// let output = child.communicate("loud", None)?;
    /// assert_eq!(output.stdout, b"LOUD");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// `TimedOut`; `InvalidInput` for input to a process whose standard input is not piped; what reading and waiting say.
    pub fn communicate(
        &mut self,
        input: impl AsRef<[u8]>,
        timeout: impl Into<Option<Duration>>,
    ) -> io::Result<Output> {
        let hub = Hub::try_get()?;
        let deadline = timeout.into().and_then(|timeout| hub.deadline(timeout));
        if self.talk.is_none() {
            let input = input.as_ref();
            if self.stdin.is_none() && !input.is_empty() {
                let what = "there is input for a process whose standard input is not piped: set stdin(Stdio::piped())";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
            }
            self.talk = Some(Talk { input: input.to_vec(), ..Talk::default() });
        }
        while !self.exchange()? {
            let left = deadline.map(|deadline| deadline.since(hub.now()));
            let mut fds: Vec<_> = self.open_pipes().collect();
            if left == Some(Duration::ZERO) || poll(&mut fds, left)? == 0 {
                return Err(WaitError::TimedOut.into());
            }
        }
        let status = self.handle().wait_until(deadline)?;
        let Talk { stdout, stderr, .. } = self.talk.take().unwrap_or_default();
        Ok(Output { status, stdout, stderr })
    }

    /// Writes and reads what is possible at once, and closes the pipes that are done with; true once all are.
    fn exchange(&mut self) -> io::Result<bool> {
        let Some(talk) = &mut self.talk else { return Ok(true) };
        if let Some(stdin) = &self.stdin {
            let done = loop {
                match rustix::io::write(stdin, &talk.input[talk.sent..]) {
                    _ if talk.sent == talk.input.len() => break true,
                    Ok(count) => talk.sent += count,
                    Err(Errno::INTR) => {}
                    Err(Errno::AGAIN) => break false,
                    // It does not want the rest.
                    Err(Errno::PIPE) => break true,
                    Err(error) => return Err(error.into()),
                }
            };
            if done {
                self.stdin = None;
            }
        }
        if let Some(stdout) = &self.stdout
            && read_portion(stdout, &mut talk.stdout)?
        {
            self.stdout = None;
        }
        if let Some(stderr) = &self.stderr
            && read_portion(stderr, &mut talk.stderr)?
        {
            self.stderr = None;
        }
        Ok(self.stdin.is_none() && self.stdout.is_none() && self.stderr.is_none())
    }

    fn open_pipes(&self) -> impl Iterator<Item = PollFd<'_>> {
        let stdin = self.stdin.iter().map(|pipe| PollFd::new(pipe).write());
        let stdout = self.stdout.iter().map(|pipe| PollFd::new(pipe).read());
        let stderr = self.stderr.iter().map(|pipe| PollFd::new(pipe).read());
        stdin.chain(stdout).chain(stderr)
    }
}

/// Reads what is there, up to a portion; true at the end.
fn read_portion(fd: impl std::os::fd::AsFd, into: &mut Vec<u8>) -> io::Result<bool> {
    let fd: BorrowedFd<'_> = fd.as_fd();
    let enough = into.len() + PORTION;
    while into.len() < enough {
        into.reserve(PORTION / 4);
        match rustix::io::read(fd, rustix::buffer::spare_capacity(into)) {
            Ok(0) => return Ok(true),
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(false)
}
