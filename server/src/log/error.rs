//! The error log: the `log` facade in gunicorn's line format.

use std::cell::Cell;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use log::{Level, LevelFilter, Log, Metadata, Record};

use super::{Sink, clock, context};

/// How long a flush at the end of the program waits for a slow file.
const PATIENCE: Duration = Duration::from_secs(2);

/// Writes `[2026-11-21 07:13:43 +0000] [1234] [INFO] message`, and before the message what is known of the request, if there
/// is anything: `[3f2a9c0b1d5e6f78 user=17]`; see [`field`](super::field) and [`request_id`](super::request_id).
///
/// The further lines of a message (a backtrace) are indented, and control characters are escaped, so that every
/// line which begins with `[` begins a record. Levels are spelled as gunicorn does.
#[derive(Debug)]
pub struct ErrorLog {
    sink: Arc<Sink>,
    level: LevelFilter,
}

impl ErrorLog {
    /// An error log to `sink` of what is at least as severe as `level`.
    pub fn new(sink: impl Into<Arc<Sink>>, level: LevelFilter) -> Self {
        Self { sink: sink.into(), level }
    }

    /// Makes it the logger of this program. `log::logger().flush()` before the end writes what is queued.
    ///
    /// # Errors
    /// The program has a logger already: it stays, and this one is dropped.
    pub fn install(self) -> Result<(), log::SetLoggerError> {
        let level = self.level;
        log::set_boxed_logger(Box::new(self))?;
        log::set_max_level(level);
        Ok(())
    }
}

/// How many errors and warnings this process has logged since they were last taken.
static LOGGED: [AtomicU64; 2] = [AtomicU64::new(0), AtomicU64::new(0)];

/// How many errors and warnings have been logged since this was last asked.
pub(crate) fn take_logged() -> (u64, u64) {
    let [errors, warnings] = &LOGGED;
    (errors.swap(0, Ordering::Relaxed), warnings.swap(0, Ordering::Relaxed))
}

thread_local! {
    static LINE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

impl Log for ErrorLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= self.level
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        if let Some(count) = LOGGED.get(record.level() as usize - 1) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        // taken rather than borrowed: a message's Display may log
        let mut line = LINE.take();
        line.clear();
        let level = match record.level() {
            Level::Error => "ERROR",
            Level::Warn => "WARNING",
            Level::Info => "INFO",
            Level::Debug => "DEBUG",
            Level::Trace => "TRACE",
        };
        line.push(b'[');
        line.extend_from_slice(&clock::now().error);
        // writing to a Vec fails only if a Display does; what it wrote so far is still worth having
        let _ = write!(line, "] [{}] [{level}] ", std::process::id());
        context::write(&mut line);
        let _ = write!(Escaped(&mut line), "{}", record.args());
        line.push(b'\n');
        self.sink.push(&line);
        LINE.set(line);
    }

    fn flush(&self) {
        self.sink.flush(PATIENCE);
    }
}

/// Indents further lines and escapes control characters.
struct Escaped<'a>(&'a mut Vec<u8>);

impl Write for Escaped<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for &byte in bytes {
            match byte {
                b'\n' => self.0.extend_from_slice(b"\n    "),
                b'\t' => self.0.push(byte),
                0..0x20 | 0x7f => write!(self.0, "\\x{byte:02x}")?,
                _ => self.0.push(byte),
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn logged(level: LevelFilter, records: &[(Level, &str)]) -> String {
        let (mut reader, writer) = io::pipe().unwrap();
        let log = ErrorLog::new(Sink::new("test", writer), level);
        for (level, message) in records {
            log.log(&Record::builder().level(*level).args(format_args!("{message}")).build());
        }
        drop(log);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn a_line_has_date_process_level_and_message() {
        let text = logged(LevelFilter::Info, &[(Level::Warn, "watch out")]);
        let (date, rest) = text.split_at(27);
        assert!(date.starts_with("[20") && date.ends_with(" +0000]"), "{text}");
        assert_eq!(rest, format!(" [{}] [WARNING] watch out\n", std::process::id()));
    }

    #[test]
    fn what_is_below_the_level_is_left_out() {
        let text = logged(LevelFilter::Warn, &[(Level::Info, "quiet"), (Level::Error, "loud")]);
        assert!(text.contains("loud") && !text.contains("quiet"), "{text}");
    }

    #[test]
    fn a_message_cannot_forge_a_line() {
        let text = logged(LevelFilter::Info, &[(Level::Info, "a\n[2026] [1] [INFO] b\r\x1b[31mü")]);
        assert_eq!(text.lines().filter(|line| line.starts_with('[')).count(), 1, "{text}");
        assert!(text.ends_with("\n    [2026] [1] [INFO] b\\x0d\\x1b[31mü\n"), "{text}");
    }
}
