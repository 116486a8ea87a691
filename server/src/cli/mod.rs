//! From a command line to a running server, and back to an exit code.
//!
//! This is where settings, logs, signals, the server and an application meet; each of them lives elsewhere and knows
//! nothing of the others.

mod limits;
mod signals;
mod tls;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io::{self, Write as _};
use std::process::{self, ExitCode};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use self::signals::Stop;
use self::tls::TlsConfig;
use crate::arbiter::{Errands, Halt, Hooks, Line, Master, Program, Worker};
use crate::config::{Action, App, CommandLine, Config, LogTarget, UsageError, WorkerClass};
use crate::demo::Demo;
use crate::files::StaticFiles;
use crate::http::Limits;
use crate::log::{ErrorLog, FormattedLog, Sink};
use crate::{Addr, Handler, Protocol, Request, Response, Server};

/// The whole command line of a server program, for an application of one's own.
///
/// Reads the flags, `GREENSERVE_CMD_ARGS`, `PORT` and `WEB_CONCURRENCY` as the `greenserve` program does, starts the
/// logs, listens, serves until SIGTERM (gracefully) or SIGINT and SIGQUIT (at once), and says how it went. If the
/// program has set up a logger of the `log` facade before, that one is used and `--error-logfile` is not.
///
/// Blocks until the server has stopped. The code is 0 after a stop by signal, 1 if the server could not start or
/// failed, and 2 for a wrong command line. The application is shared among threads with `-k threads`, hence the bounds;
/// one that is not `Send` can be served by [`Server::serve`].
///
/// ```no_run
/// fn main() -> greenserve::ExitCode {
///     greenserve::main(|_req: greenserve::Request| "Hello, World!")
/// }
/// ```
pub fn main(app: impl Handler + Send + Sync) -> ExitCode {
    main_with(app, ())
}

/// [`main()`] with hooks.
pub fn main_with(app: impl Handler + Send + Sync, hooks: impl Hooks) -> ExitCode {
    match command_line(false) {
        Ok(line) => run(&line, |_| Ok(app), hooks),
        Err(code) => code,
    }
}

/// The `greenserve` program: [`main()`] with the application named on the command line, `demo` or `static:DIR`.
pub fn program() -> ExitCode {
    let line = match command_line(true) {
        Ok(line) => line,
        Err(code) => return code,
    };
    match &line.app {
        App::Demo => run(&line, |config| Ok(Demo::new(config.worker_class)), ()),
        App::Static(dir) => run(&line, |_| StaticFiles::new(dir), ()),
    }
}

fn command_line(takes_app: bool) -> Result<CommandLine, ExitCode> {
    read_command_line(takes_app).map_err(|error| {
        error.print();
        ExitCode::from(error.exit_code())
    })
}

fn read_command_line(takes_app: bool) -> Result<CommandLine, UsageError> {
    let env = |name: &str| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
    CommandLine::parse(std::env::args_os(), env, |path| std::fs::read_to_string(path), takes_app)
}

/// Does what the command line asks for.
fn run<A: Handler + Send + Sync>(
    line: &CommandLine,
    app: impl FnOnce(&Config) -> io::Result<A>,
    hooks: impl Hooks,
) -> ExitCode {
    let done = match line.action {
        Action::PrintConfig => return print(&line.print_config()),
        Action::CheckConfig => check(&line.config, app),
        Action::Serve => start(line, app, Arc::new(hooks)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("Error: {failure}");
            match failure {
                Failure::Master(Halt::Boot(code)) => ExitCode::from(code),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

/// What can be found out without serving. Warnings go to standard error, whatever the error log is.
fn check<A>(config: &Config, app: impl FnOnce(&Config) -> io::Result<A>) -> Result<(), Failure> {
    if let Ok(sink) = Sink::stderr("error") {
        let _ = ErrorLog::new(sink, config.loglevel).install();
    }
    let done = app(config).map_err(Failure::App).and_then(|_| tls::load(config).map_err(Failure::Tls));
    log::logger().flush();
    done.map(drop)
}

/// To standard output, which may be a pipe that nobody reads any more.
fn print(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Serves, by itself or as a master, between the opening and the flushing of the logs.
fn start<A: Handler + Send + Sync>(
    line: &CommandLine,
    app: impl FnOnce(&Config) -> io::Result<A>,
    hooks: Arc<dyn Hooks>,
) -> Result<(), Failure> {
    let config = &line.config;
    let logs = Logs::open(config)?;
    log::info!("Starting greenserve {}", env!("CARGO_PKG_VERSION"));
    let done = app(config).map_err(Failure::App).and_then(|app| match config.workers {
        0 => serve(config, app, &logs),
        _ => keep_workers(line, app, &logs, hooks),
    });
    match &done {
        Ok(()) => log::info!("Shutting down"),
        // who started the program is told on standard error; that may have been somebody else than reads the log
        Err(failure) if config.errorlog != LogTarget::Standard => log::error!("{failure}"),
        Err(_) => {}
    }
    logs.flush();
    done
}

/// Serves in this process.
fn serve(config: &Config, app: impl Handler + Send + Sync, logs: &Logs) -> Result<(), Failure> {
    logs.start()?;
    limits::raise_open_files(config.worker_connections);
    let tls = tls::load(config).map_err(Failure::Tls)?;
    let server = set_up(listen(config).map_err(Failure::Bind)?, config, logs);
    let server = tls::speak(server, tls.as_ref());
    let handle = server.handle();
    let flush = logs.clone();
    let leave = move || {
        flush.flush();
        process::exit(0)
    };
    let on_stop = move |stop| match stop {
        Stop::Graceful => handle.stop(),
        Stop::Quick => {
            handle.stop();
            // a thread of its own, so that a second signal is heard meanwhile
            let leave = leave.clone();
            thread::spawn(move || {
                thread::sleep(QUICK);
                leave();
            });
        }
        Stop::Now => leave(),
    };
    let reload = tls.clone().map(|tls| move || tls::reload(&tls));
    signals::answer(on_stop, reload).map_err(Failure::Signals)?;
    tell_addresses(scheme(config, tls.as_ref()), server.local_addrs().iter());
    log::info!("Using worker: {}", config.worker_class);
    serve_as(config.worker_class, server, app).map_err(Failure::Serve)
}

fn serve_as(class: WorkerClass, server: Server, app: impl Handler + Send + Sync) -> io::Result<()> {
    match class {
        WorkerClass::Green => server.serve(app),
        WorkerClass::Threads => server.serve_threads(app),
    }
}

/// Runs a master, whose workers serve.
fn keep_workers<A: Handler + Send + Sync>(
    line: &CommandLine,
    app: A,
    logs: &Logs,
    hooks: Arc<dyn Hooks>,
) -> Result<(), Failure> {
    limits::raise_open_files(line.config.worker_connections);
    let tls = tls::load(&line.config).map_err(Failure::Tls)?;
    let scheme = scheme(&line.config, tls.as_ref());
    let program = Workers {
        app: Cell::new(Some(app)),
        tls: RefCell::new(tls),
        logs: logs.clone(),
        takes_app: line.takes_app,
    };
    let master = Master::new(line.config.clone(), Box::new(program), hooks).map_err(Failure::Master)?;
    tell_addresses(scheme, master.sockets());
    log::info!("Using worker: {}", line.config.worker_class);
    master.run().map_err(Failure::Master)
}

/// What the master has run: this server program.
struct Workers<A> {
    /// Each worker takes it, out of its own copy of the master.
    app: Cell<Option<A>>,
    /// Read in the master, which may read files that a worker may not.
    tls: RefCell<Option<TlsConfig>>,
    logs: Logs,
    takes_app: bool,
}

impl<A: Handler + Send + Sync> Program for Workers<A> {
    fn load(&self) -> Result<Config, String> {
        match read_command_line(self.takes_app) {
            Ok(line) if line.config.workers == 0 => Err("0 workers: a master has one at least".to_owned()),
            Ok(line) => {
                *self.tls.borrow_mut() = tls::load(&line.config).map_err(|error| error.to_string())?;
                Ok(line.config)
            }
            Err(error) => Err(error.to_string()),
        }
    }

    fn reopen_logs(&self, _: &Config) {
        self.logs.reopen();
    }

    fn serve(&self, worker: Worker) -> Result<(), String> {
        let app = self.app.take().ok_or("a worker serves once")?;
        let serve = || -> Result<(), Failure> {
            self.logs.start()?;
            let server = Server::on(worker.listeners).map_err(Failure::Serve)?;
            let server = tls::speak(server, self.tls.borrow().as_ref());
            let server = set_up(server, &worker.config, &self.logs).watch(Arc::new(worker.line.clone()));
            worker
                .line
                .attend(&worker.config, server.handle(), self.logs.clone())
                .map_err(Failure::Signals)?;
            worker.line.hooks().post_worker_init(worker.line.info());
            let hooked = Hooked { app, line: worker.line };
            serve_as(worker.config.worker_class, server, hooked).map_err(Failure::Serve)
        };
        serve().map_err(|failure| failure.to_string())
    }
}

fn tell_addresses<'a>(scheme: &str, addrs: impl Iterator<Item = &'a Addr>) {
    let addresses: Vec<String> = addrs.map(|addr| url(scheme, addr)).collect();
    log::info!("Listening at: {} ({})", addresses.join(","), process::id());
}

/// How long a quick stop lets requests in flight finish.
const QUICK: Duration = Duration::from_millis(200);

fn listen(config: &Config) -> io::Result<Server> {
    let mut addresses = config.bind.iter().map(ToString::to_string);
    // the parser of --bind gives at least one
    let first = addresses.next().ok_or(io::ErrorKind::InvalidInput)?;
    addresses.try_fold(Server::bind(first)?, Server::and_bind)?.backlog(config.backlog)
}

fn set_up(server: Server, config: &Config, logs: &Logs) -> Server {
    let server = match &logs.access {
        Some(access) => server.access_log(Arc::clone(access)),
        None => server,
    };
    server
        .protocol(config.protocol)
        .uwsgi_allow_ips(config.uwsgi_allow_ips.clone())
        .multiprocess(config.workers > 1)
        .worker_connections(config.worker_connections)
        .keep_alive(config.keepalive)
        .handshake_timeout(config.handshake_timeout.unwrap_or(FOR_EVER))
        .header_timeout(config.header_timeout.unwrap_or(FOR_EVER))
        .body_timeout(config.body_timeout.unwrap_or(FOR_EVER))
        .min_body_rate(config.min_body_rate.unwrap_or(0), config.min_body_rate_grace)
        .write_timeout(config.write_timeout.unwrap_or(FOR_EVER))
        .request_timeout(config.request_timeout)
        .cancel_on_disconnect(config.cancel_on_disconnect)
        .request_id_header(config.request_id_header.clone())
        .graceful_timeout(config.graceful_timeout)
        .blocked_threshold(config.blocked_threshold)
        .limits(Limits {
            request_line: config.limit_request_line,
            request_fields: config.limit_request_fields,
            request_field_size: config.limit_request_field_size,
            request_body: config.limit_request_body.unwrap_or(0),
            chunk_extensions: config.limit_chunk_extensions,
            trailers: config.limit_trailers,
        })
        .forwarded_allow_ips(config.forwarded_allow_ips.clone())
        .secure_scheme_headers(config.secure_scheme_headers.clone())
        .forwarder_headers(config.forwarder_headers.clone())
        .header_map(config.header_map)
        .proxy_protocol(config.proxy_protocol)
        .proxy_allow_ips(config.proxy_allow_ips.clone())
}

/// A time that the clock and the kernel's socket options can still be added to.
const FOR_EVER: Duration = Duration::from_secs(366 * 24 * 3600);

fn scheme(config: &Config, tls: Option<&TlsConfig>) -> &'static str {
    match (config.protocol, tls) {
        (Protocol::Uwsgi, _) => "uwsgi",
        (Protocol::Http, Some(_)) => "https",
        (Protocol::Http, None) => "http",
    }
}

fn url(scheme: &str, addr: &Addr) -> String {
    match addr {
        Addr::Inet(addr) => format!("{scheme}://{addr}"),
        Addr::Unix(_) => addr.to_string(),
    }
}

/// The application in a worker, between its hooks.
struct Hooked<A> {
    app: A,
    line: Line,
}

impl<A: Handler> Handler for Hooked<A> {
    fn call(&self, mut req: Request) -> Response {
        self.line.hooks().pre_request(self.line.info(), &mut req);
        let mut response = self.app.call(req);
        self.line.hooks().post_request(self.line.info(), &mut response);
        response
    }
}

/// The logs of the program, as far as they are ours.
#[derive(Clone)]
struct Logs {
    error: Arc<Sink>,
    access: Option<Arc<FormattedLog>>,
}

impl Logs {
    fn open(config: &Config) -> Result<Self, Failure> {
        let sink = match &config.errorlog {
            LogTarget::Standard => Sink::stderr("error"),
            LogTarget::File(path) => Sink::file("error", path),
        };
        let sink = sink.map_err(|error| Failure::Log("error", config.errorlog.clone(), error))?;
        let error = Arc::new(sink);
        // a program that has a logger of its own keeps it
        let _ = ErrorLog::new(Arc::clone(&error), config.loglevel).install();
        let Some(target) = &config.accesslog else { return Ok(Self { error, access: None }) };
        let sink = match target {
            LogTarget::Standard => Sink::stdout("access"),
            LogTarget::File(path) => Sink::file("access", path),
        };
        let sink = sink.map_err(|error| Failure::Log("access", target.clone(), error))?;
        let log = FormattedLog::new(sink, config.access_log_format.clone());
        Ok(Self { error, access: Some(Arc::new(log)) })
    }

    /// Has threads of their own write them from now on: a process that serves must not wait for a file.
    fn start(&self) -> Result<(), Failure> {
        let access = self.access.as_ref().map_or(Ok(()), |access| access.start());
        self.error.start().and(access).map_err(Failure::LogThread)
    }

    fn reopen(&self) {
        self.error.reopen();
        if let Some(access) = &self.access {
            access.reopen();
        }
    }

    fn flush(&self) {
        if let Some(access) = &self.access {
            access.flush(Duration::from_secs(2));
        }
        log::logger().flush();
    }
}

impl Errands for Logs {
    fn reopen_logs(&self) {
        self.reopen();
    }

    fn flush(&self) {
        Logs::flush(self);
    }
}

/// Why there is no server.
#[derive(Debug)]
enum Failure {
    App(io::Error),
    Log(&'static str, LogTarget, io::Error),
    Tls(io::Error),
    Bind(io::Error),
    LogThread(io::Error),
    Signals(io::Error),
    Master(Halt),
    Serve(io::Error),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::App(error) | Failure::Tls(error) => error.fmt(f),
            Failure::Log(what, LogTarget::File(path), error) => {
                write!(f, "cannot write the {what} log to {}: {error}", path.display())
            }
            Failure::Log(what, LogTarget::Standard, error) => {
                write!(f, "cannot start the {what} log: {error}")
            }
            Failure::Bind(error) | Failure::Master(Halt::Bind(error)) => {
                error.fmt(f)?;
                f.write_str(remedy(error.kind()))
            }
            Failure::LogThread(error) => write!(f, "cannot start the thread that writes the logs: {error}"),
            Failure::Master(halt) => halt.fmt(f),
            Failure::Signals(error) => write!(f, "cannot handle signals: {error}"),
            Failure::Serve(error) => write!(f, "the server failed: {error}"),
        }
    }
}

/// What to do about an address that can't be had.
fn remedy(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::AddrInUse => "; stop the server that is there, or choose another address with --bind",
        io::ErrorKind::PermissionDenied => {
            "; ports below 1024 are for privileged programs: choose another with --bind"
        }
        io::ErrorKind::AddrNotAvailable => {
            "; this machine does not have that address: choose another with --bind"
        }
        _ => "",
    }
}
