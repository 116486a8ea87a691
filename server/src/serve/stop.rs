//! Stopping: the handle that asks for it, and the list of connections that must hear of it.

use std::fmt;
use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use slab::Slab;

use super::transport::Transport;
use crate::metrics::Meter;

/// How long connections that wait for their next request may still get it when the server stops. A client that had one on the
/// way at that moment would lose it.
pub(super) const IDLE_GRACE: Duration = Duration::from_secs(1);
/// How long destructors may take when what is under way is killed.
pub(super) const LAST_MOMENT: Duration = Duration::from_secs(1);

/// All is as ever.
const SERVING: u8 = 0;
/// It serves, but asks to be left alone.
const UNREADY: u8 = 1;
/// What is under way may finish.
const STOPPING: u8 = 2;
/// It may not.
const QUITTING: u8 = 3;

/// How often it is looked whether anybody is left meanwhile.
const LOOK: Duration = Duration::from_millis(10);

/// Asks a [`Server`](super::Server) to stop, from anywhere: another green thread, another OS thread, a signal's handler
/// thread. Clones speak to the same server.
#[derive(Clone)]
pub struct ServerHandle(Arc<Shared>);

struct Shared {
    /// One of the phases below. Only the first two can be gone back to.
    phase: AtomicU8,
    /// Others go on accepting on the same sockets.
    shared: AtomicBool,
    /// Writing to one wakes somebody who accepts connections.
    wakers: Mutex<Vec<UnixStream>>,
}

impl ServerHandle {
    /// A handle, and the end on which a wake-up arrives as a byte.
    pub(crate) fn new() -> std::io::Result<(ServerHandle, UnixStream)> {
        let (waker, woken) = wake_up()?;
        Ok((
            ServerHandle(Arc::new(Shared {
                phase: AtomicU8::new(SERVING),
                shared: AtomicBool::new(false),
                wakers: Mutex::new(vec![waker]),
            })),
            woken,
        ))
    }

    /// Stops the server gracefully: no more connections are accepted (those that the kernel had completed still are), idle
    /// ones are closed after a second in which they may bring one more request, [upgraded](crate::Upgraded) ones hear of it,
    /// requests under way are answered with `Connection: close` within the graceful timeout, after which all are cut off
    /// (requests by 503, if they run in green threads and no answer has begun). Returns at once; `serve` returns when it is
    /// done. Asking twice changes nothing.
    pub fn stop(&self) {
        self.enter(STOPPING);
    }

    /// Stops the server at once, also one that is stopping gracefully: nobody is accepted any more, and the green threads of all
    /// connections are killed, which unwinds them where they wait (destructors run; requests of which nothing was answered get
    /// 503). `serve` returns when that is done, after a second at most. With [`Server::serve_threads`](super::Server::serve_threads),
    /// whose threads can't be unwound from outside, the connections are cut off and the threads left to themselves.
    ///
    /// What computes or blocks the OS thread is not interrupted by it. Returns at once; asking twice changes nothing.
    pub fn quit(&self) {
        self.enter(QUITTING);
    }

    /// Whether the server wants to be given more requests: not after `set_ready(false)`, and not once it stops. For what tells a
    /// load balancer, such as an endpoint for health checks.
    pub fn is_ready(&self) -> bool {
        self.phase() == SERVING
    }

    /// Says whether the server wants to be given more requests (it does at first). While it does not it serves all the same, new
    /// connections too, but each response says `Connection: close`, so that clients move to another server in time before
    /// this one stops. Changes nothing once it does.
    pub fn set_ready(&self, ready: bool) {
        let (from, to) = if ready { (UNREADY, SERVING) } else { (SERVING, UNREADY) };
        // If it fails it was so before, or the server stops.
        let _ = self.0.phase.compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst);
    }

    fn enter(&self, phase: u8) {
        self.0.phase.fetch_max(phase, Ordering::SeqCst);
        self.wake();
    }

    fn phase(&self) -> u8 {
        self.0.phase.load(Ordering::SeqCst)
    }

    /// [`ServerHandle::stop`] for a server whose sockets others accept on as well: what waits in the kernel's queues is left to
    /// them.
    pub(crate) fn leave(&self) {
        self.0.shared.store(true, Ordering::SeqCst);
        self.stop();
    }

    /// Whether what waits in the kernel's queues is lost when this server closes its sockets.
    pub(crate) fn is_last(&self) -> bool {
        !self.0.shared.load(Ordering::SeqCst)
    }

    /// Whether [`ServerHandle::stop`] or [`ServerHandle::quit`] was called.
    pub fn is_stopping(&self) -> bool {
        self.phase() >= STOPPING
    }

    /// Whether [`ServerHandle::quit`] was called.
    pub(crate) fn is_quitting(&self) -> bool {
        self.phase() == QUITTING
    }

    pub(crate) fn wake(&self) {
        for mut waker in self.wakers().iter() {
            // A full pipe is as good as one byte more, and with the other end gone there is nobody to wake.
            let _ = waker.write(&[1]);
        }
    }

    /// Wakes somebody else as well: one more end on which each wake-up arrives. Whoever gets it looks at once whether there was
    /// one before.
    pub(crate) fn also_wakes(&self) -> std::io::Result<UnixStream> {
        let (waker, woken) = wake_up()?;
        self.wakers().push(waker);
        Ok(woken)
    }

    fn wakers(&self) -> MutexGuard<'_, Vec<UnixStream>> {
        self.0.wakers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The end to write to, which never waits, and the one to read from.
fn wake_up() -> std::io::Result<(UnixStream, UnixStream)> {
    let (waker, woken) = UnixStream::pair()?;
    waker.set_nonblocking(true)?;
    Ok((waker, woken))
}

impl fmt::Debug for ServerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerHandle")
            .field("ready", &self.is_ready())
            .field("stopping", &self.is_stopping())
            .finish()
    }
}

/// The live connections of a server.
pub(crate) struct Registry<T>(Arc<Members<T>>);

struct Members<T> {
    live: Mutex<Live<T>>,
    meter: Option<Meter>,
}

type Live<T> = Slab<T>;

/// A connection's place in the [`Registry`], given up when dropped.
pub(crate) struct Registered<T: Transport> {
    registry: Registry<T>,
    key: usize,
}

impl<T> Clone for Registry<T> {
    fn clone(&self) -> Registry<T> {
        Registry(Arc::clone(&self.0))
    }
}

impl<T: Transport> Registry<T> {
    /// With a meter, who comes and goes is counted.
    pub(crate) fn new(meter: Option<Meter>) -> Registry<T> {
        Registry(Arc::new(Members { live: Mutex::new(Slab::new()), meter }))
    }

    pub(crate) fn register(&self, socket: T) -> Registered<T> {
        let key = self.lock().insert(socket);
        self.0.meter.iter().for_each(Meter::opened);
        Registered { registry: self.clone(), key }
    }

    /// Makes the idle connections end, but not before [`IDLE_GRACE`] is over: until then a request may still come on them, and is
    /// answered with the word that it was the last.
    pub(crate) fn end_idle_after_grace(&self, handle: &ServerHandle, wait: impl Fn(Duration)) {
        let deadline = Instant::now() + IDLE_GRACE;
        while self.len() > 0 && Instant::now() < deadline && !handle.is_quitting() {
            wait(LOOK);
        }
        self.end_idle();
    }

    /// How many connections are live.
    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    /// Wakes the upgraded connections, so that they see that the server stops, and makes the idle ones see the end of their
    /// input. Only the receiving side is closed: a request that has
    /// arrived at this very moment is still answered.
    pub(crate) fn end_idle(&self) {
        for socket in self.sockets(|_| true) {
            socket.wake();
            if socket.is_idle() {
                let _ = socket.shutdown(Shutdown::Read);
            }
        }
    }

    /// Cuts off all connections.
    pub(crate) fn end_all(&self) {
        for socket in self.sockets(|_| true) {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// What `f` makes of each.
    pub(super) fn map<R>(&self, f: impl Fn(&T) -> R) -> Vec<R> {
        // Not under the lock, for it may be anything.
        self.sockets(|_| true).iter().map(f).collect()
    }

    fn sockets(&self, wanted: impl Fn(&T) -> bool) -> Vec<T> {
        let live = self.lock();
        live.iter().map(|(_, socket)| socket).filter(|socket| wanted(socket)).cloned().collect()
    }

    /// Nothing that can panic runs under the lock, so a poisoned one is whole all the same.
    fn lock(&self) -> MutexGuard<'_, Live<T>> {
        self.0.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Transport> Drop for Registered<T> {
    fn drop(&mut self) {
        // The socket is taken out before the lock is given back, and dropped after.
        let removed = self.registry.lock().try_remove(self.key);
        self.registry.0.meter.iter().for_each(Meter::closed);
        drop(removed);
    }
}

impl<T: Transport> fmt::Debug for Registered<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registered").field("key", &self.key).finish_non_exhaustive()
    }
}
