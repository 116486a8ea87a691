//! How a worker comes to be, in the master and in itself.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process;
use std::sync::Arc;
use std::time::Instant;

use greenlet::process::fork_alone;
use rustix::process::Pid;
use signal_hook::consts::signal::{SIGINT, SIGQUIT, SIGTERM};

use super::busy::Busy;
use super::fleet::Age;
use super::hooks::WorkerInfo;
use super::link::{self, Link, Order, Report, Teller};
use super::master::{BOOT_ERROR, Child, Master, WORKER_ROLE, scales};
use super::signals::Signals;
use super::wear::Wear;
use super::worker::{Line, Ties, Worker};
use crate::control::Control;
use crate::log::take_logged;

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
        let (answers, teller) = Teller::pair()?;
        let age = self.fleet.started(seat, now);
        self.hooks.pre_fork(&WorkerInfo::new(0, age));
        // Its life begins now.
        let place = self.board.begin(age).inspect_err(|_| self.forget(age, now))?;
        self.loads.forget(place);
        let forked = fork_alone().inspect_err(|_| {
            self.board.end(place, false);
            self.forget(age, now);
        });
        let Some(pid) = forked? else {
            // Or it would not see the master's end.
            drop((ours, answers));
            self.be_worker(age, seat, theirs, teller, place);
        };
        let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let Some(number) = number else { return Err(io::ErrorKind::InvalidData.into()) };
        log::info!("Booting worker with pid: {pid}");
        let info = WorkerInfo::new(pid, age);
        self.children.push(Child { info, pid: number, link: ours, answers, place });
        Ok(())
    }

    /// There is no process for it.
    fn forget(&mut self, age: Age, now: Instant) {
        let _ = self.fleet.ended(age, now);
    }

    /// In the child: what the master had is left behind, and its loop never returned to.
    fn be_worker(
        &mut self,
        age: Age,
        seat: usize,
        link: Link<Report, Order>,
        teller: Teller,
        place: usize,
    ) -> ! {
        self.children.clear();
        self.pid_file = None;
        self.control = Control::none();
        let asked = self.signals.take();
        // Signals do nothing from here until the worker has handlers of its own; the master's orders wait in the link.
        if let Ok(none) = Signals::new(&[]) {
            self.signals = none;
        }
        if asked.iter().any(|signal| [SIGTERM, SIGINT, SIGQUIT].contains(signal)) {
            process::exit(0);
        }
        let sockets = self.sockets.take();
        let loads = sockets.are_shared().then(|| self.loads.clone());
        let metrics = self.metrics.take().into_seat(seat);
        // What the master has logged it counts itself.
        take_logged();
        self.program.name(&self.config, WORKER_ROLE);
        let info = WorkerInfo::new(process::id(), age);
        let wear = Wear::new(&self.config, age);
        let busy = scales(&self.config).then(|| Busy::new(self.config.worker_class));
        let hooks = Arc::clone(&self.hooks);
        let drained = self.operator.drained;
        let ties = Ties { link, teller, board: self.board.clone(), loads, place, drained };
        let line = Line::new(info, hooks, ties, wear, busy);
        let listeners = sockets.into_seat(seat);
        let worker = Worker { config: self.config.clone(), listeners, metrics, line: line.clone() };
        let served = catch_unwind(AssertUnwindSafe(|| {
            line.hooks().post_fork(line.info());
            if let Some(identity) = &self.identity {
                identity.assume().map_err(|error| error.to_string())?;
            }
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
            // The panic's own message is in the log, or where the program's own hook has put it.
            Err(_) => BOOT_ERROR,
        };
        log::logger().flush();
        process::exit(i32::from(code));
    }
}
