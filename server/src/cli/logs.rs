//! The logs that the settings ask for.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use super::Failure;
use crate::arbiter::{Errands, Identity};
use crate::config::{Config, LogTarget};
use crate::log::{Envelope, ErrorLog, FormattedLog, Sink};

/// The logs of the program, as far as they are ours.
///
/// Opened by the process that is started, so that a worker needs no right to the files: it has them from its master.
#[derive(Clone)]
pub(super) struct Logs {
    error: Arc<ErrorLog>,
    access: Option<Arc<FormattedLog>>,
    sinks: Vec<Arc<Sink>>,
    /// What the whole program logs through, if that is ours.
    installed: Option<Arc<ErrorLog>>,
    /// Where standard output and error of what serves go.
    capture: Option<Arc<Sink>>,
}

impl Logs {
    /// Opens what there is to be opened, and has nothing logged there yet.
    pub(super) fn open(config: &Config) -> Result<Self, Failure> {
        let mut sinks = Vec::new();
        let mut syslog = |name: &str| -> Result<_, Failure> {
            if !config.syslog {
                return Ok(None);
            }
            let at = &config.syslog_addr;
            let sink = match sinks.first() {
                Some(sink) => Arc::clone(sink),
                None => {
                    let sink =
                        Sink::syslog(at.clone()).map_err(|error| Failure::Syslog(at.clone(), error))?;
                    sinks.push(Arc::new(sink));
                    Arc::clone(&sinks[0])
                }
            };
            let tag = match config.syslog_prefix.as_str() {
                "" => format!("greenserve.{name}"),
                prefix => format!("greenserve.{prefix}.{name}"),
            };
            Ok(Some((sink, Envelope::new(at, config.syslog_facility, &tag))))
        };
        let error_syslog = syslog("error")?;
        let access_syslog = match config.disable_redirect_access_to_syslog {
            true => None,
            false => syslog("access")?,
        };

        let error_sink = open("error", &config.errorlog, |name| match config.daemon {
            // As it will be when the terminal is left.
            true => Ok(Sink::new(name, io::stderr())),
            false => Sink::stderr(name),
        })?;
        sinks.push(Arc::clone(&error_sink));
        let is_file = matches!(config.errorlog, LogTarget::File(_));
        let capture = (config.capture_output && is_file).then(|| Arc::clone(&error_sink));
        let error = Arc::new(ErrorLog::of(error_sink, config.loglevel, config.log_format, error_syslog));

        let access_sink = config
            .accesslog
            .as_ref()
            .map(|target| {
                open("access", target, |name| match config.daemon {
                    true => Ok(Sink::new(name, io::stdout())),
                    false => Sink::stdout(name),
                })
            })
            .transpose()?;
        sinks.extend(access_sink.clone());
        let is_wanted = access_sink.is_some() || access_syslog.is_some();
        let access = is_wanted
            .then(|| FormattedLog::of(access_sink, access_syslog, config.access_log_format.clone()))
            .map(Arc::new);
        Ok(Self { error, access, sinks, installed: None, capture })
    }

    /// Has the program log there. One that has a logger of its own keeps it.
    pub(super) fn install(&mut self) {
        self.installed = self.error.install().is_ok().then(|| Arc::clone(&self.error));
    }

    /// Has the program log there, and no more where it did.
    pub(super) fn replace(&mut self, old: &Logs) {
        self.installed = old.installed.clone();
        if let Some(installed) = &self.installed {
            installed.redirect(&self.error);
        }
    }

    pub(super) fn access(&self) -> Option<&Arc<FormattedLog>> {
        self.access.as_ref()
    }

    /// Has threads of their own write them from now on: a process that serves must not wait for a file.
    pub(super) fn start(&self) -> Result<(), Failure> {
        let capture = self.capture.as_ref().map_or(Ok(()), |sink| sink.capture_standard_streams());
        capture.map_err(Failure::LogThread)?;
        self.sinks.iter().try_for_each(|sink| sink.start()).map_err(Failure::LogThread)
    }

    /// Opens the files again; or takes these, by their paths, that somebody else has opened.
    pub(super) fn reopen(&self, mut opened: Vec<(String, OwnedFd)>) {
        for sink in &self.sinks {
            let path = sink.path().map(|path| path.to_string_lossy().into_owned());
            match opened.iter().position(|(name, _)| Some(name) == path.as_ref()) {
                Some(at) => sink.take(opened.swap_remove(at).1.into()),
                None => sink.reopen(),
            }
        }
    }

    /// The files, to be handed to somebody else.
    pub(super) fn files(&self) -> Vec<(String, OwnedFd)> {
        let files = self.sinks.iter().filter_map(|sink| Some((sink.path()?, sink.descriptor()?)));
        files.map(|(path, file)| (path.to_string_lossy().into_owned(), file)).collect()
    }

    /// Gives the files to the workers' user, as gunicorn does: it may have to open them again without its master.
    pub(super) fn give_to(&self, identity: Option<&Identity>) {
        let Some(identity) = identity else { return };
        for path in self.sinks.iter().filter_map(|sink| sink.path()) {
            if let Err(error) = identity.own_file(path) {
                log::warn!("can't give {} to --user, who can't open it again: {error}", path.display());
            }
        }
    }

    pub(super) fn flush(&self) {
        if let Some(access) = &self.access {
            access.flush(Duration::from_secs(2));
        }
        log::logger().flush();
    }
}

fn open(
    name: &'static str,
    target: &LogTarget,
    standard: impl FnOnce(&str) -> io::Result<Sink>,
) -> Result<Arc<Sink>, Failure> {
    let sink = match target {
        LogTarget::Standard => standard(name),
        LogTarget::File(path) => Sink::file(name, path),
    };
    sink.map(Arc::new).map_err(|error| Failure::Log(name, target.clone(), error))
}

impl Errands for Logs {
    fn reopen_logs(&self, opened: Vec<(String, OwnedFd)>) {
        self.reopen(opened);
    }

    fn flush(&self) {
        Logs::flush(self);
    }
}
