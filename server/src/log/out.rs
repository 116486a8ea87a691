//! Where lines go: a file, a stream that may be a pipe, a syslog daemon.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, IoSlice, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, fstat};
use rustix::io::{Errno, ReadWriteFlags, pwritev2};

use super::syslog::Syslog;

/// POSIX's least PIPE_BUF, and Linux's: so much goes into a pipe whole or not at all, whoever else writes to it.
const WHOLE: usize = 4096;

/// Where the lines go, and whether the last of them was left unfinished there.
pub(super) struct Out {
    to: To,
    torn: bool,
    /// Standard output and error go there, too.
    captures: bool,
}

enum To {
    /// Opened by the path, if there is one.
    File {
        file: File,
        path: Option<PathBuf>,
        regular: bool,
    },
    Writer(Box<dyn Write + Send>),
    Syslog(Syslog),
}

impl Out {
    pub(super) fn append(path: &Path) -> io::Result<Out> {
        let file = OpenOptions::new().append(true).create(true).open(path)?;
        Ok(Out::of(file, Some(path.to_path_buf())))
    }

    /// A stream that others may have, too.
    pub(super) fn stream(file: File) -> Out {
        Out::of(file, None)
    }

    fn of(file: File, path: Option<PathBuf>) -> Out {
        let regular = fstat(&file).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_file());
        Out { to: To::File { file, path, regular }, torn: false, captures: false }
    }

    pub(super) fn writer(writer: impl Write + Send + 'static) -> Out {
        Out { to: To::Writer(Box::new(writer)), torn: false, captures: false }
    }

    pub(super) fn syslog(syslog: Syslog) -> Out {
        Out { to: To::Syslog(syslog), torn: false, captures: false }
    }

    pub(super) fn path(&self) -> Option<&Path> {
        match &self.to {
            To::File { path, .. } => path.as_deref(),
            _ => None,
        }
    }

    /// Another descriptor of its file.
    pub(super) fn descriptor(&self) -> Option<OwnedFd> {
        match &self.to {
            To::File { file, path: Some(_), .. } => file.as_fd().try_clone_to_owned().ok(),
            _ => None,
        }
    }

    /// Goes on with its file as somebody else has opened it.
    pub(super) fn take(&mut self, file: File) -> io::Result<()> {
        self.exchange(Out::of(file, self.path().map(Path::to_path_buf)))
    }

    /// Opens its file again. What is no file stays as it is.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        let To::File { path: Some(path), .. } = &self.to else { return Ok(()) };
        let again = Out::append(path)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
        self.exchange(again)
    }

    fn exchange(&mut self, again: Out) -> io::Result<()> {
        let captures = self.captures;
        *self = again;
        if captures { self.capture() } else { Ok(()) }
    }

    /// Has standard output and error go to the file.
    pub(super) fn capture(&mut self) -> io::Result<()> {
        if let To::File { file, path: Some(_), .. } = &self.to {
            rustix::stdio::dup2_stdout(file)?;
            rustix::stdio::dup2_stderr(file)?;
            self.captures = true;
        }
        Ok(())
    }

    /// A fork leaves a connection to the process that has made it.
    pub(super) fn leave_connection(&mut self) {
        if let To::Syslog(syslog) = &mut self.to {
            syslog.disconnect();
        }
    }

    /// Writes whole lines and takes them off `lines`; what is left there after an error was not written. A file that several
    /// processes append to gets all at once, a pipe or socket as much as it takes in one piece, in both cases up to the end of
    /// a line: so no line of one is within a line of another. (A line longer than [`WHOLE`] may be, in a pipe.)
    ///
    /// Without `wait` a stream that takes nothing at present is an error, [`ErrorKind::WouldBlock`].
    pub(super) fn write(&mut self, lines: &mut &[u8], wait: bool) -> io::Result<()> {
        if let To::Syslog(syslog) = &mut self.to {
            return syslog.write(lines, wait);
        }
        if self.torn {
            // Or the next line would begin within what there is of the last.
            self.to.write(b"\n", wait)?;
            self.torn = false;
        }
        while !lines.is_empty() {
            let piece = &lines[..self.to.piece(lines)];
            let count = self.to.write(piece, wait)?;
            self.torn = piece[count - 1] != b'\n';
            *lines = &lines[count..];
        }
        match &mut self.to {
            To::Writer(writer) => writer.flush(),
            _ => Ok(()),
        }
    }
}

impl To {
    /// How much to write at once.
    fn piece(&self, lines: &[u8]) -> usize {
        if !matches!(self, To::File { regular: false, .. }) || lines.len() <= WHOLE {
            return lines.len();
        }
        memchr::memrchr(b'\n', &lines[..WHOLE]).map_or(WHOLE, |end| end + 1)
    }

    /// One byte at least.
    fn write(&mut self, bytes: &[u8], wait: bool) -> io::Result<usize> {
        loop {
            let written = match self {
                To::File { file, regular: false, .. } if !wait => write_now(file, bytes),
                To::File { file, .. } => file.write(bytes),
                To::Writer(writer) => writer.write(bytes),
                To::Syslog(_) => return Ok(bytes.len()),
            };
            match written {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Standard output and error may be shared with a program that made them non-blocking.
                Err(error) if error.kind() == ErrorKind::WouldBlock && wait => {
                    thread::sleep(Duration::from_millis(10));
                }
                other => return other,
            }
        }
    }
}

/// Writes only what can be written at once. The stream is not made non-blocking: others have it, too.
fn write_now(mut file: &File, bytes: &[u8]) -> io::Result<usize> {
    let mut one = [PollFd::new(file, PollFlags::OUT)];
    if poll(&mut one, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))? == 0 {
        return Err(ErrorKind::WouldBlock.into());
    }
    // Another process may have filled it since.
    match pwritev2(file, &[IoSlice::new(bytes)], u64::MAX, ReadWriteFlags::NOWAIT) {
        // An old kernel, or a terminal.
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::SPIPE) => file.write(bytes),
        written => Ok(written?),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn pipe() -> (io::PipeReader, Out) {
        let (reader, writer) = io::pipe().unwrap();
        (reader, Out::stream(File::from(OwnedFd::from(writer))))
    }

    #[test]
    fn a_full_pipe_is_not_waited_for_and_an_unfinished_line_is_ended_before_the_next() {
        let (mut reader, mut out) = pipe();
        let long = [&[b'x'; 200_000][..], b"\n"].concat();
        let mut left = &long[..];
        let error = out.write(&mut left, false).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        let taken = long.len() - left.len();
        assert!(taken > 0 && !left.is_empty());
        reader.read_exact(&mut vec![0; taken]).unwrap();

        out.write(&mut &b"next\n"[..], false).unwrap();
        drop(out);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "\nnext\n");
    }

    #[test]
    fn a_stream_gets_pieces_that_end_with_a_line_and_a_file_gets_all_at_once() {
        let lines = b"0123456789\n".repeat(1000);
        let (_reader, out) = pipe();
        let piece = out.to.piece(&lines);
        assert!(piece <= WHOLE && piece > WHOLE - 11 && lines[piece - 1] == b'\n');
        assert_eq!(out.to.piece(&[b'x'; 2 * WHOLE]), WHOLE);
        let path = std::env::temp_dir().join(format!("greenserve-out-{}", std::process::id()));
        let out = Out::append(&path).unwrap();
        assert_eq!(out.to.piece(&lines), lines.len());
        std::fs::remove_file(path).unwrap();
    }
}
