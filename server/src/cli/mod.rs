//! From a command line to a running server, and back to an exit code.
//!
//! This is where settings, logs, signals, the server and an application meet; each of them lives elsewhere and knows
//! nothing of the others.

mod ctl;
mod daemon;
mod failure;
mod limits;
mod logs;
mod signals;
mod tls;
mod workers;

use std::io::{self, IsTerminal as _, Write as _};
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::{self, ExitCode};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use self::daemon::Daemon;
use self::failure::Failure;
use self::logs::Logs;
use self::signals::Stop;
use self::tls::TlsConfig;
use self::workers::keep_workers;
use crate::arbiter::{self, Halt, Hooks, Identity, Notify, Start, with_umask};
use crate::config::{Action, App, Bind, CommandLine, Config, LogTarget, UsageError, WorkerClass};
use crate::demo::Demo;
use crate::files::StaticFiles;
use crate::http::Limits;
use crate::log::{ErrorLog, Sink};
use crate::metrics::{Board, Statsd};
use crate::serve::{Listener, Watch};
use crate::{Addr, Handler, Protocol, Server};

/// The whole command line of a server program, for an application of one's own.
///
/// With `ctl` as its first argument it tells a running server of this kind what to do, as `greenserve ctl` does. Else it
/// reads the flags, `GREENSERVE_CMD_ARGS`, `PORT` and `WEB_CONCURRENCY` as the `greenserve` program does, starts the
/// logs, listens, serves until SIGTERM (gracefully) or SIGINT and SIGQUIT (at once), and says how it went. If the
/// program has set up a logger of the `log` facade before, that one is used and `--error-logfile` is not.
///
/// Blocks until the server has stopped. The code is 0 after a stop by signal, 1 if the server could not start or
/// failed, and 2 for a wrong command line. The application is shared among threads with `--threads` and with `-k threads`,
/// hence the bounds; one that is not `Send` can be served by [`Server::serve`].
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
    if let Some(code) = control(false) {
        return code;
    }
    match command_line(false) {
        Ok((start, line)) => run(start, &line, |_| Ok(app), hooks),
        Err(code) => code,
    }
}

/// The `greenserve` program: [`main()`] with the application named on the command line, `demo` or `static:DIR`.
pub fn program() -> ExitCode {
    if let Some(code) = control(true) {
        return code;
    }
    let (start, line) = match command_line(true) {
        Ok(both) => both,
        Err(code) => return code,
    };
    match &line.app {
        App::Demo => run(start, &line, |config| Ok(Demo::new(config.worker_class)), ()),
        App::Static(dir) => run(start, &line, |_| StaticFiles::new(dir), ()),
    }
}

/// `PROGRAM ctl ...`: nothing is served then.
fn control(takes_app: bool) -> Option<ExitCode> {
    let mut args = std::env::args_os();
    let program = args.next().map(std::path::PathBuf::from).unwrap_or_default();
    if args.next()? != ctl::NAME {
        return None;
    }
    let name = program.file_name().map_or("greenserve".into(), |name| name.to_string_lossy().into_owned());
    // Settings that are wrong are told of by who serves; perhaps that is what an operator is here for.
    let settings = || {
        let mut start = Start::of_this_program().ok()?;
        start.args.truncate(1);
        read_command_line(&start, takes_app).ok()?.config.control_socket
    };
    Some(ctl::run(&name, args, settings))
}

fn command_line(takes_app: bool) -> Result<(Start, CommandLine), ExitCode> {
    let start = Start::of_this_program().map_err(|error| {
        eprintln!("Error: can't tell how the program was started: {error}");
        ExitCode::FAILURE
    })?;
    match read_command_line(&start, takes_app) {
        Ok(line) => Ok((start, line)),
        Err(error) => {
            error.print();
            Err(ExitCode::from(error.exit_code()))
        }
    }
}

/// The settings file is looked for where the program was started, and variables are those of then, whatever has been changed since.
fn read_command_line(start: &Start, takes_app: bool) -> Result<CommandLine, UsageError> {
    let env = |name: &str| start.var(name).map(|value| value.to_string_lossy().into_owned());
    let read = |path: &Path| std::fs::read_to_string(start.dir.join(path));
    CommandLine::parse(start.args.iter().cloned(), env, read, takes_app)
}

/// Does what the command line asks for.
fn run<A: Handler + Send + Sync>(
    start: Start,
    line: &CommandLine,
    app: impl FnOnce(&Config) -> io::Result<A>,
    hooks: impl Hooks,
) -> ExitCode {
    let mut daemon = Daemon::none();
    let done = match line.action {
        Action::PrintConfig => return print(line.print_config().as_bytes()),
        Action::Man => return print(&line.man()),
        Action::Completions(shell) => return print(&line.completions(shell)),
        Action::CheckConfig => check(&line.config, app),
        // A new master beside an old one is where it should be.
        Action::Serve if line.config.daemon && !start.is_upgrade() => {
            match Daemon::leave(line.config.enable_stdio_inheritance) {
                Ok(left) => {
                    daemon = left;
                    serve_all(start, line, app, Arc::new(hooks), &daemon)
                }
                Err(error) => Err(Failure::Process("can't go into the background", error)),
            }
        }
        Action::Serve => serve_all(start, line, app, Arc::new(hooks), &daemon),
    };
    let code = match done {
        Ok(()) => 0,
        Err(failure) => {
            // Whoever reads this may have gone.
            let _ = writeln!(io::stderr(), "Error: {failure}");
            match failure {
                Failure::Master(Halt::Boot(code)) => code,
                _ => 1,
            }
        }
    };
    daemon.end(code);
    ExitCode::from(code)
}

/// The folder and the environment that the application is to find.
fn settle(config: &Config) -> Result<(), Failure> {
    if let Some(dir) = &config.chdir {
        std::env::set_current_dir(dir).map_err(|error| Failure::Folder(dir.clone(), error))?;
    }
    for (name, value) in &config.raw_env.0 {
        greenlet::process::set_env(name, Some(value))
            .map_err(|error| Failure::Process("can't set a variable of --env", error))?;
    }
    Ok(())
}

/// What can be found out without serving. Warnings go to standard error, whatever the error log is.
fn check<A>(config: &Config, app: impl FnOnce(&Config) -> io::Result<A>) -> Result<(), Failure> {
    if let Ok(sink) = Sink::stderr("error") {
        let _ = Arc::new(ErrorLog::new(sink, config.loglevel)).install();
    }
    let done = settle(config)
        .and_then(|()| Identity::of(config).map_err(Failure::Identity))
        .and_then(|_| app(config).map_err(Failure::App))
        .and_then(|_| tls::load(config).map_err(Failure::Tls));
    log::logger().flush();
    done.map(drop)
}

/// To standard output, which may be a pipe that nobody reads any more.
fn print(text: &[u8]) -> ExitCode {
    match io::stdout().write_all(text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Serves, by itself or as a master, between the opening and the flushing of the logs.
fn serve_all<A: Handler + Send + Sync>(
    start: Start,
    line: &CommandLine,
    app: impl FnOnce(&Config) -> io::Result<A>,
    hooks: Arc<dyn Hooks>,
    daemon: &Daemon,
) -> Result<(), Failure> {
    let config = &line.config;
    settle(config)?;
    let identity = Identity::of(config).map_err(Failure::Identity)?;
    let mut logs = Logs::open(config)?;
    logs.install();
    crate::log::log_panics();
    logs.give_to(identity.as_ref());
    let keeps_stderr = config.enable_stdio_inheritance && !io::stderr().is_terminal();
    if config.daemon && config.errorlog == LogTarget::Standard && !keeps_stderr {
        log::warn!("--daemon without an --error-logfile: nothing is logged once the terminal is left");
    }
    log::info!("Starting greenserve {}", env!("CARGO_PKG_VERSION"));
    let done = app(config).map_err(Failure::App).and_then(|app| match config.workers {
        0 => serve(line, app, &logs, identity.as_ref(), daemon),
        _ => keep_workers(start, line, app, &logs, hooks, daemon),
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
fn serve(
    line: &CommandLine,
    app: impl Handler + Send + Sync,
    logs: &Logs,
    identity: Option<&Identity>,
    daemon: &Daemon,
) -> Result<(), Failure> {
    let config = &line.config;
    limits::raise_open_files(config.worker_connections);
    let tls = tls::load(config).map_err(Failure::Tls)?;
    let server = with_umask(config.umask, || listen(config)).map_err(Failure::Bind)?;
    for addr in server.local_addrs().iter() {
        if let (Addr::Unix(Some(path)), Some(identity)) = (addr, identity)
            // What somebody else has opened is not ours to give.
            && config.bind.contains(&Bind::Unix(path.clone()))
        {
            identity
                .own_socket(path)
                .map_err(|error| Failure::Process("can't give the sockets to --user", error))?;
        }
    }
    if let Some(name) = &config.proc_name {
        name_process(&format!("greenserve: {name}"), config);
    }
    // What is left to be done has to do with threads, and needs nothing of root's.
    if let Some(identity) = identity {
        identity.assume().map_err(Failure::Identity)?;
    }
    daemon.ready().map_err(|error| Failure::Process("can't leave the terminal", error))?;
    logs.start()?;
    let server = set_up(server, config, logs);
    let mut metrics = config.metrics_bind.iter().map(ToString::to_string);
    let server = metrics.try_fold(server, Server::metrics_bind).map_err(Failure::Bind)?;
    let server = statsd(server, config);
    let mut server = tls::speak(server, tls.as_ref());
    let manager = Arc::new(Manager(Notify::new()));
    if manager.0.is_heard() {
        server = server.watch(Arc::clone(&manager) as Arc<_>);
    }
    let handle = server.handle();
    let flush = logs.clone();
    let leave = move || {
        flush.flush();
        process::exit(0)
    };
    let drain_delay = config.drain_delay;
    let on_stop = move |stop| match stop {
        // threads of their own, so that a second signal is heard meanwhile
        Stop::Graceful if !drain_delay.is_zero() => {
            manager.0.stopping();
            handle.set_ready(false);
            let handle = handle.clone();
            thread::spawn(move || {
                thread::sleep(drain_delay);
                handle.stop();
            });
        }
        Stop::Graceful => {
            manager.0.stopping();
            handle.stop();
        }
        Stop::Quick => {
            manager.0.stopping();
            handle.quit();
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
    let metrics: Vec<String> = server.metrics_addrs().iter().map(ToString::to_string).collect();
    if !metrics.is_empty() {
        log::info!("Metrics at: {}", metrics.join(","));
    }
    log::info!("Using worker: {}", config.worker_class);
    serve_as(config.worker_class, server, app).map_err(Failure::Serve)
}

/// The service manager, as it is told of a server without a master.
struct Manager(Notify);

impl Watch for Manager {
    fn accepts(&self) {
        self.0.ready("this process serves");
    }

    fn turns(&self) {
        if self.0.watchdog.is_some() {
            self.0.alive();
        }
    }
}

fn serve_as(class: WorkerClass, server: Server, app: impl Handler + Send + Sync) -> io::Result<()> {
    match class {
        WorkerClass::Green => server.serve_hubs(app),
        WorkerClass::Threads => server.serve_threads(app),
        WorkerClass::Sync => server.serve_sync(app),
    }
}

/// What `ps` shows. With a --name it is also that of the first thread, which `top` shows and `killall` goes by.
fn name_process(title: &str, config: &Config) {
    if let Err(error) = greenlet::process::set_title(title) {
        log::debug!("can't name this process {title:?}: {error}");
    }
    if let Some(name) = &config.proc_name
        && let Ok(name) = std::ffi::CString::new(name.as_str())
        && let Err(error) = rustix::thread::set_name(&name)
    {
        log::debug!("can't name this thread {name:?}: {error}");
    }
}

fn tell_addresses<'a>(scheme: &str, addrs: impl Iterator<Item = &'a Addr>) {
    let addresses: Vec<String> = addrs.map(|addr| url(scheme, addr)).collect();
    log::info!("Listening at: {} ({})", addresses.join(","), process::id());
}

/// After how long a quick stop is not waited for: a request computes, or blocks its thread.
const QUICK: Duration = Duration::from_millis(1500);

fn listen(config: &Config) -> io::Result<Server> {
    Server::on(arbiter::listeners(config)?)?.backlog(config.backlog)
}

fn set_up(server: Server, config: &Config, logs: &Logs) -> Server {
    let server = match logs.access() {
        Some(access) => server.access_log(Arc::clone(access)),
        None => server,
    };
    server
        .protocol(config.protocol)
        .uwsgi_allow_ips(config.uwsgi_allow_ips.clone())
        .multiprocess(config.workers > 1)
        .worker_connections(config.worker_connections)
        .threads(config.threads.and_then(NonZeroUsize::new))
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

/// Counts what a worker does, if somebody wants to know.
fn count(server: Server, config: &Config, (board, place): (Board, usize), metrics: Vec<Listener>) -> Server {
    match config.statsd_host.is_some() || !metrics.is_empty() {
        true => statsd(server, config).count_on(board, place).metrics_on(metrics),
        false => server,
    }
}

/// Sends to StatsD as the settings say. A server that can't is one all the same.
fn statsd(server: Server, config: &Config) -> Server {
    let Some(host) = &config.statsd_host else { return server };
    match Statsd::new(host, &config.statsd_prefix, &config.dogstatsd_tags) {
        Ok(statsd) => server.send_to(statsd),
        Err(error) => {
            log::warn!("{error}");
            server
        }
    }
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
