//! A worker's side: what it knows of its master, and the thread that listens to orders and signals while the hub serves.

use std::any::Any;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use greenlet::inspect::{Freezer, freezer};
use rustix::event::{PollFd, PollFlags, poll};
use signal_hook::consts::signal::{SIGABRT, SIGINT, SIGQUIT, SIGTERM, SIGUSR1};

use super::busy::Busy;
use super::fleet::Leave;
use super::hooks::{Hooks, WorkerInfo};
use super::link::{Link, Order, Report, Teller, Told, What};
use super::loads::Loads;
use super::look::look;
use super::signals::{Signals, WORKER, name};
use super::wear::Wear;
use crate::config::{Config, WorkerClass};
use crate::metrics::Board;
use crate::serve::{HubSign, Insight, Listener, PULSE, ServerHandle, Watch};

/// After how long a quick stop is not waited for: a request computes, or blocks its thread.
const QUICK: Duration = Duration::from_millis(1500);

/// How many green threads the log of an aborted worker tells of.
const TOLD: usize = 100;

/// How long a hub may take to have its turn before a question is answered without it.
const TURN: Duration = Duration::from_secs(1);

/// A worker's process, as what serves in it gets to see it.
pub(crate) struct Worker {
    /// The settings it was started with.
    pub(crate) config: Config,
    /// What it accepts on. The sockets may be those of other workers, too.
    pub(crate) listeners: Vec<Listener>,
    /// Where it answers for numbers and health, as all workers do.
    pub(crate) metrics: Vec<Listener>,
    /// Its way to the master.
    pub(crate) line: Line,
}

/// Who a worker is, and its way to the master: from any thread.
#[derive(Clone)]
pub(crate) struct Line {
    info: WorkerInfo,
    hooks: Arc<dyn Hooks>,
    link: Arc<Mutex<Link<Report, Order>>>,
    board: Board,
    /// Unless it has sockets of its own.
    loads: Option<Loads>,
    /// Its place on the board and among the loads.
    place: usize,
    teller: Teller,
    /// Who serves, once they do: one for the process, or each of its hubs.
    hubs: Arc<Mutex<Vec<Serving>>>,
    wear: Arc<Wear>,
    /// Only if the master wants to know.
    busy: Option<Arc<Busy>>,
    /// An operator wanted no more clients when it began.
    drained: bool,
    /// The master knows that it is worn.
    outdated: Arc<AtomicBool>,
}

/// One that serves.
struct Serving {
    /// Which of several hubs it is.
    sign: Option<HubSign>,
    /// How to look into it.
    insight: Arc<dyn Insight>,
    /// Of several hubs.
    freezer: Option<Freezer>,
}

/// What a worker has in common with its master.
pub(super) struct Ties {
    pub(super) link: Link<Report, Order>,
    pub(super) teller: Teller,
    pub(super) board: Board,
    pub(super) loads: Option<Loads>,
    pub(super) place: usize,
    /// An operator wants no more clients.
    pub(super) drained: bool,
}

/// What a worker's process needs besides its server.
pub(crate) trait Errands: Send + 'static {
    /// Opens the log files again. These, by their paths, the master has opened.
    fn reopen_logs(&self, opened: Vec<(String, OwnedFd)>);

    /// Writes what is left to be written. The process is about to end.
    fn flush(&self);
}

impl Line {
    pub(super) fn new(
        info: WorkerInfo,
        hooks: Arc<dyn Hooks>,
        ties: Ties,
        wear: Wear,
        busy: Option<Busy>,
    ) -> Line {
        let Ties { link, teller, board, loads, place, drained } = ties;
        let (link, wear, busy) = (Arc::new(Mutex::new(link)), Arc::new(wear), busy.map(Arc::new));
        let (hubs, outdated) = (Arc::default(), Arc::default());
        Line { info, hooks, link, board, loads, place, teller, hubs, wear, busy, drained, outdated }
    }

    pub(crate) fn info(&self) -> &WorkerInfo {
        &self.info
    }

    pub(crate) fn hooks(&self) -> &dyn Hooks {
        &*self.hooks
    }

    /// Whether the program has brought any.
    pub(crate) fn has_hooks(&self) -> bool {
        !(self.hooks() as &dyn Any).is::<()>()
    }

    /// The scoreboard, and this worker's place there.
    pub(crate) fn board(&self) -> (Board, usize) {
        (self.board.clone(), self.place)
    }

    pub(super) fn say(&self, report: &Report) {
        // A master that is gone needs no telling; that it is, the thread that listens finds out.
        let _ = self.link().say(report);
    }

    /// A request has come to the application.
    #[inline]
    pub(crate) fn count_request(&self) {
        if let Some(why) = self.wear.request() {
            self.outdated(why);
        }
    }

    /// Asks the master for a successor, and serves on until it is there.
    #[cold]
    fn outdated(&self, why: String) {
        // One that could not be told is told at the next look.
        if !self.outdated.load(Ordering::Relaxed) && self.link().say(&Report::Outdated(why)).is_ok() {
            self.outdated.store(true, Ordering::Relaxed);
        }
    }

    fn link(&self) -> MutexGuard<'_, Link<Report, Order>> {
        // What can panic under the lock leaves whole lines behind.
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hubs(&self) -> MutexGuard<'_, Vec<Serving>> {
        self.hubs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a thread of its own answer orders and signals from now on. It has to do with no hub, so it answers even if a handler
    /// blocks one. To be called by the thread that is going to serve.
    ///
    /// # Errors
    /// No handlers, or no thread, to be had.
    pub(crate) fn attend(
        &self,
        config: &Config,
        handle: ServerHandle,
        errands: impl Errands,
    ) -> io::Result<()> {
        if self.drained {
            handle.set_ready(false);
        }
        let attendant = Attendant {
            signals: Signals::new(WORKER)?,
            line: self.clone(),
            handle,
            errands,
            graceful_timeout: config.graceful_timeout,
            is_draining: false,
            leaving: None,
            freezer: match config.worker_class {
                WorkerClass::Green => Some(freezer()?),
                WorkerClass::Threads | WorkerClass::Sync => None,
            },
        };
        thread::Builder::new().name("attendant".to_owned()).spawn(move || attendant.run())?;
        Ok(())
    }
}

impl Watch for Line {
    fn shows(&self, sign: Option<HubSign>, insight: Arc<dyn Insight>) {
        let mut of_this = None;
        if let Some(sign) = &sign {
            self.busy.iter().for_each(|busy| busy.joins());
            let made = freezer();
            of_this = made
                .inspect_err(|error| {
                    log::warn!("nobody will tell where hub {} stands if it hangs: {error}", sign.number())
                })
                .ok();
        }
        let mut hubs = self.hubs();
        hubs.push(Serving { sign, insight, freezer: of_this });
        hubs.sort_by_key(|hub| hub.sign.as_ref().map(HubSign::number));
    }

    fn accepts(&self) {
        self.say(&Report::Ready);
    }

    fn turns(&self) {
        if let Some(busy) = &self.busy {
            self.board.set_load(self.place, busy.look(PULSE));
        }
        self.board.beat(self.place);
        if let Some(why) = self.wear.look() {
            self.outdated(why);
        }
    }

    fn has_more(&self, connections: usize) -> bool {
        self.loads.as_ref().is_some_and(|loads| loads.is_above_average(self.place, connections))
    }
}

/// The thread that listens.
struct Attendant<E> {
    signals: Signals,
    line: Line,
    handle: ServerHandle,
    errands: E,
    graceful_timeout: Duration,
    /// The master wants it to leave soon, whatever an operator says.
    is_draining: bool,
    leaving: Option<Leave>,
    /// Of the hub of the first thread that serves.
    freezer: Option<Freezer>,
}

impl<E: Errands> Attendant<E> {
    fn run(mut self) {
        let mut orphaned = false;
        loop {
            if !orphaned {
                let heard = self.line.link().hear();
                heard.lines.into_iter().for_each(|order| self.obey(order));
                orphaned = heard.ended;
                if orphaned {
                    log::warn!("The master is gone: this worker finishes what it has begun");
                    self.leave(Leave::Graceful, false);
                }
            }
            for signal in self.signals.take() {
                self.answer(signal);
            }
            if let Err(error) = self.wait(orphaned) {
                log::error!("this worker can't hear orders any more, and ends: {error}");
                return self.leave(Leave::Graceful, false);
            }
        }
    }

    fn wait(&self, orphaned: bool) -> io::Result<()> {
        // Another handle, for the lock must not be held meanwhile: others speak through the same link.
        let link = self.line.link().as_fd().try_clone_to_owned()?;
        let mut both = [PollFd::new(&self.signals, PollFlags::IN), PollFd::new(&link, PollFlags::IN)];
        let some = if orphaned { 1 } else { 2 };
        match poll(&mut both[..some], None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Leave { how, alone } => self.leave(how, alone),
            Order::Drain => {
                self.is_draining = true;
                self.handle.set_ready(false);
            }
            Order::Ready(ready) => self.handle.set_ready(ready && !self.is_draining),
            Order::Reopen { files } => {
                let opened = self.line.link().take_files(files.len());
                self.errands.reopen_logs(files.into_iter().zip(opened).collect());
            }
            Order::LogLevel(level) => {
                if let Ok(level) = level.parse() {
                    log::set_max_level(level);
                }
            }
            Order::Tell { question, what } => self.tell(question, what),
        }
    }

    /// Has a thread of its own answer a question: finding out may take a while, in which orders are to be heard.
    fn tell(&self, question: u64, what: What) {
        let teller = self.line.teller.clone();
        let seen = |hub: &Serving| (hub.sign.as_ref().map(HubSign::number), Arc::clone(&hub.insight));
        let hubs: Vec<_> = self.line.hubs().iter().map(seen).collect();
        let answer = move || {
            let say = |answer| drop(teller.tell(&Told { question, answer }));
            if hubs.is_empty() {
                return say(Some(Err("it does not serve yet".to_owned())));
            }
            let turn = TURN / u32::try_from(hubs.len()).unwrap_or(u32::MAX);
            let (fine, blind): (Vec<_>, Vec<_>) = hubs
                .into_iter()
                .map(|(hub, insight)| {
                    insight.answers(turn).map(|()| (hub, insight)).map_err(|why| (hub, why))
                })
                .partition(Result::is_ok);
            let (fine, mut blind): (Vec<_>, Vec<_>) =
                (fine.into_iter().flatten().collect(), blind.into_iter().filter_map(Result::err).collect());
            if !fine.is_empty() {
                say(None);
            }
            say(Some(look(&fine, &mut blind, what)));
        };
        if let Err(error) = thread::Builder::new().name("teller".to_owned()).spawn(answer) {
            let answer = Some(Err(format!("it has no thread for the answer: {error}")));
            // So short a line finds room.
            let _ = self.line.teller.tell(&Told { question, answer });
        }
    }

    fn answer(&mut self, signal: i32) {
        match signal {
            SIGTERM => {
                log::info!("Handling signal: {}", name(signal));
                self.leave(Leave::Graceful, false);
            }
            SIGINT | SIGQUIT => {
                log::info!("Handling signal: {}", name(signal));
                self.line.hooks().worker_int(self.line.info());
                self.leave(Leave::Quick, false);
            }
            SIGUSR1 => self.errands.reopen_logs(Vec::new()),
            SIGABRT => {
                log::error!("Worker aborted (pid:{})", process::id());
                self.tell_where();
                self.line.hooks().worker_abort(self.line.info());
                self.errands.flush();
                process::abort();
            }
            _ => {}
        }
    }

    /// Logs where the hub stands, and the green threads that wait for it; of several, those that hang. They do not turn again
    /// after that.
    fn tell_where(&mut self) {
        let several: Vec<_> = {
            let mut hubs = self.line.hubs();
            let of = |hub: &mut Serving| Some((hub.sign.take()?, hub.freezer.take()?));
            hubs.iter_mut().filter_map(of).collect()
        };
        if several.is_empty() {
            return self.freezer.take().into_iter().for_each(|freezer| tell_where("", freezer));
        }
        let hangs =
            |(sign, _): &(HubSign, Freezer)| sign.silence().is_some_and(|silence| 2 * silence > 3 * PULSE);
        // An operator may have aborted a worker which is well.
        let some_hang = several.iter().any(hangs);
        for (sign, freezer) in several.into_iter().filter(|hub| !some_hang || hangs(hub)) {
            let silence = sign.silence().unwrap_or_default().as_secs_f32();
            tell_where(&format!("hub {} has not turned for {silence:.1} s: ", sign.number()), freezer);
        }
    }

    /// Only the master knows that nobody accepts on the same sockets any more: without its word, nobody is turned away.
    fn leave(&mut self, how: Leave, alone: bool) {
        let before = self.leaving.replace(self.leaving.max(Some(how)).unwrap_or(how));
        if before >= Some(how) {
            return;
        }
        if let Some(loads) = &self.line.loads {
            loads.forget(self.line.place);
        }
        match (how, alone) {
            (Leave::Quick, _) => self.handle.quit(),
            (Leave::Graceful, true) => self.handle.stop(),
            (Leave::Graceful, false) => self.handle.leave(),
        }
        // If the hub does not turn it does not stop either.
        let patience = match how {
            Leave::Graceful => self.graceful_timeout.saturating_add(Duration::from_secs(2)),
            Leave::Quick => QUICK,
        };
        let end = thread::Builder::new().name("end".to_owned()).spawn(move || {
            thread::sleep(patience);
            log::logger().flush();
            process::exit(0);
        });
        if let Err(error) = end {
            log::error!("nobody will end this worker if it does not stop by itself: {error}");
        }
    }
}

/// Logs where one hub stands.
fn tell_where(which: &str, freezer: Freezer) {
    let Some(frozen) = freezer.freeze() else {
        log::error!(
            "In the aborted worker, {which}where it stands can't be told: its thread does not answer SIGURG"
        );
        return;
    };
    log::error!("In the aborted worker, {which}{}", frozen.running());
    // What follows may hang or crash, if the hub's thread was stopped in the wrong place.
    log::logger().flush();
    match frozen.others(TOLD) {
        Some(others) if others.is_empty() => {}
        Some(others) => log::error!("Its other green threads:\n{}", others.trim_end()),
        None => log::error!("Its other green threads can't be told: it was stopped at work on their list"),
    }
    log::logger().flush();
}
