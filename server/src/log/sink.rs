//! A bounded queue of lines and the thread that writes them.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How much may wait to be written. As much again may be in the writer's hands.
const CAPACITY: usize = 1 << 20;

/// Takes lines without ever waiting for the file they go to.
///
/// Dropping it lets the writer thread write what is left and end; [`flush`](Self::flush) waits for that.
pub struct Sink {
    name: String,
    shared: Arc<Shared>,
}

struct Shared {
    queue: Mutex<Queue>,
    /// There is something to write, or nothing will come any more.
    work: Condvar,
    /// All has been written.
    idle: Condvar,
}

#[derive(Default)]
struct Queue {
    pending: Vec<u8>,
    dropped: u64,
    writing: bool,
    closed: bool,
}

impl Sink {
    /// A sink that appends to the file at `path`, which is made if need be. `name` is what reports call it.
    ///
    /// # Errors
    /// The file cannot be opened, or the writer thread not be started.
    pub fn file(name: &str, path: &Path) -> io::Result<Self> {
        Self::new(name, OpenOptions::new().append(true).create(true).open(path)?)
    }

    /// A sink that writes to any writer, from a thread of its own.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn new(name: &str, writer: impl Write + Send + 'static) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue::default()),
            work: Condvar::new(),
            idle: Condvar::new(),
        });
        let theirs = Arc::clone(&shared);
        let called = name.to_owned();
        thread::Builder::new()
            .name(format!("log {name}"))
            .spawn(move || theirs.write_all(&called, writer))?;
        Ok(Self { name: name.to_owned(), shared })
    }

    /// A sink that writes to standard output.
    ///
    /// # Errors
    /// As of [`file`](Self::file).
    pub fn stdout(name: &str) -> io::Result<Self> {
        Self::new(name, descriptor(io::stdout())?)
    }

    /// A sink that writes to standard error.
    ///
    /// # Errors
    /// As of [`file`](Self::file).
    pub fn stderr(name: &str) -> io::Result<Self> {
        Self::new(name, descriptor(io::stderr())?)
    }

    /// Queues a line, whose end it must bring. If it does not fit, it is dropped and counted; the count is logged as
    /// a warning when the writer gets on. Never waits for the file.
    pub fn push(&self, line: &[u8]) {
        let mut queue = self.shared.lock();
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
        let mut queue = self.shared.lock();
        while queue.writing || !queue.pending.is_empty() {
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
        self.shared.lock().closed = true;
        self.shared.work.notify_one();
    }
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sink").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // no code that can panic runs under the lock
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_all(&self, name: &str, mut writer: impl Write) {
        let mut batch = Vec::new();
        loop {
            let mut queue = self.lock();
            queue.writing = false;
            while queue.pending.is_empty() {
                self.idle.notify_all();
                if queue.closed {
                    return;
                }
                queue = self.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
            std::mem::swap(&mut queue.pending, &mut batch);
            let dropped = std::mem::take(&mut queue.dropped);
            queue.writing = true;
            drop(queue);

            if dropped > 0 {
                log::warn!("{dropped} lines of the {name} log were dropped: its file is too slow");
            }
            if let Err(error) = write_patiently(&mut writer, &batch) {
                log::error!("cannot write the {name} log: {error}");
                // an error log that cannot be written would report that to itself, for ever
                thread::sleep(Duration::from_secs(1));
            }
            batch.clear();
        }
    }
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

    #[test]
    fn lines_are_written_in_order_and_flush_waits_for_them() {
        let (mut reader, writer) = io::pipe().unwrap();
        let sink = Sink::new("test", writer).unwrap();
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
        let sink = Sink::new("test", writer).unwrap();
        let line = [b'x'; 1024];
        for _ in 0..4096 {
            sink.push(&line); // nobody reads: the pipe holds 64 KiB and the queue twice its capacity
        }
        assert!(!sink.flush(Duration::from_millis(1)));
        let queue = sink.shared.lock();
        assert!(queue.pending.len() <= CAPACITY);
        drop(queue);

        let drain = thread::spawn(move || io::copy(&mut reader, &mut io::sink()).unwrap());
        assert!(sink.flush(PATIENCE));
        assert_eq!(sink.shared.lock().dropped, 0, "the count starts afresh once it is reported");
        drop(sink);
        assert!(drain.join().unwrap() <= 2 * CAPACITY as u64 + 65536, "the rest was dropped");
    }
}
