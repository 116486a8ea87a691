//! A lock on a file, for programs that have no parent in common.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::error::WaitError;
use crate::greenlet::{WaitsFor, Wake};
use crate::hub::Hub;
use crate::unblock;

/// Those who wait try again after pauses that double from the first to the second.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// A lock that programs agree on by the path of a file (flock(2); `filelock.FileLock`, uWSGI's lock files): between two
/// generations of a server during an upgrade, a server and a command-line tool, or programs of different languages. Among workers of one
/// master the other locks of this module are a thousand times faster.
///
/// Each hold has the file open for itself, so greenlets of one process exclude each other as processes do. The kernel takes the
/// lock from a process that ends, however it ends; nobody is told, and the file's contents, which are the users' own,
/// are as they were. The file is made where there is none, and stays: it may lie there for ever, or be deleted at any time, which those who
/// lock notice. A process that has been forked or executed with the file open would hold the lock, too: it is closed on exec, and
/// dropping the guard unlocks for all.
///
/// The kernel tells nobody that such a lock is free, and a thread that waits for it cannot be called back. So those who wait try
/// again after pauses of 1 to 50 ms, in no order. The files are touched by the threads of [`unblock`], for they may
/// lie on a slow file system. On NFS all programs must be on Linux, and the file must be writable.
///
/// ```
/// use std::time::Duration;
/// use greenlet::shm::FileLock;
///
/// let path = std::env::temp_dir().join(format!("greenlet-doc-{}.lock", std::process::id()));
/// let lock = FileLock::new(&path);
/// let held = lock.lock()?; // parks while somebody else has it
/// assert!(lock.try_lock()?.is_none());
/// let late = lock.lock_timeout(Duration::from_millis(5));
/// assert_eq!(late.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
/// drop(held);
/// std::fs::remove_file(&path)?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct FileLock(Arc<Path>);

impl FileLock {
    /// The lock of this name. Touches nothing yet. A relative path is so from where the process is when it locks.
    pub fn new(path: impl Into<PathBuf>) -> FileLock {
        FileLock(Arc::from(path.into()))
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Locks, waiting while somebody else holds it. Parks the greenlet.
    ///
    /// # Errors
    /// The kernel's: the file can be neither opened nor made (it is made for its owner alone to open), or its file system has no
    /// locks; why the wait failed, as a [`WaitError`] inside.
    pub fn lock(&self) -> io::Result<FileLockGuard> {
        self.lock_with(FlockOperation::NonBlockingLockExclusive, None)
    }

    /// As [`lock`](Self::lock), for a limited time.
    ///
    /// # Errors
    /// Of kind `TimedOut`, and those of [`lock`](Self::lock).
    pub fn lock_timeout(&self, timeout: Duration) -> io::Result<FileLockGuard> {
        self.lock_with(FlockOperation::NonBlockingLockExclusive, Some(timeout))
    }

    /// Locks together with others who do the same, waiting while somebody has it by [`lock`](Self::lock) (`LOCK_SH`). They may keep
    /// one who waits for it alone waiting for ever. Parks the greenlet.
    ///
    /// # Errors
    /// As [`lock`](Self::lock).
    pub fn lock_shared(&self) -> io::Result<FileLockGuard> {
        self.lock_with(FlockOperation::NonBlockingLockShared, None)
    }

    /// As [`lock_shared`](Self::lock_shared), for a limited time.
    ///
    /// # Errors
    /// Of kind `TimedOut`, and those of [`lock`](Self::lock).
    pub fn lock_shared_timeout(&self, timeout: Duration) -> io::Result<FileLockGuard> {
        self.lock_with(FlockOperation::NonBlockingLockShared, Some(timeout))
    }

    /// Locks if nobody holds it. Parks the greenlet for as long as it takes to open a file.
    ///
    /// # Errors
    /// As [`lock`](Self::lock).
    pub fn try_lock(&self) -> io::Result<Option<FileLockGuard>> {
        self.attempt(FlockOperation::NonBlockingLockExclusive)
    }

    /// Locks together with others if nobody has it alone. Parks as [`try_lock`](Self::try_lock) does.
    ///
    /// # Errors
    /// As [`lock`](Self::lock).
    pub fn try_lock_shared(&self) -> io::Result<Option<FileLockGuard>> {
        self.attempt(FlockOperation::NonBlockingLockShared)
    }

    fn lock_with(&self, how: FlockOperation, timeout: Option<Duration>) -> io::Result<FileLockGuard> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut pause = FIRST_PAUSE;
        loop {
            if let Some(guard) = self.attempt(how)? {
                return Ok(guard);
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Err(WaitError::TimedOut.into());
            }
            let hub = Hub::try_get()?;
            let until = hub.deadline(left.map_or(pause, |left| left.min(pause)));
            while hub.park(WaitsFor::FileLock, until)? != Wake::Deadline {}
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn attempt(&self, how: FlockOperation) -> io::Result<Option<FileLockGuard>> {
        let path = Arc::clone(&self.0);
        let locked = unblock(move || open_locked(&path, how));
        let file = locked.map_err(|error| {
            io::Error::new(error.kind(), format!("cannot lock the file {}: {error}", self.0.display()))
        })?;
        Ok(file.map(|file| FileLockGuard { file }))
    }
}

/// The file, if its lock is to be had.
fn open_locked(path: &Path, how: FlockOperation) -> io::Result<Option<File>> {
    loop {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        match flock(&file, how) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Ok(None),
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        // Whoever deletes the file leaves the lock of a file without a name to those who have it open.
        let held = file.metadata()?;
        match std::fs::metadata(path) {
            Ok(named) if (named.dev(), named.ino()) == (held.dev(), held.ino()) => return Ok(Some(file)),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
}

impl fmt::Debug for FileLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FileLock").field(&self.0).finish()
    }
}

/// The hold on a [`FileLock`]; dropping it unlocks.
#[derive(Debug)]
#[must_use = "a lock that is not held is free again at once"]
pub struct FileLockGuard {
    file: File,
}

impl FileLockGuard {
    /// The file that is locked, open for reading and writing: to note who has it, or for what the lock protects.
    pub fn file(&self) -> &File {
        &self.file
    }
}

impl Drop for FileLockGuard {
    fn drop(&mut self) {
        // Closing it does the same, where no other process has it. It cannot fail for a lock that is held.
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}
