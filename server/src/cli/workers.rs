//! A master, and what it has its workers run: this server program.

use std::cell::{Cell, RefCell};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::daemon::Daemon;
use super::failure::Failure;
use super::logs::Logs;
use super::tls::{self, TlsConfig};
use super::{count, limits, name_process, read_command_line, scheme, serve_as, set_up, tell_addresses};
use crate::arbiter::{Hooks, Identity, Line, Master, Program, Start, Worker};
use crate::config::{CommandLine, Config};
use crate::{Handler, Request, Response, Server};

/// Runs a master, whose workers serve.
pub(super) fn keep_workers<A: Handler + Send + Sync>(
    start: Start,
    line: &CommandLine,
    app: A,
    logs: &Logs,
    hooks: Arc<dyn Hooks>,
    daemon: &Daemon,
) -> Result<(), Failure> {
    limits::raise_open_files(line.config.worker_connections);
    let tls = tls::load(&line.config).map_err(Failure::Tls)?;
    let scheme = scheme(&line.config, tls.as_ref());
    let program = Workers {
        app: Cell::new(Some(app)),
        now: RefCell::new((tls, logs.clone())),
        loaded: RefCell::default(),
        identity: RefCell::new(Identity::of(&line.config).map_err(Failure::Identity)?),
        start: start.clone(),
        takes_app: line.takes_app,
        app_name: line.app_name(),
    };
    let master =
        Master::new(line.config.clone(), Box::new(program), hooks, start).map_err(Failure::Master)?;
    daemon.ready().map_err(|error| Failure::Process("can't leave the terminal", error))?;
    tell_addresses(scheme, master.sockets());
    master.tell_metrics();
    log::info!("Using worker: {}", line.config.worker_class);
    master.run().map_err(Failure::Master)
}

/// What the master has run: this server program.
struct Workers<A> {
    /// Each worker takes it, out of its own copy of the master.
    app: Cell<Option<A>>,
    /// Read and opened in the master, which may read and write files that a worker may not.
    now: RefCell<Opened>,
    /// What settings that were loaded again need.
    loaded: RefCell<Option<Opened>>,
    /// Who the workers are to be, by the settings loaded last.
    identity: RefCell<Option<Identity>>,
    start: Start,
    takes_app: bool,
    app_name: String,
}

/// Certificates and logs.
type Opened = (Option<TlsConfig>, Logs);

impl<A: Handler + Send + Sync> Program for Workers<A> {
    fn load(&self) -> Result<Config, String> {
        match read_command_line(&self.start, self.takes_app) {
            Ok(line) if line.config.workers == 0 => Err("0 workers: a master has one at least".to_owned()),
            Ok(line) => {
                let tls = tls::load(&line.config).map_err(|error| error.to_string())?;
                let logs = Logs::open(&line.config).map_err(|failure| failure.to_string())?;
                let identity = Identity::of(&line.config).map_err(|error| error.to_string())?;
                self.identity.replace(identity);
                self.loaded.replace(Some((tls, logs)));
                Ok(line.config)
            }
            Err(error) => Err(error.to_string()),
        }
    }

    fn name(&self, config: &Config, role: &str) {
        let name = config.proc_name.as_ref().unwrap_or(&self.app_name);
        name_process(&format!("greenserve: {role} [{name}]"), config);
    }

    fn adopt(&self) {
        if let Some((tls, mut logs)) = self.loaded.take() {
            let mut now = self.now.borrow_mut();
            logs.replace(&now.1);
            logs.give_to(self.identity.borrow().as_ref());
            *now = (tls, logs);
        }
    }

    fn reopen_logs(&self) -> Vec<(String, OwnedFd)> {
        let logs = &self.now.borrow().1;
        logs.reopen(Vec::new());
        logs.give_to(self.identity.borrow().as_ref());
        logs.files()
    }

    fn serve(&self, worker: Worker) -> Result<(), String> {
        let app = self.app.take().ok_or("a worker serves once")?;
        let (tls, logs) = &*self.now.borrow();
        let serve = || -> Result<(), Failure> {
            logs.start()?;
            let server = Server::on(worker.listeners).map_err(Failure::Serve)?;
            let server = tls::speak(server, tls.as_ref());
            let server = set_up(server, &worker.config, logs).watch(Arc::new(worker.line.clone()));
            let server = count(server, &worker.config, worker.line.board(), worker.metrics);
            worker.line.attend(&worker.config, server.handle(), logs.clone()).map_err(Failure::Signals)?;
            worker.line.hooks().post_worker_init(worker.line.info());
            let class = worker.config.worker_class;
            // With nothing to count and no hooks a request takes in a worker what it takes without a master.
            let looks = worker.line.has_hooks() || worker.config.max_requests > 0;
            let served = match looks {
                true => serve_as(class, server, Hooked { app, line: worker.line }),
                false => serve_as(class, server, app),
            };
            served.map_err(Failure::Serve)
        };
        serve().map_err(|failure| failure.to_string())
    }
}

/// The application in a worker, between its hooks.
struct Hooked<A> {
    app: A,
    line: Line,
}

impl<A: Handler> Handler for Hooked<A> {
    fn call(&self, mut req: Request) -> Response {
        self.line.count_request();
        self.line.hooks().pre_request(self.line.info(), &mut req);
        let mut response = self.app.call(req);
        self.line.hooks().post_request(self.line.info(), &mut response);
        response
    }
}
