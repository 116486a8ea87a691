//! How a worker comes to be, in the master and in itself.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process;
use std::sync::Arc;
use std::time::Instant;

use greenlet::process::fork_alone;
use rustix::process::Pid;
use signal_hook::consts::signal::{SIGINT, SIGQUIT, SIGTERM};

use super::fleet::Age;
use super::hooks::WorkerInfo;
use super::link::{self, Link, Order, Report};
use super::master::{BOOT_ERROR, Child, Master};
use super::signals::Signals;
use super::sockets::Sockets;
use super::worker::{Line, Worker};

impl Master {
    pub(super) fn start_worker(&mut self, seat: usize, now: Instant) {
        if let Err(error) = self.try_start(seat, now) {
            log::error!("can't start a worker: {error}");
            self.fleet.not_started(now);
        }
    }

    fn try_start(&mut self, seat: usize, now: Instant) -> io::Result<()> {
        self.sockets.provide(seat)?;
        let (ours, theirs) = link::pair()?;
        let place = (0..).find(|place| self.children.iter().all(|child| child.place != *place)).unwrap_or(0);
        let age = self.fleet.started(seat, now);
        self.hooks.pre_fork(&WorkerInfo::new(0, age));
        // Its life begins now.
        self.beats.beat(place);
        self.loads.forget(place);
        let Some(pid) = fork_alone().inspect_err(|_| self.forget(age, now))? else {
            // Or it would not see the master's end.
            drop(ours);
            self.be_worker(age, seat, theirs, place);
        };
        let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let Some(number) = number else { return Err(io::ErrorKind::InvalidData.into()) };
        log::info!("Booting worker with pid: {pid}");
        self.children.push(Child { info: WorkerInfo::new(pid, age), pid: number, link: ours, place });
        Ok(())
    }

    /// There is no process for it.
    fn forget(&mut self, age: Age, now: Instant) {
        let _ = self.fleet.ended(age, now);
    }

    /// In the child: what the master had is left behind, and its loop never returned to.
    fn be_worker(&mut self, age: Age, seat: usize, link: Link<Report, Order>, place: usize) -> ! {
        self.children.clear();
        self.pid_file = None;
        let asked = self.signals.take();
        // Signals do nothing from here until the worker has handlers of its own; the master's orders wait in the link.
        if let Ok(none) = Signals::new(&[]) {
            self.signals = none;
        }
        if asked.iter().any(|signal| [SIGTERM, SIGINT, SIGQUIT].contains(signal)) {
            process::exit(0);
        }
        let sockets = std::mem::replace(&mut self.sockets, Sockets::none());
        let info = WorkerInfo::new(process::id(), age);
        let loads = sockets.are_shared().then(|| self.loads.clone());
        let line = Line::new(info, Arc::clone(&self.hooks), link, self.beats.clone(), loads, place);
        let worker =
            Worker { config: self.config.clone(), listeners: sockets.into_seat(seat), line: line.clone() };
        let served = catch_unwind(AssertUnwindSafe(|| {
            line.hooks().post_fork(line.info());
            let served = self.program.serve(worker);
            if served.is_ok() {
                line.hooks().worker_exit(line.info());
            }
            served
        }));
        let code = match served {
            Ok(Ok(())) => 0,
            Ok(Err(why)) => {
                line.say(&Report::Failed(why));
                BOOT_ERROR
            }
            // The panic's own message is on standard error.
            Err(_) => BOOT_ERROR,
        };
        log::logger().flush();
        process::exit(i32::from(code));
    }
}
