//! The way to a syslog daemon (gunicorn's `log_syslog` and its companions).

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, Instant};

use log::Level;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, SockAddr, Socket, Type};

use super::clock;

/// No message is longer: what rsyslog takes unless it is told otherwise. The rest is cut off.
const LONGEST: usize = 8192;

/// How long a thread that may wait does so for a daemon that takes nothing.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long after a failure the daemon is left alone by those who may not wait.
const PAUSE: Duration = Duration::from_secs(1);

/// Where a syslog daemon listens (gunicorn's `log_syslog_to`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SyslogAddress {
    /// `udp://HOST:PORT`: a message is a datagram.
    Udp(String, u16),
    /// `tcp://HOST:PORT`: a message ends with a newline (RFC 6587, 3.4.2).
    Tcp(String, u16),
    /// `unix://PATH#dgram`, or without the suffix: a message is a datagram.
    UnixDatagram(PathBuf),
    /// `unix://PATH#stream`: a message ends with a newline.
    UnixStream(PathBuf),
}

impl SyslogAddress {
    fn is_local(&self) -> bool {
        matches!(self, SyslogAddress::UnixDatagram(_) | SyslogAddress::UnixStream(_))
    }

    fn is_stream(&self) -> bool {
        matches!(self, SyslogAddress::Tcp(..) | SyslogAddress::UnixStream(_))
    }

    fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        match self {
            SyslogAddress::Udp(host, port) | SyslogAddress::Tcp(host, port) => {
                Ok((host.as_str(), *port).to_socket_addrs()?.collect())
            }
            _ => Ok(Vec::new()),
        }
    }
}

impl fmt::Display for SyslogAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, host, port) = match self {
            SyslogAddress::Udp(host, port) => ("udp", host, port),
            SyslogAddress::Tcp(host, port) => ("tcp", host, port),
            SyslogAddress::UnixDatagram(path) => return write!(f, "unix://{}", path.display()),
            SyslogAddress::UnixStream(path) => return write!(f, "unix://{}#stream", path.display()),
        };
        match host.contains(':') {
            true => write!(f, "{scheme}://[{host}]:{port}"),
            false => write!(f, "{scheme}://{host}:{port}"),
        }
    }
}

impl FromStr for SyslogAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is no place of a syslog daemon: expected udp://HOST:PORT, tcp://HOST:PORT or unix://PATH"
            )
        };
        let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
        if scheme == "unix" {
            let (path, kind) = rest.split_once('#').unwrap_or((rest, "dgram"));
            return match (path, kind) {
                ("", _) => Err(wrong()),
                (path, "dgram") => Ok(SyslogAddress::UnixDatagram(path.into())),
                (path, "stream") => Ok(SyslogAddress::UnixStream(path.into())),
                _ => Err("expected #dgram or #stream after the path".to_owned()),
            };
        }
        let (host, port) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, port)) => (host, Some(port.strip_prefix(':').ok_or_else(wrong)?)),
            None => rest.split_once(':').map_or((rest, None), |(host, port)| (host, Some(port))),
        };
        let port = port.map_or(Ok(514), str::parse).map_err(|_| wrong())?;
        let host = if host.is_empty() { "localhost" } else { host }.to_owned();
        match scheme {
            "udp" => Ok(SyslogAddress::Udp(host, port)),
            "tcp" => Ok(SyslogAddress::Tcp(host, port)),
            _ => Err(wrong()),
        }
    }
}

/// The part of the system that messages are said to be from, by its name in syslog.conf or its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facility(u8);

const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
    "12", "13", "14", "15", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
];

impl fmt::Display for Facility {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(FACILITIES[usize::from(self.0)])
    }
}

impl FromStr for Facility {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = text.to_ascii_lowercase();
        let name = if name == "security" { "auth" } else { &name };
        let number = match name.parse() {
            Ok(number) => Some(number),
            Err(_) => FACILITIES.iter().position(|known| *known == name),
        };
        match number {
            Some(number @ 0..24) => Ok(Facility(number as u8)),
            _ => {
                Err("expected user, daemon, local0 to local7, another name of syslog.conf, or 0 to 23"
                    .to_owned())
            }
        }
    }
}

/// How messages of one log begin.
///
/// To a local socket as syslog(3) has it, `<14>tag[pid]: message`, but without a time: the daemon puts its own. Over the network by RFC
/// 5424, `<14>1 2026-11-21T07:13:43.123Z host tag pid - - message`.
#[derive(Debug, Clone)]
pub struct Envelope {
    facility: Facility,
    tag: String,
    /// None: to a local socket.
    host: Option<String>,
}

impl Envelope {
    /// For messages to a daemon at `to`. The tag is cut, and cleaned, as the formats ask.
    pub fn new(to: &SyslogAddress, facility: Facility, tag: &str) -> Envelope {
        let fit = |c: char| if c.is_ascii_graphic() && !"[]:".contains(c) { c } else { '.' };
        let host = (!to.is_local()).then(|| {
            let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
            let name: String = name.chars().filter(char::is_ascii_graphic).take(255).collect();
            if name.is_empty() { "-".to_owned() } else { name }
        });
        Envelope { facility, tag: tag.chars().map(fit).take(48).collect(), host }
    }

    /// Appends the beginning of a message.
    pub(super) fn open(&self, line: &mut Vec<u8>, level: Level) {
        use std::io::Write as _;

        let severity = match level {
            Level::Error => 3,
            Level::Warn => 4,
            Level::Info => 6,
            Level::Debug | Level::Trace => 7,
        };
        let (priority, tag, pid) = (self.facility.0 * 8 + severity, &self.tag, std::process::id());
        // writing to a Vec does not fail
        let _ = match &self.host {
            None => write!(line, "<{priority}>{tag}[{pid}]: "),
            Some(host) => {
                let _ = write!(line, "<{priority}>1 ");
                clock::now().write_rfc3339(line);
                write!(line, " {host} {tag} {pid} - - ")
            }
        };
    }

    /// Makes the message that was begun at the start of `line` one line, and not too long.
    pub(super) fn close(line: &mut Vec<u8>) {
        if line.len() >= LONGEST {
            let mut end = LONGEST - 1;
            while end > 0 && line[end] & 0xc0 == 0x80 {
                end -= 1; // in the midst of a character
            }
            line.truncate(end);
        }
        line.push(b'\n');
    }
}

/// A connection to a daemon, made when it is needed and made again when it was lost.
pub(super) struct Syslog {
    address: SyslogAddress,
    /// As they were at the start: who may not wait can't ask for others.
    known: Vec<SocketAddr>,
    socket: Option<Socket>,
    failed: Option<Instant>,
}

impl Syslog {
    /// Fails if the host can't be found. A daemon that is not there is no error: it may come.
    pub(super) fn new(address: SyslogAddress) -> io::Result<Syslog> {
        let known = address.resolve()?;
        if known.is_empty() && !address.is_local() {
            return Err(io::Error::new(ErrorKind::NotFound, "its host has no address"));
        }
        Ok(Syslog { address, known, socket: None, failed: None })
    }

    pub(super) fn disconnect(&mut self) {
        self.socket = None;
    }

    /// Sends each line as a message, and takes it off `lines`.
    pub(super) fn write(&mut self, lines: &mut &[u8], wait: bool) -> io::Result<()> {
        if !wait && self.failed.is_some_and(|at| at.elapsed() < PAUSE) {
            return Err(ErrorKind::WouldBlock.into());
        }
        while !lines.is_empty() {
            let end = memchr::memchr(b'\n', lines).map_or(lines.len(), |end| end + 1);
            let message =
                if self.address.is_stream() { &lines[..end] } else { lines[..end].trim_ascii_end() };
            // The second time for a daemon that was started anew.
            let sent = self.send(message, wait).or_else(|error| match error.kind() {
                ErrorKind::WouldBlock => Err(error),
                _ => self.send(message, wait),
            });
            self.failed = sent.is_err().then(Instant::now);
            sent?;
            *lines = &lines[end..];
        }
        Ok(())
    }

    fn send(&mut self, message: &[u8], wait: bool) -> io::Result<()> {
        let socket = match self.socket.take() {
            Some(socket) => socket,
            None => self.connect(wait)?,
        };
        let mut left = message;
        while !left.is_empty() {
            match socket.send_with_flags(left, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) {
                Ok(count) => left = &left[count..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if wait && becomes_writable(&socket)? {
                        continue;
                    }
                    // One that got a part of a message must not get the next one behind it.
                    if left.len() == message.len() {
                        self.socket = Some(socket);
                    }
                    return Err(error);
                }
                // A TCP connection that is being made.
                Err(error) if error.kind() == ErrorKind::NotConnected && !wait => {
                    self.socket = Some(socket);
                    return Err(ErrorKind::WouldBlock.into());
                }
                Err(error) => return Err(error),
            }
        }
        self.socket = Some(socket);
        Ok(())
    }

    fn connect(&self, wait: bool) -> io::Result<Socket> {
        let path = match &self.address {
            SyslogAddress::UnixDatagram(path) => (path, Type::DGRAM),
            SyslogAddress::UnixStream(path) => (path, Type::STREAM),
            SyslogAddress::Udp(..) => return self.try_each(wait, |addr| begun(addr, Type::DGRAM)),
            SyslogAddress::Tcp(..) if wait => {
                return self.try_each(wait, |addr| Ok(TcpStream::connect_timeout(&addr, PATIENCE)?.into()));
            }
            SyslogAddress::Tcp(..) => return self.try_each(wait, |addr| begun(addr, Type::STREAM)),
        };
        let socket = Socket::new(Domain::UNIX, path.1, None)?;
        socket.set_nonblocking(true)?;
        socket.connect(&SockAddr::unix(path.0)?)?;
        Ok(socket)
    }

    fn try_each(&self, wait: bool, connect: impl Fn(SocketAddr) -> io::Result<Socket>) -> io::Result<Socket> {
        let anew = if wait { self.address.resolve().ok() } else { None };
        let mut result = Err(ErrorKind::AddrNotAvailable.into());
        for addr in anew.as_ref().unwrap_or(&self.known) {
            result = connect(*addr);
            if result.is_ok() {
                break;
            }
        }
        result
    }
}

/// A socket that is connected, or about to be.
fn begun(addr: SocketAddr, kind: Type) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), kind, None)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&addr.into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(socket),
    }
}

fn becomes_writable(socket: &Socket) -> io::Result<bool> {
    let patience = Timespec { tv_sec: PATIENCE.as_secs() as _, tv_nsec: 0 };
    match poll(&mut [PollFd::new(socket, PollFlags::OUT)], Some(&patience)) {
        Ok(count) => Ok(count > 0),
        Err(rustix::io::Errno::INTR) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::net::{TcpListener, UdpSocket};
    use std::os::unix::net::UnixDatagram;
    use std::sync::Arc;

    use ::log::{LevelFilter, Log, Record};

    use super::*;
    use crate::log::{ErrorLog, LogFormat, Sink};

    fn log_to(address: &SyslogAddress, sink: &Arc<Sink>) -> ErrorLog {
        let envelope = Envelope::new(address, "local0".parse().unwrap(), "green serve:x");
        let nowhere = Sink::new("test", io::sink());
        ErrorLog::of(nowhere, LevelFilter::Info, LogFormat::Text, Some((Arc::clone(sink), envelope)))
    }

    fn say(log: &ErrorLog, level: Level, message: &str) {
        log.log(&Record::builder().level(level).args(format_args!("{message}")).build());
    }

    fn received(socket: &UdpSocket) -> String {
        let mut bytes = [0; 65536];
        let count = socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..count].to_vec()).unwrap()
    }

    #[test]
    fn over_udp_a_record_is_a_datagram_of_rfc_5424() {
        let daemon = UdpSocket::bind("127.0.0.1:0").unwrap();
        daemon.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let address = SyslogAddress::Udp("127.0.0.1".into(), daemon.local_addr().unwrap().port());
        let sink = Arc::new(Sink::syslog(address.clone()).unwrap());
        let log = log_to(&address, &sink);
        for start in [false, true] {
            if start {
                sink.start().unwrap();
            }
            say(&log, Level::Error, "one\ntwo\r");
            let message = received(&daemon);
            let words: Vec<&str> = message.splitn(8, ' ').collect();
            let pid = std::process::id().to_string();
            assert_eq!(
                (words[0], words[3], words[4]),
                ("<131>1", "green.serve.x", pid.as_str()),
                "{message}"
            );
            assert!(words[1].ends_with('Z') && words[1].len() == 24, "{message}");
            assert_eq!(words[5..], ["-", "-", "one\\ntwo\\x0d"], "{message}");
            say(&log, Level::Info, &"x".repeat(100_000));
            assert_eq!(received(&daemon).len(), LONGEST - 1);
        }
    }

    #[test]
    fn over_a_unix_socket_it_has_the_form_of_syslog_3_and_a_new_daemon_is_found() {
        let path = std::env::temp_dir().join(format!("greenserve-syslog-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let address = SyslogAddress::UnixDatagram(path.clone());
        // Nobody is there yet.
        let sink = Arc::new(Sink::syslog(address.clone()).unwrap());
        let log = log_to(&address, &sink);
        sink.start().unwrap();
        for _ in 0..2 {
            let daemon = UnixDatagram::bind(&path).unwrap();
            daemon.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            say(&log, Level::Warn, "ü");
            let mut bytes = [0; 8192];
            let count = daemon.recv(&mut bytes).unwrap();
            let expected = format!("<132>green.serve.x[{}]: ü", std::process::id());
            assert_eq!(std::str::from_utf8(&bytes[..count]), Ok(expected.as_str()));
            std::fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn over_tcp_a_record_ends_with_a_newline_and_a_lost_connection_is_made_again() {
        let daemon = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = SyslogAddress::Tcp("127.0.0.1".into(), daemon.local_addr().unwrap().port());
        let sink = Arc::new(Sink::syslog(address.clone()).unwrap());
        let log = log_to(&address, &sink);
        sink.start().unwrap();
        say(&log, Level::Info, "first");
        say(&log, Level::Info, "second");
        let mut lines = BufReader::new(daemon.accept().unwrap().0).lines();
        for expected in ["first", "second"] {
            let line = lines.next().unwrap().unwrap();
            assert!(line.starts_with("<134>1 ") && line.ends_with(expected), "{line}");
        }
        drop(lines);
        // What is sent before the end was seen is lost with the old connection.
        daemon.set_nonblocking(true).unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        let again = loop {
            say(&log, Level::Info, "third");
            match daemon.accept() {
                Ok((stream, _)) => break stream,
                Err(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(10)),
                Err(error) => panic!("no second connection: {error}"),
            }
        };
        again.set_nonblocking(false).unwrap();
        let line = BufReader::new(again).lines().next().unwrap().unwrap();
        assert!(line.ends_with("third"), "{line}");
    }

    #[test]
    fn a_daemon_that_is_not_there_costs_the_messages_and_they_are_counted() {
        let address = SyslogAddress::UnixDatagram("/nonexistent/greenserve/log".into());
        let sink = Arc::new(Sink::syslog(address.clone()).unwrap());
        let before = crate::log::dropped();
        say(&log_to(&address, &sink), Level::Info, "lost");
        assert!(crate::log::dropped() > before);
    }

    #[test]
    fn addresses_are_gunicorns() {
        for (text, expected) in [
            ("udp://localhost:514", SyslogAddress::Udp("localhost".into(), 514)),
            ("udp://", SyslogAddress::Udp("localhost".into(), 514)),
            ("tcp://10.0.0.1:601", SyslogAddress::Tcp("10.0.0.1".into(), 601)),
            ("udp://[::1]:5140", SyslogAddress::Udp("::1".into(), 5140)),
            ("tcp://[::1]", SyslogAddress::Tcp("::1".into(), 514)),
            ("unix:///dev/log", SyslogAddress::UnixDatagram("/dev/log".into())),
            ("unix:///dev/log#dgram", SyslogAddress::UnixDatagram("/dev/log".into())),
            ("unix:///run/l#stream", SyslogAddress::UnixStream("/run/l".into())),
        ] {
            let address: SyslogAddress = text.parse().unwrap();
            assert_eq!(address, expected);
            assert_eq!(address.to_string().parse(), Ok(expected), "as shown");
        }
        for bad in ["", "localhost", "unix://", "unix:///a#b", "tcp://h:x", "http://h", "udp://[::1]x"] {
            assert!(bad.parse::<SyslogAddress>().is_err(), "{bad}");
        }
    }

    #[test]
    fn facilities_have_names_and_numbers() {
        for (text, number) in
            [("user", 1), ("LOCAL7", 23), ("security", 4), ("authpriv", 10), ("3", 3), ("12", 12)]
        {
            let facility: Facility = text.parse().unwrap();
            assert_eq!(facility, Facility(number));
            assert_eq!(facility.to_string().parse(), Ok(facility));
        }
        assert!("24".parse::<Facility>().is_err() && "nobody".parse::<Facility>().is_err());
    }

    #[test]
    fn a_message_is_bounded_and_cut_between_characters() {
        let mut line = "ü".repeat(LONGEST).into_bytes();
        Envelope::close(&mut line);
        assert!(line.len() <= LONGEST);
        assert_eq!(line.pop(), Some(b'\n'));
        assert!(String::from_utf8(line).is_ok());
    }
}
