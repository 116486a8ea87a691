//! The master's loop: signals, workers' reports and deaths come in, what the fleet decides is carried out.

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process;
use std::sync::Arc;
use std::time::{Duration, Instant};

use greenlet::process::fork_alone;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, wait};
use signal_hook::consts::signal::{
    SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTTIN, SIGTTOU, SIGUSR1, SIGUSR2, SIGWINCH,
};

use super::beats::Beats;
use super::fleet::{Action, Age, Fleet, Leave, Loss, Times};
use super::hooks::{Hooks, WorkerInfo};
use super::link::{self, Link, Order, Report};
use super::pidfile::PidFile;
use super::signals::{MASTER, Signals, name};
use super::sockets::Sockets;
use super::systemd::{self, Notify};
use super::upgrade::{Legacy, Start};
use super::worker::{Line, Worker};
use crate::config::Config;

/// How often the master looks after its workers, if nothing happens before.
const LOOK: Duration = Duration::from_secs(1);
/// A worker that could not come up ends with this code, and if none ever did so does the master (gunicorn's).
const BOOT_ERROR: u8 = 3;
/// A master that has slept for so long was stopped or frozen, and perhaps its workers with it.
const LATE: Duration = Duration::from_secs(3);

/// What a master is given to run.
pub(crate) trait Program {
    /// Loads the settings again, from wherever they came.
    ///
    /// # Errors
    /// They are wrong: in words. The old ones stay in force.
    fn load(&self) -> Result<Config, String>;

    /// Opens the master's own log files again, or others if the settings say so.
    fn reopen_logs(&self, config: &Config);

    /// In a worker: serves until it is told to stop.
    ///
    /// # Errors
    /// It can't, in words.
    fn serve(&self, worker: Worker) -> Result<(), String>;
}

/// Why there is no master.
#[derive(Debug)]
pub(crate) enum Halt {
    /// It could not listen.
    Bind(io::Error),
    /// Another thing that it can't do without.
    Setup(&'static str, io::Error),
    /// No worker has ever come up. The code is theirs.
    Boot(u8),
}

impl fmt::Display for Halt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Halt::Bind(error) => error.fmt(f),
            Halt::Setup(what, error) => write!(f, "{what}: {error}"),
            Halt::Boot(_) => f.write_str("no worker came up; what each of them said stands above"),
        }
    }
}

/// The process that keeps workers.
pub(crate) struct Master {
    config: Config,
    program: Box<dyn Program>,
    hooks: Arc<dyn Hooks>,
    start: Start,
    fleet: Fleet,
    children: Vec<Child>,
    sockets: Sockets,
    /// The sockets are the service manager's, whatever `bind` says.
    is_given: bool,
    notify: Notify,
    told_alive: Instant,
    /// Workers are being replaced, and the service manager waits to hear of the end of it.
    reloading: bool,
    signals: Signals,
    beats: Beats,
    pid_file: Option<PidFile>,
    /// The master that has started this one, as long as it lives.
    parent: Option<u32>,
    /// The master that this one has started.
    successor: Option<process::Child>,
    /// All workers have been ready once.
    was_ready: bool,
    /// Until then nobody is thought to hang.
    leniency: Option<Instant>,
}

/// A worker's process.
struct Child {
    info: WorkerInfo,
    pid: Pid,
    link: Link<Order, Report>,
    /// Its place among the beats.
    place: usize,
}

impl Master {
    /// Listens, and gets everything ready for [`Master::run`].
    pub(crate) fn new(
        config: Config,
        program: Box<dyn Program>,
        hooks: Arc<dyn Hooks>,
    ) -> Result<Master, Halt> {
        let setup = |what| move |error| Halt::Setup(what, error);
        let start = Start::of_this_program().map_err(setup("can't tell how it was started"))?;
        hooks.on_starting(&config);
        let legacy = Legacy::take().map_err(setup("can't take over the old master's sockets"))?;
        let parent = legacy.as_ref().map(|legacy| legacy.master);
        let (given, inherited) = match legacy {
            Some(Legacy { sockets, all: true, .. }) => {
                (sockets.into_iter().map(|(_, it)| it).collect(), Vec::new())
            }
            Some(Legacy { sockets, .. }) => (Vec::new(), sockets),
            None => (systemd::sockets().map_err(Halt::Bind)?, Vec::new()),
        };
        let is_given = !given.is_empty();
        let sockets = match is_given {
            true => Sockets::given(given, config.backlog),
            false => Sockets::open(&config.bind, inherited, config.backlog, config.reuse_port),
        };
        let sockets = sockets.map_err(Halt::Bind)?;
        let pid_file = config.pidfile.as_deref().map(|path| match parent {
            Some(_) => PidFile::create(&PidFile::second(path)),
            None => PidFile::create(path),
        });
        let pid_file = pid_file.transpose().map_err(setup("can't write the pid file"))?;
        let signals = Signals::new(MASTER).map_err(setup("can't handle signals"))?;
        let beats = Beats::new().map_err(setup("no shared memory for signs of life"))?;
        Ok(Master {
            fleet: Fleet::new(config.workers, times(&config)),
            config,
            program,
            hooks,
            start,
            children: Vec::new(),
            sockets,
            is_given,
            notify: Notify::new(),
            told_alive: Instant::now(),
            reloading: false,
            signals,
            beats,
            pid_file,
            parent,
            successor: None,
            was_ready: false,
            leniency: None,
        })
    }

    /// The sockets it listens on.
    pub(crate) fn sockets(&self) -> impl Iterator<Item = &crate::Addr> {
        self.sockets.addrs()
    }

    /// Keeps the workers until it is told to stop.
    pub(crate) fn run(mut self) -> Result<(), Halt> {
        let ended = self.keep();
        if ended.is_ok() {
            self.hooks.on_exit();
        }
        if self.others_listen() {
            self.sockets.leave_files();
        }
        ended
    }

    fn keep(&mut self) -> Result<(), Halt> {
        let mut looked = Instant::now();
        loop {
            let now = Instant::now();
            if now.saturating_duration_since(looked) > LATE {
                self.leniency = Some(now + LATE);
            }
            looked = now;
            for signal in self.signals.take() {
                self.answer(signal);
            }
            self.hear(now);
            self.reap(now)?;
            self.look_at_parent();
            self.act(now);
            if self.fleet.is_stopping() && self.fleet.is_empty() {
                return Ok(());
            }
            self.tell(now);
            self.wait();
        }
    }

    /// What others wait to hear.
    fn tell(&mut self, now: Instant) {
        let is_news = !self.was_ready || self.reloading;
        if is_news && self.fleet.seats() > 0 && self.fleet.is_complete() {
            log::info!("All {} workers are ready", self.fleet.seats());
            if !self.was_ready {
                self.hooks.when_ready(&self.config);
            }
            self.was_ready = true;
            self.reloading = false;
            self.notify.ready(self.fleet.seats(), self.parent.is_some());
        }
        if self.notify.watchdog.is_some_and(|every| now.saturating_duration_since(self.told_alive) >= every) {
            self.told_alive = now;
            self.notify.alive();
        }
    }

    /// Until something happens, or it is time to look after the workers.
    fn wait(&self) {
        let until_next = self.fleet.next_look().map(|next| next.saturating_duration_since(Instant::now()));
        // Not quite too early.
        let look = self.notify.watchdog.map_or(LOOK, |every| every.min(LOOK));
        let wait = until_next.map_or(look, |next| next.min(look)) + Duration::from_millis(1);
        let timeout = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: i64::from(wait.subsec_nanos()) };
        let mut sources = vec![PollFd::new(&self.signals, PollFlags::IN)];
        sources.extend(self.children.iter().map(|child| PollFd::new(&child.link, PollFlags::IN)));
        if let Err(error) = poll(&mut sources, Some(&timeout))
            && error != rustix::io::Errno::INTR
        {
            log::error!("the master can't wait for its workers: {error}");
            std::thread::sleep(LOOK);
        }
    }

    fn answer(&mut self, signal: i32) {
        if signal == SIGCHLD {
            return;
        }
        log::info!("Handling signal: {}", name(signal));
        match signal {
            SIGTERM => self.stop(Leave::Graceful),
            SIGINT | SIGQUIT => self.stop(Leave::Quick),
            SIGHUP => self.reload(),
            SIGTTIN => self.resize(self.fleet.seats() + 1),
            SIGTTOU if self.fleet.seats() > 1 => self.resize(self.fleet.seats() - 1),
            SIGUSR1 => {
                self.program.reopen_logs(&self.config);
                self.tell_all(&Order::Reopen);
            }
            SIGUSR2 => self.upgrade(),
            // A terminal sends it whenever its size changes.
            SIGWINCH if std::io::IsTerminal::is_terminal(&io::stderr()) => {
                log::info!("Ignored, since this master has a terminal");
            }
            SIGWINCH => {
                log::info!("Graceful stop of workers");
                self.resize(0);
            }
            _ => {}
        }
    }

    fn stop(&mut self, how: Leave) {
        if !self.fleet.is_stopping() {
            self.notify.stopping();
            if !self.others_listen() {
                self.sockets.remove_files();
            }
        }
        self.fleet.stop(how);
    }

    fn resize(&mut self, seats: usize) {
        let old = self.fleet.seats();
        if seats != old {
            self.fleet.set_seats(seats);
            self.hooks.nworkers_changed(seats, old);
        }
    }

    fn reload(&mut self) {
        let config = match self.program.load() {
            Ok(config) => config,
            Err(error) => {
                log::error!("The settings are not loaded again, the old ones stay: {error}");
                return;
            }
        };
        let moved = config.bind != self.config.bind || config.backlog != self.config.backlog;
        if moved && !self.is_given {
            if let Err(error) = self.sockets.change(&config.bind, config.backlog) {
                log::error!("The settings are not loaded again, the old ones stay: {error}");
                return;
            }
            let addresses: Vec<String> = self.sockets.addrs().map(ToString::to_string).collect();
            log::info!("Listening at: {}", addresses.join(","));
        }
        self.program.reopen_logs(&config);
        if config.pidfile != self.config.pidfile {
            self.move_pid_file(config.pidfile.as_deref());
        }
        self.config = config;
        self.hooks.on_reload(&self.config);
        self.fleet.set_times(times(&self.config));
        self.resize(self.config.workers);
        self.fleet.renew();
        self.reloading = true;
        self.notify.reloading();
        log::info!("Hang up: the workers are replaced one after the other");
    }

    fn move_pid_file(&mut self, path: Option<&Path>) {
        let moved = match (path, &mut self.pid_file) {
            (None, _) => {
                self.pid_file = None;
                Ok(())
            }
            (Some(path), Some(file)) => file.rename(path),
            (Some(path), none) => PidFile::create(path).map(|file| *none = Some(file)),
        };
        if let Err(error) = moved {
            log::error!("can't write the pid file: {error}");
        }
    }

    /// Starts a new master beside this one.
    fn upgrade(&mut self) {
        if let Some(successor) = &self.successor {
            log::error!("USR2 ignored: the new master of before lives, as process {}", successor.id());
            return;
        }
        if let Some(parent) = self.parent {
            log::error!("USR2 ignored: the old master lives, as process {parent}; stop it first");
            return;
        }
        if let (Some(file), Some(path)) = (&mut self.pid_file, &self.config.pidfile) {
            // The new one takes the name with `.2`, as it finds this one's in use.
            if let Err(error) = file.rename(path) {
                log::warn!("the pid file: {error}");
            }
        }
        self.hooks.pre_exec(&self.config);
        match self.start.again(&self.sockets, self.is_given) {
            Ok(successor) => {
                log::info!("Started a new master, process {}", successor.id());
                self.successor = Some(successor);
            }
            Err(error) => log::error!("can't start a new master: {error}"),
        }
    }

    /// When the old master has gone this one is the only one.
    fn look_at_parent(&mut self) {
        let Some(parent) = self.parent else { return };
        if std::os::unix::process::parent_id() == parent {
            return;
        }
        self.parent = None;
        log::info!("The old master is gone: this one takes its place");
        if let (Some(file), Some(path)) = (&mut self.pid_file, &self.config.pidfile)
            && let Err(error) = file.rename(path)
        {
            log::error!("can't write the pid file: {error}");
        }
    }

    fn tell_all(&self, order: &Order) {
        for child in &self.children {
            if let Err(error) = child.link.say(order) {
                log::warn!("worker {} does not listen: {error}", child.info.pid);
            }
        }
    }

    /// What the workers have to say.
    fn hear(&mut self, now: Instant) {
        for child in &mut self.children {
            // That it ended shows when it is waited for.
            for report in child.link.hear().lines {
                match report {
                    Report::Ready => self.fleet.ready(child.info.age, now),
                    Report::Failed(why) => log::error!("worker {} can't serve: {why}", child.info.pid),
                    Report::Outdated(why) => {
                        log::info!("worker {} is to be replaced: {why}", child.info.pid);
                        self.fleet.replace(child.info.age);
                    }
                }
            }
        }
    }

    /// Everybody who has ended: workers, the successor, and if this is process 1 others, too.
    fn reap(&mut self, now: Instant) -> Result<(), Halt> {
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => self.ended(pid, status, now)?,
                Ok(None) | Err(rustix::io::Errno::CHILD) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => {
                    log::error!("can't wait for workers: {error}");
                    return Ok(());
                }
            }
        }
    }

    fn ended(&mut self, pid: Pid, status: WaitStatus, now: Instant) -> Result<(), Halt> {
        let number = pid.as_raw_pid().unsigned_abs();
        if self.successor.as_ref().is_some_and(|successor| successor.id() == number) {
            log::warn!("The new master, process {number}, has ended ({})", Ended(status));
            self.successor = None;
            return Ok(());
        }
        let Some(place) = self.children.iter().position(|child| child.pid == pid) else { return Ok(()) };
        // What it said at last.
        self.hear(now);
        let child = self.children.swap_remove(place);
        let loss = self.fleet.ended(child.info.age, now);
        self.sockets.trim(self.fleet.seats_in_use());
        let how = Ended(status);
        match loss {
            Loss::Expected => log::info!("Worker exited (pid:{number}, {how})"),
            Loss::Replaced => log::error!("Worker (pid:{number}) ended unexpectedly: {how}"),
            Loss::Retried(pause) => log::error!(
                "Worker (pid:{number}) did not live: {how}; the next attempt is made in {:.1} s",
                pause.as_secs_f32()
            ),
            Loss::Hopeless => log::error!("Worker (pid:{number}) failed to boot: {how}"),
        }
        self.hooks.child_exit(&child.info);
        if loss == Loss::Hopeless {
            self.stop(Leave::Quick);
            self.give_up();
            let code = status.exit_status().and_then(|code| u8::try_from(code).ok()).filter(|code| *code > 0);
            return Err(Halt::Boot(code.unwrap_or(BOOT_ERROR)));
        }
        Ok(())
    }

    /// Ends what there is of workers, without hope for more.
    fn give_up(&mut self) {
        for child in &self.children {
            let _ = kill_process(child.pid, Signal::KILL);
        }
        for child in self.children.drain(..) {
            let _ = rustix::process::waitpid(Some(child.pid), WaitOptions::empty());
        }
    }

    fn act(&mut self, now: Instant) {
        if self.leniency.is_some_and(|until| until <= now) {
            self.leniency = None;
        }
        let (beats, children, lenient) = (&self.beats, &self.children, self.leniency.is_some());
        let silent = |age: Age| match children.iter().find(|child| child.info.age == age) {
            Some(child) if !lenient => beats.silence(child.place),
            _ => Duration::ZERO,
        };
        for action in self.fleet.plan(now, silent) {
            match action {
                Action::Start { seat } => self.start_worker(seat, now),
                Action::Ask(age, how) => {
                    let alone = self.nobody_accepts_after(age);
                    self.with(age, |child| {
                        log::debug!("asking worker {} to leave", child.info.pid);
                        if child.link.say(&Order::Leave { how, alone }).is_err() {
                            let _ = kill_process(child.pid, Signal::TERM);
                        }
                    });
                }
                Action::Abort(age) => self.with(age, |child| {
                    log::error!("WORKER TIMEOUT (pid:{})", child.info.pid);
                    let _ = kill_process(child.pid, Signal::ABORT);
                }),
                Action::Kill(age) => self.with(age, |child| {
                    log::error!("Worker (pid:{}) is killed: it does not end by itself", child.info.pid);
                    let _ = kill_process(child.pid, Signal::KILL);
                }),
            }
        }
    }

    /// Whether another process has the same sockets, and goes on.
    fn others_listen(&self) -> bool {
        self.is_given || self.successor.is_some() || self.parent.is_some()
    }

    /// Whether what waits in the queues of this worker's sockets is lost when it has left.
    fn nobody_accepts_after(&self, age: Age) -> bool {
        let elsewhere = self.others_listen();
        let surplus = self.fleet.seat(age).is_some_and(|seat| seat >= self.fleet.seats());
        match self.sockets.are_shared() {
            true => self.fleet.is_stopping() && !elsewhere,
            // While the number is 0 the master keeps the sockets, for others to come.
            false => (self.fleet.is_stopping() && !elsewhere) || (surplus && self.fleet.seats() > 0),
        }
    }

    fn with(&self, age: Age, f: impl FnOnce(&Child)) {
        if let Some(child) = self.children.iter().find(|child| child.info.age == age) {
            f(child);
        }
    }

    fn start_worker(&mut self, seat: usize, now: Instant) {
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
        let none = Sockets::open(&[], Vec::new(), 0, false);
        let sockets = match none {
            Ok(none) => std::mem::replace(&mut self.sockets, none),
            Err(_) => process::exit(i32::from(BOOT_ERROR)),
        };
        let info = WorkerInfo::new(process::id(), age);
        let line = Line::new(info, Arc::clone(&self.hooks), link, self.beats.clone(), place);
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

fn times(config: &Config) -> Times {
    Times { timeout: config.timeout, graceful_timeout: config.graceful_timeout }
}

/// How a process has ended, in words.
struct Ended(WaitStatus);

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.exit_status(), self.0.terminating_signal()) {
            (Some(code), _) => write!(f, "exit code {code}"),
            (_, Some(9)) => f.write_str("SIGKILL; out of memory?"),
            (_, Some(signal)) => write!(f, "SIG{}", name(signal).to_uppercase()),
            _ => f.write_str("no reason known"),
        }
    }
}
