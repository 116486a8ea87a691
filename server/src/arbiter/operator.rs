//! What a master does when an operator tells it to, by the control socket: the commands are `control`'s, their meaning is here.
//!
//! What only workers know they are asked, with the order `Tell`; their answers are gathered while the master goes on, and who
//! does not answer in time is said not to.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process;
use std::time::{Duration, Instant};

use log::LevelFilter;
use rustix::process::{Signal, kill_process};
use serde_json::{Map, Value, json};

use super::fleet::{Age, Leave, Member};
use super::link::{Order, What};
use super::master::{Child, Master};
use crate::app::Addr;
use crate::config::{Config, MOST_WORKERS, SETTINGS};
use crate::control::{self, COMMANDS, Command, Mode, Outcome, SessionId, Show, Which};
use crate::metrics::Done;
use crate::serve::Listener;

/// How long a worker may take to give a sign that it heard. It has a second itself to see whether its hub turns.
const SIGN: Duration = Duration::from_millis(1500);
/// How long it may take from then on.
const ANSWER: Duration = Duration::from_secs(30);
/// How many questions there may be at once, whatever has become of those who asked.
const MOST: usize = 8;
/// How many commands of a session are done before workers have their turn.
const ROUNDS: usize = 4;

/// What a master has for operators.
pub(super) struct Operator {
    questions: Vec<Question>,
    asked: u64,
    started: Instant,
    pub(super) killed: u64,
    pub(super) reloads: u64,
    /// More clients are not welcome: new workers hear of it, too.
    pub(super) drained: bool,
    /// The log's level is what an operator has set, not what the settings say.
    level_is_set: bool,
}

/// What workers were asked.
struct Question {
    number: u64,
    session: SessionId,
    id: u64,
    asked: Vec<Asked>,
}

struct Asked {
    age: Age,
    pid: u32,
    deadline: Instant,
    answer: Option<Result<Map<String, Value>, String>>,
}

impl Operator {
    pub(super) fn new() -> Operator {
        Operator {
            questions: Vec::new(),
            asked: 0,
            started: Instant::now(),
            killed: 0,
            reloads: 0,
            drained: false,
            level_is_set: false,
        }
    }

    /// When somebody has to be told that a worker does not answer.
    pub(super) fn next_look(&self) -> Option<Instant> {
        let open = self.questions.iter().flat_map(|question| &question.asked);
        open.filter(|asked| asked.answer.is_none()).map(|asked| asked.deadline).min()
    }
}

impl Master {
    /// Makes the control socket. A server that has none serves all the same.
    pub(super) fn open_control(&mut self) {
        self.control.close();
        if self.config.control_socket_disable {
            return;
        }
        let named = self.config.control_socket.clone();
        let is_named = named.is_some();
        let Some(plain) = named.or_else(control::usual) else {
            log::debug!("No control socket: there is neither XDG_RUNTIME_DIR nor HOME");
            return;
        };
        let path = match self.parent {
            Some(_) => control::beside(&plain, 2),
            None => plain.clone(),
        };
        if let Err((path, error)) = self.listen_for_operators(&path, &plain) {
            // In a container there is often no place for it, and nobody has asked for it.
            let level = if is_named { log::Level::Warn } else { log::Level::Info };
            log::log!(level, "No control socket at {}: {error}", path.display());
        }
    }

    fn listen_for_operators(&mut self, path: &Path, plain: &Path) -> Result<(), (PathBuf, io::Error)> {
        let mode = self.config.control_socket_mode.0;
        let mut listen = |path: &Path| {
            let path = control::absolute(path).map_err(|error| (path.to_path_buf(), error))?;
            self.control.listen(&path, mode).map_err(|error| (path, error))
        };
        match listen(path) {
            Err((taken, error)) if error.kind() == io::ErrorKind::AddrInUse => {
                listen(&control::beside(plain, process::id()))?;
                log::warn!("Another server has the control socket {}", taken.display());
            }
            result => result?,
        }
        if let Some(path) = self.control.path() {
            log::info!("Control socket: {}", path.display());
        }
        Ok(())
    }

    /// The old master is gone: its name is this one's.
    pub(super) fn inherit_control(&mut self) {
        let plain = self.config.control_socket.clone().or_else(control::usual);
        let plain = plain.and_then(|plain| control::absolute(&plain).ok());
        let (Some(plain), Some(path)) = (plain, self.control.path()) else { return };
        if path == plain || !control::find(&plain).iter().all(|alive| *alive != plain) {
            return;
        }
        if let Err(error) = self.control.rename(&plain) {
            log::warn!("The control socket keeps its name: {}: {error}", plain.display());
        }
    }

    /// After the settings were loaded again.
    pub(super) fn renew_control(&mut self, old: &Config) {
        let of = |config: &Config| {
            (config.control_socket.clone(), config.control_socket_mode, config.control_socket_disable)
        };
        if of(&self.config) != of(old) {
            self.open_control();
        }
        if self.operator.level_is_set || self.config.loglevel != old.loglevel {
            self.operator.level_is_set = false;
            self.log(self.config.loglevel);
        }
        self.operator.reloads += 1;
    }

    /// Hears operators, does what they want, and tells them. Never waits.
    pub(super) fn operate(&mut self, now: Instant) {
        self.gather(now);
        for _ in 0..ROUNDS {
            let commands = self.control.turn(now);
            if commands.is_empty() {
                return;
            }
            for (session, peer, request) in commands {
                match request.command {
                    Ok(command) => {
                        if command.changes() {
                            log::info!("Operator ({peer}): {}", request.words);
                        }
                        self.carry_out(session, request.id, command, now);
                    }
                    Err(error) => self.control.answer(session, request.id, Outcome::Error { error }),
                }
            }
        }
    }

    fn carry_out(&mut self, session: SessionId, id: u64, command: Command, now: Instant) {
        let outcome = match command {
            Command::Show(Show::Greenlets(most)) => return self.ask(session, id, What::Greenlets(most), now),
            Command::Show(Show::Connections(most)) => {
                return self.ask(session, id, What::Connections(most), now);
            }
            Command::Dump(most) => return self.ask(session, id, What::Stacks(most), now),
            Command::Show(what) => Ok(self.show(what, now)),
            Command::Add(_)
            | Command::Remove(_)
            | Command::Kill { .. }
            | Command::Reload
            | Command::Drain
            | Command::Undrain
                if self.fleet.is_stopping() =>
            {
                Err("the server is about to stop".to_owned())
            }
            Command::Add(count) => self.add(count),
            Command::Remove(count) => Ok(self.remove(count)),
            Command::Kill { which, force } => self.kill(which, force),
            Command::Reload => self.reload().map(|()| json!({"status": "reloading"})),
            Command::Reopen => {
                self.reopen();
                Ok(json!({"status": "reopening"}))
            }
            Command::Drain | Command::Undrain => {
                self.operator.drained = command == Command::Drain;
                self.tell_all(&Order::Ready(!self.operator.drained), &[]);
                Ok(json!({"status": if self.operator.drained { "drained" } else { "serving" }}))
            }
            Command::Shutdown(mode) => {
                let (how, mode) = match mode {
                    Mode::Graceful => (Leave::Graceful, "graceful"),
                    Mode::Quick => (Leave::Quick, "quick"),
                };
                self.stop(how);
                Ok(json!({"status": "shutting_down", "mode": mode}))
            }
            Command::LogLevel(level) => {
                let previous = log::max_level();
                self.log(level);
                self.operator.level_is_set = true;
                Ok(json!({"log_level": word(level), "previous": word(previous)}))
            }
            Command::Help => {
                let commands = COMMANDS.iter().map(|(usage, what)| (usage.to_string(), json!(what)));
                Ok(json!({"commands": Map::from_iter(commands)}))
            }
        };
        self.control.answer(session, id, outcome.into());
    }

    fn log(&self, level: LevelFilter) {
        log::set_max_level(level);
        self.tell_all(&Order::LogLevel(level.to_string()), &[]);
    }

    fn add(&mut self, count: usize) -> Result<Value, String> {
        let old = self.fleet.seats();
        let new = old.checked_add(count).filter(|new| *new <= MOST_WORKERS);
        let new =
            new.ok_or_else(|| format!("{old} workers and {count} more would be more than {MOST_WORKERS}"))?;
        self.resize(new);
        Ok(json!({"added": count, "previous": old, "total": new}))
    }

    fn remove(&mut self, count: usize) -> Value {
        let old = self.fleet.seats();
        // Those that SIGWINCH has sent home are not to come back by this.
        let new = old.saturating_sub(count).max(old.min(1));
        self.resize(new);
        json!({"removed": old - new, "previous": old, "total": new})
    }

    fn kill(&mut self, Which(number): Which, force: bool) -> Result<Value, String> {
        let by = |f: fn(&Child) -> u64| self.children.iter().find(|child| f(child) == number);
        let found = by(|child| child.info.pid.into()).or_else(|| by(|child| child.info.age));
        let Some(child) = found else {
            return Err(format!("no worker of this server has the process id or the age {number}"));
        };
        let (age, pid, process) = (child.info.age, child.info.pid, child.pid);
        if force {
            self.fleet.killed(age);
            self.operator.killed += 1;
            kill_process(process, Signal::KILL)
                .map_err(|error| format!("can't kill worker {pid}: {error}"))?;
        } else {
            self.fleet.replace(age);
        }
        Ok(json!({"killed": pid, "age": age, "force": force}))
    }

    fn show(&self, what: Show, now: Instant) -> Value {
        let list = |name: &str, list: Vec<Value>| {
            let count = list.len();
            Value::Object(Map::from_iter([
                (name.to_owned(), Value::Array(list)),
                ("count".to_owned(), count.into()),
            ]))
        };
        match what {
            Show::Workers => list("workers", self.workers(now, false)),
            Show::Listeners => list("listeners", self.listeners()),
            Show::Config => {
                let settings = SETTINGS.iter();
                Value::Object(
                    settings
                        .map(|setting| (setting.name.to_owned(), setting.value(&self.config).into()))
                        .collect(),
                )
            }
            Show::All => json!({
                "stats": self.stats(now),
                "workers": self.workers(now, true),
                "listeners": self.listeners(),
            }),
            // The others are asked for.
            Show::Stats | Show::Greenlets(_) | Show::Connections(_) => {
                let mut stats = self.stats(now);
                stats["workers"] = self.workers(now, true).into();
                stats
            }
        }
    }

    /// What was done, if it is counted at all.
    fn counts(&self, row: &mut Value, done: impl FnOnce() -> Done) {
        let is_counted = self.config.statsd_host.is_some() || self.metrics.addrs().next().is_some();
        let done = is_counted.then(done);
        row["requests"] = done.map(|done| done.requests).into();
        row["requests_in_progress"] = done.map(|done| done.under_way).into();
        row["connections"] = done.map(|done| done.connections).into();
    }

    fn stats(&self, now: Instant) -> Value {
        let state = match (self.fleet.is_stopping(), self.fleet.is_complete()) {
            (true, _) => "stopping",
            (false, true) => "ready",
            (false, false) => "busy",
        };
        let mut stats = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "pid": process::id(),
            "state": state,
            "uptime": seconds(now.saturating_duration_since(self.operator.started)),
            "workers_current": self.children.len(),
            "workers_target": self.fleet.seats(),
            "workers_spawned": self.fleet.spawned(),
            "workers_killed": self.operator.killed,
            "reloads": self.operator.reloads,
            "drained": self.operator.drained,
            "log_level": word(log::max_level()),
            "resident": resident(process::id()),
            "old_master": self.parent,
            "new_master": self.successor.as_ref().map(process::Child::id),
        });
        self.counts(&mut stats, || self.board.all_done());
        stats
    }

    fn workers(&self, now: Instant, memory: bool) -> Vec<Value> {
        let mut all: Vec<Member> = self.fleet.members(now).collect();
        all.sort_by_key(|member| member.age);
        let rows = all.iter().filter_map(|member| {
            let child = self.children.iter().find(|child| child.info.age == member.age)?;
            let mut row = json!({
                "pid": child.info.pid,
                "age": member.age,
                "seat": member.seat,
                "state": member.state,
                "booted": member.state != "booting",
                "aborted": member.state == "aborting",
                "outdated": member.outdated,
                "uptime": seconds(member.uptime),
                "last_heartbeat": seconds(self.board.silence(child.place)),
            });
            if memory {
                row["resident"] = resident(child.info.pid).into();
                self.counts(&mut row, || self.board.done(child.place));
            }
            Some(row)
        });
        rows.collect()
    }

    fn listeners(&self) -> Vec<Value> {
        let rows = self.sockets.all().map(|(bind, listener)| {
            let Listener { socket, addr, .. } = listener;
            let kind = match addr {
                Addr::Unix(_) => "unix",
                Addr::Inet(addr) if addr.is_ipv6() => "tcp6",
                Addr::Inet(_) => "tcp",
            };
            let fd = socket.as_raw_fd();
            let (address, bind, waiting) = (addr.to_string(), bind.to_string(), listener.waiting());
            json!({"address": address, "bind": bind, "fd": fd, "type": kind, "waiting": waiting})
        });
        rows.collect()
    }

    /// Asks every worker.
    fn ask(&mut self, session: SessionId, id: u64, what: What, now: Instant) {
        if self.operator.questions.len() >= MOST {
            let error = "other questions wait for answers; try again".to_owned();
            return self.control.answer(session, id, Outcome::Error { error });
        }
        self.operator.asked += 1;
        let number = self.operator.asked;
        let asked = self.children.iter().map(|child| {
            let said = child.link.say(&Order::Tell { question: number, what });
            let answer = said.err().map(|error| Err(format!("it does not listen: {error}")));
            Asked { age: child.info.age, pid: child.info.pid, deadline: now + SIGN, answer }
        });
        let mut asked: Vec<Asked> = asked.collect();
        asked.sort_by_key(|asked| asked.age);
        self.operator.questions.push(Question { number, session, id, asked });
        self.gather(now);
    }

    /// What workers have answered, and who did not in time.
    fn gather(&mut self, now: Instant) {
        let Master { children, operator, control, .. } = self;
        for child in children.iter_mut() {
            for told in child.answers.hear().lines {
                let questions = &mut operator.questions;
                let asked = questions.iter_mut().find(|question| question.number == told.question);
                let asked = asked
                    .and_then(|question| question.asked.iter_mut().find(|asked| asked.age == child.info.age));
                match (asked, told.answer) {
                    (Some(asked), None) => asked.deadline = now + ANSWER,
                    (Some(asked), answer) => asked.answer = answer,
                    // It comes too late.
                    (None, _) => {}
                }
            }
        }
        operator.questions.retain_mut(|question| {
            for asked in question.asked.iter_mut().filter(|asked| asked.answer.is_none()) {
                if !children.iter().any(|child| child.info.age == asked.age) {
                    asked.answer = Some(Err("it has ended meanwhile".to_owned()));
                } else if asked.deadline <= now {
                    asked.answer = Some(Err("it does not answer".to_owned()));
                }
            }
            let open = question.asked.iter().any(|asked| asked.answer.is_none());
            if !open {
                control.answer(question.session, question.id, question.outcome());
            }
            open
        });
    }
}

impl Question {
    fn outcome(&mut self) -> Outcome {
        let workers = self.asked.drain(..).map(|asked| {
            let mut row = match asked.answer {
                Some(Ok(row)) => row,
                Some(Err(error)) => Map::from_iter([("error".to_owned(), error.into())]),
                None => Map::new(),
            };
            row.insert("pid".to_owned(), asked.pid.into());
            row.insert("age".to_owned(), asked.age.into());
            Value::Object(row)
        });
        Outcome::Ok { data: json!({"workers": workers.collect::<Vec<_>>()}) }
    }
}

fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 100.0).round() / 100.0
}

/// As it would be typed.
fn word(level: LevelFilter) -> String {
    match level {
        LevelFilter::Warn => "warning".to_owned(),
        other => other.to_string().to_lowercase(),
    }
}

/// How much memory a process has, in bytes; with what it shares. `None` if it has ended.
fn resident(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
