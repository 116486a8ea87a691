//! Files, pipes and terminals that don't stop the hub.
//!
//! A regular file is always "ready", so no poller can wait for it: [`File`] and the functions of this module have the
//! threads of [`unblock`] do the work (gevent's `FileObjectThread`). Pipes, terminals and other devices are
//! waited for by the hub: [`FileObject`] takes any descriptor and chooses (`FileObjectPosix`). Buffering is std's:
//! `BufReader`, `BufWriter`, `LineWriter` go around all of them.
//!
//! What may not enter here: sockets' own operations, processes, formats.
//!
//! # From gevent
//!
//! | gevent | here | difference |
//! |---|---|---|
//! | `fileobject.FileObject` | [`FileObject`] | chosen by the descriptor's kind, not by a setting |
//! | `FileObjectPosix` | [`FileObject::from`], [`FileObject::exclusive`] | `from` leaves `O_NONBLOCK` as it is, where gevent sets it and other processes suffer |
//! | `FileObjectThread` | [`File`], [`read`], [`write()`] and so on | one pool for the process |
//! | `FileObjectBlock` | `std::fs::File` | |
//! | `FileObject(..., mode, buffering, newline, encoding)` | `BufReader`, `BufWriter` of std | bytes; no universal newlines |
//! | `FileObject.close`, `closefd=False` | dropping it; `try_clone_to_owned` before | |
//! | `sys.stdin` and so on after `patch_sys` | [`stdin`], [`stdout`], [`stderr`] | unbuffered |
//! | `os.pipe` with `FileObject` | [`pipe`] | |
//! | `os.make_nonblocking`, `os.nb_read`, `os.nb_write` | [`FileObject::exclusive`] | |
//! | `os.tp_read`, `os.tp_write` | [`File`] | |

mod file;
mod object;

pub use file::File;
pub use object::{FileObject, pipe, stderr, stdin, stdout};

use std::fs::{DirEntry, Metadata, Permissions};
use std::io;
use std::path::{Path, PathBuf};

use crate::unblock;

/// The whole of a file, as [`std::fs::read`]. Parks the greenlet.
///
/// # Errors
/// As std's.
///
/// ```
/// assert!(!greenlet::fs::read("/proc/self/comm")?.is_empty());
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn read(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    at(path, std::fs::read)
}

/// The whole of a file as text, as [`std::fs::read_to_string`]. Parks the greenlet.
///
/// # Errors
/// As std's.
pub fn read_to_string(path: impl AsRef<Path>) -> io::Result<String> {
    at(path, std::fs::read_to_string)
}

/// Makes or replaces a file, as [`std::fs::write`]. Parks the greenlet; the contents are copied for the thread that
/// writes them. Killed meanwhile, the greenlet goes and the file is written nevertheless.
///
/// # Errors
/// As std's.
pub fn write(path: impl AsRef<Path>, contents: impl AsRef<[u8]>) -> io::Result<()> {
    let contents = contents.as_ref().to_vec();
    at(path, move |path| std::fs::write(path, contents))
}

/// Copies a file, as [`std::fs::copy`]. Parks the greenlet.
///
/// # Errors
/// As std's.
pub fn copy(from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<u64> {
    let to = to.as_ref().to_owned();
    at(from, move |from| std::fs::copy(from, to))
}

/// Renames a file or directory, as [`std::fs::rename`]. Parks the greenlet.
///
/// # Errors
/// As std's.
pub fn rename(from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
    let to = to.as_ref().to_owned();
    at(from, move |from| std::fs::rename(from, to))
}

/// What is known of a file, symbolic links followed, as [`std::fs::metadata`]. Parks the greenlet.
///
/// # Errors
/// As std's.
pub fn metadata(path: impl AsRef<Path>) -> io::Result<Metadata> {
    at(path, std::fs::metadata)
}

/// What is known of a file or link, as [`std::fs::symlink_metadata`]. Parks the greenlet.
///
/// # Errors
/// As std's.
pub fn symlink_metadata(path: impl AsRef<Path>) -> io::Result<Metadata> {
    at(path, std::fs::symlink_metadata)
}

/// Whether there is such a file, as [`std::fs::exists`]. Parks the greenlet.
///
/// # Errors
/// As std's.
pub fn exists(path: impl AsRef<Path>) -> io::Result<bool> {
    at(path, std::fs::exists)
}

/// The absolute path with all links resolved, as [`std::fs::canonicalize`]. Parks the greenlet.
///
/// # Errors
/// As std's.
pub fn canonicalize(path: impl AsRef<Path>) -> io::Result<PathBuf> {
    at(path, std::fs::canonicalize)
}

/// Changes a file's permissions, as [`std::fs::set_permissions`]. Parks the greenlet.
///
/// # Errors
/// As std's.
pub fn set_permissions(path: impl AsRef<Path>, permissions: Permissions) -> io::Result<()> {
    at(path, |path| std::fs::set_permissions(path, permissions))
}

/// Makes a directory, as [`std::fs::create_dir`]. Parks the greenlet.
///
/// # Errors
/// As std's.
pub fn create_dir(path: impl AsRef<Path>) -> io::Result<()> {
    at(path, std::fs::create_dir)
}

/// Makes a directory and those it lies in, as [`std::fs::create_dir_all`]. Parks the greenlet.
///
/// # Errors
/// As std's.
pub fn create_dir_all(path: impl AsRef<Path>) -> io::Result<()> {
    at(path, std::fs::create_dir_all)
}

/// What lies in a directory. Parks the greenlet; unlike [`std::fs::read_dir`] it collects the entries, since each step
/// might block.
///
/// # Errors
/// As std's, the first one.
pub fn read_dir(path: impl AsRef<Path>) -> io::Result<Vec<DirEntry>> {
    at(path, |path| std::fs::read_dir(path)?.collect())
}

/// Removes a file, as [`std::fs::remove_file`]. Parks the greenlet.
///
/// # Errors
/// As std's.
pub fn remove_file(path: impl AsRef<Path>) -> io::Result<()> {
    at(path, std::fs::remove_file)
}

/// Removes an empty directory, as [`std::fs::remove_dir`]. Parks the greenlet.
///
/// # Errors
/// As std's.
pub fn remove_dir(path: impl AsRef<Path>) -> io::Result<()> {
    at(path, std::fs::remove_dir)
}

/// Removes a directory with all that lies in it, as [`std::fs::remove_dir_all`]. Parks the greenlet.
///
/// # Errors
/// As std's.
pub fn remove_dir_all(path: impl AsRef<Path>) -> io::Result<()> {
    at(path, std::fs::remove_dir_all)
}

/// Has a thread do it.
fn at<T: Send + 'static>(
    path: impl AsRef<Path>,
    f: impl FnOnce(PathBuf) -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let path = path.as_ref().to_owned();
    unblock(move || f(path))
}
