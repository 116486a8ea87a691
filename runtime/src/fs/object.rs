//! Descriptors of any kind as streams.

use std::cell::Cell;
use std::fmt;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::fs::FileType;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use super::File;
use crate::hub::Direction;
use crate::net::{Source, wait_read, wait_write};

/// A pipe that poll(2) calls writable takes so much without blocking (`PIPE_BUF`, pipe(7)).
const PIPE_ROOM: usize = 4096;
/// As much as a terminal is given in one call: it may not have more room.
const TERMINAL_ROOM: usize = 256;

/// A descriptor of any kind that reads and writes without stopping the hub (`gevent.fileobject.FileObject`).
///
/// [`From<OwnedFd>`](#impl-From<OwnedFd>-for-FileObject) looks at what it is. A regular file, directory or block device is
/// left to the [threads](File). All else (a pipe, terminal, socket, character device) is waited for by the hub, *and its
/// flags stay as they are*: `O_NONBLOCK` belongs to the open file, which a terminal or an inherited pipe shares with other
/// processes, and these would fail with `WouldBlock` all of a sudden. So each call waits first and then reads or
/// writes once, at most 4 KiB to a pipe and 256 bytes to a terminal, which have that much room then. Should another process
/// have been quicker in between, the hub stops until there is something again.
/// [`exclusive`](FileObject::exclusive) is for a descriptor that is all one's own: faster, and free of that.
///
/// One greenlet may read while another writes (`&FileObject` is a stream, too); a second of either is an error
/// (`ResourceBusy`).
///
/// ```
/// use std::io::{BufRead, BufReader, Write};
///
/// let (reader, writer) = std::io::pipe()?;
/// let reader = greenlet::fs::FileObject::from(std::os::fd::OwnedFd::from(reader));
/// let mut writer = greenlet::fs::FileObject::from(std::os::fd::OwnedFd::from(writer));
/// let line = greenlet::spawn(move || BufReader::new(reader).lines().next());
/// writer.write_all(b"a line\n")?;
/// assert_eq!(line.join().unwrap().unwrap()?, "a line");
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct FileObject(Kind);

enum Kind {
    /// Nobody else has the open file: it is non-blocking, and registered once.
    Exclusive(Source),
    Shared(Shared),
    Threads(File),
}

/// A descriptor whose open file others may have.
struct Shared {
    fd: OwnedFd,
    is_socket: bool,
    /// How much is written at once.
    room: usize,
    read_timeout: Cell<Option<Duration>>,
    write_timeout: Cell<Option<Duration>>,
}

impl FileObject {
    /// For a descriptor whose open file nobody else uses: an end of a fresh pipe, a device that was just opened. Sets
    /// `O_NONBLOCK`, so that a call is tried before it waits, and registers the descriptor with the hub once. A regular
    /// file is left to the threads all the same.
    ///
    /// # Errors
    /// The kernel's, about a descriptor that is not open or cannot be non-blocking.
    pub fn exclusive(fd: OwnedFd) -> io::Result<FileObject> {
        if is_for_threads(file_type(&fd)) {
            return Ok(FileObject(Kind::Threads(fd.into())));
        }
        rustix::io::ioctl_fionbio(&fd, true)?;
        Ok(FileObject(Kind::Exclusive(Source::new(fd)?)))
    }

    /// How long a read waits before it fails with `TimedOut`; `None`, the default, for as long as it takes. Has no effect on
    /// what the threads do. (A [`timeout`](crate::timeout()) around the call works for all kinds.)
    ///
    /// # Errors
    /// `InvalidInput` for a timeout of zero.
    pub fn set_read_timeout(&self, timeout: impl Into<Option<Duration>>) -> io::Result<()> {
        self.set_timeout(Direction::Read, timeout.into())
    }

    /// As [`set_read_timeout`](Self::set_read_timeout), for writing.
    ///
    /// # Errors
    /// `InvalidInput` for a timeout of zero.
    pub fn set_write_timeout(&self, timeout: impl Into<Option<Duration>>) -> io::Result<()> {
        self.set_timeout(Direction::Write, timeout.into())
    }

    /// Whether the calls are made by threads: it is a regular file, a directory or a block device.
    pub fn uses_threads(&self) -> bool {
        matches!(self.0, Kind::Threads(_))
    }

    /// The descriptor. One that was [`exclusive`](Self::exclusive) is back in blocking mode.
    ///
    /// # Errors
    /// The kernel's, in setting the mode.
    pub fn into_fd(self) -> io::Result<OwnedFd> {
        match self.0 {
            Kind::Exclusive(source) => source.into_fd(),
            Kind::Shared(shared) => Ok(shared.fd),
            Kind::Threads(file) => file.into_std().map(OwnedFd::from),
        }
    }

    fn set_timeout(&self, direction: Direction, timeout: Option<Duration>) -> io::Result<()> {
        if timeout == Some(Duration::ZERO) {
            let what = "a timeout of zero cannot be set: use None for no timeout";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        match (&self.0, direction) {
            (Kind::Exclusive(source), direction) => source.set_timeout(direction, timeout)?,
            (Kind::Shared(shared), Direction::Read) => shared.read_timeout.set(timeout),
            (Kind::Shared(shared), Direction::Write) => shared.write_timeout.set(timeout),
            (Kind::Threads(_), _) => {}
        }
        Ok(())
    }
}

impl Shared {
    fn new(fd: OwnedFd, kind: Option<FileType>) -> Shared {
        let room = if fd.is_terminal() { TERMINAL_ROOM } else { PIPE_ROOM };
        Shared {
            fd,
            is_socket: kind == Some(FileType::Socket),
            room,
            read_timeout: Cell::new(None),
            write_timeout: Cell::new(None),
        }
    }

    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            wait_read(&self.fd, self.read_timeout.get())?;
            let result = if self.is_socket {
                rustix::net::recv(&self.fd, &mut *buffer, RecvFlags::DONTWAIT).map(|(_, count)| count)
            } else {
                rustix::io::read(&self.fd, &mut *buffer)
            };
            match result {
                Err(Errno::INTR | Errno::AGAIN) => {}
                result => return Ok(result?),
            }
        }
    }

    fn write(&self, buffer: &[u8]) -> io::Result<usize> {
        loop {
            wait_write(&self.fd, self.write_timeout.get())?;
            let result = if self.is_socket {
                rustix::net::send(&self.fd, buffer, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)
            } else {
                rustix::io::write(&self.fd, &buffer[..buffer.len().min(self.room)])
            };
            match result {
                Err(Errno::INTR | Errno::AGAIN) => {}
                result => return Ok(result?),
            }
        }
    }
}

impl Read for &FileObject {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &self.0 {
            Kind::Exclusive(source) => {
                source.io(Direction::Read, |fd| Ok(rustix::io::read(fd, &mut *buffer)?))
            }
            Kind::Shared(shared) => shared.read(buffer),
            Kind::Threads(file) => (&*file).read(buffer),
        }
    }
}

impl Write for &FileObject {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match &self.0 {
            Kind::Exclusive(source) => source.io(Direction::Write, |fd| Ok(rustix::io::write(fd, buffer)?)),
            Kind::Shared(shared) => shared.write(buffer),
            Kind::Threads(file) => (&*file).write(buffer),
        }
    }

    /// Nothing is held back in this process.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for FileObject {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buffer)
    }
}

impl Write for FileObject {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        (&*self).write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl From<OwnedFd> for FileObject {
    /// By the kind of the descriptor; its flags are not changed.
    fn from(fd: OwnedFd) -> FileObject {
        let kind = file_type(&fd);
        FileObject(match is_for_threads(kind) {
            true => Kind::Threads(fd.into()),
            false => Kind::Shared(Shared::new(fd, kind)),
        })
    }
}

impl AsFd for FileObject {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.0 {
            Kind::Exclusive(source) => source.as_fd(),
            Kind::Shared(shared) => shared.fd.as_fd(),
            Kind::Threads(file) => file.as_fd(),
        }
    }
}

impl fmt::Debug for FileObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way = match &self.0 {
            Kind::Exclusive(_) => "exclusive",
            Kind::Shared(_) => "shared",
            Kind::Threads(_) => "threads",
        };
        f.debug_struct("FileObject").field("fd", &self.as_fd().as_raw_fd()).field("way", &way).finish()
    }
}

/// A pipe: what is written to the second end is read from the first. Both are [exclusive](FileObject::exclusive), and
/// closed on exec. A write to a pipe whose reading end is closed fails with `BrokenPipe`.
///
/// # Errors
/// The kernel's: too many open files.
pub fn pipe() -> io::Result<(FileObject, FileObject)> {
    let (reader, writer) = io::pipe()?;
    Ok((FileObject::exclusive(reader.into())?, FileObject::exclusive(writer.into())?))
}

/// This process's standard input, whatever it is. Parks the greenlet that reads and never changes the descriptor's flags.
///
/// Each call makes a new object on a duplicate of the descriptor, without a buffer: make one `BufReader` around one of them
/// and keep it, as what it has read ahead goes with it. [`std::io::stdin`] has a buffer of its own.
///
/// # Errors
/// The kernel's: it has been closed, or too many files are open.
pub fn stdin() -> io::Result<FileObject> {
    duplicate(&io::stdin())
}

/// This process's standard output, as [`stdin`]. Unbuffered: what [`print!`] has written shows in order if it ended with a
/// line or was flushed.
///
/// # Errors
/// As [`stdin`].
pub fn stdout() -> io::Result<FileObject> {
    duplicate(&io::stdout())
}

/// This process's standard error, as [`stdin`].
///
/// # Errors
/// As [`stdin`].
pub fn stderr() -> io::Result<FileObject> {
    duplicate(&io::stderr())
}

fn duplicate(fd: &impl AsFd) -> io::Result<FileObject> {
    fd.as_fd().try_clone_to_owned().map(FileObject::from)
}

/// `None` when the kernel does not say: the calls that follow will.
fn file_type(fd: &OwnedFd) -> Option<FileType> {
    let stat = rustix::fs::fstat(fd).ok()?;
    Some(FileType::from_raw_mode(stat.st_mode))
}

fn is_for_threads(kind: Option<FileType>) -> bool {
    matches!(kind, Some(FileType::RegularFile | FileType::Directory | FileType::BlockDevice))
}
