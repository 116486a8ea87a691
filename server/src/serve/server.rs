//! The server as a user sets it up.

use std::io;
use std::num::{NonZeroU64, NonZeroUsize};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ::http::{HeaderName, HeaderValue};

use super::hubs::{self, Place};
use super::listen::{How, Listener};
use super::settings::{BodyRate, Settings};
use super::side::{self, Side};
use super::threads::Runs;
use super::{AccessLog, Protocol, ServerHandle, Watch, green, threads};
use crate::app::{Addr, Handler, HeaderMapping, Leaving, Networks};
use crate::config::StatsdHost;
use crate::http::{Limits, ProxyProtocol};
use crate::metrics::{Board, Meter, Statsd};

/// An HTTP/1.1 server: bound to addresses, then set up, then run.
///
/// ```no_run
/// use greenserve::Server;
///
/// # fn main() -> std::io::Result<()> {
/// Server::bind("127.0.0.1:8000")?.worker_connections(1000).serve(|_req| "Hello, World!")
/// # }
/// ```
#[derive(Debug)]
pub struct Server {
    listeners: Vec<Listener>,
    settings: Settings,
    handle: ServerHandle,
    woken: UnixStream,
    metrics: Vec<Listener>,
    statsd: Option<Statsd>,
}

impl Server {
    /// A server that listens on `address`: `HOST`, `HOST:PORT` (port 8000 if none is named, 0 for any free one), `unix:PATH`,
    /// or `unix:@NAME` for an abstract name. A socket file left behind by a dead server is replaced.
    ///
    /// `fd://NUMBER` is a listening socket that whoever has started the program has left open under this number, and `fd://NAME`
    /// are the sockets that systemd has opened under this name (sd_listen_fds(3)). They are theirs: what waits in their queues
    /// when the server stops is left to whoever comes next.
    ///
    /// # Errors
    /// Those of name resolution, `bind(2)` and `listen(2)`, naming the address.
    pub fn bind(address: impl AsRef<str>) -> io::Result<Server> {
        let settings = Settings::default();
        let listeners = Listener::open(address.as_ref(), How::plain(settings.backlog))?;
        Server::on(listeners)
    }

    /// A server on sockets that listen already.
    pub(crate) fn on(listeners: Vec<Listener>) -> io::Result<Server> {
        let (handle, woken) = ServerHandle::new()?;
        let settings = Settings::default();
        Ok(Server { listeners, settings, handle, woken, metrics: Vec::new(), statsd: None })
    }

    /// Listens on one more address; as [`Server::bind`]. `[::]` takes IPv4 connections, too (unless the kernel's
    /// `net.ipv6.bindv6only` says otherwise), so `0.0.0.0` beside it on the same port is in use.
    ///
    /// # Errors
    /// As [`Server::bind`].
    pub fn and_bind(mut self, address: impl AsRef<str>) -> io::Result<Server> {
        self.listeners.extend(Listener::open(address.as_ref(), How::plain(self.settings.backlog))?);
        Ok(self)
    }

    /// The addresses listened on, with the ports that the kernel has chosen.
    pub fn local_addrs(&self) -> Vec<Addr> {
        self.listeners.iter().map(|listener| listener.addr.clone()).collect()
    }

    /// What stops this server, from any thread.
    pub fn handle(&self) -> ServerHandle {
        self.handle.clone()
    }

    /// Whether other processes serve the same application at this time, which [`Environ::flags`](crate::Environ::flags) tells it
    /// as `wsgi.multiprocess` (false). It changes nothing else; the program sets it if there are several workers.
    pub fn multiprocess(mut self, several: bool) -> Server {
        self.settings.multiprocess = several;
        self
    }

    /// How many connections are served at once (gunicorn's `worker_connections`; 10,000 if not set). While so many are open nobody is
    /// accepted: the kernel's backlog holds the rest.
    pub fn worker_connections(mut self, most: usize) -> Server {
        self.settings.worker_connections = most.max(1);
        self
    }

    /// How many threads serve (gunicorn's `threads`; not set). For [`Server::serve_hubs`] it is the number of hubs, one if it is
    /// not set. With [`Server::serve_threads`] so many requests are handled at once, of however many connections: more wait
    /// until one of those is answered. If it is not set there is no such limit. [`Server::serve`] and [`Server::serve_sync`] have one thread.
    pub fn threads(mut self, threads: impl Into<Option<NonZeroUsize>>) -> Server {
        self.settings.threads = threads.into();
        self
    }

    /// How many connections the kernel completes ahead of the server (gunicorn's `backlog`, 2048; the kernel's
    /// `net.core.somaxconn` bounds it).
    ///
    /// # Errors
    /// Those of `listen(2)`.
    pub fn backlog(mut self, backlog: u32) -> io::Result<Server> {
        self.settings.backlog = backlog;
        self.listeners.iter().try_for_each(|listener| listener.set_backlog(backlog))?;
        Ok(self)
    }

    /// How long a connection may wait for its next request (gunicorn's `keepalive`, 2 s). Zero: each connection serves one
    /// request.
    pub fn keep_alive(mut self, timeout: Duration) -> Server {
        self.settings.keep_alive = timeout;
        self
    }

    /// Has the addresses bound so far speak TLS (gunicorn's `certfile`); what is bound afterwards speaks plain HTTP unless this
    /// is called again. Keep the handle for [`TlsConfig::reload`](crate::tls::TlsConfig::reload).
    ///
    /// The handshake runs in the connection's own green thread. A file is sent over TLS by reading and encrypting it, so one
    /// that the kernel does not have in memory holds up the others while the disk is read.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, config: &crate::tls::TlsConfig) -> Server {
        for listener in &mut self.listeners {
            listener.tls.get_or_insert_with(|| config.clone());
        }
        self
    }

    /// How long a TLS handshake may take, from the beginning of the connection (10 s). Then the connection is closed.
    pub fn handshake_timeout(mut self, timeout: Duration) -> Server {
        self.settings.handshake_timeout = timeout;
        self
    }

    /// How long a request's head may take from its first byte to its last, and a new connection to its first byte (10 s). A
    /// head that is too slow is answered with 408, a connection that says nothing is closed.
    pub fn header_timeout(mut self, timeout: Duration) -> Server {
        self.settings.header_timeout = timeout;
        self
    }

    /// How long reads of one request's body may wait for the client in all (60 s); then they fail, which is answered with
    /// 408 if the handler lets the error through.
    pub fn body_timeout(mut self, timeout: Duration) -> Server {
        self.settings.body_timeout = timeout;
        self
    }

    /// How many bytes of a request's body must come in a second on average (0: any number), as long as the handler waits
    /// for them, once `grace` is over. A read that waits longer fails as with [`Server::body_timeout`], which is kept
    /// nevertheless.
    pub fn min_body_rate(mut self, bytes_per_second: u64, grace: Duration) -> Server {
        let rate = NonZeroU64::new(bytes_per_second);
        self.settings.body_rate = rate.map(|bytes_per_second| BodyRate { bytes_per_second, grace });
        self
    }

    /// How long a client may take nothing of its answer, not even of what the kernel holds for it (30 s; up to a quarter more
    /// may pass until that is seen); then the connection is closed.
    pub fn write_timeout(mut self, timeout: Duration) -> Server {
        self.settings.write_timeout = timeout;
        self
    }

    /// How long one request may take, from its head to the end of its answer (no limit). Then its handler is unwound where
    /// it waits; the answer is 503 if none was begun, and the connection is closed. [`Server::serve_threads`] does not keep
    /// it, for an OS thread can't be unwound from outside.
    pub fn request_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Server {
        self.settings.request_timeout = timeout.into();
        self
    }

    /// Has the handler of a request unwound where it waits, and its answer given up, when the client leaves meanwhile (`None`,
    /// the default: it goes on, and its answer goes nowhere). [`Client::unless_it_leaves`](crate::Client::unless_it_leaves)
    /// does so for a part of a handler.
    ///
    /// Think of those who change something: they are left half done if they wait in between. Takes a second green thread and
    /// a descriptor for the time of each request that waits for something; [`Server::serve_threads`] does not keep it. The access log has such
    /// requests with 499, as nginx does, or with the status that was sent if the answer had begun.
    pub fn cancel_on_disconnect(mut self, when: impl Into<Option<Leaving>>) -> Server {
        self.settings.cancel_on_disconnect = when.into();
        self
    }

    /// How long requests under way may take to finish after [`ServerHandle::stop`] (gunicorn's `graceful_timeout`, 30 s). Then
    /// they are killed; who has got nothing of an answer yet gets 503. [`Server::serve_threads`] can only cut connections off.
    pub fn graceful_timeout(mut self, timeout: Duration) -> Server {
        self.settings.graceful_timeout = timeout;
        self
    }

    /// For how long one green thread may hold up all others before the log says where it is (100 ms); see
    /// [`greenlet::inspect::watch`], and [`greenlet::may_block`] for what is known to block. `None`: for ever.
    /// [`Server::serve_threads`] has nobody to watch.
    pub fn blocked_threshold(mut self, threshold: impl Into<Option<Duration>>) -> Server {
        self.settings.blocked_threshold = threshold.into();
        self
    }

    /// How much of a request is accepted; see [`Limits`] for the defaults.
    pub fn limits(mut self, limits: Limits) -> Server {
        self.settings.limits = limits;
        self
    }

    /// What connections speak (gunicorn's `protocol`, HTTP).
    pub fn protocol(mut self, protocol: Protocol) -> Server {
        self.settings.protocol = protocol;
        self
    }

    /// Who may speak the uwsgi protocol to this server over TCP (gunicorn's `uwsgi_allow_ips`; 127.0.0.1 and ::1). All others
    /// are answered with 403. Over a Unix socket everybody may who can open it.
    pub fn uwsgi_allow_ips(mut self, allowed: Networks) -> Server {
        self.settings.uwsgi_allow_ips = allowed;
        self
    }

    /// Who is believed when they say, in headers, where a request came from (gunicorn's `forwarded_allow_ips`; 127.0.0.1 and
    /// ::1): see [`Request::scheme`](crate::Request::scheme), [`host`](crate::Request::host),
    /// [`client_addr`](crate::Request::client_addr) and [`environ`](crate::Request::environ). Name your proxies only, and
    /// have them remove what clients have sent under those names. Peers on Unix sockets are always believed.
    pub fn forwarded_allow_ips(mut self, peers: Networks) -> Server {
        Arc::make_mut(&mut self.settings.trust).peers = peers;
        self
    }

    /// By which header, with which value exactly, a trusted proxy says that the client speaks TLS (gunicorn's
    /// `secure_scheme_headers`; `X-Forwarded-Protocol` with `ssl`, `X-Forwarded-Proto` with `https`, `X-Forwarded-Ssl` with
    /// `on`). Any other value of it means http. Case matters in values only.
    pub fn secure_scheme_headers<N: Into<String>, V: Into<String>>(
        mut self,
        headers: impl IntoIterator<Item = (N, V)>,
    ) -> Server {
        let headers = headers.into_iter().map(|(name, value)| (name.into(), value.into()));
        Arc::make_mut(&mut self.settings.trust).scheme_headers = headers.collect();
        self
    }

    /// Headers with underscores in their names that become variables of [`Environ`](crate::Environ) when a trusted proxy
    /// sends them, whatever [`Server::header_map`] says (gunicorn's `forwarder_headers`; `SCRIPT_NAME` and `PATH_INFO`).
    /// `*` is every name.
    pub fn forwarder_headers<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Server {
        let names = names.into_iter().map(Into::into).collect();
        Arc::make_mut(&mut self.settings.trust).forwarder_headers = names;
        self
    }

    /// What becomes of headers with underscores in their names (gunicorn's `header_map`; they are dropped).
    pub fn header_map(mut self, mapping: HeaderMapping) -> Server {
        Arc::make_mut(&mut self.settings.trust).header_map = mapping;
        self
    }

    /// With which header, told by a proxy that passes on bytes, each connection has to begin (gunicorn's `proxy_protocol`;
    /// none). Its addresses become [`peer_addr`](crate::Request::peer_addr) and
    /// [`local_addr`](crate::Request::local_addr), and `PP2_CLIENT_SSL` in it makes the scheme https. It must have arrived
    /// within [`Server::header_timeout`].
    ///
    /// A connection without it is closed without an answer, as is one of a peer that is not in [`Server::proxy_allow_ips`];
    /// gunicorn serves the former and answers the latter with 403.
    pub fn proxy_protocol(mut self, versions: ProxyProtocol) -> Server {
        self.settings.proxy_protocol = versions;
        self
    }

    /// Who may speak the PROXY protocol (gunicorn's `proxy_allow_ips`; 127.0.0.1 and ::1). Peers on Unix sockets always may.
    pub fn proxy_allow_ips(mut self, peers: Networks) -> Server {
        self.settings.proxy_allow_ips = peers;
        self
    }

    /// The value of the `Server` field in every response (none).
    pub fn server_name(mut self, name: impl Into<Option<HeaderValue>>) -> Server {
        self.settings.server_name = name.into();
        self
    }

    /// The request header whose value is the request's id in the log (none), see [`log::request_id`](crate::log::request_id). A
    /// value that is not well-formed is not looked at: 1 to 128 letters, digits and `-_.:/+=~@` are. Name one that your proxy
    /// sets, `x-request-id` say: of others, a client chooses the value.
    pub fn request_id_header(mut self, name: impl Into<Option<HeaderName>>) -> Server {
        self.settings.request_id_header = name.into();
        self
    }

    /// Who is told of every answered request (nobody).
    pub fn access_log(mut self, log: impl AccessLog) -> Server {
        self.settings.access_log = Some(Arc::new(log));
        self
    }

    /// Who is told how it fares.
    pub(crate) fn watch(mut self, watch: Arc<dyn Watch>) -> Server {
        self.settings.watch = Some(watch);
        self
    }

    /// Answers on one more address for numbers and health (`--metrics-bind`): `/metrics` in Prometheus's text format, `/stats` in
    /// JSON, and with 200 or 503 `/health/ready` (the same as `/health`: it accepts, and does not hang) and `/health/live`.
    ///
    /// A thread of its own does that while the server serves, however full or blocked it is. What is served there is not
    /// counted. May be called several times.
    ///
    /// # Errors
    /// As [`Server::bind`].
    pub fn metrics_bind(mut self, address: impl AsRef<str>) -> io::Result<Server> {
        self.metrics.extend(Listener::open(address.as_ref(), How::plain(side::BACKLOG))?);
        Ok(self)
    }

    /// The addresses of [`Server::metrics_bind`], with the ports that the kernel has chosen.
    pub fn metrics_addrs(&self) -> Vec<Addr> {
        self.metrics.iter().map(|listener| listener.addr.clone()).collect()
    }

    /// Sends its numbers to a StatsD (gunicorn's `statsd_host`), about once a second, under gunicorn's names.
    /// `prefix` is what these begin with (`statsd_prefix`), `tags` are DogStatsD's (`dogstatsd_tags`, `name:value,name`); both
    /// may be empty. Never waits: what can't be sent at once is dropped.
    ///
    /// # Errors
    /// The host has no address, or there is no socket to be had.
    pub fn statsd(mut self, host: &StatsdHost, prefix: &str, tags: &str) -> io::Result<Server> {
        self.statsd = Some(Statsd::new(host, prefix, tags)?);
        Ok(self)
    }

    /// The same, with one that is there already.
    pub(crate) fn send_to(mut self, statsd: Statsd) -> Server {
        self.statsd = Some(statsd);
        self
    }

    /// Answers for a worker's numbers on these sockets, which listen already.
    pub(crate) fn metrics_on(mut self, listeners: Vec<Listener>) -> Server {
        self.metrics = listeners;
        self
    }

    /// Counts in that row of that board. Without this a server that is asked for numbers has a board of its own.
    pub(crate) fn count_on(mut self, board: Board, place: usize) -> Server {
        self.settings.meter = Some(Meter::new(board, place, self.statsd.take()));
        self
    }

    /// Gets ready for counting, if somebody wants numbers, and answers for them until the guard is dropped.
    fn start_metrics(&mut self) -> io::Result<Side> {
        if self.settings.meter.is_none() && (self.statsd.is_some() || !self.metrics.is_empty()) {
            let board = Board::new()?;
            let place = board.begin(1)?;
            self.settings.meter = Some(Meter::new(board, place, self.statsd.take()));
        }
        Side::start(std::mem::take(&mut self.metrics), self.settings.meter.clone())
    }

    /// Serves `app` with a green thread for each connection, all on the calling OS thread, until [`ServerHandle::stop`]. May
    /// be called in a green thread, too; killing that one cuts off all connections.
    ///
    /// # Errors
    /// A listener that can't be used any more. Problems of single connections are logged, and end nothing else.
    pub fn serve(mut self, app: impl Handler) -> io::Result<()> {
        let _side = self.start_metrics()?;
        let settings = Arc::new(self.settings);
        green::serve(self.listeners, settings, self.handle, self.woken, Rc::new(app), Place::alone())
    }

    /// [`Server::serve`] on several OS threads: so many [`Server::threads`] there are, each has a hub, the calling one among
    /// them. They accept on the same sockets, one that has clearly more connections than the others letting these go first.
    /// [`Server::worker_connections`] is for all together, of which each has its share, one at least.
    ///
    /// A connection stays on its thread, and so do the green threads that its handler spawns. The application is shared by
    /// all, hence the bounds; what is not `Send` belongs into a `thread_local!`. A handler that blocks its thread
    /// holds up the connections of that one.
    ///
    /// # Errors
    /// As [`Server::serve`]; and no thread to be had. What ends one hub ends all.
    pub fn serve_hubs(mut self, app: impl Handler + Send + Sync) -> io::Result<()> {
        let count = self.settings.threads.map_or(1, NonZeroUsize::get);
        if count == 1 {
            return self.serve(app);
        }
        self.settings.multithread = true;
        let _side = self.start_metrics()?;
        self.settings.meter = self.settings.meter.map(|meter| meter.of_hubs(count));
        hubs::serve(self.listeners, self.settings, self.handle, self.woken, Arc::new(app), count)
    }

    /// Serves `app` with an OS thread for each connection, until [`ServerHandle::stop`]; the calling thread accepts.
    ///
    /// # Errors
    /// A listener that can't be used any more. Problems of single connections are logged, and end nothing else.
    pub fn serve_threads(mut self, app: impl Handler + Send + Sync) -> io::Result<()> {
        let _side = self.start_metrics()?;
        let app = Arc::new(app);
        threads::serve(self.listeners, Arc::new(self.settings), self.handle, self.woken, app, Runs::Beside)
    }

    /// Serves `app` with no other thread than the calling one, until [`ServerHandle::stop`]: one connection after the other, and
    /// one request on each (gunicorn's `sync`). [`Server::worker_connections`] and [`Server::keep_alive`] have no effect. Neither
    /// has [`Server::graceful_timeout`], nor [`ServerHandle::quit`] on the request under way: its end is waited for.
    ///
    /// # Errors
    /// A listener that can't be used any more. Problems of single connections are logged, and end nothing else.
    pub fn serve_sync(mut self, app: impl Handler + Send + Sync) -> io::Result<()> {
        (self.settings.keep_alive, self.settings.worker_connections) = (Duration::ZERO, 1);
        let _side = self.start_metrics()?;
        let app = Arc::new(app);
        threads::serve(self.listeners, Arc::new(self.settings), self.handle, self.woken, app, Runs::Here)
    }
}
