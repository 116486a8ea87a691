//! The types only settings need, and the parsers of their values. A parser's error says what would be right.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use ::http::HeaderName;
use log::LevelFilter;

use crate::Protocol;
use crate::app::{HeaderMapping, Leaving, Networks, TlsVersion};
use crate::http::ProxyProtocol;
use crate::log::{AccessFormat, Facility, LogFormat, SyslogAddress};

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
    /// A Unix domain socket with a name that is no file's (unix(7), "abstract"). Without the leading `@`.
    Abstract(String),
    /// A socket that listens already, left open under this number by whoever started the program.
    Fd(i32),
    /// The sockets that the service manager has opened under this name (`FileDescriptorName=` in systemd's socket units).
    Named(String),
}

impl fmt::Display for Bind {
    /// As it would be typed after `--bind`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bind::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Bind::Tcp { host, port } => write!(f, "{host}:{port}"),
            Bind::Unix(path) => write!(f, "unix:{}", path.display()),
            Bind::Abstract(name) => write!(f, "unix:@{name}"),
            Bind::Fd(number) => write!(f, "fd://{number}"),
            Bind::Named(name) => write!(f, "fd://{name}"),
        }
    }
}

impl FromStr for Bind {
    type Err = String;

    /// `HOST:PORT`, `[IPV6]:PORT`, `:PORT`, `HOST`, `unix:PATH`, `unix:@NAME`, `fd://NUMBER`, `fd://NAME`.
    fn from_str(text: &str) -> Result<Bind, String> {
        bind(text)
    }
}

/// What serves a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerClass {
    /// A green thread for each connection, all on one OS thread.
    Green,
    /// An OS thread for each connection, with the same HTTP code over blocking sockets.
    Threads,
    /// One request after the other, each on a connection of its own, in the thread that accepts (gunicorn's `sync`).
    Sync,
}

impl fmt::Display for WorkerClass {
    /// As it would be typed after `--worker-class`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WorkerClass::Green => "green",
            WorkerClass::Threads => "threads",
            WorkerClass::Sync => "sync",
        })
    }
}

/// Who may do what with a file: the nine bits of chmod(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileMode(pub u32);

impl fmt::Display for FileMode {
    /// In octal, with a leading zero.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

/// Where a log goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogTarget {
    /// `-`: standard output for the access log, standard error for the error log.
    Standard,
    /// A file, which is appended to.
    File(PathBuf),
}

/// Whether clients are asked for a certificate over TLS (Python's `ssl.VerifyMode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertReqs {
    /// They are not (`CERT_NONE`, 0).
    None,
    /// They are; one that shows none is served, too (`CERT_OPTIONAL`, 1).
    Optional,
    /// They are, and must show one (`CERT_REQUIRED`, 2).
    Required,
}

impl fmt::Display for CertReqs {
    /// `none`, `optional`, `required`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CertReqs::None => "none",
            CertReqs::Optional => "optional",
            CertReqs::Required => "required",
        })
    }
}

/// Where StatsD listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StatsdHost {
    /// By UDP.
    Udp {
        /// A name, an IPv4 address, or an IPv6 address without brackets.
        host: String,
        /// The port.
        port: u16,
    },
    /// By datagrams to a Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for StatsdHost {
    /// As it would be typed after `--statsd-host`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StatsdHost::Udp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            StatsdHost::Udp { host, port } => write!(f, "{host}:{port}"),
            StatsdHost::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

impl FromStr for StatsdHost {
    type Err = String;

    /// `HOST:PORT`, `[IPV6]:PORT`, `unix://PATH`.
    fn from_str(text: &str) -> Result<StatsdHost, String> {
        let expected = || "expected HOST:PORT or unix://PATH, such as 127.0.0.1:8125".to_owned();
        let has_port = text.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
        match bind(text)? {
            Bind::Unix(path) => Ok(StatsdHost::Unix(path)),
            Bind::Tcp { host, port } if has_port && port > 0 && !text.starts_with(':') => {
                Ok(StatsdHost::Udp { host, port })
            }
            Bind::Tcp { .. } | Bind::Abstract(_) | Bind::Fd(_) | Bind::Named(_) => Err(expected()),
        }
    }
}

/// A value that can be shown as it would be typed.
pub(super) trait Value {
    fn show(&self) -> String;
}

/// Of every address: HOST:PORT, [IPV6]:PORT, :PORT, HOST, unix:PATH, unix:@NAME, fd://NUMBER, fd://NAME, with commas between them.
pub(super) fn bind_list(text: &str) -> Result<Vec<Bind>, String> {
    let list = text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(bind);
    let list = list.collect::<Result<Vec<_>, _>>()?;
    if list.is_empty() { Err(BIND_FORMS.to_owned()) } else { Ok(list) }
}

const BIND_FORMS: &str = "expected HOST:PORT, [IPV6]:PORT, :PORT, unix:PATH, unix:@NAME or fd://NUMBER";
const DEFAULT_PORT: u16 = 8000;

fn bind(text: &str) -> Result<Bind, String> {
    if let Some(path) = text.strip_prefix("unix:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        if let Some(name) = path.strip_prefix('@') {
            return match name.len() {
                0 => Err("expected a name after unix:@, such as unix:@greenserve".to_owned()),
                1..108 => Ok(Bind::Abstract(name.to_owned())),
                _ => Err("the name of an abstract Unix socket has at most 107 bytes".to_owned()),
            };
        }
        // sockaddr_un holds 108 bytes with the closing NUL (unix(7))
        return match path.len() {
            0 => Err("expected a path after unix:, such as unix:/run/greenserve.sock".to_owned()),
            1..108 => Ok(Bind::Unix(path.into())),
            _ => Err("the path of a Unix socket has at most 107 bytes".to_owned()),
        };
    }
    if let Some(which) = text.strip_prefix("fd://") {
        return match which.parse::<i32>() {
            Ok(number) if number >= 3 => Ok(Bind::Fd(number)),
            Ok(_) => {
                Err("the descriptors up to 2 are the standard streams; sockets begin with fd://3".to_owned())
            }
            // As systemd.socket(5) has it.
            Err(_)
                if (1..256).contains(&which.len())
                    && which.bytes().all(|b| b.is_ascii_graphic() && b != b':') =>
            {
                Ok(Bind::Named(which.to_owned()))
            }
            Err(_) => Err("expected fd://NUMBER, or fd://NAME with the name of systemd's sockets".to_owned()),
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

/// As [`bind_list`], and none for an empty value.
pub(super) fn bind_list_or_none(text: &str) -> Result<Vec<Bind>, String> {
    if text.is_empty() { Ok(Vec::new()) } else { bind_list(text) }
}

/// Where StatsD listens; nobody for an empty value.
pub(super) fn statsd_host(text: &str) -> Result<Option<StatsdHost>, String> {
    if text.is_empty() { Ok(None) } else { text.parse().map(Some) }
}

/// What may stand in a line of StatsD without ending it, or a part of it.
pub(super) fn statsd_text(text: &str) -> Result<String, String> {
    match text.contains(|c: char| c.is_control() || c.is_whitespace() || c == '|') {
        true => Err("expected text without spaces and |".to_owned()),
        false => Ok(text.to_owned()),
    }
}

/// A whole number in a range.
pub(super) fn count(text: &str, range: RangeInclusive<usize>) -> Result<usize, String> {
    let expected = || format!("expected a whole number from {} to {}", range.start(), range.end());
    let number = text.trim().parse().map_err(|_| expected())?;
    if range.contains(&number) { Ok(number) } else { Err(expected()) }
}

/// Threads of a process: a number, or nothing.
pub(super) fn optional_count(text: &str) -> Result<Option<usize>, String> {
    match text.trim() {
        "" => Ok(None),
        text => count(text, 1..=1024).map(Some),
    }
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

/// Bytes, of which 0 stands for no limit. K, M and G are powers of 1024, as are KiB, MiB and GiB.
pub(super) fn optional_size(text: &str) -> Result<Option<u64>, String> {
    let expected = || "expected a number of bytes, such as 1048576, 1024K, 1M or 2GiB".to_owned();
    let text = text.trim();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        _ => return Err(expected()),
    };
    let digits = digits.trim_end();
    let number: u64 = digits.parse().map_err(|_| expected())?;
    let bytes = number.checked_mul(1 << shift).ok_or_else(expected)?;
    Ok((bytes > 0).then_some(bytes))
}

pub(super) fn worker_class(text: &str) -> Result<WorkerClass, String> {
    match text {
        "green" => Ok(WorkerClass::Green),
        "threads" | "gthread" => Ok(WorkerClass::Threads),
        "sync" => Ok(WorkerClass::Sync),
        _ => Err("expected green, threads (or gthread) or sync".to_owned()),
    }
}

pub(super) fn protocol(text: &str) -> Result<Protocol, String> {
    match text {
        "http" => Ok(Protocol::Http),
        "uwsgi" => Ok(Protocol::Uwsgi),
        _ => Err("expected http or uwsgi".to_owned()),
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

/// Text or JSON.
pub(super) fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("expected text or json".to_owned()),
    }
}

/// A file or folder, and nothing for an empty value.
pub(super) fn optional_path(text: &str) -> Result<Option<PathBuf>, String> {
    Ok((!text.is_empty()).then(|| text.into()))
}

/// In octal, as chmod(1) takes it; Python's `0o` may stand before it.
pub(super) fn file_mode(text: &str) -> Result<FileMode, String> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    match u32::from_str_radix(digits, 8) {
        Ok(mode @ 0..=0o777) if !digits.starts_with('+') => Ok(FileMode(mode)),
        _ => Err("expected a mode in octal, such as 0600".to_owned()),
    }
}

/// On or off.
pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "on" | "yes" | "1" => Ok(true),
        "false" | "off" | "no" | "0" => Ok(false),
        _ => Err("expected true or false".to_owned()),
    }
}

/// Files, with commas between them; none for an empty value.
pub(super) fn files(text: &str) -> Result<Vec<PathBuf>, String> {
    Ok(text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(PathBuf::from).collect())
}

/// By name or, as gunicorn has it, by the number of Python's constant.
pub(super) fn cert_reqs(text: &str) -> Result<CertReqs, String> {
    match text {
        "none" | "0" => Ok(CertReqs::None),
        "optional" | "1" => Ok(CertReqs::Optional),
        "required" | "2" => Ok(CertReqs::Required),
        _ => Err("expected none, optional or required (or 0, 1 or 2)".to_owned()),
    }
}

pub(super) fn tls_version(text: &str) -> Result<TlsVersion, String> {
    match text {
        "1.2" => Ok(TlsVersion::V1_2),
        "1.3" => Ok(TlsVersion::V1_3),
        _ => Err("expected 1.2 or 1.3; older versions are not spoken".to_owned()),
    }
}

/// gunicorn's names of levels, and `trace`.
pub(crate) fn level(text: &str) -> Result<LevelFilter, String> {
    match text.to_ascii_lowercase().as_str() {
        "critical" | "error" => Ok(LevelFilter::Error),
        "warning" | "warn" => Ok(LevelFilter::Warn),
        "info" => Ok(LevelFilter::Info),
        "debug" => Ok(LevelFilter::Debug),
        "trace" => Ok(LevelFilter::Trace),
        _ => Err("expected critical, error, warning, info, debug or trace".to_owned()),
    }
}

/// Addresses and networks, with commas between them.
pub(super) fn networks(text: &str) -> Result<Networks, String> {
    text.parse()
}

/// Names of header fields, or `*`, with commas between them; in upper case, as gunicorn has them.
pub(super) fn header_names(text: &str) -> Result<Vec<String>, String> {
    let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
    names.map(|name| if name == "*" { Ok(name.to_owned()) } else { header_name(name) }).collect()
}

fn header_name(name: &str) -> Result<String, String> {
    match ::http::HeaderName::from_bytes(name.as_bytes()) {
        Ok(_) => Ok(name.to_ascii_uppercase()),
        Err(_) => Err(format!("{name:?} is not the name of a header field, such as X-FORWARDED-PROTO")),
    }
}

/// `NAME=VALUE`, with commas between them.
pub(super) fn scheme_headers(text: &str) -> Result<Vec<(String, String)>, String> {
    let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=').filter(|(_, value)| !value.is_empty()).ok_or_else(|| {
            format!("{pair:?} has no value; expected NAME=VALUE, such as X-FORWARDED-PROTO=https")
        })?;
        Ok((header_name(name)?, value.to_owned()))
    };
    pairs.map(pair).collect()
}

pub(super) fn header_map(text: &str) -> Result<HeaderMapping, String> {
    match text {
        "drop" => Ok(HeaderMapping::Drop),
        "refuse" => Ok(HeaderMapping::Refuse),
        "dangerous" => Ok(HeaderMapping::Dangerous),
        _ => Err("expected drop, refuse or dangerous".to_owned()),
    }
}

pub(super) fn proxy_protocol(text: &str) -> Result<ProxyProtocol, String> {
    match text {
        "off" => Ok(ProxyProtocol::Off),
        "v1" => Ok(ProxyProtocol::V1),
        "v2" => Ok(ProxyProtocol::V2),
        "auto" => Ok(ProxyProtocol::Auto),
        _ => Err("expected off, v1, v2 or auto".to_owned()),
    }
}

impl Value for Networks {
    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for String {
    fn show(&self) -> String {
        self.clone()
    }
}

impl Value for Vec<String> {
    fn show(&self) -> String {
        self.join(",")
    }
}

impl Value for Vec<(String, String)> {
    fn show(&self) -> String {
        self.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",")
    }
}

impl Value for HeaderMapping {
    fn show(&self) -> String {
        match self {
            HeaderMapping::Drop => "drop",
            HeaderMapping::Refuse => "refuse",
            HeaderMapping::Dangerous => "dangerous",
        }
        .to_owned()
    }
}

impl Value for ProxyProtocol {
    fn show(&self) -> String {
        match self {
            ProxyProtocol::Off => "off",
            ProxyProtocol::V1 => "v1",
            ProxyProtocol::V2 => "v2",
            ProxyProtocol::Auto => "auto",
        }
        .to_owned()
    }
}

impl Value for Vec<Bind> {
    fn show(&self) -> String {
        self.iter().map(Bind::to_string).collect::<Vec<_>>().join(",")
    }
}

impl Value for Option<StatsdHost> {
    fn show(&self) -> String {
        self.as_ref().map(StatsdHost::to_string).unwrap_or_default()
    }
}

impl Value for usize {
    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for Option<usize> {
    fn show(&self) -> String {
        self.map_or_else(String::new, |number| number.to_string())
    }
}

impl Value for u32 {
    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for bool {
    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for Option<PathBuf> {
    fn show(&self) -> String {
        self.as_ref().map(|path| path.display().to_string()).unwrap_or_default()
    }
}

impl Value for FileMode {
    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for WorkerClass {
    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for Protocol {
    fn show(&self) -> String {
        match self {
            Protocol::Http => "http".to_owned(),
            Protocol::Uwsgi => "uwsgi".to_owned(),
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

impl Value for Vec<PathBuf> {
    fn show(&self) -> String {
        self.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(",")
    }
}

impl Value for CertReqs {
    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for TlsVersion {
    fn show(&self) -> String {
        self.to_string().trim_start_matches("TLSv").to_owned()
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

impl Value for LogFormat {
    fn show(&self) -> String {
        match self {
            LogFormat::Text => "text".to_owned(),
            LogFormat::Json => "json".to_owned(),
        }
    }
}

impl Value for SyslogAddress {
    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for Facility {
    fn show(&self) -> String {
        self.to_string()
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
    fn statsd_listens_at_a_host_with_a_port_or_a_unix_socket() {
        let shown = |text: &str| statsd_host(text).unwrap().map(|host| host.to_string());
        for text in ["127.0.0.1:8125", "[::1]:8125", "metrics.example:1", "unix:///run/statsd.sock"] {
            assert_eq!(shown(text).as_deref(), Some(text));
        }
        assert_eq!(statsd_host(""), Ok(None));
        for wrong in ["localhost", ":8125", "[::1]", "localhost:0", "localhost:x", "unix://", "udp://a:1"] {
            assert!(statsd_host(wrong).is_err(), "{wrong}");
        }
        assert_eq!(statsd_text("env:prod,blue").as_deref(), Ok("env:prod,blue"));
        for wrong in ["a b", "a|c", "a\nb"] {
            assert!(statsd_text(wrong).is_err(), "{wrong:?}");
        }
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
            ("unix:./@a", Bind::Unix("./@a".into())),
            ("unix:@a b", Bind::Abstract("a b".to_owned())),
            ("fd://3", Bind::Fd(3)),
            ("fd://web-1", Bind::Named("web-1".to_owned())),
        ] {
            let shown = expected.to_string();
            assert_eq!(bind_list(text), Ok(vec![expected]), "{text}");
            assert_eq!(bind_list(&shown), bind_list(text), "{text} is shown as {shown}");
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
            ("unix:@", "unix:@greenserve"),
            ("fd://0", "fd://3"),
            ("fd://-1", "fd://3"),
            ("fd://", "fd://NAME"),
            ("fd://a:b", "fd://NAME"),
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
    fn lists_of_headers_are_names_and_say_what_is_none() {
        assert_eq!(header_names("Script_Name, *,"), Ok(vec!["SCRIPT_NAME".to_owned(), "*".to_owned()]));
        assert_eq!(header_names(""), Ok(vec![]));
        assert!(header_names("a b").unwrap_err().contains("\"a b\""));
        let pairs = scheme_headers("x-forwarded-proto=https,x-a=b=c").unwrap();
        assert_eq!(pairs.show(), "X-FORWARDED-PROTO=https,X-A=b=c");
        for text in ["x-a", "x-a=", "=b", "x a=b"] {
            assert!(scheme_headers(text).unwrap_err().contains("X-FORWARDED-PROTO"), "{text}");
        }
    }

    #[test]
    fn cert_reqs_has_names_and_pythons_numbers() {
        for (number, name) in [("0", "none"), ("1", "optional"), ("2", "required")] {
            assert_eq!(cert_reqs(number), cert_reqs(name));
            assert_eq!(cert_reqs(number).unwrap().show(), name);
        }
        for text in ["", "3", "CERT_REQUIRED"] {
            assert!(cert_reqs(text).unwrap_err().contains("optional"), "{text}");
        }
    }

    #[test]
    fn sizes_take_suffixes_and_do_not_overflow() {
        assert_eq!(optional_size("0"), Ok(None));
        assert_eq!(optional_size("10"), Ok(Some(10)));
        assert_eq!(optional_size("2k"), Ok(Some(2048)));
        assert_eq!(optional_size("1G"), Ok(Some(1 << 30)));
        assert_eq!(optional_size("512 MiB"), Ok(Some(512 << 20)));
        for text in ["", "M", "-1", "1T", "1MB", "1iB", "99999999999999G", "1é"] {
            assert!(optional_size(text).is_err(), "{text}");
        }
    }
}
