//! From a command line to a running server, and back to an exit code.
//!
//! This is where settings, logs, signals, the server and an application meet; each of them lives elsewhere and knows
//! nothing of the others.

mod limits;
mod signals;

use std::fmt;
use std::io::{self, Write as _};
use std::process::{self, ExitCode};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use self::signals::Stop;
use crate::config::{Action, App, CommandLine, Config, LogTarget, WorkerClass};
use crate::demo::Demo;
use crate::files::StaticFiles;
use crate::http::Limits;
use crate::log::{ErrorLog, FormattedLog, Sink};
use crate::{Addr, Handler, Server};

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
    match command_line(false) {
        Ok(line) => run(&line, |_| Ok(app)),
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
        App::Demo => run(&line, |config| Ok(Demo::new(config.worker_class))),
        App::Static(dir) => run(&line, |_| StaticFiles::new(dir)),
    }
}

fn command_line(takes_app: bool) -> Result<CommandLine, ExitCode> {
    let env = |name: &str| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
    CommandLine::parse(std::env::args_os(), env, takes_app).map_err(|error| {
        error.print();
        ExitCode::from(error.exit_code())
    })
}

/// Does what the command line asks for.
fn run<A: Handler + Send + Sync>(line: &CommandLine, app: impl FnOnce(&Config) -> io::Result<A>) -> ExitCode {
    let done = match line.action {
        Action::PrintConfig => return print(&line.print_config()),
        Action::CheckConfig => app(&line.config).map(drop).map_err(Failure::App),
        Action::Serve => start(&line.config, app),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("Error: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// To standard output, which may be a pipe that nobody reads any more.
fn print(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Serves between the opening and the flushing of the logs.
fn start<A: Handler + Send + Sync>(
    config: &Config,
    app: impl FnOnce(&Config) -> io::Result<A>,
) -> Result<(), Failure> {
    let logs = Logs::open(config)?;
    let done = app(config).map_err(Failure::App).and_then(|app| serve(config, app, &logs));
    match &done {
        Ok(()) => log::info!("Shutting down"),
        // who started the program is told on standard error; that may have been somebody else than reads the log
        Err(failure) if config.errorlog != LogTarget::Standard => log::error!("{failure}"),
        Err(_) => {}
    }
    logs.flush();
    done
}

fn serve(config: &Config, app: impl Handler + Send + Sync, logs: &Logs) -> Result<(), Failure> {
    log::info!("Starting greenserve {}", env!("CARGO_PKG_VERSION"));
    if config.workers > 1 {
        log::warn!("--workers {} was asked for, but this version serves with one process", config.workers);
    }
    limits::raise_open_files(config.worker_connections);

    let server = listen(config).map_err(Failure::Bind)?;
    let mut server = set_up(server, config);
    if let Some(access) = &logs.access {
        server = server.access_log(Arc::clone(access));
    }
    let handle = server.handle();
    let flush = logs.clone();
    let leave = move || {
        flush.flush();
        process::exit(0)
    };
    signals::on_stop(move |stop| match stop {
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
    })
    .map_err(Failure::Signals)?;

    let addresses: Vec<String> = server.local_addrs().iter().map(url).collect();
    log::info!("Listening at: {} ({})", addresses.join(","), process::id());
    match config.worker_class {
        WorkerClass::Green => {
            log::info!("Using worker: green");
            server.serve(app)
        }
        WorkerClass::Threads => {
            log::info!("Using worker: threads");
            server.serve_threads(app)
        }
    }
    .map_err(Failure::Serve)
}

/// How long a quick stop lets requests in flight finish.
const QUICK: Duration = Duration::from_millis(200);

fn listen(config: &Config) -> io::Result<Server> {
    let mut addresses = config.bind.iter().map(ToString::to_string);
    // the parser of --bind gives at least one
    let first = addresses.next().ok_or(io::ErrorKind::InvalidInput)?;
    addresses.try_fold(Server::bind(first)?, Server::and_bind)?.backlog(config.backlog)
}

fn set_up(server: Server, config: &Config) -> Server {
    server
        .worker_connections(config.worker_connections)
        .keep_alive(config.keepalive)
        .header_timeout(config.header_timeout.unwrap_or(FOR_EVER))
        .body_timeout(config.body_timeout.unwrap_or(FOR_EVER))
        .min_body_rate(config.min_body_rate.unwrap_or(0), config.min_body_rate_grace)
        .write_timeout(config.write_timeout.unwrap_or(FOR_EVER))
        .request_timeout(config.request_timeout)
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
}

/// A time that the clock and the kernel's socket options can still be added to.
const FOR_EVER: Duration = Duration::from_secs(366 * 24 * 3600);

fn url(addr: &Addr) -> String {
    match addr {
        Addr::Inet(addr) => format!("http://{addr}"),
        Addr::Unix(_) => addr.to_string(),
    }
}

/// The logs of the program, as far as they are ours.
#[derive(Clone)]
struct Logs {
    access: Option<Arc<FormattedLog>>,
}

impl Logs {
    fn open(config: &Config) -> Result<Self, Failure> {
        let sink = match &config.errorlog {
            LogTarget::Standard => Sink::stderr("error"),
            LogTarget::File(path) => Sink::file("error", path),
        };
        let sink = sink.map_err(|error| Failure::Log("error", config.errorlog.clone(), error))?;
        // a program that has a logger of its own keeps it
        let _ = ErrorLog::new(sink, config.loglevel).install();
        let Some(target) = &config.accesslog else { return Ok(Self { access: None }) };
        let sink = match target {
            LogTarget::Standard => Sink::stdout("access"),
            LogTarget::File(path) => Sink::file("access", path),
        };
        let sink = sink.map_err(|error| Failure::Log("access", target.clone(), error))?;
        let log = FormattedLog::new(sink, config.access_log_format.clone());
        Ok(Self { access: Some(Arc::new(log)) })
    }

    fn flush(&self) {
        if let Some(access) = &self.access {
            access.flush(Duration::from_secs(2));
        }
        log::logger().flush();
    }
}

/// Why there is no server.
#[derive(Debug)]
enum Failure {
    App(io::Error),
    Log(&'static str, LogTarget, io::Error),
    Bind(io::Error),
    Signals(io::Error),
    Serve(io::Error),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::App(error) => error.fmt(f),
            Failure::Log(what, LogTarget::File(path), error) => {
                write!(f, "cannot write the {what} log to {}: {error}", path.display())
            }
            Failure::Log(what, LogTarget::Standard, error) => {
                write!(f, "cannot start the {what} log: {error}")
            }
            Failure::Bind(error) => {
                error.fmt(f)?;
                match error.kind() {
                    io::ErrorKind::AddrInUse => {
                        f.write_str("; stop the server that is there, or choose another address with --bind")
                    }
                    io::ErrorKind::PermissionDenied => f.write_str(
                        "; ports below 1024 are for privileged programs: choose another with --bind",
                    ),
                    io::ErrorKind::AddrNotAvailable => {
                        f.write_str("; this machine does not have that address: choose another with --bind")
                    }
                    _ => Ok(()),
                }
            }
            Failure::Signals(error) => write!(f, "cannot handle signals: {error}"),
            Failure::Serve(error) => write!(f, "the server failed: {error}"),
        }
    }
}
