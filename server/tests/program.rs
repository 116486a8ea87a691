//! The `greenserve` program from outside: flags, banner, signals, logs, exit codes.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// No wait in here takes longer.
const DEADLINE: Duration = Duration::from_secs(30);

#[test]
fn port_0_is_announced_as_the_port_it_became_and_sigterm_is_a_success() {
    let mut server = Server::start(&["-b", "127.0.0.1:0"]);
    assert_ne!(server.port(), 0);
    assert!(server.get("/plaintext").ends_with("\r\n\r\nHello, World!"));
    server.signal(Signal::TERM);
    assert_eq!(server.end().code(), Some(0));
}

#[test]
fn sigterm_lets_a_request_in_flight_finish() {
    let mut server = Server::start(&["-b", "127.0.0.1:0"]);
    let mut slow = server.send("/stream?n=3&delay_ms=300");
    let mut first = [0; 1];
    slow.read_exact(&mut first).unwrap();
    server.signal(Signal::TERM);
    let mut rest = String::new();
    slow.read_to_string(&mut rest).unwrap();
    assert!(rest.ends_with("\r\n0\r\n\r\n"), "{rest}");
    assert_eq!(server.end().code(), Some(0));
}

#[test]
fn sigint_does_not_wait_for_requests() {
    for class in ["green", "threads"] {
        let mut server = Server::start(&["-b", "127.0.0.1:0", "-k", class]);
        let mut slow = server.send("/stream?n=1000&delay_ms=1000");
        slow.read_exact(&mut [0]).unwrap();
        server.signal(Signal::INT);
        assert_eq!(server.end().code(), Some(0), "{class}");
    }
}

#[test]
fn a_signal_is_heard_though_a_handler_blocks_the_hub() {
    let mut server = Server::start(&["-b", "127.0.0.1:0"]);
    let _blocking = server.send("/block?ms=600000");
    thread::sleep(Duration::from_millis(100)); // for the handler to begin; the rule holds either way
    server.signal(Signal::INT);
    assert_eq!(server.end().code(), Some(0));
}

#[test]
fn threads_serve_the_same_application() {
    let server = Server::start(&["-k", "threads", "-b", "127.0.0.1:0"]);
    let answer = server.get("/whoami");
    assert!(answer.contains("\"greenlet\":null"), "{answer}");
    assert!(server.get("/sleep?ms=1").ends_with("slept for 1 ms\n"));
}

#[test]
fn whoami_tells_the_green_thread_and_the_process() {
    let server = Server::start(&["-b", "127.0.0.1:0"]);
    let answer = server.get("/whoami");
    assert!(answer.contains("\"greenlet\":{\"id\":"), "{answer}");
    assert!(answer.contains(&format!("\"pid\":{}", server.child.id())), "{answer}");
}

#[test]
fn several_addresses_are_served() {
    let folder = Folder::new("several");
    let socket = folder.0.join("a.sock");
    let bind = format!("unix:{}", socket.display());
    let mut server = Server::start(&["-b", "127.0.0.1:0", "-b", &bind]);
    assert!(server.banner.contains(&bind), "{}", server.banner);
    assert!(server.get("/plaintext").ends_with("Hello, World!"));
    let mut stream = UnixStream::connect(&socket).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let answer = exchange(&mut stream, "/plaintext");
    assert!(answer.ends_with("Hello, World!"), "{answer}");
    server.signal(Signal::TERM);
    server.end();
    assert!(!socket.exists(), "the server removes the socket that it made");
}

#[test]
fn a_socket_left_behind_is_replaced_and_one_in_use_is_not() {
    let folder = Folder::new("stale");
    let socket = folder.0.join("a.sock");
    let bind = format!("unix:{}", socket.display());
    drop(UnixListener::bind(&socket).unwrap());
    let server = Server::start(&["-b", &bind]);
    let output = run(&["-b", &bind]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("another server listens there"), "{}", stderr(&output));
    assert!(socket.exists());
    drop(server);

    let file = folder.0.join("file");
    fs::write(&file, "precious").unwrap();
    let output = run(&["-b", &format!("unix:{}", file.display())]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
}

#[test]
fn an_address_in_use_is_an_error_that_names_it_and_what_to_do() {
    let server = Server::start(&["-b", "127.0.0.1:0"]);
    let address = format!("127.0.0.1:{}", server.port());
    let output = run(&["-b", &address]);
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    assert!(text.contains(&address) && text.contains("in use") && text.contains("--bind"), "{text}");
}

#[test]
fn files_are_served_from_a_folder() {
    let folder = Folder::new("files");
    fs::write(folder.0.join("a.txt"), "file").unwrap();
    let server = Server::start(&[&format!("static:{}", folder.0.display()), "-b", "127.0.0.1:0"]);
    let answer = server.get("/a.txt");
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\nfile"), "{answer}");
    assert!(!answer.to_lowercase().contains("x-app"));
    assert!(server.get("/..%2f..%2fetc/passwd").starts_with("HTTP/1.1 404 "));

    let output = run(&["static:/nothing/there"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("/nothing/there"), "{}", stderr(&output));
}

#[test]
fn both_logs_can_go_to_files() {
    let folder = Folder::new("logs");
    let (access, error) = (folder.0.join("access.log"), folder.0.join("error.log"));
    let args = ["-b", "127.0.0.1:0", "--access-logfile", access.to_str().unwrap(), "--error-logfile"];
    let child = spawn(&[&args[..], &[error.to_str().unwrap()]].concat());
    let started = Instant::now();
    let banner = loop {
        let text = fs::read_to_string(&error).unwrap_or_default();
        if let Some(line) = text.lines().find(|line| line.contains("Listening at")) {
            break line.to_owned();
        }
        assert!(started.elapsed() < DEADLINE, "{text}");
        thread::sleep(Duration::from_millis(10));
    };
    let mut server = Server { child, banner, log: None };
    server.get("/echo?a=%22");
    server.signal(Signal::TERM);
    server.end();
    let access = fs::read_to_string(&access).unwrap();
    assert!(access.starts_with("127.0.0.1 - - ["), "{access}");
    assert!(access.contains("\"GET /echo?a=%22 HTTP/1.1\" 200 "), "{access}");
    assert_eq!(access.lines().count(), 1, "{access}");
}

#[test]
fn a_log_that_cannot_be_opened_is_an_error() {
    let output = run(&["--error-logfile", "/nothing/there.log"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("/nothing/there.log"), "{}", stderr(&output));
}

#[test]
fn the_command_line_explains_itself() {
    let output = run(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&output.stdout).contains("--worker-connections"));
    let output = run(&["--version"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&output.stdout).contains(env!("CARGO_PKG_VERSION")));
    let output = run(&["--print-config", "--keep-alive", "7"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&output.stdout).contains("keepalive"));
    assert_eq!(run(&["--check-config"]).status.code(), Some(0));
    assert_eq!(run(&["--check-config", "static:/nothing/there"]).status.code(), Some(1));
    let output = run(&["--keep-alive", "long"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("'long'") && stderr(&output).contains("--keep-alive"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn overflowing_the_stack_ends_the_process_with_a_report() {
    let mut server = Server::start(&["-b", "127.0.0.1:0"]);
    let mut stream = server.send("/overflow");
    let _ = stream.read(&mut [0]);
    assert!(!server.end().success());
    let log: Vec<String> = server.log.take().unwrap().iter().collect();
    assert!(log.iter().any(|line| line.contains("overflow")), "{log:?}");
}

/// A running server. Dropping it kills it.
struct Server {
    child: Child,
    banner: String,
    /// What comes on standard error after the banner.
    log: Option<Receiver<String>>,
}

impl Server {
    /// Without a master: the process asked is the one that serves.
    fn start(args: &[&str]) -> Self {
        let mut child = spawn(&[args, &["--workers", "0"]].concat());
        let (send, log) = channel();
        let stderr = child.stderr.take().unwrap();
        thread::spawn(move || {
            BufReader::new(stderr).lines().map_while(Result::ok).all(|line| send.send(line).is_ok())
        });
        let mut seen = Vec::new();
        loop {
            match log.recv_timeout(DEADLINE) {
                Ok(banner) if banner.contains("Listening at: ") => {
                    return Self { child, banner, log: Some(log) };
                }
                Ok(line) => seen.push(line),
                Err(_) => {
                    let _ = child.kill();
                    panic!("the server did not come up: {seen:?}");
                }
            }
        }
    }

    fn port(&self) -> u16 {
        let rest = self.banner.split("http://127.0.0.1:").nth(1).expect("an address in the banner");
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().unwrap()
    }

    fn send(&self, target: &str) -> TcpStream {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port())).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.write_all(request(target).as_bytes()).unwrap();
        stream
    }

    fn get(&self, target: &str) -> String {
        let mut answer = String::new();
        self.send(target).read_to_string(&mut answer).unwrap();
        answer
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn end(&mut self) -> ExitStatus {
        wait(&mut self.child)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A folder of its own for a test, removed when it is over.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("greenserve-program-{test}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn program(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_greenserve"));
    command.args(args).env_remove("PORT").env_remove("WEB_CONCURRENCY").env_remove("GREENSERVE_CMD_ARGS");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn spawn(args: &[&str]) -> Child {
    program(args).spawn().unwrap()
}

/// Of a program that ends by itself.
fn run(args: &[&str]) -> Output {
    let mut child = spawn(args);
    wait(&mut child);
    child.wait_with_output().unwrap()
}

fn wait(child: &mut Child) -> ExitStatus {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if started.elapsed() > DEADLINE {
            let _ = child.kill();
            panic!("the program did not end");
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn request(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
}

fn exchange(stream: &mut (impl Read + Write), target: &str) -> String {
    stream.write_all(request(target).as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
