//! Several hubs in one process, each on an OS thread of its own: they accept on the same sockets, and share nothing else
//! but what is counted here.
//!
//! The calling thread is the first of them, so that green threads which the application has there go on. Each hub has its own
//! pool, its own connections and its own descriptors; what is said of the process as a whole, that it accepts and that it
//! lives, is said when it is true of all.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use greenlet::net::UnixStream as GreenStream;

use super::listen::Listener;
use super::settings::Settings;
use super::watch::is_above_average;
use super::{ServerHandle, green};
use crate::app::Handler;

/// No connections are counted for a hub that does not serve.
const GONE: usize = usize::MAX;

/// What the hubs of a server know of each other.
struct Hubs {
    seats: Vec<Seat>,
    /// Who has had its turn in this round, or needs none any more.
    round: Mutex<Vec<bool>>,
    /// How many have yet to accept.
    missing: AtomicUsize,
    began: Instant,
}

struct Seat {
    /// How many connections it has, or [`GONE`].
    connections: AtomicUsize,
    /// When it last had its turn, in milliseconds since the beginning.
    turned: AtomicU64,
}

/// A hub's place among those of its server.
pub(super) struct Place {
    index: usize,
    hubs: Option<Arc<Hubs>>,
}

impl Place {
    /// That of a hub which is the only one.
    pub(super) fn alone() -> Place {
        Place { index: 0, hubs: None }
    }

    fn among(count: usize) -> Vec<Place> {
        let seat = || Seat { connections: AtomicUsize::new(GONE), turned: AtomicU64::new(0) };
        let hubs = Arc::new(Hubs {
            seats: (0..count).map(|_| seat()).collect(),
            round: Mutex::new(vec![false; count]),
            missing: AtomicUsize::new(count),
            began: Instant::now(),
        });
        (0..count).map(|index| Place { index, hubs: Some(Arc::clone(&hubs)) }).collect()
    }

    /// Which one it is, beginning with 0.
    pub(super) fn index(&self) -> usize {
        self.index
    }

    /// How to tell from another thread which hub this is and whether it turns. `None` for the only one.
    pub(super) fn sign(&self) -> Option<HubSign> {
        let hubs = Arc::clone(self.hubs.as_ref()?);
        Some(HubSign { index: self.index, hubs })
    }

    /// This hub accepts. Says whether now all do.
    pub(super) fn accepts(&self) -> bool {
        let Some(hubs) = &self.hubs else { return true };
        hubs.turned(self.index);
        hubs.missing.fetch_sub(1, Ordering::Relaxed) == 1
    }

    /// This hub turns. Says whether all others have, too, since that was last so: one that hangs keeps them from it.
    pub(super) fn turns(&self) -> bool {
        let Some(hubs) = &self.hubs else { return true };
        hubs.turned(self.index);
        hubs.marks(self.index)
    }

    /// Whether this hub, which has so many connections, has clearly more than the others; and how many all have together.
    pub(super) fn has_more(&self, connections: usize) -> (bool, usize) {
        let Some(hubs) = &self.hubs else { return (false, connections) };
        hubs.seats[self.index].connections.store(connections, Ordering::Relaxed);
        let (mut sum, mut serving) = (0, 0);
        for seat in &hubs.seats {
            let load = seat.connections.load(Ordering::Relaxed);
            if load != GONE {
                (sum, serving) = (sum + load, serving + 1);
            }
        }
        (is_above_average(connections, sum, serving), sum)
    }

    pub(super) fn is_shared(&self) -> bool {
        self.hubs.is_some()
    }

    /// This hub does not serve any more: nobody waits for it from now on.
    pub(super) fn leave(&self) {
        let Some(hubs) = &self.hubs else { return };
        hubs.seats[self.index].connections.store(GONE, Ordering::Relaxed);
        hubs.seats[self.index].turned.store(u64::MAX, Ordering::Relaxed);
        hubs.marks(self.index);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Hubs {
    fn turned(&self, index: usize) {
        let now = self.began.elapsed().as_millis() as u64;
        self.seats[index].turned.store(now, Ordering::Relaxed);
    }

    /// Whether this mark was the last of the round. Then the next one begins.
    fn marks(&self, index: usize) -> bool {
        let mut round = self.round.lock().unwrap_or_else(PoisonError::into_inner);
        round[index] = true;
        let is_whole = round.iter().all(|marked| *marked);
        if is_whole {
            let has_left = |seat: &Seat| seat.turned.load(Ordering::Relaxed) == u64::MAX;
            round.iter_mut().zip(&self.seats).for_each(|(mark, seat)| *mark = has_left(seat));
        }
        is_whole
    }
}

/// One of several hubs, as another thread knows it.
pub(crate) struct HubSign {
    index: usize,
    hubs: Arc<Hubs>,
}

impl HubSign {
    /// Its number, beginning with 1: that of its thread's name.
    pub(crate) fn number(&self) -> usize {
        self.index + 1
    }

    /// For how long it has not had its turn; `None` if it needs none any more.
    pub(crate) fn silence(&self) -> Option<Duration> {
        let turned = self.hubs.seats[self.index].turned.load(Ordering::Relaxed);
        let since = |turned| self.hubs.began.elapsed().saturating_sub(Duration::from_millis(turned));
        (turned != u64::MAX).then(|| since(turned))
    }
}

/// Serves with so many hubs, two at least, until the server is stopped and all have ended.
pub(super) fn serve<A: Handler + Send + Sync>(
    listeners: Vec<Listener>,
    settings: Settings,
    handle: ServerHandle,
    woken: UnixStream,
    app: Arc<A>,
    count: usize,
) -> io::Result<()> {
    let mut places = Place::among(count).into_iter();
    let share = |index: usize| {
        let total = settings.worker_connections;
        let own = total / count + usize::from(index < total % count);
        Arc::new(Settings { worker_connections: own.max(1), ..settings.clone() })
    };
    let Some(first) = places.next() else { return Err(io::ErrorKind::InvalidInput.into()) };
    let (ended, running) = UnixStream::pair()?;
    let mut others = Others { handle: handle.clone(), threads: Vec::new() };
    for place in places {
        let again: Vec<Listener> = listeners.iter().map(Listener::again).collect::<io::Result<_>>()?;
        let (settings, woken, app) = (share(place.index()), handle.also_wakes()?, Arc::clone(&app));
        let (handle, running) = (handle.clone(), running.try_clone()?);
        let name = format!("hub {}", place.index() + 1);
        let hub = move || {
            let _end = HubEnd { handle: handle.clone(), _running: running };
            green::serve(again, settings, handle, woken, Rc::new(app), place)
        };
        others.threads.push(thread::Builder::new().name(name).spawn(hub)?);
    }
    drop(running);
    let served = green::serve(listeners, share(0), handle.clone(), woken, Rc::new(app), first);
    handle.stop();
    // Ends when the last of them has; what else this hub has to do it does meanwhile.
    let _ = GreenStream::from_std(ended).and_then(|ended| (&ended).read(&mut [0]));
    served.and(others.join())
}

/// The hubs of other threads. They do not outlive it.
struct Others {
    handle: ServerHandle,
    threads: Vec<JoinHandle<io::Result<()>>>,
}

impl Others {
    fn join(mut self) -> io::Result<()> {
        let ended: Vec<io::Result<()>> = self.threads.drain(..).map(joined).collect();
        ended.into_iter().collect()
    }
}

fn joined(thread: JoinHandle<io::Result<()>>) -> io::Result<()> {
    thread.join().unwrap_or_else(|_| Err(io::Error::other("a hub's thread has panicked")))
}

impl Drop for Others {
    fn drop(&mut self) {
        if !self.threads.is_empty() {
            self.handle.quit();
            self.threads.drain(..).for_each(|thread| drop(joined(thread)));
        }
    }
}

/// The end of one hub, however it comes, is that of all.
struct HubEnd {
    handle: ServerHandle,
    /// Closed by all, it tells the first hub's thread.
    _running: UnixStream,
}

impl Drop for HubEnd {
    fn drop(&mut self) {
        self.handle.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_ends_with_the_last_hubs_turn_and_waits_for_one_that_hangs() {
        let places = Place::among(3);
        assert_eq!([0, 1, 0, 1, 2].map(|index| places[index].turns()), [false, false, false, false, true]);
        assert!((0..100).all(|turn| !places[turn % 2].turns()), "the third hangs");
        assert!(places[2].turns());
    }

    #[test]
    fn who_has_left_is_not_waited_for() {
        let mut places = Place::among(2);
        drop(places.pop());
        assert!(places[0].turns() && places[0].turns());
        assert_eq!(places[0].has_more(100), (false, 100), "nor is anybody let go first");
    }

    #[test]
    fn the_last_to_accept_says_so_for_all() {
        let places = Place::among(3);
        assert_eq!([2, 0, 1].map(|index| places[index].accepts()), [false, false, true]);
        assert!(Place::alone().accepts() && Place::alone().turns());
    }

    #[test]
    fn who_has_clearly_more_gives_way_and_the_sum_is_that_of_all() {
        let places = Place::among(2);
        assert_eq!(places[0].has_more(100), (false, 100), "the other does not serve yet");
        assert_eq!(places[1].has_more(0), (false, 100));
        assert_eq!(places[0].has_more(100), (true, 100));
        assert_eq!(places[1].has_more(99), (false, 199));
        assert_eq!(places[0].has_more(100), (false, 199), "a small difference");
    }
}
