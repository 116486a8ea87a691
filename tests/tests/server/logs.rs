//! The logs as wholes: JSON, what a stuck reader costs, panics, captured output, syslog.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixDatagram;
use std::process::{Child, ChildStderr, Stdio};
use std::thread;

use greenserve_tests::{
    Binary, Client, PATIENCE, Scratch, ServerProcess, eventually, eventually_some, request,
};

#[test]
fn both_logs_can_be_json() {
    let args = ["demo", "--log-format", "json", "--access-logfile", "-", "--access-logformat", "json"];
    // Where it listens is in a line of JSON.
    let server = ServerProcess::start(args);
    server.answer_to(request("GET", "/fixed?n=3", &["User-Agent: a\"b"], b""));
    let line: serde_json::Value = serde_json::from_str(&server.wait_for_output("/fixed")).unwrap();
    assert_eq!((&line["path"], &line["query"]), (&"/fixed".into(), &"n=3".into()));
    assert_eq!((&line["status"], &line["user_agent"]), (&200.into(), &"a\"b".into()));
    server.get("/panic");
    let line: serde_json::Value = serde_json::from_str(&server.wait_for_log("panicked at")).unwrap();
    assert_eq!(line["level"], "ERROR");
    assert!(line["greenlet"].is_string(), "{line}");
    for line in server.log().lines() {
        assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "{line}");
    }
}

#[test]
fn a_panic_is_logged_once_with_its_greenlet_and_place_and_the_request_it_cost() {
    let server = ServerProcess::builder().args(["demo"]).env("RUST_BACKTRACE", "0").start();
    assert_eq!(server.get("/panic").status, 500);
    server.wait_for_log("GET /panic HTTP/1.1: the handler panicked");
    let log = server.log();
    assert_eq!(log.matches("panicked at").count(), 1, "{log}");
    let line = server.wait_for_log("panicked at");
    assert!(line.starts_with('[') && line.contains("greenlet '") && line.contains(".rs:"), "{line}");
    assert!(log.lines().all(|line| line.starts_with('[')), "{log}");
}

#[test]
fn the_calls_of_a_panic_are_indented_below_it() {
    let server = ServerProcess::builder().args(["demo"]).env("RUST_BACKTRACE", "1").start();
    server.get("/panic");
    server.wait_for_log("GET /panic HTTP/1.1: the handler panicked");
    let log = server.log();
    let calls: Vec<_> = log.lines().filter(|line| !line.starts_with('[')).collect();
    assert!(calls.len() > 1 && calls.iter().all(|line| line.starts_with("    ")), "{log}");
}

/// A server whose standard error nobody reads any more.
struct Stuck {
    child: Child,
    stderr: Option<BufReader<ChildStderr>>,
    addr: std::net::SocketAddr,
}

impl Stuck {
    fn start(workers: &str) -> Stuck {
        let mut command = Binary::command();
        command.args(["demo", "--bind", "127.0.0.1:0", "--workers", workers]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let addr = loop {
            let mut line = String::new();
            assert!(stderr.read_line(&mut line).unwrap() > 0, "it has ended");
            if let Some((_, rest)) = line.split_once("Listening at: http://") {
                break rest.split_once(' ').unwrap().0.parse().unwrap();
            }
        };
        Stuck { child, stderr: Some(stderr), addr }
    }

    /// More than a pipe holds.
    fn fill(&self) {
        for _ in 0..600 {
            assert_eq!(Client::tcp(self.addr).get("/panic").status, 500);
        }
    }

    fn ends(&mut self) {
        greenserve_tests::send_signal(self.child.id(), libc::SIGTERM);
        eventually(PATIENCE, || self.child.try_wait().unwrap().is_some());
    }
}

impl Drop for Stuck {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn panics_hold_nobody_up_even_if_nobody_reads_the_log() {
    let mut server = Stuck::start("0");
    server.fill();
    assert_eq!(Client::tcp(server.addr).get("/plaintext").status, 200);
    server.ends();
}

#[test]
fn a_master_whose_log_nobody_reads_goes_on_and_says_later_what_it_has_dropped() {
    let mut server = Stuck::start("1");
    server.fill();
    let master = server.child.id();
    let before = greenserve_tests::children_of(master);
    assert_eq!(before.len(), 1);
    greenserve_tests::send_signal(master, libc::SIGHUP);
    eventually(PATIENCE, || {
        let now = greenserve_tests::children_of(master);
        now.len() == 1 && now != before
    });
    assert_eq!(Client::tcp(server.addr).get("/plaintext").status, 200);
    // Now somebody does.
    let mut lines = server.stderr.take().unwrap().lines();
    let said =
        thread::spawn(move || lines.any(|line| line.unwrap().contains("of the error log were dropped")));
    eventually(PATIENCE, || {
        greenserve_tests::send_signal(master, libc::SIGUSR1);
        said.is_finished()
    });
    assert!(said.join().unwrap());
    server.ends();
}

#[test]
fn the_access_log_goes_to_syslog_without_a_file() {
    let scratch = Scratch::new();
    let path = scratch.join("log");
    let daemon = UnixDatagram::bind(&path).unwrap();
    daemon.set_read_timeout(Some(PATIENCE)).unwrap();
    let to = format!("unix://{}", path.display());
    let args = ["demo", "--log-syslog", "--log-syslog-to", &to, "--log-syslog-prefix", "shop"];
    let server = ServerProcess::start(args);
    server.get("/fixed?n=3");
    let message = eventually_some(PATIENCE, || {
        let mut bytes = [0; 8192];
        let count = daemon.recv(&mut bytes).unwrap();
        let message = String::from_utf8_lossy(&bytes[..count]).into_owned();
        assert!(message.starts_with("<14>greenserve.shop."), "{message}");
        message.contains("/fixed").then_some(message)
    });
    let tag = format!("<14>greenserve.shop.access[{}]: 127.0.0.1 - - [", server.pid());
    assert!(message.starts_with(&tag) && !message.ends_with('\n'), "{message}");
}

#[test]
fn captured_output_is_in_the_file_of_the_error_log() {
    let scratch = Scratch::new();
    let path = scratch.join("error.log");
    let file = path.to_str().unwrap();
    let server = ServerProcess::builder()
        .args(["demo", "--error-logfile", file, "--capture-output", "-w", "1"])
        .listening_in(&path)
        .start();
    eventually(PATIENCE, || fs::read_to_string(&path).unwrap().contains("workers are ready"));
    let worker = server.children()[0];
    for descriptor in [1, 2] {
        let target = fs::read_link(format!("/proc/{worker}/fd/{descriptor}")).unwrap();
        assert_eq!(target, path.canonicalize().unwrap());
    }
}
