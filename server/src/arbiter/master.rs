//! The master's loop: signals, workers' reports and deaths come in, what the fleet decides is carried out.

use std::fmt;
use std::io;
use std::ops::RangeInclusive;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::process;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process};

use super::fleet::{Action, Age, Fleet, Times};
use super::hooks::{Hooks, WorkerInfo};
use super::link::{Link, Order, Report, Told};
use super::loads::Loads;
use super::operator::Operator;
use super::pidfile::PidFile;
use super::privileges::{Identity, with_umask};
use super::scale::Scale;
use super::signals::{MASTER, Signals};
use super::sockets::Sockets;
use super::systemd::Notify;
use super::upgrade::{Legacy, Start};
use super::worker::Worker;
use crate::config::Config;
use crate::control::Control;
use crate::log::take_logged;
use crate::metrics::{Board, Gauges, Statsd};
use crate::serve::METRICS_BACKLOG;

/// How often the master looks after its workers, if nothing happens before.
const LOOK: Duration = Duration::from_secs(1);
/// What a master and a worker are called.
pub(super) const MASTER_ROLE: &str = "master";
pub(super) const WORKER_ROLE: &str = "worker";
/// A worker that could not come up ends with this code, and if none ever did so does the master (gunicorn's).
pub(super) const BOOT_ERROR: u8 = 3;
/// A master that has slept for so long was stopped or frozen, and perhaps its workers with it.
const LATE: Duration = Duration::from_secs(3);

/// What a master is given to run.
pub(crate) trait Program {
    /// Loads the settings again, from wherever they came, and makes ready what they need. Nothing changes by that.
    ///
    /// # Errors
    /// They are wrong: in words. The old ones stay in force.
    fn load(&self) -> Result<Config, String>;

    /// Names this process, which has one thread, in the list of processes; `role` is what it is in the server.
    fn name(&self, config: &Config, role: &str);

    /// The settings loaded last are in force from now on, for this process and for workers that are yet to be.
    fn adopt(&self);

    /// Opens the master's own log files again, and returns them by their paths: some few, for workers that may not open them.
    fn reopen_logs(&self) -> Vec<(String, OwnedFd)>;

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
    pub(super) config: Config,
    pub(super) program: Box<dyn Program>,
    pub(super) hooks: Arc<dyn Hooks>,
    pub(super) start: Start,
    /// As whom workers serve, if not as who the master is.
    pub(super) identity: Option<Identity>,
    pub(super) fleet: Fleet,
    pub(super) scale: Scale,
    /// When it was last looked how busy the workers are.
    scaled: Instant,
    pub(super) children: Vec<Child>,
    pub(super) sockets: Sockets,
    pub(super) notify: Notify,
    pub(super) told_alive: Instant,
    /// Workers are being replaced, and the service manager waits to hear of the end of it.
    pub(super) reloading: bool,
    pub(super) signals: Signals,
    pub(super) board: Board,
    /// Where workers answer for numbers and health.
    pub(super) metrics: Sockets,
    pub(super) gauges: Option<Gauges>,
    pub(super) loads: Loads,
    pub(super) pid_file: Option<PidFile>,
    pub(super) control: Control,
    pub(super) operator: Operator,
    /// The master that has started this one, as long as it lives.
    pub(super) parent: Option<u32>,
    /// The master that this one has started.
    pub(super) successor: Option<process::Child>,
    /// All workers have been ready once.
    pub(super) was_ready: bool,
    /// Until then nobody is thought to hang.
    pub(super) leniency: Option<Instant>,
}

/// A worker's process.
pub(super) struct Child {
    pub(super) info: WorkerInfo,
    pub(super) pid: Pid,
    pub(super) link: Link<Order, Report>,
    /// What it has to say to operators.
    pub(super) answers: Link<(), Told>,
    /// Its place on the board.
    pub(super) place: usize,
}

impl Master {
    /// Listens, and gets everything ready for [`Master::run`].
    pub(crate) fn new(
        config: Config,
        program: Box<dyn Program>,
        hooks: Arc<dyn Hooks>,
        start: Start,
    ) -> Result<Master, Halt> {
        let setup = |what| move |error| Halt::Setup(what, error);
        let identity = Identity::of(&config).map_err(setup("can't change the user"))?;
        hooks.on_starting(&config);
        let legacy = Legacy::take().map_err(setup("can't take over the old master's sockets"))?;
        let parent = legacy.as_ref().map(|legacy| legacy.master);
        let mut legacy = legacy;
        let metrics = legacy.as_mut().map(|legacy| std::mem::take(&mut legacy.metrics)).unwrap_or_default();
        let sockets = with_umask(config.umask, || Sockets::of(&config, legacy)).map_err(Halt::Bind)?;
        sockets.give_to(identity.as_ref()).map_err(setup("can't give the sockets to --user"))?;
        let pid_file = config.pidfile.as_deref().map(|path| match parent {
            Some(_) => PidFile::create(&PidFile::second(path)),
            None => PidFile::create(path),
        });
        let pid_file = pid_file.transpose().map_err(setup("can't write the pid file"))?;
        let signals = Signals::new(MASTER).map_err(setup("can't handle signals"))?;
        let board = Board::new().map_err(setup("no shared memory for signs of life"))?;
        // While they are replaced there are twice as many; more can come by TTIN.
        let loads =
            Loads::new(config.workers * 2 + 16).map_err(setup("no shared memory for workers' loads"))?;
        let metrics =
            Sockets::open(&config.metrics_bind, metrics, METRICS_BACKLOG, false).map_err(Halt::Bind)?;
        let gauges = gauges(&config);
        let mut master = Master {
            fleet: Fleet::new(*limits(&config).start(), times(&config)),
            scale: Scale::default(),
            scaled: Instant::now(),
            config,
            program,
            hooks,
            start,
            identity,
            children: Vec::new(),
            sockets,
            notify: Notify::new(),
            told_alive: Instant::now(),
            reloading: false,
            signals,
            board,
            loads,
            metrics,
            gauges,
            pid_file,
            control: Control::none(),
            operator: Operator::new(),
            parent,
            successor: None,
            was_ready: false,
            leniency: None,
        };
        master.open_control();
        Ok(master)
    }

    /// The sockets it listens on.
    pub(crate) fn sockets(&self) -> impl Iterator<Item = &crate::Addr> {
        self.sockets.addrs()
    }

    /// Keeps the workers until it is told to stop.
    pub(crate) fn run(mut self) -> Result<(), Halt> {
        self.program.name(&self.config, MASTER_ROLE);
        let ended = self.keep();
        if ended.is_ok() {
            self.hooks.on_exit();
        }
        if self.others_listen() {
            self.sockets.leave_files();
        }
        if self.successor.is_some() || self.parent.is_some() {
            self.metrics.leave_files();
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
            self.operate(now);
            self.scale(now);
            self.act(now);
            if self.fleet.is_leaving() && self.fleet.is_empty() {
                return Ok(());
            }
            self.tell(now);
            self.wait();
        }
    }

    /// More workers, or fewer, if they are so busy or so idle.
    fn scale(&mut self, now: Instant) {
        let limits = limits(&self.config);
        let is_due = now.saturating_duration_since(self.scaled) >= LOOK;
        if !scales(&self.config) || !is_due || self.fleet.is_stopping() {
            return;
        }
        self.scaled = now;
        let seats = self.fleet.seats();
        let all: Vec<f64> = self.children.iter().map(|child| self.board.load(child.place)).collect();
        // One more or less than there are to be is on its way.
        let is_steady = self.fleet.is_complete() && all.len() == seats && seats > 0;
        let busy = is_steady.then(|| all.iter().sum::<f64>() / all.len() as f64);
        let wanted = self.scale.look(now, seats, &limits, busy);
        if wanted != seats {
            let share = busy.unwrap_or_default() * 100.0;
            log::info!("The workers are busy for {share:.0} % of their time: {wanted} of them, not {seats}");
            self.resize(wanted);
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
            if self.parent.is_none() {
                self.notify.ready(&self.status());
            }
        }
        let (errors, warnings) = take_logged();
        self.board.logged(errors, warnings);
        if let Some(gauges) = &mut self.gauges {
            let (sockets, is_wanted) = (&self.sockets, self.config.enable_backlog_metric);
            let backlog =
                || is_wanted.then(|| sockets.all().filter_map(|(_, socket)| socket.waiting()).sum());
            gauges.tell(self.children.len(), backlog, (errors, warnings), now);
        }
        // While workers are tried again and again and none serves the watchdog's time runs.
        if self.parent.is_none()
            && self.fleet.is_alive()
            && self
                .notify
                .watchdog
                .is_some_and(|every| now.saturating_duration_since(self.told_alive) >= every)
        {
            self.told_alive = now;
            self.notify.alive();
        }
    }

    pub(super) fn status(&self) -> String {
        format!("{} workers serve", self.fleet.seats())
    }

    /// Until something happens, or it is time to look after the workers.
    fn wait(&self) {
        let next = self.fleet.next_look().into_iter().chain(self.operator.next_look()).min();
        let next = if self.control.has_more() { Some(Instant::now()) } else { next };
        let until_next = next.map(|next| next.saturating_duration_since(Instant::now()));
        // Not quite too early.
        let look = self.notify.watchdog.map_or(LOOK, |every| every.min(LOOK));
        let wait = until_next.map_or(look, |next| next.min(look)) + Duration::from_millis(1);
        let timeout = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: i64::from(wait.subsec_nanos()) };
        let mut sources = vec![PollFd::new(&self.signals, PollFlags::IN)];
        for child in &self.children {
            sources.push(PollFd::new(&child.link, PollFlags::IN));
            sources.push(PollFd::new(&child.answers, PollFlags::IN));
        }
        self.control.sources(&mut sources);
        if let Err(error) = poll(&mut sources, Some(&timeout))
            && error != rustix::io::Errno::INTR
        {
            log::error!("the master can't wait for its workers: {error}");
            std::thread::sleep(LOOK);
        }
    }

    pub(super) fn tell_all(&self, order: &Order, files: &[BorrowedFd<'_>]) {
        for child in &self.children {
            if let Err(error) = child.link.say_with(order, files) {
                log::warn!("worker {} does not listen: {error}", child.info.pid);
            }
        }
    }

    /// What the workers have to say.
    pub(super) fn hear(&mut self, now: Instant) {
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

    fn act(&mut self, now: Instant) {
        if self.leniency.is_some_and(|until| until <= now) {
            self.leniency = None;
        }
        let (board, children, lenient) = (&self.board, &self.children, self.leniency.is_some());
        let silent = |age: Age| match children.iter().find(|child| child.info.age == age) {
            Some(child) if !lenient => board.silence(child.place),
            _ => Duration::ZERO,
        };
        let actions = self.fleet.plan(now, silent);
        if self.fleet.is_leaving() && !self.others_listen() {
            self.sockets.remove_files();
        }
        for action in actions {
            match action {
                Action::Start { seat } => self.start_worker(seat, now),
                Action::Drain(age) => self.with(age, |child| {
                    // One that does not listen is asked to leave later, and killed.
                    let _ = child.link.say(&Order::Drain);
                }),
                Action::Ask(age, how) => {
                    let alone = self.nobody_accepts_after(age);
                    if alone && !self.fleet.is_stopping() {
                        // Whoever gets that seat later must have a socket that takes clients.
                        self.sockets.trim(self.fleet.seats());
                    }
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
                Action::Kill(age) => {
                    self.with(age, |child| {
                        log::error!("Worker (pid:{}) is killed: it does not end by itself", child.info.pid);
                        let _ = kill_process(child.pid, Signal::KILL);
                    });
                    self.operator.killed += 1;
                }
            }
        }
    }

    /// Whether another process has the same sockets, and goes on.
    pub(super) fn others_listen(&self) -> bool {
        self.sockets.are_given() || self.successor.is_some() || self.parent.is_some()
    }

    /// Whether what waits in the queues of this worker's sockets is lost when it has left.
    fn nobody_accepts_after(&self, age: Age) -> bool {
        let elsewhere = self.others_listen();
        let surplus = self.fleet.seat(age).is_some_and(|seat| seat >= self.fleet.seats());
        match self.sockets.are_shared() {
            true => self.fleet.is_leaving() && !elsewhere,
            // While the number is 0 the master keeps the sockets, for others to come.
            false => (self.fleet.is_leaving() && !elsewhere) || (surplus && self.fleet.seats() > 0),
        }
    }

    fn with(&self, age: Age, f: impl FnOnce(&Child)) {
        if let Some(child) = self.children.iter().find(|child| child.info.age == age) {
            f(child);
        }
    }
}

/// What tells StatsD of the workers. A server without is one all the same.
pub(super) fn gauges(config: &Config) -> Option<Gauges> {
    let host = config.statsd_host.as_ref()?;
    let statsd = Statsd::new(host, &config.statsd_prefix, &config.dogstatsd_tags);
    statsd.inspect_err(|error| log::warn!("{error}")).ok().map(Gauges::new)
}

/// How few workers there may be, and how many.
pub(super) fn limits(config: &Config) -> RangeInclusive<usize> {
    match config.min_workers {
        0 => config.workers..=config.workers,
        least => least.min(config.workers)..=config.workers,
    }
}

/// Whether the number of workers depends on how busy they are.
pub(super) fn scales(config: &Config) -> bool {
    let limits = limits(config);
    limits.start() < limits.end()
}

pub(super) fn times(config: &Config) -> Times {
    let Config { timeout, graceful_timeout, drain_delay, .. } = *config;
    Times { timeout, graceful_timeout, drain_delay }
}
