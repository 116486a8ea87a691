//! A bounded queue of lines and the thread that writes them.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How much may wait to be written. As much again may be in the writer's hands.
const CAPACITY: usize = 1 << 20;

/// Takes lines without ever waiting for the file they go to, once it was [started](Self::start); before that it writes them
/// itself, which suits a master that may have no threads.
///
/// Dropping it lets the writer thread write what is left and end; [`flush`](Self::flush) waits for that.
pub struct Sink {
    shared: Arc<Shared>,
}

struct Shared {
    name: String,
    queue: Mutex<Queue>,
    /// There is something to do, or nothing will come any more.
    work: Condvar,
    /// All has been written.
    idle: Condvar,
    /// Held while something is written.
    out: Mutex<Out>,
}

/// Where the lines go.
struct Out {
    writer: Box<dyn Write + Send>,
    /// Of a file, to open it again.
    path: Option<PathBuf>,
}

#[derive(Default)]
struct Queue {
    pending: Vec<u8>,
    dropped: u64,
    /// There is a thread that writes.
    started: bool,
    writing: bool,
    reopen: bool,
    closed: bool,
}

impl Sink {
    /// A sink that appends to the file at `path`, which is made if need be. `name` is what reports call it.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn file(name: &str, path: &Path) -> io::Result<Self> {
        let out = Out { writer: Box::new(open(path)?), path: Some(path.to_path_buf()) };
        Ok(Self::to(name, out))
    }

    /// A sink that writes to any writer.
    pub fn new(name: &str, writer: impl Write + Send + 'static) -> Self {
        Self::to(name, Out { writer: Box::new(writer), path: None })
    }

    /// A sink that writes to standard output.
    ///
    /// # Errors
    /// There is no descriptor to be had.
    pub fn stdout(name: &str) -> io::Result<Self> {
        Ok(Self::new(name, descriptor(io::stdout())?))
    }

    /// A sink that writes to standard error.
    ///
    /// # Errors
    /// As of [`stdout`](Self::stdout).
    pub fn stderr(name: &str) -> io::Result<Self> {
        Ok(Self::new(name, descriptor(io::stderr())?))
    }

    fn to(name: &str, out: Out) -> Self {
        let shared = Shared {
            name: name.to_owned(),
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
        let theirs = Arc::clone(&self.shared);
        let spawned = thread::Builder::new()
            .name(format!("log {}", self.shared.name))
            .spawn(move || theirs.write_all());
        self.shared.queue().started = spawned.is_ok();
        spawned.map(drop)
    }

    /// Opens its file again, which may have been moved away meanwhile (gunicorn's SIGUSR1): what is queued before may still go
    /// to the old one. If that fails the old one stays, and an error is logged. Does nothing for what is not a file.
    pub fn reopen(&self) {
        let mut queue = self.shared.queue();
        if queue.started {
            queue.reopen = true;
            drop(queue);
            self.shared.work.notify_one();
        } else {
            drop(queue);
            self.shared.reopen();
        }
    }

    /// Takes a line, whose end it must bring. If it does not fit into the queue, it is dropped and counted; the count is logged
    /// as a warning when the writer gets on.
    pub fn push(&self, line: &[u8]) {
        let mut queue = self.shared.queue();
        if !queue.started {
            drop(queue);
            // There is nobody to tell: this may be the error log.
            let _ = write_patiently(&mut self.shared.out().writer, line);
            return;
        }
        if queue.pending.len() + line.len() > CAPACITY {
            queue.dropped += 1;
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
        while queue.writing || queue.reopen || !queue.pending.is_empty() {
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
        loop {
            let mut queue = self.queue();
            queue.writing = false;
            while queue.pending.is_empty() && !queue.reopen {
                self.idle.notify_all();
                if queue.closed {
                    return;
                }
                queue = self.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
            std::mem::swap(&mut queue.pending, &mut batch);
            let dropped = std::mem::take(&mut queue.dropped);
            let reopen = std::mem::take(&mut queue.reopen);
            queue.writing = true;
            drop(queue);

            if dropped > 0 {
                log::warn!("{dropped} lines of the {name} log were dropped: its file is too slow");
            }
            let written = write_patiently(&mut self.out().writer, &batch);
            if let Err(error) = written {
                log::error!("cannot write the {name} log: {error}");
                // an error log that cannot be written would report that to itself, for ever
                thread::sleep(Duration::from_secs(1));
            }
            batch.clear();
            if reopen {
                self.reopen();
            }
        }
    }

    fn reopen(&self) {
        let mut out = self.out();
        let Some(path) = &out.path else { return };
        match open(path) {
            Ok(file) => out.writer = Box::new(file),
            Err(error) => {
                let what = format!("{}: {error}", path.display());
                drop(out);
                log::error!("cannot open the {} log again, the old file stays: {what}", self.name);
            }
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

/// Standard output and error may be shared with a program that made them non-blocking.
fn write_patiently(writer: &mut impl Write, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match writer.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(n) => bytes = &bytes[n..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(Duration::from_millis(10)),
            Err(error) => return Err(error),
        }
    }
    writer.flush()
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
