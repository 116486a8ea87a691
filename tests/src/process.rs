//! The real `greenserve` binary as a child process.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use command_fds::{CommandFdExt, FdMapping};

use crate::sys::{Proc, raise_open_files_limit, send_signal, try_send_signal};
use crate::{Client, PATIENCE, Response, eventually, eventually_some};

/// The `greenserve` executable.
#[derive(Debug)]
pub struct Binary;

impl Binary {
    /// The path of the executable, built on the first call in a process, in the profile of the test itself.
    ///
    /// # Panics
    /// When it does not build; cargo's messages are then on standard error.
    pub fn path() -> &'static Path {
        static PATH: OnceLock<PathBuf> = OnceLock::new();
        PATH.get_or_init(build)
    }

    /// A command for the executable, with no input and none of the environment's settings for it.
    pub fn command() -> Command {
        command_for(Binary::path())
    }

    /// Runs it with these arguments to its end and returns all it said.
    ///
    /// # Panics
    /// When it does not end within [`PATIENCE`].
    pub fn run(args: &[&str]) -> Output {
        let mut command = Binary::command();
        command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = Reaped(command.spawn().expect("the greenserve binary starts"));
        let stdout = Capture::of(child.0.stdout.take());
        let stderr = Capture::of(child.0.stderr.take());
        let status = wait_for_exit(&mut child.0, PATIENCE).unwrap_or_else(|| {
            panic!("greenserve {args:?} still runs after {PATIENCE:?}:\n{}", stderr.text())
        });
        eventually(PATIENCE, || stdout.ended() && stderr.ended());
        Output { status, stdout: stdout.text().into_bytes(), stderr: stderr.text().into_bytes() }
    }
}

/// How a [`ServerProcess`] is to be started.
#[derive(Debug)]
pub struct ServerBuilder {
    program: Option<PathBuf>,
    args: Vec<OsString>,
    envs: Vec<(OsString, OsString)>,
    binds: Vec<String>,
    log: Option<PathBuf>,
    workers: bool,
    bound: bool,
    before: Option<String>,
    passed: Vec<OwnedFd>,
}

impl ServerBuilder {
    /// Starts this executable, which has the same command line, instead of `greenserve`.
    pub fn program(mut self, path: impl Into<PathBuf>) -> Self {
        self.program = Some(path.into());
        self
    }

    /// Adds arguments.
    pub fn args<I: IntoIterator<Item = S>, S: Into<OsString>>(mut self, args: I) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets a variable of the environment.
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.envs.push((name.into(), value.into()));
        self
    }

    /// Binds there, once or several times, instead of to a free port of 127.0.0.1.
    pub fn bind(mut self, address: impl Into<String>) -> Self {
        self.binds.push(address.into());
        self
    }

    /// Its error log is this file, not standard error: where it listens stands there.
    pub fn listening_in(mut self, log: impl Into<PathBuf>) -> Self {
        self.log = Some(log.into());
        self
    }

    /// Starts it by way of a shell, which says this first and then becomes the server.
    pub fn after(mut self, words: impl Into<String>) -> Self {
        self.before = Some(words.into());
        self
    }

    /// Has these sockets open in the server, from descriptor 3 on.
    pub fn passing(mut self, sockets: impl IntoIterator<Item = OwnedFd>) -> Self {
        self.passed.extend(sockets);
        self
    }

    /// Says nothing of the number of workers: the settings file does.
    pub fn without_worker_count(mut self) -> Self {
        self.workers = false;
        self
    }

    /// Binds where the settings file says, and not to a free port.
    pub fn bind_by_settings(mut self) -> Self {
        self.bound = false;
        self
    }

    /// Starts the server and waits until it listens.
    ///
    /// # Panics
    /// When it ends, or says nothing of listening, within [`PATIENCE`]; the message holds its log.
    pub fn start(mut self) -> ServerProcess {
        if self.binds.is_empty() && self.bound {
            self.binds.push("127.0.0.1:0".to_owned());
        }
        let program = self.program.as_deref().unwrap_or_else(|| Binary::path());
        let mut command = match &self.before {
            None => command_for(program),
            Some(words) => {
                let mut shell = command_for(Path::new("sh"));
                shell.arg("-c").arg(format!("{words}; exec \"$0\" \"$@\"")).arg(program);
                shell
            }
        };
        let passed = (3..).zip(self.passed).map(|(child_fd, parent_fd)| FdMapping { parent_fd, child_fd });
        command.fd_mappings(passed.collect()).expect("each number once");
        if self.workers {
            // One process unless the test wants a master: what is asked of the process is then asked of the one that serves.
            command.arg("--workers=0");
        }
        command.args(&self.args).envs(self.envs).stdout(Stdio::piped()).stderr(Stdio::piped());
        for bind in &self.binds {
            command.args(["--bind", bind]);
        }
        let mut child = Reaped(command.spawn().expect("the server's binary starts"));
        let stdout = Capture::of(child.0.stdout.take());
        let stderr = Capture::of(child.0.stderr.take());
        let start = Instant::now();
        let listening = loop {
            let log = self.log.as_ref().map(|path| fs::read_to_string(path).unwrap_or_default());
            let listening = listening_at(&log.unwrap_or_else(|| stderr.text()));
            if listening.len() >= self.binds.len().max(1) {
                break listening;
            }
            let ended = child.0.try_wait().expect("a child's status");
            if ended.is_some() || start.elapsed() > PATIENCE {
                panic!("greenserve does not listen ({ended:?}):\n{}", stderr.text());
            }
            thread::sleep(Duration::from_millis(5));
        };
        ServerProcess { child, listening, stdout, stderr }
    }
}

/// A running server. Dropping it stops it: SIGTERM, then SIGKILL if that does not help within a few seconds.
#[derive(Debug)]
pub struct ServerProcess {
    child: Reaped,
    listening: Vec<String>,
    stdout: Capture,
    stderr: Capture,
}

impl ServerProcess {
    /// Starts the server on a free port of 127.0.0.1 with these further arguments.
    ///
    /// # Panics
    /// As [`ServerBuilder::start`].
    pub fn start<'a>(args: impl IntoIterator<Item = &'a str>) -> ServerProcess {
        ServerProcess::builder().args(args).start()
    }

    /// For more than arguments: addresses to bind, an environment.
    pub fn builder() -> ServerBuilder {
        ServerBuilder {
            program: None,
            args: Vec::new(),
            envs: Vec::new(),
            binds: Vec::new(),
            log: None,
            workers: true,
            bound: true,
            before: None,
            passed: Vec::new(),
        }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.0.id()
    }

    /// What `/proc` says about the process.
    pub fn proc(&self) -> Proc {
        Proc::new(self.pid())
    }

    /// The processes it has started and not waited for: a master's workers, and the master that follows it.
    pub fn children(&self) -> Vec<u32> {
        children_of(self.pid())
    }

    /// Waits until it has so many workers and all of them serve, and returns their process ids.
    #[track_caller]
    pub fn wait_for_workers(&self, count: usize) -> Vec<u32> {
        self.wait_for_log(&format!("All {count} workers are ready"));
        eventually_some(PATIENCE, || Some(self.children()).filter(|children| children.len() == count))
    }

    /// Where it listens, in the words of its log: `http://127.0.0.1:8000`, `https://…`, `unix:/run/app.sock`.
    pub fn listening(&self) -> &[String] {
        &self.listening
    }

    /// The first TCP address.
    ///
    /// # Panics
    /// When it listens on unix sockets only.
    pub fn addr(&self) -> SocketAddr {
        let addr = self.listening.iter().find_map(|at| at.split_once("://")?.1.parse().ok());
        addr.unwrap_or_else(|| panic!("no TCP address in {:?}", self.listening))
    }

    /// A new connection to [`ServerProcess::addr`].
    pub fn connect(&self) -> Client {
        Client::tcp(self.addr())
    }

    /// A GET for `target` on a connection of its own.
    #[track_caller]
    pub fn get(&self, target: &str) -> Response {
        self.connect().get(target)
    }

    /// Sends `bytes` on a connection of their own and reads one response.
    #[track_caller]
    pub fn answer_to(&self, bytes: impl AsRef<[u8]>) -> Response {
        let mut client = self.connect();
        client.send(bytes);
        client.response()
    }

    /// What it has written to standard error up to now: the error log.
    pub fn log(&self) -> String {
        self.stderr.text()
    }

    /// What it has written to standard output up to now.
    pub fn output(&self) -> String {
        self.stdout.text()
    }

    /// Waits for the first line of the log that holds `text`, and returns the line.
    #[track_caller]
    pub fn wait_for_log(&self, text: &str) -> String {
        eventually_some(PATIENCE, || self.log().lines().find(|line| line.contains(text)).map(str::to_owned))
    }

    /// Waits for the first line of standard output that holds `text`, and returns the line.
    #[track_caller]
    pub fn wait_for_output(&self, text: &str) -> String {
        eventually_some(PATIENCE, || {
            self.output().lines().find(|line| line.contains(text)).map(str::to_owned)
        })
    }

    /// Sends a signal.
    pub fn signal(&self, signal: i32) {
        send_signal(self.pid(), signal);
    }

    /// Waits until the process has ended.
    ///
    /// # Panics
    /// When it still runs after [`PATIENCE`].
    #[track_caller]
    pub fn wait_exit(&mut self) -> ExitStatus {
        let status = wait_for_exit(&mut self.child.0, PATIENCE);
        let status = status.unwrap_or_else(|| panic!("the server still runs:\n{}", self.log()));
        eventually(PATIENCE, || self.stdout.ended() && self.stderr.ended());
        status
    }

    /// Whether the process runs still.
    pub fn is_running(&mut self) -> bool {
        self.child.0.try_wait().expect("a child's status").is_none()
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // no point in grace when the test is over, but SIGTERM lets it remove its unix sockets
        let _ = try_send_signal(self.pid(), libc::SIGTERM);
        let _ = wait_for_exit(&mut self.child.0, Duration::from_secs(1));
        if thread::panicking() {
            eprintln!("--- the server's log\n{}---", self.log());
        }
    }
}

/// A child that cannot outlive its owner.
#[derive(Debug)]
struct Reaped(Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// All that comes out of a pipe, collected by a thread.
#[derive(Debug)]
struct Capture(Arc<Mutex<(Vec<u8>, bool)>>);

impl Capture {
    fn of(pipe: Option<impl Read + Send + 'static>) -> Capture {
        let shared = Arc::new(Mutex::new((Vec::new(), false)));
        let capture = Capture(Arc::clone(&shared));
        let mut pipe = pipe.expect("a piped child");
        thread::spawn(move || {
            let mut piece = [0; 16 * 1024];
            while let Ok(n @ 1..) = pipe.read(&mut piece) {
                shared.lock().expect("the capture").0.extend_from_slice(&piece[..n]);
            }
            shared.lock().expect("the capture").1 = true;
        });
        capture
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().expect("the capture").0).into_owned()
    }

    fn ended(&self) -> bool {
        self.0.lock().expect("the capture").1
    }
}

/// The addresses in the log's line `Listening at: http://127.0.0.1:8000,unix:/a (4711)`, gunicorn's form.
fn listening_at(log: &str) -> Vec<String> {
    log.lines()
        .filter_map(|line| line.split_once("Listening at: "))
        .filter_map(|(_, rest)| rest.rsplit_once(" ("))
        .flat_map(|(addresses, _)| addresses.split(','))
        .map(|address| address.trim().to_owned())
        .collect()
}

/// The living children of a process; none if it has ended.
pub fn children_of(pid: u32) -> Vec<u32> {
    let listed = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    listed.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

fn wait_for_exit(child: &mut Child, deadline: Duration) -> Option<ExitStatus> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("a child's status") {
            return Some(status);
        }
        if start.elapsed() > deadline {
            return None;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn command_for(program: &Path) -> Command {
    // A test may hold a thousand connections, and many tests run in one process.
    raise_open_files_limit();
    let mut command = Command::new(program);
    command.stdin(Stdio::null());
    // Without the last two there is no control socket unless a test says where.
    for name in [
        "PORT",
        "WEB_CONCURRENCY",
        "FORWARDED_ALLOW_IPS",
        "NOTIFY_SOCKET",
        "LISTEN_FDS",
        "LISTEN_PID",
        "XDG_RUNTIME_DIR",
        "HOME",
    ] {
        command.env_remove(name);
    }
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("GREENSERVE_") {
            command.env_remove(name);
        }
    }
    command
}

/// Builds the binary with the cargo that runs the tests and asks that cargo where it lies.
fn build() -> PathBuf {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--package", "greenserve", "--bin", "greenserve", "--message-format", "json"]);
    // as cargo says it now: the one of the build may be another checkout that shared its target directory
    let here = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    command.args(["--profile", &profile()]).current_dir(here);
    // What cargo tells the test of its package; build scripts that look at it would run again, here and in the next build.
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_"].iter().any(|begin| name.starts_with(begin)) {
            command.env_remove(&*name);
        }
    }
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("cargo starts");
    let messages = BufReader::new(child.stdout.take().expect("a piped child"));
    let path = messages
        .lines()
        .map_while(Result::ok)
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(&line).ok())
        .filter_map(|message| message["executable"].as_str().map(PathBuf::from))
        .last();
    let status = child.wait().expect("cargo's status");
    assert!(status.success(), "greenserve does not build: {status}");
    path.expect("cargo names the executable")
}

/// The profile of the test, by the folder it lies in: `target/debug/deps/test-0123`.
fn profile() -> String {
    let test = env::current_exe().expect("the test's own path");
    let folder =
        test.ancestors().nth(2).and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    match folder.as_deref() {
        None | Some("debug") => "dev".to_owned(),
        Some(other) => other.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_from_gunicorns_log_line() {
        let log = "[2026-11-21 07:00:00 +0000] [7] [INFO] Starting\n\
            [2026-11-21 07:00:00 +0000] [7] [INFO] Listening at: http://127.0.0.1:8000,unix:/a b (7)\n";
        assert_eq!(listening_at(log), ["http://127.0.0.1:8000", "unix:/a b"]);
        assert!(listening_at("Listening at: http://127.0.0.1:80").is_empty(), "half a line is no answer yet");
    }
}
