//! A bounded queue of lines and the thread that writes them.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::out::Out;
use super::syslog::{Syslog, SyslogAddress};

/// How much may wait to be written. As much again may be in the writer's hands.
const CAPACITY: usize = 1 << 20;

static DROPPED: AtomicU64 = AtomicU64::new(0);

/// How many lines of all logs this process has dropped since it began: their files, pipes or daemons were too slow, or
/// could not be written. The logs report it, too, as soon as they get on.
pub fn dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// Takes lines without ever waiting for the file they go to, once it was [started](Self::start). Before that it writes them
/// itself, which suits a master that may have no threads: a stream or a daemon that can take nothing at present isn't waited
/// for then, either, only a file on a disk is, and a writer given to [`new`](Self::new).
///
/// A file that several processes append to gets whole lines: no line of one is within a line of another. The same goes for
/// a pipe and lines of up to 4096 bytes.
///
/// Dropping it lets the writer thread write what is left and end; [`flush`](Self::flush) waits for that.
pub struct Sink {
    shared: Arc<Shared>,
}

struct Shared {
    name: String,
    path: Option<PathBuf>,
    queue: Mutex<Queue>,
    /// There is something to do, or nothing will come any more.
    work: Condvar,
    /// All has been written.
    idle: Condvar,
    /// Held while something is written.
    out: Mutex<Out>,
}

#[derive(Default)]
struct Queue {
    pending: Vec<u8>,
    /// Of which nothing was said yet.
    dropped: u64,
    /// There is a thread that writes.
    started: bool,
    writing: bool,
    reporting: bool,
    reopen: Option<Again>,
    closed: bool,
}

/// How a file is opened again.
enum Again {
    ByPath,
    As(File),
}

impl Queue {
    fn lose(&mut self, lines: u64) {
        self.dropped += lines;
        DROPPED.fetch_add(lines, Ordering::Relaxed);
    }
}

impl Sink {
    /// A sink that appends to the file at `path`, which is made if need be. `name` is what reports call it.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn file(name: &str, path: &Path) -> io::Result<Self> {
        Ok(Self::to(name, Out::append(path)?))
    }

    /// A sink that writes to any writer.
    pub fn new(name: &str, writer: impl Write + Send + 'static) -> Self {
        Self::to(name, Out::writer(writer))
    }

    /// A sink that writes to standard output.
    ///
    /// # Errors
    /// There is no descriptor to be had.
    pub fn stdout(name: &str) -> io::Result<Self> {
        Ok(Self::to(name, Out::stream(descriptor(io::stdout())?)))
    }

    /// A sink that writes to standard error.
    ///
    /// # Errors
    /// As of [`stdout`](Self::stdout).
    pub fn stderr(name: &str) -> io::Result<Self> {
        Ok(Self::to(name, Out::stream(descriptor(io::stderr())?)))
    }

    /// A sink of messages to a syslog daemon. One that is not there, or goes away, is tried again; what comes meanwhile is
    /// dropped and counted.
    ///
    /// # Errors
    /// The daemon's host can't be found. This asks the resolver, and may block.
    pub fn syslog(address: SyslogAddress) -> io::Result<Self> {
        Ok(Self::to("syslog", Out::syslog(Syslog::new(address)?)))
    }

    fn to(name: &str, out: Out) -> Self {
        let shared = Shared {
            name: name.to_owned(),
            path: out.path().map(Path::to_path_buf),
            queue: Mutex::default(),
            work: Condvar::new(),
            idle: Condvar::new(),
            out: Mutex::new(out),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Has a thread of its own write from now on, so that nobody waits for the file any more. A second call changes nothing.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(&self) -> io::Result<()> {
        if std::mem::replace(&mut self.shared.queue().started, true) {
            return Ok(());
        }
        self.shared.out().leave_connection();
        let theirs = Arc::clone(&self.shared);
        let spawned = thread::Builder::new()
            .name(format!("log {}", self.shared.name))
            .spawn(move || theirs.write_all());
        self.shared.queue().started = spawned.is_ok();
        spawned.map(drop)
    }

    /// Has standard output and standard error of this process go to its file, too, whoever writes there (gunicorn's
    /// `capture_output`); also after it was opened again. Nothing changes if it has none.
    ///
    /// # Errors
    /// The kernel's.
    pub fn capture_standard_streams(&self) -> io::Result<()> {
        self.shared.out().capture()
    }

    /// Opens its file again, which may have been moved away meanwhile (gunicorn's SIGUSR1): what is queued before may still go
    /// to the old one. If that fails the old one stays, and an error is logged. Does nothing for what is not a file.
    pub fn reopen(&self) {
        self.again(Again::ByPath);
    }

    /// Goes on with its file as somebody else has opened it. As [`reopen`](Self::reopen) otherwise.
    pub(crate) fn take(&self, file: File) {
        self.again(Again::As(file));
    }

    fn again(&self, how: Again) {
        let mut queue = self.shared.queue();
        if queue.started {
            queue.reopen = Some(how);
            drop(queue);
            self.shared.work.notify_one();
        } else {
            drop(queue);
            self.shared.reopen(how);
        }
    }

    /// The file it goes to, if it was given by its path.
    pub(crate) fn path(&self) -> Option<&Path> {
        self.shared.path.as_deref()
    }

    /// Another descriptor of that file. Waits for what is being written: for who writes by itself.
    pub(crate) fn descriptor(&self) -> Option<OwnedFd> {
        self.shared.out().descriptor()
    }

    /// Takes a line, whose end it must bring. If it does not fit into the queue, it is dropped and counted; the count is logged
    /// as a warning when the writer gets on.
    pub fn push(&self, line: &[u8]) {
        let mut queue = self.shared.queue();
        if !queue.started {
            drop(queue);
            self.shared.write_now(line);
            return;
        }
        if queue.pending.len() + line.len() > CAPACITY {
            queue.lose(1);
            return;
        }
        let wake = queue.pending.is_empty() && !queue.writing;
        queue.pending.extend_from_slice(line);
        drop(queue);
        if wake {
            self.shared.work.notify_one();
        }
    }

    /// Waits until everything queued has been written, but no longer than `patience`. It blocks the OS thread:
    /// call it when a process is about to end. Says whether everything was written.
    pub fn flush(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let mut queue = self.shared.queue();
        while queue.writing || queue.reopen.is_some() || !queue.pending.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            queue = self.shared.idle.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.shared.queue().closed = true;
        self.shared.work.notify_one();
    }
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sink").field("name", &self.shared.name).finish_non_exhaustive()
    }
}

impl Shared {
    // No code that can panic runs under these locks.

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn out(&self) -> MutexGuard<'_, Out> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The writer thread's life.
    fn write_all(&self) {
        let name = &self.name;
        let mut batch = Vec::new();
        let mut failing = false;
        loop {
            let mut queue = self.queue();
            queue.writing = false;
            while queue.pending.is_empty() && queue.reopen.is_none() {
                self.idle.notify_all();
                if queue.closed {
                    return;
                }
                queue = self.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
            std::mem::swap(&mut queue.pending, &mut batch);
            let reopen = queue.reopen.take();
            queue.writing = true;
            drop(queue);

            let mut left = &batch[..];
            let written = self.out().write(&mut left, true);
            match written {
                Ok(()) => {
                    failing = false;
                    let dropped = std::mem::take(&mut self.queue().dropped);
                    if dropped > 0 {
                        self.report(dropped);
                    }
                }
                Err(error) => {
                    let lines = memchr::memchr_iter(b'\n', left).count();
                    self.queue().lose(lines as u64);
                    if !std::mem::replace(&mut failing, true) {
                        log::error!("cannot write the {name} log: {error}");
                    }
                    // There is no sense in losing line after line as fast as they come.
                    thread::sleep(Duration::from_secs(1));
                }
            }
            batch.clear();
            if let Some(how) = reopen {
                self.reopen(how);
            }
        }
    }

    /// Writes a line without a thread.
    fn write_now(&self, line: &[u8]) {
        let mut left = line;
        let written = self.out().write(&mut left, false);
        let mut queue = self.queue();
        if written.is_err() {
            // There is nobody to tell: this may be the error log.
            queue.lose(1);
            return;
        }
        if queue.dropped == 0 || queue.reporting {
            return;
        }
        let dropped = std::mem::take(&mut queue.dropped);
        queue.reporting = true;
        drop(queue);
        self.report(dropped);
        let mut queue = self.queue();
        queue.reporting = false;
        if queue.dropped > 0 {
            // The report itself went nowhere.
            queue.dropped += dropped;
        }
    }

    fn report(&self, dropped: u64) {
        log::warn!(
            "{dropped} lines of the {} log were dropped: what they go to is too slow, or failed",
            self.name
        );
    }

    fn reopen(&self, how: Again) {
        let reopened = match how {
            Again::ByPath => self.out().reopen(),
            Again::As(file) => self.out().take(file),
        };
        if let Err(error) = reopened {
            log::error!("cannot open the {} log again, the old file stays: {error}", self.name);
        }
    }
}

/// A descriptor of its own, past std's line buffer and its lock.
fn descriptor(stream: impl std::os::fd::AsFd) -> io::Result<File> {
    Ok(stream.as_fd().try_clone_to_owned()?.into())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn started(writer: impl Write + Send + 'static) -> Sink {
        let sink = Sink::new("test", writer);
        sink.start().unwrap();
        sink
    }

    #[test]
    fn before_it_is_started_it_writes_itself() {
        let (mut reader, writer) = io::pipe().unwrap();
        let sink = Sink::new("test", writer);
        sink.push(b"first\n");
        let mut line = [0; 6];
        reader.read_exact(&mut line).unwrap();
        assert_eq!(&line, b"first\n");
        sink.start().unwrap();
        sink.push(b"second");
        reader.read_exact(&mut line).unwrap();
        assert_eq!(&line, b"second");
    }

    #[test]
    fn a_file_that_was_moved_away_is_made_anew_when_it_is_opened_again() {
        let dir = std::env::temp_dir().join(format!("greenserve-sink-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let (path, old) = (dir.join("log"), dir.join("log.1"));
        for start in [false, true] {
            let sink = Sink::file("test", &path).unwrap();
            if start {
                sink.start().unwrap();
            }
            sink.push(b"before\n");
            assert!(sink.flush(PATIENCE));
            std::fs::rename(&path, &old).unwrap();
            sink.reopen();
            assert!(sink.flush(PATIENCE));
            sink.push(b"after\n");
            assert!(sink.flush(PATIENCE));
            assert_eq!(std::fs::read_to_string(&old).unwrap(), "before\n");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), "after\n");
            std::fs::remove_file(&path).unwrap();
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_file_that_somebody_else_has_opened_again_is_taken() {
        let dir = std::env::temp_dir().join(format!("greenserve-take-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let (old, new) = (dir.join("log"), dir.join("new"));
        let sink = Sink::file("test", &old).unwrap();
        sink.start().unwrap();
        let other = Sink::file("test", &new).unwrap();
        assert_eq!(sink.path(), Some(&*old));
        sink.take(other.descriptor().unwrap().into());
        assert!(sink.flush(PATIENCE));
        sink.push(b"line\n");
        assert!(sink.flush(PATIENCE));
        assert_eq!(std::fs::read_to_string(&new).unwrap(), "line\n");
        assert_eq!(std::fs::read_to_string(&old).unwrap(), "");
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn lines_are_written_in_order_and_flush_waits_for_them() {
        let (mut reader, writer) = io::pipe().unwrap();
        let sink = started(writer);
        for n in 0..100 {
            sink.push(format!("line {n}\n").as_bytes());
        }
        assert!(sink.flush(PATIENCE));
        drop(sink);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert!(text.lines().eq((0..100).map(|n| format!("line {n}"))), "{text}");
    }

    #[test]
    fn a_writer_that_is_stuck_holds_nobody_up_and_memory_stays_bounded() {
        let (mut reader, writer) = io::pipe().unwrap();
        let sink = started(writer);
        let line = [b'x'; 1024];
        for _ in 0..4096 {
            sink.push(&line); // nobody reads: the pipe holds 64 KiB and the queue twice its capacity
        }
        assert!(!sink.flush(Duration::from_millis(1)));
        let queue = sink.shared.queue();
        assert!(queue.pending.len() <= CAPACITY);
        drop(queue);

        let drain = thread::spawn(move || io::copy(&mut reader, &mut io::sink()).unwrap());
        assert!(sink.flush(PATIENCE));
        assert_eq!(sink.shared.queue().dropped, 0, "the count starts afresh once it is reported");
        drop(sink);
        assert!(drain.join().unwrap() <= 2 * CAPACITY as u64 + 65536, "the rest was dropped");
    }
}
