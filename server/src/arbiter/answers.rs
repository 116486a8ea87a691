//! What a master does when it gets a signal.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Instant;

use signal_hook::consts::signal::{
    SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTTIN, SIGTTOU, SIGUSR1, SIGUSR2, SIGWINCH,
};

use super::fleet::Leave;
use super::link::Order;
use super::master::{MASTER_ROLE, Master, gauges, limits, times};
use super::pidfile::PidFile;
use super::privileges::{Identity, with_umask};
use super::signals::name;
use crate::config::Config;
use crate::serve::METRICS_BACKLOG;

impl Master {
    pub(super) fn answer(&mut self, signal: i32) {
        if signal == SIGCHLD {
            return;
        }
        log::info!("Handling signal: {}", name(signal));
        match signal {
            SIGTERM => self.stop(Leave::Graceful),
            SIGINT | SIGQUIT => self.stop(Leave::Quick),
            // Why it failed stands in the log.
            SIGHUP => drop(self.reload()),
            SIGTTIN => self.resize(self.fleet.seats() + 1),
            SIGTTOU if self.fleet.seats() > 1 => self.resize(self.fleet.seats() - 1),
            SIGUSR1 => self.reopen(),
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
        }
        self.fleet.stop(how, Instant::now());
    }

    pub(super) fn reopen(&mut self) {
        let (files, opened): (Vec<_>, Vec<_>) = self.program.reopen_logs().into_iter().unzip();
        let opened: Vec<_> = opened.iter().map(AsFd::as_fd).collect();
        self.tell_all(&Order::Reopen { files }, &opened);
    }

    pub(super) fn resize(&mut self, seats: usize) {
        let old = self.fleet.seats();
        if seats != old {
            self.fleet.set_seats(seats);
            self.hooks.nworkers_changed(seats, old);
        }
    }

    /// # Errors
    /// The old settings stay, for this reason, which is in the log as well.
    pub(super) fn reload(&mut self) -> Result<(), String> {
        let reloaded = self.try_reload();
        if let Err(error) = &reloaded {
            log::error!("The settings are not loaded again, the old ones stay: {error}");
        }
        reloaded
    }

    fn try_reload(&mut self) -> Result<(), String> {
        let mut config = self.program.load()?;
        let identity = Identity::of(&config).map_err(|error| error.to_string())?;
        for name in config.keep_until_restart(&self.config) {
            log::warn!("The new value of {name} waits for a restart or SIGUSR2; SIGHUP does not change it");
        }
        let moved = config.bind != self.config.bind || config.backlog != self.config.backlog;
        if moved && !self.sockets.are_given() {
            with_umask(config.umask, || self.sockets.change(&config.bind, config.backlog))
                .map_err(|error| error.to_string())?;
            let addresses: Vec<String> = self.sockets.addrs().map(ToString::to_string).collect();
            log::info!("Listening at: {}", addresses.join(","));
        }
        if config.metrics_bind != self.config.metrics_bind {
            if let Err(error) = self.metrics.change(&config.metrics_bind, METRICS_BACKLOG) {
                log::error!("The address of the metrics does not change: {error}");
            } else {
                self.tell_metrics();
            }
        }
        let statsd = |config: &Config| {
            (config.statsd_host.clone(), config.statsd_prefix.clone(), config.dogstatsd_tags.clone())
        };
        if statsd(&config) != statsd(&self.config) {
            self.gauges = gauges(&config);
        }
        self.identity = identity;
        if let Err(error) = self.sockets.give_to(self.identity.as_ref()) {
            log::error!("can't give the sockets to --user: {error}");
        }
        self.program.adopt();
        if config.pidfile != self.config.pidfile {
            self.move_pid_file(config.pidfile.as_deref());
        }
        let old = std::mem::replace(&mut self.config, config);
        self.program.name(&self.config, MASTER_ROLE);
        self.renew_control(&old);
        self.hooks.on_reload(&self.config);
        self.fleet.set_times(times(&self.config));
        let limits = limits(&self.config);
        self.resize(self.fleet.seats().clamp(*limits.start(), *limits.end()));
        self.fleet.renew();
        self.reloading = true;
        if self.parent.is_none() {
            self.notify.reloading();
        }
        log::info!("Hang up: the workers are replaced one after the other");
        Ok(())
    }

    /// Says where workers answer for numbers, if they do.
    pub(crate) fn tell_metrics(&self) {
        let addresses: Vec<String> = self.metrics.addrs().map(ToString::to_string).collect();
        if !addresses.is_empty() {
            log::info!("Metrics at: {}", addresses.join(","));
        }
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
        match self.start.again(&self.sockets, &self.metrics, self.sockets.are_given()) {
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
        self.inherit_control();
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
