//! What a master does when it gets a signal.

use std::io;
use std::path::Path;

use signal_hook::consts::signal::{
    SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTTIN, SIGTTOU, SIGUSR1, SIGUSR2, SIGWINCH,
};

use super::fleet::Leave;
use super::link::Order;
use super::master::{Master, times};
use super::pidfile::PidFile;
use super::signals::name;

impl Master {
    pub(super) fn answer(&mut self, signal: i32) {
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

    pub(super) fn stop(&mut self, how: Leave) {
        if !self.fleet.is_stopping() {
            match (&self.successor, self.parent) {
                (Some(successor), _) => self.notify.hand_over(successor.id()),
                (None, None) => self.notify.stopping(),
                (None, Some(_)) => {}
            }
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
        if moved && !self.sockets.are_given() {
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
        if self.parent.is_none() {
            self.notify.reloading();
        }
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
        match self.start.again(&self.sockets, self.sockets.are_given()) {
            Ok(successor) => {
                log::info!("Started a new master, process {}", successor.id());
                self.successor = Some(successor);
            }
            Err(error) => log::error!("can't start a new master: {error}"),
        }
    }

    /// When the old master has gone this one is the only one.
    pub(super) fn look_at_parent(&mut self) {
        let Some(parent) = self.parent else { return };
        if std::os::unix::process::parent_id() == parent {
            return;
        }
        self.parent = None;
        log::info!("The old master is gone: this one takes its place");
        self.sockets.own_files();
        if self.was_ready {
            self.notify.took_over(&self.status());
        }
        if let (Some(file), Some(path)) = (&mut self.pid_file, &self.config.pidfile)
            && let Err(error) = file.rename(path)
        {
            log::error!("can't write the pid file: {error}");
        }
    }
}
