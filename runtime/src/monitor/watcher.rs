//! The monitor's thread, and what it knows of each watched hub.

use std::io;
use std::mem;
use std::ptr;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::probe::{Answer, Held, HubOf, Probe, Thread};
use super::report::{self, Blocked};
use crate::hub::{Beat, Pulse};

/// No shorter threshold is taken.
pub(super) const LEAST: Duration = Duration::from_millis(1);

/// A hub is looked at so many times within its threshold.
const LOOKS: u32 = 4;

/// How long the lock is waited for where it may be held for ever.
const LOCK_PATIENCE: Duration = Duration::from_millis(500);

/// So many blockages are kept at most.
const KEPT: usize = 8;

/// So much is kept to be logged at most, if the log is slow…
const UNTOLD: usize = 64;
/// …and it is tried again so often.
const WHILE_TELLING: Duration = Duration::from_millis(10);

/// Names one of those that are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WatchId(u64);

/// Where to tell of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sink {
    /// In the log.
    Log,
    /// To whoever ends the watch.
    Keep,
}

/// Watches the calling thread's hub from now on. It must be ended before the hub is.
pub(super) fn watch(pulse: &'static Pulse, threshold: Duration, sink: Sink) -> io::Result<WatchId> {
    let mut registry = registry();
    registry.start()?;
    registry.next_id += 1;
    let id = WatchId(registry.next_id);
    let threshold = threshold.max(LEAST);
    let now = Instant::now();
    registry.watches.push(Watch {
        id,
        pulse,
        thread: Thread::this(),
        threshold,
        sink,
        stretch: Stretch::new(pulse.look(), now, now),
        kept: Vec::new(),
    });
    CHANGED.notify_all();
    Ok(id)
}

/// Ends a watch; returns what was kept of it. Called on the hub's own thread.
pub(super) fn unwatch(id: WatchId) -> Vec<Blocked> {
    let mut registry = registry();
    let Some(index) = registry.watches.iter().position(|watch| watch.id == id) else { return Vec::new() };
    let mut watch = registry.watches.swap_remove(index);
    if let Some(end) = watch.stretch.end(Instant::now())
        && watch.sink == Sink::Log
    {
        registry.tell(end);
    }
    watch.kept
}

/// Ends all watches of a hub.
pub(super) fn forget(pulse: &Pulse) {
    let mut registry = registry();
    registry.watches.retain(|watch| !ptr::eq(watch.pulse, pulse));
    registry.freezable.retain(|(_, _, hub)| !ptr::eq(hub.pulse(), pulse));
}

/// From now on the calling thread's hub can be stopped.
pub(super) fn freezable() -> io::Result<WatchId> {
    let hub = HubOf::this_thread();
    let mut registry = registry();
    registry.install()?;
    registry.next_id += 1;
    let id = WatchId(registry.next_id);
    registry.freezable.push((id, Thread::this(), hub));
    Ok(id)
}

/// Stops a hub for good.
pub(super) fn hold(id: WatchId) -> Option<Held> {
    // The thread that is asked for may hold the lock, if it hangs in here.
    let deadline = Instant::now() + LOCK_PATIENCE;
    let mut registry = loop {
        match REGISTRY.try_lock() {
            Ok(registry) => break registry,
            Err(TryLockError::Poisoned(poisoned)) => break poisoned.into_inner(),
            Err(TryLockError::WouldBlock) if Instant::now() > deadline => return None,
            Err(TryLockError::WouldBlock) => thread::sleep(LEAST),
        }
    };
    let place = registry.freezable.iter().position(|(other, ..)| *other == id)?;
    let (_, thread, hub) = registry.freezable.swap_remove(place);
    registry.watches.retain(|watch| !ptr::eq(watch.pulse, hub.pulse()));
    registry.probe.as_mut()?.hold(thread, hub)
}

/// What is watched, from before a fork on: held, so that no other thread is in the middle of it.
pub(crate) struct BeforeFork(MutexGuard<'static, Registry>);

impl BeforeFork {
    pub(crate) fn new() -> BeforeFork {
        BeforeFork(registry())
    }

    /// In the child: the hub of this thread goes on being watched if it was; those of other threads are gone.
    ///
    /// # Errors
    /// The kernel's: it gives no thread.
    pub(crate) fn in_child(mut self, pulse: Option<&'static Pulse>) -> io::Result<()> {
        let registry = &mut *self.0;
        registry.untold.clear();
        registry.watches.retain(|watch| pulse.is_some_and(|pulse| ptr::eq(watch.pulse, pulse)));
        registry.freezable.retain(|(_, _, hub)| pulse.is_some_and(|pulse| ptr::eq(hub.pulse(), pulse)));
        registry.freezable.iter_mut().for_each(|(_, thread, _)| *thread = Thread::this());
        let now = Instant::now();
        for watch in &mut registry.watches {
            watch.thread = Thread::this();
            watch.stretch = Stretch::new(watch.pulse.look(), now, now);
        }
        if registry.watches.is_empty() { Ok(()) } else { registry.start_thread() }
    }
}

static REGISTRY: Mutex<Registry> = Mutex::new(Registry {
    watches: Vec::new(),
    freezable: Vec::new(),
    untold: Vec::new(),
    next_id: 0,
    thread_of: 0,
    probe: None,
});
/// There is something to watch.
static CHANGED: Condvar = Condvar::new();

fn registry() -> MutexGuard<'static, Registry> {
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Registry {
    watches: Vec<Watch>,
    /// Who can be stopped.
    freezable: Vec<(WatchId, Thread, HubOf)>,
    /// What is to be logged.
    untold: Vec<Event>,
    next_id: u64,
    /// The process in which the monitor's thread runs; 0 before the first watch.
    thread_of: u32,
    probe: Option<Probe>,
}

impl Registry {
    /// Sees to it that the monitor's thread runs. A forked child has none, and of its parent's threads but the one that
    /// forked: it begins anew.
    fn start(&mut self) -> io::Result<()> {
        if self.thread_of == std::process::id() {
            return Ok(());
        }
        self.watches.clear();
        self.install()?;
        self.start_thread()
    }

    fn install(&mut self) -> io::Result<()> {
        if self.probe.is_none() {
            self.probe = Some(Probe::install()?);
        }
        Ok(())
    }

    fn start_thread(&mut self) -> io::Result<()> {
        thread::Builder::new().name("greenlet-monitor".to_owned()).spawn(run)?;
        self.thread_of = std::process::id();
        Ok(())
    }

    /// Looks at each hub once.
    fn look(&mut self, since_last: Duration) {
        let Some(probe) = &mut self.probe else { return };
        let events: Vec<_> =
            self.watches.iter_mut().filter_map(|watch| watch.look(probe, since_last)).collect();
        events.into_iter().for_each(|event| self.tell(event));
    }

    fn tell(&mut self, event: Event) {
        if self.untold.len() < UNTOLD {
            self.untold.push(event);
        }
    }

    /// How long until the next look; `None` when there is nothing to do.
    fn pause(&self) -> Option<Duration> {
        let telling = (!self.untold.is_empty()).then_some(WHILE_TELLING);
        self.watches.iter().map(|watch| watch.threshold / LOOKS).chain(telling).min()
    }
}

/// The monitor's thread.
fn run() {
    let mut last = Instant::now();
    // Looking names up takes its time, in which the hubs are looked at all the same.
    let mut teller: Option<JoinHandle<()>> = None;
    let mut registry = registry();
    loop {
        let Some(pause) = registry.pause() else {
            registry = CHANGED.wait(registry).unwrap_or_else(PoisonError::into_inner);
            last = Instant::now();
            continue;
        };
        // Woken early by a new watch, which may want to be looked at more often.
        registry = CHANGED.wait_timeout(registry, pause).unwrap_or_else(PoisonError::into_inner).0;
        let now = Instant::now();
        // If this thread could not run, the one it watches may not have run either: at most two pauses count.
        registry.look((now - last).min(2 * pause));
        last = now;
        if !registry.untold.is_empty() && teller.as_ref().is_none_or(JoinHandle::is_finished) {
            let events = mem::take(&mut registry.untold);
            let thread = thread::Builder::new().name("greenlet-monitor".to_owned());
            // Without a thread for it this is lost, as the machine is in a worse state than can be told.
            teller = thread.spawn(move || events.iter().for_each(Event::log)).ok();
        }
    }
}

/// One watched hub.
struct Watch {
    id: WatchId,
    pulse: &'static Pulse,
    thread: Thread,
    threshold: Duration,
    sink: Sink,
    stretch: Stretch,
    kept: Vec<Blocked>,
}

impl Watch {
    fn look(&mut self, probe: &mut Probe, since_last: Duration) -> Option<Event> {
        let now = Instant::now();
        match self.stretch.look(self.pulse.look(), self.threshold, since_last, now) {
            Seen::Nothing => None,
            Seen::Over(end) => (self.sink == Sink::Log).then_some(end),
            Seen::Blocked(held) => {
                let answer = probe.ask(self.thread, self.pulse);
                let told = match &answer {
                    // It went on in the meantime; the next look will see.
                    Some(answer) if answer.turn != self.stretch.turn => return None,
                    Some(answer) if answer.silent => {
                        self.stretch.told = Told::Silent;
                        return None;
                    }
                    _ => answer.as_ref().map(|answer| Answer { calls: Vec::new(), ..answer.clone() }),
                };
                self.stretch.told = Told::Blocked(told);
                let blocked = Blocked { held, answer };
                match self.sink {
                    Sink::Log => Some(Event::Blocked(blocked)),
                    Sink::Keep => {
                        self.kept.extend((self.kept.len() < KEPT).then_some(blocked));
                        None
                    }
                }
            }
        }
    }
}

/// Something to be logged.
enum Event {
    Blocked(Blocked),
    Over { answer: Option<Answer>, least: Duration, most: Duration },
}

impl Event {
    fn log(&self) {
        match self {
            Event::Blocked(blocked) => blocked.log(),
            Event::Over { answer, least, most } => report::log_end(answer.as_ref(), *least, *most),
        }
    }
}

/// How long one greenlet has held a hub, as far as the looks can tell.
struct Stretch {
    turn: u32,
    /// The looks before the first that saw it, the first, and the last.
    before: Instant,
    first: Instant,
    last: Instant,
    /// The time between first and last that counts.
    held: Duration,
    told: Told,
}

/// What has been told of a stretch.
enum Told {
    Nothing,
    /// It may block.
    Silent,
    Blocked(Option<Answer>),
}

/// What a look has led to.
enum Seen {
    Nothing,
    /// It has been too long, and nobody has been told.
    Blocked(Duration),
    /// What was told of is over.
    Over(Event),
}

impl Stretch {
    fn new(beat: Beat, before: Instant, now: Instant) -> Stretch {
        Stretch { turn: beat.turn, before, first: now, last: now, held: Duration::ZERO, told: Told::Nothing }
    }

    fn look(&mut self, beat: Beat, threshold: Duration, since_last: Duration, now: Instant) -> Seen {
        if !beat.held || beat.turn != self.turn {
            let end = self.end(now);
            *self = Stretch::new(beat, self.last, now);
            if !beat.held {
                // Nobody holds it: the time until the next look does not count.
                self.turn = beat.turn.wrapping_sub(1);
            }
            return end.map_or(Seen::Nothing, Seen::Over);
        }
        self.last = now;
        self.held += since_last;
        if self.held < threshold || beat.silent || !matches!(self.told, Told::Nothing) {
            return Seen::Nothing;
        }
        Seen::Blocked(self.held)
    }

    /// It is over; `Some` if it has been told of.
    fn end(&mut self, now: Instant) -> Option<Event> {
        match mem::replace(&mut self.told, Told::Nothing) {
            Told::Blocked(answer) => {
                Some(Event::Over { answer, least: self.last - self.first, most: now - self.before })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_millis(25);
    const THRESHOLD: Duration = Duration::from_millis(100);

    /// A hub that is looked at every 25 ms.
    struct Looks {
        stretch: Stretch,
        now: Instant,
    }

    impl Looks {
        fn new() -> Looks {
            let now = Instant::now();
            Looks { stretch: Stretch::new(Beat { turn: 1, held: false, silent: false }, now, now), now }
        }

        /// What a number of looks that see the same lead to.
        fn see(&mut self, times: u32, turn: u32, held: bool, silent: bool) -> Vec<&'static str> {
            let mut told = Vec::new();
            for _ in 0..times {
                self.now += TICK;
                match self.stretch.look(Beat { turn, held, silent }, THRESHOLD, TICK, self.now) {
                    Seen::Nothing => {}
                    Seen::Blocked(held) => {
                        assert!(held >= THRESHOLD);
                        self.stretch.told = Told::Blocked(None);
                        told.push("blocked");
                    }
                    Seen::Over(_) => told.push("over"),
                }
            }
            told
        }
    }

    #[test]
    fn a_stretch_is_told_of_once_and_when_it_is_over() {
        let mut looks = Looks::new();
        assert_eq!(looks.see(4, 7, true, false), [""; 0]);
        assert_eq!(looks.see(100, 7, true, false), ["blocked"]);
        assert_eq!(looks.see(100, 7, false, false), ["over"]);
    }

    #[test]
    fn the_next_one_to_run_ends_a_stretch_as_the_hub_does() {
        let mut looks = Looks::new();
        assert_eq!(looks.see(10, 7, true, false), ["blocked"]);
        assert_eq!(looks.see(4, 8, true, false), ["over"]);
    }

    #[test]
    fn many_short_stretches_and_an_idle_hub_are_none() {
        let mut looks = Looks::new();
        (0..50).for_each(|turn| assert_eq!(looks.see(3, turn, true, false), [""; 0]));
        assert_eq!(looks.see(100, 50, false, false), [""; 0]);
        assert_eq!(looks.see(4, 50, true, false), [""; 0], "the time before it was held does not count");
    }

    #[test]
    fn a_silent_stretch_is_not_told_of() {
        let mut looks = Looks::new();
        assert_eq!(looks.see(100, 7, true, true), [""; 0]);
        assert_eq!(looks.see(100, 8, true, false), ["blocked"]);
    }

    #[test]
    fn what_is_told_of_the_total_lies_between_the_looks() {
        let mut looks = Looks::new();
        looks.see(11, 7, true, false);
        let Some(Event::Over { least, most, .. }) = looks.stretch.end(looks.now + TICK) else {
            panic!("was told")
        };
        assert_eq!((least, most), (10 * TICK, 12 * TICK));
    }
}
