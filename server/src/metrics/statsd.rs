//! StatsD, with gunicorn's names: counts and durations go out in datagrams, many in one, and nobody waits for them.

use std::fmt::{self, Write as _};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ::http::StatusCode;

use crate::config::StatsdHost;

/// So much fits into one packet of an Ethernet, whatever is put in front of it.
const DATAGRAM: usize = 1432;

/// Sends to one StatsD, from any thread. What can't be sent at once is dropped and counted.
pub(crate) struct Statsd {
    socket: Socket,
    prefix: String,
    /// What each line ends with.
    tags: String,
    batch: Mutex<Batch>,
    dropped: AtomicU64,
}

/// Not connected: whoever listens may come later, or go and come back.
enum Socket {
    Udp(UdpSocket, SocketAddr),
    Unix(UnixDatagram, PathBuf),
}

/// What is yet to be sent.
#[derive(Default)]
struct Batch {
    lines: String,
    requests: u64,
    statuses: Vec<(u16, u64)>,
    exceptions: u64,
    errors: u64,
    warnings: u64,
}

impl Statsd {
    /// Sends nothing yet. With a prefix `a` all names begin with `a.`; tags are those of DogStatsD, `name:value,name`.
    ///
    /// # Errors
    /// The host has no address, or there is no socket to be had.
    pub(crate) fn new(host: &StatsdHost, prefix: &str, tags: &str) -> io::Result<Statsd> {
        let socket = Socket::new(host).map_err(|error| {
            io::Error::new(error.kind(), format!("can't send to statsd at {host}: {error}"))
        })?;
        let prefix = match prefix.trim_end_matches('.') {
            "" => String::new(),
            prefix => format!("{prefix}."),
        };
        let tags = if tags.is_empty() { String::new() } else { format!("|#{tags}") };
        Ok(Statsd { socket, prefix, tags, batch: Mutex::default(), dropped: AtomicU64::new(0) })
    }

    /// A request was answered.
    pub(super) fn request(&self, status: StatusCode, took: Duration) {
        let mut batch = self.batch();
        batch.count(status);
        let micros = took.as_micros();
        let millis = format_args!("{}.{:03}", micros / 1000, micros % 1000);
        self.line(&mut batch, "request.duration", &millis, "ms");
    }

    /// Something was answered that was no request: it took no time that would be worth a number.
    pub(super) fn refusal(&self, status: StatusCode) {
        self.batch().count(status);
    }

    pub(super) fn exception(&self) {
        self.batch().exceptions += 1;
    }

    /// So many messages of the error log.
    pub(super) fn logged(&self, errors: u64, warnings: u64) {
        let mut batch = self.batch();
        batch.errors += errors;
        batch.warnings += warnings;
    }

    /// Sends what there is.
    pub(super) fn flush(&self) {
        let mut batch = self.batch();
        let counts = [
            ("requests", std::mem::take(&mut batch.requests)),
            ("log.exception", std::mem::take(&mut batch.exceptions)),
            ("log.error", std::mem::take(&mut batch.errors)),
            ("log.warning", std::mem::take(&mut batch.warnings)),
        ];
        for (name, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
            self.line(&mut batch, name, &count, "c");
        }
        for (status, count) in std::mem::take(&mut batch.statuses) {
            self.line(&mut batch, &format!("request.status.{status}"), &count, "c");
        }
        self.send(&mut batch);
    }

    /// How many datagrams were dropped.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Adds a line; what would be too much for a datagram is sent before.
    fn line(&self, batch: &mut Batch, name: &str, value: &dyn fmt::Display, kind: &str) {
        let begin = batch.lines.len();
        let (prefix, tags) = (&self.prefix, &self.tags);
        // Writing to a String can't fail.
        let _ = writeln!(batch.lines, "{prefix}gunicorn.{name}:{value}|{kind}{tags}");
        if batch.lines.len() > DATAGRAM && begin > 0 {
            let line = batch.lines.split_off(begin);
            self.send(batch);
            batch.lines.push_str(&line);
        }
    }

    fn send(&self, batch: &mut Batch) {
        let datagram = batch.lines.trim_end().as_bytes();
        if !datagram.is_empty() && self.socket.send(datagram).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        batch.lines.clear();
    }

    fn batch(&self) -> MutexGuard<'_, Batch> {
        // Whoever panics under the lock leaves a line behind, or none.
        self.batch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Batch {
    fn count(&mut self, status: StatusCode) {
        self.requests += 1;
        let status = status.as_u16();
        match self.statuses.iter_mut().find(|(known, _)| *known == status) {
            Some((_, count)) => *count += 1,
            None => self.statuses.push((status, 1)),
        }
    }
}

impl Socket {
    fn new(host: &StatsdHost) -> io::Result<Socket> {
        match host {
            StatsdHost::Unix(path) => {
                let socket = UnixDatagram::unbound()?;
                socket.set_nonblocking(true)?;
                Ok(Socket::Unix(socket, path.clone()))
            }
            StatsdHost::Udp { host, port } => {
                let to = (host.as_str(), *port).to_socket_addrs()?.next();
                let to =
                    to.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address"))?;
                let any: SocketAddr = match to {
                    SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
                    SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
                };
                let socket = UdpSocket::bind(any)?;
                socket.set_nonblocking(true)?;
                Ok(Socket::Udp(socket, to))
            }
        }
    }

    /// Never waits.
    fn send(&self, datagram: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Udp(socket, to) => socket.send_to(datagram, to),
            Socket::Unix(socket, to) => socket.send_to(datagram, to),
        }
    }
}

impl fmt::Debug for Statsd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Statsd")
            .field("prefix", &self.prefix)
            .field("tags", &self.tags)
            .finish_non_exhaustive()
    }
}

/// What a master sends: the number of its workers, when it changes and every so often, and what it has logged.
#[derive(Debug)]
pub(crate) struct Gauges {
    statsd: Statsd,
    told: Option<(usize, Instant)>,
    backlog_told: Option<Instant>,
}

impl Gauges {
    const EVERY: Duration = Duration::from_secs(10);
    const BACKLOG_EVERY: Duration = Duration::from_secs(1);

    pub(crate) fn new(statsd: Statsd) -> Gauges {
        Gauges { statsd, told: None, backlog_told: None }
    }

    /// `backlog`: how many wait to be accepted, if somebody wants to know.
    pub(crate) fn tell(
        &mut self,
        workers: usize,
        backlog: impl FnOnce() -> Option<usize>,
        (errors, warnings): (u64, u64),
        now: Instant,
    ) {
        let is_known = |(count, at): (usize, Instant)| {
            count == workers && now.saturating_duration_since(at) < Gauges::EVERY
        };
        if !self.told.is_some_and(is_known) {
            self.told = Some((workers, now));
            self.statsd.line(&mut self.statsd.batch(), "workers", &workers, "g");
        }
        let is_due = |at| now.saturating_duration_since(at) >= Gauges::BACKLOG_EVERY;
        if self.backlog_told.is_none_or(is_due) {
            self.backlog_told = Some(now);
            if let Some(backlog) = backlog() {
                // gunicorn's histograms are StatsD's timers.
                self.statsd.line(&mut self.statsd.batch(), "backlog", &backlog, "ms");
            }
        }
        self.statsd.logged(errors, warnings);
        self.statsd.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener() -> (UdpSocket, StatsdHost) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let addr = socket.local_addr().unwrap();
        (socket, StatsdHost::Udp { host: addr.ip().to_string(), port: addr.port() })
    }

    fn datagram(socket: &UdpSocket) -> String {
        let mut buffer = [0; 9000];
        let count = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..count].to_vec()).unwrap()
    }

    #[test]
    fn one_datagram_has_all_of_a_pulse_with_prefix_and_tags() {
        let (socket, host) = listener();
        let statsd = Statsd::new(&host, "shop..", "env:test,blue").unwrap();
        statsd.request(StatusCode::OK, Duration::from_micros(12_345));
        statsd.request(StatusCode::OK, Duration::from_micros(7));
        statsd.refusal(StatusCode::BAD_REQUEST);
        statsd.exception();
        statsd.logged(2, 0);
        statsd.flush();
        let expected = [
            "shop.gunicorn.request.duration:12.345|ms|#env:test,blue",
            "shop.gunicorn.request.duration:0.007|ms|#env:test,blue",
            "shop.gunicorn.requests:3|c|#env:test,blue",
            "shop.gunicorn.log.exception:1|c|#env:test,blue",
            "shop.gunicorn.log.error:2|c|#env:test,blue",
            "shop.gunicorn.request.status.200:2|c|#env:test,blue",
            "shop.gunicorn.request.status.400:1|c|#env:test,blue",
        ];
        assert_eq!(datagram(&socket).lines().collect::<Vec<_>>(), expected);
        statsd.flush();
        statsd.request(StatusCode::OK, Duration::ZERO);
        statsd.flush();
        assert!(
            datagram(&socket).starts_with("shop.gunicorn.request.duration:0.000|ms"),
            "nothing is sent twice"
        );
    }

    #[test]
    fn a_datagram_is_sent_before_it_is_too_long_and_holds_whole_lines() {
        let (socket, host) = listener();
        let statsd = Statsd::new(&host, "", "").unwrap();
        for _ in 0..200 {
            statsd.request(StatusCode::OK, Duration::from_millis(1));
        }
        statsd.flush();
        let mut durations = 0;
        loop {
            let text = datagram(&socket);
            assert!(text.len() <= DATAGRAM);
            durations += text.lines().filter(|line| *line == "gunicorn.request.duration:1.000|ms").count();
            if text.contains("gunicorn.requests:200|c") {
                break;
            }
        }
        assert_eq!((durations, statsd.dropped()), (200, 0));
    }

    #[test]
    fn what_nobody_takes_is_dropped_and_counted() {
        let statsd = Statsd::new(&StatsdHost::Unix("/nowhere/at/all".into()), "", "").unwrap();
        statsd.request(StatusCode::OK, Duration::ZERO);
        statsd.flush();
        assert_eq!(statsd.dropped(), 1);
    }

    #[test]
    fn the_number_of_workers_is_told_when_it_changes_and_now_and_then() {
        let (socket, host) = listener();
        let mut gauges = Gauges::new(Statsd::new(&host, "", "").unwrap());
        let start = Instant::now();
        gauges.tell(2, || None, (0, 0), start);
        gauges.tell(2, || None, (0, 0), start + Duration::from_secs(1));
        gauges.tell(3, || None, (0, 1), start + Duration::from_secs(2));
        gauges.tell(3, || Some(7), (0, 0), start + Duration::from_secs(13));
        gauges.tell(3, || Some(8), (0, 0), start + Duration::from_millis(13_999));
        gauges.tell(3, || Some(9), (0, 0), start + Duration::from_secs(14));
        let told = [(); 4].map(|()| datagram(&socket));
        let expected = [
            "gunicorn.workers:2|g",
            "gunicorn.workers:3|g\ngunicorn.log.warning:1|c",
            "gunicorn.workers:3|g\ngunicorn.backlog:7|ms",
            "gunicorn.backlog:9|ms",
        ];
        assert_eq!(told, expected);
    }
}
