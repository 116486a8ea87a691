//! Regular files, by way of the thread pool.

use std::cell::Cell;
use std::fmt;
use std::fs::{File as StdFile, Metadata, OpenOptions, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use crate::unblock;

/// So much is read or written in one call at most: it passes through a buffer that the thread can own.
const CHUNK: usize = 128 * 1024;

/// An open file with the API of [`std::fs::File`], whose calls are made by the threads of [`unblock`] while the greenlet
/// is parked (`gevent.fileobject.FileObjectThread`).
///
/// A call costs two switches of threads, some ten microseconds: put a `BufReader` or `BufWriter` around it. A greenlet that
/// is killed in a call goes at once and the call still happens: what a read has taken is lost then.
///
/// ```
/// use std::io::{BufRead, BufReader};
///
/// let file = greenlet::fs::File::open("/proc/self/status")?;
/// let line = BufReader::new(file).lines().next().unwrap()?;
/// assert!(line.starts_with("Name:"));
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct File {
    file: Arc<StdFile>,
    /// Where a thread reads to; here between two calls.
    scratch: Cell<Vec<u8>>,
}

impl File {
    /// Opens a file for reading. Parks the greenlet.
    ///
    /// # Errors
    /// As [`std::fs::File::open`].
    pub fn open(path: impl AsRef<Path>) -> io::Result<File> {
        File::open_with(OpenOptions::new().read(true), path)
    }

    /// Opens a file for writing, made if there is none, emptied if there is one. Parks the greenlet.
    ///
    /// # Errors
    /// As [`std::fs::File::create`].
    pub fn create(path: impl AsRef<Path>) -> io::Result<File> {
        File::open_with(OpenOptions::new().write(true).create(true).truncate(true), path)
    }

    /// Makes a file, for reading and writing. Parks the greenlet.
    ///
    /// # Errors
    /// As [`std::fs::File::create_new`]: `AlreadyExists`.
    pub fn create_new(path: impl AsRef<Path>) -> io::Result<File> {
        File::open_with(OpenOptions::new().read(true).write(true).create_new(true), path)
    }

    /// Opens a file as the options say. Parks the greenlet. (std's `OpenOptions::open`.)
    ///
    /// # Errors
    /// As [`std::fs::OpenOptions::open`].
    pub fn open_with(options: &OpenOptions, path: impl AsRef<Path>) -> io::Result<File> {
        let options = options.clone();
        super::at(path, move |path| options.open(path)).map(File::from)
    }

    /// Writes what the system holds back to the disk, with its metadata. Parks the greenlet.
    ///
    /// # Errors
    /// As [`std::fs::File::sync_all`].
    pub fn sync_all(&self) -> io::Result<()> {
        self.call(|file| file.sync_all())
    }

    /// Writes what the system holds back to the disk. Parks the greenlet.
    ///
    /// # Errors
    /// As [`std::fs::File::sync_data`].
    pub fn sync_data(&self) -> io::Result<()> {
        self.call(|file| file.sync_data())
    }

    /// Cuts the file off, or fills it up with zeros. Parks the greenlet.
    ///
    /// # Errors
    /// As [`std::fs::File::set_len`].
    pub fn set_len(&self, size: u64) -> io::Result<()> {
        self.call(move |file| file.set_len(size))
    }

    /// What is known of the file. Parks the greenlet.
    ///
    /// # Errors
    /// As [`std::fs::File::metadata`].
    pub fn metadata(&self) -> io::Result<Metadata> {
        self.call(|file| file.metadata())
    }

    /// Changes the file's permissions. Parks the greenlet.
    ///
    /// # Errors
    /// As [`std::fs::File::set_permissions`].
    pub fn set_permissions(&self, permissions: Permissions) -> io::Result<()> {
        self.call(|file| file.set_permissions(permissions))
    }

    /// Another handle for the same open file, position included.
    ///
    /// # Errors
    /// As [`std::fs::File::try_clone`].
    pub fn try_clone(&self) -> io::Result<File> {
        self.file.try_clone().map(File::from)
    }

    /// Reads from a place of the file; its position stays. Parks the greenlet.
    ///
    /// # Errors
    /// As [`FileExt::read_at`].
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.read_by(buffer, move |file, buffer| file.read_at(buffer, offset))
    }

    /// Writes to a place of the file; its position stays. Parks the greenlet.
    ///
    /// # Errors
    /// As [`FileExt::write_at`].
    pub fn write_at(&self, buffer: &[u8], offset: u64) -> io::Result<usize> {
        self.write_by(buffer, move |file, buffer| file.write_at(buffer, offset))
    }

    /// The std file, whose calls block.
    ///
    /// # Errors
    /// Only if a call of a killed greenlet is still under way, and there is no descriptor for a duplicate to be had.
    pub fn into_std(self) -> io::Result<StdFile> {
        Arc::try_unwrap(self.file).or_else(|file| file.try_clone())
    }

    fn call<T: Send + 'static>(
        &self,
        f: impl FnOnce(&StdFile) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let file = self.file.clone();
        unblock(move || f(&file))
    }

    fn read_by(
        &self,
        buffer: &mut [u8],
        f: impl FnOnce(&StdFile, &mut [u8]) -> io::Result<usize> + Send + 'static,
    ) -> io::Result<usize> {
        let len = buffer.len().min(CHUNK);
        let mut scratch = self.scratch.take();
        scratch.resize(len.max(scratch.len()), 0);
        let file = self.file.clone();
        let (result, scratch) = unblock(move || (f(&file, &mut scratch[..len]), scratch));
        let count = result.inspect(|count| buffer[..*count].copy_from_slice(&scratch[..*count]));
        self.scratch.set(scratch);
        count
    }

    fn write_by(
        &self,
        buffer: &[u8],
        f: impl FnOnce(&StdFile, &[u8]) -> io::Result<usize> + Send + 'static,
    ) -> io::Result<usize> {
        let len = buffer.len().min(CHUNK);
        let mut scratch = self.scratch.take();
        scratch.resize(len.max(scratch.len()), 0);
        scratch[..len].copy_from_slice(&buffer[..len]);
        let file = self.file.clone();
        let (result, scratch) = unblock(move || (f(&file, &scratch[..len]), scratch));
        self.scratch.set(scratch);
        result
    }
}

impl Read for &File {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read_by(buffer, |mut file, buffer| file.read(buffer))
    }

    /// In one go on one thread.
    fn read_to_end(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        let (result, rest) = self.call(|mut file| {
            let mut rest = Vec::new();
            Ok((file.read_to_end(&mut rest), rest))
        })?;
        buffer.extend_from_slice(&rest);
        result
    }
}

impl Write for &File {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.write_by(buffer, |mut file, buffer| file.write(buffer))
    }

    /// Nothing is held back in this process.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for &File {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        // It moves a number in the kernel; only SEEK_END asks the file system for the size.
        match to {
            SeekFrom::End(_) => self.call(move |mut file| file.seek(to)),
            _ => (&*self.file).seek(to),
        }
    }
}

impl Read for File {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buffer)
    }

    fn read_to_end(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        (&*self).read_to_end(buffer)
    }
}

impl Write for File {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        (&*self).write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        (&*self).flush()
    }
}

impl Seek for File {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        (&*self).seek(to)
    }
}

impl From<StdFile> for File {
    fn from(file: StdFile) -> File {
        File { file: Arc::new(file), scratch: Cell::default() }
    }
}

impl From<OwnedFd> for File {
    fn from(fd: OwnedFd) -> File {
        File::from(StdFile::from(fd))
    }
}

impl AsFd for File {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("File").field(&self.file).finish()
    }
}
