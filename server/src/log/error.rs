//! The error log: the `log` facade in gunicorn's line format, or as JSON.

use std::cell::Cell;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread;
use std::time::Duration;

use log::{Level, LevelFilter, Log, Metadata, Record};

use super::json::Object;
use super::syslog::Envelope;
use super::{Sink, clock, context};

/// How long a flush at the end of the program waits for a slow file.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a line of the error log looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// gunicorn's line.
    #[default]
    Text,
    /// An object of JSON.
    Json,
}

/// Writes `[2026-11-21 07:13:43 +0000] [1234] [INFO] message`, and before the message what is known of the request, if there
/// is anything: `[3f2a9c0b1d5e6f78 user=17]`; see [`field`](super::field) and [`request_id`](super::request_id).
///
/// The further lines of a message (a backtrace) are indented, and control characters are escaped, so that every
/// line which begins with `[` begins a record. Levels are spelled as gunicorn does.
///
/// As [JSON](LogFormat::Json) a line is an object with `time` (RFC 3339, UTC), `level`, `pid`, `greenlet` (its name; outside of one
/// `thread`), `target` (the module, as the `log` facade has it), `request_id` and `fields` (an object) where there are
/// any, and `message`.
#[derive(Debug)]
pub struct ErrorLog {
    to: RwLock<Arc<Targets>>,
    /// The level is the one of the `log` facade, which can be set while the program runs.
    installed: AtomicBool,
}

#[derive(Debug)]
struct Targets {
    sink: Arc<Sink>,
    level: LevelFilter,
    format: LogFormat,
    syslog: Option<(Arc<Sink>, Envelope)>,
}

impl ErrorLog {
    /// An error log to `sink` of what is at least as severe as `level`.
    pub fn new(sink: impl Into<Arc<Sink>>, level: LevelFilter) -> Self {
        Self::of(sink, level, LogFormat::Text, None)
    }

    /// One of that format, which has messages sent to a [syslog daemon](Sink::syslog), too.
    pub fn of(
        sink: impl Into<Arc<Sink>>,
        level: LevelFilter,
        format: LogFormat,
        syslog: Option<(Arc<Sink>, Envelope)>,
    ) -> Self {
        let targets = Targets { sink: sink.into(), level, format, syslog };
        Self { to: RwLock::new(Arc::new(targets)), installed: AtomicBool::new(false) }
    }

    /// Makes it the logger of this program. `log::logger().flush()` before the end writes what is queued,
    /// [`log::set_max_level`] changes the level. It can be [redirected](Self::redirect) later.
    ///
    /// # Errors
    /// The program has a logger already, which stays.
    pub fn install(self: &Arc<Self>) -> Result<(), log::SetLoggerError> {
        log::set_boxed_logger(Box::new(Arc::clone(self)))?;
        log::set_max_level(self.targets().level);
        self.installed.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Writes to where `other` does from now on, from its level on and in its format. For a logger that is
    /// [installed](Self::install).
    pub fn redirect(&self, other: &ErrorLog) {
        let targets = other.targets();
        log::set_max_level(targets.level);
        *self.to.write().unwrap_or_else(PoisonError::into_inner) = targets;
    }

    fn targets(&self) -> Arc<Targets> {
        Arc::clone(&self.to.read().unwrap_or_else(PoisonError::into_inner))
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
        match self.installed.load(Ordering::Relaxed) {
            true => metadata.level() <= log::max_level(),
            false => metadata.level() <= self.targets().level,
        }
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        if let Some(count) = LOGGED.get(record.level() as usize - 1) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let targets = self.targets();
        // taken rather than borrowed: a message's Display may log
        let mut line = LINE.take();
        line.clear();
        match targets.format {
            LogFormat::Text => {
                line.push(b'[');
                line.extend_from_slice(&clock::now().error);
                let _ = write!(line, "] [{}] [{}] ", std::process::id(), name(record.level()));
                write_message(&mut line, record, b"\n    ");
            }
            LogFormat::Json => write_json(&mut line, record),
        }
        line.push(b'\n');
        targets.sink.push(&line);
        if let Some((syslog, envelope)) = &targets.syslog {
            line.clear();
            envelope.open(&mut line, record.level());
            match targets.format {
                LogFormat::Text => write_message(&mut line, record, b"\\n"),
                LogFormat::Json => write_json(&mut line, record),
            }
            Envelope::close(&mut line);
            syslog.push(&line);
        }
        LINE.set(line);
    }

    fn flush(&self) {
        let targets = self.targets();
        targets.sink.flush(PATIENCE);
        if let Some((syslog, _)) = &targets.syslog {
            syslog.flush(PATIENCE);
        }
    }
}

fn name(level: Level) -> &'static str {
    match level {
        Level::Error => "ERROR",
        Level::Warn => "WARNING",
        Level::Info => "INFO",
        Level::Debug => "DEBUG",
        Level::Trace => "TRACE",
    }
}

fn write_message(line: &mut Vec<u8>, record: &Record<'_>, newline: &'static [u8]) {
    context::write(line);
    // writing to a Vec fails only if a Display does; what it wrote so far is still worth having
    let _ = write!(Escaped { line, newline }, "{}", record.args());
}

fn write_json(line: &mut Vec<u8>, record: &Record<'_>) {
    let mut object = Object::begin(line);
    let time = object.member("time");
    time.push(b'"');
    clock::now().write_rfc3339(time);
    time.push(b'"');
    object.text("level", name(record.level()));
    object.number("pid", std::process::id().into());
    match greenlet::running() {
        Some(greenlet) => object.text("greenlet", greenlet.name()),
        None => object.text("thread", thread::current().name().unwrap_or_default()),
    }
    object.text("target", record.target());
    object.context();
    object.display("message", record.args());
    object.end();
}

/// Marks the ends of lines within, and escapes control characters.
struct Escaped<'a> {
    line: &'a mut Vec<u8>,
    newline: &'static [u8],
}

impl Write for Escaped<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for &byte in bytes {
            match byte {
                b'\n' => self.line.extend_from_slice(self.newline),
                b'\t' => self.line.push(byte),
                0..0x20 | 0x7f => write!(self.line, "\\x{byte:02x}")?,
                _ => self.line.push(byte),
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

    #[test]
    fn as_json_a_line_is_an_object_with_the_request_context() {
        let (mut reader, writer) = io::pipe().unwrap();
        let log = ErrorLog::of(Sink::new("test", writer), LevelFilter::Info, LogFormat::Json, None);
        ctxlocal::scope(|| {
            super::super::field("user", "a \"b\"");
            let args = format_args!("one\n{}", "two");
            log.log(&Record::builder().level(Level::Warn).target("app::db").args(args).build());
        });
        drop(log);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        let object: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&object["level"], &object["target"]), (&"WARNING".into(), &"app::db".into()));
        assert_eq!((&object["message"], &object["fields"]["user"]), (&"one\ntwo".into(), &"a \"b\"".into()));
        assert_eq!(object["pid"], std::process::id());
        assert!(
            object["time"].as_str().unwrap().ends_with('Z') && object.get("request_id").is_none(),
            "{text}"
        );
        assert!(object["thread"].is_string() && object.get("greenlet").is_none(), "{text}");
    }

    #[test]
    fn a_redirected_log_writes_elsewhere_in_another_format_and_from_another_level_on() {
        let ((mut first, to_first), (mut second, to_second)) = (io::pipe().unwrap(), io::pipe().unwrap());
        let log = ErrorLog::new(Sink::new("test", to_first), LevelFilter::Error);
        let say =
            |text: &str| log.log(&Record::builder().level(Level::Info).args(format_args!("{text}")).build());
        say("unheard");
        let to = Sink::new("test", to_second);
        log.redirect(&ErrorLog::of(to, LevelFilter::Info, LogFormat::Json, None));
        say("heard");
        drop(log);
        let mut text = String::new();
        first.read_to_string(&mut text).unwrap();
        assert_eq!(text, "");
        second.read_to_string(&mut text).unwrap();
        assert!(text.starts_with('{') && text.contains("heard"), "{text}");
    }
}
