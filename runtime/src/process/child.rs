//! A running program and its pipes.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Child as StdChild, ExitStatus, Output, Stdio};
use std::time::Duration;

use super::handle::ChildHandle;
use super::talk::Talk;
use crate::fs::FileObject;
use crate::signal::Signal;

/// A process that was started by a [`Command`](super::Command), with the methods of [`std::process::Child`]
/// (`gevent.subprocess.Popen`).
///
/// Dropping it leaves the process running; see [the module](super).
#[derive(Debug)]
pub struct Child {
    /// The pipe to its standard input, if that was to be [`piped`](Stdio::piped).
    pub stdin: Option<ChildStdin>,
    /// The pipe from its standard output, if that was to be piped.
    pub stdout: Option<ChildStdout>,
    /// The pipe from its standard error, if that was to be piped.
    pub stderr: Option<ChildStderr>,
    /// What [`communicate`](Child::communicate) has not finished.
    pub(super) talk: Option<Talk>,
    handle: ChildHandle,
}

impl Child {
    /// Takes over a process that std has started. One whose end std already knows is no problem.
    ///
    /// # Errors
    /// The hub cannot take the pipes. The process is left alone, but its pipes are closed.
    pub fn from_std(mut child: StdChild) -> io::Result<Child> {
        // Once std has reaped it, its number may belong to another; std tells.
        let status = child.try_wait().ok().flatten();
        let handle = ChildHandle::new(child.id(), status)?;
        Child::with(child, handle)
    }

    /// Takes over a process that has just been started.
    pub(super) fn adopt(child: StdChild, kill_on_drop: bool) -> io::Result<Child> {
        let handle = ChildHandle::new(child.id(), None)?;
        // Should the pipes fail, there must not be a process that nobody knows of.
        handle.set_kill_on_drop(true);
        let child = Child::with(child, handle)?;
        child.handle.set_kill_on_drop(kill_on_drop);
        Ok(child)
    }

    fn with(child: StdChild, handle: ChildHandle) -> io::Result<Child> {
        let stdin = child.stdin.map(|pipe| FileObject::exclusive(pipe.into())).transpose()?;
        let stdout = child.stdout.map(|pipe| FileObject::exclusive(pipe.into())).transpose()?;
        let stderr = child.stderr.map(|pipe| FileObject::exclusive(pipe.into())).transpose()?;
        Ok(Child {
            stdin: stdin.map(ChildStdin),
            stdout: stdout.map(ChildStdout),
            stderr: stderr.map(ChildStderr),
            talk: None,
            handle,
        })
    }

    /// The process's number.
    pub fn id(&self) -> u32 {
        self.handle.id()
    }

    /// Kills it (SIGKILL). Does not wait for its end. No error once it has ended.
    ///
    /// # Errors
    /// The kernel's: it runs as another user now.
    pub fn kill(&mut self) -> io::Result<()> {
        self.handle.kill()
    }

    /// Sends it a signal (`Popen.send_signal`, `terminate`). Nothing happens once its end has been seen.
    ///
    /// # Errors
    /// As [`kill`](Self::kill).
    pub fn signal(&mut self, signal: Signal) -> io::Result<()> {
        self.handle.signal(signal)
    }

    /// Its exit status, if it has ended. Never waits.
    ///
    /// # Errors
    /// The kernel's: somebody else has reaped it (a `waitpid(-1)`, or SIGCHLD is ignored).
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.handle.try_wait()
    }

    /// Closes its standard input and waits for its end. Parks the greenlet. A second call gives the same again.
    ///
    /// # Errors
    /// As [`try_wait`](Self::try_wait); why the wait failed, as a [`WaitError`](crate::WaitError) inside.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        drop(self.stdin.take());
        self.handle.wait()
    }

    /// As [`wait`](Self::wait), but gives up after a while; the process is not touched then. Its standard input is closed.
    ///
    /// # Errors
    /// `TimedOut`; as [`wait`](Self::wait).
    pub fn wait_timeout(&mut self, timeout: Duration) -> io::Result<ExitStatus> {
        drop(self.stdin.take());
        self.handle.wait_timeout(timeout)
    }

    /// Closes its standard input, reads its standard output and error to their ends, both at once, and waits for its end.
    /// Parks the greenlet.
    ///
    /// # Errors
    /// As [`communicate`](Self::communicate).
    pub fn wait_with_output(mut self) -> io::Result<Output> {
        drop(self.stdin.take());
        self.communicate("", None)
    }

    /// Another handle for the process, without its pipes: for greenlets that wait for it or kill it at the same time.
    pub fn handle(&self) -> ChildHandle {
        self.handle.clone()
    }
}

macro_rules! pipe_end {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name(pub(super) FileObject);

        impl $name {
            /// How long one call waits before it fails with `TimedOut`; `None`, the default, for as long as it takes.
            ///
            /// # Errors
            /// `InvalidInput` for a timeout of zero.
            pub fn set_timeout(&self, timeout: impl Into<Option<Duration>>) -> io::Result<()> {
                let timeout = timeout.into();
                self.0.set_read_timeout(timeout)?;
                self.0.set_write_timeout(timeout)
            }

            /// The pipe as a stream of its own.
            pub fn into_file_object(self) -> FileObject {
                self.0
            }
        }

        impl AsFd for $name {
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.0.as_fd()
            }
        }

        impl TryFrom<$name> for OwnedFd {
            type Error = io::Error;

            /// The descriptor, in blocking mode.
            fn try_from(pipe: $name) -> io::Result<OwnedFd> {
                pipe.0.into_fd()
            }
        }

        impl TryFrom<$name> for Stdio {
            type Error = io::Error;

            /// For another child, in blocking mode.
            fn try_from(pipe: $name) -> io::Result<Stdio> {
                pipe.0.into_fd().map(Stdio::from)
            }
        }
    };
}

pipe_end! {
    /// The pipe to a child's standard input; a write parks while it is full. Closed when dropped. A write fails with
    /// `BrokenPipe` once nobody has the other end.
    ChildStdin
}
pipe_end! {
    /// The pipe from a child's standard output; a read parks until there is something. Ends when all who have the other end
    /// have closed it, which may be more than the child.
    ChildStdout
}
pipe_end! {
    /// The pipe from a child's standard error; as [`ChildStdout`].
    ChildStderr
}

impl Write for ChildStdin {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.0.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for ChildStdout {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Read for ChildStderr {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}
