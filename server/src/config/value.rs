//! The types only settings need, and the parsers of their values. A parser's error says what would be right.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use ::http::HeaderName;
use log::LevelFilter;

use crate::app::Leaving;
use crate::log::AccessFormat;

/// An address to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bind {
    /// A host name or address and a port. Port 0 takes a free one.
    Tcp {
        /// A name, an IPv4 address, or an IPv6 address without brackets.
        host: String,
        /// The port.
        port: u16,
    },
    /// A Unix domain socket at a path.
    Unix(PathBuf),
}

impl fmt::Display for Bind {
    /// As it would be typed after `--bind`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bind::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Bind::Tcp { host, port } => write!(f, "{host}:{port}"),
            Bind::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// What serves a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerClass {
    /// A green thread for each connection, all on one OS thread.
    Green,
    /// An OS thread for each connection, with the same HTTP code over blocking sockets.
    Threads,
}

/// Where a log goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogTarget {
    /// `-`: standard output for the access log, standard error for the error log.
    Standard,
    /// A file, which is appended to.
    File(PathBuf),
}

/// A value that can be shown as it would be typed.
pub(super) trait Value {
    fn show(&self) -> String;
}

/// Of every address: HOST:PORT, [IPV6]:PORT, :PORT, HOST, unix:PATH, with commas between them.
pub(super) fn bind_list(text: &str) -> Result<Vec<Bind>, String> {
    let list = text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(bind);
    let list = list.collect::<Result<Vec<_>, _>>()?;
    if list.is_empty() { Err(BIND_FORMS.to_owned()) } else { Ok(list) }
}

const BIND_FORMS: &str = "expected HOST:PORT, [IPV6]:PORT, :PORT or unix:PATH";
const DEFAULT_PORT: u16 = 8000;

fn bind(text: &str) -> Result<Bind, String> {
    if let Some(path) = text.strip_prefix("unix:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        // sockaddr_un holds 108 bytes with the closing NUL (unix(7))
        return match path.len() {
            0 => Err("expected a path after unix:, such as unix:/run/greenserve.sock".to_owned()),
            1..108 => Ok(Bind::Unix(path.into())),
            _ => Err("the path of a Unix socket has at most 107 bytes".to_owned()),
        };
    }
    if text.contains("://") || text.contains('/') {
        return Err(BIND_FORMS.to_owned());
    }
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or("the closing ] of the IPv6 address is missing")?;
            if host.parse::<std::net::Ipv6Addr>().is_err() {
                return Err(format!("{host:?} between the brackets is not an IPv6 address"));
            }
            match rest {
                "" => (host, None),
                _ => (host, Some(rest.strip_prefix(':').ok_or(BIND_FORMS)?)),
            }
        }
        None => match text.split_once(':') {
            Some((_, rest)) if rest.contains(':') => {
                return Err(format!("an IPv6 address stands in brackets: [{text}] or [{text}]:PORT"));
            }
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    if port.is_none() && host.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!("expected HOST:PORT; port {host} of every address is :{host}"));
    }
    let port = match port {
        None => DEFAULT_PORT,
        Some(port) => match port.parse() {
            // `parse` takes a leading +
            Ok(number) if port.bytes().all(|b| b.is_ascii_digit()) => number,
            _ => return Err(format!("{port:?} is not a port; expected a number from 0 to 65535")),
        },
    };
    let host = if host.is_empty() { "0.0.0.0" } else { host };
    Ok(Bind::Tcp { host: host.to_owned(), port })
}

/// A whole number in a range.
pub(super) fn count(text: &str, range: RangeInclusive<usize>) -> Result<usize, String> {
    let expected = || format!("expected a whole number from {} to {}", range.start(), range.end());
    let number = text.trim().parse().map_err(|_| expected())?;
    if range.contains(&number) { Ok(number) } else { Err(expected()) }
}

/// Longest time that can be asked for. Deadlines are sums with the clock, which must not overflow.
const LONGEST_SECONDS: f64 = 366.0 * 24.0 * 3600.0;

/// Seconds with a fraction, 0 included.
pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    match text.trim().parse::<f64>() {
        Ok(number) if (0.0..=LONGEST_SECONDS).contains(&number) => Ok(Duration::from_secs_f64(number)),
        Ok(number) if number > LONGEST_SECONDS => Err("expected at most a year of seconds".to_owned()),
        _ => Err("expected seconds, such as 2 or 0.5".to_owned()),
    }
}

/// Seconds with a fraction, of which 0 stands for no limit.
pub(super) fn seconds_or_none(text: &str) -> Result<Option<Duration>, String> {
    seconds(text).map(|time| (!time.is_zero()).then_some(time))
}

/// Bytes, of which 0 stands for no limit. K, M and G are powers of 1024.
pub(super) fn optional_size(text: &str) -> Result<Option<u64>, String> {
    let expected = || "expected a number of bytes, such as 1048576, 1024K, 1M or 2G".to_owned();
    let text = text.trim();
    let (digits, shift) = match text.chars().last() {
        Some('k' | 'K') => (&text[..text.len() - 1], 10),
        Some('m' | 'M') => (&text[..text.len() - 1], 20),
        Some('g' | 'G') => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let number: u64 = digits.parse().map_err(|_| expected())?;
    let bytes = number.checked_mul(1 << shift).ok_or_else(expected)?;
    Ok((bytes > 0).then_some(bytes))
}

pub(super) fn worker_class(text: &str) -> Result<WorkerClass, String> {
    match text {
        "green" => Ok(WorkerClass::Green),
        "threads" => Ok(WorkerClass::Threads),
        _ => Err("expected green or threads".to_owned()),
    }
}

/// What counts as a client's leaving; nothing for `never`.
pub(super) fn leaving(text: &str) -> Result<Option<Leaving>, String> {
    match text {
        "never" => Ok(None),
        "reset" => Ok(Some(Leaving::Reset)),
        "close" => Ok(Some(Leaving::Close)),
        _ => Err("expected never, reset or close".to_owned()),
    }
}

/// The name of a header; nothing for an empty value.
pub(super) fn optional_name(text: &str) -> Result<Option<HeaderName>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let name = HeaderName::from_bytes(text.as_bytes());
    name.map(Some).map_err(|_| "expected the name of a header, such as X-Request-Id".to_owned())
}

pub(super) fn log_target(text: &str) -> Result<LogTarget, String> {
    match text {
        "" => Err("expected a file, or -".to_owned()),
        "-" => Ok(LogTarget::Standard),
        path => Ok(LogTarget::File(path.into())),
    }
}

/// As [`log_target`], and nothing for an empty value.
pub(super) fn optional_log(text: &str) -> Result<Option<LogTarget>, String> {
    if text.is_empty() { Ok(None) } else { log_target(text).map(Some) }
}

/// gunicorn's names of levels, and `trace`.
pub(super) fn level(text: &str) -> Result<LevelFilter, String> {
    match text.to_ascii_lowercase().as_str() {
        "critical" | "error" => Ok(LevelFilter::Error),
        "warning" | "warn" => Ok(LevelFilter::Warn),
        "info" => Ok(LevelFilter::Info),
        "debug" => Ok(LevelFilter::Debug),
        "trace" => Ok(LevelFilter::Trace),
        _ => Err("expected critical, error, warning, info, debug or trace".to_owned()),
    }
}

impl Value for Vec<Bind> {
    fn show(&self) -> String {
        self.iter().map(Bind::to_string).collect::<Vec<_>>().join(",")
    }
}

impl Value for usize {
    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for u32 {
    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for WorkerClass {
    fn show(&self) -> String {
        match self {
            WorkerClass::Green => "green".to_owned(),
            WorkerClass::Threads => "threads".to_owned(),
        }
    }
}

impl Value for Duration {
    fn show(&self) -> String {
        self.as_secs_f64().to_string()
    }
}

impl Value for Option<Duration> {
    fn show(&self) -> String {
        self.unwrap_or_default().show()
    }
}

impl Value for Option<u64> {
    fn show(&self) -> String {
        self.unwrap_or(0).to_string()
    }
}

impl Value for LogTarget {
    fn show(&self) -> String {
        match self {
            LogTarget::Standard => "-".to_owned(),
            LogTarget::File(path) => path.display().to_string(),
        }
    }
}

impl Value for Option<LogTarget> {
    fn show(&self) -> String {
        self.as_ref().map(Value::show).unwrap_or_default()
    }
}

impl Value for Option<Leaving> {
    fn show(&self) -> String {
        match self {
            None => "never".to_owned(),
            Some(Leaving::Reset) => "reset".to_owned(),
            Some(Leaving::Close) => "close".to_owned(),
        }
    }
}

impl Value for Option<HeaderName> {
    fn show(&self) -> String {
        self.as_ref().map(|name| name.as_str().to_owned()).unwrap_or_default()
    }
}

impl Value for LevelFilter {
    fn show(&self) -> String {
        match self {
            LevelFilter::Warn => "warning".to_owned(),
            other => other.as_str().to_ascii_lowercase(),
        }
    }
}

impl Value for AccessFormat {
    fn show(&self) -> String {
        self.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> Bind {
        Bind::Tcp { host: host.to_owned(), port }
    }

    #[test]
    fn addresses_are_read_in_gunicorns_forms() {
        for (text, expected) in [
            ("127.0.0.1:8080", tcp("127.0.0.1", 8080)),
            ("localhost:0", tcp("localhost", 0)),
            ("localhost", tcp("localhost", 8000)),
            (":8080", tcp("0.0.0.0", 8080)),
            ("[::]:8080", tcp("::", 8080)),
            ("[::1]", tcp("::1", 8000)),
            ("unix:/run/a.sock", Bind::Unix("/run/a.sock".into())),
            ("unix:///run/a.sock", Bind::Unix("/run/a.sock".into())),
            ("unix:a.sock", Bind::Unix("a.sock".into())),
        ] {
            assert_eq!(bind_list(text), Ok(vec![expected]), "{text}");
        }
        assert_eq!(bind_list("a:1, b:2"), Ok(vec![tcp("a", 1), tcp("b", 2)]));
    }

    #[test]
    fn a_wrong_address_is_told_what_would_be_right() {
        for (text, hint) in [
            ("", "HOST:PORT"),
            ("8080", ":8080"),
            ("::1", "[::1]"),
            ("[::1", "]"),
            ("[::1]8000", "[IPV6]:PORT"),
            ("[localhost]:80", "IPv6"),
            ("localhost:http", "0 to 65535"),
            ("localhost:+80", "0 to 65535"),
            ("localhost:65536", "0 to 65535"),
            ("http://localhost", "HOST:PORT"),
            ("unix:", "path"),
        ] {
            let error = bind_list(text).unwrap_err();
            assert!(error.contains(hint), "{text}: {error}");
        }
        assert!(bind_list(&format!("unix:/{}", "x".repeat(107))).is_err());
    }

    #[test]
    fn seconds_take_fractions_and_refuse_what_is_no_time() {
        assert_eq!(seconds("2"), Ok(Duration::from_secs(2)));
        assert_eq!(seconds("0.25"), Ok(Duration::from_millis(250)));
        for text in ["", "-1", "NaN", "inf", "1e300", "2s", "99999999999"] {
            assert!(seconds(text).is_err(), "{text}");
        }
        assert_eq!(seconds_or_none("0"), Ok(None));
    }

    #[test]
    fn sizes_take_suffixes_and_do_not_overflow() {
        assert_eq!(optional_size("0"), Ok(None));
        assert_eq!(optional_size("10"), Ok(Some(10)));
        assert_eq!(optional_size("2k"), Ok(Some(2048)));
        assert_eq!(optional_size("1G"), Ok(Some(1 << 30)));
        for text in ["", "M", "-1", "1T", "99999999999999G", "1é"] {
            assert!(optional_size(text).is_err(), "{text}");
        }
    }
}
