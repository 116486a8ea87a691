//! One green thread per connection, all of them on the calling OS thread.

mod look;
mod socket;

use std::cell::RefCell;
use std::io::{self, Read};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use greenlet::inspect::Monitor;
use greenlet::net::UnixStream;
use greenlet::server::{AcceptFailure, Backoff};
use greenlet::{Greenlet, Pool, Slot, Timeout};
use socket2::SockRef;

use self::socket::{GreenListener, GreenSocket, Parked, turn_away};
use super::arrive::{Arrival, Ends, arrive};
use super::conn::Conn;
use super::exchange::live;
use super::hubs::Place;
use super::listen::{HANDSHAKE, Listener};
use super::settings::Settings;
use super::stop::{LAST_MOMENT, Registered, Registry, ServerHandle};
use super::threads::addr;
use super::transport::Transport;
use super::watch::{COURTESY, PULSE};
use crate::app::{Addr, Handler};
use crate::http::ProxyProtocol;
use crate::metrics::{HubLoad, Meter};

/// Accepts on each listener in a green thread of its own until the server is stopped.
pub(crate) fn serve(
    listeners: Vec<Listener>,
    settings: Arc<Settings>,
    handle: ServerHandle,
    woken: StdUnixStream,
    app: Rc<dyn Handler>,
    place: Place,
) -> io::Result<()> {
    let woken = Rc::new(UnixStream::from_std(woken)?);
    let _monitor = settings.blocked_threshold.and_then(monitor);
    let server = Rc::new(Green {
        pool: Pool::new(settings.worker_connections),
        live: Registry::new(settings.meter.clone()),
        failure: RefCell::new(None),
        settings,
        handle,
        app,
        place,
    });
    let mut running = Running { server: Rc::clone(&server), listeners: Vec::new(), acceptors: Vec::new() };
    for listener in listeners {
        let listener = Rc::new(GreenListener::new(listener)?);
        running.listeners.push(Rc::clone(&listener));
        let name = format!("accept on {}", listener.addr);
        let server = Rc::clone(&server);
        running.acceptors.push(greenlet::Builder::new().name(name).spawn(move || server.accept(&listener))?);
    }
    if let Some(watch) = &server.settings.watch {
        watch.shows(server.place.sign(), Arc::new(look::insight(&server)));
    }
    let _pulse = pulse(&server)?;
    while !server.handle.is_stopping() && server.failure.borrow().is_none() {
        (&*woken).read_exact(&mut [0])?;
    }
    server.settings.meter.iter().for_each(Meter::stops);
    running.stop(woken)?;
    match server.failure.take() {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// Tells that it accepts, and from then on that the hub turns and how many connections there are, until the returned guard is
/// dropped.
fn pulse(server: &Rc<Green>) -> io::Result<Option<impl Drop + use<>>> {
    struct Pulse(Greenlet<()>);
    impl Drop for Pulse {
        fn drop(&mut self) {
            self.0.kill_soon();
        }
    }
    let Green { settings, place, .. } = &**server;
    let (watch, meter) = (settings.watch.clone(), settings.meter.clone());
    let all_accept = place.accepts();
    if watch.is_none() && meter.is_none() {
        return Ok(None);
    }
    meter.iter().for_each(|meter| meter.accepts(settings.worker_connections));
    watch.iter().filter(|_| all_accept).for_each(|watch| watch.accepts());
    let beating = Rc::clone(server);
    let turn = move || loop {
        let all_turn = beating.place.turns();
        watch.iter().filter(|_| all_turn).for_each(|watch| watch.turns());
        if let Some(meter) = &meter {
            let load = greenlet::inspect::load();
            let load = HubLoad { idle: load.idle, longest_stall: load.longest_stall };
            meter.note(beating.place.index(), load);
            if all_turn {
                meter.is_ready(beating.handle.is_ready());
                meter.turns();
            }
        }
        // Connections have ended since somebody was accepted.
        if !beating.handle.is_stopping() {
            beating.has_more();
        }
        greenlet::sleep(PULSE);
    };
    greenlet::Builder::new().name("pulse").spawn(turn).map(|pulse| Some(Pulse(pulse)))
}

/// Has somebody say who holds up the others. The server serves without, too.
fn monitor(threshold: Duration) -> Option<Monitor> {
    let monitor = greenlet::inspect::watch(threshold);
    monitor.inspect_err(|error| log::warn!("nobody will tell who blocks the server: {error}")).ok()
}

struct Green {
    settings: Arc<Settings>,
    handle: ServerHandle,
    app: Rc<dyn Handler>,
    pool: Pool,
    live: Registry<GreenSocket>,
    /// Among the hubs of this server.
    place: Place,
    /// Why accepting has ended.
    failure: RefCell<Option<io::Error>>,
}

impl Green {
    /// An acceptor's life. Nobody is accepted before there is a place in the pool.
    fn accept(self: &Rc<Self>, listener: &GreenListener) {
        let mut backoff = Backoff::new();
        let error = loop {
            let slot = match self.pool.reserve(None) {
                Ok(slot) => slot,
                Err(error) => break io::Error::from(error),
            };
            if self.has_more() {
                greenlet::sleep(COURTESY);
            }
            match listener.accept() {
                Ok((socket, peer)) => {
                    backoff.succeeded();
                    self.start(slot, listener, socket, peer);
                }
                Err(error) => match AcceptFailure::of(&error) {
                    AcceptFailure::Nobody => {}
                    AcceptFailure::Passing => {
                        log::debug!("a connection was lost before it was accepted: {error}")
                    }
                    AcceptFailure::Exhausted => {
                        let pause = backoff.failed(listener, &error);
                        greenlet::sleep(pause);
                    }
                    AcceptFailure::Fatal => break error,
                },
            }
        };
        let error =
            io::Error::new(error.kind(), format!("can't accept on {} any more: {error}", listener.addr));
        self.failure.replace(Some(error));
        self.handle.wake();
    }

    /// Whether others who accept on the same sockets should go first: hubs of this process, or other processes.
    fn has_more(&self) -> bool {
        let watch = self.settings.watch.as_ref();
        if watch.is_none() && !self.place.is_shared() {
            return false;
        }
        let (than_hubs, all) = self.place.has_more(self.live.len());
        // The others are to learn of this one's number anyway.
        watch.is_some_and(|watch| watch.has_more(all)) || than_hubs
    }

    fn start(
        self: &Rc<Self>,
        slot: Slot,
        #[cfg_attr(not(feature = "tls"), expect(unused))] listener: &GreenListener,
        socket: GreenSocket,
        peer: Addr,
    ) {
        let place = self.live.register(socket.clone());
        let ends = Ends::Socket(peer);
        #[cfg(feature = "tls")]
        let is_plain = listener.tls.is_none();
        #[cfg(not(feature = "tls"))]
        let is_plain = true;
        let server = Rc::clone(self);
        if !is_plain || self.settings.proxy_protocol != ProxyProtocol::Off {
            #[cfg(feature = "tls")]
            let tls = listener.tls.clone();
            let newcomer = Newcomer {
                accepted: self.settings.meter.as_ref().map(|_| Instant::now()),
                server,
                socket,
                ends,
                arrived: self.settings.proxy_protocol == ProxyProtocol::Off,
                #[cfg(feature = "tls")]
                tls,
                slot: None,
                place,
            };
            return newcomer.start(slot);
        }
        // A setting of the handle, which can't fail for a time that is not zero.
        let _ = socket.set_write_timeout(Some(self.settings.write_timeout));
        let mut caller = Box::new(Caller { server, socket, ends, slot: None, _place: place });
        let accepted = self.settings.meter.as_ref().map(|_| Instant::now());
        slot.spawn_with(move |slot| {
            caller.slot = Some(slot);
            caller.server.settings.has_waited(accepted);
            caller.serve();
        });
    }
}

/// A connection on which something comes before HTTP: a PROXY header, a TLS handshake, or the one and then the other. Each in
/// the connection's own green thread, so that nobody else waits for it.
struct Newcomer {
    /// Noted only if it is counted.
    accepted: Option<Instant>,
    server: Rc<Green>,
    socket: GreenSocket,
    ends: Ends,
    /// Its PROXY header was read, or there is to be none.
    arrived: bool,
    #[cfg(feature = "tls")]
    tls: Option<crate::tls::TlsConfig>,
    slot: Option<Slot>,
    place: Registered<GreenSocket>,
}

impl Newcomer {
    #[cold]
    fn start(self, slot: Slot) {
        let mut newcomer = Box::new(self);
        slot.spawn_with(move |slot| {
            newcomer.slot = Some(slot);
            newcomer.server.settings.has_waited(newcomer.accepted);
            newcomer.serve();
        });
    }

    fn serve(mut self: Box<Self>) {
        if !self.arrived {
            let Green { settings, handle, .. } = &*self.server;
            match arrive(&self.socket, self.ends.peer(), settings, handle, true) {
                Arrival::Here(ends) => (self.ends, self.arrived) = (ends, true),
                Arrival::Silent(wait) => return self.wait(wait),
                Arrival::Gone => return,
            }
        }
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            let Green { settings, handle, .. } = &*self.server;
            let accepted = super::tls::accept(&self.socket, &self.ends, tls, settings, handle);
            let Some(socket) = accepted else { return };
            let Newcomer { server, ends, slot, place, .. } = *self;
            return Box::new(Caller { server, socket, ends, slot, _place: place }).serve();
        }
        let Newcomer { server, socket, ends, slot, place, .. } = *self;
        let _ = socket.set_write_timeout(Some(server.settings.write_timeout));
        Box::new(Caller { server, socket, ends, slot, _place: place }).serve();
    }

    /// Has the hub wait for the first byte, without a green thread.
    fn wait(self: Box<Self>, wait: Duration) {
        self.slot.iter().for_each(Slot::vacate);
        let socket = self.socket.clone();
        let watched = socket.spawn_when_readable(wait, move |in_time| {
            if in_time {
                self.slot.iter().for_each(Slot::occupy);
                self.serve();
            }
        });
        if let Err(error) = watched {
            log::error!("a connection is closed, for it can't be waited for: {error}");
        }
    }
}

/// What belongs to a connection besides what serving it needs: all that is kept while it only waits for its next request.
///
/// Boxed, so that it takes no room in the frames under the handler.
struct Caller<T: Parked> {
    server: Rc<Green>,
    socket: T,
    ends: Ends,
    /// Its place in the pool, once it has been given it.
    slot: Option<Slot>,
    _place: Registered<GreenSocket>,
}

impl<T: Parked> Caller<T> {
    /// Serves it in this green thread until it ends or has been waiting for a while.
    fn serve(mut self: Box<Self>) {
        let conn = self.enter();
        if let Some(wait) = live(&conn, &*self.server.app)
            && self.left(conn)
        {
            self.wait(wait);
        }
    }

    #[inline(never)]
    fn enter(&mut self) -> Rc<Conn<T>> {
        let Caller { server, socket, ends, .. } = self;
        let ends = std::mem::replace(ends, Ends::Socket(Addr::Unix(None)));
        let conn = Conn::new(socket.clone(), ends, Arc::clone(&server.settings), server.handle.clone());
        socket.green().0.notes.enter(&conn);
        conn
    }

    /// Takes back what has to be kept.
    #[inline(never)]
    fn left(&mut self, conn: Rc<Conn<T>>) -> bool {
        // Nobody else has it, or `live` had gone on waiting.
        let Some(conn) = Rc::into_inner(conn) else { return false };
        self.socket.green().0.notes.leave(conn.served());
        self.ends = conn.ends;
        true
    }

    /// Has the hub wait for the next request, without a green thread.
    #[inline(never)]
    fn wait(self: Box<Self>, wait: Duration) {
        self.slot.iter().for_each(Slot::vacate);
        let socket = self.socket.clone();
        let watched = socket.spawn_when_readable(wait, move |in_time| {
            if in_time {
                self.slot.iter().for_each(Slot::occupy);
                self.serve();
            } else {
                self.socket.goodbye();
            }
        });
        if let Err(error) = watched {
            log::error!("a connection is closed, for it can't be waited for: {error}");
        }
    }
}

/// What must not go on when `serve` has ended, however it ends.
struct Running {
    server: Rc<Green>,
    listeners: Vec<Rc<GreenListener>>,
    acceptors: Vec<Greenlet<()>>,
}

impl Running {
    /// Ends what there is: in good order, unless that is cut short.
    fn stop(&mut self, woken: Rc<UnixStream>) -> io::Result<()> {
        if !self.server.handle.is_quitting() {
            let patience = Timeout::never();
            let (ender, handle) = (patience.ender(), self.server.handle.clone());
            let hurrying = greenlet::spawn(move || {
                while !handle.is_quitting() {
                    if (&*woken).read_exact(&mut [0]).is_err() {
                        return;
                    }
                }
                ender.end();
            });
            let _hurrying = Watching(hurrying);
            if let Ok(stopped) = patience.run(|| self.finish()) {
                return stopped;
            }
        }
        greenlet::kill_all(&self.acceptors, None)?;
        self.acceptors.clear();
        self.listeners.clear();
        self.cut_off();
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        let Green { settings, pool, live, handle, .. } = &*self.server;
        let began = Instant::now();
        let deadline = began.checked_add(settings.graceful_timeout);
        let left = || deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let last = handle.is_last();
        match last {
            true => self.listeners.iter().for_each(|listener| turn_away(listener)),
            false => greenlet::kill_all(&self.acceptors, None)?,
        }
        live.end_idle_after_grace(handle, greenlet::sleep);
        if last {
            greenlet::sleep((began + HANDSHAKE).saturating_duration_since(Instant::now()));
            greenlet::kill_all(&self.acceptors, None)?;
        }
        // What the kernel has completed until now would be reset.
        'all: for listener in self.listeners.iter().filter(|listener| last && !listener.kept) {
            for _ in 0..settings.backlog {
                let Ok(socket) = SockRef::from(&**listener).accept() else { break };
                let Ok(slot) = pool.reserve(left()) else { break 'all };
                let peer = addr(&socket.1);
                self.server.start(slot, listener, listener.adopt(socket.0)?, peer);
            }
        }
        self.acceptors.clear();
        self.listeners.clear();
        if pool.join(left()).is_err() && !pool.is_empty() {
            log::warn!("{} connections are cut off: the graceful timeout is over", pool.len());
            self.cut_off();
        }
        Ok(())
    }

    /// Unwinds whoever is left, where it waits. Destructors get a moment; what computes without end can't be helped.
    fn cut_off(&self) {
        self.server.pool.kill_soon();
        let _ = self.server.pool.join(LAST_MOMENT);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.acceptors.iter().for_each(|acceptor| acceptor.kill_soon());
        self.server.pool.kill_soon();
        // Those that wait without a green thread.
        self.server.live.end_all();
        self.server.place.leave();
    }
}

/// A green thread that watches a client. It ends with what it watches for.
struct Watching(Greenlet<()>);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.kill_soon();
    }
}
