//! A worker's side: what it knows of its master, and the thread that listens to orders and signals while the hub serves.

use std::io;
use std::os::fd::AsFd;
use std::process;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use signal_hook::consts::signal::{SIGABRT, SIGINT, SIGQUIT, SIGTERM, SIGUSR1};

use super::beats::Beats;
use super::fleet::Leave;
use super::hooks::{Hooks, WorkerInfo};
use super::link::{Link, Order, Report};
use super::loads::Loads;
use super::signals::{Signals, WORKER, name};
use crate::config::Config;
use crate::serve::{Listener, ServerHandle, Watch};

/// How long a quick stop lets requests under way finish.
const QUICK: Duration = Duration::from_millis(200);

/// A worker's process, as what serves in it gets to see it.
pub(crate) struct Worker {
    /// The settings it was started with.
    pub(crate) config: Config,
    /// What it accepts on. The sockets may be those of other workers, too.
    pub(crate) listeners: Vec<Listener>,
    /// Its way to the master.
    pub(crate) line: Line,
}

/// Who a worker is, and its way to the master: from any thread.
#[derive(Clone)]
pub(crate) struct Line {
    info: WorkerInfo,
    hooks: Arc<dyn Hooks>,
    link: Arc<Mutex<Link<Report, Order>>>,
    beats: Beats,
    /// Unless it has sockets of its own.
    loads: Option<Loads>,
    /// Its place among the beats and loads.
    place: usize,
}

/// What a worker's process needs besides its server.
pub(crate) trait Errands: Send + 'static {
    /// Opens the log files again.
    fn reopen_logs(&self);

    /// Writes what is left to be written. The process is about to end.
    fn flush(&self);
}

impl Line {
    pub(super) fn new(
        info: WorkerInfo,
        hooks: Arc<dyn Hooks>,
        link: Link<Report, Order>,
        beats: Beats,
        loads: Option<Loads>,
        place: usize,
    ) -> Line {
        Line { info, hooks, link: Arc::new(Mutex::new(link)), beats, loads, place }
    }

    pub(crate) fn info(&self) -> &WorkerInfo {
        &self.info
    }

    pub(crate) fn hooks(&self) -> &dyn Hooks {
        &*self.hooks
    }

    pub(super) fn say(&self, report: &Report) {
        // A master that is gone needs no telling; that it is, the thread that listens finds out.
        let _ = self.link().say(report);
    }

    fn link(&self) -> MutexGuard<'_, Link<Report, Order>> {
        // What can panic under the lock leaves whole lines behind.
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a thread of its own answer orders and signals from now on. It has to do with no hub, so it answers even if a handler
    /// blocks one.
    ///
    /// # Errors
    /// No handlers, or no thread, to be had.
    pub(crate) fn attend(
        &self,
        config: &Config,
        handle: ServerHandle,
        errands: impl Errands,
    ) -> io::Result<()> {
        let attendant = Attendant {
            signals: Signals::new(WORKER)?,
            line: self.clone(),
            handle,
            errands,
            graceful_timeout: config.graceful_timeout,
            leaving: None,
        };
        thread::Builder::new().name("attendant".to_owned()).spawn(move || attendant.run())?;
        Ok(())
    }
}

impl Watch for Line {
    fn accepts(&self) {
        self.say(&Report::Ready);
    }

    fn turns(&self) {
        self.beats.beat(self.place);
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
    leaving: Option<Leave>,
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
                    self.leave(Leave::Graceful, true);
                }
            }
            for signal in self.signals.take() {
                self.answer(signal);
            }
            if let Err(error) = self.wait(orphaned) {
                log::error!("this worker can't hear orders any more, and ends: {error}");
                return self.leave(Leave::Graceful, true);
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
            Order::Reopen => self.errands.reopen_logs(),
        }
    }

    fn answer(&mut self, signal: i32) {
        match signal {
            SIGTERM => {
                log::info!("Handling signal: {}", name(signal));
                self.leave(Leave::Graceful, true);
            }
            SIGINT | SIGQUIT => {
                log::info!("Handling signal: {}", name(signal));
                self.line.hooks().worker_int(self.line.info());
                self.leave(Leave::Quick, true);
            }
            SIGUSR1 => self.errands.reopen_logs(),
            SIGABRT => {
                log::error!("Worker aborted (pid:{})", process::id());
                self.line.hooks().worker_abort(self.line.info());
                self.errands.flush();
                process::abort();
            }
            _ => {}
        }
    }

    fn leave(&mut self, how: Leave, alone: bool) {
        let before = self.leaving.replace(self.leaving.max(Some(how)).unwrap_or(how));
        if before >= Some(how) {
            return;
        }
        if let Some(loads) = &self.line.loads {
            loads.forget(self.line.place);
        }
        match (how, alone) {
            (_, true) => self.handle.stop(),
            (_, false) => self.handle.leave(),
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
